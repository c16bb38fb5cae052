/* The backend interface.
 *
 * A backend fills one hal_backend table; the front functions hal_*() in hal.c check arguments once, so that a
 * backend's entry can rely on them, and are the only callers of the table.
 *
 * Life: enumerate → open → (queue_create, buffer_alloc, kernel_create) → write, copy, fill, launch, event_record … →
 * event_sync → read through mapped memory → destroy what was created → close.
 *
 * Ownership: every object belongs to the device that made it and is destroyed before hal_device_close. The front
 * counts them and refuses to close a device that still has some. A buffer or kernel may be destroyed while
 * work that uses it is queued: the backend keeps what the driver needs until that work is done.
 *
 * Threads: one device may be used from several threads; the front serialises the calls that name a queue (a mutex for
 * each), the backend guards what its queues share. event_query, event_sync and event_elapsed name no queue: they may come
 * while another thread submits to the queue that the event was recorded on.
 *
 * Order: a queue executes in order, and the effects of each command are visible to the next. Between queues order
 * comes from events only. Commands are asynchronous; `flush` starts what is batched, `sync` waits.
 *
 * Errors: a status with fail()'s sentence. A lost device returns TSR_DEVICE_LOST from every later call; destroy and
 * close still work. */
#ifndef TESSERA_HAL_H
#define TESSERA_HAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fault.h"
#include "tessera/status.h"

#define HAL_MAX_BINDINGS 8
#define HAL_MAX_PARAMS   112 /* bytes: Vulkan's smallest push-constant block (128) less the packed binding offsets (16) */

typedef struct hal_backend hal_backend;
typedef struct hal_device hal_device;
typedef struct hal_queue hal_queue;
typedef struct hal_buffer hal_buffer;
typedef struct hal_kernel hal_kernel;
typedef struct hal_event hal_event;

/* ---- what a device is ------------------------------------------------------------------------------------------ */

/* What kernels it wants: variants are chosen by this, never by a backend's name. */
typedef enum hal_device_class {
    HAL_CLASS_GPU, /* work-groups, shared memory, coalesced loads */
    HAL_CLASS_CPU  /* work-group of one or of the sub-group's size, explicit vectors, no staging */
} hal_device_class;

/* The form in which a device takes a kernel. */
typedef enum hal_code {
    HAL_CODE_NATIVE, /* a C function of this process */
    HAL_CODE_SOURCE, /* dialect text; the backend puts its prelude before it */
    HAL_CODE_SPIRV
} hal_code;

/* What a kernel can need beyond f32 and 32-bit integers. */
typedef enum hal_feature {
    HAL_FEATURE_STORAGE_16 = 1 << 0, /* 16-bit loads and stores */
    HAL_FEATURE_STORAGE_8 = 1 << 1,
    HAL_FEATURE_INT64 = 1 << 2,
    HAL_FEATURE_FLOAT64 = 1 << 3
} hal_feature;

typedef struct hal_device_info {
    char name[128]; /* "llvmpipe (LLVM 15.0.6, 256 bits)" */
    char vendor[64];
    char driver[128]; /* name and version of the driver */
    char uuid[40];    /* lower-case hexadecimal, stable between runs; need not be unique: "" if unknown */
    bool software;    /* the driver runs on the CPU */
    hal_device_class device_class;
    hal_code code;
    uint32_t features; /* hal_feature bits */
    uint64_t memory_bytes;
    uint64_t max_buffer_bytes;  /* largest single allocation */
    uint64_t max_binding_bytes; /* largest range that a kernel can address through one binding */
    uint32_t binding_alignment; /* bytes: offsets of bindings that a kernel can take. Backends hide stricter needs. */
    uint32_t max_group_size;    /* work-items of a work-group */
    uint32_t shared_bytes;      /* work-group memory */
    uint32_t subgroup_size;     /* 0 if there are none */
    uint32_t compute_units;
    bool unified_memory;        /* host and device share memory */
    bool copies_apart;          /* what a copy queue does can overlap what a compute queue does */
    uint32_t gemm_vector_bytes; /* of a processor's gemm route: the vectors it computes with; 0 if unknown */
    char notes[256];            /* what a person should know: quirks worked around, features missing; "" if none */
} hal_device_info;

