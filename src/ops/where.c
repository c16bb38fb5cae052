/* Elementwise operators that do not fit the table of kernels/elementwise.def: where and masked_fill, whose operands differ in
 * dtype, bitwise_not, nan_to_num with its three numbers. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "ops/elementwise.h"
#include "tensor/device.h"
#include "tessera/ops.h"

/* ---- where ---- */

static bool where_infer(const op_call *call, op_output *out)
{
    int64_t shape[TSR_MAX_RANK];
    int rank;
    if (call->in[0]->dtype != TSR_BOOL) {
        fail(TSR_INVALID_ARGUMENT, "where: the condition is %s, it must be bool", tensor_text(call->in[0]));
        return false;
    }
    if (!shape_broadcast(call->in[1]->rank, call->in[1]->shape, call->in[2]->rank, call->in[2]->shape, &rank, shape) ||
        !shape_broadcast(rank, shape, call->in[0]->rank, call->in[0]->shape, &out->rank, out->shape)) {
        fail(TSR_INVALID_ARGUMENT, "where: shapes do not broadcast: %s, %s and %s",
             shape_text(call->in[0]->rank, call->in[0]->shape), shape_text(call->in[1]->rank, call->in[1]->shape),
             shape_text(call->in[2]->rank, call->in[2]->shape));
        return false;
    }
    out->dtype = call->in[1]->dtype;
    return true;
}

static bool where_run(const op_call *call)
{
    return OP_TEMPORARIES(
        elementwise_launch(call->device, key_of("where", call->in[1]->dtype), call->in, 3, call->out[0], NULL));
}

static bool where_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    tensor *zero = tsr_zeros(r->device, dy[0]->dtype, 0, NULL);
    for (int k = 1; k < 3; k++) {
        if (!r->needs[k])
            continue;
        tensor *part = k == 1 ? tsr_where(r->in[0], dy[0], zero) : tsr_where(r->in[0], zero, dy[0]);
        dx[k] = reduce_to(part, r->in_spec[k].rank, r->in_spec[k].shape);
        if (dx[k] == NULL)
            return false;
    }
    return true;
}

const op_row op_where = {
    .name = "where",
    .inputs_min = 3,
    .inputs_max = 3,
    .outputs = 1,
    .dtypes = DTYPES_ALL,
    .any_dtype = 1u,
    .same_dtype = true,
    .pointwise = true,
    .autocast = AUTOCAST_WIDEST,
    .infer = where_infer,
    .run = where_run,
    .backward = where_backward,
    .saves = SAVE_INPUT(0),
};

tsr_tensor *tsr_where(tsr_tensor *chosen, tsr_tensor *a, tsr_tensor *b)
{
    return OP1(op_where, NULL, chosen, a, b);
}

/* ---- masked_fill: where's kernel with a number ---- */

static bool masked_fill_infer(const op_call *call, op_output *out)
{
    const tensor *x = call->in[0], *mask = call->in[1];
    if (mask->dtype != TSR_BOOL) {
        fail(TSR_INVALID_ARGUMENT, "masked_fill: the mask is %s, it must be bool", tensor_text(mask));
        return false;
    }
    if (!shape_broadcast(x->rank, x->shape, mask->rank, mask->shape, &out->rank, out->shape)) {
        fail(TSR_INVALID_ARGUMENT, "masked_fill: shapes do not broadcast: %s and %s", shape_text(x->rank, x->shape),
             shape_text(mask->rank, mask->shape));
        return false;
    }
    out->dtype = x->dtype;
    return true;
}

static bool fill_masked(const op_call *call)
{
    tensor *x = call->in[0], *value = tsr_full(call->device, x->dtype, 0, NULL, call->attr[0].f);
    return value != NULL && elementwise_launch(call->device, key_of("where", x->dtype),
                                               (tensor *[]){call->in[1], value, x}, 3, call->out[0], NULL);
}

static bool masked_fill_run(const op_call *call)
{
    return OP_TEMPORARIES(fill_masked(call));
}

static bool masked_fill_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    dx[0] = reduce_to(tsr_masked_fill(dy[0], r->in[1], 0.0), r->in_spec[0].rank, r->in_spec[0].shape);
    return dx[0] != NULL;
}

const op_row op_masked_fill = {
    .name = "masked_fill",
    .inputs_min = 2,
    .inputs_max = 2,
    .outputs = 1,
    .dtypes = DTYPES_ALL,
    .any_dtype = 1u << 1,
    .pointwise = true,
    .attrs = {{"value", ATTR_FLOAT, true, {0}}},
    .autocast = AUTOCAST_WIDEST,
    .infer = masked_fill_infer,
    .run = masked_fill_run,
    .backward = masked_fill_backward,
    .saves = SAVE_INPUT(1),
};

