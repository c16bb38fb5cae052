/* GPT-2 out of layers and operators. */
#include "nn/gpt.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "tensor/tensor.h"
#include "tessera/checkpoint.h"

#define EPSILON   1e-5
#define DEVIATION 0.02

/* ---- a linear layer whose weight lies as published: [in, out] ---- */

static tsr_tensor *projection_forward(void *context, tsr_module *self, tsr_tensor *x)
{
    (void)context;
    return tsr_linear(x, tsr_transpose(module_own_parameter(self, 0), 0, 1), module_own_parameter(self, 1));
}

static tsr_module *projection(tsr_device *device, int64_t in, int64_t out, double deviation)
{
    tsr_module *m = tsr_module_create("projection", projection_forward, NULL, NULL);
    tsr_status status = module_add_normal(m, "weight", device, 2, (int64_t[]){in, out}, deviation);
    if (status == TSR_OK)
        status = module_add_constant(m, "bias", device, 1, &out, 0);
    return module_finished(m, status);
}

/* Children by their place; a NULL among them (a constructor that failed) makes the whole NULL. */
static tsr_module *parent(const char *kind, tsr_forward_fn *forward, const tsr_gpt_options *o, const char *const *names,
                          tsr_module *const *children, size_t count)
{
    tsr_module *m = module_create_with(kind, forward, o, sizeof *o);
    tsr_status status = m == NULL ? tsr_last_status() : TSR_OK;
    for (size_t i = 0; i < count; i++) {
        if (status == TSR_OK)
            status = tsr_module_add_child(m, names[i], children[i]);
        else
            tsr_module_destroy(children[i]);
    }
    return m == NULL ? NULL : module_finished(m, status);
}

/* ---- a block ---- */

tsr_tensor *gpt_heads(tsr_tensor *qkv, int i, const tsr_gpt_options *o)
{
    if (qkv == NULL)
        return NULL;
    tsr_tensor *part = tsr_narrow(qkv, 2, i * o->width, o->width);
    const int64_t shape[] = {tsr_size(qkv, 0), tsr_size(qkv, 1), o->heads, o->width / o->heads};
    return tsr_transpose(tsr_reshape(part, 4, shape), 1, 2);
}

tsr_tensor *gpt_join_heads(tsr_tensor *y, const tsr_gpt_options *o)
{
    if (y == NULL)
        return NULL;
    return tsr_reshape(tsr_transpose(y, 1, 2), 3, (int64_t[]){tsr_size(y, 0), tsr_size(y, 2), o->width});
}

static tsr_tensor *attention_forward(void *context, tsr_module *self, tsr_tensor *x)
{
    const tsr_gpt_options *o = context;
    tsr_tensor *qkv = gpt_child(self, C_ATTN, x), *part[3];
    for (int i = 0; i < 3; i++)
        part[i] = gpt_heads(qkv, i, o);
    tsr_tensor *y = tsr_scaled_dot_product_attention(part[0], part[1], part[2], NULL, true, 0);
    return tsr_dropout(gpt_child(self, ATTN_PROJ, gpt_join_heads(y, o)), o->dropout, self->training);
}

static tsr_tensor *mlp_forward(void *context, tsr_module *self, tsr_tensor *x)
{
    const tsr_gpt_options *o = context;
    return tsr_dropout(gpt_child(self, MLP_PROJ, tsr_gelu_tanh(gpt_child(self, C_FC, x))), o->dropout, self->training);
}

static tsr_tensor *block_forward(void *context, tsr_module *self, tsr_tensor *x)
{
    (void)context;
    x = tsr_add(x, gpt_child(self, ATTN, gpt_child(self, LN_1, x)));
    return tsr_add(x, gpt_child(self, MLP, gpt_child(self, LN_2, x)));
}

static tsr_module *block(tsr_device *device, const tsr_gpt_options *o, double deviation)
{
    const double residual = deviation / sqrt(2.0 * (double)o->layers);
    const int64_t width = o->width;
    /* One after the other: each takes the next random numbers. */
    tsr_module *attention[2], *mlp[2], *parts[4];
    parts[LN_1] = tsr_layer_norm_create(device, 1, &width, EPSILON, true);
    attention[C_ATTN] = projection(device, width, 3 * width, deviation);
    attention[ATTN_PROJ] = projection(device, width, width, residual);
    parts[ATTN] = parent("attention", attention_forward, o, (const char *const[]){"c_attn", "c_proj"}, attention, 2);
    parts[LN_2] = tsr_layer_norm_create(device, 1, &width, EPSILON, true);
    mlp[C_FC] = projection(device, width, 4 * width, deviation);
    mlp[MLP_PROJ] = projection(device, 4 * width, width, residual);
    parts[MLP] = parent("mlp", mlp_forward, o, (const char *const[]){"c_fc", "c_proj"}, mlp, 2);
    return parent("block", block_forward, o, (const char *const[]){"ln_1", "attn", "ln_2", "mlp"}, parts, 4);
}

