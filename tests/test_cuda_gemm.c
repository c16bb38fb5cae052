/* Products through cuBLASLt: the translation from our row-major products to its column-major ones. Against the fake library of
 * tests/fake_cuda this shows that operands, transpositions, strides and sums are named rightly; on a real device it also shows
 * that the products are right. Integers throughout, so that results must be exact. */
#include "fake_cuda/cuda_test.h"

#include "tessera/tensor.h"

enum { BYTES = 1 << 16 };

static size_t size_of(tsr_dtype dtype)
{
    return dtype == TSR_F64 ? 8 : dtype == TSR_F32 ? 4 : 2;
}

/* Small integers as f16 and bf16, and back; exact where the type holds the number. */
static void put(tsr_dtype dtype, void *at, size_t i, double value)
{
    const float f = (float)value;
    uint32_t bits;
    uint16_t half;

    memcpy(&bits, &f, 4);
    switch (dtype) {
    case TSR_F64: ((double *)at)[i] = value; return;
    case TSR_F32: ((float *)at)[i] = f; return;
    case TSR_BF16: half = (uint16_t)(bits >> 16); break;
    default:
        half = (uint16_t)(bits >> 16 & 0x8000);
        if (value != 0)
            half = (uint16_t)(half | ((bits & 0x7fffffff) - 0x38000000) >> 13);
        break;
    }
    ((uint16_t *)at)[i] = half;
}

static double get(tsr_dtype dtype, const void *at, size_t i)
{
    uint16_t half;
    uint32_t bits;
    float f;

    if (dtype == TSR_F64)
        return ((const double *)at)[i];
    if (dtype == TSR_F32)
        return (double)((const float *)at)[i];
    half = ((const uint16_t *)at)[i];
    if (dtype == TSR_BF16)
        bits = (uint32_t)half << 16;
    else if (half & 0x7fff)
        bits = (uint32_t)(half & 0x8000) << 16 | (((uint32_t)(half & 0x7fff) << 13) + 0x38000000);
    else
        bits = 0;
    memcpy(&f, &bits, 4);
    return (double)f;
}

/* ---- the fake driver's version of the rounding kernel ------------------------------------------------------------- */

typedef struct narrow_params {
    uint32_t rows, columns;
    float beta;
    uint32_t reserved;
    uint64_t leading, stride;
} narrow_params;

static void host_narrow(const fake_cuda_launch *launch, tsr_dtype dtype)
{
    const float *sum = launch->pointers[0];
    narrow_params q;

    memcpy(&q, launch->params, sizeof q);
    for (uint32_t batch = 0; batch < launch->grid[1]; batch++)
        for (uint32_t i = 0; i < q.rows; i++)
            for (uint32_t j = 0; j < q.columns; j++) {
                const size_t at = (size_t)(batch * q.stride + i * q.leading + j);
                double v = (double)sum[((size_t)batch * q.rows + i) * q.columns + j];
                if (q.beta != 0)
                    v += (double)q.beta * get(dtype, launch->pointers[1], at);
                put(dtype, launch->pointers[1], at, v);
            }
}

static void host_narrow_f16(const fake_cuda_launch *launch)
{
    host_narrow(launch, TSR_F16);
}

static void host_narrow_bf16(const fake_cuda_launch *launch)
{
    host_narrow(launch, TSR_BF16);
}

static void register_narrow(void)
{
    static const char *const names[] = {"libcuda.so.1", NULL};
    static const fake_cuda_kernel kernels[] = {
        {"gemm_narrow_f16", 2, sizeof(narrow_params), host_narrow_f16},
        {"gemm_narrow_bf16", 2, sizeof(narrow_params), host_narrow_bf16},
    };
    dynlib *lib = dynlib_open(names);

    for (size_t i = 0; i < COUNT_OF(kernels); i++)
        ((fake_cuda_register_fn *)dynlib_symbol(lib, "fake_cuda_register"))(&kernels[i]);
    dynlib_close(lib);
}

/* ---- one product against the definition -------------------------------------------------------------------------- */

