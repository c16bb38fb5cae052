/* The null backend: shown only on request, moves bytes, and refuses every launch with a reason. */
#include "unit.h"

#include "base/memory.h"
#include "hal/hal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const hal_backend null_backend;

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        const tsr_status status_ = (call);                                                                             \
        if (status_ != TSR_OK)                                                                                         \
            fail_msg("%s: %s: %s", #call, tsr_status_name(status_), tsr_last_error());                                 \
    } while (0)
#define FAILS(status, call) assert_string_equal(tsr_status_name(call), tsr_status_name(status))

typedef struct fixture {
    hal_device *device;
    hal_queue *queue;
    int64_t live;
} fixture;

static int open_null(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    *state = f;
    setenv("TESSERA_NULL", "1", 1);
    f->live = host_live_allocations();
    return hal_device_open(&null_backend, 0, &f->device) == TSR_OK &&
                   hal_queue_create(f->device, HAL_QUEUE_COMPUTE, &f->queue) == TSR_OK
               ? 0
               : -1;
}

static int close_null(void **state)
{
    fixture *f = *state;
    hal_queue_destroy(f->queue);
    const bool clean = hal_device_close(f->device) == TSR_OK && host_live_allocations() == f->live;
    free(f);
    return clean ? 0 : -1;
}

static void native(void *const *bindings, const void *params, const uint32_t grid[3], uint64_t first, uint64_t count)
{
    (void)bindings, (void)params, (void)grid, (void)first, (void)count;
    fail_msg("the null device ran a kernel");
}

static hal_kernel *kernel_of(hal_device *device)
{
    hal_kernel *kernel = NULL;
    OK(hal_kernel_create(device,
                         &(hal_kernel_desc){.key = "softmax/f32",
                                            .entry = "softmax",
                                            .variant = "cpu",
                                            .code = HAL_CODE_NATIVE,
                                            .native = native,
                                            .group_size = 1},
                         &kernel));
    return kernel;
}

static void is_shown_on_request_only(void **state)
{
    (void)state;
    static const char *const no[] = {NULL, "", "0", "yes", "10"};
    hal_device *device = NULL;
    for (size_t i = 0; i < sizeof no / sizeof no[0]; i++) {
        char why[256] = "";
        uint32_t count = 9;
        if (no[i] != NULL)
            setenv("TESSERA_NULL", no[i], 1);
        else
            unsetenv("TESSERA_NULL");
        OK(null_backend.enumerate(&count, why, sizeof why));
        assert_int_equal(count, 0);
        assert_non_null(strstr(why, "TESSERA_NULL=1"));
        FAILS(TSR_NO_DEVICE, hal_device_open(&null_backend, 0, &device));
        assert_null(device);
    }
    setenv("TESSERA_NULL", "1", 1);
    char why[256] = "";
    uint32_t count = 9;
    hal_device_info info;
    OK(null_backend.enumerate(&count, why, sizeof why));
    assert_int_equal(count, 1);
    OK(null_backend.info(0, &info));
    assert_string_equal(info.name, "null");
    FAILS(TSR_NO_DEVICE, null_backend.info(1, &info));
    FAILS(TSR_NO_DEVICE, hal_device_open(&null_backend, 1, &device));
}

static void moves_bytes(void **state)
{
    fixture *f = *state;
    hal_buffer *a, *h;
    uint8_t source[64], target[64];
    for (int i = 0; i < 64; i++)
        source[i] = (uint8_t)(i * 3);
    OK(hal_buffer_alloc(f->device, HAL_MEMORY_DEVICE, 64, &a));
    OK(hal_buffer_alloc(f->device, HAL_MEMORY_HOST, 64, &h));
    memset(hal_buffer_map(h), 1, 64);
    OK(hal_buffer_fill(f->queue, a, 0, 64, 0x04030201));
    OK(hal_buffer_write(f->queue, a, 5, source, 20));
    OK(hal_buffer_copy(f->queue, a, 5, h, 8, 20));
    OK(hal_buffer_copy(f->queue, h, 8, a, 40, 4));
    OK(hal_buffer_read(f->queue, a, 0, target, 64));
    for (int i = 0; i < 64; i++) {
        const int expected = i >= 40 && i < 44 ? (i - 40) * 3 : i >= 5 && i < 25 ? (i - 5) * 3 : i % 4 + 1;
        assert_int_equal(target[i], expected);
    }
    assert_int_equal(((uint8_t *)hal_buffer_map(h))[7], 1);
    assert_int_equal(((uint8_t *)hal_buffer_map(h))[9], 3);
    hal_buffer_free(a);
    hal_buffer_free(h);
}

