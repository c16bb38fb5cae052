/* LSTM and GRU against their equations in double: results and gradients by dual numbers that carry what f32 may have rounded; the equations
 * themselves against values of PyTorch. */
#include "tests/op_reference.h"

enum { N = 2, STEPS = 3, STEPS_MOST = 9, IN = 2, HIDDEN = 3, LAYERS_MOST = 2, WEIGHTS_MOST = 12 * 6 };

typedef struct setting {
    const char *name;
    bool lstm, states;
    tsr_recurrent_options options;
    int steps; /* errors grow with layers and steps: few of both at once */
} setting;

static const setting settings[] = {
    {"lstm", true, false, {.layers = 0}, STEPS_MOST},
    {"lstm, all options", true, true, {.layers = 2, .bidirectional = true, .batch_first = true}, STEPS},
    {"lstm without bias", true, true, {.no_bias = true, .batch_first = true}, STEPS_MOST},
    {"gru", false, true, {.layers = 1}, STEPS_MOST},
    {"gru, all options", false, false, {.layers = 2, .bidirectional = true}, STEPS},
    {"gru without bias", false, true, {.no_bias = true, .layers = 2}, STEPS},
};

/* ---- a number, its derivative by whatever is looked at, and how far f32 may be from both ---- */

typedef struct dual {
    double v, d, e, de;
} dual;

static const double u = 0x1p-24;

static dual add(dual a, dual b)
{
    const double v = a.v + b.v, d = a.d + b.d;
    return (dual){v, d, a.e + b.e + u * fabs(v), a.de + b.de + u * fabs(d)};
}

static dual mul(dual a, dual b)
{
    const double v = a.v * b.v, left = a.d * b.v, right = a.v * b.d;
    return (dual){v, left + right, fabs(a.v) * b.e + fabs(b.v) * a.e + u * fabs(v),
                  fabs(a.d) * b.e + fabs(b.v) * a.de + fabs(a.v) * b.de + fabs(b.d) * a.e +
                      2 * u * (fabs(left) + fabs(right))};
}

static dual one_less(dual a)
{
    return add((dual){1, 0, 0, 0}, (dual){-a.v, -a.d, a.e, a.de});
}

/* Both are within 3 ulp, an ulp being up to 2 u of the value; the slope is made of the value. */
static dual squashed(dual a, double y, double slope, double bend, double size)
{
    const double e = slope * a.e + 6 * u * fabs(y);
    return (dual){y, slope * a.d, e, slope * a.de + fabs(a.d) * (bend * e + 4 * u * size)};
}

static dual sigmoid(dual a)
{
    const double y = 1 / (1 + exp(-a.v));
    return squashed(a, y, y * (1 - y), fabs(1 - 2 * y), y);
}

static dual tangent(dual a)
{
    const double y = tanh(a.v);
    return squashed(a, y, 1 - y * y, 2 * fabs(y), 1);
}

/* ---- the equations ---- */

/* weight_ih, weight_hh, bias_ih, bias_hh of a layer and direction */
typedef struct cell {
    dual parameter[4][WEIGHTS_MOST];
} cell;

typedef struct net {
    bool lstm;
    int layers, directions, steps;
    cell cells[2 * LAYERS_MOST];
    dual x[STEPS_MOST][N][2 * HIDDEN]; /* then each layer's outputs */
    dual h[2 * LAYERS_MOST][N][HIDDEN], c[2 * LAYERS_MOST][N][HIDDEN];
} net;

static dual row_product(const dual *w, const dual *x, int n, dual bias)
{
    dual sum = {0, 0, 0, 0};
    for (int i = 0; i < n; i++)
        sum = add(sum, mul(w[i], x[i]));
    return add(sum, bias);
}

