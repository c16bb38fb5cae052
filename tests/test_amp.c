/* Mixed precision: which operators are cast to what, parameters cast once, and the gradient scaler against its definition, on every device. */
#include "tests/op_reference.h"

#include "tests/unit.h"

static tsr_tensor *made(const run *r, tsr_tensor *t)
{
    if (t == NULL)
        fail_msg("%s: %s", r->name, tsr_last_error());
    return t;
}

static tsr_tensor *normal(const run *r, tsr_dtype dtype, int64_t rows, int64_t cols)
{
    return made(r, tsr_normal(r->device, dtype, 2, (int64_t[]){rows, cols}, 0, 1));
}

static uint64_t allocations(const run *r)
{
    tsr_memory_statistics s;
    require_ok(r, tsr_memory_stats(r->device, &s));
    return s.allocations;
}

/* ---- autocast ---- */

static void check_classes(const run *r, tsr_dtype low)
{
    tsr_scope_begin();
    tsr_tensor *a = normal(r, TSR_F32, 5, 7), *b = normal(r, TSR_F32, 7, 3), *wide = normal(r, TSR_F64, 5, 7);
    tsr_tensor *numbers = made(r, tsr_cast(a, TSR_I32));
    require_ok(r, tsr_autocast_begin(low));
    assert_int_equal(tsr_autocast_dtype(), low);
    tsr_tensor *product = made(r, tsr_matmul(a, b));
    assert_int_equal(tsr_dtype_of(product), low);
    assert_int_equal(tsr_dtype_of(made(r, tsr_exp(product))), TSR_F32);
    assert_int_equal(tsr_dtype_of(made(r, tsr_softmax(product, -1))), TSR_F32);
    assert_int_equal(tsr_dtype_of(made(r, tsr_sum(product, NULL, 0, false))), TSR_F32);
    assert_int_equal(tsr_dtype_of(made(r, tsr_relu(product))), low);
    assert_int_equal(tsr_dtype_of(made(r, tsr_relu(a))), TSR_F32);
    assert_int_equal(tsr_dtype_of(made(r, tsr_add(product, tsr_narrow(a, 1, 0, 3)))), TSR_F32);
    assert_int_equal(tsr_dtype_of(made(r, tsr_mul(tsr_cast(a, TSR_F16), tsr_cast(a, TSR_BF16)))), TSR_F32);
    assert_int_equal(tsr_dtype_of(made(r, tsr_add(numbers, numbers))), TSR_I32);
    if ((r->dtypes >> TSR_F64 & 1) != 0)
        assert_int_equal(tsr_dtype_of(made(r, tsr_matmul(wide, tsr_cast(b, TSR_F64)))), TSR_F64);
    require_ok(r, tsr_autocast_begin(TSR_F32));
    assert_int_equal(tsr_dtype_of(made(r, tsr_matmul(a, b))), TSR_F32);
    tsr_autocast_end();
    assert_int_equal(tsr_dtype_of(made(r, tsr_matmul(a, b))), low);
    /* Into a given tensor: as it is. */
    tsr_tensor *given = made(r, tsr_zeros(r->device, TSR_F32, 2, (int64_t[]){5, 3}));
    require_ok(r, tsr_op_call("matmul", (tsr_tensor *[]){a, b}, 2, &given, 1, NULL, 0));
    tsr_autocast_end();
    assert_int_equal(tsr_autocast_dtype(), TSR_F32);
    assert_int_equal(tsr_dtype_of(made(r, tsr_matmul(a, b))), TSR_F32);
    tsr_autocast_end();
    assert_int_equal(tsr_autocast_begin(TSR_I32), TSR_INVALID_ARGUMENT);

    /* The numbers are those of operands cast by hand. */
    float cast[15], expected[15];
    require_ok(r, tsr_read_f32(product, cast, 15));
    require_ok(r, tsr_read_f32(made(r, tsr_matmul(tsr_cast(a, low), tsr_cast(b, low))), expected, 15));
    assert_memory_equal(cast, expected, sizeof cast);
    tsr_scope_end();
}

static void autocast_on(const run *r)
{
    check_classes(r, TSR_F16);
    check_classes(r, TSR_BF16);
}

