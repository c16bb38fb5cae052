#include "backends/cpu/cpu_half.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* A product with 2^112 moves the exponent from f16's bias to f32's, subnormals included, exactly. */
static float widen_f16(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16, rest = (uint32_t)(half & 0x7fffu) << 13;
    if (rest >= 0x0f800000u) /* infinity or NaN, made quiet */
        return float_of(sign | 0x70000000u | rest | (rest > 0x0f800000u ? 0x00400000u : 0));
    return float_of(sign | bits_of(float_of(rest) * 0x1p112f));
}

static uint16_t narrow_f16(float value)
{
    const uint32_t bits = bits_of(value), rest = bits & 0x7fffffffu;
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    uint32_t half;
    if (rest > 0x7f800000u)
        half = 0x7e00u | (rest >> 13 & 0x1ffu);
    else if (rest >= 0x477ff000u) /* 65520 and above round to infinity */
        half = 0x7c00u;
    else if (rest <
             0x38800000u) /* below 2^-14: the sum with 0.5 has its last place at f16's smallest subnormal, 2^-24 */
        half = bits_of(float_of(rest) + 0.5f) - 0x3f000000u;
    else
        half = (rest - 0x38000000u + 0xfffu + (rest >> 13 & 1u)) >> 13;
    return (uint16_t)(sign | half);
}

static float widen_bf16(uint16_t half)
{
    return float_of((uint32_t)half << 16);
}

static uint16_t narrow_bf16(float value)
{
    const uint32_t bits = bits_of(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

#if defined(__x86_64__)
/* Every processor with AVX2 has F16C. */
__attribute__((target("avx2,f16c"))) static size_t widen_f16_vector(float *to, const uint16_t *from, size_t count)
{
    size_t i = 0;
    for (; i + 8 <= count; i += 8)
        _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(from + i))));
    return i;
}

__attribute__((target("avx2,f16c"))) static size_t narrow_f16_vector(uint16_t *to, const float *from, size_t count)
{
    size_t i = 0;
    for (; i + 8 <= count; i += 8)
        _mm_storeu_si128((__m128i *)(void *)(to + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT));
    return i;
}

static bool has_vector(void)
{
    return __builtin_cpu_supports("avx2");
}
#else
static size_t widen_f16_vector(float *to, const uint16_t *from, size_t count)
{
    (void)to, (void)from, (void)count;
    return 0;
}

static size_t narrow_f16_vector(uint16_t *to, const float *from, size_t count)
{
    (void)to, (void)from, (void)count;
    return 0;
}

static bool has_vector(void)
{
    return false;
}
#endif

void half_widen(float *to, const uint16_t *from, size_t count, bool brain)
{
    if (brain) {
        for (size_t i = 0; i < count; i++)
            to[i] = widen_bf16(from[i]);
        return;
    }
    for (size_t i = has_vector() ? widen_f16_vector(to, from, count) : 0; i < count; i++)
        to[i] = widen_f16(from[i]);
}

void half_narrow(uint16_t *to, const float *from, size_t count, bool brain)
{
    if (brain) {
        for (size_t i = 0; i < count; i++)
            to[i] = narrow_bf16(from[i]);
        return;
    }
    for (size_t i = has_vector() ? narrow_f16_vector(to, from, count) : 0; i < count; i++)
        to[i] = narrow_f16(from[i]);
}
