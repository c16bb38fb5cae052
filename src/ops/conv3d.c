/* conv3d: the operator, and what it shares with conv_transpose3d. */
#include "ops/conv3d.h"

#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"
#include "ops/conv2d.h"

/* ---- geometry ---- */

bool conv3d_triple(const op_row *row, const attr_value *a, const char *what, int64_t initial, int64_t *out)
{
    if (a->count != 0 && a->count != 3) {
        fail(TSR_INVALID_ARGUMENT, "%s: %s has %d values; it takes three: depth, height, width", row->name, what,
             a->count);
        return false;
    }
    for (int i = 0; i < 3; i++) {
        out[i] = a->count == 0 || (a->list[i] == 0 && initial == 1) ? initial : a->list[i];
        if (out[i] < initial || out[i] > INT32_MAX) {
            fail(TSR_INVALID_ARGUMENT, "%s: %s is %s; each is at least %lld", row->name, what, shape_text(3, a->list),
                 (long long)initial);
            return false;
        }
    }
    return true;
}

bool conv3d_weight_fits(const op_row *row, const op_output *x, const op_output *w, const conv3d *g)
{
    if (g->groups < 1 || g->c % g->groups != 0 || g->o % g->groups != 0) {
        fail(TSR_INVALID_ARGUMENT, "%s: %lld groups do not divide the channels: x is %s, weight is %s", row->name,
             (long long)g->groups, shape_text(x->rank, x->shape), shape_text(w->rank, w->shape));
        return false;
    }
    if (w->shape[0] != g->o || w->shape[1] != g->c / g->groups) {
        fail(TSR_INVALID_ARGUMENT, "%s: channels differ: x is %s, weight is %s, groups %lld", row->name,
             shape_text(x->rank, x->shape), shape_text(w->rank, w->shape), (long long)g->groups);
        return false;
    }
    for (int i = 0; i < 3; i++)
        if (g->kernel[i] < 1 || g->kernel[i] > INT32_MAX / g->dilation[i]) {
            fail(TSR_INVALID_ARGUMENT, "%s: a kernel of %s is empty or too large", row->name,
                 shape_text(w->rank, w->shape));
            return false;
        }
    return true;
}

enum { STRIDE, PADDING, DILATION, GROUPS };

static bool geometry(const op_row *row, const op_output *x, const op_output *w, const attr_value *attr, conv3d *g)
{
    if (x->rank != 5 || w->rank != 5) {
        fail(TSR_INVALID_ARGUMENT,
             "%s: x is [n, c, d, h, w] and weight [o, c / groups, kd, kh, kw]: x is %s, weight is %s", row->name,
             shape_text(x->rank, x->shape), shape_text(w->rank, w->shape));
        return false;
    }
    *g = (conv3d){
        .n = x->shape[0], .c = x->shape[1], .o = w->shape[0], .groups = attr[GROUPS].i == 0 ? 1 : attr[GROUPS].i};
    memcpy(g->size, x->shape + 2, sizeof g->size);
    memcpy(g->kernel, w->shape + 2, sizeof g->kernel);
    if (!conv3d_triple(row, &attr[STRIDE], "stride", 1, g->stride) ||
        !conv3d_triple(row, &attr[PADDING], "padding", 0, g->padding) ||
        !conv3d_triple(row, &attr[DILATION], "dilation", 1, g->dilation) || !conv3d_weight_fits(row, x, w, g))
        return false;
    for (int i = 0; i < 3; i++) {
        const int64_t reach = g->dilation[i] * (g->kernel[i] - 1) + 1, padded = g->size[i] + 2 * g->padding[i];
        if (padded < reach || padded > INT32_MAX) {
            fail(TSR_INVALID_ARGUMENT,
                 "%s: the kernel reaches over %lld along dimension %d, but the padded x has %lld: x is %s, weight is "
                 "%s",
                 row->name, (long long)reach, 2 + i, (long long)padded, shape_text(x->rank, x->shape),
                 shape_text(w->rank, w->shape));
            return false;
        }
        g->out[i] = (padded - reach) / g->stride[i] + 1;
    }
    return true;
}

/* ---- planes ---- */

static const int depth_first[] = {0, 2, 1, 3, 4};

/* Whether every plane of the columns shows one plane of the image, the same. */
static bool is_flat(const conv3d *g)
{
    return g->kernel[0] == 1 && g->stride[0] == 1 && g->padding[0] == 0 && g->size[0] == g->out[0];
}

