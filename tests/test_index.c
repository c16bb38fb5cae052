/* embedding, index_select, index_add, gather, scatter, scatter_add on every device: elements against a walk on the host, in every dtype;
 * i32 and i64 indices, repeated and out of range; the derivatives, and their bits from run to run. */
#include "tests/op_reference.h"

static const tsr_dtype all_dtypes[] = {TSR_F32, TSR_F16, TSR_BF16, TSR_F64, TSR_I32, TSR_I64, TSR_U8, TSR_BOOL};

/* A device that is tested with the kernels for processors and with those for GPUs has every dtype with the former; f32, f64 and u8 show that
 * the latter are launched right. (Drivers take a second for each kernel that they compile.) */
static bool takes(const run *r, int dtype)
{
    const bool again = strstr(r->name, "for GPUs") != NULL && strncmp(r->name, "cuda", 4) != 0;
    return run_has(r, all_dtypes[dtype]) && (!again || dtype % 3 == 0);
}

static bool is_float(tsr_dtype d)
{
    return d <= TSR_F64;
}

/* Small integers, exact in every dtype (bool: whether not 0), as a leaf where they can have a gradient. */
static tsr_tensor *integers(const run *r, tsr_dtype dtype, int rank, const int64_t *shape, uint32_t seed, double **v)
{
    tsr_tensor *t = random_tensor(r, TSR_F32, rank, shape, INTEGERS, seed, v);
    if (dtype == TSR_U8)
        t = tsr_cast(tsr_abs(t), dtype);
    else
        t = tsr_cast(t, dtype);
    require(r, t);
    free(*v);
    *v = values_of(r, tsr_cast(t, TSR_F32));
    if (is_float(dtype))
        require_ok(r, tsr_set_requires_grad(t = tsr_detach(t), true));
    return t;
}

/* `places` in [-1, size]: -1 and size are out of range if `outside`. Strided, if it has two dimensions or more. */
static tsr_tensor *indices(const run *r, tsr_dtype dtype, int rank, const int64_t *shape, int64_t size, bool outside,
                           int64_t **places)
{
    const int64_t n = count_of(rank, shape);
    *places = malloc(sizeof **places * (size_t)(n + 1));
    int32_t *narrow = malloc(sizeof *narrow * (size_t)(n + 1));
    assert_true(*places != NULL && narrow != NULL);
    uint32_t state = 77;
    for (int64_t i = 0; i < n; i++) {
        const int64_t k = (int64_t)random_next(&state);
        (*places)[i] = outside ? k % (size + 2) - 1 : k % size;
        narrow[i] = (int32_t)(*places)[i];
    }
    tsr_tensor *t = tsr_from_data(r->device, dtype, rank, shape, dtype == TSR_I64 ? (void *)*places : (void *)narrow);
    if (rank > 1)
        t = tsr_transpose(tsr_clone(tsr_transpose(t, 0, 1)), 0, 1);
    require(r, t);
    free(narrow);
    return t;
}

static void same(const run *r, const char *what, tsr_tensor *got, const double *expected)
{
    require(r, got);
    double *v = values_of(r, tsr_dtype_of(got) == TSR_F64 ? got : tsr_cast(got, TSR_F32));
    for (int64_t i = 0; i < tsr_numel(got); i++)
        if (!(v[i] == expected[i] || (isnan(v[i]) && isnan(expected[i]))))
            fail_msg("%s %s on %s: element %lld: %.9g for %.9g", what, tsr_dtype_name(tsr_dtype_of(got)), r->name,
                     (long long)i, v[i], expected[i]);
    free(v);
}

static double *zeros(int64_t n)
{
    double *v = calloc((size_t)n + 1, sizeof *v);
    assert_non_null(v);
    return v;
}

/* ---- embedding ---- */

static void check_embedding(const run *r, tsr_dtype dtype, tsr_dtype index, int64_t width, int64_t padding)
{
    enum { SIZE = 11 };
    const int64_t shape[] = {SIZE, width}, at[] = {7, 13}, n = 91;
    double *w, *g;
    int64_t *places;
    require_ok(r, tsr_scope_begin());
    tsr_tensor *weight = integers(r, dtype, 2, shape, 1, &w);
    tsr_tensor *y = tsr_embedding(weight, indices(r, index, 2, at, SIZE, padding < 0, &places), padding);
    require(r, y);
    assert_true(tsr_rank(y) == 3 && tsr_shape(y)[0] == 7 && tsr_shape(y)[1] == 13 && tsr_shape(y)[2] == width);
    tsr_tensor *dy = integers(r, dtype, 3, tsr_shape(y), 2, &g);
    require_ok(r, tsr_backward_from(y, tsr_detach(dy), false));
    double *expected = zeros(n * width), *slope = zeros(SIZE * width);
    for (int64_t i = 0; i < n * width; i++) {
        const int64_t place = places[i / width];
        const bool inside = place >= 0 && place < SIZE;
        expected[i] = inside ? w[place * width + i % width] : (double)NAN;
        if (inside && place != padding)
            slope[place * width + i % width] += g[i];
    }
    same(r, "embedding", y, expected);
    same(r, "embedding'", tsr_grad(weight), slope);
    tsr_clear_grad(weight);
    free(w), free(g), free(places), free(expected), free(slope);
    require_ok(r, tsr_scope_end());
}

