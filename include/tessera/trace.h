/* Watching operators: a function that is called after each operator, each backward function and each update of a parameter.
 *
 * For recordings of a training step (`tessera train --trace`, docs/tracing.md), profilers and debuggers. Nothing watches by default, and then
 * a call of an operator costs one branch more. */
#ifndef TESSERA_TRACE_H
#define TESSERA_TRACE_H

#include "tessera/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum tsr_trace_phase {
    TSR_TRACE_FORWARD,    /* an operator ran */
    TSR_TRACE_BACKWARD,   /* its backward function ran: inputs are d / d results, outputs are d / d operands */
    TSR_TRACE_ACCUMULATE, /* within a backward pass, `add` summed two gradients of one tensor */
    TSR_TRACE_UPDATE /* an optimizer changed a parameter: inputs are its gradient, outputs the parameter and its state */
} tsr_trace_phase;

/* What was done. All of it lives until the function returns, tensors too unless they are retained; an operator that works in place
 * changes a tensor later, so values that are to be kept are read or cloned at once. */
typedef struct tsr_trace_event {
    tsr_trace_phase phase;
    const char *name; /* the operator's, as tsr_op_call takes it; the optimizer's kind */
    uint64_t
        call; /* forward and accumulate: the number of this call, from 1; backward: that of the call which it differentiates, 0
                         * if nobody watched that one; update: 0 */
    tsr_device *device;         /* borrowed */
    const tsr_attr *attributes; /* all of the operator's, given or not; none in the backward phase */
    int attribute_count;
    tsr_tensor *const *inputs; /* NULL: an absent operand, or a result that got no gradient */
    int input_count;
    tsr_tensor *const *outputs; /* NULL: an operand without a gradient */
    int output_count;
} tsr_trace_event;

typedef void tsr_trace_function(void *context, const tsr_trace_event *event);

/* From now on `function` is called for what this thread does, in the order in which it is queued. What an operator calls to do its work
 * is not shown, nor what the function itself calls; of an operator that is others put together (topk, conv1d) the others are shown.
 * Calls that fail are not shown. Error: TSR_INVALID_ARGUMENT: something watches already, or the function is NULL. */
TSR_API tsr_status tsr_trace_begin(tsr_trace_function *function, void *context);
/* Ends it; without a begin, nothing happens. */
TSR_API void tsr_trace_end(void);

/* "forward", "backward", "accumulate", "update"; "?" for a value outside the enumeration. */
TSR_API const char *tsr_trace_phase_name(tsr_trace_phase phase);

#ifdef __cplusplus
}
#endif
#endif
