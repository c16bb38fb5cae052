/* Copies between any strides and dtypes, and the operators made of them: contiguous, clone, cast, fill, full, zeros, arange. */
#include <math.h>
#include <string.h>

#include "autograd/tape.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/fastdiv.h"
#include "base/memory.h"
#include "ops/op.h"
#include "tensor/device.h"
#include "tessera/ops.h"

enum {
    OUTER_DIMS = 4,        /* that the kernel walks; more are walked here */
    SHORT_ROW = 32,        /* below it, elements find their own places; … */
    SHORT_ROW_ALONE = 512, /* … a work-group of one takes several rows below this */
    ROW_SPAN = 4096,       /* elements of a work-group */
    GROUP_ELEMENTS = 1024
};

typedef struct outer_dim {
    uint32_t n, mul, shift, x, y;
} outer_dim;

typedef struct copy_params {
    uint32_t a
        [5]; /* by rows: cols span spans spans_mul spans_shift; by elements: count per_group cols cols_mul cols_shift */
    uint32_t x_step, y_step;
    outer_dim outer[3];
    uint32_t x4, y4;
} copy_params;

typedef struct copy_plan {
    int rank;
    int64_t shape[TSR_MAX_RANK];
    int64_t strides[2][TSR_MAX_RANK]; /* x, y */
} copy_plan;

static bool fits_kernel(const copy_plan *c)
{
    for (int i = 0; i < c->rank; i++)
        if (c->shape[i] > INT32_MAX || c->strides[0][i] > UINT32_MAX || c->strides[1][i] > UINT32_MAX)
            return false;
    return true;
}

static fast_div divisor(int64_t d)
{
    return fast_div_make((uint32_t)d);
}

/* Dimensions first … of the plan, at most OUTER_DIMS outer ones. */
static bool launch_copy(tsr_device *device, const copy_plan *c, int first, tsr_dtype tx, tsr_dtype ty, hal_binding x,
                        hal_binding y)
{
    const int inner = c->rank - 1;
    const int64_t cols = c->shape[inner];
    copy_params p = {.x_step = (uint32_t)c->strides[0][inner], .y_step = (uint32_t)c->strides[1][inner]};
    int64_t rows = 1;
    for (int k = 0; k < OUTER_DIMS; k++) {
        const int d = inner - 1 - k;
        const int64_t n = d >= first ? c->shape[d] : 1;
        const uint32_t sx = d >= first ? (uint32_t)c->strides[0][d] : 0,
                       sy = d >= first ? (uint32_t)c->strides[1][d] : 0;
        rows *= n;
        if (k < OUTER_DIMS - 1) {
            const fast_div f = divisor(n);
            p.outer[k] = (outer_dim){(uint32_t)n, f.mul, f.shift, sx, sy};
        } else {
            p.x4 = sx;
            p.y4 = sy;
        }
    }
    const bool alone = device_variant(device) == HAL_CLASS_CPU;
    if (cols < (alone ? SHORT_ROW_ALONE : SHORT_ROW) && rows > 1 && rows <= INT32_MAX / cols &&
        x.length <= UINT32_MAX && y.length <= UINT32_MAX) {
        const fast_div f = divisor(cols);
        const int64_t group = alone ? GROUP_ELEMENTS / cols * cols : GROUP_ELEMENTS; /* alone: whole rows */
        const uint32_t by_elements[] = {(uint32_t)(rows * cols), (uint32_t)group, (uint32_t)cols, f.mul, f.shift};
        memcpy(p.a, by_elements, sizeof p.a);
        const grid g = {(uint32_t)((rows * cols + group - 1) / group), 1, 1};
        return LAUNCH(device, key_of2("copy_elements", tx, ty), g, &p, x, y);
    }
    const int64_t spans = (cols + ROW_SPAN - 1) / ROW_SPAN;
    if (rows > INT32_MAX / spans) {
        fail(TSR_UNSUPPORTED, "copy: more than 2^31 rows");
        return false;
    }
    const fast_div f = divisor(spans);
    const uint32_t by_rows[] = {(uint32_t)cols, ROW_SPAN, (uint32_t)spans, f.mul, f.shift};
    memcpy(p.a, by_rows, sizeof p.a);
    return LAUNCH(device, key_of2("copy_rows", tx, ty), ((grid){(uint32_t)(rows * spans), 1, 1}), &p, x, y);
}

