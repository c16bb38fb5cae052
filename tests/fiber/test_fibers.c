/* Every kernel that has a barrier, as a work-group of fibers in three thread orders: a missing barrier shows as a result
 * that depends on the order, a divergent one as threads that wait at different places. What the C kernel computes, with
 * its work-group of one, must come out too.
 *
 * A kernel with a barrier and without a row below fails the test. */
#include "unit.h"

#include "dispatch/catalogue.h"
#include "tests/fiber/fiber.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct sample {
    const char *kernel;
    uint32_t grid[3];
    uint32_t params[28];     /* floats by their bits */
    size_t elements[8];      /* of each binding */
    uint32_t integers_below; /* for integer inputs: values in [0, this) */
} sample;

#define FLOAT_1 0x3f800000u

static const sample samples[] = {
    {"softmax", {3, 1, 1}, {150}, {450, 450}, 0},
    {"softmax", {2, 1, 1}, {9000}, {18000, 18000}, 0},
    {"log_softmax", {3, 1, 1}, {100}, {300, 300}, 0},
    {"softmax_grad", {3, 1, 1}, {77}, {231, 231, 231}, 0},
    {"log_softmax_grad", {3, 1, 1}, {77}, {231, 231, 231}, 0},
    {"cross_entropy", {4, 1, 1}, {90}, {360, 4, 90, 4, 4, 8}, 90},
    {"cross_entropy", {4, 1, 1}, {90, 3, 1, 0x3dcccccd}, {360, 4, 90, 4, 4, 8}, 90},
    {"batch_norm_sum", {6, 1, 1}, {200, 3}, {1200, 6}, 0},
    {"batch_norm_deviation", {6, 1, 1}, {200, 3}, {1200, 3, 6}, 0},
    {"batch_norm_grad_sums", {6, 1, 1}, {200, 3, 6}, {1200, 1200, 3, 3, 12}, 0},
    /* cols centred groups epsilon epsilon_low */
    {"row_norm", {6, 1, 1}, {150, 1, 3, 0x3727c5ac}, {900, 450, 450, 900, 6, 6}, 0},
    {"row_norm", {2, 1, 1}, {9000, 0, 1, 0x3727c5ac}, {18000, 9000, 9000, 18000, 2, 2}, 0},
    {"row_norm_grad", {6, 1, 1}, {150, 1, 3, 1}, {900, 900, 6, 6, 450, 900, 900}, 0},
    /* rows cols heads first_head first_query first_key causal masked mask_outer mask_head mask_row mask_col scale _low width starts */
    {"attention", {6, 1, 1}, {3, 70, 2, 0, 66, 1, 1, 1, 0, 0, 100, 1, FLOAT_1, 0, 5, 0}, {420, 7100, 6, 6, 30}, 0},
    {"attention", {6, 1, 1}, {3, 70, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, FLOAT_1, 0, 5, 1}, {420, 7100, 6, 6, 30}, 0},
    {"reduce_columns", {3, 2, 2}, {150, 70, 100, 2, 3}, {2 * 150 * 70, 2 * 2 * 70}, 0},
    {"sum_rows", {2, 5, 1}, {150, 100, 2, 5}, {750, 10}, 0},
    {"max_rows", {2, 5, 1}, {150, 100, 2, 5}, {750, 10}, 0},
    {"min_rows", {2, 5, 1}, {150, 100, 2, 5}, {750, 10}, 0},
    {"prod_rows", {2, 5, 1}, {150, 100, 2, 5}, {750, 10}, 0},
    {"argmax_rows", {5, 1, 1}, {150, 5}, {750, 5}, 0},
    {"argmax_rows", {5, 1, 1}, {150, 5, 1}, {750, 5}, 0},
    /* n per_group beta1 beta2 complement1 complement2 epsilon weight_decay */
    {"lamb_moments",
     {3, 1, 1},
     {250, 100, 0x3f666666, 0x3f7fbe77, 0x3dcccccd, 0x3a83126f, 0x358637bd, 0x3c23d70a},
     {300, 300, 300, 300, 5, 6},
     0},
    {"grad_unscale", {3, 1, 1}, {250, 100, 0}, {300, 1, 3}, 0},
    {"grad_found", {1, 1, 1}, {150}, {150, 1}, 2},
    {"lamb_ratio", {1, 1, 1}, {9000}, {18000, 1}, 0},
    {"logsumexp", {3, 1, 1}, {150}, {450, 3}, 0},
    {"scan", {3, 1, 1}, {2100}, {6300, 6300}, 0},
    {"scan", {3, 1, 1}, {70, 1}, {210, 210}, 0},
    /* m n k ar ak bk bc ldc reduce a_reduce b_reduce inner a_outer … c_inner flags */
    {"product_tile",
     {2, 2, 1},
     {70, 90, 40, 40, 1, 90, 1, 90, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0},
     {2800, 3600, 6300, 90},
     0},
    {"product_tile",
     {2, 2, 1},
     {70, 90, 40, 1, 70, 1, 40, 90, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 5},
     {2800, 3600, 6300, 90},
     0},
};

