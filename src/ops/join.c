/* cat, and what is made of it: stack, roll, pad with a constant; repeat. */
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "ops/op.h"
#include "tessera/ops.h"

static int axis_in(int rank, int64_t axis)
{
    return (int)(axis < 0 ? axis + rank : axis);
}

static bool axis_attr(const op_call *call, int64_t v, int rank, int *axis)
{
    return axis_normalize(call->row->name, (int)max_i64(min_i64(v, INT32_MAX), INT32_MIN), rank, axis);
}

/* ---- cat ---- */

static bool cat_infer(const op_call *call, op_output *out)
{
    const tensor *first = call->in[0];
    int axis;
    if (!axis_attr(call, call->attr[0].i, first->rank, &axis))
        return false;
    infer_same(call, out);
    for (int i = first->rank == 0 ? 0 : 1; i < call->in_count; i++) {
        const tensor *t = call->in[i];
        bool fits = t != NULL && t->rank == first->rank && t->rank > 0;
        for (int d = 0; fits && d < t->rank; d++)
            fits = d == axis || t->shape[d] == first->shape[d];
        if (!fits || !checked_add_i64(out->shape[axis], t->shape[axis], &out->shape[axis])) {
            fail(TSR_INVALID_ARGUMENT, "cat: operand %d is %s; beside %s it may differ along axis %d only", i,
                 t == NULL ? "NULL" : tensor_text(t), tensor_text(first), axis);
            return false;
        }
    }
    return true;
}

static bool place_parts(const op_call *call)
{
    tensor *out = call->out[0];
    const int axis = axis_in(out->rank, call->attr[0].i);
    int64_t at = 0;
    for (int i = 0; i < call->in_count; i++) {
        const int64_t n = call->in[i]->shape[axis];
        if (call->in[i]->numel > 0 && tsr_copy_into(tsr_slice(out, axis, at, at + n, 1), call->in[i]) != TSR_OK)
            return false;
        at += n;
    }
    return true;
}

static bool cat_run(const op_call *call)
{
    return OP_TEMPORARIES(place_parts(call));
}

static bool cat_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    const int axis = axis_in(r->out_spec[0].rank, r->attr[0].i);
    int64_t at = 0;
    for (int i = 0; i < r->in_count; i++) {
        const int64_t n = r->in_spec[i].shape[axis];
        if (r->needs[i] && (dx[i] = tsr_slice(dy[0], axis, at, at + n, 1)) == NULL)
            return false;
        at += n;
    }
    return true;
}

const op_row op_cat = {
    .name = "cat",
    .inputs_min = 1,
    .inputs_max = OP_MAX_INPUTS,
    .outputs = 1,
    .dtypes = DTYPES_ALL,
    .same_dtype = true,
    .attrs = {{"axis", ATTR_INT, false, {0}}},
    .autocast = AUTOCAST_WIDEST,
    .infer = cat_infer,
    .run = cat_run,
    .backward = cat_backward,
};

/* More operands than a row holds are joined in groups. */
static tensor *join(const op_row *row, tensor *const *tensors, int count, int axis)
{
    if (count <= OP_MAX_INPUTS)
        return op_apply1(row, tensors, count, ATTRS(A_INT(axis)));
    int64_t done = 1;
    while (done * OP_MAX_INPUTS < count)
        done *= OP_MAX_INPUTS;
    tensor *parts[OP_MAX_INPUTS];
    int n = 0;
    for (int64_t at = 0; at < count; at += done, n++)
        if ((parts[n] = join(row, tensors + at, (int)min_i64(done, count - at), axis)) == NULL)
            return NULL;
    return op_apply1(&op_cat, parts, n, ATTRS(A_INT(axis)));
}

static tensor *join_checked(const op_row *row, tensor *const *tensors, int count, int axis)
{
    if (count < 1 || tensors == NULL) {
        fail(TSR_INVALID_ARGUMENT, "%s: there is no operand", row->name);
        return NULL;
    }
    for (int i = 0; i < count; i++)
        if (tensors[i] == NULL)
            return NULL;
    /* An axis from the end counts in the result, which has one more dimension when stacked. */
    const int rank = tensors[0]->rank + (strcmp(row->name, "stack") == 0);
    if (!axis_normalize(row->name, axis, rank, &axis))
        return NULL;
    if (count <= OP_MAX_INPUTS)
        return join(row, tensors, count, axis);
    if (tsr_scope_begin() != TSR_OK)
        return NULL;
    tensor *result = tsr_keep(join(row, tensors, count, axis));
    tsr_scope_end();
    return tensor_to_scope(result);
}

tsr_tensor *tsr_cat(tsr_tensor *const *tensors, int count, int axis)
{
    return join_checked(&op_cat, tensors, count, axis);
}

/* ---- stack ---- */

static bool stack(const op_call *call, tensor **out)
{
    tensor *parts[OP_MAX_INPUTS];
    int axis;
    if (!axis_attr(call, call->attr[0].i, call->in[0]->rank + 1, &axis))
        return false;
    for (int i = 0; i < call->in_count; i++) {
        if (call->in[i] == NULL || !shape_equal(call->in[i], call->in[0])) {
            fail(TSR_INVALID_ARGUMENT, "stack: operand %d is %s, the first is %s; their shapes must be equal", i,
                 call->in[i] == NULL ? "NULL" : tensor_text(call->in[i]), tensor_text(call->in[0]));
            return false;
        }
        if ((parts[i] = tsr_unsqueeze(call->in[i], axis)) == NULL)
            return false;
    }
    out[0] = tsr_cat(parts, call->in_count, axis);
    return out[0] != NULL;
}

