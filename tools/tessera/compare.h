/* `tessera compare`: what was asked for, and what each check found. */
#ifndef TESSERA_COMPARE_H
#define TESSERA_COMPARE_H

#include <stdio.h>

#include "base/json.h"
#include "device_list.h"
#include "operators/check.h"

typedef struct compare_settings {
    const char *devices, *ops, *dtypes, *json, *junit, *html;
    int64_t sample; /* -1: all */
    uint64_t seed;
} compare_settings;

/* One sample of an operator in one dtype, forward or backward, on one device. */
typedef struct check_record {
    const operator_row *row;
    const char *sample; /* its name */
    size_t number;
    tsr_dtype dtype;
    bool backward;
    size_t device; /* in the list */
    check_result result;
} check_record;

typedef struct comparison {
    const compare_settings *settings;
    device_list devices;
    check_record *records;
    size_t count, capacity;
    size_t operators; /* that were tried */
    double seconds;
} comparison;

/* "tessera compare --ops '^softmax$' --sample 3 --dtype f16 --seed 0 --devices vulkan:0" in a static buffer. */
const char *compare_replay(const comparison *c, const check_record *r);
/* Operators of the library that have no row here, the i-th; NULL behind the last. */
const char *compare_missing(size_t i);

typedef struct check_counts {
    size_t ok, fail, unsupported, broken;
} check_counts;
check_counts compare_counts(const comparison *c);

void compare_table(const comparison *c, FILE *out);
void compare_json(const comparison *c, json *j);
/* JUnit's XML as CI systems read it: a suite a device, a case a check. */
void compare_junit(const comparison *c, text *out);
void compare_html(const comparison *c, text *out);

const char *check_status_name(check_status s);

#endif
