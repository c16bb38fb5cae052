/* Queues and their commands. */
#include "backends/vulkan/vulkan_entries.h"

#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"

#include <string.h>

/* Up to here the bytes travel inside the command buffer, which needs sizes in words. */
#define INLINE_WRITE ((size_t)4096)

/* ---- making and destroying --------------------------------------------------------------------------------------- */

static vulkan_lane *choose_lane(vulkan_device *device, hal_queue_kind kind)
{
    vulkan_lane *last = &device->lanes[device->lane_count - 1];
    if (kind == HAL_QUEUE_COPY)
        return last; /* the copy engine, or else the compute queue that is taken last */
    return &device->lanes[device->next_lane++ % device->compute_lane_count];
}

static tsr_status create_timeline(vulkan_device *device, vulkan_timeline *timeline)
{
    if (timeline->semaphore != VK_NULL_HANDLE)
        return TSR_OK;
    const VkSemaphoreTypeCreateInfo type = {
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
        .semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE,
    };
    const VkSemaphoreCreateInfo info = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO, .pNext = &type};
    vulkan_count_object();
    const VkResult result = device->vk.vkCreateSemaphore(device->handle, &info, NULL, &timeline->semaphore);
    return result == VK_SUCCESS ? TSR_OK : vulkan_fail(device, result, "making a timeline semaphore");
}

/* Takes a free place among the timelines; device->registry is held. */
static tsr_status enter_registry(vulkan_device *device, vulkan_queue *queue)
{
    for (uint32_t i = 0; i < VULKAN_MAX_QUEUES; i++) {
        vulkan_timeline *timeline = &device->timelines[i];
        if (timeline->queue != NULL)
            continue;
        const tsr_status status = create_timeline(device, timeline);
        if (status == TSR_OK) {
            timeline->queue = queue;
            queue->timeline = timeline;
            queue->waits[i] = atomic_load(&timeline->submitted); /* of an earlier queue, perhaps on another lane */
        }
        return status;
    }
    return fail(TSR_UNSUPPORTED, "vulkan: a device has at most %d queues at a time", VULKAN_MAX_QUEUES);
}

static void leave_registry(vulkan_queue *queue)
{
    mutex_lock(&queue->device->registry);
    queue->timeline->queue = NULL;
    mutex_unlock(&queue->device->registry);
}

tsr_status vulkan_queue_create(hal_device *base, hal_queue_kind kind, hal_queue **result)
{
    vulkan_device *device = (vulkan_device *)base;
    tsr_status status = vulkan_check_lost(device);
    if (status != TSR_OK)
        return status;
    vulkan_queue *queue = host_alloc_zeroed(1, sizeof *queue);
    if (queue == NULL)
        return TSR_OUT_OF_MEMORY;
    queue->base.device = base;
    queue->base.kind = kind;
    queue->device = device;
    mutex_init(&queue->lock);

    mutex_lock(&device->registry);
    queue->lane = choose_lane(device, kind);
    status = enter_registry(device, queue);
    mutex_unlock(&device->registry);
    if (status == TSR_OK) {
        status = vulkan_batches_create(queue);
        if (status != TSR_OK) {
            leave_registry(queue);
            vulkan_batches_destroy(queue);
        }
    }
    if (status != TSR_OK) {
        mutex_destroy(&queue->lock);
        host_free(queue);
        return status;
    }
    *result = &queue->base;
    return TSR_OK;
}

void vulkan_queue_destroy(hal_queue *base)
{
    vulkan_queue *queue = (vulkan_queue *)base;
    vulkan_device *device = queue->device;
    error_state before;
    error_save(&before); /* a lost device is destroyed without complaint */

    mutex_lock(&queue->lock);
    vulkan_batch_submit(queue);
    mutex_unlock(&queue->lock);
    leave_registry(queue);
    if (vulkan_timeline_wait(device, queue->timeline, atomic_load(&queue->timeline->submitted)) != TSR_OK) {
        /* Returns at once where the driver knows that the device is lost; else waits for what still runs. */
        mutex_lock(&queue->lane->lock);
        device->vk.vkQueueWaitIdle(queue->lane->handle);
        mutex_unlock(&queue->lane->lock);
    }
    vulkan_staging_destroy(queue);
    vulkan_batches_destroy(queue);
    vulkan_bury(device, false);
    mutex_destroy(&queue->lock);
    host_free(queue);
    error_restore(&before);
}

/* ---- memory commands --------------------------------------------------------------------------------------------- */

static VkCommandBuffer commands_of(const vulkan_queue *queue)
{
    return queue->batches[queue->current].commands;
}

static hazard_access access_to(const vulkan_buffer *b, size_t offset, size_t length, bool writes)
{
    return (hazard_access){.buffer = b->id, .offset = offset, .length = length, .reads = !writes, .writes = writes};
}

static tsr_status write_piece(vulkan_queue *queue, vulkan_buffer *b, size_t offset, const char *source, size_t size)
{
    const vulkan_device_api *vk = &queue->device->vk;
    const hazard_access access = access_to(b, offset, size, true);
    const bool in_line = size <= INLINE_WRITE && offset % 4 == 0 && size % 4 == 0;
    VkBuffer staging = VK_NULL_HANDLE;
    size_t staging_offset = 0;
    tsr_status status = in_line ? TSR_OK : vulkan_staging_put(queue, source, size, &staging, &staging_offset);
    if (status == TSR_OK)
        status = vulkan_batch_prepare(queue, &access, 1);
    if (status != TSR_OK)
        return status;

    if (in_line)
        vk->vkCmdUpdateBuffer(commands_of(queue), b->handle, offset, size, source);
    else
        vk->vkCmdCopyBuffer(commands_of(queue), staging, b->handle, 1,
                            &(VkBufferCopy){.srcOffset = staging_offset, .dstOffset = offset, .size = size});
    vulkan_use(queue, &b->uses);
    queue->writes_host_memory |= b->host;
    return vulkan_batch_added(queue, size);
}

