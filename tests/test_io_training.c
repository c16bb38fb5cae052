/* Training states: what goes on from a file ends in the bits of what was never interrupted; and files that are not taken. */
#include "io_files.h"

#include "tessera/io.h"
#include "tests/op_reference.h"

enum {
    STEPS = 7,
    CUT = 3,
    BATCH = 20000
}; /* three batches an epoch: the cut lies at its end, the rest in the next two */

static tsr_dataset *images;

/* A network with buffers, dropout and its random numbers. */
typedef struct trainer {
    tsr_training state;
    float losses[STEPS];
} trainer;

static tsr_optimizer *make_optimizer(int kind, tsr_module *m)
{
    switch (kind) {
    case 0: return tsr_adamw_for(m, &(tsr_adam_options){.lr = 1e-2, .weight_decay = 0.1});
    case 1: return tsr_sgd_for(m, &(tsr_sgd_options){.lr = 1e-2, .momentum = 0.9, .dampening = 0.3});
    case 2: return tsr_sgd_for(m, &(tsr_sgd_options){.lr = 1e-2});
    case 3: return tsr_rmsprop_for(m, &(tsr_rmsprop_options){.lr = 1e-3, .momentum = 0.5, .centered = true});
    case 4: return tsr_adagrad_for(m, &(tsr_adagrad_options){.lr_decay = 0.1, .initial_accumulator = 0.5});
    default: return tsr_lamb_for(m, NULL);
    }
}

static void trainer_begin(const run *r, trainer *t, int optimizer, uint64_t seed)
{
    const tsr_conv2d_options stride = {.stride = {9, 9}};
    *t = (trainer){{0}, {0}};
    require_ok(r, tsr_seed(r->device, seed));
    tsr_module *layers[5];
    layers[0] = tsr_conv2d_create(r->device, 1, 2, 9, 9, &stride, true);
    layers[1] = tsr_batch_norm2d_create(r->device, 2, 0, 0);
    layers[2] = tsr_flatten_create(1);
    layers[3] = tsr_dropout_create(0.5);
    layers[4] = tsr_linear_create(r->device, 18, 10, true);
    t->state.model = tsr_sequential_create(layers, 5);
    require(r, t->state.model);
    t->state.optimizer = make_optimizer(optimizer, t->state.model);
    t->state.batches = tsr_batches_create(images, r->device, &(tsr_batches_options){.batch = BATCH, .shuffle = true});
    require(r, t->state.optimizer);
    require(r, t->state.batches);
    if (optimizer == 0) /* a weight decay of each parameter's own: no part of the file, but given to whoever goes on */
        require_ok(r, tsr_optimizer_decay_matrices_only(t->state.optimizer));
    if (optimizer == 0) { /* in mixed precision, with a scale that changes on the way */
        t->state.scaler = tsr_grad_scaler_create(
            r->device, &(tsr_grad_scaler_options){.initial_scale = 0x1p30, .growth_interval = 2});
        require(r, t->state.scaler);
    }
    t->state.settings = "a test";
    t->state.losses = t->losses;
    t->state.losses_capacity = STEPS;
}

static void trainer_end(trainer *t)
{
    tsr_grad_scaler_destroy(t->state.scaler);
    tsr_optimizer_destroy(t->state.optimizer);
    tsr_batches_destroy(t->state.batches);
    tsr_module_destroy(t->state.model);
}

static void train_to(const run *r, trainer *t, int64_t end)
{
    while (t->state.step < end) {
        tsr_tensor *x, *y;
        int64_t count;
        double loss;
        require_ok(r, tsr_scope_begin());
        require_ok(r, tsr_batches_next(t->state.batches, &x, &y, &count));
        if (count == 0) {
            uint64_t epoch;
            tsr_batches_place(t->state.batches, &epoch, &count);
            require_ok(r, tsr_batches_epoch(t->state.batches, epoch + 1));
            require_ok(r, tsr_batches_next(t->state.batches, &x, &y, &count));
        }
        tsr_optimizer_clear_grad(t->state.optimizer);
        /* a few images: the batch is large so that an epoch is short */
        x = tsr_slice(x, 0, 0, 16, 1), y = tsr_slice(y, 0, 0, 16, 1);
        tsr_grad_scaler *scaler = t->state.scaler;
        require_ok(r, tsr_autocast_begin(scaler != NULL ? TSR_F16 : TSR_F32));
        tsr_tensor *l = tsr_cross_entropy(tsr_forward(t->state.model, x), y);
        tsr_autocast_end();
        require(r, l);
        require_ok(r, tsr_backward(scaler != NULL ? tsr_grad_scaler_scale(scaler, l) : l));
        require_ok(r, scaler != NULL ? tsr_grad_scaler_step(scaler, t->state.optimizer)
                                     : tsr_optimizer_step(t->state.optimizer));
        if (scaler != NULL)
            require_ok(r, tsr_grad_scaler_update(scaler));
        require_ok(r, tsr_item(l, &loss));
        t->losses[t->state.step++] = (float)loss;
        require_ok(r, tsr_scope_end());
    }
}

