#include "recorder.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "digest.h"
#include "operators/operators.h"
#include "recording.h"
#include "tessera/autograd.h"
#include "tessera/io.h"
#include "tessera/trace.h"
#include "tessera/version.h"

/* ---- which steps -------------------------------------------------------------------------------------------------- */

static bool take_number(const char **at, int64_t *number)
{
    char *end;
    errno = 0;
    if (**at < '0' || **at > '9')
        return false;
    *number = strtoll(*at, &end, 10);
    *at = end;
    return errno == 0;
}

tsr_status step_list_parse(step_list *list, const char *words)
{
    list->count = 0;
    for (const char *at = words;; at++) {
        int64_t from, to;
        bool ok = list->count < STEP_RANGES_MAX && take_number(&at, &from);
        to = ok ? from : 0;
        if (ok && *at == '-') {
            at++;
            ok = take_number(&at, &to) && to >= from;
        }
        if (!ok || (*at != ',' && *at != '\0'))
            return fail(TSR_INVALID_ARGUMENT, "'%s' is no list of up to %d steps and ranges, such as 0,1,10-12", words,
                        STEP_RANGES_MAX);
        list->from[list->count] = from;
        list->to[list->count++] = to;
        if (*at == '\0')
            return TSR_OK;
    }
}

bool step_list_has(const step_list *list, int64_t step)
{
    for (int i = 0; i < list->count; i++)
        if (step >= list->from[i] && step <= list->to[i])
            return true;
    return false;
}

/* ---- what is written ---------------------------------------------------------------------------------------------- */

typedef struct kept_tensor {
    char name[32]; /* "12.out.0" */
    tsr_tensor *tensor;
} kept_tensor;

struct recorder {
    recorder_settings settings; /* `training` is NULL: it stands in the header */
    step_list steps;
    tsr_device *device;
    const tsr_module *model;
    text lines;
    bool recording;
    int64_t step, events, step_events; /* the step at hand, lines so far, lines of this step */
    tsr_status status;                 /* the first failure */
    kept_tensor *kept;                 /* of this step */
    size_t kept_count, kept_capacity;
};

static void failed(recorder *r)
{
    if (r->status == TSR_OK)
        r->status = tsr_last_status() != TSR_OK ? tsr_last_status() : TSR_OUT_OF_MEMORY;
}

static void add_line(recorder *r, json *j)
{
    const char *line;
    if (json_finish(j, &line) != TSR_OK || !text_append(&r->lines, line)) /* it ends the line */
        failed(r);
    json_free(j);
}

static void put_header(recorder *r)
{
    json j = {.one_line = true};
    tsr_device_info info = {0};
    if (tsr_device_describe(r->device, &info) != TSR_OK)
        failed(r);
    json_begin_object(&j);
    json_put_int(&j, "tessera_trace", RECORDING_FORMAT);
    json_put_string(&j, "version", tsr_version());
    json_put_string(&j, "device", info.id);
    json_put_string(&j, "device_name", info.name);
    json_put_string(&j, "driver", info.driver);
    json_put_string(&j, "backend", info.backend);
    json_put_string(&j, "training", r->settings.training);
    json_put_string(&j, "steps", r->settings.steps);
    json_put_bool(&j, "tensors", r->settings.tensors);
    json_end_object(&j);
    add_line(r, &j);
}

/* What JSON has no number for is a string. */
static void put_value(json *j, tsr_dtype dtype, double v)
{
    if (v != v)
        json_string(j, "nan");
    else if (v - v != 0)
        json_string(j, v > 0 ? "inf" : "-inf");
    else if (dtype == TSR_F64 || dtype == TSR_I64 || dtype == TSR_I32)
        json_double(j, v);
    else
        json_float(j, (float)v);
}

