/* What the command line left open. */
#include <string.h>

#include "base/text.h"
#include "command.h"
#include "task.h"

/* What a task is trained with unless the command line says otherwise. */
static void settle_mnist(train_settings *s)
{
    s->model = s->model != NULL ? s->model : "cnn";
    s->optimizer = s->optimizer != NULL ? s->optimizer : "adam";
    s->schedule = s->schedule != NULL ? s->schedule : "constant";
    s->epochs = s->epochs > 0 ? s->epochs : 1;
    s->batch = s->batch > 0 ? s->batch : 64;
    s->warmup = s->warmup >= 0 ? s->warmup : 0;
    s->clip = s->clip >= 0 ? s->clip : 0;
}

static void settle_gpt(train_settings *s)
{
    s->model = s->model != NULL ? s->model : "nano";
    s->optimizer = s->optimizer != NULL ? s->optimizer : "adamw";
    s->lr = s->lr > 0 || strcmp(s->optimizer, "sgd") == 0 ? s->lr : gpt_learning_rate(s->model);
    s->schedule = s->schedule != NULL ? s->schedule : "cosine";
    s->steps = s->steps > 0 || s->epochs > 0 ? s->steps : 2000;
    s->batch = s->batch > 0 ? s->batch : 32;
    s->warmup = s->warmup >= 0 ? s->warmup : s->steps < 1000 ? s->steps / 10 : 100;
    s->clip = s->clip >= 0 ? s->clip : 1;
    s->tokens = s->tokens != NULL ? s->tokens : "bytes";
    s->decay_matrices = true; /* as nanoGPT */
}

static bool model_fits(const train_settings *s)
{
    const char *const *names = task_models(s->task);
    text all = {0};
    bool fits = false;
    for (size_t i = 0; names[i] != NULL; i++) {
        fits = fits || strcmp(names[i], s->model) == 0;
        text_appendf(&all, "%s%s", i > 0 ? ", " : "", names[i]);
    }
    if (!fits)
        complain("train %s: --model %s is of another task; it is one of %s", s->task, s->model, text_string(&all));
    text_free(&all);
    return fits;
}

bool train_settle(train_settings *s, const char *subject)
{
    s->task = subject;
    if (strcmp(subject, "gpt") == 0) {
        settle_gpt(s);
        if (s->lockstep > 0) {
            complain("--lockstep is for mnist; tessera compare checks every operator of a gpt");
            return false;
        }
    } else {
        if (s->tokens != NULL || s->context > 0 || s->dropout > 0) {
            complain("--tokens, --context and --dropout are for gpt");
            return false;
        }
        settle_mnist(s);
    }
    return model_fits(s);
}
