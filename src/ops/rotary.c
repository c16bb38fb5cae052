/* rotary_embedding, and the tables of its angles. */
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"
#include "ops/op.h"
#include "tessera/ops.h"

static bool rotary_infer(const op_call *call, op_output *out)
{
    const tensor *x = call->in[0];
    const tsr_dtype carried = x->dtype == TSR_F64 ? TSR_F64 : TSR_F32;
    if (x->rank < 2) {
        fail(TSR_INVALID_ARGUMENT, "rotary_embedding: x is %s; it must be [.., positions, width]", tensor_text(x));
        return false;
    }
    const int64_t positions = x->shape[x->rank - 2], cols = x->shape[x->rank - 1];
    for (int i = 1; i < 3; i++) {
        const tensor *t = call->in[i];
        if (t->rank != 2 || t->shape[0] != positions || t->shape[1] > cols / 2 || !shape_equal(t, call->in[1]) ||
            t->dtype != carried) {
            fail(TSR_INVALID_ARGUMENT,
                 "rotary_embedding: %s is %s; for x of %s it must be %s [%lld, at most %lld], as large as the other",
                 i == 1 ? "cosine" : "sine", tensor_text(t), tensor_text(x), tsr_dtype_name(carried),
                 (long long)positions, (long long)(cols / 2));
            return false;
        }
    }
    if (cols > INT32_MAX || (cols > 0 && x->numel / cols > INT32_MAX)) {
        fail(TSR_UNSUPPORTED, "rotary_embedding: %s has more rows or columns than a kernel can count", tensor_text(x));
        return false;
    }
    return infer_same(call, out);
}

/* The derivative of a rotation is the rotation back. */
static bool rotate(tsr_device *device, tensor *x, tensor *cosine, tensor *sine, bool interleaved, float sign, tensor *y)
{
    x = contiguous(x);
    cosine = contiguous(cosine);
    sine = contiguous(sine);
    if (x == NULL || cosine == NULL || sine == NULL)
        return false;
    const int64_t cols = x->shape[x->rank - 1], half = cosine->shape[1];
    if (half == 0) /* no pairs, and no tables to bind */
        return tsr_copy_into(y, x) == TSR_OK;
    const struct {
        uint32_t cols, half_cols, positions, near, far;
        float sign;
    } p = {(uint32_t)cols,
           (uint32_t)half,
           (uint32_t)cosine->shape[0],
           interleaved ? 2 : 1,
           interleaved ? 1 : (uint32_t)half,
           sign};
    return LAUNCH(device, key_of("rotary", x->dtype), ((grid){(uint32_t)(x->numel / cols), 1, 1}), &p,
                  tensor_binding(x), tensor_binding(cosine), tensor_binding(sine), tensor_binding(y));
}

static bool rotary_run(const op_call *call)
{
    return OP_TEMPORARIES(
        rotate(call->device, call->in[0], call->in[1], call->in[2], call->attr[0].i != 0, 1, call->out[0]));
}

static bool rotary_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    if (r->needs[1] || r->needs[2]) {
        fail(TSR_UNSUPPORTED, "rotary_embedding has no derivative with respect to its tables");
        return false;
    }
    dx[0] = tsr_empty(r->device, r->in_spec[0].dtype, r->in_spec[0].rank, r->in_spec[0].shape);
    return dx[0] != NULL &&
           (dx[0]->numel == 0 || rotate(r->device, dy[0], r->in[1], r->in[2], r->attr[0].i != 0, -1, dx[0]));
}

const op_row op_rotary_embedding = {
    .name = "rotary_embedding",
    .inputs_min = 3,
    .inputs_max = 3,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT,
    .any_dtype = 1u << 1 | 1u << 2,
    .attrs = {{"interleaved", ATTR_BOOL, false, {0}}},
    .autocast = AUTOCAST_WIDEST,
    .infer = rotary_infer,
    .run = rotary_run,
    .backward = rotary_backward,
    .saves = SAVE_INPUT(1) | SAVE_INPUT(2),
};

tsr_tensor *tsr_rotary_embedding(tsr_tensor *x, tsr_tensor *cosine, tsr_tensor *sine, bool interleaved)
{
    return OP1(op_rotary_embedding, ATTRS(A_INT(interleaved)), x, cosine, sine);
}

/* Made on the host in double, so that the tables are the same bits on every device. */
tsr_status tsr_rotary_tables(tsr_device *device, tsr_dtype dtype, int64_t positions, int64_t width, double base,
                             tsr_tensor **cosine, tsr_tensor **sine)
{
    if (device == NULL || cosine == NULL || sine == NULL)
        return fail(TSR_INVALID_ARGUMENT, "rotary_tables: an argument is NULL");
    int64_t count;
    if ((dtype != TSR_F32 && dtype != TSR_F64) || positions < 0 || width < 0 || width % 2 != 0 || !(base > 0) ||
        !checked_mul_i64(positions, width, &count) || count > INT32_MAX)
        return fail(TSR_OUT_OF_RANGE,
                    "rotary_tables: %s tables of %lld positions, width %lld and base %g; they are f32 or f64, "
                    "the width even and the base above 0",
                    tsr_dtype_name(dtype), (long long)positions, (long long)width, base);
    const int64_t half = width / 2, n = positions * half, shape[] = {positions, half};
    const size_t size = tsr_dtype_size(dtype);
    tsr_tensor **tables[] = {cosine, sine};
    unsigned char *data = host_alloc((size_t)n * size + 1);
    if (data == NULL)
        return fail(TSR_OUT_OF_MEMORY, "rotary_tables: no host memory for %lld numbers", (long long)n);
    *cosine = *sine = NULL;
    for (int k = 0; k < 2; k++) {
        for (int64_t i = 0; i < n; i++) {
            const double angle = (double)(i / half) * pow(base, -(double)(i % half) / (double)half);
            const double v = k == 0 ? cos(angle) : sin(angle);
            const float f = (float)v;
            memcpy(data + (size_t)i * size, dtype == TSR_F64 ? (const void *)&v : &f, size);
        }
        *tables[k] = tsr_from_data(device, dtype, 2, shape, data);
    }
    host_free(data);
    return *cosine != NULL && *sine != NULL ? TSR_OK : tsr_last_status();
}
