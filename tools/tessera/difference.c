#include "difference.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/compiler.h"

/* ---- whether the same was done -------------------------------------------------------------------------------------- */

static bool differs(difference *d, const char *format, ...) PRINTF_LIKE(2, 3);
static bool differs(difference *d, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    d->kind = DIFFERENCE_EVENTS;
    vsnprintf(d->what, sizeof d->what, format, arguments);
    va_end(arguments);
    return true;
}

static const char *shape_words(const digest *t, char *out, size_t size)
{
    size_t n = (size_t)snprintf(out, size, "%s [", t->present ? tsr_dtype_name(t->dtype) : "none");
    for (int i = 0; i < t->rank && n < size; i++)
        n += (size_t)snprintf(out + n, size - n, "%s%lld", i > 0 ? ", " : "", (long long)t->shape[i]);
    if (n < size)
        snprintf(out + n, size - n, "]");
    return out;
}

static bool tensors_differ(difference *d, const char *side, const digest *a, const digest *b, int count)
{
    char in_a[96], in_b[96];
    for (int k = 0; k < count; k++)
        if (a[k].present != b[k].present || a[k].dtype != b[k].dtype || a[k].rank != b[k].rank ||
            memcmp(a[k].shape, b[k].shape, sizeof *a[k].shape * (size_t)a[k].rank) != 0)
            return differs(d, "%s %d is %s in A and %s in B", side, k, shape_words(&a[k], in_a, sizeof in_a),
                           shape_words(&b[k], in_b, sizeof in_b));
    return false;
}

static bool same_attribute(const event_attribute *a, const event_attribute *b)
{
    return b != NULL && a->kind == b->kind && a->i == b->i && a->count == b->count &&
           (a->f == b->f || (isnan(a->f) && isnan(b->f))) &&
           memcmp(a->values, b->values, sizeof *a->values * (size_t)a->count) == 0;
}

static bool events_differ(difference *d, const trace_event *a, const trace_event *b)
{
    if (a->step != b->step)
        return differs(d, "A has step %lld here and B step %lld", (long long)a->step, (long long)b->step);
    if (a->phase != b->phase || strcmp(a->op, b->op) != 0)
        return differs(d, "A has %s %s here and B %s %s", tsr_trace_phase_name(a->phase), a->op,
                       tsr_trace_phase_name(b->phase), b->op);
    if (a->call != b->call || a->number != b->number)
        return differs(d, "it is call %llu in A and call %llu in B", (unsigned long long)a->call,
                       (unsigned long long)b->call);
    if (a->in_count != b->in_count || a->out_count != b->out_count || a->attribute_count != b->attribute_count)
        return differs(d, "A has %d operands, %d results and %d attributes, B has %d, %d and %d", a->in_count,
                       a->out_count, a->attribute_count, b->in_count, b->out_count, b->attribute_count);
    for (int i = 0; i < a->attribute_count; i++)
        if (!same_attribute(&a->attributes[i], event_attribute_find(b, a->attributes[i].name)))
            return differs(d, "the attribute '%s' is not the same", a->attributes[i].name);
    return tensors_differ(d, "operand", a->in, b->in, a->in_count) ||
           tensors_differ(d, "result", a->out, b->out, a->out_count);
}

/* ---- what an event worked on ---------------------------------------------------------------------------------------- */

static const trace_event *call_of(const recording *r, size_t at)
{
    const trace_event *e = &r->events[at];
    if (e->phase != TSR_TRACE_BACKWARD)
        return e;
    for (size_t i = at; e->call != 0 && i-- > 0 && r->events[i].step == e->step;)
        if (r->events[i].call == e->call && r->events[i].phase == TSR_TRACE_FORWARD)
            return &r->events[i];
    return NULL;
}

/* The distance of a parameter before its update: as an operator met it in the same step. */
static double parameter_distance(const recording *a, const recording *b, size_t at)
{
    const digest *after = &a->events[at].out[0];
    for (size_t i = at; i-- > 0 && a->events[i].step == a->events[at].step;)
        for (int k = 0; k < a->events[i].in_count && a->events[i].phase == TSR_TRACE_FORWARD; k++)
            if (after->name[0] != '\0' && strcmp(a->events[i].in[k].name, after->name) == 0)
                return digest_distance(&a->events[i].in[k], &b->events[i].in[k]);
    return -1;
}

/* Of its optimizer's state: as the step before left it. */
static double state_distance(const recording *a, const recording *b, size_t at, int state)
{
    const trace_event *e = &a->events[at];
    if (e->step == 0 || e->out_count <= 1 + state)
        return 0; /* zeros, or none */
    for (size_t i = at; i-- > 0 && a->events[i].step >= e->step - 1;)
        if (a->events[i].step == e->step - 1 && a->events[i].phase == TSR_TRACE_UPDATE &&
            a->events[i].out_count > 1 + state && e->out[0].name[0] != '\0' &&
            strcmp(a->events[i].out[0].name, e->out[0].name) == 0)
            return digest_distance(&a->events[i].out[1 + state], &b->events[i].out[1 + state]);
    return -1;
}

