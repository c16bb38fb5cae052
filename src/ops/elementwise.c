/* The elementwise operators: rows made from the table of kernels/elementwise.def, one way to launch them all, one backward. */
#include "ops/elementwise.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/fastdiv.h"
#include "base/thread.h"
#include "ops/elementwise_table.h"
#include "ops/loss.h"
#include "tensor/device.h"
#include "tessera/ops.h"

enum {
    MAX_OPERATORS = 128,
    SPAN = 4096,    /* elements of a work-group */
    SHORT_ROW = 16, /* rows shorter than this, if there are many, are first made long by copying */
    MANY_ROWS = 4096,
    PARAM_WORDS = 28
};

/* ---- layout: how a work-group finds its elements in operands of any strides ---- */

typedef struct layout {
    int rank;
    int64_t shape[TSR_MAX_RANK];
    int64_t strides[4][TSR_MAX_RANK];
    int64_t rows; /* of shape[rank - 1] elements */
} layout;

static void broadcast_strides(const tensor *t, int rank, int64_t *strides, const int64_t *shape)
{
    const int extra = rank - t->rank;
    for (int i = 0; i < rank; i++) {
        const bool own = i >= extra && t->shape[i - extra] == shape[i] && shape[i] != 1;
        strides[i] = own ? t->strides[i - extra] : 0;
    }
}

static bool layout_make(layout *l, tensor *const *operands, int count, int rank, const int64_t *shape, int outer_dims)
{
    l->rank = rank;
    memset(l->shape, 0, sizeof l->shape);
    memcpy(l->shape, shape, sizeof *shape * (size_t)rank);
    for (int k = 0; k < count; k++)
        broadcast_strides(operands[k], rank, l->strides[k], shape);
    l->rank = dims_collapse(rank, l->shape, count, l->strides);
    l->rows = 1;
    for (int i = 0; i + 1 < l->rank; i++)
        l->rows *= l->shape[i];
    bool fits = l->rank - 1 <= outer_dims && l->rows <= INT32_MAX / ((l->shape[l->rank - 1] + SPAN - 1) / SPAN) &&
                (l->shape[l->rank - 1] >= SHORT_ROW || l->rows <= MANY_ROWS);
    for (int i = 0; i < l->rank; i++) {
        fits = fits && l->shape[i] <= INT32_MAX;
        for (int k = 0; k < count; k++)
            fits = fits && l->strides[k][i] <= UINT32_MAX;
    }
    return fits;
}

/* The kernels' PARAMS: row geometry, scalars, steps, then for each outer dimension its size and the operands' strides. */
typedef struct params {
    uint32_t word[PARAM_WORDS];
    uint32_t count;
} params;

static void put(params *p, uint32_t word)
{
    p->word[p->count++] = word;
}

static void put_scalar(params *p, double v)
{
    const float high = (float)v, low = isfinite(high) ? (float)(v - (double)high) : 0.0f;
    uint32_t bits;
    memcpy(&bits, &high, 4);
    put(p, bits);
    memcpy(&bits, &low, 4);
    put(p, bits);
}

static grid put_layout(params *p, const layout *l, int operands, int outer_dims, const double *scalars)
{
    const int64_t cols = l->shape[l->rank - 1], spans = (cols + SPAN - 1) / SPAN;
    const fast_div by_spans = fast_div_make((uint32_t)spans);
    put(p, (uint32_t)cols);
    put(p, SPAN);
    put(p, (uint32_t)spans);
    put(p, by_spans.mul);
    put(p, by_spans.shift);
    for (int i = 0; scalars != NULL && i < 2; i++)
        put_scalar(p, scalars[i]);
    for (int k = 0; k < operands; k++)
        put(p, (uint32_t)l->strides[k][l->rank - 1]);
    for (int d = 0; d < outer_dims; d++) {
        const int axis = l->rank - 2 - d;
        if (d < outer_dims - 1) {
            const uint32_t n = axis >= 0 ? (uint32_t)l->shape[axis] : 1;
            const fast_div f = fast_div_make(n);
            put(p, n);
            put(p, f.mul);
            put(p, f.shift);
        }
        for (int k = 0; k < operands; k++)
            put(p, axis >= 0 ? (uint32_t)l->strides[k][axis] : 0);
    }
    return (grid){(uint32_t)(l->rows * spans), 1, 1};
}

