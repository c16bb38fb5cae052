/* layer_norm, rms_norm, group_norm, instance_norm: one family of row kernels, kernels/row_norm.k. */
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "ops/op.h"
#include "tensor/device.h"
#include "tessera/ops.h"

enum { X, WEIGHT, BIAS };

/* How x lies as rows, and which of their elements share a weight. */
typedef struct norm_rows {
    int64_t rows, cols;
    int64_t groups, span; /* neighbours that share a weight */
    int64_t weights;
    bool centred;
    double epsilon;
    tsr_dtype carried;
} norm_rows;

static tsr_dtype carried_of(tsr_dtype x)
{
    return x == TSR_F64 ? TSR_F64 : TSR_F32;
}

static int64_t count_from(const op_output *x, int first)
{
    int64_t n = 1;
    for (int i = first; i < x->rank; i++)
        n *= x->shape[i];
    return n;
}

/* For layer_norm and rms_norm: attributes normalized_shape, epsilon. */
static norm_rows trailing_rows(const op_row *row, const op_output *x, const attr_value *attr)
{
    norm_rows s = {.cols = count_from(x, x->rank - attr[0].count),
                   .groups = 1,
                   .span = 1,
                   .centred = strcmp(row->name, "layer_norm") == 0,
                   .epsilon = attr[1].f,
                   .carried = carried_of(x->dtype)};
    if (s.epsilon < 0 && !s.centred) /* of the dtype: the distance from 1 to the next number */
        s.epsilon = x->dtype == TSR_F64   ? 0x1p-52
                    : x->dtype == TSR_F32 ? 0x1p-23
                    : x->dtype == TSR_F16 ? 0x1p-10
                                          : 0x1p-7;
    s.rows = count_from(x, 0) / max_i64(s.cols, 1);
    s.weights = s.cols;
    return s;
}

/* For group_norm: attributes groups, epsilon; instance_norm: epsilon alone, a group a channel. x [n, channels, …]. */
static norm_rows channel_rows(const op_row *row, const op_output *x, const attr_value *attr)
{
    const bool instance = strcmp(row->name, "instance_norm") == 0;
    norm_rows s = {.groups = instance ? x->shape[1] : attr[0].i,
                   .span = count_from(x, 2),
                   .weights = x->shape[1],
                   .centred = true,
                   .epsilon = attr[instance ? 0 : 1].f,
                   .carried = carried_of(x->dtype)};
    s.rows = x->shape[0] * s.groups;
    s.cols = s.groups == 0 ? 0 : s.weights / s.groups * s.span;
    return s;
}

static bool is_trailing(const op_row *row)
{
    return row->attrs[0].kind == ATTR_INTS;
}

static norm_rows rows_of(const op_row *row, const op_output *x, const attr_value *attr)
{
    return is_trailing(row) ? trailing_rows(row, x, attr) : channel_rows(row, x, attr);
}

/* ---- checks ---- */

static bool check_affine(const op_call *call, int rank, const int64_t *shape)
{
    for (int i = WEIGHT; i < call->in_count; i++) {
        const tensor *t = call->in[i], *x = call->in[X];
        if (t == NULL)
            continue;
        if (t->rank != rank || memcmp(t->shape, shape, sizeof *shape * (size_t)rank) != 0 ||
            (t->dtype != x->dtype && t->dtype != carried_of(x->dtype))) {
            fail(TSR_INVALID_ARGUMENT, "%s: %s is %s; for x of %s it must be %s, of x's dtype or %s", call->row->name,
                 i == WEIGHT ? "weight" : "bias", tensor_text(t), tensor_text(x), shape_text(rank, shape),
                 tsr_dtype_name(carried_of(x->dtype)));
            return false;
        }
    }
    return true;
}

static bool finish_infer(const op_call *call, op_output *out)
{
    infer_same(call, out);
    const norm_rows s = rows_of(call->row, &out[0], call->attr);
    if (!(s.epsilon >= 0 && isfinite(s.epsilon))) {
        fail(TSR_OUT_OF_RANGE, "%s: epsilon is %g", call->row->name, s.epsilon);
        return false;
    }
    if (s.rows > INT32_MAX || s.cols > INT32_MAX) {
        fail(TSR_UNSUPPORTED, "%s: %s has more rows or columns than a kernel can count", call->row->name,
             tensor_text(call->in[X]));
        return false;
    }
    out[1] = out[2] = (op_output){.dtype = s.carried, .rank = 1, .shape = {s.rows}};
    return true;
}

static bool trailing_infer(const op_call *call, op_output *out)
{
    const tensor *x = call->in[X];
    const attr_value *shape = &call->attr[0];
    if (shape->count < 1 || shape->count > x->rank ||
        memcmp(shape->list, x->shape + x->rank - shape->count, sizeof(int64_t) * (size_t)shape->count) != 0) {
        fail(TSR_INVALID_ARGUMENT, "%s: x of %s does not end in the normalized shape %s", call->row->name,
             tensor_text(x), shape_text(shape->count, shape->list));
        return false;
    }
    return check_affine(call, shape->count, shape->list) && finish_infer(call, out);
}

