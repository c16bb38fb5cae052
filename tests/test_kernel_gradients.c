/* The derivatives in elementwise.def: against central differences of the f64 forward kernels, and PyTorch's conventions
 * where there is no derivative. */
#include "unit.h"

#include "ops/elementwise_table.h"
#include "tests/kernel_native.h"

#include <math.h>
#include <stdbool.h>

enum { N = 64 };

typedef struct domain {
    const char *name;
    double low, high; /* of every operand */
    double s0, s1;
} domain;

/* Where an operator is smooth; [-3, 3] for those not named. */
static const domain domains[] = {
    {"log", 0.1, 5, 0, 0},         {"log2", 0.1, 5, 0, 0},        {"log10", 0.1, 5, 0, 0},
    {"log1p", -0.8, 5, 0, 0},      {"sqrt", 0.1, 5, 0, 0},        {"rsqrt", 0.1, 5, 0, 0},
    {"pow", 0.2, 3, 0, 0},         {"reciprocal", 0.3, 3, 0, 0},  {"div", 0.3, 3, 0, 0},
    {"tan", -1.3, 1.3, 0, 0},      {"leaky_relu", -3, 3, 0.1, 0}, {"elu", -3, 3, 1.3, 0},
    {"clamp", -3, 3, -1.01, 1.52}, {"affine", -3, 3, 1.7, 0.3},   {"addcmul", -3, 3, 0.7, 0},
    {"addcdiv", 0.3, 3, 0.7, 0},   {"lerp", 0.05, 0.95, 0, 0},    {"asin", -0.9, 0.9, 0, 0},
    {"acos", -0.9, 0.9, 0, 0},     {"celu", -3, 3, 1.3, 0},       {"hardtanh", -3, 3, -1.01, 1.52},
    {"smooth_l1", -3, 3, 0.7, 0},  {"huber", -3, 3, 0.7, 0},      {"kl_div", 0.1, 3, 0, 0},
    {"fmod", 0.5, 3, 0, 0},        {"remainder", 0.5, 3, 0, 0},
};

static domain domain_of(const char *name)
{
    for (size_t i = 0; i < sizeof domains / sizeof domains[0]; i++)
        if (strcmp(domains[i].name, name) == 0)
            return domains[i];
    return (domain){name, -3, 3, 0, 0};
}

static void forward(const elementwise_row *row, const domain *d, double *const *x, double *y)
{
    static const char *const kernels[] = {"", "unary", "binary", "ternary"};
    const kernel_entry *e = native_entry(kernels[row->arity], row->name, "f64");
    assert_non_null(e);
    const double scalars[2] = {d->s0, d->s1};
    void *bindings[4] = {x[0], x[1], x[2], NULL};
    bindings[row->arity] = y;
    native_run(e, ISA_BASELINE, row->arity, N, scalars, bindings);
}

static void gradient(const elementwise_row *row, const domain *d, int k, double *dy, double *const *x, double *y,
                     double *dx, const char *dtype)
{
    char kernel[32];
    snprintf(kernel, sizeof kernel, row->arity == 1 ? "unary_grad" : "%s_grad_%d",
             row->arity == 2 ? "binary" : "ternary", k);
    const kernel_entry *e = native_entry(kernel, row->name, dtype);
    if (!e)
        print_error("%s/%s/%s is missing\n", kernel, row->name, dtype);
    assert_non_null(e);
    const double scalars[2] = {d->s0, d->s1};
    /* What the table says is not read is bound to dy, as the library does. */
    void *bindings[6] = {dy};
    int n = 1;
    for (int j = 0; j < row->arity; j++)
        bindings[n++] = row->gradient[k].needs_operand[j] ? x[j] : dy;
    bindings[n++] = row->gradient[k].needs_result ? y : dy;
    bindings[n] = dx;
    if (row->arity == 1)
        native_run_unary_grad(e, ISA_BASELINE, N, scalars, bindings);
    else
        native_run(e, ISA_BASELINE, row->arity, N, scalars, bindings);
}

