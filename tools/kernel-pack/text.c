/* Growing strings, files, errors. */
#include "pack.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

_Noreturn void die(const char *file, int line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fflush(stdout);
    if (file && line > 0)
        fprintf(stderr, "%s:%d: error: ", file, line);
    else if (file)
        fprintf(stderr, "%s: error: ", file);
    else
        fprintf(stderr, "kernel-pack: ");
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

void *allocate(size_t size)
{
    void *memory = calloc(1, size ? size : 1);
    if (!memory)
        die(NULL, 0, "out of memory for %zu bytes", size);
    return memory;
}

char *copy_of(const char *bytes, size_t length)
{
    char *copy = allocate(length + 1);
    memcpy(copy, bytes, length);
    return copy;
}

void text_add_bytes(text *t, const char *bytes, size_t length)
{
    if (t->length + length + 1 > t->capacity) {
        t->capacity = (t->length + length + 1) * 2;
        t->data = realloc(t->data, t->capacity);
        if (!t->data)
            die(NULL, 0, "out of memory for %zu bytes", t->capacity);
    }
    memcpy(t->data + t->length, bytes, length);
    t->length += length;
    t->data[t->length] = 0;
}

static char *format_list(const char *format, va_list arguments, size_t *length)
{
    va_list again;
    va_copy(again, arguments);
    const int needed = vsnprintf(NULL, 0, format, again);
    va_end(again);
    char *out = allocate((size_t)needed + 1);
    vsnprintf(out, (size_t)needed + 1, format, arguments);
    *length = (size_t)needed;
    return out;
}

void text_add(text *t, const char *format, ...)
{
    va_list arguments;
    size_t length;
    va_start(arguments, format);
    char *formatted = format_list(format, arguments, &length);
    va_end(arguments);
    text_add_bytes(t, formatted, length);
    free(formatted);
}

char *format_of(const char *format, ...)
{
    va_list arguments;
    size_t length;
    va_start(arguments, format);
    char *formatted = format_list(format, arguments, &length);
    va_end(arguments);
    return formatted;
}

const char *text_string(const text *t)
{
    return t->data ? t->data : "";
}

char *read_file(const char *path, size_t *length)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return NULL;
    text out = {0};
    char block[65536];
    size_t got;
    while ((got = fread(block, 1, sizeof block, file)) > 0)
        text_add_bytes(&out, block, got);
    const bool failed = ferror(file) != 0;
    fclose(file);
    if (failed)
        return NULL;
    if (length)
        *length = out.length;
    return out.data ? out.data : copy_of("", 0);
}

void write_file(const char *path, const char *bytes, size_t length)
{
    /* Through a neighbour: a build that is stopped half-way leaves no half-written cache entry. */
    char *draft = format_of("%s.tmp", path);
    FILE *file = fopen(draft, "wb");
    if (!file)
        die(path, 0, "cannot be written: %s", strerror(errno));
    const bool written = fwrite(bytes, 1, length, file) == length;
    if (fclose(file) != 0 || !written || rename(draft, path) != 0)
        die(path, 0, "cannot be written: %s", strerror(errno));
}

void write_file_if_changed(const char *path, const char *bytes, size_t length)
{
    size_t old_length = 0;
    char *old = read_file(path, &old_length);
    if (!old || old_length != length || memcmp(old, bytes, length) != 0)
        write_file(path, bytes, length);
    free(old);
}

void make_folder(const char *path)
{
    if (mkdir(path, 0777) != 0 && errno != EEXIST)
        die(path, 0, "cannot be made: %s", strerror(errno));
}

bool is_word_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

bool has_word(const char *in, const char *word)
{
    const size_t length = strlen(word);
    for (const char *at = in; (at = strstr(at, word)) != NULL; at += length)
        if ((at == in || !is_word_char(at[-1])) && !is_word_char(at[length]))
            return true;
    return false;
}

char *key_of_words(const char *key)
{
    char *out = copy_of(key, strlen(key));
    for (char *c = out; *c; c++)
        if (!is_word_char(*c))
            *c = '_';
    return out;
}

char *hash_of(const char *bytes, size_t length)
{
    /* Two FNV-1a hashes with different offsets. */
    uint64_t a = 0xcbf29ce484222325u, b = 0x84222325cbf29ce4u;
    for (size_t i = 0; i < length; i++) {
        a = (a ^ (unsigned char)bytes[i]) * 0x100000001b3u;
        b = (b ^ (unsigned char)bytes[i]) * 0x100000001b3u + 0x9e3779b97f4a7c15u;
    }
    return format_of("%016llx%016llx", (unsigned long long)a, (unsigned long long)b);
}

static const storage_type storage_types[] = {
    {"f32", "f32", 4, "0"},
    {"f16", "f32", 2, "HAL_FEATURE_STORAGE_16"},
    {"bf16", "f32", 2, "HAL_FEATURE_STORAGE_16"},
    {"f64", "f64", 8, "HAL_FEATURE_FLOAT64"},
    {"i32", "i32", 4, "0"},
    {"u32", "u32", 4, "0"},
    {"i64", "i64", 8, "HAL_FEATURE_INT64"},
    {"u8", "i32", 1, "HAL_FEATURE_STORAGE_8"},
    {"bool", "i32", 1, "HAL_FEATURE_STORAGE_8"},
};

const storage_type *storage_type_find(const char *name)
{
    for (size_t i = 0; i < sizeof storage_types / sizeof storage_types[0]; i++)
        if (strcmp(storage_types[i].name, name) == 0)
            return &storage_types[i];
    return NULL;
}
