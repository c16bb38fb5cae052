/* What benchmarks share: arguments, interleaved runs, OpenBLAS as the yardstick, results as a table and as JSON (the fields of
 * `tessera bench`, docs/json.md). */
#ifndef TESSERA_BENCH_BENCH_H
#define TESSERA_BENCH_BENCH_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/dynlib.h"
#include "base/json.h"
#include "base/thread.h"
#include "tessera/tessera.h"

enum { BENCH_RUNS = 9 };

#define BENCH_SECONDS 10.0 /* after which a measurement ends with the runs it has */

typedef void bench_sgemm(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha, const float *a,
                         int lda, const float *b, int ldb, float beta, float *c, int ldc);

typedef struct bench {
    const char *devices; /* --device: a list, or "all" */
    const char *json_path;
    bench_sgemm *sgemm; /* NULL where OpenBLAS is not installed: no ratio then */
    void (*set_sgemm_threads)(int);
    int threads;
    json out;
    bool failed;
} bench;

static inline bool bench_begin(bench *b, int argc, char **argv)
{
    *b = (bench){.devices = "cpu"};
    for (int i = 1; i < argc; i++) {
        const char **value = strcmp(argv[i], "--device") == 0 ? &b->devices
                             : strcmp(argv[i], "--json") == 0 ? &b->json_path
                                                              : NULL;
        if (value == NULL || i + 1 == argc) {
            fprintf(stderr, "usage: %s [--device ID[,ID...]|all] [--json FILE]\n", argv[0]);
            return false;
        }
        *value = argv[++i];
    }
    static const char *const names[] = {"libopenblas.so.0", "libopenblas.so", NULL};
    dynlib *blas = dynlib_open(names); /* stays open: its threads outlive a close */
    b->sgemm = blas != NULL ? (bench_sgemm *)dynlib_symbol(blas, "cblas_sgemm") : NULL;
    b->set_sgemm_threads = blas != NULL ? (void (*)(int))dynlib_symbol(blas, "openblas_set_num_threads") : NULL;
    b->threads = cpu_count();
    if (b->sgemm == NULL)
        printf("OpenBLAS is not installed: no ratios\n");
    json_begin_object(&b->out);
    json_key(&b->out, "results");
    json_begin_array(&b->out);
    return true;
}

static inline int bench_end(bench *b)
{
    json_end_array(&b->out);
    json_end_object(&b->out);
    if (b->json_path != NULL && json_write_file(&b->out, b->json_path) != TSR_OK) {
        fprintf(stderr, "%s\n", tsr_last_error());
        b->failed = true;
    }
    json_free(&b->out);
    return b->failed ? 4 : 0;
}

/* Whether `name` is one of a list with commas. */
static inline bool bench_is_named(const char *list, const char *name)
{
    const size_t n = strlen(name);
    for (const char *at = list; at != NULL; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (strncmp(at, name, n) == 0 && (at[n] == '\0' || at[n] == ','))
            return true;
    return false;
}

/* body on every device that was asked for. */
static inline void bench_each_device(bench *b, void (*body)(bench *, tsr_device *))
{
    static tsr_device_info rows[32];
    size_t count = 0;
    tsr_device_list(rows, 32, &count);
    for (size_t i = 0; i < count && i < 32; i++) {
        const bool first = i == 0 || strcmp(rows[i].backend, rows[i - 1].backend) != 0;
        if (strcmp(rows[i].backend, "null") == 0 ||
            !(strcmp(b->devices, "all") == 0 || bench_is_named(b->devices, rows[i].id) ||
              (first && bench_is_named(b->devices, rows[i].backend))))
            continue;
        tsr_device *device = tsr_device_open(rows[i].id);
        if (device == NULL) {
            fprintf(stderr, "%s\n", tsr_last_error());
            b->failed = true;
            continue;
        }
        printf("%s: %s\n", rows[i].id, rows[i].name);
        body(b, device);
        tsr_device_close(device);
    }
}

static inline int bench_by_time(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts them. */
static inline double bench_median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, bench_by_time);
    return values[count / 2];
}

/* The CPU device sets OpenBLAS to one thread, since it brings its own; as a yardstick it has as many as the device. */
static inline void bench_yardstick_threads(const bench *b)
{
    if (b->set_sgemm_threads != NULL)
        b->set_sgemm_threads(b->threads);
}

/* What is measured: one turn of each side; ends with the device idle. */
typedef bool bench_turn(void *context);

/* Median seconds of a turn of each side, in interleaved runs of at least 20 ms; fewer runs where they take long. theirs may
 * be NULL. */
static inline bool bench_pair(bench_turn *ours, bench_turn *theirs, void *context, double *our_time, double *their_time)
{
    double times[2][BENCH_RUNS];
    bench_turn *sides[2] = {ours, theirs};
    const double start = clock_seconds();
    int runs = 0;
    for (int run = -1; run < BENCH_RUNS && (run < 1 || clock_seconds() - start < BENCH_SECONDS); run++, runs = run)
        for (int side = 0; side < (theirs == NULL ? 1 : 2); side++) {
            /* OpenBLAS's threads spin for some time on the processors that the other side needs. */
            if (theirs != NULL)
                nanosleep(&(struct timespec){.tv_nsec = 60000000}, NULL);
            const double warm = clock_seconds();
            do
                if (!sides[side](context))
                    return false;
            while (clock_seconds() - warm < 0.01);
            const double begin = clock_seconds();
            int turns = 0;
            do {
                if (!sides[side](context))
                    return false;
                turns++;
            } while (clock_seconds() - begin < 0.02);
            if (run >= 0)
                times[side][run] = (clock_seconds() - begin) / turns;
        }
    *our_time = bench_median(times[0], (size_t)runs);
    if (theirs != NULL)
        *their_time = bench_median(times[1], (size_t)runs);
    return true;
}

typedef struct bench_row {
    const char *what, *route, *reference; /* reference NULL: none */
    long long m, n, k;
    tsr_dtype dtype;
    double flops, bytes, seconds, reference_seconds;
} bench_row;

static inline void bench_report(bench *b, tsr_device *device, const bench_row *r)
{
    printf("  %-34s %-4s %9.1f GFLOP/s", r->what, tsr_dtype_name(r->dtype), r->flops / r->seconds * 1e-9);
    if (r->reference != NULL)
        printf("   %s %9.1f   ratio %.2f", r->reference, r->flops / r->reference_seconds * 1e-9,
               r->reference_seconds / r->seconds);
    putchar('\n');
    fflush(stdout);
    json *j = &b->out;
    json_begin_object(j);
    json_put_string(j, "device", tsr_device_id(device));
    json_put_string(j, "what", r->what);
    json_put_string(j, "route", r->route);
    json_put_int(j, "m", r->m);
    json_put_int(j, "n", r->n);
    json_put_int(j, "k", r->k);
    json_put_string(j, "dtype", tsr_dtype_name(r->dtype));
    json_put_double(j, "gflops", r->flops / r->seconds * 1e-9);
    json_put_double(j, "gbytes_per_second", r->bytes / r->seconds * 1e-9);
    json_put_string(j, "reference", r->reference);
    json_put_double(j, "ratio", r->reference != NULL ? r->reference_seconds / r->seconds : NAN);
    json_end_object(j);
}

#endif
