/* What a profile holds; shared by profile.c and profile_write.c only. */
#ifndef TESSERA_BASE_PROFILE_STORE_H
#define TESSERA_BASE_PROFILE_STORE_H

#include "base/profile.h"
#include "base/thread.h"

enum { CHUNK_EVENTS = 512, TRACK_NAME_SIZE = 192 };

typedef struct profile_chunk {
    struct profile_chunk *next;
    size_t count;
    profile_event events[CHUNK_EVENTS];
} profile_chunk;

typedef struct profile_chunks {
    profile_chunk *first, *last;
} profile_chunks;

/* Lives as long as its thread, and as long as its events are not written. */
typedef struct profile_thread {
    struct profile_thread *next;
    mutex lock;
    profile_chunks chunks;
    uint32_t number;
    char name[16];
    bool ended;
} profile_thread;

struct profile_track {
    struct profile_track *next;
    char process[TRACK_NAME_SIZE], name[TRACK_NAME_SIZE];
    profile_chunks chunks;
    bool placed;
    uint64_t clock_error; /* ns */
};

/* All of a session, once it is over. */
typedef struct profile_session_data {
    profile_thread *threads; /* locked one by one */
    profile_track *tracks;
    uint32_t main_thread;
    uint64_t began, ended;
    profile_numbers numbers;
} profile_session_data;

tsr_status profile_write_trace(const profile_session_data *data, const char *path);

#endif
