/* What is learned: data, a network and its loss. The trainer runs a task on a device. */
#ifndef TESSERA_TASK_H
#define TESSERA_TASK_H

#include "train.h"

struct task {
    const char *name;          /* "mnist" */
    const char *unit;          /* what speed counts: "images" */
    int64_t units;             /* of them in one sample */
    tsr_dataset *train, *test; /* owned */
    int64_t test_batch;        /* samples of a step of the test */
    bool counts_right;         /* the test counts right answers: logits are [n, classes] */
    const train_settings *settings;

    tsr_module *(*model)(const task *t, tsr_device *device);
    tsr_status (*checkpoint)(tsr_module *model); /* --checkpoint-activations */
    tsr_tensor *(*loss)(tsr_tensor *logits, tsr_tensor *targets);
    /* What is trained, on what: a part of the line that opens a run ("cnn on MNIST: 60000 images"). */
    void (*describe)(const task *t, char *line, size_t size);
};

/* The thread's error is set where the data cannot be used. */
tsr_status task_open_mnist(task *t, const train_settings *settings);
void task_close(task *t);

#endif
