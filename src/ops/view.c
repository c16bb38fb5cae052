/* Views: reshape, permute, slice, expand. They make no copy; their derivatives are views too, or place gradients. */
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "ops/op.h"
#include "tessera/ops.h"

/* ---- reshape ---- */

static bool reshape_infer(const op_call *call, op_output *out)
{
    const tensor *x = call->in[0];
    const attr_value *shape = &call->attr[0];
    int64_t known = 1;
    int free_axis = -1;
    out->dtype = x->dtype;
    out->rank = shape->count;
    for (int i = 0; i < shape->count; i++) {
        out->shape[i] = shape->list[i];
        if (shape->list[i] == -1 && free_axis < 0) {
            free_axis = i;
        } else if (shape->list[i] < 0 || !checked_mul_i64(known, shape->list[i], &known)) {
            fail(TSR_OUT_OF_RANGE, "reshape: %s is no shape (one size may be -1)",
                 shape_text(shape->count, shape->list));
            return false;
        }
    }
    if (free_axis >= 0) {
        if (known == 0 || x->numel % known != 0) {
            fail(TSR_INVALID_ARGUMENT, "reshape: the %lld elements of %s do not divide into %s", (long long)x->numel,
                 tensor_text(x), shape_text(shape->count, shape->list));
            return false;
        }
        out->shape[free_axis] = x->numel / known;
        known = x->numel;
    }
    if (known != x->numel) {
        fail(TSR_INVALID_ARGUMENT, "reshape: %s has %lld elements, shape %s has %lld", tensor_text(x),
             (long long)x->numel, shape_text(shape->count, shape->list), (long long)known);
        return false;
    }
    return true;
}

/* Strides for `shape` over x's memory, group by group of dimensions with equal products; false if memory order forbids. */
static bool strides_reshaped(const tensor *x, const op_output *out, int64_t *strides)
{
    int64_t shape[TSR_MAX_RANK], from[1][TSR_MAX_RANK];
    memcpy(shape, x->shape, sizeof shape);
    memcpy(from[0], x->strides, sizeof from[0]);
    const int rank = dims_collapse(x->rank, shape, 1, from);
    int axis = rank - 1;
    int64_t room = shape[axis], step = from[0][axis]; /* what is left of the memory group */
    for (int i = out->rank - 1; i >= 0; i--) {
        if (out->shape[i] == 1) {
            strides[i] = 0;
            continue;
        }
        if (room == 1 && axis > 0) {
            axis--;
            room = shape[axis];
            step = from[0][axis];
        }
        if (room % out->shape[i] != 0)
            return false;
        strides[i] = step;
        step *= out->shape[i];
        room /= out->shape[i];
    }
    return true;
}

static tensor *reshape_view(const op_call *call, const op_output *out)
{
    const tensor *x = call->in[0];
    int64_t strides[TSR_MAX_RANK];
    if (tsr_is_contiguous(x))
        strides_contiguous(out->rank, out->shape, strides);
    else if (!strides_reshaped(x, out, strides)) {
        tensor *copy = tsr_keep(tsr_clone(call->in[0]));
        if (copy == NULL)
            return NULL;
        strides_contiguous(out->rank, out->shape, strides);
        tensor *view = tensor_view(copy, out->rank, out->shape, strides, copy->offset);
        tsr_release(copy);
        return view;
    }
    return tensor_view(x, out->rank, out->shape, strides, x->offset);
}

static bool reshape_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    dx[0] = tsr_reshape(dy[0], r->in_spec[0].rank, r->in_spec[0].shape);
    return dx[0] != NULL;
}

const op_row op_reshape = {
    .name = "reshape",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 1,
    .dtypes = DTYPES_ALL,
    .attrs = {{"shape", ATTR_INTS, true, {0}}},
    .autocast = AUTOCAST_NONE,
    .infer = reshape_infer,
    .view = reshape_view,
    .backward = reshape_backward,
};

tsr_tensor *tsr_reshape(tsr_tensor *x, int rank, const int64_t *shape)
{
    attr_value sizes;
    return x != NULL && attr_ints("reshape", rank, shape, &sizes) ? OP1(op_reshape, ATTRS(sizes), x) : NULL;
}

