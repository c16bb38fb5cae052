/* The last step of a sum of 16-bit products: they are added in f32, and the sum is rounded into C once. cuBLASLt cannot: its
 * C and its output have one type. */
#include "cuda_gemm.h"

#include "base/error.h"

/* Plain CUDA C behind the dialect's prelude, with names that the prelude does not use. */
static const char narrow_text[] =
    "static __device__ unsigned short narrow_to_f16(float v)\n"
    "{ unsigned short h; asm(\"cvt.rn.f16.f32 %0, %1;\" : \"=h\"(h) : \"f\"(v)); return h; }\n"
    "static __device__ float widen_f16(unsigned short h)\n"
    "{ float v; asm(\"cvt.f32.f16 %0, %1;\" : \"=f\"(v) : \"h\"(h)); return v; }\n"
    "static __device__ unsigned short narrow_to_bf16(float v)\n"
    "{ unsigned int b = __float_as_uint(v);\n"
    "  if ((b & 0x7fffffffu) > 0x7f800000u) return (unsigned short)(b >> 16 | 0x40u);\n"
    "  return (unsigned short)((b + 0x7fffu + (b >> 16 & 1u)) >> 16); }\n"
    "static __device__ float widen_bf16(unsigned short h) { return __uint_as_float((unsigned int)h << 16); }\n"
    "struct narrow_params { unsigned int rows, columns; float beta; unsigned int reserved;\n"
    "                       unsigned long long leading, stride; };\n"
    "#define NARROW(name, narrow, widen)\\\n"
    "extern \"C\" __global__ void __launch_bounds__(256) name(const float *sum, unsigned short *c, narrow_params q)\\\n"
    "{\\\n"
    "    const unsigned long long matrix = (unsigned long long)q.rows * q.columns, batch = blockIdx.y;\\\n"
    "    const unsigned long long step = (unsigned long long)gridDim.x * 256u;\\\n"
    "    for (unsigned long long i = blockIdx.x * 256ull + threadIdx.x; i < matrix; i += step) {\\\n"
    "        unsigned short *out = c + batch * q.stride + i / q.columns * q.leading + i % q.columns;\\\n"
    "        float v = sum[batch * matrix + i];\\\n"
    "        if (q.beta != 0.0f) v = v + q.beta * widen(*out);\\\n"
    "        *out = narrow(v);\\\n"
    "    }\\\n"
    "}\n"
    "NARROW(gemm_narrow_f16, narrow_to_f16, widen_f16)\n"
    "NARROW(gemm_narrow_bf16, narrow_to_bf16, widen_bf16)\n";

typedef struct narrow_params {
    uint32_t rows, columns;
    float beta;
    uint32_t reserved;
    uint64_t leading, stride;
} narrow_params;

hal_kernel_desc gemm_narrow_describe(uint32_t type)
{
    static const char *const source[] = {narrow_text};

    return (hal_kernel_desc){
        .key = type == LT_BF16 ? "gemm_narrow/bf16" : "gemm_narrow/f16",
        .entry = type == LT_BF16 ? "gemm_narrow_bf16" : "gemm_narrow_f16",
        .code = HAL_CODE_SOURCE,
        .source = source,
        .source_count = 1,
        .group_size = 256,
    };
}

static tsr_status function_for(cuda_device *d, cuda_gemm_state *state, uint32_t type, cu_function *function)
{
    const hal_kernel_desc desc = gemm_narrow_describe(type);
    const size_t which = type == LT_BF16;
    tsr_status status = TSR_OK;

    mutex_lock(&state->lock);
    if (!state->narrow[which].function)
        status = cuda_module_load(d, &desc, &state->narrow[which].module, &state->narrow[which].function);
    *function = state->narrow[which].function;
    mutex_unlock(&state->lock);
    return status;
}

tsr_status gemm_narrow(cuda_queue *q, cuda_gemm_state *state, uint32_t type, cu_deviceptr sum, cu_deviceptr c,
                       const hal_gemm *gemm)
{
    enum { GROUP = 256, GROUPS_MAX = 4096 }; /* enough to fill any device; the kernel strides over the rest */
    cuda_device *d = cuda_device_of(q->base.device);
    const uint64_t matrix = (uint64_t)gemm->m * (uint64_t)gemm->n, groups = (matrix + GROUP - 1) / GROUP;
    narrow_params params = {.rows = (uint32_t)gemm->m,
                            .columns = (uint32_t)gemm->n,
                            .beta = gemm->beta,
                            .leading = (uint64_t)gemm->ldc,
                            .stride = (uint64_t)gemm->batch_stride_c};
    void *arguments[] = {&sum, &c, &params};
    cu_function function;
    tsr_status status = function_for(d, state, type, &function);

    if (status)
        return status;
    return cuda_check(d,
                      d->api->launch_kernel(function, groups < GROUPS_MAX ? (unsigned)groups : GROUPS_MAX,
                                            (unsigned)gemm->batch, 1, GROUP, 1, 1, 0, q->stream, arguments, NULL),
                      "rounding a sum of products");
}

void gemm_narrow_free(cuda_device *d, cuda_gemm_state *state)
{
    for (size_t i = 0; i < COUNT_OF(state->narrow); i++)
        if (state->narrow[i].module)
            d->api->module_unload(state->narrow[i].module);
}
