/* prod, extremes, any, all, count_nonzero, var, std, norm, logsumexp, cumsum and cumprod on every device: against sums in double
 * over the elements of each result, with integers exactly, in the corners, and their derivatives against formulas in double. */
#include "tests/op_reference.h"

enum { MOST = 9000 };

/* Additions or products that a term goes through, at most: docs/determinism.md. */
static double depth_of(int64_t n)
{
    return n <= 8192 ? (double)((n + 63) / 64 + 6) : 134 + depth_of((n + 8191) / 8192);
}

/* ---- what each makes of the n elements of one result ---- */

typedef double fold_fn(const double *x, int64_t n);

static double f_prod(const double *x, int64_t n)
{
    double p = 1;
    for (int64_t i = 0; i < n; i++)
        p *= x[i];
    return p;
}
static double f_max(const double *x, int64_t n)
{
    double m = x[0];
    for (int64_t i = 1; i < n; i++)
        m = x[i] > m ? x[i] : m;
    return m;
}
static double f_min(const double *x, int64_t n)
{
    double m = x[0];
    for (int64_t i = 1; i < n; i++)
        m = x[i] < m ? x[i] : m;
    return m;
}
static double f_argmin(const double *x, int64_t n)
{
    int64_t at = 0;
    for (int64_t i = 1; i < n; i++)
        at = x[i] < x[at] ? i : at;
    return (double)at;
}
static double f_count(const double *x, int64_t n)
{
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++)
        count += x[i] != 0;
    return (double)count;
}
static double f_any(const double *x, int64_t n)
{
    return f_count(x, n) > 0;
}
static double f_all(const double *x, int64_t n)
{
    return f_count(x, n) == (double)n;
}
static double f_var(const double *x, int64_t n)
{
    double mean = 0, squares = 0;
    for (int64_t i = 0; i < n; i++)
        mean += x[i] / (double)n;
    for (int64_t i = 0; i < n; i++)
        squares += (x[i] - mean) * (x[i] - mean);
    return squares / (double)(n - 1);
}
static double f_std(const double *x, int64_t n)
{
    return sqrt(f_var(x, n));
}
static double f_norm(const double *x, int64_t n)
{
    double squares = 0;
    for (int64_t i = 0; i < n; i++)
        squares += x[i] * x[i];
    return sqrt(squares);
}
static double f_norm1(const double *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += fabs(x[i]);
    return sum;
}
static double f_norm_inf(const double *x, int64_t n)
{
    double m = 0;
    for (int64_t i = 0; i < n; i++)
        m = fmax(m, fabs(x[i]));
    return m;
}
static double f_logsumexp(const double *x, int64_t n)
{
    double m = f_max(x, n), z = 0;
    for (int64_t i = 0; i < n; i++)
        z += exp(x[i] - m);
    return m + log(z);
}

typedef enum kind { EXACT, RELATIVE, LOGARITHM } kind;

typedef struct fold_row {
    const char *name;
    fold_fn *f;
    kind error;
    double roundings; /* besides those of the fold, for each result */
    bool any_dtype, integers;
    double p; /* of norm */
} fold_row;

static const fold_row folds[] = {
    {"prod", f_prod, RELATIVE, 0, false, true, 0},
    {"max", f_max, EXACT, 0, false, true, 0},
    {"amax", f_max, EXACT, 0, false, true, 0},
    {"min", f_min, EXACT, 0, false, true, 0},
    {"amin", f_min, EXACT, 0, false, true, 0},
    {"argmin", f_argmin, EXACT, 0, false, true, 0},
    {"any", f_any, EXACT, 0, true, true, 0},
    {"all", f_all, EXACT, 0, true, true, 0},
    {"count_nonzero", f_count, EXACT, 0, true, true, 0},
    {"var", f_var, RELATIVE, 12, false, false, 0},
    {"std", f_std, RELATIVE, 8, false, false, 0},
    {"norm", f_norm, RELATIVE, 3, false, false, 2},
    {"norm", f_norm1, RELATIVE, 1, false, false, 1},
    {"norm", f_norm_inf, EXACT, 0, false, false, (double)INFINITY},
    {"logsumexp", f_logsumexp, LOGARITHM, 6, false, false, 0},
};

typedef struct shape_case {
    int rank;
    int64_t shape[4];
    int axes[3], count;
} shape_case;

static const shape_case shapes[] = {
    {3, {3, 5, 70}, {-1}, 1}, {3, {3, 5, 7}, {0, 2}, 2}, {2, {130, 33}, {0}, 1},
    {1, {9000}, {0}, 0},      {2, {4, 2}, {1}, 1},
};

