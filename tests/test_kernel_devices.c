/* The f32 elementwise operators give the same bits on every device as the C kernels, on a sample of all floats, every
 * exponent and the special values; f16 and bf16 storage too. */
#include "unit.h"

#include "base/memory.h"
#include "hal/hal.h"
#include "ops/elementwise_table.h"
#include "tests/kernel_native.h"

#include <math.h>
#include <stdlib.h>

enum { STEP = 65521, MAX_INPUTS = 1 << 17 };

typedef struct device_under_test {
    hal_device *device;
    hal_queue *queue;
    uint32_t compared; /* operators that the device ran */
} device_under_test;

static float float_of(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* `order` permutes them, so that operators of several operands see many pairs. */
static uint32_t make_inputs(float *x, uint32_t order)
{
    uint32_t n = 0;
    for (uint64_t u = 0; u < 1ull << 32; u += STEP)
        x[n++] = float_of((uint32_t)u);
    for (uint32_t e = 0; e < 512; e++)
        for (int d = -8; d < 8; d++)
            x[n++] = float_of((e << 23) + (uint32_t)d);
    for (int i = -2000; i < 2000; i++)
        x[n++] = (float)i * 0.01f;
    for (uint32_t i = 0; order > 0 && i < n; i++) {
        const uint32_t j = (uint32_t)(((uint64_t)i * 7919u * order + 13u * order) % n);
        const float swapped = x[i];
        x[i] = x[j];
        x[j] = swapped;
    }
    return n;
}

/* Bytes that differ mean different results, but for the bits of a NaN. */
static bool same(const void *a, const void *b, uint32_t element, uint32_t i, const char *dtype)
{
    const char *x = (const char *)a + (size_t)i * element, *y = (const char *)b + (size_t)i * element;
    if (memcmp(x, y, element) == 0)
        return true;
    if (strcmp(dtype, "f32") == 0) {
        float f, g;
        memcpy(&f, x, 4);
        memcpy(&g, y, 4);
        return isnan(f) && isnan(g);
    }
    if (strcmp(dtype, "f16") != 0 && strcmp(dtype, "bf16") != 0)
        return false;
    uint16_t h, k;
    memcpy(&h, x, 2);
    memcpy(&k, y, 2);
    const uint32_t infinity = strcmp(dtype, "f16") == 0 ? 0x7c00 : 0x7f80;
    return (h & 0x7fffu) > infinity && (k & 0x7fffu) > infinity;
}

/* The parameters are the layout of kernel_native.h; only their writer knows them, so it is asked through a fake entry. */
static native_params captured;
static uint32_t captured_grid;

static void capture(void *const *bindings, const void *params, const uint32_t grid[3], uint64_t first, uint64_t count)
{
    (void)bindings, (void)first, (void)count;
    memcpy(captured.words, params, sizeof captured.words);
    captured_grid = grid[0];
}

/* Runs what `e` is, in the device's variant, on copies of the inputs; the last binding is the output, of n elements. */
static bool launch_on_device(device_under_test *d, const kernel_entry *e, const uint32_t *grid, const void *params,
                             uint32_t n, void *const *inputs, void *output)
{
    const kernel_entry *variant = catalogue_find(e->key, d->device->info.device_class);
    const uint32_t last = e->binding_count - 1;
    hal_kernel_desc desc;
    hal_kernel *kernel = NULL;
    if (catalogue_describe(variant, &d->device->info, &desc) != TSR_OK)
        return true; /* a dtype that the device lacks */
    if (hal_kernel_create(d->device, &desc, &kernel) != TSR_OK) {
        print_error("%s: %s\n", e->key, tsr_last_error());
        return false;
    }
    hal_binding bindings[4] = {{0}};
    bool good = true;
    for (uint32_t k = 0; k <= last && good; k++) {
        const size_t bytes = (size_t)n * e->element_bytes[k];
        bindings[k].length = bytes;
        good = hal_buffer_alloc(d->device, HAL_MEMORY_DEVICE, bytes, &bindings[k].buffer) == TSR_OK;
        if (good && k < last)
            good = hal_buffer_write(d->queue, bindings[k].buffer, 0, inputs[k], bytes) == TSR_OK;
    }
    const hal_launch launch = {.kernel = kernel,
                               .grid = {grid[0], grid[1], grid[2]},
                               .bindings = bindings,
                               .binding_count = e->binding_count,
                               .params = params,
                               .params_bytes = e->params_bytes};
    good = good && hal_kernel_launch(d->queue, &launch) == TSR_OK &&
           hal_buffer_read(d->queue, bindings[last].buffer, 0, output, bindings[last].length) == TSR_OK;
    if (!good)
        print_error("%s: %s\n", e->key, tsr_last_error());
    for (uint32_t k = 0; k <= last; k++)
        if (bindings[k].buffer)
            hal_buffer_free(bindings[k].buffer);
    hal_kernel_destroy(kernel);
    d->compared += good;
    return good;
}

static bool run_on_device(device_under_test *d, const kernel_entry *e, int operands, uint32_t n, const double *scalars,
                          void *const *inputs, void *output)
{
    kernel_entry fake = {.native = {capture}};
    native_run(&fake, ISA_BASELINE, operands, n, scalars, NULL);
    const uint32_t grid[3] = {captured_grid, 1, 1};
    return launch_on_device(d, e, grid, captured.words, n, inputs, output);
}

static bool check(device_under_test *d, const char *kind, const elementwise_row *row, const char *dtype, uint32_t n,
                  void *const *inputs, void *expected, void *got)
{
    const kernel_entry *e = native_entry(kind, row->name, dtype);
    if (!e)
        return true;
    const double scalars[2] = {strcmp(row->name, "clamp") == 0 ? -1.5 : 0.25, 2.5};
    void *bindings[4] = {inputs[0], inputs[1], inputs[2], NULL};
    bindings[row->arity] = expected;
    native_run(e, ISA_BASELINE, row->arity, n, scalars, bindings);
    memcpy(got, expected, (size_t)n * e->element_bytes[row->arity]); /* where the device lacks the dtype */
    if (!run_on_device(d, e, row->arity, n, scalars, inputs, got))
        return false;
    uint32_t different = 0, at = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!same(expected, got, e->element_bytes[row->arity], i, dtype)) {
            at = different++ ? at : i;
        }
    }
    if (different == 0)
        return true;
    if (strcmp(dtype, "f32") == 0)
        print_error("%s: %u of %u differ, first at %a, %a: %a on the device, %a in C\n", e->key, different, n,
                    (double)((const float *)inputs[0])[at],
                    row->arity > 1 ? (double)((const float *)inputs[1])[at] : 0.0, (double)((const float *)got)[at],
                    (double)((const float *)expected)[at]);
    else
        print_error("%s: %u of %u differ, first at 0x%04x: 0x%04x on the device, 0x%04x in C\n", e->key, different, n,
                    ((const uint16_t *)inputs[0])[at], ((const uint16_t *)got)[at], ((const uint16_t *)expected)[at]);
    return false;
}

