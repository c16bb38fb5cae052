/* The elementwise operators: values and derivatives from their definitions, through the C library in double. Where the derivative is a
 * difference of larger terms, m tells their size. */
#include <math.h>

#include "base/compiler.h"
#include "operators.h"

#define VALUE(name, expression)                                                                                        \
    static double name(const double *x, const double *s)                                                               \
    {                                                                                                                  \
        (void)x;                                                                                                       \
        (void)s;                                                                                                       \
        return expression;                                                                                             \
    }
/* Derivative by x[0], and the size of its terms. */
#define SLOPE1(name, derivative, terms)                                                                                \
    static void name##_d(const double *x, const double *s, double *d, double *m)                                       \
    {                                                                                                                  \
        (void)x;                                                                                                       \
        (void)s;                                                                                                       \
        d[0] = derivative;                                                                                             \
        m[0] = fmax(fabs(d[0]), terms);                                                                                \
    }
#define UNARY(name, value, derivative, terms)                                                                          \
    VALUE(name, value)                                                                                                 \
    SLOPE1(name, derivative, terms)
#define BINARY(name, value, by_a, by_b)                                                                                \
    VALUE(name, value)                                                                                                 \
    static void name##_d(const double *x, const double *s, double *d, double *m)                                       \
    {                                                                                                                  \
        (void)x;                                                                                                       \
        (void)s;                                                                                                       \
        d[0] = by_a;                                                                                                   \
        d[1] = by_b;                                                                                                   \
        m[0] = fabs(d[0]);                                                                                             \
        m[1] = fabs(d[1]);                                                                                             \
    }
#define X x[0]
#define A x[0]
#define B x[1]
#define C x[2]

static const double ln2 = 0.69314718055994530942, ln10 = 2.30258509299404568402, pi = 3.14159265358979323846;

static double sigmoid_of(double x)
{
    return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x));
}

static double sigmoid_slope(double x)
{
    return exp(-fabs(x)) / ((1 + exp(-fabs(x))) * (1 + exp(-fabs(x))));
}

/* In long double: the argument's rounding would cost more than the bound. */
static double normal_cdf(double x)
{
    return (double)(0.5L * erfcl(-(long double)x / sqrtl(2.0L)));
}

static double normal_pdf(double x)
{
    return exp(-x * x / 2) / sqrt(2 * pi);
}

static double tanh_argument(double x)
{
    return sqrt(2 / pi) * (x + 0.044715 * x * x * x);
}

/* Of the two remainders the one with the divisor's sign. */
static double floored_remainder(double a, double b)
{
    const double r = fmod(a, b);
    return r != 0 && (b < 0) != (r < 0) ? r + b : r;
}

static double floored_quotient(double a, double b)
{
    const double q = a / b;
    return q == 0 && a != 0 && (a < 0) != (b < 0) ? -1 : floor(q); /* what underflows too is less than 0 */
}

/* 0 for NaN, as PyTorch has it */
static double sign_of(double x)
{
    return (x > 0) - (x < 0);
}

static double within(double x, double low, double high)
{
    return isnan(x) ? x : x < low ? low : x > high ? high : x;
}

static double half_to_even(double x)
{
    return nearbyint(x);
}

static double larger(double a, double b)
{
    return isnan(a) || isnan(b) ? (double)NAN : a > b ? a : b;
}

static double smaller(double a, double b)
{
    return -larger(-a, -b);
}

UNARY(neg, -X, -1, 1)
/* The argument of erfc, x / sqrt 2, is rounded; that comes out x² times as large as the tail falls off. */
VALUE(gelu_ulp, X < 0 ? 10 + X * X : 8)
VALUE(erfc_ulp, 10)
/* What drivers without functions of f64 give (backends/vulkan/math_f64.glsl). */
VALUE(angle_ulp, fabs(X) < 0x1p30 ? 8 : (double)INFINITY)
VALUE(pow_ulp, A == 0 ? 8 : 8 + 2 * fabs(B * log(fabs(A))))

