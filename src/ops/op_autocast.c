#include "ops/op_autocast.h"

#include "autograd/autocast.h"
#include "autograd/tape.h"
#include "tessera/ops.h"

static bool castable(const op_call *call, int i)
{
    const tensor *t = call->in[i];
    return t != NULL && (call->row->any_dtype >> i & 1) == 0 &&
           (t->dtype == TSR_F32 || t->dtype == TSR_F16 || t->dtype == TSR_BF16);
}

/* The dtype that holds all castable inputs. */
static tsr_dtype widest(const op_call *call)
{
    tsr_dtype dtype = TSR_DTYPE_COUNT;
    for (int i = 0; i < call->in_count; i++)
        if (castable(call, i))
            dtype = dtype == TSR_DTYPE_COUNT || dtype == call->in[i]->dtype ? call->in[i]->dtype : TSR_F32;
    return dtype;
}

static tsr_dtype wanted(const op_call *call)
{
    switch (call->row->autocast) {
    case AUTOCAST_LOW: return tsr_autocast_dtype();
    case AUTOCAST_F32: return TSR_F32;
    case AUTOCAST_WIDEST: return widest(call);
    case AUTOCAST_NONE: break;
    }
    return TSR_DTYPE_COUNT;
}

/* Operands of f64 among the castable ones would make the call fail either way: they are left to its own check. */
static bool has_f64(const op_call *call)
{
    for (int i = 0; i < call->in_count; i++)
        if (call->in[i] != NULL && (call->row->any_dtype >> i & 1) == 0 && call->in[i]->dtype == TSR_F64)
            return true;
    return false;
}

/* A reference to t in dtype. A parameter is cast once. */
static tensor *cast_of(tensor *t, tsr_dtype dtype)
{
    const bool keeps = t->requires_grad && t->node == NULL && t->dtype == TSR_F32;
    tensor *low = keeps ? autocast_kept(t) : NULL;
    if (low != NULL)
        return tsr_retain(low);
    /* Inside of a part that will be run again, the cast of a parameter is recorded all the same: the second run finds it. */
    const tape_mode mode = tape_mode_now();
    if (keeps)
        tape_mode_set((tape_mode){.no_grad = mode.no_grad});
    low = tsr_keep(tsr_cast(t, dtype));
    tape_mode_set(mode);
    if (low == NULL || (keeps && !autocast_keep(t, low))) {
        tsr_release(low);
        return NULL;
    }
    return low;
}

bool op_autocast(op_call *call, tensor **made)
{
    const tsr_dtype dtype = wanted(call);
    if (dtype == TSR_DTYPE_COUNT || has_f64(call) || (call->row->dtypes & DTYPE_BIT(dtype)) == 0)
        return true;
    for (int i = 0; i < call->in_count; i++) {
        if (!castable(call, i) || call->in[i]->dtype == dtype)
            continue;
        made[i] = cast_of(call->in[i], dtype);
        if (made[i] == NULL)
            return false;
        call->in[i] = made[i];
    }
    return true;
}

void op_autocast_release(tensor **made)
{
    for (int i = 0; i < OP_MAX_INPUTS; i++)
        tsr_release(made[i]);
}
