/* What is Vulkan's own: barriers, batches, the staging ring, descriptors, deferred destruction, the pipeline cache. The
 * common contract is tested by test_hal_conformance.
 *
 * Everything runs twice, with push descriptors and without, and under the validation layer (with its check of
 * synchronisation) where that is installed; one message fails a test. */
#include "unit.h"

#include "backends/vulkan/vulkan_backend.h"
#include "base/cache.h"
#include "base/compiler.h"
#include "base/file.h"
#include "base/memory.h"
#include "dispatch/catalogue.h"

#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define VALIDATION "VK_LAYER_KHRONOS_validation"

extern const hal_backend vulkan_backend;
extern char **environ;

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        const tsr_status ok_ = (call);                                                                                 \
        if (ok_ != TSR_OK)                                                                                             \
            fail_msg("%s: %s: %s", #call, tsr_status_name(ok_), tsr_last_error());                                     \
    } while (0)

typedef struct fixture {
    hal_device *device;
    hal_queue *queue;
    vulkan_queue *own; /* the same queue */
    hal_kernel *step, *grid, *copy;
} fixture;

static fixture f;

static hal_kernel *kernel_of(const char *key)
{
    const kernel_entry *entry = catalogue_find(key, f.device->info.device_class);
    assert_non_null(entry);
    hal_kernel_desc desc;
    hal_kernel *kernel;
    OK(catalogue_describe(entry, &f.device->info, &desc));
    OK(hal_kernel_create(f.device, &desc, &kernel));
    return kernel;
}

static int open_device(void **state)
{
    vulkan_forbid_push_descriptors(*state != NULL);
    OK(hal_device_open(&vulkan_backend, 0, &f.device));
    OK(hal_queue_create(f.device, HAL_QUEUE_COMPUTE, &f.queue));
    f.own = (vulkan_queue *)f.queue;
    f.step = kernel_of("selftest_step/i32");
    f.grid = kernel_of("selftest_grid/i32");
    f.copy = kernel_of("selftest_copy/u8");
    return 0;
}

static int close_device(void **state)
{
    (void)state;
    hal_kernel_destroy(f.step);
    hal_kernel_destroy(f.grid);
    hal_kernel_destroy(f.copy);
    hal_queue_destroy(f.queue);
    OK(hal_device_close(f.device));
    vulkan_forbid_push_descriptors(false);
    assert_int_equal(vulkan_validation_messages(), 0);
    return 0;
}

static hal_buffer *buffer_of(hal_memory memory, size_t size)
{
    hal_buffer *b;
    OK(hal_buffer_alloc(f.device, memory, size, &b));
    return b;
}

/* y = 3 y + k modulo 65536 on n words from the byte `offset` on. */
static void step(hal_buffer *y, size_t offset, uint32_t n, uint32_t k)
{
    const uint32_t params[] = {n, n, k};
    const hal_binding binding = {.buffer = y, .offset = offset, .length = (size_t)n * 4};
    OK(hal_kernel_launch(f.queue, &(hal_launch){.kernel = f.step,
                                                .grid = {1, 1, 1},
                                                .bindings = &binding,
                                                .binding_count = 1,
                                                .params = params,
                                                .params_bytes = sizeof params}));
}

/* y[i] = x[i] for n bytes, by a kernel. */
static void kernel_copy(hal_buffer *x, size_t x_offset, hal_buffer *y, size_t y_offset, uint32_t n)
{
    const uint32_t params[] = {n, n, 0, 1, 0, 1};
    const hal_binding bindings[] = {{.buffer = x, .offset = x_offset, .length = n},
                                    {.buffer = y, .offset = y_offset, .length = n}};
    OK(hal_kernel_launch(f.queue, &(hal_launch){.kernel = f.copy,
                                                .grid = {1, 1, 1},
                                                .bindings = bindings,
                                                .binding_count = 2,
                                                .params = params,
                                                .params_bytes = sizeof params}));
}

static uint32_t word_at(hal_buffer *b, size_t offset)
{
    uint32_t word;
    OK(hal_buffer_read(f.queue, b, offset, &word, sizeof word));
    return word;
}

