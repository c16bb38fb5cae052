/* Operators that only move elements, on every device and in every dtype: each is told by a map from a result's place to the operand's, from which
 * values and derivatives follow exactly. Then sort, topk, one_hot, and what is an error. */
#include "tests/op_reference.h"

typedef struct moved {
    const char *name;
    int rank;
    int64_t shape[4];
    tsr_tensor *(*f)(tsr_tensor *x);
    int out_rank;
    int64_t out[5];
    /* The operand's element for the result's at `at`: its coordinates in `from`, or false where the result holds `fill`. */
    bool (*map)(const int64_t *at, int64_t *from);
    double fill;
    bool arithmetic; /* floats, i32 and i64 only */
} moved;

#define MOVES(name, expression, ...)                                                                                   \
    static tsr_tensor *f_##name(tsr_tensor *x)                                                                         \
    {                                                                                                                  \
        return expression;                                                                                             \
    }                                                                                                                  \
    static bool m_##name(const int64_t *at, int64_t *from)                                                             \
    {                                                                                                                  \
        __VA_ARGS__                                                                                                    \
    }
#define INTS(...)                                                                                                      \
    (int64_t[])                                                                                                        \
    {                                                                                                                  \
        __VA_ARGS__                                                                                                    \
    }
#define FROM2(a, b)                                                                                                    \
    from[0] = a;                                                                                                       \
    from[1] = b;                                                                                                       \
    return true;
#define FROM3(a, b, c)                                                                                                 \
    from[2] = c;                                                                                                       \
    FROM2(a, b)

static tsr_tensor *whole_split(tsr_tensor *x)
{
    tsr_tensor *parts[8];
    int count;
    if (tsr_split(x, -1, 3, 8, parts, &count) != TSR_OK || count != 3)
        return NULL;
    return tsr_cat((tsr_tensor *[]){parts[2], parts[0], parts[1]}, 3, -1); /* 1, 3 and 3 of 7 */
}
static tsr_tensor *whole_chunk(tsr_tensor *x)
{
    tsr_tensor *parts[4];
    int count;
    if (tsr_chunk(x, 1, 4, 4, parts, &count) != TSR_OK || count != 3) /* 5 in parts of 2: three are enough */
        return NULL;
    return tsr_cat((tsr_tensor *[]){parts[2], parts[1], parts[0]}, 3, 1);
}
static tsr_tensor *many(tsr_tensor *x)
{
    tsr_tensor *all[70];
    for (int i = 0; i < 70; i++)
        all[i] = x;
    return tsr_cat(all, 70, 1);
}

MOVES(squeeze, tsr_squeeze(x, NULL, 0), FROM3(0, at[0], 0))
MOVES(squeeze_one, tsr_squeeze(x, (int[]){-1, 1}, 2), FROM3(at[0], at[1], 0))
MOVES(unsqueeze, tsr_unsqueeze(x, -2), FROM2(at[0], at[2]))
MOVES(narrow, tsr_narrow(x, 1, -4, 3), FROM2(at[0], at[1] + 1))
MOVES(split, whole_split(x), FROM2(at[0], (at[1] + 6) % 7))
MOVES(chunk, whole_chunk(x), FROM2(at[0], at[1] == 0 ? 4 : at[1] < 3 ? at[1] + 1 : at[1] - 3))
MOVES(cat, tsr_cat((tsr_tensor *[]){x, tsr_slice(x, 0, 1, 2, 1), x}, 3, 0),
      FROM2(at[0] < 2    ? at[0]
            : at[0] == 2 ? 1
                         : at[0] - 3,
            at[1]))
MOVES(cat_many, many(x), FROM2(at[0], at[1] % 3))
MOVES(cat_strided, tsr_cat((tsr_tensor *[]){tsr_transpose(x, 0, 1), tsr_transpose(x, 0, 1)}, 2, -1),
      FROM2(at[1] % 2, at[0]))
