#include "autograd/observer.h"

#include "base/error.h"

atomic_int observers;

static _Thread_local struct {
    tsr_trace_function *function;
    void *context;
    uint64_t calls;
    int hidden; /* depth */
} watch;
static _Thread_local int passes;

tsr_status tsr_trace_begin(tsr_trace_function *function, void *context)
{
    if (function == NULL || watch.function != NULL)
        return fail(TSR_INVALID_ARGUMENT, "tsr_trace_begin: %s",
                    function == NULL ? "the function is NULL" : "this thread is watched already");
    watch.function = function;
    watch.context = context;
    watch.calls = 0;
    watch.hidden = 0;
    atomic_fetch_add(&observers, 1);
    return TSR_OK;
}

void tsr_trace_end(void)
{
    if (watch.function == NULL)
        return;
    watch.function = NULL;
    atomic_fetch_sub(&observers, 1);
}

const char *tsr_trace_phase_name(tsr_trace_phase phase)
{
    switch (phase) {
    case TSR_TRACE_FORWARD: return "forward";
    case TSR_TRACE_BACKWARD: return "backward";
    case TSR_TRACE_ACCUMULATE: return "accumulate";
    case TSR_TRACE_UPDATE: return "update";
    }
    return "?";
}

bool observer_sees(void)
{
    return watch.function != NULL && watch.hidden == 0;
}

uint64_t observer_number(void)
{
    return ++watch.calls;
}

void observer_hide(void)
{
    watch.hidden++;
}

/* The function may end the watch, and begin another. */
void observer_show(const tsr_trace_event *event)
{
    if (event != NULL && watch.function != NULL)
        watch.function(watch.context, event);
    if (watch.hidden > 0)
        watch.hidden--;
}

void observer_pass_begin(void)
{
    passes++;
}

void observer_pass_end(void)
{
    passes--;
}

bool observer_in_pass(void)
{
    return passes > 0;
}
