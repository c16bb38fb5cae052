/* Every allocation of a training step failed in turn, host and device: an error, nothing kept, and the next step works and gives the bits that it
 * would have given. A small convolutional network and a small GPT, with mixed precision, a gradient scaler, clipping, dropout and parts that are
 * run again; and on the CPU device a whole training, from opening the device on. */
#include "tests/op_reference.h"

#include "base/memory.h"
#include "hal/hal.h"
#include "memory/allocator.h"

enum {
    SAMPLES = 8,
    BATCH = 2,
    SIDE = 8,
    CLASSES = 3,
    CONTEXT = 4,
    VOCABULARY = 11,
    STATE_MOST = 64,
    BYTES_MOST = 1 << 15
};

typedef struct training {
    tsr_device *device;
    bool gpt;
    tsr_dataset *data;
    tsr_batches *batches;
    tsr_module *model;
    tsr_optimizer *optimizer;
    tsr_grad_scaler *scaler;
} training;

/* ---- a training ---- */

static tsr_status read_image(void *context, int64_t i, void *input, void *target)
{
    (void)context;
    for (int64_t k = 0; k < SIDE * SIDE; k++)
        ((float *)input)[k] = (float)((i * 37 + k * 11) % 23) / 11.0f - 1;
    *(int64_t *)target = i % CLASSES;
    return TSR_OK;
}

static tsr_status read_tokens(void *context, int64_t i, void *input, void *target)
{
    (void)context;
    for (int64_t k = 0; k < CONTEXT; k++) {
        ((int64_t *)input)[k] = (3 * i + 5 * k) % VOCABULARY;
        ((int64_t *)target)[k] = (3 * i + 5 * (k + 1)) % VOCABULARY;
    }
    return TSR_OK;
}

static const tsr_dataset_source images = {.count = SAMPLES,
                                          .sample_dtype = TSR_F32,
                                          .target_dtype = TSR_I64,
                                          .sample_rank = 3,
                                          .sample_shape = {1, SIDE, SIDE},
                                          .classes = CLASSES,
                                          .read = read_image};
static const tsr_dataset_source sentences = {.count = SAMPLES,
                                             .sample_dtype = TSR_I64,
                                             .target_dtype = TSR_I64,
                                             .sample_rank = 1,
                                             .target_rank = 1,
                                             .sample_shape = {CONTEXT},
                                             .target_shape = {CONTEXT},
                                             .read = read_tokens};

static tsr_module *convolutional(tsr_device *d)
{
    tsr_module *part =
        TSR_SEQUENTIAL(tsr_linear_create(d, 2 * SIDE * SIDE / 4, 6, true), tsr_gelu_create(), tsr_dropout_create(0.25));
    tsr_module *m = TSR_SEQUENTIAL(tsr_conv2d_create(d, 1, 2, 3, 3, &(tsr_conv2d_options){.padding = {1, 1}}, true),
                                   tsr_batch_norm2d_create(d, 2, 0, 0), tsr_relu_create(),
                                   tsr_max_pool2d_create(&(tsr_pool2d_options){.kernel = {2, 2}}),
                                   tsr_flatten_create(1), part, tsr_linear_create(d, 6, CLASSES, true));
    const bool parts[] = {false, false, false, false, false, true, false};
    if (m == NULL || tsr_sequential_checkpoint(m, parts, 7) == TSR_OK)
        return m;
    tsr_module_destroy(m);
    return NULL;
}

static tsr_module *transformer(tsr_device *d)
{
    tsr_module *m = tsr_gpt_create(
        d, &(tsr_gpt_options){
               .vocabulary = VOCABULARY, .context = CONTEXT, .width = 8, .layers = 1, .heads = 2, .dropout = 0.25});
    if (m == NULL || tsr_gpt_checkpoint(m, NULL) == TSR_OK)
        return m;
    tsr_module_destroy(m);
    return NULL;
}

static void end(training *t)
{
    tsr_grad_scaler_destroy(t->scaler);
    tsr_optimizer_destroy(t->optimizer);
    tsr_module_destroy(t->model);
    tsr_batches_destroy(t->batches);
    tsr_dataset_destroy(t->data);
}

static bool begin(training *t)
{
    t->data = tsr_seed(t->device, 5) == TSR_OK ? tsr_dataset_create(t->gpt ? &sentences : &images) : NULL;
    t->batches = tsr_batches_create(t->data, t->device,
                                    &(tsr_batches_options){.batch = BATCH, .shuffle = true, .workers = t->gpt ? 0 : 1});
    if (t->batches == NULL)
        return false;
    t->model = t->gpt ? transformer(t->device) : convolutional(t->device);
    t->optimizer = tsr_adamw_for(t->model, &(tsr_adam_options){.lr = 0.01, .weight_decay = 0.1});
    t->scaler = t->optimizer == NULL ? NULL : tsr_grad_scaler_create(t->device, NULL);
    return t->scaler != NULL;
}

