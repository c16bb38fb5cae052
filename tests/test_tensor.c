/* Tensors: making, views without copies, copies between strides and dtypes, scopes and ownership, errors; on every device. */
#include "tests/op_reference.h"

#include "base/memory.h"

/* ---- views ---- */

static void expect_f32(const run *r, tsr_tensor *t, int64_t count, const float *expected)
{
    float got[64];
    require(r, t);
    assert_int_equal(tsr_numel(t), count);
    assert_true(count <= 64);
    require_ok(r, tsr_read_f32(t, got, (size_t)count));
    for (int64_t i = 0; i < count; i++)
        if (got[i] != expected[i])
            fail_msg("%s: element %lld is %g for %g", r->name, (long long)i, (double)got[i], (double)expected[i]);
}

static void views_on(const run *r)
{
    float values[24];
    for (int i = 0; i < 24; i++)
        values[i] = (float)i;
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = tsr_from_data(r->device, TSR_F32, 3, (int64_t[]){2, 3, 4}, values);
    require(r, x);

    tsr_tensor *p = tsr_permute(x, (int[]){2, 0, 1});
    assert_true(tsr_shares_storage(p, x));
    assert_int_equal(tsr_strides(p)[0], 1);
    assert_int_equal(tsr_shape(p)[0], 4);
    float expected[24];
    for (int a = 0; a < 4; a++)
        for (int b = 0; b < 2; b++)
            for (int c = 0; c < 3; c++)
                expected[(a * 2 + b) * 3 + c] = values[(b * 3 + c) * 4 + a];
    expect_f32(r, p, 24, expected);

    tsr_tensor *flat = tsr_reshape(p, 2, (int64_t[]){4, 6}); /* strides allow it */
    assert_true(tsr_shares_storage(flat, x));
    expect_f32(r, flat, 24, expected);
    tsr_tensor *copied = tsr_reshape(p, 1, (int64_t[]){-1}); /* they do not */
    assert_false(tsr_shares_storage(copied, x));
    expect_f32(r, copied, 24, expected);

    tsr_tensor *s = tsr_slice(tsr_slice(x, 2, -3, INT64_MAX, 2), 1, 1, 3, 1);
    assert_true(tsr_shares_storage(s, x));
    assert_int_equal(tsr_storage_offset(s), 5);
    expect_f32(r, s, 8, (const float[]){5, 7, 9, 11, 17, 19, 21, 23});

    tsr_tensor *e = tsr_expand(tsr_slice(x, 2, 1, 2, 1), 4, (int64_t[]){2, 2, 3, 2});
    assert_true(tsr_shares_storage(e, x));
    expect_f32(r, e, 24,
               (const float[]){1, 1, 5, 5, 9, 9, 13, 13, 17, 17, 21, 21, 1, 1, 5, 5, 9, 9, 13, 13, 17, 17, 21, 21});

    tsr_tensor *empty = tsr_slice(x, 1, 2, 1, 1);
    assert_int_equal(tsr_numel(empty), 0);
    expect_f32(r, tsr_clone(empty), 0, NULL);
    require_ok(r, tsr_scope_end());
}

static void test_views(void **state)
{
    (void)state;
    on_every_device(views_on);
}

/* ---- copies: every pair of dtypes, contiguous and strided ---- */

static double converted(double v, tsr_dtype to)
{
    switch (to) {
    case TSR_BOOL: return v != 0;
    case TSR_U8:
    case TSR_I32:
    case TSR_I64: return trunc(v);
    case TSR_F32: return (double)(float)v;
    default: return v; /* the values are exact in f16, bf16 and f64 */
    }
}

static void check_cast(const run *r, tsr_dtype from, tsr_dtype to, bool strided)
{
    /* 0 … 100 in steps that all dtypes of 8 bits of significand hold */
    static const float numbers[] = {0, 1, 2.5f, 3, 7.75f, 100, 64, 17};
    float values[8 * 33];
    double got[4 * 33];
    for (int i = 0; i < 8 * 33; i++)
        values[i] = numbers[(i * 5) % 8];
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = tsr_from_data(r->device, TSR_F32, 2, (int64_t[]){33, 8}, values);
    x = tsr_cast(x, from);
    require(r, x);
    if (strided)
        x = tsr_transpose(tsr_slice(x, 1, 1, 8, 2), 0, 1); /* [4, 33] of every second column */
    else
        x = tsr_reshape(tsr_slice(x, 0, 0, 16, 1), 1, (int64_t[]){128});
    tsr_tensor *y = tsr_cast(x, to);
    require(r, y);
    assert_int_equal(tsr_dtype_of(y), to);
    const int64_t n = tsr_numel(y);
    float f[4 * 33];
    require_ok(r, tsr_read_f32(y, f, (size_t)n));
    for (int64_t i = 0; i < n; i++) {
        const int64_t at = strided ? (i % 33) * 8 + 1 + 2 * (i / 33) : i;
        const double expected = converted(converted((double)values[at], from), to);
        got[i] = (double)f[i];
        if (got[i] != expected)
            fail_msg("%s to %s%s on %s: %g is %g for %g", tsr_dtype_name(from), tsr_dtype_name(to),
                     strided ? ", strided" : "", r->name, (double)values[at], got[i], expected);
    }
    require_ok(r, tsr_scope_end());
}