static size_t check_device(device_under_test *d)
{
    static const char *const kinds[] = {"", "unary", "binary", "ternary"};
    size_t failures = 0;
    void *inputs[3], *expected = host_alloc(MAX_INPUTS * 4), *got = host_alloc(MAX_INPUTS * 4);
    uint32_t n = 0;
    for (uint32_t k = 0; k < 3; k++) {
        inputs[k] = host_alloc(MAX_INPUTS * 4);
        assert_non_null(inputs[k]);
        n = make_inputs(inputs[k], k);
    }
    assert_true(expected && got && n <= MAX_INPUTS);
    for (size_t r = 0; r < elementwise_row_count; r++)
        if (!elementwise_rows[r].compare)
            failures +=
                !check(d, kinds[elementwise_rows[r].arity], &elementwise_rows[r], "f32", n, inputs, expected, got);
    /* All patterns of 16 bits, through operators that widen and narrow; the second operand shifted. */
    for (uint32_t k = 0; k < 3; k++)
        for (uint32_t i = 0; i < 65536; i++)
            ((uint16_t *)inputs[k])[i] = (uint16_t)(i * (2 * k + 1) + 77 * k);
    static const char *const sixteen[] = {"f16", "bf16"}, *const some[] = {"neg", "exp", "square", "mul", "div", "add"};
    for (size_t r = 0; r < elementwise_row_count; r++)
        for (size_t s = 0; s < sizeof some / sizeof some[0]; s++)
            for (int t = 0; t < 2 && strcmp(elementwise_rows[r].name, some[s]) == 0; t++)
                failures += !check(d, kinds[elementwise_rows[r].arity], &elementwise_rows[r], sixteen[t], 65536, inputs,
                                   expected, got);
    for (int k = 0; k < 3; k++)
        host_free(inputs[k]);
    host_free(expected);
    host_free(got);
    return failures;
}

