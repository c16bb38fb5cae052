/* Division by a number known beforehand as a multiplication: what the kernels' FAST_DIV(n, mul, shift) takes.
 *
 * n / d = high word of 2n · mul, shifted right, for n < 2^31 and 1 ≤ d < 2^31: mul = ceil(2^(31 + shift) / d) with shift = ceil(log2 d),
 * so the error of mul is below d ≤ 2^shift, and n times it stays below 2^(31 + shift). (Granlund and Montgomery 1994.) */
#ifndef TESSERA_BASE_FASTDIV_H
#define TESSERA_BASE_FASTDIV_H

#include <stdint.h>

typedef struct fast_div {
    uint32_t mul, shift;
} fast_div;

static inline fast_div fast_div_make(uint32_t d)
{
    fast_div f = {0, 0};
    while (f.shift < 31 && (uint32_t)1 << f.shift < d)
        f.shift++;
    f.mul = (uint32_t)((((uint64_t)1 << (31 + f.shift)) + d - 1) / d);
    return f;
}

static inline uint32_t fast_div_apply(uint32_t n, fast_div f)
{
    return (uint32_t)(((uint64_t)(n << 1) * f.mul) >> 32) >> f.shift;
}

#endif
