/* Batches: commands are recorded into one of a ring of command buffers and submitted together, since a submit costs as
 * much as many launches. Everything that a batch needs is made with the queue; nothing is asked of the driver later. */
#include "backends/vulkan/vulkan_backend.h"

#include "base/error.h"

/* Bytes touched after which a batch is worth a submit of its own: about 0.1 ms of a GPU's memory, 10 ms of a CPU's. */
#define BATCH_BYTES ((uint64_t)64 << 20)

/* A device that has nothing to do gets a batch of this many commands already. */
#define BATCH_COMMANDS_IDLE 16

/* ---- making and destroying --------------------------------------------------------------------------------------- */

static VkResult create_sets(vulkan_device *device, vulkan_batch *batch)
{
    const VkDescriptorPoolCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
        .maxSets = VULKAN_BATCH_COMMANDS,
        .poolSizeCount = 1,
        .pPoolSizes =
            &(VkDescriptorPoolSize){
                .type = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                .descriptorCount = VULKAN_BATCH_COMMANDS * device->set_bindings,
            },
    };
    vulkan_count_object();
    VkResult result = device->vk.vkCreateDescriptorPool(device->handle, &info, NULL, &batch->descriptors);
    if (result != VK_SUCCESS)
        return result;

    VkDescriptorSetLayout layouts[VULKAN_BATCH_COMMANDS];
    for (uint32_t i = 0; i < VULKAN_BATCH_COMMANDS; i++)
        layouts[i] = device->set_layout;
    vulkan_count_object();
    return device->vk.vkAllocateDescriptorSets(device->handle,
                                               &(VkDescriptorSetAllocateInfo){
                                                   .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                                   .descriptorPool = batch->descriptors,
                                                   .descriptorSetCount = VULKAN_BATCH_COMMANDS,
                                                   .pSetLayouts = layouts,
                                               },
                                               batch->sets);
}

static VkResult create_batch(vulkan_queue *queue, vulkan_batch *batch)
{
    vulkan_device *device = queue->device;
    const VkCommandPoolCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
        .flags = VK_COMMAND_POOL_CREATE_TRANSIENT_BIT,
        .queueFamilyIndex = queue->lane->family,
    };
    vulkan_count_object();
    VkResult result = device->vk.vkCreateCommandPool(device->handle, &info, NULL, &batch->pool);
    if (result == VK_SUCCESS) {
        vulkan_count_object();
        result = device->vk.vkAllocateCommandBuffers(device->handle,
                                                     &(VkCommandBufferAllocateInfo){
                                                         .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                                         .commandPool = batch->pool,
                                                         .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                                         .commandBufferCount = 1,
                                                     },
                                                     &batch->commands);
    }
    if (result == VK_SUCCESS && device->vk.vkCmdPushDescriptorSetKHR == NULL && queue->lane->computes)
        result = create_sets(device, batch);
    return result;
}

tsr_status vulkan_batches_create(vulkan_queue *queue)
{
    for (uint32_t i = 0; i < VULKAN_BATCHES; i++) {
        const VkResult result = create_batch(queue, &queue->batches[i]);
        if (result != VK_SUCCESS)
            return vulkan_fail(queue->device, result, "making a queue's command buffers");
    }
    return TSR_OK;
}

void vulkan_batches_destroy(vulkan_queue *queue)
{
    vulkan_device *device = queue->device;
    for (uint32_t i = 0; i < VULKAN_BATCHES; i++) {
        device->vk.vkDestroyDescriptorPool(device->handle, queue->batches[i].descriptors, NULL);
        device->vk.vkDestroyCommandPool(device->handle, queue->batches[i].pool, NULL);
    }
}

/* ---- recording --------------------------------------------------------------------------------------------------- */

uint64_t vulkan_batch_value(const vulkan_queue *queue)
{
    return atomic_load_explicit(&queue->timeline->submitted, memory_order_relaxed) + 1;
}

void vulkan_batch_reclaim(vulkan_queue *queue)
{
    while (queue->in_flight > 0) {
        const vulkan_batch *batch = &queue->batches[queue->oldest];
        if (!vulkan_timeline_reached(queue->device, queue->timeline, batch->value))
            return;
        if (batch->staging_generation == queue->staging.generation)
            queue->staging.tail = batch->staging_end;
        queue->oldest = (queue->oldest + 1) % VULKAN_BATCHES;
        queue->in_flight--;
    }
}

tsr_status vulkan_batch_begin(vulkan_queue *queue)
{
    vulkan_device *device = queue->device;
    tsr_status status = vulkan_check_lost(device);
    if (status != TSR_OK || queue->recording)
        return status;
    if (queue->in_flight == VULKAN_BATCHES) {
        status = vulkan_timeline_wait(device, queue->timeline, queue->batches[queue->oldest].value);
        if (status != TSR_OK)
            return status;
        vulkan_batch_reclaim(queue);
    }

    vulkan_batch *batch = &queue->batches[queue->current];
    VkResult result = device->vk.vkResetCommandPool(device->handle, batch->pool, 0);
    if (result == VK_SUCCESS)
        result =
            device->vk.vkBeginCommandBuffer(batch->commands, &(VkCommandBufferBeginInfo){
                                                                 .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                                                 .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT,
                                                             });
    if (result != VK_SUCCESS)
        return vulkan_fail(device, result, "beginning a command buffer");
    queue->recording = true;
    queue->commands = queue->launches = 0;
    queue->bytes = 0;
    queue->writes_host_memory = false;
    queue->bound_pipeline = VK_NULL_HANDLE;
    return TSR_OK;
}

