/* Random numbers: every device gives the bits of a Philox generator on the host, and so of every other device; moments; seeds; dropout's
 * mask in both passes. */
#include "tests/op_reference.h"

#include "base/philox.h"

static const int64_t sizes[] = {1, 2, 3, 4, 5, 4095, 4096, 4097, 70001};
enum { SIZES = sizeof sizes / sizeof *sizes, LONGEST = 70001 };

/* Element i of a call: word i mod 4 of counter (i / 4, 0, draw), key = seed. */
static uint32_t word_of(uint64_t seed, uint64_t draw, int64_t i)
{
    const uint32_t counter[4] = {(uint32_t)(i / 4), 0, (uint32_t)draw, (uint32_t)(draw >> 32)};
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t words[4];
    philox_block(counter, key, words);
    return words[i % 4];
}

static float *floats_of(const run *r, tsr_tensor *t)
{
    float *v = malloc(sizeof(float) * (size_t)(tsr_numel(t) + 1));
    assert_non_null(v);
    require(r, t);
    require_ok(r, tsr_read_f32(t, v, (size_t)tsr_numel(t)));
    return v;
}

/* ---- uniform ---- */

static void uniform_on(const run *r)
{
    static const uint64_t seeds[] = {0, 1, 0x123456789abcdef0u};
    for (int s = 0; s < 3; s++) {
        require_ok(r, tsr_scope_begin());
        require_ok(r, tsr_seed(r->device, seeds[s]));
        for (int draw = 0; draw < SIZES; draw++) {
            const int64_t n = sizes[draw];
            /* with an odd draw the width and the lower end need a rounding each */
            const double low = draw % 2 == 0 ? 0 : -1.7, high = draw % 2 == 0 ? 1 : 0.9;
            float *got = floats_of(r, tsr_uniform(r->device, TSR_F32, 1, &n, low, high));
            for (int64_t i = 0; i < n; i++) {
                const volatile float scaled =
                    philox_unit_float(word_of(seeds[s], (uint64_t)draw, i)) * (float)(high - low);
                const float expected = scaled + (float)low;
                if (memcmp(&got[i], &expected, sizeof expected) != 0)
                    fail_msg("%s: seed %llu, draw %d, element %lld is %.9g for %.9g", r->name,
                             (unsigned long long)seeds[s], draw, (long long)i, (double)got[i], (double)expected);
            }
            free(got);
        }
        require_ok(r, tsr_scope_end());
    }
    /* Other dtypes hold the same numbers, rounded. */
    require_ok(r, tsr_scope_begin());
    for (int d = 1; d < 4; d++) {
        if (!run_has(r, float_dtypes[d]))
            continue;
        const int64_t n = 5000;
        require_ok(r, tsr_seed(r->device, 9));
        tsr_tensor *t = tsr_uniform(r->device, float_dtypes[d], 2, (int64_t[]){50, 100}, 0, 1);
        require(r, t);
        assert_int_equal(tsr_dtype_of(t), float_dtypes[d]);
        double *got = values_of(r, t);
        for (int64_t i = 0; i < n; i++) {
            const double expected = (double)philox_unit_float(word_of(9, 0, i));
            if (!(fabs(got[i] - expected) <= unit_roundoff(float_dtypes[d]) * expected))
                fail_msg("%s %s: element %lld is %.9g for %.9g", r->name, tsr_dtype_name(float_dtypes[d]), (long long)i,
                         got[i], expected);
        }
        free(got);
    }
    require_ok(r, tsr_scope_end());
}

static void test_uniform(void **state)
{
    (void)state;
    on_every_device(uniform_on);
}

/* ---- normal: as on the CPU device, bit by bit, and as a normal distribution ---- */

static const tsr_dtype normal_dtypes[] = {TSR_F32, TSR_F16, TSR_BF16};
static float *cpu_normal[3];

static float *normal_bits(const run *r, tsr_dtype dtype)
{
    const int64_t n = LONGEST;
    require_ok(r, tsr_scope_begin());
    require_ok(r, tsr_seed(r->device, 77));
    float *got = floats_of(r, tsr_normal(r->device, dtype, 1, &n, 0.5, 2));
    require_ok(r, tsr_scope_end());
    return got;
}