/* The dimensions that a launch does not hold are walked here, outermost first. */
static bool copy_dims(tsr_device *device, const copy_plan *c, int first, tsr_dtype tx, tsr_dtype ty, hal_binding x,
                      hal_binding y)
{
    if (c->rank - 1 - first <= OUTER_DIMS)
        return launch_copy(device, c, first, tx, ty, x, y);
    const size_t step_x = (size_t)c->strides[0][first] * tsr_dtype_size(tx);
    const size_t step_y = (size_t)c->strides[1][first] * tsr_dtype_size(ty);
    x.length -= step_x * (size_t)(c->shape[first] - 1);
    y.length -= step_y * (size_t)(c->shape[first] - 1);
    for (int64_t i = 0; i < c->shape[first]; i++, x.offset += step_x, y.offset += step_y)
        if (!copy_dims(device, c, first + 1, tx, ty, x, y))
            return false;
    return true;
}

/* y = x, shapes equal, not empty, no element of y twice. */
static bool copy_elements(const tensor *x, const tensor *y)
{
    tsr_device *device = x->storage->device;
    const hal_binding from = tensor_binding(x), to = tensor_binding(y);
    if (x->dtype == y->dtype && tsr_is_contiguous(x) && tsr_is_contiguous(y))
        return hal_buffer_copy(device->queue, from.buffer, from.offset, to.buffer, to.offset, from.length) == TSR_OK;
    copy_plan c = {.rank = x->rank};
    memcpy(c.shape, x->shape, sizeof c.shape);
    memcpy(c.strides[0], x->strides, sizeof c.strides[0]);
    memcpy(c.strides[1], y->strides, sizeof c.strides[1]);
    c.rank = dims_collapse(c.rank, c.shape, 2, c.strides);
    /* A dimension too long for 32 bits is split so that its outer part is walked here. */
    for (int d = 0; d < c.rank; d++) {
        const int64_t part = (int64_t)1 << 30;
        if (c.shape[d] <= INT32_MAX || c.rank == TSR_MAX_RANK || c.shape[d] % part != 0)
            continue;
        memmove(c.shape + d + 1, c.shape + d, sizeof *c.shape * (size_t)(c.rank - d));
        c.shape[d] /= part;
        c.shape[d + 1] = part;
        for (int k = 0; k < 2; k++) {
            memmove(c.strides[k] + d + 1, c.strides[k] + d, sizeof *c.shape * (size_t)(c.rank - d));
            c.strides[k][d] *= part;
        }
        c.rank++;
    }
    if (!fits_kernel(&c)) {
        fail(TSR_UNSUPPORTED, "copy of %s: a dimension or a stride is beyond 32 bits", tensor_text(x));
        return false;
    }
    return copy_dims(device, &c, 0, x->dtype, y->dtype, from, to);
}

/* Whether two elements of t may share memory: a stride that a smaller dimension's extent reaches. */
static bool overlaps_itself(const tensor *t)
{
    for (int i = 0; i < t->rank; i++) {
        if (t->shape[i] <= 1)
            continue;
        if (t->strides[i] == 0)
            return true;
        int64_t inside = 0; /* the furthest that dimensions of smaller stride reach */
        for (int k = 0; k < t->rank; k++)
            if (k != i && t->shape[k] > 1 &&
                (t->strides[k] < t->strides[i] || (t->strides[k] == t->strides[i] && k > i)))
                inside += (t->shape[k] - 1) * t->strides[k];
        if (inside >= t->strides[i])
            return true;
    }
    return false;
}

/* Whether the memory from first to last elements of both views has bytes in common. */
static bool may_overlap(const tensor *a, const tensor *b)
{
    const hal_binding x = tensor_binding(a), y = tensor_binding(b);
    return x.buffer == y.buffer && x.offset < y.offset + y.length && y.offset < x.offset + x.length;
}

