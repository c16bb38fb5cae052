/* conv2d against seven loops in double precision, forward and backward. */
#include "tests/op_reference.h"

typedef struct conv_case {
    int64_t n, c, h, w, o, kh, kw;
    tsr_conv2d_options options;
} conv_case;

static const conv_case cases[] = {
    {2, 3, 7, 9, 4, 3, 3, {.padding = {1, 1}}},
    {1, 1, 5, 5, 1, 5, 5, {.groups = 0}},
    {3, 1, 28, 28, 16, 5, 5, {.padding = {2, 2}}},
    {2, 16, 14, 14, 32, 5, 5, {.padding = {2, 2}}},
    {2, 4, 9, 8, 6, 3, 2, {.stride = {2, 1}, .padding = {1, 0}}},
    {2, 5, 16, 17, 20, 3, 3, {.stride = {2, 3}, .padding = {1, 1}}},
    {2, 4, 8, 8, 8, 1, 1, {.groups = 1}},
    {2, 4, 8, 8, 8, 1, 1, {.stride = {2, 2}}},
    {1, 2, 11, 10, 4, 3, 3, {.padding = {2, 3}, .dilation = {2, 3}}},
    {2, 6, 6, 6, 9, 3, 3, {.padding = {1, 1}, .groups = 3}},
    {2, 6, 7, 6, 42, 3, 3, {.padding = {1, 1}, .stride = {2, 2}, .groups = 2}},
    {2, 8, 6, 20, 8, 3, 3, {.padding = {1, 1}, .groups = 8}},
    {1, 2, 3, 3, 2, 1, 1, {.padding = {2, 1}}}, /* more padding than the kernel reaches over */
    {1, 3, 4, 18, 33, 2, 3, {.padding = {1, 2}}},
    {67, 2, 5, 5, 3, 3, 3, {.padding = {1, 1}}}, /* segments of images that do not come out even */
    {1, 1, 9, 9, 2, 3, 3, {.stride = {5, 4}}},   /* pixels that no window sees */
};

static int64_t or_1(int64_t v)
{
    return v == 0 ? 1 : v;
}

typedef struct conv_host {
    double *x, *w, *b, *g;                    /* operands and the gradient of the result */
    double *y, *dx, *dw, *db;                 /* expected */
    double *y_sum, *dx_sum, *dw_sum, *db_sum; /* of absolute values */
    int64_t oh, ow;
} conv_host;

static void conv_reference(const conv_case *c, conv_host *t)
{
    const tsr_conv2d_options *p = &c->options;
    const int64_t groups = or_1(p->groups), cg = c->c / groups, og = c->o / groups;
    for (int64_t n = 0; n < c->n; n++)
        for (int64_t o = 0; o < c->o; o++)
            for (int64_t oy = 0; oy < t->oh; oy++)
                for (int64_t ox = 0; ox < t->ow; ox++) {
                    const int64_t at = ((n * c->o + o) * t->oh + oy) * t->ow + ox;
                    const double g = t->g[at];
                    t->y[at] += t->b[o];
                    t->y_sum[at] += fabs(t->b[o]);
                    t->db[o] += g;
                    t->db_sum[o] += fabs(g);
                    for (int64_t i = 0; i < cg; i++)
                        for (int64_t ky = 0; ky < c->kh; ky++)
                            for (int64_t kx = 0; kx < c->kw; kx++) {
                                const int64_t iy = oy * or_1(p->stride[0]) - p->padding[0] + ky * or_1(p->dilation[0]);
                                const int64_t ix = ox * or_1(p->stride[1]) - p->padding[1] + kx * or_1(p->dilation[1]);
                                if (iy < 0 || ix < 0 || iy >= c->h || ix >= c->w)
                                    continue;
                                const int64_t xi = ((n * c->c + o / og * cg + i) * c->h + iy) * c->w + ix;
                                const int64_t wi = ((o * cg + i) * c->kh + ky) * c->kw + kx;
                                t->y[at] += t->x[xi] * t->w[wi];
                                t->y_sum[at] += fabs(t->x[xi] * t->w[wi]);
                                t->dx[xi] += g * t->w[wi];
                                t->dx_sum[xi] += fabs(g * t->w[wi]);
                                t->dw[wi] += g * t->x[xi];
                                t->dw_sum[wi] += fabs(g * t->x[xi]);
                            }
                }
}

