/* What the front of the HAL does by itself, against a backend that does as it is told. What drivers must do is in
 * test_hal_conformance.c. */
#include "unit.h"

#include "fake_hal.h"

#include "base/memory.h"
#include "tessera/tensor.h"

typedef struct fixture {
    hal_device *device;
    hal_queue *queue, *copies;
    hal_buffer *buffer, *host;
    hal_kernel *kernel;
    hal_event *event;
} fixture;

static const char *const source[] = {"kernel text"};

static hal_kernel_desc good_desc(void)
{
    return (hal_kernel_desc){.key = "test/f32",
                             .entry = "test",
                             .variant = "gpu",
                             .code = HAL_CODE_SOURCE,
                             .source = source,
                             .source_count = 1,
                             .group_size = 64,
                             .params_bytes = 8,
                             .binding_count = 2,
                             .access = {HAL_READ, HAL_WRITE},
                             .element_bytes = {4, 2}};
}

static int setup(void **state)
{
    static fixture f;
    fake_reset();
    tsr_clear_error();
    const hal_kernel_desc desc = good_desc();
    assert_int_equal(hal_device_open(&fake_backend, 0, &f.device), TSR_OK);
    assert_int_equal(hal_queue_create(f.device, HAL_QUEUE_COMPUTE, &f.queue), TSR_OK);
    assert_int_equal(hal_queue_create(f.device, HAL_QUEUE_COPY, &f.copies), TSR_OK);
    assert_int_equal(hal_buffer_alloc(f.device, HAL_MEMORY_DEVICE, 1000, &f.buffer), TSR_OK);
    assert_int_equal(hal_buffer_alloc(f.device, HAL_MEMORY_HOST, 1000, &f.host), TSR_OK);
    assert_int_equal(hal_kernel_create(f.device, &desc, &f.kernel), TSR_OK);
    assert_int_equal(hal_event_create(f.device, &f.event), TSR_OK);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    hal_event_destroy(f->event);
    hal_kernel_destroy(f->kernel);
    hal_buffer_free(f->host);
    hal_buffer_free(f->buffer);
    hal_queue_destroy(f->copies);
    hal_queue_destroy(f->queue);
    assert_int_equal(hal_device_close(f->device), TSR_OK);
    assert_int_equal(fake.held, 0);
    assert_int_equal(fake.destroyed, 2);
    assert_int_equal(host_live_allocations(), 0);
    return 0;
}

/* The status, and that a sentence goes with it and no command reached the driver. */
static void refused(tsr_status status, tsr_status expected, const char *words)
{
    assert_int_equal(status, expected);
    assert_int_equal(tsr_last_status(), expected);
    if (strstr(tsr_last_error(), words) == NULL)
        print_error("\"%s\" does not say \"%s\"\n", tsr_last_error(), words);
    assert_non_null(strstr(tsr_last_error(), words));
    tsr_clear_error();
}

static void opening(void **state)
{
    (void)state;
    hal_device *device;
    refused(hal_device_open(&fake_backend, 1, &device), TSR_NO_DEVICE, "fake:1");
    assert_null(device);
    fake.device_count = 0;
    fake.why = "libfake.so is missing";
    refused(hal_device_open(&fake_backend, 0, &device), TSR_NO_DEVICE, "libfake.so is missing");
    refused(hal_device_open(NULL, 0, &device), TSR_INVALID_ARGUMENT, "NULL");
    fake.device_count = 1;

    host_alloc_fail_after(0);
    const tsr_status status = hal_device_open(&fake_backend, 0, &device);
    host_alloc_fail_after(-1);
    refused(status, TSR_OUT_OF_MEMORY, "out of host memory");
}

static void closing_counts_what_is_alive(void **state)
{
    fixture *f = *state;
    refused(hal_device_close(f->device), TSR_INVALID_ARGUMENT, "2 queues, 2 buffers, 1 kernel, 1 event");
    hal_buffer_free(f->host);
    f->host = NULL;
    refused(hal_device_close(f->device), TSR_INVALID_ARGUMENT, "2 queues, 1 buffer, 1 kernel, 1 event");
    assert_int_equal(hal_device_close(NULL), TSR_OK);
    hal_buffer_free(NULL);
    hal_queue_destroy(NULL);
    hal_kernel_destroy(NULL);
    hal_event_destroy(NULL);
}

