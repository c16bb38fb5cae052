/* The losses on every device: values and derivatives against formulas in double, for each reduction; classes with weights, ignored
 * targets and smoothed labels; every float dtype. */
#include "tests/op_reference.h"

/* ---- between two tensors ---- */

typedef struct loss_row {
    const char *name;
    double (*f)(double a, double b);
    double (*da)(double a, double b);
    double (*db)(double a, double b);
    double low, high; /* of the target */
    const char *attr;
    double scalar; /* of attr; a truth where attr is log_target */
} loss_row;

static double mse(double a, double b)
{
    return (a - b) * (a - b);
}
static double mse_a(double a, double b)
{
    return 2 * (a - b);
}
static double mse_b(double a, double b)
{
    return 2 * (b - a);
}
static double l1(double a, double b)
{
    return fabs(a - b);
}
static double l1_a(double a, double b)
{
    return (a > b) - (a < b);
}
static double l1_b(double a, double b)
{
    return l1_a(b, a);
}
static double smooth_l1(double a, double b)
{
    const double d = fabs(a - b);
    return d < 0.5 ? d * d / (2 * 0.5) : d - 0.25;
}
static double smooth_l1_a(double a, double b)
{
    return fmax(-1, fmin(1, (a - b) / 0.5));
}
static double smooth_l1_b(double a, double b)
{
    return smooth_l1_a(b, a);
}
static double huber(double a, double b)
{
    const double d = fabs(a - b);
    return d <= 0.75 ? d * d / 2 : 0.75 * (d - 0.375);
}
static double huber_a(double a, double b)
{
    return fmax(-0.75, fmin(0.75, a - b));
}
static double huber_b(double a, double b)
{
    return huber_a(b, a);
}
static double bce(double a, double b)
{
    return b * log1p(exp(-a)) + (1 - b) * log1p(exp(a));
}
static double bce_a(double a, double b)
{
    return 1 / (1 + exp(-a)) - b;
}
static double bce_b(double a, double b)
{
    (void)b;
    return -a;
}
static double kl(double a, double b)
{
    return b > 0 ? b * log(b) - b * a : 0;
}
static double kl_a(double a, double b)
{
    (void)a;
    return -b;
}
static double kl_b(double a, double b)
{
    return log(b) + 1 - a;
}
static double kl_log(double a, double b)
{
    return exp(b) * (b - a);
}
static double kl_log_a(double a, double b)
{
    (void)a;
    return -exp(b);
}
static double kl_log_b(double a, double b)
{
    return exp(b) * (b - a + 1);
}

static const loss_row losses[] = {
    {"mse", mse, mse_a, mse_b, -2, 2, NULL, 0},
    {"l1", l1, l1_a, l1_b, -2, 2, NULL, 0},
    {"smooth_l1", smooth_l1, smooth_l1_a, smooth_l1_b, -2, 2, "beta", 0.5},
    {"huber", huber, huber_a, huber_b, -2, 2, "delta", 0.75},
    {"bce_with_logits", bce, bce_a, bce_b, 0, 1, NULL, 0},
    {"kl_div", kl, kl_a, kl_b, 0.125, 1, NULL, 0},
    {"kl_div", kl_log, kl_log_a, kl_log_b, -2, 0, "log_target", 1},
};

static tsr_tensor *uniform(const run *r, tsr_dtype dtype, int rank, const int64_t *shape, double low, double high,
                           uint32_t seed, double *values)
{
    float f[256];
    uint32_t state = seed;
    for (int64_t i = 0; i < count_of(rank, shape); i++)
        f[i] = (float)(low + (high - low) * (double)random_next(&state) / 16777216.0);
    tsr_tensor *t = tsr_cast(tsr_from_data(r->device, TSR_F32, rank, shape, f), dtype);
    require(r, t);
    double *v = values_of(r, t);
    memcpy(values, v, sizeof(double) * (size_t)count_of(rank, shape));
    free(v);
    require_ok(r, tsr_set_requires_grad(t, true));
    return t;
}

static void expect_near(const run *r, const char *what, tsr_tensor *t, const double *expected, const double *sizes,
                        double roundings)
{
    require(r, t);
    const tsr_dtype dtype = tsr_dtype_of(t);
    double *got = values_of(r, t);
    for (int64_t i = 0; i < tsr_numel(t); i++) {
        const double bound = roundings * accumulator_roundoff(dtype) * sizes[i] +
                             2 * unit_roundoff(dtype) * fabs(expected[i]) + smallest_half(dtype);
        if (!(fabs(got[i] - expected[i]) <= bound || (isnan(got[i]) && isnan(expected[i]))))
            fail_msg("%s %s on %s: element %lld is %.9g for %.9g, bound %.3g", what, tsr_dtype_name(dtype), r->name,
                     (long long)i, got[i], expected[i], bound);
    }
    free(got);
}

