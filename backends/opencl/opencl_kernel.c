/* Kernels: built from text, or from the binary that an earlier run left in the cache, and launched. */
#include "opencl_backend.h"

#include "base/cache.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/memory.h"
#include "dispatch/preludes.h"

#include <stdio.h>
#include <string.h>

enum { MOST_PIECES = 15 };

typedef struct opencl_kernel {
    hal_kernel base;
    cl_kernel handle;
    char key[64]; /* for messages */
    mutex lock;   /* arguments belong to the kernel, not to the launch */
    /* What was set last; ids and not handles, which drivers use again. */
    uint64_t buffer_id[HAL_MAX_BINDINGS];
    cl_ulong offset[HAL_MAX_BINDINGS];
    uint8_t params[HAL_MAX_PARAMS];
    bool params_set;
} opencl_kernel;

/* ---- building -------------------------------------------------------------------------------------------------- */

/* The driver's complaint: its beginning in the error, all of it in the log. */
static tsr_status build_failed(opencl_device *device, const char *key, cl_program program, cl_int error)
{
    size_t size = 0;
    char *text = NULL;
    cl.clGetProgramBuildInfo(program, device->id, CL_PROGRAM_BUILD_LOG, 0, NULL, &size);
    if (size > 1 && (text = host_alloc(size + 1)) != NULL) {
        text[0] = 0;
        cl.clGetProgramBuildInfo(program, device->id, CL_PROGRAM_BUILD_LOG, size, text, NULL);
        text[size] = 0;
        log_warn("opencl: kernel %s does not compile on %s:\n%s", key, device->base.info.name, text);
    }
    const tsr_status status =
        error == CL_DEVICE_NOT_AVAILABLE || error == CL_OUT_OF_HOST_MEMORY
            ? opencl_check(device, error, "building kernel %s", key)
            : fail(TSR_DRIVER_ERROR, "kernel %s does not compile on %s (%s, %d): %.700s", key, device->base.info.name,
                   opencl_error_name(error), error, text && text[0] ? text : "the driver gives no reason");
    host_free(text);
    return status;
}

static void cache_key(const opencl_device *device, const char *const *pieces, const size_t *lengths, cl_uint count,
                      char key[SHA256_HEX_SIZE])
{
    sha256 hash;
    sha256_begin(&hash);
    sha256_update_string(&hash, device->identity);
    for (cl_uint i = 0; i < count; i++)
        sha256_update(&hash, pieces[i], lengths[i]);
    sha256_end_hex(&hash, key);
}

/* NULL, without an error, if there is none or the driver does not take it any more. */
static cl_program program_from_cache(opencl_device *device, const char *key)
{
    uint8_t *bytes;
    size_t size;
    if (!cache_load("opencl", key, &bytes, &size))
        return NULL;
    const unsigned char *const binaries[] = {bytes};
    cl_int status = CL_SUCCESS, error = CL_SUCCESS;
    cl_program program = cl.clCreateProgramWithBinary(device->context, 1, &device->id, &size,
                                                      (const unsigned char **)binaries, &status, &error);
    if (!error && !status)
        error = cl.clBuildProgram(program, 1, &device->id, device->options, NULL, NULL);
    host_free(bytes);
    if (!error && !status)
        return program;
    log_info("opencl: a cached program is refused (%s, %d) and built again", opencl_error_name(error ? error : status),
             error ? error : status);
    if (program)
        cl.clReleaseProgram(program);
    return NULL;
}

static void program_to_cache(const char *key, cl_program program)
{
    size_t size = 0;
    if (cl.clGetProgramInfo(program, CL_PROGRAM_BINARY_SIZES, sizeof size, &size, NULL) || size == 0)
        return;
    error_state before;
    error_save(&before);
    unsigned char *bytes = host_alloc(size);
    if (bytes && cl.clGetProgramInfo(program, CL_PROGRAM_BINARIES, sizeof bytes, &bytes, NULL) == CL_SUCCESS)
        cache_store("opencl", key, bytes, size);
    host_free(bytes);
    error_restore(&before);
}

