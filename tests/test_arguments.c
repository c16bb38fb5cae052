/* Further arguments of operators, through their typed functions: scaled and constant sources, weighted losses, running statistics, attention
 * that drops. */
#include "tests/op_reference.h"

static void same(const run *r, const char *what, tsr_tensor *t, const double *expected, double bound)
{
    require(r, t);
    double *v = values_of(r, t);
    for (int64_t i = 0; i < tsr_numel(t); i++)
        if (!(fabs(v[i] - expected[i]) <= bound * fabs(expected[i])))
            fail_msg("%s on %s: element %lld is %.9g for %.9g", what, r->name, (long long)i, v[i], expected[i]);
    free(v);
}

static tsr_tensor *floats(const run *r, int rank, const int64_t *shape, const float *v)
{
    tsr_tensor *t = tsr_from_data(r->device, TSR_F32, rank, shape, v);
    require(r, t);
    return t;
}

static void sources_on(const run *r)
{
    const int64_t shape[] = {2, 2}, three[] = {3, 2}, n = 3;
    const int64_t places[] = {1, 0, 1}, cells[] = {1, 0};
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = floats(r, 2, shape, (float[]){1, 2, 3, 4}), *s = floats(r, 2, three, (float[]){1, 2, 3, 4, 5, 6});
    tsr_tensor *index = tsr_from_data(r->device, TSR_I64, 1, &n, places);
    tsr_tensor *cell = tsr_from_data(r->device, TSR_I64, 2, (int64_t[]){2, 1}, cells);
    require_ok(r, tsr_set_requires_grad(x, true));
    require_ok(r, tsr_set_requires_grad(s, true));
    tsr_tensor *y = tsr_index_add_scaled(x, 0, index, s, -2);
    same(r, "index_add", y, (double[]){1 - 6, 2 - 8, 3 - 12, 4 - 16}, 0);
    require_ok(r, tsr_backward_from(y, floats(r, 2, shape, (float[]){1, 2, 3, 4}), false));
    same(r, "index_add's source", tsr_grad(s), (double[]){-6, -8, -2, -4, -6, -8}, 0);
    tsr_tensor *whole = tsr_cast(tsr_detach(x), TSR_I32), *counts = tsr_cast(tsr_detach(s), TSR_I32);
    same(r, "index_add of integers", tsr_cast(tsr_index_add_scaled(whole, 0, index, counts, 3), TSR_F32),
         (double[]){10, 14, 21, 28}, 0);
    assert_null(tsr_index_add_scaled(whole, 0, index, counts, 0.5));
    assert_non_null(strstr(tsr_last_error(), "whole number"));
    tsr_clear_grad(x);
    y = tsr_scatter_value(x, 1, cell, 9.5);
    same(r, "scatter", y, (double[]){1, 9.5, 9.5, 4}, 0);
    require_ok(r, tsr_backward_from(y, NULL, false));
    same(r, "scatter's x", tsr_grad(x), (double[]){1, 0, 0, 1}, 0);
    require_ok(r, tsr_scope_end());
}

