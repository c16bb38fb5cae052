/* Spans of threads and tracks of queues, while a profile is under way. */
#include "base/profile_store.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/memory.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { NAMES_FIRST = 256 };

atomic_uint profile_session;

static _Thread_local const profile_span *innermost;
static _Thread_local profile_thread *here;

static struct {
    mutex lock; /* of the lists and of what begins and ends */
    profile_session_data data;
    uint32_t sessions, thread_numbers;
    bool begun; /* from profile_start to profile_write */
    size_t chunks_most;
    _Atomic size_t chunks;
    _Atomic uint64_t events, dropped;
} store = {.lock = MUTEX_INIT};

static struct {
    mutex lock;
    const char **slots; /* a power of two; open addressing */
    size_t capacity, count;
} names = {.lock = MUTEX_INIT};

/* ---- names ---------------------------------------------------------------------------------------------------------- */

static const char **name_slot(const char **slots, size_t capacity, const char *string)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (const char *c = string; *c != '\0'; c++)
        hash = (hash ^ (unsigned char)*c) * 16777619u;
    size_t i = hash & (capacity - 1);
    while (slots[i] != NULL && strcmp(slots[i], string) != 0)
        i = (i + 1) & (capacity - 1);
    return &slots[i];
}

static bool names_grow(void)
{
    const size_t capacity = names.capacity == 0 ? NAMES_FIRST : 2 * names.capacity;
    const char **grown = host_alloc_zeroed(capacity, sizeof *grown);
    if (grown == NULL)
        return false;
    for (size_t i = 0; i < names.capacity; i++)
        if (names.slots[i] != NULL)
            *name_slot(grown, capacity, names.slots[i]) = names.slots[i];
    host_free(names.slots);
    names.slots = grown;
    names.capacity = capacity;
    return true;
}

const char *profile_intern(const char *string)
{
    const char *found = NULL;
    error_state before;
    mutex_lock(&names.lock);
    if (names.count > 0)
        found = *name_slot(names.slots, names.capacity, string);
    if (found == NULL) {
        error_save(&before);
        if (2 * (names.count + 1) <= names.capacity || names_grow())
            found = host_strdup(string);
        if (found != NULL) {
            *name_slot(names.slots, names.capacity, string) = found;
            names.count++;
        }
        error_restore(&before);
    }
    mutex_unlock(&names.lock);
    return found == NULL ? "?" : found;
}

/* ---- buffers -------------------------------------------------------------------------------------------------------- */

/* The place of one more event, NULL where there is no room. A profile that is full, or memory that ran out, is no error of what is profiled. */
static profile_event *chunks_add(profile_chunks *c)
{
    if (c->last == NULL || c->last->count == CHUNK_EVENTS) {
        error_state before;
        error_save(&before);
        profile_chunk *chunk = NULL;
        if (atomic_fetch_add(&store.chunks, 1) < store.chunks_most)
            chunk = host_alloc(sizeof *chunk);
        if (chunk == NULL) {
            atomic_fetch_sub(&store.chunks, 1);
            atomic_fetch_add(&store.dropped, 1);
            error_restore(&before);
            return NULL;
        }
        chunk->next = NULL;
        chunk->count = 0;
        if (c->last == NULL)
            c->first = chunk;
        else
            c->last->next = chunk;
        c->last = chunk;
    }
    atomic_fetch_add_explicit(&store.events, 1, memory_order_relaxed);
    return &c->last->events[c->last->count++];
}

static void chunks_free(profile_chunks *c)
{
    for (profile_chunk *next, *chunk = c->first; chunk != NULL; chunk = next) {
        next = chunk->next;
        host_free(chunk);
    }
    *c = (profile_chunks){0};
}

/* ---- threads -------------------------------------------------------------------------------------------------------- */

static pthread_key_t thread_key;
static once thread_key_made = ONCE_INIT;
static bool thread_key_works;