/* With `look`, from the cache if that has it; *loaded tells. */
static tsr_status build(opencl_device *device, const hal_kernel_desc *desc, bool look, cl_program *built,
                        char key[SHA256_HEX_SIZE], bool *loaded)
{
    const char *pieces[1 + MOST_PIECES] = {opencl_prelude};
    size_t lengths[1 + MOST_PIECES] = {strlen(opencl_prelude)};
    cl_uint count = 1;
    if (desc->source_count > MOST_PIECES)
        return fail(TSR_UNSUPPORTED, "kernel %s comes in %zu pieces of text; OpenCL takes at most %d", desc->key,
                    desc->source_count, MOST_PIECES);
    for (size_t i = 0; i < desc->source_count; i++, count++) {
        pieces[count] = desc->source[i] ? desc->source[i] : "";
        lengths[count] = strlen(pieces[count]);
    }
    if (!device->driver_caches)
        cache_key(device, pieces, lengths, count, key);
    *built = look ? program_from_cache(device, key) : NULL;
    *loaded = *built != NULL;
    if (*loaded)
        return TSR_OK;

    cl_int error;
    cl_program program = cl.clCreateProgramWithSource(device->context, count, pieces, lengths, &error);
    if (error)
        return opencl_check(device, error, "building kernel %s", desc->key);
    error = cl.clBuildProgram(program, 1, &device->id, device->options, NULL, NULL);
    if (error) {
        const tsr_status status = build_failed(device, desc->key, program, error);
        cl.clReleaseProgram(program);
        return status;
    }
    *built = program;
    return TSR_OK;
}

/* A kernel that needs many registers may run in smaller work-groups only than the device has. */
static tsr_status check_group(opencl_device *device, const hal_kernel_desc *desc, cl_kernel kernel)
{
    size_t most = 0;
    const cl_int error =
        cl.clGetKernelWorkGroupInfo(kernel, device->id, CL_KERNEL_WORK_GROUP_SIZE, sizeof most, &most, NULL);
    if (!error && most < desc->group_size)
        return fail(TSR_UNSUPPORTED, "kernel %s has work-groups of %u, but %s runs it with at most %zu", desc->key,
                    (unsigned)desc->group_size, device->base.info.name, most);
    return TSR_OK;
}

static tsr_status make(opencl_device *device, const hal_kernel_desc *desc, bool look, bool *loaded, cl_kernel *made)
{
    char key[SHA256_HEX_SIZE] = "";
    cl_program program;
    tsr_status status = build(device, desc, look, &program, key, loaded);
    if (status)
        return status;
    cl_int error;
    *made = cl.clCreateKernel(program, desc->entry, &error);
    if (error == CL_INVALID_KERNEL_NAME)
        status = fail(TSR_NOT_FOUND, "kernel %s: its text has no function %s", desc->key, desc->entry);
    else
        status = opencl_check(device, error, "creating kernel %s", desc->key);
    if (!status && (status = check_group(device, desc, *made)) != TSR_OK)
        cl.clReleaseKernel(*made);
    if (!status && !*loaded && !device->driver_caches)
        program_to_cache(key, program);
    cl.clReleaseProgram(program); /* the kernel keeps it */
    return status;
}

