/* What the layer's two halves share: order_layer.c speaks with the loader, order_record.c knows the objects and
 * order_commands.c the commands. */
#ifndef TESSERA_TESTS_ORDER_RECORD_H
#define TESSERA_TESTS_ORDER_RECORD_H

#define VK_NO_PROTOTYPES
#include <vulkan/vulkan.h>

#include "order_checker.h"
#include "order_handles.h"

/* Those that the layer looks at. Whatever else a program calls goes past it. */
#define ORDER_FUNCTIONS(X)                                                                                             \
    X(vkDestroyDevice)                                                                                                 \
    X(vkDeviceWaitIdle)                                                                                                \
    X(vkQueueSubmit)                                                                                                   \
    X(vkQueueWaitIdle)                                                                                                 \
    X(vkFreeMemory)                                                                                                    \
    X(vkMapMemory)                                                                                                     \
    X(vkCreateBuffer)                                                                                                  \
    X(vkDestroyBuffer)                                                                                                 \
    X(vkBindBufferMemory)                                                                                              \
    X(vkDestroySemaphore)                                                                                              \
    X(vkWaitSemaphores)                                                                                                \
    X(vkGetSemaphoreCounterValue)                                                                                      \
    X(vkCreateShaderModule)                                                                                            \
    X(vkDestroyShaderModule)                                                                                           \
    X(vkCreateComputePipelines)                                                                                        \
    X(vkDestroyPipeline)                                                                                               \
    X(vkUpdateDescriptorSets)                                                                                          \
    X(vkBeginCommandBuffer)                                                                                            \
    X(vkCmdBindPipeline)                                                                                               \
    X(vkCmdBindDescriptorSets)                                                                                         \
    X(vkCmdPushDescriptorSetKHR)                                                                                       \
    X(vkCmdPushConstants)                                                                                              \
    X(vkCmdDispatch)                                                                                                   \
    X(vkCmdPipelineBarrier)                                                                                            \
    X(vkCmdCopyBuffer)                                                                                                 \
    X(vkCmdFillBuffer)                                                                                                 \
    X(vkCmdUpdateBuffer)

typedef struct layer_device {
    const void *key; /* what all dispatchable handles of the device begin with */
    PFN_vkGetDeviceProcAddr get;
    order_checker *checker;
#define ORDER_SLOT(name) PFN_##name name;
    ORDER_FUNCTIONS(ORDER_SLOT)
#undef ORDER_SLOT
} layer_device;

/* order_layer.c: the device of any dispatchable handle. */
layer_device *layer_device_of(const void *handle);

/* order_layer.c: takes the device out of the list. */
void layer_device_forget(layer_device *device);

/* order_record.c: begins what is kept for a device; false without memory. */
bool record_device(layer_device *device);

/* order_record.c: the layer's function of that name, or NULL. */
PFN_vkVoidFunction record_function(const char *name);

/* order_record.c: a lock around all that is kept. */
void record_begin(void);
void record_end(void);

/* With the lock held: a finding; what a handle stands for, or NULL; and from now on. */
void record_find(void *context, const char *finding);
void *record_thing(handle_kind kind, const layer_device *device, uint64_t handle);
void record_note(handle_kind kind, const layer_device *device, uint64_t handle, void *thing);
order_semaphore *record_semaphore(const layer_device *device, VkSemaphore handle);

/* Whether the barrier that comes now is the one to leave out. */
bool record_drops_barrier(void);

#define HANDLE(h) ((uint64_t)(uintptr_t)(h))

/* order_commands.c: frees what a handle of one of its kinds stands for. */
void record_release(handle_kind kind, void *thing);

/* order_commands.c */
VKAPI_ATTR VkResult VKAPI_CALL order_vkQueueSubmit(VkQueue queue, uint32_t count, const VkSubmitInfo *submits,
                                                   VkFence fence);
VKAPI_ATTR void VKAPI_CALL order_vkUpdateDescriptorSets(VkDevice device, uint32_t count,
                                                        const VkWriteDescriptorSet *writes, uint32_t copy_count,
                                                        const VkCopyDescriptorSet *copies);
VKAPI_ATTR VkResult VKAPI_CALL order_vkBeginCommandBuffer(VkCommandBuffer handle, const VkCommandBufferBeginInfo *info);
VKAPI_ATTR void VKAPI_CALL order_vkCmdBindPipeline(VkCommandBuffer handle, VkPipelineBindPoint point,
                                                   VkPipeline pipeline);
VKAPI_ATTR void VKAPI_CALL order_vkCmdBindDescriptorSets(VkCommandBuffer handle, VkPipelineBindPoint point,
                                                         VkPipelineLayout layout, uint32_t first, uint32_t count,
                                                         const VkDescriptorSet *sets, uint32_t offset_count,
                                                         const uint32_t *offsets);
VKAPI_ATTR void VKAPI_CALL order_vkCmdPushDescriptorSetKHR(VkCommandBuffer handle, VkPipelineBindPoint point,
                                                           VkPipelineLayout layout, uint32_t set, uint32_t count,
                                                           const VkWriteDescriptorSet *writes);
VKAPI_ATTR void VKAPI_CALL order_vkCmdPushConstants(VkCommandBuffer handle, VkPipelineLayout layout,
                                                    VkShaderStageFlags stages, uint32_t offset, uint32_t size,
                                                    const void *values);
VKAPI_ATTR void VKAPI_CALL order_vkCmdDispatch(VkCommandBuffer handle, uint32_t x, uint32_t y, uint32_t z);
VKAPI_ATTR void VKAPI_CALL order_vkCmdPipelineBarrier(VkCommandBuffer handle, VkPipelineStageFlags from,
                                                      VkPipelineStageFlags to, VkDependencyFlags flags, uint32_t count,
                                                      const VkMemoryBarrier *barriers, uint32_t buffer_count,
                                                      const VkBufferMemoryBarrier *buffers, uint32_t image_count,
                                                      const VkImageMemoryBarrier *images);
VKAPI_ATTR void VKAPI_CALL order_vkCmdCopyBuffer(VkCommandBuffer handle, VkBuffer source, VkBuffer target,
                                                 uint32_t count, const VkBufferCopy *regions);
VKAPI_ATTR void VKAPI_CALL order_vkCmdFillBuffer(VkCommandBuffer handle, VkBuffer target, VkDeviceSize offset,
                                                 VkDeviceSize size, uint32_t pattern);
VKAPI_ATTR void VKAPI_CALL order_vkCmdUpdateBuffer(VkCommandBuffer handle, VkBuffer target, VkDeviceSize offset,
                                                   VkDeviceSize size, const void *bytes);

#endif
