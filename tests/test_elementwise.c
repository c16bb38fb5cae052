/* The elementwise operators on every device and in every dtype: values and derivatives against functions of the C library in double,
 * element by element; broadcasting and strides; in place; the corners that PyTorch defines. */
#include "tests/op_reference.h"

#include <float.h>

#include "ops/elementwise_table.h"

typedef double unary_fn(double x);

static double neg(double x)
{
    return -x;
}
static double minus_one(double x)
{
    (void)x;
    return -1;
}
static double sign(double x)
{
    return (x > 0) - (x < 0);
}
static double zero(double x)
{
    (void)x;
    return 0;
}
static double square(double x)
{
    return x * x;
}
static double twice(double x)
{
    return 2 * x;
}
static double reciprocal(double x)
{
    return 1 / x;
}
static double reciprocal_d(double x)
{
    return -1 / (x * x);
}
static double sqrt_d(double x)
{
    return 0.5 / sqrt(x);
}
static double rsqrt(double x)
{
    return 1 / sqrt(x);
}
static double rsqrt_d(double x)
{
    return -0.5 / (x * sqrt(x));
}
static double exp2_d(double x)
{
    return exp2(x) * log(2);
}
static double log2_d(double x)
{
    return 1 / (x * log(2));
}
static double log10_d(double x)
{
    return 1 / (x * log(10));
}
static double log1p_d(double x)
{
    return 1 / (1 + x);
}
static double minus_sin(double x)
{
    return -sin(x);
}
static double tan_d(double x)
{
    return 1 / (cos(x) * cos(x));
}
static double tanh_d(double x)
{
    return 1 / (cosh(x) * cosh(x));
}
static double erf_d(double x)
{
    return 2 / sqrt(M_PI) * exp(-x * x);
}
static double erfc_d(double x)
{
    return -erf_d(x);
}
static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}
static double sigmoid_d(double x)
{
    return exp(-fabs(x)) / ((1 + exp(-fabs(x))) * (1 + exp(-fabs(x))));
}
static double relu(double x)
{
    return x > 0 ? x : isnan(x) ? x : 0;
}
static double relu_d(double x)
{
    return x > 0;
}
static double leaky_relu(double x)
{
    return x > 0 ? x : 0.1 * x;
}
static double leaky_relu_d(double x)
{
    return x > 0 ? 1 : 0.1;
}
static double elu(double x)
{
    return x > 0 ? x : 1.5 * expm1(x);
}
static double elu_d(double x)
{
    return x > 0 ? 1 : 1.5 * exp(x);
}
static double silu(double x)
{
    return x * sigmoid(x);
}
static double silu_d(double x)
{
    return sigmoid(x) + x * sigmoid_d(x);
}
/* In long double: the argument's rounding would cost more than the bound. */
static double normal_cdf(double x)
{
    return (double)(0.5L * erfcl(-(long double)x / sqrtl(2.0L)));
}
static double gelu(double x)
{
    return x * normal_cdf(x);
}
static double gelu_d(double x)
{
    return normal_cdf(x) + x * exp(-x * x / 2) / sqrt(2 * M_PI);
}
static double tanh_argument(double x)
{
    return sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
}
static double gelu_tanh(double x)
{
    return x * sigmoid(2 * tanh_argument(x));
}
static double gelu_tanh_d(double x)
{
    return sigmoid(2 * tanh_argument(x)) +
           x * sigmoid_d(2 * tanh_argument(x)) * 2 * sqrt(2 / M_PI) * (1 + 3 * 0.044715 * x * x);
}
static double softplus(double x)
{
    return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}
static double clamp(double x)
{
    return x < -0.5 ? -0.5 : x > 0.75 ? 0.75 : x;
}
static double clamp_d(double x)
{
    return x >= -0.5 && x <= 0.75;
}
static double hardtanh_d(double x)
{
    return x > -0.5 && x < 0.75;
}
static double affine(double x)
{
    return 1.5 * x - 0.25;
}
static double affine_d(double x)
{
    (void)x;
    return 1.5;
}

