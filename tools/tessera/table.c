#include "table.h"

#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"

enum { GAP = 2, SHRUNK_MIN = 8 };

void table_column(table *t, const char *title, align a, bool shrinks)
{
    if (t->columns == TABLE_COLUMNS_MAX)
        return;
    t->column[t->columns].title = title;
    t->column[t->columns].align = a;
    t->column[t->columns++].shrinks = shrinks;
}

static table_line *add_line(table *t)
{
    table_line *lines = host_grown(t->lines, t->count, &t->capacity, sizeof *lines);
    if (lines == NULL)
        return NULL;
    t->lines = lines;
    table_line *line = &t->lines[t->count++];
    memset(line, 0, sizeof *line);
    return line;
}

void table_row(table *t, style look)
{
    table_line *line = add_line(t);
    t->cell = line == NULL ? TABLE_COLUMNS_MAX : 0;
    if (line != NULL)
        line->look = look;
}

static PRINTF_LIKE(1, 0) char *format_text(const char *format, va_list arguments)
{
    char buffer[1024];
    vsnprintf(buffer, sizeof buffer, format, arguments);
    return host_strdup(buffer);
}

void table_cell(table *t, const char *format, ...)
{
    va_list arguments;
    if (t->cell >= t->columns)
        return;
    va_start(arguments, format);
    t->lines[t->count - 1].cells[t->cell++] = format_text(format, arguments);
    va_end(arguments);
}

void table_note(table *t, const char *format, ...)
{
    va_list arguments;
    table_line *line = add_line(t);
    if (line == NULL)
        return;
    line->look = STYLE_DIM;
    va_start(arguments, format);
    line->note = format_text(format, arguments);
    va_end(arguments);
}

static const char *cell_of(const table_line *line, int column)
{
    return line->cells[column] == NULL ? "" : line->cells[column];
}

static int max_columns(int a, int b)
{
    return a > b ? a : b;
}

/* The widest cell of each column; where all together are too wide the widest that may shrink gives way. */
static void measure(const table *t, int limit, int *widths)
{
    int total = -GAP;
    for (int c = 0; c < t->columns; c++) {
        widths[c] = text_columns(t->column[c].title);
        for (size_t i = 0; i < t->count; i++)
            widths[c] = max_columns(widths[c], text_columns(cell_of(&t->lines[i], c)));
        total += widths[c] + GAP;
    }
    while (limit > 0 && total > limit) {
        int widest = -1;
        for (int c = 0; c < t->columns; c++)
            if (t->column[c].shrinks && widths[c] > SHRUNK_MIN && (widest < 0 || widths[c] > widths[widest]))
                widest = c;
        if (widest < 0)
            return;
        widths[widest]--;
        total--;
    }
}

static void print_spaces(FILE *out, int n)
{
    fprintf(out, "%*s", n > 0 ? n : 0, "");
}

static void print_cell(const table *t, int column, const char *cell, int width, bool last, FILE *out)
{
    const int columns = text_columns(cell);
    if (columns > width) {
        const char *dots = terminal_utf8() ? "…" : "~";
        fprintf(out, "%.*s%s", (int)text_fit(cell, width - 1), cell, dots);
    } else if (t->column[column].align == ALIGN_RIGHT) {
        print_spaces(out, width - columns);
        fputs(cell, out);
    } else {
        fputs(cell, out);
        if (!last) /* no spaces at a line's end */
            print_spaces(out, width - columns);
    }
    if (!last)
        print_spaces(out, GAP);
}

/* Up to its last cell that has something. */
static void print_cells(const table *t, const char *const *cells, const int *widths, FILE *out)
{
    int count = t->columns;
    while (count > 0 && cells[count - 1][0] == '\0')
        count--;
    for (int c = 0; c < count; c++)
        print_cell(t, c, cells[c], widths[c], c == count - 1, out);
}

static void print_line(const table *t, const table_line *line, const int *widths, FILE *out)
{
    const char *cells[TABLE_COLUMNS_MAX];
    fputs(line->look != STYLE_NONE ? terminal_style(out, line->look) : "", out);
    for (int c = 0; c < t->columns; c++)
        cells[c] = cell_of(line, c);
    if (line->note != NULL) {
        print_wrapped(out, 0, widths[0] + GAP, line->note);
    } else {
        print_cells(t, cells, widths, out);
        fputc('\n', out);
    }
    fputs(line->look != STYLE_NONE ? terminal_style(out, STYLE_NONE) : "", out);
}

void table_print(const table *t, FILE *out)
{
    int widths[TABLE_COLUMNS_MAX];
    const char *titles[TABLE_COLUMNS_MAX];
    measure(t, terminal_columns(out), widths);
    for (int c = 0; c < t->columns; c++)
        titles[c] = t->column[c].title;
    fputs(terminal_style(out, STYLE_BOLD), out);
    print_cells(t, titles, widths, out);
    fprintf(out, "%s\n", terminal_style(out, STYLE_NONE));
    for (size_t i = 0; i < t->count; i++)
        print_line(t, &t->lines[i], widths, out);
}

void table_free(table *t)
{
    for (size_t i = 0; i < t->count; i++) {
        for (int c = 0; c < TABLE_COLUMNS_MAX; c++)
            host_free(t->lines[i].cells[c]);
        host_free(t->lines[i].note);
    }
    host_free(t->lines);
    memset(t, 0, sizeof *t);
}

void print_wrapped(FILE *out, int at, int indent, const char *string)
{
    const int limit = terminal_columns(out);
    bool first = true;
    print_spaces(out, indent - at);
    at = max_columns(at, indent);
    while (*string != '\0') {
        char word[512];
        const size_t length = strcspn(string, " \n");
        snprintf(word, sizeof word, "%.*s", (int)length, string);
        const int columns = text_columns(word);
        if (!first && limit > 0 && at + 1 + columns > limit) {
            fputc('\n', out);
            print_spaces(out, indent);
            at = indent;
            first = true;
        }
        at += fprintf(out, "%s%.*s", first ? "" : " ", (int)length, string) > 0 ? columns + !first : 0;
        first = false;
        string += length;
        string += strspn(string, " \n");
    }
    fputc('\n', out);
}

static char *next_buffer(size_t *size)
{
    static char buffers[8][32];
    static unsigned next;
    *size = sizeof buffers[0];
    return buffers[next++ % COUNT_OF(buffers)];
}

const char *bytes_text(double bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    size_t size, unit = 0;
    char *out = next_buffer(&size);
    for (; bytes >= 1023.95 && unit + 1 < COUNT_OF(units); unit++)
        bytes /= 1024;
    snprintf(out, size, unit == 0 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
    return out;
}

const char *duration_text(double seconds)
{
    size_t size;
    char *out = next_buffer(&size);
    if (!(seconds >= 0 && seconds < 1e8)) {
        snprintf(out, size, "-:--");
        return out;
    }
    const long s = (long)(seconds + 0.5);
    if (s >= 3600)
        snprintf(out, size, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(out, size, "%ld:%02ld", s / 60, s % 60);
    return out;
}
