/* The front of the HAL: kernels and products. */
#include "hal/front.h"

#include "base/checked.h"
#include "tessera/tensor.h"

#include <stdio.h>
#include <string.h>

/* What the smallest GPU limit in use allows. */
#define GRID_X_MOST  0x7fffffffu
#define GRID_YZ_MOST 65535u

static tsr_status check_code(const hal_device *device, const hal_kernel_desc *desc)
{
    static const char *const forms[] = {"a C function", "source text", "SPIR-V"};
    if (desc->code != device->info.code)
        return fail(TSR_UNSUPPORTED, "kernel %s comes in form %d; device %s takes %s", desc->key, (int)desc->code,
                    hal_device_id(device), forms[device->info.code]);

    bool whole = false;
    switch (desc->code) {
    case HAL_CODE_NATIVE: whole = desc->native != NULL; break;
    case HAL_CODE_SOURCE: whole = desc->source != NULL && desc->source_count > 0 && desc->entry != NULL; break;
    case HAL_CODE_SPIRV:
        whole = desc->spirv != NULL && desc->spirv_bytes > 0 && desc->spirv_bytes % 4 == 0 && desc->entry != NULL;
        break;
    }
    return whole ? TSR_OK
                 : fail(TSR_INVALID_ARGUMENT, "kernel %s comes without its code (%s)", desc->key, forms[desc->code]);
}

static tsr_status check_kernel(const hal_device *device, const hal_kernel_desc *desc)
{
    if (desc->key == NULL)
        return fail(TSR_INVALID_ARGUMENT, "a kernel needs a key");
    const tsr_status status = check_code(device, desc);
    if (status != TSR_OK)
        return status;
    if (desc->group_size == 0 || desc->group_size > device->info.max_group_size)
        return fail(TSR_UNSUPPORTED, "kernel %s has work-groups of %u; device %s takes 1 to %u", desc->key,
                    (unsigned)desc->group_size, hal_device_id(device), (unsigned)device->info.max_group_size);
    if (desc->params_bytes > HAL_MAX_PARAMS || desc->params_bytes % 4 != 0)
        return fail(TSR_INVALID_ARGUMENT, "kernel %s has %u bytes of parameters; a multiple of 4 up to %d is possible",
                    desc->key, (unsigned)desc->params_bytes, HAL_MAX_PARAMS);
    if (desc->binding_count > HAL_MAX_BINDINGS)
        return fail(TSR_INVALID_ARGUMENT, "kernel %s has %u bindings; at most %d are possible", desc->key,
                    (unsigned)desc->binding_count, HAL_MAX_BINDINGS);
    for (uint32_t i = 0; i < desc->binding_count; i++) {
        const unsigned element = desc->element_bytes[i];
        if (desc->access[i] < HAL_READ || desc->access[i] > HAL_READ_WRITE)
            return fail(TSR_INVALID_ARGUMENT, "kernel %s: access %u of binding %u is none of read, write, both",
                        desc->key, (unsigned)desc->access[i], (unsigned)i);
        if (element != 1 && element != 2 && element != 4 && element != 8)
            return fail(TSR_INVALID_ARGUMENT,
                        "kernel %s: the elements of binding %u have %u bytes; 1, 2, 4, 8 are possible", desc->key,
                        (unsigned)i, element);
    }
    return TSR_OK;
}

tsr_status hal_kernel_create(hal_device *device, const hal_kernel_desc *desc, hal_kernel **kernel)
{
    if (device == NULL || desc == NULL || kernel == NULL)
        return fail(TSR_INVALID_ARGUMENT,
                    "creating a kernel takes a device, a descriptor and a place for the kernel, and one is NULL");
    *kernel = NULL;
    if (front_is_lost(device))
        return front_lost(device);
    tsr_status status = check_kernel(device, desc);
    if (status != TSR_OK)
        return status;
    profile_span span;
    span.session = 0;
    if (profiling())
        profile_open_now(&span, PROFILE_DRIVER, "build program", profile_intern(desc->key), PROFILE_NO_NUMBER);
    status = front_note(device, device->backend->kernel_create(device, desc, kernel));
    profile_close(&span);
    if (status != TSR_OK)
        return status;

    hal_kernel *made = *kernel;
    made->device = device;
    snprintf(made->key, sizeof made->key, "%s", desc->key);
    made->params_bytes = desc->params_bytes;
    made->binding_count = desc->binding_count;
    made->group_size = desc->group_size;
    memcpy(made->access, desc->access, sizeof made->access);
    memcpy(made->element_bytes, desc->element_bytes, sizeof made->element_bytes);
    atomic_fetch_add(&device->front->kernels, 1);
    front_count(&device->front->kernels_created);
    return TSR_OK;
}

void hal_kernel_destroy(hal_kernel *kernel)
{
    if (kernel == NULL)
        return;
    hal_device *device = kernel->device;
    device->backend->kernel_destroy(kernel);
    atomic_fetch_sub(&device->front->kernels, 1);
}

