/* Optimizers on every device: 20 steps against the published formulas in double, with the error that f32 may have carried along; a
 * learning rate that changes; weight decays of single parameters; parameters without a gradient, or with none at first; states; bad input. */
#include "tests/op_reference.h"

#include "tests/optim_decay.h"

enum { STEPS = 20, PARAMETERS = 4, IDLE = 3, LATE_FROM = 5, NEW_RATE_FROM = 11 };
static const int64_t counts[PARAMETERS] = {7, 20001, 65, 9};

typedef enum kind { SGD, ADAM, ADAMW } kind;

typedef struct row {
    const char *name;
    kind kind;
    double lr, later_lr, decay;
    double momentum, dampening;
    bool nesterov;
    double beta1, beta2, epsilon; /* 0: the default */
} row;

static const row rows[] = {
    {"sgd", SGD, 0.1, 0.03, 0, 0, 0, false, 0, 0, 0},
    {"sgd, weight decay", SGD, 0.1, 0.03, 0.01, 0, 0, false, 0, 0, 0},
    {"sgd, momentum", SGD, 0.05, 0.1, 0, 0.9, 0, false, 0, 0, 0},
    {"sgd, dampening", SGD, 0.05, 0.01, 0.02, 0.8, 0.3, false, 0, 0, 0},
    {"sgd, nesterov", SGD, 0.05, 0.02, 0.01, 0.9, 0, true, 0, 0, 0},
    {"adam", ADAM, 0, 3e-4, 0, 0, 0, false, 0, 0, 0},
    {"adam, weight decay", ADAM, 0.01, 0.02, 0.1, 0, 0, false, 0.8, 0.95, 1e-6},
    {"adamw", ADAMW, 0.01, 0.003, 0.1, 0, 0, false, 0, 0, 0},
    {"adamw, no decay", ADAMW, 0.002, 0, 0, 0, 0, false, 0.9, 0.99, 1e-3},
};

/* One element: values in double, and how far f32 may be from them. */
typedef struct element {
    double p, p_error, first, first_error, second, second_error;
    bool started;
} element;

static const double u = 0x1p-24;

static row decays_of(const row *c, int parameter, int t)
{
    row own = *c;
    own.decay = decay_of(c->decay, parameter, t >= NEW_RATE_FROM);
    return own;
}

/* torch.optim.SGD. Scalars are f32 on the device: one rounding each. */
static void sgd_step(element *e, const row *c, double lr, double gradient)
{
    const double g = gradient + c->decay * e->p,
                 g_error = c->decay * e->p_error + 3 * u * (fabs(gradient) + fabs(c->decay * e->p));
    double d = g, d_error = g_error;
    if (c->momentum != 0) {
        const double old = e->started ? c->momentum : 0, fresh = e->started ? 1 - c->dampening : 1;
        const double v = old * e->first + fresh * g;
        e->first_error = old * e->first_error + fresh * g_error + 4 * u * (fabs(old * e->first) + fabs(fresh * g));
        e->first = v;
        e->started = true;
        d = c->nesterov ? g + c->momentum * v : v;
        d_error = c->nesterov ? g_error + c->momentum * e->first_error + 4 * u * (fabs(g) + fabs(v)) : e->first_error;
    }
    e->p -= lr * d;
    e->p_error += lr * d_error + 3 * u * fabs(lr * d) + 2 * u * fabs(e->p);
}

