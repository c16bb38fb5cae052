/* The public functions of memory.h. */
#include "tessera/memory.h"

#include "base/error.h"
#include "memory/allocator.h"
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
