/* Modules: names and walks, modes, initial weights, sequences with failed parts, modules of the caller's own, ownership. */
#include "tests/op_reference.h"

#include "base/memory.h"

static tsr_module *model_on(tsr_device *device)
{
    return TSR_SEQUENTIAL(tsr_conv2d_create(device, 2, 4, 3, 2, NULL, true), tsr_batch_norm2d_create(device, 4, 0, 0),
                          tsr_relu_create(), tsr_max_pool2d_create(&(tsr_pool2d_options){.kernel = {2, 2}}),
                          tsr_flatten_create(1), tsr_dropout_create(0.5),
                          TSR_SEQUENTIAL(tsr_linear_create(device, 24, 5, false), tsr_gelu_create(),
                                         tsr_linear_create(device, 5, 3, true)));
}

/* ---- names ---- */

static void test_names(void **state)
{
    (void)state;
    static const char *const parameters[] = {"0.weight",   "0.bias",     "1.weight", "1.bias",
                                             "6.0.weight", "6.2.weight", "6.2.bias"};
    static const char *const buffers[] = {"1.running_mean", "1.running_var"};
    static const int64_t elements[] = {4 * 2 * 3 * 2, 4, 4, 4, 24 * 5, 15, 3};
    char name[64];
    tsr_device *cpu = tsr_device_open("cpu");
    tsr_module *m = model_on(cpu);
    assert_non_null(m);
    assert_int_equal(tsr_module_parameter_count(m), 7);
    assert_int_equal(tsr_module_buffer_count(m), 2);
    for (size_t i = 0; i < 7; i++) {
        tsr_tensor *t = tsr_module_parameter(m, i, name, sizeof name);
        assert_non_null(t);
        assert_string_equal(name, parameters[i]);
        assert_int_equal(tsr_numel(t), elements[i]);
        assert_true(tsr_requires_grad(t));
        assert_ptr_equal(tsr_module_find(m, name), t);
        assert_ptr_equal(tsr_module_parameter(m, i, NULL, 0), t);
    }
    for (size_t i = 0; i < 2; i++) {
        tsr_tensor *t = tsr_module_buffer(m, i, name, sizeof name);
        assert_string_equal(name, buffers[i]);
        assert_false(tsr_requires_grad(t));
        assert_ptr_equal(tsr_module_find(m, name), t);
    }
    char little[6];
    memset(little, 'x', sizeof little);
    assert_non_null(tsr_module_parameter(m, 4, little, 5)); /* cut, ended, and not a byte beyond */
    assert_string_equal(little, "6.0.");
    assert_int_equal(little[5], 'x');
    assert_non_null(tsr_module_parameter(m, 4, little, 1));
    assert_string_equal(little, "");

    assert_null(tsr_module_parameter(m, 7, name, sizeof name));
    assert_int_equal(tsr_last_status(), TSR_OUT_OF_RANGE);
    assert_null(tsr_module_buffer(m, 2, name, sizeof name));
    static const char *const unknown[] = {"weight",   "0",        "0.", "0.weigh", "0.weight.", "7.weight",
                                          "6.0.bias", "6.weight", "",   ".",       "00.weight", NULL};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        assert_null(tsr_module_find(m, unknown[i]));
        assert_int_equal(tsr_last_status(), TSR_NOT_FOUND);
    }
    assert_int_equal(tsr_module_parameter_count(NULL), 0);
    assert_null(tsr_module_parameter(NULL, 0, name, sizeof name));
    assert_null(tsr_module_find(NULL, "0.weight"));
    tsr_module_destroy(m);
    tsr_module_destroy(NULL);
    tsr_device_close(cpu);
}

/* ---- training and evaluation; a model's pass, on every device ---- */

