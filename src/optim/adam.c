/* Adam and AdamW. */
#include "optim/optimizer.h"

static bool adam_update(tsr_optimizer *o, size_t i, const tensor *grad)
{
    const tensor *w = o->parameters[i];
    const tsr_adam_options *a = &o->adam.options;
    const struct {
        uint32_t n, per_group;
        float beta1, beta2, complement1, complement2, epsilon, weight_decay;
        uint32_t decoupled;
    } p = {(uint32_t)w->numel, OPTIMIZER_PER_GROUP, (float)a->beta1,   (float)a->beta2,
           o->complement1,     o->complement2,      (float)a->epsilon, (float)o->weight_decays[i],
           o->adam.decoupled};
    return LAUNCH(o->device, key_of("adam", TSR_F32), optimizer_groups(w), &p, tensor_binding(w), tensor_binding(grad),
                  tensor_binding(o->states[i * OPTIMIZER_STATES]), tensor_binding(o->states[i * OPTIMIZER_STATES + 1]),
                  tensor_binding(o->numbers));
}

static const optimizer_row adam_row = {.kind = "adam", .states = {"exp_avg", "exp_avg_sq"}, .update = adam_update};
static const optimizer_row adamw_row = {.kind = "adamw", .states = {"exp_avg", "exp_avg_sq"}, .update = adam_update};

static tsr_optimizer *create(const optimizer_row *row, tsr_tensor *const *parameters, size_t count,
                             const tsr_adam_options *options)
{
    tsr_adam_options a = options == NULL ? (tsr_adam_options){0} : *options;
    a.lr = a.lr == 0 ? 1e-3 : a.lr;
    a.beta1 = a.beta1 == 0 ? 0.9 : a.beta1;
    a.beta2 = a.beta2 == 0 ? 0.999 : a.beta2;
    a.epsilon = a.epsilon == 0 ? 1e-8 : a.epsilon;
    if (!optimizer_numbers_valid(row->kind, a.beta1, a.beta2, a.epsilon, a.weight_decay))
        return NULL;
    tsr_optimizer *o = optimizer_create(row, parameters, count, a.lr, a.weight_decay);
    if (o == NULL)
        return NULL;
    o->adam.options = a;
    o->adam.decoupled = row == &adamw_row;
    o->complement1 = (float)(1.0 - a.beta1);
    o->complement2 = (float)(1.0 - a.beta2);
    return o;
}

tsr_optimizer *tsr_adam_create(tsr_tensor *const *parameters, size_t count, const tsr_adam_options *options)
{
    return create(&adam_row, parameters, count, options);
}

tsr_optimizer *tsr_adamw_create(tsr_tensor *const *parameters, size_t count, const tsr_adam_options *options)
{
    return create(&adamw_row, parameters, count, options);
}

static tsr_optimizer *make_adam(tsr_tensor *const *parameters, size_t count, const void *options)
{
    return tsr_adam_create(parameters, count, options);
}

static tsr_optimizer *make_adamw(tsr_tensor *const *parameters, size_t count, const void *options)
{
    return tsr_adamw_create(parameters, count, options);
}

tsr_optimizer *tsr_adam_for(tsr_module *module, const tsr_adam_options *options)
{
    return optimizer_for_module(module, make_adam, options);
}

tsr_optimizer *tsr_adamw_for(tsr_module *module, const tsr_adam_options *options)
{
    return optimizer_for_module(module, make_adamw, options);
}