static uint32_t random_state;

static uint32_t random_bits(void)
{
    random_state = random_state * 1664525u + 1013904223u;
    return random_state >> 8;
}

static void fill(void *memory, const fiber_binding *b, size_t elements, uint32_t below)
{
    for (size_t i = 0; i < elements; i++) {
        const float f = (float)random_bits() / (float)(1 << 22) - 2.0f; /* [-2, 2) */
        const uint32_t u = below ? random_bits() % below : random_bits() & 127u;
        if (strcmp(b->type, "f32") == 0)
            ((float *)memory)[i] = f;
        else if (strcmp(b->type, "f64") == 0)
            ((double *)memory)[i] = f;
        else if (strcmp(b->type, "i32") == 0 || strcmp(b->type, "u32") == 0)
            ((uint32_t *)memory)[i] = u;
        else if (strcmp(b->type, "i64") == 0)
            ((int64_t *)memory)[i] = u;
        else if (strcmp(b->type, "u8") == 0 || strcmp(b->type, "bool") == 0)
            ((uint8_t *)memory)[i] = b->type[0] == 'b' ? u & 1 : (uint8_t)u;
        else
            ((uint16_t *)memory)[i] = 0x3c00u | (u & 0x3ffu); /* f16 or bf16, a plain number in either */
    }
}

typedef struct memories {
    void *data[8];
    size_t bytes[8];
} memories;

/* The same contents each time. */
static memories memories_make(const fiber_kernel *k, const sample *s)
{
    memories m = {{0}, {0}};
    random_state = 12345;
    for (int b = 0; b < k->binding_count; b++) {
        m.bytes[b] = s->elements[b] * k->bindings[b].bytes;
        assert_true(m.bytes[b] > 0);
        m.data[b] = calloc(1, m.bytes[b]);
        assert_non_null(m.data[b]);
        if (k->bindings[b].access & 1)
            fill(m.data[b], &k->bindings[b], s->elements[b], s->integers_below);
        if (strcmp(k->bindings[b].id, "state") == 0) /* of an optimizer: it ends with whether the step is skipped */
            memset((char *)m.data[b] + m.bytes[b] - k->bindings[b].bytes, 0, k->bindings[b].bytes);
    }
    return m;
}

static void memories_free(memories *m)
{
    for (int b = 0; b < 8; b++)
        free(m->data[b]);
}

static bool memories_equal(const fiber_kernel *k, const memories *a, const memories *b, const char *what)
{
    bool equal = true;
    for (int n = 0; n < k->binding_count; n++) {
        if (memcmp(a->data[n], b->data[n], a->bytes[n]) == 0)
            continue;
        size_t at = 0;
        while (((const char *)a->data[n])[at] == ((const char *)b->data[n])[at])
            at++;
        print_error("%s:%d: %s: %s (binding %s, element %zu)\n", k->file, k->line, k->key, what, k->bindings[n].id,
                    at / k->bindings[n].bytes);
        equal = false;
    }
    return equal;
}

static hal_native_fn *native_of(const char *key)
{
    const kernel_entry *e = catalogue_find(key, HAL_CLASS_CPU);
    return e ? e->native[ISA_BASELINE] : NULL;
}

