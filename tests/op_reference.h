/* For tests of operators against a reference in double precision on the host: every device in every kernel variant, tensors
 * whose exact values the host knows, and element-by-element comparison. */
#ifndef TESSERA_TESTS_OP_REFERENCE_H
#define TESSERA_TESTS_OP_REFERENCE_H

#include "tests/unit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tessera/tessera.h"

typedef struct run {
    tsr_device *device;
    char name[64]; /* "opencl:0 by the kernels for GPUs" */
    uint32_t dtypes;
} run;

/* $TEST_DEVICES (a list of ids, separated by commas) names the devices to test; without it all are. */
static inline bool device_wanted(const char *id)
{
    const char *list = getenv("TEST_DEVICES");
    const size_t n = strlen(id);
    for (const char *at = list; at != NULL && (at = strstr(at, id)) != NULL; at += n)
        if ((at == list || at[-1] == ',') && (at[n] == '\0' || at[n] == ','))
            return true;
    return list == NULL;
}

/* How a device can compute: by the backend's own products where it has some, or by the generic kernels of one kind of device. */
static inline bool pass_begin(int pass, const char *backend, char *name, size_t size)
{
    static const char *const names[] = {" by its own products", " by the kernels for processors",
                                        " by the kernels for GPUs"};
    const bool cpu = strcmp(backend, "cpu") == 0, cuda = strcmp(backend, "cuda") == 0;
    if ((cpu && pass == 2) || (cuda && pass == 1) || (!cpu && !cuda && pass == 0))
        return false; /* it has none of those */
    snprintf(name + strlen(name), size - strlen(name), "%s", names[pass]);
    setenv("TESSERA_PRODUCT", pass == 0 ? "vendor" : "generic", 1);
    if (pass > 0)
        setenv("TESSERA_VARIANT", pass == 1 ? "cpu" : "gpu", 1);
    return true;
}

/* PoCL 6.0 aborts the process while it compiles kernels for GPUs (an assertion of its work-item loops); 3.1 compiles them. */
static inline bool aborts_on_gpu_kernels(const tsr_device_info *info)
{
    int major = 0;
    return sscanf(info->driver, "Portable Computing Language %d", &major) == 1 && major > 3;
}

/* body(run) on every device, in every such way. */
static inline void on_every_device(void (*body)(const run *))
{
    static tsr_device_info rows[32];
    size_t count = 0;
    assert_int_equal(tsr_device_list(rows, 32, &count), TSR_OK);
    int bodies = 0;
    for (size_t i = 0; i < count && i < 32; i++)
        for (int pass = 0; pass < 3; pass++) {
            run r = {.dtypes = rows[i].dtypes};
            snprintf(r.name, sizeof r.name, "%s", rows[i].id);
            if (!device_wanted(rows[i].id) || strcmp(rows[i].backend, "null") == 0 ||
                !pass_begin(pass, rows[i].backend, r.name, sizeof r.name))
                continue;
            if (pass == 2 && aborts_on_gpu_kernels(&rows[i])) {
                print_message("%s: skipped: %s aborts while it compiles them\n", r.name, rows[i].driver);
                continue;
            }
            r.device = tsr_device_open(rows[i].id);
            if (r.device == NULL)
                fail_msg("%s: %s", r.name, tsr_last_error());
            body(&r);
            bodies++;
            tsr_device_close(r.device);
            unsetenv("TESSERA_PRODUCT");
            unsetenv("TESSERA_VARIANT");
        }
    if (bodies == 0)
        fail_msg("no device was tested; TEST_DEVICES names ids such as cpu:0");
}

static const tsr_dtype float_dtypes[] = {TSR_F32, TSR_F16, TSR_BF16, TSR_F64};

static inline bool run_has(const run *r, tsr_dtype dtype)
{
    return (r->dtypes >> dtype & 1) != 0;
}

/* Half the distance of 1 and the next number. */
static inline double unit_roundoff(tsr_dtype dtype)
{
    return dtype == TSR_F64 ? 0x1p-53 : dtype == TSR_F32 ? 0x1p-24 : dtype == TSR_F16 ? 0x1p-11 : 0x1p-8;
}

