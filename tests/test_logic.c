/* Comparisons, logical and bitwise operators, questions, masks and remainders, on every device and in every dtype: results are
 * exact, so they are compared with plain C. */
#include "tests/op_reference.h"

#include <float.h>

static const tsr_dtype all_dtypes[] = {TSR_F32, TSR_F16, TSR_BF16, TSR_F64, TSR_I32, TSR_I64, TSR_U8, TSR_BOOL};

static bool is_float(tsr_dtype d)
{
    return d == TSR_F32 || d == TSR_F16 || d == TSR_BF16 || d == TSR_F64;
}

/* Of the dtypes besides f32: one of two bytes, one of eight, one of one. */
static bool is_one_of_few(tsr_dtype d)
{
    return d == TSR_F16 || d == TSR_I64 || d == TSR_BOOL;
}

/* Small whole numbers that the dtype holds, cast to it, as [rows, cols]; the same on the host. */
static tsr_tensor *small_numbers(const run *r, tsr_dtype dtype, int64_t rows, int64_t cols, uint32_t seed,
                                 double *values)
{
    float f[64];
    assert_true(rows * cols <= 64);
    uint32_t state = seed;
    for (int64_t i = 0; i < rows * cols; i++) {
        const int v = (int)(random_next(&state) % 9);
        f[i] = (float)(dtype == TSR_BOOL ? v % 2 : dtype == TSR_U8 ? v : v - 4);
        values[i] = (double)f[i];
    }
    tsr_tensor *t = tsr_cast(tsr_from_data(r->device, TSR_F32, 2, (int64_t[]){rows, cols}, f), dtype);
    require(r, t);
    return t;
}

/* A driver that compiles at run time takes its time over each kernel: there, all operators are tried in f32, and in the other
 * dtypes a few of them; the kernels for GPUs, which differ in a loop, in f32 alone. */
static bool wanted(const run *r, tsr_dtype dtype, bool one_of_few)
{
    const bool cpu = strncmp(r->name, "cpu", 3) == 0, gpu_kernels = strstr(r->name, "GPUs") != NULL;
    return run_has(r, dtype) && (cpu || dtype == TSR_F32 || (!gpu_kernels && one_of_few));
}

static tsr_tensor *call2(const run *r, const char *name, tsr_tensor *a, tsr_tensor *b)
{
    tsr_tensor *y = NULL;
    require_ok(r, tsr_op_call(name, (tsr_tensor *[]){a, b}, 2, &y, 1, NULL, 0));
    return y;
}

static void expect_values(const run *r, const char *what, tsr_tensor *y, const double *expected)
{
    double *got = values_of(r, y);
    for (int64_t i = 0; i < tsr_numel(y); i++)
        if (!(got[i] == expected[i] || (isnan(got[i]) && isnan(expected[i]))))
            fail_msg("%s on %s: element %lld is %g for %g", what, r->name, (long long)i, got[i], expected[i]);
    free(got);
}

/* ---- comparisons and logic: any dtype to bool; [5, 7] with [1, 7], and with a transposed operand ---- */

enum { EQ, NE, LT, LE, GT, GE, AND, OR, XOR, COMPARISONS };
static const char *const comparisons[] = {"eq", "ne",          "lt",         "le",         "gt",
                                          "ge", "logical_and", "logical_or", "logical_xor"};

static bool holds(int which, double a, double b)
{
    switch (which) {
    case EQ: return a == b;
    case NE: return a != b;
    case LT: return a < b;
    case LE: return a <= b;
    case GT: return a > b;
    case GE: return a >= b;
    case AND: return a != 0 && b != 0;
    case OR: return a != 0 || b != 0;
    default: return (a != 0) != (b != 0);
    }
}

