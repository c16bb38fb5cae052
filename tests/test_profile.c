/* Profiles (tessera/profile.h): the trace is one JSON document, spans of a track nest, kernels carry operators' names and lie in the profile, every worker
 * and every queue has a track; a profile that is full, ends twice, or cannot be written. */
#include "tests/op_reference.h"

#include "base/clock.h"
#include "base/memory.h"
#include "base/profile.h"
#include "base/thread.h"
#include "io_files.h"
#include "profile_trace.h"
#include "tensor/device.h"

#include <pthread.h>
#include <time.h>

enum { HIDDEN = 16, BATCH = 8, BATCHES = 6, WORKERS = 3 };

/* ---- a training to be profiled ---- */

/* Each worker makes at least one batch: the first WORKERS of them wait for each other. */
static tsr_status read_sample(void *context, int64_t index, void *values, void *target)
{
    float *x = values;
    if (index % BATCH == 0 && index < WORKERS * BATCH)
        pthread_barrier_wait(context);
    for (int i = 0; i < HIDDEN; i++)
        x[i] = (float)((index * 7 + i * 3) % 11) * 0.1f - 0.5f;
    *(int64_t *)target = index % 4;
    return TSR_OK;
}

static tsr_dataset *make_dataset(const run *r, pthread_barrier_t *all)
{
    const tsr_dataset_source source = {.count = BATCH * BATCHES,
                                       .sample_dtype = TSR_F32,
                                       .sample_rank = 1,
                                       .sample_shape = {HIDDEN},
                                       .target_dtype = TSR_I64,
                                       .read = read_sample,
                                       .context = all};
    tsr_dataset *made = tsr_dataset_create(&source);
    require(r, made);
    return made;
}

static void train(const run *r, tsr_module *model, tsr_optimizer *adam, tsr_batches *batches)
{
    for (int step = 0; step < BATCHES; step++) {
        tsr_tensor *x, *y;
        int64_t count;
        float value;
        tsr_profile_push_number("step", step);
        require_ok(r, tsr_scope_begin());
        require_ok(r, tsr_batches_next(batches, &x, &y, &count));
        tsr_profile_push("forward");
        tsr_tensor *loss = tsr_cross_entropy(tsr_forward(model, x), y);
        tsr_profile_pop();
        require(r, loss);
        require_ok(r, tsr_backward(loss));
        require_ok(r, tsr_optimizer_step(adam));
        tsr_optimizer_clear_grad(adam);
        require_ok(r, tsr_read(loss, &value, sizeof value));
        tsr_scope_end();
        tsr_profile_pop();
    }
}

static void check_step(void)
{
    const span *step = must_find("user", "step", NULL);
    must_find("phase", "load", step);
    must_find("phase", "optimizer", step);
    must_find("module", "adam", must_find("phase", "optimizer", NULL));
    const span *forward = must_find("user", "forward", step);
    must_find("operator", "relu", must_find("module", "sequential", forward));
    must_find("operator", "cross_entropy", forward);
    must_find("operator", "relu backward", must_find("phase", "backward", step));
    must_find("wait", "read", step);
    must_find("driver", "allocate", NULL);
    must_find("driver", "build program", NULL);
}

static void check_device(const char *id)
{
    const span *kernel = must_find("kernel", "relu", NULL);
    assert_true(strstr(kernel->detail, "relu") != NULL);
    must_find("kernel", "adam", NULL);
    must_find("kernel", "cross_entropy", NULL);
    must_find("copy", "read", NULL);
    must_find("wait", "compare clocks", NULL);
    assert_int_equal(tracks_named(id, "compute queue"), 1);
    int kernels = 0, arrows = 0, starts = 0;
    for (int i = 0; i < trace.span_count; i++)
        if (strcmp(trace.spans[i].category, "kernel") == 0 || strcmp(trace.spans[i].category, "copy") == 0)
            kernels++;
    for (int i = 0; i < trace.track_count; i++) {
        arrows += trace.tracks[i].flows_in;
        starts += trace.tracks[i].flows_out;
    }
    assert_int_equal(arrows, starts);
    assert_true(arrows <= kernels && arrows > kernels / 2);
}