/* ---- words in every storage type, against plain C ------------------------------------------------------------------- */

enum { WORDS = 256 };

typedef struct word_case {
    const char *dtype;
    uint32_t low, high; /* the parameter: 1.5, 5, or 2^33 + 5 */
} word_case;

static const word_case word_cases[] = {
    {"f32", 0x3fc00000, 0}, {"f16", 0x3fc00000, 0}, {"bf16", 0x3fc00000, 0},
    {"f64", 0, 0x3ff80000}, {"i32", 5, 0},          {"u32", 5, 0},
    {"i64", 5, 2},          {"u8", 5, 0},           {"bool", 5, 0},
};

/* -16 … 15.75 in quarters, or whole numbers; unsigned ones from 0. */
static void fill_words(void *x, const char *dtype)
{
    for (int i = 0; i < WORDS; i++) {
        const int v = (i * 37 + 11) % 128 - 64;
        const float quarter = (float)v * 0.25f;
        uint32_t bits;
        memcpy(&bits, &quarter, 4);
        if (strcmp(dtype, "f32") == 0)
            ((float *)x)[i] = quarter;
        else if (strcmp(dtype, "f64") == 0)
            ((double *)x)[i] = quarter;
        else if (strcmp(dtype, "bf16") == 0)
            ((uint16_t *)x)[i] = (uint16_t)(bits >> 16);
        else if (strcmp(dtype, "f16") == 0) /* exact: its exponent is within f16's and its last bits are 0 */
            ((uint16_t *)x)[i] =
                quarter == 0 ? 0 : (uint16_t)((bits >> 16 & 0x8000u) | ((bits & 0x7fffffffu) - 0x38000000u) >> 13);
        else if (strcmp(dtype, "i32") == 0)
            ((int32_t *)x)[i] = v;
        else if (strcmp(dtype, "u32") == 0)
            ((uint32_t *)x)[i] = (uint32_t)(v + 64);
        else if (strcmp(dtype, "i64") == 0)
            ((int64_t *)x)[i] = v * 1000000007ll;
        else
            ((uint8_t *)x)[i] = strcmp(dtype, "u8") == 0 ? (uint8_t)(v + 64) : (uint8_t)(v & 1);
    }
}

static bool agrees(device_under_test *d, const char *kernel, const char *dtype, const uint32_t *params, void *x)
{
    char key[64];
    static uint64_t expected[WORDS], got[WORDS];
    const uint32_t grid[3] = {1, 1, 1};
    void *bindings[2] = {x, expected};
    snprintf(key, sizeof key, "%s/%s", kernel, dtype);
    const kernel_entry *e = catalogue_find(key, HAL_CLASS_CPU);
    assert_non_null(e);
    memset(expected, 0, sizeof expected);
    e->native[ISA_BASELINE](bindings, params, grid, 0, 1);
    memcpy(got, expected, sizeof got);
    if (!launch_on_device(d, e, grid, params, WORDS, bindings, got))
        return false;
    for (uint32_t i = 0; i < WORDS; i++) {
        if (!same(expected, got, e->element_bytes[1], i, dtype)) {
            print_error("%s: element %u differs between device and C\n", key, i);
            return false;
        }
    }
    return true;
}

static size_t check_words(device_under_test *d)
{
    size_t failures = 0;
    static uint64_t x[WORDS];
    const fast_div by_eight = fast_div_make(8);
    for (size_t c = 0; c < sizeof word_cases / sizeof word_cases[0]; c++) {
        const uint32_t four[] = {WORDS / 4};
        const uint32_t words[] = {WORDS, word_cases[c].low, word_cases[c].high, by_eight.mul, by_eight.shift};
        fill_words(x, word_cases[c].dtype);
        failures += !agrees(d, "selftest_four", word_cases[c].dtype, four, x);
        failures += !agrees(d, "selftest_words", word_cases[c].dtype, words, x);
    }
    return failures;
}

