/* The one way through which every operator runs: check, infer, allocate, run, record. */
#include "ops/op.h"

#include <string.h>

#include "autograd/autocast.h"
#include "autograd/checkpoint.h"
#include "autograd/observer.h"
#include "autograd/tape.h"
#include "base/error.h"
#include "base/profile.h"
#include "ops/op_autocast.h"
#include "tensor/device.h"
#include "tessera/autograd.h"
#include "tessera/ops.h"

static bool dtype_named(uint32_t mask, char *text, size_t size)
{
    size_t n = 0;
    text[0] = '\0';
    for (int d = 0; d < TSR_DTYPE_COUNT; d++) {
        const char *name = tsr_dtype_name((tsr_dtype)d);
        if ((mask & DTYPE_BIT(d)) != 0 && n + strlen(name) + 2 < size) {
            if (n > 0)
                text[n++] = ' ';
            strcpy(text + n, name);
            n += strlen(name);
        }
    }
    return n > 0;
}

static bool check_inputs(op_call *call)
{
    const op_row *row = call->row;
    const tensor *first = NULL;
    int first_index = 0;
    for (int i = 0; i < call->in_count; i++) {
        const tensor *t = call->in[i];
        if (t == NULL)
            continue;
        if (call->device == NULL)
            call->device = t->storage->device;
        if (t->storage->device != call->device) {
            fail(TSR_INVALID_ARGUMENT, "%s: input %d is on %s, input 0 on %s; tsr_to_device copies", row->name, i,
                 tsr_device_id(t->storage->device), tsr_device_id(call->device));
            return false;
        }
        if ((row->any_dtype >> i & 1) != 0)
            continue;
        if ((row->dtypes & DTYPE_BIT(t->dtype)) == 0) {
            char names[64];
            dtype_named(row->dtypes, names, sizeof names);
            fail(TSR_UNSUPPORTED, "%s has no kernel for %s (input %d, %s); it takes %s", row->name,
                 tsr_dtype_name(t->dtype), i, tensor_text(t), names);
            return false;
        }
        if (first == NULL) {
            first = t;
            first_index = i;
        } else if (row->same_dtype && t->dtype != first->dtype) {
            fail(TSR_INVALID_ARGUMENT, "%s: dtypes differ: input %d is %s, input %d is %s; tsr_cast converts",
                 row->name, first_index, tsr_dtype_name(first->dtype), i, tsr_dtype_name(t->dtype));
            return false;
        }
    }
    return true;
}

static bool check_given(const op_call *call, const op_output *spec, tensor *const *given)
{
    for (int i = 0; i < call->row->outputs; i++) {
        if (given[i] == NULL)
            continue;
        if (given[i]->dtype != spec[i].dtype || given[i]->rank != spec[i].rank ||
            memcmp(given[i]->shape, spec[i].shape, sizeof(int64_t) * (size_t)spec[i].rank) != 0) {
            fail(TSR_INVALID_ARGUMENT, "%s: output %d is %s, the result is %s %s", call->row->name, i,
                 tensor_text(given[i]), tsr_dtype_name(spec[i].dtype), shape_text(spec[i].rank, spec[i].shape));
            return false;
        }
        if (given[i]->storage->device != call->device) {
            fail(TSR_INVALID_ARGUMENT, "%s: output %d is on %s, the inputs on %s", call->row->name, i,
                 tsr_device_id(given[i]->storage->device), tsr_device_id(call->device));
            return false;
        }
        if (tape_recording())
            for (int k = 0; k < call->in_count; k++)
                if (tensor_tracked(call->in[k])) {
                    fail(TSR_INVALID_ARGUMENT,
                         "%s into a given tensor cannot be recorded, and input %d requires a "
                         "gradient; call it between tsr_no_grad_begin and tsr_no_grad_end",
                         call->row->name, k);
                    return false;
                }
    }
    return true;
}

/* Whether the kernel may write straight into `out`: a pointwise kernel over identical views, or memory of no input. */
static bool writes_directly(const op_call *call, const tensor *out)
{
    if (!tsr_is_contiguous(out))
        return false;
    for (int i = 0; i < call->in_count; i++) {
        const tensor *t = call->in[i];
        if (t == NULL || t->storage != out->storage)
            continue;
        if (!call->row->pointwise || t->offset != out->offset || !shape_equal(t, out) || !tsr_is_contiguous(t))
            return false;
    }
    return true;
}

