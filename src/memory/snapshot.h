/* What an allocator holds and what it did, as a table, as JSON and as a picture. */
#ifndef TESSERA_MEMORY_SNAPSHOT_H
#define TESSERA_MEMORY_SNAPSHOT_H

#include "memory/allocator.h"

/* One row for an owner. */
typedef struct owner_table {
    tsr_memory_owner *rows;
    size_t count, capacity;
} owner_table;

/* Of now and of the recording's peak, in the order of tsr_memory_owners; under the allocator's lock. The caller frees the rows with host_free. */
tsr_status owner_table_fill(owner_table *t, allocator *a);

tsr_status snapshot_write(allocator *a, const char *device, const char *path);
tsr_status snapshot_draw(allocator *a, const char *device, const char *path);

#endif
