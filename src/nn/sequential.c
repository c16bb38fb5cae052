/* The container that applies modules one after the other. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "nn/module.h"
#include "tensor/scope.h"
#include "tessera/checkpoint.h"

/* A child's result; what else the child makes goes at once, but for what the tape holds. made: the result is new, and the caller's. */
static tsr_tensor *child_forward(const named_module *child, tsr_tensor *x, bool training, bool *made)
{
    *made = false;
    if (tsr_scope_begin() != TSR_OK)
        return NULL;
    tsr_tensor *y =
        child->recompute && training ? tsr_checkpoint_forward(child->module, x) : tsr_forward(child->module, x);
    if (y != NULL && scope_owns(y)) {
        tsr_retain(y);
        *made = true;
    }
    tsr_scope_end();
    return y;
}

static tsr_tensor *sequential_forward(void *context, tsr_module *self, tsr_tensor *x)
{
    (void)context;
    bool made = false;
    for (size_t i = 0; i < self->child_count && x != NULL; i++) {
        bool next_made;
        tsr_tensor *y = child_forward(&self->children[i], x, self->training, &next_made);
        if (y == x) /* a layer that gives back what it gets */
            continue;
        if (made)
            tsr_release(x);
        x = y;
        made = next_made;
    }
    return made ? tensor_to_scope(x) : x;
}

tsr_module *tsr_sequential_create(tsr_module *const *modules, size_t count)
{
    bool whole = true;
    for (size_t i = 0; i < count; i++)
        whole = whole && modules[i] != NULL;
    tsr_module *m = whole ? tsr_module_create("sequential", sequential_forward, NULL, NULL) : NULL;
    tsr_status status = TSR_OK;
    for (size_t i = 0; i < count; i++) {
        char name[24];
        snprintf(name, sizeof name, "%zu", i);
        if (m != NULL && status == TSR_OK)
            status = tsr_module_add_child(m, name, modules[i]);
        else
            tsr_module_destroy(modules[i]);
    }
    return m == NULL ? NULL : module_finished(m, status);
}

bool sequential_is(const tsr_module *m)
{
    return m != NULL && m->forward == sequential_forward;
}

tsr_status tsr_sequential_checkpoint(tsr_module *module, const bool *recompute, size_t count)
{
    if (!sequential_is(module) || (recompute != NULL && module->child_count != count))
        return fail(TSR_INVALID_ARGUMENT, "tsr_sequential_checkpoint: it takes a sequential module of %zu layers",
                    count);
    for (size_t i = 0; i < module->child_count; i++)
        module->children[i].recompute = recompute == NULL || recompute[i];
    return TSR_OK;
}
