/* Activation checkpointing: the forward run of a part, and what it takes to run it again. */
#include "autograd/checkpoint.h"

#include <string.h>

#include "autograd/autocast.h"
#include "autograd/tape.h"
#include "base/error.h"
#include "base/memory.h"
#include "tensor/device.h"
#include "tessera/checkpoint.h"

struct checkpoint {
    tsr_checkpoint_fn *fn;
    void *context;
    void (*release)(void *context);
    tsr_random_state random;
    autocast_region *region; /* NULL: it ran outside of any */
};

static _Thread_local int replays;

bool checkpoint_replaying(void)
{
    return replays > 0;
}

void checkpoint_release(checkpoint *part)
{
    if (part == NULL)
        return;
    if (part->release != NULL)
        part->release(part->context);
    autocast_region_release(part->region);
    host_free(part);
}

/* Every output is there, or false after fail(). */
static bool run(const checkpoint *part, tensor *const *in, int in_count, tensor **out, int out_count)
{
    if (part->fn(part->context, in, in_count, out, out_count) != TSR_OK)
        return false;
    for (int i = 0; i < out_count; i++)
        if (out[i] == NULL) {
            if (tsr_last_status() == TSR_OK)
                fail(TSR_INVALID_ARGUMENT, "tsr_checkpoint: output %d is NULL", i);
            return false;
        }
    return true;
}

bool checkpoint_replay(const checkpoint *part, tsr_device *device, tensor *const *in, int in_count, tensor **out,
                       int out_count)
{
    const tsr_random_state now = tsr_random_state_get(device);
    if (!device_random_rewind(device, &part->random))
        return false;
    replays++;
    const tape_mode mode = tape_mode_set((tape_mode){0});
    const autocast_state state = autocast_enter(part->region);
    const bool ok = run(part, in, in_count, out, out_count);
    autocast_leave(state);
    tape_mode_set(mode);
    replays--;
    return device_random_rewind(device, &now) && ok;
}

/* The first run: nothing is recorded, and what it makes besides its outputs goes. */
static bool run_first(const checkpoint *part, tensor *const *in, int in_count, tensor **out, int out_count,
                      bool *tracked)
{
    tensor *made[OP_MAX_OUTPUTS] = {NULL};
    if (tsr_scope_begin() != TSR_OK)
        return false;
    const tape_mode before = tape_mode_now();
    tape_mode_set((tape_mode){.no_grad = before.no_grad, .parts = before.parts + 1});
    bool ok = run(part, in, in_count, made, out_count);
    *tracked = tape_mode_set(before).met;
    if (*tracked && before.parts > 0)
        (void)tape_wants(); /* so has the part around this one */
    for (int i = 0; i < out_count && ok; i++)
        ok = (out[i] = tensor_alias(made[i])) != NULL;
    tsr_scope_end();
    return ok;
}

/* Takes the part over. */
static bool record(checkpoint *part, tsr_device *device, tensor *const *in, int in_count, tensor *const *out,
                   int out_count)
{
    op_record r = {.name = "checkpoint", .device = device, .part = part, .in_count = in_count, .out_count = out_count};
    bool ok = true;
    for (int i = 0; i < in_count; i++) {
        if (in[i] == NULL)
            continue;
        r.in_spec[i] = op_spec_of(in[i]);
        r.needs[i] = tensor_tracked(in[i]);
        r.in[i] = tensor_alias(in[i]);
        ok = ok && r.in[i] != NULL;
    }
    for (int i = 0; i < out_count; i++)
        r.out_spec[i] = op_spec_of(out[i]);
    if (ok)
        return tape_record(&r, in, out);
    op_record_release(&r);
    return false;
}

static bool arguments_valid(tsr_checkpoint_fn *fn, tensor *const *in, int in_count, tensor *const *out, int out_count)
{
    if (fn == NULL || in == NULL || out == NULL || in_count < 1 || in_count > OP_MAX_INPUTS || out_count < 1 ||
        out_count > OP_MAX_OUTPUTS) {
        fail(TSR_INVALID_ARGUMENT, "tsr_checkpoint takes a function, 1 to %d inputs and 1 to %d outputs", OP_MAX_INPUTS,
             OP_MAX_OUTPUTS);
        return false;
    }
    if (in[0] == NULL) {
        if (tsr_last_status() == TSR_OK)
            fail(TSR_INVALID_ARGUMENT, "tsr_checkpoint: input 0 is NULL");
        return false;
    }
    return true;
}

tsr_status tsr_checkpoint(tsr_checkpoint_fn *fn, void *context, void (*release)(void *context),
                          tsr_tensor *const *inputs, int input_count, tsr_tensor **outputs, int output_count)
{
    tensor *made[OP_MAX_OUTPUTS] = {NULL};
    checkpoint *part = host_alloc_zeroed(1, sizeof *part);
    if (part == NULL) {
        if (release != NULL)
            release(context);
        return tsr_last_status();
    }
    *part = (checkpoint){.fn = fn, .context = context, .release = release};
    if (!arguments_valid(fn, inputs, input_count, outputs, output_count)) {
        checkpoint_release(part);
        return tsr_last_status();
    }
    tsr_device *device = inputs[0]->storage->device;
    bool tracked = false;
    part->random = tsr_random_state_get(device);
    bool ok = run_first(part, inputs, input_count, made, output_count, &tracked) && autocast_region_copy(&part->region);
    if (!ok || !tracked || !tape_recording())
        checkpoint_release(part);
    else
        ok = record(part, device, inputs, input_count, made, output_count);
    for (int i = 0; i < output_count; i++) {
        if (ok)
            ok = (outputs[i] = tensor_to_scope(made[i])) != NULL;
        else
            tsr_release(made[i]);
    }
    return ok ? TSR_OK : tsr_last_status();
}
