/* How long a training waits for its data: a data set whose samples take 2 ms each to read, batches of 8, and steps of a two-layer network, with more
 * and more workers. The floor is 0 from the number of workers on that reads a batch in the time of a step.
 *
 * And what the way to the device costs: batches of 16 MiB that take no time to read, and steps that go over them a few times, beside the same steps with a
 * batch that stays there. TESSERA_COPY_QUEUE=1 and 0 choose a queue of its own or the operators' for it. */
#include "bench.h"

enum { SAMPLES = 4096, WIDTH = 256, BATCH = 8, STEPS = 100, READ_NS = 2000000 };

static tsr_status read_sample(void *context, int64_t number, void *sample, void *target)
{
    (void)context;
    nanosleep(&(struct timespec){.tv_nsec = READ_NS}, NULL);
    for (int i = 0; i < WIDTH; i++)
        ((float *)sample)[i] = (float)((number * WIDTH + i) % 97) / 97;
    *(int64_t *)target = number % 10;
    return TSR_OK;
}

enum { WIDE = 1 << 18, WIDE_BATCH = 16, WIDE_STEPS = 40, PASSES = 4 };

static tsr_status read_wide(void *context, int64_t number, void *sample, void *target)
{
    memcpy(sample, context, WIDE * sizeof(float));
    *(int64_t *)target = number % 10;
    return TSR_OK;
}

/* Seconds a step; with `fixed` in place of batches where there is one. Negative after an error. */
static double wide_steps(tsr_batches *batches, tsr_tensor *fixed, tsr_device *device)
{
    double begin = 0;
    for (int i = -3; i < WIDE_STEPS; i++) {
        tsr_tensor *x = fixed, *y;
        int64_t count;
        if (i == 0 && tsr_device_sync(device) == TSR_OK)
            begin = clock_seconds();
        tsr_scope_begin();
        bool good = fixed != NULL || tsr_batches_next(batches, &x, &y, &count) == TSR_OK;
        for (int k = 0; good && k < PASSES; k++)
            x = tsr_tanh(x);
        good = good && x != NULL && tsr_device_flush(device) == TSR_OK;
        tsr_scope_end();
        if (!good)
            return -1;
    }
    return tsr_device_sync(device) == TSR_OK ? (clock_seconds() - begin) / WIDE_STEPS : -1;
}

static void measure_upload(bench *b, tsr_device *device)
{
    float *values = calloc(WIDE, sizeof *values);
    tsr_dataset *data = tsr_dataset_create(&(tsr_dataset_source){.count = 64 * WIDE_BATCH,
                                                                 .sample_dtype = TSR_F32,
                                                                 .target_dtype = TSR_I64,
                                                                 .sample_rank = 1,
                                                                 .sample_shape = {WIDE},
                                                                 .read = read_wide,
                                                                 .context = values});
    tsr_batches *batches =
        tsr_batches_create(data, device, &(tsr_batches_options){.batch = WIDE_BATCH, .shuffle = true, .workers = 1});
    tsr_tensor *fixed = tsr_zeros(device, TSR_F32, 2, (const int64_t[]){WIDE_BATCH, WIDE});
    const double floor_seconds = wide_steps(NULL, fixed, device);
    const double seconds = batches == NULL || floor_seconds < 0 ? -1 : wide_steps(batches, NULL, device);
    if (seconds < 0) {
        fprintf(stderr, "%s\n", tsr_last_error());
        b->failed = true;
    } else {
        printf("  uploads of 16 MiB   %6.2f ms a step, %6.2f ms without\n", seconds * 1e3, floor_seconds * 1e3);
        json *j = &b->out;
        json_begin_object(j);
        json_put_string(j, "device", tsr_device_id(device));
        json_put_string(j, "what", "upload");
        json_put_double(j, "step_seconds", seconds);
        json_put_double(j, "floor_seconds", floor_seconds);
        json_end_object(j);
    }
    tsr_release(fixed);
    tsr_batches_destroy(batches);
    tsr_dataset_destroy(data);
    free(values);
}

static bool train(tsr_batches *batches, tsr_module *model, tsr_optimizer *optimizer, int steps, tsr_device *device)
{
    for (int i = 0; i < steps; i++) {
        tsr_tensor *x, *y;
        int64_t count;
        tsr_scope_begin();
        tsr_optimizer_clear_grad(optimizer);
        const bool good = tsr_batches_next(batches, &x, &y, &count) == TSR_OK && count > 0 &&
                          tsr_backward(tsr_cross_entropy(tsr_forward(model, x), y)) == TSR_OK &&
                          tsr_optimizer_step(optimizer) == TSR_OK && tsr_device_sync(device) == TSR_OK;
        tsr_scope_end();
        if (!good)
            return false;
    }
    return true;
}

static void measure(bench *b, tsr_device *device)
{
    measure_upload(b, device);
    static const int workers[] = {0, 1, 2, 4, 8, 16, 32};
    tsr_dataset *data = tsr_dataset_create(&(tsr_dataset_source){.count = SAMPLES,
                                                                 .sample_dtype = TSR_F32,
                                                                 .target_dtype = TSR_I64,
                                                                 .sample_rank = 1,
                                                                 .sample_shape = {WIDTH},
                                                                 .classes = 10,
                                                                 .read = read_sample});
    tsr_module *model = TSR_SEQUENTIAL(tsr_linear_create(device, WIDTH, 2048, true), tsr_relu_create(),
                                       tsr_linear_create(device, 2048, 10, true));
    tsr_optimizer *optimizer = model == NULL ? NULL : tsr_adam_for(model, NULL);
    for (size_t i = 0; optimizer != NULL && i < sizeof workers / sizeof *workers; i++) {
        tsr_batches *batches = tsr_batches_create(
            data, device, &(tsr_batches_options){.batch = BATCH, .shuffle = true, .workers = workers[i]});
        if (batches == NULL || !train(batches, model, optimizer, 10, device)) {
            b->failed = true;
            tsr_batches_destroy(batches);
            break;
        }
        const double waited = tsr_batches_waited(batches), begin = clock_seconds();
        b->failed = !train(batches, model, optimizer, STEPS, device);
        const double seconds = clock_seconds() - begin, fraction = (tsr_batches_waited(batches) - waited) / seconds;
        printf("  %2d workers   %6.2f ms a step   waiting %5.1f %%\n", workers[i], seconds / STEPS * 1e3,
               fraction * 100);
        fflush(stdout);
        json *j = &b->out;
        json_begin_object(j);
        json_put_string(j, "device", tsr_device_id(device));
        json_put_string(j, "what", "loader");
        json_put_int(j, "workers", workers[i]);
        json_put_double(j, "step_seconds", seconds / STEPS);
        json_put_double(j, "wait_fraction", fraction);
        json_end_object(j);
        tsr_batches_destroy(batches);
    }
    if (optimizer == NULL || b->failed) {
        fprintf(stderr, "%s\n", tsr_last_error());
        b->failed = true;
    }
    tsr_optimizer_destroy(optimizer);
    tsr_module_destroy(model);
    tsr_dataset_destroy(data);
}

int main(int argc, char **argv)
{
    bench b;
    if (!bench_begin(&b, argc, argv))
        return 2;
    bench_each_device(&b, measure);
    return bench_end(&b);
}
