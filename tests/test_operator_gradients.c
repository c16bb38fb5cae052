/* Every differentiable operator of the table (tools/operators) on each of its samples in f64 on the CPU device: the gradient against central
 * differences, with PyTorch's tolerances (torch.autograd.gradcheck: eps 1e-6, atol 1e-5, rtol 1e-3), and twice with the same bits. Small
 * operands element by element, large ones along random directions (gradcheck's fast mode). */
#include "tests/unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "operators/check.h"

enum { ELEMENTS = 48, DIRECTIONS = 3 };

static const double eps = 1e-6, absolute = 1e-5, relative = 1e-3;

static tsr_device *cpu;

/* Derivatives at ties, of NaN and next to the largest numbers are no limits of differences; a narrower result hides the step. */
static bool smooth(const expectation *e)
{
    for (int k = 0; k < e->in_count; k++) {
        const sample_input *in = &e->sample->in[k];
        if (!in->absent && !in->typed && in->values != VALUES_REALS && in->values != VALUES_RAMP)
            return false;
    }
    return e->backward && !e->sample->declared && !e->row->discontinuous && e->out[0].dtype == TSR_F64;
}

static bool has_gradient(const expectation *e, int k)
{
    return e->in_gradient[k].value != NULL;
}

/* The call on these operands; a leaf for each, in the open scope. */
static tsr_tensor *apply(const expectation *e, double *const *values, tsr_tensor **x, bool differentiate)
{
    tsr_tensor *out[OUTPUTS_MAX] = {NULL};
    assert_int_equal(tsr_seed(cpu, 0), TSR_OK);
    for (int k = 0; k < e->in_count; k++) {
        x[k] = e->sample->in[k].absent ? NULL : check_operand(e, k, cpu, values[k]);
        if (differentiate && has_gradient(e, k))
            assert_int_equal(tsr_set_requires_grad(x[k], true), TSR_OK);
    }
    if (tsr_op_call(e->row->name, x, e->in_count, out, e->row->results, e->sample->attrs, sample_attrs(e->sample)) !=
        TSR_OK)
        fail_msg("%s, %s: %s", e->row->name, e->sample->name, tsr_last_error());
    return out[0];
}

/* sum of gradient · f(x), in long double so that its own rounding does not count */
static double objective(const expectation *e, double *const *values)
{
    tsr_tensor *x[INPUTS_MAX];
    const int64_t n = e->out[0].count;
    double *y = malloc(sizeof *y * (size_t)(n + 1));
    long double sum = 0;
    assert_non_null(y);
    tsr_scope_begin();
    tsr_no_grad_begin();
    assert_int_equal(tsr_read(apply(e, values, x, false), y, sizeof *y * (size_t)n), TSR_OK);
    tsr_no_grad_end();
    tsr_scope_end();
    for (int64_t i = 0; i < n; i++)
        sum += (long double)y[i] * (long double)e->gradient[i];
    free(y);
    return (double)sum;
}

static void gradients(const expectation *e, double *const *values, double **out)
{
    tsr_tensor *x[INPUTS_MAX];
    tsr_scope_begin();
    tsr_tensor *y = apply(e, values, x, true);
    tsr_tensor *dy = tsr_from_data(cpu, TSR_F64, e->out[0].rank, e->out[0].shape, e->gradient);
    if (tsr_backward_from(y, dy, false) != TSR_OK)
        fail_msg("%s, %s: %s", e->row->name, e->sample->name, tsr_last_error());
    for (int k = 0; k < e->in_count; k++) {
        if (!has_gradient(e, k))
            continue;
        const size_t bytes = sizeof(double) * (size_t)e->in[k].count;
        if (tsr_grad(x[k]) == NULL)
            fail_msg("%s, %s: operand %d got no gradient", e->row->name, e->sample->name, k);
        assert_int_equal(tsr_read(tsr_grad(x[k]), out[k], bytes), TSR_OK);
        tsr_clear_grad(x[k]);
    }
    tsr_scope_end();
}

static void hold(const expectation *e, int k, int64_t place, double got, double above, double below)
{
    const double numeric = (above - below) / (2 * eps);
    if (!(fabs(got - numeric) <= absolute + relative * fabs(numeric)))
        fail_msg("%s, %s: gradient of operand %d, %s %lld: %.9g, central difference %.9g", e->row->name,
                 e->sample->name, k, e->in[k].count <= ELEMENTS ? "element" : "direction", (long long)place, got,
                 numeric);
}

