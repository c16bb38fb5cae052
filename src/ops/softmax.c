/* softmax and log_softmax: rows along any axis. */
#include "base/error.h"
#include "ops/op.h"
#include "tessera/ops.h"

static bool softmax_infer(const op_call *call, op_output *out)
{
    int axis;
    return axis_normalize(call->row->name, (int)call->attr[0].i, call->in[0]->rank, &axis) && infer_same(call, out);
}

static tensor *swap_to_last(tensor *t, int64_t axis)
{
    return t == NULL || t->rank < 2 ? t : tsr_transpose(t, (int)axis, -1);
}

/* Runs a kernel over the rows of contiguous tensors: inputs, then the output. */
static bool run_rows(tsr_device *device, const char *name, tensor *const *in, int count, tensor *out)
{
    const int64_t cols = out->rank == 0 ? 1 : out->shape[out->rank - 1], rows = out->numel / cols;
    const struct {
        uint32_t cols;
    } p = {(uint32_t)cols};
    hal_binding b[HAL_MAX_BINDINGS];
    if (cols > UINT32_MAX || rows > INT32_MAX) {
        fail(TSR_UNSUPPORTED, "%s: %lld rows of %lld elements are more than a kernel can count", name, (long long)rows,
             (long long)cols);
        return false;
    }
    for (int i = 0; i < count; i++)
        b[i] = tensor_binding(in[i]);
    b[count] = tensor_binding(out);
    return kernel_launch(device, key_of(name, out->dtype).text, (grid){(uint32_t)rows, 1, 1}, b, (uint32_t)count + 1,
                         &p, sizeof p);
}

/* out = kernel(in…) along `axis`, whatever the strides. */
static bool run_along(tsr_device *device, const char *name, tensor *const *in, int count, tensor *out, int64_t axis)
{
    const bool last = out->rank < 2 || axis == -1 || axis == out->rank - 1;
    tensor *rows[3], *target = out;
    for (int i = 0; i < count; i++)
        if ((rows[i] = contiguous(last ? in[i] : swap_to_last(in[i], axis))) == NULL)
            return false;
    if (!last)
        target = tsr_empty(device, out->dtype, rows[0]->rank, rows[0]->shape);
    if (target == NULL || !run_rows(device, name, rows, count, target))
        return false;
    return last || tsr_copy_into(out, swap_to_last(target, axis)) == TSR_OK;
}

static bool softmax_run(const op_call *call)
{
    return OP_TEMPORARIES(run_along(call->device, call->row->name, call->in, 1, call->out[0], call->attr[0].i));
}

static bool softmax_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    const char *kernel = r->name[0] == 's' ? "softmax_grad" : "log_softmax_grad";
    dx[0] = tsr_empty(r->device, r->in_spec[0].dtype, r->in_spec[0].rank, r->in_spec[0].shape);
    return dx[0] != NULL &&
           (dx[0]->numel == 0 || run_along(r->device, kernel, (tensor *[]){r->out[0], dy[0]}, 2, dx[0], r->attr[0].i));
}

const op_row op_softmax = {
    .name = "softmax",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT,
    .attrs = {{"axis", ATTR_INT, false, {.i = -1}}},
    .autocast = AUTOCAST_F32,
    .infer = softmax_infer,
    .run = softmax_run,
    .backward = softmax_backward,
    .saves = SAVE_OUTPUT(0),
};

const op_row op_log_softmax = {
    .name = "log_softmax",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT,
    .attrs = {{"axis", ATTR_INT, false, {.i = -1}}},
    .autocast = AUTOCAST_F32,
    .infer = softmax_infer,
    .run = softmax_run,
    .backward = softmax_backward,
    .saves = SAVE_OUTPUT(0),
};

tsr_tensor *tsr_softmax(tsr_tensor *x, int axis)
{
    return OP1(op_softmax, ATTRS(A_INT(axis)), x);
}

tsr_tensor *tsr_log_softmax(tsr_tensor *x, int axis)
{
    return OP1(op_log_softmax, ATTRS(A_INT(axis)), x);
}
