/* Products through cuBLASLt. Where it is absent, or has no algorithm for a shape, the call is handed back and the generic
 * kernel multiplies. */
#include "cuda_gemm.h"

#include "base/checked.h"
#include "base/error.h"
#include "base/log.h"
#include "base/memory.h"

#include "tessera/tensor.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

/* What NVIDIA recommends for cuBLAS: 32 MiB from Hopper on, 4 MiB before. */
static size_t workspace_for(int arch)
{
    return arch >= 90 ? (size_t)32 << 20 : (size_t)4 << 20;
}

static cuda_gemm_state *state_create(cuda_device *d)
{
    cuda_gemm_state *state = host_alloc_zeroed(1, sizeof *state);
    error_state before;
    lt_status status;

    if (!state)
        return NULL;
    mutex_init(&state->lock);
    error_save(&before);
    state->api = cublaslt_load(d->api->version);
    if (state->api) {
        status = state->api->create(&state->handle);
        if (status != LT_OK) {
            log_warn("cuda: cuBLASLt does not start on cuda:%u (%s): products take the generic kernel", d->base.index,
                     state->api->status_name(status));
            state->handle = NULL;
        }
    }
    if (state->handle) {
        state->workspace_bytes = workspace_for(d->arch);
        snprintf(state->route, sizeof state->route, "cuBLASLt %d.%d.%d", state->api->major, state->api->minor,
                 state->api->patch);
    }
    error_restore(&before);
    return state;
}

cuda_gemm_state *cuda_gemm_state_of(cuda_device *d)
{
    cuda_gemm_state *state;

    mutex_lock(&d->lock);
    if (!d->gemm)
        d->gemm = state_create(d);
    state = d->gemm;
    mutex_unlock(&d->lock);
    return state && state->handle ? state : NULL;
}

void cuda_gemm_free(cuda_device *d)
{
    if (!d->gemm)
        return;
    if (cuda_enter_to_destroy(d)) {
        gemm_plans_free(d->gemm);
        gemm_narrow_free(d, d->gemm);
        if (d->gemm->handle)
            d->gemm->api->destroy(d->gemm->handle);
        cuda_leave(d);
    }
    mutex_destroy(&d->gemm->lock);
    host_free(d->gemm);
    d->gemm = NULL;
}

void cuda_gemm_queue_free(cuda_queue *q)
{
    const cuda_api *api = cuda_device_of(q->base.device)->api;

    if (q->workspace)
        api->mem_free(q->workspace);
    if (q->accumulator)
        api->mem_free(q->accumulator);
}

const char *cuda_gemm_route(hal_device *device)
{
    cuda_device *d = cuda_device_of(device);
    error_state before;
    cuda_gemm_state *state = NULL;

    error_save(&before);
    if (cuda_enter(d) == TSR_OK) {
        state = cuda_gemm_state_of(d);
        cuda_leave(d);
    }
    error_restore(&before);
    return state ? state->route : NULL;
}

/* ---- one call ---------------------------------------------------------------------------------------------------- */

static bool lt_type(uint32_t dtype, uint32_t *type, size_t *bytes)
{
    switch ((tsr_dtype)dtype) {
    case TSR_F32: *type = LT_F32, *bytes = 4; return true;
    case TSR_F16: *type = LT_F16, *bytes = 2; return true;
    case TSR_BF16: *type = LT_BF16, *bytes = 2; return true;
    case TSR_F64: *type = LT_F64, *bytes = 8; return true;
    default: return false;
    }
}

static cu_deviceptr address_of(const hal_binding *binding)
{
    return ((const cuda_buffer *)binding->buffer)->address + binding->offset;
}

/* The largest power of two, at most 256, that divides the address and every step taken from it. */
static uint32_t alignment_of(cu_deviceptr address, int64_t step, int64_t other_step, size_t bytes)
{
    const cu_deviceptr bits = address | (cu_deviceptr)step * bytes | (cu_deviceptr)other_step * bytes | 256;
    return (uint32_t)(bits & (~bits + 1));
}

/* Whether an operand's summed parts lie one behind the other along k, and if so its leading dimension as one longer matrix.
 * It is stored as [k, other] with k_first, else as [other, k]. */
