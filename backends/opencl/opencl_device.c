/* Devices: what they are, opening, losing and closing them, and the table. */
#include "opencl_backend.h"

#include "base/error.h"
#include "base/log.h"
#include "base/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

tsr_status opencl_enumerate(uint32_t *count, char *why, size_t why_size)
{
    const opencl_found *found;
    return opencl_devices(&found, count, why, why_size);
}

/* ---- what a device is ------------------------------------------------------------------------------------------ */

static void find_uuid(const opencl_found *found, hal_device_info *info)
{
    uint8_t bytes[SHA256_SIZE];
    if (opencl_has_extension(found->device, "cl_khr_device_uuid") &&
        cl.clGetDeviceInfo(found->device, CL_DEVICE_UUID_KHR, CL_UUID_SIZE_KHR, bytes, NULL) == CL_SUCCESS) {
        for (int i = 0; i < CL_UUID_SIZE_KHR; i++)
            snprintf(info->uuid + 2 * i, 3, "%02x", bytes[i]);
        return;
    }
    /* From what names the device and stays the same between runs and driver updates. */
    char platform[256];
    sha256 hash;
    opencl_platform_text(found->platform, CL_PLATFORM_NAME, platform, sizeof platform);
    sha256_begin(&hash);
    sha256_update_string(&hash, platform);
    sha256_update_string(&hash, info->vendor);
    sha256_update_string(&hash, info->name);
    sha256_update(&hash, &found->ordinal, sizeof found->ordinal);
    sha256_end(&hash, bytes);
    for (int i = 0; i < 16; i++)
        snprintf(info->uuid + 2 * i, 3, "%02x", bytes[i]);
}

static uint32_t subgroup_size(cl_device_id device)
{
    if (opencl_has_extension(device, "cl_nv_device_attribute_query"))
        return (uint32_t)opencl_device_number(device, CL_DEVICE_WARP_SIZE_NV);
    if (opencl_has_extension(device, "cl_amd_device_attribute_query"))
        return (uint32_t)opencl_device_number(device, CL_DEVICE_WAVEFRONT_WIDTH_AMD);
    return 0;
}

/* For which processor PoCL compiles: its device version ends with "HSTR: pthread-x86_64-pc-linux-gnu-skylake-avx512". */
static void note_target(cl_device_id device, char *notes, size_t size)
{
    char version[256];
    opencl_device_text(device, CL_DEVICE_VERSION, version, sizeof version);
    const char *target = strstr(version, "HSTR: ");
    if (target) {
        const size_t used = strlen(notes);
        snprintf(notes + used, size - used, "%scompiles for %s", used ? "; " : "", target + strlen("HSTR: "));
    }
}

static void describe(const opencl_found *found, hal_device_info *info)
{
    const cl_device_id device = found->device;
    char platform[64], driver[64];
    *info = (hal_device_info){.code = HAL_CODE_SOURCE, .binding_alignment = 1};

    opencl_device_text(device, CL_DEVICE_NAME, info->name, sizeof info->name);
    opencl_device_text(device, CL_DEVICE_VENDOR, info->vendor, sizeof info->vendor);
    opencl_platform_text(found->platform, CL_PLATFORM_NAME, platform, sizeof platform);
    opencl_device_text(device, CL_DRIVER_VERSION, driver, sizeof driver);
    snprintf(info->driver, sizeof info->driver, "%s %s", platform, driver);
    find_uuid(found, info);

    info->software = (opencl_device_number(device, CL_DEVICE_TYPE) & CL_DEVICE_TYPE_CPU) != 0;
    info->device_class = info->software ? HAL_CLASS_CPU : HAL_CLASS_GPU;
    /* OpenCL 1.2 addresses bytes and 16-bit words and has 64-bit integers; doubles are up to the device. */
    info->features = HAL_FEATURE_STORAGE_16 | HAL_FEATURE_STORAGE_8 | HAL_FEATURE_INT64;
    if (opencl_device_number(device, CL_DEVICE_DOUBLE_FP_CONFIG) || opencl_has_extension(device, "cl_khr_fp64"))
        info->features |= HAL_FEATURE_FLOAT64;
    else
        snprintf(info->notes, sizeof info->notes, "no double precision");

    info->memory_bytes = opencl_device_number(device, CL_DEVICE_GLOBAL_MEM_SIZE);
    info->max_buffer_bytes = opencl_device_number(device, CL_DEVICE_MAX_MEM_ALLOC_SIZE);
    info->max_binding_bytes = info->max_buffer_bytes;
    info->max_group_size = (uint32_t)opencl_device_number(device, CL_DEVICE_MAX_WORK_GROUP_SIZE);
    info->shared_bytes = (uint32_t)opencl_device_number(device, CL_DEVICE_LOCAL_MEM_SIZE);
    info->compute_units = (uint32_t)opencl_device_number(device, CL_DEVICE_MAX_COMPUTE_UNITS);
    info->unified_memory = opencl_device_number(device, CL_DEVICE_HOST_UNIFIED_MEMORY) != 0;
    info->copies_apart = true; /* queues are the driver's to run side by side */
    info->subgroup_size = subgroup_size(device);
    note_target(device, info->notes, sizeof info->notes);
}