static void run_cell(const net *t, const cell *p, const dual *x, int in, dual *h, dual *c)
{
    const int gates = t->lstm ? 4 : 3;
    dual of_x[4 * HIDDEN], of_h[4 * HIDDEN], next[HIDDEN];
    for (int i = 0; i < gates * HIDDEN; i++) {
        of_x[i] = row_product(&p->parameter[0][i * in], x, in, p->parameter[2][i]);
        of_h[i] = row_product(&p->parameter[1][i * HIDDEN], h, HIDDEN, p->parameter[3][i]);
    }
    for (int k = 0; k < HIDDEN; k++) {
        const int second = HIDDEN + k, third = 2 * HIDDEN + k, last = 3 * HIDDEN + k;
        if (t->lstm) {
            const dual i = sigmoid(add(of_x[k], of_h[k])), f = sigmoid(add(of_x[second], of_h[second]));
            const dual g = tangent(add(of_x[third], of_h[third])), o = sigmoid(add(of_x[last], of_h[last]));
            c[k] = add(mul(f, c[k]), mul(i, g));
            next[k] = mul(o, tangent(c[k]));
        } else {
            const dual r = sigmoid(add(of_x[k], of_h[k])), z = sigmoid(add(of_x[second], of_h[second]));
            const dual n = tangent(add(of_x[third], mul(r, of_h[third])));
            next[k] = add(mul(one_less(z), n), mul(z, h[k]));
        }
    }
    memcpy(h, next, sizeof next);
}

static void run_net(net *t)
{
    dual y[STEPS_MOST][N][2 * HIDDEN];
    for (int layer = 0; layer < t->layers; layer++) {
        const int in = layer == 0 ? IN : t->directions * HIDDEN;
        for (int d = 0; d < t->directions; d++)
            for (int step = 0; step < t->steps; step++)
                for (int n = 0; n < N; n++) {
                    const int at = layer * t->directions + d, s = d == 0 ? step : t->steps - 1 - step;
                    run_cell(t, &t->cells[at], t->x[s][n], in, t->h[at][n], t->c[at][n]);
                    memcpy(&y[s][n][d * HIDDEN], t->h[at][n], sizeof(dual) * HIDDEN);
                }
        memcpy(t->x, y, sizeof y);
    }
}

/* torch.nn.LSTM and GRU of PyTorch 1.13.1 in double, two layers of both directions; parameter p's element i being sin(i + p) / 2, x's sin(i), and
 * the states 0: the result's last step of the first sequence, and the last state of layer 1's second direction. */
static void test_equations(void **state)
{
    (void)state;
    static const struct {
        bool lstm;
        double y[2 * HIDDEN], h[HIDDEN];
    } known[] = {
        {true,
         {-0.29552882102224798, -0.28868927077216644, -0.27676976354036559, 0.1385556864575837, 0.088546680502411143,
          -0.054722466854059196},
         {0.20347451303287509, 0.15311187781257507, -0.13423466873999684}},
        {false,
         {-0.49629652804967661, -0.56483186294227117, -0.66848024795116423, 0.43886267523293682, 0.3241519432255987,
          0.078578318871735373},
         {0.68236621108848705, 0.53791038789219792, 0.15665729522303176}},
    };
    for (int k = 0; k < 2; k++) {
        net *t = calloc(1, sizeof *t);
        assert_non_null(t);
        t->lstm = known[k].lstm;
        t->layers = t->directions = 2;
        t->steps = STEPS;
        for (int at = 0; at < 4; at++)
            for (int which = 0; which < 4; which++)
                for (int i = 0; i < WEIGHTS_MOST; i++)
                    t->cells[at].parameter[which][i].v = sin(i + at * 4 + which) / 2;
        for (int i = 0; i < STEPS * N * IN; i++)
            t->x[i / (N * IN)][i / IN % N][i % IN].v = sin(i);
        run_net(t);
        for (int i = 0; i < 2 * HIDDEN; i++)
            assert_true(fabs(t->x[STEPS - 1][0][i].v - known[k].y[i]) < 1e-14);
        for (int i = 0; i < HIDDEN; i++)
            assert_true(fabs(t->h[3][0][i].v - known[k].h[i]) < 1e-14);
        free(t);
    }
}

/* ---- the devices ---- */

/* Everything that has a derivative: x, the states, the parameters, with where each lies in the net. */
typedef struct leaf {
    tsr_tensor *t;
    double *values;
    int64_t count;
} leaf;

enum { X, H0, C0, PARAMETERS, LEAVES_MOST = PARAMETERS + 4 * 2 * LAYERS_MOST };

typedef struct trial {
    const run *r;
    const setting *s;
    leaf leaves[LEAVES_MOST];
    double *weight_y, *weight_h, *weight_c; /* of the objective */
} trial;

