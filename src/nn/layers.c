/* The layers: what each registers and which operator it applies. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "autograd/checkpoint.h"
#include "base/error.h"
#include "base/memory.h"
#include "nn/module.h"
#include "tessera/autograd.h"

/* ---- linear ---- */

static tsr_tensor *linear_forward(void *context, tsr_module *self, tsr_tensor *x)
{
    (void)context;
    return tsr_linear(x, module_own_parameter(self, 0), module_own_parameter(self, 1));
}

tsr_module *tsr_linear_create(tsr_device *device, int64_t in, int64_t out, bool bias)
{
    if (in < 1 || out < 1) {
        fail(TSR_OUT_OF_RANGE, "linear: %lld inputs and %lld outputs; both must be at least 1", (long long)in,
             (long long)out);
        return NULL;
    }
    tsr_module *m = tsr_module_create("linear", linear_forward, NULL, NULL);
    const double bound = 1.0 / sqrt((double)in);
    tsr_status status = module_add_uniform(m, "weight", device, 2, (int64_t[]){out, in}, bound);
    if (status == TSR_OK && bias)
        status = module_add_uniform(m, "bias", device, 1, &out, bound);
    return module_finished(m, status);
}

/* ---- pools ---- */

static tsr_tensor *max_pool2d_forward(void *context, tsr_module *self, tsr_tensor *x)
{
    (void)self;
    return tsr_max_pool2d(x, context);
}

static tsr_tensor *avg_pool2d_forward(void *context, tsr_module *self, tsr_tensor *x)
{
    (void)self;
    return tsr_avg_pool2d(x, context);
}

static tsr_module *pool_create(const char *kind, tsr_forward_fn *forward, const tsr_pool2d_options *options)
{
    if (options == NULL || options->kernel[0] < 1 || options->kernel[1] < 1) {
        fail(TSR_INVALID_ARGUMENT, "%s needs a kernel of at least 1×1", kind);
        return NULL;
    }
    return module_create_with(kind, forward, options, sizeof *options);
}

tsr_module *tsr_max_pool2d_create(const tsr_pool2d_options *options)
{
    return pool_create("max_pool2d", max_pool2d_forward, options);
}

tsr_module *tsr_avg_pool2d_create(const tsr_pool2d_options *options)
{
    return pool_create("avg_pool2d", avg_pool2d_forward, options);
}

/* ---- batch_norm2d ---- */

typedef struct batch_norm_options {
    double momentum, epsilon;
} batch_norm_options;

static tsr_tensor *batch_norm2d_forward(void *context, tsr_module *self, tsr_tensor *x)
{
    const batch_norm_options *o = context;
    const bool moves = !(self->training && checkpoint_replaying()); /* the first run has moved them */
    return tsr_batch_norm2d(x, module_own_parameter(self, 0), module_own_parameter(self, 1),
                            moves ? self->buffers.items[0].tensor : NULL, moves ? self->buffers.items[1].tensor : NULL,
                            self->training, o->momentum, o->epsilon);
}

tsr_module *tsr_batch_norm2d_create(tsr_device *device, int64_t channels, double momentum, double epsilon)
{
    const batch_norm_options o = {momentum == 0 ? 0.1 : momentum, epsilon == 0 ? 1e-5 : epsilon};
    if (channels < 1 || !(o.momentum > 0 && o.momentum <= 1) || !(o.epsilon > 0)) {
        fail(TSR_OUT_OF_RANGE,
             "batch_norm2d: %lld channels, momentum %g, epsilon %g; needed are at least 1, (0, 1] and above 0",
             (long long)channels, o.momentum, o.epsilon);
        return NULL;
    }
    tsr_module *m = module_create_with("batch_norm2d", batch_norm2d_forward, &o, sizeof o);
    static const struct {
        const char *name;
        double value;
        bool parameter;
    } made[] = {{"weight", 1, true}, {"bias", 0, true}, {"running_mean", 0, false}, {"running_var", 1, false}};
    tsr_status status = TSR_OK;
    for (size_t i = 0; i < 4 && status == TSR_OK; i++) {
        tsr_tensor *t = tsr_keep(tsr_full(device, TSR_F32, 1, &channels, made[i].value));
        status = made[i].parameter ? tsr_module_add_parameter(m, made[i].name, t)
                                   : tsr_module_add_buffer(m, made[i].name, t);
    }
    return module_finished(m, status);
}

/* ---- layer_norm ---- */

typedef struct layer_norm_options {
    int rank;
    int64_t shape[TSR_MAX_RANK];
    double epsilon;
} layer_norm_options;

static tsr_tensor *layer_norm_forward(void *context, tsr_module *self, tsr_tensor *x)
{
    const layer_norm_options *o = context;
    return tsr_layer_norm(x, o->rank, o->shape, module_own_parameter(self, 0), module_own_parameter(self, 1),
                          o->epsilon);
}

