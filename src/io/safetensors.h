/* The header of a safetensors file: parsed from untrusted bytes, and written. */
#ifndef TESSERA_IO_SAFETENSORS_H
#define TESSERA_IO_SAFETENSORS_H

#include "base/sha256.h"
#include "tessera/io.h"

/* Before the header stands its length, 64 bits; Hugging Face's reader takes headers up to this. */
enum { SAFETENSORS_PREFIX = 8, SAFETENSORS_HEADER_MOST = 100000000 };

typedef struct safetensors_entry {
    tsr_safetensors_entry shown;
    uint64_t begin; /* in the data, which follows the header */
} safetensors_entry;

typedef struct safetensors_header {
    void *document; /* the JSON that names and metadata are parts of */
    safetensors_entry *entries;
    size_t count;
} safetensors_header;

/* Parses `size` bytes of JSON before data of `data_bytes` bytes. `name` is the file's, for messages. On failure nothing is held. */
tsr_status safetensors_parse(const char *name, const uint8_t *json, size_t size, uint64_t data_bytes,
                             safetensors_header *header);
void safetensors_header_free(safetensors_header *header);
const char *safetensors_header_metadata(const safetensors_header *header, const char *key);

/* The entry's index, or header->count with TSR_NOT_FOUND. */
size_t safetensors_find(const safetensors_header *header, const char *file, const char *name);

/* Where in a file written with a digest its 64 hexadecimal digits stand; it covers all bytes of the file but the prefix, with zeros in its own place. */
#define SAFETENSORS_DIGEST_KEY "sha256"

struct tsr_safetensors {
    char *path;
    struct file_reader *reader;
    safetensors_header header;
    uint64_t data_begin;
};

/* tsr_safetensors_save, with a digest in the metadata if `digest`. */
tsr_status safetensors_write(const char *path, const tsr_named_tensor *tensors, size_t count,
                             const tsr_metadata *metadata, size_t metadata_count, bool digest);
/* TSR_CORRUPT_DATA where the file has no digest or another. */
tsr_status safetensors_verify(tsr_safetensors *file);

#endif
