#include "unit.h"

#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/thread.h"

#include <stdatomic.h>
#include <string.h>

static void adds_and_multiplies(void **state)
{
    size_t size;
    int64_t number;
    (void)state;

    assert_true(checked_add_size(SIZE_MAX - 5, 5, &size));
    assert_true(size == SIZE_MAX);
    assert_false(checked_add_size(SIZE_MAX - 5, 6, &size));
    assert_true(checked_mul_size(SIZE_MAX / 3, 3, &size));
    assert_true(size == SIZE_MAX);
    assert_false(checked_mul_size(SIZE_MAX / 3 + 1, 3, &size));
    assert_true(checked_mul_size(0, SIZE_MAX, &size));
    assert_true(size == 0);

    assert_true(checked_add_i64(INT64_MIN, INT64_MAX, &number));
    assert_true(number == -1);
    assert_false(checked_add_i64(INT64_MIN, -1, &number));
    assert_false(checked_add_i64(INT64_MAX, 1, &number));
    assert_true(checked_mul_i64(-3037000499, 3037000499, &number));
    assert_true(number == INT64_C(-9223372030926249001));
    assert_false(checked_mul_i64(INT64_MIN, -1, &number));
    assert_false(checked_mul_i64(INT64_C(1) << 32, INT64_C(1) << 31, &number));
}

static void ranges_and_rounding(void **state)
{
    size_t size;
    (void)state;

    assert_true(range_fits(0, 10, 10));
    assert_true(range_fits(10, 0, 10));
    assert_false(range_fits(10, 1, 10));
    assert_false(range_fits(11, 0, 10));
    assert_false(range_fits(SIZE_MAX, 2, 10));
    assert_false(range_fits(1, SIZE_MAX, SIZE_MAX));

    assert_true(align_up_size(0, 64, &size) && size == 0);
    assert_true(align_up_size(1, 64, &size) && size == 64);
    assert_true(align_up_size(128, 64, &size) && size == 128);
    assert_true(align_up_size(10, 3, &size) && size == 12);
    assert_true(align_up_size(SIZE_MAX - 63, 64, &size) && size == SIZE_MAX - 63);
    assert_false(align_up_size(SIZE_MAX - 62, 64, &size));

    assert_true(div_up_size(0, 4) == 0 && div_up_size(1, 4) == 1 && div_up_size(8, 4) == 2 && div_up_size(9, 4) == 3);
    assert_true(div_up_size(SIZE_MAX, 2) == SIZE_MAX / 2 + 1);
    assert_true(min_i64(-1, 1) == -1 && max_i64(-1, 1) == 1 && min_size(2, 3) == 2 && max_size(2, 3) == 3);
    assert_true(min_int(-4, 4) == -4 && max_int(-4, 4) == 4);
}

static void counts_what_lives(void **state)
{
    const int64_t before = host_live_allocations();
    (void)state;

    void *a = host_alloc(0);
    uint8_t *b = host_alloc_zeroed(7, 3);
    void *c = host_alloc_aligned(100, 256);
    char *d = host_strdup("mosaic");
    assert_non_null(a);
    assert_non_null(b);
    assert_non_null(c);
    assert_string_equal(d, "mosaic");
    for (int i = 0; i < 21; i++)
        assert_int_equal(b[i], 0);
    assert_int_equal((uintptr_t)c % 256, 0);
    assert_int_equal(host_live_allocations() - before, 4);

    d = host_realloc_array(d, 5000, 2);
    assert_string_equal(d, "mosaic");
    assert_int_equal(host_live_allocations() - before, 4);
    void *e = host_realloc_array(NULL, 3, 3);
    assert_int_equal(host_live_allocations() - before, 5);

    host_free(a);
    host_free(b);
    host_free_aligned(c);
    host_free(d);
    host_free(e);
    host_free(NULL);
    host_free_aligned(NULL);
    assert_int_equal(host_live_allocations(), before);
}

