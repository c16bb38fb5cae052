/* tessera train: the same training on each device named, one after the other. */
#include "train.h"

#include <stdio.h>
#include <string.h>

#include "base/cache.h"
#include "base/checked.h"
#include "base/file.h"
#include "base/memory.h"
#include "command.h"
#include "device_list.h"
#include "lockstep.h"
#include "models.h"
#include "plot.h"
#include "recorder.h"
#include "report.h"
#include "table.h"
#include "task.h"

static const char *const optimizers[] = {"adam", "adamw", "sgd", NULL};
static const char *const precisions[] = {"off", "f16", "bf16", NULL};
static const char *const schedules[] = {"constant", "cosine", NULL};
static const char *const subjects[] = {"mnist", "gpt", NULL};
static const char *const models[] = {"cnn", "mlp", "nano", "micro", "mini", "small", "gpt2", NULL};

#define FIELD(name) offsetof(train_settings, name)
static const option options[] = {
    {"model", "NAME", OPTION_CHOICE, FIELD(model),
     "mnist: cnn (two convolutions, two linear layers), mlp (784-512-512-10);\n"
     "gpt: nano, micro, mini, small or gpt2 (124 million parameters)",
     0, 0, models},
    {"device", "LIST", OPTION_TEXT, FIELD(devices),
     "one, several with commas, or all: cpu,opencl:0,vulkan; TESSERA_DEVICE or\ncpu if not given", 0, 0, NULL},
    {"epochs", "N", OPTION_INT, FIELD(epochs), "passes over the training data; 1 for mnist", 1, 1e6, NULL},
    {"steps", "N", OPTION_INT, FIELD(steps), "so many steps in place of epochs; 2000 for gpt", 1, 1e9, NULL},
    {"batch", "N", OPTION_INT, FIELD(batch), "samples of a step; 64 if not given, 32 for gpt", 1, 60000, NULL},
    {"optimizer", "NAME", OPTION_CHOICE, FIELD(optimizer),
     "adam, adamw (weight decay 0.01) or sgd (momentum 0.9); adam if not\ngiven, adamw for gpt", 0, 0, optimizers},
    {"lr", "X", OPTION_REAL, FIELD(lr),
     "learning rate; 0.001 if not given, 0.01 for sgd, gpt's by its size: 0.01\n(nano) to 0.0006 (gpt2)", 1e-12, 1e6,
     NULL},
    {"schedule", "NAME", OPTION_CHOICE, FIELD(schedule),
     "of the learning rate: constant, or cosine (down to a tenth at the end),\nwhich is gpt's", 0, 0, schedules},
    {"warmup", "N", OPTION_INT, FIELD(warmup), "steps in which the learning rate rises; up to 100 for gpt", 0, 1e9,
     NULL},
    {"weight-decay", "X", OPTION_REAL, FIELD(weight_decay),
     "in place of the optimizer's usual one; of gpt's matrices and embeddings,\nof nothing else", 0, 1e6, NULL},
    {"accumulate", "N", OPTION_INT, FIELD(accumulate),
     "batches whose gradients are added up for one step; 1 if not given", 1, 1e6, NULL},
    {"clip", "X", OPTION_REAL, FIELD(clip),
     "scales gradients down to this norm, all of them together; 1 for gpt,\n0 is none", 0, 1e12, NULL},
    {"seed", "N", OPTION_SEED, FIELD(seed), "of the weights and the order of samples; 0 if not given", 0, 0, NULL},
    {"budget", "SECONDS", OPTION_REAL, FIELD(budget),
     "a device that needs longer trains fewer steps; --eval-every's time is\nnot counted", 0.1, 1e9, NULL},
    {"lockstep", "N", OPTION_INT, FIELD(lockstep),
     "in place of training: N steps in which every device starts from the\nfirst one's weights, each operator checked "
     "against its bound",
     1, 1e6, NULL},
    {"amp", "TYPE", OPTION_CHOICE, FIELD(amp), "automatic mixed precision: f16 (with a loss scale), bf16 or off", 0, 0,
     precisions},
    {"checkpoint-activations", NULL, OPTION_FLAG, FIELD(checkpoint),
     "less memory: layers keep only their inputs and run again for the\nbackward pass", 0, 0, NULL},
    {"workers", "N", OPTION_INT, FIELD(workers),
     "threads that make batches ahead; 0 if not given: none. The batches are\nthe same", 0, 256, NULL},
    {"save", "FILE", OPTION_TEXT, FIELD(save), "the state of the training, at its end or when it is interrupted", 0, 0,
     NULL},
    {"save-every", "N", OPTION_INT, FIELD(save_every), "and after every N steps", 1, 1e9, NULL},
    {"keep", "N", OPTION_INT, FIELD(keep), "so many of these files: FILE, FILE.1, …; 2 if not given", 1, 100, NULL},
    {"resume", "FILE", OPTION_TEXT, FIELD(resume), "goes on from there; begins where there is no such file yet", 0, 0,
     NULL},
    {"trace", "FILE", OPTION_TEXT, FIELD(trace),
     "records every operator of some steps, for tessera diff (docs/tracing.md)", 0, 0, NULL},
    {"trace-steps", "LIST", OPTION_TEXT, FIELD(trace_steps), "which, from 0: 0,1,10-12; 0 if not given", 0, 0, NULL},
    {"trace-tensors", NULL, OPTION_FLAG, FIELD(trace_tensors), "whole tensors too, in FILE.<step>.safetensors", 0, 0,
     NULL},
    {"eval-every", "N", OPTION_INT, FIELD(eval_every),
     "after every N steps the test loss: of mnist's whole test set, of up to\n65536 tokens of gpt's, always the same "
     "ones; no step changes by it",
     1, 1e9, NULL},
    {"profile", "FILE", OPTION_TEXT, FIELD(profile),
     "a timeline of some steps, for ui.perfetto.dev (docs/profiling.md)", 0, 0, NULL},
    {"profile-steps", "A-B", OPTION_TEXT, FIELD(profile_steps), "which, from 0; 0-19 if not given", 0, 0, NULL},
    {"memory", "FILE", OPTION_TEXT, FIELD(memory),
     "who holds the device's memory in the first steps (docs/memory.md): a\npicture for FILE.svg, else JSON", 0, 0,
     NULL},
    {"log-dir", "DIR", OPTION_TEXT, FIELD(log_dir), "curves for TensorBoard, in a new file there", 0, 0, NULL},
    {"plot", "FILE", OPTION_TEXT, FIELD(plot), "the loss curves as a drawing (SVG)", 0, 0, NULL},
    {"tokens", "WORD", OPTION_TEXT, FIELD(tokens),
     "gpt: bytes; bpe:N, N tokens learnt from the text; or a folder with\nvocab.json and merges.txt; bytes if not "
     "given",
     0, 0, NULL},
    {"context", "N", OPTION_INT, FIELD(context), "gpt: tokens that the model sees; 64 to 1024 by its size", 1, 1 << 20,
     NULL},
    {"dropout", "X", OPTION_REAL, FIELD(dropout), "gpt: share of values left out; 0 if not given", 0, 0.99, NULL},
    {"data", "PATH", OPTION_TEXT, FIELD(data),
     "mnist: the folder of its four files; gpt: a text file; what ships with\ntessera if not given", 0, 0, NULL},
    {"json", "FILE", OPTION_TEXT, FIELD(json), "results as JSON (docs/json.md); - for standard output", 0, 0, NULL},
};

