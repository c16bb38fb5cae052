/* IDX from any source of bytes: a file, or memory in the fuzzer. */
#ifndef TESSERA_DATA_IDX_H
#define TESSERA_DATA_IDX_H

#include <stddef.h>
#include <stdint.h>

#include "tessera/data.h"

/* Bytes in order. `read` gives 1 … capacity bytes, 0 at the end, or -1 with fail() set. */
typedef struct idx_source {
    int64_t (*read)(void *context, uint8_t *bytes, size_t capacity);
    void *context;
    uint64_t size; /* bytes there are, if known; 0 for a pipe */
} idx_source;

/* As tsr_idx_read; `name` is for messages. */
tsr_status idx_read_source(const idx_source *source, const char *name, tsr_idx *idx);

#endif
