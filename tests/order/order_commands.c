/* The commands of a program: what each touches, kept until its command buffer is submitted. */
#include "order_kernels.h"
#include "order_record.h"

#include <stdlib.h>
#include <string.h>

/* docs/kernel-dialect.md: what the push constants hold besides parameters. */
enum { PUSH_BYTES = 128, PUSH_BASES = 112, PUSH_FIRST_GROUP = 120, BINDINGS = ORDER_COMMAND_ACCESSES };

typedef struct bound {
    order_buffer *buffer;
    uint64_t offset, range;
} bound;

typedef struct descriptor_set {
    bound at[BINDINGS];
} descriptor_set;

typedef struct command_buffer {
    order_command *list;
    uint32_t count, room;
    const order_kernel *kernel;
    const descriptor_set *set;
    descriptor_set pushed;
    unsigned char push[PUSH_BYTES];
    /* The dispatch before, for a grid that goes in parts. */
    bool just_dispatched;
    uint32_t next_group;
    unsigned char push_before[PUSH_BYTES];
} command_buffer;

void record_release(handle_kind kind, void *thing)
{
    if (kind == HANDLE_COMMANDS)
        free(((command_buffer *)thing)->list);
    if (kind == HANDLE_COMMANDS || kind == HANDLE_SET)
        free(thing);
}

/* ---- bindings ---------------------------------------------------------------------------------------------------- */

static void write_set(const layer_device *d, descriptor_set *set, const VkWriteDescriptorSet *write)
{
    for (uint32_t i = 0; i < write->descriptorCount; i++) {
        const uint32_t slot = write->dstBinding + i;
        if (slot >= BINDINGS || write->descriptorType != VK_DESCRIPTOR_TYPE_STORAGE_BUFFER) {
            record_find(NULL, "a descriptor of a kind that the checker does not know");
            continue;
        }
        const VkDescriptorBufferInfo *info = &write->pBufferInfo[i];
        set->at[slot] = (bound){record_thing(HANDLE_BUFFER, d, HANDLE(info->buffer)), info->offset, info->range};
    }
}

static descriptor_set *set_of(const layer_device *d, VkDescriptorSet handle)
{
    descriptor_set *set = record_thing(HANDLE_SET, d, HANDLE(handle));
    if (set == NULL) {
        set = calloc(1, sizeof *set);
        record_note(HANDLE_SET, d, HANDLE(handle), set);
    }
    return set;
}

VKAPI_ATTR void VKAPI_CALL order_vkUpdateDescriptorSets(VkDevice device, uint32_t count,
                                                        const VkWriteDescriptorSet *writes, uint32_t copy_count,
                                                        const VkCopyDescriptorSet *copies)
{
    layer_device *d = layer_device_of(device);
    record_begin();
    for (uint32_t i = 0; i < count; i++) {
        descriptor_set *set = set_of(d, writes[i].dstSet);
        if (set != NULL)
            write_set(d, set, &writes[i]);
    }
    if (copy_count > 0)
        record_find(NULL, "descriptors are copied, which the checker does not know");
    record_end();
    d->vkUpdateDescriptorSets(device, count, writes, copy_count, copies);
}

/* ---- commands ---------------------------------------------------------------------------------------------------- */

/* What is recorded into; NULL without memory. */
static command_buffer *recorded(const layer_device *d, VkCommandBuffer handle)
{
    command_buffer *c = record_thing(HANDLE_COMMANDS, d, HANDLE(handle));
    if (c == NULL) {
        c = calloc(1, sizeof *c);
        record_note(HANDLE_COMMANDS, d, HANDLE(handle), c);
    }
    return c;
}

static void add(const layer_device *d, VkCommandBuffer handle, const order_command *command)
{
    command_buffer *c = recorded(d, handle);
    if (c == NULL)
        return;
    if (c->count == c->room) {
        const uint32_t room = c->room * 2 + 64;
        order_command *more = realloc(c->list, room * sizeof *more);
        if (more == NULL) {
            record_find(NULL, "the layer has no memory: nothing is proved");
            return;
        }
        c->list = more;
        c->room = room;
    }
    c->list[c->count++] = *command;
    c->just_dispatched = false;
}

VKAPI_ATTR VkResult VKAPI_CALL order_vkBeginCommandBuffer(VkCommandBuffer handle, const VkCommandBufferBeginInfo *info)
{
    layer_device *d = layer_device_of(handle);
    record_begin();
    command_buffer *c = recorded(d, handle);
    if (c != NULL)
        *c = (command_buffer){.list = c->list, .room = c->room};
    record_end();
    return d->vkBeginCommandBuffer(handle, info);
}

