/* Tables, widths and units as a person sees them. */
#include "unit.h"

#include "table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void counts_columns_of_utf8(void **state)
{
    static const struct {
        const char *string;
        int columns;
    } rows[] = {
        {"", 0},
        {"plain", 5},
        {"Größe", 5},
        {"e\xCC\x81", 1},                /* e and a combining accent */
        {"\xE6\xBC\xA2\xE5\xAD\x97", 4}, /* two wide ideographs */
        {"\xF0\x9F\x9A\x80", 2},         /* an emoji */
        {"a\xFFz", 3},                   /* a byte that is no UTF-8 */
        {"\xE6\xBC", 2},                 /* a character cut short */
        {"\xC0\xAF", 2},                 /* overlong */
        {"tab\tand\nline", 10},          /* control characters take no column */
        {"\xE2\x94\x81\xE2\x95\xB8", 2}, /* the bar */
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        assert_int_equal(text_columns(rows[i].string), rows[i].columns);
    assert_int_equal(text_fit("Größe", 3), 4);                    /* G, r, and two bytes of ö */
    assert_int_equal(text_fit("\xE6\xBC\xA2\xE5\xAD\x97", 3), 3); /* half a wide character is none */
    assert_int_equal(text_fit("e\xCC\x81x", 1), 3);
    assert_int_equal(text_fit("abc", 10), 3);
    assert_int_equal(text_fit("abc", 0), 0);
}

static void aligns_cells(void **state)
{
    char *printed = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&printed, &size);
    table t = {0};
    (void)state;
    table_column(&t, "NAME", ALIGN_LEFT, true);
    table_column(&t, "SPEED", ALIGN_RIGHT, false);
    table_column(&t, "", ALIGN_LEFT, false);
    table_row(&t, STYLE_NONE);
    table_cell(&t, "Größe");
    table_cell(&t, "%d", 7);
    table_cell(&t, "good");
    table_cell(&t, "one too many");
    table_row(&t, STYLE_BAD);
    table_cell(&t, "\xE6\xBC\xA2\xE5\xAD\x97");
    table_cell(&t, "%d", 123456);
    table_note(&t, "two\nlines  and spaces");
    table_row(&t, STYLE_NONE);
    table_cell(&t, "last");
    table_print(&t, out);
    fclose(out);
    assert_string_equal(printed, "NAME    SPEED\n"
                                 "Größe       7  good\n"
                                 "\xE6\xBC\xA2\xE5\xAD\x97   123456\n"
                                 "       two lines and spaces\n"
                                 "last\n");
    free(printed);
    table_free(&t);
    table_free(&t);
}

static void names_units(void **state)
{
    (void)state;
    assert_string_equal(bytes_text(0), "0 B");
    assert_string_equal(bytes_text(1023), "1023 B");
    assert_string_equal(bytes_text(1024), "1.0 KiB");
    assert_string_equal(bytes_text(1024 * 1024 - 1), "1.0 MiB"); /* never "1024.0 KiB" */
    assert_string_equal(bytes_text(1.5 * 1024 * 1024 * 1024), "1.5 GiB");
    assert_string_equal(duration_text(0), "0:00");
    assert_string_equal(duration_text(59.4), "0:59");
    assert_string_equal(duration_text(59.6), "1:00");
    assert_string_equal(duration_text(3599.7), "1:00:00");
    assert_string_equal(duration_text(7325), "2:02:05");
    assert_string_equal(duration_text(-1), "-:--");
    assert_string_equal(duration_text((double)NAN), "-:--");
    assert_string_equal(duration_text((double)INFINITY), "-:--");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_columns_of_utf8),
        cmocka_unit_test(aligns_cells),
        cmocka_unit_test(names_units),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
