/* The fake driver's memory, and copies and fills. */
#include "fake_driver.h"

#include <stdlib.h>
#include <string.h>

/* Added to the host address of device memory: not canonical on x86-64 and unmapped on arm64, so that a host access faults. */
#define DEVICE_BIAS ((cu_deviceptr)1 << 62)

memory_block *fake_block_of(cu_deviceptr address, size_t size)
{
    for (memory_block *b = driver.blocks; b; b = b->next)
        if (address >= b->address && size <= b->size && address - b->address <= b->size - size)
            return b;
    return NULL;
}

unsigned char *fake_host_of(cu_deviceptr address, size_t size)
{
    const memory_block *b = fake_block_of(address, size);
    return b ? b->host + (address - b->address) : NULL;
}

EXPORT void *fake_cuda_host_address(unsigned long long address, size_t size)
{
    void *host;

    pthread_mutex_lock(&driver.lock);
    host = fake_host_of(address, size);
    if (!host)
        fake_violation("address %#llx with %zu bytes is in no live allocation", address, size);
    pthread_mutex_unlock(&driver.lock);
    return host;
}

static cu_result allocate(size_t size, bool pinned, memory_block **out)
{
    memory_block *b;
    cu_result result;

    if (!fake_current(&result))
        return result;
    if (size == 0)
        return CU_INVALID_VALUE;
    if (driver.state.fail_alloc > 0 && --driver.state.fail_alloc == 0)
        return CU_OUT_OF_MEMORY;
    if (!pinned && (size > driver.memory_bytes || (size_t)driver.state.allocated_bytes > driver.memory_bytes - size))
        return CU_OUT_OF_MEMORY;
    b = calloc(1, sizeof *b);
    b->size = size;
    b->pinned = pinned;
    if (posix_memalign((void **)&b->host, 256, size)) {
        free(b);
        return CU_OUT_OF_MEMORY;
    }
    memset(b->host, 0xA5, size); /* so that reading what was never written shows */
    b->address = (cu_deviceptr)(uintptr_t)b->host + (pinned ? 0 : DEVICE_BIAS);
    b->next = driver.blocks;
    driver.blocks = b;
    if (pinned) {
        driver.state.host_allocations++;
    } else {
        driver.state.device_allocations++;
        driver.state.allocated_bytes += (int64_t)size;
    }
    *out = b;
    return CU_OK;
}

static cu_result release(cu_deviceptr address, bool pinned)
{
    for (memory_block **at = &driver.blocks; *at; at = &(*at)->next)
        if ((*at)->address == address && (*at)->pinned == pinned) {
            memory_block *b = *at;
            *at = b->next;
            if (pinned) {
                driver.state.host_allocations--;
            } else {
                driver.state.device_allocations--;
                driver.state.allocated_bytes -= (int64_t)b->size;
            }
            memset(b->host, 0x5A, b->size);
            free(b->host);
            free(b);
            return CU_OK;
        }
    fake_violation("freeing %#llx, which is no live allocation", address);
    return CU_INVALID_VALUE;
}

EXPORT cu_result cuMemAlloc_v2(cu_deviceptr *address, size_t size)
{
    memory_block *b;
    cu_result result;

    pthread_mutex_lock(&driver.lock);
    result = allocate(size, false, &b);
    if (result == CU_OK)
        *address = b->address;
    pthread_mutex_unlock(&driver.lock);
    return result;
}

/* Does not wait for queued work, which the real one does today without promising it. */
EXPORT cu_result cuMemFree_v2(cu_deviceptr address)
{
    cu_result result, lost;

    pthread_mutex_lock(&driver.lock);
    fake_current(&lost);
    result = release(address, false);
    pthread_mutex_unlock(&driver.lock);
    return lost ? lost : result;
}

EXPORT cu_result cuMemHostAlloc(void **address, size_t size, unsigned int flags)
{
    memory_block *b;
    cu_result result;

    (void)flags;
    pthread_mutex_lock(&driver.lock);
    result = allocate(size, true, &b);
    if (result == CU_OK)
        *address = b->host;
    pthread_mutex_unlock(&driver.lock);
    return result;
}

EXPORT cu_result cuMemFreeHost(void *address)
{
    cu_result result, lost;

    pthread_mutex_lock(&driver.lock);
    fake_current(&lost);
    result = release((cu_deviceptr)(uintptr_t)address, true);
    pthread_mutex_unlock(&driver.lock);
    return lost ? lost : result;
}

