/* conv_transpose3d: the gradient of conv3d by its image, as an operator; and by it, with views, those of fewer dimensions. */
#include <string.h>

#include "base/error.h"
#include "ops/conv3d.h"

enum { STRIDE, PADDING, OUTPUT_PADDING, DILATION, GROUPS };

static bool geometry(const op_row *row, const op_output *x, const op_output *w, const attr_value *attr, conv3d *g)
{
    int64_t output_padding[3];
    if (x->rank != 5 || w->rank != 5) {
        fail(TSR_INVALID_ARGUMENT,
             "%s: x is [n, c, d, h, w] and weight [c, o / groups, kd, kh, kw]: x is %s, weight is %s", row->name,
             shape_text(x->rank, x->shape), shape_text(w->rank, w->shape));
        return false;
    }
    *g = (conv3d){.n = x->shape[0], .o = x->shape[1], .groups = attr[GROUPS].i == 0 ? 1 : attr[GROUPS].i};
    if (w->shape[1] > INT32_MAX || g->groups < 1 || g->groups > INT32_MAX) {
        fail(TSR_INVALID_ARGUMENT, "%s: %lld groups, weight is %s", row->name, (long long)g->groups,
             shape_text(w->rank, w->shape));
        return false;
    }
    g->c = w->shape[1] * g->groups;
    memcpy(g->out, x->shape + 2, sizeof g->out);
    memcpy(g->kernel, w->shape + 2, sizeof g->kernel);
    if (!conv3d_triple(row, &attr[STRIDE], "stride", 1, g->stride) ||
        !conv3d_triple(row, &attr[PADDING], "padding", 0, g->padding) ||
        !conv3d_triple(row, &attr[OUTPUT_PADDING], "output_padding", 0, output_padding) ||
        !conv3d_triple(row, &attr[DILATION], "dilation", 1, g->dilation) || !conv3d_weight_fits(row, x, w, g))
        return false;
    for (int i = 0; i < 3; i++) {
        if (output_padding[i] >= g->stride[i] && output_padding[i] >= g->dilation[i]) {
            fail(TSR_INVALID_ARGUMENT,
                 "%s: output_padding %lld along dimension %d must be smaller than the stride %lld or the dilation %lld",
                 row->name, (long long)output_padding[i], 2 + i, (long long)g->stride[i], (long long)g->dilation[i]);
            return false;
        }
        g->size[i] = (g->out[i] - 1) * g->stride[i] - 2 * g->padding[i] + g->dilation[i] * (g->kernel[i] - 1) +
                     output_padding[i] + 1;
        if (g->out[i] < 1 || g->out[i] > INT32_MAX || g->size[i] < 1 || g->size[i] > INT32_MAX) {
            fail(TSR_INVALID_ARGUMENT, "%s: x %s and weight %s give a size of %lld along dimension %d", row->name,
                 shape_text(x->rank, x->shape), shape_text(w->rank, w->shape), (long long)g->size[i], 2 + i);
            return false;
        }
        g->extra[i] = output_padding[i] / g->stride[i];
    }
    return true;
}

static bool geometry_of(const op_call *call, conv3d *g)
{
    const op_output x = op_spec_of(call->in[0]), w = op_spec_of(call->in[1]);
    return geometry(call->row, &x, &w, call->attr, g);
}

/* Planes of x, with as many rows and columns as a convolution of the image has. */
static tensor *columns_of(const conv3d *g, tensor *x)
{
    tensor *t = conv3d_planes(x);
    if (g->extra[1] == 0 && g->extra[2] == 0)
        return t;
    return tsr_pad(t, 4, (int64_t[]){0, g->extra[2], 0, g->extra[1]}, TSR_PAD_CONSTANT, 0);
}

static bool infer(const op_call *call, op_output *out)
{
    const tensor *bias = call->in_count > 2 ? call->in[2] : NULL;
    conv3d g;
    if (!geometry_of(call, &g))
        return false;
    if (bias != NULL && (bias->rank != 1 || bias->shape[0] != g.c)) {
        fail(TSR_INVALID_ARGUMENT, "%s: bias is %s; it should be [%lld]", call->row->name,
             shape_text(bias->rank, bias->shape), (long long)g.c);
        return false;
    }
    *out = (op_output){.dtype = call->in[0]->dtype, .rank = 5, .shape = {g.n, g.c, g.size[0], g.size[1], g.size[2]}};
    return true;
}

