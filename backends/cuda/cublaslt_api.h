/* The part of cuBLASLt that the backend calls; see cuda_api.h for how it is kept right. */
#ifndef TESSERA_CUBLASLT_API_H
#define TESSERA_CUBLASLT_API_H

#include "cuda_api.h"

#include <stddef.h>
#include <stdint.h>

typedef unsigned int lt_status;
typedef unsigned int lt_enum; /* cudaDataType_t, cublasComputeType_t and the attributes */
typedef struct cublasLtContext *lt_handle;

/* Laid out as cublasLtMatmulAlgo_t and cublasLtMatmulHeuristicResult_t, of which we only pass the former on. */
typedef struct lt_algo_layout {
    uint64_t data[8];
} lt_algo_layout;

typedef struct lt_heuristic_layout {
    lt_algo_layout algo;
    size_t workspace_bytes;
    lt_status state;
    float waves;
    int reserved[4];
} lt_heuristic_layout;

/* NVIDIA's types for these are pointers to structures without a tag, which cannot be declared compatibly: the test that
 * compares this file with the real header defines the macro and puts the real types in their place. */
#ifndef CUBLASLT_REAL_TYPES
typedef struct lt_operation_opaque *lt_operation;
typedef struct lt_layout_opaque *lt_layout;
typedef struct lt_preference_opaque *lt_preference;
typedef lt_algo_layout lt_algo;
typedef lt_heuristic_layout lt_heuristic;
#endif

#define CUBLASLT_CONSTANTS(X)                                                                                          \
    X(LT_OK, CUBLAS_STATUS_SUCCESS, 0)                                                                                 \
    X(LT_ALLOC_FAILED, CUBLAS_STATUS_ALLOC_FAILED, 3)                                                                  \
    X(LT_INVALID_VALUE, CUBLAS_STATUS_INVALID_VALUE, 7)                                                                \
    X(LT_ARCH_MISMATCH, CUBLAS_STATUS_ARCH_MISMATCH, 8)                                                                \
    X(LT_NOT_SUPPORTED, CUBLAS_STATUS_NOT_SUPPORTED, 15)                                                               \
    X(LT_F32, CUDA_R_32F, 0)                                                                                           \
    X(LT_F64, CUDA_R_64F, 1)                                                                                           \
    X(LT_F16, CUDA_R_16F, 2)                                                                                           \
    X(LT_BF16, CUDA_R_16BF, 14)                                                                                        \
    X(LT_COMPUTE_F32, CUBLAS_COMPUTE_32F, 68)                                                                          \
    X(LT_COMPUTE_F64, CUBLAS_COMPUTE_64F, 70)                                                                          \
    X(LT_OP_NONE, CUBLAS_OP_N, 0)                                                                                      \
    X(LT_OP_TRANSPOSE, CUBLAS_OP_T, 1)                                                                                 \
    X(LT_OPERATION_TRANSPOSE_A, CUBLASLT_MATMUL_DESC_TRANSA, 3)                                                        \
    X(LT_OPERATION_TRANSPOSE_B, CUBLASLT_MATMUL_DESC_TRANSB, 4)                                                        \
    X(LT_LAYOUT_BATCH_COUNT, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, 5)                                                    \
    X(LT_LAYOUT_BATCH_STRIDE, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, 6)                                          \
    X(LT_PREFERENCE_WORKSPACE, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, 1)                                            \
    X(LT_PREFERENCE_REDUCTIONS, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, 3)                                         \
    X(LT_PREFERENCE_ALIGNMENT_A, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, 5)                                        \
    X(LT_PREFERENCE_ALIGNMENT_B, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, 6)                                        \
    X(LT_PREFERENCE_ALIGNMENT_C, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, 7)                                        \
    X(LT_PREFERENCE_ALIGNMENT_D, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, 8)                                        \
    X(LT_REDUCTION_INPLACE, CUBLASLT_REDUCTION_SCHEME_INPLACE, 1)                                                      \
    X(LT_REDUCTION_COMPUTE_TYPE, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, 2)

#define LT_ENUMERATOR(name, real, value) name = value,
enum { CUBLASLT_CONSTANTS(LT_ENUMERATOR) };
#undef LT_ENUMERATOR

#define CUBLASLT_FUNCTIONS(X)                                                                                          \
    X(size_t, get_version, cublasLtGetVersion, (void))                                                                 \
    X(const char *, status_name, cublasLtGetStatusName, (lt_status status))                                            \
    X(lt_status, create, cublasLtCreate, (lt_handle * handle))                                                         \
    X(lt_status, destroy, cublasLtDestroy, (lt_handle handle))                                                         \
    X(lt_status, operation_create, cublasLtMatmulDescCreate,                                                           \
      (lt_operation * operation, lt_enum compute, lt_enum scale))                                                      \
    X(lt_status, operation_destroy, cublasLtMatmulDescDestroy, (lt_operation operation))                               \
    X(lt_status, operation_set, cublasLtMatmulDescSetAttribute,                                                        \
      (lt_operation operation, lt_enum attribute, const void *value, size_t size))                                     \
    X(lt_status, layout_create, cublasLtMatrixLayoutCreate,                                                            \
      (lt_layout * layout, lt_enum type, uint64_t rows, uint64_t columns, int64_t leading))                            \
    X(lt_status, layout_destroy, cublasLtMatrixLayoutDestroy, (lt_layout layout))                                      \
    X(lt_status, layout_set, cublasLtMatrixLayoutSetAttribute,                                                         \
      (lt_layout layout, lt_enum attribute, const void *value, size_t size))                                           \
    X(lt_status, preference_create, cublasLtMatmulPreferenceCreate, (lt_preference * preference))                      \
    X(lt_status, preference_destroy, cublasLtMatmulPreferenceDestroy, (lt_preference preference))                      \
    X(lt_status, preference_set, cublasLtMatmulPreferenceSetAttribute,                                                 \
      (lt_preference preference, lt_enum attribute, const void *value, size_t size))                                   \
    X(lt_status, get_heuristic, cublasLtMatmulAlgoGetHeuristic,                                                        \
      (lt_handle handle, lt_operation operation, lt_layout a, lt_layout b, lt_layout c, lt_layout d,                   \
       lt_preference preference, int requested, lt_heuristic *results, int *count))                                    \
    X(lt_status, matmul, cublasLtMatmul,                                                                               \
      (lt_handle handle, lt_operation operation, const void *alpha, const void *a, lt_layout a_layout, const void *b,  \
       lt_layout b_layout, const void *beta, const void *c, lt_layout c_layout, void *d, lt_layout d_layout,           \
       const lt_algo *algo, void *workspace, size_t workspace_bytes, cu_stream stream))

#endif
