/* Training a small convolutional network on every device: after two steps nothing is allocated, built or waited for; a run repeats
 * bit by bit; and the devices' losses agree. */
#include "tests/op_reference.h"

enum {
    BATCH = 16,
    SIDE = 10,
    CLASSES = 5,
    WARM_UP = 2,
    COUNTED = 20,
    STEPS = WARM_UP + COUNTED,
    COMPARED = 10,
    FLUSH_EVERY = 5
};

typedef struct trainer {
    tsr_module *model;
    tsr_optimizer *optimizer;
    tsr_meter *meter;
    tsr_tensor *images[2], *labels[2];
} trainer;

/* Blobs whose place depends on the class, with noise: something to learn. */
static void make_batch(const run *r, trainer *t, int which)
{
    static float pixels[BATCH * SIDE * SIDE];
    int64_t labels[BATCH];
    uint32_t state = 7u + (uint32_t)which;
    for (int i = 0; i < BATCH; i++) {
        labels[i] = (i * 3 + which) % CLASSES;
        for (int k = 0; k < SIDE * SIDE; k++) {
            const bool inside = k / SIDE / 2 == labels[i] && k % SIDE > 2;
            pixels[i * SIDE * SIDE + k] = (float)random_next(&state) / 16777216.0f - 0.5f + (inside ? 1.0f : 0.0f);
        }
    }
    t->images[which] = tsr_keep(tsr_from_data(r->device, TSR_F32, 4, (int64_t[]){BATCH, 1, SIDE, SIDE}, pixels));
    t->labels[which] = tsr_keep(tsr_from_data(r->device, TSR_I64, 1, (int64_t[]){BATCH}, labels));
    require(r, t->images[which]);
    require(r, t->labels[which]);
}

static trainer trainer_make(const run *r)
{
    trainer t = {0};
    require_ok(r, tsr_seed(r->device, 11));
    t.model = TSR_SEQUENTIAL(tsr_conv2d_create(r->device, 1, 6, 3, 3, &(tsr_conv2d_options){.padding = {1, 1}}, true),
                             tsr_relu_create(), tsr_max_pool2d_create(&(tsr_pool2d_options){.kernel = {2, 2}}),
                             tsr_conv2d_create(r->device, 6, 8, 3, 3, NULL, true), tsr_relu_create(),
                             tsr_flatten_create(1), tsr_linear_create(r->device, 8 * 3 * 3, CLASSES, true));
    require(r, t.model);
    t.optimizer = tsr_adam_for(t.model, &(tsr_adam_options){.lr = 5e-3});
    require(r, t.optimizer);
    t.meter = tsr_meter_create(r->device, STEPS);
    require(r, t.meter);
    make_batch(r, &t, 0);
    make_batch(r, &t, 1);
    return t;
}

static void trainer_free(trainer *t)
{
    for (int i = 0; i < 2; i++) {
        tsr_release(t->images[i]);
        tsr_release(t->labels[i]);
    }
    tsr_meter_destroy(t->meter);
    tsr_optimizer_destroy(t->optimizer);
    tsr_module_destroy(t->model);
}

static void train_step(const run *r, trainer *t, int number)
{
    require_ok(r, tsr_scope_begin());
    tsr_tensor *loss = tsr_cross_entropy(tsr_forward(t->model, t->images[number % 2]), t->labels[number % 2]);
    require(r, loss);
    require_ok(r, tsr_meter_add(t->meter, loss));
    require_ok(r, tsr_backward(loss));
    require_ok(r, tsr_optimizer_step(t->optimizer));
    tsr_optimizer_clear_grad(t->optimizer);
    require_ok(r, tsr_scope_end());
}

static void train(const run *r, float *losses)
{
    trainer t = trainer_make(r);
    for (int i = 0; i < WARM_UP; i++)
        train_step(r, &t, i);
    require_ok(r, tsr_meter_flush(t.meter));
    const tsr_device_counters before = tsr_device_counters_get(r->device);
    for (int i = WARM_UP; i < STEPS; i++) {
        train_step(r, &t, i);
        if ((i - WARM_UP) % FLUSH_EVERY == FLUSH_EVERY - 1)
            require_ok(r, tsr_meter_flush(t.meter));
    }
    const tsr_device_counters after = tsr_device_counters_get(r->device);
    if (after.driver_allocations != before.driver_allocations || after.programs_built != before.programs_built ||
        after.host_waits != before.host_waits)
        fail_msg("%s: %d steps after the first %d allocated %llu times, built %llu programs and waited %llu times",
                 r->name, COUNTED, WARM_UP, (unsigned long long)(after.driver_allocations - before.driver_allocations),
                 (unsigned long long)(after.programs_built - before.programs_built),
                 (unsigned long long)(after.host_waits - before.host_waits));
    assert_true(after.launches >=
                before.launches + COUNTED * 15); /* seven layers and a loss, forward, backward, update */
    require_ok(r, tsr_meter_drain(t.meter));
    assert_int_equal(tsr_meter_poll(t.meter, losses, STEPS), STEPS);
    trainer_free(&t);
}

static float cpu_losses[STEPS];

static void training_on(const run *r)
{
    float first[STEPS], second[STEPS];
    train(r, first);
    train(r, second);
    for (int i = 0; i < STEPS; i++)
        if (memcmp(&first[i], &second[i], sizeof(float)) != 0)
            fail_msg("%s: loss %d is %.9g in one run and %.9g in the next", r->name, i, (double)first[i],
                     (double)second[i]);
    assert_true(fabsf(first[0] - logf(CLASSES)) < 0.5f); /* it knows nothing at first */
    assert_true(first[STEPS - 1] < 0.7f * first[0]);
    double largest = 0;
    for (int i = 0; i < COMPARED; i++) {
        const double d = fabs((double)first[i] - (double)cpu_losses[i]);
        largest = fmax(largest, d);
        if (!(d <= 1e-5))
            fail_msg("%s: loss %d is %.9g, on cpu %.9g", r->name, i, (double)first[i], (double)cpu_losses[i]);
    }
    print_message("%s: the first %d losses are within %.2g of cpu's\n", r->name, COMPARED, largest);
}

static void test_training(void **state)
{
    (void)state;
    const run cpu = {.name = "cpu", .device = tsr_device_open("cpu")};
    require(&cpu, cpu.device);
    train(&cpu, cpu_losses);
    tsr_device_close(cpu.device);
    print_message("cpu: losses %.4f … %.4f\n", (double)cpu_losses[0], (double)cpu_losses[STEPS - 1]);
    on_every_device(training_on);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_training)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
