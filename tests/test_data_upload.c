/* Batches on their way to the device, on the operators' queue and on one of their own, on every device: the right values however far the host is ahead,
 * whoever keeps tensors, wherever it goes on; no memory from the driver and no wait after the first steps. */
#include "tests/op_reference.h"

#include <time.h>

#include "base/compiler.h"
#include "data/dataset.h"
#include "tensor/device.h"
#include "tessera/memory.h"

enum { COUNT = 96, WIDTH = 4096, BATCH = 16, STEPS = 40 };

/* Element k of sample i is i + k mod 8, exact in f32 in all sums below; its target is i. */
static tsr_status read_sample(void *context, int64_t number, void *to, void *target)
{
    (void)context;
    for (int k = 0; k < WIDTH; k++)
        ((float *)to)[k] = (float)(number + k % 8);
    *(int32_t *)target = (int32_t)number;
    return TSR_OK;
}

static tsr_dataset *make_dataset(void)
{
    return tsr_dataset_create(&(tsr_dataset_source){.count = COUNT,
                                                    .sample_dtype = TSR_F32,
                                                    .target_dtype = TSR_I32,
                                                    .sample_rank = 1,
                                                    .sample_shape = {WIDTH},
                                                    .read = read_sample});
}

static float sum_of(int64_t number)
{
    return (float)(WIDTH * number + WIDTH / 8 * 28);
}

/* Steps that the host queues as fast as it can. Each uses its batch at once and again after products that take the device a while, so that an upload which comes
 * too early spoils the second sum. */
static void steps_keep_their_batches(const run *r)
{
    static const int workers[] = {0, 1, 2, 8};
    tsr_dataset *d = make_dataset();
    const float half[1] = {0.5f};
    for (size_t w = 0; w < COUNT_OF(workers); w++) {
        const tsr_batches_options options = {.batch = BATCH, .shuffle = true, .seed = 7, .workers = workers[w]};
        tsr_batches *b = tsr_batches_create(d, r->device, &options);
        assert_non_null(b);
        tsr_tensor *sums[STEPS][2], *numbers[STEPS];
        tsr_device_counters before = {0};
        tsr_tensor *scale = tsr_keep(tsr_from_data(r->device, TSR_F32, 1, (const int64_t[]){1}, half));
        int64_t count, steps = 0;
        for (uint64_t epoch = 0; steps < STEPS; steps++) {
            tsr_tensor *x, *y;
            assert_int_equal(tsr_scope_begin(), TSR_OK);
            assert_int_equal(tsr_batches_next(b, &x, &y, &count), TSR_OK);
            if (count == 0) {
                assert_int_equal(tsr_batches_epoch(b, ++epoch), TSR_OK);
                assert_int_equal(tsr_batches_next(b, &x, &y, &count), TSR_OK);
            }
            assert_int_equal(count, BATCH);
            sums[steps][0] = tsr_keep(tsr_sum(x, (const int[]){1}, 1, false));
            tsr_tensor *h = x;
            for (int i = 0; i < 6; i++)
                h = tsr_mul(tsr_add(h, x), scale); /* stays x */
            sums[steps][1] = tsr_keep(tsr_sum(h, (const int[]){1}, 1, false));
            numbers[steps] = tsr_keep(tsr_clone(y));
            assert_non_null(sums[steps][0]);
            assert_non_null(sums[steps][1]);
            assert_non_null(numbers[steps]);
            assert_int_equal(tsr_scope_end(), TSR_OK);
            if (steps == 2)
                before = tsr_device_counters_get(r->device);
        }
        const tsr_device_counters after = tsr_device_counters_get(r->device);
        assert_int_equal(after.driver_allocations, before.driver_allocations);
        assert_int_equal(after.host_waits, before.host_waits);
        int wrong = 0;
        bool seen[COUNT] = {false};
        for (int64_t s = 0; s < STEPS; s++) {
            float got[2][BATCH];
            int32_t number[BATCH];
            for (int k = 0; k < 2; k++)
                assert_int_equal(tsr_read(sums[s][k], got[k], sizeof got[k]), TSR_OK);
            assert_int_equal(tsr_read(numbers[s], number, sizeof number), TSR_OK);
            for (int i = 0; i < BATCH; i++) {
                wrong += got[0][i] != sum_of(number[i]) || got[1][i] != sum_of(number[i]);
                if (s < COUNT / BATCH) {
                    assert_in_range(number[i], 0, COUNT - 1);
                    assert_false(seen[number[i]]);
                    seen[number[i]] = true;
                }
            }
            tsr_release(sums[s][0]);
            tsr_release(sums[s][1]);
            tsr_release(numbers[s]);
        }
        if (wrong > 0)
            print_error("%s, %d workers: %d of %d samples are spoilt\n", r->name, workers[w], wrong, STEPS * BATCH);
        assert_int_equal(wrong, 0);
        tsr_release(scale);
        tsr_batches_destroy(b);
    }
    tsr_dataset_destroy(d);
}