static bool record(const op_call *call)
{
    const op_row *row = call->row;
    op_record r = {.row = row,
                   .name = row->name,
                   .backward = row->backward,
                   .device = call->device,
                   .in_count = call->in_count,
                   .out_count = call->out_count,
                   .call = call->number};
    memcpy(r.attr, call->attr, sizeof r.attr);
    const uint32_t saves = row->saves_of != NULL ? row->saves_of(call) : row->saves;
    bool ok = true;
    for (int i = 0; i < call->in_count; i++) {
        const tensor *t = call->in[i];
        r.needs[i] = tensor_tracked(t);
        if (t == NULL)
            continue;
        r.in_spec[i] = op_spec_of(t);
        if ((saves & SAVE_INPUT(i)) != 0)
            ok = (r.in[i] = tensor_alias(t)) != NULL && ok;
    }
    for (int i = 0; i < call->out_count; i++) {
        const tensor *t = call->out[i];
        r.out_spec[i] = op_spec_of(t);
        if ((saves & SAVE_OUTPUT(i)) != 0)
            ok = (r.out[i] = tensor_alias(t)) != NULL && ok;
    }
    if (ok)
        return tape_record(&r, call->in, call->out);
    op_record_release(&r);
    return false;
}

static bool should_record(const op_call *call)
{
    if (call->row->backward == NULL)
        return false;
    for (int i = 0; i < call->in_count; i++)
        if (tensor_tracked(call->in[i]))
            return tape_wants();
    return false;
}

static bool outputs_empty(const op_call *call)
{
    for (int i = 0; i < call->out_count; i++)
        if (call->out[i]->numel > 0)
            return false;
    return true;
}

/* What compose made as a result: contiguous and with memory of its own, unless the operator is a view, which is at least a tensor of its own. */
static tensor *composed_result(const op_call *call, tensor *made)
{
    for (int k = 0; k < call->in_count && made != NULL; k++) {
        const tensor *x = call->in[k];
        if (x == NULL || (call->row->aliases ? made != x : made->storage != x->storage))
            continue;
        return call->row->aliases ? tsr_reshape(made, made->rank, made->shape) : tsr_clone(made);
    }
    return call->row->aliases ? made : contiguous(made);
}

/* What is made on the way goes with a scope of its own. */
static bool compose(op_call *call, tensor *const *given)
{
    tensor *made[OP_MAX_OUTPUTS] = {NULL};
    op_output spec[OP_MAX_OUTPUTS] = {0};
    if (tsr_scope_begin() != TSR_OK)
        return false;
    bool ok = call->row->compose(call, made);
    call->out_count = call->row->outputs;
    for (int i = 0; i < call->row->outputs && ok; i++) {
        made[i] = composed_result(call, made[i]);
        ok = made[i] != NULL;
        call->out[i] = ok ? tsr_keep(made[i]) : NULL;
        if (ok)
            spec[i] = op_spec_of(made[i]);
    }
    tsr_scope_end();
    return ok && check_given(call, spec, given);
}

static bool run(op_call *call, tensor *const *given)
{
    const op_row *row = call->row;
    op_output spec[OP_MAX_OUTPUTS] = {0};
    if (row->compose != NULL)
        return check_inputs(call) && compose(call, given);
    if (!check_inputs(call) || !row->infer(call, spec) || !check_given(call, spec, given))
        return false;
    call->out_count = row->outputs;

    if (row->view != NULL) {
        call->out[0] = row->view(call, &spec[0]);
        if (call->out[0] == NULL)
            return false;
    } else {
        for (int i = 0; i < row->outputs; i++) {
            call->out[i] = given[i] != NULL && writes_directly(call, given[i])
                               ? tsr_retain(given[i])
                               : tensor_new(call->device, spec[i].dtype, spec[i].rank, spec[i].shape);
            if (call->out[i] == NULL) {
                fail_prefix("%s", row->name);
                return false;
            }
        }
        autocast_suspend();
        const bool ran = outputs_empty(call) || row->run(call);
        autocast_resume();
        if (!ran)
            return false;
    }
    return !should_record(call) || record(call);
}

/* Hands the results over: into the given tensors, or to the scope. */
static bool deliver(op_call *call, tensor **out)
{
    bool ok = true;
    for (int i = 0; i < call->out_count; i++) {
        tensor *result = call->out[i];
        call->out[i] = NULL;
        if (out[i] == NULL) {
            out[i] = tensor_to_scope(result);
            ok = out[i] != NULL && ok;
            continue;
        }
        if (result != out[i] && ok)
            ok = tsr_copy_into(out[i], result) == TSR_OK;
        else
            atomic_fetch_add_explicit(&out[i]->storage->version, 1, memory_order_relaxed);
        tsr_release(result);
    }
    return ok;
}

/* What is written into a given tensor has that tensor's dtype. */
static bool autocasts(const op_row *row, tensor *const *given)
{
    if (!autocast_active())
        return false;
    for (int i = 0; i < row->outputs; i++)
        if (given[i] != NULL)
            return false;
    return true;
}

