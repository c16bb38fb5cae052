/* matmul and linear. */
#include <string.h>

#include "base/error.h"
#include "mxu/product.h"
#include "ops/op.h"
#include "tessera/ops.h"

/* ---- shapes ---------------------------------------------------------------------------------------------------- */

/* a and b as matrices with leading dimensions: torch.matmul lets a vector stand for a row on the left and a column on the
 * right, and drops that dimension from the result. */
typedef struct matmul_shape {
    int rank; /* of both, at least 2 */
    int64_t a[TSR_MAX_RANK], b[TSR_MAX_RANK];
    int rank_a, rank_b;
    bool drops_row, drops_col;
    int rank_out; /* with row and column, as if nothing were dropped */
    int64_t out[TSR_MAX_RANK];
} matmul_shape;

static bool matmul_shape_of(const tensor *a, const tensor *b, matmul_shape *s)
{
    if (a->rank == 0 || b->rank == 0) {
        fail(TSR_INVALID_ARGUMENT, "matmul: a scalar is no matrix: a is %s, b is %s", shape_text(a->rank, a->shape),
             shape_text(b->rank, b->shape));
        return false;
    }
    *s = (matmul_shape){.rank_a = a->rank, .rank_b = b->rank, .drops_row = a->rank == 1, .drops_col = b->rank == 1};
    memcpy(s->a, a->shape, sizeof s->a);
    memcpy(s->b, b->shape, sizeof s->b);
    if (s->drops_row) {
        s->a[1] = s->a[0];
        s->a[0] = 1;
        s->rank_a = 2;
    }
    if (s->drops_col) {
        s->b[1] = 1;
        s->rank_b = 2;
    }
    if (s->a[s->rank_a - 1] != s->b[s->rank_b - 2]) {
        fail(TSR_INVALID_ARGUMENT, "matmul: inner sizes differ: a is %s, b is %s", shape_text(a->rank, a->shape),
             shape_text(b->rank, b->shape));
        return false;
    }
    if (!shape_broadcast(s->rank_a - 2, s->a, s->rank_b - 2, s->b, &s->rank_out, s->out)) {
        fail(TSR_INVALID_ARGUMENT, "matmul: the leading sizes cannot be broadcast: a is %s, b is %s",
             shape_text(a->rank, a->shape), shape_text(b->rank, b->shape));
        return false;
    }
    s->out[s->rank_out++] = s->a[s->rank_a - 2];
    s->out[s->rank_out++] = s->b[s->rank_b - 1];
    return true;
}

static bool matmul_infer(const op_call *call, op_output *out)
{
    matmul_shape s;
    if (!matmul_shape_of(call->in[0], call->in[1], &s))
        return false;
    out->dtype = call->in[0]->dtype;
    for (int i = 0; i < s.rank_out; i++)
        if (!(s.drops_row && i == s.rank_out - 2) && !(s.drops_col && i == s.rank_out - 1))
            out->shape[out->rank++] = s.out[i];
    return true;
}

/* ---- running ----------------------------------------------------------------------------------------------------- */

/* Whether the last two dimensions can be multiplied as they lie: one of them contiguous, the other no overlapping. */
static bool multiplies_as_is(const tensor *t)
{
    const int64_t rows = t->shape[t->rank - 2], cols = t->shape[t->rank - 1];
    const int64_t row = t->strides[t->rank - 2], col = t->strides[t->rank - 1];
    return ((col == 1 || cols == 1) && (rows == 1 || row >= cols)) ||
           ((row == 1 || rows == 1) && (cols == 1 || col >= rows));
}

/* x as a tensor of rank ≥ 2 whose last two dimensions are ready, in the scope; vectors become matrices of one row or column. */
static tensor *ready(tensor *x, bool as_row, bool as_col)
{
    if (as_row)
        x = tsr_reshape(x, 2, (int64_t[]){1, x->shape[0]});
    else if (as_col)
        x = tsr_reshape(x, 2, (int64_t[]){x->shape[0], 1});
    return x == NULL || multiplies_as_is(x) ? x : contiguous(x);
}