static tsr_tensor *fold_call(const run *r, const fold_row *row, tsr_tensor *x, const int *axes, int count)
{
    int64_t list[3];
    for (int i = 0; i < count; i++)
        list[i] = axes[i];
    const tsr_attr attrs[] = {{.name = "axes", .kind = TSR_ATTR_INTS, .values = list, .count = count},
                              {.name = "p", .kind = TSR_ATTR_FLOAT, .f = row->p}};
    tsr_tensor *y = NULL;
    require_ok(r, tsr_op_call(row->name, &x, 1, &y, 1, attrs, row->p != 0 ? 2 : 1));
    return y;
}

/* The elements of each result, one result after another. */
static int64_t gather(const double *x, const shape_case *c, double *groups)
{
    bool gone[4] = {false};
    int64_t n = 1, filled[MOST] = {0}, index[4] = {0};
    for (int i = 0; i < c->rank; i++)
        gone[i] = c->count == 0;
    for (int i = 0; i < c->count; i++)
        gone[(c->axes[i] + c->rank) % c->rank] = true;
    for (int i = 0; i < c->rank; i++)
        n *= gone[i] ? c->shape[i] : 1;
    for (int64_t i = 0; i < count_of(c->rank, c->shape); i++) {
        int64_t out = 0;
        for (int d = 0; d < c->rank; d++)
            out = gone[d] ? out : out * c->shape[d] + index[d];
        groups[out * n + filled[out]++] = x[i];
        for (int d = c->rank - 1; d >= 0 && ++index[d] == c->shape[d]; d--)
            index[d] = 0;
    }
    return n;
}

/* Values for which no result is lost: near 1 for products, of which some are 0 for counts, and with a large mean for var. */
static tsr_tensor *sample_of(const run *r, const fold_row *row, tsr_dtype dtype, const shape_case *c, double *values)
{
    static float f[MOST];
    uint32_t state = 4711;
    const bool product = row->f == f_prod, integer = !row->any_dtype ? dtype == TSR_I32 || dtype == TSR_I64 : true;
    for (int64_t i = 0; i < count_of(c->rank, c->shape); i++) {
        const double u = (double)random_next(&state) / 16777216.0;
        f[i] = (float)(integer                                      ? floor(u * 5) - (product ? 1 : 2)
                       : product                                    ? 0.9 + 0.2 * u
                       : row->error == RELATIVE && dtype == TSR_F32 ? 500 + u
                                                                    : 2 * u - 1);
        if (integer && product)
            f[i] = i % 601 == 5 ? 2 : f[i] > 0 ? 1 : -1;
    }
    tsr_tensor *t = tsr_cast(tsr_from_data(r->device, TSR_F32, c->rank, c->shape, f), dtype);
    require(r, t);
    double *v = values_of(r, t);
    memcpy(values, v, sizeof(double) * (size_t)tsr_numel(t));
    free(v);
    return t;
}

static void check_fold(const run *r, const fold_row *row, tsr_dtype dtype, const shape_case *c)
{
    static double x[MOST], groups[MOST];
    require_ok(r, tsr_scope_begin());
    tsr_tensor *y = fold_call(r, row, sample_of(r, row, dtype, c, x), c->axes, c->count);
    double *got = values_of(r, y);
    const int64_t n = gather(x, c, groups);
    const double eps = accumulator_roundoff(dtype);
    for (int64_t i = 0; i < tsr_numel(y); i++) {
        const double e = row->f(groups + i * n, n);
        const double size = row->error == LOGARITHM ? 1 + fabs(e) : fabs(e);
        const double bound = row->error == EXACT ? 0
                                                 : 2 * (2 * depth_of(n) + row->roundings) * eps * size +
                                                       2 * unit_roundoff(dtype) * fabs(e) + smallest_half(dtype);
        if (!(fabs(got[i] - e) <= (dtype == TSR_I32 || dtype == TSR_I64 ? 0 : bound)))
            fail_msg("%s (p %g) %s on %s: element %lld of %lld: %.9g for %.9g, bound %.3g", row->name, row->p,
                     tsr_dtype_name(dtype), r->name, (long long)i, (long long)n, got[i], e, bound);
    }
    free(got);
    require_ok(r, tsr_scope_end());
}

