#include "guarded.h"

#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "number.h"

enum { GUARD = 64 };

/* The memory behind a view: sizes, and for each of the view's axes the distance of neighbours. */
typedef struct memory_shape {
    int rank;
    int64_t shape[TSR_MAX_RANK], stride[TSR_MAX_RANK];
} memory_shape;

static memory_shape memory_of(layout l, int rank, const int64_t *shape)
{
    memory_shape m = {.rank = rank};
    int64_t step = 1;
    for (int d = 0; d < rank; d++)
        m.shape[d] = l == LAYOUT_REVERSED ? shape[rank - 1 - d] : shape[d];
    if (l == LAYOUT_STEPPED && rank > 0)
        m.shape[rank - 1] *= 2;
    if (l == LAYOUT_STEPPED && rank > 1)
        m.shape[0]++;
    if (l == LAYOUT_SPREAD && rank > 0)
        m.shape[0] = shape[0] == 0 ? 0 : 1;
    for (int d = rank - 1; d >= 0; d--) {
        m.stride[l == LAYOUT_REVERSED ? rank - 1 - d : d] = step;
        step *= m.shape[d];
    }
    if (l == LAYOUT_STEPPED && rank > 0)
        m.stride[rank - 1] = 2;
    if (l == LAYOUT_SPREAD && rank > 0)
        m.stride[0] = 0;
    return m;
}

static tsr_tensor *view_of(tsr_tensor *whole, int64_t first, layout l, const memory_shape *m, int rank,
                           const int64_t *shape)
{
    int axes[TSR_MAX_RANK];
    tsr_tensor *v = tsr_slice(whole, 0, first, first + shape_product(m->rank, m->shape), 1);
    v = tsr_reshape(v, m->rank, m->shape);
    for (int d = 0; d < rank; d++)
        axes[d] = rank - 1 - d;
    if (rank == 0)
        return v;
    switch (l) {
    case LAYOUT_DENSE: return v;
    case LAYOUT_REVERSED: return tsr_permute(v, axes);
    case LAYOUT_STEPPED:
        return tsr_slice(tsr_slice(v, 0, 0, shape[0] * (rank == 1 ? 2 : 1), 1), rank - 1, 0, INT64_MAX, 2);
    case LAYOUT_SPREAD: return tsr_expand(v, rank, shape);
    }
    return NULL;
}

/* A pattern that no kernel writes by accident: for floats a large number, so that reading it by mistake shows too. */
static void fill_pattern(tsr_dtype dtype, void *image, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        number_store(dtype, image, i,
                     dtype == TSR_BOOL        ? 1
                     : number_is_float(dtype) ? 9472 + (double)(i % 7) * 64
                                              : 77 + (double)(i % 7));
}

bool guarded_make(guarded *g, tsr_device *device, tsr_dtype dtype, int rank, const int64_t *shape, layout l,
                  int64_t lead, const double *values)
{
    const memory_shape m = memory_of(l, rank, shape);
    const int64_t first = GUARD + lead, total = first + shape_product(rank, m.shape) + GUARD;
    const int64_t count = shape_product(rank, shape);
    int64_t index[TSR_MAX_RANK] = {0};
    memset(g, 0, sizeof *g);
    g->bytes = (size_t)total * tsr_dtype_size(dtype);
    g->image = host_alloc(g->bytes);
    if (g->image == NULL)
        return false;
    fill_pattern(dtype, g->image, total);
    for (int64_t i = 0; i < count && values != NULL; i++) {
        int64_t at = first;
        for (int d = 0; d < rank; d++)
            at += index[d] * m.stride[d];
        number_store(dtype, g->image, at, values[i]);
        index_next(rank, shape, index);
    }
    g->whole = tsr_from_data(device, dtype, 1, &total, g->image);
    g->view = view_of(g->whole, first, l, &m, rank, shape);
    if (g->view != NULL && !tsr_shares_storage(g->view, g->whole)) {
        fail(TSR_INVALID_ARGUMENT, "a view of a guarded tensor is a copy");
        g->view = NULL;
    }
    return g->view != NULL;
}

bool guarded_intact(const guarded *g, bool only_guards, bool *intact)
{
    const size_t element = tsr_dtype_size(tsr_dtype_of(g->whole));
    const size_t first = (size_t)tsr_storage_offset(g->view) * element, own = (size_t)tsr_numel(g->view) * element;
    char *now = host_alloc(g->bytes);
    const bool ok = now != NULL && tsr_read(g->whole, now, g->bytes) == TSR_OK;
    const char *before = g->image;
    *intact = ok && (only_guards ? memcmp(now, before, first) == 0 &&
                                       memcmp(now + first + own, before + first + own, g->bytes - first - own) == 0
                                 : memcmp(now, before, g->bytes) == 0);
    host_free(now);
    return ok;
}

void guarded_free(guarded *g)
{
    host_free(g->image);
    g->image = NULL;
}
