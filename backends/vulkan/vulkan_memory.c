/* Memory: an allocation of the driver for each HAL buffer, which the allocator above makes large; and the destruction
 * of what the driver may still be using. */
#include "backends/vulkan/vulkan_backend.h"

#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"

/* ---- destruction ------------------------------------------------------------------------------------------------ */

static bool at_rest(vulkan_device *device, const vulkan_uses *uses)
{
    for (uint32_t i = 0; i < VULKAN_MAX_QUEUES; i++)
        if (uses->last[i] > 0 && !vulkan_timeline_reached(device, &device->timelines[i], uses->last[i]))
            return false;
    return true;
}

static void destroy(vulkan_device *device, vulkan_corpse *corpse)
{
    device->vk.vkDestroyPipeline(device->handle, corpse->pipeline, NULL);
    device->vk.vkDestroyBuffer(device->handle, corpse->buffer, NULL);
    device->vk.vkFreeMemory(device->handle, corpse->memory, NULL);
    host_free(corpse);
}

void vulkan_bury(vulkan_device *device, bool all)
{
    vulkan_corpse *ready = NULL;
    mutex_lock(&device->lock);
    for (vulkan_corpse **link = &device->corpses; *link != NULL;) {
        vulkan_corpse *corpse = *link;
        if (!all && !at_rest(device, &corpse->uses)) {
            link = &corpse->next;
            continue;
        }
        *link = corpse->next;
        atomic_fetch_sub(&device->corpse_count, 1);
        corpse->next = ready;
        ready = corpse;
    }
    mutex_unlock(&device->lock);

    while (ready != NULL) {
        vulkan_corpse *next = ready->next;
        destroy(device, ready);
        ready = next;
    }
}

void vulkan_entomb(vulkan_device *device, vulkan_corpse *grave)
{
    mutex_lock(&device->lock);
    grave->next = device->corpses;
    device->corpses = grave;
    atomic_fetch_add(&device->corpse_count, 1);
    mutex_unlock(&device->lock);
    vulkan_bury(device, false);
}

/* Frees what freed buffers still hold, for an allocation that found no room: waits for all queues. */
static void make_room(vulkan_device *device)
{
    mutex_lock(&device->registry);
    for (uint32_t i = 0; i < VULKAN_MAX_QUEUES; i++) {
        vulkan_timeline *timeline = &device->timelines[i];
        if (timeline->queue == NULL)
            continue;
        mutex_lock(&timeline->queue->lock);
        const tsr_status status = vulkan_batch_submit(timeline->queue);
        mutex_unlock(&timeline->queue->lock);
        if (status == TSR_OK)
            vulkan_timeline_wait(device, timeline, atomic_load(&timeline->submitted));
    }
    mutex_unlock(&device->registry);
    vulkan_bury(device, false);
}

/* ---- buffers ---------------------------------------------------------------------------------------------------- */

static VkResult create_buffer(vulkan_device *device, vulkan_buffer *b, size_t size)
{
    uint32_t families[2] = {device->lanes[0].family, device->lanes[device->lane_count - 1].family};
    const VkBufferCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
        .size = size,
        .usage =
            VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT,
        /* Costs nothing for buffers, and spares handing them from family to family. */
        .sharingMode = families[0] != families[1] ? VK_SHARING_MODE_CONCURRENT : VK_SHARING_MODE_EXCLUSIVE,
        .queueFamilyIndexCount = families[0] != families[1] ? 2 : 0,
        .pQueueFamilyIndices = families,
    };
    vulkan_count_object();
    return device->vk.vkCreateBuffer(device->handle, &info, NULL, &b->handle);
}

static VkResult bind_memory(vulkan_device *device, vulkan_buffer *b, uint32_t type)
{
    VkMemoryRequirements needs;
    device->vk.vkGetBufferMemoryRequirements(device->handle, b->handle, &needs);
    if ((needs.memoryTypeBits & (UINT32_C(1) << type)) == 0)
        return VK_ERROR_FEATURE_NOT_PRESENT;
    if (needs.size > vulkan_adapter_available(device->adapter, type))
        return VK_ERROR_OUT_OF_DEVICE_MEMORY;

    const VkMemoryAllocateInfo info = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
        .allocationSize = needs.size,
        .memoryTypeIndex = type,
    };
    vulkan_count_object();
    VkResult result = device->vk.vkAllocateMemory(device->handle, &info, NULL, &b->memory);
    if (result == VK_SUCCESS)
        result = device->vk.vkBindBufferMemory(device->handle, b->handle, b->memory, 0);
    if (result == VK_SUCCESS && b->host)
        result = device->vk.vkMapMemory(device->handle, b->memory, 0, VK_WHOLE_SIZE, 0, &b->mapped);
    return result;
}

