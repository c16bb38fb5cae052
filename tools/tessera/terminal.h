/* What the place where text goes can show. */
#ifndef TESSERA_TERMINAL_H
#define TESSERA_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Once, before anything is shown. */
void terminal_begin(void);

bool terminal_is(FILE *out);
/* Columns; 0 where `out` is no terminal, so that nothing is cut. */
int terminal_columns(FILE *out);
/* Whether characters beyond ASCII are shown as such. */
bool terminal_utf8(void);

typedef enum style { STYLE_NONE, STYLE_BOLD, STYLE_DIM, STYLE_GOOD, STYLE_BAD } style;
/* The escape sequence, or "" where `out` has no colours (no terminal, NO_COLOR, TERM=dumb). */
const char *terminal_style(FILE *out, style s);

/* Columns that a UTF-8 string takes: 0 for combining characters, 2 for wide ones, 1 for a byte that is no UTF-8. */
int text_columns(const char *string);
/* Bytes of the longest beginning of `string` that takes at most `columns`. */
size_t text_fit(const char *string, int columns);

#endif