static size_t weights_of(const run *r, const trainer *t, float *out)
{
    size_t n = 0;
    for (int buffers = 0; buffers < 2; buffers++) {
        const size_t count =
            buffers ? tsr_module_buffer_count(t->state.model) : tsr_module_parameter_count(t->state.model);
        for (size_t i = 0; i < count; i++) {
            tsr_tensor *p = buffers ? tsr_module_buffer(t->state.model, i, NULL, 0)
                                    : tsr_module_parameter(t->state.model, i, NULL, 0);
            require_ok(r, tsr_read_f32(p, out + n, (size_t)tsr_numel(p)));
            n += (size_t)tsr_numel(p);
        }
    }
    return n;
}

static void check_resume(const run *r)
{
    /* The first three on every device; others add states of other names only, which no device knows. */
    const int optimizers = strncmp(r->name, "cpu", 3) == 0 ? 6 : 3;
    for (int optimizer = 0; optimizer < optimizers; optimizer++) {
        trainer whole, first, second;
        float expected[1024], got[1024];
        const char *path = path_in_folder("training.state");
        trainer_begin(r, &whole, optimizer, 5);
        train_to(r, &whole, STEPS);
        trainer_begin(r, &first, optimizer, 5);
        train_to(r, &first, CUT);
        require_ok(r, tsr_training_save(&first.state, path, 1));

        trainer_begin(r, &second, optimizer, 99); /* other weights, and other random numbers before the file is read */
        require_ok(r, tsr_training_load(&second.state, path));
        assert_int_equal(second.state.step, CUT);
        assert_memory_equal(second.losses, whole.losses, CUT * sizeof(float));
        train_to(r, &second, STEPS);
        const size_t n = weights_of(r, &whole, expected);
        assert_int_equal(weights_of(r, &second, got), n);
        if (memcmp(expected, got, n * sizeof *got) != 0 ||
            memcmp(whole.losses, second.losses, sizeof whole.losses) != 0)
            fail_msg("%s, optimizer %d: what was resumed ends in other weights or losses", r->name, optimizer);

        /* The state before the first step is one too. */
        trainer_end(&first);
        trainer_begin(r, &first, optimizer, 5);
        require_ok(r, tsr_training_save(&first.state, path, 1));
        require_ok(r, tsr_training_load(&second.state, path));
        assert_int_equal(second.state.step, 0);
        trainer_end(&second);
        trainer_begin(r, &second, optimizer, 7);
        require_ok(r, tsr_training_load(&second.state, path));
        train_to(r, &second, STEPS);
        weights_of(r, &second, got);
        assert_memory_equal(expected, got, n * sizeof *got);
        trainer_end(&whole);
        trainer_end(&first);
        trainer_end(&second);
    }
}

static void test_resume(void **state)
{
    (void)state;
    on_every_device(check_resume);
}

/* Nothing of `t` changes, and the message says why. */
static void refused(const run *r, trainer *t, const char *path, tsr_status status, const char *says)
{
    float before[1024], after[1024];
    const size_t n = weights_of(r, t, before);
    const tsr_random_state random = tsr_random_state_get(r->device);
    tsr_clear_error();
    assert_int_equal(tsr_training_load(&t->state, path), status);
    if (strstr(tsr_last_error(), says) == NULL)
        fail_msg("'%s' does not say '%s'", tsr_last_error(), says);
    weights_of(r, t, after);
    assert_memory_equal(before, after, n * sizeof *after);
    const tsr_random_state now = tsr_random_state_get(r->device);
    assert_memory_equal(&random, &now, sizeof now);
}

