/* Devices: what there is, what each can do, its context, its loss. Owns the backend's table. */
#include "cuda_backend.h"

#include "nvrtc.h"

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- what there is ----------------------------------------------------------------------------------------------- */

tsr_status cuda_enumerate(uint32_t *count, char *why, size_t why_size)
{
    error_state before;
    const cuda_api *api;

    error_save(&before);
    *count = 0;
    api = cuda_load();
    if (api && nvrtc_load(api->version) == TSR_OK) {
        *count = (uint32_t)api->count;
        snprintf(why, why_size, "%s", "");
    } else {
        snprintf(why, why_size, "%s", tsr_last_error());
    }
    error_restore(&before); /* an absent driver is no failure */
    return TSR_OK;
}

static int attribute(const cuda_api *api, cu_device device, unsigned int which)
{
    int value = 0;
    return api->device_get_attribute(&value, which, device) == CU_OK ? value : 0;
}

static void put_uuid(const cuda_api *api, cu_device device, char out[40])
{
    unsigned char bytes[16];
    struct CUuuid_st *uuid = (struct CUuuid_st *)(void *)bytes;
    cu_result result = CU_NOT_FOUND;

    if (api->device_get_uuid_v2)
        result = api->device_get_uuid_v2(uuid, device);
    if (result != CU_OK)
        result = api->device_get_uuid(uuid, device);
    out[0] = 0;
    for (size_t i = 0; result == CU_OK && i < sizeof bytes; i++)
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

/* "NVIDIA 580.95.05, CUDA 13.0". The driver API tells only the second; the first is the kernel module's, on Linux. */
static void put_driver(const cuda_api *api, char *out, size_t size)
{
    uint8_t *module = NULL;
    size_t length;
    error_state before;

    error_save(&before);
    if (file_read_all("/sys/module/nvidia/version", &module, &length, 64) == TSR_OK)
        module[strcspn((char *)module, "\r\n")] = 0;
    error_restore(&before);
    snprintf(out, size, "NVIDIA%s%s, CUDA %d.%d", module ? " " : "", module ? (char *)module : "", api->version / 1000,
             api->version % 1000 / 10);
    host_free(module);
}

tsr_status cuda_info(uint32_t index, hal_device_info *info)
{
    const cuda_api *api = cuda_load();
    cu_device device;
    size_t memory = 0;
    cu_result result;
    int nvrtc_major, nvrtc_minor;
    tsr_status status;

    if (!api)
        return tsr_last_status();
    if ((status = nvrtc_load(api->version)))
        return status;
    if (index >= (uint32_t)api->count)
        return fail(TSR_NO_DEVICE, "there is no cuda:%u: the driver has %d device%s", index, api->count,
                    api->count == 1 ? "" : "s");
    memset(info, 0, sizeof *info);
    if ((result = api->device_get(&device, (int)index)) || (result = api->device_total_mem(&memory, device)) ||
        (result = api->device_get_name(info->name, sizeof info->name, device)))
        return fail(cuda_result_is_loss(result) ? TSR_DEVICE_LOST : TSR_DRIVER_ERROR,
                    "asking cuda:%u for its properties: %s", index, cuda_result_name(api, result));
    info->name[sizeof info->name - 1] = 0;
    snprintf(info->vendor, sizeof info->vendor, "NVIDIA");
    put_driver(api, info->driver, sizeof info->driver);
    put_uuid(api, device, info->uuid);
    info->device_class = HAL_CLASS_GPU;
    info->code = HAL_CODE_SOURCE;
    info->features = HAL_FEATURE_STORAGE_16 | HAL_FEATURE_STORAGE_8 | HAL_FEATURE_INT64 | HAL_FEATURE_FLOAT64;
    info->memory_bytes = memory;
    info->max_buffer_bytes = memory;
    info->max_binding_bytes = memory; /* pointers are 64-bit */
    info->binding_alignment = 1;      /* a pointer to any element */
    info->max_group_size = (uint32_t)attribute(api, device, CU_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
    info->shared_bytes = (uint32_t)attribute(api, device, CU_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK);
    info->subgroup_size = (uint32_t)attribute(api, device, CU_ATTRIBUTE_WARP_SIZE);
    info->compute_units = (uint32_t)attribute(api, device, CU_ATTRIBUTE_MULTIPROCESSOR_COUNT);
    info->unified_memory = attribute(api, device, CU_ATTRIBUTE_INTEGRATED) != 0;
    info->copies_apart = true;
    nvrtc_version(&nvrtc_major, &nvrtc_minor);
    snprintf(info->notes, sizeof info->notes, "compute capability %d.%d; NVRTC %d.%d%s",
             attribute(api, device, CU_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR),
             attribute(api, device, CU_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR), nvrtc_major, nvrtc_minor,
             attribute(api, device, CU_ATTRIBUTE_ECC_ENABLED) ? "; ECC" : "");
    return TSR_OK;
}

/* ---- open and close ---------------------------------------------------------------------------------------------- */

tsr_status cuda_open(uint32_t index, hal_device **device)
{
    hal_device_info info;
    tsr_status status = cuda_info(index, &info);
    cuda_device *d;
    cu_result result;

    if (status)
        return status;
    d = host_alloc_zeroed(1, sizeof *d);
    if (!d)
        return tsr_last_status();
    d->base.info = info;
    d->base.index = index;
    d->api = cuda_load();
    atomic_init(&d->lost, false);
    mutex_init(&d->lock);
    result = d->api->device_get(&d->handle, (int)index);
    if (result == CU_OK) {
        d->arch = 10 * attribute(d->api, d->handle, CU_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) +
                  attribute(d->api, d->handle, CU_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
        result = d->api->primary_ctx_retain(&d->context, d->handle);
    }
    if (result == CU_OK) {
        *device = &d->base;
        return TSR_OK;
    }
    if (result == CU_OUT_OF_MEMORY)
        status = fail(TSR_OUT_OF_DEVICE_MEMORY,
                      "opening cuda:%u (%s): no memory for a context; another program holds it "
                      "(`nvidia-smi` shows which)",
                      index, info.name);
    else
        status =
            fail(TSR_DRIVER_ERROR, "opening cuda:%u (%s): %s%s", index, info.name, cuda_result_name(d->api, result),
                 attribute(d->api, d->handle, CU_ATTRIBUTE_COMPUTE_MODE) == CU_MODE_PROHIBITED
                     ? "; its compute mode forbids it: `nvidia-smi -c 0`"
                     : "");
    mutex_destroy(&d->lock);
    host_free(d);
    return status;
}

void cuda_close(hal_device *device)
{
    cuda_device *d = cuda_device_of(device);

    cuda_gemm_free(d);
    d->api->primary_ctx_release(
        d->handle); /* a lost context goes with its last user, so the device can be opened again */
    mutex_destroy(&d->lock);
    host_free(d);
}

/* ---- context and loss -------------------------------------------------------------------------------------------- */

static tsr_status fail_lost(cuda_device *d)
{
    char loss[sizeof d->loss];

    mutex_lock(&d->lock);
    memcpy(loss, d->loss, sizeof loss);
    mutex_unlock(&d->lock);
    return fail(TSR_DEVICE_LOST, "cuda:%u (%s) is lost: %s; close it and open it again", d->base.index,
                d->base.info.name, loss);
}

static void mark_lost(cuda_device *d, const char *why)
{
    mutex_lock(&d->lock);
    if (!atomic_load(&d->lost)) { /* the first reason is the true one */
        snprintf(d->loss, sizeof d->loss, "%s", why);
        atomic_store(&d->lost, true);
    }
    mutex_unlock(&d->lock);
}

tsr_status cuda_check(cuda_device *d, cu_result result, const char *what, ...)
{
    char action[160], loss[256];
    va_list arguments;

    if (LIKELY(result == CU_OK))
        return TSR_OK;
    va_start(arguments, what);
    vsnprintf(action, sizeof action, what, arguments);
    va_end(arguments);
    if (cuda_result_is_loss(result)) {
        snprintf(loss, sizeof loss, "%s, found when %s", cuda_result_name(d->api, result), action);
        mark_lost(d, loss);
        return fail_lost(d);
    }
    if (result == CU_OUT_OF_MEMORY) {
        size_t available = 0, total = 0;
        d->api->mem_get_info(&available, &total);
        return fail(TSR_OUT_OF_DEVICE_MEMORY, "%s on cuda:%u (%s): out of memory, %zu of %zu MiB are free", action,
                    d->base.index, d->base.info.name, available >> 20, total >> 20);
    }
    return fail(TSR_DRIVER_ERROR, "%s on cuda:%u (%s): %s", action, d->base.index, d->base.info.name,
                cuda_result_name(d->api, result));
}

tsr_status cuda_enter(cuda_device *d)
{
    if (UNLIKELY(atomic_load_explicit(&d->lost, memory_order_relaxed)))
        return fail_lost(d);
    return cuda_check(d, d->api->ctx_push(d->context), "making its context current");
}

bool cuda_enter_to_destroy(cuda_device *d)
{
    return d->api->ctx_push(d->context) == CU_OK;
}

void cuda_leave(cuda_device *d)
{
    cu_context popped;
    d->api->ctx_pop(&popped);
}

tsr_status cuda_device_status(hal_device *device)
{
    cuda_device *d = cuda_device_of(device);
    cu_result found = CU_OK;
    tsr_status status = cuda_enter(d);

    if (status)
        return status;
    mutex_lock(&d->lock);
    for (const cuda_queue *q = d->queues; q && found == CU_OK; q = q->next) {
        const cu_result result = d->api->stream_query(q->stream);
        if (cuda_result_is_loss(result))
            found = result;
    }
    mutex_unlock(&d->lock);
    status = cuda_check(d, found, "asking for its state");
    cuda_leave(d);
    return status;
}

void cuda_lose(hal_device *device)
{
    mark_lost(cuda_device_of(device), "it was made to look so by a test");
}

/* ---- the table --------------------------------------------------------------------------------------------------- */

#define FILL(entry) .entry = cuda_##entry,
const hal_backend cuda_backend = {
    .name = "cuda",
    HAL_ENTRIES(FILL).gemm = cuda_gemm,
    .gemm_route = cuda_gemm_route,
    .lose = cuda_lose,
};
