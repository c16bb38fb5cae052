/* Optimizers: each updates its parameters in place with one fused kernel a parameter. Step number and learning rate live
 * in device memory, so a step waits for nothing. Parameters without a gradient are left alone.
 *
 * In place of PyTorch's parameter groups: a weight decay of each parameter's own (tsr_optimizer_set_weight_decay); for learning rates, betas or
 * momenta of their own, an optimizer for each list of parameters, stepped one after the other (tsr_clip_grad_norm takes all of them at once). */
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

/* torch.optim.RMSprop (Tieleman and Hinton 2012; centred: Graves 2013): s = alpha s + (1 - alpha) g², d = g / (sqrt(s) + epsilon); centred, s less
 * the square of g's running mean; with momentum v = momentum v + d takes d's place. */
typedef struct tsr_rmsprop_options {
    double lr;           /* 0 means 1e-2 */
    double alpha;        /* 0 means 0.99 */
    double epsilon;      /* 0 means 1e-8 */
    double weight_decay; /* added to the gradient */
    double momentum;
    bool centered;
} tsr_rmsprop_options;
TSR_API tsr_optimizer *tsr_rmsprop_create(tsr_tensor *const *parameters, size_t count,
                                          const tsr_rmsprop_options *options);

/* torch.optim.Adagrad (Duchi et al. 2011): s += g², p -= lr / (1 + lr_decay (t - 1)) g / (sqrt(s) + epsilon); t counts the optimizer's steps. */
typedef struct tsr_adagrad_options {
    double lr; /* 0 means 1e-2 */
    double lr_decay;
    double epsilon;             /* 0 means 1e-10 */
    double weight_decay;        /* added to the gradient */
    double initial_accumulator; /* s at first */
} tsr_adagrad_options;
TSR_API tsr_optimizer *tsr_adagrad_create(tsr_tensor *const *parameters, size_t count,
                                          const tsr_adagrad_options *options);

/* Lion (Chen et al. 2023, algorithm 2): p -= lr (sign(beta1 m + (1 - beta1) g) + weight_decay p), then m = beta2 m + (1 - beta2) g. */
typedef struct tsr_lion_options {
    double lr;           /* 0 means 1e-4 */
    double beta1, beta2; /* 0 means 0.9 and 0.99 */
    double weight_decay; /* decoupled; there is no default */
} tsr_lion_options;
TSR_API tsr_optimizer *tsr_lion_create(tsr_tensor *const *parameters, size_t count, const tsr_lion_options *options);

/* LAMB (You et al. 2020, algorithm 2, with its φ(z) = z): r = Adam's change + weight_decay p, p -= lr |p| / |r| r, each parameter with its own
 * norms; their ratio is 1 where either is 0. Three kernels a parameter: nothing may change before the norms are known. */
typedef struct tsr_lamb_options {
    double lr;           /* 0 means 1e-3 */
    double beta1, beta2; /* 0 means 0.9 and 0.999 */
    double epsilon;      /* 0 means 1e-6 */
    double weight_decay; /* there is no default; the paper's is 0.01 */
} tsr_lamb_options;
TSR_API tsr_optimizer *tsr_lamb_create(tsr_tensor *const *parameters, size_t count, const tsr_lamb_options *options);

/* For all parameters of a module: tsr_adam_for(model, &(tsr_adam_options){ .lr = 1e-3 }). */
TSR_API tsr_optimizer *tsr_sgd_for(tsr_module *module, const tsr_sgd_options *options);
TSR_API tsr_optimizer *tsr_adam_for(tsr_module *module, const tsr_adam_options *options);
TSR_API tsr_optimizer *tsr_adamw_for(tsr_module *module, const tsr_adam_options *options);

TSR_API tsr_optimizer *tsr_rmsprop_for(tsr_module *module, const tsr_rmsprop_options *options);
TSR_API tsr_optimizer *tsr_adagrad_for(tsr_module *module, const tsr_adagrad_options *options);
TSR_API tsr_optimizer *tsr_lion_for(tsr_module *module, const tsr_lion_options *options);
TSR_API tsr_optimizer *tsr_lamb_for(tsr_module *module, const tsr_lamb_options *options);

TSR_API void tsr_optimizer_destroy(tsr_optimizer *optimizer); /* the parameters live on; NULL is allowed */
TSR_API tsr_status tsr_optimizer_step(tsr_optimizer *optimizer);
TSR_API void tsr_optimizer_clear_grad(tsr_optimizer *optimizer);
TSR_API tsr_status tsr_optimizer_set_lr(tsr_optimizer *optimizer, double lr);
TSR_API double tsr_optimizer_lr(const tsr_optimizer *optimizer);

/* The weight decay of parameter `index` (in the order of the list or the module) from the next step on, in place of the options'. It is no part
 * of a saved training, as the options are not: who goes on sets it again.
 * Errors: TSR_INVALID_ARGUMENT: no optimizer; TSR_OUT_OF_RANGE: no such parameter, or a decay that is negative or not finite. */
TSR_API tsr_status tsr_optimizer_set_weight_decay(tsr_optimizer *optimizer, size_t index, double weight_decay);
/* 0 for NULL, or where there is no such parameter. */
TSR_API double tsr_optimizer_weight_decay(const tsr_optimizer *optimizer, size_t index);
/* Weight decay 0 for all parameters of fewer than 2 dimensions: biases, and the weights of norms. Matrices, filters and embeddings keep theirs.
 * (nanoGPT's groups.) */
