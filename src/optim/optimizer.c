/* Making, stepping and destroying any optimizer. */
#include "optim/optimizer.h"

#include <math.h>
#include <string.h>

#include "autograd/observer.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/profile.h"
#include "tensor/device.h"
#include "tessera/autograd.h"

void tsr_optimizer_destroy(tsr_optimizer *o)
{
    if (o == NULL)
        return;
    for (size_t i = 0; o->parameters != NULL && i < o->count; i++)
        tsr_release(o->parameters[i]);
    for (size_t i = 0; o->states != NULL && i < o->count * OPTIMIZER_STATES; i++)
        tsr_release(o->states[i]);
    tsr_release(o->step);
    tsr_release(o->numbers);
    tsr_release(o->never);
    tsr_release(o->scratch);
    host_free(o->parameters);
    host_free(o->states);
    host_free(o->made);
    host_free(o->weight_decays);
    host_free(o);
}

static bool lr_valid(const char *kind, double lr)
{
    if (lr >= 0 && isfinite(lr))
        return true;
    fail(TSR_OUT_OF_RANGE, "%s: the learning rate is %g; it must be finite and not negative", kind, lr);
    return false;
}

static bool parameters_valid(const optimizer_row *row, tsr_tensor *const *parameters, size_t count)
{
    if (count == 0 || parameters == NULL) {
        fail(TSR_INVALID_ARGUMENT, "%s: there are no parameters", row->kind);
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        const tensor *p = parameters[i];
        if (p == NULL) {
            fail(TSR_INVALID_ARGUMENT, "%s: parameter %zu is NULL", row->kind, i);
            return false;
        }
        if (p->dtype != TSR_F32 || !p->requires_grad || !tsr_is_contiguous(p) || p->numel > UINT32_MAX ||
            p->storage->device != parameters[0]->storage->device) {
            fail(TSR_INVALID_ARGUMENT,
                 "%s: parameter %zu is %s; parameters are contiguous f32 leaves that require "
                 "gradients, all on one device",
                 row->kind, i, tensor_text(p));
            return false;
        }
    }
    return true;
}

static unsigned state_version(const tsr_optimizer *o, size_t i)
{
    const tensor *state = o->states[i * OPTIMIZER_STATES];
    return state == NULL ? 0 : atomic_load_explicit(&state->storage->version, memory_order_relaxed);
}

bool optimizer_state_is_new(const tsr_optimizer *o, size_t i)
{
    return state_version(o, i) == o->made[i];
}

bool optimizer_state_fill(tsr_optimizer *o, double value)
{
    for (size_t i = 0; i < o->count; i++) {
        if (tsr_fill(o->states[i * OPTIMIZER_STATES], value) != TSR_OK)
            return false;
        o->made[i] = state_version(o, i);
    }
    return true;
}

bool optimizer_numbers_valid(const char *kind, double beta1, double beta2, double epsilon, double weight_decay)
{
    if (beta1 > 0 && beta1 < 1 && beta2 > 0 && beta2 < 1 && epsilon > 0 && weight_decay >= 0 && isfinite(weight_decay))
        return true;
    fail(TSR_OUT_OF_RANGE, "%s: betas %g and %g must lie in (0, 1), epsilon %g above 0, weight decay %g not below 0",
         kind, beta1, beta2, epsilon, weight_decay);
    return false;
}

grid optimizer_groups(const tensor *t)
{
    return (grid){(uint32_t)((t->numel + OPTIMIZER_PER_GROUP - 1) / OPTIMIZER_PER_GROUP), 1, 1};
}

