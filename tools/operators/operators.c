#include "operators.h"

#include <string.h>

#include "base/compiler.h"
#include "base/memory.h"

#define ADDRESS_ROWS(name) &name##_rows,
static const row_list *const lists[] = {ROW_LISTS(ADDRESS_ROWS)};

size_t operator_count(void)
{
    size_t n = 0;
    for (size_t i = 0; i < COUNT_OF(lists); i++)
        n += lists[i]->count;
    return n;
}

const operator_row *operator_at(size_t i)
{
    for (size_t k = 0; k < COUNT_OF(lists); k++) {
        if (i < lists[k]->count)
            return &lists[k]->rows[i];
        i -= lists[k]->count;
    }
    return NULL;
}

const operator_row *operator_find(const char *name)
{
    for (size_t i = 0; i < operator_count(); i++)
        if (strcmp(operator_at(i)->name, name) == 0)
            return operator_at(i);
    return NULL;
}

/* ---- for references ---- */

int64_t shape_product(int rank, const int64_t *shape)
{
    int64_t n = 1;
    for (int i = 0; i < rank; i++)
        n *= shape[i];
    return n;
}

bool index_next(int rank, const int64_t *shape, int64_t *index)
{
    for (int d = rank - 1; d >= 0; d--) {
        if (++index[d] < shape[d])
            return true;
        index[d] = 0;
    }
    return false;
}

int64_t broadcast_at(const operand *x, int rank, const int64_t *index)
{
    int64_t at = 0;
    for (int d = 0; d < x->rank; d++)
        at = at * x->shape[d] + (x->shape[d] == 1 ? 0 : index[d + rank - x->rank]);
    return at;
}

term *reference_result(reference_call *c, int k, tsr_dtype dtype, int rank, const int64_t *shape)
{
    result *r = &c->out[k];
    r->dtype = dtype;
    r->rank = rank;
    if (rank > 0)
        memmove(r->shape, shape, sizeof *shape * (size_t)rank);
    r->count = shape_product(rank, r->shape);
    r->at = host_realloc_array(r->at, (size_t)r->count + 1, sizeof *r->at);
    c->failed = c->failed || r->at == NULL;
    return r->at;
}

const tsr_attr *reference_attr(const reference_call *c, const char *name)
{
    for (int i = 0; i < ATTRS_MAX && c->sample->attrs[i].name != NULL; i++)
        if (strcmp(c->sample->attrs[i].name, name) == 0)
            return &c->sample->attrs[i];
    return NULL;
}

int64_t reference_int(const reference_call *c, const char *name, int64_t initial)
{
    const tsr_attr *a = reference_attr(c, name);
    return a == NULL ? initial : a->i;
}

double reference_float(const reference_call *c, const char *name, double initial)
{
    const tsr_attr *a = reference_attr(c, name);
    return a == NULL ? initial : a->f;
}

int64_t reference_list(const reference_call *c, const char *name, int k, int64_t initial)
{
    const tsr_attr *a = reference_attr(c, name);
    return a == NULL || k >= a->count ? initial : a->values[k];
}
