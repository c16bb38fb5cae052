/* sort and topk, stable along any axis; one_hot and take_along_dim. */
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "ops/index.h"
#include "tessera/ops.h"

static bool axis_attr(const op_call *call, const attr_value *v, int rank, int *axis)
{
    return axis_normalize(call->row->name, (int)max_i64(min_i64(v->i, INT32_MAX), INT32_MIN), rank, axis);
}

/* ---- sort: outputs values and indices ---- */

static bool sort_infer(const op_call *call, op_output *out)
{
    int axis;
    if (!axis_attr(call, &call->attr[0], call->in[0]->rank, &axis))
        return false;
    infer_same(call, &out[0]);
    infer_same(call, &out[1]);
    out[1].dtype = TSR_I64;
    return true;
}

static bool run(const op_call *call)
{
    tensor *x = call->in[0], *keys, *places;
    int axis;
    if (x->rank == 0)
        return tsr_copy_into(call->out[0], x) == TSR_OK && tsr_fill(call->out[1], 0) == TSR_OK;
    if (!axis_attr(call, &call->attr[0], x->rank, &axis))
        return false;
    tensor *lines = contiguous(tsr_transpose(x, axis, -1));
    const int64_t n = x->shape[axis];
    if (lines == NULL || !sort_rows(lines, x->numel / n, n, call->attr[1].i != 0, &keys, &places))
        return false;
    return tsr_copy_into(tsr_transpose(call->out[0], axis, -1), tsr_reshape(keys, lines->rank, lines->shape)) ==
               TSR_OK &&
           tsr_copy_into(tsr_transpose(call->out[1], axis, -1), tsr_reshape(places, lines->rank, lines->shape)) ==
               TSR_OK;
}

static bool sort_run(const op_call *call)
{
    return OP_TEMPORARIES(run(call));
}

/* Each gradient goes back to where its element came from. */
static bool sort_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    const op_output *x = &r->in_spec[0];
    if (x->rank == 0) {
        dx[0] = dy[0];
        return true;
    }
    const int axis = (int)(r->attr[0].i < 0 ? r->attr[0].i + x->rank : r->attr[0].i);
    dx[0] = tsr_scatter(tsr_zeros(r->device, x->dtype, x->rank, x->shape), axis, r->out[1], dy[0]);
    return dx[0] != NULL;
}

const op_row op_sort = {
    .name = "sort",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 2,
    .dtypes = DTYPES_FLOAT | DTYPES_INT,
    .attrs = {{"axis", ATTR_INT, false, {.i = -1}}, {"descending", ATTR_BOOL, false, {0}}},
    .autocast = AUTOCAST_NONE,
    .infer = sort_infer,
    .run = sort_run,
    .backward = sort_backward,
    .saves = SAVE_OUTPUT(1),
};

/* Both outputs, or neither. */
static tsr_status pair(const op_row *row, tsr_tensor *x, const attr_value *attrs, tsr_tensor **values,
                       tsr_tensor **indices)
{
    tensor *out[OP_MAX_OUTPUTS] = {NULL};
    if (values != NULL)
        *values = NULL;
    if (indices != NULL)
        *indices = NULL;
    if (values == NULL || indices == NULL)
        return fail(TSR_INVALID_ARGUMENT, "%s: an argument is NULL", row->name);
    if (x == NULL)
        return tsr_last_status() != TSR_OK ? tsr_last_status() : TSR_INVALID_ARGUMENT;
    if (!op_apply(row, &x, 1, attrs, out))
        return tsr_last_status();
    *values = out[0];
    *indices = out[1];
    return TSR_OK;
}

tsr_status tsr_sort(tsr_tensor *x, int axis, bool descending, tsr_tensor **values, tsr_tensor **indices)
{
    return pair(&op_sort, x, ATTRS(A_INT(axis), A_INT(descending)), values, indices);
}

/* ---- topk: the head of what is sorted ---- */

