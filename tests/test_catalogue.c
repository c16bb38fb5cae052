#include "unit.h"

#include "base/error.h"
#include "dispatch/catalogue.h"

#include <stdio.h>
#include <string.h>

static hal_device_info device_of(hal_device_class device_class, hal_code code)
{
    return (hal_device_info){.name = "Test device",
                             .device_class = device_class,
                             .code = code,
                             .features = HAL_FEATURE_STORAGE_16 | HAL_FEATURE_STORAGE_8 | HAL_FEATURE_INT64 |
                                         HAL_FEATURE_FLOAT64};
}

static void is_sorted_and_found(void **state)
{
    (void)state;
    assert_true(kernel_catalogue_count > 0);
    for (size_t i = 0; i < kernel_catalogue_count; i++) {
        const kernel_entry *e = &kernel_catalogue[i];
        if (i > 0) {
            const int order = strcmp(e[-1].key, e->key);
            assert_true(order < 0 || (order == 0 && strcmp(e[-1].variant, e->variant) < 0));
        }
        const bool cpu = strcmp(e->variant, "cpu") == 0;
        assert_true(cpu || strcmp(e->variant, "gpu") == 0);
        assert_ptr_equal(catalogue_find(e->key, cpu ? HAL_CLASS_CPU : HAL_CLASS_GPU), e);
        /* The other class gets its own, or this one. */
        const kernel_entry *other = catalogue_find(e->key, cpu ? HAL_CLASS_GPU : HAL_CLASS_CPU);
        assert_non_null(other);
        assert_string_equal(other->key, e->key);
    }
    tsr_clear_error();
    assert_null(catalogue_find("no such kernel/f32", HAL_CLASS_CPU));
    assert_null(catalogue_find("", HAL_CLASS_GPU));
    assert_null(catalogue_find("zzzz/f32", HAL_CLASS_GPU));
    assert_string_equal(tsr_last_error(), "");
}

static void entries_keep_the_limits(void **state)
{
    (void)state;
    for (size_t i = 0; i < kernel_catalogue_count; i++) {
        const kernel_entry *e = &kernel_catalogue[i];
        assert_true(e->params_bytes > 0 && e->params_bytes <= HAL_MAX_PARAMS && e->params_bytes % 4 == 0);
        assert_true(e->binding_count > 0 && e->binding_count <= HAL_MAX_BINDINGS);
        assert_true(e->group_size > 0);
        for (uint32_t b = 0; b < e->binding_count; b++) {
            const unsigned size = e->element_bytes[b];
            assert_true(size == 1 || size == 2 || size == 4 || size == 8);
            assert_true(e->access[b] >= HAL_READ && e->access[b] <= HAL_READ_WRITE);
        }
    }
}

static void describes_each_form(void **state)
{
    (void)state;
    hal_device_info cpu = device_of(HAL_CLASS_CPU, HAL_CODE_NATIVE), gpu = device_of(HAL_CLASS_GPU, HAL_CODE_SOURCE);
    const kernel_entry *e = catalogue_find("selftest_step/i32", HAL_CLASS_CPU);
    hal_kernel_desc desc;
    assert_non_null(e);
    assert_int_equal(catalogue_describe(e, &cpu, &desc), TSR_OK);
    assert_string_equal(desc.key, "selftest_step/i32");
    assert_string_equal(desc.variant, "cpu");
    assert_int_equal(desc.code, HAL_CODE_NATIVE);
    assert_non_null(desc.native);
    assert_int_equal(desc.group_size, 1);
    assert_int_equal(desc.params_bytes, 12);
    assert_int_equal(desc.binding_count, 1);
    assert_int_equal(desc.access[0], HAL_READ_WRITE);
    assert_int_equal(desc.element_bytes[0], 4);

    /* It computes: y = 3 y + k modulo 65536. */
    int32_t words[5] = {0, 1, 2, 30000, -1};
    void *bindings[1] = {words};
    desc.native(bindings, (const uint32_t[]){4, 4, 7}, (const uint32_t[]){1, 1, 1}, 0, 1);
    assert_true(words[0] == 7 && words[1] == 10 && words[2] == 13 && words[3] == 90007 - 65536 && words[4] == -1);

    const kernel_entry *g = catalogue_find("selftest_step/i32", HAL_CLASS_GPU);
    assert_int_equal(catalogue_describe(g, &gpu, &desc), TSR_OK);
    assert_string_equal(desc.variant, "gpu");
    assert_string_equal(desc.entry, g->entry);
    assert_int_equal(desc.group_size, 64);
    assert_true(desc.source_count > 0 && desc.source[0] != NULL);
    assert_int_equal(catalogue_describe(g, &cpu, &desc), TSR_UNSUPPORTED); /* C has no gpu variant */
    assert_non_null(strstr(tsr_last_error(), "selftest_step/i32 (gpu variant) was not built as a C function"));

    if (g->spirv != NULL) { /* glslang is optional at build time */
        gpu.code = HAL_CODE_SPIRV;
        assert_int_equal(catalogue_describe(g, &gpu, &desc), TSR_OK);
        assert_string_equal(desc.entry, "main");
        assert_int_equal(desc.group_size, g->group_size_spirv);
        assert_int_equal(desc.spirv[0], 0x07230203);
    }
}

