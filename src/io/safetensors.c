/* safetensors files: opening one, its tensors, its digest. */
#include "io/safetensors.h"

#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "tessera/ops.h"

/* The header's length, checked against the file's. */
static tsr_status header_length(const tsr_safetensors *f, uint64_t file_bytes, uint64_t *length)
{
    uint8_t prefix[SAFETENSORS_PREFIX];
    if (file_bytes < sizeof prefix)
        return fail(TSR_CORRUPT_DATA, "%s is no safetensors file: it has %llu bytes", f->path,
                    (unsigned long long)file_bytes);
    const tsr_status status = file_reader_at(f->reader, 0, prefix, sizeof prefix);
    *length = 0;
    for (int i = SAFETENSORS_PREFIX - 1; i >= 0; i--)
        *length = *length << 8 | prefix[i];
    if (status == TSR_OK && *length > SAFETENSORS_HEADER_MOST)
        return fail(TSR_CORRUPT_DATA, "%s is no safetensors file: its header would have %llu bytes; the most is %d",
                    f->path, (unsigned long long)*length, SAFETENSORS_HEADER_MOST);
    if (status == TSR_OK && *length > file_bytes - sizeof prefix)
        return fail(TSR_CORRUPT_DATA, "%s is cut off: its header has %llu bytes, the file %llu", f->path,
                    (unsigned long long)*length, (unsigned long long)file_bytes);
    return status;
}

static tsr_status read_header(tsr_safetensors *f)
{
    uint64_t file_bytes = 0, length = 0;
    tsr_status status = file_reader_open(f->path, &f->reader, &file_bytes);
    if (status == TSR_OK)
        status = header_length(f, file_bytes, &length);
    if (status != TSR_OK)
        return status;
    uint8_t *json = host_alloc((size_t)length);
    if (json == NULL)
        return fail_prefix("the header of %s", f->path);
    status = file_reader_at(f->reader, SAFETENSORS_PREFIX, json, (size_t)length);
    f->data_begin = SAFETENSORS_PREFIX + length;
    if (status == TSR_OK)
        status = safetensors_parse(f->path, json, (size_t)length, file_bytes - f->data_begin, &f->header);
    host_free(json);
    return status;
}

tsr_safetensors *tsr_safetensors_open(const char *path)
{
    if (path == NULL) {
        fail(TSR_INVALID_ARGUMENT, "tsr_safetensors_open: the path is NULL");
        return NULL;
    }
    tsr_safetensors *f = host_alloc_zeroed(1, sizeof *f);
    if (f == NULL)
        return NULL;
    f->path = host_strdup(path);
    if (f->path == NULL || read_header(f) != TSR_OK) {
        tsr_safetensors_close(f);
        return NULL;
    }
    return f;
}

void tsr_safetensors_close(tsr_safetensors *f)
{
    if (f == NULL)
        return;
    safetensors_header_free(&f->header);
    file_reader_close(f->reader);
    host_free(f->path);
    host_free(f);
}

size_t tsr_safetensors_count(const tsr_safetensors *f)
{
    return f == NULL ? 0 : f->header.count;
}

tsr_status tsr_safetensors_describe(const tsr_safetensors *f, size_t index, tsr_safetensors_entry *entry)
{
    if (f == NULL || entry == NULL)
        return fail(TSR_INVALID_ARGUMENT, "tsr_safetensors_describe: an argument is NULL");
    if (index >= f->header.count)
        return fail(TSR_OUT_OF_RANGE, "%s has %zu tensors; there is none of index %zu", f->path, f->header.count,
                    index);
    *entry = f->header.entries[index].shown;
    return TSR_OK;
}

const char *tsr_safetensors_metadata(const tsr_safetensors *f, const char *key)
{
    return f == NULL || key == NULL ? NULL : safetensors_header_metadata(&f->header, key);
}

