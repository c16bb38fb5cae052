/* Landings: tensors that batches are copied into and that the caller gets views of, a few, used in turn. A landing is free when no view of it is left; what was
 * queued by then still reads it, so its next copy waits for an event behind that, on the device.
 *
 * With a queue of its own an upload is queued one batch ahead: while the operators work on batch k, batch k + 1 comes in. The third landing is the one whose
 * readers are queued and perhaps not done. The operators' queue waits for a batch's copy before the batch is given, and before its landing
 * is released: so the memory returns to the allocator as that of any other tensor, whose users are all on one queue. */
#include "data/uploader.h"

#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "tensor/tensor.h"

enum { LANDINGS = 3 };

typedef struct landing {
    tensor *samples, *targets; /* of a whole batch; NULL: none yet */
    hal_event *unused;         /* on the operators' queue, behind all that read the batch before */
    hal_event *copied;         /* on the copies' queue */
    bool is_unused;            /* no view is left, and `unused` is recorded */
    uint64_t turn;             /* of its last batch */
    int64_t count;             /* of the batch that lies in it and was not given; 0: none */
} landing;

struct uploader {
    const tsr_dataset *dataset;
    tsr_device *device;
    hal_queue *operators, *copies; /* may be one */
    loader *source;
    int64_t room; /* samples of a landing */
    landing landings[LANDINGS];
    landing *next; /* uploaded and not given; NULL: none */
    uint64_t turns;
};

static bool apart(const uploader *u)
{
    return u->copies != u->operators;
}

uploader *uploader_create(const tsr_dataset *dataset, tsr_device *device, loader *source, int64_t room)
{
    uploader *u = host_alloc_zeroed(1, sizeof *u);
    if (u == NULL)
        return NULL;
    u->dataset = dataset;
    u->device = device_retain(device);
    u->source = source;
    u->room = room;
    u->operators = device_queue(device);
    u->copies = device_copy_queue(device);
    bool good = u->copies != NULL;
    for (int i = 0; i < LANDINGS && good; i++)
        good = hal_event_create(device->hal, &u->landings[i].unused) == TSR_OK &&
               hal_event_create(device->hal, &u->landings[i].copied) == TSR_OK;
    if (good)
        return u;
    uploader_destroy(u);
    return NULL;
}

static void release(landing *l)
{
    tsr_release(l->samples);
    tsr_release(l->targets);
    l->samples = l->targets = NULL;
}

void uploader_destroy(uploader *u)
{
    if (u == NULL)
        return;
    error_state before;
    error_save(&before);
    uploader_forget(u);
    for (int i = 0; i < LANDINGS; i++) {
        release(&u->landings[i]);
        hal_event_destroy(u->landings[i].unused);
        hal_event_destroy(u->landings[i].copied);
    }
    error_restore(&before);
    tsr_device_close(u->device);
    host_free(u);
}

/* Not into the landing's next batch: a queue is in order. */
void uploader_forget(uploader *u)
{
    if (u->next == NULL)
        return;
    if (apart(u))
        hal_queue_wait(u->operators, u->next->copied); /* where this fails, the device is lost */
    u->next->count = 0;
    u->next = NULL;
}

/* ---- landings ---- */

static bool has_views(const landing *l)
{
    return atomic_load_explicit(&l->samples->storage->references, memory_order_acquire) > 1 ||
           atomic_load_explicit(&l->targets->storage->references, memory_order_acquire) > 1;
}

/* Marks which landings lost their last view since the call before: all that reads them is queued. */
static tsr_status note_unused(uploader *u)
{
    tsr_status status = TSR_OK;
    for (int i = 0; i < LANDINGS && status == TSR_OK; i++) {
        landing *l = &u->landings[i];
        if (l->samples == NULL || l->is_unused || l == u->next || has_views(l))
            continue;
        if (apart(u))
            status = hal_event_record(u->operators, l->unused);
        l->is_unused = status == TSR_OK;
    }
    return status;
}

static tensor *batch_tensor(const uploader *u, tsr_dtype dtype, int rank, const int64_t *shape)
{
    int64_t whole[TSR_MAX_RANK] = {u->room};
    memcpy(whole + 1, shape, (size_t)rank * sizeof *shape);
    return tensor_new(u->device, dtype, 1 + rank, whole);
}

/* Its memory may have been another's just now. */
static tsr_status furnish(uploader *u, landing *l)
{
    const tsr_dataset_source *s = &u->dataset->source;
    release(l);
    l->is_unused = false;
    l->samples = batch_tensor(u, s->sample_dtype, s->sample_rank, s->sample_shape);
    l->targets = l->samples == NULL ? NULL : batch_tensor(u, s->target_dtype, s->target_rank, s->target_shape);
    if (l->targets == NULL) {
        release(l);
        return tsr_last_status();
    }
    return note_unused(u);
}

