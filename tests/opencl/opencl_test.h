/* What the tests of the OpenCL backend share: the first device, and two kernels written in OpenCL C in the form that the
 * dialect's have: what the dialect makes of it is tested elsewhere. */
#ifndef OPENCL_TEST_H
#define OPENCL_TEST_H

#include "unit.h"

#include "base/memory.h"
#include "hal/hal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const hal_backend opencl_backend;

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        const tsr_status status_ = (call);                                                                             \
        if (status_ != TSR_OK)                                                                                         \
            fail_msg("%s: %s: %s", #call, tsr_status_name(status_), tsr_last_error());                                 \
    } while (0)
#define FAILS(status, call) assert_string_equal(tsr_status_name(call), tsr_status_name(status))
#define SAYS(text)                                                                                                     \
    do {                                                                                                               \
        if (strstr(tsr_last_error(), text) == NULL)                                                                    \
            fail_msg("the message lacks \"%s\": %s", text, tsr_last_error());                                          \
    } while (0)

typedef struct fixture {
    hal_device *device;
    hal_queue *queue;
    int64_t live;
} fixture;

static inline uint32_t device_count(void)
{
    char why[512] = "";
    uint32_t count = 0;
    OK(opencl_backend.enumerate(&count, why, sizeof why));
    if (count == 0) {
        printf("SKIP: %s\n", why);
        skip();
    }
    return count;
}

static inline int open_first(void **state)
{
    char why[512] = "";
    uint32_t count = 0;
    fixture *f = calloc(1, sizeof *f);
    *state = f;
    if (opencl_backend.enumerate(&count, why, sizeof why) != TSR_OK)
        return -1;
    f->live = host_live_allocations(); /* the loader stays */
    if (count == 0)
        return 0;
    return hal_device_open(&opencl_backend, 0, &f->device) == TSR_OK &&
                   hal_queue_create(f->device, HAL_QUEUE_COMPUTE, &f->queue) == TSR_OK
               ? 0
               : -1;
}

static inline int close_first(void **state)
{
    fixture *f = *state;
    int result = 0;
    if (f->device != NULL) {
        hal_queue_destroy(f->queue);
        if (hal_device_close(f->device) != TSR_OK || host_live_allocations() != f->live) {
            print_error("left over: %s; %lld allocations\n", tsr_last_error(),
                        (long long)(host_live_allocations() - f->live));
            result = -1;
        }
    }
    free(f);
    return result;
}

static inline fixture *fixture_of(void **state)
{
    fixture *f = *state;
    if (f->device == NULL)
        device_count(); /* skips, with the reason */
    return f;
}

static inline hal_buffer *buffer_of(hal_device *device, hal_memory memory, size_t size)
{
    hal_buffer *buffer = NULL;
    OK(hal_buffer_alloc(device, memory, size, &buffer));
    return buffer;
}

#define ON_FIRST(test) cmocka_unit_test_setup_teardown(test, open_first, close_first)

/* y[i] = a * x[i] + y[i] for i < n, in work-groups of 4. */
static const char saxpy_text[] = "typedef struct { uint n; float a; } saxpy_p;\n"
                                 "__kernel __attribute__((reqd_work_group_size(4, 1, 1))) void saxpy(\n"
                                 "    __global const float *x, ulong x_offset, __global float *y, ulong y_offset,\n"
                                 "    const saxpy_p p)\n"
                                 "{\n"
                                 "    for (uint i = get_global_id(0); i < p.n; i += get_global_size(0))\n"
                                 "        y[y_offset + i] = p.a * x[x_offset + i] + y[y_offset + i];\n"
                                 "}\n";

/* Keeps a device busy for some time: x[0] is the number of turns. */
static const char spin_text[] = "typedef struct { uint turns; } spin_p;\n"
                                "__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void spin(\n"
                                "    __global uint *x, ulong x_offset, const spin_p p)\n"
                                "{\n"
                                "    uint s = x[x_offset];\n"
                                "    for (uint i = 0; i < p.turns; i++) s = s * 1664525u + (i ^ (s >> 7));\n"
                                "    x[x_offset] = s;\n"
                                "}\n";

typedef struct saxpy_params {
    uint32_t n;
    float a;
} saxpy_params;

static inline tsr_status create(hal_device *device, const char *key, const char *entry, const char *text,
                                uint32_t bindings, uint32_t params_bytes, uint32_t group, hal_kernel **kernel)
{
    const char *const source[] = {"/* a piece of its own */\n", text};
    hal_kernel_desc desc = {.key = key,
                            .entry = entry,
                            .variant = "cpu",
                            .code = HAL_CODE_SOURCE,
                            .source = source,
                            .source_count = 2,
                            .group_size = group,
                            .params_bytes = params_bytes,
                            .binding_count = bindings};
    for (uint32_t i = 0; i < bindings; i++) {
        desc.access[i] = HAL_READ_WRITE;
        desc.element_bytes[i] = 4;
    }
    return hal_kernel_create(device, &desc, kernel);
}

static inline hal_kernel *saxpy_of(hal_device *device)
{
    hal_kernel *kernel = NULL;
    OK(create(device, "saxpy/f32", "saxpy", saxpy_text, 2, sizeof(saxpy_params), 4, &kernel));
    return kernel;
}

static inline hal_kernel *spin_of(hal_device *device)
{
    hal_kernel *kernel = NULL;
    OK(create(device, "spin", "spin", spin_text, 1, 4, 1, &kernel));
    return kernel;
}

static inline tsr_status saxpy(hal_queue *queue, hal_kernel *kernel, hal_binding x, hal_binding y, uint32_t n, float a)
{
    const hal_binding bindings[] = {x, y};
    const saxpy_params params = {n, a};
    return hal_kernel_launch(queue, &(hal_launch){.kernel = kernel,
                                                  .grid = {3, 1, 1},
                                                  .bindings = bindings,
                                                  .binding_count = 2,
                                                  .params = &params,
                                                  .params_bytes = sizeof params});
}

static inline tsr_status spin(hal_queue *queue, hal_kernel *kernel, hal_buffer *x, uint32_t turns)
{
    const hal_binding binding = {x, 0, 4};
    return hal_kernel_launch(queue, &(hal_launch){.kernel = kernel,
                                                  .grid = {1, 1, 1},
                                                  .bindings = &binding,
                                                  .binding_count = 1,
                                                  .params = &turns,
                                                  .params_bytes = 4});
}

static inline void remove_folder(const char *path)
{
    char command[512];
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    assert_int_equal(system(command), 0);
}

#endif
