/* What is learned: data, a network and its loss. The trainer runs a task on a device. */
#ifndef TESSERA_TASK_H
#define TESSERA_TASK_H

#include "tessera/io.h"
#include "train.h"

struct task {
    const char *unit;          /* what speed counts: "images" */
    int64_t units;             /* of them in one sample */
    tsr_dataset *train, *test; /* owned */
    int64_t test_batch;        /* samples of a step of the test */
    int64_t evaluated;         /* samples that --eval-every takes of it at most, in whole such steps */
    bool counts_right;         /* the test counts right answers: logits are [n, classes] */
    const train_settings *settings;
    const tsr_metadata *notes; /* kept with saved states */
    size_t note_count;
    void *state;                  /* the task's own … */
    void (*release)(void *state); /* … freed so; may be NULL */

    tsr_module *(*model)(const task *t, tsr_device *device);
    tsr_status (*checkpoint)(tsr_module *model); /* --checkpoint-activations */
    tsr_tensor *(*loss)(tsr_tensor *logits, tsr_tensor *targets);
    /* What is trained, on what: a part of the line that opens a run ("cnn on MNIST: 60000 images"). */
    void (*describe)(const task *t, char *line, size_t size);
};

/* The task named by settings->task. Its settings live longer. The thread's error is set where the data cannot be used. Closed also after a failure. */
tsr_status task_open(task *t, const train_settings *settings);
void task_close(task *t);

tsr_status task_open_mnist(task *t, const train_settings *settings);
tsr_status task_open_gpt(task *t, const train_settings *settings);

/* The models of a task; ended by NULL. */
const char *const *task_models(const char *name);
extern const char *const gpt_names[];
/* What Adam and AdamW train it with unless told otherwise. */
double gpt_learning_rate(const char *model);

#endif
