/* Events: CUDA events with timing. */
#include "cuda_backend.h"

#include "base/error.h"
#include "base/memory.h"

tsr_status cuda_event_create(hal_device *device, hal_event **event)
{
    cuda_device *d = cuda_device_of(device);
    tsr_status status = cuda_enter(d);
    cuda_event *e;

    if (status)
        return status;
    e = host_alloc_zeroed(1, sizeof *e);
    if (!e)
        status = tsr_last_status();
    else if ((status = cuda_check(d, d->api->event_create(&e->event, CU_EVENT_TIMED), "creating an event")))
        host_free(e);
    else
        *event = &e->base;
    cuda_leave(d);
    return status;
}

void cuda_event_destroy(hal_event *event)
{
    cuda_device *d = cuda_device_of(event->device);

    if (cuda_enter_to_destroy(d)) {
        d->api->event_destroy(((cuda_event *)event)->event); /* the driver keeps it until it is reached */
        cuda_leave(d);
    }
    host_free(event);
}

tsr_status cuda_event_record(hal_queue *queue, hal_event *event)
{
    cuda_device *d = cuda_device_of(queue->device);
    tsr_status status = cuda_enter(d);

    if (status)
        return status;
    status = cuda_check(d, d->api->event_record(((cuda_event *)event)->event, ((cuda_queue *)queue)->stream),
                        "recording an event");
    cuda_leave(d);
    return status;
}

tsr_status cuda_event_query(hal_event *event, bool *done)
{
    cuda_device *d = cuda_device_of(event->device);
    tsr_status status = cuda_enter(d);
    cu_result result;

    if (status)
        return status;
    result = d->api->event_query(((cuda_event *)event)->event);
    *done = result == CU_OK;
    status = cuda_check(d, result == CU_NOT_READY ? CU_OK : result, "asking for an event");
    cuda_leave(d);
    return status;
}

tsr_status cuda_event_sync(hal_event *event)
{
    cuda_device *d = cuda_device_of(event->device);
    tsr_status status = cuda_enter(d);

    if (status)
        return status;
    status = cuda_check(d, d->api->event_synchronize(((cuda_event *)event)->event), "waiting for an event");
    cuda_leave(d);
    return status;
}

tsr_status cuda_event_elapsed(hal_event *from, hal_event *to, double *milliseconds)
{
    cuda_device *d = cuda_device_of(from->device);
    tsr_status status = cuda_enter(d);
    float elapsed = 0;

    if (status)
        return status;
    status = cuda_check(d, d->api->event_elapsed_time(&elapsed, ((cuda_event *)from)->event, ((cuda_event *)to)->event),
                        "measuring the time between two events");
    *milliseconds = (double)elapsed;
    cuda_leave(d);
    return status;
}
