/* softmax, log_softmax and cross_entropy on every device and in every dtype: values and derivatives against long double, element by
 * element; any axis and strides; extreme logits; targets outside their range. */
#include "tests/op_reference.h"

#include <float.h>

/* A row's reference: log_softmax in long double. */
static void log_softmax_row(const double *x, int64_t n, int64_t stride, long double *out)
{
    long double m = -(long double)INFINITY, z = 0;
    for (int64_t i = 0; i < n; i++)
        m = x[i * stride] > (double)m ? (long double)x[i * stride] : m;
    for (int64_t i = 0; i < n; i++)
        z += expl((long double)x[i * stride] - m);
    for (int64_t i = 0; i < n; i++)
        out[i * stride] = (long double)x[i * stride] - m - logl(z);
}

/* Roundings of the sum of exponentials, relative to it, as it has only positive terms: each exponential's 2 ulp and its argument's,
 * which is at most `spread` large, and the additions of a canonical sum. */
static double sum_roundings(int64_t n, double spread)
{
    double depth = 0;
    for (int64_t m = n; m > 1; m = (m + 8191) / 8192)
        depth += (double)((m < 8192 ? m : 8192) + 63) / 64 + 6;
    return 4 + spread + depth;
}

typedef struct row {
    const char *name;
    int rank;
    int64_t shape[3];
    int axis;
    double scale; /* logits in [-scale, scale) */
    bool transposed;
} row;

static const row rows[] = {
    {"row", 1, {7}, 0, 4, false},
    {"one class", 2, {5, 1}, 1, 4, false},
    {"rows", 2, {9, 65}, -1, 4, false},
    {"columns", 2, {65, 9}, 0, 4, false},
    {"middle", 3, {3, 33, 5}, 1, 4, false},
    {"transposed", 2, {33, 12}, 1, 4, true},
    {"extreme", 2, {6, 130}, 1, 1e4, false},
    {"long", 2, {2, 8193}, 1, 8, false},
    {"very long", 2, {1, 70001}, 1, 8, false},
    {"no rows", 2, {0, 5}, 1, 1, false},
    {"no classes", 2, {5, 0}, 1, 1, false},
};

static tsr_tensor *logits_of(const run *r, tsr_dtype dtype, const row *c, double **values)
{
    double *unit;
    tsr_tensor *x = random_tensor(r, dtype == TSR_F64 ? TSR_F64 : TSR_F32, c->rank, c->shape, REALS, 21, &unit);
    free(unit);
    x = tsr_cast(tsr_affine(x, c->scale, 0), dtype);
    if (c->transposed)
        x = tsr_transpose(tsr_clone(tsr_transpose(x, 0, 1)), 0, 1);
    require(r, x);
    x = tsr_detach(x);
    require_ok(r, tsr_set_requires_grad(x, true));
    *values = values_of(r, x);
    return x;
}

static void within(const run *r, const char *what, const row *c, tsr_dtype dtype, int64_t i, double got,
                   long double expected, double bound)
{
    if (!(fabsl((long double)got - expected) <= (long double)bound))
        fail_msg("%s, %s, %s on %s: element %lld: %.9g for %.9Lg, error %.3Lg, bound %.3g", what, c->name,
                 tsr_dtype_name(dtype), r->name, (long long)i, got, expected, fabsl((long double)got - expected),
                 bound);
}

