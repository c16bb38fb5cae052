/* One training on one device, from the first step to the test: what its parts share. */
#ifndef TESSERA_TRAINER_H
#define TESSERA_TRAINER_H

#include "base/text.h"
#include "pace.h"
#include "progress.h"
#include "recorder.h"
#include "task.h"
#include "tessera/amp.h"
#include "tessera/optim.h"
#include "train_log.h"

typedef struct trainer {
    const train_settings *settings;
    const task *task;
    train_run *run;
    tsr_device *device;
    tsr_module *model;
    tsr_optimizer *optimizer;
    tsr_schedule *schedule;  /* NULL: the rate stays */
    tsr_grad_scaler *scaler; /* of f16; NULL without */
    tsr_batches *batches;
    recorder *recorder; /* NULL: nothing is recorded */
    train_log *log;     /* NULL: nothing is logged */
    bool profiling;     /* a profile of this training is under way */
    bool recording_memory;
    progress bar;
    pace pace;
    uint64_t epoch;

    double began;  /* the first step; evaluations push it on */
    int64_t first; /* where this run began: steps that a resumed one had done */
    int64_t saved; /* the step of the latest file */

    double loader_seconds;
    double fitted; /* when the budget was looked at */
    int64_t warm_samples;
    tsr_device_counters warm;
} trainer;

/* The loss in the precision that was asked for, and the logits where a place is given. NULL with the thread's error. */
tsr_tensor *trainer_loss(const trainer *t, tsr_tensor *x, tsr_tensor *y, tsr_tensor **logits);

/* What the driver did since then is no step's. */
void trainer_exempt(trainer *t, const tsr_device_counters *before);

/* Saves the state between two steps, when all losses are here. */
tsr_status trainer_save(trainer *t);
bool trainer_save_due(const trainer *t);
/* Goes on from a saved state. A file that cannot be read does not end the training where one before it can. */
tsr_status trainer_resume(trainer *t);

/* --profile: before the first step; before each step, where it begins or ends; and at the end, where it was not over yet. A file that cannot be
 * written does not end the training. */
tsr_status trainer_profile_begin(trainer *t);
tsr_status trainer_profile_step(trainer *t);
void trainer_profile_end(trainer *t);

/* --memory: before the model is made; after each step; and at the end, where it was not over yet. A file that cannot be written does not end the
 * training. */
tsr_status trainer_memory_begin(trainer *t);
void trainer_memory_step(trainer *t);
void trainer_memory_end(trainer *t);

/* The model on up to `samples` of the test set, in whole batches of the test, the same ones for a number; the model is in training mode afterwards. */
tsr_status trainer_measure(trainer *t, int64_t samples, train_evaluation *result);
/* At the end: the model on the test set, or what a budget allows of it. */
tsr_status trainer_test(trainer *t);

/* --eval-every: whether it is time, and between two steps. */
bool trainer_evaluation_due(const trainer *t);
tsr_status trainer_evaluate(trainer *t);
/* Evaluations so far as a note of a saved state, whose value `line` owns; false where there are none. And those of a state. */
bool trainer_evaluations_note(const trainer *t, text *line, tsr_metadata *note);
tsr_status trainer_evaluations_read(trainer *t, const char *path);

#endif