static void embedding_on(const run *r)
{
    for (int d = 0; d < 4; d++)
        if (takes(r, d)) {
            check_embedding(r, all_dtypes[d], TSR_I64, 70, -1);
            check_embedding(r, all_dtypes[d], TSR_I32, 5, 3);
            check_embedding(r, all_dtypes[d], TSR_I64, 1, -1);
        }
    require_ok(r, tsr_scope_begin());
    tsr_tensor *weight = tsr_full(r->device, TSR_F32, 2, (int64_t[]){3, 4}, 1);
    require_ok(r, tsr_set_requires_grad(weight, true));
    tsr_tensor *none = tsr_embedding(weight, tsr_zeros(r->device, TSR_I64, 1, (int64_t[]){0}), -1);
    require(r, none);
    assert_true(tsr_numel(none) == 0 && tsr_rank(none) == 2);
    require_ok(r, tsr_backward_from(none, none, false));
    same(r, "embedding' of nothing", tsr_grad(weight), (double[12]){0});
    tsr_clear_grad(weight);
    assert_null(tsr_embedding(weight, tsr_zeros(r->device, TSR_F32, 1, (int64_t[]){2}), -1));
    assert_non_null(strstr(tsr_last_error(), "i32 or i64"));
    assert_null(tsr_embedding(weight, tsr_zeros(r->device, TSR_I64, 1, (int64_t[]){2}), 3));
    assert_int_equal(tsr_last_status(), TSR_OUT_OF_RANGE);
    require_ok(r, tsr_scope_end());
}

static void test_embedding(void **state)
{
    (void)state;
    on_every_device(embedding_on);
}

/* Many meet in one row: the sum is that of their order, within the bound of so many additions, and the same bits again. */
static void meeting_on(const run *r)
{
    enum { N = 3000, WIDTH = 9, SIZE = 4 };
    const int64_t n = N, shape[] = {SIZE, WIDTH}, flat[] = {N, WIDTH};
    static float first[SIZE * WIDTH], again[SIZE * WIDTH];
    double *g;
    int64_t *places;
    require_ok(r, tsr_scope_begin());
    tsr_tensor *weight = tsr_zeros(r->device, TSR_F32, 2, shape),
               *dy = random_tensor(r, TSR_F32, 2, flat, REALS, 5, &g);
    require_ok(r, tsr_set_requires_grad(weight, true));
    tsr_tensor *at = indices(r, TSR_I64, 1, &n, SIZE, false, &places);
    for (int pass = 0; pass < 2; pass++) {
        require_ok(r, tsr_backward_from(tsr_embedding(weight, at, -1), dy, false));
        require_ok(r, tsr_read(tsr_grad(weight), pass == 0 ? first : again, sizeof first));
        tsr_clear_grad(weight);
    }
    assert_memory_equal(first, again, sizeof first);
    for (int v = 0; v < SIZE; v++)
        for (int c = 0; c < WIDTH; c++) {
            double sum = 0, magnitude = 0, terms = 0;
            float in_order = 0;
            for (int i = 0; i < N; i++)
                if (places[i] == v) {
                    sum += g[i * WIDTH + c];
                    magnitude += fabs(g[i * WIDTH + c]);
                    in_order += (float)g[i * WIDTH + c];
                    terms++;
                }
            if (!(fabs(first[v * WIDTH + c] - sum) <= terms * 0x1p-24 * magnitude) || first[v * WIDTH + c] != in_order)
                fail_msg("%s: sum of row %d: %.9g for %.9g, in order %.9g", r->name, v, first[v * WIDTH + c], sum,
                         in_order);
        }
    free(g), free(places);
    require_ok(r, tsr_scope_end());
}

static void test_meeting(void **state)
{
    (void)state;
    on_every_device(meeting_on);
}

/* ---- index_select and index_add: x [outer, size, inner] ---- */

