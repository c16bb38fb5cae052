/* instance_norm_running: instance_norm that keeps statistics, or normalises by those that were kept. */
#include "base/error.h"
#include "ops/op.h"
#include "tessera/autograd.h"
#include "tessera/ops.h"

enum { X, WEIGHT, BIAS, MEAN, VARIANCE, TRAINING = 0, MOMENTUM, EPSILON };

static bool check_shapes(const op_call *call)
{
    const tensor *x = call->in[X];
    const tsr_dtype carried = x->dtype == TSR_F64 ? TSR_F64 : TSR_F32;
    const double momentum = call->attr[MOMENTUM].f;
    if (x->rank < 3 || x->rank > 7) {
        fail(TSR_INVALID_ARGUMENT, "instance_norm_running: x is %s; it must be [n, channels, ..]", tensor_text(x));
        return false;
    }
    for (int i = MEAN; i <= VARIANCE; i++) {
        const tensor *t = call->in[i];
        if (t == NULL) {
            fail(TSR_INVALID_ARGUMENT, "instance_norm_running: a running statistic is NULL");
            return false;
        }
        if (t->rank != 1 || t->shape[0] != x->shape[1] || t->dtype != carried) {
            fail(TSR_INVALID_ARGUMENT,
                 "instance_norm_running: a running statistic is %s; for x of %s it must be %s "
                 "[%lld]",
                 tensor_text(t), tensor_text(x), tsr_dtype_name(carried), (long long)x->shape[1]);
            return false;
        }
    }
    int64_t span = 1;
    for (int i = 2; i < x->rank; i++)
        span *= x->shape[i];
    if (call->attr[TRAINING].i != 0 && (span < 2 || x->shape[0] == 0)) {
        fail(TSR_INVALID_ARGUMENT,
             "instance_norm_running: of %s no channel has a variance: it takes two elements or more", tensor_text(x));
        return false;
    }
    if (momentum >= 0 && momentum <= 1)
        return true;
    fail(TSR_OUT_OF_RANGE, "instance_norm_running: the momentum is %g; it must lie in [0, 1]", momentum);
    return false;
}

static bool move(tensor *running, tensor *batch, double momentum)
{
    tensor *t = tsr_add(tsr_affine(running, 1 - momentum, 0), tsr_affine(batch, momentum, 0));
    return t != NULL && tsr_copy_into(running, t) == TSR_OK;
}

/* The samples' mean of what each channel has. */
static bool move_statistics(const op_call *call)
{
    static const int inner[] = {2, 3, 4, 5, 6}, samples = 0;
    const tensor *running = call->in[MEAN];
    tensor *x = tsr_cast(call->in[X], running->dtype);
    const int count = call->in[X]->rank - 2;
    tensor *mean = tsr_mean(tsr_mean(x, inner, count, false), &samples, 1, false);
    tensor *variance = tsr_mean(tsr_var(x, inner, count, false, 1), &samples, 1, false);
    const double momentum = call->attr[MOMENTUM].f;
    return mean != NULL && variance != NULL && move(call->in[MEAN], mean, momentum) &&
           move(call->in[VARIANCE], variance, momentum);
}

static tensor *carried(tensor *t, const tensor *x)
{
    return t == NULL ? NULL : tsr_cast(t, x->dtype == TSR_F64 ? TSR_F64 : TSR_F32);
}

static bool compose(const op_call *call, tensor **out)
{
    tensor *x = call->in[X], *weight = call->in[WEIGHT], *bias = call->in[BIAS];
    if (!check_shapes(call))
        return false;
    if (call->attr[TRAINING].i != 0) {
        out[0] = tsr_instance_norm(x, weight, bias, call->attr[EPSILON].f);
        tsr_no_grad_begin();
        const bool moved = out[0] != NULL && move_statistics(call);
        tsr_no_grad_end();
        return moved;
    }
    int64_t span = 1;
    for (int i = 2; i < x->rank; i++)
        span *= x->shape[i];
    tensor *planes = tsr_reshape(x, 4, (int64_t[]){x->shape[0], x->shape[1], 1, span});
    tensor *y = tsr_batch_norm2d(planes, carried(weight, x), carried(bias, x), call->in[MEAN], call->in[VARIANCE],
                                 false, call->attr[MOMENTUM].f, call->attr[EPSILON].f);
    out[0] = tsr_reshape(y, x->rank, x->shape);
    return out[0] != NULL;
}

const op_row op_instance_norm_running = {
    .name = "instance_norm_running",
    .inputs_min = 1,
    .inputs_max = 5,
    .outputs = 1,
    .dtypes = DTYPES_FLOAT,
    .any_dtype = 1u << WEIGHT | 1u << BIAS | 1u << MEAN | 1u << VARIANCE,
    .attrs = {{"training", ATTR_BOOL, false, {.i = 1}},
              {"momentum", ATTR_FLOAT, false, {.f = 0.1}},
              {"epsilon", ATTR_FLOAT, false, {.f = 1e-5}}},
    .autocast = AUTOCAST_WIDEST,
    .compose = compose,
};

tsr_tensor *tsr_instance_norm_running(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias, tsr_tensor *running_mean,
                                      tsr_tensor *running_variance, bool training, double momentum, double epsilon)
{
    return OP1(op_instance_norm_running, ATTRS(A_INT(training), A_FLOAT(momentum), A_FLOAT(epsilon)), x, weight, bias,
               running_mean, running_variance);
}
