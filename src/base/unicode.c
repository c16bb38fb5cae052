#include "base/unicode.h"

#include "base/compiler.h"

#include "base/unicode_classes.h"

unicode_class unicode_class_of(uint32_t code)
{
    size_t low = 0, high = COUNT_OF(class_runs); /* the run is in [low, high) */
    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        if (class_runs[middle] >> 2 <= code)
            low = middle;
        else
            high = middle;
    }
    return (unicode_class)(class_runs[low] & 3);
}

size_t utf8_read(const void *bytes, size_t size, uint32_t *code)
{
    const unsigned char *s = bytes;
    unsigned char low = 0x80, high = 0xBF; /* of the second byte */
    size_t length;

    if (size == 0)
        return 0;
    *code = s[0];
    if (s[0] < 0x80)
        return 1;
    if (s[0] >= 0xC2 && s[0] <= 0xDF)
        length = 2;
    else if (s[0] >= 0xE0 && s[0] <= 0xEF)
        length = 3;
    else if (s[0] >= 0xF0 && s[0] <= 0xF4)
        length = 4;
    else
        return 0;
    if (size < length)
        return 0;

    if (s[0] == 0xE0)
        low = 0xA0;
    else if (s[0] == 0xED)
        high = 0x9F;
    else if (s[0] == 0xF0)
        low = 0x90;
    else if (s[0] == 0xF4)
        high = 0x8F;
    if (s[1] < low || s[1] > high)
        return 0;
    *code = s[0] & (0x7Fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((s[i] & 0xC0) != 0x80)
            return 0;
        *code = *code << 6 | (s[i] & 0x3F);
    }
    return length;
}

size_t utf8_write(uint32_t code, char out[4])
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    const size_t length = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--, code >>= 6)
        out[i] = (char)(0x80 | (code & 0x3F));
    out[0] = (char)((0xF00 >> length & 0xFF) | code);
    return length;
}
