/* The thread's autocast regions. */
#include "autograd/autocast.h"

#include "autograd/tape.h"
#include "base/error.h"
#include "base/memory.h"

enum { REGIONS_MAX = 16 };

typedef struct kept_cast {
    tensor *leaf, *low; /* references */
    unsigned version;   /* of the leaf as it was cast */
    bool recorded;
} kept_cast;

static _Thread_local struct {
    tsr_dtype dtypes[REGIONS_MAX];
    int depth, suspended;
    kept_cast *casts;
    size_t count, room;
} here;

static unsigned version_of(const tensor *t)
{
    return atomic_load_explicit(&t->storage->version, memory_order_relaxed);
}

tsr_status tsr_autocast_begin(tsr_dtype dtype)
{
    if (dtype != TSR_F16 && dtype != TSR_BF16 && dtype != TSR_F32)
        return fail(TSR_INVALID_ARGUMENT,
                    "tsr_autocast_begin: %s; f16 and bf16 can be cast to, and f32 means as they are",
                    tsr_dtype_name(dtype));
    if (here.depth == REGIONS_MAX)
        return fail(TSR_OUT_OF_RANGE, "tsr_autocast_begin: regions are nested more than %d deep", REGIONS_MAX);
    here.dtypes[here.depth++] = dtype;
    return TSR_OK;
}

void tsr_autocast_end(void)
{
    if (here.depth == 0 || --here.depth > 0)
        return;
    for (size_t i = 0; i < here.count; i++) {
        tsr_release(here.casts[i].leaf);
        tsr_release(here.casts[i].low);
    }
    host_free(here.casts);
    here.casts = NULL;
    here.count = here.room = 0;
}

tsr_dtype tsr_autocast_dtype(void)
{
    return here.depth > 0 ? here.dtypes[here.depth - 1] : TSR_F32;
}

void autocast_suspend(void)
{
    here.suspended++;
}

void autocast_resume(void)
{
    here.suspended--;
}

bool autocast_active(void)
{
    return here.suspended == 0 && tsr_autocast_dtype() != TSR_F32;
}

tensor *autocast_kept(const tensor *t)
{
    for (size_t i = 0; i < here.count; i++) {
        const kept_cast *c = &here.casts[i];
        if (c->leaf == t && c->version == version_of(t) && c->low->dtype == tsr_autocast_dtype() &&
            c->recorded == tape_recording())
            return c->low;
    }
    return NULL;
}

bool autocast_keep(tensor *t, tensor *low)
{
    if (here.count == here.room) {
        const size_t room = here.room == 0 ? 64 : here.room * 2;
        kept_cast *more = host_realloc_array(here.casts, room, sizeof *more);
        if (more == NULL)
            return false;
        here.casts = more;
        here.room = room;
    }
    here.casts[here.count++] = (kept_cast){
        .leaf = tsr_retain(t), .low = tsr_retain(low), .version = version_of(t), .recorded = tape_recording()};
    return true;
}