static void by_elements(const expectation *e, int k, double **values, const double *gradient)
{
    for (int64_t i = 0; i < e->in[k].count; i++) {
        const double x = values[k][i];
        if (isnan(e->in_gradient[k].value[i])) { /* there is no derivative: of the variance of one number */
            if (!isnan(gradient[i]))
                fail_msg("%s, %s: gradient of operand %d, element %lld: %.9g, and there is none", e->row->name,
                         e->sample->name, k, (long long)i, gradient[i]);
            continue;
        }
        values[k][i] = x + eps;
        const double above = objective(e, values);
        values[k][i] = x - eps;
        const double below = objective(e, values);
        values[k][i] = x;
        hold(e, k, i, gradient[i], above, below);
    }
}

static void by_directions(const expectation *e, int k, double **values, const double *gradient)
{
    const int64_t n = e->in[k].count;
    double *own = values[k], *moved = malloc(sizeof *moved * (size_t)n);
    int8_t *direction = malloc((size_t)n);
    uint64_t state = 88172645463325252u;
    assert_true(moved != NULL && direction != NULL);
    for (int d = 0; d < DIRECTIONS; d++) {
        long double along = 0;
        double sides[2];
        for (int64_t i = 0; i < n; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            direction[i] = state >> 63 != 0 ? 1 : -1;
            along += (long double)direction[i] * (long double)gradient[i];
        }
        values[k] = moved;
        for (int side = 0; side < 2; side++) {
            for (int64_t i = 0; i < n; i++)
                moved[i] = own[i] + (side == 0 ? eps : -eps) * direction[i];
            sides[side] = objective(e, values);
        }
        values[k] = own;
        hold(e, k, d, (double)along, sides[0], sides[1]);
    }
    free(moved);
    free(direction);
}

static void check_sample(const expectation *e)
{
    double *values[INPUTS_MAX] = {NULL}, *first[INPUTS_MAX] = {NULL}, *second[INPUTS_MAX] = {NULL};
    for (int k = 0; k < e->in_count; k++) {
        values[k] = e->in[k].value;
        if (!has_gradient(e, k))
            continue;
        first[k] = calloc((size_t)e->in[k].count + 1, sizeof(double));
        second[k] = calloc((size_t)e->in[k].count + 1, sizeof(double));
        assert_true(first[k] != NULL && second[k] != NULL);
    }
    gradients(e, values, first);
    gradients(e, values, second);
    for (int k = 0; k < e->in_count; k++) {
        if (!has_gradient(e, k))
            continue;
        if (memcmp(first[k], second[k], sizeof(double) * (size_t)e->in[k].count) != 0)
            fail_msg("%s, %s: the gradient of operand %d has other bits the second time", e->row->name, e->sample->name,
                     k);
        (e->in[k].count <= ELEMENTS ? by_elements : by_directions)(e, k, values, first[k]);
        free(first[k]);
        free(second[k]);
    }
}

static void test_gradients(void **state)
{
    static sample_list list;
    trace *t = trace_create();
    size_t rows = 0, samples = 0;
    (void)state;
    assert_non_null(t);
    cpu = tsr_device_open("cpu");
    assert_non_null(cpu);
    for (size_t i = 0; i < operator_count(); i++) {
        const operator_row *row = operator_at(i);
        size_t tried = 0;
        samples_of(row, TSR_F64, &list);
        for (size_t s = 0; s < list.count && row->differentiable; s++) {
            expectation e = {0};
            if (!expectation_make(&e, t, row, &list.samples[s], s, TSR_F64, 0))
                fail_msg("%s, %s: %s", row->name, list.samples[s].name, tsr_last_error());
            if (smooth(&e)) {
                check_sample(&e);
                tried++;
            }
            expectation_free(&e);
        }
        if (row->differentiable && !row->discontinuous && tried == 0)
            fail_msg("%s: no sample has a derivative to try", row->name);
        rows += tried > 0;
        samples += tried;
    }
    print_message("%zu operators on %zu samples\n", rows, samples);
    trace_destroy(t);
    tsr_device_close(cpu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gradients)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
