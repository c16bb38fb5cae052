#include "models.h"

#include <string.h>

#include "base/compiler.h"
#include "base/error.h"

enum { LAYERS_MAX = 16 };

const char *const model_names[] = {"cnn", "mlp", NULL};

/* LeCun et al. 1998 in today's sizes. */
static const model_layer cnn[] = {
    {LAYER_CONV, 1, 16, 5}, {LAYER_RELU, 0, 0, 0},      {LAYER_POOL, 0, 0, 0},    {LAYER_CONV, 16, 32, 5},
    {LAYER_RELU, 0, 0, 0},  {LAYER_POOL, 0, 0, 0},      {LAYER_FLATTEN, 0, 0, 0}, {LAYER_LINEAR, 32 * 7 * 7, 128, 0},
    {LAYER_RELU, 0, 0, 0},  {LAYER_LINEAR, 128, 10, 0},
};

static const model_layer mlp[] = {
    {LAYER_FLATTEN, 0, 0, 0},    {LAYER_LINEAR, 784, 512, 0}, {LAYER_RELU, 0, 0, 0},
    {LAYER_LINEAR, 512, 512, 0}, {LAYER_RELU, 0, 0, 0},       {LAYER_LINEAR, 512, 10, 0},
};

const model_layer *model_layers(const char *name, size_t *count)
{
    if (strcmp(name, "cnn") == 0) {
        *count = COUNT_OF(cnn);
        return cnn;
    }
    if (strcmp(name, "mlp") == 0) {
        *count = COUNT_OF(mlp);
        return mlp;
    }
    fail(TSR_NOT_FOUND, "there is no model %s", name);
    return NULL;
}

static tsr_module *layer_create(const model_layer *l, tsr_device *device)
{
    switch (l->kind) {
    case LAYER_CONV:
        return tsr_conv2d_create(device, l->in, l->out, l->kernel, l->kernel,
                                 &(tsr_conv2d_options){.padding = {l->kernel / 2, l->kernel / 2}}, true);
    case LAYER_LINEAR: return tsr_linear_create(device, l->in, l->out, true);
    case LAYER_RELU: return tsr_relu_create();
    case LAYER_POOL: return tsr_max_pool2d_create(&(tsr_pool2d_options){.kernel = {2, 2}});
    case LAYER_FLATTEN: return tsr_flatten_create(1);
    }
    return NULL;
}

tsr_module *model_create(const char *name, tsr_device *device)
{
    size_t count;
    const model_layer *layers = model_layers(name, &count);
    tsr_module *modules[LAYERS_MAX];
    if (layers == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++) /* one after the other: the order decides which random numbers each gets */
        modules[i] = layer_create(&layers[i], device);
    return tsr_sequential_create(modules, count);
}
