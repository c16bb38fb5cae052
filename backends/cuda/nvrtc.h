/* From dialect text to device code. Needs NVRTC, but neither a driver nor a device: tests compile with it for many
 * architectures on machines without a GPU. */
#ifndef TESSERA_CUDA_NVRTC_H
#define TESSERA_CUDA_NVRTC_H

#include "hal/hal.h"

#include <stddef.h>
#include <stdint.h>

/* Opens NVRTC at the first call and keeps it. `driver_version` (13000 for CUDA 13.0, 0 if there is no driver) makes the first
 * caller prefer the NVRTC of the driver's own generation, whose programs every such driver loads. TSR_UNSUPPORTED with a
 * sentence on the remedy where there is none. */
tsr_status nvrtc_load(int driver_version);

/* Of the NVRTC that is loaded: 13, 0. */
void nvrtc_version(int *major, int *minor);

/* Where the loaded NVRTC was found: a file name or path. */
const char *nvrtc_name(void);

/* Whole-program code of prelude + desc->source for a compute capability (90 for 9.0): a cubin where NVRTC knows the architecture, else
 * PTX for the newest one it knows below, which the driver compiles further. *image is to host_free; a PTX image ends with a 0
 * that *size counts. TSR_UNSUPPORTED if the architecture is older than all that NVRTC knows; TSR_DRIVER_ERROR with kernel, target and the
 * first lines of the compiler's log if the text is wrong. Asks no cache. Safe from any thread. */
tsr_status cuda_compile(const hal_kernel_desc *desc, int arch, uint8_t **image, size_t *size);

/* The same through the cache on disk. *cached tells whether the image came from there; with `fresh` it is compiled anew
 * and what the cache has is replaced (for an image that the driver refused). */
tsr_status cuda_compile_cached(const hal_kernel_desc *desc, int arch, bool fresh, uint8_t **image, size_t *size,
                               bool *cached);

#endif