/* The landing that has been unused for longest; where the caller keeps the views of all, that of the oldest batch is left to him. On one queue the
 * last is as good as any, so no second one is furnished as long as it is unused. */
static tsr_status choose(uploader *u, landing **chosen)
{
    landing *unused = NULL, *none = NULL, *oldest = NULL;
    for (int i = 0; i < LANDINGS; i++) {
        landing *l = &u->landings[i];
        if (l == u->next)
            continue;
        if (l->samples == NULL)
            none = l;
        else if (l->is_unused && (unused == NULL || l->turn < unused->turn))
            unused = l;
        if (oldest == NULL || l->turn < oldest->turn)
            oldest = l;
    }
    *chosen = unused != NULL ? unused : none != NULL ? none : oldest;
    return unused != NULL ? TSR_OK : furnish(u, *chosen);
}

/* ---- copying ---- */

static tsr_status copy(uploader *u, const memory_block *from, size_t offset, const tensor *to, size_t bytes)
{
    const hal_binding b = tensor_binding(to);
    atomic_fetch_add_explicit(&to->storage->version, 1, memory_order_relaxed);
    return hal_buffer_copy(u->copies, from->buffer, offset, b.buffer, b.offset, bytes);
}

/* Queues the copies of the loader's next batch; u->next stays NULL behind the last. */
static tsr_status send(uploader *u)
{
    loader_batch batch;
    landing *l = NULL;
    tsr_status status = loader_take(u->source, &batch);
    if (status != TSR_OK || batch.count == 0)
        return status;
    for (int i = 0; i < LANDINGS && u->turns == 0 && apart(u) && status == TSR_OK; i++)
        status = furnish(u, &u->landings[i]); /* at once: no step after the first asks for memory */
    if (status == TSR_OK)
        status = choose(u, &l);
    if (status == TSR_OK && apart(u))
        status = hal_queue_wait(u->copies, l->unused);
    if (status == TSR_OK)
        status = copy(u, batch.block, batch.samples_offset, l->samples, (size_t)batch.count * u->dataset->sample_bytes);
    if (status == TSR_OK)
        status = copy(u, batch.block, batch.targets_offset, l->targets, (size_t)batch.count * u->dataset->target_bytes);
    if (status == TSR_OK && apart(u))
        status = hal_event_record(u->copies, l->copied);
    if (status == TSR_OK)
        status = loader_sent(u->source);
    if (status != TSR_OK)
        return status;
    l->count = batch.count;
    l->turn = ++u->turns;
    u->next = l;
    return apart(u) ? hal_queue_flush(u->copies) : TSR_OK;
}

static tensor *view_of(const tensor *whole, int64_t count)
{
    int64_t shape[TSR_MAX_RANK];
    memcpy(shape, whole->shape, sizeof shape);
    shape[0] = count;
    return tensor_view(whole, whole->rank, shape, whole->strides, 0);
}

/* What was uploaded, as views. */
static tsr_status give(uploader *u, tsr_tensor **samples, tsr_tensor **targets, int64_t *count)
{
    landing *l = u->next;
    if (apart(u)) {
        const tsr_status status = hal_queue_wait(u->operators, l->copied);
        if (status != TSR_OK)
            return status;
    }
    tensor *x = view_of(l->samples, l->count), *y = x == NULL ? NULL : view_of(l->targets, l->count);
    if (y == NULL) {
        tsr_release(x);
        return tsr_last_status();
    }
    *samples = tensor_to_scope(x);
    *targets = tensor_to_scope(y);
    *count = l->count;
    l->count = 0;
    l->is_unused = false;
    u->next = NULL;
    loader_given(u->source);
    return TSR_OK;
}

tsr_status uploader_next(uploader *u, tsr_tensor **samples, tsr_tensor **targets, int64_t *count)
{
    *samples = *targets = NULL;
    *count = 0;
    tsr_status status = note_unused(u);
    if (status == TSR_OK && u->next == NULL)
        status = send(u);
    if (status != TSR_OK || u->next == NULL)
        return status;
    status = give(u, samples, targets, count);
    if (status == TSR_OK && apart(u) && loader_ready(u->source)) {
        error_state before; /* what fails here fails again when it is asked for */
        error_save(&before);
        if (send(u) != TSR_OK)
            error_restore(&before);
    }
    return status;
}
