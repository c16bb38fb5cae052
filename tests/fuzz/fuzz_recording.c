/* libFuzzer: any bytes as a recorded training. What is accepted keeps within its arrays. */
#include <stdlib.h>

#include "recording.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void check(const digest *d)
{
    if (d->rank < 0 || d->rank > TSR_MAX_RANK || d->sample_count < 0 || d->sample_count > DIGEST_SAMPLES)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    recording r = {0};
    const tsr_status status = recording_parse(&r, "input", (const char *)bytes, size);
    if (status != TSR_OK && tsr_last_error()[0] == '\0')
        abort();
    for (size_t i = 0; status == TSR_OK && i < r.count; i++) {
        const trace_event *e = &r.events[i];
        if (e->in_count > EVENT_TENSORS || e->out_count > EVENT_TENSORS || e->attribute_count > EVENT_ATTRIBUTES)
            abort();
        for (int k = 0; k < e->in_count; k++)
            check(&e->in[k]);
        for (int k = 0; k < e->out_count; k++)
            check(&e->out[k]);
    }
    recording_free(&r);
    return 0;
}
