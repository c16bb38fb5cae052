/* GPT-2's architecture (Radford et al. 2019, Language models are unsupervised multitask learners): token and position embeddings, blocks of causal
 * attention and a two-layer perceptron with layer norms before them, a last norm, and logits by the token embedding again.
 *
 * Parameters have the names and shapes of the published files ("wte.weight", "h.0.attn.c_attn.weight" [width, 3 width], …), so that
 * tsr_module_load reads them. */
#ifndef TESSERA_GPT_H
#define TESSERA_GPT_H

#include "tessera/nn.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tsr_gpt_options {
    int64_t vocabulary;           /* tokens */
    int64_t context;              /* the longest sequence */
    int64_t width, layers, heads; /* heads divide the width */
    double dropout;               /* of embeddings, and of what attention and perceptron add; 0: none */
} tsr_gpt_options;

/* Indices [batch, sequence] of i32 or i64 → logits [batch, sequence, vocabulary]. Weights are drawn as published: deviation 0.02, and
 * 0.02 / √(2 layers) for what is added to the residual stream; biases 0. Errors: sizes below 1, heads that do not divide the width. */
TSR_API tsr_module *tsr_gpt_create(tsr_device *device, const tsr_gpt_options *options);

/* Runs the blocks again in the backward pass that recompute[0…layers - 1] names; NULL: all. (tsr_sequential_checkpoint.) */
TSR_API tsr_status tsr_gpt_checkpoint(tsr_module *gpt, const bool *recompute);

#ifdef __cplusplus
}
#endif
#endif
