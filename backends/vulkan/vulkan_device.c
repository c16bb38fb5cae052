/* Devices: listing, opening, closing, losing. */
#include "backends/vulkan/vulkan_entries.h"

#include "base/error.h"
#include "base/memory.h"

#include <stdio.h>
#include <string.h>

static atomic_bool push_descriptors_forbidden;
static _Atomic uint64_t driver_objects;

void vulkan_forbid_push_descriptors(bool forbid)
{
    atomic_store(&push_descriptors_forbidden, forbid);
}

uint64_t vulkan_driver_objects(void)
{
    return atomic_load(&driver_objects);
}

void vulkan_count_object(void)
{
    atomic_fetch_add_explicit(&driver_objects, 1, memory_order_relaxed);
}

/* ---- errors ------------------------------------------------------------------------------------------------------ */

static tsr_status fail_lost(const vulkan_device *device)
{
    return fail(TSR_DEVICE_LOST, "vulkan: %s is lost: its driver gave it up; close it and open it again",
                device->base.info.name);
}

tsr_status vulkan_check_lost(vulkan_device *device)
{
    return atomic_load_explicit(&device->lost, memory_order_relaxed) ? fail_lost(device) : TSR_OK;
}

tsr_status vulkan_fail(vulkan_device *device, VkResult result, const char *what)
{
    const char *name = vulkan_result_name(result);
    switch (result) {
    case VK_ERROR_DEVICE_LOST: atomic_store(&device->lost, true); return fail_lost(device);
    case VK_ERROR_OUT_OF_HOST_MEMORY: return fail(TSR_OUT_OF_MEMORY, "vulkan: %s failed with %s", what, name);
    case VK_ERROR_OUT_OF_DEVICE_MEMORY: return fail(TSR_OUT_OF_DEVICE_MEMORY, "vulkan: %s failed with %s", what, name);
    default:
        return fail(TSR_DRIVER_ERROR, "vulkan: %s failed with %s (%d) on %s", what, name, (int)result,
                    device->base.info.name);
    }
}

/* ---- listing ----------------------------------------------------------------------------------------------------- */

tsr_status vulkan_enumerate(uint32_t *count, char *why, size_t why_size)
{
    const vulkan_adapter *adapters;
    vulkan_adapters(&adapters, count, why, why_size);
    return TSR_OK;
}

static tsr_status adapter_at(uint32_t index, const vulkan_adapter **adapter)
{
    char why[512] = "";
    uint32_t count = 0;
    vulkan_adapters(adapter, &count, why, sizeof why);
    if (index >= count)
        return fail(TSR_NO_DEVICE, "vulkan:%u does not exist: %s", (unsigned)index,
                    count == 0 ? why : "there are fewer devices");
    *adapter += index;
    return TSR_OK;
}

tsr_status vulkan_info(uint32_t index, hal_device_info *info)
{
    const vulkan_adapter *adapter;
    const tsr_status status = adapter_at(index, &adapter);
    if (status == TSR_OK)
        vulkan_adapter_info(adapter, info);
    return status;
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static VkResult create_device(vulkan_device *device, bool push_descriptors)
{
    const vulkan_adapter *a = device->adapter;
    static const float priorities[VULKAN_MAX_LANES] = {1, 1, 1, 1, 1};
    const bool copy_apart = a->copy_family != a->compute_family;
    device->compute_lane_count = least(a->families[a->compute_family].queueCount, VULKAN_MAX_LANES - 1);
    device->lane_count = device->compute_lane_count + (copy_apart ? 1 : 0);
    const VkDeviceQueueCreateInfo queues[2] = {
        {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
         .queueFamilyIndex = a->compute_family,
         .queueCount = device->compute_lane_count,
         .pQueuePriorities = priorities},
        {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
         .queueFamilyIndex = a->copy_family,
         .queueCount = 1,
         .pQueuePriorities = priorities},
    };

    /* Only what kernels use; whatever else is on may cost speed. */
    VkPhysicalDeviceVulkan12Features features12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
        .timelineSemaphore = VK_TRUE,
        .hostQueryReset = a->features12.hostQueryReset,
        .storageBuffer8BitAccess = a->features12.storageBuffer8BitAccess,
        .shaderInt8 = a->features12.shaderInt8,
        .shaderFloat16 = a->features12.shaderFloat16,
    };
    VkPhysicalDeviceVulkan11Features features11 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES,
        .pNext = &features12,
        .storageBuffer16BitAccess = VK_TRUE,
    };
    const VkPhysicalDeviceFeatures2 features = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
        .pNext = &features11,
        .features = {.shaderInt64 = a->features.shaderInt64,
                     .shaderInt16 = a->features.shaderInt16,
                     .shaderFloat64 = a->features.shaderFloat64},
    };
    const char *extensions[2];
    uint32_t extension_count = 0;
    if (push_descriptors)
        extensions[extension_count++] = VK_KHR_PUSH_DESCRIPTOR_EXTENSION_NAME;
    if (a->has_portability_subset) /* must be asked for where it is offered */
        extensions[extension_count++] = "VK_KHR_portability_subset";

    const VkDeviceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
        .pNext = &features,
        .queueCreateInfoCount = copy_apart ? 2 : 1,
        .pQueueCreateInfos = queues,
        .enabledExtensionCount = extension_count,
        .ppEnabledExtensionNames = extensions,
    };
    return vulkan_instance.vkCreateDevice(a->handle, &info, NULL, &device->handle);
}