static void put_attribute(json *j, const tsr_attr *a)
{
    json_key(j, a->name);
    switch (a->kind) {
    case TSR_ATTR_INT: json_int(j, a->i); break;
    case TSR_ATTR_BOOL: json_bool(j, a->i != 0); break;
    case TSR_ATTR_DTYPE: json_string(j, tsr_dtype_name((tsr_dtype)a->i)); break;
    case TSR_ATTR_FLOAT: put_value(j, TSR_F64, a->f); break;
    case TSR_ATTR_INTS:
        json_begin_array(j);
        for (int i = 0; i < a->count; i++)
            json_int(j, a->values[i]);
        json_end_array(j);
        break;
    }
}

static void put_digest(json *j, const digest *d, bool samples)
{
    char hash[24];
    json_begin_object(j);
    if (d->name[0] != '\0')
        json_put_string(j, "name", d->name);
    json_put_string(j, "dtype", tsr_dtype_name(d->dtype));
    json_key(j, "shape");
    json_begin_array(j);
    for (int i = 0; i < d->rank; i++)
        json_int(j, d->shape[i]);
    json_end_array(j);
    json_put_double(j, "mean", d->mean);
    json_put_double(j, "rms", d->rms);
    json_put_double(j, "min", d->min);
    json_put_double(j, "max", d->max);
    json_put_int(j, "nan", d->nans);
    json_put_int(j, "inf", d->infinities);
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)d->hash);
    json_put_string(j, "hash", hash);
    if (samples) {
        json_key(j, "samples");
        json_begin_array(j);
        for (int i = 0; i < d->sample_count; i++)
            put_value(j, d->dtype, d->samples[i]);
        json_end_array(j);
    }
    json_key(j, "sketch");
    json_begin_array(j);
    for (int i = 0; i < DIGEST_SKETCH; i++)
        json_double(j, d->sketch[i]);
    json_end_array(j);
    json_end_object(j);
}

/* A parameter is known by its memory. */
static void name_tensor(const recorder *r, tsr_tensor *t, digest *d)
{
    for (size_t i = 0; i < tsr_module_parameter_count(r->model); i++) {
        char name[DIGEST_NAME];
        tsr_tensor *parameter = tsr_module_parameter(r->model, i, name, sizeof name);
        if (parameter != NULL && tsr_shares_storage(parameter, t))
            memcpy(d->name, name, sizeof name);
    }
}

static bool keep_tensor(recorder *r, const char *side, int i, tsr_tensor *t)
{
    kept_tensor *kept = host_grown(r->kept, r->kept_count, &r->kept_capacity, sizeof *kept);
    if (kept == NULL)
        return false;
    r->kept = kept;
    kept_tensor *k = &r->kept[r->kept_count];
    k->tensor = tsr_keep(tsr_clone(t));
    if (k->tensor == NULL)
        return false;
    snprintf(k->name, sizeof k->name, "%lld.%s.%d", (long long)r->step_events, side, i);
    r->kept_count++;
    return true;
}

/* An operator's last results may be its own business, and parts of them never written. Those of normalisations are whole, and tell how far
 * their result may be off (growth_rows.c). */
static int results_to_record(const tsr_trace_event *e)
{
    const operator_row *row = operator_find(e->name);
    const bool call = e->phase == TSR_TRACE_FORWARD || e->phase == TSR_TRACE_ACCUMULATE;
    const bool hides = call && row != NULL && strcmp(row->family, "normalisation") != 0;
    return e->output_count - (hides ? row->hidden : 0);
}

/* Those from `shown` on are left out. */
static void put_tensors(recorder *r, json *j, const char *side, tsr_tensor *const *tensors, int count, int shown,
                        bool samples)
{
    json_key(j, side);
    json_begin_array(j);
    for (int i = 0; i < count; i++) {
        digest d;
        if (tensors[i] == NULL || i >= shown) {
            json_null(j);
            continue;
        }
        if (digest_make(&d, tensors[i]) != TSR_OK)
            failed(r);
        name_tensor(r, tensors[i], &d);
        put_digest(j, &d, samples);
        if (r->settings.tensors && !keep_tensor(r, side, i, tensors[i]))
            failed(r);
    }
    json_end_array(j);
}

