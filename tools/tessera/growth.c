#include "growth.h"

#include <string.h>

#include "base/compiler.h"
#include "growth_site.h"
#include "operators/number.h"

/* Of an operator without a formula: distances relative to the norms may grow so many times, besides the square root of the elements that
 * a result is made of. No bound: large enough for the samples of all operators that have none (tests/cli/test_recording.c). */
static const double guessed_growth = 1024;

static const struct {
    const char *name;
    growth_formula *forward, *backward;
} formulas[] = {
    {"embedding", chosen_forward, chosen_backward},
    {"index_select", chosen_forward, chosen_backward},
    {"gather", chosen_forward, chosen_backward},
    {"take_along_dim", chosen_forward, chosen_backward},
    {"layer_norm", norm_forward, norm_backward},
    {"rms_norm", norm_forward, norm_backward},
    {"group_norm", norm_forward, norm_backward},
    {"instance_norm", norm_forward, norm_backward},
    {"batch_norm2d", norm_forward, norm_backward},
    {"linear", layer_forward, layer_backward},
    {"conv2d", layer_forward, layer_backward},
    {"matmul", matmul_forward, matmul_backward},
    {"max_pool2d", move_forward, choice_backward},
    {"max", move_forward, choice_backward},
    {"min", move_forward, choice_backward},
    {"avg_pool2d", average_forward, average_backward},
    {"where", where_forward, where_backward},
    {"dropout", dropout_forward, dropout_backward},
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

growth growth_guess(const site *s)
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

/* Steps although their derivative is 1 beside them. */
static bool leaps(const char *op)
{
    return strcmp(op, "frac") == 0 || strcmp(op, "fmod") == 0 || strcmp(op, "remainder") == 0;
}

static growth forward(const site *s)
{
    const operator_row *row = operator_find(s->p->a->op);
    for (size_t i = 0; i < COUNT_OF(formulas); i++)
        if (strcmp(formulas[i].name, s->p->a->op) == 0)
            return formulas[i].forward(s);
    if (!is_float(made(s)) || (row != NULL && row->discontinuous))
        return made_of(
            0, jumps(s, fmax(made(s)->max, s->p->b->out[s->out].max) - fmin(made(s)->min, s->p->b->out[s->out].min)));
    if (row != NULL && row->slope != NULL && row->value != NULL && row->arity <= 3) {
        growth g = growth_pointwise_forward(s, row);
        g.passed += leaps(s->p->a->op) ? jumps(s, 2 * r_largest(s, 0)) : 0;
        return g;
    }
    return growth_guess(s);
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
        return growth_pointwise_backward(s, row);
    return growth_guess(s);
}

growth growth_of(const event_pair *p, int k)
{
    const tsr_dtype dtype = p->a->out[k].dtype;
    if (p->a->out[k].count == 0)
        return made_of(0, 0);
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
