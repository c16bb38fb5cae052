/* The picture of a recording: what was held after each event, stacked by owner, and what was reserved. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/compiler.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/svg.h"
#include "memory/blocks.h"
#include "memory/snapshot.h"

enum { WIDTH = 1220, HEIGHT = 600, LEFT = 76, RIGHT = 390, TOP = 66, BOTTOM = 56, PLOT = WIDTH - LEFT - RIGHT };
enum { LAYERS = 14, LINE = 20 }; /* the last layer is everything else */

static const char ink[] = "#222222", faint[] = "#e4e4e4", grey[] = "#666666";

/* One for each kind that is no operator's; then those of operators, the largest first. */
static const char *const kind_colours[] = {[TSR_MEMORY_OTHER] = "#8a8a8a",
                                           [TSR_MEMORY_PARAMETER] = "#34495e",
                                           [TSR_MEMORY_STATE] = "#7f93a8",
                                           [TSR_MEMORY_GRADIENT] = "#b03a2e",
                                           [TSR_MEMORY_DATA] = "#b7950b"};
static const char *const colours[] = {"#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c6bb1",
                                      "#66a61e", "#a6761d", "#e7298a", "#17becf", "#bcbd22", "#7f2f8f", "#5b8c5a"};

typedef struct layer {
    memory_label label;
    uint64_t most, at_peak;
    const char *colour;
} layer;

typedef struct timeline {
    const memory_history *recording;
    layer layers[LAYERS]; /* from the bottom up */
    int layer_count;
    int *layer_of; /* of each label */
    int columns;   /* of events; each shows the one after which most was held */
    uint64_t (*held)[LAYERS];
    uint64_t *total, *reserved; /* of each column */
    size_t peak;
    uint64_t peak_bytes, most_reserved;
    svg drawing;
    axis y;
    double unit;
} timeline;

/* ---- what is shown -------------------------------------------------------------------------------------------------- */

static int column_of(const timeline *t, size_t event)
{
    return (int)((uint64_t)event * (uint64_t)t->columns / t->recording->count);
}

/* Standing memory below, operators above it, those that held most first. */
static int by_place(const void *left, const void *right)
{
    const layer *x = left, *y = right;
    const bool stands_x = x->label.kind < TSR_MEMORY_FORWARD, stands_y = y->label.kind < TSR_MEMORY_FORWARD;
    if (stands_x != stands_y)
        return stands_x ? -1 : 1;
    if (stands_x && x->label.kind != y->label.kind)
        return x->label.kind < y->label.kind ? -1 : 1;
    return (x->most < y->most) - (x->most > y->most);
}

static int by_most(const void *left, const void *right)
{
    const layer *x = left, *y = right;
    return (x->most < y->most) - (x->most > y->most);
}

static bool same_label(memory_label x, memory_label y)
{
    return x.kind == y.kind && x.name == y.name;
}

/* The labels that ever held most get a layer. */
static bool choose_layers(timeline *t)
{
    const memory_history *r = t->recording;
    history_walk w;
    layer *all = host_alloc_zeroed(r->label_count + 1, sizeof *all);
    t->layer_of = host_alloc_zeroed(r->label_count + 1, sizeof *t->layer_of);
    if (all == NULL || t->layer_of == NULL || !history_walk_begin(&w, r)) {
        host_free(all);
        return false;
    }
    for (size_t i = 0; i < r->label_count; i++)
        all[i].label = r->labels[i];
    while (history_walk_next(&w)) {
        const memory_event *e = &r->events[w.next - 1];
        if (w.held[e->label] > all[e->label].most)
            all[e->label].most = w.held[e->label];
        if (w.reserved > t->most_reserved)
            t->most_reserved = w.reserved;
        if (w.next - 1 == t->peak)
            for (size_t i = 0; i < r->label_count; i++)
                all[i].at_peak = w.held[i];
    }
    history_walk_end(&w);
    qsort(all, r->label_count, sizeof *all, by_most);
    uint64_t rest = 0;
    size_t shown = 0, others = 0;
    for (size_t i = 0; i < r->label_count; i++) {
        if (all[i].most == 0)
            continue;
        if (shown < LAYERS - 1) {
            t->layers[shown++] = all[i];
        } else {
            rest += all[i].at_peak;
            others++;
        }
    }
    qsort(t->layers, shown, sizeof *t->layers, by_place);
    t->layers[shown] = (layer){.label = {"everything else", TSR_MEMORY_OTHER}, .at_peak = rest, .colour = "#c8c8c8"};
    t->layer_count = (int)shown + (others > 0);
    for (size_t i = 0, next = 0; i < shown; i++) {
        const tsr_memory_kind kind = t->layers[i].label.kind;
        t->layers[i].colour = kind < COUNT_OF(kind_colours) ? kind_colours[kind] : colours[next++ % COUNT_OF(colours)];
    }
    for (size_t i = 0; i < r->label_count; i++) {
        t->layer_of[i] = (int)shown;
        for (size_t k = 0; k < shown; k++)
            if (same_label(t->layers[k].label, r->labels[i]))
                t->layer_of[i] = (int)k;
    }
    host_free(all);
    return true;
}

