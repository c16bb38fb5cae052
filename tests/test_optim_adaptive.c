/* RMSprop, Adagrad, Lion and LAMB on every device: 14 steps against the published formulas in double, carried with the error that f32 may
 * have made; a learning rate that changes; weight decays of single parameters; parameters that get their gradients late or never; bad input. */
#include "tests/op_reference.h"

#include "tests/optim_decay.h"

enum { STEPS = 14, PARAMETERS = 4, IDLE = 3, LATE_FROM = 5, NEW_RATE_FROM = 9 };
static const int64_t counts[PARAMETERS] = {7, 20001, 65, 9};

typedef enum kind { RMSPROP, ADAGRAD, LION, LAMB } kind;

typedef struct row {
    const char *name;
    kind kind;
    double lr, later_lr, decay, epsilon;     /* 0: the default */
    double beta1, beta2, momentum, lr_decay; /* beta1 is also alpha */
    double initial;
    bool centered;
} row;

static const row rows[] = {
    {"rmsprop", RMSPROP, 0, 3e-3, 0, 0, 0, 0, 0, 0, 0, false},
    {"rmsprop, weight decay", RMSPROP, 0.02, 0.01, 0.1, 1e-3, 0.9, 0, 0, 0, 0, false},
    {"rmsprop, momentum", RMSPROP, 0.003, 0.001, 0, 1e-3, 0.95, 0, 0.8, 0, 0, false},
    {"rmsprop, centred", RMSPROP, 0.003, 0.001, 0.01, 1e-2, 0.9, 0, 0, 0, 0, true},
    {"rmsprop, all", RMSPROP, 0.001, 0.002, 0.1, 1e-2, 0.8, 0, 0.9, 0, 0, true},
    {"adagrad", ADAGRAD, 0, 0.02, 0, 0, 0, 0, 0, 0, 0, false},
    {"adagrad, all", ADAGRAD, 0.1, 0.05, 0.01, 1e-6, 0, 0, 0, 0.03, 0.1, false},
    {"lion", LION, 0, 3e-4, 0, 0, 0, 0, 0, 0, 0, false},
    {"lion, weight decay", LION, 2e-4, 1e-4, 0.5, 0, 0.8, 0.95, 0, 0, 0, false},
    {"lamb", LAMB, 0, 2e-3, 0, 0, 0, 0, 0, 0, 0, false},
    {"lamb, weight decay", LAMB, 0.01, 0.02, 0.01, 1e-3, 0.8, 0.95, 0, 0, 0, false},
};

static row decays_of(const row *c, int parameter, int t)
{
    row own = *c;
    own.decay = decay_of(c->decay, parameter, t >= NEW_RATE_FROM);
    return own;
}

/* ---- numbers with the error that f32 may have made on the way ---- */

typedef struct number {
    double v, e;
} number;

static const double u = 0x1p-24;

static number rounded(double v, double e)
{
    return (number){v, e + u * fabs(v) + 0x1p-149};
}

static number num(double v)
{
    return rounded(v, 0);
}

static number add(number a, number b)
{
    return rounded(a.v + b.v, a.e + b.e);
}

static number sub(number a, number b)
{
    return rounded(a.v - b.v, a.e + b.e);
}

static number mul(number a, number b)
{
    return rounded(a.v * b.v, fabs(a.v) * b.e + fabs(b.v) * a.e + a.e * b.e);
}

static number quotient(number a, number b)
{
    const double q = a.v / b.v, least = fabs(b.v) - b.e;
    return rounded(q, least > 0 ? (a.e + fabs(q) * b.e) / least : (double)INFINITY);
}

static number root(number a)
{
    const double v = a.v > 0 ? sqrt(a.v) : 0;
    return rounded(v, fmax(v - sqrt(fmax(a.v - a.e, 0)), sqrt(fmax(a.v + a.e, 0)) - v));
}

/* A step goes either way where the error leaves the sign open. */
static number sign(number a)
{
    return (number){a.v > 0 ? 1 : a.v < 0 ? -1 : 0, fabs(a.v) <= a.e && a.e > 0x1p-140 ? 2 : 0};
}

/* ---- the formulas ---- */

typedef struct element {
    number p, first, second, third;
} element;

static double or_else(double v, double otherwise)
{
    return v != 0 ? v : otherwise;
}

static number decayed(const row *c, const element *e, double gradient)
{
    const number g = {gradient, 0};
    return c->decay == 0 ? g : add(g, mul(num(c->decay), e->p));
}