TSR_API tsr_status tsr_optimizer_decay_matrices_only(tsr_optimizer *optimizer);

/* The state tensors of parameter `index`, borrowed: "momentum" (SGD); "exp_avg", "exp_avg_sq" (Adam, LAMB; Lion has the first); "square_avg",
 * "momentum_buffer", "grad_avg" (RMSprop; the last where centred); "sum" (Adagrad); and "step" (i32 [1], the whole optimizer's). NULL with an error
 * for another name. They can be read, and replaced through tsr_copy_into. */
TSR_API tsr_tensor *tsr_optimizer_state(tsr_optimizer *optimizer, size_t index, const char *name);

/* ---- gradients clipped before a step, in place; parameters without one are left out ------------------------------------ */

/* Multiplies all gradients by min(1, max_norm / (total + 1e-6)), total being the norm of them all as one vector: norm_type 1, 2 or INFINITY.
 * Returns the total, a scalar in the scope, f32 unless the gradients are f64: nothing waits. A total that is not finite goes into the gradients.
 * (torch.nn.utils.clip_grad_norm_.) */
TSR_API tsr_tensor *tsr_clip_grad_norm(tsr_tensor *const *parameters, size_t count, double max_norm, double norm_type);
/* Clamps every element to [-max_value, max_value]. (torch.nn.utils.clip_grad_value_.) */
TSR_API tsr_status tsr_clip_grad_value(tsr_tensor *const *parameters, size_t count, double max_value);
/* The same for all parameters of an optimizer. */
TSR_API tsr_tensor *tsr_optimizer_clip_grad_norm(tsr_optimizer *optimizer, double max_norm, double norm_type);
TSR_API tsr_status tsr_optimizer_clip_grad_value(tsr_optimizer *optimizer, double max_value);

/* ---- schedules: the learning rate of each step ------------------------------------------------------------------------- */

/* Plain arithmetic on the host. Its whole state is the number of the step that comes next: with a training that was saved, tsr_schedule_seek
 * to its step. Steps count from 0. Constructors give NULL with an error for numbers out of range; the caller destroys what they made.
 * The formulas are torch.optim.lr_scheduler's, in closed form. */
typedef struct tsr_schedule tsr_schedule;

TSR_API tsr_schedule *tsr_constant_schedule_create(double lr);
/* lr gamma^floor(step / every), every ≥ 1. (StepLR.) */
TSR_API tsr_schedule *tsr_step_schedule_create(double lr, int64_t every, double gamma);
/* lr gamma^k with k milestones at or before the step; they are copied, and ascend. (MultiStepLR.) */
TSR_API tsr_schedule *tsr_multi_step_schedule_create(double lr, const int64_t *milestones, size_t count, double gamma);
/* least + (lr - least) (1 + cos(pi step / steps)) / 2, which rises again behind `steps`. (CosineAnnealingLR.) */
TSR_API tsr_schedule *tsr_cosine_schedule_create(double lr, int64_t steps, double least);
/* From lr start, start in [0, 1], in equal parts to lr at step `warmup`, and that from there on. (LinearLR with end_factor 1.) */
TSR_API tsr_schedule *tsr_warmup_schedule_create(double lr, int64_t warmup, double start);
/* The same, but from `warmup` on the cosine down to `least` at step `steps`, and that from there on; warmup < steps. */
TSR_API tsr_schedule *tsr_warmup_cosine_schedule_create(double lr, int64_t warmup, double start, int64_t steps,
                                                        double least);

typedef struct tsr_one_cycle_options {
    double max_lr;           /* required, > 0 */
    int64_t steps;           /* required, ≥ 1; the last rate stays behind them */
    double up_share;         /* PyTorch's pct_start: 0 means 0.3 */
    double div_factor;       /* the first rate is max_lr / div_factor: 0 means 25 */
    double final_div_factor; /* the last one is the first / final_div_factor: 0 means 1e4 */
    bool linear;             /* straight lines instead of cosines */
    bool three_phase;        /* up, down as long, then to the last */
} tsr_one_cycle_options;
/* Smith and Topin 2018; the rates of OneCycleLR (which also moves the momentum: this does not). */
TSR_API tsr_schedule *tsr_one_cycle_schedule_create(const tsr_one_cycle_options *options);

TSR_API void tsr_schedule_destroy(tsr_schedule *schedule); /* NULL is allowed */
/* The rate of any step; 0 for NULL or a negative step. */
TSR_API double tsr_schedule_lr(const tsr_schedule *schedule, int64_t step);
/* Before each optimizer step: gives the optimizer this step's rate, and counts the step. */
TSR_API tsr_status tsr_schedule_step(tsr_schedule *schedule, tsr_optimizer *optimizer);
/* The number of the step that comes next, and going on from there. Error: a negative step. */
TSR_API int64_t tsr_schedule_place(const tsr_schedule *schedule);
TSR_API tsr_status tsr_schedule_seek(tsr_schedule *schedule, int64_t step);

#ifdef __cplusplus
}
#endif
#endif
