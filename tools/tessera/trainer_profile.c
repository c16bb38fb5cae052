/* A profile of some steps of a training. */
#include "base/error.h"
#include "tessera/profile.h"
#include "trainer.h"

/* Steps that were queued before are no part of it. */
static tsr_status begin(trainer *t)
{
    tsr_status status = tsr_device_sync(t->device);
    if (status == TSR_OK)
        status = tsr_profile_begin(NULL);
    t->profiling = status == TSR_OK;
    return status;
}

/* Of one range, which train.c has checked. */
static step_list range(const trainer *t)
{
    step_list steps = {0};
    step_list_parse(&steps, t->settings->profile_steps);
    return steps;
}

/* From the first step on means from the model's making on. */
tsr_status trainer_profile_begin(trainer *t)
{
    return t->settings->profile != NULL && range(t).from[0] == 0 ? begin(t) : TSR_OK;
}

tsr_status trainer_profile_step(trainer *t)
{
    const int64_t next = t->pace.queued - t->first;
    if (t->settings->profile == NULL)
        return TSR_OK;
    const step_list steps = range(t);
    if (t->profiling && next > steps.to[0])
        trainer_profile_end(t);
    return !t->profiling && next > 0 && next == steps.from[0] ? begin(t) : TSR_OK;
}

void trainer_profile_end(trainer *t)
{
    error_state before;
    if (!t->profiling)
        return;
    t->profiling = false;
    error_save(&before);
    if (tsr_profile_end(t->settings->profile) != TSR_OK) {
        progress_note(&t->bar, "%s", tsr_last_error());
        t->run->unwritten = true;
    } else if (tsr_profile_counts_get().dropped > 0) {
        progress_note(&t->bar, "the profile was full: it lacks its last %llu events",
                      (unsigned long long)tsr_profile_counts_get().dropped);
    }
    error_restore(&before);
}