/* `what` and `slot` name the binding in the message. */
static tsr_status check_binding(const hal_device *device, const hal_binding *binding, size_t element, const char *what,
                                uint32_t slot)
{
    const hal_buffer *buffer = binding->buffer;
    if (buffer == NULL)
        return fail(TSR_INVALID_ARGUMENT, "%s: the buffer of binding %u is NULL", what, (unsigned)slot);
    if (buffer->device != device)
        return fail(TSR_INVALID_ARGUMENT, "%s: binding %u belongs to device %s, the queue to %s", what, (unsigned)slot,
                    hal_device_id(buffer->device), hal_device_id(device));
    if (buffer->memory != HAL_MEMORY_DEVICE)
        return fail(TSR_INVALID_ARGUMENT, "%s: binding %u is in host memory, which takes part in copies only", what,
                    (unsigned)slot);
    if (binding->length == 0)
        return fail(TSR_INVALID_ARGUMENT, "%s: binding %u is empty; a kernel without work is not launched", what,
                    (unsigned)slot);
    if (!range_fits(binding->offset, binding->length, buffer->size))
        return fail(TSR_OUT_OF_RANGE, "%s: binding %u has %zu bytes at offset %zu, but its buffer has %zu bytes", what,
                    (unsigned)slot, binding->length, binding->offset, buffer->size);
    if (binding->offset % element != 0)
        return fail(TSR_INVALID_ARGUMENT, "%s: binding %u is at offset %zu, no multiple of its element size %zu", what,
                    (unsigned)slot, binding->offset, element);
    if (binding->length > device->info.max_binding_bytes)
        return fail(TSR_UNSUPPORTED,
                    "%s: binding %u has %zu bytes; a kernel on %s (%s) can reach %llu through one: split the tensor, "
                    "or use a smaller batch",
                    what, (unsigned)slot, binding->length, hal_device_id(device), device->info.name,
                    (unsigned long long)device->info.max_binding_bytes);
    return TSR_OK;
}

static tsr_status check_launch(const hal_queue *queue, const hal_launch *launch)
{
    if (queue == NULL || launch == NULL || launch->kernel == NULL)
        return fail(TSR_INVALID_ARGUMENT, "launch: the %s is NULL",
                    queue == NULL    ? "queue"
                    : launch == NULL ? "description"
                                     : "kernel");
    const hal_device *device = queue->device;
    const hal_kernel *kernel = launch->kernel;
    if (kernel->device != device)
        return fail(TSR_INVALID_ARGUMENT, "launch: the kernel belongs to device %s, the queue to %s",
                    hal_device_id(kernel->device), hal_device_id(device));
    if (queue->kind != HAL_QUEUE_COMPUTE)
        return fail(TSR_INVALID_ARGUMENT, "launch: a copy queue runs no kernels");

    const uint32_t *grid = launch->grid;
    if (grid[0] == 0 || grid[1] == 0 || grid[2] == 0 || grid[0] > GRID_X_MOST || grid[1] > GRID_YZ_MOST ||
        grid[2] > GRID_YZ_MOST)
        return fail(TSR_OUT_OF_RANGE, "launch: a grid of %u x %u x %u work-groups; 1 to %u x %u x %u are possible",
                    (unsigned)grid[0], (unsigned)grid[1], (unsigned)grid[2], GRID_X_MOST, GRID_YZ_MOST, GRID_YZ_MOST);
    if (launch->binding_count != kernel->binding_count)
        return fail(TSR_INVALID_ARGUMENT, "launch: %u bindings were given; the kernel has %u",
                    (unsigned)launch->binding_count, (unsigned)kernel->binding_count);
    if (launch->binding_count > 0 && launch->bindings == NULL)
        return fail(TSR_INVALID_ARGUMENT, "launch: the bindings are NULL");
    if (launch->params_bytes != kernel->params_bytes)
        return fail(TSR_INVALID_ARGUMENT, "launch: %u bytes of parameters were given; the kernel has %u",
                    (unsigned)launch->params_bytes, (unsigned)kernel->params_bytes);
    if (launch->params_bytes > 0 && launch->params == NULL)
        return fail(TSR_INVALID_ARGUMENT, "launch: the parameters are NULL");

    for (uint32_t i = 0; i < launch->binding_count; i++) {
        const tsr_status status = check_binding(device, &launch->bindings[i], kernel->element_bytes[i], "launch", i);
        if (status != TSR_OK)
            return status;
    }
    return TSR_OK;
}

tsr_status hal_kernel_launch(hal_queue *queue, const hal_launch *launch)
{
    tsr_status status = check_launch(queue, launch);
    if (status != TSR_OK ||
        (status = front_begin(queue, PROFILE_KERNEL, launch->kernel->key, PROFILE_NO_NUMBER)) != TSR_OK)
        return status;
    front_count(&queue->device->front->launches);
    return front_end(queue, queue->device->backend->launch(queue, launch));
}

/* ---- products -------------------------------------------------------------------------------------------------- */