/* Half the smallest number: what rounding costs near 0. */
static inline double smallest_half(tsr_dtype dtype)
{
    return dtype == TSR_F64 ? 0x1p-1074 : dtype == TSR_F16 ? 0x1p-25 : 0x1p-127; /* f32 and bf16 may be flushed */
}

static inline double accumulator_roundoff(tsr_dtype dtype)
{
    return dtype == TSR_F64 ? 0x1p-53 : 0x1p-24;
}

static inline int64_t count_of(int rank, const int64_t *shape)
{
    int64_t n = 1;
    for (int i = 0; i < rank; i++)
        n *= shape[i];
    return n;
}

static inline uint32_t random_next(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

typedef enum sample { INTEGERS, REALS } sample; /* integers from -3 to 3, or uniform in [-1, 1) */

static inline void require(const run *r, const void *made)
{
    if (made == NULL)
        fail_msg("%s: %s", r->name, tsr_last_error());
}

static inline void require_ok(const run *r, tsr_status status)
{
    if (status != TSR_OK)
        fail_msg("%s: %s", r->name, tsr_last_error());
}

static inline double *values_of(const run *r, tsr_tensor *t)
{
    const int64_t n = tsr_numel(t);
    double *v = malloc(sizeof(double) * (size_t)(n + 1));
    assert_non_null(v);
    if (tsr_dtype_of(t) == TSR_F64) {
        require_ok(r, tsr_read(t, v, sizeof(double) * (size_t)n));
    } else {
        float *f = malloc(sizeof(float) * (size_t)(n + 1));
        assert_non_null(f);
        require_ok(r, tsr_read_f32(t, f, (size_t)n));
        for (int64_t i = 0; i < n; i++)
            v[i] = (double)f[i];
        free(f);
    }
    return v;
}

/* A contiguous tensor of random values in the open scope, and the same values on the host: the caller frees them. */
static inline tsr_tensor *random_tensor(const run *r, tsr_dtype dtype, int rank, const int64_t *shape, sample s,
                                        uint32_t seed, double **values)
{
    const int64_t n = count_of(rank, shape);
    double *v = malloc(sizeof(double) * (size_t)(n + 1));
    float *f = malloc(sizeof(float) * (size_t)(n + 1));
    assert_true(v != NULL && f != NULL);
    uint32_t state = seed * 2654435761u + 12345u;
    for (int64_t i = 0; i < n; i++) {
        const uint32_t u = random_next(&state);
        v[i] = s == INTEGERS ? (double)(int)(u % 7) - 3 : (double)u / 8388608.0 - 1;
        f[i] = (float)v[i];
    }
    tsr_tensor *t;
    if (dtype == TSR_F64)
        t = tsr_from_data(r->device, TSR_F64, rank, shape, v);
    else
        t = tsr_cast(tsr_from_data(r->device, TSR_F32, rank, shape, f), dtype);
    require(r, t);
    free(v);
    free(f);
    *values = values_of(r, t);
    return t;
}

/* Every element within its bound, which is a number of roundings for each term that was added up: `terms` of them in each
 * sum, `sums` holding sum |a||b|; one more for the result. Integers come out exact as long as the dtype holds them. */
static inline void compare(const run *r, const char *what, tsr_tensor *got, const double *expected, const double *sums,
                           double terms, sample s)
{
    const tsr_dtype dtype = tsr_dtype_of(got);
    const int64_t n = tsr_numel(got);
    double *v = values_of(r, got);
    const double c = 2;
    for (int64_t i = 0; i < n; i++) {
        double bound = unit_roundoff(dtype) * fabs(expected[i]) + smallest_half(dtype);
        if (s == REALS)
            bound = bound * c + c * terms * accumulator_roundoff(dtype) * sums[i];
        else if (dtype == TSR_F32 || dtype == TSR_F64)
            bound = 0;
        if (!(fabs(v[i] - expected[i]) <= bound))
            fail_msg("%s %s on %s: element %lld: %.9g for %.9g, error %.3g, bound %.3g", what, tsr_dtype_name(dtype),
                     r->name, (long long)i, v[i], expected[i], fabs(v[i] - expected[i]), bound);
    }
    free(v);
}

#endif
