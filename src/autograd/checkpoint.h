/* A part of the forward pass that the tape runs again instead of having recorded it. */
#ifndef TESSERA_AUTOGRAD_CHECKPOINT_H
#define TESSERA_AUTOGRAD_CHECKPOINT_H

#include "autograd/record.h"

typedef struct checkpoint checkpoint;

/* Runs the part again with recording on, as in the forward pass; outputs go to the scope. False after fail(). */
bool checkpoint_replay(const checkpoint *part, tsr_device *device, tensor *const *in, int in_count, tensor **out,
                       int out_count);
void checkpoint_release(checkpoint *part); /* NULL is fine */

/* Whether a part is being run again on this thread: what counts calls counted this one before. */
bool checkpoint_replaying(void);

#endif