static void thread_ended(void *argument)
{
    profile_thread *t = argument;
    here = NULL; /* what another such function still records gets a buffer of its own */
    mutex_lock(&store.lock);
    t->ended = true;
    mutex_unlock(&store.lock);
}

static void make_thread_key(void)
{
    thread_key_works = pthread_key_create(&thread_key, thread_ended) == 0;
}

/* The calling thread's buffer, NULL where memory ran out. */
static profile_thread *thread_here(void)
{
    error_state before;
    if (here != NULL)
        return here;
    once_run(&thread_key_made, make_thread_key);
    error_save(&before);
    profile_thread *t = host_alloc_zeroed(1, sizeof *t);
    if (t == NULL) {
        error_restore(&before);
        return NULL;
    }
    mutex_init(&t->lock);
    thread_name(t->name, sizeof t->name);
    mutex_lock(&store.lock);
    t->number = ++store.thread_numbers;
    t->next = store.data.threads;
    store.data.threads = t;
    mutex_unlock(&store.lock);
    if (thread_key_works)
        pthread_setspecific(thread_key, t);
    return here = t;
}

uint32_t profile_thread_number(void)
{
    const profile_thread *t = thread_here();
    return t == NULL ? 0 : t->number;
}

/* The check is made with the thread's lock held, so what belongs to a session is there before profile_write looks. */
static void thread_add(uint32_t session, const profile_event *event)
{
    profile_thread *t = thread_here();
    if (t == NULL) {
        atomic_fetch_add(&store.dropped, 1);
        return;
    }
    mutex_lock(&t->lock);
    profile_event *place = atomic_load(&profile_session) == session ? chunks_add(&t->chunks) : NULL;
    if (place != NULL)
        *place = *event;
    mutex_unlock(&t->lock);
}

/* ---- spans ---------------------------------------------------------------------------------------------------------- */

void profile_open_now(profile_span *span, profile_kind kind, const char *name, const char *detail, uint64_t number)
{
    *span = (profile_span){.session = atomic_load(&profile_session),
                           .kind = (uint8_t)kind,
                           .began = clock_ns(),
                           .number = number,
                           .name = name,
                           .detail = detail,
                           .outer = innermost};
    if (span->session != 0)
        innermost = span;
}

void profile_close_now(const profile_span *span)
{
    innermost = span->outer;
    thread_add(span->session, &(profile_event){.name = span->name,
                                               .detail = span->detail,
                                               .began = span->began,
                                               .lasted = clock_ns() - span->began,
                                               .number = span->number,
                                               .kind = span->kind});
}

const profile_span *profile_innermost(void)
{
    return innermost;
}

void profile_count(const char *name, uint64_t value)
{
    const uint32_t session = atomic_load(&profile_session);
    if (session != 0)
        thread_add(session,
                   &(profile_event){.name = name, .began = clock_ns(), .number = value, .kind = PROFILE_COUNTER});
}

/* ---- tracks --------------------------------------------------------------------------------------------------------- */

profile_track *profile_track_create(const char *process, const char *name)
{
    profile_track *track = host_alloc_zeroed(1, sizeof *track);
    if (track == NULL)
        return NULL;
    snprintf(track->process, sizeof track->process, "%s", process);
    snprintf(track->name, sizeof track->name, "%s", name);
    mutex_lock(&store.lock);
    profile_track **end = &store.data.tracks;
    while (*end != NULL)
        end = &(*end)->next;
    *end = track;
    mutex_unlock(&store.lock);
    return track;
}

void profile_track_add(profile_track *track, const profile_event *event)
{
    profile_event *place = chunks_add(&track->chunks);
    if (place != NULL)
        *place = *event;
}

/* Where the clocks keep one distance, as far as the readings tell, it is that; else they drift. */
typedef struct clock_line {
    uint64_t at, host, error;
    double rate;
} clock_line;