static void normal_bits_on(const run *r)
{
    for (int d = 0; d < 3; d++) {
        if (!run_has(r, normal_dtypes[d]))
            continue;
        float *got = normal_bits(r, normal_dtypes[d]);
        for (int64_t i = 0; i < LONGEST; i++)
            if (memcmp(&got[i], &cpu_normal[d][i], sizeof(float)) != 0)
                fail_msg("%s %s: element %lld is %.9g, on cpu %.9g", r->name, tsr_dtype_name(normal_dtypes[d]),
                         (long long)i, (double)got[i], (double)cpu_normal[d][i]);
        free(got);
    }
}

/* Box and Muller's formulas over the generator's words, in double: within f32's error of them. */
static void normal_values_on(const run *r)
{
    for (int d = 0; d < 4; d += 3) {
        if (!run_has(r, float_dtypes[d]))
            continue;
        const int64_t n = 4099;
        const double u = unit_roundoff(float_dtypes[d]);
        require_ok(r, tsr_scope_begin());
        require_ok(r, tsr_seed(r->device, 78));
        double *got = values_of(r, tsr_normal(r->device, float_dtypes[d], 1, &n, -1, 0.5));
        for (int64_t i = 0; i < n; i++) {
            const double first = (double)((word_of(78, 0, i / 2 * 2) >> 8) + 1) * 0x1p-24,
                         second = (double)(word_of(78, 0, i / 2 * 2 + 1) >> 8) * 0x1p-24;
            const double radius = sqrt(-2 * log(first)), angle = 2 * M_PI * second;
            const double unit = radius * (i % 2 == 0 ? cos(angle) : sin(angle)), expected = unit * 0.5 - 1;
            /* radius: 2 ulp of log, halved, and three roundings; angle: two roundings of up to 2 pi; cosine: 2 ulp; then three more */
            const double bound = 0.5 * (u * fabs(unit) * 12 + radius * u * (2 * 2 * M_PI + 4)) +
                                 2 * u * (fabs(expected) + 0.5 * fabs(unit));
            if (!(fabs(got[i] - expected) <= bound))
                fail_msg("%s %s: element %lld is %.9g for %.9g", r->name, tsr_dtype_name(float_dtypes[d]), (long long)i,
                         got[i], expected);
        }
        free(got);
        require_ok(r, tsr_scope_end());
    }
}

static void test_normal(void **state)
{
    (void)state;
    const run cpu = {.name = "cpu", .device = tsr_device_open("cpu")};
    require(&cpu, cpu.device);
    for (int d = 0; d < 3; d++)
        cpu_normal[d] = normal_bits(&cpu, normal_dtypes[d]);
    tsr_device_close(cpu.device);
    on_every_device(normal_bits_on);
    on_every_device(normal_values_on);
    for (int d = 0; d < 3; d++)
        free(cpu_normal[d]);
}

/* Moments of n independent samples: each estimate lies within 5 of its standard deviations (they are fixed by the seed). */
static void moments(const double *x, int64_t n, double mean, double variance, double fourth, const char *what)
{
    double sum = 0, squares = 0, neighbours = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += x[i] - mean;
        squares += (x[i] - mean) * (x[i] - mean);
        neighbours += i > 0 ? (x[i] - mean) * (x[i - 1] - mean) : 0;
    }
    if (!(fabs(sum / (double)n) <= 5 * sqrt(variance / (double)n)))
        fail_msg("%s: mean is off by %g", what, sum / (double)n);
    if (!(fabs(squares / (double)n - variance) <= 5 * sqrt((fourth - variance * variance) / (double)n)))
        fail_msg("%s: variance is %g for %g", what, squares / (double)n, variance);
    if (!(fabs(neighbours / (double)n) <= 5 * variance / sqrt((double)n)))
        fail_msg("%s: neighbours correlate, %g", what, neighbours / (double)n);
}

static void test_moments(void **state)
{
    (void)state;
    const int64_t n = 1 << 20;
    run r = {.name = "cpu", .device = tsr_device_open("cpu")};
    require(&r, r.device);
    require_ok(&r, tsr_scope_begin());
    require_ok(&r, tsr_seed(r.device, 2024));
    double *x = values_of(&r, tsr_uniform(r.device, TSR_F32, 1, &n, 2, 5));
    for (int64_t i = 0; i < n; i++)
        assert_true(x[i] >= 2 && x[i] < 5);
    moments(x, n, 3.5, 9.0 / 12, 81.0 / 80, "uniform");
    free(x);
    x = values_of(&r, tsr_normal(r.device, TSR_F32, 1, &n, 3, 2));
    moments(x, n, 3, 4, 3 * 16, "normal");
    int64_t outside = 0;
    for (int64_t i = 0; i < n; i++) {
        assert_true(isfinite(x[i]));
        outside += fabs(x[i] - 3) > 4;
    }
    const double tail = erfc(sqrt(2.0)); /* beyond two deviations */
    assert_true(fabs((double)outside / (double)n - tail) <= 5 * sqrt(tail * (1 - tail) / (double)n));
    free(x);
    require_ok(&r, tsr_scope_end());
    tsr_device_close(r.device);
}

