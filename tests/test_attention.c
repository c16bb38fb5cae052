/* scaled_dot_product_attention and rotary_embedding on every device and in every dtype, against long double: results and derivatives element by
 * element, bounds from the operands; masks, grouped heads, causal, more rows and keys than a block; memory. */
#include "tests/op_reference.h"

typedef enum mask_kind { NO_MASK, BOOL_MASK, NUMBERS } mask_kind;

typedef struct row {
    const char *name;
    int64_t outer, heads, shared, queries, keys, width, values;
    bool causal;
    mask_kind mask;
    double scale;
    bool transposed; /* q, k and v lie [outer, queries, heads, width], as a projection leaves them */
} row;

static const row rows[] = {
    {"one", 1, 1, 1, 1, 1, 1, 1, false, NO_MASK, 0, false},
    {"small", 2, 3, 3, 5, 7, 4, 6, false, NO_MASK, 0, false},
    {"causal", 1, 2, 2, 9, 9, 8, 8, true, NO_MASK, 0, true},
    {"causal, fewer keys", 1, 1, 1, 6, 3, 4, 4, true, NO_MASK, 0.7, false},
    {"bool mask", 2, 2, 2, 6, 11, 4, 4, false, BOOL_MASK, 0, false},
    {"numbers", 2, 4, 2, 7, 10, 4, 3, true, NUMBERS, 0, true},
    {"grouped", 2, 6, 2, 5, 6, 4, 4, false, NO_MASK, 0.5, false},
    {"blocks", 1, 1, 1, 260, 516, 4, 4, false, NO_MASK, 0, false},
    {"causal blocks", 1, 2, 1, 270, 530, 4, 2, true, NUMBERS, 0, false},
    {"causal, long", 1, 1, 1, 520, 520, 3, 5, true, BOOL_MASK, 0, false},
};

typedef struct operands {
    tsr_tensor *q, *k, *v, *mask;
    double *qv, *kv, *vv, *mv; /* [outer, heads, rows, cols]; the mask [outer, 1, queries, keys], added */
} operands;

static tsr_tensor *operand(const run *r, tsr_dtype dtype, const row *c, int64_t heads, int64_t n, int64_t cols,
                           uint32_t seed, double **values)
{
    const int64_t plain[] = {c->outer, heads, n, cols}, swapped[] = {c->outer, n, heads, cols};
    tsr_tensor *t = random_tensor(r, dtype, 4, c->transposed ? swapped : plain, REALS, seed, values);
    if (c->transposed) {
        t = tsr_transpose(t, 1, 2);
        free(*values);
        *values = values_of(r, t);
    }
    t = tsr_detach(t);
    require(r, t);
    require_ok(r, tsr_set_requires_grad(t, true));
    return t;
}

static operands operands_make(const run *r, tsr_dtype dtype, const row *c)
{
    operands o = {.mv = NULL};
    o.q = operand(r, dtype, c, c->heads, c->queries, c->width, 1, &o.qv);
    o.k = operand(r, dtype, c, c->shared, c->keys, c->width, 2, &o.kv);
    o.v = operand(r, dtype, c, c->shared, c->keys, c->values, 3, &o.vv);
    const int64_t shape[] = {c->outer, 1, c->queries, c->keys}, n = count_of(4, shape);
    if (c->mask == NUMBERS)
        o.mask = random_tensor(r, dtype, 4, shape, REALS, 4, &o.mv);
    if (c->mask == BOOL_MASK) {
        unsigned char *seen = malloc((size_t)n);
        o.mv = calloc((size_t)n, sizeof *o.mv);
        assert_true(seen != NULL && o.mv != NULL);
        uint32_t state = 9;
        for (int64_t i = 0; i < n; i++) {
            /* query 2 sees nothing */
            seen[i] = random_next(&state) % 3 != 0 && i / c->keys % c->queries != 2;
            o.mv[i] = seen[i] ? 0 : -(double)INFINITY;
        }
        o.mask = tsr_from_data(r->device, TSR_BOOL, 4, shape, seen);
        require(r, o.mask);
        free(seen);
    }
    return o;
}

