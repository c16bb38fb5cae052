/* resample: a new number of elements along an axis; interpolate and adaptive_avg_pool2d, which resample one axis after the other.
 *
 * Each is a linear map whose rows touch a few neighbours; the host tells which and by how much (kernels/resample.k). Its derivative is the
 * transposed map, whose rows are neighbours again, since windows move in one direction only. */
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"
#include "ops/op.h"
#include "tessera/ops.h"

/* Row j: `count` elements from `first` on, and their weights, `taps` places a row. */
typedef struct band {
    int64_t rows, taps;
    int32_t *spans;
    double *weights;
} band;

static void band_free(band *b)
{
    host_free(b->spans);
    host_free(b->weights);
}

static bool band_alloc(band *b, int64_t rows, int64_t taps)
{
    int64_t n;
    *b = (band){.rows = rows, .taps = taps};
    if (!checked_mul_i64(rows, taps, &n) || n > INT32_MAX) {
        fail(TSR_UNSUPPORTED, "resample: %lld elements of %lld terms each are too many", (long long)rows,
             (long long)taps);
        return false;
    }
    b->spans = host_alloc_zeroed((size_t)rows * 2 + 1, sizeof *b->spans);
    b->weights = host_alloc_zeroed((size_t)n + 1, sizeof *b->weights);
    if (b->spans != NULL && b->weights != NULL)
        return true;
    band_free(b);
    return false;
}

static void row_set(band *b, int64_t row, int64_t first, int64_t count, double weight, double last)
{
    b->spans[2 * row] = (int32_t)first;
    b->spans[2 * row + 1] = (int32_t)count;
    for (int64_t t = 0; t < count; t++)
        b->weights[row * b->taps + t] = t == count - 1 ? last : weight;
}

/* Where output j of m lies among n elements. (PyTorch's area_pixel_compute_source_index.) */
static double source_of(tsr_resampling mode, int64_t j, int64_t n, int64_t m)
{
    if (mode == TSR_LINEAR_CORNERS)
        return m > 1 ? (double)j * (double)(n - 1) / (double)(m - 1) : 0;
    return fmax(0, ((double)j + 0.5) * (double)n / (double)m - 0.5);
}

static bool band_make(band *b, tsr_resampling mode, int64_t n, int64_t m)
{
    const int64_t taps = mode == TSR_NEAREST ? 1 : mode == TSR_MEAN ? min_i64(n, n / m + 2) : 2;
    if (!band_alloc(b, m, taps))
        return false;
    for (int64_t j = 0; j < m; j++) {
        if (mode == TSR_NEAREST) {
            row_set(b, j, j * n / m, 1, 1, 1);
        } else if (mode == TSR_MEAN) { /* divided in the kernel, so that whole sums stay whole */
            const int64_t first = j * n / m, end = ((j + 1) * n + m - 1) / m;
            row_set(b, j, first, end - first, 1, 1);
        } else {
            const double at = source_of(mode, j, n, m);
            const int64_t first = min_i64((int64_t)at, n - 1);
            const double part = at - (double)first;
            if (first == n - 1)
                row_set(b, j, first, 1, 1, 1);
            else
                row_set(b, j, first, 2, 1 - part, part);
        }
    }
    return true;
}

/* The transposed map over n elements; `divides`: each of b's rows was divided by its count. */
static bool band_transpose(const band *b, int64_t n, bool divides, band *out)
{
    int64_t *counts = host_alloc_zeroed((size_t)n + 1, sizeof *counts), most = 1;
    if (counts == NULL)
        return false;
    for (int64_t j = 0; j < b->rows; j++)
        for (int64_t t = 0; t < b->spans[2 * j + 1]; t++) {
            const int64_t i = b->spans[2 * j] + t;
            most = max_i64(most, ++counts[i]);
        }
    host_free(counts);
    if (!band_alloc(out, n, most))
        return false;
    for (int64_t j = 0; j < b->rows; j++) {
        const int64_t count = b->spans[2 * j + 1];
        for (int64_t t = 0; t < count; t++) {
            int32_t *span = &out->spans[2 * (b->spans[2 * j] + t)];
            if (span[1] == 0)
                span[0] = (int32_t)j;
            out->weights[(b->spans[2 * j] + t) * most + span[1]++] =
                b->weights[j * b->taps + t] / (divides ? (double)count : 1);
        }
    }
    return true;
}

