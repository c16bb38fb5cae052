/* Inside the caching allocator: its blocks and segments. Included by src/memory/ only.
 *
 * blocks.c knows which free block fits, when neighbours merge and how one is split; allocator.c knows the driver, the queues'
 * events and the interface. All of it runs under the allocator's lock. */
#ifndef TESSERA_MEMORY_BLOCKS_H
#define TESSERA_MEMORY_BLOCKS_H

#include "base/thread.h"
#include "memory/allocator.h"
#include "memory/history.h"

/* Sizes are multiples of BLOCK_ROUND; requests of at most SMALL_MOST have segments of their own. */
#define BLOCK_ROUND ((size_t)512)
#define SMALL_MOST  ((size_t)1 << 20)

/* Free blocks by size: four bins for each power of two of 512-byte units. */
enum { BIN_COUNT = 4 * 64, POOL_COUNT = 2 };

typedef struct segment segment;
typedef struct block block;

/* A piece of a segment. */
struct block {
    memory_block view; /* first: what the holder sees */
    segment *segment;
    block *left, *right;    /* neighbours in the segment */
    block *previous, *next; /* in the bin, while free */
    bool used;
    memory_label label; /* while used */
    uint32_t number;    /* in the recording */
    uint32_t queues;    /* while used: bit s for the queue in slot s */
    /* While free: the tick of the last use on the queue of each slot, 0 for none. It may be handed out on a queue when the uses
     * on all others are done. */
    uint64_t uses[ALLOCATOR_MAX_QUEUES];
};

/* A buffer of the driver. */
struct segment {
    segment *previous, *next;
    hal_buffer *buffer;
    size_t size;
    int pool;
    block *first;
};

/* A queue counts the frees of blocks that it used; an event recorded when the count stood at n shows, once done, that the uses
 * up to tick n are over. At most one such event a queue is under way. */
typedef struct queue_slot {
    hal_queue *queue; /* NULL: the slot is not taken */
    uint64_t tick, done, marked;
    hal_event *event; /* NULL until a second queue made one necessary */
    bool under_way;
} queue_slot;

struct allocator {
    hal_device *device;
    hal_memory memory;
    mutex lock;
    queue_slot slots[ALLOCATOR_MAX_QUEUES];
    int queue_count;
    segment *segments;
    block *bins[POOL_COUNT][BIN_COUNT];
    allocator_statistics stats; /* without largest_free */
    uint64_t high_water;        /* of stats.allocated since the last trim */
    memory_history *recording;  /* NULL: nothing ever was */
};

/* Enters and leaves the bin of its size: exactly the free blocks are in bins, but for one in hand. */
void bin_insert(allocator *a, block *b);
void bin_remove(allocator *a, block *b);

/* Bits of the slots whose uses of a free block are not known to be done. */
uint32_t block_pending(const allocator *a, const block *b);

/* Puts a free block in hand into a bin, merged with its neighbours. */
void block_give_back(allocator *a, block *b);

/* After events were seen done, neighbours may merge that could not when they were freed. */
void blocks_merge_all(allocator *a);

/* Cuts what `size` does not need off a free block in hand, where it is worth a block. */
void block_split(allocator *a, block *b, size_t size);

/* The smallest free block of at least `size` bytes that may be used on the slot's queue; the first of equals. The blocks
 * that fit but must be waited for leave the bits of their queues in *waits. */
block *blocks_best_fit(const allocator *a, int pool, size_t size, int slot, uint32_t *waits);

size_t blocks_largest_free(const allocator *a);

#endif
