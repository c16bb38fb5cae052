/* The public functions of memory.h. */
#include "tessera/memory.h"

#include <string.h>

#include "base/error.h"
#include "memory/allocator.h"
#include "memory/snapshot.h"
#include "tensor/device.h"

tsr_status tsr_memory_stats(tsr_device *device, tsr_memory_statistics *statistics)
{
    if (device == NULL || statistics == NULL)
        return fail(TSR_INVALID_ARGUMENT, "memory statistics: the %s is NULL", device == NULL ? "device" : "result");
    const allocator_statistics s = allocator_stats(device_allocator(device));
    *statistics = (tsr_memory_statistics){
        .allocated_bytes = s.allocated,
        .peak_allocated_bytes = s.peak_allocated,
        .reserved_bytes = s.reserved,
        .peak_reserved_bytes = s.peak_reserved,
        .limit_bytes = s.limit,
        .largest_free_bytes = s.largest_free,
        .allocations = s.requests,
        .cache_hits = s.cache_hits,
        .driver_allocations = s.driver_allocations,
        .driver_frees = s.driver_frees,
        .blocks_in_use = s.blocks_in_use,
        .blocks_cached = s.blocks_free,
        .pinned_bytes = allocator_stats(device_pinned(device)).reserved,
        .fragmentation = s.reserved > s.allocated ? 1 - (double)s.largest_free / (double)(s.reserved - s.allocated) : 0,
    };
    return TSR_OK;
}

tsr_status tsr_memory_reset_peaks(tsr_device *device)
{
    if (device == NULL)
        return fail(TSR_INVALID_ARGUMENT, "resetting memory peaks: the device is NULL");
    allocator_reset_peaks(device_allocator(device));
    return TSR_OK;
}

tsr_status tsr_memory_trim(tsr_device *device)
{
    if (device == NULL)
        return fail(TSR_INVALID_ARGUMENT, "trimming memory: the device is NULL");
    allocator_trim(device_allocator(device));
    allocator_trim(device_pinned(device));
    return TSR_OK;
}

tsr_status tsr_memory_limit(tsr_device *device, uint64_t bytes)
{
    if (device == NULL)
        return fail(TSR_INVALID_ARGUMENT, "limiting memory: the device is NULL");
    allocator_limit(device_allocator(device), bytes);
    return TSR_OK;
}

tsr_status tsr_memory_record_begin(tsr_device *device, uint64_t events)
{
    if (device == NULL)
        return fail(TSR_INVALID_ARGUMENT, "recording memory: the device is NULL");
    return allocator_record_begin(device_allocator(device), events);
}

void tsr_memory_record_end(tsr_device *device)
{
    if (device != NULL)
        allocator_record_end(device_allocator(device));
}

tsr_status tsr_memory_owners(tsr_device *device, tsr_memory_owner *rows, size_t capacity, size_t *count)
{
    if (device == NULL || count == NULL)
        return fail(TSR_INVALID_ARGUMENT, "owners of memory: the %s is NULL", device == NULL ? "device" : "count");
    return allocator_owners(device_allocator(device), rows, capacity, count);
}

tsr_status tsr_memory_snapshot_write(tsr_device *device, const char *path)
{
    if (device == NULL || path == NULL)
        return fail(TSR_INVALID_ARGUMENT, "a snapshot of memory: the %s is NULL", device == NULL ? "device" : "path");
    const size_t length = strlen(path);
    const bool picture = length >= 4 && strcmp(path + length - 4, ".svg") == 0;
    return picture ? snapshot_draw(device_allocator(device), tsr_device_id(device), path)
                   : snapshot_write(device_allocator(device), tsr_device_id(device), path);
}