static event_pair pair_of(const recording *a, const recording *b, size_t at)
{
    event_pair p = {.a = &a->events[at], .b = &b->events[at], .forward_a = call_of(a, at), .forward_b = call_of(b, at)};
    if (p.a->phase == TSR_TRACE_UPDATE) {
        p.parameter = parameter_distance(a, b, at);
        for (int k = 0; k < 2; k++)
            p.state[k] = state_distance(a, b, at, k);
    }
    return p;
}

/* A recording is read from a file: what it says of a call may fit no definition. */
static bool sound(const event_pair *p)
{
    const trace_event *f = p->forward_a, *g = p->forward_b;
    if (p->a->phase == TSR_TRACE_UPDATE)
        return p->a->in_count > 0 && p->a->out_count > 0 && p->a->out_count <= 3;
    if (f == NULL || g == NULL)
        return p->a->phase == TSR_TRACE_BACKWARD;
    if (f->in_count < 1 || g->in_count != f->in_count || f->out_count < 1 || strcmp(f->op, p->a->op) != 0)
        return false;
    return p->a->phase != TSR_TRACE_BACKWARD || (p->a->in_count == f->out_count && p->a->out_count == f->in_count);
}

/* ---- values ----------------------------------------------------------------------------------------------------------- */

/* The sampled element that differs most; NaN differs from all else. */
static void worst_sample(difference *d, const digest *a, const digest *b)
{
    int64_t places[DIGEST_SAMPLES];
    double most = 0;
    const int n = digest_places(a->count, places);
    d->element = -1;
    for (int i = 0; i < n && a->sample_count == n && b->sample_count == n; i++) {
        const double x = a->samples[i], y = b->samples[i];
        const double apart = x == y || (isnan(x) && isnan(y)) ? 0 : fabs(x - y);
        if (apart > most || isnan(apart)) {
            most = isnan(apart) ? (double)INFINITY : apart;
            d->element = places[i];
            d->value_a = x;
            d->value_b = y;
        }
    }
    if (isfinite(most))
        d->distance = fmax(d->distance, most);
}

static difference result_difference(const event_pair *p, size_t event, int k)
{
    difference d = {.kind = DIFFERENCE_VALUES, .event = event, .tensor = k};
    d.distance = digest_distance(&p->a->out[k], &p->b->out[k]);
    d.allowed = growth_of(p, k);
    worst_sample(&d, &p->a->out[k], &p->b->out[k]);
    const double bound = DIFFERENCE_DOUBT * (d.allowed.own + d.allowed.passed);
    d.ratio = d.distance == 0 ? 0 : bound > 0 ? d.distance / bound : (double)INFINITY;
    if (isnan(d.ratio)) /* infinite operands of infinite results */
        d.ratio = 0;
    return d;
}

static void compare_event(const recording *a, const recording *b, size_t at, comparison_result *r)
{
    const event_pair p = pair_of(a, b, at);
    const int held = p.a->out_count - growth_hidden(p.a);
    if (!sound(&p)) {
        r->first = (difference){.event = at};
        differs(&r->first, "the recording of this event does not fit its operator");
        return;
    }
    for (int k = 0; k < held && r->first.kind == DIFFERENCE_NONE; k++) {
        if (!p.a->out[k].present)
            continue;
        const difference d = result_difference(&p, at, k);
        r->judged += d.allowed.judged;
        r->unjudged += !d.allowed.judged;
        if (d.allowed.judged && d.ratio > 1)
            r->first = d;
        else if (d.allowed.judged && (r->nearest.kind == DIFFERENCE_NONE || d.ratio > r->nearest.ratio))
            r->nearest = d;
    }
}

/* Before the first step of a training all is the same: weights and images are made by the host. */
static bool starts_differ(const recording *a, const recording *b, size_t at, difference *d)
{
    const trace_event *e = &a->events[at], *f = &b->events[at];
    for (int k = 0; k < e->in_count && e->step == 0 && e->phase == TSR_TRACE_FORWARD; k++) {
        bool made = !e->in[k].present || e->in[k].hash == f->in[k].hash;
        for (size_t i = 0; i < at && !made; i++)
            for (int o = 0; o < a->events[i].out_count && !made; o++)
                made = a->events[i].out[o].present && a->events[i].out[o].hash == e->in[k].hash;
        if (made)
            continue;
        *d = (difference){.kind = DIFFERENCE_START, .event = at, .tensor = k};
        d->distance = digest_distance(&e->in[k], &f->in[k]);
        d->element = -1;
        return true;
    }
    return false;
}

comparison_result recordings_compare(const recording *a, const recording *b)
{
    comparison_result r = {.first = {.kind = DIFFERENCE_NONE}};
    for (size_t i = 0; r.first.kind == DIFFERENCE_NONE && (i < a->count || i < b->count); i++) {
        r.first.event = i;
        if (i >= a->count || i >= b->count)
            differs(&r.first, "%s ends here", i >= a->count ? "A" : "B");
        else if (!events_differ(&r.first, &a->events[i], &b->events[i]) && !starts_differ(a, b, i, &r.first))
            compare_event(a, b, i, &r);
    }
    return r;
}
