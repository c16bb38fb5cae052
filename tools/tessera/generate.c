/* tessera generate: text from a saved GPT. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/memory.h"
#include "command.h"
#include "device_list.h"
#include "interrupt.h"
#include "terminal.h"
#include "tessera/gpt.h"
#include "tessera/io.h"
#include "vocabulary.h"

typedef struct generate_settings {
    const char *file;
    const char *prompt, *device, *tokens;
    int64_t length, top_k;
    double temperature;
    uint64_t seed;
} generate_settings;

#define FIELD(name) offsetof(generate_settings, name)
static const option options[] = {
    {"prompt", "TEXT", OPTION_TEXT, FIELD(prompt), "what it goes on from; a line's end if not given", 0, 0, NULL},
    {"length", "N", OPTION_INT, FIELD(length), "tokens to write; 300 if not given", 1, 1e9, NULL},
    {"temperature", "X", OPTION_REAL, FIELD(temperature),
     "below 1 likelier, above 1 stranger text; 0: always the likeliest token;\n0.8 if not given", 0, 1e6, NULL},
    {"top-k", "N", OPTION_INT, FIELD(top_k), "draws among the N likeliest tokens; all if not given", 1, 1e9, NULL},
    {"seed", "N", OPTION_SEED, FIELD(seed), "of the draws; 0 if not given", 0, 0, NULL},
    {"device", "NAME", OPTION_TEXT, FIELD(device), "TESSERA_DEVICE or cpu if not given", 0, 0, NULL},
    {"tokens", "WORD", OPTION_TEXT, FIELD(tokens),
     "bytes, or a folder with vocab.json and merges.txt; what the model was\ntrained with, or what lies beside it, if "
     "not given",
     0, 0, NULL},
};

static void set_defaults(void *settings)
{
    generate_settings *s = settings;
    s->length = 300;
    s->temperature = 0.8;
}

typedef struct writer {
    const generate_settings *settings;
    device_list devices;
    tsr_module *gpt;
    tsr_tokenizer *tokenizer;
    int64_t *prompt, prompt_count; /* of the tokenizer's */
    int64_t written;
    double began; /* the clock behind the first token */
    tsr_status status;
} writer;

/* The bytes as they are: a character that comes in parts is whole on the terminal with its last one. */
static bool take(void *context, int64_t token)
{
    writer *w = context;
    char *bytes;
    size_t size;
    w->status = tsr_tokenizer_decode(w->tokenizer, &token, 1, &bytes, &size);
    if (w->status != TSR_OK)
        return false;
    fwrite(bytes, 1, size, stdout);
    tsr_tokenizer_free(bytes);
    if (w->written++ == 0)
        w->began = clock_seconds();
    return fflush(stdout) == 0 && !interrupted();
}

static tsr_status open_model(writer *w)
{
    const generate_settings *s = w->settings;
    tsr_gpt_options sizes;
    w->gpt = tsr_gpt_load(w->devices.device[0], s->file, 0);
    if (w->gpt == NULL || tsr_gpt_describe(w->gpt, &sizes) != TSR_OK)
        return tsr_last_status();
    if (s->tokens != NULL) {
        w->tokenizer = vocabulary_open(s->tokens, s->file);
    } else {
        tsr_safetensors *f = tsr_safetensors_open(s->file);
        w->tokenizer = f == NULL
                           ? NULL
                           : vocabulary_of_model(s->file, tsr_safetensors_metadata(f, "gpt.tokens"), sizes.vocabulary);
        tsr_safetensors_close(f);
    }
    if (w->tokenizer == NULL)
        return tsr_last_status();
    const int64_t tokens = tsr_tokenizer_vocabulary(w->tokenizer);
    if (tokens != sizes.vocabulary)
        return fail(TSR_INVALID_ARGUMENT, "%s has %lld tokens, its vocabulary %lld: they do not belong together",
                    s->file, (long long)sizes.vocabulary, (long long)tokens);
    return TSR_OK;
}

static tsr_status open_prompt(writer *w)
{
    const char *words = w->settings->prompt != NULL ? w->settings->prompt : "\n";
    return tsr_tokenizer_encode(w->tokenizer, words, strlen(words), true, &w->prompt, &w->prompt_count);
}

static tsr_status write_text(writer *w)
{
    const generate_settings *s = w->settings;
    const tsr_generate_options how = {.length = s->length,
                                      .temperature = s->temperature,
                                      .top_k = s->top_k,
                                      .seed = s->seed,
                                      .take = take,
                                      .context = w};
    if (s->prompt != NULL)
        fputs(s->prompt, stdout);
    const tsr_status status = tsr_gpt_generate(w->gpt, w->prompt, (size_t)w->prompt_count, &how);
    fputc('\n', stdout);
    fflush(stdout); /* before what goes to standard error */
    return status != TSR_OK ? status : w->status;
}

static int work(writer *w)
{
    const int status = device_list_open(&w->devices, "device", w->settings->device);
    if (status != EXIT_DONE)
        return status;
    if (w->devices.count != 1)
        return complain("--device %s: text is written on one device", w->settings->device);
    if (w->devices.device[0] == NULL) {
        complain("%s", w->devices.error[0]);
        return EXIT_DEVICE_FAILED;
    }
    if (open_model(w) != TSR_OK || open_prompt(w) != TSR_OK)
        return complain("%s", tsr_last_error());
    interrupt_watch();
    if (write_text(w) != TSR_OK) {
        complain("%s", tsr_last_error());
        return EXIT_DEVICE_FAILED;
    }
    const double seconds = clock_seconds() - w->began;
    if (w->written > 1 && seconds > 0)
        fprintf(stderr, "%s%lld tokens, %.0f a second%s\n", terminal_style(stderr, STYLE_DIM), (long long)w->written,
                (double)(w->written - 1) / seconds, terminal_style(stderr, STYLE_NONE));
    return interrupted() ? EXIT_INTERRUPTED : EXIT_DONE;
}

static int run(const void *settings, const char *subject)
{
    (void)subject;
    writer *w = host_alloc_zeroed(1, sizeof *w);
    if (w == NULL)
        return complain("%s", tsr_last_error());
    w->settings = settings;
    const int status = work(w);
    tsr_tokenizer_free(w->prompt);
    tsr_tokenizer_destroy(w->tokenizer);
    tsr_module_destroy(w->gpt);
    device_list_close(&w->devices);
    host_free(w);
    return status;
}

const command command_generate = {
    .name = "generate",
    .summary = "writes text with a language model that train gpt saved",
    .synopsis = "MODEL [options]",
    .about = "MODEL is a file of train gpt --save, or of weights in GPT-2's published layout (safetensors), with its\n"
             "vocab.json, merges.txt and config.json beside it.",
    .options = options,
    .option_count = COUNT_OF(options),
    .file_count = 1,
    .files = FIELD(file),
    .settings_size = sizeof(generate_settings),
    .defaults = set_defaults,
    .run = run,
};
