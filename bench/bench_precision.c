/* What mixed precision does to training: the MNIST network and a nano GPT in f32, f16 (with a loss scale) and bf16, over three seeds. The mean final
 * loss (of the last 50 steps) is held against f32's; the measure is the spread of f32 runs whose weights begin a rounding beside: the mean over the
 * seeds of largest less smallest. Asked for is a gap of at most twice that, and of accuracy 0.005.
 *
 * BENCH_NETWORK: only cnn or gpt. BENCH_STEPS: steps of a training, in place of an epoch of MNIST (938) and 1000 of the GPT on the CPU device, 150 on others. */
#include "bench.h"

#include "data/shipped.h"
#include "networks.h"

enum { SEEDS = 3, NEIGHBOURS = 3, LAST = 50, CONTEXT = 64, TEST_BATCH = 500 };

typedef struct outcome {
    double loss, accuracy; /* NaN: none */
} outcome;

typedef struct subject {
    const char *name;
    bool digits;
    tsr_dataset *data, *test;
    int64_t batch;
    double rate; /* of learning */
    int steps;
} subject;

static tsr_module *network(const subject *s, tsr_device *device)
{
    return s->digits ? mnist_network(device) : tsr_gpt_create(device, &(tsr_gpt_options){256, CONTEXT, 48, 3, 3, 0});
}

static tsr_tensor *loss_of(const subject *s, tsr_module *m, tsr_tensor *x, tsr_tensor *y)
{
    tsr_tensor *logits = tsr_forward(m, x);
    if (logits == NULL || s->digits)
        return tsr_cross_entropy(logits, y);
    return tsr_cross_entropy(tsr_reshape(logits, 2, (int64_t[]){-1, 256}), tsr_reshape(y, 1, (int64_t[]){-1}));
}

/* Moves every weight to one of its two neighbours in f32, by coin: the rounding of another way to have made it. */
static bool nudge(tsr_module *m, uint32_t coin)
{
    bool good = true;
    for (size_t i = 0; i < tsr_module_parameter_count(m) && good; i++) {
        tsr_tensor *w = tsr_module_parameter(m, i, NULL, 0);
        const size_t n = (size_t)tsr_numel(w);
        float *values = malloc(n * sizeof *values);
        good = values != NULL && tsr_read(w, values, n * sizeof *values) == TSR_OK;
        for (size_t k = 0; k < n && good; k++) {
            coin = coin * 1664525u + 1013904223u; /* Numerical Recipes' */
            values[k] = nextafterf(values[k], coin >> 31 ? INFINITY : -INFINITY);
        }
        good = good && tsr_write(w, values, n * sizeof *values) == TSR_OK;
        free(values);
    }
    return good;
}

typedef struct training {
    tsr_device *device;
    tsr_module *model;
    tsr_optimizer *optimizer;
    tsr_schedule *schedule;
    tsr_grad_scaler *scaler;
    tsr_batches *batches;
    uint64_t epoch;
} training;

/* As `tessera train` does for each. */
static bool open_optimizer(training *t, const subject *s)
{
    if (s->digits) {
        t->optimizer = tsr_adam_for(t->model, &(tsr_adam_options){.lr = s->rate});
        t->schedule = tsr_constant_schedule_create(s->rate);
    } else {
        const int64_t warmup = s->steps < 1000 ? s->steps / 10 : 100;
        t->optimizer = tsr_adamw_for(t->model, &(tsr_adam_options){.lr = s->rate, .weight_decay = 0.01});
        t->schedule =
            tsr_warmup_cosine_schedule_create(s->rate, warmup, 1 / ((double)warmup + 1), s->steps, s->rate / 10);
    }
    if (t->optimizer == NULL || t->schedule == NULL)
        return false;
    return s->digits || tsr_optimizer_decay_matrices_only(t->optimizer) == TSR_OK;
}

