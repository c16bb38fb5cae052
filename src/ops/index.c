/* Indices made ready, and the launches that take and put elements by them. */
#include "ops/index.h"

#include <math.h>

#include "base/checked.h"
#include "base/error.h"
#include "ops/reduce.h"
#include "tessera/ops.h"

enum { SPAN = 4096, LINE_SPAN = 1024, RUN = 64, MERGE_SPAN = 1024 };

static int64_t div_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* bool moves as u8. */
static tsr_dtype moved_as(tsr_dtype dtype)
{
    return dtype == TSR_BOOL ? TSR_U8 : dtype;
}

static bool countable(const char *what, int64_t a, int64_t b)
{
    int64_t n;
    if (checked_mul_i64(a, b, &n) && n <= INT32_MAX)
        return true;
    fail(TSR_UNSUPPORTED, "%s: %lld times %lld elements or rows are more than a kernel can count", what, (long long)a,
         (long long)b);
    return false;
}

bool index_dtype(const char *what, const tensor *t)
{
    if (t->dtype == TSR_I32 || t->dtype == TSR_I64)
        return true;
    fail(TSR_INVALID_ARGUMENT, "%s: the index is %s; it must be i32 or i64", what, tensor_text(t));
    return false;
}

tensor *index_narrow(const char *what, tensor *index, int64_t size)
{
    tensor *x = contiguous(index);
    if (x == NULL || !countable(what, x->numel, 1) || !countable(what, size, 1))
        return NULL;
    tensor *y = tsr_empty(x->storage->device, TSR_I32, 1, &x->numel);
    const struct {
        uint32_t n, span, size;
    } p = {(uint32_t)x->numel, SPAN, (uint32_t)size};
    if (y == NULL || x->numel == 0)
        return y;
    return LAUNCH(x->storage->device, key_of("index_narrow", x->dtype),
                  ((grid){(uint32_t)div_up(x->numel, SPAN), 1, 1}), &p, tensor_binding(x), tensor_binding(y))
               ? y
               : NULL;
}

bool sort_rows(tensor *x, int64_t rows, int64_t n, bool descending, tensor **keys, tensor **places)
{
    tsr_device *device = x->storage->device;
    const int64_t shape[] = {rows, n}, runs = div_up(n, RUN), spans = div_up(n, MERGE_SPAN);
    tensor *key[2] = {NULL, NULL}, *place[2] = {NULL, NULL};
    for (int i = 0; i < (n > RUN ? 2 : 1); i++) {
        key[i] = tsr_empty(device, x->dtype, 2, shape);
        place[i] = tsr_empty(device, TSR_I32, 2, shape);
        if (key[i] == NULL || place[i] == NULL)
            return false;
    }
    *keys = key[0];
    *places = place[0];
    if (rows == 0 || n == 0)
        return true;
    const struct {
        uint32_t n, runs, descending;
    } p = {(uint32_t)n, (uint32_t)runs, descending};
    if (!countable("sort", rows, n) ||
        !LAUNCH(device, key_of("sort_runs", x->dtype), ((grid){(uint32_t)(rows * runs), 1, 1}), &p, tensor_binding(x),
                tensor_binding(key[0]), tensor_binding(place[0])))
        return false;
    int from = 0;
    for (int64_t width = RUN; width < n; width *= 2, from = 1 - from) {
        const struct {
            uint32_t n, width, spans, descending;
        } q = {(uint32_t)n, (uint32_t)width, (uint32_t)spans, descending};
        if (!LAUNCH(device, key_of("sort_merge", x->dtype), ((grid){(uint32_t)(rows * spans), 1, 1}), &q,
                    tensor_binding(key[from]), tensor_binding(place[from]), tensor_binding(key[1 - from]),
                    tensor_binding(place[1 - from])))
            return false;
    }
    *keys = key[from];
    *places = place[from];
    return true;
}

