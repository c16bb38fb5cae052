/* The CUDA backend on whatever driver there is: a real one, the fake one of tests/fake_cuda (which ctest gives it; what
 * that proves stands in fake_cuda.h), or none. */
#include "fake_cuda/cuda_test.h"

#include "base/memory.h"
#include "base/thread.h"

#include <dlfcn.h>
#include <unistd.h>

/* ---- devices ----------------------------------------------------------------------------------------------------- */

static void tells_what_a_device_is(void **state)
{
    hal_device_info info;
    char why[512];
    const uint32_t count = cuda_devices(why);
    (void)state;

    assert_string_equal(why, "");
    for (uint32_t i = 0; i < count; i++) {
        OK(cuda_backend.info(i, &info));
        assert_true(info.name[0] != 0);
        assert_string_equal(info.vendor, "NVIDIA");
        assert_non_null(strstr(info.driver, "CUDA "));
        assert_int_equal(strlen(info.uuid), 32);
        assert_int_equal(strspn(info.uuid, "0123456789abcdef"), 32);
        assert_int_equal(info.device_class, HAL_CLASS_GPU);
        assert_int_equal(info.code, HAL_CODE_SOURCE);
        assert_int_equal(info.subgroup_size, 32);
        assert_in_range(info.max_group_size, 512, 4096);
        assert_true(info.shared_bytes >= 48 * 1024);
        assert_true(info.memory_bytes > (uint64_t)64 << 20);
        assert_true(info.compute_units > 0);
        assert_non_null(strstr(info.notes, "compute capability "));
        assert_false(info.software);
        assert_int_equal(info.features,
                         HAL_FEATURE_STORAGE_16 | HAL_FEATURE_STORAGE_8 | HAL_FEATURE_INT64 | HAL_FEATURE_FLOAT64);
    }
    FAILS(TSR_NO_DEVICE, cuda_backend.info(count, &info));
    SAYS("there is no cuda:");
}

static void two_devices_are_told_apart(void **state)
{
    hal_device_info first, second;
    hal_device *a, *b;
    char why[512];
    (void)state;

    if (cuda_devices(why) < 2) {
        printf("SKIP: there is one CUDA device only\n");
        skip();
    }
    OK(cuda_backend.info(0, &first));
    OK(cuda_backend.info(1, &second));
    assert_string_not_equal(first.uuid, second.uuid);
    OK(hal_device_open(&cuda_backend, 0, &a));
    OK(hal_device_open(&cuda_backend, 1, &b));
    OK(hal_device_lose(a));
    FAILS(TSR_DEVICE_LOST, hal_device_status(a));
    OK(hal_device_status(b));
    OK(hal_device_close(a));
    OK(hal_device_close(b));
}

