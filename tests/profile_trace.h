/* For tests of profiles: a trace read back, its spans checked to nest within their tracks and to lie within the profile. */
#ifndef TESSERA_TESTS_PROFILE_TRACE_H
#define TESSERA_TESTS_PROFILE_TRACE_H

#include "unit.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum { TRACKS = 32, SPANS = 20000 };

typedef struct span {
    char name[64], category[16], detail[64];
    double began, ended; /* microseconds */
    int track;
} span;

typedef struct track {
    char process[200], name[200];
    int64_t pid, tid;
    int flows_out, flows_in;
} track;

static struct {
    track tracks[TRACKS];
    int track_count;
    span spans[SPANS];
    int span_count;
    double ended;
    int64_t events, dropped;
    int counters;
} trace;

static inline const char *word(const json_t *object, const char *key)
{
    const char *found = json_string_value(json_object_get(object, key));
    return found == NULL ? "" : found;
}

static inline double number(const json_t *object, const char *key)
{
    const json_t *v = json_object_get(object, key);
    assert_true(json_is_number(v));
    return json_number_value(v);
}

static inline track *track_at(int64_t pid, int64_t tid)
{
    for (int i = 0; i < trace.track_count; i++)
        if (trace.tracks[i].pid == pid && trace.tracks[i].tid == tid)
            return &trace.tracks[i];
    assert_true(trace.track_count < TRACKS);
    trace.tracks[trace.track_count] = (track){.pid = pid, .tid = tid};
    return &trace.tracks[trace.track_count++];
}

static inline void take_event(const json_t *e)
{
    const char *phase = word(e, "ph");
    track *t = track_at((int64_t)number(e, "pid"), (int64_t)number(e, "tid"));
    const json_t *args = json_object_get(e, "args");
    assert_true(word(e, "name")[0] != '\0');
    if (strcmp(phase, "M") == 0) {
        if (strcmp(word(e, "name"), "process_name") == 0)
            snprintf(t->process, sizeof t->process, "%s", word(args, "name"));
        else if (strcmp(word(e, "name"), "thread_name") == 0)
            snprintf(t->name, sizeof t->name, "%s", word(args, "name"));
        return;
    }
    assert_true(number(e, "ts") >= 0);
    if (strcmp(phase, "C") == 0) {
        trace.counters++;
    } else if (strcmp(phase, "s") == 0) {
        t->flows_out++;
    } else if (strcmp(phase, "f") == 0) {
        t->flows_in++;
    } else {
        assert_string_equal(phase, "X");
        assert_true(trace.span_count < SPANS);
        span *s = &trace.spans[trace.span_count++];
        *s = (span){.began = number(e, "ts"), .track = (int)(t - trace.tracks)};
        assert_true(number(e, "dur") >= 0);
        s->ended = s->began + number(e, "dur");
        snprintf(s->name, sizeof s->name, "%s", word(e, "name"));
        snprintf(s->category, sizeof s->category, "%s", word(e, "cat"));
        snprintf(s->detail, sizeof s->detail, "%s", word(args, "kernel"));
    }
}

/* Half a nanosecond: times are whole nanoseconds, written in microseconds. */
static const double rounding = 5e-4;

/* Within a track each span lies in the one around it, or behind it. */
static inline void check_nesting(int at)
{
    double ends[64];
    int depth = 0;
    double last = -1;
    for (int i = 0; i < trace.span_count; i++) {
        const span *s = &trace.spans[i];
        if (s->track != at)
            continue;
        assert_true(s->began >= last);
        last = s->began;
        while (depth > 0 && ends[depth - 1] <= s->began + rounding)
            depth--;
        if (depth > 0 && s->ended > ends[depth - 1] + rounding)
            fail_msg("%s of %s ends at %.3f us, behind the span around it (%.3f)", s->name, trace.tracks[at].name,
                     s->ended, ends[depth - 1]);
        assert_true(depth < 64);
        ends[depth++] = s->ended;
    }
}

static inline void read_trace(const char *path)
{
    json_error_t error;
    json_t *document = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    if (document == NULL)
        fail_msg("%s:%d: %s", path, error.line, error.text);
    memset(&trace, 0, sizeof trace);
    const json_t *other = json_object_get(document, "otherData");
    trace.ended = number(other, "ended_us");
    trace.events = (int64_t)number(other, "events");
    trace.dropped = (int64_t)number(other, "dropped_events");
    const json_t *events = json_object_get(document, "traceEvents");
    assert_true(json_array_size(events) > 0);
    for (size_t i = 0; i < json_array_size(events); i++)
        take_event(json_array_get(events, i));
    json_decref(document);
    for (int i = 0; i < trace.track_count; i++)
        check_nesting(i);
    for (int i = 0; i < trace.span_count; i++)
        if (trace.spans[i].ended > trace.ended + rounding)
            fail_msg("%s of %s ends at %.3f us, the profile at %.3f", trace.spans[i].name,
                     trace.tracks[trace.spans[i].track].name, trace.spans[i].ended, trace.ended);
    assert_int_equal(trace.span_count + trace.counters, trace.events);
}

static inline const span *find(const char *category, const char *name, const span *inside)
{
    for (int i = 0; i < trace.span_count; i++) {
        const span *s = &trace.spans[i];
        if (strcmp(s->category, category) == 0 && strcmp(s->name, name) == 0 &&
            (inside == NULL ||
             (s->track == inside->track && s->began >= inside->began && s->ended <= inside->ended + rounding)))
            return s;
    }
    return NULL;
}

static inline const span *must_find(const char *category, const char *name, const span *inside)
{
    const span *found = find(category, name, inside);
    if (found == NULL)
        fail_msg("there is no span '%s' of category %s%s%s", name, category, inside == NULL ? "" : " inside of ",
                 inside == NULL ? "" : inside->name);
    return found;
}

static inline int tracks_named(const char *process_begins, const char *name_begins)
{
    int count = 0;
    for (int i = 0; i < trace.track_count; i++) {
        const track *t = &trace.tracks[i];
        const char *process = "";
        for (int k = 0; k < trace.track_count; k++)
            if (trace.tracks[k].pid == t->pid && trace.tracks[k].process[0] != '\0')
                process = trace.tracks[k].process;
        count += strncmp(process, process_begins, strlen(process_begins)) == 0 &&
                 strncmp(t->name, name_begins, strlen(name_begins)) == 0 && t->name[0] != '\0';
    }
    return count;
}

#endif
