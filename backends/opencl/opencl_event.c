/* Events: a marker's cl_event. */
#include "opencl_backend.h"

#include "base/error.h"
#include "base/memory.h"

tsr_status opencl_event_create(hal_device *base, hal_event **created)
{
    const tsr_status status = opencl_alive((opencl_device *)base);
    if (status)
        return status;
    opencl_event *event = host_alloc_zeroed(1, sizeof *event);
    if (!event)
        return TSR_OUT_OF_MEMORY;
    event->base.device = base;
    mutex_init(&event->lock);
    *created = &event->base;
    return TSR_OK;
}

void opencl_event_destroy(hal_event *base)
{
    opencl_event *event = (opencl_event *)base;
    if (event->handle)
        cl.clReleaseEvent(event->handle);
    mutex_destroy(&event->lock);
    host_free(event);
}

tsr_status opencl_event_record(hal_queue *base, hal_event *base_event)
{
    opencl_queue *queue = (opencl_queue *)base;
    opencl_device *device = (opencl_device *)base->device;
    opencl_event *event = (opencl_event *)base_event;
    tsr_status status = opencl_alive(device);
    if (status)
        return status;
    cl_event marker = NULL;
    status =
        opencl_check(device, cl.clEnqueueMarkerWithWaitList(queue->handle, 0, NULL, &marker), "recording an event");
    if (status)
        return status;
    mutex_lock(&event->lock);
    const cl_event before = event->handle;
    event->handle = marker;
    event->slot = queue->slot;
    event->queue_id = queue->id;
    mutex_unlock(&event->lock);
    if (before)
        cl.clReleaseEvent(before);
    return TSR_OK;
}

cl_event opencl_marker(opencl_queue *queue)
{
    cl_event marker = NULL;
    return cl.clEnqueueMarkerWithWaitList(queue->handle, 0, NULL, &marker) == CL_SUCCESS ? marker : NULL;
}

/* The driver's event with a reference of its own, since it may be recorded again meanwhile; NULL if never recorded. */
static cl_event retained(opencl_event *event, uint32_t *slot, uint64_t *queue_id)
{
    mutex_lock(&event->lock);
    const cl_event handle = event->handle;
    if (handle)
        cl.clRetainEvent(handle);
    *slot = event->slot;
    *queue_id = event->queue_id;
    mutex_unlock(&event->lock);
    return handle;
}

/* CL_COMPLETE, a state before it (positive), or the error with which the command ended (negative). */
static cl_int state_of(cl_event event)
{
    cl_int state = CL_COMPLETE;
    const cl_int error = cl.clGetEventInfo(event, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof state, &state, NULL);
    return error ? error : state;
}

bool opencl_event_is_done(cl_event event)
{
    return state_of(event) <= CL_COMPLETE;
}

/* A wait for an event of a queue that was never flushed may last for ever. */
static tsr_status flush_recorder(opencl_device *device, uint32_t slot, uint64_t queue_id)
{
    cl_int error = CL_SUCCESS;
    mutex_lock(&device->lock); /* keeps the queue alive */
    const opencl_queue *queue = device->queues[slot];
    if (queue && queue->id == queue_id)
        error = cl.clFlush(queue->handle);
    mutex_unlock(&device->lock);
    return opencl_check_done(device, error, "flushing a queue");
}

tsr_status opencl_event_query(hal_event *base, bool *done)
{
    opencl_device *device = (opencl_device *)base->device;
    uint32_t slot;
    uint64_t queue_id;
    tsr_status status = opencl_alive(device);
    if (status)
        return status;
    const cl_event event = retained((opencl_event *)base, &slot, &queue_id);
    const cl_int state = event ? state_of(event) : CL_COMPLETE;
    if (event)
        cl.clReleaseEvent(event);
    *done = state <= CL_COMPLETE;
    return state < 0 ? opencl_check_done(device, state, "a queued command") : TSR_OK;
}

tsr_status opencl_event_sync(hal_event *base)
{
    opencl_device *device = (opencl_device *)base->device;
    uint32_t slot;
    uint64_t queue_id;
    tsr_status status = opencl_alive(device);
    if (status)
        return status;
    const cl_event event = retained((opencl_event *)base, &slot, &queue_id);
    if (!event)
        return TSR_OK;
    status = flush_recorder(device, slot, queue_id);
    if (!status) {
        const cl_int error = cl.clWaitForEvents(1, &event);
        const cl_int state =
            state_of(event); /* tells more than the wait's error, which only says that some event failed */
        status = opencl_check_done(device, state < 0 ? state : error, "a queued command");
    }
    cl.clReleaseEvent(event);
    return status;
}

tsr_status opencl_event_elapsed(hal_event *from, hal_event *to, double *milliseconds)
{
    opencl_device *device = (opencl_device *)from->device;
    tsr_status status = opencl_alive(device);
    if (status)
        return status;
    cl_ulong time[2] = {0, 0};
    hal_event *const ends[2] = {from, to};
    for (int i = 0; i < 2 && !status; i++) {
        uint32_t slot;
        uint64_t queue_id;
        const cl_event event = retained((opencl_event *)ends[i], &slot, &queue_id);
        if (!event)
            return fail(TSR_INVALID_ARGUMENT, "the time of an event that was never recorded was asked for");
        status = opencl_check(
            device, cl.clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_END, sizeof time[i], &time[i], NULL),
            "the time of an event");
        cl.clReleaseEvent(event);
    }
    if (!status)
        *milliseconds = ((double)time[1] - (double)time[0]) * 1e-6;
    return status;
}

tsr_status opencl_queue_wait(hal_queue *base, hal_event *base_event)
{
    opencl_queue *queue = (opencl_queue *)base;
    opencl_device *device = (opencl_device *)base->device;
    uint32_t slot;
    uint64_t queue_id;
    tsr_status status = opencl_alive(device);
    if (status)
        return status;
    const cl_event event = retained((opencl_event *)base_event, &slot, &queue_id);
    if (!event)
        return TSR_OK;
    if (queue_id != queue->id) { /* one queue is in order anyway */
        status = flush_recorder(device, slot, queue_id);
        if (!status)
            status = opencl_check(device, cl.clEnqueueBarrierWithWaitList(queue->handle, 1, &event, NULL),
                                  "making a queue wait for another");
    }
    cl.clReleaseEvent(event);
    return status;
}