static tsr_optimizer *create(const optimizer_row *row, tsr_tensor *const *parameters, size_t count, double lr,
                             double weight_decay)
{
    if (!lr_valid(row->kind, lr) || !parameters_valid(row, parameters, count))
        return NULL;
    tsr_optimizer *o = host_alloc_zeroed(1, sizeof *o);
    if (o == NULL)
        return NULL;
    o->row = row;
    o->device = parameters[0]->storage->device;
    o->count = count;
    o->lr = lr;
    o->parameters = host_alloc_zeroed(count, sizeof *o->parameters);
    o->states = host_alloc_zeroed(count * OPTIMIZER_STATES, sizeof *o->states);
    o->made = host_alloc_zeroed(count, sizeof *o->made);
    o->weight_decays = host_alloc_zeroed(count, sizeof *o->weight_decays);
    o->step = tsr_keep(tsr_zeros(o->device, TSR_I32, 1, (int64_t[]){1}));
    o->numbers = tsr_keep(tsr_zeros(o->device, TSR_F32, 1, (int64_t[]){5}));
    o->never = tsr_keep(tsr_zeros(o->device, TSR_I32, 1, (int64_t[]){1}));
    if (o->parameters == NULL || o->states == NULL || o->made == NULL || o->weight_decays == NULL || o->step == NULL ||
        o->numbers == NULL || o->never == NULL || tsr_optimizer_set_lr(o, lr) != TSR_OK) {
        tsr_optimizer_destroy(o);
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        o->parameters[i] = tsr_retain(parameters[i]);
        o->weight_decays[i] = weight_decay;
    }
    /* All state at once: a parameter's first gradient then costs no allocation in a step. */
    for (size_t i = 0; i < count * OPTIMIZER_STATES; i++) {
        const tensor *p = parameters[i / OPTIMIZER_STATES];
        if (row->states[i % OPTIMIZER_STATES] == NULL)
            continue;
        o->states[i] = tsr_keep(tsr_zeros(o->device, TSR_F32, p->rank, p->shape));
        if (o->states[i] == NULL) {
            tsr_optimizer_destroy(o);
            return NULL;
        }
    }
    for (size_t i = 0; i < count; i++)
        o->made[i] = state_version(o, i);
    return o;
}

tsr_optimizer *optimizer_create(const optimizer_row *row, tsr_tensor *const *parameters, size_t count, double lr,
                                double weight_decay)
{
    const memory_label outer = memory_label_open(TSR_MEMORY_STATE, "optimizer state");
    tsr_optimizer *o = create(row, parameters, count, lr, weight_decay);
    memory_label_close(outer);
    return o;
}

tsr_optimizer *optimizer_for_module(tsr_module *module, optimizer_make *make, const void *options)
{
    if (module == NULL)
        return NULL;
    const size_t count = tsr_module_parameter_count(module);
    tsr_tensor **parameters = host_alloc_zeroed(count, sizeof *parameters);
    if (parameters == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++)
        parameters[i] = tsr_module_parameter(module, i, NULL, 0);
    tsr_optimizer *o = make(parameters, count, options);
    host_free(parameters);
    return o;
}

static bool tick(tsr_optimizer *o, hal_binding skips)
{
    const struct {
        float complement1, complement2;
    } p = {o->complement1, o->complement2};
    return LAUNCH(o->device, key_of("optimizer_tick", TSR_F32), ((grid){1, 1, 1}), &p, tensor_binding(o->step),
                  tensor_binding(o->numbers), skips);
}

static void show(const tsr_optimizer *o, size_t i)
{
    tensor *const *states = &o->states[i * OPTIMIZER_STATES];
    tensor *outputs[1 + OPTIMIZER_STATES] = {o->parameters[i]};
    int count = 1;
    for (int k = 0; k < OPTIMIZER_STATES; k++)
        if (states[k] != NULL)
            outputs[count++] = states[k];
    const tsr_attr lr = {.name = "lr", .kind = TSR_ATTR_FLOAT, .f = o->lr};
    observer_hide();
    observer_show(&(tsr_trace_event){.phase = TSR_TRACE_UPDATE,
                                     .name = o->row->kind,
                                     .device = o->device,
                                     .attributes = &lr,
                                     .attribute_count = 1,
                                     .inputs = &o->parameters[i]->grad,
                                     .input_count = 1,
                                     .outputs = outputs,
                                     .output_count = count});
}

