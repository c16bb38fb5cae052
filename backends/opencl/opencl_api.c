#include "opencl_api.h"

#include "base/compiler.h"
#include "base/dynlib.h"
#include "base/error.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/thread.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

opencl_api cl;

/* ---- what went wrong ------------------------------------------------------------------------------------------- */

#define NAME(code)                                                                                                     \
    {                                                                                                                  \
        code, #code                                                                                                    \
    }
static const struct {
    cl_int code;
    const char *name;
} error_names[] = {
    NAME(CL_SUCCESS),
    NAME(CL_DEVICE_NOT_FOUND),
    NAME(CL_DEVICE_NOT_AVAILABLE),
    NAME(CL_COMPILER_NOT_AVAILABLE),
    NAME(CL_MEM_OBJECT_ALLOCATION_FAILURE),
    NAME(CL_OUT_OF_RESOURCES),
    NAME(CL_OUT_OF_HOST_MEMORY),
    NAME(CL_PROFILING_INFO_NOT_AVAILABLE),
    NAME(CL_MEM_COPY_OVERLAP),
    NAME(CL_BUILD_PROGRAM_FAILURE),
    NAME(CL_MAP_FAILURE),
    NAME(CL_MISALIGNED_SUB_BUFFER_OFFSET),
    NAME(CL_COMPILE_PROGRAM_FAILURE),
    NAME(CL_LINKER_NOT_AVAILABLE),
    NAME(CL_LINK_PROGRAM_FAILURE),
    NAME(CL_DEVICE_PARTITION_FAILED),
    NAME(CL_INVALID_VALUE),
    NAME(CL_INVALID_DEVICE_TYPE),
    NAME(CL_INVALID_PLATFORM),
    NAME(CL_INVALID_DEVICE),
    NAME(CL_INVALID_CONTEXT),
    NAME(CL_INVALID_COMMAND_QUEUE),
    NAME(CL_INVALID_HOST_PTR),
    NAME(CL_INVALID_MEM_OBJECT),
    NAME(CL_INVALID_BINARY),
    NAME(CL_INVALID_BUILD_OPTIONS),
    NAME(CL_INVALID_PROGRAM_EXECUTABLE),
    NAME(CL_INVALID_KERNEL_NAME),
    NAME(CL_INVALID_KERNEL_DEFINITION),
    NAME(CL_INVALID_KERNEL),
    NAME(CL_INVALID_ARG_INDEX),
    NAME(CL_INVALID_ARG_VALUE),
    NAME(CL_INVALID_ARG_SIZE),
    NAME(CL_INVALID_KERNEL_ARGS),
    NAME(CL_INVALID_WORK_DIMENSION),
    NAME(CL_INVALID_WORK_GROUP_SIZE),
    NAME(CL_INVALID_WORK_ITEM_SIZE),
    NAME(CL_INVALID_GLOBAL_OFFSET),
    NAME(CL_INVALID_EVENT_WAIT_LIST),
    NAME(CL_INVALID_EVENT),
    NAME(CL_INVALID_OPERATION),
    NAME(CL_INVALID_BUFFER_SIZE),
    NAME(CL_INVALID_GLOBAL_WORK_SIZE),
    NAME(CL_INVALID_PROPERTY),
    NAME(CL_INVALID_COMPILER_OPTIONS),
    NAME(CL_INVALID_LINKER_OPTIONS),
    NAME(CL_INVALID_DEVICE_PARTITION_COUNT),
    NAME(CL_PLATFORM_NOT_FOUND_KHR),
};
#undef NAME

const char *opencl_error_name(cl_int error)
{
    for (size_t i = 0; i < COUNT_OF(error_names); i++) {
        if (error_names[i].code == error)
            return error_names[i].name;
    }
    return "unknown error";
}

/* ---- what devices and platforms say ----------------------------------------------------------------------------- */

/* Drivers pad names with blanks. */
static void trim(char *text)
{
    const size_t lead = strspn(text, " \t\n");
    memmove(text, text + lead, strlen(text + lead) + 1);
    size_t n = strlen(text);
    while (n > 0 && strchr(" \t\n", text[n - 1]))
        text[--n] = 0;
}

