/* The test of a trained model. */
#include "base/checked.h"
#include "base/clock.h"
#include "base/memory.h"
#include "tessera/autograd.h"
#include "tessera/ops.h"
#include "trainer.h"

typedef struct predictions {
    tsr_tensor *found, *right; /* [n] i64 on the device, read once at the end */
    int64_t count;
} predictions;

static tsr_status keep_batch(tsr_tensor *all, int64_t at, tsr_tensor *part, int64_t count)
{
    tsr_tensor *place = tsr_slice(all, 0, at, at + count, 1);
    return place == NULL ? tsr_last_status() : tsr_copy_into(place, part);
}

static tsr_status keep_predictions(predictions *p, tsr_tensor *logits, tsr_tensor *y, int64_t count)
{
    tsr_tensor *found = tsr_argmax(logits, (const int[]){1}, 1, false);
    if (found == NULL)
        return tsr_last_status();
    const tsr_status status = keep_batch(p->found, p->count, found, count);
    return status == TSR_OK ? keep_batch(p->right, p->count, y, count) : status;
}

static tsr_status test_batch(trainer *t, predictions *p)
{
    tsr_tensor *x, *y, *logits = NULL;
    int64_t count = 0;
    tsr_status status = tsr_batches_next(t->batches, &x, &y, &count);
    if (status != TSR_OK)
        return status;
    tsr_tensor *loss = trainer_loss(t, x, y, &logits);
    if (loss == NULL)
        return tsr_last_status();
    if (t->task->counts_right)
        status = keep_predictions(p, logits, y, count);
    if (status == TSR_OK)
        status = pace_add(&t->pace, loss);
    p->count += count;
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
    t->run->test_accuracy = (double)hits / (double)n;
    return status;
}

static void mean_loss(trainer *t, int64_t count)
{
    const int64_t batch = t->task->test_batch;
    double sum = 0; /* batches are of one size, but perhaps the last */
    for (int64_t i = 0; i < t->pace.arrived; i++)
        sum += (double)t->pace.values[i] * (double)min_i64(batch, count - i * batch);
    t->run->test_samples = count;
    t->run->test_loss = sum / (double)count;
}

/* Slow devices under a budget are tested on a part: forward alone is about a third of a step. */
static int64_t test_size(const trainer *t, int64_t all)
{
    const int64_t batch = t->task->test_batch;
    const double budget = t->settings->budget, speed = t->run->samples_per_second;
    if (budget <= 0 || speed <= 0 || (double)all / (3 * speed) <= budget / 2)
        return all;
    const int64_t fits = (int64_t)(3 * speed * budget / 2) / batch * batch;
    return min_i64(all, max_i64(fits, batch));
}

static tsr_status test_batches(trainer *t, predictions *p, int64_t n)
{
    tsr_status status = TSR_OK;
    while (status == TSR_OK && p->count < n && !interrupted()) {
        status = tsr_scope_begin();
        if (status != TSR_OK)
            break;
        status = test_batch(t, p);
        tsr_scope_end();
        if (status == TSR_OK)
            status = pace_follow(&t->pace);
    }
    return status == TSR_OK && !interrupted() ? pace_catch_up(&t->pace) : status;
}

static tsr_status test_scoped(trainer *t, int64_t n)
{
    predictions p = {0};
    if (t->task->counts_right) {
        p.found = tsr_empty(t->device, TSR_I64, 1, &n);
        p.right = tsr_empty(t->device, TSR_I64, 1, &n);
        if (p.found == NULL || p.right == NULL)
            return tsr_last_status();
    }
    tsr_status status = test_batches(t, &p, n);
    if (status != TSR_OK || interrupted())
        return status;
    mean_loss(t, p.count);
    return t->task->counts_right ? count_right(t, &p) : TSR_OK;
}

tsr_status trainer_test(trainer *t)
{
    tsr_dataset *data = t->task->test;
    /* In an order of its own, so that a part of the test set is a fair one: MNIST's first half is the easier. */
    const tsr_batches_options options = {.batch = t->task->test_batch, .shuffle = true};
    const int64_t n = test_size(t, tsr_dataset_count(data)), batches = (n + options.batch - 1) / options.batch;
    const double began = clock_seconds();
    t->run->test_all = tsr_dataset_count(data);
    tsr_batches_destroy(t->batches);
    t->batches = tsr_batches_create(data, t->device, &options);
    pace_close(&t->pace);
    tsr_status status = t->batches == NULL ? tsr_last_status() : pace_open(&t->pace, t->device, &t->bar, batches);
    if (status == TSR_OK)
        status = tsr_scope_begin();
    if (status != TSR_OK)
        return status;
    t->bar.phase = "test ";
    tsr_module_train(t->model, false);
    tsr_no_grad_begin();
    status = test_scoped(t, n);
    tsr_no_grad_end();
    tsr_scope_end();
    t->run->test_seconds = clock_seconds() - began;
    return status;
}
