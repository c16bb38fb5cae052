#include "unit.h"

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"

#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void check_document(json *j, const char *expected)
{
    const char *document;
    assert_int_equal(json_finish(j, &document), TSR_OK);
    assert_string_equal(document, expected);
    assert_int_equal(json_finish(j, &document), TSR_OK); /* again: no second newline */
    assert_string_equal(document, expected);
    json_free(j);
}

static void lays_out_a_document(void **state)
{
    json j = {0};
    (void)state;

    json_begin_object(&j);
    json_put_string(&j, "backend", "cpu");
    json_put_int(&j, "seed", -1);
    json_put_uint(&j, "bytes", UINT64_MAX);
    json_put_bool(&j, "software", true);
    json_put_null(&j, "uuid");
    json_put_double(&j, "accuracy", 0.98);
    json_put_float(&j, "loss", 2.3f);
    json_key(&j, "losses");
    json_begin_array(&j);
    json_double(&j, 0.5);
    json_begin_object(&j);
    json_end_object(&j);
    json_begin_array(&j);
    json_end_array(&j);
    json_end_array(&j);
    json_end_object(&j);
    check_document(&j, "{\n"
                       "  \"backend\": \"cpu\",\n"
                       "  \"seed\": -1,\n"
                       "  \"bytes\": 18446744073709551615,\n"
                       "  \"software\": true,\n"
                       "  \"uuid\": null,\n"
                       "  \"accuracy\": 0.98,\n"
                       "  \"loss\": 2.3,\n"
                       "  \"losses\": [\n"
                       "    0.5,\n"
                       "    {},\n"
                       "    []\n"
                       "  ]\n"
                       "}\n");

    json_int(&j, INT64_MIN);
    check_document(&j, "-9223372036854775808\n");
}

