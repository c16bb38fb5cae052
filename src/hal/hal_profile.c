/* The times of what a queue does, while a profile is under way (base/profile.h): an event before each command and one behind it.
 *
 * A queue gets a lane when it is first used in a profile, and loses it at the profile's end or its own. Times are taken from events that lie near, so
 * that a driver's float milliseconds stay exact: the last event that was read becomes the anchor of the next ones. The queue's clock is held
 * against the host's when the lane begins and when it ends. */
#include "hal/front.h"

#include "base/clock.h"
#include "base/memory.h"

#include <stdio.h>

/* Commands whose times are not read yet; a queue that is more behind makes the host wait. Two events each, of the 4096 that the stingiest driver has. */
enum { LANE_DEPTH = 512, CLOCK_READINGS = 8 };

typedef struct lane_entry {
    hal_event *before, *after;
    profile_event event;
} lane_entry;

struct profile_lane {
    profile_lane *next; /* of the list below */
    hal_queue *queue;
    profile_track *track;
    bool timed;
    hal_event *anchor; /* read last, at `anchor_ns` of the lane's clock, which began at its first anchor */
    uint64_t anchor_ns, last_ns;
    profile_clock first;
    lane_entry entries[LANE_DEPTH]; /* [first_entry, first_entry + count) of them wait to be read, modulo LANE_DEPTH */
    size_t first_entry, count;
    lane_entry *open; /* its command is being handed over */
};

/* Taken before a queue's lock. */
static struct {
    mutex lock;
    profile_lane *first;
} lanes = {.lock = MUTEX_INIT};

/* The lane's clock begins far from 0, so that what is a little earlier has a time too. */
#define LANE_BEGINS UINT64_C(1000000000000)

/* ---- clocks: all with the queue's lock held ------------------------------------------------------------------------- */

static bool elapsed_ns(hal_event *from, hal_event *to, int64_t *ns)
{
    double milliseconds;
    if (from->device->backend->event_elapsed(from, to, &milliseconds) != TSR_OK)
        return false;
    *ns = (int64_t)(milliseconds * 1e6 + (milliseconds < 0 ? -0.5 : 0.5));
    return true;
}

/* The host's clock before an event is recorded, and after it is known to be done, bound when it happened. */
static bool record_now(const profile_lane *lane, hal_event *event, uint64_t *before, uint64_t *after)
{
    const hal_backend *backend = event->device->backend;
    *before = clock_ns();
    if (backend->event_record(lane->queue, event) != TSR_OK || backend->event_sync(event) != TSR_OK)
        return false;
    *after = clock_ns();
    event->recorded = true;
    return true;
}

/* What all readings agree on. The last event recorded becomes the anchor. */
static bool read_clock(profile_lane *lane, hal_event *spare, profile_clock *out)
{
    uint64_t low = 0, high = UINT64_MAX; /* host - lane, modulo 2^64 and around the first reading's */
    uint64_t base = 0;
    for (int i = 0; i < CLOCK_READINGS; i++) {
        uint64_t before, after;
        int64_t step = 0;
        hal_event *event = lane->anchor->recorded ? spare : lane->anchor;
        if (!record_now(lane, event, &before, &after) || (event == spare && !elapsed_ns(lane->anchor, spare, &step)))
            return false;
        if (event == spare) {
            spare = lane->anchor;
            lane->anchor = event;
        }
        lane->anchor_ns += (uint64_t)step;
        if (i == 0)
            base = before - lane->anchor_ns - LANE_BEGINS;
        const uint64_t least = before - lane->anchor_ns - base, most = after - lane->anchor_ns - base;
        if (least > high || most < low) { /* one of the clocks was set: only the latest counts */
            low = least;
            high = most;
        }
        low = least > low ? least : low;
        high = most < high ? most : high;
    }
    *out = (profile_clock){
        .at = lane->anchor_ns, .host = lane->anchor_ns + base + low + (high - low) / 2, .error = (high - low + 1) / 2};
    return true;
}

/* ---- a lane --------------------------------------------------------------------------------------------------------- */

static void destroy_event(hal_device *device, hal_event *event)
{
    if (event != NULL)
        device->backend->event_destroy(event);
}

