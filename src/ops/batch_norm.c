/* batch_norm2d: statistics in f32 through row sums, their sums over the batch, and one kernel for the result. */
#include <string.h>

#include "base/error.h"
#include "ops/op.h"
#include "tensor/device.h"
#include "tessera/ops.h"

enum { TRAINING, MOMENTUM, EPSILON }; /* attributes */
enum { X, WEIGHT, BIAS, RUNNING_MEAN, RUNNING_VARIANCE };

typedef struct planes {
    int64_t n, channels, cols; /* x as [n, channels, cols] */
    tsr_dtype carried;         /* dtype of statistics */
} planes;

static planes planes_of(int rank, const int64_t *shape, tsr_dtype dtype)
{
    planes s = {shape[0], shape[1], 1, dtype == TSR_F64 ? TSR_F64 : TSR_F32};
    for (int i = 2; i < rank; i++)
        s.cols *= shape[i];
    return s;
}

/* Outputs: y, and for the derivative the mean and 1 / sqrt(variance + epsilon) that were used. */
static bool batch_norm_infer(const op_call *call, op_output *out)
{
    static const char *const names[] = {"x", "weight", "bias", "running_mean", "running_variance"};
    const tensor *x = call->in[X];
    if (x->rank != 2 && x->rank != 4) {
        fail(TSR_INVALID_ARGUMENT, "batch_norm2d: x is %s; it must be [n, c, h, w] or [n, c]", tensor_text(x));
        return false;
    }
    const planes s = planes_of(x->rank, x->shape, x->dtype);
    for (int i = WEIGHT; i < call->in_count; i++) {
        const tensor *t = call->in[i];
        if (t != NULL &&
            (t->rank != 1 || t->shape[0] != s.channels || t->dtype != s.carried || !tsr_is_contiguous(t))) {
            fail(TSR_INVALID_ARGUMENT, "batch_norm2d: %s is %s; for x of %s it must be contiguous %s [%lld]", names[i],
                 tensor_text(t), tensor_text(x), tsr_dtype_name(s.carried), (long long)s.channels);
            return false;
        }
    }
    const bool training = call->attr[TRAINING].i != 0;
    if ((call->in[RUNNING_MEAN] == NULL) != (call->in[RUNNING_VARIANCE] == NULL) ||
        (!training && call->in[RUNNING_MEAN] == NULL)) {
        fail(TSR_INVALID_ARGUMENT,
             "batch_norm2d: running_mean and running_variance go together, and evaluation needs them");
        return false;
    }
    if (training && s.n * s.cols < 2) {
        fail(TSR_INVALID_ARGUMENT, "batch_norm2d: %s has %lld values a channel; training needs two or more",
             tensor_text(x), (long long)(s.n * s.cols));
        return false;
    }
    if (s.n * s.channels > INT32_MAX || s.cols > UINT32_MAX) {
        fail(TSR_UNSUPPORTED, "batch_norm2d: %s has more rows than a kernel can count", tensor_text(x));
        return false;
    }
    infer_same(call, out);
    for (int i = 1; i < 3; i++)
        out[i] = (op_output){.dtype = s.carried, .rank = 1, .shape = {s.channels}};
    return true;
}

/* Row sums [n, channels] over the batch, divided by `count`. */
static tensor *over_batch(tensor *rows, double count)
{
    tensor *sums = tsr_sum(rows, (int[]){0}, 1, false);
    return sums == NULL ? NULL : tsr_div(sums, tsr_full(sums->storage->device, sums->dtype, 0, NULL, count));
}

static tensor *row_tensor(tsr_device *device, const planes *s)
{
    return tsr_empty(device, s->carried, 2, (int64_t[]){s->n, s->channels});
}

