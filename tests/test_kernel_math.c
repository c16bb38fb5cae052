/* The f32 operators of elementwise.def on the C target: against the C library's double functions, with the bound that
 * the table promises, on a sample of all floats, every exponent and the special values; and equal bits from every
 * instruction set. */
#include "unit.h"

#include "base/memory.h"
#include "ops/elementwise_table.h"
#include "tests/kernel_native.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

enum { STEP = 4093, BATCH = 1 << 16 };

/* ---- references, in double --------------------------------------------------------------------------------------- */

static double s0, s1; /* the operator's attributes */

static double r_neg(double x)
{
    return -x;
}
static double r_sign(double x)
{
    return (x > 0) - (x < 0);
}
static double r_square(double x)
{
    return x * x;
}
static double r_reciprocal(double x)
{
    return 1 / x;
}
static double r_rsqrt(double x)
{
    return 1 / sqrt(x);
}
static double r_sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}
static double r_relu(double x)
{
    return x <= 0 ? 0 : x;
}
static double r_leaky_relu(double x)
{
    return x > 0 ? x : x * s0;
}
static double r_elu(double x)
{
    return x > 0 ? x : s0 * expm1(x);
}
static double r_silu(double x)
{
    return x / (1 + exp(-x));
}
static double r_gelu(double x)
{
    return x * 0.5 * erfc(-x * 0.70710678118654752440);
}
static double r_gelu_tanh(double x)
{
    return x / (1 + exp(-1.59576912160573071176 * (x + 0.044715 * x * x * x)));
}
static double r_softplus(double x)
{
    return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}
static double r_clamp(double x)
{
    return isnan(x) ? x : fmin(fmax(x, s0), s1);
}
static double r_affine(double x)
{
    return x * s0 + s1;
}

static double r_frac(double x)
{
    return x - trunc(x);
}
static double r_logsigmoid(double x)
{
    return -r_softplus(-x);
}
static double r_selu(double x)
{
    return 1.0507009873554804934193349852946 * (x > 0 ? x : 1.6732632423543772848170429916717 * expm1(x));
}
static double r_celu(double x)
{
    return x > 0 ? x : s0 * expm1(x / s0);
}
static double r_mish(double x)
{
    return x * tanh(r_softplus(x));
}
static double r_relu6(double x)
{
    return isnan(x) ? x : fmin(fmax(x, 0), 6);
}
static double r_hardsigmoid(double x)
{
    return isnan(x) ? x : fmin(fmax(x + 3, 0), 6) / 6;
}
static double r_hardswish(double x)
{
    return x * r_hardsigmoid(x);
}

typedef struct unary_case {
    const char *name;
    double (*reference)(double);
    double s0, s1;
    double low, high; /* where the bound holds; 0, 0: everywhere */
} unary_case;

