/* scaled_dot_product_attention: a block of queries and a block of keys at a time, so that scores never stand in memory as a whole.
 *
 * Forward: the softmax's maximum and sum are brought along from one block of keys to the next (Milakov and Gimelshein 2018). Backward: the
 * probabilities are made again from the saved logarithm of the sum (Dao et al. 2022). Products go through src/mxu; 16-bit operands are widened
 * to f32 first. */
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "mxu/product.h"
#include "ops/op.h"
#include "tensor/device.h"
#include "tessera/ops.h"

enum { Q, K, V, MASK }; /* inputs */
enum { CAUSAL, SCALE }; /* attributes */
enum {
    BLOCK_QUERIES = 256,
    BLOCK_KEYS = 512,
    SCORES_CPU = 512 << 10, /* elements of all heads' scores at a time: what a processor's second cache holds ... */
    SCORES_GPU = 16 << 20   /* ... and what keeps a GPU busy */
};

/* q [outer, heads, rows, width], k [outer, heads / group, keys, width], v [.., keys, values]. */
typedef struct shape4 {
    int64_t outer, heads, group, rows, keys, width, values;
} shape4;

static int64_t lead_of(const op_output *x)
{
    int64_t n = 1;
    for (int i = 0; i + 3 < x->rank; i++)
        n *= x->shape[i];
    return n;
}

static shape4 shape_of(const op_output *q, const op_output *k, const op_output *v)
{
    const int r = q->rank;
    const int64_t heads = r > 2 ? q->shape[r - 3] : 1, shared = r > 2 ? k->shape[r - 3] : 1;
    return (shape4){lead_of(q),      heads,          heads == 0 ? 1 : heads / shared, q->shape[r - 2], k->shape[r - 2],
                    q->shape[r - 1], v->shape[r - 1]};
}

static tsr_dtype carried_of(tsr_dtype x)
{
    return x == TSR_F64 ? TSR_F64 : TSR_F32;
}

/* ---- checks ---- */

static bool check_shapes(const op_call *call)
{
    const tensor *q = call->in[Q], *k = call->in[K], *v = call->in[V];
    const int r = q->rank;
    bool fits = r >= 2 && k->rank == r && v->rank == r;
    for (int i = 0; fits && i + 3 < r; i++)
        fits = q->shape[i] == k->shape[i] && q->shape[i] == v->shape[i];
    if (fits && r > 2)
        fits = k->shape[r - 3] == v->shape[r - 3] &&
               (k->shape[r - 3] == 0 ? q->shape[r - 3] == 0 : q->shape[r - 3] % k->shape[r - 3] == 0);
    fits = fits && q->shape[r - 1] == k->shape[r - 1] && k->shape[r - 2] == v->shape[r - 2] && q->shape[r - 1] > 0 &&
           v->shape[r - 1] > 0;
    if (!fits)
        fail(TSR_INVALID_ARGUMENT,
             "scaled_dot_product_attention: q is %s, k is %s, v is %s; they must be [.., heads, queries, width], [.., "
             "heads or a "
             "divisor, keys, width] and [.., as k, keys, values], widths at least 1",
             tensor_text(q), tensor_text(k), tensor_text(v));
    return fits;
}

static bool check_mask(const op_call *call, const op_output *scores)
{
    const tensor *mask = call->in_count > MASK ? call->in[MASK] : NULL, *q = call->in[Q];
    int rank;
    int64_t shape[TSR_MAX_RANK];
    if (mask == NULL)
        return true;
    if ((mask->dtype == TSR_BOOL || mask->dtype == q->dtype || mask->dtype == carried_of(q->dtype)) &&
        shape_broadcast(mask->rank, mask->shape, scores->rank, scores->shape, &rank, shape) && rank == scores->rank &&
        memcmp(shape, scores->shape, sizeof *shape * (size_t)rank) == 0)
        return true;
    fail(TSR_INVALID_ARGUMENT,
         "scaled_dot_product_attention: the mask is %s; it must be bool or of the queries' dtype and broadcast to %s",
         tensor_text(mask), shape_text(scores->rank, scores->shape));
    return false;
}

