/* The Vulkan loader, opened at run time, and the instance.
 *
 * Loader and instance stay for the life of the process once a device was found: software drivers bring LLVM and threads,
 * which do not like to be unloaded. */
#ifndef TESSERA_VULKAN_API_H
#define TESSERA_VULKAN_API_H

#define VK_NO_PROTOTYPES
#include <vulkan/vulkan.h>

#include "tessera/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VULKAN_INSTANCE_FUNCTIONS(X)                                                                                   \
    X(vkDestroyInstance)                                                                                               \
    X(vkEnumeratePhysicalDevices)                                                                                      \
    X(vkEnumerateDeviceExtensionProperties)                                                                            \
    X(vkGetPhysicalDeviceProperties2)                                                                                  \
    X(vkGetPhysicalDeviceFeatures2)                                                                                    \
    X(vkGetPhysicalDeviceMemoryProperties2)                                                                            \
    X(vkGetPhysicalDeviceQueueFamilyProperties)                                                                        \
    X(vkCreateDevice)                                                                                                  \
    X(vkGetDeviceProcAddr)

#define VULKAN_DEVICE_FUNCTIONS(X)                                                                                     \
    X(vkDestroyDevice)                                                                                                 \
    X(vkDeviceWaitIdle)                                                                                                \
    X(vkGetDeviceQueue)                                                                                                \
    X(vkQueueSubmit)                                                                                                   \
    X(vkQueueWaitIdle)                                                                                                 \
    X(vkAllocateMemory)                                                                                                \
    X(vkFreeMemory)                                                                                                    \
    X(vkMapMemory)                                                                                                     \
    X(vkCreateBuffer)                                                                                                  \
    X(vkDestroyBuffer)                                                                                                 \
    X(vkGetBufferMemoryRequirements)                                                                                   \
    X(vkBindBufferMemory)                                                                                              \
    X(vkCreateSemaphore)                                                                                               \
    X(vkDestroySemaphore)                                                                                              \
    X(vkWaitSemaphores)                                                                                                \
    X(vkGetSemaphoreCounterValue)                                                                                      \
    X(vkCreateQueryPool)                                                                                               \
    X(vkDestroyQueryPool)                                                                                              \
    X(vkResetQueryPool)                                                                                                \
    X(vkGetQueryPoolResults)                                                                                           \
    X(vkCreateShaderModule)                                                                                            \
    X(vkDestroyShaderModule)                                                                                           \
    X(vkCreatePipelineCache)                                                                                           \
    X(vkDestroyPipelineCache)                                                                                          \
    X(vkGetPipelineCacheData)                                                                                          \
    X(vkCreateComputePipelines)                                                                                        \
    X(vkDestroyPipeline)                                                                                               \
    X(vkCreatePipelineLayout)                                                                                          \
    X(vkDestroyPipelineLayout)                                                                                         \
    X(vkCreateDescriptorSetLayout)                                                                                     \
    X(vkDestroyDescriptorSetLayout)                                                                                    \
    X(vkCreateDescriptorPool)                                                                                          \
    X(vkDestroyDescriptorPool)                                                                                         \
    X(vkAllocateDescriptorSets)                                                                                        \
    X(vkUpdateDescriptorSets)                                                                                          \
    X(vkCreateCommandPool)                                                                                             \
    X(vkDestroyCommandPool)                                                                                            \
    X(vkResetCommandPool)                                                                                              \
    X(vkAllocateCommandBuffers)                                                                                        \
    X(vkBeginCommandBuffer)                                                                                            \
    X(vkEndCommandBuffer)                                                                                              \
    X(vkCmdBindPipeline)                                                                                               \
    X(vkCmdBindDescriptorSets)                                                                                         \
    X(vkCmdPushConstants)                                                                                              \
    X(vkCmdDispatch)                                                                                                   \
    X(vkCmdPipelineBarrier)                                                                                            \
    X(vkCmdCopyBuffer)                                                                                                 \
    X(vkCmdFillBuffer)                                                                                                 \
    X(vkCmdUpdateBuffer)                                                                                               \
    X(vkCmdResetQueryPool)                                                                                             \
    X(vkCmdWriteTimestamp)

#define VULKAN_SLOT(name) PFN_##name name;

typedef struct vulkan_instance_api {
    VkInstance handle;
    VULKAN_INSTANCE_FUNCTIONS(VULKAN_SLOT)
} vulkan_instance_api;

typedef struct vulkan_device_api {
    VULKAN_DEVICE_FUNCTIONS(VULKAN_SLOT)
    PFN_vkCmdPushDescriptorSetKHR vkCmdPushDescriptorSetKHR; /* NULL without the extension */
} vulkan_device_api;

extern vulkan_instance_api vulkan_instance;

/* Opens loader and instance. Where that is not possible: false, and `why` a sentence with the remedy. The caller
 * holds the lock of vulkan_adapters(). */
bool vulkan_instance_open(char *why, size_t why_size);

/* Undoes it; for an instance that shows no device. */
void vulkan_instance_close(void);

/* Fills the table for an open device; TSR_DRIVER_ERROR naming the function that is missing. */
tsr_status vulkan_device_api_load(vulkan_device_api *api, VkDevice device);

/* "VK_ERROR_OUT_OF_DEVICE_MEMORY"; "an unknown VkResult" for a code that no header names. */
const char *vulkan_result_name(VkResult result);

/* Warnings and errors that the validation layer gave so far. It is listened to where VK_INSTANCE_LAYERS names it; each
 * message also goes to the log. */
uint64_t vulkan_validation_messages(void);

#endif