static void test_refused(void **state)
{
    (void)state;
    run r = {.device = tsr_device_open("cpu"), .name = "cpu"};
    trainer t, other;
    size_t size;
    const char *good = path_in_folder("good.state"), *bad = path_in_folder("bad.state");
    trainer_begin(&r, &t, 0, 1);
    train_to(&r, &t, 2);
    require_ok(&r, tsr_training_save(&t.state, good, 1));
    uint8_t *bytes = read_file(good, &size);

    /* any byte damaged; any length */
    for (size_t at = 0; at < size; at += at < 2000 ? 1 : 97) {
        bytes[at] ^= 0x11;
        write_file(bad, bytes, size);
        tsr_clear_error();
        assert_int_not_equal(tsr_training_load(&t.state, bad), TSR_OK);
        assert_int_equal(t.state.step, 2);
        bytes[at] ^= 0x11;
    }
    for (size_t length = 0; length < size; length += 1 + length / 4) {
        write_file(bad, bytes, length);
        refused(&r, &t, bad, TSR_CORRUPT_DATA, bad);
    }
    free(bytes);

    refused(&r, &t, path_in_folder("absent.state"), TSR_NOT_FOUND, "there is no file");
    t.state.settings = "another";
    refused(&r, &t, good, TSR_INVALID_ARGUMENT, "it was 'a test', this is 'another'");
    t.state.settings = "a test";
    t.state.losses_capacity = 1;
    refused(&r, &t, good, TSR_OUT_OF_RANGE, "2 steps");
    t.state.losses_capacity = STEPS;
    require_ok(&r, tsr_module_save(t.state.model, bad));
    refused(&r, &t, bad, TSR_CORRUPT_DATA, "no digest");

    /* weights of another network */
    trainer_begin(&r, &other, 0, 1);
    tsr_module_destroy(other.state.model);
    tsr_optimizer_destroy(other.state.optimizer);
    other.state.model = TSR_SEQUENTIAL(tsr_linear_create(r.device, 3, 4, true));
    other.state.optimizer = NULL;
    refused(&r, &other, good, TSR_INVALID_ARGUMENT, "model.0.weight");
    assert_int_equal(tsr_module_load(other.state.model, bad), TSR_INVALID_ARGUMENT);
    assert_non_null(strstr(tsr_last_error(), "another shape"));
    trainer_end(&other);
    require_ok(&r, tsr_module_load(t.state.model, bad));

    assert_int_equal(tsr_training_save(&t.state, good, 0), TSR_INVALID_ARGUMENT);
    assert_int_equal(tsr_training_save(&(tsr_training){0}, good, 1), TSR_INVALID_ARGUMENT);
    assert_int_equal(tsr_training_save(NULL, good, 1), TSR_INVALID_ARGUMENT);
    trainer_end(&t);
    tsr_device_close(r.device);
}

static int64_t step_in(trainer *t, const char *path)
{
    t->state.step = 0;
    return tsr_training_load(&t->state, path) == TSR_OK ? t->state.step : -1;
}

static void test_keep(void **state)
{
    (void)state;
    run r = {.device = tsr_device_open("cpu"), .name = "cpu"};
    trainer t;
    char names[5][512];
    trainer_begin(&r, &t, 0, 1);
    for (int i = 0; i < 5; i++)
        snprintf(names[i], sizeof names[i], i > 0 ? "%s/kept.%d" : "%s/kept", folder, i);
    for (int64_t step = 1; step <= STEPS; step++) {
        t.state.step = step;
        require_ok(&r, tsr_training_save(&t.state, names[0], 3));
        for (int64_t i = 0; i < 5; i++)
            assert_int_equal(step_in(&t, names[i]), i < 3 && i < step ? step - i : -1);
    }
    trainer_end(&t);
    tsr_device_close(r.device);
}

static int open_images(void **state)
{
    images = tsr_mnist_open(NULL, true);
    return images == NULL ? -1 : make_folder(state);
}

static int close_images(void **state)
{
    tsr_dataset_destroy(images);
    return remove_folder(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_keep),
    };
    return cmocka_run_group_tests(tests, open_images, close_images);
}
