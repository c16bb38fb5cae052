/* Reductions over any axes: sum, mean, prod, extremes and their places; what composed ones stand on (reduce.h).
 *
 * Axes are reduced group by group of neighbours, the innermost first: a group that lies innermost in memory by rows, others
 * by columns; each in the canonical order (64 lanes, blocks of 8192). Partial results stay in the arithmetic's type. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "ops/reduce.h"
#include "tensor/device.h"
#include "tessera/ops.h"

enum { BLOCK = 8192, COLUMN_TILE = 32, COLUMN_STRIP = 256, STRIP_GROUPS = 16, GRID_YZ = 65535 };

tsr_dtype reduce_dtype(tsr_dtype x)
{
    return x == TSR_F16 || x == TSR_BF16 ? TSR_F32 : x;
}

/* ---- which axes ---- */

bool reduce_mask(const op_call *call, unsigned *mask)
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

bool reduce_shape(const op_call *call, op_output *out)
{
    const tensor *x = call->in[0];
    unsigned mask;
    if (!reduce_mask(call, &mask))
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

int64_t reduce_count(const tensor *x, unsigned mask)
{
    int64_t n = 1;
    for (int i = 0; i < x->rank; i++)
        if ((mask >> i & 1) != 0)
            n *= x->shape[i];
    return n;
}

bool reduce_infer(const op_call *call, op_output *out)
{
    out->dtype = call->in[0]->dtype;
    return reduce_shape(call, out);
}

bool reduce_not_empty(const op_call *call)
{
    unsigned mask;
    if (!reduce_mask(call, &mask))
        return false;
    if (reduce_count(call->in[0], mask) > 0)
        return true;
    fail(TSR_INVALID_ARGUMENT, "%s: the reduced axes of %s are empty, and an empty %s has no value", call->row->name,
         tensor_text(call->in[0]), call->row->name);
    return false;
}

static bool max_infer(const op_call *call, op_output *out)
{
    return reduce_infer(call, out) && reduce_not_empty(call);
}

static bool argmax_infer(const op_call *call, op_output *out)
{
    out->dtype = TSR_I64;
    return reduce_shape(call, out) && reduce_not_empty(call);
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
    char name[24];
    snprintf(name, sizeof name, "%s_rows", fold);
    const kernel_key key = key_of(name, x->dtype);
    const grid g = {p.blocks, (uint32_t)min_i64(rows, GRID_YZ), (uint32_t)((rows + GRID_YZ - 1) / GRID_YZ)};
    return LAUNCH(device, key, g, &p, tensor_binding(x), tensor_binding(y));
}

/* Columns for a work-group of a processor: a wide strip reads memory best, but there should be some for every thread. */
static int64_t strip_of(int64_t others, int64_t inner)
{
    int64_t strip = COLUMN_STRIP;
    while (strip > COLUMN_TILE && (inner + strip - 1) / strip * others < STRIP_GROUPS)
        strip /= 2;
    return strip;
}

static bool fold_columns(tsr_device *device, const char *fold, const tensor *x, tensor *y, int64_t outer, int64_t n,
                         int64_t inner)
{
    const bool strips = device_variant(device) == HAL_CLASS_CPU;
    const int64_t blocks = (n + BLOCK - 1) / BLOCK, width = strips ? strip_of(outer * blocks, inner) : COLUMN_TILE;
    const struct {
        uint32_t rows, cols, block, blocks, width;
    } p = {(uint32_t)n, (uint32_t)inner, BLOCK, (uint32_t)blocks, (uint32_t)width};
    if (outer > GRID_YZ || p.blocks > GRID_YZ) {
        fail(TSR_UNSUPPORTED, "%s over the middle of %s: more than %d outer indices or blocks", fold, tensor_text(x),
             GRID_YZ);
        return false;
    }
    return LAUNCH(device, key_op(strips ? "reduce_strips" : "reduce_columns", x->dtype, fold),
                  ((grid){(uint32_t)((inner + width - 1) / width), p.blocks, (uint32_t)outer}), &p, tensor_binding(x),
                  tensor_binding(y));
}

/* Until one is left of every n. The result is of the carried dtype; x itself where n was 1 and it has that dtype. */
static tensor *fold_step(tsr_device *device, const char *fold, tensor *x, int64_t outer, int64_t n, int64_t inner)
{
    if (!check_extent(fold, n) || !check_extent(fold, inner) || !check_extent(fold, outer))
        return NULL;
    do {
        const int64_t blocks = (n + BLOCK - 1) / BLOCK;
        tensor *y = tsr_empty(device, reduce_dtype(x->dtype), 3, (int64_t[]){outer, blocks, inner});
        if (y == NULL ||
            !(inner == 1 ? fold_rows(device, fold, x, y, outer, n) : fold_columns(device, fold, x, y, outer, n, inner)))
            return NULL;
        x = y;
        n = blocks;
    } while (n > 1);
    return x;
}

tensor *reduce_fold(const char *fold, tensor *x, unsigned mask)
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

bool reduce_finish(const tensor *t, tensor *y, int64_t count)
{
    tensor *view = t == NULL ? NULL : tensor_to_scope(tensor_view(t, y->rank, y->shape, y->strides, t->offset));
    if (view != NULL && count != 1)
        view = tsr_div(view, tsr_full(view->storage->device, view->dtype, 0, NULL, (double)count));
    return view != NULL && tsr_copy_into(y, view) == TSR_OK;
}

/* `empty` is the result where nothing is folded. */
static bool reduce_run(const op_call *call, const char *fold, bool mean, double empty)
{
    tensor *x = call->in[0], *y = call->out[0];
    unsigned mask;
    if (!reduce_mask(call, &mask))
        return false;
    const int64_t n = reduce_count(x, mask);
    if (n == 0)
        return tsr_fill(y, empty) == TSR_OK;
    if (mask == 0)
        return tsr_copy_into(y, x) == TSR_OK;
    return OP_TEMPORARIES(reduce_finish(reduce_fold(fold, x, mask), y, mean ? n : 1));
}

static bool sum_run(const op_call *call)
{
    return reduce_run(call, "sum", false, 0);
}

static bool mean_run(const op_call *call)
{
    return reduce_run(call, "sum", true, (double)NAN);
}

static bool max_run(const op_call *call)
{
    return reduce_run(call, "max", false, 0);
}

static bool min_run(const op_call *call)
{
    return reduce_run(call, "min", false, 0);
}

static bool prod_run(const op_call *call)
{
    return reduce_run(call, "prod", false, 1);
}

/* ---- derivatives ---- */

tensor *reduce_kept(tensor *t, int rank, const int64_t *shape, unsigned mask)
{
    int64_t kept[TSR_MAX_RANK];
    for (int i = 0; i < rank; i++)
        kept[i] = (mask >> i & 1) != 0 ? 1 : shape[i];
    return tsr_reshape(t, rank, kept);
}

unsigned reduce_mask_of(const op_record *r)
{
    const int rank = r->in_spec[0].rank;
    unsigned mask = r->attr[0].count == 0 ? (1u << rank) - 1 : 0;
    for (int i = 0; i < r->attr[0].count && rank > 0; i++)
        mask |= 1u << (r->attr[0].list[i] < 0 ? r->attr[0].list[i] + rank : r->attr[0].list[i]);
    return mask;
}

tensor *reduce_spread(const op_record *r, tensor *t)
{
    return reduce_kept(t, r->in_spec[0].rank, r->in_spec[0].shape, reduce_mask_of(r));
}

static bool sum_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    dx[0] = tsr_expand(reduce_spread(r, dy[0]), r->in_spec[0].rank, r->in_spec[0].shape);
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

/* The product of all others: of all that are not 0, divided by the element, where it is the group's only 0 or there is none. */
static bool prod_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    const unsigned mask = reduce_mask_of(r);
    const tsr_dtype dtype = reduce_dtype(r->in[0]->dtype);
    tensor *x = tsr_cast(r->in[0], dtype), *zero = tsr_zeros(r->device, dtype, 0, NULL);
    if (x == NULL || x->numel == 0)
        return x != NULL && (dx[0] = tsr_zeros(r->device, r->in[0]->dtype, x->rank, x->shape)) != NULL;
    tensor *is_zero = tsr_eq(x, zero), *ones = tsr_cast(is_zero, dtype);
    tensor *rest = tsr_masked_fill(x, is_zero, 1.0);
    if (ones == NULL || rest == NULL)
        return false;
    tensor *product = reduce_spread(r, reduce_fold("prod", rest, mask));
    tensor *zeros = reduce_spread(r, reduce_fold("sum", ones, mask));
    tensor *others = tsr_mul(reduce_spread(r, tsr_cast(dy[0], dtype)), tsr_div(product, rest));
    dx[0] = tsr_cast(tsr_where(tsr_eq(zeros, ones), others, zero), r->in[0]->dtype);
    return dx[0] != NULL;
}

