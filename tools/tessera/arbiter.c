#include "arbiter.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "operators/number.h"
#include "tessera/tessera.h"

typedef struct retrial {
    const recording *r;
    const trace_event *event, *call; /* call: the forward event that has the operands */
    tsr_safetensors *file;
    tsr_device *device;
    tsr_tensor *in[EVENT_TENSORS], *out[EVENT_TENSORS];
    tsr_attr attributes[EVENT_ATTRIBUTES];
} retrial;

static bool cannot(arbitration *a, const char *why)
{
    snprintf(a->why, sizeof a->why, "%s", why);
    return false;
}

static const trace_event *call_of(const recording *r, size_t event)
{
    const trace_event *e = &r->events[event];
    if (e->phase != TSR_TRACE_BACKWARD)
        return e;
    for (size_t i = event; e->call != 0 && i-- > 0 && r->events[i].step == e->step;)
        if (r->events[i].call == e->call && r->events[i].phase == TSR_TRACE_FORWARD &&
            strcmp(r->events[i].op, e->op) == 0)
            return &r->events[i];
    return NULL;
}

/* Only numbers that are the same on every machine can be computed again. */
static bool draws(const char *op)
{
    return strcmp(op, "dropout") == 0;
}

static tsr_tensor *load(const retrial *t, const trace_event *e, const char *side, int i)
{
    char name[48];
    snprintf(name, sizeof name, "%lld.%s.%d", (long long)e->number, side, i);
    tsr_tensor *x = tsr_safetensors_load(t->file, name, t->device);
    return x != NULL && number_is_float(tsr_dtype_of(x)) ? tsr_cast(x, TSR_F64) : x;
}

static int take_attributes(retrial *t)
{
    const trace_event *e = t->call;
    for (int i = 0; i < e->attribute_count; i++) {
        const event_attribute *a = &e->attributes[i];
        t->attributes[i] =
            (tsr_attr){.name = a->name, .kind = a->kind, .i = a->i, .f = a->f, .values = a->values, .count = a->count};
    }
    return e->attribute_count;
}

static tsr_status call_again(retrial *t)
{
    const trace_event *e = t->call;
    const bool backward = t->event->phase == TSR_TRACE_BACKWARD;
    for (int i = 0; i < e->in_count; i++) {
        if (!e->in[i].present)
            continue;
        t->in[i] = load(t, e, "in", i);
        if (t->in[i] == NULL)
            return tsr_last_status();
        if (backward && t->event->out[i].present && tsr_set_requires_grad(t->in[i], true) != TSR_OK)
            return tsr_last_status();
    }
    return tsr_op_call(e->op, t->in, e->in_count, t->out, e->out_count, t->attributes, take_attributes(t));
}

static tsr_tensor *recomputed(retrial *t, int k)
{
    if (call_again(t) != TSR_OK)
        return NULL;
    if (t->event->phase != TSR_TRACE_BACKWARD)
        return t->out[k];
    tsr_tensor *gradient = load(t, t->event, "in", 0);
    return gradient != NULL && tsr_backward_from(t->out[0], gradient, false) == TSR_OK ? tsr_grad(t->in[k]) : NULL;
}

static tsr_status compare(tsr_tensor *recorded, tsr_tensor *expected, arbitration *a)
{
    const int64_t n = tsr_numel(recorded);
    double *got = host_realloc_array(NULL, 2 * (size_t)n + 1, sizeof *got), *want = got + n, most = 0;
    if (got == NULL)
        return tsr_last_status();
    tsr_status status = tsr_read(recorded, got, (size_t)n * sizeof *got);
    if (status == TSR_OK)
        status = tsr_read(expected, want, (size_t)n * sizeof *want);
    a->error = 0;
    a->element = -1;
    for (int64_t i = 0; status == TSR_OK && i < n; i++) {
        const bool same = got[i] == want[i] || (isnan(got[i]) && isnan(want[i]));
        const double error = same ? 0 : isfinite(got[i] - want[i]) ? fabs(got[i] - want[i]) : (double)INFINITY;
        a->error = hypot(a->error, error);
        if (error > most) {
            most = error;
            a->element = i;
            a->value = got[i];
            a->expected = want[i];
        }
    }
    host_free(got);
    return status;
}

static bool retry(retrial *t, int k, arbitration *a)
{
    tsr_tensor *recorded = load(t, t->event, "out", k), *expected = recorded == NULL ? NULL : recomputed(t, k);
    if (expected == NULL)
        return cannot(a, tsr_last_error());
    if (tsr_numel(recorded) != tsr_numel(expected) || tsr_dtype_of(recorded) != TSR_F64 ||
        tsr_dtype_of(expected) != TSR_F64)
        return cannot(a, "it gives no real numbers, or others than were recorded");
    return compare(recorded, expected, a) == TSR_OK || cannot(a, tsr_last_error());
}

static bool suits(retrial *t, arbitration *a)
{
    const trace_event *e = t->event;
    if (!t->r->tensors)
        return cannot(a, "it holds no whole tensors (--trace-tensors)");
    if (e->phase == TSR_TRACE_UPDATE || t->call == NULL || draws(e->op) || strcmp(e->op, "cast") == 0)
        return cannot(a, "this kind of event is not computed again");
    if (e->phase == TSR_TRACE_BACKWARD && (e->out_count != t->call->in_count || e->in_count < 1 || !e->in[0].present ||
                                           (e->in_count > 1 && e->in[1].present)))
        return cannot(a, "gradients of several results are not computed again");
    return true;
}

bool arbiter_recompute(const recording *r, const char *path, size_t event, int k, arbitration *a)
{
    char beside[PATH_SIZE];
    retrial t = {.r = r, .event = &r->events[event], .call = call_of(r, event)};
    memset(a, 0, sizeof *a);
    a->element = -1;
    if (!suits(&t, a))
        return false;
    tsr_clear_error();
    if (!recording_tensors_path(path, t.event->step, beside, sizeof beside))
        return cannot(a, "its path is too long");
    t.device = tsr_device_open("cpu");
    t.file = t.device == NULL ? NULL : tsr_safetensors_open(beside);
    if (t.file == NULL || tsr_scope_begin() != TSR_OK) {
        cannot(a, tsr_last_error());
    } else {
        a->done = retry(&t, k, a);
        for (int i = 0; i < EVENT_TENSORS; i++)
            tsr_clear_grad(t.in[i]);
        tsr_scope_end();
    }
    tsr_safetensors_close(t.file);
    tsr_device_close(t.device);
    return a->done;
}