static const unary_case unary_cases[] = {
    {"neg", r_neg, 0, 0, 0, 0},
    {"abs", fabs, 0, 0, 0, 0},
    {"sign", r_sign, 0, 0, 0, 0},
    {"square", r_square, 0, 0, 0, 0},
    {"reciprocal", r_reciprocal, 0, 0, 0, 0},
    {"sqrt", sqrt, 0, 0, 0, 0},
    {"rsqrt", r_rsqrt, 0, 0, 0, 0},
    {"floor", floor, 0, 0, 0, 0},
    {"ceil", ceil, 0, 0, 0, 0},
    {"trunc", trunc, 0, 0, 0, 0},
    {"round", rint, 0, 0, 0, 0},
    {"exp", exp, 0, 0, 0, 0},
    {"exp2", exp2, 0, 0, 0, 0},
    {"expm1", expm1, 0, 0, 0, 0},
    {"log", log, 0, 0, 0, 0},
    {"log2", log2, 0, 0, 0, 0},
    {"log10", log10, 0, 0, 0, 0},
    {"log1p", log1p, 0, 0, 0, 0},
    {"sin", sin, 0, 0, 0, 0},
    {"cos", cos, 0, 0, 0, 0},
    {"tan", tan, 0, 0, 0, 0},
    {"tanh", tanh, 0, 0, 0, 0},
    {"erf", erf, 0, 0, 0, 0},
    {"erfc", erfc, 0, 0, 0, 0},
    {"sigmoid", r_sigmoid, 0, 0, 0, 0},
    {"relu", r_relu, 0, 0, 0, 0},
    {"leaky_relu", r_leaky_relu, 0.25, 0, 0, 0},
    {"elu", r_elu, 1.5, 0, 0, 0},
    /* below, the sigmoid or the normal distribution is a subnormal number with few digits */
    {"silu", r_silu, 0, 0, -87, FLT_MAX},
    {"gelu", r_gelu, 0, 0, -13, FLT_MAX},
    {"gelu_tanh", r_gelu_tanh, 0, 0, -10, 1e12},
    {"softplus", r_softplus, 0, 0, 0, 0},
    {"clamp", r_clamp, -1.5, 2.5, 0, 0},
    {"affine", r_affine, 2.0, 0.0, 0, 0},
    {"frac", r_frac, 0, 0, 0, 0},
    {"asin", asin, 0, 0, 0, 0},
    {"acos", acos, 0, 0, 0, 0},
    {"atan", atan, 0, 0, 0, 0},
    {"sinh", sinh, 0, 0, 0, 0},
    {"cosh", cosh, 0, 0, 0, 0},
    {"logsigmoid", r_logsigmoid, 0, 0, 0, 0},
    {"selu", r_selu, 0, 0, 0, 0},
    {"celu", r_celu, 1.5, 0, 0, 0},
    {"mish", r_mish, 0, 0, -87, FLT_MAX}, /* as silu */
    {"relu6", r_relu6, 0, 0, 0, 0},
    {"hardtanh", r_clamp, -1.5, 2.5, 0, 0},
    {"hardsigmoid", r_hardsigmoid, 0, 0, 0, 0},
    {"hardswish", r_hardswish, 0, 0, 0, 0},
};

/* ---- error in units in the last place ---------------------------------------------------------------------------- */

static double ulp_error(float got, double want)
{
    const float rounded = (float)want;
    if (isnan(want) || isnan(got))
        return isnan(want) && isnan(got) ? 0 : INFINITY;
    if (got == rounded)
        return want == 0 && got == 0 && !signbit(want) != !signbit(got) ? INFINITY : 0;
    if (isinf(want))
        return INFINITY;
    if (isinf(got)) /* a bound of a few ulp around the largest number holds infinity too */
        return fabs(want) > 3.40282e38 && (want > 0) == (got > 0) ? 1 : INFINITY;
    int exponent;
    frexp(want, &exponent);
    return fabs((double)got - want) / ldexp(1, (exponent < -125 ? -125 : exponent) - 24);
}