static bool check_operand(const elementwise_row *row, const domain *d, int k)
{
    static double operands[3][N], y[N], above[N], below[N], dy[N], dx[N], saved[N];
    double *x[3] = {operands[0], operands[1], operands[2]};
    for (int j = 0; j < 3; j++)
        for (int i = 0; i < N; i++)
            operands[j][i] = d->low + (d->high - d->low) * fmod((i + 0.37) * (j == 0 ? 1.0 / N : 0.618 + 0.1 * j), 1.0);
    for (int i = 0; i < N; i++)
        dy[i] = 0.5 + 0.01 * i;
    forward(row, d, x, y);
    memset(dx, 0, sizeof dx);
    if (row->gradient[k].exists)
        gradient(row, d, k, dy, x, y, dx, "f64");

    const double h = 1e-6;
    memcpy(saved, operands[k], sizeof saved);
    for (int i = 0; i < N; i++)
        operands[k][i] = saved[i] + h;
    forward(row, d, x, above);
    for (int i = 0; i < N; i++)
        operands[k][i] = saved[i] - h;
    forward(row, d, x, below);
    memcpy(operands[k], saved, sizeof saved);
    for (int i = 0; i < N; i++) {
        const double slope = dy[i] * (above[i] - below[i]) / (2 * h);
        if (fabs(slope - dx[i]) > 1e-7 * (1 + fabs(slope) + fabs(y[i]))) {
            print_error("%s: derivative %d at (%g, %g, %g) is %.12g, the difference quotient %.12g\n", row->name, k,
                        operands[0][i], operands[1][i], operands[2][i], dx[i], slope);
            return false;
        }
    }
    return true;
}

static void derivatives_are_those_of_the_forward_expressions(void **state)
{
    (void)state;
    size_t failures = 0, checked = 0;
    for (size_t r = 0; r < elementwise_row_count; r++) {
        const elementwise_row *row = &elementwise_rows[r];
        const domain d = domain_of(row->name);
        for (int k = 0; k < row->arity && !row->compare && !row->bits; k++, checked++)
            failures += !check_operand(row, &d, k);
    }
    print_message("%zu derivatives\n", checked);
    assert_true(checked > 40);
    assert_int_equal(failures, 0);
}

/* ---- corners ------------------------------------------------------------------------------------------------------ */

typedef struct corner {
    const char *name;
    int operand;
    double x[3];
    double s0, s1;
    double dx; /* for dy = 1 */
} corner;

static const corner corners[] = {
    {"relu", 0, {0}, 0, 0, 0},           {"relu", 0, {-1}, 0, 0, 0},
    {"relu", 0, {1}, 0, 0, 1},           {"abs", 0, {0}, 0, 0, 0},
    {"leaky_relu", 0, {0}, 0.1, 0, 0.1}, {"elu", 0, {0}, 1.5, 0, 1.5},
    {"clamp", 0, {-1}, -1, 2, 1},        {"clamp", 0, {2}, -1, 2, 1},
    {"clamp", 0, {2.5}, -1, 2, 0},       {"clamp", 0, {-1.5}, -1, 2, 0},
    {"clamp", 0, {NAN}, -1, 2, 0},       {"sqrt", 0, {0}, 0, 0, INFINITY},
    {"log", 0, {0}, 0, 0, INFINITY},     {"tanh", 0, {100}, 0, 0, 0},
    {"sigmoid", 0, {-800}, 0, 0, 0},     {"maximum", 0, {2, 2}, 0, 0, 0.5},
    {"maximum", 1, {2, 2}, 0, 0, 0.5},   {"maximum", 0, {1, 2}, 0, 0, 0},
    {"maximum", 1, {1, 2}, 0, 0, 1},     {"minimum", 0, {2, 2}, 0, 0, 0.5},
    {"minimum", 1, {2, 2}, 0, 0, 0.5},   {"minimum", 0, {1, 2}, 0, 0, 1},
    {"minimum", 1, {1, 2}, 0, 0, 0},     {"relu6", 0, {0}, 0, 0, 0},
    {"relu6", 0, {6}, 0, 0, 0},          {"relu6", 0, {5}, 0, 0, 1},
    {"hardtanh", 0, {-1}, -1, 2, 0},     {"hardtanh", 0, {2}, -1, 2, 0},
    {"hardtanh", 0, {0.5}, -1, 2, 1},    {"hardsigmoid", 0, {3}, 0, 0, 0},
    {"hardsigmoid", 0, {-3}, 0, 0, 0},   {"hardswish", 0, {3}, 0, 0, 1},
    {"hardswish", 0, {-3}, 0, 0, 0},     {"selu", 0, {0}, 0, 0, 1.75809934084737685994},
    {"celu", 0, {0}, 2, 0, 1},           {"asin", 0, {1}, 0, 0, INFINITY},
    {"acos", 0, {1}, 0, 0, -INFINITY},   {"frac", 0, {2}, 0, 0, 1},
    {"sinh", 0, {0}, 0, 0, 1},           {"fmod", 1, {-7, 2}, 0, 0, 3},
    {"remainder", 1, {-7, 2}, 0, 0, 4},  {"remainder", 1, {7, -2}, 0, 0, 4},
    {"hypot", 0, {3, 4}, 0, 0, 0.6},     {"atan2", 0, {0, -2}, 0, 0, -0.5},
    {"pow", 0, {0, 0}, 0, 0, 0},         {"pow", 0, {0, 1}, 0, 0, 1},
    {"pow", 0, {0, 2}, 0, 0, 0},         {"pow", 0, {-2, 2}, 0, 0, -4},
    {"pow", 0, {-2, 3}, 0, 0, 12},       {"pow", 1, {0, 0}, 0, 0, 0},
    {"pow", 1, {0, 2}, 0, 0, 0},         {"pow", 1, {2, 0}, 0, 0, 0.69314718055994530942},
};