static void casts_on(const run *r)
{
    for (int a = 0; a < TSR_DTYPE_COUNT; a++)
        for (int b = 0; b < TSR_DTYPE_COUNT; b++)
            if (run_has(r, (tsr_dtype)a) && run_has(r, (tsr_dtype)b)) {
                check_cast(r, (tsr_dtype)a, (tsr_dtype)b, false);
                check_cast(r, (tsr_dtype)a, (tsr_dtype)b, true);
            }
}

static void test_casts(void **state)
{
    (void)state;
    on_every_device(casts_on);
}

/* Rounding to 16 bits: nearest even, subnormals, overflow to infinity, NaN stays NaN. Every f16 and bf16 comes back from f32 as it was. */
static void rounding_on(const run *r)
{
    if (!run_has(r, TSR_F16))
        return;
    static const float x[] = {1.00048828125f, 1.00146484375f, 65504.0f, 65519.0f, 65520.0f, 5.9604645e-8f,
                              2.9802322e-8f,  2.9802326e-8f,  -6.1e-5f, 1e-10f,   INFINITY, NAN};
    static const float half[] = {1.0f, 1.001953125f,  65504.0f,      65504.0f, INFINITY, 5.9604645e-8f,
                                 0.0f, 5.9604645e-8f, -6.097555e-5f, 0.0f,     INFINITY, NAN};
    float got[12];
    require_ok(r, tsr_scope_begin());
    require_ok(r, tsr_read_f32(tsr_cast(tsr_from_data(r->device, TSR_F32, 1, (int64_t[]){12}, x), TSR_F16), got, 12));
    for (int i = 0; i < 12; i++)
        if (!(got[i] == half[i] || (isnan(got[i]) && isnan(half[i]))))
            fail_msg("%s: %.9g to f16 is %.9g for %.9g", r->name, (double)x[i], (double)got[i], (double)half[i]);

    static const tsr_dtype sixteen[] = {TSR_F16, TSR_BF16};
    uint16_t *all = malloc(65536 * sizeof *all), *back = malloc(65536 * sizeof *back);
    assert_true(all != NULL && back != NULL);
    for (int i = 0; i < 65536; i++)
        all[i] = (uint16_t)i;
    for (int k = 0; k < 2; k++) {
        tsr_tensor *t = tsr_from_data(r->device, sixteen[k], 1, (int64_t[]){65536}, all);
        require_ok(r, tsr_read(tsr_cast(tsr_cast(t, TSR_F32), sixteen[k]), back, 65536 * sizeof *back));
        const unsigned exponent = k == 0 ? 0x7c00 : 0x7f80, fraction = k == 0 ? 0x3ff : 0x7f;
        for (unsigned i = 0; i < 65536; i++) {
            const bool nan = (i & exponent) == exponent && (i & fraction) != 0;
            if (nan ? !((back[i] & exponent) == exponent && (back[i] & fraction) != 0) : back[i] != i)
                fail_msg("%s: %s 0x%04x comes back from f32 as 0x%04x", r->name, tsr_dtype_name(sixteen[k]), i,
                         back[i]);
        }
    }
    free(all);
    free(back);
    require_ok(r, tsr_scope_end());
}

static void test_rounding(void **state)
{
    (void)state;
    on_every_device(rounding_on);
}

