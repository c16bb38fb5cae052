#include "plot.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "base/svg.h"

enum {
    WIDTH = 900,
    HEIGHT = 540,
    LEFT = 70,
    RIGHT = 24,
    TOP = 62,
    BOTTOM = 56,
    LEGEND_LINE = 20,
    LEGEND_TEXT = 12,
    RINGS = 40
};

static const char ink[] = "#222222", faint[] = "#e4e4e4", grey[] = "#666666";

/* Okabe and Ito 2008: told apart by those who see colours otherwise too. Yellow is too light on white. */
static const char *const colours[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"};

static const char *colour_of(size_t run)
{
    return colours[run % COUNT_OF(colours)];
}

/* Devices agree, so their curves lie on each other: earlier ones show as a seam. */
static double width_of(size_t run, size_t count)
{
    return 2.2 + 2 * fmin(3, (double)(count - 1 - run));
}

typedef struct plot {
    svg drawing;
    axis x, y;
    const train_run *runs;
    size_t count;
} plot;

/* An exponential mean over about a fiftieth of the steps, without a bias to its start (as Adam's: Kingma and Ba 2015). */
typedef struct smoother {
    double decay, sum, weight;
} smoother;

static smoother smoother_over(int64_t steps)
{
    return (smoother){.decay = exp(-1.0 / fmax(1.0, (double)steps / 50))};
}

static double smooth(smoother *s, double loss)
{
    if (isfinite(loss)) {
        s->sum = s->decay * s->sum + (1 - s->decay) * loss;
        s->weight = s->decay * s->weight + (1 - s->decay);
    }
    return s->weight > 0 ? s->sum / s->weight : NAN;
}

static double last_smooth(const train_run *r)
{
    smoother s = smoother_over(r->steps);
    double value = NAN;
    for (int64_t i = 0; i < r->steps; i++)
        value = smooth(&s, (double)r->losses[i]);
    return value;
}

static bool tested(const train_run *r)
{
    return r->test_samples > 0 && isfinite(r->test_loss);
}

/* ---- axes ---- */

static void hold(double *low, double *high, double loss)
{
    if (isfinite(loss)) {
        *low = fmin(*low, loss);
        *high = fmax(*high, loss);
    }
}

static void fit_axes(plot *p)
{
    double low = INFINITY, high = -INFINITY, steps = 1;
    for (size_t k = 0; k < p->count; k++) {
        const train_run *r = &p->runs[k];
        for (int64_t i = 0; i < r->steps; i++)
            hold(&low, &high, (double)r->losses[i]);
        for (size_t i = 0; i < r->evaluation_count; i++)
            hold(&low, &high, r->evaluations[i].loss);
        if (tested(r))
            hold(&low, &high, r->test_loss);
        steps = fmax(steps, (double)r->steps);
    }
    if (low > 0 && low < 0.3 * high) /* from 0 if that costs little */
        low = 0;
    p->x = axis_over(0, steps, LEFT, WIDTH - RIGHT, 8, true, false);
    p->y = axis_over(low, high, HEIGHT - BOTTOM, TOP, 6, false, true);
}

static void draw_axes(plot *p, const char *title, const char *settings)
{
    svg *s = &p->drawing;
    char label[32];
    double value;
    for (int i = 0; axis_tick(&p->y, i, &value, label, sizeof label); i++) {
        const double y = axis_at(&p->y, value);
        svg_line(s, LEFT, y, WIDTH - RIGHT, y, faint, 1);
        svg_text(s, LEFT - 8, y + 4, 12, SVG_END, ink, "%s", label);
    }
    for (int i = 0; axis_tick(&p->x, i, &value, label, sizeof label); i++) {
        const double x = axis_at(&p->x, value);
        svg_line(s, x, HEIGHT - BOTTOM, x, HEIGHT - BOTTOM + 5, ink, 1);
        svg_text(s, x, HEIGHT - BOTTOM + 20, 12, SVG_MIDDLE, ink, "%s", label);
    }
    svg_line(s, LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, ink, 1);
    svg_line(s, LEFT, TOP, LEFT, HEIGHT - BOTTOM, ink, 1);
    svg_text(s, (LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 14, 13, SVG_MIDDLE, ink, "training step");
    svg_raw(s, "<g transform=\"translate(20 %.1f) rotate(-90)\">", (TOP + HEIGHT - BOTTOM) / 2.0);
    svg_text(s, 0, 0, 13, SVG_MIDDLE, ink, "loss");
    svg_raw(s, "</g>\n");
    svg_text(s, LEFT, 26, 15, SVG_START, ink, "%s", title);
    svg_text(s, LEFT, 44, 12, SVG_START, grey, "%s", settings);
}

/* ---- curves ---- */

/* As they came; where several steps fall on one pixel, from the least to the largest of them. */
static void draw_raw(plot *p, const train_run *r, const char *colour)
{
    const int64_t columns = WIDTH - LEFT - RIGHT, group = r->steps / columns + 1;
    bool drawing = false;
    svg_path_begin(&p->drawing);
    for (int64_t i = 0; i < r->steps; i += group) {
        double low = NAN, high = NAN;
        for (int64_t k = i; k < min_i64(i + group, r->steps); k++) {
            low = fmin(low, (double)r->losses[k]); /* of a NaN and a number, the number */
            high = fmax(high, (double)r->losses[k]);
        }
        const double x = axis_at(&p->x, (double)i + 1);
        if (group > 1)
            svg_path_to(&p->drawing, x, axis_at(&p->y, low), &drawing);
        svg_path_to(&p->drawing, x, axis_at(&p->y, high), &drawing);
    }
    svg_path_end(&p->drawing, colour, 1, 0.3);
}

static void draw_smooth(plot *p, const train_run *r, const char *colour, double width)
{
    const int64_t group = r->steps / (WIDTH - LEFT - RIGHT) + 1;
    smoother s = smoother_over(r->steps);
    bool drawing = false;
    svg_path_begin(&p->drawing);
    for (int64_t i = 0; i < r->steps; i++) {
        const double loss = smooth(&s, (double)r->losses[i]);
        if (i % group == 0 || i == r->steps - 1)
            svg_path_to(&p->drawing, axis_at(&p->x, (double)i + 1), axis_at(&p->y, loss), &drawing);
    }
    svg_path_end(&p->drawing, colour, width, 1);
}

static void draw_ring(plot *p, int64_t step, double loss, double radius, const char *colour)
{
    if (isfinite(loss))
        svg_raw(&p->drawing,
                "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%g\" fill=\"#ffffff\" stroke=\"%s\" stroke-width=\"%g\"/>\n",
                axis_at(&p->x, (double)step), axis_at(&p->y, loss), radius, colour, 0.3 * radius + 0.7);
}

/* Dashed through all of them, with a ring at some: where the two losses are one, only these are to be seen. */
static void draw_evaluations(plot *p, const train_run *r, const char *colour)
{
    const size_t count = r->evaluation_count, group = count / (WIDTH - LEFT - RIGHT) + 1, apart = count / RINGS + 1;
    bool drawing = false;
    if (count == 0)
        return;
    svg_raw(&p->drawing, "<g stroke-dasharray=\"5 5\">");
    svg_path_begin(&p->drawing);
    for (size_t i = 0; i < count; i++)
        if (i % group == 0 || i == count - 1)
            svg_path_to(&p->drawing, axis_at(&p->x, (double)r->evaluations[i].step),
                        axis_at(&p->y, r->evaluations[i].loss), &drawing);
    svg_path_end(&p->drawing, colour, 1.6, 1);
    svg_raw(&p->drawing, "</g>\n");
    for (size_t i = 0; i < count; i += apart)
        draw_ring(p, r->evaluations[i].step, r->evaluations[i].loss, 3, colour);
}

static void draw_test(plot *p, const train_run *r, const char *colour)
{
    draw_evaluations(p, r, colour);
    if (tested(r))
        draw_ring(p, r->steps, r->test_loss, 5, colour);
}

/* ---- who is who: in the upper right corner, which curves that fall leave free ---- */

static const char legend_note[] = "thin: each step; thick: smoothed; ring: the test",
                  legend_note_evaluated[] =
                      "thin: each step; thick: smoothed; dashed: test on the way; large ring: at the end";

static void legend_text(const train_run *r, char *line, size_t size)
{
    char accuracy[48] = "", test[96] = "";
    if (tested(r) && isfinite(r->test_accuracy))
        snprintf(accuracy, sizeof accuracy, ", %.2f %% right", 100 * r->test_accuracy);
    if (tested(r))
        snprintf(test, sizeof test, "; test %.4g%s", r->test_loss, accuracy);
    snprintf(line, size, "%s: loss %.4g at step %lld%s", r->device.id, last_smooth(r), (long long)r->steps, test);
}

static void draw_legend(plot *p)
{
    const char *note = legend_note;
    for (size_t k = 0; k < p->count; k++)
        note = p->runs[k].evaluation_count > 0 ? legend_note_evaluated : note;
    size_t shown = 0, longest = strlen(note);
    char line[256];
    for (size_t k = 0; k < p->count; k++)
        if (p->runs[k].steps > 0 && p->runs[k].losses != NULL) {
            legend_text(&p->runs[k], line, sizeof line);
            longest = max_size(longest, strlen(line));
            shown++;
        }
    const double width = 6.4 * (double)longest + 64, left = WIDTH - RIGHT - 8 - width;
    svg_raw(&p->drawing,
            "<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%zu\" fill=\"#ffffff\" fill-opacity=\"0.85\" "
            "stroke=\"%s\"/>\n",
            left, TOP + 6, width, (shown + 1) * LEGEND_LINE + 10, faint);
    double y = TOP + 24;
    for (size_t k = 0; k < p->count; k++) {
        if (p->runs[k].steps == 0 || p->runs[k].losses == NULL)
            continue;
        legend_text(&p->runs[k], line, sizeof line);
        svg_line(&p->drawing, left + 10, y - 4, left + 36, y - 4, colour_of(k), width_of(k, p->count));
        svg_text(&p->drawing, left + 46, y, LEGEND_TEXT, SVG_START, ink, "%s", line);
        y += LEGEND_LINE;
    }
    svg_text(&p->drawing, left + 46, y, LEGEND_TEXT, SVG_START, grey, "%s", note);
}

tsr_status plot_losses(const char *path, const char *title, const char *settings, const train_run *runs, size_t count)
{
    plot p = {.runs = runs, .count = count};
    fit_axes(&p);
    svg_begin(&p.drawing, WIDTH, HEIGHT, title);
    draw_axes(&p, title, settings);
    for (size_t k = 0; k < count; k++)
        if (runs[k].losses != NULL)
            draw_raw(&p, &runs[k], colour_of(k));
    for (size_t k = 0; k < count; k++)
        if (runs[k].losses != NULL) {
            draw_smooth(&p, &runs[k], colour_of(k), width_of(k, count));
            draw_test(&p, &runs[k], colour_of(k));
        }
    draw_legend(&p);
    return svg_write(&p.drawing, path);
}
