/* Memory: device and pinned host buffers, and the copies between them and the caller's memory. */
#include "cuda_backend.h"

#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"

#include <string.h>

tsr_status cuda_buffer_alloc(hal_device *device, hal_memory memory, size_t size, hal_buffer **buffer)
{
    cuda_device *d = cuda_device_of(device);
    tsr_status status = cuda_enter(d);
    cuda_buffer *b;

    if (status)
        return status;
    b = host_alloc_zeroed(1, sizeof *b);
    if (!b) {
        status = tsr_last_status();
    } else if (memory == HAL_MEMORY_HOST) {
        const cu_result result = d->api->mem_host_alloc(&b->host, size, CU_HOST_PORTABLE);
        /* Pinned memory is the host's: the remedy for want of it is another one. */
        status = result == CU_OUT_OF_MEMORY
                     ? fail(TSR_OUT_OF_MEMORY,
                            "%zu bytes of pinned host memory for cuda:%u (%s) are not to be had; "
                            "other programs or `ulimit -l` hold it",
                            size, device->index, device->info.name)
                     : cuda_check(d, result, "allocating %zu bytes of pinned host memory", size);
        b->address = (cu_deviceptr)(uintptr_t)b->host; /* unified addressing, which every 64-bit driver has */
    } else {
        status = cuda_check(d, d->api->mem_alloc(&b->address, size), "allocating %zu bytes", size);
    }
    cuda_leave(d);
    if (status)
        host_free(b);
    else
        *buffer = &b->base;
    return status;
}

/* cuMemFree waits for the whole device in today's drivers, but that is no promise; waiting for our own queues first is. The
 * allocator above returns memory rarely. */
void cuda_buffer_free(hal_buffer *buffer)
{
    cuda_buffer *b = (cuda_buffer *)buffer;
    cuda_device *d = cuda_device_of(buffer->device);

    if (cuda_enter_to_destroy(d)) {
        cuda_wait_all(d);
        if (b->host)
            d->api->mem_free_host(b->host);
        else
            d->api->mem_free(b->address);
        cuda_leave(d);
    }
    host_free(b);
}

void *cuda_buffer_map(hal_buffer *buffer)
{
    return ((cuda_buffer *)buffer)->host;
}

/* ---- staging ----------------------------------------------------------------------------------------------------- */

static tsr_status staging_create(cuda_device *d, cuda_staging *s)
{
    void *memory = NULL;
    cu_result result = CU_OK;

    for (unsigned i = 0; i < STAGING_BLOCKS && result == CU_OK; i++)
        if (!s->free[i])
            result = d->api->event_create(&s->free[i], CU_EVENT_UNTIMED);
    if (result == CU_OK)
        result = d->api->mem_host_alloc(&memory, (size_t)STAGING_BLOCKS * STAGING_BLOCK_BYTES, CU_HOST_PORTABLE);
    if (result == CU_OUT_OF_MEMORY)
        return fail(TSR_OUT_OF_MEMORY, "no pinned host memory for writing to cuda:%u (%d MiB)", d->base.index,
                    STAGING_BLOCKS * STAGING_BLOCK_BYTES >> 20);
    s->memory = memory;
    return cuda_check(d, result, "allocating its staging memory");
}

void cuda_staging_free(cuda_queue *q)
{
    const cuda_api *api = cuda_device_of(q->base.device)->api;

    for (unsigned i = 0; i < STAGING_BLOCKS; i++)
        if (q->staging.free[i])
            api->event_destroy(q->staging.free[i]);
    if (q->staging.memory)
        api->mem_free_host(q->staging.memory);
}

tsr_status cuda_staging_write(cuda_queue *q, cu_deviceptr to, const void *source, size_t size)
{
    cuda_device *d = cuda_device_of(q->base.device);
    const cuda_api *api = d->api;
    cuda_staging *s = &q->staging;
    const uint8_t *from = source;
    cu_result result = CU_OK;
    tsr_status status;

    if (!s->memory && (status = staging_create(d, s)))
        return status;
    while (size > 0 && result == CU_OK) {
        if (s->used == STAGING_BLOCK_BYTES) {
            result = api->event_record(s->free[s->block], q->stream);
            s->block = (s->block + 1) % STAGING_BLOCKS;
            s->used = 0;
            if (result == CU_OK)
                result = api->event_synchronize(s->free[s->block]); /* at once for one never recorded */
            if (result != CU_OK)
                break;
        }
        const size_t part = min_size(size, STAGING_BLOCK_BYTES - s->used);
        uint8_t *staged = s->memory + (size_t)s->block * STAGING_BLOCK_BYTES + s->used;

        memcpy(staged, from, part);
        result = api->memcpy_htod_async(to, staged, part, q->stream);
        s->used = min_size(STAGING_BLOCK_BYTES, (s->used + part + 63) / 64 * 64); /* copies like aligned sources */
        to += part;
        from += part;
        size -= part;
    }
    return cuda_check(d, result, "writing to a buffer");
}

/* ---- commands ---------------------------------------------------------------------------------------------------- */

tsr_status cuda_write(hal_queue *queue, hal_buffer *buffer, size_t offset, const void *source, size_t size)
{
    cuda_device *d = cuda_device_of(queue->device);
    tsr_status status = cuda_enter(d);

    if (status)
        return status;
    status = cuda_staging_write((cuda_queue *)queue, ((cuda_buffer *)buffer)->address + offset, source, size);
    cuda_leave(d);
    return status;
}

tsr_status cuda_copy(hal_queue *queue, hal_buffer *from, size_t from_offset, hal_buffer *to, size_t to_offset,
                     size_t size)
{
    cuda_device *d = cuda_device_of(queue->device);
    const cu_stream stream = ((cuda_queue *)queue)->stream;
    const cu_deviceptr source = ((cuda_buffer *)from)->address + from_offset;
    const cu_deviceptr target = ((cuda_buffer *)to)->address + to_offset;
    const bool from_host = from->memory == HAL_MEMORY_HOST, to_host = to->memory == HAL_MEMORY_HOST;
    tsr_status status = cuda_enter(d);
    cu_result result;

    if (status)
        return status;
    if (from_host && to_host)
        result = d->api->memcpy_async(target, source, size, stream);
    else if (from_host)
        result = d->api->memcpy_htod_async(target, (const void *)(uintptr_t)source, size, stream);
    else if (to_host)
        result = d->api->memcpy_dtoh_async((void *)(uintptr_t)target, source, size, stream);
    else
        result = d->api->memcpy_dtod_async(target, source, size, stream);
    status = cuda_check(d, result, "copying %zu bytes", size);
    cuda_leave(d);
    return status;
}

tsr_status cuda_fill(hal_queue *queue, hal_buffer *buffer, size_t offset, size_t size, uint32_t pattern)
{
    cuda_device *d = cuda_device_of(queue->device);
    tsr_status status = cuda_enter(d);

    if (status)
        return status;
    status = cuda_check(d,
                        d->api->memset_d32_async(((cuda_buffer *)buffer)->address + offset, pattern, size / 4,
                                                 ((cuda_queue *)queue)->stream),
                        "filling %zu bytes", size);
    cuda_leave(d);
    return status;
}
