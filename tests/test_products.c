/* matmul and linear against sums in double precision, forward and backward. */
#include "tests/op_reference.h"

/* A strided matrix on the host: element (i, j) of batch z. */
typedef struct host_matrix {
    const double *v;
    int64_t batch, row, col;
} host_matrix;

static void reference(host_matrix a, host_matrix b, int64_t batches, int64_t m, int64_t n, int64_t k, double *c,
                      double *sums)
{
    for (int64_t z = 0; z < batches; z++)
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++) {
                double sum = 0, size = 0;
                for (int64_t t = 0; t < k; t++) {
                    const double x =
                        a.v[z * a.batch + i * a.row + t * a.col] * b.v[z * b.batch + t * b.row + j * b.col];
                    sum += x;
                    size += fabs(x);
                }
                c[(z * m + i) * n + j] = sum;
                sums[(z * m + i) * n + j] = size;
            }
}

static void check_matrix(const run *r, tsr_dtype dtype, int64_t m, int64_t n, int64_t k, bool ta, bool tb, sample s)
{
    double *va, *vb, *c = malloc(sizeof(double) * (size_t)(m * n)), *sums = malloc(sizeof(double) * (size_t)(m * n));
    char what[96];
    snprintf(what, sizeof what, "matmul %lldx%lldx%lld%s%s", (long long)m, (long long)n, (long long)k, ta ? " at" : "",
             tb ? " bt" : "");
    require_ok(r, tsr_scope_begin());
    tsr_tensor *a = random_tensor(r, dtype, 2, ta ? (int64_t[]){k, m} : (int64_t[]){m, k}, s, 1, &va);
    tsr_tensor *b = random_tensor(r, dtype, 2, tb ? (int64_t[]){n, k} : (int64_t[]){k, n}, s, 2, &vb);
    reference((host_matrix){va, 0, ta ? 1 : k, ta ? m : 1}, (host_matrix){vb, 0, tb ? 1 : n, tb ? k : 1}, 1, m, n, k, c,
              sums);
    tsr_tensor *y = tsr_matmul(ta ? tsr_transpose(a, 0, 1) : a, tb ? tsr_transpose(b, 0, 1) : b);
    require(r, y);
    compare(r, what, y, c, sums, (double)k, s);
    require_ok(r, tsr_scope_end());
    free(va), free(vb), free(c), free(sums);
}

static void matrices(const run *r)
{
    static const int64_t sizes[][3] = {{1, 1, 1},    {3, 5, 7},     {1, 16, 9},   {8, 15, 16},
                                       {16, 16, 1},  {17, 33, 65},  {64, 64, 64}, {65, 129, 40},
                                       {7, 10, 300}, {128, 31, 10}, {2, 3, 5000}};
    for (size_t d = 0; d < 4; d++)
        for (size_t i = 0; run_has(r, float_dtypes[d]) && i < sizeof sizes / sizeof sizes[0]; i++)
            for (int t = 0; t < 4; t++)
                for (int s = INTEGERS; s <= REALS; s++)
                    check_matrix(r, float_dtypes[d], sizes[i][0], sizes[i][1], sizes[i][2], (t & 1) != 0, (t & 2) != 0,
                                 (sample)s);
}

static void test_matrices(void **state)
{
    (void)state;
    on_every_device(matrices);
}

/* So large, or at such distances, that operands are copied into panels first. */
static void large_matrices(const run *r)
{
    static const int64_t sizes[][3] = {{100, 580, 1000}, {97, 512, 256}, {130, 1030, 520}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int t = 0; t < 4; t++)
            check_matrix(r, TSR_F32, sizes[i][0], sizes[i][1], sizes[i][2], (t & 1) != 0, (t & 2) != 0,
                         t % 3 == 0 ? REALS : INTEGERS);
}

static void test_large_matrices(void **state)
{
    (void)state;
    on_every_device(large_matrices);
}

