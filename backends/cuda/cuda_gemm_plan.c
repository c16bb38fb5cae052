/* Which algorithm multiplies which shape: asked of cuBLASLt's heuristic once a shape, so that a training loop neither
 * searches nor allocates, and so that a shape gives the same bits every time. */
#include "cuda_gemm.h"

#include "base/error.h"
#include "base/memory.h"

#include <string.h>

static size_t bucket_of(const gemm_shape *shape)
{
    const unsigned char *bytes = (const unsigned char *)shape;
    uint64_t hash = 14695981039346656037u; /* FNV-1a */

    for (size_t i = 0; i < sizeof *shape; i++)
        hash = (hash ^ bytes[i]) * 1099511628211u;
    return (size_t)(hash ^ hash >> 32) % GEMM_BUCKETS;
}

static lt_status make_layout(const cublaslt_api *api, const gemm_shape *shape, uint32_t type, bool transposed,
                             int64_t rows, int64_t columns, int64_t leading, int64_t stride, lt_layout *layout)
{
    const int32_t batch = (int32_t)shape->batch;
    lt_status status = api->layout_create(layout, type, (uint64_t)(transposed ? columns : rows),
                                          (uint64_t)(transposed ? rows : columns), leading);

    if (status == LT_OK && batch > 1) {
        status = api->layout_set(*layout, LT_LAYOUT_BATCH_COUNT, &batch, sizeof batch);
        if (status == LT_OK)
            status = api->layout_set(*layout, LT_LAYOUT_BATCH_STRIDE, &stride, sizeof stride);
    }
    return status;
}

static lt_status describe(const cublaslt_api *api, const gemm_shape *s, gemm_plan *plan)
{
    const bool wide = s->type == LT_F64;
    const int32_t first = s->first_transposed ? LT_OP_TRANSPOSE : LT_OP_NONE;
    const int32_t second = s->second_transposed ? LT_OP_TRANSPOSE : LT_OP_NONE;
    lt_status status;

    /* Not a _FAST_ compute type: f32 stays f32 on tensor cores, TF32 must be asked for. */
    if ((status =
             api->operation_create(&plan->operation, wide ? LT_COMPUTE_F64 : LT_COMPUTE_F32, wide ? LT_F64 : LT_F32)) ||
        (status = api->operation_set(plan->operation, LT_OPERATION_TRANSPOSE_A, &first, sizeof first)) ||
        (status = api->operation_set(plan->operation, LT_OPERATION_TRANSPOSE_B, &second, sizeof second)) ||
        (status = make_layout(api, s, s->type, s->first_transposed, s->rows, s->depth, s->first_leading,
                              s->first_stride, &plan->first)) ||
        (status = make_layout(api, s, s->type, s->second_transposed, s->depth, s->columns, s->second_leading,
                              s->second_stride, &plan->second)))
        return status;
    return make_layout(api, s, s->out_type, false, s->rows, s->columns, s->out_leading, s->out_stride, &plan->out);
}

static lt_status search(const cuda_gemm_state *state, gemm_plan *plan)
{
    const cublaslt_api *api = state->api;
    const gemm_shape *s = &plan->shape;
    const uint64_t workspace = state->workspace_bytes;
    /* Split sums must be added in the type of the computation: adding them in a 16-bit C would round at each split. */
    const uint32_t reductions = LT_REDUCTION_COMPUTE_TYPE |
                                (s->out_type == LT_F32 || s->out_type == LT_F64 ? (uint32_t)LT_REDUCTION_INPLACE : 0u);
    const struct {
        lt_enum attribute;
        uint32_t value;
    } values[] = {
        {LT_PREFERENCE_REDUCTIONS, reductions},           {LT_PREFERENCE_ALIGNMENT_A, s->first_alignment},
        {LT_PREFERENCE_ALIGNMENT_B, s->second_alignment}, {LT_PREFERENCE_ALIGNMENT_C, s->out_alignment},
        {LT_PREFERENCE_ALIGNMENT_D, s->out_alignment},
    };
    lt_preference preference;
    lt_heuristic best;
    int count = 0;
    lt_status status = api->preference_create(&preference);

    if (status != LT_OK)
        return status;
    status = api->preference_set(preference, LT_PREFERENCE_WORKSPACE, &workspace, sizeof workspace);
    for (size_t i = 0; i < COUNT_OF(values) && status == LT_OK; i++)
        status = api->preference_set(preference, values[i].attribute, &values[i].value, sizeof values[i].value);
    if (status == LT_OK)
        status = api->get_heuristic(state->handle, plan->operation, plan->first, plan->second, plan->out, plan->out,
                                    preference, 1, &best, &count);
    if (status == LT_OK && count > 0 && best.state == LT_OK) {
        plan->algo = best.algo;
        plan->supported = true;
    }
    api->preference_destroy(preference);
    return status;
}

static void plan_free(const cublaslt_api *api, gemm_plan *plan)
{
    if (plan->operation)
        api->operation_destroy(plan->operation);
    if (plan->first)
        api->layout_destroy(plan->first);
    if (plan->second)
        api->layout_destroy(plan->second);
    if (plan->out)
        api->layout_destroy(plan->out);
    host_free(plan);
}

tsr_status gemm_plan_for(cuda_device *d, cuda_gemm_state *state, const gemm_shape *shape, const gemm_plan **out)
{
    gemm_plan **bucket = &state->plans[bucket_of(shape)];
    gemm_plan *plan;
    lt_status status = LT_OK;
    tsr_status result = TSR_OK;

    mutex_lock(&state->lock);
    for (plan = *bucket; plan && memcmp(&plan->shape, shape, sizeof *shape) != 0; plan = plan->next) {
    }
    if (!plan) {
        plan = host_alloc_zeroed(1, sizeof *plan);
        if (!plan) {
            result = tsr_last_status();
        } else {
            plan->shape = *shape;
            status = describe(state->api, shape, plan);
            if (status == LT_OK)
                status = search(state, plan);
            state->searches++;
            if (status == LT_ALLOC_FAILED) { /* may be better next time */
                plan_free(state->api, plan);
                result =
                    fail(TSR_OUT_OF_MEMORY, "cuBLASLt has no memory to plan a product of %lld x %lld x %lld on cuda:%u",
                         (long long)shape->columns, (long long)shape->rows, (long long)shape->depth, d->base.index);
            } else { /* any other refusal stands: the generic kernel multiplies this shape */
                plan->next = *bucket;
                *bucket = plan;
            }
        }
    }
    mutex_unlock(&state->lock);
    *out = result ? NULL : plan;
    return result;
}

void gemm_plans_free(cuda_gemm_state *state)
{
    for (size_t i = 0; i < GEMM_BUCKETS; i++)
        while (state->plans[i]) {
            gemm_plan *plan = state->plans[i];
            state->plans[i] = plan->next;
            plan_free(state->api, plan);
        }
}
