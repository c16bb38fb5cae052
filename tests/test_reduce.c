/* sum, mean, max and argmax over any axes, on every device and in every dtype: against sums in double, against the canonical order of
 * docs/determinism.md bit by bit, with integers exactly, and in the corners. */
#include "tests/op_reference.h"

enum { LANES = 64, BLOCK = 8192 };

/* ---- the canonical order, written from its description ---- */

static float canonical_block(const float *x, int64_t n, int64_t stride)
{
    float lane[LANES] = {0};
    for (int64_t i = 0; i < n; i++)
        lane[i % LANES] += x[i * stride];
    for (int s = LANES / 2; s > 0; s /= 2)
        for (int l = 0; l < s; l++)
            lane[l] += lane[l + s];
    return lane[0];
}

static float canonical_sum(const float *x, int64_t n, int64_t stride)
{
    if (n <= BLOCK)
        return canonical_block(x, n, stride);
    const int64_t blocks = (n + BLOCK - 1) / BLOCK;
    float *partial = malloc(sizeof(float) * (size_t)blocks);
    assert_non_null(partial);
    for (int64_t b = 0; b < blocks; b++)
        partial[b] = canonical_block(x + b * BLOCK * stride, n - b * BLOCK < BLOCK ? n - b * BLOCK : BLOCK, stride);
    const float sum = canonical_sum(partial, blocks, 1);
    free(partial);
    return sum;
}

/* Groups of neighbouring axes, the innermost group first. The caller frees the result. */
static float *canonical_axes(const double *dense, int rank, const int64_t *shape_in, unsigned mask)
{
    int64_t shape[TSR_MAX_RANK], total = count_of(rank, shape_in);
    float *x = malloc(sizeof(float) * (size_t)(total + 1));
    assert_non_null(x);
    memcpy(shape, shape_in, sizeof(int64_t) * (size_t)rank);
    for (int64_t i = 0; i < total; i++)
        x[i] = (float)dense[i];
    for (int last = rank - 1; last >= 0; last--) {
        if ((mask >> last & 1) == 0)
            continue;
        int first = last;
        while (first > 0 && (mask >> (first - 1) & 1) != 0)
            first--;
        int64_t outer = count_of(first, shape), n = count_of(last - first + 1, shape + first),
                inner = count_of(rank - last - 1, shape + last + 1);
        for (int64_t o = 0; o < outer; o++)
            for (int64_t c = 0; c < inner; c++) /* later rows are still unread: o inner ≤ o n inner */
                x[o * inner + c] = canonical_sum(x + o * n * inner + c, n, inner);
        for (int i = first; i <= last; i++)
            shape[i] = 1;
        last = first;
    }
    return x;
}

/* Additions that a term goes through, at most. */
static double depth_of(int64_t n)
{
    return n <= BLOCK ? (double)((n + LANES - 1) / LANES + 6) : 134 + depth_of((n + BLOCK - 1) / BLOCK);
}

static double depth_over(int rank, const int64_t *shape, unsigned mask)
{
    double depth = 0;
    for (int i = 0; i < rank; i++)
        if ((mask >> i & 1) != 0) {
            int64_t n = 1;
            for (; i < rank && (mask >> i & 1) != 0; i++)
                n *= shape[i];
            depth += depth_of(n);
        }
    return depth;
}

/* ---- the reference ---- */

typedef struct reference {
    int64_t count, reduced; /* results; elements of each */
    double *sum, *magnitude, *max, *place;
} reference;

