/* The OpenCL backend's kernels: arguments, grids, threads, what does not compile, and the cache of programs. */
#include "opencl/opencl_test.h"

#include "base/cache.h"
#include "base/thread.h"

#include <dirent.h>

static void arguments_follow_the_launch(void **state)
{
    fixture *f = fixture_of(state);
    enum { N = 1000 };
    float x[N], y[N], expected[N];
    hal_kernel *kernel = saxpy_of(f->device);
    hal_buffer *a = buffer_of(f->device, HAL_MEMORY_DEVICE, sizeof x),
               *b = buffer_of(f->device, HAL_MEMORY_DEVICE, sizeof y);
    for (int i = 0; i < N; i++) {
        x[i] = (float)i;
        expected[i] = y[i] = (float)(2 * i);
    }
    OK(hal_buffer_write(f->queue, a, 0, x, sizeof x));
    OK(hal_buffer_write(f->queue, b, 0, y, sizeof y));

    /* Each launch changes one thing: nothing, the scalar, an offset, the length, the buffers. */
    OK(saxpy(f->queue, kernel, (hal_binding){a, 0, sizeof x}, (hal_binding){b, 0, sizeof y}, N, 1));
    OK(saxpy(f->queue, kernel, (hal_binding){a, 0, sizeof x}, (hal_binding){b, 0, sizeof y}, N, 1));
    OK(saxpy(f->queue, kernel, (hal_binding){a, 0, sizeof x}, (hal_binding){b, 0, sizeof y}, N, 3));
    OK(saxpy(f->queue, kernel, (hal_binding){a, 40, sizeof x - 40}, (hal_binding){b, 0, sizeof y - 40}, N - 10, 3));
    OK(saxpy(f->queue, kernel, (hal_binding){a, 40, sizeof x - 40}, (hal_binding){b, 80, sizeof y - 80}, N - 20, 3));
    OK(saxpy(f->queue, kernel, (hal_binding){a, 40, sizeof x - 40}, (hal_binding){b, 80, sizeof y - 80}, 5, 3));
    for (int i = 0; i < N; i++)
        expected[i] += 5 * x[i];
    for (int i = 0; i < N - 10; i++)
        expected[i] += 3 * x[i + 10];
    for (int i = 0; i < N - 20; i++)
        expected[i + 20] += 3 * x[i + 10];
    for (int i = 0; i < 5; i++)
        expected[i + 20] += 3 * x[i + 10];
    OK(hal_buffer_read(f->queue, b, 0, y, sizeof y));
    for (int i = 0; i < N; i++)
        if (y[i] != expected[i])
            fail_msg("element %d is %g, not %g", i, (double)y[i], (double)expected[i]);

    OK(saxpy(f->queue, kernel, (hal_binding){b, 0, sizeof y}, (hal_binding){a, 0, sizeof x}, N, 2));
    OK(hal_buffer_read(f->queue, a, 0, y, sizeof y));
    for (int i = 0; i < N; i++)
        if (y[i] != x[i] + 2 * expected[i])
            fail_msg("with the buffers exchanged, element %d is %g", i, (double)y[i]);

    /* A new buffer may get the driver's handle of one that was freed. */
    for (int turn = 0; turn < 20; turn++) {
        hal_buffer *c = buffer_of(f->device, HAL_MEMORY_DEVICE, 64);
        float one[4] = {1, 1, 1, 1}, got[4];
        OK(hal_buffer_write(f->queue, c, 0, one, sizeof one));
        OK(saxpy(f->queue, kernel, (hal_binding){c, 0, 16}, (hal_binding){c, 0, 16}, 4, (float)turn));
        OK(hal_buffer_read(f->queue, c, 0, got, sizeof got));
        assert_true(got[0] == (float)turn + 1 && got[3] == got[0]);
        hal_buffer_free(c);
    }
    hal_buffer_free(a);
    hal_buffer_free(b);
    hal_kernel_destroy(kernel);
}