MOVES(stack, tsr_stack((tsr_tensor *[]){x, x}, 2, 1), FROM2(at[0], at[2]))
MOVES(stack_last, tsr_stack((tsr_tensor *[]){x, x}, 2, -1), FROM2(at[0], at[1]))
MOVES(repeat, tsr_repeat(x, 3, INTS(2, 1, 3)), FROM2(at[1], at[2] % 4))
MOVES(repeat_both, tsr_repeat(tsr_transpose(x, 0, 1), 2, INTS(2, 3)), FROM2(at[1] % 2, at[0] % 3))
MOVES(roll, tsr_roll(x, 2, INTS(1, -7), INTS(0, 1)), FROM2((at[0] + 2) % 3, (at[1] + 7) % 5))
MOVES(roll_all, tsr_roll(x, 1, INTS(4), NULL),
      FROM2((at[0] * 5 + at[1] + 11) % 15 / 5, (at[0] * 5 + at[1] + 11) % 15 % 5))
MOVES(flip, tsr_flip(x, 2, INTS(-1, 0)), FROM2(2 - at[0], 4 - at[1]))
MOVES(flip_none, tsr_flip(x, 0, NULL), FROM2(at[0], at[1]))
MOVES(pad, tsr_pad(x, 4, INTS(1, 2, 3, 0), TSR_PAD_CONSTANT, 1), from[0] = at[0] - 3; from[1] = at[1] - 1;
      return from[0] >= 0 && from[1] >= 0 && from[1] < 4;)
MOVES(crop, tsr_pad(x, 4, INTS(-1, -2, 1, -1), TSR_PAD_CONSTANT, 1), from[0] = at[0] - 1; from[1] = at[1] + 1;
      return from[0] >= 0;)
MOVES(reflect, tsr_pad(x, 4, INTS(3, 2, 1, 0), TSR_PAD_REFLECT, 0),
      FROM2(llabs(at[0] - 1), at[1] < 3   ? 3 - at[1]
                              : at[1] < 7 ? at[1] - 3
                                          : 9 - at[1]))
MOVES(replicate, tsr_pad(x, 2, INTS(5, 3), TSR_PAD_REPLICATE, 0),
      FROM2(at[0], at[1] < 5   ? 0
                   : at[1] < 9 ? at[1] - 5
                               : 3))
MOVES(tril, tsr_tril(x, -1), from[0] = at[0]; from[1] = at[1]; from[2] = at[2]; return at[2] - at[1] <= -1;)
MOVES(triu, tsr_triu(x, 1), from[0] = at[0]; from[1] = at[1]; from[2] = at[2]; return at[2] - at[1] >= 1;)
MOVES(triu_none, tsr_triu(x, INT64_MIN), FROM2(at[0], at[1]))
MOVES(take, tsr_take_along_dim(x, tsr_reshape(tsr_arange(tsr_device_of(x), TSR_I64, 4, 4, -1), 2, INTS(1, 4)), 1),
      FROM2(at[0], 4 - at[1]))