static void test_autocast(void **state)
{
    (void)state;
    on_every_device(autocast_on);
}

/* Gradients reach f32 parameters, equal those of casts written by hand, and a parameter is cast once in a region. */
static void parameters_on(const run *r)
{
    enum { IN = 6, OUT = 4, ROWS = 3 };
    tsr_scope_begin();
    tsr_tensor *x = normal(r, TSR_F32, ROWS, IN), *w = normal(r, TSR_F32, OUT, IN), *v = made(r, tsr_clone(w));
    require_ok(r, tsr_set_requires_grad(w, true));
    require_ok(r, tsr_set_requires_grad(v, true));
    require_ok(r, tsr_autocast_begin(TSR_F16));
    tsr_tensor *y = made(r, tsr_linear(x, w, NULL));
    uint64_t before = allocations(r);
    tsr_tensor *z = made(r, tsr_linear(x, w, NULL));
    const uint64_t taken = allocations(r) - before;
    tsr_autocast_end();
    require_ok(r, tsr_backward(tsr_sum(tsr_cast(tsr_add(y, z), TSR_F32), NULL, 0, false)));

    tsr_tensor *low = made(r, tsr_cast(v, TSR_F16)), *input = made(r, tsr_cast(x, TSR_F16));
    before = allocations(r);
    tsr_tensor *by_hand = made(r, tsr_linear(input, low, NULL));
    assert_int_equal(taken, allocations(r) - before + 1); /* for x in f16: not for w again */
    tsr_tensor *sum = made(r, tsr_add(by_hand, tsr_linear(input, low, NULL)));
    require_ok(r, tsr_backward(tsr_sum(tsr_cast(sum, TSR_F32), NULL, 0, false)));
    assert_int_equal(tsr_dtype_of(tsr_grad(w)), TSR_F32);
    float got[OUT * IN], expected[OUT * IN];
    require_ok(r, tsr_read_f32(tsr_grad(w), got, OUT * IN));
    require_ok(r, tsr_read_f32(tsr_grad(v), expected, OUT * IN));
    assert_memory_equal(got, expected, sizeof got);

    /* After a write the parameter is cast anew. */
    float first[ROWS * OUT], second[ROWS * OUT];
    require_ok(r, tsr_autocast_begin(TSR_F16));
    require_ok(r, tsr_read_f32(made(r, tsr_linear(x, w, NULL)), first, ROWS * OUT));
    tsr_no_grad_begin();
    require_ok(r, tsr_fill(w, 0));
    tsr_no_grad_end();
    require_ok(r, tsr_read_f32(made(r, tsr_linear(x, w, NULL)), second, ROWS * OUT));
    tsr_autocast_end();
    for (int i = 0; i < ROWS * OUT; i++) {
        assert_true(first[i] != 0);
        assert_true(second[i] == 0);
    }
    tsr_scope_end();
}

static void test_parameters(void **state)
{
    (void)state;
    on_every_device(parameters_on);
}

/* ---- the scaler ---- */

enum { COUNT = 5000, SMALL = 3 };

static float number(const run *r, tsr_grad_scaler *s, const char *name)
{
    float value;
    tsr_scope_begin();
    require_ok(r, tsr_read_f32(made(r, tsr_cast(made(r, tsr_grad_scaler_state(s, name)), TSR_F32)), &value, 1));
    tsr_scope_end();
    return value;
}

/* Parameters of two sizes (one larger than a work-group's share) whose gradients are `value`, times the scale; in the second
 * parameter's last element `odd` instead. */
static void set_gradients(const run *r, tsr_grad_scaler *s, tsr_tensor *const *parameters, float value, float odd)
{
    tsr_scope_begin();
    for (int i = 0; i < 2; i++) {
        const int64_t n = tsr_numel(parameters[i]);
        static float weights[COUNT];
        for (int64_t k = 0; k < n; k++)
            weights[k] = i == 1 && k == n - 1 ? odd : value;
        tsr_clear_grad(parameters[i]);
        tsr_tensor *w = made(r, tsr_from_data(r->device, TSR_F32, 1, &n, weights));
        tsr_tensor *loss = made(r, tsr_sum(tsr_mul(parameters[i], w), NULL, 0, false));
        require_ok(r, tsr_backward(tsr_grad_scaler_scale(s, loss)));
    }
    tsr_scope_end();
}

