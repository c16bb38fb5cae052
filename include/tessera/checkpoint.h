/* Activation checkpointing: a part of the forward pass keeps only its inputs and runs again when the backward pass comes to it. (Griewank and
 * Walther 2000; Chen et al. 2016, Training deep nets with sublinear memory cost; torch.utils.checkpoint.)
 *
 * Gradients are bitwise those without: the second run draws the same random numbers, casts as the first one did, and its operators take the places of
 * those that were not recorded, so that gradients add up in the same order. */
#ifndef TESSERA_CHECKPOINT_H
#define TESSERA_CHECKPOINT_H

#include "tessera/nn.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The part: makes outputs from inputs with any operators and modules, in a scope of its own. It is called again with tensors of the same values,
 * and must then do the same; it may use parameters, which need not be among the inputs, but no other tensors that require gradients. */
typedef tsr_status tsr_checkpoint_fn(void *context, tsr_tensor *const *inputs, int input_count, tsr_tensor **outputs,
                                     int output_count);

/* Runs fn and puts up to 4 outputs into the scope; up to 8 inputs. `release` (may be NULL) is called once with context, when the part will not be
 * run again, on failure too. Parts may lie inside parts. Errors: those of fn. */
TSR_API tsr_status tsr_checkpoint(tsr_checkpoint_fn *fn, void *context, void (*release)(void *context),
                                  tsr_tensor *const *inputs, int input_count, tsr_tensor **outputs, int output_count);

/* tsr_forward(module, x) as such a part; the module must live until the backward pass. Running statistics move once. */
TSR_API tsr_tensor *tsr_checkpoint_forward(tsr_module *module, tsr_tensor *x);

/* Which children of a sequential module run as such parts from now on: bit by bit in recompute[0…count - 1], one for each child; NULL: all, and
 * count does not matter. * Errors: no sequential module; another count. */
TSR_API tsr_status tsr_sequential_checkpoint(tsr_module *module, const bool *recompute, size_t count);

/* What a layer of a chain costs: seconds of its forward pass, bytes that it keeps for the backward pass (its input left out), bytes of its output. */
typedef struct tsr_layer_cost {
    double seconds;
    uint64_t saved_bytes, output_bytes;
} tsr_layer_cost;

/* Measures them for each of the `count` children of a sequential module on x: the second of two forward passes is timed, the device idle before and
 * after. Errors: as tsr_sequential_checkpoint; those of the children. */
TSR_API tsr_status tsr_sequential_costs(tsr_module *module, tsr_tensor *x, tsr_layer_cost *layers, size_t count);

typedef struct tsr_checkpoint_cost {
    double seconds;      /* of forward passes run again */
    uint64_t peak_bytes; /* what the chain keeps, and the largest part while it runs again */
} tsr_checkpoint_cost;

/* Chooses the layers to run again, each as a part of its own, so that the chain of `count` layers stays within budget bytes and the least time is
 * spent again: the best choice, by dynamic programming, with bytes rounded up to 1/4096 of the budget. recompute[i] tells of layer i; *cost (may be
 * NULL) what it comes to. Errors: TSR_OUT_OF_DEVICE_MEMORY where no choice stays within the budget, with the least that one needs. */
TSR_API tsr_status tsr_checkpoint_plan(const tsr_layer_cost *layers, size_t count, uint64_t budget, bool *recompute,
                                       tsr_checkpoint_cost *cost);

#ifdef __cplusplus
}
#endif
#endif
