/* The staging ring of a queue: `write` copies its source here, and the device fetches it in the queue's order. */
#include "backends/vulkan/vulkan_backend.h"

#include "base/checked.h"

#include <string.h>

#define STAGING_LEAST   ((size_t)4 << 20)
#define STAGING_MOST    ((size_t)64 << 20) /* holds four of the largest pieces */
#define STAGING_GRANULE 64

/* Where `size` bytes go, or false if there is no room for them now. */
static bool place(vulkan_staging *ring, size_t size, size_t *offset)
{
    if (size > ring->capacity)
        return false;
    uint64_t at = ring->head;
    const size_t left = ring->capacity - (size_t)(at % ring->capacity);
    if (left < size)
        at += left; /* pieces do not wrap around */
    if (at + size - ring->tail > ring->capacity)
        return false;
    ring->head = at + size;
    *offset = (size_t)(at % ring->capacity);
    return true;
}

static void forget(vulkan_queue *queue)
{
    vulkan_staging *ring = &queue->staging;
    if (ring->buffer != NULL)
        vulkan_buffer_free(&ring->buffer->base); /* its memory goes when the batches that read it are done */
    ring->buffer = NULL;
    ring->capacity = 0;
    ring->head = ring->tail = 0;
    ring->generation++;
}

static tsr_status grow(vulkan_queue *queue, size_t size)
{
    size_t capacity = max_size(STAGING_LEAST, queue->staging.capacity * 2);
    while (capacity < 2 * size)
        capacity *= 2;
    vulkan_buffer *buffer = NULL;
    const tsr_status status = vulkan_buffer_alloc_staging(queue->device, min_size(capacity, STAGING_MOST), &buffer);
    if (status != TSR_OK)
        return status;
    forget(queue);
    queue->staging.buffer = buffer;
    queue->staging.capacity = buffer->base.size;
    return TSR_OK;
}

/* Waits until the oldest batch has given back what it holds. */
static tsr_status wait_for_room(vulkan_queue *queue)
{
    if (queue->in_flight == 0) {
        const tsr_status status = vulkan_batch_submit(queue);
        if (status != TSR_OK)
            return status;
    }
    if (queue->in_flight > 0) {
        const tsr_status status =
            vulkan_timeline_wait(queue->device, queue->timeline, queue->batches[queue->oldest].value);
        if (status != TSR_OK)
            return status;
    }
    vulkan_batch_reclaim(queue);
    if (queue->in_flight == 0 && !queue->recording)
        queue->staging.head = queue->staging.tail = 0; /* in one piece again */
    return TSR_OK;
}

tsr_status vulkan_staging_put(vulkan_queue *queue, const void *source, size_t size, VkBuffer *buffer, size_t *offset)
{
    vulkan_staging *ring = &queue->staging;
    const size_t granted = (size + STAGING_GRANULE - 1) / STAGING_GRANULE * STAGING_GRANULE;
    while (!place(ring, granted, offset)) {
        vulkan_batch_reclaim(queue);
        if (place(ring, granted, offset))
            break;
        tsr_status status;
        if (ring->capacity < STAGING_MOST) {
            status = grow(queue, granted);
            if (status == TSR_OUT_OF_DEVICE_MEMORY && ring->capacity >= granted)
                status = wait_for_room(queue);
        } else {
            status = wait_for_room(queue);
        }
        if (status != TSR_OK)
            return status;
    }
    const tsr_status status = vulkan_batch_begin(queue);
    if (status != TSR_OK)
        return status;
    memcpy((char *)ring->buffer->mapped + *offset, source, size);
    vulkan_use(queue, &ring->buffer->uses);
    *buffer = ring->buffer->handle;
    return TSR_OK;
}

void vulkan_staging_destroy(vulkan_queue *queue)
{
    forget(queue);
}
