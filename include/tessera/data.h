/* Data sets on the host: IDX files (the format of MNIST, plain or gzip), and batches of them in a seeded order. */
#ifndef TESSERA_DATA_H
#define TESSERA_DATA_H

#include "tessera/tensor.h"

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

/* Labelled images on the host. */
typedef struct tsr_dataset tsr_dataset;

/* MNIST (LeCun et al. 1998) from the four files in `directory` (NULL: $TESSERA_DATA_DIR/mnist, the source tree's or installation's
 * data/mnist). Pixels become (x / 255 - 0.1307) / 0.3081, the mean and deviation of the training images.
 * The caller destroys it. Errors as tsr_idx_read; TSR_CORRUPT_DATA where images and labels do not belong together. */
TSR_API tsr_dataset *tsr_mnist_open(const char *directory, bool train);
TSR_API void tsr_dataset_destroy(tsr_dataset *dataset);
TSR_API int64_t tsr_dataset_count(const tsr_dataset *dataset);
/* Rank (≤ 7) and sizes of one sample: 3 and [1, 28, 28]. */
TSR_API int tsr_dataset_sample_shape(const tsr_dataset *dataset, int64_t *shape);
TSR_API int64_t tsr_dataset_classes(const tsr_dataset *dataset);

/* Batches in an order that depends only on seed and epoch (Fisher–Yates with Philox), the same on every device. */
typedef struct tsr_batches tsr_batches;
typedef struct tsr_batches_options {
    int64_t batch; /* required, ≥ 1 */
    bool shuffle;
    uint64_t seed;
    bool drop_last; /* leave out a last batch that is smaller */
} tsr_batches_options;
/* The data set must outlive it. */
TSR_API tsr_batches *tsr_batches_create(tsr_dataset *dataset, tsr_device *device, const tsr_batches_options *options);
TSR_API void tsr_batches_destroy(tsr_batches *batches);
/* Starts an epoch from its beginning. */
TSR_API tsr_status tsr_batches_epoch(tsr_batches *batches, uint64_t epoch);
/* The place: the epoch and how many of its samples were given; and going there, so that the batches to come are the same. */
TSR_API void tsr_batches_place(const tsr_batches *batches, uint64_t *epoch, int64_t *sample);
TSR_API tsr_status tsr_batches_seek(tsr_batches *batches, uint64_t epoch, int64_t sample);
/* The next batch as tensors of the current scope: inputs [n, sample…] f32, targets [n] i64. *count is n, 0 at the epoch's end (then the
 * tensors are NULL). The upload does not wait for the device. */
TSR_API tsr_status tsr_batches_next(tsr_batches *batches, tsr_tensor **inputs, tsr_tensor **targets, int64_t *count);
TSR_API int64_t tsr_batches_per_epoch(const tsr_batches *batches);

#ifdef __cplusplus
}
#endif
#endif
