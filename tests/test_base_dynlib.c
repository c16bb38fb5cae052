#include "unit.h"

#include "base/dynlib.h"
#include "base/error.h"
#include "base/memory.h"

#include <string.h>

/* A library that is on every machine and has a function with a known result. */
static const char *const math_names[] = {"libdoes-not-exist.so.9", "libm.so.6", "libm.so", NULL};

static struct {
    double (*cos)(double);
    double (*missing)(double);
} api;

static void opens_the_first_that_loads(void **state)
{
    const int64_t before = host_live_allocations();
    (void)state;

    dynlib *lib = dynlib_open(math_names);
    assert_non_null(lib);
    assert_string_equal(dynlib_name(lib), "libm.so.6");
    assert_null(dynlib_symbol(lib, "no_such_function"));
    double (*cosine)(double) = (double (*)(double))dynlib_symbol(lib, "cos");
    assert_non_null(cosine);
    assert_true(cosine(0) == 1);
    dynlib_close(lib);
    dynlib_close(NULL);
    assert_int_equal(host_live_allocations(), before);
}

static void binds_a_table(void **state)
{
    const dynlib_entry optional[] = {{"cos", &api.cos, true}, {"no_such_function", &api.missing, false}};
    const dynlib_entry required[] = {{"cos", &api.cos, true}, {"no_such_function", &api.missing, true}};
    (void)state;

    dynlib *lib = dynlib_open(math_names);
    assert_non_null(lib);
    assert_int_equal(dynlib_bind(lib, optional, 2), TSR_OK);
    assert_non_null(api.cos);
    assert_null(api.missing);
    assert_true(api.cos(0) == 1);

    assert_int_equal(dynlib_bind(lib, required, 2), TSR_UNSUPPORTED);
    assert_null(api.cos);
    assert_null(api.missing);
    assert_non_null(strstr(tsr_last_error(), "libm.so.6"));
    assert_non_null(strstr(tsr_last_error(), "no_such_function"));
    dynlib_close(lib);
}

static void says_what_is_missing(void **state)
{
    const char *const absent[] = {"libnot-here.so.1", "libnot-here.so", NULL};
    const char *const no_library[] = {"/etc/passwd", NULL};
    const char *const none[] = {NULL};
    const int64_t before = host_live_allocations();
    (void)state;

    assert_null(dynlib_open(absent));
    assert_int_equal(tsr_last_status(), TSR_NOT_FOUND);
    assert_non_null(strstr(tsr_last_error(), "cannot open libnot-here.so.1 ("));
    assert_non_null(strstr(tsr_last_error(), "; libnot-here.so:"));
    assert_non_null(strstr(tsr_last_error(), "LD_LIBRARY_PATH"));
    assert_null(dynlib_open(no_library));
    assert_non_null(strstr(tsr_last_error(), "/etc/passwd"));
    assert_null(dynlib_open(none));
    assert_int_equal(tsr_last_status(), TSR_INVALID_ARGUMENT);
    assert_int_equal(host_live_allocations(), before);
}

static void runs_out_of_memory(void **state)
{
    const int64_t before = host_live_allocations();
    (void)state;
    for (int n = 0; n < 3; n++) {
        host_alloc_fail_after(n);
        tsr_clear_error();
        dynlib *lib = dynlib_open(math_names);
        host_alloc_fail_after(-1);
        assert_null(lib);
        assert_int_equal(tsr_last_status(), TSR_OUT_OF_MEMORY);
        assert_int_equal(host_live_allocations(), before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_the_first_that_loads),
        cmocka_unit_test(binds_a_table),
        cmocka_unit_test(says_what_is_missing),
        cmocka_unit_test(runs_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
