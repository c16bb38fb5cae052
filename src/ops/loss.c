/* mse, l1, smooth_l1, huber, bce_with_logits and kl_div: the kernels of their rows in kernels/elementwise.def, and a mean or a sum. */
#include "ops/loss.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "ops/elementwise.h"
#include "ops/reduce.h"
#include "tensor/device.h"

bool reduction_check(const char *name, int64_t reduction)
{
    if (reduction >= TSR_REDUCTION_MEAN && reduction <= TSR_REDUCTION_NONE)
        return true;
    fail(TSR_OUT_OF_RANGE, "%s: reduction %lld is none of mean (0), sum (1) and none (2)", name, (long long)reduction);
    return false;
}

static tsr_reduction reduction_of(const op_row *row, const attr_value *attrs)
{
    int last = 0;
    while (last + 1 < OP_MAX_ATTRS && row->attrs[last + 1].name != NULL)
        last++;
    return (tsr_reduction)attrs[last].i;
}

/* A truth as the number that kernels get. */
static void attrs_as_numbers(const op_row *row, attr_value *attrs)
{
    for (int i = 0; i < 2; i++)
        if (row->attrs[i].name != NULL && row->attrs[i].kind == ATTR_BOOL)
            attrs[i].f = (double)attrs[i].i;
}

bool loss_infer(const op_call *call, op_output *out)
{
    if (!elementwise_infer(call, out))
        return false;
    const tsr_reduction reduction = reduction_of(call->row, call->attr);
    if (reduction != TSR_REDUCTION_NONE)
        out->rank = 0;
    return reduction_check(call->row->name, (int64_t)reduction);
}

/* Terms that are added up are not rounded to 16 bits before. */
static bool reduced_loss(op_call *call, tsr_reduction reduction)
{
    op_output terms;
    tensor *y = call->out[0];
    if (!elementwise_infer(call, &terms))
        return false;
    for (int k = 0; k < 2; k++)
        if ((call->in[k] = tsr_cast(call->in[k], reduce_dtype(terms.dtype))) == NULL)
            return false;
    call->out[0] = tsr_empty(call->device, reduce_dtype(terms.dtype), terms.rank, terms.shape);
    if (call->out[0] == NULL)
        return false;
    if (call->out[0]->numel == 0)
        return tsr_fill(y, reduction == TSR_REDUCTION_MEAN ? (double)NAN : 0.0) == TSR_OK;
    if (!elementwise_run(call))
        return false;
    tensor *result = (reduction == TSR_REDUCTION_MEAN ? tsr_mean : tsr_sum)(call->out[0], NULL, 0, false);
    return result != NULL && tsr_copy_into(y, result) == TSR_OK;
}

bool loss_run(const op_call *call)
{
    op_call inner = *call;
    const tsr_reduction reduction = reduction_of(call->row, call->attr);
    attrs_as_numbers(call->row, inner.attr);
    if (reduction == TSR_REDUCTION_NONE)
        return elementwise_run(&inner);
    return OP_TEMPORARIES(reduced_loss(&inner, reduction));
}

bool loss_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    op_record inner = *r;
    const op_output *a = &r->in_spec[0], *b = &r->in_spec[1];
    const tsr_reduction reduction = reduction_of(r->row, r->attr);
    const tsr_dtype dtype = reduce_dtype(a->dtype);
    int64_t shape[TSR_MAX_RANK], n = 1;
    int rank;
    attrs_as_numbers(r->row, inner.attr);
    if (!shape_broadcast(a->rank, a->shape, b->rank, b->shape, &rank, shape))
        return false;
    for (int i = 0; i < rank; i++)
        n *= shape[i];
    tensor *g = tsr_cast(dy[0], dtype);
    if (reduction == TSR_REDUCTION_MEAN && n > 0)
        g = tsr_div(g, tsr_full(r->device, dtype, 0, NULL, (double)n));
    if (reduction != TSR_REDUCTION_NONE)
        g = tsr_expand(g, rank, shape);
    for (int k = 0; k < 2; k++)
        inner.in[k] = tsr_cast(r->in[k], dtype);
    if (g == NULL || !elementwise_backward(&inner, &g, dx))
        return false;
    for (int k = 0; k < 2; k++)
        if (r->needs[k] && (dx[k] = tsr_cast(dx[k], a->dtype)) == NULL)
            return false;
    return true;
}