static const elementwise_row *row_named(const char *name)
{
    for (size_t i = 0; i < elementwise_row_count; i++)
        if (strcmp(elementwise_rows[i].name, name) == 0)
            return &elementwise_rows[i];
    return NULL;
}

static void derivatives_follow_pytorch_at_corners(void **state)
{
    (void)state;
    size_t failures = 0;
    for (size_t c = 0; c < sizeof corners / sizeof corners[0]; c++) {
        static double operands[3][N], y[N], dy[N], dx[N];
        double *x[3] = {operands[0], operands[1], operands[2]};
        const elementwise_row *row = row_named(corners[c].name);
        assert_non_null(row);
        const domain d = {row->name, 0, 0, corners[c].s0, corners[c].s1};
        for (int i = 0; i < N; i++) {
            for (int j = 0; j < 3; j++)
                operands[j][i] = corners[c].x[j];
            dy[i] = 1;
        }
        forward(row, &d, x, y);
        gradient(row, &d, corners[c].operand, dy, x, y, dx, "f64");
        if (dx[7] != corners[c].dx && fabs(dx[7] - corners[c].dx) > 1e-14) {
            print_error("%s: derivative %d at (%g, %g) is %g, not %g\n", row->name, corners[c].operand, corners[c].x[0],
                        corners[c].x[1], dx[7], corners[c].dx);
            failures++;
        }
    }
    assert_int_equal(failures, 0);
}

/* In f32, the derivative kernels give what those of f64 do, to a few units of what they are made of. */
static void f32_derivatives_agree_with_f64(void **state)
{
    (void)state;
    size_t failures = 0;
    for (size_t r = 0; r < elementwise_row_count; r++) {
        const elementwise_row *row = &elementwise_rows[r];
        const domain d = domain_of(row->name);
        for (int k = 0; k < row->arity && !row->compare && !row->bits; k++) {
            static double operands[3][N], y[N], dy[N], dx[N];
            static float operands_f[3][N], y_f[N], dy_f[N], dx_f[N];
            double *x[3] = {operands[0], operands[1], operands[2]};
            if (!row->gradient[k].exists)
                continue;
            for (int i = 0; i < N; i++) {
                for (int j = 0; j < 3; j++)
                    operands[j][i] = operands_f[j][i] =
                        (float)(d.low + (d.high - d.low) * fmod((i + 0.41) * (0.618 + 0.1 * j), 1.0));
                dy[i] = dy_f[i] = 1.0f;
            }
            forward(row, &d, x, y);
            for (int i = 0; i < N; i++)
                y[i] = y_f[i] = (float)y[i];
            gradient(row, &d, k, dy, x, y, dx, "f64");
            gradient(row, &d, k, (double *)(void *)dy_f,
                     (double *[]){(double *)(void *)operands_f[0], (double *)(void *)operands_f[1],
                                  (double *)(void *)operands_f[2]},
                     (double *)(void *)y_f, (double *)(void *)dx_f, "f32");
            for (int i = 0; i < N; i++) {
                if (fabs(dx[i] - dx_f[i]) > 4e-6 * (1 + fabs(dx[i]))) {
                    print_error("%s: derivative %d at (%g, %g, %g) is %.9g in f32, %.9g in f64\n", row->name, k,
                                operands[0][i], operands[1][i], operands[2][i], (double)dx_f[i], dx[i]);
                    failures++;
                    break;
                }
            }
        }
    }
    assert_int_equal(failures, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(derivatives_are_those_of_the_forward_expressions),
        cmocka_unit_test(derivatives_follow_pytorch_at_corners),
        cmocka_unit_test(f32_derivatives_agree_with_f64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
