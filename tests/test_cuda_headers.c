/* The backend's own declarations of the driver API, NVRTC and cuBLASLt against NVIDIA's headers, where these are installed
 * (tests/fake_cuda/CMakeLists.txt finds them): constants, structures and the type of every function. All of it is checked by the
 * compiler; a difference does not build. */
#include "unit.h"

#include <stdio.h>

#if __has_include(<cuda.h>) && __has_include(<nvrtc.h>) && __has_include(<cublasLt.h>)

#include <cublasLt.h>
#include <cuda.h>
#include <nvrtc.h>

/* The header has typedefs of structures without a tag: see cublaslt_api.h. */
#define CUBLASLT_REAL_TYPES
typedef cublasLtMatmulDesc_t lt_operation;
typedef cublasLtMatrixLayout_t lt_layout;
typedef cublasLtMatmulPreference_t lt_preference;
typedef cublasLtMatmulAlgo_t lt_algo;
typedef cublasLtMatmulHeuristicResult_t lt_heuristic;

#include "backends/cuda/cublaslt_api.h"
#include "backends/cuda/cuda_api.h"
#include "backends/cuda/nvrtc_api.h"

#define SAME_VALUE(name, real, value) _Static_assert((int)(real) == (int)(name), #real " is not what cuda.h says");
CUDA_RESULTS(SAME_VALUE)
CUDA_CONSTANTS(SAME_VALUE)
NVRTC_CONSTANTS(SAME_VALUE)
CUBLASLT_CONSTANTS(SAME_VALUE)

/* `symbol` may be a macro of cuda.h for its newest version (cuEventElapsedTime), whose type is the same. */
#define SAME_DRIVER_FUNCTION(field, symbol, arguments)                                                                 \
    _Static_assert(__builtin_types_compatible_p(cu_result(*) arguments, __typeof__(&symbol)),                          \
                   #symbol " has another type in cuda.h");
CUDA_FUNCTIONS(SAME_DRIVER_FUNCTION)
CUDA_OPTIONAL_FUNCTIONS(SAME_DRIVER_FUNCTION)

#define SAME_FUNCTION(returned, field, symbol, arguments)                                                              \
    _Static_assert(__builtin_types_compatible_p(returned(*) arguments, __typeof__(&symbol)),                           \
                   #symbol " has another type in NVIDIA's header");
NVRTC_FUNCTIONS(SAME_FUNCTION)
CUBLASLT_FUNCTIONS(SAME_FUNCTION)

_Static_assert(sizeof(CUuuid) == 16, "a UUID has 16 bytes");
_Static_assert(sizeof(lt_algo_layout) == sizeof(cublasLtMatmulAlgo_t), "cublasLtMatmulAlgo_t has another size");
_Static_assert(sizeof(lt_heuristic_layout) == sizeof(cublasLtMatmulHeuristicResult_t), "another size");
_Static_assert(offsetof(lt_heuristic_layout, algo) == offsetof(cublasLtMatmulHeuristicResult_t, algo), "algo");
_Static_assert(offsetof(lt_heuristic_layout, workspace_bytes) ==
                   offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize),
               "workspaceSize");
_Static_assert(offsetof(lt_heuristic_layout, state) == offsetof(cublasLtMatmulHeuristicResult_t, state), "state");
_Static_assert(offsetof(lt_heuristic_layout, waves) == offsetof(cublasLtMatmulHeuristicResult_t, wavesCount), "waves");

static void declarations_agree_with_the_toolkit(void **state)
{
    (void)state;
    printf("checked against the headers of CUDA %d\n", CUDA_VERSION);
    /* What the static assertions cannot see: that the tables name as many functions as the backend calls. */
    assert_true(CUDA_VERSION >= 11000);
}

#else

static void declarations_agree_with_the_toolkit(void **state)
{
    (void)state;
    printf(
        "SKIP: cuda.h, nvrtc.h and cublasLt.h are not installed, so the declarations cannot be compared with them\n");
    skip();
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(declarations_agree_with_the_toolkit)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
