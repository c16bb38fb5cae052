/* Devices: what there is, opening one, waiting for it. */
#ifndef TESSERA_DEVICE_H
#define TESSERA_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tessera/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tsr_device tsr_device;

/* One row of tsr_device_list. Strings are UTF-8, ended by 0; "" where the driver does not tell. */
typedef struct tsr_device_info {
    char id[32];      /* "cuda:0": what tsr_device_open takes */
    char backend[16]; /* "cuda" */
    char name[128];
    char vendor[64];
    char driver[128];
    char uuid[40];       /* hexadecimal; "backend://UUID" names the device too, if only one has it */
    bool software;       /* the driver computes on the CPU */
    bool unified_memory; /* host and device share memory */
    uint64_t memory_bytes;
    uint32_t compute_units;
    uint32_t dtypes; /* bit 1 << tsr_dtype for each dtype that kernels can store */
    char notes[256]; /* what a person should know of this driver */
} tsr_device_info;

/* Fills up to `capacity` rows and sets *count to the number of devices there are (so capacity 0 asks for it).
 * Backends whose driver is missing have no row; tsr_device_missing tells why. */
TSR_API tsr_status tsr_device_list(tsr_device_info *rows, size_t capacity, size_t *count);

/* For the i-th backend of this build that has no device: its name and a sentence on what is missing and how to get it.
 * Returns false past the last one. */
TSR_API bool tsr_device_missing(size_t i, char *backend, size_t backend_size, char *why, size_t why_size);

/* Opens a device by id: "cpu", "opencl" (its first), "vulkan:1", "cuda://UUID". NULL means $TESSERA_DEVICE, or else "cpu".
 * Opening the same device again gives the same handle with one more reference. The caller closes it as often as it
 * opened it; tensors keep their device alive.
 * Errors: TSR_NO_DEVICE with the valid ids; TSR_UNSUPPORTED naming the feature that the driver lacks. */
TSR_API tsr_device *tsr_device_open(const char *id);
TSR_API void tsr_device_close(tsr_device *device);

/* The id, "vulkan:0". Lives as long as the device. */
TSR_API const char *tsr_device_id(const tsr_device *device);
TSR_API tsr_status tsr_device_describe(tsr_device *device, tsr_device_info *info);

/* What a device's kernels do with numbers where drivers differ, found by computing with chosen ones. */
typedef struct tsr_arithmetic {
    bool contracts;          /* f32 a + b * c is rounded once although two roundings are asked for */
    bool rounds_to_nearest;  /* f32 sums and products, ties to even */
    bool flushes_subnormals; /* of f32, as operands or results */
    bool keeps_nan;          /* NaN comes out of NaN, and of inf - inf */
    bool keeps_signed_zero;
    bool
        rounds_f16; /* stores to f16 round to nearest, with subnormals and infinity; false where f16 cannot be stored */
} tsr_arithmetic;

/* Runs a kernel or two and waits for them; equal bits across devices stand on the answer (docs/determinism.md). */
TSR_API tsr_status tsr_device_probe(tsr_device *device, tsr_arithmetic *arithmetic);

/* Waits until everything queued on the device is done. */
TSR_API tsr_status tsr_device_sync(tsr_device *device);

/* Starts what is queued, without waiting. Backends batch commands; a loop that reads nothing back need not call it. */
TSR_API tsr_status tsr_device_flush(tsr_device *device);

/* TSR_OK, or TSR_DEVICE_LOST for ever once the driver lost the device. */
TSR_API tsr_status tsr_device_status(tsr_device *device);

/* What the device did since it was opened. Counters never go down, so a caller compares two readings. */
typedef struct tsr_device_counters {
    uint64_t driver_allocations; /* memory asked of the driver */
    uint64_t programs_built;     /* kernels compiled or loaded */
    uint64_t launches;
    uint64_t host_waits; /* calls in which the host waited for the device */
} tsr_device_counters;
TSR_API tsr_device_counters tsr_device_counters_get(tsr_device *device);

/* Seeds the device's random numbers (Philox 4x32-10) and restarts their sequence. The same seed and the same sequence of
 * calls give the same numbers on every device. The seed of a device that was never seeded is 0. */
TSR_API tsr_status tsr_seed(tsr_device *device, uint64_t seed);

/* Where a device's random numbers are: setting it makes the numbers to come the same again. */
typedef struct tsr_random_state {
    uint64_t seed;
    uint64_t draws;      /* calls of uniform, normal and dropout since tsr_seed */
    uint64_t host_draws; /* parameters initialised since */
} tsr_random_state;
TSR_API tsr_random_state tsr_random_state_get(tsr_device *device);
TSR_API tsr_status tsr_random_state_set(tsr_device *device, const tsr_random_state *state);

#ifdef __cplusplus
}
#endif
#endif
