/* The kernel dialect as C: a work-group of one. docs/kernel-dialect.md lists the words.
 *
 * Included by the files that kernel-pack makes, each compiled once for every instruction set with ISA defined, and
 * nowhere else. What a kernel sets (REAL_TAG, WG, BINDING_x, …) is defined after this file: macros expand late. */
#ifndef TESSERA_CPU_PRELUDE_H
#define TESSERA_CPU_PRELUDE_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

typedef unsigned int uint;
typedef uint16_t ushort;
typedef size_t addr;

typedef float f32_t;
typedef double f64_t;
typedef uint16_t f16_t, bf16_t;
typedef int32_t i32_t;
typedef uint32_t u32_t;
typedef int64_t i64_t;
/* stdbool.h makes bool a macro, which would get between BINDING_x and the words made of its value. */
#undef bool
typedef _Bool bool;
typedef uint8_t u8_t, bool_t;

/* The types of `real`, and four of them. */
#define real_f32 float
#define real_f64 double
#define real_i32 int
#define real_u32 uint
#define real_i64 int64_t
typedef float real4_f32 __attribute__((vector_size(16)));
typedef double real4_f64 __attribute__((vector_size(32)));
typedef int real4_i32 __attribute__((vector_size(16)));
typedef uint real4_u32 __attribute__((vector_size(16)));
typedef int64_t real4_i64 __attribute__((vector_size(32)));
#define MAKE4_(T, a, b, c, d) ((T){(a), (b), (c), (d)})
#define GET4(v, k)            ((v)[k])

#define HAVE_F64 1
#define RESTRICT restrict
#define FN(type) static inline __attribute__((always_inline, unused)) type
#define PARAMS_(name, fields)                                                                                          \
    typedef struct {                                                                                                   \
        fields                                                                                                         \
    } name##_params;
