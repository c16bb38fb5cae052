/* `tessera train gpt` against PyTorch: the same weights (handed over as safetensors), the same batches, AdamW (weight decay of
 * matrices and embeddings only), clipping, warm-up and cosine. Printed are the largest gap of the first 50 losses, the mean of the last 100 of each,
 * and tokens a second of both, of steps that take turns.
 *
 * The floor of a step's arithmetic is 6 × parameters × tokens flops, attention's products not counted. */
#include "bench.h"

#include "data/shipped.h"
#include "pytorch.h"

enum { FIRST = 50, LAST = 100, STEPS_MOST = 4000 };

static const struct configuration {
    const char *name;
    int64_t layers, heads, width, context, batch;
    int steps;
} configurations[] = {
    {"nano", 3, 3, 48, 64, 32, 2000},
    {"micro", 4, 4, 128, 128, 16, 200},
    {"mini", 6, 6, 192, 256, 8, 100},
    {"small", 6, 6, 384, 256, 8, 60},
};

/* With the rates that `tessera train gpt` uses for the small ones, two runs a rounding apart part within 40 steps, and the comparison of losses would show
 * nothing. */
static const double rate_most = 1e-3, decay = 0.01;

typedef struct side {
    float losses[STEPS_MOST];
    double seconds[STEPS_MOST];
} side;

static side ours, theirs;

typedef struct training {
    const struct configuration *c;
    tsr_module *model;
    tsr_optimizer *optimizer;
    tsr_schedule *schedule;
    tsr_dataset *data;
    tsr_batches *batches;
} training;

static char folder[] = "/tmp/tessera-bench-XXXXXX";

/* The batches of the training, for the other side. */
static bool write_tokens(const training *t)
{
    const struct configuration *c = t->c;
    const size_t n = (size_t)(c->batch * c->context);
    char path[128];
    snprintf(path, sizeof path, "%s/tokens.bin", folder);
    FILE *f = fopen(path, "wb");
    int64_t *x = malloc(2 * n * sizeof *x), *y = x + n;
    bool good = f != NULL && x != NULL;
    for (int i = 0; i < c->steps && good; i++) {
        tsr_tensor *in, *out;
        int64_t count;
        tsr_scope_begin();
        good = tsr_batches_next(t->batches, &in, &out, &count) == TSR_OK && count == c->batch &&
               tsr_read(in, x, n * sizeof *x) == TSR_OK && tsr_read(out, y, n * sizeof *y) == TSR_OK;
        for (int64_t b = 0; b < c->batch && good; b++) {
            for (int64_t k = 0; k < c->context; k++)
                fputc((int)x[b * c->context + k], f);
            fputc((int)y[(b + 1) * c->context - 1], f);
        }
        tsr_scope_end();
    }
    free(x);
    return f != NULL && fclose(f) == 0 && good && tsr_batches_epoch(t->batches, 0) == TSR_OK;
}

static bool open_training(training *t, tsr_device *device)
{
    const struct configuration *c = t->c;
    char path[4096], weights[128];
    if (shipped_text_find(path, sizeof path) != TSR_OK)
        return false;
    snprintf(weights, sizeof weights, "%s/weights.safetensors", folder);
    t->data = tsr_tokens_open(path, &(tsr_tokens_options){.context = c->context, .stride = 1, .count = 1000000});
    t->batches = t->data == NULL
                     ? NULL
                     : tsr_batches_create(t->data, device, &(tsr_batches_options){.batch = c->batch, .shuffle = true});
    tsr_seed(device, 1);
    t->model = tsr_gpt_create(device, &(tsr_gpt_options){256, c->context, c->width, c->layers, c->heads, 0});
    t->optimizer =
        t->model == NULL ? NULL : tsr_adamw_for(t->model, &(tsr_adam_options){.lr = rate_most, .weight_decay = decay});
    const int64_t warmup = c->steps / 20;
    t->schedule =
        tsr_warmup_cosine_schedule_create(rate_most, warmup, 1 / ((double)warmup + 1), c->steps, rate_most / 10);
    return t->batches != NULL && t->optimizer != NULL && t->schedule != NULL &&
           tsr_optimizer_decay_matrices_only(t->optimizer) == TSR_OK && tsr_module_save(t->model, weights) == TSR_OK &&
           write_tokens(t);
}

static void close_training(training *t)
{
    tsr_batches_destroy(t->batches);
    tsr_dataset_destroy(t->data);
    tsr_schedule_destroy(t->schedule);
    tsr_optimizer_destroy(t->optimizer);
    tsr_module_destroy(t->model);
}

static bool step(training *t, int i)
{
    tsr_tensor *x, *y;
    int64_t count;
    const double begin = clock_seconds();
    tsr_scope_begin();
    tsr_optimizer_clear_grad(t->optimizer);
    bool good = tsr_batches_next(t->batches, &x, &y, &count) == TSR_OK;
    tsr_tensor *logits = good ? tsr_forward(t->model, x) : NULL;
    tsr_tensor *loss = logits == NULL ? NULL
                                      : tsr_cross_entropy(tsr_reshape(logits, 2, (int64_t[]){-1, 256}),
                                                          tsr_reshape(y, 1, (int64_t[]){-1}));
    good = loss != NULL && tsr_backward(loss) == TSR_OK && tsr_schedule_step(t->schedule, t->optimizer) == TSR_OK &&
           tsr_optimizer_clip_grad_norm(t->optimizer, 1, 2) != NULL && tsr_optimizer_step(t->optimizer) == TSR_OK &&
           tsr_read(loss, &ours.losses[i], sizeof(float)) == TSR_OK;
    tsr_scope_end();
    ours.seconds[i] = clock_seconds() - begin;
    return good;
}

