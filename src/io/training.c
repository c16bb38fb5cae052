/* The state of a training between two steps: a safetensors file whose metadata hold the numbers, with a digest. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/compiler.h"
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/profile.h"
#include "io/module.h"
#include "io/training_numbers.h"
#include "optim/optimizer.h"
#include "tensor/tensor.h"
#include "tessera/device.h"

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
    char numbers[TRAINING_NUMBERS][NUMBER_SIZE];
    uint64_t epoch = 0;
    int64_t sample = 0;
    const tsr_random_state random = tsr_random_state_get(device_of(t));
    tsr_batches_place(t->batches, &epoch, &sample);
    const uint64_t values[TRAINING_WHOLE] = {
        [TRAINING_STEP] = (uint64_t)t->step,  [TRAINING_EPOCH] = epoch,
        [TRAINING_SAMPLE] = (uint64_t)sample, [TRAINING_SEED] = random.seed,
        [TRAINING_DRAWS] = random.draws,      [TRAINING_HOST_DRAWS] = random.host_draws};
    tsr_metadata metadata[TRAINING_NUMBERS + 2 + NOTES_MOST] = {{"format", TRAINING_FORMAT},
                                                                {"settings", t->settings != NULL ? t->settings : ""}};
    for (int i = 0; i < TRAINING_WHOLE; i++)
        snprintf(numbers[i], NUMBER_SIZE, "%" PRIu64, values[i]);
    snprintf(numbers[TRAINING_WHOLE], NUMBER_SIZE, "%.17g", tsr_optimizer_lr(t->optimizer));
    for (int i = 0; i < TRAINING_NUMBERS; i++)
        metadata[2 + i] = (tsr_metadata){training_keys[i], numbers[i]};
    for (size_t i = 0; i < t->note_count; i++)
        metadata[2 + TRAINING_NUMBERS + i] = t->notes[i];

    tsr_status status = tsr_scope_begin();
    if (status != TSR_OK)
        return status;
    status = collect(t, NULL, list);
    if (status == TSR_OK && t->losses != NULL) {
        tsr_tensor *losses = tsr_from_data(device_of(t), TSR_F32, 1, &t->step, t->losses);
        status = losses == NULL ? tsr_last_status() : tensor_list_add(list, "", "losses", losses);
    }
    if (status == TSR_OK)
        status =
            safetensors_write(path, list->items, list->count, metadata, TRAINING_NUMBERS + 2 + t->note_count, true);
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

static tsr_status apply(tsr_training *t, tsr_safetensors *f, const tensor_list *list, const training_numbers *n)
{
    const tsr_random_state random = {n->whole[TRAINING_SEED], n->whole[TRAINING_DRAWS], n->whole[TRAINING_HOST_DRAWS]};
    tsr_status status = t->losses != NULL ? read_losses(t, f, n->whole[TRAINING_STEP]) : TSR_OK;
    if (status == TSR_OK && t->batches != NULL &&
        (status = tsr_batches_seek(t->batches, n->whole[TRAINING_EPOCH], (int64_t)n->whole[TRAINING_SAMPLE])) != TSR_OK)
        return fail_prefix("%s", f->path);
    if (status == TSR_OK)
        status = tensor_list_fill(list, f);
    if (status == TSR_OK && t->optimizer != NULL)
        status = tsr_optimizer_set_lr(t->optimizer, n->lr);
    if (status == TSR_OK)
        status = tsr_random_state_set(device_of(t), &random);
    if (status == TSR_OK)
        t->step = (int64_t)n->whole[TRAINING_STEP];
    return status;
}

static tsr_status load_state(tsr_training *t, tsr_safetensors *f, tensor_list *list)
{
    training_numbers numbers;
    tsr_status status = safetensors_verify(f);
    if (status == TSR_OK)
        status = training_numbers_read(&f->header, f->path, t->settings != NULL ? t->settings : "", &numbers);
    if (status == TSR_OK)
        status = collect(t, f, list);
    if (status == TSR_OK)
        status = tensor_list_check(list, f);
    return status == TSR_OK ? apply(t, f, list, &numbers) : status;
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
