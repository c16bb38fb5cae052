/* Labelled samples of bytes in host memory. */
#ifndef TESSERA_DATA_DATASET_H
#define TESSERA_DATA_DATASET_H

#include "tessera/data.h"

struct tsr_dataset {
    int64_t count;
    int rank; /* of a sample, without its number */
    int64_t shape[TSR_MAX_RANK - 1];
    int64_t sample_elements;
    int64_t classes;
    uint8_t *samples; /* count × sample_elements */
    uint8_t *labels;  /* count, each < classes */
    float value[256]; /* what a byte becomes */
};

#endif
