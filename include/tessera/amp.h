/* Automatic mixed precision: operators run in a 16-bit type where that is fast and safe, parameters and their updates stay f32.
 *
 *   tsr_autocast_begin(TSR_F16);
 *   tsr_tensor *loss = tsr_cross_entropy(tsr_forward(model, x), labels);
 *   tsr_autocast_end();
 *   tsr_backward(tsr_grad_scaler_scale(scaler, loss));
 *   tsr_grad_scaler_step(scaler, optimizer);
 *   tsr_grad_scaler_update(scaler);
 *
 * Semantics are those of torch.autocast and torch.amp.GradScaler. Micikevicius et al. 2018, Mixed precision training. */
#ifndef TESSERA_AMP_H
#define TESSERA_AMP_H

#include "tessera/optim.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Between these, on this thread, each operator gets its f32, f16 and bf16 inputs in the type of its class (tsr_op_info says which):
 *   low      `dtype`, with sums in f32: products, convolutions, attention, recurrent layers
 *   f32      softmax, norms, losses, reductions, exponentials, logarithms, powers
 *   widest   the widest type among its inputs, f32 for f16 with bf16: other pointwise operators, joins
 *   none     as they are: moving, indexing and comparing
 * f64 and integers are never cast, nor is a call that writes into a given tensor. The cast is differentiable, so that a parameter's
 * gradient is f32. A leaf that requires a gradient is cast once and kept until the outermost end. Regions nest; the inner one's dtype
 * counts, and TSR_F32 switches casting off inside. tsr_backward runs in the types of the forward pass, inside a region or not.
 * Errors: dtype is not f16, bf16 or f32. */
TSR_API tsr_status tsr_autocast_begin(tsr_dtype dtype);
TSR_API void tsr_autocast_end(void); /* without a begin it does nothing */
/* The dtype of the innermost region; TSR_F32 outside of any. */
TSR_API tsr_dtype tsr_autocast_dtype(void);

/* Gradients of f16 vanish below 6e-8: the loss is multiplied by a scale, gradients are divided by it, and a step whose gradients are not all
 * finite is skipped. Scale and findings live in device memory, so that no step waits for the host. */
typedef struct tsr_grad_scaler tsr_grad_scaler;

typedef struct tsr_grad_scaler_options {
    double initial_scale;    /* 0 means 65536 */
    double growth_factor;    /* 0 means 2; above 1 */
    double backoff_factor;   /* 0 means 0.5; in (0, 1) */
    int64_t growth_interval; /* good steps until the scale grows; 0 means 2000 */
} tsr_grad_scaler_options;

/* NULL options: the defaults. NULL after an error: a factor out of range. Freed with tsr_grad_scaler_destroy, before the device. */
TSR_API tsr_grad_scaler *tsr_grad_scaler_create(tsr_device *device, const tsr_grad_scaler_options *options);
TSR_API void tsr_grad_scaler_destroy(tsr_grad_scaler *scaler); /* NULL is allowed */

/* loss · scale, f32, in the scope. */
TSR_API tsr_tensor *tsr_grad_scaler_scale(tsr_grad_scaler *scaler, tsr_tensor *loss);
/* Divides the gradients of the optimizer's parameters by the scale and looks for NaN and infinity, in one pass over them: before gradients
 * are clipped. Errors: called twice for an optimizer since the last update; more than 16 optimizers. */
TSR_API tsr_status tsr_grad_scaler_unscale(tsr_grad_scaler *scaler, tsr_optimizer *optimizer);
/* tsr_grad_scaler_unscale, if it was not done, and a step that changes nothing if a gradient is not finite: neither parameters nor the
 * optimizer's state nor its count of steps. */
TSR_API tsr_status tsr_grad_scaler_step(tsr_grad_scaler *scaler, tsr_optimizer *optimizer);
/* Once a step, last: the scale shrinks if any optimizer's gradients were not finite, and grows after growth_interval good steps. */
TSR_API tsr_status tsr_grad_scaler_update(tsr_grad_scaler *scaler);
/* In place of the update where a step was broken off, because memory ran out for instance: what was unscaled and stepped since the last update is
 * forgotten, the scale stays. The gradients are cleared (tsr_optimizer_clear_grad) and the step is made again. NULL is allowed. */
TSR_API void tsr_grad_scaler_abandon(tsr_grad_scaler *scaler);

/* Its state, borrowed: "scale" (f32 [1]), "growth_tracker" (i32 [1]: good steps since the scale last changed) and "skipped" (i32 [1]: skipped steps
 * in all). They can be read, and replaced through tsr_copy_into. NULL with an error for another name. */
TSR_API tsr_tensor *tsr_grad_scaler_state(tsr_grad_scaler *scaler, const char *name);

#ifdef __cplusplus
}
#endif
#endif
