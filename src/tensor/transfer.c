/* Elements between host and device. */
#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "tensor/device.h"
#include "tensor/tensor.h"
#include "tessera/autograd.h"
#include "tessera/ops.h"

tsr_status tsr_write(tsr_tensor *t, const void *data, size_t bytes)
{
    if (t == NULL)
        return TSR_INVALID_ARGUMENT;
    const size_t expected = (size_t)t->numel * tsr_dtype_size(t->dtype);
    if (bytes != expected)
        return fail(TSR_INVALID_ARGUMENT, "tsr_write: %zu bytes for %s, which has %zu", bytes, tensor_text(t),
                    expected);
    if (!tsr_is_contiguous(t))
        return fail(TSR_INVALID_ARGUMENT,
                    "tsr_write: %s is not contiguous; write a contiguous tensor and tsr_copy_into", tensor_text(t));
    if (bytes == 0)
        return TSR_OK;
    if (data == NULL)
        return fail(TSR_INVALID_ARGUMENT, "tsr_write: the data are NULL");
    const hal_binding b = tensor_binding(t);
    atomic_fetch_add_explicit(&t->storage->version, 1, memory_order_relaxed);
    return hal_buffer_write(t->storage->device->queue, b.buffer, b.offset, data, bytes);
}

tsr_tensor *tsr_from_data(tsr_device *device, tsr_dtype dtype, int rank, const int64_t *shape, const void *data)
{
    tsr_tensor *t = device == NULL ? NULL : tensor_new(device, dtype, rank, shape);
    if (t == NULL)
        return NULL;
    if (tsr_write(t, data, (size_t)t->numel * tsr_dtype_size(dtype)) != TSR_OK) {
        tsr_release(t);
        return NULL;
    }
    return tensor_to_scope(t);
}

/* Contiguous elements as they are. */
static tsr_status read_dense(const tensor *t, void *data, size_t bytes)
{
    const hal_binding b = tensor_binding(t);
    return hal_buffer_read(t->storage->device->queue, b.buffer, b.offset, data, bytes);
}

tsr_status tsr_read(tsr_tensor *t, void *data, size_t bytes)
{
    if (t == NULL)
        return tsr_last_status() != TSR_OK ? tsr_last_status() : TSR_INVALID_ARGUMENT;
    const size_t expected = (size_t)t->numel * tsr_dtype_size(t->dtype);
    if (bytes != expected)
        return fail(TSR_INVALID_ARGUMENT, "tsr_read: %zu bytes of room for %s, which has %zu", bytes, tensor_text(t),
                    expected);
    if (bytes == 0)
        return TSR_OK;
    if (tsr_is_contiguous(t))
        return read_dense(t, data, bytes);
    if (tsr_scope_begin() != TSR_OK)
        return tsr_last_status();
    tsr_no_grad_begin();
    tensor *copy = tsr_clone(t);
    const tsr_status status = copy == NULL ? tsr_last_status() : read_dense(copy, data, bytes);
    tsr_no_grad_end();
    tsr_scope_end();
    return status;
}

tsr_status tsr_read_f32(tsr_tensor *t, float *values, size_t count)
{
    if (t == NULL)
        return tsr_last_status() != TSR_OK ? tsr_last_status() : TSR_INVALID_ARGUMENT;
    if ((size_t)t->numel != count)
        return fail(TSR_INVALID_ARGUMENT, "tsr_read_f32: room for %zu values of %s, which has %lld", count,
                    tensor_text(t), (long long)t->numel);
    if (tsr_scope_begin() != TSR_OK)
        return tsr_last_status();
    tsr_no_grad_begin();
    tensor *f = t->dtype == TSR_F32 ? t : tsr_cast(t, TSR_F32);
    const tsr_status status = f == NULL ? tsr_last_status() : tsr_read(f, values, count * sizeof *values);
    tsr_no_grad_end();
    tsr_scope_end();
    return status;
}

tsr_status tsr_item(tsr_tensor *t, double *value)
{
    union {
        double f64;
        float f32;
        int32_t i32;
        int64_t i64;
        uint8_t u8;
    } raw;
    float narrow;
    if (t == NULL)
        return tsr_last_status() != TSR_OK ? tsr_last_status() : TSR_INVALID_ARGUMENT;
    if (t->numel != 1)
        return fail(TSR_INVALID_ARGUMENT, "tsr_item: %s has %lld elements, not one", tensor_text(t),
                    (long long)t->numel);
    if (t->dtype == TSR_F16 || t->dtype == TSR_BF16) {
        if (tsr_read_f32(t, &narrow, 1) != TSR_OK)
            return tsr_last_status();
        *value = narrow;
        return TSR_OK;
    }
    if (tsr_read(t, &raw, tsr_dtype_size(t->dtype)) != TSR_OK)
        return tsr_last_status();
    switch (t->dtype) {
    case TSR_F64: *value = raw.f64; break;
    case TSR_F32: *value = raw.f32; break;
    case TSR_I32: *value = raw.i32; break;
    case TSR_I64: *value = (double)raw.i64; break;
    default: *value = raw.u8; break;
    }
    return TSR_OK;
}

tsr_tensor *tsr_to_device(tsr_tensor *x, tsr_device *device)
{
    if (x == NULL || device == NULL)
        return NULL;
    const size_t bytes = (size_t)x->numel * tsr_dtype_size(x->dtype);
    void *data = host_alloc(bytes);
    tsr_tensor *copy = NULL;
    if (data != NULL && tsr_read(x, data, bytes) == TSR_OK)
        copy = tsr_from_data(device, x->dtype, x->rank, x->shape, data);
    host_free(data);
    return copy;
}
