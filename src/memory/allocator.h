/* The caching allocator above the HAL: pieces of large driver buffers, kept for reuse.
 *
 * Requests are rounded up to 512 bytes and served from segments, each one driver buffer: requests up to 1 MiB from segments of
 * 2 MiB, up to 10 MiB from segments of about 20 MiB, larger ones from a segment of their own, rounded up to 2 MiB (the sizes are
 * PyTorch's). The best fit is split, and neighbours merge again when both are free. Segments without a used block go back to the driver where
 * more than a share beyond the high water of what is in use would be reserved (docs/memory.md).
 *
 * Queues. A block may be handed out again at once on the queue that used it last: that queue executes in order. Any
 * other queue gets it only when an event behind the last use is done. A block that a second queue uses is told so with
 * allocator_record_queue, before it is freed.
 *
 * All functions are safe from any thread. */
#ifndef TESSERA_MEMORY_ALLOCATOR_H
#define TESSERA_MEMORY_ALLOCATOR_H

#include "base/fault.h"
#include "hal/hal.h"
#include "memory/label.h"

typedef struct allocator allocator;

/* Read-only for its holder. */
typedef struct memory_block {
    hal_buffer *buffer;
    size_t offset; /* of the block in the buffer: a multiple of 512 */
    size_t size;   /* bytes that may be used: at least what was asked for */
} memory_block;

typedef struct allocator_statistics {
    uint64_t allocated, peak_allocated; /* bytes in blocks that are in use */
    uint64_t reserved, peak_reserved;   /* bytes held from the driver */
    uint64_t limit;                     /* 0: none */
    uint64_t largest_free;              /* bytes of the largest block that is not in use */
    uint64_t requests, cache_hits;
    uint64_t driver_allocations, driver_frees;
    uint64_t blocks_in_use, blocks_free, segments;
} allocator_statistics;

/* Queues of one device that an allocator can tell apart. */
enum { ALLOCATOR_MAX_QUEUES = 8 };

/* For HAL_MEMORY_DEVICE or pinned HAL_MEMORY_HOST. The device outlives the allocator. */
tsr_status allocator_create(hal_device *device, hal_memory memory, allocator **out);

/* Returns everything to the driver, blocks still in use included: nobody may touch them afterwards. NULL is fine. */
void allocator_destroy(allocator *a);

/* A block for use on `queue`. A size of 0 gives a block too. TSR_OUT_OF_DEVICE_MEMORY tells what was asked for, what is
 * held, and what would help; before that everything cached was returned to the driver. */
tsr_status allocator_alloc(allocator *a, hal_queue *queue, size_t size, memory_block **out);

/* Work that uses the block may still be queued. NULL is fine. */
void allocator_free(allocator *a, memory_block *view);

/* The block belongs to this owner from now on, whose label the thread that took it had until then. NULL is fine. */
void allocator_label(allocator *a, memory_block *view, memory_label label);

/* `queue` uses the block too, besides the one it was allocated for: to be called before the block is freed. */
tsr_status allocator_record_queue(allocator *a, memory_block *view, hal_queue *queue);

/* To be called before a queue is destroyed: waits for it. */
tsr_status allocator_forget_queue(allocator *a, hal_queue *queue);

/* A pinned block's address; NULL, with an error, for device memory. */
void *memory_block_map(const memory_block *block);

/* Returns segments without a used block to the driver. Does not wait. */
void allocator_trim(allocator *a);

/* At most so many bytes from the driver; 0 means no limit. */
void allocator_limit(allocator *a, uint64_t bytes);

allocator_statistics allocator_stats(allocator *a);
void allocator_reset_peaks(allocator *a);

/* What the functions of memory.h do on one allocator. */
tsr_status allocator_record_begin(allocator *a, uint64_t events);
void allocator_record_end(allocator *a);
tsr_status allocator_owners(allocator *a, tsr_memory_owner *rows, size_t capacity, size_t *count);

/* For tests: whether the blocks tile their segments, neighbours that are free and used by one queue were merged,
 * and the numbers add up. */
bool allocator_is_consistent(allocator *a);
extern fault allocator_fault; /* requests of all allocators */

#endif
