/* The gradient scaler: a scale and its bookkeeping in device memory, and a finding for each optimizer. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "optim/optimizer.h"
#include "tensor/device.h"
#include "tessera/amp.h"

enum { OPTIMIZERS_MAX = 16 };

struct tsr_grad_scaler {
    tsr_device *device;
    tsr_grad_scaler_options options;
    tensor *scale;             /* f32 [1] */
    tensor *tracker, *skipped; /* i32 [1] */
    tensor *found;             /* i32 [OPTIMIZERS_MAX]: whether an optimizer's gradients were not all finite */
    tensor *groups;            /* i32: the same for each work-group of the largest optimizer */
    struct {
        const tsr_optimizer *optimizer;
        bool stepped;
    } seen[OPTIMIZERS_MAX]; /* since the last update */
    int count;
};

void tsr_grad_scaler_destroy(tsr_grad_scaler *s)
{
    if (s == NULL)
        return;
    tsr_release(s->scale);
    tsr_release(s->tracker);
    tsr_release(s->skipped);
    tsr_release(s->found);
    tsr_release(s->groups);
    host_free(s);
}

static bool options_valid(const tsr_grad_scaler_options *o)
{
    if (o->initial_scale > 0 && isfinite((float)o->initial_scale) && o->growth_factor > 1 &&
        isfinite((float)o->growth_factor) && o->backoff_factor > 0 && o->backoff_factor < 1 &&
        o->growth_interval >= 1 && o->growth_interval <= INT32_MAX)
        return true;
    fail(TSR_OUT_OF_RANGE,
         "grad_scaler: scale %g must be above 0, growth %g above 1, backoff %g in (0, 1), the interval %lld in [1, "
         "2^31)",
         o->initial_scale, o->growth_factor, o->backoff_factor, (long long)o->growth_interval);
    return false;
}

tsr_grad_scaler *tsr_grad_scaler_create(tsr_device *device, const tsr_grad_scaler_options *options)
{
    tsr_grad_scaler_options o = options == NULL ? (tsr_grad_scaler_options){0} : *options;
    o.initial_scale = o.initial_scale == 0 ? 65536 : o.initial_scale;
    o.growth_factor = o.growth_factor == 0 ? 2 : o.growth_factor;
    o.backoff_factor = o.backoff_factor == 0 ? 0.5 : o.backoff_factor;
    o.growth_interval = o.growth_interval == 0 ? 2000 : o.growth_interval;
    if (device == NULL) {
        fail(TSR_INVALID_ARGUMENT, "tsr_grad_scaler_create: the device is NULL");
        return NULL;
    }
    tsr_grad_scaler *s = options_valid(&o) ? host_alloc_zeroed(1, sizeof *s) : NULL;
    if (s == NULL)
        return NULL;
    const int64_t one = 1, most = OPTIMIZERS_MAX;
    s->device = device;
    s->options = o;
    const memory_label outer = memory_label_open(TSR_MEMORY_STATE, "gradient scaler");
    s->scale = tsr_keep(tsr_full(device, TSR_F32, 1, &one, o.initial_scale));
    s->tracker = tsr_keep(tsr_zeros(device, TSR_I32, 1, &one));
    s->skipped = tsr_keep(tsr_zeros(device, TSR_I32, 1, &one));
    s->found = tsr_keep(tsr_zeros(device, TSR_I32, 1, &most));
    memory_label_close(outer);
    if (s->scale == NULL || s->tracker == NULL || s->skipped == NULL || s->found == NULL) {
        tsr_grad_scaler_destroy(s);
        return NULL;
    }
    return s;
}

tsr_tensor *tsr_grad_scaler_scale(tsr_grad_scaler *s, tsr_tensor *loss)
{
    if (s == NULL || loss == NULL)
        return NULL;
    return tsr_mul(tsr_cast(loss, TSR_F32), tsr_reshape(s->scale, 0, NULL));
}

/* The place of an optimizer among those seen since the last update; -1 after fail(). */
static int place_of(tsr_grad_scaler *s, const tsr_optimizer *optimizer, bool *fresh)
{
    for (int i = 0; i < s->count; i++)
        if (s->seen[i].optimizer == optimizer) {
            *fresh = false;
            return i;
        }
    if (s->count == OPTIMIZERS_MAX) {
        fail(TSR_OUT_OF_RANGE, "grad_scaler: more than %d optimizers since the last tsr_grad_scaler_update",
             OPTIMIZERS_MAX);
        return -1;
    }
    if (optimizer->device != s->device) {
        fail(TSR_INVALID_ARGUMENT, "grad_scaler: the optimizer's parameters are on %s, the scaler on %s",
             tsr_device_id(optimizer->device), tsr_device_id(s->device));
        return -1;
    }
    *fresh = true;
    s->seen[s->count].optimizer = optimizer;
    s->seen[s->count].stepped = false;
    return s->count++;
}

static hal_binding found_at(const tsr_grad_scaler *s, int place)
{
    hal_binding b = tensor_binding(s->found);
    b.offset += (size_t)place * sizeof(int32_t);
    b.length = sizeof(int32_t);
    return b;
}

