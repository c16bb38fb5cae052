/* Losing a CUDA device, and running out of memory anywhere: on whatever driver there is, see test_cuda_device.c. */
#include "fake_cuda/cuda_test.h"

#include "base/memory.h"

/* ---- loss and failures ------------------------------------------------------------------------------------------- */

static void everything_is_lost(hal_device *device, hal_queue *queue, hal_buffer *buffer, hal_event *event)
{
    hal_buffer *b;
    hal_queue *q;
    bool done;
    uint32_t word = 0;

    /* The backend's own entries: the front would not let these calls through. */
    FAILS(TSR_DEVICE_LOST, cuda_backend.device_status(device));
    FAILS(TSR_DEVICE_LOST, cuda_backend.sync(queue));
    FAILS(TSR_DEVICE_LOST, cuda_backend.flush(queue));
    FAILS(TSR_DEVICE_LOST, cuda_backend.write(queue, buffer, 0, &word, 4));
    FAILS(TSR_DEVICE_LOST, cuda_backend.fill(queue, buffer, 0, 4, 0));
    FAILS(TSR_DEVICE_LOST, cuda_backend.buffer_alloc(device, HAL_MEMORY_DEVICE, 16, &b));
    FAILS(TSR_DEVICE_LOST, cuda_backend.queue_create(device, HAL_QUEUE_COMPUTE, &q));
    FAILS(TSR_DEVICE_LOST, cuda_backend.event_record(queue, event));
    FAILS(TSR_DEVICE_LOST, cuda_backend.event_query(event, &done));
    FAILS(TSR_DEVICE_LOST, cuda_backend.event_sync(event));
    FAILS(TSR_DEVICE_LOST, cuda_backend.queue_wait(queue, event));
    FAILS(TSR_DEVICE_LOST, hal_device_status(device));
}

static void losing_a_device_is_a_status(void **state)
{
    rig r = rig_open();
    hal_buffer *buffer = buffer_of(&r, 16);
    hal_event *event;
    (void)state;

    OK(hal_event_create(r.device, &event));
    OK(hal_buffer_fill(r.queue, buffer, 0, 16, 1));
    OK(hal_device_lose(r.device));
    everything_is_lost(r.device, r.queue, buffer, event);
    hal_event_destroy(event);
    hal_buffer_free(buffer);
    rig_close(&r);

    r = rig_open(); /* and it can be opened again */
    OK(hal_device_status(r.device));
    rig_close(&r);
}

static void a_failing_launch_loses_the_device(void **state)
{
    static const struct {
        int result;
        const char *name;
    } losses[] = {
        {719, "CUDA_ERROR_LAUNCH_FAILED"}, {700, "CUDA_ERROR_ILLEGAL_ADDRESS"},   {702, "CUDA_ERROR_LAUNCH_TIMEOUT"},
        {710, "CUDA_ERROR_ASSERT"},        {214, "CUDA_ERROR_ECC_UNCORRECTABLE"}, {46, "CUDA_ERROR_DEVICE_UNAVAILABLE"},
        {999, "CUDA_ERROR_UNKNOWN"}};
    const char *const source[] = {test_kernels};
    const hal_kernel_desc desc = describe_axpy(source);
    (void)state;

    if (!fake) {
        printf("SKIP: only the fake driver fails when told to\n");
        skip();
    }
    for (size_t i = 0; i < COUNT_OF(losses); i++) {
        rig r = rig_open();
        hal_buffer *x = buffer_of(&r, 400), *y = buffer_of(&r, 404), *z = buffer_of(&r, 408);
        hal_kernel *kernel;
        hal_event *event;

        OK(hal_kernel_create(r.device, &desc, &kernel));
        OK(hal_event_create(r.device, &event));
        fake->fail_launch = 2;
        fake->fail_launch_result = losses[i].result;
        launch_axpy(&r, r.queue, kernel, x, y, z, 100, 1);
        OK(hal_queue_sync(r.queue)); /* the first one runs */
        launch_axpy(&r, r.queue, kernel, x, y, z, 100, 1);
        FAILS(TSR_DEVICE_LOST, hal_queue_sync(r.queue));
        SAYS(losses[i].name);
        SAYS("cuda:0");
        everything_is_lost(r.device, r.queue, z, event);
        hal_event_destroy(event);
        hal_kernel_destroy(kernel);
        hal_buffer_free(x);
        hal_buffer_free(y);
        hal_buffer_free(z);
        rig_close(&r);
    }
}

/* Everything that allocates, once. Returns the first failure. */
static tsr_status whole_job(void)
{
    const char *const source[] = {test_kernels};
    const hal_kernel_desc desc = describe_axpy(source);
    hal_device *device = NULL;
    hal_queue *queue = NULL;
    hal_buffer *buffer = NULL, *host = NULL;
    hal_kernel *kernel = NULL;
    hal_event *event = NULL;
    uint32_t word = 5, back = 0;
    tsr_status status;

    if ((status = hal_device_open(&cuda_backend, 0, &device)))
        return status;
    if (!(status = hal_queue_create(device, HAL_QUEUE_COMPUTE, &queue)) &&
        !(status = hal_buffer_alloc(device, HAL_MEMORY_DEVICE, 64, &buffer)) &&
        !(status = hal_buffer_alloc(device, HAL_MEMORY_HOST, 64, &host)) &&
        !(status = hal_event_create(device, &event)) && !(status = hal_kernel_create(device, &desc, &kernel)) &&
        !(status = hal_buffer_write(queue, buffer, 0, &word, 4)) &&
        !(status = hal_buffer_copy(queue, buffer, 0, host, 0, 64)) && !(status = hal_event_record(queue, event)) &&
        !(status = hal_event_sync(event)))
        status = hal_buffer_read(queue, buffer, 0, &back, 4);
    if (!status)
        assert_int_equal(back, 5);
    hal_event_destroy(event);
    hal_kernel_destroy(kernel);
    hal_buffer_free(buffer);
    hal_buffer_free(host);
    hal_queue_destroy(queue);
    OK(hal_device_close(device));
    return status;
}

static void no_allocation_is_trusted(void **state)
{
    int64_t live;
    int n;
    tsr_status status = TSR_OUT_OF_MEMORY;
    (void)state;

    OK(whole_job()); /* what is kept for the life of the process is there now */
    live = host_live_allocations();
    for (n = 0; status != TSR_OK && n < 500; n++) {
        host_alloc_fail_after(n);
        status = whole_job();
        host_alloc_fail_after(-1);
        if (status)
            FAILS(TSR_OUT_OF_MEMORY, status);
        assert_int_equal(host_live_allocations(), live);
    }
    assert_in_range(n, 5, 499);

    if (!fake)
        return;
    status = TSR_OUT_OF_MEMORY;
    for (n = 1; status != TSR_OK && n < 100; n++) {
        fake->fail_alloc = n;
        status = whole_job();
        fake->fail_alloc = 0;
        if (status)
            assert_true(status == TSR_OUT_OF_DEVICE_MEMORY || status == TSR_OUT_OF_MEMORY);
        assert_int_equal(host_live_allocations(), live);
        assert_int_equal(fake->device_allocations + fake->host_allocations + fake->streams + fake->events +
                             fake->modules + fake->contexts,
                         0);
    }
    assert_in_range(n, 4, 99);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(losing_a_device_is_a_status),
        cmocka_unit_test(a_failing_launch_loses_the_device),
        cmocka_unit_test(no_allocation_is_trusted),
    };
    char why[512];

    if (cuda_devices(why) == 0) {
        printf("SKIP: the tests of losing a CUDA device: %s\n", why);
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