tensor *conv3d_planes(tensor *columns)
{
    tensor *t = tsr_permute(columns, depth_first);
    return t == NULL ? NULL
                     : tsr_reshape(t, 4, (int64_t[]){t->shape[0] * t->shape[1], t->shape[2], t->shape[3], t->shape[4]});
}

tensor *conv3d_volume(const conv3d *g, tensor *planes)
{
    if (planes == NULL)
        return NULL;
    const int64_t shape[] = {g->n, g->out[0], planes->shape[1], planes->shape[2], planes->shape[3]};
    return tsr_permute(tsr_reshape(planes, 5, shape), depth_first);
}

/* The planes that tap k sees, of t with the padding: every stride-th. */
static tensor *seen_by(const conv3d *g, tensor *t, int64_t k)
{
    const int64_t first = k * g->dilation[0];
    return tsr_slice(t, 2, first, first + (g->out[0] - 1) * g->stride[0] + 1, g->stride[0]);
}

/* Planes, with the padding, from the first that a tap sees to the last. */
static int64_t reach_of(const conv3d *g)
{
    return (g->out[0] - 1) * g->stride[0] + g->dilation[0] * (g->kernel[0] - 1) + 1;
}

tensor *conv3d_unfold(const conv3d *g, tensor *image)
{
    if (is_flat(g))
        return conv3d_planes(image);
    const int64_t behind = reach_of(g) - g->padding[0] - g->size[0], taps = g->kernel[0];
    tensor *padded = tsr_pad(image, 6, (int64_t[]){0, 0, 0, 0, g->padding[0], behind}, TSR_PAD_CONSTANT, 0);
    tensor **parts = host_alloc_zeroed((size_t)taps, sizeof *parts), *stacked = NULL;
    bool ok = padded != NULL && parts != NULL;
    for (int64_t k = 0; k < taps && ok; k++)
        ok = (parts[k] = tsr_permute(seen_by(g, padded, k), depth_first)) != NULL;
    if (ok)
        stacked = tsr_stack(parts, (int)taps, 3);
    host_free(parts);
    return tsr_reshape(stacked, 4, (int64_t[]){g->n * g->out[0], g->c * taps, g->size[1], g->size[2]});
}

static bool add_into(tensor *to, tensor *t)
{
    tensor *out = to;
    return op_apply(op_find("add"), (tensor *[]){to, t}, 2, NULL, &out);
}

tensor *conv3d_fold(const conv3d *g, tensor *t)
{
    if (is_flat(g) || t == NULL)
        return conv3d_volume(g, t);
    const int64_t padded = max_i64(reach_of(g), g->padding[0] + g->size[0]);
    tensor *image = tsr_zeros(t->storage->device, t->dtype, 5, (int64_t[]){g->n, g->c, padded, g->size[1], g->size[2]});
    t = tsr_reshape(t, 6, (int64_t[]){g->n, g->out[0], g->c, g->kernel[0], g->size[1], g->size[2]});
    if (image == NULL || t == NULL)
        return NULL;
    for (int64_t k = 0; k < g->kernel[0] && image->numel > 0; k++) {
        tensor *part = tsr_permute(tsr_squeeze(tsr_slice(t, 3, k, k + 1, 1), (int[]){3}, 1), depth_first);
        tensor *to = seen_by(g, image, k);
        if (part == NULL || to == NULL || !add_into(to, part))
            return NULL;
    }
    return tsr_slice(image, 2, g->padding[0], g->padding[0] + g->size[0], 1);
}

tensor *conv3d_weight(const conv3d *g, tensor *w)
{
    return tsr_reshape(w, 4, (int64_t[]){g->o, g->c / g->groups * g->kernel[0], g->kernel[1], g->kernel[2]});
}

tsr_conv2d_options conv3d_options(const conv3d *g)
{
    return (tsr_conv2d_options){.stride = {g->stride[1], g->stride[2]},
                                .padding = {g->padding[1], g->padding[2]},
                                .dilation = {g->dilation[1], g->dilation[2]},
                                .groups = g->groups};
}

tensor *conv3d_grad_image(const conv3d *g, tensor *columns, tensor *w, tsr_dtype dtype)
{
    const tsr_conv2d_options o = conv3d_options(g);
    const int64_t shape[] = {g->n * g->out[0], g->c * g->kernel[0], g->size[1], g->size[2]};
    return conv3d_fold(g, conv2d_grad_x(columns, conv3d_weight(g, w), shape, dtype, &o));
}