static void check_conv(const run *r, tsr_dtype dtype, const conv_case *c, sample s, bool bias)
{
    const tsr_conv2d_options *p = &c->options;
    conv_host t = {.oh = (c->h + 2 * p->padding[0] - or_1(p->dilation[0]) * (c->kh - 1) - 1) / or_1(p->stride[0]) + 1,
                   .ow = (c->w + 2 * p->padding[1] - or_1(p->dilation[1]) * (c->kw - 1) - 1) / or_1(p->stride[1]) + 1};
    const int64_t cg = c->c / or_1(p->groups);
    const int64_t xs[] = {c->n, c->c, c->h, c->w}, ws[] = {c->o, cg, c->kh, c->kw}, ys[] = {c->n, c->o, t.oh, t.ow};
    char what[160];
    snprintf(what, sizeof what, "conv2d [%d %d %d %d] * [%d %d %d %d]", (int)c->n, (int)c->c, (int)c->h, (int)c->w,
             (int)c->o, (int)cg, (int)c->kh, (int)c->kw);
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = random_tensor(r, dtype, 4, xs, s, 41, &t.x), *w = random_tensor(r, dtype, 4, ws, s, 42, &t.w);
    tsr_tensor *b = random_tensor(r, dtype, 1, (int64_t[]){c->o}, s, 43, &t.b);
    tsr_tensor *g = random_tensor(r, dtype, 4, ys, s, 44, &t.g);
    if (!bias)
        memset(t.b, 0, sizeof(double) * (size_t)c->o);
    double **const made[] = {&t.y, &t.dx, &t.dw, &t.db, &t.y_sum, &t.dx_sum, &t.dw_sum, &t.db_sum};
    const int64_t counts[] = {count_of(4, ys), count_of(4, xs), count_of(4, ws), c->o};
    for (int i = 0; i < 8; i++)
        assert_non_null(*made[i] = calloc((size_t)counts[i % 4] + 1, sizeof(double)));
    conv_reference(c, &t);

    require_ok(r, tsr_set_requires_grad(x, true));
    require_ok(r, tsr_set_requires_grad(w, true));
    require_ok(r, tsr_set_requires_grad(b, true));
    tsr_tensor *y = tsr_conv2d(x, w, bias ? b : NULL, p);
    require(r, y);
    char label[200];
    snprintf(label, sizeof label, "%s", what);
    compare(r, label, y, t.y, t.y_sum, (double)(cg * c->kh * c->kw) + 1, s);
    require_ok(r, tsr_backward_from(y, g, false));
    snprintf(label, sizeof label, "d x of %s", what);
    compare(r, label, tsr_grad(x), t.dx, t.dx_sum, (double)(c->o * c->kh * c->kw), s);
    snprintf(label, sizeof label, "d weight of %s", what);
    compare(r, label, tsr_grad(w), t.dw, t.dw_sum, (double)(c->n * t.oh * t.ow), s);
    if (bias) {
        snprintf(label, sizeof label, "d bias of %s", what);
        compare(r, label, tsr_grad(b), t.db, t.db_sum, (double)(c->n * t.oh * t.ow), s);
    }
    require_ok(r, tsr_scope_end());
    for (int i = 0; i < 8; i++)
        free(*made[i]);
    free(t.x), free(t.w), free(t.b), free(t.g);
}

static void convolutions(const run *r)
{
    for (size_t d = 0; d < 4; d++)
        for (size_t i = 0; run_has(r, float_dtypes[d]) && i < sizeof cases / sizeof cases[0]; i++) {
            check_conv(r, float_dtypes[d], &cases[i], INTEGERS, i % 2 == 0);
            check_conv(r, float_dtypes[d], &cases[i], REALS, i % 2 != 0);
        }
}

static void test_convolutions(void **state)
{
    (void)state;
    on_every_device(convolutions);
}

/* Operands that are views, and a gradient that is one. */
static void views(const run *r)
{
    double *vx, *vw, *vg;
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = random_tensor(r, TSR_F32, 4, (int64_t[]){2, 6, 7, 3}, INTEGERS, 51, &vx); /* n h w c */
    tsr_tensor *w = random_tensor(r, TSR_F32, 4, (int64_t[]){4, 3, 3, 3}, INTEGERS, 52, &vw);
    tsr_tensor *g = random_tensor(r, TSR_F32, 4, (int64_t[]){2, 4, 5, 4}, INTEGERS, 53, &vg);
    tsr_tensor *xv = tsr_permute(x, (int[]){0, 3, 1, 2}), *wv = tsr_transpose(w, 2, 3);
    tsr_tensor *gv = tsr_transpose(g, 2, 3);
    tsr_tensor *x1 = tsr_detach(tsr_clone(xv)), *w1 = tsr_detach(tsr_clone(wv)), *g1 = tsr_clone(gv);
    xv = tsr_detach(xv);
    wv = tsr_detach(wv);
    tsr_tensor *const leaves[] = {xv, wv, x1, w1};
    for (int i = 0; i < 4; i++)
        require_ok(r, tsr_set_requires_grad(leaves[i], true));
    tsr_tensor *y = tsr_conv2d(xv, wv, NULL, NULL), *y1 = tsr_conv2d(x1, w1, NULL, NULL);
    require(r, y);
    require(r, y1);
    require_ok(r, tsr_backward_from(y, gv, false));
    require_ok(r, tsr_backward_from(y1, g1, false));
    tsr_tensor *const pairs[][2] = {{y, y1}, {tsr_grad(xv), tsr_grad(x1)}, {tsr_grad(wv), tsr_grad(w1)}};
    for (int i = 0; i < 3; i++) {
        double *a = values_of(r, pairs[i][0]), *b = values_of(r, pairs[i][1]);
        assert_int_equal(tsr_numel(pairs[i][0]), tsr_numel(pairs[i][1]));
        assert_memory_equal(a, b, sizeof(double) * (size_t)tsr_numel(pairs[i][0]));
        free(a), free(b);
    }
    require_ok(r, tsr_scope_end());
    free(vx), free(vw), free(vg);
}

