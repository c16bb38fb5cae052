/* The front of the HAL: memory. */
#include "hal/front.h"

#include "base/checked.h"

#include <stdio.h>
#include <string.h>

/* Reads go through pinned memory of at most so much, piece by piece. */
#define STAGING_LEAST ((size_t)64 << 10)
#define STAGING_MOST  ((size_t)16 << 20)

/* A kernel that reads bytes may load the word around them, and fills and copies may work in words. */
#define BUFFER_GRANULE ((size_t)16)

fault hal_buffer_fault = FAULT_INIT;

/* With the lock held, so that a profile's values come in order. */
static void count_memory(const struct hal_front *front)
{
    char name[64];
    if (!profiling())
        return;
    snprintf(name, sizeof name, "%s driver memory", front->id);
    profile_count(profile_intern(name), front->memory.allocated_bytes);
}

tsr_status front_buffer_alloc(hal_device *device, hal_memory memory, size_t size, hal_buffer **buffer)
{
    struct hal_front *front = device->front;
    size_t granted;
    if (!align_up_size(max_size(size, 1), BUFFER_GRANULE, &granted) || size > device->info.max_buffer_bytes)
        return fail(TSR_OUT_OF_DEVICE_MEMORY,
                    "a buffer of %zu bytes was asked for, but the largest that %s (%s) has is %llu", size, front->id,
                    device->info.name, (unsigned long long)device->info.max_buffer_bytes);
    if (fault_strikes(&hal_buffer_fault))
        return fail(TSR_OUT_OF_DEVICE_MEMORY, "a test made this buffer of %zu bytes fail", size);

    profile_span span;
    profile_open_with(&span, PROFILE_DRIVER, memory == HAL_MEMORY_DEVICE ? "allocate" : "allocate pinned", NULL, size);
    const tsr_status status = front_note(device, device->backend->buffer_alloc(device, memory, granted, buffer));
    profile_close(&span);
    if (status != TSR_OK)
        return status;
    (*buffer)->device = device;
    (*buffer)->memory = memory;
    (*buffer)->size = size;

    mutex_lock(&front->lock);
    front->memory.allocations++;
    front->memory.allocated_bytes += size;
    count_memory(front);
    if (front->memory.allocated_bytes > front->memory.peak_bytes)
        front->memory.peak_bytes = front->memory.allocated_bytes;
    mutex_unlock(&front->lock);
    return TSR_OK;
}

void front_buffer_free(hal_buffer *buffer)
{
    hal_device *device = buffer->device;
    const size_t size = buffer->size;
    profile_span span;
    profile_open_with(&span, PROFILE_DRIVER, "free", NULL, size);
    device->backend->buffer_free(buffer);
    profile_close(&span);
    mutex_lock(&device->front->lock);
    device->front->memory.frees++;
    device->front->memory.allocated_bytes -= size;
    count_memory(device->front);
    mutex_unlock(&device->front->lock);
}

tsr_status hal_buffer_alloc(hal_device *device, hal_memory memory, size_t size, hal_buffer **buffer)
{
    if (device == NULL || buffer == NULL)
        return fail(TSR_INVALID_ARGUMENT,
                    "allocating a buffer takes a device and a place for the buffer, and one is NULL");
    *buffer = NULL;
    if (memory != HAL_MEMORY_DEVICE && memory != HAL_MEMORY_HOST)
        return fail(TSR_INVALID_ARGUMENT, "%d is no kind of memory", (int)memory);
    if (front_is_lost(device))
        return front_lost(device);
    const tsr_status status = front_buffer_alloc(device, memory, size, buffer);
    if (status == TSR_OK)
        atomic_fetch_add(&device->front->buffers, 1);
    return status;
}

void hal_buffer_free(hal_buffer *buffer)
{
    if (buffer == NULL)
        return;
    hal_device *device = buffer->device;
    front_buffer_free(buffer);
    atomic_fetch_sub(&device->front->buffers, 1);
}

void *hal_buffer_map(hal_buffer *buffer)
{
    if (buffer == NULL || buffer->memory != HAL_MEMORY_HOST) {
        fail(TSR_INVALID_ARGUMENT, "only a buffer in host memory has an address, and this one is %s",
             buffer == NULL ? "NULL" : "in device memory");
        return NULL;
    }
    return buffer->device->backend->buffer_map(buffer);
}

static tsr_status check_range(const hal_queue *queue, const hal_buffer *buffer, size_t offset, size_t size,
                              const char *what)
{
    if (queue == NULL || buffer == NULL)
        return fail(TSR_INVALID_ARGUMENT, "%s: the %s is NULL", what, queue == NULL ? "queue" : "buffer");
    if (queue->device != buffer->device)
        return fail(TSR_INVALID_ARGUMENT, "%s: the queue belongs to device %s, the buffer to %s", what,
                    hal_device_id(queue->device), hal_device_id(buffer->device));
    if (!range_fits(offset, size, buffer->size))
        return fail(TSR_OUT_OF_RANGE, "%s of %zu bytes at offset %zu, but the buffer has %zu bytes", what, size, offset,
                    buffer->size);
    return TSR_OK;
}

static tsr_status check_device_memory(const hal_buffer *buffer, const char *what)
{
    if (buffer->memory != HAL_MEMORY_DEVICE)
        return fail(TSR_INVALID_ARGUMENT, "%s: the buffer is in host memory, which takes part in copies only", what);
    return TSR_OK;
}

