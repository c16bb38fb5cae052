/* Byte-pair encoding learnt from a text. Only its different words are looked at, each with how often it occurs; pairs know the words that they occur in, so
 * that a merge touches no others. */
#include <string.h>

#include "base/error.h"
#include "base/heap.h"
#include "base/memory.h"
#include "data/tokenizer.h"
#include "data/words.h"

/* ---- strings, each once ---- */

typedef struct string {
    size_t begin, size; /* in the base that the caller knows */
} string;

typedef struct string_set {
    string *strings;
    uint32_t *slots; /* a string's number + 1, 0 where free */
    size_t count, capacity;
} string_set;

/* FNV-1a (Fowler, Noll, Vo), whose low bits are mixed further. */
static uint64_t string_hash(const uint8_t *bytes, size_t size)
{
    uint64_t hash = 0xCBF29CE484222325u;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * 0x100000001B3u;
    return number_hash(hash);
}

static uint32_t *string_slot(const string_set *s, const uint8_t *base, string x)
{
    size_t i = (size_t)string_hash(base + x.begin, x.size) & (s->capacity - 1);
    for (; s->slots[i] != 0; i = (i + 1) & (s->capacity - 1)) {
        const string *y = &s->strings[s->slots[i] - 1];
        if (y->size == x.size && memcmp(base + y->begin, base + x.begin, x.size) == 0)
            break;
    }
    return &s->slots[i];
}

static bool string_set_grow(string_set *s, const uint8_t *base)
{
    const size_t capacity = s->capacity == 0 ? 1024 : 2 * s->capacity;
    string *strings = host_realloc_array(s->strings, capacity / 2, sizeof *strings);
    if (strings != NULL)
        s->strings = strings;
    uint32_t *slots = strings == NULL ? NULL : host_alloc_zeroed(capacity, sizeof *slots);
    if (slots == NULL)
        return false;
    host_free(s->slots);
    s->slots = slots;
    s->capacity = capacity;
    for (size_t i = 0; i < s->count; i++)
        *string_slot(s, base, s->strings[i]) = (uint32_t)i + 1;
    return true;
}

/* The string's number, which is the count before if it was not there yet; UINT32_MAX where memory ran out. */
static uint32_t string_set_put(string_set *s, const uint8_t *base, string x)
{
    if (2 * s->count >= s->capacity && !string_set_grow(s, base))
        return UINT32_MAX;
    uint32_t *slot = string_slot(s, base, x);
    if (*slot == 0) {
        s->strings[s->count++] = x;
        *slot = (uint32_t)s->count;
    }
    return *slot - 1;
}

static void string_set_free(string_set *s)
{
    host_free(s->strings);
    host_free(s->slots);
}

/* ---- words and pairs ---- */

typedef struct word {
    size_t begin;  /* in tokens */
    size_t length; /* tokens that are left of it */
    int64_t count;
} word;

typedef struct pair {
    uint64_t key;
    int64_t count;
    token_list words; /* numbers of those in which it occurs or did */
    uint32_t touched; /* by this merge last */
} pair;

typedef struct trainer {
    tsr_tokenizer *t;
    string_set known; /* the tokens */
    uint32_t *tokens;
    word *words;
    uint32_t word_count;
    pair *pairs;
    uint32_t pair_count, pair_capacity;
    number_map pair_of;
    heap best;        /* (~count, pair), some of it out of date */
    uint32_t merge;   /* counts merges, from 1 on */
    token_list fresh; /* pairs that the merge may have made more frequent */
} trainer;

static bool count_words(const uint8_t *bytes, size_t size, string_set *words, int64_t **counts, size_t *letters)
{
    *counts = NULL;
    *letters = 0;
    size_t capacity = 0;
    for (size_t at = 0; at < size;) {
        const string x = {at, word_length(bytes + at, size - at)};
        const size_t before = words->count;
        const uint32_t number = string_set_put(words, bytes, x);
        if (number == UINT32_MAX)
            return false;
        if (words->count > capacity) {
            capacity = capacity == 0 ? 1024 : 2 * capacity;
            int64_t *larger = host_realloc_array(*counts, capacity, sizeof *larger);
            if (larger == NULL)
                return false;
            *counts = larger;
        }
        if (words->count > before) {
            (*counts)[number] = 0;
            *letters += x.size;
        }
        (*counts)[number]++;
        at += x.size;
    }
    return true;
}

