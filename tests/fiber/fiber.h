/* Runs a work-group as fibers, one thread of the kernel each, in a chosen order. */
#ifndef TESSERA_FIBER_H
#define TESSERA_FIBER_H

#include <stddef.h>
#include <stdint.h>

enum { FIBER_MAX_GROUP = 1024 };

typedef struct fiber_binding {
    const char *id, *type;
    int access; /* hal_access */
    unsigned bytes;
} fiber_binding;

typedef void fiber_body(void *const *bindings, const void *params, unsigned gid, unsigned gidy, unsigned gidz);

typedef struct fiber_kernel {
    const char *key, *name, *variant, *file;
    int line;
    unsigned group_size, params_words;
    int binding_count;
    fiber_binding bindings[8];
    fiber_body *body;
} fiber_kernel;

extern const fiber_kernel fiber_kernels[];
extern const size_t fiber_kernel_count;

/* What the kernels call. */
extern unsigned fiber_index;
void fiber_barrier(int line);
void fiber_local(void *memory, size_t size);

/* The orders in which the threads run between two barriers. */
typedef enum fiber_order { FIBER_ASCENDING, FIBER_DESCENDING, FIBER_SHUFFLED, FIBER_ORDERS } fiber_order;

/* Runs all groups of the grid. NULL, or a sentence on a barrier that some threads reached and others did not. */
const char *fiber_run(const fiber_kernel *kernel, void *const *bindings, const void *params, const uint32_t grid[3],
                      fiber_order order);

#endif
