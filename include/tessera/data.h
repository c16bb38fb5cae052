/* Data sets on the host (MNIST, CIFAR-10, token files, text, the caller's own), and batches of them in a seeded order, made ahead by workers. */
#ifndef TESSERA_DATA_H
#define TESSERA_DATA_H

#include "tessera/tensor.h"
#include "tessera/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The contents of an IDX file: unsigned bytes, as in MNIST. The caller frees it with tsr_idx_free. */
typedef struct tsr_idx {
    int rank; /* 1…8 */
    int64_t shape[TSR_MAX_RANK];
    uint8_t *data; /* row-major */
} tsr_idx;
/* Reads `path`, or `path`.gz where only that is there; gzip is told by its first bytes. The file is untrusted: magic, rank, sizes,
 * length and trailing bytes are checked, and memory is taken only for what the file can hold.
 * Errors: TSR_NOT_FOUND, TSR_IO_ERROR, TSR_CORRUPT_DATA, TSR_UNSUPPORTED (element types other than unsigned byte). */
TSR_API tsr_status tsr_idx_read(const char *path, tsr_idx *idx);
TSR_API void tsr_idx_free(tsr_idx *idx);

/* Samples with their targets, by number. */
typedef struct tsr_dataset tsr_dataset;

/* A data set of the caller's. */
typedef struct tsr_dataset_source {
    int64_t count; /* samples */
    tsr_dtype sample_dtype, target_dtype;
    int sample_rank, target_rank; /* ≤ 7, without the sample's number; 0: one element */
    int64_t sample_shape[TSR_MAX_RANK - 1], target_shape[TSR_MAX_RANK - 1];
    int64_t classes; /* of the targets; 0: they are no classes */
    /* Writes sample `index`, contiguous, and its target. Called by several threads at once where batches have workers. What it returns other than
     * TSR_OK is what the batch with this sample gives. */
    tsr_status (*read)(void *context, int64_t index, void *sample, void *target);
    void (*release)(void *context); /* with the data set; may be NULL */
    void *context;
} tsr_dataset_source;
/* NULL after an error: no samples, no read, a shape of 0 elements; release has been called then. */
TSR_API tsr_dataset *tsr_dataset_create(const tsr_dataset_source *source);

/* MNIST (LeCun et al. 1998) from the four files in `directory` (NULL: $TESSERA_DATA_DIR/mnist, the source tree's or installation's
 * data/mnist). Pixels become (x / 255 - 0.1307) / 0.3081, the mean and deviation of the training images.
 * The caller destroys it. Errors as tsr_idx_read; TSR_CORRUPT_DATA where images and labels do not belong together. */
TSR_API tsr_dataset *tsr_mnist_open(const char *directory, bool train);
/* CIFAR-10 (Krizhevsky 2009), binary version: data_batch_1.bin … data_batch_5.bin or test_batch.bin in `directory`. Samples f32 [3, 32, 32], each
 * channel less its mean over the training images and divided by its deviation; targets i64, 10 classes. Files are untrusted; errors as
 * tsr_idx_read. */
TSR_API tsr_dataset *tsr_cifar10_open(const char *directory, bool train);

/* A file of token numbers, mapped into memory: little-endian, 1 byte (a text's bytes) or 2 each. Sample i is tokens i · stride … of i64 [context], its
 * target the same one token on. */
typedef struct tsr_tokens_options {
    int64_t context;      /* required, ≥ 1 */
    int64_t stride;       /* 0 means context: no token is in two samples */
    int bytes;            /* of a token: 1 or 2; 0 means 1 */
    int64_t vocabulary;   /* tokens are below it, which is checked as they are read; 0: 256 or 65536 */
    int64_t first, count; /* only these tokens of the file: a part to learn and one to test; count 0: to the end */
} tsr_tokens_options;
/* Errors: TSR_NOT_FOUND, TSR_IO_ERROR; TSR_CORRUPT_DATA where the file holds half a token or not one sample. The file must keep its length. */
TSR_API tsr_dataset *tsr_tokens_open(const char *path, const tsr_tokens_options *options);

/* A text file as tokens: samples and targets as of tsr_tokens_open. Where each byte is a token the file is mapped and must keep its length; else all
 * its tokens are held, 4 bytes each. */
typedef struct tsr_text_options {
    int64_t context; /* required, ≥ 1 */
    int64_t
        stride; /* sample i begins at token i · stride; 0 means context. A stride of 1, shuffled: each place once an epoch */
    int64_t
        windows; /* not 0: so many samples an epoch, each at a place drawn at random, whatever the stride; the same in each epoch */
    uint64_t seed; /* of these places: sample i's depends on seed and i alone */
    double from,
        to; /* only this part of the file, as fractions of its bytes: 0 and 0.9 to learn, 0.9 and 1 to test; to 0 means 1. A cut lies
                      * before the character that it would split */
    bool specials; /* as for tsr_tokenizer_encode */
} tsr_text_options;
/* The tokenizer is needed for the call only. Errors: TSR_NOT_FOUND, TSR_IO_ERROR; TSR_CORRUPT_DATA where the part gives not one sample. */
TSR_API tsr_dataset *tsr_text_open(const char *path, const tsr_tokenizer *tokenizer, const tsr_text_options *options);

TSR_API void tsr_dataset_destroy(tsr_dataset *dataset);
TSR_API int64_t tsr_dataset_count(const tsr_dataset *dataset);
/* Rank (≤ 7) and sizes of one sample: 3 and [1, 28, 28]. */
TSR_API int tsr_dataset_sample_shape(const tsr_dataset *dataset, int64_t *shape);
TSR_API int64_t tsr_dataset_classes(const tsr_dataset *dataset);

/* Batches in an order that depends only on seed and epoch (Fisher–Yates with Philox), the same on every device; or as the samples are numbered. */
typedef struct tsr_batches tsr_batches;
typedef struct tsr_batches_options {
    int64_t batch; /* required, ≥ 1 */
    bool shuffle;
    uint64_t seed;
    bool drop_last; /* leave out a last batch that is smaller */
    int workers; /* threads that make batches ahead; 0: they are made as they are asked for. The batches are the same. */
    int prefetch; /* batches ahead, at most; 0 means two for each worker */
} tsr_batches_options;
/* The data set must outlive it. */
TSR_API tsr_batches *tsr_batches_create(tsr_dataset *dataset, tsr_device *device, const tsr_batches_options *options);
TSR_API void tsr_batches_destroy(tsr_batches *batches);
/* Starts an epoch from its beginning. */
TSR_API tsr_status tsr_batches_epoch(tsr_batches *batches, uint64_t epoch);
/* The place: the epoch and how many of its samples were given; and going there, so that the batches to come are the same. */
TSR_API void tsr_batches_place(const tsr_batches *batches, uint64_t *epoch, int64_t *sample);
TSR_API tsr_status tsr_batches_seek(tsr_batches *batches, uint64_t epoch, int64_t sample);
/* The next batch as tensors of the current scope: inputs [n, sample…], targets [n, target…]. *count is n, 0 at the epoch's end (then the
 * tensors are NULL). The upload does not wait for the device. Errors: what the data set's read gave, again at each call until another place is
 * sought. */
TSR_API tsr_status tsr_batches_next(tsr_batches *batches, tsr_tensor **inputs, tsr_tensor **targets, int64_t *count);
/* Seconds that tsr_batches_next has waited for workers, or made batches itself, since the batches were created. */
TSR_API double tsr_batches_waited(const tsr_batches *batches);
TSR_API int64_t tsr_batches_per_epoch(const tsr_batches *batches);

#ifdef __cplusplus
}
#endif
#endif
