/* Drawings: ticks are round numbers, text is escaped, curves stay on the sheet whatever the losses are. */
#include "tests/unit.h"

#include "base/svg.h"
#include "io_files.h"
#include "plot.h"

#include <math.h>

static char drawing[1 << 22];

static size_t read_drawing(const char *path)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    const size_t size = fread(drawing, 1, sizeof drawing - 1, f);
    fclose(f);
    drawing[size] = '\0';
    return size;
}

/* Between 3 and 12 ticks, at multiples of 1, 2 or 5 times a power of ten, inside the axis, with labels that say what they are. */
static void ticks_of(double low, double high, bool whole)
{
    const axis a = axis_over(low, high, 100, 900, 7, whole, true);
    char label[32];
    double value, last = -INFINITY;
    int count = 0;
    assert_true(a.low <= low && a.high >= high);
    const double mantissa = a.step / pow(10, floor(log10(a.step) + 1e-9));
    assert_true(fabs(mantissa - 1) < 1e-6 || fabs(mantissa - 2) < 1e-6 || fabs(mantissa - 5) < 1e-6);
    assert_true(!whole || a.step >= 1);
    for (; axis_tick(&a, count, &value, label, sizeof label); count++) {
        const double at = axis_at(&a, value);
        assert_true(at > 100 - 1e-6 && at < 900 + 1e-6);
        assert_true(value > last);
        assert_true(fabs(strtod(label, NULL) - value) <= 0.01 * a.step + 1e-6 * fabs(value));
        last = value;
    }
    assert_true(count >= 2 && count <= 12);
}

static void axes(void **state)
{
    (void)state;
    static const double ends[][2] = {{0, 1},       {0, 2.303},   {0.0712, 0.0731}, {3.5, 11.2}, {-3, 4},
                                     {0, 1234567}, {1e-4, 2e-4}, {5, 5},           {0, 0},      {-7, -7}};
    for (size_t i = 0; i < COUNT_OF(ends); i++)
        ticks_of(ends[i][0], ends[i][1], false);
    ticks_of(0, 1, true);
    ticks_of(0, 20000, true);
    const axis none = axis_over(INFINITY, -INFINITY, 0, 100, 5, false, true);
    assert_true(none.low == 0 && none.high == 1);
}

static void escaped(void **state)
{
    (void)state;
    const char *path = path_in_folder("text.svg");
    svg s = {0};
    svg_begin(&s, 100, 50, "a < b & \"c\"");
    svg_text(&s, 1, 2, 12, SVG_END, "#000000", "%d > 1\n", 2);
    assert_int_equal(svg_write(&s, path), TSR_OK);
    read_drawing(path);
    assert_non_null(strstr(drawing, "<title>a &lt; b &amp; &quot;c&quot;</title>"));
    assert_non_null(strstr(drawing, ">2 &gt; 1</text>"));
    assert_non_null(strstr(drawing, "fill=\"#ffffff\"")); /* white */
    svg_begin(&s, 1, 1, "");
    assert_int_equal(svg_write(&s, path_in_folder("no/such/folder")), TSR_IO_ERROR);
}

/* Every point of a path lies on the sheet, and is a number. */
static int check_paths(void)
{
    int points = 0;
    for (const char *d = drawing; (d = strstr(d, "<path d=\"")) != NULL;) {
        d += strlen("<path d=\"");
        while (*d == 'M' || *d == 'L') {
            char *end;
            const double x = strtod(d + 1, &end), y = strtod(end, &end);
            assert_true(x >= 0 && x <= 900 && y >= 0 && y <= 540);
            points++;
            d = end;
        }
        assert_true(*d == '"');
    }
    return points;
}

static int occurrences(const char *word)
{
    int count = 0;
    for (const char *at = drawing; (at = strstr(at, word)) != NULL; at++)
        count++;
    return count;
}

static void curves(void **state)
{
    (void)state;
    enum { LONG = 300000, EVALUATIONS = 3000, EVERY = LONG / EVALUATIONS };
    static float falls[LONG], odd[6] = {NAN, 2, INFINITY, 1, -INFINITY, 0.5f}, never[3] = {NAN, NAN, NAN};
    static train_evaluation often[EVALUATIONS], seldom[] = {{.step = 2, .loss = 1.5}, {.step = 4, .loss = NAN}};
    const char *path = path_in_folder("curves.svg");
    for (int i = 0; i < LONG; i++)
        falls[i] = (float)(8 * exp(-i / 5e4) + 0.2 * (i % 7));
    for (int i = 0; i < EVALUATIONS; i++)
        often[i] = (train_evaluation){.step = (i + 1) * EVERY, .samples = 10, .loss = 10.5 + 0.1 * (i % 3)};
    train_run runs[4] = {
        {.steps = LONG, .losses = falls, .test_samples = 10, .test_loss = 9.5, .test_accuracy = 0.5},
        {.steps = 6, .losses = odd, .test_samples = 10, .test_loss = NAN, .test_accuracy = NAN},
        {.steps = 3, .losses = never},
        {.end = TRAIN_FAILED},
    };
    for (int i = 0; i < 4; i++)
        snprintf(runs[i].device.id, sizeof runs[i].device.id, "dev:%d", i);

    assert_int_equal(plot_losses(path, "one & all", "settings", runs, 4), TSR_OK);
    const size_t size = read_drawing(path);
    assert_true(size < 100000); /* however many steps */
    assert_true(check_paths() > 800);
    assert_non_null(strstr(drawing, "one &amp; all"));
    assert_non_null(strstr(drawing, "dev:0: loss"));
    assert_non_null(strstr(drawing, "test 9.5, 50.00 % right"));
    assert_null(strstr(drawing, "dev:3"));

    /* Tests on the way: a dashed curve more, and a ring at some of them; at the end there was one already. */
    assert_null(strstr(drawing, "dash"));
    const int before = check_paths(), rings = occurrences("<circle");
    assert_int_equal(rings, 1);
    runs[0].evaluations = often, runs[0].evaluation_count = EVALUATIONS;
    runs[1].evaluations = seldom, runs[1].evaluation_count = 2;
    assert_int_equal(plot_losses(path, "one", "settings", runs, 4), TSR_OK);
    assert_true(read_drawing(path) < 100000);
    assert_int_equal(occurrences("stroke-dasharray"), 2);
    assert_non_null(strstr(drawing, "dashed: "));
    assert_true(check_paths() > before + 500);
    assert_true(occurrences("<circle") > rings + 30 && occurrences("<circle") < rings + 50);
    runs[0].evaluation_count = runs[1].evaluation_count = 0;

    /* A curve of one step, and none at all. */
    for (int count = 0; count < 2; count++) {
        runs[0].steps = 1;
        assert_int_equal(plot_losses(path, "few", "", runs, (size_t)count), TSR_OK);
        read_drawing(path);
        assert_int_equal(check_paths(), 2 * count);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(axes),
        cmocka_unit_test(escaped),
        cmocka_unit_test(curves),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
