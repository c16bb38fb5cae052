#include "backends/vulkan/vulkan_adapter.h"

#include "base/checked.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/thread.h"

#include <stdio.h>
#include <string.h>

static struct {
    mutex lock;
    uint32_t count;
    vulkan_adapter at[VULKAN_MAX_ADAPTERS];
} found = {.lock = MUTEX_INIT};

/* ---- asking the driver ------------------------------------------------------------------------------------------ */

typedef struct extension_list {
    VkExtensionProperties *at;
    uint32_t count;
} extension_list;

static bool has_extension(const extension_list *list, const char *name)
{
    for (uint32_t i = 0; i < list->count; i++)
        if (strcmp(list->at[i].extensionName, name) == 0)
            return true;
    return false;
}

static extension_list extensions_of(VkPhysicalDevice device)
{
    extension_list list = {0};
    if (vulkan_instance.vkEnumerateDeviceExtensionProperties(device, NULL, &list.count, NULL) != VK_SUCCESS)
        list.count = 0;
    list.at = list.count > 0 ? host_alloc_zeroed(list.count, sizeof *list.at) : NULL;
    if (list.at == NULL ||
        vulkan_instance.vkEnumerateDeviceExtensionProperties(device, NULL, &list.count, list.at) < VK_SUCCESS)
        list.count = 0;
    return list;
}

static void ask_properties(vulkan_adapter *a, const extension_list *extensions)
{
    VkPhysicalDevicePushDescriptorPropertiesKHR push = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PUSH_DESCRIPTOR_PROPERTIES_KHR};
    VkPhysicalDeviceShaderSMBuiltinsPropertiesNV nvidia = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_SM_BUILTINS_PROPERTIES_NV};
    VkPhysicalDeviceShaderCorePropertiesAMD amd = {.sType =
                                                       VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_CORE_PROPERTIES_AMD};
    VkPhysicalDeviceProperties2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                       .pNext = &a->properties11};
    a->properties11.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES;
    a->properties11.pNext = &a->properties12;
    a->properties12.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_PROPERTIES;
    void **last = &a->properties12.pNext;
    if (a->has_push_descriptor) {
        *last = &push;
        last = &push.pNext;
    }
    if (has_extension(extensions, VK_NV_SHADER_SM_BUILTINS_EXTENSION_NAME)) {
        *last = &nvidia;
        last = &nvidia.pNext;
    }
    if (has_extension(extensions, VK_AMD_SHADER_CORE_PROPERTIES_EXTENSION_NAME)) {
        *last = &amd;
        last = &amd.pNext;
    }
    vulkan_instance.vkGetPhysicalDeviceProperties2(a->handle, &all);

    a->properties = all.properties;
    a->properties11.pNext = a->properties12.pNext = NULL;
    a->max_push_descriptors = push.maxPushDescriptors;
    a->compute_units =
        nvidia.shaderSMCount + amd.shaderEngineCount * amd.shaderArraysPerEngineCount * amd.computeUnitsPerShaderArray;
    if (a->compute_units == 0 && a->properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU)
        a->compute_units = (uint32_t)cpu_count();
}

static void ask_features(vulkan_adapter *a)
{
    VkPhysicalDeviceFeatures2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &a->features11};
    a->features11.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES;
    a->features11.pNext = &a->features12;
    a->features12.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES;
    vulkan_instance.vkGetPhysicalDeviceFeatures2(a->handle, &all);
    a->features = all.features;
    a->features11.pNext = NULL;
}

/* ---- queues ----------------------------------------------------------------------------------------------------- */

#define NO_FAMILY UINT32_MAX

/* The first family with all of `wanted` and none of `unwanted`. */
static uint32_t family_with(const vulkan_adapter *a, VkQueueFlags wanted, VkQueueFlags unwanted)
{
    for (uint32_t i = 0; i < a->family_count; i++) {
        const VkQueueFlags flags = a->families[i].queueFlags;
        if ((flags & wanted) == wanted && (flags & unwanted) == 0 && a->families[i].queueCount > 0)
            return i;
    }
    return NO_FAMILY;
}

