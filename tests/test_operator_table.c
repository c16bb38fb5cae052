/* The table of operators itself (tools/operators): its rows agree with the library, have samples enough, and its means, tried on what is known
 * otherwise, find what is wrong. */
#include "tests/unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "operators/check.h"
#include "operators/guarded.h"
#include "operators/number.h"
#include "ops/op.h"

static tsr_op_info library_row(const char *name)
{
    tsr_op_info info = {0};
    for (size_t i = 0; i < tsr_op_count(); i++) {
        assert_int_equal(tsr_op_describe(i, &info), TSR_OK);
        if (strcmp(info.name, name) == 0)
            return info;
    }
    fail_msg("the library has no operator '%s'", name);
    return info;
}

static bool knows_attribute(const tsr_op_info *info, const tsr_attr *a)
{
    for (int i = 0; i < info->attribute_count; i++)
        if (strcmp(info->attribute_names[i], a->name) == 0)
            return info->attribute_kinds[i] == a->kind;
    return false;
}

static void check_row(const operator_row *row, tsr_dtype dtype)
{
    static sample_list list;
    const tsr_op_info info = library_row(row->name);
    bool empty = false, large = false, one = false, strided = false;
    samples_of(row, dtype, &list);
    for (size_t i = 0; i < list.count; i++) {
        const op_sample *s = &list.samples[i];
        const int64_t n = shape_product(s->in[0].rank, s->in[0].shape);
        for (size_t k = 0; k < i; k++)
            if (strcmp(list.samples[k].name, s->name) == 0)
                fail_msg("%s: two samples are called '%s'", row->name, s->name);
        for (int a = 0; a < sample_attrs(s); a++)
            if (!knows_attribute(&info, &s->attrs[a]))
                fail_msg("%s, %s: no such attribute: %s", row->name, s->name, s->attrs[a].name);
        empty = empty || n == 0;
        one = one || n == 1 ||
              strcmp(s->name, "one element") == 0; /* a cell's first operand has several for each result */
        large = large || n > 1 << 16 || strncmp(s->name, "past 2^16", 9) == 0;
        strided = strided || s->in[0].layout != LAYOUT_DENSE;
    }
    if (list.count < 12 || !large || !one || !strided || !empty)
        fail_msg("%s %s: %zu samples; 12 are wanted, among them an empty, a large, a strided one and one element",
                 row->name, tsr_dtype_name(dtype), list.count);
    assert_int_equal(row->results, info.outputs);
    assert_int_equal(row->arity, info.inputs_max);
}

static void test_families(void **state)
{
    (void)state;
    for (size_t i = 2; i < operator_count(); i++)
        for (size_t k = 0; k + 1 < i && strcmp(operator_at(i)->family, operator_at(i - 1)->family) != 0; k++)
            if (strcmp(operator_at(i)->family, operator_at(k)->family) == 0)
                fail_msg("%s and %s are of one family and no neighbours", operator_at(i)->name, operator_at(k)->name);
}

/* An operator comes with its row, and the row tries every dtype that it takes. */
static void test_complete(void **state)
{
    (void)state;
    for (size_t i = 0; i < op_count(); i++) {
        const operator_row *row = operator_find(op_at(i)->name);
        if (row == NULL)
            fail_msg("%s has no row in tools/operators", op_at(i)->name);
        if (row->dtypes != op_at(i)->dtypes)
            fail_msg("%s takes dtypes %#x, its row tries %#x", op_at(i)->name, op_at(i)->dtypes, row->dtypes);
    }
    assert_int_equal(operator_count(), op_count());
}

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < operator_count(); i++) {
        const operator_row *row = operator_at(i);
        assert_ptr_equal(operator_find(row->name), row);
        for (tsr_dtype d = 0; d < TSR_DTYPE_COUNT; d++)
            if ((row->dtypes >> d & 1) != 0)
                check_row(row, d);
    }
    assert_null(operator_find("nothing"));
}

