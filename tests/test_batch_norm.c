/* batch_norm2d on every device and in every dtype: results, running statistics and derivatives against double, in training and
 * evaluation, with and without an affine map; integers exactly; bad input. */
#include "tests/op_reference.h"

typedef struct row {
    const char *name;
    int rank;
    int64_t shape[4];
    bool training, affine, running, strided;
    double momentum, epsilon;
} row;

static const row rows[] = {
    {"images", 4, {4, 3, 5, 7}, true, true, true, false, 0.1, 1e-5},
    {"images, evaluation", 4, {4, 3, 5, 7}, false, true, true, false, 0.1, 1e-5},
    {"vectors", 2, {33, 6}, true, true, true, false, 0.3, 1e-3},
    {"vectors, evaluation", 2, {33, 6}, false, true, true, false, 0.3, 1e-3},
    {"no affine map", 4, {3, 5, 4, 4}, true, false, true, false, 1.0, 1e-5},
    {"no running statistics", 4, {3, 5, 4, 4}, true, true, false, false, 0.1, 1e-5},
    {"nothing but x", 2, {70, 4}, true, false, false, false, 0.1, 1e-5},
    {"no affine map, evaluation", 2, {7, 65}, false, false, true, false, 0.1, 1e-5},
    {"transposed", 4, {4, 3, 6, 5}, true, true, true, true, 0.1, 1e-5},
    {"large planes", 4, {2, 2, 96, 90}, true, true, true, false, 0.1, 1e-5},
    {"one of one", 4, {1, 3, 1, 1}, false, true, true, false, 0.1, 1e-5},
    {"two values", 4, {2, 3, 1, 1}, true, true, true, false, 0.1, 1e-2},
};

static void within(const run *r, const row *c, tsr_dtype dtype, const char *what, int64_t i, double got,
                   double expected, double bound)
{
    if (!(fabs(got - expected) <= bound))
        fail_msg("%s of %s %s on %s: element %lld: %.9g for %.9g, error %.3g, bound %.3g", what, c->name,
                 tsr_dtype_name(dtype), r->name, (long long)i, got, expected, fabs(got - expected), bound);
}

/* [c] values in [centre - width, centre + width) as the statistics' dtype. */
static tsr_tensor *vector(const run *r, tsr_dtype carried, int64_t n, double centre, double width, uint32_t seed,
                          double **values)
{
    double *unit;
    tsr_tensor *t = random_tensor(r, carried, 1, &n, REALS, seed, &unit);
    free(unit);
    t = tsr_detach(tsr_affine(t, width, centre));
    require(r, t);
    *values = values_of(r, t);
    return t;
}