static void open_lanes(vulkan_device *device)
{
    const vulkan_adapter *a = device->adapter;
    for (uint32_t i = 0; i < device->lane_count; i++) {
        vulkan_lane *lane = &device->lanes[i];
        lane->computes = i < device->compute_lane_count;
        lane->family = lane->computes ? a->compute_family : a->copy_family;
        lane->timestamp_bits = a->families[lane->family].timestampValidBits;
        lane->stages = VK_PIPELINE_STAGE_TRANSFER_BIT;
        lane->accesses = VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT;
        if (lane->computes) {
            lane->stages |= VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT;
            lane->accesses |= VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT;
        }
        device->vk.vkGetDeviceQueue(device->handle, lane->family, lane->computes ? i : 0, &lane->handle);
    }
}

/* One layout for all kernels: a pipeline may use fewer bindings than its layout has. */
static VkResult create_layouts(vulkan_device *device, bool push_descriptors)
{
    VkDescriptorSetLayoutBinding bindings[HAL_MAX_BINDINGS];
    for (uint32_t i = 0; i < HAL_MAX_BINDINGS; i++)
        bindings[i] = (VkDescriptorSetLayoutBinding){
            .binding = i,
            .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
            .descriptorCount = 1,
            .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT,
        };
    const VkDescriptorSetLayoutCreateInfo set_info = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
        .flags = push_descriptors ? VK_DESCRIPTOR_SET_LAYOUT_CREATE_PUSH_DESCRIPTOR_BIT_KHR : 0,
        .bindingCount = device->set_bindings,
        .pBindings = bindings,
    };
    const VkResult result =
        device->vk.vkCreateDescriptorSetLayout(device->handle, &set_info, NULL, &device->set_layout);
    if (result != VK_SUCCESS)
        return result;
    const VkPipelineLayoutCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
        .setLayoutCount = 1,
        .pSetLayouts = &device->set_layout,
        .pushConstantRangeCount = 1,
        .pPushConstantRanges =
            &(VkPushConstantRange){.stageFlags = VK_SHADER_STAGE_COMPUTE_BIT, .size = VULKAN_PUSH_BYTES},
    };
    return device->vk.vkCreatePipelineLayout(device->handle, &info, NULL, &device->pipeline_layout);
}

/* Without it events work, but have no time. */
static void create_queries(vulkan_device *device)
{
    bool useful = device->adapter->features12.hostQueryReset;
    for (uint32_t i = 0; i < device->lane_count && useful; i++)
        useful = device->lanes[i].timestamp_bits > 0 || !device->lanes[i].computes;
    const VkQueryPoolCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
        .queryType = VK_QUERY_TYPE_TIMESTAMP,
        .queryCount = VULKAN_EVENT_QUERIES,
    };
    if (!useful || device->vk.vkCreateQueryPool(device->handle, &info, NULL, &device->queries) != VK_SUCCESS)
        return;
    for (uint32_t i = 0; i < VULKAN_EVENT_QUERIES; i++)
        device->free_queries[i] = VULKAN_EVENT_QUERIES - 1 - i;
    device->free_query_count = VULKAN_EVENT_QUERIES;
}

