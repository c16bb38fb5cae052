/* The null backend: takes every call, holds memory, copies, and runs no kernel. It is the template from which a new
 * backend starts (docs/adding-a-backend.md); each entry says what a real one does in its place.
 *
 * It shows one device where TESSERA_NULL=1, which is also what tests use to see how the library fares with a device that
 * refuses every launch. All is done at once, inside the call, so its queues are always empty and its events always done. */
#include "base/clock.h"
#include "base/error.h"
#include "base/memory.h"
#include "hal/hal.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const hal_backend null_backend;

/* ---- structures: each begins with the HAL's, so that a pointer to one is a pointer to the other ------------------- */

/* A real one: the driver's device and context, what its queues share, and a mutex for that. */
typedef struct null_device {
    hal_device base;
    atomic_bool lost;
} null_device;

/* A real one: the driver's in-order queue; for writes a ring of host memory whose parts are used again when the device
 * has read them. */
typedef struct null_queue {
    hal_queue base;
} null_queue;

/* A real one: the driver's memory object; for host memory its address too. */
typedef struct null_buffer {
    hal_buffer base;
    uint8_t *bytes;
} null_buffer;

/* A real one: the driver's compiled kernel, and its arguments' layout. */
typedef struct null_kernel {
    hal_kernel base;
    char key[64]; /* kernels are named in messages */
} null_kernel;

/* A real one: the driver's event, and the queue on which it was recorded, to be flushed before a wait. */
typedef struct null_event {
    hal_event base;
    _Atomic uint64_t time_ns; /* asked from any thread, also while it is recorded again */
} null_event;

/* Alignment of all its memory: a cache line, enough for every vector type. */
#define MEMORY_ALIGNMENT 64

/* The first line of every entry that can fail, and of none that destroys: a lost device stays lost. */
static tsr_status alive(hal_device *device)
{
    if (!atomic_load_explicit(&((null_device *)device)->lost, memory_order_relaxed))
        return TSR_OK;
    return fail(TSR_DEVICE_LOST, "the null device was lost: what it held is gone; close it and open it again");
}

/* ---- devices --------------------------------------------------------------------------------------------------- */

/* A real one opens the driver's library through base/dynlib.h, once, and asks it for its devices. That there is none is no
 * failure: the count is 0, and `why` tells what is missing and what to do about it. */
static tsr_status null_enumerate(uint32_t *count, char *why, size_t why_size)
{
    const char *wish = getenv("TESSERA_NULL");
    *count = wish != NULL && strcmp(wish, "1") == 0;
    if (*count == 0)
        snprintf(why, why_size, "the null device computes nothing, so it is shown only where TESSERA_NULL=1 is set");
    return TSR_OK;
}

/* A real one asks the driver. Variants of kernels are chosen by `device_class`, their form by `code`, and what cannot run
 * is refused by `features` and the limits: so they must be true, and stricter needs of the driver are hidden in here. */
static tsr_status null_info(uint32_t index, hal_device_info *info)
{
    if (index > 0)
        return fail(TSR_NO_DEVICE, "there is no null device %u: there is one, 0", (unsigned)index);
    *info = (hal_device_info){
        .name = "null",
        .vendor = "Tessera",
        .driver = "null 1",
        .software = true,
        .device_class = HAL_CLASS_CPU,
        .code = HAL_CODE_NATIVE,
        .features = HAL_FEATURE_STORAGE_16 | HAL_FEATURE_STORAGE_8 | HAL_FEATURE_INT64 | HAL_FEATURE_FLOAT64,
        .memory_bytes = (uint64_t)1 << 30,
        .max_buffer_bytes = (uint64_t)1 << 30,
        .max_binding_bytes = (uint64_t)1 << 30,
        .binding_alignment = 1,
        .max_group_size = 1024,
        .shared_bytes = 32768,
        .compute_units = 1,
        .unified_memory = true,
        .notes = "holds memory, but runs no kernel",
    };
    return TSR_OK;
}

/* A real one makes the context and whatever all queues share. `info` must be complete afterwards; the front fills the
 * other fields of the HAL's structures. */