static void modes_on(const run *r)
{
    double *unused;
    float a[6], b[6], mean[4];
    require_ok(r, tsr_scope_begin());
    tsr_module *m = model_on(r->device);
    require(r, m);
    tsr_tensor *x =
        random_tensor(r, TSR_F32, 4, (int64_t[]){2, 2, 6, 7}, REALS, 51, &unused); /* conv 4 x 4 x 6, pool 4 x 2 x 3 */
    free(unused);
    assert_true(tsr_module_is_training(m));
    tsr_tensor *l = tsr_sum(tsr_forward(m, x), NULL, 0, false);
    require(r, l);
    require_ok(r, tsr_backward(l));
    for (size_t i = 0; i < 7; i++)
        require(r, tsr_grad(tsr_module_parameter(m, i, NULL, 0)));
    tsr_module_clear_grad(m);
    for (size_t i = 0; i < 7; i++)
        assert_null(tsr_grad(tsr_module_parameter(m, i, NULL, 0)));
    require_ok(r, tsr_read_f32(tsr_module_find(m, "1.running_mean"), mean, 4));
    assert_true(mean[0] != 0 || mean[1] != 0); /* training moved it */

    tsr_module_train(m, false);
    assert_false(tsr_module_is_training(m));
    tsr_no_grad_begin();
    require_ok(r, tsr_read_f32(tsr_forward(m, x), a, 6));
    require_ok(r, tsr_read_f32(tsr_forward(m, x), b, 6));
    tsr_no_grad_end();
    assert_memory_equal(a, b, sizeof a); /* no dropout, and statistics at rest */
    float after[4];
    require_ok(r, tsr_read_f32(tsr_module_find(m, "1.running_mean"), after, 4));
    assert_true(after[0] != 0);
    tsr_tensor *y = tsr_forward(m, x);
    require_ok(r, tsr_read_f32(tsr_module_find(m, "1.running_mean"), mean, 4));
    assert_memory_equal(after, mean, sizeof mean);

    /* The same by hand from the operators. */
    tsr_tensor *h = tsr_conv2d(x, tsr_module_find(m, "0.weight"), tsr_module_find(m, "0.bias"), NULL);
    h = tsr_batch_norm2d(h, tsr_module_find(m, "1.weight"), tsr_module_find(m, "1.bias"),
                         tsr_module_find(m, "1.running_mean"), tsr_module_find(m, "1.running_var"), false, 0.1, 1e-5);
    h = tsr_flatten(tsr_max_pool2d(tsr_relu(h), &(tsr_pool2d_options){.kernel = {2, 2}}), 1, -1);
    h = tsr_linear(h, tsr_module_find(m, "6.0.weight"), NULL);
    h = tsr_linear(tsr_gelu(h), tsr_module_find(m, "6.2.weight"), tsr_module_find(m, "6.2.bias"));
    require(r, y);
    require(r, h);
    require_ok(r, tsr_read_f32(y, a, 6));
    require_ok(r, tsr_read_f32(h, b, 6));
    assert_memory_equal(a, b, sizeof a);

    tsr_module_train(m, true);
    require_ok(r, tsr_read_f32(tsr_forward(m, x), b, 6));
    assert_memory_not_equal(a, b, sizeof a);
    assert_null(tsr_forward(m, NULL));
    assert_null(tsr_forward(NULL, x));
    assert_null(tsr_forward(m, tsr_zeros(r->device, TSR_F32, 4, (int64_t[]){2, 3, 6, 7})));
    assert_non_null(strstr(tsr_last_error(), "conv2d"));
    tsr_module_destroy(m);
    require_ok(r, tsr_scope_end());
}

static void test_modes(void **state)
{
    (void)state;
    on_every_device(modes_on);
}

