/* Networks that several benchmarks train. */
#ifndef TESSERA_BENCH_NETWORKS_H
#define TESSERA_BENCH_NETWORKS_H

#include "tessera/tessera.h"

/* The one of `tessera train mnist --model cnn`. */
static inline tsr_module *mnist_network(tsr_device *d)
{
    const tsr_conv2d_options pad = {.padding = {2, 2}};
    const tsr_pool2d_options two = {.kernel = {2, 2}};
    return TSR_SEQUENTIAL(tsr_conv2d_create(d, 1, 16, 5, 5, &pad, true), tsr_relu_create(), tsr_max_pool2d_create(&two),
                          tsr_conv2d_create(d, 16, 32, 5, 5, &pad, true), tsr_relu_create(),
                          tsr_max_pool2d_create(&two), tsr_flatten_create(1), tsr_linear_create(d, 1568, 128, true),
                          tsr_relu_create(), tsr_linear_create(d, 128, 10, true));
}

#endif
