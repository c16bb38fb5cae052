/* Training on a device that is lost, or has too little memory: it ends with the reason, and soon. */
#include "unit.h"

#include "base/clock.h"
#include "base/memory.h"
#include "base/thread.h"
#include "hal/hal.h"
#include "task.h"
#include "tensor/device.h"
#include "tessera/memory.h"

#include <string.h>
#include <time.h>

static task digits;

static const train_settings settings = {.task = "mnist",
                                        .model = "mlp",
                                        .optimizer = "adam",
                                        .schedule = "constant",
                                        .epochs = 1000,
                                        .batch = 32,
                                        .accumulate = 1,
                                        .weight_decay = -1};

static int open_data(void **state)
{
    (void)state;
    const tsr_status status = task_open_mnist(&digits, &settings);
    if (status != TSR_OK)
        print_error("%s\n", tsr_last_error());
    return status == TSR_OK ? 0 : -1;
}

static int close_data(void **state)
{
    (void)state;
    task_close(&digits);
    return 0;
}

static tsr_device *open_device(train_run *run)
{
    tsr_device *device = tsr_device_open("cpu");
    assert_non_null(device);
    memset(run, 0, sizeof *run);
    assert_int_equal(tsr_device_describe(device, &run->device), TSR_OK);
    return device;
}

static void *lose_later(void *argument)
{
    const struct timespec pause = {.tv_nsec = 300 * 1000 * 1000};
    nanosleep(&pause, NULL);
    hal_device_lose(argument);
    return NULL;
}

static void ends_when_the_device_is_lost(void **state)
{
    train_run run;
    thread other;
    (void)state;
    tsr_device *device = open_device(&run);
    assert_int_equal(thread_start(&other, "lose", lose_later, device->hal), TSR_OK);
    const double began = clock_seconds();
    train_on_device(&settings, &digits, device, &run);
    thread_join(&other);
    assert_true(clock_seconds() - began < 30);
    assert_int_equal(run.end, TRAIN_FAILED);
    assert_int_equal(run.status, TSR_DEVICE_LOST);
    assert_non_null(strstr(run.error, "cpu:0"));
    assert_true(run.steps < run.steps_planned);
    assert_int_equal(run.test_samples, 0);

    /* What was lost stays so; a device opened anew is another. */
    train_run_free(&run);
    train_on_device(&settings, &digits, device, &run);
    assert_int_equal(run.status, TSR_DEVICE_LOST);
    train_run_free(&run);
    tsr_device_close(device);
    device = open_device(&run);
    assert_int_equal(tsr_device_status(device), TSR_OK);
    tsr_device_close(device);
}

static void ends_when_device_memory_runs_out(void **state)
{
    train_run run;
    (void)state;
    tsr_device *device = open_device(&run);
    assert_int_equal(tsr_memory_limit(device, 1 << 20), TSR_OK);
    train_on_device(&settings, &digits, device, &run);
    assert_int_equal(run.end, TRAIN_FAILED);
    assert_int_equal(run.status, TSR_OUT_OF_DEVICE_MEMORY);
    assert_true(strlen(run.error) > 20);
    train_run_free(&run);
    tsr_device_close(device);
}

/* Any allocation of the host may fail: each time that is the reason, and nothing is left behind. */
static void ends_when_host_memory_runs_out(void **state)
{
    train_settings few = settings;
    few.optimizer = "sgd";
    few.steps = 2;
    few.batch = 8;
    few.eval_every = 2;
    train_run run;
    int failures = 0;
    (void)state;
    tsr_device *device = open_device(&run);
    train_on_device(&few, &digits, device, &run); /* so that caches are filled */
    assert_int_equal(run.end, TRAIN_DONE);
    assert_int_equal(run.evaluation_count, 1);
    assert_int_equal(run.evaluations[0].step, 2); /* of all images, as the test at the end */
    assert_true(run.evaluations[0].loss == run.test_loss && run.evaluations[0].accuracy == run.test_accuracy);
    train_run_free(&run);
    tsr_memory_trim(device);
    for (int64_t allowed = 0; allowed < 400; allowed += 1 + allowed / 16) {
        memset(&run, 0, sizeof run);
        const int64_t before = host_live_allocations();
        host_alloc_fail_after(allowed);
        train_on_device(&few, &digits, device, &run);
        host_alloc_fail_after(-1);
        if (run.end == TRAIN_FAILED) {
            assert_true(run.status == TSR_OUT_OF_MEMORY || run.status == TSR_OUT_OF_DEVICE_MEMORY);
            failures++;
        }
        train_run_free(&run);
        tsr_memory_trim(device);
        assert_true(host_live_allocations() <= before);
    }
    assert_true(failures > 10);
    tsr_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ends_when_the_device_is_lost),
        cmocka_unit_test(ends_when_device_memory_runs_out),
        cmocka_unit_test(ends_when_host_memory_runs_out),
    };
    return cmocka_run_group_tests(tests, open_data, close_data);
}
