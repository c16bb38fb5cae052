/* The front of the HAL: each function checks its arguments once, so that a backend can rely on them, counts, and forwards. */
#include "hal/front.h"

#include "base/checked.h"
#include "base/memory.h"

#include <stdio.h>
#include <string.h>

/* ---- devices --------------------------------------------------------------------------------------------------- */

static tsr_status check_index(const hal_backend *backend, uint32_t index)
{
    char why[512] = "";
    uint32_t count = 0;
    const tsr_status status = backend->enumerate(&count, why, sizeof why);
    if (status != TSR_OK)
        return status;
    if (count == 0)
        return fail(TSR_NO_DEVICE, "there is no %s device: %s", backend->name, why[0] ? why : "the driver lists none");
    if (index >= count)
        return fail(TSR_NO_DEVICE, "there is no device %s:%u: %s has %u device%s, counted from 0", backend->name,
                    (unsigned)index, backend->name, (unsigned)count, count == 1 ? "" : "s");
    return TSR_OK;
}

tsr_status hal_device_open(const hal_backend *backend, uint32_t index, hal_device **device)
{
    if (backend == NULL || device == NULL)
        return fail(TSR_INVALID_ARGUMENT,
                    "opening a device takes a backend and a place for the device, and one is NULL");
    *device = NULL;

    tsr_status status = check_index(backend, index);
    if (status != TSR_OK)
        return status;

    struct hal_front *front = host_alloc_zeroed(1, sizeof *front);
    if (front == NULL)
        return TSR_OUT_OF_MEMORY;
    hal_device *opened = NULL;
    profile_span span;
    profile_open(&span, PROFILE_DRIVER, "open device");
    status = backend->open(index, &opened);
    profile_close(&span);
    if (status != TSR_OK) {
        host_free(front);
        return status;
    }

    mutex_init(&front->lock);
    snprintf(front->id, sizeof front->id, "%s:%u", backend->name, (unsigned)index);
    opened->backend = backend;
    opened->index = index;
    opened->front = front;
    *device = opened;
    return TSR_OK;
}

static void append_alive(char *list, size_t size, long count, const char *noun)
{
    const size_t used = strlen(list);
    if (count > 0)
        snprintf(list + used, size - used, "%s%ld %s%s", used > 0 ? ", " : "", count, noun, count == 1 ? "" : "s");
}

tsr_status hal_device_close(hal_device *device)
{
    if (device == NULL)
        return TSR_OK;

    struct hal_front *front = device->front;
    char alive[128] = "";
    append_alive(alive, sizeof alive, atomic_load(&front->queues), "queue");
    append_alive(alive, sizeof alive, atomic_load(&front->buffers), "buffer");
    append_alive(alive, sizeof alive, atomic_load(&front->kernels), "kernel");
    append_alive(alive, sizeof alive, atomic_load(&front->events), "event");
    if (alive[0] != '\0')
        return fail(TSR_INVALID_ARGUMENT, "device %s cannot be closed while it has %s: destroy them first", front->id,
                    alive);

    device->backend->close(device); /* frees the structure, but not what the front hung on it */
    mutex_destroy(&front->lock);
    host_free(front);
    return TSR_OK;
}

tsr_status front_note(hal_device *device, tsr_status status)
{
    if (status == TSR_DEVICE_LOST)
        atomic_store_explicit(&device->front->lost, true, memory_order_relaxed);
    return status;
}

tsr_status front_lost(const hal_device *device)
{
    return fail(TSR_DEVICE_LOST, "device %s (%s) was lost: what it held is gone; close it and open it again",
                device->front->id, device->info.name);
}

tsr_status hal_device_status(hal_device *device)
{
    if (device == NULL)
        return fail(TSR_INVALID_ARGUMENT, "the device is NULL");
    if (front_is_lost(device))
        return front_lost(device);
    return front_note(device, device->backend->device_status(device));
}

const char *hal_device_id(const hal_device *device)
{
    return device->front->id;
}

const char *hal_device_gemm_route(hal_device *device)
{
    return device->backend->gemm != NULL && device->backend->gemm_route != NULL ? device->backend->gemm_route(device)
                                                                                : NULL;
}