static void a_training_on(const run *r)
{
    /* Once on each device: which family of kernels it takes makes no difference here. */
    static char done[64];
    pthread_barrier_t all;
    if (strcmp(done, tsr_device_id(r->device)) == 0)
        return;
    snprintf(done, sizeof done, "%s", tsr_device_id(r->device));
    pthread_barrier_init(&all, NULL, WORKERS);
    const char *path = path_in_folder("train.json");
    require_ok(r, tsr_profile_begin(NULL));
    assert_true(tsr_profile_active());
    assert_int_equal(tsr_profile_begin(NULL), TSR_INVALID_ARGUMENT);
    tsr_dataset *data = make_dataset(r, &all);
    tsr_module *model =
        tsr_sequential_create((tsr_module *[]){tsr_linear_create(r->device, HIDDEN, 32, true), tsr_relu_create(),
                                               tsr_linear_create(r->device, 32, 4, true)},
                              3);
    require(r, model);
    tsr_optimizer *adam = tsr_adam_for(model, &(tsr_adam_options){.lr = 1e-3});
    tsr_batches *batches =
        tsr_batches_create(data, r->device, &(tsr_batches_options){.batch = BATCH, .workers = WORKERS});
    require(r, adam);
    require(r, batches);
    train(r, model, adam, batches);
    tsr_batches_destroy(batches);
    tsr_optimizer_destroy(adam);
    tsr_module_destroy(model);
    tsr_dataset_destroy(data);
    require_ok(r, tsr_profile_end(path));
    assert_false(tsr_profile_active());
    assert_int_equal(tsr_profile_end(path), TSR_INVALID_ARGUMENT);

    read_trace(path);
    assert_int_equal(trace.dropped, 0);
    check_step();
    check_device(tsr_device_id(r->device));
    must_find("worker", "make batch", NULL);
    assert_true(trace.counters > 0);
    assert_true(tracks_named("host", "main") == 1);
    assert_int_equal(tracks_named("host", "loader-"), WORKERS);
    pthread_barrier_destroy(&all);
}

static void a_training(void **state)
{
    (void)state;
    on_every_device(a_training_on);
}

/* ---- what may go otherwise ---- */

static void push_many(int count)
{
    for (int i = 0; i < count; i++) {
        tsr_profile_push_number("many", i);
        tsr_profile_pop();
    }
}

/* The first ones are kept; nothing fails. */
static void a_full_profile(void **state)
{
    (void)state;
    const char *path = path_in_folder("full.json");
    assert_int_equal(tsr_profile_begin(&(tsr_profile_options){.max_events = 1000}), TSR_OK);
    push_many(2000);
    assert_int_equal(tsr_profile_end(path), TSR_OK);
    read_trace(path);
    assert_int_equal(trace.events, 1024); /* two pieces of 512 */
    assert_int_equal(trace.dropped, 2000 - 1024);
    assert_int_equal(tsr_profile_counts_get().events, 1024);
    assert_int_equal(tsr_profile_counts_get().dropped, 2000 - 1024);
}

/* Spans that are open at the end belong to it, also those that began before are none; too deep ones and a pop too many do no harm. */
static void spans_around_a_profile(void **state)
{
    (void)state;
    const char *path = path_in_folder("open.json");
    tsr_profile_push("before");
    assert_int_equal(tsr_profile_begin(NULL), TSR_OK);
    for (int i = 0; i < 100; i++)
        tsr_profile_push("deep");
    for (int i = 0; i < 100; i++)
        tsr_profile_pop();
    tsr_profile_push("open \"at\" the\n end");
    assert_int_equal(tsr_profile_end(path), TSR_OK);
    tsr_profile_pop();
    tsr_profile_pop();
    read_trace(path);
    assert_int_equal(trace.events, 64 - 1 + 1);
    must_find("user", "open \"at\" the\n end", NULL);
    assert_null(find("user", "before", NULL));

    /* The next one has nothing of it. */
    assert_int_equal(tsr_profile_begin(NULL), TSR_OK);
    tsr_profile_push("second");
    tsr_profile_pop();
    assert_int_equal(tsr_profile_end(path), TSR_OK);
    read_trace(path);
    assert_int_equal(trace.events, 1);
}

static void a_file_that_cannot_be(void **state)
{
    (void)state;
    const int64_t before = host_live_allocations();
    assert_int_equal(tsr_profile_begin(NULL), TSR_OK);
    push_many(3);
    assert_int_equal(tsr_profile_end("/nonexistent-folder/trace.json"), TSR_IO_ERROR);
    assert_non_null(strstr(tsr_last_error(), "/nonexistent-folder/trace.json"));
    assert_false(tsr_profile_active());
    assert_int_equal(host_live_allocations(), before);
    assert_int_equal(tsr_profile_begin(NULL), TSR_OK);
    assert_int_equal(tsr_profile_end(NULL), TSR_OK);
}

/* No memory: events are dropped, the profiled work succeeds. */
static void no_memory(void **state)
{
    (void)state;
    const char *path = path_in_folder("memory.json");
    assert_int_equal(tsr_profile_begin(NULL), TSR_OK);
    push_many(1); /* a piece is there, and the name */
    host_alloc_fail_after(0);
    push_many(600);
    tsr_profile_push("a name that is new");
    tsr_profile_pop();
    host_alloc_fail_after(-1);
    assert_int_equal(tsr_profile_end(path), TSR_OK);
    read_trace(path);
    assert_int_equal(trace.events, 512);
    assert_int_equal(trace.dropped, 601 + 1 - 512);
}

