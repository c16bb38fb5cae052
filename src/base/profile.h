/* What happened when, on which thread and in which queue: spans, kept in memory until they are written as a trace (tessera/profile.h).
 *
 * Nothing is recorded unless a profile is under way, and then a span costs one branch. A thread records into a buffer of its own, whose lock nobody
 * else wants until the profile ends; queues get tracks from whoever knows their times (hal/hal_profile.c).
 *
 *     const profile_span span = profile_open(PROFILE_WAIT, "wait");
 *     …
 *     profile_close(&span);
 *
 * Spans of one thread nest, since they lie on its stack. One that is open when the profile ends is not recorded. */
#ifndef TESSERA_BASE_PROFILE_H
#define TESSERA_BASE_PROFILE_H

#include "base/compiler.h"

#include <tessera/status.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum profile_kind {
    PROFILE_OPERATOR, /* to PROFILE_MODULE: kernels launched in them have their name */
    PROFILE_BACKWARD, /* of an operator */
    PROFILE_MODULE,
    PROFILE_PHASE, /* load, forward, backward, optimizer, save, … */
    PROFILE_USER,
    PROFILE_DRIVER, /* what a driver does seldom: memory, programs */
    PROFILE_WAIT,   /* the host waits for a device or a worker */
    PROFILE_WORKER,
    PROFILE_COUNTER, /* no span: `number` from `began` on */
    PROFILE_KERNEL,  /* on a queue */
    PROFILE_COPY,
    PROFILE_KINDS
} profile_kind;

#define PROFILE_NO_NUMBER UINT64_MAX

typedef struct profile_event {
    const char *name, *detail; /* of static memory or profile_intern; detail: NULL, or a kernel's key */
    uint64_t began, lasted;    /* ns; of a queue: on its own clock until the track is placed */
    uint64_t number;           /* bytes, or a step's number; PROFILE_NO_NUMBER: none */
    uint64_t queued;           /* of a queue: when the host handed it over, within a span of `thread`; 0: unknown */
    uint32_t thread;
    uint8_t kind;
    bool backward; /* on a queue: on behalf of an operator's backward function */
} profile_event;

typedef struct profile_span {
    uint32_t session; /* 0: not recorded */
    uint8_t kind;
    uint64_t began, number;
    const char *name, *detail;
    const struct profile_span *outer;
} profile_span;

/* The number of the profile under way, 0 if there is none. */
extern atomic_uint profile_session;

static inline bool profiling(void)
{
    return UNLIKELY(atomic_load_explicit(&profile_session, memory_order_relaxed) != 0);
}

/* Of PROFILE_OPERATOR to PROFILE_WORKER. `name` is static or interned. The span stays where it is until it is closed. */
void profile_open_now(profile_span *span, profile_kind kind, const char *name, const char *detail, uint64_t number);
void profile_close_now(const profile_span *span);

static inline void profile_open_with(profile_span *span, profile_kind kind, const char *name, const char *detail,
                                     uint64_t number)
{
    span->session = 0;
    if (profiling())
        profile_open_now(span, kind, name, detail, number);
}

static inline void profile_open(profile_span *span, profile_kind kind, const char *name)
{
    profile_open_with(span, kind, name, NULL, PROFILE_NO_NUMBER);
}

static inline void profile_close(const profile_span *span)
{
    if (UNLIKELY(span->session != 0))
        profile_close_now(span);
}

/* The innermost span that is open on this thread, NULL if none is. */
const profile_span *profile_innermost(void);

/* From now on the counter `name` has this value. */
void profile_count(const char *name, uint64_t value);

/* The same string in memory that lasts as long as the process, one copy of each; "?" where memory ran out. */
const char *profile_intern(const char *string);

/* The number of the calling thread in traces. */
uint32_t profile_thread_number(void);

/* ---- a session: called by tensor/profile.c ------------------------------------------------------------------------- */

/* TSR_INVALID_ARGUMENT if one is under way. events: about so many are kept, at the most (memory is
 * taken in pieces of 512 for each thread and queue); what comes later is counted and dropped. */
tsr_status profile_start(uint64_t events);
/* Nothing is recorded any longer, except by tracks. False if nothing was under way. */
bool profile_stop(void);
/* After profile_stop: one file, or nothing if path is NULL; in either case all is forgotten. */
tsr_status profile_write(const char *path);

typedef struct profile_numbers {
    uint64_t events, dropped;
} profile_numbers;
/* Of the session under way, or of the last one. */
profile_numbers profile_numbers_get(void);

/* ---- tracks: one for each queue, used by one thread at a time -------------------------------------------------------- */

typedef struct profile_track profile_track;

/* A track of `process` (the device's id and name), freed with the session. NULL where memory ran out. */
profile_track *profile_track_create(const char *process, const char *name);
void profile_track_add(profile_track *track, const profile_event *event);

/* The host's time of a track's time `at`, and how far it may be off. */
typedef struct profile_clock {
    uint64_t at, host; /* ns */
    uint64_t error;
} profile_clock;
/* Gives all of the track's events the host's time, from a reading before and one behind them: at one distance where both allow one, else along the
 * straight line through them. */
void profile_track_place(profile_track *track, const profile_clock *first, const profile_clock *last);

#endif
