/* conv2d: the operator. How devices compute it: conv2d_direct.c, conv2d_columns.c. */
#include "ops/conv2d.h"

#include <string.h>

#include "base/error.h"
#include "mxu/product.h"
#include "ops/op.h"
#include "tessera/ops.h"

enum { STRIDE, PADDING, DILATION, GROUPS };
#define CONV2D_ATTRS(o)                                                                                                \
    ATTRS({.list = {(o).stride[0], (o).stride[1]}, .count = 2},                                                        \
          {.list = {(o).padding[0], (o).padding[1]}, .count = 2},                                                      \
          {.list = {(o).dilation[0], (o).dilation[1]}, .count = 2}, A_INT((o).groups))

static bool pair(const attr_value *a, int64_t initial, int64_t *out, const char *what)
{
    if (a->count != 0 && a->count != 2) {
        fail(TSR_INVALID_ARGUMENT, "conv2d: %s has %d values; it takes two: height, width", what, a->count);
        return false;
    }
    for (int i = 0; i < 2; i++)
        out[i] = a->count == 0 || (a->list[i] == 0 && initial == 1) ? initial : a->list[i];
    if (out[0] < initial || out[1] < initial || out[0] > INT32_MAX || out[1] > INT32_MAX) {
        fail(TSR_INVALID_ARGUMENT, "conv2d: %s is [%lld, %lld]; each is at least %lld", what, (long long)out[0],
             (long long)out[1], (long long)initial);
        return false;
    }
    return true;
}

static bool geometry(const op_output *x, const op_output *w, const attr_value *attr, conv2d *g)
{
    if (x->rank != 4 || w->rank != 4) {
        fail(TSR_INVALID_ARGUMENT,
             "conv2d: x is [n, c, h, w] and weight [o, c / groups, kh, kw]: x is %s, weight is %s",
             shape_text(x->rank, x->shape), shape_text(w->rank, w->shape));
        return false;
    }
    *g = (conv2d){.dtype = x->dtype,
                  .n = x->shape[0],
                  .c = x->shape[1],
                  .h = x->shape[2],
                  .w = x->shape[3],
                  .o = w->shape[0],
                  .kh = w->shape[2],
                  .kw = w->shape[3],
                  .groups = attr[GROUPS].i == 0 ? 1 : attr[GROUPS].i};
    if (!pair(&attr[STRIDE], 1, g->stride, "stride") || !pair(&attr[PADDING], 0, g->padding, "padding") ||
        !pair(&attr[DILATION], 1, g->dilation, "dilation"))
        return false;
    if (g->groups < 1 || g->c % g->groups != 0 || g->o % g->groups != 0) {
        fail(TSR_INVALID_ARGUMENT, "conv2d: %lld groups do not divide the channels: x is %s, weight is %s",
             (long long)g->groups, shape_text(x->rank, x->shape), shape_text(w->rank, w->shape));
        return false;
    }
    if (w->shape[1] != g->c / g->groups) {
        fail(TSR_INVALID_ARGUMENT,
             "conv2d: channels differ: x is %s, weight is %s, groups %lld: weight's second size "
             "should be %lld",
             shape_text(x->rank, x->shape), shape_text(w->rank, w->shape), (long long)g->groups,
             (long long)(g->c / g->groups));
        return false;
    }
    int64_t *const out[2] = {&g->oh, &g->ow};
    for (int i = 0; i < 2; i++) {
        const int64_t size = x->shape[2 + i], taps = w->shape[2 + i];
        const int64_t reach = g->dilation[i] * (taps - 1) + 1, padded = size + 2 * g->padding[i];
        if (taps < 1 || taps > INT32_MAX / g->dilation[i] || padded > INT32_MAX) {
            fail(TSR_INVALID_ARGUMENT, "conv2d: a kernel of %s with padding [%lld, %lld] is empty or too large",
                 shape_text(w->rank, w->shape), (long long)g->padding[0], (long long)g->padding[1]);
            return false;
        }
        if (padded < reach) {
            fail(TSR_INVALID_ARGUMENT,
                 "conv2d: the kernel reaches over %lld %s, but the padded image has %lld: x is %s, "
                 "weight is %s",
                 (long long)reach, i == 0 ? "rows" : "columns", (long long)padded, shape_text(x->rank, x->shape),
                 shape_text(w->rank, w->shape));
            return false;
        }
        *out[i] = (padded - reach) / g->stride[i] + 1;
    }
    return true;
}

