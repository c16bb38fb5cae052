/* Device strings: "cpu", "opencl:1", "vulkan://UUID", lists "cpu,cuda:0", "all". */
#ifndef TESSERA_HAL_REGISTRY_H
#define TESSERA_HAL_REGISTRY_H

#include "hal/hal.h"

typedef struct device_ref {
    const hal_backend *backend;
    uint32_t index;
} device_ref;

enum { DEVICE_ID_SIZE = 32, DEVICE_LIST_MAX = 64 };

/* "vulkan:0" */
void device_ref_id(device_ref ref, char *id, size_t size);

/* One device. Only the backend that is named is asked for its devices, unless the string is wrong.
 * TSR_NO_DEVICE with a sentence that says whether the backend is unknown to this build (and which one may have been
 * meant), its driver is missing (and the remedy), or it has fewer devices, and lists the valid ids. */
tsr_status registry_parse(const char *string, device_ref *ref);

/* A list separated by commas, or "all" for every device there is. A device named twice is given once. Spaces around names
 * are ignored. At most DEVICE_LIST_MAX devices. */
tsr_status registry_parse_list(const char *string, device_ref refs[DEVICE_LIST_MAX], size_t *count);

/* The same for another table of backends (ended by NULL), for tests. */
tsr_status registry_parse_in(const hal_backend *const *backends, const char *string, device_ref *ref);
tsr_status registry_parse_list_in(const hal_backend *const *backends, const char *string,
                                  device_ref refs[DEVICE_LIST_MAX], size_t *count);

#endif
