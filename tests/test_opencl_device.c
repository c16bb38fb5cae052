/* The OpenCL backend on the OpenCL devices there are: devices, memory, queues, events, loss, and other environments. */
#include "opencl/opencl_test.h"

#include "base/clock.h"

#include <sys/wait.h>
#include <unistd.h>

static const char *program; /* this test's own path, to run it again in another environment */

/* ---- devices --------------------------------------------------------------------------------------------------- */

static void tells_what_a_device_is(void **state)
{
    (void)state;
    const uint32_t count = device_count();
    hal_device_info info[64];
    for (uint32_t i = 0; i < count; i++) {
        OK(opencl_backend.info(i, &info[i]));
        assert_true(info[i].name[0] != 0 && info[i].vendor[0] != 0 && info[i].driver[0] != 0);
        assert_int_equal(strlen(info[i].uuid), 32);
        assert_int_equal(strspn(info[i].uuid, "0123456789abcdef"), 32);
        assert_int_equal(info[i].code, HAL_CODE_SOURCE);
        assert_int_equal(info[i].software, info[i].device_class == HAL_CLASS_CPU);
        assert_true(info[i].features & HAL_FEATURE_STORAGE_16);
        assert_true(info[i].max_buffer_bytes >= (uint64_t)64 << 20 && info[i].memory_bytes >= info[i].max_buffer_bytes);
        assert_int_equal(info[i].max_binding_bytes, info[i].max_buffer_bytes);
        assert_true(info[i].max_group_size >= 1 && info[i].compute_units >= 1);
        assert_true(info[i].shared_bytes >= 16384);
        if (strstr(info[i].driver, "Portable Computing Language")) {
            assert_true(info[i].features & HAL_FEATURE_FLOAT64);
            assert_true(info[i].software && info[i].unified_memory);
            assert_non_null(strstr(info[i].notes, "compiles for "));
        }
        for (uint32_t j = 0; j < i; j++)
            assert_string_not_equal(info[i].uuid, info[j].uuid);
    }
    FAILS(TSR_NO_DEVICE, opencl_backend.info(count, &info[0]));
    SAYS("counted from 0");
}

static void describes_the_same_after_open(void **state)
{
    fixture *f = fixture_of(state);
    hal_device_info info;
    memset(&info, 0, sizeof info);
    OK(opencl_backend.info(0, &info));
    assert_string_equal(info.uuid, f->device->info.uuid);
    assert_string_equal(info.name, f->device->info.name);
    assert_int_equal(info.features, f->device->info.features);
}

/* ---- memory ---------------------------------------------------------------------------------------------------- */

static void moves_bytes_between_all_memories(void **state)
{
    fixture *f = fixture_of(state);
    enum { N = 5000 };
    hal_buffer *a = buffer_of(f->device, HAL_MEMORY_DEVICE, N), *b = buffer_of(f->device, HAL_MEMORY_DEVICE, N);
    hal_buffer *h = buffer_of(f->device, HAL_MEMORY_HOST, N), *g = buffer_of(f->device, HAL_MEMORY_HOST, N);
    uint8_t source[N], target[N];
    for (int i = 0; i < N; i++)
        source[i] = (uint8_t)(i * 7 + i / 256);

    OK(hal_buffer_write(f->queue, a, 0, source, N));
    OK(hal_buffer_copy(f->queue, a, 1, b, 3, N - 3));    /* device to device, odd offsets */
    OK(hal_buffer_copy(f->queue, b, 3, h, 0, N - 3));    /* device to host */
    OK(hal_buffer_copy(f->queue, h, 10, g, 20, N - 30)); /* host to host */
    OK(hal_buffer_fill(f->queue, a, 0, N / 4 * 4, 0xdeadbeefu));
    OK(hal_buffer_copy(f->queue, g, 20, a, 100, N - 200)); /* host to device */
    OK(hal_buffer_read(f->queue, a, 0, target, N));
    for (int i = 0; i < N; i++) {
        const uint8_t fill[4] = {0xef, 0xbe, 0xad, 0xde};
        const uint8_t expected = i >= 100 && i < N - 100 ? source[i - 100 + 10 + 1] : fill[i % 4];
        if (target[i] != expected)
            fail_msg("byte %d is %u, not %u", i, target[i], expected);
    }
    assert_ptr_equal(hal_buffer_map(h), hal_buffer_map(h));
    hal_buffer_free(a);
    hal_buffer_free(b);
    hal_buffer_free(h);
    hal_buffer_free(g);
}

