/* Batches: the order of an epoch, gathering on the host, the upload. */
#include <stdint.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/philox.h"
#include "data/dataset.h"
#include "tensor/device.h"

struct tsr_batches {
    tsr_dataset *dataset;
    tsr_device *device;
    tsr_batches_options options;
    uint32_t *order;
    uint64_t epoch;
    int64_t next; /* place in the order */
    float *inputs;
    int64_t *targets; /* both: room for a batch */
};

/* Fisher and Yates 1938, in Durstenfeld's form, from the stream of this seed and epoch. The order before does not matter. */
static void set_order(tsr_batches *b, uint64_t epoch)
{
    const uint32_t n = (uint32_t)b->dataset->count;
    b->epoch = epoch;
    for (uint32_t i = 0; i < n; i++)
        b->order[i] = i;
    if (!b->options.shuffle)
        return;
    philox_stream s = philox_begin(b->options.seed, PHILOX_ORDER, epoch);
    for (uint32_t i = n; i > 1; i--) {
        const uint32_t j = philox_below(&s, i), last = b->order[i - 1];
        b->order[i - 1] = b->order[j];
        b->order[j] = last;
    }
}

tsr_batches *tsr_batches_create(tsr_dataset *dataset, tsr_device *device, const tsr_batches_options *options)
{
    if (dataset == NULL || device == NULL)
        return NULL;
    if (options == NULL || options->batch < 1) {
        fail(TSR_INVALID_ARGUMENT, "batches of %lld samples: a batch holds at least 1",
             options == NULL ? 0LL : (long long)options->batch);
        return NULL;
    }
    if (dataset->count > UINT32_MAX) {
        fail(TSR_UNSUPPORTED, "a data set of %lld samples: at most 2^32 - 1", (long long)dataset->count);
        return NULL;
    }
    tsr_batches *b = host_alloc_zeroed(1, sizeof *b);
    if (b == NULL)
        return NULL;
    b->dataset = dataset;
    b->options = *options;
    b->device = device_retain(device);
    const size_t room = (size_t)min_i64(options->batch, dataset->count);
    b->order = host_realloc_array(NULL, (size_t)dataset->count, sizeof *b->order);
    b->inputs = host_realloc_array(NULL, room, (size_t)dataset->sample_elements * sizeof *b->inputs);
    b->targets = host_realloc_array(NULL, room, sizeof *b->targets);
    if (b->order == NULL || b->inputs == NULL || b->targets == NULL) {
        tsr_batches_destroy(b);
        return NULL;
    }
    set_order(b, 0);
    return b;
}

void tsr_batches_destroy(tsr_batches *b)
{
    if (b == NULL)
        return;
    tsr_device_close(b->device);
    host_free(b->order);
    host_free(b->inputs);
    host_free(b->targets);
    host_free(b);
}

tsr_status tsr_batches_epoch(tsr_batches *b, uint64_t epoch)
{
    if (b == NULL)
        return TSR_INVALID_ARGUMENT;
    set_order(b, epoch);
    b->next = 0;
    return TSR_OK;
}

void tsr_batches_place(const tsr_batches *b, uint64_t *epoch, int64_t *sample)
{
    *epoch = b == NULL ? 0 : b->epoch;
    *sample = b == NULL ? 0 : b->next;
}

tsr_status tsr_batches_seek(tsr_batches *b, uint64_t epoch, int64_t sample)
{
    if (b == NULL)
        return TSR_INVALID_ARGUMENT;
    if (sample < 0 || sample > b->dataset->count)
        return fail(TSR_OUT_OF_RANGE, "an epoch has %lld samples; there is no place %lld in it",
                    (long long)b->dataset->count, (long long)sample);
    set_order(b, epoch);
    b->next = sample;
    return TSR_OK;
}

static void gather(const tsr_batches *b, int64_t n)
{
    const tsr_dataset *d = b->dataset;
    const float *value = d->value;
    for (int64_t i = 0; i < n; i++) {
        const size_t sample = b->order[b->next + i], size = (size_t)d->sample_elements;
        const uint8_t *from = d->samples + sample * size;
        float *to = b->inputs + (size_t)i * size;
        for (size_t k = 0; k < size; k++)
            to[k] = value[from[k]];
        b->targets[i] = d->labels[sample];
    }
}

tsr_status tsr_batches_next(tsr_batches *b, tsr_tensor **inputs, tsr_tensor **targets, int64_t *count)
{
    if (b == NULL || inputs == NULL || targets == NULL || count == NULL)
        return b == NULL && tsr_last_status() != TSR_OK
                   ? tsr_last_status()
                   : fail(TSR_INVALID_ARGUMENT, "tsr_batches_next: an argument is NULL");
    const int64_t n = min_i64(b->options.batch, b->dataset->count - b->next);
    *inputs = *targets = NULL;
    *count = 0;
    if (n == 0 || (n < b->options.batch && b->options.drop_last))
        return TSR_OK;

    int64_t shape[TSR_MAX_RANK] = {n};
    memcpy(shape + 1, b->dataset->shape, (size_t)b->dataset->rank * sizeof *shape);
    gather(b, n);
    /* The upload has copied the host's data when it returns, so the next batch may be gathered over them. */
    tsr_tensor *x = tsr_from_data(b->device, TSR_F32, 1 + b->dataset->rank, shape, b->inputs);
    tsr_tensor *y = x == NULL ? NULL : tsr_from_data(b->device, TSR_I64, 1, shape, b->targets);
    if (y == NULL) {
        tsr_release(tsr_keep(x)); /* now, whether or not a scope is open */
        return tsr_last_status();
    }
    b->next += n;
    *inputs = x;
    *targets = y;
    *count = n;
    return TSR_OK;
}

int64_t tsr_batches_per_epoch(const tsr_batches *b)
{
    if (b == NULL)
        return 0;
    const int64_t n = b->dataset->count, batch = b->options.batch;
    return n / batch + (n % batch != 0 && !b->options.drop_last);
}