/* The gradient is shared by all elements that equal the maximum or minimum; where that is NaN, none does and the share 1 / 0 is NaN too. */
static bool max_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    tensor *x = r->in[0], *y = tsr_expand(reduce_spread(r, r->out[0]), x->rank, x->shape);
    tensor *ones = tsr_cast(tsr_eq(x, y), x->dtype == TSR_F64 ? TSR_F64 : TSR_F32);
    int axes[TSR_MAX_RANK];
    for (int i = 0; i < r->attr[0].count; i++)
        axes[i] = (int)r->attr[0].list[i];
    tensor *count = tsr_sum(ones, axes, r->attr[0].count, true);
    tensor *share = tsr_div(tsr_cast(reduce_spread(r, dy[0]), tsr_dtype_of(ones)), reduce_spread(r, count));
    dx[0] = tsr_cast(tsr_mul(ones, share), x->dtype);
    return dx[0] != NULL;
}

/* ---- argmax: the reduced axes moved to the end, then by rows ---- */

tensor *reduce_rows(tensor *x, unsigned mask)
{
    int order[TSR_MAX_RANK], n = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < x->rank; i++)
            if ((int)(mask >> i & 1) == pass)
                order[n++] = i;
    return contiguous(tsr_permute(x, order));
}

static bool argmax_rows(const op_call *call, unsigned mask)
{
    const tensor *x = call->in[0], *y = call->out[0];
    const tensor *rows = reduce_rows(call->in[0], mask);
    const int64_t cols = reduce_count(x, mask);
    const struct {
        uint32_t cols, rows, least;
    } p = {(uint32_t)cols, (uint32_t)y->numel, strcmp(call->row->name, "argmin") == 0};
    const grid g = {(uint32_t)min_i64(y->numel, GRID_YZ), 1, (uint32_t)((y->numel + GRID_YZ - 1) / GRID_YZ)};
    return rows != NULL && check_extent("argmax", cols) && check_extent("argmax", y->numel) &&
           LAUNCH(call->device, key_of("argmax_rows", x->dtype), g, &p, tensor_binding(rows), tensor_binding(y));
}

