/* cross_entropy and nll: one kernel to the rows' losses and what each weighs, their sum or mean, and one kernel back. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "ops/loss.h"
#include "ops/reduce.h"
#include "tensor/device.h"

/* ---- logits [classes] and a class, or [n, classes, …] and [n, …] ---- */

static bool target_fits(const tensor *x, const tensor *target)
{
    if (x->rank < 1 || target->rank != x->rank - 1)
        return false;
    for (int i = 0; i < target->rank; i++)
        if (target->shape[i] != x->shape[i == 0 ? 0 : i + 1])
            return false;
    return true;
}

static int64_t classes_of(const tensor *x)
{
    return x->shape[x->rank == 1 ? 0 : 1];
}

/* Checks the operands and tells the loss's shape; `what` are the scores of the classes. */
static bool class_infer(const op_call *call, const char *what, op_output *out)
{
    const tensor *x = call->in[0], *target = call->in[1], *weight = call->in[2];
    const char *name = call->row->name;
    if (!target_fits(x, target)) {
        fail(TSR_INVALID_ARGUMENT,
             "%s: %s are %s and targets %s; they must be [n, classes] and [n], or [n, classes, …] "
             "and [n, …]",
             name, what, tensor_text(x), tensor_text(target));
        return false;
    }
    if (target->dtype != TSR_I64 && target->dtype != TSR_I32) {
        fail(TSR_INVALID_ARGUMENT, "%s: targets are class indices, i64 or i32, not %s", name,
             tsr_dtype_name(target->dtype));
        return false;
    }
    if (weight != NULL && (weight->rank != 1 || weight->shape[0] != classes_of(x))) {
        fail(TSR_INVALID_ARGUMENT, "%s: the weights are %s; there must be one for each of %lld classes", name,
             tensor_text(weight), (long long)classes_of(x));
        return false;
    }
    if (call->attr[1].i < INT32_MIN || call->attr[1].i > INT32_MAX) {
        fail(TSR_OUT_OF_RANGE, "%s: ignore_index %lld is beyond 32 bits", name, (long long)call->attr[1].i);
        return false;
    }
    if (classes_of(x) == 0 || target->numel > INT32_MAX || classes_of(x) > INT32_MAX) {
        fail(TSR_INVALID_ARGUMENT, "%s: %s %s are of no class or too many", name, what, tensor_text(x));
        return false;
    }
    *out = (op_output){.dtype = x->dtype, .rank = 0};
    if (call->attr[0].i == TSR_REDUCTION_NONE) {
        out->rank = target->rank;
        memcpy(out->shape, target->shape, sizeof out->shape);
    }
    return reduction_check(name, call->attr[0].i);
}

/* The axis of classes last: rows of them. */
static tensor *class_rows(tensor *x)
{
    int order[TSR_MAX_RANK];
    for (int i = 0; i < x->rank; i++)
        order[i] = i == 0 ? 0 : i + 1;
    if (x->rank > 1)
        order[x->rank - 1] = 1;
    return contiguous(tsr_permute(x, order));
}

static tensor *class_rows_back(tensor *rows)
{
    int order[TSR_MAX_RANK];
    for (int i = 0; rows != NULL && i < rows->rank; i++)
        order[i] = i == 0 ? 0 : i == 1 ? rows->rank - 1 : i - 1;
    return tsr_permute(rows, order);
}

/* The rows' losses as the reduction wants them; `total` gets the sum of the shares where it is a mean. */
static bool reduce_losses(const op_call *call, tensor *losses, tensor *shares, tensor *total)
{
    tensor *result = losses, *y = call->out[0];
    if (call->attr[0].i == TSR_REDUCTION_NONE)
        return tsr_copy_into(y, tsr_reshape(losses, y->rank, y->shape)) == TSR_OK;
    result = tsr_sum(losses, NULL, 0, false);
    if (call->attr[0].i == TSR_REDUCTION_MEAN) {
        tensor *sum = tsr_sum(shares, NULL, 0, false);
        if (sum == NULL || tsr_copy_into(total, sum) != TSR_OK)
            return false;
        result = tsr_div(result, sum);
    }
    return result != NULL && tsr_copy_into(y, result) == TSR_OK;
}

/* The derivative of each row's loss, or one for all. */
static tensor *row_scales(const op_record *r, tensor *dy, tensor *total)
{
    tensor *g = tsr_cast(dy, reduce_dtype(dy->dtype));
    return contiguous(r->attr[0].i == TSR_REDUCTION_MEAN ? tsr_div(g, total) : g);
}

/* The loss of no rows: a mean of them is not a number, a sum 0. */
static bool no_losses(const op_call *call)
{
    return tsr_fill(call->out[0], call->attr[0].i == TSR_REDUCTION_MEAN ? (double)NAN : 0.0) == TSR_OK &&
           tsr_fill(call->out[1], 0) == TSR_OK;
}

