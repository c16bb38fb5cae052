/* Shapes by views: squeeze, unsqueeze, narrow, split, chunk. Each is a reshape or a slice, which record themselves. */
#include "base/checked.h"
#include "base/error.h"
#include "ops/op.h"
#include "tessera/ops.h"

/* An axis attribute, out of range rather than wrapped where it does not fit an int. */
static bool axis_attr(const op_call *call, const attr_value *v, int rank, int *axis)
{
    return axis_normalize(call->row->name, (int)max_i64(min_i64(v->i, INT32_MAX), INT32_MIN), rank, axis);
}

#define VIEW_ROW(op, function, ...)                                                                                    \
    const op_row op_##op = {                                                                                           \
        .name = #op,                                                                                                   \
        .inputs_min = 1,                                                                                               \
        .inputs_max = 1,                                                                                               \
        .outputs = 1,                                                                                                  \
        .dtypes = DTYPES_ALL,                                                                                          \
        .attrs = {__VA_ARGS__},                                                                                        \
        .autocast = AUTOCAST_NONE,                                                                                     \
        .compose = function,                                                                                           \
        .aliases = true,                                                                                               \
    };

/* ---- squeeze and unsqueeze ---- */

static bool squeeze(const op_call *call, tensor **out)
{
    tensor *x = call->in[0];
    unsigned gone = call->attr[0].count == 0 ? ~0u : 0;
    for (int i = 0; i < call->attr[0].count; i++) {
        const attr_value v = {.i = call->attr[0].list[i]};
        int axis;
        if (!axis_attr(call, &v, x->rank, &axis))
            return false;
        gone |= 1u << axis;
    }
    int64_t shape[TSR_MAX_RANK];
    int rank = 0;
    for (int i = 0; i < x->rank; i++)
        if (x->shape[i] != 1 || (gone >> i & 1) == 0)
            shape[rank++] = x->shape[i];
    out[0] = tsr_reshape(x, rank, shape);
    return out[0] != NULL;
}

static bool unsqueeze(const op_call *call, tensor **out)
{
    tensor *x = call->in[0];
    int64_t shape[TSR_MAX_RANK];
    int axis;
    if (x->rank == TSR_MAX_RANK) {
        fail(TSR_OUT_OF_RANGE, "unsqueeze: %s has %d dimensions already", tensor_text(x), TSR_MAX_RANK);
        return false;
    }
    if (!axis_attr(call, &call->attr[0], x->rank + 1, &axis))
        return false;
    for (int i = 0; i <= x->rank; i++)
        shape[i] = i < axis ? x->shape[i] : i == axis ? 1 : x->shape[i - 1];
    out[0] = tsr_reshape(x, x->rank + 1, shape);
    return out[0] != NULL;
}

/* clang-format off */
VIEW_ROW(squeeze, squeeze, {"axes", ATTR_INTS, false, {0}})
VIEW_ROW(unsqueeze, unsqueeze, {"axis", ATTR_INT, true, {0}})
/* clang-format on */

tsr_tensor *tsr_squeeze(tsr_tensor *x, const int *axes, int count)
{
    attr_value list = {.count = count};
    if (x == NULL)
        return NULL;
    if (count < 0 || count > TSR_MAX_RANK || (count > 0 && axes == NULL)) {
        fail(TSR_OUT_OF_RANGE, "squeeze: %d axes; a tensor has at most %d", count, TSR_MAX_RANK);
        return NULL;
    }
    for (int i = 0; i < count; i++)
        list.list[i] = axes[i];
    return OP1(op_squeeze, ATTRS(list), x);
}

tsr_tensor *tsr_unsqueeze(tsr_tensor *x, int axis)
{
    return OP1(op_unsqueeze, ATTRS(A_INT(axis)), x);
}

/* ---- narrow, split, chunk ---- */

static bool narrow(const op_call *call, tensor **out)
{
    tensor *x = call->in[0];
    int axis;
    if (!axis_attr(call, &call->attr[0], x->rank, &axis))
        return false;
    const int64_t size = x->rank == 0 ? 0 : x->shape[axis], length = call->attr[2].i;
    const int64_t start = call->attr[1].i < 0 ? call->attr[1].i + size : call->attr[1].i;
    if (x->rank == 0 || start < 0 || start > size || length < 0 || length > size - start) {
        fail(TSR_OUT_OF_RANGE, "narrow: %lld elements from %lld on are not in axis %d of %s", (long long)length,
             (long long)call->attr[1].i, axis, tensor_text(x));
        return false;
    }
    out[0] = tsr_slice(x, axis, start, start + length, 1);
    return out[0] != NULL;
}

