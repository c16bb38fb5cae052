/* Random numbers on the device: uniform, normal, dropout. Each call draws its own stream (kernels/random.k). */
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "ops/op.h"
#include "tensor/device.h"
#include "tessera/ops.h"

enum { PER_GROUP = 4096 }; /* elements of a work-group: a multiple of 4 */

static hal_binding seed_binding(tsr_device *device)
{
    return (hal_binding){.buffer = device->generator, .offset = 0, .length = 16};
}

static bool countable(const char *what, const tensor *t)
{
    if (t->numel <= UINT32_MAX)
        return true;
    fail(TSR_UNSUPPORTED, "%s: %s has more than 2^32 - 1 elements", what, tensor_text(t));
    return false;
}

static grid groups_of(const tensor *t)
{
    return (grid){(uint32_t)((t->numel + PER_GROUP - 1) / PER_GROUP), 1, 1};
}

typedef struct fill_params {
    uint32_t n, draw_low, draw_high, per_group;
    float a, b; /* uniform: low and width; normal: mean and deviation */
} fill_params;

static tsr_tensor *random_fill(const char *name, tsr_device *device, tsr_dtype dtype, int rank, const int64_t *shape,
                               double a, double b)
{
    if (device == NULL)
        return NULL;
    if (!dtype_is_float(dtype)) {
        fail(TSR_INVALID_ARGUMENT, "%s makes floating-point numbers, not %s", name, tsr_dtype_name(dtype));
        return NULL;
    }
    if (!isfinite(a) || !isfinite(b)) {
        fail(TSR_INVALID_ARGUMENT, "%s: its numbers must be finite", name);
        return NULL;
    }
    tensor *t = tensor_new(device, dtype, rank, shape);
    if (t == NULL)
        return NULL;
    const uint64_t draw = device_next_draw(device);
    const fill_params p = {(uint32_t)t->numel, (uint32_t)draw, (uint32_t)(draw >> 32), PER_GROUP, (float)a, (float)b};
    if (t->numel > 0 && (!countable(name, t) || !LAUNCH(device, key_of(name, dtype), groups_of(t), &p,
                                                        seed_binding(device), tensor_binding(t)))) {
        tsr_release(t);
        return NULL;
    }
    return tensor_to_scope(t);
}

tsr_tensor *tsr_uniform(tsr_device *device, tsr_dtype dtype, int rank, const int64_t *shape, double low, double high)
{
    return random_fill("uniform", device, dtype, rank, shape, low, high - low);
}

tsr_tensor *tsr_normal(tsr_device *device, tsr_dtype dtype, int rank, const int64_t *shape, double mean,
                       double deviation)
{
    return random_fill("normal", device, dtype, rank, shape, mean, deviation);
}

/* ---- dropout: attributes p, training, draw. The draw is chosen at the call and kept, so that the derivative (and a
 * recomputation) meets the same mask. ---- */

static bool dropout_infer(const op_call *call, op_output *out)
{
    const double p = call->attr[0].f;
    if (!(p >= 0 && p < 1)) {
        fail(TSR_OUT_OF_RANGE, "dropout: p is %g; it must lie in [0, 1)", p);
        return false;
    }
    return countable("dropout", call->in[0]) && infer_same(call, out);
}

static bool apply_mask(tsr_device *device, const attr_value *attr, tensor *x, tensor *y)
{
    const double p = attr[0].f, scale = 1.0 / (1.0 - p);
    const struct {
        uint32_t n, draw_low, draw_high, per_group, threshold;
        float scale, scale_low; /* f64 takes the sum of both */
    } params = {(uint32_t)y->numel,           (uint32_t)attr[2].i, (uint32_t)((uint64_t)attr[2].i >> 32), PER_GROUP,
                (uint32_t)(p * 4294967296.0), (float)scale,        (float)(scale - (double)(float)scale)};
    const tensor *dense = contiguous(x);
    return dense != NULL && LAUNCH(device, key_of("dropout", y->dtype), groups_of(y), &params, seed_binding(device),
                                   tensor_binding(dense), tensor_binding(y));
}

static bool dropout_run(const op_call *call)
{
    if (call->attr[1].i == 0 || call->attr[0].f == 0)
        return tsr_copy_into(call->out[0], call->in[0]) == TSR_OK;
    return OP_TEMPORARIES(apply_mask(call->device, call->attr, call->in[0], call->out[0]));
}

static bool dropout_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    if (r->attr[1].i == 0 || r->attr[0].f == 0) {
        dx[0] = dy[0];
        return true;
    }
    dx[0] = tsr_empty(r->device, dy[0]->dtype, dy[0]->rank, dy[0]->shape);
    return dx[0] != NULL && (dx[0]->numel == 0 || apply_mask(r->device, r->attr, dy[0], dx[0]));
}

const op_row op_dropout = {
    .name = "dropout",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT,
    .attrs = {{"p", ATTR_FLOAT, true, {0}}, {"training", ATTR_BOOL, false, {.i = 1}}, {"draw", ATTR_INT, true, {0}}},
    .autocast = AUTOCAST_WIDEST,
    .infer = dropout_infer,
    .run = dropout_run,
    .backward = dropout_backward,
};

tsr_tensor *tsr_dropout(tsr_tensor *x, double p, bool training)
{
    if (x == NULL)
        return NULL;
    if ((!training || p == 0) && p >= 0 && p < 1) /* nothing is left out */
        return tsr_reshape(x, x->rank, x->shape);
    const uint64_t draw = device_next_draw(x->storage->device);
    return OP1(op_dropout, ATTRS(A_FLOAT(p), A_INT(training), A_INT((int64_t)draw)), x);
}