static VkResult try_alloc(vulkan_device *device, vulkan_buffer *b, size_t size)
{
    const vulkan_adapter *a = device->adapter;
    VkResult result = create_buffer(device, b, size);
    if (result == VK_SUCCESS)
        result = bind_memory(device, b, b->host ? a->memory_type_host : a->memory_type_device);
    if (result != VK_SUCCESS) {
        device->vk.vkDestroyBuffer(device->handle, b->handle, NULL);
        device->vk.vkFreeMemory(device->handle, b->memory, NULL);
        b->handle = VK_NULL_HANDLE;
        b->memory = VK_NULL_HANDLE;
    }
    return result;
}

static tsr_status refuse(vulkan_device *device, VkResult result, bool host, size_t size)
{
    const vulkan_adapter *a = device->adapter;
    const uint32_t type = host ? a->memory_type_host : a->memory_type_device;
    if (result == VK_ERROR_OUT_OF_DEVICE_MEMORY || result == VK_ERROR_OUT_OF_HOST_MEMORY ||
        result == VK_ERROR_TOO_MANY_OBJECTS)
        return fail(
            TSR_OUT_OF_DEVICE_MEMORY,
            "vulkan: %s has no room for %zu bytes of %s memory (%s; its heap of %llu bytes has about %llu left): "
            "use smaller batches, or free what is not needed",
            device->base.info.name, size, host ? "host" : "device", vulkan_result_name(result),
            (unsigned long long)a->memory.memoryHeaps[a->memory.memoryTypes[type].heapIndex].size,
            (unsigned long long)vulkan_adapter_available(a, type));
    return vulkan_fail(device, result, host ? "allocating host memory" : "allocating device memory");
}

/* With wait_for_room no queue's lock may be held. */
static tsr_status make_buffer(vulkan_device *device, bool host, size_t size, bool wait_for_room, vulkan_buffer **buffer)
{
    const tsr_status status = vulkan_check_lost(device);
    if (status != TSR_OK)
        return status;
    size_t granted; /* kernels may load the word around a byte */
    if (!align_up_size(max_size(size, 1), 16, &granted) || granted > device->base.info.max_buffer_bytes)
        return fail(TSR_OUT_OF_DEVICE_MEMORY, "vulkan: a buffer of %zu bytes was asked for; the largest of %s is %llu",
                    size, device->base.info.name, (unsigned long long)device->base.info.max_buffer_bytes);

    vulkan_buffer *b = host_alloc_zeroed(1, sizeof *b);
    if (b != NULL)
        b->grave = host_alloc_zeroed(1, sizeof *b->grave);
    if (b == NULL || b->grave == NULL) {
        host_free(b);
        return TSR_OUT_OF_MEMORY;
    }
    b->host = host;
    VkResult result = try_alloc(device, b, granted);
    if (wait_for_room && (result == VK_ERROR_OUT_OF_DEVICE_MEMORY || result == VK_ERROR_OUT_OF_HOST_MEMORY)) {
        make_room(device);
        result = try_alloc(device, b, granted);
    }
    if (result != VK_SUCCESS) {
        host_free(b->grave);
        host_free(b);
        return refuse(device, result, host, size);
    }
    b->base.device = &device->base;
    b->base.memory = host ? HAL_MEMORY_HOST : HAL_MEMORY_DEVICE;
    b->base.size = size;
    mutex_lock(&device->lock);
    b->id = ++device->next_buffer_id;
    mutex_unlock(&device->lock);
    *buffer = b;
    return TSR_OK;
}

tsr_status vulkan_buffer_alloc(hal_device *device, hal_memory memory, size_t size, hal_buffer **buffer)
{
    vulkan_buffer *made = NULL;
    const tsr_status status = make_buffer((vulkan_device *)device, memory == HAL_MEMORY_HOST, size, true, &made);
    if (status == TSR_OK)
        *buffer = &made->base;
    return status;
}

tsr_status vulkan_buffer_alloc_staging(vulkan_device *device, size_t size, vulkan_buffer **buffer)
{
    return make_buffer(device, true, size, false, buffer);
}

void vulkan_buffer_free(hal_buffer *buffer)
{
    vulkan_buffer *b = (vulkan_buffer *)buffer;
    vulkan_device *device = (vulkan_device *)buffer->device;
    b->grave->uses = b->uses;
    b->grave->buffer = b->handle;
    b->grave->memory = b->memory;
    vulkan_entomb(device, b->grave);
    host_free(b);
}

void *vulkan_buffer_map(hal_buffer *buffer)
{
    return ((vulkan_buffer *)buffer)->mapped;
}