static void escapes(void **state)
{
    static const char *const rows[][2] = {
        {"a\"b\\c/d", "\"a\\\"b\\\\c/d\"\n"},
        {"\b\f\n\r\t\x01\x1f\x7f", "\"\\b\\f\\n\\r\\t\\u0001\\u001f\\u007f\"\n"},
        {"\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80", "\"\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80\"\n"},
        {"\xFF|\xC3|\xE2\x82", "\"\xEF\xBF\xBD|\xEF\xBF\xBD|\xEF\xBF\xBD\xEF\xBF\xBD\"\n"},
        /* overlong, surrogate, beyond U+10FFFF */
        {"\xC0\xAF", "\"\xEF\xBF\xBD\xEF\xBF\xBD\"\n"},
        {"\xED\xA0\x80", "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"\n"},
        {"\xF4\x90\x80\x80", "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"\n"},
        {"\xE0\x80\x80", "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"\n"},
        {"", "\"\"\n"},
        {NULL, "null\n"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        json j = {0};
        json_string(&j, rows[i][0]);
        check_document(&j, rows[i][1]);
    }
    json j = {0};
    json_begin_object(&j);
    json_put_null(&j, "a\nb");
    json_end_object(&j);
    check_document(&j, "{\n  \"a\\nb\": null\n}\n");
}

static void writes_the_shortest_number(void **state)
{
    static const struct {
        double value;
        const char *expected;
    } doubles[] = {
        {0, "0.0\n"},
        {-0.0, "-0.0\n"},
        {1, "1.0\n"},
        {0.1, "0.1\n"},
        {-2.5, "-2.5\n"},
        {1e21, "1e+21\n"},
        {1e-7, "1e-07\n"},
        {0.1 + 0.2, "0.30000000000000004\n"},
        {1e300, "1e+300\n"},
        {5e-324, "5e-324\n"},
        {123456789012345678.0, "1.2345678901234568e+17\n"},
        {DBL_MAX, "1.7976931348623157e+308\n"},
        {DBL_MIN, "2.2250738585072014e-308\n"},
        {NAN, "null\n"},
        {INFINITY, "null\n"},
        {-INFINITY, "null\n"},
    };
    static const struct {
        float value;
        const char *expected;
    } floats[] = {
        {0.1f, "0.1\n"},
        {2.302585f, "2.302585\n"},
        {16777216.0f, "16777216.0\n"},
        {1.0f / 3, "0.33333334\n"},
        {FLT_MAX, "3.4028235e+38\n"},
        {1e-45f, "1e-45\n"},
        {-0.0f, "-0.0\n"},
        {NAN, "null\n"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(doubles); i++) {
        json j = {0};
        json_double(&j, doubles[i].value);
        check_document(&j, doubles[i].expected);
    }
    for (size_t i = 0; i < COUNT_OF(floats); i++) {
        json j = {0};
        json_float(&j, floats[i].value);
        check_document(&j, floats[i].expected);
    }
}

static void numbers_read_back(void **state)
{
    uint64_t bits = 88172645463325252u;
    (void)state;
    for (int i = 0; i < 20000; i++) {
        const char *document;
        double value;
        json j = {0};
        bits ^= bits << 13; /* Marsaglia's xorshift64 */
        bits ^= bits >> 7;
        bits ^= bits << 17;
        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value))
            continue;
        json_double(&j, value);
        assert_int_equal(json_finish(&j, &document), TSR_OK);
        assert_true(strtod(document, NULL) == value);
        json_free(&j);

        const float narrow = (float)value;
        if (!isfinite(narrow))
            continue;
        json_float(&j, narrow);
        assert_int_equal(json_finish(&j, &document), TSR_OK);
        assert_true(strtof(document, NULL) == narrow);
        assert_true(strlen(document) <= 16);
        json_free(&j);
    }
}

/* A program that calls setlocale may have a decimal comma. The test makes such a locale where the means are there. */
static void ignores_the_locale(void **state)
{
    char folder[] = "/tmp/tessera-locale-XXXXXX", command[256];
    json j = {0};
    const char *document;
    (void)state;

    assert_non_null(mkdtemp(folder));
    snprintf(command, sizeof command, "localedef -i de_DE -f UTF-8 %s/de_DE.UTF-8 >/dev/null 2>&1", folder);
    const int made = system(command);
    setenv("LOCPATH", folder, 1);
    const char *chosen = made == 0 ? setlocale(LC_NUMERIC, "de_DE.UTF-8") : NULL;
    char printed[16];
    snprintf(printed, sizeof printed, "%.1f", 0.5);

    json_double(&j, -1234.5);
    const tsr_status status = json_finish(&j, &document);
    setlocale(LC_NUMERIC, "C");
    unsetenv("LOCPATH");
    snprintf(command, sizeof command, "rm -rf %s", folder);
    assert_int_equal(system(command), 0);

    assert_int_equal(status, TSR_OK);
    assert_string_equal(document, "-1234.5\n");
    json_free(&j);
    if (chosen == NULL) {
        print_message("skipped: localedef or its sources (package locales) are not installed\n");
        skip();
    }
    assert_string_equal(printed, "0,5");
}

static void value_without_key(json *j)
{
    json_begin_object(j);
    json_int(j, 1);
    json_end_object(j);
}

static void key_in_array(json *j)
{
    json_begin_array(j);
    json_put_int(j, "k", 1);
    json_end_array(j);
}

static void key_at_top(json *j)
{
    json_put_int(j, "k", 1);
}

static void wrong_end(json *j)
{
    json_begin_array(j);
    json_end_object(j);
}

static void lone_end(json *j)
{
    json_end_array(j);
}

static void no_end(json *j)
{
    json_begin_array(j);
}

static void key_without_value(json *j)
{
    json_begin_object(j);
    json_key(j, "k");
    json_end_object(j);
}

static void two_keys(json *j)
{
    json_begin_object(j);
    json_key(j, "k");
    json_put_int(j, "l", 1);
    json_end_object(j);
}

static void two_values(json *j)
{
    json_int(j, 1);
    json_int(j, 2);
}

static void nothing(json *j)
{
    (void)j;
}

static void too_deep(json *j)
{
    for (int i = 0; i <= JSON_DEPTH_MAX; i++)
        json_begin_array(j);
    for (int i = 0; i <= JSON_DEPTH_MAX; i++)
        json_end_array(j);
}

static void refuses_what_is_no_json(void **state)
{
    static void (*const rows[])(json *) = {value_without_key, key_in_array, key_at_top, wrong_end, lone_end, no_end,
                                           key_without_value, two_keys,     two_values, nothing,   too_deep};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        json j = {0};
        const char *document = NULL;
        rows[i](&j);
        assert_int_equal(json_finish(&j, &document), TSR_INVALID_ARGUMENT);
        assert_string_equal(document, "");
        json_free(&j);
    }
    json j = {0};
    for (int i = 0; i < JSON_DEPTH_MAX; i++)
        json_begin_array(&j);
    for (int i = 0; i < JSON_DEPTH_MAX; i++)
        json_end_array(&j);
    const char *document;
    assert_int_equal(json_finish(&j, &document), TSR_OK);
    json_free(&j);
}

static void writes_a_file_or_nothing(void **state)
{
    char path[] = "/tmp/tessera-json-XXXXXX";
    uint8_t *bytes;
    size_t size;
    json j = {0};
    (void)state;

    const int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    close(descriptor);

    json_begin_array(&j);
    assert_int_equal(json_write_file(&j, path), TSR_INVALID_ARGUMENT);
    assert_non_null(strstr(tsr_last_error(), path));
    json_free(&j);
    assert_int_equal(file_read_all(path, &bytes, &size, SIZE_MAX), TSR_OK);
    assert_int_equal(size, 0);
    host_free(bytes);

    json_bool(&j, false);
    assert_int_equal(json_write_file(&j, path), TSR_OK);
    assert_int_equal(json_write_file(&j, "/nowhere/at/all.json"), TSR_IO_ERROR);
    json_free(&j);
    assert_int_equal(file_read_all(path, &bytes, &size, SIZE_MAX), TSR_OK);
    assert_string_equal((char *)bytes, "false\n");
    host_free(bytes);
    unlink(path);
}

static void runs_out_of_memory(void **state)
{
    const int64_t before = host_live_allocations();
    (void)state;
    for (int n = 0; n < 3; n++) {
        json j = {0};
        const char *document;
        tsr_clear_error();
        host_alloc_fail_after(n);
        json_begin_array(&j);
        for (int i = 0; i < 100; i++)
            json_string(&j, "0123456789");
        json_end_array(&j);
        host_alloc_fail_after(-1);
        assert_int_equal(json_finish(&j, &document), TSR_OUT_OF_MEMORY);
        assert_string_equal(document, "");
        assert_int_equal(tsr_last_status(), TSR_OUT_OF_MEMORY);
        json_free(&j);
    }
    assert_int_equal(host_live_allocations(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lays_out_a_document),        cmocka_unit_test(escapes),
        cmocka_unit_test(writes_the_shortest_number), cmocka_unit_test(numbers_read_back),
        cmocka_unit_test(ignores_the_locale),         cmocka_unit_test(refuses_what_is_no_json),
        cmocka_unit_test(writes_a_file_or_nothing),   cmocka_unit_test(runs_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
