/* Which layers of a chain to run again so that it stays within a budget: dynamic programming over what is kept so far.
 *
 * Every layer's output stays, as the next one's input. A layer that is kept adds what it saves; one that is run again has that
 * beside it only while it runs, in the forward pass and when the backward pass has come to it and freed all behind it. */
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"
#include "tessera/checkpoint.h"

enum { STEPS = 4096 };

static bool layers_valid(const tsr_layer_cost *layers, size_t count, const bool *recompute)
{
    if (layers == NULL || recompute == NULL || count == 0) {
        fail(TSR_INVALID_ARGUMENT, "tsr_checkpoint_plan: there are no layers");
        return false;
    }
    for (size_t i = 0; i < count; i++)
        if (!(layers[i].seconds >= 0) || !isfinite(layers[i].seconds) ||
            layers[i].saved_bytes > UINT64_MAX / 4 / count || layers[i].output_bytes > UINT64_MAX / 4 / count) {
            fail(TSR_OUT_OF_RANGE, "tsr_checkpoint_plan: the cost of layer %zu is no cost", i);
            return false;
        }
    return true;
}

static tsr_checkpoint_cost cost_of(const tsr_layer_cost *layers, size_t count, const bool *recompute)
{
    tsr_checkpoint_cost cost = {0};
    uint64_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        kept += layers[i].output_bytes;
        const uint64_t with = kept + layers[i].saved_bytes;
        cost.peak_bytes = with > cost.peak_bytes ? with : cost.peak_bytes;
        if (recompute[i])
            cost.seconds += layers[i].seconds;
        else
            kept = with;
    }
    return cost;
}

/* Bytes in steps of the budget, rounded up; more than STEPS: beyond it. */
static uint32_t steps_of(uint64_t bytes, uint64_t unit)
{
    const uint64_t n = bytes / unit + (bytes % unit != 0);
    return n > STEPS ? STEPS + 1 : (uint32_t)n;
}

/* least[r]: the fewest seconds with r steps kept behind the layers so far; again[i][r]: whether layer i is run again on the way to r. */
static bool plan(const tsr_layer_cost *layers, size_t count, uint64_t unit, double *least, unsigned char *again,
                 bool *recompute)
{
    for (uint32_t r = 0; r <= STEPS; r++)
        least[r] = r == 0 ? 0 : (double)INFINITY;
    for (size_t i = 0; i < count; i++) {
        const uint32_t out = steps_of(layers[i].output_bytes, unit), saved = steps_of(layers[i].saved_bytes, unit);
        unsigned char *choice = again + i * (STEPS + 1);
        double *next = least + STEPS + 1;
        for (uint32_t r = 0; r <= STEPS; r++)
            next[r] = (double)INFINITY;
        for (uint32_t r = 0; r <= STEPS && r + out + saved <= STEPS; r++) {
            if (least[r] + layers[i].seconds < next[r + out]) {
                next[r + out] = least[r] + layers[i].seconds;
                choice[r + out] = 1;
            }
        }
        for (uint32_t r = 0; r <= STEPS && r + out + saved <= STEPS; r++)
            if (least[r] < next[r + out + saved] || (least[r] == next[r + out + saved] && isfinite(least[r]))) {
                next[r + out + saved] = least[r];
                choice[r + out + saved] = 0;
            }
        memcpy(least, next, (STEPS + 1) * sizeof *least);
    }
    uint32_t best = 0;
    for (uint32_t r = 0; r <= STEPS; r++)
        if (least[r] < least[best])
            best = r;
    if (!isfinite(least[best]))
        return false;
    for (size_t i = count; i-- > 0;) {
        recompute[i] = again[i * (STEPS + 1) + best] != 0;
        best -= steps_of(layers[i].output_bytes, unit) + (recompute[i] ? 0 : steps_of(layers[i].saved_bytes, unit));
    }
    return true;
}

tsr_status tsr_checkpoint_plan(const tsr_layer_cost *layers, size_t count, uint64_t budget, bool *recompute,
                               tsr_checkpoint_cost *cost)
{
    if (!layers_valid(layers, count, recompute))
        return tsr_last_status();
    const uint64_t unit = budget / STEPS > 0 ? budget / STEPS : 1;
    double *least = host_alloc_zeroed(2 * (STEPS + 1), sizeof *least);
    unsigned char *again = host_alloc_zeroed(count, STEPS + 1);
    tsr_status status = least == NULL || again == NULL ? tsr_last_status() : TSR_OK;
    if (status == TSR_OK && !plan(layers, count, unit, least, again, recompute)) {
        for (size_t i = 0; i < count; i++)
            recompute[i] = true;
        status =
            fail(TSR_OUT_OF_DEVICE_MEMORY,
                 "tsr_checkpoint_plan: no choice stays within %llu bytes; with all %zu layers run again it is %llu",
                 (unsigned long long)budget, count, (unsigned long long)cost_of(layers, count, recompute).peak_bytes);
    }
    if (status == TSR_OK && cost != NULL)
        *cost = cost_of(layers, count, recompute);
    host_free(least);
    host_free(again);
    return status;
}
