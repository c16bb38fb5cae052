/* Jansson parses each line; what it says is believed only as far as it is checked. */
#include "recording.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"

enum { FILE_MOST = 1 << 30, EVENTS_MOST = 1 << 17 };

typedef struct reader {
    recording *r;
    const char *name;
    long line;
} reader;

static tsr_status wrong(const reader *at, const char *what)
{
    return fail(TSR_CORRUPT_DATA, "%s, line %ld: %s", at->name, at->line, what);
}

/* ---- values ------------------------------------------------------------------------------------------------------- */

static bool take_string(const json_t *object, const char *key, char *out, size_t size)
{
    const char *s = json_string_value(json_object_get(object, key));
    if (s == NULL || strlen(s) >= size)
        return false;
    memcpy(out, s, strlen(s) + 1);
    return true;
}

static bool take_count(const json_t *object, const char *key, int64_t *out)
{
    const json_t *v = json_object_get(object, key);
    *out = json_integer_value(v);
    return json_is_integer(v) && *out >= 0;
}

static bool value_of(const json_t *v, double *out)
{
    const char *s = json_string_value(v);
    *out = json_number_value(v);
    if (s == NULL)
        return json_is_number(v);
    *out = strcmp(s, "nan") == 0 ? (double)NAN : strcmp(s, "inf") == 0 ? (double)INFINITY : -(double)INFINITY;
    return strcmp(s, "nan") == 0 || strcmp(s, "inf") == 0 || strcmp(s, "-inf") == 0;
}

static bool take_real(const json_t *object, const char *key, double *out)
{
    const json_t *v = json_object_get(object, key);
    *out = json_number_value(v);
    return json_is_number(v);
}

static bool take_shape(const json_t *v, digest *d)
{
    const size_t rank = json_array_size(v);
    if (!json_is_array(v) || rank > TSR_MAX_RANK)
        return false;
    d->rank = (int)rank;
    d->count = 1;
    for (size_t i = 0; i < rank; i++) {
        const json_t *size = json_array_get(v, i);
        d->shape[i] = json_integer_value(size);
        if (!json_is_integer(size) || d->shape[i] < 0 || !checked_mul_i64(d->count, d->shape[i], &d->count))
            return false;
    }
    return true;
}

static bool take_hash(const json_t *v, uint64_t *hash)
{
    const char *s = json_string_value(v);
    if (s == NULL || strlen(s) != 16)
        return false;
    for (*hash = 0; *s != '\0'; s++) {
        const char *digits = "0123456789abcdef", *digit = strchr(digits, *s);
        if (digit == NULL)
            return false;
        *hash = *hash << 4 | (uint64_t)(digit - digits);
    }
    return true;
}

/* A list of exactly `count` numbers. */
static bool take_list(const json_t *v, int count, double *out)
{
    if (!json_is_array(v) || json_array_size(v) != (size_t)count)
        return false;
    for (int i = 0; i < count; i++)
        if (!value_of(json_array_get(v, (size_t)i), &out[i]))
            return false;
    return true;
}

/* ---- a line ------------------------------------------------------------------------------------------------------- */

static bool take_digest(const json_t *v, digest *d)
{
    char dtype[16];
    int64_t places[DIGEST_SAMPLES];
    const json_t *samples = json_object_get(v, "samples");
    memset(d, 0, sizeof *d);
    if (json_is_null(v))
        return true;
    d->present = true;
    if (json_object_get(v, "name") != NULL && !take_string(v, "name", d->name, sizeof d->name))
        return false;
    if (!take_string(v, "dtype", dtype, sizeof dtype) || !tsr_dtype_parse(dtype, &d->dtype) ||
        !take_shape(json_object_get(v, "shape"), d) || !take_real(v, "mean", &d->mean) ||
        !take_real(v, "rms", &d->rms) || !take_real(v, "min", &d->min) || !take_real(v, "max", &d->max) ||
        !take_count(v, "nan", &d->nans) || !take_count(v, "inf", &d->infinities) ||
        !take_hash(json_object_get(v, "hash"), &d->hash))
        return false;
    d->sample_count = samples == NULL ? 0 : digest_places(d->count, places);
    return d->rms >= 0 && d->nans <= d->count && d->infinities <= d->count - d->nans &&
           (samples == NULL || take_list(samples, d->sample_count, d->samples)) &&
           take_list(json_object_get(v, "sketch"), DIGEST_SKETCH, d->sketch);
}

static bool take_tensors(const json_t *v, digest *tensors, int *count)
{
    *count = (int)json_array_size(v);
    if (!json_is_array(v) || json_array_size(v) > EVENT_TENSORS)
        return false;
    for (int i = 0; i < *count; i++)
        if (!take_digest(json_array_get(v, (size_t)i), &tensors[i]))
            return false;
    return true;
}

static bool take_attribute(const char *name, const json_t *v, event_attribute *a)
{
    tsr_dtype dtype;
    memset(a, 0, sizeof *a);
    if (strlen(name) >= sizeof a->name)
        return false;
    memcpy(a->name, name, strlen(name) + 1);
    a->i = json_is_boolean(v) ? json_is_true(v) : json_integer_value(v);
    a->kind = json_is_boolean(v) ? TSR_ATTR_BOOL : json_is_integer(v) ? TSR_ATTR_INT : TSR_ATTR_FLOAT;
    if (json_is_boolean(v) || json_is_integer(v))
        return true;
    if (json_is_string(v) && tsr_dtype_parse(json_string_value(v), &dtype)) {
        a->kind = TSR_ATTR_DTYPE;
        a->i = (int64_t)dtype;
        return true;
    }
    if (!json_is_array(v))
        return value_of(v, &a->f);
    a->kind = TSR_ATTR_INTS;
    a->count = (int)json_array_size(v);
    if (json_array_size(v) > TSR_MAX_RANK)
        return false;
    for (int i = 0; i < a->count; i++) {
        const json_t *item = json_array_get(v, (size_t)i);
        a->values[i] = json_integer_value(item);
        if (!json_is_integer(item))
            return false;
    }
    return true;
}

