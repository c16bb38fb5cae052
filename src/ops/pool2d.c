/* max_pool2d and avg_pool2d over the planes of [n, c, h, w]. */
#include <string.h>

#include "base/error.h"
#include "ops/op.h"
#include "tessera/ops.h"

enum { KERNEL, STRIDE, PADDING, EXCLUDE_PADDING };

enum {
    GRID_Y = 65535,
    GROUP_ELEMENTS = 2048 /* of a work-group */
};

typedef struct pool2d {
    int64_t planes, h, w, oh, ow;
    int64_t kernel[2], stride[2], padding[2];
    bool inside;
} pool2d;

static bool geometry(const char *name, const op_output *x, const attr_value *attr, pool2d *g)
{
    if (x->rank != 4) {
        fail(TSR_INVALID_ARGUMENT, "%s: x is [n, c, h, w], not %s", name, shape_text(x->rank, x->shape));
        return false;
    }
    *g = (pool2d){.planes = x->shape[0] * x->shape[1],
                  .h = x->shape[2],
                  .w = x->shape[3],
                  .inside = attr[EXCLUDE_PADDING].i != 0};
    int64_t *const out[2] = {&g->oh, &g->ow};
    for (int i = 0; i < 2; i++) {
        g->kernel[i] = attr[KERNEL].count == 2 ? attr[KERNEL].list[i] : 0;
        g->stride[i] = attr[STRIDE].count == 2 ? attr[STRIDE].list[i] : 0;
        g->padding[i] = attr[PADDING].count == 2 ? attr[PADDING].list[i] : 0;
        if (g->stride[i] == 0)
            g->stride[i] = g->kernel[i];
        if (attr[KERNEL].count != 2 || g->kernel[i] < 1 || g->stride[i] < 1 || g->kernel[i] > INT32_MAX ||
            g->stride[i] > INT32_MAX) {
            fail(TSR_INVALID_ARGUMENT,
                 "%s: kernel and stride are two numbers of at least 1 each (a stride of 0 means the "
                 "kernel's size), not kernel %lld and stride %lld",
                 name, (long long)g->kernel[i], (long long)g->stride[i]);
            return false;
        }
        if (g->padding[i] < 0 || 2 * g->padding[i] > g->kernel[i]) {
            fail(TSR_INVALID_ARGUMENT,
                 "%s: padding is at least 0 and at most half the kernel, not %lld for a kernel of %lld", name,
                 (long long)g->padding[i], (long long)g->kernel[i]);
            return false;
        }
        const int64_t padded = x->shape[2 + i] + 2 * g->padding[i];
        if (padded < g->kernel[i] || x->shape[2 + i] < 1 || padded > INT32_MAX) {
            fail(TSR_INVALID_ARGUMENT, "%s: a window of %lld does not fit into the padded size %lld of x, which is %s",
                 name, (long long)g->kernel[i], (long long)padded, shape_text(x->rank, x->shape));
            return false;
        }
        *out[i] = (padded - g->kernel[i]) / g->stride[i] + 1;
    }
    return true;
}

typedef struct pool_params {
    uint32_t h, w, oh, ow, kh, kw, sh, sw, ph, pw, rows, inside;
} pool_params;

/* Launches a kernel that gives each work-group some rows (of `rows` rows of `cols`) of one plane. planes first … are left out of
 * a launch where there are too many. */
static bool launch_planes(tsr_device *device, const char *kernel, const pool2d *g, int64_t rows, int64_t cols,
                          bool averages, tensor *const *operands, int count)
{
    pool_params q = {(uint32_t)g->h,
                     (uint32_t)g->w,
                     (uint32_t)g->oh,
                     (uint32_t)g->ow,
                     (uint32_t)g->kernel[0],
                     (uint32_t)g->kernel[1],
                     (uint32_t)g->stride[0],
                     (uint32_t)g->stride[1],
                     (uint32_t)g->padding[0],
                     (uint32_t)g->padding[1],
                     1,
                     g->inside};
    if (g->h * g->w > INT32_MAX)
        return fail(TSR_UNSUPPORTED, "%s: planes of %lld x %lld; the kernel counts to 2^31", kernel, (long long)g->h,
                    (long long)g->w),
               false;
    q.rows = (uint32_t)(cols >= GROUP_ELEMENTS ? 1 : GROUP_ELEMENTS / cols);
    const uint32_t shares = (uint32_t)((rows + q.rows - 1) / q.rows);
    tsr_dtype dtype = operands[0]->dtype;
    for (int64_t first = 0; first < g->planes; first += GRID_Y) {
        const int64_t now = g->planes - first < GRID_Y ? g->planes - first : GRID_Y;
        hal_binding b[4];
        for (int i = 0; i < count; i++) {
            b[i] = tensor_binding(operands[i]);
            const size_t skip = (size_t)(first * (operands[i]->numel / g->planes)) * tsr_dtype_size(operands[i]->dtype);
            b[i].offset += skip;
            b[i].length -= skip;
        }
        if (!kernel_launch(device, key_of(kernel, dtype).text, (grid){shares, (uint32_t)now, 1}, b, (uint32_t)count, &q,
                           averages ? sizeof q : sizeof q - sizeof q.inside))
            return false;
    }
    return true;
}

