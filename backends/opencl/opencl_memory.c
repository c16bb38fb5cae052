/* Buffers, and copies between them and the host. */
#include "opencl_backend.h"

#include "base/error.h"
#include "base/memory.h"

#include <string.h>

/* A page: what the driver may transfer directly, and PoCL's and every vector unit's alignment. */
#define HOST_ALIGNMENT 4096

/* ---- host memory ----------------------------------------------------------------------------------------------- */

/* Where the device is the processor itself, any memory will do. A GPU copies fast, and without the driver's own staging,
 * only from memory that the driver allocated and that stays mapped. */
tsr_status opencl_host_memory(opencl_device *device, size_t size, cl_mem *pinned, uint8_t **bytes)
{
    *pinned = NULL;
    *bytes = NULL;
    if (device->plain_host_memory) {
        *bytes = host_alloc_aligned(size, HOST_ALIGNMENT);
        return *bytes ? TSR_OK : TSR_OUT_OF_MEMORY;
    }
    cl_int error;
    cl_mem memory = cl.clCreateBuffer(device->context, CL_MEM_READ_WRITE | CL_MEM_ALLOC_HOST_PTR, size, NULL, &error);
    if (!error) {
        *bytes = cl.clEnqueueMapBuffer(device->chores, memory, CL_TRUE, CL_MAP_READ | CL_MAP_WRITE, 0, size, 0, NULL,
                                       NULL, &error);
        if (error)
            cl.clReleaseMemObject(memory);
    }
    if (error == CL_MEM_OBJECT_ALLOCATION_FAILURE || error == CL_MAP_FAILURE)
        return fail(TSR_OUT_OF_MEMORY, "%s has no pinned host memory of %zu bytes left", device->base.info.name, size);
    if (error)
        return opencl_check(device, error, "allocating %zu bytes of pinned host memory", size);
    *pinned = memory;
    return TSR_OK;
}

void opencl_host_memory_free(opencl_device *device, cl_mem pinned, uint8_t *bytes)
{
    if (!pinned) {
        host_free_aligned(bytes);
        return;
    }
    cl.clEnqueueUnmapMemObject(device->chores, pinned, bytes, 0, NULL, NULL);
    cl.clFlush(device->chores);
    cl.clReleaseMemObject(pinned);
}

/* Host memory that was freed while queued copies use it, and the markers behind those copies. */
struct opencl_grave {
    opencl_grave *next;
    cl_mem pinned;
    uint8_t *bytes;
    uint32_t count;
    cl_event after[];
};

void opencl_bury(opencl_device *device, cl_mem pinned, uint8_t *bytes, uint64_t used_by)
{
    cl_event after[OPENCL_MAX_QUEUES];
    uint32_t count = 0;

    mutex_lock(&device->lock); /* keeps the queues alive; one that is gone has done its work */
    for (uint32_t slot = 0; slot < OPENCL_MAX_QUEUES; slot++) {
        opencl_queue *queue = device->queues[slot];
        if (!(used_by >> slot & 1) || !queue)
            continue;
        const cl_event marker = opencl_marker(queue);
        if (!marker)
            cl.clFinish(queue->handle);
        else if (opencl_event_is_done(marker))
            cl.clReleaseEvent(marker);
        else
            after[count++] = marker;
    }
    opencl_grave *grave = NULL;
    if (count > 0) {
        error_state before;
        error_save(&before);
        grave = host_alloc(sizeof *grave + count * sizeof grave->after[0]);
        error_restore(&before);
    }
    if (grave) {
        *grave = (opencl_grave){.next = device->graves, .pinned = pinned, .bytes = bytes, .count = count};
        memcpy(grave->after, after, count * sizeof after[0]);
        device->graves = grave;
    }
    mutex_unlock(&device->lock);

    if (!grave) {
        if (count > 0)
            cl.clWaitForEvents(count, after);
        for (uint32_t i = 0; i < count; i++)
            cl.clReleaseEvent(after[i]);
        opencl_host_memory_free(device, pinned, bytes);
    }
}

void opencl_dig(opencl_device *device, bool wait)
{
    opencl_grave *done = NULL;
    mutex_lock(&device->lock);
    for (opencl_grave **at = &device->graves; *at;) {
        opencl_grave *grave = *at;
        if (wait)
            cl.clWaitForEvents(grave->count, grave->after);
        uint32_t open = 0;
        for (uint32_t i = 0; i < grave->count; i++)
            open += !opencl_event_is_done(grave->after[i]);
        if (open && !wait) {
            at = &grave->next;
            continue;
        }
        *at = grave->next;
        grave->next = done;
        done = grave;
    }
    mutex_unlock(&device->lock);

    while (done) {
        opencl_grave *grave = done;
        done = grave->next;
        for (uint32_t i = 0; i < grave->count; i++)
            cl.clReleaseEvent(grave->after[i]);
        opencl_host_memory_free(device, grave->pinned, grave->bytes);
        host_free(grave);
    }
}

/* ---- buffers --------------------------------------------------------------------------------------------------- */

/* Drivers reserve nothing before the first use, PoCL not even then: so the sum is kept here, and the memory is asked for
 * now, where it can still be a status. */
