/* What a tokenizer knows, and how one is put together. */
#ifndef TESSERA_DATA_TOKENIZER_H
#define TESSERA_DATA_TOKENIZER_H

#include "base/number_map.h"
#include "base/text.h"
#include "tessera/tokenizer.h"

enum { TOKENS_MAX = 1 << 20, SPECIALS_MAX = 1024, TOKENIZER_FILE_MAX = 32 << 20 };

typedef struct token_merge {
    uint32_t left, right, result;
} token_merge;

struct tsr_tokenizer {
    text bytes; /* of all tokens, one behind another */
    size_t *ends;
    uint32_t count, capacity;
    uint32_t of_byte[256];

    token_merge *merges; /* the most urgent first */
    uint32_t merge_count, merge_capacity;
    number_map ranks; /* (left << 32 | right) → place in merges */

    uint32_t *specials; /* the longest first */
    uint32_t special_count;
};

static inline uint64_t token_pair(uint32_t left, uint32_t right)
{
    return (uint64_t)left << 32 | right;
}

static inline const uint8_t *token_bytes(const tsr_tokenizer *t, uint32_t token, size_t *size)
{
    const size_t begin = token == 0 ? 0 : t->ends[token - 1];
    *size = t->ends[token] - begin;
    return (const uint8_t *)text_string(&t->bytes) + begin;
}

tsr_tokenizer *tokenizer_create(void);
/* The next token; false where memory ran out. */
bool tokenizer_add(tsr_tokenizer *t, const void *bytes, size_t size);
/* The next merge, of a pair that has none yet; false where memory ran out. */
bool tokenizer_add_merge(tsr_tokenizer *t, token_merge merge);
/* A token that is there; false where memory ran out. */
bool tokenizer_set_special(tsr_tokenizer *t, uint32_t token);

/* Tokens as they come. */
typedef struct token_list {
    uint32_t *tokens;
    size_t count, capacity;
} token_list;

/* false where memory ran out */
bool token_list_put(token_list *list, uint32_t token);

tsr_status tokenizer_encode(const tsr_tokenizer *t, const uint8_t *bytes, size_t size, bool specials, token_list *list);

/* BPE from its files' contents; the names are for messages. */
tsr_tokenizer *bpe_parse(const char *vocab_name, const void *vocab, size_t vocab_size, const char *merges_name,
                         const void *merges, size_t merges_size);

#endif
