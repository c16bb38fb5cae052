/* A training's state in files. */
#include <stdio.h>

#include "base/file.h"
#include "base/memory.h"
#include "tessera/io.h"
#include "trainer.h"

static tsr_training training_of(trainer *t, char *settings, size_t size)
{
    train_settings_text(t->settings, settings, size);
    return (tsr_training){.model = t->model,
                          .optimizer = t->optimizer,
                          .batches = t->batches,
                          .scaler = t->scaler,
                          .step = t->pace.arrived,
                          .settings = settings,
                          .losses = t->pace.values,
                          .losses_capacity = (size_t)t->run->steps_planned};
}

/* With the task's notes, and the evaluations. */
static tsr_status save(trainer *t)
{
    char settings[SETTINGS_SIZE];
    text evaluations = {0};
    tsr_training state = training_of(t, settings, sizeof settings);
    const size_t own = t->task->note_count;
    tsr_metadata *notes = host_alloc_zeroed(own + 1, sizeof *notes);
    if (notes == NULL)
        return tsr_last_status();
    for (size_t i = 0; i < own; i++)
        notes[i] = t->task->notes[i];
    state.notes = notes;
    state.note_count = own + trainer_evaluations_note(t, &evaluations, &notes[own]);
    const tsr_status status =
        evaluations.failed ? tsr_last_status() : tsr_training_save(&state, t->settings->save, (int)t->settings->keep);
    text_free(&evaluations);
    host_free(notes);
    return status;
}

tsr_status trainer_save(trainer *t)
{
    const tsr_device_counters before = tsr_device_counters_get(t->device);
    tsr_status status = pace_catch_up(&t->pace);
    if (status != TSR_OK)
        return status;
    status = save(t);
    trainer_exempt(t, &before);
    t->saved = t->pace.arrived;
    return status;
}

bool trainer_save_due(const trainer *t)
{
    const int64_t every = t->settings->save_every;
    return t->settings->save != NULL && every > 0 && t->pace.queued > t->first && t->pace.queued % every == 0;
}

tsr_status trainer_resume(trainer *t)
{
    const char *path = t->settings->resume, *from = path;
    char settings[SETTINGS_SIZE], older[PATH_SIZE];
    tsr_training state = training_of(t, settings, sizeof settings);
    tsr_status status = tsr_training_load(&state, path);
    for (int i = 1; status == TSR_CORRUPT_DATA && i < t->settings->keep; i++) {
        snprintf(older, sizeof older, "%.4000s.%d", path, i);
        if (!file_exists(older))
            break;
        progress_note(&t->bar, "%s; going on from %s", tsr_last_error(), older);
        status = tsr_training_load(&state, from = older);
    }
    if (status == TSR_NOT_FOUND && !file_exists(path)) {
        progress_note(&t->bar, "there is no %s yet: the training begins", path);
        tsr_clear_error();
        return TSR_OK;
    }
    if (status == TSR_OK)
        status = trainer_evaluations_read(t, from);
    if (status != TSR_OK)
        return status;
    int64_t sample;
    tsr_batches_place(t->batches, &t->epoch, &sample);
    if (t->schedule != NULL && tsr_schedule_seek(t->schedule, state.step) != TSR_OK)
        return tsr_last_status();
    t->first = t->saved = state.step;
    t->pace.queued = t->pace.flushed = t->pace.arrived = state.step;
    t->run->resumed_after = state.step;
    progress_note(&t->bar, "going on after step %lld", (long long)state.step);
    return TSR_OK;
}
