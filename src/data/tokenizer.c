/* Tokenizers: how they are put together, and encoding and decoding. */
#include "data/tokenizer.h"

#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/heap.h"
#include "base/memory.h"
#include "data/words.h"

/* ---- putting together ---- */

tsr_tokenizer *tokenizer_create(void)
{
    return host_alloc_zeroed(1, sizeof(tsr_tokenizer));
}

/* Room for one more of what an array of `count` holds. */
static bool grow(void **array, uint32_t count, uint32_t *capacity, size_t size)
{
    if (count < *capacity)
        return true;
    const uint32_t larger = *capacity == 0 ? 512 : 2 * *capacity;
    void *grown = host_realloc_array(*array, larger, size);
    if (grown == NULL)
        return false;
    *array = grown;
    *capacity = larger;
    return true;
}

bool tokenizer_add(tsr_tokenizer *t, const void *bytes, size_t size)
{
    if (!grow((void **)&t->ends, t->count, &t->capacity, sizeof *t->ends) || !text_append_bytes(&t->bytes, bytes, size))
        return false;
    t->ends[t->count++] = t->bytes.length;
    return true;
}

bool tokenizer_add_merge(tsr_tokenizer *t, token_merge merge)
{
    if (!grow((void **)&t->merges, t->merge_count, &t->merge_capacity, sizeof *t->merges) ||
        !number_map_add(&t->ranks, token_pair(merge.left, merge.right), t->merge_count))
        return false;
    t->merges[t->merge_count++] = merge;
    return true;
}

bool tokenizer_set_special(tsr_tokenizer *t, uint32_t token)
{
    uint32_t *specials = host_realloc_array(t->specials, t->special_count + 1, sizeof *specials);
    if (specials == NULL)
        return false;
    t->specials = specials;
    size_t size, other;
    token_bytes(t, token, &size);
    uint32_t i = t->special_count++;
    for (; i > 0 && (token_bytes(t, specials[i - 1], &other), other < size); i--)
        specials[i] = specials[i - 1];
    specials[i] = token;
    return true;
}

tsr_tokenizer *tsr_tokenizer_bytes(void)
{
    tsr_tokenizer *t = tokenizer_create();
    for (uint32_t i = 0; t != NULL && i < 256; i++) {
        t->of_byte[i] = i;
        if (!tokenizer_add(t, &(uint8_t){(uint8_t)i}, 1)) {
            tsr_tokenizer_destroy(t);
            return NULL;
        }
    }
    return t;
}

void tsr_tokenizer_destroy(tsr_tokenizer *t)
{
    if (t == NULL)
        return;
    text_free(&t->bytes);
    number_map_free(&t->ranks);
    host_free(t->ends);
    host_free(t->merges);
    host_free(t->specials);
    host_free(t);
}

int64_t tsr_tokenizer_vocabulary(const tsr_tokenizer *t)
{
    return t == NULL ? 0 : t->count;
}

int64_t tsr_tokenizer_special(const tsr_tokenizer *t, const char *name)
{
    for (uint32_t i = 0; t != NULL && name != NULL && i < t->special_count; i++) {
        size_t size;
        const uint8_t *bytes = token_bytes(t, t->specials[i], &size);
        if (size == strlen(name) && memcmp(bytes, name, size) == 0)
            return t->specials[i];
    }
    return -1;
}

/* ---- encoding ---- */

bool token_list_put(token_list *list, uint32_t token)
{
    uint32_t *tokens = host_grown(list->tokens, list->count, &list->capacity, sizeof *tokens);
    if (tokens == NULL)
        return false;
    list->tokens = tokens;
    list->tokens[list->count++] = token;
    return true;
}

#define DEAD UINT32_MAX

/* A piece of the word that is being encoded: a list through all that are left. */
typedef struct piece {
    uint32_t token; /* DEAD: the one before has taken it */
    uint32_t before, next;
} piece;