static float float_of(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* Every STEPth float; then around every power of two; then the special ones. */
static float *make_inputs(uint32_t *count)
{
    static const uint32_t specials[] = {0,          0x80000000, 0x7f800000, 0xff800000, 0x7fc00000,
                                        0xffc00001, 1,          0x80000001, 0x007fffff, 0x7f7fffff,
                                        0xff7fffff, 0x3f800000, 0xbf800000, 0x7f800001, 0x3fc90fdb,
                                        0x40490fdb, 0x42b17218, 0xc2cff1b5, 0x3f490fdb, 0x3f3504f3};
    float *x = host_alloc(((1ull << 32) / STEP + 16384) * sizeof *x);
    assert_non_null(x);
    uint32_t n = 0;
    for (uint64_t u = 0; u < 1ull << 32; u += STEP)
        x[n++] = float_of((uint32_t)u);
    for (uint32_t e = 0; e < 512; e++)
        for (int d = -8; d < 8; d++)
            x[n++] = float_of((e << 23) + (uint32_t)d);
    for (size_t i = 0; i < sizeof specials / sizeof specials[0]; i++)
        x[n++] = float_of(specials[i]);
    *count = n;
    return x;
}

static const elementwise_row *row_named(const char *name)
{
    for (size_t i = 0; i < elementwise_row_count; i++)
        if (strcmp(elementwise_rows[i].name, name) == 0)
            return &elementwise_rows[i];
    return NULL;
}

/* The same bits from every instruction set that this processor has; which NaN it is, no one promises. */
static bool isas_agree(const kernel_entry *e, int operands, uint32_t n, const double *scalars, void *const *inputs,
                       const float *expected)
{
    bool good = true;
    float *y = host_alloc(n * sizeof *y);
    assert_non_null(y);
    for (kernel_isa isa = ISA_BASELINE; isa <= catalogue_isa(); isa++) {
        if (!e->native[isa])
            continue;
        void *bindings[4] = {inputs[0], inputs[1], inputs[2], NULL};
        bindings[operands] = y;
        native_run(e, isa, operands, n, scalars, bindings);
        for (uint32_t i = 0; i < n && good; i++) {
            if (memcmp(&y[i], &expected[i], 4) != 0 && !(isnan(y[i]) && isnan(expected[i]))) {
                print_error("%s at %a: %a on instruction set %d, %a on the baseline\n", e->key,
                            ((const float *)inputs[0])[i], y[i], (int)isa, expected[i]);
                good = false;
            }
        }
    }
    host_free(y);
    return good;
}

static bool check_unary(const unary_case *c, const float *x, uint32_t n, float *y)
{
    const elementwise_row *row = row_named(c->name);
    const kernel_entry *e = native_entry("unary", c->name, "f32");
    if (!row || !e) {
        print_error("%s: no such operator\n", c->name);
        return false;
    }
    const double scalars[2] = {c->s0, c->s1};
    void *inputs[3] = {(void *)(uintptr_t)x, NULL, NULL};
    void *bindings[2] = {inputs[0], y};
    native_run(e, ISA_BASELINE, 1, n, scalars, bindings);
    s0 = c->s0;
    s1 = c->s1;
    double worst = 0;
    float worst_x = 0, worst_y = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (c->low < c->high && !(x[i] >= c->low && x[i] <= c->high) && !isnan(x[i]))
            continue;
        const double error = ulp_error(y[i], c->reference(x[i]));
        if (error > worst) {
            worst = error;
            worst_x = x[i];
            worst_y = y[i];
        }
    }
    print_message("%-11s %7.3f ulp, of %d\n", c->name, worst, row->ulp);
    if (worst > row->ulp)
        print_error("%s(%.9g) = %.9g for %.9g: %g ulp, more than %d\n", c->name, (double)worst_x, (double)worst_y,
                    c->reference(worst_x), worst, row->ulp);
    return worst <= row->ulp && isas_agree(e, 1, n, scalars, inputs, y);
}

static void unary_operators_are_within_their_bounds(void **state)
{
    (void)state;
    uint32_t n;
    float *x = make_inputs(&n), *y = host_alloc(n * sizeof *y);
    assert_non_null(y);
    size_t failures = 0;
    for (size_t i = 0; i < sizeof unary_cases / sizeof unary_cases[0]; i++)
        failures += !check_unary(&unary_cases[i], x, n, y);
    for (size_t i = 0; i < elementwise_row_count; i++) {
        bool found = elementwise_rows[i].arity != 1 || elementwise_rows[i].compare;
        for (size_t k = 0; k < sizeof unary_cases / sizeof unary_cases[0]; k++)
            found = found || strcmp(unary_cases[k].name, elementwise_rows[i].name) == 0;
        if (!found) {
            print_error("the operator %s has no row in this test\n", elementwise_rows[i].name);
            failures++;
        }
    }
    host_free(x);
    host_free(y);
    assert_int_equal(failures, 0);
}

/* ---- two operands -------------------------------------------------------------------------------------------------- */

static double b_add(double a, double b)
{
    return a + b;
}
static double b_sub(double a, double b)
{
    return a - b;
}
static double b_mul(double a, double b)
{
    return a * b;
}
static double b_div(double a, double b)
{
    return a / b;
}
static double b_maximum(double a, double b)
{
    return isnan(a) || isnan(b) ? NAN : a == b ? (signbit(a) ? b : a) : a > b ? a : b;
}
static double b_minimum(double a, double b)
{
    return isnan(a) || isnan(b) ? NAN : a == b ? (signbit(a) ? a : b) : a < b ? a : b;
}

