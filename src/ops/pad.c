/* pad, flip, tril, triu: elements moved, mirrored and blanked along axes. */
#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"
#include "ops/op.h"
#include "tessera/ops.h"

/* x's slices along axis at the n places that `place` names, as an index made on the host. */
static tensor *select_places(const char *what, tensor *x, int axis, int64_t n, int64_t before,
                             int64_t (*place)(int64_t i, int64_t before, int64_t size))
{
    const int64_t size = x->shape[axis];
    if (n > INT32_MAX || size > INT32_MAX) {
        fail(TSR_UNSUPPORTED, "%s: axis %d of %s is longer than 2^31", what, axis, tensor_text(x));
        return NULL;
    }
    int32_t *places = host_alloc(sizeof *places * (size_t)max_i64(n, 1));
    if (places == NULL)
        return NULL;
    for (int64_t i = 0; i < n; i++)
        places[i] = (int32_t)place(i, before, size);
    tensor *index = tsr_from_data(x->storage->device, TSR_I32, 1, &n, places);
    host_free(places);
    return tsr_index_select(x, axis, index);
}

/* ---- pad ---- */

enum { SIZES, MODE, VALUE }; /* attributes */

static int64_t reflected(int64_t i, int64_t before, int64_t size)
{
    const int64_t at = i - before;
    return at < 0 ? -at : at < size ? at : 2 * (size - 1) - at;
}

static int64_t replicated(int64_t i, int64_t before, int64_t size)
{
    return min_i64(max_i64(i - before, 0), size - 1);
}

static tensor *constant_block(const tensor *x, int axis, int64_t n, double value)
{
    int64_t shape[TSR_MAX_RANK];
    for (int i = 0; i < x->rank; i++)
        shape[i] = i == axis ? n : x->shape[i];
    return tsr_full(x->storage->device, x->dtype, x->rank, shape, value);
}

/* Negative sizes cut off. */
static tensor *pad_constant(tensor *x, int axis, int64_t before, int64_t after, double value)
{
    tensor *parts[3];
    int n = 0;
    if (before < 0 || after < 0)
        x = tsr_slice(x, axis, max_i64(-before, 0), x->shape[axis] - max_i64(-after, 0), 1);
    if (x == NULL || (before <= 0 && after <= 0))
        return x;
    if (before > 0)
        parts[n++] = constant_block(x, axis, before, value);
    parts[n++] = x;
    if (after > 0)
        parts[n++] = constant_block(x, axis, after, value);
    return tsr_cat(parts, n, axis);
}

static bool check_pad(const op_call *call, const tensor *x, int axis, int64_t before, int64_t after)
{
    const int64_t size = x->shape[axis], mode = call->attr[MODE].i;
    int64_t n;
    bool fits = before > -INT32_MAX && after > -INT32_MAX && checked_add_i64(size, before, &n) &&
                checked_add_i64(n, after, &n) && n >= 0 && n <= INT64_MAX / 2;
    if (mode == TSR_PAD_CONSTANT)
        fits = fits && -before <= size && -after <= size;
    else
        fits = fits && before >= 0 && after >= 0 &&
               (mode == TSR_PAD_REFLECT ? before < size && after < size : size > 0 || (before == 0 && after == 0));
    if (!fits)
        fail(TSR_OUT_OF_RANGE, "pad: axis %d of %s cannot be padded by %lld and %lld%s", axis, tensor_text(x),
             (long long)before, (long long)after,
             mode == TSR_PAD_REFLECT ? "; a reflection is shorter than the axis" : "");
    return fits;
}

static bool pad(const op_call *call, tensor **out)
{
    tensor *x = call->in[0];
    const attr_value *sizes = &call->attr[SIZES];
    const int64_t mode = call->attr[MODE].i;
    if (sizes->count % 2 != 0 || sizes->count / 2 > x->rank || mode < TSR_PAD_CONSTANT || mode > TSR_PAD_REPLICATE) {
        fail(TSR_INVALID_ARGUMENT, "pad: %d sizes in mode %lld for %s; there are two for each of the last dimensions",
             sizes->count, (long long)mode, tensor_text(x));
        return false;
    }
    for (int i = 0; i < sizes->count / 2 && x != NULL; i++) {
        const int axis = x->rank - 1 - i;
        const int64_t before = sizes->list[2 * i], after = sizes->list[2 * i + 1];
        if (!check_pad(call, x, axis, before, after))
            return false;
        if (before == 0 && after == 0)
            continue;
        x = mode == TSR_PAD_CONSTANT ? pad_constant(x, axis, before, after, call->attr[VALUE].f)
                                     : select_places("pad", x, axis, x->shape[axis] + before + after, before,
                                                     mode == TSR_PAD_REFLECT ? reflected : replicated);
    }
    out[0] = x;
    return x != NULL;
}