tsr_status tsr_copy_into(tsr_tensor *to, tsr_tensor *from)
{
    if (to == NULL || from == NULL)
        return tsr_last_status() != TSR_OK ? tsr_last_status() : TSR_INVALID_ARGUMENT;
    if (to->storage->device != from->storage->device)
        return fail(TSR_INVALID_ARGUMENT, "tsr_copy_into: %s and %s are on different devices; tsr_to_device copies",
                    tensor_text(to), tensor_text(from));
    if (tape_recording() && to->node != NULL)
        return fail(TSR_INVALID_ARGUMENT, "tsr_copy_into: the target was computed by an operator that is recorded");
    int rank;
    int64_t shape[TSR_MAX_RANK];
    if (!shape_broadcast(from->rank, from->shape, to->rank, to->shape, &rank, shape) || rank != to->rank ||
        memcmp(shape, to->shape, sizeof *shape * (size_t)rank) != 0)
        return fail(TSR_INVALID_ARGUMENT, "tsr_copy_into: %s does not broadcast to %s", tensor_text(from),
                    tensor_text(to));
    if (to->numel == 0)
        return TSR_OK;
    if (overlaps_itself(to))
        return fail(TSR_INVALID_ARGUMENT, "tsr_copy_into: elements of the target %s share memory", tensor_text(to));
    if (!op_temporaries_begin())
        return tsr_last_status();
    tensor *source = tsr_expand(from, to->rank, to->shape);
    if (source != NULL && may_overlap(source, to))
        source = tsr_clone(source);
    const bool ok = source != NULL && copy_elements(source, to);
    if (ok)
        atomic_fetch_add_explicit(&to->storage->version, 1, memory_order_relaxed);
    return op_temporaries_end(ok) ? TSR_OK : tsr_last_status();
}

/* ---- operators: clone and cast ---- */

static bool copy_run(const op_call *call)
{
    return copy_elements(call->in[0], call->out[0]);
}

static bool clone_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    (void)r;
    dx[0] = dy[0];
    return true;
}

const op_row op_clone = {
    .name = "clone",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 1,
    .dtypes = DTYPES_ALL,
    .autocast = AUTOCAST_NONE,
    .infer = infer_same,
    .run = copy_run,
    .backward = clone_backward,
};

static bool cast_infer(const op_call *call, op_output *out)
{
    infer_same(call, out);
    out->dtype = (tsr_dtype)call->attr[0].i;
    if (call->attr[0].i >= 0 && call->attr[0].i < TSR_DTYPE_COUNT)
        return true;
    fail(TSR_INVALID_ARGUMENT, "cast: there is no dtype with the number %lld", (long long)call->attr[0].i);
    return false;
}

static bool cast_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    if (dtype_is_float(r->in_spec[0].dtype))
        dx[0] = tsr_cast(dy[0], r->in_spec[0].dtype);
    return dx[0] != NULL;
}

const op_row op_cast = {
    .name = "cast",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 1,
    .dtypes = DTYPES_ALL,
    .attrs = {{"dtype", ATTR_DTYPE, true, {0}}},
    .autocast = AUTOCAST_NONE,
    .infer = cast_infer,
    .run = copy_run,
    .backward = cast_backward,
};

tsr_tensor *tsr_cast(tsr_tensor *x, tsr_dtype dtype)
{
    if (x != NULL && x->dtype == dtype)
        return tsr_reshape(x, x->rank, x->shape);
    return OP1(op_cast, ATTRS(A_INT(dtype)), x);
}

tsr_tensor *tsr_clone(tsr_tensor *x)
{
    return OP1(op_clone, NULL, x);
}

tsr_tensor *tsr_contiguous(tsr_tensor *x)
{
    return x != NULL && tsr_is_contiguous(x) ? tsr_reshape(x, x->rank, x->shape) : tsr_clone(x);
}

/* ---- making ---- */

static int64_t saturate(double v, int64_t low, int64_t high)
{
    if (isnan(v))
        return 0;
    return v <= (double)low ? low : v >= (double)high ? high : (int64_t)v;
}

/* `value` as one element of dtype at `out` (8 bytes). f16 and bf16 are left to the device's conversion. */
static void element_of(double value, tsr_dtype dtype, void *out)
{
    const float f = (float)value;
    const int32_t i = (int32_t)saturate(value, INT32_MIN, INT32_MAX);
    const int64_t l = saturate(value, INT64_MIN, INT64_MAX);
    const uint8_t u = dtype == TSR_BOOL ? value != 0 : (uint8_t)saturate(value, 0, 255);
    switch (dtype) {
    case TSR_F64: memcpy(out, &value, sizeof value); break;
    case TSR_I32: memcpy(out, &i, sizeof i); break;
    case TSR_I64: memcpy(out, &l, sizeof l); break;
    case TSR_U8:
    case TSR_BOOL: memcpy(out, &u, sizeof u); break;
    default: memcpy(out, &f, sizeof f); break;
    }
}