static tsr_status null_open(uint32_t index, hal_device **opened)
{
    null_device *device = host_alloc_zeroed(1, sizeof *device);
    if (device == NULL)
        return TSR_OUT_OF_MEMORY; /* host_alloc has already said so */
    const tsr_status status = null_info(index, &device->base.info);
    if (status != TSR_OK) {
        host_free(device);
        return status;
    }
    *opened = &device->base;
    return TSR_OK;
}

/* The front has made sure that nothing else of the device is alive. Also called for a lost device. */
static void null_close(hal_device *device)
{
    host_free(device);
}

static tsr_status null_device_status(hal_device *device)
{
    return alive(device);
}

/* Optional, for tests. A real one loses a device by itself too: where the driver says that it is gone, or that commands
 * ended in an error, which no later command can make good. */
static void null_lose(hal_device *device)
{
    atomic_store(&((null_device *)device)->lost, true);
}

/* ---- queues: in order; the front lets one thread at a time call with a queue --------------------------------------- */

static tsr_status null_queue_create(hal_device *device, hal_queue_kind kind, hal_queue **created)
{
    (void)kind; /* a driver without copy queues gives an ordinary one */
    const tsr_status status = alive(device);
    if (status != TSR_OK)
        return status;
    null_queue *queue = host_alloc_zeroed(1, sizeof *queue);
    if (queue == NULL)
        return TSR_OUT_OF_MEMORY;
    *created = &queue->base;
    return TSR_OK;
}

/* A real one waits for the queue's work first. */
static void null_queue_destroy(hal_queue *queue)
{
    host_free(queue);
}

/* A real one hands what it has gathered to the device. */
static tsr_status null_flush(hal_queue *queue)
{
    return alive(queue->device);
}

/* A real one flushes and waits; here an error of the work itself comes to light. */
static tsr_status null_sync(hal_queue *queue)
{
    return alive(queue->device);
}

/* ---- memory ---------------------------------------------------------------------------------------------------- */

/* A real one gives HAL_MEMORY_HOST as pinned memory that stays mapped. Where a driver reserves nothing before the first
 * use, memory must be asked for here all the same: this is where running out of it can still be a status,
 * TSR_OUT_OF_DEVICE_MEMORY with the size in its sentence. `size` is a multiple of 16, and not 0. */
static tsr_status null_buffer_alloc(hal_device *device, hal_memory memory, size_t size, hal_buffer **allocated)
{
    (void)memory;
    const tsr_status status = alive(device);
    if (status != TSR_OK)
        return status;
    null_buffer *buffer = host_alloc_zeroed(1, sizeof *buffer);
    if (buffer == NULL)
        return TSR_OUT_OF_MEMORY;
    buffer->bytes = host_alloc_aligned(size, MEMORY_ALIGNMENT);
    if (buffer->bytes == NULL) {
        host_free(buffer);
        return TSR_OUT_OF_MEMORY;
    }
    *allocated = &buffer->base;
    return TSR_OK;
}

/* Queued work may still use the buffer: a real one keeps the memory until that is done, without waiting here. */
static void null_buffer_free(hal_buffer *base)
{
    host_free_aligned(((null_buffer *)base)->bytes);
    host_free(base);
}

/* Only host memory is asked for. */
static void *null_buffer_map(hal_buffer *buffer)
{
    return ((null_buffer *)buffer)->bytes;
}

/* The caller changes `source` as soon as this returns, yet the queue's earlier work must not be waited for: a real one
 * copies into staging memory and queues the transfer from there. The front has checked all ranges. */
static tsr_status null_write(hal_queue *queue, hal_buffer *buffer, size_t offset, const void *source, size_t size)
{
    const tsr_status status = alive(queue->device);
    if (status != TSR_OK)
        return status;
    memcpy(((null_buffer *)buffer)->bytes + offset, source, size);
    return TSR_OK;
}

/* Device to device, host to device, device to host, host to host; within one buffer the ranges do not overlap. */
static tsr_status null_copy(hal_queue *queue, hal_buffer *from, size_t from_offset, hal_buffer *to, size_t to_offset,
                            size_t size)
{
    const tsr_status status = alive(queue->device);
    if (status != TSR_OK)
        return status;
    memcpy(((null_buffer *)to)->bytes + to_offset, ((null_buffer *)from)->bytes + from_offset, size);
    return TSR_OK;
}

