/* What the files of the CUDA backend share.
 *
 * Contexts: the backend works in the device's primary context, the one that programs built on the CUDA runtime (and
 * cuBLASLt) use too, and leaves the thread's current context as it found it: every entry pushes it and pops it. */
#ifndef TESSERA_CUDA_BACKEND_H
#define TESSERA_CUDA_BACKEND_H

#include "cuda_api.h"

#include "base/compiler.h"
#include "base/thread.h"
#include "hal/hal.h"

#include <stdatomic.h>

typedef struct cuda_queue cuda_queue;
typedef struct cuda_gemm_state cuda_gemm_state;

typedef struct cuda_device {
    hal_device base;
    const cuda_api *api;
    cu_device handle;
    cu_context context;
    int arch; /* 90 for compute capability 9.0 */

    atomic_bool lost;
    mutex lock;            /* guards what follows */
    char loss[256];        /* why it is lost, a clause */
    cuda_queue *queues;    /* those alive */
    cuda_gemm_state *gemm; /* made at the first product */
} cuda_device;

enum { STAGING_BLOCKS = 8, STAGING_BLOCK_BYTES = 1 << 20 };

/* Pinned memory through which writes go, so that the caller's memory is free when write returns and the copy still is
 * asynchronous. Writes fill a block one behind the other; when it is full its event is recorded, and before it is
 * filled again that event is waited for. */
typedef struct cuda_staging {
    uint8_t *memory; /* STAGING_BLOCKS blocks; NULL until the first write */
    cu_event free[STAGING_BLOCKS];
    unsigned block; /* being filled */
    size_t used;    /* of it */
} cuda_staging;

struct cuda_queue {
    hal_queue base;
    cu_stream stream;
    cuda_staging staging;
    cu_deviceptr workspace; /* cuBLASLt's; 0 until the first product */
    size_t workspace_bytes;
    cu_deviceptr accumulator; /* of 16-bit products that are summed; grows */
    size_t accumulator_bytes;
    cuda_queue *next;
};

typedef struct cuda_buffer {
    hal_buffer base;
    cu_deviceptr address; /* of host memory too: one address space */
    void *host;           /* HAL_MEMORY_HOST */
} cuda_buffer;

typedef struct cuda_kernel {
    hal_kernel base;
    cu_module module;
    cu_function function;
    char key[64]; /* for messages */
} cuda_kernel;

typedef struct cuda_event {
    hal_event base;
    cu_event event;
} cuda_event;

static inline cuda_device *cuda_device_of(hal_device *device)
{
    return (cuda_device *)device;
}

/* Makes the device's context current for this thread. On TSR_OK the caller ends with cuda_leave; a lost device gives
 * TSR_DEVICE_LOST. */
tsr_status cuda_enter(cuda_device *device);
void cuda_leave(cuda_device *device);

/* For destroying: works on a lost device too. False if the driver has no such context any more: what lived in it is gone. */
bool cuda_enter_to_destroy(cuda_device *device);

/* TSR_OK for CU_OK; else fails with "WHAT on DEVICE: CUDA_ERROR_…", as TSR_DEVICE_LOST (and from now on) if the result means
 * that, TSR_OUT_OF_DEVICE_MEMORY or TSR_DRIVER_ERROR. */
tsr_status cuda_check(cuda_device *device, cu_result result, const char *what, ...) PRINTF_LIKE(3, 4);

/* Waits for all queues: before memory or code goes that they may still use. */
void cuda_wait_all(cuda_device *device);

/* Asynchronous; captures `source`. */
tsr_status cuda_staging_write(cuda_queue *queue, cu_deviceptr to, const void *source, size_t size);
void cuda_staging_free(cuda_queue *queue);

/* Loads an image of cuda_compile and finds its function. */
tsr_status cuda_module_load(cuda_device *device, const hal_kernel_desc *desc, cu_module *module, cu_function *function);

void cuda_gemm_queue_free(cuda_queue *queue);
void cuda_gemm_free(cuda_device *device);

/* The table's entries, one file a noun. */
tsr_status cuda_enumerate(uint32_t *count, char *why, size_t why_size);
tsr_status cuda_info(uint32_t index, hal_device_info *info);
tsr_status cuda_open(uint32_t index, hal_device **device);
void cuda_close(hal_device *device);
tsr_status cuda_device_status(hal_device *device);
void cuda_lose(hal_device *device);

tsr_status cuda_queue_create(hal_device *device, hal_queue_kind kind, hal_queue **queue);
void cuda_queue_destroy(hal_queue *queue);
tsr_status cuda_queue_wait(hal_queue *queue, hal_event *event);
tsr_status cuda_flush(hal_queue *queue);
tsr_status cuda_sync(hal_queue *queue);

tsr_status cuda_buffer_alloc(hal_device *device, hal_memory memory, size_t size, hal_buffer **buffer);
void cuda_buffer_free(hal_buffer *buffer);
void *cuda_buffer_map(hal_buffer *buffer);
tsr_status cuda_write(hal_queue *queue, hal_buffer *buffer, size_t offset, const void *source, size_t size);
tsr_status cuda_copy(hal_queue *queue, hal_buffer *from, size_t from_offset, hal_buffer *to, size_t to_offset,
                     size_t size);
tsr_status cuda_fill(hal_queue *queue, hal_buffer *buffer, size_t offset, size_t size, uint32_t pattern);

tsr_status cuda_kernel_create(hal_device *device, const hal_kernel_desc *desc, hal_kernel **kernel);
void cuda_kernel_destroy(hal_kernel *kernel);
tsr_status cuda_launch(hal_queue *queue, const hal_launch *launch);

tsr_status cuda_event_create(hal_device *device, hal_event **event);
void cuda_event_destroy(hal_event *event);
tsr_status cuda_event_record(hal_queue *queue, hal_event *event);
tsr_status cuda_event_query(hal_event *event, bool *done);
tsr_status cuda_event_sync(hal_event *event);
tsr_status cuda_event_elapsed(hal_event *from, hal_event *to, double *milliseconds);

tsr_status cuda_gemm(hal_queue *queue, const hal_gemm *gemm);
const char *cuda_gemm_route(hal_device *device);

#endif