/* Kingma and Ba 2015, algorithm 1, with the weight decay of torch.optim.Adam or AdamW. */
static void adam_step(element *e, const row *c, double lr, double gradient, int t)
{
    const double b1 = c->beta1 == 0 ? 0.9 : c->beta1, b2 = c->beta2 == 0 ? 0.999 : c->beta2,
                 epsilon = c->epsilon == 0 ? 1e-8 : c->epsilon;
    double g = gradient, g_error = 0;
    if (c->kind == ADAMW) {
        e->p *= 1 - lr * c->decay;
        e->p_error += 3 * u * fabs(e->p);
    } else {
        g += c->decay * e->p;
        g_error = c->decay * e->p_error + 3 * u * (fabs(gradient) + fabs(c->decay * e->p));
    }
    e->first_error = b1 * e->first_error + (1 - b1) * g_error + 4 * u * (fabs(b1 * e->first) + fabs((1 - b1) * g));
    e->first = b1 * e->first + (1 - b1) * g;
    e->second_error = b2 * e->second_error + (1 - b2) * (2 * fabs(g) + g_error) * g_error +
                      5 * u * (b2 * e->second + (1 - b2) * g * g);
    e->second = b2 * e->second + (1 - b2) * g * g;
    const double c1 = 1 - pow(b1, t), c2 = 1 - pow(b2, t);
    const double root = sqrt(e->second / c2), denominator = root + epsilon, update = lr / c1 * e->first / denominator;
    /* The corrections: their complement's rounding, log1p, product and expm1 give 10 u; sqrt halves what it gets. */
    const double root_error =
        e->second == 0 ? 0 : root * (0.5 * e->second_error / (e->second - e->second_error) + 5 * u + 4 * u);
    const double relative = (root_error + 2 * u * denominator) / denominator + 10 * u + 5 * u;
    e->p_error += lr / c1 * e->first_error / denominator + fabs(update) * relative;
    e->p -= update;
    e->p_error += 2 * u * fabs(e->p);
}

static void within(const run *r, const row *c, const char *what, int step, int parameter, int64_t i, double got,
                   double expected, double error)
{
    if (!(fabs(got - expected) <= 1.05 * error + 0x1p-126))
        fail_msg("%s on %s: %s %d, element %lld after step %d is %.9g for %.9g, error %.3g, bound %.3g", c->name,
                 r->name, what, parameter, (long long)i, step, got, expected, fabs(got - expected), error);
}

static void check_state(const run *r, const row *c, tsr_optimizer *o, int k, const char *name, const element *e,
                        bool second)
{
    tsr_tensor *t = tsr_optimizer_state(o, (size_t)k, name);
    require(r, t);
    double *v = values_of(r, t);
    for (int64_t i = 0; i < counts[k]; i++)
        within(r, c, name, STEPS, k, i, v[i], second ? e[i].second : e[i].first,
               second ? e[i].second_error : e[i].first_error);
    free(v);
}

static tsr_optimizer *make(const row *c, tsr_tensor *const *p, size_t count)
{
    if (c->kind == SGD)
        return tsr_sgd_create(p, count,
                              &(tsr_sgd_options){.lr = c->lr,
                                                 .momentum = c->momentum,
                                                 .dampening = c->dampening,
                                                 .weight_decay = c->decay,
                                                 .nesterov = c->nesterov});
    const tsr_adam_options a = {
        .lr = c->lr, .beta1 = c->beta1, .beta2 = c->beta2, .epsilon = c->epsilon, .weight_decay = c->decay};
    return c->kind == ADAM ? tsr_adam_create(p, count, &a) : tsr_adamw_create(p, count, &a);
}

