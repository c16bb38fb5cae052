/* One index an element, along an axis: gather, scatter, scatter_add, take_along_dim.
 *
 * The axis is brought to the end, so that each line of the index belongs to a line of x; lines of x that the index does not reach are left
 * alone. */
#include <string.h>

#include "base/error.h"
#include "ops/index.h"
#include "tessera/ops.h"

/* t with `axis` last. */
static tensor *axis_last(tensor *t, int axis)
{
    return t == NULL || axis == t->rank - 1 ? t : tsr_transpose(t, axis, -1);
}

/* The part of t that has the index's sizes, but its own along `axis` (-1: along none). */
static tensor *region(tensor *t, int rank, const int64_t *index, int axis)
{
    int64_t shape[TSR_MAX_RANK];
    if (t == NULL)
        return NULL;
    for (int i = 0; i < rank; i++)
        shape[i] = i == axis ? t->shape[i] : index[i];
    return tensor_to_scope(tensor_view(t, rank, shape, t->strides, t->offset));
}

static bool lists_of(const char *what, tensor *index, int axis, int64_t size, index_lists *out)
{
    const int64_t n = index->shape[axis];
    *out = (index_lists){index_narrow(what, axis_last(index, axis), size), n == 0 ? 0 : index->numel / n, n};
    return out->narrow != NULL;
}

/* y = x by index, y of the index's shape. */
static bool take(tensor *x, tensor *index, int axis, bool zero, tensor *y)
{
    index_lists lists;
    tensor *lines = contiguous(axis_last(region(x, index->rank, index->shape, axis), axis));
    tensor *moved = axis_last(y, axis);
    tensor *target = moved == NULL || tsr_is_contiguous(moved)
                         ? moved
                         : tsr_empty(y->storage->device, y->dtype, moved->rank, moved->shape);
    return lines != NULL && target != NULL && lists_of("gather", index, axis, x->shape[axis], &lists) &&
           index_take(lines, &lists, lists.lists, x->shape[axis], 1, zero, target) &&
           (target == moved || tsr_copy_into(moved, target) == TSR_OK);
}

/* y = x, and the source's elements put into it. */
static bool put(tensor *x, tensor *index, tensor *source, int axis, bool replaces, tensor *y)
{
    if (tsr_copy_into(y, x) != TSR_OK)
        return false;
    if (index->numel == 0)
        return true;
    index_lists lists;
    tensor *target = axis_last(region(y, index->rank, index->shape, axis), axis);
    tensor *base = contiguous(axis_last(region(x, index->rank, index->shape, axis), axis));
    tensor *from = contiguous(axis_last(region(source, index->rank, index->shape, -1), axis));
    tensor *result = base == NULL ? NULL : tsr_empty(y->storage->device, y->dtype, base->rank, base->shape);
    return target != NULL && from != NULL && result != NULL &&
           lists_of("scatter", index, axis, x->shape[axis], &lists) &&
           index_put(base, from, &lists, lists.lists, x->shape[axis], 1,
                     (index_put_options){.replaces = replaces, .skip = -1}, result) &&
           tsr_copy_into(target, result) == TSR_OK;
}

static bool check(const op_call *call, int *axis)
{
    const tensor *x = call->in[0], *index = call->in[1], *source = call->in_count > 2 ? call->in[2] : NULL;
    const char *name = call->row->name;
    if (!axis_normalize(name, (int)call->attr[0].i, x->rank, axis) || !index_dtype(name, index))
        return false;
    bool fits = x->rank > 0 && index->rank == x->rank && (source == NULL || source->rank == x->rank);
    for (int i = 0; fits && i < x->rank; i++)
        fits =
            (i == *axis || index->shape[i] <= x->shape[i]) && (source == NULL || index->shape[i] <= source->shape[i]);
    if (!fits)
        fail(
            TSR_INVALID_ARGUMENT,
            "%s: the index is %s; it must have the rank of x, %s, (at least 1) and be no larger, but along axis %d%s%s",
            name, tensor_text(index), tensor_text(x), *axis, source == NULL ? "" : ", nor larger than the source, ",
            source == NULL ? "" : tensor_text(source));
    return fits;
}

static int axis_in(const op_output *x, const attr_value *attr)
{
    return (int)(attr->i < 0 ? attr->i + x->rank : attr->i);
}

static int axis_of(const op_call *call)
{
    return (int)(call->attr[0].i < 0 ? call->attr[0].i + call->in[0]->rank : call->attr[0].i);
}

/* ---- gather ---- */

static bool gather_infer(const op_call *call, op_output *out)
{
    int axis;
    if (!check(call, &axis))
        return false;
    out->dtype = call->in[0]->dtype;
    out->rank = call->in[1]->rank;
    memcpy(out->shape, call->in[1]->shape, sizeof out->shape);
    return true;
}

static bool gather_run(const op_call *call)
{
    return OP_TEMPORARIES(take(call->in[0], call->in[1], axis_of(call), false, call->out[0]));
}

static bool gather_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    const op_output *x = &r->in_spec[0];
    tensor *zero = tsr_zeros(r->device, x->dtype, x->rank, x->shape);
    dx[0] = tsr_empty(r->device, x->dtype, x->rank, x->shape);
    return zero != NULL && dx[0] != NULL &&
           (dx[0]->numel == 0 || put(zero, r->in[1], dy[0], axis_in(x, &r->attr[0]), false, dx[0]));
}

const op_row op_gather = {
    .name = "gather",
    .inputs_min = 2,
    .inputs_max = 2,
    .outputs = 1,
    .dtypes = DTYPES_ALL,
    .any_dtype = 1u << 1,
    .attrs = {{"axis", ATTR_INT, true, {0}}},
    .autocast = AUTOCAST_NONE,
    .infer = gather_infer,
    .run = gather_run,
    .backward = gather_backward,
    .saves = SAVE_INPUT(1),
};