static product_matrix matrix_of(const tensor *t)
{
    const int64_t rows = t->shape[t->rank - 2], cols = t->shape[t->rank - 1];
    product_matrix x = {.at = t->numel > 0 ? tensor_binding(t) : (hal_binding){0},
                        .row = t->strides[t->rank - 2],
                        .col = t->strides[t->rank - 1]};
    /* The stride of a dimension of size 1 says nothing; one that fits is easier to work with. */
    if (cols == 1)
        x.col = 1;
    if (rows == 1)
        x.row = x.col == 1 ? cols : 1;
    return x;
}

/* a [.., m, k] times b [.., k, n] into the contiguous out [.., m, n]; the leading dimensions of a and b have been expanded to out's. */
static bool multiply(tsr_device *device, tensor *a, tensor *b, tensor *out)
{
    const int lead = out->rank - 2;
    product p = {.dtype = out->dtype,
                 .m = out->shape[lead],
                 .n = out->shape[lead + 1],
                 .k = a->shape[lead + 1],
                 .a = matrix_of(a),
                 .b = matrix_of(b),
                 .c = matrix_of(out)};
    p.c.row = p.n;
    p.c.col = 1;

    int64_t shape[TSR_MAX_RANK], strides[3][TSR_MAX_RANK];
    const tensor *operands[3] = {a, b, out};
    int batches = 0;
    for (int d = 0; d < lead; d++) {
        if (out->shape[d] == 1)
            continue;
        shape[batches] = out->shape[d];
        for (int i = 0; i < 3; i++)
            strides[i][batches] = operands[i]->strides[d];
        batches++;
    }
    if (batches > 0)
        batches = dims_collapse(batches, shape, 3, strides);
    /* Rows of all batches times one matrix are one tall product. */
    if (batches == 1 && strides[1][0] == 0 && strides[0][0] == p.a.row * p.m && p.a.col == 1) {
        p.m *= shape[0];
        batches = 0;
    }
    if (batches > 2) /* made contiguous by the caller, so this cannot be */
        return fail(TSR_UNSUPPORTED, "matmul: %d kinds of batches", batches), false;
    product_matrix *matrices[3] = {&p.a, &p.b, &p.c};
    for (int i = 0; i < 3 && batches > 0; i++) {
        matrices[i]->inner = strides[i][batches - 1];
        matrices[i]->outer = batches == 2 ? strides[i][0] : 0;
    }
    p.inner = batches > 0 ? shape[batches - 1] : 1;
    p.outer = batches == 2 ? shape[0] : 1;
    if (p.inner > 4096 && p.outer == 1) { /* a launch holds few inner batches, any number of outer ones */
        p.outer = p.inner;
        p.inner = 1;
        for (int i = 0; i < 3; i++) {
            matrices[i]->outer = matrices[i]->inner;
            matrices[i]->inner = 0;
        }
    }
    return product_run(device, &p);
}

/* How many kinds of batches remain when the leading dimensions are merged. */
static int batch_kinds(const tensor *a, const tensor *b, int lead, const int64_t *sizes)
{
    int64_t shape[TSR_MAX_RANK], strides[2][TSR_MAX_RANK];
    if (lead == 0)
        return 0;
    memcpy(shape, sizes, sizeof(int64_t) * (size_t)lead);
    memcpy(strides[0], a->strides, sizeof strides[0]);
    memcpy(strides[1], b->strides, sizeof strides[1]);
    return dims_collapse(lead, shape, 2, strides);
}

static tensor *expand_to(tensor *x, const matmul_shape *s, int64_t rows, int64_t cols)
{
    int64_t shape[TSR_MAX_RANK];
    memcpy(shape, s->out, sizeof shape);
    shape[s->rank_out - 2] = rows;
    shape[s->rank_out - 1] = cols;
    return x == NULL ? NULL : tsr_expand(x, s->rank_out, shape);
}

