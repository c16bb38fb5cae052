/* Every kernel of the catalogue once at least, in every dtype and both variants, through the operators that launch it, on tensors of a
 * few elements. What is computed is other tests' business: this is what simulators and validation layers look at, to which
 * a large tensor tells no more than a small one, later. A kernel that no operator here reaches is a failure: whoever adds one
 * adds a line. */
#include "every_kernel.h"

#include "backends/vulkan/vulkan_backend.h"
#include "dispatch/catalogue.h"
#include "dispatch/launch.h"
#include "tensor/device.h"

/* ---- which were launched ------------------------------------------------------------------------------------------- */

enum { MAX_KERNELS = 4096 };

static struct {
    const hal_backend *backend; /* the real one */
    const char *variant;
    hal_backend own;
    hal_kernel *carrier; /* for Oclgrind */
    hal_kernel *kernels[MAX_KERNELS];
    const char *keys[MAX_KERNELS]; /* of the kernels; the catalogue's text */
    size_t kernel_count;
    bool launched[MAX_KERNELS]; /* by place in the catalogue */
} recorder;

static tsr_status create(hal_device *device, const hal_kernel_desc *desc, hal_kernel **kernel)
{
    const tsr_status status = recorder.backend->kernel_create(device, desc, kernel);
    if (status == TSR_OK && recorder.kernel_count < MAX_KERNELS) {
        recorder.kernels[recorder.kernel_count] = *kernel;
        recorder.keys[recorder.kernel_count++] = desc->key;
    }
    return status;
}

static void note(const char *key, const char *variant)
{
    for (size_t i = 0; i < kernel_catalogue_count; i++)
        if (strcmp(kernel_catalogue[i].key, key) == 0 && strcmp(kernel_catalogue[i].variant, variant) == 0)
            recorder.launched[i] = true;
}

static tsr_status launch(hal_queue *queue, const hal_launch *what)
{
    for (size_t i = 0; i < recorder.kernel_count; i++)
        if (recorder.kernels[i] == what->kernel && recorder.keys[i] != NULL) {
            note(recorder.keys[i], recorder.variant);
            recorder.keys[i] = NULL; /* once is enough */
        }
    return recorder.backend->launch(queue, what);
}

/* Oclgrind 21.10 does not see that clEnqueueFillBuffer initialises memory, nor that a write or copy does that ends behind a
 * buffer's beginning, and then blames the kernel that reads there. So everything is brought to its place by a kernel, from the
 * beginning of a buffer of its own. */
static tsr_status bring(hal_queue *queue, hal_buffer *from, hal_buffer *to, size_t offset, size_t size)
{
    const uint32_t n = (uint32_t)size, params[] = {n, n, 0, 1, 0, 1};
    const hal_binding bindings[] = {{.buffer = from, .length = size}, {.buffer = to, .offset = offset, .length = size}};
    const tsr_status status = recorder.backend->launch(queue, &(hal_launch){.kernel = recorder.carrier,
                                                                            .grid = {1, 1, 1},
                                                                            .bindings = bindings,
                                                                            .binding_count = 2,
                                                                            .params = params,
                                                                            .params_bytes = sizeof params});
    recorder.backend->buffer_free(from);
    return status;
}

static tsr_status make_parcel(hal_queue *queue, size_t size, hal_buffer **parcel)
{
    const tsr_status status = recorder.backend->buffer_alloc(queue->device, HAL_MEMORY_DEVICE, size, parcel);
    if (status == TSR_OK) { /* as the front does */
        (*parcel)->device = queue->device;
        (*parcel)->size = size;
    }
    return status;
}

static tsr_status write_by_kernel(hal_queue *queue, hal_buffer *to, size_t offset, const void *source, size_t size)
{
    hal_buffer *parcel;
    tsr_status status = make_parcel(queue, size, &parcel);
    if (status == TSR_OK)
        status = recorder.backend->write(queue, parcel, 0, source, size);
    return status == TSR_OK ? bring(queue, parcel, to, offset, size) : status;
}

static tsr_status fill_by_kernel(hal_queue *queue, hal_buffer *to, size_t offset, size_t size, uint32_t pattern)
{
    uint32_t words[1024];
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        words[i] = pattern;
    tsr_status status = TSR_OK;
    for (size_t done = 0; done < size && status == TSR_OK; done += sizeof words)
        status =
            write_by_kernel(queue, to, offset + done, words, size - done < sizeof words ? size - done : sizeof words);
    return status;
}

static tsr_status copy_by_kernel(hal_queue *queue, hal_buffer *from, size_t from_offset, hal_buffer *to,
                                 size_t to_offset, size_t size)
{
    hal_buffer *parcel;
    if (to->memory == HAL_MEMORY_HOST)
        return recorder.backend->copy(queue, from, from_offset, to, to_offset, size);
    tsr_status status = make_parcel(queue, size, &parcel);
    if (status == TSR_OK)
        status = recorder.backend->copy(queue, from, from_offset, parcel, 0, size);
    return status == TSR_OK ? bring(queue, parcel, to, to_offset, size) : status;
}