static void ranges_of_memory(void **state)
{
    fixture *f = *state;
    char data[8] = {0};
    const unsigned before = fake.commands;
    refused(hal_buffer_write(f->queue, f->buffer, 1000, data, 1), TSR_OUT_OF_RANGE,
            "write of 1 bytes at offset 1000, but the buffer has 1000 bytes");
    refused(hal_buffer_write(f->queue, f->buffer, SIZE_MAX, data, 8), TSR_OUT_OF_RANGE, "write");
    refused(hal_buffer_write(f->queue, f->buffer, 8, data, SIZE_MAX), TSR_OUT_OF_RANGE, "write");
    refused(hal_buffer_read(f->queue, f->buffer, 993, data, 8), TSR_OUT_OF_RANGE, "read of 8 bytes at offset 993");
    refused(hal_buffer_fill(f->queue, f->buffer, 1000, 4, 0), TSR_OUT_OF_RANGE, "fill");
    refused(hal_buffer_fill(f->queue, f->buffer, 2, 4, 0), TSR_INVALID_ARGUMENT, "multiples of 4");
    refused(hal_buffer_fill(f->queue, f->buffer, 4, 6, 0), TSR_INVALID_ARGUMENT, "multiples of 4");
    refused(hal_buffer_copy(f->queue, f->buffer, 0, f->host, 996, 8), TSR_OUT_OF_RANGE, "copy to");
    refused(hal_buffer_copy(f->queue, f->buffer, 996, f->host, 0, 8), TSR_OUT_OF_RANGE, "copy from");
    refused(hal_buffer_copy(f->queue, f->buffer, 0, f->buffer, 7, 8), TSR_INVALID_ARGUMENT, "overlap");
    refused(hal_buffer_copy(f->queue, f->buffer, 7, f->buffer, 0, 8), TSR_INVALID_ARGUMENT, "overlap");
    refused(hal_buffer_write(f->queue, f->buffer, 0, NULL, 8), TSR_INVALID_ARGUMENT, "NULL");
    refused(hal_buffer_read(f->queue, f->buffer, 0, NULL, 8), TSR_INVALID_ARGUMENT, "NULL");
    refused(hal_buffer_write(NULL, f->buffer, 0, data, 8), TSR_INVALID_ARGUMENT, "queue is NULL");
    refused(hal_buffer_write(f->queue, NULL, 0, data, 8), TSR_INVALID_ARGUMENT, "buffer is NULL");
    refused(hal_buffer_write(f->queue, f->host, 0, data, 8), TSR_INVALID_ARGUMENT, "host memory");
    refused(hal_buffer_read(f->queue, f->host, 0, data, 8), TSR_INVALID_ARGUMENT, "host memory");
    refused(hal_buffer_fill(f->queue, f->host, 0, 8, 1), TSR_INVALID_ARGUMENT, "host memory");
    assert_null(hal_buffer_map(f->buffer));
    assert_non_null(hal_buffer_map(f->host));

    /* Nothing to do succeeds without troubling the driver, at the very end too. */
    assert_int_equal(hal_buffer_write(f->queue, f->buffer, 1000, NULL, 0), TSR_OK);
    assert_int_equal(hal_buffer_read(f->queue, f->buffer, 1000, NULL, 0), TSR_OK);
    assert_int_equal(hal_buffer_fill(f->queue, f->buffer, 1000, 0, 0), TSR_OK);
    assert_int_equal(hal_buffer_copy(f->queue, f->buffer, 5, f->buffer, 5, 0), TSR_OK);
    assert_int_equal(fake.commands, before);

    assert_int_equal(hal_buffer_copy(f->queue, f->buffer, 0, f->buffer, 8, 8), TSR_OK);
    assert_int_equal(hal_buffer_write(f->copies, f->buffer, 992, data, 8), TSR_OK);
    assert_int_equal(fake.commands, before + 2);
}

