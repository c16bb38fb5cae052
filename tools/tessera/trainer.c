/* Training on one device: the host queues steps and follows the device at a distance. */
#include "trainer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "base/clock.h"
#include "base/memory.h"
#include "tessera/autograd.h"
#include "tessera/memory.h"
#include "tessera/ops.h"
#include "tessera/profile.h"

enum { WARMUP_STEPS = 2 }; /* which allocate and compile; not counted in speed */

/* ---- a step ------------------------------------------------------------------------------------------------------- */

/* The next batch, of the next epoch where one has ended. */
static tsr_status next_batch(trainer *t, tsr_tensor **x, tsr_tensor **y, int64_t *count)
{
    const double began = clock_seconds();
    tsr_status status = tsr_batches_next(t->batches, x, y, count);
    if (status == TSR_OK && *count == 0) { /* the epoch is over */
        status = tsr_batches_epoch(t->batches, ++t->epoch);
        if (status == TSR_OK)
            status = tsr_batches_next(t->batches, x, y, count);
    }
    t->loader_seconds += clock_seconds() - began;
    return status;
}

tsr_tensor *trainer_loss(const trainer *t, tsr_tensor *x, tsr_tensor *y, tsr_tensor **logits)
{
    if (tsr_autocast_begin(train_amp_dtype(t->settings)) != TSR_OK)
        return NULL;
    tsr_profile_push("forward");
    tsr_tensor *found = tsr_forward(t->model, x);
    tsr_tensor *loss = t->task->loss(found, y);
    tsr_profile_pop();
    tsr_autocast_end();
    if (logits != NULL)
        *logits = found;
    return loss;
}

/* One batch adds its part of the gradients. */
static tsr_status learn(trainer *t, tsr_tensor *x, tsr_tensor *y, tsr_tensor **loss)
{
    const int64_t parts = t->settings->accumulate;
    *loss = trainer_loss(t, x, y, NULL);
    if (parts > 1)
        *loss = tsr_affine(*loss, 1.0 / (double)parts, 0);
    if (*loss == NULL)
        return tsr_last_status();
    return tsr_backward(t->scaler != NULL ? tsr_grad_scaler_scale(t->scaler, *loss) : *loss);
}

static tsr_status update(trainer *t)
{
    const double clip = t->settings->clip;
    tsr_status status = t->schedule != NULL ? tsr_schedule_step(t->schedule, t->optimizer) : TSR_OK;
    if (status == TSR_OK && t->scaler != NULL && clip > 0)
        status = tsr_grad_scaler_unscale(t->scaler, t->optimizer);
    if (status == TSR_OK && clip > 0 && tsr_optimizer_clip_grad_norm(t->optimizer, clip, 2) == NULL)
        status = tsr_last_status();
    if (status != TSR_OK || t->scaler == NULL)
        return status == TSR_OK ? tsr_optimizer_step(t->optimizer) : status;
    status = tsr_grad_scaler_step(t->scaler, t->optimizer);
    return status == TSR_OK ? tsr_grad_scaler_update(t->scaler) : status;
}

/* The sum so far lives outside the scopes of the batches, whose activations end with them. */
static tsr_status add_loss(tsr_tensor **sum, tsr_tensor *loss)
{
    tsr_tensor *part = tsr_detach(loss), *whole = *sum == NULL ? part : tsr_add(*sum, part);
    if (whole == NULL)
        return tsr_last_status();
    tsr_release(*sum);
    *sum = tsr_keep(whole);
    return TSR_OK;
}

static tsr_status learn_next(trainer *t, tsr_tensor **sum)
{
    tsr_tensor *x, *y, *loss;
    int64_t count;
    tsr_status status = next_batch(t, &x, &y, &count);
    if (status == TSR_OK)
        status = learn(t, x, y, &loss);
    if (status == TSR_OK)
        status = add_loss(sum, loss);
    if (status == TSR_OK)
        t->run->samples += count;
    return status;
}