static void making_on(const run *r)
{
    require_ok(r, tsr_scope_begin());
    expect_f32(r, tsr_full(r->device, TSR_F32, 2, (int64_t[]){2, 2}, 1.5), 4, (const float[]){1.5, 1.5, 1.5, 1.5});
    expect_f32(r, tsr_full(r->device, TSR_I32, 1, (int64_t[]){3}, -7.9), 3, (const float[]){-7, -7, -7});
    expect_f32(r, tsr_arange(r->device, TSR_F32, 4, 1, 0.5), 4, (const float[]){1, 1.5, 2, 2.5});
    if (run_has(r, TSR_U8))
        expect_f32(r, tsr_full(r->device, TSR_U8, 1, (int64_t[]){5}, 300), 5, (const float[]){255, 255, 255, 255, 255});
    if (run_has(r, TSR_F16))
        expect_f32(r, tsr_full(r->device, TSR_F16, 1, (int64_t[]){3}, 0.5), 3, (const float[]){0.5, 0.5, 0.5});
    tsr_tensor *x = tsr_zeros(r->device, TSR_F32, 2, (int64_t[]){3, 4});
    require_ok(r, tsr_fill(tsr_slice(x, 1, 1, 3, 1), 2));
    expect_f32(r, x, 12, (const float[]){0, 2, 2, 0, 0, 2, 2, 0, 0, 2, 2, 0});
    require_ok(r, tsr_copy_into(tsr_transpose(x, 0, 1), tsr_arange(r->device, TSR_F32, 3, 1, 1)));
    expect_f32(r, x, 12, (const float[]){1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3});
    /* a copy within one storage behaves as if the source were read first */
    tsr_tensor *line = tsr_arange(r->device, TSR_F32, 6, 0, 1);
    require_ok(r, tsr_copy_into(tsr_slice(line, 0, 1, 6, 1), tsr_slice(line, 0, 0, 5, 1)));
    expect_f32(r, line, 6, (const float[]){0, 0, 1, 2, 3, 4});
    double v;
    require_ok(r, tsr_item(tsr_full(r->device, TSR_F32, 0, NULL, 2.25), &v));
    assert_true(v == 2.25);
    assert_int_not_equal(tsr_item(x, &v), TSR_OK);
    require_ok(r, tsr_scope_end());
}

static void test_making(void **state)
{
    (void)state;
    on_every_device(making_on);
}

/* ---- scopes ---- */

static void test_scopes(void **state)
{
    (void)state;
    tsr_device *d = tsr_device_open("cpu");
    assert_non_null(d);
    tsr_device_close(d); /* what a backend keeps for the process is there now */
    const int64_t before = host_live_allocations();
    d = tsr_device_open("cpu");
    assert_ptr_equal(tsr_device_open("cpu:0"), d);
    tsr_device_close(d);

    assert_int_equal(tsr_scope_begin(), TSR_OK);
    tsr_tensor *inner, *kept;
    assert_int_equal(tsr_scope_begin(), TSR_OK);
    inner = tsr_zeros(d, TSR_F32, 1, (int64_t[]){4});
    kept = tsr_keep(tsr_exp(inner));
    assert_ptr_equal(tsr_keep(kept), kept); /* once out, it stays */
    assert_int_equal(tsr_scope_end(), TSR_OK);
    float v[4];
    assert_int_equal(tsr_read(kept, v, sizeof v), TSR_OK);
    assert_true(v[0] == 1);
    assert_int_equal(tsr_scope_end(), TSR_OK);
    assert_int_equal(tsr_scope_end(), TSR_INVALID_ARGUMENT);
    tsr_release(kept);

    /* without a scope the caller owns */
    tsr_tensor *own = tsr_zeros(d, TSR_F32, 1, (int64_t[]){4}), *more = tsr_exp(own);
    tsr_release(own);
    assert_int_equal(tsr_read(more, v, sizeof v), TSR_OK);
    tsr_device_close(d); /* the tensor keeps it alive */
    assert_int_equal(tsr_read(more, v, sizeof v), TSR_OK);
    tsr_release(more);
    assert_int_equal(host_live_allocations(), before);
}

static void test_errors(void **state)
{
    (void)state;
    tsr_device *d = tsr_device_open("cpu");
    assert_non_null(d);
    tsr_scope_begin();
    assert_null(tsr_zeros(d, TSR_F32, 9, (int64_t[]){1, 1, 1, 1, 1, 1, 1, 1, 1}));
    assert_int_equal(tsr_last_status(), TSR_OUT_OF_RANGE);
    assert_null(tsr_zeros(d, TSR_F32, 1, (int64_t[]){-1}));
    assert_null(tsr_zeros(d, TSR_F64, 3, (int64_t[]){INT64_MAX, INT64_MAX, 2}));
    assert_int_equal(tsr_last_status(), TSR_OUT_OF_RANGE);
    assert_null(tsr_zeros(d, TSR_F32, 1, (int64_t[]){(int64_t)1 << 50}));
    assert_int_equal(tsr_last_status(), TSR_OUT_OF_DEVICE_MEMORY);
    assert_null(tsr_zeros(d, (tsr_dtype)77, 1, (int64_t[]){1}));
    assert_non_null(tsr_zeros(d, TSR_F32, 3, (int64_t[]){INT64_MAX, 0, INT64_MAX}));
    tsr_tensor *x = tsr_zeros(d, TSR_F32, 2, (int64_t[]){3, 4});
    assert_null(tsr_reshape(x, 2, (int64_t[]){5, -1}));
    assert_non_null(strstr(tsr_last_error(), "[5, -1]"));
    assert_null(tsr_permute(x, (int[]){0, 0}));
    assert_null(tsr_transpose(x, 0, 2));
    assert_null(tsr_slice(x, 0, 0, 2, 0));
    assert_null(tsr_expand(x, 2, (int64_t[]){6, 4}));
    assert_int_equal(tsr_copy_into(tsr_expand(tsr_slice(x, 0, 0, 1, 1), 2, (int64_t[]){3, 4}), x),
                     TSR_INVALID_ARGUMENT);
    assert_non_null(strstr(tsr_last_error(), "share memory"));
    assert_int_not_equal(tsr_write(x, "", 3), TSR_OK);
    assert_null(tsr_device_open("cpx"));
    assert_int_equal(tsr_last_status(), TSR_NO_DEVICE);
    assert_non_null(strstr(tsr_last_error(), "cpu"));
    tsr_scope_end();
    tsr_device_close(d);
}

