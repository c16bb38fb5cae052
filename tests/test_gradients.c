/* Every differentiable operator against central differences in f64 on the CPU device, with PyTorch's tolerances (torch.autograd.gradcheck:
 * eps 1e-6, atol 1e-5, rtol 1e-3), and twice with bitwise equal gradients. */
#include "tests/unit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tessera/tessera.h"

enum { MAX_INPUTS = 5, MAX_ELEMENTS = 512 };

typedef struct input {
    int rank;
    int64_t shape[5];
    double low, high;
    bool constant; /* no gradient is asked for */
} input;

typedef struct row {
    const char *name;
    tsr_tensor *(*f)(tsr_tensor **x);
    int count;
    input in[MAX_INPUTS];
} row;

static tsr_device *cpu;

static tsr_tensor *unary(const char *name, tsr_tensor *x, const tsr_attr *attrs, int count)
{
    tsr_tensor *y = NULL;
    return tsr_op_call(name, &x, 1, &y, 1, attrs, count) == TSR_OK ? y : NULL;
}

#define UNARY(op)                                                                                                      \
    static tsr_tensor *f_##op(tsr_tensor **x)                                                                          \
    {                                                                                                                  \
        return unary(#op, x[0], NULL, 0);                                                                              \
    }
UNARY(neg)
UNARY(abs)
UNARY(square)
UNARY(reciprocal)
UNARY(sqrt)
UNARY(rsqrt)
UNARY(exp)
UNARY(exp2)
UNARY(expm1)
UNARY(log)
UNARY(log2)
UNARY(log10)
UNARY(log1p)
UNARY(sin)
UNARY(cos)
UNARY(tan)
UNARY(tanh)
UNARY(erf)
UNARY(erfc)
UNARY(sigmoid)
UNARY(relu) UNARY(silu) UNARY(gelu) UNARY(gelu_tanh) UNARY(softplus) static tsr_tensor *f_leaky_relu(tsr_tensor **x)
{
    return tsr_leaky_relu(x[0], 0.1);
}
static tsr_tensor *f_elu(tsr_tensor **x)
{
    return tsr_elu(x[0], 1.3);
}
static tsr_tensor *f_clamp(tsr_tensor **x)
{
    return tsr_clamp(x[0], -0.4, 0.6);
}
static tsr_tensor *f_affine(tsr_tensor **x)
{
    return tsr_affine(x[0], 1.7, -0.3);
}
#define BINARY(op)                                                                                                     \
    static tsr_tensor *f_##op(tsr_tensor **x)                                                                          \
    {                                                                                                                  \
        return tsr_##op(x[0], x[1]);                                                                                   \
    }
BINARY(add)
BINARY(sub)
BINARY(mul)
BINARY(div)
BINARY(pow) BINARY(maximum) BINARY(minimum) BINARY(matmul) static tsr_tensor *ternary(const char *name, tsr_tensor **x)
{
    tsr_tensor *y = NULL;
    const tsr_attr value = {.name = "value", .kind = TSR_ATTR_FLOAT, .f = 0.7};
    return tsr_op_call(name, x, 3, &y, 1, &value, 1) == TSR_OK ? y : NULL;
}
static tsr_tensor *f_addcmul(tsr_tensor **x)
{
    return ternary("addcmul", x);
}
static tsr_tensor *f_addcdiv(tsr_tensor **x)
{
    return ternary("addcdiv", x);
}
static tsr_tensor *f_where(tsr_tensor **x)
{
    tsr_tensor *in[] = {x[0], x[1]}, *less = NULL;
    return tsr_op_call("lt", in, 2, &less, 1, NULL, 0) == TSR_OK ? tsr_where(less, tsr_square(x[0]), x[1]) : NULL;
}
static tsr_tensor *f_linear(tsr_tensor **x)
{
    return tsr_linear(x[0], x[1], x[2]);
}
static tsr_tensor *f_matmul_views(tsr_tensor **x)
{
    return tsr_matmul(tsr_transpose(x[0], -1, -2), tsr_slice(x[1], 1, 0, 8, 2));
}
static tsr_tensor *f_conv2d(tsr_tensor **x)
{
    return tsr_conv2d(x[0], x[1], x[2], &(tsr_conv2d_options){.stride = {2, 1}, .padding = {1, 2}, .dilation = {1, 2}});
}
static tsr_tensor *f_conv2d_groups(tsr_tensor **x)
{
    return tsr_conv2d(x[0], x[1], NULL, &(tsr_conv2d_options){.groups = 2});
}
static const tsr_pool2d_options pool = {.kernel = {3, 2}, .stride = {2, 1}, .padding = {1, 0}};
static tsr_tensor *f_max_pool2d(tsr_tensor **x)
{
    return tsr_max_pool2d(x[0], &pool);
}
static tsr_tensor *f_avg_pool2d(tsr_tensor **x)
{
    return tsr_avg_pool2d(x[0], &pool);
}
static tsr_tensor *f_sum(tsr_tensor **x)
{
    return tsr_sum(x[0], (int[]){0, 2}, 2, false);
}
static tsr_tensor *f_sum_all(tsr_tensor **x)
{
    return tsr_sum(x[0], NULL, 0, false);
}
static tsr_tensor *f_mean(tsr_tensor **x)
{
    return tsr_mean(x[0], (int[]){-1}, 1, true);
}
static tsr_tensor *f_max(tsr_tensor **x)
{
    return tsr_max(x[0], (int[]){1, 2}, 2, false);
}
static const int outer[] = {0, 2};
#define OVER(op, ...)                                                                                                  \
    static tsr_tensor *f_##op(tsr_tensor **x)                                                                          \
    {                                                                                                                  \
        return tsr_##op(x[0], __VA_ARGS__);                                                                            \
    }
OVER(prod, outer, 2, false)
OVER(min, outer, 2, false)
OVER(logsumexp, outer, 2, false)
OVER(var, outer, 2, false, 1)
OVER(std, outer, 2, false, 0)
OVER(norm, outer, 2, true, 2)
static tsr_tensor *f_norm_1(tsr_tensor **x)
{
    return tsr_norm(x[0], NULL, 0, false, 1);
}
static tsr_tensor *f_norm_inf(tsr_tensor **x)
{
    return tsr_norm(x[0], (int[]){1}, 1, true, (double)INFINITY);
}
static tsr_tensor *f_cumsum(tsr_tensor **x)
{
    return tsr_cumsum(x[0], 1);
}
static tsr_tensor *f_cumprod(tsr_tensor **x)
{
    return tsr_cumprod(x[0], 0);
}
static tsr_tensor *f_softmax(tsr_tensor **x)
{
    return tsr_softmax(x[0], -1);
}
static tsr_tensor *f_softmax_middle(tsr_tensor **x)
{
    return tsr_softmax(x[0], 1);
}
static tsr_tensor *f_log_softmax(tsr_tensor **x)
{
    return tsr_log_softmax(x[0], 0);
}
static tsr_tensor *f_cross_entropy(tsr_tensor **x)
{
    return tsr_cross_entropy(x[0], tsr_from_data(cpu, TSR_I64, 1, (int64_t[]){4}, (int64_t[]){2, 0, 4, 2}));
}
static tsr_tensor *f_cross_entropy_smoothed(tsr_tensor **x)
{
    return tsr_cross_entropy_with(x[0], tsr_from_data(cpu, TSR_I32, 1, (int64_t[]){4}, (int32_t[]){2, 0, 4, 2}), x[1],
                                  TSR_REDUCTION_MEAN, 0, 0.2);
}
static tsr_tensor *f_nll(tsr_tensor **x)
{
    return tsr_nll(x[0], tsr_from_data(cpu, TSR_I64, 2, (int64_t[]){2, 2}, (int64_t[]){2, 0, 1, 2}), NULL,
                   TSR_REDUCTION_NONE, 1);
}
static tsr_tensor *f_mse(tsr_tensor **x)
{
    return tsr_mse(x[0], x[1], TSR_REDUCTION_MEAN);
}
static tsr_tensor *f_huber(tsr_tensor **x)
{
    return tsr_huber(x[0], x[1], 0.6, TSR_REDUCTION_NONE);
}
static tsr_tensor *f_kl_div(tsr_tensor **x)
{
    return tsr_kl_div(x[0], x[1], false, TSR_REDUCTION_SUM);
}
static tsr_tensor *f_batch_norm(tsr_tensor **x)
{
    return tsr_batch_norm2d(x[0], x[1], x[2], NULL, NULL, true, 0.1, 1e-5);
}
static tsr_tensor *f_batch_norm_eval(tsr_tensor **x)
{
    return tsr_batch_norm2d(x[0], x[1], x[2], x[3], x[4], false, 0.1, 1e-5);
}
static tsr_tensor *f_dropout(tsr_tensor **x)
{
    return tsr_seed(cpu, 5) == TSR_OK ? tsr_dropout(x[0], 0.4, true) : NULL;
}
static tsr_tensor *f_reshape(tsr_tensor **x)
{
    return tsr_square(tsr_reshape(tsr_permute(x[0], (int[]){2, 0, 1}), 2, (int64_t[]){-1, 3}));
}
static tsr_tensor *f_permute(tsr_tensor **x)
{
    return tsr_square(tsr_permute(x[0], (int[]){1, 2, 0}));
}
static tsr_tensor *f_slice(tsr_tensor **x)
{
    return tsr_square(tsr_slice(tsr_slice(x[0], 1, 1, -1, 2), 2, -3, INT64_MAX, 1));
}
static tsr_tensor *f_expand(tsr_tensor **x)
{
    return tsr_mul(tsr_expand(x[0], 3, (int64_t[]){2, 3, 4}), x[1]);
}
static tsr_tensor *f_cast(tsr_tensor **x)
{
    return tsr_square(tsr_cast(x[0], TSR_F64));
}
static tsr_tensor *f_clone(tsr_tensor **x)
{
    return tsr_square(tsr_clone(tsr_transpose(x[0], 0, 1)));
}
static tsr_tensor *f_flatten(tsr_tensor **x)
{
    return tsr_square(tsr_flatten(x[0], 1, -1));
}
static tsr_tensor *f_layer_norm(tsr_tensor **x)
{
    return tsr_layer_norm(x[0], 2, (int64_t[]){3, 4}, x[1], x[2], 1e-5);
}
static tsr_tensor *f_rms_norm(tsr_tensor **x)
{
    return tsr_rms_norm(x[0], 1, (int64_t[]){5}, x[1], -1);
}
static tsr_tensor *f_group_norm(tsr_tensor **x)
{
    return tsr_group_norm(x[0], 2, x[1], x[2], 1e-5);
}
static tsr_tensor *f_instance_norm(tsr_tensor **x)
{
    return tsr_instance_norm(x[0], x[1], NULL, 1e-5);
}
static tsr_tensor *f_attention(tsr_tensor **x)
{
    return tsr_scaled_dot_product_attention(x[0], x[1], x[2], x[3], true, 0);
}
static tsr_tensor *f_attention_grouped(tsr_tensor **x)
{
    return tsr_scaled_dot_product_attention(x[0], x[1], x[2], NULL, false, 0.6);
}
static tsr_tensor *f_rotary(tsr_tensor **x)
{
    tsr_tensor *cosine, *sine;
    return tsr_rotary_tables(cpu, TSR_F64, 3, 4, 10, &cosine, &sine) == TSR_OK
               ? tsr_rotary_embedding(x[0], cosine, sine, false)
               : NULL;
}
static tsr_tensor *list(int rank, const int64_t *shape, const int64_t *values)
{
    return tsr_from_data(cpu, TSR_I64, rank, shape, values);
}
static tsr_tensor *f_embedding(tsr_tensor **x)
{
    return tsr_square(tsr_embedding(x[0], list(2, (int64_t[]){2, 3}, (int64_t[]){2, 0, 2, 2, 3, 1}), -1));
}
static tsr_tensor *f_index_select(tsr_tensor **x)
{
    return tsr_square(tsr_index_select(x[0], 1, list(1, (int64_t[]){5}, (int64_t[]){2, 0, 2, 2, 1})));
}
static tsr_tensor *f_index_add(tsr_tensor **x)
{
    return tsr_square(tsr_index_add(x[0], 0, list(1, (int64_t[]){3}, (int64_t[]){1, 3, 1}), x[1]));
}
static const int64_t scattered[] = {2, 0, 2, 1, 1, 3};
static tsr_tensor *f_gather(tsr_tensor **x)
{
    return tsr_square(tsr_gather(x[0], 1, list(2, (int64_t[]){2, 3}, scattered)));
}
static tsr_tensor *f_scatter(tsr_tensor **x)
{
    return tsr_square(tsr_scatter(x[0], 1, list(2, (int64_t[]){2, 3}, scattered), x[1]));
}
static tsr_tensor *f_scatter_add(tsr_tensor **x)
{
    return tsr_square(tsr_scatter_add(x[0], 1, list(2, (int64_t[]){2, 3}, scattered), x[1]));
}
static tsr_tensor *f_cat(tsr_tensor **x)
{
    return tsr_square(tsr_cat((tsr_tensor *[]){x[0], x[1], x[0]}, 3, 1));
}
static tsr_tensor *f_stack(tsr_tensor **x)
{
    return tsr_square(tsr_stack((tsr_tensor *[]){x[0], tsr_sin(x[0])}, 2, 1));
}
static tsr_tensor *f_repeat(tsr_tensor **x)
{
    return tsr_square(tsr_repeat(x[0], 3, (int64_t[]){2, 1, 2}));
}
static tsr_tensor *f_pad(tsr_tensor **x)
{
    return tsr_square(tsr_pad(tsr_pad(x[0], 4, (int64_t[]){2, 1, 0, 2}, TSR_PAD_REFLECT, 0), 2, (int64_t[]){1, -1},
                              TSR_PAD_CONSTANT, 1));
}
static tsr_tensor *f_roll(tsr_tensor **x)
{
    return tsr_square(tsr_tril(tsr_flip(tsr_roll(x[0], 1, (int64_t[]){1}, (int64_t[]){1}), 1, (int64_t[]){0}), 1));
}
static tsr_tensor *f_topk(tsr_tensor **x)
{
    tsr_tensor *values, *places;
    return tsr_topk(x[0], 2, 0, true, &values, &places) == TSR_OK ? tsr_square(values) : NULL;
}
static tsr_tensor *f_interpolate(tsr_tensor **x)
{
    return tsr_square(tsr_interpolate(x[0], 2, (int64_t[]){5, 2}, TSR_LINEAR));
}
static tsr_tensor *f_interpolate_corners(tsr_tensor **x)
{
    return tsr_square(tsr_interpolate(x[0], 2, (int64_t[]){2, 7}, TSR_LINEAR_CORNERS));
}
static tsr_tensor *f_adaptive_avg_pool2d(tsr_tensor **x)
{
    return tsr_square(tsr_adaptive_avg_pool2d(x[0], 2, 3));
}
static tsr_tensor *f_conv1d(tsr_tensor **x)
{
    return tsr_conv1d(x[0], x[1], x[2], &(tsr_conv1d_options){.stride = 2, .padding = 1, .groups = 2});
}
static tsr_tensor *f_pool1d(tsr_tensor **x)
{
    const tsr_pool1d_options options = {.kernel = 3, .stride = 2, .padding = 1};
    return tsr_mul(tsr_max_pool1d(x[0], &options), tsr_avg_pool1d(x[0], &options));
}
static tsr_tensor *f_outer(tsr_tensor **x)
{
    return tsr_mul(tsr_outer(x[0], x[1]), tsr_dot(x[0], x[0]));
}
static tsr_tensor *f_leaf_twice(tsr_tensor **x)
{
    return tsr_mul(tsr_add(x[0], tsr_exp(x[0])), x[0]);
}

#define ONE(op, lo, hi)                                                                                                \
    {                                                                                                                  \
#op, f_##op, 1,                                                                                                \
        {                                                                                                              \
            {                                                                                                          \
                2, {3, 4}, lo, hi, false                                                                               \
            }                                                                                                          \
        }                                                                                                              \
    }
#define TWO(op, lo, hi)                                                                                                \
    {                                                                                                                  \
#op, f_##op, 2,                                                                                                \
        {                                                                                                              \
            {2, {3, 4}, lo, hi, false},                                                                                \
            {                                                                                                          \
                1, {4}, lo, hi, false                                                                                  \
            }                                                                                                          \
        }                                                                                                              \
    }

static const row rows[] = {
    ONE(neg, -2, 2),
    ONE(abs, 0.1, 2),
    ONE(square, -2, 2),
    ONE(reciprocal, 0.5, 2),
    ONE(sqrt, 0.3, 3),
    ONE(rsqrt, 0.3, 3),
    ONE(exp, -2, 2),
    ONE(exp2, -2, 2),
    ONE(expm1, -2, 2),
    ONE(log, 0.3, 3),
    ONE(log2, 0.3, 3),
    ONE(log10, 0.3, 3),
    ONE(log1p, -0.5, 2),
    ONE(sin, -3, 3),
    ONE(cos, -3, 3),
    ONE(tan, -1, 1),
    ONE(tanh, -2, 2),
    ONE(erf, -2, 2),
    ONE(erfc, -2, 2),
    ONE(sigmoid, -3, 3),
    ONE(relu, 0.1, 2),
    ONE(silu, -3, 3),
    ONE(gelu, -3, 3),
    ONE(gelu_tanh, -3, 3),
    ONE(softplus, -3, 3),
    ONE(leaky_relu, -2, -0.1),
    ONE(elu, -2, -0.1),
    ONE(clamp, -0.3, 0.5),
    ONE(affine, -2, 2),
    ONE(leaf_twice, -1, 1),
    TWO(add, -2, 2),
    TWO(sub, -2, 2),
    TWO(mul, -2, 2),
    TWO(div, 0.5, 2),
    TWO(pow, 0.5, 2),
    TWO(maximum, -2, 2),
    TWO(minimum, -2, 2),
    TWO(where, -2, 2),
    {"addcmul", f_addcmul, 3, {{2, {3, 4}, -1, 1, false}, {1, {4}, -1, 1, false}, {2, {3, 1}, -1, 1, false}}},
    {"addcdiv", f_addcdiv, 3, {{2, {3, 4}, -1, 1, false}, {1, {4}, -1, 1, false}, {2, {3, 1}, 0.5, 1, false}}},
    {"matmul", f_matmul, 2, {{3, {2, 3, 4}, -1, 1, false}, {2, {4, 5}, -1, 1, false}}},
    {"matmul of vectors", f_matmul, 2, {{1, {4}, -1, 1, false}, {2, {4, 3}, -1, 1, false}}},
    {"matmul of views", f_matmul_views, 2, {{2, {3, 4}, -1, 1, false}, {2, {3, 8}, -1, 1, false}}},
    {"linear", f_linear, 3, {{3, {2, 2, 3}, -1, 1, false}, {2, {4, 3}, -1, 1, false}, {1, {4}, -1, 1, false}}},
    {"conv2d", f_conv2d, 3, {{4, {2, 2, 5, 6}, -1, 1, false}, {4, {3, 2, 3, 2}, -1, 1, false}, {1, {3}, -1, 1, false}}},
    {"conv2d in groups", f_conv2d_groups, 2, {{4, {1, 4, 4, 4}, -1, 1, false}, {4, {4, 2, 3, 3}, -1, 1, false}}},
    {"max_pool2d", f_max_pool2d, 1, {{4, {1, 2, 5, 6}, -1, 1, false}}},
    {"avg_pool2d", f_avg_pool2d, 1, {{4, {1, 2, 5, 6}, -1, 1, false}}},
    {"sum", f_sum, 1, {{3, {3, 4, 5}, -1, 1, false}}},
    {"sum of all", f_sum_all, 1, {{2, {3, 5}, -1, 1, false}}},
    {"mean", f_mean, 1, {{2, {3, 5}, -1, 1, false}}},
    {"max", f_max, 1, {{3, {3, 4, 5}, -1, 1, false}}},
    {"prod", f_prod, 1, {{3, {3, 4, 2}, -1, 1, false}}},
    {"min", f_min, 1, {{3, {3, 4, 5}, -1, 1, false}}},
    {"logsumexp", f_logsumexp, 1, {{3, {3, 4, 5}, -2, 2, false}}},
    {"var", f_var, 1, {{3, {3, 4, 5}, -1, 1, false}}},
    {"std", f_std, 1, {{3, {3, 4, 5}, -1, 1, false}}},
    {"norm", f_norm, 1, {{3, {3, 4, 5}, -1, 1, false}}},
    {"norm 1", f_norm_1, 1, {{2, {3, 5}, 0.1, 1, false}}},
    {"norm inf", f_norm_inf, 1, {{2, {3, 5}, -1, 1, false}}},
    {"cumsum", f_cumsum, 1, {{3, {3, 4, 5}, -1, 1, false}}},
    {"cumprod", f_cumprod, 1, {{2, {5, 4}, -1, 1, false}}},
    {"softmax", f_softmax, 1, {{2, {3, 5}, -2, 2, false}}},
    {"softmax, middle axis", f_softmax_middle, 1, {{3, {2, 5, 3}, -2, 2, false}}},
    {"log_softmax", f_log_softmax, 1, {{2, {5, 3}, -2, 2, false}}},
    {"cross_entropy", f_cross_entropy, 1, {{2, {4, 5}, -2, 2, false}}},
    {"cross_entropy, smoothed", f_cross_entropy_smoothed, 2, {{2, {4, 5}, -2, 2, false}, {1, {5}, 0.5, 2, true}}},
    {"nll", f_nll, 1, {{3, {2, 3, 2}, -2, 0, false}}},
    TWO(mse, -2, 2),
    TWO(huber, -2, 2),
    TWO(kl_div, 0.1, 1),
    {"batch_norm2d",
     f_batch_norm,
     3,
     {{4, {3, 2, 2, 3}, -1, 1, false}, {1, {2}, 0.5, 2, false}, {1, {2}, -1, 1, false}}},
    {"batch_norm2d, evaluation",
     f_batch_norm_eval,
     5,
     {{4, {2, 2, 2, 3}, -1, 1, false},
      {1, {2}, 0.5, 2, false},
      {1, {2}, -1, 1, false},
      {1, {2}, -1, 1, true},
      {1, {2}, 0.5, 1, true}}},
    {"dropout", f_dropout, 1, {{2, {5, 7}, -1, 1, false}}},
    {"layer_norm",
     f_layer_norm,
     3,
     {{4, {2, 2, 3, 4}, -1, 1, false}, {2, {3, 4}, 0.5, 2, false}, {2, {3, 4}, -1, 1, false}}},
    {"rms_norm", f_rms_norm, 2, {{2, {3, 5}, -1, 1, false}, {1, {5}, 0.5, 2, false}}},
    {"group_norm", f_group_norm, 3, {{4, {2, 4, 2, 3}, -1, 1, false}, {1, {4}, 0.5, 2, false}, {1, {4}, -1, 1, false}}},
    {"instance_norm", f_instance_norm, 2, {{3, {2, 3, 5}, -1, 1, false}, {1, {3}, 0.5, 2, false}}},
    {"scaled_dot_product_attention",
     f_attention,
     4,
     {{4, {2, 2, 3, 4}, -1, 1, false},
      {4, {2, 2, 5, 4}, -1, 1, false},
      {4, {2, 2, 5, 3}, -1, 1, false},
      {3, {2, 1, 5}, -1, 1, false}}},
    {"scaled_dot_product_attention, grouped",
     f_attention_grouped,
     3,
     {{3, {4, 3, 4}, -1, 1, false}, {3, {2, 5, 4}, -1, 1, false}, {3, {2, 5, 3}, -1, 1, false}}},
    {"rotary_embedding", f_rotary, 1, {{3, {2, 3, 5}, -1, 1, false}}},
    {"embedding", f_embedding, 1, {{2, {4, 3}, -1, 1, false}}},
    {"index_select", f_index_select, 1, {{3, {2, 3, 4}, -1, 1, false}}},
    {"index_add", f_index_add, 2, {{2, {4, 3}, -1, 1, false}, {2, {3, 3}, -1, 1, false}}},
    {"gather", f_gather, 1, {{2, {3, 4}, -1, 1, false}}},
    {"scatter", f_scatter, 2, {{2, {3, 4}, -1, 1, false}, {2, {2, 3}, -1, 1, false}}},
    {"scatter_add", f_scatter_add, 2, {{2, {3, 4}, -1, 1, false}, {2, {2, 4}, -1, 1, false}}},
    {"cat", f_cat, 2, {{2, {3, 4}, -1, 1, false}, {2, {3, 2}, -1, 1, false}}},
    {"stack", f_stack, 1, {{2, {3, 4}, -1, 1, false}}},
    {"repeat", f_repeat, 1, {{2, {3, 4}, -1, 1, false}}},
    {"pad", f_pad, 1, {{2, {3, 4}, -1, 1, false}}},
    {"roll, flip and tril", f_roll, 1, {{2, {3, 4}, -1, 1, false}}},
    {"topk", f_topk, 1, {{2, {5, 3}, -1, 1, false}}},
    {"interpolate", f_interpolate, 1, {{4, {1, 2, 3, 4}, -1, 1, false}}},
    {"interpolate with corners", f_interpolate_corners, 1, {{4, {2, 1, 3, 4}, -1, 1, false}}},
    {"adaptive_avg_pool2d", f_adaptive_avg_pool2d, 1, {{4, {1, 2, 3, 5}, -1, 1, false}}},
    {"conv1d", f_conv1d, 3, {{3, {2, 4, 7}, -1, 1, false}, {3, {2, 2, 3}, -1, 1, false}, {1, {2}, -1, 1, false}}},
    {"max_pool1d and avg_pool1d", f_pool1d, 1, {{3, {2, 2, 7}, -1, 1, false}}},
    {"outer and dot", f_outer, 2, {{1, {3}, -1, 1, false}, {1, {4}, -1, 1, false}}},
    {"reshape", f_reshape, 1, {{3, {3, 4, 2}, -1, 1, false}}},
    {"permute", f_permute, 1, {{3, {3, 4, 2}, -1, 1, false}}},
    {"slice", f_slice, 1, {{3, {2, 6, 5}, -1, 1, false}}},
    {"expand", f_expand, 2, {{2, {3, 1}, -1, 1, false}, {3, {2, 3, 4}, -1, 1, false}}},
    {"cast", f_cast, 1, {{2, {3, 4}, -1, 1, false}}},
    {"clone", f_clone, 1, {{2, {3, 4}, -1, 1, false}}},
    {"flatten", f_flatten, 1, {{3, {2, 3, 4}, -1, 1, false}}},
};

static int64_t count_of(const input *in)
{
    int64_t n = 1;
    for (int i = 0; i < in->rank; i++)
        n *= in->shape[i];
    return n;
}

static double next_unit(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(*state >> 11) * 0x1p-53;
}

/* sum of weights · f(x): a scalar that every element of the result takes part in differently. */
static tsr_tensor *objective(const row *r, tsr_tensor **x)
{
    static double weights[4 * MAX_ELEMENTS];
    tsr_tensor *y = r->f(x);
    if (y == NULL)
        fail_msg("%s: %s", r->name, tsr_last_error());
    assert_true(tsr_numel(y) <= 4 * MAX_ELEMENTS);
    uint64_t state = 99;
    for (int64_t i = 0; i < tsr_numel(y); i++)
        weights[i] = next_unit(&state) - 0.5;
    tsr_tensor *w = tsr_from_data(cpu, TSR_F64, tsr_rank(y), tsr_shape(y), weights);
    tsr_tensor *l = tsr_sum(tsr_mul(y, w), NULL, 0, false);
    if (l == NULL)
        fail_msg("%s: %s", r->name, tsr_last_error());
    return l;
}

static double value_at(const row *r, double (*values)[MAX_ELEMENTS])
{
    tsr_tensor *x[MAX_INPUTS];
    double v;
    tsr_scope_begin();
    tsr_no_grad_begin();
    for (int k = 0; k < r->count; k++)
        x[k] = tsr_from_data(cpu, TSR_F64, r->in[k].rank, r->in[k].shape, values[k]);
    assert_int_equal(tsr_item(objective(r, x), &v), TSR_OK);
    tsr_no_grad_end();
    tsr_scope_end();
    return v;
}

static void gradients_at(const row *r, double (*values)[MAX_ELEMENTS], double (*gradients)[MAX_ELEMENTS])
{
    tsr_tensor *x[MAX_INPUTS];
    tsr_scope_begin();
    for (int k = 0; k < r->count; k++) {
        x[k] = tsr_from_data(cpu, TSR_F64, r->in[k].rank, r->in[k].shape, values[k]);
        assert_int_equal(tsr_set_requires_grad(x[k], !r->in[k].constant), TSR_OK);
    }
    if (tsr_backward(objective(r, x)) != TSR_OK)
        fail_msg("%s: %s", r->name, tsr_last_error());
    for (int k = 0; k < r->count; k++) {
        if (r->in[k].constant)
            continue;
        if (tsr_grad(x[k]) == NULL)
            fail_msg("%s: input %d got no gradient", r->name, k);
        assert_int_equal(tsr_read(tsr_grad(x[k]), gradients[k], sizeof(double) * (size_t)count_of(&r->in[k])), TSR_OK);
        tsr_clear_grad(x[k]);
    }
    tsr_scope_end();
}

static void check(const row *r)
{
    static double values[MAX_INPUTS][MAX_ELEMENTS], first[MAX_INPUTS][MAX_ELEMENTS], second[MAX_INPUTS][MAX_ELEMENTS];
    const double eps = 1e-6, atol = 1e-5, rtol = 1e-3;
    uint64_t state = 17;
    memset(first, 0, sizeof first);
    memset(second, 0, sizeof second);
    for (int k = 0; k < r->count; k++)
        for (int64_t i = 0; i < count_of(&r->in[k]); i++)
            values[k][i] = r->in[k].low + (r->in[k].high - r->in[k].low) * next_unit(&state);
    gradients_at(r, values, first);
    gradients_at(r, values, second);
    assert_memory_equal(first, second, sizeof first);
    for (int k = 0; k < r->count; k++)
        for (int64_t i = 0; i < count_of(&r->in[k]) && !r->in[k].constant; i++) {
            const double x = values[k][i];
            values[k][i] = x + eps;
            const double above = value_at(r, values);
            values[k][i] = x - eps;
            const double below = value_at(r, values);
            values[k][i] = x;
            const double numeric = (above - below) / (2 * eps);
            if (!(fabs(first[k][i] - numeric) <= atol + rtol * fabs(numeric)))
                fail_msg("%s: gradient of input %d, element %lld: %.9g, central difference %.9g", r->name, k,
                         (long long)i, first[k][i], numeric);
        }
}

static void test_central_differences(void **state)
{
    (void)state;
    cpu = tsr_device_open("cpu");
    assert_non_null(cpu);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check(&rows[i]);
    print_message("%zu operators and compositions\n", sizeof rows / sizeof *rows);
    tsr_device_close(cpu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_central_differences)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