/* Views whose strides no product can use directly, or just can. */
static void views(const run *r)
{
    double *va, *vb, c[12 * 20], sums[12 * 20];
    require_ok(r, tsr_scope_begin());
    tsr_tensor *a = random_tensor(r, TSR_F32, 2, (int64_t[]){30, 50}, INTEGERS, 3, &va);
    tsr_tensor *b = random_tensor(r, TSR_F32, 2, (int64_t[]){40, 60}, INTEGERS, 4, &vb);

    /* rows of a slice lie further apart than they are long */
    tsr_tensor *y = tsr_matmul(tsr_slice(tsr_slice(a, 0, 3, 15, 1), 1, 2, 12, 1),
                               tsr_slice(tsr_slice(b, 0, 5, 15, 1), 1, 7, 27, 1));
    require(r, y);
    reference((host_matrix){va + 3 * 50 + 2, 0, 50, 1}, (host_matrix){vb + 5 * 60 + 7, 0, 60, 1}, 1, 12, 20, 10, c,
              sums);
    compare(r, "matmul of slices", y, c, sums, 10, INTEGERS);

    /* every second column */
    y = tsr_matmul(tsr_slice(tsr_slice(a, 0, 0, 12, 1), 1, 0, 20, 2),
                   tsr_slice(tsr_slice(b, 0, 0, 10, 1), 1, 0, 40, 2));
    require(r, y);
    reference((host_matrix){va, 0, 50, 2}, (host_matrix){vb, 0, 60, 2}, 1, 12, 20, 10, c, sums);
    compare(r, "matmul of steps", y, c, sums, 10, INTEGERS);

    /* one row, repeated */
    y = tsr_matmul(tsr_expand(tsr_slice(tsr_slice(a, 0, 4, 5, 1), 1, 0, 10, 1), 2, (int64_t[]){12, 10}),
                   tsr_slice(tsr_slice(b, 0, 0, 10, 1), 1, 0, 20, 1));
    require(r, y);
    reference((host_matrix){va + 4 * 50, 0, 0, 1}, (host_matrix){vb, 0, 60, 1}, 1, 12, 20, 10, c, sums);
    compare(r, "matmul of an expanded row", y, c, sums, 10, INTEGERS);
    require_ok(r, tsr_scope_end());
    free(va), free(vb);
}

static void test_views(void **state)
{
    (void)state;
    on_every_device(views);
}

/* [2, 1, 3, 4, 5] times [7, 1, 5, 6]: three kinds of batches. */
static void batches(const run *r)
{
    double *va, *vb, *expected = malloc(sizeof(double) * 2 * 7 * 3 * 24),
                     *sums = malloc(sizeof(double) * 2 * 7 * 3 * 24);
    require_ok(r, tsr_scope_begin());
    tsr_tensor *a = random_tensor(r, TSR_F32, 5, (int64_t[]){2, 1, 3, 4, 5}, INTEGERS, 5, &va);
    tsr_tensor *b = random_tensor(r, TSR_F32, 4, (int64_t[]){7, 1, 5, 6}, INTEGERS, 6, &vb);
    tsr_tensor *y = tsr_matmul(a, b);
    require(r, y);
    assert_int_equal(tsr_rank(y), 5);
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 7; j++)
            for (int l = 0; l < 3; l++)
                reference((host_matrix){va + (i * 3 + l) * 20, 0, 5, 1}, (host_matrix){vb + j * 30, 0, 6, 1}, 1, 4, 6,
                          5, expected + ((i * 7 + j) * 3 + l) * 24, sums);
    compare(r, "matmul of three kinds of batches", y, expected, sums, 5, INTEGERS);
    free(va), free(vb);

    /* two kinds without a copy: [4, 3, 5, 6] times [3, 6, 2], and with the matrices transposed */
    a = random_tensor(r, TSR_F32, 4, (int64_t[]){4, 3, 5, 6}, INTEGERS, 7, &va);
    b = random_tensor(r, TSR_F32, 3, (int64_t[]){3, 2, 6}, INTEGERS, 8, &vb);
    y = tsr_matmul(a, tsr_transpose(b, 1, 2));
    require(r, y);
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 3; j++)
            reference((host_matrix){va + (i * 3 + j) * 30, 0, 6, 1}, (host_matrix){vb + j * 12, 0, 1, 6}, 1, 5, 2, 6,
                      expected + (i * 3 + j) * 10, sums);
    compare(r, "matmul of two kinds of batches", y, expected, sums, 6, INTEGERS);

    /* batches times one matrix */
    y = tsr_matmul(a, tsr_transpose(tsr_reshape(tsr_slice(b, 0, 1, 2, 1), 2, (int64_t[]){2, 6}), 0, 1));
    require(r, y);
    reference((host_matrix){va, 0, 6, 1}, (host_matrix){vb + 12, 0, 1, 6}, 1, 60, 2, 6, expected, sums);
    compare(r, "matmul of batches with one matrix", y, expected, sums, 6, INTEGERS);

    /* one matrix times batches */
    y = tsr_matmul(tsr_reshape(tsr_slice(b, 0, 1, 2, 1), 2, (int64_t[]){2, 6}), tsr_transpose(a, 2, 3));
    require(r, y);
    reference((host_matrix){vb + 12, 0, 6, 1}, (host_matrix){va, 30, 1, 6}, 12, 2, 5, 6, expected, sums);
    compare(r, "matmul of one matrix with batches", y, expected, sums, 6, INTEGERS);
    require_ok(r, tsr_scope_end());
    free(va), free(vb), free(expected), free(sums);
}

