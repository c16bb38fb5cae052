/* Schedules: rates from the formulas worked out step by step and from published values, places, bad input; and clipping of gradients on every
 * device. */
#include "tests/op_reference.h"

static void near(const char *what, double got, double expected)
{
    if (!(fabs(got - expected) <= 0x1p-48 * fabs(expected) + 1e-300))
        fail_msg("%s: a rate of %.17g for %.17g", what, got, expected);
}

static void check_rates(const char *what, tsr_schedule *s, const double *expected, int64_t count)
{
    assert_non_null(s);
    for (int64_t i = 0; i < count; i++)
        near(what, tsr_schedule_lr(s, i), expected[i]);
    tsr_schedule_destroy(s);
}

static void test_rates(void **state)
{
    (void)state;
    check_rates("constant", tsr_constant_schedule_create(0.25), (double[]){0.25, 0.25, 0.25}, 3);
    check_rates("step", tsr_step_schedule_create(1, 3, 0.5), (double[]){1, 1, 1, 0.5, 0.5, 0.5, 0.25}, 7);
    check_rates("multi-step", tsr_multi_step_schedule_create(1, (int64_t[]){2, 3, 3, 6}, 4, 0.1),
                (double[]){1, 1, 0.1, 1e-3, 1e-3, 1e-3, 1e-4, 1e-4}, 8);
    check_rates("multi-step without milestones", tsr_multi_step_schedule_create(2, NULL, 0, 0.1), (double[]){2, 2}, 2);
    /* cos of 0, 60, 90, 120, 180, 240, 360 degrees */
    check_rates("cosine", tsr_cosine_schedule_create(1, 6, 0),
                (double[]){1, 0.5 + sqrt(3) / 4, 0.75, 0.5, 0.25, 0.5 - sqrt(3) / 4, 0}, 6);
    tsr_schedule *cosine = tsr_cosine_schedule_create(3, 4, 1);
    near("cosine's end", tsr_schedule_lr(cosine, 4), 1);
    near("cosine again", tsr_schedule_lr(cosine, 8), 3);
    tsr_schedule_destroy(cosine);
    check_rates("warm-up", tsr_warmup_schedule_create(2, 4, 0.25), (double[]){0.5, 0.875, 1.25, 1.625, 2, 2, 2}, 7);
    check_rates("no warm-up", tsr_warmup_schedule_create(2, 0, 0), (double[]){2, 2}, 2);
    check_rates("warm-up and cosine", tsr_warmup_cosine_schedule_create(1, 2, 0, 8, 0.5),
                (double[]){0, 0.5, 1, 0.5 + 0.25 * (1 + sqrt(3) / 2), 0.875, 0.75, 0.625,
                           0.5 + 0.25 * (1 - sqrt(3) / 2), 0.5, 0.5},
                10);
    assert_true(tsr_schedule_lr(NULL, 0) == 0);
}

/* torch.optim.lr_scheduler.OneCycleLR of PyTorch 1.13.1, total_steps 10, max_lr 1: what get_last_lr gave. */
static void test_one_cycle(void **state)
{
    (void)state;
    check_rates("one cycle", tsr_one_cycle_schedule_create(&(tsr_one_cycle_options){.max_lr = 1, .steps = 10}),
                (double[]){0.040000000000000036, 0.52000000000000002, 1, 0.95048463201347366, 0.81174565394976306,
                           0.61126202193628931, 0.38874197806371075, 0.18825834605023697, 0.049519367986526286,
                           3.9999999999999998e-06},
                10);
    check_rates("one cycle, linear, three phases",
                tsr_one_cycle_schedule_create(&(tsr_one_cycle_options){.max_lr = 1,
                                                                       .steps = 10,
                                                                       .up_share = 0.4,
                                                                       .div_factor = 10,
                                                                       .final_div_factor = 100,
                                                                       .linear = true,
                                                                       .three_phase = true}),
                (double[]){0.10000000000000001, 0.40000000000000002, 0.69999999999999996, 1, 0.69999999999999996,
                           0.40000000000000002, 0.099999999999999978, 0.067000000000000004, 0.034000000000000002,
                           0.0010000000000000009},
                10);
    tsr_schedule *s = tsr_one_cycle_schedule_create(&(tsr_one_cycle_options){.max_lr = 1, .steps = 10});
    assert_true(tsr_schedule_lr(s, 1000) == tsr_schedule_lr(s, 9));
    tsr_schedule_destroy(s);
    /* A cycle of one step, and one whose way up is no step long, are rates too. */
    s = tsr_one_cycle_schedule_create(&(tsr_one_cycle_options){.max_lr = 1, .steps = 1});
    assert_true(isfinite(tsr_schedule_lr(s, 0)));
    tsr_schedule_destroy(s);
    s = tsr_one_cycle_schedule_create(&(tsr_one_cycle_options){.max_lr = 1, .steps = 4, .up_share = 0.25});
    near("one cycle that begins at its top", tsr_schedule_lr(s, 0), 1);
    tsr_schedule_destroy(s);
}

