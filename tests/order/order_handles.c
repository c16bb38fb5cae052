/* A hash table with open addressing. */
#include "order_handles.h"

#include <stdlib.h>

static uint32_t place_of(const handle_map *map, handle_kind kind, const void *device, uint64_t handle)
{
    const uint64_t mixed =
        (handle ^ ((uint64_t)(uintptr_t)device << 7) ^ ((uint64_t)kind << 56)) * UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)(mixed >> 32) & (map->capacity - 1);
}

static handle_slot *slot_of(const handle_map *map, handle_kind kind, const void *device, uint64_t handle)
{
    if (map->capacity == 0)
        return NULL;
    for (uint32_t i = place_of(map, kind, device, handle);; i = (i + 1) & (map->capacity - 1)) {
        handle_slot *s = &map->slots[i];
        if (!s->taken)
            return NULL;
        if (!s->dead && s->kind == kind && s->device == device && s->handle == handle)
            return s;
    }
}

static void insert(handle_map *map, const handle_slot *slot)
{
    uint32_t i = place_of(map, slot->kind, slot->device, slot->handle);
    while (map->slots[i].taken)
        i = (i + 1) & (map->capacity - 1);
    map->slots[i] = *slot;
    map->used++;
}

static bool grow(handle_map *map)
{
    const handle_map old = *map;
    uint32_t living = 0;
    for (uint32_t i = 0; i < old.capacity; i++)
        living += old.slots[i].taken && !old.slots[i].dead;
    uint32_t capacity = 1024;
    while (capacity < 4 * (living + 1))
        capacity *= 2;
    handle_slot *slots = calloc(capacity, sizeof *slots);
    if (slots == NULL)
        return false;
    *map = (handle_map){.slots = slots, .capacity = capacity};
    for (uint32_t i = 0; i < old.capacity; i++)
        if (old.slots[i].taken && !old.slots[i].dead)
            insert(map, &old.slots[i]);
    free(old.slots);
    return true;
}

bool handle_put(handle_map *map, handle_kind kind, const void *device, uint64_t handle, void *thing)
{
    handle_slot *s = slot_of(map, kind, device, handle);
    if (s != NULL) {
        s->thing = thing;
        return true;
    }
    if (2 * (map->used + 1) > map->capacity && !grow(map))
        return false;
    insert(map, &(handle_slot){.handle = handle, .device = device, .kind = kind, .taken = true, .thing = thing});
    return true;
}

void *handle_get(const handle_map *map, handle_kind kind, const void *device, uint64_t handle)
{
    const handle_slot *s = slot_of(map, kind, device, handle);
    return s != NULL ? s->thing : NULL;
}

void *handle_take(handle_map *map, handle_kind kind, const void *device, uint64_t handle)
{
    handle_slot *s = slot_of(map, kind, device, handle);
    if (s == NULL)
        return NULL;
    s->dead = true;
    return s->thing;
}

void handle_clear(handle_map *map, const void *device, void (*release)(handle_kind kind, void *thing))
{
    for (uint32_t i = 0; i < map->capacity; i++) {
        handle_slot *s = &map->slots[i];
        if (s->taken && !s->dead && s->device == device) {
            s->dead = true;
            release(s->kind, s->thing);
        }
    }
}