tsr_module *tsr_layer_norm_create(tsr_device *device, int rank, const int64_t *shape, double epsilon, bool bias)
{
    layer_norm_options o = {.rank = rank, .epsilon = epsilon == 0 ? 1e-5 : epsilon};
    if (rank < 1 || rank > TSR_MAX_RANK || shape == NULL || !(o.epsilon > 0)) {
        fail(TSR_OUT_OF_RANGE, "layer_norm: %d sizes and epsilon %g; needed are 1 to %d and a number above 0", rank,
             o.epsilon, TSR_MAX_RANK);
        return NULL;
    }
    memcpy(o.shape, shape, sizeof *shape * (size_t)rank);
    tsr_module *m = module_create_with("layer_norm", layer_norm_forward, &o, sizeof o);
    tsr_status status = tsr_module_add_parameter(m, "weight", tsr_keep(tsr_full(device, TSR_F32, rank, shape, 1)));
    if (status == TSR_OK && bias)
        status = tsr_module_add_parameter(m, "bias", tsr_keep(tsr_full(device, TSR_F32, rank, shape, 0)));
    return module_finished(m, status);
}

/* ---- embedding ---- */

static tsr_tensor *embedding_forward(void *context, tsr_module *self, tsr_tensor *x)
{
    return tsr_embedding(module_own_parameter(self, 0), x, *(const int64_t *)context);
}

/* The row of padding_idx is 0 at first, and stays so: it gets no gradient. */
static tsr_status clear_row(tsr_module *m, int64_t row)
{
    tsr_status status = tsr_scope_begin();
    if (status != TSR_OK)
        return status;
    tsr_no_grad_begin();
    tsr_tensor *of_row = tsr_slice(module_own_parameter(m, 0), 0, row, row + 1, 1);
    status = of_row == NULL ? tsr_last_status() : tsr_fill(of_row, 0);
    tsr_no_grad_end();
    tsr_scope_end();
    return status;
}

tsr_module *module_embedding(tsr_device *device, int64_t count, int64_t width, int64_t padding_idx, double deviation)
{
    if (count < 1 || width < 1 || padding_idx >= count) {
        fail(TSR_OUT_OF_RANGE,
             "embedding: %lld rows of width %lld and padding_idx %lld; sizes must be at least 1, the row one of them",
             (long long)count, (long long)width, (long long)padding_idx);
        return NULL;
    }
    tsr_module *m = module_create_with("embedding", embedding_forward, &padding_idx, sizeof padding_idx);
    tsr_status status = module_add_normal(m, "weight", device, 2, (int64_t[]){count, width}, deviation);
    if (status == TSR_OK && padding_idx >= 0)
        status = clear_row(m, padding_idx);
    return module_finished(m, status);
}

tsr_module *tsr_embedding_create(tsr_device *device, int64_t count, int64_t width, int64_t padding_idx)
{
    return module_embedding(device, count, width, padding_idx, 1);
}

/* ---- dropout ---- */

static tsr_tensor *dropout_forward(void *context, tsr_module *self, tsr_tensor *x)
{
    return tsr_dropout(x, *(const double *)context, self->training);
}

tsr_module *tsr_dropout_create(double p)
{
    if (!(p >= 0 && p < 1)) {
        fail(TSR_OUT_OF_RANGE, "dropout: p is %g; it must lie in [0, 1)", p);
        return NULL;
    }
    return module_create_with("dropout", dropout_forward, &p, sizeof p);
}

/* ---- activations and flatten ---- */

#define ACTIVATION(name)                                                                                               \
    static tsr_tensor *name##_forward(void *context, tsr_module *self, tsr_tensor *x)                                  \
    {                                                                                                                  \
        (void)context;                                                                                                 \
        (void)self;                                                                                                    \
        return tsr_##name(x);                                                                                          \
    }                                                                                                                  \
    tsr_module *tsr_##name##_create(void)                                                                              \
    {                                                                                                                  \
        return tsr_module_create(#name, name##_forward, NULL, NULL);                                                   \
    }

ACTIVATION(relu)
ACTIVATION(gelu)
ACTIVATION(silu)
ACTIVATION(tanh)
ACTIVATION(sigmoid)

static tsr_tensor *leaky_relu_forward(void *context, tsr_module *self, tsr_tensor *x)
{
    (void)self;
    return tsr_leaky_relu(x, *(const double *)context);
}

tsr_module *tsr_leaky_relu_create(double slope)
{
    return module_create_with("leaky_relu", leaky_relu_forward, &slope, sizeof slope);
}

static tsr_tensor *flatten_forward(void *context, tsr_module *self, tsr_tensor *x)
{
    (void)self;
    return tsr_flatten(x, *(const int *)context, -1);
}

tsr_module *tsr_flatten_create(int first)
{
    return module_create_with("flatten", flatten_forward, &first, sizeof first);
}