/* ---- descriptors: zeroed ones are valid ------------------------------------------------------------------------- */

typedef enum hal_queue_kind { HAL_QUEUE_COMPUTE, HAL_QUEUE_COPY } hal_queue_kind;

typedef enum hal_memory {
    HAL_MEMORY_DEVICE,
    HAL_MEMORY_HOST /* pinned host memory, mapped for the buffer's whole life; for copies, not for kernels */
} hal_memory;

typedef enum hal_access { HAL_READ = 1, HAL_WRITE = 2, HAL_READ_WRITE = 3 } hal_access;

/* A C kernel: runs work-groups first … first + count - 1 of the grid in x-fastest order. Bindings already point at
 * their offsets. Re-entrant: several threads run parts of one grid. */
typedef void hal_native_fn(void *const *bindings, const void *params, const uint32_t grid[3], uint64_t first,
                           uint64_t count);

typedef struct hal_kernel_desc {
    const char *key;   /* "softmax/f32", unique with `variant`; for messages and cache names */
    const char *entry; /* function in the source: "softmax"; SPIR-V's is "main" */
    const char *variant;
    hal_code code;
    hal_native_fn *native;     /* HAL_CODE_NATIVE */
    const char *const *source; /* HAL_CODE_SOURCE: pieces of text in order, after the prelude */
    size_t source_count;
    const uint32_t *spirv; /* HAL_CODE_SPIRV */
    size_t spirv_bytes;
    uint32_t group_size; /* WG as compiled into this form */
    uint32_t params_bytes;
    uint32_t binding_count;
    uint8_t access[HAL_MAX_BINDINGS];        /* hal_access */
    uint8_t element_bytes[HAL_MAX_BINDINGS]; /* size of the binding's storage type: offsets are multiples of it */
} hal_kernel_desc;

typedef struct hal_binding {
    hal_buffer *buffer;
    size_t offset; /* bytes, a multiple of the slot's element size */
    size_t length; /* bytes that the kernel may touch, from offset; > 0 */
} hal_binding;

typedef struct hal_launch {
    hal_kernel *kernel;
    uint32_t grid[3]; /* work-groups; each ≥ 1 (x < 2^31, y and z < 65536) */
    const hal_binding *bindings;
    uint32_t binding_count;
    const void *params;
    uint32_t params_bytes;
} hal_launch;

/* C[b] = alpha * sum_r op(A[b, r]) op(B[b, r]) + beta * C[b], row-major, accumulated in f32 (f64 for f64).
 * With transpose_a, A is stored [k, m], else [m, k]; with transpose_b, B is stored [n, k], else [k, n].
 * Strides between batches and between the summed products are in elements; 0 repeats an operand. */
typedef struct hal_gemm {
    uint32_t dtype; /* tsr_dtype of A, B and C */
    bool transpose_a, transpose_b;
    int64_t m, n, k;
    int64_t lda, ldb, ldc;
    int64_t batch, batch_stride_a, batch_stride_b, batch_stride_c;
    int64_t reduce, reduce_stride_a, reduce_stride_b; /* ≥ 1 products summed into one C */
    float alpha, beta;
    hal_binding a, b, c;
} hal_gemm;

/* ---- the table ------------------------------------------------------------------------------------------------- */

struct hal_backend {
    const char *name; /* lower case, the device strings' first part */
    bool for_tests;   /* nobody misses it */

    /* Number of devices of this backend now; 0 with TSR_OK where the driver is absent, and then `why` (≥ 256 bytes) gets a
     * sentence that says what is missing and the remedy. Opens nothing that lasts. Idempotent. */
    tsr_status (*enumerate)(uint32_t *count, char *why, size_t why_size);
    /* Information without opening the device, as far as it can be had. */
    tsr_status (*info)(uint32_t index, hal_device_info *info);
    tsr_status (*open)(uint32_t index, hal_device **device);
    void (*close)(hal_device *device);

    tsr_status (*queue_create)(hal_device *device, hal_queue_kind kind, hal_queue **queue);
    void (*queue_destroy)(hal_queue *queue); /* waits for its work */

