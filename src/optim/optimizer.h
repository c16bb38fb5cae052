/* What all optimizers share: parameters, their state tensors, and the step's numbers in device memory. */
#ifndef TESSERA_OPTIM_OPTIMIZER_H
#define TESSERA_OPTIM_OPTIMIZER_H

#include "tensor/tensor.h"
#include "tessera/optim.h"

enum { OPTIMIZER_STATES = 2 };

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
    tensor *numbers; /* f32 [4]: learning rate, 1 - beta1^t, 1 - beta2^t, unused */
    double lr;
    float complement1, complement2; /* 1 - beta, for the tick */
    union {
        tsr_sgd_options sgd;
        struct {
            tsr_adam_options options;
            bool decoupled;
        } adam;
    };
};

/* Whether neither a step nor the caller has written to parameter i's first state. */
bool optimizer_state_is_new(const tsr_optimizer *optimizer, size_t i);

/* The parameters must be contiguous f32 leaves of one device. */
tsr_optimizer *optimizer_create(const optimizer_row *row, tsr_tensor *const *parameters, size_t count, double lr);
/* The options of tsr_*_for: every parameter of a module, handed to `make`. */
typedef tsr_optimizer *optimizer_make(tsr_tensor *const *parameters, size_t count, const void *options);
tsr_optimizer *optimizer_for_module(tsr_module *module, optimizer_make *make, const void *options);

enum { OPTIMIZER_PER_GROUP = 4096 };

#endif
