/* Device, memory, kernels and events of the CPU device. */
#include "backends/cpu/cpu.h"
#include "backends/cpu/openblas.h"

#include "base/checked.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/memory.h"

#include <stdio.h>
#include <string.h>

extern const hal_backend cpu_backend;

/* From here on a block begins on a page of this size and asks for such pages. */
#define HUGE_PAGE ((size_t)2 << 20)

tsr_status cpu_check(cpu_device *device)
{
    if (atomic_load_explicit(&device->lost, memory_order_relaxed))
        return fail(TSR_DEVICE_LOST, "device cpu:%u was lost: a test asked for it", (unsigned)device->base.index);
    return TSR_OK;
}

static tsr_status cpu_enumerate(uint32_t *count, char *why, size_t why_size)
{
    *count = 1;
    if (why_size > 0)
        why[0] = '\0';
    return TSR_OK;
}

static tsr_status cpu_info(uint32_t index, hal_device_info *info)
{
    (void)index;
    *info = (hal_device_info){.software = true,
                              .device_class = HAL_CLASS_CPU,
                              .code = HAL_CODE_NATIVE,
                              .features = HAL_FEATURE_STORAGE_16 | HAL_FEATURE_STORAGE_8 | HAL_FEATURE_INT64 |
                                          HAL_FEATURE_FLOAT64,
                              .memory_bytes = cpu_host_memory(),
                              .max_binding_bytes = SIZE_MAX / 2,
                              .binding_alignment = 1,
                              .max_group_size = 1,
                              .compute_units = (uint32_t)cpu_count(),
                              .unified_memory = true};
    info->max_buffer_bytes = info->memory_bytes;
    cpu_host_name(info->name, sizeof info->name);
    cpu_host_vendor(info->vendor, sizeof info->vendor);
    snprintf(info->driver, sizeof info->driver, "threads of this process");
    return TSR_OK;
}

static tsr_status cpu_open(uint32_t index, hal_device **out)
{
    int threads;
    const tsr_status status = cpu_count_checked(&threads);
    if (status != TSR_OK)
        return status;

    cpu_device *device = host_alloc_zeroed(1, sizeof *device);
    if (device == NULL)
        return TSR_OUT_OF_MEMORY;
    device->pool = thread_pool_create(threads);
    if (device->pool == NULL) {
        host_free(device);
        return TSR_OUT_OF_MEMORY;
    }

    hal_device_info *info = &device->base.info;
    cpu_info(index, info);
    device->memory_limit = info->memory_bytes;
    info->compute_units = (uint32_t)thread_pool_size(device->pool);
    device->gemm = cpu_gemm_create(device->pool);
    snprintf(info->driver, sizeof info->driver, "%u thread%s, products by %s", (unsigned)info->compute_units,
             info->compute_units == 1 ? "" : "s", device->gemm != NULL ? cpu_gemm_route(&device->base) : "own kernels");
    info->gemm_vector_bytes = device->gemm != NULL ? openblas_get()->vector_bytes : 0;
    if (device->gemm == NULL)
        snprintf(info->notes, sizeof info->notes,
                 "OpenBLAS was not found (package libopenblas0-pthread): matrix products are the library's own");
    *out = &device->base;
    return TSR_OK;
}

static void cpu_close(hal_device *base)
{
    cpu_device *device = (cpu_device *)base;
    cpu_gemm_destroy(device->gemm);
    thread_pool_destroy(device->pool);
    host_free(device);
}

static tsr_status cpu_device_status(hal_device *device)
{
    return cpu_check((cpu_device *)device);
}

static void cpu_lose(hal_device *device)
{
    atomic_store(&((cpu_device *)device)->lost, true);
}

/* ---- memory ---------------------------------------------------------------------------------------------------- */

/* The system promises more memory than it has and kills who believes it, so the device keeps count itself. */
static tsr_status reserve(cpu_device *device, size_t bytes)
{
    const uint64_t held = atomic_fetch_add(&device->memory_held, bytes);
    if (held <= device->memory_limit && bytes <= device->memory_limit - held)
        return TSR_OK;
    atomic_fetch_sub(&device->memory_held, bytes);
    return fail(TSR_OUT_OF_DEVICE_MEMORY, "cpu:0 holds %llu bytes and was asked for %zu more; the machine has %llu",
                (unsigned long long)held, bytes, (unsigned long long)device->memory_limit);
}