    tsr_status (*buffer_alloc)(hal_device *device, hal_memory memory, size_t size, hal_buffer **buffer);
    void (*buffer_free)(hal_buffer *buffer);
    void *(*buffer_map)(hal_buffer *buffer); /* HAL_MEMORY_HOST: its address; the same each time */

    /* `source` may be changed when write returns. */
    tsr_status (*write)(hal_queue *queue, hal_buffer *buffer, size_t offset, const void *source, size_t size);
    /* Between any two memories of one device. A host buffer's bytes may be looked at after an event recorded behind the copy
     * is done, and changed after an event behind the copy that reads them. */
    tsr_status (*copy)(hal_queue *queue, hal_buffer *from, size_t from_offset, hal_buffer *to, size_t to_offset,
                       size_t size);
    /* Offset and size are multiples of 4. */
    tsr_status (*fill)(hal_queue *queue, hal_buffer *buffer, size_t offset, size_t size, uint32_t pattern);

    tsr_status (*kernel_create)(hal_device *device, const hal_kernel_desc *desc, hal_kernel **kernel);
    void (*kernel_destroy)(hal_kernel *kernel);
    tsr_status (*launch)(hal_queue *queue, const hal_launch *launch);

    tsr_status (*event_create)(hal_device *device, hal_event **event);
    void (*event_destroy)(hal_event *event);
    tsr_status (*event_record)(hal_queue *queue, hal_event *event); /* recording again replaces */
    tsr_status (*event_query)(hal_event *event, bool *done);        /* true for one never recorded */
    tsr_status (*event_sync)(hal_event *event);                     /* flushes the queue it was recorded on */
    /* Milliseconds on the device between two recorded, finished events. */
    tsr_status (*event_elapsed)(hal_event *from, hal_event *to, double *milliseconds);
    tsr_status (*queue_wait)(hal_queue *queue, hal_event *event); /* later commands wait for it; the host does not */

    tsr_status (*flush)(hal_queue *queue);
    tsr_status (*sync)(hal_queue *queue);
    tsr_status (*device_status)(hal_device *device); /* TSR_OK or TSR_DEVICE_LOST, sticky */

    /* ---- optional: NULL means that the generic path is used --------------------------------------------------- */

    /* A vendor's product. TSR_UNSUPPORTED (without a message) hands the call to the generic kernel. */
    tsr_status (*gemm)(hal_queue *queue, const hal_gemm *gemm);
    /* The name of the gemm route as people know it ("OpenBLAS 0.3.21 (SkylakeX)"); NULL if the route is absent. */
    const char *(*gemm_route)(hal_device *device);
    /* Tests: makes the device behave as lost from now on. */
    void (*lose)(hal_device *device);
};

/* Every backend's own structures begin with these, which the front fills and reads. */
struct hal_device {
    const hal_backend *backend;
    uint32_t index;
    hal_device_info info;    /* complete after open */
    struct hal_front *front; /* the front's own counters and locks */
};
struct hal_queue {
    hal_device *device;
    hal_queue_kind kind;
    void *front;
};
struct hal_buffer {
    hal_device *device;
    hal_memory memory;
    size_t size;
};
struct hal_kernel {
    hal_device *device;
    char key[64]; /* for people; cut where it is longer */
    uint32_t params_bytes, binding_count, group_size;
    uint8_t access[HAL_MAX_BINDINGS], element_bytes[HAL_MAX_BINDINGS];
};
struct hal_event {
    hal_device *device;
    bool recorded;
};

/* Required entries, for `#define FILL(entry) .entry = vulkan_##entry,`: a missing function does not compile. */
#define HAL_ENTRIES(X)                                                                                                 \
    X(enumerate)                                                                                                       \
    X(info)                                                                                                            \
    X(open)                                                                                                            \
    X(close)                                                                                                           \
    X(queue_create)                                                                                                    \
    X(queue_destroy)                                                                                                   \
    X(buffer_alloc)                                                                                                    \
    X(buffer_free)                                                                                                     \
    X(buffer_map)                                                                                                      \
    X(write)                                                                                                           \
    X(copy)                                                                                                            \
    X(fill)                                                                                                            \
    X(kernel_create)                                                                                                   \
    X(kernel_destroy)                                                                                                  \
    X(launch)                                                                                                          \
    X(event_create)                                                                                                    \
    X(event_destroy)                                                                                                   \
    X(event_record) X(event_query) X(event_sync) X(event_elapsed) X(queue_wait) X(flush) X(sync) X(device_status)