static void check(const run *r, const row *c, tsr_dtype dtype, bool logarithm)
{
    double *x, *w;
    require_ok(r, tsr_scope_begin());
    tsr_tensor *t = logits_of(r, dtype, c, &x);
    tsr_tensor *y = logarithm ? tsr_log_softmax(t, c->axis) : tsr_softmax(t, c->axis);
    require(r, y);
    tsr_tensor *dy = random_tensor(r, dtype, c->rank, c->shape, REALS, 22, &w);
    require_ok(r, tsr_backward_from(y, dy, false));
    double *got = values_of(r, y), *g = values_of(r, tsr_grad(t));
    const int64_t total = count_of(c->rank, c->shape);
    long double *ls = malloc(sizeof(long double) * (size_t)(total + 1));
    assert_non_null(ls);
    const int axis = c->axis < 0 ? c->axis + c->rank : c->axis;
    const int64_t n = c->shape[axis], inner = count_of(c->rank - axis - 1, c->shape + axis + 1);
    const double u = accumulator_roundoff(dtype), store = unit_roundoff(dtype);
    for (int64_t o = 0; o < (n == 0 ? 0 : total / n); o++) {
        const int64_t first = o / inner * n * inner + o % inner;
        log_softmax_row(x + first, n, inner, ls + first);
        long double dot = 0, magnitude = 0;
        for (int64_t k = 0; k < n; k++) {
            const int64_t i = first + k * inner;
            const long double term = (long double)w[i] * (logarithm ? 1 : expl(ls[i]));
            dot += term;
            magnitude += fabsl(term);
        }
        for (int64_t k = 0; k < n; k++) {
            const int64_t i = first + k * inner;
            const double spread = fmin(2 * c->scale, fabs((double)ls[i]) + log((double)n)); /* |x - max| */
            const double roundings = sum_roundings(n, fmin(2 * c->scale, 90)); /* terms below exp(-90) do not count */
            const double p = (double)expl(ls[i]);
            /* softmax: the exponential, the sum and the quotient are relative errors. log_softmax: the sum's relative error becomes an
             * absolute one, to which the two subtractions' roundings are added. */
            const double error = logarithm ? u * (roundings + 2 * spread + 4 * log((double)n + 1) + fabs((double)ls[i]))
                                           : u * p * (roundings + spread + 6);
            const double expected = logarithm ? (double)ls[i] : p;
            within(r, logarithm ? "log_softmax" : "softmax", c, dtype, i, got[i], logarithm ? ls[i] : expl(ls[i]),
                   1.01 * (error + store * fabs(expected)) + smallest_half(dtype) +
                       (p < 0x1p-100 && !logarithm ? 0x1p-100 : 0));
            /* The saved result has the error above, relative to p, and once more a storage rounding. */
            const double relative = u * (roundings + 2 * spread + 4 * log((double)n + 1) + fabs((double)ls[i]) + 8) +
                                    store * (logarithm ? 1 + fabs((double)ls[i]) : 2);
            double dot_depth = sum_roundings(n, 0);
            double slope_bound;
            long double slope;
            if (logarithm) {
                slope = (long double)w[i] - expl(ls[i]) * dot;
                slope_bound = p * (relative * fabs((double)dot) + u * dot_depth * (double)magnitude) +
                              2 * u * fabs((double)slope);
            } else {
                slope = expl(ls[i]) * ((long double)w[i] - dot);
                /* every term of the dot product has its p's error; the worst spread of a term that counts is 90 */
                const double terms = u * (sum_roundings(n, fmin(2 * c->scale, 90)) + 100 + dot_depth) + 2 * store;
                slope_bound = p * (relative * (fabs(w[i]) + fabs((double)dot)) + terms * (double)magnitude);
            }
            within(r, logarithm ? "log_softmax'" : "softmax'", c, dtype, i, g[i], slope,
                   1.05 * (slope_bound + store * fabs((double)slope)) + smallest_half(dtype) * 4 + 0x1p-100);
        }
    }
    tsr_clear_grad(t);
    free(x);
    free(w);
    free(got);
    free(g);
    free(ls);
    require_ok(r, tsr_scope_end());
}

static void softmax_on(const run *r)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int d = 0; d < 4; d++)
            if (run_has(r, float_dtypes[d])) {
                check(r, &rows[i], float_dtypes[d], false);
                check(r, &rows[i], float_dtypes[d], true);
            }
}

static void test_softmax(void **state)
{
    (void)state;
    on_every_device(softmax_on);
}

/* ---- infinities ---- */

