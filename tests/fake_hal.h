/* A backend for tests, which does only what the test says: how many devices there are, what memory it gives, when its
 * events are done. Commands are counted, not carried out. */
#ifndef TESSERA_TESTS_FAKE_HAL_H
#define TESSERA_TESTS_FAKE_HAL_H

#include "base/error.h"
#include "hal/hal.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct fake_queue {
    hal_queue base;
    uint64_t submitted, completed; /* an event is done when `completed` reached what was submitted before it */
} fake_queue;

typedef struct fake_event {
    hal_event base;
    fake_queue *queue;
    uint64_t place;
} fake_event;

static struct fake_state {
    uint32_t device_count;
    const char *why; /* no device */
    const char *uuids[4];
    uint64_t memory, held, max_buffer; /* the driver refuses beyond `memory` */
    tsr_status next;                   /* what the next calls return; TSR_OK: work as usual */
    unsigned enumerated, allocs, frees, syncs, records, commands, destroyed;
    bool lost;
} fake;

static void fake_reset(void)
{
    fake = (struct fake_state){.device_count = 1, .memory = UINT64_C(1) << 40, .max_buffer = UINT64_C(1) << 36};
}

static tsr_status fake_verdict(void)
{
    if (fake.lost)
        return fail(TSR_DEVICE_LOST, "the fake device is lost");
    return fake.next == TSR_OK ? TSR_OK : fail(fake.next, "the fake driver refuses");
}

static tsr_status fake_enumerate(uint32_t *count, char *why, size_t size)
{
    fake.enumerated++;
    *count = fake.device_count;
    snprintf(why, size, "%s", fake.device_count == 0 && fake.why != NULL ? fake.why : "");
    return TSR_OK;
}

static tsr_status fake_info(uint32_t index, hal_device_info *info)
{
    *info = (hal_device_info){.code = HAL_CODE_SOURCE,
                              .max_buffer_bytes = fake.max_buffer,
                              .max_binding_bytes = 1 << 20,
                              .max_group_size = 256,
                              .binding_alignment = 1,
                              .memory_bytes = fake.memory};
    snprintf(info->name, sizeof info->name, "Fake %u", (unsigned)index);
    if (index < 4 && fake.uuids[index] != NULL)
        snprintf(info->uuid, sizeof info->uuid, "%s", fake.uuids[index]);
    return TSR_OK;
}

static tsr_status fake_open(uint32_t index, hal_device **device)
{
    *device = calloc(1, sizeof **device);
    return fake_info(index, &(*device)->info);
}

static void fake_close(hal_device *device)
{
    free(device);
}

static tsr_status fake_queue_create(hal_device *device, hal_queue_kind kind, hal_queue **queue)
{
    (void)device, (void)kind;
    if (fake_verdict() != TSR_OK)
        return tsr_last_status();
    *queue = calloc(1, sizeof(fake_queue));
    return TSR_OK;
}

static void fake_queue_destroy(hal_queue *queue)
{
    fake.destroyed++;
    free(queue);
}

static tsr_status fake_buffer_alloc(hal_device *device, hal_memory memory, size_t size, hal_buffer **buffer)
{
    (void)device;
    if (fake_verdict() != TSR_OK)
        return tsr_last_status();
    if (size > fake.memory - fake.held)
        return fail(TSR_OUT_OF_DEVICE_MEMORY, "the fake driver has no %zu bytes", size);
    fake.held += size;
    fake.allocs++;
    /* Host memory is real; device memory is only counted, so that tests may have terabytes of it. */
    *buffer = calloc(1, sizeof **buffer + 16 + (memory == HAL_MEMORY_HOST ? size : 0));
    memcpy((char *)*buffer + sizeof **buffer, &size, sizeof size);
    return TSR_OK;
}

static void fake_buffer_free(hal_buffer *buffer)
{
    size_t size;
    memcpy(&size, (char *)buffer + sizeof *buffer, sizeof size);
    fake.held -= size;
    fake.frees++;
    free(buffer);
}