static void check_select(const run *r, tsr_dtype dtype, const int64_t *shape, int64_t n, tsr_dtype index)
{
    const int64_t size = shape[1], inner = shape[2], part[] = {shape[0], n, inner}, all = count_of(3, shape),
                  taken = count_of(3, part);
    double *v, *s, *g, *h;
    int64_t *places;
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = integers(r, dtype, 3, shape, 11, &v), *source = integers(r, dtype, 3, part, 12, &s);
    tsr_tensor *at = indices(r, index, 1, &n, size, true, &places);
    tsr_tensor *y = tsr_index_select(x, -2, at);
    double *expected = zeros(taken), *sum = zeros(all), *slope = zeros(all), *from = zeros(taken);
    memcpy(sum, v, sizeof *v * (size_t)all);
    for (int64_t i = 0; i < taken; i++) {
        const int64_t place = places[i / inner % n], o = i / inner / n;
        const bool inside = place >= 0 && place < size;
        const int64_t to = (o * size + place) * inner + i % inner;
        expected[i] = inside ? v[to] : is_float(dtype) ? (double)NAN : 0;
        if (inside)
            sum[to] += s[i];
    }
    same(r, "index_select", y, expected);
    if (is_float(dtype) || dtype == TSR_I32 || dtype == TSR_I64) {
        tsr_tensor *z = tsr_index_add(x, 1, at, source);
        same(r, "index_add", z, sum);
        if (is_float(dtype)) {
            require_ok(r, tsr_backward_from(y, tsr_detach(integers(r, dtype, 3, part, 13, &g)), false));
            require_ok(r, tsr_backward_from(z, tsr_detach(integers(r, dtype, 3, shape, 14, &h)), false));
            memcpy(slope, h, sizeof *h * (size_t)all);
            for (int64_t i = 0; i < taken; i++) {
                const int64_t place = places[i / inner % n], o = i / inner / n;
                if (place < 0 || place >= size)
                    continue;
                slope[(o * size + place) * inner + i % inner] += g[i];
                from[i] = h[(o * size + place) * inner + i % inner];
            }
            same(r, "index_select' and index_add'", tsr_grad(x), slope);
            same(r, "index_add' of the source", tsr_grad(source), from);
            tsr_clear_grad(x);
            tsr_clear_grad(source);
            free(g), free(h);
        }
    }
    free(v), free(s), free(places), free(expected), free(sum), free(slope), free(from);
    require_ok(r, tsr_scope_end());
}

static void select_on(const run *r)
{
    static const int64_t shapes[][3] = {{2, 5, 70}, {3, 7, 1}, {1, 1, 3}, {2, 9, 4}};
    for (int d = 0; d < 8; d++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes && takes(r, d); i++)
            check_select(r, all_dtypes[d], shapes[i], i == 3 ? 130 : 6, i % 2 == 0 ? TSR_I64 : TSR_I32);
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = tsr_zeros(r->device, TSR_F32, 2, (int64_t[]){2, 3}), *y;
    tsr_tensor *at = tsr_zeros(r->device, TSR_I64, 1, (int64_t[]){4});
    y = tsr_index_select(tsr_zeros(r->device, TSR_F32, 2, (int64_t[]){2, 0}), 1, at); /* nothing to take from */
    require(r, y);
    float v[8];
    require_ok(r, tsr_read_f32(y, v, 8));
    for (int i = 0; i < 8; i++)
        assert_true(isnan(v[i]));
    assert_null(tsr_index_select(x, 2, at));
    assert_null(tsr_index_select(x, 1, tsr_reshape(at, 2, (int64_t[]){2, 2})));
    assert_null(tsr_index_add(x, 1, at, x));
    assert_non_null(strstr(tsr_last_error(), "source"));
    assert_null(tsr_index_add(x, 1, at, NULL));
    require_ok(r, tsr_scope_end());
}

static void test_select(void **state)
{
    (void)state;
    on_every_device(select_on);
}

/* ---- gather, scatter, scatter_add: x [3, size, 4], index [a, n, b] along an axis ---- */

static int64_t place_in(const int64_t *shape, const int64_t *at)
{
    return (at[0] * shape[1] + at[1]) * shape[2] + at[2];
}

