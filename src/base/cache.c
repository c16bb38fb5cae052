#include "base/cache.h"

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/sha256.h"
#include "base/thread.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* An entry on disk: this header, then the payload. */
typedef struct entry_header {
    uint8_t magic[8];
    uint8_t length[8]; /* of the payload, little-endian */
    uint8_t digest[SHA256_SIZE];
} entry_header;

static const uint8_t entry_magic[8] = {'T', 'S', 'R', 'B', 'L', 'O', 'B', '1'};

static atomic_uint_least64_t hits, misses, stores;

static mutex problem_lock = MUTEX_INIT;
static char problem[ERROR_MESSAGE_SIZE + 128]; /* "" while there is none; written once */

static void note_problem(void)
{
    mutex_lock(&problem_lock);
    if (problem[0] == '\0') {
        snprintf(problem, sizeof problem,
                 "compiled programs are not kept: %s; set TESSERA_CACHE_DIR to a folder that can be written",
                 tsr_last_error());
        log_warn("%s", problem);
    }
    mutex_unlock(&problem_lock);
}

static bool is_name(const char *kind)
{
    const size_t length = strspn(kind, "abcdefghijklmnopqrstuvwxyz0123456789_-");
    return length > 0 && kind[length] == '\0';
}

static bool is_key(const char *key)
{
    return strlen(key) == SHA256_HEX_SIZE - 1 && strspn(key, "0123456789abcdef") == SHA256_HEX_SIZE - 1;
}

/* folder = cache_dir()/kind, path = folder/key */
static tsr_status entry_path(const char *kind, const char *key, char folder[PATH_SIZE], char path[PATH_SIZE])
{
    if (!is_name(kind) || !is_key(key))
        return fail(TSR_INVALID_ARGUMENT, "\"%s\", \"%s\" do not name an entry of the cache", kind, key);
    tsr_status status = cache_dir(folder, PATH_SIZE);
    if (status == TSR_OK)
        status = path_join(folder, PATH_SIZE, folder, kind);
    if (status == TSR_OK)
        status = path_join(path, PATH_SIZE, folder, key);
    return status;
}

static void describe(entry_header *header, const void *payload, size_t size)
{
    sha256 hash;
    memcpy(header->magic, entry_magic, sizeof entry_magic);
    for (int i = 0; i < 8; i++)
        header->length[i] = (uint8_t)((uint64_t)size >> (8 * i));
    sha256_begin(&hash);
    sha256_update(&hash, payload, size);
    sha256_end(&hash, header->digest);
}

bool cache_unwrap(uint8_t *bytes, size_t *size)
{
    entry_header expected;
    if (*size < sizeof expected)
        return false;
    const size_t length = *size - sizeof expected;
    describe(&expected, bytes + sizeof expected, length);
    if (memcmp(bytes, &expected, sizeof expected) != 0)
        return false;
    memmove(bytes, bytes + sizeof expected, length + 1); /* with the final 0 */
    *size = length;
    return true;
}

bool cache_load(const char *kind, const char *key, uint8_t **bytes, size_t *size)
{
    char folder[PATH_SIZE], path[PATH_SIZE];
    error_state before;
    bool found = false;

    *bytes = NULL;
    *size = 0;
    error_save(&before);
    if (entry_path(kind, key, folder, path) == TSR_OK && file_read_all(path, bytes, size, SIZE_MAX) == TSR_OK) {
        found = cache_unwrap(*bytes, size);
        if (!found) {
            log_info("%s is damaged and will be replaced", path);
            host_free(*bytes);
            *bytes = NULL;
            *size = 0;
        }
    }
    error_restore(&before);
    atomic_fetch_add(found ? &hits : &misses, 1);
    return found;
}

void cache_store(const char *kind, const char *key, const void *bytes, size_t size)
{
    char folder[PATH_SIZE], path[PATH_SIZE];
    error_state before;
    entry_header header;

    error_save(&before);
    describe(&header, bytes, size);
    /* Not synced: an entry that a power cut damaged is found by its digest. */
    const file_piece pieces[] = {{&header, sizeof header}, {bytes, size}};
    if (entry_path(kind, key, folder, path) == TSR_OK && file_make_dirs(folder) == TSR_OK &&
        file_write_pieces(path, pieces, 2, false) == TSR_OK)
        atomic_fetch_add(&stores, 1);
    else
        note_problem();
    error_restore(&before);
}

const char *cache_problem(void)
{
    char folder[PATH_SIZE];
    error_state before;

    error_save(&before);
    if (cache_dir(folder, sizeof folder) != TSR_OK || file_make_dirs(folder) != TSR_OK) {
        note_problem();
    } else if (access(folder, W_OK | X_OK) != 0) {
        fail_errno("cannot write into the folder %s", folder);
        note_problem();
    }
    error_restore(&before);

    mutex_lock(&problem_lock);
    const char *sentence = problem[0] != '\0' ? problem : NULL;
    mutex_unlock(&problem_lock);
    return sentence;
}

cache_counters cache_statistics(void)
{
    return (cache_counters){.hits = atomic_load(&hits), .misses = atomic_load(&misses), .stores = atomic_load(&stores)};
}

void cache_reset(void)
{
    atomic_store(&hits, 0);
    atomic_store(&misses, 0);
    atomic_store(&stores, 0);
    mutex_lock(&problem_lock);
    problem[0] = '\0';
    mutex_unlock(&problem_lock);
}