/* ---- numbers ---- */

static void test_numbers(void **state)
{
    uint16_t half;
    (void)state;
    for (uint32_t bits = 0; bits < 0x10000u; bits++) {
        const uint16_t in = (uint16_t)bits;
        const tsr_dtype dtypes[] = {TSR_F16, TSR_BF16};
        for (int d = 0; d < 2; d++) {
            const double v = number_load(dtypes[d], &in, 0);
            number_store(dtypes[d], &half, 0, v);
            assert_true(isnan(v) ? isnan(number_load(dtypes[d], &half, 0)) : half == in);
        }
    }
    assert_true(number_round(TSR_F16, 1 + 0x1p-11) == 1 && number_round(TSR_F16, 1 + 3 * 0x1p-11) == 1 + 0x1p-9);
    assert_true(number_round(TSR_F16, 65519) == 65504 && isinf(number_round(TSR_F16, 65520)));
    assert_true(number_round(TSR_BF16, 257) == 256 && number_round(TSR_BF16, 259) == 260);
    assert_true(number_spacing(TSR_F32, 1) == 0x1p-23 && number_spacing(TSR_F32, 0.99) == 0x1p-24);
    assert_true(number_spacing(TSR_F16, 0) == 0x1p-24 && number_spacing(TSR_BF16, 256) == 2);
    assert_true(number_round(TSR_I32, -2.7) == -2 && number_round(TSR_BOOL, 0.5) == 1);
}

/* ---- traced arithmetic ---- */

/* softmax of three numbers: values and derivatives by hand, and f32's errors within the bound. */
static void test_trace(void **state)
{
    const double x[] = {0.3, -1.2, 2.5};
    trace *t = trace_create();
    term e[3], y[3], leaf[3];
    double z = 0;
    (void)state;
    assert_non_null(t);
    for (int pass = 0; pass < 2; pass++) { /* a trace can be begun again */
        trace_begin(t, TSR_F32, false);
        for (int i = 0; i < 3; i++) {
            leaf[i] = trace_operand(t, x[i]);
            e[i] = trace_exp(t, leaf[i]);
        }
        trace_sum_begin(t);
        for (int i = 0; i < 3; i++)
            trace_sum_add(t, e[i]);
        const term sum = trace_sum_end(t);
        for (int i = 0; i < 3; i++)
            y[i] = trace_div(t, e[i], sum);
        trace_seed(t, y[1], 1);
        trace_backward(t);
    }
    for (int i = 0; i < 3; i++)
        z += exp(x[i]);
    for (int i = 0; i < 3; i++) {
        const double p = exp(x[i]) / z, own = exp(x[1]) / z, slope = own * ((i == 1) - p);
        const double bound = trace_bound(t, y[i]), slope_bound = trace_gradient_bound(t, leaf[i], 0);
        assert_true(fabs(trace_value(t, y[i]) - p) < 1e-15 && fabs(trace_gradient(t, leaf[i]) - slope) < 1e-15);
        /* a few roundings, neither none nor a hundred */
        assert_true(bound > p * 0x1p-24 && bound < 64 * p * 0x1p-24);
        assert_true(slope_bound > fabs(slope) * 0x1p-24 && slope_bound < 200 * own * 0x1p-24);
    }
    assert_false(trace_failed(t));
    trace_sum_begin(t);
    trace_operand(t, 1); /* inside a sum */
    assert_true(trace_failed(t));
    trace_destroy(t);
}

/* A sum's bound has the canonical depth, a product's its length up to 4096. */
static void test_depths(void **state)
{
    trace *t = trace_create();
    (void)state;
    assert_non_null(t);
    for (int products = 0; products < 2; products++) {
        trace_begin(t, TSR_F32, products != 0);
        term x[6400];
        for (int i = 0; i < 6400; i++)
            x[i] = trace_operand(t, 1);
        trace_sum_begin(t);
        for (int i = 0; i < 6400; i++)
            trace_sum_add(t, x[i]);
        const double depth = trace_bound(t, trace_sum_end(t)) / 6400 * 0x1p24;
        assert_true(products ? depth == 4096 + 2 + 2 : depth == 100 + 6 + 14);
    }
    trace_destroy(t);
}

