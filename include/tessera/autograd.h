/* Automatic differentiation: operators on tensors that require gradients are recorded; tsr_backward walks the record.
 *
 * Semantics are PyTorch's: gradients accumulate in leaves, a graph is freed by its backward pass unless kept, a tensor
 * that an operator saved must not be changed in place before the backward pass (this is checked). */
#ifndef TESSERA_AUTOGRAD_H
#define TESSERA_AUTOGRAD_H

#include "tessera/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Makes a leaf collect a gradient. Errors: an integer dtype; a tensor that an operator recorded. */
TSR_API tsr_status tsr_set_requires_grad(tsr_tensor *tensor, bool requires_grad);
/* Whether it is such a leaf or was computed from one. */
TSR_API bool tsr_requires_grad(const tsr_tensor *tensor);

/* Adds d loss / d leaf to the gradient of every leaf that `loss` depends on. loss has one element. The record is freed.
 * Errors: not one element; nothing requires gradients; the record was freed before; a saved tensor was changed in place. */
TSR_API tsr_status tsr_backward(tsr_tensor *loss);
/* The same for any shape with d objective / d output given (NULL: ones), and optionally keeping the record. */
TSR_API tsr_status tsr_backward_from(tsr_tensor *output, tsr_tensor *gradient, bool keep_graph);

/* The gradient of a leaf, borrowed from it; NULL without an error if none was computed. Shape and dtype of the leaf. */
TSR_API tsr_tensor *tsr_grad(tsr_tensor *leaf);
/* Sets the gradient to zeros (keeps its memory), or forgets it. */
TSR_API tsr_status tsr_zero_grad(tsr_tensor *leaf);
TSR_API void tsr_clear_grad(tsr_tensor *leaf);

/* Between these, nothing is recorded on this thread. They nest. */
TSR_API void tsr_no_grad_begin(void);
TSR_API void tsr_no_grad_end(void);

/* The same values, outside the record; shares memory. */
TSR_API tsr_tensor *tsr_detach(tsr_tensor *tensor);

#ifdef __cplusplus
}
#endif
#endif
