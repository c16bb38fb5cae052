/* What kernels do to their bindings, as the catalogue declares it. */
#ifndef TESSERA_TESTS_ORDER_KERNELS_H
#define TESSERA_TESTS_ORDER_KERNELS_H

#include <stddef.h>
#include <stdint.h>

typedef struct order_kernel {
    uint64_t sum; /* of the SPIR-V */
    size_t bytes;
    const char *key;
    uint32_t binding_count;
    uint8_t access[8]; /* hal_access */
    uint8_t element_bytes[8];
} order_kernel;

/* FNV-1a, a word at a time. */
static inline uint64_t order_kernel_sum(const uint32_t *words, size_t bytes)
{
    uint64_t sum = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < bytes / 4; i++)
        sum = (sum ^ words[i]) * UINT64_C(0x100000001b3);
    return sum;
}

/* NULL for code that is not in the catalogue. */
const order_kernel *order_kernel_find(const uint32_t *words, size_t bytes);

#endif