static bool run_matmul(const op_call *call)
{
    tensor *a = call->in[0], *b = call->in[1], *out = call->out[0];
    matmul_shape s;
    if (!matmul_shape_of(a, b, &s))
        return false;
    const int64_t m = s.out[s.rank_out - 2], n = s.out[s.rank_out - 1], k = s.a[s.rank_a - 1];
    const bool widen = !product_takes(call->device, out->dtype, k);
    if (widen && ((a = tsr_cast(a, TSR_F32)) == NULL || (b = tsr_cast(b, TSR_F32)) == NULL))
        return false;
    a = expand_to(ready(a, s.drops_row, false), &s, m, k);
    b = expand_to(ready(b, false, s.drops_col), &s, k, n);
    if (a == NULL || b == NULL)
        return false;
    if (batch_kinds(a, b, s.rank_out - 2, s.out) > 2 && ((a = contiguous(a)) == NULL || (b = contiguous(b)) == NULL))
        return false;
    tensor *target = widen ? tsr_empty(call->device, TSR_F32, s.rank_out, s.out) : tsr_reshape(out, s.rank_out, s.out);
    if (target == NULL || !multiply(call->device, a, b, target))
        return false;
    return !widen || tsr_copy_into(out, tsr_reshape(target, out->rank, out->shape)) == TSR_OK;
}

static bool matmul_run(const op_call *call)
{
    return OP_TEMPORARIES(run_matmul(call));
}

/* da = dy bᵀ and db = aᵀ dy, with vectors as matrices, summed over what was broadcast. */
static bool matmul_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    tensor *a = r->in[0], *b = r->in[1];
    matmul_shape s;
    if (!matmul_shape_of(a, b, &s))
        return false;
    tensor *g = tsr_reshape(dy[0], s.rank_out, s.out);
    const int64_t m = s.a[s.rank_a - 2], k = s.a[s.rank_a - 1], n = s.b[s.rank_b - 1];
    a = tsr_reshape(a, s.rank_a, s.a);
    b = tsr_reshape(b, s.rank_b, s.b);
    if (r->needs[0]) {
        tensor *full = reduce_to(tsr_matmul(g, tsr_transpose(b, -1, -2)), s.rank_a, s.a);
        dx[0] = tsr_reshape(full, r->in_spec[0].rank, r->in_spec[0].shape);
        if (dx[0] == NULL)
            return false;
    }
    if (r->needs[1]) {
        tensor *full;
        if (s.rank_b == 2 && s.rank_a > 2 && m > 0 &&
            n > 0) /* one long sum over all rows instead of a sum of products */
            full = tsr_matmul(tsr_transpose(tsr_reshape(a, 2, (int64_t[]){-1, k == 0 ? 1 : k}), 0, 1),
                              tsr_reshape(g, 2, (int64_t[]){-1, n}));
        else
            full = reduce_to(tsr_matmul(tsr_transpose(a, -1, -2), g), s.rank_b, s.b);
        dx[1] = tsr_reshape(full, r->in_spec[1].rank, r->in_spec[1].shape);
        if (dx[1] == NULL)
            return false;
    }
    return true;
}

const op_row op_matmul = {
    .name = "matmul",
    .inputs_min = 2,
    .inputs_max = 2,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT,
    .same_dtype = true,
    .autocast = AUTOCAST_LOW,
    .infer = matmul_infer,
    .run = matmul_run,
    .backward = matmul_backward,
    .saves = SAVE_INPUT(0) | SAVE_INPUT(1),
};

tsr_tensor *tsr_matmul(tsr_tensor *a, tsr_tensor *b)
{
    return OP1(op_matmul, NULL, a, b);
}

/* ---- linear ------------------------------------------------------------------------------------------------------- */