/* ---- the registry ---------------------------------------------------------------------------------------------- */

/* Ends with NULL; in the order in which `tessera devices` lists them. Defined in backends/backends.c. */
extern const hal_backend *const hal_backends[];

/* ---- the front: checked calls, one for each entry, the same names ------------------------------------------------ */

tsr_status hal_device_open(const hal_backend *backend, uint32_t index, hal_device **device);
tsr_status hal_device_close(hal_device *device); /* TSR_INVALID_ARGUMENT, naming what is still alive, if anything is */
tsr_status hal_device_status(hal_device *device);
const char *hal_device_id(const hal_device *device);   /* "vulkan:0", for messages; lives as long as the device */
const char *hal_device_gemm_route(hal_device *device); /* NULL where products take the generic kernel */
/* For tests: the device is lost from now on. TSR_UNSUPPORTED where the backend cannot pretend so. */
tsr_status hal_device_lose(hal_device *device);

tsr_status hal_queue_create(hal_device *device, hal_queue_kind kind, hal_queue **queue);
void hal_queue_destroy(hal_queue *queue);

/* A size of 0 gives a buffer of no bytes. Host memory takes part in copies only; its bytes are reached by map. */
tsr_status hal_buffer_alloc(hal_device *device, hal_memory memory, size_t size, hal_buffer **buffer);
extern fault hal_buffer_fault; /* for tests: calls of every device */
void hal_buffer_free(hal_buffer *buffer);
void *hal_buffer_map(hal_buffer *buffer);
tsr_status hal_buffer_write(hal_queue *queue, hal_buffer *buffer, size_t offset, const void *source, size_t size);
/* Waits. Through a staging buffer that the queue keeps for this. */
tsr_status hal_buffer_read(hal_queue *queue, hal_buffer *buffer, size_t offset, void *target, size_t size);
tsr_status hal_buffer_copy(hal_queue *queue, hal_buffer *from, size_t from_offset, hal_buffer *to, size_t to_offset,
                           size_t size);
tsr_status hal_buffer_fill(hal_queue *queue, hal_buffer *buffer, size_t offset, size_t size, uint32_t pattern);

tsr_status hal_kernel_create(hal_device *device, const hal_kernel_desc *desc, hal_kernel **kernel);
void hal_kernel_destroy(hal_kernel *kernel);
tsr_status hal_kernel_launch(hal_queue *queue, const hal_launch *launch);
/* TSR_UNSUPPORTED where the backend has no such route for this product. */
tsr_status hal_gemm_run(hal_queue *queue, const hal_gemm *gemm);

tsr_status hal_event_create(hal_device *device, hal_event **event);
void hal_event_destroy(hal_event *event);
tsr_status hal_event_record(hal_queue *queue, hal_event *event);
tsr_status hal_event_query(hal_event *event, bool *done);
tsr_status hal_event_sync(hal_event *event);
tsr_status hal_event_elapsed(hal_event *from, hal_event *to, double *milliseconds);
tsr_status hal_queue_wait(hal_queue *queue, hal_event *event);
tsr_status hal_queue_flush(hal_queue *queue);
tsr_status hal_queue_sync(hal_queue *queue);

/* What a device did since it was opened; never reset. */
typedef struct hal_counters {
    uint64_t allocations, frees;          /* driver calls for memory */
    uint64_t allocated_bytes, peak_bytes; /* now held, and at most held, from the driver */
    uint64_t kernels_created;
    uint64_t launches;
    uint64_t host_waits; /* calls that made the host wait for the device */
} hal_counters;
hal_counters hal_device_counters(const hal_device *device);

/* After profile_stop (base/profile.h): reads the times that queues still owe, waiting for them, and places them on the host's clock. */
void hal_profile_finish(void);

#endif