static void check(const run *r, const row *c)
{
    tsr_tensor *p[PARAMETERS];
    element *e[PARAMETERS];
    require_ok(r, tsr_scope_begin());
    for (int k = 0; k < PARAMETERS; k++) {
        double *v;
        p[k] = random_tensor(r, TSR_F32, 1, &counts[k], REALS, (uint32_t)(61 + k), &v);
        require_ok(r, tsr_set_requires_grad(p[k], true));
        e[k] = calloc((size_t)counts[k], sizeof *e[k]);
        assert_non_null(e[k]);
        for (int64_t i = 0; i < counts[k]; i++)
            e[k][i].p = v[i];
        free(v);
    }
    tsr_optimizer *o = make(c, p, PARAMETERS);
    require(r, o);
    double lr = c->lr == 0 ? 1e-3 : c->lr;
    assert_true(tsr_optimizer_lr(o) == lr);
    require_ok(r, tsr_optimizer_set_weight_decay(o, OWN, decays_of(c, OWN, 1).decay));
    for (int t = 1; t <= STEPS; t++) {
        require_ok(r, tsr_scope_begin());
        if (t == NEW_RATE_FROM) {
            lr = c->later_lr;
            require_ok(r, tsr_optimizer_set_lr(o, lr));
            assert_true(tsr_optimizer_lr(o) == lr);
            require_ok(r, tsr_optimizer_set_weight_decay(o, LATE, decays_of(c, LATE, t).decay));
        }
        for (int k = 0; k < PARAMETERS; k++) {
            double *g;
            if (k == IDLE || (k == LATE && t < LATE_FROM))
                continue;
            tsr_tensor *gradient = random_tensor(r, TSR_F32, 1, &counts[k], REALS, (uint32_t)(1000 * t + k), &g);
            require_ok(r, tsr_backward_from(p[k], gradient, false));
            const row own = decays_of(c, k, t);
            assert_true(tsr_optimizer_weight_decay(o, (size_t)k) == own.decay);
            for (int64_t i = 0; i < counts[k]; i++) {
                if (c->kind == SGD)
                    sgd_step(&e[k][i], &own, lr, g[i]);
                else
                    adam_step(&e[k][i], &own, lr, g[i], t);
            }
            free(g);
        }
        require_ok(r, tsr_optimizer_step(o));
        tsr_optimizer_clear_grad(o);
        for (int k = 0; k < PARAMETERS; k++) {
            assert_null(tsr_grad(p[k]));
            if (t != 1 && t != LATE_FROM && t != NEW_RATE_FROM && t != STEPS)
                continue;
            double *v = values_of(r, p[k]);
            for (int64_t i = 0; i < counts[k]; i++) {
                assert_true(e[k][i].p_error < 1e-3); /* a bound that says something */
                within(r, c, "parameter", t, k, i, v[i], e[k][i].p, k == IDLE ? 0 : e[k][i].p_error);
            }
            free(v);
        }
        require_ok(r, tsr_scope_end());
    }
    double steps;
    require_ok(r, tsr_item(tsr_optimizer_state(o, 0, "step"), &steps));
    assert_true(steps == STEPS);
    for (int k = 0; k < PARAMETERS; k++) { /* IDLE's are the zeros they began as */
        if (c->kind == SGD && c->momentum != 0)
            check_state(r, c, o, k, "momentum", e[k], false);
        if (c->kind != SGD) {
            check_state(r, c, o, k, "exp_avg", e[k], false);
            check_state(r, c, o, k, "exp_avg_sq", e[k], true);
        }
        free(e[k]);
    }
    tsr_optimizer_destroy(o);
    require_ok(r, tsr_scope_end());
}

static void optimizers_on(const run *r)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check(r, &rows[i]);
}

static void test_formulas(void **state)
{
    (void)state;
    on_every_device(optimizers_on);
}

/* ---- states saved and restored: the steps go on with the same bits ---- */

static void one_step(const run *r, tsr_optimizer *o, tsr_tensor *p, int t)
{
    double *g;
    require_ok(r, tsr_scope_begin());
    require_ok(r, tsr_backward_from(p, random_tensor(r, TSR_F32, 1, &counts[0], REALS, (uint32_t)t, &g), false));
    free(g);
    require_ok(r, tsr_optimizer_step(o));
    tsr_optimizer_clear_grad(o);
    require_ok(r, tsr_scope_end());
}

static void states_on(const run *r)
{
    static const row kinds[] = {{"sgd", SGD, 0.05, 0, 0.02, 0.8, 0.3, false, 0, 0, 0},
                                {"adam", ADAM, 0.01, 0, 0.1, 0, 0, false, 0, 0, 0}};
    for (int k = 0; k < 2; k++) {
        float a[7], b[7];
        double *unused;
        require_ok(r, tsr_scope_begin());
        tsr_tensor *p = random_tensor(r, TSR_F32, 1, &counts[0], REALS, 71, &unused);
        free(unused);
        require_ok(r, tsr_set_requires_grad(p, true));
        tsr_optimizer *o = make(&kinds[k], &p, 1);
        require(r, o);
        for (int t = 1; t <= 3; t++)
            one_step(r, o, p, t);
        tsr_tensor *q = tsr_detach(tsr_clone(p));
        require_ok(r, tsr_set_requires_grad(q, true));
        tsr_optimizer *resumed = make(&kinds[k], &q, 1);
        require(r, resumed);
        static const char *const names[] = {"step", "momentum", "exp_avg", "exp_avg_sq"};
        for (int i = 0; i < 4; i++)
            if (i == 0 || (i == 1) == (k == 0))
                require_ok(
                    r, tsr_copy_into(tsr_optimizer_state(resumed, 0, names[i]), tsr_optimizer_state(o, 0, names[i])));
        for (int t = 4; t <= 6; t++) {
            one_step(r, o, p, t);
            one_step(r, resumed, q, t);
        }
        require_ok(r, tsr_read_f32(p, a, 7));
        require_ok(r, tsr_read_f32(q, b, 7));
        if (memcmp(a, b, sizeof a) != 0)
            fail_msg("%s on %s: resumed steps give %.9g for %.9g", kinds[k].name, r->name, (double)b[0], (double)a[0]);
        tsr_optimizer_destroy(o);
        tsr_optimizer_destroy(resumed);
        require_ok(r, tsr_scope_end());
    }
}