static void test_places(void **state)
{
    (void)state;
    const int64_t n = 2;
    tsr_device *cpu = tsr_device_open("cpu");
    tsr_scope_begin();
    tsr_tensor *p = tsr_zeros(cpu, TSR_F32, 1, &n);
    assert_int_equal(tsr_set_requires_grad(p, true), TSR_OK);
    tsr_optimizer *o = tsr_lion_create(&p, 1, NULL);
    tsr_schedule *s = tsr_step_schedule_create(1, 2, 0.5);
    const double expected[] = {1, 1, 0.5, 0.5, 0.25};
    for (int i = 0; i < 5; i++) {
        assert_int_equal(tsr_schedule_place(s), i);
        assert_int_equal(tsr_schedule_step(s, o), TSR_OK);
        assert_true(tsr_optimizer_lr(o) == expected[i]);
    }
    assert_int_equal(tsr_schedule_seek(s, 3), TSR_OK);
    assert_int_equal(tsr_schedule_step(s, o), TSR_OK);
    assert_true(tsr_optimizer_lr(o) == 0.5 && tsr_schedule_place(s) == 4);
    assert_int_not_equal(tsr_schedule_seek(s, -1), TSR_OK);
    assert_int_not_equal(tsr_schedule_step(s, NULL), TSR_OK);
    assert_int_not_equal(tsr_schedule_step(NULL, o), TSR_OK);
    assert_int_equal(tsr_schedule_place(s), 4);
    tsr_schedule_destroy(s);
    tsr_schedule_destroy(NULL);
    tsr_optimizer_destroy(o);
    tsr_scope_end();
    tsr_device_close(cpu);
}

static void test_bad_schedules(void **state)
{
    (void)state;
    assert_null(tsr_constant_schedule_create(-1));
    assert_null(tsr_constant_schedule_create((double)NAN));
    assert_null(tsr_step_schedule_create(1, 0, 0.5));
    assert_null(tsr_step_schedule_create(1, 1, -0.5));
    assert_null(tsr_multi_step_schedule_create(1, (int64_t[]){3, 2}, 2, 0.5));
    assert_null(tsr_multi_step_schedule_create(1, NULL, 2, 0.5));
    assert_null(tsr_cosine_schedule_create(1, 0, 0));
    assert_null(tsr_cosine_schedule_create(1, 5, -1));
    assert_null(tsr_warmup_schedule_create(1, -1, 0));
    assert_null(tsr_warmup_schedule_create(1, 1, 1.5));
    assert_null(tsr_warmup_cosine_schedule_create(1, 5, 0, 5, 0));
    assert_null(tsr_one_cycle_schedule_create(NULL));
    assert_null(tsr_one_cycle_schedule_create(&(tsr_one_cycle_options){.max_lr = 1}));
    assert_null(tsr_one_cycle_schedule_create(&(tsr_one_cycle_options){.max_lr = 1, .steps = 9, .up_share = 1.5}));
    assert_null(tsr_one_cycle_schedule_create(
        &(tsr_one_cycle_options){.max_lr = 1, .steps = 9, .up_share = 0.6, .three_phase = true}));
    assert_int_equal(tsr_last_status(), TSR_OUT_OF_RANGE);
}

/* ---- clipping ---- */

enum { PARAMETERS = 4, IDLE = 2 };
static const int64_t counts[PARAMETERS] = {7, 20001, 5, 129};

/* Parameters with gradients, all but one, and the gradients' values. */
static void with_gradients(const run *r, sample values, tsr_tensor **p, double **g)
{
    for (int k = 0; k < PARAMETERS; k++) {
        p[k] = tsr_zeros(r->device, TSR_F32, 1, &counts[k]);
        require(r, p[k]);
        require_ok(r, tsr_set_requires_grad(p[k], true));
        g[k] = NULL;
        if (k == IDLE)
            continue;
        tsr_tensor *gradient = random_tensor(r, TSR_F32, 1, &counts[k], values, (uint32_t)(31 + k), &g[k]);
        require_ok(r, tsr_backward_from(p[k], gradient, false));
    }
}

static double norm_of(double *const *g, double type)
{
    double sum = 0, top = 0;
    for (int k = 0; k < PARAMETERS; k++)
        for (int64_t i = 0; g[k] != NULL && i < counts[k]; i++) {
            sum += type == 1 ? fabs(g[k][i]) : g[k][i] * g[k][i];
            top = fmax(top, fabs(g[k][i]));
        }
    return type == 1 ? sum : type == 2 ? sqrt(sum) : top;
}

