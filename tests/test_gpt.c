/* GPT-2's architecture against its definition in double precision on the host, with the parameters found by their published names; training with
 * and without checkpointed blocks. */
#include "tests/op_reference.h"

enum { VOCABULARY = 11, CONTEXT = 9, WIDTH = 12, LAYERS = 2, HEADS = 3, BATCH = 2, TOKENS = 7, EACH = WIDTH / HEADS };

static const tsr_gpt_options sizes = {
    .vocabulary = VOCABULARY, .context = CONTEXT, .width = WIDTH, .layers = LAYERS, .heads = HEADS};

static float parameter[4 * WIDTH * WIDTH];

/* The values of parameter `name`, in `parameter`. */
static const float *published(const run *r, const tsr_module *m, int64_t count, const char *format, ...)
{
    char name[64];
    va_list list;
    va_start(list, format);
    vsnprintf(name, sizeof name, format, list);
    va_end(list);
    tsr_tensor *t = tsr_module_find(m, name);
    require(r, t);
    assert_int_equal(tsr_numel(t), count);
    require_ok(r, tsr_read_f32(t, parameter, (size_t)count));
    return parameter;
}

/* ---- the definition ---- */

static void norm(const run *r, const tsr_module *m, const char *name, int layer, const double *x, double *y)
{
    char at[16] = "";
    double w[WIDTH];
    if (layer >= 0)
        snprintf(at, sizeof at, "h.%d.", layer);
    const float *p = published(r, m, WIDTH, "%s%s.weight", at, name);
    for (int i = 0; i < WIDTH; i++)
        w[i] = (double)p[i];
    p = published(r, m, WIDTH, "%s%s.bias", at, name);
    for (int t = 0; t < TOKENS; t++) {
        double mean = 0, variance = 0;
        for (int i = 0; i < WIDTH; i++)
            mean += x[t * WIDTH + i] / WIDTH;
        for (int i = 0; i < WIDTH; i++)
            variance += (x[t * WIDTH + i] - mean) * (x[t * WIDTH + i] - mean) / WIDTH;
        for (int i = 0; i < WIDTH; i++)
            y[t * WIDTH + i] = (x[t * WIDTH + i] - mean) / sqrt(variance + 1e-5) * w[i] + (double)p[i];
    }
}

static void project(const run *r, const tsr_module *m, const char *name, int layer, int in, int out, const double *x,
                    double *y)
{
    const float *p = published(r, m, in * out, "h.%d.%s.weight", layer, name);
    for (int t = 0; t < TOKENS; t++)
        for (int o = 0; o < out; o++) {
            y[t * out + o] = 0;
            for (int i = 0; i < in; i++)
                y[t * out + o] += x[t * in + i] * (double)p[i * out + o];
        }
    p = published(r, m, out, "h.%d.%s.bias", layer, name);
    for (int t = 0; t < TOKENS; t++)
        for (int o = 0; o < out; o++)
            y[t * out + o] += (double)p[o];
}

static void attend(const double *qkv, double *y)
{
    for (int h = 0; h < HEADS; h++)
        for (int t = 0; t < TOKENS; t++) {
            double weight[TOKENS], sum = 0;
            for (int s = 0; s <= t; s++) {
                double dot = 0;
                for (int i = 0; i < EACH; i++)
                    dot += qkv[t * 3 * WIDTH + h * EACH + i] * qkv[s * 3 * WIDTH + WIDTH + h * EACH + i];
                sum += weight[s] = exp(dot / sqrt(EACH));
            }
            for (int i = 0; i < EACH; i++) {
                double value = 0;
                for (int s = 0; s <= t; s++)
                    value += weight[s] / sum * qkv[s * 3 * WIDTH + 2 * WIDTH + h * EACH + i];
                y[t * WIDTH + h * EACH + i] = value;
            }
        }
}

static void logits_of(const run *r, const tsr_module *m, const int64_t *tokens, double *logits)
{
    double x[TOKENS * WIDTH], a[TOKENS * WIDTH], b[TOKENS * WIDTH], wide[TOKENS * 4 * WIDTH];
    const float *p = published(r, m, VOCABULARY * WIDTH, "wte.weight");
    for (int i = 0; i < TOKENS * WIDTH; i++)
        x[i] = (double)p[tokens[i / WIDTH] * WIDTH + i % WIDTH];
    p = published(r, m, CONTEXT * WIDTH, "wpe.weight");
    for (int i = 0; i < TOKENS * WIDTH; i++)
        x[i] += (double)p[i];
    for (int l = 0; l < LAYERS; l++) {
        norm(r, m, "ln_1", l, x, a);
        project(r, m, "attn.c_attn", l, WIDTH, 3 * WIDTH, a, wide);
        attend(wide, a);
        project(r, m, "attn.c_proj", l, WIDTH, WIDTH, a, b);
        for (int i = 0; i < TOKENS * WIDTH; i++)
            x[i] += b[i];
        norm(r, m, "ln_2", l, x, a);
        project(r, m, "mlp.c_fc", l, WIDTH, 4 * WIDTH, a, wide);
        for (int i = 0; i < TOKENS * 4 * WIDTH; i++)
            wide[i] =
                wide[i] / 2 * (1 + tanh(0.79788456080286536 * (wide[i] + 0.044715 * wide[i] * wide[i] * wide[i])));
        project(r, m, "mlp.c_proj", l, 4 * WIDTH, WIDTH, wide, b);
        for (int i = 0; i < TOKENS * WIDTH; i++)
            x[i] += b[i];
    }
    norm(r, m, "ln_f", -1, x, a);
    p = published(r, m, VOCABULARY * WIDTH, "wte.weight");
    for (int t = 0; t < TOKENS; t++)
        for (int v = 0; v < VOCABULARY; v++) {
            logits[t * VOCABULARY + v] = 0;
            for (int i = 0; i < WIDTH; i++)
                logits[t * VOCABULARY + v] += a[t * WIDTH + i] * (double)p[v * WIDTH + i];
        }
}

