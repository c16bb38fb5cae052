/* Batches in slots of pinned memory: EMPTY → FILLING → READY → SENT → EMPTY. Which slot a batch gets depends on the workers, what is in it does not. */
#include "data/loader.h"

#include <stdatomic.h>
#include <stdio.h>

#include "base/checked.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/profile.h"
#include "base/thread.h"

typedef enum slot_state { SLOT_EMPTY, SLOT_FILLING, SLOT_READY, SLOT_SENT } slot_state;

typedef struct slot {
    memory_block *block;
    unsigned char *bytes; /* samples, then targets */
    hal_event *fetched;   /* while SENT */
    slot_state state;
    tsr_status status;
    error_state error;
} slot;

struct loader {
    const tsr_dataset *dataset;
    allocator *pinned;
    hal_queue *queue;
    int64_t batch;
    size_t targets_offset;
    int prefetch, workers, slot_count;
    thread *threads;
    slot *slots;
    int *slot_of; /* batch k's is slot_of[k mod slot_count], from when it was begun until it is sent */
    int *sent;    /* slots that are SENT, in their order: sent_first … sent_end - 1, mod slot_count */
    uint64_t sent_first, sent_end;

    mutex lock; /* of the slots' states and all below */
    condition work, ready;
    const uint32_t *order;
    int64_t first, end;           /* samples */
    int64_t filled, taken, given; /* batches begun, sent and given */
    int filling;
    bool paused;
    atomic_bool hurry; /* paused or ending: a worker need not finish its batch */
    bool ends;
    double waited;
};

/* Slots beyond those of `prefetch`, for batches that the device has yet to fetch: the host may be so many steps ahead of it without a wait. */
enum { SENT_LEAST = 4, SENT_MOST = 48, SENT_BYTES = 64 << 20 };

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
    const int64_t begin = l->first + number * l->batch, count = batch_count(l, number);
    profile_span span;
    profile_open_with(&span, PROFILE_WORKER, "make batch", NULL, (uint64_t)number);
    s->status = TSR_OK;
    for (int64_t i = 0; i < count && s->status == TSR_OK && !atomic_load(&l->hurry); i++)
        s->status = dataset_read(l->dataset, l->order == NULL ? begin + i : l->order[begin + i],
                                 s->bytes + (size_t)i * l->dataset->sample_bytes,
                                 s->bytes + l->targets_offset + (size_t)i * l->dataset->target_bytes);
    profile_close(&span);
    if (s->status != TSR_OK)
        error_save(&s->error);
}

/* The first, so that few are touched where few are needed; -1: none. */
static int empty_slot(const loader *l)
{
    for (int i = 0; i < l->slot_count; i++)
        if (l->slots[i].state == SLOT_EMPTY)
            return i;
    return -1;
}

/* Begins the next batch in an empty slot. */
static slot *begin_next(loader *l, int64_t *number)
{
    const int i = empty_slot(l);
    *number = l->filled++;
    l->slot_of[*number % l->slot_count] = i;
    l->slots[i].state = SLOT_FILLING;
    return &l->slots[i];
}

static bool has_work(const loader *l)
{
    return !l->paused && l->filled < batches(l) && l->filled < l->given + l->prefetch && empty_slot(l) >= 0;
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
        int64_t number;
        slot *s = begin_next(l, &number);
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

/* ---- making and destroying ---- */

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

static bool make_slots(loader *l)
{
    const tsr_dataset *d = l->dataset;
    size_t samples, targets, bytes;
    if (!checked_mul_size((size_t)l->batch, d->sample_bytes, &samples) ||
        !checked_mul_size((size_t)l->batch, d->target_bytes, &targets) ||
        !align_up_size(samples, 16, &l->targets_offset) || !checked_add_size(l->targets_offset, targets, &bytes)) {
        fail(TSR_OUT_OF_RANGE, "a batch of %lld samples has more bytes than an address can tell", (long long)l->batch);
        return false;
    }
    l->slot_count = l->prefetch + (int)max_size(SENT_LEAST, min_size(SENT_MOST, SENT_BYTES / bytes));
    l->slots = host_alloc_zeroed((size_t)l->slot_count, sizeof *l->slots);
    l->slot_of = host_alloc_zeroed((size_t)l->slot_count, sizeof *l->slot_of);
    l->sent = host_alloc_zeroed((size_t)l->slot_count, sizeof *l->sent);
    bool good = l->slots != NULL && l->slot_of != NULL && l->sent != NULL;
    for (int i = 0; good && i < l->slot_count; i++) {
        slot *s = &l->slots[i];
        good = allocator_alloc(l->pinned, l->queue, bytes, &s->block) == TSR_OK &&
               (s->bytes = memory_block_map(s->block)) != NULL &&
               hal_event_create(l->queue->device, &s->fetched) == TSR_OK;
    }
    return good;
}

loader *loader_create(const tsr_dataset *dataset, allocator *pinned, hal_queue *queue, const loader_options *o)
{
    if (o->workers < 0 || o->workers > THREADS_MAX || o->prefetch < 0 || o->prefetch > 1 << 16) {
        fail(TSR_OUT_OF_RANGE, "batches: %d workers and %d batches ahead; 0 to %d and 0 to 65536 can be", o->workers,
             o->prefetch, THREADS_MAX);
        return NULL;
    }
    loader *l = host_alloc_zeroed(1, sizeof *l);
    if (l == NULL)
        return NULL;
    l->dataset = dataset;
    l->pinned = pinned;
    l->queue = queue;
    l->batch = min_i64(o->batch, dataset->source.count);
    l->prefetch = o->workers == 0 ? 1 : o->prefetch == 0 ? 2 * o->workers : o->prefetch;
    l->paused = true;
    mutex_init(&l->lock);
    condition_init(&l->work);
    condition_init(&l->ready);
    if (make_slots(l) && start(l, o->workers))
        return l;
    error_state why;
    error_save(&why);
    loader_destroy(l);
    error_restore(&why);
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
    error_state before; /* a lost device fetches nothing any more */
    error_save(&before);
    for (; l->sent_first < l->sent_end; l->sent_first++) {
        bool done = false;
        hal_event *fetched = l->slots[l->sent[l->sent_first % (uint64_t)l->slot_count]].fetched;
        if (hal_event_query(fetched, &done) == TSR_OK && !done)
            hal_event_sync(fetched);
    }
    error_restore(&before);
    for (int i = 0; l->slots != NULL && i < l->slot_count; i++) {
        allocator_free(l->pinned, l->slots[i].block);
        hal_event_destroy(l->slots[i].fetched);
    }
    condition_destroy(&l->ready);
    condition_destroy(&l->work);
    mutex_destroy(&l->lock);
    host_free(l->slots);
    host_free(l->slot_of);
    host_free(l->sent);
    host_free(l->threads);
    host_free(l);
}

/* ---- where it stands ---- */

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
    for (int i = 0; i < l->slot_count; i++)
        if (l->slots[i].state != SLOT_SENT)
            l->slots[i].state = SLOT_EMPTY;
    l->order = order;
    l->first = first;
    l->end = end;
    l->filled = l->taken = l->given = 0;
    l->paused = false;
    atomic_store(&l->hurry, false);
    condition_broadcast(&l->work);
    mutex_unlock(&l->lock);
}