static void check(const run *r, const row *c, tsr_dtype dtype)
{
    const tsr_dtype carried = dtype == TSR_F64 ? TSR_F64 : TSR_F32;
    const double u = accumulator_roundoff(dtype), store = unit_roundoff(dtype);
    const int64_t n = c->shape[0], channels = c->shape[1], cols = count_of(c->rank - 2, c->shape + 2), count = n * cols;
    double *x, *dy, *w, *b, *mean0, *var0;
    require_ok(r, tsr_scope_begin());
    tsr_tensor *tx = random_tensor(r, dtype, c->rank, c->shape, REALS, 31, &x);
    if (c->strided)
        tx = tsr_detach(tsr_transpose(tsr_clone(tsr_transpose(tx, 1, 3)), 1, 3));
    require_ok(r, tsr_set_requires_grad(tx, true));
    tsr_tensor *tdy = random_tensor(r, dtype, c->rank, c->shape, REALS, 32, &dy);
    tsr_tensor *tw = vector(r, carried, channels, 1, 0.5, 33, &w), *tb = vector(r, carried, channels, 0, 1, 34, &b);
    tsr_tensor *tm = vector(r, carried, channels, 0, 0.3, 35, &mean0),
               *tv = vector(r, carried, channels, 0.8, 0.4, 36, &var0);
    require_ok(r, tsr_set_requires_grad(tw, true));
    require_ok(r, tsr_set_requires_grad(tb, true));
    tsr_tensor *y = tsr_batch_norm2d(tx, c->affine ? tw : NULL, c->affine ? tb : NULL, c->running ? tm : NULL,
                                     c->running ? tv : NULL, c->training, c->momentum, c->epsilon);
    require(r, y);
    assert_int_equal(tsr_dtype_of(y), dtype);
    require_ok(r, tsr_backward_from(y, tdy, false));
    double *got = values_of(r, y), *dx = values_of(r, tsr_grad(tx)), *mean1 = values_of(r, tm),
           *var1 = values_of(r, tv);
    double *dw = c->affine ? values_of(r, tsr_grad(tw)) : NULL, *db = c->affine ? values_of(r, tsr_grad(tb)) : NULL;
    /* Additions of a canonical sum over a plane, and over the batch. */
    const double depth = (double)((cols < 8192 ? cols : 8192) + 63) / 64 + 14 + (double)(n + 63) / 64;

    for (int64_t k = 0; k < channels; k++) {
        long double sum = 0, squares = 0, sum_dy = 0, sum_dy_xhat = 0;
        double largest = 0, dy_size = 0, dy_xhat_size = 0, x_size = 0;
        for (int64_t i = 0; i < count; i++) {
            const double v = x[(i / cols * channels + k) * cols + i % cols];
            sum += v;
            x_size += fabs(v);
        }
        const double mean = c->training ? (double)(sum / count) : mean0[k];
        for (int64_t i = 0; i < count; i++) {
            const long double v = (long double)x[(i / cols * channels + k) * cols + i % cols] - mean;
            squares += v * v;
        }
        const double variance = c->training ? (double)(squares / count) : var0[k];
        const double inverse = 1 / sqrt(variance + c->epsilon), weight = c->affine ? w[k] : 1,
                     bias = c->affine ? b[k] : 0;
        /* Errors of the mean, absolute; of the variance and so of the inverse, relative. A wrong mean shifts each deviation. */
        const double mean_error = c->training ? u * (depth + 2) * x_size / (double)count + u * fabs(mean) : 0;
        const double variance_error =
            c->training ? u * (depth + 6) * variance + 2 * sqrt(variance) * mean_error + mean_error * mean_error : 0;
        const double inverse_error =
            0.5 * (variance_error + 4 * u * (variance + c->epsilon)) / (variance + c->epsilon) + 3 * u;

        const double moved = c->training && c->running ? c->momentum : 0;
        const double unbiased = count > 1 ? variance * (double)count / (double)(count - 1) : 0;
        const double mean_expected = (1 - moved) * mean0[k] + moved * mean,
                     var_expected = (1 - moved) * var0[k] + (moved > 0 ? moved * unbiased : 0);
        if (moved == 0) {
            assert_true(mean1[k] == mean0[k] && var1[k] == var0[k]);
        } else {
            within(r, c, dtype, "running mean", k, mean1[k], mean_expected,
                   6 * u * (fabs(mean0[k]) + fabs(mean)) + moved * mean_error);
            within(r, c, dtype, "running variance", k, var1[k], var_expected,
                   8 * u * (var0[k] + unbiased) +
                       moved * variance_error * (double)count / fmax(1, (double)(count - 1)));
        }
        for (int64_t i = 0; i < count; i++) {
            const int64_t at = (i / cols * channels + k) * cols + i % cols;
            const double xhat = (x[at] - mean) * inverse, expected = xhat * weight + bias;
            const double xhat_error =
                mean_error * inverse + u * (fabs(x[at]) + fabs(mean)) * inverse + (inverse_error + 3 * u) * fabs(xhat);
            within(r, c, dtype, "y", at, got[at], expected,
                   1.05 * (xhat_error * fabs(weight) + 2 * u * (fabs(xhat * weight) + fabs(bias)) +
                           store * fabs(expected)) +
                       smallest_half(dtype));
            sum_dy += dy[at];
            sum_dy_xhat += (long double)dy[at] * xhat;
            dy_size += fabs(dy[at]);
            dy_xhat_size += fabs(dy[at]) * (u * (depth + 3) * fabs(xhat) + xhat_error);
            largest = fmax(largest, fabs(xhat));
        }
        const double sum_error = u * (depth + 2) * dy_size + u * fabs((double)sum_dy);
        if (c->affine) {
            within(r, c, dtype, "bias'", k, db[k], (double)sum_dy, 1.05 * sum_error);
            within(r, c, dtype, "weight'", k, dw[k], (double)sum_dy_xhat,
                   1.05 * (dy_xhat_size + u * fabs((double)sum_dy_xhat)));
        }
        const double part = c->training ? 1 / (double)count : 0;
        for (int64_t i = 0; i < count; i++) {
            const int64_t at = (i / cols * channels + k) * cols + i % cols;
            const double xhat = (x[at] - mean) * inverse, a = (double)sum_dy * part, d = (double)sum_dy_xhat * part;
            const double slope = (dy[at] - a - xhat * d) * inverse * weight;
            const double xhat_error =
                mean_error * inverse + u * (fabs(x[at]) + fabs(mean)) * inverse + (inverse_error + 3 * u) * fabs(xhat);
            const double inside = sum_error * part + dy_xhat_size * part * fabs(xhat) + xhat_error * fabs(d) +
                                  5 * u * (fabs(dy[at]) + fabs(a) + fabs(xhat * d));
            within(r, c, dtype, "x'", at, dx[at], slope,
                   1.05 * (inside * inverse * fabs(weight) + (inverse_error + 4 * u + store) * fabs(slope)) +
                       smallest_half(dtype));
        }
        assert_true(largest < 1e3); /* the bounds above stay meaningful */
    }
    tsr_clear_grad(tx);
    tsr_clear_grad(tw);
    tsr_clear_grad(tb);
    double *all[] = {x, dy, w, b, mean0, var0, got, dx, mean1, var1, dw, db};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    require_ok(r, tsr_scope_end());
}

