/* The state of a training between two steps: a safetensors file whose metadata hold the numbers, with a digest. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/profile.h"
#include "io/module.h"
#include "optim/optimizer.h"
#include "tensor/tensor.h"
#include "tessera/device.h"

static const char format_name[] = "tessera training state 1";
static const char model_prefix[] = "model.", optimizer_prefix[] = "optimizer.", scaler_prefix[] = "scaler.";

enum { KEEP_MOST = 100, NUMBER_SIZE = 32, NOTES_MOST = 16 };

/* ---- the parts of a file ------------------------------------------------------------------------------------------ */

/* The tensors of an optimizer: its step, and each parameter's state. One that nothing has written to yet is left out of a file, and
 * stays as new where a file lacks it. */
static tsr_status add_optimizer(tensor_list *list, tsr_optimizer *o, const tsr_safetensors *file)
{
    tsr_status status = tensor_list_add(list, optimizer_prefix, "step", o->step);
    for (size_t i = 0; i < o->count * OPTIMIZER_STATES && status == TSR_OK; i++) {
        char name[NAME_SIZE], whole[NAME_SIZE + sizeof optimizer_prefix];
        const size_t parameter = i / OPTIMIZER_STATES;
        if (o->states[i] == NULL)
            continue;
        snprintf(name, sizeof name, "%zu.%s", parameter, o->row->states[i % OPTIMIZER_STATES]);
        snprintf(whole, sizeof whole, "%s%s", optimizer_prefix, name);
        bool there = !optimizer_state_is_new(o, parameter);
        for (size_t k = 0; file != NULL && (k == 0 || !there) && k < file->header.count; k++)
            there = strcmp(file->header.entries[k].shown.name, whole) == 0;
        if (there)
            status = tensor_list_add(list, optimizer_prefix, name, o->states[i]);
    }
    return status;
}

static tsr_status add_scaler(tensor_list *list, tsr_grad_scaler *scaler)
{
    static const char *const names[] = {"scale", "growth_tracker", "skipped"};
    tsr_status status = TSR_OK;
    for (size_t i = 0; i < COUNT_OF(names) && status == TSR_OK; i++)
        status = tensor_list_add(list, scaler_prefix, names[i], tsr_grad_scaler_state(scaler, names[i]));
    return status;
}

/* What the file holds, or fills; `file` is NULL for saving. */
static tsr_status collect(const tsr_training *t, const tsr_safetensors *file, tensor_list *list)
{
    tsr_status status = tensor_list_add_module(list, model_prefix, t->model);
    if (status == TSR_OK && t->optimizer != NULL)
        status = add_optimizer(list, t->optimizer, file);
    if (status == TSR_OK && t->scaler != NULL)
        status = add_scaler(list, t->scaler);
    return status;
}

static tsr_device *device_of(const tsr_training *t)
{
    tsr_tensor *first = tsr_module_parameter(t->model, 0, NULL, 0);
    return first == NULL ? NULL : tsr_device_of(first);
}

/* The numbers, in the order of number_keys. */
enum { STEP, EPOCH, SAMPLE, SEED, DRAWS, HOST_DRAWS, LR, NUMBERS };
static const char *const number_keys[NUMBERS] = {"step", "epoch", "sample", "seed", "draws", "host_draws", "lr"};

static tsr_status check_training(const tsr_training *t, const char *path, const char *what)
{
    if (t == NULL || t->model == NULL || path == NULL || device_of(t) == NULL)
        return fail(TSR_INVALID_ARGUMENT, "%s: it needs a path and a model with parameters", what);
    if (t->step < 0)
        return fail(TSR_INVALID_ARGUMENT, "%s: %lld steps", what, (long long)t->step);
    if (t->note_count > NOTES_MOST)
        return fail(TSR_OUT_OF_RANGE, "%s: %zu notes; at most %d can be kept", what, t->note_count, NOTES_MOST);
    return TSR_OK;
}

/* ---- saving ------------------------------------------------------------------------------------------------------- */