/* ---- the test ---- */

/* Weights as drawn are so small that hardly anything but the embeddings shows: they are made larger, biases and norms other than 0 and 1. */
static void spread(const run *r, tsr_module *m)
{
    tsr_no_grad_begin();
    for (size_t i = 0; i < tsr_module_parameter_count(m); i++) {
        tsr_tensor *p = tsr_module_parameter(m, i, NULL, 0);
        require_ok(r, tsr_copy_into(p, tsr_normal(r->device, TSR_F32, tsr_rank(p), tsr_shape(p), 0.1, 0.4)));
    }
    tsr_no_grad_end();
}

static const int64_t tokens[BATCH * TOKENS] = {0, 3, 10, 3, 5, 6, 1, 9, 9, 2, 0, 7, 8, 4};

static void forward_on(const run *r)
{
    static double expected[TOKENS * VOCABULARY];
    static float logits[BATCH * TOKENS * VOCABULARY];
    require_ok(r, tsr_scope_begin());
    require_ok(r, tsr_seed(r->device, 5));
    tsr_module *m = tsr_gpt_create(r->device, &sizes);
    require(r, m);
    spread(r, m);
    tsr_tensor *x = tsr_from_data(r->device, TSR_I64, 2, (int64_t[]){BATCH, TOKENS}, tokens);
    tsr_tensor *y = tsr_forward(m, x);
    require(r, y);
    require_ok(r, tsr_read_f32(y, logits, BATCH * TOKENS * VOCABULARY));
    for (int b = 0; b < BATCH; b++) {
        logits_of(r, m, tokens + (ptrdiff_t)b * TOKENS, expected);
        for (int i = 0; i < TOKENS * VOCABULARY; i++) {
            /* Sums of up to 48 terms after norms keep numbers near 1: some tens of roundings of numbers below 30. */
            const double bound = 30 * 100 * 0x1p-24;
            const double error = fabs((double)logits[b * TOKENS * VOCABULARY + i] - expected[i]);
            if (!(error <= bound))
                fail_msg("%s: logit %d of sequence %d is %g, not %g", r->name, i, b,
                         (double)logits[b * TOKENS * VOCABULARY + i], expected[i]);
        }
    }
    assert_null(tsr_forward(m, tsr_zeros(r->device, TSR_I64, 2, (int64_t[]){1, CONTEXT + 1})));
    assert_null(tsr_gpt_create(r->device, &(tsr_gpt_options){5, 5, 5, 1, 2, 0}));
    tsr_module_destroy(m);
    require_ok(r, tsr_scope_end());
}

static void test_forward(void **state)
{
    (void)state;
    on_every_device(forward_on);
}

/* Losses of a few steps that learn one text by heart. */
static void train(const run *r, bool checkpointed, float *losses, int steps)
{
    static const bool some[LAYERS] = {true, false};
    tsr_gpt_options o = sizes;
    o.dropout = 0.1;
    require_ok(r, tsr_seed(r->device, 6));
    tsr_module *m = tsr_gpt_create(r->device, &o);
    require(r, m);
    if (checkpointed)
        require_ok(r, tsr_gpt_checkpoint(m, some));
    tsr_optimizer *adam = tsr_adamw_for(m, &(tsr_adam_options){.lr = 3e-2});
    require(r, adam);
    for (int step = 0; step < steps; step++) {
        double loss;
        require_ok(r, tsr_scope_begin());
        tsr_tensor *all = tsr_from_data(r->device, TSR_I64, 2, (int64_t[]){BATCH, TOKENS}, tokens);
        tsr_tensor *x = tsr_narrow(all, 1, 0, TOKENS - 1), *y = tsr_narrow(all, 1, 1, TOKENS - 1);
        tsr_optimizer_clear_grad(adam);
        tsr_tensor *logits = tsr_reshape(tsr_forward(m, x), 2, (int64_t[]){-1, VOCABULARY});
        tsr_tensor *l = tsr_cross_entropy(logits, tsr_reshape(y, 1, (int64_t[]){-1}));
        require(r, l);
        require_ok(r, tsr_backward(l));
        require_ok(r, tsr_optimizer_step(adam));
        require_ok(r, tsr_item(l, &loss));
        losses[step] = (float)loss;
        require_ok(r, tsr_scope_end());
    }
    tsr_optimizer_destroy(adam);
    tsr_module_destroy(m);
}

static void training_on(const run *r)
{
    enum { STEPS = 40 };
    float plain[STEPS], parts[STEPS];
    train(r, false, plain, STEPS);
    train(r, true, parts, STEPS);
    assert_memory_equal(plain, parts, sizeof plain);
    assert_true(fabs((double)plain[0] - log(VOCABULARY)) < 0.1);
    assert_true((double)plain[STEPS - 1] < 0.5);
}

static void test_training(void **state)
{
    (void)state;
    on_every_device(training_on);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_forward), cmocka_unit_test(test_training)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
