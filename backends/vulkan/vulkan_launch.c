/* Launching a kernel. */
#include "backends/vulkan/vulkan_entries.h"

#include "base/checked.h"
#include "base/error.h"

#include <string.h>

typedef struct prepared_launch {
    VkDescriptorBufferInfo buffers[HAL_MAX_BINDINGS];
    hazard_access accesses[HAL_MAX_BINDINGS];
    uint32_t push[VULKAN_PUSH_BYTES / 4];
    uint64_t bytes;
} prepared_launch;

/* A descriptor begins at an aligned offset; the kernel adds what is left. */
static tsr_status prepare_binding(const vulkan_device *device, const vulkan_kernel *kernel, uint32_t slot,
                                  const hal_binding *binding, prepared_launch *out)
{
    const vulkan_buffer *b = (const vulkan_buffer *)binding->buffer;
    const size_t rest = binding->offset % device->alignment;
    const size_t range = (rest + binding->length + 3) / 4 * 4; /* the buffer is larger than its size: vulkan_memory.c */
    if (range > device->adapter->properties.limits.maxStorageBufferRange)
        return fail(
            TSR_UNSUPPORTED,
            "vulkan: kernel %s: binding %u spans %zu bytes from an aligned start, and %s (maxStorageBufferRange) "
            "lets a kernel reach %u: split the tensor, or use another device",
            kernel->name, (unsigned)slot, range, device->base.info.name,
            (unsigned)device->adapter->properties.limits.maxStorageBufferRange);
    out->buffers[slot] = (VkDescriptorBufferInfo){
        .buffer = b->handle,
        .offset = binding->offset - rest,
        .range = range,
    };
    out->accesses[slot] = (hazard_access){
        .buffer = b->id,
        .offset = binding->offset,
        .length = binding->length,
        .reads = (kernel->access[slot] & HAL_READ) != 0,
        .writes = (kernel->access[slot] & HAL_WRITE) != 0,
    };
    ((uint8_t *)out->push)[VULKAN_PUSH_BASES + slot] = (uint8_t)(rest / kernel->element_bytes[slot]);
    out->bytes += binding->length;
    return TSR_OK;
}

static tsr_status prepare(const vulkan_device *device, const hal_launch *launch, prepared_launch *out)
{
    const vulkan_kernel *kernel = (const vulkan_kernel *)launch->kernel;
    memset(out->push, 0, sizeof out->push);
    memcpy(out->push, launch->params, launch->params_bytes);
    out->bytes = 0;
    for (uint32_t i = 0; i < kernel->binding_count; i++) {
        const tsr_status status = prepare_binding(device, kernel, i, &launch->bindings[i], out);
        if (status != TSR_OK)
            return status;
    }
    const uint32_t *most = device->adapter->properties.limits.maxComputeWorkGroupCount;
    if (launch->grid[1] > most[1] || launch->grid[2] > most[2])
        return fail(TSR_UNSUPPORTED, "vulkan: kernel %s: a grid of %u x %u x %u; %s takes %u x %u in y and z",
                    kernel->name, (unsigned)launch->grid[0], (unsigned)launch->grid[1], (unsigned)launch->grid[2],
                    device->base.info.name, (unsigned)most[1], (unsigned)most[2]);
    return TSR_OK;
}

static void bind_buffers(vulkan_queue *queue, uint32_t count, const VkDescriptorBufferInfo *buffers)
{
    vulkan_device *device = queue->device;
    vulkan_batch *batch = &queue->batches[queue->current];
    const bool push = device->vk.vkCmdPushDescriptorSetKHR != NULL;
    VkWriteDescriptorSet writes[HAL_MAX_BINDINGS];
    for (uint32_t i = 0; i < count; i++)
        writes[i] = (VkWriteDescriptorSet){
            .sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
            .dstSet = push ? VK_NULL_HANDLE : batch->sets[queue->launches],
            .dstBinding = i,
            .descriptorCount = 1,
            .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
            .pBufferInfo = &buffers[i],
        };
    if (push) {
        device->vk.vkCmdPushDescriptorSetKHR(batch->commands, VK_PIPELINE_BIND_POINT_COMPUTE, device->pipeline_layout,
                                             0, count, writes);
        return;
    }
    device->vk.vkUpdateDescriptorSets(device->handle, count, writes, 0, NULL);
    device->vk.vkCmdBindDescriptorSets(batch->commands, VK_PIPELINE_BIND_POINT_COMPUTE, device->pipeline_layout, 0, 1,
                                       &batch->sets[queue->launches], 0, NULL);
}

/* A grid longer than the driver's limit (often 65535) goes in parts that know where they begin. */
static void dispatch(vulkan_queue *queue, const uint32_t grid[3], uint32_t push[VULKAN_PUSH_BYTES / 4])
{
    const vulkan_device *device = queue->device;
    VkCommandBuffer commands = queue->batches[queue->current].commands;
    const uint32_t most = device->adapter->properties.limits.maxComputeWorkGroupCount[0];
    for (uint32_t first = 0; first < grid[0]; first += most) {
        push[VULKAN_PUSH_FIRST_GROUP / 4] = first;
        device->vk.vkCmdPushConstants(commands, device->pipeline_layout, VK_SHADER_STAGE_COMPUTE_BIT, 0,
                                      VULKAN_PUSH_BYTES, push);
        device->vk.vkCmdDispatch(commands, grid[0] - first < most ? grid[0] - first : most, grid[1], grid[2]);
        if (grid[0] - first <= most)
            break; /* first + most may not fit */
    }
}

static tsr_status record(vulkan_queue *queue, const hal_launch *launch, prepared_launch *prepared)
{
    vulkan_kernel *kernel = (vulkan_kernel *)launch->kernel;
    const tsr_status status = vulkan_batch_prepare(queue, prepared->accesses, kernel->binding_count);
    if (status != TSR_OK)
        return status;
    if (queue->bound_pipeline != kernel->pipeline) {
        queue->device->vk.vkCmdBindPipeline(queue->batches[queue->current].commands, VK_PIPELINE_BIND_POINT_COMPUTE,
                                            kernel->pipeline);
        queue->bound_pipeline = kernel->pipeline;
    }
    if (kernel->binding_count > 0)
        bind_buffers(queue, kernel->binding_count, prepared->buffers);
    dispatch(queue, launch->grid, prepared->push);

    vulkan_use(queue, &kernel->uses);
    for (uint32_t i = 0; i < kernel->binding_count; i++) {
        vulkan_buffer *b = (vulkan_buffer *)launch->bindings[i].buffer;
        vulkan_use(queue, &b->uses);
        queue->writes_host_memory |= b->host && prepared->accesses[i].writes;
    }
    queue->launches++;
    return vulkan_batch_added(queue, prepared->bytes);
}

tsr_status vulkan_launch(hal_queue *base, const hal_launch *launch)
{
    vulkan_queue *queue = (vulkan_queue *)base;
    if (!queue->lane->computes)
        return fail(TSR_UNSUPPORTED, "vulkan: a copy queue runs no kernels");
    prepared_launch prepared;
    tsr_status status = prepare(queue->device, launch, &prepared);
    if (status != TSR_OK)
        return status;
    mutex_lock(&queue->lock);
    status = record(queue, launch, &prepared);
    mutex_unlock(&queue->lock);
    return status;
}
