/* conv1d, max_pool1d, avg_pool1d by views of their two-dimensional kin; outer and dot by those of mul and matmul. */
#include "base/error.h"
#include "ops/op.h"
#include "tessera/ops.h"

/* [.., width] as [.., 1, width]. */
static tensor *as_planes(const op_call *call, tensor *x, int rank)
{
    if (x->rank != rank) {
        fail(TSR_INVALID_ARGUMENT, "%s: %s has not three dimensions", call->row->name, tensor_text(x));
        return NULL;
    }
    return tsr_unsqueeze(x, -2);
}

static int64_t or_else(int64_t v, int64_t otherwise)
{
    return v != 0 ? v : otherwise;
}

/* ---- conv1d: attributes stride, padding, dilation, groups ---- */

static bool conv1d(const op_call *call, tensor **out)
{
    const attr_value *a = call->attr;
    const tsr_conv2d_options o = {.stride = {1, or_else(a[0].i, 1)},
                                  .padding = {0, a[1].i},
                                  .dilation = {1, or_else(a[2].i, 1)},
                                  .groups = or_else(a[3].i, 1)};
    tensor *x = as_planes(call, call->in[0], 3), *weight = x == NULL ? NULL : as_planes(call, call->in[1], 3);
    if (weight == NULL)
        return false;
    out[0] = tsr_squeeze(tsr_conv2d(x, weight, call->in_count > 2 ? call->in[2] : NULL, &o), (int[]){-2}, 1);
    return out[0] != NULL;
}

const op_row op_conv1d = {
    .name = "conv1d",
    .inputs_min = 2,
    .inputs_max = 3,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT,
    .same_dtype = true,
    .attrs = {{"stride", ATTR_INT, false, {.i = 1}},
              {"padding", ATTR_INT, false, {0}},
              {"dilation", ATTR_INT, false, {.i = 1}},
              {"groups", ATTR_INT, false, {.i = 1}}},
    .autocast = AUTOCAST_LOW,
    .compose = conv1d,
};

tsr_tensor *tsr_conv1d(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias, const tsr_conv1d_options *options)
{
    const tsr_conv1d_options o = options != NULL ? *options : (tsr_conv1d_options){.groups = 1};
    return OP1(op_conv1d, ATTRS(A_INT(o.stride), A_INT(o.padding), A_INT(o.dilation), A_INT(o.groups)), x, weight,
               bias);
}

/* ---- pools: attributes kernel, stride, padding, exclude_padding ---- */

static bool pool1d(const op_call *call, tensor **out)
{
    const attr_value *a = call->attr;
    const bool averages = call->row->attrs[3].name != NULL;
    const tsr_pool2d_options o = {.kernel = {1, a[0].i},
                                  .stride = {1, or_else(a[1].i, a[0].i)},
                                  .padding = {0, a[2].i},
                                  .exclude_padding = averages && a[3].i != 0};
    tensor *x = as_planes(call, call->in[0], 3);
    out[0] = x == NULL ? NULL : tsr_squeeze((averages ? tsr_avg_pool2d : tsr_max_pool2d)(x, &o), (int[]){-2}, 1);
    return out[0] != NULL;
}

#define POOL_ATTRS                                                                                                     \
    {"kernel", ATTR_INT, true, {0}}, {"stride", ATTR_INT, false, {0}},                                                 \
    {                                                                                                                  \
        "padding", ATTR_INT, false,                                                                                    \
        {                                                                                                              \
            0                                                                                                          \
        }                                                                                                              \
    }
const op_row op_max_pool1d = {
    .name = "max_pool1d",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT,
    .attrs = {POOL_ATTRS},
    .autocast = AUTOCAST_WIDEST,
    .compose = pool1d,
};

const op_row op_avg_pool1d = {
    .name = "avg_pool1d",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT,
    .attrs = {POOL_ATTRS, {"exclude_padding", ATTR_BOOL, false, {0}}},
    .autocast = AUTOCAST_WIDEST,
    .compose = pool1d,
};

static tensor *pool(const op_row *row, tensor *x, const tsr_pool1d_options *o)
{
    if (o == NULL) {
        fail(TSR_INVALID_ARGUMENT, "%s: the options are NULL, but the kernel's size is required", row->name);
        return NULL;
    }
    return OP1(*row, ATTRS(A_INT(o->kernel), A_INT(o->stride), A_INT(o->padding), A_INT(o->exclude_padding)), x);
}

tsr_tensor *tsr_max_pool1d(tsr_tensor *x, const tsr_pool1d_options *options)
{
    return pool(&op_max_pool1d, x, options);
}

tsr_tensor *tsr_avg_pool1d(tsr_tensor *x, const tsr_pool1d_options *options)
{
    return pool(&op_avg_pool1d, x, options);
}

/* ---- outer and dot ---- */

static bool are_vectors(const op_call *call)
{
    if (call->in[0]->rank == 1 && call->in[1]->rank == 1)
        return true;
    fail(TSR_INVALID_ARGUMENT, "%s takes two vectors, not %s and %s", call->row->name, tensor_text(call->in[0]),
         tensor_text(call->in[1]));
    return false;
}

static bool outer(const op_call *call, tensor **out)
{
    if (are_vectors(call))
        out[0] = tsr_mul(tsr_unsqueeze(call->in[0], 1), call->in[1]);
    return out[0] != NULL;
}

static bool dot(const op_call *call, tensor **out)
{
    if (are_vectors(call))
        out[0] = tsr_matmul(call->in[0], call->in[1]);
    return out[0] != NULL;
}

const op_row op_outer = {
    .name = "outer",
    .inputs_min = 2,
    .inputs_max = 2,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT | DTYPES_INT,
    .same_dtype = true,
    .autocast = AUTOCAST_LOW,
    .compose = outer,
};

const op_row op_dot = {
    .name = "dot",
    .inputs_min = 2,
    .inputs_max = 2,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT,
    .same_dtype = true,
    .autocast = AUTOCAST_LOW,
    .compose = dot,
};

tsr_tensor *tsr_outer(tsr_tensor *a, tsr_tensor *b)
{
    return OP1(op_outer, NULL, a, b);
}

tsr_tensor *tsr_dot(tsr_tensor *a, tsr_tensor *b)
{
    return OP1(op_dot, NULL, a, b);
}
