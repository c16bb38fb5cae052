/* cross_entropy: one kernel from logits to the rows' losses, their mean, and one kernel back. */
#include "base/error.h"
#include "ops/op.h"
#include "tessera/ops.h"

/* Outputs: the loss, and for the derivative each row's maximum and logarithm of sum exp(x - maximum). */
static bool cross_entropy_infer(const op_call *call, op_output *out)
{
    const tensor *x = call->in[0], *target = call->in[1];
    if (x->rank != 2 || target->rank != 1 || target->shape[0] != x->shape[0]) {
        fail(TSR_INVALID_ARGUMENT, "cross_entropy: logits are %s and targets %s; they must be [n, classes] and [n]",
             tensor_text(x), tensor_text(target));
        return false;
    }
    if (target->dtype != TSR_I64 && target->dtype != TSR_I32) {
        fail(TSR_INVALID_ARGUMENT, "cross_entropy: targets are class indices, i64 or i32, not %s",
             tsr_dtype_name(target->dtype));
        return false;
    }
    if (x->numel == 0 || x->shape[0] > INT32_MAX || x->shape[1] > INT32_MAX) {
        fail(TSR_INVALID_ARGUMENT, "cross_entropy: logits %s are empty or too many", tensor_text(x));
        return false;
    }
    out[0] = (op_output){.dtype = x->dtype, .rank = 0};
    out[1] = (op_output){.dtype = x->dtype == TSR_F64 ? TSR_F64 : TSR_F32, .rank = 2, .shape = {x->shape[0], 2}};
    return true;
}

static bool run(const op_call *call)
{
    tensor *x = contiguous(call->in[0]), *target = contiguous(call->in[1]), *terms = call->out[1];
    tensor *rows = tsr_empty(call->device, terms->dtype, 1, terms->shape);
    if (x == NULL || target == NULL || rows == NULL)
        return false;
    const struct {
        uint32_t cols;
    } p = {(uint32_t)x->shape[1]};
    if (!LAUNCH(call->device, key_of2("cross_entropy", x->dtype, target->dtype), ((grid){(uint32_t)x->shape[0], 1, 1}),
                &p, tensor_binding(x), tensor_binding(target), tensor_binding(rows), tensor_binding(terms)))
        return false;
    tensor *mean = tsr_mean(rows, NULL, 0, false);
    return mean != NULL && tsr_copy_into(call->out[0], mean) == TSR_OK;
}

static bool cross_entropy_run(const op_call *call)
{
    return OP_TEMPORARIES(run(call));
}

static bool cross_entropy_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    tensor *x = contiguous(r->in[0]), *target = contiguous(r->in[1]);
    if (x == NULL || target == NULL || dy[0] == NULL)
        return dy[0] == NULL;
    dx[0] = tsr_empty(r->device, x->dtype, 2, x->shape);
    const struct {
        uint32_t cols;
        float rows;
    } p = {(uint32_t)x->shape[1], (float)x->shape[0]};
    return dx[0] != NULL && LAUNCH(r->device, key_of2("cross_entropy_grad", x->dtype, target->dtype),
                                   ((grid){(uint32_t)x->shape[0], 1, 1}), &p, tensor_binding(x), tensor_binding(target),
                                   tensor_binding(r->out[1]), tensor_binding(dy[0]), tensor_binding(dx[0]));
}

const op_row op_cross_entropy = {
    .name = "cross_entropy",
    .inputs_min = 2,
    .inputs_max = 2,
    .outputs = 2,
    .dtypes = DTYPES_FLOAT,
    .any_dtype = 1u << 1,
    .autocast = AUTOCAST_F32,
    .infer = cross_entropy_infer,
    .run = cross_entropy_run,
    .backward = cross_entropy_backward,
    .saves = SAVE_INPUT(0) | SAVE_INPUT(1) | SAVE_OUTPUT(1),
};

tsr_tensor *tsr_cross_entropy(tsr_tensor *logits, tsr_tensor *target)
{
    return OP1(op_cross_entropy, NULL, logits, target);
}