/* Outputs: the result, and each query's logarithm of the sum of exp(score), for the derivative. */
static bool attention_infer(const op_call *call, op_output *out)
{
    if (!check_shapes(call))
        return false;
    const tensor *q = call->in[Q], *k = call->in[K], *v = call->in[V];
    infer_same(call, out);
    out[0].shape[q->rank - 1] = k->shape[q->rank - 2];
    if (!check_mask(call, &out[0]))
        return false;
    out[0].shape[q->rank - 1] = v->shape[q->rank - 1];
    out[1] = (op_output){.dtype = carried_of(q->dtype), .rank = q->rank - 1};
    memcpy(out[1].shape, q->shape, sizeof *q->shape * (size_t)(q->rank - 1));
    if (!isfinite(call->attr[SCALE].f) || q->numel > INT32_MAX || k->numel > INT32_MAX || v->numel > INT32_MAX ||
        k->shape[k->rank - 2] > INT32_MAX) {
        fail(TSR_UNSUPPORTED,
             "scaled_dot_product_attention: scale %g, q %s, k %s; the scale is finite and no operand has 2^31 elements",
             call->attr[SCALE].f, tensor_text(q), tensor_text(k));
        return false;
    }
    return true;
}

/* ---- what both directions share ---- */

typedef struct attention {
    tsr_device *device;
    shape4 s;
    tsr_dtype carried;
    bool causal;
    double scale;
    tensor *q, *k, *v; /* contiguous, of the carried dtype */
    tensor *mask;      /* [outer, heads, rows, keys] with any strides, or NULL */
    tsr_dtype mask_dtype;
    int64_t at_a_time; /* heads of k */
    int64_t block_rows, block_keys;
} attention;

static tensor *widened(tensor *t, tsr_dtype dtype)
{
    return contiguous(tsr_cast(t, dtype));
}

static bool prepare_mask(attention *a, tensor *mask, const op_output *q)
{
    int64_t full[TSR_MAX_RANK];
    if (mask == NULL)
        return true;
    if (mask->dtype != TSR_BOOL)
        mask = tsr_cast(mask, a->carried);
    memcpy(full, q->shape, sizeof full);
    full[q->rank - 1] = a->s.keys;
    a->mask =
        tsr_reshape(tsr_expand(mask, q->rank, full), 4, (int64_t[]){a->s.outer, a->s.heads, a->s.rows, a->s.keys});
    if (a->mask == NULL)
        return false;
    a->mask_dtype = a->mask->dtype;
    for (int i = 0; i < 4; i++)
        if (a->mask->strides[i] > INT32_MAX) {
            fail(TSR_UNSUPPORTED, "scaled_dot_product_attention: the mask %s has a stride beyond 31 bits",
                 tensor_text(mask));
            return false;
        }
    return true;
}

static bool prepare(attention *a, tsr_device *device, const attr_value *attr, tensor *const *in, int in_count)
{
    const op_output q = op_spec_of(in[Q]), k = op_spec_of(in[K]), v = op_spec_of(in[V]);
    const shape4 s = shape_of(&q, &k, &v);
    *a = (attention){.device = device,
                     .s = s,
                     .carried = carried_of(q.dtype),
                     .causal = attr[CAUSAL].i != 0,
                     .scale = attr[SCALE].f != 0 ? attr[SCALE].f : 1 / sqrt((double)s.width),
                     .block_rows = min_i64(s.rows, BLOCK_QUERIES),
                     .block_keys = min_i64(s.keys, BLOCK_KEYS)};
    a->mask_dtype = a->carried;
    a->q = widened(in[Q], a->carried);
    a->k = widened(in[K], a->carried);
    a->v = widened(in[V], a->carried);
    const int64_t room = device_variant(device) == HAL_CLASS_GPU ? SCORES_GPU : SCORES_CPU;
    const int64_t each = max_i64(1, a->s.group * a->block_rows * a->block_keys);
    a->at_a_time = max_i64(1, min_i64(s.outer * s.heads / s.group, room / each));
    return a->q != NULL && a->k != NULL && a->v != NULL && prepare_mask(a, in_count > MASK ? in[MASK] : NULL, &q);
}