static void check_scatter(const run *r, tsr_dtype dtype, int axis, const int64_t *shape, const int64_t *part,
                          const int64_t *from, tsr_dtype index)
{
    const int64_t all = count_of(3, shape), taken = count_of(3, part), given = count_of(3, from);
    const bool adds = is_float(dtype) || dtype == TSR_I32 || dtype == TSR_I64;
    double *v, *s, *g, *h;
    int64_t *places;
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = integers(r, dtype, 3, shape, 21, &v), *source = integers(r, dtype, 3, from, 22, &s);
    tsr_tensor *at = indices(r, index, 3, part, shape[axis], true, &places);
    double *got = zeros(taken), *sum = zeros(all), *set = zeros(all), *slope = zeros(all), *back = zeros(given);
    int64_t *winner = calloc((size_t)all, sizeof *winner), *to = calloc((size_t)taken + 1, sizeof *to);
    int64_t *origin = calloc((size_t)taken + 1, sizeof *origin);
    assert_true(winner != NULL && to != NULL && origin != NULL);
    memcpy(sum, v, sizeof *v * (size_t)all);
    memcpy(set, v, sizeof *v * (size_t)all);
    for (int64_t i = 0; i < taken; i++) {
        int64_t where[] = {i / part[2] / part[1], i / part[2] % part[1], i % part[2]};
        origin[i] = place_in(from, where);
        where[axis] = places[i];
        const bool inside = places[i] >= 0 && places[i] < shape[axis];
        to[i] = inside ? place_in(shape, where) : -1;
        got[i] = inside ? v[to[i]] : is_float(dtype) ? (double)NAN : 0;
        if (!inside)
            continue;
        sum[to[i]] += s[origin[i]];
        set[to[i]] = s[origin[i]];
        winner[to[i]] = i + 1;
    }
    tsr_tensor *y = tsr_gather(x, axis, at), *z = tsr_scatter(x, axis - 3, at, source), *w = NULL;
    same(r, "gather", y, got);
    same(r, "scatter", z, set);
    if (adds)
        same(r, "scatter_add", w = tsr_scatter_add(x, axis, at, source), sum);
    if (is_float(dtype)) {
        tsr_tensor *dz = tsr_detach(integers(r, dtype, 3, shape, 24, &h));
        require_ok(r, tsr_backward_from(y, tsr_detach(integers(r, dtype, 3, part, 23, &g)), false));
        for (int64_t i = 0; i < taken; i++)
            if (to[i] >= 0)
                slope[to[i]] += g[i];
        same(r, "gather'", tsr_grad(x), slope);
        tsr_clear_grad(x);
        require_ok(r, tsr_backward_from(z, dz, false));
        for (int64_t i = 0; i < all; i++)
            slope[i] = winner[i] > 0 ? 0 : h[i];
        for (int64_t i = 0; i < taken; i++)
            back[origin[i]] = to[i] >= 0 && winner[to[i]] == i + 1 ? h[to[i]] : 0;
        same(r, "scatter'", tsr_grad(x), slope);
        same(r, "scatter' of the source", tsr_grad(source), back);
        tsr_clear_grad(x);
        tsr_clear_grad(source);
        require_ok(r, tsr_backward_from(w, dz, false));
        for (int64_t i = 0; i < taken; i++)
            back[origin[i]] = to[i] >= 0 ? h[to[i]] : 0;
        same(r, "scatter_add'", tsr_grad(x), h);
        same(r, "scatter_add' of the source", tsr_grad(source), back);
        tsr_clear_grad(x);
        tsr_clear_grad(source);
        free(g), free(h);
    }
    free(v), free(s), free(places), free(got), free(sum), free(set), free(slope), free(back), free(winner), free(to),
        free(origin);
    require_ok(r, tsr_scope_end());
}

static void scatter_on(const run *r)
{
    for (int d = 0; d < 8; d++) {
        if (!takes(r, d))
            continue;
        check_scatter(r, all_dtypes[d], 1, (int64_t[]){3, 6, 4}, (int64_t[]){3, 9, 4}, (int64_t[]){3, 9, 4}, TSR_I64);
        check_scatter(r, all_dtypes[d], 2, (int64_t[]){2, 3, 5}, (int64_t[]){1, 2, 7}, (int64_t[]){2, 3, 8}, TSR_I32);
        if (d < 4)
            check_scatter(r, all_dtypes[d], 0, (int64_t[]){70, 2, 3}, (int64_t[]){150, 2, 2}, (int64_t[]){150, 2, 3},
                          TSR_I64);
    }
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = tsr_zeros(r->device, TSR_F32, 2, (int64_t[]){2, 3});
    assert_null(tsr_gather(x, 1, tsr_zeros(r->device, TSR_I64, 2, (int64_t[]){3, 3})));
    assert_null(tsr_gather(x, 1, tsr_zeros(r->device, TSR_I64, 1, (int64_t[]){3})));
    assert_null(tsr_scatter(x, 1, tsr_zeros(r->device, TSR_I64, 2, (int64_t[]){2, 4}), x));
    assert_non_null(strstr(tsr_last_error(), "source"));
    assert_null(tsr_scatter_add(x, 0, x, x));
    tsr_tensor *y = tsr_scatter_add(x, 1, tsr_zeros(r->device, TSR_I64, 2, (int64_t[]){2, 0}), x);
    same(r, "scatter_add of nothing", y, (double[6]){0});
    require_ok(r, tsr_scope_end());
}

static void test_scatter(void **state)
{
    (void)state;
    on_every_device(scatter_on);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_embedding),
        cmocka_unit_test(test_meeting),
        cmocka_unit_test(test_select),
        cmocka_unit_test(test_scatter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