static bool run_transposed(const op_call *call)
{
    tensor *bias = call->in_count > 2 ? call->in[2] : NULL, *out = call->out[0];
    const tsr_dtype carried = out->dtype == TSR_F64 ? TSR_F64 : TSR_F32;
    conv3d g;
    if (!geometry_of(call, &g))
        return false;
    tensor *y = conv3d_grad_image(&g, columns_of(&g, call->in[0]), call->in[1], carried);
    if (bias != NULL)
        y = tsr_add(y, tsr_reshape(tsr_cast(bias, carried), 5, (int64_t[]){1, g.c, 1, 1, 1}));
    return y != NULL && tsr_copy_into(out, y) == TSR_OK;
}

static bool run(const op_call *call)
{
    return OP_TEMPORARIES(run_transposed(call));
}

/* d x: the convolution of dy, less what the extra columns saw. */
static tensor *grad_columns(const conv3d *g, tensor *unfolded, tensor *w)
{
    const tsr_conv2d_options o = conv3d_options(g);
    tensor *t = conv3d_volume(g, tsr_conv2d(unfolded, conv3d_weight(g, w), NULL, &o));
    return tsr_slice(tsr_slice(t, 3, 0, g->out[1], 1), 4, 0, g->out[2], 1);
}

static bool backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    static const int all_but_channels[] = {0, 2, 3, 4};
    conv3d g;
    if (!geometry(r->row, &r->in_spec[0], &r->in_spec[1], r->attr, &g))
        return false;
    tensor *unfolded = conv3d_unfold(&g, dy[0]);
    if (r->needs[0] && (dx[0] = grad_columns(&g, unfolded, r->in[1])) == NULL)
        return false;
    if (r->needs[1] && (dx[1] = conv3d_grad_weight(&g, columns_of(&g, r->in[0]), unfolded, &r->in_spec[1])) == NULL)
        return false;
    return !r->needs[2] || (dx[2] = tsr_sum(dy[0], all_but_channels, 4, false)) != NULL;
}

const op_row op_conv_transpose3d = {
    .name = "conv_transpose3d",
    .inputs_min = 2,
    .inputs_max = 3,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT,
    .same_dtype = true,
    .attrs = {{"stride", ATTR_INTS, false, {0}},
              {"padding", ATTR_INTS, false, {0}},
              {"output_padding", ATTR_INTS, false, {0}},
              {"dilation", ATTR_INTS, false, {0}},
              {"groups", ATTR_INT, false, {.i = 1}}},
    .autocast = AUTOCAST_LOW,
    .infer = infer,
    .run = run,
    .backward = backward,
    .saves = SAVE_INPUT(0) | SAVE_INPUT(1),
};

/* ---- one and two dimensions: further ones of size 1 in front ---- */

/* The attribute in its last places; others are `initial`. False after fail(). */
static bool widened(const op_call *call, int at, int dims, int64_t initial, int64_t *out)
{
    const attr_value *a = &call->attr[at];
    const int count = dims == 1 ? 1 : a->count;
    if (count != 0 && count != dims) {
        fail(TSR_INVALID_ARGUMENT, "%s: %s has %d values; it takes two: height, width", call->row->name,
             call->row->attrs[at].name, count);
        return false;
    }
    for (int i = 0; i < 3; i++)
        out[i] = i < 3 - dims || count == 0 ? initial : dims == 1 ? a->i : a->list[i - (3 - dims)];
    return true;
}

static tensor *deepened(const op_call *call, tensor *t, int dims)
{
    if (t->rank != 2 + dims) {
        fail(TSR_INVALID_ARGUMENT, "%s: x and weight have %d dimensions: %s has not", call->row->name, 2 + dims,
             tensor_text(t));
        return NULL;
    }
    for (int i = dims; i < 3; i++)
        t = tsr_unsqueeze(t, 2);
    return t;
}