static void batch_norm_on(const run *r)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int d = 0; d < 4; d++)
            if (run_has(r, float_dtypes[d]))
                check(r, &rows[i], float_dtypes[d]);
}

static void test_batch_norm(void **state)
{
    (void)state;
    on_every_device(batch_norm_on);
}

/* Numbers whose every step is exact: mean 1, biased variance 4, epsilon 0, and statistics that halve. */
static void exact_on(const run *r)
{
    static const float x[] = {-1, 3, 3, -1, 3, -1, -1, 3};
    float got[8], running[1];
    const int64_t one = 1;
    require_ok(r, tsr_scope_begin());
    tsr_tensor *t = tsr_from_data(r->device, TSR_F32, 4, (int64_t[]){2, 1, 2, 2}, x);
    tsr_tensor *mean = tsr_full(r->device, TSR_F32, 1, &one, 5), *variance = tsr_full(r->device, TSR_F32, 1, &one, 2);
    tsr_tensor *weight = tsr_full(r->device, TSR_F32, 1, &one, 3), *bias = tsr_full(r->device, TSR_F32, 1, &one, 0.5);
    require_ok(r, tsr_read_f32(tsr_batch_norm2d(t, weight, bias, mean, variance, true, 0.5, 0), got, 8));
    for (int i = 0; i < 8; i++)
        assert_true(got[i] == (x[i] - 1) / 2 * 3 + 0.5f);
    require_ok(r, tsr_read_f32(mean, running, 1));
    assert_true(running[0] == 3);
    require_ok(r, tsr_read_f32(variance, running, 1));
    assert_true(fabsf(running[0] - (1 + 4.0f * 8 / 7 / 2)) <= 4 * 0x1p-23f); /* unbiased: 8 / 7 of the batch's */
    require_ok(r, tsr_scope_end());
}

static void errors_on(const run *r)
{
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = tsr_zeros(r->device, TSR_F32, 2, (int64_t[]){4, 3}),
               *c3 = tsr_zeros(r->device, TSR_F32, 1, (int64_t[]){3});
    tsr_tensor *c4 = tsr_zeros(r->device, TSR_F32, 1, (int64_t[]){4}),
               *i3 = tsr_zeros(r->device, TSR_I32, 1, (int64_t[]){3});
    assert_null(
        tsr_batch_norm2d(tsr_zeros(r->device, TSR_F32, 3, (int64_t[]){4, 3, 2}), c3, c3, c3, c3, true, 0.1, 1e-5));
    assert_non_null(strstr(tsr_last_error(), "[4, 3, 2]"));
    assert_null(tsr_batch_norm2d(x, c4, c3, c3, c3, true, 0.1, 1e-5));
    assert_non_null(strstr(tsr_last_error(), "weight"));
    assert_null(tsr_batch_norm2d(x, c3, c3, c3, c4, true, 0.1, 1e-5));
    assert_null(tsr_batch_norm2d(x, i3, c3, c3, c3, true, 0.1, 1e-5));
    assert_null(tsr_batch_norm2d(x, c3, c3, c3, NULL, true, 0.1, 1e-5));
    assert_null(tsr_batch_norm2d(x, c3, c3, NULL, NULL, false, 0.1, 1e-5));
    assert_null(
        tsr_batch_norm2d(tsr_slice(x, 0, 0, 1, 1), c3, c3, c3, c3, true, 0.1, 1e-5)); /* a variance of one value */
    assert_int_equal(tsr_last_status(), TSR_INVALID_ARGUMENT);
    assert_null(tsr_batch_norm2d(tsr_slice(x, 0, 0, 0, 1), c3, c3, c3, c3, true, 0.1, 1e-5));
    assert_null(tsr_batch_norm2d(NULL, c3, c3, c3, c3, true, 0.1, 1e-5));
    assert_null(tsr_batch_norm2d(tsr_zeros(r->device, TSR_I32, 2, (int64_t[]){4, 3}), c3, c3, c3, c3, true, 0.1, 1e-5));
    assert_int_equal(tsr_last_status(), TSR_UNSUPPORTED);
    /* No rows in evaluation: an empty result, and derivatives of 0 for the affine map. */
    require_ok(r, tsr_set_requires_grad(c3, true));
    tsr_tensor *y =
        tsr_batch_norm2d(tsr_slice(x, 0, 0, 0, 1), c3, c3, tsr_detach(c3), tsr_detach(c3), false, 0.1, 1e-5);
    require(r, y);
    assert_int_equal(tsr_numel(y), 0);
    require_ok(r, tsr_backward_from(y, NULL, false));
    float g[3];
    require_ok(r, tsr_read_f32(tsr_grad(c3), g, 3));
    assert_true(g[0] == 0 && g[1] == 0 && g[2] == 0);
    tsr_clear_grad(c3);
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
    on_every_device(errors_on);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_batch_norm), cmocka_unit_test(test_exact),
                                       cmocka_unit_test(test_errors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