/* --accumulate batches, and an update. */
static tsr_status step(trainer *t, tsr_tensor **loss)
{
    tsr_status status = t->recorder != NULL ? recorder_begin_step(t->recorder, t->pace.queued) : TSR_OK;
    tsr_optimizer_clear_grad(t->optimizer);
    for (int64_t i = 0; i < t->settings->accumulate && status == TSR_OK; i++) {
        status = tsr_scope_begin();
        if (status != TSR_OK)
            break;
        status = learn_next(t, loss);
        tsr_scope_end();
    }
    if (status == TSR_OK)
        status = update(t);
    if (status == TSR_OK && t->recorder != NULL)
        status = recorder_end_step(t->recorder);
    if (status == TSR_OK)
        status = pace_add(&t->pace, *loss);
    return status == TSR_OK && t->log != NULL ? train_log_step(t->log, t->pace.queued, tsr_optimizer_lr(t->optimizer))
                                              : status;
}

static tsr_status scoped_step(trainer *t)
{
    tsr_tensor *loss = NULL;
    tsr_profile_push_number("step", t->pace.queued);
    tsr_status status = tsr_scope_begin();
    if (status == TSR_OK) {
        status = step(t, &loss);
        tsr_release(loss);
        tsr_scope_end();
    }
    tsr_profile_pop();
    return status;
}

/* Takes the losses that came, and logs them. */
static tsr_status follow(trainer *t, bool to_the_end)
{
    tsr_profile_push("keep pace");
    tsr_status status = to_the_end ? pace_catch_up(&t->pace) : pace_follow(&t->pace);
    tsr_profile_pop();
    if (status == TSR_OK && t->log != NULL)
        status = train_log_losses(t->log, t->pace.values, t->pace.arrived);
    if (status == TSR_OK && t->log != NULL && to_the_end)
        status = train_log_steps_end(t->log);
    return status;
}

void trainer_exempt(trainer *t, const tsr_device_counters *before)
{
    const tsr_device_counters after = tsr_device_counters_get(t->device);
    t->warm.driver_allocations += after.driver_allocations - before->driver_allocations;
    t->warm.programs_built += after.programs_built - before->programs_built;
    t->warm.host_waits += after.host_waits - before->host_waits;
}

/* ---- all steps ---------------------------------------------------------------------------------------------------- */

/* The clock of the speed starts when the warm-up has really ended. */
static tsr_status end_warmup(trainer *t)
{
    tsr_status status = pace_catch_up(&t->pace);
    if (status == TSR_OK)
        status = tsr_device_sync(t->device);
    t->warm = tsr_device_counters_get(t->device);
    t->warm_samples = t->run->samples;
    t->loader_seconds = 0;
    pace_measure(&t->pace);
    return status;
}

/* With a budget: how many steps fit, from the speed so far; looked at again every second, as the first measure is rough. */
static void fit_budget(trainer *t)
{
    const double budget = t->settings->budget, began = t->began, now = clock_seconds(),
                 measured = pace_seconds(&t->pace);
    const int64_t since = pace_steps(&t->pace);
    pace *p = &t->pace;
    if (budget <= 0 || since < 1)
        return;
    if (measured >= fmin(1.0, budget / 10) && now - t->fitted >= fmin(1.0, budget / 10)) {
        const double fits = (double)p->arrived + (budget - (now - began)) * (double)since / measured;
        const int64_t total = min_i64(t->run->steps_planned, max_i64((int64_t)fmin(fits, 1e15), p->queued));
        /* Small corrections would only make the bar restless; who would nearly make it all gets the chance. */
        const double change = fabs((double)total - (double)p->total) / (double)p->total;
        if (change > 0.1 || total == t->run->steps_planned)
            p->total = total;
        t->fitted = now;
    }
    if (now - began > budget * 1.15)
        p->total = p->queued;
}

/* What the speed was, and what the steps behind the warm-up cost. */
static void measure_steps(trainer *t, const tsr_device_counters *last)
{
    train_run *r = t->run;
    const int64_t done = t->pace.queued - t->first;
    r->train_seconds = clock_seconds() - t->began;
    r->steps = t->pace.arrived;
    if (done > 0 && done <= WARMUP_STEPS) /* too short for a warm-up: its speed is that of the first steps */
        r->samples_per_second = (double)r->samples / r->train_seconds;
    if (done > WARMUP_STEPS) {
        const double seconds = pace_seconds(&t->pace);
        r->samples_per_second = seconds > 0 ? (double)(r->samples - t->warm_samples) / seconds : 0;
        r->loader_wait_fraction = seconds > 0 ? t->loader_seconds / seconds : 0;
        r->driver_allocs_after_warmup = last->driver_allocations - t->warm.driver_allocations;
        r->programs_built_after_warmup = last->programs_built - t->warm.programs_built;
        r->host_syncs_per_step = (double)(last->host_waits - t->warm.host_waits) / (double)(done - WARMUP_STEPS);
    }
}

