/* Byte-pair encoding from files. Jansson parses the JSON; what it says is believed only as far as it is checked. */
#include <jansson.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/unicode.h"
#include "data/tokenizer.h"
#include "data/words.h"

static const char version_line[] = "#version"; /* begins the first line, where there is one */

typedef struct bpe_reader {
    const char *vocab_name, *merges_name;
    json_t *vocab;
    uint32_t count;
    const char **names; /* by number */
    bool *known;        /* by number: a byte, or made by a merge */
    tsr_tokenizer *t;
} bpe_reader;

/* The number of a token that is written so, or `count`. Numbers were checked. */
static uint32_t number_of(const bpe_reader *r, const char *name)
{
    const json_t *value = json_object_get(r->vocab, name);
    return value == NULL ? r->count : (uint32_t)json_integer_value(value);
}

static tsr_status read_vocab(bpe_reader *r)
{
    const char *name;
    json_t *value;
    if (!json_is_object(r->vocab))
        return fail(TSR_CORRUPT_DATA, "%s is no JSON object of tokens and their numbers", r->vocab_name);
    const size_t count = json_object_size(r->vocab);
    if (count > TOKENS_MAX)
        return fail(TSR_CORRUPT_DATA, "%s has %zu tokens; %d are possible", r->vocab_name, count, TOKENS_MAX);
    r->count = (uint32_t)count;
    r->names = host_alloc_zeroed(count + 1, sizeof *r->names);
    r->known = host_alloc_zeroed(count + 1, sizeof *r->known);
    if (r->names == NULL || r->known == NULL)
        return TSR_OUT_OF_MEMORY;
    json_object_foreach(r->vocab, name, value)
    {
        const json_int_t number = json_integer_value(value);
        if (name[0] == '\0')
            return fail(TSR_CORRUPT_DATA, "%s: a token is empty", r->vocab_name);
        if (!json_is_integer(value) || number < 0 || (size_t)number >= count)
            return fail(TSR_CORRUPT_DATA, "%s: the number of token '%.64s' is not one of 0 to %zu", r->vocab_name, name,
                        count - 1);
        if (r->names[number] != NULL)
            return fail(TSR_CORRUPT_DATA, "%s: tokens '%.64s' and '%.64s' both have number %lld", r->vocab_name,
                        r->names[number], name, (long long)number);
        r->names[number] = name;
    }
    return TSR_OK;
}

static tsr_status read_bytes(bpe_reader *r)
{
    for (int i = 0; i < 256; i++) {
        char name[5] = "";
        utf8_write(byte_character((uint8_t)i), name);
        const uint32_t token = number_of(r, name);
        if (token == r->count)
            return fail(TSR_CORRUPT_DATA, "%s has no token for byte %d, which is written '%s'", r->vocab_name, i, name);
        r->t->of_byte[i] = token;
        r->known[token] = true;
    }
    return TSR_OK;
}

static tsr_status read_pair(bpe_reader *r, const char *left, const char *right, size_t number)
{
    text whole = {0};
    text_append(&whole, left);
    text_append(&whole, right);
    if (whole.failed)
        return TSR_OUT_OF_MEMORY;
    const token_merge merge = {number_of(r, left), number_of(r, right), number_of(r, text_string(&whole))};
    text_free(&whole);
    if (merge.left == r->count || merge.right == r->count || merge.result == r->count)
        return fail(TSR_CORRUPT_DATA, "%s: line %zu: %s has no token '%.64s%.64s'", r->merges_name, number,
                    r->vocab_name, merge.left == r->count || merge.right != r->count ? left : "",
                    merge.left == r->count ? "" : right);
    if (number_map_find(&r->t->ranks, token_pair(merge.left, merge.right)) != NUMBER_MAP_NONE)
        return fail(TSR_CORRUPT_DATA, "%s: line %zu: '%.64s %.64s' stands there twice", r->merges_name, number, left,
                    right);
    r->known[merge.result] = true;
    return tokenizer_add_merge(r->t, merge) ? TSR_OK : TSR_OUT_OF_MEMORY;
}

/* "left right" */
static tsr_status read_merge(bpe_reader *r, const char *line, size_t size, size_t number)
{
    text left = {0};
    text_append_bytes(&left, line, size);
    if (left.failed)
        return TSR_OUT_OF_MEMORY;
    char *right = memchr(left.bytes, ' ', size);
    tsr_status status;
    if (right != NULL)
        *right++ = '\0';
    if (right == NULL || left.bytes[0] == '\0' || right[0] == '\0' || strchr(right, ' ') != NULL ||
        strlen(left.bytes) + 1 + strlen(right) != size)
        status = fail(TSR_CORRUPT_DATA, "%s: line %zu is not two tokens with a space between", r->merges_name, number);
    else
        status = read_pair(r, left.bytes, right, number);
    text_free(&left);
    return status;
}