static hal_event *make_event(hal_device *device)
{
    hal_event *event = NULL;
    if (device->backend->event_create(device, &event) != TSR_OK)
        return NULL;
    event->device = device;
    event->recorded = false;
    return event;
}

static void lane_destroy(profile_lane *lane)
{
    hal_device *device = lane->queue->device;
    for (size_t i = 0; i < LANE_DEPTH; i++) {
        destroy_event(device, lane->entries[i].before);
        destroy_event(device, lane->entries[i].after);
    }
    destroy_event(device, lane->anchor);
    host_free(lane);
}

/* The clocks, with an event that is given back. */
static bool lane_clock(profile_lane *lane, profile_clock *out)
{
    hal_event *spare = make_event(lane->queue->device);
    hal_event *const before = lane->anchor;
    const bool ok =
        spare != NULL && lane->queue->device->backend->sync(lane->queue) == TSR_OK && read_clock(lane, spare, out);
    destroy_event(lane->queue->device, lane->anchor == before ? spare : before);
    return ok;
}

static profile_lane *lane_create(hal_queue *queue)
{
    char process[192], name[64];
    profile_lane *lane = host_alloc_zeroed(1, sizeof *lane);
    if (lane == NULL)
        return NULL;
    lane->queue = queue;
    lane->anchor_ns = lane->last_ns = LANE_BEGINS;
    snprintf(process, sizeof process, "%s %s", hal_device_id(queue->device), queue->device->info.name);
    snprintf(name, sizeof name, "%s queue", queue->kind == HAL_QUEUE_COMPUTE ? "compute" : "copy");
    lane->track = profile_track_create(process, name);
    lane->anchor = make_event(queue->device);
    if (lane->track != NULL && lane->anchor != NULL) {
        lane->timed = lane_clock(lane, &lane->first);
        return lane;
    }
    lane_destroy(lane);
    return NULL;
}

/* The times of the oldest command, which is done. */
static void read_oldest(profile_lane *lane)
{
    lane_entry *entry = &lane->entries[lane->first_entry];
    int64_t until = 0, during = 0;
    lane->first_entry = (lane->first_entry + 1) % LANE_DEPTH;
    lane->count--;
    if (!lane->timed)
        return;
    if (!elapsed_ns(lane->anchor, entry->before, &until) || !elapsed_ns(entry->before, entry->after, &during)) {
        lane->timed = false;
        return;
    }
    uint64_t began = lane->anchor_ns + (uint64_t)until, ended = began + (uint64_t)during;
    hal_event *read = lane->anchor;
    lane->anchor = entry->after;
    lane->anchor_ns = ended;
    entry->after = read;
    /* One after the other, whatever rounding says. */
    began = began > lane->last_ns ? began : lane->last_ns;
    ended = ended > began ? ended : began;
    lane->last_ns = ended;
    entry->event.began = began;
    entry->event.lasted = ended - began;
    profile_track_add(lane->track, &entry->event);
}

/* Reads what is done; of what is not, waits for so many commands. */
static void lane_drain(profile_lane *lane, size_t wait)
{
    const hal_backend *backend = lane->queue->device->backend;
    if (wait > 0 && lane->count > 0 && lane->timed) {
        const size_t last = (lane->first_entry + (wait < lane->count ? wait : lane->count) - 1) % LANE_DEPTH;
        lane->timed = backend->event_sync(lane->entries[last].after) == TSR_OK;
    }
    while (lane->count > 0) {
        bool done = true;
        if (lane->timed && backend->event_query(lane->entries[lane->first_entry].after, &done) != TSR_OK)
            lane->timed = false;
        if (lane->timed && !done)
            return;
        read_oldest(lane);
    }
}

/* Its last commands and its clock once more; then its track has the host's times, if the driver gave any. */
static void lane_finish(profile_lane *lane)
{
    profile_clock last;
    lane_drain(lane, LANE_DEPTH);
    if (lane->timed && lane_clock(lane, &last))
        profile_track_place(lane->track, &lane->first, &last);
}

/* ---- what the front calls ------------------------------------------------------------------------------------------- */

