#include "memory/blocks.h"

#include "base/checked.h"
#include "base/compiler.h"
#include "base/error.h"
#include "base/memory.h"

#include <stdio.h>
#include <string.h>

/* PyTorch's constants (c10/cuda/CUDACachingAllocator): they keep small, short-lived blocks from cutting up large segments. */
#define SMALL_SEGMENT  ((size_t)2 << 20)
#define MEDIUM_MOST    ((size_t)10 << 20)
#define MEDIUM_SEGMENT ((size_t)20 << 20)
#define LARGE_ROUND    ((size_t)2 << 20)

/* Reserved beyond the most that was ever in use: an eighth before idle segments make room for a new one, and a quarter at most, which the release
 * of a block brings it back to (docs/memory.md). */
#define SPARE_LEAST ((uint64_t)24 << 20)
#define SPARE_MOST  ((uint64_t)32 << 20)

fault allocator_fault = FAULT_INIT;

/* One branch where nothing was ever recorded. */
static void note(allocator *a, memory_what what, uint64_t bytes, uint32_t *number, memory_label label)
{
    if (UNLIKELY(a->recording != NULL))
        history_add(a->recording, what, bytes, number, label);
}

/* ---- queues ---------------------------------------------------------------------------------------------------- */

static int find_slot(const allocator *a, const hal_queue *queue)
{
    for (int s = 0; s < ALLOCATOR_MAX_QUEUES; s++) {
        if (a->slots[s].queue == queue)
            return s;
    }
    return -1;
}

/* The slot of a queue, taken now if it is new. -1 after fail(). */
static int slot_of(allocator *a, hal_queue *queue)
{
    int s = find_slot(a, queue);
    if (s >= 0)
        return s;
    s = find_slot(a, NULL);
    if (s < 0) {
        fail(TSR_UNSUPPORTED, "device %s: memory is shared by at most %d queues", hal_device_id(a->device),
             ALLOCATOR_MAX_QUEUES);
        return -1;
    }
    a->slots[s] = (queue_slot){.queue = queue};
    a->queue_count++;
    return s;
}

/* Puts an event behind everything that a queue was given so far, unless one is under way. A device that refuses keeps
 * the blocks from other queues, and is about to refuse more important things. */
static void mark(allocator *a, int s)
{
    queue_slot *slot = &a->slots[s];
    if (slot->queue == NULL || slot->under_way || slot->done == slot->tick)
        return;
    if (slot->event == NULL && hal_event_create(a->device, &slot->event) != TSR_OK)
        return;
    if (hal_event_record(slot->queue, slot->event) != TSR_OK)
        return;
    slot->marked = slot->tick;
    slot->under_way = true;
}

static void poll_marks(allocator *a)
{
    for (int s = 0; s < ALLOCATOR_MAX_QUEUES; s++) {
        queue_slot *slot = &a->slots[s];
        bool done = false;
        if (slot->under_way && hal_event_query(slot->event, &done) == TSR_OK && done) {
            slot->done = slot->marked;
            slot->under_way = false;
        }
    }
}

static block *find_cached(allocator *a, int pool, size_t size, int slot)
{
    uint32_t waits = 0;
    block *b = blocks_best_fit(a, pool, size, slot, &waits);
    if (b != NULL || a->queue_count < 2)
        return b;

    poll_marks(a);
    for (int s = 0; s < ALLOCATOR_MAX_QUEUES; s++) {
        if ((waits >> s & 1) != 0)
            mark(a, s);
    }
    poll_marks(a); /* a device that computes at the call is done already */
    blocks_merge_all(a);
    return blocks_best_fit(a, pool, size, slot, &waits);
}

/* ---- segments -------------------------------------------------------------------------------------------------- */

static void release_segment(allocator *a, segment *seg)
{
    if (seg->previous != NULL)
        seg->previous->next = seg->next;
    else
        a->segments = seg->next;
    if (seg->next != NULL)
        seg->next->previous = seg->previous;

    while (seg->first != NULL) {
        block *b = seg->first;
        seg->first = b->right;
        if (!b->used)
            bin_remove(a, b);
        host_free(b);
    }
    hal_buffer_free(seg->buffer); /* the backend keeps what queued work still needs */
    a->stats.reserved -= seg->size;
    a->stats.segments--;
    a->stats.driver_frees++;
    note(a, MEMORY_RETURNED, seg->size, NULL, (memory_label){0});
    host_free(seg);
}

static bool is_idle(const segment *seg)
{
    for (const block *b = seg->first; b != NULL; b = b->right) {
        if (b->used)
            return false;
    }
    return true;
}

static size_t trim(allocator *a)
{
    size_t freed = 0;
    for (segment *seg = a->segments, *next; seg != NULL; seg = next) {
        next = seg->next;
        if (is_idle(seg)) {
            freed += seg->size;
            release_segment(a, seg);
        }
    }
    return freed;
}

