#include "growth.h"

#include <math.h>
#include <string.h>

#include "base/compiler.h"
#include "operators/number.h"
#include "operators/operators.h"

/* Of an operator without a formula: distances relative to the norms may grow so many times, besides the square root of the elements that
 * a result is made of. Near what badly conditioned rows of a normalisation show in practice; not a bound. */
static const double guessed_growth = 16;

/* ---- what is known of the operands -------------------------------------------------------------------------------- */

typedef struct site {
    const event_pair *p;
    int out;       /* which output is asked for */
    double u;      /* roundoff of the arithmetic */
    double stored; /* of what is stored: 0 for f32 and f64 */
} site;

static double norm_of(const digest *a, const digest *b)
{
    return a->present && b->present ? fmax(digest_norm(a), digest_norm(b)) : 0;
}

static double largest_of(const digest *a, const digest *b)
{
    return a->present && b->present ? fmax(digest_largest(a), digest_largest(b)) : 0;
}

static double distance_of(const digest *a, const digest *b)
{
    return a->present && b->present ? digest_distance(a, b) : 0;
}

#define ON_TENSOR(name, function, event, side)                                                                         \
    static double name(const site *s, int k)                                                                           \
    {                                                                                                                  \
        return function(&s->p->event##a->side[k], &s->p->event##b->side[k]);                                           \
    }
ON_TENSOR(x_norm, norm_of, forward_, in)
ON_TENSOR(x_largest, largest_of, forward_, in)
ON_TENSOR(x_distance, distance_of, forward_, in)
ON_TENSOR(y_norm, norm_of, forward_, out)
ON_TENSOR(g_norm, norm_of, , in)
ON_TENSOR(g_largest, largest_of, , in)
ON_TENSOR(g_distance, distance_of, , in)
ON_TENSOR(r_norm, norm_of, , out)

static const digest *x(const site *s, int k)
{
    return &s->p->forward_a->in[k];
}

static const digest *made(const site *s)
{
    return &s->p->a->out[s->out];
}

static double attribute_product(const site *s, const char *name)
{
    const event_attribute *a = event_attribute_find(s->p->forward_a, name);
    double product = 1;
    for (int i = 0; a != NULL && i < a->count; i++)
        product *= fmax(1, (double)a->values[i]);
    return product;
}

/* The most additions that a term meets on any route: tools/operators/trace.c and docs/json.md have the same. */
static double depth(double terms)
{
    return fmin(terms, 4096) + ceil(terms / 4096) + 2;
}

/* γ_d of both machines. Roundings do not all point the same way: of d of them, all but a vanishing part of sums stays within λ √d u (Higham and
 * Mary, A New Approach to Probabilistic Rounding Error Analysis, 2019); with λ = 8 it is 2 d exp(-32). */
static double gamma_of(const site *s, double d)
{
    const double roundings = fmin(d, 8 * sqrt(d)) * s->u;
    return 2 * roundings / (1 - fmin(roundings, 0.5));
}

static double ratio(int64_t a, int64_t b)
{
    return b > 0 ? fmax(1, (double)a / (double)b) : 1;
}

static growth made_of(double own, double passed)
{
    return (growth){.own = own, .passed = passed, .known = true, .judged = true};
}

/* Where a function jumps, or its derivative does, elements whose operand lies nearer to the jump than the operands are apart may fall on
 * different sides: for a density of at most one over the standard deviation, 2 n distance / norm of n, and four for luck. */
static double jumps(const site *s, double height)
{
    const double n = (double)x(s, 0)->count, apart = x_distance(s, 0), norm = x_norm(s, 0);
    if (apart == 0 || norm == 0)
        return 0;
    return height * sqrt(fmin(n, 4 + 2 * n * fmin(1, apart / norm)));
}

/* ---- elements that are moved ---------------------------------------------------------------------------------------- */

/* Each result is an element of an operand; one may go to several. */
static growth move_forward(const site *s)
{
    double passed = 0;
    for (int k = 0; k < s->p->a->in_count; k++)
        passed += x_distance(s, k);
    const bool pool = x(s, 0)->count > made(s)->count;
    const double several = pool ? attribute_product(s, "kernel") : ratio(made(s)->count, x(s, 0)->count);
    return made_of(0, passed * sqrt(several));
}

/* Gradients of one element are summed. */
static growth move_backward(const site *s)
{
    const digest *g = &s->p->a->in[0];
    const double terms = ratio(g->count, made(s)->count), pool = attribute_product(s, "kernel");
    const double most = fmax(terms, fmin(pool, (double)g->count));
    return made_of(most > 1 ? gamma_of(s, depth(most)) * sqrt(most) * g_norm(s, 0) : 0, sqrt(most) * g_distance(s, 0));
}

/* The window's largest may be another where two are as near as the operands are apart. */
static growth choice_backward(const site *s)
{
    growth g = move_backward(s);
    g.passed += jumps(s, 2 * g_largest(s, 0));
    return g;
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
static growth layer_forward(const site *s)
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

static growth layer_backward(const site *s)
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
static growth matmul_forward(const site *s)
{
    const double rows = (double)made(s)->count * inner(s);
    const digest *a = x(s, 0), *b = x(s, 1);
    const double last_b = b->rank > 1 ? (double)b->shape[b->rank - 1] : 1,
                 last_a = a->rank > 1 ? (double)a->shape[a->rank - 2] : 1;
    const double times_a = fmax(1, rows / fmax(1, last_b) / fmax(1, (double)a->count)),
                 times_b = fmax(1, rows / fmax(1, last_a) / fmax(1, (double)b->count));
    return bilinear(s, times_a * times_b, inner(s), x_norm(s, 0), x_distance(s, 0), x_norm(s, 1), x_distance(s, 1));
}

static growth matmul_backward(const site *s)
{
    const int other = 1 - s->out;
    const double repeated = ratio(s->p->a->in[0].count, x(s, s->out)->count);
    const double terms = (double)s->p->a->in[0].count; /* not all: any number of batches may be summed */
    return bilinear(s, fmax(1, repeated), terms, g_norm(s, 0), g_distance(s, 0), x_norm(s, other),
                    x_distance(s, other));
}

/* ---- sums ----------------------------------------------------------------------------------------------------------- */

static growth sum_forward(const site *s)
{
    const double n = ratio(x(s, 0)->count, made(s)->count);
    const double scale = strcmp(s->p->a->op, "mean") == 0 ? 1 / n : 1;
    return made_of(gamma_of(s, depth(n)) * sqrt(n) * scale * x_norm(s, 0), sqrt(n) * scale * x_distance(s, 0));
}

static growth sum_backward(const site *s)
{
    const double n = ratio(made(s)->count, s->p->a->in[0].count);
    const double scale = strcmp(s->p->a->op, "mean") == 0 ? 1 / n : 1;
    return made_of(4 * s->u * r_norm(s, s->out), sqrt(n) * scale * g_distance(s, 0));
}

/* ---- softmax and cross entropy ---------------------------------------------------------------------------------------- */

/* Rounding of exp(x - max x) and of its sum, relative: the argument's, which comes out as large as it is, and 2 ulp each. */
static double softmax_error(const site *s, double classes)
{
    return 2 * s->u * (4 * x_largest(s, 0) + depth(classes) + 8);
}

static double classes_of(const site *s)
{
    const event_attribute *axis = event_attribute_find(s->p->forward_a, "axis");
    const digest *d = x(s, 0);
    const int64_t at = axis == NULL ? -1 : axis->i;
    const int64_t place = at < 0 ? at + d->rank : at;
    return place >= 0 && place < d->rank ? fmax(1, (double)d->shape[place]) : 1;
}

static growth softmax_forward(const site *s)
{
    return made_of(softmax_error(s, classes_of(s)) * r_norm(s, 0), x_distance(s, 0));
}

static growth softmax_backward(const site *s)
{
    const double c = classes_of(s);
    return made_of((softmax_error(s, c) + gamma_of(s, depth(c) + 4)) * 2 * g_norm(s, 0),
                   g_distance(s, 0) + (2 + sqrt(c)) * g_largest(s, 0) * x_distance(s, 0));
}

static growth log_softmax_forward(const site *s)
{
    const double c = classes_of(s);
    return made_of(softmax_error(s, c) * sqrt((double)made(s)->count) + 8 * s->u * r_norm(s, 0),
                   (1 + sqrt(c)) * x_distance(s, 0));
}

static growth log_softmax_backward(const site *s)
{
    const double c = classes_of(s);
    return made_of((softmax_error(s, c) + gamma_of(s, depth(c) + 4)) * (1 + sqrt(c)) * g_norm(s, 0),
                   (1 + sqrt(c)) * g_distance(s, 0) + sqrt(c) * g_largest(s, 0) * x_distance(s, 0));
}

static bool plain_cross_entropy(const site *s)
{
    return x(s, 0)->rank == 2 && (s->p->forward_a->in_count < 3 || !x(s, 2)->present) && made(s)->count > 0;
}

/* The mean over the rows of log Σ exp x - x_target; a row's derivative is not longer than √2. */
static growth cross_entropy_forward(const site *s)
{
    const double rows = fmax(1, (double)x(s, 0)->shape[0]), classes = (double)x(s, 0)->shape[1];
    const double loss = 2 * x_largest(s, 0) + log(fmax(2, classes));
    growth g = made_of(softmax_error(s, classes) + gamma_of(s, depth(rows) + 8) * loss,
                       sqrt(2) / sqrt(rows) * x_distance(s, 0));
    if (made(s)->rank > 0 || y_norm(s, 0) > loss) { /* rows one by one, or their sum */
        g.own *= rows;
        g.passed *= rows;
    }
    g.known = plain_cross_entropy(s);
    return g;
}

static growth cross_entropy_backward(const site *s)
{
    const double rows = fmax(1, (double)x(s, 0)->shape[0]), classes = (double)x(s, 0)->shape[1], g = g_largest(s, 0);
    const event_attribute *reduction = event_attribute_find(s->p->forward_a, "reduction");
    const double share = reduction != NULL && reduction->i == 0 ? g / rows : g; /* the mean, or not */
    growth r = made_of(softmax_error(s, classes) * share * sqrt(rows) + 8 * s->u * r_norm(s, 0),
                       share * x_distance(s, 0) + (g > 0 ? g_distance(s, 0) / g * r_norm(s, 0) : 0));
    r.known = plain_cross_entropy(s);
    return r;
}

static const struct {
    const char *name;
    growth (*forward)(const site *s), (*backward)(const site *s);
} formulas[] = {
    {"linear", layer_forward, layer_backward},
    {"conv2d", layer_forward, layer_backward},
    {"matmul", matmul_forward, matmul_backward},
    {"max_pool2d", move_forward, choice_backward},
    {"amax", move_forward, choice_backward},
    {"amin", move_forward, choice_backward},
    {"sum", sum_forward, sum_backward},
    {"mean", sum_forward, sum_backward},
    {"softmax", softmax_forward, softmax_backward},
    {"log_softmax", log_softmax_forward, log_softmax_backward},
    {"cross_entropy", cross_entropy_forward, cross_entropy_backward},
    {"reshape", move_forward, move_backward},
    {"permute", move_forward, move_backward},
    {"slice", move_forward, move_backward},
    {"expand", move_forward, move_backward},
    {"clone", move_forward, move_backward},
    {"cast", move_forward, move_backward},
    {"squeeze", move_forward, move_backward},
    {"unsqueeze", move_forward, move_backward},
    {"narrow", move_forward, move_backward},
    {"cat", move_forward, move_backward},
    {"repeat", move_forward, move_backward},
    {"roll", move_forward, move_backward},
    {"flip", move_forward, move_backward},
    {"pad", move_forward, move_backward},
    {"tril", move_forward, move_backward},
    {"triu", move_forward, move_backward},
};

/* ---- pointwise ------------------------------------------------------------------------------------------------------ */

enum { GRID = 64 };

/* Bounds of a pointwise function's derivatives over the ranges that its operands had, on a grid. */
typedef struct slopes {
    double first[3], terms[3]; /* by operand k: of the derivative, and of the terms that it is the sum of */
    double second[3];          /* how much it changes from one place of the grid to the next, over their distance */
    double jump;               /* by how much the derivative jumps somewhere; 0: it does not */
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

static slopes slopes_of(const site *s, const operator_row *row)
{
    slopes all = {{0}, {0}, {0}, 0};
    double scalars[2], low[3] = {0}, high[3] = {0}, before[3] = {0}, previous = 0;
    const int steps[] = {row->arity > 0 ? GRID : 1, row->arity > 1 ? GRID : 1, row->arity > 2 ? GRID / 4 : 1};
    take_scalars(s, row, scalars);
    for (int k = 0; k < row->arity; k++) {
        low[k] = fmin(s->p->forward_a->in[k].min, s->p->forward_b->in[k].min);
        high[k] = fmax(s->p->forward_a->in[k].max, s->p->forward_b->in[k].max);
    }
    for (int i = 0; i < steps[0] * steps[1] * steps[2]; i++) {
        const int at[] = {i % steps[0], i / steps[0] % steps[1], i / steps[0] / steps[1]};
        double place[3], d[3] = {0}, m[3] = {0};
        for (int k = 0; k < 3; k++)
            place[k] = steps[k] > 1 ? low[k] + (high[k] - low[k]) * at[k] / (steps[k] - 1) : low[k];
        row->slope(place, scalars, d, m);
        for (int k = 0; k < row->arity; k++) {
            all.first[k] = fmax(all.first[k], fabs(d[k]));
            all.terms[k] = fmax(all.terms[k], m[k]);
            if (at[0] > 0 && place[0] > previous)
                all.second[k] = fmax(all.second[k], fabs(d[k] - before[k]) / (place[0] - previous));
        }
        if (row->arity == 1 && at[0] > 0 && fabs(d[0] - before[0]) > 0) {
            const double jump = jump_between(row, previous, place[0], scalars);
            all.jump = jump > 0x1p-20 * fmax(1, fabs(d[0])) ? fmax(all.jump, jump) : all.jump;
        }
        memcpy(before, d, sizeof before);
        previous = place[0];
    }
    return all;
}

static double spread(const site *s, int k)
{
    return sqrt(ratio(s->p->forward_a->out[0].count, x(s, k)->count));
}

static growth pointwise_forward(const site *s, const operator_row *row)
{
    const slopes d = slopes_of(s, row);
    growth g = made_of(2 * row->ulp * 2 * s->u * r_norm(s, s->out), 0);
    for (int k = 0; k < row->arity; k++)
        g.passed += d.first[k] * x_distance(s, k) * spread(s, k);
    return g;
}

/* dx = dy f'(x), summed where x was broadcast. 20 roundings of the derivative's terms: tools/operators/elementwise.c. */
static growth pointwise_backward(const site *s, const operator_row *row)
{
    const slopes d = slopes_of(s, row);
    const int k = s->out;
    const double several = spread(s, k);
    const double sums = several > 1 ? gamma_of(s, depth(several * several)) : 0;
    growth g = made_of(several * g_norm(s, 0) * (d.first[k] * sums + (2 * row->ulp + 40) * s->u * d.terms[k]),
                       several * d.first[k] * g_distance(s, 0));
    for (int i = 0; i < row->arity; i++)
        g.passed += several * d.second[k] * g_largest(s, 0) * x_distance(s, i) * spread(s, i);
    g.passed += several * jumps(s, (row->arity > 1 && d.second[k] > 0 ? 2 * d.first[k] : d.jump) * g_largest(s, 0));
    /* Only copied or set to 0: nothing is rounded. */
    if (row->ulp == 0 && row->arity == 1 && d.first[k] == 1 && d.jump == 1)
        g.own = 0;
    return g;
}

/* ---- optimizers ------------------------------------------------------------------------------------------------------ */

/* An element of Adam's step is at most lr (1 - β1) / √(1 - β2) long (Kingma and Ba 2015, 2.1): 3.2 lr; where gradients are near 0 its sign may differ.
 * With momentum, the step is lr times the first state. */
static growth update(const site *s)
{
    const event_attribute *rate = event_attribute_find(s->p->a, "lr");
    const double n = sqrt((double)made(s)->count), lr = rate == NULL ? 0 : rate->f, apart = g_distance(s, 0);
    const bool sgd = strcmp(s->p->a->op, "sgd") == 0;
    const bool same = apart == 0 && s->p->state[0] == 0 && s->p->state[1] == 0;
    growth g = made_of(8 * s->u * r_norm(s, s->out), apart);
    const double before = s->out == 0 ? s->p->parameter : s->p->state[s->out - 1];
    g.judged = before >= 0 && (s->out > 0 || (s->p->state[0] >= 0 && s->p->state[1] >= 0));
    if (s->out == 0)
        g.passed = sgd ? 2 * lr * (apart + s->p->state[0]) : same ? 0 : 2 * 3.2 * lr * n;
    if (s->out == 0)
        g.own += sgd ? 8 * s->u * lr * g_norm(s, 0) : 64 * s->u * 3.2 * lr * n;
    if (s->out == 2)
        g.passed = 2 * g_largest(s, 0) * apart;
    g.passed += before;
    return g;
}

/* ---- any --------------------------------------------------------------------------------------------------------------- */

static growth guess(const site *s)
{
    double relative = 0, most = 1;
    for (int k = 0; k < s->p->forward_a->in_count; k++) {
        relative += x_norm(s, k) > 0 ? x_distance(s, k) / x_norm(s, k) : 0;
        most = fmax(most, ratio(x(s, k)->count, made(s)->count));
    }
    if (s->p->a != s->p->forward_a) {
        relative += g_norm(s, 0) > 0 ? g_distance(s, 0) / g_norm(s, 0) : 0;
        most = fmax(most, ratio(s->p->a->in[0].count, made(s)->count));
    }
    const double size = r_norm(s, s->out);
    growth g =
        made_of(gamma_of(s, depth(most) + 16) * guessed_growth * size, guessed_growth * sqrt(most) * relative * size);
    g.known = false;
    return g;
}

static bool is_float(const digest *d)
{
    return number_is_float(d->dtype);
}

static growth forward(const site *s)
{
    const operator_row *row = operator_find(s->p->a->op);
    double apart = 0;
    for (int k = 0; k < s->p->a->in_count; k++)
        apart += x_distance(s, k);
    for (size_t i = 0; i < COUNT_OF(formulas); i++)
        if (strcmp(formulas[i].name, s->p->a->op) == 0)
            return formulas[i].forward(s);
    if (!is_float(made(s)) || (row != NULL && row->discontinuous))
        return made_of(
            0, jumps(s, fmax(made(s)->max, s->p->b->out[s->out].max) - fmin(made(s)->min, s->p->b->out[s->out].min)));
    if (row != NULL && row->slope != NULL && row->value != NULL && row->arity <= 3)
        return pointwise_forward(s, row);
    return guess(s);
}

static growth backward(const site *s)
{
    const operator_row *row = operator_find(s->p->a->op);
    if (s->p->forward_a == NULL || s->p->forward_b == NULL)
        return (growth){.judged = false};
    for (size_t i = 0; i < COUNT_OF(formulas); i++)
        if (strcmp(formulas[i].name, s->p->a->op) == 0)
            return formulas[i].backward(s);
    if (row != NULL && row->slope != NULL && row->value != NULL && row->arity <= 3)
        return pointwise_backward(s, row);
    return guess(s);
}

growth growth_of(const event_pair *p, int k)
{
    const tsr_dtype dtype = p->a->out[k].dtype;
    site s = {.p = p, .out = k, .u = number_accumulator_roundoff(dtype)};
    growth g = p->a->phase == TSR_TRACE_UPDATE     ? update(&s)
               : p->a->phase == TSR_TRACE_BACKWARD ? backward(&s)
                                                   : forward(&s);
    /* Both machines round what they store: a result once, a derivative on the way too (tools/operators/expectation.c). */
    if ((dtype == TSR_F16 || dtype == TSR_BF16) && (g.own > 0 || g.passed > 0 || strcmp(p->a->op, "cast") == 0))
        g.own += (p->a->phase == TSR_TRACE_BACKWARD ? 8 : 2) * number_roundoff(dtype) * r_norm(&s, k);
    return g;
}

int growth_hidden(const trace_event *e)
{
    const operator_row *row = operator_find(e->op);
    const bool call = e->phase == TSR_TRACE_FORWARD || e->phase == TSR_TRACE_ACCUMULATE;
    return call && row != NULL ? row->hidden : 0;
}