static void read_all(const run *r, tsr_tensor *const *parameters, float *to)
{
    require_ok(r, tsr_read_f32(parameters[0], to, COUNT));
    require_ok(r, tsr_read_f32(parameters[1], to + COUNT, SMALL));
}

static int steps_of(const run *r, tsr_optimizer *o)
{
    int32_t steps;
    require_ok(r, tsr_read(made(r, tsr_optimizer_state(o, 0, "step")), &steps, sizeof steps));
    return steps;
}

typedef tsr_optimizer *make_optimizer(tsr_tensor *const *parameters);

static tsr_optimizer *make_adam(tsr_tensor *const *parameters)
{
    return tsr_adamw_create(parameters, 2, &(tsr_adam_options){.lr = 0.125, .weight_decay = 0.5});
}
static tsr_optimizer *make_sgd(tsr_tensor *const *parameters)
{
    return tsr_sgd_create(parameters, 2, &(tsr_sgd_options){.lr = 0.125, .momentum = 0.5});
}
static tsr_optimizer *make_plain_sgd(tsr_tensor *const *parameters)
{
    return tsr_sgd_create(parameters, 2, &(tsr_sgd_options){.lr = 0.125, .weight_decay = 0.5});
}
static tsr_optimizer *make_rmsprop(tsr_tensor *const *parameters)
{
    return tsr_rmsprop_create(parameters, 2, &(tsr_rmsprop_options){.lr = 0.125, .momentum = 0.5, .centered = true});
}
static tsr_optimizer *make_adagrad(tsr_tensor *const *parameters)
{
    return tsr_adagrad_create(parameters, 2, &(tsr_adagrad_options){.lr = 0.125});
}
static tsr_optimizer *make_lion(tsr_tensor *const *parameters)
{
    return tsr_lion_create(parameters, 2, &(tsr_lion_options){.lr = 0.125, .weight_decay = 0.5});
}
static tsr_optimizer *make_lamb(tsr_tensor *const *parameters)
{
    return tsr_lamb_create(parameters, 2, &(tsr_lamb_options){.lr = 0.125, .weight_decay = 0.5});
}

/* Good and bad steps by turns: the good ones give what an optimizer without a scaler and without the bad ones gives, bit by bit (the scale is
 * a power of two), the bad ones change nothing. */
static void check_steps(const run *r, make_optimizer *make)
{
    static const float odd[] = {2, INFINITY, 2, NAN, -INFINITY, 2};
    static float got[COUNT + SMALL], before[COUNT + SMALL], expected[COUNT + SMALL];
    tsr_scope_begin();
    tsr_tensor *parameters[2][2];
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < 2; i++) {
            parameters[k][i] = made(r, tsr_full(r->device, TSR_F32, 1, (int64_t[]){i == 0 ? COUNT : SMALL}, 1.5));
            require_ok(r, tsr_set_requires_grad(parameters[k][i], true));
        }
    tsr_grad_scaler *s = tsr_grad_scaler_create(r->device, &(tsr_grad_scaler_options){.growth_interval = 2});
    tsr_grad_scaler *one =
        tsr_grad_scaler_create(r->device, &(tsr_grad_scaler_options){.initial_scale = 1, .growth_interval = 1 << 30});
    tsr_optimizer *scaled = make(parameters[0]), *plain = make(parameters[1]);
    assert_true(s != NULL && one != NULL && scaled != NULL && plain != NULL);
    int good = 0;
    float scale = 65536;
    for (int step = 0; step < 6; step++) {
        const bool bad = !isfinite(odd[step]);
        read_all(r, parameters[0], before);
        set_gradients(r, s, parameters[0], 0.25f * (float)(step + 1), odd[step]);
        require_ok(r, tsr_grad_scaler_step(s, scaled));
        require_ok(r, tsr_grad_scaler_update(s));
        if (!bad) {
            set_gradients(r, one, parameters[1], 0.25f * (float)(step + 1), odd[step]);
            require_ok(r, tsr_optimizer_step(plain));
            good++;
        }
        read_all(r, parameters[0], got);
        read_all(r, parameters[1], expected);
        assert_memory_equal(got, bad ? before : expected, sizeof got);
        assert_int_equal(steps_of(r, scaled), good);
        scale = bad ? scale / 2 : scale;
        /* Two good steps in a row never come here, so it only shrinks. */
        assert_true(number(r, s, "scale") == scale);
        assert_true(number(r, s, "growth_tracker") == (bad ? 0 : 1));
    }
    assert_true(number(r, s, "skipped") == 3);
    tsr_optimizer_destroy(scaled);
    tsr_optimizer_destroy(plain);
    tsr_grad_scaler_destroy(s);
    tsr_grad_scaler_destroy(one);
    tsr_scope_end();
}