/* A family without graphics keeps out of the way of what draws the screen; one with transfer only is the copy engine. */
static void choose_families(vulkan_adapter *a)
{
    a->family_count = VULKAN_MAX_FAMILIES;
    vulkan_instance.vkGetPhysicalDeviceQueueFamilyProperties(a->handle, &a->family_count, a->families);

    a->compute_family = family_with(a, VK_QUEUE_COMPUTE_BIT, VK_QUEUE_GRAPHICS_BIT);
    if (a->compute_family == NO_FAMILY)
        a->compute_family = family_with(a, VK_QUEUE_COMPUTE_BIT, 0);
    a->copy_family = family_with(a, VK_QUEUE_TRANSFER_BIT,
                                 VK_QUEUE_GRAPHICS_BIT | VK_QUEUE_COMPUTE_BIT | VK_QUEUE_VIDEO_DECODE_BIT_KHR |
                                     0x40 /* video encode */);
    if (a->copy_family == NO_FAMILY)
        a->copy_family = a->compute_family;
}

/* ---- memory ----------------------------------------------------------------------------------------------------- */

#define NO_MEMORY_TYPE UINT32_MAX

/* Lazily allocated, protected, device-coherent (slow, for debugging) and the like are never what is wanted. */
#define ORDINARY_MEMORY                                                                                                \
    (VkMemoryPropertyFlags)(VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT | VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT |                \
                            VK_MEMORY_PROPERTY_HOST_COHERENT_BIT | VK_MEMORY_PROPERTY_HOST_CACHED_BIT)

/* A heap of 256 MiB may be only the window through which the host sees a card's memory, so after what is liked most the
 * size of the heap decides. */
static uint32_t best_memory_type(const vulkan_adapter *a, VkMemoryPropertyFlags needed, VkMemoryPropertyFlags liked,
                                 VkMemoryPropertyFlags disliked)
{
    uint32_t best = NO_MEMORY_TYPE;
    uint64_t best_rank[3] = {0};
    for (uint32_t i = 0; i < a->memory.memoryTypeCount; i++) {
        const VkMemoryPropertyFlags flags = a->memory.memoryTypes[i].propertyFlags;
        if ((flags & needed) != needed || (flags & ~ORDINARY_MEMORY) != 0)
            continue;
        const uint64_t rank[3] = {(flags & liked) != 0, a->memory.memoryHeaps[a->memory.memoryTypes[i].heapIndex].size,
                                  (flags & disliked) == 0};
        int better = best == NO_MEMORY_TYPE;
        for (int r = 0; r < 3 && better == 0; r++)
            better = (rank[r] > best_rank[r]) - (rank[r] < best_rank[r]);
        if (better > 0) {
            best = i;
            memcpy(best_rank, rank, sizeof rank);
        }
    }
    return best;
}

static void choose_memory(vulkan_adapter *a)
{
    VkPhysicalDeviceMemoryProperties2 memory = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2};
    vulkan_instance.vkGetPhysicalDeviceMemoryProperties2(a->handle, &memory);
    a->memory = memory.memoryProperties;
    a->memory_type_device =
        best_memory_type(a, 0, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT);
    a->memory_type_host =
        best_memory_type(a, VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
                         VK_MEMORY_PROPERTY_HOST_CACHED_BIT, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT);
}

uint64_t vulkan_adapter_available(const vulkan_adapter *a, uint32_t memory_type)
{
    const uint32_t heap = a->memory.memoryTypes[memory_type].heapIndex;
    if (!a->has_memory_budget)
        return a->memory.memoryHeaps[heap].size;
    VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT};
    VkPhysicalDeviceMemoryProperties2 memory = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2,
                                                .pNext = &budget};
    vulkan_instance.vkGetPhysicalDeviceMemoryProperties2(a->handle, &memory);
    return budget.heapBudget[heap] > budget.heapUsage[heap] ? budget.heapBudget[heap] - budget.heapUsage[heap] : 0;
}

/* ---- what must be there ------------------------------------------------------------------------------------------ */

