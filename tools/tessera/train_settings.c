/* What the settings of a training mean. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "train.h"

/* Whether the rate falls towards the end. */
static bool falls(const train_settings *s)
{
    return strcmp(s->schedule, "cosine") == 0;
}

double train_learning_rate(const train_settings *s)
{
    return s->lr > 0 ? s->lr : strcmp(s->optimizer, "sgd") == 0 ? 0.01 : 1e-3;
}

static double weight_decay_of(const train_settings *s)
{
    return s->weight_decay >= 0 ? s->weight_decay : strcmp(s->optimizer, "adamw") == 0 ? 0.01 : 0;
}

tsr_dtype train_amp_dtype(const train_settings *s)
{
    if (s->amp == NULL)
        return TSR_F32;
    return strcmp(s->amp, "f16") == 0 ? TSR_F16 : strcmp(s->amp, "bf16") == 0 ? TSR_BF16 : TSR_F32;
}

/* What is left at its usual value is not named. */
void train_settings_text(const train_settings *s, char *line, size_t size)
{
    text t = {0};
    text_appendf(&t, "%s %s, batch %lld, %s %.17g, seed %llu", s->task, s->model, (long long)s->batch, s->optimizer,
                 train_learning_rate(s), (unsigned long long)s->seed);
    if (s->tokens != NULL)
        text_appendf(&t, ", %s, context %lld, dropout %.17g", s->tokens, (long long)s->context, s->dropout);
    if (train_amp_dtype(s) != TSR_F32)
        text_appendf(&t, ", amp %s", s->amp);
    if (s->accumulate > 1)
        text_appendf(&t, ", accumulate %lld", (long long)s->accumulate);
    if (s->clip > 0)
        text_appendf(&t, ", clip %.17g", s->clip);
    if (s->weight_decay >= 0)
        text_appendf(&t, ", weight decay %.17g", s->weight_decay);
    if (s->decay_matrices && weight_decay_of(s) > 0)
        text_appendf(&t, ", only matrices decay");
    if (s->warmup > 0)
        text_appendf(&t, ", warm-up %lld", (long long)s->warmup);
    if (falls(s))
        text_appendf(&t, ", %s over %lld", s->schedule, s->steps > 0 ? (long long)s->steps : -(long long)s->epochs);
    snprintf(line, size, "%s", text_string(&t));
    text_free(&t);
}

static tsr_optimizer *optimizer_of(const train_settings *s, tsr_module *model)
{
    const double lr = train_learning_rate(s), decay = weight_decay_of(s);
    if (strcmp(s->optimizer, "sgd") == 0)
        return tsr_sgd_for(model, &(tsr_sgd_options){.lr = lr, .momentum = 0.9, .weight_decay = decay});
    if (strcmp(s->optimizer, "adamw") == 0)
        return tsr_adamw_for(model, &(tsr_adam_options){.lr = lr, .weight_decay = decay});
    return tsr_adam_for(model, &(tsr_adam_options){.lr = lr, .weight_decay = decay});
}

tsr_optimizer *train_optimizer(const train_settings *s, tsr_module *model)
{
    tsr_optimizer *o = optimizer_of(s, model);
    if (o != NULL && s->decay_matrices)
        (void)tsr_optimizer_decay_matrices_only(o);
    return o;
}

tsr_status train_schedule(const train_settings *s, int64_t steps, tsr_schedule **schedule)
{
    const double lr = train_learning_rate(s);
    const double start = 1 / ((double)s->warmup + 1); /* the first step learns too */
    *schedule = NULL;
    if (!falls(s) && s->warmup == 0)
        return TSR_OK;
    if (!falls(s))
        *schedule = tsr_warmup_schedule_create(lr, s->warmup, start);
    else if (s->warmup < steps)
        *schedule = tsr_warmup_cosine_schedule_create(lr, s->warmup, start, steps, lr / 10);
    else
        return fail(TSR_INVALID_ARGUMENT, "--warmup %lld: the training has only %lld steps", (long long)s->warmup,
                    (long long)steps);
    return *schedule == NULL ? tsr_last_status() : TSR_OK;
}