static void steps_on(const run *r)
{
    static make_optimizer *const makes[] = {make_adam,    make_sgd,  make_plain_sgd, make_rmsprop,
                                            make_adagrad, make_lion, make_lamb};
    for (size_t i = 0; i < sizeof makes / sizeof *makes; i++)
        check_steps(r, makes[i]);
}

static void test_steps(void **state)
{
    (void)state;
    on_every_device(steps_on);
}

/* Growth, a scale that stays finite, two optimizers of which one has bad gradients, and unscaling before clipping. */
static void scale_on(const run *r)
{
    tsr_scope_begin();
    tsr_tensor *parameters[2][2];
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < 2; i++) {
            parameters[k][i] = made(r, tsr_full(r->device, TSR_F32, 1, (int64_t[]){i == 0 ? COUNT : SMALL}, 1.5));
            require_ok(r, tsr_set_requires_grad(parameters[k][i], true));
        }
    tsr_grad_scaler *s =
        tsr_grad_scaler_create(r->device, &(tsr_grad_scaler_options){.initial_scale = 0x1p125, .growth_interval = 2});
    tsr_optimizer *a = make_plain_sgd(parameters[0]), *b = make_plain_sgd(parameters[1]);
    assert_true(s != NULL && a != NULL && b != NULL);
    static const float scales[] = {0x1p125f, 0x1p126f, 0x1p126f, 0x1p127f, 0x1p127f, 0x1p127f};
    for (int step = 0; step < 6; step++) {
        set_gradients(r, s, parameters[0], 0x1p-20f, 0x1p-20f);
        require_ok(r, tsr_grad_scaler_unscale(s, a));
        assert_int_equal(tsr_grad_scaler_unscale(s, a), TSR_INVALID_ARGUMENT);
        float g;
        require_ok(r, tsr_read_f32(tsr_grad(parameters[0][1]), (float[SMALL]){0}, SMALL));
        tsr_scope_begin();
        require_ok(r, tsr_read_f32(made(r, tsr_sum(tsr_grad(parameters[0][0]), NULL, 0, false)), &g, 1));
        tsr_scope_end();
        assert_true(g == COUNT * 0x1p-20f);
        require_ok(r, tsr_grad_scaler_step(s, a));
        assert_int_equal(tsr_grad_scaler_step(s, a), TSR_INVALID_ARGUMENT);
        require_ok(r, tsr_grad_scaler_update(s));
        assert_true(number(r, s, "scale") == scales[step]);
    }
    set_gradients(r, s, parameters[0], 0x1p-20f, 0x1p-20f);
    set_gradients(r, s, parameters[1], 0x1p-20f, NAN);
    require_ok(r, tsr_grad_scaler_step(s, a));
    require_ok(r, tsr_grad_scaler_step(s, b));
    require_ok(r, tsr_grad_scaler_update(s));
    assert_int_equal(steps_of(r, a), 7);
    assert_int_equal(steps_of(r, b), 0);
    assert_true(number(r, s, "scale") == 0x1p126f);
    assert_null(tsr_grad_scaler_state(s, "no such"));
    assert_null(tsr_grad_scaler_create(r->device, &(tsr_grad_scaler_options){.growth_factor = 0.5}));
    tsr_optimizer_destroy(a);
    tsr_optimizer_destroy(b);
    tsr_grad_scaler_destroy(s);
    tsr_scope_end();
}

static void test_scale(void **state)
{
    (void)state;
    on_every_device(scale_on);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_autocast),
        cmocka_unit_test(test_parameters),
        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_scale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