/* More than the ring of staging blocks holds, in pieces that do not divide it, and one longer than a block. */
static void writes_keep_their_bytes_and_their_order(void **state)
{
    fixture *f = fixture_of(state);
    enum { PIECE = 100003, COUNT = 200 };
    const size_t size = (size_t)PIECE * COUNT;
    hal_buffer *a = buffer_of(f->device, HAL_MEMORY_DEVICE, size);
    uint8_t *piece = malloc(PIECE), *all = malloc(size);
    for (int i = 0; i < COUNT; i++) {
        memset(piece, i + 1, PIECE);
        OK(hal_buffer_write(f->queue, a, (size_t)i * PIECE, piece, PIECE));
        memset(piece, 0xee, PIECE); /* the source is the caller's again */
    }
    OK(hal_buffer_read(f->queue, a, 0, all, size));
    for (size_t i = 0; i < size; i++)
        if (all[i] != (uint8_t)(i / PIECE + 1))
            fail_msg("byte %zu is %u", i, all[i]);

    for (size_t i = 0; i < size; i++)
        all[i] = (uint8_t)(i * 31 >> 3);
    OK(hal_buffer_write(f->queue, a, 0, all, size));
    memset(all, 0, size);
    OK(hal_buffer_read(f->queue, a, 0, all, size));
    for (size_t i = 0; i < size; i++)
        if (all[i] != (uint8_t)(i * 31 >> 3))
            fail_msg("byte %zu of a long write is %u", i, all[i]);
    free(piece);
    free(all);
    hal_buffer_free(a);
}

/* How many turns keep this device busy for about half a second. */
static uint32_t turns_for_long(fixture *f, hal_kernel *kernel, hal_buffer *x)
{
    uint32_t turns = 1 << 16;
    OK(spin(f->queue, kernel, x, 1)); /* some drivers compile at the first launch */
    OK(hal_queue_sync(f->queue));
    for (;;) {
        const double begin = clock_seconds();
        OK(spin(f->queue, kernel, x, turns));
        OK(hal_queue_sync(f->queue));
        const double seconds = clock_seconds() - begin;
        if (seconds > 0.05 || turns >= 1u << 30)
            return (uint32_t)(turns * 0.5 / seconds < 4e9 ? turns * 0.5 / seconds : 4e9);
        turns *= 2;
    }
}

/* The host queues work behind a kernel that is busy; true if it was done with that before the kernel was. */
static bool writes_ahead(fixture *f, hal_kernel *kernel, hal_buffer *x, uint32_t turns)
{
    const size_t size = (size_t)3 << 20; /* longer than a staging block */
    hal_buffer *y = buffer_of(f->device, HAL_MEMORY_DEVICE, size), *h = buffer_of(f->device, HAL_MEMORY_HOST, size);
    hal_event *busy, *last;
    bool done = false, was_done = true;
    uint8_t *bytes = malloc(size);
    OK(hal_event_create(f->device, &busy));
    OK(hal_event_create(f->device, &last));
    OK(hal_event_query(busy, &done));
    assert_true(done); /* never recorded */
    memset(hal_buffer_map(h), 5, size);
    memset(bytes, 6, size);

    OK(spin(f->queue, kernel, x, turns));
    OK(hal_event_record(f->queue, busy));
    OK(hal_buffer_write(f->queue, y, 0, bytes, 1000));
    OK(hal_buffer_write(f->queue, y, 1000, bytes, size - 1000));
    memset(bytes, 0, size);
    OK(hal_buffer_fill(f->queue, y, 0, 4, 0x07070707));
    OK(hal_buffer_copy(f->queue, y, 0, h, 0, size));
    OK(hal_event_record(f->queue, last));
    OK(hal_queue_flush(f->queue));
    hal_buffer_free(y); /* still in use */
    OK(hal_event_query(busy, &was_done));

    OK(hal_event_sync(last));
    OK(hal_event_query(busy, &done));
    assert_true(done);
    const uint8_t *mapped = hal_buffer_map(h);
    for (size_t i = 0; i < size; i++)
        if (mapped[i] != (i < 4 ? 7 : 6))
            fail_msg("byte %zu is %u", i, mapped[i]);
    double elapsed = -1;
    OK(hal_event_elapsed(busy, last, &elapsed));
    assert_true(elapsed >= 0 && elapsed < 60e3);
    hal_event_destroy(busy);
    hal_event_destroy(last);
    hal_buffer_free(h);
    free(bytes);
    return !was_done;
}

/* Host memory that a queued copy reads must live until that is done, though its buffer is gone; true if freeing it did
 * not wait. */