static bool argmax_run(const op_call *call)
{
    unsigned mask;
    return reduce_mask(call, &mask) && OP_TEMPORARIES(argmax_rows(call, mask));
}

const op_row op_sum = {
    .name = "sum",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT | DTYPES_INT,
    .attrs = REDUCTION_ATTRS,
    .autocast = AUTOCAST_F32,
    .infer = reduce_infer,
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
    .infer = reduce_infer,
    .run = mean_run,
    .backward = mean_backward,
};

const op_row op_prod = {
    .name = "prod",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT | DTYPES_INT,
    .attrs = REDUCTION_ATTRS,
    .autocast = AUTOCAST_F32,
    .infer = reduce_infer,
    .run = prod_run,
    .backward = prod_backward,
    .saves = SAVE_INPUT(0),
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

const op_row op_amax = {
    .name = "amax",
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

const op_row op_min = {
    .name = "min",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT | DTYPES_INT,
    .attrs = REDUCTION_ATTRS,
    .autocast = AUTOCAST_WIDEST,
    .infer = max_infer,
    .run = min_run,
    .backward = max_backward,
    .saves = SAVE_INPUT(0) | SAVE_OUTPUT(0),
};

const op_row op_amin = {
    .name = "amin",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT | DTYPES_INT,
    .attrs = REDUCTION_ATTRS,
    .autocast = AUTOCAST_WIDEST,
    .infer = max_infer,
    .run = min_run,
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

const op_row op_argmin = {
    .name = "argmin",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT | DTYPES_INT,
    .attrs = REDUCTION_ATTRS,
    .autocast = AUTOCAST_NONE,
    .infer = argmax_infer,
    .run = argmax_run,
};

tensor *reduce_apply(const op_row *row, tensor *x, const int *axes, int count, bool keep, attr_value third)
{
    attr_value list = {.count = axes == NULL ? 0 : count};
    if (count < 0 || count > TSR_MAX_RANK) {
        fail(TSR_OUT_OF_RANGE, "%s: %d axes; a tensor has at most %d", row->name, count, TSR_MAX_RANK);
        return NULL;
    }
    for (int i = 0; i < list.count; i++)
        list.list[i] = axes[i];
    return OP1(*row, ATTRS(list, A_INT(keep), third), x);
}

#define REDUCTION(name)                                                                                                \
    tsr_tensor *tsr_##name(tsr_tensor *x, const int *axes, int count, bool keep)                                       \
    {                                                                                                                  \
        return reduce_apply(&op_##name, x, axes, count, keep, A_INT(0));                                               \
    }

REDUCTION(sum)
REDUCTION(mean)
REDUCTION(prod)
REDUCTION(max)
REDUCTION(min)
REDUCTION(amax)
REDUCTION(amin)
REDUCTION(argmax)
REDUCTION(argmin)