tsr_status opencl_kernel_create(hal_device *base, const hal_kernel_desc *desc, hal_kernel **created)
{
    opencl_device *device = (opencl_device *)base;
    tsr_status status = opencl_alive(device);
    if (status)
        return status;
    opencl_kernel *kernel = host_alloc_zeroed(1, sizeof *kernel);
    if (!kernel)
        return TSR_OUT_OF_MEMORY;

    const uint64_t begin = clock_ns();
    bool loaded = false;
    error_state before;
    error_save(&before);
    status = make(device, desc, !device->driver_caches, &loaded, &kernel->handle);
    if (status && loaded && status != TSR_DEVICE_LOST) { /* what came from the cache is not what it should be */
        error_restore(&before);
        status = make(device, desc, false, &loaded, &kernel->handle);
    }
    if (status) {
        host_free(kernel);
        return status;
    }
    log_debug("opencl: kernel %s %s in %.1f ms", desc->key, loaded ? "loaded" : "built",
              (double)(clock_ns() - begin) * 1e-6);
    snprintf(kernel->key, sizeof kernel->key, "%s", desc->key);
    mutex_init(&kernel->lock);
    *created = &kernel->base;
    return TSR_OK;
}

void opencl_kernel_destroy(hal_kernel *base)
{
    opencl_kernel *kernel = (opencl_kernel *)base;
    cl.clReleaseKernel(kernel->handle); /* the driver keeps it for the launches that are queued */
    mutex_destroy(&kernel->lock);
    host_free(kernel);
}

/* ---- launching ------------------------------------------------------------------------------------------------- */

/* For each binding the buffer and the offset in elements, then the parameters; only what differs from the last launch. */
static cl_int set_arguments(opencl_kernel *kernel, const hal_launch *launch)
{
    cl_int error = CL_SUCCESS;
    for (uint32_t i = 0; i < launch->binding_count && !error; i++) {
        const opencl_buffer *buffer = (const opencl_buffer *)launch->bindings[i].buffer;
        const cl_ulong offset = launch->bindings[i].offset / kernel->base.element_bytes[i];
        const bool first = kernel->buffer_id[i] == 0; /* ids begin with 1 */
        if (kernel->buffer_id[i] != buffer->id) {
            error = cl.clSetKernelArg(kernel->handle, 2 * i, sizeof buffer->memory, &buffer->memory);
            kernel->buffer_id[i] = error ? 0 : buffer->id;
        }
        if (!error && (first || kernel->offset[i] != offset)) {
            error = cl.clSetKernelArg(kernel->handle, 2 * i + 1, sizeof offset, &offset);
            kernel->offset[i] = offset;
            if (error)
                kernel->buffer_id[i] = 0;
        }
    }
    const uint32_t size = launch->params_bytes;
    if (!error && size > 0 && (!kernel->params_set || memcmp(kernel->params, launch->params, size) != 0)) {
        error = cl.clSetKernelArg(kernel->handle, 2 * launch->binding_count, size, launch->params);
        kernel->params_set = error == CL_SUCCESS;
        memcpy(kernel->params, launch->params, size);
    }
    return error;
}

tsr_status opencl_launch(hal_queue *base, const hal_launch *launch)
{
    opencl_device *device = (opencl_device *)base->device;
    opencl_kernel *kernel = (opencl_kernel *)launch->kernel;
    const tsr_status status = opencl_alive(device);
    if (status)
        return status;

    const size_t local[3] = {kernel->base.group_size, 1, 1};
    const size_t global[3] = {launch->grid[0] * local[0], launch->grid[1], launch->grid[2]};
    const cl_uint dimensions = launch->grid[2] > 1 ? 3 : launch->grid[1] > 1 ? 2 : 1;
    mutex_lock(&kernel->lock);
    cl_int error = set_arguments(kernel, launch);
    if (!error)
        error = cl.clEnqueueNDRangeKernel(((opencl_queue *)base)->handle, kernel->handle, dimensions, NULL, global,
                                          local, 0, NULL, NULL);
    mutex_unlock(&kernel->lock);
    return LIKELY(error == CL_SUCCESS)
               ? TSR_OK
               : opencl_check(device, error, "launching kernel %s on %u x %u x %u work-groups of %u", kernel->key,
                              (unsigned)launch->grid[0], (unsigned)launch->grid[1], (unsigned)launch->grid[2],
                              (unsigned)kernel->base.group_size);
}