static void folds_on(const run *r)
{
    static const tsr_dtype dtypes[] = {TSR_F32, TSR_F16, TSR_BF16, TSR_F64, TSR_I32, TSR_I64};
    const bool cpu = strncmp(r->name, "cpu", 3) == 0, gpu_kernels = strstr(r->name, "GPUs") != NULL;
    for (size_t k = 0; k < sizeof folds / sizeof *folds; k++)
        for (int d = 0; d < 6; d++) {
            const bool integer = dtypes[d] == TSR_I32 || dtypes[d] == TSR_I64;
            if (!run_has(r, dtypes[d]) || (integer && !folds[k].integers) || (gpu_kernels && dtypes[d] != TSR_F32) ||
                (!cpu && (dtypes[d] == TSR_BF16 || dtypes[d] == TSR_I32)))
                continue;
            for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
                check_fold(r, &folds[k], dtypes[d], &shapes[s]);
        }
}

static void test_folds(void **state)
{
    (void)state;
    on_every_device(folds_on);
}

/* ---- corners ---- */

static void expect_item(const run *r, const char *what, tsr_tensor *y, double expected)
{
    double v = 0;
    require_ok(r, tsr_item(y, &v));
    if (!(v == expected || (isnan(v) && isnan(expected))))
        fail_msg("%s on %s: %g for %g", what, r->name, v, expected);
}

static tsr_tensor *numbers(const run *r, int64_t n, const float *x)
{
    tsr_tensor *t = tsr_from_data(r->device, TSR_F32, 1, &n, x);
    require(r, t);
    return t;
}

static void corners_on(const run *r)
{
    const float inf = INFINITY;
    require_ok(r, tsr_scope_begin());
    tsr_tensor *none = numbers(r, 0, (float[]){0});
    expect_item(r, "prod of none", tsr_prod(none, NULL, 0, false), 1);
    expect_item(r, "any of none", tsr_any(none, NULL, 0, false), 0);
    expect_item(r, "all of none", tsr_all(none, NULL, 0, false), 1);
    expect_item(r, "count of none", tsr_count_nonzero(none, NULL, 0, false), 0);
    expect_item(r, "var of none", tsr_var(none, NULL, 0, false, 1), (double)NAN);
    expect_item(r, "norm of none", tsr_norm(none, NULL, 0, false, 2), 0);
    expect_item(r, "logsumexp of none", tsr_logsumexp(none, NULL, 0, false), -(double)INFINITY);
    assert_null(tsr_min(none, NULL, 0, false));
    assert_null(tsr_argmin(none, NULL, 0, false));
    assert_null(tsr_norm(none, NULL, 0, false, (double)INFINITY));
    tsr_clear_error();
    tsr_tensor *one = numbers(r, 1, (float[]){3});
    expect_item(r, "var of one", tsr_var(one, NULL, 0, false, 1), (double)NAN);
    expect_item(r, "var of one, uncorrected", tsr_var(one, NULL, 0, false, 0), 0);
    tsr_tensor *odd = numbers(r, 4, (float[]){1, NAN, -inf, NAN});
    expect_item(r, "min with NaN", tsr_min(odd, NULL, 0, false), (double)NAN);
    expect_item(r, "argmin with NaN", tsr_argmin(odd, NULL, 0, false), 1);
    expect_item(r, "any of NaN", tsr_any(numbers(r, 1, (float[]){NAN}), NULL, 0, false), 1);
    expect_item(r, "logsumexp of -inf", tsr_logsumexp(numbers(r, 2, (float[]){-inf, -inf}), NULL, 0, false),
                -(double)inf);
    expect_item(r, "logsumexp with inf", tsr_logsumexp(numbers(r, 2, (float[]){inf, 0}), NULL, 0, false), (double)inf);
    expect_item(r, "logsumexp of large", tsr_logsumexp(numbers(r, 1, (float[]){1e30f}), NULL, 0, false), (double)1e30f);
    assert_null(tsr_norm(one, NULL, 0, false, 3));
    assert_non_null(strstr(tsr_last_error(), "p is 3"));
    tsr_clear_error();
    tsr_tensor *m = tsr_zeros(r->device, TSR_F32, 3, (int64_t[]){2, 0, 3});
    tsr_tensor *p = tsr_prod(m, (int[]){1}, 1, true);
    require(r, p);
    assert_int_equal(tsr_size(p, 1), 1);
    assert_int_equal(tsr_numel(tsr_cumsum(m, 2)), 0);
    require_ok(r, tsr_scope_end());
}

static void test_corners(void **state)
{
    (void)state;
    on_every_device(corners_on);
}

/* ---- scans ---- */

