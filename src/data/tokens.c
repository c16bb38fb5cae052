/* Files of tokens, and texts byte by byte. */
#include <stdint.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "data/dataset.h"

typedef struct token_file {
    file_mapping *mapping;
    const uint8_t *bytes;
    tsr_tokens_options options;
} token_file;

static int64_t token_at(const token_file *f, int64_t i)
{
    if (f->options.bytes == 1)
        return f->bytes[f->options.first + i];
    const uint8_t *at = f->bytes + 2 * (f->options.first + i);
    return at[0] | at[1] << 8;
}

static tsr_status read_window(void *context, int64_t index, void *sample, void *target)
{
    const token_file *f = context;
    const int64_t first = index * f->options.stride;
    int64_t *x = sample, *y = target;
    for (int64_t i = 0; i <= f->options.context; i++) {
        const int64_t token = token_at(f, first + i);
        if (token >= f->options.vocabulary)
            return fail(TSR_CORRUPT_DATA, "token %lld of the file is %lld; the vocabulary has %lld",
                        (long long)(f->options.first + first + i), (long long)token, (long long)f->options.vocabulary);
        if (i < f->options.context)
            x[i] = token;
        if (i > 0)
            y[i - 1] = token;
    }
    return TSR_OK;
}

static void release(void *context)
{
    token_file *f = context;
    file_unmap(f->mapping);
    host_free(f);
}

/* Fills what was left at 0 in; tokens is how many the file has. */
static tsr_status settle(tsr_tokens_options *o, const char *path, int64_t tokens)
{
    o->stride = o->stride == 0 ? o->context : o->stride;
    o->vocabulary = o->vocabulary == 0 ? (o->bytes == 1 ? 256 : 65536) : o->vocabulary;
    if (o->context < 1 || o->stride < 1 || o->vocabulary < 1 || o->first < 0 || o->count < 0)
        return fail(TSR_OUT_OF_RANGE,
                    "tokens of %s: context, stride and vocabulary must be at least 1, places at least 0", path);
    const int64_t left = o->first > tokens ? 0 : tokens - o->first;
    o->count = o->count == 0 ? left : o->count;
    if (o->count > left || o->count <= o->context)
        return fail(TSR_CORRUPT_DATA,
                    "%s has %lld tokens from token %lld on; %lld are wanted, and a sample takes one more than %lld",
                    path, (long long)left, (long long)o->first, (long long)o->count, (long long)o->context);
    return TSR_OK;
}

tsr_dataset *tsr_tokens_open(const char *path, const tsr_tokens_options *options)
{
    uint64_t size;
    if (path == NULL || options == NULL || options->bytes < 0 || options->bytes > 2) {
        fail(TSR_INVALID_ARGUMENT, "tsr_tokens_open: a path and options are needed; tokens have 1 or 2 bytes");
        return NULL;
    }
    token_file *f = host_alloc_zeroed(1, sizeof *f);
    if (f == NULL)
        return NULL;
    f->options = *options;
    f->options.bytes = options->bytes == 0 ? 1 : options->bytes;
    tsr_status status = file_map(path, &f->mapping, (const void **)&f->bytes, &size);
    if (status == TSR_OK && size % (uint64_t)f->options.bytes != 0)
        status = fail(TSR_CORRUPT_DATA, "%s has %llu bytes, an odd number: its last token is cut off", path,
                      (unsigned long long)size);
    if (status == TSR_OK)
        status = settle(&f->options, path, (int64_t)(size / (uint64_t)f->options.bytes));
    if (status != TSR_OK) {
        release(f);
        return NULL;
    }
    const tsr_tokens_options *o = &f->options;
    return windows_dataset((o->count - 1 - o->context) / o->stride + 1, o->context, o->vocabulary, read_window, release,
                           f);
}