/* ---- the whole ---- */

static tsr_tensor *gpt_forward(void *context, tsr_module *self, tsr_tensor *x)
{
    const tsr_gpt_options *o = context;
    if (tsr_rank(x) != 2 || tsr_size(x, 1) < 1 || tsr_size(x, 1) > o->context) {
        fail(TSR_INVALID_ARGUMENT, "gpt: it takes indices [batch, sequence] of 1 to %lld tokens, not %s",
             (long long)o->context, tensor_text(x));
        return NULL;
    }
    tsr_tensor *places = module_own_parameter(self->children[WPE].module, 0);
    tsr_tensor *y = tsr_add(gpt_child(self, WTE, x), tsr_narrow(places, 0, 0, tsr_size(x, 1)));
    y = gpt_child(self, LN_F, gpt_child(self, H, tsr_dropout(y, o->dropout, self->training)));
    return tsr_linear(y, module_own_parameter(self->children[WTE].module, 0), NULL);
}

static bool options_valid(const tsr_gpt_options *o)
{
    if (o != NULL && o->vocabulary >= 1 && o->context >= 1 && o->width >= 1 && o->layers >= 1 && o->heads >= 1 &&
        o->width % o->heads == 0 && o->width <= INT32_MAX / 4 && o->dropout >= 0 && o->dropout < 1)
        return true;
    fail(TSR_OUT_OF_RANGE, "gpt: sizes must be at least 1, heads divide the width, dropout lie in [0, 1)");
    return false;
}

static tsr_module *blocks(tsr_device *device, const tsr_gpt_options *o, double deviation)
{
    tsr_module **list = host_alloc_zeroed((size_t)o->layers, sizeof *list);
    if (list == NULL)
        return NULL;
    for (int64_t i = 0; i < o->layers && (i == 0 || list[i - 1] != NULL); i++)
        list[i] = block(device, o, deviation);
    tsr_module *m = tsr_sequential_create(list, (size_t)o->layers);
    host_free(list);
    return m;
}

tsr_module *gpt_create(tsr_device *device, const tsr_gpt_options *o, double deviation)
{
    if (device == NULL || !options_valid(o))
        return NULL;
    tsr_module *parts[4];
    parts[WTE] = module_embedding(device, o->vocabulary, o->width, -1, deviation);
    parts[WPE] = module_embedding(device, o->context, o->width, -1, deviation);
    parts[H] = blocks(device, o, deviation);
    parts[LN_F] = tsr_layer_norm_create(device, 1, &o->width, EPSILON, true);
    return parent("gpt", gpt_forward, o, (const char *const[]){"wte", "wpe", "h", "ln_f"}, parts, 4);
}

tsr_module *tsr_gpt_create(tsr_device *device, const tsr_gpt_options *o)
{
    return gpt_create(device, o, DEVIATION);
}

const tsr_gpt_options *gpt_options(const tsr_module *gpt, const char *what)
{
    if (gpt != NULL && gpt->forward == gpt_forward)
        return gpt->context;
    fail(TSR_INVALID_ARGUMENT, "%s: this is no module of tsr_gpt_create", what);
    return NULL;
}

tsr_status tsr_gpt_describe(const tsr_module *gpt, tsr_gpt_options *options)
{
    const tsr_gpt_options *o = gpt_options(gpt, "tsr_gpt_describe");
    if (o == NULL)
        return TSR_INVALID_ARGUMENT;
    if (options == NULL)
        return fail(TSR_INVALID_ARGUMENT, "tsr_gpt_describe: nowhere to write to");
    *options = *o;
    return TSR_OK;
}

tsr_status tsr_gpt_checkpoint(tsr_module *gpt, const bool *recompute)
{
    const tsr_gpt_options *o = gpt_options(gpt, "tsr_gpt_checkpoint");
    if (o == NULL)
        return TSR_INVALID_ARGUMENT;
    return tsr_sequential_checkpoint(gpt->children[H].module, recompute, (size_t)o->layers);
}
