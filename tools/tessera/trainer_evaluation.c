/* --eval-every: the model on the test set, or a part of it, between two steps. No step is another for it: no random number is drawn, the order of the
 * training's samples and the loss scale stay, and the clocks of the steps stand still. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/memory.h"
#include "tessera/profile.h"
#include "trainer.h"

static const char note_key[] = "train.evaluations";

bool trainer_evaluation_due(const trainer *t)
{
    const int64_t every = t->settings->eval_every;
    return every > 0 && t->pace.queued > t->first && t->pace.queued % every == 0;
}

static tsr_status keep(train_run *r, const train_evaluation *e)
{
    train_evaluation *all = host_realloc_array(r->evaluations, r->evaluation_count + 1, sizeof *all);
    if (all == NULL)
        return tsr_last_status();
    r->evaluations = all;
    all[r->evaluation_count++] = *e;
    return TSR_OK;
}

static void show(trainer *t, const train_evaluation *e)
{
    char accuracy[32] = "";
    if (t->task->counts_right)
        snprintf(accuracy, sizeof accuracy, ", accuracy %.4f", e->accuracy);
    progress_note(&t->bar, "step %lld: test loss %.4f%s", (long long)e->step, e->loss, accuracy);
}

static tsr_status evaluate(trainer *t)
{
    train_evaluation found;
    const tsr_status status = trainer_measure(t, t->task->evaluated, &found);
    if (status != TSR_OK || found.samples == 0)
        return status;
    found.step = t->pace.arrived;
    show(t, &found);
    if (t->log != NULL && train_log_test(t->log, "evaluation", found.loss, found.accuracy) != TSR_OK)
        return tsr_last_status();
    return keep(t->run, &found);
}

tsr_status trainer_evaluate(trainer *t)
{
    tsr_status status = pace_catch_up(&t->pace); /* which is the steps' time still */
    if (status == TSR_OK && t->log != NULL)
        status = train_log_losses(t->log, t->pace.values, t->pace.arrived);
    if (status != TSR_OK)
        return status;
    const double began = clock_seconds();
    const tsr_device_counters before = tsr_device_counters_get(t->device);
    tsr_profile_push("evaluation");
    status = evaluate(t);
    tsr_profile_pop();
    trainer_exempt(t, &before);
    const double seconds = clock_seconds() - began;
    t->run->evaluation_seconds += seconds;
    t->began += seconds;
    t->fitted += seconds;
    pace_pause(&t->pace, seconds);
    if (t->log != NULL)
        train_log_pause(t->log, seconds);
    return status;
}

/* ---- in saved states ---- */

bool trainer_evaluations_note(const trainer *t, text *line, tsr_metadata *note)
{
    const train_run *r = t->run;
    for (size_t i = 0; i < r->evaluation_count; i++) {
        const train_evaluation *e = &r->evaluations[i];
        text_appendf(line, "%lld %lld %.17g %.17g;", (long long)e->step, (long long)e->samples, e->loss, e->accuracy);
    }
    *note = (tsr_metadata){note_key, text_string(line)};
    return r->evaluation_count > 0;
}

/* One of the line, which moves on. */
static bool parse(const char **at, train_evaluation *e)
{
    char *end;
    e->step = strtoll(*at, &end, 10);
    e->samples = strtoll(end, &end, 10);
    e->loss = strtod(end, &end);
    e->accuracy = strtod(end, &end);
    *at = end + 1;
    return *end == ';' && e->step > 0 && e->samples > 0;
}

tsr_status trainer_evaluations_read(trainer *t, const char *path)
{
    tsr_safetensors *f = tsr_safetensors_open(path);
    if (f == NULL)
        return tsr_last_status();
    const char *at = tsr_safetensors_metadata(f, note_key);
    tsr_status status = TSR_OK;
    while (status == TSR_OK && at != NULL && *at != '\0') {
        train_evaluation e;
        status = parse(&at, &e) ? keep(t->run, &e) : fail(TSR_CORRUPT_DATA, "%s: its evaluations are no such", path);
    }
    tsr_safetensors_close(f);
    return status;
}