/* clang-format off */
static const moved rows[] = {
    {"squeeze", 3, {1, 5, 1}, f_squeeze, 1, {5}, m_squeeze, 0, false},
    {"squeeze of some axes", 3, {1, 5, 1}, f_squeeze_one, 2, {1, 5}, m_squeeze_one, 0, false},
    {"unsqueeze", 2, {3, 5}, f_unsqueeze, 3, {3, 1, 5}, m_unsqueeze, 0, false},
    {"narrow", 2, {3, 5}, f_narrow, 2, {3, 3}, m_narrow, 0, false},
    {"split", 2, {3, 7}, f_split, 2, {3, 7}, m_split, 0, false},
    {"chunk", 2, {3, 5}, f_chunk, 2, {3, 5}, m_chunk, 0, false},
    {"cat", 2, {2, 5}, f_cat, 2, {5, 5}, m_cat, 0, false},
    {"cat of 70", 2, {2, 3}, f_cat_many, 2, {2, 210}, m_cat_many, 0, false},
    {"cat, strided", 2, {2, 3}, f_cat_strided, 2, {3, 4}, m_cat_strided, 0, false},
    {"stack", 2, {2, 3}, f_stack, 3, {2, 2, 3}, m_stack, 0, false},
    {"stack at the end", 2, {2, 3}, f_stack_last, 3, {2, 3, 2}, m_stack_last, 0, false},
    {"repeat", 2, {3, 4}, f_repeat, 3, {2, 3, 12}, m_repeat, 0, false},
    {"repeat, strided", 2, {2, 3}, f_repeat_both, 2, {6, 6}, m_repeat_both, 0, false},
    {"roll", 2, {3, 5}, f_roll, 2, {3, 5}, m_roll, 0, false},
    {"roll of all", 2, {3, 5}, f_roll_all, 2, {3, 5}, m_roll_all, 0, false},
    {"flip", 2, {3, 5}, f_flip, 2, {3, 5}, m_flip, 0, false},
    {"flip of no axis", 2, {3, 5}, f_flip_none, 2, {3, 5}, m_flip_none, 0, false},
    {"pad", 2, {3, 4}, f_pad, 2, {6, 7}, m_pad, 1, false},
    {"pad by less than nothing", 2, {3, 5}, f_crop, 2, {3, 2}, m_crop, 1, false},
    {"pad, reflect", 2, {2, 4}, f_reflect, 2, {3, 9}, m_reflect, 0, false},
    {"pad, replicate", 2, {2, 4}, f_replicate, 2, {2, 12}, m_replicate, 0, false},
    {"tril", 3, {2, 4, 5}, f_tril, 3, {2, 4, 5}, m_tril, 0, true},
    {"triu", 3, {2, 5, 4}, f_triu, 3, {2, 5, 4}, m_triu, 0, true},
    {"triu of everything", 2, {3, 3}, f_triu_none, 2, {3, 3}, m_triu_none, 0, true},
    {"take_along_dim", 2, {3, 5}, f_take, 2, {3, 4}, m_take, 0, false},
};
/* clang-format on */

static const tsr_dtype all_dtypes[] = {TSR_F32, TSR_F16, TSR_BF16, TSR_F64, TSR_I32, TSR_I64, TSR_U8, TSR_BOOL};

/* A device that is tested with the kernels for processors and with those for GPUs has every dtype with the former; f32, f64 and u8 show that
 * the latter are launched right. (Drivers take a second for each kernel that they compile.) */
static bool takes(const run *r, int dtype)
{
    const bool again = strstr(r->name, "for GPUs") != NULL && strncmp(r->name, "cuda", 4) != 0;
    return run_has(r, all_dtypes[dtype]) && (!again || dtype % 3 == 0);
}

static void same(const run *r, const char *name, const char *what, tsr_tensor *got, const double *expected)
{
    if (got == NULL)
        fail_msg("%s%s on %s: %s", name, what, r->name, tsr_last_error());
    double *v = values_of(r, tsr_dtype_of(got) == TSR_F64 ? got : tsr_cast(got, TSR_F32));
    for (int64_t i = 0; i < tsr_numel(got); i++)
        if (v[i] != expected[i])
            fail_msg("%s%s %s on %s: element %lld: %.9g for %.9g", name, what, tsr_dtype_name(tsr_dtype_of(got)),
                     r->name, (long long)i, v[i], expected[i]);
    free(v);
}

static int64_t place_of(int rank, const int64_t *shape, const int64_t *at)
{
    int64_t place = 0;
    for (int i = 0; i < rank; i++) {
        assert_true(at[i] >= 0 && at[i] < shape[i]);
        place = place * shape[i] + at[i];
    }
    return place;
}

