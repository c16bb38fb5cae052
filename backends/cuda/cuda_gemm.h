/* What the files of the product share: plans (cuda_gemm_plan.c), and the sum of 16-bit products (cuda_gemm_sum.c). */
#ifndef TESSERA_CUDA_GEMM_H
#define TESSERA_CUDA_GEMM_H

#include "cublaslt.h"
#include "cuda_backend.h"

/* A product as cuBLASLt sees it, which is column-major: our row-major C[m, n] is its C^T[n, m] = B^T A^T, so B is its first
 * operand. Two calls with equal shapes can use one plan. Compared byte by byte: zero it before filling. */
typedef struct gemm_shape {
    int64_t rows, columns, depth; /* n, m, k */
    int64_t first_leading, second_leading, out_leading;
    int64_t batch, first_stride, second_stride, out_stride;
    uint32_t type;     /* of the operands, LT_F32 … */
    uint32_t out_type; /* of C */
    uint32_t first_transposed, second_transposed;
    uint32_t first_alignment, second_alignment, out_alignment; /* bytes, a power of two, at most 256 */
    uint32_t reserved;
} gemm_shape;

/* How a shape is multiplied. Found once, never changed, lives as long as the device. */
typedef struct gemm_plan {
    gemm_shape shape;
    lt_operation operation;
    lt_layout first, second, out;
    lt_algo algo;
    bool supported;
    struct gemm_plan *next;
} gemm_plan;

enum { GEMM_BUCKETS = 1024 };

struct cuda_gemm_state {
    const cublaslt_api *api;
    lt_handle handle;
    size_t workspace_bytes; /* of each queue */
    char route[48];
    mutex lock; /* guards what follows */
    gemm_plan *plans[GEMM_BUCKETS];
    uint64_t searches; /* for tests: plans made */
    struct {
        cu_module module;
        cu_function function;
    } narrow[2]; /* f16, bf16 */
};

/* The device's state, made at the first call; NULL, without an error, where cuBLASLt is absent or refuses. The device's
 * context is current. */
cuda_gemm_state *cuda_gemm_state_of(cuda_device *device);

/* The plan for a shape, made at the first call. TSR_OK with plan->supported false where cuBLASLt has no algorithm. */
tsr_status gemm_plan_for(cuda_device *device, cuda_gemm_state *state, const gemm_shape *shape, const gemm_plan **plan);
void gemm_plans_free(cuda_gemm_state *state);

/* C = narrow(sum + beta * C), where `sum` holds C's elements in f32, contiguous. type is LT_F16 or LT_BF16. */
tsr_status gemm_narrow(cuda_queue *queue, cuda_gemm_state *state, uint32_t type, cu_deviceptr sum, cu_deviceptr c,
                       const hal_gemm *gemm);
/* The kernel that does it, for the test that compiles it. */
hal_kernel_desc gemm_narrow_describe(uint32_t type);
void gemm_narrow_free(cuda_device *device, cuda_gemm_state *state);

#endif
