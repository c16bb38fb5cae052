/* What the tests of the CUDA backend share: a device, real or fake, and three small kernels that the fake one knows too. */
#ifndef CUDA_TEST_H
#define CUDA_TEST_H

#include "unit.h"

#include "fake_cuda/fake_cuda.h"

#include "base/compiler.h"
#include "base/dynlib.h"
#include "hal/hal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const hal_backend cuda_backend;

static fake_cuda_state *fake; /* NULL on a real driver */

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        const tsr_status ok_status = (call);                                                                           \
        if (ok_status != TSR_OK)                                                                                       \
            fail_msg("%s: %s: %s", #call, tsr_status_name(ok_status), tsr_last_error());                               \
    } while (0)

#define FAILS(status, call) assert_string_equal(tsr_status_name(call), tsr_status_name(status))

#define SAYS(word)                                                                                                     \
    do {                                                                                                               \
        if (!strstr(tsr_last_error(), word))                                                                           \
            fail_msg("the message lacks \"%s\": %s", word, tsr_last_error());                                          \
    } while (0)

/* Plain CUDA C behind the dialect's prelude: these test the backend, not the dialect. */
static const char test_kernels[] =
    "struct axpy_params { unsigned int count; float factor; };\n"
    "extern \"C\" __global__ void test_axpy(const float *x, const float *y, float *z, axpy_params q)\n"
    "{\n"
    "    for (unsigned int i = blockIdx.x * blockDim.x + threadIdx.x; i < q.count; i += gridDim.x * blockDim.x)\n"
    "        z[i] = q.factor * x[i] + y[i];\n"
    "}\n"
    "/* Where each work-group is in its grid. */\n"
    "extern \"C\" __global__ void test_where(unsigned int *out)\n"
    "{\n"
    "    const unsigned int group = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);\n"
    "    out[group * blockDim.x + threadIdx.x] = group * 1000u + threadIdx.x;\n"
    "}\n";

typedef struct axpy_params {
    uint32_t count;
    float factor;
} axpy_params;

static void host_axpy(const fake_cuda_launch *launch)
{
    const float *x = launch->pointers[0], *y = launch->pointers[1];
    float *z = launch->pointers[2];
    axpy_params q;

    memcpy(&q, launch->params, sizeof q);
    for (uint32_t i = 0; i < q.count; i++)
        z[i] = q.factor * x[i] + y[i];
}

static void host_where(const fake_cuda_launch *launch)
{
    uint32_t *out = launch->pointers[0];
    const uint32_t groups = launch->grid[0] * launch->grid[1] * launch->grid[2];

    for (uint32_t i = 0; i < groups * launch->group_size; i++)
        out[i] = i / launch->group_size * 1000 + i % launch->group_size;
}

/* The backend has opened the driver by then, so this finds the same one. */
static void find_fake(void)
{
    static const char *const names[] = {"libcuda.so.1", NULL};
    static const fake_cuda_kernel kernels[] = {{"test_axpy", 3, sizeof(axpy_params), host_axpy},
                                               {"test_where", 1, 0, host_where}};
    dynlib *lib = dynlib_open(names);
    fake_cuda_state_fn *state;
    fake_cuda_register_fn *enter;

    if (!lib)
        return;
    state = (fake_cuda_state_fn *)dynlib_symbol(lib, "fake_cuda");
    enter = (fake_cuda_register_fn *)dynlib_symbol(lib, "fake_cuda_register");
    if (state && enter) {
        fake = state();
        for (size_t i = 0; i < COUNT_OF(kernels); i++)
            enter(&kernels[i]);
    }
    dynlib_close(lib);
}

/* How many devices there are; with none, why. */
static uint32_t cuda_devices(char why[512])
{
    uint32_t count = 77;

    assert_int_equal(cuda_backend.enumerate(&count, why, 512), TSR_OK);
    if (count > 0)
        find_fake();
    return count;
}

static inline hal_kernel_desc describe_axpy(const char *const *source)
{
    return (hal_kernel_desc){
        .key = "test_axpy/f32",
        .entry = "test_axpy",
        .variant = "gpu",
        .code = HAL_CODE_SOURCE,
        .source = source,
        .source_count = 1,
        .group_size = 128,
        .params_bytes = sizeof(axpy_params),
        .binding_count = 3,
        .access = {HAL_READ, HAL_READ, HAL_WRITE},
        .element_bytes = {4, 4, 4},
    };
}

typedef struct rig {
    hal_device *device;
    hal_queue *queue;
} rig;

static rig rig_open(void)
{
    rig r = {0};

    OK(hal_device_open(&cuda_backend, 0, &r.device));
    OK(hal_queue_create(r.device, HAL_QUEUE_COMPUTE, &r.queue));
    return r;
}

/* Also looks for what the fake driver held against the backend. */
static void rig_close(rig *r)
{
    hal_queue_destroy(r->queue);
    OK(hal_device_close(r->device));
    if (!fake)
        return;
    if (fake->violations)
        fail_msg("%lld violations, the first: %s", (long long)fake->violations, fake->violation);
    assert_int_equal(fake->device_allocations, 0);
    assert_int_equal(fake->host_allocations, 0);
    assert_int_equal(fake->streams, 0);
    assert_int_equal(fake->events, 0);
    assert_int_equal(fake->modules, 0);
    assert_int_equal(fake->lt_objects, 0);
    assert_int_equal(fake->contexts, 0);
}

static hal_buffer *buffer_of(const rig *r, size_t size)
{
    hal_buffer *buffer;
    OK(hal_buffer_alloc(r->device, HAL_MEMORY_DEVICE, size, &buffer));
    return buffer;
}

static inline void launch_axpy(const rig *r, hal_queue *queue, hal_kernel *kernel, hal_buffer *x, hal_buffer *y,
                               hal_buffer *z, uint32_t count, float factor)
{
    const axpy_params params = {count, factor};
    const hal_binding bindings[] = {{x, 0, 4 * (size_t)count}, {y, 4, 4 * (size_t)count}, {z, 8, 4 * (size_t)count}};
    const hal_launch launch = {
        .kernel = kernel,
        .grid = {(count + 127) / 128, 1, 1},
        .bindings = bindings,
        .binding_count = 3,
        .params = &params,
        .params_bytes = sizeof params,
    };

    (void)r;
    OK(hal_kernel_launch(queue, &launch));
}

#endif
