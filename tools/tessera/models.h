/* The networks that `tessera train mnist` knows. */
#ifndef TESSERA_MODELS_H
#define TESSERA_MODELS_H

#include <stddef.h>
#include <stdint.h>

#include "tessera/nn.h"

/* Ended by NULL. */
extern const char *const model_names[];

typedef enum layer_kind { LAYER_CONV, LAYER_LINEAR, LAYER_RELU, LAYER_POOL, LAYER_FLATTEN } layer_kind;

/* Convolutions are `kernel` × `kernel` with half as much padding, pools halve both sides. */
typedef struct model_layer {
    layer_kind kind;
    int64_t in, out, kernel;
} model_layer;

/* The layers of a model; NULL with the thread's error where there is none of that name. */
const model_layer *model_layers(const char *name, size_t *count);

/* For images [n, 1, 28, 28] and 10 classes. NULL with the thread's error. */
tsr_module *model_create(const char *name, tsr_device *device);

#endif