static void *fake_buffer_map(hal_buffer *buffer)
{
    return (char *)buffer + sizeof *buffer + 16;
}

static tsr_status fake_command(hal_queue *queue)
{
    ((fake_queue *)queue)->submitted++;
    fake.commands++;
    return fake_verdict();
}

static tsr_status fake_write(hal_queue *queue, hal_buffer *buffer, size_t offset, const void *source, size_t size)
{
    (void)buffer, (void)offset, (void)source, (void)size;
    return fake_command(queue);
}

static tsr_status fake_copy(hal_queue *queue, hal_buffer *from, size_t from_offset, hal_buffer *to, size_t to_offset,
                            size_t size)
{
    (void)from, (void)from_offset, (void)to, (void)to_offset, (void)size;
    return fake_command(queue);
}

static tsr_status fake_fill(hal_queue *queue, hal_buffer *buffer, size_t offset, size_t size, uint32_t pattern)
{
    (void)buffer, (void)offset, (void)size, (void)pattern;
    return fake_command(queue);
}

static tsr_status fake_kernel_create(hal_device *device, const hal_kernel_desc *desc, hal_kernel **kernel)
{
    (void)device, (void)desc;
    if (fake_verdict() != TSR_OK)
        return tsr_last_status();
    *kernel = calloc(1, sizeof **kernel);
    return TSR_OK;
}

static void fake_kernel_destroy(hal_kernel *kernel)
{
    free(kernel);
}

static tsr_status fake_launch(hal_queue *queue, const hal_launch *launch)
{
    (void)launch;
    return fake_command(queue);
}

static tsr_status fake_event_create(hal_device *device, hal_event **event)
{
    (void)device;
    if (fake_verdict() != TSR_OK)
        return tsr_last_status();
    *event = calloc(1, sizeof(fake_event));
    return TSR_OK;
}

static void fake_event_destroy(hal_event *event)
{
    free(event);
}

static tsr_status fake_event_record(hal_queue *queue, hal_event *event)
{
    fake_queue *q = (fake_queue *)queue;
    fake.records++;
    *(fake_event *)event = (fake_event){.base = *event, .queue = q, .place = ++q->submitted};
    return fake_verdict();
}

static tsr_status fake_event_query(hal_event *event, bool *done)
{
    const fake_event *e = (const fake_event *)event;
    *done = e->queue == NULL || e->queue->completed >= e->place;
    return fake_verdict();
}

static tsr_status fake_event_sync(hal_event *event)
{
    const fake_event *e = (const fake_event *)event;
    fake.syncs++;
    if (e->queue->completed < e->place)
        e->queue->completed = e->place;
    return fake_verdict();
}

static tsr_status fake_event_elapsed(hal_event *from, hal_event *to, double *milliseconds)
{
    *milliseconds = (double)(((fake_event *)to)->place - ((fake_event *)from)->place);
    return fake_verdict();
}

static tsr_status fake_queue_wait(hal_queue *queue, hal_event *event)
{
    (void)event;
    return fake_command(queue);
}

static tsr_status fake_flush(hal_queue *queue)
{
    (void)queue;
    return fake_verdict();
}

static tsr_status fake_sync(hal_queue *queue)
{
    fake.syncs++;
    ((fake_queue *)queue)->completed = ((fake_queue *)queue)->submitted;
    return fake_verdict();
}

static tsr_status fake_device_status(hal_device *device)
{
    (void)device;
    return fake_verdict();
}

static void fake_lose(hal_device *device)
{
    (void)device;
    fake.lost = true;
}

/* Lets the device do all that the queue was given. */
static inline void fake_finish(hal_queue *queue)
{
    ((fake_queue *)queue)->completed = ((fake_queue *)queue)->submitted;
}

#define FAKE_FILL(entry) .entry = fake_##entry,
static const hal_backend fake_backend = {.name = "fake", HAL_ENTRIES(FAKE_FILL).lose = fake_lose};

#endif
