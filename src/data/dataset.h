/* Samples with their targets, by number. */
#ifndef TESSERA_DATA_DATASET_H
#define TESSERA_DATA_DATASET_H

#include "tessera/data.h"

struct tsr_dataset {
    tsr_dataset_source source;
    size_t sample_bytes, target_bytes;
};

/* Reads one sample; where the source gives an error without a message, one that names the sample. */
tsr_status dataset_read(const tsr_dataset *dataset, int64_t index, void *sample, void *target);

/* Windows of `context` tokens with the same one token on as targets, i64; tokens are below `vocabulary`. Takes `state` over, on failure too. */
tsr_dataset *windows_dataset(int64_t count, int64_t context, int64_t vocabulary,
                             tsr_status (*read)(void *state, int64_t index, void *sample, void *target),
                             void (*release)(void *state), void *state);

/* Images of bytes with a class each, as MNIST and CIFAR-10 have them. */
typedef struct byte_images {
    int64_t count, elements; /* of an image */
    uint8_t *samples;        /* count × elements; owned */
    uint8_t *labels;         /* count, each < classes; owned */
    int64_t channel;         /* elements of a channel */
    float value[3][256];     /* what a byte becomes, by channel */
} byte_images;

/* value[channel] for numbers x: (x / 255 - mean) / deviation */
void byte_images_normalize(byte_images *images, int channel, double mean, double deviation);
/* Takes samples and labels over, on failure too. rank and shape are of an image. */
tsr_dataset *byte_images_dataset(const byte_images *images, int rank, const int64_t *shape, int64_t classes);

#endif
