/* scaled_dot_product_attention, forward and backward: time against PyTorch's composition of matmul and softmax on as many threads, in
 * interleaved runs, and how much memory it takes beyond its operands and results as the sequence grows.
 *
 * The floor is arithmetic: 2 products forward and 5 backward (the scores are made again) of 2 · sequence² · width each, half of it where
 * attention is causal. */
#include "bench.h"
#include "pytorch.h"

enum { BATCH = 2, HEADS = 8, WIDTH = 64, COMPARED = 1024, LONGEST = 8192, ROUNDS = 7 };

typedef struct attention {
    tsr_device *device;
    int64_t sequence;
    bool causal;
    tsr_tensor *in[3], *dy;
} attention;

static bool operands(attention *a, int64_t batch)
{
    const int64_t shape[] = {batch, HEADS, a->sequence, WIDTH};
    for (int i = 0; i < 3; i++) {
        a->in[i] = tsr_normal(a->device, TSR_F32, 4, shape, 0, 1);
        if (a->in[i] == NULL || tsr_set_requires_grad(a->in[i], true) != TSR_OK)
            return false;
    }
    a->dy = tsr_normal(a->device, TSR_F32, 4, shape, 0, 1);
    return a->dy != NULL;
}

static bool turn(const attention *a)
{
    tsr_scope_begin();
    for (int i = 0; i < 3; i++)
        tsr_clear_grad(a->in[i]);
    tsr_tensor *y = tsr_scaled_dot_product_attention(a->in[0], a->in[1], a->in[2], NULL, a->causal, 0);
    const bool good = tsr_backward_from(y, a->dy, false) == TSR_OK;
    tsr_scope_end();
    return good && tsr_device_sync(a->device) == TSR_OK;
}

static void report(bench *b, const attention *a, double ours, const pytorch *torch, double theirs)
{
    const double flops =
        7 * 2.0 * BATCH * HEADS * WIDTH * (double)a->sequence * (double)a->sequence / (a->causal ? 2 : 1);
    char what[64];
    snprintf(what, sizeof what, "attention%s, %lld", a->causal ? ", causal" : "", (long long)a->sequence);
    bench_report(b, a->device,
                 &(bench_row){.what = what,
                              .route = "attention",
                              .reference = theirs > 0 ? torch->version : NULL,
                              .m = a->sequence,
                              .n = a->sequence,
                              .k = WIDTH,
                              .dtype = TSR_F32,
                              .flops = flops,
                              .seconds = ours,
                              .reference_seconds = theirs});
}

static bool compare(bench *b, attention *a, pytorch *torch)
{
    double ours[ROUNDS], theirs[ROUNDS];
    char question[80];
    snprintf(question, sizeof question, "%d %d %d %d %d 1", BATCH, HEADS, COMPARED, WIDTH, a->causal);
    tsr_scope_begin();
    bool good = operands(a, BATCH) && turn(a);
    bool asked = torch->to != NULL && pytorch_ask(torch, question, theirs);
    for (int i = 0; i < ROUNDS && good; i++) {
        const double begin = clock_seconds();
        good = turn(a);
        ours[i] = clock_seconds() - begin;
        asked = asked && pytorch_ask(torch, question, &theirs[i]);
    }
    tsr_scope_end();
    if (good)
        report(b, a, bench_median(ours, ROUNDS), torch, asked ? bench_median(theirs, ROUNDS) : 0);
    return good;
}

/* What a turn takes at its peak beyond its operands: the result, three gradients, and whatever attention needs for itself. Linear in
 * the sequence where the last column does not grow; sequence² numbers would double it in each line. */
static bool measure_memory(bench *b, attention *a)
{
    printf("  %10s %14s %16s %10s\n", "sequence", "operands, MiB", "a turn, MiB", "per operand");
    for (a->sequence = 1024; a->sequence <= LONGEST; a->sequence *= 2) {
        tsr_memory_statistics before, after;
        tsr_scope_begin();
        const bool good =
            operands(a, 1) && tsr_device_sync(a->device) == TSR_OK && tsr_memory_stats(a->device, &before) == TSR_OK &&
            tsr_memory_reset_peaks(a->device) == TSR_OK && turn(a) && tsr_memory_stats(a->device, &after) == TSR_OK;
        tsr_scope_end();
        if (!good)
            return false;
        const double operand = 4.0 * HEADS * WIDTH * (double)a->sequence;
        const double taken = (double)(after.peak_allocated_bytes - before.allocated_bytes);
        printf("  %10lld %14.1f %16.1f %10.2f\n", (long long)a->sequence, 4 * operand / (1 << 20), taken / (1 << 20),
               taken / operand);
        fflush(stdout);
        json *j = &b->out;
        json_begin_object(j);
        json_put_string(j, "device", tsr_device_id(a->device));
        json_put_string(j, "what", "memory of attention");
        json_put_int(j, "m", a->sequence);
        json_put_double(j, "operand_bytes", 4 * operand);
        json_put_double(j, "peak_bytes", taken);
        json_end_object(j);
    }
    return true;
}

static pytorch torch;

static void measure_device(bench *b, tsr_device *device)
{
    attention a = {.device = device, .sequence = COMPARED};
    bool good = compare(b, &a, &torch);
    a.causal = true;
    good = good && compare(b, &a, &torch) && measure_memory(b, &a);
    if (!good) {
        fprintf(stderr, "%s: %s\n", tsr_device_id(device), tsr_last_error());
        b->failed = true;
    }
}

int main(int argc, char **argv)
{
    bench b;
    if (!bench_begin(&b, argc, argv))
        return 2;
    pytorch_open(&torch, "attention_pytorch.py");
    bench_each_device(&b, measure_device);
    pytorch_close(&torch);
    return bench_end(&b);
}