static void infinities_on(const run *r)
{
    const float inf = INFINITY, nan = NAN;
    const float values[] = {-inf, 1, 1, -inf, /**/ -inf, -inf, -inf, -inf, /**/ 0, inf, 0, 0, /**/ 0, nan, 0, 0};
    static const float expected[] = {0, 0.5f, 0.5f, 0};
    float got[16];
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = tsr_from_data(r->device, TSR_F32, 2, (int64_t[]){4, 4}, values);
    require_ok(r, tsr_read_f32(tsr_softmax(x, 1), got, 16));
    for (int i = 0; i < 16; i++)
        assert_true(i < 4 ? got[i] == expected[i] : isnan(got[i])); /* as in PyTorch */
    require_ok(r, tsr_read_f32(tsr_log_softmax(x, 1), got, 16));
    assert_true(got[0] == -inf && fabsf(got[1] + 0.69314718f) < 1e-7f && isnan(got[4]) && isnan(got[12]));
    assert_null(tsr_softmax(x, 2));
    assert_int_equal(tsr_last_status(), TSR_OUT_OF_RANGE);
    assert_null(tsr_log_softmax(x, -3));
    assert_null(tsr_softmax(tsr_zeros(r->device, TSR_I32, 1, (int64_t[]){3}), 0));
    assert_int_equal(tsr_last_status(), TSR_UNSUPPORTED);
    double one;
    require_ok(r, tsr_item(tsr_softmax(tsr_full(r->device, TSR_F32, 0, NULL, 7), 0), &one));
    assert_true(one == 1);
    require_ok(r, tsr_scope_end());
}

static void test_infinities_and_errors(void **state)
{
    (void)state;
    on_every_device(infinities_on);
}

/* ---- cross entropy ---- */

typedef struct loss_row {
    const char *name;
    int64_t n, classes;
    double scale;
    bool transposed;
} loss_row;

static const loss_row loss_rows[] = {
    {"one class", 3, 1, 4, false},        {"two", 1, 2, 4, false},        {"ten", 130, 10, 4, false},
    {"lanes and one", 3, 65, 4, true},    {"extreme", 5, 33, 1e4, false}, {"near extremes", 4, 7, 1, false},
    {"many classes", 2, 70001, 8, false},
};

static void check_loss(const run *r, const loss_row *c, tsr_dtype dtype, tsr_dtype index)
{
    const int64_t shape[] = {c->n, c->classes}, total = c->n * c->classes;
    const row like = {c->name, 2, {c->n, c->classes}, 1, c->scale, c->transposed};
    double *x;
    require_ok(r, tsr_scope_begin());
    tsr_tensor *t = logits_of(r, dtype, &like, &x);
    if (strcmp(c->name, "near extremes") ==
        0) { /* large, and close to each other: log sum exp alone would lose the loss */
        free(x);
        t = tsr_detach(tsr_affine(t, 8, dtype == TSR_F16 ? 2e4 : 1e4));
        require(r, t);
        require_ok(r, tsr_set_requires_grad(t, true));
        x = values_of(r, t);
    }
    int64_t *target = calloc((size_t)c->n, sizeof *target);
    int32_t *narrow = calloc((size_t)c->n, sizeof *narrow);
    assert_true(target != NULL && narrow != NULL);
    for (int64_t i = 0; i < c->n; i++)
        narrow[i] = (int32_t)(target[i] = (i * 7919 + 3) % c->classes);
    tsr_tensor *classes = tsr_from_data(r->device, index, 1, &c->n, index == TSR_I64 ? (void *)target : (void *)narrow);
    tsr_tensor *loss = tsr_cross_entropy(t, classes);
    require(r, loss);
    assert_int_equal(tsr_rank(loss), 0);
    assert_int_equal(tsr_dtype_of(loss), dtype);
    double got;
    require_ok(r, tsr_item(loss, &got));
    require_ok(r, tsr_backward_from(loss, tsr_full(r->device, dtype, 0, NULL, 0.75), false));
    double *g = values_of(r, tsr_grad(t));

    const double u = accumulator_roundoff(dtype), store = unit_roundoff(dtype);
    long double *ls = malloc(sizeof(long double) * (size_t)total), mean = 0;
    assert_non_null(ls);
    double error = 0, magnitude = 0;
    const double roundings = sum_roundings(c->classes, fmin(2 * c->scale, 90));
    for (int64_t i = 0; i < c->n; i++) {
        log_softmax_row(x + i * c->classes, c->classes, 1, ls + i * c->classes);
        const double loss_i = -(double)ls[i * c->classes + target[i]],
                     spread = fmin(2 * fmax(c->scale, 8), loss_i + log((double)c->classes));
        mean -= ls[i * c->classes + target[i]] / (long double)c->n;
        error += u * (roundings + spread + 4 * log((double)c->classes + 1) + 2 * loss_i) / (double)c->n;
        magnitude += loss_i / (double)c->n;
    }
    error += u * ((double)(c->n + 63) / 64 + 8) * magnitude;
    within(r, "cross_entropy", &like, dtype, 0, got, mean, 1.01 * (error + store * magnitude) + smallest_half(dtype));
    for (int64_t i = 0; i < total; i++) {
        const long double p = expl(ls[i]), hit = i % c->classes == target[i / c->classes];
        const long double slope = (p - hit) * 0.75L / (long double)c->n;
        const double spread = fmin(2 * fmax(c->scale, 8), fabs((double)ls[i]) + log((double)c->classes));
        const double part = 0.75 / (double)c->n;
        const double bound =
            part * u * ((double)p * (roundings + 2 * spread + 8 + 4 * log((double)c->classes + 1)) + 1) +
            (4 * u + store) * fabs((double)slope);
        within(r, "cross_entropy'", &like, dtype, i, g[i], slope, 1.01 * bound + smallest_half(dtype) + 0x1p-100);
    }
    tsr_clear_grad(t);
    free(ls);
    free(g);
    free(target);
    free(narrow);
    free(x);
    (void)shape;
    require_ok(r, tsr_scope_end());
}

