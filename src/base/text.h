/* A string that grows, and the nearest word to a mistyped one. */
#ifndef TESSERA_BASE_TEXT_H
#define TESSERA_BASE_TEXT_H

#include "base/compiler.h"

#include <stdbool.h>
#include <stddef.h>

/* Zero-initialise it. When memory runs out it keeps what it has, `failed` is set and stays set, and later appends do
 * nothing, so that a caller checks once, at the end. */
typedef struct text {
    char *bytes; /* ends with a 0; NULL while nothing was appended: use text_string */
    size_t length;
    size_t capacity;
    bool failed;
} text;

/* All return false, with tsr_last_error() set, when memory ran out. */
bool text_append(text *t, const char *string);
bool text_append_bytes(text *t, const void *bytes, size_t size);
bool text_append_char(text *t, char c);
bool text_appendf(text *t, const char *format, ...) PRINTF_LIKE(2, 3);

/* The content so far, never NULL; valid until the next append. */
const char *text_string(const text *t);

/* The content as a string to host_free, and `t` empty again; NULL if it failed. */
char *text_take(text *t);

void text_free(text *t);

/* The least number of inserted, deleted, replaced or swapped neighbouring bytes that turns a into b (Damerau's
 * restricted distance). Only the first 63 bytes count. */
size_t edit_distance(const char *a, const char *b);

/* The candidate nearest to `word`, ignoring case, for "did you mean"; NULL if none is near enough. */
const char *nearest_word(const char *word, const char *const *candidates, size_t count);

#endif