static bool no_gradient(const op_record *r, tensor **dx)
{
    const op_output *x = &r->in_spec[0];
    dx[0] = tsr_zeros(r->device, x->dtype, x->rank, x->shape);
    return dx[0] != NULL;
}

/* ---- cross_entropy ----
 *
 * Outputs: the loss, and for the derivative each row's maximum and logarithm of sum exp(x - maximum), then the sum of shares. */

static bool cross_entropy_infer(const op_call *call, op_output *out)
{
    const tensor *x = call->in[0];
    const double smoothing = call->attr[2].f;
    if (!class_infer(call, "logits", out))
        return false;
    if (!(smoothing >= 0 && smoothing <= 1)) {
        fail(TSR_OUT_OF_RANGE, "cross_entropy: label_smoothing is %g, it must be from 0 to 1", smoothing);
        return false;
    }
    out[1] = (op_output){.dtype = reduce_dtype(x->dtype), .rank = 2, .shape = {call->in[1]->numel + 1, 2}};
    return true;
}

/* The scalar behind the rows' terms. */
static tensor *total_of(tensor *terms)
{
    return tsr_reshape(tsr_slice(tsr_slice(terms, 0, -1, INT64_MAX, 1), 1, 0, 1, 1), 0, NULL);
}

static bool cross_entropy_of(const op_call *call)
{
    tensor *x = class_rows(call->in[0]), *target = contiguous(call->in[1]), *terms = call->out[1];
    tensor *weight = call->in[2] == NULL ? x : contiguous(call->in[2]), *total = total_of(terms);
    const int64_t rows = call->in[1]->numel;
    tensor *losses = tsr_empty(call->device, terms->dtype, 1, &rows);
    tensor *shares = tsr_empty(call->device, terms->dtype, 1, &rows);
    if (x == NULL || target == NULL || weight == NULL || total == NULL || losses == NULL || shares == NULL)
        return false;
    const struct {
        uint32_t cols;
        int32_t ignore;
        uint32_t weighted;
        float smoothing, smoothing_low;
    } p = {(uint32_t)classes_of(call->in[0]), (int32_t)call->attr[1].i, call->in[2] != NULL, (float)call->attr[2].f,
           (float)(call->attr[2].f - (double)(float)call->attr[2].f)};
    return LAUNCH(call->device, key_of2("cross_entropy", x->dtype, target->dtype), ((grid){(uint32_t)rows, 1, 1}), &p,
                  tensor_binding(x), tensor_binding(target), tensor_binding(weight), tensor_binding(losses),
                  tensor_binding(shares), tensor_binding(terms)) &&
           reduce_losses(call, losses, shares, total);
}

static bool cross_entropy_run(const op_call *call)
{
    return call->in[1]->numel == 0 ? no_losses(call) : OP_TEMPORARIES(cross_entropy_of(call));
}

static bool cross_entropy_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    if (dy[0] == NULL || !r->needs[0])
        return true;
    if (r->in[1]->numel == 0)
        return no_gradient(r, dx);
    tensor *x = class_rows(r->in[0]), *target = contiguous(r->in[1]), *terms = r->out[1];
    tensor *weight = r->in[2] == NULL ? x : contiguous(r->in[2]);
    tensor *weights = r->in[2] == NULL ? terms : tsr_sum(tsr_cast(weight, terms->dtype), NULL, 0, false);
    tensor *scale = row_scales(r, dy[0], total_of(terms));
    tensor *d = x == NULL ? NULL : tsr_empty(r->device, x->dtype, x->rank, x->shape);
    if (target == NULL || weight == NULL || weights == NULL || scale == NULL || d == NULL)
        return false;
    const struct {
        uint32_t cols;
        int32_t ignore;
        uint32_t weighted;
        float smoothing, smoothing_low;
        uint32_t scale_step;
    } p = {(uint32_t)classes_of(r->in[0]),
           (int32_t)r->attr[1].i,
           r->in[2] != NULL,
           (float)r->attr[2].f,
           (float)(r->attr[2].f - (double)(float)r->attr[2].f),
           r->attr[0].i == TSR_REDUCTION_NONE};
    dx[0] = class_rows_back(d);
    return dx[0] != NULL && LAUNCH(r->device, key_of2("cross_entropy_grad", x->dtype, target->dtype),
                                   ((grid){(uint32_t)target->numel, 1, 1}), &p, tensor_binding(x),
                                   tensor_binding(target), tensor_binding(weight), tensor_binding(weights),
                                   tensor_binding(terms), tensor_binding(scale), tensor_binding(d));
}

const op_row op_cross_entropy = {
    .name = "cross_entropy",
    .inputs_min = 2,
    .inputs_max = 3,
    .outputs = 2,
    .dtypes = DTYPES_FLOAT,
    .any_dtype = 1u << 1,
    .same_dtype = true,
    .attrs = {REDUCTION_ATTR,
              {"ignore_index", ATTR_INT, false, {.i = -100}},
              {"label_smoothing", ATTR_FLOAT, false, {.f = 0}}},
    .autocast = AUTOCAST_F32,
    .infer = cross_entropy_infer,
    .run = cross_entropy_run,
    .backward = cross_entropy_backward,
    .saves = SAVE_INPUT(0) | SAVE_INPUT(1) | SAVE_INPUT(2) | SAVE_OUTPUT(1),
};