static int outer_dims_of(int operands)
{
    return operands < 3 ? 4 : 3;
}

/* A layout that a kernel can walk: operands that no layout fits are copied to the full shape. The copies live in the current scope. */
static bool plan(layout *l, tensor **operands, int count, int rank, const int64_t *shape)
{
    if (layout_make(l, operands, count, rank, shape, outer_dims_of(count)))
        return true;
    for (int k = 0; k < count; k++)
        if ((operands[k] = contiguous(tsr_expand(operands[k], rank, shape))) == NULL)
            return false;
    if (layout_make(l, operands, count, rank, shape, outer_dims_of(count)))
        return true;
    fail(TSR_UNSUPPORTED, "shape %s has more elements than a kernel can count", shape_text(rank, shape));
    return false;
}

/* Operands of any strides, and after them (or, of dense_first, the first before them) contiguous ones of out's shape. */
static bool launch_strided(tsr_device *device, kernel_key key, tensor *const *given, int count, tensor *const *dense,
                           int dense_count, tensor *out, const double *scalars, bool dense_first)
{
    tensor *operands[4];
    layout l;
    params p = {.count = 0};
    hal_binding b[HAL_MAX_BINDINGS];
    uint32_t n = 0;
    memcpy(operands, given, sizeof *operands * (size_t)count);
    if (!plan(&l, operands, count, out->rank, out->shape))
        return false;
    const grid g = put_layout(&p, &l, count, outer_dims_of(count), scalars);
    if (dense_first && dense_count > 0)
        b[n++] = tensor_binding(dense[0]);
    for (int k = 0; k < count; k++)
        b[n++] = tensor_binding(operands[k]);
    for (int k = dense_first ? 1 : 0; k < dense_count; k++)
        b[n++] = tensor_binding(dense[k]);
    b[n++] = tensor_binding(out);
    return kernel_launch(device, key.text, g, b, n, p.word, p.count * 4);
}

bool elementwise_launch(tsr_device *device, kernel_key key, tensor *const *operands, int count, tensor *out,
                        const double *scalars)
{
    return launch_strided(device, key, operands, count, NULL, 0, out, scalars, false);
}

/* ---- rows ---- */

static const elementwise_row *table_of(const op_row *row)
{
    return row->data;
}

bool elementwise_infer(const op_call *call, op_output *out)
{
    const tensor *first = call->in[0];
    out->dtype = table_of(call->row)->compare ? TSR_BOOL : first->dtype;
    out->rank = first->rank;
    memcpy(out->shape, first->shape, sizeof out->shape);
    for (int i = 1; i < call->in_count; i++) {
        int64_t shape[TSR_MAX_RANK];
        int rank;
        if (!shape_broadcast(out->rank, out->shape, call->in[i]->rank, call->in[i]->shape, &rank, shape)) {
            fail(TSR_INVALID_ARGUMENT, "%s: shapes do not broadcast: %s and %s", call->row->name,
                 shape_text(out->rank, out->shape), shape_text(call->in[i]->rank, call->in[i]->shape));
            return false;
        }
        out->rank = rank;
        memcpy(out->shape, shape, sizeof shape);
    }
    return true;
}

static kernel_key forward_key(const elementwise_row *e, tsr_dtype dtype)
{
    static const char *const floats[] = {"", "unary", "binary", "ternary"};
    static const char *const integers[] = {"", "unary_int", "binary_int", "ternary_int"};
    return key_op(e->compare              ? (e->arity == 1 ? "test" : "compare")
                  : e->bits               ? "bits"
                  : dtype_is_float(dtype) ? floats[e->arity]
                                          : integers[e->arity],
                  dtype, e->name);
}

/* An infinite bound has no integer; the largest that a float holds does the same. */
static double scalar_for(tsr_dtype dtype, double v)
{
    const double limit = dtype == TSR_I64 ? 0x1p62 : 0x1p31 - 128;
    return dtype_is_float(dtype) || fabs(v) <= limit ? v : v > 0 ? limit : -limit;
}

