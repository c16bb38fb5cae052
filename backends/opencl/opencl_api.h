/* The OpenCL loader, opened at run time, and the devices that it shows.
 *
 * The loader stays open for the life of the process once it was found: drivers keep threads, so closing it is not safe. */
#ifndef TESSERA_OPENCL_API_H
#define TESSERA_OPENCL_API_H

#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <CL/cl_ext.h>

#include "tessera/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is used of OpenCL 1.2. */
/* clang-format off */
#define OPENCL_FUNCTIONS(X)                                                                                            \
    X(clGetPlatformIDs) X(clGetPlatformInfo) X(clGetDeviceIDs) X(clGetDeviceInfo) X(clCreateSubDevices)                \
    X(clReleaseDevice) X(clCreateContext) X(clReleaseContext) X(clCreateCommandQueue) X(clReleaseCommandQueue)         \
    X(clCreateBuffer) X(clReleaseMemObject) X(clEnqueueMapBuffer) X(clEnqueueUnmapMemObject)                           \
    X(clEnqueueMigrateMemObjects) X(clEnqueueReadBuffer) X(clEnqueueWriteBuffer) X(clEnqueueCopyBuffer)                \
    X(clEnqueueFillBuffer) X(clCreateProgramWithSource) X(clCreateProgramWithBinary) X(clBuildProgram)                 \
    X(clGetProgramInfo) X(clGetProgramBuildInfo) X(clReleaseProgram) X(clCreateKernel) X(clReleaseKernel)              \
    X(clSetKernelArg) X(clGetKernelWorkGroupInfo) X(clEnqueueNDRangeKernel) X(clEnqueueMarkerWithWaitList)             \
    X(clEnqueueBarrierWithWaitList) X(clWaitForEvents) X(clGetEventInfo) X(clGetEventProfilingInfo) X(clRetainEvent)   \
    X(clReleaseEvent) X(clFlush) X(clFinish)
/* clang-format on */

typedef struct opencl_api {
/* The types from cl.h itself: cl_icd.h, which named them, differs from release to release of the headers. */
#define OPENCL_SLOT(name) __typeof__(name) *name;
    OPENCL_FUNCTIONS(OPENCL_SLOT)
#undef OPENCL_SLOT
} opencl_api;

extern opencl_api cl; /* filled by the first opencl_devices that finds a loader */

enum { OPENCL_MAX_DEVICES = 64 };

typedef struct opencl_found {
    cl_platform_id platform;
    cl_device_id device;
    uint32_t ordinal; /* among those that look alike: same platform, name and driver */
} opencl_found;

/* The devices of all platforms in the loader's order; the list lives as long as the process and does not change once it
 * has a device. TESSERA_OPENCL_SPLIT=n takes each CPU device as n devices of equally many cores.
 * Where there is none: *count is 0, the status TSR_OK and `why` a sentence with the remedy. */
tsr_status opencl_devices(const opencl_found **found, uint32_t *count, char *why, size_t why_size);

/* "CL_OUT_OF_RESOURCES"; "unknown error" for a code that no header names. */
const char *opencl_error_name(cl_int error);

/* Texts and numbers that a device or platform tells about itself; "" or 0 where it does not know the question. */
void opencl_device_text(cl_device_id device, cl_device_info what, char *out, size_t size);
void opencl_platform_text(cl_platform_id platform, cl_platform_info what, char *out, size_t size);
uint64_t opencl_device_number(cl_device_id device, cl_device_info what);
bool opencl_has_extension(cl_device_id device, const char *name);

#endif
