/* Texts as data sets: encoded once, or read from the file where each byte is a token. */
#include <math.h>
#include <stdint.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/philox.h"
#include "data/dataset.h"
#include "data/tokenizer.h"

typedef struct text_file {
    file_mapping *mapping; /* NULL once the text is encoded */
    const uint8_t *bytes;  /* the part in use */
    uint32_t of_byte[256];
    uint32_t *tokens; /* NULL: bytes are tokens */
    int64_t count;    /* of tokens */
    tsr_text_options options;
} text_file;

/* 0 … places - 1, each equally likely. */
static int64_t random_place(const text_file *f, int64_t sample, int64_t places)
{
    philox_stream s = philox_begin(f->options.seed, PHILOX_WINDOWS, (uint64_t)sample);
    if (places <= UINT32_MAX)
        return philox_below(&s, (uint32_t)places);
    const uint32_t high_count = (uint32_t)((places - 1) >> 24) + 1; /* places < 2^56: more than a file has */
    while (true) {
        const int64_t high = philox_below(&s, high_count), place = high << 24 | (philox_next(&s) >> 8);
        if (place < places)
            return place;
    }
}

static tsr_status read_window(void *context, int64_t sample, void *samples, void *targets)
{
    const text_file *f = context;
    const int64_t n = f->options.context;
    const int64_t first = f->options.windows > 0 ? random_place(f, sample, f->count - n) : sample * f->options.stride;
    int64_t *x = samples, *y = targets;
    for (int64_t i = 0; i <= n; i++) {
        const uint32_t token = f->tokens != NULL ? f->tokens[first + i] : f->of_byte[f->bytes[first + i]];
        if (i < n)
            x[i] = token;
        if (i > 0)
            y[i - 1] = token;
    }
    return TSR_OK;
}

static void release(void *context)
{
    text_file *f = context;
    file_unmap(f->mapping);
    host_free(f->tokens);
    host_free(f);
}

/* The byte at this fraction of the text, or the beginning of its character. */
static uint64_t cut(const uint8_t *bytes, uint64_t size, double fraction)
{
    uint64_t at = (uint64_t)floor((double)size * fraction);
    if (at >= size)
        return size;
    for (int i = 0; i < 3 && at > 0 && (bytes[at] & 0xC0) == 0x80; i++)
        at--;
    return at;
}

/* The part of the file, and its tokens. */
static tsr_status read_part(text_file *f, const char *path, const tsr_tokenizer *t)
{
    uint64_t size;
    token_list list = {0};
    tsr_status status = file_map(path, &f->mapping, (const void **)&f->bytes, &size);
    if (status != TSR_OK)
        return status;
    const uint64_t begin = cut(f->bytes, size, f->options.from), end = cut(f->bytes, size, f->options.to);
    f->bytes += begin;
    f->count = (int64_t)(end - begin);
    for (int i = 0; i < 256; i++)
        f->of_byte[i] = t->of_byte[i];
    if (t->merge_count == 0 && (t->special_count == 0 || !f->options.specials))
        return TSR_OK;
    status = tokenizer_encode(t, f->bytes, (size_t)(end - begin), f->options.specials, &list);
    f->tokens = list.tokens;
    f->count = (int64_t)list.count;
    file_unmap(f->mapping);
    f->mapping = NULL;
    f->bytes = NULL;
    return status;
}

tsr_dataset *tsr_text_open(const char *path, const tsr_tokenizer *t, const tsr_text_options *options)
{
    if (t == NULL && tsr_last_status() != TSR_OK)
        return NULL;
    if (path == NULL || t == NULL || options == NULL) {
        fail(TSR_INVALID_ARGUMENT, "tsr_text_open: a path, a tokenizer and options are needed");
        return NULL;
    }
    tsr_text_options o = *options;
    o.stride = o.stride == 0 ? o.context : o.stride;
    o.to = o.to == 0 ? 1 : o.to;
    if (o.context < 1 || o.stride < 1 || o.windows < 0 || !(o.from >= 0 && o.from < o.to && o.to <= 1)) {
        fail(
            TSR_OUT_OF_RANGE,
            "text of %s: context and stride must be at least 1, windows at least 0, and the part from %g to %g is none",
            path, o.from, o.to);
        return NULL;
    }
    text_file *f = host_alloc_zeroed(1, sizeof *f);
    if (f == NULL)
        return NULL;
    f->options = o;
    tsr_status status = read_part(f, path, t);
    if (status == TSR_OK && f->count <= o.context)
        status = fail(TSR_CORRUPT_DATA, "%s from %g to %g has %lld tokens; a sample takes one more than %lld", path,
                      o.from, o.to, (long long)f->count, (long long)o.context);
    if (status != TSR_OK) {
        release(f);
        return NULL;
    }
    const int64_t strides = (f->count - 1 - o.context) / o.stride + 1;
    return windows_dataset(o.windows > 0 ? o.windows : strides, o.context, t->count, read_window, release, f);
}
