/* Reductions made of the folds of reduce.h: any, all, count_nonzero; var, std, norm; and logsumexp, which has a kernel. */
#include <math.h>

#include "base/checked.h"
#include "base/error.h"
#include "ops/reduce.h"
#include "tensor/device.h"
#include "tessera/ops.h"

/* ---- truth ---- */

static bool any_infer(const op_call *call, op_output *out)
{
    out->dtype = TSR_BOOL;
    return reduce_shape(call, out);
}

static bool count_infer(const op_call *call, op_output *out)
{
    out->dtype = TSR_I64;
    return reduce_shape(call, out);
}

/* Truth as numbers, folded: any is the largest, all the smallest, count_nonzero the sum. */
static bool fold_truth(const op_call *call, const char *fold, tsr_dtype dtype, double empty)
{
    tensor *x = call->in[0], *y = call->out[0];
    unsigned mask;
    if (!reduce_mask(call, &mask))
        return false;
    if (x->numel == 0)
        return tsr_fill(y, empty) == TSR_OK;
    tensor *ones = tsr_cast(tsr_cast(x, TSR_BOOL), dtype);
    return ones != NULL && reduce_finish(reduce_fold(fold, ones, mask), y, 1);
}

static bool any_run(const op_call *call)
{
    return OP_TEMPORARIES(fold_truth(call, "max", TSR_I32, 0));
}

static bool all_run(const op_call *call)
{
    return OP_TEMPORARIES(fold_truth(call, "min", TSR_I32, 1));
}

static bool count_run(const op_call *call)
{
    return OP_TEMPORARIES(fold_truth(call, "sum", TSR_I64, 0));
}

/* ---- var and std ---- */

/* x less its mean over the axes of mask, in the carried dtype. */
static tensor *deviation(tensor *x, unsigned mask)
{
    tensor *carried = tsr_cast(x, reduce_dtype(x->dtype));
    tensor *sum = carried == NULL ? NULL : reduce_fold("sum", carried, mask);
    tensor *mean = tsr_affine(sum, 1.0 / (double)reduce_count(x, mask), 0.0);
    return tsr_sub(carried, reduce_kept(mean, x->rank, x->shape, mask));
}

static double divisor_of(const tensor *x, unsigned mask, const attr_value *correction)
{
    return fmax(0.0, (double)reduce_count(x, mask) - correction->f);
}

/* Two passes, and what the rounding of the mean left in the first is taken out of the second (Chan, Golub and LeVeque 1983):
 * (sum d^2 - (sum d)^2 / n) / (n - correction). */
static bool spread(const op_call *call, bool root)
{
    tensor *x = call->in[0], *y = call->out[0];
    unsigned mask;
    if (!reduce_mask(call, &mask))
        return false;
    const double n = (double)reduce_count(x, mask), divisor = divisor_of(x, mask, &call->attr[2]);
    if (n == 0)
        return tsr_fill(y, (double)NAN) == TSR_OK;
    tensor *d = deviation(x, mask), *squares = tsr_square(d);
    if (squares == NULL)
        return false;
    tensor *left = tsr_affine(tsr_square(reduce_fold("sum", d, mask)), 1.0 / n, 0.0);
    tensor *total = tsr_sub(reduce_fold("sum", squares, mask), left);
    total = tsr_div(total, tsr_full(call->device, total == NULL ? TSR_F32 : total->dtype, 0, NULL, divisor));
    return reduce_finish(root ? tsr_sqrt(total) : total, y, 1);
}

static bool var_run(const op_call *call)
{
    return OP_TEMPORARIES(spread(call, false));
}

static bool std_run(const op_call *call)
{
    return OP_TEMPORARIES(spread(call, true));
}

/* dx = scale (x - mean) / divisor, `scale` of the result's shape and carried dtype. */
static bool spread_backward(const op_record *r, tensor *scale, tensor **dx)
{
    const tensor *x = r->in[0];
    const unsigned mask = reduce_mask_of(r);
    if (x->numel == 0) {
        dx[0] = tsr_zeros(r->device, x->dtype, x->rank, x->shape);
        return dx[0] != NULL;
    }
    tensor *divisor = tsr_full(r->device, reduce_dtype(x->dtype), 0, NULL, divisor_of(x, mask, &r->attr[2]));
    tensor *d = tsr_mul(deviation(r->in[0], mask), reduce_spread(r, tsr_div(scale, divisor)));
    dx[0] = tsr_cast(d, x->dtype);
    return dx[0] != NULL;
}