static bool update_all(tsr_optimizer *o)
{
    for (size_t i = 0; i < o->count; i++) {
        tensor *p = o->parameters[i];
        if (p->grad == NULL || p->numel == 0)
            continue;
        if (!o->row->update(o, i, p->grad)) {
            fail_prefix("%s: parameter %zu", o->row->kind, i);
            return false;
        }
        atomic_fetch_add_explicit(&p->storage->version, 1, memory_order_relaxed);
        for (size_t k = i * OPTIMIZER_STATES; k < (i + 1) * OPTIMIZER_STATES; k++)
            if (o->states[k] != NULL)
                atomic_fetch_add_explicit(&o->states[k]->storage->version, 1, memory_order_relaxed);
        if (observing())
            show(o, i);
    }
    return true;
}

tsr_status tsr_optimizer_step(tsr_optimizer *o)
{
    if (o == NULL)
        return fail(TSR_INVALID_ARGUMENT, "tsr_optimizer_step: the optimizer is NULL");
    return optimizer_step_unless(o, tensor_binding(o->never)) ? TSR_OK : tsr_last_status();
}

bool optimizer_step_unless(tsr_optimizer *o, hal_binding skips)
{
    profile_span phase, kind;
    profile_open(&phase, PROFILE_PHASE, "optimizer");
    profile_open(&kind, PROFILE_MODULE, o->row->kind);
    const memory_label outer = memory_label_open(TSR_MEMORY_UPDATE, o->row->kind);
    const bool ok = tick(o, skips) && update_all(o);
    memory_label_close(outer);
    profile_close(&kind);
    profile_close(&phase);
    return ok;
}

void tsr_optimizer_clear_grad(tsr_optimizer *o)
{
    for (size_t i = 0; o != NULL && i < o->count; i++)
        tsr_clear_grad(o->parameters[i]);
}

tsr_status tsr_optimizer_set_lr(tsr_optimizer *o, double lr)
{
    if (o == NULL || !lr_valid(o->row->kind, lr))
        return o == NULL ? TSR_INVALID_ARGUMENT : tsr_last_status();
    const float value = (float)lr;
    const hal_binding b = tensor_binding(o->numbers);
    const tsr_status status = hal_buffer_write(o->device->queue, b.buffer, b.offset, &value, sizeof value);
    if (status == TSR_OK)
        o->lr = lr;
    return status;
}

double tsr_optimizer_lr(const tsr_optimizer *o)
{
    return o == NULL ? 0 : o->lr;
}

tsr_status tsr_optimizer_set_weight_decay(tsr_optimizer *o, size_t index, double weight_decay)
{
    if (o == NULL)
        return fail(TSR_INVALID_ARGUMENT, "tsr_optimizer_set_weight_decay: the optimizer is NULL");
    if (index >= o->count)
        return fail(TSR_OUT_OF_RANGE, "%s: parameter %zu has no weight decay: there are %zu parameters", o->row->kind,
                    index, o->count);
    if (!(weight_decay >= 0) || !isfinite(weight_decay))
        return fail(TSR_OUT_OF_RANGE, "%s: the weight decay is %g; it must be finite and not negative", o->row->kind,
                    weight_decay);
    o->weight_decays[index] = weight_decay;
    return TSR_OK;
}

double tsr_optimizer_weight_decay(const tsr_optimizer *o, size_t index)
{
    return o == NULL || index >= o->count ? 0 : o->weight_decays[index];
}

tsr_status tsr_optimizer_decay_matrices_only(tsr_optimizer *o)
{
    if (o == NULL)
        return fail(TSR_INVALID_ARGUMENT, "tsr_optimizer_decay_matrices_only: the optimizer is NULL");
    for (size_t i = 0; i < o->count; i++)
        if (o->parameters[i]->rank < 2)
            o->weight_decays[i] = 0;
    return TSR_OK;
}

tsr_tensor *tsr_optimizer_state(tsr_optimizer *o, size_t index, const char *name)
{
    if (o == NULL || name == NULL)
        return NULL;
    if (strcmp(name, "step") == 0)
        return o->step;
    for (int k = 0; k < OPTIMIZER_STATES && index < o->count; k++)
        if (o->row->states[k] != NULL && strcmp(o->row->states[k], name) == 0 &&
            o->states[index * OPTIMIZER_STATES + (size_t)k] != NULL)
            return o->states[index * OPTIMIZER_STATES + (size_t)k];
    fail(TSR_NOT_FOUND, "%s has no state '%s' for parameter %zu", o->row->kind, name, index);
    return NULL;
}