/* How much may be reserved: the high water of what is in use, as if `more` were taken too, and 1 / part of it. */
static uint64_t reserve_limit(const allocator *a, size_t more, unsigned part, uint64_t least)
{
    const uint64_t used = a->stats.allocated + more;
    const uint64_t high = used > a->high_water ? used : a->high_water;
    return high + (high / part > least ? high / part : least);
}

static bool is_spare(const allocator *a, size_t more)
{
    return a->stats.reserved + more <= reserve_limit(a, more, 8, SPARE_LEAST);
}

/* The smallest idle segment that would make room for `size`. */
static bool release_one(allocator *a, size_t size)
{
    segment *best = NULL;
    for (segment *seg = a->segments; seg != NULL; seg = seg->next) {
        if (seg->size >= size && (best == NULL || seg->size < best->size) && is_idle(seg))
            best = seg;
    }
    if (best != NULL)
        release_segment(a, best);
    return best != NULL;
}

/* Not through the driver where the limit forbids it. */
static tsr_status ask_driver(allocator *a, size_t size, hal_buffer **buffer)
{
    if (a->stats.limit != 0 && (a->stats.reserved > a->stats.limit || size > a->stats.limit - a->stats.reserved))
        return fail(TSR_OUT_OF_DEVICE_MEMORY, "the limit of %llu bytes set for the device",
                    (unsigned long long)a->stats.limit);
    const tsr_status status = hal_buffer_alloc(a->device, a->memory, size, buffer);
    return status == TSR_OUT_OF_MEMORY ? TSR_OUT_OF_DEVICE_MEMORY : status;
}

static double mib(uint64_t bytes)
{
    return (double)bytes / 1048576.0;
}

static tsr_status fail_no_room(const allocator *a, size_t size, const allocator_statistics *before, size_t largest)
{
    char reason[256];
    snprintf(reason, sizeof reason, "%s", tsr_last_error());
    return fail(
        TSR_OUT_OF_DEVICE_MEMORY,
        "device %s has no room for %zu bytes (%.1f MiB) of %s memory: %.1f MiB are in use, %.1f MiB were cached and "
        "given back, the largest free block had %.1f MiB. Use a smaller batch or model, 16-bit dtypes or "
        "activation checkpointing, or release tensors that are no longer needed. Refused by: %s",
        hal_device_id(a->device), size, mib(size), a->memory == HAL_MEMORY_HOST ? "pinned host" : "device",
        mib(before->allocated), mib(before->reserved - before->allocated), mib(largest), reason);
}

/* What the driver was given back counts as free only when queued work no longer needs it. */
static void sync_queues(allocator *a)
{
    for (int s = 0; s < ALLOCATOR_MAX_QUEUES; s++) {
        if (a->slots[s].queue != NULL)
            hal_queue_sync(a->slots[s].queue);
    }
}

static segment *largest_idle(const allocator *a)
{
    segment *best = NULL;
    for (segment *seg = a->segments; seg != NULL; seg = seg->next) {
        if ((best == NULL || seg->size > best->size) && is_idle(seg))
            best = seg;
    }
    return best;
}

/* Before a new segment of `size` bytes: idle ones, of which none was large enough, go as far as that leaves too much reserved. The largest go first:
 * the rest, which fits more requests, stays. */
static void make_room(allocator *a, size_t size)
{
    segment *idle;
    if (is_spare(a, size) || (idle = largest_idle(a)) == NULL)
        return;
    sync_queues(a);
    for (; idle != NULL && !is_spare(a, size); idle = largest_idle(a))
        release_segment(a, idle);
}

/* One buffer of `wanted` bytes, or of at least `least`, giving cached memory back step by step where the driver has no more. */
static tsr_status driver_alloc(allocator *a, size_t wanted, size_t least, hal_buffer **buffer, size_t *size)
{
    const allocator_statistics before = a->stats;
    const size_t largest = blocks_largest_free(a);
    if (least > SMALL_MOST)
        make_room(a, wanted);
    *size = wanted;
    tsr_status status = ask_driver(a, wanted, buffer);
    if (status != TSR_OUT_OF_DEVICE_MEMORY)
        return status;

    if (release_one(a, wanted)) {
        status = ask_driver(a, wanted, buffer);
        if (status != TSR_OUT_OF_DEVICE_MEMORY)
            return status;
    }

    /* What was freed while in use comes back when the work is done. */
    sync_queues(a);
    trim(a);
    status = ask_driver(a, wanted, buffer);
    if (status == TSR_OUT_OF_DEVICE_MEMORY && least < wanted) {
        *size = least;
        status = ask_driver(a, least, buffer);
    }
    return status == TSR_OUT_OF_DEVICE_MEMORY ? fail_no_room(a, least, &before, largest) : status;
}

