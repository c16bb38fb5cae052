/* Of operators that move, choose, multiply and add. */
#include <string.h>

#include "growth_site.h"

/* ---- elements that are moved ---------------------------------------------------------------------------------------- */

/* Each result is an element of an operand; one may go to several. */
growth move_forward(const site *s)
{
    double passed = 0;
    for (int k = 0; k < s->p->a->in_count; k++)
        passed += x_distance(s, k);
    const bool pool = x(s, 0)->count > made(s)->count;
    const double several = pool ? attribute_product(s, "kernel") : ratio(made(s)->count, x(s, 0)->count);
    return made_of(0, passed * sqrt(several));
}

/* Gradients of one element are summed. */
growth move_backward(const site *s)
{
    const digest *g = &s->p->a->in[0];
    const double terms = ratio(g->count, made(s)->count), pool = attribute_product(s, "kernel");
    const double most = fmax(terms, fmin(pool, (double)g->count));
    return made_of(most > 1 ? gamma_of(s, depth(most)) * sqrt(most) * g_norm(s, 0) : 0, sqrt(most) * g_distance(s, 0));
}

/* The window's largest may be another where two are as near as the operands are apart. */
growth choice_backward(const site *s)
{
    growth g = move_backward(s);
    g.passed += jumps(s, 2 * g_largest(s, 0));
    return g;
}

/* Of two tensors the one or the other, as a third says; where that differs nothing is known. */
growth where_forward(const site *s)
{
    double passed = 0;
    for (int k = 1; k < s->p->a->in_count; k++)
        passed += x_distance(s, k) * sqrt(ratio(made(s)->count, x(s, k)->count));
    growth g = made_of(0, passed);
    g.judged = x_distance(s, 0) == 0;
    return g;
}

growth where_backward(const site *s)
{
    growth g = move_backward(s);
    g.judged = x_distance(s, 0) == 0;
    return g;
}

/* The mask is the same everywhere; what is kept is scaled. */
static double dropout_scale(const site *s)
{
    const event_attribute *p = event_attribute_find(s->p->forward_a, "p");
    return p == NULL || !(p->f < 1) ? 1 : 1 / (1 - p->f);
}

growth dropout_forward(const site *s)
{
    return made_of(4 * s->u * r_norm(s, 0), dropout_scale(s) * x_distance(s, 0));
}

growth dropout_backward(const site *s)
{
    return made_of(4 * s->u * r_norm(s, 0), dropout_scale(s) * g_distance(s, 0));
}

/* An element is in no more windows than a window has elements; where the padding does not count, a window may have but one. */
static double pool_scale(const site *s)
{
    const event_attribute *a = event_attribute_find(s->p->forward_a, "exclude_padding");
    return a != NULL && a->i != 0 ? attribute_product(s, "kernel") : 1;
}

growth average_forward(const site *s)
{
    return made_of(gamma_of(s, depth(attribute_product(s, "kernel"))) * pool_scale(s) * x_norm(s, 0),
                   pool_scale(s) * x_distance(s, 0));
}

growth average_backward(const site *s)
{
    return made_of(gamma_of(s, depth(attribute_product(s, "kernel"))) * pool_scale(s) * g_norm(s, 0),
                   pool_scale(s) * g_distance(s, 0));
}

/* ---- products ------------------------------------------------------------------------------------------------------- */

/* ‖A B‖ ≤ ‖A‖ ‖B‖ in Frobenius' norm; an element of a convolution's input meets each element of the kernel's area. */
static growth bilinear(const site *s, double area, double terms, double norm_a, double apart_a, double norm_b,
                       double apart_b)
{
    const double m = sqrt(area);
    return made_of(gamma_of(s, depth(terms)) * m * norm_a * norm_b, m * (apart_a * norm_b + norm_a * apart_b));
}

static double area_of(const digest *w)
{
    double area = 1;
    for (int i = 2; i < w->rank; i++)
        area *= (double)w->shape[i];
    return area;
}

