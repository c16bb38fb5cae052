/* Adagrad. */
#include <math.h>

#include "base/error.h"
#include "optim/optimizer.h"

static bool adagrad_update(tsr_optimizer *o, size_t i, const tensor *grad)
{
    const tensor *w = o->parameters[i];
    const tsr_adagrad_options *a = &o->adagrad;
    const struct {
        uint32_t n, per_group;
        float lr_decay, epsilon, weight_decay;
    } p = {(uint32_t)w->numel, OPTIMIZER_PER_GROUP, (float)a->lr_decay, (float)a->epsilon, (float)o->weight_decays[i]};
    return LAUNCH(o->device, key_of("adagrad", TSR_F32), optimizer_groups(w), &p, tensor_binding(w),
                  tensor_binding(grad), tensor_binding(o->states[i * OPTIMIZER_STATES]), tensor_binding(o->numbers));
}

static const optimizer_row row = {.kind = "adagrad", .states = {"sum"}, .update = adagrad_update};

tsr_optimizer *tsr_adagrad_create(tsr_tensor *const *parameters, size_t count, const tsr_adagrad_options *options)
{
    tsr_adagrad_options a = options == NULL ? (tsr_adagrad_options){0} : *options;
    a.lr = a.lr == 0 ? 1e-2 : a.lr;
    a.epsilon = a.epsilon == 0 ? 1e-10 : a.epsilon;
    if (!(a.lr_decay >= 0) || !(a.initial_accumulator >= 0) || !(a.epsilon > 0) || !(a.weight_decay >= 0) ||
        !isfinite(a.lr_decay) || !isfinite(a.initial_accumulator) || !isfinite(a.weight_decay)) {
        fail(TSR_OUT_OF_RANGE,
             "adagrad: the rate's decay %g, the initial accumulator %g and weight decay %g must be finite and not "
             "below 0, epsilon %g above 0",
             a.lr_decay, a.initial_accumulator, a.weight_decay, a.epsilon);
        return NULL;
    }
    tsr_optimizer *o = optimizer_create(&row, parameters, count, a.lr, a.weight_decay);
    if (o == NULL)
        return NULL;
    o->adagrad = a;
    if (a.initial_accumulator != 0 && !optimizer_state_fill(o, a.initial_accumulator)) {
        tsr_optimizer_destroy(o);
        return NULL;
    }
    return o;
}

static tsr_optimizer *make(tsr_tensor *const *parameters, size_t count, const void *options)
{
    return tsr_adagrad_create(parameters, count, options);
}

tsr_optimizer *tsr_adagrad_for(tsr_module *module, const tsr_adagrad_options *options)
{
    return optimizer_for_module(module, make, options);
}
