/* The kernel dialect as GLSL 4.50. kernel-pack puts #version, the extensions and the push-constant block's place before
 * it and compiles it at build time; docs/kernel-dialect.md lists the words.
 *
 * A binding is an array from an aligned start; what lies between that and the tensor's first element comes with the
 * push constants, 8 bits a binding, counted in elements, from byte 112 on; the index of the first work-group follows in
 * byte 120, since a long grid is dispatched in parts. NoContraction is set on every operation by
 * kernel-pack. Functions, capabilities and types that a kernel does not use are cut away there too. */

#define addr uint
#define real_f32 float
#define real_f64 double
#define real_i32 int
#define real_u32 uint
#define real_i64 int64_t
#define real4_f32 vec4
#define real4_f64 dvec4
#define real4_i32 ivec4
#define real4_u32 uvec4
#define real4_i64 i64vec4
#define MAKE4_(T, a, b, c, d) T(a, b, c, d)
#define GET4(v, k) ((v)[k])

#define f32_t float
#define f64_t double
#define f16_t uint16_t
#define bf16_t uint16_t
#define i32_t int
#define u32_t uint
#define i64_t int64_t
#define u8_t uint8_t
#define bool_t uint8_t

#define HAVE_F64 1
#define RESTRICT restrict
#define FN(type) type
#define PARAMS_(name, fields)                                                                                          \
    layout(push_constant, std430) uniform name##_params                                                                \
    {                                                                                                                  \
        fields layout(offset = 112) uvec4 binding_base;                                                                \
    }                                                                                                                  \
    p;
#define IN_(slot, T, id) layout(std430, set = 0, binding = slot) DISTINCT readonly buffer id##_block { T##_t id##_data[]; };
#define OUT_(slot, T, id) layout(std430, set = 0, binding = slot) DISTINCT buffer id##_block { T##_t id##_data[]; };
#define INOUT_(slot, T, id) layout(std430, set = 0, binding = slot) DISTINCT buffer id##_block { T##_t id##_data[]; };
#define LOCAL_(type, id, n) shared type id[n];
#define KERNEL(name, bindings, locals) bindings locals void name()
#define KERNEL_END

#define GID (gl_WorkGroupID.x + p.binding_base.z)
#define GIDY gl_WorkGroupID.y
#define GIDZ gl_WorkGroupID.z
#define LID gl_LocalInvocationIndex
#define BARRIER() { memoryBarrierShared(); barrier(); }
#define INDEPENDENT
#define AS_VECTOR

#define ADDR(u) (u)
#define VIEW_(T, id, base) \
    const uint id##_view = (base) + ((p.binding_base[SLOT_##id >> 2] >> ((SLOT_##id & 3) * 8)) & 0xffu);
#define U32(x) uint(x)
#define I32(x) int(x)
#define I64(x) int64_t(x)
#define F32(x) float(x)
#define F64(x) double(x)

#define AT(id, i) id##_data[id##_view + (i)]
#define LD_f32(id, i) AT(id, i)
#define LD_f64(id, i) AT(id, i)
#define LD_i32(id, i) AT(id, i)
#define LD_u32(id, i) AT(id, i)
#define LD_i64(id, i) AT(id, i)
#define LD_u8(id, i) int(AT(id, i))
#define LD_bool(id, i) int(AT(id, i))
#define LD_f16(id, i) f16_to_f32(uint(AT(id, i)))
#define LD_bf16(id, i) bf16_to_f32(uint(AT(id, i)))
#define ST_f32(id, i, v) AT(id, i) = float(v)
#define ST_f64(id, i, v) AT(id, i) = double(v)
#define ST_i32(id, i, v) AT(id, i) = int(v)
#define ST_u32(id, i, v) AT(id, i) = uint(v)
#define ST_i64(id, i, v) AT(id, i) = int64_t(v)
#define ST_u8(id, i, v) AT(id, i) = uint8_t(uint(v))
#define ST_bool(id, i, v) AT(id, i) = uint8_t(uint(v))
#define ST_f16(id, i, v) AT(id, i) = uint16_t(f32_to_f16(float(v)))
#define ST_bf16(id, i, v) AT(id, i) = uint16_t(f32_to_bf16(float(v)))
#define LD4_AT(T, id, i) LD4_EACH(T, id, i)
#define ST4_AT(T, id, i, v) ST4_EACH(T, id, i, v)

