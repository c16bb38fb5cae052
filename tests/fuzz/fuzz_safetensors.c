/* libFuzzer: any bytes as a safetensors header. What is accepted must lie within the data, each byte belonging to one tensor.
 *   cmake -B build/fuzz -DCMAKE_C_COMPILER=clang -DTESSERA_FUZZ=ON && build/fuzz/tests/fuzz/fuzz_safetensors -max_total_time=60 */
#include <stdlib.h>
#include <string.h>

#include "io/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* The first two bytes choose how much data there would be. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (size < 2)
        return 0;
    const uint64_t data = bytes[0] == 255 ? (uint64_t)INT64_MAX - bytes[1] : (uint64_t)(bytes[0] * 8 + bytes[1] % 8);
    safetensors_header h;
    if (safetensors_parse("input", bytes + 2, size - 2, data, &h) != TSR_OK) {
        if (h.entries != NULL || h.document != NULL || tsr_last_error()[0] == '\0')
            abort();
        return 0;
    }
    uint64_t end = 0;
    for (size_t i = 0; i < h.count; i++) {
        const tsr_safetensors_entry *e = &h.entries[i].shown;
        if (h.entries[i].begin != end || e->bytes > data - end || e->rank > TSR_MAX_RANK || e->dtype_name == NULL ||
            safetensors_find(&h, "input", e->name) > i)
            abort();
        end += e->bytes;
    }
    if (end != data)
        abort();
    safetensors_header_metadata(&h, "format");
    safetensors_header_free(&h);
    return 0;
}