/* Activations and pools apply their operator, with their option. */
static void layers_on(const run *r)
{
    double *unused;
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = random_tensor(r, TSR_F32, 4, (int64_t[]){2, 2, 4, 4}, REALS, 52, &unused);
    free(unused);
    const tsr_pool2d_options pool = {.kernel = {2, 3}, .stride = {1, 1}};
    tsr_module *m[] = {tsr_relu_create(),
                       tsr_leaky_relu_create(0.2),
                       tsr_gelu_create(),
                       tsr_silu_create(),
                       tsr_tanh_create(),
                       tsr_sigmoid_create(),
                       tsr_max_pool2d_create(&pool),
                       tsr_avg_pool2d_create(&pool),
                       tsr_flatten_create(2)};
    tsr_tensor *y[] = {tsr_relu(x),
                       tsr_leaky_relu(x, 0.2),
                       tsr_gelu(x),
                       tsr_silu(x),
                       tsr_tanh(x),
                       tsr_sigmoid(x),
                       tsr_max_pool2d(x, &pool),
                       tsr_avg_pool2d(x, &pool),
                       tsr_flatten(x, 2, -1)};
    for (size_t i = 0; i < sizeof m / sizeof *m; i++) {
        require(r, m[i]);
        require(r, y[i]);
        tsr_tensor *got = tsr_forward(m[i], x);
        require(r, got);
        assert_int_equal(tsr_rank(got), tsr_rank(y[i]));
        assert_int_equal(tsr_numel(got), tsr_numel(y[i]));
        assert_int_equal(tsr_module_parameter_count(m[i]), 0);
        double *a = values_of(r, got), *b = values_of(r, y[i]);
        assert_memory_equal(a, b, sizeof(double) * (size_t)tsr_numel(got));
        free(a);
        free(b);
        tsr_module_destroy(m[i]);
    }
    require_ok(r, tsr_scope_end());
}

static void test_layers(void **state)
{
    (void)state;
    on_every_device(layers_on);
}

/* The layers of a transformer: what they hold at first, and that they apply their operator with it. */
static void transformer_layers_on(const run *r)
{
    enum { COUNT = 500, WIDTH = 24 };
    static float w[COUNT * WIDTH], again[COUNT * WIDTH];
    const int64_t shape[] = {3, WIDTH}, ids[] = {4, 0, 499};
    char name[32];
    require_ok(r, tsr_scope_begin());
    require_ok(r, tsr_seed(r->device, 8));
    tsr_module *table = tsr_embedding_create(r->device, COUNT, WIDTH, 4),
               *norm = tsr_layer_norm_create(r->device, 1, shape + 1, 0, true);
    require(r, table);
    require(r, norm);
    require_ok(r, tsr_read_f32(tsr_module_parameter(table, 0, name, sizeof name), w, COUNT * WIDTH));
    assert_string_equal(name, "weight");
    double sum = 0, squares = 0;
    for (int i = 0; i < COUNT * WIDTH; i++) {
        assert_true(i / WIDTH == 4 ? w[i] == 0 : w[i] != 0);
        sum += (double)w[i];
        squares += (double)w[i] * (double)w[i];
    }
    const double n = COUNT * WIDTH - WIDTH; /* of N(0, 1): mean ± 1 / sqrt n, mean square 1 ± sqrt(2 / n) */
    assert_true(fabs(sum / n) <= 5 / sqrt(n) && fabs(squares / n - 1) <= 5 * sqrt(2 / n));
    require_ok(r, tsr_seed(r->device, 8));
    tsr_module *second = tsr_embedding_create(r->device, COUNT, WIDTH, 4);
    require_ok(r, tsr_read_f32(tsr_module_parameter(second, 0, name, sizeof name), again, COUNT * WIDTH));
    assert_memory_equal(w, again, sizeof w);

    tsr_tensor *y = tsr_forward(table, tsr_from_data(r->device, TSR_I64, 1, (int64_t[]){3}, ids));
    require(r, y);
    require_ok(r, tsr_read_f32(y, again, 3 * WIDTH));
    for (int i = 0; i < 3 * WIDTH; i++)
        assert_true(again[i] == w[ids[i / WIDTH] * WIDTH + i % WIDTH]);
    assert_int_equal(tsr_module_parameter_count(norm), 2);
    tsr_tensor *z = tsr_forward(norm, y), *plain = tsr_layer_norm(y, 1, shape + 1, NULL, NULL, 1e-5);
    require(r, z);
    require_ok(r, tsr_read_f32(z, w, 3 * WIDTH));
    require_ok(r, tsr_read_f32(plain, again, 3 * WIDTH));
    for (int i = 0; i < 3 * WIDTH; i++)
        assert_true(w[i] == again[i]);
    require_ok(r, tsr_backward(tsr_sum(z, NULL, 0, false)));
    require_ok(r, tsr_read_f32(tsr_grad(tsr_module_parameter(norm, 1, NULL, 0)), w, WIDTH));
    for (int i = 0; i < WIDTH; i++)
        assert_true(w[i] == 3);
    assert_null(tsr_embedding_create(r->device, 0, 4, -1));
    assert_null(tsr_embedding_create(r->device, 4, 4, 4));
    assert_null(tsr_layer_norm_create(r->device, 0, shape, 0, true));
    assert_null(tsr_layer_norm_create(r->device, 1, shape, -1, true));
    tsr_module_destroy(table);
    tsr_module_destroy(second);
    tsr_module_destroy(norm);
    require_ok(r, tsr_scope_end());
}