static tsr_status train_steps(trainer *t)
{
    pace *p = &t->pace;
    tsr_status status = TSR_OK;
    t->began = clock_seconds();
    while (status == TSR_OK && p->queued < p->total && !interrupted()) {
        status = trainer_profile_step(t);
        if (status == TSR_OK)
            status = scoped_step(t);
        trainer_memory_step(t);
        if (status == TSR_OK)
            status = follow(t, false);
        if (status == TSR_OK && p->queued == t->first + WARMUP_STEPS)
            status = end_warmup(t);
        if (p->queued > t->first + WARMUP_STEPS) {
            pace_adapt(p);
            fit_budget(t);
        }
        if (status == TSR_OK && trainer_evaluation_due(t))
            status = trainer_evaluate(t);
        if (status == TSR_OK && trainer_save_due(t))
            status = trainer_save(t);
    }
    const tsr_device_counters last = tsr_device_counters_get(t->device);
    if (status == TSR_OK)
        status = follow(t, true);
    measure_steps(t, &last);
    if (status == TSR_OK && t->settings->save != NULL && (t->saved != p->arrived || p->arrived == 0))
        status = trainer_save(t); /* interrupted ones too */
    return status;
}

/* ---- before and after --------------------------------------------------------------------------------------------- */

static tsr_status prepare_recorder(trainer *t)
{
    const train_settings *s = t->settings;
    char training[SETTINGS_SIZE];
    if (s->trace == NULL)
        return TSR_OK;
    train_settings_text(s, training, sizeof training);
    t->recorder = recorder_create(&(recorder_settings){s->trace, s->trace_steps, s->trace_tensors, training}, t->device,
                                  t->model);
    return t->recorder == NULL ? tsr_last_status() : TSR_OK;
}

static tsr_status prepare_log(trainer *t)
{
    const train_log_settings settings = {.folder = t->settings->log_dir,
                                         .one_of_several = t->run->one_of_several,
                                         .unit = t->task->unit,
                                         .units = t->pace.units,
                                         .first = t->first};
    if (settings.folder == NULL)
        return TSR_OK;
    t->log = train_log_create(&settings, t->device, t->scaler);
    return t->log == NULL ? tsr_last_status() : TSR_OK;
}

static tsr_status prepare_model(trainer *t)
{
    const train_settings *s = t->settings;
    t->model = t->task->model(t->task, t->device);
    if (t->model == NULL || (s->checkpoint && t->task->checkpoint(t->model) != TSR_OK))
        return tsr_last_status();
    t->optimizer = train_optimizer(s, t->model);
    if (t->optimizer != NULL && train_amp_dtype(s) == TSR_F16 &&
        (t->scaler = tsr_grad_scaler_create(t->device, NULL)) == NULL)
        return tsr_last_status();
    return t->optimizer == NULL ? tsr_last_status() : weights_hash(t->model, t->run->initial_weights_sha256);
}

static tsr_status prepare_steps(trainer *t)
{
    const train_settings *s = t->settings;
    const tsr_batches_options options = {
        .batch = s->batch, .shuffle = true, .seed = s->seed, .workers = (int)s->workers};
    t->batches = tsr_batches_create(t->task->train, t->device, &options);
    if (t->batches == NULL)
        return tsr_last_status();
    const int64_t per_epoch = (tsr_batches_per_epoch(t->batches) + s->accumulate - 1) / s->accumulate;
    t->run->steps_planned = s->steps > 0 ? s->steps : s->epochs * per_epoch;
    const tsr_status status = pace_open(&t->pace, t->device, &t->bar, t->run->steps_planned);
    t->pace.units = (double)(min_i64(s->batch, tsr_dataset_count(t->task->train)) * s->accumulate * t->task->units);
    return status == TSR_OK ? train_schedule(s, t->run->steps_planned, &t->schedule) : status;
}

