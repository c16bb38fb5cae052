/* The backends of this build, in the order in which devices are listed. */
#include "hal/hal.h"

extern const hal_backend cpu_backend, cuda_backend, opencl_backend, vulkan_backend, null_backend;

const hal_backend *const hal_backends[] = {&cpu_backend,    &cuda_backend, &opencl_backend,
                                           &vulkan_backend, &null_backend, NULL};
