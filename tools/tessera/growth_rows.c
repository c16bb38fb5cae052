/* Of operators on rows: softmax, cross entropy, normalisations. */
#include "growth_site.h"

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

growth softmax_forward(const site *s)
{
    return made_of(softmax_error(s, classes_of(s)) * r_norm(s, 0), x_distance(s, 0));
}

growth softmax_backward(const site *s)
{
    const double c = classes_of(s);
    return made_of((softmax_error(s, c) + gamma_of(s, depth(c) + 4)) * 2 * g_norm(s, 0),
                   g_distance(s, 0) + (2 + sqrt(c)) * g_largest(s, 0) * x_distance(s, 0));
}

growth log_softmax_forward(const site *s)
{
    const double c = classes_of(s);
    return made_of(softmax_error(s, c) * sqrt((double)made(s)->count) + 8 * s->u * r_norm(s, 0),
                   (1 + sqrt(c)) * x_distance(s, 0));
}

growth log_softmax_backward(const site *s)
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
growth cross_entropy_forward(const site *s)
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

growth cross_entropy_backward(const site *s)
{
    const double rows = fmax(1, (double)x(s, 0)->shape[0]), classes = (double)x(s, 0)->shape[1], g = g_largest(s, 0);
    const event_attribute *reduction = event_attribute_find(s->p->forward_a, "reduction");
    const double share = reduction != NULL && reduction->i == 0 ? g / rows : g; /* the mean, or not */
    growth r = made_of(softmax_error(s, classes) * share * sqrt(rows) + 8 * s->u * r_norm(s, 0),
                       share * x_distance(s, 0) + (g > 0 ? g_distance(s, 0) / g * r_norm(s, 0) : 0));
    r.known = plain_cross_entropy(s);
    return r;
}

/* ---- normalised rows ---------------------------------------------------------------------------------------------------- */

/* Results 1 and 2 are each row's mean and 1 / its deviation (tessera/ops.h): the largest of the latter is how much a distance may grow. */
typedef struct row_site {
    double rows, length, steepest, mean, weight;
    bool known;
} row_site;

static row_site rows_of(const site *s)
{
    const trace_event *a = s->p->forward_a, *b = s->p->forward_b;
    row_site r = {.known = false};
    if (a->out_count < 3 || b->out_count < 3 || !a->out[2].present || !b->out[2].present || a->out[2].count < 1)
        return r;
    r.rows = (double)a->out[2].count;
    r.length = fmax(1, (double)a->out[0].count / r.rows);
    r.steepest = fmax(digest_largest(&a->out[2]), digest_largest(&b->out[2]));
    r.mean = fmax(digest_largest(&a->out[1]), digest_largest(&b->out[1]));
    r.weight = a->in_count > 1 && a->in[1].present ? x_largest(s, 1) : 1;
    r.known = true;
    return r;
}

static double weight_distance(const site *s, int k)
{
    return s->p->forward_a->in_count > k ? x_distance(s, k) : 0;
}

/* y = (x - mean) / deviation weight + bias: a row's derivative by x is the weight, a projection and 1 / deviation. A normalised element is at
 * most √length large, all of them together √count. */
growth norm_forward(const site *s)
{
    const row_site r = rows_of(s);
    if (!r.known || s->out != 0)
        return growth_guess(s);
    const double per_weight =
        sqrt((double)made(s)->count / fmax(1, s->p->a->in_count > 1 ? (double)x(s, 1)->count : 1));
    const double argument = (x_norm(s, 0) + r.mean * sqrt((double)made(s)->count)) * r.steepest * r.weight;
    /* Means and variances of batches before: they count where they stand for this one's. */
    const double running =
        weight_distance(s, 3) + (x_largest(s, 0) + r.mean) * r.steepest * r.steepest * weight_distance(s, 4);
    return made_of(gamma_of(s, depth(r.length) + 16) * (argument + r_norm(s, 0)),
                   2 * r.weight * r.steepest * (x_distance(s, 0) + sqrt(r.length) * running) +
                       per_weight * (sqrt(r.length) * weight_distance(s, 1) + weight_distance(s, 2)));
}

growth norm_backward(const site *s)
{
    const row_site r = rows_of(s);
    if (!r.known)
        return growth_guess(s);
    const double all = sqrt((double)x(s, 0)->count), size = sqrt(r.length) * g_largest(s, 0);
    const double argument = 1 + (x_largest(s, 0) + r.mean) * r.steepest;
    const double slope = r.weight * r.steepest;
    if (s->out == 0)
        return made_of(gamma_of(s, depth(r.length) + 32) * slope * g_norm(s, 0) * argument,
                       2 * slope * g_distance(s, 0) + 6 * slope * r.steepest * size * x_distance(s, 0) +
                           2 * r.steepest * size * sqrt(r.rows) * weight_distance(s, 1));
    const double terms = ratio(x(s, 0)->count, made(s)->count);
    if (s->out == 1)
        return made_of(gamma_of(s, depth(terms) + 32) * all * g_norm(s, 0) * argument,
                       all * g_distance(s, 0) + 2 * r.steepest * g_norm(s, 0) * x_distance(s, 0));
    return made_of(gamma_of(s, depth(terms)) * sqrt(terms) * g_norm(s, 0), sqrt(terms) * g_distance(s, 0));
}
