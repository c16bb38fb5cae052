/* The real NVRTC, where it is installed; no driver is needed. That all kernels of the catalogue compile is the kernel
 * toolchain's test; here: targets, the form of the code, messages. */
#include "unit.h"

#include "backends/cuda/cuda_gemm.h"
#include "backends/cuda/nvrtc.h"
#include "base/memory.h"

#include <stdio.h>
#include <string.h>

static const char *const good[] = {"extern \"C\" __global__ void twice(float *x) { x[threadIdx.x] *= 2.0f; }\n"};

static hal_kernel_desc describe(const char *const *source)
{
    return (hal_kernel_desc){.key = "twice/f32",
                             .entry = "twice",
                             .code = HAL_CODE_SOURCE,
                             .source = source,
                             .source_count = 1,
                             .group_size = 64,
                             .binding_count = 1};
}

static void code_for_known_architectures_is_a_cubin(void **state)
{
    static const int archs[] = {75, 80, 86, 90};
    const hal_kernel_desc desc = describe(good);
    uint8_t *image;
    size_t size;
    (void)state;

    for (size_t i = 0; i < sizeof archs / sizeof archs[0]; i++) {
        assert_int_equal(cuda_compile(&desc, archs[i], &image, &size), TSR_OK);
        assert_true(size > 64);
        assert_memory_equal(image, "\177ELF", 4);
        assert_non_null(memmem(image, size, "twice", 6));
        host_free(image);
    }
}

static void code_for_an_architecture_of_the_future_is_ptx(void **state)
{
    const hal_kernel_desc desc = describe(good);
    uint8_t *image;
    size_t size;
    (void)state;

    assert_int_equal(cuda_compile(&desc, 999, &image, &size), TSR_OK);
    assert_int_equal(image[size - 1], 0);
    assert_int_equal(strlen((char *)image), size - 1);
    assert_non_null(strstr((char *)image, ".version"));
    assert_non_null(strstr((char *)image, ".entry twice("));
    host_free(image);
}

static void an_architecture_of_the_past_is_refused(void **state)
{
    const hal_kernel_desc desc = describe(good);
    uint8_t *image = (uint8_t *)state;
    size_t size;

    assert_int_equal(cuda_compile(&desc, 35, &image, &size), TSR_UNSUPPORTED);
    assert_null(image);
    assert_non_null(strstr(tsr_last_error(), "3.5"));
    assert_non_null(strstr(tsr_last_error(), "older"));
}

static void a_mistake_is_named(void **state)
{
    static const char *const bad[] = {
        "#line 7 \"twice.k\"\nextern \"C\" __global__ void twice(float *x)\n{ x[0] = nothing; }\n"};
    const hal_kernel_desc desc = describe(bad);
    uint8_t *image;
    size_t size;
    (void)state;

    assert_int_equal(cuda_compile(&desc, 90, &image, &size), TSR_DRIVER_ERROR);
    assert_null(image);
    assert_non_null(strstr(tsr_last_error(), "twice/f32"));
    assert_non_null(strstr(tsr_last_error(), "sm_90"));
    assert_non_null(strstr(tsr_last_error(), "twice.k(8)"));
    assert_non_null(strstr(tsr_last_error(), "nothing"));
}

/* The arithmetic contract reaches the compiler: a product and a sum stay two instructions, and division is IEEE's. */
static void options_forbid_contraction(void **state)
{
    static const char *const text[] = {
        "extern \"C\" __global__ void twice(float *x) { x[0] = x[1] * x[2] + x[3] / x[4]; }\n"};
    const hal_kernel_desc desc = describe(text);
    uint8_t *image;
    size_t size;
    (void)state;

    assert_int_equal(cuda_compile(&desc, 999, &image, &size), TSR_OK);
    assert_null(strstr((char *)image, "fma"));
    assert_null(strstr((char *)image, ".ftz"));
    assert_null(strstr((char *)image, ".approx"));
    assert_non_null(strstr((char *)image, "div.rn.f32"));
    host_free(image);
}

static void the_rounding_kernels_compile(void **state)
{
    static const int archs[] = {75, 80, 90};
    static const uint32_t types[] = {LT_F16, LT_BF16};
    (void)state;

    for (size_t t = 0; t < 2; t++)
        for (size_t i = 0; i < 3; i++) {
            const hal_kernel_desc desc = gemm_narrow_describe(types[t]);
            uint8_t *image;
            size_t size;

            if (cuda_compile(&desc, archs[i], &image, &size))
                fail_msg("%s", tsr_last_error());
            assert_non_null(memmem(image, size, desc.entry, strlen(desc.entry) + 1));
            host_free(image);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(code_for_known_architectures_is_a_cubin),
        cmocka_unit_test(code_for_an_architecture_of_the_future_is_ptx),
        cmocka_unit_test(an_architecture_of_the_past_is_refused),
        cmocka_unit_test(a_mistake_is_named),
        cmocka_unit_test(options_forbid_contraction),
        cmocka_unit_test(the_rounding_kernels_compile),
    };
    int major, minor;

    if (nvrtc_load(0)) {
        printf("SKIP: the tests of NVRTC: %s\n", tsr_last_error());
        return 0;
    }
    nvrtc_version(&major, &minor);
    printf("NVRTC %d.%d, %s\n", major, minor, nvrtc_name());
    return cmocka_run_group_tests(tests, NULL, NULL);
}