/* Barriers that were placed since the last call. */
static uint64_t barriers(void)
{
    static uint64_t before;
    const uint64_t now = f.own->barriers;
    const uint64_t placed = now >= before ? now - before : now;
    before = now;
    return placed;
}

/* ---- barriers ------------------------------------------------------------------------------------------------------ */

static void barriers_stand_only_where_they_must(void **state)
{
    (void)state;
    hal_buffer *a = buffer_of(HAL_MEMORY_DEVICE, 4096), *b = buffer_of(HAL_MEMORY_DEVICE, 4096);
    barriers();
    for (size_t i = 0; i < 8; i++)
        OK(hal_buffer_fill(f.queue, a, i * 512, 512, 7)); /* apart from each other */
    assert_int_equal(barriers(), 0);
    for (size_t i = 0; i < 8; i++)
        step(a, i * 512, 128, (uint32_t)i);
    assert_int_equal(barriers(), 1); /* the first waits for the fills, the others for nothing */
    for (size_t i = 0; i < 8; i++)
        step(a, 0, 16, 1);
    assert_int_equal(barriers(), 8); /* in place, again and again */
    OK(hal_buffer_copy(f.queue, a, 0, b, 0, 1024));
    assert_int_equal(barriers(), 1); /* read after write */
    OK(hal_buffer_copy(f.queue, a, 0, b, 1024, 1024));
    kernel_copy(a, 3, b, 2049, 1021);
    assert_int_equal(barriers(), 0); /* read after read */
    step(a, 1020, 1, 5);
    assert_int_equal(barriers(), 1); /* write after read */
    step(b, 3072, 16, 5);
    assert_int_equal(barriers(), 0); /* bytes that nobody touched */
    OK(hal_buffer_write(f.queue, b, 3072, "four", 4));
    assert_int_equal(barriers(), 1); /* write after write */
    OK(hal_queue_flush(f.queue));
    step(b, 3072, 1, 5);
    assert_int_equal(barriers(), 1); /* a submit does not order by itself */
    OK(hal_queue_sync(f.queue));
    hal_buffer_free(a);
    hal_buffer_free(b);
}

static void a_long_chain_is_right(void **state)
{
    (void)state;
    hal_buffer *a = buffer_of(HAL_MEMORY_DEVICE, 1024);
    OK(hal_buffer_fill(f.queue, a, 0, 1024, 1));
    uint32_t expected = 1;
    for (uint32_t k = 0; k < 1000; k++) {
        step(a, 4, 255, k);
        expected = (3 * expected + k) & 65535;
    }
    assert_int_equal(word_at(a, 4), expected);
    assert_int_equal(word_at(a, 1020), expected);
    assert_int_equal(word_at(a, 0), 1);
    hal_buffer_free(a);
}

/* ---- launches ------------------------------------------------------------------------------------------------------ */

/* Offsets in bytes that no driver takes for a descriptor. */
static void bindings_may_begin_anywhere(void **state)
{
    (void)state;
    enum { N = 300 };
    unsigned char bytes[1024], back[1024];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(i * 7 + 1);
    hal_buffer *a = buffer_of(HAL_MEMORY_DEVICE, sizeof bytes), *b = buffer_of(HAL_MEMORY_DEVICE, sizeof bytes);
    OK(hal_buffer_write(f.queue, a, 0, bytes, sizeof bytes));
    for (size_t from = 0; from < 260; from += 37)
        for (size_t to = 1; to < 520; to += 129) {
            OK(hal_buffer_fill(f.queue, b, 0, sizeof back, 0xa5a5a5a5u));
            kernel_copy(a, from, b, to, N);
            OK(hal_buffer_read(f.queue, b, 0, back, sizeof back));
            assert_memory_equal(back + to, bytes + from, N);
            assert_int_equal(back[to - 1], 0xa5);
            assert_int_equal(back[to + N], 0xa5);
        }
    hal_buffer_free(a);
    hal_buffer_free(b);
}