static void within(const run *r, const char *what, const row *c, tsr_dtype dtype, int64_t i, double got,
                   long double expected, double bound)
{
    if (!(fabsl((long double)got - expected) <= (long double)bound))
        fail_msg("attention's %s, %s, %s on %s: element %lld: %.9g for %.9Lg, error %.3Lg, bound %.3g", what, c->name,
                 tsr_dtype_name(dtype), r->name, (long long)i, got, expected, fabsl((long double)got - expected),
                 bound);
}

/* What one head's reference needs and gives; errors beside values. */
typedef struct head_slopes {
    double *dq, *dk, *dv, *dq_error, *dk_error, *dv_error;
} head_slopes;

static double *zeros(int64_t n)
{
    double *v = calloc((size_t)n + 1, sizeof *v);
    assert_non_null(v);
    return v;
}

/* One query of one head. p and ds are relative and absolute errors of what the kernels compute, in units of the arithmetic's rounding u. */
static void check_query(const run *r, const row *c, tsr_dtype dtype, const operands *o, int64_t outer, int64_t head,
                        int64_t query, const double *y, const double *g, const head_slopes *s)
{
    const double u = accumulator_roundoff(dtype), store = unit_roundoff(dtype);
    const int64_t e = c->width, w = c->values, shared = outer * c->shared + head / (c->heads / c->shared);
    const int64_t line = (outer * c->heads + head) * c->queries + query;
    const double *q = o->qv + line * e, *k = o->kv + shared * c->keys * e, *v = o->vv + shared * c->keys * w;
    const double scale = c->scale != 0 ? c->scale : 1 / sqrt((double)e), keys = (double)c->keys;
    double p[600], slope[600], worst = 0, top = -(double)INFINITY;
    long double total = 0;
    for (int64_t j = 0; j < c->keys; j++) {
        double dot = 0, magnitude = 0;
        for (int64_t i = 0; i < e; i++) {
            dot += q[i] * k[j * e + i];
            magnitude += fabs(q[i] * k[j * e + i]);
        }
        const double mask = o->mv == NULL ? 0 : o->mv[(outer * c->queries + query) * c->keys + j];
        const bool hidden = (c->causal && j > query) || mask < -1e30;
        p[j] = hidden ? -(double)INFINITY : dot * scale + mask;
        if (hidden)
            continue;
        worst = fmax(worst, u * (((double)e + 2) * magnitude * scale + fabs(dot * scale) + 2 * fabs(p[j])));
        top = fmax(top, p[j]);
    }
    double spread = 0;
    for (int64_t j = 0; j < c->keys; j++) {
        if (p[j] > -1e30) {
            spread = fmax(spread, top - p[j]);
            total += expl((long double)p[j] - top);
        }
        p[j] = p[j] > -1e30 ? (double)expl((long double)p[j] - top) : 0;
    }
    /* Each exponential: its score's error and its argument's rounding, twice (own and in the sum), 2 ulp, the sum and a block's rescaling, and in
     * the backward pass the logarithm's. */
    const double relative = 2 * worst + u * (2 * spread + keys / 64 + 40 + 4 * log(keys + 1));
    double delta = 0, delta_error = 0;
    for (int64_t i = 0; i < w; i++) {
        double expected = 0, magnitude = 0;
        for (int64_t j = 0; j < c->keys && total > 0; j++) {
            expected += p[j] / (double)total * v[j * w + i];
            magnitude += p[j] / (double)total * fabs(v[j * w + i]);
        }
        const double error = magnitude * (relative + u * (keys + 4)) + store * fabs(expected) + smallest_half(dtype);
        within(r, "result", c, dtype, line * w + i, y[line * w + i], expected, 1.02 * error);
        delta += g[line * w + i] * expected;
        delta_error += fabs(g[line * w + i]) * (error + 12 * u * fabs(expected));
    }
    for (int64_t j = 0; j < c->keys; j++) {
        double dp = 0, magnitude = 0;
        p[j] = total > 0 ? p[j] / (double)total : 0;
        for (int64_t i = 0; i < w; i++) {
            const int64_t at = (shared * c->keys + j) * w + i;
            const double gi = g[line * w + i];
            dp += gi * v[j * w + i];
            magnitude += fabs(gi * v[j * w + i]);
            s->dv[at] += p[j] * gi;
            s->dv_error[at] += p[j] * fabs(gi) * (relative + u * ((double)(c->queries * c->heads) + 4));
        }
        slope[j] = p[j] * (dp - delta);
        const double error =
            p[j] * (u * ((double)w + 2) * magnitude + delta_error + (relative + 3 * u) * (fabs(dp) + fabs(delta)));
        for (int64_t i = 0; i < e; i++) {
            const int64_t at = line * e + i, to = (shared * c->keys + j) * e + i;
            s->dq[at] += scale * slope[j] * k[j * e + i];
            s->dq_error[at] += scale * fabs(k[j * e + i]) * (error + u * (keys + 4) * fabs(slope[j]));
            s->dk[to] += scale * slope[j] * q[i];
            s->dk_error[to] +=
                scale * fabs(q[i]) * (error + u * ((double)(c->queries * c->heads) + 4) * fabs(slope[j]));
        }
    }
}