static double asin_d(double x)
{
    return 1 / sqrt((1 - x) * (1 + x));
}
static double acos_d(double x)
{
    return -asin_d(x);
}
static double atan_d(double x)
{
    return 1 / (1 + x * x);
}
static double frac(double x)
{
    return x - trunc(x);
}
static double one(double x)
{
    (void)x;
    return 1;
}
static double logsigmoid(double x)
{
    return -softplus(-x);
}
static double logsigmoid_d(double x)
{
    return sigmoid(-x);
}
static double selu(double x)
{
    return 1.0507009873554804934193349852946 * (x > 0 ? x : 1.6732632423543772848170429916717 * expm1(x));
}
static double selu_d(double x)
{
    return 1.0507009873554804934193349852946 * (x > 0 ? 1 : 1.6732632423543772848170429916717 * exp(x));
}
static double celu(double x)
{
    return x > 0 ? x : 1.5 * expm1(x / 1.5);
}
static double celu_d(double x)
{
    return x > 0 ? 1 : exp(x / 1.5);
}
static double mish(double x)
{
    return x * tanh(softplus(x));
}
static double mish_d(double x)
{
    const double c = cosh(softplus(x));
    return tanh(softplus(x)) + x * sigmoid(x) / (c * c);
}
static double relu6(double x)
{
    return x < 0 ? 0 : x > 6 ? 6 : x;
}
static double relu6_d(double x)
{
    return x > 0 && x < 6;
}
static double hardsigmoid(double x)
{
    return relu6(x + 3) / 6;
}
static double hardsigmoid_d(double x)
{
    return x > -3 && x < 3 ? 1.0 / 6 : 0;
}
static double hardswish(double x)
{
    return x * relu6(x + 3) / 6;
}
static double hardswish_d(double x)
{
    return x <= -3 ? 0 : x < 3 ? x / 3 + 0.5 : 1;
}

typedef struct unary_row {
    const char *name;
    unary_fn *forward, *derivative;
    double low, high; /* random inputs */
    double s0, s1;
    const char *attrs[2];
} unary_row;

static const unary_row unary_rows[] = {
    {"neg", neg, minus_one, -9, 9, 0, 0, {0}},
    {"abs", fabs, sign, -9, 9, 0, 0, {0}},
    {"sign", sign, zero, -9, 9, 0, 0, {0}},
    {"square", square, twice, -9, 9, 0, 0, {0}},
    {"reciprocal", reciprocal, reciprocal_d, 0.1, 9, 0, 0, {0}},
    {"sqrt", sqrt, sqrt_d, 0.01, 90, 0, 0, {0}},
    {"rsqrt", rsqrt, rsqrt_d, 0.01, 90, 0, 0, {0}},
    {"exp", exp, exp, -8, 8, 0, 0, {0}},
    {"exp2", exp2, exp2_d, -8, 8, 0, 0, {0}},
    {"expm1", expm1, exp, -8, 8, 0, 0, {0}},
    {"log", log, reciprocal, 0.001, 90, 0, 0, {0}},
    {"log2", log2, log2_d, 0.001, 90, 0, 0, {0}},
    {"log10", log10, log10_d, 0.001, 90, 0, 0, {0}},
    {"log1p", log1p, log1p_d, -0.9, 9, 0, 0, {0}},
    {"sin", sin, cos, -9, 9, 0, 0, {0}},
    {"cos", cos, minus_sin, -9, 9, 0, 0, {0}},
    {"tan", tan, tan_d, -1.4, 1.4, 0, 0, {0}},
    {"tanh", tanh, tanh_d, -6, 6, 0, 0, {0}},
    {"erf", erf, erf_d, -4, 4, 0, 0, {0}},
    {"erfc", erfc, erfc_d, -3, 3, 0, 0, {0}},
    {"sigmoid", sigmoid, sigmoid_d, -9, 9, 0, 0, {0}},
    {"relu", relu, relu_d, -9, 9, 0, 0, {0}},
    {"leaky_relu", leaky_relu, leaky_relu_d, -9, 9, 0.1, 0, {"slope"}},
    {"elu", elu, elu_d, -6, 6, 1.5, 0, {"alpha"}},
    {"silu", silu, silu_d, -9, 9, 0, 0, {0}},
    {"gelu", gelu, gelu_d, -3, 6, 0, 0, {0}},
    {"gelu_tanh", gelu_tanh, gelu_tanh_d, -3, 6, 0, 0, {0}},
    {"softplus", softplus, sigmoid, -9, 9, 0, 0, {0}},
    {"clamp", clamp, clamp_d, -2, 2, -0.5, 0.75, {"low", "high"}},
    {"affine", affine, affine_d, -9, 9, 1.5, -0.25, {"scale", "shift"}},
    {"asin", asin, asin_d, -0.99, 0.99, 0, 0, {0}},
    {"acos", acos, acos_d, -0.99, 0.99, 0, 0, {0}},
    {"atan", atan, atan_d, -9, 9, 0, 0, {0}},
    {"sinh", sinh, cosh, -6, 6, 0, 0, {0}},
    {"cosh", cosh, sinh, -6, 6, 0, 0, {0}},
    {"frac", frac, one, -9, 9, 0, 0, {0}},
    {"logsigmoid", logsigmoid, logsigmoid_d, -9, 9, 0, 0, {0}},
    {"selu", selu, selu_d, -6, 6, 0, 0, {0}},
    {"celu", celu, celu_d, -6, 6, 1.5, 0, {"alpha"}},
    {"mish", mish, mish_d, -6, 6, 0, 0, {0}},
    {"relu6", relu6, relu6_d, -3, 9, 0, 0, {0}},
    {"hardtanh", clamp, hardtanh_d, -2, 2, -0.5, 0.75, {"min_val", "max_val"}},
    {"hardsigmoid", hardsigmoid, hardsigmoid_d, -5, 5, 0, 0, {0}},
    {"hardswish", hardswish, hardswish_d, -5, 5, 0, 0, {0}},
    {"floor", floor, zero, -9, 9, 0, 0, {0}},
    {"ceil", ceil, zero, -9, 9, 0, 0, {0}},
    {"trunc", trunc, zero, -9, 9, 0, 0, {0}},
    {"round", nearbyint, zero, -9, 9, 0, 0, {0}},
};

