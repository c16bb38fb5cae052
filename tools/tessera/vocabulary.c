#include "vocabulary.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"

static const char bytes_word[] = "bytes", learnt_word[] = "bpe:";

enum { TEXT_MOST = 1 << 30 };

static tsr_tokenizer *open_folder(const char *folder)
{
    char vocab[PATH_SIZE], merges[PATH_SIZE];
    if (path_join(vocab, sizeof vocab, folder, "vocab.json") != TSR_OK ||
        path_join(merges, sizeof merges, folder, "merges.txt") != TSR_OK)
        return NULL;
    return tsr_bpe_load(vocab, merges);
}

static tsr_tokenizer *learn(const char *digits, const char *text_path)
{
    char *end;
    uint8_t *bytes;
    size_t size;
    const long long wanted = strtoll(digits, &end, 10);
    if (end == digits || *end != '\0' || wanted < 257 || wanted > 1 << 20) {
        fail(TSR_INVALID_ARGUMENT, "%s%s: it must be a number of tokens from 257 to %d", learnt_word, digits, 1 << 20);
        return NULL;
    }
    if (file_read_all(text_path, &bytes, &size, TEXT_MOST) != TSR_OK)
        return NULL;
    tsr_tokenizer *t = tsr_bpe_train(bytes, size, wanted);
    host_free(bytes);
    return t;
}

tsr_tokenizer *vocabulary_open(const char *tokens, const char *text_path)
{
    if (strcmp(tokens, bytes_word) == 0)
        return tsr_tokenizer_bytes();
    if (strncmp(tokens, learnt_word, sizeof learnt_word - 1) == 0)
        return learn(tokens + sizeof learnt_word - 1, text_path);
    return open_folder(tokens);
}

tsr_status vocabulary_save(const tsr_tokenizer *tokenizer, const char *tokens, const char *path, char *note,
                           size_t size)
{
    char folder[PATH_SIZE], vocab[PATH_SIZE], merges[PATH_SIZE];
    if (strncmp(tokens, learnt_word, sizeof learnt_word - 1) != 0) {
        char *whole = strcmp(tokens, bytes_word) == 0 ? NULL : realpath(tokens, NULL);
        snprintf(note, size, "%s", whole != NULL ? whole : tokens);
        free(whole);
        return TSR_OK;
    }
    const char *slash = strrchr(path, '/');
    snprintf(note, size, "%s.tokens", slash != NULL ? slash + 1 : path);
    snprintf(folder, sizeof folder, "%.4000s.tokens", path);
    tsr_status status = file_make_dirs(folder);
    if (status == TSR_OK)
        status = path_join(vocab, sizeof vocab, folder, "vocab.json");
    if (status == TSR_OK)
        status = path_join(merges, sizeof merges, folder, "merges.txt");
    return status == TSR_OK ? tsr_bpe_save(tokenizer, vocab, merges) : status;
}

tsr_tokenizer *vocabulary_of_model(const char *path, const char *note, int64_t tokens)
{
    char folder[PATH_SIZE], place[PATH_SIZE];
    snprintf(folder, sizeof folder, "%s", path);
    path_parent(folder);
    if (note != NULL && strcmp(note, bytes_word) == 0)
        return tsr_tokenizer_bytes();
    if (note != NULL)
        return path_join(place, sizeof place, folder, note) == TSR_OK ? open_folder(place) : NULL;
    if (path_join(place, sizeof place, folder, "vocab.json") == TSR_OK && file_exists(place))
        return open_folder(folder);
    if (tokens == 256)
        return tsr_tokenizer_bytes();
    fail(TSR_NOT_FOUND,
         "%s does not tell its %" PRId64 " tokens, and no vocab.json lies beside it; --tokens names them", path,
         tokens);
    return NULL;
}