static void check_slope(const run *r, const row *c, tsr_dtype dtype, const char *what, tsr_tensor *leaf,
                        const double *expected, const double *error)
{
    require(r, tsr_grad(leaf));
    double *got = values_of(r, tsr_grad(leaf));
    for (int64_t i = 0; i < tsr_numel(leaf); i++)
        within(r, what, c, dtype, i, got[i], expected[i],
               1.02 * (error[i] + unit_roundoff(dtype) * fabs(expected[i])) + smallest_half(dtype) + 0x1p-100);
    free(got);
    tsr_clear_grad(leaf);
}

static void check(const run *r, const row *c, tsr_dtype dtype)
{
    double *g;
    require_ok(r, tsr_scope_begin());
    operands o = operands_make(r, dtype, c);
    tsr_tensor *y = tsr_scaled_dot_product_attention(o.q, o.k, o.v, o.mask, c->causal, c->scale);
    require(r, y);
    assert_int_equal(tsr_dtype_of(y), dtype);
    assert_int_equal(tsr_shape(y)[3], c->values);
    tsr_tensor *dy = random_tensor(r, dtype, 4, tsr_shape(y), REALS, 5, &g);
    require_ok(r, tsr_backward_from(y, dy, false));
    double *got = values_of(r, y);
    const int64_t nq = tsr_numel(o.q), nk = tsr_numel(o.k), nv = tsr_numel(o.v);
    const head_slopes s = {zeros(nq), zeros(nk), zeros(nv), zeros(nq), zeros(nk), zeros(nv)};
    for (int64_t b = 0; b < c->outer; b++)
        for (int64_t h = 0; h < c->heads; h++)
            for (int64_t i = 0; i < c->queries; i++)
                check_query(r, c, dtype, &o, b, h, i, got, g, &s);
    check_slope(r, c, dtype, "dq", o.q, s.dq, s.dq_error);
    check_slope(r, c, dtype, "dk", o.k, s.dk, s.dk_error);
    check_slope(r, c, dtype, "dv", o.v, s.dv, s.dv_error);
    free(got), free(g), free(o.qv), free(o.kv), free(o.vv), free(o.mv);
    free(s.dq), free(s.dk), free(s.dv), free(s.dq_error), free(s.dk_error), free(s.dv_error);
    require_ok(r, tsr_scope_end());
}

static void attention_on(const run *r)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int d = 0; d < 4; d++)
            if (run_has(r, float_dtypes[d]))
                check(r, &rows[i], float_dtypes[d]);
}

static void test_attention(void **state)
{
    (void)state;
    on_every_device(attention_on);
}