static void comparisons_on(const run *r)
{
    for (size_t d = 0; d < sizeof all_dtypes / sizeof *all_dtypes; d++) {
        const tsr_dtype dtype = all_dtypes[d];
        double a[35], b[35], expected[35];
        if (!wanted(r, dtype, is_one_of_few(dtype)) || !run_has(r, TSR_BOOL))
            continue;
        require_ok(r, tsr_scope_begin());
        tsr_tensor *ta = small_numbers(r, dtype, 5, 7, 3, a), *row = small_numbers(r, dtype, 1, 7, 4, b);
        for (int k = 0; k < COMPARISONS; k++) {
            if (!wanted(r, dtype, k == LT || k == AND))
                continue;
            for (int i = 0; i < 35; i++)
                expected[i] = holds(k, a[i], b[i % 7]);
            tsr_tensor *y = call2(r, comparisons[k], ta, row);
            assert_int_equal(tsr_dtype_of(y), TSR_BOOL);
            expect_values(r, comparisons[k], y, expected);
        }
        tsr_tensor *turned = tsr_transpose(small_numbers(r, dtype, 7, 5, 5, b), 0, 1);
        for (int k = 0; k < COMPARISONS; k++) {
            if (!wanted(r, dtype, k == LT || k == AND))
                continue;
            for (int i = 0; i < 35; i++)
                expected[i] = holds(k, a[i], b[i % 7 * 5 + i / 7]);
            expect_values(r, comparisons[k], call2(r, comparisons[k], ta, turned), expected);
        }
        for (int i = 0; i < 35; i++)
            expected[i] = a[i] == 0;
        expect_values(r, "logical_not", tsr_logical_not(ta), expected);
        for (int i = 0; i < 35; i++)
            expected[i] = 1;
        if (wanted(r, dtype, false))
            expect_values(r, "isfinite", tsr_isfinite(ta), expected);
        assert_int_equal(tsr_numel(tsr_eq(tsr_slice(ta, 0, 0, 0, 1), row)), 0);
        require_ok(r, tsr_scope_end());
    }
}

static void test_comparisons(void **state)
{
    (void)state;
    on_every_device(comparisons_on);
}

/* ---- NaN and infinities ---- */

static void specials_on(const run *r)
{
    static const float x[] = {NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 1.5f, -2.0f, 60000.0f};
    const int64_t n = 8;
    for (int d = 0; d < 4; d++) {
        const tsr_dtype dtype = float_dtypes[d];
        if (!wanted(r, dtype, dtype == TSR_F64))
            continue;
        require_ok(r, tsr_scope_begin());
        tsr_tensor *t = tsr_cast(tsr_from_data(r->device, TSR_F32, 1, &n, x), dtype);
        double *v = values_of(r, t), expected[8];
        const double top = dtype == TSR_F64    ? DBL_MAX
                           : dtype == TSR_F32  ? (double)FLT_MAX
                           : dtype == TSR_BF16 ? 0x1.fep127
                                               : 65504.0;
        if (run_has(r, TSR_BOOL)) {
            for (int i = 0; i < n; i++)
                expected[i] = isnan(v[i]);
            expect_values(r, "isnan", tsr_isnan(t), expected);
            for (int i = 0; i < n; i++)
                expected[i] = isinf(v[i]) != 0;
            expect_values(r, "isinf", tsr_isinf(t), expected);
            for (int i = 0; i < n; i++)
                expected[i] = isfinite(v[i]);
            expect_values(r, "isfinite", tsr_isfinite(t), expected);
            for (int i = 0; i < n; i++)
                expected[i] = isnan(v[i]);
            expect_values(r, "ne with itself", tsr_ne(t, t), expected);
        }
        for (int i = 0; i < n; i++)
            expected[i] = isnan(v[i]) ? 0.25 : isinf(v[i]) ? (v[i] > 0 ? top : -8) : v[i];
        require_ok(r, tsr_set_requires_grad(t, true));
        tsr_tensor *y = tsr_nan_to_num(t, 0.25, (double)NAN, -8);
        expect_values(r, "nan_to_num", y, expected);
        if (run_has(r, TSR_BOOL)) {
            require_ok(r, tsr_backward_from(y, NULL, false));
            for (int i = 0; i < n; i++)
                expected[i] = isfinite(v[i]);
            expect_values(r, "d nan_to_num", tsr_grad(t), expected);
        }
        tsr_tensor *plain = tsr_detach(t), *out = NULL;
        require_ok(r, tsr_op_call("nan_to_num", &plain, 1, &out, 1, NULL, 0));
        for (int i = 0; i < n; i++)
            expected[i] = isnan(v[i]) ? 0 : isinf(v[i]) ? copysign(top, v[i]) : v[i];
        expect_values(r, "nan_to_num by default", out, expected);
        tsr_clear_grad(t);
        free(v);
        require_ok(r, tsr_scope_end());
    }
}