/* NULL, or the feature that is missing. */
static const char *lacks(const vulkan_adapter *a)
{
    const VkPhysicalDeviceLimits *limits = &a->properties.limits;
    if (a->compute_family == NO_FAMILY)
        return "a compute queue";
    if (!a->features12.timelineSemaphore)
        return "timeline semaphores (timelineSemaphore)";
    if (!a->features11.storageBuffer16BitAccess)
        return "16-bit storage (storageBuffer16BitAccess)";
    if (limits->maxPushConstantsSize < 128)
        return "128 bytes of push constants";
    if (limits->minStorageBufferOffsetAlignment > 256)
        return "storage buffers at multiples of 256 bytes or fewer";
    if (a->memory_type_device == NO_MEMORY_TYPE)
        return "device memory";
    if (a->memory_type_host == NO_MEMORY_TYPE)
        return "coherent memory that the host can see";
    return NULL;
}

/* NULL, or the feature that is missing. */
static const char *examine(VkPhysicalDevice handle, vulkan_adapter *a)
{
    *a = (vulkan_adapter){.handle = handle};
    VkPhysicalDeviceProperties2 first = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2};
    vulkan_instance.vkGetPhysicalDeviceProperties2(handle, &first);
    a->properties = first.properties;
    if (a->properties.apiVersion < VK_API_VERSION_1_2)
        return "Vulkan 1.2"; /* and the structures below */

    extension_list extensions = extensions_of(handle);
    a->has_push_descriptor = has_extension(&extensions, VK_KHR_PUSH_DESCRIPTOR_EXTENSION_NAME);
    a->has_memory_budget = has_extension(&extensions, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
    a->has_portability_subset = has_extension(&extensions, "VK_KHR_portability_subset");
    ask_properties(a, &extensions);
    host_free(extensions.at);
    ask_features(a);
    choose_families(a);
    choose_memory(a);
    return lacks(a);
}

static void look(char *why, size_t why_size)
{
    if (!vulkan_instance_open(why, why_size))
        return;

    VkPhysicalDevice handles[VULKAN_MAX_ADAPTERS];
    uint32_t count = VULKAN_MAX_ADAPTERS;
    const VkResult result = vulkan_instance.vkEnumeratePhysicalDevices(vulkan_instance.handle, &count, handles);
    if (result < VK_SUCCESS || count == 0) {
        snprintf(
            why, why_size,
            "the Vulkan loader is there, but no driver shows a device%s%s; install the driver of your GPU (Debian, "
            "Ubuntu: apt install mesa-vulkan-drivers has those of AMD, Intel and a software one)",
            result < VK_SUCCESS ? ": " : "", result < VK_SUCCESS ? vulkan_result_name(result) : "");
        count = 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        const char *missing = examine(handles[i], &found.at[found.count]);
        if (missing == NULL) {
            found.count++;
            continue;
        }
        const size_t used = strlen(why);
        snprintf(why + used, why_size - used, "%s%.80s lacks %s: update its driver", used > 0 ? "; " : "",
                 found.at[found.count].properties.deviceName, missing);
    }
    if (found.count == 0)
        vulkan_instance_close();
}

void vulkan_adapters(const vulkan_adapter **adapters, uint32_t *count, char *why, size_t why_size)
{
    char text[512] = "";
    mutex_lock(&found.lock);
    if (found.count == 0) {
        look(text, sizeof text);
        if (text[0] != '\0')
            log_info("vulkan: %s", text);
    }
    *adapters = found.at;
    *count = found.count;
    mutex_unlock(&found.lock);
    if (why != NULL && why_size > 0)
        snprintf(why, why_size, "%s", text);
}

/* ---- what the HAL shows ------------------------------------------------------------------------------------------ */

static const char *vendor_name(uint32_t id)
{
    switch (id) {
    case 0x1002: return "AMD";
    case 0x1010: return "Imagination";
    case 0x106b: return "Apple";
    case 0x10de: return "NVIDIA";
    case 0x13b5: return "Arm";
    case 0x14e4: return "Broadcom";
    case 0x5143: return "Qualcomm";
    case 0x8086: return "Intel";
    case VK_VENDOR_ID_MESA: return "Mesa";
    case VK_VENDOR_ID_POCL: return "PoCL";
    default: return "";
    }
}

static void add_note(hal_device_info *info, bool applies, const char *note)
{
    const size_t used = strlen(info->notes);
    if (applies && used + strlen(note) + 3 < sizeof info->notes)
        snprintf(info->notes + used, sizeof info->notes - used, "%s%s", used > 0 ? "; " : "", note);
}