static const elementwise_row *table_row(const char *name)
{
    for (size_t i = 0; i < elementwise_row_count; i++)
        if (strcmp(elementwise_rows[i].name, name) == 0)
            return &elementwise_rows[i];
    fail_msg("elementwise.def has no '%s'", name);
    return NULL;
}

/* The distance of neighbouring numbers of a dtype at |x|. */
static double spacing(tsr_dtype dtype, double x)
{
    int exponent;
    frexp(fabs(x), &exponent);
    const double least = dtype == TSR_F64 ? 0x1p-1074 : dtype == TSR_F16 ? 0x1p-24 : 0x1p-126;
    return fmax(ldexp(2 * unit_roundoff(dtype), exponent - 1), least);
}

static tsr_tensor *call(const run *r, const unary_row *row, tsr_tensor *x)
{
    tsr_attr attrs[2];
    int count = 0;
    for (int k = 0; k < 2; k++)
        if (row->attrs[k] != NULL)
            attrs[count++] = (tsr_attr){.name = row->attrs[k], .kind = TSR_ATTR_FLOAT, .f = k == 0 ? row->s0 : row->s1};
    tsr_tensor *y = NULL;
    require_ok(r, tsr_op_call(row->name, &x, 1, &y, 1, attrs, count));
    return y;
}

/* Random numbers of [low, high) as the dtype holds them, in the open scope, and the same on the host. */
static tsr_tensor *uniform_tensor(const run *r, tsr_dtype dtype, int rank, const int64_t *shape, double low,
                                  double high, uint32_t seed, double **values)
{
    double *unit;
    tsr_tensor *t = random_tensor(r, TSR_F64 == dtype ? TSR_F64 : TSR_F32, rank, shape, REALS, seed, &unit);
    free(unit);
    t = tsr_cast(tsr_affine(t, (high - low) / 2, (high + low) / 2), dtype);
    require(r, t);
    *values = values_of(r, t);
    return tsr_detach(t);
}

/* In ulp, beyond 8: erfc has 10; gelu in f64 is x erfc(-x / sqrt 2) / 2, where the argument's rounding comes out x^2 times
 * as large as the tail falls off. */
static double f64_condition(const unary_row *row, double x)
{
    return strcmp(row->name, "erfc") == 0 ? 2 : strcmp(row->name, "gelu") == 0 && x < 0 ? 2 + x * x : 0;
}

static bool same(double a, double b)
{
    return (isnan(a) && isnan(b)) || a == b;
}