/* ---- seeds ---- */

static void seeds_on(const run *r)
{
    float a[64], b[64], c[64];
    const int64_t n = 64;
    require_ok(r, tsr_scope_begin());
    require_ok(r, tsr_seed(r->device, 5));
    require_ok(r, tsr_read_f32(tsr_uniform(r->device, TSR_F32, 1, &n, 0, 1), a, 64));
    require_ok(r, tsr_read_f32(tsr_uniform(r->device, TSR_F32, 1, &n, 0, 1), b, 64));
    assert_memory_not_equal(a, b, sizeof a);
    require_ok(r, tsr_seed(r->device, 5));
    require_ok(r, tsr_read_f32(tsr_uniform(r->device, TSR_F32, 1, &n, 0, 1), c, 64));
    assert_memory_equal(a, c, sizeof a);
    require_ok(r, tsr_read_f32(tsr_uniform(r->device, TSR_F32, 1, &n, 0, 1), c, 64));
    assert_memory_equal(b, c, sizeof b);
    require_ok(r, tsr_seed(r->device, (uint64_t)1 << 32 | 5)); /* the upper half counts */
    require_ok(r, tsr_read_f32(tsr_uniform(r->device, TSR_F32, 1, &n, 0, 1), c, 64));
    assert_memory_not_equal(a, c, sizeof a);
    /* One queued use may not see the seed that is set behind it. */
    require_ok(r, tsr_seed(r->device, 5));
    tsr_tensor *early = tsr_uniform(r->device, TSR_F32, 1, &n, 0, 1);
    require_ok(r, tsr_seed(r->device, 6));
    require_ok(r, tsr_read_f32(early, c, 64));
    assert_memory_equal(a, c, sizeof a);

    assert_null(tsr_uniform(r->device, TSR_I32, 1, &n, 0, 1));
    assert_int_equal(tsr_last_status(), TSR_INVALID_ARGUMENT);
    assert_null(tsr_normal(r->device, TSR_F32, 1, &n, 0, (double)INFINITY));
    assert_null(tsr_uniform(r->device, TSR_F32, 1, &n, (double)NAN, 1));
    tsr_tensor *empty = tsr_normal(r->device, TSR_F32, 2, (int64_t[]){3, 0}, 0, 1);
    require(r, empty);
    assert_int_equal(tsr_numel(empty), 0);
    require_ok(r, tsr_scope_end());
}

static void test_seeds(void **state)
{
    (void)state;
    on_every_device(seeds_on);
}

/* ---- dropout ---- */

static void dropout_on(const run *r)
{
    static const double chances[] = {0.5, 0.1, 0.999, 0.25};
    const int64_t n = LONGEST;
    for (int k = 0; k < 4; k++)
        for (int d = 0; d < 4; d++) {
            const double p = chances[k];
            if (!run_has(r, float_dtypes[d]) || (d > 0 && k > 0))
                continue;
            double *x, *w;
            require_ok(r, tsr_scope_begin());
            tsr_tensor *t = random_tensor(r, float_dtypes[d], 1, &n, REALS, 41, &x);
            require_ok(r, tsr_set_requires_grad(t, true));
            tsr_tensor *dy = random_tensor(r, float_dtypes[d], 1, &n, REALS, 42, &w);
            require_ok(r, tsr_seed(r->device, 123));
            tsr_tensor *skipped = tsr_uniform(r->device, TSR_F32, 0, NULL, 0, 1); /* draw 0 */
            require(r, skipped);
            tsr_tensor *y = tsr_dropout(t, p, true);
            require(r, y);
            tsr_tensor *later = tsr_dropout(t, p, true); /* draws meanwhile, and must not disturb the derivative */
            require(r, later);
            require_ok(r, tsr_backward_from(y, dy, false));
            double *got = values_of(r, y), *g = values_of(r, tsr_grad(t)), *other = values_of(r, later);
            const double scale = (double)(float)(1 / (1 - p)), u = 2 * unit_roundoff(float_dtypes[d]);
            int64_t kept = 0, differ = 0;
            for (int64_t i = 0; i < n; i++) {
                const bool stays = (double)word_of(123, 1, i) >= floor(p * 0x1p32);
                kept += stays;
                differ += (got[i] == 0) != (other[i] == 0);
                if (!(stays ? fabs(got[i] - x[i] * scale) <= u * fabs(x[i] * scale) + smallest_half(float_dtypes[d])
                            : got[i] == 0))
                    fail_msg("dropout %g %s on %s: element %lld is %.9g, of %.9g", p, tsr_dtype_name(float_dtypes[d]),
                             r->name, (long long)i, got[i], x[i]);
                if (!(stays ? fabs(g[i] - w[i] * scale) <= u * fabs(w[i] * scale) + smallest_half(float_dtypes[d])
                            : g[i] == 0))
                    fail_msg("dropout %g %s on %s: derivative %lld is %.9g, of %.9g", p,
                             tsr_dtype_name(float_dtypes[d]), r->name, (long long)i, g[i], w[i]);
            }
            assert_true(fabs((double)kept / (double)n - (1 - p)) <= 5 * sqrt(p * (1 - p) / (double)n));
            assert_true(differ > 0);
            tsr_clear_grad(t);
            free(x);
            free(w);
            free(got);
            free(g);
            free(other);
            require_ok(r, tsr_scope_end());
        }
}