static bool topk(const op_call *call, tensor **out)
{
    tensor *x = call->in[0], *values, *indices;
    const int64_t k = call->attr[0].i;
    int axis;
    if (!axis_attr(call, &call->attr[1], x->rank, &axis))
        return false;
    if (k < 0 || k > (x->rank == 0 ? 1 : x->shape[axis])) {
        fail(TSR_OUT_OF_RANGE, "topk: axis %d of %s has no %lld elements", axis, tensor_text(x), (long long)k);
        return false;
    }
    if (tsr_sort(x, axis, call->attr[2].i != 0, &values, &indices) != TSR_OK)
        return false;
    if (x->rank > 0) {
        values = tsr_clone(tsr_slice(values, axis, 0, k, 1));
        indices = tsr_clone(tsr_slice(indices, axis, 0, k, 1));
    }
    out[0] = values;
    out[1] = indices;
    return values != NULL && indices != NULL;
}

const op_row op_topk = {
    .name = "topk",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 2,
    .dtypes = DTYPES_FLOAT | DTYPES_INT,
    .attrs = {{"k", ATTR_INT, true, {0}},
              {"axis", ATTR_INT, false, {.i = -1}},
              {"largest", ATTR_BOOL, false, {.i = 1}}},
    .autocast = AUTOCAST_NONE,
    .compose = topk,
};

tsr_status tsr_topk(tsr_tensor *x, int64_t k, int axis, bool largest, tsr_tensor **values, tsr_tensor **indices)
{
    return pair(&op_topk, x, ATTRS(A_INT(k), A_INT(axis), A_INT(largest)), values, indices);
}

/* ---- one_hot ---- */

static bool one_hot(const op_call *call, tensor **out)
{
    tensor *x = call->in[0];
    const int64_t classes = call->attr[0].i;
    if (classes < 1 || classes > INT32_MAX || x->rank == TSR_MAX_RANK) {
        fail(TSR_OUT_OF_RANGE, "one_hot: %lld classes for %s; there is at least one, and one dimension more",
             (long long)classes, tensor_text(x));
        return false;
    }
    tensor *each = tsr_arange(call->device, x->dtype, classes, 0, 1);
    tensor *hit = op_apply1(op_find("eq"), (tensor *[]){tsr_unsqueeze(x, -1), each}, 2, NULL);
    out[0] = tsr_cast(hit, TSR_I64);
    return out[0] != NULL;
}

const op_row op_one_hot = {
    .name = "one_hot",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 1,
    .dtypes = DTYPES_INT,
    .attrs = {{"classes", ATTR_INT, true, {0}}},
    .autocast = AUTOCAST_NONE,
    .compose = one_hot,
};

tsr_tensor *tsr_one_hot(tsr_tensor *indices, int64_t classes)
{
    return OP1(op_one_hot, ATTRS(A_INT(classes)), indices);
}

/* ---- take_along_dim: gather, the other axes broadcast ---- */

static bool take_along_dim(const op_call *call, tensor **out)
{
    tensor *x = call->in[0], *index = call->in[1];
    int64_t a[TSR_MAX_RANK], b[TSR_MAX_RANK], shape[TSR_MAX_RANK];
    int axis, rank;
    if (!axis_attr(call, &call->attr[0], x->rank, &axis))
        return false;
    memcpy(a, x->shape, sizeof a);
    memcpy(b, index->shape, sizeof b);
    if (x->rank > 0)
        a[axis] = b[axis] = 1;
    if (x->rank == 0 || index->rank != x->rank || !shape_broadcast(x->rank, a, x->rank, b, &rank, shape)) {
        fail(TSR_INVALID_ARGUMENT, "take_along_dim: x is %s and the index %s; besides axis %d they must broadcast",
             tensor_text(x), tensor_text(index), axis);
        return false;
    }
    shape[axis] = x->shape[axis];
    x = tsr_expand(x, rank, shape);
    shape[axis] = index->shape[axis];
    out[0] = tsr_gather(x, axis, tsr_expand(index, rank, shape));
    return out[0] != NULL;
}

const op_row op_take_along_dim = {
    .name = "take_along_dim",
    .inputs_min = 2,
    .inputs_max = 2,
    .outputs = 1,
    .dtypes = DTYPES_ALL,
    .any_dtype = 1u << 1,
    .attrs = {{"axis", ATTR_INT, true, {0}}},
    .autocast = AUTOCAST_NONE,
    .compose = take_along_dim,
};

tsr_tensor *tsr_take_along_dim(tsr_tensor *x, tsr_tensor *index, int axis)
{
    return OP1(op_take_along_dim, ATTRS(A_INT(axis)), x, index);
}
