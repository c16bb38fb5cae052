/* `tessera bench`: what was asked for, and what was measured. */
#ifndef TESSERA_BENCH_COMMAND_H
#define TESSERA_BENCH_COMMAND_H

#include <stdio.h>

#include "base/json.h"
#include "device_list.h"
#include "operators/loads.h"

typedef struct bench_settings {
    const char *devices, *ops, *dtypes, *json;
    int64_t size;   /* of load_of */
    double seconds; /* that a measurement may take */
} bench_settings;

/* What a device can do at the most, measured in the same run: a plain copy's bytes (read and written), a large product's flops. */
typedef struct bench_limits {
    double copy_bytes;                     /* a second */
    double product_flops[TSR_DTYPE_COUNT]; /* a second, by dtype; 0: there is no such product */
} bench_limits;

/* One operator in one dtype on one device, forward or backward. */
typedef struct bench_record {
    const operator_row *row;
    tsr_dtype dtype;
    size_t device;      /* in the list */
    bool backward, own; /* own: the load is one for measuring (loads.h) */
    int64_t m, n, k;    /* of a product of bench gemm; 0 else */
    char shapes[96];    /* "[16384, 1024] [1024]" */
    tsr_status status;
    char error[256];
    int runs;
    double seconds; /* median of the runs */
    load_cost cost; /* zeros: a view, which computes nothing */
    /* Parts of what the device can do; roofline: the time that the slower of the two would take, over what it took. */
    double copy, product, roofline;
} bench_record;

typedef struct bench_results {
    const bench_settings *settings;
    device_list devices;
    bench_limits limits[DEVICES_MAX];
    bench_record *records;
    size_t count, capacity;
} bench_results;

/* Measures the device's limits; again later, the better ones stay. */
tsr_status bench_measure_limits(tsr_device *device, const bench_settings *settings, bench_limits *limits);
/* Fills the forward and the backward record of an operator; *has_backward: there is one. False: the device failed. */
bool bench_measure(tsr_device *device, const bench_settings *settings, const load *l, tsr_dtype dtype,
                   bench_record *forward, bench_record *backward, bool *has_backward);
/* The loads of `bench gemm`: products as networks have them, the i-th; false behind the last. */
bool bench_product(size_t i, load *l, int64_t mnk[3]);
/* What part of its limits a record reaches. */
void bench_rate(bench_record *r, const bench_limits *limits);

void bench_table(const bench_results *b, size_t device, FILE *out);
void bench_json(const bench_results *b, json *j);

#endif