const op_row op_stack = {
    .name = "stack",
    .inputs_min = 1,
    .inputs_max = OP_MAX_INPUTS,
    .outputs = 1,
    .dtypes = DTYPES_ALL,
    .same_dtype = true,
    .attrs = {{"axis", ATTR_INT, false, {0}}},
    .autocast = AUTOCAST_WIDEST,
    .compose = stack,
};

tsr_tensor *tsr_stack(tsr_tensor *const *tensors, int count, int axis)
{
    return join_checked(&op_stack, tensors, count, axis);
}

/* ---- repeat ---- */

/* Along one axis after the other: a dimension of size 1 is put before it, expanded and merged. */
static bool repeat(const op_call *call, tensor **out)
{
    const attr_value *times = &call->attr[0];
    tensor *x = call->in[0];
    int64_t shape[TSR_MAX_RANK];
    if (times->count < x->rank) {
        fail(TSR_INVALID_ARGUMENT, "repeat: %d numbers for %s; it needs one for each dimension at least", times->count,
             tensor_text(x));
        return false;
    }
    const int extra = times->count - x->rank;
    for (int i = 0; i < times->count; i++)
        shape[i] = i < extra ? 1 : x->shape[i - extra];
    x = tsr_reshape(x, times->count, shape);
    for (int i = 0; i < times->count && x != NULL; i++) {
        const int64_t r = times->list[i];
        int64_t outer = 1, rest = 1;
        if (r < 0 || !checked_mul_i64(shape[i], r, &(int64_t){0})) {
            fail(TSR_OUT_OF_RANGE, "repeat: axis %d cannot be repeated %lld times", i, (long long)r);
            return false;
        }
        for (int d = 0; d < times->count; d++)
            *(d < i ? &outer : &rest) *= shape[d];
        if (r == 1)
            continue;
        shape[i] *= r;
        x = tsr_expand(tsr_reshape(x, 3, (int64_t[]){outer, 1, rest}), 3, (int64_t[]){outer, r, rest});
        x = tsr_reshape(x, times->count, shape);
    }
    out[0] = x;
    return x != NULL;
}

const op_row op_repeat = {
    .name = "repeat",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 1,
    .dtypes = DTYPES_ALL,
    .attrs = {{"times", ATTR_INTS, true, {0}}},
    .autocast = AUTOCAST_NONE,
    .compose = repeat,
};

tsr_tensor *tsr_repeat(tsr_tensor *x, int count, const int64_t *times)
{
    attr_value list;
    return x != NULL && attr_ints("repeat", count, times, &list) ? OP1(op_repeat, ATTRS(list), x) : NULL;
}

/* ---- roll ---- */

static tensor *roll_axis(tensor *x, int axis, int64_t shift)
{
    const int64_t n = x->shape[axis];
    if (n == 0)
        return x;
    const int64_t by = (shift % n + n) % n;
    return by == 0 ? x
                   : tsr_cat((tensor *[]){tsr_slice(x, axis, n - by, n, 1), tsr_slice(x, axis, 0, n - by, 1)}, 2, axis);
}

static bool roll(const op_call *call, tensor **out)
{
    const attr_value *shifts = &call->attr[0], *axes = &call->attr[1];
    tensor *x = call->in[0];
    if (axes->count == 0 && shifts->count == 1) { /* all elements in a row */
        tensor *flat = tsr_reshape(x, 1, &x->numel);
        out[0] = flat == NULL ? NULL : tsr_reshape(roll_axis(flat, 0, shifts->list[0]), x->rank, x->shape);
        return out[0] != NULL;
    }
    if (axes->count != shifts->count || axes->count == 0) {
        fail(TSR_INVALID_ARGUMENT, "roll: %d shifts for %d axes", shifts->count, axes->count);
        return false;
    }
    for (int i = 0; i < axes->count && x != NULL; i++) {
        int axis;
        if (x->rank == 0 || !axis_attr(call, axes->list[i], x->rank, &axis)) {
            if (x->rank == 0)
                fail(TSR_OUT_OF_RANGE, "roll: a scalar has no axis");
            return false;
        }
        x = roll_axis(x, axis, shifts->list[i]);
    }
    out[0] = x;
    return x != NULL;
}

const op_row op_roll = {
    .name = "roll",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 1,
    .dtypes = DTYPES_ALL,
    .attrs = {{"shifts", ATTR_INTS, true, {0}}, {"axes", ATTR_INTS, false, {0}}},
    .autocast = AUTOCAST_NONE,
    .compose = roll,
};

tsr_tensor *tsr_roll(tsr_tensor *x, int count, const int64_t *shifts, const int64_t *axes)
{
    attr_value by, along;
    if (x == NULL || !attr_ints("roll", count, shifts, &by) ||
        !attr_ints("roll", axes == NULL ? 0 : count, axes, &along))
        return NULL;
    return OP1(op_roll, ATTRS(by, along), x);
}
