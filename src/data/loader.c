/* A ring of batches. Batch k lies in slot k mod `prefetch`, whoever makes it, so their order does not depend on the workers. */
#include "data/loader.h"

#include <stdatomic.h>
#include <stdio.h>

#include "base/checked.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/profile.h"
#include "base/thread.h"

typedef enum slot_state { SLOT_EMPTY, SLOT_FILLING, SLOT_READY } slot_state;

typedef struct slot {
    unsigned char *samples, *targets;
    slot_state state;
    tsr_status status;
    error_state error;
} slot;

struct loader {
    const tsr_dataset *dataset;
    int64_t batch;
    int prefetch, workers;
    thread *threads;
    slot *slots;

    mutex lock; /* of all below */
    condition work, ready;
    const uint32_t *order;
    int64_t first, end;    /* samples */
    int64_t filled, taken; /* batches begun and done */
    int filling;
    bool paused;
    atomic_bool hurry; /* paused or ending: a worker need not finish its batch */
    bool ends;
    double waited;
};

static int64_t batches(const loader *l)
{
    return (l->end - l->first + l->batch - 1) / l->batch;
}

static int64_t batch_count(const loader *l, int64_t number)
{
    return min_i64(l->batch, l->end - l->first - number * l->batch);
}

static void fill(loader *l, slot *s, int64_t number)
{
    const int64_t begin = l->first + number * l->batch;
    const int64_t count = batch_count(l, number);
    profile_span span;
    profile_open_with(&span, PROFILE_WORKER, "make batch", NULL, (uint64_t)number);
    s->status = TSR_OK;
    for (int64_t i = 0; i < count && s->status == TSR_OK && !atomic_load(&l->hurry); i++)
        s->status = dataset_read(l->dataset, l->order == NULL ? begin + i : l->order[begin + i],
                                 s->samples + (size_t)i * l->dataset->sample_bytes,
                                 s->targets + (size_t)i * l->dataset->target_bytes);
    profile_close(&span);
    if (s->status != TSR_OK)
        error_save(&s->error);
}

static bool has_work(const loader *l)
{
    return !l->paused && l->filled < batches(l) && l->filled < l->taken + l->prefetch;
}

static void *work(void *argument)
{
    loader *l = argument;
    mutex_lock(&l->lock);
    while (!l->ends) {
        if (!has_work(l)) {
            condition_wait(&l->work, &l->lock);
            continue;
        }
        const int64_t number = l->filled++;
        slot *s = &l->slots[number % l->prefetch];
        s->state = SLOT_FILLING;
        l->filling++;
        mutex_unlock(&l->lock);
        fill(l, s, number);
        mutex_lock(&l->lock);
        s->state = SLOT_READY;
        l->filling--;
        condition_broadcast(&l->ready);
    }
    mutex_unlock(&l->lock);
    return NULL;
}

static bool start(loader *l, int workers)
{
    l->threads = workers == 0 ? NULL : host_alloc_zeroed((size_t)workers, sizeof *l->threads);
    if (workers > 0 && l->threads == NULL)
        return false;
    for (; l->workers < workers; l->workers++) {
        char name[24];
        snprintf(name, sizeof name, "loader-%d", l->workers % 10000);
        if (thread_start(&l->threads[l->workers], name, work, l) != TSR_OK)
            return false;
    }
    return true;
}

loader *loader_create(const tsr_dataset *dataset, int64_t batch, int workers, int prefetch)
{
    if (workers < 0 || workers > THREADS_MAX || prefetch < 0 || prefetch > 1 << 16) {
        fail(TSR_OUT_OF_RANGE, "batches: %d workers and %d batches ahead; 0 to %d and 0 to 65536 can be", workers,
             prefetch, THREADS_MAX);
        return NULL;
    }
    loader *l = host_alloc_zeroed(1, sizeof *l);
    if (l == NULL)
        return NULL;
    l->dataset = dataset;
    l->batch = min_i64(batch, dataset->source.count);
    l->prefetch = workers == 0 ? 1 : prefetch == 0 ? 2 * workers : prefetch;
    l->paused = true;
    mutex_init(&l->lock);
    condition_init(&l->work);
    condition_init(&l->ready);
    l->slots = host_alloc_zeroed((size_t)l->prefetch, sizeof *l->slots);
    bool ok = l->slots != NULL;
    const size_t room = (size_t)min_i64(batch, dataset->source.count);
    for (int i = 0; ok && i < l->prefetch; i++) {
        l->slots[i].samples = host_realloc_array(NULL, room, dataset->sample_bytes);
        l->slots[i].targets = host_realloc_array(NULL, room, dataset->target_bytes);
        ok = l->slots[i].samples != NULL && l->slots[i].targets != NULL;
    }
    if (ok && start(l, workers))
        return l;
    loader_destroy(l);
    return NULL;
}

void loader_destroy(loader *l)
{
    if (l == NULL)
        return;
    mutex_lock(&l->lock);
    l->ends = true;
    atomic_store(&l->hurry, true);
    condition_broadcast(&l->work);
    mutex_unlock(&l->lock);
    for (int i = 0; i < l->workers; i++)
        thread_join(&l->threads[i]);
    for (int i = 0; l->slots != NULL && i < l->prefetch; i++) {
        host_free(l->slots[i].samples);
        host_free(l->slots[i].targets);
    }
    condition_destroy(&l->ready);
    condition_destroy(&l->work);
    mutex_destroy(&l->lock);
    host_free(l->slots);
    host_free(l->threads);
    host_free(l);
}

void loader_pause(loader *l)
{
    mutex_lock(&l->lock);
    l->paused = true;
    atomic_store(&l->hurry, true);
    while (l->filling > 0)
        condition_wait(&l->ready, &l->lock);
    mutex_unlock(&l->lock);
}

void loader_begin(loader *l, const uint32_t *order, int64_t first, int64_t end)
{
    mutex_lock(&l->lock);
    for (int i = 0; i < l->prefetch; i++)
        l->slots[i].state = SLOT_EMPTY;
    l->order = order;
    l->first = first;
    l->end = end;
    l->filled = l->taken = 0;
    l->paused = false;
    atomic_store(&l->hurry, false);
    condition_broadcast(&l->work);
    mutex_unlock(&l->lock);
}

tsr_status loader_take(loader *l, loader_batch *batch)
{
    *batch = (loader_batch){0};
    if (l->taken >= batches(l))
        return TSR_OK;
    const double began = clock_seconds();
    slot *s = &l->slots[l->taken % l->prefetch];
    mutex_lock(&l->lock);
    if (l->workers == 0 && s->state == SLOT_EMPTY) {
        fill(l, s, l->taken);
        s->state = SLOT_READY;
    }
    profile_span span;
    span.session = 0;
    if (s->state != SLOT_READY)
        profile_open(&span, PROFILE_WAIT, "wait for batch");
    while (s->state != SLOT_READY)
        condition_wait(&l->ready, &l->lock);
    mutex_unlock(&l->lock);
    profile_close(&span);
    l->waited += clock_seconds() - began;
    if (s->status != TSR_OK) {
        error_restore(&s->error);
        return s->status;
    }
    *batch = (loader_batch){s->samples, s->targets, batch_count(l, l->taken)};
    return TSR_OK;
}

void loader_done(loader *l)
{
    mutex_lock(&l->lock);
    l->slots[l->taken % l->prefetch].state = SLOT_EMPTY;
    l->taken++;
    condition_broadcast(&l->work);
    mutex_unlock(&l->lock);
}

double loader_waited(const loader *l)
{
    return l->waited;
}
