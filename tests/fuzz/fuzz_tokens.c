/* libFuzzer: any bytes as a file of tokens, with options from its first bytes. Every sample can be read, and is what lies in the file. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "data/dataset.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static int64_t number(const uint8_t *bytes)
{
    const int64_t small = (int8_t)bytes[0];
    return bytes[1] == 255 ? INT64_MAX - bytes[0] : bytes[1] == 254 ? INT64_MIN + bytes[0] : small;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    enum { HEAD = 11 };
    if (size < HEAD)
        return 0;
    const tsr_tokens_options options = {.context = number(bytes),
                                        .stride = number(bytes + 2),
                                        .bytes = bytes[4] % 4,
                                        .vocabulary = number(bytes + 5),
                                        .first = number(bytes + 7),
                                        .count = number(bytes + 9)};
    const int file = memfd_create("tokens", 0);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    if (file < 0 || write(file, bytes + HEAD, size - HEAD) != (ssize_t)(size - HEAD))
        abort();
    tsr_dataset *d = tsr_tokens_open(path, &options);
    if (d == NULL && tsr_last_error()[0] == '\0')
        abort();
    const int64_t count = tsr_dataset_count(d), context = d == NULL ? 0 : d->source.sample_shape[0];
    int64_t *x = calloc((size_t)context + 1, 2 * sizeof *x);
    for (int64_t i = 0; i < count; i += 1 + count / 16) {
        const tsr_status status = dataset_read(d, i, x, x + context);
        if (status != TSR_OK && status != TSR_CORRUPT_DATA)
            abort();
        for (int64_t k = 0; status == TSR_OK && k + 1 < context; k++)
            if (x[k] < 0 || x[k] >= tsr_dataset_classes(d) || x[k + 1] != x[context + k])
                abort();
    }
    free(x);
    tsr_dataset_destroy(d);
    close(file);
    return 0;
}
