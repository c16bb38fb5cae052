#include "train_log.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "tessera/memory.h"
#include "tessera/summary.h"
#include "tessera/tensor.h"

enum { SCALE_EVERY = 10, SCALES = 64 };

/* Seconds between two points of what changes slowly. */
static const double slowly = 1;

struct train_log {
    tsr_summary_writer *writer;
    tsr_device *device;
    char speed[64];        /* the tag of the speed */
    double units;          /* that it counts, of a step */
    int64_t logged;        /* losses */
    double rate;           /* the latest learning rate */
    double measured;       /* when speed and memory were looked at, */
    int64_t measured_step; /* and the steps done then */
    bool has_speed;

    tsr_tensor *scale; /* NULL without a scaler */
    tsr_meter *scales;
    int64_t scale_steps[SCALES], first_scale, next_scale; /* of the values under way */
};

static tsr_status open_meter(train_log *l, tsr_grad_scaler *scaler)
{
    if (scaler == NULL)
        return TSR_OK;
    l->scale = tsr_grad_scaler_state(scaler, "scale");
    l->scales = l->scale == NULL ? NULL : tsr_meter_create(l->device, SCALES);
    return l->scales == NULL ? tsr_last_status() : TSR_OK;
}

train_log *train_log_create(const train_log_settings *settings, tsr_device *device, tsr_grad_scaler *scaler)
{
    char folder[PATH_SIZE], name[64];
    train_log *l = host_alloc_zeroed(1, sizeof *l);
    if (l == NULL)
        return NULL;
    l->device = device;
    l->logged = l->measured_step = settings->first;
    l->units = settings->units;
    l->rate = NAN;
    l->measured = clock_seconds();
    snprintf(l->speed, sizeof l->speed, "train/%s_per_second", settings->unit);
    snprintf(name, sizeof name, "%s", tsr_device_id(device));
    for (char *c = name; *c != '\0'; c++)
        *c = *c == ':' ? '-' : *c;
    tsr_status status = path_join(folder, sizeof folder, settings->folder, settings->one_of_several ? name : "");
    if (status == TSR_OK)
        status = open_meter(l, scaler);
    l->writer = status == TSR_OK ? tsr_summary_writer_create(folder) : NULL;
    if (l->writer != NULL)
        return l;
    train_log_destroy(l);
    return NULL;
}

void train_log_destroy(train_log *l)
{
    if (l == NULL)
        return;
    tsr_meter_destroy(l->scales);
    tsr_summary_writer_destroy(l->writer);
    host_free(l);
}

/* ---- the loss scale, which lives on the device ---- */

static tsr_status take_scales(train_log *l)
{
    float value;
    tsr_status status = TSR_OK;
    while (status == TSR_OK && l->first_scale < l->next_scale && tsr_meter_poll(l->scales, &value, 1) == 1)
        status = tsr_summary_add_scalar(l->writer, "train/loss_scale", (double)value,
                                        l->scale_steps[l->first_scale++ % SCALES]);
    return status;
}

static tsr_status send_scale(train_log *l, int64_t step)
{
    tsr_status status = take_scales(l);
    if (status != TSR_OK || step % SCALE_EVERY != 0 || l->next_scale - l->first_scale == SCALES)
        return status;
    status = tsr_meter_add(l->scales, l->scale);
    if (status != TSR_OK)
        return status;
    l->scale_steps[l->next_scale++ % SCALES] = step;
    return tsr_meter_flush(l->scales);
}

/* ---- steps ---- */

tsr_status train_log_step(train_log *l, int64_t step, double learning_rate)
{
    tsr_status status = TSR_OK;
    if (learning_rate != l->rate)
        status = tsr_summary_add_scalar(l->writer, "train/learning_rate", learning_rate, step);
    l->rate = learning_rate;
    return status == TSR_OK && l->scales != NULL ? send_scale(l, step) : status;
}

static tsr_status log_memory(train_log *l, int64_t step)
{
    tsr_memory_statistics m;
    tsr_status status = tsr_memory_stats(l->device, &m);
    if (status == TSR_OK)
        status = tsr_summary_add_scalar(l->writer, "memory/peak_allocated_bytes", (double)m.peak_allocated_bytes, step);
    if (status == TSR_OK)
        status = tsr_summary_add_scalar(l->writer, "memory/reserved_bytes", (double)m.reserved_bytes, step);
    return status;
}

/* Speed and memory now. */
static tsr_status log_state(train_log *l)
{
    const double seconds = clock_seconds() - l->measured, steps = (double)(l->logged - l->measured_step);
    const bool enough = seconds >= slowly || !l->has_speed; /* the last steps alone may not be */
    tsr_status status = TSR_OK;
    if (steps > 0 && seconds > 0 && enough)
        status = tsr_summary_add_scalar(l->writer, l->speed, steps * l->units / seconds, l->logged);
    l->has_speed = true;
    if (status == TSR_OK)
        status = log_memory(l, l->logged);
    l->measured += seconds;
    l->measured_step = l->logged;
    return status == TSR_OK ? tsr_summary_flush(l->writer) : status;
}

tsr_status train_log_losses(train_log *l, const float *losses, int64_t arrived)
{
    tsr_status status = TSR_OK;
    while (status == TSR_OK && l->logged < arrived) {
        const int64_t i = l->logged++;
        status = tsr_summary_add_scalar(l->writer, "train/loss", (double)losses[i], i + 1);
    }
    return status == TSR_OK && clock_seconds() - l->measured >= slowly ? log_state(l) : status;
}

tsr_status train_log_steps_end(train_log *l)
{
    tsr_status status = l->scales != NULL ? tsr_meter_drain(l->scales) : TSR_OK;
    if (status == TSR_OK && l->scales != NULL)
        status = take_scales(l);
    if (status == TSR_OK && isfinite(l->rate)) /* a curve that is level has an end too */
        status = tsr_summary_add_scalar(l->writer, "train/learning_rate", l->rate, l->logged);
    return status == TSR_OK ? log_state(l) : status;
}

void train_log_pause(train_log *l, double seconds)
{
    l->measured += seconds;
}

tsr_status train_log_test(train_log *l, const char *what, double loss, double accuracy)
{
    char tag[32];
    snprintf(tag, sizeof tag, "%s/loss", what);
    tsr_status status = tsr_summary_add_scalar(l->writer, tag, loss, l->logged);
    snprintf(tag, sizeof tag, "%s/accuracy", what);
    if (status == TSR_OK && isfinite(accuracy))
        status = tsr_summary_add_scalar(l->writer, tag, accuracy, l->logged);
    return status == TSR_OK ? tsr_summary_flush(l->writer) : status;
}