/* torch.optim.RMSprop */
static void rmsprop_step(const row *c, element *e, double lr, double gradient)
{
    const double alpha = or_else(c->beta1, 0.99);
    const number g = decayed(c, e, gradient);
    e->first = add(mul(e->first, num(alpha)), mul(mul(g, g), num(1 - alpha)));
    number variance = e->first;
    if (c->centered) {
        e->third = add(mul(e->third, num(alpha)), mul(g, num(1 - alpha)));
        variance = sub(variance, mul(e->third, e->third));
    }
    number change = quotient(g, add(root(variance), num(or_else(c->epsilon, 1e-8))));
    if (c->momentum != 0)
        change = e->second = add(mul(e->second, num(c->momentum)), change);
    e->p = sub(e->p, mul(num(lr), change));
}

/* torch.optim.Adagrad */
static void adagrad_step(const row *c, element *e, double lr, double gradient, int t)
{
    const number g = decayed(c, e, gradient);
    const number rate = quotient(num(lr), add(num(1), mul(num(t - 1), num(c->lr_decay))));
    e->first = add(e->first, mul(g, g));
    e->p = sub(e->p, mul(rate, quotient(g, add(root(e->first), num(or_else(c->epsilon, 1e-10))))));
}

/* Chen et al. 2023, algorithm 2 */
static void lion_step(const row *c, element *e, double lr, double gradient)
{
    const double b1 = or_else(c->beta1, 0.9), b2 = or_else(c->beta2, 0.99);
    const number g = {gradient, 0};
    const number way = sign(add(mul(e->first, num(b1)), mul(g, num(1 - b1))));
    e->p = sub(e->p, mul(num(lr), add(way, mul(num(c->decay), e->p))));
    e->first = add(mul(e->first, num(b2)), mul(g, num(1 - b2)));
}

/* A bias correction: its complement's rounding, log1p, product and expm1. */
static number correction(double beta, int t)
{
    const double v = 1 - pow(beta, t);
    return (number){v, 10 * u * v};
}

/* The norm of what `at` picks of each element, in sums of 4096 and of those, by 64 lanes each. */
static number norm_of(const number *x, int64_t n)
{
    number sum = {0, 0};
    for (int64_t i = 0; i < n; i++) {
        sum.v += x[i].v * x[i].v;
        sum.e += (2 * fabs(x[i].v) + x[i].e) * x[i].e;
    }
    sum.e += (double)(64 + 6 + 64 + 6 + 1) * u * sum.v;
    return root(sum);
}

/* You et al. 2020, algorithm 2 */
static void lamb_step(const row *c, element *e, int64_t n, double lr, const double *gradient, int t)
{
    const double b1 = or_else(c->beta1, 0.9), b2 = or_else(c->beta2, 0.999);
    number *x = malloc(sizeof *x * (size_t)n), *r = malloc(sizeof *r * (size_t)n);
    assert_true(x != NULL && r != NULL);
    for (int64_t i = 0; i < n; i++) {
        const number g = {gradient[i], 0};
        e[i].first = add(mul(e[i].first, num(b1)), mul(g, num(1 - b1)));
        e[i].second = add(mul(e[i].second, num(b2)), mul(mul(g, g), num(1 - b2)));
        const number m = quotient(e[i].first, correction(b1, t));
        const number v = quotient(root(e[i].second), root(correction(b2, t)));
        x[i] = e[i].p;
        r[i] = add(quotient(m, add(v, num(or_else(c->epsilon, 1e-6)))), mul(num(c->decay), e[i].p));
    }
    const number step = mul(num(lr), quotient(norm_of(x, n), norm_of(r, n)));
    for (int64_t i = 0; i < n; i++)
        e[i].p = sub(e[i].p, mul(step, r[i]));
    free(x);
    free(r);
}

static void reference_step(const row *c, element *e, int64_t n, double lr, const double *g, int t)
{
    if (c->kind == LAMB)
        lamb_step(c, e, n, lr, g, t);
    for (int64_t i = 0; i < n && c->kind != LAMB; i++) {
        if (c->kind == RMSPROP)
            rmsprop_step(c, &e[i], lr, g[i]);
        else if (c->kind == ADAGRAD)
            adagrad_step(c, &e[i], lr, g[i], t);
        else
            lion_step(c, &e[i], lr, g[i]);
    }
}

/* ---- the devices ---- */