tsr_status vulkan_write(hal_queue *base, hal_buffer *buffer, size_t offset, const void *source, size_t size)
{
    vulkan_queue *queue = (vulkan_queue *)base;
    tsr_status status = TSR_OK;
    mutex_lock(&queue->lock);
    for (size_t done = 0; done < size && status == TSR_OK;) {
        const size_t piece = min_size(size - done, VULKAN_STAGING_PIECE);
        status = write_piece(queue, (vulkan_buffer *)buffer, offset + done, (const char *)source + done, piece);
        done += piece;
    }
    mutex_unlock(&queue->lock);
    return status;
}

tsr_status vulkan_copy(hal_queue *base, hal_buffer *from, size_t from_offset, hal_buffer *to, size_t to_offset,
                       size_t size)
{
    vulkan_queue *queue = (vulkan_queue *)base;
    vulkan_buffer *source = (vulkan_buffer *)from, *target = (vulkan_buffer *)to;
    if (source == target && from_offset < to_offset + size && to_offset < from_offset + size)
        return fail(TSR_INVALID_ARGUMENT,
                    "vulkan: a copy of %zu bytes from offset %zu to offset %zu of one buffer overlaps itself", size,
                    from_offset, to_offset);

    const hazard_access accesses[] = {access_to(source, from_offset, size, false),
                                      access_to(target, to_offset, size, true)};
    mutex_lock(&queue->lock);
    tsr_status status = vulkan_batch_prepare(queue, accesses, COUNT_OF(accesses));
    if (status == TSR_OK) {
        queue->device->vk.vkCmdCopyBuffer(
            commands_of(queue), source->handle, target->handle, 1,
            &(VkBufferCopy){.srcOffset = from_offset, .dstOffset = to_offset, .size = size});
        vulkan_use(queue, &source->uses);
        vulkan_use(queue, &target->uses);
        queue->writes_host_memory |= target->host;
        status = vulkan_batch_added(queue, 2 * (uint64_t)size);
    }
    mutex_unlock(&queue->lock);
    return status;
}

tsr_status vulkan_fill(hal_queue *base, hal_buffer *buffer, size_t offset, size_t size, uint32_t pattern)
{
    vulkan_queue *queue = (vulkan_queue *)base;
    vulkan_buffer *b = (vulkan_buffer *)buffer;
    const hazard_access access = access_to(b, offset, size, true);
    mutex_lock(&queue->lock);
    tsr_status status = vulkan_batch_prepare(queue, &access, 1);
    if (status == TSR_OK) {
        queue->device->vk.vkCmdFillBuffer(commands_of(queue), b->handle, offset, size, pattern);
        vulkan_use(queue, &b->uses);
        queue->writes_host_memory |= b->host;
        status = vulkan_batch_added(queue, size);
    }
    mutex_unlock(&queue->lock);
    return status;
}

/* ---- order and waiting ------------------------------------------------------------------------------------------- */

tsr_status vulkan_queue_wait(hal_queue *base, hal_event *event)
{
    vulkan_queue *queue = (vulkan_queue *)base;
    const vulkan_event *e = (const vulkan_event *)event;
    tsr_status status = vulkan_check_lost(queue->device);
    if (status != TSR_OK || e->timeline == NULL || e->timeline == queue->timeline)
        return status; /* never recorded, or a queue's own past */

    vulkan_timeline *timeline = e->timeline;
    const uint64_t value = e->value;
    /* Two queues may share a VkQueue: what signals must be there before what waits. */
    status = vulkan_timeline_flush(queue->device, timeline, value);
    if (status != TSR_OK)
        return status;
    mutex_lock(&queue->lock);
    status = vulkan_batch_submit(queue); /* what came before does not wait */
    if (status == TSR_OK && queue->waits[timeline->index] < value)
        queue->waits[timeline->index] = value;
    mutex_unlock(&queue->lock);
    return status;
}

tsr_status vulkan_flush(hal_queue *base)
{
    vulkan_queue *queue = (vulkan_queue *)base;
    mutex_lock(&queue->lock);
    const tsr_status status = vulkan_batch_submit(queue);
    mutex_unlock(&queue->lock);
    return status;
}

tsr_status vulkan_sync(hal_queue *base)
{
    vulkan_queue *queue = (vulkan_queue *)base;
    mutex_lock(&queue->lock);
    tsr_status status = vulkan_batch_submit(queue);
    const uint64_t value = atomic_load(&queue->timeline->submitted);
    mutex_unlock(&queue->lock);
    if (status == TSR_OK)
        status = vulkan_timeline_wait(queue->device, queue->timeline, value);
    if (status == TSR_OK) {
        mutex_lock(&queue->lock);
        vulkan_batch_reclaim(queue);
        mutex_unlock(&queue->lock);
        vulkan_bury(queue->device, false);
    }
    return status;
}