/* ---- running ---- */

static tensor *upload_weights(tsr_device *device, const band *b, tsr_dtype dtype)
{
    const int64_t n = b->rows * b->taps;
    if (dtype == TSR_F64)
        return tsr_from_data(device, dtype, 1, &n, b->weights);
    float *narrow = host_alloc(sizeof *narrow * (size_t)max_i64(n, 1));
    if (narrow == NULL)
        return NULL;
    for (int64_t i = 0; i < n; i++)
        narrow[i] = (float)b->weights[i];
    tensor *t = tsr_from_data(device, dtype, 1, &n, narrow);
    host_free(narrow);
    return t;
}

static bool apply(const band *b, tensor *x, int axis, bool divides, tensor *y)
{
    tsr_device *device = y->storage->device;
    const tsr_dtype carried = y->dtype == TSR_F64 ? TSR_F64 : TSR_F32;
    int64_t outer = 1, inner = 1;
    for (int i = 0; i < y->rank; i++)
        *(i < axis ? &outer : &inner) *= i == axis ? 1 : y->shape[i];
    x = contiguous(x);
    tensor *spans = tsr_from_data(device, TSR_I32, 1, (int64_t[]){b->rows * 2}, b->spans);
    tensor *weights = upload_weights(device, b, carried);
    if (x == NULL || spans == NULL || weights == NULL)
        return false;
    const int64_t n = x->shape[axis], m = y->shape[axis];
    if (outer * m > INT32_MAX || n * inner > UINT32_MAX) {
        fail(TSR_UNSUPPORTED, "resample: %s is larger than a kernel can count", tensor_text(x));
        return false;
    }
    if (inner == 1) {
        const struct {
            uint32_t n, m, taps, divides;
        } p = {(uint32_t)n, (uint32_t)m, (uint32_t)b->taps, divides};
        return LAUNCH(device, key_of("resample_lines", y->dtype), ((grid){(uint32_t)outer, 1, 1}), &p,
                      tensor_binding(x), tensor_binding(spans), tensor_binding(weights), tensor_binding(y));
    }
    const struct {
        uint32_t n, m, cols, taps, divides;
    } p = {(uint32_t)n, (uint32_t)m, (uint32_t)inner, (uint32_t)b->taps, divides};
    return LAUNCH(device, key_of("resample_rows", y->dtype), ((grid){(uint32_t)(outer * m), 1, 1}), &p,
                  tensor_binding(x), tensor_binding(spans), tensor_binding(weights), tensor_binding(y));
}

enum { AXIS, SIZE, MODE };

static int axis_in(const op_output *x, const attr_value *attr)
{
    return (int)(attr[AXIS].i < 0 ? attr[AXIS].i + x->rank : attr[AXIS].i);
}

static bool resample_infer(const op_call *call, op_output *out)
{
    const tensor *x = call->in[0];
    const int64_t size = call->attr[SIZE].i, mode = call->attr[MODE].i;
    int axis;
    if (!axis_normalize("resample", (int)max_i64(min_i64(call->attr[AXIS].i, INT32_MAX), INT32_MIN), x->rank, &axis))
        return false;
    if (x->rank == 0 || size < 1 || size > INT32_MAX || x->shape[axis] < 1 || x->shape[axis] > INT32_MAX ||
        mode < TSR_NEAREST || mode > TSR_MEAN) {
        fail(TSR_INVALID_ARGUMENT, "resample: axis %d of %s to %lld elements in mode %lld; both sizes are at least 1",
             axis, tensor_text(x), (long long)size, (long long)mode);
        return false;
    }
    infer_same(call, out);
    out->shape[axis] = size;
    return true;
}

static bool run(const op_call *call)
{
    const tensor *x = call->in[0];
    op_output spec;
    band b;
    infer_same(call, &spec);
    const int axis = axis_in(&spec, call->attr);
    const tsr_resampling mode = (tsr_resampling)call->attr[MODE].i;
    if (!band_make(&b, mode, x->shape[axis], call->attr[SIZE].i))
        return false;
    const bool ok = apply(&b, call->in[0], axis, mode == TSR_MEAN, call->out[0]);
    band_free(&b);
    return ok;
}

static bool resample_run(const op_call *call)
{
    return OP_TEMPORARIES(run(call));
}

