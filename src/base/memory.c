#include "base/memory.h"

#include "base/checked.h"
#include "base/error.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static _Atomic int64_t live_allocations;
fault host_alloc_fault = FAULT_INIT;

static bool may_allocate(size_t size)
{
    /* More than PTRDIFF_MAX no allocator gives, and some debugging ones abort when asked. */
    if (size > PTRDIFF_MAX)
        return false;
    return !fault_strikes(&host_alloc_fault);
}

static void *counted(void *pointer, size_t size)
{
    if (pointer == NULL)
        fail(TSR_OUT_OF_MEMORY, "out of host memory: %zu bytes were asked for", size);
    else
        atomic_fetch_add_explicit(&live_allocations, 1, memory_order_relaxed);
    return pointer;
}

void *host_alloc(size_t size)
{
    return counted(may_allocate(size) ? malloc(max_size(size, 1)) : NULL, size);
}

void *host_alloc_zeroed(size_t count, size_t size)
{
    size_t total;
    if (!checked_mul_size(count, size, &total)) {
        fail(TSR_OUT_OF_MEMORY, "out of host memory: %zu elements of %zu bytes were asked for", count, size);
        return NULL;
    }
    return counted(may_allocate(total) ? calloc(max_size(total, 1), 1) : NULL, total);
}

void *host_realloc_array(void *pointer, size_t count, size_t size)
{
    size_t total;
    if (!checked_mul_size(count, size, &total)) {
        fail(TSR_OUT_OF_MEMORY, "out of host memory: %zu elements of %zu bytes were asked for", count, size);
        return NULL;
    }
    if (pointer == NULL)
        return host_alloc(total);

    void *moved = may_allocate(total) ? realloc(pointer, max_size(total, 1)) : NULL;
    if (moved == NULL)
        fail(TSR_OUT_OF_MEMORY, "out of host memory: %zu bytes were asked for", total);
    return moved;
}

void *host_grown(void *items, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity)
        return items;
    const size_t more = count <= SIZE_MAX / 2 ? max_size(2 * count, 16) : SIZE_MAX;
    void *moved = host_realloc_array(items, more, size);
    if (moved != NULL)
        *capacity = more;
    return moved;
}

void host_free(void *pointer)
{
    if (pointer == NULL)
        return;
    atomic_fetch_sub_explicit(&live_allocations, 1, memory_order_relaxed);
    free(pointer);
}

void *host_alloc_aligned(size_t size, size_t alignment)
{
    void *pointer = NULL;
    if (may_allocate(size) && posix_memalign(&pointer, max_size(alignment, sizeof(void *)), max_size(size, 1)) != 0)
        pointer = NULL;
    return counted(pointer, size);
}

void host_free_aligned(void *pointer)
{
    host_free(pointer); /* POSIX frees both kinds alike; Windows does not */
}

char *host_strdup(const char *string)
{
    const size_t size = strlen(string) + 1;
    char *copy = host_alloc(size);
    if (copy != NULL)
        memcpy(copy, string, size);
    return copy;
}

int64_t host_live_allocations(void)
{
    return atomic_load(&live_allocations);
}

void host_alloc_fail_after(int64_t n)
{
    fault_set(&host_alloc_fault, n, false);
}