static void test_transformer_layers(void **state)
{
    (void)state;
    on_every_device(transformer_layers_on);
}

/* ---- initial weights: their distribution, and the same bits everywhere ---- */

static void check_uniform(const float *w, int64_t n, double bound)
{
    double sum = 0, squares = 0, largest = 0;
    for (int64_t i = 0; i < n; i++) {
        assert_true(fabs((double)w[i]) <= bound);
        sum += (double)w[i];
        squares += (double)w[i] * (double)w[i];
        largest = fmax(largest, fabs((double)w[i]));
    }
    const double variance = bound * bound / 3, fourth = bound * bound * bound * bound / 5; /* of U(-bound, bound) */
    assert_true(fabs(sum / (double)n) <= 5 * sqrt(variance / (double)n));
    assert_true(fabs(squares / (double)n - variance) <= 5 * sqrt((fourth - variance * variance) / (double)n));
    assert_true(largest > bound * (1 - 20.0 / (double)n));
}

enum { WEIGHTS = 4000 + 40 + 1350 + 15 };
static float first_weights[WEIGHTS];
static bool weights_known;

static void weights_on(const run *r)
{
    static float w[WEIGHTS], again[WEIGHTS];
    float *into[] = {w, again};
    for (int k = 0; k < 2; k++) {
        require_ok(r, tsr_seed(r->device, 99));
        tsr_module *m =
            TSR_SEQUENTIAL(tsr_linear_create(r->device, 100, 40, true),
                           tsr_conv2d_create(r->device, 30, 15, 3, 3, &(tsr_conv2d_options){.groups = 3}, true));
        require(r, m);
        size_t at = 0;
        for (size_t i = 0; i < tsr_module_parameter_count(m); i++) {
            tsr_tensor *t = tsr_module_parameter(m, i, NULL, 0);
            require_ok(r, tsr_read_f32(t, into[k] + at, (size_t)tsr_numel(t)));
            at += (size_t)tsr_numel(t);
        }
        assert_int_equal(at, WEIGHTS);
        tsr_module_destroy(m);
    }
    assert_memory_equal(w, again, sizeof w);
    if (weights_known) {
        if (memcmp(w, first_weights, sizeof w) != 0)
            fail_msg("%s: initial weights differ from the first device's", r->name);
        return;
    }
    memcpy(first_weights, w, sizeof w);
    weights_known = true;
    check_uniform(w, 4000, 0.1);
    check_uniform(w + 4000, 40, 0.1);
    check_uniform(w + 4040, 1350, 1 / sqrt(90));
    check_uniform(w + 5390, 15, 1 / sqrt(90));
    assert_memory_not_equal(w, w + 4000, 40 * sizeof(float)); /* each parameter has a stream of its own */
    /* Another seed, other weights; and a second layer of one seed is not the first. */
    float a[8], b[8], c[8];
    float *each[] = {a, b, c};
    for (int k = 0; k < 3; k++) {
        if (k < 2)
            require_ok(r, tsr_seed(r->device, (uint64_t)k));
        tsr_module *m = tsr_linear_create(r->device, 4, 2, false);
        require_ok(r, tsr_read_f32(tsr_module_find(m, "weight"), each[k], 8));
        tsr_module_destroy(m);
    }
    assert_memory_not_equal(a, b, sizeof a);
    assert_memory_not_equal(b, c, sizeof a);
    /* Batch normalisation starts as the identity. */
    tsr_module *m = tsr_batch_norm2d_create(r->device, 3, 0, 0);
    static const char *const names[] = {"weight", "bias", "running_mean", "running_var"};
    for (int k = 0; k < 4; k++) {
        require_ok(r, tsr_read_f32(tsr_module_find(m, names[k]), a, 3));
        assert_true(a[0] == (k % 3 == 0) && a[1] == a[0] && a[2] == a[0]);
    }
    tsr_module_destroy(m);
}

