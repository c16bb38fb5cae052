/* A safetensors header from untrusted bytes. Jansson parses the JSON; what it says is believed only as far as it is checked. */
#include "io/safetensors.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/compiler.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"

/* The format's dtypes, those too that Tessera has no tensors of: a file may hold one among others. */
static const struct {
    const char *name;
    unsigned bytes;
    tsr_dtype dtype;
} dtypes[] = {
    {"F32", 4, TSR_F32},
    {"F16", 2, TSR_F16},
    {"BF16", 2, TSR_BF16},
    {"F64", 8, TSR_F64},
    {"I32", 4, TSR_I32},
    {"I64", 8, TSR_I64},
    {"U8", 1, TSR_U8},
    {"BOOL", 1, TSR_BOOL},
    {"I8", 1, TSR_DTYPE_COUNT},
    {"I16", 2, TSR_DTYPE_COUNT},
    {"U16", 2, TSR_DTYPE_COUNT},
    {"U32", 4, TSR_DTYPE_COUNT},
    {"U64", 8, TSR_DTYPE_COUNT},
    {"F8_E4M3", 1, TSR_DTYPE_COUNT},
    {"F8_E5M2", 1, TSR_DTYPE_COUNT},
};

static const char metadata_key[] = "__metadata__";

static bool whole_number(const json_t *value, uint64_t *number)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *number = (uint64_t)json_integer_value(value);
    return true;
}

/* What an entry says of itself; `element` gets the bytes of one of its elements. */
static tsr_status read_dtype(const char *file, const json_t *value, safetensors_entry *e, unsigned *element)
{
    if (!json_is_string(value))
        return fail(TSR_CORRUPT_DATA, "%s: tensor '%s' has no dtype", file, e->shown.name);
    const char *name = json_string_value(value);
    for (size_t i = 0; i < COUNT_OF(dtypes); i++) {
        if (strcmp(dtypes[i].name, name) == 0) {
            e->shown.dtype_name = dtypes[i].name;
            e->shown.dtype = dtypes[i].dtype;
            *element = dtypes[i].bytes;
            return TSR_OK;
        }
    }
    return fail(TSR_UNSUPPORTED, "%s: tensor '%s' has the dtype '%.32s', which is not known here", file, e->shown.name,
                name);
}

static tsr_status read_shape(const char *file, const json_t *value, safetensors_entry *e, unsigned element)
{
    if (!json_is_array(value))
        return fail(TSR_CORRUPT_DATA, "%s: tensor '%s' has no shape", file, e->shown.name);
    const size_t rank = json_array_size(value);
    if (rank > TSR_MAX_RANK)
        return fail(TSR_UNSUPPORTED, "%s: tensor '%s' has %zu dimensions; here a tensor has at most %d", file,
                    e->shown.name, rank, TSR_MAX_RANK);
    e->shown.rank = (int)rank;
    int64_t bytes = element;
    bool empty = false;
    for (size_t i = 0; i < rank; i++) {
        uint64_t size;
        if (!whole_number(json_array_get(value, i), &size))
            return fail(TSR_CORRUPT_DATA, "%s: size %zu of tensor '%s' is no whole number", file, i, e->shown.name);
        e->shown.shape[i] = (int64_t)size;
        empty = empty || size == 0;
    }
    for (size_t i = 0; i < rank && !empty; i++)
        if (!checked_mul_i64(bytes, e->shown.shape[i], &bytes))
            return fail(TSR_CORRUPT_DATA, "%s: the sizes of tensor '%s' multiply to more than 2^63 bytes", file,
                        e->shown.name);
    e->shown.bytes = empty ? 0 : (uint64_t)bytes;
    return TSR_OK;
}

static tsr_status read_offsets(const char *file, const json_t *value, safetensors_entry *e, uint64_t data_bytes)
{
    uint64_t end;
    if (!json_is_array(value) || json_array_size(value) != 2 || !whole_number(json_array_get(value, 0), &e->begin) ||
        !whole_number(json_array_get(value, 1), &end))
        return fail(TSR_CORRUPT_DATA, "%s: tensor '%s' has no two data_offsets", file, e->shown.name);
    if (e->begin > end || end > data_bytes)
        return fail(TSR_CORRUPT_DATA, "%s: tensor '%s' lies at bytes %llu to %llu of %llu", file, e->shown.name,
                    (unsigned long long)e->begin, (unsigned long long)end, (unsigned long long)data_bytes);
    if (end - e->begin != e->shown.bytes)
        return fail(TSR_CORRUPT_DATA, "%s: tensor '%s' needs %llu bytes and has %llu", file, e->shown.name,
                    (unsigned long long)e->shown.bytes, (unsigned long long)(end - e->begin));
    return TSR_OK;
}

