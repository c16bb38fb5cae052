/* max_pool2d and avg_pool2d against loops in double precision, forward and backward. */
#include "tests/op_reference.h"

typedef struct pool_case {
    int64_t n, c, h, w;
    tsr_pool2d_options options;
} pool_case;

static const pool_case cases[] = {
    {2, 3, 8, 10, {.kernel = {2, 2}}},
    {1, 2, 7, 9, {.kernel = {2, 2}}}, /* a row and a column that no window sees */
    {2, 2, 28, 28, {.kernel = {2, 2}}},
    {2, 1, 9, 8, {.kernel = {3, 3}, .stride = {2, 2}, .padding = {1, 1}}},
    {1, 3, 6, 7, {.kernel = {3, 2}, .stride = {1, 1}, .padding = {1, 0}}},
    {1, 1, 5, 5, {.kernel = {2, 3}, .stride = {3, 2}, .padding = {1, 1}}},
    {1, 2, 4, 4, {.kernel = {4, 4}}},
    {1, 2, 5, 6, {.kernel = {1, 1}, .stride = {2, 2}}},
    {1, 1, 3, 3000, {.kernel = {2, 2}, .stride = {1, 2}}},
    {3, 5, 6, 6, {.kernel = {2, 2}, .stride = {4, 4}, .exclude_padding = true}},
    {2, 2, 6, 6, {.kernel = {3, 3}, .stride = {2, 2}, .padding = {1, 1}, .exclude_padding = true}},
};

static void check_pool(const run *r, tsr_dtype dtype, const pool_case *c, bool averages, sample s)
{
    const tsr_pool2d_options *p = &c->options;
    const int64_t sh = p->stride[0] == 0 ? p->kernel[0] : p->stride[0],
                  sw = p->stride[1] == 0 ? p->kernel[1] : p->stride[1];
    const int64_t oh = (c->h + 2 * p->padding[0] - p->kernel[0]) / sh + 1,
                  ow = (c->w + 2 * p->padding[1] - p->kernel[1]) / sw + 1;
    const int64_t xs[] = {c->n, c->c, c->h, c->w}, ys[] = {c->n, c->c, oh, ow};
    double *vx, *vg;
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = random_tensor(r, dtype, 4, xs, s, 61, &vx), *g = random_tensor(r, dtype, 4, ys, s, 62, &vg);
    double *y = calloc((size_t)count_of(4, ys), sizeof *y), *y_sum = calloc((size_t)count_of(4, ys), sizeof *y);
    double *dx = calloc((size_t)count_of(4, xs), sizeof *y), *dx_sum = calloc((size_t)count_of(4, xs), sizeof *y);
    for (int64_t plane = 0; plane < c->n * c->c; plane++)
        for (int64_t oy = 0; oy < oh; oy++)
            for (int64_t ox = 0; ox < ow; ox++) {
                const int64_t at = (plane * oh + oy) * ow + ox;
                int64_t best = -1, inside = 0;
                for (int pass = 0; pass < 2; pass++)
                    for (int64_t ky = 0; ky < p->kernel[0]; ky++)
                        for (int64_t kx = 0; kx < p->kernel[1]; kx++) {
                            const int64_t iy = oy * sh + ky - p->padding[0], ix = ox * sw + kx - p->padding[1];
                            if (iy < 0 || ix < 0 || iy >= c->h || ix >= c->w)
                                continue;
                            const int64_t i = (plane * c->h + iy) * c->w + ix;
                            if (pass == 0) {
                                inside++;
                                best = best < 0 || vx[i] > vx[best] ? i : best;
                                y[at] += averages ? vx[i] : 0;
                                y_sum[at] += averages ? fabs(vx[i]) : 0;
                            } else if (averages) {
                                const double d = (double)(p->exclude_padding ? inside : p->kernel[0] * p->kernel[1]);
                                dx[i] += vg[at] / d;
                                dx_sum[i] += fabs(vg[at] / d);
                            }
                        }
                if (averages) {
                    y[at] /= (double)(p->exclude_padding ? inside : p->kernel[0] * p->kernel[1]);
                } else {
                    y[at] = vx[best];
                    dx[best] += vg[at];
                    dx_sum[best] += fabs(vg[at]);
                }
            }
    require_ok(r, tsr_set_requires_grad(x, true));
    tsr_tensor *out = averages ? tsr_avg_pool2d(x, p) : tsr_max_pool2d(x, p);
    require(r, out);
    const double terms = averages ? (double)(p->kernel[0] * p->kernel[1]) + 1 : 0;
    /* an average of integers is none */
    compare(r, averages ? "avg_pool2d" : "max_pool2d", out, y, y_sum, terms, averages ? REALS : s);
    require_ok(r, tsr_backward_from(out, g, false));
    const double overlaps = (double)((p->kernel[0] / sh + 1) * (p->kernel[1] / sw + 1)) + 1;
    compare(r, averages ? "d x of avg_pool2d" : "d x of max_pool2d", tsr_grad(x), dx, dx_sum, overlaps,
            averages ? REALS : s);
    require_ok(r, tsr_scope_end());
    free(vx), free(vg), free(y), free(y_sum), free(dx), free(dx_sum);
}