tensor *conv3d_grad_weight(const conv3d *g, tensor *columns, tensor *unfolded, const op_output *spec)
{
    const tsr_conv2d_options o = conv3d_options(g);
    const int64_t shape[] = {g->o, g->c / g->groups * g->kernel[0], g->kernel[1], g->kernel[2]};
    return tsr_reshape(conv2d_grad_w(columns, unfolded, shape, spec->dtype, &o), spec->rank, spec->shape);
}

/* ---- the operator ---- */

static bool geometry_of(const op_call *call, conv3d *g)
{
    const op_output x = op_spec_of(call->in[0]), w = op_spec_of(call->in[1]);
    return geometry(call->row, &x, &w, call->attr, g);
}

static bool conv3d_infer(const op_call *call, op_output *out)
{
    const tensor *bias = call->in_count > 2 ? call->in[2] : NULL;
    conv3d g;
    if (!geometry_of(call, &g))
        return false;
    if (bias != NULL && (bias->rank != 1 || bias->shape[0] != g.o)) {
        fail(TSR_INVALID_ARGUMENT, "conv3d: bias is %s; it should be [%lld]", shape_text(bias->rank, bias->shape),
             (long long)g.o);
        return false;
    }
    *out = (op_output){.dtype = call->in[0]->dtype, .rank = 5, .shape = {g.n, g.o, g.out[0], g.out[1], g.out[2]}};
    return true;
}

static bool run_conv3d(const op_call *call)
{
    conv3d g;
    if (!geometry_of(call, &g))
        return false;
    const tsr_conv2d_options o = conv3d_options(&g);
    tensor *y = tsr_conv2d(conv3d_unfold(&g, call->in[0]), conv3d_weight(&g, call->in[1]),
                           call->in_count > 2 ? call->in[2] : NULL, &o);
    y = conv3d_volume(&g, y);
    return y != NULL && tsr_copy_into(call->out[0], y) == TSR_OK;
}

static bool conv3d_run(const op_call *call)
{
    return OP_TEMPORARIES(run_conv3d(call));
}

static bool conv3d_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    static const int all_but_channels[] = {0, 2, 3, 4};
    conv3d g;
    if (!geometry(r->row, &r->in_spec[0], &r->in_spec[1], r->attr, &g))
        return false;
    /* What several taps of the depth add up is f32 until it is complete. */
    const tsr_dtype dtype = r->in_spec[0].dtype, carried = dtype == TSR_F64 ? TSR_F64 : TSR_F32;
    tensor *columns = conv3d_planes(dy[0]);
    if (r->needs[0] && (dx[0] = tsr_cast(conv3d_grad_image(&g, columns, r->in[1], carried), dtype)) == NULL)
        return false;
    if (r->needs[1] && (dx[1] = conv3d_grad_weight(&g, columns, conv3d_unfold(&g, r->in[0]), &r->in_spec[1])) == NULL)
        return false;
    return !r->needs[2] || (dx[2] = tsr_sum(dy[0], all_but_channels, 4, false)) != NULL;
}

const op_row op_conv3d = {
    .name = "conv3d",
    .inputs_min = 2,
    .inputs_max = 3,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT,
    .same_dtype = true,
    .attrs = {{"stride", ATTR_INTS, false, {0}},
              {"padding", ATTR_INTS, false, {0}},
              {"dilation", ATTR_INTS, false, {0}},
              {"groups", ATTR_INT, false, {.i = 1}}},
    .autocast = AUTOCAST_LOW,
    .infer = conv3d_infer,
    .run = conv3d_run,
    .backward = conv3d_backward,
    .saves = SAVE_INPUT(0) | SAVE_INPUT(1),
};

#define THREE(v)                                                                                                       \
    {                                                                                                                  \
        .list = {(v)[0], (v)[1], (v)[2]}, .count = 3                                                                   \
    }

tsr_tensor *tsr_conv3d(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias, const tsr_conv3d_options *options)
{
    const tsr_conv3d_options o = options != NULL ? *options : (tsr_conv3d_options){.groups = 1};
    return OP1(op_conv3d, ATTRS(THREE(o.stride), THREE(o.padding), THREE(o.dilation), A_INT(o.groups)), x, weight,
               bias);
}
