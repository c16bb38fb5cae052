/* Batches made by workers: the same for any number of them, errors where they belong, no thread left; token files and CIFAR-10. */
#include "unit.h"

#include "data/dataset.h"
#include "io_files.h"
#include "tessera/tessera.h"

#include <dirent.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { COUNT = 203, WIDTH = 5, BATCH = 10 };

static tsr_device *device;

static int open_device(void **state)
{
    if (make_folder(state) != 0)
        return -1;
    device = tsr_device_open("cpu");
    return device == NULL ? -1 : 0;
}

static int close_device(void **state)
{
    tsr_device_close(device);
    return remove_folder(state);
}

/* ---- a data set of the caller's ---- */

typedef struct source {
    int64_t bad; /* a sample that cannot be read; -1: none */
    int naps;    /* a sample takes up to so many hundreds of microseconds */
    atomic_int reads;
    int released;
} source;

static tsr_status read_sample(void *context, int64_t number, void *sample, void *target)
{
    source *s = context;
    atomic_fetch_add(&s->reads, 1);
    if (s->naps > 0)
        nanosleep(&(struct timespec){.tv_nsec = number * 7 % s->naps * 100000}, NULL);
    if (number == s->bad)
        return TSR_IO_ERROR;
    for (int i = 0; i < WIDTH; i++)
        ((float *)sample)[i] = (float)(number * WIDTH + i);
    ((int64_t *)target)[0] = number;
    ((int64_t *)target)[1] = -number;
    return TSR_OK;
}

static void release(void *context)
{
    ((source *)context)->released++;
}

static tsr_dataset *dataset_of(source *s)
{
    tsr_dataset *d = tsr_dataset_create(&(tsr_dataset_source){.count = COUNT,
                                                              .sample_dtype = TSR_F32,
                                                              .target_dtype = TSR_I64,
                                                              .sample_rank = 1,
                                                              .target_rank = 1,
                                                              .sample_shape = {WIDTH},
                                                              .target_shape = {2},
                                                              .read = read_sample,
                                                              .release = release,
                                                              .context = s});
    assert_non_null(d);
    return d;
}

/* The numbers of the samples of the next batch; 0 at the end, -1 after an error. */
static int64_t next(tsr_batches *b, int64_t *numbers)
{
    tsr_tensor *x, *y;
    int64_t count, targets[2 * BATCH];
    float samples[WIDTH * BATCH];
    assert_int_equal(tsr_scope_begin(), TSR_OK);
    const tsr_status status = tsr_batches_next(b, &x, &y, &count);
    if (status == TSR_OK && count > 0) {
        assert_true(count <= BATCH);
        assert_int_equal(tsr_rank(y), 2);
        assert_int_equal(tsr_read(x, samples, (size_t)count * WIDTH * sizeof *samples), TSR_OK);
        assert_int_equal(tsr_read(y, targets, (size_t)count * 2 * sizeof *targets), TSR_OK);
        for (int64_t i = 0; i < count; i++) {
            numbers[i] = targets[2 * i];
            assert_int_equal(targets[2 * i + 1], -numbers[i]);
            for (int k = 0; k < WIDTH; k++)
                assert_true(samples[i * WIDTH + k] == (float)(numbers[i] * WIDTH + k));
        }
    }
    assert_int_equal(tsr_scope_end(), TSR_OK);
    return status == TSR_OK ? count : -1;
}

static int64_t epoch_of(tsr_batches *b, int64_t *numbers)
{
    int64_t n = 0;
    for (int64_t count; (count = next(b, numbers + n)) != 0; n += count)
        assert_true(count > 0);
    return n;
}

static int threads(void)
{
    int n = 0;
    DIR *tasks = opendir("/proc/self/task");
    assert_non_null(tasks);
    while (readdir(tasks) != NULL)
        n++;
    closedir(tasks);
    return n;
}

/* ---- order ---- */

