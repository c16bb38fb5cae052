/* Batches made on the host, by workers ahead of who takes them, or by the taker where there are none. */
#ifndef TESSERA_DATA_LOADER_H
#define TESSERA_DATA_LOADER_H

#include <stdint.h>

#include "data/dataset.h"

typedef struct loader loader;

typedef struct loader_batch {
    void *samples, *targets; /* `count` of them, contiguous, until the next loader_done */
    int64_t count;
} loader_batch;

/* batch: samples of one, at the most. prefetch: how many lie ready or are being made, at the most; 0: two for each worker. The data set must outlive it.
 * NULL after an error. */
loader *loader_create(const tsr_dataset *dataset, int64_t batch, int workers, int prefetch);
void loader_destroy(loader *l); /* ends and joins the workers; NULL is fine */

/* Stops work on all batches: what loader_begin was given may then be changed. */
void loader_pause(loader *l);
/* From here on the batches are those of samples order[first…end - 1], or first…end - 1 where order is NULL; it is borrowed. Only after loader_pause. */
void loader_begin(loader *l, const uint32_t *order, int64_t first, int64_t end);

/* The next batch, waiting for it; count 0 behind the last. The error of its first sample that could not be read, at each call. */
tsr_status loader_take(loader *l, loader_batch *batch);
/* The batch taken is no longer needed. */
void loader_done(loader *l);

/* Seconds spent in loader_take. */
double loader_waited(const loader *l);

#endif
