/* RMSprop, plain and centred, with and without momentum. */
#include <math.h>

#include "base/error.h"
#include "optim/optimizer.h"

enum { SQUARE, VELOCITY, MEAN };

static bool rmsprop_update(tsr_optimizer *o, size_t i, const tensor *grad)
{
    const tensor *w = o->parameters[i], *const *states = (const tensor *const *)&o->states[i * OPTIMIZER_STATES];
    const tsr_rmsprop_options *a = &o->rmsprop;
    const struct {
        uint32_t n, per_group;
        float alpha, complement, epsilon, weight_decay, momentum;
        uint32_t centered;
    } p = {(uint32_t)w->numel, OPTIMIZER_PER_GROUP,        (float)a->alpha,    (float)(1 - a->alpha),
           (float)a->epsilon,  (float)o->weight_decays[i], (float)a->momentum, a->centered};
    /* A slot whose state is not there is bound to the first one's, and left alone. */
    const tensor *velocity = states[VELOCITY] != NULL ? states[VELOCITY] : states[SQUARE];
    const tensor *mean = states[MEAN] != NULL ? states[MEAN] : states[SQUARE];
    return LAUNCH(o->device, key_of("rmsprop", TSR_F32), optimizer_groups(w), &p, tensor_binding(w),
                  tensor_binding(grad), tensor_binding(states[SQUARE]), tensor_binding(velocity), tensor_binding(mean),
                  tensor_binding(o->numbers));
}

/* By whether it is centred and has momentum. */
static const optimizer_row rows[2][2] = {
    {{.kind = "rmsprop", .states = {"square_avg"}, .update = rmsprop_update},
     {.kind = "rmsprop", .states = {"square_avg", "momentum_buffer"}, .update = rmsprop_update}},
    {{.kind = "rmsprop", .states = {"square_avg", NULL, "grad_avg"}, .update = rmsprop_update},
     {.kind = "rmsprop", .states = {"square_avg", "momentum_buffer", "grad_avg"}, .update = rmsprop_update}},
};

tsr_optimizer *tsr_rmsprop_create(tsr_tensor *const *parameters, size_t count, const tsr_rmsprop_options *options)
{
    tsr_rmsprop_options a = options == NULL ? (tsr_rmsprop_options){0} : *options;
    a.lr = a.lr == 0 ? 1e-2 : a.lr;
    a.alpha = a.alpha == 0 ? 0.99 : a.alpha;
    a.epsilon = a.epsilon == 0 ? 1e-8 : a.epsilon;
    if (!optimizer_numbers_valid("rmsprop", a.alpha, a.alpha, a.epsilon, a.weight_decay))
        return NULL;
    if (!(a.momentum >= 0) || !isfinite(a.momentum)) {
        fail(TSR_OUT_OF_RANGE, "rmsprop: the momentum is %g; it must be finite and not negative", a.momentum);
        return NULL;
    }
    tsr_optimizer *o = optimizer_create(&rows[a.centered][a.momentum != 0], parameters, count, a.lr, a.weight_decay);
    if (o != NULL)
        o->rmsprop = a;
    return o;
}

static tsr_optimizer *make(tsr_tensor *const *parameters, size_t count, const void *options)
{
    return tsr_rmsprop_create(parameters, count, options);
}

tsr_optimizer *tsr_rmsprop_for(tsr_module *module, const tsr_rmsprop_options *options)
{
    return optimizer_for_module(module, make, options);
}
