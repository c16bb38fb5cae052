/* Training and testing on one device. The host queues steps and follows the device at a distance: losses come back through a meter
 * every few steps, and nothing between waits. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/checked.h"
#include "base/clock.h"
#include "base/compiler.h"
#include "base/file.h"
#include "base/memory.h"
#include "models.h"
#include "progress.h"
#include "recorder.h"
#include "tessera/autograd.h"
#include "tessera/checkpoint.h"
#include "tessera/io.h"
#include "tessera/memory.h"
#include "tessera/ops.h"
#include "train.h"

enum {
    WARMUP_STEPS = 2, /* which allocate and compile; not counted in speed */
    AHEAD_MIN = 2,
    AHEAD_MAX = 40, /* steps queued and not arrived, at most */
    METER_VALUES = 4 * AHEAD_MAX,
    TEST_BATCH = 200
};

/* How far the host may be ahead, in time: far enough to keep the device busy, near enough to end and report soon. */
static const double ahead_seconds = 0.3;

typedef struct trainer {
    const train_settings *settings;
    train_run *run;
    tsr_device *device;
    tsr_module *model;
    tsr_optimizer *optimizer;
    tsr_grad_scaler *scaler; /* of f16; NULL without */
    tsr_batches *batches;
    tsr_meter *meter;
    recorder *recorder; /* NULL: nothing is recorded */
    progress bar;
    uint64_t epoch;

    int64_t first;                    /* where this run began: steps that a resumed one had done */
    int64_t queued, flushed, arrived; /* steps, or batches of the test */
    int64_t saved;                    /* the step of the latest file */
    int64_t ahead;
    float *values; /* what arrived */
    int64_t total; /* where the bar ends */
    double unit;   /* images of one step */

    double warm_began, loader_seconds;
    double fitted; /* when the budget was looked at */
    int64_t warm_images;
    tsr_device_counters warm;
} trainer;

/* ---- values on their way ------------------------------------------------------------------------------------------ */

/* The mean of the latest losses: one alone jumps too much to read. */
static double recent_loss(const trainer *t)
{
    double sum = 0;
    const int64_t n = t->arrived < 20 ? t->arrived : 20;
    for (int64_t i = t->arrived - n; i < t->arrived; i++)
        sum += (double)t->values[i];
    return n > 0 ? sum / (double)n : -1;
}

/* Steps that arrived after the warm-up. */
static int64_t steps_measured(const trainer *t)
{
    return t->arrived - t->first - WARMUP_STEPS;
}

static void show(trainer *t)
{
    if (!progress_due(&t->bar))
        return;
    const int64_t since = steps_measured(t);
    const double seconds = clock_seconds() - t->warm_began;
    const double rate = since > 0 && t->warm_began > 0 && seconds > 0 ? (double)since / seconds : -1; /* steps */
    progress_show(&t->bar, t->arrived, t->total, recent_loss(t), rate > 0 ? rate * t->unit : -1,
                  rate > 0 ? (double)(t->total - t->arrived) / rate : -1);
}

static tsr_status poll_meter(trainer *t)
{
    tsr_clear_error();
    const size_t n = tsr_meter_poll(t->meter, t->values + t->arrived, (size_t)(t->queued - t->arrived));
    t->arrived += (int64_t)n;
    if (n > 0)
        return TSR_OK;
    return tsr_last_status() != TSR_OK ? tsr_last_status() : tsr_device_status(t->device);
}

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 200 * 1000}, NULL);
}

/* Sends values off now and then, takes those that are there, and lets the device catch up where the host is too far ahead. */
static tsr_status follow(trainer *t)
{
    tsr_status status = TSR_OK;
    if (t->queued - t->flushed >= (t->ahead + 1) / 2) {
        status = tsr_meter_flush(t->meter);
        t->flushed = t->queued;
    }
    for (int naps = 0; status == TSR_OK; naps++) {
        if (t->arrived < t->queued)
            status = poll_meter(t);
        show(t);
        if (t->queued - t->arrived <= t->ahead || status != TSR_OK)
            break;
        nap();
    }
    return status;
}

