/* `tessera train`: what was asked for, and what became of it on each device. */
#ifndef TESSERA_TRAIN_H
#define TESSERA_TRAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/sha256.h"
#include "interrupt.h"
#include "tessera/amp.h"
#include "tessera/data.h"
#include "tessera/device.h"
#include "tessera/memory.h"
#include "tessera/nn.h"
#include "tessera/optim.h"

typedef struct train_settings {
    const char *task;   /* "mnist", "gpt" */
    const char *tokens; /* of gpt: vocabulary_open's word */
    const char *model, *optimizer, *devices, *data, *json;
    const char *save, *resume; /* NULL: neither */
    const char *amp;           /* "off", "f16", "bf16" */
    bool checkpoint;           /* layers run again in the backward pass */
    const char *trace;         /* file to record in; NULL: nothing is */
    const char *trace_steps;
    bool trace_tensors;
    const char *profile, *profile_steps; /* file, and steps counted from where the run begins */
    const char *log_dir, *plot;          /* NULL: none */
    const char *memory;                  /* file of who holds memory; NULL: none */
    int64_t epochs, steps, batch, lockstep;
    int64_t context;          /* of gpt; 0: the model's */
    double dropout;           /* of gpt */
    int64_t accumulate;       /* batches of a step */
    double clip;              /* largest norm of all gradients together; 0: any; below 0: left open */
    const char *schedule;     /* "constant", "cosine" */
    int64_t warmup;           /* steps in which the rate rises; below 0: left open */
    int64_t workers;          /* threads that make batches ahead */
    int64_t eval_every;       /* steps between two evaluations; 0: none */
    int64_t save_every, keep; /* steps between two files, 0: one at the end; files kept */
    double weight_decay;      /* below 0: the optimizer's usual one */
    bool decay_matrices;      /* and of nothing else: no bias, no norm */
    double lr;                /* 0: the optimizer's usual one */
    double budget;            /* seconds of training a device may take; 0: no limit */
    uint64_t seed;
} train_settings;

typedef enum train_end {
    TRAIN_PENDING,     /* not begun */
    TRAIN_DONE,        /* all steps that were planned, or that the budget allowed */
    TRAIN_INTERRUPTED, /* ended by Ctrl-C */
    TRAIN_FAILED       /* `error` says why */
} train_end;

typedef struct task task; /* task.h */

/* The model on samples of the test set, always the same ones. */
typedef struct train_evaluation {
    int64_t step;          /* after so many */
    int64_t samples;       /* 0: interrupted */
    double loss, accuracy; /* accuracy: NaN where there is no such thing */
} train_evaluation;

typedef struct train_run {
    const task *task;
    tsr_device_info device;
    train_end end;
    tsr_status status;
    char error[512];
    bool one_of_several; /* runs */
    bool unwritten;      /* a file that was asked for */

    int64_t steps_planned, steps;
    int64_t resumed_after; /* steps that an earlier run had done; 0: none */
    float *losses;         /* of each step; host memory, freed by train_run_free */
    int64_t samples;

    train_evaluation *evaluations; /* of --eval-every, by their steps; host memory, freed by train_run_free */
    size_t evaluation_count;
    int64_t test_samples, test_all;  /* 0: not tested; and how many there are */
    double test_accuracy, test_loss; /* NaN where there is no such thing */

    double train_seconds, test_seconds, evaluation_seconds;
    double samples_per_second; /* of training, after the warm-up; 0 if not measured */
    double loader_wait_fraction;
    uint64_t peak_bytes, reserved_bytes;
    tsr_memory_owner *owners; /* with --memory, at the peak of the first steps; host memory, freed by train_run_free */
    size_t owner_count;
    uint64_t driver_allocs_after_warmup, programs_built_after_warmup;
    double host_syncs_per_step;
    double loss_scale; /* with a scaler, at the end; else 0 */
    int64_t skipped_steps;
    char initial_weights_sha256[SHA256_HEX_SIZE], weights_sha256[SHA256_HEX_SIZE];

    /* against the reference, the first run that ended well; set by train_compare */
    bool compared, agrees;
    double loss_gap_first, loss_gap_last, accuracy_gap, speed_ratio; /* NaN where there is nothing to compare */
} train_run;

enum { COMPARED_LOSSES = 10, SETTINGS_SIZE = 512 };

/* Trains on `device` and tests; always fills `run`, whose `device` is set. */
void train_on_device(const train_settings *settings, const task *what, tsr_device *device, train_run *run);
void train_run_free(train_run *run);

/* Fills in what depends on the task, named `subject`, and was left open. False, with the complaint printed, where options do not fit the task. */
bool train_settle(train_settings *settings, const char *subject);

/* What the settings mean. */
tsr_optimizer *train_optimizer(const train_settings *settings, tsr_module *model);
double train_learning_rate(const train_settings *settings);
/* The rate of each step, NULL where it stays the same. */
tsr_status train_schedule(const train_settings *settings, int64_t steps, tsr_schedule **schedule);
tsr_dtype train_amp_dtype(const train_settings *settings); /* f32: no autocast */
/* One line of what a saved state must share with the training that goes on from it. */
void train_settings_text(const train_settings *settings, char *text, size_t size);

/* The SHA-256 of all parameters in order; see docs/json.md. */
tsr_status weights_hash(const tsr_module *model, char hex[SHA256_HEX_SIZE]);

#endif
