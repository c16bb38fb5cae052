/* The public functions of memory.h, on the CPU device. */
#include "unit.h"

#include "tessera/tessera.h"

#include <string.h>

#define MIB (INT64_C(1) << 20)

static tsr_device *device;

static int setup(void **state)
{
    (void)state;
    device = tsr_device_open("cpu");
    return device != NULL ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    tsr_device_close(device);
    return 0;
}

static tsr_memory_statistics now(void)
{
    tsr_memory_statistics s;
    assert_int_equal(tsr_memory_stats(device, &s), TSR_OK);
    return s;
}

static void tensors_are_counted(void **state)
{
    (void)state;
    const tsr_memory_statistics before = now();
    const int64_t shape[] = {3, MIB};
    tsr_tensor *x = tsr_empty(device, TSR_F32, 2, shape);
    assert_non_null(x);
    tsr_memory_statistics s = now();
    assert_int_equal(s.allocated_bytes - before.allocated_bytes, 12 * MIB);
    assert_true(s.reserved_bytes >= s.allocated_bytes);
    assert_true(s.peak_allocated_bytes >= s.allocated_bytes);
    assert_int_equal(s.blocks_in_use - before.blocks_in_use, 1);

    tsr_tensor *view = tsr_retain(x); /* no memory of its own */
    assert_int_equal(now().allocated_bytes, s.allocated_bytes);
    tsr_release(view);
    tsr_release(x);
    s = now();
    assert_int_equal(s.allocated_bytes, before.allocated_bytes);
    assert_true(s.reserved_bytes >= 12 * MIB); /* kept */
    assert_true(s.largest_free_bytes >= 12 * MIB);

    const uint64_t driver = s.driver_allocations, hits = s.cache_hits;
    for (int i = 0; i < 20; i++) {
        x = tsr_empty(device, TSR_F32, 2, shape);
        tsr_release(x);
    }
    assert_int_equal(now().driver_allocations, driver);
    assert_int_equal(now().cache_hits, hits + 20);

    assert_int_equal(tsr_memory_trim(device), TSR_OK);
    s = now();
    assert_true(s.largest_free_bytes < 12 * MIB);
    assert_true(s.driver_frees > 0);
    assert_int_equal(tsr_memory_reset_peaks(device), TSR_OK);
    assert_int_equal(now().peak_allocated_bytes, now().allocated_bytes);
}

static void a_limit_is_kept(void **state)
{
    (void)state;
    const int64_t small[] = {MIB}, large[] = {16 * MIB};
    assert_int_equal(tsr_memory_trim(device), TSR_OK);
    const uint64_t held = now().reserved_bytes;
    assert_int_equal(tsr_memory_limit(device, held + 40 * MIB), TSR_OK);
    assert_int_equal(now().limit_bytes, held + 40 * MIB);
    tsr_tensor *x = tsr_empty(device, TSR_F32, 1, small);
    assert_non_null(x);
    assert_null(tsr_empty(device, TSR_F32, 1, large));
    assert_int_equal(tsr_last_status(), TSR_OUT_OF_DEVICE_MEMORY);
    assert_non_null(strstr(tsr_last_error(), "cpu:0 has no room for 67108864 bytes"));
    assert_non_null(strstr(tsr_last_error(), "limit"));

    assert_int_equal(tsr_memory_limit(device, 0), TSR_OK);
    tsr_tensor *y = tsr_empty(device, TSR_F32, 1, large);
    assert_non_null(y);
    tsr_release(x);
    tsr_release(y);
}

static void refuses_null(void **state)
{
    (void)state;
    tsr_memory_statistics s;
    assert_int_equal(tsr_memory_stats(NULL, &s), TSR_INVALID_ARGUMENT);
    assert_int_equal(tsr_memory_stats(device, NULL), TSR_INVALID_ARGUMENT);
    assert_int_equal(tsr_memory_trim(NULL), TSR_INVALID_ARGUMENT);
    assert_int_equal(tsr_memory_limit(NULL, 1), TSR_INVALID_ARGUMENT);
    assert_int_equal(tsr_memory_reset_peaks(NULL), TSR_INVALID_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(tensors_are_counted, setup, teardown),
        cmocka_unit_test_setup_teardown(a_limit_is_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_null, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