/* Drivers may end at 65535 work-groups; the HAL does not. */
static void grids_may_be_longer_than_the_driver_allows(void **state)
{
    (void)state;
    const uint32_t most = ((vulkan_device *)f.device)->adapter->properties.limits.maxComputeWorkGroupCount[0];
    if (most > 1 << 20) {
        print_message("the driver takes %u work-groups at once: its limit is too far away to be passed\n", most);
        return;
    }
    const uint32_t nx = 3 * most + 5;
    const uint32_t params[] = {nx, 2};
    hal_buffer *y = buffer_of(HAL_MEMORY_DEVICE, (size_t)nx * 8);
    const hal_binding binding = {.buffer = y, .length = (size_t)nx * 8};
    OK(hal_buffer_fill(f.queue, y, 0, (size_t)nx * 8, 0xffffffffu));
    OK(hal_kernel_launch(f.queue, &(hal_launch){.kernel = f.grid,
                                                .grid = {nx, 2, 1},
                                                .bindings = &binding,
                                                .binding_count = 1,
                                                .params = params,
                                                .params_bytes = sizeof params}));
    uint32_t *words = malloc((size_t)nx * 8);
    assert_non_null(words);
    OK(hal_buffer_read(f.queue, y, 0, words, (size_t)nx * 8));
    for (uint32_t i = 0; i < 2 * nx; i++)
        if (words[i] != i % nx + 1000 * (i / nx))
            fail_msg("work-group %u of row %u left %u", i % nx, i / nx, words[i]);
    free(words);
    hal_buffer_free(y);
}

static void a_binding_beyond_the_limit_is_refused(void **state)
{
    (void)state;
    const vulkan_adapter *adapter = ((vulkan_device *)f.device)->adapter;
    const size_t limit = adapter->properties.limits.maxStorageBufferRange;
    if (limit + 8192 > f.device->info.max_buffer_bytes || limit > (size_t)1 << 30) {
        print_message("no buffer is made beyond the limit of %zu bytes\n", limit);
        return;
    }
    hal_buffer *b = buffer_of(HAL_MEMORY_DEVICE, limit + 8192);
    const uint32_t params[] = {1, 1, 1};
    hal_binding binding = {.buffer = b, .offset = 4, .length = limit}; /* with the 4 bytes before it, too long */
    hal_launch launch = {.kernel = f.step,
                         .grid = {1, 1, 1},
                         .bindings = &binding,
                         .binding_count = 1,
                         .params = params,
                         .params_bytes = sizeof params};
    char number[32];
    assert_int_equal(hal_kernel_launch(f.queue, &launch), TSR_UNSUPPORTED);
    snprintf(number, sizeof number, "%zu", limit + 4);
    assert_non_null(strstr(tsr_last_error(), number));
    snprintf(number, sizeof number, "%zu", limit);
    assert_non_null(strstr(tsr_last_error(), number));
    assert_non_null(strstr(tsr_last_error(), "selftest_step/i32"));
    binding.offset = 4096;
    OK(hal_kernel_launch(f.queue, &launch));
    binding.length = limit + 4;
    assert_int_equal(hal_kernel_launch(f.queue, &launch), TSR_UNSUPPORTED);
    hal_buffer_free(b);
}

/* ---- batches and the ring ------------------------------------------------------------------------------------------- */

static void many_launches_make_few_submits(void **state)
{
    (void)state;
    hal_buffer *a = buffer_of(HAL_MEMORY_DEVICE, 64);
    OK(hal_buffer_fill(f.queue, a, 0, 64, 0));
    OK(hal_queue_sync(f.queue));
    const uint64_t before = f.own->submits;
    for (uint32_t k = 0; k < 2000; k++)
        step(a, 0, 16, k);
    OK(hal_queue_sync(f.queue));
    assert_in_range(f.own->submits - before, 2000 / VULKAN_BATCH_COMMANDS, 2000 / 16 + 1);
    hal_buffer_free(a);
}

static void fill_pattern(unsigned char *bytes, size_t size, unsigned seed)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (unsigned char)((i * 2654435761u + seed) >> 13);
}