static void describe(const vulkan_adapter *a, hal_device_info *info)
{
    const VkPhysicalDeviceVulkan12Properties *p = &a->properties12;
    snprintf(info->name, sizeof info->name, "%.127s", a->properties.deviceName);
    snprintf(info->vendor, sizeof info->vendor, "%s", vendor_name(a->properties.vendorID));
    snprintf(info->driver, sizeof info->driver, "%.50s %.70s", p->driverName, p->driverInfo);
    for (uint32_t i = 0; i < VK_UUID_SIZE; i++)
        snprintf(info->uuid + 2 * i, 3, "%02x", a->properties11.deviceUUID[i]);

    add_note(info, !a->features12.shaderFloat16, "no f16 arithmetic (f16 is stored only)");
    add_note(info, !a->features11.storageBuffer16BitAccess, "no 16-bit storage");
    add_note(info, !a->features12.storageBuffer8BitAccess, "no 8-bit storage");
    add_note(info, !a->features.shaderFloat64, "no f64");
    add_note(info, !p->shaderDenormPreserveFloat32, "does not promise f32 subnormals");
    add_note(info, !p->shaderRoundingModeRTEFloat32, "does not promise f32 rounding to nearest");
    add_note(info, !p->shaderSignedZeroInfNanPreserveFloat32, "does not promise f32 NaN, infinity and signed zero");
    add_note(info, !a->has_push_descriptor, "no push descriptors");
    /* 22.3.6 was seen to do so, 25.0.7 not to. llvmpipe's driverVersion is not Mesa's. */
    int mesa = 0;
    add_note(info,
             p->driverID == VK_DRIVER_ID_MESA_LLVMPIPE && (sscanf(p->driverInfo, "Mesa %d", &mesa) != 1 || mesa < 25),
             "may end loops after 65535 rounds, which spoils rows of half a million elements; Mesa 25 does not");
}

uint32_t vulkan_adapter_alignment(const vulkan_adapter *a)
{
    const VkDeviceSize alignment = a->properties.limits.minStorageBufferOffsetAlignment;
    return alignment > 16 ? (uint32_t)alignment : 16;
}

static bool shares_memory(const vulkan_adapter *a)
{
    return a->properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU ||
           a->properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU;
}

void vulkan_adapter_info(const vulkan_adapter *a, hal_device_info *info)
{
    const VkPhysicalDeviceLimits *limits = &a->properties.limits;
    const uint64_t heap = a->memory.memoryHeaps[a->memory.memoryTypes[a->memory_type_device].heapIndex].size;
    *info = (hal_device_info){
        .software = a->properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU,
        .device_class = a->properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU ? HAL_CLASS_CPU : HAL_CLASS_GPU,
        .code = HAL_CODE_SPIRV,
        .memory_bytes = heap,
        .max_buffer_bytes =
            a->properties11.maxMemoryAllocationSize < heap ? a->properties11.maxMemoryAllocationSize : heap,
        .max_binding_bytes = limits->maxStorageBufferRange / 4 * 4,
        .binding_alignment = 1, /* offsets below the driver's alignment travel with the push constants */
        .max_group_size = limits->maxComputeWorkGroupInvocations < limits->maxComputeWorkGroupSize[0]
                              ? limits->maxComputeWorkGroupInvocations
                              : limits->maxComputeWorkGroupSize[0],
        .shared_bytes = limits->maxComputeSharedMemorySize,
        .subgroup_size = a->properties11.subgroupSize,
        .compute_units = a->compute_units,
        .unified_memory = shares_memory(a),
        .copies_apart = a->copy_family != a->compute_family || a->families[a->compute_family].queueCount > 1,
    };
    if (a->features11.storageBuffer16BitAccess)
        info->features |= HAL_FEATURE_STORAGE_16;
    if (a->features12.storageBuffer8BitAccess)
        info->features |= HAL_FEATURE_STORAGE_8;
    if (a->features.shaderInt64)
        info->features |= HAL_FEATURE_INT64;
    if (a->features.shaderFloat64)
        info->features |= HAL_FEATURE_FLOAT64;
    describe(a, info);
}