static void check(const run *r, const moved *c, tsr_dtype dtype)
{
    double *v, *g, expected[512], slope[512] = {0};
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = random_tensor(r, TSR_F32, c->rank, c->shape, INTEGERS, 61, &v);
    free(v);
    x = tsr_detach(tsr_cast(dtype == TSR_U8 ? tsr_abs(x) : x, dtype));
    require(r, x);
    v = values_of(r, tsr_cast(x, TSR_F32));
    if (dtype <= TSR_F64)
        require_ok(r, tsr_set_requires_grad(x, true));
    tsr_tensor *y = c->f(x);
    if (y == NULL)
        fail_msg("%s on %s: %s", c->name, r->name, tsr_last_error());
    assert_int_equal(tsr_dtype_of(y), dtype);
    const int64_t n = count_of(c->out_rank, c->out);
    if (tsr_rank(y) != c->out_rank || memcmp(tsr_shape(y), c->out, sizeof *c->out * (size_t)c->out_rank) != 0)
        fail_msg("%s on %s: another shape", c->name, r->name);
    tsr_tensor *dy = random_tensor(r, dtype <= TSR_F64 ? dtype : TSR_F32, c->out_rank, c->out, INTEGERS, 62, &g);
    assert_true(n <= 512);
    for (int64_t i = 0; i < n; i++) {
        int64_t at[5], from[5], left = i;
        for (int d = c->out_rank - 1; d >= 0; d--) {
            at[d] = left % c->out[d];
            left /= c->out[d];
        }
        const bool has = c->map(at, from);
        const int64_t place = has ? place_of(c->rank, c->shape, from) : 0;
        expected[i] = has ? v[place] : c->fill;
        if (has)
            slope[place] += g[i];
    }
    same(r, c->name, "", y, expected);
    if (dtype <= TSR_F64) {
        require_ok(r, tsr_backward_from(y, dy, false));
        same(r, c->name, "'", tsr_grad(x), slope);
        tsr_clear_grad(x);
    }
    free(v), free(g);
    require_ok(r, tsr_scope_end());
}

static void moves_on(const run *r)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int d = 0; d < (rows[i].arithmetic ? 6 : 8); d++)
            if (takes(r, d))
                check(r, &rows[i], all_dtypes[d]);
}

static void test_moves(void **state)
{
    (void)state;
    on_every_device(moves_on);
}

/* ---- sort and topk ---- */

static int compare_places(const double *v, int64_t a, int64_t b, bool descending)
{
    const bool less = v[a] < v[b] || (isnan(v[b]) && !isnan(v[a])), more = v[a] > v[b] || (isnan(v[a]) && !isnan(v[b]));
    return less ? (descending ? 1 : -1) : more ? (descending ? -1 : 1) : a < b ? -1 : 1;
}

static void check_sort(const run *r, tsr_dtype dtype, int64_t n, bool descending, int axis)
{
    const int64_t shape[] = {axis == 0 ? n : 3, axis == 0 ? 3 : n}, step = axis == 0 ? 3 : 1, k = n / 2;
    double *v, *g;
    tsr_tensor *values, *places, *best, *best_places;
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = random_tensor(r, TSR_F32, 2, shape, INTEGERS, 71, &v);
    if (dtype <= TSR_F64 && n > 70) /* a NaN and infinities among them */
        for (int i = 0; i < 3; i++)
            require_ok(r, tsr_fill(tsr_slice(tsr_reshape(x, 1, (int64_t[]){3 * n}), 0, 7 * i + 5, 7 * i + 6, 1),
                                   i == 0   ? (double)NAN
                                   : i == 1 ? (double)INFINITY
                                            : -(double)INFINITY));
    free(v);
    x = tsr_detach(tsr_cast(x, dtype));
    require(r, x);
    v = values_of(r, tsr_cast(x, TSR_F32));
    if (dtype <= TSR_F64)
        require_ok(r, tsr_set_requires_grad(x, true));
    require_ok(r, tsr_sort(x, axis, descending, &values, &places));
    require_ok(r, tsr_topk(x, k, axis, descending, &best, &best_places));
    assert_int_equal(tsr_dtype_of(places), TSR_I64);
    int64_t *p = malloc(sizeof *p * (size_t)(3 * n)), *q = malloc(sizeof *q * (size_t)(3 * n));
    double *slope = calloc((size_t)(3 * n), sizeof *slope);
    assert_true(p != NULL && q != NULL && slope != NULL);
    require_ok(r, tsr_read(places, p, sizeof *p * (size_t)(3 * n)));
    require_ok(r, tsr_read(best_places, q, sizeof *q * (size_t)(3 * k)));
    double *got = values_of(r, tsr_cast(values, TSR_F32)), *top = values_of(r, tsr_cast(best, TSR_F32));
    tsr_tensor *dy = random_tensor(r, dtype <= TSR_F64 ? dtype : TSR_F32, 2, shape, INTEGERS, 72, &g);
    for (int line = 0; line < 3; line++) {
        const int64_t first = axis == 0 ? line : line * n, top_first = axis == 0 ? line : line * k;
        static double column[4500];
        for (int64_t i = 0; i < n; i++)
            column[i] = v[first + i * step];
        for (int64_t i = 0; i < n; i++) {
            const int64_t at = first + i * step, place = p[at];
            assert_true(place >= 0 && place < n);
            assert_true(got[at] == column[place] || (isnan(got[at]) && isnan(column[place])));
            if (i > 0 && compare_places(column, p[at - step], place, descending) >= 0)
                fail_msg("sort %s on %s: n %lld: %g (from %lld) before %g (from %lld)", tsr_dtype_name(dtype), r->name,
                         (long long)n, column[p[at - step]], (long long)p[at - step], column[place], (long long)place);
            if (i < k) {
                assert_true(q[top_first + i * step] == place);
                assert_true(top[top_first + i * step] == got[at] || isnan(got[at]));
            }
            slope[first + place * step] = g[at];
        }
    }
    if (dtype <= TSR_F64) {
        require_ok(r, tsr_backward_from(values, dy, false));
        same(r, "sort", "'", tsr_grad(x), slope);
        tsr_clear_grad(x);
    }
    free(v), free(g), free(p), free(q), free(got), free(top), free(slope);
    require_ok(r, tsr_scope_end());
}

