#include "unit.h"

#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>

static void grows(void **state)
{
    text t = {0};
    char expected[8001] = "";
    (void)state;

    assert_string_equal(text_string(&t), "");
    for (int i = 0; i < 2000; i++) {
        assert_true(text_appendf(&t, "%03d,", i % 1000));
        memcpy(expected + 4 * (size_t)i,
               (char[]){(char)('0' + i / 100 % 10), (char)('0' + i / 10 % 10), (char)('0' + i % 10), ','}, 4);
    }
    assert_int_equal(t.length, 8000);
    assert_string_equal(text_string(&t), expected);
    text_free(&t);
    assert_string_equal(text_string(&t), "");

    assert_true(text_append(&t, "a"));
    assert_true(text_append_char(&t, 'b'));
    assert_true(text_append_bytes(&t, "cde", 2));
    assert_true(text_append_bytes(&t, NULL, 0));
    assert_string_equal(text_string(&t), "abcd");

    char *taken = text_take(&t);
    assert_string_equal(taken, "abcd");
    host_free(taken);
    assert_string_equal(text_string(&t), "");
    taken = text_take(&t);
    assert_string_equal(taken, "");
    host_free(taken);
}

static void fails_once_and_for_all(void **state)
{
    const int64_t before = host_live_allocations();
    text t = {0};
    (void)state;

    assert_true(text_append(&t, "kept"));
    tsr_clear_error();
    host_alloc_fail_after(0);
    assert_false(text_appendf(&t, "%0500d", 1));
    host_alloc_fail_after(-1);
    assert_int_equal(tsr_last_status(), TSR_OUT_OF_MEMORY);
    assert_true(t.failed);
    assert_false(text_append(&t, "x"));
    assert_string_equal(text_string(&t), "kept");
    assert_null(text_take(&t));
    assert_false(t.failed);
    assert_int_equal(host_live_allocations(), before);
}

static void measures_distance(void **state)
{
    static const struct {
        const char *a, *b;
        size_t expected;
    } rows[] = {
        {"", "", 0},
        {"", "abc", 3},
        {"cuda", "cuda", 0},
        {"vulcan", "vulkan", 1},
        {"cuad", "cuda", 1},
        {"opncl", "opencl", 1},
        {"kitten", "sitting", 3},
        {"ca", "abc", 3},
        {"CPU", "cpu", 3},
        {"sunday", "saturday", 3},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        assert_int_equal(edit_distance(rows[i].a, rows[i].b), rows[i].expected);
        assert_int_equal(edit_distance(rows[i].b, rows[i].a), rows[i].expected);
    }

    char long_a[200], long_b[200];
    memset(long_a, 'a', sizeof long_a);
    memset(long_b, 'b', sizeof long_b);
    long_a[199] = long_b[199] = '\0';
    assert_int_equal(edit_distance(long_a, long_b), 63);
}

static void finds_the_nearest(void **state)
{
    static const char *const devices[] = {"cpu", "opencl", "vulkan", "cuda"};
    (void)state;
    assert_string_equal(nearest_word("vulcan", devices, 4), "vulkan");
    assert_string_equal(nearest_word("cudda", devices, 4), "cuda");
    assert_string_equal(nearest_word("OpenGL", devices, 4), "opencl");
    assert_string_equal(nearest_word("CPU", devices, 4), "cpu");
    assert_string_equal(nearest_word("cpi", devices, 4), "cpu");
    assert_null(nearest_word("metal", devices, 4));
    assert_null(nearest_word("", devices, 4));
    assert_null(nearest_word("cpu", devices, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grows),
        cmocka_unit_test(fails_once_and_for_all),
        cmocka_unit_test(measures_distance),
        cmocka_unit_test(finds_the_nearest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
