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

/* What it was made with. Errors: another module. */
TSR_API tsr_status tsr_gpt_describe(const tsr_module *gpt, tsr_gpt_options *options);

/* Makes a GPT of the file's weights (safetensors in the published layout), its sizes read from their shapes. Names may have "transformer." or "model."
 * before them, as in files of Hugging Face's library and in training states. What the shapes do not tell is heads: `heads`, or with 0 the
 * file's metadata "gpt.heads", "n_head" in config.json beside the file, and last width / 64, as all published sizes have it.
 * The caller destroys it. Errors: as tsr_safetensors_open; TSR_CORRUPT_DATA for a file without these tensors. */
TSR_API tsr_module *tsr_gpt_load(tsr_device *device, const char *path, int64_t heads);

typedef struct tsr_generate_options {
    int64_t length;     /* tokens to make, at most */
    double temperature; /* logits are divided by it; 0: always the likeliest token */
    int64_t top_k;      /* only the k likeliest are drawn; 0: all */
    uint64_t seed;
    bool (*take)(void *context, int64_t token); /* gets each token as it is made; false ends the generation */
    void *context;
} tsr_generate_options;
/* Continues prompt[0…count - 1], at least one token. Runs without dropout, and keeps the keys and values of earlier tokens on the device: one token more
 * costs one pass over one token. When the model's context is full, its later half is taken in anew. Waits for each token.
 * Errors: TSR_OUT_OF_RANGE for tokens outside the vocabulary and options out of range. */
TSR_API tsr_status tsr_gpt_generate(tsr_module *gpt, const int64_t *prompt, size_t count,
                                    const tsr_generate_options *options);

/* Runs the blocks again in the backward pass that recompute[0…layers - 1] names; NULL: all. (tsr_sequential_checkpoint.) */
TSR_API tsr_status tsr_gpt_checkpoint(tsr_module *gpt, const bool *recompute);

#ifdef __cplusplus
}
#endif
#endif
