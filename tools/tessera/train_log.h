/* The curves of a training for TensorBoard: `tessera train --log-dir D`. Points stand at the number of steps done. */
#ifndef TESSERA_TRAIN_LOG_H
#define TESSERA_TRAIN_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "tessera/amp.h"
#include "tessera/device.h"

typedef struct train_log train_log;

typedef struct train_log_settings {
    const char *folder;
    bool one_of_several; /* devices: each has a folder below, "cpu-0" */
    const char *unit;    /* what speed counts: "images" */
    double units;        /* of them in a step */
    int64_t first;       /* steps that an earlier run has done, and logged */
} train_log_settings;

/* scaler: of --amp f16, or NULL. NULL with the thread's error. */
train_log *train_log_create(const train_log_settings *settings, tsr_device *device, tsr_grad_scaler *scaler);
/* Step number `step` (from 1) was queued, with this learning rate. Nothing waits: a loss scale comes back later. */
tsr_status train_log_step(train_log *l, int64_t step, double learning_rate);
/* losses[0 … arrived - 1] are there; those of an earlier call were written. Now and then speed and memory, too. */
tsr_status train_log_losses(train_log *l, const float *losses, int64_t arrived);
/* Behind the last step, when all losses are there. */
tsr_status train_log_steps_end(train_log *l);
/* What took so long just now was no step. */
void train_log_pause(train_log *l, double seconds);
/* At the step whose loss came last; what: "test" at the end, "evaluation" on the way. accuracy: NaN where there is none. */
tsr_status train_log_test(train_log *l, const char *what, double loss, double accuracy);
/* NULL is fine. */
void train_log_destroy(train_log *l);

#endif