/* Elements from the first to behind the last of `outer` x `inner` matrices of rows x columns. False on overflow or
 * a negative stride. */
static bool extent(const int64_t counts[4], const int64_t strides[4], size_t element, size_t *bytes)
{
    int64_t last = 0;
    for (int i = 0; i < 4; i++) {
        int64_t step;
        if (strides[i] < 0 || !checked_mul_i64(counts[i] - 1, strides[i], &step) || !checked_add_i64(last, step, &last))
            return false;
    }
    return checked_mul_size((size_t)last + 1, element, bytes);
}

static tsr_status check_operand(const hal_device *device, const hal_binding *binding, const int64_t counts[4],
                                const int64_t strides[4], size_t element, uint32_t slot)
{
    size_t bytes;
    if (counts[3] > strides[2] && counts[2] > 1)
        return fail(TSR_INVALID_ARGUMENT, "gemm: operand %c has rows of %lld elements, but only %lld between them",
                    "ABC"[slot], (long long)counts[3], (long long)strides[2]);
    if (!extent(counts, strides, element, &bytes))
        return fail(TSR_OUT_OF_RANGE, "gemm: the strides of operand %c are negative or reach beyond 64 bits",
                    "ABC"[slot]);
    const tsr_status status = check_binding(device, binding, element, "gemm", slot);
    if (status != TSR_OK)
        return status;
    if (bytes > binding->length)
        return fail(TSR_OUT_OF_RANGE, "gemm: operand %c reaches over %zu bytes, but its binding has %zu", "ABC"[slot],
                    bytes, binding -> length);
    return TSR_OK;
}

static tsr_status check_gemm(const hal_queue *queue, const hal_gemm *g)
{
    if (queue == NULL || g == NULL)
        return fail(TSR_INVALID_ARGUMENT, "gemm: the %s is NULL", queue == NULL ? "queue" : "description");
    if (queue->kind != HAL_QUEUE_COMPUTE)
        return fail(TSR_INVALID_ARGUMENT, "gemm: a copy queue computes nothing");
    if (g->m < 0 || g->n < 0 || g->k < 0 || g->batch < 0 || g->reduce < 1)
        return fail(TSR_OUT_OF_RANGE,
                    "gemm: m %lld, n %lld, k %lld, batch %lld must not be negative, reduce %lld not below 1",
                    (long long)g->m, (long long)g->n, (long long)g->k, (long long)g->batch, (long long)g->reduce);
    if (g->dtype != TSR_F32 && g->dtype != TSR_F16 && g->dtype != TSR_BF16 && g->dtype != TSR_F64)
        return fail(TSR_INVALID_ARGUMENT, "gemm: dtype %u is no floating-point type", (unsigned)g->dtype);
    if (g->m == 0 || g->n == 0 || g->batch == 0)
        return TSR_OK;
    if (g->batch > 1 && g->batch_stride_c == 0)
        return fail(TSR_INVALID_ARGUMENT, "gemm: %lld batches cannot share one C; sum them with reduce",
                    (long long)g->batch);

    const hal_device *device = queue->device;
    const size_t element = g->dtype == TSR_F64 ? 8 : g->dtype == TSR_F32 ? 4 : 2;
    tsr_status status = TSR_OK;
    if (g->k > 0) {
        const int64_t a_rows = g->transpose_a ? g->k : g->m, a_columns = g->transpose_a ? g->m : g->k;
        const int64_t b_rows = g->transpose_b ? g->n : g->k, b_columns = g->transpose_b ? g->k : g->n;
        status = check_operand(device, &g->a, (int64_t[]){g->batch, g->reduce, a_rows, a_columns},
                               (int64_t[]){g->batch_stride_a, g->reduce_stride_a, g->lda, 1}, element, 0);
        if (status == TSR_OK)
            status = check_operand(device, &g->b, (int64_t[]){g->batch, g->reduce, b_rows, b_columns},
                                   (int64_t[]){g->batch_stride_b, g->reduce_stride_b, g->ldb, 1}, element, 1);
    }
    if (status == TSR_OK)
        status = check_operand(device, &g->c, (int64_t[]){g->batch, 1, g->m, g->n},
                               (int64_t[]){g->batch_stride_c, 0, g->ldc, 1}, element, 2);
    return status;
}

tsr_status hal_gemm_run(hal_queue *queue, const hal_gemm *gemm)
{
    tsr_status status = check_gemm(queue, gemm);
    if (status != TSR_OK)
        return status;
    if (gemm->m == 0 || gemm->n == 0 || gemm->batch == 0)
        return TSR_OK;
    if (queue->device->backend->gemm == NULL)
        return TSR_UNSUPPORTED;
    if ((status = front_begin(queue, PROFILE_KERNEL, "gemm", PROFILE_NO_NUMBER)) != TSR_OK)
        return status;
    status = queue->device->backend->gemm(queue, gemm);
    if (status == TSR_OK)
        front_count(&queue->device->front->launches);
    return front_end(queue, status);
}
