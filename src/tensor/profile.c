/* Beginning and ending profiles, and the caller's own spans. */
#include "tessera/profile.h"

#include "base/error.h"
#include "base/profile.h"
#include "hal/hal.h"

enum { SPANS_MOST = 64 };

#define EVENTS_MOST (UINT64_C(1) << 20)

static _Thread_local struct {
    profile_span open[SPANS_MOST];
    int depth; /* counts those too deep to be kept */
} spans;

tsr_status tsr_profile_begin(const tsr_profile_options *options)
{
    return profile_start(options == NULL || options->max_events == 0 ? EVENTS_MOST : options->max_events);
}

tsr_status tsr_profile_end(const char *path)
{
    if (profiling())
        while (spans.depth > 0)
            tsr_profile_pop();
    if (!profile_stop())
        return fail(TSR_INVALID_ARGUMENT, "tsr_profile_end: no profile is under way");
    hal_profile_finish();
    return profile_write(path);
}

bool tsr_profile_active(void)
{
    return profiling();
}

void tsr_profile_push_number(const char *name, int64_t number)
{
    const int at = spans.depth++;
    if (at >= SPANS_MOST)
        return;
    spans.open[at].session = 0;
    if (profiling())
        profile_open_now(&spans.open[at], PROFILE_USER, profile_intern(name == NULL ? "?" : name), NULL,
                         number < 0 ? PROFILE_NO_NUMBER : (uint64_t)number);
}

void tsr_profile_push(const char *name)
{
    tsr_profile_push_number(name, -1);
}

void tsr_profile_pop(void)
{
    if (spans.depth == 0)
        return;
    if (--spans.depth < SPANS_MOST)
        profile_close(&spans.open[spans.depth]);
}

tsr_profile_counts tsr_profile_counts_get(void)
{
    const profile_numbers n = profile_numbers_get();
    return (tsr_profile_counts){n.events, n.dropped};
}
