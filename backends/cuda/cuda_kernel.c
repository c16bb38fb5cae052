/* Kernels: dialect text → cubin (nvrtc.c) → module, and their launch. */
#include "cuda_backend.h"

#include "nvrtc.h"

#include "base/error.h"
#include "base/log.h"
#include "base/memory.h"

#include <stdio.h>
#include <string.h>

enum { JIT_LOG_BYTES = 512 };

static bool image_refused(cu_result result)
{
    return result == CU_INVALID_IMAGE || result == CU_NO_BINARY_FOR_GPU || result == CU_INVALID_PTX ||
           result == CU_UNSUPPORTED_PTX_VERSION;
}

static cu_result load_image(cuda_device *d, const void *image, cu_module *module, char log[JIT_LOG_BYTES])
{
    unsigned int options[] = {CU_JIT_ERROR_LOG, CU_JIT_ERROR_LOG_BYTES};
    void *values[] = {log, (void *)(uintptr_t)JIT_LOG_BYTES};
    cu_result result;

    log[0] = 0;
    result = d->api->module_load(module, image, 2, options, values);
    log[JIT_LOG_BYTES - 1] = 0;
    return result;
}

tsr_status cuda_module_load(cuda_device *d, const hal_kernel_desc *desc, cu_module *module, cu_function *function)
{
    char log[JIT_LOG_BYTES];
    cu_result result = CU_OK;
    uint8_t *image;
    size_t size;
    bool cached = false, fresh = false;

    do {
        tsr_status status = cuda_compile_cached(desc, d->arch, fresh, &image, &size, &cached);
        if (status)
            return status;
        result = load_image(d, image, module, log);
        host_free(image);
        fresh = image_refused(result) && cached; /* a cache from another driver's days: once more, compiled now */
    } while (fresh);

    if (image_refused(result)) {
        int major, minor;
        nvrtc_version(&major, &minor);
        return fail(
            TSR_DRIVER_ERROR,
            "the driver (CUDA %d.%d) refuses kernel %s as NVRTC %d.%d compiled it: %s%s%s; install a newer driver or "
            "NVRTC %d",
            d->api->version / 1000, d->api->version % 1000 / 10, desc->key, major, minor,
            cuda_result_name(d->api, result), log[0] ? ": " : "", log, d->api->version / 1000);
    }
    if (result != CU_OK)
        return cuda_check(d, result, "loading kernel %s", desc->key);
    result = d->api->module_get_function(function, *module, desc->entry);
    if (result == CU_OK)
        return TSR_OK;
    d->api->module_unload(*module);
    if (result == CU_NOT_FOUND)
        return fail(TSR_NOT_FOUND, "kernel %s has no entry \"%s\": is it extern \"C\" __global__?", desc->key,
                    desc->entry);
    return cuda_check(d, result, "looking up kernel %s", desc->key);
}

static tsr_status check_limits(cuda_device *d, const hal_kernel_desc *desc, cu_function function)
{
    int most = 0;
    tsr_status status = cuda_check(d, d->api->func_get_attribute(&most, CU_FUNCTION_MAX_THREADS, function),
                                   "asking for the limits of kernel %s", desc->key);

    if (!status && desc->group_size > (uint32_t)most)
        status = fail(TSR_UNSUPPORTED, "kernel %s needs work-groups of %u, cuda:%u (%s) runs it with at most %d",
                      desc->key, desc->group_size, d->base.index, d->base.info.name, most);
    return status;
}

tsr_status cuda_kernel_create(hal_device *device, const hal_kernel_desc *desc, hal_kernel **kernel)
{
    cuda_device *d = cuda_device_of(device);
    tsr_status status;
    cuda_kernel *k;

    if (desc->code != HAL_CODE_SOURCE)
        return fail(TSR_UNSUPPORTED, "kernel %s is not source text, which is what cuda:%u takes", desc->key,
                    device->index);
    if ((status = cuda_enter(d)))
        return status;
    k = host_alloc_zeroed(1, sizeof *k);
    status = k ? cuda_module_load(d, desc, &k->module, &k->function) : tsr_last_status();
    if (!status && (status = check_limits(d, desc, k->function)))
        d->api->module_unload(k->module);
    cuda_leave(d);
    if (status) {
        host_free(k);
        return status;
    }
    snprintf(k->key, sizeof k->key, "%s", desc->key);
    *kernel = &k->base;
    return TSR_OK;
}

void cuda_kernel_destroy(hal_kernel *kernel)
{
    cuda_kernel *k = (cuda_kernel *)kernel;
    cuda_device *d = cuda_device_of(kernel->device);

    if (cuda_enter_to_destroy(d)) {
        cuda_wait_all(d); /* the code may still run */
        d->api->module_unload(k->module);
        cuda_leave(d);
    }
    host_free(k);
}

tsr_status cuda_launch(hal_queue *queue, const hal_launch *launch)
{
    cuda_device *d = cuda_device_of(queue->device);
    const cuda_kernel *k = (const cuda_kernel *)launch->kernel;
    cu_deviceptr addresses[HAL_MAX_BINDINGS];
    uint32_t params[HAL_MAX_PARAMS / 4]; /* the driver copies them during the call, but takes no pointer to const */
    void *arguments[HAL_MAX_BINDINGS + 1];
    tsr_status status = cuda_enter(d);

    if (status)
        return status;
    for (uint32_t i = 0; i < launch->binding_count; i++) {
        addresses[i] = ((cuda_buffer *)launch->bindings[i].buffer)->address + launch->bindings[i].offset;
        arguments[i] = &addresses[i];
    }
    if (launch->params_bytes > 0)
        memcpy(params, launch->params, launch->params_bytes);
    arguments[launch->binding_count] = params;
    status =
        cuda_check(d,
                   d->api->launch_kernel(k->function, launch->grid[0], launch->grid[1], launch->grid[2],
                                         k->base.group_size, 1, 1, 0, ((cuda_queue *)queue)->stream, arguments, NULL),
                   "launching kernel %s", k->key);
    cuda_leave(d);
    return status;
}