static void check_unary(const run *r, const unary_row *row, tsr_dtype dtype)
{
    double *x, *y, *g;
    const int64_t n = 1031;
    require_ok(r, tsr_scope_begin());
    tsr_tensor *t = uniform_tensor(r, dtype, 1, &n, row->low, row->high, 7, &x);
    require_ok(r, tsr_set_requires_grad(t, true));
    tsr_tensor *result = call(r, row, t);
    y = values_of(r, result);
    require_ok(r, tsr_backward_from(result, NULL, false));
    require(r, tsr_grad(t));
    g = values_of(r, tsr_grad(t));
    const double table_ulp = table_row(row->name)->ulp;
    for (int64_t i = 0; i < n; i++) {
        const double expected = row->forward(x[i]), slope = row->derivative(x[i]);
        /* The bound in ulp is of f32; 16-bit results are rounded once more; f64 has the target's functions or, in GLSL, which
         * has none, our own (backends/vulkan/math_f64.glsl). */
        const double bound = dtype == TSR_F32 ? fmax(table_ulp, 0.5) * spacing(TSR_F32, expected)
                             : dtype == TSR_F64
                                 ? (fmax(table_ulp, 8) + f64_condition(row, x[i])) * spacing(TSR_F64, expected)
                                 : 0.5 * spacing(dtype, expected) + (table_ulp + 1) * spacing(TSR_F32, expected);
        if (!(same(y[i], expected) || fabs(y[i] - expected) <= bound))
            fail_msg("%s %s on %s: f(%.9g) is %.9g for %.9g, error %.3g, bound %.3g", row->name, tsr_dtype_name(dtype),
                     r->name, x[i], y[i], expected, fabs(y[i] - expected), bound);
        /* Derivatives are sums of terms of size up to about 1 and of their own; 16 roundings and what the saved result had. */
        const double slope_bound =
            16 * accumulator_roundoff(dtype) * (1 + fabs(slope)) * fmax(1, table_ulp / 8) +
            (dtype == TSR_F32 || dtype == TSR_F64 ? 0 : 4 * unit_roundoff(dtype) * (1 + fabs(slope)));
        if (!(same(g[i], slope) || fabs(g[i] - slope) <= slope_bound))
            fail_msg("%s %s on %s: f'(%.9g) is %.9g for %.9g, error %.3g, bound %.3g", row->name, tsr_dtype_name(dtype),
                     r->name, x[i], g[i], slope, fabs(g[i] - slope), slope_bound);
    }
    tsr_clear_grad(t);
    free(x);
    free(y);
    free(g);
    require_ok(r, tsr_scope_end());
}

static void unary_on(const run *r)
{
    const bool chosen = strstr(r->name, " by ") != NULL && strstr(r->name, "GPUs") != NULL;
    for (size_t i = 0; i < sizeof unary_rows / sizeof *unary_rows; i++)
        for (int d = 0; d < 4; d++)
            /* The other family of kernels differs in its loop only: one dtype shows it. */
            if (run_has(r, float_dtypes[d]) && (!chosen || float_dtypes[d] == TSR_F32))
                check_unary(r, &unary_rows[i], float_dtypes[d]);
}

static void test_unary(void **state)
{
    (void)state;
    on_every_device(unary_on);
}

/* ---- NaN, infinities and zeros, f32 ---- */

static void corners_on(const run *r)
{
    static const float corners[] = {0.0f, -0.0f, INFINITY, -INFINITY, NAN, FLT_MAX, -FLT_MAX, 1.0f, -1.0f, FLT_MIN};
    const int64_t n = sizeof corners / sizeof *corners;
    static const char *const names[] = {"neg",     "abs",  "exp",  "log",  "tanh",    "erf",
                                        "sigmoid", "relu", "sqrt", "silu", "softplus"};
    static unary_fn *const functions[] = {neg, fabs, exp, log, tanh, erf, sigmoid, relu, sqrt, silu, softplus};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        float got[10];
        require_ok(r, tsr_scope_begin());
        tsr_tensor *x = tsr_from_data(r->device, TSR_F32, 1, &n, corners), *y = NULL;
        require(r, x);
        require_ok(r, tsr_op_call(names[k], &x, 1, &y, 1, NULL, 0));
        require_ok(r, tsr_read(y, got, sizeof got));
        for (int i = 0; i < n; i++) {
            double expected = (double)(float)functions[k]((double)corners[i]);
            if (strcmp(names[k], "silu") == 0 && i == 3)
                continue; /* -inf · 0: NaN in PyTorch, 0 in the limit; both are seen */
            if (!(same((double)got[i], expected) || fabs((double)got[i] - expected) <= 4 * spacing(TSR_F32, expected)))
                fail_msg("%s on %s: f(%g) is %g for %g", names[k], r->name, (double)corners[i], (double)got[i],
                         expected);
        }
        require_ok(r, tsr_scope_end());
    }
}

