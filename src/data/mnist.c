/* MNIST: finding its files, checking that they belong together. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "data/dataset.h"

enum { SIDE = 28, CLASSES = 10 };

/* ---- where the files are ------------------------------------------------------------------------------------------ */

static bool holds_mnist(const char *directory)
{
    static const char *const names[] = {"train-images-idx3-ubyte", "train-images-idx3-ubyte.gz"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        char path[PATH_SIZE];
        if (path_join(path, sizeof path, directory, names[i]) == TSR_OK && file_exists(path))
            return true;
    }
    return false;
}

/* Looks for `folder` below the folder of the file `start`, and below up to three folders above that: bin/ and lib/ have share/ beside
 * them, lib/x86_64-linux-gnu/ has it one higher. */
static bool find_beside(const char *start, const char *folder, char *out, size_t size)
{
    char above[PATH_SIZE];
    snprintf(above, sizeof above, "%s", start);
    for (int i = 0; i < 4 && strcmp(above, "/") != 0; i++) {
        path_parent(above);
        if (path_join(out, size, above, folder) == TSR_OK && holds_mnist(out))
            return true;
    }
    return false;
}

/* A variable that is set is the answer, right or wrong: no other data are taken in its place. */
static tsr_status find_directory(char *out, size_t size)
{
    const char *variable = getenv("TESSERA_DATA_DIR");
    if (variable != NULL && variable[0] != '\0')
        return path_join(out, size, variable, "mnist");

    char start[PATH_SIZE];
    error_state before;
    error_save(&before);
    if ((path_of_library(start, sizeof start) == TSR_OK && find_beside(start, "share/tessera/data/mnist", out, size)) ||
        (path_of_executable(start, sizeof start) == TSR_OK &&
         (find_beside(start, "share/tessera/data/mnist", out, size) || find_beside(start, "data/mnist", out, size)))) {
        error_restore(&before);
        return TSR_OK;
    }
#ifdef TESSERA_SOURCE_DATA_DIR
    if (path_join(out, size, TESSERA_SOURCE_DATA_DIR, "mnist") == TSR_OK && holds_mnist(out)) {
        error_restore(&before);
        return TSR_OK;
    }
#endif
    return fail(TSR_NOT_FOUND, "the MNIST files are in no share/tessera/data/mnist beside this program or library; set "
                               "TESSERA_DATA_DIR to the folder that has them in mnist/, or name their folder");
}

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
    char found[PATH_SIZE], images_path[PATH_SIZE] = "", labels_path[PATH_SIZE] = "";
    tsr_idx images = {0}, labels = {0};
    if (directory == NULL && find_directory(found, sizeof found) != TSR_OK)
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