static void set_defaults(void *settings)
{
    train_settings *s = settings;
    s->keep = 2;
    s->amp = "off";
    s->accumulate = 1;
    s->weight_decay = s->clip = -1;
    s->warmup = -1;
    s->trace_steps = "0";
    s->profile_steps = "0-19";
}

typedef struct job {
    const train_settings *settings;
    task task;
    device_list devices;
    train_run runs[DEVICES_MAX];
    lock_run locks[DEVICES_MAX]; /* of --lockstep */
    FILE *out;                   /* where people read */
} job;

static int open_devices(job *j)
{
    const device_list *l = &j->devices;
    const int status = device_list_open(&j->devices, "device", j->settings->devices);
    for (size_t i = 0; i < l->count; i++) {
        train_run *r = &j->runs[i];
        r->task = &j->task;
        r->one_of_several = l->count > 1;
        r->device = l->info[i];
        r->status = l->status[i];
        r->end = l->status[i] != TSR_OK ? TRAIN_FAILED : TRAIN_PENDING;
        snprintf(r->error, sizeof r->error, "%s", l->error[i]);
    }
    return status;
}

/* ---- the runs ----------------------------------------------------------------------------------------------------- */

/* "batch 64, 100 steps, adam 0.001, seed 0" */
static void describe_settings(const job *j, const char *length, char *line, size_t size)
{
    const train_settings *s = j->settings;
    char parts[32] = "";
    if (s->accumulate > 1)
        snprintf(parts, sizeof parts, "%lld x ", (long long)s->accumulate);
    snprintf(line, size, "batch %s%lld, %s, %s %g, seed %llu", parts, (long long)s->batch, length, s->optimizer,
             train_learning_rate(s), (unsigned long long)s->seed);
}

