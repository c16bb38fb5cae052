/* The order of what the Vulkan backend emits, end to end: a workload with all its kinds of commands runs under order_layer.c, and is
 * clean; then again for each of its barriers with that one left out, which must be found every time. No result would show it:
 * software drivers run one command after the other. */
#include "unit.h"

#include "backends/vulkan/vulkan_backend.h"
#include "base/compiler.h"
#include "base/file.h"
#include "dispatch/catalogue.h"
#include "order_layer.h"
#include "tessera/tessera.h"

#include <dlfcn.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

extern const hal_backend vulkan_backend;
extern char **environ;

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        const tsr_status ok_ = (call);                                                                                 \
        if (ok_ != TSR_OK)                                                                                             \
            fail_msg("%s: %s: %s", #call, tsr_status_name(ok_), tsr_last_error());                                     \
    } while (0)

static order_begin_fn *begin_counting;
static order_end_fn *end_counting;
static order_knows_fn *knows;

/* ---- the backend alone --------------------------------------------------------------------------------------------- */

static hal_device *device;
static hal_queue *queue;
static hal_kernel *step_kernel, *copy_kernel;

static hal_kernel *kernel_of(const char *key)
{
    const kernel_entry *entry = catalogue_find(key, device->info.device_class);
    hal_kernel_desc desc;
    hal_kernel *kernel;
    assert_non_null(entry);
    OK(catalogue_describe(entry, &device->info, &desc));
    OK(hal_kernel_create(device, &desc, &kernel));
    return kernel;
}

static hal_buffer *buffer_of(hal_memory memory, size_t size)
{
    hal_buffer *b;
    OK(hal_buffer_alloc(device, memory, size, &b));
    return b;
}

/* y = 3 y + k modulo 65536 on n words from the byte `offset` on. */
static void step(hal_queue *on, hal_buffer *y, size_t offset, uint32_t n, uint32_t k)
{
    const uint32_t params[] = {n, n, k};
    const hal_binding binding = {.buffer = y, .offset = offset, .length = (size_t)n * 4};
    OK(hal_kernel_launch(on, &(hal_launch){.kernel = step_kernel,
                                           .grid = {1, 1, 1},
                                           .bindings = &binding,
                                           .binding_count = 1,
                                           .params = params,
                                           .params_bytes = sizeof params}));
}

static void kernel_copy(hal_buffer *x, size_t x_offset, hal_buffer *y, size_t y_offset, uint32_t n)
{
    const uint32_t params[] = {n, n, 0, 1, 0, 1};
    const hal_binding bindings[] = {{.buffer = x, .offset = x_offset, .length = n},
                                    {.buffer = y, .offset = y_offset, .length = n}};
    OK(hal_kernel_launch(queue, &(hal_launch){.kernel = copy_kernel,
                                              .grid = {1, 1, 1},
                                              .bindings = bindings,
                                              .binding_count = 2,
                                              .params = params,
                                              .params_bytes = sizeof params}));
}

static uint32_t stepped(uint32_t y, uint32_t k)
{
    return (3 * y + k) & 65535;
}

/* In place on one buffer, all the ways in which memory is written and read, each after each. */
static void on_one_queue(void)
{
    enum { WORDS = 256, BYTES = 4 * WORDS, LARGE = 20000 };
    static unsigned char bytes[LARGE], back[LARGE];
    hal_buffer *a = buffer_of(HAL_MEMORY_DEVICE, BYTES), *b = buffer_of(HAL_MEMORY_DEVICE, BYTES);
    hal_buffer *large = buffer_of(HAL_MEMORY_DEVICE, LARGE), *host = buffer_of(HAL_MEMORY_HOST, LARGE);

    OK(hal_buffer_fill(queue, a, 0, BYTES, 1));
    uint32_t expected = 1;
    for (uint32_t k = 0; k < 4; k++) {
        step(queue, a, 0, WORDS, k);
        expected = stepped(expected, k);
    }
    kernel_copy(a, 4, b, 4, BYTES - 4);          /* read after write */
    step(queue, a, 0, WORDS, 9);                 /* write after read */
    OK(hal_buffer_copy(queue, a, 0, b, 0, 64));  /* both */
    OK(hal_buffer_write(queue, b, 0, bytes, 8)); /* write after write, in the command buffer */
    kernel_copy(b, 1, a, 3, 501);                /* at odd places */
    OK(hal_buffer_fill(queue, b, 0, 16, 2));
    OK(hal_queue_flush(queue)); /* a submit does not order by itself */
    step(queue, b, 0, 4, 3);
    uint32_t word;
    OK(hal_buffer_read(queue, b, 64, &word, sizeof word));
    assert_int_equal(word, expected);

    for (size_t i = 0; i < LARGE; i++)
        bytes[i] = (unsigned char)(i * 7 + 1);
    OK(hal_buffer_write(queue, large, 0, bytes, LARGE)); /* through the staging ring */
    OK(hal_buffer_write(queue, large, 4, bytes, LARGE - 4));
    OK(hal_buffer_copy(queue, large, 0, host, 0, LARGE));
    OK(hal_queue_sync(queue));
    memcpy(back, hal_buffer_map(host), LARGE);
    assert_memory_equal(back + 4, bytes, LARGE - 4);
    ((unsigned char *)hal_buffer_map(host))[0] = 99;
    OK(hal_buffer_copy(queue, host, 0, large, 0, LARGE));
    OK(hal_buffer_read(queue, large, 0, back, 1));
    assert_int_equal(back[0], 99);
    hal_buffer_free(a); /* what is freed while it is used lives on */
    hal_buffer_free(b);
    hal_buffer_free(large);
    hal_buffer_free(host);
}

