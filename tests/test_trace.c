/* Who watches a thread's operators (tessera/trace.h): what is shown, in which order, with what; and that nothing is when nobody watches. */
#include "tests/op_reference.h"

typedef struct seen_event {
    tsr_trace_phase phase;
    char name[32];
    uint64_t call;
    int inputs, outputs, given; /* given: outputs that are there */
    double first;               /* of the first output */
    int attributes;
    double rate; /* an attribute "lr" */
} seen_event;

typedef struct seen {
    seen_event events[64];
    int count;
    bool ends;
} seen;

static void watch(void *context, const tsr_trace_event *e)
{
    seen *s = context;
    assert_true(s->count < 64);
    seen_event *x = &s->events[s->count++];
    *x = (seen_event){.phase = e->phase,
                      .call = e->call,
                      .inputs = e->input_count,
                      .outputs = e->output_count,
                      .attributes = e->attribute_count};
    snprintf(x->name, sizeof x->name, "%s", e->name);
    assert_non_null(e->device);
    for (int i = 0; i < e->output_count; i++)
        x->given += e->outputs[i] != NULL;
    for (int i = 0; i < e->attribute_count; i++)
        x->rate = strcmp(e->attributes[i].name, "lr") == 0 ? e->attributes[i].f : x->rate;
    /* What the function calls is not shown: it would not end. */
    tsr_no_grad_begin();
    if (e->output_count > 0 && e->outputs[0] != NULL && tsr_dtype_of(e->outputs[0]) == TSR_F32)
        assert_int_equal(tsr_item(tsr_sum(tsr_abs(e->outputs[0]), NULL, 0, false), &x->first), TSR_OK);
    tsr_no_grad_end();
    if (s->ends)
        tsr_trace_end();
}

static void expect(const seen *s, int i, tsr_trace_phase phase, const char *name, uint64_t call, double first)
{
    assert_true(i < s->count);
    if (s->events[i].phase != phase || strcmp(s->events[i].name, name) != 0 || s->events[i].call != call)
        fail_msg("event %d is %s %s of call %llu, not %s %s of call %llu", i, tsr_trace_phase_name(s->events[i].phase),
                 s->events[i].name, (unsigned long long)s->events[i].call, tsr_trace_phase_name(phase), name,
                 (unsigned long long)call);
    assert_float_equal(s->events[i].first, first, 1e-6);
}

static tsr_tensor *leaf(const run *r, int rows, int columns, const float *values)
{
    tsr_tensor *x = tsr_from_data(r->device, TSR_F32, 2, (int64_t[]){rows, columns}, values);
    require(r, x);
    require_ok(r, tsr_set_requires_grad(x, true));
    return x;
}