static bool resample_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    const op_output *x = &r->in_spec[0];
    const int axis = axis_in(x, r->attr);
    const tsr_resampling mode = (tsr_resampling)r->attr[MODE].i;
    band b, t;
    dx[0] = tsr_empty(r->device, x->dtype, x->rank, x->shape);
    if (dx[0] == NULL || dx[0]->numel == 0)
        return dx[0] != NULL;
    if (!band_make(&b, mode, x->shape[axis], r->attr[SIZE].i))
        return false;
    bool ok = band_transpose(&b, x->shape[axis], mode == TSR_MEAN, &t);
    band_free(&b);
    if (!ok)
        return false;
    ok = apply(&t, dy[0], axis, false, dx[0]);
    band_free(&t);
    return ok;
}

const op_row op_resample = {
    .name = "resample",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT,
    .attrs = {{"axis", ATTR_INT, true, {0}}, {"size", ATTR_INT, true, {0}}, {"mode", ATTR_INT, false, {0}}},
    .autocast = AUTOCAST_WIDEST,
    .infer = resample_infer,
    .run = resample_run,
    .backward = resample_backward,
};

tsr_tensor *tsr_resample(tsr_tensor *x, int axis, int64_t size, tsr_resampling mode)
{
    return OP1(op_resample, ATTRS(A_INT(axis), A_INT(size), A_INT(mode)), x);
}

/* ---- interpolate, adaptive_avg_pool2d ---- */

/* The last axes of x to the sizes, the last axis first. 16-bit numbers are rounded once, at the end. */
static tensor *resample_axes(tensor *x, const attr_value *sizes, tsr_resampling mode)
{
    const tsr_dtype dtype = x->dtype;
    const bool widens = mode != TSR_NEAREST && (dtype == TSR_F16 || dtype == TSR_BF16);
    tensor *y = widens ? tsr_cast(x, TSR_F32) : x;
    for (int i = sizes->count - 1; i >= 0; i--)
        y = tsr_resample(y, x->rank - sizes->count + i, sizes->list[i], mode);
    return widens ? tsr_cast(y, dtype) : y;
}

static bool interpolate(const op_call *call, tensor **out)
{
    tensor *x = call->in[0];
    if (call->attr[0].count < 1 || x->rank != call->attr[0].count + 2 || call->attr[1].i > TSR_LINEAR_CORNERS) {
        fail(TSR_INVALID_ARGUMENT,
             "interpolate: x is %s for %d sizes in mode %lld; it must be [n, channels, a size each], the mode "
             "nearest, linear or linear with corners",
             tensor_text(x), call->attr[0].count, (long long)call->attr[1].i);
        return false;
    }
    out[0] = resample_axes(x, &call->attr[0], (tsr_resampling)call->attr[1].i);
    return out[0] != NULL;
}

static bool adaptive_avg_pool2d(const op_call *call, tensor **out)
{
    tensor *x = call->in[0];
    if (call->attr[0].count != 2 || x->rank != 4) {
        fail(TSR_INVALID_ARGUMENT, "adaptive_avg_pool2d: x is %s for %d sizes; it must be [n, channels, h, w] for two",
             tensor_text(x), call->attr[0].count);
        return false;
    }
    out[0] = resample_axes(x, &call->attr[0], TSR_MEAN);
    return out[0] != NULL;
}

const op_row op_interpolate = {
    .name = "interpolate",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT,
    .attrs = {{"sizes", ATTR_INTS, true, {0}}, {"mode", ATTR_INT, false, {0}}},
    .autocast = AUTOCAST_WIDEST,
    .compose = interpolate,
};

const op_row op_adaptive_avg_pool2d = {
    .name = "adaptive_avg_pool2d",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT,
    .attrs = {{"sizes", ATTR_INTS, true, {0}}},
    .autocast = AUTOCAST_WIDEST,
    .compose = adaptive_avg_pool2d,
};

tsr_tensor *tsr_interpolate(tsr_tensor *x, int count, const int64_t *sizes, tsr_resampling mode)
{
    attr_value list;
    return x != NULL && attr_ints("interpolate", count, sizes, &list) ? OP1(op_interpolate, ATTRS(list, A_INT(mode)), x)
                                                                      : NULL;
}

tsr_tensor *tsr_adaptive_avg_pool2d(tsr_tensor *x, int64_t height, int64_t width)
{
    const attr_value sizes = {.list = {height, width}, .count = 2};
    return OP1(op_adaptive_avg_pool2d, ATTRS(sizes), x);
}