VKAPI_ATTR void VKAPI_CALL order_vkCmdBindPipeline(VkCommandBuffer handle, VkPipelineBindPoint point,
                                                   VkPipeline pipeline)
{
    layer_device *d = layer_device_of(handle);
    record_begin();
    command_buffer *c = recorded(d, handle);
    if (c != NULL) {
        c->kernel = record_thing(HANDLE_PIPELINE, d, HANDLE(pipeline));
        c->just_dispatched = false;
    }
    record_end();
    d->vkCmdBindPipeline(handle, point, pipeline);
}

VKAPI_ATTR void VKAPI_CALL order_vkCmdBindDescriptorSets(VkCommandBuffer handle, VkPipelineBindPoint point,
                                                         VkPipelineLayout layout, uint32_t first, uint32_t count,
                                                         const VkDescriptorSet *sets, uint32_t offset_count,
                                                         const uint32_t *offsets)
{
    layer_device *d = layer_device_of(handle);
    record_begin();
    command_buffer *c = recorded(d, handle);
    if (first != 0 || count != 1 || offset_count != 0)
        record_find(NULL, "descriptor sets are bound in a way that the checker does not know");
    else if (c != NULL)
        c->set = set_of(d, sets[0]);
    if (c != NULL)
        c->just_dispatched = false;
    record_end();
    d->vkCmdBindDescriptorSets(handle, point, layout, first, count, sets, offset_count, offsets);
}

VKAPI_ATTR void VKAPI_CALL order_vkCmdPushDescriptorSetKHR(VkCommandBuffer handle, VkPipelineBindPoint point,
                                                           VkPipelineLayout layout, uint32_t set, uint32_t count,
                                                           const VkWriteDescriptorSet *writes)
{
    layer_device *d = layer_device_of(handle);
    record_begin();
    command_buffer *c = recorded(d, handle);
    for (uint32_t i = 0; c != NULL && i < count; i++)
        write_set(d, &c->pushed, &writes[i]);
    if (c != NULL) {
        c->set = &c->pushed;
        c->just_dispatched = false;
    }
    record_end();
    d->vkCmdPushDescriptorSetKHR(handle, point, layout, set, count, writes);
}

VKAPI_ATTR void VKAPI_CALL order_vkCmdPushConstants(VkCommandBuffer handle, VkPipelineLayout layout,
                                                    VkShaderStageFlags stages, uint32_t offset, uint32_t size,
                                                    const void *values)
{
    layer_device *d = layer_device_of(handle);
    record_begin();
    command_buffer *c = recorded(d, handle);
    if (c != NULL && offset <= PUSH_BYTES && size <= PUSH_BYTES - offset)
        memcpy(c->push + offset, values, size);
    else
        record_find(NULL, "push constants beyond the block that the checker knows");
    record_end();
    d->vkCmdPushConstants(handle, layout, stages, offset, size, values);
}

static bool all_but_first_group_equal(const unsigned char *a, const unsigned char *b)
{
    return memcmp(a, b, PUSH_FIRST_GROUP) == 0 &&
           memcmp(a + PUSH_FIRST_GROUP + 4, b + PUSH_FIRST_GROUP + 4, PUSH_BYTES - PUSH_FIRST_GROUP - 4) == 0;
}

/* A grid beyond the driver's limit goes in parts, one launch to the program: its work-groups are independent by contract. */
static bool continues(command_buffer *c, uint32_t groups)
{
    uint32_t first;
    memcpy(&first, c->push + PUSH_FIRST_GROUP, 4);
    const bool same = c->just_dispatched && first == c->next_group && first != 0 &&
                      all_but_first_group_equal(c->push, c->push_before);
    c->next_group = first + groups;
    memcpy(c->push_before, c->push, PUSH_BYTES);
    return same;
}

/* The bytes of a binding. Descriptors begin at an aligned place, and what is left is in the push constants; they end at a multiple
 * of 4, so that the end of a range of smaller elements is taken as low as it can be. */
static order_access binding_of(const command_buffer *c, uint32_t slot)
{
    const bound *b = &c->set->at[slot];
    const uint32_t element = c->kernel->element_bytes[slot];
    order_access a = {.buffer = b->buffer,
                      .begin = b->offset + (uint64_t)c->push[PUSH_BASES + slot] * element,
                      .end = b->offset + b->range,
                      .reads = (c->kernel->access[slot] & 1) != 0,
                      .writes = (c->kernel->access[slot] & 2) != 0};
    if (element < 4)
        a.end = a.end >= a.begin + 4 ? a.end - (4 - element) : a.begin + element;
    return a;
}