static tensor *batch_mean(const tensor *x, const planes *s)
{
    tensor *rows = row_tensor(x->storage->device, s);
    const struct {
        uint32_t cols, channels;
    } p = {(uint32_t)s->cols, (uint32_t)s->channels};
    if (rows == NULL ||
        !LAUNCH(x->storage->device, key_of("batch_norm_sum", x->dtype), ((grid){(uint32_t)(s->n * s->channels), 1, 1}),
                &p, tensor_binding(x), tensor_binding(rows)))
        return NULL;
    return over_batch(rows, (double)(s->n * s->cols));
}

static tensor *batch_variance(const tensor *x, const tensor *mean, const planes *s)
{
    tensor *rows = row_tensor(x->storage->device, s);
    const struct {
        uint32_t cols, channels;
    } p = {(uint32_t)s->cols, (uint32_t)s->channels};
    if (rows == NULL || mean == NULL ||
        !LAUNCH(x->storage->device, key_of("batch_norm_deviation", x->dtype),
                ((grid){(uint32_t)(s->n * s->channels), 1, 1}), &p, tensor_binding(x), tensor_binding(mean),
                tensor_binding(rows)))
        return NULL;
    return over_batch(rows, (double)(s->n * s->cols));
}

static bool statistics(const op_call *call, tensor *x, const planes *s)
{
    const bool training = call->attr[TRAINING].i != 0;
    tensor *mean = training ? batch_mean(x, s) : call->in[RUNNING_MEAN];
    tensor *variance = training ? batch_variance(x, mean, s) : call->in[RUNNING_VARIANCE];
    if (mean == NULL || variance == NULL)
        return false;
    const bool moves = training && call->in[RUNNING_MEAN] != NULL;
    const double momentum = moves ? call->attr[MOMENTUM].f : 0, epsilon = call->attr[EPSILON].f;
    const struct {
        uint32_t channels;
        float count, momentum, momentum_low, epsilon, epsilon_low;
    } p = {(uint32_t)s->channels, (float)(s->n * s->cols),
           (float)momentum,       (float)(momentum - (double)(float)momentum),
           (float)epsilon,        (float)(epsilon - (double)(float)epsilon)};
    /* Without running statistics the kernel does not touch their bindings; any memory serves. */
    const tensor *spare = call->out[2], *running_mean = moves ? call->in[RUNNING_MEAN] : spare,
                 *running_variance = moves ? call->in[RUNNING_VARIANCE] : spare;
    for (int i = RUNNING_MEAN; moves && i <= RUNNING_VARIANCE; i++)
        atomic_fetch_add_explicit(&call->in[i]->storage->version, 1, memory_order_relaxed);
    return LAUNCH(call->device, key_of("batch_norm_finish", x->dtype), ((grid){1, 1, 1}), &p, tensor_binding(mean),
                  tensor_binding(variance), tensor_binding(running_mean), tensor_binding(running_variance),
                  tensor_binding(call->out[2])) &&
           tsr_copy_into(call->out[1], mean) == TSR_OK;
}

static uint32_t affine_bits(const tensor *weight, const tensor *bias)
{
    return (weight != NULL ? 1u : 0u) | (bias != NULL ? 2u : 0u);
}

static bool run(const op_call *call)
{
    tensor *x = contiguous(call->in[X]);
    const tensor *weight = call->in_count > WEIGHT ? call->in[WEIGHT] : NULL;
    const tensor *bias = call->in_count > BIAS ? call->in[BIAS] : NULL;
    if (x == NULL)
        return false;
    const planes s = planes_of(x->rank, x->shape, x->dtype);
    if (!statistics(call, x, &s))
        return false;
    if (x->numel == 0)
        return true;
    const struct {
        uint32_t cols, channels, affine;
    } p = {(uint32_t)s.cols, (uint32_t)s.channels, affine_bits(weight, bias)};
    const tensor *mean = call->out[1];
    return LAUNCH(call->device, key_of("batch_norm", x->dtype), ((grid){(uint32_t)(s.n * s.channels), 1, 1}), &p,
                  tensor_binding(x), tensor_binding(mean), tensor_binding(call->out[2]),
                  tensor_binding(weight != NULL ? weight : mean), tensor_binding(bias != NULL ? bias : mean),
                  tensor_binding(call->out[0]));
}