static bool fold_operand(bool k_first, int64_t k, int64_t other, int64_t reduce, int64_t step, int64_t *leading)
{
    int64_t rows, depth;

    if (!k_first) {
        if (step != k || !checked_mul_i64(k, reduce, &depth) || (other > 1 && *leading < depth))
            return false; /* the rows would overlap */
        return true;
    }
    if (k == 1)
        *leading = step; /* of a single row it says nothing yet */
    return *leading >= other && checked_mul_i64(k, *leading, &rows) && step == rows;
}

/* A sum of products whose operands allow it is one longer product: fewer launches, and no 16-bit sum in between. */
static void fold_sum(hal_gemm *g)
{
    int64_t lda = g->lda, ldb = g->ldb;

    if (g->reduce > 1 && fold_operand(g->transpose_a, g->k, g->m, g->reduce, g->reduce_stride_a, &lda) &&
        fold_operand(!g->transpose_b, g->k, g->n, g->reduce, g->reduce_stride_b, &ldb)) {
        g->k *= g->reduce;
        g->reduce = 1;
        g->lda = lda;
        g->ldb = ldb;
    }
}

/* cuBLASLt wants a leading dimension of at least the row's length even of a single row, where ours may be anything. */
static void widen_single_rows(hal_gemm *g)
{
    if ((g->transpose_a ? g->k : g->m) == 1)
        g->lda = max_i64(g->lda, g->transpose_a ? g->m : g->k);
    if ((g->transpose_b ? g->n : g->k) == 1)
        g->ldb = max_i64(g->ldb, g->transpose_b ? g->k : g->n);
    if (g->m == 1)
        g->ldc = max_i64(g->ldc, g->n);
}

static gemm_shape shape_of(const hal_gemm *g, uint32_t type, uint32_t out_type)
{
    gemm_shape shape;

    memset(&shape, 0, sizeof shape);
    shape.rows = g->n;
    shape.columns = g->m;
    shape.depth = g->k;
    shape.first_leading = g->ldb;
    shape.second_leading = g->lda;
    shape.out_leading = out_type == type ? g->ldc : g->n;
    shape.batch = g->batch;
    if (g->batch > 1) {
        shape.first_stride = g->batch_stride_b;
        shape.second_stride = g->batch_stride_a;
        shape.out_stride = out_type == type ? g->batch_stride_c : g->m * g->n;
    }
    shape.type = type;
    shape.out_type = out_type;
    shape.first_transposed = g->transpose_b;
    shape.second_transposed = g->transpose_a;
    return shape;
}

static tsr_status grow(cuda_device *d, cuda_queue *q, cu_deviceptr *memory, size_t *have, size_t want, const char *what)
{
    tsr_status status;

    if (*have >= want)
        return TSR_OK;
    if (*memory) { /* the queue may still use it */
        if ((status = cuda_check(d, d->api->stream_synchronize(q->stream), "waiting for a queue")))
            return status;
        d->api->mem_free(*memory);
        *memory = 0;
        *have = 0;
    }
    status = cuda_check(d, d->api->mem_alloc(memory, want), "allocating %zu bytes of %s", want, what);
    if (!status)
        *have = want;
    return status;
}

static tsr_status fail_product(cuda_device *d, cuda_queue *q, const cuda_gemm_state *state, const hal_gemm *g,
                               int64_t r, lt_status status)
{
    const cu_result found = d->api->stream_query(q->stream);

    if (r == 0 && (status == LT_NOT_SUPPORTED || status == LT_ARCH_MISMATCH))
        return TSR_UNSUPPORTED; /* nothing was written yet */
    if (cuda_result_is_loss(found))
        return cuda_check(d, found, "multiplying");
    return fail(TSR_DRIVER_ERROR,
                "cuBLASLt on cuda:%u (%s) fails to multiply [%lld, %lld] by [%lld, %lld], batch %lld: %s",
                d->base.index, d->base.info.name, (long long)g->m, (long long)g->k, (long long)g->k, (long long)g->n,
                (long long)g->batch, state->api->status_name(status));
}

