/* libFuzzer: any bytes as an entry of the cache of compiled kernels; and what the header and digest of any bytes are taken for. */
#include <stdlib.h>
#include <string.h>

#include "base/cache.h"
#include "base/sha256.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

enum { HEADER = 48 }; /* magic, length, SHA-256 */

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    uint8_t *entry = malloc(HEADER + size + 1);
    size_t length = size;
    sha256 hash;
    memcpy(entry, bytes, size);
    entry[size] = 0;
    if (cache_unwrap(entry, &length)) { /* the fuzzer sees what memcmp compares, and finds digests */
        uint8_t digest[SHA256_SIZE];
        sha256_begin(&hash);
        sha256_update(&hash, entry, length);
        sha256_end(&hash, digest);
        if (length + HEADER != size || memcmp(digest, bytes + 16, SHA256_SIZE) != 0 || entry[length] != 0)
            abort();
    }

    /* As cache_store writes it, with one byte changed where the input says so. */
    const size_t at = size < 3 ? SIZE_MAX : (size_t)(bytes[0] << 8 | bytes[1]);
    memcpy(entry, "TSRBLOB1", 8);
    for (int i = 0; i < 8; i++)
        entry[8 + i] = (uint8_t)((uint64_t)size >> (8 * i));
    sha256_begin(&hash);
    sha256_update(&hash, bytes, size);
    sha256_end(&hash, entry + 16);
    memcpy(entry + HEADER, bytes, size);
    entry[HEADER + size] = 0;
    length = HEADER + size;
    const bool damaged = at < length && bytes[2] != 0;
    if (damaged)
        entry[at] ^= bytes[2];
    if (cache_unwrap(entry, &length) == damaged || (!damaged && (length != size || memcmp(entry, bytes, size) != 0)))
        abort();
    free(entry);
    return 0;
}