/* Python's modulo; where the sign is turned, the sum is rounded as it is in f32. */
static double b_remainder(double a, double b)
{
    const double m = fmod(a, b);
    return m != 0 && (m < 0) != (b < 0) ? m + b : m;
}

static const struct {
    const char *name;
    double (*reference)(double, double);
} binary_cases[] = {
    {"add", b_add},   {"sub", b_sub},         {"mul", b_mul},
    {"div", b_div},   {"maximum", b_maximum}, {"minimum", b_minimum},
    {"pow", pow},     {"fmod", fmod},         {"remainder", b_remainder},
    {"atan2", atan2}, {"hypot", hypot},
};

static uint64_t random_state = 88172645463325252u;

static uint32_t random_bits(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 16);
}

/* Any floats; and some that are near 1 with exponents of moderate size, where pow is hardest; and all pairs of specials. */
static uint32_t make_pairs(float *a, float *b, uint32_t capacity)
{
    static const float specials[] = {0.0f,        -0.0f,       INFINITY,   -INFINITY,   NAN,      1.0f,
                                     -1.0f,       0x1p-149f,   2.0f,       -2.0f,       3.0f,     -3.0f,
                                     0.5f,        -0.5f,       1.5f,       FLT_MAX,     -FLT_MAX, 8388609.0f,
                                     16777216.0f, 16777218.0f, 1.0000001f, 0.99999994f, 1e10f,    -1e10f};
    const uint32_t count = sizeof specials / sizeof specials[0];
    uint32_t n = 0;
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t j = 0; j < count; j++, n++) {
            a[n] = specials[i];
            b[n] = specials[j];
        }
    for (; n < capacity; n++) {
        a[n] = float_of(random_bits());
        b[n] = float_of(random_bits());
        if (n % 3 == 1) {
            a[n] = float_of(0x3f000000u + (random_bits() >> 8));
            b[n] = ldexpf((float)(int32_t)random_bits(), -(int)(20 + (random_bits() & 7)));
        } else if (n % 3 == 2) {
            a[n] = float_of(0x3f7f0000u + (random_bits() >> 15));
            b[n] = ldexpf((float)(int32_t)random_bits(), -(int)(10 + (random_bits() & 15)));
        }
    }
    return n;
}

static void binary_operators_are_within_their_bounds(void **state)
{
    (void)state;
    enum { N = 1000000 };
    float *a = host_alloc(N * sizeof *a), *b = host_alloc(N * sizeof *b), *y = host_alloc(N * sizeof *y);
    assert_true(a && b && y);
    const uint32_t n = make_pairs(a, b, N);
    const double scalars[2] = {0, 0};
    size_t failures = 0;
    for (size_t c = 0; c < sizeof binary_cases / sizeof binary_cases[0]; c++) {
        const elementwise_row *row = row_named(binary_cases[c].name);
        const kernel_entry *e = native_entry("binary", binary_cases[c].name, "f32");
        assert_non_null(row);
        assert_non_null(e);
        void *inputs[3] = {a, b, NULL}, *bindings[3] = {a, b, y};
        native_run(e, ISA_BASELINE, 2, n, scalars, bindings);
        double worst = 0;
        uint32_t at = 0;
        for (uint32_t i = 0; i < n; i++) {
            const double error = ulp_error(y[i], binary_cases[c].reference(a[i], b[i]));
            if (error > worst) {
                worst = error;
                at = i;
            }
        }
        print_message("%-11s %7.3f ulp, of %d\n", row->name, worst, row->ulp);
        if (worst > row->ulp) {
            print_error("%s(%.9g, %.9g) = %.9g for %.9g: %g ulp\n", row->name, (double)a[at], (double)b[at],
                        (double)y[at], binary_cases[c].reference(a[at], b[at]), worst);
            failures++;
        }
        failures += !isas_agree(e, 2, n, scalars, inputs, y);
    }
    host_free(a);
    host_free(b);
    host_free(y);
    assert_int_equal(failures, 0);
}

/* ---- storage types ------------------------------------------------------------------------------------------------- */

