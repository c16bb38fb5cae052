/* Recording operators and walking the record backwards.
 *
 * Nodes carry a sequence number; the walk visits them from the latest to the earliest, so every node is visited after all
 * that used its results, and gradients accumulate in a fixed order: results are the same from run to run. */
#include "autograd/tape.h"

#include <string.h>

#include "autograd/autocast.h"
#include "autograd/checkpoint.h"
#include "autograd/observer.h"
#include "base/error.h"
#include "base/heap.h"
#include "base/memory.h"
#include "base/profile.h"
#include "tessera/autograd.h"
#include "tessera/ops.h"

/* Where the gradient of a recorded input goes. */
typedef struct tape_edge {
    tape_node *node; /* that computed it; one reference */
    int output;
    tensor *leaf; /* or the leaf itself; one reference */
} tape_edge;

struct tape_node {
    atomic_int references;
    uint64_t sequence;
    op_record record;
    unsigned in_version[OP_MAX_INPUTS], out_version[OP_MAX_OUTPUTS]; /* of the saved tensors' storages */
    tape_edge edges[OP_MAX_INPUTS];
    bool freed; /* a backward pass has consumed it */

    tensor *gradient[OP_MAX_OUTPUTS]; /* during a walk */
    bool queued;
    tape_node *next; /* list for release */
};

static atomic_ullong next_sequence = 1;
static _Thread_local tape_mode mode;

tape_mode tape_mode_now(void)
{
    return mode;
}

tape_mode tape_mode_set(tape_mode next)
{
    const tape_mode before = mode;
    mode = next;
    return before;
}

bool tape_recording(void)
{
    return mode.no_grad == 0 && mode.parts == 0;
}

bool tape_wants(void)
{
    mode.met = mode.met || mode.no_grad == 0;
    return tape_recording();
}

void tsr_no_grad_begin(void)
{
    mode.no_grad++;
}

void tsr_no_grad_end(void)
{
    if (mode.no_grad > 0)
        mode.no_grad--;
}

void tape_node_retain(tape_node *node)
{
    atomic_fetch_add_explicit(&node->references, 1, memory_order_relaxed);
}

void op_record_release(op_record *record)
{
    for (int i = 0; i < OP_MAX_INPUTS; i++) {
        tsr_release(record->in[i]);
        record->in[i] = NULL;
    }
    for (int i = 0; i < OP_MAX_OUTPUTS; i++) {
        tsr_release(record->out[i]);
        record->out[i] = NULL;
    }
    checkpoint_release(record->part);
    record->part = NULL;
}

static bool node_unref(tape_node *node)
{
    return node != NULL && atomic_fetch_sub_explicit(&node->references, 1, memory_order_acq_rel) == 1;
}

/* A chain of a thousand operators must not take a thousand stack frames: nodes to free are kept in a list. */
void tape_node_release(tape_node *node)
{
    tape_node *pending = NULL;
    if (node_unref(node)) {
        node->next = NULL;
        pending = node;
    }
    while (pending != NULL) {
        tape_node *dead = pending;
        pending = dead->next;
        op_record_release(&dead->record); /* saved tensors are detached: they hold no nodes */
        for (int i = 0; i < OP_MAX_INPUTS; i++) {
            tsr_release(dead->edges[i].leaf);
            if (node_unref(dead->edges[i].node)) {
                dead->edges[i].node->next = pending;
                pending = dead->edges[i].node;
            }
        }
        host_free(dead);
    }
}

static unsigned version_of(const tensor *t)
{
    return t == NULL ? 0 : atomic_load_explicit(&t->storage->version, memory_order_relaxed);
}

bool tape_record(op_record *record, tensor *const *in, tensor *const *out)
{
    tape_node *node = host_alloc_zeroed(1, sizeof *node);
    if (node == NULL) {
        op_record_release(record);
        return false;
    }
    atomic_init(&node->references, 1);
    node->sequence = atomic_fetch_add(&next_sequence, 1);
    node->record = *record;
    for (int i = 0; i < record->in_count; i++) {
        node->in_version[i] = version_of(record->in[i]);
        if (!tensor_tracked(in[i]))
            continue;
        if (in[i]->node != NULL) {
            tape_node_retain(in[i]->node);
            node->edges[i].node = in[i]->node;
            node->edges[i].output = in[i]->node_output;
        } else {
            node->edges[i].leaf = tsr_retain(in[i]);
        }
    }
    for (int i = 0; i < record->out_count; i++) {
        node->out_version[i] = version_of(record->out[i]);
        if (!dtype_is_float(out[i]->dtype))
            continue; /* indices have no derivative */
        tape_node_retain(node);
        out[i]->node = node;
        out[i]->node_release = tape_node_release;
        out[i]->node_output = i;
    }
    tape_node_release(node);
    return true;
}

