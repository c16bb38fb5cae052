/* What has happened before what, on the queues of a device: Vulkan's execution and memory dependencies as clocks.
 *
 * Every command of a queue gets the next number of that queue. A clock says for each queue and stage up to which number commands
 * are covered. A queue keeps a clock for each thing that a dependency can promise to its later commands: that earlier commands have
 * ended, that their writes are available, that they are visible to a kind of access. (Vulkan 1.2, chapter 7.) */
#ifndef TESSERA_TESTS_ORDER_CLOCK_H
#define TESSERA_TESTS_ORDER_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

enum { ORDER_QUEUES = 64 };

typedef enum order_stage { ORDER_COMPUTE, ORDER_TRANSFER, ORDER_HOST, ORDER_STAGES } order_stage;

/* Commands run in the stages before ORDER_HOST. */
enum { ORDER_WORKING_STAGES = ORDER_HOST };

enum { ORDER_READS, ORDER_WRITES, ORDER_ACCESSES };

typedef struct order_clock {
    uint64_t upto[ORDER_QUEUES][ORDER_WORKING_STAGES];
} order_clock;

/* A command: `number` of `queue`, in `stage`. */
typedef struct order_stamp {
    uint64_t number; /* from 1 on; 0 for none */
    uint32_t queue;
    order_stage stage;
    const char *name; /* of the kernel, or "copy", "fill", "update" */
} order_stamp;

typedef struct order_queue {
    uint32_t number;
    uint64_t commands;                   /* so far */
    order_clock ended[ORDER_STAGES];     /* before a later command of the stage begins */
    order_clock available[ORDER_STAGES]; /* the writes of those, to a dependency that begins in the stage */
    order_clock visible[ORDER_STAGES]
                       [ORDER_ACCESSES]; /* their writes, to the accesses of a later command of the stage */
} order_queue;

/* Bits 1 << order_stage. */
typedef struct order_barrier {
    uint32_t from, from_writes; /* stages that are waited for; those among them whose writes become available */
    uint32_t to, to_reads, to_writes;
} order_barrier;

void order_clock_join(order_clock *clock, const order_clock *other);

static inline bool order_clock_covers(const order_clock *clock, const order_stamp *stamp)
{
    return stamp->number <= clock->upto[stamp->queue][stamp->stage];
}

void order_queue_barrier(order_queue *queue, const order_barrier *barrier);

/* What a semaphore that the queue signals now stands for. */
void order_queue_signal(const order_queue *queue, order_clock *signal);

/* A wait for such a semaphore, before the later commands of `stages`. */
void order_queue_wait(order_queue *queue, const order_clock *signal, uint32_t stages);

#endif