static void within(const run *r, const row *c, const char *what, int step, int parameter, int64_t i, double got,
                   number expected)
{
    if (!(fabs(got - expected.v) <= expected.e))
        fail_msg("%s on %s: %s %d, element %lld after step %d is %.9g for %.9g, error %.3g, bound %.3g", c->name,
                 r->name, what, parameter, (long long)i, step, got, expected.v, fabs(got - expected.v), expected.e);
}

static tsr_optimizer *make(const row *c, tsr_tensor *const *p, size_t count)
{
    switch (c->kind) {
    case RMSPROP:
        return tsr_rmsprop_create(p, count,
                                  &(tsr_rmsprop_options){.lr = c->lr,
                                                         .alpha = c->beta1,
                                                         .epsilon = c->epsilon,
                                                         .weight_decay = c->decay,
                                                         .momentum = c->momentum,
                                                         .centered = c->centered});
    case ADAGRAD:
        return tsr_adagrad_create(p, count,
                                  &(tsr_adagrad_options){.lr = c->lr,
                                                         .lr_decay = c->lr_decay,
                                                         .epsilon = c->epsilon,
                                                         .weight_decay = c->decay,
                                                         .initial_accumulator = c->initial});
    case LION:
        return tsr_lion_create(
            p, count, &(tsr_lion_options){.lr = c->lr, .beta1 = c->beta1, .beta2 = c->beta2, .weight_decay = c->decay});
    default:
        return tsr_lamb_create(
            p, count,
            &(tsr_lamb_options){
                .lr = c->lr, .beta1 = c->beta1, .beta2 = c->beta2, .epsilon = c->epsilon, .weight_decay = c->decay});
    }
}

static double first_rate(const row *c)
{
    static const double rates[] = {1e-2, 1e-2, 1e-4, 1e-3};
    return or_else(c->lr, rates[c->kind]);
}

static void check_state(const run *r, const row *c, tsr_optimizer *o, int k, const char *name, const element *e,
                        int which)
{
    tsr_tensor *t = tsr_optimizer_state(o, (size_t)k, name);
    require(r, t);
    double *v = values_of(r, t);
    for (int64_t i = 0; i < counts[k]; i++)
        within(r, c, name, STEPS, k, i, v[i], which == 0 ? e[i].first : which == 1 ? e[i].second : e[i].third);
    free(v);
}