/* Shapes that are empty or of other ranks, the derivative of a mask, errors. */
static void edges_on(const run *r)
{
    float v[12], m[6];
    require_ok(r, tsr_scope_begin());
    tsr_tensor *q = tsr_full(r->device, TSR_F32, 2, (int64_t[]){3, 4}, 0.5),
               *k = tsr_full(r->device, TSR_F32, 2, (int64_t[]){2, 4}, 1);
    tsr_tensor *y = tsr_scaled_dot_product_attention(q, k, k, NULL, false, 0);
    require(r, y);
    require_ok(r, tsr_read_f32(y, v, 12));
    for (int i = 0; i < 12; i++)
        assert_true(v[i] == 1);
    tsr_tensor *none = tsr_zeros(r->device, TSR_F32, 2, (int64_t[]){0, 4});
    require_ok(r, tsr_set_requires_grad(q, true));
    y = tsr_scaled_dot_product_attention(q, none, none, NULL, false, 0); /* no key: nothing is seen */
    require(r, y);
    require_ok(r, tsr_backward_from(y, tsr_detach(k = tsr_full(r->device, TSR_F32, 2, (int64_t[]){3, 4}, 1)), false));
    require_ok(r, tsr_read_f32(y, v, 12));
    for (int i = 0; i < 12; i++)
        assert_true(v[i] == 0);
    require_ok(r, tsr_read_f32(tsr_grad(q), v, 12));
    for (int i = 0; i < 12; i++)
        assert_true(v[i] == 0);
    tsr_clear_grad(q);
    y = tsr_scaled_dot_product_attention(none, q, q, NULL, true, 0);
    require(r, y);
    assert_int_equal(tsr_numel(y), 0);
    require_ok(r, tsr_backward_from(y, none, false));
    tsr_clear_grad(q);

    /* keys 0 and 1 equal, values 0 and 1: d out / d mask = p (1 - p) = ±1/4 for equal scores, summed over the queries it is broadcast to */
    tsr_tensor *mask = tsr_zeros(r->device, TSR_F32, 1, (int64_t[]){2});
    require_ok(r, tsr_set_requires_grad(mask, true));
    k = tsr_full(r->device, TSR_F32, 2, (int64_t[]){2, 4}, 1);
    const float values[] = {0, 1};
    tsr_tensor *at = tsr_from_data(r->device, TSR_F32, 2, (int64_t[]){2, 1}, values);
    y = tsr_scaled_dot_product_attention(tsr_detach(q), k, at, mask, false, 0);
    require(r, y);
    require_ok(r, tsr_backward_from(y, tsr_full(r->device, TSR_F32, 2, (int64_t[]){3, 1}, 1), false));
    require_ok(r, tsr_read_f32(tsr_grad(mask), m, 2));
    assert_true(fabsf(m[0] + 0.75f) < 1e-6f && fabsf(m[1] - 0.75f) < 1e-6f);
    tsr_clear_grad(mask);

    assert_null(tsr_scaled_dot_product_attention(q, at, at, NULL, false, 0));
    assert_non_null(strstr(tsr_last_error(), "[3, 4]"));
    assert_null(tsr_scaled_dot_product_attention(q, k, at, tsr_zeros(r->device, TSR_F32, 1, (int64_t[]){3}), false, 0));
    assert_non_null(strstr(tsr_last_error(), "mask"));
    assert_null(tsr_scaled_dot_product_attention(q, k, at, tsr_zeros(r->device, TSR_I32, 1, (int64_t[]){2}), false, 0));
    assert_null(tsr_scaled_dot_product_attention(q, k, NULL, NULL, false, 0));
    require_ok(r, tsr_scope_end());
}

static void test_edges(void **state)
{
    (void)state;
    on_every_device(edges_on);
}

/* Twice the sequence, twice the memory: forward and backward. */
static void test_memory(void **state)
{
    (void)state;
    tsr_device *cpu = tsr_device_open("cpu");
    assert_non_null(cpu);
    double peak[3];
    for (int i = 0; i < 3; i++) {
        const int64_t shape[] = {1, 2, 1024 << i, 16};
        tsr_memory_statistics stats;
        assert_int_equal(tsr_memory_reset_peaks(cpu), TSR_OK);
        tsr_scope_begin();
        tsr_tensor *x[3];
        for (int k = 0; k < 3; k++) {
            x[k] = tsr_normal(cpu, TSR_F32, 4, shape, 0, 1);
            assert_int_equal(tsr_set_requires_grad(x[k], true), TSR_OK);
        }
        tsr_tensor *y = tsr_scaled_dot_product_attention(x[0], x[1], x[2], NULL, true, 0);
        assert_non_null(y);
        assert_int_equal(tsr_backward(tsr_sum(tsr_square(y), NULL, 0, false)), TSR_OK);
        assert_int_equal(tsr_memory_stats(cpu, &stats), TSR_OK);
        peak[i] = (double)stats.peak_allocated_bytes;
        for (int k = 0; k < 3; k++)
            tsr_clear_grad(x[k]);
        tsr_scope_end();
    }
    /* What one more token costs is the same from 1024 to 2048 as from 2048 to 4096, but for the allocator's rounding of sizes. */
    const double first = (peak[1] - peak[0]) / 1024, second = (peak[2] - peak[1]) / 2048;
    print_message("peak bytes at 1024, 2048, 4096: %.0f %.0f %.0f\n", peak[0], peak[1], peak[2]);
    assert_true(second <= 1.25 * first);
    tsr_device_close(cpu);
}

