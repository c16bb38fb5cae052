// CUDA C as C++ for the host: what a kernel's text needs before it, so that the fake driver can run the very text that NVRTC would
// get (prelude and all). A thread of a work-group is a call, or a fiber where there are barriers; the runner is in fake_kernel.c.
// No header is included: a kernel may be named like a function of the C library.
typedef unsigned long emu_size;
typedef unsigned int emu_u32;
typedef unsigned long long emu_u64;

struct emu_dim {
    emu_u32 x, y, z;
};
struct emu_place {
    emu_dim thread, block, group, grid;
};
static thread_local emu_place emu_here;
#define threadIdx emu_here.thread
#define blockIdx emu_here.block
#define blockDim emu_here.group
#define gridDim emu_here.grid

extern "C" {
__attribute__((visibility("default"))) void (*emu_barrier)(void);
__attribute__((visibility("default"))) emu_place *emu_place_of_thread(void)
{
    return &emu_here;
}
}

#define __global__ __attribute__((visibility("default")))
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __constant__
#define __shared__ static thread_local // a work-group runs in one thread of the host
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __syncthreads() emu_barrier()

extern "C" {
float floorf(float), ceilf(float), truncf(float), rintf(float), fabsf(float), sqrtf(float), fmaf(float, float, float);
double floor(double), ceil(double), trunc(double), rint(double), fabs(double), sqrt(double), fma(double, double, double);
double exp(double), exp2(double), expm1(double), log(double), log2(double), log10(double), log1p(double), pow(double, double);
double sin(double), cos(double), tan(double), asin(double), acos(double), atan(double), atan2(double, double);
double hypot(double, double), fmod(double, double), sinh(double), cosh(double), tanh(double), asinh(double), acosh(double), atanh(double), erf(double), erfc(double);
}

template <typename To, typename From> static inline To emu_bits(From from)
{
    To to;
    static_assert(sizeof to == sizeof from, "a bit cast");
    __builtin_memcpy(&to, &from, sizeof to);
    return to;
}
static inline float __uint_as_float(emu_u32 u) { return emu_bits<float>(u); }
static inline emu_u32 __float_as_uint(float f) { return emu_bits<emu_u32>(f); }
static inline float __int_as_float(int i) { return emu_bits<float>(i); }
static inline int __float_as_int(float f) { return emu_bits<int>(f); }
static inline double __longlong_as_double(long long i) { return emu_bits<double>(i); }
static inline long long __double_as_longlong(double d) { return emu_bits<long long>(d); }
static inline double __hiloint2double(int high, int low)
{
    return emu_bits<double>((emu_u64)(emu_u32)high << 32 | (emu_u32)low);
}
static inline int __double2hiint(double d) { return (int)(emu_bits<emu_u64>(d) >> 32); }
static inline int __double2loint(double d) { return (int)emu_bits<emu_u64>(d); }
static inline emu_u32 __umulhi(emu_u32 a, emu_u32 b) { return (emu_u32)((emu_u64)a * b >> 32); }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fsqrt_rn(float x) { return sqrtf(x); }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
static inline double __ddiv_rn(double a, double b) { return a / b; }

// What stands for the two PTX instructions that the prelude uses (fake_nvrtc.c replaces them).
static inline float emu_cvt_f32_f16(unsigned short h)
{
    const emu_u32 sign = (emu_u32)(h & 0x8000) << 16, magnitude = h & 0x7fff;
    if (magnitude >= 0x7c00)
        return __uint_as_float(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);
    if (magnitude >= 0x400)
        return __uint_as_float(sign | ((magnitude << 13) + 0x38000000));
    return __uint_as_float(sign | __float_as_uint((float)magnitude * 5.9604644775390625e-8f)); // subnormals: of 2^-24
}
static inline unsigned short emu_cvt_rn_f16_f32(float f)
{
    const emu_u32 bits = __float_as_uint(f), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000)
        return 0x7fff;
    if (magnitude >= 0x477ff000) // 65520 and more
        return (unsigned short)(sign | 0x7c00);
    if (magnitude < 0x38800000) // below 2^-14: in units of 2^-24, to nearest even
        return (unsigned short)(sign | (emu_u32)rintf(__uint_as_float(magnitude) * 16777216.0f));
    return (unsigned short)(sign | (magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13);
}

// ---- calling a kernel with what cuLaunchKernel gets ----

enum { EMU_MAX_ARGUMENTS = 16 };
struct emu_signature {
    emu_u32 count, sizes[EMU_MAX_ARGUMENTS], is_pointer[EMU_MAX_ARGUMENTS];
};
template <typename T> struct emu_is_pointer {
    enum { value = 0 };
};
template <typename T> struct emu_is_pointer<T *> {
    enum { value = 1 };
};
template <typename... A> static emu_signature emu_signature_of(void (*)(A...))
{
    return emu_signature{sizeof...(A), {sizeof(A)...}, {emu_is_pointer<A>::value...}};
}

template <emu_size... I> struct emu_list {
};
template <emu_size N, emu_size... I> struct emu_count : emu_count<N - 1, N - 1, I...> {
};
template <emu_size... I> struct emu_count<0, I...> {
    typedef emu_list<I...> list;
};
template <typename... A, emu_size... I> static void emu_apply(void (*kernel)(A...), void **arguments, emu_list<I...>)
{
    kernel(*static_cast<A *>(arguments[I])...);
}
template <typename... A> static void emu_apply_all(void (*kernel)(A...), void **arguments)
{
    emu_apply(kernel, arguments, typename emu_count<sizeof...(A)>::list());
}
#define EMU_ENTRY(name)                                                                                                \
    extern "C" __attribute__((visibility("default"))) emu_signature emu_signature_##name = emu_signature_of(&name);    \
    extern "C" __attribute__((visibility("default"))) void emu_call_##name(void **arguments)                           \
    {                                                                                                                  \
        emu_apply_all(&name, arguments);                                                                               \
    }