static bool channel_infer(const op_call *call, op_output *out)
{
    const tensor *x = call->in[X];
    if (x->rank < 2) {
        fail(TSR_INVALID_ARGUMENT, "%s: x is %s; it must be [n, channels, ...]", call->row->name, tensor_text(x));
        return false;
    }
    op_output spec;
    infer_same(call, &spec);
    const norm_rows s = channel_rows(call->row, &spec, call->attr);
    if (s.groups < (s.weights == 0 ? 0 : 1) || (s.groups > 0 && s.weights % s.groups != 0)) {
        fail(TSR_INVALID_ARGUMENT, "%s: %lld groups do not divide the %lld channels of %s", call->row->name,
             (long long)s.groups, (long long)s.weights, tensor_text(x));
        return false;
    }
    return check_affine(call, 1, &x->shape[1]) && finish_infer(call, out);
}

/* ---- forward ---- */

/* Weights as the kernels take them: an element each of the rows of all groups; `initial` everywhere where there are none. */
static tensor *affine_of(tsr_device *device, tensor *t, const norm_rows *s, double initial)
{
    if (t == NULL)
        return tsr_full(device, s->carried, 1, (int64_t[]){s->groups * s->cols}, initial);
    t = tsr_cast(t, s->carried);
    if (s->span > 1)
        t = tsr_expand(tsr_reshape(t, 2, (int64_t[]){s->weights, 1}), 2, (int64_t[]){s->weights, s->span});
    return contiguous(t);
}

static float low_part(double v)
{
    return (float)(v - (double)(float)v);
}

static bool run(const op_call *call)
{
    op_output spec;
    infer_same(call, &spec);
    const norm_rows s = rows_of(call->row, &spec, call->attr);
    tensor *x = contiguous(call->in[X]);
    if (call->out[0]->numel == 0) /* rows without elements have no statistics */
        return tsr_fill(call->out[1], 0) == TSR_OK && tsr_fill(call->out[2], 0) == TSR_OK;
    tensor *weight = affine_of(call->device, call->in_count > WEIGHT ? call->in[WEIGHT] : NULL, &s, 1);
    tensor *bias = affine_of(call->device, call->in_count > BIAS ? call->in[BIAS] : NULL, &s, 0);
    if (x == NULL || weight == NULL || bias == NULL)
        return false;
    const struct {
        uint32_t cols, centred, groups;
        float epsilon, epsilon_low;
    } p = {(uint32_t)s.cols, s.centred, (uint32_t)s.groups, (float)s.epsilon, low_part(s.epsilon)};
    return LAUNCH(call->device, key_of("row_norm", x->dtype), ((grid){(uint32_t)s.rows, 1, 1}), &p, tensor_binding(x),
                  tensor_binding(weight), tensor_binding(bias), tensor_binding(call->out[0]),
                  tensor_binding(call->out[1]), tensor_binding(call->out[2]));
}

static bool norm_run(const op_call *call)
{
    return OP_TEMPORARIES(run(call));
}

/* ---- backward ---- */

/* The sum over everything that shares a weight, in the weight's shape and dtype. */
static tensor *sum_over_sharers(const op_row *row, tensor *t, const norm_rows *s, const op_output *weight, int64_t n)
{
    if (t == NULL)
        return NULL;
    tensor *sum = is_trailing(row)
                      ? tsr_sum(tsr_reshape(t, 2, (int64_t[]){s->rows, s->cols}), (int[]){0}, 1, false)
                      : tsr_sum(tsr_reshape(t, 3, (int64_t[]){n, s->weights, s->span}), (int[]){0, 2}, 2, false);
    return tsr_cast(tsr_reshape(sum, weight->rank, weight->shape), weight->dtype);
}

static bool launch_gradient(const op_record *r, const norm_rows *s, tensor *x, tensor *g, tensor *dx, tensor *terms)
{
    tensor *weight = affine_of(r->device, r->in[WEIGHT], s, 1);
    const struct {
        uint32_t cols, centred, groups, wants_terms;
    } p = {(uint32_t)s->cols, s->centred, (uint32_t)s->groups, terms != NULL};
    return weight != NULL && LAUNCH(r->device, key_of("row_norm_grad", x->dtype), ((grid){(uint32_t)s->rows, 1, 1}), &p,
                                    tensor_binding(x), tensor_binding(g), tensor_binding(r->out[1]),
                                    tensor_binding(r->out[2]), tensor_binding(weight), tensor_binding(dx),
                                    tensor_binding(terms != NULL ? terms : r->out[1])); /* not written without terms */
}

