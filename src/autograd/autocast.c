/* The thread's autocast regions. */
#include "autograd/autocast.h"

#include "autograd/tape.h"
#include "base/compiler.h"
#include "base/error.h"
#include "base/memory.h"

enum { REGIONS_MAX = COUNT_OF(((autocast_state *)0)->dtypes) };

typedef struct kept_cast {
    tensor *leaf, *low; /* references */
    unsigned version;   /* of the leaf as it was cast */
    bool recorded;
} kept_cast;

struct autocast_region {
    tsr_dtype dtype;
    size_t count;
    kept_cast casts[]; /* references */
};

static _Thread_local autocast_state here;

static unsigned version_of(const tensor *t)
{
    return atomic_load_explicit(&t->storage->version, memory_order_relaxed);
}

static void release_casts(const kept_cast *casts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        tsr_release(casts[i].leaf);
        tsr_release(casts[i].low);
    }
}

static void forget_casts(void)
{
    release_casts(here.casts, here.count);
    host_free(here.casts);
    here.casts = NULL;
    here.count = here.room = 0;
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
    forget_casts();
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
            c->recorded == (tape_mode_now().no_grad == 0))
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
    here.casts[here.count++] = (kept_cast){.leaf = tsr_retain(t),
                                           .low = tsr_retain(low),
                                           .version = version_of(t),
                                           .recorded = (tape_mode_now().no_grad == 0)};
    return true;
}

bool autocast_region_copy(autocast_region **region)
{
    *region = NULL;
    if (!autocast_active())
        return true;
    autocast_region *r = host_alloc_zeroed(1, sizeof *r + here.count * sizeof *r->casts);
    if (r == NULL)
        return false;
    r->dtype = tsr_autocast_dtype();
    r->count = here.count;
    for (size_t i = 0; i < r->count; i++) {
        r->casts[i] = here.casts[i];
        tsr_retain(r->casts[i].leaf);
        tsr_retain(r->casts[i].low);
    }
    *region = r;
    return true;
}

void autocast_region_release(autocast_region *r)
{
    if (r != NULL)
        release_casts(r->casts, r->count);
    host_free(r);
}

autocast_state autocast_enter(const autocast_region *r)
{
    const autocast_state before = here;
    here = (autocast_state){0};
    if (r != NULL)
        here.dtypes[here.depth++] = r->dtype;
    for (size_t i = 0; r != NULL && i < r->count; i++)
        autocast_keep(r->casts[i].leaf, r->casts[i].low); /* out of memory: it is cast once more */
    return before;
}

void autocast_leave(autocast_state before)
{
    forget_casts();
    here = before;
}
