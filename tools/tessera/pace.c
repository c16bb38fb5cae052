#include "pace.h"

#include <time.h>

#include "base/clock.h"
#include "base/memory.h"

enum { AHEAD_MIN = 2, AHEAD_MAX = 40, METER_VALUES = 4 * AHEAD_MAX };

/* How far the host may be ahead, in time: far enough to keep the device busy, near enough to end and report soon. */
static const double ahead_seconds = 0.3;

tsr_status pace_open(pace *p, tsr_device *device, progress *bar, int64_t capacity)
{
    *p = (pace){.device = device, .bar = bar, .ahead = AHEAD_MIN, .total = capacity};
    p->values = host_alloc_zeroed((size_t)capacity, sizeof *p->values);
    p->meter = p->values == NULL ? NULL : tsr_meter_create(device, METER_VALUES);
    return p->meter == NULL ? tsr_last_status() : TSR_OK;
}

void pace_close(pace *p)
{
    tsr_meter_destroy(p->meter);
    host_free(p->values);
    p->meter = NULL;
    p->values = NULL;
}

/* The mean of the latest losses: one alone jumps too much to read. */
static double recent_loss(const pace *p)
{
    double sum = 0;
    const int64_t n = p->arrived < 20 ? p->arrived : 20;
    for (int64_t i = p->arrived - n; i < p->arrived; i++)
        sum += (double)p->values[i];
    return n > 0 ? sum / (double)n : -1;
}

int64_t pace_steps(const pace *p)
{
    return p->arrived - p->measured_from;
}

double pace_seconds(const pace *p)
{
    return clock_seconds() - p->measured_since;
}

void pace_measure(pace *p)
{
    p->measured_from = p->arrived;
    p->measured_since = clock_seconds();
}

void pace_pause(pace *p, double seconds)
{
    p->measured_since += p->measured_since > 0 ? seconds : 0;
}

static void show(pace *p)
{
    if (!progress_due(p->bar))
        return;
    const int64_t since = pace_steps(p);
    const double seconds = pace_seconds(p);
    const double rate = since > 0 && p->measured_since > 0 && seconds > 0 ? (double)since / seconds : -1; /* steps */
    progress_show(p->bar, p->arrived, p->total, recent_loss(p), rate > 0 ? rate * p->units : -1,
                  rate > 0 ? (double)(p->total - p->arrived) / rate : -1);
}

static tsr_status poll_meter(pace *p)
{
    tsr_clear_error();
    const size_t n = tsr_meter_poll(p->meter, p->values + p->arrived, (size_t)(p->queued - p->arrived));
    p->arrived += (int64_t)n;
    if (n > 0)
        return TSR_OK;
    return tsr_last_status() != TSR_OK ? tsr_last_status() : tsr_device_status(p->device);
}

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 200 * 1000}, NULL);
}

tsr_status pace_add(pace *p, tsr_tensor *loss)
{
    const tsr_status status = tsr_meter_add(p->meter, loss);
    p->queued += status == TSR_OK;
    return status;
}

tsr_status pace_follow(pace *p)
{
    tsr_status status = TSR_OK;
    if (p->queued - p->flushed >= (p->ahead + 1) / 2) {
        status = tsr_meter_flush(p->meter);
        p->flushed = p->queued;
    }
    while (status == TSR_OK) {
        if (p->arrived < p->queued)
            status = poll_meter(p);
        show(p);
        if (p->queued - p->arrived <= p->ahead || status != TSR_OK)
            break;
        nap();
    }
    return status;
}

tsr_status pace_catch_up(pace *p)
{
    tsr_status status = tsr_meter_flush(p->meter);
    p->flushed = p->queued;
    while (status == TSR_OK && p->arrived < p->queued) {
        status = poll_meter(p);
        show(p);
        if (p->arrived < p->queued)
            nap();
    }
    return status;
}

void pace_adapt(pace *p)
{
    const double seconds = pace_seconds(p);
    const int64_t since = pace_steps(p);
    if (since > 0 && seconds > 0) {
        const double steps = (double)since / seconds * ahead_seconds;
        p->ahead = steps < AHEAD_MIN ? AHEAD_MIN : steps > AHEAD_MAX ? AHEAD_MAX : (int64_t)steps;
    }
}