static bool pool_infer(const op_call *call, op_output *out)
{
    const op_output x = op_spec_of(call->in[0]);
    pool2d g;
    if (!geometry(call->row->name, &x, call->attr, &g))
        return false;
    out[0] = (op_output){.dtype = x.dtype, .rank = 4, .shape = {x.shape[0], x.shape[1], g.oh, g.ow}};
    if (call->row->outputs > 1) {
        out[1] = out[0];
        out[1].dtype = TSR_I32; /* where in its plane each maximum is */
    }
    return true;
}

static bool run_pool(const op_call *call)
{
    const op_output spec = op_spec_of(call->in[0]);
    const bool averages = call->row->outputs == 1;
    tensor *x = contiguous(call->in[0]);
    pool2d g;
    return x != NULL && geometry(call->row->name, &spec, call->attr, &g) &&
           launch_planes(call->device, averages ? "avg_pool" : "max_pool", &g, g.oh, g.ow, averages,
                         (tensor *[]){x, call->out[0], averages ? NULL : call->out[1]}, averages ? 2 : 3);
}

static bool pool_run(const op_call *call)
{
    return OP_TEMPORARIES(run_pool(call));
}

static bool pool_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    const bool averages = r->out_count == 1;
    pool2d g;
    dx[0] = tsr_empty(r->device, r->in_spec[0].dtype, 4, r->in_spec[0].shape);
    tensor *grad = contiguous(dy[0]);
    if (dx[0] == NULL || grad == NULL || !geometry(r->name, &r->in_spec[0], r->attr, &g))
        return false;
    if (dx[0]->numel == 0)
        return true;
    if (averages)
        return launch_planes(r->device, "avg_pool_grad", &g, g.h, g.w, true, (tensor *[]){grad, dx[0]}, 2);
    return launch_planes(r->device, "max_pool_grad", &g, g.h, g.w, false, (tensor *[]){grad, r->out[1], dx[0]}, 3);
}

#define POOL_ATTRS                                                                                                     \
    {"kernel", ATTR_INTS, true, {0}}, {"stride", ATTR_INTS, false, {0}},                                               \
    {                                                                                                                  \
        "padding", ATTR_INTS, false,                                                                                   \
        {                                                                                                              \
            0                                                                                                          \
        }                                                                                                              \
    }

const op_row op_max_pool2d = {
    .name = "max_pool2d",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 2,
    .dtypes = DTYPES_FLOAT,
    .attrs = {POOL_ATTRS},
    .autocast = AUTOCAST_WIDEST,
    .infer = pool_infer,
    .run = pool_run,
    .backward = pool_backward,
    .saves = SAVE_OUTPUT(1),
};

const op_row op_avg_pool2d = {
    .name = "avg_pool2d",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT,
    .attrs = {POOL_ATTRS, {"exclude_padding", ATTR_BOOL, false, {0}}},
    .autocast = AUTOCAST_WIDEST,
    .infer = pool_infer,
    .run = pool_run,
    .backward = pool_backward,
    .saves = 0,
};

static tensor *pool(const op_row *row, tensor *x, const tsr_pool2d_options *o)
{
    if (o == NULL) {
        fail(TSR_INVALID_ARGUMENT, "%s: the options are NULL, but the kernel's size is required", row->name);
        return NULL;
    }
    const attr_value attrs[OP_MAX_ATTRS] = {{.list = {o->kernel[0], o->kernel[1]}, .count = 2},
                                            {.list = {o->stride[0], o->stride[1]}, .count = 2},
                                            {.list = {o->padding[0], o->padding[1]}, .count = 2},
                                            {.i = o->exclude_padding}};
    return op_apply1(row, &x, 1, attrs);
}

tsr_tensor *tsr_max_pool2d(tsr_tensor *x, const tsr_pool2d_options *options)
{
    return pool(&op_max_pool2d, x, options);
}

tsr_tensor *tsr_avg_pool2d(tsr_tensor *x, const tsr_pool2d_options *options)
{
    return pool(&op_avg_pool2d, x, options);
}
