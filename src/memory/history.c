#include "memory/history.h"

#include "base/error.h"
#include "base/memory.h"

_Thread_local memory_label memory_label_here;

void history_free(memory_history *r)
{
    if (r == NULL)
        return;
    host_free(r->events);
    host_free(r->labels);
    host_free(r);
}

static bool label_index(memory_history *r, memory_label label, uint16_t *at)
{
    for (size_t i = 0; i < r->label_count; i++)
        if (r->labels[i].name == label.name && r->labels[i].kind == label.kind) {
            *at = (uint16_t)i;
            return true;
        }
    if (r->label_count == UINT16_MAX)
        return false;
    memory_label *grown = host_grown(r->labels, r->label_count, &r->label_capacity, sizeof *grown);
    if (grown == NULL)
        return false;
    r->labels = grown;
    *at = (uint16_t)r->label_count;
    r->labels[r->label_count++] = label;
    return true;
}

static bool has_room(memory_history *r)
{
    if (r->missed > 0 || r->count == r->most || r->blocks == UINT32_MAX)
        return false;
    if (r->count < r->capacity)
        return true;
    size_t capacity = 1024 + 2 * r->capacity;
    if (capacity > r->most)
        capacity = r->most;
    memory_event *grown = host_realloc_array(r->events, capacity, sizeof *grown);
    if (grown == NULL)
        return false;
    r->events = grown;
    r->capacity = capacity;
    return true;
}

void history_add(memory_history *r, memory_what what, uint64_t bytes, uint32_t *block, memory_label label)
{
    error_state before; /* what cannot be recorded is no failure of who takes memory */
    uint16_t at = 0;
    if (!r->active)
        return;
    error_save(&before);
    if (!has_room(r) || !label_index(r, label, &at)) {
        r->missed++;
        error_restore(&before);
        return;
    }
    error_restore(&before);
    if (what == MEMORY_HELD || what == MEMORY_TAKEN)
        *block = ++r->blocks;
    r->events[r->count++] =
        (memory_event){.bytes = bytes, .block = block == NULL ? 0 : *block, .label = at, .what = (uint8_t)what};
}

bool history_walk_begin(history_walk *w, const memory_history *r)
{
    *w = (history_walk){.recording = r, .reserved = r->reserved};
    w->held = host_alloc_zeroed(r->label_count + 1, sizeof *w->held);
    w->of = host_alloc_zeroed((size_t)r->blocks + 1, sizeof *w->of);
    if (w->held != NULL && w->of != NULL)
        return true;
    history_walk_end(w);
    return false;
}

bool history_walk_next(history_walk *w)
{
    if (w->next == w->recording->count)
        return false;
    const memory_event *e = &w->recording->events[w->next++];
    switch ((memory_what)e->what) {
    case MEMORY_HELD:
    case MEMORY_TAKEN:
        w->of[e->block] = e->label;
        w->held[e->label] += e->bytes;
        w->bytes += e->bytes;
        break;
    case MEMORY_LABELED:
        w->held[w->of[e->block]] -= e->bytes;
        w->of[e->block] = e->label;
        w->held[e->label] += e->bytes;
        break;
    case MEMORY_FREED:
        w->held[w->of[e->block]] -= e->bytes;
        w->bytes -= e->bytes;
        break;
    case MEMORY_RESERVED: w->reserved += e->bytes; break;
    case MEMORY_RETURNED: w->reserved -= e->bytes; break;
    case MEMORY_WHATS: break;
    }
    return true;
}

void history_walk_end(history_walk *w)
{
    host_free(w->held);
    host_free(w->of);
    *w = (history_walk){0};
}

bool history_peak(const memory_history *r, size_t *event, uint64_t *bytes)
{
    uint64_t held = 0;
    bool any = false;
    *event = 0;
    *bytes = 0;
    for (size_t i = 0; i < r->count; i++) {
        const memory_event *e = &r->events[i];
        if (e->what == MEMORY_HELD || e->what == MEMORY_TAKEN)
            held += e->bytes;
        else if (e->what == MEMORY_FREED)
            held -= e->bytes;
        if (held > *bytes) {
            *event = i;
            *bytes = held;
            any = true;
        }
    }
    return any;
}