tsr_tensor *tsr_gather(tsr_tensor *x, int axis, tsr_tensor *index)
{
    return OP1(op_gather, ATTRS(A_INT(axis)), x, index);
}

/* ---- scatter and scatter_add: inputs x, index, source ---- */

static bool scatter_infer(const op_call *call, op_output *out)
{
    int axis;
    return check(call, &axis) && infer_same(call, out);
}

/* scatter without a source puts the attribute `value` everywhere. */
static tensor *source_of(const op_call *call)
{
    const tensor *x = call->in[0], *index = call->in[1];
    if (call->in_count > 2 && call->in[2] != NULL)
        return call->in[2];
    return tsr_expand(tsr_full(call->device, x->dtype, 0, NULL, call->attr[1].f), index->rank, index->shape);
}

static bool scatter_run(const op_call *call)
{
    const bool replaces = strcmp(call->row->name, "scatter") == 0;
    return OP_TEMPORARIES(put(call->in[0], call->in[1], source_of(call), axis_of(call), replaces, call->out[0]));
}

/* dy taken by index where mask (NULL: everywhere), 0 in the part of the source that the index does not reach. */
static tensor *source_slope(const op_record *r, tensor *dy, int axis, tensor *mask)
{
    const op_output *source = &r->in_spec[2], *index = &r->in_spec[1];
    tensor *taken = tsr_empty(r->device, dy->dtype, index->rank, index->shape);
    tensor *slope = tsr_zeros(r->device, source->dtype, source->rank, source->shape);
    if (taken == NULL || slope == NULL || (taken->numel > 0 && !take(dy, r->in[1], axis, true, taken)))
        return NULL;
    if (mask != NULL)
        taken = tsr_where(mask, taken, tsr_zeros(r->device, dy->dtype, 0, NULL));
    return tsr_copy_into(region(slope, index->rank, index->shape, -1), taken) == TSR_OK ? slope : NULL;
}

static bool scatter_add_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    if (r->needs[0])
        dx[0] = dy[0];
    if (r->needs[2])
        dx[2] = source_slope(r, dy[0], axis_in(&r->in_spec[0], &r->attr[0]), NULL);
    return !r->needs[2] || dx[2] != NULL;
}

/* Which of the source's elements came to stay: the index of the winner of each place is scattered, and compared with one's own. */
static tensor *winners(const op_record *r, int axis)
{
    const op_output *x = &r->in_spec[0], *index = &r->in_spec[1];
    int64_t along[TSR_MAX_RANK];
    for (int i = 0; i < index->rank; i++)
        along[i] = i == axis ? index->shape[i] : 1;
    tensor *own = tsr_reshape(tsr_arange(r->device, TSR_I32, index->shape[axis], 1, 1), index->rank, along);
    own = tsr_expand(own, index->rank, index->shape);
    tensor *zero = tsr_zeros(r->device, TSR_I32, x->rank, x->shape);
    tensor *won = tsr_gather(tsr_scatter(zero, axis, r->in[1], own), axis, r->in[1]);
    return op_apply1(op_find("eq"), (tensor *[]){won, own}, 2, NULL);
}

static bool scatter_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    const op_output *index = &r->in_spec[1];
    const int axis = axis_in(&r->in_spec[0], &r->attr[0]);
    if (r->needs[0]) {
        dx[0] = tsr_scatter(dy[0], axis, r->in[1], tsr_zeros(r->device, dy[0]->dtype, index->rank, index->shape));
        if (dx[0] == NULL)
            return false;
    }
    if (r->needs[2]) {
        tensor *mask = winners(r, axis);
        dx[2] = mask == NULL ? NULL : source_slope(r, dy[0], axis, mask);
    }
    return !r->needs[2] || dx[2] != NULL;
}

const op_row op_scatter = {
    .name = "scatter",
    .inputs_min = 2,
    .inputs_max = 3,
    .outputs = 1,
    .dtypes = DTYPES_ALL,
    .any_dtype = 1u << 1,
    .same_dtype = true,
    .attrs = {{"axis", ATTR_INT, true, {0}}, {"value", ATTR_FLOAT, false, {0}}},
    .autocast = AUTOCAST_WIDEST,
    .infer = scatter_infer,
    .run = scatter_run,
    .backward = scatter_backward,
    .saves = SAVE_INPUT(1),
};

const op_row op_scatter_add = {
    .name = "scatter_add",
    .inputs_min = 3,
    .inputs_max = 3,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT | DTYPES_INT,
    .any_dtype = 1u << 1,
    .same_dtype = true,
    .attrs = {{"axis", ATTR_INT, true, {0}}},
    .autocast = AUTOCAST_WIDEST,
    .infer = scatter_infer,
    .run = scatter_run,
    .backward = scatter_add_backward,
    .saves = SAVE_INPUT(1),
};

tsr_tensor *tsr_scatter(tsr_tensor *x, int axis, tsr_tensor *index, tsr_tensor *source)
{
    return OP1(op_scatter, ATTRS(A_INT(axis)), x, index, source);
}

tsr_tensor *tsr_scatter_value(tsr_tensor *x, int axis, tsr_tensor *index, double value)
{
    return OP1(op_scatter, ATTRS(A_INT(axis), A_FLOAT(value)), x, index);
}

tsr_tensor *tsr_scatter_add(tsr_tensor *x, int axis, tsr_tensor *index, tsr_tensor *source)
{
    return OP1(op_scatter_add, ATTRS(A_INT(axis)), x, index, source);
}
