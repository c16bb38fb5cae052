/* Kernels that the fake NVRTC compiled for the host (kernel_shim.hpp), and the fibers that run their work-groups. */
#ifndef FAKE_KERNEL_H
#define FAKE_KERNEL_H

#include "fake_cuda.h"

enum { FAKE_MAX_ARGUMENTS = 16 };

typedef struct fake_code fake_code; /* a shared object in memory */

/* Lays out as emu_signature of kernel_shim.hpp. */
typedef struct fake_signature {
    uint32_t count, sizes[FAKE_MAX_ARGUMENTS], is_pointer[FAKE_MAX_ARGUMENTS];
} fake_signature;

typedef struct fake_entry {
    const fake_signature *signature;
    void (*call)(void **arguments);
} fake_entry;

/* Whether the image is an object for this machine rather than a cubin. */
bool fake_code_is_host(const unsigned char *image);
/* NULL if it does not load. */
fake_code *fake_code_open(const void *image, size_t size);
void fake_code_close(fake_code *code);
bool fake_code_find(fake_code *code, const char *name, fake_entry *entry);

/* The whole grid, work-group after work-group, in the calling thread. False if a barrier was reached by some threads of a
 * work-group and not by others. */
bool fake_code_run(fake_code *code, const fake_entry *entry, void **arguments, const uint32_t grid[3],
                   uint32_t group_size);

#endif