static reference reference_of(const double *x, int rank, const int64_t *shape, unsigned mask)
{
    reference e = {1, 1, NULL, NULL, NULL, NULL};
    for (int i = 0; i < rank; i++)
        *((mask >> i & 1) != 0 ? &e.reduced : &e.count) *= shape[i];
    double **all[] = {&e.sum, &e.magnitude, &e.max, &e.place};
    for (int k = 0; k < 4; k++) {
        *all[k] = calloc((size_t)e.count + 1, sizeof(double));
        assert_non_null(*all[k]);
    }
    for (int64_t i = 0; i < e.count; i++)
        e.max[i] = -(double)INFINITY;
    const int64_t total = count_of(rank, shape);
    int64_t index[TSR_MAX_RANK] = {0};
    for (int64_t i = 0; i < total; i++) {
        int64_t out = 0, place = 0;
        for (int d = 0; d < rank; d++) {
            int64_t *at = (mask >> d & 1) != 0 ? &place : &out;
            *at = *at * shape[d] + index[d];
        }
        e.sum[out] += x[i];
        e.magnitude[out] += fabs(x[i]);
        if (x[i] > e.max[out]) {
            e.max[out] = x[i];
            e.place[out] = (double)place;
        } else if (x[i] == e.max[out] && place < (int64_t)e.place[out]) {
            e.place[out] = (double)place;
        }
        for (int d = rank - 1; d >= 0 && ++index[d] == shape[d]; d--)
            index[d] = 0;
    }
    return e;
}

static void reference_free(reference *e)
{
    free(e->sum);
    free(e->magnitude);
    free(e->max);
    free(e->place);
}

static void exactly(const run *r, const char *what, tsr_tensor *got, const double *expected)
{
    require(r, got);
    double *v = values_of(r, got);
    for (int64_t i = 0; i < tsr_numel(got); i++)
        if (v[i] != expected[i])
            fail_msg("%s %s on %s: element %lld: %.9g for %.9g", what, tsr_dtype_name(tsr_dtype_of(got)), r->name,
                     (long long)i, v[i], expected[i]);
    free(v);
}

static void expect_shape(const run *r, tsr_tensor *got, int rank, const int64_t *shape, unsigned mask, bool keep)
{
    int at = 0;
    require(r, got);
    for (int i = 0; i < rank; i++)
        if ((mask >> i & 1) == 0 || keep)
            assert_int_equal(tsr_shape(got)[at++], (mask >> i & 1) != 0 ? 1 : shape[i]);
    assert_int_equal(tsr_rank(got), at);
}

/* All four operators over the axes in mask of x, in its dtype. */
static void check(const run *r, const char *what, tsr_tensor *x, unsigned mask, bool keep, sample s)
{
    const int rank = tsr_rank(x);
    const int64_t *shape = tsr_shape(x);
    const tsr_dtype dtype = tsr_dtype_of(x);
    const bool is_float = dtype != TSR_I32 && dtype != TSR_I64;
    int axes[TSR_MAX_RANK], count = 0;
    for (int i = rank - 1; i >= 0; i--) /* in any order, and counted from either end */
        if ((mask >> i & 1) != 0)
            axes[count++] = i % 2 == 0 ? i : i - rank;
    double *dense = values_of(r, x);
    reference e = reference_of(dense, rank, shape, mask);
    char name[96];
    snprintf(name, sizeof name, "%s, axes 0x%x%s", what, mask, keep ? ", kept" : "");

    tsr_tensor *sum = tsr_sum(x, axes, count, keep);
    expect_shape(r, sum, rank, shape, mask, keep);
    assert_int_equal(tsr_dtype_of(sum), dtype);
    if (is_float)
        compare(r, name, sum, e.sum, e.magnitude, depth_over(rank, shape, mask), s);
    else
        exactly(r, name, sum, e.sum);
    if (dtype == TSR_F32) {
        float *bits = canonical_axes(dense, rank, shape, mask), *got = malloc(sizeof(float) * (size_t)(e.count + 1));
        assert_non_null(got);
        require_ok(r, tsr_read(sum, got, sizeof(float) * (size_t)e.count));
        for (int64_t i = 0; i < e.count; i++)
            if (memcmp(&got[i], &bits[i], sizeof(float)) != 0)
                fail_msg("%s on %s: sum %lld is %.9g, in canonical order %.9g", name, r->name, (long long)i,
                         (double)got[i], (double)bits[i]);
        free(bits);
        free(got);
    }
    tsr_tensor *max = tsr_max(x, axes, count, keep);
    expect_shape(r, max, rank, shape, mask, keep);
    assert_int_equal(tsr_dtype_of(max), dtype);
    exactly(r, name, max, e.max);
    tsr_tensor *place = tsr_argmax(x, axes, count, keep);
    expect_shape(r, place, rank, shape, mask, keep);
    assert_int_equal(tsr_dtype_of(place), TSR_I64);
    exactly(r, name, place, e.place);
    if (is_float) {
        tsr_tensor *mean = tsr_mean(x, axes, count, keep);
        expect_shape(r, mean, rank, shape, mask, keep);
        for (int64_t i = 0; i < e.count; i++) { /* the sum of integers is exact, and so is their quotient's rounding */
            const double q = e.sum[i] / (double)e.reduced;
            e.sum[i] = dtype == TSR_F64 || s == REALS ? q : (double)(float)q;
            e.magnitude[i] /= (double)e.reduced;
        }
        compare(r, name, mean, e.sum, e.magnitude, depth_over(rank, shape, mask), s);
    }
    reference_free(&e);
    free(dense);
}

