/* What the files of the OpenCL backend share. */
#ifndef TESSERA_OPENCL_BACKEND_H
#define TESSERA_OPENCL_BACKEND_H

#include "opencl_api.h"

#include "base/compiler.h"
#include "base/sha256.h"
#include "base/thread.h"
#include "hal/hal.h"

#include <stdatomic.h>

enum { OPENCL_MAX_QUEUES = 64 };

typedef struct opencl_queue opencl_queue;
typedef struct opencl_grave opencl_grave;

typedef struct opencl_device {
    hal_device base;
    cl_platform_id platform;
    cl_device_id id;
    cl_context context;
    cl_command_queue chores;        /* the backend's own small commands: making memory real, mapping it */
    bool plain_host_memory;         /* host memory needs no pinning: the device is the processor */
    bool driver_caches;             /* the driver keeps compiled programs on disk by itself */
    char options[128];              /* of every program */
    char identity[SHA256_HEX_SIZE]; /* hash of what a compiled program depends on besides its text */
    _Atomic uint64_t allocated;     /* bytes of device memory */
    _Atomic uint64_t next_id;       /* of buffers and queues: handles are reused by drivers, ids are not */

    mutex lock; /* guards what follows */
    opencl_queue *queues[OPENCL_MAX_QUEUES];
    opencl_grave *graves; /* host memory that queued commands still use */
    atomic_bool lost;
    char lost_reason[256]; /* written once, before `lost` */
} opencl_device;

/* Host memory from which writes are sent: filled one after another, reused when the marker behind its last write is done. */
typedef struct opencl_block {
    struct opencl_block *next;
    cl_mem pinned; /* NULL for plain memory */
    uint8_t *bytes;
    size_t used;
    cl_event done; /* NULL while it is being filled */
} opencl_block;

struct opencl_queue {
    hal_queue base;
    cl_command_queue handle;
    uint32_t slot; /* in the device's list */
    uint64_t id;
    opencl_block *filling;
    opencl_block *sent, *sent_last; /* in the order of their markers */
    uint32_t block_count;
};

typedef struct opencl_buffer {
    hal_buffer base;
    cl_mem memory; /* NULL for plain host memory */
    uint8_t *host; /* NULL for device memory */
    uint64_t id;
    size_t charged;           /* bytes counted in the device's `allocated` */
    _Atomic uint64_t used_by; /* host memory: bit s for a queue in slot s that was given a copy with it */
} opencl_buffer;

typedef struct opencl_event {
    hal_event base;
    mutex lock; /* an event may be asked while it is recorded again */
    cl_event handle;
    uint32_t slot;     /* of the queue it was recorded on … */
    uint64_t queue_id; /* … if that one is still alive */
} opencl_event;

/* TSR_OK for CL_SUCCESS, else a status with the sentence "<what>: <error>". What a driver reports only for a broken device
 * loses it. */
tsr_status opencl_check(opencl_device *device, cl_int error, const char *what, ...) PRINTF_LIKE(3, 4);

/* The same for what came out of waiting, where CL_OUT_OF_RESOURCES and an event's own error mean that commands failed. */
tsr_status opencl_check_done(opencl_device *device, cl_int error, const char *what);

/* TSR_OK or TSR_DEVICE_LOST with its sentence. First in every entry. */
tsr_status opencl_alive(opencl_device *device);
void opencl_mark_lost(opencl_device *device, const char *reason);

/* A marker behind all that the queue has; NULL where the driver refuses. */
cl_event opencl_marker(opencl_queue *queue);
bool opencl_event_is_done(cl_event event);

/* Pinned or plain host memory, as the device wants it. */
tsr_status opencl_host_memory(opencl_device *device, size_t size, cl_mem *pinned, uint8_t **bytes);
void opencl_host_memory_free(opencl_device *device, cl_mem pinned, uint8_t *bytes);

/* Frees host memory once the queues of `used_by` (bits of slots) have done what they have. */
void opencl_bury(opencl_device *device, cl_mem pinned, uint8_t *bytes, uint64_t used_by);
/* Frees what is no longer used; with `wait`, all of it. */
void opencl_dig(opencl_device *device, bool wait);

/* A queue's staging, freed after its last command. */
void opencl_staging_free(opencl_queue *queue);

/* The entries of the table; hal/hal.h says what each does. */
tsr_status opencl_enumerate(uint32_t *count, char *why, size_t why_size);
tsr_status opencl_info(uint32_t index, hal_device_info *info);
tsr_status opencl_open(uint32_t index, hal_device **device);
void opencl_close(hal_device *device);
tsr_status opencl_queue_create(hal_device *device, hal_queue_kind kind, hal_queue **queue);
void opencl_queue_destroy(hal_queue *queue);
tsr_status opencl_buffer_alloc(hal_device *device, hal_memory memory, size_t size, hal_buffer **buffer);
void opencl_buffer_free(hal_buffer *buffer);
void *opencl_buffer_map(hal_buffer *buffer);
tsr_status opencl_write(hal_queue *queue, hal_buffer *buffer, size_t offset, const void *source, size_t size);
tsr_status opencl_copy(hal_queue *queue, hal_buffer *from, size_t from_offset, hal_buffer *to, size_t to_offset,
                       size_t size);
tsr_status opencl_fill(hal_queue *queue, hal_buffer *buffer, size_t offset, size_t size, uint32_t pattern);
tsr_status opencl_kernel_create(hal_device *device, const hal_kernel_desc *desc, hal_kernel **kernel);
void opencl_kernel_destroy(hal_kernel *kernel);
tsr_status opencl_launch(hal_queue *queue, const hal_launch *launch);
tsr_status opencl_event_create(hal_device *device, hal_event **event);
void opencl_event_destroy(hal_event *event);
tsr_status opencl_event_record(hal_queue *queue, hal_event *event);
tsr_status opencl_event_query(hal_event *event, bool *done);
tsr_status opencl_event_sync(hal_event *event);
tsr_status opencl_event_elapsed(hal_event *from, hal_event *to, double *milliseconds);
tsr_status opencl_queue_wait(hal_queue *queue, hal_event *event);
tsr_status opencl_flush(hal_queue *queue);
tsr_status opencl_sync(hal_queue *queue);
tsr_status opencl_device_status(hal_device *device);

#endif