static bool run_sample(const fiber_kernel *k, const sample *s)
{
    bool good = true;
    memories results[FIBER_ORDERS];
    for (fiber_order order = 0; order < FIBER_ORDERS; order++) {
        results[order] = memories_make(k, s);
        const char *problem = fiber_run(k, results[order].data, s->params, s->grid, order);
        if (problem) {
            print_error("%s: %s\n", k->key, problem);
            good = false;
        }
    }
    good = good && memories_equal(k, &results[0], &results[1], "the result depends on the order of the threads") &&
           memories_equal(k, &results[0], &results[2], "the result depends on the order of the threads");
    hal_native_fn *native = native_of(k->key);
    if (good && native) {
        memories reference = memories_make(k, s);
        native(reference.data, s->params, s->grid, 0, (uint64_t)s->grid[0] * s->grid[1] * s->grid[2]);
        good = memories_equal(k, &results[0], &reference, "the C kernel's result is another");
        memories_free(&reference);
    }
    for (fiber_order order = 0; order < FIBER_ORDERS; order++)
        memories_free(&results[order]);
    return good;
}

static void kernels_with_barriers_do_not_depend_on_the_order_of_threads(void **state)
{
    (void)state;
    size_t failures = 0, runs = 0;
    assert_true(fiber_kernel_count > 5);
    for (size_t i = 0; i < fiber_kernel_count; i++) {
        const fiber_kernel *k = &fiber_kernels[i];
        bool found = strncmp(k->name, "selftest", 8) == 0; /* what the device tests launch themselves */
        for (size_t s = 0; s < sizeof samples / sizeof samples[0]; s++) {
            if (strcmp(samples[s].kernel, k->name) != 0)
                continue;
            found = true;
            runs++;
            failures += !run_sample(k, &samples[s]);
        }
        if (!found) {
            print_error("%s:%d: kernel %s has a barrier, but no row in tests/fiber/test_fibers.c\n", k->file, k->line,
                        k->name);
            failures++;
        }
    }
    print_message("%zu kernels with barriers, %zu samples, %d orders\n", fiber_kernel_count, runs, FIBER_ORDERS);
    assert_int_equal(failures, 0);
}

/* ---- the emulator itself: it must see what it is there for ----------------------------------------------------- */

static void missing_barrier(void *const *bindings, const void *params, unsigned gid, unsigned gidy, unsigned gidz)
{
    static float lds[64];
    (void)params, (void)gid, (void)gidy, (void)gidz;
    fiber_local(lds, sizeof lds);
    lds[fiber_index] = (float)fiber_index;
    ((float *)bindings[0])[fiber_index] = lds[(fiber_index + 1) % 64];
}

static void divergent_barrier(void *const *bindings, const void *params, unsigned gid, unsigned gidy, unsigned gidz)
{
    (void)bindings, (void)params, (void)gid, (void)gidy, (void)gidz;
    if (fiber_index < 32)
        fiber_barrier(__LINE__);
}

static void a_missing_barrier_changes_the_result(void **state)
{
    (void)state;
    static float results[FIBER_ORDERS][64];
    const fiber_kernel k = {.key = "missing", .file = "-", .group_size = 64, .body = missing_barrier};
    const uint32_t grid[3] = {1, 1, 1};
    for (fiber_order order = 0; order < FIBER_ORDERS; order++) {
        void *bindings[1] = {results[order]};
        assert_null(fiber_run(&k, bindings, NULL, grid, order));
    }
    assert_memory_not_equal(results[0], results[1], sizeof results[0]);
}

static void a_divergent_barrier_is_reported(void **state)
{
    (void)state;
    const fiber_kernel k = {.key = "divergent", .file = "-", .group_size = 64, .body = divergent_barrier};
    const uint32_t grid[3] = {1, 1, 1};
    for (fiber_order order = 0; order < FIBER_ORDERS; order++)
        assert_non_null(fiber_run(&k, NULL, NULL, grid, order));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_missing_barrier_changes_the_result),
        cmocka_unit_test(a_divergent_barrier_is_reported),
        cmocka_unit_test(kernels_with_barriers_do_not_depend_on_the_order_of_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
