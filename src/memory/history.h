/* What an allocator did, event by event, and who held how much of it. All of it runs under the allocator's lock. */
#ifndef TESSERA_MEMORY_HISTORY_H
#define TESSERA_MEMORY_HISTORY_H

#include <stdbool.h>
#include <stddef.h>

#include "memory/label.h"

typedef enum memory_what {
    MEMORY_HELD,    /* a block that was in use when the recording began */
    MEMORY_TAKEN,   /* a block */
    MEMORY_LABELED, /* it belongs to another owner from now on */
    MEMORY_FREED,
    MEMORY_RESERVED, /* a segment: the block's number is 0 */
    MEMORY_RETURNED,
    MEMORY_WHATS
} memory_what;

typedef struct memory_event {
    uint64_t bytes;
    uint32_t block; /* running number from 1 */
    uint16_t label; /* in the recording's labels */
    uint8_t what;
} memory_event;

typedef struct memory_history {
    bool active;
    memory_event *events;
    size_t count, capacity, most;
    uint64_t missed; /* events behind the last that was kept */
    uint32_t blocks;
    memory_label *labels;
    size_t label_count, label_capacity;
    uint64_t reserved; /* when it began */
} memory_history;

void history_free(memory_history *r);
/* An event, unless the recording is full, which it is as soon as one is missed. `block` of MEMORY_HELD and MEMORY_TAKEN: set to the new number. */
void history_add(memory_history *r, memory_what what, uint64_t bytes, uint32_t *block, memory_label label);

/* Goes through a recording: what each label holds after an event. */
typedef struct history_walk {
    const memory_history *recording;
    uint64_t *held; /* of each label */
    uint16_t *of;   /* the label of each block */
    uint64_t bytes, reserved;
    size_t next;
} history_walk;
bool history_walk_begin(history_walk *w, const memory_history *r); /* false after fail() */
bool history_walk_next(history_walk *w);                           /* false behind the last event */
void history_walk_end(history_walk *w);
/* The first event after which most was held; false if there are none. */
bool history_peak(const memory_history *r, size_t *event, uint64_t *bytes);

#endif