static tsr_status find(uint32_t index, const opencl_found **found)
{
    char why[512] = "";
    uint32_t count = 0;
    const tsr_status status = opencl_devices(found, &count, why, sizeof why);
    if (status)
        return status;
    if (count == 0)
        return fail(TSR_NO_DEVICE, "there is no OpenCL device: %s", why);
    if (index >= count)
        return fail(TSR_NO_DEVICE, "there is no OpenCL device %u; there are %u, counted from 0", (unsigned)index,
                    (unsigned)count);
    *found += index;
    return TSR_OK;
}

tsr_status opencl_info(uint32_t index, hal_device_info *info)
{
    const opencl_found *found;
    const tsr_status status = find(index, &found);
    if (status)
        return status;
    describe(found, info);
    return TSR_OK;
}

/* ---- open and close -------------------------------------------------------------------------------------------- */

static void set_options(opencl_device *device)
{
    const bool correct =
        (opencl_device_number(device->id, CL_DEVICE_SINGLE_FP_CONFIG) & CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT) != 0;
    snprintf(device->options, sizeof device->options, "-cl-std=CL1.2%s",
             correct ? " -cl-fp32-correctly-rounded-divide-sqrt -DCORRECT_DIVISION" : "");
}

/* PoCL keeps what it compiles, for the very work-group sizes that were launched; loading from there takes 20 ms a kernel. Its
 * binaries hold code for any size instead: one for our cache costs up to a second more at the first build, and the
 * first launch compiles all the same. */
static bool driver_caches(const opencl_device *device)
{
    char platform[64];
    const char *own = getenv("POCL_KERNEL_CACHE");
    opencl_platform_text(device->platform, CL_PLATFORM_NAME, platform, sizeof platform);
    return strcmp(platform, "Portable Computing Language") == 0 && !(own && strcmp(own, "0") == 0);
}

/* The device's version holds what PoCL compiles for, which may change with the machine under a shared home folder. */
static void set_identity(opencl_device *device)
{
    static const cl_device_info asked[] = {CL_DEVICE_NAME, CL_DEVICE_VENDOR, CL_DEVICE_VERSION, CL_DRIVER_VERSION};
    char text[256];
    sha256 hash;
    sha256_begin(&hash);
    for (size_t i = 0; i < COUNT_OF(asked); i++) {
        opencl_device_text(device->id, asked[i], text, sizeof text);
        sha256_update_string(&hash, text);
    }
    opencl_platform_text(device->platform, CL_PLATFORM_VERSION, text, sizeof text);
    sha256_update_string(&hash, text);
    sha256_update_string(&hash, device->options);
    sha256_end_hex(&hash, device->identity);
}