static void announce(const job *j, int64_t steps)
{
    const train_settings *s = j->settings;
    char length[64], subject[256], how[256], line[sizeof subject + sizeof how + 2];
    if (s->lockstep > 0)
        snprintf(length, sizeof length, "%lld steps in lock-step", (long long)s->lockstep);
    else if (s->steps > 0)
        snprintf(length, sizeof length, "%lld steps", (long long)s->steps);
    else
        snprintf(length, sizeof length, "%lld steps (%lld epoch%s)", (long long)steps, (long long)s->epochs,
                 s->epochs == 1 ? "" : "s");
    j->task.describe(&j->task, subject, sizeof subject);
    describe_settings(j, length, how, sizeof how);
    snprintf(line, sizeof line, "%s, %s", subject, how);
    print_wrapped(j->out, 0, 0, line);
}

static void run_all(job *j)
{
    const int64_t n = tsr_dataset_count(j->task.train), batch = j->settings->batch * j->settings->accumulate;
    announce(j, j->settings->epochs * ((n + batch - 1) / batch));
    interrupt_watch();
    for (size_t i = 0; i < j->devices.count && !interrupted(); i++) {
        if (j->runs[i].end != TRAIN_FAILED)
            train_on_device(j->settings, &j->task, j->devices.device[i], &j->runs[i]);
        report_run(&j->runs[i], j->out);
        fflush(j->out);
        /* Memory and threads of a device that is done would slow the next one. */
        tsr_device_close(j->devices.device[i]);
        j->devices.device[i] = NULL;
    }
}

static bool write_json(const job *j)
{
    const train_settings *s = j->settings;
    json document = {0};
    if (s->json == NULL)
        return true;
    if (s->lockstep > 0)
        lock_json(&document, s, j->locks, j->devices.count);
    else
        report_runs(&document, s, j->runs, j->devices.count);
    const bool ok = report_write(&document, s->json);
    json_free(&document);
    return ok;
}

static bool write_plot(const job *j)
{
    char length[64], title[256], how[256];
    int64_t most = 0;
    if (j->settings->plot == NULL)
        return true;
    for (size_t i = 0; i < j->devices.count; i++)
        most = max_i64(most, j->runs[i].steps);
    snprintf(length, sizeof length, "%lld steps", (long long)most);
    j->task.describe(&j->task, title, sizeof title);
    describe_settings(j, length, how, sizeof how);
    if (plot_losses(j->settings->plot, title, how, j->runs, j->devices.count) == TSR_OK)
        return true;
    complain("--plot: %s", tsr_last_error());
    return false;
}

static int exit_status(bool written, bool failed, bool agree)
{
    return !written        ? EXIT_USAGE
           : interrupted() ? EXIT_INTERRUPTED
           : failed        ? EXIT_DEVICE_FAILED
           : agree         ? EXIT_DONE
                           : EXIT_DIFFERS;
}

static int finish(job *j)
{
    bool failed = false, written = write_plot(j);
    const bool agree = train_compare(j->runs, j->devices.count);
    for (size_t i = 0; i < j->devices.count; i++) {
        failed = failed || j->runs[i].end == TRAIN_FAILED;
        written = written && !j->runs[i].unwritten;
    }
    if (j->devices.count > 1) {
        fputc('\n', j->out);
        report_table(j->runs, j->devices.count, j->out);
    }
    return exit_status(write_json(j) && written, failed, agree);
}

static int run_locked(job *j)
{
    bool failed = false, agree = true;
    announce(j, 0);
    for (size_t i = 0; i < j->devices.count; i++) {
        j->locks[i].device = j->runs[i].device;
        j->locks[i].status = j->runs[i].status;
        memcpy(j->locks[i].error, j->runs[i].error, sizeof j->locks[i].error);
    }
    interrupt_watch();
    lockstep(j->settings, j->devices.device, j->devices.count, j->task.train, j->locks);
    for (size_t i = 0; i < j->devices.count; i++) {
        failed = failed || j->locks[i].status != TSR_OK;
        agree = agree && lock_agrees(&j->locks[i]);
    }
    lock_table(j->locks, j->devices.count, j->out);
    return exit_status(write_json(j), failed, agree);
}

/* Lock-step holds each operator against f32's bounds. */
static bool check_amp(const train_settings *s)
{
    if (s->lockstep == 0 || (train_amp_dtype(s) == TSR_F32 && !s->checkpoint))
        return true;
    complain("--lockstep checks every operator in f32: it goes without --amp and --checkpoint-activations");
    return false;
}

