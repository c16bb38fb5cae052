/* Memory reserved from the driver stays near what tensors needed at most, although the batch varies from step to step, and steps of one shape ask the
 * driver for nothing after the first ones. Networks of real sizes on a device that takes every call and does nothing, so that only the allocator
 * works; and a cheap one on every device. */
#include "tests/op_reference.h"

#include "memory/allocator.h"
#include "tensor/device.h"

#define MIB ((uint64_t)1 << 20)

/* ---- a device that does nothing ---- */

extern const hal_backend null_backend;

static tsr_status dry_enumerate(uint32_t *count, char *why, size_t why_size)
{
    (void)why, (void)why_size;
    *count = 1;
    return TSR_OK;
}

static tsr_status dry_info(uint32_t index, hal_device_info *info)
{
    const tsr_status status = null_backend.info(index, info);
    info->device_class = HAL_CLASS_GPU;
    info->code = HAL_CODE_SOURCE;
    info->memory_bytes = info->max_buffer_bytes = info->max_binding_bytes = UINT64_C(1) << 40;
    return status;
}

static tsr_status dry_open(uint32_t index, hal_device **opened)
{
    const tsr_status status = null_backend.open(index, opened);
    return status == TSR_OK ? dry_info(index, &(*opened)->info) : status;
}

/* Device memory has no bytes: nobody writes there. */
static tsr_status dry_buffer_alloc(hal_device *device, hal_memory memory, size_t size, hal_buffer **allocated)
{
    return null_backend.buffer_alloc(device, memory, memory == HAL_MEMORY_HOST ? size : 16, allocated);
}

static tsr_status dry_write(hal_queue *queue, hal_buffer *buffer, size_t offset, const void *source, size_t size)
{
    (void)queue, (void)buffer, (void)offset, (void)source, (void)size;
    return TSR_OK;
}

static tsr_status dry_copy(hal_queue *queue, hal_buffer *from, size_t from_offset, hal_buffer *to, size_t to_offset,
                           size_t size)
{
    (void)queue, (void)from, (void)from_offset, (void)to, (void)to_offset, (void)size;
    return TSR_OK;
}

static tsr_status dry_fill(hal_queue *queue, hal_buffer *buffer, size_t offset, size_t size, uint32_t pattern)
{
    (void)queue, (void)buffer, (void)offset, (void)size, (void)pattern;
    return TSR_OK;
}

static tsr_status dry_launch(hal_queue *queue, const hal_launch *launch)
{
    (void)queue, (void)launch;
    return TSR_OK;
}

static hal_backend dry_backend;

static tsr_device *dry_open_device(void)
{
    dry_backend = null_backend;
    dry_backend.name = "dry";
    dry_backend.enumerate = dry_enumerate;
    dry_backend.info = dry_info;
    dry_backend.open = dry_open;
    dry_backend.buffer_alloc = dry_buffer_alloc;
    dry_backend.write = dry_write;
    dry_backend.copy = dry_copy;
    dry_backend.fill = dry_fill;
    dry_backend.launch = dry_launch;
    tsr_device *d = calloc(1, sizeof *d);
    assert_non_null(d);
    atomic_init(&d->references, 1 << 30); /* dry_close_device frees it */
    mutex_init(&d->lock);
    mutex_init(&d->generator_lock);
    snprintf(d->id, sizeof d->id, "dry:0");
    assert_int_equal(hal_device_open(&dry_backend, 0, &d->hal), TSR_OK);
    assert_int_equal(hal_queue_create(d->hal, HAL_QUEUE_COMPUTE, &d->queue), TSR_OK);
    assert_int_equal(allocator_create(d->hal, HAL_MEMORY_DEVICE, &d->memory), TSR_OK);
    assert_int_equal(allocator_create(d->hal, HAL_MEMORY_HOST, &d->pinned), TSR_OK);
    assert_int_equal(hal_buffer_alloc(d->hal, HAL_MEMORY_DEVICE, 16, &d->generator), TSR_OK);
    return d;
}

static void dry_close_device(tsr_device *d)
{
    if (d->kernels != NULL)
        d->kernels_free(d->kernels);
    hal_buffer_free(d->generator);
    allocator_destroy(d->memory);
    allocator_destroy(d->pinned);
    hal_queue_destroy(d->queue);
    assert_int_equal(hal_device_close(d->hal), TSR_OK);
    mutex_destroy(&d->lock);
    mutex_destroy(&d->generator_lock);
    free(d);
}

/* ---- networks ---- */

typedef struct network {
    const char *name;
    tsr_module *(*create)(tsr_device *d);
    int most;              /* the largest batch */
    int64_t side, context; /* of images [n, 3, side, side]; or the longest sequence of tokens */
    tsr_dtype dtype;
    bool checkpoint;
    bool sgd;
} network;

enum { VOCABULARY = 50257, CLASSES = 10 };

static tsr_module *gpt2(tsr_device *d)
{
    return tsr_gpt_create(
        d, &(tsr_gpt_options){
               .vocabulary = VOCABULARY, .context = 1024, .width = 768, .layers = 4, .heads = 12, .dropout = 0.1});
}

