/* MNIST: reading its files, checking that they belong together. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "data/dataset.h"
#include "data/shipped.h"

enum { SIDE = 28, CLASSES = 10 };

/* ---- reading ------------------------------------------------------------------------------------------------------ */

static tsr_status read_part(const char *directory, const char *name, tsr_idx *idx, char *path, size_t size)
{
    tsr_status status = path_join(path, size, directory, name);
    if (status == TSR_OK)
        status = tsr_idx_read(path, idx);
    if (status == TSR_NOT_FOUND)
        return fail(TSR_NOT_FOUND, "MNIST is not in %s: %s", directory, tsr_last_error());
    return status;
}

static tsr_status check(const tsr_idx *images, const char *images_path, const tsr_idx *labels, const char *labels_path)
{
    if (images->rank != 3 || images->shape[1] != SIDE || images->shape[2] != SIDE) {
        text shape = {0};
        for (int i = 0; i < images->rank; i++)
            text_appendf(&shape, i == 0 ? "%lld" : " x %lld", (long long)images->shape[i]);
        const tsr_status status = fail(TSR_CORRUPT_DATA, "%s holds %s bytes; MNIST's images are N x %d x %d",
                                       images_path, text_string(&shape), SIDE, SIDE);
        text_free(&shape);
        return status;
    }
    if (labels->rank != 1)
        return fail(TSR_CORRUPT_DATA, "%s has %d dimensions; labels have 1. Is it a file of images?", labels_path,
                    labels->rank);
    if (images->shape[0] != labels->shape[0])
        return fail(TSR_CORRUPT_DATA,
                    "%s has %lld images and %s has %lld labels; they do not belong together, fetch both again",
                    images_path, (long long)images->shape[0], labels_path, (long long)labels->shape[0]);
    if (images->shape[0] == 0)
        return fail(TSR_CORRUPT_DATA, "%s holds no image", images_path);
    for (int64_t i = 0; i < labels->shape[0]; i++)
        if (labels->data[i] >= CLASSES)
            return fail(TSR_CORRUPT_DATA, "%s: label %lld is %d; MNIST's are 0 to %d", labels_path, (long long)i,
                        labels->data[i], CLASSES - 1);
    return TSR_OK;
}

tsr_dataset *tsr_mnist_open(const char *directory, bool train)
{
    static const char *const files[] = {"train-images-idx3-ubyte", "train-images-idx3-ubyte.gz", NULL};
    char found[PATH_SIZE], images_path[PATH_SIZE] = "", labels_path[PATH_SIZE] = "";
    tsr_idx images = {0}, labels = {0};
    if (directory == NULL && shipped_data_find("MNIST", "mnist", files, found, sizeof found) != TSR_OK)
        return NULL;
    if (directory == NULL)
        directory = found;

    if (read_part(directory, train ? "train-images-idx3-ubyte" : "t10k-images-idx3-ubyte", &images, images_path,
                  sizeof images_path) != TSR_OK ||
        read_part(directory, train ? "train-labels-idx1-ubyte" : "t10k-labels-idx1-ubyte", &labels, labels_path,
                  sizeof labels_path) != TSR_OK ||
        check(&images, images_path, &labels, labels_path) != TSR_OK) {
        tsr_idx_free(&images);
        tsr_idx_free(&labels);
        return NULL;
    }
    byte_images b = {.count = images.shape[0],
                     .elements = SIDE * SIDE,
                     .samples = images.data,
                     .labels = labels.data,
                     .channel = SIDE * SIDE};
    byte_images_normalize(&b, 0, 0.1307, 0.3081);
    return byte_images_dataset(&b, 3, (const int64_t[]){1, SIDE, SIDE}, CLASSES);
}