static dual *place(net *t, const setting *s, int leaf_index, int64_t i)
{
    if (leaf_index == X) {
        const int64_t row = i / IN, outer = s->options.batch_first ? s->steps : N;
        const int64_t a = row / outer, b = row % outer;
        return s->options.batch_first ? &t->x[b][a][i % IN] : &t->x[a][b][i % IN];
    }
    if (leaf_index == H0)
        return &(&t->h[0][0][0])[i];
    if (leaf_index == C0)
        return &(&t->c[0][0][0])[i];
    return &t->cells[(leaf_index - PARAMETERS) / 4].parameter[(leaf_index - PARAMETERS) % 4][i];
}

static void fill(net *t, const trial *l)
{
    memset(t, 0, sizeof *t);
    t->lstm = l->s->lstm;
    t->layers = l->s->options.layers == 0 ? 1 : l->s->options.layers;
    t->directions = l->s->options.bidirectional ? 2 : 1;
    t->steps = l->s->steps;
    for (int k = 0; k < LEAVES_MOST; k++)
        for (int64_t i = 0; l->leaves[k].t != NULL && i < l->leaves[k].count; i++)
            place(t, l->s, k, i)->v = l->leaves[k].values[i];
}

static int64_t y_place(const trial *l, int step, int n, int k, int width)
{
    return ((l->s->options.batch_first ? n * l->s->steps + step : step * N + n)) * width + k;
}

static dual objective(const trial *l, const net *t)
{
    dual sum = {0, 0, 0, 0};
    const int width = t->directions * HIDDEN;
    for (int step = 0; step < t->steps; step++)
        for (int n = 0; n < N; n++)
            for (int k = 0; k < width; k++)
                sum = add(sum, mul((dual){l->weight_y[y_place(l, step, n, k, width)], 0, 0, 0}, t->x[step][n][k]));
    for (int i = 0; i < t->layers * t->directions * N * HIDDEN; i++) {
        sum = add(sum, mul((dual){l->weight_h[i], 0, 0, 0}, (&t->h[0][0][0])[i]));
        if (t->lstm)
            sum = add(sum, mul((dual){l->weight_c[i], 0, 0, 0}, (&t->c[0][0][0])[i]));
    }
    return sum;
}

static void near(const trial *l, const char *what, int k, int64_t i, double got, double expected, double bound)
{
    assert_true(bound < 1e-3); /* a bound that says something */
    if (!(fabs(got - expected) <= bound))
        fail_msg("%s on %s: %s %d, element %lld is %.9g for %.9g, error %.3g, bound %.3g", l->s->name, l->r->name, what,
                 k, (long long)i, got, expected, fabs(got - expected), bound);
}

/* Products add up in any order: twice what one order may round. */
static void check_results(const trial *l, net *t, tsr_tensor *y, tsr_tensor *h, tsr_tensor *c)
{
    const int width = t->directions * HIDDEN;
    double *got = values_of(l->r, y);
    fill(t, l);
    run_net(t);
    for (int step = 0; step < t->steps; step++)
        for (int n = 0; n < N; n++)
            for (int k = 0; k < width; k++)
                near(l, "result", step, k, got[y_place(l, step, n, k, width)], t->x[step][n][k].v,
                     2 * t->x[step][n][k].e);
    free(got);
    tsr_tensor *const states[] = {h, c};
    for (int which = 0; which < (t->lstm ? 2 : 1); which++) {
        got = values_of(l->r, states[which]);
        for (int64_t i = 0; i < t->layers * t->directions * N * HIDDEN; i++) {
            const dual *e = place(t, l->s, which == 0 ? H0 : C0, i);
            near(l, "state", which, i, got[i], e->v, 2 * e->e);
        }
        free(got);
    }
}

/* Backward adds up along other ways than these duals do, the same products: four times. */
static void check_gradients(const trial *l, net *t)
{
    for (int k = 0; k < LEAVES_MOST; k++) {
        if (l->leaves[k].t == NULL)
            continue;
        tsr_tensor *gradient = tsr_grad(l->leaves[k].t);
        require(l->r, gradient);
        double *got = values_of(l->r, gradient);
        for (int64_t i = 0; i < l->leaves[k].count; i++) {
            fill(t, l);
            place(t, l->s, k, i)->d = 1;
            run_net(t);
            const dual e = objective(l, t);
            near(l, "gradient", k, i, got[i], e.d, 4 * e.de + 1e-9);
        }
        free(got);
    }
}