static void check_batch(tsr_tensor *x, tsr_tensor *y, int64_t first, int64_t count)
{
    float values[BATCH * 8];
    int32_t numbers[BATCH];
    tsr_tensor *part = tsr_contiguous(tsr_narrow(x, 1, 0, 8));
    assert_int_equal(tsr_shape(x)[0], count);
    assert_int_equal(tsr_read(part, values, (size_t)count * 8 * sizeof *values), TSR_OK);
    assert_int_equal(tsr_read(y, numbers, (size_t)count * sizeof *numbers), TSR_OK);
    for (int64_t i = 0; i < count; i++) {
        assert_int_equal(numbers[i], first + i);
        for (int k = 0; k < 8; k++)
            assert_true(values[i * 8 + k] == (float)(first + i + k));
    }
}

/* A caller may keep any number of batches; their contents stay. Also after the batches are gone. */
static void kept_batches_stay(const run *r)
{
    enum { KEPT = 5 };
    tsr_dataset *d = make_dataset();
    tsr_tensor *x[KEPT], *y[KEPT];
    int64_t count;
    for (int workers = 0; workers < 3; workers += 2) {
        tsr_batches *b = tsr_batches_create(d, r->device, &(tsr_batches_options){.batch = BATCH, .workers = workers});
        for (int i = 0; i < KEPT; i++)
            assert_int_equal(tsr_batches_next(b, &x[i], &y[i], &count), TSR_OK);
        tsr_batches_destroy(b);
        for (int i = 0; i < KEPT; i++) {
            assert_int_equal(tsr_scope_begin(), TSR_OK);
            check_batch(x[i], y[i], i * BATCH, BATCH);
            assert_int_equal(tsr_scope_end(), TSR_OK);
            tsr_release(x[i]);
            tsr_release(y[i]);
        }
    }
    tsr_dataset_destroy(d);
}

/* What was uploaded ahead is forgotten. The last batch is smaller. */
static void goes_on_elsewhere(const run *r)
{
    static const int64_t places[] = {0, 48, 32, 90, 16, 0, 80, 96, 5};
    tsr_dataset *d = make_dataset();
    tsr_batches *b = tsr_batches_create(d, r->device, &(tsr_batches_options){.batch = BATCH, .workers = 2});
    for (size_t p = 0; p < COUNT_OF(places); p++) {
        assert_int_equal(tsr_batches_seek(b, 0, places[p]), TSR_OK);
        for (int64_t at = places[p], n = 0; n < 3; n++) {
            tsr_tensor *x, *y;
            int64_t count, place;
            uint64_t epoch;
            assert_int_equal(tsr_scope_begin(), TSR_OK);
            assert_int_equal(tsr_batches_next(b, &x, &y, &count), TSR_OK);
            assert_int_equal(count, at + BATCH <= COUNT ? BATCH : COUNT - at);
            if (count > 0)
                check_batch(x, y, at, count);
            assert_int_equal(tsr_scope_end(), TSR_OK);
            at += count;
            tsr_batches_place(b, &epoch, &place);
            assert_int_equal(place, at); /* not of what is ahead */
        }
    }
    tsr_batches_destroy(b);
    tsr_dataset_destroy(d);
}