/* C = alpha * A[r] B[r] + beta * C for each r in turn, later ones with a beta of 1. */
static tsr_status multiply(cuda_queue *q, cuda_gemm_state *state, const hal_gemm *g, size_t bytes, gemm_shape *shape,
                           cu_deviceptr c, float beta)
{
    cuda_device *d = cuda_device_of(q->base.device);
    const bool wide = shape->type == LT_F64;
    const cu_deviceptr a = address_of(&g->a), b = address_of(&g->b);
    const gemm_plan *plan;
    tsr_status status;

    shape->first_alignment = alignment_of(b, g->reduce > 1 ? g->reduce_stride_b : 0, shape->first_stride, bytes);
    shape->second_alignment = alignment_of(a, g->reduce > 1 ? g->reduce_stride_a : 0, shape->second_stride, bytes);
    shape->out_alignment = alignment_of(c, 0, shape->out_stride, shape->out_type == shape->type ? bytes : 4);
    if ((status = gemm_plan_for(d, state, shape, &plan)))
        return status;
    if (!plan->supported)
        return TSR_UNSUPPORTED;
    for (int64_t r = 0; r < g->reduce; r++) {
        const cu_deviceptr first = b + (cu_deviceptr)(r * g->reduce_stride_b) * bytes;
        const cu_deviceptr second = a + (cu_deviceptr)(r * g->reduce_stride_a) * bytes;
        const float addend = r == 0 ? beta : 1.0f;
        const double wide_alpha = (double)g->alpha, wide_addend = (double)addend;
        const lt_status result = state->api->matmul(
            state->handle, plan->operation, wide ? (const void *)&wide_alpha : &g->alpha,
            (const void *)(uintptr_t)first, plan->first, (const void *)(uintptr_t)second, plan->second,
            wide ? (const void *)&wide_addend : &addend, (const void *)(uintptr_t)c, plan->out, (void *)(uintptr_t)c,
            plan->out, &plan->algo, (void *)(uintptr_t)q->workspace, q->workspace_bytes, q->stream);

        if (result != LT_OK)
            return fail_product(d, q, state, g, r, result);
    }
    return TSR_OK;
}

/* Products of 16-bit numbers that are summed over r: in f32, because C would round the sum after each. */
static tsr_status multiply_sum16(cuda_queue *q, cuda_gemm_state *state, const hal_gemm *g, uint32_t type)
{
    cuda_device *d = cuda_device_of(q->base.device);
    gemm_shape shape = shape_of(g, type, LT_F32);
    size_t bytes;
    tsr_status status;

    if (g->m > INT_MAX || g->n > INT_MAX || g->batch > 65535 ||
        !checked_mul_size((size_t)(g->m * g->n), (size_t)g->batch, &bytes) || !checked_mul_size(bytes, 4, &bytes))
        return TSR_UNSUPPORTED;
    if ((status = grow(d, q, &q->accumulator, &q->accumulator_bytes, bytes, "an accumulator")) ||
        (status = multiply(q, state, g, 2, &shape, q->accumulator, 0.0f)))
        return status;
    return gemm_narrow(q, state, type, q->accumulator, address_of(&g->c), g);
}

tsr_status cuda_gemm(hal_queue *queue, const hal_gemm *gemm)
{
    cuda_queue *q = (cuda_queue *)queue;
    cuda_device *d = cuda_device_of(queue->device);
    hal_gemm g = *gemm;
    cuda_gemm_state *state;
    uint32_t type;
    size_t bytes;
    tsr_status status;

    if (!lt_type(g.dtype, &type, &bytes) || g.k == 0 || g.batch > INT32_MAX)
        return TSR_UNSUPPORTED; /* without a k only beta is left to do, which cuBLASLt refuses */
    if ((status = cuda_enter(d)))
        return status;
    state = cuda_gemm_state_of(d);
    if (!state) {
        status = TSR_UNSUPPORTED;
    } else if (!(status = grow(d, q, &q->workspace, &q->workspace_bytes, state->workspace_bytes, "workspace"))) {
        fold_sum(&g);
        widen_single_rows(&g);
        if (g.reduce > 1 && bytes == 2) {
            status = multiply_sum16(q, state, &g, type);
        } else {
            gemm_shape shape = shape_of(&g, type, type);
            status = multiply(q, state, &g, bytes, &shape, address_of(&g.c), g.beta);
        }
    }
    cuda_leave(d);
    return status;
}