/* Sizes around what travels in the command buffer, at odd offsets, and far beyond the ring. */
static void writes_of_all_sizes(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 3, 4, 4095, 4096, 4097, 4100, 65536, 1000003, VULKAN_STAGING_PIECE + 1, 90000001};
    const size_t most = 90000001;
    unsigned char *bytes = malloc(most), *back = malloc(most + 9);
    assert_true(bytes != NULL && back != NULL);
    hal_buffer *a = buffer_of(HAL_MEMORY_DEVICE, most + 9);
    for (size_t i = 0; i < COUNT_OF(sizes); i++)
        for (size_t offset = 4; offset < 6; offset++) {
            const size_t size = sizes[i];
            if (size > 100000 && offset == 5 && size != most)
                continue;
            fill_pattern(bytes, size, (unsigned)(i + offset));
            OK(hal_buffer_fill(f.queue, a, 0, (size + 9) / 4 * 4, 0x11111111u));
            OK(hal_buffer_write(f.queue, a, offset, bytes, size));
            const unsigned char first = bytes[0];
            bytes[0] = (unsigned char)~first; /* the source is the caller's again */
            OK(hal_buffer_read(f.queue, a, offset - 1, back, size + 1));
            bytes[0] = first;
            assert_int_equal(back[0], 0x11);
            assert_memory_equal(back + 1, bytes, size);
        }
    hal_buffer_free(a);
    free(bytes);
    free(back);
}

/* The ring must not hand out a place that the device has yet to read. */
static void the_ring_goes_round(void **state)
{
    (void)state;
    enum { SIZE = 300001, COUNT = 400 };
    unsigned char *bytes = malloc(SIZE), *back = malloc(SIZE);
    assert_true(bytes != NULL && back != NULL);
    hal_buffer *targets[16];
    for (int i = 0; i < 16; i++)
        targets[i] = buffer_of(HAL_MEMORY_DEVICE, SIZE);
    for (unsigned i = 0; i < COUNT; i++) {
        memset(bytes, (int)(i % 251), SIZE);
        OK(hal_buffer_write(f.queue, targets[i % 16], 0, bytes, SIZE));
    }
    for (unsigned i = 0; i < 16; i++) {
        OK(hal_buffer_read(f.queue, targets[i], 0, back, SIZE));
        memset(bytes, (int)((COUNT - 16 + i) % 251), SIZE);
        assert_memory_equal(back, bytes, SIZE);
        hal_buffer_free(targets[i]);
    }
    free(bytes);
    free(back);
}

static void a_steady_loop_makes_nothing_new(void **state)
{
    (void)state;
    enum { BYTES = 200704 };
    static unsigned char images[BYTES];
    hal_buffer *a = buffer_of(HAL_MEMORY_DEVICE, BYTES), *h = buffer_of(HAL_MEMORY_HOST, 64);
    hal_event *event;
    OK(hal_event_create(f.device, &event));
    uint64_t after_two = 0;
    for (int i = 0; i < 200; i++) {
        if (i == 100)
            after_two = vulkan_driver_objects();
        OK(hal_buffer_write(f.queue, a, 0, images, BYTES));
        OK(hal_buffer_write(f.queue, a, 4, "abcd", 4));
        for (uint32_t k = 0; k < 120; k++)
            step(a, k * 64, 16, k);
        OK(hal_buffer_copy(f.queue, a, 0, h, 0, 64));
        OK(hal_event_record(f.queue, event));
        if (i % 5 == 0)
            OK(hal_event_sync(event));
    }
    OK(hal_queue_sync(f.queue));
    assert_int_equal(vulkan_driver_objects(), after_two);
    hal_event_destroy(event);
    hal_buffer_free(a);
    hal_buffer_free(h);
}