/* ---- leaves ---- */

tsr_status tsr_set_requires_grad(tsr_tensor *t, bool requires_grad)
{
    if (t == NULL)
        return TSR_INVALID_ARGUMENT;
    if (!dtype_is_float(t->dtype))
        return fail(TSR_INVALID_ARGUMENT, "a tensor of %s cannot require a gradient: only floating-point ones can",
                    tsr_dtype_name(t->dtype));
    if (t->node != NULL)
        return fail(TSR_INVALID_ARGUMENT,
                    "this tensor was computed by %s: only leaves choose whether they require a "
                    "gradient (tsr_detach makes one)",
                    t->node->record.name);
    t->requires_grad = requires_grad;
    return TSR_OK;
}

bool tsr_requires_grad(const tsr_tensor *t)
{
    return tensor_tracked(t);
}

tsr_tensor *tsr_grad(tsr_tensor *leaf)
{
    return leaf == NULL ? NULL : leaf->grad;
}

tsr_status tsr_zero_grad(tsr_tensor *leaf)
{
    if (leaf == NULL || leaf->grad == NULL)
        return TSR_OK;
    return tsr_fill(leaf->grad, 0);
}

void tsr_clear_grad(tsr_tensor *leaf)
{
    if (leaf != NULL) {
        tsr_release(leaf->grad);
        leaf->grad = NULL;
    }
}

tsr_tensor *tsr_detach(tsr_tensor *t)
{
    return t == NULL ? NULL : tensor_to_scope(tensor_alias(t));
}

/* ---- the walk ---- */

static void node_forget_gradients(tape_node *node)
{
    for (int i = 0; i < OP_MAX_OUTPUTS; i++) {
        tsr_release(node->gradient[i]);
        node->gradient[i] = NULL;
    }
}

/* A node that waits in the heap gives up its gradients when it leaves; one that cannot enter does so at once. */
static bool node_enqueue(heap *waiting, tape_node *node)
{
    if (node->queued)
        return true;
    if (!heap_push(waiting, ~node->sequence, (uint64_t)(uintptr_t)node)) { /* the latest first */
        node_forget_gradients(node);
        return false;
    }
    node->queued = true;
    tape_node_retain(node);
    return true;
}

/* *sum += g. The first gradient is taken as it is where nobody else can change it. */
static bool accumulate(tensor **sum, tensor *g)
{
    if (*sum == NULL) {
        *sum = tsr_retain(g);
        return true;
    }
    tensor *total = tsr_keep(tsr_add(*sum, g));
    if (total == NULL)
        return false;
    tsr_release(*sum);
    *sum = total;
    return true;
}

/* Whether a copy is needed may depend on the device: it is not shown. */
static tensor *unseen_copy(tensor *g)
{
    const bool seen = observing();
    if (seen)
        observer_hide();
    tensor *copy = tsr_keep(tsr_clone(g));
    if (seen)
        observer_show(NULL);
    return copy;
}

/* A leaf's gradient is contiguous memory of its own: optimizers and users may hold and change it. */
static bool accumulate_leaf(tensor *leaf, tensor *g)
{
    if (g == NULL)
        return false;
    if (leaf->grad != NULL) {
        /* In place: the gradient keeps its memory over accumulation steps. */
        tensor *total = leaf->grad;
        return tsr_op_call("add", (tensor *[]){leaf->grad, g}, 2, &total, 1, NULL, 0) == TSR_OK;
    }
    const bool own = g->scope != NULL && atomic_load(&g->references) == 1 && tsr_is_contiguous(g) &&
                     atomic_load(&g->storage->references) == 1;
    leaf->grad = own ? tsr_retain(g) : unseen_copy(g);
    if (leaf->grad != NULL)
        tensor_label(leaf->grad, TSR_MEMORY_GRADIENT, "gradients");
    return leaf->grad != NULL;
}