/* The definition in hal.h, word for word. `c` holds what C was. */
static void reference(const hal_gemm *g, const void *a, const void *b, double *c)
{
    const tsr_dtype t = (tsr_dtype)g->dtype;

    for (int64_t s = 0; s < g->batch; s++)
        for (int64_t i = 0; i < g->m; i++)
            for (int64_t j = 0; j < g->n; j++) {
                double *out = &c[s * g->batch_stride_c + i * g->ldc + j], sum = 0;
                for (int64_t r = 0; r < g->reduce; r++)
                    for (int64_t l = 0; l < g->k; l++) {
                        const int64_t ai = s * g->batch_stride_a + r * g->reduce_stride_a +
                                           (g->transpose_a ? l * g->lda + i : i * g->lda + l);
                        const int64_t bi = s * g->batch_stride_b + r * g->reduce_stride_b +
                                           (g->transpose_b ? j * g->ldb + l : l * g->ldb + j);
                        sum += get(t, a, (size_t)ai) * get(t, b, (size_t)bi);
                    }
                *out = (double)g->alpha * sum + (g->beta != 0 ? (double)g->beta * *out : 0);
            }
}

typedef struct operands {
    hal_buffer *buffer[3]; /* A, B, C */
    size_t offset[3];      /* bytes */
    unsigned char *host[3];
} operands;

static operands operands_of(const rig *r)
{
    operands o = {0};
    for (int i = 0; i < 3; i++) {
        o.buffer[i] = buffer_of(r, BYTES);
        o.host[i] = malloc(BYTES);
    }
    return o;
}

static void operands_free(operands *o)
{
    for (int i = 0; i < 3; i++) {
        hal_buffer_free(o->buffer[i]);
        free(o->host[i]);
    }
}

/* Runs the product and compares every element of C's buffer, those between the rows too. */
static void check(const rig *r, operands *o, hal_gemm g)
{
    const tsr_dtype t = (tsr_dtype)g.dtype;
    const size_t count = BYTES / size_of(t);
    double *expected = malloc(count * sizeof *expected);
    hal_binding *const bindings[] = {&g.a, &g.b, &g.c};
    tsr_status status;

    for (int i = 0; i < 3; i++) {
        for (size_t e = 0; e < count; e++)
            put(t, o->host[i], e, (double)((int)((e * 7 + (size_t)i * 3 + e / 11) % 5) - 2));
        OK(hal_buffer_write(r->queue, o->buffer[i], 0, o->host[i], BYTES));
        *bindings[i] = (hal_binding){o->buffer[i], o->offset[i], BYTES - o->offset[i]};
    }
    for (size_t e = 0; e < count; e++)
        expected[e] = get(t, o->host[2], e);
    reference(&g, o->host[0] + o->offset[0], o->host[1] + o->offset[1], expected + o->offset[2] / size_of(t));
    status = hal_gemm_run(r->queue, &g);
    if (status)
        fail_msg("%s: %s", tsr_status_name(status), tsr_last_error());
    OK(hal_buffer_read(r->queue, o->buffer[2], 0, o->host[2], BYTES));
    for (size_t e = 0; e < count; e++)
        if (get(t, o->host[2], e) != expected[e])
            fail_msg(
                "dtype %d, %lld x %lld x %lld, transposed %d %d, batch %lld, sum of %lld: element %zu is %g, not %g",
                (int)t, (long long)g.m, (long long)g.n, (long long)g.k, g.transpose_a, g.transpose_b,
                (long long)g.batch, (long long)g.reduce, e, get(t, o->host[2], e), expected[e]);
    free(expected);
}

/* Rows that follow each other without gaps, and batches and summed products likewise. */
static hal_gemm dense(tsr_dtype dtype, bool ta, bool tb, int64_t m, int64_t n, int64_t k)
{
    return (hal_gemm){.dtype = dtype,
                      .transpose_a = ta,
                      .transpose_b = tb,
                      .m = m,
                      .n = n,
                      .k = k,
                      .lda = ta ? m : k,
                      .ldb = tb ? k : n,
                      .ldc = n,
                      .batch = 1,
                      .reduce = 1,
                      .alpha = 1};
}

/* The rig, or a skip where there is no such route. */
static rig rig_with_products(void)
{
    rig r = rig_open();
    const char *route = hal_device_gemm_route(r.device), *none = getenv("FAKE_CUBLASLT_NONE");

    if (!route || (none && *none == '1')) {
        printf("SKIP: there is no cuBLASLt, or it has no algorithm\n");
        rig_close(&r);
        skip();
    }
    return r;
}

static const tsr_dtype dtypes[] = {TSR_F32, TSR_F16, TSR_BF16, TSR_F64};