/* A block: `heads` heads of k from `head` on, queries and keys likewise. */
typedef struct block {
    int64_t head, heads, row, rows, key, keys;
} block;

/* How many keys the last of the block's queries sees. */
static int64_t keys_seen(const attention *a, const block *b)
{
    return a->causal ? min_i64(a->s.keys, b->row + b->rows) : a->s.keys;
}

static hal_binding at_element(const tensor *t, int64_t element)
{
    hal_binding b = tensor_binding(t);
    const size_t size = tsr_dtype_size(t->dtype);
    b.offset += (size_t)element * size;
    b.length -= (size_t)element * size;
    return b;
}

/* Matrices over a block: rows of q, dq, out [heads of q, rows, cols]; of k, v, dk, dv [heads of k, keys, cols]; and scores, which are
 * made for one block. Batch (i, j) is head i of k and head j of those of q that share it. */
static product_matrix of_queries(const attention *a, const block *b, const tensor *t, int64_t cols)
{
    return (product_matrix){.at = at_element(t, (b->head * a->s.group * a->s.rows + b->row) * cols),
                            .row = cols,
                            .col = 1,
                            .outer = a->s.group * a->s.rows * cols,
                            .inner = a->s.rows * cols,
                            .reduce = a->s.rows * cols};
}

static product_matrix of_keys(const attention *a, const block *b, const tensor *t, int64_t cols)
{
    return (product_matrix){
        .at = at_element(t, (b->head * a->s.keys + b->key) * cols), .row = cols, .col = 1, .outer = a->s.keys * cols};
}

static product_matrix of_scores(const attention *a, const block *b, const tensor *t, int64_t cols)
{
    return (product_matrix){.at = tensor_binding(t),
                            .row = cols,
                            .col = 1,
                            .outer = a->s.group * b->rows * cols,
                            .inner = b->rows * cols,
                            .reduce = b->rows * cols};
}

static product_matrix transposed(product_matrix m)
{
    const int64_t row = m.row;
    m.row = m.col;
    m.col = row;
    return m;
}

/* c [m, n] of each head of q (+)= x [m, k] y [k, n] */
static bool multiply(const attention *a, const block *b, int64_t m, int64_t n, int64_t k, product_matrix x,
                     product_matrix y, product_matrix c, bool accumulate)
{
    x.reduce = y.reduce = c.reduce = 0;
    const product p = {.dtype = a->carried,
                       .m = m,
                       .n = n,
                       .k = k,
                       .a = x,
                       .b = y,
                       .c = c,
                       .outer = b->heads,
                       .inner = a->s.group,
                       .reduce = 1,
                       .accumulate = accumulate};
    return product_run(a->device, &p);
}

/* c [m, n] of each head of k += the sum over the heads of q that share it of x [m, k] y [k, n] */
static bool multiply_shared(const attention *a, const block *b, int64_t m, int64_t n, int64_t k, product_matrix x,
                            product_matrix y, product_matrix c)
{
    x.inner = y.inner = c.inner = c.reduce = 0;
    const product p = {.dtype = a->carried,
                       .m = m,
                       .n = n,
                       .k = k,
                       .a = x,
                       .b = y,
                       .c = c,
                       .outer = b->heads,
                       .inner = 1,
                       .reduce = a->s.group,
                       .accumulate = true};
    return product_run(a->device, &p);
}

/* The PARAMS that the kernels of kernels/attention.k begin with. */
typedef struct score_params {
    uint32_t rows, cols, heads, first_head, first_query, first_key, causal, masked, mask_outer, mask_head, mask_row,
        mask_col;
    float scale, scale_low;
    uint32_t more[2];
} score_params;

