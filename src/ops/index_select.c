/* Whole rows by index: embedding, index_select, index_add. */
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "ops/index.h"
#include "tessera/ops.h"

static int64_t extent(const op_output *x, int first, int end)
{
    int64_t n = 1;
    for (int i = first; i < end; i++)
        n *= x->shape[i];
    return n;
}

static int axis_of(const op_output *x, const attr_value *attr)
{
    return (int)(attr->i < 0 ? attr->i + x->rank : attr->i);
}

static bool list_of(const char *what, tensor *index, int64_t size, index_lists *out)
{
    *out = (index_lists){index_narrow(what, index, size), 1, index->numel};
    return out->narrow != NULL;
}

/* ---- embedding: weight [size, width], indices of any shape ---- */

static bool embedding_infer(const op_call *call, op_output *out)
{
    const tensor *weight = call->in[0], *index = call->in[1];
    if (!index_dtype("embedding", index))
        return false;
    if (weight->rank != 2 || index->rank + 1 > TSR_MAX_RANK) {
        fail(TSR_INVALID_ARGUMENT,
             "embedding: weight is %s and the indices are %s; the weight is [count, width], and the result "
             "has one dimension more than the indices, at most %d",
             tensor_text(weight), tensor_text(index), TSR_MAX_RANK);
        return false;
    }
    if (call->attr[0].i >= weight->shape[0]) {
        fail(TSR_OUT_OF_RANGE, "embedding: padding_idx is %lld, the weight has %lld rows", (long long)call->attr[0].i,
             (long long)weight->shape[0]);
        return false;
    }
    out->dtype = weight->dtype;
    out->rank = index->rank + 1;
    memcpy(out->shape, index->shape, sizeof out->shape);
    out->shape[index->rank] = weight->shape[1];
    return true;
}

static bool take_embedding(const op_call *call)
{
    const tensor *weight = contiguous(call->in[0]);
    index_lists list;
    return weight != NULL && list_of("embedding", call->in[1], weight->shape[0], &list) &&
           index_take(weight, &list, 1, weight->shape[0], weight->shape[1], false, call->out[0]);
}

static bool embedding_run(const op_call *call)
{
    return OP_TEMPORARIES(take_embedding(call));
}

static bool embedding_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    const op_output *weight = &r->in_spec[0];
    tensor *g = contiguous(dy[0]);
    index_lists list;
    if (!r->needs[0])
        return true;
    dx[0] = tsr_empty(r->device, weight->dtype, 2, weight->shape);
    return g != NULL && dx[0] != NULL && list_of("embedding", r->in[1], weight->shape[0], &list) &&
           index_put(NULL, g, &list, 1, weight->shape[0], weight->shape[1],
                     (index_put_options){.skip = max_i64(r->attr[0].i, -1)}, dx[0]);
}

const op_row op_embedding = {
    .name = "embedding",
    .inputs_min = 2,
    .inputs_max = 2,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT,
    .any_dtype = 1u << 1,
    .attrs = {{"padding_idx", ATTR_INT, false, {.i = -1}}},
    .autocast = AUTOCAST_WIDEST,
    .infer = embedding_infer,
    .run = embedding_run,
    .backward = embedding_backward,
    .saves = SAVE_INPUT(1),
};

tsr_tensor *tsr_embedding(tsr_tensor *weight, tsr_tensor *indices, int64_t padding_idx)
{
    return OP1(op_embedding, ATTRS(A_INT(padding_idx)), weight, indices);
}

/* ---- index_select ---- */

static bool check_list(const op_call *call, int *axis)
{
    const tensor *x = call->in[0], *index = call->in[1];
    const char *name = call->row->name;
    if (!axis_normalize(name, (int)call->attr[0].i, x->rank, axis) || !index_dtype(name, index))
        return false;
    if (x->rank > 0 && index->rank == 1)
        return true;
    fail(TSR_INVALID_ARGUMENT, "%s: x is %s and the index %s; x has at least one dimension, the index exactly one",
         name, tensor_text(x), tensor_text(index));
    return false;
}

static bool index_select_infer(const op_call *call, op_output *out)
{
    int axis;
    if (!check_list(call, &axis))
        return false;
    infer_same(call, out);
    out->shape[axis] = call->in[1]->numel;
    return true;
}

static bool take_along(tensor *x, tensor *index, int axis, bool zero, tensor *y)
{
    x = contiguous(x);
    index_lists list;
    if (x == NULL || !list_of("index_select", index, x->shape[axis], &list))
        return false;
    const op_output s = op_spec_of(x);
    return index_take(x, &list, extent(&s, 0, axis), s.shape[axis], extent(&s, axis + 1, s.rank), zero, y);
}

static bool index_select_run(const op_call *call)
{
    const op_output s = op_spec_of(call->in[0]);
    return OP_TEMPORARIES(take_along(call->in[0], call->in[1], axis_of(&s, &call->attr[0]), false, call->out[0]));
}