static bool take_attributes(json_t *v, trace_event *e)
{
    const char *key;
    json_t *value;
    if (!json_is_object(v) || json_object_size(v) > EVENT_ATTRIBUTES)
        return false;
    json_object_foreach(v, key, value)
    {
        if (!take_attribute(key, value, &e->attributes[e->attribute_count++]))
            return false;
    }
    return true;
}

static bool take_phase(const json_t *v, tsr_trace_phase *phase)
{
    const char *s = json_string_value(v);
    for (int p = TSR_TRACE_FORWARD; s != NULL && p <= TSR_TRACE_UPDATE; p++)
        if (strcmp(s, tsr_trace_phase_name((tsr_trace_phase)p)) == 0) {
            *phase = (tsr_trace_phase)p;
            return true;
        }
    return false;
}

static trace_event *add_event(recording *r)
{
    if (r->count == r->capacity) {
        const size_t more = r->capacity == 0 ? 64 : 2 * r->capacity;
        trace_event *events = more > EVENTS_MOST ? NULL : host_realloc_array(r->events, more, sizeof *events);
        if (events == NULL)
            return NULL;
        r->events = events;
        r->capacity = more;
    }
    memset(&r->events[r->count], 0, sizeof *r->events);
    return &r->events[r->count++];
}

static tsr_status take_event(const reader *at, json_t *v)
{
    int64_t call;
    trace_event *e = add_event(at->r);
    if (e == NULL)
        return wrong(at, "there are more events than memory is given to");
    if (!take_count(v, "step", &e->step) || !take_count(v, "event", &e->number) || !take_count(v, "call", &call) ||
        !take_string(v, "op", e->op, sizeof e->op) || !take_phase(json_object_get(v, "phase"), &e->phase))
        return wrong(at, "an event lacks its step, number, phase, operator or call");
    e->call = (uint64_t)call;
    if (!take_attributes(json_object_get(v, "attributes"), e))
        return wrong(at, "the attributes are not well formed");
    if (!take_tensors(json_object_get(v, "in"), e->in, &e->in_count) ||
        !take_tensors(json_object_get(v, "out"), e->out, &e->out_count))
        return wrong(at, "a tensor's digest is not well formed");
    return TSR_OK;
}

static tsr_status take_header(const reader *at, const json_t *v)
{
    recording *r = at->r;
    int64_t format;
    if (!take_count(v, "tessera_trace", &format))
        return wrong(at, "this is no recording of tessera train --trace");
    if (format != RECORDING_FORMAT)
        return fail(TSR_UNSUPPORTED, "%s is of format %lld; this version reads format %d", at->name, (long long)format,
                    RECORDING_FORMAT);
    r->tensors = json_is_true(json_object_get(v, "tensors"));
    if (!take_string(v, "version", r->version, sizeof r->version) ||
        !take_string(v, "device", r->device, sizeof r->device) ||
        !take_string(v, "device_name", r->device_name, sizeof r->device_name) ||
        !take_string(v, "driver", r->driver, sizeof r->driver) ||
        !take_string(v, "training", r->training, sizeof r->training))
        return wrong(at, "the header is not well formed");
    return TSR_OK;
}

/* ---- the file ----------------------------------------------------------------------------------------------------- */

static tsr_status take_line(const reader *at, json_t *v, bool *ended)
{
    int64_t events;
    if (!json_is_object(v))
        return wrong(at, "it is no JSON object");
    if (*ended)
        return wrong(at, "something follows the end");
    if (at->line == 1)
        return take_header(at, v);
    if (!take_count(v, "events", &events))
        return take_event(at, v);
    *ended = true;
    return (size_t)events == at->r->count ? TSR_OK : wrong(at, "events are missing");
}

tsr_status recording_parse(recording *r, const char *name, const char *bytes, size_t size)
{
    reader at = {r, name, 0};
    bool ended = false;
    for (const char *line = bytes, *end = bytes + size; line < end;) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        const size_t length = (size_t)((stop == NULL ? end : stop) - line);
        json_error_t why;
        at.line++;
        json_t *v = json_loadb(line, length, JSON_REJECT_DUPLICATES, &why);
        if (v == NULL)
            return fail(TSR_CORRUPT_DATA, "%s, line %ld: %s", name, at.line, why.text);
        const tsr_status status = take_line(&at, v, &ended);
        json_decref(v);
        if (status != TSR_OK)
            return status;
        line += length + (stop != NULL);
    }
    return ended ? TSR_OK : fail(TSR_CORRUPT_DATA, "%s ends after line %ld, before its end", name, at.line);
}

tsr_status recording_read(recording *r, const char *path)
{
    uint8_t *bytes;
    size_t size;
    tsr_status status = file_read_all(path, &bytes, &size, FILE_MOST);
    if (status != TSR_OK)
        return status;
    status = recording_parse(r, path, (const char *)bytes, size);
    host_free(bytes);
    return status;
}

void recording_free(recording *r)
{
    host_free(r->events);
    memset(r, 0, sizeof *r);
}

const event_attribute *event_attribute_find(const trace_event *e, const char *name)
{
    for (int i = 0; i < e->attribute_count; i++)
        if (strcmp(e->attributes[i].name, name) == 0)
            return &e->attributes[i];
    return NULL;
}
