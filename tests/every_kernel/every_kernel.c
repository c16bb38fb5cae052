#include "every_kernel.h"

tsr_tensor *operand(const run *r, tsr_dtype dtype, int rank, const int64_t *shape)
{
    const int64_t n = count_of(rank, shape);
    union {
        float f32[1024];
        double f64[1024];
        int32_t i32[1024];
        int64_t i64[1024];
        uint8_t u8[1024];
    } values;
    assert_true(n <= 1024);
    const bool is_float = dtype <= TSR_F64, is_half = dtype == TSR_F16 || dtype == TSR_BF16;
    for (int64_t i = 0; i < n; i++) {
        const int number = (int)(i * 7 % 13);
        const float fraction = 0.0625F + (float)number / 16;
        switch (dtype) {
        case TSR_F64: values.f64[i] = (double)fraction; break;
        case TSR_I32: values.i32[i] = number; break;
        case TSR_I64: values.i64[i] = number; break;
        case TSR_U8: values.u8[i] = (uint8_t)number; break;
        case TSR_BOOL: values.u8[i] = number % 2; break;
        default: values.f32[i] = fraction; break;
        }
    }
    tsr_tensor *plain = tsr_from_data(r->device, is_half ? TSR_F32 : dtype, rank, shape, &values);
    tsr_tensor *x = is_half ? tsr_detach(tsr_cast(plain, dtype)) : plain;
    require(r, x);
    if (tsr_set_requires_grad(x, true) != TSR_OK)
        assert_false(run_has(r, dtype) && is_float);
    return x;
}

tsr_tensor *indices(const run *r, tsr_dtype dtype, int64_t limit, int rank, const int64_t *shape)
{
    const int64_t n = count_of(rank, shape);
    int64_t wide[256];
    int32_t narrow[256];
    assert_true(n <= 256);
    for (int64_t i = 0; i < n; i++) {
        wide[i] = i % limit;
        narrow[i] = (int32_t)wide[i];
    }
    tsr_tensor *x = tsr_from_data(r->device, dtype, rank, shape, dtype == TSR_I64 ? (void *)wide : (void *)narrow);
    require(r, x);
    return x;
}

tsr_tensor *turned(tsr_tensor *x)
{
    return tsr_transpose(x, 0, 1);
}

void differentiate(const run *r, tsr_tensor *y)
{
    require(r, y);
    if (!tsr_requires_grad(y))
        return;
    tsr_tensor *gradient = operand(r, tsr_dtype_of(y), tsr_rank(y), tsr_shape(y));
    require_ok(r, tsr_backward_from(y, tsr_detach(gradient), false));
}
