/* Device memory: how much is held, giving cached memory back, and a limit.
 *
 * Tensors take their memory from a caching allocator, one for each device, so that training asks the driver for memory
 * in its first steps only. What tensors release stays reserved for later ones until tsr_memory_trim. (PyTorch:
 * torch.cuda.memory_stats, empty_cache, set_per_process_memory_fraction.) */
#ifndef TESSERA_MEMORY_H
#define TESSERA_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "tessera/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Sizes are bytes. "Reserved" is what the driver gave and still holds for us, "allocated" the part of it that tensors use,
 * rounded up as the allocator does (to 512 bytes and more). */
typedef struct tsr_memory_statistics {
    uint64_t allocated_bytes, peak_allocated_bytes;
    uint64_t reserved_bytes, peak_reserved_bytes;
    uint64_t limit_bytes;                      /* 0: none was set */
    uint64_t largest_free_bytes;               /* the largest cached piece: reserved and not allocated */
    uint64_t allocations;                      /* requests that were served since the device was opened */
    uint64_t cache_hits;                       /* ... without asking the driver */
    uint64_t driver_allocations, driver_frees; /* calls of the driver */
    uint64_t blocks_in_use, blocks_cached;
    uint64_t pinned_bytes; /* host memory held for transfers; in none of the numbers above */
} tsr_memory_statistics;

/* The numbers of now. Errors: a NULL argument. */
TSR_API tsr_status tsr_memory_stats(tsr_device *device, tsr_memory_statistics *statistics);

/* Sets the peaks to the present values, to measure one part of a program. Errors: a NULL argument. */
TSR_API tsr_status tsr_memory_reset_peaks(tsr_device *device);

/* Gives the driver back all memory that no tensor uses, device memory and pinned memory. Does not wait: what the device
 * still works on is returned when it is done. Errors: a NULL device. */
TSR_API tsr_status tsr_memory_trim(tsr_device *device);

/* Lets the device hold at most `bytes` (0: as much as the driver gives), so that several programs can share it. A request
 * beyond it fails with TSR_OUT_OF_DEVICE_MEMORY after cached memory was given back. Memory held already is kept, even if
 * it is more: it only shrinks. Errors: a NULL device. */
TSR_API tsr_status tsr_memory_limit(tsr_device *device, uint64_t bytes);

#ifdef __cplusplus
}
#endif
#endif
