/* Text from a GPT, token after token. Keys and values of all tokens so far stay on the device, so that a token costs one pass over itself. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/philox.h"
#include "nn/gpt.h"
#include "tensor/tensor.h"
#include "tessera/autograd.h"

typedef struct generator {
    tsr_module *gpt;
    const tsr_gpt_options *sizes;
    const tsr_generate_options *options;
    tsr_device *device;
    tsr_tensor **keys, **values; /* of each layer [1, heads, context, width / heads] */
    int64_t *window;             /* the latest tokens, at most `context` */
    int64_t count, cached;       /* of them, and how many have keys and values */
    float *logits;               /* [vocabulary] */
    double *weights;             /* [vocabulary] of the draw */
    philox_stream random;
} generator;

/* ---- the model, one piece of sequence at a time ------------------------------------------------------------------- */

static tsr_status keep_at(tsr_tensor *cache, int64_t place, tsr_tensor *part)
{
    tsr_tensor *room = part == NULL ? NULL : tsr_narrow(cache, 2, place, tsr_size(part, 2));
    return room == NULL ? tsr_last_status() : tsr_copy_into(room, part);
}

/* Several tokens only come at the beginning, so that the causal mask is the usual one; a single one sees all there are. */
static tsr_tensor *attend(generator *g, int64_t layer, tsr_module *attention, tsr_tensor *x)
{
    const tsr_gpt_options *o = g->sizes;
    tsr_tensor *qkv = gpt_child(attention, C_ATTN, x);
    if (keep_at(g->keys[layer], g->cached, gpt_heads(qkv, 1, o)) != TSR_OK ||
        keep_at(g->values[layer], g->cached, gpt_heads(qkv, 2, o)) != TSR_OK)
        return NULL;
    const int64_t tokens = tsr_size(x, 1);
    tsr_tensor *y =
        tsr_scaled_dot_product_attention(gpt_heads(qkv, 0, o), tsr_narrow(g->keys[layer], 2, 0, g->cached + tokens),
                                         tsr_narrow(g->values[layer], 2, 0, g->cached + tokens), NULL, tokens > 1, 0);
    return gpt_child(attention, ATTN_PROJ, gpt_join_heads(y, o));
}

static tsr_tensor *run_block(generator *g, int64_t layer, tsr_tensor *x)
{
    const tsr_module *block = g->gpt->children[H].module->children[layer].module;
    x = tsr_add(x, attend(g, layer, block->children[ATTN].module, gpt_child(block, LN_1, x)));
    return tsr_add(x, gpt_child(block, MLP, gpt_child(block, LN_2, x)));
}

/* Takes in the tokens of the window that have no keys yet; reads the logits behind the last one. */
static tsr_status advance(generator *g)
{
    const int64_t n = g->count - g->cached, shape[] = {1, n};
    const tsr_module *gpt = g->gpt;
    tsr_tensor *tokens = tsr_from_data(g->device, TSR_I64, 2, shape, g->window + g->cached);
    tsr_tensor *places = module_own_parameter(gpt->children[WPE].module, 0);
    tsr_tensor *x = tsr_add(gpt_child(gpt, WTE, tokens), tsr_narrow(places, 0, g->cached, n));
    for (int64_t i = 0; i < g->sizes->layers && x != NULL; i++)
        x = run_block(g, i, x);
    x = x == NULL ? NULL : tsr_narrow(x, 1, n - 1, 1);
    x = tsr_linear(gpt_child(gpt, LN_F, x), module_own_parameter(gpt->children[WTE].module, 0), NULL);
    if (x == NULL)
        return tsr_last_status();
    g->cached = g->count;
    return tsr_read_f32(x, g->logits, (size_t)g->sizes->vocabulary);
}

/* A full window goes on with its later half: positions are learned, so that keys cannot be moved. */
static void push(generator *g, int64_t token)
{
    if (g->count == g->sizes->context) {
        const int64_t half = g->count / 2;
        memmove(g->window, g->window + g->count - half, (size_t)half * sizeof *g->window);
        g->count = half;
        g->cached = 0;
    }
    g->window[g->count++] = token;
}

/* ---- the next token ----------------------------------------------------------------------------------------------- */

static int64_t likeliest(const generator *g)
{
    int64_t best = 0;
    for (int64_t i = 1; i < g->sizes->vocabulary; i++)
        best = g->logits[i] > g->logits[best] ? i : best;
    return best;
}

