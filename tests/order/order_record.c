/* The objects of a program: buffers and their memory, semaphores, kernels; and what is told in the end. */
#include "order_record.h"
#include "order_handles.h"
#include "order_kernels.h"
#include "order_layer.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

enum { LINES = 20 }; /* of findings that a process writes */

typedef struct memory {
    order_buffer *buffer;
    const void *mapped;
} memory;

static struct {
    pthread_mutex_t lock;
    handle_map handles;
    order_report total;
    uint64_t drop, seen; /* barriers */
    bool governed;       /* a program counts: it is told, and nobody else */
} state = {.lock = PTHREAD_MUTEX_INITIALIZER};

void record_begin(void)
{
    pthread_mutex_lock(&state.lock);
}

void record_end(void)
{
    pthread_mutex_unlock(&state.lock);
}

void *record_thing(handle_kind kind, const layer_device *d, uint64_t handle)
{
    return handle_get(&state.handles, kind, d, handle);
}

bool record_drops_barrier(void)
{
    const bool drops = ++state.seen == state.drop;
    state.total.dropped |= drops;
    return drops;
}

/* ---- findings ---------------------------------------------------------------------------------------------------- */

void record_find(void *context, const char *finding)
{
    (void)context;
    if (state.total.findings++ == 0)
        snprintf(state.total.first, sizeof state.total.first, "%s", finding);
    if (!state.governed && state.total.findings <= LINES)
        fprintf(stderr, "order: %s\n", finding);
}

void record_note(handle_kind kind, const layer_device *d, uint64_t handle, void *thing)
{
    if (thing == NULL || !handle_put(&state.handles, kind, d, handle, thing))
        record_find(NULL, "the layer has no memory: nothing is proved");
}

__attribute__((constructor)) static void read_environment(void)
{
    const char *drop = getenv("TESSERA_ORDER_DROP");
    if (drop != NULL)
        state.drop = strtoull(drop, NULL, 10);
}

__attribute__((destructor)) static void tell(void)
{
    const char *path = getenv("TESSERA_ORDER_LOG");
    FILE *file = path != NULL && state.total.devices > 0 ? fopen(path, "a") : NULL;
    if (file != NULL) {
        fprintf(file, "devices %llu batches %llu commands %llu barriers %llu waits %llu findings %llu\n",
                (unsigned long long)state.total.devices, (unsigned long long)state.total.batches,
                (unsigned long long)state.total.commands, (unsigned long long)state.total.barriers,
                (unsigned long long)state.total.waits, (unsigned long long)state.total.findings);
        fclose(file);
    }
    if (state.governed || state.total.findings == 0)
        return;
    fprintf(stderr, "order: %llu findings\n", (unsigned long long)state.total.findings);
    fflush(NULL);
    _exit(ORDER_EXIT_STATUS);
}

EXPORT order_begin_fn order_begin;
EXPORT order_end_fn order_end;
EXPORT order_knows_fn order_knows;

void order_begin(uint64_t drop)
{
    record_begin();
    state.total = (order_report){0};
    state.seen = 0;
    state.drop = drop;
    state.governed = true;
    record_end();
}

void order_end(order_report *report)
{
    record_begin();
    *report = state.total;
    record_end();
}

/* ---- devices ----------------------------------------------------------------------------------------------------- */

bool record_device(layer_device *d)
{
    record_begin();
    d->checker = order_checker_create(record_find, NULL);
    state.total.devices++;
    record_end();
    return d->checker != NULL;
}

/* Kernels are rows of a table, the others the checker's own. */
static void release(handle_kind kind, void *thing)
{
    if (kind == HANDLE_MEMORY)
        free(thing);
    else
        record_release(kind, thing);
}

static VKAPI_ATTR void VKAPI_CALL order_vkDestroyDevice(VkDevice device, const VkAllocationCallbacks *allocator)
{
    if (device == NULL)
        return;
    layer_device *d = layer_device_of(device);
    const PFN_vkDestroyDevice next = d->vkDestroyDevice;
    record_begin();
    const order_counts counts = order_checker_counts(d->checker);
    state.total.batches += counts.batches;
    state.total.commands += counts.commands;
    state.total.barriers += counts.barriers;
    state.total.waits += counts.waits;
    handle_clear(&state.handles, d, release);
    order_checker_destroy(d->checker);
    record_end();
    layer_device_forget(d);
    free(d);
    next(device, allocator);
}

static VKAPI_ATTR VkResult VKAPI_CALL order_vkDeviceWaitIdle(VkDevice device)
{
    layer_device *d = layer_device_of(device);
    const VkResult result = d->vkDeviceWaitIdle(device);
    record_begin();
    if (result == VK_SUCCESS)
        order_host_saw_all(d->checker);
    record_end();
    return result;
}