static void test_specials(void **state)
{
    (void)state;
    on_every_device(specials_on);
}

/* ---- masks, any dtype ---- */

static void masks_on(const run *r)
{
    if (!run_has(r, TSR_BOOL))
        return;
    for (size_t d = 0; d < sizeof all_dtypes / sizeof *all_dtypes; d++) {
        const tsr_dtype dtype = all_dtypes[d];
        double x[35], m[7], expected[35];
        if (!wanted(r, dtype, is_one_of_few(dtype)))
            continue;
        require_ok(r, tsr_scope_begin());
        tsr_tensor *t = small_numbers(r, dtype, 5, 7, 8, x), *mask = small_numbers(r, TSR_BOOL, 1, 7, 9, m);
        if (is_float(dtype))
            require_ok(r, tsr_set_requires_grad(t, true));
        for (int i = 0; i < 35; i++)
            expected[i] = m[i % 7] != 0 ? 1 : x[i];
        tsr_tensor *y = tsr_masked_fill(t, mask, 1);
        assert_int_equal(tsr_dtype_of(y), dtype);
        expect_values(r, "masked_fill", y, expected);
        if (is_float(dtype)) {
            require_ok(r, tsr_backward_from(y, NULL, false));
            for (int i = 0; i < 35; i++)
                expected[i] = m[i % 7] == 0;
            expect_values(r, "d masked_fill", tsr_grad(t), expected);
            tsr_clear_grad(t);
            tsr_tensor *down = tsr_masked_fill(tsr_detach(t), mask, -(double)INFINITY);
            for (int i = 0; i < 35; i++)
                expected[i] = m[i % 7] != 0 ? -(double)INFINITY : x[i];
            expect_values(r, "masked_fill with -inf", down, expected);
        }
        tsr_tensor *other = small_numbers(r, dtype, 5, 1, 10, expected);
        double o[5];
        memcpy(o, expected, sizeof o);
        for (int i = 0; i < 35; i++)
            expected[i] = m[i % 7] != 0 ? x[i] : o[i / 7];
        expect_values(r, "where", tsr_where(mask, tsr_detach(t), other), expected);
        require_ok(r, tsr_scope_end());
    }
}

static void test_masks(void **state)
{
    (void)state;
    on_every_device(masks_on);
}

/* ---- bits ---- */

static int64_t shifted(int64_t a, int64_t by, int bits, bool left)
{
    if (by < 0 || by >= bits)
        return left || a >= 0 ? 0 : -1;
    return left ? (int64_t)((uint64_t)a << by) : a >> by;
}

/* As the dtype keeps it. */
static int64_t wrapped(int64_t v, tsr_dtype dtype)
{
    return dtype == TSR_I32 ? (int64_t)(int32_t)(uint32_t)(uint64_t)v : dtype == TSR_U8 ? (int64_t)(uint8_t)v : v;
}

static void read_integers(const run *r, tsr_tensor *t, int64_t *out)
{
    int32_t narrow[40];
    uint8_t bytes[40];
    const size_t n = (size_t)tsr_numel(t);
    if (tsr_dtype_of(t) == TSR_I64) {
        require_ok(r, tsr_read(t, out, n * 8));
        return;
    }
    require_ok(r, tsr_dtype_of(t) == TSR_I32 ? tsr_read(t, narrow, n * 4) : tsr_read(t, bytes, n));
    for (size_t i = 0; i < n; i++)
        out[i] = tsr_dtype_of(t) == TSR_I32 ? narrow[i] : bytes[i];
}

static tsr_tensor *integers(const run *r, tsr_dtype dtype, const int64_t *v, int64_t n)
{
    int32_t narrow[40];
    uint8_t bytes[40];
    for (int64_t i = 0; i < n; i++) {
        narrow[i] = (int32_t)(uint32_t)(uint64_t)v[i];
        bytes[i] = (uint8_t)v[i];
    }
    tsr_tensor *t = tsr_from_data(r->device, dtype, 1, &n,
                                  dtype == TSR_I64   ? (const void *)v
                                  : dtype == TSR_I32 ? (const void *)narrow
                                                     : (const void *)bytes);
    require(r, t);
    return t;
}

