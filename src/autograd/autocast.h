/* Which dtype operators are asked for on this thread, and the parameters that were cast to it. ops/op_autocast.c casts. */
#ifndef TESSERA_AUTOGRAD_AUTOCAST_H
#define TESSERA_AUTOGRAD_AUTOCAST_H

#include "tensor/tensor.h"
#include "tessera/amp.h"

/* Between these, operators run as they are called: what an operator does inside itself, and the backward pass. They nest. */
void autocast_suspend(void);
void autocast_resume(void);

bool autocast_active(void);

/* The innermost region with the casts made in it so far, to be entered again. *region is NULL outside of any. False when out of memory. */
typedef struct autocast_region autocast_region;
bool autocast_region_copy(autocast_region **region);
void autocast_region_release(autocast_region *region); /* NULL is fine */

/* All that a thread's regions are; what autocast_enter puts aside and autocast_leave restores. */
typedef struct autocast_state {
    tsr_dtype dtypes[16];
    int depth, suspended;
    struct kept_cast *casts;
    size_t count, room;
} autocast_state;
autocast_state autocast_enter(const autocast_region *region);
void autocast_leave(autocast_state state);

/* The cast made of leaf t before, borrowed: NULL if there is none, or t was written to since. */
tensor *autocast_kept(const tensor *t);
/* Keeps `low`, the cast of leaf t, until the outermost region ends. False when out of memory. */
bool autocast_keep(tensor *t, tensor *low);

#endif
