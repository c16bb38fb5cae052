/* lstm_cell and gru_cell: what follows the two products of a step. */
#include "base/error.h"
#include "ops/op.h"
#include "tessera/ops.h"

enum { X, H, STATE };

/* x and h are [.., gates · hidden], the state is [.., hidden]. */
static bool check_shapes(const op_call *call, int gates)
{
    const tensor *x = call->in[X], *h = call->in[H], *s = call->in[STATE];
    bool fits = s->rank >= 1 && x->rank == s->rank && shape_equal(x, h);
    for (int i = 0; fits && i + 1 < s->rank; i++)
        fits = x->shape[i] == s->shape[i];
    if (!fits || x->shape[x->rank - 1] != gates * s->shape[s->rank - 1]) {
        fail(TSR_INVALID_ARGUMENT,
             "%s: the products are %s and %s, the state is %s; they should be [.., %d · hidden] and [.., hidden]",
             call->row->name, shape_text(x->rank, x->shape), shape_text(h->rank, h->shape),
             shape_text(s->rank, s->shape), gates);
        return false;
    }
    const int64_t hidden = s->shape[s->rank - 1];
    if (hidden > INT32_MAX / 4 || (hidden > 0 && s->numel / hidden > INT32_MAX)) {
        fail(TSR_UNSUPPORTED, "%s: a state of %s has more rows or columns than a kernel can count", call->row->name,
             tensor_text(s));
        return false;
    }
    return true;
}

static grid rows_of(const tensor *state)
{
    return (grid){(uint32_t)(state->numel / state->shape[state->rank - 1]), 1, 1};
}

static uint32_t hidden_of(const tensor *state)
{
    return (uint32_t)state->shape[state->rank - 1];
}

static bool all_contiguous(tensor **t, int count)
{
    for (int i = 0; i < count; i++)
        if (t[i] == NULL || (t[i] = contiguous(t[i])) == NULL)
            return false;
    return true;
}

static tensor *like(const op_record *r, int i)
{
    return tsr_empty(r->device, r->in_spec[i].dtype, r->in_spec[i].rank, r->in_spec[i].shape);
}

/* ---- lstm_cell ---- */

static bool lstm_infer(const op_call *call, op_output *out)
{
    out[0] = out[1] = op_spec_of(call->in[STATE]);
    return check_shapes(call, 4);
}

static bool run_lstm(const op_call *call)
{
    tensor *t[] = {call->in[X], call->in[H], call->in[STATE]};
    if (!all_contiguous(t, 3))
        return false;
    const struct {
        uint32_t hidden;
    } p = {hidden_of(t[STATE])};
    return LAUNCH(call->device, key_of("lstm_cell", t[X]->dtype), rows_of(t[STATE]), &p, tensor_binding(t[X]),
                  tensor_binding(t[H]), tensor_binding(t[STATE]), tensor_binding(call->out[0]),
                  tensor_binding(call->out[1]));
}

static bool lstm_run(const op_call *call)
{
    return OP_TEMPORARIES(run_lstm(call));
}

/* Both products are added up first, so they have one derivative. */
static bool lstm_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    /* A derivative that is not there is bound to something that is. */
    tensor *t[] = {r->in[X], r->in[H], r->in[STATE], dy[0] != NULL ? dy[0] : dy[1], dy[1] != NULL ? dy[1] : dy[0]};
    tensor *gates = like(r, X), *state = like(r, STATE);
    if (gates == NULL || state == NULL || !all_contiguous(t, 5))
        return false;
    const struct {
        uint32_t hidden, has_dh, has_dc;
    } p = {hidden_of(t[STATE]), dy[0] != NULL, dy[1] != NULL};
    if (state->numel > 0 &&
        !LAUNCH(r->device, key_of("lstm_cell_grad", state->dtype), rows_of(state), &p, tensor_binding(t[X]),
                tensor_binding(t[H]), tensor_binding(t[STATE]), tensor_binding(t[3]), tensor_binding(t[4]),
                tensor_binding(gates), tensor_binding(state)))
        return false;
    dx[X] = r->needs[X] ? gates : NULL;
    dx[H] = r->needs[H] ? gates : NULL;
    dx[STATE] = r->needs[STATE] ? state : NULL;
    return true;
}