static tsr_tensor *made(const run *r, tsr_dtype dtype, int rank, const int64_t *shape, sample s, uint32_t seed)
{
    double *unused;
    tsr_tensor *t = random_tensor(r, dtype, rank, shape, s, seed, &unused);
    free(unused);
    return t;
}

/* ---- axes and views ---- */

static const tsr_dtype all_dtypes[] = {TSR_F32, TSR_F16, TSR_BF16, TSR_F64, TSR_I32, TSR_I64};
enum { DTYPES = sizeof all_dtypes / sizeof *all_dtypes };

static void axes_on(const run *r)
{
    static const int64_t shape[] = {3, 5, 7, 4}, wide[] = {3, 5, 7, 8}, turned[] = {4, 7, 3, 5}, thin[] = {3, 1, 7, 1};
    for (int d = 0; d < DTYPES; d++) {
        if (!run_has(r, all_dtypes[d]))
            continue;
        for (unsigned mask = 1; mask < 16; mask++) {
            const sample s = all_dtypes[d] >= TSR_I32 || mask % 2 == 0 ? INTEGERS : REALS;
            const bool keep = mask % 3 == 0;
            require_ok(r, tsr_scope_begin());
            check(r, "contiguous", made(r, all_dtypes[d], 4, shape, s, mask), mask, keep, s);
            if (d == 0 || mask % 4 == 1) {
                check(r, "permuted", tsr_permute(made(r, all_dtypes[d], 4, turned, s, mask), (int[]){2, 3, 1, 0}), mask,
                      keep, s);
                check(r, "sliced", tsr_slice(made(r, all_dtypes[d], 4, wide, s, mask), 3, 1, INT64_MAX, 2), mask, keep,
                      s);
                check(r, "expanded", tsr_expand(made(r, all_dtypes[d], 4, thin, s, mask), 4, shape), mask, keep, s);
            }
            require_ok(r, tsr_scope_end());
        }
    }
    /* No axes named: all of them, of a scalar too. */
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = made(r, TSR_F32, 4, shape, INTEGERS, 1);
    double sum = 0, got, *dense = values_of(r, x);
    for (int i = 0; i < 420; i++)
        sum += dense[i];
    free(dense);
    require_ok(r, tsr_item(tsr_sum(x, NULL, 0, false), &got));
    assert_true(got == sum);
    assert_int_equal(tsr_rank(tsr_max(x, NULL, 0, true)), 4);
    tsr_tensor *scalar = tsr_full(r->device, TSR_F32, 0, NULL, 2.5);
    tsr_tensor *of_scalar[] = {tsr_sum(scalar, NULL, 0, false), tsr_mean(scalar, NULL, 0, true),
                               tsr_max(scalar, (int[]){-1}, 1, false)};
    for (int i = 0; i < 3; i++) {
        require_ok(r, tsr_item(of_scalar[i], &got));
        assert_true(got == 2.5);
    }
    require_ok(r, tsr_item(tsr_argmax(scalar, NULL, 0, false), &got));
    assert_true(got == 0);
    require_ok(r, tsr_scope_end());
}

static void test_axes(void **state)
{
    (void)state;
    on_every_device(axes_on);
}

