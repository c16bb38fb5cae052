/* What all optimizers share: parameters, their state tensors, and the step's numbers in device memory. */
#ifndef TESSERA_OPTIM_OPTIMIZER_H
#define TESSERA_OPTIM_OPTIMIZER_H

#include "dispatch/launch.h"
#include "tensor/tensor.h"
#include "tessera/optim.h"

enum { OPTIMIZER_STATES = 3 };

typedef struct optimizer_row {
    const char *kind;
    const char *states[OPTIMIZER_STATES]; /* names of the tensors that a parameter has, of its shape */
    /* Queues the update of parameter i with gradient `grad`, contiguous. */
    bool (*update)(tsr_optimizer *optimizer, size_t i, const tensor *grad);
} optimizer_row;

struct tsr_optimizer {
    const optimizer_row *row;
    tsr_device *device;
    size_t count;
    tensor **parameters; /* references */
    tensor **states;     /* count × OPTIMIZER_STATES; NULL where the row names none */
    unsigned *made;  /* the version of each parameter's first state as it was made: nothing has written to it since */
    tensor *step;    /* i32 [1] */
    tensor *numbers; /* f32 [5]: learning rate, 1 - beta1^t, 1 - beta2^t, t - 1, whether the step is skipped */
    tensor *never;   /* i32 [1]: 0, what says that it is not */
    tensor *scratch; /* of LAMB: f32 [1 + 2 × groups of the largest parameter] */
    double lr;
    double *weight_decays;          /* of each parameter: the options' unless it was given its own */
    float complement1, complement2; /* 1 - beta, for the tick */
    union {
        tsr_sgd_options sgd;
        struct {
            tsr_adam_options options;
            bool decoupled;
        } adam;
        tsr_rmsprop_options rmsprop;
        tsr_adagrad_options adagrad;
        tsr_lion_options lion;
        tsr_lamb_options lamb;
    };
};

/* A step that changes nothing if `skips`, one i32 in device memory, is not 0. */
bool optimizer_step_unless(tsr_optimizer *optimizer, hal_binding skips);

/* Whether neither a step nor the caller has written to parameter i's first state. */
bool optimizer_state_is_new(const tsr_optimizer *optimizer, size_t i);

/* Sets the first state of every parameter to `value`, as it was made. */
bool optimizer_state_fill(tsr_optimizer *optimizer, double value);

/* Whether a decay rate lies in (0, 1), an epsilon above 0, a weight decay not below 0. */
bool optimizer_numbers_valid(const char *kind, double beta1, double beta2, double epsilon, double weight_decay);
/* Work-groups that update a parameter. */
grid optimizer_groups(const tensor *parameter);

/* The parameters must be contiguous f32 leaves of one device; each begins with the weight decay given. */
tsr_optimizer *optimizer_create(const optimizer_row *row, tsr_tensor *const *parameters, size_t count, double lr,
                                double weight_decay);
/* The options of tsr_*_for: every parameter of a module, handed to `make`. */
typedef tsr_optimizer *optimizer_make(tsr_tensor *const *parameters, size_t count, const void *options);
tsr_optimizer *optimizer_for_module(tsr_module *module, optimizer_make *make, const void *options);

enum { OPTIMIZER_PER_GROUP = 4096 };

#endif