static bool frees_ahead(fixture *f, hal_kernel *kernel, hal_buffer *x, uint32_t turns)
{
    const size_t size = (size_t)4 << 20;
    hal_buffer *y = buffer_of(f->device, HAL_MEMORY_DEVICE, size), *h = buffer_of(f->device, HAL_MEMORY_HOST, size);
    uint8_t *bytes = malloc(size);
    hal_event *busy;
    bool was_done = true;
    OK(hal_event_create(f->device, &busy));
    memset(hal_buffer_map(h), 9, size);

    OK(spin(f->queue, kernel, x, turns));
    OK(hal_event_record(f->queue, busy));
    OK(hal_buffer_copy(f->queue, h, 0, y, 0, size));
    hal_buffer_free(h);
    OK(hal_event_query(busy, &was_done));
    hal_buffer *other = buffer_of(f->device, HAL_MEMORY_HOST, size); /* where it would like to lie */
    memset(hal_buffer_map(other), 1, size);
    OK(hal_buffer_read(f->queue, y, 0, bytes, size));
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != 9)
            fail_msg("byte %zu is %u", i, bytes[i]);
    hal_buffer_free(other);
    hal_buffer_free(y);
    hal_event_destroy(busy);
    free(bytes);
    return !was_done;
}

/* Another process may have had the processor in between: then once more, with a longer kernel. */
static void expect_ahead(fixture *f, bool (*ahead)(fixture *, hal_kernel *, hal_buffer *, uint32_t))
{
    hal_kernel *kernel = spin_of(f->device);
    hal_buffer *x = buffer_of(f->device, HAL_MEMORY_DEVICE, 64);
    bool was_ahead = false;
    OK(hal_buffer_fill(f->queue, x, 0, 64, 1));
    uint32_t turns = turns_for_long(f, kernel, x);
    for (int attempt = 0; attempt < 4 && !was_ahead; attempt++) {
        was_ahead = ahead(f, kernel, x, turns);
        turns = turns < 1u << 30 ? 2 * turns : turns;
    }
    assert_true(was_ahead);
    hal_buffer_free(x);
    hal_kernel_destroy(kernel);
}

static void nothing_but_waiting_waits(void **state)
{
    expect_ahead(fixture_of(state), writes_ahead);
}

static void host_memory_outlives_its_buffer(void **state)
{
    expect_ahead(fixture_of(state), frees_ahead);
}

static void running_out_of_memory_is_a_status(void **state)
{
    fixture *f = fixture_of(state);
    const hal_device_info *info = &f->device->info;
    if (!info->software) {
        printf("SKIP: filling a GPU's memory may disturb others\n");
        skip();
    }
    enum { MOST = 256 };
    hal_buffer *held[MOST];
    const size_t size = (size_t)info->max_buffer_bytes;
    char number[32];
    int count = 0;
    tsr_status status = TSR_OK;
    while (count < MOST && (status = hal_buffer_alloc(f->device, HAL_MEMORY_DEVICE, size, &held[count])) == TSR_OK)
        count++;
    assert_int_equal(status, TSR_OUT_OF_DEVICE_MEMORY);
    assert_true((uint64_t)count * size <= info->memory_bytes);
    snprintf(number, sizeof number, "%zu", size);
    SAYS(number);
    assert_int_equal(hal_device_status(f->device), TSR_OK);
    assert_true(count > 0);
    hal_buffer_free(held[--count]);
    held[count++] = buffer_of(f->device, HAL_MEMORY_DEVICE, size); /* what was freed can be had again */
    while (count > 0)
        hal_buffer_free(held[--count]);
    FAILS(TSR_OUT_OF_DEVICE_MEMORY, hal_buffer_alloc(f->device, HAL_MEMORY_DEVICE, size + 1, &held[0]));
}

/* ---- queues, events, loss -------------------------------------------------------------------------------------- */

static void queues_wait_for_events_of_others(void **state)
{
    fixture *f = fixture_of(state);
    hal_queue *second;
    hal_event *ready;
    hal_kernel *kernel = spin_of(f->device);
    hal_buffer *x = buffer_of(f->device, HAL_MEMORY_DEVICE, 64), *y = buffer_of(f->device, HAL_MEMORY_DEVICE, 64);
    uint32_t value = 0;
    OK(hal_queue_create(f->device, HAL_QUEUE_COPY, &second));
    OK(hal_event_create(f->device, &ready));
    OK(hal_buffer_fill(f->queue, x, 0, 64, 1));
    OK(hal_buffer_fill(f->queue, y, 0, 64, 42));
    const uint32_t turns = turns_for_long(f, kernel, x);
    /* Recorded twice: the second counts. */
    OK(hal_event_record(f->queue, ready));
    OK(spin(f->queue, kernel, x, turns));
    hal_kernel_destroy(kernel); /* its launch is queued */
    OK(hal_buffer_fill(f->queue, y, 0, 64, 43));
    OK(hal_event_record(f->queue, ready)); /* not flushed: the waiting queue sees to that */
    OK(hal_queue_wait(second, ready));
    OK(hal_queue_wait(f->queue, ready)); /* its own: nothing to do */
    OK(hal_buffer_read(second, y, 0, &value, 4));
    assert_int_equal(value, 43);
    hal_queue_destroy(second);
    OK(hal_event_sync(ready));
    hal_event_destroy(ready);
    hal_buffer_free(x);
    hal_buffer_free(y);
}

