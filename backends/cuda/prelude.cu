/* The kernel dialect as CUDA C for NVRTC; docs/kernel-dialect.md lists the words. An instance's text follows.
 * Compile with -fmad=false -ftz=false -prec-div=true -prec-sqrt=true.
 *
 * Arguments: the bindings' pointers in slot order, offsets already added; then the params by value. */
typedef unsigned int uint;
typedef unsigned short ushort;
typedef unsigned char uchar;
typedef unsigned long long addr;

#define HAVE_F64 1
#define real_f32 float
#define real_f64 double
#define real_i32 int
#define real_u32 uint
#define real_i64 long long

/* Four of them, with operators, which the built-in vectors lack; aligned, so that a load is one instruction. */
template <typename T> struct __align__(4 * sizeof(T)) four {
    T x, y, z, w;
};
/* 32-byte types are loaded in two halves. */
template <> struct __align__(16) four<double> {
    double x, y, z, w;
};
template <> struct __align__(16) four<long long> {
    long long x, y, z, w;
};
template <typename T> static __device__ __forceinline__ four<T> make_four(T a, T b, T c, T d)
{
    four<T> r;
    r.x = a, r.y = b, r.z = c, r.w = d;
    return r;
}
template <typename T> static __device__ __forceinline__ four<T> operator+(four<T> a, four<T> b)
{
    return make_four<T>(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}
template <typename T> static __device__ __forceinline__ four<T> operator-(four<T> a, four<T> b)
{
    return make_four<T>(a.x - b.x, a.y - b.y, a.z - b.z, a.w - b.w);
}
template <typename T> static __device__ __forceinline__ four<T> operator*(four<T> a, four<T> b)
{
    return make_four<T>(a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w);
}
template <typename T> static __device__ __forceinline__ four<T> operator-(four<T> a)
{
    return make_four<T>(-a.x, -a.y, -a.z, -a.w);
}
template <typename T> static __device__ __forceinline__ four<T> &operator+=(four<T> &a, four<T> b)
{
    a = a + b;
    return a;
}
template <typename T> static __device__ __forceinline__ four<T> &operator-=(four<T> &a, four<T> b)
{
    a = a - b;
    return a;
}
template <typename T> static __device__ __forceinline__ four<T> &operator*=(four<T> &a, four<T> b)
{
    a = a * b;
    return a;
}
#define real4_f32 four<float>
#define real4_f64 four<double>
#define real4_i32 four<int>
#define real4_u32 four<uint>
#define real4_i64 four<long long>
#define MAKE4_(T, a, b, c, d) (T{(a), (b), (c), (d)})
#define GET4_0 x
#define GET4_1 y
#define GET4_2 z
#define GET4_3 w
#define GET4(v, k) ((v).GET4_##k)

#define f32_t float
#define f64_t double
#define f16_t ushort
#define bf16_t ushort
#define i32_t int
#define u32_t uint
#define i64_t long long
#define u8_t uchar
#define bool_t uchar

#define RESTRICT __restrict__
#define FN(type) static __device__ __forceinline__ type
#define PARAMS_(name, fields)                                                                                          \
    struct name##_params {                                                                                             \
        fields                                                                                                         \
    };
