/* libFuzzer: any bytes as an IDX file. What is read must be as large as its header says; the sanitizers see the rest.
 *   cmake -B build/fuzz -DCMAKE_C_COMPILER=clang -DTESSERA_FUZZ=ON && build/fuzz/tests/fuzz/fuzz_idx -max_total_time=60 */
#include <stdlib.h>
#include <string.h>

#include "data/idx.h"

typedef struct memory_source {
    const uint8_t *next;
    size_t left;
} memory_source;

static int64_t read_memory(void *context, uint8_t *bytes, size_t capacity)
{
    memory_source *m = context;
    const size_t n = m->left < capacity ? m->left : capacity;
    memcpy(bytes, m->next, n);
    m->next += n;
    m->left -= n;
    return (int64_t)n;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    for (int knows_size = 0; knows_size < 2; knows_size++) {
        memory_source m = {bytes, size};
        tsr_idx idx;
        if (size == 0)
            continue;
        if (idx_read_source(&(idx_source){read_memory, &m, knows_size ? size : 0}, "input", &idx) != TSR_OK) {
            if (idx.data != NULL || tsr_last_error()[0] == '\0')
                abort();
            continue;
        }
        uint8_t sum = 0;
        size_t n = 1;
        for (int i = 0; i < idx.rank; i++)
            n *= (size_t)idx.shape[i];
        for (size_t i = 0; i < n; i++)
            sum ^= idx.data[i];
        if (m.left != 0 || (n == 1 && sum != idx.data[0]))
            abort();
        tsr_idx_free(&idx);
    }
    return 0;
}