static void other_devices_are_refused(void **state)
{
    fixture *f = *state;
    hal_device *device;
    hal_queue *queue;
    char data[8] = {0};
    fake.device_count = 2;
    assert_int_equal(hal_device_open(&fake_backend, 1, &device), TSR_OK);
    assert_string_equal(hal_device_id(device), "fake:1");
    assert_int_equal(hal_queue_create(device, HAL_QUEUE_COMPUTE, &queue), TSR_OK);
    refused(hal_buffer_write(queue, f->buffer, 0, data, 8), TSR_INVALID_ARGUMENT, "fake:1, the buffer to fake:0");
    refused(hal_event_record(queue, f->event), TSR_INVALID_ARGUMENT, "fake:1, the event to fake:0");
    const hal_binding bindings[] = {{f->buffer, 0, 4}, {f->buffer, 8, 4}};
    const hal_launch launch = {.kernel = f->kernel,
                               .grid = {1, 1, 1},
                               .bindings = bindings,
                               .binding_count = 2,
                               .params = data,
                               .params_bytes = 8};
    refused(hal_kernel_launch(queue, &launch), TSR_INVALID_ARGUMENT, "kernel belongs to device fake:0");
    hal_queue_destroy(queue);
    assert_int_equal(hal_device_close(device), TSR_OK);
    fake.destroyed--;
}

static void launches(void **state)
{
    fixture *f = *state;
    const uint32_t params[2] = {1, 2};
    hal_binding bindings[2] = {{f->buffer, 4, 100}, {f->buffer, 502, 498}};
    const hal_launch good = {.kernel = f->kernel,
                             .grid = {0x7fffffff, 65535, 65535},
                             .bindings = bindings,
                             .binding_count = 2,
                             .params = params,
                             .params_bytes = 8};
    const unsigned before = fake.commands;
    assert_int_equal(hal_kernel_launch(f->queue, &good), TSR_OK);
    assert_int_equal(fake.commands, before + 1);
    assert_int_equal(hal_device_counters(f->device).launches, 1);

    refused(hal_kernel_launch(f->copies, &good), TSR_INVALID_ARGUMENT, "copy queue");
    hal_launch bad = good;
    bad.binding_count = 1;
    refused(hal_kernel_launch(f->queue, &bad), TSR_INVALID_ARGUMENT, "1 bindings were given; the kernel has 2");
    bad = good;
    bad.params_bytes = 12;
    refused(hal_kernel_launch(f->queue, &bad), TSR_INVALID_ARGUMENT,
            "12 bytes of parameters were given; the kernel has 8");
    bad = good;
    bad.params = NULL;
    refused(hal_kernel_launch(f->queue, &bad), TSR_INVALID_ARGUMENT, "NULL");
    bad = good;
    bad.kernel = NULL;
    refused(hal_kernel_launch(f->queue, &bad), TSR_INVALID_ARGUMENT, "kernel is NULL");
    for (int i = 0; i < 3; i++) {
        bad = good;
        bad.grid[i] = 0;
        refused(hal_kernel_launch(f->queue, &bad), TSR_OUT_OF_RANGE, "grid of");
        bad.grid[i] = i == 0 ? 0x80000000u : 65536;
        refused(hal_kernel_launch(f->queue, &bad), TSR_OUT_OF_RANGE, "grid of");
    }

    bindings[0].offset = 6;
    refused(hal_kernel_launch(f->queue, &good), TSR_INVALID_ARGUMENT,
            "binding 0 is at offset 6, no multiple of its element size 4");
    bindings[0].offset = 904;
    refused(hal_kernel_launch(f->queue, &good), TSR_OUT_OF_RANGE, "binding 0 has 100 bytes at offset 904");
    bindings[0] = (hal_binding){f->buffer, 4, 0};
    refused(hal_kernel_launch(f->queue, &good), TSR_INVALID_ARGUMENT, "binding 0 is empty");
    bindings[0] = (hal_binding){f->host, 0, 4};
    refused(hal_kernel_launch(f->queue, &good), TSR_INVALID_ARGUMENT, "host memory");
    bindings[0] = (hal_binding){NULL, 0, 4};
    refused(hal_kernel_launch(f->queue, &good), TSR_INVALID_ARGUMENT, "binding 0 is NULL");

    hal_buffer *large;
    assert_int_equal(hal_buffer_alloc(f->device, HAL_MEMORY_DEVICE, 2 << 20, &large), TSR_OK);
    bindings[0] = (hal_binding){large, 0, (1 << 20) + 4};
    refused(hal_kernel_launch(f->queue, &good), TSR_UNSUPPORTED, "can reach 1048576");
    bindings[0].length = 1 << 20;
    assert_int_equal(hal_kernel_launch(f->queue, &good), TSR_OK);
    hal_buffer_free(large);
    assert_int_equal(fake.commands, before + 2);
}

