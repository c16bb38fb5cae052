#include "expectation.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "number.h"

enum { STORED = 4 }; /* tensors of 16 bits on the way of a derivative: the saved operands, the gradient, two between */

static bool room(expected_tensor *x)
{
    x->value = host_realloc_array(NULL, (size_t)x->count + 1, sizeof(double));
    x->bound = host_realloc_array(NULL, (size_t)x->count + 1, sizeof(double));
    return x->value != NULL && x->bound != NULL;
}

static void expected_free(expected_tensor *x)
{
    host_free(x->value);
    host_free(x->bound);
    memset(x, 0, sizeof *x);
}

void expectation_free(expectation *e)
{
    sample_free(e->in);
    for (int k = 0; k < OUTPUTS_MAX; k++)
        expected_free(&e->out[k]);
    for (int k = 0; k < INPUTS_MAX; k++)
        expected_free(&e->in_gradient[k]);
    host_free(e->gradient);
    e->gradient = NULL;
}

/* A number and its bound as the dtype holds them: what the arithmetic may be off by, and the rounding to 16 bits. */
static void settle(expected_tensor *x, int64_t i, double value, double bound, bool exact)
{
    const bool narrow = x->dtype == TSR_F16 || x->dtype == TSR_BF16;
    if (exact || bound == 0 || !isfinite(value) || !number_is_float(x->dtype)) {
        x->value[i] = number_round(x->dtype, value);
        x->bound[i] = 0;
        return;
    }
    x->value[i] = value;
    /* In f64 the reference's own roundings are as large. Bounds are of first order: a little more for the rest. */
    x->bound[i] = isfinite(bound) ? bound * (x->dtype == TSR_F64 ? 2 : 1) * (1 + 0x1p-10) : (double)NAN;
    if (narrow)
        x->bound[i] += 0.5 * number_spacing(x->dtype, value);
}

static bool take_results(expectation *e, const reference_call *c)
{
    for (int k = 0; k < e->out_count; k++) {
        expected_tensor *x = &e->out[k];
        const result *r = &c->out[k];
        x->dtype = r->dtype;
        x->rank = r->rank;
        memcpy(x->shape, r->shape, sizeof x->shape);
        x->count = r->count;
        if (!room(x))
            return false;
        for (int64_t i = 0; i < x->count; i++)
            settle(x, i, trace_value(c->t, r->at[i]), trace_bound(c->t, r->at[i]), e->sample->exact);
        /* In f64 the reference's range ends where the device's does. */
        for (int64_t i = 0; i < x->count && e->dtype == TSR_F64 && e->row->value == NULL; i++)
            if (!isfinite(x->value[i]) && e->sample->in[0].values == VALUES_EXTREMES && e->row->composed != NULL)
                x->bound[i] = (double)NAN;
    }
    return true;
}

static bool has_gradient(const expectation *e, int k)
{
    return !e->sample->in[k].absent && (e->row->constant >> k & 1) == 0 && number_is_float(e->in[k].dtype);
}

/* Outside its smooth part a derivative is not held. */
static bool rough(const expectation *e, int64_t element)
{
    const operator_row *row = e->row;
    for (int k = 0; k < e->in_count && row->smooth_to > 0; k++) {
        /* elementwise operators only: this operand's own element, or the one that is spread over all */
        const double x = e->in[k].count == 0 ? 1 : fabs(e->in[k].value[element % e->in[k].count]);
        if (x > row->smooth_to || (x > 0 && x < row->smooth_from))
            return true;
    }
    return false;
}

static bool take_gradients(expectation *e, const reference_call *c)
{
    const double stored = e->row->stored > 0 ? e->row->stored : STORED;
    e->gradient = sample_gradient(e->row, e->sample, e->number, e->out[0].dtype, e->seed, e->out[0].count);
    if (e->gradient == NULL)
        return false;
    for (int64_t i = 0; i < e->out[0].count; i++)
        trace_seed(c->t, c->out[0].at[i], e->gradient[i]);
    trace_backward(c->t);
    for (int k = 0; k < e->in_count; k++) {
        expected_tensor *x = &e->in_gradient[k];
        if (!has_gradient(e, k))
            continue;
        x->dtype = e->in[k].dtype;
        x->rank = c->in[k].rank;
        memcpy(x->shape, c->in[k].shape, sizeof x->shape);
        x->count = e->in[k].count;
        if (!room(x))
            return false;
        for (int64_t i = 0; i < x->count; i++) {
            settle(x, i, trace_gradient(c->t, c->in[k].at[i]), trace_gradient_bound(c->t, c->in[k].at[i], stored),
                   e->sample->exact);
            if (rough(e, i) || !isfinite(x->value[i]))
                x->bound[i] = (double)NAN;
        }
    }
    return true;
}

static bool operands(expectation *e, reference_call *c, term **memory)
{
    for (int k = 0; k < e->in_count; k++) {
        operand *x = &c->in[k];
        const sample_input *in = &e->sample->in[k];
        if (in->absent)
            continue;
        x->dtype = e->in[k].dtype;
        x->rank = in->rank;
        memcpy(x->shape, in->shape, sizeof x->shape);
        x->count = e->in[k].count;
        memory[k] = host_realloc_array(NULL, (size_t)x->count + 1, sizeof(term));
        if (memory[k] == NULL)
            return false;
        for (int64_t i = 0; i < x->count; i++)
            memory[k][i] = trace_operand(c->t, e->in[k].value[i]);
        x->at = memory[k];
    }
    return true;
}

static void plant_fault(expectation *e)
{
    const char *name = getenv("TESSERA_COMPARE_FAULT");
    expected_tensor *x = &e->out[0];
    if (name != NULL && strcmp(name, e->row->name) == 0 && x->count > 0)
        x->value[x->count - 1] = x->dtype == TSR_BOOL ? 1 - x->value[x->count - 1] : x->value[x->count - 1] * 1.5 + 3;
}

bool expectation_make(expectation *e, trace *t, const operator_row *row, const op_sample *sample, size_t number,
                      tsr_dtype dtype, uint64_t seed)
{
    e->row = row;
    e->sample = sample;
    e->number = number;
    e->dtype = dtype;
    e->seed = seed;
    e->in_count = sample_inputs(row, sample);
    e->out_count = row->results - row->hidden;
    if (!sample_fill(row, sample, number, dtype, seed, e->in))
        return false;
    term *memory[INPUTS_MAX] = {NULL};
    reference_call c = {.t = t, .row = row, .sample = sample, .dtype = dtype, .in_count = e->in_count};
    trace_begin(t, dtype, row->products);
    bool ok = operands(e, &c, memory) && row->reference(&c) && !c.failed && !trace_failed(t) && take_results(e, &c);
    e->backward = ok && row->differentiable && !sample->only_forward && number_is_float(dtype) &&
                  number_is_float(e->out[0].dtype);
    if (ok && e->backward)
        ok = take_gradients(e, &c);
    if (!ok && tsr_last_status() == TSR_OK)
        fail(TSR_OUT_OF_MEMORY, "the reference of %s, %s, found no memory", row->name, sample->name);
    for (int k = 0; k < INPUTS_MAX; k++)
        host_free(memory[k]);
    for (int k = 0; k < OUTPUTS_MAX; k++)
        host_free(c.out[k].at);
    if (ok)
        plant_fault(e);
    return ok;
}