static tsr_status write_state(const tsr_training *t, const char *path, tensor_list *list)
{
    char numbers[NUMBERS][NUMBER_SIZE];
    uint64_t epoch = 0;
    int64_t sample = 0;
    const tsr_random_state random = tsr_random_state_get(device_of(t));
    tsr_batches_place(t->batches, &epoch, &sample);
    const uint64_t values[LR] = {[STEP] = (uint64_t)t->step, [EPOCH] = epoch,        [SAMPLE] = (uint64_t)sample,
                                 [SEED] = random.seed,       [DRAWS] = random.draws, [HOST_DRAWS] = random.host_draws};
    tsr_metadata metadata[NUMBERS + 2 + NOTES_MOST] = {{"format", format_name},
                                                       {"settings", t->settings != NULL ? t->settings : ""}};
    for (int i = 0; i < LR; i++)
        snprintf(numbers[i], NUMBER_SIZE, "%" PRIu64, values[i]);
    snprintf(numbers[LR], NUMBER_SIZE, "%.17g", tsr_optimizer_lr(t->optimizer));
    for (int i = 0; i < NUMBERS; i++)
        metadata[2 + i] = (tsr_metadata){number_keys[i], numbers[i]};
    for (size_t i = 0; i < t->note_count; i++)
        metadata[2 + NUMBERS + i] = t->notes[i];

    tsr_status status = tsr_scope_begin();
    if (status != TSR_OK)
        return status;
    status = collect(t, NULL, list);
    if (status == TSR_OK && t->losses != NULL) {
        tsr_tensor *losses = tsr_from_data(device_of(t), TSR_F32, 1, &t->step, t->losses);
        status = losses == NULL ? tsr_last_status() : tensor_list_add(list, "", "losses", losses);
    }
    if (status == TSR_OK)
        status = safetensors_write(path, list->items, list->count, metadata, NUMBERS + 2 + t->note_count, true);
    tsr_scope_end();
    return status;
}

tsr_status tsr_training_save(const tsr_training *t, const char *path, int keep)
{
    tensor_list list = {0};
    profile_span span;
    profile_open(&span, PROFILE_PHASE, "save");
    tsr_status status = check_training(t, path, "saving a training");
    if (status == TSR_OK && (keep < 1 || keep > KEEP_MOST))
        status = fail(TSR_INVALID_ARGUMENT, "saving a training: %d files cannot be kept; 1 to %d can", keep, KEEP_MOST);
    if (status == TSR_OK)
        status = file_rotate(path, keep);
    if (status == TSR_OK)
        status = write_state(t, path, &list);
    tensor_list_free(&list);
    profile_close(&span);
    return status;
}

/* ---- loading ------------------------------------------------------------------------------------------------------ */

static tsr_status read_whole(const tsr_safetensors *f, const char *key, uint64_t *value)
{
    const char *digits = tsr_safetensors_metadata(f, key);
    char *end = NULL;
    if (digits == NULL)
        return fail(TSR_CORRUPT_DATA, "%s has no '%s'", f->path, key);
    errno = 0;
    if (digits[0] >= '0' && digits[0] <= '9')
        *value = strtoull(digits, &end, 10);
    if (end == NULL || *end != '\0' || errno != 0)
        return fail(TSR_CORRUPT_DATA, "%s: its '%s' is '%.64s', no whole number below 2^64", f->path, key, digits);
    return TSR_OK;
}

static tsr_status read_real(const tsr_safetensors *f, const char *key, double *value)
{
    const char *digits = tsr_safetensors_metadata(f, key);
    char *end = NULL;
    if (digits == NULL)
        return fail(TSR_CORRUPT_DATA, "%s has no '%s'", f->path, key);
    if (digits[0] != '\0')
        *value = strtod(digits, &end);
    if (end == NULL || *end != '\0' || !(*value >= 0) || !isfinite(*value))
        return fail(TSR_CORRUPT_DATA, "%s: its '%s' is '%.64s', no finite number of at least 0", f->path, key, digits);
    return TSR_OK;
}

