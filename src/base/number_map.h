/* A table from 64-bit numbers to 32-bit ones, by open addressing. */
#ifndef TESSERA_BASE_NUMBER_MAP_H
#define TESSERA_BASE_NUMBER_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/memory.h"

#define NUMBER_MAP_NONE UINT32_MAX

typedef struct number_map_slot {
    uint64_t key;
    uint32_t value; /* NUMBER_MAP_NONE: the slot is free */
} number_map_slot;

/* Zero-initialise it. */
typedef struct number_map {
    number_map_slot *slots;
    size_t count, capacity; /* a power of two, or 0 */
} number_map;

/* The finalizer of MurmurHash3 (Appleby): each bit of the key reaches each of the hash. */
static inline uint64_t number_hash(uint64_t x)
{
    x = (x ^ x >> 33) * 0xFF51AFD7ED558CCDu;
    x = (x ^ x >> 33) * 0xC4CEB9FE1A85EC53u;
    return x ^ x >> 33;
}

static inline number_map_slot *number_map_place(const number_map *m, uint64_t key)
{
    size_t i = (size_t)number_hash(key) & (m->capacity - 1);
    while (m->slots[i].value != NUMBER_MAP_NONE && m->slots[i].key != key)
        i = (i + 1) & (m->capacity - 1);
    return &m->slots[i];
}

/* NUMBER_MAP_NONE where there is no such key. */
static inline uint32_t number_map_find(const number_map *m, uint64_t key)
{
    return m->capacity == 0 ? NUMBER_MAP_NONE : number_map_place(m, key)->value;
}

/* For a key that is not there; value is not NUMBER_MAP_NONE. false where memory ran out. */
static inline bool number_map_add(number_map *m, uint64_t key, uint32_t value)
{
    if (2 * m->count >= m->capacity) {
        number_map larger = {.count = m->count, .capacity = m->capacity == 0 ? 64 : 2 * m->capacity};
        larger.slots = host_realloc_array(NULL, larger.capacity, sizeof *larger.slots);
        if (larger.slots == NULL)
            return false;
        for (size_t i = 0; i < larger.capacity; i++)
            larger.slots[i].value = NUMBER_MAP_NONE;
        for (size_t i = 0; i < m->capacity; i++)
            if (m->slots[i].value != NUMBER_MAP_NONE)
                *number_map_place(&larger, m->slots[i].key) = m->slots[i];
        host_free(m->slots);
        *m = larger;
    }
    *number_map_place(m, key) = (number_map_slot){key, value};
    m->count++;
    return true;
}

static inline void number_map_free(number_map *m)
{
    host_free(m->slots);
    *m = (number_map){0};
}

#endif