static score_params params_of(const attention *a, const block *b)
{
    score_params p = {.rows = (uint32_t)b->rows,
                      .cols = (uint32_t)b->keys,
                      .heads = (uint32_t)a->s.heads,
                      .first_head = (uint32_t)(b->head * a->s.group),
                      .first_query = (uint32_t)b->row,
                      .first_key = (uint32_t)b->key,
                      .causal = a->causal,
                      .masked = a->mask != NULL,
                      .scale = (float)a->scale};
    p.scale_low = (float)(a->scale - (double)p.scale);
    if (a->mask != NULL) {
        p.mask_outer = (uint32_t)a->mask->strides[0];
        p.mask_head = (uint32_t)a->mask->strides[1];
        p.mask_row = (uint32_t)a->mask->strides[2];
        p.mask_col = (uint32_t)a->mask->strides[3];
    }
    return p;
}

static grid rows_grid(const attention *a, const block *b)
{
    return (grid){(uint32_t)(b->heads * a->s.group * b->rows), 1, 1};
}

/* ---- forward ---- */

typedef struct forward_state {
    tensor *scores, *top, *total, *result; /* of a block of queries */
    tensor *y, *lse;
} forward_state;

static bool forward_keys(const attention *a, const block *b, const forward_state *f)
{
    score_params p = params_of(a, b);
    p.more[0] = (uint32_t)a->s.values;
    p.more[1] = b->key == 0;
    const hal_binding bindings[] = {tensor_binding(f->scores),
                                    tensor_binding(a->mask != NULL ? a->mask : a->q), /* not read without a mask */
                                    tensor_binding(f->top), tensor_binding(f->total), tensor_binding(f->result)};
    return multiply(a, b, b->rows, b->keys, a->s.width, of_queries(a, b, a->q, a->s.width),
                    transposed(of_keys(a, b, a->k, a->s.width)), of_scores(a, b, f->scores, b->keys), false) &&
           kernel_launch(a->device, key_of2("attention", a->carried, a->mask_dtype).text, rows_grid(a, b), bindings, 5,
                         &p, sizeof p) &&
           multiply(a, b, b->rows, a->s.values, b->keys, of_scores(a, b, f->scores, b->keys),
                    of_keys(a, b, a->v, a->s.values), of_scores(a, b, f->result, a->s.values), true);
}

static bool forward_queries(const attention *a, block b, const forward_state *f)
{
    const int64_t seen = keys_seen(a, &b);
    for (b.key = 0; b.key < seen; b.key += b.keys) {
        b.keys = min_i64(a->block_keys, a->s.keys - b.key);
        if (!forward_keys(a, &b, f))
            return false;
    }
    const struct {
        uint32_t rows, width, first_head, first_query, all_rows;
    } p = {(uint32_t)b.rows, (uint32_t)a->s.values, (uint32_t)(b.head * a->s.group), (uint32_t)b.row,
           (uint32_t)a->s.rows};
    return LAUNCH(a->device, key_of("attention_finish", a->carried), rows_grid(a, &b), &p, tensor_binding(f->result),
                  tensor_binding(f->top), tensor_binding(f->total), tensor_binding(f->y), tensor_binding(f->lse));
}

static tensor *buffer(const attention *a, int64_t rows, int64_t cols)
{
    return tsr_empty(a->device, a->carried, 2, (int64_t[]){rows, cols});
}

static bool run(const op_call *call)
{
    attention a;
    tensor *out = call->out[0];
    if (call->in[K]->shape[call->in[K]->rank - 2] == 0) /* no key: no value, and a sum of nothing */
        return tsr_fill(out, 0) == TSR_OK && tsr_fill(call->out[1], -(double)INFINITY) == TSR_OK;
    if (!prepare(&a, call->device, call->attr, call->in, call->in_count))
        return false;
    const int64_t all = a.s.outer * a.s.heads / a.s.group, rows = a.at_a_time * a.s.group * a.block_rows;
    forward_state f = {buffer(&a, rows, a.block_keys),
                       buffer(&a, rows, 1),
                       buffer(&a, rows, 1),
                       buffer(&a, rows, a.s.values),
                       out->dtype == a.carried ? out : tsr_empty(call->device, a.carried, out->rank, out->shape),
                       call->out[1]};
    if (f.scores == NULL || f.top == NULL || f.total == NULL || f.result == NULL || f.y == NULL)
        return false;
    block b = {0};
    for (b.head = 0; b.head < all; b.head += b.heads) {
        b.heads = min_i64(a.at_a_time, all - b.head);
        for (b.row = 0; b.row < a.s.rows; b.row += b.rows) {
            b.rows = min_i64(a.block_rows, a.s.rows - b.row);
            if (!forward_queries(&a, b, &f))
                return false;
        }
    }
    return f.y == out || tsr_copy_into(out, f.y) == TSR_OK;
}

