/* lstm_cell and gru_cell from their equations, number by number. */
#include <math.h>

#include "base/compiler.h"
#include "operators.h"

/* Within the bound of kernels/elementwise.def, or what f64 has of the target; 1 - y and 1 - y² cancel, so the slope errs by roundings of the
 * size of what they start from. */
static term squashed(reference_call *c, term a, bool tangent)
{
    const double x = trace_value(c->t, a), y = tangent ? tanh(x) : 1 / (1 + exp(-x));
    const double ulp = c->dtype == TSR_F64 ? 8 : tangent ? 2 : 3;
    const double slope = tangent ? 1 - y * y : y * (1 - y), size = tangent ? 1 : y;
    return trace_function(c->t, y, ulp, 1, &a, &slope, &size, 2 * ulp + 8);
}

static term sigmoid(reference_call *c, term a)
{
    return squashed(c, a, false);
}

static term tangent(reference_call *c, term a)
{
    return squashed(c, a, true);
}

static bool lstm_cell(reference_call *c)
{
    const operand *state = &c->in[2];
    const int64_t hidden = state->rank == 0 ? 0 : state->shape[state->rank - 1];
    term *h = reference_result(c, 0, c->dtype, state->rank, state->shape);
    term *cell = reference_result(c, 1, c->dtype, state->rank, state->shape);
    trace *t = c->t;
    for (int64_t i = 0; i < state->count && h != NULL && cell != NULL; i++) {
        const int64_t first = i / hidden * 4 * hidden + i % hidden;
        term gate[4];
        for (int k = 0; k < 4; k++)
            gate[k] = trace_add(t, c->in[0].at[first + k * hidden], c->in[1].at[first + k * hidden]);
        const term kept = trace_mul(t, sigmoid(c, gate[1]), state->at[i]);
        cell[i] = trace_add(t, kept, trace_mul(t, sigmoid(c, gate[0]), tangent(c, gate[2])));
        h[i] = trace_mul(t, sigmoid(c, gate[3]), tangent(c, cell[i]));
    }
    return h != NULL && cell != NULL;
}

static bool gru_cell(reference_call *c)
{
    const operand *x = &c->in[0], *h = &c->in[1], *state = &c->in[2];
    const int64_t hidden = state->rank == 0 ? 0 : state->shape[state->rank - 1];
    term *out = reference_result(c, 0, c->dtype, state->rank, state->shape);
    trace *t = c->t;
    for (int64_t i = 0; i < state->count && out != NULL; i++) {
        const int64_t r = i / hidden * 3 * hidden + i % hidden, z = r + hidden, n = z + hidden;
        const term reset = sigmoid(c, trace_add(t, x->at[r], h->at[r]));
        const term update = sigmoid(c, trace_add(t, x->at[z], h->at[z]));
        const term fresh = tangent(c, trace_add(t, x->at[n], trace_mul(t, reset, h->at[n])));
        const term part = trace_mul(t, trace_sub(t, trace_number(t, 1), update), fresh);
        out[i] = trace_add(t, part, trace_mul(t, update, state->at[i]));
    }
    return out != NULL;
}

#define WIDE .low = -4, .high = 4
#define CELL(gates, n, hidden)                                                                                         \
    .in = {{DIMS(n, (gates) * (hidden)), WIDE}, {DIMS(n, (gates) * (hidden)), WIDE}, {DIMS(n, hidden), WIDE}}
#define CELL_SAMPLES(gates)                                                                                            \
    {"odd", CELL(gates, 5, 7)}, {"one element", CELL(gates, 1, 1)}, {"one sequence", CELL(gates, 1, 33)},              \
        {"one hidden", CELL(gates, 9, 1)}, {"past a work-group", CELL(gates, 3, 131)},                                 \
        {"without rows", .in = {{DIMS((gates)*6), WIDE}, {DIMS((gates)*6), WIDE}, {DIMS(6), WIDE}}},                   \
        {"three dimensions",                                                                                           \
         .in = {{DIMS(2, 3, (gates)*5), WIDE}, {DIMS(2, 3, (gates)*5), WIDE}, {DIMS(2, 3, 5), WIDE}}},                 \
        {"empty batch", CELL(gates, 0, 5)}, {"nothing hidden", CELL(gates, 3, 0)},                                     \
        {"saturated", .in = {{DIMS(4, (gates)*5), .low = -40, .high = 40},                                             \
                             {DIMS(4, (gates)*5), .low = -40, .high = 40},                                             \
                             {DIMS(4, 5), WIDE}}},                                                                     \
        {"small integers", .in = {{DIMS(4, (gates)*3), .values = VALUES_INTEGERS},                                     \
                                  {DIMS(4, (gates)*3), .values = VALUES_INTEGERS},                                     \
                                  {DIMS(4, 3), .values = VALUES_INTEGERS}}},                                           \
        {"transposed", .in = {{DIMS(6, (gates)*5), WIDE, .layout = LAYOUT_REVERSED},                                   \
                              {DIMS(6, (gates)*5), WIDE, .layout = LAYOUT_STEPPED},                                    \
                              {DIMS(6, 5), WIDE, .layout = LAYOUT_REVERSED}}},                                         \
    {                                                                                                                  \
        "past 2^16", CELL(gates, 1, 65537)                                                                             \
    }

static const op_sample lstm_samples[] = {CELL_SAMPLES(4)};
static const op_sample gru_samples[] = {CELL_SAMPLES(3)};

static const operator_row list[] = {
    {.name = "lstm_cell",
     .family = "recurrent",
     .dtypes = FLOATS,
     .arity = 3,
     .results = 2,
     .differentiable = true,
     .reference = lstm_cell,
     SAMPLES(lstm_samples)},
    {.name = "gru_cell",
     .family = "recurrent",
     .dtypes = FLOATS,
     .arity = 3,
     .results = 1,
     .differentiable = true,
     .reference = gru_cell,
     SAMPLES(gru_samples)},
};
const row_list recurrent_rows = {list, COUNT_OF(list)};
