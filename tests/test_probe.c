/* What the probe says of each device is what docs/determinism.md promises. */
#include "tests/op_reference.h"

static void check_device(const run *r)
{
    tsr_arithmetic a;
    require_ok(r, tsr_device_probe(r->device, &a));
    assert_true(a.rounds_to_nearest);
    assert_false(a.contracts);
    assert_true(a.keeps_nan);
    assert_true(a.keeps_signed_zero);
    if (strncmp(r->name, "cpu", 3) == 0)
        assert_false(a.flushes_subnormals);
    tsr_device_info info;
    require_ok(r, tsr_device_describe(r->device, &info));
    assert_int_equal(a.rounds_f16, info.dtypes >> TSR_F16 & 1);
}

static void test_probe(void **state)
{
    (void)state;
    on_every_device(check_device);
}

static void test_errors(void **state)
{
    (void)state;
    tsr_arithmetic a;
    assert_int_equal(tsr_device_probe(NULL, &a), TSR_INVALID_ARGUMENT);
    assert_non_null(strstr(tsr_last_error(), "tsr_device_probe"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_probe),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
