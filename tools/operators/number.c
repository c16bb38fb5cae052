#include "number.h"

#include <float.h>
#include <math.h>
#include <string.h>

bool number_is_float(tsr_dtype dtype)
{
    return dtype == TSR_F32 || dtype == TSR_F16 || dtype == TSR_BF16 || dtype == TSR_F64;
}

double number_roundoff(tsr_dtype dtype)
{
    return dtype == TSR_F64 ? 0x1p-53 : dtype == TSR_F32 ? 0x1p-24 : dtype == TSR_F16 ? 0x1p-11 : 0x1p-8;
}

double number_accumulator_roundoff(tsr_dtype dtype)
{
    return dtype == TSR_F64 ? 0x1p-53 : 0x1p-24;
}

double number_largest(tsr_dtype dtype)
{
    return dtype == TSR_F64   ? DBL_MAX
           : dtype == TSR_F32 ? (double)FLT_MAX
           : dtype == TSR_F16 ? 65504.0
                              : 0x1.fep127; /* bf16 */
}

double number_smallest(tsr_dtype dtype)
{
    return dtype == TSR_F64 ? DBL_MIN : dtype == TSR_F16 ? 0x1p-14 : 0x1p-126;
}

double number_spacing(tsr_dtype dtype, double x)
{
    int exponent;
    const double least = dtype == TSR_F64    ? 0x1p-1074
                         : dtype == TSR_F16  ? 0x1p-24
                         : dtype == TSR_BF16 ? 0x1p-133
                                             : 0x1p-149;
    if (x == 0)
        return least;
    if (!isfinite(x))
        return number_spacing(dtype, number_largest(dtype));
    frexp(fmin(fabs(x), number_largest(dtype)), &exponent);
    return fmax(ldexp(number_roundoff(dtype), exponent), least);
}

static double round_float(tsr_dtype dtype, double x)
{
    if (!isfinite(x) || x == 0)
        return x;
    const double s = number_spacing(dtype, x), rounded = nearbyint(x / s) * s;
    return fabs(rounded) > number_largest(dtype) ? copysign(INFINITY, x) : rounded;
}

double number_round(tsr_dtype dtype, double x)
{
    if (dtype == TSR_F64)
        return x;
    if (dtype == TSR_F32)
        return (double)(float)x;
    if (number_is_float(dtype))
        return round_float(dtype, x);
    return dtype == TSR_BOOL ? x != 0 : trunc(x);
}

static double half_to_double(uint16_t bits)
{
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const double size = exponent == 31  ? (fraction != 0 ? (double)NAN : (double)INFINITY)
                        : exponent == 0 ? ldexp(fraction, -24)
                                        : ldexp(1024 + fraction, exponent - 25);
    return bits >> 15 != 0 ? -size : size;
}

static uint16_t half_bits(double x)
{
    const uint16_t sign = signbit(x) != 0 ? 0x8000u : 0;
    const double size = fabs(x);
    int exponent;
    if (isnan(x))
        return 0x7e00u;
    if (size > 65504)
        return (uint16_t)(sign | 0x7c00u);
    if (size < 0x1p-14)
        return (uint16_t)(sign | (uint16_t)(size * 0x1p24));
    const double fraction = frexp(size, &exponent); /* of [1/2, 1) */
    return (uint16_t)(sign | (uint16_t)((exponent + 14) << 10) | ((uint16_t)(fraction * 2048) & 1023u));
}

double number_load(tsr_dtype dtype, const void *from, int64_t i)
{
    uint16_t half;
    uint32_t word;
    float single;
    switch (dtype) {
    case TSR_F64: return ((const double *)from)[i];
    case TSR_F32: return (double)((const float *)from)[i];
    case TSR_F16: memcpy(&half, (const char *)from + 2 * i, sizeof half); return half_to_double(half);
    case TSR_BF16:
        memcpy(&half, (const char *)from + 2 * i, sizeof half);
        word = (uint32_t)half << 16;
        memcpy(&single, &word, sizeof single);
        return (double)single;
    case TSR_I32: return ((const int32_t *)from)[i];
    case TSR_I64: return (double)((const int64_t *)from)[i];
    case TSR_U8:
    case TSR_BOOL: return ((const uint8_t *)from)[i];
    case TSR_DTYPE_COUNT: break;
    }
    return (double)NAN;
}

void number_store(tsr_dtype dtype, void *to, int64_t i, double x)
{
    const double v = number_round(dtype, x);
    uint16_t half;
    uint32_t word;
    float single;
    switch (dtype) {
    case TSR_F64: ((double *)to)[i] = v; break;
    case TSR_F32: ((float *)to)[i] = (float)v; break;
    case TSR_F16:
        half = half_bits(v);
        memcpy((char *)to + 2 * i, &half, sizeof half);
        break;
    case TSR_BF16:
        single = (float)v;
        memcpy(&word, &single, sizeof word);
        half = (uint16_t)(word >> 16 | (isnan(v) ? 0x40u : 0));
        memcpy((char *)to + 2 * i, &half, sizeof half);
        break;
    case TSR_I32: ((int32_t *)to)[i] = (int32_t)v; break;
    case TSR_I64: ((int64_t *)to)[i] = (int64_t)v; break;
    case TSR_U8:
    case TSR_BOOL: ((uint8_t *)to)[i] = (uint8_t)v; break;
    case TSR_DTYPE_COUNT: break;
    }
}
