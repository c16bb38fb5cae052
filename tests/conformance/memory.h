/* The HAL conformance suite: allocation, writes, reads, copies, fills. */
#ifndef TESSERA_TESTS_CONFORMANCE_MEMORY_H
#define TESSERA_TESTS_CONFORMANCE_MEMORY_H

#include "conformance/bench.h"

static void information(bench *b)
{
    const hal_device_info *info = &b->device->info;
    assert_true(info->name[0] != '\0' && info->driver[0] != '\0');
    assert_true(info->memory_bytes > 0 && info->max_buffer_bytes > 0 && info->max_binding_bytes > 0);
    assert_true(info->max_group_size >= 1 && info->compute_units >= 1 && info->binding_alignment >= 1);
    assert_string_equal(hal_device_id(b->device), b->id);
    OK(hal_device_status(b->device));

    hal_device_info closed;
    OK(b->ref.backend->info(b->ref.index, &closed));
    assert_string_equal(closed.name, info->name);
    assert_string_equal(closed.uuid, info->uuid);
}

static void allocations(bench *b)
{
    static const size_t sizes[] = {0, 1, 2, 3, 4, 5, 17, 255, 4096, 65537, (1 << 20) + 1};
    enum { COUNT = sizeof sizes / sizeof sizes[0] };
    hal_buffer *buffers[COUNT], *host[COUNT];
    unsigned char *bytes = malloc(sizes[COUNT - 1]), *back = malloc(sizes[COUNT - 1]);
    for (size_t i = 0; i < COUNT; i++) {
        buffers[i] = device_buffer(b, sizes[i]);
        OK(hal_buffer_alloc(b->device, HAL_MEMORY_HOST, sizes[i], &host[i]));
        assert_non_null(hal_buffer_map(host[i]));
        assert_ptr_equal(hal_buffer_map(host[i]), hal_buffer_map(host[i]));
        random_bytes(bytes, sizes[i], (uint32_t)i);
        OK(hal_buffer_write(b->queue, buffers[i], 0, bytes, sizes[i]));
        memcpy(hal_buffer_map(host[i]), bytes, sizes[i]);
    }
    for (size_t i = 0; i < COUNT; i++) {
        random_bytes(bytes, sizes[i], (uint32_t)i);
        OK(hal_buffer_read(b->queue, buffers[i], 0, back, sizes[i]));
        assert_memory_equal(back, bytes, sizes[i]);
        assert_memory_equal(hal_buffer_map(host[i]), bytes, sizes[i]);
        hal_buffer_free(buffers[i]);
        hal_buffer_free(host[i]);
    }
    free(bytes);
    free(back);
}

static const size_t odd_sizes[] = {1, 2, 3, 4, 5, 7, 8, 15, 63, 64, 65, 257, 1000, 4099, 65539, (1 << 20) + 5};
static const size_t odd_offsets[] = {0, 1, 2, 3, 4, 63, 129};

static void writes_and_reads(bench *b)
{
    for (size_t s = 0; s < COUNT_OF(odd_sizes); s++) {
        for (size_t o = 0; o < COUNT_OF(odd_offsets); o++) {
            const size_t size = odd_sizes[s], offset = odd_offsets[o], whole = size + offset + 9;
            hal_buffer *buffer = guarded_buffer(b, whole);
            unsigned char *data = malloc(whole), *part = malloc(size), *back;
            random_bytes(data, whole, (uint32_t)(size + offset));
            random_bytes(part, size, 77);
            OK(hal_buffer_write(b->queue, buffer, GUARD, data, whole));
            OK(hal_buffer_write(b->queue, buffer, GUARD + offset, part, size));
            memcpy(data + offset, part, size);
            memset(part, 0, size); /* ours again as soon as write returns */
            back = guarded_read(b, buffer, whole);
            assert_memory_equal(back, data, whole);
            OK(hal_buffer_read(b->queue, buffer, GUARD + offset, part, size));
            assert_memory_equal(part, data + offset, size);
            hal_buffer_free(buffer);
            free(data);
            free(part);
            free(back);
        }
    }
}

