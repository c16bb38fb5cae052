/* Operators along rows and columns: reductions, scans, softmax and losses, normalisation, attention, indices, sorting. */
#include "every_kernel.h"

typedef tsr_tensor *reducing(tsr_tensor *x, const int *axes, int count, bool keep);

void every_reduction(const run *r)
{
    static const tsr_dtype dtypes[] = {TSR_F32, TSR_F16, TSR_BF16, TSR_F64, TSR_I32, TSR_I64};
    static reducing *const reductions[] = {tsr_sum,  tsr_prod, tsr_max,    tsr_min,    tsr_amax,
                                           tsr_amin, tsr_any,  tsr_argmax, tsr_argmin, tsr_count_nonzero};
    EACH_DTYPE(dtype, dtypes)
    {
        require_ok(r, tsr_scope_begin());
        for (size_t i = 0; i < sizeof reductions / sizeof reductions[0]; i++)
            for (int axis = 0; axis < 2; axis++)
                differentiate(r, reductions[i](operand(r, dtype, SHAPE(6, 5)), &axis, 1, false));
        for (int axis = 0; axis < 2; axis++) {
            differentiate(r, tsr_cumsum(operand(r, dtype, SHAPE(6, 5)), axis));
            differentiate(r, tsr_cumprod(operand(r, dtype, SHAPE(6, 5)), axis));
        }
        require_ok(r, tsr_scope_end());
    }
    EACH_DTYPE(dtype, float_dtypes)
    {
        require_ok(r, tsr_scope_begin());
        differentiate(r, tsr_mean(operand(r, dtype, SHAPE(6, 5)), NULL, 0, false));
        differentiate(r, tsr_var(operand(r, dtype, SHAPE(6, 5)), (int[]){1}, 1, false, 1));
        differentiate(r, tsr_std(operand(r, dtype, SHAPE(6, 5)), (int[]){0}, 1, false, 1));
        differentiate(r, tsr_norm(operand(r, dtype, SHAPE(6, 5)), NULL, 0, false, 2));
        differentiate(r, tsr_logsumexp(operand(r, dtype, SHAPE(6, 5)), (int[]){1}, 1, false));
        require_ok(r, tsr_scope_end());
    }
}

static void every_loss(const run *r, tsr_dtype dtype)
{
    EACH_DTYPE(target_dtype, integer_dtypes)
    {
        tsr_tensor *target = indices(r, target_dtype, 3, SHAPE(4));
        differentiate(r, tsr_cross_entropy(operand(r, dtype, SHAPE(4, 3)), target));
        differentiate(r, tsr_cross_entropy_with(operand(r, dtype, SHAPE(4, 3)), target, operand(r, dtype, SHAPE(3)),
                                                TSR_REDUCTION_NONE, 1, 0.1));
        differentiate(r, tsr_nll(operand(r, dtype, SHAPE(4, 3)), target, NULL, TSR_REDUCTION_SUM, -100));
    }
    tsr_tensor *a = operand(r, dtype, SHAPE(4, 3)), *b = operand(r, dtype, SHAPE(4, 3));
    for (tsr_reduction reduction = TSR_REDUCTION_MEAN; reduction <= TSR_REDUCTION_NONE; reduction++) {
        differentiate(r, tsr_mse(a, b, reduction));
        differentiate(r, tsr_l1(a, b, reduction));
        differentiate(r, tsr_smooth_l1(a, b, 0.5, reduction));
        differentiate(r, tsr_huber(a, b, 0.5, reduction));
        differentiate(r, tsr_bce_with_logits(a, b, reduction));
        differentiate(r, tsr_kl_div(a, b, false, reduction));
    }
}

static void every_attention(const run *r, tsr_dtype dtype)
{
    static const tsr_dtype masks[] = {TSR_BOOL};
    tsr_tensor *q = operand(r, dtype, SHAPE(2, 5, 4)), *k = operand(r, dtype, SHAPE(1, 6, 4)),
               *v = operand(r, dtype, SHAPE(1, 6, 3));
    differentiate(r, tsr_scaled_dot_product_attention(q, k, v, NULL, true, 0));
    differentiate(r, tsr_scaled_dot_product_attention(q, k, v, operand(r, dtype, SHAPE(5, 6)), false, 0));
    EACH_DTYPE(mask, masks)
    differentiate(r, tsr_scaled_dot_product_attention(q, k, v, operand(r, mask, SHAPE(5, 6)), false, 0));
    tsr_tensor *cosine = NULL, *sine = NULL;
    const tsr_dtype table = dtype == TSR_F64 ? TSR_F64 : TSR_F32;
    require_ok(r, tsr_rotary_tables(r->device, table, 5, 4, 10000, &cosine, &sine));
    differentiate(r, tsr_rotary_embedding(q, cosine, sine, false));
    differentiate(r, tsr_rotary_embedding(q, cosine, sine, true));
}

