/* Tables for people: aligned columns, cut to the terminal's width. */
#ifndef TESSERA_TABLE_H
#define TESSERA_TABLE_H

#include <stdio.h>

#include "base/compiler.h"
#include "terminal.h"

enum { TABLE_COLUMNS_MAX = 12 };

typedef enum align { ALIGN_LEFT, ALIGN_RIGHT } align;

typedef struct table_line {
    char *cells[TABLE_COLUMNS_MAX];
    char *note; /* instead of cells: a line of text under the second column */
    style look;
} table_line;

/* Zero-initialise it; after want of memory it prints what it has. */
typedef struct table {
    int columns, cell;
    struct {
        const char *title;
        align align;
        bool shrinks; /* gives way where the terminal is narrow */
    } column[TABLE_COLUMNS_MAX];
    table_line *lines;
    size_t count, capacity;
} table;

void table_column(table *t, const char *title, align a, bool shrinks);
/* A row, to be filled by table_cell from left to right. */
void table_row(table *t, style look);
void table_cell(table *t, const char *format, ...) PRINTF_LIKE(2, 3);
/* Lines of text under the row before, wrapped where the terminal ends. */
void table_note(table *t, const char *format, ...) PRINTF_LIKE(2, 3);
void table_print(const table *t, FILE *out);
void table_free(table *t);

/* Prints text from column `indent` on, wrapped where the terminal ends; the cursor stands at `at`. Ends with a newline. */
void print_wrapped(FILE *out, int at, int indent, const char *string);

/* "1.4 GiB" in one of a few static buffers. */
const char *bytes_text(double bytes);
/* "0:42", "1:02:03" likewise. */
const char *duration_text(double seconds);

#endif