/* ---- sizes around the lanes and the blocks ---- */

static void sizes_on(const run *r)
{
    static const int64_t sizes[] = {1, 2, 63, 64, 65, 127, 129, 8191, 8192, 8193, 16384, 70001};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int d = 0; d < DTYPES; d++) {
            const int64_t n = sizes[i];
            const sample s = all_dtypes[d] >= TSR_I32 ? INTEGERS : REALS;
            if (!run_has(r, all_dtypes[d]) || (d > 0 && n != 1 && n != 63 && n != 65 && n != 8193 && n != 70001))
                continue; /* f32 shows the order at every size, the others their type */
            require_ok(r, tsr_scope_begin());
            check(r, "one row", made(r, all_dtypes[d], 1, &n, s, 11), 1, false, s);
            check(r, "one row of integers", made(r, all_dtypes[d], 1, &n, INTEGERS, 12), 1, true, INTEGERS);
            check(r, "rows", made(r, all_dtypes[d], 2, (int64_t[]){3, n}, s, 13), 2, false, s);
            check(r, "columns", made(r, all_dtypes[d], 2, (int64_t[]){n, 3}, s, 14), 1, false, s);
            check(r, "long rows of columns", made(r, all_dtypes[d], 2, (int64_t[]){3, n}, s, 15), 1, false, s);
            check(r, "middle", made(r, all_dtypes[d], 3, (int64_t[]){2, n, 2}, s, 16), 2, false, s);
            require_ok(r, tsr_scope_end());
        }
    require_ok(r, tsr_scope_begin());
    check(r, "wide columns", made(r, TSR_F32, 2, (int64_t[]){8300, 37}, REALS, 17), 1, false, REALS);
    /* More rows than a grid has in one direction. */
    double *dense;
    tsr_tensor *x = random_tensor(r, TSR_F32, 2, (int64_t[]){70000, 2}, INTEGERS, 18, &dense);
    reference e = reference_of(dense, 2, (int64_t[]){70000, 2}, 2);
    exactly(r, "70 000 rows", tsr_sum(x, (int[]){1}, 1, false), e.sum);
    exactly(r, "70 000 rows", tsr_argmax(x, (int[]){1}, 1, false), e.place);
    reference_free(&e);
    free(dense);
    require_ok(r, tsr_scope_end());
}

static void test_sizes(void **state)
{
    (void)state;
    on_every_device(sizes_on);
}

/* ---- corners ---- */