/* Each host allocation failed in turn: an error, no leak, no crash, and the next try works. */
static void test_out_of_host_memory(void **state)
{
    (void)state;
    tsr_device *d = tsr_device_open("cpu");
    assert_non_null(d);
    const float values[6] = {1, 2, 3, 4, 5, 6};
    int64_t before = 0;
    for (int n = 0; n < 400; n++) {
        if (n == 1) { /* the first round built the kernels, which stay */
            tsr_memory_trim(d);
            before = host_live_allocations();
        }
        host_alloc_fail_after(n == 0 ? -1 : n - 1);
        bool ok = tsr_scope_begin() == TSR_OK;
        if (ok) {
            tsr_tensor *x = tsr_from_data(d, TSR_F32, 2, (int64_t[]){2, 3}, values);
            ok = x != NULL && tsr_set_requires_grad(x, true) == TSR_OK;
            tsr_tensor *l = tsr_mean(tsr_square(tsr_matmul(x, tsr_transpose(x, 0, 1))), NULL, 0, false);
            ok = ok && l != NULL && tsr_backward(l) == TSR_OK;
            tsr_scope_end();
        }
        host_alloc_fail_after(-1);
        if (n > 0 && ok) {
            assert_true(n > 10); /* it takes more than ten allocations, so failures were met before */
            tsr_device_close(d);
            return;
        }
        if (n == 0)
            assert_true(ok);
        else /* the CPU device's memory is the host's */
            assert_true(tsr_last_status() == TSR_OUT_OF_MEMORY || tsr_last_status() == TSR_OUT_OF_DEVICE_MEMORY);
        tsr_memory_trim(d); /* cached blocks have records on the host */
        if (n > 0 && host_live_allocations() != before)
            fail_msg("%lld allocations leak where number %d fails: %s", (long long)(host_live_allocations() - before),
                     n, tsr_last_error());
    }
    fail_msg("still failing after 400 allocations");
}

static void test_meter(void **state)
{
    (void)state;
    tsr_device *d = tsr_device_open("cpu");
    tsr_meter *m = tsr_meter_create(d, 5);
    assert_non_null(m);
    float got[8];
    int next = 0, seen = 0;
    for (int round = 0; round < 7; round++) {
        for (int k = 0; k < 3; k++) {
            tsr_tensor *v = tsr_full(d, TSR_F32, 0, NULL, next++);
            assert_int_equal(tsr_meter_add(m, v), TSR_OK);
            tsr_release(v);
        }
        assert_int_equal(tsr_meter_drain(m), TSR_OK);
        const size_t n = tsr_meter_poll(m, got, 8);
        assert_int_equal(n, 3);
        for (size_t i = 0; i < n; i++)
            assert_true(got[i] == (float)seen++);
    }
    tsr_tensor *v = tsr_full(d, TSR_F32, 0, NULL, 1);
    for (int k = 0; k < 5; k++)
        assert_int_equal(tsr_meter_add(m, v), TSR_OK);
    assert_int_equal(tsr_meter_add(m, v), TSR_OUT_OF_RANGE);
    tsr_release(v);
    tsr_meter_destroy(m);
    tsr_device_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scopes), cmocka_unit_test(test_errors),   cmocka_unit_test(test_out_of_host_memory),
        cmocka_unit_test(test_meter),  cmocka_unit_test(test_views),    cmocka_unit_test(test_making),
        cmocka_unit_test(test_casts),  cmocka_unit_test(test_rounding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