static bool by_three(const op_call *call, tensor **out)
{
    const int dims = *(const int *)call->row->data;
    tsr_conv_transpose3d_options o = {.groups = call->attr[GROUPS].i};
    if (!widened(call, STRIDE, dims, 1, o.stride) || !widened(call, PADDING, dims, 0, o.padding) ||
        !widened(call, OUTPUT_PADDING, dims, 0, o.output_padding) || !widened(call, DILATION, dims, 1, o.dilation))
        return false;
    tensor *x = deepened(call, call->in[0], dims), *w = x == NULL ? NULL : deepened(call, call->in[1], dims);
    if (w == NULL)
        return false;
    tensor *y = tsr_conv_transpose3d(x, w, call->in_count > 2 ? call->in[2] : NULL, &o);
    if (y == NULL)
        fail_prefix("%s", call->row->name);
    out[0] = tsr_squeeze(y, (int[]){2, 3}, 3 - dims);
    return out[0] != NULL;
}

static const int one = 1, two = 2;
const op_row op_conv_transpose2d = {
    .name = "conv_transpose2d",
    .inputs_min = 2,
    .inputs_max = 3,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT,
    .same_dtype = true,
    .attrs = {{"stride", ATTR_INTS, false, {0}},
              {"padding", ATTR_INTS, false, {0}},
              {"output_padding", ATTR_INTS, false, {0}},
              {"dilation", ATTR_INTS, false, {0}},
              {"groups", ATTR_INT, false, {.i = 1}}},
    .autocast = AUTOCAST_LOW,
    .data = &two,
    .compose = by_three,
};

const op_row op_conv_transpose1d = {
    .name = "conv_transpose1d",
    .inputs_min = 2,
    .inputs_max = 3,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT,
    .same_dtype = true,
    .attrs = {{"stride", ATTR_INT, false, {.i = 1}},
              {"padding", ATTR_INT, false, {0}},
              {"output_padding", ATTR_INT, false, {0}},
              {"dilation", ATTR_INT, false, {.i = 1}},
              {"groups", ATTR_INT, false, {.i = 1}}},
    .autocast = AUTOCAST_LOW,
    .data = &one,
    .compose = by_three,
};

#define THREE(v)                                                                                                       \
    {                                                                                                                  \
        .list = {(v)[0], (v)[1], (v)[2]}, .count = 3                                                                   \
    }
#define TWO(v)                                                                                                         \
    {                                                                                                                  \
        .list = {(v)[0], (v)[1]}, .count = 2                                                                           \
    }

tsr_tensor *tsr_conv_transpose3d(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias,
                                 const tsr_conv_transpose3d_options *options)
{
    const tsr_conv_transpose3d_options o = options != NULL ? *options : (tsr_conv_transpose3d_options){.groups = 1};
    return OP1(op_conv_transpose3d,
               ATTRS(THREE(o.stride), THREE(o.padding), THREE(o.output_padding), THREE(o.dilation), A_INT(o.groups)), x,
               weight, bias);
}

tsr_tensor *tsr_conv_transpose2d(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias,
                                 const tsr_conv_transpose2d_options *options)
{
    const tsr_conv_transpose2d_options o = options != NULL ? *options : (tsr_conv_transpose2d_options){.groups = 1};
    return OP1(op_conv_transpose2d,
               ATTRS(TWO(o.stride), TWO(o.padding), TWO(o.output_padding), TWO(o.dilation), A_INT(o.groups)), x, weight,
               bias);
}

tsr_tensor *tsr_conv_transpose1d(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias,
                                 const tsr_conv_transpose1d_options *options)
{
    const tsr_conv_transpose1d_options o = options != NULL ? *options : (tsr_conv_transpose1d_options){.groups = 1};
    return OP1(op_conv_transpose1d,
               ATTRS(A_INT(o.stride), A_INT(o.padding), A_INT(o.output_padding), A_INT(o.dilation), A_INT(o.groups)), x,
               weight, bias);
}
