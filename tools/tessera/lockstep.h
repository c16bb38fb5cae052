/* `tessera train --lockstep N`: the proof that a device computes what it should. In each of N steps every device starts from the
 * first one's weights and takes the same images. Each operator's results, forward and backward, are held element by element against
 * double precision on the same operands, within the bound that follows from its arithmetic; the gradients of the whole model must
 * then have the same bits as those of its operators one by one. */
#ifndef TESSERA_LOCKSTEP_H
#define TESSERA_LOCKSTEP_H

#include <stdio.h>

#include "base/json.h"
#include "train.h"

typedef enum lock_check { LOCK_LOSS, LOCK_FORWARD, LOCK_INPUTS, LOCK_WEIGHTS, LOCK_CHECKS } lock_check;

typedef struct lock_run {
    tsr_device_info device;
    tsr_status status;
    char error[512];
    int64_t steps;
    double ratio[LOCK_CHECKS]; /* largest error over its bound */
    struct {
        char what[64]; /* "convolution 3, gradient of the weights" */
        int64_t step, element;
        double ratio, value, expected, bound;
    } worst;
    bool same_bits;
    double gradient_gap; /* to the first device: largest difference over the tensor's largest gradient */
} lock_run;

/* Runs all devices; `runs` has one entry for each, with `device` set. A device that fails is left out from then on; without the
 * first, nothing goes on. */
void lockstep(const train_settings *settings, tsr_device *const *devices, size_t count, tsr_dataset *data,
              lock_run *runs);

bool lock_agrees(const lock_run *run);
void lock_table(const lock_run *runs, size_t count, FILE *out);
void lock_json(json *j, const train_settings *settings, const lock_run *runs, size_t count);

#endif