static VKAPI_ATTR VkResult VKAPI_CALL order_vkQueueWaitIdle(VkQueue queue)
{
    layer_device *d = layer_device_of(queue);
    const VkResult result = d->vkQueueWaitIdle(queue);
    record_begin();
    if (result == VK_SUCCESS)
        order_host_saw_queue(d->checker, HANDLE(queue));
    record_end();
    return result;
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

/* The backend gives each buffer memory of its own. */
static memory *memory_of(const layer_device *d, VkDeviceMemory handle)
{
    memory *m = record_thing(HANDLE_MEMORY, d, HANDLE(handle));
    if (m == NULL) {
        m = calloc(1, sizeof *m);
        record_note(HANDLE_MEMORY, d, HANDLE(handle), m);
    }
    return m;
}

static VKAPI_ATTR void VKAPI_CALL order_vkFreeMemory(VkDevice device, VkDeviceMemory handle,
                                                     const VkAllocationCallbacks *allocator)
{
    layer_device *d = layer_device_of(device);
    record_begin();
    free(handle_take(&state.handles, HANDLE_MEMORY, d, HANDLE(handle)));
    record_end();
    d->vkFreeMemory(device, handle, allocator);
}

static void show(const memory *m)
{
    if (m->buffer != NULL && m->mapped != NULL)
        order_buffer_map(m->buffer, m->mapped);
}

static VKAPI_ATTR VkResult VKAPI_CALL order_vkMapMemory(VkDevice device, VkDeviceMemory handle, VkDeviceSize offset,
                                                        VkDeviceSize size, VkMemoryMapFlags flags, void **data)
{
    layer_device *d = layer_device_of(device);
    const VkResult result = d->vkMapMemory(device, handle, offset, size, flags, data);
    if (result != VK_SUCCESS)
        return result;
    record_begin();
    memory *m = memory_of(d, handle);
    if (m != NULL) {
        m->mapped = (const char *)*data - offset;
        show(m);
    }
    record_end();
    return result;
}

static VKAPI_ATTR VkResult VKAPI_CALL order_vkCreateBuffer(VkDevice device, const VkBufferCreateInfo *info,
                                                           const VkAllocationCallbacks *allocator, VkBuffer *buffer)
{
    layer_device *d = layer_device_of(device);
    const VkResult result = d->vkCreateBuffer(device, info, allocator, buffer);
    if (result != VK_SUCCESS)
        return result;
    record_begin();
    record_note(HANDLE_BUFFER, d, HANDLE(*buffer), order_buffer_create(d->checker, info->size));
    record_end();
    return result;
}

static VKAPI_ATTR void VKAPI_CALL order_vkDestroyBuffer(VkDevice device, VkBuffer buffer,
                                                        const VkAllocationCallbacks *allocator)
{
    layer_device *d = layer_device_of(device);
    record_begin();
    order_buffer *b = handle_take(&state.handles, HANDLE_BUFFER, d, HANDLE(buffer));
    if (b != NULL)
        order_buffer_destroy(d->checker, b);
    record_end();
    d->vkDestroyBuffer(device, buffer, allocator);
}

static VKAPI_ATTR VkResult VKAPI_CALL order_vkBindBufferMemory(VkDevice device, VkBuffer buffer, VkDeviceMemory handle,
                                                               VkDeviceSize offset)
{
    layer_device *d = layer_device_of(device);
    const VkResult result = d->vkBindBufferMemory(device, buffer, handle, offset);
    if (result != VK_SUCCESS)
        return result;
    record_begin();
    memory *m = memory_of(d, handle);
    if (m != NULL && (m->buffer != NULL || offset != 0))
        record_find(NULL, "two buffers share memory, or one begins within it: the checker does not know such");
    if (m != NULL) {
        m->buffer = record_thing(HANDLE_BUFFER, d, HANDLE(buffer));
        show(m);
    }
    record_end();
    return result;
}

/* ---- semaphores -------------------------------------------------------------------------------------------------- */

order_semaphore *record_semaphore(const layer_device *d, VkSemaphore handle)
{
    order_semaphore *s = record_thing(HANDLE_SEMAPHORE, d, HANDLE(handle));
    if (s == NULL) {
        s = order_semaphore_create(d->checker);
        record_note(HANDLE_SEMAPHORE, d, HANDLE(handle), s);
    }
    return s;
}

static void host_saw(layer_device *d, VkSemaphore handle, uint64_t value)
{
    order_semaphore *s = record_semaphore(d, handle);
    if (s != NULL)
        order_host_saw(d->checker, s, value);
}

static VKAPI_ATTR void VKAPI_CALL order_vkDestroySemaphore(VkDevice device, VkSemaphore handle,
                                                           const VkAllocationCallbacks *allocator)
{
    layer_device *d = layer_device_of(device);
    record_begin();
    handle_take(&state.handles, HANDLE_SEMAPHORE, d, HANDLE(handle));
    record_end();
    d->vkDestroySemaphore(device, handle, allocator);
}

static VKAPI_ATTR VkResult VKAPI_CALL order_vkWaitSemaphores(VkDevice device, const VkSemaphoreWaitInfo *info,
                                                             uint64_t timeout)
{
    layer_device *d = layer_device_of(device);
    const VkResult result = d->vkWaitSemaphores(device, info, timeout);
    record_begin();
    const bool all = (info->flags & VK_SEMAPHORE_WAIT_ANY_BIT) == 0 || info->semaphoreCount == 1;
    for (uint32_t i = 0; result == VK_SUCCESS && all && i < info->semaphoreCount; i++)
        host_saw(d, info->pSemaphores[i], info->pValues[i]);
    record_end();
    return result;
}

static VKAPI_ATTR VkResult VKAPI_CALL order_vkGetSemaphoreCounterValue(VkDevice device, VkSemaphore handle,
                                                                       uint64_t *value)
{
    layer_device *d = layer_device_of(device);
    const VkResult result = d->vkGetSemaphoreCounterValue(device, handle, value);
    record_begin();
    if (result == VK_SUCCESS)
        host_saw(d, handle, *value);
    record_end();
    return result;
}

/* ---- kernels ----------------------------------------------------------------------------------------------------- */

static VKAPI_ATTR VkResult VKAPI_CALL order_vkCreateShaderModule(VkDevice device, const VkShaderModuleCreateInfo *info,
                                                                 const VkAllocationCallbacks *allocator,
                                                                 VkShaderModule *module)
{
    layer_device *d = layer_device_of(device);
    const VkResult result = d->vkCreateShaderModule(device, info, allocator, module);
    if (result != VK_SUCCESS)
        return result;
    record_begin();
    const order_kernel *kernel = order_kernel_find(info->pCode, info->codeSize);
    if (kernel != NULL)
        record_note(HANDLE_MODULE, d, HANDLE(*module), (void *)(uintptr_t)kernel);
    record_end();
    return result;
}

static VKAPI_ATTR void VKAPI_CALL order_vkDestroyShaderModule(VkDevice device, VkShaderModule module,
                                                              const VkAllocationCallbacks *allocator)
{
    layer_device *d = layer_device_of(device);
    record_begin();
    handle_take(&state.handles, HANDLE_MODULE, d, HANDLE(module));
    record_end();
    d->vkDestroyShaderModule(device, module, allocator);
}

static VKAPI_ATTR VkResult VKAPI_CALL order_vkCreateComputePipelines(VkDevice device, VkPipelineCache cache,
                                                                     uint32_t count,
                                                                     const VkComputePipelineCreateInfo *infos,
                                                                     const VkAllocationCallbacks *allocator,
                                                                     VkPipeline *pipelines)
{
    layer_device *d = layer_device_of(device);
    const VkResult result = d->vkCreateComputePipelines(device, cache, count, infos, allocator, pipelines);
    record_begin();
    for (uint32_t i = 0; result == VK_SUCCESS && i < count; i++) {
        void *kernel = record_thing(HANDLE_MODULE, d, HANDLE(infos[i].stage.module));
        if (kernel != NULL)
            record_note(HANDLE_PIPELINE, d, HANDLE(pipelines[i]), kernel);
    }
    record_end();
    return result;
}

static VKAPI_ATTR void VKAPI_CALL order_vkDestroyPipeline(VkDevice device, VkPipeline pipeline,
                                                          const VkAllocationCallbacks *allocator)
{
    layer_device *d = layer_device_of(device);
    record_begin();
    handle_take(&state.handles, HANDLE_PIPELINE, d, HANDLE(pipeline));
    record_end();
    d->vkDestroyPipeline(device, pipeline, allocator);
}

/* ---- the table --------------------------------------------------------------------------------------------------- */

PFN_vkVoidFunction record_function(const char *name)
{
#define OWN(function)                                                                                                  \
    if (strcmp(name, #function) == 0)                                                                                  \
        return (PFN_vkVoidFunction)order_##function;
    ORDER_FUNCTIONS(OWN)
#undef OWN
    return NULL;
}

/* Commands and submissions matter; so does memory that comes and goes. The rest is about objects that hold no bytes, or asks. */
bool order_knows(const char *name)
{
    static const char *const harmless[] = {"vkCmdResetQueryPool", "vkCmdWriteTimestamp"}; /* queries are no memory */
    for (size_t i = 0; i < sizeof harmless / sizeof harmless[0]; i++)
        if (strcmp(name, harmless[i]) == 0)
            return true;
    return (strncmp(name, "vkCmd", 5) != 0 && strncmp(name, "vkQueue", 7) != 0) || record_function(name) != NULL;
}