static int64_t wanted_bits(int which, int64_t a, int64_t b, int bits)
{
    return which == 0   ? a & b
           : which == 1 ? a | b
           : which == 2 ? a ^ b
           : which == 5 ? ~a
                        : shifted(a, b, bits, which == 3);
}

static void bits_on(const run *r)
{
    static const char *const names[] = {"bitwise_and",        "bitwise_or",          "bitwise_xor",
                                        "bitwise_left_shift", "bitwise_right_shift", "bitwise_not"};
    static const int64_t a[] = {0,   1,   -1, 12345678901, -987654321, INT32_MAX, INT32_MIN,
                                255, 170, 85, INT64_MAX,   INT64_MIN,  7};
    static const int64_t b[] = {1, 3, 31, 32, 63, 64, -1, 200, 8, 7, 2, 0, 33};
    enum { N = 13 };
    const tsr_dtype dtypes[] = {TSR_I32, TSR_I64, TSR_U8};
    const bool gpu_kernels = strstr(r->name, "GPUs") != NULL;
    for (int d = 0; d < 3 && !gpu_kernels; d++) {
        const tsr_dtype dtype = dtypes[d];
        const int bits = dtype == TSR_I64 ? 64 : dtype == TSR_I32 ? 32 : 8;
        if (!run_has(r, dtype))
            continue;
        require_ok(r, tsr_scope_begin());
        tsr_tensor *in[] = {integers(r, dtype, a, N), integers(r, dtype, b, N)};
        for (int k = 0; k < 6; k++) {
            int64_t got[N];
            tsr_tensor *y = NULL;
            require_ok(r, tsr_op_call(names[k], in, k == 5 ? 1 : 2, &y, 1, NULL, 0));
            read_integers(r, y, got);
            for (int i = 0; i < N; i++) {
                const int64_t expected =
                    wrapped(wanted_bits(k, wrapped(a[i], dtype), wrapped(b[i], dtype), bits), dtype);
                if (got[i] != expected)
                    fail_msg("%s %s on %s: %lld, %lld gives %lld for %lld", names[k], tsr_dtype_name(dtype), r->name,
                             (long long)wrapped(a[i], dtype), (long long)wrapped(b[i], dtype), (long long)got[i],
                             (long long)expected);
            }
        }
        require_ok(r, tsr_scope_end());
    }
    if (!run_has(r, TSR_BOOL) || gpu_kernels)
        return;
    require_ok(r, tsr_scope_begin());
    const int64_t n = 4;
    tsr_tensor *p = tsr_from_data(r->device, TSR_BOOL, 1, &n, (uint8_t[]){0, 0, 1, 1});
    tsr_tensor *q = tsr_from_data(r->device, TSR_BOOL, 1, &n, (uint8_t[]){0, 1, 0, 1}), *y = NULL;
    expect_values(r, "and of bool", tsr_bitwise_and(p, q), (double[]){0, 0, 0, 1});
    expect_values(r, "or of bool", tsr_bitwise_or(p, q), (double[]){0, 1, 1, 1});
    expect_values(r, "xor of bool", tsr_bitwise_xor(p, q), (double[]){0, 1, 1, 0});
    expect_values(r, "not of bool", tsr_bitwise_not(p), (double[]){1, 1, 0, 0});
    assert_int_equal(tsr_op_call("bitwise_left_shift", (tsr_tensor *[]){p, q}, 2, &y, 1, NULL, 0), TSR_UNSUPPORTED);
    require_ok(r, tsr_scope_end());
}

static void test_bits(void **state)
{
    (void)state;
    on_every_device(bits_on);
}

/* ---- remainders, angles and lengths ---- */

