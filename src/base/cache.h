/* Blobs on disk that are dear to make again: compiled programs, tuning results, self-tests.
 *
 * They lie in cache_dir()/kind/key, each with its length and SHA-256, so a damaged or truncated file is a miss and is
 * replaced by the next store. Several processes may share the folder. A cache never fails: without one everything is
 * merely slower. It leaves the thread's error as it is. */
#ifndef TESSERA_BASE_CACHE_H
#define TESSERA_BASE_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* `kind` is a folder's name ([a-z0-9_-]+), `key` the 64 hexadecimal digits of a SHA-256 over everything the blob
 * depends on. On true *bytes is memory to host_free; on false NULL. */
bool cache_load(const char *kind, const char *key, uint8_t **bytes, size_t *size);

void cache_store(const char *kind, const char *key, const void *bytes, size_t size);

/* Takes the header off a file's content, which has a 0 byte behind it; false if it is not what cache_store wrote. */
bool cache_unwrap(uint8_t *bytes, size_t *size);

/* Why the cache cannot be written, a sentence, or NULL if it can (found out now, if nothing was stored yet). The text
 * lives as long as the process; it is also logged once as a warning. */
const char *cache_problem(void);

typedef struct cache_counters {
    uint64_t hits;
    uint64_t misses;
    uint64_t stores; /* those that succeeded */
} cache_counters;

/* Since the process began. */
cache_counters cache_statistics(void);

/* For tests: forgets counters and problem. */
void cache_reset(void);

#endif
