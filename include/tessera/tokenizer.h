/* Text as token numbers and back: a token for each byte, or byte-level byte-pair encoding as GPT-2's published files have it (Radford et al. 2019;
 * Sennrich, Haddow, Birch: Neural machine translation of rare words with subword units, 2016).
 *
 * Any bytes can be encoded, and what is decoded has the same bytes. A tokenizer does not change: threads may share it. */
#ifndef TESSERA_TOKENIZER_H
#define TESSERA_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tessera/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tsr_tokenizer tsr_tokenizer;

/* Tokens 0 to 255, the bytes themselves. */
TSR_API tsr_tokenizer *tsr_tokenizer_bytes(void);

/* BPE from two files: `vocab`, a JSON object of tokens and their numbers 0 … n - 1, and `merges`, lines of the two tokens that become one, the
 * most urgent first (a first line of "#version" is no merge). In both a byte is written as one character: itself where it is printable, else one
 * from U+0100 on, as GPT-2's encoder.py has it. A token that is neither a byte nor made by a merge is special, such as <|endoftext|>, and
 * is written as it is.
 * The files are untrusted: each byte must have a token, each merge three known ones, no number or merge may stand twice; at most 2^20 tokens, 1024 of
 * them special. Errors: TSR_NOT_FOUND, TSR_IO_ERROR, TSR_CORRUPT_DATA, TSR_OUT_OF_RANGE (files above 32 MiB). */
TSR_API tsr_tokenizer *tsr_bpe_load(const char *vocab, const char *merges);
/* Writes the two files, each as a whole or not at all. */
TSR_API tsr_status tsr_bpe_save(const tsr_tokenizer *tokenizer, const char *vocab, const char *merges);

/* BPE learnt from a text: the 256 bytes in GPT-2's order; then, again and again, the pair of neighbouring tokens that occurs most often within words, of
 * several the one of the least numbers; last <|endoftext|>. `vocabulary` counts them all (257 … 2^20). A pair that occurs only
 * once is not merged, so that a short text may give fewer. The same text gives the same tokenizer everywhere.
 * Errors: TSR_INVALID_ARGUMENT, TSR_OUT_OF_RANGE. */
TSR_API tsr_tokenizer *tsr_bpe_train(const void *bytes, size_t size, int64_t vocabulary);

TSR_API void tsr_tokenizer_destroy(tsr_tokenizer *tokenizer); /* NULL is fine */

/* Tokens are below it. */
TSR_API int64_t tsr_tokenizer_vocabulary(const tsr_tokenizer *tokenizer);
/* The number of a special token; -1, without an error, where there is none of this name. */
TSR_API int64_t tsr_tokenizer_special(const tsr_tokenizer *tokenizer, const char *name);

/* The text's tokens, to tsr_tokenizer_free; NULL for an empty text. BPE splits it into words first, by GPT-2's pattern
 *     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 * with the classes of Unicode 18 (scripts/unicode_classes.py); a byte that belongs to no UTF-8 character counts as a symbol. With `specials` the name
 * of a special token in the text becomes that token, the longest where several begin; else it is text like any other, which is what a text
 * from strangers wants. */
TSR_API tsr_status tsr_tokenizer_encode(const tsr_tokenizer *tokenizer, const void *bytes, size_t size, bool specials,
                                        int64_t **tokens, int64_t *count);
/* The bytes of the tokens, to tsr_tokenizer_free, with a 0 behind them that *size (may be NULL) does not count. Tokens may cut characters apart: what is
 * shown as it is generated waits for the rest. Error: TSR_OUT_OF_RANGE, a number that is no token. */
TSR_API tsr_status tsr_tokenizer_decode(const tsr_tokenizer *tokenizer, const int64_t *tokens, int64_t count,
                                        char **bytes, size_t *size);
TSR_API void tsr_tokenizer_free(void *memory);

#ifdef __cplusplus
}
#endif
#endif
