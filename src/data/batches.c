/* Batches: the order of an epoch; data/loader.c makes them on the host, data/uploader.c brings them to the device. */
#include <stdint.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/philox.h"
#include "base/profile.h"
#include "data/dataset.h"
#include "data/loader.h"
#include "data/uploader.h"
#include "tensor/device.h"

struct tsr_batches {
    tsr_dataset *dataset;
    tsr_device *device;
    tsr_batches_options options;
    uint32_t *order; /* NULL: as they are numbered */
    uint64_t epoch;
    int64_t next; /* place in the order */
    loader *loader;
    uploader *uploader;
};

/* Fisher and Yates 1938, in Durstenfeld's form, from the stream of this seed and epoch. The order before does not matter. */
static void set_order(tsr_batches *b, uint64_t epoch)
{
    const uint32_t n = (uint32_t)b->dataset->source.count;
    b->epoch = epoch;
    if (b->order == NULL)
        return;
    for (uint32_t i = 0; i < n; i++)
        b->order[i] = i;
    philox_stream s = philox_begin(b->options.seed, PHILOX_ORDER, epoch);
    for (uint32_t i = n; i > 1; i--) {
        const uint32_t j = philox_below(&s, i), last = b->order[i - 1];
        b->order[i - 1] = b->order[j];
        b->order[j] = last;
    }
}

/* Samples that an epoch gives. */
static int64_t samples_given(const tsr_batches *b)
{
    const int64_t n = b->dataset->source.count;
    return b->options.drop_last ? n - n % b->options.batch : n;
}

static void go_to(tsr_batches *b, uint64_t epoch, int64_t sample)
{
    uploader_forget(b->uploader);
    loader_pause(b->loader);
    set_order(b, epoch);
    b->next = sample;
    loader_begin(b->loader, b->order, sample, max_i64(sample, samples_given(b)));
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
    if (options->shuffle && dataset->source.count > UINT32_MAX) {
        fail(TSR_UNSUPPORTED, "a data set of %lld samples: at most 2^32 - 1 can be shuffled",
             (long long)dataset->source.count);
        return NULL;
    }
    tsr_batches *b = host_alloc_zeroed(1, sizeof *b);
    if (b == NULL)
        return NULL;
    b->dataset = dataset;
    b->options = *options;
    b->device = device_retain(device);
    b->order = options->shuffle ? host_realloc_array(NULL, (size_t)dataset->source.count, sizeof *b->order) : NULL;
    hal_queue *queue = b->order == NULL && options->shuffle ? NULL : device_copy_queue(device);
    if (queue != NULL)
        b->loader = loader_create(dataset, device_pinned(device), queue,
                                  &(loader_options){options->batch, options->workers, options->prefetch});
    if (b->loader != NULL)
        b->uploader = uploader_create(dataset, device, b->loader, min_i64(options->batch, dataset->source.count));
    if (b->uploader == NULL) {
        tsr_batches_destroy(b);
        return NULL;
    }
    go_to(b, 0, 0);
    return b;
}

void tsr_batches_destroy(tsr_batches *b)
{
    if (b == NULL)
        return;
    uploader_destroy(b->uploader);
    loader_destroy(b->loader);
    tsr_device_close(b->device);
    host_free(b->order);
    host_free(b);
}

tsr_status tsr_batches_epoch(tsr_batches *b, uint64_t epoch)
{
    if (b == NULL)
        return TSR_INVALID_ARGUMENT;
    go_to(b, epoch, 0);
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
    if (sample < 0 || sample > b->dataset->source.count)
        return fail(TSR_OUT_OF_RANGE, "an epoch has %lld samples; there is no place %lld in it",
                    (long long)b->dataset->source.count, (long long)sample);
    go_to(b, epoch, sample);
    return TSR_OK;
}

static tsr_status next(tsr_batches *b, tsr_tensor **inputs, tsr_tensor **targets, int64_t *count)
{
    if (b == NULL || inputs == NULL || targets == NULL || count == NULL)
        return b == NULL && tsr_last_status() != TSR_OK
                   ? tsr_last_status()
                   : fail(TSR_INVALID_ARGUMENT, "tsr_batches_next: an argument is NULL");
    const tsr_status status = uploader_next(b->uploader, inputs, targets, count);
    b->next += *count;
    return status;
}

tsr_status tsr_batches_next(tsr_batches *b, tsr_tensor **inputs, tsr_tensor **targets, int64_t *count)
{
    profile_span span;
    profile_open(&span, PROFILE_PHASE, "load");
    const memory_label outer = memory_label_open(TSR_MEMORY_DATA, "batches");
    const tsr_status status = next(b, inputs, targets, count);
    memory_label_close(outer);
    profile_close(&span);
    return status;
}

int64_t tsr_batches_per_epoch(const tsr_batches *b)
{
    if (b == NULL)
        return 0;
    const int64_t n = b->dataset->source.count, batch = b->options.batch;
    return n / batch + (n % batch != 0 && !b->options.drop_last);
}

double tsr_batches_waited(const tsr_batches *b)
{
    return b == NULL ? 0 : loader_waited(b->loader);
}