const op_row op_pad = {
    .name = "pad",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 1,
    .dtypes = DTYPES_ALL,
    .attrs = {{"sizes", ATTR_INTS, true, {0}},
              {"mode", ATTR_INT, false, {.i = TSR_PAD_CONSTANT}},
              {"value", ATTR_FLOAT, false, {0}}},
    .autocast = AUTOCAST_NONE,
    .compose = pad,
};

tsr_tensor *tsr_pad(tsr_tensor *x, int count, const int64_t *sizes, tsr_pad_mode mode, double value)
{
    attr_value list;
    return x != NULL && attr_ints("pad", count, sizes, &list) ? OP1(op_pad, ATTRS(list, A_INT(mode), A_FLOAT(value)), x)
                                                              : NULL;
}

/* ---- flip ---- */

static int64_t mirrored(int64_t i, int64_t before, int64_t size)
{
    (void)before;
    return size - 1 - i;
}

static bool flip(const op_call *call, tensor **out)
{
    tensor *x = call->in[0];
    for (int i = 0; i < call->attr[0].count && x != NULL; i++) {
        const int64_t wish = max_i64(min_i64(call->attr[0].list[i], INT32_MAX), INT32_MIN);
        int axis;
        if (!axis_normalize("flip", (int)wish, x->rank, &axis))
            return false;
        if (x->rank > 0)
            x = select_places("flip", x, axis, x->shape[axis], 0, mirrored);
    }
    out[0] = x;
    return x != NULL;
}

const op_row op_flip = {
    .name = "flip",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 1,
    .dtypes = DTYPES_ALL,
    .attrs = {{"axes", ATTR_INTS, true, {0}}},
    .autocast = AUTOCAST_NONE,
    .compose = flip,
};

tsr_tensor *tsr_flip(tsr_tensor *x, int count, const int64_t *axes)
{
    attr_value list;
    return x != NULL && attr_ints("flip", count, axes, &list) ? OP1(op_flip, ATTRS(list), x) : NULL;
}

/* ---- tril and triu: column - row is at most, or at least, the diagonal ---- */

static bool triangle(const op_call *call, tensor **out)
{
    tensor *x = call->in[0];
    tsr_device *device = call->device;
    if (x->rank < 2) {
        fail(TSR_INVALID_ARGUMENT, "%s: x is %s; it must be [.., rows, columns]", call->row->name, tensor_text(x));
        return false;
    }
    const int64_t rows = x->shape[x->rank - 2], cols = x->shape[x->rank - 1];
    const int64_t diagonal = max_i64(min_i64(call->attr[0].i, cols), -rows);
    if (rows > INT32_MAX / 2 || cols > INT32_MAX / 2) {
        fail(TSR_UNSUPPORTED, "%s: %s has more rows or columns than a kernel can count", call->row->name,
             tensor_text(x));
        return false;
    }
    tensor *last = tsr_reshape(tsr_arange(device, TSR_I32, rows, (double)diagonal, 1), 2, (int64_t[]){rows, 1});
    tensor *column = tsr_arange(device, TSR_I32, cols, 0, 1);
    tensor *kept = op_apply1(op_find(call->row->name[3] == 'l' ? "le" : "ge"), (tensor *[]){column, last}, 2, NULL);
    out[0] = tsr_where(kept, x, tsr_zeros(device, x->dtype, 0, NULL));
    return out[0] != NULL;
}

#define TRIANGLE(op)                                                                                                   \
    const op_row op_##op = {                                                                                           \
        .name = #op,                                                                                                   \
        .inputs_min = 1,                                                                                               \
        .inputs_max = 1,                                                                                               \
        .outputs = 1,                                                                                                  \
        .dtypes = DTYPES_FLOAT | DTYPES_INT,                                                                           \
        .attrs = {{"diagonal", ATTR_INT, false, {0}}},                                                                 \
        .autocast = AUTOCAST_NONE,                                                                                     \
        .compose = triangle,                                                                                           \
    };                                                                                                                 \
    tsr_tensor *tsr_##op(tsr_tensor *x, int64_t diagonal)                                                              \
    {                                                                                                                  \
        return OP1(op_##op, ATTRS(A_INT(diagonal)), x);                                                                \
    }
TRIANGLE(tril)
TRIANGLE(triu)