static void clip_norm(const run *r, double type, double share, sample values)
{
    tsr_tensor *p[PARAMETERS];
    double *g[PARAMETERS], total;
    require_ok(r, tsr_scope_begin());
    with_gradients(r, values, p, g);
    const double expected = norm_of(g, type), most = share * expected;
    tsr_tensor *norm = tsr_clip_grad_norm(p, PARAMETERS, most, type);
    require(r, norm);
    assert_int_equal(tsr_rank(norm), 0);
    require_ok(r, tsr_item(norm, &total));
    /* Blocks of 8192 by 64 lanes, the sums of three parameters, roots. */
    const double relative = isinf(type) || (type == 1 && values == INTEGERS) ? 0 : (128 + 6 + 3 + 3 + 4) * 0x1p-24;
    if (!(fabs(total - expected) <= relative * expected))
        fail_msg("%s: a norm of type %g is %.9g for %.9g", r->name, type, total, expected);
    const double by = fmin(1, most / (expected + 1e-6));
    for (int k = 0; k < PARAMETERS; k++) {
        assert_true((tsr_grad(p[k]) == NULL) == (k == IDLE));
        if (k == IDLE)
            continue;
        double *v = values_of(r, tsr_grad(p[k]));
        for (int64_t i = 0; i < counts[k]; i++) {
            const double wanted = g[k][i] * by, bound = share > 1 ? 0 : (relative + 5 * 0x1p-24) * fabs(wanted);
            if (!(fabs(v[i] - wanted) <= bound))
                fail_msg("%s: clipped to %g of the norm of type %g, gradient %d, element %lld is %.9g for %.9g",
                         r->name, share, type, k, (long long)i, v[i], wanted);
        }
        free(v);
        free(g[k]);
    }
    require_ok(r, tsr_scope_end());
}

static void clip_value(const run *r)
{
    tsr_tensor *p[PARAMETERS];
    double *g[PARAMETERS];
    require_ok(r, tsr_scope_begin());
    with_gradients(r, REALS, p, g);
    require_ok(r, tsr_clip_grad_value(p, PARAMETERS, 0.25));
    for (int k = 0; k < PARAMETERS; k++) {
        if (k == IDLE)
            continue;
        double *v = values_of(r, tsr_grad(p[k]));
        for (int64_t i = 0; i < counts[k]; i++)
            if (v[i] != fmax(fmin(g[k][i], 0.25), -0.25))
                fail_msg("%s: clipped by value, gradient %d, element %lld is %.9g for %.9g", r->name, k, (long long)i,
                         v[i], g[k][i]);
        free(v);
        free(g[k]);
    }
    require_ok(r, tsr_scope_end());
}

/* A NaN shows in the total and in every gradient; without gradients the total is 0. */
static void clip_others(const run *r)
{
    const int64_t n = 2;
    const float bad[] = {1, NAN};
    float v[2];
    double total;
    require_ok(r, tsr_scope_begin());
    tsr_tensor *p[] = {tsr_zeros(r->device, TSR_F32, 1, &n), tsr_zeros(r->device, TSR_F32, 1, &n)};
    for (int k = 0; k < 2; k++)
        require_ok(r, tsr_set_requires_grad(p[k], true));
    tsr_optimizer *o = tsr_sgd_create(p, 2, &(tsr_sgd_options){.lr = 1});
    require(r, o);
    require_ok(r, tsr_item(tsr_optimizer_clip_grad_norm(o, 1, 2), &total));
    assert_true(total == 0);
    require_ok(r, tsr_optimizer_clip_grad_value(o, 1));
    require_ok(r, tsr_backward_from(p[0], tsr_from_data(r->device, TSR_F32, 1, &n, bad), false));
    require_ok(r, tsr_backward_from(p[1], NULL, false));
    require_ok(r, tsr_item(tsr_optimizer_clip_grad_norm(o, 1, 2), &total));
    assert_true(isnan(total));
    require_ok(r, tsr_read_f32(tsr_grad(p[1]), v, 2));
    assert_true(isnan(v[0]) && isnan(v[1]));
    assert_null(tsr_clip_grad_norm(p, 2, -1, 2));
    assert_null(tsr_clip_grad_norm(p, 2, 1, 3));
    assert_null(tsr_clip_grad_norm(p, 0, 1, 2));
    assert_null(tsr_optimizer_clip_grad_norm(NULL, 1, 2));
    assert_int_not_equal(tsr_optimizer_clip_grad_value(NULL, 1), TSR_OK);
    assert_non_null(strstr(tsr_last_error(), "no parameters"));
    assert_null(tsr_clip_grad_norm((tsr_tensor *[]){p[0], NULL}, 2, 1, 2));
    assert_int_not_equal(tsr_clip_grad_value(p, 2, (double)NAN), TSR_OK);
    tsr_optimizer_destroy(o);
    require_ok(r, tsr_scope_end());
}

static void clipping_on(const run *r)
{
    static const double types[] = {1, 2, INFINITY};
    for (int t = 0; t < 3; t++) {
        clip_norm(r, types[t], 0.1, REALS);
        clip_norm(r, types[t], 1.5, REALS); /* as they were, bit by bit */
        clip_norm(r, types[t], 0.5, INTEGERS);
    }
    clip_value(r);
    clip_others(r);
}

static void test_clipping(void **state)
{
    (void)state;
    on_every_device(clipping_on);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rates), cmocka_unit_test(test_one_cycle),
                                       cmocka_unit_test(test_places), cmocka_unit_test(test_bad_schedules),
                                       cmocka_unit_test(test_clipping)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
