/* Physical devices: what a driver says about one, whether that is enough, and what the HAL shows of it. */
#ifndef TESSERA_VULKAN_ADAPTER_H
#define TESSERA_VULKAN_ADAPTER_H

#include "backends/vulkan/vulkan_api.h"
#include "hal/hal.h"

enum { VULKAN_MAX_ADAPTERS = 32, VULKAN_MAX_FAMILIES = 16 };

typedef struct vulkan_adapter {
    VkPhysicalDevice handle;
    VkPhysicalDeviceProperties properties;
    VkPhysicalDeviceVulkan11Properties properties11;
    VkPhysicalDeviceVulkan12Properties properties12;
    uint32_t max_push_descriptors; /* 0 without VK_KHR_push_descriptor */
    uint32_t compute_units;        /* 0 if unknown */

    VkPhysicalDeviceFeatures features;
    VkPhysicalDeviceVulkan11Features features11;
    VkPhysicalDeviceVulkan12Features features12;

    VkPhysicalDeviceMemoryProperties memory;
    uint32_t memory_type_device, memory_type_host; /* what the two kinds of HAL memory live in */

    uint32_t family_count;
    VkQueueFamilyProperties families[VULKAN_MAX_FAMILIES];
    uint32_t compute_family, copy_family; /* the same where there is one only */

    bool has_push_descriptor, has_memory_budget, has_portability_subset;
} vulkan_adapter;

/* The devices that can be used, in the loader's order; the list lives as long as the process and does not change once it
 * has one. `why` gets a sentence for each device that cannot be used, or what is missing where there is none at all; it
 * may be NULL. */
void vulkan_adapters(const vulkan_adapter **adapters, uint32_t *count, char *why, size_t why_size);

void vulkan_adapter_info(const vulkan_adapter *adapter, hal_device_info *info);

/* Bindings start at multiples of this, at least 16 so that vector loads of aligned tensors are aligned; the kernel gets
 * the rest as an offset in elements. A power of two, at most 256. */
uint32_t vulkan_adapter_alignment(const vulkan_adapter *adapter);

/* Bytes of the heap behind a memory type that are still to be had, by the driver's own estimate; the whole heap where it
 * gives none. */
uint64_t vulkan_adapter_available(const vulkan_adapter *adapter, uint32_t memory_type);

#endif
