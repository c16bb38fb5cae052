/* Which dtype operators are asked for on this thread, and the parameters that were cast to it. ops/op_autocast.c casts. */
#ifndef TESSERA_AUTOGRAD_AUTOCAST_H
#define TESSERA_AUTOGRAD_AUTOCAST_H

#include "tensor/tensor.h"
#include "tessera/amp.h"

/* Between these, operators run as they are called: what an operator does inside itself, and the backward pass. They nest. */
void autocast_suspend(void);
void autocast_resume(void);

bool autocast_active(void);

/* The cast made of leaf t before, borrowed: NULL if there is none, or t was written to since. */
tensor *autocast_kept(const tensor *t);
/* Keeps `low`, the cast of leaf t, until the outermost region ends. False when out of memory. */
bool autocast_keep(tensor *t, tensor *low);

#endif
