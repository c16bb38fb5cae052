/* Writing a safetensors file. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "io/safetensors.h"
#include "tensor/tensor.h"

static const char *const dtype_names[] = {
    [TSR_F32] = "F32", [TSR_F16] = "F16", [TSR_BF16] = "BF16", [TSR_F64] = "F64",
    [TSR_I32] = "I32", [TSR_I64] = "I64", [TSR_U8] = "U8",     [TSR_BOOL] = "BOOL",
};

/* Its prefix, its header with the blanks that align the data, and a piece for each tensor. */
typedef struct document {
    const tsr_named_tensor *tensors;
    size_t count;
    size_t *order;      /* of the tensors in the file */
    file_piece *pieces; /* [2 + count]; the tensors' bytes are owned */
    uint8_t prefix[SAFETENSORS_PREFIX];
    json header;
    char *text; /* the header, aligned */
} document;

static tsr_status check_names(const tsr_named_tensor *tensors, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (tensors[i].name == NULL || tensors[i].tensor == NULL || strcmp(tensors[i].name, "__metadata__") == 0)
            return fail(TSR_INVALID_ARGUMENT, "saving tensors: number %zu lacks a name or is no tensor", i);
        for (size_t k = 0; k < i; k++)
            if (strcmp(tensors[k].name, tensors[i].name) == 0)
                return fail(TSR_INVALID_ARGUMENT, "saving tensors: two are named '%s'", tensors[i].name);
    }
    return TSR_OK;
}

/* Wide elements first, so that each tensor is aligned to its own. */
static void set_order(document *d)
{
    size_t placed = 0;
    for (size_t size = 8; size > 0; size /= 2)
        for (size_t i = 0; i < d->count; i++)
            if (tsr_dtype_size(tsr_dtype_of(d->tensors[i].tensor)) == size)
                d->order[placed++] = i;
}

static tsr_status read_tensors(document *d)
{
    for (size_t i = 0; i < d->count; i++) {
        tsr_tensor *t = d->tensors[d->order[i]].tensor;
        const size_t bytes = (size_t)tsr_numel(t) * tsr_dtype_size(tsr_dtype_of(t));
        void *values = host_alloc(bytes);
        d->pieces[2 + i] = (file_piece){values, bytes};
        const tsr_status status = values == NULL ? tsr_last_status() : tsr_read(t, values, bytes);
        if (status != TSR_OK)
            return status;
    }
    return TSR_OK;
}

static tsr_status make_header(document *d, const tsr_metadata *metadata, size_t metadata_count)
{
    json *j = &d->header;
    uint64_t at = 0;
    const char *written;
    json_begin_object(j);
    if (metadata_count > 0) {
        json_key(j, "__metadata__");
        json_begin_object(j);
        for (size_t i = 0; i < metadata_count; i++)
            json_put_string(j, metadata[i].key, metadata[i].value);
        json_end_object(j);
    }
    for (size_t i = 0; i < d->count; i++) {
        const tsr_named_tensor *n = &d->tensors[d->order[i]];
        json_key(j, n->name);
        json_begin_object(j);
        json_put_string(j, "dtype", dtype_names[tsr_dtype_of(n->tensor)]);
        json_key(j, "shape");
        json_begin_array(j);
        for (int k = 0; k < tsr_rank(n->tensor); k++)
            json_int(j, tsr_shape(n->tensor)[k]);
        json_end_array(j);
        json_key(j, "data_offsets");
        json_begin_array(j);
        json_uint(j, at);
        json_uint(j, at += d->pieces[2 + i].size);
        json_end_array(j);
        json_end_object(j);
    }
    json_end_object(j);
    const tsr_status status = json_finish(j, &written);
    if (status != TSR_OK)
        return status;

    const size_t length = strlen(written), aligned = (length + 7) / 8 * 8;
    d->text = host_alloc(aligned + 1);
    if (d->text == NULL)
        return TSR_OUT_OF_MEMORY;
    memcpy(d->text, written, length);
    memset(d->text + length, ' ', aligned - length);
    d->text[aligned] = '\0';
    for (int i = 0; i < SAFETENSORS_PREFIX; i++)
        d->prefix[i] = (uint8_t)((uint64_t)aligned >> (8 * i));
    d->pieces[0] = (file_piece){d->prefix, sizeof d->prefix};
    d->pieces[1] = (file_piece){d->text, aligned};
    return TSR_OK;
}

/* In place of the zeros, which are the first of so many: metadata comes first, the digest first in it. */
static void set_digest(document *d, const char *zeros)
{
    char digest[SHA256_HEX_SIZE];
    sha256 hash;
    sha256_begin(&hash);
    for (size_t i = 1; i < 2 + d->count; i++)
        sha256_update(&hash, d->pieces[i].bytes, d->pieces[i].size);
    sha256_end_hex(&hash, digest);
    memcpy(strstr(d->text, zeros), digest, SHA256_HEX_SIZE - 1);
}

static tsr_status write_document(document *d, const char *path, const tsr_metadata *metadata, size_t metadata_count,
                                 bool digest)
{
    char zeros[SHA256_HEX_SIZE];
    memset(zeros, '0', sizeof zeros - 1);
    zeros[sizeof zeros - 1] = '\0';
    tsr_metadata *all = host_alloc_zeroed(metadata_count + 1, sizeof *all);
    if (all == NULL)
        return TSR_OUT_OF_MEMORY;
    all[0] = (tsr_metadata){SAFETENSORS_DIGEST_KEY, zeros};
    for (size_t i = 0; i < metadata_count; i++)
        all[digest + i] = metadata[i];

    set_order(d);
    tsr_status status = read_tensors(d);
    if (status == TSR_OK)
        status = make_header(d, all, metadata_count + digest);
    if (status == TSR_OK && digest)
        set_digest(d, zeros);
    if (status == TSR_OK)
        status = file_write_pieces(path, d->pieces, 2 + d->count, true);
    host_free(all);
    return status;
}

tsr_status safetensors_write(const char *path, const tsr_named_tensor *tensors, size_t count,
                             const tsr_metadata *metadata, size_t metadata_count, bool digest)
{
    if (path == NULL || (tensors == NULL && count > 0) || (metadata == NULL && metadata_count > 0))
        return fail(TSR_INVALID_ARGUMENT, "saving tensors: an argument is NULL");
    tsr_status status = check_names(tensors, count);
    if (status != TSR_OK)
        return status;
    document d = {.tensors = tensors,
                  .count = count,
                  .order = host_alloc_zeroed(count + 1, sizeof *d.order),
                  .pieces = host_alloc_zeroed(count + 2, sizeof *d.pieces)};
    if (d.order == NULL || d.pieces == NULL)
        status = TSR_OUT_OF_MEMORY;
    else
        status = write_document(&d, path, metadata, metadata_count, digest);
    for (size_t i = 0; d.pieces != NULL && i < count; i++)
        host_free((void *)d.pieces[2 + i].bytes);
    host_free(d.pieces);
    host_free(d.order);
    host_free(d.text);
    json_free(&d.header);
    return status;
}

tsr_status tsr_safetensors_save(const char *path, const tsr_named_tensor *tensors, size_t count,
                                const tsr_metadata *metadata, size_t metadata_count)
{
    return safetensors_write(path, tensors, count, metadata, metadata_count, false);
}