static void every_cell(const run *r, tsr_dtype dtype)
{
    tsr_tensor *state = operand(r, dtype, SHAPE(2, 3)), *h_next = NULL, *c_next = NULL;
    require_ok(
        r, tsr_lstm_cell(operand(r, dtype, SHAPE(2, 12)), operand(r, dtype, SHAPE(2, 12)), state, &h_next, &c_next));
    differentiate(r, tsr_add(h_next, c_next));
    differentiate(r, tsr_gru_cell(operand(r, dtype, SHAPE(2, 9)), operand(r, dtype, SHAPE(2, 9)), state));
}

void every_row(const run *r)
{
    EACH_DTYPE(dtype, float_dtypes)
    {
        require_ok(r, tsr_scope_begin());
        for (int axis = 0; axis < 2; axis++) {
            differentiate(r, tsr_softmax(operand(r, dtype, SHAPE(6, 5)), axis));
            differentiate(r, tsr_log_softmax(operand(r, dtype, SHAPE(6, 5)), axis));
        }
        tsr_tensor *weight = operand(r, dtype, SHAPE(5)), *bias = operand(r, dtype, SHAPE(5));
        differentiate(r, tsr_layer_norm(operand(r, dtype, SHAPE(6, 5)), SHAPE(5), weight, bias, 1e-5));
        differentiate(r, tsr_rms_norm(operand(r, dtype, SHAPE(6, 5)), SHAPE(5), weight, 1e-5));
        differentiate(r, tsr_group_norm(operand(r, dtype, SHAPE(2, 4, 3)), 2, NULL, NULL, 1e-5));
        every_cell(r, dtype);
        every_loss(r, dtype);
        every_attention(r, dtype);
        require_ok(r, tsr_scope_end());
    }
}

static void every_sort(const run *r, tsr_dtype dtype)
{
    tsr_tensor *values = NULL, *places = NULL;
    require_ok(r, tsr_sort(operand(r, dtype, SHAPE(2, 70)), 1, false, &values, &places));
    differentiate(r, values);
    require_ok(r, tsr_topk(operand(r, dtype, SHAPE(3, 7)), 2, 0, true, &values, &places));
    differentiate(r, values);
}

static bool adds_up(tsr_dtype dtype)
{
    return dtype != TSR_U8 && dtype != TSR_BOOL;
}

void every_index(const run *r)
{
    EACH_DTYPE(dtype, all_dtypes)
    EACH_DTYPE(index_dtype, integer_dtypes)
    {
        require_ok(r, tsr_scope_begin());
        for (int axis = 0; axis < 2; axis++) {
            const int64_t size = axis == 0 ? 4 : 5;
            tsr_tensor *x = operand(r, dtype, SHAPE(4, 5)), *line = indices(r, index_dtype, size, SHAPE(size));
            tsr_tensor *whole = indices(r, index_dtype, size, SHAPE(4, 5));
            differentiate(r, tsr_index_select(x, axis, line));
            differentiate(r, tsr_gather(x, axis, whole));
            differentiate(r, tsr_scatter(x, axis, whole, operand(r, dtype, SHAPE(4, 5))));
            if (adds_up(dtype)) {
                differentiate(r, tsr_index_add(x, axis, line, operand(r, dtype, SHAPE(4, 5))));
                differentiate(r, tsr_scatter_add(x, axis, whole, operand(r, dtype, SHAPE(4, 5))));
            }
        }
        require(r, tsr_one_hot(indices(r, index_dtype, 3, SHAPE(4)), 3));
        if (adds_up(dtype))
            every_sort(r, dtype);
        require_ok(r, tsr_scope_end());
    }
    EACH_DTYPE(dtype, float_dtypes)
    {
        require_ok(r, tsr_scope_begin());
        differentiate(r, tsr_embedding(operand(r, dtype, SHAPE(4, 5)), indices(r, TSR_I64, 4, SHAPE(2, 3)), 1));
        require_ok(r, tsr_scope_end());
    }
}
