/* How long a training waits for its data: a data set whose samples take 2 ms each to read, batches of 8, and steps of a two-layer network, with more
 * and more workers. The floor is 0 from the number of workers on that reads a batch in the time of a step. */
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
