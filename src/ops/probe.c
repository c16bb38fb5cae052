/* tsr_device_probe: a + b * c on numbers that tell one rounding, or its absence, from another. */
#include <math.h>
#include <string.h>

#include "base/compiler.h"
#include "base/error.h"
#include "tensor/device.h"
#include "tensor/tensor.h"
#include "tessera/device.h"
#include "tessera/ops.h"

/* Each is a + b * c. */
typedef struct probe_case {
    float a, b, c;
} probe_case;

enum {
    CONTRACTED,
    SUBNORMAL_RESULT,
    SUBNORMAL_OPERAND,
    NEAREST_FIRST,
    NEAREST_LAST = NEAREST_FIRST + 3,
    ZERO,
    NAN_FIRST,
    NAN_LAST
};

static const probe_case f32_cases[] = {
    [CONTRACTED] = {-0x1.002p0f, 0x1.001p0f, 0x1.001p0f}, /* the product's last bit, 2^-24, survives only unrounded */
    [SUBNORMAL_RESULT] = {0, 0x1p-126f, 0.5f},
    [SUBNORMAL_OPERAND] = {0, 0x1p-130f, 0x1p20f},
    [NEAREST_FIRST] = {1, 0x1p-24f, 1},        /* a tie, to the even 1 */
    {0x1.000002p0f, 0x1p-24f, 1},              /* a tie, up to the even one */
    {1, 0x1.8p-24f, 1},                        /* up */
    [NEAREST_LAST] = {0, 0x1.000002p0f, 1.5f}, /* a tie of the product */
    [ZERO] = {-0.0f, 0, -1},
    [NAN_FIRST] = {NAN, 1, 1},
    [NAN_LAST] = {INFINITY, -INFINITY, 1},
};
static const float nearest[] = {1, 0x1.000004p0f, 0x1.000002p0f, 0x1.800004p0f};

/* As bits of f16, the last being what must be stored. */
static const uint16_t f16_cases[][4] = {
    {0x3c00, 0x1000, 0x3c00, 0x3c00}, /* 1 + 2^-11: a tie, to the even 1 */
    {0x3c01, 0x1000, 0x3c00, 0x3c02}, /* a tie, up to the even one */
    {0x7bff, 0x4bff, 0x3c00, 0x7bff}, /* 65504 + 15.99 is nearer to 65504 */
    {0x7bff, 0x4c00, 0x3c00, 0x7c00}, /* + 16: infinity */
    {0x0000, 0x0c00, 0x0c00, 0x0001}, /* 2^-24, the least */
    {0x0000, 0x0c00, 0x0800, 0x0000}, /* 2^-25: a tie, to 0 */
    {0x0000, 0x0c00, 0x0a00, 0x0001}, /* 1.5 * 2^-25 */
};

enum { F32_CASES = COUNT_OF(f32_cases), F16_CASES = COUNT_OF(f16_cases) };

/* out = a + b * c on the device, for n elements of each. */
static tsr_status multiply_add(tsr_device *device, tsr_dtype dtype, int64_t n, const void *const operands[3], void *out)
{
    const tsr_attr one = {.name = "value", .kind = TSR_ATTR_FLOAT, .f = 1};
    tsr_tensor *in[3], *sum = NULL;
    tsr_status status = tsr_scope_begin();
    if (status != TSR_OK)
        return status;
    for (int i = 0; i < 3; i++)
        in[i] = tsr_from_data(device, dtype, 1, &n, operands[i]);
    status = tsr_op_call("addcmul", in, 3, &sum, 1, &one, 1);
    if (status == TSR_OK)
        status = tsr_read(sum, out, (size_t)n * tsr_dtype_size(dtype));
    tsr_scope_end();
    return status;
}

static tsr_status probe_f32(tsr_device *device, tsr_arithmetic *arithmetic)
{
    float operands[3][F32_CASES], y[F32_CASES];
    for (int i = 0; i < F32_CASES; i++)
        operands[0][i] = f32_cases[i].a, operands[1][i] = f32_cases[i].b, operands[2][i] = f32_cases[i].c;
    const tsr_status status =
        multiply_add(device, TSR_F32, F32_CASES, (const void *const[]){operands[0], operands[1], operands[2]}, y);
    if (status != TSR_OK)
        return status;
    arithmetic->contracts = y[CONTRACTED] != 0;
    arithmetic->flushes_subnormals = y[SUBNORMAL_RESULT] != 0x1p-127f || y[SUBNORMAL_OPERAND] != 0x1p-110f;
    arithmetic->rounds_to_nearest = memcmp(&y[NEAREST_FIRST], nearest, sizeof nearest) == 0;
    arithmetic->keeps_signed_zero = y[ZERO] == 0 && signbit(y[ZERO]);
    arithmetic->keeps_nan = isnan(y[NAN_FIRST]) && isnan(y[NAN_LAST]);
    return TSR_OK;
}

static tsr_status probe_f16(tsr_device *device, tsr_arithmetic *arithmetic)
{
    uint16_t operands[3][F16_CASES], y[F16_CASES];
    for (int i = 0; i < F16_CASES; i++)
        for (int k = 0; k < 3; k++)
            operands[k][i] = f16_cases[i][k];
    const tsr_status status =
        multiply_add(device, TSR_F16, F16_CASES, (const void *const[]){operands[0], operands[1], operands[2]}, y);
    if (status != TSR_OK)
        return status;
    arithmetic->rounds_f16 = true;
    for (int i = 0; i < F16_CASES; i++)
        arithmetic->rounds_f16 = arithmetic->rounds_f16 && y[i] == f16_cases[i][3];
    return TSR_OK;
}

tsr_status tsr_device_probe(tsr_device *device, tsr_arithmetic *arithmetic)
{
    if (device == NULL || arithmetic == NULL)
        return fail(TSR_INVALID_ARGUMENT, "tsr_device_probe: an argument is NULL");
    *arithmetic = (tsr_arithmetic){0};
    const tsr_status status = probe_f32(device, arithmetic);
    if (status != TSR_OK || (device_dtypes(device) & DTYPE_BIT(TSR_F16)) == 0)
        return status;
    return probe_f16(device, arithmetic);
}
