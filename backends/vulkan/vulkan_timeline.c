/* Waiting for batches. */
#include "backends/vulkan/vulkan_backend.h"

#include "base/error.h"

/* A driver that lost its device may never answer: the wait looks up this often. */
#define WAIT_SLICE_NS ((uint64_t)500 * 1000 * 1000)

static void note_completed(vulkan_timeline *timeline, uint64_t value)
{
    uint64_t known = atomic_load(&timeline->completed);
    while (known < value && !atomic_compare_exchange_weak(&timeline->completed, &known, value)) {
    }
}

bool vulkan_timeline_reached(vulkan_device *device, vulkan_timeline *timeline, uint64_t value)
{
    if (atomic_load(&timeline->completed) >= value)
        return true;
    if (atomic_load(&timeline->submitted) < value || atomic_load(&device->lost))
        return false;

    uint64_t now = 0;
    const VkResult result = device->vk.vkGetSemaphoreCounterValue(device->handle, timeline->semaphore, &now);
    if (result == VK_ERROR_DEVICE_LOST)
        atomic_store(&device->lost, true);
    if (result != VK_SUCCESS)
        return false;
    /* Some drivers report UINT64_MAX for a lost device. */
    if (now > atomic_load(&timeline->submitted)) {
        atomic_store(&device->lost, true);
        return false;
    }
    note_completed(timeline, now);
    return now >= value;
}

tsr_status vulkan_timeline_wait(vulkan_device *device, vulkan_timeline *timeline, uint64_t value)
{
    for (;;) {
        if (atomic_load(&timeline->completed) >= value)
            return TSR_OK;
        const tsr_status status = vulkan_check_lost(device);
        if (status != TSR_OK)
            return status;
        const VkResult result = device->vk.vkWaitSemaphores(device->handle,
                                                            &(VkSemaphoreWaitInfo){
                                                                .sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
                                                                .semaphoreCount = 1,
                                                                .pSemaphores = &timeline->semaphore,
                                                                .pValues = &value,
                                                            },
                                                            WAIT_SLICE_NS);
        if (result == VK_SUCCESS)
            note_completed(timeline, value);
        else if (result != VK_TIMEOUT)
            return vulkan_fail(device, result, "waiting for the device");
    }
}

tsr_status vulkan_timeline_flush(vulkan_device *device, vulkan_timeline *timeline, uint64_t value)
{
    if (atomic_load(&timeline->submitted) >= value)
        return TSR_OK;
    tsr_status status = vulkan_check_lost(device);
    if (status != TSR_OK)
        return status;

    mutex_lock(&device->registry);
    vulkan_queue *queue = timeline->queue; /* a queue that is gone has submitted everything */
    if (queue != NULL) {
        mutex_lock(&queue->lock);
        if (atomic_load(&timeline->submitted) < value)
            status = vulkan_batch_submit(queue);
        mutex_unlock(&queue->lock);
    }
    mutex_unlock(&device->registry);
    return status;
}