bool index_take(const tensor *x, const index_lists *index, int64_t outer, int64_t size, int64_t inner, bool zero,
                tensor *y)
{
    tsr_device *device = y->storage->device;
    if (y->numel == 0)
        return true;
    if (x->numel == 0) /* every index is out of range */
        return tsr_fill(y, zero || !dtype_is_float(y->dtype) ? 0 : (double)NAN) == TSR_OK;
    const tsr_dtype dtype = moved_as(y->dtype);
    if (inner == 1) {
        const int64_t spans = div_up(index->n, LINE_SPAN);
        const struct {
            uint32_t n, size, list_step, span, spans, zero;
        } p = {(uint32_t)index->n, (uint32_t)size,  index->lists == 1 ? 0 : (uint32_t)index->n,
               LINE_SPAN,          (uint32_t)spans, zero};
        return countable("index", outer, spans) &&
               LAUNCH(device, key_of("take_lines", dtype), ((grid){(uint32_t)(outer * spans), 1, 1}), &p,
                      tensor_binding(x), tensor_binding(index->narrow), tensor_binding(y));
    }
    const struct {
        uint32_t n, size, cols, zero;
    } p = {(uint32_t)index->n, (uint32_t)size, (uint32_t)inner, zero};
    return countable("index", outer, index->n) && countable("index", inner, 1) &&
           LAUNCH(device, key_of("take_rows", dtype), ((grid){(uint32_t)(outer * index->n), 1, 1}), &p,
                  tensor_binding(x), tensor_binding(index->narrow), tensor_binding(y));
}

/* Along lines. On processors one thread goes through the indices as they are, elsewhere each target searches them sorted. */
static bool put_lines_sorted(const tensor *base, const tensor *from, const index_lists *index, int64_t outer,
                             int64_t size, bool replaces, tensor *y)
{
    const int64_t spans = div_up(size, LINE_SPAN);
    const struct {
        uint32_t n, size, list_step, span, spans, replaces;
    } p = {(uint32_t)index->n, (uint32_t)size,  index->lists == 1 ? 0 : (uint32_t)index->n,
           LINE_SPAN,          (uint32_t)spans, replaces};
    tensor *keys, *places;
    return countable("index", outer, spans) &&
           sort_rows(index->narrow, index->lists, index->n, false, &keys, &places) &&
           LAUNCH(y->storage->device, key_of("put_lines", moved_as(y->dtype)),
                  ((grid){(uint32_t)(outer * spans), 1, 1}), &p, tensor_binding(base), tensor_binding(from),
                  tensor_binding(keys), tensor_binding(places), tensor_binding(y));
}

static tsr_dtype total_dtype(tsr_dtype dtype)
{
    return dtype == TSR_U8 || dtype == TSR_BOOL ? TSR_I32 : reduce_dtype(dtype);
}

static bool put_lines_serial(const tensor *base, const tensor *from, const index_lists *index, int64_t outer,
                             int64_t size, bool replaces, tensor *y)
{
    const struct {
        uint32_t n, size, list_step, replaces;
    } p = {(uint32_t)index->n, (uint32_t)size, index->lists == 1 ? 0 : (uint32_t)index->n, replaces};
    tensor *total = tsr_empty(y->storage->device, total_dtype(y->dtype), 2, (int64_t[]){outer, size});
    return total != NULL && LAUNCH(y->storage->device, key_of("put_lines_serial", moved_as(y->dtype)),
                                   ((grid){(uint32_t)outer, 1, 1}), &p, tensor_binding(base), tensor_binding(from),
                                   tensor_binding(index->narrow), tensor_binding(total), tensor_binding(y));
}

bool index_put(tensor *base, const tensor *from, const index_lists *index, int64_t outer, int64_t size, int64_t inner,
               index_put_options options, tensor *y)
{
    tsr_device *device = y->storage->device;
    tensor *keys, *places;
    if (y->numel == 0)
        return true;
    if (from->numel == 0)
        return base != NULL ? tsr_copy_into(y, base) == TSR_OK : tsr_fill(y, 0) == TSR_OK;
    if (!countable("index", index->n, inner) || !countable("index", outer, size))
        return false;
    if (inner == 1 && options.skip < 0) { /* a base is always read, so that there must be one */
        if (base == NULL && (base = tsr_zeros(device, y->dtype, y->rank, y->shape)) == NULL)
            return false;
        return (device_variant(device) == HAL_CLASS_CPU ? put_lines_serial : put_lines_sorted)(
            base, from, index, outer, size, options.replaces, y);
    }
    if (!sort_rows(index->narrow, index->lists, index->n, false, &keys, &places))
        return false;
    const struct {
        uint32_t n, size, cols, has_base, skip;
    } p = {(uint32_t)index->n, (uint32_t)size, (uint32_t)inner, base != NULL,
           options.skip < 0 ? UINT32_MAX : (uint32_t)options.skip};
    return LAUNCH(device, key_of("put_rows", moved_as(y->dtype)), ((grid){(uint32_t)(outer * size), 1, 1}), &p,
                  tensor_binding(base != NULL ? base : from), tensor_binding(from), tensor_binding(keys),
                  tensor_binding(places), tensor_binding(y));
}