static bool batch_norm_run(const op_call *call)
{
    return OP_TEMPORARIES(run(call));
}

static bool batch_norm_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    tensor *x = contiguous(r->in[X]), *g = contiguous(dy[0]);
    if (x == NULL || g == NULL)
        return false;
    const planes s = planes_of(x->rank, x->shape, x->dtype);
    const uint32_t rows = (uint32_t)(s.n * s.channels);
    const tensor *mean = r->out[1], *inverse = r->out[2], *weight = r->in[WEIGHT];
    tensor *sums = (x->numel == 0 ? tsr_zeros : tsr_empty)(r->device, s.carried, 3, (int64_t[]){2, s.n, s.channels});
    const struct {
        uint32_t cols, channels, rows;
    } p = {(uint32_t)s.cols, (uint32_t)s.channels, rows};
    if (sums == NULL || (x->numel > 0 && !LAUNCH(r->device, key_of("batch_norm_grad_sums", x->dtype),
                                                 ((grid){rows, 1, 1}), &p, tensor_binding(x), tensor_binding(g),
                                                 tensor_binding(mean), tensor_binding(inverse), tensor_binding(sums))))
        return false;
    tensor *totals = tsr_sum(sums, (int[]){1}, 1, false); /* [2, channels]: sum dy, sum dy xhat */
    tensor *d_bias = tsr_reshape(tsr_slice(totals, 0, 0, 1, 1), 1, &s.channels);
    tensor *d_weight = tsr_reshape(tsr_slice(totals, 0, 1, 2, 1), 1, &s.channels);
    if (d_bias == NULL || d_weight == NULL)
        return false;
    if (r->needs[WEIGHT])
        dx[WEIGHT] = d_weight;
    if (r->needs[BIAS])
        dx[BIAS] = d_bias;
    if (!r->needs[X])
        return true;
    const struct {
        uint32_t cols, channels, affine, training;
        float count;
    } q = {(uint32_t)s.cols, (uint32_t)s.channels, affine_bits(weight, NULL), r->attr[TRAINING].i != 0,
           (float)(s.n * s.cols)};
    dx[X] = tsr_empty(r->device, x->dtype, x->rank, x->shape);
    return dx[X] != NULL &&
           (x->numel == 0 || LAUNCH(r->device, key_of("batch_norm_grad", x->dtype), ((grid){rows, 1, 1}), &q,
                                    tensor_binding(x), tensor_binding(g), tensor_binding(mean), tensor_binding(inverse),
                                    tensor_binding(weight != NULL ? weight : mean), tensor_binding(d_bias),
                                    tensor_binding(d_weight), tensor_binding(dx[X])));
}

const op_row op_batch_norm2d = {
    .name = "batch_norm2d",
    .inputs_min = 1,
    .inputs_max = 5,
    .outputs = 3,
    .dtypes = DTYPES_FLOAT,
    .any_dtype = 1u << WEIGHT | 1u << BIAS | 1u << RUNNING_MEAN | 1u << RUNNING_VARIANCE,
    .attrs = {{"training", ATTR_BOOL, false, {.i = 1}},
              {"momentum", ATTR_FLOAT, false, {.f = 0.1}},
              {"epsilon", ATTR_FLOAT, false, {.f = 1e-5}}},
    .autocast = AUTOCAST_F32,
    .infer = batch_norm_infer,
    .run = batch_norm_run,
    .backward = batch_norm_backward,
    .saves = SAVE_INPUT(X) | SAVE_INPUT(WEIGHT) | SAVE_OUTPUT(1) | SAVE_OUTPUT(2),
};

tsr_tensor *tsr_batch_norm2d(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias, tsr_tensor *running_mean,
                             tsr_tensor *running_variance, bool training, double momentum, double epsilon)
{
    return OP1(op_batch_norm2d, ATTRS(A_INT(training), A_FLOAT(momentum), A_FLOAT(epsilon)), x, weight, bias,
               running_mean, running_variance);
}