/* Until all that is queued has arrived. */
static tsr_status catch_up(trainer *t)
{
    tsr_status status = tsr_meter_flush(t->meter);
    t->flushed = t->queued;
    while (status == TSR_OK && t->arrived < t->queued) {
        status = poll_meter(t);
        show(t);
        if (t->arrived < t->queued)
            nap();
    }
    return status;
}

/* From the speed so far. */
static void set_ahead(trainer *t)
{
    const double seconds = clock_seconds() - t->warm_began;
    const int64_t since = steps_measured(t);
    if (since > 0 && seconds > 0) {
        const double steps = (double)since / seconds * ahead_seconds;
        t->ahead = steps < AHEAD_MIN ? AHEAD_MIN : steps > AHEAD_MAX ? AHEAD_MAX : (int64_t)steps;
    }
}

/* ---- a step ------------------------------------------------------------------------------------------------------- */

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

/* In the precision that was asked for. */
static tsr_tensor *loss_of(const trainer *t, tsr_tensor *x, tsr_tensor *y, tsr_tensor **logits)
{
    if (tsr_autocast_begin(train_amp_dtype(t->settings)) != TSR_OK)
        return NULL;
    tsr_tensor *found = tsr_forward(t->model, x);
    tsr_tensor *loss = tsr_cross_entropy(found, y);
    tsr_autocast_end();
    if (logits != NULL)
        *logits = found;
    return loss;
}

/* Forward, backward and update; what a recording holds. */
static tsr_status learn(trainer *t, tsr_tensor *x, tsr_tensor *y, tsr_tensor **loss)
{
    tsr_optimizer_clear_grad(t->optimizer);
    *loss = loss_of(t, x, y, NULL);
    if (*loss == NULL)
        return tsr_last_status();
    if (t->scaler == NULL) {
        const tsr_status status = tsr_backward(*loss);
        return status == TSR_OK ? tsr_optimizer_step(t->optimizer) : status;
    }
    tsr_status status = tsr_backward(tsr_grad_scaler_scale(t->scaler, *loss));
    if (status == TSR_OK)
        status = tsr_grad_scaler_step(t->scaler, t->optimizer);
    return status == TSR_OK ? tsr_grad_scaler_update(t->scaler) : status;
}

static tsr_status step(trainer *t)
{
    tsr_tensor *x, *y, *loss;
    int64_t count;
    tsr_status status = next_batch(t, &x, &y, &count);
    if (status == TSR_OK && t->recorder != NULL)
        status = recorder_begin_step(t->recorder, t->queued);
    if (status == TSR_OK)
        status = learn(t, x, y, &loss);
    if (status == TSR_OK && t->recorder != NULL)
        status = recorder_end_step(t->recorder);
    if (status == TSR_OK)
        status = tsr_meter_add(t->meter, loss);
    if (status == TSR_OK) {
        t->queued++;
        t->run->images += count;
    }
    return status;
}

static tsr_status scoped_step(trainer *t)
{
    tsr_status status = tsr_scope_begin();
    if (status == TSR_OK) {
        status = step(t);
        tsr_scope_end();
    }
    return status;
}

/* The clock of the speed starts when the warm-up has really ended. */
static tsr_status end_warmup(trainer *t)
{
    tsr_status status = catch_up(t);
    if (status == TSR_OK)
        status = tsr_device_sync(t->device);
    t->warm = tsr_device_counters_get(t->device);
    t->warm_began = clock_seconds();
    t->warm_images = t->run->images;
    t->loader_seconds = 0;
    return status;
}

