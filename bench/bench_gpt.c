/* Training a GPT of 12 layers (width 256, context 256, batch 4, 256 tokens): tokens a second, and the most memory that a step holds beside parameters,
 * gradients and the optimizer's state; as it is, in mixed precision, with every block run again in the backward pass, and with both. Times are of
 * interleaved steps, in units of the plain one.
 *
 * Recomputing adds a forward pass of the blocks, a third of a step's arithmetic; f16 halves what is held in it. */
#include "bench.h"

enum { LAYERS = 12, WIDTH = 256, CONTEXT = 256, HEADS = 8, TOKENS = 256, BATCH = 4, ROUNDS = 5 };

typedef struct variant {
    const char *name;
    tsr_dtype dtype;
    bool checkpointed;
    double seconds[ROUNDS];
    uint64_t held;
} variant;

typedef struct training {
    tsr_device *device;
    tsr_module *model;
    tsr_optimizer *optimizer;
    tsr_tensor *x, *y;
} training;

static bool step(const training *t, const variant *v)
{
    tsr_scope_begin();
    tsr_optimizer_clear_grad(t->optimizer);
    tsr_autocast_begin(v->dtype);
    tsr_tensor *logits = tsr_forward(t->model, t->x);
    tsr_tensor *loss = tsr_cross_entropy(tsr_reshape(logits, 2, (int64_t[]){-1, TOKENS}), t->y);
    tsr_autocast_end();
    const bool good = tsr_backward(loss) == TSR_OK && tsr_optimizer_step(t->optimizer) == TSR_OK;
    tsr_scope_end();
    return good && tsr_device_sync(t->device) == TSR_OK;
}

/* Bytes that stay from step to step: gradients are let go at the next one's begin. */
static bool measure_memory(const training *t, variant *v)
{
    tsr_memory_statistics before, after;
    tsr_optimizer_clear_grad(t->optimizer);
    if (tsr_memory_stats(t->device, &before) != TSR_OK || tsr_memory_reset_peaks(t->device) != TSR_OK || !step(t, v) ||
        tsr_memory_stats(t->device, &after) != TSR_OK)
        return false;
    uint64_t gradients = after.allocated_bytes - before.allocated_bytes;
    v->held = after.peak_allocated_bytes - before.allocated_bytes - gradients;
    return true;
}

static bool prepare(training *t)
{
    static int64_t tokens[BATCH * CONTEXT];
    const int64_t shape[] = {BATCH, CONTEXT}, flat = BATCH * CONTEXT;
    for (int i = 0; i < BATCH * CONTEXT; i++)
        tokens[i] = i * 7919 % TOKENS;
    t->model = tsr_gpt_create(t->device, &(tsr_gpt_options){TOKENS, CONTEXT, WIDTH, LAYERS, HEADS, 0});
    t->optimizer = t->model == NULL ? NULL : tsr_adamw_for(t->model, &(tsr_adam_options){.lr = 1e-4});
    t->x = tsr_keep(tsr_from_data(t->device, TSR_I64, 2, shape, tokens));
    t->y = tsr_keep(tsr_from_data(t->device, TSR_I64, 1, &flat, tokens));
    return t->optimizer != NULL && t->x != NULL && t->y != NULL;
}

static void report(bench *b, tsr_device *device, variant *v, const variant *plain, double plain_seconds)
{
    const double seconds = bench_median(v->seconds, ROUNDS);
    printf("  %-20s %8.0f tokens/s   time %.2f   held %7.1f MiB   %+6.1f %%\n", v->name, BATCH * CONTEXT / seconds,
           seconds / plain_seconds, (double)v->held / (1 << 20), ((double)v->held / (double)plain->held - 1) * 100);
    fflush(stdout);
    json *j = &b->out;
    json_begin_object(j);
    json_put_string(j, "device", tsr_device_id(device));
    json_put_string(j, "what", v->name);
    json_put_double(j, "tokens_per_second", BATCH * CONTEXT / seconds);
    json_put_double(j, "time", seconds / plain_seconds);
    json_put_uint(j, "held_bytes", v->held);
    json_put_double(j, "held", (double)v->held / (double)plain->held);
    json_end_object(j);
}

static void measure(bench *b, tsr_device *device)
{
    variant variants[] = {{.name = "f32", .dtype = TSR_F32},
                          {.name = "f16", .dtype = TSR_F16},
                          {.name = "bf16", .dtype = TSR_BF16},
                          {.name = "f32, checkpointed", .dtype = TSR_F32, .checkpointed = true},
                          {.name = "f16, checkpointed", .dtype = TSR_F16, .checkpointed = true}};
    enum { VARIANTS = sizeof variants / sizeof *variants };
    bool none[LAYERS] = {false};
    training t = {.device = device};
    bool good = prepare(&t);
    for (int round = -1; round < ROUNDS && good; round++)
        for (int i = 0; i < VARIANTS && good; i++) {
            variant *v = &variants[i];
            good = tsr_gpt_checkpoint(t.model, v->checkpointed ? NULL : none) == TSR_OK;
            const double begin = clock_seconds();
            good = good && (round < 0 ? measure_memory(&t, v) && measure_memory(&t, v) : step(&t, v));
            if (round >= 0)
                v->seconds[round] = clock_seconds() - begin;
        }
    if (!good) {
        fprintf(stderr, "%s: %s\n", tsr_device_id(device), tsr_last_error());
        b->failed = true;
    }
    const double plain = good ? bench_median(variants[0].seconds, ROUNDS) : 1;
    for (int i = 0; i < VARIANTS && good; i++)
        report(b, device, &variants[i], &variants[0], plain);
    tsr_release(t.x);
    tsr_release(t.y);
    tsr_optimizer_destroy(t.optimizer);
    tsr_module_destroy(t.model);
}

int main(int argc, char **argv)
{
    bench b;
    if (!bench_begin(&b, argc, argv))
        return 2;
    bench_each_device(&b, measure);
    return bench_end(&b);
}