static void test_corners(void **state)
{
    (void)state;
    on_every_device(corners_on);
}

/* ---- two operands ---- */

static float add(float a, float b)
{
    return a + b;
}
static float sub(float a, float b)
{
    return a - b;
}
static float mul(float a, float b)
{
    return a * b;
}
static float divide(float a, float b)
{
    return a / b;
}
static float maximum(float a, float b)
{
    return a > b ? a : b;
}
static float minimum(float a, float b)
{
    return a < b ? a : b;
}

static const struct {
    const char *name;
    float (*f)(float a, float b);
} binary_rows[] = {{"add", add},    {"sub", sub},         {"mul", mul},
                   {"div", divide}, {"maximum", maximum}, {"minimum", minimum}};

/* a and b as made, viewed, and their elements in the broadcast order. */
typedef struct pair {
    const char *name;
    int rank_a, rank_b;
    int64_t a[5], b[5];
    bool transpose_a, slice_b;
} pair;

static const pair pairs[] = {
    {"equal", 2, 2, {37, 129}, {37, 129}, false, false},
    {"scalar right", 2, 0, {37, 129}, {0}, false, false},
    {"scalar left", 0, 2, {0}, {37, 129}, false, false},
    {"row", 2, 1, {37, 129}, {129}, false, false},
    {"column", 2, 2, {37, 129}, {37, 1}, false, false},
    {"outer", 2, 2, {37, 1}, {1, 129}, false, false},
    {"channels", 4, 3, {3, 5, 7, 9}, {5, 1, 1}, false, false},
    {"transposed", 2, 2, {65, 33}, {33, 65}, true, false},
    {"sliced", 2, 2, {20, 33}, {20, 33}, false, true},
    {"five dimensions", 5, 5, {2, 1, 4, 1, 6}, {1, 3, 1, 5, 1}, false, false},
    {"short rows", 2, 2, {5000, 3}, {5000, 1}, false, false},
    {"large", 1, 1, {70001}, {70001}, false, false},
    {"one", 1, 1, {1}, {1}, false, false},
    {"empty", 2, 2, {0, 5}, {1, 5}, false, false},
};

static float element(const tsr_tensor *t, const float *dense, const int64_t *index, int rank)
{
    int64_t at = 0;
    const int extra = rank - tsr_rank(t);
    for (int i = 0; i < tsr_rank(t); i++) {
        const int64_t size = tsr_shape(t)[i];
        at = at * size + (size == 1 ? 0 : index[i + extra]);
    }
    return dense[at];
}

static float *floats_of(const run *r, tsr_tensor *t)
{
    float *v = malloc(sizeof(float) * (size_t)(tsr_numel(t) + 1));
    assert_non_null(v);
    require_ok(r, tsr_read_f32(t, v, (size_t)tsr_numel(t)));
    return v;
}

static void pair_on(const run *r, const pair *p)
{
    double *unused;
    require_ok(r, tsr_scope_begin());
    tsr_tensor *a = uniform_tensor(r, TSR_F32, p->rank_a, p->a, 0.5, 4, 3, &unused);
    free(unused);
    int64_t wide[5];
    memcpy(wide, p->b, sizeof wide);
    if (p->slice_b)
        wide[1] *= 2;
    tsr_tensor *b = uniform_tensor(r, TSR_F32, p->rank_b, wide, 0.5, 4, 4, &unused);
    free(unused);
    if (p->transpose_a)
        a = tsr_transpose(a, 0, 1);
    if (p->slice_b)
        b = tsr_slice(b, 1, 1, INT64_MAX, 2);
    float *va = floats_of(r, a), *vb = floats_of(r, b);
    for (size_t k = 0; k < sizeof binary_rows / sizeof *binary_rows; k++) {
        tsr_tensor *in[] = {a, b}, *y = NULL;
        require_ok(r, tsr_op_call(binary_rows[k].name, in, 2, &y, 1, NULL, 0));
        float *got = floats_of(r, y);
        int64_t index[8] = {0};
        for (int64_t i = 0; i < tsr_numel(y); i++) {
            /* + - * / are correctly rounded everywhere: the same bits as here. */
            const float expected =
                binary_rows[k].f(element(a, va, index, tsr_rank(y)), element(b, vb, index, tsr_rank(y)));
            if (got[i] != expected)
                fail_msg("%s, %s, on %s: element %lld: %.9g for %.9g", binary_rows[k].name, p->name, r->name,
                         (long long)i, (double)got[i], (double)expected);
            for (int d = tsr_rank(y) - 1; d >= 0 && ++index[d] == tsr_shape(y)[d]; d--)
                index[d] = 0;
        }
        free(got);
    }
    free(va);
    free(vb);
    require_ok(r, tsr_scope_end());
}

