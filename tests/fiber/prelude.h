/* The kernel dialect for a work-group of fibers: the C prelude with threads. Only one group runs at a time, so its
 * local memory is static; it is poisoned before a group starts. */
#ifndef TESSERA_FIBER_PRELUDE_H
#define TESSERA_FIBER_PRELUDE_H

#include "backends/cpu/prelude.h"
#include "tests/fiber/fiber.h"

#undef LID
#define LID fiber_index
#undef BARRIER
#define BARRIER() fiber_barrier(__LINE__)
#undef LOCAL_
#define LOCAL_(type, id, n)                                                                                            \
    static type id[n];                                                                                                 \
    fiber_local(id, sizeof id);
/* Fused or not, a fiber must round as the C kernels do that it is compared with. */
#undef FMA_f32
#define FMA_f32(a, b, c) ((a) * (b) + (c))

#endif
