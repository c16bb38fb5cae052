/* Two sorted sets of disjoint byte ranges, so that a launch costs a few binary searches. */
#include "backends/vulkan/vulkan_hazards.h"

#include <string.h>

/* The first interval that ends behind `begin` of `buffer`: the only one that may hold or follow it. */
static uint32_t first_after(const hazard_set *set, uint64_t buffer, uint64_t begin)
{
    uint32_t low = 0, high = set->count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        const hazard_interval *i = &set->at[middle];
        if (i->buffer < buffer || (i->buffer == buffer && i->end <= begin))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool overlaps(const hazard_set *set, const hazard_access *a)
{
    const uint32_t i = first_after(set, a->buffer, a->offset);
    return i < set->count && set->at[i].buffer == a->buffer && set->at[i].begin < a->offset + a->length;
}

/* False where there is no room. */
static bool insert(hazard_set *set, const hazard_access *a)
{
    hazard_interval added = {.buffer = a->buffer, .begin = a->offset, .end = a->offset + a->length};

    /* Those that overlap or touch it become one with it. */
    uint32_t first = first_after(set, added.buffer, added.begin);
    if (first > 0 && set->at[first - 1].buffer == added.buffer && set->at[first - 1].end == added.begin)
        first--;
    uint32_t behind = first;
    while (behind < set->count && set->at[behind].buffer == added.buffer && set->at[behind].begin <= added.end)
        behind++;
    if (behind > first) {
        if (set->at[first].begin < added.begin)
            added.begin = set->at[first].begin;
        if (set->at[behind - 1].end > added.end)
            added.end = set->at[behind - 1].end;
    } else if (set->count == HAZARD_INTERVALS) {
        return false;
    }

    memmove(&set->at[first + 1], &set->at[behind], (set->count - behind) * sizeof set->at[0]);
    set->at[first] = added;
    set->count = set->count - (behind - first) + 1;
    return true;
}

static bool conflicts(const hazard_tracker *tracker, const hazard_access *a)
{
    return a->length > 0 && (overlaps(&tracker->writes, a) || (a->writes && overlaps(&tracker->reads, a)));
}

static bool insert_all(hazard_tracker *tracker, const hazard_access *accesses, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const hazard_access *a = &accesses[i];
        if (a->length == 0)
            continue;
        if ((a->reads && !insert(&tracker->reads, a)) || (a->writes && !insert(&tracker->writes, a)))
            return false;
    }
    return true;
}

bool hazard_note(hazard_tracker *tracker, const hazard_access *accesses, size_t count)
{
    bool barrier = false;
    for (size_t i = 0; i < count && !barrier; i++)
        barrier = conflicts(tracker, &accesses[i]);
    if (!barrier && insert_all(tracker, accesses, count))
        return false;
    hazard_clear(tracker);
    insert_all(tracker, accesses, count); /* a command has few accesses: they fit */
    return true;
}

void hazard_clear(hazard_tracker *tracker)
{
    tracker->reads.count = 0;
    tracker->writes.count = 0;
}
