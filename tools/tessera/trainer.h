/* One training on one device, from the first step to the test: what its parts share. */
#ifndef TESSERA_TRAINER_H
#define TESSERA_TRAINER_H

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

    int64_t first; /* where this run began: steps that a resumed one had done */
    int64_t saved; /* the step of the latest file */

    double loader_seconds;
    double fitted; /* when the budget was looked at */
    int64_t warm_samples;
    tsr_device_counters warm;
} trainer;

/* The loss in the precision that was asked for, and the logits where a place is given. NULL with the thread's error. */
tsr_tensor *trainer_loss(const trainer *t, tsr_tensor *x, tsr_tensor *y, tsr_tensor **logits);

/* Saves the state between two steps, when all losses are here. What it costs the driver is no step's. */
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

/* The model on the test set. */
tsr_status trainer_test(trainer *t);

#endif
