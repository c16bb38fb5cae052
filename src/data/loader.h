/* Batches made on the host, by workers ahead of who takes them, or by the taker where there are none. They lie in pinned memory, from where
 * the device fetches them. */
#ifndef TESSERA_DATA_LOADER_H
#define TESSERA_DATA_LOADER_H

#include <stdint.h>

#include "data/dataset.h"
#include "memory/allocator.h"

typedef struct loader loader;

typedef struct loader_batch {
    const memory_block *block;             /* pinned */
    size_t samples_offset, targets_offset; /* in the block: `count` of each, contiguous */
    int64_t count;
} loader_batch;

typedef struct loader_options {
    int64_t batch; /* samples of one, at the most */
    int workers;
    int prefetch; /* how many that were not given yet lie ready or are being made, at the most; 0: two for each worker */
} loader_options;

/* Batches are fetched by commands on `queue`, a queue of the device of `pinned`. The data set must outlive it. NULL after an error. */
loader *loader_create(const tsr_dataset *dataset, allocator *pinned, hal_queue *queue, const loader_options *options);
void loader_destroy(
    loader *l); /* ends and joins the workers, and waits for what the queue still fetches; NULL is fine */

/* Stops work on all batches: what loader_begin was given may then be changed. */
void loader_pause(loader *l);
/* From here on the batches are those of samples order[first…end - 1], or first…end - 1 where order is NULL; it is borrowed. Only after loader_pause. */
void loader_begin(loader *l, const uint32_t *order, int64_t first, int64_t end);

/* Whether loader_take would not wait. */
bool loader_ready(loader *l);
/* The next batch, waiting for it; count 0 behind the last. The error of its first sample that could not be read, at each call. */
tsr_status loader_take(loader *l, loader_batch *batch);
/* The copies of the batch taken are queued: its memory is used again when they are done. */
tsr_status loader_sent(loader *l);
/* Another of the batches sent has reached who asked for it: one more may be made. */
void loader_given(loader *l);

/* Seconds spent in loader_take. */
double loader_waited(const loader *l);

#endif
