/* The Vulkan compute backend: Vulkan 1.2 with timeline semaphores and 16-bit storage, through any driver. */
#include "backends/vulkan/vulkan_entries.h"

extern const hal_backend vulkan_backend;

#define FILL(entry) .entry = vulkan_##entry,

const hal_backend vulkan_backend = {
    .name = "vulkan",
    HAL_ENTRIES(FILL).lose = vulkan_lose,
};