static tsr_status alloc_device_memory(opencl_device *device, size_t size, opencl_buffer *buffer)
{
    const uint64_t total = device->base.info.memory_bytes;
    const uint64_t before = atomic_fetch_add(&device->allocated, size);
    buffer->charged = size;
    if (before + size > total)
        return fail(TSR_OUT_OF_DEVICE_MEMORY,
                    "%s has %llu bytes of memory, of which %llu are in use here: %zu more do not fit",
                    device->base.info.name, (unsigned long long)total, (unsigned long long)before, size);

    cl_int error;
    buffer->memory = cl.clCreateBuffer(device->context, CL_MEM_READ_WRITE, size, NULL, &error);
    if (!error)
        error = cl.clEnqueueMigrateMemObjects(device->chores, 1, &buffer->memory,
                                              CL_MIGRATE_MEM_OBJECT_CONTENT_UNDEFINED, 0, NULL, NULL);
    if (!error)
        error = cl.clFinish(device->chores);
    /* For a buffer both mean memory: it is the only resource that it takes. */
    if (error == CL_OUT_OF_RESOURCES || error == CL_INVALID_BUFFER_SIZE)
        error = CL_MEM_OBJECT_ALLOCATION_FAILURE;
    return opencl_check(device, error, "allocating %zu bytes", size);
}

tsr_status opencl_buffer_alloc(hal_device *base, hal_memory memory, size_t size, hal_buffer **allocated)
{
    opencl_device *device = (opencl_device *)base;
    tsr_status status = opencl_alive(device);
    if (status)
        return status;
    opencl_buffer *buffer = host_alloc_zeroed(1, sizeof *buffer);
    if (!buffer)
        return TSR_OUT_OF_MEMORY;
    buffer->base = (hal_buffer){.device = base, .memory = memory, .size = size};
    buffer->id = atomic_fetch_add(&device->next_id, 1) + 1;
    if (memory == HAL_MEMORY_HOST) {
        opencl_dig(device, false);
        status = opencl_host_memory(device, size, &buffer->memory, &buffer->host);
    } else {
        status = alloc_device_memory(device, size, buffer);
    }
    if (status) {
        opencl_buffer_free(&buffer->base);
        return status;
    }
    *allocated = &buffer->base;
    return TSR_OK;
}

void opencl_buffer_free(hal_buffer *base)
{
    opencl_buffer *buffer = (opencl_buffer *)base;
    opencl_device *device = (opencl_device *)base->device;
    if (buffer->host) {
        opencl_dig(device, false);
        opencl_bury(device, buffer->memory, buffer->host, atomic_load(&buffer->used_by));
    } else if (buffer->memory) {
        cl.clReleaseMemObject(buffer->memory); /* the driver keeps it for the commands that use it */
    }
    atomic_fetch_sub(&device->allocated, buffer->charged);
    host_free(buffer);
}

void *opencl_buffer_map(hal_buffer *buffer)
{
    return ((opencl_buffer *)buffer)->host;
}

/* ---- copies ---------------------------------------------------------------------------------------------------- */

static void use_host(opencl_buffer *buffer, const opencl_queue *queue)
{
    const uint64_t bit = (uint64_t)1 << queue->slot;
    if (!(atomic_load_explicit(&buffer->used_by, memory_order_relaxed) & bit))
        atomic_fetch_or(&buffer->used_by, bit);
}

tsr_status opencl_copy(hal_queue *base, hal_buffer *base_from, size_t from_offset, hal_buffer *base_to,
                       size_t to_offset, size_t size)
{
    opencl_queue *queue = (opencl_queue *)base;
    opencl_device *device = (opencl_device *)base->device;
    opencl_buffer *from = (opencl_buffer *)base_from, *to = (opencl_buffer *)base_to;
    const tsr_status status = opencl_alive(device);
    if (status)
        return status;

    cl_int error;
    if (from->host && to->host) {
        /* Rare, and OpenCL has no command for it: in the queue's order, but the host waits. */
        error = cl.clFinish(queue->handle);
        if (!error)
            memcpy(to->host + to_offset, from->host + from_offset, size);
    } else if (from->host) {
        use_host(from, queue);
        error = cl.clEnqueueWriteBuffer(queue->handle, to->memory, CL_FALSE, to_offset, size, from->host + from_offset,
                                        0, NULL, NULL);
    } else if (to->host) {
        use_host(to, queue);
        error = cl.clEnqueueReadBuffer(queue->handle, from->memory, CL_FALSE, from_offset, size, to->host + to_offset,
                                       0, NULL, NULL);
    } else {
        error = cl.clEnqueueCopyBuffer(queue->handle, from->memory, to->memory, from_offset, to_offset, size, 0, NULL,
                                       NULL);
    }
    return opencl_check(device, error, "copying %zu bytes", size);
}

tsr_status opencl_fill(hal_queue *base, hal_buffer *buffer, size_t offset, size_t size, uint32_t pattern)
{
    opencl_device *device = (opencl_device *)base->device;
    const tsr_status status = opencl_alive(device);
    if (status)
        return status;
    const cl_int error = cl.clEnqueueFillBuffer(((opencl_queue *)base)->handle, ((opencl_buffer *)buffer)->memory,
                                                &pattern, sizeof pattern, offset, size, 0, NULL, NULL);
    return opencl_check(device, error, "filling %zu bytes", size);
}
