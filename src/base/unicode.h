/* UTF-8, and the classes of characters that tell words apart. */
#ifndef TESSERA_BASE_UNICODE_H
#define TESSERA_BASE_UNICODE_H

#include <stddef.h>
#include <stdint.h>

/* General categories L and N, and the property White_Space; all else is UNICODE_OTHER, also what is assigned to nothing. */
typedef enum unicode_class { UNICODE_OTHER, UNICODE_SPACE, UNICODE_LETTER, UNICODE_NUMBER } unicode_class;

unicode_class unicode_class_of(uint32_t code);

/* The length of the character's UTF-8 sequence that begins the text, 0 if none does (RFC 3629: no overlong form, no surrogate, at most
 * U+10FFFF; nor what is cut off by the text's end). */
size_t utf8_read(const void *bytes, size_t size, uint32_t *code);

/* Its length, 1 to 4; code ≤ U+10FFFF. */
size_t utf8_write(uint32_t code, char out[4]);

#endif
