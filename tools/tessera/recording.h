/* A recorded training, read from its file (docs/tracing.md). Files are untrusted: what is accepted is whole, and within the limits here. */
#ifndef TESSERA_RECORDING_H
#define TESSERA_RECORDING_H

#include <stddef.h>

#include "digest.h"
#include "tessera/trace.h"

enum { RECORDING_FORMAT = 1, EVENT_TENSORS = 8, EVENT_ATTRIBUTES = 16, EVENT_NAME = 64 };

typedef struct event_attribute {
    char name[EVENT_NAME];
    tsr_attr_kind kind; /* TSR_ATTR_DTYPE: the dtype in i */
    int64_t i, values[TSR_MAX_RANK];
    double f;
    int count;
} event_attribute;

typedef struct trace_event {
    int64_t step, number; /* number: in the step, from 0 */
    tsr_trace_phase phase;
    char op[EVENT_NAME];
    uint64_t call;
    event_attribute attributes[EVENT_ATTRIBUTES];
    int attribute_count;
    digest in[EVENT_TENSORS], out[EVENT_TENSORS];
    int in_count, out_count;
} trace_event;

typedef struct recording {
    char device[64], device_name[128], driver[128], training[256], version[32];
    bool tensors;
    trace_event *events;
    size_t count, capacity;
} recording;

/* Zero-initialise it, and free it in any case. Errors: TSR_NOT_FOUND, TSR_IO_ERROR; TSR_CORRUPT_DATA naming file and line. */
tsr_status recording_read(recording *r, const char *path);
/* The same from memory; `name` is the file's, for messages. */
tsr_status recording_parse(recording *r, const char *name, const char *bytes, size_t size);
void recording_free(recording *r);

const event_attribute *event_attribute_find(const trace_event *e, const char *name);

/* Where the whole tensors of a step are; false where the path is too long. */
bool recording_tensors_path(const char *path, int64_t step, char *out, size_t size);

#endif
