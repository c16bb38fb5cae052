/* Who watches this thread's operators (tessera/trace.h). */
#ifndef TESSERA_AUTOGRAD_OBSERVER_H
#define TESSERA_AUTOGRAD_OBSERVER_H

#include <stdatomic.h>

#include "tessera/trace.h"

extern atomic_int observers; /* threads that are watched */
bool observer_sees(void);

/* Whether what happens now is shown. One branch where nobody watches. */
static inline bool observing(void)
{
    return atomic_load_explicit(&observers, memory_order_relaxed) != 0 && observer_sees();
}

/* The number of a call that is shown. */
uint64_t observer_number(void);
/* Until observer_show nothing is shown: the operator's own work. Only while observing(). */
void observer_hide(void);
/* Ends that, and shows the event; NULL: it failed. */
void observer_show(const tsr_trace_event *event);

/* Around a backward pass: operators called between are the tape's own. */
void observer_pass_begin(void);
void observer_pass_end(void);
bool observer_in_pass(void);

#endif
