/* What the files of the fake libcuda.so.1 share; the rest of its story is in fake_cuda.h. */
#ifndef FAKE_DRIVER_H
#define FAKE_DRIVER_H

#include "fake_cuda.h"
#include "fake_kernel.h"

#include "backends/cuda/cuda_api.h"

#include <pthread.h>
#include <stdarg.h>
#include <time.h>

#define EXPORT __attribute__((visibility("default")))

/* The backend's own declarations: what it calls and what is defined here cannot differ. */
#define DECLARE(field, symbol, arguments) EXPORT cu_result symbol arguments;
CUDA_FUNCTIONS(DECLARE)

enum { DEVICES_MAX = 8, KERNELS_MAX = 64 };

typedef struct memory_block {
    cu_deviceptr address; /* as the program sees it */
    unsigned char *host;
    size_t size;
    bool pinned;
    struct memory_block *next;
} memory_block;

struct CUctx_st {
    int users;
    cu_result lost; /* sticky */
};

typedef struct command {
    void (*run)(struct command *c, cu_stream stream);
    union {
        struct {
            cu_deviceptr to, from;
            size_t size;
            bool from_is_captured, to_is_pageable;
        } copy;
        struct {
            cu_deviceptr to;
            uint32_t value;
            size_t words;
        } fill;
        struct {
            cu_event event;
            uint64_t turn;
        } event;
        struct {
            fake_cuda_kernel kernel;
            fake_entry entry; /* instead, of host code */
            cu_module module;
            cu_deviceptr pointers[FAKE_MAX_POINTERS];
            fake_cuda_launch launch;
            cu_result fail;
        } launch;
        void (*foreign)(void *payload);
    } as;
    struct command *next;
    unsigned char payload[]; /* captured source of a copy, or the foreign command's */
} command;

struct CUstream_st {
    cu_context context;
    pthread_t thread;
    command *first, *last;
    bool busy, ending;
};

struct CUevent_st {
    uint64_t asked, done; /* turns of recording */
    struct timespec when;
    int users; /* commands that point here, and the program */
};

struct CUmod_st {
    char *text; /* of the fakes' own format, or PTX; NULL for a real cubin */
    void *image;
    size_t size;
    fake_code *code; /* of a kernel compiled for the host */
    int pending;     /* launches */
};

struct CUfunc_st {
    fake_cuda_kernel kernel;
    fake_entry entry;
    bool known;
    cu_module module;
    cu_function next;
};

extern struct fake_driver {
    pthread_mutex_t lock; /* over everything here */
    pthread_cond_t changed;
    fake_cuda_state state;
    memory_block *blocks;
    struct CUctx_st contexts[DEVICES_MAX];
    fake_cuda_kernel kernels[KERNELS_MAX];
    int kernel_count;
    bool initialised;
    int device_count, version, arch;
    size_t memory_bytes;
} driver;

/* All with the lock held. */

/* The current context, or NULL with *result set. */
cu_context fake_current(cu_result *result);
void fake_violation(const char *format, ...);

/* The allocation in which these bytes lie, and their address for the host; NULL if none. */
memory_block *fake_block_of(cu_deviceptr address, size_t size);
unsigned char *fake_host_of(cu_deviceptr address, size_t size);

/* Puts a copy of `model` at the end of the stream, with a copy of the payload. */
cu_result fake_enqueue(cu_stream s, const command *model, const void *payload, size_t payload_size);
void fake_stream_wait(const struct CUstream_st *s);

/* The context of the stream is gone from now on. */
void fake_lose(cu_stream s, cu_result why);

#endif