static void test_order(void **state)
{
    static const int workers[] = {0, 1, 2, 8};
    static const int64_t places[] = {0, 70, 75, COUNT};
    (void)state;
    for (int drop = 0; drop < 2; drop++) {
        int64_t expected[2 * COUNT + BATCH], got[2 * COUNT + BATCH], n = 0;
        for (size_t w = 0; w < 4; w++) {
            source s = {.bad = -1, .naps = workers[w] > 0 ? 8 : 0};
            tsr_dataset *d = dataset_of(&s);
            tsr_batches *b = tsr_batches_create(d, device,
                                                &(tsr_batches_options){.batch = BATCH,
                                                                       .shuffle = true,
                                                                       .seed = 3,
                                                                       .drop_last = drop == 1,
                                                                       .workers = workers[w],
                                                                       .prefetch = w == 2 ? 3 : 0});
            assert_non_null(b);
            int64_t m = epoch_of(b, got);
            assert_int_equal(m, drop ? COUNT / BATCH * BATCH : COUNT);
            assert_int_equal(next(b, got + m), 0); /* and again */
            assert_int_equal(tsr_batches_epoch(b, 1), TSR_OK);
            m += epoch_of(b, got + m);
            if (w == 0) {
                n = m;
                memcpy(expected, got, sizeof got);
            }
            assert_int_equal(m, n);
            assert_memory_equal(got, expected, (size_t)n * sizeof *got);
            /* From the midst of the first epoch, while batches are being made. */
            for (size_t p = 0; p < 4; p++) {
                int64_t rest[COUNT + BATCH];
                assert_int_equal(tsr_batches_seek(b, 0, places[p]), TSR_OK);
                if (places[p] % BATCH == 0) {
                    const int64_t first = next(b, rest);
                    assert_memory_equal(rest, expected + places[p], (size_t)first * sizeof *rest);
                }
            }
            tsr_batches_destroy(b);
            tsr_dataset_destroy(d);
            assert_int_equal(s.released, 1);
        }
    }
}

/* ---- errors ---- */

static void test_errors(void **state)
{
    (void)state;
    for (int workers = 0; workers < 4; workers++) {
        source s = {.bad = 34};
        tsr_dataset *d = dataset_of(&s);
        tsr_batches *b =
            tsr_batches_create(d, device, &(tsr_batches_options){.batch = BATCH, .workers = workers, .prefetch = 5});
        int64_t numbers[BATCH];
        for (int i = 0; i < 3; i++)
            assert_int_equal(next(b, numbers), BATCH);
        for (int again = 0; again < 2; again++) {
            assert_int_equal(next(b, numbers), -1);
            assert_int_equal(tsr_last_status(), TSR_IO_ERROR);
            assert_non_null(strstr(tsr_last_error(), "sample 34"));
        }
        assert_int_equal(tsr_batches_seek(b, 0, 40), TSR_OK); /* behind it */
        assert_int_equal(next(b, numbers), BATCH);
        assert_int_equal(numbers[0], 40);
        tsr_batches_destroy(b);
        tsr_dataset_destroy(d);
    }
    source s = {.bad = -1};
    tsr_dataset_source without = {
        .count = 1, .sample_dtype = TSR_F32, .target_dtype = TSR_F32, .release = release, .context = &s};
    assert_null(tsr_dataset_create(&without));
    assert_int_equal(s.released, 1);
    tsr_dataset *d = dataset_of(&s);
    assert_null(tsr_batches_create(d, device, &(tsr_batches_options){.batch = 1, .workers = -1}));
    assert_non_null(strstr(tsr_last_error(), "-1 workers"));
    tsr_dataset_destroy(d);
}

/* An early end joins all workers, also those in the midst of a batch, and reads no more of it. */
static void test_early_end(void **state)
{
    (void)state;
    const int before = threads();
    for (int taken = 0; taken < 3; taken++) {
        source s = {.bad = -1, .naps = 20};
        tsr_dataset *d = dataset_of(&s);
        tsr_batches *b =
            tsr_batches_create(d, device, &(tsr_batches_options){.batch = BATCH, .workers = 4, .prefetch = 4});
        int64_t numbers[BATCH];
        assert_int_equal(threads(), before + 4);
        for (int i = 0; i < taken; i++)
            assert_int_equal(next(b, numbers), BATCH);
        tsr_batches_destroy(b);
        assert_int_equal(threads(), before);
        assert_true(atomic_load(&s.reads) <= (taken + 4) * BATCH); /* never further ahead than allowed */
        tsr_dataset_destroy(d);
    }
}

/* ---- files ---- */