static tsr_module *gpt_small(tsr_device *d)
{
    return tsr_gpt_create(
        d, &(tsr_gpt_options){
               .vocabulary = VOCABULARY, .context = 256, .width = 384, .layers = 6, .heads = 6, .dropout = 0.1});
}

static tsr_module *stage(tsr_device *d, int64_t in, int64_t out, int64_t stride)
{
    const tsr_conv2d_options first = {.stride = {stride, stride}, .padding = {1, 1}}, same = {.padding = {1, 1}};
    return TSR_SEQUENTIAL(tsr_conv2d_create(d, in, out, 3, 3, &first, false), tsr_batch_norm2d_create(d, out, 0, 0),
                          tsr_relu_create(), tsr_conv2d_create(d, out, out, 3, 3, &same, false),
                          tsr_batch_norm2d_create(d, out, 0, 0), tsr_relu_create());
}

/* As large as ResNet-18, without its shortcuts. */
static tsr_module *convolutions(tsr_device *d)
{
    const tsr_pool2d_options all = {.kernel = {7, 7}};
    return TSR_SEQUENTIAL(
        tsr_conv2d_create(d, 3, 64, 7, 7, &(tsr_conv2d_options){.stride = {4, 4}, .padding = {3, 3}}, false),
        tsr_batch_norm2d_create(d, 64, 0, 0), tsr_relu_create(), stage(d, 64, 64, 1), stage(d, 64, 64, 1),
        stage(d, 64, 128, 2), stage(d, 128, 128, 1), stage(d, 128, 256, 2), stage(d, 256, 256, 1),
        stage(d, 256, 512, 2), stage(d, 512, 512, 1), tsr_avg_pool2d_create(&all), tsr_flatten_create(1),
        tsr_linear_create(d, 512, CLASSES, true));
}

/* The one of `tessera train mnist`, on three channels. */
static tsr_module *small_convolutions(tsr_device *d)
{
    const tsr_pool2d_options half = {.kernel = {2, 2}};
    return TSR_SEQUENTIAL(tsr_conv2d_create(d, 3, 16, 3, 3, NULL, true), tsr_relu_create(),
                          tsr_max_pool2d_create(&half), tsr_conv2d_create(d, 16, 32, 3, 3, NULL, true),
                          tsr_relu_create(), tsr_max_pool2d_create(&half), tsr_flatten_create(1),
                          tsr_linear_create(d, 800, CLASSES, true));
}

/* Much memory for little work. */
static tsr_module *pointwise(tsr_device *d)
{
    const tsr_pool2d_options quarter = {.kernel = {4, 4}};
    return TSR_SEQUENTIAL(tsr_batch_norm2d_create(d, 3, 0, 0), tsr_silu_create(), tsr_dropout_create(0.1),
                          tsr_tanh_create(), tsr_gelu_create(), tsr_sigmoid_create(), tsr_avg_pool2d_create(&quarter),
                          tsr_flatten_create(1), tsr_linear_create(d, 3 * 32 * 32, CLASSES, true));
}

static const network networks[] = {
    {"GPT-2, 4 blocks", gpt2, 8, 0, 1024, TSR_F32, false, false},
    {"GPT-2, 4 blocks, bf16, checkpointed", gpt2, 8, 0, 1024, TSR_BF16, true, false},
    {"small GPT, f16", gpt_small, 16, 0, 256, TSR_F16, false, false},
    {"convolutions", convolutions, 64, 224, 0, TSR_F32, false, true},
    {"convolutions, f16", convolutions, 64, 224, 0, TSR_F16, false, false},
    {"convolutions, few samples", convolutions, 4, 224, 0, TSR_F32, false, true},
    {"small convolutions", small_convolutions, 64, 28, 0, TSR_F32, false, false},
    {"small convolutions, large batches", small_convolutions, 2048, 28, 0, TSR_F32, false, false},
};

typedef struct training {
    const network *n;
    tsr_device *device;
    tsr_module *model;
    tsr_optimizer *optimizer;
} training;

static void begin(const run *r, training *t, const network *n, tsr_device *device)
{
    *t = (training){.n = n, .device = device, .model = n->create(device)};
    require(r, t->model);
    if (n->checkpoint)
        require_ok(r, tsr_gpt_checkpoint(t->model, NULL));
    t->optimizer = n->sgd ? tsr_sgd_for(t->model, &(tsr_sgd_options){.lr = 0.01, .momentum = 0.9})
                          : tsr_adam_for(t->model, &(tsr_adam_options){.lr = 1e-3});
    require(r, t->optimizer);
}

static void end(training *t)
{
    tsr_optimizer_destroy(t->optimizer);
    tsr_module_destroy(t->model);
}

