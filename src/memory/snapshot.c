#include "memory/snapshot.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/memory.h"
#include "memory/blocks.h"

const char *tsr_memory_kind_name(tsr_memory_kind kind)
{
    switch (kind) {
    case TSR_MEMORY_OTHER: return "other";
    case TSR_MEMORY_PARAMETER: return "parameters";
    case TSR_MEMORY_STATE: return "state";
    case TSR_MEMORY_GRADIENT: return "gradients";
    case TSR_MEMORY_DATA: return "data";
    case TSR_MEMORY_FORWARD: return "forward";
    case TSR_MEMORY_RECOMPUTE: return "recompute";
    case TSR_MEMORY_BACKWARD: return "backward";
    case TSR_MEMORY_UPDATE: return "update";
    }
    return "?";
}

/* ---- recording ---------------------------------------------------------------------------------------------------- */

tsr_status allocator_record_begin(allocator *a, uint64_t events)
{
    memory_history *r = host_alloc_zeroed(1, sizeof *r);
    if (r == NULL)
        return TSR_OUT_OF_MEMORY;
    r->active = true;
    r->most = events == 0 ? (size_t)1 << 20 : events < SIZE_MAX / 2 ? (size_t)events : SIZE_MAX / 2;
    mutex_lock(&a->lock);
    history_free(a->recording);
    a->recording = r;
    r->reserved = a->stats.reserved;
    for (segment *seg = a->segments; seg != NULL; seg = seg->next)
        for (block *b = seg->first; b != NULL; b = b->right)
            if (b->used)
                history_add(r, MEMORY_HELD, b->view.size, &b->number, b->label);
    mutex_unlock(&a->lock);
    return TSR_OK;
}

void allocator_record_end(allocator *a)
{
    mutex_lock(&a->lock);
    if (a->recording != NULL)
        a->recording->active = false;
    mutex_unlock(&a->lock);
}

/* ---- owners ------------------------------------------------------------------------------------------------------- */

static tsr_memory_owner *owner_of(owner_table *t, memory_label label)
{
    const char *name = label.name == NULL ? "" : label.name;
    for (size_t i = 0; i < t->count; i++)
        if (t->rows[i].kind == label.kind && strcmp(t->rows[i].name, name) == 0)
            return &t->rows[i];
    tsr_memory_owner *grown = host_grown(t->rows, t->count, &t->capacity, sizeof *grown);
    if (grown == NULL)
        return NULL;
    t->rows = grown;
    t->rows[t->count] = (tsr_memory_owner){.kind = label.kind, .name = name};
    return &t->rows[t->count++];
}

static bool add_present(owner_table *t, const allocator *a)
{
    for (const segment *seg = a->segments; seg != NULL; seg = seg->next)
        for (const block *b = seg->first; b != NULL; b = b->right) {
            tsr_memory_owner *owner = b->used ? owner_of(t, b->label) : NULL;
            if (b->used && owner == NULL)
                return false;
            if (b->used) {
                owner->bytes += b->view.size;
                owner->blocks++;
            }
        }
    return true;
}

static bool add_peak(owner_table *t, const memory_history *r)
{
    history_walk w;
    size_t peak;
    uint64_t bytes;
    if (r == NULL || !history_peak(r, &peak, &bytes))
        return true;
    if (!history_walk_begin(&w, r))
        return false;
    bool ok = true;
    while (w.next <= peak)
        history_walk_next(&w);
    for (size_t i = 0; i < r->label_count && ok; i++) {
        tsr_memory_owner *owner = w.held[i] > 0 ? owner_of(t, r->labels[i]) : NULL;
        ok = w.held[i] == 0 || owner != NULL;
        if (owner != NULL)
            owner->peak_bytes += w.held[i];
    }
    history_walk_end(&w);
    return ok;
}

static int by_size(const void *left, const void *right)
{
    const tsr_memory_owner *x = left, *y = right;
    if (x->peak_bytes != y->peak_bytes)
        return x->peak_bytes < y->peak_bytes ? 1 : -1;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return x->kind != y->kind ? (x->kind > y->kind) - (x->kind < y->kind) : strcmp(x->name, y->name);
}

tsr_status owner_table_fill(owner_table *t, allocator *a)
{
    *t = (owner_table){0};
    if (!add_present(t, a) || !add_peak(t, a->recording)) {
        host_free(t->rows);
        *t = (owner_table){0};
        return tsr_last_status();
    }
    if (t->count > 0)
        qsort(t->rows, t->count, sizeof *t->rows, by_size);
    return TSR_OK;
}

tsr_status allocator_owners(allocator *a, tsr_memory_owner *rows, size_t capacity, size_t *count)
{
    owner_table t;
    mutex_lock(&a->lock);
    const tsr_status status = owner_table_fill(&t, a);
    mutex_unlock(&a->lock);
    *count = t.count;
    for (size_t i = 0; i < t.count && i < capacity; i++)
        rows[i] = t.rows[i];
    host_free(t.rows);
    return status;
}