void opencl_device_text(cl_device_id device, cl_device_info what, char *out, size_t size)
{
    size_t needed = 0;
    out[0] = 0;
    if (cl.clGetDeviceInfo(device, what, 0, NULL, &needed) || needed == 0)
        return;
    char *all = host_alloc(needed + 1);
    if (!all)
        return;
    all[0] = 0;
    if (cl.clGetDeviceInfo(device, what, needed, all, NULL) == CL_SUCCESS) {
        all[needed] = 0;
        trim(all);
        snprintf(out, size, "%s", all);
    }
    host_free(all);
}

void opencl_platform_text(cl_platform_id platform, cl_platform_info what, char *out, size_t size)
{
    char all[1024];
    size_t needed = 0;
    out[0] = 0;
    if (cl.clGetPlatformInfo(platform, what, sizeof all - 1, all, &needed))
        return;
    all[needed] = 0;
    trim(all);
    snprintf(out, size, "%s", all);
}

uint64_t opencl_device_number(cl_device_id device, cl_device_info what)
{
    /* The answer is 4 or 8 bytes wide, by question and by the driver's bitness. */
    union {
        uint32_t narrow;
        uint64_t wide;
    } value = {.wide = 0};
    size_t size = 0;
    if (cl.clGetDeviceInfo(device, what, sizeof value, &value, &size))
        return 0;
    return size == 4 ? value.narrow : size == 8 ? value.wide : 0;
}

bool opencl_has_extension(cl_device_id device, const char *name)
{
    char list[8192];
    const size_t length = strlen(name);
    opencl_device_text(device, CL_DEVICE_EXTENSIONS, list, sizeof list);
    for (const char *at = list; (at = strstr(at, name)) != NULL; at += length) {
        const bool begins = at == list || at[-1] == ' ';
        if (begins && (at[length] == ' ' || at[length] == 0))
            return true;
    }
    return false;
}

/* ---- the list of devices ---------------------------------------------------------------------------------------- */

static struct {
    mutex lock;
    dynlib *loader;
    opencl_found found[OPENCL_MAX_DEVICES];
    uint32_t count;
} list = {.lock = MUTEX_INIT};

static bool open_loader(char *why, size_t why_size)
{
    static const char *const names[] = {"libOpenCL.so.1", "libOpenCL.so", NULL};
    static const dynlib_entry table[] = {
#define OPENCL_ENTRY(name) {#name, &cl.name, true},
        OPENCL_FUNCTIONS(OPENCL_ENTRY)
#undef OPENCL_ENTRY
    };

    if (list.loader)
        return true;
    dynlib *loader = dynlib_open(names);
    if (!loader) {
        snprintf(why, why_size,
                 "the OpenCL loader libOpenCL.so.1 cannot be opened; install it "
                 "(Debian and Ubuntu: ocl-icd-libopencl1) and a driver (pocl-opencl-icd runs on any processor)");
        return false;
    }
    if (dynlib_bind(loader, table, sizeof table / sizeof table[0])) {
        snprintf(why, why_size,
                 "the OpenCL loader is older than OpenCL 1.2 (%.120s); install a newer one "
                 "(Debian and Ubuntu: ocl-icd-libopencl1)",
                 tsr_last_error());
        dynlib_close(loader);
        return false;
    }
    list.loader = loader;
    return true;
}

/* NULL if the device can be used, else what it lacks. */
static const char *unusable(cl_device_id device)
{
    char version[256];
    int major = 0, minor = 0;
    opencl_device_text(device, CL_DEVICE_VERSION, version, sizeof version);
    if (sscanf(version, "OpenCL %d.%d", &major, &minor) != 2 || major * 100 + minor < 102)
        return "it has no OpenCL 1.2";
    if (!opencl_device_number(device, CL_DEVICE_COMPILER_AVAILABLE))
        return "its driver has no compiler";
    if (!opencl_device_number(device, CL_DEVICE_AVAILABLE))
        return "its driver says that it is not available";
    if (!opencl_device_number(device, CL_DEVICE_ENDIAN_LITTLE))
        return "it is big-endian";
    return NULL;
}

static bool looks_like(const opencl_found *a, cl_platform_id platform, cl_device_id device)
{
    char x[256], y[256];
    if (a->platform != platform)
        return false;
    opencl_device_text(a->device, CL_DEVICE_NAME, x, sizeof x);
    opencl_device_text(device, CL_DEVICE_NAME, y, sizeof y);
    return strcmp(x, y) == 0;
}