static void refuses_impossible_sizes(void **state)
{
    const int64_t before = host_live_allocations();
    (void)state;

    tsr_clear_error();
    assert_null(host_alloc(SIZE_MAX));
    assert_int_equal(tsr_last_status(), TSR_OUT_OF_MEMORY);
    assert_non_null(strstr(tsr_last_error(), "18446744073709551615"));
    tsr_clear_error();
    assert_null(host_alloc_zeroed(SIZE_MAX / 2, 3));
    assert_int_equal(tsr_last_status(), TSR_OUT_OF_MEMORY);
    assert_null(host_alloc_aligned(SIZE_MAX - 100, 64));

    char *kept = host_strdup("kept");
    tsr_clear_error();
    assert_null(host_realloc_array(kept, SIZE_MAX, 2));
    assert_int_equal(tsr_last_status(), TSR_OUT_OF_MEMORY);
    assert_null(host_realloc_array(kept, SIZE_MAX, 1));
    assert_string_equal(kept, "kept");
    host_free(kept);
    assert_int_equal(host_live_allocations(), before);
}

static void fails_on_demand(void **state)
{
    (void)state;
    host_alloc_fail_after(2);
    void *a = host_alloc(8), *b = host_alloc_zeroed(2, 2);
    void *c = host_alloc(8), *d = host_alloc_aligned(8, 8);
    char *e = host_strdup("x");
    void *f = host_realloc_array(a, 9, 9);
    host_alloc_fail_after(-1);

    assert_non_null(a);
    assert_non_null(b);
    assert_null(c);
    assert_null(d);
    assert_null(e);
    assert_null(f);
    assert_int_equal(tsr_last_status(), TSR_OUT_OF_MEMORY);
    host_free(a);
    host_free(b);

    a = host_alloc(8);
    assert_non_null(a);
    host_free(a);
}

static atomic_int successes;

static void allocate_often(void *context, size_t index, int worker)
{
    (void)context;
    (void)index;
    (void)worker;
    void *p = host_alloc(16);
    if (p != NULL)
        atomic_fetch_add(&successes, 1);
    host_free(p);
}

static void counts_across_threads(void **state)
{
    (void)state;
    thread_pool *pool = thread_pool_create(4);
    const int64_t before = host_live_allocations();

    host_alloc_fail_after(1000);
    thread_pool_run(pool, allocate_often, NULL, 5000);
    host_alloc_fail_after(-1);
    assert_int_equal(atomic_load(&successes), 1000);
    assert_int_equal(host_live_allocations(), before);
    thread_pool_destroy(pool);
}

static void arrays_grow_in_place_or_move_with_their_content(void **state)
{
    (void)state;
    size_t capacity = 0;
    int *items = NULL, moves = 0;
    for (int i = 0; i < 1000; i++) {
        const size_t before = capacity;
        int *grown = host_grown(items, (size_t)i, &capacity, sizeof *grown);
        assert_non_null(grown);
        assert_true(capacity > (size_t)i && capacity >= before);
        moves += capacity != before;
        items = grown;
        items[i] = i;
    }
    assert_true(moves < 12);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(items[i], i);
    /* A failure leaves the array as it was. */
    const size_t kept = capacity;
    assert_null(host_grown(items, SIZE_MAX / 4, &capacity, sizeof *items));
    assert_int_equal(tsr_last_status(), TSR_OUT_OF_MEMORY);
    assert_null(host_grown(items, SIZE_MAX, &capacity, sizeof *items));
    assert_int_equal(capacity, kept);
    assert_int_equal(items[999], 999);
    host_free(items);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arrays_grow_in_place_or_move_with_their_content),
        cmocka_unit_test(adds_and_multiplies),
        cmocka_unit_test(ranges_and_rounding),
        cmocka_unit_test(counts_what_lives),
        cmocka_unit_test(refuses_impossible_sizes),
        cmocka_unit_test(fails_on_demand),
        cmocka_unit_test(counts_across_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