static void grids_have_three_dimensions(void **state)
{
    fixture *f = fixture_of(state);
    enum { X = 5, Y = 3, Z = 2, G = 8 };
    static const char text[] =
        "__kernel __attribute__((reqd_work_group_size(8, 1, 1))) void where(__global uint *x, ulong o)\n"
        "{\n"
        "    const uint g = (get_group_id(2) * get_num_groups(1) + get_group_id(1)) * get_num_groups(0) + "
        "get_group_id(0);\n"
        "    x[o + g * 8 + get_local_id(0)] = get_group_id(0) + 100 * get_group_id(1) + 10000 * get_group_id(2)\n"
        "                                     + 1000000 * get_local_id(0);\n"
        "}\n";
    const uint32_t grids[][3] = {{X, Y, Z}, {X, Y, 1}, {X, 1, 1}, {X, 1, Z}, {1, 1, 1}};
    hal_kernel *kernel = NULL;
    OK(create(f->device, "where", "where", text, 1, 0, G, &kernel));
    uint32_t got[X * Y * Z * G + 1];
    hal_buffer *x = buffer_of(f->device, HAL_MEMORY_DEVICE, sizeof got);
    for (size_t t = 0; t < sizeof grids / sizeof grids[0]; t++) {
        const uint32_t *g = grids[t];
        const hal_binding binding = {x, 4, sizeof got - 4};
        OK(hal_buffer_fill(f->queue, x, 0, sizeof got, 77));
        OK(hal_kernel_launch(
            f->queue,
            &(hal_launch){.kernel = kernel, .grid = {g[0], g[1], g[2]}, .bindings = &binding, .binding_count = 1}));
        OK(hal_buffer_read(f->queue, x, 0, got, sizeof got));
        assert_int_equal(got[0], 77);
        for (uint32_t i = 0; i < X * Y * Z * G; i++) {
            const uint32_t group = i / G, lane = i % G;
            const uint32_t expected = group >= g[0] * g[1] * g[2] ? 77
                                                                  : group % g[0] + 100 * (group / g[0] % g[1]) +
                                                                        10000 * (group / g[0] / g[1]) + 1000000 * lane;
            assert_int_equal(got[1 + i], expected);
        }
    }
    hal_buffer_free(x);
    hal_kernel_destroy(kernel);
}

static void bad_kernels_are_refused_with_the_reason(void **state)
{
    fixture *f = fixture_of(state);
    hal_kernel *kernel = NULL;
    FAILS(TSR_DRIVER_ERROR,
          create(f->device, "broken/f32", "broken",
                 "__kernel void broken(__global float *x, ulong o) { x[o] = no_such_name; }", 1, 0, 1, &kernel));
    SAYS("broken/f32");
    SAYS("no_such_name"); /* the compiler's own words */
    assert_null(kernel);
    FAILS(TSR_NOT_FOUND, create(f->device, "other/f32", "other", saxpy_text, 2, sizeof(saxpy_params), 4, &kernel));
    SAYS("other/f32");
    SAYS("no function other");
    assert_int_equal(hal_device_status(f->device), TSR_OK);
}

/* One kernel on two queues from two threads: arguments must not run into each other. */
typedef struct racer {
    hal_device *device;
    hal_kernel *kernel;
    float a;
    bool right;
    char message[256];
} racer;

static tsr_status race_steps(racer *r, hal_queue *queue, hal_buffer *x, hal_buffer *y)
{
    enum { N = 64, LAUNCHES = 300 };
    float ones[N], got[N];
    for (int i = 0; i < N; i++)
        ones[i] = 1;
    tsr_status status = hal_buffer_write(queue, x, 0, ones, sizeof ones);
    if (status == TSR_OK)
        status = hal_buffer_fill(queue, y, 0, sizeof got, 0);
    for (int i = 0; i < LAUNCHES && status == TSR_OK; i++)
        status = saxpy(queue, r->kernel, (hal_binding){x, 0, sizeof ones}, (hal_binding){y, 0, sizeof got}, N, r->a);
    if (status == TSR_OK)
        status = hal_buffer_read(queue, y, 0, got, sizeof got);
    r->right = status == TSR_OK;
    for (int i = 0; i < N && r->right; i++)
        r->right = got[i] == r->a * LAUNCHES;
    return status;
}

static void *race(void *argument)
{
    racer *r = argument;
    hal_queue *queue = NULL;
    hal_buffer *x = NULL, *y = NULL;
    tsr_status status = hal_queue_create(r->device, HAL_QUEUE_COMPUTE, &queue);
    if (status == TSR_OK)
        status = hal_buffer_alloc(r->device, HAL_MEMORY_DEVICE, 256, &x);
    if (status == TSR_OK)
        status = hal_buffer_alloc(r->device, HAL_MEMORY_DEVICE, 256, &y);
    if (status == TSR_OK)
        status = race_steps(r, queue, x, y);
    if (status != TSR_OK)
        snprintf(r->message, sizeof r->message, "%s", tsr_last_error());
    hal_buffer_free(x);
    hal_buffer_free(y);
    hal_queue_destroy(queue);
    return NULL;
}

