/* The part of the CUDA driver API (libcuda.so.1) that the backend calls, so that building it needs no toolkit.
 *
 * Names, values and signatures are those of NVIDIA's cuda.h; tests/test_cuda_headers.c compares them with the real header
 * where there is one. Enumerations are plain unsigned integers here, which is what they are in the driver's binary
 * interface. Functions are looked up under the name of their current version (cuMemAlloc_v2 …), because the bare
 * names are the 32-bit interface of CUDA 3. */
#ifndef TESSERA_CUDA_API_H
#define TESSERA_CUDA_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef unsigned int cu_result;
typedef int cu_device;
typedef unsigned long long cu_deviceptr;
typedef struct CUctx_st *cu_context;
typedef struct CUstream_st *cu_stream;
typedef struct CUevent_st *cu_event;
typedef struct CUmod_st *cu_module;
typedef struct CUfunc_st *cu_function;
struct CUuuid_st; /* 16 bytes */

/* X(our name, cuda.h's name, its value) */
#define CUDA_RESULTS(X)                                                                                                \
    X(CU_OK, CUDA_SUCCESS, 0)                                                                                          \
    X(CU_INVALID_VALUE, CUDA_ERROR_INVALID_VALUE, 1)                                                                   \
    X(CU_OUT_OF_MEMORY, CUDA_ERROR_OUT_OF_MEMORY, 2)                                                                   \
    X(CU_NOT_INITIALIZED, CUDA_ERROR_NOT_INITIALIZED, 3)                                                               \
    X(CU_DEINITIALIZED, CUDA_ERROR_DEINITIALIZED, 4)                                                                   \
    X(CU_STUB_LIBRARY, CUDA_ERROR_STUB_LIBRARY, 34)                                                                    \
    X(CU_DEVICE_UNAVAILABLE, CUDA_ERROR_DEVICE_UNAVAILABLE, 46)                                                        \
    X(CU_NO_DEVICE, CUDA_ERROR_NO_DEVICE, 100)                                                                         \
    X(CU_INVALID_DEVICE, CUDA_ERROR_INVALID_DEVICE, 101)                                                               \
    X(CU_INVALID_IMAGE, CUDA_ERROR_INVALID_IMAGE, 200)                                                                 \
    X(CU_INVALID_CONTEXT, CUDA_ERROR_INVALID_CONTEXT, 201)                                                             \
    X(CU_NO_BINARY_FOR_GPU, CUDA_ERROR_NO_BINARY_FOR_GPU, 209)                                                         \
    X(CU_ECC_UNCORRECTABLE, CUDA_ERROR_ECC_UNCORRECTABLE, 214)                                                         \
    X(CU_INVALID_PTX, CUDA_ERROR_INVALID_PTX, 218)                                                                     \
    X(CU_NVLINK_UNCORRECTABLE, CUDA_ERROR_NVLINK_UNCORRECTABLE, 220)                                                   \
    X(CU_UNSUPPORTED_PTX_VERSION, CUDA_ERROR_UNSUPPORTED_PTX_VERSION, 222)                                             \
    X(CU_CONTAINED, CUDA_ERROR_CONTAINED, 226)                                                                         \
    X(CU_INVALID_HANDLE, CUDA_ERROR_INVALID_HANDLE, 400)                                                               \
    X(CU_NOT_FOUND, CUDA_ERROR_NOT_FOUND, 500)                                                                         \
    X(CU_NOT_READY, CUDA_ERROR_NOT_READY, 600)                                                                         \
    X(CU_ILLEGAL_ADDRESS, CUDA_ERROR_ILLEGAL_ADDRESS, 700)                                                             \
    X(CU_LAUNCH_OUT_OF_RESOURCES, CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, 701)                                             \
    X(CU_LAUNCH_TIMEOUT, CUDA_ERROR_LAUNCH_TIMEOUT, 702)                                                               \
    X(CU_CONTEXT_IS_DESTROYED, CUDA_ERROR_CONTEXT_IS_DESTROYED, 709)                                                   \
    X(CU_ASSERT, CUDA_ERROR_ASSERT, 710)                                                                               \
    X(CU_HARDWARE_STACK_ERROR, CUDA_ERROR_HARDWARE_STACK_ERROR, 714)                                                   \
    X(CU_ILLEGAL_INSTRUCTION, CUDA_ERROR_ILLEGAL_INSTRUCTION, 715)                                                     \
    X(CU_MISALIGNED_ADDRESS, CUDA_ERROR_MISALIGNED_ADDRESS, 716)                                                       \
    X(CU_INVALID_ADDRESS_SPACE, CUDA_ERROR_INVALID_ADDRESS_SPACE, 717)                                                 \
    X(CU_INVALID_PC, CUDA_ERROR_INVALID_PC, 718)                                                                       \
    X(CU_LAUNCH_FAILED, CUDA_ERROR_LAUNCH_FAILED, 719)                                                                 \
    X(CU_SYSTEM_NOT_READY, CUDA_ERROR_SYSTEM_NOT_READY, 802)                                                           \
    X(CU_SYSTEM_DRIVER_MISMATCH, CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, 803)                                               \
    X(CU_COMPAT_NOT_SUPPORTED_ON_DEVICE, CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE, 804)                               \
    X(CU_MPS_CLIENT_TERMINATED, CUDA_ERROR_MPS_CLIENT_TERMINATED, 810)                                                 \
    X(CU_UNKNOWN, CUDA_ERROR_UNKNOWN, 999)

