#include "order_kernels.h"

static const order_kernel kernels[] = {
#include "order_kernels.inc"
};

const order_kernel *order_kernel_find(const uint32_t *words, size_t bytes)
{
    const uint64_t sum = order_kernel_sum(words, bytes);
    for (size_t i = 0; i < sizeof kernels / sizeof kernels[0]; i++)
        if (kernels[i].sum == sum && kernels[i].bytes == bytes)
            return &kernels[i];
    return NULL;
}
