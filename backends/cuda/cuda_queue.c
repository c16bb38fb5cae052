/* Queues: one CUDA stream each. Streams do not synchronise with the default stream, so other code in the process that uses
 * it neither waits for us nor we for it. */
#include "cuda_backend.h"

#include "base/error.h"
#include "base/memory.h"

tsr_status cuda_queue_create(hal_device *device, hal_queue_kind kind, hal_queue **queue)
{
    cuda_device *d = cuda_device_of(device);
    tsr_status status = cuda_enter(d);
    cuda_queue *q;

    (void)kind; /* the copy engines serve any stream */
    if (status)
        return status;
    q = host_alloc_zeroed(1, sizeof *q);
    if (!q) {
        status = tsr_last_status();
    } else if ((status = cuda_check(d, d->api->stream_create(&q->stream, CU_STREAM_NONBLOCKING), "creating a queue"))) {
        host_free(q);
    } else {
        mutex_lock(&d->lock);
        q->next = d->queues;
        d->queues = q;
        mutex_unlock(&d->lock);
        *queue = &q->base;
    }
    cuda_leave(d);
    return status;
}

void cuda_queue_destroy(hal_queue *queue)
{
    cuda_queue *q = (cuda_queue *)queue;
    cuda_device *d = cuda_device_of(queue->device);

    mutex_lock(&d->lock);
    for (cuda_queue **at = &d->queues; *at; at = &(*at)->next)
        if (*at == q) {
            *at = q->next;
            break;
        }
    mutex_unlock(&d->lock);
    if (cuda_enter_to_destroy(d)) {
        d->api->stream_synchronize(q->stream);
        cuda_staging_free(q);
        cuda_gemm_queue_free(q);
        d->api->stream_destroy(q->stream);
        cuda_leave(d);
    }
    host_free(q);
}

void cuda_wait_all(cuda_device *d)
{
    mutex_lock(&d->lock); /* keeps the list; a queue that is destroyed meanwhile waits for itself */
    for (const cuda_queue *q = d->queues; q; q = q->next)
        d->api->stream_synchronize(q->stream);
    mutex_unlock(&d->lock);
}

tsr_status cuda_queue_wait(hal_queue *queue, hal_event *event)
{
    cuda_device *d = cuda_device_of(queue->device);
    tsr_status status = cuda_enter(d);

    if (status)
        return status;
    status = cuda_check(d, d->api->stream_wait_event(((cuda_queue *)queue)->stream, ((cuda_event *)event)->event, 0),
                        "making a queue wait for an event");
    cuda_leave(d);
    return status;
}

/* The driver starts each command as it comes; asking a stream for its state also makes a driver that batches (Windows)
 * hand on what it holds. */
tsr_status cuda_flush(hal_queue *queue)
{
    cuda_device *d = cuda_device_of(queue->device);
    tsr_status status = cuda_enter(d);
    cu_result result;

    if (status)
        return status;
    result = d->api->stream_query(((cuda_queue *)queue)->stream);
    status = cuda_check(d, result == CU_NOT_READY ? CU_OK : result, "flushing a queue");
    cuda_leave(d);
    return status;
}

tsr_status cuda_sync(hal_queue *queue)
{
    cuda_device *d = cuda_device_of(queue->device);
    tsr_status status = cuda_enter(d);

    if (status)
        return status;
    status = cuda_check(d, d->api->stream_synchronize(((cuda_queue *)queue)->stream), "waiting for a queue");
    cuda_leave(d);
    return status;
}