/* ---- rotary ---- */

static void check_rotary(const run *r, tsr_dtype dtype, bool interleaved, int64_t width, int64_t turned)
{
    const int64_t shape[] = {2, 3, 5, width}, pairs = turned / 2, n = count_of(4, shape);
    const tsr_dtype carried = dtype == TSR_F64 ? TSR_F64 : TSR_F32;
    const double u = accumulator_roundoff(dtype), store = unit_roundoff(dtype);
    double *v, *g;
    tsr_tensor *cosine = NULL, *sine = NULL;
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = tsr_detach(random_tensor(r, dtype, 4, shape, REALS, 41, &v));
    require_ok(r, tsr_set_requires_grad(x, true));
    require_ok(r, tsr_rotary_tables(r->device, carried, 5, turned, 100, &cosine, &sine));
    tsr_tensor *y = tsr_rotary_embedding(x, cosine, sine, interleaved);
    require(r, y);
    require_ok(r, tsr_backward_from(y, random_tensor(r, dtype, 4, shape, REALS, 42, &g), false));
    double *got = values_of(r, y), *slope = values_of(r, tsr_grad(x));
    for (int64_t i = 0; i < n; i++) {
        const int64_t col = i % width, start = i - col, position = i / width % 5;
        double value = v[i], dx = g[i], size = 0;
        if (col < 2 * pairs) {
            const int64_t pair = interleaved ? col / 2 : col % pairs;
            const bool first = interleaved ? col % 2 == 0 : col < pairs;
            const int64_t other = start + (interleaved ? col ^ 1 : first ? col + pairs : col - pairs);
            const double angle = (double)position * pow(100, -2.0 * (double)pair / (double)turned);
            value = v[i] * cos(angle) + (first ? -1 : 1) * v[other] * sin(angle);
            dx = g[i] * cos(angle) + (first ? 1 : -1) * g[other] * sin(angle);
            size = fabs(v[i]) + fabs(v[other]) + fabs(g[i]) + fabs(g[other]);
        }
        /* the table's rounding, the product's and the sum's */
        assert_true(fabs(got[i] - value) <= 3 * u * size + 1.01 * store * fabs(value) + smallest_half(dtype));
        assert_true(fabs(slope[i] - dx) <= 3 * u * size + 1.01 * store * fabs(dx) + smallest_half(dtype));
    }
    tsr_clear_grad(x);
    free(v), free(g), free(got), free(slope);
    require_ok(r, tsr_scope_end());
}

static void rotary_on(const run *r)
{
    for (int d = 0; d < 4; d++)
        if (run_has(r, float_dtypes[d]))
            for (int interleaved = 0; interleaved < 2; interleaved++) {
                check_rotary(r, float_dtypes[d], interleaved != 0, 8, 8);
                check_rotary(r, float_dtypes[d], interleaved != 0, 7, 4);
                check_rotary(r, float_dtypes[d], interleaved != 0, 3, 0);
            }
    tsr_tensor *cosine, *sine;
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = tsr_zeros(r->device, TSR_F32, 2, (int64_t[]){4, 6});
    require_ok(r, tsr_rotary_tables(r->device, TSR_F32, 4, 8, 10000, &cosine, &sine));
    assert_null(tsr_rotary_embedding(x, cosine, sine, false)); /* more pairs than x has */
    assert_non_null(strstr(tsr_last_error(), "cosine"));
    assert_int_equal(tsr_rotary_tables(r->device, TSR_F32, 4, 7, 10000, &cosine, &sine), TSR_OUT_OF_RANGE);
    assert_int_equal(tsr_rotary_tables(r->device, TSR_F16, 4, 8, 10000, &cosine, &sine), TSR_OUT_OF_RANGE);
    require_ok(r, tsr_scope_end());
}

static void test_rotary(void **state)
{
    (void)state;
    on_every_device(rotary_on);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_rotary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
