/* The kernels that the build embedded, found by key. The table itself is written by tools/kernel-pack. */
#ifndef TESSERA_DISPATCH_CATALOGUE_H
#define TESSERA_DISPATCH_CATALOGUE_H

#include "hal/hal.h"

typedef enum kernel_isa { ISA_BASELINE, ISA_X86_64_V3, ISA_X86_64_V4, ISA_COUNT } kernel_isa;

typedef struct kernel_entry {
    const char *key;           /* "softmax/f32" */
    const char *entry;         /* "softmax" */
    const char *variant;       /* "gpu" or "cpu" */
    uint32_t features;         /* hal_feature bits that it needs */
    uint32_t group_size;       /* WG in C and in source */
    uint32_t group_size_spirv; /* WG in SPIR-V */
    uint32_t params_bytes;
    uint32_t binding_count;
    uint8_t access[HAL_MAX_BINDINGS];
    uint8_t element_bytes[HAL_MAX_BINDINGS];
    const char *source
        [4]; /* after the prelude: defines, common.k and common_math.k, operator functions, the kernel; NULL if not for source */
    const uint32_t *spirv; /* NULL if not for SPIR-V */
    size_t spirv_bytes;
    hal_native_fn *native[ISA_COUNT]; /* NULL where not built: the next lower one serves */
} kernel_entry;

extern const kernel_entry kernel_catalogue[];
extern const size_t kernel_catalogue_count; /* sorted by key, then variant */

/* The entry for a key in the variant that the device's class wants (the other variant where only that exists).
 * NULL, with no message, if there is none. */
const kernel_entry *catalogue_find(const char *key, hal_device_class device_class);

/* The best instruction set of this processor that the build has; TESSERA_ISA=baseline|v3|v4 lowers it, for tests. */
kernel_isa catalogue_isa(void);

/* Fills a descriptor in the form that the device takes. TSR_UNSUPPORTED with a sentence where the device lacks a
 * feature or the form was not built. */
tsr_status catalogue_describe(const kernel_entry *entry, const hal_device_info *info, hal_kernel_desc *desc);

#endif