typedef struct encoder {
    const tsr_tokenizer *tokenizer;
    token_list *list;
    piece *pieces;
    uint64_t *turn; /* places of the merges of one rank */
    size_t capacity;
    heap waiting; /* (rank << 32 | place): the most urgent merge, then the leftmost */
} encoder;

/* The pair of the piece at `place` and the next one, if it merges. */
static bool consider(encoder *e, uint32_t place)
{
    const piece *p = &e->pieces[place];
    if (p->next == DEAD)
        return true;
    const uint32_t rank = number_map_find(&e->tokenizer->ranks, token_pair(p->token, e->pieces[p->next].token));
    return rank == NUMBER_MAP_NONE || heap_push(&e->waiting, (uint64_t)rank << 32 | place, 0);
}

/* Where the pair is still there; others may have taken a part of it. */
static bool merge_at(encoder *e, uint32_t place, const token_merge *merge)
{
    piece *p = &e->pieces[place];
    if (p->token != merge->left || p->next == DEAD || e->pieces[p->next].token != merge->right)
        return true;
    piece *taken = &e->pieces[p->next];
    p->token = merge->result;
    p->next = taken->next;
    taken->token = DEAD;
    if (p->next != DEAD)
        e->pieces[p->next].before = place;
    return consider(e, place) && (p->before == DEAD || consider(e, p->before));
}

static bool reserve(encoder *e, size_t size)
{
    if (size <= e->capacity)
        return true;
    const size_t capacity = max_size(size, 2 * e->capacity);
    piece *pieces = host_realloc_array(e->pieces, capacity, sizeof *pieces);
    if (pieces != NULL)
        e->pieces = pieces;
    uint64_t *turn = pieces == NULL ? NULL : host_realloc_array(e->turn, capacity, sizeof *turn);
    if (turn == NULL)
        return false;
    e->turn = turn;
    e->capacity = capacity;
    return true;
}

/* As GPT-2 does it: all places of the most urgent merge, from left to right, then the most urgent of what there is now. */
static tsr_status encode_word(encoder *e, const uint8_t *bytes, size_t size)
{
    const tsr_tokenizer *t = e->tokenizer;
    if (size > INT32_MAX)
        return fail(TSR_UNSUPPORTED, "a word of %zu bytes cannot be encoded", size);
    if (!reserve(e, size))
        return TSR_OUT_OF_MEMORY;
    for (uint32_t i = 0; i < size; i++)
        e->pieces[i] = (piece){t->of_byte[bytes[i]], i == 0 ? DEAD : i - 1, i + 1 == size ? DEAD : i + 1};
    for (uint32_t i = 0; i < size; i++)
        if (!consider(e, i))
            return TSR_OUT_OF_MEMORY;
    while (e->waiting.count > 0) {
        const uint64_t rank = e->waiting.items[0].key >> 32;
        size_t places = 0;
        while (e->waiting.count > 0 && e->waiting.items[0].key >> 32 == rank) {
            const uint64_t place = heap_pop(&e->waiting).key & UINT32_MAX;
            if (places == 0 || e->turn[places - 1] != place)
                e->turn[places++] = place;
        }
        for (size_t i = 0; i < places; i++)
            if (!merge_at(e, (uint32_t)e->turn[i], &t->merges[rank]))
                return TSR_OUT_OF_MEMORY;
    }
    for (uint32_t i = 0; i != DEAD; i = e->pieces[i].next)
        if (!token_list_put(e->list, e->pieces[i].token))
            return TSR_OUT_OF_MEMORY;
    return TSR_OK;
}

static tsr_status encode_text(encoder *e, const uint8_t *bytes, size_t size)
{
    const tsr_tokenizer *t = e->tokenizer;
    tsr_status status = TSR_OK;
    for (size_t i = 0; t->merge_count == 0 && i < size && status == TSR_OK; i++)
        status = token_list_put(e->list, t->of_byte[bytes[i]]) ? TSR_OK : TSR_OUT_OF_MEMORY;
    for (size_t at = 0; t->merge_count > 0 && at < size && status == TSR_OK;) {
        const size_t length = word_length(bytes + at, size - at);
        status = encode_word(e, bytes + at, length);
        at += length;
    }
    return status;
}