static void corners_on(const run *r)
{
    const double inf = (double)INFINITY;
    double got;
    for (int d = 0; d < 4; d++) {
        if (!run_has(r, float_dtypes[d]))
            continue;
        for (int64_t n = 5; n <= 9000; n += 8995) { /* in one block, and in two */
            require_ok(r, tsr_scope_begin());
            tsr_tensor *x = tsr_full(r->device, float_dtypes[d], 1, &n, -inf);
            require_ok(r, tsr_item(tsr_max(x, NULL, 0, false), &got));
            assert_true(got == -inf);
            require_ok(r, tsr_item(tsr_argmax(x, NULL, 0, false), &got));
            assert_true(got == 0);
            require_ok(r, tsr_item(tsr_sum(x, NULL, 0, false), &got));
            assert_true(got == -inf);
            require_ok(r, tsr_fill(x, -2));
            require_ok(r, tsr_fill(tsr_slice(x, 0, -1, n, 1), inf));
            require_ok(r, tsr_item(tsr_mean(x, NULL, 0, false), &got));
            assert_true(got == inf);
            require_ok(r, tsr_item(tsr_argmax(x, NULL, 0, false), &got));
            assert_true(got == (double)(n - 1));
            require_ok(r, tsr_fill(tsr_slice(x, 0, 1, 2, 1), -inf));
            require_ok(r, tsr_item(tsr_sum(x, NULL, 0, false), &got));
            assert_true(isnan(got));
            require_ok(r, tsr_fill(tsr_slice(x, 0, 3, 5, 1), (double)NAN));
            require_ok(r, tsr_item(tsr_max(x, NULL, 0, false), &got));
            assert_true(isnan(got));
            require_ok(r, tsr_item(tsr_argmax(x, NULL, 0, false), &got));
            assert_true(got == 3); /* the first NaN, which is above every number */
            require_ok(r, tsr_scope_end());
        }
    }

    /* The first of several largest: in one lane, in others, in another block. */
    require_ok(r, tsr_scope_begin());
    const int64_t n = 20000;
    static const int64_t places[] = {19999, 8200, 70, 69, 5};
    tsr_tensor *x = tsr_full(r->device, TSR_F32, 1, &n, -1);
    for (int i = 0; i < 5; i++) {
        require_ok(r, tsr_fill(tsr_slice(x, 0, places[i], places[i] + 1, 1), 4));
        require_ok(r, tsr_item(tsr_argmax(x, NULL, 0, false), &got));
        assert_true(got == (double)places[i]);
    }

    /* Integers that no f32 holds, and the ends of their range. */
    static const int32_t i32[] = {INT32_MIN, 16777217, -5, 16777216};
    int32_t g32;
    tsr_tensor *t = tsr_from_data(r->device, TSR_I32, 1, (int64_t[]){4}, i32);
    require_ok(r, tsr_read(tsr_max(t, NULL, 0, false), &g32, sizeof g32));
    assert_int_equal(g32, 16777217);
    require_ok(r, tsr_read(tsr_sum(t, NULL, 0, false), &g32, sizeof g32));
    assert_int_equal(g32, INT32_MIN + 16777217 - 5 + 16777216);
    require_ok(r, tsr_read(tsr_max(tsr_slice(t, 0, 0, 1, 1), NULL, 0, false), &g32, sizeof g32));
    assert_int_equal(g32, INT32_MIN);
    if (run_has(r, TSR_I64)) {
        static const int64_t i64[] = {INT64_MIN, ((int64_t)1 << 53) + 1, (int64_t)1 << 53, -7};
        int64_t g64;
        t = tsr_from_data(r->device, TSR_I64, 1, (int64_t[]){4}, i64);
        require_ok(r, tsr_read(tsr_max(t, NULL, 0, false), &g64, sizeof g64));
        assert_true(g64 == i64[1]);
        require_ok(r, tsr_read(tsr_sum(t, NULL, 0, false), &g64, sizeof g64));
        assert_true(g64 == i64[0] + i64[1] + i64[2] + i64[3]);
        require_ok(r, tsr_read(tsr_max(tsr_slice(t, 0, 0, 1, 1), NULL, 0, false), &g64, sizeof g64));
        assert_true(g64 == INT64_MIN);
    }
    require_ok(r, tsr_scope_end());
}

static void test_corners(void **state)
{
    (void)state;
    on_every_device(corners_on);
}

static void empty_on(const run *r)
{
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = tsr_zeros(r->device, TSR_F32, 3, (int64_t[]){2, 0, 3});
    double *v = values_of(r, tsr_sum(x, (int[]){1}, 1, false));
    for (int i = 0; i < 6; i++)
        assert_true(v[i] == 0);
    free(v);
    v = values_of(r, tsr_mean(x, (int[]){1}, 1, true));
    for (int i = 0; i < 6; i++)
        assert_true(isnan(v[i]));
    free(v);
    assert_int_equal(tsr_numel(tsr_sum(x, (int[]){0}, 1, false)), 0);
    assert_int_equal(tsr_numel(tsr_max(x, (int[]){0}, 1, false)), 0); /* no result, so no empty maximum */
    assert_null(tsr_max(x, (int[]){1, 2}, 2, false));
    assert_int_equal(tsr_last_status(), TSR_INVALID_ARGUMENT);
    assert_null(tsr_argmax(x, NULL, 0, false));
    assert_non_null(strstr(tsr_last_error(), "empty"));

    x = tsr_zeros(r->device, TSR_F32, 2, (int64_t[]){2, 3});
    assert_null(tsr_sum(x, (int[]){2}, 1, false));
    assert_int_equal(tsr_last_status(), TSR_OUT_OF_RANGE);
    assert_null(tsr_sum(x, (int[]){-3}, 1, false));
    assert_null(tsr_sum(x, (int[]){0, -2}, 2, false));
    assert_non_null(strstr(tsr_last_error(), "twice"));
    assert_null(tsr_mean(x, (int[]){0}, -1, false));
    assert_null(tsr_mean(tsr_zeros(r->device, TSR_I32, 1, (int64_t[]){3}), NULL, 0, false));
    assert_int_equal(tsr_last_status(), TSR_UNSUPPORTED);
    assert_null(tsr_sum(NULL, NULL, 0, false));
    require_ok(r, tsr_scope_end());
}

