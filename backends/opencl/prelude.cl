/* The kernel dialect as OpenCL C 1.2; docs/kernel-dialect.md lists the words. An instance's text follows.
 *
 * Arguments: for each binding in slot order a pointer to its buffer and a ulong, the offset in elements; last the
 * params by value. Build with CORRECT_DIVISION defined where the device takes -cl-fp32-correctly-rounded-divide-sqrt
 * (and with that option); without it, quotients and square roots are repaired in integers. */
#pragma OPENCL FP_CONTRACT OFF
#ifdef cl_khr_fp64
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#define HAVE_F64 1
#else
#define HAVE_F64 0
#endif

/* Drivers have macros of these names; kernels use them as parts of their own. */
#undef max
#undef min

#define addr ulong
#define real_f32 float
#define real_f64 double
#define real_i32 int
#define real_u32 uint
#define real_i64 long
#define real4_f32 float4
#define real4_f64 double4
#define real4_i32 int4
#define real4_u32 uint4
#define real4_i64 long4
#define MAKE4_(T, a, b, c, d) ((T)((a), (b), (c), (d)))
#define GET4(v, k) ((v).s##k)

#define f32_t float
#define f64_t double
#define f16_t ushort
#define bf16_t ushort
#define i32_t int
#define u32_t uint
#define i64_t long
#define u8_t uchar
#define bool_t uchar

#define RESTRICT restrict
#define FN(type) static inline type
#define PARAMS_(name, fields)                                                                                          \
    typedef struct {                                                                                                   \
        fields                                                                                                         \
    } name##_params;