static tsr_status check_kind(const tsr_training *t, const tsr_safetensors *f)
{
    const char *format = tsr_safetensors_metadata(f, "format"), *settings = tsr_safetensors_metadata(f, "settings");
    const char *wanted = t->settings != NULL ? t->settings : "";
    if (format == NULL)
        return fail(TSR_CORRUPT_DATA, "%s is no training state: it tells no format", f->path);
    if (strcmp(format, format_name) != 0)
        return fail(TSR_CORRUPT_DATA, "%s is '%.64s'; what can be read is '%s'", f->path, format, format_name);
    if (settings == NULL)
        return fail(TSR_CORRUPT_DATA, "%s does not tell of which training it is", f->path);
    if (strcmp(settings, wanted) != 0)
        return fail(TSR_INVALID_ARGUMENT, "%s is of another training: it was '%.200s', this is '%.200s'", f->path,
                    settings, wanted);
    return TSR_OK;
}

/* The losses are the caller's host memory: read without a device. */
static tsr_status read_losses(const tsr_training *t, tsr_safetensors *f, uint64_t steps)
{
    const size_t at = safetensors_find(&f->header, f->path, "losses");
    if (at == f->header.count)
        return tsr_last_status();
    const safetensors_entry *e = &f->header.entries[at];
    if (e->shown.dtype != TSR_F32 || e->shown.rank != 1 || (uint64_t)e->shown.shape[0] != steps)
        return fail(TSR_CORRUPT_DATA, "%s: its losses, %s %s, are not one f32 for each of %llu steps", f->path,
                    e->shown.dtype_name, shape_text(e->shown.rank, e->shown.shape), (unsigned long long)steps);
    if (steps > t->losses_capacity)
        return fail(TSR_OUT_OF_RANGE, "%s: the training has done %llu steps, more than the %zu asked for", f->path,
                    (unsigned long long)steps, t->losses_capacity);
    return file_reader_at(f->reader, f->data_begin + e->begin, t->losses, (size_t)e->shown.bytes);
}

static tsr_status apply(tsr_training *t, tsr_safetensors *f, const tensor_list *list, const uint64_t *whole, double lr)
{
    const tsr_random_state random = {whole[SEED], whole[DRAWS], whole[HOST_DRAWS]};
    tsr_status status = t->losses != NULL ? read_losses(t, f, whole[STEP]) : TSR_OK;
    if (status == TSR_OK && t->batches != NULL &&
        (status = tsr_batches_seek(t->batches, whole[EPOCH], (int64_t)whole[SAMPLE])) != TSR_OK)
        return fail_prefix("%s", f->path);
    if (status == TSR_OK)
        status = tensor_list_fill(list, f);
    if (status == TSR_OK && t->optimizer != NULL)
        status = tsr_optimizer_set_lr(t->optimizer, lr);
    if (status == TSR_OK)
        status = tsr_random_state_set(device_of(t), &random);
    if (status == TSR_OK)
        t->step = (int64_t)whole[STEP];
    return status;
}

static tsr_status load_state(tsr_training *t, tsr_safetensors *f, tensor_list *list)
{
    uint64_t whole[LR];
    double lr = 0;
    tsr_status status = safetensors_verify(f);
    if (status == TSR_OK)
        status = check_kind(t, f);
    for (int i = 0; i < LR && status == TSR_OK; i++)
        status = read_whole(f, number_keys[i], &whole[i]);
    if (status == TSR_OK && (whole[STEP] > INT64_MAX || whole[SAMPLE] > INT64_MAX))
        status = fail(TSR_CORRUPT_DATA, "%s: step %" PRIu64 " or place %" PRIu64 " is out of range", f->path,
                      whole[STEP], whole[SAMPLE]);
    if (status == TSR_OK)
        status = read_real(f, number_keys[LR], &lr);
    if (status == TSR_OK)
        status = collect(t, f, list);
    if (status == TSR_OK)
        status = tensor_list_check(list, f);
    return status == TSR_OK ? apply(t, f, list, whole, lr) : status;
}

tsr_status tsr_training_load(tsr_training *t, const char *path)
{
    tensor_list list = {0};
    tsr_status status = check_training(t, path, "loading a training");
    if (status != TSR_OK)
        return status;
    tsr_safetensors *f = tsr_safetensors_open(path);
    status = f == NULL ? tsr_last_status() : load_state(t, f, &list);
    tensor_list_free(&list);
    tsr_safetensors_close(f);
    return status;
}
