/* A text as words, as GPT-2's encoder splits it. */
#ifndef TESSERA_DATA_WORDS_H
#define TESSERA_DATA_WORDS_H

#include <stddef.h>
#include <stdint.h>

/* The bytes of the first word; size ≥ 1. It depends on nothing before it. */
size_t word_length(const uint8_t *bytes, size_t size);

/* The character that stands for a byte in files of tokens (printable ones for themselves), and back: -1 for one that stands for none. */
uint32_t byte_character(uint8_t byte);
int character_byte(uint32_t code);
/* The 256 bytes in ascending order of their characters, which is the order of GPT-2's first tokens. */
void bytes_by_character(uint8_t order[256]);

#endif
