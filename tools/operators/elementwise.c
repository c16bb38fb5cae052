/* The reference of every elementwise operator: its function at each place of the broadcast shape. */
#include <math.h>
#include <string.h>

#include "number.h"
#include "operators.h"

int broadcast_shape(const reference_call *c, int64_t *shape)
{
    int rank = 0;
    for (int k = 0; k < c->in_count; k++)
        rank = c->in[k].rank > rank ? c->in[k].rank : rank;
    for (int d = 0; d < rank; d++)
        shape[d] = 1;
    for (int k = 0; k < c->in_count; k++)
        for (int d = 0; d < c->in[k].rank; d++) {
            int64_t *size = &shape[d + rank - c->in[k].rank];
            *size = c->in[k].shape[d] != 1 ? c->in[k].shape[d] : *size;
        }
    return rank;
}

static term apply(reference_call *c, const term *x)
{
    const operator_row *row = c->row;
    double v[INPUTS_MAX], d[INPUTS_MAX] = {0}, m[INPUTS_MAX] = {0};
    if (row->composed != NULL)
        return row->composed(c->t, x, row->attrs);
    for (int k = 0; k < c->in_count; k++)
        v[k] = trace_value(c->t, x[k]);
    double value = row->value(v, row->attrs), ulp = row->ulp;
    if (!number_is_float(c->dtype) && isnan(value))
        value = 0; /* of a division by 0: devices raise no errors (tessera/ops.h) */
    if (row->slope != NULL)
        row->slope(v, row->attrs, d, m);
    /* f64 has the target's functions, within 8 ulp, or, in GLSL, our own. */
    if (c->dtype == TSR_F64 && ulp > 0.5)
        ulp = row->ulp_f64 != NULL ? row->ulp_f64(v, row->attrs) : fmax(ulp, 8);
    return trace_function(c->t, value, ulp, row->slope == NULL ? 0 : c->in_count, x, d, m, 2 * ulp + 8);
}

bool elementwise_reference(reference_call *c)
{
    int64_t shape[TSR_MAX_RANK], index[TSR_MAX_RANK] = {0}, i = 0;
    term x[INPUTS_MAX];
    const int rank = broadcast_shape(c, shape);
    term *out = reference_result(c, 0, c->row->gives_bool ? TSR_BOOL : c->dtype, rank, shape);
    if (out == NULL)
        return false;
    if (c->out[0].count == 0)
        return true;
    do {
        for (int k = 0; k < c->in_count; k++)
            x[k] = c->in[k].at[broadcast_at(&c->in[k], rank, index)];
        out[i++] = apply(c, x);
    } while (index_next(rank, shape, index));
    return true;
}