static void cross_entropy_on(const run *r)
{
    for (size_t i = 0; i < sizeof loss_rows / sizeof *loss_rows; i++)
        for (int d = 0; d < 4; d++)
            if (run_has(r, float_dtypes[d])) {
                check_loss(r, &loss_rows[i], float_dtypes[d], TSR_I64);
                check_loss(r, &loss_rows[i], float_dtypes[d], TSR_I32);
            }
}

static void test_cross_entropy(void **state)
{
    (void)state;
    on_every_device(cross_entropy_on);
}

/* A target that is no class: the loss is NaN, and so is its row's derivative; the others' is not. */
static void targets_on(const run *r)
{
    static const int64_t bad[] = {-1, 3, 4294967296 + 1, -4294967296 + 1, INT64_MAX, INT64_MIN};
    float g[9];
    double loss;
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = tsr_full(r->device, TSR_F32, 2, (int64_t[]){3, 3}, 0.5);
    require_ok(r, tsr_set_requires_grad(x, true));
    for (int i = 0; i < 8; i++) {
        const int64_t wide[] = {1, i < 6 ? bad[i] : 0, 2};
        const int32_t narrow[] = {1, i == 6 ? -1 : 3, 2};
        tsr_tensor *target =
            tsr_from_data(r->device, i < 6 ? TSR_I64 : TSR_I32, 1, (int64_t[]){3}, i < 6 ? (const void *)wide : narrow);
        tsr_tensor *l = tsr_cross_entropy(x, target);
        require(r, l);
        require_ok(r, tsr_item(l, &loss));
        if (!isnan(loss))
            fail_msg("%s: the loss of target %lld among 3 is %g", r->name, (long long)(i < 6 ? wide[1] : narrow[1]),
                     loss);
        require_ok(r, tsr_backward(l));
        require_ok(r, tsr_read(tsr_grad(x), g, sizeof g));
        for (int k = 0; k < 9; k++)
            assert_true(isnan(g[k]) == (k / 3 == 1));
        tsr_clear_grad(x);
    }
    tsr_tensor *two = tsr_zeros(r->device, TSR_I64, 1, (int64_t[]){2});
    assert_null(tsr_cross_entropy(x, two));
    assert_non_null(strstr(tsr_last_error(), "[3, 3]"));
    assert_null(tsr_cross_entropy(x, tsr_zeros(r->device, TSR_F32, 1, (int64_t[]){3})));
    assert_null(tsr_cross_entropy(tsr_reshape(x, 1, (int64_t[]){9}), two));
    assert_null(tsr_cross_entropy(tsr_zeros(r->device, TSR_F32, 2, (int64_t[]){2, 0}), two));
    assert_null(tsr_cross_entropy(x, NULL));
    require_ok(r, tsr_scope_end());
}

static void test_targets(void **state)
{
    (void)state;
    on_every_device(targets_on);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_softmax),
        cmocka_unit_test(test_infinities_and_errors),
        cmocka_unit_test(test_cross_entropy),
        cmocka_unit_test(test_targets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