static void kernels(void **state)
{
    fixture *f = *state;
    hal_kernel *kernel;
#define REFUSED(change, status, words)                                                                                 \
    do {                                                                                                               \
        hal_kernel_desc d = good_desc();                                                                               \
        change;                                                                                                        \
        refused(hal_kernel_create(f->device, &d, &kernel), status, words);                                             \
        assert_null(kernel);                                                                                           \
    } while (0)
    REFUSED(d.key = NULL, TSR_INVALID_ARGUMENT, "key");
    REFUSED(d.code = HAL_CODE_SPIRV, TSR_UNSUPPORTED, "takes source text");
    REFUSED(d.source = NULL, TSR_INVALID_ARGUMENT, "without its code");
    REFUSED(d.source_count = 0, TSR_INVALID_ARGUMENT, "without its code");
    REFUSED(d.entry = NULL, TSR_INVALID_ARGUMENT, "without its code");
    REFUSED(d.group_size = 0, TSR_UNSUPPORTED, "work-groups of 0");
    REFUSED(d.group_size = 257, TSR_UNSUPPORTED, "1 to 256");
    REFUSED(d.params_bytes = 116, TSR_INVALID_ARGUMENT, "116 bytes of parameters");
    REFUSED(d.params_bytes = 6, TSR_INVALID_ARGUMENT, "multiple of 4");
    REFUSED(d.binding_count = 9, TSR_INVALID_ARGUMENT, "9 bindings");
    REFUSED(d.access[1] = 0, TSR_INVALID_ARGUMENT, "binding 1");
    REFUSED(d.access[1] = 4, TSR_INVALID_ARGUMENT, "binding 1");
    REFUSED(d.element_bytes[0] = 3, TSR_INVALID_ARGUMENT, "3 bytes");
#undef REFUSED
    assert_int_equal(hal_device_counters(f->device).kernels_created, 1);
}

static void products(void **state)
{
    fixture *f = *state;
    const hal_binding all = {f->buffer, 0, 1000};
    const hal_gemm good = {.dtype = TSR_F32,
                           .m = 2,
                           .n = 3,
                           .k = 4,
                           .lda = 4,
                           .ldb = 3,
                           .ldc = 3,
                           .batch = 1,
                           .reduce = 1,
                           .alpha = 1,
                           .a = all,
                           .b = all,
                           .c = all};
    assert_int_equal(hal_gemm_run(f->queue, &good), TSR_UNSUPPORTED); /* the backend has none */
    assert_string_equal(tsr_last_error(), "");
    assert_null(hal_device_gemm_route(f->device));
#define REFUSED(change, status, words)                                                                                 \
    do {                                                                                                               \
        hal_gemm g = good;                                                                                             \
        change;                                                                                                        \
        refused(hal_gemm_run(f->queue, &g), status, words);                                                            \
    } while (0)
    REFUSED(g.m = -1, TSR_OUT_OF_RANGE, "m -1");
    REFUSED(g.reduce = 0, TSR_OUT_OF_RANGE, "reduce");
    REFUSED(g.dtype = TSR_I32, TSR_INVALID_ARGUMENT, "no floating-point type");
    REFUSED(g.lda = 3, TSR_INVALID_ARGUMENT, "operand A has rows of 4 elements, but only 3");
    REFUSED(g.ldc = 2, TSR_INVALID_ARGUMENT, "operand C");
    REFUSED((g.transpose_b = true), TSR_INVALID_ARGUMENT, "operand B has rows of 4");
    REFUSED(g.lda = 300, TSR_OUT_OF_RANGE, "operand A reaches over 1216 bytes, but its binding has 1000");
    REFUSED((g.batch = 50, g.batch_stride_c = 6), TSR_OUT_OF_RANGE, "operand C");
    REFUSED((g.reduce = 100, g.reduce_stride_b = 12), TSR_OUT_OF_RANGE, "operand B");
    REFUSED((g.batch = 2), TSR_INVALID_ARGUMENT, "share one C");
    REFUSED((g.batch = 2, g.batch_stride_c = -6), TSR_OUT_OF_RANGE, "negative");
    REFUSED((g.m = INT64_MAX, g.lda = INT64_MAX), TSR_OUT_OF_RANGE, "64 bits");
    REFUSED((g.c.offset = 2, g.c.length = 100), TSR_INVALID_ARGUMENT, "no multiple of its element size 4");
    REFUSED(g.a.length = 28, TSR_OUT_OF_RANGE, "operand A reaches over 32 bytes");
#undef REFUSED
    hal_gemm nothing = good;
    nothing.n = 0;
    assert_int_equal(hal_gemm_run(f->queue, &nothing), TSR_OK);
}