static void add(cl_platform_id platform, cl_device_id device)
{
    if (list.count == OPENCL_MAX_DEVICES)
        return;
    opencl_found *entry = &list.found[list.count];
    *entry = (opencl_found){.platform = platform, .device = device};
    for (uint32_t i = 0; i < list.count; i++)
        entry->ordinal += looks_like(&list.found[i], platform, device);
    list.count++;
}

/* TESSERA_OPENCL_SPLIT: several devices out of one processor, which run side by side. */
static bool add_split(cl_platform_id platform, cl_device_id device)
{
    const char *wish = getenv("TESSERA_OPENCL_SPLIT");
    const long parts = wish ? strtol(wish, NULL, 10) : 1;
    const uint64_t units = opencl_device_number(device, CL_DEVICE_MAX_COMPUTE_UNITS);
    if (parts <= 1 || parts > OPENCL_MAX_DEVICES ||
        !(opencl_device_number(device, CL_DEVICE_TYPE) & CL_DEVICE_TYPE_CPU))
        return false;
    if (units < (uint64_t)parts) {
        log_warn("opencl: TESSERA_OPENCL_SPLIT=%ld, but the device has %u cores; it stays whole", parts,
                 (unsigned)units);
        return false;
    }
    const cl_device_partition_property how[] = {CL_DEVICE_PARTITION_EQUALLY,
                                                (cl_device_partition_property)(units / (uint64_t)parts), 0};
    cl_device_id pieces[OPENCL_MAX_DEVICES];
    cl_uint count = 0;
    const cl_int error = cl.clCreateSubDevices(device, how, OPENCL_MAX_DEVICES, pieces, &count);
    if (error) {
        log_warn("opencl: the device cannot be split in %ld: %s (%d)", parts, opencl_error_name(error), error);
        return false;
    }
    for (cl_uint i = 0; i < count; i++)
        add(platform, pieces[i]);
    return true;
}

static void find_devices(char *why, size_t why_size)
{
    cl_platform_id platforms[32];
    cl_uint platform_count = 0;
    const cl_int error = cl.clGetPlatformIDs(32, platforms, &platform_count);
    if (error == CL_PLATFORM_NOT_FOUND_KHR || (!error && platform_count == 0)) {
        snprintf(why, why_size,
                 "the OpenCL loader finds no driver; install the GPU vendor's, or PoCL "
                 "(Debian and Ubuntu: pocl-opencl-icd), which runs on any processor");
        return;
    }
    if (error) {
        snprintf(why, why_size, "the OpenCL loader fails to list its drivers: %s (%d); `clinfo -l` shows more",
                 opencl_error_name(error), error);
        return;
    }
    if (platform_count > 32)
        platform_count = 32;

    snprintf(why, why_size, "the OpenCL drivers show no device; `clinfo -l` shows what they see");
    for (cl_uint p = 0; p < platform_count; p++) {
        cl_device_id devices[OPENCL_MAX_DEVICES];
        cl_uint device_count = 0;
        if (cl.clGetDeviceIDs(platforms[p], CL_DEVICE_TYPE_ALL, OPENCL_MAX_DEVICES, devices, &device_count))
            continue;
        if (device_count > OPENCL_MAX_DEVICES)
            device_count = OPENCL_MAX_DEVICES;
        for (cl_uint d = 0; d < device_count; d++) {
            const char *lack = unusable(devices[d]);
            if (lack) {
                char name[128];
                opencl_device_text(devices[d], CL_DEVICE_NAME, name, sizeof name);
                log_info("opencl: %s is left out: %s", name, lack);
                snprintf(why, why_size, "the OpenCL device %.80s cannot be used: %s; update its driver", name, lack);
            } else if (!add_split(platforms[p], devices[d])) {
                add(platforms[p], devices[d]);
            }
        }
    }
}

tsr_status opencl_devices(const opencl_found **found, uint32_t *count, char *why, size_t why_size)
{
    error_state before;
    error_save(&before);
    mutex_lock(&list.lock);
    if (list.count == 0 && open_loader(why, why_size))
        find_devices(why, why_size);
    *found = list.found;
    *count = list.count;
    mutex_unlock(&list.lock);
    if (*count > 0 && why_size > 0)
        why[0] = 0;
    error_restore(&before); /* an absent driver is no failure */
    return TSR_OK;
}
