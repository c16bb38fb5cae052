/* A device's built kernels: a hash table from key to kernel that only grows. */
#include "dispatch/launch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "dispatch/catalogue.h"
#include "tensor/device.h"

typedef struct cached_kernel {
    const kernel_entry *entry; /* its key is the table's */
    hal_kernel *kernel;
    uint32_t group_size;
    bool faulty; /* for tests */
} cached_kernel;

struct kernel_cache {
    hal_device_class variant;
    size_t capacity, count; /* capacity is a power of two, at most half full */
    cached_kernel *slots;
};

static uint64_t hash_text(const char *text)
{
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
    for (; *text != '\0'; text++)
        h = (h ^ (unsigned char)*text) * 0x100000001b3u;
    return h ^ (h >> 29);
}

static cached_kernel *slot_of(struct kernel_cache *cache, const char *key)
{
    for (size_t i = hash_text(key);; i++) {
        cached_kernel *slot = &cache->slots[i & (cache->capacity - 1)];
        if (slot->entry == NULL || strcmp(slot->entry->key, key) == 0)
            return slot;
    }
}

static void kernel_cache_free(struct kernel_cache *cache)
{
    for (size_t i = 0; i < cache->capacity; i++)
        if (cache->slots[i].kernel != NULL)
            hal_kernel_destroy(cache->slots[i].kernel);
    host_free(cache->slots);
    host_free(cache);
}

static bool kernel_cache_grow(struct kernel_cache *cache)
{
    struct kernel_cache grown = *cache;
    grown.capacity = cache->capacity == 0 ? 128 : 2 * cache->capacity;
    grown.slots = host_alloc_zeroed(grown.capacity, sizeof *grown.slots);
    if (grown.slots == NULL)
        return false;
    for (size_t i = 0; i < cache->capacity; i++)
        if (cache->slots[i].entry != NULL)
            *slot_of(&grown, cache->slots[i].entry->key) = cache->slots[i];
    host_free(cache->slots);
    *cache = grown;
    return true;
}

static hal_device_class variant_wanted(const hal_device_info *info)
{
    const char *wish = getenv("TESSERA_VARIANT");
    if (wish != NULL && info->code != HAL_CODE_NATIVE) {
        if (strcmp(wish, "gpu") == 0)
            return HAL_CLASS_GPU;
        if (strcmp(wish, "cpu") == 0)
            return HAL_CLASS_CPU;
    }
    return info->device_class;
}

/* With the device's lock held. */
static struct kernel_cache *kernels_of(tsr_device *device)
{
    if (device->kernels == NULL) {
        struct kernel_cache *cache = host_alloc_zeroed(1, sizeof *cache);
        if (cache == NULL)
            return NULL;
        cache->variant = variant_wanted(&device->hal->info);
        if (!kernel_cache_grow(cache)) {
            host_free(cache);
            return NULL;
        }
        device->kernels = cache;
        device->kernels_free = kernel_cache_free;
    }
    return device->kernels;
}

/* For tests of what finds a wrong kernel: TESSERA_KERNEL_FAULT="vulkan:0 unary/relu/f32" spoils what that kernel gives there. */
static bool fault_wanted(const tsr_device *device, const char *key)
{
    const char *wish = getenv("TESSERA_KERNEL_FAULT");
    const size_t length = strlen(device->id);
    return wish != NULL && strncmp(wish, device->id, length) == 0 && wish[length] == ' ' &&
           strcmp(wish + length + 1, key) == 0;
}

/* The last four bytes of what it wrote become a number near 1 in each of f32, f16 and bf16. */
static bool spoil(tsr_device *device, const kernel_entry *entry, const hal_binding *bindings)
{
    for (uint32_t i = 0; i < entry->binding_count; i++) {
        const hal_binding *b = &bindings[i];
        if ((entry->access[i] & HAL_WRITE) != 0 && b->length >= 4)
            return hal_buffer_fill(device->queue, b->buffer, (b->offset + b->length - 4) & ~(size_t)3, 4,
                                   0x3f803f80u) == TSR_OK;
    }
    return true;
}

static const cached_kernel *kernel_find(tsr_device *device, const char *key)
{
    struct kernel_cache *cache = kernels_of(device);
    if (cache == NULL)
        return NULL;
    cached_kernel *slot = slot_of(cache, key);
    if (slot->entry != NULL)
        return slot;

    const kernel_entry *entry = catalogue_find(key, cache->variant);
    if (entry == NULL) {
        fail(TSR_UNSUPPORTED, "there is no kernel '%s'", key);
        return NULL;
    }
    if (2 * (cache->count + 1) > cache->capacity) {
        if (!kernel_cache_grow(cache))
            return NULL;
        slot = slot_of(cache, key);
    }
    hal_kernel_desc desc;
    hal_kernel *kernel;
    if (catalogue_describe(entry, &device->hal->info, &desc) != TSR_OK ||
        hal_kernel_create(device->hal, &desc, &kernel) != TSR_OK) {
        fail_prefix("kernel '%s' on %s", key, device->id);
        return NULL;
    }
    *slot = (cached_kernel){
        .entry = entry, .kernel = kernel, .group_size = desc.group_size, .faulty = fault_wanted(device, key)};
    cache->count++;
    return slot;
}

/* By value: the table may be grown by another thread once the lock is released. */
static bool kernel_get(tsr_device *device, const char *key, cached_kernel *out)
{
    mutex_lock(&device->lock);
    const cached_kernel *found = kernel_find(device, key);
    if (found != NULL)
        *out = *found;
    mutex_unlock(&device->lock);
    return found != NULL;
}

bool kernel_launch(tsr_device *device, const char *key, grid g, const hal_binding *bindings, uint32_t binding_count,
                   const void *params, uint32_t params_bytes)
{
    cached_kernel found;
    if (!kernel_get(device, key, &found))
        return false;
    const hal_launch launch = {
        .kernel = found.kernel,
        .grid = {g.x == 0 ? 1 : g.x, g.y == 0 ? 1 : g.y, g.z == 0 ? 1 : g.z},
        .bindings = bindings,
        .binding_count = binding_count,
        .params = params,
        .params_bytes = params_bytes,
    };
    if (hal_kernel_launch(device->queue, &launch) == TSR_OK)
        return !found.faulty || spoil(device, found.entry, bindings);
    fail_prefix("kernel '%s' on %s", key, device->id);
    return false;
}

hal_device_class device_variant(tsr_device *device)
{
    return variant_wanted(&device->hal->info);
}

uint32_t kernel_group_size(tsr_device *device, const char *key)
{
    cached_kernel found;
    return kernel_get(device, key, &found) ? found.group_size : 0;
}

kernel_key key_of(const char *name, tsr_dtype dtype)
{
    kernel_key key;
    snprintf(key.text, sizeof key.text, "%s/%s", name, tsr_dtype_name(dtype));
    return key;
}

kernel_key key_of2(const char *name, tsr_dtype x, tsr_dtype y)
{
    kernel_key key;
    snprintf(key.text, sizeof key.text, "%s/%s/%s", name, tsr_dtype_name(x), tsr_dtype_name(y));
    return key;
}

kernel_key key_op(const char *name, tsr_dtype dtype, const char *op)
{
    kernel_key key;
    snprintf(key.text, sizeof key.text, "%s/%s/%s", name, op, tsr_dtype_name(dtype));
    return key;
}