static tsr_status prepare(trainer *t)
{
    tsr_status status = tsr_memory_reset_peaks(t->device);
    if (status == TSR_OK)
        status = tsr_seed(t->device, t->settings->seed);
    if (status == TSR_OK)
        status = prepare_model(t);
    if (status == TSR_OK)
        status = prepare_steps(t);
    if (status == TSR_OK)
        status = prepare_recorder(t);
    if (status == TSR_OK && t->settings->resume != NULL)
        status = trainer_resume(t);
    return status == TSR_OK ? prepare_log(t) : status;
}

static tsr_status measure_memory(trainer *t)
{
    tsr_memory_statistics m;
    const tsr_status status = tsr_memory_stats(t->device, &m);
    if (status == TSR_OK) {
        t->run->peak_bytes = m.peak_allocated_bytes;
        t->run->reserved_bytes = m.reserved_bytes;
    }
    return status;
}

static tsr_status read_scaler(trainer *t)
{
    float scale;
    int32_t skipped;
    if (t->scaler == NULL)
        return TSR_OK;
    tsr_status status = tsr_read(tsr_grad_scaler_state(t->scaler, "scale"), &scale, sizeof scale);
    if (status == TSR_OK)
        status = tsr_read(tsr_grad_scaler_state(t->scaler, "skipped"), &skipped, sizeof skipped);
    if (status == TSR_OK) {
        t->run->loss_scale = (double)scale;
        t->run->skipped_steps = skipped;
    }
    return status;
}

/* The losses stay with the run, as far as they came. */
static void hand_over_losses(trainer *t)
{
    t->run->losses = t->pace.values;
    t->run->steps = t->pace.arrived;
    t->pace.values = NULL;
}

static tsr_status train_and_test(trainer *t)
{
    tsr_status status = prepare(t);
    if (status != TSR_OK)
        return status;
    status = train_steps(t);
    hand_over_losses(t);
    if (status == TSR_OK && t->recorder != NULL)
        status = recorder_write(t->recorder);
    if (status == TSR_OK)
        status = measure_memory(t);
    if (status == TSR_OK)
        status = read_scaler(t);
    if (status == TSR_OK)
        status = weights_hash(t->model, t->run->weights_sha256);
    if (status == TSR_OK && !interrupted())
        status = trainer_test(t);
    if (status == TSR_OK && t->log != NULL && t->run->test_samples > 0)
        status = train_log_test(t->log, "test", t->run->test_loss, t->run->test_accuracy);
    return status;
}

void train_on_device(const train_settings *settings, const task *what, tsr_device *device, train_run *run)
{
    trainer t = {.settings = settings, .task = what, .run = run, .device = device};
    char rate[32];
    tsr_clear_error();
    snprintf(rate, sizeof rate, "%s/s", what->unit);
    progress_begin(&t.bar, run->device.id, rate);
    run->task = what;
    run->test_accuracy = NAN;
    run->status = trainer_profile_begin(&t);
    if (run->status == TSR_OK)
        run->status = trainer_memory_begin(&t);
    if (run->status == TSR_OK)
        run->status = train_and_test(&t);
    trainer_memory_end(&t);
    trainer_profile_end(&t);
    progress_end(&t.bar);
    run->end = run->status != TSR_OK ? TRAIN_FAILED : interrupted() ? TRAIN_INTERRUPTED : TRAIN_DONE;
    if (run->status != TSR_OK)
        snprintf(run->error, sizeof run->error, "%s", tsr_last_error());
    pace_close(&t.pace);
    recorder_destroy(t.recorder);
    train_log_destroy(t.log);
    tsr_batches_destroy(t.batches);
    tsr_schedule_destroy(t.schedule);
    tsr_grad_scaler_destroy(t.scaler);
    tsr_optimizer_destroy(t.optimizer);
    tsr_module_destroy(t.model);
}

void train_run_free(train_run *run)
{
    host_free(run->losses);
    host_free(run->owners);
    host_free(run->evaluations);
    run->losses = NULL;
    run->evaluations = NULL;
    run->owners = NULL;
}