static void copies(bench *b)
{
    for (size_t s = 0; s < COUNT_OF(odd_sizes); s++) {
        for (size_t o = 0; o < COUNT_OF(odd_offsets); o++) {
            const size_t size = odd_sizes[s], from = odd_offsets[o], to = odd_offsets[(o + 2) % 7], whole = size + 200;
            hal_buffer *x = guarded_buffer(b, whole), *y = guarded_buffer(b, whole);
            unsigned char *data = malloc(whole), *expected = malloc(whole), *back;
            random_bytes(data, whole, (uint32_t)size);
            random_bytes(expected, whole, 5);
            OK(hal_buffer_write(b->queue, x, GUARD, data, whole));
            OK(hal_buffer_write(b->queue, y, GUARD, expected, whole));
            OK(hal_buffer_copy(b->queue, x, GUARD + from, y, GUARD + to, size));
            memcpy(expected + to, data + from, size);
            back = guarded_read(b, y, whole);
            assert_memory_equal(back, expected, whole);
            free(back);

            /* Within one buffer, side by side. */
            const size_t half = size / 2;
            OK(hal_buffer_copy(b->queue, x, GUARD + from, x, GUARD + from + half, half));
            memcpy(data + from + half, data + from, half);
            back = guarded_read(b, x, whole);
            assert_memory_equal(back, data, whole);
            free(back);
            hal_buffer_free(x);
            hal_buffer_free(y);
            free(data);
            free(expected);
        }
    }
}

static void host_memory_copies(bench *b)
{
    const size_t size = 70001;
    hal_buffer *up, *down, *across, *x = guarded_buffer(b, size);
    OK(hal_buffer_alloc(b->device, HAL_MEMORY_HOST, size, &up));
    OK(hal_buffer_alloc(b->device, HAL_MEMORY_HOST, size, &down));
    OK(hal_buffer_alloc(b->device, HAL_MEMORY_HOST, size, &across));
    hal_event *event;
    OK(hal_event_create(b->device, &event));
    unsigned char *data = malloc(size);
    for (uint32_t round = 0; round < 3; round++) {
        random_bytes(data, size, round);
        memcpy(hal_buffer_map(up), data, size);
        memset(hal_buffer_map(down), 0x11, size);
        OK(hal_buffer_copy(b->queue, up, 3, x, GUARD + 3, size - 3));
        OK(hal_buffer_copy(b->queue, x, GUARD + 3, down, 5, size - 7));
        OK(hal_buffer_copy(b->queue, up, 0, across, 0, size));
        OK(hal_event_record(b->queue, event));
        OK(hal_event_sync(event));
        const unsigned char *got = hal_buffer_map(down);
        assert_memory_equal(got + 5, data + 3, size - 7);
        assert_true(got[0] == 0x11 && got[4] == 0x11 && got[size - 1] == 0x11 && got[size - 2] == 0x11);
        assert_memory_equal(hal_buffer_map(across), data, size);
        memset(hal_buffer_map(up), 0, size); /* allowed behind the event */
    }
    unsigned char *back = guarded_read(b, x, size);
    assert_memory_equal(back + 3, data + 3, size - 3);
    free(back);
    free(data);
    hal_event_destroy(event);
    hal_buffer_free(up);
    hal_buffer_free(down);
    hal_buffer_free(across);
    hal_buffer_free(x);
}

static void fills(bench *b)
{
    static const size_t sizes[] = {4, 8, 12, 60, 64, 68, 1028, 65536, (1 << 20) + 4};
    static const uint32_t patterns[] = {0, 0xffffffff, 0x01020304, 0x3f800000, 0x7f7f7f7f};
    for (size_t s = 0; s < COUNT_OF(sizes); s++) {
        for (size_t p = 0; p < COUNT_OF(patterns); p++) {
            const size_t whole = sizes[s] + 24, offset = s % 3 * 4;
            hal_buffer *buffer = guarded_buffer(b, whole);
            OK(hal_buffer_fill(b->queue, buffer, GUARD + offset, sizes[s], patterns[p]));
            unsigned char *back = guarded_read(b, buffer, whole);
            for (size_t i = 0; i < whole; i += 4) {
                uint32_t word;
                memcpy(&word, back + i, 4);
                assert_int_equal(word, i >= offset && i < offset + sizes[s] ? patterns[p] : 0xa5a5a5a5);
            }
            free(back);
            hal_buffer_free(buffer);
        }
    }
}

static void nothing_to_do(bench *b)
{
    hal_buffer *buffer = device_buffer(b, 16), *empty = device_buffer(b, 0);
    OK(hal_buffer_write(b->queue, buffer, 16, NULL, 0));
    OK(hal_buffer_read(b->queue, buffer, 16, NULL, 0));
    OK(hal_buffer_copy(b->queue, buffer, 16, empty, 0, 0));
    OK(hal_buffer_fill(b->queue, buffer, 16, 0, 1));
    OK(hal_buffer_write(b->queue, empty, 0, NULL, 0));
    OK(hal_queue_flush(b->queue));
    OK(hal_queue_sync(b->queue));
    OK(hal_queue_sync(b->queue));
    hal_buffer_free(buffer);
    hal_buffer_free(empty);
}

#endif
