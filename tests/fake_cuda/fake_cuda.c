/* The fake libcuda.so.1: its control, its devices and their contexts. See fake_cuda.h. */
#include "fake_driver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

EXPORT cu_result cuCtxGetCurrent(cu_context *context);
EXPORT cu_result cuGetExportTable(const void **table, const void *id);
EXPORT void fake_cuda_register(const fake_cuda_kernel *kernel);

enum { STACK_MAX = 16 };

struct fake_driver driver = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static _Thread_local cu_context stack[STACK_MAX];
static _Thread_local int depth;

static int64_t from_environment(const char *name, int64_t otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtoll(text, NULL, 10) : otherwise;
}

__attribute__((constructor)) static void start(void)
{
    driver.device_count = (int)from_environment("FAKE_CUDA_DEVICES", 1);
    if (driver.device_count > DEVICES_MAX)
        driver.device_count = DEVICES_MAX;
    driver.version = (int)from_environment("FAKE_CUDA_VERSION", 13000);
    driver.arch = (int)from_environment("FAKE_CUDA_ARCH", 90);
    driver.memory_bytes = (size_t)from_environment("FAKE_CUDA_MEMORY_MIB", 1024) << 20;
    driver.state.delay_us = from_environment("FAKE_CUDA_DELAY_US", 0);
    driver.state.fail_alloc = from_environment("FAKE_CUDA_FAIL_ALLOC", 0);
    driver.state.fail_launch = from_environment("FAKE_CUDA_FAIL_LAUNCH", 0);
    driver.state.fail_launch_result = CU_LAUNCH_FAILED;
}

EXPORT fake_cuda_state *fake_cuda(void)
{
    return &driver.state;
}

EXPORT void fake_cuda_register(const fake_cuda_kernel *kernel)
{
    pthread_mutex_lock(&driver.lock);
    if (driver.kernel_count < KERNELS_MAX)
        driver.kernels[driver.kernel_count++] = *kernel;
    pthread_mutex_unlock(&driver.lock);
}

/* With the lock held. */
static void fake_note_violation(const char *format, va_list arguments)
{
    if (driver.state.violations++ == 0)
        vsnprintf(driver.state.violation, sizeof driver.state.violation, format, arguments);
}

void fake_violation(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fake_note_violation(format, arguments);
    va_end(arguments);
}

EXPORT void fake_cuda_violation(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    pthread_mutex_lock(&driver.lock);
    fake_note_violation(format, arguments);
    pthread_mutex_unlock(&driver.lock);
    va_end(arguments);
}

/* ---- devices and contexts ---------------------------------------------------------------------------------------- */

/* With the lock held: the current context, or NULL with *result set. */
cu_context fake_current(cu_result *result)
{
    cu_context context = depth > 0 ? stack[depth - 1] : NULL;

    if (!driver.initialised)
        *result = CU_NOT_INITIALIZED;
    else if (!context)
        *result = CU_INVALID_CONTEXT;
    else
        *result = context->lost;
    if (!driver.initialised || !context)
        fake_violation("a call without initialisation or without a current context");
    return *result == CU_OK ? context : NULL;
}

EXPORT cu_result cuInit(unsigned int flags)
{
    const cu_result result = (cu_result)from_environment("FAKE_CUDA_INIT", 0);

    (void)flags;
    driver.initialised = result == CU_OK;
    return result;
}

EXPORT cu_result cuDriverGetVersion(int *out)
{
    *out = driver.version;
    return CU_OK;
}

EXPORT cu_result cuGetErrorName(cu_result result, const char **name)
{
    switch (result) {
#define NAME(ours, real, value)                                                                                        \
    case value: *name = #real; return CU_OK;
        CUDA_RESULTS(NAME)
    default: *name = NULL; return CU_INVALID_VALUE;
    }
}

EXPORT cu_result cuGetErrorString(cu_result result, const char **text)
{
    return cuGetErrorName(result, text);
}

EXPORT cu_result cuDeviceGetCount(int *count)
{
    *count = driver.device_count;
    return driver.initialised ? CU_OK : CU_NOT_INITIALIZED;
}

EXPORT cu_result cuDeviceGet(cu_device *device, int ordinal)
{
    *device = ordinal;
    return ordinal >= 0 && ordinal < driver.device_count ? CU_OK : CU_INVALID_DEVICE;
}

EXPORT cu_result cuDeviceGetName(char *name, int size, cu_device device)
{
    snprintf(name, (size_t)size, "Fake CUDA device %d", device);
    return CU_OK;
}

EXPORT cu_result cuDeviceGetUuid(struct CUuuid_st *uuid, cu_device device)
{
    unsigned char bytes[16] = {0xfa, 0xce};

    bytes[15] = (unsigned char)device;
    memcpy(uuid, bytes, sizeof bytes);
    return CU_OK;
}

EXPORT cu_result cuDeviceTotalMem_v2(size_t *bytes, cu_device device)
{
    (void)device;
    *bytes = driver.memory_bytes;
    return CU_OK;
}

EXPORT cu_result cuDeviceGetAttribute(int *value, unsigned int attribute, cu_device device)
{
    (void)device;
    switch (attribute) {
    case CU_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = 1024; break;
    case CU_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK: *value = 49152; break;
    case CU_ATTRIBUTE_WARP_SIZE: *value = 32; break;
    case CU_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = 4; break;
    case CU_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = driver.arch / 10; break;
    case CU_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = driver.arch % 10; break;
    default: *value = 0; break;
    }
    return CU_OK;
}

EXPORT cu_result cuDevicePrimaryCtxRetain(cu_context *context, cu_device device)
{
    pthread_mutex_lock(&driver.lock);
    if (driver.contexts[device].users++ == 0) {
        driver.contexts[device].lost = CU_OK;
        driver.state.contexts++;
    }
    *context = &driver.contexts[device];
    pthread_mutex_unlock(&driver.lock);
    return CU_OK;
}

EXPORT cu_result cuDevicePrimaryCtxRelease_v2(cu_device device)
{
    pthread_mutex_lock(&driver.lock);
    if (driver.contexts[device].users == 0)
        fake_violation("a primary context is released more often than retained");
    else if (--driver.contexts[device].users == 0)
        driver.state.contexts--;
    pthread_mutex_unlock(&driver.lock);
    return CU_OK;
}

EXPORT cu_result cuCtxPushCurrent_v2(cu_context context)
{
    if (depth == STACK_MAX || !context || context->users == 0)
        return CU_INVALID_CONTEXT;
    stack[depth++] = context;
    return CU_OK;
}

EXPORT cu_result cuCtxPopCurrent_v2(cu_context *context)
{
    if (depth == 0) {
        fake_cuda_violation("a context is popped from an empty stack");
        return CU_INVALID_CONTEXT;
    }
    *context = stack[--depth];
    return CU_OK;
}

/* Real NVRTC asks the driver for private tables and calls what it finds without a look. */
EXPORT cu_result cuGetExportTable(const void **table, const void *id)
{
    (void)id;
    *table = NULL;
    return CU_NOT_FOUND;
}

/* Not used by the backend: for the test, which checks that the thread's current context is left alone. */
EXPORT cu_result cuCtxGetCurrent(cu_context *context)
{
    *context = depth > 0 ? stack[depth - 1] : NULL;
    return CU_OK;
}