tsr_tensor *tsr_masked_fill(tsr_tensor *x, tsr_tensor *mask, double value)
{
    return OP1(op_masked_fill, ATTRS(A_FLOAT(value)), x, mask);
}

/* ---- bitwise_not: x ^ ~0, and for bool logical_not ---- */

static bool flip_bits(const op_call *call)
{
    tensor *x = call->in[0];
    if (x->dtype == TSR_BOOL)
        return elementwise_launch(call->device, key_op("test", TSR_BOOL, "logical_not"), &x, 1, call->out[0],
                                  (double[2]){0});
    tensor *ones = tsr_full(call->device, x->dtype, 0, NULL, x->dtype == TSR_U8 ? 255 : -1);
    return ones != NULL && elementwise_launch(call->device, key_op("bits", x->dtype, "bitwise_xor"),
                                              (tensor *[]){x, ones}, 2, call->out[0], (double[2]){0});
}

static bool bitwise_not_run(const op_call *call)
{
    return OP_TEMPORARIES(flip_bits(call));
}

const op_row op_bitwise_not = {
    .name = "bitwise_not",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 1,
    .dtypes = DTYPES_INT | DTYPE_BIT(TSR_U8) | DTYPE_BIT(TSR_BOOL),
    .pointwise = true,
    .autocast = AUTOCAST_NONE,
    .infer = infer_same,
    .run = bitwise_not_run,
};

tsr_tensor *tsr_bitwise_not(tsr_tensor *x)
{
    return OP1(op_bitwise_not, NULL, x);
}

/* ---- nan_to_num ---- */

enum { SPAN = 4096 };

static double largest_of(tsr_dtype dtype)
{
    return dtype == TSR_F64 ? DBL_MAX : dtype == TSR_F16 ? 65504.0 : dtype == TSR_BF16 ? 0x1.fep127 : (double)FLT_MAX;
}

/* As the dialect's PARAM_REAL takes it: a float's bits, or both halves of a double's. */
static void put_real(uint32_t *words, tsr_dtype dtype, double v)
{
    const float narrow = (float)v;
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    if (dtype == TSR_F64) {
        words[0] = (uint32_t)bits;
        words[1] = (uint32_t)(bits >> 32);
    } else {
        memcpy(words, &narrow, sizeof narrow);
        words[1] = 0;
    }
}

static bool replace_specials(const op_call *call)
{
    const tensor *x = contiguous(call->in[0]);
    const double top = largest_of(call->in[0]->dtype);
    const double above = call->attr[1].f, below = call->attr[2].f;
    uint32_t p[8] = {0, SPAN};
    if (x == NULL)
        return false;
    if (x->numel > UINT32_MAX) {
        fail(TSR_UNSUPPORTED, "nan_to_num: %s has more than 2^32 - 1 elements", tensor_text(x));
        return false;
    }
    p[0] = (uint32_t)x->numel;
    put_real(p + 2, x->dtype, call->attr[0].f);
    put_real(p + 4, x->dtype, isnan(above) ? top : above);
    put_real(p + 6, x->dtype, isnan(below) ? -top : below);
    const hal_binding b[] = {tensor_binding(x), tensor_binding(call->out[0])};
    return kernel_launch(call->device, key_of("nan_to_num", x->dtype).text,
                         (grid){(uint32_t)((x->numel + SPAN - 1) / SPAN), 1, 1}, b, 2, p, sizeof p);
}

static bool nan_to_num_run(const op_call *call)
{
    return OP_TEMPORARIES(replace_specials(call));
}

static bool nan_to_num_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    dx[0] = tsr_where(tsr_isfinite(r->in[0]), dy[0], tsr_zeros(r->device, dy[0]->dtype, 0, NULL));
    return dx[0] != NULL;
}

const op_row op_nan_to_num = {
    .name = "nan_to_num",
    .inputs_min = 1,
    .inputs_max = 1,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT,
    .pointwise = true,
    .attrs = {{"nan", ATTR_FLOAT, false, {.f = 0}},
              {"posinf", ATTR_FLOAT, false, {.f = (double)NAN}},
              {"neginf", ATTR_FLOAT, false, {.f = (double)NAN}}},
    .autocast = AUTOCAST_WIDEST,
    .infer = infer_same,
    .run = nan_to_num_run,
    .backward = nan_to_num_backward,
    .saves = SAVE_INPUT(0),
};

tsr_tensor *tsr_nan_to_num(tsr_tensor *x, double nan, double posinf, double neginf)
{
    return OP1(op_nan_to_num, ATTRS(A_FLOAT(nan), A_FLOAT(posinf), A_FLOAT(neginf)), x);
}