static tsr_status set_words(trainer *r, const uint8_t *bytes, size_t size)
{
    string_set set = {0};
    int64_t *counts;
    size_t letters, at = 0;
    bool good = count_words(bytes, size, &set, &counts, &letters);
    if (good) {
        r->words = host_alloc_zeroed(set.count + 1, sizeof *r->words);
        r->tokens = host_realloc_array(NULL, letters + 1, sizeof *r->tokens);
        good = r->words != NULL && r->tokens != NULL;
    }
    for (size_t i = 0; good && i < set.count; i++) {
        r->words[i] = (word){at, set.strings[i].size, counts[i]};
        for (size_t k = 0; k < set.strings[i].size; k++)
            r->tokens[at++] = r->t->of_byte[bytes[set.strings[i].begin + k]];
    }
    r->word_count = (uint32_t)set.count;
    string_set_free(&set);
    host_free(counts);
    return good ? TSR_OK : TSR_OUT_OF_MEMORY;
}

static bool count_pair(trainer *r, uint64_t key, int64_t more, uint32_t number, bool listed)
{
    uint32_t i = number_map_find(&r->pair_of, key);
    if (i == NUMBER_MAP_NONE) {
        if (r->pair_count == r->pair_capacity) {
            const uint32_t capacity = r->pair_capacity == 0 ? 1024 : 2 * r->pair_capacity;
            pair *larger = host_realloc_array(r->pairs, capacity, sizeof *larger);
            if (larger == NULL)
                return false;
            r->pairs = larger;
            r->pair_capacity = capacity;
        }
        i = r->pair_count;
        if (!number_map_add(&r->pair_of, key, i))
            return false;
        r->pairs[r->pair_count++] = (pair){.key = key};
    }
    pair *p = &r->pairs[i];
    p->count += more;
    if (listed)
        return true;
    if (p->touched != r->merge) {
        p->touched = r->merge;
        if (!token_list_put(&r->fresh, i))
            return false;
    }
    const bool repeated = p->words.count > 0 && p->words.tokens[p->words.count - 1] == number;
    return repeated || token_list_put(&p->words, number);
}

/* Pairs of the word count `sign` times its count more. Only those with `made` (UINT32_MAX: all) can be new to it. */
static bool count_pairs(trainer *r, uint32_t number, int sign, uint32_t made)
{
    const word *w = &r->words[number];
    const uint32_t *x = r->tokens + w->begin;
    for (size_t i = 0; i + 1 < w->length; i++) {
        const bool listed = sign < 0 || (made != UINT32_MAX && x[i] != made && x[i + 1] != made);
        if (!count_pair(r, token_pair(x[i], x[i + 1]), sign * w->count, number, listed))
            return false;
    }
    return true;
}

/* Into the heap with what has become more frequent. */
static bool push_fresh(trainer *r)
{
    for (size_t i = 0; i < r->fresh.count; i++) {
        const pair *p = &r->pairs[r->fresh.tokens[i]];
        if (p->count >= 2 && !heap_push(&r->best, ~(uint64_t)p->count, p->key))
            return false;
    }
    r->fresh.count = 0;
    return true;
}

/* All places of the pair in the word, from left to right. */
static void merge_word(trainer *r, word *w, const token_merge *merge)
{
    uint32_t *x = r->tokens + w->begin;
    size_t out = 0;
    for (size_t i = 0; i < w->length; out++)
        if (i + 1 < w->length && x[i] == merge->left && x[i + 1] == merge->right) {
            x[out] = merge->result;
            i += 2;
        } else
            x[out] = x[i++];
    w->length = out;
}

static bool holds(const trainer *r, const word *w, const token_merge *merge)
{
    const uint32_t *x = r->tokens + w->begin;
    for (size_t i = 0; i + 1 < w->length; i++)
        if (x[i] == merge->left && x[i + 1] == merge->right)
            return true;
    return false;
}

/* ---- learning ---- */

/* The token of the pair's bytes: one that there is, where other merges have made the same, or the next. UINT32_MAX where memory ran out. */
static uint32_t token_of_pair(trainer *r, uint32_t left, uint32_t right)
{
    tsr_tokenizer *t = r->t;
    size_t left_size, right_size;
    text whole = {0};
    const uint8_t *bytes = token_bytes(t, left, &left_size);
    text_append_bytes(&whole, bytes, left_size);
    bytes = token_bytes(t, right, &right_size);
    text_append_bytes(&whole, bytes, right_size);
    const size_t begin = t->bytes.length;
    const bool added = !whole.failed && tokenizer_add(t, whole.bytes, whole.length);
    text_free(&whole);
    if (!added)
        return UINT32_MAX;
    const uint32_t token =
        string_set_put(&r->known, (const uint8_t *)t->bytes.bytes, (string){begin, left_size + right_size});
    if (token != t->count - 1) { /* take it away again */
        t->count--;
        t->bytes.length = begin;
    }
    return token;
}