static void an_event_outlives_its_queue(void **state)
{
    fixture *f = fixture_of(state);
    hal_queue *queue;
    hal_event *event;
    bool done = false;
    OK(hal_queue_create(f->device, HAL_QUEUE_COMPUTE, &queue));
    OK(hal_event_create(f->device, &event));
    OK(hal_event_record(queue, event));
    hal_queue_destroy(queue);
    OK(hal_event_query(event, &done));
    assert_true(done);
    OK(hal_event_sync(event));
    OK(hal_queue_wait(f->queue, event));
    hal_event_destroy(event);
}

static void the_number_of_queues_is_limited(void **state)
{
    fixture *f = fixture_of(state);
    hal_queue *queues[70];
    int count = 0;
    tsr_status status = TSR_OK;
    while (count < 70 && (status = hal_queue_create(f->device, HAL_QUEUE_COMPUTE, &queues[count])) == TSR_OK)
        count++;
    assert_int_equal(status, TSR_UNSUPPORTED);
    assert_int_equal(count, 63);
    SAYS("at most 64 queues");
    while (count > 0)
        hal_queue_destroy(queues[--count]);
}

static void a_lost_device_stays_lost(void **state)
{
    fixture *f = fixture_of(state);
    hal_device *device;
    hal_queue *queue;
    hal_event *event;
    uint32_t value = 0;
    OK(hal_device_open(&opencl_backend, 0, &device));
    OK(hal_queue_create(device, HAL_QUEUE_COMPUTE, &queue));
    OK(hal_event_create(device, &event));
    OK(hal_event_record(queue, event));
    hal_buffer *x = buffer_of(device, HAL_MEMORY_DEVICE, 64), *other = NULL;
    hal_kernel *kernel = saxpy_of(device), *more = NULL;
    OK(hal_buffer_write(queue, x, 0, &value, 4));

    OK(hal_device_lose(device));
    FAILS(TSR_DEVICE_LOST, opencl_backend.write(queue, x, 0, &value, 4)); /* the backend by itself, without the front */
    SAYS("close it and open it again");
    FAILS(TSR_DEVICE_LOST, opencl_backend.event_sync(event));
    FAILS(TSR_DEVICE_LOST, opencl_backend.sync(queue));
    FAILS(TSR_DEVICE_LOST, opencl_backend.buffer_alloc(device, HAL_MEMORY_DEVICE, 64, &other));
    FAILS(TSR_DEVICE_LOST, hal_buffer_write(queue, x, 0, &value, 4));
    FAILS(TSR_DEVICE_LOST, create(device, "saxpy/f32", "saxpy", saxpy_text, 2, 8, 4, &more));
    FAILS(TSR_DEVICE_LOST, hal_device_status(device));
    OK(hal_device_status(f->device)); /* another opening of the same device goes on */
    hal_kernel_destroy(kernel);
    hal_buffer_free(x);
    hal_event_destroy(event);
    hal_queue_destroy(queue);
    OK(hal_device_close(device));
    OK(hal_device_open(&opencl_backend, 0, &device));
    OK(hal_device_status(device));
    OK(hal_device_close(device));
}

/* ---- other environments: this program again, as a process of its own ---------------------------------------------- */

enum { MORE = 7 }; /* exit status of a child that has nothing to test */

