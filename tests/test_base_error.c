#include "unit.h"

#include "base/error.h"
#include "base/thread.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void starts_without_error(void **state)
{
    (void)state;
    tsr_clear_error();
    assert_string_equal(tsr_last_error(), "");
    assert_int_equal(tsr_last_status(), TSR_OK);
}

static void keeps_the_latest_failure(void **state)
{
    (void)state;
    assert_int_equal(fail(TSR_OUT_OF_RANGE, "axis %d of %s", 7, "x"), TSR_OUT_OF_RANGE);
    assert_string_equal(tsr_last_error(), "axis 7 of x");
    assert_int_equal(tsr_last_status(), TSR_OUT_OF_RANGE);
    fail(TSR_UNSUPPORTED, "no f64");
    assert_string_equal(tsr_last_error(), "no f64");
    tsr_clear_error();
    assert_string_equal(tsr_last_error(), "");
    assert_int_equal(tsr_last_status(), TSR_OK);
}

static void may_quote_itself(void **state)
{
    (void)state;
    fail(TSR_DRIVER_ERROR, "inner");
    fail(TSR_DRIVER_ERROR, "outer (%s)", tsr_last_error());
    assert_string_equal(tsr_last_error(), "outer (inner)");
}

static void prefixes(void **state)
{
    (void)state;
    fail(TSR_CORRUPT_DATA, "bad magic %x", 0x801u);
    assert_int_equal(fail_prefix("reading %s", "labels"), TSR_CORRUPT_DATA);
    assert_string_equal(tsr_last_error(), "reading labels: bad magic 801");
    assert_int_equal(tsr_last_status(), TSR_CORRUPT_DATA);
}

static void tells_errno(void **state)
{
    (void)state;
    errno = EACCES;
    assert_int_equal(fail_errno("cannot open %s", "f"), TSR_IO_ERROR);
    assert_int_equal(errno, EACCES);
    assert_string_equal(tsr_last_error(), "cannot open f: Permission denied");
    errno = ENOMEM;
    assert_int_equal(fail_errno("x"), TSR_OUT_OF_MEMORY);
}

static void cuts_long_messages(void **state)
{
    char long_text[3 * ERROR_MESSAGE_SIZE];
    (void)state;

    memset(long_text, 'a', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    fail(TSR_IO_ERROR, "%s", long_text);
    assert_int_equal(strlen(tsr_last_error()), ERROR_MESSAGE_SIZE - 1);
    assert_string_equal(tsr_last_error() + ERROR_MESSAGE_SIZE - 5, "a...");

    assert_int_equal(fail_prefix("short"), TSR_IO_ERROR);
    assert_int_equal(strlen(tsr_last_error()), ERROR_MESSAGE_SIZE - 1);
    assert_memory_equal(tsr_last_error(), "short: aaa", 10);
    assert_string_equal(tsr_last_error() + ERROR_MESSAGE_SIZE - 4, "...");

    fail_prefix("%s", long_text);
    assert_string_equal(tsr_last_error() + ERROR_MESSAGE_SIZE - 4, "...");

    /* Exactly full is not cut. */
    long_text[ERROR_MESSAGE_SIZE - 1] = '\0';
    fail(TSR_IO_ERROR, "%s", long_text);
    assert_string_equal(tsr_last_error(), long_text);
}

/* A cut must not leave half of a character, whatever the alignment. */
static void cuts_between_characters(void **state)
{
    (void)state;
    for (size_t shift = 0; shift < 3; shift++) {
        char long_text[2 * ERROR_MESSAGE_SIZE + 8];
        size_t length = 0;
        while (length < shift)
            long_text[length++] = 'x';
        while (length < 2 * ERROR_MESSAGE_SIZE) {
            memcpy(long_text + length, "\xE2\x82\xAC", 3); /* the euro sign */
            length += 3;
        }
        long_text[length] = '\0';
        fail(TSR_IO_ERROR, "%s", long_text);
        const size_t kept = strlen(tsr_last_error()) - 3;
        assert_int_equal((kept - shift) % 3, 0);
        assert_memory_equal(tsr_last_error(), long_text, kept);
        assert_true(kept > ERROR_MESSAGE_SIZE - 8);
    }
}

static void sets_aside(void **state)
{
    error_state before;
    (void)state;
    fail(TSR_NOT_FOUND, "first");
    error_save(&before);
    fail(TSR_IO_ERROR, "second");
    error_restore(&before);
    assert_string_equal(tsr_last_error(), "first");
    assert_int_equal(tsr_last_status(), TSR_NOT_FOUND);
}

static void *fail_elsewhere(void *seen)
{
    strcpy(seen, tsr_last_error());
    fail(TSR_DEVICE_LOST, "elsewhere");
    return NULL;
}

static void belongs_to_the_thread(void **state)
{
    thread other;
    char seen[64] = "unset";
    (void)state;
    fail(TSR_NOT_FOUND, "here");
    assert_int_equal(thread_start(&other, "other", fail_elsewhere, seen), TSR_OK);
    thread_join(&other);
    assert_string_equal(seen, "");
    assert_string_equal(tsr_last_error(), "here");
    assert_int_equal(tsr_last_status(), TSR_NOT_FOUND);
}

static void names_every_status(void **state)
{
    (void)state;
    assert_string_equal(tsr_status_name(TSR_OK), "TSR_OK");
    assert_string_equal(tsr_status_name(TSR_OUT_OF_DEVICE_MEMORY), "TSR_OUT_OF_DEVICE_MEMORY");
    for (int a = TSR_OK; a <= TSR_CORRUPT_DATA; a++) {
        assert_memory_equal(tsr_status_name((tsr_status)a), "TSR_", 4);
        assert_string_not_equal(tsr_status_name((tsr_status)a), "TSR_UNKNOWN_STATUS");
        for (int b = TSR_OK; b < a; b++)
            assert_string_not_equal(tsr_status_name((tsr_status)a), tsr_status_name((tsr_status)b));
    }
    assert_string_equal(tsr_status_name((tsr_status)99), "TSR_UNKNOWN_STATUS");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starts_without_error),
        cmocka_unit_test(keeps_the_latest_failure),
        cmocka_unit_test(may_quote_itself),
        cmocka_unit_test(prefixes),
        cmocka_unit_test(tells_errno),
        cmocka_unit_test(cuts_long_messages),
        cmocka_unit_test(cuts_between_characters),
        cmocka_unit_test(sets_aside),
        cmocka_unit_test(belongs_to_the_thread),
        cmocka_unit_test(names_every_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