UNARY(abs_of, fabs(X), sign_of(X), 1)
UNARY(sign, sign_of(X), 0, 0)
UNARY(square, X *X, 2 * X, 0)
UNARY(reciprocal, 1 / X, -1 / X / X, 0)
UNARY(sqrt_of, sqrt(X), 0.5 / sqrt(X), 0)
UNARY(rsqrt, 1 / sqrt(X), -0.5 / (X * sqrt(X)), 0)
UNARY(floor_of, floor(X), 0, 0)
UNARY(ceil_of, ceil(X), 0, 0)
UNARY(trunc_of, trunc(X), 0, 0)
UNARY(round_of, half_to_even(X), 0, 0)
UNARY(exp_of, exp(X), exp(X), 0)
UNARY(exp2_of, exp2(X), exp2(X) * ln2, 0)
UNARY(expm1_of, expm1(X), exp(X), 1) /* from expm1 + 1 */
UNARY(log_of, log(X), 1 / X, 0)
UNARY(log2_of, log2(X), 1 / (X * ln2), 0)
UNARY(log10_of, log10(X), 1 / (X * ln10), 0)
UNARY(log1p_of, log1p(X), 1 / (1 + X), 0)
UNARY(sin_of, sin(X), cos(X), 0)
UNARY(cos_of, cos(X), -sin(X), 0)
UNARY(tan_of, tan(X), 1 + tan(X) * tan(X), 0)
UNARY(tanh_of, tanh(X), 1 / (cosh(X) * cosh(X)), 1) /* from 1 - tanh² */
UNARY(erf_of, erf(X), 2 / sqrt(pi) * exp(-X * X), 0)
UNARY(erfc_of, erfc(X), -2 / sqrt(pi) * exp(-X * X), 0)
UNARY(sigmoid, sigmoid_of(X), sigmoid_slope(X), sigmoid_of(X))
UNARY(relu, isnan(X) ? X : X > 0 ? X : 0, X > 0, 1)
UNARY(leaky_relu, X > 0 ? X : s[0] * X, X > 0 ? 1 : s[0], 0)
UNARY(elu, X > 0 ? X : s[0] * expm1(X), X > 0 ? 1 : s[0] * exp(X), 0)
/* PyTorch: x / (1 + exp(-x)), so NaN at -infinity */
UNARY(silu, isinf(X) && X < 0 ? (double)NAN : X * sigmoid_of(X), sigmoid_of(X) + X * sigmoid_slope(X),
      sigmoid_of(X) + fabs(X) * sigmoid_of(X))
/* PyTorch: x Φ(x) */
UNARY(gelu, isinf(X) && X < 0 ? (double)NAN : X * normal_cdf(X), normal_cdf(X) + X * normal_pdf(X),
      normal_cdf(X) + fabs(X) * normal_pdf(X))
UNARY(gelu_tanh, isinf(X) && X < 0 ? (double)NAN : X * sigmoid_of(2 * tanh_argument(X)),
      sigmoid_of(2 * tanh_argument(X)) +
          X * sigmoid_slope(2 * tanh_argument(X)) * 2 * sqrt(2 / pi) * (1 + 3 * 0.044715 * X * X),
      sigmoid_of(2 * tanh_argument(X)) * (1 + fabs(X) * 2 * sqrt(2 / pi) * (1 + 3 * 0.044715 * X * X)))
UNARY(softplus, X > 0 ? X + log1p(exp(-X)) : log1p(exp(X)), sigmoid_of(X), 0)
UNARY(frac, X - trunc(X), 1, 1)
UNARY(asin_of, asin(X), 1 / sqrt((1 - X) * (1 + X)), 0)
UNARY(acos_of, acos(X), -1 / sqrt((1 - X) * (1 + X)), 0)
UNARY(atan_of, atan(X), 1 / (1 + X * X), 0)
UNARY(sinh_of, sinh(X), cosh(X), 0)
UNARY(cosh_of, cosh(X), sinh(X), 0)
UNARY(logsigmoid, X > 0 ? -log1p(exp(-X)) : X - log1p(exp(X)), sigmoid_of(-X), 0)
/* Klambauer et al. 2017 */
static const double selu_scale = 1.05070098735548049342, selu_alpha = 1.67326324235437728482;
UNARY(selu, selu_scale *(X > 0 ? X : selu_alpha * expm1(X)), selu_scale *(X > 0 ? 1 : selu_alpha * exp(X)), 0)
/* The rounding of x / alpha comes out as many times as large as the exponential depends on it; slack is 20 roundings. */
UNARY(celu, X > 0 ? X : s[0] * expm1(X / s[0]), X > 0 ? 1 : exp(X / s[0]),
      X > 0 ? 1 : exp(X / s[0]) * (1 + fabs(X / s[0]) / 16))
