/* Attention whose weights are dropped: with the weights in memory, from operators. Without dropping it is the fused one. */
#include <math.h>

#include "base/error.h"
#include "ops/op.h"
#include "tessera/autograd.h"
#include "tessera/ops.h"

/* A key head for each head: each stands for `share` neighbours. */
static tensor *spread(tensor *t, int64_t heads)
{
    const int rank = t->rank;
    int64_t shape[TSR_MAX_RANK + 1], merged[TSR_MAX_RANK];
    if (rank < 3 || rank == TSR_MAX_RANK || t->shape[rank - 3] == heads || t->shape[rank - 3] == 0)
        return t;
    for (int i = 0; i < rank; i++) {
        merged[i] = i == rank - 3 ? heads : t->shape[i];
        shape[i < rank - 2 ? i : i + 1] = t->shape[i];
    }
    shape[rank - 2] = heads / t->shape[rank - 3];
    return tsr_reshape(tsr_expand(tsr_unsqueeze(t, rank - 2), rank + 1, shape), rank, merged);
}

/* Where keys come behind their query. */
static tensor *later_keys(tsr_device *device, int64_t queries, int64_t keys)
{
    return tsr_cast(tsr_triu(tsr_full(device, TSR_I32, 2, (int64_t[]){queries, keys}, 1), 1), TSR_BOOL);
}

static tensor *masked_scores(tensor *q, tensor *k, tensor *mask, bool causal, double scale)
{
    const double infinity = (double)INFINITY;
    tensor *s = tsr_affine(tsr_matmul(q, tsr_transpose(k, -1, -2)), scale, 0);
    if (s == NULL)
        return NULL;
    if (mask != NULL)
        s = mask->dtype == TSR_BOOL ? tsr_masked_fill(s, tsr_logical_not(mask), -infinity)
                                    : tsr_add(s, tsr_cast(mask, s->dtype));
    if (causal && s != NULL)
        s = tsr_masked_fill(s, later_keys(s->storage->device, s->shape[s->rank - 2], s->shape[s->rank - 1]), -infinity);
    return s;
}

/* Of a query that sees no key: 0. */
static tensor *weights_of(tensor *scores)
{
    const int last = -1;
    if (scores == NULL)
        return NULL;
    tensor *lowest = tsr_full(scores->storage->device, scores->dtype, 0, NULL, -(double)INFINITY);
    tensor *blind = tsr_eq(tsr_amax(tsr_detach(scores), &last, 1, true), lowest);
    return tsr_masked_fill(tsr_softmax(tsr_masked_fill(scores, blind, 0), -1), blind, 0);
}

static tensor *dropped(tensor *q, tensor *k, tensor *v, tensor *mask, bool causal, double scale, double p)
{
    const tsr_dtype dtype = q->dtype, carried = dtype == TSR_F64 ? TSR_F64 : TSR_F32;
    const int64_t heads = q->rank < 3 ? 1 : q->shape[q->rank - 3];
    q = tsr_cast(q, carried);
    k = tsr_cast(spread(k, heads), carried);
    v = tsr_cast(spread(v, heads), carried);
    if (q == NULL || k == NULL || v == NULL)
        return NULL;
    if (scale == 0)
        scale = 1 / sqrt((double)q->shape[q->rank - 1]);
    tensor *weights = weights_of(masked_scores(q, k, mask, causal, scale));
    return tsr_cast(tsr_matmul(tsr_dropout(weights, p, true), v), dtype);
}

extern const op_row op_scaled_dot_product_attention;

/* What the fused one takes is what this takes. */
static bool is_valid(tensor *q, tensor *k, tensor *v, tensor *mask, bool causal, double scale, op_output *out)
{
    const op_call call = {.row = &op_scaled_dot_product_attention,
                          .device = q->storage->device,
                          .in = {q, k, v, mask},
                          .in_count = 4,
                          .attr = {A_INT(causal), A_FLOAT(scale)}};
    if (dtype_is_float(q->dtype) && k->dtype == q->dtype && v->dtype == q->dtype)
        return call.row->infer(&call, out);
    fail(TSR_INVALID_ARGUMENT,
         "scaled_dot_product_attention_dropout: q is %s, k is %s, v is %s; they have one dtype, "
         "f32 f16 bf16 or f64",
         tensor_text(q), tensor_text(k), tensor_text(v));
    return false;
}

tsr_tensor *tsr_scaled_dot_product_attention_dropout(tsr_tensor *q, tsr_tensor *k, tsr_tensor *v, tsr_tensor *mask,
                                                     bool causal, double scale, double p, bool training)
{
    if (!(p >= 0 && p < 1)) {
        fail(TSR_OUT_OF_RANGE, "scaled_dot_product_attention_dropout: p is %g; it must lie in [0, 1)", p);
        return NULL;
    }
    if (q == NULL || k == NULL || v == NULL)
        return NULL;
    if (!training || p == 0)
        return tsr_scaled_dot_product_attention(q, k, v, mask, causal, scale);
    op_output out[OP_MAX_OUTPUTS];
    if (!is_valid(q, k, v, mask, causal, scale, out))
        return NULL;
    if (k->shape[k->rank - 2] == 0) /* no key to see */
        return tsr_zeros(q->storage->device, out[0].dtype, out[0].rank, out[0].shape);
    if (tsr_scope_begin() != TSR_OK)
        return NULL;
    tensor *y = tsr_keep(dropped(q, k, v, mask, causal, scale, p));
    tsr_scope_end();
    return tensor_to_scope(y);
}