tsr_status hal_device_lose(hal_device *device)
{
    if (device->backend->lose == NULL)
        return fail(TSR_UNSUPPORTED, "%s devices cannot pretend to be lost", device->backend->name);
    device->backend->lose(device);
    return TSR_OK;
}

hal_counters hal_device_counters(const hal_device *device)
{
    struct hal_front *front = device->front;
    mutex_lock(&front->lock);
    hal_counters counters = front->memory;
    mutex_unlock(&front->lock);
    counters.kernels_created = atomic_load(&front->kernels_created);
    counters.launches = atomic_load(&front->launches);
    counters.host_waits = atomic_load(&front->host_waits);
    return counters;
}

/* ---- queues ---------------------------------------------------------------------------------------------------- */

tsr_status hal_queue_create(hal_device *device, hal_queue_kind kind, hal_queue **queue)
{
    if (device == NULL || queue == NULL)
        return fail(TSR_INVALID_ARGUMENT, "creating a queue takes a device and a place for the queue, and one is NULL");
    *queue = NULL;
    if (kind != HAL_QUEUE_COMPUTE && kind != HAL_QUEUE_COPY)
        return fail(TSR_INVALID_ARGUMENT, "%d is no kind of queue", (int)kind);
    if (front_is_lost(device))
        return front_lost(device);

    struct queue_front *front = host_alloc_zeroed(1, sizeof *front);
    if (front == NULL)
        return TSR_OUT_OF_MEMORY;
    hal_queue *made = NULL;
    const tsr_status status = front_note(device, device->backend->queue_create(device, kind, &made));
    if (status != TSR_OK) {
        host_free(front);
        return status;
    }
    mutex_init(&front->lock);
    mutex_init(&front->staging_lock);
    made->device = device;
    made->kind = kind;
    made->front = front;
    atomic_fetch_add(&device->front->queues, 1);
    *queue = made;
    return TSR_OK;
}

void hal_queue_destroy(hal_queue *queue)
{
    if (queue == NULL)
        return;
    hal_device *device = queue->device;
    struct queue_front *front = queue->front;
    lane_leave(queue);
    if (front->staging_event != NULL)
        device->backend->event_destroy(front->staging_event);
    hal_buffer *staging = front->staging;
    device->backend->queue_destroy(queue);
    if (staging != NULL)
        front_buffer_free(staging);
    mutex_destroy(&front->staging_lock);
    mutex_destroy(&front->lock);
    host_free(front);
    atomic_fetch_sub(&device->front->queues, 1);
}

tsr_status hal_queue_flush(hal_queue *queue)
{
    const tsr_status status = front_enter(queue);
    return status != TSR_OK ? status : front_leave(queue, queue->device->backend->flush(queue));
}

tsr_status hal_queue_sync(hal_queue *queue)
{
    const tsr_status status = front_enter(queue);
    if (status != TSR_OK)
        return status;
    front_count(&queue->device->front->host_waits);
    profile_span span;
    profile_open(&span, PROFILE_WAIT, "wait for queue");
    const tsr_status waited = queue->device->backend->sync(queue);
    profile_close(&span);
    return front_leave(queue, waited);
}

tsr_status front_enter(hal_queue *queue)
{
    if (queue == NULL)
        return fail(TSR_INVALID_ARGUMENT, "the queue is NULL");
    if (front_is_lost(queue->device))
        return front_lost(queue->device);
    struct queue_front *front = queue->front;
    mutex_lock(&front->lock);
    return TSR_OK;
}

tsr_status front_begin(hal_queue *queue, profile_kind kind, const char *what, uint64_t bytes)
{
    if (queue != NULL && profiling())
        lane_prepare(queue);
    const tsr_status status = front_enter(queue);
    if (status == TSR_OK && UNLIKELY(((struct queue_front *)queue->front)->lane != NULL))
        lane_before(queue, kind, what, bytes);
    return status;
}

tsr_status front_end(hal_queue *queue, tsr_status status)
{
    return front_leave(queue, front_done(queue, status));
}

tsr_status front_leave(hal_queue *queue, tsr_status status)
{
    struct queue_front *front = queue->front;
    mutex_unlock(&front->lock);
    return status == TSR_OK ? TSR_OK : front_note(queue->device, status);
}

/* ---- events ---------------------------------------------------------------------------------------------------- */

