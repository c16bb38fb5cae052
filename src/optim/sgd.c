/* Stochastic gradient descent with momentum and Nesterov's variant. */
#include <math.h>

#include "base/error.h"
#include "optim/optimizer.h"

static bool sgd_plain_update(tsr_optimizer *o, size_t i, const tensor *grad)
{
    const tensor *w = o->parameters[i];
    const struct {
        uint32_t n, per_group;
        float weight_decay;
    } p = {(uint32_t)w->numel, OPTIMIZER_PER_GROUP, (float)o->weight_decays[i]};
    return LAUNCH(o->device, key_of("sgd_plain", TSR_F32), optimizer_groups(w), &p, tensor_binding(w),
                  tensor_binding(grad), tensor_binding(o->numbers));
}

static bool sgd_update(tsr_optimizer *o, size_t i, const tensor *grad)
{
    const tensor *w = o->parameters[i], *velocity = o->states[i * OPTIMIZER_STATES];
    const struct {
        uint32_t n, per_group;
        float momentum, dampening, weight_decay;
        uint32_t nesterov, first;
    } p = {(uint32_t)w->numel,         OPTIMIZER_PER_GROUP, (float)o->sgd.momentum,      (float)o->sgd.dampening,
           (float)o->weight_decays[i], o->sgd.nesterov,     optimizer_state_is_new(o, i)};
    return LAUNCH(o->device, key_of("sgd", TSR_F32), optimizer_groups(w), &p, tensor_binding(w), tensor_binding(grad),
                  tensor_binding(velocity), tensor_binding(o->numbers));
}

static const optimizer_row plain_row = {.kind = "sgd", .update = sgd_plain_update};
static const optimizer_row momentum_row = {.kind = "sgd", .states = {"momentum"}, .update = sgd_update};

tsr_optimizer *tsr_sgd_create(tsr_tensor *const *parameters, size_t count, const tsr_sgd_options *options)
{
    if (options == NULL || !(options->lr > 0) || !(options->momentum >= 0) || !(options->weight_decay >= 0) ||
        !isfinite(options->momentum) || !isfinite(options->dampening) || !isfinite(options->weight_decay)) {
        fail(TSR_OUT_OF_RANGE,
             "sgd: needed are a learning rate above 0, momentum and weight decay of at least 0, and all finite");
        return NULL;
    }
    if (options->nesterov && (options->momentum == 0 || options->dampening != 0)) {
        fail(TSR_INVALID_ARGUMENT, "sgd: Nesterov's variant needs momentum and no dampening");
        return NULL;
    }
    tsr_optimizer *o = optimizer_create(options->momentum == 0 ? &plain_row : &momentum_row, parameters, count,
                                        options->lr, options->weight_decay);
    if (o != NULL)
        o->sgd = *options;
    return o;
}

static tsr_optimizer *make(tsr_tensor *const *parameters, size_t count, const void *options)
{
    return tsr_sgd_create(parameters, count, options);
}

tsr_optimizer *tsr_sgd_for(tsr_module *module, const tsr_sgd_options *options)
{
    return optimizer_for_module(module, make, options);
}