static void refuses_every_launch_with_a_reason(void **state)
{
    fixture *f = *state;
    hal_kernel *kernel = kernel_of(f->device);
    FAILS(TSR_UNSUPPORTED, hal_kernel_launch(f->queue, &(hal_launch){.kernel = kernel, .grid = {1, 1, 1}}));
    assert_non_null(strstr(tsr_last_error(), "softmax/f32"));
    assert_non_null(strstr(tsr_last_error(), "take another device"));
    OK(hal_device_status(f->device));
    hal_kernel_destroy(kernel);
}

static void events_are_done_at_once(void **state)
{
    fixture *f = *state;
    hal_event *from, *to;
    bool done = false;
    double elapsed = -1;
    OK(hal_event_create(f->device, &from));
    OK(hal_event_create(f->device, &to));
    OK(hal_event_record(f->queue, from));
    OK(hal_event_record(f->queue, to));
    OK(hal_event_query(to, &done));
    assert_true(done);
    OK(hal_event_sync(to));
    OK(hal_queue_wait(f->queue, from));
    OK(hal_event_elapsed(from, to, &elapsed));
    assert_true(elapsed >= 0 && elapsed < 1e4);
    OK(hal_queue_flush(f->queue));
    OK(hal_queue_sync(f->queue));
    hal_event_destroy(from);
    hal_event_destroy(to);
}

static void running_out_of_memory_is_a_status(void **state)
{
    fixture *f = *state;
    hal_buffer *buffer = NULL;
    for (int i = 0; i < 2; i++) { /* its own structure, then its bytes */
        host_alloc_fail_after(i);
        const tsr_status status = hal_buffer_alloc(f->device, HAL_MEMORY_DEVICE, 64, &buffer);
        host_alloc_fail_after(-1);
        assert_int_equal(status, TSR_OUT_OF_MEMORY);
        assert_null(buffer);
    }
    FAILS(TSR_OUT_OF_DEVICE_MEMORY,
          hal_buffer_alloc(f->device, HAL_MEMORY_DEVICE, (size_t)f->device->info.max_buffer_bytes + 1, &buffer));
}

static void a_lost_device_stays_lost(void **state)
{
    fixture *f = *state;
    hal_buffer *a, *b = NULL;
    hal_event *event;
    hal_kernel *kernel = kernel_of(f->device);
    uint32_t value = 0;
    bool done;
    double elapsed;
    OK(hal_buffer_alloc(f->device, HAL_MEMORY_DEVICE, 64, &a));
    OK(hal_event_create(f->device, &event));
    OK(hal_event_record(f->queue, event));
    OK(hal_device_lose(f->device));
    /* The backend by itself: the front would stop these before they reach it. */
    FAILS(TSR_DEVICE_LOST, null_backend.device_status(f->device));
    FAILS(TSR_DEVICE_LOST, null_backend.buffer_alloc(f->device, HAL_MEMORY_DEVICE, 64, &b));
    FAILS(TSR_DEVICE_LOST, null_backend.write(f->queue, a, 0, &value, 4));
    FAILS(TSR_DEVICE_LOST, null_backend.copy(f->queue, a, 0, a, 16, 4));
    FAILS(TSR_DEVICE_LOST, null_backend.fill(f->queue, a, 0, 4, 0));
    FAILS(TSR_DEVICE_LOST, null_backend.launch(f->queue, &(hal_launch){.kernel = kernel, .grid = {1, 1, 1}}));
    FAILS(TSR_DEVICE_LOST, null_backend.event_record(f->queue, event));
    FAILS(TSR_DEVICE_LOST, null_backend.event_query(event, &done));
    FAILS(TSR_DEVICE_LOST, null_backend.event_sync(event));
    FAILS(TSR_DEVICE_LOST, null_backend.event_elapsed(event, event, &elapsed));
    FAILS(TSR_DEVICE_LOST, null_backend.queue_wait(f->queue, event));
    FAILS(TSR_DEVICE_LOST, null_backend.flush(f->queue));
    FAILS(TSR_DEVICE_LOST, null_backend.sync(f->queue));
    FAILS(TSR_DEVICE_LOST, hal_buffer_write(f->queue, a, 0, &value, 4));
    hal_buffer_free(a);
    hal_event_destroy(event);
    hal_kernel_destroy(kernel);
}

int main(void)
{
#define ON_NULL(test) cmocka_unit_test_setup_teardown(test, open_null, close_null)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_shown_on_request_only),  ON_NULL(moves_bytes),
        ON_NULL(refuses_every_launch_with_a_reason), ON_NULL(events_are_done_at_once),
        ON_NULL(running_out_of_memory_is_a_status),  ON_NULL(a_lost_device_stays_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