static tsr_status read_entry(const char *file, const char *name, const json_t *value, uint64_t data_bytes,
                             safetensors_entry *e)
{
    unsigned element = 0;
    e->shown.name = name;
    if (!json_is_object(value))
        return fail(TSR_CORRUPT_DATA, "%s: what stands under '%s' describes no tensor", file, name);
    tsr_status status = read_dtype(file, json_object_get(value, "dtype"), e, &element);
    if (status == TSR_OK)
        status = read_shape(file, json_object_get(value, "shape"), e, element);
    if (status == TSR_OK)
        status = read_offsets(file, json_object_get(value, "data_offsets"), e, data_bytes);
    return status;
}

static tsr_status check_metadata(const char *file, json_t *metadata)
{
    const char *key;
    json_t *value;
    if (!json_is_object(metadata))
        return fail(TSR_CORRUPT_DATA, "%s: its %s is no object", file, metadata_key);
    json_object_foreach(metadata, key, value)
    {
        if (!json_is_string(value))
            return fail(TSR_CORRUPT_DATA, "%s: '%s' of its %s is no string", file, key, metadata_key);
    }
    return TSR_OK;
}

/* Empty tensors before what begins where they lie. */
static int by_place(const void *a, const void *b)
{
    const safetensors_entry *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->shown.bytes == y->shown.bytes ? 0 : x->shown.bytes < y->shown.bytes ? -1 : 1;
}

/* Each byte belongs to one tensor. */
static tsr_status check_places(const char *file, const safetensors_header *h, uint64_t data_bytes)
{
    uint64_t end = 0;
    for (size_t i = 0; i < h->count; i++) {
        const safetensors_entry *e = &h->entries[i];
        if (e->begin < end)
            return fail(TSR_CORRUPT_DATA, "%s: tensor '%s' overlaps '%s'", file, e->shown.name,
                        h->entries[i - 1].shown.name);
        if (e->begin > end)
            return fail(TSR_CORRUPT_DATA, "%s: bytes %llu to %llu, before tensor '%s', belong to none", file,
                        (unsigned long long)end, (unsigned long long)e->begin, e->shown.name);
        end = e->begin + e->shown.bytes;
    }
    if (end != data_bytes)
        return fail(TSR_CORRUPT_DATA, "%s: its tensors end at byte %llu of %llu", file, (unsigned long long)end,
                    (unsigned long long)data_bytes);
    return TSR_OK;
}

static tsr_status read_entries(const char *file, json_t *root, uint64_t data_bytes, safetensors_header *h)
{
    const char *key;
    json_t *value;
    h->entries = host_alloc_zeroed(json_object_size(root), sizeof *h->entries);
    if (h->entries == NULL)
        return TSR_OUT_OF_MEMORY;
    json_object_foreach(root, key, value)
    {
        const bool is_metadata = strcmp(key, metadata_key) == 0;
        const tsr_status status =
            is_metadata ? check_metadata(file, value) : read_entry(file, key, value, data_bytes, &h->entries[h->count]);
        if (status != TSR_OK)
            return status;
        h->count += !is_metadata;
    }
    qsort(h->entries, h->count, sizeof *h->entries, by_place);
    return check_places(file, h, data_bytes);
}

tsr_status safetensors_parse(const char *name, const uint8_t *json, size_t size, uint64_t data_bytes,
                             safetensors_header *header)
{
    json_error_t why;
    *header = (safetensors_header){0};
    json_t *root = json_loadb((const char *)json, size, JSON_REJECT_DUPLICATES, &why);
    if (root == NULL)
        return fail(TSR_CORRUPT_DATA, "%s: its header is no JSON: %s (line %d)", name, why.text, why.line);
    header->document = root;
    const tsr_status status = json_is_object(root) ? read_entries(name, root, data_bytes, header)
                                                   : fail(TSR_CORRUPT_DATA, "%s: its header is no JSON object", name);
    if (status != TSR_OK)
        safetensors_header_free(header);
    return status;
}

void safetensors_header_free(safetensors_header *header)
{
    json_decref(header->document);
    host_free(header->entries);
    *header = (safetensors_header){0};
}

const char *safetensors_header_metadata(const safetensors_header *header, const char *key)
{
    return json_string_value(json_object_get(json_object_get(header->document, metadata_key), key));
}

size_t safetensors_find(const safetensors_header *header, const char *file, const char *name)
{
    for (size_t i = 0; i < header->count; i++)
        if (strcmp(header->entries[i].shown.name, name) == 0)
            return i;
    const char *near = NULL;
    const char **names = host_alloc_zeroed(header->count + 1, sizeof *names);
    for (size_t i = 0; names != NULL && i < header->count; i++)
        names[i] = header->entries[i].shown.name;
    if (names != NULL)
        near = nearest_word(name, names, header->count);
    fail(TSR_NOT_FOUND, near != NULL ? "%s has no tensor '%s'; did you mean '%s'?" : "%s has no tensor '%s'", file,
         name, near);
    host_free((void *)names);
    return header->count;
}
