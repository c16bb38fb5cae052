/* The next token of a text, by GPT-2's architecture. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "data/shipped.h"
#include "task.h"
#include "tessera/gpt.h"
#include "tessera/ops.h"
#include "vocabulary.h"

/* minGPT's names for the small ones; small is nanoGPT's of characters, gpt2 the published one of 124 million parameters. Learning rates go down as
 * widths go up: about 0.48 / width, which meets what nanoGPT uses for the two (Yang et al. 2022 on why). */
static const struct gpt_size {
    const char *name;
    int64_t layers, heads, width, context;
    double rate;
} sizes[] = {
    {"nano", 3, 3, 48, 64, 0.01},     {"micro", 4, 4, 128, 128, 0.004},  {"mini", 6, 6, 192, 256, 0.0025},
    {"small", 6, 6, 384, 256, 0.001}, {"gpt2", 12, 12, 768, 1024, 6e-4},
};

const char *const gpt_names[] = {"nano", "micro", "mini", "small", "gpt2", NULL};

static const struct gpt_size *size_of(const char *model)
{
    size_t i = 0;
    while (i + 1 < sizeof sizes / sizeof *sizes && strcmp(sizes[i].name, model) != 0)
        i++;
    return &sizes[i];
}

double gpt_learning_rate(const char *model)
{
    return size_of(model)->rate;
}

/* Of the text's bytes; the rest is the test. */
static const double learnt_part = 0.9;

/* That an evaluation between two steps takes: the mean of so many is known to about a hundredth. */
enum { EVALUATED_TOKENS = 1 << 16 };

typedef struct language {
    tsr_gpt_options sizes;
    tsr_tokenizer *tokenizer;
    char path[PATH_SIZE], note[PATH_SIZE], heads[24];
    tsr_metadata notes[2];
} language;

static tsr_module *create(const task *t, tsr_device *device)
{
    const language *l = t->state;
    return tsr_gpt_create(device, &l->sizes);
}

static tsr_status checkpoint(tsr_module *model)
{
    return tsr_gpt_checkpoint(model, NULL);
}

/* Each token is a sample of its own. */
static tsr_tensor *loss_of(tsr_tensor *logits, tsr_tensor *targets)
{
    if (logits == NULL)
        return NULL;
    return tsr_cross_entropy(tsr_reshape(logits, 2, (int64_t[]){-1, tsr_size(logits, 2)}),
                             tsr_reshape(targets, 1, (int64_t[]){-1}));
}

static void describe(const task *t, char *line, size_t size)
{
    const language *l = t->state;
    const char *slash = strrchr(l->path, '/');
    const int64_t w = l->sizes.width;
    const int64_t parameters =
        (l->sizes.vocabulary + l->sizes.context) * w + l->sizes.layers * (12 * w + 13) * w + 2 * w;
    snprintf(line, size, "gpt %s (%.3g million parameters) on %s: %lld tokens, context %lld", t->settings->model,
             (double)parameters / 1e6, slash != NULL ? slash + 1 : l->path,
             (long long)(tsr_dataset_count(t->train) + l->sizes.context), (long long)l->sizes.context);
}

static tsr_status find_text(const train_settings *s, language *l)
{
    if (s->data == NULL)
        return shipped_text_find(l->path, sizeof l->path);
    snprintf(l->path, sizeof l->path, "%s", s->data);
    return TSR_OK;
}

static tsr_status open_text(task *t, language *l)
{
    const train_settings *s = t->settings;
    tsr_text_options options = {.context = l->sizes.context, .stride = 1, .to = learnt_part};
    t->train = tsr_text_open(l->path, l->tokenizer, &options);
    options = (tsr_text_options){.context = l->sizes.context, .from = learnt_part};
    t->test = t->train == NULL ? NULL : tsr_text_open(l->path, l->tokenizer, &options);
    t->units = l->sizes.context;
    t->test_batch = s->batch;
    t->evaluated = EVALUATED_TOKENS / l->sizes.context;
    return t->test == NULL ? tsr_last_status() : TSR_OK;
}

/* What tessera generate needs beside the weights. */
static tsr_status take_notes(task *t, language *l)
{
    const train_settings *s = t->settings;
    snprintf(l->heads, sizeof l->heads, "%lld", (long long)l->sizes.heads);
    l->notes[0] = (tsr_metadata){"gpt.heads", l->heads};
    l->notes[1] = (tsr_metadata){"gpt.tokens", l->note};
    t->notes = l->notes;
    t->note_count = 2;
    return s->save != NULL ? vocabulary_save(l->tokenizer, s->tokens, s->save, l->note, sizeof l->note) : TSR_OK;
}

static tsr_status open_language(task *t, language *l)
{
    const train_settings *s = t->settings;
    const struct gpt_size *size = size_of(s->model);
    tsr_status status = find_text(s, l);
    l->tokenizer = status == TSR_OK ? vocabulary_open(s->tokens, l->path) : NULL;
    if (l->tokenizer == NULL)
        return tsr_last_status();
    l->sizes = (tsr_gpt_options){.vocabulary = tsr_tokenizer_vocabulary(l->tokenizer),
                                 .context = s->context > 0 ? s->context : size->context,
                                 .width = size->width,
                                 .layers = size->layers,
                                 .heads = size->heads,
                                 .dropout = s->dropout};
    status = open_text(t, l);
    return status == TSR_OK ? take_notes(t, l) : status;
}

static void release(void *state)
{
    language *l = state;
    tsr_tokenizer_destroy(l->tokenizer);
    host_free(l);
}

tsr_status task_open_gpt(task *t, const train_settings *settings)
{
    language *l = host_alloc_zeroed(1, sizeof *l);
    *t = (task){.unit = "tokens",
                .settings = settings,
                .model = create,
                .checkpoint = checkpoint,
                .loss = loss_of,
                .describe = describe,
                .release = release,
                .state = l};
    return l == NULL ? tsr_last_status() : open_language(t, l);
}