/* To who watches; `out` holds the results. */
static void show(const op_call *call, tensor **out)
{
    const op_row *row = call->row;
    tsr_attr attributes[OP_MAX_ATTRS];
    int count = 0;
    for (; count < OP_MAX_ATTRS && row->attrs[count].name != NULL; count++) {
        const attr_value *v = &call->attr[count];
        attributes[count] = (tsr_attr){.name = row->attrs[count].name,
                                       .kind = (tsr_attr_kind)row->attrs[count].kind,
                                       .i = v->i,
                                       .f = v->f,
                                       .values = v->list,
                                       .count = v->count};
    }
    observer_show(&(tsr_trace_event){.phase = observer_in_pass() ? TSR_TRACE_ACCUMULATE : TSR_TRACE_FORWARD,
                                     .name = row->name,
                                     .call = call->number,
                                     .device = call->device,
                                     .attributes = attributes,
                                     .attribute_count = count,
                                     .inputs = call->in,
                                     .input_count = call->in_count,
                                     .outputs = out,
                                     .output_count = row->outputs});
}

static bool run_and_deliver(op_call *call, tensor **out)
{
    if (run(call, out))
        return deliver(call, out);
    for (int i = 0; i < OP_MAX_OUTPUTS; i++)
        tsr_release(call->out[i]);
    return false;
}

/* Memory that an operator takes is its own, unless it works for another or for the tape. */
static tsr_memory_kind memory_kind(void)
{
    return checkpoint_replaying() ? TSR_MEMORY_RECOMPUTE
           : observer_in_pass()   ? TSR_MEMORY_BACKWARD
                                  : TSR_MEMORY_FORWARD;
}

static bool run_labeled(op_call *call, tensor **out)
{
    const memory_label outer = memory_label_open(memory_kind(), call->row->name);
    const bool ok = run_and_deliver(call, out);
    memory_label_close(outer);
    return ok;
}

static bool run_observed(op_call *call, tensor **out)
{
    if (!observing() || call->row->compose != NULL) /* of what others are put together to, these are shown */
        return run_labeled(call, out);
    call->number = observer_number();
    observer_hide();
    const bool ok = run_labeled(call, out);
    if (ok)
        show(call, out);
    else
        observer_show(NULL);
    return ok;
}

bool op_apply(const op_row *row, tensor *const *in, int in_count, const attr_value *attrs, tensor **out)
{
    op_call call = {.row = row, .in_count = in_count};
    if (in_count < row->inputs_min || in_count > row->inputs_max) {
        fail(TSR_INVALID_ARGUMENT, "%s takes %d to %d tensors, not %d", row->name, row->inputs_min, row->inputs_max,
             in_count);
        return false;
    }
    for (int i = 0; i < in_count; i++) {
        call.in[i] = in[i];
        if (in[i] == NULL && i < row->inputs_min)
            return false; /* the message of what made it NULL stands */
    }
    for (int i = 0; attrs != NULL && i < OP_MAX_ATTRS; i++)
        call.attr[i] = attrs[i];
    tensor *cast[OP_MAX_INPUTS] = {NULL};
    profile_span span;
    profile_open(&span, PROFILE_OPERATOR, row->name);
    const bool ok = (!autocasts(row, out) || op_autocast(&call, cast)) && run_observed(&call, out);
    op_autocast_release(cast);
    profile_close(&span);
    return ok;
}

tensor *op_apply1(const op_row *row, tensor *const *in, int in_count, const attr_value *attrs)
{
    tensor *out[OP_MAX_OUTPUTS] = {NULL};
    if (!op_apply(row, in, in_count, attrs, out))
        return NULL;
    /* Further outputs are the operator's own business: what it saved lives in the record. */
    for (int i = 1; i < row->outputs; i++)
        if (out[i]->scope == NULL)
            tsr_release(out[i]);
    return out[0];
}

bool infer_same(const op_call *call, op_output *out)
{
    out[0] = op_spec_of(call->in[0]);
    return true;
}

bool attr_ints(const char *what, int count, const int64_t *values, attr_value *out)
{
    *out = (attr_value){.count = count};
    if (count < 0 || count > TSR_MAX_RANK || (count > 0 && values == NULL)) {
        fail(TSR_OUT_OF_RANGE, "%s: a list holds 0 to %d numbers, not %d", what, TSR_MAX_RANK, count);
        return false;
    }
    for (int i = 0; i < count; i++)
        out->list[i] = values[i];
    return true;
}

bool op_temporaries_begin(void)
{
    if (tsr_scope_begin() != TSR_OK)
        return false;
    tsr_no_grad_begin();
    return true;
}

bool op_temporaries_end(bool ok)
{
    tsr_no_grad_end();
    tsr_scope_end();
    return ok;
}

tensor *contiguous(tensor *x)
{
    return x == NULL || tsr_is_contiguous(x) ? x : tsr_clone(x);
}

tensor *reduce_to(tensor *x, int rank, const int64_t *shape)
{
    if (x == NULL || (x->rank == rank && memcmp(x->shape, shape, sizeof(int64_t) * (size_t)rank) == 0))
        return x;
    int axes[TSR_MAX_RANK], count = 0;
    const int extra = x->rank - rank;
    for (int d = 0; d < x->rank; d++)
        if (d < extra || (shape[d - extra] == 1 && x->shape[d] != 1))
            axes[count++] = d;
    return tsr_reshape(count == 0 ? x : tsr_sum(x, axes, count, true), rank, shape);
}