VKAPI_ATTR void VKAPI_CALL order_vkCmdDispatch(VkCommandBuffer handle, uint32_t x, uint32_t y, uint32_t z)
{
    layer_device *d = layer_device_of(handle);
    record_begin();
    command_buffer *c = recorded(d, handle);
    if (c == NULL || c->kernel == NULL || (c->set == NULL && c->kernel->binding_count > 0)) {
        record_find(
            NULL,
            "a dispatch of a kernel that is not in the catalogue, or without bindings: what it touches is unknown");
    } else if (!continues(c, x)) {
        order_command command = {
            .stage = ORDER_COMPUTE, .name = c->kernel->key, .access_count = c->kernel->binding_count};
        for (uint32_t i = 0; i < c->kernel->binding_count; i++) {
            command.accesses[i] = binding_of(c, i);
            if (command.accesses[i].buffer == NULL)
                record_find(NULL, "a dispatch with a binding that is not there");
        }
        add(d, handle, &command);
    }
    if (c != NULL)
        c->just_dispatched = true;
    record_end();
    d->vkCmdDispatch(handle, x, y, z);
}

static order_access range_of(const layer_device *d, VkBuffer buffer, uint64_t offset, uint64_t size, bool writes)
{
    return (order_access){.buffer = record_thing(HANDLE_BUFFER, d, HANDLE(buffer)),
                          .begin = offset,
                          .end = offset + size,
                          .reads = !writes,
                          .writes = writes};
}

static void add_memory_command(const layer_device *d, VkCommandBuffer handle, const char *name,
                               const order_access *source, const order_access *target)
{
    order_command command = {.stage = ORDER_TRANSFER, .name = name};
    if (source != NULL)
        command.accesses[command.access_count++] = *source;
    command.accesses[command.access_count++] = *target;
    for (uint32_t i = 0; i < command.access_count; i++)
        if (command.accesses[i].buffer == NULL)
            record_find(NULL, "a command on a buffer that is not there");
    add(d, handle, &command);
}

VKAPI_ATTR void VKAPI_CALL order_vkCmdCopyBuffer(VkCommandBuffer handle, VkBuffer source, VkBuffer target,
                                                 uint32_t count, const VkBufferCopy *regions)
{
    layer_device *d = layer_device_of(handle);
    record_begin();
    for (uint32_t i = 0; i < count; i++) {
        const order_access from = range_of(d, source, regions[i].srcOffset, regions[i].size, false);
        const order_access to = range_of(d, target, regions[i].dstOffset, regions[i].size, true);
        add_memory_command(d, handle, "copy", &from, &to);
    }
    record_end();
    d->vkCmdCopyBuffer(handle, source, target, count, regions);
}

VKAPI_ATTR void VKAPI_CALL order_vkCmdFillBuffer(VkCommandBuffer handle, VkBuffer target, VkDeviceSize offset,
                                                 VkDeviceSize size, uint32_t pattern)
{
    layer_device *d = layer_device_of(handle);
    record_begin();
    const order_access to = range_of(d, target, offset, size, true);
    add_memory_command(d, handle, "fill", NULL, &to);
    record_end();
    d->vkCmdFillBuffer(handle, target, offset, size, pattern);
}

VKAPI_ATTR void VKAPI_CALL order_vkCmdUpdateBuffer(VkCommandBuffer handle, VkBuffer target, VkDeviceSize offset,
                                                   VkDeviceSize size, const void *bytes)
{
    layer_device *d = layer_device_of(handle);
    record_begin();
    const order_access to = range_of(d, target, offset, size, true);
    add_memory_command(d, handle, "update", NULL, &to);
    record_end();
    d->vkCmdUpdateBuffer(handle, target, offset, size, bytes);
}

/* ---- order ------------------------------------------------------------------------------------------------------- */

/* Top of pipe after a barrier means all stages, and before it none; bottom of pipe the other way round. */
static uint32_t stages_of(VkPipelineStageFlags flags, VkPipelineStageFlags all)
{
    uint32_t stages = 0;
    if (flags & (VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_ALL_COMMANDS_BIT | all))
        stages |= 1u << ORDER_COMPUTE;
    if (flags & (VK_PIPELINE_STAGE_TRANSFER_BIT | VK_PIPELINE_STAGE_ALL_COMMANDS_BIT | all))
        stages |= 1u << ORDER_TRANSFER;
    if (flags & VK_PIPELINE_STAGE_HOST_BIT)
        stages |= 1u << ORDER_HOST;
    return stages;
}