static void sort_on(const run *r)
{
    static const int64_t sizes[] = {1, 2, 63, 65, 129, 570, 4500}; /* the last of several work-groups a row */
    for (int d = 0; d < 6; d++)
        for (int i = 0; i < 7 && takes(r, d); i++)
            if (d == 0 || i == 4 || i == 5)
                check_sort(r, all_dtypes[d], sizes[i], i % 2 == 0, (i + d) % 3 == 0 ? 0 : 1);
    static const int64_t classes[] = {2, 0, -1, 3, 1};
    int64_t hot[15];
    require_ok(r, tsr_scope_begin());
    tsr_tensor *y = tsr_one_hot(tsr_from_data(r->device, TSR_I64, 1, (int64_t[]){5}, classes), 3);
    require(r, y);
    require_ok(r, tsr_read(y, hot, sizeof hot));
    for (int i = 0; i < 15; i++)
        assert_true(hot[i] == (classes[i / 3] == i % 3));
    tsr_tensor *values, *places;
    require_ok(r, tsr_sort(tsr_full(r->device, TSR_F32, 0, NULL, 3), 0, false, &values, &places)); /* a scalar */
    assert_true(tsr_rank(values) == 0 && tsr_rank(places) == 0);
    require_ok(r, tsr_sort(tsr_zeros(r->device, TSR_F32, 2, (int64_t[]){3, 0}), 1, false, &values, &places));
    assert_true(tsr_numel(values) == 0);
    require_ok(r, tsr_scope_end());
}

static void test_sort(void **state)
{
    (void)state;
    on_every_device(sort_on);
}

/* ---- by name, into given tensors, and errors ---- */