static void what_is_in_use_is_destroyed_later(void **state)
{
    (void)state;
    vulkan_device *device = (vulkan_device *)f.device;
    hal_buffer *a = buffer_of(HAL_MEMORY_DEVICE, 1 << 20), *b = buffer_of(HAL_MEMORY_DEVICE, 64);
    step(b, 0, 16, 1);
    OK(hal_buffer_fill(f.queue, a, 0, 1 << 20, 3)); /* still being recorded */
    hal_buffer_free(a);
    assert_int_equal(device->corpse_count, 1);
    OK(hal_queue_sync(f.queue));
    assert_int_equal(device->corpse_count, 0);
    hal_buffer *idle = buffer_of(HAL_MEMORY_DEVICE, 64);
    hal_buffer_free(idle);
    assert_int_equal(device->corpse_count, 0);
    hal_buffer_free(b);
}

/* ---- queues and events ------------------------------------------------------------------------------------------------ */

static void queues_end_at_a_limit(void **state)
{
    (void)state;
    hal_queue *queues[VULKAN_MAX_QUEUES];
    for (int i = 0; i < VULKAN_MAX_QUEUES - 1; i++)
        OK(hal_queue_create(f.device, i % 2 == 0 ? HAL_QUEUE_COPY : HAL_QUEUE_COMPUTE, &queues[i]));
    assert_int_equal(hal_queue_create(f.device, HAL_QUEUE_COMPUTE, &queues[VULKAN_MAX_QUEUES - 1]), TSR_UNSUPPORTED);
    assert_non_null(strstr(tsr_last_error(), "16 queues"));

    /* All of them, one behind the other, through events; the same VkQueue serves several. */
    hal_buffer *a = buffer_of(HAL_MEMORY_DEVICE, 4096);
    hal_event *event;
    OK(hal_event_create(f.device, &event));
    for (uint32_t i = 0; i < VULKAN_MAX_QUEUES - 1; i++) {
        if (i > 0)
            OK(hal_queue_wait(queues[i], event));
        OK(hal_buffer_fill(queues[i], a, 0, 4096 - 256 * (size_t)i, i));
        OK(hal_event_record(queues[i], event));
    }
    OK(hal_queue_wait(f.queue, event));
    for (uint32_t i = 0; i < VULKAN_MAX_QUEUES - 1; i++)
        assert_int_equal(word_at(a, 4096 - 256 * (size_t)i - 4), i);
    for (int i = 0; i < VULKAN_MAX_QUEUES - 1; i++)
        hal_queue_destroy(queues[i]);

    /* A later queue in the place of an earlier one: the event of the earlier one is long done. */
    hal_queue *again;
    bool done = false;
    OK(hal_queue_create(f.device, HAL_QUEUE_COMPUTE, &again));
    OK(hal_event_query(event, &done));
    assert_true(done);
    OK(hal_buffer_fill(again, a, 0, 64, 9));
    OK(hal_queue_sync(again));
    assert_int_equal(word_at(a, 60), 9);
    hal_queue_destroy(again);
    hal_event_destroy(event);
    hal_buffer_free(a);
}

static void asking_often_enough_ends(void **state)
{
    (void)state;
    hal_buffer *a = buffer_of(HAL_MEMORY_DEVICE, 64);
    hal_event *event;
    OK(hal_event_create(f.device, &event));
    step(a, 0, 16, 1);
    OK(hal_event_record(f.queue, event));
    bool done = false;
    for (long asked = 0; !done; asked++) { /* nobody flushes */
        assert_true(asked < 100000000);
        OK(hal_event_query(event, &done));
    }
    hal_event_destroy(event);
    hal_buffer_free(a);
}

static void events_tell_the_time(void **state)
{
    (void)state;
    hal_event *from, *to;
    OK(hal_event_create(f.device, &from));
    OK(hal_event_create(f.device, &to));
    hal_buffer *a = buffer_of(HAL_MEMORY_DEVICE, 16 << 20);
    double none = -1, some = -1;
    for (int again = 0; again < 3; again++) { /* recorded anew, before and after the earlier record is done */
        OK(hal_event_record(f.queue, from));
        OK(hal_event_record(f.queue, to));
    }
    OK(hal_event_sync(to));
    OK(hal_event_elapsed(from, to, &none));
    assert_true(none >= 0 && none < 1000);
    OK(hal_event_record(f.queue, from));
    for (int i = 0; i < 8; i++)
        OK(hal_buffer_fill(f.queue, a, 0, 16 << 20, 1));
    OK(hal_event_record(f.queue, to));
    assert_int_equal(hal_event_elapsed(from, to, &some), TSR_INVALID_ARGUMENT); /* not done */
    OK(hal_event_sync(to));
    OK(hal_event_elapsed(from, to, &some));
    assert_true(some > 0 && some < 60000); /* 128 MiB cannot be written in no time */
    OK(hal_event_elapsed(to, from, &none));
    assert_true(none == -some);
    hal_buffer_free(a);
    hal_event_destroy(from);
    hal_event_destroy(to);
}