static bool fill_columns(timeline *t)
{
    const memory_history *r = t->recording;
    history_walk w;
    t->columns = (int)(r->count < PLOT ? r->count : PLOT);
    t->held = host_alloc_zeroed((size_t)t->columns, sizeof *t->held);
    t->total = host_alloc_zeroed((size_t)t->columns, sizeof *t->total);
    t->reserved = host_alloc_zeroed((size_t)t->columns, sizeof *t->reserved);
    if (t->held == NULL || t->total == NULL || t->reserved == NULL || !history_walk_begin(&w, r))
        return false;
    while (history_walk_next(&w)) {
        const int c = column_of(t, w.next - 1);
        if (w.reserved > t->reserved[c])
            t->reserved[c] = w.reserved;
        if (w.bytes < t->total[c] || (w.bytes == t->total[c] && w.bytes > 0))
            continue;
        t->total[c] = w.bytes;
        memset(t->held[c], 0, sizeof t->held[c]);
        for (size_t i = 0; i < r->label_count; i++)
            t->held[c][t->layer_of[i]] += w.held[i];
    }
    history_walk_end(&w);
    return true;
}

/* ---- drawing -------------------------------------------------------------------------------------------------------- */

static double column_x(const timeline *t, int c)
{
    return LEFT + (double)c * PLOT / t->columns;
}

static double height_of(const timeline *t, uint64_t bytes)
{
    return axis_at(&t->y, (double)bytes / t->unit);
}

static void draw_axes(timeline *t, const char *device)
{
    svg *s = &t->drawing;
    const uint64_t most = t->most_reserved > t->peak_bytes ? t->most_reserved : t->peak_bytes;
    const char *unit = most >= (uint64_t)4 << 30 ? "GiB" : most >= (uint64_t)4 << 20 ? "MiB" : "KiB";
    char label[32];
    double value;
    t->unit = unit[0] == 'G' ? 1073741824.0 : unit[0] == 'M' ? 1048576.0 : 1024.0;
    t->y = axis_over(0, (double)most / t->unit, HEIGHT - BOTTOM, TOP, 7, false, true);
    svg_begin(s, WIDTH, HEIGHT, "Device memory by owner");
    for (int i = 0; axis_tick(&t->y, i, &value, label, sizeof label); i++) {
        const double y = axis_at(&t->y, value);
        svg_line(s, LEFT, y, LEFT + PLOT, y, faint, 1);
        svg_text(s, LEFT - 8, y + 4, 12, SVG_END, ink, "%s", label);
    }
    const axis x = axis_over(0, (double)t->recording->count, LEFT, LEFT + PLOT, 8, true, false);
    for (int i = 0; axis_tick(&x, i, &value, label, sizeof label); i++) {
        svg_line(s, axis_at(&x, value), HEIGHT - BOTTOM, axis_at(&x, value), HEIGHT - BOTTOM + 5, ink, 1);
        svg_text(s, axis_at(&x, value), HEIGHT - BOTTOM + 20, 12, SVG_MIDDLE, ink, "%s", label);
    }
    svg_text(s, LEFT + PLOT / 2.0, HEIGHT - 14, 13, SVG_MIDDLE, ink,
             "requests and releases of memory, one after the other");
    svg_raw(s, "<g transform=\"translate(20 %.1f) rotate(-90)\">", (TOP + HEIGHT - BOTTOM) / 2.0);
    svg_text(s, 0, 0, 13, SVG_MIDDLE, ink, "%s", unit);
    svg_raw(s, "</g>\n");
    svg_text(s, LEFT, 26, 15, SVG_START, ink, "Memory of %s by owner", device);
    svg_text(s, LEFT, 46, 12, SVG_START, grey,
             "peak %.1f MiB, reserved at most %.1f MiB; %zu events%s; dashed: reserved",
             (double)t->peak_bytes / 1048576.0, (double)t->most_reserved / 1048576.0, t->recording->count,
             t->recording->missed > 0 ? ", then full" : "");
}

static uint64_t stack_of(const timeline *t, int c, int layers)
{
    uint64_t sum = 0;
    for (int k = 0; k < layers; k++)
        sum += t->held[c][k];
    return sum;
}

