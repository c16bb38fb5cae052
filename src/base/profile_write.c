/* A profile as Chrome's trace-event JSON, which Perfetto and chrome://tracing open: "Trace Event Format", Google 2016. */
#include "base/profile_store.h"

#include "base/error.h"
#include "base/json.h"
#include "base/memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FLUSH_BYTES = 1 << 16, HOST_PROCESS = 1 };

typedef struct writer {
    const profile_session_data *data;
    FILE *file;
    json out;
    uint64_t flows;
} writer;

static const char *category_of(unsigned kind)
{
    static const char *const categories[PROFILE_KINDS] = {
        [PROFILE_OPERATOR] = "operator", [PROFILE_BACKWARD] = "operator", [PROFILE_MODULE] = "module",
        [PROFILE_PHASE] = "phase",       [PROFILE_USER] = "user",         [PROFILE_DRIVER] = "driver",
        [PROFILE_WAIT] = "wait",         [PROFILE_WORKER] = "worker",     [PROFILE_COUNTER] = "counter",
        [PROFILE_KERNEL] = "kernel",     [PROFILE_COPY] = "copy",
    };
    return kind < PROFILE_KINDS ? categories[kind] : "?";
}

/* What the JSON writer holds goes to the file: the document is never whole in memory. */
static bool drain(writer *w, bool all)
{
    text *t = &w->out.out;
    if (w->out.status != TSR_OK || t->failed)
        return false;
    if (t->length == 0 || (!all && t->length < FLUSH_BYTES))
        return true;
    const bool ok = fwrite(t->bytes, 1, t->length, w->file) == t->length;
    t->length = 0;
    return ok;
}

/* ---- events ---- */

static double microseconds(const writer *w, uint64_t ns)
{
    return (double)(int64_t)(ns - w->data->began) / 1e3;
}

static void begin_event(writer *w, const char *phase, uint64_t process, uint64_t row, const char *name)
{
    text_append_char(&w->out.out, '\n');
    json_begin_object(&w->out);
    json_put_string(&w->out, "ph", phase);
    json_put_uint(&w->out, "pid", process);
    json_put_uint(&w->out, "tid", row);
    json_put_string(&w->out, "name", name);
}

static bool end_event(writer *w)
{
    json_end_object(&w->out);
    return drain(w, false);
}

static bool put_name(writer *w, const char *what, uint64_t process, uint64_t row, const char *name)
{
    begin_event(w, "M", process, row, what);
    json_key(&w->out, "args"), json_begin_object(&w->out);
    json_put_string(&w->out, "name", name);
    json_end_object(&w->out);
    return end_event(w);
}

static bool put_order(writer *w, const char *what, uint64_t process, uint64_t row, uint64_t order)
{
    begin_event(w, "M", process, row, what);
    json_key(&w->out, "args"), json_begin_object(&w->out);
    json_put_uint(&w->out, "sort_index", order);
    json_end_object(&w->out);
    return end_event(w);
}

static bool put_flow(writer *w, const char *phase, uint64_t process, uint64_t row, uint64_t at)
{
    begin_event(w, phase, process, row, "launch");
    json_put_string(&w->out, "cat", "flow");
    json_put_uint(&w->out, "id", w->flows);
    json_put_double(&w->out, "ts", microseconds(w, at));
    if (phase[0] == 'f')
        json_put_string(&w->out, "bp", "e"); /* it ends at the slice around it, not at the next one */
    return end_event(w);
}

static void put_arguments(writer *w, const profile_event *e)
{
    const bool counts = e->kind == PROFILE_PHASE || e->kind == PROFILE_USER || e->kind == PROFILE_WORKER;
    if (e->detail == NULL && e->number == PROFILE_NO_NUMBER)
        return;
    json_key(&w->out, "args"), json_begin_object(&w->out);
    if (e->detail != NULL)
        json_put_string(&w->out, e->kind == PROFILE_COPY ? "for" : "kernel", e->detail);
    if (e->number != PROFILE_NO_NUMBER)
        json_put_uint(&w->out, counts ? "number" : "bytes", e->number);
    json_end_object(&w->out);
}

static bool put_event(writer *w, const profile_event *e, uint64_t process, uint64_t row)
{
    char name[256];
    const bool counter = e->kind == PROFILE_COUNTER;
    snprintf(name, sizeof name, "%s%s", e->name, e->kind == PROFILE_BACKWARD || e->backward ? " backward" : "");
    begin_event(w, counter ? "C" : "X", process, row, name);
    json_put_string(&w->out, "cat", category_of(e->kind));
    json_put_double(&w->out, "ts", microseconds(w, e->began));
    if (!counter)
        json_put_double(&w->out, "dur", (double)e->lasted / 1e3);
    put_arguments(w, e);
    if (!end_event(w))
        return false;
    if (e->queued == 0)
        return true;
    w->flows++;
    return put_flow(w, "s", HOST_PROCESS, e->thread, e->queued) && put_flow(w, "f", process, row, e->began);
}

/* ---- a track: its events by their begin, outer spans before inner ones, which were recorded first ---- */

typedef struct ordered {
    const profile_event *event;
    size_t number;
} ordered;