static void test_empty_and_errors(void **state)
{
    (void)state;
    on_every_device(empty_on);
}

/* ---- derivatives ---- */

static void gradient_of(const run *r, tsr_tensor *x, tsr_tensor *y, const float *dy, const double *expected,
                        double ulps, const char *what)
{
    require(r, y);
    require_ok(r, tsr_backward_from(y, tsr_from_data(r->device, TSR_F32, tsr_rank(y), tsr_shape(y), dy), false));
    require(r, tsr_grad(x));
    double *g = values_of(r, tsr_grad(x));
    for (int64_t i = 0; i < tsr_numel(x); i++)
        if (!(fabs(g[i] - expected[i]) <= ulps * 0x1p-23 * fabs(expected[i])))
            fail_msg("%s on %s: derivative %lld is %.9g for %.9g", what, r->name, (long long)i, g[i], expected[i]);
    free(g);
    tsr_clear_grad(x);
}

static void gradients_on(const run *r)
{
    static const float values[] = {1, 3, 3, 2, 3, 0, /**/ 5, 5, 5, 5, 5, 5, /**/ -1, -2, -3, -4, -5, -6};
    static const float two[] = {2, -3, 7}, one[] = {8}, columns[] = {1, 2, 3, 4, 5, 6};
    double expected[18];
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = tsr_from_data(r->device, TSR_F32, 3, (int64_t[]){3, 2, 3}, values);
    require_ok(r, tsr_set_requires_grad(x, true));

    for (int i = 0; i < 18; i++)
        expected[i] = (double)two[i / 6];
    gradient_of(r, x, tsr_sum(x, (int[]){1, 2}, 2, false), two, expected, 0, "sum");
    for (int i = 0; i < 18; i++)
        expected[i] = (double)columns[i % 6] / 3;
    gradient_of(r, x, tsr_mean(x, (int[]){0}, 1, false), columns, expected, 1, "mean");
    /* Ties share: three in the first row, six in the second, one in the third. */
    for (int i = 0; i < 18; i++)
        expected[i] = i == 12 ? 7 : i >= 6 && i < 12 ? -0.5 : i == 1 || i == 2 || i == 4 ? 2.0 / 3 : 0;
    gradient_of(r, x, tsr_max(x, (int[]){1, -1}, 2, false), two, expected, 1, "max");
    gradient_of(r, x, tsr_max(x, (int[]){2, 1}, 2, true), two, expected, 1, "max, kept");
    for (int i = 0; i < 18; i++)
        expected[i] = i >= 6 && i < 12 ? 8.0 / 6 : 0;
    gradient_of(r, x, tsr_max(x, NULL, 0, false), one, expected, 1, "max of all");
    /* axes 0 and 2: columns { 0, 1 } of the middle axis, neighbours of no kind */
    for (int i = 0; i < 18; i++)
        expected[i] = i < 6 || i >= 12 ? 0 : i < 9 ? 2.0 / 3 : -1;
    gradient_of(r, x, tsr_max(x, (int[]){0, 2}, 2, false), two, expected, 1, "max of axes apart");
    assert_false(tsr_requires_grad(tsr_argmax(x, NULL, 0, false)));
    require_ok(r, tsr_scope_end());
}

static void test_gradients(void **state)
{
    (void)state;
    on_every_device(gradients_on);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_axes),      cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_corners),   cmocka_unit_test(test_empty_and_errors),
        cmocka_unit_test(test_gradients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