/* ---- JSON --------------------------------------------------------------------------------------------------------- */

static void put_numbers(json *j, const allocator *a)
{
    const allocator_statistics *s = &a->stats;
    json_key(j, "statistics");
    json_begin_object(j);
    json_put_uint(j, "allocated_bytes", s->allocated);
    json_put_uint(j, "peak_allocated_bytes", s->peak_allocated);
    json_put_uint(j, "reserved_bytes", s->reserved);
    json_put_uint(j, "peak_reserved_bytes", s->peak_reserved);
    json_put_uint(j, "limit_bytes", s->limit);
    json_put_uint(j, "largest_free_bytes", blocks_largest_free(a));
    json_put_uint(j, "allocations", s->requests);
    json_put_uint(j, "cache_hits", s->cache_hits);
    json_put_uint(j, "driver_allocations", s->driver_allocations);
    json_put_uint(j, "driver_frees", s->driver_frees);
    json_end_object(j);
}

static void put_owners(json *j, const owner_table *t)
{
    json_key(j, "owners");
    json_begin_array(j);
    for (size_t i = 0; i < t->count; i++) {
        const tsr_memory_owner *o = &t->rows[i];
        json_begin_object(j);
        json_put_string(j, "kind", tsr_memory_kind_name(o->kind));
        json_put_string(j, "name", o->name);
        json_put_uint(j, "bytes", o->bytes);
        json_put_uint(j, "blocks", o->blocks);
        json_put_uint(j, "peak_bytes", o->peak_bytes);
        json_end_object(j);
    }
    json_end_array(j);
}

static void put_segments(json *j, const allocator *a)
{
    json_key(j, "segments");
    json_begin_array(j);
    for (const segment *seg = a->segments; seg != NULL; seg = seg->next) {
        json_begin_object(j);
        json_put_uint(j, "bytes", seg->size);
        json_key(j, "blocks");
        json_begin_array(j);
        for (const block *b = seg->first; b != NULL; b = b->right) {
            json_begin_object(j);
            json_put_uint(j, "offset", b->view.offset);
            json_put_uint(j, "bytes", b->view.size);
            json_put_bool(j, "used", b->used);
            if (b->used) {
                json_put_string(j, "kind", tsr_memory_kind_name(b->label.kind));
                json_put_string(j, "name", b->label.name == NULL ? "" : b->label.name);
            }
            json_end_object(j);
        }
        json_end_array(j);
        json_end_object(j);
    }
    json_end_array(j);
}

static void put_recording(json *j, const memory_history *r)
{
    static const char *const whats[MEMORY_WHATS] = {"held", "taken", "labeled", "freed", "reserved", "returned"};
    size_t peak;
    uint64_t bytes;
    if (r == NULL) {
        json_put_null(j, "recording");
        return;
    }
    history_peak(r, &peak, &bytes);
    json_key(j, "recording");
    json_begin_object(j);
    json_put_uint(j, "missed", r->missed);
    json_put_uint(j, "reserved_bytes", r->reserved);
    json_put_uint(j, "peak_event", peak);
    json_put_uint(j, "peak_bytes", bytes);
    json_key(j, "labels");
    json_begin_array(j);
    for (size_t i = 0; i < r->label_count; i++) {
        json_begin_array(j);
        json_string(j, tsr_memory_kind_name(r->labels[i].kind));
        json_string(j, r->labels[i].name == NULL ? "" : r->labels[i].name);
        json_end_array(j);
    }
    json_end_array(j);
    json_key(j, "events");
    json_begin_array(j);
    for (size_t i = 0; i < r->count; i++) {
        const memory_event *e = &r->events[i];
        json_begin_array(j);
        json_string(j, whats[e->what]);
        json_uint(j, e->bytes);
        if (e->block != 0) {
            json_uint(j, e->block);
            json_uint(j, e->label);
        }
        json_end_array(j);
    }
    json_end_array(j);
    json_end_object(j);
}

tsr_status snapshot_write(allocator *a, const char *device, const char *path)
{
    owner_table owners;
    json j = {.one_line = true};
    mutex_lock(&a->lock);
    tsr_status status = owner_table_fill(&owners, a);
    if (status == TSR_OK) {
        json_begin_object(&j);
        json_put_string(&j, "format", "tessera-memory");
        json_put_int(&j, "version", 1);
        json_put_string(&j, "device", device);
        put_numbers(&j, a);
        put_owners(&j, &owners);
        put_segments(&j, a);
        put_recording(&j, a->recording);
        json_end_object(&j);
    }
    mutex_unlock(&a->lock);
    host_free(owners.rows);
    if (status == TSR_OK)
        status = json_write_file(&j, path);
    json_free(&j);
    return status;
}