static void add_leaf(trial *l, int k, tsr_tensor *t)
{
    require(l->r, t);
    require_ok(l->r, tsr_set_requires_grad(t, true));
    l->leaves[k] = (leaf){t, values_of(l->r, t), tsr_numel(t)};
}

static tsr_tensor *weighted(const run *r, tsr_tensor *t, uint32_t seed, double **values)
{
    return tsr_sum(tsr_mul(t, random_tensor(r, TSR_F32, tsr_rank(t), tsr_shape(t), REALS, seed, values)), NULL, 0,
                   false);
}

static void check(const run *r, const setting *s)
{
    static const char *const names[] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh"};
    const int layers = s->options.layers == 0 ? 1 : s->options.layers, directions = s->options.bidirectional ? 2 : 1;
    const int64_t states[] = {layers * directions, N, HIDDEN};
    trial l = {.r = r, .s = s};
    double *unused;
    require_ok(r, tsr_scope_begin());
    require_ok(r, tsr_seed(r->device, 11));
    tsr_module *m = (s->lstm ? tsr_lstm_create : tsr_gru_create)(r->device, IN, HIDDEN, &s->options);
    require(r, m);
    assert_int_equal(tsr_module_parameter_count(m), (s->options.no_bias ? 2 : 4) * layers * directions);
    for (int at = 0; at < layers * directions; at++)
        for (int which = 0; which < (s->options.no_bias ? 2 : 4); which++) {
            char name[40];
            snprintf(name, sizeof name, "%s_l%d%s", names[which], at / directions, at % directions ? "_reverse" : "");
            add_leaf(&l, PARAMETERS + at * 4 + which, tsr_module_find(m, name));
        }
    const int64_t shape[] = {s->options.batch_first ? N : s->steps, s->options.batch_first ? s->steps : N, IN};
    add_leaf(&l, X, random_tensor(r, TSR_F32, 3, shape, REALS, 5, &unused));
    free(unused);
    for (int k = H0; k <= (s->lstm ? C0 : H0) && s->states; k++) {
        add_leaf(&l, k, random_tensor(r, TSR_F32, 3, states, REALS, (uint32_t)(5 + k), &unused));
        free(unused);
    }
    tsr_tensor *y = NULL, *h = NULL, *c = NULL;
    require_ok(r, tsr_recurrent_forward(m, l.leaves[X].t, l.leaves[H0].t, l.leaves[C0].t, &y, &h, s->lstm ? &c : NULL));
    net *t = calloc(1, sizeof *t);
    assert_non_null(t);
    check_results(&l, (fill(t, &l), t), y, h, c);
    tsr_tensor *loss = tsr_add(weighted(r, y, 21, &l.weight_y), weighted(r, h, 22, &l.weight_h));
    if (s->lstm)
        loss = tsr_add(loss, weighted(r, c, 23, &l.weight_c));
    require_ok(r, tsr_backward(loss));
    check_gradients(&l, t);
    if (!s->states) { /* the plain forward is the same */
        double *a = values_of(r, y), *b = values_of(r, tsr_forward(m, l.leaves[X].t));
        assert_memory_equal(a, b, sizeof *a * (size_t)tsr_numel(y));
        free(a);
        free(b);
    }
    for (int k = 0; k < LEAVES_MOST; k++)
        free(l.leaves[k].values);
    free(l.weight_y), free(l.weight_h), free(l.weight_c), free(t);
    tsr_module_destroy(m);
    require_ok(r, tsr_scope_end());
}

/* Dropout between layers: none in evaluation, and in training not behind the last layer. */
static void check_dropout(const run *r)
{
    double *unused;
    float plain[STEPS * N * HIDDEN], evaluated[STEPS * N * HIDDEN], trained[STEPS * N * HIDDEN];
    float *const results[] = {plain, evaluated, trained};
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = random_tensor(r, TSR_F32, 3, (int64_t[]){STEPS, N, IN}, REALS, 5, &unused);
    free(unused);
    for (int k = 0; k < 3; k++) {
        require_ok(r, tsr_seed(r->device, 7));
        tsr_module *m =
            tsr_gru_create(r->device, IN, HIDDEN, &(tsr_recurrent_options){.layers = 2, .dropout = k == 0 ? 0 : 0.5});
        require(r, m);
        tsr_module_train(m, k != 1);
        require_ok(r, tsr_read_f32(tsr_forward(m, x), results[k], STEPS * N * HIDDEN));
        tsr_module_destroy(m);
    }
    assert_memory_equal(plain, evaluated, sizeof plain);
    assert_true(memcmp(plain, trained, sizeof plain) != 0);
    for (int i = 0; i < STEPS * N * HIDDEN; i++)
        assert_true(trained[i] != 0);
    require_ok(r, tsr_scope_end());
}

