/* The typed functions of the elementwise operators. */
#include <string.h>

#include "base/error.h"
#include "ops/elementwise.h"
#include "tessera/ops.h"

static const op_row *named(const char *name)
{
    for (size_t i = 0; i < elementwise_count(); i++)
        if (strcmp(elementwise_at(i)->name, name) == 0)
            return elementwise_at(i);
    fail(TSR_NOT_FOUND, "this build has no operator '%s'", name);
    return NULL;
}

static tensor *apply(const char *name, tensor *const *in, int count, double s0, double s1)
{
    const op_row *row = named(name);
    return row == NULL ? NULL : op_apply1(row, in, count, ATTRS(A_FLOAT(s0), A_FLOAT(s1)));
}

static tensor *apply_loss(const char *name, tensor *input, tensor *target, const attr_value *attrs)
{
    const op_row *row = named(name);
    return row == NULL ? NULL : op_apply1(row, (tensor *[]){input, target}, 2, attrs);
}

#define UNARY(name)                                                                                                    \
    tsr_tensor *tsr_##name(tsr_tensor *x)                                                                              \
    {                                                                                                                  \
        return apply(#name, &x, 1, 0, 0);                                                                              \
    }
#define UNARY1(name, scalar)                                                                                           \
    tsr_tensor *tsr_##name(tsr_tensor *x, double scalar)                                                               \
    {                                                                                                                  \
        return apply(#name, &x, 1, scalar, 0);                                                                         \
    }
#define UNARY2(name, first, second)                                                                                    \
    tsr_tensor *tsr_##name(tsr_tensor *x, double first, double second)                                                 \
    {                                                                                                                  \
        return apply(#name, &x, 1, first, second);                                                                     \
    }
#define BINARY(name)                                                                                                   \
    tsr_tensor *tsr_##name(tsr_tensor *a, tsr_tensor *b)                                                               \
    {                                                                                                                  \
        return apply(#name, (tensor *[]){a, b}, 2, 0, 0);                                                              \
    }

UNARY(neg)
UNARY(abs)
UNARY(sign)
UNARY(square)
UNARY(reciprocal)
UNARY(exp)
UNARY(exp2)
UNARY(expm1)
UNARY(log)
UNARY(log2)
UNARY(log10)
UNARY(log1p)
UNARY(sqrt)
UNARY(rsqrt)
UNARY(sin)
UNARY(cos)
UNARY(tan)
UNARY(asin)
UNARY(acos)
UNARY(atan)
UNARY(sinh)
UNARY(cosh)
UNARY(tanh)
UNARY(erf)
UNARY(erfc)
UNARY(floor)
UNARY(ceil)
UNARY(round)
UNARY(trunc)
UNARY(frac)
UNARY(sigmoid)
UNARY(logsigmoid)
UNARY(relu)
UNARY(relu6)
UNARY1(leaky_relu, slope)
UNARY1(elu, alpha)
UNARY(selu)
UNARY1(celu, alpha)
UNARY(gelu)
UNARY(gelu_tanh)
UNARY(silu)
UNARY(mish)
UNARY(softplus)
UNARY(hardsigmoid)
UNARY(hardswish)
UNARY2(hardtanh, low, high)
UNARY2(clamp, low, high)
UNARY2(affine, scale, shift)
UNARY(logical_not)
UNARY(isnan)
UNARY(isinf)
UNARY(isfinite)
BINARY(add)
BINARY(sub)
BINARY(mul)
BINARY(div)
BINARY(pow)
BINARY(fmod)
BINARY(remainder)
BINARY(atan2)
BINARY(hypot)
BINARY(maximum)
BINARY(minimum)
BINARY(eq)
BINARY(ne)
BINARY(lt)
BINARY(le)
BINARY(gt)
BINARY(ge)
BINARY(logical_and)
BINARY(logical_or)
BINARY(logical_xor)
BINARY(bitwise_and)
BINARY(bitwise_or)
BINARY(bitwise_xor)
BINARY(bitwise_left_shift)
BINARY(bitwise_right_shift)

tsr_tensor *tsr_lerp(tsr_tensor *start, tsr_tensor *end, tsr_tensor *weight)
{
    return apply("lerp", (tensor *[]){start, end, weight}, 3, 0, 0);
}

tsr_tensor *tsr_addcmul(tsr_tensor *x, tsr_tensor *a, tsr_tensor *b, double value)
{
    return apply("addcmul", (tensor *[]){x, a, b}, 3, value, 0);
}

tsr_tensor *tsr_addcdiv(tsr_tensor *x, tsr_tensor *a, tsr_tensor *b, double value)
{
    return apply("addcdiv", (tensor *[]){x, a, b}, 3, value, 0);
}

#define LOSS(name)                                                                                                     \
    tsr_tensor *tsr_##name(tsr_tensor *input, tsr_tensor *target, tsr_reduction reduction)                             \
    {                                                                                                                  \
        return apply_loss(#name, input, target, ATTRS(A_INT(reduction)));                                              \
    }
#define LOSS1(name, scalar)                                                                                            \
    tsr_tensor *tsr_##name(tsr_tensor *input, tsr_tensor *target, double scalar, tsr_reduction reduction)              \
    {                                                                                                                  \
        return apply_loss(#name, input, target, ATTRS(A_FLOAT(scalar), A_INT(reduction)));                             \
    }
LOSS(mse)
LOSS(l1)
LOSS1(smooth_l1, beta)
LOSS1(huber, delta)
LOSS(bce_with_logits)

tsr_tensor *tsr_kl_div(tsr_tensor *input, tsr_tensor *target, bool log_target, tsr_reduction reduction)
{
    return apply_loss("kl_div", input, target, ATTRS(A_INT(log_target), A_INT(reduction)));
}