static bool norm_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    const op_output *spec = &r->in_spec[X];
    const norm_rows s = rows_of(r->row, spec, r->attr);
    tensor *x = contiguous(r->in[X]), *g = contiguous(dy[0]);
    if (x == NULL || g == NULL)
        return false;
    const int64_t n = spec->shape[0];
    const bool empty = x->numel == 0;
    tensor *slope = tsr_empty(r->device, spec->dtype, spec->rank, spec->shape);
    tensor *terms = r->needs[WEIGHT] ? tsr_empty(r->device, s.carried, spec->rank, spec->shape) : NULL;
    if (slope == NULL || (r->needs[WEIGHT] && terms == NULL) || (!empty && !launch_gradient(r, &s, x, g, slope, terms)))
        return false;
    if (r->needs[X])
        dx[X] = slope;
    if (r->needs[WEIGHT] && (dx[WEIGHT] = sum_over_sharers(r->row, terms, &s, &r->in_spec[WEIGHT], n)) == NULL)
        return false;
    return !r->needs[BIAS] ||
           (dx[BIAS] = sum_over_sharers(r->row, tsr_cast(g, s.carried), &s, &r->in_spec[BIAS], n)) != NULL;
}

/* Outputs: y, and for the derivative each row's mean (0 for rms_norm) and 1 / sqrt(mean square + epsilon). */
#define NORM_ROW(op, most_inputs, check, ...)                                                                          \
    const op_row op_##op = {                                                                                           \
        .name = #op,                                                                                                   \
        .inputs_min = 1,                                                                                               \
        .inputs_max = most_inputs,                                                                                     \
        .outputs = 3,                                                                                                  \
        .dtypes = DTYPES_FLOAT,                                                                                        \
        .any_dtype = 1u << WEIGHT | 1u << BIAS,                                                                        \
        .attrs = {__VA_ARGS__},                                                                                        \
        .autocast = AUTOCAST_F32,                                                                                      \
        .infer = check,                                                                                                \
        .run = norm_run,                                                                                               \
        .backward = norm_backward,                                                                                     \
        .saves = SAVE_INPUT(X) | SAVE_INPUT(WEIGHT) | SAVE_OUTPUT(1) | SAVE_OUTPUT(2),                                 \
    };
/* clang-format off */
NORM_ROW(layer_norm, 3, trailing_infer, {"normalized_shape", ATTR_INTS, true, {0}}, {"epsilon", ATTR_FLOAT, false, {.f = 1e-5}})
NORM_ROW(rms_norm, 2, trailing_infer, {"normalized_shape", ATTR_INTS, true, {0}}, {"epsilon", ATTR_FLOAT, false, {.f = -1}})
NORM_ROW(group_norm, 3, channel_infer, {"groups", ATTR_INT, true, {0}}, {"epsilon", ATTR_FLOAT, false, {.f = 1e-5}})
NORM_ROW(instance_norm, 3, channel_infer, {"epsilon", ATTR_FLOAT, false, {.f = 1e-5}})
/* clang-format on */

static bool shape_attr(const char *what, int count, const int64_t *shape, attr_value *out)
{
    *out = (attr_value){.count = count};
    if (count < 1 || count > TSR_MAX_RANK || shape == NULL) {
        fail(TSR_OUT_OF_RANGE, "%s: the normalized shape has 1 to %d sizes, not %d", what, TSR_MAX_RANK, count);
        return false;
    }
    memcpy(out->list, shape, sizeof *shape * (size_t)count);
    return true;
}

tsr_tensor *tsr_layer_norm(tsr_tensor *x, int normalized_rank, const int64_t *normalized_shape, tsr_tensor *weight,
                           tsr_tensor *bias, double epsilon)
{
    attr_value shape;
    if (x == NULL || !shape_attr("layer_norm", normalized_rank, normalized_shape, &shape))
        return NULL;
    return OP1(op_layer_norm, ATTRS(shape, A_FLOAT(epsilon)), x, weight, bias);
}

tsr_tensor *tsr_rms_norm(tsr_tensor *x, int normalized_rank, const int64_t *normalized_shape, tsr_tensor *weight,
                         double epsilon)
{
    attr_value shape;
    if (x == NULL || !shape_attr("rms_norm", normalized_rank, normalized_shape, &shape))
        return NULL;
    return OP1(op_rms_norm, ATTRS(shape, A_FLOAT(epsilon)), x, weight);
}

tsr_tensor *tsr_group_norm(tsr_tensor *x, int64_t groups, tsr_tensor *weight, tsr_tensor *bias, double epsilon)
{
    return OP1(op_group_norm, ATTRS(A_INT(groups), A_FLOAT(epsilon)), x, weight, bias);
}

tsr_tensor *tsr_instance_norm(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias, double epsilon)
{
    return OP1(op_instance_norm, ATTRS(A_FLOAT(epsilon)), x, weight, bias);
}