static void events(void **state)
{
    fixture *f = *state;
    hal_event *other;
    bool done = false;
    double ms = -1;
    assert_int_equal(hal_event_create(f->device, &other), TSR_OK);

    assert_int_equal(hal_event_query(f->event, &done), TSR_OK);
    assert_true(done); /* never recorded */
    assert_int_equal(hal_event_sync(f->event), TSR_OK);
    assert_int_equal(hal_queue_wait(f->queue, f->event), TSR_OK);
    assert_int_equal(fake.commands, 0);
    refused(hal_event_elapsed(f->event, other, &ms), TSR_INVALID_ARGUMENT, "first event was never recorded");

    assert_int_equal(hal_event_record(f->queue, f->event), TSR_OK);
    assert_int_equal(hal_event_query(f->event, &done), TSR_OK);
    assert_false(done);
    refused(hal_event_elapsed(f->event, other, &ms), TSR_INVALID_ARGUMENT, "second event was never recorded");
    assert_int_equal(hal_event_record(f->queue, other), TSR_OK);
    refused(hal_event_elapsed(f->event, other, &ms), TSR_INVALID_ARGUMENT, "not done yet");
    fake_finish(f->queue);
    assert_int_equal(hal_event_elapsed(f->event, other, &ms), TSR_OK);
    assert_true(ms == 1);
    hal_event_destroy(other);
}

static void counters(void **state)
{
    fixture *f = *state;
    hal_counters c = hal_device_counters(f->device);
    assert_int_equal(c.allocations, 2);
    assert_int_equal(c.allocated_bytes, 2000);
    assert_int_equal(c.host_waits, 0);

    hal_buffer *buffer;
    assert_int_equal(hal_buffer_alloc(f->device, HAL_MEMORY_DEVICE, 5000, &buffer), TSR_OK);
    hal_buffer_free(buffer);
    assert_int_equal(hal_buffer_alloc(f->device, HAL_MEMORY_DEVICE, 0, &buffer), TSR_OK);
    assert_int_equal(buffer->size, 0);
    hal_buffer_free(buffer);
    c = hal_device_counters(f->device);
    assert_int_equal(c.allocations, 4);
    assert_int_equal(c.frees, 2);
    assert_int_equal(c.allocated_bytes, 2000);
    assert_int_equal(c.peak_bytes, 7000);

    char data[4];
    assert_int_equal(hal_buffer_read(f->queue, f->buffer, 0, data, 4), TSR_OK);
    assert_int_equal(hal_queue_sync(f->queue), TSR_OK);
    assert_int_equal(hal_event_record(f->queue, f->event), TSR_OK);
    assert_int_equal(hal_event_sync(f->event), TSR_OK);
    assert_int_equal(hal_queue_flush(f->queue), TSR_OK);
    assert_int_equal(hal_device_counters(f->device).host_waits, 3);
    const uint64_t allocations = hal_device_counters(f->device).allocations;
    assert_int_equal(hal_buffer_read(f->queue, f->buffer, 4, data, 4), TSR_OK);
    assert_int_equal(hal_device_counters(f->device).allocations, allocations); /* the staging buffer is kept */
}

static void too_large_buffers(void **state)
{
    fixture *f = *state;
    hal_buffer *buffer = f->buffer;
    refused(hal_buffer_alloc(f->device, HAL_MEMORY_DEVICE, fake.max_buffer + 1, &buffer), TSR_OUT_OF_DEVICE_MEMORY,
            "68719476737 bytes");
    assert_null(buffer);
    refused(hal_buffer_alloc(f->device, HAL_MEMORY_DEVICE, SIZE_MAX, &buffer), TSR_OUT_OF_DEVICE_MEMORY, "largest");
    refused(hal_buffer_alloc(f->device, (hal_memory)7, 4, &buffer), TSR_INVALID_ARGUMENT, "7 is no kind of memory");
    fake.memory = fake.held;
    refused(hal_buffer_alloc(f->device, HAL_MEMORY_DEVICE, 64, &buffer), TSR_OUT_OF_DEVICE_MEMORY,
            "fake driver has no 64");
    assert_int_equal(hal_device_counters(f->device).allocations, 2);
}