/* x goes two ways, so that its gradients are summed; one after the other, so that the order is certain. */
static void the_order_on(const run *r)
{
    seen s = {.count = 0};
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = leaf(r, 1, 2, (float[]){1, 2}), *w = leaf(r, 2, 2, (float[]){1, 2, 3, 4});
    tsr_optimizer *sgd = tsr_sgd_create((tsr_tensor *[]){w}, 1, &(tsr_sgd_options){.lr = 0.5});
    require(r, sgd);
    require_ok(r, tsr_trace_begin(watch, &s));
    tsr_tensor *y = tsr_square(x);
    tsr_tensor *product = tsr_matmul(y, w), *negative = tsr_neg(y);
    tsr_tensor *z = tsr_add(product, negative);
    tsr_tensor *total = tsr_sum(z, NULL, 0, false);
    require_ok(r, tsr_backward(total));
    require_ok(r, tsr_optimizer_step(sgd));
    tsr_trace_end();
    require(r, tsr_relu(z)); /* not shown */

    expect(&s, 0, TSR_TRACE_FORWARD, "square", 1, 5);
    expect(&s, 1, TSR_TRACE_FORWARD, "matmul", 2, 31); /* 1 + 12, 2 + 16 */
    expect(&s, 2, TSR_TRACE_FORWARD, "neg", 3, 5);
    expect(&s, 3, TSR_TRACE_FORWARD, "add", 4, 26);
    expect(&s, 4, TSR_TRACE_FORWARD, "sum", 5, 26);
    assert_int_equal(s.events[4].inputs, 1);
    assert_true(s.events[4].attributes > 0);
    expect(&s, 5, TSR_TRACE_BACKWARD, "sum", 5, 2);
    expect(&s, 6, TSR_TRACE_BACKWARD, "add", 4, 2);
    expect(&s, 7, TSR_TRACE_BACKWARD, "neg", 3, 2);
    expect(&s, 8, TSR_TRACE_BACKWARD, "matmul", 2, 10); /* 1 + 2, 3 + 4 */
    assert_int_equal(s.events[8].inputs, 1);
    assert_int_equal(s.events[8].outputs, 2);
    assert_int_equal(s.events[8].given, 2);
    expect(&s, 9, TSR_TRACE_ACCUMULATE, "add", 6, 8);    /* [3, 7] - [1, 1] */
    expect(&s, 10, TSR_TRACE_BACKWARD, "square", 1, 28); /* 2 · 2 + 4 · 6 */
    expect(&s, 11, TSR_TRACE_UPDATE, "sgd", 0, 5);       /* w - [1, 1; 4, 4] / 2: 0.5 1.5 1 2 */
    assert_int_equal(s.events[11].inputs, 1);
    assert_float_equal(s.events[11].rate, 0.5, 0);
    assert_int_equal(s.count, 12);
    tsr_optimizer_destroy(sgd);
    tsr_clear_grad(x);
    tsr_clear_grad(w);
    tsr_scope_end();
}

/* An operator that is others put together: these; one that calls others for its work: itself. What fails: nothing. */
static void parts_on(const run *r)
{
    seen s = {.count = 0};
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = leaf(r, 2, 3, (float[]){1, 2, 3, 4, 5, 6});
    require_ok(r, tsr_trace_begin(watch, &s));
    require(r, tsr_stack((tsr_tensor *[]){x, x}, 2, 0));
    for (int i = 0; i < s.count; i++)
        assert_string_not_equal(s.events[i].name, "stack");
    assert_true(s.count > 0);
    s.count = 0;
    /* A transposed operand is first copied by some devices. */
    require(r, tsr_softmax(tsr_transpose(x, 0, 1), 1));
    assert_int_equal(s.count, 2);
    expect(&s, 1, TSR_TRACE_FORWARD, "softmax", s.events[1].call, 3);
    s.count = 0;
    assert_null(tsr_matmul(x, x));
    assert_int_equal(s.count, 0);
    require(r, tsr_relu(x));
    assert_int_equal(s.count, 1); /* a failure hides nothing behind it */
    tsr_trace_end();
    tsr_scope_end();
}

static void begin_and_end_on(const run *r)
{
    seen s = {.count = 0, .ends = true};
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = leaf(r, 1, 1, (float[]){2});
    assert_int_equal(tsr_trace_begin(NULL, NULL), TSR_INVALID_ARGUMENT);
    tsr_trace_end(); /* nothing watches */
    require_ok(r, tsr_trace_begin(watch, &s));
    assert_int_equal(tsr_trace_begin(watch, &s), TSR_INVALID_ARGUMENT);
    require(r, tsr_relu(x)); /* whose event ends the watch */
    require(r, tsr_relu(x));
    assert_int_equal(s.count, 1);
    s.ends = false;
    tsr_tensor *y = tsr_square(x); /* nobody sees this call … */
    require_ok(r, tsr_trace_begin(watch, &s));
    require_ok(r, tsr_backward_from(y, NULL, false));
    tsr_trace_end();
    assert_int_equal(s.count, 2);
    expect(&s, 1, TSR_TRACE_BACKWARD, "square", 0, 4); /* … so it has no number */
    tsr_clear_grad(x);
    tsr_scope_end();
}

static void the_order(void **state)
{
    (void)state;
    on_every_device(the_order_on);
}

static void parts(void **state)
{
    (void)state;
    on_every_device(parts_on);
}

static void begin_and_end(void **state)
{
    (void)state;
    on_every_device(begin_and_end_on);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_order),
        cmocka_unit_test(parts),
        cmocka_unit_test(begin_and_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