/* Whole words of equal bytes go to the driver's fill; the rest is a broadcast copy of one element. */
static bool fill_words(tensor *x, uint32_t pattern)
{
    const hal_binding b = tensor_binding(x);
    return hal_buffer_fill(x->storage->device->queue, b.buffer, b.offset, b.length, pattern) == TSR_OK;
}

static bool fill_with(tensor *x, double value)
{
    const size_t bytes = (size_t)x->numel * tsr_dtype_size(x->dtype);
    unsigned char element[8] = {0};
    element_of(value, x->dtype, element);
    uint32_t word;
    memcpy(&word, element, sizeof word);
    const bool dense = tsr_is_contiguous(x) && bytes % 4 == 0 && tensor_binding(x).offset % 4 == 0;
    const bool zero = value == 0 && !signbit(value);
    if (dense && (zero || x->dtype == TSR_F32 || x->dtype == TSR_I32))
        return fill_words(x, word);
    if (dense && (x->dtype == TSR_U8 || x->dtype == TSR_BOOL))
        return fill_words(x, element[0] * 0x01010101u);
    const tsr_dtype source = x->dtype == TSR_F16 || x->dtype == TSR_BF16 ? TSR_F32 : x->dtype;
    tensor *one = tsr_from_data(x->storage->device, source, 0, NULL, element);
    tensor *all = tsr_expand(one, x->rank, x->shape);
    return all != NULL && copy_elements(all, x);
}

tsr_status tsr_fill(tsr_tensor *x, double value)
{
    if (x == NULL)
        return tsr_last_status() != TSR_OK ? tsr_last_status() : TSR_INVALID_ARGUMENT;
    if (x->numel == 0)
        return TSR_OK;
    if (overlaps_itself(x))
        return fail(TSR_INVALID_ARGUMENT, "tsr_fill: elements of %s share memory", tensor_text(x));
    atomic_fetch_add_explicit(&x->storage->version, 1, memory_order_relaxed);
    return OP_TEMPORARIES(fill_with(x, value)) ? TSR_OK : tsr_last_status();
}

tsr_tensor *tsr_full(tsr_device *device, tsr_dtype dtype, int rank, const int64_t *shape, double value)
{
    tensor *t = device == NULL ? NULL : tensor_new(device, dtype, rank, shape);
    if (t == NULL || tsr_fill(t, value) != TSR_OK) {
        tsr_release(t);
        return NULL;
    }
    return tensor_to_scope(t);
}

tsr_tensor *tsr_zeros(tsr_device *device, tsr_dtype dtype, int rank, const int64_t *shape)
{
    return tsr_full(device, dtype, rank, shape, 0);
}

/* Made on the host in double, so that every dtype gets the correctly rounded value. */
tsr_tensor *tsr_arange(tsr_device *device, tsr_dtype dtype, int64_t count, double start, double step)
{
    if (device == NULL)
        return NULL;
    if (count < 0 || tsr_dtype_size(dtype) == 0) {
        fail(TSR_OUT_OF_RANGE, "arange: %lld elements of %s", (long long)count, tsr_dtype_name(dtype));
        return NULL;
    }
    const tsr_dtype made = dtype == TSR_F16 || dtype == TSR_BF16 ? TSR_F32 : dtype;
    const size_t size = tsr_dtype_size(made);
    size_t bytes;
    unsigned char *data = checked_mul_size((size_t)count, size, &bytes) ? host_alloc(bytes) : NULL;
    if (data == NULL) {
        fail(TSR_OUT_OF_MEMORY, "arange: no host memory for %lld elements", (long long)count);
        return NULL;
    }
    for (int64_t i = 0; i < count; i++) {
        unsigned char element[8];
        element_of(start + (double)i * step, made, element);
        memcpy(data + (size_t)i * size, element, size);
    }
    tensor *t = tsr_from_data(device, made, 1, &count, data);
    host_free(data);
    return t == NULL || made == dtype ? t : tsr_cast(t, dtype);
}