static bool step_theirs(pytorch *torch, double rate, int i)
{
    char line[64];
    snprintf(line, sizeof line, "train %.17g", rate);
    if (!pytorch_ask(torch, line, &theirs.seconds[i]))
        return false;
    theirs.losses[i] = (float)torch->second;
    return true;
}

static double mean_of_last(const side *s, int steps)
{
    const int n = steps < LAST ? steps : LAST;
    double sum = 0;
    for (int i = steps - n; i < steps; i++)
        sum += (double)s->losses[i];
    return sum / n;
}

static double first_gap(int steps)
{
    double gap = 0;
    for (int i = 0; i < FIRST && i < steps; i++)
        gap = fmax(gap, fabs((double)ours.losses[i] - (double)theirs.losses[i]));
    return gap;
}

static void report(bench *b, tsr_device *device, const training *t, const char *reference)
{
    const struct configuration *c = t->c;
    const double tokens = (double)(c->batch * c->context);
    double parameters = 0;
    for (size_t i = 0; i < tsr_module_parameter_count(t->model); i++)
        parameters += (double)tsr_numel(tsr_module_parameter(t->model, i, NULL, 0));
    const double last = mean_of_last(&ours, c->steps), seconds = bench_median(ours.seconds, c->steps);
    printf("  %-6s %8.0f tokens/s %7.1f GFLOP/s", c->name, tokens / seconds, 6 * parameters * tokens / seconds * 1e-9);
    printf("   loss %.4f", last);
    double ratio = NAN, gap = NAN;
    if (reference != NULL) {
        ratio = bench_median(theirs.seconds, c->steps) / seconds;
        gap = first_gap(c->steps);
        printf("   %.2f × %s (its loss %.4f); gap of the first %d losses %.1e", ratio, reference,
               mean_of_last(&theirs, c->steps), FIRST, gap);
    }
    printf("\n");
    fflush(stdout);
    json *j = &b->out;
    json_begin_object(j);
    json_put_string(j, "device", tsr_device_id(device));
    json_put_string(j, "what", c->name);
    json_put_double(j, "tokens_per_second", tokens / seconds);
    json_put_double(j, "gflops", 6 * parameters * tokens / seconds * 1e-9);
    json_put_double(j, "loss", last);
    json_put_string(j, "reference", reference);
    json_put_double(j, "reference_loss", reference != NULL ? mean_of_last(&theirs, c->steps) : NAN);
    json_put_double(j, "first_gap", gap);
    json_put_double(j, "ratio", ratio);
    json_end_object(j);
}

/* Other devices than the CPU do a tenth: the comparison of losses needs no more. */
static bool train(bench *b, tsr_device *device, const struct configuration *row, pytorch *torch)
{
    struct configuration c = *row;
    training t = {.c = &c};
    char model[96];
    double unused;
    const bool cpu = strncmp(tsr_device_id(device), "cpu", 3) == 0;
    c.steps = cpu ? c.steps : c.steps / 10 > FIRST ? c.steps / 10 : FIRST;
    bool good = open_training(&t, device);
    snprintf(model, sizeof model, "model %d %d %d %d %g", (int)c.layers, (int)c.heads, (int)c.batch, (int)c.context,
             decay);
    const bool compared = good && torch != NULL && pytorch_ask(torch, model, &unused);
    for (int i = 0; i < c.steps && good; i++) {
        good = step(&t, i);
        if (compared)
            good = good && step_theirs(torch, tsr_schedule_lr(t.schedule, i), i);
    }
    if (good)
        report(b, device, &t, compared ? torch->version : NULL);
    close_training(&t);
    return good;
}

static pytorch *other;

static void measure(bench *b, tsr_device *device)
{
    printf("%s\n", tsr_device_id(device));
    for (size_t i = 0; i < sizeof configurations / sizeof *configurations; i++)
        if (!train(b, device, &configurations[i], other)) {
            fprintf(stderr, "%s: %s\n", tsr_device_id(device), tsr_last_error());
            b->failed = true;
            return;
        }
}

int main(int argc, char **argv)
{
    bench b;
    pytorch torch = {0};
    if (mkdtemp(folder) == NULL || !bench_begin(&b, argc, argv))
        return 2;
    other = pytorch_open_with(&torch, "gpt_pytorch.py", folder) ? &torch : NULL;
    bench_each_device(&b, measure);
    pytorch_close(&torch);
    char path[128];
    snprintf(path, sizeof path, "%s/tokens.bin", folder);
    remove(path);
    snprintf(path, sizeof path, "%s/weights.safetensors", folder);
    remove(path);
    remove(folder);
    return bench_end(&b);
}
