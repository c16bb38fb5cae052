/* Queues. All are in-order; OpenCL has no other kind for copies. */
#include "opencl_backend.h"

#include "base/error.h"
#include "base/memory.h"

tsr_status opencl_queue_create(hal_device *base, hal_queue_kind kind, hal_queue **created)
{
    opencl_device *device = (opencl_device *)base;
    tsr_status status = opencl_alive(device);
    if (status)
        return status;
    opencl_queue *queue = host_alloc_zeroed(1, sizeof *queue);
    if (!queue)
        return TSR_OUT_OF_MEMORY;
    queue->base = (hal_queue){.device = base, .kind = kind};
    queue->id = atomic_fetch_add(&device->next_id, 1) + 1;

    /* Profiling gives events their times. */
    cl_int error;
    queue->handle = cl.clCreateCommandQueue(device->context, device->id, CL_QUEUE_PROFILING_ENABLE, &error);
    status = opencl_check(device, error, "creating a queue");
    if (status) {
        host_free(queue);
        return status;
    }

    mutex_lock(&device->lock);
    while (queue->slot < OPENCL_MAX_QUEUES && device->queues[queue->slot])
        queue->slot++;
    if (queue->slot < OPENCL_MAX_QUEUES)
        device->queues[queue->slot] = queue;
    mutex_unlock(&device->lock);
    if (queue->slot == OPENCL_MAX_QUEUES) {
        cl.clReleaseCommandQueue(queue->handle);
        host_free(queue);
        return fail(TSR_UNSUPPORTED, "an OpenCL device has at most %d queues at a time", OPENCL_MAX_QUEUES);
    }
    *created = &queue->base;
    return TSR_OK;
}

void opencl_queue_destroy(hal_queue *base)
{
    opencl_queue *queue = (opencl_queue *)base;
    opencl_device *device = (opencl_device *)base->device;
    const cl_int error = cl.clFinish(queue->handle);
    if (error)
        opencl_check_done(device, error, "finishing a queue");
    mutex_lock(&device->lock);
    device->queues[queue->slot] = NULL; /* from now on events and host memory know that its work is done */
    mutex_unlock(&device->lock);
    opencl_staging_free(queue);
    cl.clReleaseCommandQueue(queue->handle);
    host_free(queue);
    opencl_dig(device, false);
}

tsr_status opencl_flush(hal_queue *base)
{
    opencl_device *device = (opencl_device *)base->device;
    const tsr_status status = opencl_alive(device);
    if (status)
        return status;
    return opencl_check_done(device, cl.clFlush(((opencl_queue *)base)->handle), "flushing a queue");
}

tsr_status opencl_sync(hal_queue *base)
{
    opencl_device *device = (opencl_device *)base->device;
    const tsr_status status = opencl_alive(device);
    if (status)
        return status;
    return opencl_check_done(device, cl.clFinish(((opencl_queue *)base)->handle), "waiting for a queue");
}
