#include "base/fault.h"

bool fault_strikes_set(fault *f)
{
    int64_t left = atomic_load(&f->left);
    while (left > 0)
        if (atomic_compare_exchange_weak(&f->left, &left, left - 1))
            return false;
    if (left < 0 || (atomic_load(&f->once) && !atomic_compare_exchange_strong(&f->left, &left, -1)))
        return false;
    atomic_fetch_add(&f->struck, 1);
    return true;
}

void fault_set(fault *f, int64_t passes, bool once)
{
    atomic_store(&f->left, -1);
    atomic_store(&f->once, once);
    atomic_store(&f->struck, 0);
    atomic_store(&f->left, passes < 0 ? -1 : passes);
}

int64_t fault_struck(fault *f)
{
    return atomic_load(&f->struck);
}