static void test_states(void **state)
{
    (void)state;
    on_every_device(states_on);
}

/* ---- errors and ownership ---- */

static void test_errors(void **state)
{
    (void)state;
    tsr_device *cpu = tsr_device_open("cpu");
    const int64_t n = 6;
    tsr_scope_begin();
    tsr_tensor *p = tsr_zeros(cpu, TSR_F32, 1, &n);
    const tsr_sgd_options sgd = {.lr = 0.1};
    assert_null(tsr_sgd_create(&p, 1, &sgd)); /* not a leaf that requires gradients */
    assert_int_equal(tsr_last_status(), TSR_INVALID_ARGUMENT);
    assert_int_equal(tsr_set_requires_grad(p, true), TSR_OK);
    assert_null(tsr_sgd_create(&p, 0, &sgd));
    assert_null(tsr_sgd_create(NULL, 1, &sgd));
    assert_null(tsr_sgd_create(&p, 1, NULL));
    assert_null(tsr_sgd_create((tsr_tensor *[]){p, NULL}, 2, &sgd));
    assert_non_null(strstr(tsr_last_error(), "parameter 1"));
    static const tsr_sgd_options bad_sgd[] = {{.lr = 0},
                                              {.lr = -1},
                                              {.lr = (double)INFINITY},
                                              {.lr = (double)NAN},
                                              {.lr = 1, .momentum = -0.1},
                                              {.lr = 1, .weight_decay = -1},
                                              {.lr = 1, .nesterov = true},
                                              {.lr = 1, .momentum = 0.9, .dampening = 0.1, .nesterov = true},
                                              {.lr = 1, .momentum = (double)INFINITY},
                                              {.lr = 1, .momentum = 0.9, .dampening = (double)NAN}};
    for (size_t i = 0; i < sizeof bad_sgd / sizeof *bad_sgd; i++)
        if (tsr_sgd_create(&p, 1, &bad_sgd[i]) != NULL)
            fail_msg("bad options %zu of sgd were taken", i);
    static const tsr_adam_options bad_adam[] = {{.lr = -1},          {.beta1 = 1},           {.beta1 = -0.1},
                                                {.beta2 = 1.5},      {.beta2 = (double)NAN}, {.epsilon = -1e-8},
                                                {.weight_decay = -1}};
    for (size_t i = 0; i < sizeof bad_adam / sizeof *bad_adam; i++)
        if (tsr_adam_create(&p, 1, &bad_adam[i]) != NULL || tsr_adamw_create(&p, 1, &bad_adam[i]) != NULL)
            fail_msg("bad options %zu of adam were taken", i);
    tsr_tensor *wide = tsr_zeros(cpu, TSR_F64, 1, &n);
    assert_int_equal(tsr_set_requires_grad(wide, true), TSR_OK);
    assert_null(tsr_adam_create(&wide, 1, NULL));
    assert_non_null(strstr(tsr_last_error(), "f32"));
    assert_null(tsr_sgd_for(NULL, &sgd));
    tsr_module *empty = tsr_relu_create();
    assert_null(tsr_adam_for(empty, NULL));
    assert_int_equal(tsr_last_status(), TSR_INVALID_ARGUMENT);
    tsr_module_destroy(empty);

    tsr_optimizer *o = tsr_sgd_create(&p, 1, &sgd), *adam = tsr_adam_create(&p, 1, NULL);
    assert_true(o != NULL && adam != NULL);
    assert_null(tsr_optimizer_state(o, 0, "momentum")); /* there is none without momentum */
    assert_int_equal(tsr_last_status(), TSR_NOT_FOUND);
    assert_null(tsr_optimizer_state(adam, 1, "exp_avg"));
    assert_null(tsr_optimizer_state(adam, 0, "momentum"));
    assert_null(tsr_optimizer_state(adam, 0, NULL));
    assert_null(tsr_optimizer_state(NULL, 0, "step"));
    assert_int_equal(tsr_optimizer_set_lr(o, -1), TSR_OUT_OF_RANGE);
    assert_int_equal(tsr_optimizer_set_lr(o, (double)NAN), TSR_OUT_OF_RANGE);
    assert_true(tsr_optimizer_lr(o) == 0.1);
    assert_int_not_equal(tsr_optimizer_set_lr(NULL, 1), TSR_OK);
    assert_int_equal(tsr_optimizer_set_weight_decay(NULL, 0, 0), TSR_INVALID_ARGUMENT);
    assert_int_equal(tsr_optimizer_set_weight_decay(o, 1, 0), TSR_OUT_OF_RANGE);
    assert_non_null(strstr(tsr_last_error(), "parameter 1"));
    static const double bad_decays[] = {-1e-9, (double)INFINITY, (double)NAN};
    assert_int_equal(tsr_optimizer_set_weight_decay(o, 0, 0.25), TSR_OK);
    for (size_t i = 0; i < sizeof bad_decays / sizeof *bad_decays; i++)
        assert_int_equal(tsr_optimizer_set_weight_decay(o, 0, bad_decays[i]), TSR_OUT_OF_RANGE);
    assert_true(tsr_optimizer_weight_decay(o, 0) == 0.25);
    assert_true(tsr_optimizer_weight_decay(o, 1) == 0 && tsr_optimizer_weight_decay(NULL, 0) == 0);
    assert_int_equal(tsr_optimizer_decay_matrices_only(NULL), TSR_INVALID_ARGUMENT);
    assert_int_not_equal(tsr_optimizer_step(NULL), TSR_OK);
    assert_int_equal(tsr_optimizer_step(o), TSR_OK); /* nothing has a gradient */
    tsr_optimizer_clear_grad(NULL);
    tsr_optimizer_destroy(NULL);
    tsr_scope_end(); /* the optimizers hold the parameter */
    assert_int_equal(tsr_optimizer_step(o), TSR_OK);
    tsr_optimizer_destroy(o);
    tsr_optimizer_destroy(adam);

    /* For a module: all of its parameters, and no buffer. */
    tsr_module *m = TSR_SEQUENTIAL(tsr_linear_create(cpu, 3, 2, true), tsr_batch_norm2d_create(cpu, 2, 0, 0));
    o = tsr_adamw_for(m, &(tsr_adam_options){.lr = 0.5, .weight_decay = 0.125});
    assert_non_null(o);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(tsr_numel(tsr_optimizer_state(o, i, "exp_avg")),
                         tsr_numel(tsr_module_parameter(m, i, NULL, 0)));
    assert_null(tsr_optimizer_state(o, 4, "exp_avg"));
    for (size_t i = 0; i < 4; i++)
        assert_true(tsr_optimizer_weight_decay(o, i) == 0.125);
    assert_int_equal(tsr_optimizer_decay_matrices_only(o), TSR_OK);
    for (size_t i = 0; i < 4; i++) { /* one matrix: the linear layer's */
        const bool matrix = tsr_rank(tsr_module_parameter(m, i, NULL, 0)) == 2;
        assert_true(matrix == (i == 0));
        assert_true(tsr_optimizer_weight_decay(o, i) == (matrix ? 0.125 : 0));
    }
    tsr_module_destroy(m);
    tsr_optimizer_destroy(o);
    tsr_device_close(cpu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_formulas), cmocka_unit_test(test_states),
                                       cmocka_unit_test(test_errors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
