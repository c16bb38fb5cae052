/* The HAL conformance suite: the device as a whole: products, exhaustion, closing, loss. */
#ifndef TESSERA_TESTS_CONFORMANCE_DEVICE_H
#define TESSERA_TESTS_CONFORMANCE_DEVICE_H

#include "conformance/bench.h"

#include "tessera/tensor.h"

static void products(bench *b)
{
    if (hal_device_gemm_route(b->device) == NULL) {
        const hal_binding none = {NULL, 0, 0};
        hal_gemm g = {.dtype = TSR_F32, .reduce = 1, .a = none, .b = none, .c = none};
        OK(hal_gemm_run(b->queue, &g)); /* nothing to compute */
        return;
    }
    enum { M = 37, N = 50, K = 61, BATCH = 3, SUM = 2 };
    static float a[BATCH * SUM * M * K], c[BATCH * M * N], back[BATCH * M * N];
    static float y[SUM * K * N]; /* one for all batches */
    for (size_t i = 0; i < sizeof a / sizeof a[0]; i++)
        a[i] = (float)(i * 7 % 5) - 2;
    for (size_t i = 0; i < sizeof y / sizeof y[0]; i++)
        y[i] = (float)(i * 11 % 7) - 3;
    for (size_t i = 0; i < sizeof c / sizeof c[0]; i++)
        c[i] = (float)(i % 9);
    hal_buffer *buffers[3] = {device_buffer(b, sizeof a + 4), device_buffer(b, sizeof y + 4),
                              device_buffer(b, sizeof c + 4)};
    OK(hal_buffer_write(b->queue, buffers[0], 4, a, sizeof a));
    OK(hal_buffer_write(b->queue, buffers[1], 4, y, sizeof y));
    for (int t = 0; t < 4; t++) {
        const bool ta = t & 1, tb = t >> 1;
        const hal_gemm g = {.dtype = TSR_F32,
                            .transpose_a = ta,
                            .transpose_b = tb,
                            .m = M,
                            .n = N,
                            .k = K,
                            .lda = ta ? M : K,
                            .ldb = tb ? K : N,
                            .ldc = N,
                            .batch = BATCH,
                            .batch_stride_a = SUM * M * K,
                            .batch_stride_c = M * N,
                            .reduce = SUM,
                            .reduce_stride_a = M * K,
                            .reduce_stride_b = K * N,
                            .alpha = 2,
                            .beta = 3,
                            .a = {buffers[0], 4, sizeof a},
                            .b = {buffers[1], 4, sizeof y},
                            .c = {buffers[2], 4, sizeof c}};
        OK(hal_buffer_write(b->queue, buffers[2], 4, c, sizeof c));
        const tsr_status status = hal_gemm_run(b->queue, &g);
        if (status == TSR_UNSUPPORTED)
            continue;
        OK(status);
        OK(hal_buffer_read(b->queue, buffers[2], 4, back, sizeof back));
        for (int batch = 0; batch < BATCH; batch++) {
            for (int i = 0; i < M; i++) {
                for (int j = 0; j < N; j++) {
                    float sum = 0;
                    for (int s = 0; s < SUM; s++) {
                        for (int k = 0; k < K; k++)
                            sum += a[(batch * SUM + s) * M * K + (ta ? k * M + i : i * K + k)] *
                                   y[s * K * N + (tb ? j * K + k : k * N + j)];
                    }
                    const int at = (batch * M + i) * N + j;
                    assert_true(back[at] == 2 * sum + 3 * c[at]); /* small integers: exact */
                }
            }
        }
    }
    for (int i = 0; i < 3; i++)
        hal_buffer_free(buffers[i]);
}

