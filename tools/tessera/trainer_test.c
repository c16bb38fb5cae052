/* The model on the test set. */
#include <math.h>

#include "base/checked.h"
#include "base/clock.h"
#include "base/memory.h"
#include "tessera/autograd.h"
#include "tessera/ops.h"
#include "trainer.h"

typedef struct test {
    trainer *t;
    tsr_batches *batches;
    pace pace;
    tsr_tensor *found,
        *right; /* [samples] i64 on the device, read once at the end; NULL where nothing counts what is right */
    int64_t samples, count; /* and those queued so far */
} test;

static tsr_status keep_batch(tsr_tensor *all, int64_t at, tsr_tensor *part, int64_t count)
{
    tsr_tensor *place = tsr_slice(all, 0, at, at + count, 1);
    return place == NULL ? tsr_last_status() : tsr_copy_into(place, part);
}

static tsr_status keep_predictions(test *e, tsr_tensor *logits, tsr_tensor *y, int64_t count)
{
    tsr_tensor *found = tsr_argmax(logits, (const int[]){1}, 1, false);
    if (found == NULL)
        return tsr_last_status();
    const tsr_status status = keep_batch(e->found, e->count, found, count);
    return status == TSR_OK ? keep_batch(e->right, e->count, y, count) : status;
}

static tsr_status test_batch(test *e)
{
    tsr_tensor *x, *y, *logits = NULL;
    int64_t count = 0;
    tsr_status status = tsr_batches_next(e->batches, &x, &y, &count);
    if (status != TSR_OK)
        return status;
    tsr_tensor *loss = trainer_loss(e->t, x, y, &logits);
    if (loss == NULL)
        return tsr_last_status();
    if (e->found != NULL)
        status = keep_predictions(e, logits, y, count);
    if (status == TSR_OK)
        status = pace_add(&e->pace, loss);
    e->count += count;
    return status;
}

static tsr_status test_batches(test *e)
{
    tsr_status status = TSR_OK;
    while (status == TSR_OK && e->count < e->samples && !interrupted()) {
        status = tsr_scope_begin();
        if (status != TSR_OK)
            break;
        status = test_batch(e);
        tsr_scope_end();
        if (status == TSR_OK)
            status = pace_follow(&e->pace);
    }
    return status == TSR_OK && !interrupted() ? pace_catch_up(&e->pace) : status;
}

static double mean_loss(const test *e)
{
    const int64_t batch = e->t->task->test_batch;
    double sum = 0; /* batches are of one size, but perhaps the last */
    for (int64_t i = 0; i < e->pace.arrived; i++)
        sum += (double)e->pace.values[i] * (double)min_i64(batch, e->count - i * batch);
    return sum / (double)e->count;
}

static tsr_status count_right(const test *e, double *accuracy)
{
    const size_t n = (size_t)e->count;
    int64_t *found = host_realloc_array(NULL, 2 * n, sizeof *found), *right = found + n, hits = 0;
    if (found == NULL)
        return tsr_last_status();
    tsr_status status = tsr_read(e->found, found, n * sizeof *found);
    if (status == TSR_OK)
        status = tsr_read(e->right, right, n * sizeof *right);
    for (size_t i = 0; status == TSR_OK && i < n; i++)
        hits += found[i] == right[i];
    host_free(found);
    *accuracy = (double)hits / (double)n;
    return status;
}

static tsr_status test_scoped(test *e, train_evaluation *result)
{
    if (e->t->task->counts_right) {
        e->found = tsr_empty(e->t->device, TSR_I64, 1, &e->samples);
        e->right = tsr_empty(e->t->device, TSR_I64, 1, &e->samples);
        if (e->found == NULL || e->right == NULL)
            return tsr_last_status();
    }
    tsr_status status = test_batches(e);
    if (status != TSR_OK || interrupted())
        return status;
    if (e->found != NULL)
        status = count_right(e, &result->accuracy);
    result->loss = mean_loss(e);
    result->samples = e->count;
    return status;
}

static tsr_status open_test(test *e)
{
    const task *what = e->t->task;
    /* In an order of its own, so that a part of the test set is a fair one: MNIST's first half is the easier. */
    const tsr_batches_options options = {.batch = what->test_batch, .shuffle = true};
    e->batches = tsr_batches_create(what->test, e->t->device, &options);
    if (e->batches == NULL)
        return tsr_last_status();
    return pace_open(&e->pace, e->t->device, &e->t->bar, (e->samples + options.batch - 1) / options.batch);
}

tsr_status trainer_measure(trainer *t, int64_t samples, train_evaluation *result)
{
    const int64_t all = tsr_dataset_count(t->task->test), batch = t->task->test_batch;
    test e = {.t = t, .samples = min_i64(all, samples >= all ? all : max_i64(samples / batch * batch, batch))};
    *result = (train_evaluation){.loss = NAN, .accuracy = NAN};
    tsr_status status = open_test(&e);
    if (status == TSR_OK)
        status = tsr_scope_begin();
    if (status == TSR_OK) {
        t->bar.phase = "test ";
        tsr_module_train(t->model, false);
        tsr_no_grad_begin();
        status = test_scoped(&e, result);
        tsr_no_grad_end();
        tsr_module_train(t->model, true);
        tsr_scope_end();
        t->bar.phase = "";
    }
    pace_close(&e.pace);
    tsr_batches_destroy(e.batches);
    return status;
}

/* Slow devices under a budget are tested on a part: forward alone is about a third of a step. */
static int64_t test_size(const trainer *t, int64_t all)
{
    const double budget = t->settings->budget, speed = t->run->samples_per_second;
    if (budget <= 0 || speed <= 0 || (double)all / (3 * speed) <= budget / 2)
        return all;
    return min_i64(all, (int64_t)(3 * speed * budget / 2));
}

tsr_status trainer_test(trainer *t)
{
    train_run *r = t->run;
    train_evaluation found;
    const double began = clock_seconds();
    r->test_all = tsr_dataset_count(t->task->test);
    tsr_batches_destroy(t->batches); /* the training's are not needed any more */
    t->batches = NULL;
    pace_close(&t->pace);
    const tsr_status status = trainer_measure(t, test_size(t, r->test_all), &found);
    r->test_samples = found.samples;
    r->test_loss = found.loss;
    r->test_accuracy = found.accuracy;
    r->test_seconds = clock_seconds() - began;
    return status;
}