/* A recording is of one training. */
static bool check_trace(const job *j)
{
    const train_settings *s = j->settings;
    step_list steps;
    if (s->trace == NULL && !s->trace_tensors)
        return true;
    if (s->trace == NULL)
        complain("--trace-tensors: --trace FILE tells where to");
    else if (j->devices.count != 1 || s->lockstep > 0)
        complain("--trace is for a training on one device");
    else if (step_list_parse(&steps, s->trace_steps) != TSR_OK)
        complain("--trace-steps: %s", tsr_last_error());
    else
        return report_writable("trace", s->trace);
    return false;
}

/* So is a state. */
static bool check_files(const job *j)
{
    const train_settings *s = j->settings;
    if (s->save == NULL && s->resume == NULL && s->save_every == 0)
        return true;
    if (s->save == NULL && s->save_every > 0)
        complain("--save-every: --save FILE tells where to");
    else if (j->devices.count != 1 || s->lockstep > 0)
        complain("--save and --resume are for a training on one device");
    else
        return report_writable("save", s->save);
    return false;
}

/* What shows how a training went. */
static bool check_views(const job *j)
{
    const train_settings *s = j->settings;
    step_list steps;
    if (s->lockstep > 0 &&
        (s->profile != NULL || s->memory != NULL || s->log_dir != NULL || s->plot != NULL || s->eval_every > 0))
        complain("--profile, --memory, --log-dir, --plot and --eval-every are for a training, not for --lockstep");
    else if (s->profile != NULL && j->devices.count != 1)
        complain("--profile is for a training on one device");
    else if (s->memory != NULL && j->devices.count != 1)
        complain("--memory is for a training on one device");
    else if (step_list_parse(&steps, s->profile_steps) != TSR_OK || steps.count != 1)
        complain("--profile-steps %s: one range is meant, such as 0-19", s->profile_steps);
    else if (s->log_dir != NULL && file_make_dirs(s->log_dir) != TSR_OK)
        complain("--log-dir: %s", tsr_last_error());
    else
        return report_writable("profile", s->profile) && report_writable("memory", s->memory) &&
               report_writable("plot", s->plot);
    return false;
}

/* No failure: the next start compiles again. The CPU device's kernels are in the library. */
static void warn_of_cache(const job *j)
{
    bool compiles = false;
    for (size_t i = 0; i < j->devices.count; i++)
        compiles =
            compiles || (j->devices.device[i] != NULL && strncmp(tsr_device_id(j->devices.device[i]), "cpu:", 4) != 0);
    const char *problem = compiles ? cache_problem() : NULL;
    if (problem != NULL)
        complain("%s", problem);
}

static int run_job(job *j)
{
    const train_settings *s = j->settings;
    if (task_open(&j->task, s) != TSR_OK)
        return complain("%s", tsr_last_error());
    const int status = open_devices(j);
    if (status != EXIT_DONE)
        return status;
    if (!check_amp(s) || !check_files(j) || !check_trace(j) || !check_views(j))
        return EXIT_USAGE;
    warn_of_cache(j);
    if (s->lockstep > 0)
        return run_locked(j);
    run_all(j);
    return finish(j);
}

static int run(const void *settings, const char *subject)
{
    train_settings settled = *(const train_settings *)settings;
    const train_settings *s = &settled;
    if (!train_settle(&settled, subject))
        return EXIT_USAGE;
    if (!report_writable("json", s->json))
        return EXIT_USAGE;
    job *j = host_alloc_zeroed(1, sizeof *j);
    if (j == NULL)
        return complain("%s", tsr_last_error());
    j->settings = s;
    /* Standard output belongs to the JSON if it goes there. */
    j->out = s->json != NULL && strcmp(s->json, "-") == 0 ? stderr : stdout;
    const int status = run_job(j);
    for (size_t i = 0; i < j->devices.count; i++)
        train_run_free(&j->runs[i]);
    device_list_close(&j->devices);
    task_close(&j->task);
    host_free(j);
    return status;
}

const command command_train = {
    .name = "train",
    .summary = "trains a network on each device named, and compares them",
    .synopsis = "mnist|gpt [options]",
    .about = "mnist learns handwritten digits; gpt learns to write like a text (tessera generate then does).\n"
             "Several devices train one after the other from the same weights, in the same order of samples;\n"
             "a table then compares their losses, accuracy and speed. Ctrl-C ends after the step at hand.",
    .options = options,
    .option_count = COUNT_OF(options),
    .subjects = subjects,
    .settings_size = sizeof(train_settings),
    .defaults = set_defaults,
    .run = run,
};
