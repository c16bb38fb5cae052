/* layer_norm, rms_norm, group_norm and instance_norm on every device and in every dtype: values and derivatives against long double,
 * element by element; rows of any length, strides, empty tensors, mixed dtypes, errors. */
#include "tests/op_reference.h"

typedef enum kind { LAYER, RMS, GROUP, INSTANCE } kind;

typedef struct row {
    const char *name;
    kind kind;
    int rank;
    int64_t shape[4];
    int64_t arg;     /* LAYER, RMS: how many last dimensions; GROUP: how many groups */
    double offset;   /* x in [offset - 1, offset + 1) */
    bool transposed; /* the last two dimensions */
    int affine;      /* bit 0: weight, bit 1: bias */
} row;

static const row rows[] = {
    {"one", LAYER, 1, {1}, 1, 0, false, 3},
    {"row", LAYER, 2, {3, 7}, 1, 0, false, 3},
    {"plain", LAYER, 2, {3, 65}, 1, 0, false, 0},
    {"bias alone", LAYER, 2, {2, 9}, 1, 0, false, 2},
    {"two dimensions", LAYER, 4, {2, 2, 3, 33}, 2, 1, false, 3},
    {"transposed", LAYER, 3, {2, 12, 66}, 1, 0, true, 3},
    {"far from 0", LAYER, 2, {2, 130}, 1, 8, false, 1},
    {"long", LAYER, 2, {2, 8193}, 1, 0, false, 3},
    {"no rows", LAYER, 2, {0, 5}, 1, 0, false, 3},
    {"no columns", LAYER, 2, {3, 0}, 1, 0, false, 3},
    {"row", RMS, 2, {3, 67}, 1, 0, false, 1},
    {"plain", RMS, 3, {2, 3, 64}, 2, 1, false, 0},
    {"groups", GROUP, 4, {2, 6, 3, 5}, 3, 0, false, 3},
    {"one group", GROUP, 3, {2, 4, 33}, 1, 0, false, 3},
    {"no space", GROUP, 2, {3, 8}, 2, 0, false, 1},
    {"transposed", GROUP, 4, {1, 4, 9, 7}, 2, 0, true, 2},
    {"no images", GROUP, 4, {0, 4, 2, 2}, 2, 0, false, 3},
    {"planes", INSTANCE, 4, {2, 3, 4, 17}, 0, 0, false, 3},
    {"lines", INSTANCE, 3, {2, 3, 70}, 0, 0, false, 0},
};

/* How x falls into rows and which weight element i of row r has. */
typedef struct layout {
    int64_t rows, cols, groups, span, weights;
} layout;

static layout layout_of(const row *c)
{
    const int64_t total = count_of(c->rank, c->shape);
    layout l = {0};
    if (c->kind <= RMS) {
        l.cols = l.weights = count_of((int)c->arg, c->shape + c->rank - c->arg);
        l.span = l.groups = 1;
        l.rows = count_of(c->rank - (int)c->arg, c->shape);
        return l;
    }
    l.groups = c->kind == GROUP ? c->arg : c->shape[1];
    l.weights = c->shape[1];
    l.span = count_of(c->rank - 2, c->shape + 2);
    l.rows = c->shape[0] * l.groups;
    l.cols = l.rows == 0 ? 0 : total / l.rows;
    return l;
}

static int64_t weight_of(const row *c, const layout *l, int64_t r, int64_t i)
{
    return c->kind <= RMS ? i : r % l->groups * (l->weights / l->groups) + i / l->span;
}

static tsr_tensor *apply(const row *c, tsr_tensor *x, tsr_tensor *w, tsr_tensor *b, double epsilon)
{
    switch (c->kind) {
    case LAYER: return tsr_layer_norm(x, (int)c->arg, c->shape + c->rank - c->arg, w, b, epsilon);
    case RMS: return tsr_rms_norm(x, (int)c->arg, c->shape + c->rank - c->arg, w, epsilon);
    case GROUP: return tsr_group_norm(x, c->arg, w, b, epsilon);
    default: return tsr_instance_norm(x, w, b, epsilon);
    }
}