/* Nothing of the batches' is left on the device. */
static void gives_memory_back(const run *r)
{
    enum { HEIRS = 12 };
    tsr_memory_statistics before, after;
    tsr_dataset *d = make_dataset();
    tsr_tensor *x, *y;
    int64_t count;
    assert_int_equal(tsr_memory_stats(r->device, &before), TSR_OK);
    tsr_batches *b = tsr_batches_create(d, r->device, &(tsr_batches_options){.batch = BATCH, .workers = 1});
    for (int i = 0; i < 3; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL); /* so that the next is ready and goes ahead */
        assert_int_equal(tsr_scope_begin(), TSR_OK);
        assert_int_equal(tsr_batches_next(b, &x, &y, &count), TSR_OK);
        assert_int_equal(tsr_scope_end(), TSR_OK);
    }
    tsr_batches_destroy(b); /* with one on its way */
    assert_int_equal(tsr_memory_stats(r->device, &after), TSR_OK);
    assert_int_equal(after.blocks_in_use, before.blocks_in_use);
    /* Who gets the memory next is not disturbed by what was on its way. */
    tsr_tensor *heirs[HEIRS];
    for (int i = 0; i < HEIRS; i++)
        heirs[i] = tsr_full(r->device, TSR_F32, 2, (const int64_t[]){BATCH, WIDTH}, 3);
    for (int i = 0; i < HEIRS; i++) {
        static float values[BATCH * WIDTH];
        assert_int_equal(tsr_read(heirs[i], values, sizeof values), TSR_OK);
        bool kept = true;
        for (int k = 0; k < BATCH * WIDTH; k++)
            kept = kept && values[k] == 3;
        assert_true(kept);
        tsr_release(heirs[i]);
    }
    tsr_dataset_destroy(d);
}

/* A device decides once, when its copies begin: so each choice has the device opened anew. */
static void on_each_queue(void (*body)(const run *))
{
    static tsr_device_info rows[32];
    size_t count = 0;
    assert_int_equal(tsr_device_list(rows, 32, &count), TSR_OK);
    for (size_t i = 0; i < count && i < 32; i++)
        for (int own = 0; own < 2; own++) {
            run r = {.dtypes = rows[i].dtypes};
            if (!device_wanted(rows[i].id) || strcmp(rows[i].backend, "null") == 0)
                continue;
            snprintf(r.name, sizeof r.name, "%.30s, %s", rows[i].id, own ? "a queue of its own" : "one queue");
            setenv("TESSERA_COPY_QUEUE", own ? "1" : "0", 1);
            r.device = tsr_device_open(rows[i].id);
            assert_non_null(r.device);
            print_message("%s\n", r.name);
            body(&r);
            assert_true((device_copy_queue(r.device) != device_queue(r.device)) == (own == 1));
            tsr_device_close(r.device);
            unsetenv("TESSERA_COPY_QUEUE");
        }
}

#define ON_EACH_QUEUE(body)                                                                                            \
    static void test_##body(void **state)                                                                              \
    {                                                                                                                  \
        (void)state;                                                                                                   \
        on_each_queue(body);                                                                                           \
    }
ON_EACH_QUEUE(steps_keep_their_batches)
ON_EACH_QUEUE(kept_batches_stay)
ON_EACH_QUEUE(goes_on_elsewhere)
ON_EACH_QUEUE(gives_memory_back)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps_keep_their_batches),
        cmocka_unit_test(test_kept_batches_stay),
        cmocka_unit_test(test_goes_on_elsewhere),
        cmocka_unit_test(test_gives_memory_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