#define CUDA_CONSTANTS(X)                                                                                              \
    X(CU_ATTRIBUTE_MAX_THREADS_PER_BLOCK, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1)                                \
    X(CU_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, 8)                    \
    X(CU_ATTRIBUTE_WARP_SIZE, CU_DEVICE_ATTRIBUTE_WARP_SIZE, 10)                                                       \
    X(CU_ATTRIBUTE_MULTIPROCESSOR_COUNT, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 16)                                 \
    X(CU_ATTRIBUTE_INTEGRATED, CU_DEVICE_ATTRIBUTE_INTEGRATED, 18)                                                     \
    X(CU_ATTRIBUTE_COMPUTE_MODE, CU_DEVICE_ATTRIBUTE_COMPUTE_MODE, 20)                                                 \
    X(CU_ATTRIBUTE_ECC_ENABLED, CU_DEVICE_ATTRIBUTE_ECC_ENABLED, 32)                                                   \
    X(CU_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 75)                         \
    X(CU_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 76)                         \
    X(CU_MODE_PROHIBITED, CU_COMPUTEMODE_PROHIBITED, 2)                                                                \
    X(CU_HOST_PORTABLE, CU_MEMHOSTALLOC_PORTABLE, 1)                                                                   \
    X(CU_STREAM_NONBLOCKING, CU_STREAM_NON_BLOCKING, 1)                                                                \
    X(CU_EVENT_TIMED, CU_EVENT_DEFAULT, 0)                                                                             \
    X(CU_EVENT_UNTIMED, CU_EVENT_DISABLE_TIMING, 2)                                                                    \
    X(CU_JIT_ERROR_LOG, CU_JIT_ERROR_LOG_BUFFER, 5)                                                                    \
    X(CU_JIT_ERROR_LOG_BYTES, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, 6)                                                   \
    X(CU_FUNCTION_MAX_THREADS, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 0)

#define CUDA_ENUMERATOR(name, real, value) name = value,
enum { CUDA_RESULTS(CUDA_ENUMERATOR) };
enum { CUDA_CONSTANTS(CUDA_ENUMERATOR) };
#undef CUDA_ENUMERATOR

/* X(field, symbol, arguments): every function returns a cu_result. cuEventElapsedTime and cuDeviceGetUuid are asked for
 * by their first version, which every driver has. */