UNARY(mish, X *tanh(softplus(x, s)),
      tanh(softplus(x, s)) + X * sigmoid_of(X) / (cosh(softplus(x, s)) * cosh(softplus(x, s))),
      tanh(softplus(x, s)) + fabs(X) * sigmoid_of(X))
UNARY(relu6, within(X, 0, 6), X > 0 && X < 6, 1)
UNARY(hardtanh, within(X, s[0], s[1]), X > s[0] && X < s[1], 1)
UNARY(hardsigmoid, within(X + 3, 0, 6) / 6, X > -3 && X < 3 ? 1.0 / 6 : 0, 0)
UNARY(hardswish, X *(within(X + 3, 0, 6) / 6),
      X <= -3 ? 0
      : X < 3 ? X / 3 + 0.5
              : 1,
      X <= -3 || X >= 3 ? 1 : fabs(X) / 3 + 0.5)
UNARY(clamp, isnan(X) ? X : X<s[0] ? s[0] : X> s[1] ? s[1] : X, X >= s[0] && X <= s[1], 1)

BINARY(add, A + B, 1, 1)
BINARY(sub, A - B, 1, -1)
BINARY(mul, A *B, B, A)
BINARY(div_of, A / B, 1 / B, -A / B / B)
VALUE(pow_of, pow(A, B))
static void pow_of_d(const double *x, const double *s, double *d, double *m)
{
    (void)s;
    d[0] = B == 0 ? 0 : B * pow(A, B - 1);
    d[1] = A == 0 && B >= 0 ? 0 : pow(A, B) * log(A);
    /* b - 1 is rounded, which comes out as many times as large as the power depends on it; slack is 16 roundings */
    m[0] = fabs(d[0]) * (1 + (A == 0 ? 0 : fabs(log(fabs(A)) * (B - 1)) / 16));
    m[1] = fabs(d[1]);
}
BINARY(atan2_of, atan2(A, B), B / (A * A + B * B), -A / (A * A + B * B))
BINARY(hypot_of, hypot(A, B), A / hypot(A, B), B / hypot(A, B))
BINARY(fmod_of, fmod(A, B), 1, -trunc(A / B))
BINARY(remainder_of, floored_remainder(A, B), 1, -floored_quotient(A, B))
BINARY(maximum, larger(A, B), A == B ? 0.5 : A > B, A == B ? 0.5 : A < B)
BINARY(minimum, smaller(A, B), A == B ? 0.5 : A < B, A == B ? 0.5 : A > B)

/* Sums that may cancel have no bound in ulp: these are traced (trace.h). */
static term affine(trace *t, const term *x, const double *s)
{
    return trace_add(t, trace_scale(t, x[0], s[0]), trace_number(t, s[1]));
}
static term addcmul(trace *t, const term *x, const double *s)
{
    return trace_add(t, x[0], trace_mul(t, trace_scale(t, x[1], s[0]), x[2]));
}
static term addcdiv(trace *t, const term *x, const double *s)
{
    return trace_add(t, x[0], trace_scale(t, trace_div(t, x[1], x[2]), s[0]));
}
static term lerp(trace *t, const term *x, const double *s)
{
    (void)s;
    return trace_add(t, x[0], trace_mul(t, x[2], trace_sub(t, x[1], x[0])));
}

VALUE(eq, A == B)
VALUE(ne, A != B)
VALUE(lt, A < B)
VALUE(le, A <= B)
VALUE(gt, A > B)
VALUE(ge, A >= B)
VALUE(logical_and, A != 0 && B != 0)
VALUE(logical_or, A != 0 || B != 0)
VALUE(logical_not, X == 0)
VALUE(is_nan, isnan(X))
VALUE(is_inf, isinf(X) != 0)
VALUE(is_finite, isfinite(X))
VALUE(logical_xor, (A != 0) != (B != 0))

#define ROW(operator_name, function, operands, bound, from, to, ...)                                                   \
    {                                                                                                                  \
        .name = operator_name, .family = "pointwise", .arity = operands, .results = 1, .differentiable = true,         \
        .reference = elementwise_reference, .value = function, .slope = function##_d, .ulp = bound, .low = from,       \
        .high = to, __VA_ARGS__                                                                                        \
    }