static void test_tokens(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    const char *path = path_in_folder("tokens");
    int64_t x[4], y[4];
    write_file(path, bytes, sizeof bytes);
    tsr_dataset *d = tsr_tokens_open(path, &(tsr_tokens_options){.context = 4});
    assert_non_null(d);
    assert_int_equal(tsr_dataset_count(d), 2);
    assert_int_equal(tsr_dataset_classes(d), 256);
    assert_int_equal(dataset_read(d, 1, x, y), TSR_OK);
    for (int i = 0; i < 4; i++)
        assert_true(x[i] == 5 + i && y[i] == 6 + i);
    tsr_dataset_destroy(d);

    d = tsr_tokens_open(path,
                        &(tsr_tokens_options){.context = 4, .stride = 1, .first = 2, .count = 7, .vocabulary = 10});
    assert_int_equal(tsr_dataset_count(d), 3);
    assert_int_equal(dataset_read(d, 0, x, y), TSR_OK);
    assert_true(x[0] == 3 && y[3] == 7);
    assert_int_equal(dataset_read(d, 2, x, y), TSR_OK);
    assert_int_equal(y[3], 9);
    tsr_dataset_destroy(d);

    d = tsr_tokens_open(path, &(tsr_tokens_options){.context = 4, .stride = 1, .vocabulary = 10});
    assert_int_equal(dataset_read(d, 7, x, y), TSR_CORRUPT_DATA);
    assert_non_null(strstr(tsr_last_error(), "token 9 of the file is 10"));
    tsr_dataset_destroy(d);

    d = tsr_tokens_open(path, &(tsr_tokens_options){.context = 4, .bytes = 2});
    assert_int_equal(tsr_dataset_count(d), 1);
    assert_int_equal(dataset_read(d, 0, x, y), TSR_OK);
    assert_true(x[0] == 0x201 && y[3] == 0xa09);
    tsr_dataset_destroy(d);

    assert_null(tsr_tokens_open(path, &(tsr_tokens_options){.context = 12}));
    assert_int_equal(tsr_last_status(), TSR_CORRUPT_DATA);
    assert_null(tsr_tokens_open(path, &(tsr_tokens_options){.context = 1, .first = INT64_MAX}));
    assert_null(tsr_tokens_open(path, &(tsr_tokens_options){.context = 0}));
    assert_null(tsr_tokens_open(path, &(tsr_tokens_options){.context = INT64_MAX}));
    write_file(path, bytes, 3);
    assert_null(tsr_tokens_open(path, &(tsr_tokens_options){.context = 1, .bytes = 2}));
    assert_non_null(strstr(tsr_last_error(), "odd"));
    remove(path);
    assert_null(tsr_tokens_open(path, &(tsr_tokens_options){.context = 1}));
    assert_int_equal(tsr_last_status(), TSR_NOT_FOUND);
}

enum { RECORD = 3073 };

static void test_cifar10(void **state)
{
    (void)state;
    static uint8_t records[2 * RECORD];
    static float image[3072];
    int64_t label, shape[TSR_MAX_RANK];
    const char *path = path_in_folder("test_batch.bin"), *parent = folder;
    assert_null(tsr_cifar10_open(parent, false));
    assert_int_equal(tsr_last_status(), TSR_NOT_FOUND);
    records[0] = 3;
    records[RECORD] = 9;
    records[RECORD + 1] = 255;        /* red */
    records[RECORD + 1 + 1024] = 51;  /* green */
    records[RECORD + 1 + 2048] = 102; /* blue */
    write_file(path, records, sizeof records);
    tsr_dataset *d = tsr_cifar10_open(parent, false);
    assert_non_null(d);
    assert_int_equal(tsr_dataset_count(d), 2);
    assert_int_equal(tsr_dataset_sample_shape(d, shape), 3);
    assert_true(shape[0] == 3 && shape[1] == 32 && shape[2] == 32);
    assert_int_equal(dataset_read(d, 1, image, &label), TSR_OK);
    assert_int_equal(label, 9);
    assert_true(image[0] == (float)((1 - 0.4914) / 0.2470) && image[1024] == (float)((0.2 - 0.4822) / 0.2435) &&
                image[2048] == (float)((0.4 - 0.4465) / 0.2616));
    tsr_dataset_destroy(d);
    assert_null(tsr_cifar10_open(parent, true));
    records[RECORD] = 10;
    write_file(path, records, sizeof records);
    assert_null(tsr_cifar10_open(parent, false));
    assert_non_null(strstr(tsr_last_error(), "label 1 is 10"));
    write_file(path, records, sizeof records - 1);
    assert_null(tsr_cifar10_open(parent, false));
    assert_int_equal(tsr_last_status(), TSR_CORRUPT_DATA);
    remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),  cmocka_unit_test(test_errors),  cmocka_unit_test(test_early_end),
        cmocka_unit_test(test_tokens), cmocka_unit_test(test_cifar10),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