static tsr_status read_merges(bpe_reader *r, const char *merges, size_t size)
{
    tsr_status status = TSR_OK;
    for (size_t number = 1, at = 0; at < size && status == TSR_OK; number++) {
        const char *line = merges + at, *end = memchr(line, '\n', size - at);
        size_t length = end == NULL ? size - at : (size_t)(end - line);
        at += length + 1;
        if (length > 0 && line[length - 1] == '\r')
            length--;
        const bool is_version =
            number == 1 && length >= strlen(version_line) && memcmp(line, version_line, strlen(version_line)) == 0;
        if (length > 0 && !is_version)
            status = read_merge(r, line, length, number);
    }
    return status;
}

/* The bytes that a token's characters stand for, behind those of the tokens before. */
static tsr_status add_known(bpe_reader *r, const char *name)
{
    text bytes = {0};
    tsr_status status = TSR_OK;
    for (size_t left = strlen(name); left > 0 && status == TSR_OK;) {
        uint32_t code;
        const size_t length = utf8_read(name, left, &code);
        const int byte = length == 0 ? -1 : character_byte(code);
        if (byte < 0)
            status = fail(TSR_CORRUPT_DATA, "%s: token '%.64s' is made by a merge, and '%.*s' stands for no byte",
                          r->vocab_name, name, (int)length, name);
        else if (!text_append_char(&bytes, (char)byte))
            status = TSR_OUT_OF_MEMORY;
        name += length;
        left -= length;
    }
    if (status == TSR_OK && !tokenizer_add(r->t, text_string(&bytes), bytes.length))
        status = TSR_OUT_OF_MEMORY;
    text_free(&bytes);
    return status;
}

static tsr_status add_tokens(bpe_reader *r)
{
    tsr_status status = TSR_OK;
    for (uint32_t i = 0; i < r->count && status == TSR_OK; i++) {
        if (r->known[i])
            status = add_known(r, r->names[i]);
        else if (r->t->special_count == SPECIALS_MAX)
            status = fail(TSR_CORRUPT_DATA,
                          "%s has more than %d tokens, such as '%.64s', that no line of %s makes; do they belong "
                          "together?",
                          r->vocab_name, SPECIALS_MAX, r->names[i], r->merges_name);
        else if (!tokenizer_add(r->t, r->names[i], strlen(r->names[i])) || !tokenizer_set_special(r->t, i))
            status = TSR_OUT_OF_MEMORY;
    }
    return status;
}

tsr_tokenizer *bpe_parse(const char *vocab_name, const void *vocab, size_t vocab_size, const char *merges_name,
                         const void *merges, size_t merges_size)
{
    json_error_t why;
    bpe_reader r = {.vocab_name = vocab_name, .merges_name = merges_name, .t = tokenizer_create()};
    tsr_status status = r.t == NULL ? TSR_OUT_OF_MEMORY : TSR_OK;
    if (status == TSR_OK) {
        r.vocab = json_loadb(vocab, vocab_size, JSON_REJECT_DUPLICATES, &why);
        if (r.vocab == NULL)
            status = fail(TSR_CORRUPT_DATA, "%s is no JSON: %s (line %d)", vocab_name, why.text, why.line);
    }
    if (status == TSR_OK)
        status = read_vocab(&r);
    if (status == TSR_OK)
        status = read_bytes(&r);
    if (status == TSR_OK)
        status = read_merges(&r, merges, merges_size);
    if (status == TSR_OK)
        status = add_tokens(&r);
    json_decref(r.vocab);
    host_free((void *)r.names);
    host_free(r.known);
    if (status == TSR_OK)
        return r.t;
    tsr_tokenizer_destroy(r.t);
    return NULL;
}

tsr_tokenizer *tsr_bpe_load(const char *vocab, const char *merges)
{
    uint8_t *vocab_bytes = NULL, *merges_bytes = NULL;
    size_t vocab_size, merges_size;
    tsr_tokenizer *t = NULL;
    if (vocab == NULL || merges == NULL)
        fail(TSR_INVALID_ARGUMENT, "tsr_bpe_load: a path is NULL");
    else if (file_read_all(vocab, &vocab_bytes, &vocab_size, TOKENIZER_FILE_MAX) == TSR_OK &&
             file_read_all(merges, &merges_bytes, &merges_size, TOKENIZER_FILE_MAX) == TSR_OK)
        t = bpe_parse(vocab, vocab_bytes, vocab_size, merges, merges_bytes, merges_size);
    host_free(vocab_bytes);
    host_free(merges_bytes);
    return t;
}
