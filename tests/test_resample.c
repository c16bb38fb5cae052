/* resample, interpolate, adaptive_avg_pool2d, conv1d, the one-dimensional pools, outer and dot on every device and in every dtype: against a walk on
 * the host in double, values and derivatives. */
#include "tests/op_reference.h"

#define INTS(...)                                                                                                      \
    (int64_t[])                                                                                                        \
    {                                                                                                                  \
        __VA_ARGS__                                                                                                    \
    }

/* Weight of element i of n in element j of m, from PyTorch's definitions. */
static double weight_of(tsr_resampling mode, int64_t i, int64_t n, int64_t j, int64_t m)
{
    if (mode == TSR_NEAREST)
        return i == (int64_t)floor((double)j * ((double)n / (double)m) + 1e-9);
    if (mode == TSR_MEAN) {
        const int64_t first = (int64_t)floor((double)(j * n) / (double)m),
                      end = (int64_t)ceil((double)((j + 1) * n) / (double)m);
        return i >= first && i < end ? 1.0 / (double)(end - first) : 0;
    }
    double at = mode == TSR_LINEAR_CORNERS ? (m == 1 ? 0 : (double)j * (double)(n - 1) / (double)(m - 1))
                                           : ((double)j + 0.5) * (double)n / (double)m - 0.5;
    at = fmin(fmax(at, 0), (double)n - 1);
    return fmax(0, 1 - fabs(at - (double)i)); /* a hat of width 1 */
}

/* x [a, n, b] along its middle axis. */
static void check(const run *r, tsr_dtype dtype, const int64_t *shape, int64_t m, tsr_resampling mode, sample s)
{
    const int64_t a = shape[0], n = shape[1], b = shape[2], out[] = {a, m, b};
    double *v, *g;
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = tsr_detach(random_tensor(r, dtype, 3, shape, s, 81, &v));
    require_ok(r, tsr_set_requires_grad(x, true));
    tsr_tensor *y = b == 1 ? tsr_resample(tsr_reshape(x, 2, INTS(a, n)), -1, m, mode) : tsr_resample(x, 1, m, mode);
    require(r, y);
    y = tsr_reshape(y, 3, out);
    tsr_tensor *dy = random_tensor(r, dtype, 3, out, s, 82, &g);
    require_ok(r, tsr_backward_from(y, dy, false));
    double *expected = calloc((size_t)(a * m * b), sizeof *v), *sums = calloc((size_t)(a * m * b), sizeof *v);
    double *slope = calloc((size_t)(a * n * b), sizeof *v), *slope_sums = calloc((size_t)(a * n * b), sizeof *v);
    assert_true(expected != NULL && sums != NULL && slope != NULL && slope_sums != NULL);
    for (int64_t o = 0; o < a; o++)
        for (int64_t j = 0; j < m; j++)
            for (int64_t i = 0; i < n; i++) {
                const double w = weight_of(mode, i, n, j, m);
                for (int64_t k = 0; k < b && w != 0; k++) {
                    const int64_t to = (o * m + j) * b + k, from = (o * n + i) * b + k;
                    expected[to] += w * v[from];
                    sums[to] += fabs(w * v[from]);
                    slope[from] += w * g[to];
                    slope_sums[from] += fabs(w * g[to]);
                }
            }
    /* A weight is rounded, then a product and a sum for each term. In f64 the reference's own distances are rounded too, at a size of up to n. */
    const double terms = (double)(n > m ? n / m : m / n) * 2 + 6;
    for (int64_t i = 0; i < a * m * b; i++)
        sums[i] += dtype == TSR_F64 ? (double)n / terms : 0;
    for (int64_t i = 0; i < a * n * b; i++)
        slope_sums[i] += dtype == TSR_F64 ? (double)n / terms : 0;
    compare(r, "resample", y, expected, sums, terms, s);
    compare(r, "resample'", tsr_grad(x), slope, slope_sums, terms, mode == TSR_MEAN ? REALS : s);
    tsr_clear_grad(x);
    free(v), free(g), free(expected), free(sums), free(slope), free(slope_sums);
    require_ok(r, tsr_scope_end());
}

static void resample_on(const run *r)
{
    static const int64_t sizes[][2] = {{5, 5}, {7, 3}, {3, 8}, {1, 4}, {6, 1}, {64, 9}};
    for (int d = 0; d < 4; d++)
        for (int mode = TSR_NEAREST; mode <= TSR_MEAN && run_has(r, float_dtypes[d]); mode++)
            for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
                check(r, float_dtypes[d], INTS(2, sizes[i][0], i % 2 == 0 ? 3 : 1), sizes[i][1], (tsr_resampling)mode,
                      REALS);
                if (mode == TSR_NEAREST)
                    check(r, float_dtypes[d], INTS(2, sizes[i][0], i % 2 == 0 ? 1 : 70), sizes[i][1], TSR_NEAREST,
                          INTEGERS);
            }
}

static void test_resample(void **state)
{
    (void)state;
    on_every_device(resample_on);
}

static void expect(const run *r, const char *what, tsr_tensor *got, int count, const float *values)
{
    float v[32];
    if (got == NULL)
        fail_msg("%s on %s: %s", what, r->name, tsr_last_error());
    assert_int_equal(tsr_numel(got), count);
    require_ok(r, tsr_read_f32(got, v, (size_t)count));
    for (int i = 0; i < count; i++)
        if (v[i] != values[i])
            fail_msg("%s on %s: element %d: %.9g for %.9g", what, r->name, i, (double)v[i], (double)values[i]);
}