static void barrier(vulkan_queue *queue, VkPipelineStageFlags to_stages, VkAccessFlags to_accesses)
{
    const VkMemoryBarrier all = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        .srcAccessMask = queue->lane->accesses & (VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT),
        .dstAccessMask = to_accesses,
    };
    queue->device->vk.vkCmdPipelineBarrier(queue->batches[queue->current].commands, queue->lane->stages, to_stages, 0,
                                           1, &all, 0, NULL, 0, NULL);
}

tsr_status vulkan_batch_prepare(vulkan_queue *queue, const hazard_access *accesses, size_t count)
{
    const tsr_status status = vulkan_batch_begin(queue);
    if (status != TSR_OK)
        return status;
    /* Barriers reach back over earlier submits of the queue, so the tracker does not end with a batch. */
    if (hazard_note(&queue->hazards, accesses, count)) {
        barrier(queue, queue->lane->stages, queue->lane->accesses);
        queue->barriers++;
    }
    return TSR_OK;
}

tsr_status vulkan_batch_added(vulkan_queue *queue, uint64_t bytes)
{
    queue->commands++;
    queue->bytes += bytes;
    bool enough = queue->commands >= VULKAN_BATCH_COMMANDS || queue->bytes >= BATCH_BYTES;
    if (!enough && queue->commands == BATCH_COMMANDS_IDLE)
        enough = vulkan_timeline_reached(queue->device, queue->timeline, atomic_load(&queue->timeline->submitted));
    return enough ? vulkan_batch_submit(queue) : TSR_OK;
}

/* ---- submitting -------------------------------------------------------------------------------------------------- */

/* The host may have waited for another queue, and then its results are used here without an event. That orders the commands, but only
 * a wait of the device shows them each other's bytes; it is over at once. */
static void wait_for_what_is_done(vulkan_queue *queue)
{
    for (uint32_t i = 0; i < VULKAN_MAX_QUEUES; i++) {
        vulkan_timeline *other = &queue->device->timelines[i];
        const uint64_t done = other != queue->timeline ? atomic_load(&other->completed) : 0;
        if (done > queue->seen[i] && done > queue->waits[i])
            queue->waits[i] = done;
    }
}

static VkResult submit(vulkan_queue *queue, const vulkan_batch *batch)
{
    vulkan_device *device = queue->device;
    VkSemaphore semaphores[VULKAN_MAX_QUEUES];
    uint64_t values[VULKAN_MAX_QUEUES];
    VkPipelineStageFlags stages[VULKAN_MAX_QUEUES];
    uint32_t waits = 0;
    for (uint32_t i = 0; i < VULKAN_MAX_QUEUES; i++) {
        if (queue->waits[i] == 0)
            continue;
        semaphores[waits] = device->timelines[i].semaphore;
        values[waits] = queue->waits[i];
        stages[waits] = VK_PIPELINE_STAGE_ALL_COMMANDS_BIT;
        waits++;
    }
    const VkTimelineSemaphoreSubmitInfo timeline = {
        .sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
        .waitSemaphoreValueCount = waits,
        .pWaitSemaphoreValues = values,
        .signalSemaphoreValueCount = 1,
        .pSignalSemaphoreValues = &batch->value,
    };
    const VkSubmitInfo info = {
        .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
        .pNext = &timeline,
        .waitSemaphoreCount = waits,
        .pWaitSemaphores = semaphores,
        .pWaitDstStageMask = stages,
        .commandBufferCount = 1,
        .pCommandBuffers = &batch->commands,
        .signalSemaphoreCount = 1,
        .pSignalSemaphores = &queue->timeline->semaphore,
    };
    mutex_lock(&queue->lane->lock);
    const VkResult result = device->vk.vkQueueSubmit(queue->lane->handle, 1, &info, VK_NULL_HANDLE);
    mutex_unlock(&queue->lane->lock);
    return result;
}

tsr_status vulkan_batch_submit(vulkan_queue *queue)
{
    vulkan_device *device = queue->device;
    const tsr_status status = vulkan_check_lost(device);
    if (status != TSR_OK || !queue->recording)
        return status;

    vulkan_batch *batch = &queue->batches[queue->current];
    if (queue->writes_host_memory) /* a semaphore alone does not show the bytes to the host */
        barrier(queue, VK_PIPELINE_STAGE_HOST_BIT, VK_ACCESS_HOST_READ_BIT);
    batch->value = vulkan_batch_value(queue);
    batch->staging_end = queue->staging.head;
    batch->staging_generation = queue->staging.generation;
    queue->recording = false;
    wait_for_what_is_done(queue);

    VkResult result = device->vk.vkEndCommandBuffer(batch->commands);
    if (result == VK_SUCCESS)
        result = submit(queue, batch);
    if (result != VK_SUCCESS) {
        /* What was recorded is gone, and nobody could tell which of it: the device's contents cannot be relied on. */
        atomic_store(&device->lost, true);
        return fail(TSR_DEVICE_LOST, "vulkan: %s is lost: submitting %u commands failed with %s",
                    device->base.info.name, (unsigned)queue->commands, vulkan_result_name(result));
    }
    for (uint32_t i = 0; i < VULKAN_MAX_QUEUES; i++) {
        if (queue->seen[i] < queue->waits[i])
            queue->seen[i] = queue->waits[i];
        queue->waits[i] = 0;
    }
    atomic_store(&queue->timeline->submitted, batch->value);
    queue->current = (queue->current + 1) % VULKAN_BATCHES;
    queue->in_flight++;
    queue->submits++;
    vulkan_batch_reclaim(queue);
    if (atomic_load_explicit(&device->corpse_count, memory_order_relaxed) > 0)
        vulkan_bury(device, false);
    return TSR_OK;
}