static void leaves_the_threads_context_alone(void **state)
{
    void *lib = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    unsigned int (*get)(void **context);
    void *before = lib, *after = lib;
    rig r;
    (void)state;

    assert_non_null(lib);
    *(void **)&get = dlsym(lib, "cuCtxGetCurrent");
    assert_int_equal(get(&before), 0);
    r = rig_open();
    OK(hal_queue_sync(r.queue));
    assert_int_equal(get(&after), 0);
    assert_ptr_equal(before, after);
    rig_close(&r);
    dlclose(lib);
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

static unsigned char pattern(size_t i, unsigned seed)
{
    return (unsigned char)(i * 131 + (i >> 8) * 7 + seed);
}

static void writes_capture_their_source(void **state)
{
    /* The last is longer than all staging memory, so that each block is used again. */
    static const size_t sizes[] = {1, 3, 63, 64, 65, 4096, 65537, (1 << 20) - 1, (1 << 20) + 5, (20 << 20) + 77};
    rig r = rig_open();
    (void)state;

    for (size_t s = 0; s < COUNT_OF(sizes); s++) {
        const size_t size = sizes[s];
        unsigned char *bytes = malloc(size);
        hal_buffer *buffer = buffer_of(&r, size + 8);

        for (size_t i = 0; i < size; i++)
            bytes[i] = pattern(i, (unsigned)s);
        OK(hal_buffer_write(r.queue, buffer, 5, bytes, size));
        memset(bytes, 0xEE, size); /* the device must not see this */
        OK(hal_buffer_read(r.queue, buffer, 5, bytes, size));
        for (size_t i = 0; i < size; i++)
            if (bytes[i] != pattern(i, (unsigned)s))
                fail_msg("%zu bytes: byte %zu is %u, not %u", size, i, bytes[i], pattern(i, (unsigned)s));
        hal_buffer_free(buffer);
        free(bytes);
    }
    rig_close(&r);
}

static void many_small_writes_share_the_staging(void **state)
{
    enum { COUNT = 3000, SIZE = 4004 }; /* 12 MB: around the ring and on */
    rig r = rig_open();
    hal_buffer *buffer = buffer_of(&r, (size_t)COUNT * SIZE);
    unsigned char *bytes = malloc((size_t)COUNT * SIZE), piece[SIZE];
    int64_t held;
    (void)state;

    for (unsigned n = 0; n < COUNT; n++) {
        for (size_t i = 0; i < SIZE; i++)
            piece[i] = pattern(i, n);
        OK(hal_buffer_write(r.queue, buffer, (size_t)n * SIZE, piece, SIZE));
    }
    held = fake ? fake->host_allocations : 0;
    OK(hal_buffer_read(r.queue, buffer, 0, bytes, (size_t)COUNT * SIZE));
    for (unsigned n = 0; n < COUNT; n++)
        for (size_t i = 0; i < SIZE; i++)
            if (bytes[(size_t)n * SIZE + i] != pattern(i, n))
                fail_msg("write %u: byte %zu differs", n, i);
    if (fake)
        assert_int_equal(held, 1); /* the ring, and nothing a write */
    free(bytes);
    hal_buffer_free(buffer);
    rig_close(&r);
}

static void copies_between_all_memories(void **state)
{
    enum { SIZE = 1000 };
    rig r = rig_open();
    hal_buffer *device[2], *host[2];
    unsigned char *mapped;
    (void)state;

    for (int i = 0; i < 2; i++) {
        device[i] = buffer_of(&r, SIZE);
        OK(hal_buffer_alloc(r.device, HAL_MEMORY_HOST, SIZE, &host[i]));
    }
    mapped = hal_buffer_map(host[0]);
    assert_ptr_equal(mapped, hal_buffer_map(host[0]));
    for (size_t i = 0; i < SIZE; i++)
        mapped[i] = pattern(i, 9);
    OK(hal_buffer_fill(r.queue, device[0], 0, SIZE, 0x01020304));
    OK(hal_buffer_copy(r.queue, host[0], 0, host[1], 0, SIZE));      /* host to host */
    OK(hal_buffer_copy(r.queue, host[1], 0, device[0], 3, 500));     /* up */
    OK(hal_buffer_copy(r.queue, device[0], 3, device[1], 1, 500));   /* across */
    OK(hal_buffer_copy(r.queue, device[0], 0, device[1], 501, 499)); /* fill, then what was copied over it */
    OK(hal_buffer_copy(r.queue, device[1], 1, host[1], 7, 993));     /* down */
    OK(hal_queue_sync(r.queue));
    mapped = hal_buffer_map(host[1]);
    for (size_t i = 0; i < 7; i++)
        assert_int_equal(mapped[i], pattern(i, 9));
    for (size_t i = 0; i < 500; i++)
        assert_int_equal(mapped[7 + i], pattern(i, 9));
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(mapped[507 + i], 4 - i); /* little-endian */
    for (size_t i = 0; i < 490; i++)
        assert_int_equal(mapped[510 + i], pattern(i, 9));
    for (int i = 0; i < 2; i++) {
        hal_buffer_free(device[i]);
        hal_buffer_free(host[i]);
    }
    rig_close(&r);
}

static void fills_within_bounds(void **state)
{
    rig r = rig_open();
    hal_buffer *buffer = buffer_of(&r, 64);
    uint32_t words[16];
    (void)state;

    OK(hal_buffer_fill(r.queue, buffer, 0, 64, 0xCAFE0001));
    OK(hal_buffer_fill(r.queue, buffer, 8, 16, 0xFFFFFFFF));
    OK(hal_buffer_fill(r.queue, buffer, 60, 4, 0));
    OK(hal_buffer_read(r.queue, buffer, 0, words, sizeof words));
    for (size_t i = 0; i < 16; i++)
        assert_int_equal(words[i], i >= 2 && i < 6 ? 0xFFFFFFFF : i == 15 ? 0 : 0xCAFE0001);
    hal_buffer_free(buffer);
    rig_close(&r);
}

static void out_of_memory_is_a_status(void **state)
{
    rig r = rig_open();
    hal_buffer *buffer = NULL, *blocks[64];
    const size_t part = (size_t)(r.device->info.memory_bytes / 16);
    size_t count = 0;
    tsr_status status = TSR_OK;
    (void)state;

    /* More than there is, in parts that each are allowed. */
    while (count < COUNT_OF(blocks) && !(status = hal_buffer_alloc(r.device, HAL_MEMORY_DEVICE, part, &blocks[count])))
        count++;
    FAILS(TSR_OUT_OF_DEVICE_MEMORY, status);
    SAYS("MiB are free");
    while (count > 0)
        hal_buffer_free(blocks[--count]);
    OK(hal_device_status(r.device));
    buffer = buffer_of(&r, part); /* and it goes on */
    hal_buffer_free(buffer);
    rig_close(&r);
}

/* ---- kernels ----------------------------------------------------------------------------------------------------- */

static void kernels_get_bindings_and_parameters(void **state)
{
    enum { COUNT = 1000 };
    const char *const source[] = {test_kernels};
    const hal_kernel_desc desc = describe_axpy(source);
    rig r = rig_open();
    hal_kernel *kernel;
    hal_buffer *x = buffer_of(&r, 4 * COUNT), *y = buffer_of(&r, 4 * COUNT + 4), *z = buffer_of(&r, 4 * COUNT + 8);
    float values[COUNT + 2];
    (void)state;

    OK(hal_kernel_create(r.device, &desc, &kernel));
    for (int i = 0; i < COUNT; i++)
        values[i] = (float)i;
    OK(hal_buffer_write(r.queue, x, 0, values, 4 * COUNT));
    OK(hal_buffer_fill(r.queue, y, 0, 4 * COUNT + 4, 0x3f800000)); /* 1.0f */
    OK(hal_buffer_fill(r.queue, z, 0, 4 * COUNT + 8, 0));
    launch_axpy(&r, r.queue, kernel, x, y, z, COUNT, 2);
    OK(hal_buffer_read(r.queue, z, 0, values, 4 * COUNT + 8));
    assert_true(values[0] == 0 && values[1] == 0); /* before the binding */
    for (int i = 0; i < COUNT; i++)
        assert_true(values[i + 2] == (float)(2 * i + 1));
    hal_kernel_destroy(kernel);
    hal_buffer_free(x);
    hal_buffer_free(y);
    hal_buffer_free(z);
    rig_close(&r);
}

static void grids_have_three_dimensions(void **state)
{
    enum { X = 3, Y = 4, Z = 5, GROUP = 32, COUNT = X * Y * Z * GROUP };
    const char *const source[] = {test_kernels};
    hal_kernel_desc desc = {.key = "test_where/u32",
                            .entry = "test_where",
                            .variant = "gpu",
                            .code = HAL_CODE_SOURCE,
                            .source = source,
                            .source_count = 1,
                            .group_size = GROUP,
                            .binding_count = 1,
                            .access = {HAL_WRITE},
                            .element_bytes = {4}};
    rig r = rig_open();
    hal_buffer *out = buffer_of(&r, 4 * COUNT);
    hal_kernel *kernel;
    uint32_t values[COUNT];
    (void)state;

    OK(hal_kernel_create(r.device, &desc, &kernel));
    OK(hal_kernel_launch(r.queue, &(hal_launch){.kernel = kernel,
                                                .grid = {X, Y, Z},
                                                .bindings = &(hal_binding){out, 0, 4 * COUNT},
                                                .binding_count = 1}));
    OK(hal_buffer_read(r.queue, out, 0, values, sizeof values));
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(values[i], i / GROUP * 1000 + i % GROUP);
    hal_kernel_destroy(kernel);
    hal_buffer_free(out);
    rig_close(&r);
}

static void wrong_kernels_are_refused(void **state)
{
    const char *const good[] = {test_kernels}, *const bad[] = {"\n#error a mistake made on purpose\n"};
    hal_kernel_desc desc = describe_axpy(bad);
    rig r = rig_open();
    hal_kernel *kernel = NULL;
    (void)state;

    FAILS(TSR_DRIVER_ERROR, hal_kernel_create(r.device, &desc, &kernel));
    SAYS("test_axpy/f32");
    SAYS("a mistake made on purpose");
    desc = describe_axpy(good);
    desc.entry = "not_there";
    FAILS(TSR_NOT_FOUND, hal_kernel_create(r.device, &desc, &kernel));
    SAYS("not_there");
    desc = describe_axpy(good);
    desc.code = HAL_CODE_SPIRV;
    FAILS(TSR_UNSUPPORTED, hal_kernel_create(r.device, &desc, &kernel));
    assert_null(kernel);
    OK(hal_device_status(r.device));
    rig_close(&r);
}

/* How often the fake compiler was asked; -1 with the real one. */
static int compilations(void)
{
    static const char *const names[] = {"libnvrtc.so.13", NULL};
    dynlib *lib = dynlib_open(names);
    int (*count)(void) = lib ? (int (*)(void))dynlib_symbol(lib, "fake_nvrtc_compilations") : NULL;
    const int result = count ? count() : -1;

    dynlib_close(lib);
    return result;
}

static void compiled_kernels_are_cached(void **state)
{
    char text[256 + sizeof test_kernels];
    const char *const source[] = {text};
    const hal_kernel_desc desc = describe_axpy(source);
    hal_kernel *kernel;
    rig r = rig_open();
    int before;
    (void)state;

    /* A text that no earlier run can have compiled. */
    snprintf(text, sizeof text, "/* %ld %p %ld */\n%s", (long)getpid(), (void *)&r, (long)random(), test_kernels);
    before = compilations();
    if (before < 0) {
        printf("SKIP: only the fake compiler counts\n");
        rig_close(&r);
        skip();
    }
    OK(hal_kernel_create(r.device, &desc, &kernel));
    hal_kernel_destroy(kernel);
    assert_int_equal(compilations(), before + 1);
    OK(hal_kernel_create(r.device, &desc, &kernel));
    hal_kernel_destroy(kernel);
    assert_int_equal(compilations(), before + 1);

    /* What the driver refuses is compiled anew once, and then the refusal is told. */
    fake->refuse_loads = 1;
    OK(hal_kernel_create(r.device, &desc, &kernel));
    hal_kernel_destroy(kernel);
    assert_int_equal(compilations(), before + 2);
    fake->refuse_loads = 2;
    FAILS(TSR_DRIVER_ERROR, hal_kernel_create(r.device, &desc, &kernel));
    SAYS("refuses kernel test_axpy/f32");
    SAYS("install");
    assert_int_equal(compilations(), before + 3);
    assert_int_equal(fake->refuse_loads, 0);
    rig_close(&r);
}

static void what_is_in_use_may_be_destroyed(void **state)
{
    enum { COUNT = 4096 };
    const char *const source[] = {test_kernels};
    const hal_kernel_desc desc = describe_axpy(source);
    rig r = rig_open();
    hal_buffer *x = buffer_of(&r, 4 * COUNT), *y = buffer_of(&r, 4 * COUNT + 4), *z = buffer_of(&r, 4 * COUNT + 8);
    hal_kernel *kernel;
    hal_event *event;
    float last;
    (void)state;

    OK(hal_event_create(r.device, &event));
    OK(hal_kernel_create(r.device, &desc, &kernel));
    OK(hal_buffer_fill(r.queue, x, 0, 4 * COUNT, 0x3f800000));
    OK(hal_buffer_fill(r.queue, y, 0, 4 * COUNT + 4, 0x3f800000));
    for (int i = 0; i < 8; i++)
        launch_axpy(&r, r.queue, kernel, x, y, z, COUNT, (float)i);
    OK(hal_event_record(r.queue, event));
    hal_event_destroy(event);
    hal_kernel_destroy(kernel);
    hal_buffer_free(x);
    hal_buffer_free(y);
    OK(hal_buffer_read(r.queue, z, 4 * COUNT + 4, &last, 4));
    assert_true(last == 8);
    hal_buffer_free(z);
    rig_close(&r);
}

/* ---- events and queues ------------------------------------------------------------------------------------------- */

static void events_order_queues(void **state)
{
    enum { WORDS = 1 << 16 };
    rig r = rig_open();
    hal_queue *other;
    hal_event *start, *filled, *copied;
    hal_buffer *a = buffer_of(&r, 4 * WORDS), *b = buffer_of(&r, 4 * WORDS);
    uint32_t *words = malloc(4 * WORDS);
    double milliseconds = -1;
    bool done = false;
    (void)state;

    OK(hal_queue_create(r.device, HAL_QUEUE_COPY, &other));
    OK(hal_event_create(r.device, &start));
    OK(hal_event_create(r.device, &filled));
    OK(hal_event_create(r.device, &copied));
    OK(hal_event_query(filled, &done));
    assert_true(done); /* never recorded */
    OK(hal_event_sync(filled));
    for (uint32_t round = 1; round <= 10; round++) {
        OK(hal_event_record(r.queue, start));
        OK(hal_buffer_fill(r.queue, a, 0, 4 * WORDS, round));
        OK(hal_event_record(r.queue, filled));
        OK(hal_queue_wait(other, filled));
        OK(hal_buffer_copy(other, a, 0, b, 0, 4 * WORDS));
        OK(hal_event_record(other, copied));
        OK(hal_queue_flush(other));
        OK(hal_queue_wait(r.queue, copied)); /* the next fill must not run into the copy */
        OK(hal_event_sync(copied));
        OK(hal_event_query(copied, &done));
        assert_true(done);
        OK(hal_event_elapsed(start, filled, &milliseconds));
        assert_true(milliseconds >= 0 && milliseconds < 60000);
        OK(hal_buffer_read(other, b, 0, words, 4 * WORDS));
        for (size_t i = 0; i < WORDS; i++)
            assert_int_equal(words[i], round);
    }
    free(words);
    hal_event_destroy(start);
    hal_event_destroy(filled);
    hal_event_destroy(copied);
    hal_buffer_free(a);
    hal_buffer_free(b);
    hal_queue_destroy(other);
    rig_close(&r);
}

typedef struct worker {
    thread handle;
    hal_device *device;
    hal_kernel *kernel;
    unsigned number;
    char problem[300];
} worker;

static void *work(void *argument)
{
    enum { COUNT = 500, ROUNDS = 20 };
    worker *w = argument;
    hal_queue *queue = NULL;
    hal_buffer *b[3] = {0};
    float values[COUNT + 2];
    tsr_status status = hal_queue_create(w->device, HAL_QUEUE_COMPUTE, &queue);

    for (int round = 0; round < ROUNDS && !status; round++) {
        const axpy_params params = {COUNT, (float)w->number};
        for (int i = 0; i < 3 && !status; i++)
            status = hal_buffer_alloc(w->device, HAL_MEMORY_DEVICE, sizeof values, &b[i]);
        for (int i = 0; i < COUNT; i++)
            values[i] = (float)(i + round);
        if (!status && !(status = hal_buffer_write(queue, b[0], 0, values, sizeof values)) &&
            !(status = hal_buffer_fill(queue, b[1], 0, sizeof values, 0))) {
            const hal_binding bindings[] = {{b[0], 0, 4 * COUNT}, {b[1], 0, 4 * COUNT}, {b[2], 0, 4 * COUNT}};
            status = hal_kernel_launch(queue, &(hal_launch){.kernel = w->kernel,
                                                            .grid = {4, 1, 1},
                                                            .bindings = bindings,
                                                            .binding_count = 3,
                                                            .params = &params,
                                                            .params_bytes = sizeof params});
        }
        if (!status)
            status = hal_buffer_read(queue, b[2], 0, values, sizeof values);
        for (int i = 0; i < COUNT && !status; i++)
            if (values[i] != (float)w->number * (float)(i + round))
                snprintf(w->problem, sizeof w->problem, "round %d, element %d: %g", round, i, (double)values[i]);
        for (int i = 0; i < 3; i++)
            hal_buffer_free(b[i]), b[i] = NULL;
    }
    if (status)
        snprintf(w->problem, sizeof w->problem, "%s", tsr_last_error());
    hal_queue_destroy(queue);
    return NULL;
}

static void threads_share_a_device(void **state)
{
    const char *const source[] = {test_kernels};
    const hal_kernel_desc desc = describe_axpy(source);
    rig r = rig_open();
    worker workers[4];
    hal_kernel *kernel;
    (void)state;

    OK(hal_kernel_create(r.device, &desc, &kernel));
    for (unsigned i = 0; i < COUNT_OF(workers); i++) {
        workers[i] = (worker){.device = r.device, .kernel = kernel, .number = i + 1};
        OK(thread_start(&workers[i].handle, "cuda test", work, &workers[i]));
    }
    for (unsigned i = 0; i < COUNT_OF(workers); i++)
        thread_join(&workers[i].handle);
    for (unsigned i = 0; i < COUNT_OF(workers); i++)
        assert_string_equal(workers[i].problem, "");
    hal_kernel_destroy(kernel);
    rig_close(&r);
}

/* ---- no device --------------------------------------------------------------------------------------------------- */

static void absence_is_a_sentence(void **state)
{
    char why[512] = "";
    const char *expected = getenv("EXPECT_ABSENT");
    hal_device *device = NULL;
    hal_device_info info;
    (void)state;

    tsr_clear_error();
    assert_int_equal(cuda_devices(why), 0);
    assert_string_equal(tsr_last_error(), ""); /* no failure of anyone's */
    printf("no CUDA device: %s\n", why);
    assert_true(strlen(why) > 20);
    if (expected && !strstr(why, expected))
        fail_msg("\"%s\" does not say \"%s\"", why, expected);
    assert_int_equal(cuda_devices(why), 0);
    FAILS(TSR_NO_DEVICE, hal_device_open(&cuda_backend, 0, &device));
    SAYS(expected ? expected : "cuda");
    assert_null(device);
    assert_int_not_equal(cuda_backend.info(0, &info), TSR_OK);
}

int main(void)
{
    const struct CMUnitTest absent[] = {cmocka_unit_test(absence_is_a_sentence)};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_what_a_device_is),
        cmocka_unit_test(two_devices_are_told_apart),
        cmocka_unit_test(leaves_the_threads_context_alone),
        cmocka_unit_test(writes_capture_their_source),
        cmocka_unit_test(many_small_writes_share_the_staging),
        cmocka_unit_test(copies_between_all_memories),
        cmocka_unit_test(fills_within_bounds),
        cmocka_unit_test(out_of_memory_is_a_status),
        cmocka_unit_test(kernels_get_bindings_and_parameters),
        cmocka_unit_test(grids_have_three_dimensions),
        cmocka_unit_test(wrong_kernels_are_refused),
        cmocka_unit_test(compiled_kernels_are_cached),
        cmocka_unit_test(what_is_in_use_may_be_destroyed),
        cmocka_unit_test(events_order_queues),
        cmocka_unit_test(threads_share_a_device),
    };
    char why[512];

    if (getenv("EXPECT_ABSENT") || cuda_devices(why) == 0) {
        if (!getenv("EXPECT_ABSENT"))
            printf("SKIP: the tests of a CUDA device, for want of one\n");
        return cmocka_run_group_tests(absent, NULL, NULL);
    }
    printf("driver: %s\n", fake ? "the fake one of tests/fake_cuda" : "a real one");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