static tsr_status cpu_buffer_alloc(hal_device *base, hal_memory memory, size_t size, hal_buffer **out)
{
    cpu_device *device = (cpu_device *)base;
    (void)memory;
    tsr_status status = cpu_check(device);
    size_t bytes;
    if (status == TSR_OK && !align_up_size(size, CPU_ALIGNMENT, &bytes))
        status = fail(TSR_OUT_OF_DEVICE_MEMORY, "a buffer of %zu bytes is more than there are addresses", size);
    if (status == TSR_OK)
        status = reserve(device, bytes);
    if (status != TSR_OK)
        return status;

    cpu_buffer *buffer = host_alloc_zeroed(1, sizeof *buffer);
    void *data = buffer != NULL ? host_alloc_aligned(bytes, bytes >= HUGE_PAGE ? HUGE_PAGE : CPU_ALIGNMENT) : NULL;
    if (data == NULL) {
        host_free(buffer);
        atomic_fetch_sub(&device->memory_held, bytes);
        return fail(TSR_OUT_OF_DEVICE_MEMORY, "the system has no %zu bytes of memory for a buffer on cpu:0", bytes);
    }
    if (bytes >= HUGE_PAGE)
        cpu_host_prefer_huge_pages(data, bytes);
    buffer->device = device;
    buffer->bytes = bytes;
    buffer->data = data;
    *out = &buffer->base;
    return TSR_OK;
}

static void cpu_buffer_free(hal_buffer *base)
{
    cpu_buffer *buffer = (cpu_buffer *)base;
    atomic_fetch_sub(&buffer->device->memory_held, buffer->bytes);
    host_free_aligned(buffer->data);
    host_free(buffer);
}

static void *cpu_buffer_map(hal_buffer *buffer)
{
    return ((cpu_buffer *)buffer)->data;
}

/* ---- queues, kernels, events ----------------------------------------------------------------------------------- */

static tsr_status cpu_queue_create(hal_device *device, hal_queue_kind kind, hal_queue **out)
{
    (void)kind;
    const tsr_status status = cpu_check((cpu_device *)device);
    if (status != TSR_OK)
        return status;
    cpu_queue *queue = host_alloc_zeroed(1, sizeof *queue);
    if (queue == NULL)
        return TSR_OUT_OF_MEMORY;
    *out = &queue->base;
    return TSR_OK;
}

static void cpu_queue_destroy(hal_queue *queue)
{
    host_free(queue);
}

static tsr_status cpu_kernel_create(hal_device *device, const hal_kernel_desc *desc, hal_kernel **out)
{
    const tsr_status status = cpu_check((cpu_device *)device);
    if (status != TSR_OK)
        return status;
    cpu_kernel *kernel = host_alloc_zeroed(1, sizeof *kernel);
    if (kernel == NULL)
        return TSR_OUT_OF_MEMORY;
    kernel->run = desc->native;
    *out = &kernel->base;
    return TSR_OK;
}

static void cpu_kernel_destroy(hal_kernel *kernel)
{
    host_free(kernel);
}

static tsr_status cpu_event_create(hal_device *device, hal_event **out)
{
    const tsr_status status = cpu_check((cpu_device *)device);
    if (status != TSR_OK)
        return status;
    cpu_event *event = host_alloc_zeroed(1, sizeof *event);
    if (event == NULL)
        return TSR_OUT_OF_MEMORY;
    *out = &event->base;
    return TSR_OK;
}

static void cpu_event_destroy(hal_event *event)
{
    host_free(event);
}

static tsr_status cpu_event_record(hal_queue *queue, hal_event *event)
{
    atomic_store(&((cpu_event *)event)->time_ns, clock_ns());
    return cpu_check(cpu_device_of(queue));
}

static tsr_status cpu_event_query(hal_event *event, bool *done)
{
    *done = true;
    return cpu_check((cpu_device *)event->device);
}

static tsr_status cpu_event_sync(hal_event *event)
{
    return cpu_check((cpu_device *)event->device);
}

static tsr_status cpu_event_elapsed(hal_event *from, hal_event *to, double *milliseconds)
{
    const uint64_t begin = atomic_load(&((cpu_event *)from)->time_ns), end = atomic_load(&((cpu_event *)to)->time_ns);
    *milliseconds = end >= begin ? (double)(end - begin) * 1e-6 : -((double)(begin - end) * 1e-6);
    return cpu_check((cpu_device *)from->device);
}

static tsr_status cpu_queue_wait(hal_queue *queue, hal_event *event)
{
    (void)event;
    return cpu_check(cpu_device_of(queue));
}

static tsr_status cpu_flush(hal_queue *queue)
{
    return cpu_check(cpu_device_of(queue));
}

static tsr_status cpu_sync(hal_queue *queue)
{
    return cpu_check(cpu_device_of(queue));
}

#define FILL(entry) .entry = cpu_##entry,
const hal_backend cpu_backend = {
    .name = "cpu", HAL_ENTRIES(FILL).gemm = cpu_gemm, .gemm_route = cpu_gemm_route, .lose = cpu_lose};
