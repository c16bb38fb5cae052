/* Where a queue needs a barrier: what its commands read and wrote since the last one.
 *
 * Vulkan orders nothing by itself: two commands of one queue that touch the same bytes, one of them writing, need a barrier
 * between them. Pure bookkeeping, no driver: a buffer is a number here. */
#ifndef TESSERA_VULKAN_HAZARDS_H
#define TESSERA_VULKAN_HAZARDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Intervals kept between two barriers, of reads and of writes each. Where more are needed a barrier is placed, which
 * is never wrong; neighbouring ranges merge, so programs do not get there. */
enum { HAZARD_INTERVALS = 512 };

typedef struct hazard_interval {
    uint64_t buffer;
    uint64_t begin, end; /* bytes [begin, end) */
} hazard_interval;

/* Disjoint, not even touching, sorted by (buffer, begin). */
typedef struct hazard_set {
    uint32_t count;
    hazard_interval at[HAZARD_INTERVALS];
} hazard_set;

typedef struct hazard_tracker {
    hazard_set reads, writes;
} hazard_tracker;

typedef struct hazard_access {
    uint64_t buffer; /* never the number of an earlier, destroyed buffer */
    uint64_t offset, length;
    bool reads, writes;
} hazard_access;

/* Takes note of a command that makes these accesses, and tells whether a barrier against everything before must precede it:
 * it reads what was written, or writes what was read or written. After a barrier nothing earlier counts any more. The
 * accesses of one command do not conflict with each other. */
bool hazard_note(hazard_tracker *tracker, const hazard_access *accesses, size_t count);

/* Forgets everything, for a queue on which a barrier was placed for another reason. */
void hazard_clear(hazard_tracker *tracker);

#endif
