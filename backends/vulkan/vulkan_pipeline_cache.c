/* The driver's pipeline cache on disk, so that a kernel is compiled once a driver version and not once a process. */
#include "backends/vulkan/vulkan_backend.h"

#include "base/cache.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/sha256.h"

#include <string.h>

#define CACHE_KIND "vulkan"

/* A program that is killed loses no more than these. */
#define SAVE_AFTER_PIPELINES 16
#define SAVE_AFTER_NS        ((uint64_t)2 * 1000 * 1000 * 1000)

static void make_key(const vulkan_device *device, char key[SHA256_HEX_SIZE])
{
    const vulkan_adapter *a = device->adapter;
    const uint32_t numbers[] = {a->properties.vendorID, a->properties.deviceID, a->properties.driverVersion,
                                a->properties.apiVersion, (uint32_t)sizeof(void *)};
    sha256 hash;
    sha256_begin(&hash);
    sha256_update_string(&hash, "vulkan pipeline cache 1");
    sha256_update(&hash, numbers, sizeof numbers);
    sha256_update(&hash, a->properties11.deviceUUID, VK_UUID_SIZE);
    sha256_update(&hash, a->properties11.driverUUID, VK_UUID_SIZE);
    sha256_update(&hash, a->properties.pipelineCacheUUID, VK_UUID_SIZE);
    sha256_update_string(&hash, a->properties12.driverInfo);
    sha256_end_hex(&hash, key);
}

/* Drivers are supposed to check this themselves; some crash instead. */
static bool is_ours(const vulkan_device *device, const uint8_t *bytes, size_t size)
{
    VkPipelineCacheHeaderVersionOne header;
    const VkPhysicalDeviceProperties *p = &device->adapter->properties;
    if (size < sizeof header)
        return false;
    memcpy(&header, bytes, sizeof header);
    return header.headerSize >= sizeof header && header.headerSize <= size &&
           header.headerVersion == VK_PIPELINE_CACHE_HEADER_VERSION_ONE && header.vendorID == p->vendorID &&
           header.deviceID == p->deviceID && memcmp(header.pipelineCacheUUID, p->pipelineCacheUUID, VK_UUID_SIZE) == 0;
}

void vulkan_pipeline_cache_open(vulkan_device *device)
{
    make_key(device, device->pipeline_cache_key);
    uint8_t *bytes = NULL;
    size_t size = 0;
    if (cache_load(CACHE_KIND, device->pipeline_cache_key, &bytes, &size) && !is_ours(device, bytes, size))
        size = 0;
    VkPipelineCacheCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO,
        .initialDataSize = size,
        .pInitialData = size > 0 ? bytes : NULL,
    };
    VkResult result = device->vk.vkCreatePipelineCache(device->handle, &info, NULL, &device->pipeline_cache);
    if (result != VK_SUCCESS && size > 0) { /* what the driver does not take is as good as nothing */
        info.initialDataSize = 0;
        info.pInitialData = NULL;
        result = device->vk.vkCreatePipelineCache(device->handle, &info, NULL, &device->pipeline_cache);
    }
    if (result != VK_SUCCESS)
        device->pipeline_cache = VK_NULL_HANDLE; /* slower, no more */
    host_free(bytes);
    device->pipelines_saved_ns = clock_ns();
}

static void save(vulkan_device *device)
{
    error_state before;
    error_save(&before); /* a cache never fails */
    size_t size = 0;
    VkResult result = device->vk.vkGetPipelineCacheData(device->handle, device->pipeline_cache, &size, NULL);
    if (result == VK_SUCCESS && size > sizeof(VkPipelineCacheHeaderVersionOne)) {
        uint8_t *bytes = host_alloc(size);
        if (bytes != NULL)
            result = device->vk.vkGetPipelineCacheData(device->handle, device->pipeline_cache, &size, bytes);
        if (bytes != NULL && result == VK_SUCCESS)
            cache_store(CACHE_KIND, device->pipeline_cache_key, bytes, size);
        host_free(bytes);
    }
    error_restore(&before);
}

/* Whether it is time; the caller then saves outside the lock. */
static bool due(vulkan_device *device, uint32_t made, bool closing)
{
    mutex_lock(&device->lock);
    device->pipelines_unsaved += made;
    const uint64_t now = clock_ns();
    const bool save_now =
        device->pipelines_unsaved > 0 && (closing || device->pipelines_unsaved >= SAVE_AFTER_PIPELINES ||
                                          now - device->pipelines_saved_ns >= SAVE_AFTER_NS);
    if (save_now) {
        device->pipelines_unsaved = 0;
        device->pipelines_saved_ns = now;
    }
    mutex_unlock(&device->lock);
    return save_now;
}

void vulkan_pipeline_cache_note(vulkan_device *device)
{
    if (device->pipeline_cache != VK_NULL_HANDLE && due(device, 1, false))
        save(device);
}

void vulkan_pipeline_cache_close(vulkan_device *device)
{
    if (device->pipeline_cache == VK_NULL_HANDLE)
        return;
    if (due(device, 0, true) && !atomic_load(&device->lost))
        save(device);
    device->vk.vkDestroyPipelineCache(device->handle, device->pipeline_cache, NULL);
    device->pipeline_cache = VK_NULL_HANDLE;
}