tsr_tensor *tsr_flatten(tsr_tensor *x, int first, int last)
{
    if (x == NULL || !axis_normalize("flatten", first, x->rank, &first) ||
        !axis_normalize("flatten", last, x->rank, &last))
        return NULL;
    if (first > last) {
        fail(TSR_INVALID_ARGUMENT, "flatten: the first axis, %d, is behind the last, %d", first, last);
        return NULL;
    }
    int64_t shape[TSR_MAX_RANK], merged = 1;
    int rank = 0;
    for (int i = 0; i < x->rank; i++) {
        if (i < first || i > last) {
            shape[rank++] = x->shape[i];
            continue;
        }
        merged *= x->shape[i];
        if (i == last)
            shape[rank++] = merged;
    }
    if (x->rank == 0)
        shape[rank++] = 1;
    return tsr_reshape(x, rank, shape);
}

/* ---- permute ---- */

static bool permute_infer(const op_call *call, op_output *out)
{
    const tensor *x = call->in[0];
    const attr_value *axes = &call->attr[0];
    unsigned seen = 0;
    out->dtype = x->dtype;
    out->rank = x->rank;
    for (int i = 0; i < axes->count; i++) {
        if (axes->count != x->rank || axes->list[i] < 0 || axes->list[i] >= x->rank ||
            (seen >> axes->list[i] & 1) != 0) {
            fail(TSR_INVALID_ARGUMENT, "permute: %s is no permutation of the %d axes of %s",
                 shape_text(axes->count, axes->list), x->rank, tensor_text(x));
            return false;
        }
        seen |= 1u << axes->list[i];
        out->shape[i] = x->shape[axes->list[i]];
    }
    return true;
}

static tensor *permute_view(const op_call *call, const op_output *out)
{
    const tensor *x = call->in[0];
    int64_t strides[TSR_MAX_RANK];
    for (int i = 0; i < x->rank; i++)
        strides[i] = x->strides[call->attr[0].list[i]];
    return tensor_view(x, out->rank, out->shape, strides, x->offset);
}

static bool permute_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    int inverse[TSR_MAX_RANK];
    for (int i = 0; i < r->attr[0].count; i++)
        inverse[r->attr[0].list[i]] = i;
    dx[0] = tsr_permute(dy[0], inverse);
    return dx[0] != NULL;
}

const op_row op_permute = {
    .name = "permute",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 1,
    .dtypes = DTYPES_ALL,
    .attrs = {{"axes", ATTR_INTS, true, {0}}},
    .autocast = AUTOCAST_NONE,
    .infer = permute_infer,
    .view = permute_view,
    .backward = permute_backward,
};

tsr_tensor *tsr_permute(tsr_tensor *x, const int *axes)
{
    if (x == NULL)
        return NULL;
    if (axes == NULL && x->rank > 0) {
        fail(TSR_INVALID_ARGUMENT, "permute: the axes are NULL");
        return NULL;
    }
    attr_value order = {.count = x->rank};
    for (int i = 0; i < x->rank; i++)
        order.list[i] = axes[i];
    return OP1(op_permute, ATTRS(order), x);
}

tsr_tensor *tsr_transpose(tsr_tensor *x, int a, int b)
{
    if (x == NULL || !axis_normalize("transpose", a, x->rank, &a) || !axis_normalize("transpose", b, x->rank, &b))
        return NULL;
    attr_value order = {.count = x->rank};
    for (int i = 0; i < x->rank; i++)
        order.list[i] = i == a ? b : i == b ? a : i;
    return OP1(op_permute, ATTRS(order), x);
}

/* ---- slice: attributes axis, start, stop, step ---- */

/* Python's rules for start and stop. */
static int64_t clamp_index(int64_t i, int64_t size)
{
    if (i < 0)
        i += size;
    return i < 0 ? 0 : i > size ? size : i;
}

static bool slice_infer(const op_call *call, op_output *out)
{
    const tensor *x = call->in[0];
    int axis;
    if (x->rank == 0) {
        fail(TSR_INVALID_ARGUMENT, "slice: a scalar has no axis to slice");
        return false;
    }
    if (!axis_normalize("slice", (int)call->attr[0].i, x->rank, &axis))
        return false;
    const int64_t size = x->shape[axis], step = call->attr[3].i;
    if (step < 1) {
        fail(TSR_OUT_OF_RANGE, "slice: the step is %lld; it must be at least 1", (long long)step);
        return false;
    }
    const int64_t start = clamp_index(call->attr[1].i, size), stop = clamp_index(call->attr[2].i, size);
    infer_same(call, out);
    out->shape[axis] = stop > start ? (stop - start - 1) / step + 1 : 0;
    return true;
}