/* The order as docs/determinism.md tells it: runs of 32, 64 of them at a time. */
static void canonical_scan(const float *x, float *y, int64_t n, bool product)
{
    float before = product ? 1 : 0;
    for (int64_t start = 0; start < n; start += 2048) {
        float going = before, totals = before;
        for (int64_t first = start; first < n && first < start + 2048; first += 32) {
            float total = product ? 1 : 0;
            going = totals;
            for (int64_t i = first; i < n && i < first + 32; i++) {
                total = product ? total * x[i] : total + x[i];
                going = product ? going * x[i] : going + x[i];
                y[i] = going;
            }
            totals = product ? totals * total : totals + total;
        }
        before = totals;
    }
}

static void scans_on(const run *r)
{
    static const int64_t lengths[] = {1, 7, 64, 2049, 5000};
    for (int k = 0; k < 5; k++)
        for (int product = 0; product < 2; product++) {
            static float x[5000], expected[5000], got[5000];
            const int64_t n = lengths[k];
            uint32_t state = 5;
            for (int64_t i = 0; i < n; i++)
                x[i] = (float)random_next(&state) * (product ? 0x1p-28f : 0x1p-24f) + (product ? 0.97f : -0.5f);
            require_ok(r, tsr_scope_begin());
            tsr_tensor *t = numbers(r, n, x), *y = product ? tsr_cumprod(t, 0) : tsr_cumsum(t, -1);
            require(r, y);
            require_ok(r, tsr_read(y, got, sizeof(float) * (size_t)n));
            canonical_scan(x, expected, n, product);
            double exact = product ? 1 : 0, sizes = 0;
            for (int64_t i = 0; i < n; i++) {
                exact = product ? exact * (double)x[i] : exact + (double)x[i];
                sizes = product ? fabs(exact) * (double)(i + 1) : sizes + fabs((double)x[i]) * ((double)i / 32 + 40);
                if (got[i] != expected[i] || !(fabs((double)got[i] - exact) <= 0x1p-23 * sizes))
                    fail_msg("%s on %s: element %lld of %lld: %.9g for %.9g in its order, %.9g exactly",
                             product ? "cumprod" : "cumsum", r->name, (long long)i, (long long)n, (double)got[i],
                             (double)expected[i], exact);
            }
            require_ok(r, tsr_scope_end());
        }
}

static void test_scans(void **state)
{
    (void)state;
    on_every_device(scans_on);
}

/* Along a middle axis of a transposed tensor, in every dtype: whole numbers are exact. */
static void scan_axes_on(const run *r)
{
    static const tsr_dtype dtypes[] = {TSR_F32, TSR_F16, TSR_BF16, TSR_F64, TSR_I32, TSR_I64};
    for (int d = 0; d < 6; d++) {
        float f[60];
        if (!run_has(r, dtypes[d]) || (strstr(r->name, "GPUs") != NULL && dtypes[d] != TSR_F32))
            continue;
        for (int i = 0; i < 60; i++)
            f[i] = (float)(i * 7 % 5 - 2);
        require_ok(r, tsr_scope_begin());
        tsr_tensor *t = tsr_cast(tsr_from_data(r->device, TSR_F32, 3, (int64_t[]){3, 4, 5}, f), dtypes[d]);
        double *sum = values_of(r, tsr_cumsum(tsr_transpose(t, 0, 2), 1)), *product = values_of(r, tsr_cumprod(t, 1));
        for (int a = 0; a < 3; a++)
            for (int c = 0; c < 5; c++) {
                double s = 0, p = 1;
                for (int b = 0; b < 4; b++) {
                    s += (double)f[(a * 4 + b) * 5 + c];
                    p *= (double)f[(a * 4 + b) * 5 + c];
                    assert_true(sum[(c * 4 + b) * 3 + a] == s);
                    assert_true(product[(a * 4 + b) * 5 + c] == p);
                }
            }
        free(sum);
        free(product);
        require_ok(r, tsr_scope_end());
    }
}

static void test_scan_axes(void **state)
{
    (void)state;
    on_every_device(scan_axes_on);
}

/* ---- derivatives on every device: of sum w y, small whole numbers, ties and zeros among them ---- */

static void expect_gradient(const run *r, const char *what, tsr_tensor *x, tsr_tensor *y, const float *w,
                            const double *expected)
{
    require(r, y);
    tsr_tensor *dy = tsr_from_data(r->device, TSR_F32, tsr_rank(y), tsr_shape(y), w);
    require_ok(r, tsr_backward_from(y, dy, false));
    double *got = values_of(r, tsr_grad(x));
    for (int64_t i = 0; i < tsr_numel(x); i++)
        if (!(fabs(got[i] - expected[i]) <= 16 * 0x1p-24 * fabs(expected[i])))
            fail_msg("d %s on %s: element %lld: %.9g for %.9g", what, r->name, (long long)i, got[i], expected[i]);
    free(got);
    tsr_clear_grad(x);
}

