/* Arithmetic on shapes and strides. */
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "tensor/tensor.h"

bool shape_numel(int rank, const int64_t *shape, int64_t *numel)
{
    if (rank < 0 || rank > TSR_MAX_RANK) {
        fail(TSR_OUT_OF_RANGE, "a tensor has 0 to %d dimensions, not %d", TSR_MAX_RANK, rank);
        return false;
    }
    if (rank > 0 && shape == NULL) {
        fail(TSR_INVALID_ARGUMENT, "the shape of %d dimensions is NULL", rank);
        return false;
    }
    int64_t n = 1;
    bool fits = true, empty = false;
    for (int i = 0; i < rank; i++) {
        if (shape[i] < 0) {
            fail(TSR_OUT_OF_RANGE, "dimension %d of shape %s is negative", i, shape_text(rank, shape));
            return false;
        }
        empty = empty || shape[i] == 0;
        fits = fits && checked_mul_i64(n, shape[i], &n);
    }
    /* The sizes beside a 0 are still limited: strides are made of their products. */
    if (!fits && !empty) {
        fail(TSR_OUT_OF_RANGE, "shape %s has more than 2^63 elements", shape_text(rank, shape));
        return false;
    }
    *numel = empty ? 0 : n;
    return true;
}

void strides_contiguous(int rank, const int64_t *shape, int64_t *strides)
{
    int64_t step = 1;
    for (int i = rank - 1; i >= 0; i--) {
        strides[i] = step;
        /* In an empty tensor no stride is ever used, so a wrapped product does no harm; signed overflow would. */
        if (!checked_mul_i64(step, max_i64(shape[i], 1), &step))
            step = 0;
    }
}

bool shape_equal(const tensor *a, const tensor *b)
{
    return a->rank == b->rank && memcmp(a->shape, b->shape, sizeof(int64_t) * (size_t)a->rank) == 0;
}

bool shape_broadcast(int rank_a, const int64_t *a, int rank_b, const int64_t *b, int *rank, int64_t *out)
{
    *rank = max_int(rank_a, rank_b);
    for (int i = 1; i <= *rank; i++) {
        const int64_t x = i <= rank_a ? a[rank_a - i] : 1, y = i <= rank_b ? b[rank_b - i] : 1;
        if (x != y && x != 1 && y != 1)
            return false;
        out[*rank - i] = x == 1 ? y : x;
    }
    return true;
}

enum { TEXTS = 8, TEXT_SIZE = 256 };

static char *text_slot(void)
{
    static _Thread_local char slots[TEXTS][TEXT_SIZE];
    static _Thread_local unsigned next;
    return slots[next++ % TEXTS];
}

const char *shape_text(int rank, const int64_t *shape)
{
    char *text = text_slot();
    size_t n = (size_t)snprintf(text, TEXT_SIZE, "[");
    for (int i = 0; i < rank && n < TEXT_SIZE; i++)
        n += (size_t)snprintf(text + n, TEXT_SIZE - n, i == 0 ? "%lld" : ", %lld", (long long)shape[i]);
    if (n < TEXT_SIZE)
        snprintf(text + n, TEXT_SIZE - n, "]");
    return text;
}

const char *tensor_text(const tensor *t)
{
    char *text = text_slot();
    snprintf(text, TEXT_SIZE, "%s %s on %s", tsr_dtype_name(t->dtype), shape_text(t->rank, t->shape),
             tsr_device_id(t->storage->device));
    return text;
}

bool axis_normalize(const char *what, int axis, int rank, int *out)
{
    const int dims = max_int(rank, 1); /* a scalar has one axis, as in PyTorch */
    if (axis < -dims || axis >= dims) {
        fail(TSR_OUT_OF_RANGE, "%s: axis %d is outside [%d, %d) of a tensor with %d dimensions", what, axis, -dims,
             dims, rank);
        return false;
    }
    *out = axis < 0 ? axis + dims : axis;
    return true;
}

int dims_collapse(int rank, int64_t *shape, int operands, int64_t (*strides)[TSR_MAX_RANK])
{
    int kept = 0;
    for (int d = 0; d < rank; d++) {
        if (shape[d] == 1)
            continue;
        bool merge = kept > 0;
        for (int k = 0; merge && k < operands; k++)
            merge = strides[k][kept - 1] == shape[d] * strides[k][d];
        if (!merge)
            kept++;
        shape[kept - 1] = merge ? shape[kept - 1] * shape[d] : shape[d];
        for (int k = 0; k < operands; k++)
            strides[k][kept - 1] = strides[k][d];
    }
    if (kept == 0) {
        shape[0] = 1;
        for (int k = 0; k < operands; k++)
            strides[k][0] = 0;
        kept = 1;
    }
    return kept;
}