/* With a budget: how many steps fit, from the speed so far; looked at again every second, as the first measure is rough. */
static void fit_budget(trainer *t, double began)
{
    const double budget = t->settings->budget, now = clock_seconds(), measured = now - t->warm_began;
    const int64_t since = steps_measured(t);
    if (budget <= 0 || since < 1)
        return;
    if (measured >= fmin(1.0, budget / 10) && now - t->fitted >= fmin(1.0, budget / 10)) {
        const double fits = (double)t->arrived + (budget - (now - began)) * (double)since / measured;
        const int64_t total = min_i64(t->run->steps_planned, max_i64((int64_t)fmin(fits, 1e15), t->queued));
        /* Small corrections would only make the bar restless; who would nearly make it all gets the chance. */
        const double change = fabs((double)total - (double)t->total) / (double)t->total;
        if (change > 0.1 || total == t->run->steps_planned)
            t->total = total;
        t->fitted = now;
    }
    if (now - began > budget * 1.15)
        t->total = t->queued;
}

/* ---- saving and resuming ------------------------------------------------------------------------------------------ */

static tsr_training training_of(trainer *t, char *settings, size_t size)
{
    train_settings_text(t->settings, settings, size);
    return (tsr_training){.model = t->model,
                          .optimizer = t->optimizer,
                          .batches = t->batches,
                          .scaler = t->scaler,
                          .step = t->arrived,
                          .settings = settings,
                          .losses = t->values,
                          .losses_capacity = (size_t)t->run->steps_planned};
}

/* Between two steps, with all losses here. What it costs the driver is no step's. */
static tsr_status save_now(trainer *t)
{
    char settings[256];
    const tsr_device_counters before = tsr_device_counters_get(t->device);
    tsr_status status = catch_up(t);
    if (status != TSR_OK)
        return status;
    const tsr_training state = training_of(t, settings, sizeof settings);
    status = tsr_training_save(&state, t->settings->save, (int)t->settings->keep);
    const tsr_device_counters after = tsr_device_counters_get(t->device);
    t->warm.driver_allocations += after.driver_allocations - before.driver_allocations;
    t->warm.programs_built += after.programs_built - before.programs_built;
    t->warm.host_waits += after.host_waits - before.host_waits;
    t->saved = t->arrived;
    return status;
}

static bool save_due(const trainer *t)
{
    const int64_t every = t->settings->save_every;
    return t->settings->save != NULL && every > 0 && t->queued > t->first && t->queued % every == 0;
}

/* A file that cannot be read does not end the training where one before it can. */
static tsr_status resume(trainer *t)
{
    const char *path = t->settings->resume;
    char settings[256], older[PATH_SIZE];
    tsr_training state = training_of(t, settings, sizeof settings);
    tsr_status status = tsr_training_load(&state, path);
    for (int i = 1; status == TSR_CORRUPT_DATA && i < t->settings->keep; i++) {
        snprintf(older, sizeof older, "%.4000s.%d", path, i);
        if (!file_exists(older))
            break;
        progress_note(&t->bar, "%s; going on from %s", tsr_last_error(), older);
        status = tsr_training_load(&state, older);
    }
    if (status == TSR_NOT_FOUND && !file_exists(path)) {
        progress_note(&t->bar, "there is no %s yet: the training begins", path);
        tsr_clear_error();
        return TSR_OK;
    }
    if (status != TSR_OK)
        return status;
    int64_t sample;
    tsr_batches_place(t->batches, &t->epoch, &sample);
    t->first = t->queued = t->flushed = t->arrived = t->saved = state.step;
    t->run->resumed_after = state.step;
    progress_note(&t->bar, "going on after step %lld", (long long)state.step);
    return TSR_OK;
}