static void record(void *context, const tsr_trace_event *e)
{
    recorder *r = context;
    json j = {.one_line = true};
    if (r->status != TSR_OK)
        return;
    tsr_no_grad_begin(); /* what is read is no part of the training */
    json_begin_object(&j);
    json_put_int(&j, "step", r->step);
    json_put_int(&j, "event", r->step_events);
    json_put_string(&j, "phase", tsr_trace_phase_name(e->phase));
    json_put_string(&j, "op", e->name);
    json_put_uint(&j, "call", e->call);
    json_key(&j, "attributes");
    json_begin_object(&j);
    for (int i = 0; i < e->attribute_count; i++)
        put_attribute(&j, &e->attributes[i]);
    json_end_object(&j);
    put_tensors(r, &j, "in", e->inputs, e->input_count, e->input_count, false);
    put_tensors(r, &j, "out", e->outputs, e->output_count, results_to_record(e), true);
    json_end_object(&j);
    tsr_no_grad_end();
    add_line(r, &j);
    r->step_events++;
    r->events++;
}

/* ---- steps -------------------------------------------------------------------------------------------------------- */

recorder *recorder_create(const recorder_settings *settings, tsr_device *device, const tsr_module *model)
{
    recorder *r = host_alloc_zeroed(1, sizeof *r);
    if (r == NULL)
        return NULL;
    r->settings = *settings;
    r->device = device;
    r->model = model;
    if (step_list_parse(&r->steps, settings->steps) == TSR_OK) {
        put_header(r);
        r->settings.training = NULL;
        return r;
    }
    recorder_destroy(r);
    return NULL;
}

tsr_status recorder_begin_step(recorder *r, int64_t step)
{
    if (!step_list_has(&r->steps, step))
        return TSR_OK;
    r->step = step;
    r->step_events = 0;
    const tsr_status status = tsr_trace_begin(record, r);
    r->recording = status == TSR_OK;
    return status;
}

static void forget_tensors(recorder *r)
{
    for (size_t i = 0; i < r->kept_count; i++)
        tsr_release(r->kept[i].tensor);
    r->kept_count = 0;
}

bool recording_tensors_path(const char *path, int64_t step, char *out, size_t size)
{
    const int n = snprintf(out, size, "%s.%lld.safetensors", path, (long long)step);
    return n > 0 && (size_t)n < size;
}

static tsr_status write_tensors(recorder *r)
{
    char path[PATH_SIZE];
    tsr_named_tensor *named = host_realloc_array(NULL, r->kept_count + 1, sizeof *named);
    if (named == NULL)
        return tsr_last_status();
    for (size_t i = 0; i < r->kept_count; i++)
        named[i] = (tsr_named_tensor){r->kept[i].name, r->kept[i].tensor};
    tsr_status status = TSR_OUT_OF_RANGE;
    if (recording_tensors_path(r->settings.path, r->step, path, sizeof path))
        status = tsr_safetensors_save(path, named, r->kept_count, NULL, 0);
    host_free(named);
    forget_tensors(r);
    return status;
}

tsr_status recorder_end_step(recorder *r)
{
    if (!r->recording)
        return TSR_OK;
    tsr_trace_end();
    r->recording = false;
    if (r->status == TSR_OK && r->settings.tensors)
        r->status = write_tensors(r);
    return r->status;
}

/* The last line tells that the file is whole. */
const char *recorder_finish(recorder *r, size_t *size)
{
    json j = {.one_line = true};
    json_begin_object(&j);
    json_put_int(&j, "events", r->events);
    json_end_object(&j);
    add_line(r, &j);
    *size = r->lines.length;
    return r->status == TSR_OK ? text_string(&r->lines) : NULL;
}

tsr_status recorder_write(recorder *r)
{
    size_t size;
    const char *lines = recorder_finish(r, &size);
    if (lines != NULL)
        r->status = file_write_atomic(r->settings.path, lines, size);
    return r->status;
}

void recorder_destroy(recorder *r)
{
    if (r == NULL)
        return;
    if (r->recording)
        tsr_trace_end();
    forget_tensors(r);
    host_free(r->kept);
    text_free(&r->lines);
    host_free(r);
}