static void layers_on(const run *r)
{
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        check(r, &settings[i]);
    check_dropout(r);
}

static void test_layers(void **state)
{
    (void)state;
    on_every_device(layers_on);
}

static void test_errors(void **state)
{
    (void)state;
    tsr_device *cpu = tsr_device_open("cpu");
    assert_int_equal(tsr_scope_begin(), TSR_OK);
    assert_null(tsr_lstm_create(cpu, 0, 3, NULL));
    assert_null(tsr_gru_create(cpu, 2, 0, NULL));
    assert_null(tsr_gru_create(cpu, 2, 3, &(tsr_recurrent_options){.layers = -1}));
    assert_null(tsr_lstm_create(cpu, 2, 3, &(tsr_recurrent_options){.dropout = 1}));
    assert_int_equal(tsr_last_status(), TSR_OUT_OF_RANGE);
    tsr_module *lstm = tsr_lstm_create(cpu, IN, HIDDEN, NULL), *gru = tsr_gru_create(cpu, IN, HIDDEN, NULL);
    tsr_module *relu = tsr_relu_create();
    tsr_tensor *x = tsr_zeros(cpu, TSR_F32, 3, (int64_t[]){STEPS, N, IN}), *y = NULL, *c = NULL;
    tsr_tensor *state_1 = tsr_zeros(cpu, TSR_F32, 3, (int64_t[]){1, N, HIDDEN});
    assert_null(tsr_forward(lstm, tsr_zeros(cpu, TSR_F32, 2, (int64_t[]){STEPS, IN})));
    assert_non_null(strstr(tsr_last_error(), "[steps, n, in]"));
    assert_null(tsr_forward(lstm, tsr_zeros(cpu, TSR_F32, 3, (int64_t[]){STEPS, N, 5})));
    assert_non_null(strstr(tsr_last_error(), "5 inputs where the layer has 2"));
    assert_null(tsr_forward(gru, tsr_zeros(cpu, TSR_F32, 3, (int64_t[]){0, N, IN})));
    assert_int_not_equal(tsr_recurrent_forward(gru, x, state_1, state_1, &y, NULL, NULL), TSR_OK);
    assert_non_null(strstr(tsr_last_error(), "no second state"));
    assert_int_not_equal(tsr_recurrent_forward(gru, x, NULL, NULL, &y, NULL, &c), TSR_OK);
    assert_int_not_equal(tsr_recurrent_forward(lstm, x, x, NULL, &y, NULL, NULL), TSR_OK);
    assert_non_null(strstr(tsr_last_error(), "it should be [1, 2, 3]"));
    assert_int_not_equal(tsr_recurrent_forward(relu, x, NULL, NULL, &y, NULL, NULL), TSR_OK);
    assert_int_not_equal(tsr_recurrent_forward(NULL, x, NULL, NULL, &y, NULL, NULL), TSR_OK);
    assert_null(y);
    assert_int_equal(tsr_recurrent_forward(lstm, x, state_1, NULL, NULL, NULL, &c), TSR_OK);
    assert_int_equal(tsr_numel(c), N * HIDDEN);
    assert_int_not_equal(tsr_lstm_cell(x, x, state_1, &y, &c), TSR_OK);
    assert_non_null(strstr(tsr_last_error(), "4 · hidden"));
    assert_int_not_equal(tsr_lstm_cell(x, x, state_1, &y, NULL), TSR_OK);
    assert_null(tsr_gru_cell(x, x, state_1));
    tsr_module_destroy(lstm);
    tsr_module_destroy(gru);
    tsr_module_destroy(relu);
    assert_int_equal(tsr_scope_end(), TSR_OK);
    tsr_device_close(cpu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_equations), cmocka_unit_test(test_layers),
                                       cmocka_unit_test(test_errors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
