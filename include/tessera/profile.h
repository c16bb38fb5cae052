/* Profiles: what happens when, on which thread and in which queue of which device, as a trace that ui.perfetto.dev and chrome://tracing open
 * (docs/profiling.md). What torch.profiler is for PyTorch.
 *
 * While a profile is under way the library records, without being asked: each operator and each backward function, modules, the phases of a step (load,
 * backward, optimizer, save), batches made by workers, parallel loops of the CPU device, memory taken from drivers, programs built, and
 * waits of the host; and on each queue of each device the kernels and copies, by the device's own clock. A program adds spans of its own.
 *
 * When none is under way all of this costs one branch each. Every function may be called from any thread; a profile is of the whole process. */
#ifndef TESSERA_PROFILE_H
#define TESSERA_PROFILE_H

#include <stdbool.h>
#include <stdint.h>

#include "tessera/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tsr_profile_options {
    uint64_t max_events; /* kept in memory, 56 bytes each; 0: 2^20. Later ones are counted and dropped. */
} tsr_profile_options;

/* options: NULL for none. A queue that is used for the first time in a profile is waited for once, to compare its clock with the host's.
 * Errors: TSR_INVALID_ARGUMENT: a profile is under way already; TSR_OUT_OF_MEMORY. */
TSR_API tsr_status tsr_profile_begin(const tsr_profile_options *options);

/* Ends the profile, with the calling thread's open spans, waits for all queues, and writes the trace; path NULL: it is thrown away. What other threads have
 * open is not recorded. Errors: TSR_INVALID_ARGUMENT: none is under way; TSR_IO_ERROR, and the profile is gone. */
TSR_API tsr_status tsr_profile_end(const char *path);

TSR_API bool tsr_profile_active(void);

/* A span of the caller's, from push to pop on one thread; spans nest, also with the library's own. The name is copied, and kept as long as the process
 * lives: use few different ones, and a number for what counts up ("step", 17), which is shown beside it; a negative number is not.
 * Up to 64 may be open on a thread; deeper ones are not recorded. A pop without a push does nothing. */
TSR_API void tsr_profile_push(const char *name);
TSR_API void tsr_profile_push_number(const char *name, int64_t number);
TSR_API void tsr_profile_pop(void);

/* Of the profile under way, or of the last one. */
typedef struct tsr_profile_counts {
    uint64_t events;  /* recorded */
    uint64_t dropped; /* for lack of room */
} tsr_profile_counts;
TSR_API tsr_profile_counts tsr_profile_counts_get(void);

#ifdef __cplusplus
}
#endif
#endif
