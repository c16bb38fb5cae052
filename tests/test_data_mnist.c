/* The MNIST files that ship with the source, where they are looked for, and files that do not belong together. */
#include "unit.h"

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "data/dataset.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[256];

static int make_folder(void **state)
{
    const char *base = getenv("TMPDIR");
    (void)state;
    unsetenv("TESSERA_DATA_DIR");
    snprintf(folder, sizeof folder, "%s/tessera-mnist-XXXXXX", base != NULL ? base : "/tmp");
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

static void write_file(const char *name, const uint8_t *header, size_t header_size, size_t elements, uint8_t value)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fwrite(header, 1, header_size, f);
    for (size_t i = 0; i < elements; i++)
        fputc(value, f);
    assert_int_equal(fclose(f), 0);
}

static void write_images(const char *name, int count, int height, int width)
{
    const uint8_t header[] = {0, 0, 8, 3, 0, 0, 0, (uint8_t)count, 0, 0, 0, (uint8_t)height, 0, 0, 0, (uint8_t)width};
    write_file(name, header, sizeof header, (size_t)(count * height * width), 100);
}

static void write_labels(const char *name, int count, uint8_t label)
{
    const uint8_t header[] = {0, 0, 8, 1, 0, 0, 0, (uint8_t)count};
    write_file(name, header, sizeof header, (size_t)count, label);
}

static void remove_file(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    unlink(path);
}

#define IMAGES "train-images-idx3-ubyte"
#define LABELS "train-labels-idx1-ubyte"

static void remove_files(void)
{
    remove_file(IMAGES);
    remove_file(LABELS);
}

/* What LeCun's page and everyone's first look at MNIST tell of it. */
static void reads_the_real_files(void **state)
{
    static const uint8_t first[] = {5, 0, 4, 1, 9, 2, 1, 3, 1, 4}, first_test[] = {7, 2, 1, 0, 4, 1, 4, 9, 5, 9};
    static const int counts[10] = {5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949};
    (void)state;
    tsr_dataset *train = tsr_mnist_open(NULL, true), *test = tsr_mnist_open(NULL, false);
    if (train == NULL)
        print_error("%s\n", tsr_last_error());
    assert_non_null(train);
    assert_non_null(test);
    assert_int_equal(tsr_dataset_count(train), 60000);
    assert_int_equal(tsr_dataset_count(test), 10000);
    assert_int_equal(tsr_dataset_classes(train), 10);
    int64_t shape[TSR_MAX_RANK];
    assert_int_equal(tsr_dataset_sample_shape(train, shape), 3);
    assert_true(shape[0] == 1 && shape[1] == 28 && shape[2] == 28);
    int found[10] = {0};
    double sum = 0, squares = 0;
    float pixels[784];
    int64_t label;
    const size_t n = 60000 * 784;
    for (int i = 0; i < 60000; i++) {
        assert_int_equal(dataset_read(train, i, pixels, &label), TSR_OK);
        found[label]++;
        assert_true(i >= (int)sizeof first || label == first[i]);
        for (int k = 0; k < 784; k++) {
            sum += (double)pixels[k];
            squares += (double)pixels[k] * (double)pixels[k];
        }
    }
    assert_memory_equal(found, counts, sizeof counts);
    for (int i = 0; i < (int)sizeof first_test; i++) {
        assert_int_equal(dataset_read(test, i, pixels, &label), TSR_OK);
        assert_int_equal(label, first_test[i]);
    }
    /* Normalised by them, the training images have mean 0 and deviation 1. */
    assert_true(sum / (double)n > -1e-3 && sum / (double)n < 1e-3);
    assert_true(squares / (double)n > 0.999 && squares / (double)n < 1.001);
    tsr_dataset_destroy(train);
    tsr_dataset_destroy(test);
}