static bool carry_all(hal_device *device)
{
    hal_kernel_desc desc;
    recorder.own.write = write_by_kernel;
    recorder.own.fill = fill_by_kernel;
    recorder.own.copy = copy_by_kernel;
    return catalogue_describe(catalogue_find("selftest_copy/u8", HAL_CLASS_GPU), &device->info, &desc) == TSR_OK &&
           hal_kernel_create(device, &desc, &recorder.carrier) == TSR_OK;
}

static void record_launches(hal_device *device, const char *variant)
{
    memset(&recorder, 0, sizeof recorder);
    recorder.variant = variant;
    recorder.backend = device->backend;
    recorder.own = *device->backend;
    recorder.own.kernel_create = create;
    recorder.own.launch = launch;
    if (strstr(device->info.driver, "Oclgrind") != NULL)
        assert_true(carry_all(device));
    device->backend = &recorder.own;
}

/* Those of the tests, which test_hal_conformance and test_kernel_devices launch. */
static bool is_a_tests_own(const char *key)
{
    return strncmp(key, "selftest_", 9) == 0;
}

/* What no call of the library launches; the catalogue has it because the directives of a file hold for all its kernels. */
static bool is_out_of_reach(const kernel_entry *e)
{
    static const struct {
        const char *prefix, *variant;
    } rows[] = {
        {"binary_grad_0/add/", NULL}, /* derivatives that are the gradient itself */
        {"binary_grad_1/add/", NULL},
        {"binary_grad_0/sub/", NULL},
        {"bits/bitwise_left_shift/bool", NULL}, /* refused, as in PyTorch */
        {"bits/bitwise_right_shift/bool", NULL},
        {"adam/f64", NULL}, /* optimizers take f32 */
        {"sgd/f64", NULL},
        {"sgd_plain/f64", NULL},
        {"optimizer_tick/f64", NULL},
        {"rmsprop/f64", NULL},
        {"adagrad/f64", NULL},
        {"lion/f64", NULL},
        {"lamb_moments/f64", NULL},
        {"lamb_ratio/f64", NULL},
        {"lamb_apply/f64", NULL},
        {"attention/f32/f64", NULL}, /* a mask of numbers has the dtype that attention computes in */
        {"attention/f64/f32", NULL},
        {"attention_grad/f32/f64", NULL},
        {"attention_grad/f64/f32", NULL},
        {"put_rows/u8", NULL},  /* bytes are put by lines: they have no gradients, and do not add up */
        {"bias_spread/", NULL}, /* before a vendor's product: cpu:0, cuda */
        {"im2col/", "cpu"},     /* processors convolve without it, and 16-bit numbers in f32 */
        {"col2im/f16", "cpu"},
        {"col2im/bf16", "cpu"},
        {"sum_parts/f16", "cpu"},
        {"sum_parts/bf16", "cpu"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (strncmp(e->key, rows[i].prefix, strlen(rows[i].prefix)) == 0 &&
            (rows[i].variant == NULL || strcmp(e->variant, rows[i].variant) == 0))
            return true;
    /* Losses compute derivatives of 16-bit numbers in f32. */
    static const char *const losses[] = {"/mse/", "/l1/", "/smooth_l1/", "/huber/", "/bce_with_logits/", "/kl_div/"};
    for (size_t i = 0; i < sizeof losses / sizeof losses[0]; i++)
        if (strncmp(e->key, "binary_grad_", 12) == 0 && strstr(e->key, losses[i]) != NULL &&
            strstr(e->key, "f16") != NULL)
            return true;
    return false;
}

/* $TEST_DTYPES (a list, separated by commas) names the dtypes to test, and $TEST_VARIANT the kernels' variant; without them all are. */
static uint32_t dtypes_wanted(uint32_t all)
{
    const char *list = getenv("TEST_DTYPES");
    uint32_t wanted = 0;
    for (const char *at = list; at != NULL && *at != '\0'; at += strspn(at, ",")) {
        char name[8] = "";
        tsr_dtype dtype;
        const size_t length = strcspn(at, ",");
        snprintf(name, sizeof name, "%.*s", (int)length, at);
        if (!tsr_dtype_parse(name, &dtype))
            fail_msg("TEST_DTYPES: there is no dtype '%s'", name);
        wanted |= 1u << dtype;
        at += length;
    }
    return list != NULL ? all & wanted : all;
}

/* Whether all dtypes in the key "copy_rows/f32/bool" are tested. */
static bool is_of(const char *key, uint32_t dtypes)
{
    for (const char *at = strchr(key, '/'); at != NULL; at = strchr(at, '/')) {
        char name[32] = "";
        tsr_dtype dtype;
        at++;
        snprintf(name, sizeof name, "%.*s", (int)strcspn(at, "/"), at);
        if (tsr_dtype_parse(name, &dtype) && (dtypes >> dtype & 1) == 0)
            return false;
    }
    return true;
}

static size_t count_missing(const hal_device *device, uint32_t dtypes)
{
    size_t missing = 0;
    for (size_t i = 0; i < kernel_catalogue_count; i++) {
        const kernel_entry *e = &kernel_catalogue[i];
        hal_kernel_desc desc;
        if (strcmp(e->variant, recorder.variant) != 0 || is_a_tests_own(e->key) || is_out_of_reach(e) ||
            !is_of(e->key, dtypes) || catalogue_describe(e, &device->info, &desc) != TSR_OK || recorder.launched[i])
            continue;
        print_error("%s (%s) was not launched\n", e->key, e->variant);
        missing++;
    }
    return missing;
}

/* ---- the devices ---------------------------------------------------------------------------------------------------- */

static void run_all(const run *whole)
{
    run part = *whole;
    const run *r = &part;
    part.dtypes = dtypes_wanted(whole->dtypes);
    hal_device *device = r->device->hal;
    if (strcmp(getenv("TESSERA_PRODUCT"), "generic") != 0)
        return; /* a vendor's library takes the products */
    const char *variant = device_variant(r->device) == HAL_CLASS_CPU ? "cpu" : "gpu", *wanted = getenv("TEST_VARIANT");
    if (wanted != NULL && strcmp(wanted, variant) != 0)
        return;
    record_launches(device, variant);
    every_elementwise(r);
    every_copy(r);
    every_reduction(r);
    every_row(r);
    every_index(r);
    every_product(r);
    every_image(r);
    every_random(r);
    every_optimizer(r);
    require_ok(r, tsr_device_sync(r->device));
    const size_t missing = count_missing(device, r->dtypes);
    size_t launched = 0;
    for (size_t i = 0; i < kernel_catalogue_count; i++)
        launched += recorder.launched[i];
    print_message("%s: %zu kernels\n", r->name, launched);
    device->backend = recorder.backend;
    if (recorder.carrier != NULL)
        hal_kernel_destroy(recorder.carrier);
    if (missing > 0)
        fail_msg("%s: %zu kernels were not launched", r->name, missing);
}

static void every_kernel_runs(void **state)
{
    (void)state;
    on_every_device(run_all);
}

/* ---- that they look ---------------------------------------------------------------------------------------------------- */

#define OK(call)                                                                                                       \
    if ((call) != TSR_OK) {                                                                                            \
        print_error("%s: %s\n", #call, tsr_last_error());                                                              \
        return 1;                                                                                                      \
    }

/* A copy in place, one element further, by many work-items; beyond the buffer; of what nobody wrote. */
static int wrong_kernel(hal_device *device, hal_queue *queue)
{
    enum { COUNT = 16 };
    const uint32_t params[] = {COUNT, COUNT, 0, 1, 0, 1};
    hal_binding bindings[2] = {{.length = 4 * (COUNT / 2)}, {.offset = 4, .length = 4 * (COUNT / 2 - 1)}};
    hal_kernel_desc desc;
    hal_kernel *kernel;
    OK(catalogue_describe(catalogue_find("selftest_copy/i32", HAL_CLASS_GPU), &device->info, &desc));
    OK(hal_kernel_create(device, &desc, &kernel));
    OK(hal_buffer_alloc(device, HAL_MEMORY_DEVICE, 4 * (COUNT / 2), &bindings[0].buffer));
    bindings[1].buffer = bindings[0].buffer;
    OK(hal_kernel_launch(queue, &(hal_launch){.kernel = kernel,
                                              .grid = {1, 1, 1},
                                              .bindings = bindings,
                                              .binding_count = 2,
                                              .params = params,
                                              .params_bytes = sizeof params}));
    OK(hal_queue_sync(queue));
    hal_buffer_free(bindings[0].buffer);
    hal_kernel_destroy(kernel);
    return 0;
}

/* Two fills of the same bytes without a barrier. */
static int wrong_order(hal_device *device, hal_queue *queue)
{
    hal_buffer *buffer;
    OK(hal_buffer_alloc(device, HAL_MEMORY_DEVICE, 64, &buffer));
    OK(hal_buffer_fill(queue, buffer, 0, 64, 1));
    hazard_clear(&((vulkan_queue *)queue)->hazards);
    OK(hal_buffer_fill(queue, buffer, 0, 64, 2));
    OK(hal_queue_sync(queue));
    hal_buffer_free(buffer);
    return 0;
}

/* What no test may do, on the device of TEST_DEVICES, so that whoever runs this knows that it would be seen. */
static int commit_a_fault(void)
{
    extern const hal_backend opencl_backend, vulkan_backend;
    const char *wanted = getenv("TEST_DEVICES");
    const bool vulkan = wanted != NULL && strcmp(wanted, "vulkan:0") == 0;
    hal_device *device;
    hal_queue *queue;
    if (hal_device_open(vulkan ? &vulkan_backend : &opencl_backend, 0, &device) != TSR_OK)
        return 77;
    OK(hal_queue_create(device, HAL_QUEUE_COMPUTE, &queue));
    const int status = vulkan ? wrong_order(device, queue) : wrong_kernel(device, queue);
    hal_queue_destroy(queue);
    OK(hal_device_close(device));
    return status;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "fault") == 0)
        return commit_a_fault();
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_kernel_runs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
