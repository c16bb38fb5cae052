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
    /* Of what is cached, the part that one request could not get: 1 - largest_free_bytes / (reserved_bytes - allocated_bytes); 0 where nothing
     * is cached. */
    double fragmentation;
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

/* ---- who holds it ------------------------------------------------------------------------------------------------------ */

typedef enum tsr_memory_kind {
    TSR_MEMORY_OTHER,     /* taken outside of all below: "" for a program's own tensors */
    TSR_MEMORY_PARAMETER, /* "parameters", "buffers" of modules */
    TSR_MEMORY_STATE,     /* "optimizer state", "gradient scaler" */
    TSR_MEMORY_GRADIENT,  /* "gradients" of leaves */
    TSR_MEMORY_DATA,      /* "batches" of a data set */
    TSR_MEMORY_FORWARD,   /* an operator's results and what it needs while it works, by its name */
    TSR_MEMORY_RECOMPUTE, /* the same in a checkpointed part that runs again */
    TSR_MEMORY_BACKWARD,  /* of an operator's backward function, by the operator's name */
    TSR_MEMORY_UPDATE     /* of an optimizer's step, by its kind */
} tsr_memory_kind;
/* "other", "parameters", "state", "gradients", "data", "forward", "recompute", "backward", "update"; "?" for a value outside the enumeration. */
TSR_API const char *tsr_memory_kind_name(tsr_memory_kind kind);

typedef struct tsr_memory_owner {
    tsr_memory_kind kind;
    const char *name;       /* of static memory */
    uint64_t bytes, blocks; /* now */
    uint64_t peak_bytes;    /* when all owners together held most during the recording; 0 without one */
} tsr_memory_owner;
/* Up to `capacity` rows, those with the most bytes at the peak first, then those with the most now; *count: how many there are. rows may be NULL
 * where capacity is 0. Memory belongs to the outermost operator that was running when it was taken. Errors: a NULL device or count, no host memory. */
TSR_API tsr_status tsr_memory_owners(tsr_device *device, tsr_memory_owner *rows, size_t capacity, size_t *count);

/* From now on each request and release on the device, by any thread, is recorded, 16 bytes of host memory each; what was recorded before is forgotten.
 * At most `events` are kept (0: 2^20), and none behind them, so that a recording never has gaps. While nothing is recorded, a
 * request costs one branch more. (PyTorch: torch.cuda.memory._record_memory_history.) Errors: a NULL device, no host memory. */
TSR_API tsr_status tsr_memory_record_begin(tsr_device *device, uint64_t events);
/* Ends it; what was recorded stays until the next begin or until the device closes. NULL is allowed. */
TSR_API void tsr_memory_record_end(tsr_device *device);

/* Writes what is held now, by whom, and the recording if there is one: a picture of the recording, stacked by owner, where path ends in ".svg", else
 * JSON (docs/memory.md). A file there before is replaced as a whole. Errors: a NULL argument, TSR_IO_ERROR, no host memory; a picture without a
 * recording. (PyTorch: torch.cuda.memory._dump_snapshot.) */
TSR_API tsr_status tsr_memory_snapshot_write(tsr_device *device, const char *path);

#ifdef __cplusplus
}
#endif
#endif