void lane_prepare(hal_queue *queue)
{
    struct queue_front *front = queue->front;
    const uint32_t session = atomic_load(&profile_session);
    if (atomic_load_explicit(&front->lane_session, memory_order_acquire) == session || front_is_lost(queue->device))
        return;
    error_state before;
    profile_span span;
    error_save(&before); /* a profile's failure is not the caller's */
    profile_open(&span, PROFILE_WAIT, "compare clocks");
    mutex_lock(&lanes.lock);
    mutex_lock(&front->lock);
    if (session != 0 && front->lane == NULL && atomic_load(&profile_session) == session) {
        front->lane = lane_create(queue);
        if (front->lane != NULL) {
            front->lane->next = lanes.first;
            lanes.first = front->lane;
        }
        atomic_store_explicit(&front->lane_session, session, memory_order_release);
    }
    mutex_unlock(&front->lock);
    mutex_unlock(&lanes.lock);
    profile_close(&span);
    error_restore(&before);
}

void lane_before(hal_queue *queue, profile_kind kind, const char *what, uint64_t bytes)
{
    profile_lane *lane = ((struct queue_front *)queue->front)->lane;
    const profile_span *span = profile_innermost();
    error_state before;
    if (!lane->timed || !profiling())
        return;
    error_save(&before);
    if (lane->count == LANE_DEPTH)
        lane_drain(lane, LANE_DEPTH / 4);
    lane_entry *entry = &lane->entries[(lane->first_entry + lane->count) % LANE_DEPTH];
    if (entry->before == NULL)
        entry->before = make_event(queue->device);
    if (entry->after == NULL)
        entry->after = make_event(queue->device);
    entry->event = (profile_event){.kind = (uint8_t)kind,
                                   .number = bytes,
                                   .thread = profile_thread_number(),
                                   .queued = span == NULL ? 0 : clock_ns()};
    if (kind == PROFILE_KERNEL) {
        const char *key = profile_intern(what);
        entry->event.name = span != NULL && span->kind <= PROFILE_MODULE ? span->name : key;
        entry->event.detail = key;
        entry->event.backward = span != NULL && span->kind == PROFILE_BACKWARD;
    } else {
        entry->event.name = what;
        entry->event.detail = span == NULL ? NULL : span->name;
    }
    lane->timed = lane->count < LANE_DEPTH && entry->before != NULL && entry->after != NULL &&
                  queue->device->backend->event_record(queue, entry->before) == TSR_OK;
    lane->open = lane->timed ? entry : NULL;
    if (lane->timed)
        entry->before->recorded = true;
    error_restore(&before);
}

void lane_after(hal_queue *queue, tsr_status status)
{
    profile_lane *lane = ((struct queue_front *)queue->front)->lane;
    lane_entry *entry = lane->open;
    error_state before;
    lane->open = NULL;
    if (entry == NULL || status != TSR_OK)
        return;
    error_save(&before);
    if (queue->device->backend->event_record(queue, entry->after) == TSR_OK) {
        entry->after->recorded = true;
        lane->count++;
    } else {
        lane->timed = false;
    }
    error_restore(&before);
}

/* With the list's lock held. */
static void lane_end(profile_lane *lane)
{
    struct queue_front *front = lane->queue->front;
    mutex_lock(&front->lock);
    if (!front_is_lost(lane->queue->device))
        lane_finish(lane);
    front->lane = NULL;
    atomic_store(&front->lane_session, 0);
    lane_destroy(lane);
    mutex_unlock(&front->lock);
}

void lane_leave(hal_queue *queue)
{
    error_state before;
    error_save(&before);
    mutex_lock(&lanes.lock);
    for (profile_lane **at = &lanes.first; *at != NULL; at = &(*at)->next)
        if ((*at)->queue == queue) {
            profile_lane *lane = *at;
            *at = lane->next;
            lane_end(lane);
            break;
        }
    mutex_unlock(&lanes.lock);
    error_restore(&before);
}

void hal_profile_finish(void)
{
    error_state before;
    error_save(&before);
    mutex_lock(&lanes.lock);
    while (lanes.first != NULL) {
        profile_lane *lane = lanes.first;
        lanes.first = lane->next;
        lane_end(lane);
    }
    mutex_unlock(&lanes.lock);
    error_restore(&before);
}