/* What the C kernels are compared with here is written out, for three types. */
static void words_mean_what_the_page_says(void **state)
{
    (void)state;
    static float x[WORDS], y[WORDS];
    static int64_t m[WORDS], n[WORDS];
    const fast_div by_eight = fast_div_make(8);
    const uint32_t grid[3] = {1, 1, 1}, four[] = {WORDS / 4};
    const uint32_t words_f32[] = {WORDS, 0x3fc00000, 0, by_eight.mul, by_eight.shift};
    const uint32_t words_i64[] = {WORDS, 5, 2, by_eight.mul, by_eight.shift};
    fill_words(x, "f32");
    fill_words(m, "i64");
    catalogue_find("selftest_four/f32", HAL_CLASS_CPU)->native[ISA_BASELINE]((void *[]){x, y}, four, grid, 0, 1);
    catalogue_find("selftest_four/i64", HAL_CLASS_CPU)->native[ISA_BASELINE]((void *[]){m, n}, four, grid, 0, 1);
    for (int i = 0; i < WORDS; i++) {
        assert_true(y[i] == x[i] * x[i] + x[i | 3] - (float)(i % 4 + 1));
        const uint64_t square = (uint64_t)m[i] * (uint64_t)m[i]; /* integers wrap */
        assert_true((uint64_t)n[i] == square + (uint64_t)m[i | 3] - (uint64_t)(i % 4 + 1));
    }
    catalogue_find("selftest_words/f32", HAL_CLASS_CPU)->native[ISA_BASELINE]((void *[]){x, y}, words_f32, grid, 0, 1);
    catalogue_find("selftest_words/i64", HAL_CLASS_CPU)->native[ISA_BASELINE]((void *[]){m, n}, words_i64, grid, 0, 1);
    for (int i = 0; i < WORDS; i++) {
        const float a = x[i], bottom = i < 7 ? (float)i : 7.0f; /* min(i, max(3, 7)) */
        const int64_t k = m[i], b = (2ll << 32) + 5;
        const float wanted[8] = {-16.0f,
                                 a > 1.5f ? a : 1.5f,
                                 a < 1.5f ? a : 1.5f,
                                 (float)((a > 0) - (a < 0)) + fabsf(a),
                                 0,
                                 a,
                                 (a != 0 ? 1.0f : 0.0f) + (float)((int)a & 255),
                                 (float)(int)a + bottom - 1.0f};
        const int64_t wanted_i64[8] = {-64 * 1000000007ll,
                                       k > b ? k : b,
                                       k < b ? k : b,
                                       (k > 0) - (k < 0) + (k < 0 ? -k : k),
                                       0,
                                       k,
                                       (k != 0) + (k & 255),
                                       (int32_t)(uint32_t)k + 7 - 1};
        assert_true(y[i] == wanted[i % 8]);
        assert_true(n[i] == wanted_i64[i % 8]);
    }
}

static void every_device_gives_the_bits_of_the_c_kernels(void **state)
{
    (void)state;
    size_t failures = 0;
    const char *only = getenv("KERNEL_DEVICES");
    for (size_t b = 0; hal_backends[b]; b++) {
        uint32_t count = 0;
        char why[256] = "";
        if (strcmp(hal_backends[b]->name, "null") == 0 || (only && strcmp(only, hal_backends[b]->name) != 0))
            continue;
        assert_int_equal(hal_backends[b]->enumerate(&count, why, sizeof why), TSR_OK);
        if (count == 0)
            print_message("%s: skipped: %s\n", hal_backends[b]->name, why);
        for (uint32_t i = 0; i < count; i++) {
            device_under_test d = {0};
            if (hal_device_open(hal_backends[b], i, &d.device) != TSR_OK) {
                print_error("%s:%u: %s\n", hal_backends[b]->name, i, tsr_last_error());
                failures++;
                continue;
            }
            assert_int_equal(hal_queue_create(d.device, HAL_QUEUE_COMPUTE, &d.queue), TSR_OK);
            const size_t here = check_device(&d) + check_words(&d);
            print_message("%s:%u (%s): %zu of %u operators differ\n", hal_backends[b]->name, i, d.device->info.name,
                          here, d.compared);
            assert_true(d.compared > 40);
            failures += here;
            hal_queue_destroy(d.queue);
            assert_int_equal(hal_device_close(d.device), TSR_OK);
        }
    }
    assert_int_equal(failures, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_mean_what_the_page_says),
        cmocka_unit_test(every_device_gives_the_bits_of_the_c_kernels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