static void check_states(const run *r, const row *c, tsr_optimizer *o, int k, const element *e)
{
    static const char *const names[][3] = {{"square_avg", "momentum_buffer", "grad_avg"},
                                           {"sum", NULL, NULL},
                                           {"exp_avg", NULL, NULL},
                                           {"exp_avg", "exp_avg_sq", NULL}};
    for (int which = 0; which < 3; which++) {
        const char *name = names[c->kind][which];
        if (name == NULL)
            continue;
        if (c->kind == RMSPROP && ((which == 1 && c->momentum == 0) || (which == 2 && !c->centered)))
            assert_null(tsr_optimizer_state(o, (size_t)k, name));
        else
            check_state(r, c, o, k, name, e, which);
    }
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
        for (int64_t i = 0; i < counts[k]; i++) {
            e[k][i].p.v = v[i];
            e[k][i].first = num(c->initial);
        }
        free(v);
    }
    tsr_optimizer *o = make(c, p, PARAMETERS);
    require(r, o);
    double lr = first_rate(c);
    assert_true(tsr_optimizer_lr(o) == lr);
    require_ok(r, tsr_optimizer_set_weight_decay(o, OWN, decays_of(c, OWN, 1).decay));
    for (int t = 1; t <= STEPS; t++) {
        require_ok(r, tsr_scope_begin());
        if (t == NEW_RATE_FROM) {
            require_ok(r, tsr_optimizer_set_lr(o, lr = c->later_lr));
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
            reference_step(&own, e[k], counts[k], lr, g, t);
            free(g);
        }
        require_ok(r, tsr_optimizer_step(o));
        tsr_optimizer_clear_grad(o);
        for (int k = 0; k < PARAMETERS; k++) {
            if (t != 1 && t != LATE_FROM && t != NEW_RATE_FROM && t != STEPS)
                continue;
            double *v = values_of(r, p[k]);
            for (int64_t i = 0; i < counts[k]; i++) {
                assert_true(e[k][i].p.e < 1e-3); /* a bound that says something */
                within(r, c, "parameter", t, k, i, v[i], e[k][i].p);
            }
            free(v);
        }
        require_ok(r, tsr_scope_end());
    }
    for (int k = 0; k < PARAMETERS; k++) {
        check_states(r, c, o, k, e[k]);
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

/* Where a norm is 0 the ratio is 1: a parameter of zeros moves, and one without gradient and decay stays. */
static void zeros_on(const run *r)
{
    const int64_t n = 3;
    float v[3];
    require_ok(r, tsr_scope_begin());
    tsr_tensor *p = tsr_zeros(r->device, TSR_F32, 1, &n);
    require_ok(r, tsr_set_requires_grad(p, true));
    tsr_optimizer *o = tsr_lamb_create(&p, 1, &(tsr_lamb_options){.lr = 0.5, .epsilon = 1e-20});
    require(r, o);
    const float gradient[] = {2, -4, 0};
    require_ok(r, tsr_backward_from(p, tsr_from_data(r->device, TSR_F32, 1, &n, gradient), false));
    require_ok(r, tsr_optimizer_step(o));
    require_ok(r, tsr_read_f32(p, v, 3));
    if (!(fabs((double)v[0] + 0.5) < 20 * u && fabs((double)v[1] - 0.5) < 20 * u && v[2] == 0))
        fail_msg("lamb from zeros on %s: %.9g %.9g %.9g for -0.5 0.5 0", r->name, (double)v[0], (double)v[1],
                 (double)v[2]);
    tsr_optimizer_destroy(o);
    require_ok(r, tsr_scope_end());
}

static void test_zeros(void **state)
{
    (void)state;
    on_every_device(zeros_on);
}

static void test_errors(void **state)
{
    (void)state;
    tsr_device *cpu = tsr_device_open("cpu");
    const int64_t n = 6;
    tsr_scope_begin();
    tsr_tensor *p = tsr_zeros(cpu, TSR_F32, 1, &n);
    assert_int_equal(tsr_set_requires_grad(p, true), TSR_OK);
    static const tsr_rmsprop_options bad_rmsprop[] = {
        {.lr = -1}, {.alpha = 1}, {.epsilon = -1}, {.weight_decay = -1}, {.momentum = -1}, {.momentum = (double)NAN}};
    for (size_t i = 0; i < sizeof bad_rmsprop / sizeof *bad_rmsprop; i++)
        assert_null(tsr_rmsprop_create(&p, 1, &bad_rmsprop[i]));
    static const tsr_adagrad_options bad_adagrad[] = {
        {.lr = -1}, {.lr_decay = -1}, {.epsilon = -1}, {.weight_decay = (double)NAN}, {.initial_accumulator = -1}};
    for (size_t i = 0; i < sizeof bad_adagrad / sizeof *bad_adagrad; i++)
        assert_null(tsr_adagrad_create(&p, 1, &bad_adagrad[i]));
    static const tsr_lion_options bad_lion[] = {{.lr = -1}, {.beta1 = 1}, {.beta2 = -0.5}, {.weight_decay = -1}};
    for (size_t i = 0; i < sizeof bad_lion / sizeof *bad_lion; i++)
        assert_null(tsr_lion_create(&p, 1, &bad_lion[i]));
    static const tsr_lamb_options bad_lamb[] = {
        {.lr = (double)NAN}, {.beta1 = 1}, {.epsilon = -1}, {.weight_decay = -1}};
    for (size_t i = 0; i < sizeof bad_lamb / sizeof *bad_lamb; i++)
        assert_null(tsr_lamb_create(&p, 1, &bad_lamb[i]));
    assert_int_equal(tsr_last_status(), TSR_OUT_OF_RANGE);
    assert_null(tsr_lamb_create(&p, 0, NULL));
    assert_null(tsr_lion_for(NULL, NULL));

    tsr_module *m = tsr_linear_create(cpu, 3, 2, true);
    tsr_optimizer *made[] = {tsr_rmsprop_for(m, NULL), tsr_adagrad_for(m, NULL), tsr_lion_for(m, NULL),
                             tsr_lamb_for(m, NULL)};
    for (size_t i = 0; i < 4; i++) {
        assert_non_null(made[i]);
        assert_int_equal(tsr_optimizer_step(made[i]), TSR_OK);
        tsr_optimizer_destroy(made[i]);
    }
    tsr_module_destroy(m);
    tsr_scope_end();
    tsr_device_close(cpu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_formulas), cmocka_unit_test(test_zeros),
                                       cmocka_unit_test(test_errors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
