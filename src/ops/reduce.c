/* Reductions over any axes: sum, mean, max, argmax.
 *
 * Axes are reduced group by group of neighbours, the innermost first: a group that lies innermost in memory by rows, others
 * by columns; each in the canonical order (64 lanes, blocks of 8192). Partial results stay in the arithmetic's type. */
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "ops/op.h"
#include "tensor/device.h"
#include "tessera/ops.h"

enum { BLOCK = 8192, COLUMN_TILE = 32, GRID_YZ = 65535 };

/* The dtype in which a reduction of dtype x is carried. */
static tsr_dtype carried(tsr_dtype x)
{
    return x == TSR_F16 || x == TSR_BF16 ? TSR_F32 : x;
}

/* ---- which axes ---- */

static bool axes_mask(const op_call *call, unsigned *mask)
{
    const tensor *x = call->in[0];
    const attr_value *axes = &call->attr[0];
    *mask = axes->count == 0 ? (1u << x->rank) - 1 : 0;
    for (int i = 0; i < axes->count; i++) {
        int axis;
        /* Clamped, so that an axis beyond int stays out of range. */
        if (!axis_normalize(call->row->name, (int)max_i64(min_i64(axes->list[i], INT32_MAX), INT32_MIN), x->rank,
                            &axis))
            return false;
        if (x->rank == 0)
            continue;
        if ((*mask >> axis & 1) != 0) {
            fail(TSR_INVALID_ARGUMENT, "%s: axis %d is given twice", call->row->name, axis);
            return false;
        }
        *mask |= 1u << axis;
    }
    return true;
}

static bool reduced_shape(const op_call *call, op_output *out)
{
    const tensor *x = call->in[0];
    unsigned mask;
    if (!axes_mask(call, &mask))
        return false;
    const bool keep = call->attr[1].i != 0;
    out->rank = 0;
    for (int i = 0; i < x->rank; i++) {
        const bool gone = (mask >> i & 1) != 0;
        if (!gone || keep)
            out->shape[out->rank++] = gone ? 1 : x->shape[i];
    }
    return true;
}

static int64_t reduced_count(const tensor *x, unsigned mask)
{
    int64_t n = 1;
    for (int i = 0; i < x->rank; i++)
        if ((mask >> i & 1) != 0)
            n *= x->shape[i];
    return n;
}

static bool sum_infer(const op_call *call, op_output *out)
{
    out->dtype = call->in[0]->dtype;
    return reduced_shape(call, out);
}

static bool not_empty(const op_call *call)
{
    unsigned mask;
    if (!axes_mask(call, &mask))
        return false;
    if (reduced_count(call->in[0], mask) > 0)
        return true;
    fail(TSR_INVALID_ARGUMENT, "%s: the reduced axes of %s are empty, and an empty %s has no value", call->row->name,
         tensor_text(call->in[0]), call->row->name);
    return false;
}

static bool max_infer(const op_call *call, op_output *out)
{
    return sum_infer(call, out) && not_empty(call);
}

static bool argmax_infer(const op_call *call, op_output *out)
{
    out->dtype = TSR_I64;
    return reduced_shape(call, out) && not_empty(call);
}

/* ---- one step: contiguous x as [outer, n, inner], folded over n ---- */

static bool check_extent(const char *what, int64_t n)
{
    if (n <= UINT32_MAX)
        return true;
    fail(TSR_UNSUPPORTED, "%s: an extent of %lld is beyond 2^32 - 1 elements", what, (long long)n);
    return false;
}

static bool fold_rows(tsr_device *device, const char *fold, const tensor *x, tensor *y, int64_t rows, int64_t n)
{
    const struct {
        uint32_t cols, block, blocks, rows;
    } p = {(uint32_t)n, BLOCK, (uint32_t)((n + BLOCK - 1) / BLOCK), (uint32_t)rows};
    const kernel_key key = key_of(fold[0] == 's' ? "sum_rows" : "max_rows", x->dtype);
    const grid g = {p.blocks, (uint32_t)min_i64(rows, GRID_YZ), (uint32_t)((rows + GRID_YZ - 1) / GRID_YZ)};
    return LAUNCH(device, key, g, &p, tensor_binding(x), tensor_binding(y));
}

static bool fold_columns(tsr_device *device, const char *fold, const tensor *x, tensor *y, int64_t outer, int64_t n,
                         int64_t inner)
{
    const struct {
        uint32_t rows, cols, block, blocks, tiles;
    } p = {(uint32_t)n, (uint32_t)inner, BLOCK, (uint32_t)((n + BLOCK - 1) / BLOCK),
           (uint32_t)((inner + COLUMN_TILE - 1) / COLUMN_TILE)};
    if (outer > GRID_YZ || p.blocks > GRID_YZ) {
        fail(TSR_UNSUPPORTED, "%s over the middle of %s: more than %d outer indices or blocks", fold, tensor_text(x),
             GRID_YZ);
        return false;
    }
    return LAUNCH(device, key_op("reduce_columns", x->dtype, fold), ((grid){p.tiles, p.blocks, (uint32_t)outer}), &p,
                  tensor_binding(x), tensor_binding(y));
}