static tsr_tensor *loss_of(const training *t, tsr_tensor *x, tsr_tensor *y)
{
    tsr_tensor *logits = tsr_forward(t->model, x);
    if (!t->gpt)
        return tsr_cross_entropy(logits, y);
    return tsr_cross_entropy(tsr_reshape(logits, 2, (int64_t[]){-1, VOCABULARY}), tsr_reshape(y, 1, (int64_t[]){-1}));
}

/* As a program would write it. *updating: the optimizer's step was begun. */
static tsr_status step(const training *t, bool *updating)
{
    tsr_tensor *x, *y;
    int64_t n;
    *updating = false;
    tsr_status status = tsr_scope_begin();
    if (status != TSR_OK)
        return status;
    status = tsr_batches_next(t->batches, &x, &y, &n);
    if (status == TSR_OK)
        status = tsr_autocast_begin(TSR_F16);
    if (status == TSR_OK) {
        tsr_tensor *loss = loss_of(t, x, y);
        tsr_autocast_end();
        status = tsr_backward(tsr_grad_scaler_scale(t->scaler, loss));
    }
    if (status == TSR_OK)
        status = tsr_grad_scaler_unscale(t->scaler, t->optimizer);
    if (status == TSR_OK && tsr_optimizer_clip_grad_norm(t->optimizer, 1, 2) == NULL)
        status = tsr_last_status();
    *updating = status == TSR_OK;
    if (status == TSR_OK)
        status = tsr_grad_scaler_step(t->scaler, t->optimizer);
    if (status == TSR_OK)
        status = tsr_grad_scaler_update(t->scaler);
    if (status != TSR_OK)
        tsr_grad_scaler_abandon(t->scaler);
    tsr_module_clear_grad(t->model);
    tsr_scope_end();
    return status;
}

/* ---- its state ---- */

typedef struct saved_state {
    unsigned char bytes[BYTES_MOST];
    size_t size;
    tsr_random_state random;
    uint64_t epoch;
    int64_t place;
} saved_state;

/* All tensors of the training: first those that only an optimizer's step changes. */
static size_t tensors_of(const training *t, tsr_tensor **list, size_t *updated)
{
    size_t n = 0;
    const size_t parameters = tsr_module_parameter_count(t->model), buffers = tsr_module_buffer_count(t->model);
    assert_true(3 * parameters + buffers + 4 <= STATE_MOST);
    for (size_t i = 0; i < parameters; i++) {
        list[n++] = tsr_module_parameter(t->model, i, NULL, 0);
        list[n++] = tsr_optimizer_state(t->optimizer, i, "exp_avg");
        list[n++] = tsr_optimizer_state(t->optimizer, i, "exp_avg_sq");
    }
    list[n++] = tsr_optimizer_state(t->optimizer, 0, "step");
    list[n++] = tsr_grad_scaler_state(t->scaler, "scale");
    list[n++] = tsr_grad_scaler_state(t->scaler, "growth_tracker");
    list[n++] = tsr_grad_scaler_state(t->scaler, "skipped");
    *updated = n;
    for (size_t i = 0; i < buffers; i++)
        list[n++] = tsr_module_buffer(t->model, i, NULL, 0);
    return n;
}

static size_t bytes_of(const tsr_tensor *t)
{
    return (size_t)tsr_numel(t) * tsr_dtype_size(tsr_dtype_of(t));
}

static void save(const run *r, const training *t, saved_state *s)
{
    tsr_tensor *list[STATE_MOST];
    size_t updated;
    const size_t n = tensors_of(t, list, &updated);
    *s = (saved_state){.random = tsr_random_state_get(t->device)};
    tsr_batches_place(t->batches, &s->epoch, &s->place);
    for (size_t i = 0; i < n; i++) {
        assert_true(s->size + bytes_of(list[i]) <= BYTES_MOST);
        require_ok(r, tsr_read(list[i], s->bytes + s->size, bytes_of(list[i])));
        s->size += bytes_of(list[i]);
    }
}

