/* The history of a buffer's bytes: for each range the last command that wrote it, and those that read it since. */
#ifndef TESSERA_TESTS_ORDER_RANGES_H
#define TESSERA_TESTS_ORDER_RANGES_H

#include "order_clock.h"

/* Queues and stages that may read a range between two writes. */
enum { ORDER_READERS = 8 };

typedef struct order_range {
    uint64_t begin, end;
    order_stamp write;
    uint32_t reader_count; /* the last of each queue and stage */
    order_stamp readers[ORDER_READERS];
    struct order_range *left, *right;
    uint32_t priority;
} order_range;

/* A treap by place. */
typedef struct order_ranges {
    order_range *root;
    uint32_t seed;
} order_ranges;

/* False without memory. */
bool order_ranges_create(order_ranges *ranges, uint64_t size);
void order_ranges_destroy(order_ranges *ranges);

/* Calls for each range within [begin, end), with its bounds cut to that, until the visitor says false. */
typedef bool order_visitor(void *context, const order_range *range);
void order_ranges_visit(const order_ranges *ranges, uint64_t begin, uint64_t end, order_visitor *visit, void *context);

/* Notes a read or a write of [begin, end); false without memory, or with more readers than there is room for. */
bool order_ranges_note(order_ranges *ranges, uint64_t begin, uint64_t end, const order_stamp *stamp, bool writes);

#endif
