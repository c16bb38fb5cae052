/* A parallel loop. One word, `state`, says whether a run is open and how many workers are inside it. A worker joins
 * only an open run, so the caller never waits for one that was too slow to wake: on a busy machine a short loop costs
 * no more than doing it alone. Workers that have nothing to do look at the word for a while before they sleep, so that
 * loops which follow each other closely wake nobody.
 *
 * Schedulers like to wake a worker on the processor of the thread that woke it, and may leave the two there for
 * milliseconds, at half the speed, with another processor idle. So each marks where it runs, and a worker that finds its
 * processor taken moves itself. */
#include "base/thread.h"

#include "base/checked.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/profile.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>

/* state = generation << 17 | open << 16 | workers inside (the caller not counted) */
#define INSIDE_MASK      ((uint64_t)0xFFFF)
#define OPEN             ((uint64_t)1 << 16)
#define GENERATION_SHIFT 17

/* Longer than the host's work between two launches of a training step, shorter than what a sleep and a wake cost. */
#define SPIN_NS 50000u

/* Indices are taken in pieces, so many for each worker: few enough to be cheap, enough to even out. */
enum { PIECES_PER_WORKER = 8 };

typedef struct pool_worker {
    thread_pool *pool;
    thread handle;
    int index;
} pool_worker;

struct thread_pool {
    int size;
    uint64_t spin_ns;
    pool_worker *workers; /* [size - 1], with the indices 1 ... size - 1 */

    mutex run_lock; /* held during a run */

    /* The run: written by the caller while nobody is inside, read by those who joined. */
    void (*task)(void *context, size_t index, int worker);
    void *context;
    size_t count;
    size_t piece;
    const char *name; /* of the caller's innermost span, for a profile */

    _Alignas(64) _Atomic uint64_t state;
    _Alignas(64) atomic_size_t next;
    _Alignas(64) _Atomic uint64_t taken[THREADS_MAX / 64]; /* processors on which this run's threads began it */
    int taken_words;                                       /* as many as the machine's processors need */

    _Alignas(64) mutex sleep_lock; /* for both conditions */
    condition run_begins;
    condition run_ends;
    atomic_int sleeping_workers;
    atomic_bool caller_sleeps;
    atomic_bool stop;
};

/* Which pool's worker this thread is at the moment, to recognise a loop within a loop. */
static _Thread_local const thread_pool *inside_pool;
static _Thread_local int inside_worker;

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __asm__ volatile("pause");
#elif defined(__aarch64__)
    __asm__ volatile("isb"); /* `yield` is a no-op on most cores */
#endif
}

/* Whether the word shows a run that a worker has not taken part in. */
static bool is_new(uint64_t state, uint64_t joined)
{
    return (state & OPEN) != 0 && state >> GENERATION_SHIFT != joined;
}

/* Marks the caller's processor; whether it was marked before. */
static bool take_processor(thread_pool *pool)
{
    const int at = processor_current();
    if (at < 0 || at / 64 >= pool->taken_words)
        return false;
    const uint64_t bit = (uint64_t)1 << (at % 64);
    return (atomic_fetch_or_explicit(&pool->taken[at / 64], bit, memory_order_relaxed) & bit) != 0;
}

static void find_own_processor(thread_pool *pool)
{
    if (!take_processor(pool) || pool->spin_ns == 0) /* 0: fewer processors than threads */
        return;
    uint64_t taken[THREADS_MAX / 64] = {0};
    for (int i = 0; i < pool->taken_words; i++)
        taken[i] = atomic_load_explicit(&pool->taken[i], memory_order_relaxed);
    if (processor_change(taken))
        take_processor(pool);
}

static void take_pieces(thread_pool *pool, int worker)
{
    const size_t count = pool->count, piece = pool->piece;
    for (;;) {
        const size_t begin = atomic_fetch_add_explicit(&pool->next, piece, memory_order_relaxed);
        if (begin >= count)
            return;
        const size_t end = begin + min_size(piece, count - begin);
        for (size_t i = begin; i < end; i++)
            pool->task(pool->context, i, worker);
    }
}

/* Returns when there is a new run or the pool ends.
 * A worker counts itself as sleeping and then looks at `state`; the caller changes `state` and then looks at the count.
 * All four are sequentially consistent, so one of them sees the other. */
static uint64_t wait_for_run(thread_pool *pool, uint64_t joined)
{
    uint64_t state = atomic_load(&pool->state);
    const uint64_t begin = clock_ns();
    while (!is_new(state, joined) && !atomic_load_explicit(&pool->stop, memory_order_relaxed)) {
        for (int i = 0; i < 16 && !is_new(state, joined); i++) {
            relax();
            state = atomic_load(&pool->state);
        }
        if (!is_new(state, joined) && clock_ns() - begin > pool->spin_ns) {
            mutex_lock(&pool->sleep_lock);
            atomic_fetch_add(&pool->sleeping_workers, 1);
            while (!is_new(state = atomic_load(&pool->state), joined) && !atomic_load(&pool->stop))
                condition_wait(&pool->run_begins, &pool->sleep_lock);
            atomic_fetch_sub(&pool->sleeping_workers, 1);
            mutex_unlock(&pool->sleep_lock);
        }
    }
    return state;
}