static bool put_along(tensor *base, tensor *from, tensor *index, int axis, tensor *y)
{
    const op_output s = op_spec_of(y);
    index_lists list;
    from = contiguous(from);
    return from != NULL && list_of("index_add", index, s.shape[axis], &list) &&
           index_put(base, from, &list, extent(&s, 0, axis), s.shape[axis], extent(&s, axis + 1, s.rank),
                     (index_put_options){.skip = -1}, y);
}

static bool index_select_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    const op_output *x = &r->in_spec[0];
    dx[0] = tsr_empty(r->device, x->dtype, x->rank, x->shape);
    return dx[0] != NULL && put_along(NULL, dy[0], r->in[1], axis_of(x, &r->attr[0]), dx[0]);
}

const op_row op_index_select = {
    .name = "index_select",
    .inputs_min = 2,
    .inputs_max = 2,
    .outputs = 1,
    .dtypes = DTYPES_ALL,
    .any_dtype = 1u << 1,
    .attrs = {{"axis", ATTR_INT, true, {0}}},
    .autocast = AUTOCAST_NONE,
    .infer = index_select_infer,
    .run = index_select_run,
    .backward = index_select_backward,
    .saves = SAVE_INPUT(1),
};

tsr_tensor *tsr_index_select(tsr_tensor *x, int axis, tsr_tensor *index)
{
    return OP1(op_index_select, ATTRS(A_INT(axis)), x, index);
}

/* ---- index_add: inputs x, index, source ---- */

static bool index_add_infer(const op_call *call, op_output *out)
{
    const tensor *x = call->in[0], *source = call->in[2];
    int axis;
    if (!check_list(call, &axis))
        return false;
    if (!dtype_is_float(x->dtype) && call->attr[1].f != floor(call->attr[1].f)) {
        fail(TSR_INVALID_ARGUMENT, "index_add: alpha is %g; of %s it must be a whole number", call->attr[1].f,
             tensor_text(x));
        return false;
    }
    bool fits = source->rank == x->rank;
    for (int i = 0; fits && i < x->rank; i++)
        fits = source->shape[i] == (i == axis ? call->in[1]->numel : x->shape[i]);
    if (!fits) {
        fail(TSR_INVALID_ARGUMENT,
             "index_add: the source is %s; for x of %s it must have %lld elements along axis %d "
             "and x's sizes along the others",
             tensor_text(source), tensor_text(x), (long long)call->in[1]->numel, axis);
        return false;
    }
    return infer_same(call, out);
}

static tensor *times_alpha(tensor *t, double alpha)
{
    return alpha == 1 || t == NULL ? t : tsr_mul(t, tsr_full(t->storage->device, t->dtype, 0, NULL, alpha));
}

static bool add_rows(const op_call *call)
{
    tensor *x = contiguous(call->in[0]), *source = times_alpha(call->in[2], call->attr[1].f);
    const op_output s = op_spec_of(call->in[0]);
    return x != NULL && source != NULL && put_along(x, source, call->in[1], axis_of(&s, &call->attr[0]), call->out[0]);
}

static bool index_add_run(const op_call *call)
{
    return OP_TEMPORARIES(add_rows(call));
}

static bool index_add_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    const op_output *source = &r->in_spec[2];
    if (r->needs[0])
        dx[0] = dy[0];
    if (!r->needs[2])
        return true;
    dx[2] = tsr_empty(r->device, source->dtype, source->rank, source->shape);
    if (dx[2] == NULL || !take_along(dy[0], r->in[1], axis_of(&r->in_spec[0], &r->attr[0]), true, dx[2]))
        return false;
    dx[2] = times_alpha(dx[2], r->attr[1].f);
    return dx[2] != NULL;
}

const op_row op_index_add = {
    .name = "index_add",
    .inputs_min = 3,
    .inputs_max = 3,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT | DTYPES_INT,
    .any_dtype = 1u << 1,
    .same_dtype = true,
    .attrs = {{"axis", ATTR_INT, true, {0}}, {"alpha", ATTR_FLOAT, false, {.f = 1}}},
    .autocast = AUTOCAST_WIDEST,
    .infer = index_add_infer,
    .run = index_add_run,
    .backward = index_add_backward,
    .saves = SAVE_INPUT(1),
};

tsr_tensor *tsr_index_add(tsr_tensor *x, int axis, tsr_tensor *index, tsr_tensor *source)
{
    return tsr_index_add_scaled(x, axis, index, source, 1);
}

tsr_tensor *tsr_index_add_scaled(tsr_tensor *x, int axis, tsr_tensor *index, tsr_tensor *source, double alpha)
{
    return OP1(op_index_add, ATTRS(A_INT(axis), A_FLOAT(alpha)), x, index, source);
}