enum { ROWS = 13, COLS = 9, N = ROWS * COLS };

/* a [13, 9] against b [9]: b's gradient is summed over the rows. */
static void loss_on(const run *r, const loss_row *row, tsr_dtype dtype, tsr_reduction reduction)
{
    double a[N], b[COLS], e[N], size[N], da[N], db[COLS] = {0}, db_size[COLS] = {0}, total = 0, sizes = 0;
    require_ok(r, tsr_scope_begin());
    tsr_tensor *ta = uniform(r, dtype, 2, (int64_t[]){ROWS, COLS}, -2, 2, 1, a);
    tsr_tensor *tb = uniform(r, dtype, 1, (int64_t[]){COLS}, row->low, row->high, 2, b);
    tsr_attr attrs[2] = {{.name = "reduction", .kind = TSR_ATTR_INT, .i = reduction}};
    if (row->attr != NULL)
        attrs[1] = (tsr_attr){.name = row->attr,
                              .kind = strcmp(row->attr, "log_target") == 0 ? TSR_ATTR_BOOL : TSR_ATTR_FLOAT,
                              .i = 1,
                              .f = row->scalar};
    tsr_tensor *y = NULL;
    require_ok(r, tsr_op_call(row->name, (tsr_tensor *[]){ta, tb}, 2, &y, 1, attrs, row->attr != NULL ? 2 : 1));
    const double share = reduction == TSR_REDUCTION_MEAN ? 1.0 / N : 1;
    for (int i = 0; i < N; i++) {
        e[i] = row->f(a[i], b[i % COLS]);
        size[i] = 4 + fabs(e[i]);
        total += e[i] * share;
        sizes += size[i] * share;
        da[i] = row->da(a[i], b[i % COLS]) * share;
        db[i % COLS] += row->db(a[i], b[i % COLS]) * share;
        db_size[i % COLS] += (4 + fabs(row->db(a[i], b[i % COLS]))) * share;
    }
    if (reduction == TSR_REDUCTION_NONE)
        expect_near(r, row->name, y, e, size, 8);
    else
        expect_near(r, row->name, y, &total, &sizes, 24);
    require_ok(r, tsr_backward_from(y, NULL, false));
    for (int i = 0; i < N; i++)
        size[i] = 8 * share;
    expect_near(r, row->name, tsr_grad(ta), da, size, 12);
    /* With NONE the terms of a 16-bit gradient are rounded before they are added. */
    const double terms = reduction == TSR_REDUCTION_NONE && dtype != TSR_F64 && dtype != TSR_F32
                             ? unit_roundoff(dtype) / accumulator_roundoff(dtype)
                             : 24;
    expect_near(r, row->name, tsr_grad(tb), db, db_size, terms);
    tsr_clear_grad(ta);
    tsr_clear_grad(tb);
    require_ok(r, tsr_scope_end());
}

/* A driver that compiles at run time takes its time over each kernel: there, f32 and f16, and by the kernels for GPUs f32. */
static bool wanted(const run *r, tsr_dtype dtype)
{
    const bool cpu = strncmp(r->name, "cpu", 3) == 0, gpu_kernels = strstr(r->name, "GPUs") != NULL;
    return run_has(r, dtype) && (cpu || dtype == TSR_F32 || (dtype == TSR_F16 && !gpu_kernels));
}

static void losses_on(const run *r)
{
    /* The kernels for GPUs are those of binary operators, whose bits kernel_devices compares: one loss shows the way there. */
    const size_t count = strstr(r->name, "GPUs") != NULL ? 1 : sizeof losses / sizeof *losses;
    for (size_t k = 0; k < count; k++)
        for (int d = 0; d < 4; d++)
            for (int reduction = 0; reduction < 3 && wanted(r, float_dtypes[d]); reduction++)
                loss_on(r, &losses[k], float_dtypes[d], (tsr_reduction)reduction);
}

static void test_losses(void **state)
{
    (void)state;
    on_every_device(losses_on);
}

/* ---- classes: x [4, 5, 3] against targets [4, 3] ---- */

