/* Replays what a program hands to Vulkan's queues, and finds accesses to the same bytes that nothing orders.
 *
 * It knows nothing of the program that made the stream, and nothing of drivers: order_layer.c feeds it what passes through a Vulkan
 * layer, test_order_checker.c streams written by hand. Stricter than the specification in two points, so that what it finds does not
 * depend on the driver or on time: commands that signal different semaphores count as in queues of their own, even where the driver
 * has one queue for all; and that the host has seen a batch end orders what the host does next, but no command of the device. */
#ifndef TESSERA_TESTS_ORDER_CHECKER_H
#define TESSERA_TESTS_ORDER_CHECKER_H

#include "order_ranges.h"

#include <stddef.h>

/* What a command can touch: a dispatch has at most 8 bindings. */
enum { ORDER_COMMAND_ACCESSES = 8 };

typedef struct order_buffer order_buffer;
typedef struct order_semaphore order_semaphore;
typedef struct order_checker order_checker;

typedef struct order_access {
    order_buffer *buffer;
    uint64_t begin, end;
    bool reads, writes;
} order_access;

typedef struct order_command {
    bool is_barrier;
    order_barrier barrier;
    order_stage stage;
    const char *name; /* lives as long as the checker */
    uint32_t access_count;
    order_access accesses[ORDER_COMMAND_ACCESSES];
} order_command;

typedef struct order_wait {
    order_semaphore *semaphore;
    uint64_t value;
    uint32_t stages; /* bits 1 << order_stage */
} order_wait;

/* Gets each finding, a sentence. */
typedef void order_listener(void *context, const char *finding);

/* NULL without memory. */
order_checker *order_checker_create(order_listener *listener, void *context);
void order_checker_destroy(order_checker *checker);

order_buffer *order_buffer_create(order_checker *checker, uint64_t size);

/* From now on the host may look at it, here. */
void order_buffer_map(order_buffer *buffer, const void *address);

/* A finding if the device may still use it, or if it is used later. The pointer stays good. */
void order_buffer_destroy(order_checker *checker, order_buffer *buffer);

order_semaphore *order_semaphore_create(order_checker *checker);

/* A batch: after its waits the commands, then the signal. `queue` is any handle that is the same for the same queue. */
void order_submit(order_checker *checker, uint64_t queue, const order_wait *waits, size_t wait_count,
                  const order_command *commands, size_t command_count, order_semaphore *signal, uint64_t value);

/* The host has seen the semaphore at `value`. */
void order_host_saw(order_checker *checker, order_semaphore *semaphore, uint64_t value);

/* The host has seen everything end that was submitted to a queue, or to all. */
void order_host_saw_queue(order_checker *checker, uint64_t queue);
void order_host_saw_all(order_checker *checker);

typedef struct order_counts {
    uint64_t batches, commands, accesses, barriers, waits, findings;
} order_counts;
order_counts order_checker_counts(const order_checker *checker);

#endif
