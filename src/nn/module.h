/* A module: named parameters, buffers and children, and a forward function. */
#ifndef TESSERA_NN_MODULE_H
#define TESSERA_NN_MODULE_H

#include "tessera/nn.h"

typedef struct named_tensor {
    char *name;
    tsr_tensor *tensor; /* owned */
} named_tensor;

typedef struct named_tensors {
    named_tensor *items;
    size_t count, capacity;
} named_tensors;

typedef struct named_module {
    char *name;
    tsr_module *module; /* owned */
    bool recompute;     /* of a sequential module: a checkpointed part */
} named_module;

struct tsr_module {
    const char *kind;
    tsr_forward_fn *forward;
    void *context;
    void (*release)(void *context);
    bool training;
    named_tensors parameters, buffers;
    named_module *children;
    size_t child_count, child_capacity;
};

/* A module whose context is a copy of `size` bytes at `options`, freed with it. */
tsr_module *module_create_with(const char *kind, tsr_forward_fn *forward, const void *options, size_t size);
/* A module whose registration failed is destroyed, and NULL; its message stands. */
tsr_module *module_finished(tsr_module *module, tsr_status status);
/* An f32 parameter from U(-bound, bound), from the device's seed and a stream of its own, made on the host. */
tsr_status module_add_uniform(tsr_module *module, const char *name, tsr_device *device, int rank, const int64_t *shape,
                              double bound);
/* Likewise from the normal distribution of mean 0; of deviation 0, zeros, which take no number from the stream. */
tsr_status module_add_normal(tsr_module *module, const char *name, tsr_device *device, int rank, const int64_t *shape,
                             double deviation);
/* tsr_embedding_create with a weight of that deviation. */
tsr_module *module_embedding(tsr_device *device, int64_t count, int64_t width, int64_t padding_idx, double deviation);
/* Of one value. */
tsr_status module_add_constant(tsr_module *module, const char *name, tsr_device *device, int rank, const int64_t *shape,
                               double value);
/* Whether it is a container of tsr_sequential_create. */
bool sequential_is(const tsr_module *module);
tsr_tensor *module_own_parameter(const tsr_module *module, size_t index); /* NULL where there are fewer */

#endif