static void pools(const run *r)
{
    for (size_t d = 0; d < 4; d++)
        for (size_t i = 0; run_has(r, float_dtypes[d]) && i < sizeof cases / sizeof cases[0]; i++)
            for (int averages = 0; averages < 2; averages++)
                for (int s = INTEGERS; s <= REALS; s++)
                    check_pool(r, float_dtypes[d], &cases[i], averages != 0, (sample)s);
}

static void test_pools(void **state)
{
    (void)state;
    on_every_device(pools);
}

/* NaN counts as largest, the first of equals wins, infinities are numbers. */
static void extremes(const run *r)
{
    const float nan = (float)NAN, inf = INFINITY;
    const float x[4 * 8] = {1,   2, nan,   5, -inf, -inf, 3,  3,  /* */ 0, nan, nan, 9,     -inf, -inf, 3,  3,
                            inf, 1, -0.0f, 0, 7,    8,    -1, -2, /* */ 2, inf, 0,   -0.0f, 8,    7,    -3, nan};
    const float expected[8] = {nan, nan, -inf, 3, inf, 0, 8, nan};
    const int where[8] = {9, 2, 4, 6, 16, 18, 21, 31}; /* the gradient's place for each window */
    require_ok(r, tsr_scope_begin());
    tsr_tensor *t = tsr_from_data(r->device, TSR_F32, 4, (int64_t[]){1, 1, 4, 8}, x);
    require(r, t);
    require_ok(r, tsr_set_requires_grad(t, true));
    tsr_tensor *y = tsr_max_pool2d(t, &(tsr_pool2d_options){.kernel = {2, 2}});
    require(r, y);
    float v[8], dx[32];
    require_ok(r, tsr_read(y, v, sizeof v));
    for (int i = 0; i < 8; i++)
        assert_true(isnan(expected[i]) ? isnan(v[i]) : v[i] == expected[i]);
    require_ok(r, tsr_backward_from(y, NULL, false));
    require_ok(r, tsr_read(tsr_grad(t), dx, sizeof dx));
    for (int i = 0; i < 32; i++) {
        bool hit = false;
        for (int k = 0; k < 8; k++)
            hit = hit || where[k] == i;
        if (dx[i] != (hit ? 1.0f : 0.0f))
            fail_msg("%s: gradient %d is %g", r->name, i, (double)dx[i]);
    }

    /* Windows that overlap go another way; here each sees a whole row of four numbers. */
    y = tsr_max_pool2d(t, &(tsr_pool2d_options){.kernel = {1, 4}, .stride = {1, 2}});
    require(r, y);
    float w[12];
    const float rows[12] = {nan, nan, 3, nan, nan, 3, inf, 8, 8, inf, 8, nan};
    require_ok(r, tsr_read(y, w, sizeof w));
    for (int i = 0; i < 12; i++)
        assert_true(isnan(rows[i]) ? isnan(w[i]) : w[i] == rows[i]);
    require_ok(r, tsr_scope_end());
}

static void test_extremes(void **state)
{
    (void)state;
    on_every_device(extremes);
}

static void expect_error(tsr_tensor *y, const char *part)
{
    assert_null(y);
    if (strstr(tsr_last_error(), part) == NULL)
        fail_msg("'%s' does not say '%s'", tsr_last_error(), part);
    tsr_clear_error();
}

static void test_errors(void **state)
{
    (void)state;
    tsr_device *device = tsr_device_open("cpu");
    assert_non_null(device);
    assert_int_equal(tsr_scope_begin(), TSR_OK);
    tsr_tensor *x = tsr_zeros(device, TSR_F32, 4, (int64_t[]){1, 1, 4, 4}),
               *flat = tsr_zeros(device, TSR_F32, 2, (int64_t[]){4, 4});
    assert_true(x != NULL && flat != NULL);
    expect_error(tsr_max_pool2d(x, NULL), "the options are NULL");
    expect_error(tsr_max_pool2d(x, &(tsr_pool2d_options){.kernel = {0, 2}}), "not kernel 0");
    expect_error(tsr_max_pool2d(flat, &(tsr_pool2d_options){.kernel = {2, 2}}), "x is [n, c, h, w], not [4, 4]");
    expect_error(tsr_avg_pool2d(x, &(tsr_pool2d_options){.kernel = {5, 5}}),
                 "a window of 5 does not fit into the padded size 4");
    expect_error(tsr_avg_pool2d(x, &(tsr_pool2d_options){.kernel = {3, 3}, .padding = {2, 0}}),
                 "at most half the kernel");
    expect_error(tsr_max_pool2d(x, &(tsr_pool2d_options){.kernel = {2, 2}, .stride = {-1, 1}}), "stride -1");
    assert_null(tsr_max_pool2d(NULL, &(tsr_pool2d_options){.kernel = {2, 2}}));
    assert_string_equal(tsr_last_error(), "");
    assert_int_equal(tsr_scope_end(), TSR_OK);
    tsr_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pools),
        cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