static void test_views(void **state)
{
    (void)state;
    on_every_device(views);
}

static void empties(const run *r)
{
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = tsr_zeros(r->device, TSR_F32, 4, (int64_t[]){0, 2, 5, 5});
    tsr_tensor *w = tsr_full(r->device, TSR_F32, 4, (int64_t[]){3, 2, 3, 3}, 1);
    require_ok(r, tsr_set_requires_grad(w, true));
    tsr_tensor *y = tsr_conv2d(x, w, NULL, NULL);
    require(r, y);
    assert_int_equal(tsr_numel(y), 0);
    require_ok(r, tsr_backward_from(y, tsr_empty(r->device, TSR_F32, 4, tsr_shape(y)), false));
    double *dw = values_of(r, tsr_grad(w));
    for (int i = 0; i < 54; i++)
        assert_true(dw[i] == 0);
    free(dw);
    /* no channels: only the bias is left */
    x = tsr_empty(r->device, TSR_F32, 4, (int64_t[]){1, 0, 5, 5});
    w = tsr_empty(r->device, TSR_F32, 4, (int64_t[]){3, 0, 3, 3});
    y = tsr_conv2d(x, w, tsr_full(r->device, TSR_F32, 1, (int64_t[]){3}, 2.5), NULL);
    require(r, y);
    double *v = values_of(r, y);
    for (int i = 0; i < 27; i++)
        assert_true(v[i] == 2.5);
    free(v);
    require_ok(r, tsr_scope_end());
}

static void test_empty(void **state)
{
    (void)state;
    on_every_device(empties);
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
    tsr_tensor *x = tsr_zeros(device, TSR_F32, 4, (int64_t[]){2, 3, 8, 8}),
               *flat = tsr_zeros(device, TSR_F32, 2, (int64_t[]){2, 3});
    tsr_tensor *w = tsr_zeros(device, TSR_F32, 4, (int64_t[]){4, 3, 3, 3}),
               *big = tsr_zeros(device, TSR_F32, 4, (int64_t[]){4, 3, 9, 3});
    tsr_tensor *two = tsr_zeros(device, TSR_F32, 4, (int64_t[]){4, 2, 3, 3});
    assert_true(x != NULL && flat != NULL && w != NULL && big != NULL && two != NULL);
    expect_error(tsr_conv2d(flat, w, NULL, NULL), "x is [n, c, h, w] and weight [o, c / groups, kh, kw]: x is [2, 3]");
    expect_error(tsr_conv2d(x, two, NULL, NULL), "channels differ: x is [2, 3, 8, 8], weight is [4, 2, 3, 3]");
    expect_error(tsr_conv2d(x, big, NULL, NULL), "the kernel reaches over 9 rows, but the padded image has 8");
    expect_error(tsr_conv2d(x, w, NULL, &(tsr_conv2d_options){.groups = 2}), "2 groups do not divide the channels");
    expect_error(tsr_conv2d(x, w, NULL, &(tsr_conv2d_options){.stride = {-1, 1}}), "stride is [-1, 1]");
    expect_error(tsr_conv2d(x, w, NULL, &(tsr_conv2d_options){.padding = {0, -1}}), "padding is [0, -1]");
    expect_error(tsr_conv2d(x, w, tsr_zeros(device, TSR_F32, 1, (int64_t[]){5}), NULL), "bias is [5]");
    assert_null(tsr_conv2d(NULL, w, NULL, NULL));
    assert_string_equal(tsr_last_error(), "");
    assert_int_equal(tsr_scope_end(), TSR_OK);
    tsr_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_convolutions),
        cmocka_unit_test(test_views),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