/* Until one is left of every n. The result is of the carried dtype; x itself where n was 1 and it has that dtype. */
static tensor *fold_step(tsr_device *device, const char *fold, tensor *x, int64_t outer, int64_t n, int64_t inner)
{
    if (!check_extent(fold, n) || !check_extent(fold, inner) || !check_extent(fold, outer))
        return NULL;
    do {
        const int64_t blocks = (n + BLOCK - 1) / BLOCK;
        tensor *y = tsr_empty(device, carried(x->dtype), 3, (int64_t[]){outer, blocks, inner});
        if (y == NULL ||
            !(inner == 1 ? fold_rows(device, fold, x, y, outer, n) : fold_columns(device, fold, x, y, outer, n, inner)))
            return NULL;
        x = y;
        n = blocks;
    } while (n > 1);
    return x;
}

/* Folds the axes in mask; the result's elements are in row-major order of what is left, in the carried dtype. */
static tensor *fold_axes(const char *fold, tensor *x, unsigned mask)
{
    tsr_device *device = x->storage->device;
    int64_t shape[TSR_MAX_RANK];
    const int rank = x->rank;
    memcpy(shape, x->shape, sizeof shape);
    tensor *t = contiguous(x);
    bool folded = false;
    for (int last = rank - 1; t != NULL && last >= 0; last--) {
        if ((mask >> last & 1) == 0)
            continue;
        int first = last;
        while (first > 0 && (mask >> (first - 1) & 1) != 0)
            first--;
        int64_t outer = 1, n = 1, inner = 1;
        for (int i = 0; i < rank; i++) {
            int64_t *part = i < first ? &outer : i <= last ? &n : &inner;
            *part *= shape[i];
            if (i >= first && i <= last)
                shape[i] = 1;
        }
        /* The first fold also brings 16-bit elements to the carried type, even where n is 1. */
        if (n > 1 || !folded)
            t = fold_step(device, fold, t, outer, n, inner);
        folded = true;
        last = first;
    }
    return t;
}

/* y = t / count, converted to y's dtype. */
static bool finish(const tensor *t, tensor *y, int64_t count)
{
    tensor *view = t == NULL ? NULL : tensor_to_scope(tensor_view(t, y->rank, y->shape, y->strides, t->offset));
    if (view != NULL && count != 1)
        view = tsr_div(view, tsr_full(view->storage->device, view->dtype, 0, NULL, (double)count));
    return view != NULL && tsr_copy_into(y, view) == TSR_OK;
}

static bool reduce_run(const op_call *call, const char *fold, bool mean)
{
    tensor *x = call->in[0], *y = call->out[0];
    unsigned mask;
    if (!axes_mask(call, &mask))
        return false;
    const int64_t n = reduced_count(x, mask);
    if (n == 0)
        return tsr_fill(y, mean ? (double)NAN : 0.0) == TSR_OK;
    if (mask == 0)
        return tsr_copy_into(y, x) == TSR_OK;
    return OP_TEMPORARIES(finish(fold_axes(fold, x, mask), y, mean ? n : 1));
}

static bool sum_run(const op_call *call)
{
    return reduce_run(call, "sum", false);
}

static bool mean_run(const op_call *call)
{
    return reduce_run(call, "sum", true);
}

static bool max_run(const op_call *call)
{
    return reduce_run(call, "max", false);
}

/* ---- derivatives ---- */

/* A reduced tensor as one that broadcasts to the input: sizes of 1 where axes went. */
static tensor *with_kept_axes(const op_record *r, tensor *t)
{
    const op_output *x = &r->in_spec[0];
    int64_t shape[TSR_MAX_RANK];
    for (int i = 0; i < x->rank; i++)
        shape[i] = r->attr[0].count == 0 ? 1 : x->shape[i];
    for (int i = 0; i < r->attr[0].count && x->rank > 0; i++) {
        const int64_t axis = r->attr[0].list[i];
        shape[axis < 0 ? axis + x->rank : axis] = 1;
    }
    return tsr_reshape(t, x->rank, shape);
}

static bool sum_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    dx[0] = tsr_expand(with_kept_axes(r, dy[0]), r->in_spec[0].rank, r->in_spec[0].shape);
    return dx[0] != NULL;
}

static bool mean_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    const int64_t in = r->in_spec[0].rank == 0 ? 1 : tsr_numel(dy[0]);
    int64_t all = 1;
    for (int i = 0; i < r->in_spec[0].rank; i++)
        all *= r->in_spec[0].shape[i];
    tensor *scaled = tsr_affine(dy[0], all == 0 ? 0.0 : (double)in / (double)all, 0.0);
    return sum_backward(r, &scaled, dx);
}

