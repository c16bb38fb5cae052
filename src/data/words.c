/* The pattern of GPT-2's encoder.py, by hand: 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
#include "data/words.h"

#include <stdbool.h>
#include <string.h>

#include "base/compiler.h"
#include "base/unicode.h"

/* Its class, and *length; a byte of no character is a symbol. size ≥ 1. */
static unicode_class class_at(const uint8_t *bytes, size_t size, size_t *length)
{
    uint32_t code;
    *length = utf8_read(bytes, size, &code);
    if (*length > 0)
        return unicode_class_of(code);
    *length = 1;
    return UNICODE_OTHER;
}

/* The end of the run of `class` from `at` on; *last gets where its last character begins. */
static size_t run_end(const uint8_t *bytes, size_t size, size_t at, unicode_class class, size_t *last)
{
    size_t length;
    while (at < size && class_at(bytes + at, size - at, &length) == class) {
        *last = at;
        at += length;
    }
    return at;
}

static size_t contraction(const uint8_t *bytes, size_t size)
{
    static const char *const endings[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    for (size_t i = 0; i < COUNT_OF(endings); i++) {
        const size_t length = strlen(endings[i]);
        if (size >= length && memcmp(bytes, endings[i], length) == 0)
            return length;
    }
    return 0;
}

size_t word_length(const uint8_t *bytes, size_t size)
{
    size_t length = bytes[0] == '\'' ? contraction(bytes, size) : 0, last = 0;
    if (length > 0)
        return length;
    const size_t begin = bytes[0] == ' ' && size > 1; /* one space belongs to the word behind it */
    unicode_class class = class_at(bytes + begin, size - begin, &length);
    if (class != UNICODE_SPACE)
        return run_end(bytes, size, begin, class, &last);

    /* White space, but for its last character where a word follows and something is left. */
    const size_t end = run_end(bytes, size, 0, UNICODE_SPACE, &last);
    return end == size || last == 0 ? end : last;
}

static bool is_printable(uint32_t byte)
{
    return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

/* The others, in their order: 0 to 32, 127 to 160, 173. */
uint32_t byte_character(uint8_t byte)
{
    if (is_printable(byte))
        return byte;
    return 256 + (byte <= 32 ? byte : byte <= 160 ? byte - 127u + 33 : 33u + 34);
}

int character_byte(uint32_t code)
{
    if (code < 256)
        return is_printable(code) ? (int)code : -1;
    code -= 256;
    return code <= 32 ? (int)code : code < 33 + 34 ? (int)(code - 33 + 127) : code == 33 + 34 ? 173 : -1;
}

void bytes_by_character(uint8_t order[256])
{
    int n = 0;
    for (uint32_t code = 0; n < 256; code++)
        if (character_byte(code) >= 0)
            order[n++] = (uint8_t)character_byte(code);
}