static void test_batches(void **state)
{
    (void)state;
    on_every_device(batches);
}

static void vectors(const run *r)
{
    double *va, *vb, c[64], sums[64];
    require_ok(r, tsr_scope_begin());
    tsr_tensor *a = random_tensor(r, TSR_F32, 2, (int64_t[]){6, 9}, INTEGERS, 9, &va);
    tsr_tensor *x = random_tensor(r, TSR_F32, 1, (int64_t[]){9}, INTEGERS, 10, &vb);
    tsr_tensor *y = tsr_matmul(a, x);
    require(r, y);
    assert_int_equal(tsr_rank(y), 1);
    reference((host_matrix){va, 0, 9, 1}, (host_matrix){vb, 0, 1, 0}, 1, 6, 1, 9, c, sums);
    compare(r, "matrix times vector", y, c, sums, 9, INTEGERS);
    y = tsr_matmul(x, tsr_transpose(a, 0, 1));
    require(r, y);
    assert_int_equal(tsr_rank(y), 1);
    compare(r, "vector times matrix", y, c, sums, 9, INTEGERS);
    y = tsr_matmul(x, x);
    require(r, y);
    assert_int_equal(tsr_rank(y), 0);
    reference((host_matrix){vb, 0, 0, 1}, (host_matrix){vb, 0, 1, 0}, 1, 1, 1, 9, c, sums);
    compare(r, "vector times vector", y, c, sums, 9, INTEGERS);

    /* nothing to sum over, and nothing at all */
    y = tsr_matmul(tsr_empty(r->device, TSR_F32, 2, (int64_t[]){3, 0}),
                   tsr_empty(r->device, TSR_F32, 2, (int64_t[]){0, 4}));
    require(r, y);
    memset(c, 0, sizeof c);
    compare(r, "matmul over nothing", y, c, c, 0, INTEGERS);
    y = tsr_matmul(tsr_empty(r->device, TSR_F32, 2, (int64_t[]){0, 3}),
                   tsr_empty(r->device, TSR_F32, 2, (int64_t[]){3, 4}));
    require(r, y);
    assert_int_equal(tsr_numel(y), 0);
    require_ok(r, tsr_scope_end());
    free(va), free(vb);
}

static void test_vectors(void **state)
{
    (void)state;
    on_every_device(vectors);
}

/* Gradients of batched, broadcast and plain products; small integers, so they are exact. */
static void matmul_gradients(const run *r)
{
    double *va, *vb, *vg, *expected = calloc(2 * 4 * 5 * 8, sizeof(double)),
                          *sums = calloc(2 * 4 * 5 * 8, sizeof(double));
    require_ok(r, tsr_scope_begin());
    tsr_tensor *a = random_tensor(r, TSR_F32, 3, (int64_t[]){2, 4, 5}, INTEGERS, 11, &va);
    tsr_tensor *b = random_tensor(r, TSR_F32, 2, (int64_t[]){5, 6}, INTEGERS, 12, &vb);
    tsr_tensor *g = random_tensor(r, TSR_F32, 3, (int64_t[]){2, 4, 6}, INTEGERS, 13, &vg);
    require_ok(r, tsr_set_requires_grad(a, true));
    require_ok(r, tsr_set_requires_grad(b, true));
    require_ok(r, tsr_backward_from(tsr_matmul(a, b), g, false));
    reference((host_matrix){vg, 24, 6, 1}, (host_matrix){vb, 0, 1, 6}, 2, 4, 5, 6, expected, sums);
    compare(r, "d a", tsr_grad(a), expected, sums, 6, INTEGERS);
    reference((host_matrix){va, 0, 1, 5}, (host_matrix){vg, 0, 6, 1}, 1, 5, 6, 8, expected, sums);
    compare(r, "d b", tsr_grad(b), expected, sums, 8, INTEGERS);
    free(vb);

    /* b with batches, a without */
    tsr_tensor *w = tsr_detach(tsr_reshape(tsr_slice(tsr_detach(a), 0, 1, 2, 1), 2, (int64_t[]){4, 5}));
    b = random_tensor(r, TSR_F32, 3, (int64_t[]){2, 5, 6}, INTEGERS, 14, &vb);
    require_ok(r, tsr_set_requires_grad(w, true));
    require_ok(r, tsr_set_requires_grad(b, true));
    require_ok(r, tsr_backward_from(tsr_matmul(w, b), g, false));
    double part[2 * 20];
    reference((host_matrix){vg, 24, 6, 1}, (host_matrix){vb, 30, 1, 6}, 2, 4, 5, 6, part, sums);
    for (int i = 0; i < 20; i++)
        expected[i] = part[i] + part[20 + i];
    compare(r, "d w", tsr_grad(w), expected, sums, 12, INTEGERS);
    reference((host_matrix){va + 20, 0, 1, 5}, (host_matrix){vg, 24, 6, 1}, 2, 5, 6, 4, expected, sums);
    compare(r, "d b of batches", tsr_grad(b), expected, sums, 4, INTEGERS);
    free(vb), free(vg);

    /* vectors */
    tsr_tensor *x = random_tensor(r, TSR_F32, 1, (int64_t[]){5}, INTEGERS, 15, &vb);
    tsr_tensor *gx = random_tensor(r, TSR_F32, 1, (int64_t[]){4}, INTEGERS, 16, &vg);
    tsr_clear_grad(w);
    require_ok(r, tsr_set_requires_grad(x, true));
    require_ok(r, tsr_backward_from(tsr_matmul(w, x), gx, false));
    reference((host_matrix){va + 20, 0, 1, 5}, (host_matrix){vg, 0, 1, 0}, 1, 5, 1, 4, expected, sums);
    compare(r, "d x", tsr_grad(x), expected, sums, 4, INTEGERS);
    reference((host_matrix){vg, 0, 1, 0}, (host_matrix){vb, 0, 0, 1}, 1, 4, 5, 1, expected, sums);
    compare(r, "d w of a vector", tsr_grad(w), expected, sums, 1, INTEGERS);
    require_ok(r, tsr_scope_end());
    free(va), free(vb), free(vg), free(expected), free(sums);
}