/* The area between the sums of `from` and of from + 1 layers: along the upper edge and back along the lower one. */
static void draw_layer(timeline *t, int from)
{
    svg *s = &t->drawing;
    svg_raw(s, "<path d=\"M%.1f %.1f", column_x(t, 0), height_of(t, stack_of(t, 0, from)));
    for (int c = 0; c < t->columns; c++) {
        const double y = height_of(t, stack_of(t, c, from + 1));
        svg_raw(s, "L%.1f %.1fH%.1f", column_x(t, c), y, column_x(t, c + 1));
    }
    for (int c = t->columns - 1; c >= 0; c--) {
        const double y = height_of(t, stack_of(t, c, from));
        svg_raw(s, "L%.1f %.1fH%.1f", column_x(t, c + 1), y, column_x(t, c));
    }
    svg_raw(s, "Z\" fill=\"%s\"/>\n", t->layers[from].colour);
}

static void draw_reserved(timeline *t)
{
    svg *s = &t->drawing;
    svg_raw(s, "<path d=\"M%.1f %.1f", column_x(t, 0), height_of(t, t->reserved[0]));
    for (int c = 0; c < t->columns; c++)
        svg_raw(s, "V%.1fH%.1f", height_of(t, t->reserved[c]), column_x(t, c + 1));
    svg_raw(s, "\" fill=\"none\" stroke=\"%s\" stroke-width=\"1.4\" stroke-dasharray=\"5 3\"/>\n", ink);
}

static void draw_peak(timeline *t)
{
    svg *s = &t->drawing;
    const double x = (column_x(t, column_of(t, t->peak)) + column_x(t, column_of(t, t->peak) + 1)) / 2;
    const double y = height_of(t, t->peak_bytes);
    const bool left = x > LEFT + PLOT / 2.0;
    svg_line(s, x, y, x, HEIGHT - BOTTOM, "#000000", 1);
    svg_raw(s, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4.5\" fill=\"#ffffff\" stroke=\"#000000\" stroke-width=\"2\"/>\n",
            x, y);
    svg_raw(s, "<rect x=\"%.1f\" y=\"%.1f\" width=\"122\" height=\"18\" fill=\"#ffffff\" fill-opacity=\"0.85\"/>\n",
            left ? x - 132 : x + 10, y - 9);
    svg_text(s, left ? x - 14 : x + 14, y + 4, 12, left ? SVG_END : SVG_START, "#000000", "peak %.1f MiB",
             (double)t->peak_bytes / 1048576.0);
}

static void label_text(memory_label label, char *line, size_t size)
{
    static const char *const suffix[] = {
        [TSR_MEMORY_RECOMPUTE] = ", run again", [TSR_MEMORY_BACKWARD] = ", backward", [TSR_MEMORY_UPDATE] = ", step"};
    const char *end = label.kind < COUNT_OF(suffix) && suffix[label.kind] != NULL ? suffix[label.kind] : "";
    snprintf(line, size, "%s%s", label.name == NULL ? "the program's own" : label.name, end);
}

/* From the top of the stack down. */
static void draw_legend(timeline *t)
{
    svg *s = &t->drawing;
    const double left = LEFT + PLOT + 24, right = WIDTH - 20;
    double y = TOP + 4;
    char line[96];
    svg_text(s, left, y, 12, SVG_START, grey, "owner");
    svg_text(s, right, y, 12, SVG_END, grey, "MiB at the peak");
    for (int k = t->layer_count - 1; k >= 0; k--) {
        y += LINE;
        label_text(t->layers[k].label, line, sizeof line);
        svg_raw(s, "<rect x=\"%.1f\" y=\"%.1f\" width=\"14\" height=\"14\" fill=\"%s\"/>\n", left, y - 11,
                t->layers[k].colour);
        svg_text(s, left + 22, y, 12, SVG_START, ink, "%s", line);
        svg_text(s, right, y, 12, SVG_END, ink, "%.2f", (double)t->layers[k].at_peak / 1048576.0);
    }
}

static void draw(timeline *t, const char *device)
{
    draw_axes(t, device);
    for (int k = 0; k < t->layer_count; k++)
        draw_layer(t, k);
    draw_reserved(t);
    svg_line(&t->drawing, LEFT, HEIGHT - BOTTOM, LEFT + PLOT, HEIGHT - BOTTOM, ink, 1);
    svg_line(&t->drawing, LEFT, TOP, LEFT, HEIGHT - BOTTOM, ink, 1);
    draw_peak(t);
    draw_legend(t);
}

tsr_status snapshot_draw(allocator *a, const char *device, const char *path)
{
    timeline t = {0};
    bool drawn = false;
    mutex_lock(&a->lock);
    t.recording = a->recording;
    const bool any = t.recording != NULL && history_peak(t.recording, &t.peak, &t.peak_bytes);
    if (any && choose_layers(&t) && fill_columns(&t)) {
        draw(&t, device);
        drawn = true;
    }
    mutex_unlock(&a->lock);
    host_free(t.layer_of);
    host_free(t.held);
    host_free(t.total);
    host_free(t.reserved);
    if (!any)
        return fail(TSR_INVALID_ARGUMENT, "%s: there is nothing to draw: no memory of %s was recorded", path, device);
    return drawn ? svg_write(&t.drawing, path) : tsr_last_status();
}