static tsr_status train_steps(trainer *t)
{
    const double began = clock_seconds();
    tsr_status status = TSR_OK;
    while (status == TSR_OK && t->queued < t->total && !interrupted()) {
        status = scoped_step(t);
        if (status == TSR_OK)
            status = follow(t);
        if (status == TSR_OK && t->queued == t->first + WARMUP_STEPS)
            status = end_warmup(t);
        if (t->queued > t->first + WARMUP_STEPS) {
            set_ahead(t);
            fit_budget(t, began);
        }
        if (status == TSR_OK && save_due(t))
            status = save_now(t);
    }
    const tsr_device_counters last = tsr_device_counters_get(t->device);
    if (status == TSR_OK)
        status = catch_up(t);

    const int64_t done = t->queued - t->first;
    train_run *r = t->run;
    const double now = clock_seconds();
    r->train_seconds = now - began;
    r->steps = t->arrived;
    if (done > 0 && done <= WARMUP_STEPS) /* too short for a warm-up: its speed is that of the first steps */
        r->samples_per_second = (double)r->images / r->train_seconds;
    if (done > WARMUP_STEPS) {
        const double seconds = now - t->warm_began;
        r->samples_per_second = seconds > 0 ? (double)(r->images - t->warm_images) / seconds : 0;
        r->loader_wait_fraction = seconds > 0 ? t->loader_seconds / seconds : 0;
        r->driver_allocs_after_warmup = last.driver_allocations - t->warm.driver_allocations;
        r->programs_built_after_warmup = last.programs_built - t->warm.programs_built;
        r->host_syncs_per_step = (double)(last.host_waits - t->warm.host_waits) / (double)(done - WARMUP_STEPS);
    }
    if (status == TSR_OK && t->settings->save != NULL && (t->saved != t->arrived || t->arrived == 0))
        status = save_now(t); /* interrupted ones too */
    return status;
}

/* ---- the test ----------------------------------------------------------------------------------------------------- */

typedef struct predictions {
    tsr_tensor *found, *right; /* [n] i64 on the device, read once at the end */
    int64_t count;
} predictions;

static tsr_status keep_batch(tsr_tensor *all, int64_t at, tsr_tensor *part, int64_t count)
{
    tsr_tensor *place = tsr_slice(all, 0, at, at + count, 1);
    return place == NULL ? tsr_last_status() : tsr_copy_into(place, part);
}

static tsr_status test_batch(trainer *t, predictions *p, int64_t *count)
{
    tsr_tensor *x, *y;
    tsr_status status = tsr_batches_next(t->batches, &x, &y, count);
    if (status != TSR_OK || *count == 0)
        return status;
    tsr_tensor *logits = NULL, *loss = loss_of(t, x, y, &logits);
    tsr_tensor *found = tsr_argmax(logits, (const int[]){1}, 1, false);
    if (found == NULL)
        return tsr_last_status();
    status = keep_batch(p->found, p->count, found, *count);
    if (status == TSR_OK)
        status = keep_batch(p->right, p->count, y, *count);
    if (status == TSR_OK)
        status = tsr_meter_add(t->meter, loss);
    if (status == TSR_OK) {
        p->count += *count;
        t->queued++;
    }
    return status;
}

static tsr_status count_right(trainer *t, const predictions *p)
{
    const size_t n = (size_t)p->count;
    int64_t *found = host_realloc_array(NULL, 2 * n, sizeof *found), *right = found + n, hits = 0;
    if (found == NULL)
        return tsr_last_status();
    tsr_status status = tsr_read(p->found, found, n * sizeof *found);
    if (status == TSR_OK)
        status = tsr_read(p->right, right, n * sizeof *right);
    for (size_t i = 0; status == TSR_OK && i < n; i++)
        hits += found[i] == right[i];
    host_free(found);
    if (status != TSR_OK)
        return status;

    double sum = 0; /* batches are of one size, but perhaps the last */
    for (int64_t i = 0; i < t->arrived; i++)
        sum += (double)t->values[i] * (double)min_i64(TEST_BATCH, p->count - i * TEST_BATCH);
    t->run->test_images = p->count;
    t->run->test_accuracy = (double)hits / (double)n;
    t->run->test_loss = sum / (double)n;
    return TSR_OK;
}