static void dropout_corners_on(const run *r)
{
    static const float values[] = {1, -2, 3, NAN, INFINITY, 0};
    float got[6], g[6];
    double first, second;
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = tsr_from_data(r->device, TSR_F32, 1, (int64_t[]){6}, values);
    require_ok(r, tsr_set_requires_grad(x, true));
    for (int k = 0; k < 2; k++) { /* p = 0, and evaluation: x as it is, with a derivative of 1 */
        tsr_tensor *y = k == 0 ? tsr_dropout(x, 0, true) : tsr_dropout(x, 0.7, false);
        require(r, y);
        require_ok(r, tsr_read_f32(y, got, 6));
        assert_memory_equal(got, values, sizeof got);
        require_ok(r, tsr_backward_from(y, NULL, false));
        require_ok(r, tsr_read_f32(tsr_grad(x), g, 6));
        for (int i = 0; i < 6; i++)
            assert_true(g[i] == 1);
        tsr_clear_grad(x);
    }
    /* A strided view has the mask of its own order. */
    tsr_tensor *ones = tsr_full(r->device, TSR_F32, 2, (int64_t[]){30, 50}, 1);
    require_ok(r, tsr_seed(r->device, 3));
    float *straight = floats_of(r, tsr_dropout(tsr_clone(tsr_transpose(ones, 0, 1)), 0.5, true));
    require_ok(r, tsr_seed(r->device, 3));
    float *turned = floats_of(r, tsr_dropout(tsr_transpose(ones, 0, 1), 0.5, true));
    assert_memory_equal(straight, turned, 1500 * sizeof(float));
    free(straight);
    free(turned);
    /* Evaluation draws nothing. */
    require_ok(r, tsr_seed(r->device, 4));
    require_ok(r, tsr_item(tsr_uniform(r->device, TSR_F32, 0, NULL, 0, 1), &first));
    require_ok(r, tsr_seed(r->device, 4));
    require(r, tsr_dropout(x, 0.5, false));
    require_ok(r, tsr_item(tsr_uniform(r->device, TSR_F32, 0, NULL, 0, 1), &second));
    assert_true(first == second);

    assert_null(tsr_dropout(x, 1, true));
    assert_int_equal(tsr_last_status(), TSR_OUT_OF_RANGE);
    assert_null(tsr_dropout(x, -0.1, true));
    assert_null(tsr_dropout(x, (double)NAN, false));
    assert_null(tsr_dropout(x, 1, false));
    assert_null(tsr_dropout(NULL, 0.5, true));
    assert_null(tsr_dropout(tsr_zeros(r->device, TSR_I32, 1, (int64_t[]){3}), 0.5, true));
    assert_int_equal(tsr_last_status(), TSR_UNSUPPORTED);
    require_ok(r, tsr_scope_end());
}

static void test_dropout(void **state)
{
    (void)state;
    on_every_device(dropout_on);
    on_every_device(dropout_corners_on);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_uniform), cmocka_unit_test(test_normal),  cmocka_unit_test(test_moments),
        cmocka_unit_test(test_seeds),   cmocka_unit_test(test_dropout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