static void more_events_than_clocks(void **state)
{
    (void)state;
    enum { COUNT = VULKAN_EVENT_QUERIES + 8 };
    static hal_event *events[COUNT];
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < COUNT; i++)
            OK(hal_event_create(f.device, &events[i]));
        OK(hal_event_record(f.queue, events[COUNT - 1]));
        OK(hal_event_record(f.queue, events[0]));
        OK(hal_event_sync(events[COUNT - 1]));
        double elapsed;
        assert_int_equal(hal_event_elapsed(events[0], events[COUNT - 1], &elapsed), TSR_UNSUPPORTED);
        OK(hal_event_elapsed(events[0], events[0], &elapsed));
        for (int i = 0; i < COUNT; i++)
            hal_event_destroy(events[i]);
    }
    /* Destroyed while the device has yet to write the time: the places come back. */
    for (int i = 0; i < 3 * VULKAN_EVENT_QUERIES; i++) {
        OK(hal_event_create(f.device, &events[0]));
        OK(hal_event_record(f.queue, events[0]));
        hal_event_destroy(events[0]);
        if (i % 512 == 511)
            OK(hal_queue_sync(f.queue));
    }
    double elapsed;
    OK(hal_event_create(f.device, &events[0]));
    OK(hal_event_record(f.queue, events[0]));
    OK(hal_event_sync(events[0]));
    OK(hal_event_elapsed(events[0], events[0], &elapsed));
    hal_event_destroy(events[0]);
}

static void lost_with_work_under_way(void **state)
{
    (void)state;
    hal_device *device;
    hal_queue *queues[2];
    hal_buffer *a;
    hal_event *event;
    OK(hal_device_open(&vulkan_backend, 0, &device));
    OK(hal_queue_create(device, HAL_QUEUE_COMPUTE, &queues[0]));
    OK(hal_queue_create(device, HAL_QUEUE_COPY, &queues[1]));
    OK(hal_buffer_alloc(device, HAL_MEMORY_DEVICE, 8 << 20, &a));
    OK(hal_event_create(device, &event));
    for (int i = 0; i < 40; i++)
        OK(hal_buffer_fill(queues[0], a, 0, 8 << 20, 1)); /* some submitted, some recorded only */
    OK(hal_event_record(queues[0], event));
    OK(hal_queue_wait(queues[1], event));
    OK(hal_buffer_fill(queues[1], a, 0, 64, 2));
    vulkan_backend.lose(device);
    assert_int_equal(hal_queue_sync(queues[1]), TSR_DEVICE_LOST);
    assert_int_equal(hal_event_sync(event), TSR_DEVICE_LOST);
    hal_buffer_free(a); /* while it is used */
    hal_event_destroy(event);
    hal_queue_destroy(queues[1]);
    hal_queue_destroy(queues[0]);
    OK(hal_device_close(device));
}

/* ---- devices ------------------------------------------------------------------------------------------------------- */