tsr_status opencl_open(uint32_t index, hal_device **opened)
{
    const opencl_found *found;
    tsr_status status = find(index, &found);
    if (status)
        return status;
    opencl_device *device = host_alloc_zeroed(1, sizeof *device);
    if (!device)
        return TSR_OUT_OF_MEMORY;
    device->platform = found->platform;
    device->id = found->device;
    describe(found, &device->base.info);
    device->plain_host_memory = device->base.info.software;
    device->driver_caches = driver_caches(device);
    set_options(device);
    set_identity(device);
    mutex_init(&device->lock);

    const cl_context_properties properties[] = {CL_CONTEXT_PLATFORM, (cl_context_properties)found->platform, 0};
    cl_int error;
    device->context = cl.clCreateContext(properties, 1, &device->id, NULL, NULL, &error);
    status = opencl_check(device, error, "opening %s", device->base.info.name);
    if (!status) {
        device->chores = cl.clCreateCommandQueue(device->context, device->id, 0, &error);
        status = opencl_check(device, error, "opening %s", device->base.info.name);
    }
    if (status) {
        opencl_close(&device->base);
        return status;
    }
    *opened = &device->base;
    return TSR_OK;
}

void opencl_close(hal_device *base)
{
    opencl_device *device = (opencl_device *)base;
    opencl_dig(device, true);
    if (device->chores)
        cl.clReleaseCommandQueue(device->chores);
    if (device->context)
        cl.clReleaseContext(device->context);
    mutex_destroy(&device->lock);
    host_free(device);
}

/* ---- errors, and losing a device ------------------------------------------------------------------------------- */

void opencl_mark_lost(opencl_device *device, const char *reason)
{
    mutex_lock(&device->lock);
    if (!atomic_load(&device->lost)) {
        snprintf(device->lost_reason, sizeof device->lost_reason, "%s", reason);
        atomic_store(&device->lost, true);
        log_warn("opencl: %s was lost: %s", device->base.info.name, reason);
    }
    mutex_unlock(&device->lock);
}

tsr_status opencl_alive(opencl_device *device)
{
    if (LIKELY(!atomic_load_explicit(&device->lost, memory_order_acquire)))
        return TSR_OK;
    return fail(TSR_DEVICE_LOST, "the OpenCL device %s was lost (%s): what it held is gone; close it and open it again",
                device->base.info.name, device->lost_reason);
}

tsr_status opencl_device_status(hal_device *device)
{
    return opencl_alive((opencl_device *)device);
}

static void lose(hal_device *device)
{
    opencl_mark_lost((opencl_device *)device, "a test asked for it");
}

static tsr_status lost_by(opencl_device *device, const char *what, cl_int error)
{
    char reason[256];
    snprintf(reason, sizeof reason, "%.180s: %s (%d)", what, opencl_error_name(error), error);
    opencl_mark_lost(device, reason);
    return opencl_alive(device);
}

tsr_status opencl_check(opencl_device *device, cl_int error, const char *what, ...)
{
    if (LIKELY(error == CL_SUCCESS))
        return TSR_OK;

    char text[512];
    va_list arguments;
    va_start(arguments, what);
    vsnprintf(text, sizeof text, what, arguments);
    va_end(arguments);
    switch (error) {
    case CL_DEVICE_NOT_AVAILABLE:
    case CL_INVALID_COMMAND_QUEUE: /* NVIDIA's after a fault: the queue was valid when it was made */
    case CL_INVALID_CONTEXT: return lost_by(device, text, error);
    case CL_MEM_OBJECT_ALLOCATION_FAILURE:
        return fail(TSR_OUT_OF_DEVICE_MEMORY, "%s: %s has no memory left for it (%llu bytes in all, %llu in use here)",
                    text, device->base.info.name, (unsigned long long)device->base.info.memory_bytes,
                    (unsigned long long)atomic_load(&device->allocated));
    case CL_OUT_OF_HOST_MEMORY:
        return fail(TSR_OUT_OF_MEMORY, "%s: the OpenCL driver has no host memory left for it", text);
    default:
        return fail(TSR_DRIVER_ERROR, "%s: the OpenCL driver of %s says %s (%d)", text, device->base.info.name,
                    opencl_error_name(error), error);
    }
}

tsr_status opencl_check_done(opencl_device *device, cl_int error, const char *what)
{
    if (LIKELY(error == CL_SUCCESS))
        return TSR_OK;
    return error == CL_OUT_OF_HOST_MEMORY ? opencl_check(device, error, "%s", what) : lost_by(device, what, error);
}

/* ---- the table ------------------------------------------------------------------------------------------------- */

#define FILL(entry) .entry = opencl_##entry,
const hal_backend opencl_backend = {.name = "opencl", HAL_ENTRIES(FILL).lose = lose};