static int compare(const void *left, const void *right)
{
    const ordered *a = left, *b = right;
    if (a->event->began != b->event->began)
        return a->event->began < b->event->began ? -1 : 1;
    if (a->event->lasted != b->event->lasted)
        return a->event->lasted > b->event->lasted ? -1 : 1;
    return a->number > b->number ? -1 : a->number < b->number;
}

static bool put_events(writer *w, const profile_chunks *chunks, uint64_t process, uint64_t row)
{
    size_t count = 0, n = 0;
    for (const profile_chunk *c = chunks->first; c != NULL; c = c->next)
        count += c->count;
    if (count == 0)
        return true;
    ordered *order = host_realloc_array(NULL, count, sizeof *order);
    if (order == NULL)
        return false;
    for (const profile_chunk *c = chunks->first; c != NULL; c = c->next)
        for (size_t i = 0; i < c->count; i++, n++)
            order[n] = (ordered){&c->events[i], n};
    qsort(order, count, sizeof *order, compare);
    bool ok = true;
    for (size_t i = 0; i < count && ok; i++)
        ok = put_event(w, order[i].event, process, row);
    host_free(order);
    return ok;
}

static bool put_threads(writer *w)
{
    bool ok = put_name(w, "process_name", HOST_PROCESS, 0, "host") &&
              put_order(w, "process_sort_index", HOST_PROCESS, 0, HOST_PROCESS);
    for (profile_thread *t = w->data->threads; t != NULL && ok; t = t->next) {
        const bool is_main = t->number == w->data->main_thread;
        mutex_lock(&t->lock);
        if (t->chunks.first != NULL)
            ok = put_name(w, "thread_name", HOST_PROCESS, t->number, is_main ? "main" : t->name) &&
                 put_order(w, "thread_sort_index", HOST_PROCESS, t->number, is_main ? 0 : t->number) &&
                 put_events(w, &t->chunks, HOST_PROCESS, t->number);
        mutex_unlock(&t->lock);
    }
    return ok;
}

/* Queues of one device are tracks of one process. */
static uint64_t process_of(const writer *w, const profile_track *track, bool *first)
{
    uint64_t process = HOST_PROCESS;
    for (const profile_track *t = w->data->tracks; t != NULL; t = t->next) {
        const profile_track *same = w->data->tracks;
        while (strcmp(same->process, t->process) != 0)
            same = same->next;
        process += same == t;
        if (strcmp(t->process, track->process) == 0) {
            *first = t == track;
            return process;
        }
    }
    return process;
}

static bool put_tracks(writer *w)
{
    uint64_t number = 0;
    bool ok = true;
    for (const profile_track *t = w->data->tracks; t != NULL && ok; t = t->next) {
        bool first = false;
        const uint64_t process = process_of(w, t, &first);
        char name[TRACK_NAME_SIZE + 32];
        number++;
        snprintf(name, sizeof name, "%s%s", t->name, t->placed ? "" : " (its driver gives no times)");
        if (first)
            ok = put_name(w, "process_name", process, 0, t->process) &&
                 put_order(w, "process_sort_index", process, 0, process);
        ok = ok && put_name(w, "thread_name", process, number, name) &&
             (!t->placed || put_events(w, &t->chunks, process, number));
    }
    return ok;
}

/* ---- the file ---- */

static void put_header(writer *w)
{
    const profile_session_data *d = w->data;
    json_begin_object(&w->out);
    json_put_string(&w->out, "displayTimeUnit", "ms");
    json_key(&w->out, "otherData"), json_begin_object(&w->out);
    json_put_double(&w->out, "ended_us", microseconds(w, d->ended));
    json_put_uint(&w->out, "events", d->numbers.events);
    json_put_uint(&w->out, "dropped_events", d->numbers.dropped);
    json_key(&w->out, "queues"), json_begin_array(&w->out);
    for (const profile_track *t = d->tracks; t != NULL; t = t->next) {
        json_begin_object(&w->out);
        json_put_string(&w->out, "device", t->process);
        json_put_string(&w->out, "queue", t->name);
        json_key(&w->out, "clock_error_us");
        if (t->placed)
            json_double(&w->out, (double)t->clock_error / 1e3);
        else
            json_null(&w->out);
        json_end_object(&w->out);
    }
    json_end_array(&w->out);
    json_end_object(&w->out);
    json_key(&w->out, "traceEvents"), json_begin_array(&w->out);
}

static bool put_document(writer *w)
{
    const char *rest;
    put_header(w);
    if (!put_threads(w) || !put_tracks(w))
        return false;
    json_end_array(&w->out);
    json_end_object(&w->out);
    return json_finish(&w->out, &rest) == TSR_OK && drain(w, true);
}

tsr_status profile_write_trace(const profile_session_data *data, const char *path)
{
    writer w = {.data = data, .out = {.one_line = true}, .file = fopen(path, "wbe")};
    if (w.file == NULL)
        return fail_errno("opening %s for a profile", path);
    const bool written = put_document(&w);
    const tsr_status memory = w.out.status != TSR_OK || w.out.out.failed ? TSR_OUT_OF_MEMORY : TSR_OK;
    json_free(&w.out);
    const bool closed = fclose(w.file) == 0;
    if (written && closed)
        return TSR_OK;
    return memory != TSR_OK ? fail(memory, "there is no memory to write the profile %s", path)
                            : fail_errno("writing the profile %s", path);
}
