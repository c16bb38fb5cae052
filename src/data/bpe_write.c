/* Byte-pair encoding into its two files. */
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/unicode.h"
#include "data/tokenizer.h"
#include "data/words.h"

static bool is_special(const tsr_tokenizer *t, uint32_t token)
{
    for (uint32_t i = 0; i < t->special_count; i++)
        if (t->specials[i] == token)
            return true;
    return false;
}

static void append_name(const tsr_tokenizer *t, uint32_t token, text *out)
{
    size_t size;
    const uint8_t *bytes = token_bytes(t, token, &size);
    if (is_special(t, token)) {
        text_append_bytes(out, bytes, size);
        return;
    }
    for (size_t i = 0; i < size; i++) {
        char character[4];
        text_append_bytes(out, character, utf8_write(byte_character(bytes[i]), character));
    }
}

static tsr_status write_vocab(const tsr_tokenizer *t, const char *path)
{
    json j = {.one_line = true};
    json_begin_object(&j);
    for (uint32_t i = 0; i < t->count && j.status == TSR_OK; i++) {
        text name = {0};
        append_name(t, i, &name);
        if (name.failed)
            j.status = TSR_OUT_OF_MEMORY;
        json_put_int(&j, text_string(&name), i);
        text_free(&name);
    }
    json_end_object(&j);
    const tsr_status status = json_write_file(&j, path);
    json_free(&j);
    return status;
}

static tsr_status write_merges(const tsr_tokenizer *t, const char *path)
{
    text lines = {0};
    text_append(&lines, "#version: 0.2\n");
    for (uint32_t i = 0; i < t->merge_count; i++) {
        append_name(t, t->merges[i].left, &lines);
        text_append_char(&lines, ' ');
        append_name(t, t->merges[i].right, &lines);
        text_append_char(&lines, '\n');
    }
    const tsr_status status = lines.failed ? TSR_OUT_OF_MEMORY : file_write_atomic(path, lines.bytes, lines.length);
    text_free(&lines);
    return status;
}

tsr_status tsr_bpe_save(const tsr_tokenizer *t, const char *vocab, const char *merges)
{
    if (t == NULL && tsr_last_status() != TSR_OK)
        return tsr_last_status();
    if (t == NULL || vocab == NULL || merges == NULL)
        return fail(TSR_INVALID_ARGUMENT, "tsr_bpe_save: an argument is NULL");
    const tsr_status status = write_vocab(t, vocab);
    return status == TSR_OK ? write_merges(t, merges) : status;
}