static void binary_on(const run *r)
{
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        pair_on(r, &pairs[i]);
}

static void test_binary(void **state)
{
    (void)state;
    on_every_device(binary_on);
}

/* ---- derivatives of two operands, with one broadcast: sums over what it was spread over ---- */

static void gradient_row(const run *r, const char *name, double (*da)(double, double), double (*db)(double, double))
{
    const int64_t shape[] = {6, 5}, row[] = {5};
    double *a, *b;
    require_ok(r, tsr_scope_begin());
    tsr_tensor *ta = uniform_tensor(r, TSR_F32, 2, shape, 0.5, 2, 11, &a),
               *tb = uniform_tensor(r, TSR_F32, 1, row, 0.5, 2, 12, &b);
    require_ok(r, tsr_set_requires_grad(ta, true));
    require_ok(r, tsr_set_requires_grad(tb, true));
    tsr_tensor *in[] = {ta, tb}, *y = NULL;
    require_ok(r, tsr_op_call(name, in, 2, &y, 1, NULL, 0));
    require_ok(r, tsr_backward_from(y, NULL, false));
    float *ga = floats_of(r, tsr_grad(ta)), *gb = floats_of(r, tsr_grad(tb));
    for (int c = 0; c < 5; c++) {
        double sum = 0, size = 0;
        for (int i = 0; i < 6; i++) {
            const double x = a[i * 5 + c], e = da(x, b[c]), s = db(x, b[c]);
            if (!(fabs((double)ga[i * 5 + c] - e) <= 16 * 0x1p-24 * (1 + fabs(e))))
                fail_msg("%s on %s: d/da (%g, %g) is %g for %g", name, r->name, x, b[c], (double)ga[i * 5 + c], e);
            sum += s;
            size += 1 + fabs(s);
        }
        if (!(fabs((double)gb[c] - sum) <= 24 * 0x1p-24 * size))
            fail_msg("%s on %s: d/db summed is %g for %g", name, r->name, (double)gb[c], sum);
    }
    tsr_clear_grad(ta);
    tsr_clear_grad(tb);
    free(a);
    free(b);
    free(ga);
    free(gb);
    require_ok(r, tsr_scope_end());
}

static double one2(double a, double b)
{
    (void)a;
    (void)b;
    return 1;
}
static double minus2(double a, double b)
{
    (void)a;
    (void)b;
    return -1;
}
static double first2(double a, double b)
{
    (void)b;
    return a;
}
static double second2(double a, double b)
{
    (void)a;
    return b;
}
static double div_a(double a, double b)
{
    (void)a;
    return 1 / b;
}
static double div_b(double a, double b)
{
    return -a / (b * b);
}
static double pow_a(double a, double b)
{
    return b * pow(a, b - 1);
}
static double pow_b(double a, double b)
{
    return pow(a, b) * log(a);
}
static double larger_a(double a, double b)
{
    return a > b ? 1 : a == b ? 0.5 : 0;
}
static double larger_b(double a, double b)
{
    return larger_a(b, a);
}

static void gradients_on(const run *r)
{
    gradient_row(r, "add", one2, one2);
    gradient_row(r, "sub", one2, minus2);
    gradient_row(r, "mul", second2, first2);
    gradient_row(r, "div", div_a, div_b);
    gradient_row(r, "pow", pow_a, pow_b);
    gradient_row(r, "maximum", larger_a, larger_b);
    gradient_row(r, "minimum", larger_b, larger_a);
}

static void test_binary_gradients(void **state)
{
    (void)state;
    on_every_device(gradients_on);
}

/* ---- where, integers, in place ---- */

