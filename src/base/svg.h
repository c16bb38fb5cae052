/* Drawings as SVG, in pixels from the upper left corner; and axes, which turn values into pixels. */
#ifndef TESSERA_BASE_SVG_H
#define TESSERA_BASE_SVG_H

#include "base/compiler.h"
#include "base/text.h"
#include "tessera/status.h"

/* Zero-initialise it. Running out of memory shows in svg_write. */
typedef struct svg {
    text out;
} svg;

typedef enum svg_anchor { SVG_START, SVG_MIDDLE, SVG_END } svg_anchor;

/* A white sheet; `title` is for who cannot see it, and for a pointer that rests on it. */
void svg_begin(svg *s, int width, int height, const char *title);
/* Markup as it is. */
void svg_raw(svg *s, const char *format, ...) PRINTF_LIKE(2, 3);
/* Characters that mean something in SVG are escaped; bytes that are not UTF-8 must not come. */
void svg_text(svg *s, double x, double y, int size, svg_anchor anchor, const char *colour, const char *format, ...)
    PRINTF_LIKE(7, 8);
void svg_line(svg *s, double x1, double y1, double x2, double y2, const char *colour, double width);
/* A line through points: begin, points, end. A point that is not finite breaks it. */
void svg_path_begin(svg *s);
void svg_path_to(svg *s, double x, double y, bool *drawing);
void svg_path_end(svg *s, const char *colour, double width, double opacity);
/* Ends the drawing and writes it; the svg is empty afterwards. */
tsr_status svg_write(svg *s, const char *path);

/* Values from low to high on the pixels from `from` to `to`, with ticks at multiples of step, which is 1, 2 or 5 times a power of ten. */
typedef struct axis {
    double low, high, step;
    double from, to;
} axis;

/* Room for [low, high], rounded outward to ticks where `outward`; about `ticks` of them. whole: only whole numbers get one. */
axis axis_over(double low, double high, double from, double to, int ticks, bool whole, bool outward);
double axis_at(const axis *a, double value);
/* The i-th tick, from 0; false behind the last. The label is its number. */
bool axis_tick(const axis *a, int i, double *value, char *label, size_t size);

#endif
