/* CIFAR-10's binary files: records of a label and the planes of red, green and blue. */
#include "data/cifar10.h"

#include <string.h>

#include "base/compiler.h"
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"

enum { SIDE = 32, PLANE = SIDE * SIDE, IMAGE = 3 * PLANE, RECORD = 1 + IMAGE, CLASSES = 10, RECORDS_MAX = 1 << 20 };

static const char *const train_names[] = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin",
                                          "data_batch_4.bin", "data_batch_5.bin"};
static const char *const test_names[] = {"test_batch.bin"};

tsr_status cifar10_add_records(byte_images *b, const char *path, const uint8_t *bytes, size_t size)
{
    if (size == 0 || size % RECORD != 0)
        return fail(TSR_CORRUPT_DATA, "%s has %zu bytes; CIFAR-10's records have %d each", path, size, RECORD);
    const int64_t more = (int64_t)(size / RECORD);
    uint8_t *samples = host_realloc_array(b->samples, (size_t)(b->count + more), IMAGE);
    if (samples == NULL)
        return tsr_last_status();
    b->samples = samples;
    uint8_t *labels = host_realloc_array(b->labels, (size_t)(b->count + more), 1);
    if (labels == NULL)
        return tsr_last_status();
    b->labels = labels;
    for (int64_t i = 0; i < more; i++) {
        const uint8_t *record = bytes + (size_t)i * RECORD;
        if (record[0] >= CLASSES)
            return fail(TSR_CORRUPT_DATA, "%s: label %lld is %d; CIFAR-10's are 0 to %d", path, (long long)i, record[0],
                        CLASSES - 1);
        labels[b->count + i] = record[0];
        memcpy(samples + (size_t)(b->count + i) * IMAGE, record + 1, IMAGE);
    }
    b->count += more;
    return TSR_OK;
}

static tsr_status read_file(byte_images *b, const char *directory, const char *name)
{
    char path[PATH_SIZE];
    uint8_t *bytes = NULL;
    size_t size;
    tsr_status status = path_join(path, sizeof path, directory, name);
    if (status == TSR_OK)
        status = file_read_all(path, &bytes, &size, (size_t)RECORDS_MAX * RECORD);
    if (status == TSR_NOT_FOUND)
        status = fail(TSR_NOT_FOUND, "CIFAR-10 (binary version) is not in %s: %s", directory, tsr_last_error());
    if (status == TSR_OK)
        status = cifar10_add_records(b, path, bytes, size);
    host_free(bytes);
    return status;
}

tsr_dataset *tsr_cifar10_open(const char *directory, bool train)
{
    /* Of the training images, by channel. */
    static const double means[] = {0.4914, 0.4822, 0.4465}, deviations[] = {0.2470, 0.2435, 0.2616};
    byte_images b = {.elements = IMAGE, .channel = PLANE};
    tsr_status status = directory == NULL ? fail(TSR_INVALID_ARGUMENT, "tsr_cifar10_open: the folder is NULL") : TSR_OK;
    for (size_t i = 0; i < (train ? COUNT_OF(train_names) : COUNT_OF(test_names)) && status == TSR_OK; i++)
        status = read_file(&b, directory, train ? train_names[i] : test_names[i]);
    if (status != TSR_OK) {
        host_free(b.samples);
        host_free(b.labels);
        return NULL;
    }
    for (int c = 0; c < 3; c++)
        byte_images_normalize(&b, c, means[c], deviations[c]);
    return byte_images_dataset(&b, 3, (const int64_t[]){3, SIDE, SIDE}, CLASSES);
}