/* Round to nearest even by the definition: the nearest of the two neighbours among all 65536 patterns. */
static double half_value(uint32_t h, int mantissa_bits, int bias)
{
    const uint32_t exponent = (h & 0x7fffu) >> mantissa_bits, mantissa = h & ((1u << mantissa_bits) - 1);
    const double scale = ldexp(1, -mantissa_bits);
    const double v =
        exponent == 0 ? ldexp(mantissa * scale, 1 - bias) : ldexp(1 + mantissa * scale, (int)exponent - bias);
    return h & 0x8000u ? -v : v;
}

static void check_narrowing(const char *dtype, int mantissa_bits, int bias, uint32_t infinity)
{
    const kernel_entry *e = native_entry("unary", "affine", dtype);
    const kernel_entry *copy =
        catalogue_find(strcmp(dtype, "f16") == 0 ? "copy_rows/f32/f16" : "copy_rows/f32/bf16", HAL_CLASS_CPU);
    assert_non_null(e);
    assert_non_null(copy);
    enum { N = 1 << 20 };
    float *x = host_alloc(N * sizeof *x);
    uint16_t *h = host_alloc(N * sizeof *h);
    assert_true(x && h);
    for (uint32_t i = 0; i < N; i++) {
        x[i] = float_of(random_bits());
        if (i & 1) /* within the type's range, with ties among them */
            x[i] = (float)half_value(random_bits() % infinity, mantissa_bits, bias) *
                   (1 + ldexpf((float)(random_bits() & 7), -mantissa_bits - 2));
        if (i & 2)
            x[i] = -x[i];
    }
    const fast_div one = fast_div_make(1);
    const uint32_t params[] = {N, N, 1, one.mul, one.shift, 1, 1, 1, one.mul, one.shift, 0, 0, 1, one.mul, one.shift,
                               0, 0, 1, one.mul, one.shift, 0, 0, 0, 0};
    const uint32_t grid[3] = {1, 1, 1};
    void *bindings[2] = {x, h};
    for (kernel_isa isa = ISA_BASELINE; isa <= catalogue_isa(); isa++) {
        if (!copy->native[isa])
            continue;
        memset(h, 0, N * sizeof *h);
        copy->native[isa](bindings, params, grid, 0, 1);
        for (uint32_t i = 0; i < N; i++) {
            const uint32_t magnitude = h[i] & 0x7fffu;
            if (isnan(x[i])) {
                assert_true(magnitude > infinity);
                continue;
            }
            assert_int_equal(h[i] >> 15, signbit(x[i]) ? 1 : 0);
            const double v = fabs((double)x[i]);
            const double top = half_value(infinity - 1, mantissa_bits, bias);
            const double limit = top + (top - half_value(infinity - 2, mantissa_bits, bias)) / 2;
            if (v >= limit) {
                assert_int_equal(magnitude, infinity);
                continue;
            }
            assert_true(magnitude < infinity);
            const double here = half_value(magnitude, mantissa_bits, bias);
            const double below = magnitude ? half_value(magnitude - 1, mantissa_bits, bias) : here;
            const double above = half_value(magnitude + 1, mantissa_bits, bias);
            const double error = fabs(v - here);
            const bool even = (magnitude & 1) == 0;
            assert_true(error < fabs(v - below) || magnitude == 0 || (even && error == fabs(v - below)));
            assert_true(error < fabs(above - v) || (even && error == fabs(above - v)));
        }
    }
    host_free(x);
    host_free(h);
}

static void narrowing_to_f16_rounds_to_nearest_even(void **state)
{
    (void)state;
    check_narrowing("f16", 10, 15, 0x7c00);
}

static void narrowing_to_bf16_rounds_to_nearest_even(void **state)
{
    (void)state;
    check_narrowing("bf16", 7, 127, 0x7f80);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unary_operators_are_within_their_bounds),
        cmocka_unit_test(binary_operators_are_within_their_bounds),
        cmocka_unit_test(narrowing_to_f16_rounds_to_nearest_even),
        cmocka_unit_test(narrowing_to_bf16_rounds_to_nearest_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