/* With the loss's gradients there. */
static bool update(training *t, const subject *s)
{
    if (t->scaler != NULL && tsr_grad_scaler_unscale(t->scaler, t->optimizer) != TSR_OK)
        return false;
    if (tsr_schedule_step(t->schedule, t->optimizer) != TSR_OK)
        return false;
    if (!s->digits && tsr_optimizer_clip_grad_norm(t->optimizer, 1, 2) == NULL)
        return false;
    if (t->scaler == NULL)
        return tsr_optimizer_step(t->optimizer) == TSR_OK;
    return tsr_grad_scaler_step(t->scaler, t->optimizer) == TSR_OK && tsr_grad_scaler_update(t->scaler) == TSR_OK;
}

static bool step(training *t, const subject *s, tsr_dtype dtype, float *loss)
{
    tsr_tensor *x, *y;
    int64_t count;
    bool good = tsr_scope_begin() == TSR_OK && tsr_batches_next(t->batches, &x, &y, &count) == TSR_OK;
    if (good && count == 0)
        good = tsr_batches_epoch(t->batches, ++t->epoch) == TSR_OK &&
               tsr_batches_next(t->batches, &x, &y, &count) == TSR_OK;
    tsr_optimizer_clear_grad(t->optimizer);
    tsr_autocast_begin(dtype);
    tsr_tensor *l = good ? loss_of(s, t->model, x, y) : NULL;
    tsr_autocast_end();
    good = l != NULL && tsr_backward(t->scaler == NULL ? l : tsr_grad_scaler_scale(t->scaler, l)) == TSR_OK &&
           update(t, s);
    if (good && loss != NULL)
        good = tsr_read(l, loss, sizeof *loss) == TSR_OK;
    tsr_scope_end();
    return good;
}

static bool measure_accuracy(training *t, const subject *s, tsr_dtype dtype, double *accuracy)
{
    static int64_t found[TEST_BATCH], right[TEST_BATCH];
    int64_t count = 1, hits = 0, all = 0;
    tsr_batches *batches = tsr_batches_create(s->test, t->device, &(tsr_batches_options){.batch = TEST_BATCH});
    bool good = batches != NULL;
    tsr_no_grad_begin();
    while (good && count > 0) {
        tsr_tensor *x, *y;
        tsr_scope_begin();
        good = tsr_batches_next(batches, &x, &y, &count) == TSR_OK;
        if (good && count > 0) {
            tsr_autocast_begin(dtype);
            tsr_tensor *best = tsr_argmax(tsr_forward(t->model, x), (const int[]){1}, 1, false);
            tsr_autocast_end();
            good = best != NULL && tsr_read(best, found, (size_t)count * sizeof *found) == TSR_OK &&
                   tsr_read(y, right, (size_t)count * sizeof *right) == TSR_OK;
        }
        for (int64_t i = 0; i < count && good; i++)
            hits += found[i] == right[i];
        all += count;
        tsr_scope_end();
    }
    tsr_no_grad_end();
    tsr_batches_destroy(batches);
    *accuracy = (double)hits / (double)all;
    return good;
}

static bool train(tsr_device *device, const subject *s, uint64_t seed, tsr_dtype dtype, uint32_t coin, outcome *o)
{
    training t = {.device = device};
    double sum = 0;
    *o = (outcome){NAN, NAN};
    tsr_seed(device, seed);
    t.model = network(s, device);
    t.scaler = dtype == TSR_F16 ? tsr_grad_scaler_create(device, NULL) : NULL;
    t.batches =
        tsr_batches_create(s->data, device, &(tsr_batches_options){.batch = s->batch, .shuffle = true, .seed = seed});
    bool good = t.model != NULL && open_optimizer(&t, s) && t.batches != NULL && (coin == 0 || nudge(t.model, coin));
    for (int i = 0; i < s->steps && good; i++) {
        float loss;
        const bool last = i >= s->steps - LAST;
        good = step(&t, s, dtype, last ? &loss : NULL);
        sum += last && good ? (double)loss : 0;
    }
    o->loss = sum / (s->steps < LAST ? s->steps : LAST);
    if (good && s->test != NULL)
        good = measure_accuracy(&t, s, dtype, &o->accuracy);
    tsr_batches_destroy(t.batches);
    tsr_grad_scaler_destroy(t.scaler);
    tsr_schedule_destroy(t.schedule);
    tsr_optimizer_destroy(t.optimizer);
    tsr_module_destroy(t.model);
    return good;
}