static void products_of_all_kinds(void **state)
{
    static const int64_t sizes[][3] = {{1, 1, 1}, {3, 5, 7}, {16, 16, 16}, {1, 9, 4}, {9, 1, 4}, {17, 33, 8}};
    rig r = rig_with_products();
    operands o = operands_of(&r);
    (void)state;

    for (size_t t = 0; t < COUNT_OF(dtypes); t++)
        for (size_t s = 0; s < COUNT_OF(sizes); s++)
            for (int transposed = 0; transposed < 4; transposed++) {
                hal_gemm g = dense(dtypes[t], transposed & 1, transposed & 2, sizes[s][0], sizes[s][1], sizes[s][2]);
                check(&r, &o, g);
                g.alpha = 2;
                g.beta = 1;
                check(&r, &o, g);
                g.beta = -0.5f;
                g.lda += 3; /* rows with gaps */
                g.ldb += 1;
                g.ldc += 2;
                check(&r, &o, g);
            }
    operands_free(&o);
    rig_close(&r);
}

static void operands_at_any_offset(void **state)
{
    rig r = rig_with_products();
    operands o = operands_of(&r);
    (void)state;

    for (size_t t = 0; t < COUNT_OF(dtypes); t++)
        for (size_t step = 0; step < 4; step++) {
            for (size_t i = 0; i < 3; i++)
                o.offset[i] = size_of(dtypes[t]) * ((step + i) % 4);
            check(&r, &o, dense(dtypes[t], false, true, 5, 6, 8));
        }
    operands_free(&o);
    rig_close(&r);
}

static void batches_and_sums(void **state)
{
    rig r = rig_with_products();
    operands o = operands_of(&r);
    (void)state;

    for (size_t t = 0; t < COUNT_OF(dtypes); t++)
        for (int transposed = 0; transposed < 4; transposed++) {
            hal_gemm g = dense(dtypes[t], transposed & 1, transposed & 2, 4, 6, 5);

            g.batch = 3;
            g.batch_stride_a = 4 * 5 + 1;
            g.batch_stride_b = 0; /* one B for all */
            g.batch_stride_c = 4 * 6 + 2;
            g.beta = 1;
            check(&r, &o, g);

            g.reduce = 4; /* with gaps between: products one by one */
            g.reduce_stride_a = 100;
            g.reduce_stride_b = 33;
            check(&r, &o, g);
            g.beta = 0;
            g.alpha = 2;
            check(&r, &o, g);

            g = dense(dtypes[t], transposed & 1, transposed & 2, 4, 6, 5);
            g.reduce = 3; /* one behind the other along k: one long product */
            g.reduce_stride_a = g.transpose_a ? 5 * g.lda : 5;
            g.reduce_stride_b = g.transpose_b ? 5 : 5 * g.ldb;
            if (!g.transpose_a)
                g.lda = 15;
            if (g.transpose_b)
                g.ldb = 15;
            check(&r, &o, g);
            if (fake) {
                const int64_t before = fake->products;
                check(&r, &o, g);
                assert_int_equal(fake->products, before + 1);
            }

            g = dense(dtypes[t], transposed & 1, transposed & 2, 4, 6, 5);
            g.reduce = 3; /* along k on one side, but rows of the other overlap: not one product */
            g.reduce_stride_a = g.transpose_a ? 5 * g.lda : 5;
            g.reduce_stride_b = g.transpose_b ? 5 : 5 * g.ldb;
            check(&r, &o, g);

            g = dense(dtypes[t], transposed & 1, transposed & 2, 4, 6, 1);
            g.reduce = 5; /* a single row each */
            g.reduce_stride_a = 9;
            g.reduce_stride_b = 8;
            g.lda = g.transpose_a ? 0 : 1;
            g.ldb = g.transpose_b ? 1 : 0;
            check(&r, &o, g);
        }
    operands_free(&o);
    rig_close(&r);
}

