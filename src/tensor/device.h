/* An open device: the HAL's device with its compute queue, its caching allocators and its built kernels. */
#ifndef TESSERA_TENSOR_DEVICE_H
#define TESSERA_TENSOR_DEVICE_H

#include <stdatomic.h>

#include "base/thread.h"
#include "hal/hal.h"
#include "memory/allocator.h"
#include "tessera/device.h"

struct kernel_cache; /* of src/dispatch */

struct tsr_device {
    atomic_int references;
    char id[32]; /* "vulkan:0" */
    hal_device *hal;
    hal_queue *queue;  /* where all operators of this device run, in order */
    hal_queue *copies; /* device_copy_queue's; NULL until the first call */
    allocator *memory; /* of device memory */
    allocator *pinned; /* of host memory for transfers */

    mutex lock;                   /* guards the kernels, and `copies` */
    struct kernel_cache *kernels; /* NULL until the first launch */
    void (*kernels_free)(struct kernel_cache *kernels);

    /* random numbers: the seed is the generator's key, `draws` counts the calls since tsr_seed */
    mutex generator_lock;
    uint64_t seed, draws;
    uint64_t host_draws;   /* streams of initial weights, made on the host */
    hal_buffer *generator; /* the seed in device memory: 4 words, the kernels' key */

    struct tsr_device *next; /* in the list of open devices */
};

tsr_device *device_retain(tsr_device *device);

static inline hal_queue *device_queue(tsr_device *device)
{
    return device->queue;
}
static inline allocator *device_allocator(tsr_device *device)
{
    return device->memory;
}
static inline allocator *device_pinned(tsr_device *device)
{
    return device->pinned;
}

/* A queue for uploads that run beside the operators; the operators' own on a device whose copies cannot. TESSERA_COPY_QUEUE=1 or 0 decides in
 * the device's place. Belongs to the device. NULL after an error. */
hal_queue *device_copy_queue(tsr_device *device);

/* DTYPE_BIT mask of the dtypes that its kernels can store. */
uint32_t device_dtypes(const tsr_device *device);
uint32_t dtypes_of_features(uint32_t hal_features);

/* The next stream of the device's generator: a number that no other call since tsr_seed got. */
uint64_t device_next_draw(tsr_device *device);
/* As tsr_random_state_set, without a command where the seed is the device's. */
bool device_random_rewind(tsr_device *device, const tsr_random_state *state);
/* The same for numbers made on the host, with the seed. */
uint64_t device_next_host_draw(tsr_device *device, uint64_t *seed);

#endif