/* ---- nll: outputs are the loss and, for the derivative, the sum of shares ---- */

static bool nll_infer(const op_call *call, op_output *out)
{
    if (!class_infer(call, "log-probabilities", out))
        return false;
    out[1] = (op_output){.dtype = reduce_dtype(call->in[0]->dtype), .rank = 0};
    return true;
}

static bool nll_of(const op_call *call)
{
    tensor *x = class_rows(call->in[0]), *target = contiguous(call->in[1]), *total = call->out[1];
    tensor *weight = call->in[2] == NULL ? x : contiguous(call->in[2]);
    const int64_t rows = call->in[1]->numel;
    tensor *losses = tsr_empty(call->device, total->dtype, 1, &rows);
    tensor *shares = tsr_empty(call->device, total->dtype, 1, &rows);
    if (x == NULL || target == NULL || weight == NULL || losses == NULL || shares == NULL)
        return false;
    const struct {
        uint32_t cols;
        int32_t ignore;
        uint32_t weighted;
    } p = {(uint32_t)classes_of(call->in[0]), (int32_t)call->attr[1].i, call->in[2] != NULL};
    return LAUNCH(call->device, key_of2("nll", x->dtype, target->dtype), ((grid){(uint32_t)rows, 1, 1}), &p,
                  tensor_binding(x), tensor_binding(target), tensor_binding(weight), tensor_binding(losses),
                  tensor_binding(shares)) &&
           reduce_losses(call, losses, shares, total);
}

static bool nll_run(const op_call *call)
{
    return call->in[1]->numel == 0 ? no_losses(call) : OP_TEMPORARIES(nll_of(call));
}

static bool nll_backward(const op_record *r, tensor *const *dy, tensor **dx)
{
    if (dy[0] == NULL || !r->needs[0])
        return true;
    if (r->in[1]->numel == 0)
        return no_gradient(r, dx);
    const op_output *x = &r->in_spec[0];
    tensor *d = tsr_empty(r->device, x->dtype, x->rank, x->shape), *rows = d == NULL ? NULL : class_rows(d);
    tensor *target = contiguous(r->in[1]), *weight = r->in[2] == NULL ? rows : contiguous(r->in[2]);
    tensor *scale = row_scales(r, dy[0], r->out[1]);
    if (rows == NULL || target == NULL || weight == NULL || scale == NULL)
        return false;
    const struct {
        uint32_t cols;
        int32_t ignore;
        uint32_t weighted;
        uint32_t scale_step;
    } p = {(uint32_t)classes_of(d), (int32_t)r->attr[1].i, r->in[2] != NULL, r->attr[0].i == TSR_REDUCTION_NONE};
    dx[0] = class_rows_back(rows);
    return dx[0] != NULL &&
           LAUNCH(r->device, key_of2("nll_grad", x->dtype, target->dtype), ((grid){(uint32_t)target->numel, 1, 1}), &p,
                  tensor_binding(target), tensor_binding(weight), tensor_binding(scale), tensor_binding(rows));
}

const op_row op_nll = {
    .name = "nll",
    .inputs_min = 2,
    .inputs_max = 3,
    .outputs = 2,
    .dtypes = DTYPES_FLOAT,
    .any_dtype = 1u << 1,
    .same_dtype = true,
    .attrs = {REDUCTION_ATTR, {"ignore_index", ATTR_INT, false, {.i = -100}}},
    .autocast = AUTOCAST_F32,
    .infer = nll_infer,
    .run = nll_run,
    .backward = nll_backward,
    .saves = SAVE_INPUT(1) | SAVE_INPUT(2) | SAVE_OUTPUT(1),
};

tsr_tensor *tsr_cross_entropy(tsr_tensor *logits, tsr_tensor *target)
{
    return tsr_cross_entropy_with(logits, target, NULL, TSR_REDUCTION_MEAN, -100, 0.0);
}

tsr_tensor *tsr_cross_entropy_with(tsr_tensor *logits, tsr_tensor *target, tsr_tensor *weight, tsr_reduction reduction,
                                   int64_t ignore_index, double label_smoothing)
{
    return OP1(op_cross_entropy, ATTRS(A_INT(reduction), A_INT(ignore_index), A_FLOAT(label_smoothing)), logits, target,
               weight);
}

tsr_tensor *tsr_nll(tsr_tensor *log_probabilities, tsr_tensor *target, tsr_tensor *weight, tsr_reduction reduction,
                    int64_t ignore_index)
{
    return OP1(op_nll, ATTRS(A_INT(reduction), A_INT(ignore_index)), log_probabilities, target, weight);
}