/* 256 + 1 + 1 is 258, which bf16 holds; adding step by step in bf16 gives 256. */
static void sums_of_16_bit_products_are_rounded_once(void **state)
{
    rig r = rig_with_products();
    operands o = operands_of(&r);
    hal_gemm g = dense(TSR_BF16, false, false, 1, 1, 1);
    static const double values[] = {256, 1, 1};
    (void)state;

    g.reduce = 3;
    g.reduce_stride_a = 2; /* not one behind the other */
    for (size_t i = 0; i < COUNT_OF(values); i++)
        put(TSR_BF16, o.host[0], 2 * i, values[i]);
    put(TSR_BF16, o.host[1], 0, 1);
    for (int i = 0; i < 2; i++)
        OK(hal_buffer_write(r.queue, o.buffer[i], 0, o.host[i], 64));
    g.a = (hal_binding){o.buffer[0], 0, 64};
    g.b = (hal_binding){o.buffer[1], 0, 64};
    g.c = (hal_binding){o.buffer[2], 0, 2};
    OK(hal_gemm_run(r.queue, &g));
    OK(hal_buffer_read(r.queue, o.buffer[2], 0, o.host[2], 2));
    assert_true(get(TSR_BF16, o.host[2], 0) == 258);
    operands_free(&o);
    rig_close(&r);
}

static void a_shape_is_searched_once(void **state)
{
    rig r = rig_with_products();
    operands o = operands_of(&r);
    int64_t searches, allocations, objects;
    (void)state;

    if (!fake) {
        printf("SKIP: only the fake library counts searches\n");
        operands_free(&o);
        rig_close(&r);
        skip();
    }
    check(&r, &o, dense(TSR_F32, false, true, 8, 9, 10));
    searches = fake->heuristic_searches;
    allocations = fake->device_allocations;
    objects = fake->lt_objects;
    for (int i = 0; i < 10; i++)
        check(&r, &o, dense(TSR_F32, false, true, 8, 9, 10));
    assert_int_equal(fake->heuristic_searches, searches);
    assert_int_equal(fake->device_allocations, allocations);
    assert_int_equal(fake->lt_objects, objects);
    check(&r, &o, dense(TSR_F32, false, true, 8, 9, 11));
    assert_int_equal(fake->heuristic_searches, searches + 1);
    operands_free(&o);
    rig_close(&r);
}

static void what_it_cannot_do_is_handed_back(void **state)
{
    rig r = rig_open();
    operands o = operands_of(&r);
    const char *none = getenv("FAKE_CUBLASLT_NONE");
    hal_gemm g = dense(TSR_F32, false, false, 4, 4, 4);
    (void)state;

    g.a = (hal_binding){o.buffer[0], 0, BYTES};
    g.b = (hal_binding){o.buffer[1], 0, BYTES};
    g.c = (hal_binding){o.buffer[2], 0, BYTES};
    tsr_clear_error();
    if (!hal_device_gemm_route(r.device) || (none && *none == '1'))
        for (int i = 0; i < 2; i++)
            FAILS(TSR_UNSUPPORTED, hal_gemm_run(r.queue, &g));
    g.k = 0;
    FAILS(TSR_UNSUPPORTED, hal_gemm_run(r.queue, &g));
    assert_string_equal(tsr_last_error(), ""); /* the generic kernel takes it: no one's failure */
    operands_free(&o);
    rig_close(&r);
}

static void a_workspace_that_does_not_fit_is_a_status(void **state)
{
    rig r = rig_with_products();
    operands o = operands_of(&r);
    hal_gemm g = dense(TSR_F16, false, false, 4, 4, 4);
    (void)state;

    if (!fake) {
        printf("SKIP: only the fake driver runs out of memory when told to\n");
        operands_free(&o);
        rig_close(&r);
        skip();
    }
    g.a = (hal_binding){o.buffer[0], 0, BYTES};
    g.b = (hal_binding){o.buffer[1], 0, BYTES};
    g.c = (hal_binding){o.buffer[2], 0, BYTES};
    g.reduce = 2;
    g.reduce_stride_a = 100;
    for (int n = 1; n <= 2; n++) { /* the workspace, then the accumulator */
        fake->fail_alloc = n;
        FAILS(TSR_OUT_OF_DEVICE_MEMORY, hal_gemm_run(r.queue, &g));
        SAYS("out of memory");
    }
    OK(hal_gemm_run(r.queue, &g));
    operands_free(&o);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_of_all_kinds),
        cmocka_unit_test(operands_at_any_offset),
        cmocka_unit_test(batches_and_sums),
        cmocka_unit_test(sums_of_16_bit_products_are_rounded_once),
        cmocka_unit_test(a_shape_is_searched_once),
        cmocka_unit_test(what_it_cannot_do_is_handed_back),
        cmocka_unit_test(a_workspace_that_does_not_fit_is_a_status),
    };
    char why[512];

    if (cuda_devices(why) == 0) {
        printf("SKIP: the tests of CUDA products: %s\n", why);
        return 0;
    }
    if (fake)
        register_narrow();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