/* The gradient is shared by all elements that equal the maximum; where that is NaN, none does and the share 1 / 0 is NaN too. */
static bool max_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    tensor *x = r->in[0], *y = tsr_expand(with_kept_axes(r, r->out[0]), x->rank, x->shape);
    tensor *is_top = op_apply1(op_find("eq"), (tensor *[]){x, y}, 2, NULL);
    tensor *ones = tsr_cast(is_top, x->dtype == TSR_F64 ? TSR_F64 : TSR_F32);
    int axes[TSR_MAX_RANK];
    for (int i = 0; i < r->attr[0].count; i++)
        axes[i] = (int)r->attr[0].list[i];
    tensor *count = tsr_sum(ones, axes, r->attr[0].count, true);
    tensor *share = tsr_div(tsr_cast(with_kept_axes(r, dy[0]), tsr_dtype_of(ones)), with_kept_axes(r, count));
    dx[0] = tsr_cast(tsr_mul(ones, share), x->dtype);
    return dx[0] != NULL;
}

/* ---- argmax: the reduced axes moved to the end, then by rows ---- */

static bool argmax_rows(const op_call *call, unsigned mask)
{
    tensor *x = call->in[0], *y = call->out[0];
    int order[TSR_MAX_RANK], n = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < x->rank; i++)
            if ((int)(mask >> i & 1) == pass)
                order[n++] = i;
    const tensor *rows = contiguous(tsr_permute(x, order));
    const int64_t cols = reduced_count(x, mask);
    const struct {
        uint32_t cols, rows;
    } p = {(uint32_t)cols, (uint32_t)y->numel};
    const grid g = {(uint32_t)min_i64(y->numel, GRID_YZ), 1, (uint32_t)((y->numel + GRID_YZ - 1) / GRID_YZ)};
    return rows != NULL && check_extent("argmax", cols) && check_extent("argmax", y->numel) &&
           LAUNCH(call->device, key_of("argmax_rows", x->dtype), g, &p, tensor_binding(rows), tensor_binding(y));
}

static bool argmax_run(const op_call *call)
{
    unsigned mask;
    return axes_mask(call, &mask) && OP_TEMPORARIES(argmax_rows(call, mask));
}

#define REDUCTION_ATTRS                                                                                                \
    {                                                                                                                  \
        {"axes", ATTR_INTS, false, {0}},                                                                               \
        {                                                                                                              \
            "keep", ATTR_BOOL, false,                                                                                  \
            {                                                                                                          \
                0                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }

const op_row op_sum = {
    .name = "sum",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT | DTYPES_INT,
    .attrs = REDUCTION_ATTRS,
    .autocast = AUTOCAST_F32,
    .infer = sum_infer,
    .run = sum_run,
    .backward = sum_backward,
};

const op_row op_mean = {
    .name = "mean",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT,
    .attrs = REDUCTION_ATTRS,
    .autocast = AUTOCAST_F32,
    .infer = sum_infer,
    .run = mean_run,
    .backward = mean_backward,
};

const op_row op_max = {
    .name = "max",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT | DTYPES_INT,
    .attrs = REDUCTION_ATTRS,
    .autocast = AUTOCAST_WIDEST,
    .infer = max_infer,
    .run = max_run,
    .backward = max_backward,
    .saves = SAVE_INPUT(0) | SAVE_OUTPUT(0),
};

const op_row op_argmax = {
    .name = "argmax",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT | DTYPES_INT,
    .attrs = REDUCTION_ATTRS,
    .autocast = AUTOCAST_NONE,
    .infer = argmax_infer,
    .run = argmax_run,
};

static tensor *reduction(const op_row *row, tensor *x, const int *axes, int count, bool keep)
{
    attr_value list = {.count = axes == NULL ? 0 : count};
    if (count < 0 || count > TSR_MAX_RANK) {
        fail(TSR_OUT_OF_RANGE, "%s: %d axes; a tensor has at most %d", row->name, count, TSR_MAX_RANK);
        return NULL;
    }
    for (int i = 0; i < list.count; i++)
        list.list[i] = axes[i];
    return OP1(*row, ATTRS(list, A_INT(keep)), x);
}

tsr_tensor *tsr_sum(tsr_tensor *x, const int *axes, int count, bool keep)
{
    return reduction(&op_sum, x, axes, count, keep);
}

tsr_tensor *tsr_mean(tsr_tensor *x, const int *axes, int count, bool keep)
{
    return reduction(&op_mean, x, axes, count, keep);
}

tsr_tensor *tsr_max(tsr_tensor *x, const int *axes, int count, bool keep)
{
    return reduction(&op_max, x, axes, count, keep);
}

tsr_tensor *tsr_argmax(tsr_tensor *x, const int *axes, int count, bool keep)
{
    return reduction(&op_argmax, x, axes, count, keep);
}