static bool var_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    return spread_backward(r, tsr_affine(tsr_cast(dy[0], reduce_dtype(r->in[0]->dtype)), 2.0, 0.0), dx);
}

/* 0 where the deviation is 0, as in PyTorch. */
static bool std_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    const tsr_dtype dtype = reduce_dtype(r->in[0]->dtype);
    tensor *y = tsr_cast(r->out[0], dtype), *zero = tsr_zeros(r->device, dtype, 0, NULL);
    return spread_backward(r, tsr_masked_fill(tsr_div(tsr_cast(dy[0], dtype), y), tsr_eq(y, zero), 0.0), dx);
}

/* ---- norm ---- */

static bool norm_infer(const op_call *call, op_output *out)
{
    const double p = call->attr[2].f;
    if (p != 1 && p != 2 && !(isinf(p) && p > 0)) {
        fail(TSR_UNSUPPORTED, "norm: p is %g; 1, 2 and infinity are known", p);
        return false;
    }
    return reduce_infer(call, out) && (!isinf(p) || reduce_not_empty(call));
}

static bool norm_of(const op_call *call)
{
    const double p = call->attr[2].f;
    unsigned mask;
    if (!reduce_mask(call, &mask))
        return false;
    if (call->in[0]->numel == 0)
        return tsr_fill(call->out[0], 0) == TSR_OK;
    tensor *x = tsr_cast(call->in[0], reduce_dtype(call->in[0]->dtype));
    tensor *terms = p == 2 ? tsr_square(x) : tsr_abs(x);
    if (terms == NULL)
        return false;
    tensor *t = reduce_fold(isinf(p) ? "max" : "sum", terms, mask);
    return reduce_finish(p == 2 ? tsr_sqrt(t) : t, call->out[0], 1);
}

static bool norm_run(const op_call *call)
{
    return OP_TEMPORARIES(norm_of(call));
}

/* 1: sign x. 2: x / y, and 0 where y is. Infinity: sign x, shared equally by the elements that are as large as y. */
static bool norm_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    const tsr_dtype dtype = reduce_dtype(r->in[0]->dtype);
    const double p = r->attr[2].f;
    tensor *x = tsr_cast(r->in[0], dtype), *y = reduce_spread(r, tsr_cast(r->out[0], dtype));
    tensor *g = reduce_spread(r, tsr_cast(dy[0], dtype)), *d;
    if (x == NULL || y == NULL || g == NULL)
        return false;
    if (x->numel == 0) {
        d = x;
    } else if (p == 2) {
        tensor *none = tsr_eq(y, tsr_zeros(r->device, dtype, 0, NULL));
        d = tsr_mul(x, tsr_masked_fill(tsr_div(g, y), none, 0.0));
    } else if (p == 1) {
        d = tsr_mul(tsr_sign(x), g);
    } else {
        /* In the dtype of x: its result was rounded to it. */
        tensor *largest = tsr_cast(tsr_eq(tsr_abs(r->in[0]), reduce_spread(r, r->out[0])), dtype);
        if (largest == NULL)
            return false;
        tensor *count = reduce_spread(r, reduce_fold("sum", largest, reduce_mask_of(r)));
        d = tsr_mul(tsr_mul(tsr_sign(x), largest), tsr_div(g, count));
    }
    dx[0] = tsr_cast(d, r->in[0]->dtype);
    return dx[0] != NULL;
}

/* ---- logsumexp ---- */

static bool logsumexp_of(const op_call *call)
{
    const tensor *x = call->in[0], *y = call->out[0];
    unsigned mask;
    if (!reduce_mask(call, &mask))
        return false;
    if (x->numel == 0)
        return tsr_fill(call->out[0], -(double)INFINITY) == TSR_OK;
    const tensor *rows = reduce_rows(call->in[0], mask);
    const int64_t cols = reduce_count(x, mask);
    const struct {
        uint32_t cols;
    } p = {(uint32_t)cols};
    if (cols > INT32_MAX || y->numel > INT32_MAX) {
        fail(TSR_UNSUPPORTED, "logsumexp: %lld rows of %lld elements are more than a kernel can count",
             (long long)y->numel, (long long)cols);
        return false;
    }
    return rows != NULL && LAUNCH(call->device, key_of("logsumexp", x->dtype), ((grid){(uint32_t)y->numel, 1, 1}), &p,
                                  tensor_binding(rows), tensor_binding(y));
}

