/* The numbers of a training state, which stand in the metadata of its file. */
#ifndef TESSERA_IO_TRAINING_NUMBERS_H
#define TESSERA_IO_TRAINING_NUMBERS_H

#include "io/safetensors.h"

#define TRAINING_FORMAT "tessera training state 1"

/* In the order of training_keys: whole numbers, then the learning rate. */
enum {
    TRAINING_STEP,
    TRAINING_EPOCH,
    TRAINING_SAMPLE,
    TRAINING_SEED,
    TRAINING_DRAWS,
    TRAINING_HOST_DRAWS,
    TRAINING_WHOLE,
    TRAINING_NUMBERS
};
extern const char *const training_keys[TRAINING_NUMBERS];

typedef struct training_numbers {
    uint64_t whole[TRAINING_WHOLE];
    double lr;
} training_numbers;

/* Checks the format, that the file is of a training with these settings, and each number; path is for messages. */
tsr_status training_numbers_read(const safetensors_header *header, const char *path, const char *settings,
                                 training_numbers *numbers);

#endif
