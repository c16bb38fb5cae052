/* LAMB: Adam's change, scaled for each parameter by the ratio of its norm to the change's. */
#include "optim/optimizer.h"

static hal_binding floats_at(const tensor *t, size_t first, size_t count)
{
    hal_binding b = tensor_binding(t);
    b.offset += first * sizeof(float);
    b.length = count * sizeof(float);
    return b;
}

static bool lamb_update(tsr_optimizer *o, size_t i, const tensor *grad)
{
    const tensor *w = o->parameters[i], *m = o->states[i * OPTIMIZER_STATES], *v = o->states[i * OPTIMIZER_STATES + 1];
    const tsr_lamb_options *a = &o->lamb;
    const grid groups = optimizer_groups(w);
    const struct {
        uint32_t n, per_group;
        float beta1, beta2, complement1, complement2, epsilon, weight_decay;
    } moments = {(uint32_t)w->numel, OPTIMIZER_PER_GROUP, (float)a->beta1,   (float)a->beta2,
                 o->complement1,     o->complement2,      (float)a->epsilon, (float)o->weight_decays[i]};
    const struct {
        uint32_t groups;
    } ratio = {groups.x};
    const struct {
        uint32_t n, per_group;
        float epsilon, weight_decay;
    } apply = {(uint32_t)w->numel, OPTIMIZER_PER_GROUP, (float)a->epsilon, (float)o->weight_decays[i]};
    const hal_binding quotient = floats_at(o->scratch, 0, 1), sums = floats_at(o->scratch, 1, 2 * (size_t)groups.x);
    return LAUNCH(o->device, key_of("lamb_moments", TSR_F32), groups, &moments, tensor_binding(w), tensor_binding(grad),
                  tensor_binding(m), tensor_binding(v), tensor_binding(o->numbers), sums) &&
           LAUNCH(o->device, key_of("lamb_ratio", TSR_F32), ((grid){1, 1, 1}), &ratio, sums, quotient) &&
           LAUNCH(o->device, key_of("lamb_apply", TSR_F32), groups, &apply, tensor_binding(w), tensor_binding(m),
                  tensor_binding(v), tensor_binding(o->numbers), quotient);
}

static const optimizer_row row = {.kind = "lamb", .states = {"exp_avg", "exp_avg_sq"}, .update = lamb_update};

tsr_optimizer *tsr_lamb_create(tsr_tensor *const *parameters, size_t count, const tsr_lamb_options *options)
{
    tsr_lamb_options a = options == NULL ? (tsr_lamb_options){0} : *options;
    a.lr = a.lr == 0 ? 1e-3 : a.lr;
    a.beta1 = a.beta1 == 0 ? 0.9 : a.beta1;
    a.beta2 = a.beta2 == 0 ? 0.999 : a.beta2;
    a.epsilon = a.epsilon == 0 ? 1e-6 : a.epsilon;
    if (!optimizer_numbers_valid(row.kind, a.beta1, a.beta2, a.epsilon, a.weight_decay))
        return NULL;
    tsr_optimizer *o = optimizer_create(&row, parameters, count, a.lr, a.weight_decay);
    if (o == NULL)
        return NULL;
    int64_t most = 0;
    for (size_t i = 0; i < count; i++)
        most = parameters[i]->numel > most ? parameters[i]->numel : most;
    const int64_t room = 1 + 2 * ((most + OPTIMIZER_PER_GROUP - 1) / OPTIMIZER_PER_GROUP);
    o->scratch = tsr_keep(tsr_empty(o->device, TSR_F32, 1, &room));
    if (o->scratch == NULL) {
        tsr_optimizer_destroy(o);
        return NULL;
    }
    o->lamb = a;
    o->complement1 = (float)(1 - a.beta1);
    o->complement2 = (float)(1 - a.beta2);
    return o;
}

static tsr_optimizer *make(tsr_tensor *const *parameters, size_t count, const void *options)
{
    return tsr_lamb_create(parameters, count, options);
}

tsr_optimizer *tsr_lamb_for(tsr_module *module, const tsr_lamb_options *options)
{
    return optimizer_for_module(module, make, options);
}