/* Additions on the longest path of a canonical sum of n numbers. */
static double depth_of(int64_t n)
{
    double depth = 0;
    for (int64_t m = n; m > 1; m = (m + 8191) / 8192)
        depth += (double)((m < 8192 ? m : 8192) + 63) / 64 + 6;
    return depth + 1;
}

static void within(const run *r, const char *what, const row *c, tsr_dtype dtype, int64_t i, double got,
                   long double expected, double bound)
{
    if (!(fabsl((long double)got - expected) <= (long double)bound))
        fail_msg("%s (%d), %s, %s on %s: element %lld: %.9g for %.9Lg, error %.3Lg, bound %.3g", what, c->kind, c->name,
                 tsr_dtype_name(dtype), r->name, (long long)i, got, expected, fabsl((long double)got - expected),
                 bound);
}

static tsr_tensor *leaf(const run *r, tsr_tensor *t)
{
    require(r, t);
    t = tsr_detach(t);
    require(r, t);
    require_ok(r, tsr_set_requires_grad(t, true));
    return t;
}

/* `mixed`: weight and bias are f32 beside a 16-bit x. */
static void check(const run *r, const row *c, tsr_dtype dtype, bool mixed)
{
    const layout l = layout_of(c);
    const int64_t total = count_of(c->rank, c->shape);
    const double epsilon = 1e-5, u = accumulator_roundoff(dtype), store = unit_roundoff(dtype);
    const tsr_dtype affine = mixed ? TSR_F32 : dtype;
    const bool centred = c->kind != RMS, has_weight = (c->affine & 1) != 0, has_bias = (c->affine & 2) != 0;
    double *v, *w, *b, *dy;
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = random_tensor(r, dtype == TSR_F64 ? TSR_F64 : TSR_F32, c->rank, c->shape, REALS, 31, &v);
    free(v);
    x = tsr_cast(tsr_affine(x, 1, c->offset), dtype);
    if (c->transposed)
        x = tsr_transpose(tsr_clone(tsr_transpose(x, -1, -2)), -1, -2);
    x = leaf(r, x);
    v = values_of(r, x);
    const int64_t *wshape = c->kind <= RMS ? c->shape + c->rank - c->arg : &c->shape[1];
    const int wrank = c->kind <= RMS ? (int)c->arg : 1;
    tsr_tensor *weight = leaf(r, random_tensor(r, affine, wrank, wshape, REALS, 32, &w));
    tsr_tensor *bias = leaf(r, random_tensor(r, affine, wrank, wshape, REALS, 33, &b));
    tsr_tensor *y = apply(c, x, has_weight ? weight : NULL, has_bias ? bias : NULL, epsilon);
    require(r, y);
    tsr_tensor *g = random_tensor(r, dtype, c->rank, c->shape, REALS, 34, &dy);
    require_ok(r, tsr_backward_from(y, g, false));
    double *got = values_of(r, y), *slope = values_of(r, tsr_grad(x));
    double *dw = calloc((size_t)l.weights + 1, sizeof *dw), *dw_bound = calloc((size_t)l.weights + 1, sizeof *dw);
    double *db = calloc((size_t)l.weights + 1, sizeof *db), *db_sum = calloc((size_t)l.weights + 1, sizeof *db);
    assert_true(dw != NULL && dw_bound != NULL && db != NULL && db_sum != NULL);
    const double n = (double)l.cols, depth = depth_of(l.cols);
    for (int64_t k = 0; k < l.rows && l.cols > 0; k++) {
        const double *row_x = v + k * l.cols, *row_dy = dy + k * l.cols;
        long double m = 0, square = 0, sum_g = 0, dot = 0;
        double magnitude = 0, sum_abs_g = 0, sum_abs_dot = 0;
        for (int64_t i = 0; i < l.cols; i++) {
            m += row_x[i];
            magnitude += fabs(row_x[i]);
        }
        m = centred ? m / (long double)n : 0;
        for (int64_t i = 0; i < l.cols; i++)
            square += (row_x[i] - m) * (row_x[i] - m);
        const long double s = 1 / sqrtl(square / (long double)n + epsilon);
        /* The mean: its sum's roundings and the quotient's. The deviations' mean square: a wrong mean adds its square, the differences two
         * roundings each, the sum its own; half of that reaches the root, and what the square root and two quotients round. */
        const double mean_error = centred ? u * ((depth + 1) * magnitude / n + fabs((double)m)) : 0;
        const double shift = mean_error * (double)s;
        const double relative = 0.5 * (u * (depth + 7) + shift * shift) + 4 * u;
        for (int64_t i = 0; i < l.cols; i++) {
            const double weight_i = has_weight ? w[weight_of(c, &l, k, i)] : 1;
            const double xhat = (double)((row_x[i] - m) * s), gi = row_dy[i] * weight_i;
            sum_g += gi;
            dot += (long double)gi * xhat;
            sum_abs_g += fabs(gi);
            sum_abs_dot += fabs(gi * xhat);
        }
        const double a = centred ? (double)sum_g / n : 0, d = (double)dot / n;
        const double xhat_error = shift + u; /* beside `relative`, which is relative to xhat */
        const double a_error = centred ? u * (depth + 3) * sum_abs_g / n : 0;
        const double d_error = (u * (depth + 5) + relative) * sum_abs_dot / n + xhat_error * sum_abs_g / n;
        for (int64_t i = 0; i < l.cols; i++) {
            const int64_t at = k * l.cols + i, j = weight_of(c, &l, k, i);
            const double weight_i = has_weight ? w[j] : 1, bias_i = has_bias ? b[j] : 0;
            const long double xhat = (row_x[i] - m) * s, expected = xhat * weight_i + bias_i;
            const double h = fabs((double)xhat), value = fabs((double)expected);
            const double error = fabs(weight_i) * (xhat_error + h * (relative + 3 * u)) + u * (value + fabs(bias_i));
            within(r, "norm", c, dtype, at, got[at], expected, 1.02 * (error + store * value) + smallest_half(dtype));
            const long double gi = (long double)row_dy[i] * weight_i;
            const long double dx = s * (gi - a - xhat * d);
            const double parts = fabs((double)gi) + fabs(a) + h * fabs(d);
            const double dx_error =
                (double)s * (a_error + h * d_error + fabs(d) * (xhat_error + h * (relative + 3 * u)) + 5 * u * parts +
                             relative * parts);
            within(r, "norm's dx", c, dtype, at, slope[at], dx,
                   1.02 * (dx_error + store * fabs((double)dx)) + smallest_half(dtype));
            dw[j] += row_dy[i] * (double)xhat;
            dw_bound[j] += fabs(row_dy[i]) * (xhat_error + h * (relative + 3 * u));
            db[j] += row_dy[i];
            db_sum[j] += fabs(row_dy[i]);
        }
    }
    const double long_sum = u * (2 * depth_of(l.weights == 0 ? 0 : total / l.weights) + 12) + 0x1p-50;
    for (int which = 0; which < 2; which++) {
        tsr_tensor *t = which == 0 ? weight : bias;
        if (!(which == 0 ? has_weight : has_bias)) {
            assert_null(tsr_grad(t));
            continue;
        }
        if (tsr_grad(t) == NULL)
            fail_msg("norm (%d), %s on %s: no gradient of %s", c->kind, c->name, r->name,
                     which == 0 ? "weight" : "bias");
        assert_int_equal(tsr_dtype_of(tsr_grad(t)), affine);
        double *gt = values_of(r, tsr_grad(t));
        for (int64_t j = 0; j < l.weights; j++) {
            const double expected = which == 0 ? dw[j] : db[j];
            /* |xhat| ≤ sqrt(cols): with it the magnitude of the terms */
            const double sum = which == 0 ? db_sum[j] * sqrt(n) : db_sum[j];
            within(r, which == 0 ? "norm's dw" : "norm's db", c, affine, j, gt[j], expected,
                   1.02 * ((which == 0 ? dw_bound[j] : 0) + long_sum * sum + unit_roundoff(affine) * fabs(expected)) +
                       smallest_half(affine));
        }
        free(gt);
        tsr_clear_grad(t);
    }
    tsr_clear_grad(x);
    free(v), free(w), free(b), free(dy), free(got), free(slope), free(dw), free(dw_bound), free(db), free(db_sum);
    require_ok(r, tsr_scope_end());
}

