/* The CPU device: work-groups on the threads of one pool, memory that is the host's. Always there. */
#ifndef TESSERA_BACKENDS_CPU_H
#define TESSERA_BACKENDS_CPU_H

#include <stdatomic.h>

#include "base/thread.h"
#include "hal/hal.h"

/* Bindings, panels and partial sums begin on a cache line, which is also the widest vector. */
enum { CPU_ALIGNMENT = 64 };

struct cpu_gemm;

typedef struct cpu_device {
    hal_device base;
    thread_pool *pool;
    struct cpu_gemm *gemm; /* NULL where there is no OpenBLAS */
    uint64_t memory_limit;
    _Atomic uint64_t memory_held;
    atomic_bool lost;
} cpu_device;

typedef struct cpu_queue {
    hal_queue base;
} cpu_queue;

typedef struct cpu_buffer {
    hal_buffer base;
    cpu_device *device;
    size_t bytes; /* as allocated */
    unsigned char *data;
} cpu_buffer;

typedef struct cpu_kernel {
    hal_kernel base;
    hal_native_fn *run;
} cpu_kernel;

typedef struct cpu_event {
    hal_event base;
    _Atomic uint64_t time_ns; /* commands are done when their call returns, so an event is a reading of the clock */
} cpu_event;

static inline cpu_device *cpu_device_of(const hal_queue *queue)
{
    return (cpu_device *)queue->device;
}

static inline void *cpu_address(const hal_binding *binding)
{
    return ((cpu_buffer *)binding->buffer)->data + binding->offset;
}

/* TSR_DEVICE_LOST with a sentence once a test made the device so. */
tsr_status cpu_check(cpu_device *device);

/* ---- cpu_host.c: what the operating system tells ---------------------------------------------------------------- */

void cpu_host_name(char *name, size_t size);
void cpu_host_vendor(char *vendor, size_t size);
/* Of the machine, or of the control group that the process lives in. */
uint64_t cpu_host_memory(void);
/* Asks for large pages under a large block. */
void cpu_host_prefer_huge_pages(void *address, size_t size);

/* ---- cpu_gemm.c ------------------------------------------------------------------------------------------------- */

/* NULL, without an error, where there is no OpenBLAS or no memory. */
struct cpu_gemm *cpu_gemm_create(thread_pool *pool);
void cpu_gemm_destroy(struct cpu_gemm *gemm);
tsr_status cpu_gemm(hal_queue *queue, const hal_gemm *gemm);
const char *cpu_gemm_route(hal_device *device);

/* ---- entries of the table that are not in cpu_device.c ---------------------------------------------------------- */

tsr_status cpu_write(hal_queue *queue, hal_buffer *buffer, size_t offset, const void *source, size_t size);
tsr_status cpu_copy(hal_queue *queue, hal_buffer *from, size_t from_offset, hal_buffer *to, size_t to_offset,
                    size_t size);
tsr_status cpu_fill(hal_queue *queue, hal_buffer *buffer, size_t offset, size_t size, uint32_t pattern);
tsr_status cpu_launch(hal_queue *queue, const hal_launch *launch);

#endif
