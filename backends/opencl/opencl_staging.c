/* Writes from memory that the caller takes back at once. A blocking write would wait for all earlier work of the queue;
 * so the bytes are put aside, into blocks that are reused when the device has read them. */
#include "opencl_backend.h"

#include "base/error.h"
#include "base/memory.h"

#include <string.h>

#define BLOCK_BYTES ((size_t)1 << 20)
#define MOST_BLOCKS 8 /* then the oldest is waited for */

static void block_free(opencl_device *device, opencl_block *block)
{
    if (block->done)
        cl.clReleaseEvent(block->done);
    opencl_host_memory_free(device, block->pinned, block->bytes);
    host_free(block);
}

static tsr_status block_new(opencl_queue *queue, opencl_block **made)
{
    opencl_block *block = host_alloc_zeroed(1, sizeof *block);
    if (!block)
        return TSR_OUT_OF_MEMORY;
    const tsr_status status =
        opencl_host_memory((opencl_device *)queue->base.device, BLOCK_BYTES, &block->pinned, &block->bytes);
    if (status) {
        host_free(block);
        return status;
    }
    queue->block_count++;
    *made = block;
    return TSR_OK;
}

/* The block that was sent first, empty again. */
static tsr_status block_again(opencl_queue *queue, opencl_block **again)
{
    opencl_block *block = queue->sent;
    const cl_int error = cl.clWaitForEvents(1, &block->done);
    if (error)
        return opencl_check_done((opencl_device *)queue->base.device, error, "a queued write");
    queue->sent = block->next;
    if (!queue->sent)
        queue->sent_last = NULL;
    cl.clReleaseEvent(block->done);
    *block = (opencl_block){.pinned = block->pinned, .bytes = block->bytes};
    *again = block;
    return TSR_OK;
}

/* Puts the full block behind the others, with a marker that tells when it is free. */
static tsr_status block_send(opencl_queue *queue)
{
    opencl_block *block = queue->filling;
    const tsr_status status =
        opencl_check((opencl_device *)queue->base.device,
                     cl.clEnqueueMarkerWithWaitList(queue->handle, 0, NULL, &block->done), "marking a write");
    if (status)
        return status;
    queue->filling = NULL;
    if (queue->sent_last)
        queue->sent_last->next = block;
    else
        queue->sent = block;
    queue->sent_last = block;
    return TSR_OK;
}

/* Room for `size` bytes (at most BLOCK_BYTES) in the block that is being filled. */
static tsr_status room_for(opencl_queue *queue, size_t size)
{
    tsr_status status = TSR_OK;
    if (queue->filling && BLOCK_BYTES - queue->filling->used < size)
        status = block_send(queue);
    if (status || queue->filling)
        return status;
    if (queue->sent && (queue->block_count >= MOST_BLOCKS || opencl_event_is_done(queue->sent->done)))
        return block_again(queue, &queue->filling);
    return block_new(queue, &queue->filling);
}

static tsr_status write_small(opencl_queue *queue, cl_mem memory, size_t offset, const void *source, size_t size)
{
    tsr_status status = room_for(queue, size);
    if (status)
        return status;
    opencl_block *block = queue->filling;
    uint8_t *place = block->bytes + block->used;
    memcpy(place, source, size);
    const cl_int error = cl.clEnqueueWriteBuffer(queue->handle, memory, CL_FALSE, offset, size, place, 0, NULL, NULL);
    if (error == CL_SUCCESS)
        block->used = (block->used + size + 63) / 64 * 64; /* whole cache lines */
    if (block->used > BLOCK_BYTES)
        block->used = BLOCK_BYTES;
    return opencl_check((opencl_device *)queue->base.device, error, "writing %zu bytes", size);
}

/* Long writes (weights at the start of a run) get memory of their own, which is freed behind them. */
static tsr_status write_long(opencl_queue *queue, cl_mem memory, size_t offset, const void *source, size_t size)
{
    opencl_device *device = (opencl_device *)queue->base.device;
    cl_mem pinned;
    uint8_t *bytes;
    const tsr_status status = opencl_host_memory(device, size, &pinned, &bytes);
    if (status)
        return status;
    memcpy(bytes, source, size);
    const cl_int error = cl.clEnqueueWriteBuffer(queue->handle, memory, CL_FALSE, offset, size, bytes, 0, NULL, NULL);
    opencl_bury(device, pinned, bytes, (uint64_t)1 << queue->slot);
    return opencl_check(device, error, "writing %zu bytes", size);
}

tsr_status opencl_write(hal_queue *base, hal_buffer *buffer, size_t offset, const void *source, size_t size)
{
    opencl_queue *queue = (opencl_queue *)base;
    opencl_device *device = (opencl_device *)base->device;
    const cl_mem memory = ((opencl_buffer *)buffer)->memory;
    const tsr_status status = opencl_alive(device);
    if (status)
        return status;
    opencl_dig(device, false);
    if (size <= BLOCK_BYTES)
        return write_small(queue, memory, offset, source, size);

    /* Where the host is short of memory for all of it, piece by piece. */
    error_state before;
    error_save(&before);
    if (write_long(queue, memory, offset, source, size) == TSR_OK)
        return TSR_OK;
    if (tsr_last_status() != TSR_OUT_OF_MEMORY)
        return tsr_last_status();
    error_restore(&before);
    for (size_t done = 0; done < size;) {
        const size_t piece = size - done < BLOCK_BYTES ? size - done : BLOCK_BYTES;
        const tsr_status result = write_small(queue, memory, offset + done, (const uint8_t *)source + done, piece);
        if (result)
            return result;
        done += piece;
    }
    return TSR_OK;
}

void opencl_staging_free(opencl_queue *queue)
{
    opencl_device *device = (opencl_device *)queue->base.device;
    if (queue->filling)
        block_free(device, queue->filling);
    while (queue->sent) {
        opencl_block *block = queue->sent;
        queue->sent = block->next;
        block_free(device, block);
    }
}