/* Each queue does its part once: what a semaphore orders already needs no barrier. */
static void on_three_queues(void)
{
    enum { WORDS = 64 };
    hal_queue *second, *copier;
    hal_event *first_done, *second_done;
    OK(hal_queue_create(device, HAL_QUEUE_COMPUTE, &second));
    OK(hal_queue_create(device, HAL_QUEUE_COPY, &copier));
    OK(hal_event_create(device, &first_done));
    OK(hal_event_create(device, &second_done));
    hal_buffer *a = buffer_of(HAL_MEMORY_DEVICE, 4 * WORDS), *b = buffer_of(HAL_MEMORY_DEVICE, 4 * WORDS);
    OK(hal_buffer_fill(queue, a, 0, 4 * WORDS, 5));
    step(queue, a, 0, WORDS, 1);
    OK(hal_event_record(queue, first_done));
    OK(hal_queue_wait(second, first_done));
    step(second, a, 0, WORDS, 2);
    step(second, a, 0, WORDS, 3);
    OK(hal_event_record(second, second_done));
    OK(hal_queue_wait(copier, second_done));
    OK(hal_buffer_copy(copier, a, 0, b, 0, 4 * WORDS));
    OK(hal_buffer_copy(copier, b, 0, b, 2 * WORDS, 2 * WORDS));
    uint32_t word;
    OK(hal_buffer_read(copier, b, 4 * WORDS - 4, &word, sizeof word));
    assert_int_equal(word, stepped(stepped(stepped(5, 1), 2), 3));
    hal_event_destroy(first_done);
    hal_event_destroy(second_done);
    hal_buffer_free(a);
    hal_buffer_free(b);
    hal_queue_destroy(second);
    hal_queue_destroy(copier);
}

static void use_backend(void)
{
    OK(hal_device_open(&vulkan_backend, 0, &device));
    OK(hal_queue_create(device, HAL_QUEUE_COMPUTE, &queue));
    step_kernel = kernel_of("selftest_step/i32");
    copy_kernel = kernel_of("selftest_copy/u8");
    on_one_queue();
    on_three_queues();
    hal_kernel_destroy(step_kernel);
    hal_kernel_destroy(copy_kernel);
    hal_queue_destroy(queue);
    OK(hal_device_close(device));
}

static void use_backend_with_sets(void)
{
    vulkan_forbid_push_descriptors(true);
    use_backend();
    vulkan_forbid_push_descriptors(false);
}

/* ---- a training --------------------------------------------------------------------------------------------------- */

