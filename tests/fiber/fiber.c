#include "tests/fiber/fiber.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

enum { STACK_BYTES = 64 * 1024 };

typedef struct fiber {
    ucontext_t context;
    int line; /* of the barrier at which it waits; 0 when it has ended */
    bool ended;
    char *stack;
} fiber;

unsigned fiber_index;

static fiber fibers[FIBER_MAX_GROUP];
static ucontext_t scheduler;
static bool first_of_group; /* the thread that runs is the group's first, before its first barrier */
static const fiber_kernel *running;
static void *const *running_bindings;
static const void *running_params;
static unsigned group[3];

void fiber_local(void *memory, size_t size)
{
    if (first_of_group)
        memset(memory, 0xa5, size);
}

void fiber_barrier(int line)
{
    first_of_group = false;
    fibers[fiber_index].line = line;
    swapcontext(&fibers[fiber_index].context, &scheduler);
}

static void fiber_main(void)
{
    running->body(running_bindings, running_params, group[0], group[1], group[2]);
    first_of_group = false;
    fibers[fiber_index].ended = true;
    for (;;)
        swapcontext(&fibers[fiber_index].context, &scheduler);
}

static void fiber_start(fiber *f)
{
    if (!f->stack)
        f->stack = malloc(STACK_BYTES);
    f->ended = false;
    f->line = 0;
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = STACK_BYTES;
    f->context.uc_link = NULL;
    makecontext(&f->context, fiber_main, 0);
}

static unsigned thread_at(unsigned place, unsigned count, fiber_order order)
{
    if (order == FIBER_ASCENDING)
        return place;
    if (order == FIBER_DESCENDING)
        return count - 1 - place;
    return (place * 37 + 11) % count; /* group sizes are powers of two */
}

static const char *run_group(unsigned count, fiber_order order)
{
    static char message[256];
    for (unsigned i = 0; i < count; i++)
        fiber_start(&fibers[i]);
    first_of_group = true;
    for (;;) {
        unsigned ended = 0;
        for (unsigned place = 0; place < count; place++) {
            fiber_index = thread_at(place, count, order);
            swapcontext(&scheduler, &fibers[fiber_index].context);
        }
        for (unsigned i = 0; i < count; i++)
            ended += fibers[i].ended;
        if (ended == count)
            return NULL;
        for (unsigned i = 0; i < count; i++) {
            if (ended > 0 && !fibers[i].ended) {
                snprintf(message, sizeof message, "%s:%d: thread %u waits at a barrier, %u of %u threads have ended",
                         running->file, fibers[i].line, i, ended, count);
                return message;
            }
            if (fibers[i].line != fibers[0].line) {
                snprintf(message, sizeof message, "%s:%d: thread 0 waits at this barrier, thread %u at that of line %d",
                         running->file, fibers[0].line, i, fibers[i].line);
                return message;
            }
        }
    }
}

const char *fiber_run(const fiber_kernel *kernel, void *const *bindings, const void *params, const uint32_t grid[3],
                      fiber_order order)
{
    running = kernel;
    running_bindings = bindings;
    running_params = params;
    for (group[2] = 0; group[2] < grid[2]; group[2]++) {
        for (group[1] = 0; group[1] < grid[1]; group[1]++) {
            for (group[0] = 0; group[0] < grid[0]; group[0]++) {
                const char *problem = run_group(kernel->group_size, order);
                if (problem)
                    return problem;
            }
        }
    }
    return NULL;
}