static bool check_versions(const tape_node *node)
{
    for (int i = 0; i < OP_MAX_INPUTS; i++)
        if (node->record.in[i] != NULL && version_of(node->record.in[i]) != node->in_version[i]) {
            fail(TSR_INVALID_ARGUMENT, "backward of %s: input %d was changed in place after the operator had saved it",
                 node->record.name, i);
            return false;
        }
    for (int i = 0; i < OP_MAX_OUTPUTS; i++)
        if (node->record.out[i] != NULL && version_of(node->record.out[i]) != node->out_version[i]) {
            fail(TSR_INVALID_ARGUMENT,
                 "backward of %s: its result was changed in place after the operator had saved it", node->record.name);
            return false;
        }
    return true;
}

static bool check_gradient(const tape_node *node, int i, const tensor *g)
{
    const op_output *spec = &node->record.in_spec[i];
    if (g->rank == spec->rank && memcmp(g->shape, spec->shape, sizeof(int64_t) * (size_t)g->rank) == 0 &&
        g->dtype == spec->dtype)
        return true;
    fail(TSR_INVALID_ARGUMENT, "backward of %s gave input %d a gradient of %s; the input is %s %s", node->record.name,
         i, tensor_text(g), tsr_dtype_name(spec->dtype), shape_text(spec->rank, spec->shape));
    return false;
}

/* The backward function; nothing of its work is shown but what came of it. */
static bool run_observed(const tape_node *node, tensor **dx)
{
    const op_record *r = &node->record;
    if (!observing())
        return r->backward(r, node->gradient, dx);
    observer_hide();
    const bool ok = r->backward(r, node->gradient, dx);
    const tsr_trace_event event = {.phase = TSR_TRACE_BACKWARD,
                                   .name = r->name,
                                   .call = r->call,
                                   .device = r->device,
                                   .inputs = node->gradient,
                                   .input_count = r->out_count,
                                   .outputs = dx,
                                   .output_count = r->in_count};
    observer_show(ok ? &event : NULL);
    return ok;
}

static bool run_backward(const tape_node *node, tensor **dx)
{
    profile_span span;
    profile_open(&span, PROFILE_BACKWARD, node->record.name);
    const memory_label outer = memory_label_open(TSR_MEMORY_BACKWARD, node->record.name);
    const bool ok = run_observed(node, dx);
    memory_label_close(outer);
    profile_close(&span);
    return ok;
}

/* g goes where t came from. */
static bool hand_on(heap *waiting, tape_node *node, int output, tensor *leaf, tensor *g)
{
    if (node != NULL)
        return accumulate(&node->gradient[output], g) && node_enqueue(waiting, node);
    return leaf == NULL || accumulate_leaf(leaf, g);
}

/* Input i of a part as it was: a leaf itself, or a tensor of the same values that came from the same node. */
static tensor *part_input(const tape_node *node, int i)
{
    const tape_edge *edge = &node->edges[i];
    if (edge->leaf != NULL || node->record.in[i] == NULL)
        return edge->leaf;
    tensor *t = tsr_detach(node->record.in[i]);
    if (t != NULL && edge->node != NULL) {
        tape_node_retain(edge->node);
        t->node = edge->node;
        t->node_release = tape_node_release;
        t->node_output = edge->output;
    }
    return t;
}

/* Runs the part again, recording it: its nodes are the latest, so the walk comes to them next, and from them to the part's inputs, in the order of a
 * graph that had held them from the start. */
static bool part_visit(heap *waiting, const tape_node *node)
{
    const op_record *r = &node->record;
    tensor *in[OP_MAX_INPUTS] = {NULL}, *out[OP_MAX_OUTPUTS] = {NULL};
    for (int i = 0; i < r->in_count; i++)
        if ((in[i] = part_input(node, i)) == NULL && r->in[i] != NULL)
            return false;
    if (!checkpoint_replay(r->part, r->device, in, r->in_count, out, r->out_count))
        return false;
    for (int i = 0; i < r->out_count; i++) {
        const op_output *spec = &r->out_spec[i];
        if (out[i]->dtype != spec->dtype || out[i]->rank != spec->rank ||
            memcmp(out[i]->shape, spec->shape, sizeof(int64_t) * (size_t)spec->rank) != 0) {
            fail(TSR_INVALID_ARGUMENT, "run again, a part gave output %d as %s; it was %s %s", i, tensor_text(out[i]),
                 tsr_dtype_name(spec->dtype), shape_text(spec->rank, spec->shape));
            return false;
        }
        if (node->gradient[i] != NULL && tensor_tracked(out[i]) &&
            !hand_on(waiting, out[i]->node, out[i]->node_output, out[i], node->gradient[i]))
            return false;
    }
    return true;
}

