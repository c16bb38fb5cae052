/* Events: a batch of a timeline, and the time from a query pool that is made with the device. */
#include "backends/vulkan/vulkan_entries.h"

#include "base/error.h"
#include "base/memory.h"

/* Gives queries of destroyed events back that the device has written by now. device->lock is held. */
static void sweep_limbo(vulkan_device *device)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < device->limbo_count; i++) {
        const vulkan_limbo *l = &device->limbo[i];
        if (vulkan_timeline_reached(device, &device->timelines[l->timeline], l->value))
            device->free_queries[device->free_query_count++] = l->query;
        else
            device->limbo[kept++] = *l;
    }
    device->limbo_count = kept;
}

tsr_status vulkan_event_create(hal_device *base, hal_event **event)
{
    vulkan_device *device = (vulkan_device *)base;
    const tsr_status status = vulkan_check_lost(device);
    if (status != TSR_OK)
        return status;
    vulkan_event *e = host_alloc_zeroed(1, sizeof *e);
    if (e == NULL)
        return TSR_OUT_OF_MEMORY;
    e->base.device = base;
    e->query = NO_QUERY;
    mutex_lock(&device->lock);
    if (device->free_query_count == 0)
        sweep_limbo(device);
    if (device->free_query_count > 0)
        e->query = device->free_queries[--device->free_query_count];
    mutex_unlock(&device->lock);
    *event = &e->base;
    return TSR_OK;
}

static bool query_is_free(vulkan_device *device, const vulkan_event *e)
{
    return e->query_timeline == NULL || vulkan_timeline_reached(device, e->query_timeline, e->query_value);
}

void vulkan_event_destroy(hal_event *event)
{
    vulkan_event *e = (vulkan_event *)event;
    vulkan_device *device = (vulkan_device *)event->device;
    if (e->query != NO_QUERY) {
        mutex_lock(&device->lock);
        if (query_is_free(device, e))
            device->free_queries[device->free_query_count++] = e->query;
        else
            device->limbo[device->limbo_count++] =
                (vulkan_limbo){.query = e->query, .timeline = e->query_timeline->index, .value = e->query_value};
        mutex_unlock(&device->lock);
    }
    host_free(e);
}

/* A query must be reset before it is written: by the host if the device is done with it, else in the queue's order. */
static bool write_time(vulkan_queue *queue, vulkan_event *e)
{
    vulkan_device *device = queue->device;
    VkCommandBuffer commands = queue->batches[queue->current].commands;
    if (e->query == NO_QUERY || queue->lane->timestamp_bits == 0)
        return false;
    if (query_is_free(device, e)) {
        device->vk.vkResetQueryPool(device->handle, device->queries, e->query, 1);
    } else {
        if (e->query_timeline != queue->timeline || !queue->lane->computes)
            return false;
        device->vk.vkCmdResetQueryPool(commands, device->queries, e->query, 1);
    }
    device->vk.vkCmdWriteTimestamp(commands, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, device->queries, e->query);
    e->query_timeline = queue->timeline;
    e->query_value = vulkan_batch_value(queue);
    return true;
}

tsr_status vulkan_event_record(hal_queue *base, hal_event *event)
{
    vulkan_queue *queue = (vulkan_queue *)base;
    vulkan_event *e = (vulkan_event *)event;
    mutex_lock(&queue->lock);
    const tsr_status status = vulkan_batch_begin(queue);
    if (status == TSR_OK) {
        e->timed = write_time(queue, e);
        e->timestamp_bits = queue->lane->timestamp_bits;
        e->timeline = queue->timeline;
        e->value = vulkan_batch_value(queue);
        event->recorded = true;
    }
    mutex_unlock(&queue->lock);
    return status;
}

tsr_status vulkan_event_query(hal_event *event, bool *done)
{
    const vulkan_event *e = (const vulkan_event *)event;
    vulkan_device *device = (vulkan_device *)event->device;
    *done = true;
    const tsr_status status = vulkan_check_lost(device);
    if (status != TSR_OK || e->timeline == NULL)
        return status;
    const uint64_t submitted = atomic_load(&e->timeline->submitted);
    if (submitted < e->value) {
        *done = false;
        /* Asking again and again must end some day; but while the device is busy there is no hurry to submit. */
        return vulkan_timeline_reached(device, e->timeline, submitted)
                   ? vulkan_timeline_flush(device, e->timeline, e->value)
                   : vulkan_check_lost(device);
    }
    *done = vulkan_timeline_reached(device, e->timeline, e->value);
    return *done ? TSR_OK : vulkan_check_lost(device);
}

tsr_status vulkan_event_sync(hal_event *event)
{
    const vulkan_event *e = (const vulkan_event *)event;
    vulkan_device *device = (vulkan_device *)event->device;
    tsr_status status = vulkan_check_lost(device);
    if (status != TSR_OK || e->timeline == NULL)
        return status;
    status = vulkan_timeline_flush(device, e->timeline, e->value);
    return status != TSR_OK ? status : vulkan_timeline_wait(device, e->timeline, e->value);
}

static tsr_status time_of(vulkan_device *device, const vulkan_event *e, uint64_t *ticks)
{
    if (e->timeline == NULL)
        return fail(TSR_INVALID_ARGUMENT, "vulkan: the time of an event that was never recorded");
    if (!vulkan_timeline_reached(device, e->timeline, e->value)) {
        const tsr_status status = vulkan_check_lost(device);
        return status != TSR_OK ? status : fail(TSR_INVALID_ARGUMENT, "vulkan: the time of an event that is not done");
    }
    if (!e->timed)
        return fail(TSR_UNSUPPORTED, "vulkan: the event has no time: %s",
                    e->query == NO_QUERY     ? "too many events exist at a time"
                    : e->timestamp_bits == 0 ? "its queue has no timestamps"
                                             : "it was recorded again while an earlier record was under way");
    const VkResult result = device->vk.vkGetQueryPoolResults(
        device->handle, device->queries, e->query, 1, sizeof *ticks, ticks, sizeof *ticks, VK_QUERY_RESULT_64_BIT);
    return result == VK_SUCCESS ? TSR_OK : vulkan_fail(device, result, "reading the time of an event");
}

tsr_status vulkan_event_elapsed(hal_event *from, hal_event *to, double *milliseconds)
{
    vulkan_device *device = (vulkan_device *)from->device;
    uint64_t begin = 0, end = 0;
    tsr_status status = vulkan_check_lost(device);
    if (status == TSR_OK)
        status = time_of(device, (const vulkan_event *)from, &begin);
    if (status == TSR_OK)
        status = time_of(device, (const vulkan_event *)to, &end);
    if (status != TSR_OK)
        return status;
    const uint32_t bits = ((const vulkan_event *)to)->timestamp_bits;
    uint64_t ticks = end - begin;
    if (bits < 64) {
        ticks &= (UINT64_C(1) << bits) - 1; /* the counter may have begun anew */
        if (ticks >> (bits - 1) != 0)
            ticks |= ~((UINT64_C(1) << bits) - 1); /* `to` was before `from` */
    }
    *milliseconds = (double)(int64_t)ticks * (double)device->adapter->properties.limits.timestampPeriod * 1e-6;
    return TSR_OK;
}