/* Whether a special token's name begins the text: its number and length. */
static bool special_at(const tsr_tokenizer *t, const uint8_t *bytes, size_t size, uint32_t *token, size_t *length)
{
    for (uint32_t i = 0; i < t->special_count; i++) {
        const uint8_t *name = token_bytes(t, t->specials[i], length);
        if (*length <= size && name[0] == bytes[0] && memcmp(name, bytes, *length) == 0) {
            *token = t->specials[i];
            return true;
        }
    }
    return false;
}

tsr_status tokenizer_encode(const tsr_tokenizer *t, const uint8_t *bytes, size_t size, bool specials, token_list *list)
{
    encoder e = {.tokenizer = t, .list = list};
    tsr_status status = TSR_OK;
    size_t begin = 0, length; /* of the text since the last special token */
    uint32_t token;
    for (size_t at = 0; specials && t->special_count > 0 && at < size && status == TSR_OK;) {
        if (!special_at(t, bytes + at, size - at, &token, &length)) {
            at++;
            continue;
        }
        status = encode_text(&e, bytes + begin, at - begin);
        if (status == TSR_OK && !token_list_put(list, token))
            status = TSR_OUT_OF_MEMORY;
        begin = at += length;
    }
    if (status == TSR_OK)
        status = encode_text(&e, bytes + begin, size - begin);
    heap_free(&e.waiting);
    host_free(e.pieces);
    host_free(e.turn);
    return status;
}

tsr_status tsr_tokenizer_encode(const tsr_tokenizer *t, const void *bytes, size_t size, bool specials, int64_t **tokens,
                                int64_t *count)
{
    if (t == NULL && tsr_last_status() != TSR_OK)
        return tsr_last_status();
    if (t == NULL || (bytes == NULL && size > 0) || tokens == NULL || count == NULL)
        return fail(TSR_INVALID_ARGUMENT, "tsr_tokenizer_encode: an argument is NULL");
    *tokens = NULL;
    *count = 0;
    token_list list = {0};
    tsr_status status = tokenizer_encode(t, bytes, size, specials, &list);
    if (status == TSR_OK && list.count > 0) {
        *tokens = host_realloc_array(NULL, list.count, sizeof **tokens);
        status = *tokens == NULL ? tsr_last_status() : TSR_OK;
    }
    for (size_t i = 0; *tokens != NULL && i < list.count; i++)
        (*tokens)[i] = list.tokens[i];
    if (*tokens != NULL)
        *count = (int64_t)list.count;
    host_free(list.tokens);
    return status;
}

/* ---- decoding ---- */

tsr_status tsr_tokenizer_decode(const tsr_tokenizer *t, const int64_t *tokens, int64_t count, char **bytes,
                                size_t *size)
{
    if (t == NULL && tsr_last_status() != TSR_OK)
        return tsr_last_status();
    if (t == NULL || (tokens == NULL && count > 0) || bytes == NULL)
        return fail(TSR_INVALID_ARGUMENT, "tsr_tokenizer_decode: an argument is NULL");
    text all = {0};
    *bytes = NULL;
    for (int64_t i = 0; i < count; i++) {
        if (tokens[i] < 0 || tokens[i] >= t->count) {
            text_free(&all);
            return fail(TSR_OUT_OF_RANGE, "token %lld of %lld is %lld; the vocabulary has %lld", (long long)i,
                        (long long)count, (long long)tokens[i], (long long)t->count);
        }
        size_t length;
        const uint8_t *one = token_bytes(t, (uint32_t)tokens[i], &length);
        text_append_bytes(&all, one, length);
    }
    const size_t length = all.length;
    *bytes = text_take(&all);
    if (*bytes == NULL)
        return TSR_OUT_OF_MEMORY;
    if (size != NULL)
        *size = length;
    return TSR_OK;
}

void tsr_tokenizer_free(void *memory)
{
    host_free(memory);
}