/* ---- taking ---- */

/* Slots that the device has fetched are empty again; with `wait` at least one is. l->lock is held. */
static tsr_status take_back(loader *l, bool wait)
{
    tsr_status status = TSR_OK;
    for (bool done = true; l->sent_first < l->sent_end; l->sent_first++, wait = false) {
        slot *s = &l->slots[l->sent[l->sent_first % (uint64_t)l->slot_count]];
        status = wait ? hal_event_sync(s->fetched) : hal_event_query(s->fetched, &done);
        if (status != TSR_OK || !done)
            break;
        s->state = SLOT_EMPTY;
        condition_broadcast(&l->work);
    }
    return status;
}

static bool is_ready(const loader *l)
{
    return l->taken < l->filled && l->slots[l->slot_of[l->taken % l->slot_count]].state == SLOT_READY;
}

/* Until the next batch is ready. l->lock is held. */
static tsr_status await(loader *l)
{
    tsr_status status = take_back(l, false);
    while (status == TSR_OK && !is_ready(l)) {
        if (l->filled == l->taken && empty_slot(l) < 0) {
            status = take_back(l, true);
        } else if (l->workers == 0) {
            int64_t number;
            slot *s = begin_next(l, &number);
            fill(l, s, number);
            s->state = SLOT_READY;
        } else {
            condition_wait(&l->ready, &l->lock);
        }
    }
    return status;
}

bool loader_ready(loader *l)
{
    mutex_lock(&l->lock);
    const bool ready = is_ready(l);
    mutex_unlock(&l->lock);
    return ready;
}

tsr_status loader_take(loader *l, loader_batch *batch)
{
    *batch = (loader_batch){0};
    if (l->taken >= batches(l))
        return TSR_OK;
    const double began = clock_seconds();
    mutex_lock(&l->lock);
    profile_span span;
    span.session = 0;
    if (l->workers > 0 && !is_ready(l))
        profile_open(&span, PROFILE_WAIT, "wait for batch");
    const tsr_status status = await(l);
    const slot *s = &l->slots[l->slot_of[l->taken % l->slot_count]];
    mutex_unlock(&l->lock);
    profile_close(&span);
    l->waited += clock_seconds() - began;
    if (status != TSR_OK)
        return status;
    if (s->status != TSR_OK) {
        error_restore(&s->error);
        return s->status;
    }
    *batch = (loader_batch){.block = s->block,
                            .samples_offset = s->block->offset,
                            .targets_offset = s->block->offset + l->targets_offset,
                            .count = batch_count(l, l->taken)};
    return TSR_OK;
}

tsr_status loader_sent(loader *l)
{
    mutex_lock(&l->lock);
    const int i = l->slot_of[l->taken % l->slot_count];
    const tsr_status status = hal_event_record(l->queue, l->slots[i].fetched);
    if (status == TSR_OK) {
        l->slots[i].state = SLOT_SENT;
        l->sent[l->sent_end++ % (uint64_t)l->slot_count] = i;
        l->taken++;
    }
    mutex_unlock(&l->lock);
    return status;
}

void loader_given(loader *l)
{
    mutex_lock(&l->lock);
    l->given++;
    condition_broadcast(&l->work);
    mutex_unlock(&l->lock);
}

double loader_waited(const loader *l)
{
    return l->waited;
}
