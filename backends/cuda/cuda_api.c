/* Opens the driver and says what is wrong where it cannot be used. */
#include "cuda_api.h"

#include "base/compiler.h"
#include "base/dynlib.h"
#include "base/error.h"
#include "base/thread.h"

#include <stdarg.h>
#include <stdio.h>

static struct {
    once flag;
    dynlib *library; /* never closed */
    cuda_api api;
    bool usable;
    tsr_status status;
    char why[512];
} driver = {.flag = ONCE_INIT};

static void refuse(tsr_status status, const char *format, ...) PRINTF_LIKE(2, 3);
static void refuse(tsr_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    driver.status = status;
    vsnprintf(driver.why, sizeof driver.why, format, arguments);
    va_end(arguments);
}

static const char *remedy_for_init(cu_result result)
{
    switch (result) {
    case CU_NO_DEVICE: return "no device is visible: look at `nvidia-smi` and at CUDA_VISIBLE_DEVICES";
    case CU_STUB_LIBRARY:
        return "libcuda.so.1 is the toolkit's stub: take its folder off LD_LIBRARY_PATH and install NVIDIA's driver";
    case CU_SYSTEM_DRIVER_MISMATCH:
        return "the kernel module and libcuda.so.1 are of different versions: restart after the driver's update";
    case CU_SYSTEM_NOT_READY: return "the system is not ready: start nvidia-fabricmanager, or wait for it";
    case CU_COMPAT_NOT_SUPPORTED_ON_DEVICE:
        return "the forward-compatibility libcuda.so.1 does not serve this device: take it off LD_LIBRARY_PATH";
    default: return "look at `nvidia-smi` and at the permissions of /dev/nvidia*";
    }
}

static void load(void)
{
    static const char *const names[] = {"libcuda.so.1", NULL};
    const dynlib_entry table[] = {
#define REQUIRED(field, symbol, arguments) {#symbol, &driver.api.field, true},
#define OPTIONAL(field, symbol, arguments) {#symbol, &driver.api.field, false},
        CUDA_FUNCTIONS(REQUIRED) CUDA_OPTIONAL_FUNCTIONS(OPTIONAL)
#undef REQUIRED
#undef OPTIONAL
    };
    error_state before;

    error_save(&before);
    driver.library = dynlib_open(names);
    if (!driver.library) {
        refuse(TSR_NO_DEVICE, "no CUDA driver: libcuda.so.1 cannot be opened; install NVIDIA's driver and check that "
                              "`nvidia-smi` lists the device");
    } else if (dynlib_bind(driver.library, table, COUNT_OF(table))) {
        refuse(TSR_UNSUPPORTED, "the CUDA driver is too old: %s; install a driver of CUDA 11 or newer",
               tsr_last_error());
    } else {
        const cuda_api *api = &driver.api;
        cu_result result = api->init(0);

        if (result == CU_OK)
            result = api->driver_get_version(&driver.api.version);
        if (result == CU_OK)
            result = api->device_get_count(&driver.api.count);
        if (result == CU_OK && driver.api.count == 0)
            result = CU_NO_DEVICE;
        if (result == CU_OK)
            driver.usable = true;
        else
            refuse(TSR_NO_DEVICE, "the CUDA driver does not start (%s): %s", cuda_result_name(api, result),
                   remedy_for_init(result));
    }
    error_restore(&before);
}

const cuda_api *cuda_load(void)
{
    once_run(&driver.flag, load);
    if (!driver.usable) {
        fail(driver.status, "%s", driver.why);
        return NULL;
    }
    return &driver.api;
}

bool cuda_result_is_loss(cu_result result)
{
    switch (result) {
    case CU_DEINITIALIZED:
    case CU_DEVICE_UNAVAILABLE:
    case CU_INVALID_CONTEXT:
    case CU_ECC_UNCORRECTABLE:
    case CU_NVLINK_UNCORRECTABLE:
    case CU_CONTAINED:
    case CU_ILLEGAL_ADDRESS:
    case CU_LAUNCH_TIMEOUT:
    case CU_CONTEXT_IS_DESTROYED:
    case CU_ASSERT:
    case CU_HARDWARE_STACK_ERROR:
    case CU_ILLEGAL_INSTRUCTION:
    case CU_MISALIGNED_ADDRESS:
    case CU_INVALID_ADDRESS_SPACE:
    case CU_INVALID_PC:
    case CU_LAUNCH_FAILED:
    case CU_MPS_CLIENT_TERMINATED:
    case CU_UNKNOWN: /* what is left of a device that fell off its bus */ return true;
    default: return false;
    }
}

const char *cuda_result_name(const cuda_api *api, cu_result result)
{
    const char *name = NULL;

    if (api->get_error_name(result, &name) != CU_OK || !name)
        return "an unknown CUDA error";
    return name;
}
