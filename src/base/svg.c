#include "base/svg.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"

static void append_escaped(text *t, const char *string)
{
    for (const char *c = string; *c != '\0'; c++)
        switch (*c) {
        case '&': text_append(t, "&amp;"); break;
        case '<': text_append(t, "&lt;"); break;
        case '>': text_append(t, "&gt;"); break;
        case '"': text_append(t, "&quot;"); break;
        default:
            if ((unsigned char)*c >= 0x20) /* XML has no control characters */
                text_append_char(t, *c);
        }
}

void svg_begin(svg *s, int width, int height, const char *title)
{
    text_appendf(&s->out,
                 "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" "
                 "font-family=\"Helvetica, Arial, sans-serif\">\n<title>",
                 width, height, width, height);
    append_escaped(&s->out, title);
    text_appendf(&s->out, "</title>\n<rect width=\"%d\" height=\"%d\" fill=\"#ffffff\"/>\n", width, height);
}

void svg_raw(svg *s, const char *format, ...)
{
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    text_append(&s->out, line);
}

void svg_text(svg *s, double x, double y, int size, svg_anchor anchor, const char *colour, const char *format, ...)
{
    static const char *const anchors[] = {"start", "middle", "end"};
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    text_appendf(&s->out, "<text x=\"%.1f\" y=\"%.1f\" font-size=\"%d\" text-anchor=\"%s\" fill=\"%s\">", x, y, size,
                 anchors[anchor], colour);
    append_escaped(&s->out, line);
    text_append(&s->out, "</text>\n");
}

void svg_line(svg *s, double x1, double y1, double x2, double y2, const char *colour, double width)
{
    svg_raw(s, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" stroke-width=\"%g\"/>\n", x1, y1,
            x2, y2, colour, width);
}

void svg_path_begin(svg *s)
{
    text_append(&s->out, "<path d=\"");
}

void svg_path_to(svg *s, double x, double y, bool *drawing)
{
    const bool there = isfinite(x) && isfinite(y);
    if (there)
        text_appendf(&s->out, "%c%.1f %.1f", *drawing ? 'L' : 'M', x, y);
    *drawing = there;
}

void svg_path_end(svg *s, const char *colour, double width, double opacity)
{
    svg_raw(s,
            "\" fill=\"none\" stroke=\"%s\" stroke-width=\"%g\" stroke-opacity=\"%g\" stroke-linejoin=\"round\" "
            "stroke-linecap=\"round\"/>\n",
            colour, width, opacity);
}

tsr_status svg_write(svg *s, const char *path)
{
    text_append(&s->out, "</svg>\n");
    const tsr_status status = s->out.failed ? fail(TSR_OUT_OF_MEMORY, "there is no memory to draw %s", path)
                                            : file_write_atomic(path, s->out.bytes, s->out.length);
    text_free(&s->out);
    *s = (svg){0};
    return status;
}

/* ---- axes ---- */

/* The least of 1, 2, 5, 10, … times a power of ten that is not below `least`. */
static double round_step(double least)
{
    const double power = pow(10, floor(log10(least)));
    static const double factors[] = {1, 2, 5};
    for (size_t i = 0; i < COUNT_OF(factors); i++)
        if (factors[i] * power >= least * (1 - 1e-9))
            return factors[i] * power;
    return 10 * power;
}

axis axis_over(double low, double high, double from, double to, int ticks, bool whole, bool outward)
{
    if (!isfinite(low) || !isfinite(high))
        low = 0, high = 1;
    if (high <= low)
        high = low + (low == 0 ? 1 : fabs(low) * 0.1);
    axis a = {.low = low, .high = high, .step = round_step((high - low) / ticks), .from = from, .to = to};
    if (whole && a.step < 1)
        a.step = 1;
    if (outward) {
        a.low = floor(low / a.step + 1e-9) * a.step;
        a.high = ceil(high / a.step - 1e-9) * a.step;
    }
    return a;
}

double axis_at(const axis *a, double value)
{
    return a->from + (value - a->low) / (a->high - a->low) * (a->to - a->from);
}

bool axis_tick(const axis *a, int i, double *value, char *label, size_t size)
{
    const double first = ceil(a->low / a->step - 1e-9);
    *value = (first + i) * a->step;
    if (*value > a->high + a->step * 1e-6)
        return false;
    if (fabs(*value) < a->step * 1e-6)
        *value = 0;
    const int decimals = a->step < 1 ? (int)ceil(-log10(a->step) - 1e-9) : 0;
    if (fabs(a->high) >= 1e7 || decimals > 6)
        snprintf(label, size, "%.3g", *value);
    else
        snprintf(label, size, "%.*f", decimals, *value);
    return true;
}