static void *worker_main(void *argument)
{
    const pool_worker *self = argument;
    thread_pool *pool = self->pool;
    uint64_t joined = 0;

    inside_pool = pool;
    inside_worker = self->index;
    for (;;) {
        uint64_t state = wait_for_run(pool, joined);
        if (atomic_load(&pool->stop))
            return NULL;
        if (!is_new(state, joined) || !atomic_compare_exchange_strong(&pool->state, &state, state + 1))
            continue; /* it ended, or another worker joined at the same moment */

        joined = state >> GENERATION_SHIFT;
        find_own_processor(pool);
        profile_span span;
        profile_open(&span, PROFILE_WORKER, pool->name);
        take_pieces(pool, self->index);
        profile_close(&span);

        const uint64_t left = atomic_fetch_sub(&pool->state, 1) - 1;
        if ((left & (OPEN | INSIDE_MASK)) == 0 && atomic_load(&pool->caller_sleeps)) {
            mutex_lock(&pool->sleep_lock);
            condition_signal(&pool->run_ends);
            mutex_unlock(&pool->sleep_lock);
        }
    }
}

static void wait_for_workers(thread_pool *pool)
{
    const uint64_t begin = clock_ns();
    do {
        for (int i = 0; i < 16; i++) {
            if ((atomic_load(&pool->state) & INSIDE_MASK) == 0)
                return;
            relax();
        }
    } while (clock_ns() - begin < pool->spin_ns);

    mutex_lock(&pool->sleep_lock);
    atomic_store(&pool->caller_sleeps, true);
    while ((atomic_load(&pool->state) & INSIDE_MASK) != 0)
        condition_wait(&pool->run_ends, &pool->sleep_lock);
    atomic_store(&pool->caller_sleeps, false);
    mutex_unlock(&pool->sleep_lock);
}

static void run_with_workers(thread_pool *pool, void (*task)(void *, size_t, int), void *context, size_t count)
{
    pool->task = task;
    pool->context = context;
    pool->count = count;
    pool->name = profile_innermost() == NULL ? "parallel loop" : profile_innermost()->name;
    pool->piece = max_size(count / ((size_t)pool->size * PIECES_PER_WORKER), 1);
    atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
    for (int i = 0; i < pool->taken_words; i++)
        atomic_store_explicit(&pool->taken[i], 0, memory_order_relaxed);
    take_processor(pool);

    const uint64_t generation = (atomic_load(&pool->state) >> GENERATION_SHIFT) + 1;
    atomic_store(&pool->state, generation << GENERATION_SHIFT | OPEN);
    if (atomic_load(&pool->sleeping_workers) > 0) {
        mutex_lock(&pool->sleep_lock);
        if (count == 2)
            condition_signal(&pool->run_begins);
        else
            condition_broadcast(&pool->run_begins);
        mutex_unlock(&pool->sleep_lock);
    }

    take_pieces(pool, 0);
    if ((atomic_fetch_and(&pool->state, ~OPEN) & INSIDE_MASK) != 0)
        wait_for_workers(pool);
}

void thread_pool_run(thread_pool *pool, void (*task)(void *context, size_t index, int worker), void *context,
                     size_t count)
{
    if (inside_pool == pool) {
        for (size_t i = 0; i < count; i++)
            task(context, i, inside_worker);
        return;
    }

    const thread_pool *outer_pool = inside_pool;
    const int outer_worker = inside_worker;
    mutex_lock(&pool->run_lock);
    inside_pool = pool;
    inside_worker = 0;
    if (count > 1 && pool->size > 1) {
        run_with_workers(pool, task, context, count);
    } else {
        for (size_t i = 0; i < count; i++)
            task(context, i, 0);
    }
    inside_pool = outer_pool;
    inside_worker = outer_worker;
    mutex_unlock(&pool->run_lock);
}

int thread_pool_size(const thread_pool *pool)
{
    return pool->size;
}

thread_pool *thread_pool_create(int threads)
{
    const int wanted = min_int(max_int(threads, 1), THREADS_MAX);
    thread_pool *pool = host_alloc_aligned(sizeof *pool, _Alignof(thread_pool));
    pool_worker *workers = host_alloc_zeroed((size_t)wanted, sizeof *workers);
    if (pool == NULL || workers == NULL) {
        host_free_aligned(pool);
        host_free(workers);
        return NULL;
    }

    /* With more threads than processors a worker that spins keeps another from its work. */
    *pool = (thread_pool){.size = 1,
                          .spin_ns = wanted <= processor_count() ? SPIN_NS : 0,
                          .workers = workers,
                          .taken_words = (processor_limit() + 63) / 64};
    mutex_init(&pool->run_lock);
    mutex_init(&pool->sleep_lock);
    condition_init(&pool->run_begins);
    condition_init(&pool->run_ends);

    error_state before;
    error_save(&before);
    for (; pool->size < wanted; pool->size++) {
        char name[24];
        pool_worker *worker = &workers[pool->size - 1];
        worker->pool = pool;
        worker->index = pool->size;
        snprintf(name, sizeof name, "tessera-%d", pool->size);
        if (thread_start(&worker->handle, name, worker_main, worker) != TSR_OK) {
            log_warn("working with %d threads instead of %d: %s", pool->size, wanted, tsr_last_error());
            error_restore(&before);
            break;
        }
    }
    return pool;
}

void thread_pool_destroy(thread_pool *pool)
{
    if (pool == NULL)
        return;
    mutex_lock(&pool->sleep_lock);
    atomic_store(&pool->stop, true);
    condition_broadcast(&pool->run_begins);
    mutex_unlock(&pool->sleep_lock);
    for (int i = 0; i < pool->size - 1; i++)
        thread_join(&pool->workers[i].handle);

    condition_destroy(&pool->run_begins);
    condition_destroy(&pool->run_ends);
    mutex_destroy(&pool->sleep_lock);
    mutex_destroy(&pool->run_lock);
    host_free(pool->workers);
    host_free_aligned(pool);
}
