/* A thread's stack of scopes; each is a list of tensors, one reference each. */
#include "tensor/scope.h"

#include "base/error.h"
#include "base/memory.h"

struct scope {
    struct scope *outer;
    tensor **tensors; /* NULL where one was taken out */
    size_t count, capacity;
};

static _Thread_local struct scope *innermost;

tsr_status tsr_scope_begin(void)
{
    struct scope *s = host_alloc_zeroed(1, sizeof *s);
    if (s == NULL)
        return tsr_last_status();
    s->outer = innermost;
    innermost = s;
    return TSR_OK;
}

tsr_status tsr_scope_end(void)
{
    struct scope *s = innermost;
    if (s == NULL)
        return fail(TSR_INVALID_ARGUMENT, "tsr_scope_end: this thread has no open scope");
    innermost = s->outer;
    for (size_t i = s->count; i-- > 0;) {
        tensor *t = s->tensors[i];
        if (t != NULL) {
            t->scope = NULL;
            tsr_release(t);
        }
    }
    host_free(s->tensors);
    host_free(s);
    return TSR_OK;
}

bool scope_is_open(void)
{
    return innermost != NULL;
}

bool scope_owns(const tensor *t)
{
    return innermost != NULL && t->scope == innermost;
}

bool scope_add(tensor *t)
{
    struct scope *s = innermost;
    tensor **grown = host_grown(s->tensors, s->count, &s->capacity, sizeof *grown);
    if (grown == NULL) {
        tsr_release(t);
        return false;
    }
    s->tensors = grown;
    t->scope = s;
    t->scope_slot = s->count;
    s->tensors[s->count++] = t;
    return true;
}

void scope_remove(tensor *t)
{
    t->scope->tensors[t->scope_slot] = NULL;
    t->scope = NULL;
}

tensor *tensor_to_scope(tensor *t)
{
    if (t == NULL || innermost == NULL || t->scope != NULL)
        return t;
    return scope_add(t) ? t : NULL;
}
