/* A CUDA driver that has no GPU: test-only libcuda.so.1, libnvrtc.so.13 and libcublasLt.so.13 over host memory.
 *
 * What it proves: that the backend calls the driver with valid handles, addresses and sizes, with its context current, in an
 * order under which nothing is used after it was freed or read before it was written; that errors of the driver
 * become the statuses they should; that nothing leaks. Each stream is a thread of its own, so work is truly
 * asynchronous, and device addresses are not host addresses, so a host access to device memory crashes.
 * What it does not prove: that real device code computes what it should (kernels run as host functions that the test
 * registers), that the real driver agrees with our reading of its documentation, or anything about speed.
 *
 * Environment, read when the library is loaded:
 *   FAKE_CUDA_DEVICES (1)      FAKE_CUDA_VERSION (13000)      FAKE_CUDA_ARCH (90)     FAKE_CUDA_MEMORY_MIB (1024)
 *   FAKE_CUDA_INIT (0)         the result of cuInit
 *   FAKE_CUDA_DELAY_US (0)     each command on a stream sleeps so long first
 *   FAKE_CUDA_FAIL_ALLOC (0)   the n-th allocation from now, of either memory, is out of memory; 0: none
 *   FAKE_CUDA_FAIL_LAUNCH (0)  the n-th launch from now fails when it runs, and the context is lost
 *   FAKE_NVRTC_VERSION (13000) FAKE_CUBLASLT_NONE (0) 1: no algorithm for any product
 *   FAKE_NVRTC_COMPILER ("")   a C++ compiler: kernels are compiled for the host and run (fake_nvrtc.c) */
#ifndef FAKE_CUDA_H
#define FAKE_CUDA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FAKE_MAX_POINTERS = 8, FAKE_MAX_PARAMS = 128 };

typedef struct fake_cuda_launch {
    uint32_t grid[3], group_size;
    void *pointers[FAKE_MAX_POINTERS]; /* host addresses */
    size_t room[FAKE_MAX_POINTERS];    /* bytes from there to the end of the allocation */
    unsigned char params[FAKE_MAX_PARAMS];
} fake_cuda_launch;

/* What a kernel does: `pointers` addresses, then `params_bytes` of parameters by value. */
typedef struct fake_cuda_kernel {
    const char *entry; /* stays valid */
    uint32_t pointers, params_bytes;
    void (*run)(const fake_cuda_launch *launch);
} fake_cuda_kernel;

/* All counted since the library was loaded, except those that say "now". */
typedef struct fake_cuda_state {
    /* faults: may be set at any time */
    int64_t fail_alloc, fail_launch;
    int64_t fail_launch_result; /* 719, CUDA_ERROR_LAUNCH_FAILED, unless set */
    int64_t delay_us;
    int64_t refuse_loads; /* the next so many modules are invalid images */
    /* now */
    int64_t device_allocations, host_allocations, streams, events, modules, contexts, lt_objects;
    int64_t allocated_bytes;
    /* totals */
    int64_t launches, copies, fills, loads, waits, heuristic_searches, products, commands;
    /* Uses that a real driver would punish or leave undefined; `violation` tells the first. */
    int64_t violations;
    char violation[160];
} fake_cuda_state;

/* Exported by the fake libcuda.so.1 under these names; no real driver has them. */
typedef fake_cuda_state *fake_cuda_state_fn(void);             /* "fake_cuda" */
typedef void fake_cuda_register_fn(const fake_cuda_kernel *k); /* "fake_cuda_register" */

/* For the fake cuBLASLt. A command with a copy of `payload` on a stream; the address of `size` bytes of device or pinned
 * memory that is alive now, or NULL, which is a violation. */
unsigned int fake_cuda_enqueue(void *stream, void (*run)(void *payload), const void *payload, size_t payload_size);
void *fake_cuda_host_address(unsigned long long address, size_t size);
void fake_cuda_violation(const char *format, ...);
fake_cuda_state *fake_cuda(void);

#endif