static void tells_what_a_device_is(void **state)
{
    (void)state;
    uint32_t count = 0;
    char why[256];
    OK(vulkan_backend.enumerate(&count, why, sizeof why));
    for (uint32_t i = 0; i < count; i++) {
        hal_device_info info;
        OK(vulkan_backend.info(i, &info));
        assert_true(info.name[0] != '\0' && info.driver[0] != '\0');
        assert_int_equal(strspn(info.uuid, "0123456789abcdef"), 32);
        assert_int_equal(strlen(info.uuid), 32);
        assert_int_equal(info.code, HAL_CODE_SPIRV);
        assert_int_equal(info.software, info.device_class == HAL_CLASS_CPU);
        assert_true(info.features & HAL_FEATURE_STORAGE_16);
        assert_true(info.memory_bytes >= info.max_buffer_bytes && info.max_buffer_bytes >= (uint64_t)64 << 20);
        assert_true(info.max_binding_bytes >= (uint64_t)128 << 20); /* Vulkan's least */
        assert_true(info.max_group_size >= 128 && info.shared_bytes >= 16384);
        print_message("vulkan:%u: %s; %s; notes: %s\n", i, info.name, info.driver, info.notes);
    }
    hal_device_info info;
    assert_int_equal(vulkan_backend.info(count, &info), TSR_NO_DEVICE);
}

/* What lies on the disk may be anything. */
static void a_damaged_pipeline_cache_does_no_harm(void **state)
{
    (void)state;
    char key[65];
    memcpy(key, ((vulkan_device *)f.device)->pipeline_cache_key, sizeof key);
    const VkPhysicalDeviceProperties *p = &((vulkan_device *)f.device)->adapter->properties;
    VkPipelineCacheHeaderVersionOne header = {.headerSize = sizeof header,
                                              .headerVersion = VK_PIPELINE_CACHE_HEADER_VERSION_ONE,
                                              .vendorID = p->vendorID ^ 1,
                                              .deviceID = p->deviceID};
    unsigned char bytes[512];
    fill_pattern(bytes, sizeof bytes, 5);
    const size_t sizes[] = {1, sizeof header - 1, sizeof bytes};
    for (size_t i = 0; i <= COUNT_OF(sizes); i++) {
        if (i < COUNT_OF(sizes))
            cache_store("vulkan", key, bytes, sizes[i]);
        else
            cache_store("vulkan", key, &header, sizeof header);
        hal_device *device;
        OK(hal_device_open(&vulkan_backend, 0, &device));
        assert_true(((vulkan_device *)device)->pipeline_cache != VK_NULL_HANDLE);
        OK(hal_device_close(device));
    }
    cache_store("vulkan", key, "", 0); /* nothing of this is for later runs */
}