static void out_of_memory_is_a_status(bench *b)
{
    enum { MOST = 64 };
    const hal_device_info *info = &b->device->info;
    hal_buffer *held[MOST], *one_more = NULL;
    size_t count = 0;
    tsr_status status = hal_buffer_alloc(b->device, HAL_MEMORY_DEVICE, (size_t)info->max_buffer_bytes + 1, &one_more);
    assert_int_equal(status, TSR_OUT_OF_DEVICE_MEMORY);
    assert_null(one_more);

    /* As many of the largest as it takes, at most twice its memory. None is touched. */
    const uint64_t size = info->max_buffer_bytes;
    status = TSR_OK;
    while (count < MOST && count * size < 2 * info->memory_bytes && status == TSR_OK) {
        status = hal_buffer_alloc(b->device, HAL_MEMORY_DEVICE, (size_t)size, &held[count]);
        count += status == TSR_OK;
    }
    if (status == TSR_OK)
        print_message("%s: the driver promised %zu times %llu bytes\n", b->id, count, (unsigned long long)size);
    else
        assert_true(status == TSR_OUT_OF_DEVICE_MEMORY || status == TSR_OUT_OF_MEMORY);
    for (size_t i = 0; i < count; i++)
        hal_buffer_free(held[i]);

    OK(hal_device_status(b->device));
    one_more = device_buffer(b, 64);
    OK(hal_buffer_fill(b->queue, one_more, 0, 64, 3));
    expect_words(b, one_more, 16, 3);
    hal_buffer_free(one_more);
}

static void close_waits_for_its_objects(bench *b)
{
    hal_device *device;
    hal_queue *queue;
    hal_buffer *buffer;
    hal_event *event;
    OK(hal_device_open(b->ref.backend, b->ref.index, &device));
    OK(hal_queue_create(device, HAL_QUEUE_COMPUTE, &queue));
    OK(hal_buffer_alloc(device, HAL_MEMORY_DEVICE, 64, &buffer));
    OK(hal_event_create(device, &event));
    assert_int_equal(hal_device_close(device), TSR_INVALID_ARGUMENT);
    assert_non_null(strstr(tsr_last_error(), "1 queue, 1 buffer, 1 event"));
    OK(hal_buffer_fill(queue, buffer, 0, 64, 1)); /* it works on */
    hal_event_destroy(event);
    hal_buffer_free(buffer);
    assert_int_equal(hal_device_close(device), TSR_INVALID_ARGUMENT);
    hal_queue_destroy(queue);
    OK(hal_device_close(device));
}

static void a_lost_device(bench *b)
{
    hal_device *device;
    hal_queue *queue;
    hal_buffer *buffer, *none;
    hal_event *event;
    hal_kernel *kernel;
    hal_kernel_desc desc;
    char data[64] = {0};
    bool done;
    OK(hal_device_open(b->ref.backend, b->ref.index, &device));
    OK(hal_queue_create(device, HAL_QUEUE_COMPUTE, &queue));
    OK(hal_buffer_alloc(device, HAL_MEMORY_DEVICE, 64, &buffer));
    OK(hal_event_create(device, &event));
    OK(catalogue_describe(catalogue_find("selftest_step/i32", device->info.device_class), &device->info, &desc));
    OK(hal_kernel_create(device, &desc, &kernel));
    OK(step(queue, kernel, buffer, 16, 1)); /* work that is under way */
    OK(hal_event_record(queue, event));

    const tsr_status status = hal_device_lose(device);
    if (status == TSR_UNSUPPORTED) {
        print_message("%s: left out: %s\n", b->id, tsr_last_error());
    } else {
        OK(status);
        for (int twice = 0; twice < 2; twice++) {
            assert_int_equal(hal_device_status(device), TSR_DEVICE_LOST);
            assert_int_equal(hal_buffer_write(queue, buffer, 0, data, 64), TSR_DEVICE_LOST);
            assert_int_equal(hal_buffer_read(queue, buffer, 0, data, 64), TSR_DEVICE_LOST);
            assert_int_equal(step(queue, kernel, buffer, 16, 1), TSR_DEVICE_LOST);
            assert_int_equal(hal_queue_sync(queue), TSR_DEVICE_LOST);
            assert_int_equal(hal_event_sync(event), TSR_DEVICE_LOST);
            assert_int_equal(hal_event_query(event, &done), TSR_DEVICE_LOST);
            assert_int_equal(hal_buffer_alloc(device, HAL_MEMORY_DEVICE, 64, &none), TSR_DEVICE_LOST);
            assert_null(none);
            assert_true(strlen(tsr_last_error()) > 0);
        }
    }
    hal_kernel_destroy(kernel);
    hal_event_destroy(event);
    hal_buffer_free(buffer);
    hal_queue_destroy(queue);
    OK(hal_device_close(device));

    /* The other handle of the device goes on. */
    OK(hal_device_status(b->device));
    hal_buffer *x = device_buffer(b, 64);
    OK(hal_buffer_fill(b->queue, x, 0, 64, 4));
    expect_words(b, x, 16, 4);
    hal_buffer_free(x);
}

