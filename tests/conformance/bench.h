/* The HAL conformance suite: a device under test, and what its rows have in common. Included by test_hal_conformance.c only. */
#ifndef TESSERA_TESTS_CONFORMANCE_BENCH_H
#define TESSERA_TESTS_CONFORMANCE_BENCH_H

#include "unit.h"

#include "base/error.h"
#include "dispatch/catalogue.h"
#include "hal/registry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KERNELS_MOST = 64, GUARD = 192 };

/* A device under test. */
typedef struct bench {
    device_ref ref;
    char id[DEVICE_ID_SIZE];
    hal_device *device;
    hal_queue *queue;
    hal_kernel *kernels[KERNELS_MOST];
    const char *keys[KERNELS_MOST];
    size_t kernel_count;
} bench;

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        const tsr_status status_ = (call);                                                                             \
        if (status_ != TSR_OK)                                                                                         \
            print_error("%s: %s\n", tsr_status_name(status_), tsr_last_error());                                       \
        assert_int_equal(status_, TSR_OK);                                                                             \
    } while (0)

/* NULL, with the reason printed, where the device cannot run it. */
static hal_kernel *kernel_of(bench *b, const char *key)
{
    for (size_t i = 0; i < b->kernel_count; i++) {
        if (strcmp(b->keys[i], key) == 0)
            return b->kernels[i];
    }
    const kernel_entry *entry = catalogue_find(key, b->device->info.device_class);
    if (entry == NULL)
        print_error("the catalogue has no kernel %s\n", key);
    assert_non_null(entry);

    hal_kernel_desc desc;
    hal_kernel *kernel = NULL;
    const tsr_status status = catalogue_describe(entry, &b->device->info, &desc);
    if (status == TSR_UNSUPPORTED) {
        print_message("%s: left out: %s\n", b->id, tsr_last_error());
    } else {
        OK(status);
        OK(hal_kernel_create(b->device, &desc, &kernel));
    }
    assert_true(b->kernel_count < KERNELS_MOST);
    b->keys[b->kernel_count] = key;
    b->kernels[b->kernel_count++] = kernel;
    return kernel;
}

static tsr_status launch_on(hal_queue *queue, hal_kernel *kernel, uint32_t x, uint32_t y, uint32_t z,
                            const hal_binding *bindings, uint32_t binding_count, const void *params,
                            uint32_t params_bytes)
{
    const hal_launch launch = {.kernel = kernel,
                               .grid = {x, y, z},
                               .bindings = bindings,
                               .binding_count = binding_count,
                               .params = params,
                               .params_bytes = params_bytes};
    return hal_kernel_launch(queue, &launch);
}

static hal_buffer *device_buffer(const bench *b, size_t size)
{
    hal_buffer *buffer;
    OK(hal_buffer_alloc(b->device, HAL_MEMORY_DEVICE, size, &buffer));
    return buffer;
}

/* `size` bytes at offset GUARD, with GUARD bytes of a pattern before and behind. */
static hal_buffer *guarded_buffer(const bench *b, size_t size)
{
    hal_buffer *buffer = device_buffer(b, size + 2 * GUARD);
    unsigned char *bytes = malloc(size + 2 * GUARD);
    memset(bytes, 0xa5, size + 2 * GUARD);
    OK(hal_buffer_write(b->queue, buffer, 0, bytes, size + 2 * GUARD));
    free(bytes);
    return buffer;
}

/* Reads `size` guarded bytes and looks at the guards. */
static unsigned char *guarded_read(const bench *b, hal_buffer *buffer, size_t size)
{
    unsigned char *bytes = malloc(size + 2 * GUARD);
    OK(hal_buffer_read(b->queue, buffer, 0, bytes, size + 2 * GUARD));
    for (size_t i = 0; i < GUARD; i++) {
        if (bytes[i] != 0xa5 || bytes[GUARD + size + i] != 0xa5)
            print_error("%s: a guard of %zu bytes was overwritten at %zu\n", b->id, size, i);
        assert_true(bytes[i] == 0xa5 && bytes[GUARD + size + i] == 0xa5);
    }
    memmove(bytes, bytes + GUARD, size);
    return bytes;
}

static void random_bytes(unsigned char *bytes, size_t size, uint32_t seed)
{
    for (size_t i = 0; i < size; i++) {
        seed = seed * 1664525u + 1013904223u;
        bytes[i] = (unsigned char)(seed >> 24);
    }
}

/* y = 3 y + k of `count` words from offset 0 of a buffer, queued. */
static tsr_status step(hal_queue *queue, hal_kernel *kernel, hal_buffer *buffer, uint32_t count, uint32_t k)
{
    const uint32_t params[] = {count, 256, k};
    const hal_binding binding = {buffer, 0, (size_t)count * 4};
    return launch_on(queue, kernel, (count + 255) / 256, 1, 1, &binding, 1, params, sizeof params);
}

static uint32_t stepped(uint32_t y, uint32_t k)
{
    return (3 * y + k) & 65535;
}

static void expect_words(const bench *b, hal_buffer *buffer, uint32_t count, uint32_t value)
{
    uint32_t *words = malloc((size_t)count * 4);
    OK(hal_buffer_read(b->queue, buffer, 0, words, (size_t)count * 4));
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(words[i], value);
    free(words);
}

#endif