/* What PyTorch's documentation shows, and sums of small integers: exact. */
static void known_on(const run *r)
{
    require_ok(r, tsr_scope_begin());
    const float four[] = {1, 2, 3, 4}, one[] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    tsr_tensor *x = tsr_from_data(r->device, TSR_F32, 4, INTS(1, 1, 2, 2), four);
    expect(r, "nearest", tsr_interpolate(x, 2, INTS(4, 4), TSR_NEAREST), 16,
           (float[]){1, 1, 2, 2, 1, 1, 2, 2, 3, 3, 4, 4, 3, 3, 4, 4});
    expect(r, "bilinear", tsr_interpolate(x, 2, INTS(4, 4), TSR_LINEAR), 16,
           (float[]){1, 1.25f, 1.75f, 2, 1.5f, 1.75f, 2.25f, 2.5f, 2.5f, 2.75f, 3.25f, 3.5f, 3, 3.25f, 3.75f, 4});
    expect(r, "bilinear with corners", tsr_interpolate(x, 2, INTS(3, 3), TSR_LINEAR_CORNERS), 9,
           (float[]){1, 1.5f, 2, 2, 2.5f, 3, 3, 3.5f, 4});
    x = tsr_from_data(r->device, TSR_F32, 4, INTS(1, 1, 3, 3), one);
    expect(r, "adaptive_avg_pool2d", tsr_adaptive_avg_pool2d(x, 2, 2), 4, (float[]){3, 4, 6, 7});
    expect(r, "adaptive_avg_pool2d to one", tsr_adaptive_avg_pool2d(x, 1, 1), 1, (float[]){5});

    tsr_tensor *line = tsr_from_data(r->device, TSR_F32, 3, INTS(1, 1, 9), one);
    tsr_tensor *w = tsr_from_data(r->device, TSR_F32, 3, INTS(1, 1, 2), (float[]){1, -2});
    tsr_tensor *bias = tsr_full(r->device, TSR_F32, 1, INTS(1), 10);
    require_ok(r, tsr_set_requires_grad(w, true));
    tsr_tensor *y = tsr_conv1d(line, w, bias, &(tsr_conv1d_options){.stride = 3, .padding = 1, .dilation = 2});
    expect(r, "conv1d", y, 3,
           (float[]){10 - 4, 10 + 3 - 10, 10 + 6 - 16}); /* x[-1] - 2 x[1], x[2] - 2 x[4], x[5] - 2 x[7] */
    require_ok(r, tsr_backward(tsr_sum(y, NULL, 0, false)));
    expect(r, "conv1d'", tsr_grad(w), 2, (float[]){9, 15});
    tsr_clear_grad(w);
    const tsr_pool1d_options pool = {.kernel = 3, .stride = 2, .padding = 1};
    expect(r, "max_pool1d", tsr_max_pool1d(line, &pool), 5, (float[]){2, 4, 6, 8, 9});
    expect(r, "avg_pool1d", tsr_avg_pool1d(line, &pool), 5, (float[]){1, 3, 5, 7, 17 / 3.0f});
    expect(r, "avg_pool1d without padding",
           tsr_avg_pool1d(line, &(tsr_pool1d_options){.kernel = 3, .stride = 2, .padding = 1, .exclude_padding = true}),
           5, (float[]){1.5f, 3, 5, 7, 8.5f});

    tsr_tensor *a = tsr_from_data(r->device, TSR_F32, 1, INTS(2), four),
               *b = tsr_from_data(r->device, TSR_F32, 1, INTS(3), one);
    require_ok(r, tsr_set_requires_grad(a, true));
    y = tsr_outer(a, b);
    expect(r, "outer", y, 6, (float[]){1, 2, 3, 2, 4, 6});
    require_ok(r, tsr_backward(tsr_sum(y, NULL, 0, false)));
    expect(r, "outer'", tsr_grad(a), 2, (float[]){6, 6});
    tsr_clear_grad(a);
    tsr_tensor *c = tsr_from_data(r->device, TSR_F32, 1, INTS(2), (float[]){5, -3});
    y = tsr_dot(a, c);
    expect(r, "dot", y, 1, (float[]){-1});
    assert_int_equal(tsr_rank(y), 0);
    require_ok(r, tsr_backward(y));
    expect(r, "dot'", tsr_grad(a), 2, (float[]){5, -3});
    tsr_clear_grad(a);

    assert_null(tsr_dot(a, b));
    assert_null(tsr_outer(a, x));
    assert_null(tsr_interpolate(x, 1, INTS(4), TSR_LINEAR));
    assert_null(tsr_interpolate(x, 2, INTS(4, 0), TSR_LINEAR));
    assert_null(tsr_interpolate(x, 2, INTS(4, 4), TSR_MEAN));
    assert_null(tsr_adaptive_avg_pool2d(line, 1, 1));
    assert_null(tsr_conv1d(x, w, NULL, NULL));
    assert_null(tsr_conv1d(line, x, NULL, NULL));
    assert_null(tsr_max_pool1d(line, NULL));
    assert_null(tsr_avg_pool1d(a, &pool));
    require_ok(r, tsr_scope_end());
}

static void test_known(void **state)
{
    (void)state;
    on_every_device(known_on);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resample),
        cmocka_unit_test(test_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
