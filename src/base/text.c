#include "base/text.h"

#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Room for `more` bytes and the final 0. */
static bool text_reserve(text *t, size_t more)
{
    size_t needed;

    if (t->failed)
        return false;
    if (!checked_add_size(t->length, more, &needed) || !checked_add_size(needed, 1, &needed)) {
        fail(TSR_OUT_OF_MEMORY, "a text of %zu bytes cannot grow by %zu", t->length, more);
        t->failed = true;
        return false;
    }
    if (needed <= t->capacity)
        return true;

    const size_t capacity = max_size(max_size(needed, 64), t->capacity <= SIZE_MAX / 2 ? t->capacity * 2 : needed);
    char *bytes = host_realloc_array(t->bytes, capacity, 1);
    if (bytes == NULL) {
        t->failed = true;
        return false;
    }
    t->bytes = bytes;
    t->capacity = capacity;
    return true;
}

bool text_append_bytes(text *t, const void *bytes, size_t size)
{
    if (!text_reserve(t, size))
        return false;
    if (size > 0)
        memcpy(t->bytes + t->length, bytes, size);
    t->length += size;
    t->bytes[t->length] = '\0';
    return true;
}

bool text_append(text *t, const char *string)
{
    return text_append_bytes(t, string, strlen(string));
}

bool text_append_char(text *t, char c)
{
    return text_append_bytes(t, &c, 1);
}

bool text_appendf(text *t, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    const int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length < 0 || !text_reserve(t, (size_t)length))
        return false;

    va_start(arguments, format);
    vsnprintf(t->bytes + t->length, (size_t)length + 1, format, arguments);
    va_end(arguments);
    t->length += (size_t)length;
    return true;
}

const char *text_string(const text *t)
{
    return t->bytes != NULL ? t->bytes : "";
}

char *text_take(text *t)
{
    char *bytes = NULL;
    if (t->failed)
        text_free(t);
    else if (text_append(t, "")) /* an empty text has no memory yet */
        bytes = t->bytes;
    *t = (text){0};
    return bytes;
}

void text_free(text *t)
{
    host_free(t->bytes);
    *t = (text){0};
}

enum { WORD_MAX = 63 };

static size_t distance(const char *a, const char *b, bool fold_case)
{
    /* Row i of the table tells how far a[0, i) is from each b[0, j); a swap looks two rows back. */
    size_t rows[3][WORD_MAX + 1];
    size_t *before_last = rows[0], *last = rows[1], *row = rows[2];
    unsigned char s[WORD_MAX], t[WORD_MAX];
    const size_t m = strnlen(a, WORD_MAX), n = strnlen(b, WORD_MAX);

    for (size_t i = 0; i < m; i++)
        s[i] = fold_case ? (unsigned char)tolower((unsigned char)a[i]) : (unsigned char)a[i];
    for (size_t j = 0; j < n; j++)
        t[j] = fold_case ? (unsigned char)tolower((unsigned char)b[j]) : (unsigned char)b[j];

    for (size_t j = 0; j <= n; j++)
        last[j] = before_last[j] = j;
    for (size_t i = 1; i <= m; i++) {
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            const size_t replaced = last[j - 1] + (s[i - 1] != t[j - 1]);
            row[j] = min_size(replaced, min_size(last[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && s[i - 1] == t[j - 2] && s[i - 2] == t[j - 1])
                row[j] = min_size(row[j], before_last[j - 2] + 1);
        }
        size_t *unused = before_last;
        before_last = last;
        last = row;
        row = unused;
    }
    return last[n];
}

size_t edit_distance(const char *a, const char *b)
{
    return distance(a, b, false);
}

const char *nearest_word(const char *word, const char *const *candidates, size_t count)
{
    const char *nearest = NULL;
    /* One slip in three letters; the next best must be better. */
    size_t bound = (strnlen(word, WORD_MAX) + 2) / 3 + 1;

    for (size_t i = 0; i < count; i++) {
        const size_t far = distance(word, candidates[i], true);
        if (far < bound && far < strlen(candidates[i])) {
            nearest = candidates[i];
            bound = far;
        }
    }
    return nearest;
}
