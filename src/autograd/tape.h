/* The tape: a graph of records, each owning what its backward function needs. Edges run from a record to the records or
 * leaves that made its inputs, so a graph lives as long as something that it computed. */
#ifndef TESSERA_AUTOGRAD_TAPE_H
#define TESSERA_AUTOGRAD_TAPE_H

#include "autograd/record.h"

typedef struct tape_node tape_node;

bool tape_recording(void); /* false between tsr_no_grad_begin and _end, and inside of a part */

/* What this thread records. In a part that is recorded as one (autograd/checkpoint.h) operators are not, but `met` becomes true when one of them
 * would have been. */
typedef struct tape_mode {
    int no_grad, parts; /* how many of each are open */
    bool met;
} tape_mode;
tape_mode tape_mode_now(void);
tape_mode tape_mode_set(tape_mode mode); /* gives the one before */

/* An operator with a derivative has met a tracked operand: whether to record it. */
bool tape_wants(void);

/* Whether t takes part in differentiation: a leaf that requires a gradient, or computed from one. */
static inline bool tensor_tracked(const tensor *t)
{
    return t != NULL && (t->requires_grad || t->node != NULL);
}

/* Records a call whose results are `out`; takes over the references of record->in, ->out and ->part. in: the call's inputs. */
bool tape_record(op_record *record, tensor *const *in, tensor *const *out);

/* Lets go of what the record saved, and of its part. */
void op_record_release(op_record *record);

void tape_node_retain(tape_node *node);
void tape_node_release(tape_node *node); /* NULL is fine */

#endif