#define IN_(slot, T, id)    , const T##_t *DISTINCT id
#define OUT_(slot, T, id)   , T##_t *DISTINCT id
#define INOUT_(slot, T, id) , T##_t *DISTINCT id
#define LOCAL_(type, id, n) _Alignas(64) type id[n];
#define KERNEL(name, bindings, locals)                                                                                 \
    static inline void name(const uint GID, const uint GIDY, const uint GIDZ, const PASTE(name, _params) p bindings)   \
    {                                                                                                                  \
        (void)GID, (void)GIDY, (void)GIDZ, (void)p;                                                                    \
        locals
#define KERNEL_END }

#define LID       0u
#define BARRIER() ((void)0)
/* Iterations are independent: bindings are the same elements or none in common (in-place pointwise). */
#if defined(__clang__)
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

/* A loop of few, constant turns that is to become vectors; gcc would rather unroll it. */
#if defined(__clang__)
#define AS_VECTOR INDEPENDENT
#else
#define AS_VECTOR _Pragma("GCC ivdep") _Pragma("GCC unroll 1")
#endif

#define ADDR(u)            ((addr)(u))
#define VIEW_(T, id, base) CONST_##id T##_t *const id##_view = id + (base);
#define U32(x)             ((uint)(x))
#define I32(x)             ((int)(x))
#define I64(x)             ((int64_t)(x))
#define F32(x)             ((float)(x))
#define F64(x)             ((double)(x))

#define AT(id, i)           id##_view[i]
#define LD_f32(id, i)       AT(id, i)
#define LD_f64(id, i)       AT(id, i)
#define LD_i32(id, i)       AT(id, i)
#define LD_u32(id, i)       AT(id, i)
#define LD_i64(id, i)       AT(id, i)
#define LD_u8(id, i)        ((int)AT(id, i))
#define LD_bool(id, i)      ((int)AT(id, i))
#define LD_f16(id, i)       f16_to_f32((uint)AT(id, i))
#define LD_bf16(id, i)      bf16_to_f32((uint)AT(id, i))
#define ST_f32(id, i, v)    AT(id, i) = (float)(v)
#define ST_f64(id, i, v)    AT(id, i) = (double)(v)
#define ST_i32(id, i, v)    AT(id, i) = (int)(v)
#define ST_u32(id, i, v)    AT(id, i) = (uint)(v)
#define ST_i64(id, i, v)    AT(id, i) = (int64_t)(v)
#define ST_u8(id, i, v)     AT(id, i) = (uint8_t)(v)
#define ST_bool(id, i, v)   AT(id, i) = (uint8_t)(v)
#define ST_f16(id, i, v)    AT(id, i) = (f16_t)f32_to_f16((float)(v))
#define ST_bf16(id, i, v)   AT(id, i) = (bf16_t)f32_to_bf16((float)(v))
#define LD4_AT(T, id, i)    LD4_EACH(T, id, i)
#define ST4_AT(T, id, i, v) ST4_EACH(T, id, i, v)

/* Vectors as wide as the registers; VROWS rows of two of them fit into the registers besides what multiplies them. */
#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define VROWS        8
#elif defined(__AVX2__)
#define VECTOR_BYTES 32
#define VROWS        4
#elif defined(__aarch64__)
#define VECTOR_BYTES 16
#define VROWS        8
#else
#define VECTOR_BYTES 16
#define VROWS        4
#endif
#define VW_f32 (VECTOR_BYTES / 4u)
#define VW_f64 (VECTOR_BYTES / 8u)
typedef float vec_f32 __attribute__((vector_size(VECTOR_BYTES)));
typedef double vec_f64 __attribute__((vector_size(VECTOR_BYTES)));
typedef float vec_in_memory_f32 __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));
typedef double vec_in_memory_f64 __attribute__((vector_size(VECTOR_BYTES), aligned(8), may_alias));
#define VLD_f32(id, i)    (*(const vec_in_memory_f32 *)(id##_view + (i)))
#define VLD_f64(id, i)    (*(const vec_in_memory_f64 *)(id##_view + (i)))
#define VST_f32(id, i, v) *(vec_in_memory_f32 *)(id##_view + (i)) = (v)
#define VST_f64(id, i, v) *(vec_in_memory_f64 *)(id##_view + (i)) = (v)
#define VSPLAT_f32(x)     ((vec_f32){0} + (x))
#define VSPLAT_f64(x)     ((vec_f64){0} + (x))
#define VGET(v, l)        ((v)[l])
/* Neither compiler fuses a * b + c of vectors with contraction off, nor has both a builtin for it. */
#if defined(__AVX512F__)
#define VFMA_f32(a, b, c) ((vec_f32)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define VFMA_f64(a, b, c) ((vec_f64)_mm512_fmadd_pd((__m512d)(a), (__m512d)(b), (__m512d)(c)))
#elif defined(__AVX2__) && defined(__FMA__)
#define VFMA_f32(a, b, c) ((vec_f32)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define VFMA_f64(a, b, c) ((vec_f64)_mm256_fmadd_pd((__m256d)(a), (__m256d)(b), (__m256d)(c)))
#elif defined(__aarch64__)
#define VFMA_f32(a, b, c) ((vec_f32)vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b)))
#define VFMA_f64(a, b, c) ((vec_f64)vfmaq_f64((float64x2_t)(c), (float64x2_t)(a), (float64x2_t)(b)))
#else
#define VFMA_f32(a, b, c) ((a) * (b) + (c))
#define VFMA_f64(a, b, c) ((a) * (b) + (c))
#endif

#define SELECT(c, a, b) ((c) ? (a) : (b))
static inline __attribute__((always_inline)) float BITS_F32(uint u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}
static inline __attribute__((always_inline)) uint F32_BITS(float f)
{
    uint u;
    memcpy(&u, &f, sizeof u);
    return u;
}
static inline __attribute__((always_inline)) double BITS_F64(uint low, uint high)
{
    const uint64_t u = (uint64_t)high << 32 | low;
    double f;
    memcpy(&f, &u, sizeof f);
    return f;
}
#define BITS_I64(low, high) ((int64_t)((uint64_t)(high) << 32 | (low)))
#define MUL_HI(a, b)        ((uint)(((uint64_t)(a) * (b)) >> 32))

#define R_f32(x)    ((float)(x))
#define R_f64(x)    ((double)(x))
#define R_i32(x)    ((int)(x))
#define R_u32(x)    ((uint)(x))
#define R_i64(x)    ((int64_t)(x))
#define REAL_f32(x) ((float)(x))
#define REAL_f64(x) ((double)(x))
#define REAL_i32(x) ((int)(x))
#define REAL_u32(x) ((uint)(x))
#define REAL_i64(x) ((int64_t)(x))

