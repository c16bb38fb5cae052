/* Training the MNIST network (conv 1→16 5×5, pool, conv 16→32 5×5, pool, 1568→128→10; batch 64, Adam), images a second: every device
 * named and, where python3 has torch, PyTorch on as many threads, in interleaved blocks of steps of one run.
 *
 * The floor is arithmetic: about 17 MFLOP an image, forward and backward. */
#include "bench.h"
#include "networks.h"
#include "pytorch.h"

#include "base/thread.h"

enum { BATCH = 64, ROUNDS = 9, MAX_SIDES = 16, STEPS = 40, SLOW_STEPS = 4 };
#define FLOPS_PER_IMAGE 17e6

typedef struct side {
    char name[64];
    tsr_device *device; /* NULL: PyTorch */
    tsr_module *model;
    tsr_optimizer *optimizer;
    tsr_tensor *images[8], *labels[8];
    int steps; /* of a block */
    double rate[ROUNDS];
} side;

static bool train(side *s, int steps)
{
    for (int i = 0; i < steps; i++) {
        if (tsr_scope_begin() != TSR_OK)
            return false;
        tsr_module_clear_grad(s->model);
        const bool ok =
            tsr_backward(tsr_cross_entropy(tsr_forward(s->model, s->images[i % 8]), s->labels[i % 8])) == TSR_OK &&
            tsr_optimizer_step(s->optimizer) == TSR_OK;
        tsr_scope_end();
        if (!ok)
            return false;
    }
    return tsr_device_sync(s->device) == TSR_OK;
}

static bool side_open(side *s, tsr_device *d)
{
    s->device = d;
    snprintf(s->name, sizeof s->name, "%s", tsr_device_id(d));
    s->model = mnist_network(d);
    s->optimizer = tsr_adam_for(s->model, &(tsr_adam_options){.lr = 1e-3});
    int64_t labels[BATCH];
    for (int i = 0; i < 8; i++) {
        for (int k = 0; k < BATCH; k++)
            labels[k] = (k * 7 + i) % 10;
        s->images[i] = tsr_normal(d, TSR_F32, 4, (int64_t[]){BATCH, 1, 28, 28}, 0, 1);
        s->labels[i] = tsr_from_data(d, TSR_I64, 1, (int64_t[]){BATCH}, labels);
    }
    if (s->optimizer == NULL || s->labels[7] == NULL || !train(s, 2))
        return false;
    const double begin = clock_seconds();
    if (!train(s, 2))
        return false;
    s->steps = (clock_seconds() - begin) / 2 > 0.1 ? SLOW_STEPS : STEPS;
    return true;
}

static void side_close(side *s)
{
    for (int i = 0; i < 8 && s->device != NULL; i++) {
        tsr_release(s->images[i]);
        tsr_release(s->labels[i]);
    }
    tsr_optimizer_destroy(s->optimizer);
    tsr_module_destroy(s->model);
    tsr_device_close(s->device);
}

static side sides[MAX_SIDES];
static int side_count;

static void open_side(bench *b, tsr_device *device)
{
    if (side_count == MAX_SIDES - 1)
        return;
    side *s = &sides[side_count];
    if (side_open(s, tsr_device_open(tsr_device_id(device)))) {
        side_count++;
        return;
    }
    fprintf(stderr, "%s: %s\n", tsr_device_id(device), tsr_last_error());
    b->failed = true;
}

static double median(side *s)
{
    return bench_median(s->rate, ROUNDS);
}

static void report(bench *b, side *s, double rate, const char *reference, double reference_rate)
{
    printf("%-24s %9.0f images/s  %7.1f GFLOP/s", s->name, rate, rate * FLOPS_PER_IMAGE * 1e-9);
    if (reference != NULL && reference_rate > 0)
        printf("   %.2f × %s", rate / reference_rate, reference);
    putchar('\n');
    if (s->device == NULL)
        return;
    json *j = &b->out;
    json_begin_object(j);
    json_put_string(j, "device", s->name);
    json_put_string(j, "what", "train mnist cnn");
    json_put_string(j, "route", "train");
    json_put_int(j, "m", BATCH);
    json_put_int(j, "n", 0);
    json_put_int(j, "k", 0);
    json_put_string(j, "dtype", "f32");
    json_put_double(j, "gflops", rate * FLOPS_PER_IMAGE * 1e-9);
    json_put_double(j, "gbytes_per_second", NAN);
    json_put_double(j, "samples_per_second", rate);
    json_put_string(j, "reference", reference);
    json_put_double(j, "ratio", reference_rate > 0 ? rate / reference_rate : NAN);
    json_end_object(j);
}

int main(int argc, char **argv)
{
    bench b;
    pytorch torch = {0};
    if (!bench_begin(&b, argc, argv))
        return 2;
    bench_each_device(&b, open_side);
    side *theirs = &sides[side_count];
    double unused;
    const bool has_torch = pytorch_open(&torch, "cnn_pytorch.py") && pytorch_ask(&torch, "4", &unused);
    snprintf(theirs->name, sizeof theirs->name, "%s", torch.version);
    theirs->steps = STEPS;
    char steps[16];
    snprintf(steps, sizeof steps, "%d", STEPS);
    const int count = side_count + (has_torch ? 1 : 0);
    for (int round = 0; round < ROUNDS && !b.failed; round++)
        for (int i = 0; i < count; i++) {
            const double begin = clock_seconds();
            double seconds = 0;
            if (sides[i].device == NULL ? !pytorch_ask(&torch, steps, &seconds) : !train(&sides[i], sides[i].steps)) {
                fprintf(stderr, "%s failed: %s\n", sides[i].name, tsr_last_error());
                b.failed = true;
                break;
            }
            if (sides[i].device != NULL)
                seconds = clock_seconds() - begin;
            sides[i].rate[round] = sides[i].steps * BATCH / seconds;
        }
    if (!b.failed && count > 0) {
        const double torch_rate = has_torch ? median(theirs) : 0;
        for (int i = 0; i < side_count; i++) {
            const double rate = median(&sides[i]);
            report(&b, &sides[i], rate,
                   has_torch ? theirs->name
                   : i > 0   ? sides[0].name
                             : NULL,
                   has_torch ? torch_rate
                   : i > 0   ? median(&sides[0])
                             : 0);
        }
        if (has_torch)
            report(&b, theirs, torch_rate, NULL, 0);
        for (int i = 1; i < side_count; i++)
            printf("%s is %.2f × %s\n", sides[i].name, median(&sides[i]) / median(&sides[0]), sides[0].name);
    }
    for (int i = 0; i < side_count; i++)
        side_close(&sides[i]);
    pytorch_close(&torch);
    return bench_end(&b);
}