static void report(bench *b, tsr_device *device, const subject *s, const char *dtype, const outcome *mean,
                   const outcome *plain, double spread)
{
    const double gap = mean->loss - plain->loss;
    printf("  %-4s %-4s loss %.4f, %+.4f to f32 = %.2f spreads of %.4f", s->name, dtype, mean->loss, gap,
           fabs(gap) / spread, spread);
    if (!isnan(mean->accuracy))
        printf("; accuracy %.4f, %+.4f", mean->accuracy, mean->accuracy - plain->accuracy);
    printf("\n");
    fflush(stdout);
    json *j = &b->out;
    json_begin_object(j);
    json_put_string(j, "device", tsr_device_id(device));
    json_put_string(j, "what", s->name);
    json_put_string(j, "dtype", dtype);
    json_put_int(j, "steps", s->steps);
    json_put_double(j, "loss", mean->loss);
    json_put_double(j, "gap", gap);
    json_put_double(j, "spread", spread);
    json_put_double(j, "accuracy", mean->accuracy);
    json_put_double(j, "accuracy_gap", mean->accuracy - plain->accuracy);
    json_end_object(j);
}

static bool compare(bench *b, tsr_device *device, const subject *s)
{
    static const tsr_dtype dtypes[] = {TSR_F32, TSR_F16, TSR_BF16};
    outcome mean[3] = {{0, 0}, {0, 0}, {0, 0}};
    double spread = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        double low = INFINITY, high = -INFINITY;
        for (int i = 0; i < 3 + NEIGHBOURS; i++) {
            outcome o;
            if (!train(device, s, seed, i < 3 ? dtypes[i] : TSR_F32, i < 3 ? 0 : (uint32_t)i, &o))
                return false;
            if (i < 3) {
                mean[i].loss += o.loss / SEEDS;
                mean[i].accuracy += o.accuracy / SEEDS;
            }
            if (i == 0 || i >= 3) {
                low = fmin(low, o.loss);
                high = fmax(high, o.loss);
            }
        }
        spread += (high - low) / SEEDS;
    }
    for (int i = 0; i < 3; i++)
        report(b, device, s, tsr_dtype_name(dtypes[i]), &mean[i], &mean[0], spread);
    return true;
}

static subject digits = {.name = "cnn", .digits = true, .batch = 64, .rate = 1e-3},
               letters = {.name = "gpt", .batch = 32, .rate = 1e-2};

static void measure(bench *b, tsr_device *device)
{
    const char *steps = getenv("BENCH_STEPS");
    const bool cpu = strncmp(tsr_device_id(device), "cpu", 3) == 0;
    digits.steps = steps != NULL ? atoi(steps) : cpu ? 938 : 150;
    letters.steps = steps != NULL ? atoi(steps) : cpu ? 1000 : 150;
    const char *only = getenv("BENCH_NETWORK");
    if ((only == NULL || strcmp(only, "cnn") == 0) && !compare(b, device, &digits))
        b->failed = true;
    if ((only == NULL || strcmp(only, "gpt") == 0) && !compare(b, device, &letters))
        b->failed = true;
    if (b->failed)
        fprintf(stderr, "%s: %s\n", tsr_device_id(device), tsr_last_error());
}

int main(int argc, char **argv)
{
    bench b;
    char path[4096];
    if (!bench_begin(&b, argc, argv))
        return 2;
    if (shipped_text_find(path, sizeof path) == TSR_OK)
        letters.data = tsr_tokens_open(path, &(tsr_tokens_options){.context = CONTEXT, .stride = 1, .count = 1000000});
    digits.data = tsr_mnist_open(NULL, true);
    digits.test = tsr_mnist_open(NULL, false);
    if (letters.data == NULL || digits.test == NULL) {
        fprintf(stderr, "%s\n", tsr_last_error());
        return 4;
    }
    bench_each_device(&b, measure);
    tsr_dataset_destroy(letters.data);
    tsr_dataset_destroy(digits.data);
    tsr_dataset_destroy(digits.test);
    return bench_end(&b);
}
