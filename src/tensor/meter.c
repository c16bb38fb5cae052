/* Scalars on their way from the device to the host without a wait: a ring in device memory, its mirror in pinned memory, and an
 * event behind each batch of copies. */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "tensor/device.h"
#include "tensor/tensor.h"

enum { FLIGHTS = 16 }; /* batches under way at once */

typedef struct flight {
    hal_event *done;
    uint64_t end; /* values added before this number have arrived when it is done */
} flight;

struct tsr_meter {
    tsr_device *device;
    size_t capacity;
    memory_block *ring, *mirror;
    const float *arrived;
    /* running numbers; value i lies at i mod capacity. polled ≤ landed ≤ sent ≤ added */
    uint64_t added, sent, landed, polled;
    flight flights[FLIGHTS];
    uint64_t first_flight, next_flight;
};

tsr_meter *tsr_meter_create(tsr_device *device, size_t capacity)
{
    if (device == NULL)
        return NULL;
    if (capacity == 0 || capacity > (size_t)1 << 28) {
        fail(TSR_OUT_OF_RANGE, "a meter holds 1 to 2^28 values, not %zu", capacity);
        return NULL;
    }
    tsr_meter *m = host_alloc_zeroed(1, sizeof *m);
    if (m == NULL)
        return NULL;
    m->device = device_retain(device);
    m->capacity = capacity;
    const size_t bytes = capacity * sizeof(float);
    bool ok = allocator_alloc(device->memory, device->queue, bytes, &m->ring) == TSR_OK &&
              allocator_alloc(device->pinned, device->queue, bytes, &m->mirror) == TSR_OK;
    for (int i = 0; ok && i < FLIGHTS; i++)
        ok = hal_event_create(device->hal, &m->flights[i].done) == TSR_OK;
    if (ok && (m->arrived = memory_block_map(m->mirror)) != NULL)
        return m;
    tsr_meter_destroy(m);
    return NULL;
}

void tsr_meter_destroy(tsr_meter *m)
{
    if (m == NULL)
        return;
    for (int i = 0; i < FLIGHTS; i++)
        if (m->flights[i].done != NULL)
            hal_event_destroy(m->flights[i].done);
    allocator_free(m->device->memory, m->ring);
    allocator_free(m->device->pinned, m->mirror);
    tsr_device_close(m->device);
    host_free(m);
}

tsr_status tsr_meter_add(tsr_meter *m, tsr_tensor *value)
{
    if (m == NULL || value == NULL)
        return tsr_last_status() != TSR_OK ? tsr_last_status() : TSR_INVALID_ARGUMENT;
    if (value->numel != 1 || value->dtype != TSR_F32 || value->storage->device != m->device)
        return fail(TSR_INVALID_ARGUMENT, "a meter on %s takes one f32 value at a time, not %s", m->device->id,
                    tensor_text(value));
    if (m->added - m->polled == m->capacity)
        return fail(TSR_OUT_OF_RANGE, "the meter is full: %zu values were added and not polled", m->capacity);
    const hal_binding from = tensor_binding(value);
    const size_t slot = (size_t)(m->added % m->capacity) * sizeof(float);
    const tsr_status status = hal_buffer_copy(m->device->queue, from.buffer, from.offset, m->ring->buffer,
                                              m->ring->offset + slot, sizeof(float));
    m->added += status == TSR_OK;
    return status;
}

/* Values begin … end - 1 to the mirror: one copy, or two around the ring's end. */
static tsr_status send(tsr_meter *m, uint64_t begin, uint64_t end)
{
    while (begin < end) {
        const size_t slot = (size_t)(begin % m->capacity);
        const size_t n = (size_t)(end - begin) < m->capacity - slot ? (size_t)(end - begin) : m->capacity - slot;
        const tsr_status status =
            hal_buffer_copy(m->device->queue, m->ring->buffer, m->ring->offset + slot * sizeof(float),
                            m->mirror->buffer, m->mirror->offset + slot * sizeof(float), n * sizeof(float));
        if (status != TSR_OK)
            return status;
        begin += n;
    }
    return TSR_OK;
}

/* Notes which flights are done, waiting for at most one of them. */
static tsr_status land(tsr_meter *m, bool wait)
{
    while (m->first_flight < m->next_flight) {
        flight *f = &m->flights[m->first_flight % FLIGHTS];
        bool done = false;
        const tsr_status status = wait ? hal_event_sync(f->done) : hal_event_query(f->done, &done);
        if (status != TSR_OK)
            return status;
        if (!done && !wait)
            return TSR_OK;
        m->landed = f->end;
        m->first_flight++;
        wait = false;
    }
    return TSR_OK;
}

tsr_status tsr_meter_flush(tsr_meter *m)
{
    if (m == NULL)
        return TSR_INVALID_ARGUMENT;
    if (m->sent == m->added)
        return hal_queue_flush(m->device->queue);
    tsr_status status = land(m, m->next_flight - m->first_flight == FLIGHTS);
    if (status == TSR_OK)
        status = send(m, m->sent, m->added);
    flight *f = &m->flights[m->next_flight % FLIGHTS];
    if (status == TSR_OK)
        status = hal_event_record(m->device->queue, f->done);
    if (status == TSR_OK) {
        f->end = m->sent = m->added;
        m->next_flight++;
        status = hal_queue_flush(m->device->queue);
    }
    return status;
}

size_t tsr_meter_poll(tsr_meter *m, float *values, size_t capacity)
{
    size_t n = 0;
    if (m == NULL)
        return 0;
    land(m, false); /* an error shows in the next flush or drain */
    while (n < capacity && m->polled < m->landed)
        values[n++] = m->arrived[m->polled++ % m->capacity];
    return n;
}

tsr_status tsr_meter_drain(tsr_meter *m)
{
    tsr_status status = tsr_meter_flush(m);
    while (status == TSR_OK && m->first_flight < m->next_flight)
        status = land(m, true);
    return status;
}
