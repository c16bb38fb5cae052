/* For tests: makes calls at one place of the library fail, by their number. A place that is not set costs a branch. */
#ifndef TESSERA_BASE_FAULT_H
#define TESSERA_BASE_FAULT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct fault {
    _Atomic int64_t left; /* calls that may still pass; -1: all */
    atomic_bool once;
    _Atomic int64_t struck;
} fault;

#define FAULT_INIT                                                                                                     \
    {                                                                                                                  \
        .left = -1                                                                                                     \
    }

/* Whether this call is to fail. */
bool fault_strikes_set(fault *f);
static inline bool fault_strikes(fault *f)
{
    return atomic_load_explicit(&f->left, memory_order_relaxed) >= 0 && fault_strikes_set(f);
}

/* The next `passes` calls of the process pass; then one fails, or all do. -1: none fails. */
void fault_set(fault *f, int64_t passes, bool once);
/* Calls that failed since it was set. */
int64_t fault_struck(fault *f);

#endif
