/* How far the host runs ahead of the device. Steps are queued with their losses; these come back through a meter every few steps, and nothing
 * between waits. */
#ifndef TESSERA_PACE_H
#define TESSERA_PACE_H

#include <stdint.h>

#include "progress.h"
#include "tessera/device.h"
#include "tessera/tensor.h"

typedef struct pace {
    tsr_device *device;
    tsr_meter *meter;
    progress *bar;
    float *values;                    /* the losses that arrived; host memory */
    int64_t queued, flushed, arrived; /* steps */
    int64_t ahead;                    /* steps queued and not arrived, at most */
    int64_t total;                    /* where the bar ends */
    double units;                     /* that the bar counts in one step: images */
    int64_t measured_from;            /* the step and the time from which speed is measured; */
    double measured_since;            /* 0: it is not */
} pace;

/* For up to `capacity` steps. The bar lives longer. */
tsr_status pace_open(pace *p, tsr_device *device, progress *bar, int64_t capacity);
void pace_close(pace *p);

/* A step was queued; its loss is one element of f32. */
tsr_status pace_add(pace *p, tsr_tensor *loss);
/* Sends losses off now and then, takes those that are there, and lets the device catch up where the host is too far ahead. */
tsr_status pace_follow(pace *p);
/* Until all that is queued has arrived. */
tsr_status pace_catch_up(pace *p);

/* Speed counts from now on. */
void pace_measure(pace *p);
/* What took so long just now was no step. */
void pace_pause(pace *p, double seconds);
/* Steps that arrived since, and the seconds that they took. */
int64_t pace_steps(const pace *p);
double pace_seconds(const pace *p);
/* Lets the host as far ahead as that speed makes good. */
void pace_adapt(pace *p);

#endif