tsr_status hal_buffer_write(hal_queue *queue, hal_buffer *buffer, size_t offset, const void *source, size_t size)
{
    tsr_status status = check_range(queue, buffer, offset, size, "write");
    if (status == TSR_OK)
        status = check_device_memory(buffer, "write");
    if (status != TSR_OK || size == 0)
        return status;
    if (source == NULL)
        return fail(TSR_INVALID_ARGUMENT, "write of %zu bytes: the source is NULL", size);
    if ((status = front_begin(queue, PROFILE_COPY, "write", size)) != TSR_OK)
        return status;
    return front_end(queue, queue->device->backend->write(queue, buffer, offset, source, size));
}

/* The staging buffer of the queue, of at least `size` bytes if that is not more than STAGING_MOST. */
static tsr_status staging_of(hal_queue *queue, size_t size, hal_buffer **staging)
{
    hal_device *device = queue->device;
    struct queue_front *front = queue->front;
    size_t wanted = STAGING_LEAST;
    while (wanted < size && wanted < STAGING_MOST)
        wanted *= 2;
    wanted = min_size(wanted, device->info.max_buffer_bytes);

    if (front->staging_event == NULL) {
        const tsr_status status = front_note(device, device->backend->event_create(device, &front->staging_event));
        if (status != TSR_OK)
            return status;
        front->staging_event->device = device;
    }
    if (front->staging != NULL && front->staging->size < wanted) {
        front_buffer_free(front->staging);
        front->staging = NULL;
    }
    if (front->staging == NULL) {
        const tsr_status status = front_buffer_alloc(device, HAL_MEMORY_HOST, wanted, &front->staging);
        if (status != TSR_OK)
            return status;
    }
    *staging = front->staging;
    return TSR_OK;
}

/* The queue's lock is not held while waiting, so that others can go on submitting. */
static tsr_status read_piece(hal_queue *queue, hal_buffer *buffer, size_t offset, void *target, size_t size,
                             hal_buffer *staging)
{
    const hal_backend *backend = queue->device->backend;
    hal_event *event = ((struct queue_front *)queue->front)->staging_event;

    tsr_status status = front_begin(queue, PROFILE_COPY, "read", size);
    if (status != TSR_OK)
        return status;
    status = front_done(queue, backend->copy(queue, buffer, offset, staging, 0, size));
    if (status == TSR_OK)
        status = backend->event_record(queue, event);
    if (status == TSR_OK)
        event->recorded = true;
    if ((status = front_leave(queue, status)) != TSR_OK)
        return status;

    status = front_note(queue->device, backend->event_sync(event));
    if (status != TSR_OK)
        return status;
    const void *mapped = backend->buffer_map(staging);
    if (mapped == NULL)
        return fail(TSR_DRIVER_ERROR, "%s: the driver gives no address for host memory", hal_device_id(queue->device));
    memcpy(target, mapped, size);
    return TSR_OK;
}

tsr_status hal_buffer_read(hal_queue *queue, hal_buffer *buffer, size_t offset, void *target, size_t size)
{
    tsr_status status = check_range(queue, buffer, offset, size, "read");
    if (status == TSR_OK)
        status = check_device_memory(buffer, "read");
    if (status != TSR_OK || size == 0)
        return status;
    if (target == NULL)
        return fail(TSR_INVALID_ARGUMENT, "read of %zu bytes: the target is NULL", size);
    if (front_is_lost(queue->device))
        return front_lost(queue->device);

    struct queue_front *front = queue->front;
    front_count(&queue->device->front->host_waits);
    profile_span span;
    profile_open_with(&span, PROFILE_WAIT, "read", NULL, size);
    mutex_lock(&front->staging_lock);
    hal_buffer *staging = NULL;
    status = staging_of(queue, size, &staging);
    for (size_t done = 0; status == TSR_OK && staging != NULL && done < size;) {
        const size_t piece = min_size(size - done, staging->size);
        status = read_piece(queue, buffer, offset + done, (char *)target + done, piece, staging);
        done += piece;
    }
    mutex_unlock(&front->staging_lock);
    profile_close(&span);
    return status;
}

tsr_status hal_buffer_copy(hal_queue *queue, hal_buffer *from, size_t from_offset, hal_buffer *to, size_t to_offset,
                           size_t size)
{
    tsr_status status = check_range(queue, from, from_offset, size, "copy from");
    if (status == TSR_OK)
        status = check_range(queue, to, to_offset, size, "copy to");
    if (status != TSR_OK || size == 0)
        return status;
    if (from == to && from_offset < to_offset + size && to_offset < from_offset + size)
        return fail(TSR_INVALID_ARGUMENT, "copy of %zu bytes from %zu to %zu in one buffer: the ranges overlap", size,
                    from_offset, to_offset);
    if ((status = front_begin(queue, PROFILE_COPY, "copy", size)) != TSR_OK)
        return status;
    return front_end(queue, queue->device->backend->copy(queue, from, from_offset, to, to_offset, size));
}

tsr_status hal_buffer_fill(hal_queue *queue, hal_buffer *buffer, size_t offset, size_t size, uint32_t pattern)
{
    tsr_status status = check_range(queue, buffer, offset, size, "fill");
    if (status == TSR_OK)
        status = check_device_memory(buffer, "fill");
    if (status != TSR_OK)
        return status;
    if (offset % 4 != 0 || size % 4 != 0)
        return fail(TSR_INVALID_ARGUMENT, "fill of %zu bytes at offset %zu: both must be multiples of 4", size, offset);
    if (size == 0 || (status = front_begin(queue, PROFILE_COPY, "fill", size)) != TSR_OK)
        return status;
    return front_end(queue, queue->device->backend->fill(queue, buffer, offset, size, pattern));
}