/* Vectors for cpu variants: a software driver gives each lane of its own vectors one work-item. */
#define VW_f32 4u
#define VW_f64 2u
#define VROWS 8
#define vec_f32 vec4
#define vec_f64 dvec2
#define VLD_f32(id, i) vec4(AT(id, i), AT(id, (i) + 1u), AT(id, (i) + 2u), AT(id, (i) + 3u))
#define VLD_f64(id, i) dvec2(AT(id, i), AT(id, (i) + 1u))
#define VST_f32(id, i, v) { AT(id, i) = (v).x; AT(id, (i) + 1u) = (v).y; AT(id, (i) + 2u) = (v).z; AT(id, (i) + 3u) = (v).w; }
#define VST_f64(id, i, v) { AT(id, i) = (v).x; AT(id, (i) + 1u) = (v).y; }
#define VSPLAT_f32(x) vec4(x)
#define VSPLAT_f64(x) dvec2(x)
#define VGET(v, l) ((v)[l])
#define VFMA_f32(a, b, c) FMA_f32(a, b, c)
#define VFMA_f64(a, b, c) FMA_f64(a, b, c)

#define SELECT(c, a, b) ((c) ? (a) : (b))
#define BITS_F32(u) uintBitsToFloat(u)
#define F32_BITS(f) floatBitsToUint(f)
#define BITS_F64(low, high) packDouble2x32(uvec2(low, high))
#define BITS_I64(low, high) packInt2x32(ivec2(int(low), int(high)))
uint MUL_HI(uint a, uint b)
{
    uint high, low;
    umulExtended(a, b, high, low);
    return high;
}

/* kernel-pack writes R(0.5) of an f64 instance and R_f64(0.5) as 0.5lf: the preprocessor here cannot. */
#define R_f32(x) float(x)
#define R_f64(x) double(x)
#define R_i32(x) int(x)
#define R_u32(x) uint(x)
#define R_i64(x) int64_t(x)
#define REAL_f32(x) float(x)
#define REAL_f64(x) double(x)
#define REAL_i32(x) int(x)
#define REAL_u32(x) uint(x)
#define REAL_i64(x) int64_t(x)

/* Drivers may be off by 2.5 ulp in a quotient and more in a square root: common.k repairs theirs. */
#define DIV_ESTIMATE(a, b) ((a) / (b))
#define SQRT_ESTIMATE(x) sqrt(x)
#define DIV_f32(a, b) div_repaired(a, b)
#define SQRT_f32(x) sqrt_repaired(x)
#define FMA_f32(a, b, c) fma(a, b, c)
#define FMA_f64(a, b, c) ((a) * (b) + (c))
#define FLOOR_f32(x) floor(x)
#define CEIL_f32(x) ceil(x)
#define TRUNC_f32(x) trunc(x)
#define ROUND_f32(x) roundEven(x)
#define ABS_f32(x) abs(x)

#define DIV_f64(a, b) ((a) / (b))
#define SQRT_f64(x) sqrt(x)
#define FLOOR_f64(x) floor(x)
#define CEIL_f64(x) ceil(x)
#define TRUNC_f64(x) trunc(x)
#define ROUND_f64(x) roundEven(x)
#define ABS_f64(x) abs(x)
bool ISNAN_f64(double x)
{
    const uvec2 bits = unpackDouble2x32(x);
    const uint high = bits.y & 0x7fffffffu;
    return high > 0x7ff00000u || (high == 0x7ff00000u && bits.x != 0u);
}
bool ISINF_f64(double x)
{
    const uvec2 bits = unpackDouble2x32(x);
    return (bits.y & 0x7fffffffu) == 0x7ff00000u && bits.x == 0u;
}
#define NEG_INF_f64 packDouble2x32(uvec2(0u, 0xfff00000u))
#define POS_INF_f64 packDouble2x32(uvec2(0u, 0x7ff00000u))
#define QUIET_NAN_f64 packDouble2x32(uvec2(0u, 0x7ff80000u))