static bool conv2d_infer(const op_call *call, op_output *out)
{
    const op_output x = op_spec_of(call->in[0]), w = op_spec_of(call->in[1]);
    const tensor *bias = call->in_count > 2 ? call->in[2] : NULL;
    conv2d g;
    if (!geometry(&x, &w, call->attr, &g))
        return false;
    if (bias != NULL && (bias->rank != 1 || bias->shape[0] != g.o)) {
        fail(TSR_INVALID_ARGUMENT, "conv2d: bias is %s, but weight is %s: it should be [%lld]",
             shape_text(bias->rank, bias->shape), shape_text(w.rank, w.shape), (long long)g.o);
        return false;
    }
    *out = (op_output){.dtype = x.dtype, .rank = 4, .shape = {g.n, g.o, g.oh, g.ow}};
    return true;
}

/* As product_takes, for convolutions: on processors they are computed directly, in f32 and f64, on GPUs in any dtype. */
static bool is_direct(tsr_device *device)
{
    return device_variant(device) == HAL_CLASS_CPU;
}

static bool is_16(tsr_dtype dtype)
{
    return dtype == TSR_F16 || dtype == TSR_BF16;
}

/* Contiguous and, if asked, in f32. */
static tensor *prepared(tensor *t, bool widen)
{
    return contiguous(t == NULL || !widen ? t : tsr_cast(t, TSR_F32));
}

static bool run_conv2d(const op_call *call)
{
    const op_output xs = op_spec_of(call->in[0]), ws = op_spec_of(call->in[1]);
    conv2d g;
    if (!geometry(&xs, &ws, call->attr, &g))
        return false;
    const bool has_bias = call->in_count > 2 && call->in[2] != NULL;
    const bool direct = is_direct(call->device), widen = direct && is_16(g.dtype);
    if (g.c == 0) /* no channel to sum over */
        return has_bias ? tsr_copy_into(call->out[0], tsr_reshape(call->in[2], 4, (int64_t[]){1, g.o, 1, 1})) == TSR_OK
                        : tsr_fill(call->out[0], 0) == TSR_OK;
    if (widen)
        g.dtype = TSR_F32;
    tensor *x = prepared(call->in[0], widen), *w = prepared(call->in[1], widen);
    tensor *bias = has_bias ? prepared(call->in[2], widen) : NULL;
    tensor *y = widen ? tsr_empty(call->device, TSR_F32, 4, call->out[0]->shape) : call->out[0];
    if (x == NULL || w == NULL || (has_bias && bias == NULL) || y == NULL ||
        !(direct ? conv2d_direct : conv2d_columns)(call->device, &g, x, w, bias, y))
        return false;
    return !widen || tsr_copy_into(call->out[0], y) == TSR_OK;
}

static bool conv2d_run(const op_call *call)
{
    return OP_TEMPORARIES(run_conv2d(call));
}

/* A gradient in the dtype in which it is computed, then in the one that is wanted. */
typedef bool grad_fn(tsr_device *device, const conv2d *g, tensor *dy, tensor *other, tensor *out);

static tensor *gradient(grad_fn *f, tsr_device *device, conv2d g, tensor *dy, tensor *other, const op_output *spec)
{
    /* What is summed up from several products is kept in f32 until it is complete, so it is computed in f32 altogether. */
    const bool widen = is_16(g.dtype);
    if (g.n == 0 || g.o == 0 || g.oh * g.ow == 0)
        return tsr_zeros(device, spec->dtype, spec->rank, spec->shape);
    if (widen)
        g.dtype = TSR_F32;
    dy = prepared(dy, widen);
    other = prepared(other, widen);
    tensor *out = tsr_empty(device, g.dtype, spec->rank, spec->shape);
    if (dy == NULL || other == NULL || out == NULL || (out->numel > 0 && !f(device, &g, dy, other, out)))
        return NULL;
    return widen ? tsr_cast(out, spec->dtype) : out;
}