/* A queue that ends during the profile keeps its track; one whose device is lost has no times, and that is no error. */
static void devices_that_end(void **state)
{
    (void)state;
    const char *path = path_in_folder("end.json");
    assert_int_equal(tsr_profile_begin(NULL), TSR_OK);
    for (int i = 0; i < 2; i++) {
        tsr_device *device = tsr_device_open("cpu");
        assert_non_null(device);
        assert_int_equal(tsr_scope_begin(), TSR_OK);
        tsr_tensor *x = tsr_full(device, TSR_F32, 1, (int64_t[]){100}, 2.0);
        assert_non_null(tsr_relu(x));
        tsr_scope_end();
        if (i == 1) {
            assert_int_equal(hal_device_lose(device->hal), TSR_OK);
            assert_int_equal(tsr_scope_begin(), TSR_OK);
            assert_null(tsr_full(device, TSR_F32, 1, (int64_t[]){100}, 2.0));
            tsr_scope_end();
        }
        tsr_device_close(device);
    }
    assert_int_equal(tsr_profile_end(path), TSR_OK);
    read_trace(path);
    must_find("driver", "open device", NULL);
    must_find("kernel", "relu", NULL);
    assert_int_equal(tracks_named("cpu:0", "compute queue"), 2);
    assert_int_equal(tracks_named("cpu:0", "compute queue (its driver gives no times)"), 1);
}

/* A device's clock that begins elsewhere and is sure to within 10 us at both ends keeps its distance; one that runs 1 % faster is put on a line. */
static void clocks(void **state)
{
    (void)state;
    const char *path = path_in_folder("clocks.json");
    for (int drifts = 0; drifts < 2; drifts++) {
        assert_int_equal(tsr_profile_begin(NULL), TSR_OK);
        tsr_profile_push("around");
        const uint64_t began = clock_ns(), at = 500, late = drifts ? 1010000000 : 1000000000;
        profile_track *made = profile_track_create("device", "queue");
        assert_non_null(made);
        profile_track_add(made, &(profile_event){.name = "kernel",
                                                 .began = at + late / 2,
                                                 .lasted = late / 4,
                                                 .number = PROFILE_NO_NUMBER,
                                                 .kind = PROFILE_KERNEL});
        /* The second reading is 6 us off, which is within what both say of themselves. */
        profile_track_place(made, &(profile_clock){.at = at, .host = began, .error = 10000},
                            &(profile_clock){.at = at + late, .host = began + 1000006000, .error = 10000});
        struct timespec second = {.tv_sec = 1, .tv_nsec = 10000000};
        nanosleep(&second, NULL); /* so that the kernel lies in the profile */
        assert_int_equal(tsr_profile_end(path), TSR_OK);
        read_trace(path);
        const span *kernel = must_find("kernel", "kernel", NULL), *around = must_find("user", "around", NULL);
        const double offset = kernel->began - around->began, length = kernel->ended - kernel->began;
        if (drifts) { /* 1.01 s of the device are 1.000006 s of the host */
            assert_true(fabs(length - 250001.5) < 0.01);
            assert_true(offset >= 500003 - 0.01 && offset < 500003 + 1000);
        } else { /* half of the 6 us are the second reading's, half the first one's: the distance that suits both best */
            assert_true(fabs(length - 250000) < 0.01);
            assert_true(offset >= 500003 - 0.01 && offset < 500003 + 1000);
        }
    }
}

/* ---- many threads ---- */

static atomic_bool ends;

static void *spin(void *argument)
{
    tsr_device *device = argument;
    assert_int_equal(tsr_scope_begin(), TSR_OK);
    tsr_tensor *x = tsr_full(device, TSR_F32, 1, (int64_t[]){64}, 2.0);
    while (!atomic_load(&ends)) {
        assert_int_equal(tsr_scope_begin(), TSR_OK);
        tsr_profile_push("turn");
        assert_non_null(tsr_exp(x));
        tsr_profile_pop();
        tsr_scope_end();
    }
    tsr_scope_end();
    return NULL;
}

/* Threads come, work on one queue and go while profiles begin and end. */
static void threads_and_profiles(void **state)
{
    (void)state;
    tsr_device *device = tsr_device_open("cpu");
    assert_non_null(device);
    for (int round = 0; round < 5; round++) {
        thread threads[3];
        atomic_store(&ends, false);
        for (int i = 0; i < 3; i++)
            assert_int_equal(thread_start(&threads[i], "spinner", spin, device), TSR_OK);
        for (int i = 0; i < 4; i++) {
            const char *path = path_in_folder("threads.json");
            assert_int_equal(tsr_profile_begin(&(tsr_profile_options){.max_events = 8192}), TSR_OK);
            for (int k = 0; k < 100 || tsr_profile_counts_get().events < 1000; k++)
                push_many(1);
            assert_int_equal(tsr_profile_end(path), TSR_OK);
            read_trace(path);
        }
        atomic_store(&ends, true);
        for (int i = 0; i < 3; i++)
            thread_join(&threads[i]);
    }
    tsr_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_training),
        cmocka_unit_test(a_full_profile),
        cmocka_unit_test(spans_around_a_profile),
        cmocka_unit_test(a_file_that_cannot_be),
        cmocka_unit_test(no_memory),
        cmocka_unit_test(devices_that_end),
        cmocka_unit_test(clocks),
        cmocka_unit_test(threads_and_profiles),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