tsr_status hal_event_create(hal_device *device, hal_event **event)
{
    if (device == NULL || event == NULL)
        return fail(TSR_INVALID_ARGUMENT, "creating an event takes a device and a place for it, and one is NULL");
    *event = NULL;
    if (front_is_lost(device))
        return front_lost(device);
    const tsr_status status = front_note(device, device->backend->event_create(device, event));
    if (status != TSR_OK)
        return status;
    (*event)->device = device;
    (*event)->recorded = false;
    atomic_fetch_add(&device->front->events, 1);
    return TSR_OK;
}

void hal_event_destroy(hal_event *event)
{
    if (event == NULL)
        return;
    hal_device *device = event->device;
    device->backend->event_destroy(event);
    atomic_fetch_sub(&device->front->events, 1);
}

static tsr_status check_event(const hal_queue *queue, const hal_event *event)
{
    if (queue == NULL || event == NULL)
        return fail(TSR_INVALID_ARGUMENT, "the %s is NULL", queue == NULL ? "queue" : "event");
    if (queue->device != event->device)
        return fail(TSR_INVALID_ARGUMENT, "the queue belongs to device %s, the event to %s",
                    hal_device_id(queue->device), hal_device_id(event->device));
    return TSR_OK;
}

tsr_status hal_event_record(hal_queue *queue, hal_event *event)
{
    tsr_status status = check_event(queue, event);
    if (status != TSR_OK || (status = front_enter(queue)) != TSR_OK)
        return status;
    status = queue->device->backend->event_record(queue, event);
    if (status == TSR_OK)
        event->recorded = true;
    return front_leave(queue, status);
}

tsr_status hal_queue_wait(hal_queue *queue, hal_event *event)
{
    tsr_status status = check_event(queue, event);
    if (status != TSR_OK || !event->recorded || (status = front_enter(queue)) != TSR_OK)
        return status; /* nothing to wait for where nothing was recorded */
    return front_leave(queue, queue->device->backend->queue_wait(queue, event));
}

static tsr_status check_event_alone(const hal_event *event)
{
    if (event == NULL)
        return fail(TSR_INVALID_ARGUMENT, "the event is NULL");
    return front_is_lost(event->device) ? front_lost(event->device) : TSR_OK;
}

tsr_status hal_event_query(hal_event *event, bool *done)
{
    const tsr_status status = check_event_alone(event);
    if (status != TSR_OK)
        return status;
    if (!event->recorded) {
        *done = true;
        return TSR_OK;
    }
    *done = false;
    return front_note(event->device, event->device->backend->event_query(event, done));
}

tsr_status hal_event_sync(hal_event *event)
{
    const tsr_status status = check_event_alone(event);
    if (status != TSR_OK || !event->recorded)
        return status;
    front_count(&event->device->front->host_waits);
    profile_span span;
    profile_open(&span, PROFILE_WAIT, "wait for event");
    const tsr_status waited = event->device->backend->event_sync(event);
    profile_close(&span);
    return front_note(event->device, waited);
}

tsr_status hal_event_elapsed(hal_event *from, hal_event *to, double *milliseconds)
{
    if (from == NULL || to == NULL || milliseconds == NULL)
        return fail(TSR_INVALID_ARGUMENT,
                    "the time between two events takes two events and a place for it, and one is NULL");
    if (from->device != to->device)
        return fail(TSR_INVALID_ARGUMENT, "there is no time between events of two devices, %s and %s",
                    hal_device_id(from->device), hal_device_id(to->device));
    *milliseconds = 0;
    if (!from->recorded || !to->recorded)
        return fail(TSR_INVALID_ARGUMENT, "the %s event was never recorded", from->recorded ? "second" : "first");

    bool done[2] = {false, false};
    tsr_status status = hal_event_query(from, &done[0]);
    if (status == TSR_OK)
        status = hal_event_query(to, &done[1]);
    if (status != TSR_OK)
        return status;
    if (!done[0] || !done[1])
        return fail(TSR_INVALID_ARGUMENT, "the %s event is not done yet: wait for it with hal_event_sync",
                    done[0] ? "second" : "first");
    return front_note(from->device, from->device->backend->event_elapsed(from, to, milliseconds));
}