static void norms_on(const run *r)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int d = 0; d < 4; d++)
            if (run_has(r, float_dtypes[d])) {
                check(r, &rows[i], float_dtypes[d], false);
                if (i < 3 && float_dtypes[d] == TSR_BF16)
                    check(r, &rows[i], float_dtypes[d], true);
            }
}

static void test_norms(void **state)
{
    (void)state;
    on_every_device(norms_on);
}

/* Rows whose mean and variance are exact: 1 3 1 3 … gives -1 1 -1 1 … with variance 1, without an epsilon to the last bit. By name, with the
 * defaults, too. */
static void exact_on(const run *r)
{
    float x[128], y[128];
    const int64_t shape[] = {2, 64}, cols = 64;
    for (int i = 0; i < 128; i++)
        x[i] = i % 2 == 0 ? 1 : 3;
    require_ok(r, tsr_scope_begin());
    tsr_tensor *t = tsr_from_data(r->device, TSR_F32, 2, shape, x);
    require_ok(r, tsr_read_f32(tsr_layer_norm(t, 1, &cols, NULL, NULL, 0), y, 128));
    for (int i = 0; i < 128; i++)
        assert_true(y[i] == x[i] - 2);
    tsr_tensor *out[3] = {NULL}, *two = tsr_full(r->device, TSR_F32, 1, &cols, 2);
    const tsr_attr attr = {.name = "normalized_shape", .kind = TSR_ATTR_INTS, .values = &cols, .count = 1};
    require_ok(r, tsr_op_call("layer_norm", (tsr_tensor *[]){t, two, two}, 3, out, 3, &attr, 1));
    require_ok(r, tsr_read_f32(out[0], y, 128));
    for (int i = 0; i < 128; i++)
        assert_true(fabsf(y[i] - (2 * (x[i] - 2) / (float)sqrt(1.00001) + 2)) <= 1e-6f);
    const float constant = 7; /* no variance: only the epsilon divides */
    require_ok(r,
               tsr_read_f32(
                   tsr_layer_norm(tsr_expand(tsr_from_data(r->device, TSR_F32, 1, (int64_t[]){1}, &constant), 2, shape),
                                  1, &cols, NULL, NULL, 1e-5),
                   y, 128));
    for (int i = 0; i < 128; i++)
        assert_true(y[i] == 0);
    require_ok(r, tsr_scope_end());
}