static void remainders_on(const run *r)
{
    static const int64_t a[] = {7, -7, 7, -7, 0, 6, -6, INT32_MAX, INT32_MIN, 5, 1};
    static const int64_t b[] = {3, 3, -3, -3, 5, 3, 3, 1000, -1, 0, -5};
    enum { N = 11 };
    const tsr_dtype dtypes[] = {TSR_I32, TSR_I64};
    for (int d = 0; d < 2; d++) {
        int64_t got[2][N];
        if (!wanted(r, dtypes[d], true))
            continue;
        require_ok(r, tsr_scope_begin());
        tsr_tensor *ta = integers(r, dtypes[d], a, N), *tb = integers(r, dtypes[d], b, N);
        read_integers(r, tsr_fmod(ta, tb), got[0]);
        read_integers(r, tsr_remainder(ta, tb), got[1]);
        for (int i = 0; i < N; i++) {
            const int64_t c = b[i] == 0 ? 0 : a[i] % b[i];
            assert_int_equal(got[0][i], c);
            assert_int_equal(got[1][i], c != 0 && (c < 0) != (b[i] < 0) ? c + b[i] : c);
        }
        require_ok(r, tsr_scope_end());
    }
    static const float x[] = {5.5f, -5.5f, 5.5f, -5.5f, 1e30f, 3.0f, 0x1p-149f, 1.0f, -0.0f, INFINITY, 2.0f};
    static const float y[] = {2.0f, 2.0f, -2.0f, -2.0f, 7.0f, 0x1p-140f, 3.0f, INFINITY, 3.0f, 2.0f, 0.0f};
    double expected[N];
    const int64_t n = N;
    require_ok(r, tsr_scope_begin());
    tsr_tensor *tx = tsr_from_data(r->device, TSR_F32, 1, &n, x), *ty = tsr_from_data(r->device, TSR_F32, 1, &n, y);
    for (int i = 0; i < N; i++)
        expected[i] = fmod((double)x[i], (double)y[i]);
    expect_values(r, "fmod", tsr_fmod(tx, ty), expected);
    for (int i = 0; i < N; i++) {
        const float m = fmodf(x[i], y[i]);
        expected[i] = (double)(m != 0 && (m < 0) != (y[i] < 0) ? m + y[i] : m);
    }
    expect_values(r, "remainder", tsr_remainder(tx, ty), expected);
    require_ok(r, tsr_scope_end());
}

static void test_remainders(void **state)
{
    (void)state;
    on_every_device(remainders_on);
}

/* In f64, where each target has functions of its own; f32's bits are in kernel_devices, its bounds in kernel_math. */
static void angles_on(const run *r)
{
    static const double v[] = {
        0.0, -0.0, 1, -1, 0.3, -2.5, 1e-200, 1e200, 3e5, -7e-5, (double)INFINITY, -(double)INFINITY, (double)NAN};
    enum { K = 13, N = K * K };
    double a[N], b[N];
    const int64_t n = N;
    if (!wanted(r, TSR_F64, true))
        return;
    for (int i = 0; i < N; i++) {
        a[i] = v[i / K];
        b[i] = v[i % K];
    }
    require_ok(r, tsr_scope_begin());
    tsr_tensor *ta = tsr_from_data(r->device, TSR_F64, 1, &n, a), *tb = tsr_from_data(r->device, TSR_F64, 1, &n, b);
    require(r, tb);
    double *angle = values_of(r, tsr_atan2(ta, tb)), *length = values_of(r, tsr_hypot(ta, tb)),
           *rest = values_of(r, tsr_fmod(ta, tb));
    for (int i = 0; i < N; i++) {
        const double wanted[] = {atan2(a[i], b[i]), hypot(a[i], b[i]), fmod(a[i], b[i])};
        const double got[] = {angle[i], length[i], rest[i]}, ulp[] = {8, 8, 0};
        for (int k = 0; k < 3; k++)
            if (!(got[k] == wanted[k] || (isnan(got[k]) && isnan(wanted[k])) ||
                  fabs(got[k] - wanted[k]) <= ulp[k] * 0x1p-52 * fabs(wanted[k])))
                fail_msg("%s of f64 on %s: (%g, %g) gives %.17g for %.17g",
                         k == 0   ? "atan2"
                         : k == 1 ? "hypot"
                                  : "fmod",
                         r->name, a[i], b[i], got[k], wanted[k]);
    }
    free(angle);
    free(length);
    free(rest);
    require_ok(r, tsr_scope_end());
}

static void test_angles(void **state)
{
    (void)state;
    on_every_device(angles_on);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_comparisons), cmocka_unit_test(test_specials),   cmocka_unit_test(test_masks),
        cmocka_unit_test(test_bits),        cmocka_unit_test(test_remainders), cmocka_unit_test(test_angles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