static int descending(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

/* The k-th largest logit; what lies below it is not drawn. */
static float threshold(generator *g)
{
    const int64_t n = g->sizes->vocabulary, k = g->options->top_k;
    if (k <= 0 || k >= n)
        return -INFINITY;
    float *sorted = (float *)g->weights;
    memcpy(sorted, g->logits, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, descending);
    return sorted[k - 1];
}

/* In f64 and in order, so that every device whose logits agree draws the same. */
static int64_t draw(generator *g)
{
    const int64_t n = g->sizes->vocabulary, best = likeliest(g);
    const float least = threshold(g);
    double sum = 0;
    if (g->options->temperature == 0)
        return best;
    for (int64_t i = 0; i < n; i++) {
        const double x = ((double)g->logits[i] - (double)g->logits[best]) / g->options->temperature;
        g->weights[i] = g->logits[i] >= least ? exp(x) : 0;
        sum += g->weights[i];
    }
    const uint32_t high = philox_next(&g->random);
    double left = philox_unit_double(high, philox_next(&g->random)) * sum;
    for (int64_t i = 0; i < n; i++) {
        left -= g->weights[i];
        if (left < 0)
            return i;
    }
    return best; /* what rounding left over */
}

/* ---- all of it ---------------------------------------------------------------------------------------------------- */

static tsr_status check(const tsr_gpt_options *sizes, const int64_t *prompt, size_t count,
                        const tsr_generate_options *o)
{
    if (o == NULL || o->take == NULL || prompt == NULL || count == 0)
        return fail(TSR_INVALID_ARGUMENT, "tsr_gpt_generate: it needs options, a prompt and who takes the tokens");
    if (!(o->temperature >= 0) || isinf(o->temperature) || o->top_k < 0 || o->length < 0)
        return fail(TSR_OUT_OF_RANGE, "tsr_gpt_generate: temperature, top_k and length must be at least 0, and finite");
    for (size_t i = 0; i < count; i++)
        if (prompt[i] < 0 || prompt[i] >= sizes->vocabulary)
            return fail(TSR_OUT_OF_RANGE, "tsr_gpt_generate: token %zu of the prompt is %lld; the vocabulary has %lld",
                        i, (long long)prompt[i], (long long)sizes->vocabulary);
    return TSR_OK;
}

static tsr_status open_generator(generator *g)
{
    const tsr_gpt_options *o = g->sizes;
    const size_t layers = (size_t)o->layers, vocabulary = (size_t)o->vocabulary;
    const int64_t shape[] = {1, o->heads, o->context, o->width / o->heads};
    const tsr_dtype dtype = tsr_dtype_of(module_own_parameter(g->gpt->children[WTE].module, 0));
    g->keys = host_alloc_zeroed(layers, sizeof(tsr_tensor *));
    g->values = host_alloc_zeroed(layers, sizeof(tsr_tensor *));
    g->window = host_alloc_zeroed((size_t)o->context, sizeof *g->window);
    g->logits = host_alloc_zeroed(vocabulary, sizeof *g->logits);
    g->weights = host_alloc_zeroed(vocabulary, sizeof *g->weights);
    if (g->keys == NULL || g->values == NULL || g->window == NULL || g->logits == NULL || g->weights == NULL)
        return TSR_OUT_OF_MEMORY;
    for (size_t i = 0; i < layers; i++) {
        g->keys[i] = tsr_zeros(g->device, dtype, 4, shape);
        g->values[i] = tsr_zeros(g->device, dtype, 4, shape);
        if (g->keys[i] == NULL || g->values[i] == NULL)
            return tsr_last_status();
    }
    return TSR_OK;
}

static void close_generator(generator *g)
{
    host_free((void *)g->keys);
    host_free((void *)g->values);
    host_free(g->window);
    host_free(g->logits);
    host_free(g->weights);
}

static tsr_status next_token(generator *g, int64_t *token)
{
    tsr_status status = tsr_scope_begin();
    if (status != TSR_OK)
        return status;
    status = advance(g);
    tsr_scope_end();
    if (status == TSR_OK)
        *token = draw(g);
    return status;
}

static tsr_status generate(generator *g, const int64_t *prompt, size_t count)
{
    tsr_status status = open_generator(g);
    for (size_t i = count > (size_t)g->sizes->context ? count - (size_t)g->sizes->context : 0; i < count; i++)
        if (status == TSR_OK)
            push(g, prompt[i]);
    for (int64_t i = 0; i < g->options->length && status == TSR_OK; i++) {
        int64_t token;
        status = next_token(g, &token);
        if (status != TSR_OK || !g->options->take(g->options->context, token))
            break;
        push(g, token);
    }
    return status;
}

tsr_status tsr_gpt_generate(tsr_module *gpt, const int64_t *prompt, size_t count, const tsr_generate_options *options)
{
    generator g = {.gpt = gpt, .sizes = gpt_options(gpt, "tsr_gpt_generate"), .options = options};
    tsr_status status = g.sizes == NULL ? TSR_INVALID_ARGUMENT : check(g.sizes, prompt, count, options);
    if (status == TSR_OK)
        status = tsr_scope_begin();
    if (status != TSR_OK)
        return status;
    const bool training = tsr_module_is_training(gpt);
    g.device = tsr_device_of(module_own_parameter(gpt->children[WTE].module, 0));
    g.random = philox_begin(options->seed, PHILOX_TEXT, 0);
    tsr_module_train(gpt, false);
    tsr_no_grad_begin();
    status = generate(&g, prompt, count);
    tsr_no_grad_end();
    tsr_module_train(gpt, training);
    close_generator(&g);
    tsr_scope_end();
    return status;
}