static bool linear_infer(const op_call *call, op_output *out)
{
    const tensor *x = call->in[0], *w = call->in[1], *bias = call->in_count > 2 ? call->in[2] : NULL;
    if (w->rank != 2 || x->rank < 1) {
        fail(TSR_INVALID_ARGUMENT, "linear: weight is [out, in], x has at least one dimension: x is %s, weight is %s",
             shape_text(x->rank, x->shape), shape_text(w->rank, w->shape));
        return false;
    }
    if (x->shape[x->rank - 1] != w->shape[1]) {
        fail(TSR_INVALID_ARGUMENT, "linear: inner sizes differ: x is %s, weight is %s", shape_text(x->rank, x->shape),
             shape_text(w->rank, w->shape));
        return false;
    }
    if (bias != NULL && (bias->rank != 1 || bias->shape[0] != w->shape[0])) {
        fail(TSR_INVALID_ARGUMENT, "linear: bias is %s, but weight %s gives %lld columns",
             shape_text(bias->rank, bias->shape), shape_text(w->rank, w->shape), (long long)w->shape[0]);
        return false;
    }
    out->dtype = x->dtype;
    out->rank = x->rank;
    memcpy(out->shape, x->shape, sizeof out->shape);
    out->shape[x->rank - 1] = w->shape[0];
    return true;
}

static bool run_linear(const op_call *call)
{
    tensor *x = call->in[0], *w = call->in[1], *bias = call->in_count > 2 ? call->in[2] : NULL, *out = call->out[0];
    const int64_t n = w->shape[0], k = w->shape[1], m = out->numel / n;
    const bool widen = !product_takes(call->device, out->dtype, k);
    if (widen) {
        x = tsr_cast(x, TSR_F32);
        w = tsr_cast(w, TSR_F32);
        bias = bias == NULL ? NULL : tsr_cast(bias, TSR_F32);
        if (x == NULL || w == NULL || (bias == NULL) != (call->in_count < 3 || call->in[2] == NULL))
            return false;
    }
    x = ready(tsr_reshape(x, 2, (int64_t[]){m, k}), false, false);
    w = ready(tsr_transpose(w, 0, 1), false, false);
    tensor *target =
        widen ? tsr_empty(call->device, TSR_F32, 2, (int64_t[]){m, n}) : tsr_reshape(out, 2, (int64_t[]){m, n});
    if (bias != NULL)
        bias = contiguous(bias);
    if (x == NULL || w == NULL || target == NULL)
        return false;
    product p = {
        .dtype = target->dtype, .m = m, .n = n, .k = k, .a = matrix_of(x), .b = matrix_of(w), .c = matrix_of(target)};
    p.c.row = n;
    p.c.col = 1;
    if (bias != NULL) {
        p.bias_along = PRODUCT_BIAS_COLS;
        p.bias = tensor_binding(bias);
    }
    if (!product_run(call->device, &p))
        return false;
    return !widen || tsr_copy_into(out, tsr_reshape(target, out->rank, out->shape)) == TSR_OK;
}

static bool linear_run(const op_call *call)
{
    return OP_TEMPORARIES(run_linear(call));
}

/* dx = dy W, dW = dyᵀ x, db = the sum of dy's rows. */
static bool linear_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    const int64_t n = r->in_spec[1].shape[0], k = r->in_spec[1].shape[1];
    int64_t m = 1;
    for (int i = 0; i + 1 < r->in_spec[0].rank; i++)
        m *= r->in_spec[0].shape[i];
    tensor *g = tsr_reshape(dy[0], 2, (int64_t[]){m, n});
    if (r->needs[0] && (dx[0] = tsr_reshape(tsr_matmul(g, r->in[1]), r->in_spec[0].rank, r->in_spec[0].shape)) == NULL)
        return false;
    if (r->needs[1] &&
        (dx[1] = tsr_matmul(tsr_transpose(g, 0, 1), tsr_reshape(r->in[0], 2, (int64_t[]){m, k}))) == NULL)
        return false;
    if (r->needs[2] && (dx[2] = tsr_sum(g, (int[]){0}, 1, false)) == NULL)
        return false;
    return true;
}

const op_row op_linear = {
    .name = "linear",
    .inputs_min = 2,
    .inputs_max = 3,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT,
    .same_dtype = true,
    .autocast = AUTOCAST_LOW,
    .infer = linear_infer,
    .run = linear_run,
    .backward = linear_backward,
    .saves = SAVE_INPUT(0) | SAVE_INPUT(1),
};

tsr_tensor *tsr_linear(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias)
{
    return OP1(op_linear, NULL, x, weight, bias);
}
