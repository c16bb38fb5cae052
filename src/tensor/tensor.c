/* Storages and tensors: making, sharing, releasing, looking. */
#include "tensor/tensor.h"

#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"
#include "tensor/device.h"
#include "tensor/scope.h"

static storage *storage_new(tsr_device *device, size_t bytes)
{
    storage *s = host_alloc_zeroed(1, sizeof *s);
    if (s == NULL)
        return NULL;
    if (bytes > 0 && allocator_alloc(device_allocator(device), device_queue(device), bytes, &s->block) != TSR_OK) {
        host_free(s);
        return NULL;
    }
    atomic_init(&s->references, 1);
    atomic_init(&s->version, 0);
    s->bytes = bytes;
    s->device = device_retain(device);
    return s;
}

static void storage_release(storage *s)
{
    if (atomic_fetch_sub_explicit(&s->references, 1, memory_order_acq_rel) != 1)
        return;
    if (s->block != NULL)
        allocator_free(device_allocator(s->device), s->block);
    tsr_device_close(s->device);
    host_free(s);
}

void tensor_label(const tensor *t, tsr_memory_kind kind, const char *name)
{
    allocator_label(device_allocator(t->storage->device), t->storage->block, (memory_label){name, kind});
}

static tensor *tensor_alloc(storage *s, tsr_dtype dtype, int rank, const int64_t *shape, const int64_t *strides,
                            int64_t offset, int64_t numel)
{
    tensor *t = host_alloc_zeroed(1, sizeof *t);
    if (t == NULL)
        return NULL;
    atomic_init(&t->references, 1);
    t->storage = s;
    t->dtype = dtype;
    t->rank = rank;
    if (rank > 0) {
        memcpy(t->shape, shape, sizeof(int64_t) * (size_t)rank);
        memcpy(t->strides, strides, sizeof(int64_t) * (size_t)rank);
    }
    t->offset = offset;
    t->numel = numel;
    return t;
}

tensor *tensor_new(tsr_device *device, tsr_dtype dtype, int rank, const int64_t *shape)
{
    int64_t numel, strides[TSR_MAX_RANK];
    size_t bytes;
    if (!shape_numel(rank, shape, &numel))
        return NULL;
    if (tsr_dtype_size(dtype) == 0) {
        fail(TSR_INVALID_ARGUMENT, "there is no dtype with the number %d", (int)dtype);
        return NULL;
    }
    if ((device_dtypes(device) & DTYPE_BIT(dtype)) == 0) {
        fail(TSR_UNSUPPORTED, "%s cannot hold %s: its driver lacks that type", tsr_device_id(device),
             tsr_dtype_name(dtype));
        return NULL;
    }
    if (!checked_mul_size((size_t)numel, tsr_dtype_size(dtype), &bytes)) {
        fail(TSR_OUT_OF_RANGE, "a tensor of %s %s has more bytes than an address can tell", tsr_dtype_name(dtype),
             shape_text(rank, shape));
        return NULL;
    }
    strides_contiguous(rank, shape, strides);
    storage *s = storage_new(device, bytes);
    if (s == NULL) {
        fail_prefix("tensor of %s %s", tsr_dtype_name(dtype), shape_text(rank, shape));
        return NULL;
    }
    tensor *t = tensor_alloc(s, dtype, rank, shape, strides, 0, numel);
    if (t == NULL)
        storage_release(s);
    return t;
}

tensor *tensor_view(const tensor *x, int rank, const int64_t *shape, const int64_t *strides, int64_t offset)
{
    int64_t numel;
    if (!shape_numel(rank, shape, &numel))
        return NULL;
    tensor *t = tensor_alloc(x->storage, x->dtype, rank, shape, strides, offset, numel);
    if (t != NULL)
        atomic_fetch_add_explicit(&x->storage->references, 1, memory_order_relaxed);
    return t;
}

tensor *tensor_alias(const tensor *x)
{
    return tensor_view(x, x->rank, x->shape, x->strides, x->offset);
}

tsr_tensor *tsr_retain(tsr_tensor *t)
{
    if (t != NULL)
        atomic_fetch_add_explicit(&t->references, 1, memory_order_relaxed);
    return t;
}

void tsr_release(tsr_tensor *t)
{
    if (t == NULL || atomic_fetch_sub_explicit(&t->references, 1, memory_order_acq_rel) != 1)
        return;
    tsr_release(t->grad);
    if (t->node != NULL)
        t->node_release(t->node);
    storage_release(t->storage);
    host_free(t);
}

tsr_tensor *tsr_keep(tsr_tensor *t)
{
    if (t != NULL && t->scope != NULL)
        scope_remove(t);
    return t;
}

tsr_tensor *tsr_empty(tsr_device *device, tsr_dtype dtype, int rank, const int64_t *shape)
{
    return device == NULL ? NULL : tensor_to_scope(tensor_new(device, dtype, rank, shape));
}

int tsr_rank(const tsr_tensor *t)
{
    return t == NULL ? 0 : t->rank;
}

int64_t tsr_size(const tsr_tensor *t, int axis)
{
    if (t == NULL)
        return 0;
    if (axis < -t->rank || axis >= t->rank) {
        fail(TSR_OUT_OF_RANGE, "tsr_size: axis %d is outside [%d, %d)", axis, -t->rank, t->rank);
        return 0;
    }
    return t->shape[axis < 0 ? axis + t->rank : axis];
}

const int64_t *tsr_shape(const tsr_tensor *t)
{
    return t == NULL ? NULL : t->shape;
}

const int64_t *tsr_strides(const tsr_tensor *t)
{
    return t == NULL ? NULL : t->strides;
}

int64_t tsr_storage_offset(const tsr_tensor *t)
{
    return t == NULL ? 0 : t->offset;
}

int64_t tsr_numel(const tsr_tensor *t)
{
    return t == NULL ? 0 : t->numel;
}

tsr_dtype tsr_dtype_of(const tsr_tensor *t)
{
    return t == NULL ? TSR_F32 : t->dtype;
}

tsr_device *tsr_device_of(const tsr_tensor *t)
{
    return t == NULL ? NULL : t->storage->device;
}

bool tsr_is_contiguous(const tsr_tensor *t)
{
    int64_t step = 1;
    for (int i = t == NULL ? -1 : t->rank - 1; i >= 0; i--) {
        if (t->numel == 0)
            return true;
        if (t->shape[i] != 1 && t->strides[i] != step)
            return false;
        step *= t->shape[i];
    }
    return t != NULL;
}

bool tsr_shares_storage(const tsr_tensor *a, const tsr_tensor *b)
{
    return a != NULL && b != NULL && a->storage == b->storage;
}

hal_binding tensor_binding(const tensor *t)
{
    const size_t size = tsr_dtype_size(t->dtype);
    int64_t last = 0;
    for (int i = 0; i < t->rank; i++)
        last += (t->shape[i] - 1) * t->strides[i];
    return (hal_binding){.buffer = t->storage->block->buffer,
                         .offset = t->storage->block->offset + (size_t)t->offset * size,
                         .length = (size_t)(last + 1) * size};
}