enum { BATCH = 4, CLASSES = 5, PLACES = 3, TARGETS = BATCH * PLACES, SCORES = BATCH * CLASSES * PLACES };

typedef struct class_case {
    bool logits, weighted;
    tsr_reduction reduction;
    int64_t ignore;
    double smoothing;
} class_case;

static const class_case class_cases[] = {
    {true, false, TSR_REDUCTION_MEAN, -100, 0},  {true, true, TSR_REDUCTION_MEAN, 2, 0.1},
    {true, true, TSR_REDUCTION_SUM, -100, 0.25}, {true, false, TSR_REDUCTION_NONE, 1, 0.1},
    {true, true, TSR_REDUCTION_NONE, -1, 0},     {false, false, TSR_REDUCTION_MEAN, 3, 0},
    {false, true, TSR_REDUCTION_MEAN, -100, 0},  {false, true, TSR_REDUCTION_SUM, 0, 0},
    {false, false, TSR_REDUCTION_NONE, 4, 0},
};

/* -log_softmax, or -x where x are logarithms already */
static void class_terms(const class_case *c, const double *x, double *nll, double *q)
{
    double m = x[0], z = 0;
    for (int k = 1; k < CLASSES; k++)
        m = fmax(m, x[k * PLACES]);
    for (int k = 0; k < CLASSES; k++)
        z += exp(x[k * PLACES] - m);
    for (int k = 0; k < CLASSES; k++) {
        nll[k] = c->logits ? m + log(z) - x[k * PLACES] : -x[k * PLACES];
        q[k] = c->logits ? exp(x[k * PLACES] - m) / z : 0;
    }
}

static void classes_on(const run *r, const class_case *c, tsr_dtype dtype, tsr_dtype index)
{
    static const int64_t targets[TARGETS] = {0, 2, 4, 1, 1, 3, 2, 0, 4, 3, 2, 1};
    double x[SCORES], w[CLASSES], e[TARGETS], d[SCORES] = {0}, sizes[SCORES], share = 0, total = 0, all = 0;
    int32_t narrow[TARGETS];
    require_ok(r, tsr_scope_begin());
    tsr_tensor *tx = uniform(r, dtype, 3, (int64_t[]){BATCH, CLASSES, PLACES}, -3, 3, 5, x);
    tsr_tensor *tw = tsr_detach(uniform(r, dtype, 1, (int64_t[]){CLASSES}, 0.5, 2, 6, w));
    for (int i = 0; i < TARGETS; i++)
        narrow[i] = (int32_t)targets[i];
    tsr_tensor *target = tsr_from_data(r->device, index, 2, (int64_t[]){BATCH, PLACES},
                                       index == TSR_I64 ? (const void *)targets : (const void *)narrow);
    require(r, target);
    tsr_tensor *weight = c->weighted ? tw : NULL;
    tsr_tensor *y = c->logits ? tsr_cross_entropy_with(tx, target, weight, c->reduction, c->ignore, c->smoothing)
                              : tsr_nll(tx, target, weight, c->reduction, c->ignore);
    require(r, y);
    for (int k = 0; k < CLASSES; k++) {
        w[k] = c->weighted ? w[k] : 1;
        all += w[k];
    }
    for (int i = 0; i < TARGETS; i++)
        share += targets[i] == c->ignore ? 0 : w[targets[i]];
    for (int i = 0; i < TARGETS; i++) {
        double nll[CLASSES], q[CLASSES], smooth = 0;
        const int first = i / PLACES * CLASSES * PLACES + i % PLACES;
        class_terms(c, x + first, nll, q);
        for (int k = 0; k < CLASSES; k++)
            smooth += w[k] * nll[k];
        e[i] = targets[i] == c->ignore
                   ? 0
                   : (1 - c->smoothing) * w[targets[i]] * nll[targets[i]] + c->smoothing / CLASSES * smooth;
        total += e[i];
        for (int k = 0; k < CLASSES && targets[i] != c->ignore; k++) {
            const double hit = targets[i] == k;
            d[first + k * PLACES] = c->logits ? (1 - c->smoothing) * w[targets[i]] * (q[k] - hit) +
                                                    c->smoothing / CLASSES * (q[k] * all - w[k])
                                              : -hit * w[k];
        }
    }
    for (int i = 0; i < SCORES; i++) {
        sizes[i] = 16;
        d[i] /= c->reduction == TSR_REDUCTION_MEAN ? share : 1;
    }
    total /= c->reduction == TSR_REDUCTION_MEAN ? share : 1;
    const char *name = c->logits ? "cross_entropy" : "nll";
    if (c->reduction == TSR_REDUCTION_NONE) {
        assert_int_equal(tsr_rank(y), 2);
        expect_near(r, name, y, e, sizes, 8);
    } else {
        expect_near(r, name, y, &total, (double[]){100}, 8);
    }
    require_ok(r, tsr_backward_from(y, NULL, false));
    expect_near(r, name, tsr_grad(tx), d, sizes, 8);
    tsr_clear_grad(tx);
    require_ok(r, tsr_scope_end());
}