/* After the first call that returned it, a loss is known without asking the driver. */
static void loss_is_sticky(void **state)
{
    fixture *f = *state;
    char data[8] = {0};
    bool done;
    assert_int_equal(hal_device_status(f->device), TSR_OK);
    assert_int_equal(hal_device_lose(f->device), TSR_OK);
    assert_int_equal(hal_buffer_write(f->queue, f->buffer, 0, data, 8), TSR_DEVICE_LOST);

    fake.lost = false; /* even if the driver recovers */
    const unsigned commands = fake.commands, records = fake.records;
    refused(hal_buffer_write(f->queue, f->buffer, 0, data, 8), TSR_DEVICE_LOST, "fake:0 (Fake 0) was lost");
    refused(hal_buffer_read(f->queue, f->buffer, 0, data, 8), TSR_DEVICE_LOST, "lost");
    refused(hal_buffer_copy(f->queue, f->buffer, 0, f->host, 0, 8), TSR_DEVICE_LOST, "lost");
    refused(hal_buffer_fill(f->queue, f->buffer, 0, 8, 0), TSR_DEVICE_LOST, "lost");
    refused(hal_event_record(f->queue, f->event), TSR_DEVICE_LOST, "lost");
    refused(hal_event_query(f->event, &done), TSR_DEVICE_LOST, "lost");
    refused(hal_event_sync(f->event), TSR_DEVICE_LOST, "lost");
    refused(hal_queue_sync(f->queue), TSR_DEVICE_LOST, "lost");
    refused(hal_queue_flush(f->queue), TSR_DEVICE_LOST, "lost");
    refused(hal_device_status(f->device), TSR_DEVICE_LOST, "lost");
    const hal_binding bindings[] = {{f->buffer, 0, 4}, {f->buffer, 8, 4}};
    const hal_launch launch = {.kernel = f->kernel,
                               .grid = {1, 1, 1},
                               .bindings = bindings,
                               .binding_count = 2,
                               .params = data,
                               .params_bytes = 8};
    refused(hal_kernel_launch(f->queue, &launch), TSR_DEVICE_LOST, "lost");
    hal_buffer *buffer;
    hal_queue *queue;
    hal_event *event;
    hal_kernel *kernel;
    const hal_kernel_desc desc = good_desc();
    refused(hal_buffer_alloc(f->device, HAL_MEMORY_DEVICE, 8, &buffer), TSR_DEVICE_LOST, "lost");
    refused(hal_queue_create(f->device, HAL_QUEUE_COMPUTE, &queue), TSR_DEVICE_LOST, "lost");
    refused(hal_event_create(f->device, &event), TSR_DEVICE_LOST, "lost");
    refused(hal_kernel_create(f->device, &desc, &kernel), TSR_DEVICE_LOST, "lost");
    assert_int_equal(fake.commands, commands);
    assert_int_equal(fake.records, records);

    /* Another device of the same backend goes on. */
    hal_device *second;
    fake.device_count = 2;
    assert_int_equal(hal_device_open(&fake_backend, 1, &second), TSR_OK);
    assert_int_equal(hal_device_status(second), TSR_OK);
    assert_int_equal(hal_device_close(second), TSR_OK);
}

static void refusals_of_the_driver_pass_through(void **state)
{
    fixture *f = *state;
    char data[8] = {0};
    fake.next = TSR_DRIVER_ERROR;
    refused(hal_buffer_write(f->queue, f->buffer, 0, data, 8), TSR_DRIVER_ERROR, "the fake driver refuses");
    refused(hal_buffer_read(f->queue, f->buffer, 0, data, 8), TSR_DRIVER_ERROR, "the fake driver refuses");
    refused(hal_queue_sync(f->queue), TSR_DRIVER_ERROR, "the fake driver refuses");
    fake.next = TSR_OK;
    assert_int_equal(hal_buffer_read(f->queue, f->buffer, 0, data, 8), TSR_OK); /* no lock was left held */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(opening),          TEST(closing_counts_what_is_alive),
        TEST(ranges_of_memory), TEST(other_devices_are_refused),
        TEST(launches),         TEST(kernels),
        TEST(products),         TEST(events),
        TEST(counters),         TEST(too_large_buffers),
        TEST(loss_is_sticky),   TEST(refusals_of_the_driver_pass_through),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
