/* Scopes: what tsr_scope_begin opens. Internal code that makes temporaries opens one too. */
#ifndef TESSERA_TENSOR_SCOPE_H
#define TESSERA_TENSOR_SCOPE_H

#include "tensor/tensor.h"

/* The scope takes the reference. False (t released) when there is no memory for the list. */
bool scope_add(tensor *t);
/* Takes t out of the scope that owns it. */
void scope_remove(tensor *t);
bool scope_is_open(void);
bool scope_owns(const tensor *t); /* the innermost one does */

#endif
