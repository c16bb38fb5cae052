/* Optimizers: each updates its parameters in place with one fused kernel a parameter. Step number and learning rate live
 * in device memory, so a step waits for nothing. Parameters without a gradient are left alone. */
#ifndef TESSERA_OPTIM_H
#define TESSERA_OPTIM_H

#include "tessera/nn.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tsr_optimizer tsr_optimizer;

/* torch.optim.SGD: g = grad + weight_decay p; v = momentum v + (1 - dampening) g (v = g at a parameter's first); p -= lr (nesterov ? g + momentum v : v).
 * (Sutskever et al. 2013.) */
typedef struct tsr_sgd_options {
    double lr; /* required, > 0 */
    double momentum, dampening, weight_decay;
    bool nesterov; /* needs momentum > 0 and dampening 0 */
} tsr_sgd_options;
TSR_API tsr_optimizer *tsr_sgd_create(tsr_tensor *const *parameters, size_t count, const tsr_sgd_options *options);

/* torch.optim.Adam and AdamW (Kingma and Ba 2015; Loshchilov and Hutter 2019). */
typedef struct tsr_adam_options {
    double lr;           /* 0 means 1e-3 */
    double beta1, beta2; /* 0 means 0.9 and 0.999 */
    double epsilon;      /* 0 means 1e-8 */
    double weight_decay; /* Adam: added to the gradient. AdamW: decoupled; there is no default */
} tsr_adam_options;
TSR_API tsr_optimizer *tsr_adam_create(tsr_tensor *const *parameters, size_t count, const tsr_adam_options *options);
TSR_API tsr_optimizer *tsr_adamw_create(tsr_tensor *const *parameters, size_t count, const tsr_adam_options *options);

/* For all parameters of a module: tsr_adam_for(model, &(tsr_adam_options){ .lr = 1e-3 }). */
TSR_API tsr_optimizer *tsr_sgd_for(tsr_module *module, const tsr_sgd_options *options);
TSR_API tsr_optimizer *tsr_adam_for(tsr_module *module, const tsr_adam_options *options);
TSR_API tsr_optimizer *tsr_adamw_for(tsr_module *module, const tsr_adam_options *options);

TSR_API void tsr_optimizer_destroy(tsr_optimizer *optimizer); /* the parameters live on; NULL is allowed */
TSR_API tsr_status tsr_optimizer_step(tsr_optimizer *optimizer);
TSR_API void tsr_optimizer_clear_grad(tsr_optimizer *optimizer);
TSR_API tsr_status tsr_optimizer_set_lr(tsr_optimizer *optimizer, double lr);
TSR_API double tsr_optimizer_lr(const tsr_optimizer *optimizer);

/* The state tensors of parameter `index`, borrowed: "momentum" (SGD), "exp_avg", "exp_avg_sq" (Adam), and "step" (i32 [1], the whole
 * optimizer's). NULL with an error for another name. They can be read, and replaced through tsr_copy_into. */
TSR_API tsr_tensor *tsr_optimizer_state(tsr_optimizer *optimizer, size_t index, const char *name);

#ifdef __cplusplus
}
#endif
#endif