static tsr_status set_up(vulkan_device *device)
{
    const vulkan_adapter *a = device->adapter;
    const VkPhysicalDeviceLimits *limits = &a->properties.limits;
    device->alignment = vulkan_adapter_alignment(a);
    device->set_bindings =
        least(HAL_MAX_BINDINGS, least(limits->maxPerStageDescriptorStorageBuffers, limits->maxPerStageResources));
    const bool push =
        a->has_push_descriptor && a->max_push_descriptors >= device->set_bindings && !push_descriptors_forbidden;

    VkResult result = create_device(device, push);
    if (result != VK_SUCCESS)
        return vulkan_fail(device, result, "opening the device");
    const tsr_status status = vulkan_device_api_load(&device->vk, device->handle);
    if (status != TSR_OK)
        return status;
    if (push)
        device->vk.vkCmdPushDescriptorSetKHR = (PFN_vkCmdPushDescriptorSetKHR)vulkan_instance.vkGetDeviceProcAddr(
            device->handle, "vkCmdPushDescriptorSetKHR");
    open_lanes(device);
    result = create_layouts(device, device->vk.vkCmdPushDescriptorSetKHR != NULL);
    if (result != VK_SUCCESS)
        return vulkan_fail(device, result, "making the layout of kernels");
    create_queries(device);
    vulkan_pipeline_cache_open(device);
    return TSR_OK;
}

tsr_status vulkan_open(uint32_t index, hal_device **result)
{
    const vulkan_adapter *adapter;
    tsr_status status = adapter_at(index, &adapter);
    if (status != TSR_OK)
        return status;
    vulkan_device *device = host_alloc_zeroed(1, sizeof *device);
    if (device == NULL)
        return TSR_OUT_OF_MEMORY;
    device->adapter = adapter;
    vulkan_adapter_info(adapter, &device->base.info);
    mutex_init(&device->registry);
    mutex_init(&device->lock);
    for (uint32_t i = 0; i < VULKAN_MAX_LANES; i++)
        mutex_init(&device->lanes[i].lock);
    for (uint32_t i = 0; i < VULKAN_MAX_QUEUES; i++)
        device->timelines[i].index = i;

    status = set_up(device);
    if (status != TSR_OK) {
        vulkan_close(&device->base);
        return status;
    }
    *result = &device->base;
    return TSR_OK;
}

/* ---- closing and losing ------------------------------------------------------------------------------------------ */

static void destroy_objects(vulkan_device *device)
{
    device->vk.vkDeviceWaitIdle(device->handle); /* a lost device answers with an error, which is as good */
    vulkan_bury(device, true);
    vulkan_pipeline_cache_close(device);
    for (uint32_t i = 0; i < VULKAN_MAX_QUEUES; i++)
        device->vk.vkDestroySemaphore(device->handle, device->timelines[i].semaphore, NULL);
    device->vk.vkDestroyQueryPool(device->handle, device->queries, NULL);
    device->vk.vkDestroyPipelineLayout(device->handle, device->pipeline_layout, NULL);
    device->vk.vkDestroyDescriptorSetLayout(device->handle, device->set_layout, NULL);
}

void vulkan_close(hal_device *base)
{
    vulkan_device *device = (vulkan_device *)base;
    /* The table is complete once its last function is there. */
    if (device->handle != VK_NULL_HANDLE && device->vk.vkCmdWriteTimestamp != NULL)
        destroy_objects(device);
    if (device->handle != VK_NULL_HANDLE && device->vk.vkDestroyDevice != NULL)
        device->vk.vkDestroyDevice(device->handle, NULL);
    for (uint32_t i = 0; i < VULKAN_MAX_LANES; i++)
        mutex_destroy(&device->lanes[i].lock);
    mutex_destroy(&device->lock);
    mutex_destroy(&device->registry);
    host_free(device);
}

tsr_status vulkan_device_status(hal_device *base)
{
    vulkan_device *device = (vulkan_device *)base;
    /* Asks about work that is not known to be done, which tells a loss that nobody has met yet. */
    for (uint32_t i = 0; i < VULKAN_MAX_QUEUES; i++) {
        vulkan_timeline *timeline = &device->timelines[i];
        const uint64_t submitted = atomic_load(&timeline->submitted);
        if (submitted > atomic_load(&timeline->completed))
            vulkan_timeline_reached(device, timeline, submitted);
    }
    return vulkan_check_lost(device);
}

void vulkan_lose(hal_device *device)
{
    atomic_store(&((vulkan_device *)device)->lost, true);
}