/* Slow devices under a budget are tested on a part: forward alone is about a third of a step. */
static int64_t test_size(const trainer *t, int64_t all)
{
    const double budget = t->settings->budget, speed = t->run->samples_per_second;
    if (budget <= 0 || speed <= 0 || (double)all / (3 * speed) <= budget / 2)
        return all;
    const int64_t fits = (int64_t)(3 * speed * budget / 2) / TEST_BATCH * TEST_BATCH;
    return min_i64(all, max_i64(fits, TEST_BATCH));
}

static tsr_status test_scoped(trainer *t, tsr_dataset *data)
{
    const int64_t n = test_size(t, tsr_dataset_count(data));
    predictions p = {tsr_empty(t->device, TSR_I64, 1, &n), tsr_empty(t->device, TSR_I64, 1, &n), 0};
    tsr_status status = p.found == NULL || p.right == NULL ? tsr_last_status() : TSR_OK;
    t->first = t->queued = t->flushed = t->arrived = 0;
    t->total = (n + TEST_BATCH - 1) / TEST_BATCH;
    t->ahead = AHEAD_MIN;
    while (status == TSR_OK && p.count < n && !interrupted()) {
        int64_t count = 0;
        status = tsr_scope_begin();
        if (status != TSR_OK)
            break;
        status = test_batch(t, &p, &count);
        tsr_scope_end();
        if (status == TSR_OK)
            status = follow(t);
    }
    if (status == TSR_OK && !interrupted())
        status = catch_up(t);
    return status == TSR_OK && !interrupted() ? count_right(t, &p) : status;
}

static tsr_status test_model(trainer *t, tsr_dataset *data)
{
    /* In an order of its own, so that a part of the test set is a fair one: MNIST's first half is the easier. */
    const tsr_batches_options options = {.batch = TEST_BATCH, .shuffle = true};
    const double began = clock_seconds();
    tsr_batches_destroy(t->batches);
    t->batches = tsr_batches_create(data, t->device, &options);
    host_free(t->values);
    t->values = host_alloc_zeroed((size_t)(tsr_dataset_count(data) / TEST_BATCH + 1), sizeof *t->values);
    tsr_status status = t->batches == NULL || t->values == NULL ? tsr_last_status() : tsr_scope_begin();
    if (status != TSR_OK)
        return status;
    t->bar.phase = "test ";
    t->unit = TEST_BATCH;
    t->warm_began = 0; /* the test shows no speed */
    tsr_module_train(t->model, false);
    tsr_no_grad_begin();
    status = test_scoped(t, data);
    tsr_no_grad_end();
    tsr_scope_end();
    t->run->test_seconds = clock_seconds() - began;
    return status;
}

/* ---- all of it ---------------------------------------------------------------------------------------------------- */

double train_learning_rate(const train_settings *s)
{
    return s->lr > 0 ? s->lr : strcmp(s->optimizer, "sgd") == 0 ? 0.01 : 1e-3;
}

tsr_dtype train_amp_dtype(const train_settings *s)
{
    if (s->amp == NULL)
        return TSR_F32;
    return strcmp(s->amp, "f16") == 0 ? TSR_F16 : strcmp(s->amp, "bf16") == 0 ? TSR_BF16 : TSR_F32;
}

void train_settings_text(const train_settings *s, char *text, size_t size)
{
    const bool mixed = train_amp_dtype(s) != TSR_F32;
    snprintf(text, size, "mnist %s, batch %lld, %s %.17g, seed %llu%s%s", s->model, (long long)s->batch, s->optimizer,
             train_learning_rate(s), (unsigned long long)s->seed, mixed ? ", amp " : "", mixed ? s->amp : "");
}

tsr_optimizer *train_optimizer(const train_settings *s, tsr_module *model)
{
    const double lr = train_learning_rate(s);
    if (strcmp(s->optimizer, "sgd") == 0)
        return tsr_sgd_for(model, &(tsr_sgd_options){.lr = lr, .momentum = 0.9});
    if (strcmp(s->optimizer, "adamw") == 0)
        return tsr_adamw_for(model, &(tsr_adam_options){.lr = lr, .weight_decay = 0.01});
    return tsr_adam_for(model, &(tsr_adam_options){.lr = lr});
}