#define MADE(call)                                                                                                     \
    do {                                                                                                               \
        if ((call) == NULL)                                                                                            \
            fail_msg("%s: %s", #call, tsr_last_error());                                                               \
    } while (0)

/* Two steps of a small network: products, convolution, normalisation, a loss, gradients that are added up, parameters
 * changed in place. */
static void train(void)
{
    enum { BATCH = 4, SIDE = 6, CLASSES = 3, STEPS = 2 };
    float pixels[BATCH * SIDE * SIDE];
    const int64_t labels[BATCH] = {0, 2, 1, 1};
    for (int i = 0; i < BATCH * SIDE * SIDE; i++)
        pixels[i] = (float)(i % 7) * 0.25f;
    tsr_device *d = tsr_device_open("vulkan:0");
    MADE(d);
    OK(tsr_seed(d, 11));
    tsr_module *model = TSR_SEQUENTIAL(tsr_conv2d_create(d, 1, 2, 3, 3, NULL, true),
                                       tsr_batch_norm2d_create(d, 2, 0, 0), tsr_relu_create(), tsr_flatten_create(1),
                                       tsr_linear_create(d, 2 * (SIDE - 2) * (SIDE - 2), CLASSES, true));
    MADE(model);
    tsr_optimizer *optimizer = tsr_adam_for(model, &(tsr_adam_options){.lr = 1e-2});
    MADE(optimizer);
    float first = 0, last = 0;
    for (int number = 0; number < STEPS; number++) {
        OK(tsr_scope_begin());
        tsr_tensor *x = tsr_from_data(d, TSR_F32, 4, (int64_t[]){BATCH, 1, SIDE, SIDE}, pixels);
        tsr_tensor *loss =
            tsr_cross_entropy(tsr_forward(model, x), tsr_from_data(d, TSR_I64, 1, (int64_t[]){BATCH}, labels));
        MADE(loss);
        OK(tsr_backward(loss));
        OK(tsr_optimizer_step(optimizer));
        tsr_optimizer_clear_grad(optimizer);
        OK(tsr_read_f32(loss, &last, 1));
        if (number == 0)
            first = last;
        OK(tsr_scope_end());
    }
    assert_true(last < first);
    tsr_optimizer_destroy(optimizer);
    tsr_module_destroy(model);
    tsr_device_close(d);
}

/* ---- with and without its barriers --------------------------------------------------------------------------------- */

static void each_barrier_is_needed(void **state)
{
    void (*const workload)(void) = *(void (*const *)(void)) * state;
    order_report clean, report;
    begin_counting(0);
    workload();
    end_counting(&clean);
    if (clean.findings > 0)
        fail_msg("%llu findings; the first: %s", (unsigned long long)clean.findings, clean.first);
    assert_true(clean.devices > 0 && clean.commands > 10 && clean.barriers > 10);

    uint64_t removed = 0;
    for (bool more = true; more; removed += more) {
        begin_counting(removed + 1);
        workload();
        end_counting(&report);
        more = report.dropped;
        if (more && report.findings == 0)
            fail_msg("barrier %llu of %llu was left out, and nothing was found", (unsigned long long)removed + 1,
                     (unsigned long long)clean.barriers);
    }
    print_message("%llu commands in %llu batches, %llu barriers; each of %llu that were left out was missed\n",
                  (unsigned long long)clean.commands, (unsigned long long)clean.batches,
                  (unsigned long long)clean.barriers, (unsigned long long)removed);
    assert_true(removed > 10);
}

static void all_functions_are_known(void **state)
{
    (void)state;
#define KNOWN(name)                                                                                                    \
    if (!knows(#name))                                                                                                 \
        fail_msg("the backend calls %s, of which order_record.c knows nothing", #name);
    VULKAN_DEVICE_FUNCTIONS(KNOWN)
    KNOWN(vkCmdPushDescriptorSetKHR)
    assert_false(knows("vkCmdDispatchIndirect"));
}

/* As the other tests meet it: the status of the process. */
static int status_with(const char *drop)
{
    char path[PATH_SIZE];
    OK(path_of_executable(path, sizeof path));
    char *arguments[] = {path, (char[]){"workload"}, NULL};
    pid_t child;
    int status = -1;
    setenv("TESSERA_ORDER_DROP", drop, 1);
    assert_int_equal(posix_spawn(&child, path, NULL, NULL, arguments, environ), 0);
    unsetenv("TESSERA_ORDER_DROP");
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void a_finding_ends_the_process(void **state)
{
    (void)state;
    assert_int_equal(status_with("0"), 0);
    assert_int_equal(status_with("2"), ORDER_EXIT_STATUS); /* its message on standard error is wanted */
}

static bool find_layer(void)
{
    void *library = dlopen(ORDER_LIBRARY, RTLD_NOW | RTLD_NOLOAD);
    if (library == NULL)
        return false;
    *(void **)&begin_counting = dlsym(library, "order_begin");
    *(void **)&end_counting = dlsym(library, "order_end");
    *(void **)&knows = dlsym(library, "order_knows");
    return begin_counting != NULL && end_counting != NULL && knows != NULL;
}

int main(int argc, char **argv)
{
    (void)argv;
    setenv("VK_ADD_LAYER_PATH", ORDER_LAYER_DIR, 1);
    setenv("VK_INSTANCE_LAYERS", ORDER_LAYER_NAME, 1);
    uint32_t count = 0;
    char why[512] = "";
    vulkan_backend.enumerate(&count, why, sizeof why);
    if (count == 0) {
        print_message("skipped: %s\n", why);
        return 0;
    }
    if (argc > 1) {
        use_backend();
        return 0;
    }
    if (!find_layer()) {
        print_error("the Vulkan loader did not take the layer in %s\n", ORDER_LAYER_DIR);
        return 1;
    }
    static void (*const workloads[])(void) = {use_backend, use_backend_with_sets, train};
#define WORKLOAD(number, name)                                                                                         \
    {                                                                                                                  \
        "each_barrier_is_needed by " name, each_barrier_is_needed, NULL, NULL, (void *)(uintptr_t)&workloads[number]   \
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_finding_ends_the_process),
        cmocka_unit_test(all_functions_are_known),
        WORKLOAD(0, "the backend"),
        WORKLOAD(1, "the backend without push descriptors"),
        WORKLOAD(2, "a training"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