static uint32_t reads_of(VkAccessFlags flags)
{
    return (flags & (VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_MEMORY_READ_BIT) ? 1u << ORDER_COMPUTE : 0) |
           (flags & (VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_MEMORY_READ_BIT) ? 1u << ORDER_TRANSFER : 0) |
           (flags & (VK_ACCESS_HOST_READ_BIT | VK_ACCESS_MEMORY_READ_BIT) ? 1u << ORDER_HOST : 0);
}

static uint32_t writes_of(VkAccessFlags flags)
{
    return (flags & (VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_MEMORY_WRITE_BIT) ? 1u << ORDER_COMPUTE : 0) |
           (flags & (VK_ACCESS_TRANSFER_WRITE_BIT | VK_ACCESS_MEMORY_WRITE_BIT) ? 1u << ORDER_TRANSFER : 0);
}

VKAPI_ATTR void VKAPI_CALL order_vkCmdPipelineBarrier(VkCommandBuffer handle, VkPipelineStageFlags from,
                                                      VkPipelineStageFlags to, VkDependencyFlags flags, uint32_t count,
                                                      const VkMemoryBarrier *barriers, uint32_t buffer_count,
                                                      const VkBufferMemoryBarrier *buffers, uint32_t image_count,
                                                      const VkImageMemoryBarrier *images)
{
    layer_device *d = layer_device_of(handle);
    record_begin();
    const bool drops = record_drops_barrier();
    order_command command = {
        .is_barrier = true,
        .barrier = {.from = stages_of(from, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT),
                    .to = stages_of(to, VK_PIPELINE_STAGE_TOP_OF_PIPE_BIT)},
    };
    if (count > 1 || buffer_count > 0 || image_count > 0)
        record_find(NULL, "a barrier of a kind that the checker does not know");
    if (count == 1) {
        command.barrier.from_writes = writes_of(barriers[0].srcAccessMask);
        command.barrier.to_reads = reads_of(barriers[0].dstAccessMask);
        command.barrier.to_writes = writes_of(barriers[0].dstAccessMask);
    }
    if (!drops)
        add(d, handle, &command);
    record_end();
    if (!drops)
        d->vkCmdPipelineBarrier(handle, from, to, flags, count, barriers, buffer_count, buffers, image_count, images);
}

static const VkTimelineSemaphoreSubmitInfo *timeline_of(const VkSubmitInfo *submit)
{
    const VkBaseInStructure *next = submit->pNext;
    while (next != NULL && next->sType != VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO)
        next = next->pNext;
    return (const VkTimelineSemaphoreSubmitInfo *)next;
}

static void record_submit(const layer_device *d, VkQueue queue, const VkSubmitInfo *submit)
{
    enum { WAITS = 64 };
    const VkTimelineSemaphoreSubmitInfo *values = timeline_of(submit);
    const bool waits_known = submit->waitSemaphoreCount == 0 ||
                             (values != NULL && values->waitSemaphoreValueCount == submit->waitSemaphoreCount);
    if (values == NULL || !waits_known || submit->waitSemaphoreCount > WAITS || submit->commandBufferCount != 1 ||
        submit->signalSemaphoreCount != 1 || values->signalSemaphoreValueCount != 1) {
        record_find(NULL,
                    "a batch that is not one command buffer that signals one timeline: the checker does not know such");
        return;
    }
    order_wait waits[WAITS];
    for (uint32_t i = 0; i < submit->waitSemaphoreCount; i++)
        waits[i] = (order_wait){.semaphore = record_semaphore(d, submit->pWaitSemaphores[i]),
                                .value = values->pWaitSemaphoreValues[i],
                                .stages = stages_of(submit->pWaitDstStageMask[i], VK_PIPELINE_STAGE_TOP_OF_PIPE_BIT)};
    const command_buffer *c = recorded(d, submit->pCommandBuffers[0]);
    order_semaphore *signalled = record_semaphore(d, submit->pSignalSemaphores[0]);
    if (c != NULL && signalled != NULL)
        order_submit(d->checker, HANDLE(queue), waits, submit->waitSemaphoreCount, c->list, c->count, signalled,
                     values->pSignalSemaphoreValues[0]);
}

/* Before the driver gets it: from then on another thread may see the batch end. */
VKAPI_ATTR VkResult VKAPI_CALL order_vkQueueSubmit(VkQueue queue, uint32_t count, const VkSubmitInfo *submits,
                                                   VkFence fence)
{
    layer_device *d = layer_device_of(queue);
    record_begin();
    for (uint32_t i = 0; i < count; i++)
        record_submit(d, queue, &submits[i]);
    record_end();
    return d->vkQueueSubmit(queue, count, submits, fence);
}
