/* The part of NVRTC (CUDA's run-time compiler) that the backend calls; see cuda_api.h for how it is kept right. */
#ifndef TESSERA_NVRTC_API_H
#define TESSERA_NVRTC_API_H

#include <stddef.h>

typedef unsigned int nvrtc_result;
typedef struct _nvrtcProgram *nvrtc_program; /* the tag is NVIDIA's */

#define NVRTC_CONSTANTS(X)                                                                                             \
    X(NVRTC_OK, NVRTC_SUCCESS, 0)                                                                                      \
    X(NVRTC_NO_MEMORY, NVRTC_ERROR_OUT_OF_MEMORY, 1)                                                                   \
    X(NVRTC_COMPILATION_FAILED, NVRTC_ERROR_COMPILATION, 6)

#define NVRTC_ENUMERATOR(name, real, value) name = value,
enum { NVRTC_CONSTANTS(NVRTC_ENUMERATOR) };
#undef NVRTC_ENUMERATOR

#define NVRTC_FUNCTIONS(X)                                                                                             \
    X(nvrtc_result, version, nvrtcVersion, (int *major, int *minor))                                                   \
    X(nvrtc_result, get_num_supported_archs, nvrtcGetNumSupportedArchs, (int *count))                                  \
    X(nvrtc_result, get_supported_archs, nvrtcGetSupportedArchs, (int *archs))                                         \
    X(const char *, get_error_string, nvrtcGetErrorString, (nvrtc_result result))                                      \
    X(nvrtc_result, create_program, nvrtcCreateProgram,                                                                \
      (nvrtc_program * program, const char *source, const char *name, int headers, const char *const *header_sources,  \
       const char *const *header_names))                                                                               \
    X(nvrtc_result, destroy_program, nvrtcDestroyProgram, (nvrtc_program * program))                                   \
    X(nvrtc_result, compile_program, nvrtcCompileProgram,                                                              \
      (nvrtc_program program, int count, const char *const *options))                                                  \
    X(nvrtc_result, get_log_size, nvrtcGetProgramLogSize, (nvrtc_program program, size_t * size))                      \
    X(nvrtc_result, get_log, nvrtcGetProgramLog, (nvrtc_program program, char *log))                                   \
    X(nvrtc_result, get_ptx_size, nvrtcGetPTXSize, (nvrtc_program program, size_t * size))                             \
    X(nvrtc_result, get_ptx, nvrtcGetPTX, (nvrtc_program program, char *ptx))                                          \
    X(nvrtc_result, get_cubin_size, nvrtcGetCUBINSize, (nvrtc_program program, size_t * size))                         \
    X(nvrtc_result, get_cubin, nvrtcGetCUBIN, (nvrtc_program program, char *cubin))

#endif