/* Values worked out from log(1 + exp(-x)). */
static void losses_on(const run *r)
{
    const int64_t shape[] = {2, 3}, n = 3;
    const double x[] = {-2, -0.5, 0, 0.5, 1, 3}, t[] = {0, 1, 0.5, 1, 0, 0.25}, w[] = {1, 2, 0.5}, p[] = {3, 1, 2};
    float fx[6], ft[6], fw[3], fp[3];
    double terms[6], sum = 0;
    for (int i = 0; i < 6; i++) {
        fx[i] = (float)x[i];
        ft[i] = (float)t[i];
        terms[i] = w[i % 3] * ((1 - t[i]) * x[i] + (1 - t[i] + p[i % 3] * t[i]) * log1p(exp(-x[i])));
        sum += terms[i];
    }
    for (int i = 0; i < 3; i++) {
        fw[i] = (float)w[i];
        fp[i] = (float)p[i];
    }
    require_ok(r, tsr_scope_begin());
    tsr_tensor *a = floats(r, 2, shape, fx), *b = floats(r, 2, shape, ft), *weight = floats(r, 1, &n, fw),
               *positive = floats(r, 1, &n, fp);
    const double mean = sum / 6, bound = 40 * 0x1p-24; /* all terms are above 0 or near it */
    same(r, "bce", tsr_weighted_bce_with_logits(a, b, weight, positive, TSR_REDUCTION_NONE), terms, bound);
    same(r, "bce's mean", tsr_weighted_bce_with_logits(a, b, weight, positive, TSR_REDUCTION_MEAN), &mean, bound);
    same(r, "bce's sum", tsr_weighted_bce_with_logits(a, b, weight, positive, TSR_REDUCTION_SUM), &sum, bound);
    double plain;
    require_ok(r, tsr_item(tsr_bce_with_logits(a, b, TSR_REDUCTION_MEAN), &plain));
    same(r, "bce without weights", tsr_weighted_bce_with_logits(a, b, NULL, NULL, TSR_REDUCTION_MEAN), &plain, bound);
    assert_null(tsr_weighted_bce_with_logits(a, b, NULL, NULL, TSR_REDUCTION_BATCH_MEAN));
    double total;
    require_ok(r, tsr_item(tsr_kl_div(a, b, false, TSR_REDUCTION_SUM), &total));
    total /= 2;
    same(r, "kl_div by the batch", tsr_kl_div(a, b, false, TSR_REDUCTION_BATCH_MEAN), &total, 0);
    assert_null(tsr_mse(a, b, TSR_REDUCTION_BATCH_MEAN));
    assert_int_equal(tsr_last_status(), TSR_OUT_OF_RANGE);
    require_ok(r, tsr_scope_end());
}

/* Two samples of two channels of four elements: means 2.5 6.5 0 5, unbiased variances 5/3 5/3 0 10/3. */
static void statistics_on(const run *r)
{
    const int64_t shape[] = {2, 2, 2, 2}, n = 2;
    const float v[] = {1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 3, 4, 6, 7};
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = floats(r, 4, shape, v), *mean = floats(r, 1, &n, (float[]){1, 2}),
               *variance = floats(r, 1, &n, (float[]){3, 4});
    tsr_tensor *y = tsr_instance_norm_running(x, NULL, NULL, mean, variance, true, 0.25, 1e-5);
    double *plain = values_of(r, tsr_instance_norm(x, NULL, NULL, 1e-5));
    same(r, "instance_norm in training", y, plain, 0);
    free(plain);
    same(r, "the running mean", mean, (double[]){0.75 + 0.25 * 1.25, 1.5 + 0.25 * 5.75}, 4 * 0x1p-24);
    same(r, "the running variance", variance, (double[]){2.25 + 0.25 * 5 / 6, 3 + 0.25 * 2.5}, 8 * 0x1p-24);
    double m[2], s[2], expected[16];
    double *stored = values_of(r, mean);
    memcpy(m, stored, sizeof m);
    free(stored);
    stored = values_of(r, variance);
    memcpy(s, stored, sizeof s);
    free(stored);
    for (int i = 0; i < 16; i++)
        expected[i] = ((double)v[i] - m[i / 4 % 2]) / sqrt(s[i / 4 % 2] + 1e-5);
    same(r, "instance_norm in evaluation", tsr_instance_norm_running(x, NULL, NULL, mean, variance, false, 0.25, 1e-5),
         expected, 16 * 0x1p-24);
    assert_null(tsr_instance_norm_running(tsr_slice(tsr_slice(x, 3, 0, 1, 1), 2, 0, 1, 1), NULL, NULL, mean, variance,
                                          true, 0.1, 1e-5));
    assert_non_null(strstr(tsr_last_error(), "two elements or more"));
    assert_null(tsr_instance_norm_running(x, NULL, NULL, tsr_slice(mean, 0, 0, 1, 1), variance, true, 0.1, 1e-5));
    assert_null(tsr_instance_norm_running(x, NULL, NULL, mean, variance, true, 1.5, 1e-5));
    assert_null(tsr_instance_norm_running(x, NULL, NULL, NULL, variance, true, 0.1, 1e-5));
    require_ok(r, tsr_scope_end());
}