static void all_classes_on(const run *r)
{
    for (size_t k = 0; k < sizeof class_cases / sizeof *class_cases; k++)
        for (int d = 0; d < 4; d++)
            if (wanted(r, float_dtypes[d]))
                classes_on(r, &class_cases[k], float_dtypes[d], k % 2 == 0 ? TSR_I64 : TSR_I32);
}

static void test_classes(void **state)
{
    (void)state;
    on_every_device(all_classes_on);
}

/* ---- corners ---- */

static void expect_item(const run *r, const char *what, tsr_tensor *y, double expected)
{
    double v = 0;
    require_ok(r, tsr_item(y, &v));
    if (!(v == expected || (isnan(v) && isnan(expected))))
        fail_msg("%s on %s: %g for %g", what, r->name, v, expected);
}

static void corners_on(const run *r)
{
    const int64_t n = 3;
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = tsr_from_data(r->device, TSR_F32, 1, &n, (float[]){0.5f, 200, -200});
    tsr_tensor *t = tsr_from_data(r->device, TSR_F32, 1, &n, (float[]){0.5f, 1, 0});
    tsr_tensor *none = tsr_zeros(r->device, TSR_F32, 1, (int64_t[]){0});
    expect_item(r, "mse of none", tsr_mse(none, none, TSR_REDUCTION_MEAN), (double)NAN);
    expect_item(r, "l1 of none", tsr_l1(none, none, TSR_REDUCTION_SUM), 0);
    expect_item(r, "bce of extremes",
                tsr_bce_with_logits(tsr_slice(x, 0, 1, 3, 1), tsr_slice(t, 0, 1, 3, 1), TSR_REDUCTION_SUM), 0);
    expect_item(r, "smooth_l1 with beta 0", tsr_smooth_l1(x, tsr_neg(x), 0, TSR_REDUCTION_SUM), 801);
    expect_item(r, "kl_div of 0 log 0", tsr_kl_div(x, tsr_zeros(r->device, TSR_F32, 1, &n), false, TSR_REDUCTION_SUM),
                0);
    tsr_tensor *rows = tsr_zeros(r->device, TSR_F32, 2, (int64_t[]){2, 3});
    tsr_tensor *away = tsr_from_data(r->device, TSR_I64, 1, (int64_t[]){2}, (int64_t[]){-100, -100});
    tsr_tensor *bad = tsr_from_data(r->device, TSR_I64, 1, (int64_t[]){2}, (int64_t[]){0, 3});
    expect_item(r, "all ignored", tsr_cross_entropy(rows, away), (double)NAN);
    expect_item(r, "all ignored, sum", tsr_nll(rows, away, NULL, TSR_REDUCTION_SUM, -100), 0);
    expect_item(r, "a target outside", tsr_nll(rows, bad, NULL, TSR_REDUCTION_SUM, -100), (double)NAN);
    expect_item(r, "one row", tsr_nll(x, tsr_full(r->device, TSR_I64, 0, NULL, 1), NULL, TSR_REDUCTION_MEAN, -100),
                -200);
    assert_null(tsr_mse(x, t, (tsr_reduction)7));
    assert_non_null(strstr(tsr_last_error(), "reduction 7"));
    tsr_clear_error();
    assert_null(tsr_cross_entropy_with(rows, bad, x, TSR_REDUCTION_MEAN, -100, 1.5));
    assert_non_null(strstr(tsr_last_error(), "1.5"));
    tsr_clear_error();
    assert_null(tsr_nll(rows, bad, none, TSR_REDUCTION_MEAN, -100));
    assert_non_null(strstr(tsr_last_error(), "3 classes"));
    tsr_clear_error();
    require_ok(r, tsr_scope_end());
}

static void test_corners(void **state)
{
    (void)state;
    on_every_device(corners_on);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_losses),
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_corners),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