static bool op_visit(heap *waiting, const tape_node *node)
{
    tensor *dx[OP_MAX_INPUTS] = {NULL};
    if (!run_backward(node, dx))
        return false;
    for (int i = 0; i < node->record.in_count; i++) {
        const tape_edge *edge = &node->edges[i];
        if (dx[i] == NULL || (edge->node == NULL && edge->leaf == NULL))
            continue;
        if (!check_gradient(node, i, dx[i]) || !hand_on(waiting, edge->node, edge->output, edge->leaf, dx[i]))
            return false;
    }
    return true;
}

static bool node_visit(heap *waiting, tape_node *node, bool keep_graph)
{
    if (node->freed) {
        fail(TSR_INVALID_ARGUMENT,
             "backward of %s: its record was freed by an earlier backward pass; keep it with "
             "tsr_backward_from(…, true)",
             node->record.name);
        return false;
    }
    if (!check_versions(node) || !(node->record.part != NULL ? part_visit(waiting, node) : op_visit(waiting, node))) {
        fail_prefix("backward of %s", node->record.name);
        return false;
    }
    if (!keep_graph) {
        op_record_release(&node->record); /* tensors die at their last use */
        node->freed = true;
    }
    return true;
}

static void node_leave(tape_node *node)
{
    node_forget_gradients(node);
    node->queued = false;
    tape_node_release(node);
}

static bool walk(tape_node *root, int output, tensor *gradient, bool keep_graph)
{
    heap waiting = {0};
    bool ok = accumulate(&root->gradient[output], gradient) && node_enqueue(&waiting, root);
    while (waiting.count > 0) {
        tape_node *node = (tape_node *)(uintptr_t)heap_pop(&waiting).value;
        ok = ok && tsr_scope_begin() == TSR_OK;
        if (ok) {
            ok = node_visit(&waiting, node, keep_graph);
            tsr_scope_end();
        }
        node_leave(node);
    }
    heap_free(&waiting);
    return ok;
}

static tsr_status backward(tensor *output, tensor *gradient, bool keep_graph)
{
    if (gradient == NULL)
        gradient = tsr_full(output->storage->device, output->dtype, output->rank, output->shape, 1.0);
    if (gradient == NULL)
        return tsr_last_status();
    if (gradient->dtype != output->dtype || !shape_equal(gradient, output))
        return fail(TSR_INVALID_ARGUMENT, "backward: the gradient is %s, the output is %s", tensor_text(gradient),
                    tensor_text(output));
    /* A leaf itself: the caller's tensor must not become its gradient, which later passes change in place. */
    const bool ok = output->node != NULL ? walk(output->node, output->node_output, gradient, keep_graph)
                                         : accumulate_leaf(output, tsr_clone(gradient));
    return ok ? TSR_OK : tsr_last_status();
}

tsr_status tsr_backward_from(tsr_tensor *output, tsr_tensor *gradient, bool keep_graph)
{
    if (output == NULL)
        return tsr_last_status() != TSR_OK ? tsr_last_status() : TSR_INVALID_ARGUMENT;
    if (!tensor_tracked(output))
        return fail(TSR_INVALID_ARGUMENT, "backward: nothing that led to this tensor requires a gradient");
    if (tsr_scope_begin() != TSR_OK)
        return tsr_last_status();
    tsr_no_grad_begin();
    autocast_suspend();
    observer_pass_begin();
    profile_span span;
    profile_open(&span, PROFILE_PHASE, "backward");
    const tsr_status status = backward(output, gradient, keep_graph);
    profile_close(&span);
    observer_pass_end();
    autocast_resume();
    tsr_no_grad_end();
    tsr_scope_end();
    return status;
}

tsr_status tsr_backward(tsr_tensor *loss)
{
    if (loss != NULL && loss->numel != 1)
        return fail(TSR_INVALID_ARGUMENT,
                    "tsr_backward: the loss has %lld elements (shape %s), it must have one; "
                    "tsr_backward_from takes any shape",
                    (long long)loss->numel, shape_text(loss->rank, loss->shape));
    return tsr_backward_from(loss, NULL, false);
}