/* A pair can come back, where another merge has made one of its tokens anew: it merges again, as encoding will do, and keeps its place. */
static tsr_status merge_best(trainer *r, uint32_t number)
{
    const uint64_t key = r->pairs[number].key;
    token_merge merge = {.left = (uint32_t)(key >> 32), .right = (uint32_t)key};
    merge.result = token_of_pair(r, merge.left, merge.right);
    if (merge.result == UINT32_MAX)
        return TSR_OUT_OF_MEMORY;
    if (number_map_find(&r->t->ranks, key) == NUMBER_MAP_NONE && !tokenizer_add_merge(r->t, merge))
        return TSR_OUT_OF_MEMORY;
    r->merge++;
    const size_t count = r->pairs[number].words.count; /* the words do not get this pair again */
    for (size_t i = 0; i < count; i++) {
        const uint32_t w = r->pairs[number].words.tokens[i];
        if (!holds(r, &r->words[w], &merge))
            continue;
        if (!count_pairs(r, w, -1, UINT32_MAX))
            return TSR_OUT_OF_MEMORY;
        merge_word(r, &r->words[w], &merge);
        if (!count_pairs(r, w, 1, merge.result))
            return TSR_OUT_OF_MEMORY;
    }
    return push_fresh(r) ? TSR_OK : TSR_OUT_OF_MEMORY;
}

static tsr_status learn(trainer *r, uint32_t vocabulary)
{
    r->merge = 1;
    for (uint32_t i = 0; i < r->word_count; i++)
        if (!count_pairs(r, i, 1, UINT32_MAX))
            return TSR_OUT_OF_MEMORY;
    if (!push_fresh(r))
        return TSR_OUT_OF_MEMORY;
    while (r->t->count < vocabulary && r->best.count > 0) {
        const heap_item item = heap_pop(&r->best);
        const uint32_t number = number_map_find(&r->pair_of, item.value);
        const int64_t count = r->pairs[number].count;
        if (count < 2)
            continue;
        if (~(uint64_t)count != item.key) { /* out of date */
            if (!heap_push(&r->best, ~(uint64_t)count, item.value))
                return TSR_OUT_OF_MEMORY;
            continue;
        }
        const tsr_status status = merge_best(r, number);
        if (status != TSR_OK)
            return status;
    }
    return TSR_OK;
}

static tsr_status begin(trainer *r)
{
    uint8_t order[256];
    r->t = tokenizer_create();
    bytes_by_character(order);
    for (uint32_t i = 0; i < 256; i++) {
        if (r->t == NULL || !tokenizer_add(r->t, &order[i], 1) ||
            string_set_put(&r->known, (const uint8_t *)r->t->bytes.bytes, (string){i, 1}) == UINT32_MAX)
            return TSR_OUT_OF_MEMORY;
        r->t->of_byte[order[i]] = i;
    }
    return TSR_OK;
}

tsr_tokenizer *tsr_bpe_train(const void *bytes, size_t size, int64_t vocabulary)
{
    static const char end_of_text[] = "<|endoftext|>";
    if (bytes == NULL && size > 0) {
        fail(TSR_INVALID_ARGUMENT, "tsr_bpe_train: the text is NULL");
        return NULL;
    }
    if (vocabulary < 257 || vocabulary > TOKENS_MAX) {
        fail(TSR_OUT_OF_RANGE, "a BPE vocabulary of %lld: the bytes and %s need 257, and %d are possible",
             (long long)vocabulary, end_of_text, TOKENS_MAX);
        return NULL;
    }
    trainer r = {0};
    tsr_status status = begin(&r);
    if (status == TSR_OK)
        status = set_words(&r, bytes, size);
    if (status == TSR_OK)
        status = learn(&r, (uint32_t)vocabulary - 1);
    if (status == TSR_OK &&
        (!tokenizer_add(r.t, end_of_text, strlen(end_of_text)) || !tokenizer_set_special(r.t, r.t->count - 1)))
        status = TSR_OUT_OF_MEMORY;
    for (uint32_t i = 0; i < r.pair_count; i++)
        host_free(r.pairs[i].words.tokens);
    host_free(r.fresh.tokens);
    host_free(r.pairs);
    host_free(r.words);
    host_free(r.tokens);
    number_map_free(&r.pair_of);
    heap_free(&r.best);
    string_set_free(&r.known);
    if (status == TSR_OK)
        return r.t;
    tsr_tokenizer_destroy(r.t);
    return NULL;
}