static void missing_features_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        uint32_t feature;
        const char *words;
    } rows[] = {{"selftest_copy/f16", HAL_FEATURE_STORAGE_16, "16-bit loads and stores"},
                {"selftest_copy/bf16", HAL_FEATURE_STORAGE_16, "16-bit loads and stores"},
                {"selftest_copy/u8", HAL_FEATURE_STORAGE_8, "8-bit loads and stores"},
                {"selftest_copy/i64", HAL_FEATURE_INT64, "64-bit integers"},
                {"selftest_copy/f64", HAL_FEATURE_FLOAT64, "64-bit floating point"}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        hal_device_info info = device_of(HAL_CLASS_CPU, HAL_CODE_NATIVE);
        hal_kernel_desc desc;
        const kernel_entry *e = catalogue_find(rows[i].key, HAL_CLASS_CPU);
        assert_non_null(e);
        assert_int_equal(catalogue_describe(e, &info, &desc), TSR_OK);
        info.features &= ~rows[i].feature;
        assert_int_equal(catalogue_describe(e, &info, &desc), TSR_UNSUPPORTED);
        assert_non_null(strstr(tsr_last_error(), rows[i].key));
        assert_non_null(strstr(tsr_last_error(), rows[i].words));
        assert_non_null(strstr(tsr_last_error(), "Test device"));
    }
    hal_device_info bare = device_of(HAL_CLASS_CPU, HAL_CODE_NATIVE);
    hal_kernel_desc desc;
    bare.features = 0;
    assert_int_equal(catalogue_describe(catalogue_find("selftest_copy/f32", HAL_CLASS_CPU), &bare, &desc), TSR_OK);
}

/* Whatever the processor, every instruction set up to its own computes the same. */
static void instruction_sets_agree(void **state)
{
    (void)state;
    const kernel_isa best = catalogue_isa();
    assert_true(best >= ISA_BASELINE && best < ISA_COUNT);
    const kernel_entry *e = catalogue_find("selftest_copy/f16", HAL_CLASS_CPU);
    uint16_t x[1000], y[1000];
    for (uint32_t i = 0; i < COUNT_OF(x); i++)
        x[i] = (uint16_t)(0x3000 + 13 * i);
    void *bindings[2] = {x, y};
    for (int isa = 0; isa <= (int)best; isa++) {
        if (e->native[isa] == NULL)
            continue;
        memset(y, 0, sizeof y);
        e->native[isa](bindings, (const uint32_t[]){999, 100, 0, 1, 1, 1}, (const uint32_t[]){10, 1, 1}, 0, 10);
        assert_int_equal(y[0], 0);
        assert_memory_equal(y + 1, x, 999 * sizeof *x);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_sorted_and_found),    cmocka_unit_test(entries_keep_the_limits),
        cmocka_unit_test(describes_each_form),    cmocka_unit_test(missing_features_are_named),
        cmocka_unit_test(instruction_sets_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