#define IN_(slot, T, id) __global const T##_t *DISTINCT id, ulong id##_offset,
#define OUT_(slot, T, id) __global T##_t *DISTINCT id, ulong id##_offset,
#define INOUT_(slot, T, id) __global T##_t *DISTINCT id, ulong id##_offset,
#define LOCAL_(type, id, n) __local type id[n];
#define KERNEL(name, bindings, locals)                                                                                \
    __kernel __attribute__((reqd_work_group_size(WG, 1, 1))) void name(bindings const PASTE(name, _params) p)                 \
    {                                                                                                                  \
        locals
#define KERNEL_END }

#define GID ((uint)get_group_id(0))
#define GIDY ((uint)get_group_id(1))
#define GIDZ ((uint)get_group_id(2))
#define LID ((uint)get_local_id(0))
#define BARRIER() barrier(CLK_LOCAL_MEM_FENCE)
#define INDEPENDENT
#define AS_VECTOR

#define ADDR(u) ((ulong)(u))
#define VIEW_(T, id, base) __global CONST_##id T##_t *const id##_view = id + id##_offset + (base);
#define U32(x) ((uint)(x))
#define I32(x) ((int)(x))
#define I64(x) ((long)(x))
#define F32(x) ((float)(x))
#define F64(x) ((double)(x))

#define AT(id, i) id##_view[i]
#define LD_f32(id, i) AT(id, i)
#define LD_f64(id, i) AT(id, i)
#define LD_i32(id, i) AT(id, i)
#define LD_u32(id, i) AT(id, i)
#define LD_i64(id, i) AT(id, i)
#define LD_u8(id, i) ((int)AT(id, i))
#define LD_bool(id, i) ((int)AT(id, i))
#define LD_f16(id, i) f16_to_f32((uint)AT(id, i))
#define LD_bf16(id, i) bf16_to_f32((uint)AT(id, i))
#define ST_f32(id, i, v) AT(id, i) = (float)(v)
#define ST_f64(id, i, v) AT(id, i) = (double)(v)
#define ST_i32(id, i, v) AT(id, i) = (int)(v)
#define ST_u32(id, i, v) AT(id, i) = (uint)(v)
#define ST_i64(id, i, v) AT(id, i) = (long)(v)
#define ST_u8(id, i, v) AT(id, i) = (uchar)(v)
#define ST_bool(id, i, v) AT(id, i) = (uchar)(v)
#define ST_f16(id, i, v) AT(id, i) = (ushort)f32_to_f16((float)(v))
#define ST_bf16(id, i, v) AT(id, i) = (ushort)f32_to_bf16((float)(v))

#define LD4_AT(T, id, i) LD4_##T(id, i)
#define ST4_AT(T, id, i, v) ST4_##T(id, i, v)
#define VECTOR_AT(T, id, i) (*(__global CONST_##id T *)(id##_view + (i)))
#define LD4_f32(id, i) VECTOR_AT(float4, id, i)
#define LD4_f64(id, i) VECTOR_AT(double4, id, i)
#define LD4_i32(id, i) VECTOR_AT(int4, id, i)
#define LD4_u32(id, i) VECTOR_AT(uint4, id, i)
#define LD4_i64(id, i) VECTOR_AT(long4, id, i)
#define LD4_u8(id, i) convert_int4(VECTOR_AT(uchar4, id, i))
#define LD4_bool(id, i) convert_int4(VECTOR_AT(uchar4, id, i))
#define LD4_f16(id, i) LD4_EACH(f16, id, i)
#define LD4_bf16(id, i) as_float4(convert_uint4(VECTOR_AT(ushort4, id, i)) << 16u)
#define ST4_f32(id, i, v) VECTOR_AT(float4, id, i) = (v)
#define ST4_f64(id, i, v) VECTOR_AT(double4, id, i) = (v)
#define ST4_i32(id, i, v) VECTOR_AT(int4, id, i) = (v)
#define ST4_u32(id, i, v) VECTOR_AT(uint4, id, i) = (v)
#define ST4_i64(id, i, v) VECTOR_AT(long4, id, i) = (v)
#define ST4_u8(id, i, v) VECTOR_AT(uchar4, id, i) = convert_uchar4(v)
#define ST4_bool(id, i, v) VECTOR_AT(uchar4, id, i) = convert_uchar4(v)
#define ST4_f16(id, i, v) ST4_EACH(f16, id, i, v)
#define ST4_bf16(id, i, v) ST4_EACH(bf16, id, i, v)

/* Vectors for cpu variants: as wide as the processor's registers, where the compiler tells (clang, so PoCL, does);
 * VROWS rows of two of them fit into the registers besides what multiplies them. */
#ifdef __AVX512F__
#define VW_f32 16u
#define VW_f64 8u
#define VROWS 8
#define vec_f32 float16
#define vec_f64 double8
#define VLD_f32(id, i) vload16(0, id##_view + (i))
#define VLD_f64(id, i) vload8(0, id##_view + (i))
#define VST_f32(id, i, v) vstore16(v, 0, id##_view + (i))
#define VST_f64(id, i, v) vstore8(v, 0, id##_view + (i))
#else
#define VW_f32 8u
#define VW_f64 4u
#define VROWS 4
#define vec_f32 float8
#define vec_f64 double4
#define VLD_f32(id, i) vload8(0, id##_view + (i))
#define VLD_f64(id, i) vload4(0, id##_view + (i))
#define VST_f32(id, i, v) vstore8(v, 0, id##_view + (i))
#define VST_f64(id, i, v) vstore4(v, 0, id##_view + (i))
#endif
#define VSPLAT_f32(x) ((vec_f32)(x))
#define VSPLAT_f64(x) ((vec_f64)(x))
#define VGET(v, l) ((real *)&(v))[l]
#define VFMA_f32(a, b, c) FMA_f32(a, b, c)
#define VFMA_f64(a, b, c) FMA_f64(a, b, c)

#define SELECT(c, a, b) ((c) ? (a) : (b))
#define BITS_F32(u) as_float(u)
#define F32_BITS(f) as_uint(f)
#define BITS_F64(low, high) as_double(((ulong)(high) << 32) | (low))
#define BITS_I64(low, high) ((long)(((ulong)(high) << 32) | (low)))
#define MUL_HI(a, b) mul_hi((uint)(a), (uint)(b))

#define R_f32(x) x##f
#define R_f64(x) ((double)x)
#define R_i32(x) ((int)x##f)
#define R_u32(x) ((uint)x##f)
#define R_i64(x) ((long)x##f)
#define REAL_f32(x) ((float)(x))
#define REAL_f64(x) ((double)(x))
#define REAL_i32(x) ((int)(x))
#define REAL_u32(x) ((uint)(x))
#define REAL_i64(x) ((long)(x))

#ifdef CORRECT_DIVISION
#define DIV_f32(a, b) ((a) / (b))
#define SQRT_f32(x) sqrt(x)
#else
#define DIV_ESTIMATE(a, b) ((a) / (b))
#define SQRT_ESTIMATE(x) sqrt(x)
#define DIV_f32(a, b) div_repaired(a, b)
#define SQRT_f32(x) sqrt_repaired(x)
#endif
/* PoCL defines no FP_FAST_FMAF, and its mad is a product and a sum; but clang tells what the processor has. */
#if defined(FP_FAST_FMAF) || defined(__FMA__)
#define FMA_f32(a, b, c) fma(a, b, c)
#else
#define FMA_f32(a, b, c) mad(a, b, c)
#endif
/* Not the built-in functions: PoCL 6.0 with LLVM 19 makes 16 lanes of them between two shifts of their bits (bf16) into a mask
 * of those bits. From 2^23 on every f32 is whole; below, adding that rounds. All keep the sign of a zero. */
float round_plain(float x)
{
    const float size = fabs(x), near = (size + 8388608.0f) - 8388608.0f;
    return copysign(size < 8388608.0f ? near : size, x);
}
float floor_plain(float x)
{
    const float near = round_plain(x);
    return near > x ? near - 1.0f : near;
}
float ceil_plain(float x)
{
    return -floor_plain(-x);
}
float trunc_plain(float x)
{
    return copysign(floor_plain(fabs(x)), x);
}
#define FLOOR_f32(x) floor_plain(x)
#define CEIL_f32(x) ceil_plain(x)
#define TRUNC_f32(x) trunc_plain(x)
#define ROUND_f32(x) round_plain(x)
#define ABS_f32(x) fabs(x)

#define FMA_f64(a, b, c) fma(a, b, c)
#define DIV_f64(a, b) ((a) / (b))
#define SQRT_f64(x) sqrt(x)
#define FLOOR_f64(x) floor(x)
#define CEIL_f64(x) ceil(x)
#define TRUNC_f64(x) trunc(x)
#define ROUND_f64(x) rint(x)
#define ABS_f64(x) fabs(x)
#define ISNAN_f64(x) ((bool)isnan(x))
#define ISINF_f64(x) ((bool)isinf(x))
#define EXP_f64(x) exp(x)
#define EXP2_f64(x) exp2(x)
#define EXPM1_f64(x) expm1(x)
#define LOG_f64(x) log(x)
#define LOG2_f64(x) log2(x)
#define LOG10_f64(x) log10(x)
#define LOG1P_f64(x) log1p(x)
#define SIN_f64(x) sin(x)
#define COS_f64(x) cos(x)
#define TAN_f64(x) tan(x)
#define ASIN_f64(x) asin(x)
#define ACOS_f64(x) acos(x)
#define ATAN_f64(x) atan(x)
#define SINH_f64(x) sinh(x)
#define COSH_f64(x) cosh(x)
#define TANH_f64(x) tanh(x)
#define ERF_f64(x) erf(x)
#define ERFC_f64(x) erfc(x)
#define POW_f64(x, y) pow(x, y)
#define ATAN2_f64(y, x) atan2(y, x)
#define HYPOT_f64(a, b) hypot(a, b)
#define FMOD_f64(a, b) fmod(a, b)
#define NEG_INF_f64 ((double)-INFINITY)
#define POS_INF_f64 ((double)INFINITY)
#define QUIET_NAN_f64 ((double)NAN)
