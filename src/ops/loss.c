/* mse, l1, smooth_l1, huber, bce_with_logits and kl_div: the kernels of their rows in kernels/elementwise.def, and a mean or a sum. */
#include "ops/loss.h"

#include <string.h>

#include "base/error.h"
#include "ops/elementwise.h"
#include "ops/reduce.h"
#include "tensor/device.h"

bool reduction_check(const char *name, int64_t reduction)
{
    if (reduction >= TSR_REDUCTION_MEAN && reduction <= TSR_REDUCTION_NONE)
        return true;
    if (reduction == TSR_REDUCTION_BATCH_MEAN && strcmp(name, "kl_div") == 0)
        return true;
    fail(TSR_OUT_OF_RANGE, "%s: reduction %lld is none of mean (0), sum (1) and none (2)", name, (long long)reduction);
    return false;
}

tensor *reduction_apply(tensor *terms, tsr_reduction reduction, int64_t batch, tsr_dtype dtype)
{
    tensor *t = terms;
    if (reduction == TSR_REDUCTION_MEAN)
        t = tsr_mean(terms, NULL, 0, false);
    else if (reduction != TSR_REDUCTION_NONE)
        t = tsr_sum(terms, NULL, 0, false);
    if (t != NULL && reduction == TSR_REDUCTION_BATCH_MEAN)
        t = tsr_div(t, tsr_full(t->storage->device, t->dtype, 0, NULL, (double)batch));
    return t == NULL || t->dtype == dtype ? t : tsr_cast(t, dtype);
}

/* Of kl_div's input, which has a batch in its first dimension. */
static int64_t batch_of(const op_output *input)
{
    return input->rank == 0 ? 1 : input->shape[0];
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
    if (call->out[0]->numel > 0 && !elementwise_run(call))
        return false;
    const op_output input = op_spec_of(call->in[0]);
    tensor *result = reduction_apply(call->out[0], reduction, batch_of(&input), y->dtype);
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
    const int64_t share = reduction == TSR_REDUCTION_MEAN ? n : reduction == TSR_REDUCTION_BATCH_MEAN ? batch_of(a) : 1;
    if (share > 1)
        g = tsr_div(g, tsr_full(r->device, dtype, 0, NULL, (double)share));
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

/* ---- weighted_bce_with_logits: input, target, weight, pos_weight ---- */

/* Each operand in the carried dtype; one that is not there stays so. False after fail(). */
static bool carried_operands(const op_call *call, tensor **t)
{
    for (int k = 0; k < 4; k++) {
        t[k] = k < call->in_count ? call->in[k] : NULL;
        if (t[k] != NULL && (t[k] = tsr_cast(t[k], reduce_dtype(t[k]->dtype))) == NULL)
            return false;
    }
    return true;
}

/* weight ((1 - target) input + (1 - target + pos_weight target) softplus(-input)) */
static bool weighted_bce(const op_call *call, tensor **out)
{
    tensor *t[4];
    if (!reduction_check(call->row->name, call->attr[0].i) || !carried_operands(call, t))
        return false;
    tensor *input = t[0], *target = t[1], *weight = t[2], *pos_weight = t[3];
    tensor *rest = tsr_affine(target, -1, 1), *tail = tsr_softplus(tsr_neg(input));
    if (pos_weight != NULL)
        tail = tsr_mul(tsr_add(rest, tsr_mul(target, pos_weight)), tail);
    tensor *terms = tsr_add(tsr_mul(rest, input), tail);
    if (weight != NULL)
        terms = tsr_mul(terms, weight);
    out[0] = reduction_apply(terms, (tsr_reduction)call->attr[0].i, 1, call->in[0]->dtype);
    return out[0] != NULL;
}

const op_row op_weighted_bce_with_logits = {
    .name = "weighted_bce_with_logits",
    .inputs_min = 2,
    .inputs_max = 4,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT,
    .same_dtype = true,
    .attrs = {REDUCTION_ATTR},
    .autocast = AUTOCAST_F32,
    .compose = weighted_bce,
};

tsr_tensor *tsr_weighted_bce_with_logits(tsr_tensor *input, tsr_tensor *target, tsr_tensor *weight,
                                         tsr_tensor *pos_weight, tsr_reduction reduction)
{
    return OP1(op_weighted_bce_with_logits, ATTRS(A_INT(reduction)), input, target, weight, pos_weight);
}