enum { HEADS = 4, KEY_HEADS = 2, QUERIES = 9, KEYS = 7, WIDTH = 5 };

/* With one-hot values the result is the weights: dropped, or 1 / (1 - p) of what they are without dropping. */
static void attention_on(const run *r)
{
    const double p = 0.25;
    double *unused;
    float seen[KEYS * KEYS] = {0};
    require_ok(r, tsr_scope_begin());
    tsr_tensor *q = random_tensor(r, TSR_F32, 4, (int64_t[]){2, HEADS, QUERIES, WIDTH}, REALS, 3, &unused);
    free(unused);
    tsr_tensor *k = random_tensor(r, TSR_F32, 4, (int64_t[]){2, KEY_HEADS, KEYS, WIDTH}, REALS, 4, &unused);
    free(unused);
    for (int i = 0; i < KEYS; i++)
        seen[i * KEYS + i] = 1;
    tsr_tensor *v =
        tsr_expand(floats(r, 4, (int64_t[]){1, 1, KEYS, KEYS}, seen), 4, (int64_t[]){2, KEY_HEADS, KEYS, KEYS});
    unsigned char mask[QUERIES * KEYS];
    for (int i = 0; i < QUERIES * KEYS; i++)
        mask[i] = i / KEYS != 5 && i % 3 != 0; /* query 5 sees none */
    tsr_tensor *of_queries = tsr_from_data(r->device, TSR_BOOL, 2, (int64_t[]){QUERIES, KEYS}, mask);
    for (int masked = 0; masked < 3; masked++) {
        tsr_tensor *m = masked == 1 ? of_queries : NULL;
        const bool causal = masked == 2;
        tsr_tensor *whole = tsr_scaled_dot_product_attention(q, k, v, m, causal, 0);
        double *a = values_of(r, whole);
        require_ok(r, tsr_seed(r->device, 17));
        double *b = values_of(r, tsr_scaled_dot_product_attention_dropout(q, k, v, m, causal, 0, p, true));
        require_ok(r, tsr_seed(r->device, 17));
        double *mask_of = values_of(r, tsr_dropout(tsr_full(r->device, TSR_F32, 4, tsr_shape(whole), 1), p, true));
        for (int64_t i = 0; i < tsr_numel(whole); i++) {
            /* a score of 5 products, exp, the sum of 7 and a quotient, twice over */
            const double expected = mask_of[i] == 0 ? 0 : a[i] / (1 - p), bound = 64 * 0x1p-24 * fabs(expected);
            if (!(fabs(b[i] - expected) <= bound))
                fail_msg("dropping attention on %s, masked %d: element %lld is %.9g for %.9g", r->name, masked,
                         (long long)i, b[i], expected);
        }
        free(b);
        b = values_of(r, tsr_scaled_dot_product_attention_dropout(q, k, v, m, causal, 0, p, false));
        assert_memory_equal(a, b, sizeof *a * (size_t)tsr_numel(whole));
        free(a), free(b), free(mask_of);
    }
    assert_null(tsr_scaled_dot_product_attention_dropout(q, k, v, NULL, false, 0, 1, true));
    assert_null(tsr_scaled_dot_product_attention_dropout(q, k, tsr_cast(v, TSR_F16), NULL, false, 0, p, true));
    assert_null(tsr_scaled_dot_product_attention_dropout(q, tsr_transpose(k, 2, 3), v, NULL, false, 0, p, true));
    require_ok(r, tsr_scope_end());
}

#define TEST(name)                                                                                                     \
    static void test_##name(void **state)                                                                              \
    {                                                                                                                  \
        (void)state;                                                                                                   \
        on_every_device(name##_on);                                                                                    \
    }
TEST(sources)
TEST(losses)
TEST(statistics)
TEST(attention)

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sources), cmocka_unit_test(test_losses),
                                       cmocka_unit_test(test_statistics), cmocka_unit_test(test_attention)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