#define CUDA_FUNCTIONS(X)                                                                                              \
    X(init, cuInit, (unsigned int flags))                                                                              \
    X(driver_get_version, cuDriverGetVersion, (int *version))                                                          \
    X(get_error_name, cuGetErrorName, (cu_result result, const char **name))                                           \
    X(get_error_string, cuGetErrorString, (cu_result result, const char **text))                                       \
    X(device_get_count, cuDeviceGetCount, (int *count))                                                                \
    X(device_get, cuDeviceGet, (cu_device * device, int ordinal))                                                      \
    X(device_get_name, cuDeviceGetName, (char *name, int size, cu_device device))                                      \
    X(device_get_uuid, cuDeviceGetUuid, (struct CUuuid_st * uuid, cu_device device))                                   \
    X(device_total_mem, cuDeviceTotalMem_v2, (size_t * bytes, cu_device device))                                       \
    X(device_get_attribute, cuDeviceGetAttribute, (int *value, unsigned int attribute, cu_device device))              \
    X(primary_ctx_retain, cuDevicePrimaryCtxRetain, (cu_context * context, cu_device device))                          \
    X(primary_ctx_release, cuDevicePrimaryCtxRelease_v2, (cu_device device))                                           \
    X(ctx_push, cuCtxPushCurrent_v2, (cu_context context))                                                             \
    X(ctx_pop, cuCtxPopCurrent_v2, (cu_context * context))                                                             \
    X(mem_alloc, cuMemAlloc_v2, (cu_deviceptr * address, size_t size))                                                 \
    X(mem_free, cuMemFree_v2, (cu_deviceptr address))                                                                  \
    X(mem_get_info, cuMemGetInfo_v2, (size_t * available, size_t * total))                                             \
    X(mem_host_alloc, cuMemHostAlloc, (void **address, size_t size, unsigned int flags))                               \
    X(mem_free_host, cuMemFreeHost, (void *address))                                                                   \
    X(memcpy_async, cuMemcpyAsync, (cu_deviceptr to, cu_deviceptr from, size_t size, cu_stream stream))                \
    X(memcpy_htod_async, cuMemcpyHtoDAsync_v2, (cu_deviceptr to, const void *from, size_t size, cu_stream stream))     \
    X(memcpy_dtoh_async, cuMemcpyDtoHAsync_v2, (void *to, cu_deviceptr from, size_t size, cu_stream stream))           \
    X(memcpy_dtod_async, cuMemcpyDtoDAsync_v2, (cu_deviceptr to, cu_deviceptr from, size_t size, cu_stream stream))    \
    X(memset_d32_async, cuMemsetD32Async, (cu_deviceptr to, unsigned int value, size_t words, cu_stream stream))       \
    X(stream_create, cuStreamCreate, (cu_stream * stream, unsigned int flags))                                         \
    X(stream_destroy, cuStreamDestroy_v2, (cu_stream stream))                                                          \
    X(stream_synchronize, cuStreamSynchronize, (cu_stream stream))                                                     \
    X(stream_query, cuStreamQuery, (cu_stream stream))                                                                 \
    X(stream_wait_event, cuStreamWaitEvent, (cu_stream stream, cu_event event, unsigned int flags))                    \
    X(event_create, cuEventCreate, (cu_event * event, unsigned int flags))                                             \
    X(event_destroy, cuEventDestroy_v2, (cu_event event))                                                              \
    X(event_record, cuEventRecord, (cu_event event, cu_stream stream))                                                 \
    X(event_query, cuEventQuery, (cu_event event))                                                                     \
    X(event_synchronize, cuEventSynchronize, (cu_event event))                                                         \
    X(event_elapsed_time, cuEventElapsedTime, (float *milliseconds, cu_event from, cu_event to))                       \
    X(module_load, cuModuleLoadDataEx,                                                                                 \
      (cu_module * module, const void *image, unsigned int count, unsigned int *options, void **values))               \
    X(module_unload, cuModuleUnload, (cu_module module))                                                               \
    X(module_get_function, cuModuleGetFunction, (cu_function * function, cu_module module, const char *name))          \
    X(func_get_attribute, cuFuncGetAttribute, (int *value, unsigned int attribute, cu_function function))              \
    X(launch_kernel, cuLaunchKernel,                                                                                   \
      (cu_function function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z, unsigned int block_x,      \
       unsigned int block_y, unsigned int block_z, unsigned int shared_bytes, cu_stream stream, void **parameters,     \
       void **extra))

/* Absent from older drivers: NULL there. The second version tells the slices of a split (MIG) device apart. */
#define CUDA_OPTIONAL_FUNCTIONS(X)                                                                                     \
    X(device_get_uuid_v2, cuDeviceGetUuid_v2, (struct CUuuid_st * uuid, cu_device device))

typedef struct cuda_api {
#define CUDA_FIELD(field, symbol, arguments) cu_result(*field) arguments;
    CUDA_FUNCTIONS(CUDA_FIELD)
    CUDA_OPTIONAL_FUNCTIONS(CUDA_FIELD)
#undef CUDA_FIELD
    int version; /* 13000 for CUDA 13.0: the newest CUDA that the driver serves */
    int count;   /* devices */
} cuda_api;

/* The driver, opened and initialised at the first call and kept for the life of the process (a CUDA driver cannot be
 * unloaded safely). NULL after fail(), with a sentence on what is missing and the remedy; the same one each time. */
const cuda_api *cuda_load(void);

/* Whether `result` means that the context, and with it the device as this process sees it, is gone for good. */
bool cuda_result_is_loss(cu_result result);

/* "CUDA_ERROR_OUT_OF_MEMORY"; a name for unknown codes too. Never NULL. */
const char *cuda_result_name(const cuda_api *api, cu_result result);

#endif
