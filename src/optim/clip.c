/* Clipping of gradients, in place. */
#include <math.h>

#include "base/error.h"
#include "base/memory.h"
#include "ops/op.h"
#include "optim/optimizer.h"
#include "tessera/autograd.h"

/* Gradients of the parameters that have one, borrowed, in an array of the caller's to free. NULL after fail(). */
static tensor **gradients(const char *what, tsr_tensor *const *parameters, size_t count, size_t *found)
{
    tensor **list = count == 0 || parameters == NULL ? NULL : host_alloc_zeroed(count, sizeof *list);
    *found = 0;
    if (count == 0 || parameters == NULL)
        fail(TSR_INVALID_ARGUMENT, "%s: there are no parameters", what);
    for (size_t i = 0; list != NULL && i < count; i++) {
        if (parameters[i] == NULL || parameters[i]->storage->device != parameters[0]->storage->device) {
            fail(TSR_INVALID_ARGUMENT, "%s: parameter %zu is %s", what, i,
                 parameters[i] == NULL ? "NULL" : "on another device than parameter 0");
            host_free(list);
            return NULL;
        }
        if (parameters[i]->grad != NULL && parameters[i]->grad->numel > 0)
            list[(*found)++] = parameters[i]->grad;
    }
    return list;
}

static bool in_place(const char *name, tensor *x, tensor *other, const attr_value *attrs)
{
    tensor *out = x;
    return op_apply(op_find(name), (tensor *[]){x, other}, other == NULL ? 1 : 2, attrs, &out);
}

/* |(|g₁|, |g₂|, …)| is the norm of all elements, for each of the three norms. */
static tensor *total_norm(tensor **grads, size_t found, tensor **norms, double p)
{
    const tsr_dtype dtype = grads[0]->dtype == TSR_F64 ? TSR_F64 : TSR_F32;
    for (size_t i = 0; i < found; i++)
        if ((norms[i] = tsr_cast(tsr_norm(grads[i], NULL, 0, false, p), dtype)) == NULL)
            return NULL;
    return found == 1 ? norms[0] : tsr_norm(tsr_stack(norms, (int)found, 0), NULL, 0, false, p);
}

static tensor *clip_norm(tsr_device *device, tensor **grads, size_t found, double most, double p)
{
    if (found == 0)
        return tsr_zeros(device, TSR_F32, 0, NULL);
    tensor **norms = host_alloc_zeroed(found, sizeof *norms);
    tensor *total = norms == NULL ? NULL : total_norm(grads, found, norms, p);
    host_free(norms);
    tensor *share =
        total == NULL ? NULL : tsr_div(tsr_full(device, total->dtype, 0, NULL, most), tsr_affine(total, 1, 1e-6));
    share = tsr_clamp(share, -(double)INFINITY, 1); /* a NaN goes through: the gradients then show it */
    for (size_t i = 0; share != NULL && i < found; i++) {
        tensor *own = tsr_cast(share, grads[i]->dtype);
        if (own == NULL || !in_place("mul", grads[i], own, NULL))
            return NULL;
    }
    return share == NULL ? NULL : total;
}

tsr_tensor *tsr_clip_grad_norm(tsr_tensor *const *parameters, size_t count, double max_norm, double norm_type)
{
    static const char what[] = "clip_grad_norm";
    if (!(max_norm >= 0) || (norm_type != 1 && norm_type != 2 && !(isinf(norm_type) && norm_type > 0))) {
        fail(TSR_OUT_OF_RANGE,
             "%s: the largest norm is %g, of type %g; it must not be negative, the type 1, 2 or infinity", what,
             max_norm, norm_type);
        return NULL;
    }
    size_t found;
    tensor **grads = gradients(what, parameters, count, &found);
    tensor *total = NULL;
    if (grads != NULL && tsr_scope_begin() == TSR_OK) {
        tsr_no_grad_begin();
        total = tsr_keep(clip_norm(parameters[0]->storage->device, grads, found, max_norm, norm_type));
        tsr_no_grad_end();
        tsr_scope_end();
    }
    host_free(grads);
    return tensor_to_scope(total);
}

tsr_status tsr_clip_grad_value(tsr_tensor *const *parameters, size_t count, double max_value)
{
    static const char what[] = "clip_grad_value";
    if (!(max_value >= 0))
        return fail(TSR_OUT_OF_RANGE, "%s: the largest value is %g; it must not be negative", what, max_value);
    size_t found;
    tensor **grads = gradients(what, parameters, count, &found);
    if (grads == NULL)
        return tsr_last_status();
    bool ok = true;
    tsr_no_grad_begin();
    for (size_t i = 0; ok && i < found; i++)
        ok = in_place("clamp", grads[i], NULL, ATTRS(A_FLOAT(-max_value), A_FLOAT(max_value)));
    tsr_no_grad_end();
    host_free(grads);
    return ok ? TSR_OK : tsr_last_status();
}

tsr_tensor *tsr_optimizer_clip_grad_norm(tsr_optimizer *o, double max_norm, double norm_type)
{
    return tsr_clip_grad_norm(o == NULL ? NULL : o->parameters, o == NULL ? 0 : o->count, max_norm, norm_type);
}

tsr_status tsr_optimizer_clip_grad_value(tsr_optimizer *o, double max_value)
{
    return tsr_clip_grad_value(o == NULL ? NULL : o->parameters, o == NULL ? 0 : o->count, max_value);
}