static void test_exact(void **state)
{
    (void)state;
    on_every_device(exact_on);
}

static void test_errors(void **state)
{
    (void)state;
    tsr_device *cpu = tsr_device_open("cpu");
    assert_non_null(cpu);
    tsr_scope_begin();
    tsr_tensor *x = tsr_zeros(cpu, TSR_F32, 2, (int64_t[]){4, 6}), *w = tsr_zeros(cpu, TSR_F32, 1, (int64_t[]){4});
    assert_null(tsr_layer_norm(x, 1, (int64_t[]){4}, NULL, NULL, 1e-5));
    assert_non_null(strstr(tsr_last_error(), "[4, 6]"));
    assert_null(tsr_layer_norm(x, 1, (int64_t[]){6}, w, NULL, 1e-5));
    assert_non_null(strstr(tsr_last_error(), "weight"));
    assert_null(tsr_layer_norm(x, 3, (int64_t[]){1, 4, 6}, NULL, NULL, 1e-5));
    assert_null(tsr_layer_norm(x, 1, NULL, NULL, NULL, 1e-5));
    assert_null(tsr_layer_norm(x, 1, (int64_t[]){6}, NULL, NULL, -1));
    assert_null(tsr_layer_norm(NULL, 1, (int64_t[]){6}, NULL, NULL, 1e-5));
    assert_null(tsr_group_norm(x, 4, NULL, NULL, 1e-5));
    assert_null(tsr_group_norm(x, 0, NULL, NULL, 1e-5));
    assert_null(tsr_group_norm(w, 1, NULL, NULL, 1e-5));
    assert_null(tsr_rms_norm(tsr_zeros(cpu, TSR_I32, 1, (int64_t[]){6}), 1, (int64_t[]){6}, NULL, 1e-5));
    assert_int_equal(tsr_last_status(), TSR_UNSUPPORTED);
    tsr_scope_end();
    tsr_device_close(cpu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_norms),
        cmocka_unit_test(test_exact),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