static tsr_status null_fill(hal_queue *queue, hal_buffer *buffer, size_t offset, size_t size, uint32_t pattern)
{
    const tsr_status status = alive(queue->device);
    if (status != TSR_OK)
        return status;
    uint8_t *bytes = ((null_buffer *)buffer)->bytes + offset;
    for (size_t i = 0; i < size; i += sizeof pattern)
        memcpy(bytes + i, &pattern, sizeof pattern);
    return TSR_OK;
}

/* ---- kernels --------------------------------------------------------------------------------------------------- */

/* A real one compiles the text or takes the SPIR-V, with a cache on disk (base/cache.h) under a hash of everything that
 * the result depends on, and puts the compiler's complaint into the error. The descriptor does not outlive the call. */
static tsr_status null_kernel_create(hal_device *device, const hal_kernel_desc *desc, hal_kernel **created)
{
    const tsr_status status = alive(device);
    if (status != TSR_OK)
        return status;
    null_kernel *kernel = host_alloc_zeroed(1, sizeof *kernel);
    if (kernel == NULL)
        return TSR_OUT_OF_MEMORY;
    snprintf(kernel->key, sizeof kernel->key, "%s", desc->key);
    *created = &kernel->base;
    return TSR_OK;
}

/* As with buffers: launches that are queued may still need it. */
static void null_kernel_destroy(hal_kernel *kernel)
{
    host_free(kernel);
}

/* A real one sets the arguments, from each binding its buffer and its offset, and queues the grid. It copies bindings and
 * parameters, which do not outlive the call, and creates no driver object. Two threads may launch one kernel on two
 * queues at a time. */
static tsr_status null_launch(hal_queue *queue, const hal_launch *launch)
{
    const tsr_status status = alive(queue->device);
    if (status != TSR_OK)
        return status;
    return fail(TSR_UNSUPPORTED,
                "kernel %s cannot run: the null device holds memory, but computes nothing; take another "
                "device",
                ((const null_kernel *)launch->kernel)->key);
}

/* ---- events: asked and waited for from any thread ------------------------------------------------------------------ */

static tsr_status null_event_create(hal_device *device, hal_event **created)
{
    const tsr_status status = alive(device);
    if (status != TSR_OK)
        return status;
    null_event *event = host_alloc_zeroed(1, sizeof *event);
    if (event == NULL)
        return TSR_OUT_OF_MEMORY;
    *created = &event->base;
    return TSR_OK;
}

static void null_event_destroy(hal_event *event)
{
    host_free(event);
}

/* A real one puts a marker behind all that the queue has; what was recorded before is forgotten. */
static tsr_status null_event_record(hal_queue *queue, hal_event *event)
{
    const tsr_status status = alive(queue->device);
    if (status != TSR_OK)
        return status;
    atomic_store(&((null_event *)event)->time_ns, clock_ns());
    return TSR_OK;
}

static tsr_status null_event_query(hal_event *event, bool *done)
{
    const tsr_status status = alive(event->device);
    if (status != TSR_OK)
        return status;
    *done = true;
    return TSR_OK;
}

/* A real one flushes the queue on which it was recorded, then waits. */
static tsr_status null_event_sync(hal_event *event)
{
    return alive(event->device);
}

/* The device's clock, if it has one. */
static tsr_status null_event_elapsed(hal_event *from, hal_event *to, double *milliseconds)
{
    const tsr_status status = alive(from->device);
    if (status != TSR_OK)
        return status;
    *milliseconds =
        ((double)atomic_load(&((null_event *)to)->time_ns) - (double)atomic_load(&((null_event *)from)->time_ns)) *
        1e-6;
    return TSR_OK;
}

/* A real one makes later commands of the queue wait on the device; the host goes on. */
static tsr_status null_queue_wait(hal_queue *queue, hal_event *event)
{
    (void)event;
    return alive(queue->device);
}

/* ---- the table ------------------------------------------------------------------------------------------------- */

#define FILL(entry) .entry = null_##entry,
const hal_backend null_backend = {.name = "null", .for_tests = true, HAL_ENTRIES(FILL).lose = null_lose};
