/* Lion: a step of one size, in the direction of an interpolated momentum's signs. */
#include "optim/optimizer.h"

static bool lion_update(tsr_optimizer *o, size_t i, const tensor *grad)
{
    const tensor *w = o->parameters[i];
    const tsr_lion_options *a = &o->lion;
    const struct {
        uint32_t n, per_group;
        float beta1, beta2, complement1, complement2, weight_decay;
    } p = {(uint32_t)w->numel, OPTIMIZER_PER_GROUP, (float)a->beta1,           (float)a->beta2,
           o->complement1,     o->complement2,      (float)o->weight_decays[i]};
    return LAUNCH(o->device, key_of("lion", TSR_F32), optimizer_groups(w), &p, tensor_binding(w), tensor_binding(grad),
                  tensor_binding(o->states[i * OPTIMIZER_STATES]), tensor_binding(o->numbers));
}

static const optimizer_row row = {.kind = "lion", .states = {"exp_avg"}, .update = lion_update};

tsr_optimizer *tsr_lion_create(tsr_tensor *const *parameters, size_t count, const tsr_lion_options *options)
{
    tsr_lion_options a = options == NULL ? (tsr_lion_options){0} : *options;
    a.lr = a.lr == 0 ? 1e-4 : a.lr;
    a.beta1 = a.beta1 == 0 ? 0.9 : a.beta1;
    a.beta2 = a.beta2 == 0 ? 0.99 : a.beta2;
    if (!optimizer_numbers_valid(row.kind, a.beta1, a.beta2, 1, a.weight_decay))
        return NULL;
    tsr_optimizer *o = optimizer_create(&row, parameters, count, a.lr, a.weight_decay);
    if (o == NULL)
        return NULL;
    o->lion = a;
    o->complement1 = (float)(1 - a.beta1);
    o->complement2 = (float)(1 - a.beta2);
    return o;
}

static tsr_optimizer *make(tsr_tensor *const *parameters, size_t count, const void *options)
{
    return tsr_lion_create(parameters, count, options);
}

tsr_optimizer *tsr_lion_for(tsr_module *module, const tsr_lion_options *options)
{
    return optimizer_for_module(module, make, options);
}
