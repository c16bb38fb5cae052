/* cumsum and cumprod: running sums and products along one axis, by rows. */
#include "base/error.h"
#include "ops/op.h"
#include "tensor/device.h"
#include "tessera/ops.h"

static bool scan_infer(const op_call *call, op_output *out)
{
    int axis;
    return axis_normalize(call->row->name, (int)call->attr[0].i, call->in[0]->rank, &axis) && infer_same(call, out);
}

static tensor *axis_to_last(tensor *t, int64_t axis)
{
    return t == NULL || t->rank < 2 ? t : tsr_transpose(t, (int)axis, -1);
}

static bool countable(const char *name, int64_t rows, int64_t cols)
{
    if (rows <= INT32_MAX && cols <= INT32_MAX)
        return true;
    fail(TSR_UNSUPPORTED, "%s: %lld rows of %lld elements are more than a kernel can count", name, (long long)rows,
         (long long)cols);
    return false;
}

static int64_t last_size(const tensor *t)
{
    return t->rank == 0 ? 1 : t->shape[t->rank - 1];
}

/* The scan of x along `axis`, from its end if `reverse`; a new tensor, or NULL. */
static tensor *scanned(const char *fold, tensor *x, int64_t axis, bool reverse)
{
    const tensor *rows = contiguous(axis_to_last(x, axis));
    tensor *y = rows == NULL ? NULL : tsr_empty(rows->storage->device, rows->dtype, rows->rank, rows->shape);
    if (y == NULL || y->numel == 0)
        return axis_to_last(y, axis);
    const struct {
        uint32_t cols, reverse;
    } p = {(uint32_t)last_size(y), reverse};
    if (!countable(fold, y->numel / last_size(y), last_size(y)) ||
        !LAUNCH(y->storage->device, key_op("scan", y->dtype, fold), ((grid){(uint32_t)(y->numel / last_size(y)), 1, 1}),
                &p, tensor_binding(rows), tensor_binding(y)))
        return NULL;
    return axis_to_last(y, axis);
}

static bool scan_into(const op_call *call, const char *fold)
{
    tensor *y = scanned(fold, call->in[0], call->attr[0].i, false);
    return y != NULL && tsr_copy_into(call->out[0], y) == TSR_OK;
}

static bool cumsum_run(const op_call *call)
{
    return OP_TEMPORARIES(scan_into(call, "sum"));
}

static bool cumprod_run(const op_call *call)
{
    return OP_TEMPORARIES(scan_into(call, "prod"));
}

static bool cumsum_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    dx[0] = scanned("sum", dy[0], r->attr[0].i, true);
    return dx[0] != NULL;
}

static bool cumprod_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    const int64_t axis = r->attr[0].i;
    const tensor *x = contiguous(axis_to_last(r->in[0], axis)), *y = contiguous(axis_to_last(r->out[0], axis));
    const tensor *g = contiguous(axis_to_last(dy[0], axis));
    tensor *d = x == NULL || y == NULL || g == NULL ? NULL : tsr_empty(r->device, x->dtype, x->rank, x->shape);
    if (d == NULL)
        return false;
    if (d->numel > 0) {
        const int64_t cols = last_size(d), rows = d->numel / cols;
        const uint32_t per_group = cols > 1 << 20 ? 1 : 64;
        const struct {
            uint32_t cols, rows, per_group;
        } p = {(uint32_t)cols, (uint32_t)rows, per_group};
        const grid groups = {(uint32_t)((rows + per_group - 1) / per_group), 1, 1};
        if (!countable("cumprod", rows, cols) ||
            !LAUNCH(r->device, key_of("cumprod_grad", d->dtype), groups, &p, tensor_binding(x), tensor_binding(y),
                    tensor_binding(g), tensor_binding(d)))
            return false;
    }
    dx[0] = axis_to_last(d, axis);
    return dx[0] != NULL;
}

const op_row op_cumsum = {
    .name = "cumsum",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT | DTYPES_INT,
    .attrs = {{"axis", ATTR_INT, true, {0}}},
    .autocast = AUTOCAST_F32,
    .infer = scan_infer,
    .run = cumsum_run,
    .backward = cumsum_backward,
};

const op_row op_cumprod = {
    .name = "cumprod",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT | DTYPES_INT,
    .attrs = {{"axis", ATTR_INT, true, {0}}},
    .autocast = AUTOCAST_F32,
    .infer = scan_infer,
    .run = cumprod_run,
    .backward = cumprod_backward,
    .saves = SAVE_INPUT(0) | SAVE_OUTPUT(0),
};

tsr_tensor *tsr_cumsum(tsr_tensor *x, int axis)
{
    return OP1(op_cumsum, ATTRS(A_INT(axis)), x);
}

tsr_tensor *tsr_cumprod(tsr_tensor *x, int axis)
{
    return OP1(op_cumprod, ATTRS(A_INT(axis)), x);
}