static tensor *slice_of(const tensor *x, int axis, int64_t start, int64_t step, const int64_t *shape)
{
    int64_t strides[TSR_MAX_RANK];
    memcpy(strides, x->strides, sizeof strides);
    const int64_t first = clamp_index(start, x->shape[axis]);
    /* A step beyond the axis makes at most one element, whose stride is never used: keep the product small. */
    strides[axis] *= step < x->shape[axis] ? step : 1;
    return tensor_view(x, x->rank, shape, strides, x->offset + first * x->strides[axis]);
}

static tensor *slice_view(const op_call *call, const op_output *out)
{
    const tensor *x = call->in[0];
    int axis;
    axis_normalize("slice", (int)call->attr[0].i, x->rank, &axis);
    return slice_of(x, axis, call->attr[1].i, call->attr[3].i, out->shape);
}

/* The gradient is zero outside the slice. */
static bool slice_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    const op_output *x = &r->in_spec[0];
    int axis;
    axis_normalize("slice", (int)r->attr[0].i, x->rank, &axis);
    dx[0] = tsr_zeros(r->device, x->dtype, x->rank, x->shape);
    if (dx[0] == NULL || dy[0]->numel == 0)
        return dx[0] != NULL;
    tensor *window = slice_of(dx[0], axis, r->attr[1].i, r->attr[3].i, dy[0]->shape);
    const bool ok = window != NULL && tsr_copy_into(window, dy[0]) == TSR_OK;
    tsr_release(window);
    return ok;
}

const op_row op_slice = {
    .name = "slice",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 1,
    .dtypes = DTYPES_ALL,
    .attrs = {{"axis", ATTR_INT, false, {0}},
              {"start", ATTR_INT, false, {0}},
              {"stop", ATTR_INT, false, {.i = INT64_MAX}},
              {"step", ATTR_INT, false, {.i = 1}}},
    .autocast = AUTOCAST_NONE,
    .infer = slice_infer,
    .view = slice_view,
    .backward = slice_backward,
};

tsr_tensor *tsr_slice(tsr_tensor *x, int axis, int64_t start, int64_t stop, int64_t step)
{
    return OP1(op_slice, ATTRS(A_INT(axis), A_INT(start), A_INT(stop), A_INT(step)), x);
}

/* ---- expand ---- */

static bool expand_infer(const op_call *call, op_output *out)
{
    const tensor *x = call->in[0];
    const attr_value *shape = &call->attr[0];
    int rank;
    out->dtype = x->dtype;
    if (!shape_broadcast(x->rank, x->shape, shape->count, shape->list, &rank, out->shape) || rank != shape->count ||
        memcmp(out->shape, shape->list, sizeof(int64_t) * (size_t)rank) != 0) {
        fail(TSR_INVALID_ARGUMENT, "expand: %s does not broadcast to %s", tensor_text(x),
             shape_text(shape->count, shape->list));
        return false;
    }
    out->rank = rank;
    return true;
}

static tensor *expand_view(const op_call *call, const op_output *out)
{
    const tensor *x = call->in[0];
    int64_t strides[TSR_MAX_RANK] = {0};
    const int extra = out->rank - x->rank;
    for (int i = 0; i < x->rank; i++)
        strides[extra + i] = x->shape[i] == out->shape[extra + i] ? x->strides[i] : 0;
    return tensor_view(x, out->rank, out->shape, strides, x->offset);
}

static bool expand_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    dx[0] = reduce_to(dy[0], r->in_spec[0].rank, r->in_spec[0].shape);
    return dx[0] != NULL;
}

const op_row op_expand = {
    .name = "expand",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 1,
    .dtypes = DTYPES_ALL,
    .attrs = {{"shape", ATTR_INTS, true, {0}}},
    .autocast = AUTOCAST_NONE,
    .infer = expand_infer,
    .view = expand_view,
    .backward = expand_backward,
};

tsr_tensor *tsr_expand(tsr_tensor *x, int rank, const int64_t *shape)
{
    attr_value sizes;
    return x != NULL && attr_ints("expand", rank, shape, &sizes) ? OP1(op_expand, ATTRS(sizes), x) : NULL;
}