/* This program again, with an argument. */
static void run_again(char *argument)
{
    char path[PATH_SIZE];
    OK(path_of_executable(path, sizeof path));
    char *arguments[] = {path, argument, NULL};
    pid_t child;
    int status = -1;
    assert_int_equal(posix_spawn(&child, path, NULL, NULL, arguments, environ), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void no_driver_is_a_sentence(void **state)
{
    (void)state;
    run_again((char[]){"absent"});
}

static int absent(void)
{
    setenv("VK_DRIVER_FILES", "/nonexistent/driver.json", 1);
    setenv("VK_ICD_FILENAMES", "/nonexistent/driver.json", 1);
    uint32_t count = 99;
    char why[512] = "";
    hal_device *device;
    if (vulkan_backend.enumerate(&count, why, sizeof why) != TSR_OK || count != 0 || strstr(why, "install") == NULL)
        return 1;
    if (hal_device_open(&vulkan_backend, 0, &device) != TSR_NO_DEVICE)
        return 2;
    hal_device_info info;
    return vulkan_backend.info(0, &info) == TSR_NO_DEVICE ? 0 : 3;
}

/* Shows that the layer is there and that its messages are counted: what no test may cause, caused on purpose. */
static void it_listens(void **state)
{
    (void)state;
    const PFN_vkCreateBuffer create = ((vulkan_device *)f.device)->vk.vkCreateBuffer;
    VkDevice device = ((vulkan_device *)f.device)->handle;
    VkBuffer buffer = VK_NULL_HANDLE;
    const VkBufferCreateInfo wrong = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO, .size = 64}; /* no usage */
    if (create(device, &wrong, NULL, &buffer) == VK_SUCCESS)
        ((vulkan_device *)f.device)->vk.vkDestroyBuffer(device, buffer, NULL);
    if (vulkan_validation_messages() == 0) {
        print_message("the validation layer is not installed: validity is not checked "
                      "(Debian, Ubuntu: apt install vulkan-validationlayers)\n");
    } else {
        hal_buffer *a = buffer_of(HAL_MEMORY_DEVICE, 64);
        OK(hal_buffer_fill(f.queue, a, 0, 64, 1));
        hazard_clear(&f.own->hazards); /* the barrier before the next fill falls away */
        OK(hal_buffer_fill(f.queue, a, 0, 64, 2));
        OK(hal_queue_sync(f.queue));
        assert_true(vulkan_validation_messages() > 1);
        hal_buffer_free(a);
    }
    hal_kernel_destroy(f.step);
    hal_kernel_destroy(f.grid);
    hal_kernel_destroy(f.copy);
    hal_queue_destroy(f.queue);
    OK(hal_device_close(f.device));
}

static int open_only(void **state)
{
    return open_device(state);
}

/* Alone: it leaves messages, and tests/order would find the missing barrier too. */
static int listen(void)
{
    setenv("VK_INSTANCE_LAYERS", VALIDATION, 1);
    const struct CMUnitTest tests[] = {{"it_listens", it_listens, open_only, NULL, NULL}};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

static void the_layer_listens(void **state)
{
    (void)state;
    run_again((char[]){"listen"});
}

/* Beside the layers that the environment names already. */
static void use_validation(void)
{
    const char *others = getenv("VK_INSTANCE_LAYERS");
    char layers[512] = VALIDATION;
    if (others != NULL && strstr(others, VALIDATION) == NULL)
        snprintf(layers, sizeof layers, "%s:%s", others, VALIDATION);
    else if (others != NULL)
        snprintf(layers, sizeof layers, "%s", others);
    setenv("VK_INSTANCE_LAYERS", layers, 1);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "absent") == 0)
        return absent();

    use_validation();
    /* The check across submits takes a timeline for a binary semaphore (layer 1.3.239): a queue that was waited for after
     * more than one submit is reported wrongly, so tests of order between queues make theirs anew. */
    setenv("VK_LAYER_ENABLES",
           "VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT:"
           "VALIDATION_CHECK_ENABLE_SYNCHRONIZATION_VALIDATION_QUEUE_SUBMIT",
           0);
    setenv("TESSERA_LOG", "warn", 0); /* a message is written where it arises */
    if (argc > 1 && strcmp(argv[1], "listen") == 0)
        return listen();

    uint32_t count = 0;
    char why[512] = "";
    vulkan_backend.enumerate(&count, why, sizeof why);
    if (count == 0) {
        print_message("skipped: %s\n", why);
        const struct CMUnitTest without[] = {cmocka_unit_test(no_driver_is_a_sentence)};
        return cmocka_run_group_tests(without, NULL, NULL);
    }

#define BOTH(test)                                                                                                     \
    {#test, test, open_device, close_device, NULL},                                                                    \
    {                                                                                                                  \
#test " without push descriptors", test, open_device, close_device, (void *)"sets"                             \
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_what_a_device_is),
        cmocka_unit_test(no_driver_is_a_sentence),
        BOTH(barriers_stand_only_where_they_must),
        BOTH(a_long_chain_is_right),
        BOTH(bindings_may_begin_anywhere),
        BOTH(grids_may_be_longer_than_the_driver_allows),
        BOTH(a_binding_beyond_the_limit_is_refused),
        BOTH(many_launches_make_few_submits),
        BOTH(writes_of_all_sizes),
        BOTH(the_ring_goes_round),
        BOTH(a_steady_loop_makes_nothing_new),
        BOTH(what_is_in_use_is_destroyed_later),
        BOTH(queues_end_at_a_limit),
        BOTH(asking_often_enough_ends),
        BOTH(events_tell_the_time),
        BOTH(more_events_than_clocks),
        BOTH(lost_with_work_under_way),
        BOTH(a_damaged_pipeline_cache_does_no_harm),
        cmocka_unit_test(the_layer_listens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