static void derivatives_on(const run *r)
{
    const float values[] = {2, 0, -3, 4, 5, 5, 0, 0, 2, -4, 4, 1}, w[] = {2, 3, 5},
                ones[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    const int last[] = {1};
    double e[12];
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = tsr_from_data(r->device, TSR_F32, 2, (int64_t[]){3, 4}, values);
    require_ok(r, tsr_set_requires_grad(x, true));
    expect_gradient(r, "prod", x, tsr_prod(x, last, 1, false), w,
                    (double[]){0, -48, 0, 0, 0, 0, 0, 0, -80, 40, -40, -160});
    expect_gradient(r, "min", x, tsr_min(x, last, 1, false), w, (double[]){0, 0, 2, 0, 0, 0, 1.5, 1.5, 0, 5, 0, 0});
    expect_gradient(r, "norm 1", x, tsr_norm(x, last, 1, false, 1), w,
                    (double[]){2, 0, -2, 2, 3, 3, 0, 0, 5, -5, 5, 5});
    expect_gradient(r, "norm inf", x, tsr_norm(x, last, 1, false, (double)INFINITY), w,
                    (double[]){0, 0, 0, 2, 1.5, 1.5, 0, 0, 0, -2.5, 2.5, 0});
    for (int i = 0; i < 12; i++) {
        double squares = 0;
        for (int c = 0; c < 4; c++)
            squares += (double)values[i / 4 * 4 + c] * (double)values[i / 4 * 4 + c];
        e[i] = (double)w[i / 4] * (double)values[i] / sqrt(squares);
    }
    expect_gradient(r, "norm 2", x, tsr_norm(x, last, 1, true, 2), w, e);
    for (int i = 0; i < 12; i++) {
        double z = 0;
        for (int c = 0; c < 4; c++)
            z += exp((double)values[i / 4 * 4 + c]);
        e[i] = (double)w[i / 4] * exp((double)values[i]) / z;
    }
    expect_gradient(r, "logsumexp", x, tsr_logsumexp(x, last, 1, false), w, e);
    for (int root = 0; root < 2; root++) {
        for (int i = 0; i < 12; i++) {
            double mean = 0, squares = 0;
            for (int c = 0; c < 4; c++)
                mean += (double)values[i / 4 * 4 + c] / 4;
            for (int c = 0; c < 4; c++)
                squares += ((double)values[i / 4 * 4 + c] - mean) * ((double)values[i / 4 * 4 + c] - mean);
            e[i] = (double)w[i / 4] * ((double)values[i] - mean) / 3 * (root ? 1 / sqrt(squares / 3) : 2);
        }
        expect_gradient(r, root ? "std" : "var", x, (root ? tsr_std : tsr_var)(x, last, 1, false, 1), w, e);
    }
    for (int i = 0; i < 12; i++) {
        double s = 0;
        for (int k = i; k < i / 4 * 4 + 4; k++)
            s += (double)ones[k];
        e[i] = s;
    }
    expect_gradient(r, "cumsum", x, tsr_cumsum(x, 1), ones, e);
    for (int i = 0; i < 12; i++) {
        e[i] = 0;
        for (int k = i; k < i / 4 * 4 + 4; k++) {
            double p = (double)ones[k];
            for (int j = i / 4 * 4; j <= k; j++)
                p *= j == i ? 1 : (double)values[j];
            e[i] += p;
        }
    }
    expect_gradient(r, "cumprod", x, tsr_cumprod(x, -1), ones, e);
    tsr_tensor *still = tsr_full(r->device, TSR_F32, 1, (int64_t[]){3}, 0);
    require_ok(r, tsr_set_requires_grad(still, true));
    expect_gradient(r, "std of equals", still, tsr_std(still, NULL, 0, false, 1), w, (double[]){0, 0, 0});
    expect_gradient(r, "norm of zeros", still, tsr_norm(still, NULL, 0, false, 2), w, (double[]){0, 0, 0});
    require_ok(r, tsr_scope_end());
}

static void test_derivatives(void **state)
{
    (void)state;
    on_every_device(derivatives_on);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_folds),     cmocka_unit_test(test_corners),     cmocka_unit_test(test_scans),
        cmocka_unit_test(test_scan_axes), cmocka_unit_test(test_derivatives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