static void test_weights(void **state)
{
    (void)state;
    on_every_device(weights_on);
}

/* ---- the caller's own modules ---- */

typedef struct scaled {
    int *released;
    double by;
} scaled;

static tsr_tensor *scaled_forward(void *context, tsr_module *self, tsr_tensor *x)
{
    const scaled *s = context;
    return tsr_mul(tsr_affine(x, s->by, 0), tsr_module_find(self, "gain"));
}

static void scaled_release(void *context)
{
    ++*((scaled *)context)->released;
}

static void test_own_modules(void **state)
{
    (void)state;
    tsr_device *cpu = tsr_device_open("cpu");
    int released = 0;
    const int64_t two = 2;
    scaled s = {&released, 3};
    float got[2];
    tsr_module *m = tsr_module_create("scaled", scaled_forward, &s, scaled_release);
    assert_non_null(m);
    tsr_tensor *gain = tsr_full(cpu, TSR_F32, 1, &two, 2);
    assert_int_equal(tsr_module_add_parameter(m, "gain", gain), TSR_OK);
    assert_ptr_equal(tsr_module_find(m, "gain"), gain);
    assert_int_equal(tsr_module_add_buffer(m, "seen", tsr_zeros(cpu, TSR_I64, 1, &two)), TSR_OK);
    assert_int_equal(tsr_module_add_child(m, "inner", tsr_linear_create(cpu, 2, 2, true)), TSR_OK);
    tsr_module *outer = TSR_SEQUENTIAL(m, tsr_relu_create());
    assert_non_null(tsr_module_find(outer, "0.inner.bias"));
    tsr_scope_begin();
    tsr_tensor *y = tsr_forward(outer, tsr_full(cpu, TSR_F32, 1, &two, 0.5));
    assert_int_equal(tsr_read_f32(y, got, 2), TSR_OK);
    assert_true(got[0] == 3 && got[1] == 3);
    assert_int_equal(tsr_backward_from(y, NULL, false), TSR_OK);
    assert_int_equal(tsr_read_f32(tsr_grad(gain), got, 2), TSR_OK);
    assert_true(got[0] == 1.5f);
    tsr_scope_end();

    /* Refused names, and what is refused is released: nothing here leaks (checked below and by the sanitizer). */
    static const char *const bad[] = {"gain", "seen", "inner", "", "a.b", NULL};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(tsr_module_add_parameter(m, bad[i], tsr_zeros(cpu, TSR_F32, 1, &two)), TSR_INVALID_ARGUMENT);
        assert_int_equal(tsr_module_add_buffer(m, bad[i], tsr_zeros(cpu, TSR_F32, 1, &two)), TSR_INVALID_ARGUMENT);
        assert_int_equal(tsr_module_add_child(m, bad[i], tsr_relu_create()), TSR_INVALID_ARGUMENT);
    }
    assert_int_equal(tsr_module_add_parameter(m, "count", tsr_zeros(cpu, TSR_I32, 1, &two)), TSR_INVALID_ARGUMENT);
    assert_int_not_equal(tsr_module_add_parameter(NULL, "x", tsr_zeros(cpu, TSR_F32, 1, &two)), TSR_OK);
    assert_int_not_equal(tsr_module_add_parameter(m, "x", NULL), TSR_OK);
    assert_int_not_equal(tsr_module_add_child(m, "x", NULL), TSR_OK);
    assert_int_equal(tsr_module_parameter_count(m), 3);
    assert_int_equal(released, 0);
    tsr_module_destroy(outer);
    assert_int_equal(released, 1);
    assert_null(tsr_module_create("no forward", NULL, &s, scaled_release)); /* the context is released here, too */
    assert_int_equal(released, 2);
    tsr_device_close(cpu);
}

/* ---- errors, and who frees what ---- */