static size_t segment_size(const allocator *a, size_t size)
{
    size_t wanted = SMALL_SEGMENT;
    if (size > SMALL_MOST) /* so many of them as fit: equal ones leave nothing over */
        wanted = (MEDIUM_SEGMENT / max_size(size, 1) * size + LARGE_ROUND - 1) / LARGE_ROUND * LARGE_ROUND;
    if (size >= MEDIUM_MOST && !align_up_size(size, LARGE_ROUND, &wanted))
        wanted = size;
    const uint64_t most = a->device->info.max_buffer_bytes;
    if (wanted > most)
        wanted = max_size(size, (size_t)most / BLOCK_ROUND * BLOCK_ROUND);
    return wanted;
}

/* A new segment as one free block, which is in no bin yet. */
static tsr_status segment_create(allocator *a, size_t size, block **out)
{
    segment *seg = host_alloc_zeroed(1, sizeof *seg);
    block *b = host_alloc_zeroed(1, sizeof *b);
    if (seg == NULL || b == NULL) {
        host_free(seg);
        host_free(b);
        return TSR_OUT_OF_MEMORY;
    }

    error_state before; /* that the driver first refuses is no failure if it then gives */
    error_save(&before);
    const tsr_status status = driver_alloc(a, segment_size(a, size), size, &seg->buffer, &seg->size);
    if (status != TSR_OK) {
        host_free(seg);
        host_free(b);
        return status;
    }
    error_restore(&before);

    seg->pool = size <= SMALL_MOST ? 0 : 1;
    seg->first = b;
    seg->next = a->segments;
    if (seg->next != NULL)
        seg->next->previous = seg;
    a->segments = seg;
    b->segment = seg;
    b->view = (memory_block){.buffer = seg->buffer, .offset = 0, .size = seg->size};

    a->stats.segments++;
    a->stats.driver_allocations++;
    a->stats.reserved += seg->size;
    note(a, MEMORY_RESERVED, seg->size, NULL, (memory_label){0});
    if (a->stats.reserved > a->stats.peak_reserved)
        a->stats.peak_reserved = a->stats.reserved;
    *out = b;
    return TSR_OK;
}

/* ---- the interface --------------------------------------------------------------------------------------------- */

tsr_status allocator_create(hal_device *device, hal_memory memory, allocator **out)
{
    *out = NULL;
    allocator *a = host_alloc_zeroed(1, sizeof *a);
    if (a == NULL)
        return TSR_OUT_OF_MEMORY;
    a->device = device;
    a->memory = memory;
    mutex_init(&a->lock);
    *out = a;
    return TSR_OK;
}

void allocator_destroy(allocator *a)
{
    if (a == NULL)
        return;
    while (a->segments != NULL)
        release_segment(a, a->segments);
    for (int s = 0; s < ALLOCATOR_MAX_QUEUES; s++)
        hal_event_destroy(a->slots[s].event);
    mutex_destroy(&a->lock);
    history_free(a->recording);
    host_free(a);
}

static tsr_status alloc_locked(allocator *a, hal_queue *queue, size_t size, block **out)
{
    const int slot = slot_of(a, queue);
    if (slot < 0)
        return TSR_UNSUPPORTED;

    if (fault_strikes(&allocator_fault)) {
        fail(TSR_OUT_OF_DEVICE_MEMORY, "a test");
        return fail_no_room(a, size, &a->stats, blocks_largest_free(a));
    }
    a->stats.requests++;
    block *b = find_cached(a, size <= SMALL_MOST ? 0 : 1, size, slot);
    if (b == NULL && size <= SMALL_MOST && !is_spare(a, SMALL_SEGMENT))
        b = find_cached(a, 1, size, slot);
    if (b != NULL) {
        a->stats.cache_hits++;
        bin_remove(a, b);
    } else {
        const tsr_status status = segment_create(a, size, &b);
        if (status != TSR_OK)
            return status;
    }

    block_split(a, b, size);
    b->used = true;
    b->queues = 1u << slot;
    memset(b->uses, 0, sizeof b->uses);
    b->label = memory_label_here;
    note(a, MEMORY_TAKEN, b->view.size, &b->number, b->label);
    a->stats.blocks_in_use++;
    a->stats.allocated += b->view.size;
    if (a->stats.allocated > a->stats.peak_allocated)
        a->stats.peak_allocated = a->stats.allocated;
    if (a->stats.allocated > a->high_water)
        a->high_water = a->stats.allocated;
    *out = b;
    return TSR_OK;
}