/* ---- what a check finds ---- */

static void check_one(const char *name, const char *planted, check_result *forward, check_result *backward)
{
    static sample_list list;
    const operator_row *row = operator_find(name);
    tsr_device *cpu = tsr_device_open("cpu");
    trace *t = trace_create();
    expectation e = {0};
    device_values first = {{NULL}}, first_back = {{NULL}};
    assert_true(row != NULL && cpu != NULL && t != NULL);
    if (planted != NULL)
        setenv("TESSERA_COMPARE_FAULT", planted, 1);
    samples_of(row, TSR_F32, &list);
    assert_true(expectation_make(&e, t, row, &list.samples[0], 0, TSR_F32, 0));
    unsetenv("TESSERA_COMPARE_FAULT");
    check_forward(&e, cpu, &first, forward);
    check_backward(&e, cpu, &first_back, backward);
    device_values_free(&first);
    device_values_free(&first_back);
    expectation_free(&e);
    trace_destroy(t);
    tsr_device_close(cpu);
}

static void test_faults(void **state)
{
    check_result forward, backward;
    (void)state;
    check_one("matmul", NULL, &forward, &backward);
    assert_int_equal(forward.status, CHECK_OK);
    assert_int_equal(backward.status, CHECK_OK);
    assert_true(forward.held == 45 && forward.ratio < 1 && backward.held == 35 + 63);
    check_one("matmul", "add", &forward, &backward); /* another one's */
    assert_int_equal(forward.status, CHECK_OK);
    check_one("matmul", "matmul", &forward, &backward);
    assert_int_equal(forward.status, CHECK_FAIL);
    assert_int_equal(forward.element, 44);
    assert_true(forward.ratio > 1);
    assert_non_null(strstr(forward.why, "element 44"));
}

/* A word beside the view is seen, one inside only where nothing may change. */
static void test_guards(void **state)
{
    const int64_t shape[] = {3, 4};
    const double values[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    const layout layouts[] = {LAYOUT_DENSE, LAYOUT_REVERSED, LAYOUT_STEPPED};
    tsr_device *cpu = tsr_device_open("cpu");
    (void)state;
    assert_non_null(cpu);
    for (int l = 0; l < 3; l++)
        for (int where = 0; where < 4; where++) {
            guarded g;
            float got[12];
            bool intact = false;
            tsr_scope_begin();
            assert_true(guarded_make(&g, cpu, TSR_F32, 2, shape, layouts[l], 3, values));
            assert_int_equal(tsr_read(g.view, got, sizeof got), TSR_OK);
            for (int i = 0; i < 12; i++)
                assert_true((double)got[i] == values[i]);
            const int64_t at[] = {-1, tsr_storage_offset(g.view) - 1, tsr_numel(g.whole) - 1,
                                  tsr_storage_offset(g.view)};
            if (at[where] >= 0)
                assert_int_equal(tsr_fill(tsr_slice(g.whole, 0, at[where], at[where] + 1, 1), 0.5), TSR_OK);
            assert_true(guarded_intact(&g, false, &intact));
            assert_int_equal(intact, where == 0);
            if (layouts[l] == LAYOUT_DENSE) {
                assert_true(guarded_intact(&g, true, &intact));
                assert_int_equal(intact, where == 0 || where == 3);
            }
            guarded_free(&g);
            tsr_scope_end();
        }
    tsr_device_close(cpu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_families), cmocka_unit_test(test_complete), cmocka_unit_test(test_rows),
        cmocka_unit_test(test_numbers),  cmocka_unit_test(test_trace),    cmocka_unit_test(test_depths),
        cmocka_unit_test(test_faults),   cmocka_unit_test(test_guards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