static bool attention_run(const op_call *call)
{
    return OP_TEMPORARIES(run(call));
}

/* ---- backward ---- */

typedef struct backward_state {
    tensor *scores, *slopes; /* of a block */
    tensor *g, *delta, *lse; /* dout; sum of dout out, and the saved logarithm, for each query */
    tensor *dq, *dk, *dv;    /* of the carried dtype; dq and dk without the scale */
    tensor *mask_slope;      /* [outer, heads, rows, keys], sizes of 1 where the mask is broadcast; NULL: not wanted */
} backward_state;

/* The block's part of the mask's derivative, summed over what was broadcast; all heads are in the block. */
static bool add_mask_slope(const attention *a, const block *b, const backward_state *f)
{
    tensor *slope = f->mask_slope;
    int64_t ends[4] = {INT64_MAX, INT64_MAX, b->row + b->rows, b->key + b->keys}, starts[4] = {0, 0, b->row, b->key};
    if (!op_temporaries_begin())
        return false;
    const int64_t shape[] = {a->s.outer, a->s.heads, b->rows, b->keys},
                  strides[] = {a->s.heads * b->rows * b->keys, b->rows * b->keys, b->keys, 1};
    tensor *part = tensor_to_scope(tensor_view(f->slopes, 4, shape, strides, f->slopes->offset));
    tensor *target = slope;
    for (int i = 2; i < 4; i++)
        if (slope->shape[i] > 1)
            target = tsr_slice(target, i, starts[i], ends[i], 1);
    part = target == NULL ? NULL : reduce_to(part, 4, target->shape);
    return op_temporaries_end(part != NULL && tsr_copy_into(target, tsr_add(target, part)) == TSR_OK);
}

static bool backward_block(const attention *a, const block *b, const backward_state *f)
{
    const shape4 *s = &a->s;
    score_params p = params_of(a, b);
    p.more[0] = (uint32_t)s->rows;
    const hal_binding bindings[] = {tensor_binding(f->scores), tensor_binding(a->mask != NULL ? a->mask : a->q),
                                    tensor_binding(f->lse), tensor_binding(f->delta), tensor_binding(f->slopes)};
    const product_matrix q = of_queries(a, b, a->q, s->width), k = of_keys(a, b, a->k, s->width),
                         v = of_keys(a, b, a->v, s->values), g = of_queries(a, b, f->g, s->values),
                         scores = of_scores(a, b, f->scores, b->keys), slopes = of_scores(a, b, f->slopes, b->keys);
    return multiply(a, b, b->rows, b->keys, s->width, q, transposed(k), scores, false) &&
           multiply(a, b, b->rows, b->keys, s->values, g, transposed(v), slopes, false) &&
           kernel_launch(a->device, key_of2("attention_grad", a->carried, a->mask_dtype).text, rows_grid(a, b),
                         bindings, 5, &p, sizeof p - sizeof p.more[0]) &&
           multiply_shared(a, b, b->keys, s->values, b->rows, transposed(scores), g, of_keys(a, b, f->dv, s->values)) &&
           multiply(a, b, b->rows, s->width, b->keys, slopes, k, of_queries(a, b, f->dq, s->width), true) &&
           multiply_shared(a, b, b->keys, s->width, b->rows, transposed(slopes), q, of_keys(a, b, f->dk, s->width)) &&
           (f->mask_slope == NULL || add_mask_slope(a, b, f));
}

static tensor *zeros_like(const attention *a, const tensor *t)
{
    return tsr_zeros(a->device, a->carried, t->rank, t->shape);
}

