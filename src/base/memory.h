/* Host memory. Every part of the library allocates here, so that running out of memory is a status everywhere and
 * tests can make any allocation fail and count what was not freed. All functions are safe from any thread. */
#ifndef TESSERA_BASE_MEMORY_H
#define TESSERA_BASE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "base/fault.h"

/* NULL, with fail(TSR_OUT_OF_MEMORY, ...), where there is no memory. A size of 0 gives a pointer to free, too. */
void *host_alloc(size_t size);

/* `count` elements of `size` bytes, all bits 0. */
void *host_alloc_zeroed(size_t count, size_t size);

/* Room for `count` elements of `size` bytes with the old content; on failure NULL, and `pointer` stays valid.
 * pointer may be NULL. */
void *host_realloc_array(void *pointer, size_t count, size_t size);

/* An array that grows, with room for element `count`: `items` while *capacity is above it, else moved to a place of at least twice the capacity, which is
 * updated. On failure NULL, and the array is as it was. */
void *host_grown(void *items, size_t count, size_t *capacity, size_t size);

/* Frees what the functions above and host_strdup returned. NULL is fine. */
void host_free(void *pointer);

/* `alignment` is a power of two. Freed by host_free_aligned, and only there. */
void *host_alloc_aligned(size_t size, size_t alignment);
void host_free_aligned(void *pointer);

/* A copy to host_free, NULL as host_alloc. `string` must not be NULL. */
char *host_strdup(const char *string);

/* Allocations not yet freed, of all kinds. */
int64_t host_live_allocations(void);

/* For tests: the next `n` allocations of the process succeed and all later ones fail, until it is called again;
 * -1 turns this off. */
void host_alloc_fail_after(int64_t n);
extern fault host_alloc_fault;

#endif
