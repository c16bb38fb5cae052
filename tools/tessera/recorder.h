/* Recording of a training: `tessera train --trace F`. The format is in docs/tracing.md; recording.h reads it. */
#ifndef TESSERA_RECORDER_H
#define TESSERA_RECORDER_H

#include <stdbool.h>
#include <stdint.h>

#include "tessera/nn.h"

/* Steps: "0,1,10-12", counted from 0. */
enum { STEP_RANGES_MAX = 64 };
typedef struct step_list {
    int64_t from[STEP_RANGES_MAX], to[STEP_RANGES_MAX]; /* both included */
    int count;
} step_list;

/* TSR_INVALID_ARGUMENT where `words` is none. */
tsr_status step_list_parse(step_list *list, const char *words);
bool step_list_has(const step_list *list, int64_t step);

typedef struct recorder recorder;

typedef struct recorder_settings {
    const char *path;
    const char *steps;    /* as step_list_parse takes it */
    bool tensors;         /* whole ones too, in files beside it: "F.0.safetensors" for step 0 */
    const char *training; /* one line that names what is recorded */
} recorder_settings;

/* Of a model on a device; both live longer. NULL with the thread's error. */
recorder *recorder_create(const recorder_settings *settings, tsr_device *device, const tsr_module *model);
/* Around a step; nothing happens where it is not among those to be recorded. */
tsr_status recorder_begin_step(recorder *r, int64_t step);
tsr_status recorder_end_step(recorder *r);
/* Ends the recording and writes the file, whole or not at all. */
tsr_status recorder_write(recorder *r);
/* Ends it, and gives what the file would hold; NULL on failure. Lives as long as the recorder. */
const char *recorder_finish(recorder *r, size_t *size);
/* NULL is fine. */
void recorder_destroy(recorder *r);

#endif
