/* Data sets of any source. */
#include "data/dataset.h"

#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"
#include "tensor/tensor.h"

static bool bytes_of(int rank, const int64_t *shape, tsr_dtype dtype, size_t *bytes)
{
    int64_t n;
    return rank >= 0 && rank < TSR_MAX_RANK && shape_numel(rank, shape, &n) && n > 0 && tsr_dtype_size(dtype) > 0 &&
           checked_mul_size((size_t)n, tsr_dtype_size(dtype), bytes);
}

tsr_dataset *tsr_dataset_create(const tsr_dataset_source *s)
{
    if (s == NULL)
        return NULL;
    tsr_dataset *d = host_alloc_zeroed(1, sizeof *d);
    bool valid = d != NULL;
    if (valid) {
        d->source = *s;
        valid = s->read != NULL && s->count >= 1 &&
                bytes_of(s->sample_rank, s->sample_shape, s->sample_dtype, &d->sample_bytes) &&
                bytes_of(s->target_rank, s->target_shape, s->target_dtype, &d->target_bytes);
        if (!valid)
            fail(TSR_INVALID_ARGUMENT,
                 "a data set needs a function that reads, samples, and shapes of at least one element");
    }
    if (valid)
        return d;
    if (s->release != NULL)
        s->release(s->context);
    host_free(d);
    return NULL;
}

void tsr_dataset_destroy(tsr_dataset *d)
{
    if (d == NULL)
        return;
    if (d->source.release != NULL)
        d->source.release(d->source.context);
    host_free(d);
}

tsr_status dataset_read(const tsr_dataset *d, int64_t index, void *sample, void *target)
{
    tsr_clear_error();
    const tsr_status status = d->source.read(d->source.context, index, sample, target);
    if (status != TSR_OK && tsr_last_status() == TSR_OK)
        return fail(status, "sample %lld of the data set could not be read", (long long)index);
    return status;
}

int64_t tsr_dataset_count(const tsr_dataset *d)
{
    return d == NULL ? 0 : d->source.count;
}

int tsr_dataset_sample_shape(const tsr_dataset *d, int64_t *shape)
{
    if (d == NULL)
        return 0;
    memcpy(shape, d->source.sample_shape, (size_t)d->source.sample_rank * sizeof *shape);
    return d->source.sample_rank;
}

int64_t tsr_dataset_classes(const tsr_dataset *d)
{
    return d == NULL ? 0 : d->source.classes;
}

/* ---- images of bytes ---- */

static tsr_status read_image(void *context, int64_t index, void *sample, void *target)
{
    const byte_images *b = context;
    const uint8_t *from = b->samples + (size_t)index * (size_t)b->elements;
    float *to = sample;
    for (int64_t first = 0; first < b->elements; first += b->channel) {
        const float *value = b->value[first / b->channel];
        for (int64_t i = first; i < first + b->channel; i++)
            to[i] = value[from[i]];
    }
    *(int64_t *)target = b->labels[index];
    return TSR_OK;
}

static void release_images(void *context)
{
    byte_images *b = context;
    host_free(b->samples);
    host_free(b->labels);
    host_free(b);
}

void byte_images_normalize(byte_images *b, int channel, double mean, double deviation)
{
    for (int x = 0; x < 256; x++)
        b->value[channel][x] = (float)((x / 255.0 - mean) / deviation);
}

tsr_dataset *byte_images_dataset(const byte_images *images, int rank, const int64_t *shape, int64_t classes)
{
    byte_images *b = host_alloc(sizeof *b);
    if (b == NULL) {
        host_free(images->samples);
        host_free(images->labels);
        return NULL;
    }
    *b = *images;
    tsr_dataset_source s = {.count = b->count,
                            .sample_dtype = TSR_F32,
                            .target_dtype = TSR_I64,
                            .sample_rank = rank,
                            .classes = classes,
                            .read = read_image,
                            .release = release_images,
                            .context = b};
    memcpy(s.sample_shape, shape, (size_t)rank * sizeof *shape);
    return tsr_dataset_create(&s);
}

tsr_dataset *windows_dataset(int64_t count, int64_t context, int64_t vocabulary,
                             tsr_status (*read)(void *state, int64_t index, void *sample, void *target),
                             void (*release)(void *state), void *state)
{
    return tsr_dataset_create(&(tsr_dataset_source){.count = count,
                                                    .sample_dtype = TSR_I64,
                                                    .target_dtype = TSR_I64,
                                                    .sample_rank = 1,
                                                    .target_rank = 1,
                                                    .sample_shape = {context},
                                                    .target_shape = {context},
                                                    .classes = vocabulary,
                                                    .read = read,
                                                    .release = release,
                                                    .context = state});
}