static bool logsumexp_run(const op_call *call)
{
    return OP_TEMPORARIES(logsumexp_of(call));
}

/* dx = dy softmax(x) over the reduced axes: exp(x - y) would keep few digits beside large x. */
static bool logsumexp_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    tensor *x = r->in[0];
    const unsigned mask = reduce_mask_of(r);
    if (x->numel == 0) {
        dx[0] = tsr_zeros(r->device, x->dtype, x->rank, x->shape);
        return dx[0] != NULL;
    }
    tensor *rows = reduce_rows(x, mask);
    const int64_t n = reduce_count(x, mask), shape[] = {x->numel / n, n}, one[] = {x->numel / n, 1};
    tensor *share = tsr_mul(tsr_softmax(tsr_reshape(rows, 2, shape), 1), tsr_reshape(dy[0], 2, one));
    if (rows == NULL || share == NULL)
        return false;
    int back[TSR_MAX_RANK], at = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < x->rank; i++)
            if ((int)(mask >> i & 1) == pass)
                back[i] = at++;
    dx[0] = tsr_permute(tsr_reshape(share, rows->rank, rows->shape), back);
    return dx[0] != NULL;
}

/* ---- rows ---- */

#define TRUTH(row, label, infers, runs)                                                                                \
    const op_row row = {                                                                                               \
        .name = label,                                                                                                 \
        .inputs_min = 1,                                                                                               \
        .inputs_max = 1,                                                                                               \
        .outputs = 1,                                                                                                  \
        .dtypes = DTYPES_ALL,                                                                                          \
        .attrs = REDUCTION_ATTRS,                                                                                      \
        .autocast = AUTOCAST_NONE,                                                                                     \
        .infer = infers,                                                                                               \
        .run = runs,                                                                                                   \
    }
TRUTH(op_any, "any", any_infer, any_run);
TRUTH(op_all, "all", any_infer, all_run);
TRUTH(op_count_nonzero, "count_nonzero", count_infer, count_run);

const op_row op_var = {
    .name = "var",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT,
    .attrs = {REDUCTION_AXES, {"correction", ATTR_FLOAT, false, {.f = 1}}},
    .autocast = AUTOCAST_F32,
    .infer = reduce_infer,
    .run = var_run,
    .backward = var_backward,
    .saves = SAVE_INPUT(0),
};

const op_row op_std = {
    .name = "std",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT,
    .attrs = {REDUCTION_AXES, {"correction", ATTR_FLOAT, false, {.f = 1}}},
    .autocast = AUTOCAST_F32,
    .infer = reduce_infer,
    .run = std_run,
    .backward = std_backward,
    .saves = SAVE_INPUT(0) | SAVE_OUTPUT(0),
};

const op_row op_norm = {
    .name = "norm",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT,
    .attrs = {REDUCTION_AXES, {"p", ATTR_FLOAT, false, {.f = 2}}},
    .autocast = AUTOCAST_F32,
    .infer = norm_infer,
    .run = norm_run,
    .backward = norm_backward,
    .saves = SAVE_INPUT(0) | SAVE_OUTPUT(0),
};

const op_row op_logsumexp = {
    .name = "logsumexp",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT,
    .attrs = REDUCTION_ATTRS,
    .autocast = AUTOCAST_F32,
    .infer = reduce_infer,
    .run = logsumexp_run,
    .backward = logsumexp_backward,
    .saves = SAVE_INPUT(0),
};

#define REDUCTION(name)                                                                                                \
    tsr_tensor *tsr_##name(tsr_tensor *x, const int *axes, int count, bool keep)                                       \
    {                                                                                                                  \
        return reduce_apply(&op_##name, x, axes, count, keep, A_INT(0));                                               \
    }

REDUCTION(any)
REDUCTION(all)
REDUCTION(count_nonzero)
REDUCTION(logsumexp)

tsr_tensor *tsr_var(tsr_tensor *x, const int *axes, int count, bool keep, double correction)
{
    return reduce_apply(&op_var, x, axes, count, keep, A_FLOAT(correction));
}

tsr_tensor *tsr_std(tsr_tensor *x, const int *axes, int count, bool keep, double correction)
{
    return reduce_apply(&op_std, x, axes, count, keep, A_FLOAT(correction));
}

tsr_tensor *tsr_norm(tsr_tensor *x, const int *axes, int count, bool keep, double p)
{
    return reduce_apply(&op_norm, x, axes, count, keep, A_FLOAT(p));
}