static void threads_share_a_kernel(void **state)
{
    fixture *f = fixture_of(state);
    enum { THREADS = 4 };
    hal_kernel *kernel = saxpy_of(f->device);
    racer racers[THREADS];
    thread threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        racers[i] = (racer){.device = f->device, .kernel = kernel, .a = (float)(i + 1)};
        OK(thread_start(&threads[i], "racer", race, &racers[i]));
    }
    for (int i = 0; i < THREADS; i++)
        thread_join(&threads[i]);
    for (int i = 0; i < THREADS; i++)
        if (!racers[i].right)
            fail_msg("thread %d has a wrong result: %s", i, racers[i].message);
    hal_kernel_destroy(kernel);
}

/* ---- the program cache ----------------------------------------------------------------------------------------- */

/* The one file in the cache, whose name is its key. */
static void only_key(const char *folder, char key[65])
{
    char path[512];
    snprintf(path, sizeof path, "%s/opencl", folder);
    DIR *open = opendir(path);
    assert_non_null(open);
    int count = 0;
    for (struct dirent *entry; (entry = readdir(open)) != NULL;) {
        if (strlen(entry->d_name) == 64) {
            memcpy(key, entry->d_name, 65);
            count++;
        }
    }
    closedir(open);
    assert_int_equal(count, 1);
}

static void run_once(fixture *f, hal_kernel *kernel)
{
    const float three[4] = {3, 3, 3, 3};
    float got[4];
    hal_buffer *x = buffer_of(f->device, HAL_MEMORY_DEVICE, 64);
    OK(hal_buffer_write(f->queue, x, 0, three, sizeof three));
    OK(saxpy(f->queue, kernel, (hal_binding){x, 0, 16}, (hal_binding){x, 0, 16}, 4, 2));
    OK(hal_buffer_read(f->queue, x, 0, got, sizeof got));
    assert_true(got[0] == 9 && got[3] == 9);
    hal_buffer_free(x);
    hal_kernel_destroy(kernel);
}

static void programs_come_from_the_cache(void **state)
{
    fixture *f = fixture_of(state);
    char folder[] = "/tmp/tessera-opencl-XXXXXX", key[65];
    char *before = getenv("TESSERA_CACHE_DIR") ? strdup(getenv("TESSERA_CACHE_DIR")) : NULL;
    assert_non_null(mkdtemp(folder));
    setenv("TESSERA_CACHE_DIR", folder, 1);
    cache_reset();

    run_once(f, saxpy_of(f->device));
    assert_int_equal(cache_statistics().misses, 1);
    assert_int_equal(cache_statistics().stores, 1);
    run_once(f, saxpy_of(f->device));
    assert_int_equal(cache_statistics().hits, 1);
    assert_int_equal(cache_statistics().stores, 1);

    /* A blob that the cache finds whole and the driver cannot use: built from text again, and replaced. */
    only_key(folder, key);
    cache_store("opencl", key, "no program at all", 17);
    tsr_clear_error();
    run_once(f, saxpy_of(f->device));
    assert_string_equal(tsr_last_error(), "");
    assert_int_equal(cache_statistics().stores, 3);
    run_once(f, saxpy_of(f->device));
    assert_int_equal(cache_statistics().stores, 3);

    remove_folder(folder);
    if (before)
        setenv("TESSERA_CACHE_DIR", before, 1);
    else
        unsetenv("TESSERA_CACHE_DIR");
    cache_reset();
    free(before);
}

int main(void)
{
    setenv("POCL_KERNEL_CACHE", "0", 1); /* PoCL's own cache would be left to it */
    const struct CMUnitTest tests[] = {
        ON_FIRST(arguments_follow_the_launch),
        ON_FIRST(grids_have_three_dimensions),
        ON_FIRST(bad_kernels_are_refused_with_the_reason),
        ON_FIRST(threads_share_a_kernel),
        ON_FIRST(programs_come_from_the_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