/* A truth value is 0 or 1 everywhere; another byte would make kernels disagree. */
static tsr_status check_truths(const tsr_safetensors *f, const safetensors_entry *e, const uint8_t *bytes)
{
    for (uint64_t i = 0; e->shown.dtype == TSR_BOOL && i < e->shown.bytes; i++)
        if (bytes[i] > 1)
            return fail(TSR_CORRUPT_DATA, "%s: element %llu of the BOOL tensor '%s' is %d", f->path,
                        (unsigned long long)i, e->shown.name, bytes[i]);
    return TSR_OK;
}

tsr_tensor *tsr_safetensors_load(tsr_safetensors *f, const char *name, tsr_device *device)
{
    if (f == NULL || name == NULL || device == NULL)
        return NULL;
    const size_t index = safetensors_find(&f->header, f->path, name);
    if (index == f->header.count)
        return NULL;
    const safetensors_entry *e = &f->header.entries[index];
    if (e->shown.dtype == TSR_DTYPE_COUNT) {
        fail(TSR_UNSUPPORTED, "%s: tensor '%s' is of %s, a dtype that tensors here do not have", f->path, name,
             e->shown.dtype_name);
        return NULL;
    }
    /* The file is as long as the header says, so a lie about sizes takes no memory. */
    uint8_t *bytes = host_alloc((size_t)e->shown.bytes);
    tsr_tensor *t = NULL;
    if (bytes != NULL && file_reader_at(f->reader, f->data_begin + e->begin, bytes, (size_t)e->shown.bytes) == TSR_OK &&
        check_truths(f, e, bytes) == TSR_OK)
        t = tsr_from_data(device, e->shown.dtype, e->shown.rank, e->shown.shape, bytes);
    host_free(bytes);
    return t;
}

/* ---- the digest --------------------------------------------------------------------------------------------------- */

tsr_status safetensors_verify(tsr_safetensors *f)
{
    enum { CHUNK = 1 << 16, DIGITS = SHA256_HEX_SIZE - 1 };
    const char *said = safetensors_header_metadata(&f->header, SAFETENSORS_DIGEST_KEY);
    if (said == NULL)
        return fail(TSR_CORRUPT_DATA, "%s has no digest to be checked by", f->path);
    if (strlen(said) != DIGITS)
        return fail(TSR_CORRUPT_DATA, "%s: its digest has %zu digits in place of %d", f->path, strlen(said), DIGITS);

    uint64_t data_end = f->data_begin;
    if (f->header.count > 0) {
        const safetensors_entry *last = &f->header.entries[f->header.count - 1];
        data_end += last->begin + last->shown.bytes;
    }
    const size_t length = (size_t)(f->data_begin - SAFETENSORS_PREFIX);
    uint8_t *bytes = host_alloc(length > CHUNK ? length : CHUNK);
    if (bytes == NULL)
        return fail_prefix("the digest of %s", f->path);
    tsr_status status = file_reader_at(f->reader, SAFETENSORS_PREFIX, bytes, length);
    uint8_t *place = status == TSR_OK ? memmem(bytes, length, said, DIGITS) : NULL;
    sha256 hash;
    char found[SHA256_HEX_SIZE];
    sha256_begin(&hash);
    if (place != NULL)
        memset(place, '0', DIGITS);
    sha256_update(&hash, bytes, status == TSR_OK ? length : 0);
    for (uint64_t at = f->data_begin; status == TSR_OK && at < data_end; at += CHUNK) {
        const size_t now = data_end - at < CHUNK ? (size_t)(data_end - at) : CHUNK;
        status = file_reader_at(f->reader, at, bytes, now);
        if (status == TSR_OK)
            sha256_update(&hash, bytes, now);
    }
    host_free(bytes);
    sha256_end_hex(&hash, found);
    if (status == TSR_OK && strcmp(found, said) != 0)
        return fail(TSR_CORRUPT_DATA, "%s is damaged: its SHA-256 is not the one it was written with", f->path);
    return status;
}