static tensor *gradient_x(tsr_device *device, const conv2d *g, tensor *dy, tensor *w, const op_output *spec)
{
    return gradient(is_direct(device) ? conv2d_direct_grad_x : conv2d_columns_grad_x, device, *g, dy, w, spec);
}

static tensor *gradient_w(tsr_device *device, const conv2d *g, tensor *dy, tensor *x, const op_output *spec)
{
    return gradient(is_direct(device) ? conv2d_direct_grad_w : conv2d_columns_grad_w, device, *g, dy, x, spec);
}

static bool conv2d_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    conv2d g;
    if (!geometry(&r->in_spec[0], &r->in_spec[1], r->attr, &g))
        return false;
    if (r->needs[0] && (dx[0] = gradient_x(r->device, &g, dy[0], r->in[1], &r->in_spec[0])) == NULL)
        return false;
    if (r->needs[1] && (dx[1] = gradient_w(r->device, &g, dy[0], r->in[0], &r->in_spec[1])) == NULL)
        return false;
    if (r->needs[2] && (dx[2] = tsr_sum(dy[0], (int[]){0, 2, 3}, 3, false)) == NULL)
        return false;
    return true;
}

const op_row op_conv2d = {
    .name = "conv2d",
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
    .infer = conv2d_infer,
    .run = conv2d_run,
    .backward = conv2d_backward,
    .saves = SAVE_INPUT(0) | SAVE_INPUT(1),
};

tsr_tensor *tsr_conv2d(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias, const tsr_conv2d_options *options)
{
    const tsr_conv2d_options o = options != NULL ? *options : (tsr_conv2d_options){.groups = 1};
    return OP1(op_conv2d, CONV2D_ATTRS(o), x, weight, bias);
}

static op_output spec_4(tsr_dtype dtype, const int64_t *shape)
{
    op_output spec = {.dtype = dtype, .rank = 4};
    memcpy(spec.shape, shape, 4 * sizeof *shape);
    return spec;
}

tensor *conv2d_grad_x(tensor *dy, tensor *w, const int64_t *x_shape, tsr_dtype dtype, const tsr_conv2d_options *o)
{
    if (dy == NULL || w == NULL)
        return NULL;
    const op_output x = spec_4(dy->dtype, x_shape), ws = op_spec_of(w), out = spec_4(dtype, x_shape);
    conv2d g;
    return geometry(&x, &ws, CONV2D_ATTRS(*o), &g) ? gradient_x(dy->storage->device, &g, dy, w, &out) : NULL;
}

tensor *conv2d_grad_w(tensor *dy, tensor *x, const int64_t *w_shape, tsr_dtype dtype, const tsr_conv2d_options *o)
{
    if (dy == NULL || x == NULL)
        return NULL;
    const op_output xs = op_spec_of(x), w = spec_4(x->dtype, w_shape), out = spec_4(dtype, w_shape);
    conv2d g;
    return geometry(&xs, &w, CONV2D_ATTRS(*o), &g) ? gradient_w(dy->storage->device, &g, dy, x, &out) : NULL;
}

bool part_sum_run(tsr_device *device, const part_sum *s, tensor *x, tensor *y)
{
    const int64_t wanted[] = {s->parts,   s->part_step, s->cols,  s->x_row,  s->x_col,
                              s->x_batch, s->y_row,     s->y_col, s->y_batch};
    uint32_t q[9];
    for (int i = 0; i < 9; i++) {
        if (wanted[i] > UINT32_MAX)
            return fail(TSR_UNSUPPORTED, "a sum of parts reaches over %lld elements; the kernel counts to 2^32",
                        (long long)wanted[i]),
                   false;
        q[i] = (uint32_t)wanted[i];
    }
    if (s->rows > 65535 || s->batches > 65535)
        return fail(TSR_UNSUPPORTED, "a sum of parts over %lld rows and %lld batches; a launch holds 65535 of each",
                    (long long)s->rows, (long long)s->batches),
               false;
    return kernel_launch(device, key_of("sum_parts", y->dtype).text, (grid){1, (uint32_t)s->rows, (uint32_t)s->batches},
                         (hal_binding[]){tensor_binding(x), tensor_binding(y)}, 2, q, sizeof q);
}
