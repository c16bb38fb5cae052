/* A heap of pairs of numbers, the least first. */
#ifndef TESSERA_BASE_HEAP_H
#define TESSERA_BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/memory.h"

typedef struct heap_item {
    uint64_t key, value; /* ordered by key, then by value */
} heap_item;

/* Zero-initialise it. */
typedef struct heap {
    heap_item *items;
    size_t count, capacity;
} heap;

static inline bool heap_before(heap_item a, heap_item b)
{
    return a.key != b.key ? a.key < b.key : a.value < b.value;
}

/* false where memory ran out */
static inline bool heap_push(heap *h, uint64_t key, uint64_t value)
{
    heap_item *items = host_grown(h->items, h->count, &h->capacity, sizeof *items);
    if (items == NULL)
        return false;
    h->items = items;
    const heap_item item = {key, value};
    size_t i = h->count++;
    for (; i > 0 && heap_before(item, h->items[(i - 1) / 2]); i = (i - 1) / 2)
        h->items[i] = h->items[(i - 1) / 2];
    h->items[i] = item;
    return true;
}

/* The heap must not be empty. */
static inline heap_item heap_pop(heap *h)
{
    const heap_item least = h->items[0], last = h->items[--h->count];
    size_t i = 0;
    for (size_t child = 1; child < h->count; i = child, child = 2 * i + 1) {
        if (child + 1 < h->count && heap_before(h->items[child + 1], h->items[child]))
            child++;
        if (!heap_before(h->items[child], last))
            break;
        h->items[i] = h->items[child];
    }
    h->items[i] = last;
    return least;
}

static inline void heap_free(heap *h)
{
    host_free(h->items);
    *h = (heap){0};
}

#endif
