/* Launching a kernel of the catalogue by key: found, built once a device, kept. */
#ifndef TESSERA_DISPATCH_LAUNCH_H
#define TESSERA_DISPATCH_LAUNCH_H

#include "hal/hal.h"
#include "tessera/tensor.h"

typedef struct grid {
    uint32_t x, y, z; /* work-groups; 0 means 1 */
} grid;

typedef struct kernel_key {
    char text[64];
} kernel_key;

/* "softmax/f32" */
kernel_key key_of(const char *name, tsr_dtype dtype);
kernel_key key_of2(const char *name, tsr_dtype x, tsr_dtype y);       /* "cast/f32/f16" */
kernel_key key_op(const char *name, tsr_dtype dtype, const char *op); /* "unary/exp/f32" */

/* The bindings are in slot order. False after fail(), with kernel, dtype and device named where the device cannot run it. */
bool kernel_launch(tsr_device *device, const char *key, grid g, const hal_binding *bindings, uint32_t binding_count,
                   const void *params, uint32_t params_bytes);

/* launch(device, key, grid, &params, binding, binding…) */
#define LAUNCH(device, key, g, params, ...)                                                                            \
    kernel_launch(device, (key).text, g, (hal_binding[]){__VA_ARGS__},                                                 \
                  (uint32_t)(sizeof((hal_binding[]){__VA_ARGS__}) / sizeof(hal_binding)), params, sizeof *(params))

/* Whether the device's class is HAL_CLASS_CPU or _GPU in effect: TESSERA_VARIANT=cpu|gpu overrides it, for tests. */
hal_device_class device_variant(tsr_device *device);
/* Work-group size that the device will run this key with (1 on the CPU device); 0 if there is no such kernel. */
uint32_t kernel_group_size(tsr_device *device, const char *key);

#endif