static tsr_status prepare_recorder(trainer *t)
{
    const train_settings *s = t->settings;
    char training[256];
    if (s->trace == NULL)
        return TSR_OK;
    train_settings_text(s, training, sizeof training);
    t->recorder = recorder_create(&(recorder_settings){s->trace, s->trace_steps, s->trace_tensors, training}, t->device,
                                  t->model);
    return t->recorder == NULL ? tsr_last_status() : TSR_OK;
}

static tsr_status prepare(trainer *t, tsr_dataset *data)
{
    const train_settings *s = t->settings;
    const tsr_batches_options options = {
        .batch = s->batch, .shuffle = true, .seed = s->seed, .workers = (int)s->workers};
    tsr_status status = tsr_memory_reset_peaks(t->device);
    if (status == TSR_OK)
        status = tsr_seed(t->device, s->seed);
    if (status != TSR_OK)
        return status;
    t->model = model_create(s->model, t->device);
    if (t->model != NULL && s->checkpoint && tsr_sequential_checkpoint(t->model, NULL, 0) != TSR_OK)
        return tsr_last_status();
    t->optimizer = t->model == NULL ? NULL : train_optimizer(s, t->model);
    if (t->optimizer != NULL && train_amp_dtype(s) == TSR_F16 &&
        (t->scaler = tsr_grad_scaler_create(t->device, NULL)) == NULL)
        return tsr_last_status();
    t->batches = t->optimizer == NULL ? NULL : tsr_batches_create(data, t->device, &options);
    t->meter = t->batches == NULL ? NULL : tsr_meter_create(t->device, METER_VALUES);
    if (t->meter == NULL)
        return tsr_last_status();
    const int64_t per_epoch = tsr_batches_per_epoch(t->batches);
    t->total = t->run->steps_planned = s->steps > 0 ? s->steps : s->epochs * per_epoch;
    t->values = host_alloc_zeroed((size_t)t->total, sizeof *t->values);
    t->unit = (double)min_i64(s->batch, tsr_dataset_count(data));
    t->ahead = AHEAD_MIN;
    tsr_status made = t->values == NULL ? tsr_last_status() : weights_hash(t->model, t->run->initial_weights_sha256);
    if (made == TSR_OK)
        made = prepare_recorder(t);
    return made == TSR_OK && s->resume != NULL ? resume(t) : made;
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
    t->run->losses = t->values;
    t->run->steps = t->arrived;
    t->values = NULL;
}

static tsr_status train_and_test(trainer *t, tsr_dataset *train, tsr_dataset *test)
{
    tsr_status status = prepare(t, train);
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
        status = test_model(t, test);
    return status;
}

void train_on_device(const train_settings *settings, tsr_device *device, tsr_dataset *train, tsr_dataset *test,
                     train_run *run)
{
    trainer t = {.settings = settings, .run = run, .device = device};
    tsr_clear_error();
    progress_begin(&t.bar, run->device.id, "images/s");
    run->status = train_and_test(&t, train, test);
    progress_end(&t.bar);
    run->end = run->status != TSR_OK ? TRAIN_FAILED : interrupted() ? TRAIN_INTERRUPTED : TRAIN_DONE;
    if (run->status != TSR_OK)
        snprintf(run->error, sizeof run->error, "%s", tsr_last_error());
    host_free(t.values);
    recorder_destroy(t.recorder);
    tsr_meter_destroy(t.meter);
    tsr_batches_destroy(t.batches);
    tsr_grad_scaler_destroy(t.scaler);
    tsr_optimizer_destroy(t.optimizer);
    tsr_module_destroy(t.model);
}

void train_run_free(train_run *run)
{
    host_free(run->losses);
    run->losses = NULL;
}