/* Part `index` of those of `size` elements each, the last of what is left. */
static bool part(const op_call *call, int64_t size, int64_t index, tensor **out)
{
    tensor *x = call->in[0];
    int axis;
    if (!axis_attr(call, &call->attr[0], x->rank, &axis))
        return false;
    const int64_t n = x->rank == 0 ? 0 : x->shape[axis], parts = size < 1 ? 0 : n == 0 ? 1 : (n + size - 1) / size;
    if (x->rank == 0 || index < 0 || index >= parts) {
        fail(TSR_OUT_OF_RANGE, "%s: there is no part %lld of axis %d of %s in parts of %lld", call->row->name,
             (long long)index, axis, tensor_text(x), (long long)size);
        return false;
    }
    out[0] = tsr_slice(x, axis, index * size, min_i64((index + 1) * size, n), 1);
    return out[0] != NULL;
}

static bool split(const op_call *call, tensor **out)
{
    return part(call, call->attr[1].i, call->attr[2].i, out);
}

/* As in PyTorch: parts of ceil(n / chunks) elements, of which there may be fewer than asked for. */
static int64_t chunk_size(int64_t n, int64_t chunks)
{
    return chunks < 1 ? 0 : max_i64(1, n / chunks + (n % chunks != 0));
}

static bool chunk(const op_call *call, tensor **out)
{
    const tensor *x = call->in[0];
    int axis;
    if (!axis_attr(call, &call->attr[0], x->rank, &axis))
        return false;
    return part(call, chunk_size(x->rank == 0 ? 0 : x->shape[axis], call->attr[1].i), call->attr[2].i, out);
}

/* clang-format off */
VIEW_ROW(narrow, narrow, {"axis", ATTR_INT, true, {0}}, {"start", ATTR_INT, true, {0}}, {"length", ATTR_INT, true, {0}})
VIEW_ROW(split, split, {"axis", ATTR_INT, true, {0}}, {"size", ATTR_INT, true, {0}}, {"index", ATTR_INT, true, {0}})
VIEW_ROW(chunk, chunk, {"axis", ATTR_INT, true, {0}}, {"chunks", ATTR_INT, true, {0}}, {"index", ATTR_INT, true, {0}})
/* clang-format on */

tsr_tensor *tsr_narrow(tsr_tensor *x, int axis, int64_t start, int64_t length)
{
    return OP1(op_narrow, ATTRS(A_INT(axis), A_INT(start), A_INT(length)), x);
}

static tsr_status parts_of(const op_row *row, tsr_tensor *x, int axis, int64_t size, int64_t argument, int capacity,
                           tsr_tensor **parts, int *count)
{
    const int64_t n = x->rank == 0 ? 0 : x->shape[axis], needed = size < 1 ? 0 : n == 0 ? 1 : (n + size - 1) / size;
    if (size < 1 || needed > capacity)
        return fail(TSR_OUT_OF_RANGE, "%s: %s has %lld parts of %lld along axis %d; there is room for %d", row->name,
                    tensor_text(x), (long long)needed, (long long)size, axis, capacity);
    for (int i = 0; i < (int)needed; i++) {
        parts[i] = OP1(*row, ATTRS(A_INT(axis), A_INT(argument), A_INT(i)), x);
        if (parts[i] == NULL)
            return tsr_last_status();
        *count = i + 1;
    }
    return TSR_OK;
}

static tsr_status parts_checked(const op_row *row, tsr_tensor *x, int *axis, tsr_tensor **parts, int *count)
{
    if (count != NULL)
        *count = 0;
    if (x == NULL)
        return tsr_last_status() != TSR_OK ? tsr_last_status() : TSR_INVALID_ARGUMENT;
    if (parts == NULL || count == NULL)
        return fail(TSR_INVALID_ARGUMENT, "%s: an argument is NULL", row->name);
    return axis_normalize(row->name, *axis, x->rank, axis) ? TSR_OK : tsr_last_status();
}

tsr_status tsr_split(tsr_tensor *x, int axis, int64_t size, int capacity, tsr_tensor **parts, int *count)
{
    const tsr_status status = parts_checked(&op_split, x, &axis, parts, count);
    return status != TSR_OK ? status : parts_of(&op_split, x, axis, size, size, capacity, parts, count);
}

tsr_status tsr_chunk(tsr_tensor *x, int axis, int64_t chunks, int capacity, tsr_tensor **parts, int *count)
{
    const tsr_status status = parts_checked(&op_chunk, x, &axis, parts, count);
    if (status != TSR_OK)
        return status;
    return parts_of(&op_chunk, x, axis, chunk_size(x->rank == 0 ? 0 : x->shape[axis], chunks), chunks, capacity, parts,
                    count);
}