static void step(const run *r, const training *t, int64_t batch, int64_t length)
{
    const network *n = t->n;
    tsr_tensor *x, *y, *logits;
    require_ok(r, tsr_scope_begin());
    if (n->context > 0) {
        x = tsr_zeros(t->device, TSR_I64, 2, (int64_t[]){batch, length});
        y = tsr_zeros(t->device, TSR_I64, 1, (int64_t[]){batch * length});
    } else {
        x = tsr_zeros(t->device, TSR_F32, 4, (int64_t[]){batch, 3, n->side, n->side});
        y = tsr_zeros(t->device, TSR_I64, 1, &batch);
    }
    require_ok(r, tsr_autocast_begin(n->dtype));
    logits = tsr_forward(t->model, x);
    if (n->context > 0)
        logits = tsr_reshape(logits, 2, (int64_t[]){batch * length, -1});
    tsr_tensor *loss = tsr_cross_entropy(logits, y);
    tsr_autocast_end();
    require(r, loss);
    require_ok(r, tsr_backward(loss));
    require(r, tsr_optimizer_clip_grad_norm(t->optimizer, 1, 2));
    require_ok(r, tsr_optimizer_step(t->optimizer));
    tsr_optimizer_clear_grad(t->optimizer);
    require_ok(r, tsr_scope_end());
}

static tsr_memory_statistics now(const run *r, const training *t)
{
    tsr_memory_statistics s;
    require_ok(r, tsr_memory_stats(t->device, &s));
    return s;
}

/* A quarter more than tensors had at most, or 32 MiB where they had less than 256. */
static uint64_t most_reserved(const tsr_memory_statistics *s)
{
    const uint64_t peak = s->peak_allocated_bytes;
    return peak < 256 * MIB ? peak + 32 * MIB : peak + peak / 4;
}

static void vary(const run *r, const training *t, int steps, uint32_t seed)
{
    const network *n = t->n;
    uint32_t random = seed;
    uint64_t calls = 0;
    double worst = 0;
    const uint64_t before = now(r, t).driver_allocations;
    for (int i = 0; i < steps; i++) {
        const int64_t batch = 1 + random_next(&random) % (uint32_t)n->most;
        const int64_t length = n->context == 0 ? 0 : n->context / 4 * (1 + random_next(&random) % 4);
        step(r, t, batch, length);
        const tsr_memory_statistics s = now(r, t);
        if (i == steps / 2)
            calls = s.driver_allocations;
        worst = fmax(worst, (double)s.reserved_bytes / (double)most_reserved(&s));
    }
    const tsr_memory_statistics s = now(r, t);
    print_message(
        "%s, %s, seed %u: peak %.1f MiB, reserved between steps at most %.3f of the bound, ever %.1f MiB (%.3f of "
        "the peak), %llu driver allocations, %llu of them in the second half\n",
        r->name, n->name, seed, (double)s.peak_allocated_bytes / MIB, worst, (double)s.peak_reserved_bytes / MIB,
        (double)s.peak_reserved_bytes / (double)s.peak_allocated_bytes,
        (unsigned long long)(s.driver_allocations - before), (unsigned long long)(s.driver_allocations - calls));
    assert_true(worst <= 1);
}

static void keep(const run *r, const training *t)
{
    enum { WARM_UP = 3, STEPS = 8 };
    const network *n = t->n;
    uint64_t calls = 0;
    const uint64_t before = now(r, t).driver_allocations;
    for (int i = 0; i < STEPS; i++) {
        if (i == WARM_UP)
            calls = now(r, t).driver_allocations;
        step(r, t, n->most, n->context);
    }
    const tsr_memory_statistics s = now(r, t);
    print_message("%s, %s: peak %.1f MiB, reserved at most %.1f (%.3f), %llu driver allocations\n", r->name, n->name,
                  (double)s.peak_allocated_bytes / MIB, (double)s.peak_reserved_bytes / MIB,
                  (double)s.peak_reserved_bytes / (double)s.peak_allocated_bytes,
                  (unsigned long long)(s.driver_allocations - before));
    assert_int_equal(s.driver_allocations, calls);
    assert_in_range(s.peak_reserved_bytes, s.peak_allocated_bytes, most_reserved(&s));
}

static void test_real_sizes(void **state)
{
    (void)state;
    const run r = {.name = "no device"};
    for (size_t i = 0; i < sizeof networks / sizeof *networks; i++) {
        training t;
        tsr_device *d = dry_open_device();
        begin(&r, &t, &networks[i], d);
        for (uint32_t seed = 0; seed < 4; seed++) {
            require_ok(&r, tsr_memory_trim(d));
            require_ok(&r, tsr_memory_reset_peaks(d));
            if (seed == 0)
                keep(&r, &t);
            else
                vary(&r, &t, 40, seed);
        }
        end(&t);
        dry_close_device(d);
    }
}

static void cheap_on(const run *r)
{
    static const network cheap = {"pointwise layers", pointwise, 32, 128, 0, TSR_F32, false, true};
    training t;
    begin(r, &t, &cheap, r->device);
    vary(r, &t, 20, 1);
    require_ok(r, tsr_memory_trim(r->device));
    keep(r, &t);
    end(&t);
}

static void test_devices(void **state)
{
    (void)state;
    on_every_device(cheap_on);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_real_sizes),
        cmocka_unit_test(test_devices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