/* Room for a finding of every work-group. */
static bool make_groups(tsr_grad_scaler *s, const tsr_optimizer *o)
{
    int64_t count = 0;
    for (size_t i = 0; i < o->count; i++)
        count += optimizer_groups(o->parameters[i]).x;
    if (s->groups != NULL && s->groups->numel >= count)
        return true;
    tsr_release(s->groups);
    s->groups = tsr_keep(tsr_empty(s->device, TSR_I32, 1, &count));
    if (s->groups != NULL)
        tensor_label(s->groups, TSR_MEMORY_STATE, "gradient scaler");
    return s->groups != NULL;
}

static bool unscale(tsr_grad_scaler *s, const tsr_optimizer *o, int place)
{
    uint32_t first = 0;
    for (size_t i = 0; i < o->count; i++) {
        const tensor *g = o->parameters[i]->grad;
        if (g == NULL || g->numel == 0)
            continue;
        const struct {
            uint32_t n, per_group, first;
        } p = {(uint32_t)g->numel, OPTIMIZER_PER_GROUP, first};
        const grid groups = optimizer_groups(g);
        if (!LAUNCH(s->device, key_of("grad_unscale", TSR_F32), groups, &p, tensor_binding(g), tensor_binding(s->scale),
                    tensor_binding(s->groups)))
            return false;
        atomic_fetch_add_explicit(&g->storage->version, 1, memory_order_relaxed);
        first += groups.x;
    }
    return LAUNCH(s->device, key_of("grad_found", TSR_F32), ((grid){1, 1, 1}), &first, tensor_binding(s->groups),
                  found_at(s, place));
}

/* The place of an optimizer whose gradients are unscaled, by this call if it is `fresh`; -1 after fail(). */
static int unscaled(tsr_grad_scaler *s, const tsr_optimizer *o, bool *fresh)
{
    const int place = place_of(s, o, fresh);
    if (place < 0 || !*fresh || (make_groups(s, o) && unscale(s, o, place)))
        return place;
    s->count--;
    return -1;
}

tsr_status tsr_grad_scaler_unscale(tsr_grad_scaler *s, tsr_optimizer *o)
{
    bool fresh;
    if (s == NULL || o == NULL)
        return fail(TSR_INVALID_ARGUMENT, "tsr_grad_scaler_unscale: the %s is NULL",
                    s == NULL ? "scaler" : "optimizer");
    if (unscaled(s, o, &fresh) < 0)
        return tsr_last_status();
    return fresh ? TSR_OK
                 : fail(TSR_INVALID_ARGUMENT, "tsr_grad_scaler_unscale: these gradients were unscaled already; "
                                              "tsr_grad_scaler_update ends a step, tsr_grad_scaler_abandon one that "
                                              "failed");
}

tsr_status tsr_grad_scaler_step(tsr_grad_scaler *s, tsr_optimizer *o)
{
    if (s == NULL || o == NULL)
        return fail(TSR_INVALID_ARGUMENT, "tsr_grad_scaler_step: the %s is NULL", s == NULL ? "scaler" : "optimizer");
    bool fresh;
    const int place = unscaled(s, o, &fresh);
    if (place < 0)
        return tsr_last_status();
    if (s->seen[place].stepped)
        return fail(TSR_INVALID_ARGUMENT,
                    "tsr_grad_scaler_step: the optimizer was stepped already; tsr_grad_scaler_update ends a step");
    s->seen[place].stepped = true;
    return optimizer_step_unless(o, found_at(s, place)) ? TSR_OK : tsr_last_status();
}

tsr_status tsr_grad_scaler_update(tsr_grad_scaler *s)
{
    if (s == NULL)
        return fail(TSR_INVALID_ARGUMENT, "tsr_grad_scaler_update: the scaler is NULL");
    const struct {
        float growth, backoff;
        uint32_t interval, optimizers;
    } p = {(float)s->options.growth_factor, (float)s->options.backoff_factor, (uint32_t)s->options.growth_interval,
           (uint32_t)s->count};
    if (!LAUNCH(s->device, key_of("grad_scale_update", TSR_F32), ((grid){1, 1, 1}), &p, tensor_binding(s->found),
                tensor_binding(s->scale), tensor_binding(s->tracker), tensor_binding(s->skipped)))
        return tsr_last_status();
    s->count = 0;
    return TSR_OK;
}

void tsr_grad_scaler_abandon(tsr_grad_scaler *s)
{
    if (s != NULL)
        s->count = 0; /* each place's finding is written anew when its gradients are unscaled */
}

tsr_tensor *tsr_grad_scaler_state(tsr_grad_scaler *s, const char *name)
{
    if (s == NULL || name == NULL)
        return NULL;
    tensor *const states[] = {s->scale, s->tracker, s->skipped};
    static const char *const names[] = {"scale", "growth_tracker", "skipped"};
    for (int i = 0; i < 3; i++)
        if (strcmp(name, names[i]) == 0)
            return states[i];
    fail(TSR_NOT_FOUND, "a gradient scaler has no state '%s'", name);
    return NULL;
}