static void test_errors(void **state)
{
    (void)state;
    tsr_device *cpu = tsr_device_open("cpu");
    assert_null(tsr_linear_create(cpu, 0, 3, true));
    assert_int_equal(tsr_last_status(), TSR_OUT_OF_RANGE);
    assert_null(tsr_linear_create(cpu, INT64_MAX / 2, 8, true));
    assert_null(tsr_linear_create(NULL, 3, 3, true));
    assert_null(tsr_conv2d_create(cpu, 3, 4, 3, 3, &(tsr_conv2d_options){.groups = 2}, true));
    assert_non_null(strstr(tsr_last_error(), "groups"));
    assert_null(tsr_conv2d_create(cpu, 3, 4, 0, 3, NULL, true));
    assert_null(tsr_max_pool2d_create(NULL));
    assert_null(tsr_avg_pool2d_create(&(tsr_pool2d_options){.kernel = {0, 2}}));
    assert_null(tsr_batch_norm2d_create(cpu, 0, 0, 0));
    assert_null(tsr_batch_norm2d_create(cpu, 3, 2, 0));
    assert_null(tsr_batch_norm2d_create(cpu, 3, 0, -1));
    assert_null(tsr_dropout_create(1));
    assert_int_equal(tsr_last_status(), TSR_OUT_OF_RANGE);
    assert_null(tsr_dropout_create(-0.5));
    /* A failed constructor's message stands, and its neighbours are destroyed. */
    int released = 0;
    scaled s = {&released, 1};
    assert_null(TSR_SEQUENTIAL(tsr_module_create("a", scaled_forward, &s, scaled_release), tsr_dropout_create(7),
                               tsr_linear_create(cpu, 2, 2, true)));
    assert_non_null(strstr(tsr_last_error(), "p is 7"));
    assert_int_equal(released, 1);
    tsr_module *none = tsr_sequential_create(NULL, 0); /* the identity */
    assert_non_null(none);
    tsr_tensor *x = tsr_zeros(cpu, TSR_F32, 0, NULL);
    assert_ptr_equal(tsr_forward(none, x), x);
    tsr_release(x);
    tsr_module_destroy(none);
    tsr_device_close(cpu);
}

static void use(tsr_device *cpu)
{
    tsr_module *m = model_on(cpu);
    assert_non_null(m);
    tsr_scope_begin();
    tsr_tensor *x = tsr_full(cpu, TSR_F32, 4, (int64_t[]){3, 2, 6, 7}, 0.25);
    assert_int_equal(tsr_backward(tsr_mean(tsr_forward(m, x), NULL, 0, false)), TSR_OK);
    tsr_tensor *kept = tsr_retain(tsr_module_find(m, "6.2.bias")); /* outlives its module */
    tsr_module_destroy(m);
    float v[3];
    assert_int_equal(tsr_read_f32(kept, v, 3), TSR_OK);
    tsr_release(kept);
    tsr_scope_end();
}

static void test_leaks(void **state)
{
    (void)state;
    tsr_device *cpu = tsr_device_open("cpu");
    assert_non_null(cpu);
    use(cpu); /* kernels are found and blocks cached */
    tsr_memory_trim(cpu);
    const int64_t before = host_live_allocations();
    for (int i = 0; i < 3; i++)
        use(cpu);
    tsr_memory_trim(cpu);
    assert_int_equal(host_live_allocations(), before);
    /* Each allocation failing in turn: NULL or a whole module, and nothing lost. */
    bool made = false;
    for (int n = 0; n < 400 && !made; n++) {
        host_alloc_fail_after(n);
        tsr_module *m = model_on(cpu);
        host_alloc_fail_after(-1);
        made = m != NULL;
        tsr_module_destroy(m);
        tsr_memory_trim(cpu);
        if (host_live_allocations() != before)
            fail_msg("%lld allocations leak where number %d fails", (long long)(host_live_allocations() - before), n);
    }
    assert_true(made);
    tsr_device_close(cpu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),   cmocka_unit_test(test_modes),
        cmocka_unit_test(test_layers),  cmocka_unit_test(test_transformer_layers),
        cmocka_unit_test(test_weights), cmocka_unit_test(test_own_modules),
        cmocka_unit_test(test_errors),  cmocka_unit_test(test_leaks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