static clock_line line_through(const profile_clock *first, const profile_clock *last)
{
    const uint64_t distance = first->host - first->at;
    const int64_t drift = (int64_t)(last->host - last->at - distance);
    const int64_t e1 = (int64_t)first->error, e2 = (int64_t)last->error;
    const int64_t low = -e1 > drift - e2 ? -e1 : drift - e2, high = e1 < drift + e2 ? e1 : drift + e2;
    if (low <= high || last->at <= first->at || last->host <= first->host)
        return (clock_line){.at = first->at,
                            .host = first->host + (uint64_t)(low <= high ? low + (high - low) / 2 : 0),
                            .error = low <= high ? (uint64_t)(high - low + 1) / 2 : first->error,
                            .rate = 1};
    return (clock_line){.at = first->at,
                        .host = first->host,
                        .error = first->error > last->error ? first->error : last->error,
                        .rate = (double)(last->host - first->host) / (double)(last->at - first->at)};
}

static uint64_t host_time(uint64_t at, const clock_line *line)
{
    return line->host + (uint64_t)(int64_t)((double)(int64_t)(at - line->at) * line->rate);
}

void profile_track_place(profile_track *track, const profile_clock *first, const profile_clock *last)
{
    const clock_line line = line_through(first, last);
    for (profile_chunk *chunk = track->chunks.first; chunk != NULL; chunk = chunk->next)
        for (size_t i = 0; i < chunk->count; i++) {
            profile_event *e = &chunk->events[i];
            const uint64_t end = host_time(e->began + e->lasted, &line);
            e->began = host_time(e->began, &line);
            e->lasted = end - e->began;
        }
    track->clock_error = line.error;
    track->placed = true;
}

/* ---- a session ------------------------------------------------------------------------------------------------------ */

tsr_status profile_start(uint64_t events)
{
    const uint32_t number = profile_thread_number();
    if (number == 0)
        return fail(TSR_OUT_OF_MEMORY, "there is no memory for a profile");
    mutex_lock(&store.lock);
    const bool busy = store.begun;
    if (!busy) {
        store.begun = true;
        store.chunks_most = (size_t)((events + CHUNK_EVENTS - 1) / CHUNK_EVENTS);
        atomic_store(&store.chunks, 0);
        atomic_store(&store.events, 0);
        atomic_store(&store.dropped, 0);
        store.data.main_thread = number;
        store.data.began = clock_ns();
        if (++store.sessions == 0)
            store.sessions = 1;
        atomic_store(&profile_session, store.sessions);
    }
    mutex_unlock(&store.lock);
    return busy ? fail(TSR_INVALID_ARGUMENT, "a profile is under way already: tsr_profile_end ends it") : TSR_OK;
}

bool profile_stop(void)
{
    mutex_lock(&store.lock);
    const bool stopped = atomic_exchange(&profile_session, 0) != 0;
    mutex_unlock(&store.lock);
    return stopped;
}

profile_numbers profile_numbers_get(void)
{
    return (profile_numbers){atomic_load(&store.events), atomic_load(&store.dropped)};
}

/* With the store's lock held. */
static void forget(void)
{
    for (profile_thread **at = &store.data.threads; *at != NULL;) {
        profile_thread *t = *at;
        mutex_lock(&t->lock);
        chunks_free(&t->chunks);
        mutex_unlock(&t->lock);
        if (!t->ended) {
            at = &t->next;
            continue;
        }
        *at = t->next;
        mutex_destroy(&t->lock);
        host_free(t);
    }
    for (profile_track *next, *track = store.data.tracks; track != NULL; track = next) {
        next = track->next;
        chunks_free(&track->chunks);
        host_free(track);
    }
    store.data.tracks = NULL;
    store.begun = false;
}

tsr_status profile_write(const char *path)
{
    mutex_lock(&store.lock);
    for (profile_thread *t = store.data.threads; t != NULL; t = t->next) { /* who was recording has done so then */
        mutex_lock(&t->lock);
        mutex_unlock(&t->lock);
    }
    store.data.ended = clock_ns();
    store.data.numbers = profile_numbers_get();
    const tsr_status status = path == NULL ? TSR_OK : profile_write_trace(&store.data, path);
    forget();
    mutex_unlock(&store.lock);
    return status;
}