static void test_names_and_errors(void **state)
{
    (void)state;
    tsr_device *cpu = tsr_device_open("cpu");
    assert_non_null(cpu);
    tsr_tensor *parts[2];
    int count;
    tsr_scope_begin();
    tsr_tensor *x = tsr_reshape(tsr_arange(cpu, TSR_F32, 6, 0, 1), 2, INTS(2, 3)), *out = NULL;
    float v[6];
    const tsr_attr split[] = {{.name = "axis", .kind = TSR_ATTR_INT, .i = 1},
                              {.name = "size", .kind = TSR_ATTR_INT, .i = 2},
                              {.name = "index", .kind = TSR_ATTR_INT, .i = 1}};
    assert_int_equal(tsr_op_call("split", &x, 1, &out, 1, split, 3), TSR_OK);
    assert_int_equal(tsr_read_f32(out, v, 2), TSR_OK);
    assert_true(v[0] == 2 && v[1] == 5);
    tsr_tensor *given = tsr_zeros(cpu, TSR_F32, 2, INTS(2, 3));
    const tsr_attr axes = {.name = "axes", .kind = TSR_ATTR_INTS, .values = INTS(1), .count = 1};
    assert_int_equal(tsr_op_call("flip", &x, 1, &given, 1, &axes, 1), TSR_OK);
    assert_int_equal(tsr_read_f32(given, v, 6), TSR_OK);
    assert_true(v[0] == 2 && v[5] == 3);
    tsr_tensor *wrong = tsr_zeros(cpu, TSR_F32, 1, INTS(6));
    assert_int_equal(tsr_op_call("flip", &x, 1, &wrong, 1, &axes, 1), TSR_INVALID_ARGUMENT);
    assert_int_equal(tsr_op_call("flip", &x, 1, &x, 1, &axes, 1), TSR_OK); /* in place, by way of a temporary */
    assert_int_equal(tsr_read_f32(x, v, 6), TSR_OK);
    assert_true(v[0] == 2 && v[2] == 0);

    assert_null(tsr_cat((tsr_tensor *[]){x, wrong}, 2, 0));
    assert_non_null(strstr(tsr_last_error(), "[6]"));
    assert_null(tsr_cat(NULL, 0, 0));
    assert_null(tsr_cat((tsr_tensor *[]){x, NULL}, 2, 0));
    assert_null(tsr_stack((tsr_tensor *[]){x, wrong}, 2, 0));
    assert_null(tsr_cat((tsr_tensor *[]){x, tsr_cast(x, TSR_I32)}, 2, 0));
    assert_null(tsr_narrow(x, 1, 2, 2));
    assert_null(tsr_narrow(x, 1, -4, 1));
    assert_null(tsr_unsqueeze(x, 3));
    assert_null(tsr_squeeze(x, (int[]){2}, 1));
    assert_null(tsr_repeat(x, 1, INTS(2)));
    assert_null(tsr_repeat(x, 2, INTS(2, -1)));
    assert_null(tsr_pad(x, 2, INTS(3, 0), TSR_PAD_REFLECT, 0));
    assert_non_null(strstr(tsr_last_error(), "reflection"));
    assert_null(tsr_pad(x, 3, INTS(1, 1, 1), TSR_PAD_CONSTANT, 0));
    assert_null(tsr_pad(x, 2, INTS(-4, 0), TSR_PAD_CONSTANT, 0));
    assert_null(tsr_roll(x, 2, INTS(1, 1), NULL));
    assert_null(tsr_tril(wrong, 0));
    assert_null(tsr_one_hot(x, 3));
    assert_null(tsr_take_along_dim(x, tsr_zeros(cpu, TSR_I64, 2, INTS(5, 1)), 1));
    assert_int_equal(tsr_split(x, 1, 1, 2, parts, &count), TSR_OUT_OF_RANGE);
    assert_int_equal(tsr_split(x, 1, 0, 2, parts, &count), TSR_OUT_OF_RANGE);
    assert_int_equal(tsr_chunk(x, 2, 1, 2, parts, &count), TSR_OUT_OF_RANGE);
    assert_int_equal(tsr_topk(x, 4, 1, true, &parts[0], &parts[1]), TSR_OUT_OF_RANGE);
    tsr_tensor *none = tsr_cat((tsr_tensor *[]){tsr_zeros(cpu, TSR_F32, 2, INTS(2, 0)), x}, 2, 1);
    assert_non_null(none);
    assert_int_equal(tsr_numel(none), 6);
    assert_int_equal(tsr_numel(tsr_repeat(x, 2, INTS(0, 2))), 0);
    tsr_scope_end();
    tsr_device_close(cpu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_moves),
        cmocka_unit_test(test_sort),
        cmocka_unit_test(test_names_and_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