#define COMPOSED(operator_name, function, operands, from, to, ...)                                                     \
    {                                                                                                                  \
        .name = operator_name, .family = "pointwise", .arity = operands, .results = 1, .differentiable = true,         \
        .reference = elementwise_reference, .composed = function, .low = from, .high = to, __VA_ARGS__                 \
    }
#define TEST(operator_name, function)                                                                                  \
    {                                                                                                                  \
        .name = operator_name, .family = "comparisons", .dtypes = FLOATS | INTEGERS | BYTES, .arity = 1, .results = 1, \
        .reference = elementwise_reference, .value = function, .low = -1, .high = 1, .gives_bool = true                \
    }
#define COMPARE(operator_name, function)                                                                               \
    {                                                                                                                  \
        .name = operator_name, .family = "comparisons", .dtypes = FLOATS | INTEGERS | BYTES, .arity = 2, .results = 1, \
        .reference = elementwise_reference, .value = function, .low = -1, .high = 1, .gives_bool = true                \
    }
#define REALS   .dtypes = FLOATS
#define NUMBERS .dtypes = FLOATS | INTEGERS

static const operator_row list[] = {
    ROW("neg", neg, 1, 0, -9, 9, NUMBERS),
    ROW("abs", abs_of, 1, 0, -9, 9, NUMBERS),
    ROW("sign", sign, 1, 0, -9, 9, NUMBERS, .discontinuous = true),
    ROW("square", square, 1, 0.5, -9, 9, NUMBERS),
    ROW("reciprocal", reciprocal, 1, 1, 0.1, 9, REALS),
    ROW("sqrt", sqrt_of, 1, 1, 0.01, 90, REALS),
    ROW("rsqrt", rsqrt, 1, 2, 0.01, 90, REALS),
    ROW("floor", floor_of, 1, 0, -9, 9, REALS, .discontinuous = true),
    ROW("ceil", ceil_of, 1, 0, -9, 9, REALS, .discontinuous = true),
    ROW("trunc", trunc_of, 1, 0, -9, 9, REALS, .discontinuous = true),
    ROW("round", round_of, 1, 0, -9, 9, REALS, .discontinuous = true),
    ROW("exp", exp_of, 1, 2, -8, 8, REALS),
    ROW("exp2", exp2_of, 1, 2, -8, 8, REALS),
    ROW("expm1", expm1_of, 1, 4, -8, 8, REALS),
    ROW("log", log_of, 1, 2, 0.001, 90, REALS),
    ROW("log2", log2_of, 1, 4, 0.001, 90, REALS),
    ROW("log10", log10_of, 1, 4, 0.001, 90, REALS),
    ROW("log1p", log1p_of, 1, 4, -0.9, 9, REALS),
    ROW("sin", sin_of, 1, 2, -9, 9, REALS, .ulp_f64 = angle_ulp),
    ROW("cos", cos_of, 1, 2, -9, 9, REALS, .ulp_f64 = angle_ulp),
    ROW("tan", tan_of, 1, 4, -1.4, 1.4, REALS, .ulp_f64 = angle_ulp),
    ROW("tanh", tanh_of, 1, 2, -6, 6, REALS),
    ROW("erf", erf_of, 1, 2, -4, 4, REALS),
    ROW("erfc", erfc_of, 1, 4, -3, 3, REALS, .ulp_f64 = erfc_ulp),
    ROW("sigmoid", sigmoid, 1, 3, -9, 9, REALS),
    ROW("relu", relu, 1, 0, -9, 9, NUMBERS),
    ROW("leaky_relu", leaky_relu, 1, 1, -9, 9, REALS, .attr_names = {"slope"}, .attrs = {0.1}),
    ROW("elu", elu, 1, 5, -6, 6, REALS, .attr_names = {"alpha"}, .attrs = {1.5}),
    ROW("silu", silu, 1, 4, -9, 9, REALS),
    ROW("gelu", gelu, 1, 5, -3, 6, REALS, .ulp_f64 = gelu_ulp),
    /* its argument's error grows with the argument: see kernels/elementwise.def */
    ROW("gelu_tanh", gelu_tanh, 1, 400, -3, 6, REALS, .smooth_to = 1e9),
    ROW("softplus", softplus, 1, 3, -9, 9, REALS),
    ROW("clamp", clamp, 1, 0, -4, 4, NUMBERS, .attr_names = {"low", "high"}, .attrs = {-1, 2}),
    COMPOSED("affine", affine, 1, -9, 9, REALS, .attr_names = {"scale", "shift"}, .attrs = {1.5, -0.25}),
    ROW("frac", frac, 1, 0, -9, 9, REALS),
    ROW("asin", asin_of, 1, 2, -0.95, 0.95, REALS),
    ROW("acos", acos_of, 1, 2, -0.95, 0.95, REALS),
    ROW("atan", atan_of, 1, 2, -9, 9, REALS),
    ROW("sinh", sinh_of, 1, 2, -6, 6, REALS),
    ROW("cosh", cosh_of, 1, 2, -6, 6, REALS),
    ROW("logsigmoid", logsigmoid, 1, 3, -9, 9, REALS),
    ROW("selu", selu, 1, 6, -6, 6, REALS),
    ROW("celu", celu, 1, 6, -6, 6, REALS, .attr_names = {"alpha"}, .attrs = {1.3}),
    ROW("mish", mish, 1, 6, -6, 6, REALS, .no_specials = true),
    ROW("relu6", relu6, 1, 0, -4, 9, REALS),
    ROW("hardtanh", hardtanh, 1, 0, -4, 4, REALS, .attr_names = {"min_val", "max_val"}, .attrs = {-1, 2}),
    ROW("hardsigmoid", hardsigmoid, 1, 2, -5, 5, REALS),
    ROW("hardswish", hardswish, 1, 3, -5, 5.5, REALS, .no_specials = true),
    ROW("add", add, 2, 0.5, -9, 9, NUMBERS),
    ROW("sub", sub, 2, 0.5, -9, 9, NUMBERS),
    ROW("mul", mul, 2, 0.5, -9, 9, NUMBERS),
    ROW("div", div_of, 2, 0.5, -9, 9, REALS, .b_low = 0.5, .b_high = 9),
    ROW("pow", pow_of, 2, 4, 0.25, 4, REALS, .ulp_f64 = pow_ulp, .b_low = -3, .b_high = 3),
    ROW("atan2", atan2_of, 2, 4, -9, 9, REALS, .smooth_from = 1e-18, .smooth_to = 1e18),
    /* Its derivative divides by the result, which may be infinite where the operands are not, as in PyTorch. */
    ROW("hypot", hypot_of, 2, 2, -9, 9, REALS, .smooth_to = 4e4),
    ROW("fmod", fmod_of, 2, 0, -9, 9, NUMBERS, .b_low = 0.5, .b_high = 4, .discontinuous = true),
    ROW("remainder", remainder_of, 2, 1, -9, 9, NUMBERS, .b_low = 0.5, .b_high = 4, .discontinuous = true),
    ROW("maximum", maximum, 2, 0, -9, 9, NUMBERS),
    ROW("minimum", minimum, 2, 0, -9, 9, NUMBERS),
    COMPOSED("addcmul", addcmul, 3, -1, 1, REALS, .attr_names = {"value"}, .attrs = {0.7}),
    /* PyTorch too has the square of the divisor on its way, which leaves the range before the derivative does. */
    COMPOSED("addcdiv", addcdiv, 3, -1, 1, REALS, .b_low = 0.5, .b_high = 2, .attr_names = {"value"}, .attrs = {0.7},
             .smooth_from = 1e-18, .smooth_to = 1e18),
    COMPOSED("lerp", lerp, 3, -1, 1, REALS, .no_specials = true),
    COMPARE("eq", eq),
    COMPARE("ne", ne),
    COMPARE("lt", lt),
    COMPARE("le", le),
    COMPARE("gt", gt),
    COMPARE("ge", ge),
    COMPARE("logical_and", logical_and),
    COMPARE("logical_or", logical_or),
    COMPARE("logical_xor", logical_xor),
    TEST("logical_not", logical_not),
    TEST("isnan", is_nan),
    TEST("isinf", is_inf),
    TEST("isfinite", is_finite),
};
const row_list pointwise_rows = {list, COUNT_OF(list)};
