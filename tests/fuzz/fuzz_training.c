/* libFuzzer: any bytes as the header of a training state, without the digest that would keep the fuzzer out. Numbers that are taken are in range. */
#include <math.h>
#include <stdlib.h>

#include "io/training_numbers.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    safetensors_header h;
    training_numbers n;
    if (safetensors_parse("input", bytes, size, 0, &h) != TSR_OK)
        return 0;
    if (training_numbers_read(&h, "input", "s", &n) != TSR_OK) {
        if (tsr_last_error()[0] == '\0')
            abort();
    } else if (n.whole[TRAINING_STEP] > INT64_MAX || n.whole[TRAINING_SAMPLE] > INT64_MAX || !isfinite(n.lr) ||
               n.lr < 0) {
        abort();
    }
    safetensors_header_free(&h);
    return 0;
}
