/* libFuzzer: any bytes as a file of CIFAR-10, behind a file that is good. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "data/cifar10.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    enum { IMAGE = 3072 };
    /* The fuzzer's inputs are short: its first byte says how many whole records there are, the others lie in turn in them. */
    const size_t whole = size == 0 ? 0 : (bytes[0] % 4) * (IMAGE + 1) + (bytes[0] & 64 ? bytes[0] % 5 : 0);
    uint8_t *file = calloc(whole + size + 1, 1);
    for (size_t i = 0; i < whole; i++)
        file[i] = size > 1 ? bytes[1 + i % (size - 1)] % 11 : 0;
    if (whole == 0 && size > 0)
        memcpy(file, bytes, size);
    const size_t length = whole == 0 ? size : whole;

    byte_images images = {.elements = IMAGE, .channel = IMAGE / 3};
    for (int turn = 0; turn < 2; turn++) {
        const int64_t before = images.count;
        if (cifar10_add_records(&images, "input", file, length) != TSR_OK) {
            if (images.count != before || tsr_last_error()[0] == '\0')
                abort();
            break;
        }
        if ((size_t)(images.count - before) * (IMAGE + 1) != length)
            abort();
        for (int64_t i = before; i < images.count; i++)
            if (images.labels[i] > 9 ||
                memcmp(images.samples + i * IMAGE, file + (i - before) * (IMAGE + 1) + 1, IMAGE) != 0)
                abort();
    }
    host_free(images.samples);
    host_free(images.labels);
    free(file);
    return 0;
}