/* Backends must notice a loss by themselves: the entry that first meets it is any of them. */
static void every_entry_notices_a_loss(bench *b)
{
    for (int entry = 0; entry < 8; entry++) {
        hal_device *device;
        hal_queue *queue;
        hal_buffer *x, *y, *none = NULL;
        hal_event *event, *other = NULL;
        char data[64] = {0};
        OK(hal_device_open(b->ref.backend, b->ref.index, &device));
        OK(hal_queue_create(device, HAL_QUEUE_COMPUTE, &queue));
        OK(hal_buffer_alloc(device, HAL_MEMORY_DEVICE, 64, &x));
        OK(hal_buffer_alloc(device, HAL_MEMORY_DEVICE, 64, &y));
        OK(hal_event_create(device, &event));
        OK(hal_event_record(queue, event));
        const bool can = hal_device_lose(device) == TSR_OK;
        tsr_status status = TSR_DEVICE_LOST;
        switch (can ? entry : -1) {
        case 0: status = hal_buffer_write(queue, x, 0, data, 64); break;
        case 1: status = hal_buffer_read(queue, x, 0, data, 64); break;
        case 2: status = hal_buffer_copy(queue, x, 0, y, 0, 64); break;
        case 3: status = hal_buffer_fill(queue, x, 0, 64, 0); break;
        case 4: status = hal_event_record(queue, event); break;
        case 5: status = hal_queue_sync(queue); break;
        case 6: status = hal_buffer_alloc(device, HAL_MEMORY_DEVICE, 64, &none); break;
        case 7: status = hal_event_create(device, &other); break;
        default: break;
        }
        if (status != TSR_DEVICE_LOST)
            print_error("%s: entry %d gave %s\n", b->id, entry, tsr_status_name(status));
        assert_int_equal(status, TSR_DEVICE_LOST);
        hal_event_destroy(event);
        hal_buffer_free(x);
        hal_buffer_free(y);
        hal_queue_destroy(queue);
        OK(hal_device_close(device));
    }
}

static void counters_count(bench *b)
{
    hal_kernel *kernel = kernel_of(b, "selftest_step/i32");
    const hal_counters before = hal_device_counters(b->device);
    hal_buffer *x = device_buffer(b, 4096);
    OK(hal_buffer_fill(b->queue, x, 0, 4096, 0));
    for (uint32_t k = 0; k < 5; k++)
        OK(step(b->queue, kernel, x, 1024, k));
    hal_counters after = hal_device_counters(b->device);
    assert_int_equal(after.launches - before.launches, 5);
    assert_int_equal(after.allocations - before.allocations, 1);
    assert_int_equal(after.allocated_bytes - before.allocated_bytes, 4096);
    assert_int_equal(after.host_waits, before.host_waits);
    assert_int_equal(after.kernels_created, before.kernels_created);
    OK(hal_queue_sync(b->queue));
    hal_buffer_free(x);
    after = hal_device_counters(b->device);
    assert_int_equal(after.host_waits - before.host_waits, 1);
    assert_int_equal(after.frees - before.frees, 1);
}

#endif