/* x, weight [out, in, …], bias [out] */
growth layer_forward(const site *s)
{
    const digest *w = x(s, 1);
    const double outs = w->rank > 0 && w->shape[0] > 0 ? (double)w->shape[0] : 1;
    growth g = bilinear(s, area_of(w), (double)w->count / outs, x_norm(s, 0), x_distance(s, 0), x_norm(s, 1),
                        x_distance(s, 1));
    if (s->p->forward_a->in_count > 2 && x(s, 2)->present)
        g.passed += x_distance(s, 2) * sqrt(ratio(made(s)->count, x(s, 2)->count));
    g.own += 2 * s->u * r_norm(s, 0); /* the bias is added */
    return g;
}

growth layer_backward(const site *s)
{
    const digest *w = x(s, 1), *g = &s->p->a->in[0];
    const double outs = w->rank > 0 ? fmax(1, (double)w->shape[0]) : 1,
                 ins = w->rank > 1 ? fmax(1, (double)w->shape[1]) : 1;
    if (s->out == 0)
        return bilinear(s, area_of(w), (double)w->count / ins, g_norm(s, 0), g_distance(s, 0), x_norm(s, 1),
                        x_distance(s, 1));
    const double terms = (double)g->count / outs;
    if (s->out == 1)
        return bilinear(s, area_of(w), terms, g_norm(s, 0), g_distance(s, 0), x_norm(s, 0), x_distance(s, 0));
    return made_of(gamma_of(s, depth(terms)) * sqrt(terms) * g_norm(s, 0), sqrt(terms) * g_distance(s, 0));
}

static double inner(const site *s)
{
    const digest *a = x(s, 0);
    return a->rank > 0 ? (double)a->shape[a->rank - 1] : 1;
}

/* Operands of fewer batches are repeated. */
growth matmul_forward(const site *s)
{
    const double rows = (double)made(s)->count * inner(s);
    const digest *a = x(s, 0), *b = x(s, 1);
    const double last_b = b->rank > 1 ? (double)b->shape[b->rank - 1] : 1,
                 last_a = a->rank > 1 ? (double)a->shape[a->rank - 2] : 1;
    const double times_a = fmax(1, rows / fmax(1, last_b) / fmax(1, (double)a->count)),
                 times_b = fmax(1, rows / fmax(1, last_a) / fmax(1, (double)b->count));
    return bilinear(s, times_a * times_b, inner(s), x_norm(s, 0), x_distance(s, 0), x_norm(s, 1), x_distance(s, 1));
}

growth matmul_backward(const site *s)
{
    const int other = 1 - s->out;
    const double repeated = ratio(s->p->a->in[0].count, x(s, s->out)->count);
    const double terms = (double)s->p->a->in[0].count; /* not all: any number of batches may be summed */
    return bilinear(s, fmax(1, repeated), terms, g_norm(s, 0), g_distance(s, 0), x_norm(s, other),
                    x_distance(s, other));
}

/* ---- sums ----------------------------------------------------------------------------------------------------------- */

growth sum_forward(const site *s)
{
    const double n = ratio(x(s, 0)->count, made(s)->count);
    const double scale = strcmp(s->p->a->op, "mean") == 0 ? 1 / n : 1;
    return made_of(gamma_of(s, depth(n)) * sqrt(n) * scale * x_norm(s, 0), sqrt(n) * scale * x_distance(s, 0));
}

growth sum_backward(const site *s)
{
    const double n = ratio(made(s)->count, s->p->a->in[0].count);
    const double scale = strcmp(s->p->a->op, "mean") == 0 ? 1 / n : 1;
    return made_of(4 * s->u * r_norm(s, s->out), sqrt(n) * scale * g_distance(s, 0));
}

/* ---- elements that an index chooses ------------------------------------------------------------------------------------ */

/* Any of them may be chosen by every index. With other indices nothing is known. */
growth chosen_forward(const site *s)
{
    growth g = made_of(0, x_distance(s, 0) * sqrt((double)x(s, 1)->count));
    g.judged = x_distance(s, 1) == 0;
    return g;
}

growth chosen_backward(const site *s)
{
    const double most = fmax(1, (double)x(s, 1)->count);
    growth g = made_of(gamma_of(s, depth(most)) * sqrt(most) * g_norm(s, 0), sqrt(most) * g_distance(s, 0));
    g.judged = x_distance(s, 1) == 0;
    return g;
}