static bool prepare_mask_slope(const op_record *r, attention *a, backward_state *f)
{
    const op_output *mask = &r->in_spec[MASK];
    int64_t shape[4] = {1, 1, 1, 1};
    if (r->in_spec[Q].rank > 4 || mask->rank > 4) {
        fail(TSR_UNSUPPORTED,
             "scaled_dot_product_attention: a mask's derivative needs operands of at most four dimensions");
        return false;
    }
    memcpy(shape + 4 - mask->rank, mask->shape, sizeof *shape * (size_t)mask->rank);
    a->at_a_time = a->s.outer * a->s.heads / a->s.group;
    f->mask_slope = tsr_zeros(r->device, a->carried, 4, shape);
    return f->mask_slope != NULL;
}

/* A derivative in the shape and dtype of its operand. */
static bool deliver(const op_record *r, int i, tensor *slope, double scale, tensor **dx)
{
    if (r->needs[i])
        dx[i] = tsr_cast(
            tsr_reshape(scale == 1 ? slope : tsr_affine(slope, scale, 0), r->in_spec[i].rank, r->in_spec[i].shape),
            r->in_spec[i].dtype);
    return !r->needs[i] || dx[i] != NULL;
}

static bool attention_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    attention a;
    backward_state f = {.lse = r->out[1]};
    if (!prepare(&a, r->device, r->attr, r->in, r->in_count) || (r->needs[MASK] && !prepare_mask_slope(r, &a, &f)))
        return false;
    f.g = widened(dy[0], a.carried);
    f.dq = zeros_like(&a, a.q);
    f.dk = zeros_like(&a, a.k);
    f.dv = zeros_like(&a, a.v);
    f.delta = contiguous(tsr_sum(tsr_mul(f.g, tsr_cast(r->out[0], a.carried)), (int[]){-1}, 1, false));
    const int64_t all = a.s.outer * a.s.heads / a.s.group, rows = a.at_a_time * a.s.group * a.block_rows;
    f.scores = buffer(&a, rows, a.block_keys);
    f.slopes = buffer(&a, rows, a.block_keys);
    if (f.g == NULL || f.dq == NULL || f.dk == NULL || f.dv == NULL || f.delta == NULL || f.scores == NULL ||
        f.slopes == NULL)
        return false;
    block b = {0};
    for (b.head = 0; b.head < all && a.s.keys > 0; b.head += b.heads) {
        b.heads = min_i64(a.at_a_time, all - b.head);
        for (b.row = 0; b.row < a.s.rows; b.row += b.rows) {
            b.rows = min_i64(a.block_rows, a.s.rows - b.row);
            for (b.key = 0; b.key < keys_seen(&a, &b); b.key += b.keys) {
                b.keys = min_i64(a.block_keys, a.s.keys - b.key);
                if (!backward_block(&a, &b, &f))
                    return false;
            }
        }
    }
    return deliver(r, Q, f.dq, a.scale, dx) && deliver(r, K, f.dk, a.scale, dx) && deliver(r, V, f.dv, 1, dx) &&
           (f.mask_slope == NULL || deliver(r, MASK, f.mask_slope, 1, dx));
}

const op_row op_scaled_dot_product_attention = {
    .name = "scaled_dot_product_attention",
    .inputs_min = 3,
    .inputs_max = 4,
    .outputs = 2,
    .dtypes = DTYPES_FLOAT,
    .any_dtype = 1u << MASK,
    .same_dtype = true,
    .attrs = {{"causal", ATTR_BOOL, false, {0}}, {"scale", ATTR_FLOAT, false, {0}}},
    .autocast = AUTOCAST_LOW,
    .infer = attention_infer,
    .run = attention_run,
    .backward = attention_backward,
    .saves = SAVE_INPUT(Q) | SAVE_INPUT(K) | SAVE_INPUT(V) | SAVE_INPUT(MASK) | SAVE_OUTPUT(0) | SAVE_OUTPUT(1),
};

tsr_tensor *tsr_scaled_dot_product_attention(tsr_tensor *q, tsr_tensor *k, tsr_tensor *v, tsr_tensor *mask, bool causal,
                                             double scale)
{
    return OP1(op_scaled_dot_product_attention, ATTRS(A_INT(causal), A_FLOAT(scale)), q, k, v, mask);
}