bool elementwise_run(const op_call *call)
{
    const elementwise_row *e = table_of(call->row);
    const tsr_dtype dtype = call->in[0]->dtype;
    const double scalars[2] = {scalar_for(dtype, call->attr[0].f), scalar_for(dtype, call->attr[1].f)};
    return OP_TEMPORARIES(
        elementwise_launch(call->device, forward_key(e, dtype), call->in, e->arity, call->out[0], scalars));
}

static uint32_t elementwise_saves(const op_call *call)
{
    const elementwise_row *e = table_of(call->row);
    uint32_t saves = 0;
    for (int k = 0; k < e->arity; k++) {
        if (!e->gradient[k].exists)
            continue;
        for (int j = 0; j < e->arity; j++)
            saves |= e->gradient[k].needs_operand[j] ? SAVE_INPUT(j) : 0;
        saves |= e->gradient[k].needs_result ? SAVE_OUTPUT(0) : 0;
    }
    return saves;
}

static tensor *unary_gradient(const op_record *r, const elementwise_row *e, tensor *dy, const double *scalars)
{
    tensor *x = e->gradient[0].needs_operand[0] ? contiguous(r->in[0]) : dy;
    tensor *y = e->gradient[0].needs_result ? contiguous(r->out[0]) : dy;
    tensor *dx = tsr_empty(r->device, dy->dtype, dy->rank, dy->shape);
    if (x == NULL || y == NULL || dx == NULL)
        return NULL;
    params p = {.count = 0};
    const int64_t groups = (dx->numel + SPAN - 1) / SPAN;
    if (dx->numel > UINT32_MAX) {
        fail(TSR_UNSUPPORTED, "%s: more than 2^32 - 1 elements", r->name);
        return NULL;
    }
    put(&p, (uint32_t)dx->numel);
    put(&p, SPAN);
    put_scalar(&p, scalars[0]);
    put_scalar(&p, scalars[1]);
    const hal_binding b[] = {tensor_binding(dy), tensor_binding(x), tensor_binding(y), tensor_binding(dx)};
    return kernel_launch(r->device, key_op("unary_grad", dy->dtype, e->name).text, (grid){(uint32_t)groups, 1, 1}, b, 4,
                         p.word, p.count * 4)
               ? dx
               : NULL;
}

static tensor *gradient(const op_record *r, const elementwise_row *e, int k, tensor *dy, const double *scalars)
{
    if (e->arity == 1)
        return unary_gradient(r, e, dy, scalars);
    char name[32];
    snprintf(name, sizeof name, "%s_grad_%d", e->arity == 2 ? "binary" : "ternary", k);
    tensor *operands[3], *dense[2] = {dy, e->gradient[k].needs_result ? contiguous(r->out[0]) : dy};
    for (int j = 0; j < e->arity; j++)
        operands[j] = e->gradient[k].needs_operand[j] ? r->in[j] : dy;
    tensor *dx = tsr_empty(r->device, dy->dtype, dy->rank, dy->shape);
    if (dense[1] == NULL || dx == NULL ||
        !launch_strided(r->device, key_op(name, dy->dtype, e->name), operands, e->arity, dense, 2, dx, scalars, true))
        return NULL;
    return dx;
}

/* add's derivatives, and sub's first, are dy itself: no pass over memory. */
bool elementwise_backward(const op_record *r, tensor *const *dy_, tensor **dx)
{
    const elementwise_row *e = table_of(r->row);
    const double scalars[2] = {r->attr[0].f, r->attr[1].f};
    tensor *dy = contiguous(dy_[0]);
    if (dy == NULL)
        return false;
    for (int k = 0; k < e->arity; k++) {
        const op_output *x = &r->in_spec[k];
        if (!r->needs[k])
            continue;
        if (!e->gradient[k].exists) {
            dx[k] = tsr_zeros(r->device, x->dtype, x->rank, x->shape);
        } else if (strcmp(e->name, "add") == 0 || (strcmp(e->name, "sub") == 0 && k == 0)) {
            dx[k] = reduce_to(dy, x->rank, x->shape);
        } else if (dy->numel == 0) {
            dx[k] = tsr_zeros(r->device, x->dtype, x->rank, x->shape);
        } else {
            dx[k] = reduce_to(gradient(r, e, k, dy, scalars), x->rank, x->shape);
        }
        if (dx[k] == NULL)
            return false;
    }
    return true;
}

/* ---- the table as rows ---- */