const op_row op_lstm_cell = {
    .name = "lstm_cell",
    .inputs_min = 3,
    .inputs_max = 3,
    .outputs = 2,
    .dtypes = DTYPES_FLOAT,
    .same_dtype = true,
    .autocast = AUTOCAST_WIDEST,
    .infer = lstm_infer,
    .run = lstm_run,
    .backward = lstm_backward,
    .saves = SAVE_INPUT(X) | SAVE_INPUT(H) | SAVE_INPUT(STATE),
};

/* ---- gru_cell ---- */

static bool gru_infer(const op_call *call, op_output *out)
{
    out[0] = op_spec_of(call->in[STATE]);
    return check_shapes(call, 3);
}

static bool run_gru(const op_call *call)
{
    tensor *t[] = {call->in[X], call->in[H], call->in[STATE]};
    if (!all_contiguous(t, 3))
        return false;
    const struct {
        uint32_t hidden;
    } p = {hidden_of(t[STATE])};
    return LAUNCH(call->device, key_of("gru_cell", t[X]->dtype), rows_of(t[STATE]), &p, tensor_binding(t[X]),
                  tensor_binding(t[H]), tensor_binding(t[STATE]), tensor_binding(call->out[0]));
}

static bool gru_run(const op_call *call)
{
    return OP_TEMPORARIES(run_gru(call));
}

static bool gru_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    tensor *t[] = {r->in[X], r->in[H], r->in[STATE], dy[0]}, *made[] = {like(r, X), like(r, H), like(r, STATE)};
    if (made[X] == NULL || made[H] == NULL || made[STATE] == NULL || !all_contiguous(t, 4))
        return false;
    const struct {
        uint32_t hidden;
    } p = {hidden_of(t[STATE])};
    if (made[STATE]->numel > 0 &&
        !LAUNCH(r->device, key_of("gru_cell_grad", made[X]->dtype), rows_of(made[STATE]), &p, tensor_binding(t[X]),
                tensor_binding(t[H]), tensor_binding(t[STATE]), tensor_binding(t[3]), tensor_binding(made[X]),
                tensor_binding(made[H]), tensor_binding(made[STATE])))
        return false;
    for (int i = 0; i < 3; i++)
        dx[i] = r->needs[i] ? made[i] : NULL;
    return true;
}

const op_row op_gru_cell = {
    .name = "gru_cell",
    .inputs_min = 3,
    .inputs_max = 3,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT,
    .same_dtype = true,
    .autocast = AUTOCAST_WIDEST,
    .infer = gru_infer,
    .run = gru_run,
    .backward = gru_backward,
    .saves = SAVE_INPUT(X) | SAVE_INPUT(H) | SAVE_INPUT(STATE),
};

tsr_status tsr_lstm_cell(tsr_tensor *x, tsr_tensor *h, tsr_tensor *c, tsr_tensor **h_next, tsr_tensor **c_next)
{
    tensor *out[OP_MAX_OUTPUTS] = {NULL};
    if (h_next == NULL || c_next == NULL)
        return fail(TSR_INVALID_ARGUMENT, "lstm_cell: both h_next and c_next are required");
    *h_next = *c_next = NULL;
    if (!op_apply(&op_lstm_cell, (tensor *[]){x, h, c}, 3, NULL, out))
        return tsr_last_status() != TSR_OK ? tsr_last_status() : TSR_INVALID_ARGUMENT;
    *h_next = out[0];
    *c_next = out[1];
    return TSR_OK;
}

tsr_tensor *tsr_gru_cell(tsr_tensor *x, tsr_tensor *h, tsr_tensor *state)
{
    return OP1(op_gru_cell, NULL, x, h, state);
}
