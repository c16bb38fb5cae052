/* Casting an operator's inputs to what its class asks for in an autocast region (tessera/amp.h). */
#ifndef TESSERA_OPS_OP_AUTOCAST_H
#define TESSERA_OPS_OP_AUTOCAST_H

#include "ops/op.h"

/* Replaces inputs of the call; made[i] is a reference to what was made for input i, for op_autocast_release. False after fail(). */
bool op_autocast(op_call *call, tensor **made);
void op_autocast_release(tensor **made);

#endif