static op_row made[MAX_OPERATORS];
static once made_once = ONCE_INIT;

/* Which of s0 and s1 an operator takes, by the names that people know. */
static const struct {
    const char *name;
    const char *attrs[2];
    double initial[2];
} scalar_attrs[] = {
    {"leaky_relu", {"slope", NULL}, {0.01, 0}},
    {"elu", {"alpha", NULL}, {1.0, 0}},
    {"clamp", {"low", "high"}, {-(double)INFINITY, (double)INFINITY}},
    {"affine", {"scale", "shift"}, {1.0, 0.0}},
    {"addcmul", {"value", NULL}, {1.0, 0}},
    {"addcdiv", {"value", NULL}, {1.0, 0}},
    {"celu", {"alpha", NULL}, {1.0, 0}},
    {"smooth_l1", {"beta", NULL}, {1.0, 0}},
    {"huber", {"delta", NULL}, {1.0, 0}},
    {"hardtanh", {"min_val", "max_val"}, {-1.0, 1.0}},
};

/* What overflows f16 or loses too much of it, as torch.autocast has it. */
static autocast_class autocast_of(const elementwise_row *e)
{
    static const char *const names[] = {"exp",   "exp2",       "expm1",      "log",      "log2",   "log10",
                                        "log1p", "pow",        "asin",       "acos",     "sinh",   "cosh",
                                        "tan",   "rsqrt",      "reciprocal", "square",   "erf",    "erfc",
                                        "hypot", "logsigmoid", "atan2",      "softplus", "addcdiv"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], e->name) == 0)
            return AUTOCAST_F32;
    return e->loss ? AUTOCAST_F32 : AUTOCAST_WIDEST;
}

static void make_row(op_row *row, const elementwise_row *e)
{
    const bool differentiable = !e->compare && !e->bits;
    const uint32_t bytes = DTYPE_BIT(TSR_U8) | (strstr(e->name, "shift") == NULL ? DTYPE_BIT(TSR_BOOL) : 0);
    *row = (op_row){
        .name = e->name,
        .inputs_min = e->arity,
        .inputs_max = e->arity,
        .outputs = 1,
        .dtypes = (e->bits ? 0 : DTYPES_FLOAT) | (e->integer ? DTYPES_INT : 0) | (differentiable ? 0 : bytes),
        .same_dtype = true,
        .pointwise = !e->compare && !e->loss,
        .autocast = autocast_of(e),
        .data = e,
        .infer = e->loss ? loss_infer : elementwise_infer,
        .run = e->loss ? loss_run : elementwise_run,
        .backward = e->loss          ? loss_backward
                    : differentiable ? elementwise_backward
                                     : NULL,
        .saves_of = elementwise_saves,
    };
    for (size_t i = 0; i < sizeof scalar_attrs / sizeof *scalar_attrs; i++)
        for (int k = 0; k < 2 && strcmp(scalar_attrs[i].name, e->name) == 0; k++)
            if (scalar_attrs[i].attrs[k] != NULL)
                row->attrs[k] =
                    (attr_schema){scalar_attrs[i].attrs[k], ATTR_FLOAT, false, {.f = scalar_attrs[i].initial[k]}};
}

/* Behind the scalars; kl_div's, of which the kernel makes a number, is a truth. */
static void add_loss_attrs(op_row *row)
{
    int n = row->attrs[0].name != NULL;
    if (strcmp(row->name, "kl_div") == 0)
        row->attrs[n++] = (attr_schema){"log_target", ATTR_BOOL, false, {0}};
    row->attrs[n] = (attr_schema)REDUCTION_ATTR;
}

static void make_rows(void)
{
    for (size_t i = 0; i < elementwise_row_count && i < MAX_OPERATORS; i++)
        make_row(&made[i], &elementwise_rows[i]);
    for (size_t i = 0; i < elementwise_row_count && i < MAX_OPERATORS; i++)
        if (elementwise_rows[i].loss)
            add_loss_attrs(&made[i]);
}

size_t elementwise_count(void)
{
    return elementwise_row_count < MAX_OPERATORS ? elementwise_row_count : MAX_OPERATORS;
}

const op_row *elementwise_at(size_t i)
{
    once_run(&made_once, make_rows);
    return &made[i];
}
