/* The parts of a GPT, for who runs them in another way than its forward function: with the keys and values of earlier tokens kept. */
#ifndef TESSERA_NN_GPT_H
#define TESSERA_NN_GPT_H

#include "nn/module.h"
#include "tessera/gpt.h"

/* Children by their place: of the whole, of a block, of its attention and of its perceptron. */
enum { WTE, WPE, H, LN_F };
enum { LN_1, ATTN, LN_2, MLP };
enum { C_ATTN, ATTN_PROJ };
enum { C_FC, MLP_PROJ };

static inline tsr_tensor *gpt_child(const tsr_module *m, int i, tsr_tensor *x)
{
    return tsr_forward(m->children[i].module, x);
}

/* tsr_gpt_create with weights of this deviation; 0: zeros, for who fills them in. */
tsr_module *gpt_create(tsr_device *device, const tsr_gpt_options *options, double deviation);

/* The options that it was made with; NULL, with "`what`: …" as the thread's error, for another module. */
const tsr_gpt_options *gpt_options(const tsr_module *gpt, const char *what);

/* [batch, sequence, 3 width] → part i of it, of queries, keys and values, as [batch, heads, sequence, width / heads]; and one back to
 * [batch, sequence, width]. */
tsr_tensor *gpt_heads(tsr_tensor *qkv, int i, const tsr_gpt_options *o);
tsr_tensor *gpt_join_heads(tsr_tensor *y, const tsr_gpt_options *o);

#endif