/* Back to it; what only an optimizer's step changes, only if `all`. */
static void restore(const run *r, const training *t, const saved_state *s, bool all)
{
    tsr_tensor *list[STATE_MOST];
    size_t updated, at = 0;
    const size_t n = tensors_of(t, list, &updated);
    for (size_t i = 0; i < n; at += bytes_of(list[i++]))
        if (all || i >= updated)
            require_ok(r, tsr_write(list[i], s->bytes + at, bytes_of(list[i])));
    require_ok(r, tsr_random_state_set(t->device, &s->random));
    require_ok(r, tsr_batches_seek(t->batches, s->epoch, s->place));
}

/* ---- failures in turn ---- */

static const struct kind {
    const char *name;
    fault *place;
    bool once;
    bool asks_driver; /* nothing is free before the step */
} kinds[] = {
    {"host allocation", &host_alloc_fault, true, false},
    {"host allocation and all after it", &host_alloc_fault, false, false},
    {"block of device memory", &allocator_fault, true, false},
    {"block of device memory and all after it", &allocator_fault, false, false},
    {"buffer of the driver", &hal_buffer_fault, true, true},
    {"buffer of the driver and all after it", &hal_buffer_fault, false, true},
};

typedef struct held {
    uint64_t device;
    int64_t host;
} held;

static held held_now(const run *r)
{
    tsr_memory_statistics s;
    require_ok(r, tsr_device_sync(r->device));
    require_ok(r, tsr_memory_trim(r->device));
    require_ok(r, tsr_memory_stats(r->device, &s));
    /* Backends keep what they stage uploads in; whether that goes with the device is seen at the end. */
    const bool cpu = strcmp(tsr_device_id(r->device), "cpu:0") == 0;
    return (held){s.allocated_bytes, cpu ? host_live_allocations() : 0};
}

static saved_state start, expected, got;

static void same_as_expected(const run *r, const training *t, const char *what, const struct kind *k, int64_t n)
{
    save(r, t, &got);
    if (memcmp(&got, &expected, sizeof got) != 0)
        fail_msg("%s: %s, %s %lld failed: other bits than without it", r->name, what, k->name, (long long)n);
}

/* Takes all cached memory, into the scope: in pieces of at most 1 MiB, which come from the segments for small ones. */
static void fill_cache(const run *r)
{
    tsr_memory_statistics s;
    for (;;) {
        require_ok(r, tsr_memory_stats(r->device, &s));
        if (s.largest_free_bytes == 0)
            return;
        const int64_t words = (int64_t)(s.largest_free_bytes < 1 << 20 ? s.largest_free_bytes : 1 << 20) / 4;
        require(r, tsr_empty(r->device, TSR_I32, 1, &words));
    }
}

/* The number of failures that the step met. */
static int64_t fail_in_turn(const run *r, const training *t, const struct kind *k)
{
    bool updating;
    int64_t refused = 0;
    held before = {0};
    for (int64_t n = -1;; n++) {
        restore(r, t, &start, true);
        const held base = held_now(r);
        if (n >= 0 && (base.device != before.device || base.host != before.host))
            fail_msg("%s: %s %lld failed: %lld bytes and %lld host allocations are kept", r->name, k->name,
                     (long long)n - 1, (long long)(base.device - before.device), (long long)(base.host - before.host));
        before = base;
        if (!k->asks_driver) { /* the step's memory is cached */
            require_ok(r, step(t, &updating));
            restore(r, t, &start, true);
        }
        require_ok(r, tsr_scope_begin());
        if (k->asks_driver)
            fill_cache(r);
        tsr_clear_error();
        fault_set(k->place, n, k->once);
        const tsr_status status = step(t, &updating);
        const int64_t struck = fault_struck(k->place);
        fault_set(k->place, -1, false);
        const tsr_status last = tsr_last_status();
        char why[256];
        snprintf(why, sizeof why, "%s", tsr_last_error());
        require_ok(r, tsr_scope_end());
        if (status == TSR_OK) {
            same_as_expected(r, t, "the same step", k, n);
            if (n >= 0 && struck == 0)
                return refused;
            continue;
        }
        refused++;
        if (last != status || (status != TSR_OUT_OF_MEMORY && status != TSR_OUT_OF_DEVICE_MEMORY) || why[0] == '\0')
            fail_msg("%s: %s %lld failed: status %s, last %s: %s", r->name, k->name, (long long)n,
                     tsr_status_name(status), tsr_status_name(last), why);
        /* The next step, of the same state; a step that was broken off within the optimizer's starts from a saved one. */
        restore(r, t, &start, updating);
        require_ok(r, step(t, &updating));
        same_as_expected(r, t, "the next step", k, n);
    }
}