static void finds_the_files_by_variable(void **state)
{
    char parent[300];
    (void)state;
    snprintf(parent, sizeof parent, "%s/mnist", folder);
    setenv("TESSERA_DATA_DIR", folder, 1);
    assert_null(tsr_mnist_open(NULL, true)); /* set, and nothing there: no other data in its place */
    assert_int_equal(tsr_last_status(), TSR_NOT_FOUND);
    assert_non_null(strstr(tsr_last_error(), parent));

    const char *source = getenv("TESSERA_SOURCE_DIR");
    if (source == NULL) {
        print_message("skipped the good case: TESSERA_SOURCE_DIR is not set\n");
    } else {
        char data[PATH_SIZE];
        assert_int_equal(path_join(data, sizeof data, source, "data"), TSR_OK);
        setenv("TESSERA_DATA_DIR", data, 1);
        tsr_dataset *d = tsr_mnist_open(NULL, false);
        assert_non_null(d);
        tsr_dataset_destroy(d);
    }
    unsetenv("TESSERA_DATA_DIR");
}

static void check_refused(tsr_status status, const char *says)
{
    const int64_t before = host_live_allocations();
    tsr_clear_error();
    assert_null(tsr_mnist_open(folder, true));
    if (tsr_last_status() != status || strstr(tsr_last_error(), says) == NULL)
        print_error("%s: \"%s\"; expected \"%s\"\n", tsr_status_name(tsr_last_status()), tsr_last_error(), says);
    assert_int_equal(tsr_last_status(), status);
    assert_non_null(strstr(tsr_last_error(), says));
    assert_int_equal(host_live_allocations(), before);
}

static void refuses_what_does_not_belong_together(void **state)
{
    (void)state;
    check_refused(TSR_NOT_FOUND, "MNIST is not in");
    write_images(IMAGES, 3, 28, 28);
    check_refused(TSR_NOT_FOUND, LABELS);
    write_labels(LABELS, 2, 1);
    check_refused(TSR_CORRUPT_DATA, "has 3 images and");
    write_labels(LABELS, 3, 10);
    check_refused(TSR_CORRUPT_DATA, "label 0 is 10");
    write_labels(LABELS, 3, 255);
    check_refused(TSR_CORRUPT_DATA, "label 0 is 255; MNIST's are 0 to 9");
    write_images(LABELS, 3, 28, 28); /* images in the labels' place, and the other way round */
    check_refused(TSR_CORRUPT_DATA, "has 3 dimensions; labels have 1");
    write_labels(LABELS, 3, 9);
    write_labels(IMAGES, 3, 9);
    check_refused(TSR_CORRUPT_DATA, "holds 3 bytes; MNIST's images are N x 28 x 28");
    write_images(IMAGES, 3, 32, 28);
    check_refused(TSR_CORRUPT_DATA, "holds 3 x 32 x 28 bytes");
    write_images(IMAGES, 0, 28, 28);
    write_labels(LABELS, 0, 0);
    check_refused(TSR_CORRUPT_DATA, "holds no image");

    write_images(IMAGES, 3, 28, 28);
    write_labels(LABELS, 3, 9);
    tsr_dataset *d = tsr_mnist_open(folder, true);
    assert_non_null(d);
    assert_int_equal(tsr_dataset_count(d), 3);
    float pixels[784];
    int64_t label;
    assert_int_equal(dataset_read(d, 2, pixels, &label), TSR_OK);
    assert_true(pixels[783] == (float)((100 / 255.0 - 0.1307) / 0.3081));
    assert_int_equal(label, 9);
    tsr_dataset_destroy(d);
    remove_files();
}

static void takes_null(void **state)
{
    int64_t shape[TSR_MAX_RANK];
    (void)state;
    tsr_dataset_destroy(NULL);
    assert_int_equal(tsr_dataset_count(NULL), 0);
    assert_int_equal(tsr_dataset_classes(NULL), 0);
    assert_int_equal(tsr_dataset_sample_shape(NULL, shape), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_the_real_files),
        cmocka_unit_test(finds_the_files_by_variable),
        cmocka_unit_test(refuses_what_does_not_belong_together),
        cmocka_unit_test(takes_null),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
