/* Schedules of learning rates: one formula each. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "tessera/optim.h"

static const double pi = 3.14159265358979323846;

struct tsr_schedule {
    double (*rate)(const tsr_schedule *s, int64_t step);
    int64_t place;
    double lr, least, gamma, start;
    int64_t every, warmup, steps;
    int64_t *milestones; /* owned */
    size_t count;
    tsr_one_cycle_options cycle;
};

static bool rate_valid(const char *kind, double lr)
{
    if (lr >= 0 && isfinite(lr))
        return true;
    fail(TSR_OUT_OF_RANGE, "%s: a rate of %g; it must be finite and not negative", kind, lr);
    return false;
}

static bool factor_valid(const char *kind, double factor)
{
    if (factor >= 0 && isfinite(factor))
        return true;
    fail(TSR_OUT_OF_RANGE, "%s: a factor of %g; it must be finite and not negative", kind, factor);
    return false;
}

static bool steps_valid(const char *kind, int64_t steps)
{
    if (steps >= 1)
        return true;
    fail(TSR_OUT_OF_RANGE, "%s: %lld steps; there must be 1 or more", kind, (long long)steps);
    return false;
}

static tsr_schedule *create(const tsr_schedule *with)
{
    tsr_schedule *s = host_alloc_zeroed(1, sizeof *s);
    if (s != NULL)
        *s = *with;
    return s;
}

/* From `from` to `to` by half a cosine; share in [0, 1]. */
static double by_cosine(double from, double to, double share)
{
    return to + (from - to) / 2 * (1 + cos(pi * share));
}

static double by_line(double from, double to, double share)
{
    return from + (to - from) * share;
}

/* ---- constant, step, multi-step ---- */

static double constant(const tsr_schedule *s, int64_t step)
{
    (void)step;
    return s->lr;
}

tsr_schedule *tsr_constant_schedule_create(double lr)
{
    return rate_valid("constant schedule", lr) ? create(&(tsr_schedule){.rate = constant, .lr = lr}) : NULL;
}

static double by_steps(const tsr_schedule *s, int64_t step)
{
    return s->lr * pow(s->gamma, (double)(step / s->every));
}

tsr_schedule *tsr_step_schedule_create(double lr, int64_t every, double gamma)
{
    static const char kind[] = "step schedule";
    if (!rate_valid(kind, lr) || !factor_valid(kind, gamma) || !steps_valid(kind, every))
        return NULL;
    return create(&(tsr_schedule){.rate = by_steps, .lr = lr, .every = every, .gamma = gamma});
}

static double by_milestones(const tsr_schedule *s, int64_t step)
{
    size_t passed = 0;
    while (passed < s->count && s->milestones[passed] <= step)
        passed++;
    return s->lr * pow(s->gamma, (double)passed);
}

tsr_schedule *tsr_multi_step_schedule_create(double lr, const int64_t *milestones, size_t count, double gamma)
{
    static const char kind[] = "multi-step schedule";
    if (!rate_valid(kind, lr) || !factor_valid(kind, gamma))
        return NULL;
    for (size_t i = 0; i < count; i++)
        if (milestones == NULL || milestones[i] < (i == 0 ? 0 : milestones[i - 1])) {
            fail(TSR_INVALID_ARGUMENT, "%s: milestone %zu is missing, negative or before the one in front of it", kind,
                 i);
            return NULL;
        }
    int64_t *copy = host_alloc_zeroed(count, sizeof *copy);
    tsr_schedule *s = copy == NULL ? NULL : create(&(tsr_schedule){.rate = by_milestones, .lr = lr, .gamma = gamma});
    if (s == NULL) {
        host_free(copy);
        return NULL;
    }
    if (count > 0)
        memcpy(copy, milestones, count * sizeof *copy);
    s->milestones = copy;
    s->count = count;
    return s;
}

/* ---- cosine and warm-up ---- */

static double cosine(const tsr_schedule *s, int64_t step)
{
    return by_cosine(s->lr, s->least, (double)step / (double)s->steps);
}

tsr_schedule *tsr_cosine_schedule_create(double lr, int64_t steps, double least)
{
    static const char kind[] = "cosine schedule";
    if (!rate_valid(kind, lr) || !rate_valid(kind, least) || !steps_valid(kind, steps))
        return NULL;
    return create(&(tsr_schedule){.rate = cosine, .lr = lr, .least = least, .steps = steps});
}

static double warmup_cosine(const tsr_schedule *s, int64_t step)
{
    if (step < s->warmup)
        return s->lr * by_line(s->start, 1, (double)step / (double)s->warmup);
    if (step >= s->steps)
        return s->least;
    return by_cosine(s->lr, s->least, (double)(step - s->warmup) / (double)(s->steps - s->warmup));
}

