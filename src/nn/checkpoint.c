/* Checkpointed modules. */
#include "tessera/checkpoint.h"
#include "base/clock.h"
#include "base/error.h"
#include "nn/module.h"
#include "tensor/tensor.h"
#include "tessera/memory.h"

static tsr_status forward(void *context, tsr_tensor *const *inputs, int input_count, tsr_tensor **outputs,
                          int output_count)
{
    (void)input_count;
    (void)output_count;
    outputs[0] = tsr_forward(context, inputs[0]);
    return outputs[0] != NULL ? TSR_OK : tsr_last_status();
}

tsr_tensor *tsr_checkpoint_forward(tsr_module *module, tsr_tensor *x)
{
    tsr_tensor *y = NULL;
    if (module == NULL || x == NULL || tsr_checkpoint(forward, module, NULL, &x, 1, &y, 1) != TSR_OK)
        return NULL;
    return y;
}

static tsr_status timed_forward(tsr_module *child, tsr_tensor *x, tsr_layer_cost *cost, tsr_tensor **y)
{
    tsr_device *device = tsr_device_of(x);
    tsr_memory_statistics before, after;
    tsr_status status = tsr_scope_begin();
    if (status != TSR_OK)
        return status;
    status = tsr_device_sync(device);
    if (status == TSR_OK)
        status = tsr_memory_stats(device, &before);
    const double begin = clock_seconds();
    *y = status == TSR_OK ? tsr_retain(tsr_forward(child, x)) : NULL;
    tsr_scope_end(); /* what stays now, the tape holds */
    if (status == TSR_OK)
        status = *y == NULL ? tsr_last_status() : tsr_device_sync(device);
    cost->seconds = clock_seconds() - begin;
    if (status == TSR_OK)
        status = tsr_memory_stats(device, &after);
    if (status != TSR_OK)
        return status;
    const uint64_t held = after.allocated_bytes - before.allocated_bytes;
    cost->output_bytes = (uint64_t)(*y)->numel * tsr_dtype_size((*y)->dtype);
    cost->saved_bytes = held > cost->output_bytes ? held - cost->output_bytes : 0;
    return TSR_OK;
}

tsr_status tsr_sequential_costs(tsr_module *module, tsr_tensor *x, tsr_layer_cost *layers, size_t count)
{
    if (x == NULL || layers == NULL || !sequential_is(module) || module->child_count != count)
        return fail(TSR_INVALID_ARGUMENT,
                    "tsr_sequential_costs: it takes a sequential module of %zu layers and an input", count);
    tsr_status status = TSR_OK;
    tsr_tensor *held = tsr_retain(x);
    for (size_t i = 0; i < count && status == TSR_OK; i++) {
        tsr_tensor *y = NULL;
        for (int pass = 0; pass < 2 && status == TSR_OK; pass++) {
            tsr_release(y);
            y = NULL;
            status = timed_forward(module->children[i].module, held, &layers[i], &y);
        }
        tsr_release(held);
        held = y;
    }
    tsr_release(held);
    return status;
}