/* What fails is the same in every way of computing: one a device. What the host allocates is seen on the CPU device, where it is quick. */
static void steps_on(const run *r, bool gpt)
{
    static char seen[2][64];
    bool updating;
    const bool cpu = strcmp(tsr_device_id(r->device), "cpu:0") == 0;
    if (strcmp(seen[gpt], tsr_device_id(r->device)) == 0 || (gpt && !cpu))
        return;
    snprintf(seen[gpt], sizeof seen[gpt], "%s", tsr_device_id(r->device));
    training t = {.device = r->device, .gpt = gpt};
    require(r, begin(&t) ? &t : NULL);
    for (int i = 0; i < 2; i++) /* kernels are built, the loss is finite */
        require_ok(r, step(&t, &updating));
    save(r, &t, &start);
    require_ok(r, step(&t, &updating));
    save(r, &t, &expected);
    assert_memory_not_equal(start.bytes, expected.bytes, start.size);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (kinds[i].place == &host_alloc_fault && !cpu)
            continue;
        const int64_t refused = fail_in_turn(r, &t, &kinds[i]);
        print_message("%s, %s: %lld failures of a %s\n", r->name, gpt ? "GPT" : "CNN", (long long)refused,
                      kinds[i].name);
        assert_true(refused > (kinds[i].asks_driver ? kinds[i].once ? -1 : 0 : 20)); /* the driver is asked again */
    }
    end(&t);
}

static void convolutional_on(const run *r)
{
    steps_on(r, false);
}

static void transformer_on(const run *r)
{
    steps_on(r, true);
}

static void nothing_on(const run *r)
{
    require_ok(r, tsr_device_sync(r->device));
}

static void test_steps(void **state)
{
    (void)state;
    on_every_device(nothing_on); /* what backends keep for the process is there now */
    const int64_t before = host_live_allocations();
    on_every_device(convolutional_on);
    on_every_device(transformer_on);
    assert_int_equal(host_live_allocations(), before);
}

/* ---- a whole training ---- */

/* The sum of all parameters' bits after two steps; 0 after an error. */
static uint64_t live(const char *id, tsr_status *status)
{
    uint64_t sum = 0;
    float values[256];
    bool updating;
    training t = {.device = tsr_device_open(id)};
    *status = TSR_OK;
    if (t.device == NULL || !begin(&t) || step(&t, &updating) != TSR_OK || step(&t, &updating) != TSR_OK)
        *status = tsr_last_status();
    for (size_t i = 0; *status == TSR_OK && i < tsr_module_parameter_count(t.model); i++) {
        tsr_tensor *p = tsr_module_parameter(t.model, i, NULL, 0);
        assert_true(tsr_numel(p) <= 256);
        *status = tsr_read_f32(p, values, (size_t)tsr_numel(p));
        for (int64_t k = 0; *status == TSR_OK && k < tsr_numel(p); k++) {
            uint32_t bits;
            memcpy(&bits, &values[k], sizeof bits);
            sum = sum * 1099511628211u + bits;
        }
    }
    end(&t);
    tsr_device_close(t.device);
    return *status == TSR_OK ? sum : 0;
}

static void lives_in_turn(const char *id, const struct kind *k)
{
    tsr_status status;
    int64_t refused = 0;
    (void)live(id, &status); /* what a backend keeps for the process is there now */
    const uint64_t right = live(id, &status);
    assert_int_equal(status, TSR_OK);
    const int64_t before = host_live_allocations();
    for (int64_t n = 0;; n++) {
        tsr_clear_error();
        fault_set(k->place, n, k->once);
        const uint64_t sum = live(id, &status);
        const int64_t struck = fault_struck(k->place);
        fault_set(k->place, -1, false);
        if (host_live_allocations() != before)
            fail_msg("%s: %s %lld failed: %lld host allocations are kept", id, k->name, (long long)n,
                     (long long)(host_live_allocations() - before));
        if (status == TSR_OK ? sum != right : status != TSR_OUT_OF_MEMORY && status != TSR_OUT_OF_DEVICE_MEMORY)
            fail_msg("%s: %s %lld failed: %s, %s", id, k->name, (long long)n,
                     status == TSR_OK ? "other bits than without it" : tsr_status_name(status), tsr_last_error());
        if (struck == 0)
            break;
        refused += status != TSR_OK;
    }
    print_message("%s, from opening it: %lld failures of a %s\n", id, (long long)refused, k->name);
    assert_true(refused > (k->asks_driver ? 1 : 100));
}

static void test_whole_training(void **state)
{
    (void)state;
    if (!device_wanted("cpu:0"))
        return;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        lives_in_turn("cpu:0", &kinds[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_training),
        cmocka_unit_test(test_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