#define IN_(slot, T, id) const T##_t *DISTINCT id,
#define OUT_(slot, T, id) T##_t *DISTINCT id,
#define INOUT_(slot, T, id) T##_t *DISTINCT id,
#define LOCAL_(type, id, n) __shared__ type id[n];
#define KERNEL(name, bindings, locals)                                                                                \
    extern "C" __global__ void __launch_bounds__(WG) name(bindings const PASTE(name, _params) p)                              \
    {                                                                                                                  \
        locals
#define KERNEL_END }

#define GID blockIdx.x
#define GIDY blockIdx.y
#define GIDZ blockIdx.z
#define LID threadIdx.x
#define BARRIER() __syncthreads()
#define INDEPENDENT
#define AS_VECTOR

#define ADDR(u) ((addr)(u))
#define VIEW_(T, id, base) CONST_##id T##_t *const id##_view = id + (base);
#define U32(x) ((uint)(x))
#define I32(x) ((int)(x))
#define I64(x) ((long long)(x))
#define F32(x) ((float)(x))
#define F64(x) ((double)(x))

/* Exact in hardware; the narrowing one rounds to nearest even and keeps subnormals. */
static __device__ __forceinline__ float half_load(ushort h)
{
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
    return f;
}
static __device__ __forceinline__ ushort half_store(float f)
{
    ushort h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
    /* The hardware's NaN is 0x7fff; everyone else's keeps the sign and is quiet. */
    return f != f ? (ushort)((__float_as_uint(f) >> 16 & 0x8000u) | 0x7e00u) : h;
}
#define AT(id, i) id##_view[i]
#define LD_f32(id, i) AT(id, i)
#define LD_f64(id, i) AT(id, i)
#define LD_i32(id, i) AT(id, i)
#define LD_u32(id, i) AT(id, i)
#define LD_i64(id, i) AT(id, i)
#define LD_u8(id, i) ((int)AT(id, i))
#define LD_bool(id, i) ((int)AT(id, i))
#define LD_f16(id, i) half_load(AT(id, i))
#define LD_bf16(id, i) bf16_to_f32((uint)AT(id, i))
#define ST_f32(id, i, v) AT(id, i) = (float)(v)
#define ST_f64(id, i, v) AT(id, i) = (double)(v)
#define ST_i32(id, i, v) AT(id, i) = (int)(v)
#define ST_u32(id, i, v) AT(id, i) = (uint)(v)
#define ST_i64(id, i, v) AT(id, i) = (long long)(v)
#define ST_u8(id, i, v) AT(id, i) = (uchar)(v)
#define ST_bool(id, i, v) AT(id, i) = (uchar)(v)
#define ST_f16(id, i, v) AT(id, i) = half_store((float)(v))
#define ST_bf16(id, i, v) AT(id, i) = (ushort)f32_to_bf16((float)(v))

#define LD4_AT(T, id, i) LD4_##T(id, i)
#define ST4_AT(T, id, i, v) ST4_##T(id, i, v)
#define VECTOR_AT(T, id, i) (*(CONST_##id four<T> *)(id##_view + (i)))
#define LD4_f32(id, i) VECTOR_AT(float, id, i)
#define LD4_f64(id, i) VECTOR_AT(double, id, i)
#define LD4_i32(id, i) VECTOR_AT(int, id, i)
#define LD4_u32(id, i) VECTOR_AT(uint, id, i)
#define LD4_i64(id, i) VECTOR_AT(long long, id, i)
static __device__ __forceinline__ four<float> load4_half(four<ushort> h)
{
    return make_four<float>(half_load(h.x), half_load(h.y), half_load(h.z), half_load(h.w));
}
static __device__ __forceinline__ four<float> load4_bfloat(four<ushort> h)
{
    return make_four<float>(__uint_as_float((uint)h.x << 16), __uint_as_float((uint)h.y << 16),
                            __uint_as_float((uint)h.z << 16), __uint_as_float((uint)h.w << 16));
}
static __device__ __forceinline__ four<int> load4_byte(four<uchar> b)
{
    return make_four<int>(b.x, b.y, b.z, b.w);
}
#define LD4_f16(id, i) load4_half(VECTOR_AT(ushort, id, i))
#define LD4_bf16(id, i) load4_bfloat(VECTOR_AT(ushort, id, i))
#define LD4_u8(id, i) load4_byte(VECTOR_AT(uchar, id, i))
#define LD4_bool(id, i) load4_byte(VECTOR_AT(uchar, id, i))
#define ST4_f32(id, i, v) VECTOR_AT(float, id, i) = (v)
#define ST4_f64(id, i, v) VECTOR_AT(double, id, i) = (v)
#define ST4_i32(id, i, v) VECTOR_AT(int, id, i) = (v)
#define ST4_u32(id, i, v) VECTOR_AT(uint, id, i) = (v)
#define ST4_i64(id, i, v) VECTOR_AT(long long, id, i) = (v)
#define ST4_u8(id, i, v) ST4_EACH(u8, id, i, v)
#define ST4_bool(id, i, v) ST4_EACH(bool, id, i, v)
#define ST4_f16(id, i, v)                                                                                              \
    VECTOR_AT(ushort, id, i) =                                                                                         \
        make_four<ushort>(half_store((v).x), half_store((v).y), half_store((v).z), half_store((v).w))
#define ST4_bf16(id, i, v)                                                                                             \
    VECTOR_AT(ushort, id, i) = make_four<ushort>((ushort)f32_to_bf16((v).x), (ushort)f32_to_bf16((v).y),               \
                                                 (ushort)f32_to_bf16((v).z), (ushort)f32_to_bf16((v).w))

#define SELECT(c, a, b) ((c) ? (a) : (b))
#define BITS_F32(u) __uint_as_float(u)
#define F32_BITS(f) __float_as_uint(f)
#define BITS_F64(low, high) __hiloint2double((int)(high), (int)(low))
#define BITS_I64(low, high) ((long long)(((addr)(high) << 32) | (low)))
#define MUL_HI(a, b) __umulhi(a, b)

#define R_f32(x) ((float)(x))
#define R_f64(x) ((double)(x))
#define R_i32(x) ((int)(x))
#define R_u32(x) ((uint)(x))
#define R_i64(x) ((long long)(x))
#define REAL_f32(x) ((float)(x))
#define REAL_f64(x) ((double)(x))
#define REAL_i32(x) ((int)(x))
#define REAL_u32(x) ((uint)(x))
#define REAL_i64(x) ((long long)(x))

#define DIV_f32(a, b) __fdiv_rn(a, b)
#define SQRT_f32(x) __fsqrt_rn(x)
#define FMA_f32(a, b, c) __fmaf_rn(a, b, c)
#define FLOOR_f32(x) floorf(x)
#define CEIL_f32(x) ceilf(x)
#define TRUNC_f32(x) truncf(x)
#define ROUND_f32(x) rintf(x)
#define ABS_f32(x) fabsf(x)

#define FMA_f64(a, b, c) __fma_rn(a, b, c)
#define DIV_f64(a, b) ((a) / (b))
#define SQRT_f64(x) sqrt(x)
#define FLOOR_f64(x) floor(x)
#define CEIL_f64(x) ceil(x)
#define TRUNC_f64(x) trunc(x)
#define ROUND_f64(x) rint(x)
#define ABS_f64(x) fabs(x)
#define ISNAN_f64(x) ((x) != (x))
#define ISINF_f64(x) (fabs(x) == POS_INF_f64)
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
#define NEG_INF_f64 __longlong_as_double(0xfff0000000000000ll)
#define POS_INF_f64 __longlong_as_double(0x7ff0000000000000ll)
#define QUIET_NAN_f64 __longlong_as_double(0x7ff8000000000000ll)