static void test_matmul_gradients(void **state)
{
    (void)state;
    on_every_device(matmul_gradients);
}

static void check_linear(const run *r, tsr_dtype dtype, int64_t m, int64_t in, int64_t out, bool bias, sample s)
{
    const int64_t shape[3] = {2, m, in};
    double *vx, *vw, *vb = NULL, *vg;
    const size_t most = sizeof(double) * (size_t)(2 * m * (in + out) + in * out + out);
    double *expected = calloc(1, most), *sums = calloc(1, most);
    char what[96];
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = random_tensor(r, dtype, 3, shape, s, 21, &vx);
    tsr_tensor *w = random_tensor(r, dtype, 2, (int64_t[]){out, in}, s, 22, &vw);
    tsr_tensor *b = bias ? random_tensor(r, dtype, 1, (int64_t[]){out}, s, 23, &vb) : NULL;
    tsr_tensor *g = random_tensor(r, dtype, 3, (int64_t[]){2, m, out}, s, 24, &vg);
    require_ok(r, tsr_set_requires_grad(x, true));
    require_ok(r, tsr_set_requires_grad(w, true));
    if (bias)
        require_ok(r, tsr_set_requires_grad(b, true));
    tsr_tensor *y = tsr_linear(x, w, b);
    require(r, y);
    snprintf(what, sizeof what, "linear %lldx%lld to %lld%s", (long long)m, (long long)in, (long long)out,
             bias ? " + bias" : "");
    reference((host_matrix){vx, 0, in, 1}, (host_matrix){vw, 0, 1, in}, 1, 2 * m, out, in, expected, sums);
    for (int64_t i = 0; bias && i < 2 * m * out; i++) {
        expected[i] += vb[i % out];
        sums[i] += fabs(vb[i % out]);
    }
    compare(r, what, y, expected, sums, (double)in + 1, s);

    require_ok(r, tsr_backward_from(y, g, false));
    reference((host_matrix){vg, 0, out, 1}, (host_matrix){vw, 0, in, 1}, 1, 2 * m, in, out, expected, sums);
    compare(r, "d x of linear", tsr_grad(x), expected, sums, (double)out, s);
    reference((host_matrix){vg, 0, 1, out}, (host_matrix){vx, 0, in, 1}, 1, out, in, 2 * m, expected, sums);
    compare(r, "d weight of linear", tsr_grad(w), expected, sums, 2 * (double)m, s);
    if (bias) {
        const double one = 1;
        reference((host_matrix){&one, 0, 0, 0}, (host_matrix){vg, 0, out, 1}, 1, 1, out, 2 * m, expected, sums);
        compare(r, "d bias of linear", tsr_grad(b), expected, sums, 2 * (double)m, s);
    }
    require_ok(r, tsr_scope_end());
    free(vx), free(vw), free(vb), free(vg), free(expected), free(sums);
}

