#include "progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "table.h"
#include "terminal.h"

enum { BAR_MAX = 40, BAR_MIN = 10, LABEL_COLUMNS = 10 };

static const double redraw_seconds = 0.1, line_seconds = 5.0;

void progress_begin(progress *p, const char *label, const char *unit)
{
    memset(p, 0, sizeof *p);
    p->label = label;
    p->phase = "";
    p->unit = unit;
    p->live = terminal_is(stderr);
    p->drawn = clock_seconds();
}

bool progress_due(const progress *p)
{
    return clock_seconds() - p->drawn >= (p->live ? redraw_seconds : line_seconds);
}

/* "loss 0.1234   2310 images/s   0:12 left" */
static void describe(const progress *p, double loss, double rate, double left, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    if (loss >= 0)
        used += (size_t)snprintf(out + used, size - used, "  loss %.4f", loss);
    if (rate >= 0 && used < size)
        used += (size_t)snprintf(out + used, size - used, "  %.0f %s", rate, p->unit);
    if (left >= 0 && used < size)
        snprintf(out + used, size - used, "  %s left", duration_text(left));
}

static void draw_bar(double part, int columns)
{
    const int halves = (int)(part * 2 * columns), filled = (halves + 1) / 2;
    fputs(terminal_style(stderr, STYLE_GOOD), stderr);
    for (int i = 0; i < columns; i++) {
        if (i == filled)
            fprintf(stderr, "%s%s", terminal_style(stderr, STYLE_NONE), terminal_style(stderr, STYLE_DIM));
        if (!terminal_utf8())
            fputc(i < filled ? '#' : '-', stderr);
        else
            fputs(i >= filled ? "─" : 2 * i + 1 < halves ? "━" : "╸", stderr);
    }
    fputs(terminal_style(stderr, STYLE_NONE), stderr);
}

static void draw_live(const progress *p, int64_t done, int64_t total, const char *text)
{
    char count[48];
    snprintf(count, sizeof count, "  %s%lld/%lld", p->phase, (long long)done, (long long)total);
    const int width = terminal_columns(stderr);
    const int room = width - 1 - LABEL_COLUMNS - (int)strlen(count) - (int)strlen(text);
    fprintf(stderr, "\r\033[K%-*.*s", LABEL_COLUMNS, width > LABEL_COLUMNS ? LABEL_COLUMNS : 0, p->label);
    if (room >= BAR_MIN)
        draw_bar(total > 0 ? (double)done / (double)total : 0, room < BAR_MAX ? room : BAR_MAX);
    fprintf(stderr, "%.*s", width - 1 - LABEL_COLUMNS > 0 ? width - 1 - LABEL_COLUMNS : 0, count);
    if (room >= 0)
        fputs(text, stderr);
    fflush(stderr);
}

void progress_show(progress *p, int64_t done, int64_t total, double loss, double rate, double seconds_left)
{
    char text[128];
    if (!progress_due(p))
        return;
    p->drawn = clock_seconds();
    describe(p, loss, rate, done < total ? seconds_left : -1, text, sizeof text);
    if (p->live) {
        draw_live(p, done, total, text);
        p->shown = true;
    } else {
        fprintf(stderr, "%s: %sstep %lld of %lld%s\n", p->label, p->phase, (long long)done, (long long)total, text);
    }
}

void progress_note(progress *p, const char *format, ...)
{
    va_list arguments;
    progress_end(p);
    fprintf(stderr, "%s: ", p->label);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

void progress_end(progress *p)
{
    if (p->shown)
        fputs("\r\033[K", stderr);
    p->shown = false;
}