#define DIV_f32(a, b) ((a) / (b))
#define SQRT_f32(x)   sqrtf(x)
/* Fused where the instruction set has it: a*b+c would be two instructions, fmaf() on the baseline a call. */
#if defined(__FMA__) || defined(__aarch64__)
#define FMA_f32(a, b, c) __builtin_fmaf(a, b, c)
#define FMA_f64(a, b, c) __builtin_fma(a, b, c)
#else
#define FMA_f32(a, b, c) ((a) * (b) + (c))
#define FMA_f64(a, b, c) ((a) * (b) + (c))
#endif
#define FLOOR_f32(x) floorf(x)
#define CEIL_f32(x)  ceilf(x)
#define TRUNC_f32(x) truncf(x)
#define ROUND_f32(x) rintf(x)
#define ABS_f32(x)   fabsf(x)

/* f64: the C library's. */
#define DIV_f64(a, b)   ((a) / (b))
#define SQRT_f64(x)     sqrt(x)
#define FLOOR_f64(x)    floor(x)
#define CEIL_f64(x)     ceil(x)
#define TRUNC_f64(x)    trunc(x)
#define ROUND_f64(x)    rint(x)
#define ABS_f64(x)      fabs(x)
#define ISNAN_f64(x)    ((x) != (x))
#define ISINF_f64(x)    (fabs(x) == INFINITY)
#define EXP_f64(x)      exp(x)
#define EXP2_f64(x)     exp2(x)
#define EXPM1_f64(x)    expm1(x)
#define LOG_f64(x)      log(x)
#define LOG2_f64(x)     log2(x)
#define LOG10_f64(x)    log10(x)
#define LOG1P_f64(x)    log1p(x)
#define SIN_f64(x)      sin(x)
#define COS_f64(x)      cos(x)
#define TAN_f64(x)      tan(x)
#define ASIN_f64(x)     asin(x)
#define ACOS_f64(x)     acos(x)
#define ATAN_f64(x)     atan(x)
#define SINH_f64(x)     sinh(x)
#define COSH_f64(x)     cosh(x)
#define TANH_f64(x)     tanh(x)
#define ERF_f64(x)      erf(x)
#define ERFC_f64(x)     erfc(x)
#define POW_f64(x, y)   pow(x, y)
#define ATAN2_f64(y, x) atan2(y, x)
#define HYPOT_f64(a, b) hypot(a, b)
#define FMOD_f64(a, b)  fmod(a, b)
#define NEG_INF_f64     ((double)-INFINITY)
#define POS_INF_f64     ((double)INFINITY)
#define QUIET_NAN_f64   ((double)NAN)

/* ---- the entry of a kernel: a hal_native_fn ---------------------------------------------------------------------- */

#define NATIVE_NAME__(key, isa) kernel_##key##_##isa
#define NATIVE_NAME_(key, isa)  NATIVE_NAME__(key, isa)
#define NATIVE_ENTRY(key)                                                                                              \
    void NATIVE_NAME_(key, ISA)(void *const *bindings, const void *params, const uint32_t grid[3], uint64_t first,     \
                                uint64_t count);                                                                       \
    void NATIVE_NAME_(key, ISA)(void *const *bindings, const void *params, const uint32_t grid[3], uint64_t first,     \
                                uint64_t count)
/* Groups first … first + count - 1, x fastest; `call` uses gid, gidy and gidz. */
#define NATIVE_GROUPS(call)                                                                                            \
    uint gid = (uint)(first % grid[0]), gidy = (uint)(first / grid[0] % grid[1]);                                      \
    uint gidz = (uint)(first / grid[0] / grid[1]);                                                                     \
    for (; count > 0; count--) {                                                                                       \
        call;                                                                                                          \
        if (++gid == grid[0]) {                                                                                        \
            gid = 0;                                                                                                   \
            if (++gidy == grid[1]) {                                                                                   \
                gidy = 0;                                                                                              \
                gidz++;                                                                                                \
            }                                                                                                          \
        }                                                                                                              \
    }

#endif
