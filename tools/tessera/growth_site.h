/* What the formulas of growth share: one result of one event in both recordings. */
#ifndef TESSERA_GROWTH_SITE_H
#define TESSERA_GROWTH_SITE_H

#include <math.h>

#include "growth.h"
#include "operators/operators.h"

typedef struct site {
    const event_pair *p;
    int out;  /* which output is asked for */
    double u; /* roundoff of the arithmetic */
} site;

static inline double norm_of(const digest *a, const digest *b)
{
    return a->present && b->present ? fmax(digest_norm(a), digest_norm(b)) : 0;
}

static inline double largest_of(const digest *a, const digest *b)
{
    return a->present && b->present ? fmax(digest_largest(a), digest_largest(b)) : 0;
}

static inline double distance_of(const digest *a, const digest *b)
{
    return a->present && b->present ? digest_distance(a, b) : 0;
}

#define ON_TENSOR(name, function, event, side)                                                                         \
    static inline double name(const site *s, int k)                                                                    \
    {                                                                                                                  \
        return function(&s->p->event##a->side[k], &s->p->event##b->side[k]);                                           \
    }
/* x: operands of the call; y: its results; g: what the event got, of a backward event the gradients; r: what it gave. */
ON_TENSOR(x_norm, norm_of, forward_, in)
ON_TENSOR(x_largest, largest_of, forward_, in)
ON_TENSOR(x_distance, distance_of, forward_, in)
ON_TENSOR(y_norm, norm_of, forward_, out)
ON_TENSOR(g_norm, norm_of, , in)
ON_TENSOR(g_largest, largest_of, , in)
ON_TENSOR(g_distance, distance_of, , in)
ON_TENSOR(r_norm, norm_of, , out)
ON_TENSOR(r_largest, largest_of, , out)

static inline const digest *x(const site *s, int k)
{
    return &s->p->forward_a->in[k];
}

static inline const digest *made(const site *s)
{
    return &s->p->a->out[s->out];
}

static inline double attribute_product(const site *s, const char *name)
{
    const event_attribute *a = event_attribute_find(s->p->forward_a, name);
    double product = 1;
    for (int i = 0; a != NULL && i < a->count; i++)
        product *= fmax(1, (double)a->values[i]);
    return product;
}

/* The most additions that a term meets on any route: tools/operators/trace.c and docs/json.md have the same. */
static inline double depth(double terms)
{
    return fmin(terms, 4096) + ceil(terms / 4096) + 2;
}

/* γ_d of both machines. Roundings do not all point the same way: of d of them, all but a vanishing part of sums stays within λ √d u (Higham and
 * Mary, A New Approach to Probabilistic Rounding Error Analysis, 2019); with λ = 8 it is 2 d exp(-32). */
static inline double gamma_of(const site *s, double d)
{
    const double roundings = fmin(d, 8 * sqrt(d)) * s->u;
    return 2 * roundings / (1 - fmin(roundings, 0.5));
}

static inline double ratio(int64_t a, int64_t b)
{
    return b > 0 ? fmax(1, (double)a / (double)b) : 1;
}

static inline growth made_of(double own, double passed)
{
    return (growth){.own = own, .passed = passed, .known = true, .judged = true};
}

/* Where a function jumps, or its derivative does, elements whose operand lies nearer to the jump than the operands are apart may fall on
 * different sides: for a density of at most one over the standard deviation, 2 n distance / norm of n, and four for luck. */
static inline double jumps(const site *s, double height)
{
    const double n = (double)x(s, 0)->count, apart = x_distance(s, 0), norm = x_norm(s, 0);
    if (apart == 0 || norm == 0)
        return 0;
    return height * sqrt(fmin(n, 4 + 2 * n * fmin(1, apart / norm)));
}

/* The formulas, by what they are of; growth.c has the table. */
typedef growth growth_formula(const site *s);
growth_formula average_backward, average_forward, choice_backward, chosen_backward, chosen_forward,
    cross_entropy_backward, cross_entropy_forward, dropout_backward, dropout_forward, layer_backward, layer_forward,
    log_softmax_backward, log_softmax_forward, matmul_backward, matmul_forward, move_backward, move_forward,
    norm_backward, norm_forward, softmax_backward, softmax_forward, sum_backward, sum_forward, where_backward,
    where_forward;
growth growth_pointwise_forward(const site *s, const operator_row *row);
growth growth_pointwise_backward(const site *s, const operator_row *row);
growth growth_guess(const site *s);

#endif
