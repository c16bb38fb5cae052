/* Of pointwise operators, from the slopes of the operators' table. */
#include <string.h>

#include "growth_site.h"

enum { GRID = 64 };

/* Bounds of a pointwise function's derivatives over the ranges that its operands had, on a grid. */
typedef struct slopes {
    double first[3], terms[3]; /* by operand k: of the derivative, and of the terms that it is the sum of */
    double
        second[3]
              [3]; /* how much it changes with operand i from one place of the grid to the next, over their distance */
    double jump;   /* by how much the derivative jumps somewhere; 0: it does not */
} slopes;

static void take_scalars(const site *s, const operator_row *row, double scalars[2])
{
    for (int i = 0; i < 2; i++) {
        const event_attribute *a =
            row->attr_names[i] == NULL ? NULL : event_attribute_find(s->p->forward_a, row->attr_names[i]);
        scalars[i] = a == NULL ? row->attrs[i] : a->kind == TSR_ATTR_FLOAT ? a->f : (double)a->i;
    }
}

/* Whether the slope of one operand still jumps from one place to the next when they are next to each other. */
static double jump_between(const operator_row *row, double low, double high, const double *scalars)
{
    double d[3], m[3], at_low = 0, at_high = 0;
    for (int i = 0; i < 40; i++) {
        const double middle = (low + high) / 2;
        row->slope(&low, scalars, d, m);
        at_low = d[0];
        row->slope(&high, scalars, d, m);
        at_high = d[0];
        row->slope(&middle, scalars, d, m);
        if (fabs(d[0] - at_low) > fabs(at_high - d[0]))
            high = middle;
        else
            low = middle;
    }
    return fabs(at_high - at_low);
}

typedef struct slope_grid {
    const operator_row *row;
    double scalars[2], low[3], high[3];
    int steps[3];
} slope_grid;

static double grid_place(const slope_grid *g, int k, int at)
{
    return g->steps[k] > 1 ? g->low[k] + (g->high[k] - g->low[k]) * at / (g->steps[k] - 1) : g->low[k];
}

/* From a place of the grid to the next along operand i. */
static void look_along(const slope_grid *g, slopes *all, const double *place, const double *d, int i, double next)
{
    double there[3], d_there[3] = {0}, m[3] = {0};
    memcpy(there, place, sizeof there);
    there[i] = next;
    if (!(next > place[i]))
        return;
    g->row->slope(there, g->scalars, d_there, m);
    for (int k = 0; k < g->row->arity; k++)
        all->second[k][i] = fmax(all->second[k][i], fabs(d_there[k] - d[k]) / (next - place[i]));
    if (g->row->arity == 1 && fabs(d_there[0] - d[0]) > 0) {
        const double jump = jump_between(g->row, place[0], next, g->scalars);
        all->jump = jump > 0x1p-20 * fmax(1, fabs(d[0])) ? fmax(all->jump, jump) : all->jump;
    }
}

static slopes slopes_of(const site *s, const operator_row *row)
{
    slopes all = {.jump = 0};
    slope_grid g = {.row = row};
    take_scalars(s, row, g.scalars);
    for (int k = 0; k < 3; k++)
        g.steps[k] = k < row->arity ? (row->arity == 3 ? GRID / 4 : GRID) : 1;
    for (int k = 0; k < row->arity; k++) {
        g.low[k] = fmin(s->p->forward_a->in[k].min, s->p->forward_b->in[k].min);
        g.high[k] = fmax(s->p->forward_a->in[k].max, s->p->forward_b->in[k].max);
    }
    for (int n = 0; n < g.steps[0] * g.steps[1] * g.steps[2]; n++) {
        const int at[] = {n % g.steps[0], n / g.steps[0] % g.steps[1], n / g.steps[0] / g.steps[1]};
        double place[3], d[3] = {0}, m[3] = {0};
        for (int k = 0; k < 3; k++)
            place[k] = grid_place(&g, k, at[k]);
        row->slope(place, g.scalars, d, m);
        for (int k = 0; k < row->arity; k++) {
            all.first[k] = fmax(all.first[k], fabs(d[k]));
            all.terms[k] = fmax(all.terms[k], m[k]);
            if (at[k] + 1 < g.steps[k])
                look_along(&g, &all, place, d, k, grid_place(&g, k, at[k] + 1));
        }
        /* Where all elements are one number, its neighbourhood. */
        for (int k = 0; k < row->arity; k++)
            if (g.low[k] == g.high[k])
                look_along(&g, &all, place, d, k, place[k] + 0x1p-10 * fmax(fabs(place[k]), 0x1p-10));
    }
    return all;
}

static double spread(const site *s, int k)
{
    return sqrt(ratio(s->p->forward_a->out[0].count, x(s, k)->count));
}

growth growth_pointwise_forward(const site *s, const operator_row *row)
{
    const slopes d = slopes_of(s, row);
    growth g = made_of(2 * row->ulp * 2 * s->u * r_norm(s, s->out), 0);
    for (int k = 0; k < row->arity; k++)
        g.passed += d.first[k] * x_distance(s, k) * spread(s, k);
    return g;
}

/* Of two operands the one or the other: their derivatives jump where they are equal. */
static bool chooses(const char *op)
{
    return strcmp(op, "maximum") == 0 || strcmp(op, "minimum") == 0;
}

/* dx = dy f'(x), summed where x was broadcast. 20 roundings of the derivative's terms: tools/operators/elementwise.c. */
growth growth_pointwise_backward(const site *s, const operator_row *row)
{
    const slopes d = slopes_of(s, row);
    const int k = s->out;
    const double several = spread(s, k);
    const double sums = several > 1 ? gamma_of(s, depth(several * several)) : 0;
    growth g = made_of(several * g_norm(s, 0) * (d.first[k] * sums + (2 * row->ulp + 40) * s->u * d.terms[k]),
                       several * d.first[k] * g_distance(s, 0));
    for (int i = 0; i < row->arity; i++)
        g.passed += several * d.second[k][i] * g_largest(s, 0) * x_distance(s, i) * spread(s, i);
    g.passed += several * jumps(s, (chooses(s->p->a->op) ? d.first[k] : d.jump) * g_largest(s, 0));
    /* Only copied or set to 0: nothing is rounded. */
    if (row->ulp == 0 && row->arity == 1 && d.first[k] == 1 && d.jump == 1)
        g.own = 0;
    return g;
}
