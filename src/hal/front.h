/* What the front of the HAL keeps with a device and a queue; shared by hal.c, hal_buffer.c, hal_kernel.c and hal_profile.c only. */
#ifndef TESSERA_HAL_FRONT_H
#define TESSERA_HAL_FRONT_H

#include <stdatomic.h>

#include "base/error.h"
#include "base/profile.h"
#include "base/thread.h"
#include "hal/hal.h"

typedef struct profile_lane profile_lane;

struct hal_front {
    char id[32];
    atomic_bool lost; /* a call returned TSR_DEVICE_LOST: no later one reaches the backend, except those that destroy */
    atomic_long queues, buffers, kernels, events; /* alive */
    _Atomic uint64_t kernels_created, launches, host_waits;
    mutex lock;          /* guards `memory` */
    hal_counters memory; /* its fields about memory */
};

struct queue_front {
    mutex lock;         /* held while the backend is called with this queue */
    mutex staging_lock; /* held during a read; taken before `lock` */
    hal_buffer *staging;
    hal_event *staging_event;
    profile_lane *lane;            /* while a profile is under way */
    _Atomic uint32_t lane_session; /* the profile in which it got one, or could not */
};

static inline bool front_is_lost(const hal_device *device)
{
    return atomic_load_explicit(&device->front->lost, memory_order_relaxed);
}

/* The sentence for it. */
tsr_status front_lost(const hal_device *device);

/* Passes `status` through and remembers a loss. */
tsr_status front_note(hal_device *device, tsr_status status);

/* Around a call of the backend that names the queue: checks queue and device, and locks. */
tsr_status front_enter(hal_queue *queue);
tsr_status front_leave(hal_queue *queue, tsr_status status);

/* The same around a command, whose time a profile takes. `what`: a kernel's key, or a word for a copy; bytes: PROFILE_NO_NUMBER where there are none. */
tsr_status front_begin(hal_queue *queue, profile_kind kind, const char *what, uint64_t bytes);
tsr_status front_end(hal_queue *queue, tsr_status status);

/* hal_profile.c. Without the queue's lock: a lane, in a new profile; with it: before and behind a command of a queue that has a lane. */
void lane_prepare(hal_queue *queue);
void lane_before(hal_queue *queue, profile_kind kind, const char *what, uint64_t bytes);
void lane_after(hal_queue *queue, tsr_status status);
void lane_leave(hal_queue *queue); /* before the queue is destroyed */

/* The command was handed over; the queue's lock stays. */
static inline tsr_status front_done(hal_queue *queue, tsr_status status)
{
    if (UNLIKELY(((struct queue_front *)queue->front)->lane != NULL))
        lane_after(queue, status);
    return status;
}

static inline void front_count(_Atomic uint64_t *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/* Buffers that do not count as alive: the staging buffers of reads. */
tsr_status front_buffer_alloc(hal_device *device, hal_memory memory, size_t size, hal_buffer **buffer);
void front_buffer_free(hal_buffer *buffer);

#endif
