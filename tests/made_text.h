/* A text for the tests of tokenizers. */
#ifndef TESSERA_TESTS_MADE_TEXT_H
#define TESSERA_TESTS_MADE_TEXT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/compiler.h"

/* Words of few letters, numbers, signs and characters of several bytes, by a linear congruence. */
static inline size_t make_text(uint8_t *bytes, size_t size, uint32_t seed)
{
    static const char *const pieces[] = {"a",
                                         "b",
                                         "ab",
                                         "ba",
                                         "aa",
                                         " ",
                                         " ",
                                         "  ",
                                         "\n",
                                         "the",
                                         " the",
                                         "1",
                                         "23",
                                         "!",
                                         "'s",
                                         "'ll",
                                         "\xC3\xA9",
                                         "\xE6\x97\xA5",
                                         "\xF0\x9F\x99\x82",
                                         "\xFF",
                                         ".",
                                         "c"};
    size_t n = 0;
    while (n + 4 < size) {
        seed = seed * 1664525u + 1013904223u;
        const char *piece = pieces[(seed >> 16) % COUNT_OF(pieces)];
        memcpy(bytes + n, piece, strlen(piece));
        n += strlen(piece);
    }
    return n;
}

#endif