tsr_status allocator_alloc(allocator *a, hal_queue *queue, size_t size, memory_block **out)
{
    *out = NULL;
    if (queue == NULL || queue->device != a->device)
        return fail(TSR_INVALID_ARGUMENT, "memory of device %s is for its own queues", hal_device_id(a->device));
    size_t rounded;
    if (!align_up_size(max_size(size, 1), BLOCK_ROUND, &rounded) || rounded > a->device->info.max_buffer_bytes)
        return fail(
            TSR_OUT_OF_DEVICE_MEMORY,
            "%zu bytes (%.1f MiB) were asked for at once, but the largest buffer of %s (%s) has %.1f MiB: split the "
            "tensor, or use a smaller batch or a 16-bit dtype",
            size, mib(size), hal_device_id(a->device), a->device->info.name, mib(a->device->info.max_buffer_bytes));

    block *b = NULL;
    mutex_lock(&a->lock);
    const tsr_status status = alloc_locked(a, queue, rounded, &b);
    mutex_unlock(&a->lock);
    if (status == TSR_OK)
        *out = &b->view;
    return status;
}

void allocator_free(allocator *a, memory_block *view)
{
    if (view == NULL)
        return;
    block *b = (block *)view;
    error_state before; /* a release does not fail */
    error_save(&before);
    mutex_lock(&a->lock);
    a->stats.blocks_in_use--;
    a->stats.allocated -= b->view.size;
    note(a, MEMORY_FREED, b->view.size, &b->number, b->label);
    b->used = false;
    for (int s = 0; s < ALLOCATOR_MAX_QUEUES; s++) {
        if ((b->queues >> s & 1) == 0)
            continue;
        b->uses[s] = ++a->slots[s].tick;
        if (a->queue_count > 1)
            mark(a, s);
    }
    b->queues = 0;
    segment *seg = b->segment;
    block_give_back(a, b);
    if (a->stats.reserved > reserve_limit(a, 0, 4, SPARE_MOST) && is_idle(seg))
        release_segment(a, seg);
    mutex_unlock(&a->lock);
    error_restore(&before);
}

void allocator_label(allocator *a, memory_block *view, memory_label label)
{
    block *b = (block *)view;
    if (b == NULL)
        return;
    mutex_lock(&a->lock);
    b->label = label;
    note(a, MEMORY_LABELED, b->view.size, &b->number, label);
    mutex_unlock(&a->lock);
}

tsr_status allocator_record_queue(allocator *a, memory_block *view, hal_queue *queue)
{
    if (view == NULL || queue == NULL || queue->device != a->device)
        return fail(TSR_INVALID_ARGUMENT, "a block of device %s is used by its own queues", hal_device_id(a->device));
    mutex_lock(&a->lock);
    const int slot = slot_of(a, queue);
    if (slot >= 0)
        ((block *)view)->queues |= 1u << slot;
    mutex_unlock(&a->lock);
    return slot >= 0 ? TSR_OK : TSR_UNSUPPORTED;
}

tsr_status allocator_forget_queue(allocator *a, hal_queue *queue)
{
    if (queue == NULL)
        return TSR_OK;
    mutex_lock(&a->lock);
    tsr_status status = TSR_OK;
    const int s = find_slot(a, queue);
    if (s >= 0) {
        status = hal_queue_sync(queue);
        for (segment *seg = a->segments; seg != NULL; seg = seg->next) {
            for (block *b = seg->first; b != NULL; b = b->right) {
                b->queues &= ~(1u << s);
                b->uses[s] = 0;
            }
        }
        hal_event_destroy(a->slots[s].event);
        a->slots[s] = (queue_slot){.queue = NULL};
        a->queue_count--;
        blocks_merge_all(a);
    }
    mutex_unlock(&a->lock);
    return status;
}

void *memory_block_map(const memory_block *b)
{
    unsigned char *address = hal_buffer_map(b->buffer);
    return address != NULL ? address + b->offset : NULL;
}

void allocator_trim(allocator *a)
{
    mutex_lock(&a->lock);
    trim(a);
    a->high_water = a->stats.allocated;
    mutex_unlock(&a->lock);
}

void allocator_limit(allocator *a, uint64_t bytes)
{
    mutex_lock(&a->lock);
    a->stats.limit = bytes;
    mutex_unlock(&a->lock);
}

allocator_statistics allocator_stats(allocator *a)
{
    mutex_lock(&a->lock);
    allocator_statistics stats = a->stats;
    stats.largest_free = blocks_largest_free(a);
    mutex_unlock(&a->lock);
    return stats;
}

void allocator_reset_peaks(allocator *a)
{
    mutex_lock(&a->lock);
    a->stats.peak_allocated = a->stats.allocated;
    a->stats.peak_reserved = a->stats.reserved;
    mutex_unlock(&a->lock);
}