EXPORT cu_result cuMemGetInfo_v2(size_t *available, size_t *total)
{
    pthread_mutex_lock(&driver.lock);
    *available = driver.memory_bytes - (size_t)driver.state.allocated_bytes;
    *total = driver.memory_bytes;
    pthread_mutex_unlock(&driver.lock);
    return CU_OK;
}

/* ---- copies ------------------------------------------------------------------------------------------------------- */

static void run_copy(command *c, cu_stream s)
{
    const unsigned char *from =
        c->as.copy.from_is_captured ? c->payload : fake_host_of(c->as.copy.from, c->as.copy.size);
    unsigned char *to = c->as.copy.to_is_pageable ? (unsigned char *)(uintptr_t)c->as.copy.to
                                                  : fake_host_of(c->as.copy.to, c->as.copy.size);

    if (s->context->lost)
        return;
    if (!from || !to) {
        fake_violation("a copy of %zu bytes uses memory that is not alive when it runs", c->as.copy.size);
        fake_lose(s, CU_ILLEGAL_ADDRESS);
        return;
    }
    memmove(to, from, c->as.copy.size);
}

/* Which of the two ends must be device memory; -1: either. */
static cu_result copy(cu_deviceptr to, cu_deviceptr from, size_t size, int to_device, int from_device, cu_stream s)
{
    command model = {.run = run_copy, .as.copy = {.to = to, .from = from, .size = size}};
    cu_result result;

    pthread_mutex_lock(&driver.lock);
    const memory_block *target = fake_block_of(to, size), *source = fake_block_of(from, size);
    if ((to_device == 1 && (!target || target->pinned)) || (from_device == 1 && (!source || source->pinned)) ||
        (to_device == 0 && target && !target->pinned) || (from_device == 0 && source && !source->pinned) ||
        (to_device == -1 && !target) || (from_device == -1 && !source)) {
        fake_violation("a copy of %zu bytes from %#llx to %#llx does not lie in memory of the kind it names", size,
                       from, to);
        result = CU_INVALID_VALUE;
    } else {
        model.as.copy.from_is_captured = !source; /* pageable memory is staged by the driver */
        model.as.copy.to_is_pageable = !target;
        driver.state.copies++;
        result = fake_enqueue(s, &model, source ? NULL : (const void *)(uintptr_t)from, source ? 0 : size);
        if (result == CU_OK && !target)
            fake_stream_wait(s); /* as the driver does */
    }
    pthread_mutex_unlock(&driver.lock);
    return result;
}

EXPORT cu_result cuMemcpyAsync(cu_deviceptr to, cu_deviceptr from, size_t size, cu_stream s)
{
    return copy(to, from, size, -1, -1, s);
}

EXPORT cu_result cuMemcpyHtoDAsync_v2(cu_deviceptr to, const void *from, size_t size, cu_stream s)
{
    return copy(to, (cu_deviceptr)(uintptr_t)from, size, 1, 0, s);
}

EXPORT cu_result cuMemcpyDtoHAsync_v2(void *to, cu_deviceptr from, size_t size, cu_stream s)
{
    return copy((cu_deviceptr)(uintptr_t)to, from, size, 0, 1, s);
}

EXPORT cu_result cuMemcpyDtoDAsync_v2(cu_deviceptr to, cu_deviceptr from, size_t size, cu_stream s)
{
    return copy(to, from, size, 1, 1, s);
}

static void run_fill(command *c, cu_stream s)
{
    unsigned char *to = fake_host_of(c->as.fill.to, 4 * c->as.fill.words);

    if (s->context->lost)
        return;
    if (!to) {
        fake_violation("a fill of %zu words uses memory that is not alive when it runs", c->as.fill.words);
        fake_lose(s, CU_ILLEGAL_ADDRESS);
        return;
    }
    for (size_t i = 0; i < c->as.fill.words; i++)
        memcpy(to + 4 * i, &c->as.fill.value, 4);
}

EXPORT cu_result cuMemsetD32Async(cu_deviceptr to, unsigned int value, size_t words, cu_stream s)
{
    const command model = {.run = run_fill, .as.fill = {.to = to, .value = value, .words = words}};
    cu_result result;

    pthread_mutex_lock(&driver.lock);
    if (to % 4 || !fake_block_of(to, 4 * words)) {
        fake_violation("a fill of %zu words at %#llx is not within live memory, or not aligned", words, to);
        result = CU_INVALID_VALUE;
    } else {
        driver.state.fills++;
        result = fake_enqueue(s, &model, NULL, 0);
    }
    pthread_mutex_unlock(&driver.lock);
    return result;
}