static void others_on(const run *r)
{
    const int64_t n = 6;
    require_ok(r, tsr_scope_begin());
    if (run_has(r, TSR_BOOL)) {
        const uint8_t choice[] = {1, 0, 0, 1, 1, 0};
        const float a[] = {1, 2, 3, 4, 5, 6}, b[] = {-1, -2, -3, -4, -5, -6};
        float got[6];
        tsr_tensor *ta = tsr_from_data(r->device, TSR_F32, 1, &n, a), *tb = tsr_from_data(r->device, TSR_F32, 1, &n, b);
        require_ok(r, tsr_set_requires_grad(ta, true));
        tsr_tensor *y = tsr_where(tsr_from_data(r->device, TSR_BOOL, 1, &n, choice), ta, tb);
        require(r, y);
        require_ok(r, tsr_read(y, got, sizeof got));
        for (int i = 0; i < n; i++)
            assert_true(got[i] == (choice[i] ? a[i] : b[i]));
        require_ok(r, tsr_backward_from(y, NULL, false));
        require_ok(r, tsr_read(tsr_grad(ta), got, sizeof got));
        for (int i = 0; i < n; i++)
            assert_true(got[i] == (float)choice[i]);
        tsr_clear_grad(ta);
    }
    const int32_t ints[] = {-3, -2, -1, 0, 1, INT32_MAX};
    int32_t back[6];
    tsr_tensor *ti = tsr_from_data(r->device, TSR_I32, 1, &n, ints);
    require(r, tsr_abs(ti));
    require_ok(r, tsr_read(tsr_maximum(tsr_mul(ti, ti), tsr_neg(ti)), back, sizeof back));
    for (int i = 0; i < 5; i++)
        assert_int_equal(back[i], ints[i] * ints[i] > -ints[i] ? ints[i] * ints[i] : -ints[i]);

    float values[] = {1, 2, 3, 4, 5, 6}, twice_values[6];
    tsr_tensor *x = tsr_from_data(r->device, TSR_F32, 1, &n, values), *same_x = x;
    require_ok(r, tsr_op_call("add", (tsr_tensor *[]){x, x}, 2, &same_x, 1, NULL, 0));
    assert_true(same_x == x);
    require_ok(r, tsr_read(x, twice_values, sizeof twice_values));
    for (int i = 0; i < n; i++)
        assert_true(twice_values[i] == 2 * values[i]);
    require_ok(r, tsr_scope_end());
}

static void test_others(void **state)
{
    (void)state;
    on_every_device(others_on);
}

static void test_errors(void **state)
{
    (void)state;
    tsr_device *cpu = tsr_device_open("cpu");
    assert_non_null(cpu);
    tsr_scope_begin();
    tsr_tensor *a = tsr_zeros(cpu, TSR_F32, 2, (int64_t[]){3, 4}), *b = tsr_zeros(cpu, TSR_F32, 1, (int64_t[]){3});
    tsr_tensor *d = tsr_zeros(cpu, TSR_F64, 1, (int64_t[]){4}), *i = tsr_zeros(cpu, TSR_I32, 1, (int64_t[]){4});
    assert_null(tsr_add(a, b));
    assert_non_null(strstr(tsr_last_error(), "[3, 4]"));
    assert_non_null(strstr(tsr_last_error(), "[3]"));
    assert_null(tsr_mul(a, d));
    assert_non_null(strstr(tsr_last_error(), "f64"));
    assert_null(tsr_exp(i));
    assert_int_equal(tsr_last_status(), TSR_UNSUPPORTED);
    assert_non_null(strstr(tsr_last_error(), "exp has no kernel for i32"));
    assert_null(tsr_relu(tsr_exp(i))); /* the first message stands */
    assert_non_null(strstr(tsr_last_error(), "exp has no kernel for i32"));
    tsr_tensor *y = NULL;
    assert_int_equal(tsr_op_call("rellu", &a, 1, &y, 1, NULL, 0), TSR_NOT_FOUND);
    assert_non_null(strstr(tsr_last_error(), "relu"));
    const tsr_attr wrong = {.name = "slop", .kind = TSR_ATTR_FLOAT, .f = 1};
    assert_int_equal(tsr_op_call("leaky_relu", &a, 1, &y, 1, &wrong, 1), TSR_INVALID_ARGUMENT);
    assert_non_null(strstr(tsr_last_error(), "slop"));
    tsr_scope_end();
    tsr_device_close(cpu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unary),  cmocka_unit_test(test_corners),
        cmocka_unit_test(test_binary), cmocka_unit_test(test_binary_gradients),
        cmocka_unit_test(test_others), cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