static int run_again(const char *what, const char *variable, const char *value)
{
    const pid_t child = fork();
    if (child == 0) {
        setenv(variable, value, 1);
        execl(program, program, what, (char *)NULL);
        _exit(99);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + status;
}

/* In the child: no device, and a sentence with this in it. */
static int child_absent(const char *text)
{
    char why[512] = "";
    uint32_t count = 99;
    hal_device *device = NULL;
    const tsr_status status = opencl_backend.enumerate(&count, why, sizeof why);
    const bool said = strstr(why, text) != NULL && strstr(why, "install") != NULL;
    const bool quiet = tsr_last_error()[0] == 0; /* an absent driver is no failure */
    if (status == TSR_OK && count == 0 && said && quiet &&
        hal_device_open(&opencl_backend, 0, &device) == TSR_NO_DEVICE && strstr(tsr_last_error(), text) != NULL)
        return 0;
    fprintf(stderr, "status %d, %u devices, why: %s; error: %s\n", (int)status, (unsigned)count, why, tsr_last_error());
    return 1;
}

/* In the child: two devices, which work side by side. */
static int child_two(void)
{
    hal_device_info info[64];
    char why[512];
    uint32_t count = 0;
    if (opencl_backend.enumerate(&count, why, sizeof why) != TSR_OK || count < 2)
        return MORE;
    if (opencl_backend.info(0, &info[0]) != TSR_OK || opencl_backend.info(1, &info[1]) != TSR_OK ||
        strcmp(info[0].uuid, info[1].uuid) == 0)
        return 1;
    int result = 0;
    for (uint32_t i = 0; i < 2; i++) {
        hal_device *device;
        hal_queue *queue;
        hal_buffer *x;
        uint32_t got[4] = {0};
        if (hal_device_open(&opencl_backend, i, &device) != TSR_OK ||
            hal_queue_create(device, HAL_QUEUE_COMPUTE, &queue) != TSR_OK ||
            hal_buffer_alloc(device, HAL_MEMORY_DEVICE, 16, &x) != TSR_OK ||
            hal_buffer_fill(queue, x, 0, 16, 5 + i) != TSR_OK || hal_buffer_read(queue, x, 0, got, 16) != TSR_OK ||
            got[3] != 5 + i)
            return 2;
        hal_buffer_free(x);
        hal_queue_destroy(queue);
        result |= hal_device_close(device) != TSR_OK;
    }
    return result;
}

static void an_absent_driver_is_a_sentence(void **state)
{
    (void)state;
    char folder[] = "/tmp/tessera-noloader-XXXXXX", file[64];
    assert_non_null(mkdtemp(folder));
    assert_int_equal(run_again("no-platform", "OCL_ICD_VENDORS", folder), 0);

    snprintf(file, sizeof file, "%s/libOpenCL.so.1", folder);
    FILE *empty = fopen(file, "w");
    assert_non_null(empty);
    fclose(empty);
    snprintf(file, sizeof file, "%s/libOpenCL.so", folder);
    empty = fopen(file, "w");
    assert_non_null(empty);
    fclose(empty);
    assert_int_equal(run_again("no-loader", "LD_LIBRARY_PATH", folder), 0);
    remove_folder(folder);
}

static void one_processor_can_be_two_devices(void **state)
{
    fixture *f = fixture_of(state);
    if (!strstr(f->device->info.driver, "Portable Computing Language")) {
        printf("SKIP: %s is not PoCL\n", f->device->info.name);
        skip();
    }
    /* PoCL's own way; its device's name begins with the name of its driver. */
    char drivers[128], kind[64];
    snprintf(kind, sizeof kind, "%.*s", (int)strcspn(f->device->info.name, "-"), f->device->info.name);
    snprintf(drivers, sizeof drivers, "%s %s", kind, kind);
    assert_int_equal(run_again("two", "POCL_DEVICES", drivers), 0);

    const int split = run_again("two", "TESSERA_OPENCL_SPLIT", "2");
    if (split == MORE)
        printf("SKIP: %s cannot be split\n", f->device->info.name);
    else
        assert_int_equal(split, 0);
}

int main(int argc, char **argv)
{
    program = argv[0];
    if (argc > 1) {
        if (strcmp(argv[1], "no-platform") == 0)
            return child_absent("finds no driver");
        if (strcmp(argv[1], "no-loader") == 0)
            return child_absent("libOpenCL.so.1 cannot be opened");
        return strcmp(argv[1], "two") == 0 ? child_two() : 98;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_what_a_device_is),    ON_FIRST(describes_the_same_after_open),
        ON_FIRST(moves_bytes_between_all_memories),  ON_FIRST(writes_keep_their_bytes_and_their_order),
        ON_FIRST(nothing_but_waiting_waits),         ON_FIRST(host_memory_outlives_its_buffer),
        ON_FIRST(running_out_of_memory_is_a_status), ON_FIRST(queues_wait_for_events_of_others),
        ON_FIRST(an_event_outlives_its_queue),       ON_FIRST(the_number_of_queues_is_limited),
        ON_FIRST(a_lost_device_stays_lost),          cmocka_unit_test(an_absent_driver_is_a_sentence),
        ON_FIRST(one_processor_can_be_two_devices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