static bool warmup_valid(const char *kind, double lr, int64_t warmup, double start)
{
    if (!rate_valid(kind, lr))
        return false;
    if (warmup >= 0 && start >= 0 && start <= 1)
        return true;
    fail(TSR_OUT_OF_RANGE, "%s: %lld steps from %g of the rate on; needed are 0 or more, and a share from 0 to 1", kind,
         (long long)warmup, start);
    return false;
}

tsr_schedule *tsr_warmup_schedule_create(double lr, int64_t warmup, double start)
{
    if (!warmup_valid("warm-up schedule", lr, warmup, start))
        return NULL;
    /* Behind the warm-up a cosine from lr to lr. */
    return create(&(tsr_schedule){
        .rate = warmup_cosine, .lr = lr, .least = lr, .warmup = warmup, .start = start, .steps = warmup});
}

tsr_schedule *tsr_warmup_cosine_schedule_create(double lr, int64_t warmup, double start, int64_t steps, double least)
{
    static const char kind[] = "warm-up and cosine schedule";
    if (!warmup_valid(kind, lr, warmup, start) || !rate_valid(kind, least))
        return NULL;
    if (warmup >= steps) {
        fail(TSR_OUT_OF_RANGE, "%s: a warm-up of %lld in %lld steps; it must be shorter", kind, (long long)warmup,
             (long long)steps);
        return NULL;
    }
    return create(&(tsr_schedule){
        .rate = warmup_cosine, .lr = lr, .least = least, .warmup = warmup, .start = start, .steps = steps});
}

/* ---- one cycle ---- */

static double one_cycle(const tsr_schedule *s, int64_t step)
{
    const tsr_one_cycle_options *o = &s->cycle;
    const double steps = (double)o->steps, up = o->up_share * steps, last = steps - 1;
    const double first_rate = o->max_lr / o->div_factor, last_rate = first_rate / o->final_div_factor;
    const double ends[] = {up - 1, o->three_phase ? 2 * up - 2 : last, last};
    const double rates[] = {first_rate, o->max_lr, o->three_phase ? first_rate : last_rate, last_rate};
    const int phases = o->three_phase ? 3 : 2;
    const double at = fmin((double)step, last);
    int phase = 0;
    while (phase + 1 < phases && at > ends[phase])
        phase++;
    const double begin = phase == 0 ? 0 : ends[phase - 1], end = ends[phase];
    const double share = end > begin ? (at - begin) / (end - begin) : 1;
    return (o->linear ? by_line : by_cosine)(rates[phase], rates[phase + 1], share);
}

tsr_schedule *tsr_one_cycle_schedule_create(const tsr_one_cycle_options *options)
{
    static const char kind[] = "one-cycle schedule";
    tsr_one_cycle_options o = options == NULL ? (tsr_one_cycle_options){0} : *options;
    o.up_share = o.up_share == 0 ? 0.3 : o.up_share;
    o.div_factor = o.div_factor == 0 ? 25 : o.div_factor;
    o.final_div_factor = o.final_div_factor == 0 ? 1e4 : o.final_div_factor;
    if (!rate_valid(kind, o.max_lr) || !steps_valid(kind, o.steps))
        return NULL;
    if (o.max_lr == 0 || !(o.up_share > 0 && o.up_share <= (o.three_phase ? 0.5 : 1)) || !(o.div_factor > 0) ||
        !(o.final_div_factor > 0) || !isfinite(o.div_factor) || !isfinite(o.final_div_factor)) {
        fail(
            TSR_OUT_OF_RANGE,
            "%s: up to %g in %g of the steps, with the factors %g and %g; needed are numbers above 0 and a share up to "
            "1, or 0.5 for three phases",
            kind, o.max_lr, o.up_share, o.div_factor, o.final_div_factor);
        return NULL;
    }
    return create(&(tsr_schedule){.rate = one_cycle, .cycle = o});
}

/* ---- any ---- */

void tsr_schedule_destroy(tsr_schedule *s)
{
    if (s != NULL)
        host_free(s->milestones);
    host_free(s);
}

double tsr_schedule_lr(const tsr_schedule *s, int64_t step)
{
    return s == NULL || step < 0 ? 0 : s->rate(s, step);
}

tsr_status tsr_schedule_step(tsr_schedule *s, tsr_optimizer *optimizer)
{
    if (s == NULL || optimizer == NULL)
        return fail(TSR_INVALID_ARGUMENT, "tsr_schedule_step: the %s is NULL", s == NULL ? "schedule" : "optimizer");
    const tsr_status status = tsr_optimizer_set_lr(optimizer, tsr_schedule_lr(s, s->place));
    if (status == TSR_OK)
        s->place++;
    return status;
}

int64_t tsr_schedule_place(const tsr_schedule *s)
{
    return s == NULL ? 0 : s->place;
}

tsr_status tsr_schedule_seek(tsr_schedule *s, int64_t step)
{
    if (s == NULL || step < 0)
        return fail(TSR_INVALID_ARGUMENT, "tsr_schedule_seek: no schedule, or step %lld", (long long)step);
    s->place = step;
    return TSR_OK;
}