static void linears(const run *r)
{
    static const int64_t sizes[][3] = {{1, 1, 1}, {3, 5, 10}, {32, 40, 17}, {5, 130, 67}};
    for (size_t d = 0; d < 4; d++)
        for (size_t i = 0; run_has(r, float_dtypes[d]) && i < sizeof sizes / sizeof sizes[0]; i++)
            for (int s = INTEGERS; s <= REALS; s++)
                for (int bias = 0; bias < 2; bias++)
                    check_linear(r, float_dtypes[d], sizes[i][0], sizes[i][1], sizes[i][2], bias != 0, (sample)s);
}

static void test_linear(void **state)
{
    (void)state;
    on_every_device(linears);
}

/* The same product twice gives the same bits. */
static void repeats(const run *r)
{
    double *va, *vb;
    require_ok(r, tsr_scope_begin());
    tsr_tensor *a = random_tensor(r, TSR_F32, 2, (int64_t[]){150, 700}, REALS, 31, &va);
    tsr_tensor *b = random_tensor(r, TSR_F32, 2, (int64_t[]){700, 90}, REALS, 32, &vb);
    require(r, tsr_matmul(a, b));
    double *first = values_of(r, tsr_matmul(a, b));
    for (int i = 0; i < 5; i++) {
        double *again = values_of(r, tsr_matmul(a, b));
        assert_memory_equal(first, again, sizeof(double) * 150 * 90);
        free(again);
    }
    require_ok(r, tsr_scope_end());
    free(va), free(vb), free(first);
}

static void test_repeats(void **state)
{
    (void)state;
    on_every_device(repeats);
}

static void expect_error(tsr_tensor *y, const char *sentence)
{
    assert_null(y);
    assert_string_equal(tsr_last_error(), sentence);
    tsr_clear_error();
}

static void test_errors(void **state)
{
    (void)state;
    tsr_device *device = tsr_device_open("cpu");
    assert_non_null(device);
    assert_int_equal(tsr_scope_begin(), TSR_OK);
    tsr_tensor *a = tsr_zeros(device, TSR_F32, 2, (int64_t[]){64, 784});
    tsr_tensor *b = tsr_zeros(device, TSR_F32, 2, (int64_t[]){512, 10});
    tsr_tensor *scalar = tsr_zeros(device, TSR_F32, 0, NULL),
               *half = tsr_zeros(device, TSR_F16, 2, (int64_t[]){784, 2});
    tsr_tensor *three = tsr_zeros(device, TSR_F32, 3, (int64_t[]){3, 784, 1}),
               *two = tsr_zeros(device, TSR_F32, 3, (int64_t[]){2, 1, 784});
    assert_true(a != NULL && b != NULL && scalar != NULL && half != NULL && three != NULL && two != NULL);
    expect_error(tsr_matmul(a, b), "matmul: inner sizes differ: a is [64, 784], b is [512, 10]");
    expect_error(tsr_matmul(a, scalar), "matmul: a scalar is no matrix: a is [64, 784], b is []");
    expect_error(tsr_matmul(two, three),
                 "matmul: the leading sizes cannot be broadcast: a is [2, 1, 784], b is [3, 784, 1]");
    assert_null(tsr_matmul(a, half));
    assert_non_null(strstr(tsr_last_error(), "dtypes differ"));
    tsr_tensor *index = tsr_zeros(device, TSR_I64, 2, (int64_t[]){784, 2});
    assert_null(tsr_matmul(index, index));
    assert_int_equal(tsr_last_status(), TSR_UNSUPPORTED);
    expect_error(tsr_linear(a, b, NULL), "linear: inner sizes differ: x is [64, 784], weight is [512, 10]");
    expect_error(tsr_linear(a, scalar, NULL),
                 "linear: weight is [out, in], x has at least one dimension: x is [64, 784], weight is []");
    tsr_tensor *w = tsr_zeros(device, TSR_F32, 2, (int64_t[]){10, 784});
    expect_error(tsr_linear(a, w, tsr_zeros(device, TSR_F32, 1, (int64_t[]){9})),
                 "linear: bias is [9], but weight [10, 784] gives 10 columns");
    tsr_clear_error();
    assert_null(tsr_matmul(NULL, a));
    assert_string_equal(tsr_last_error(), "");
    assert_int_equal(tsr_scope_end(), TSR_OK);
    tsr_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matrices),         cmocka_unit_test(test_views),
        cmocka_unit_test(test_batches),          cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_matmul_gradients), cmocka_unit_test(test_linear),
        cmocka_unit_test(test_repeats),          cmocka_unit_test(test_large_matrices),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
