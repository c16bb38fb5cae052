/* Activation checkpointing: gradients with the bits of those without it, on every device: dropout, mixed precision, parts in parts, parameters used in
 * and outside of a part, several inputs and outputs. And the plan against every choice there is. */
#include "tests/op_reference.h"

enum { ROWS = 6, WIDTH = 40, LAYERS = 4, MOST = 8 * WIDTH * WIDTH };

typedef struct network {
    tsr_module *layers; /* sequential */
    tsr_tensor *x, *shared;
    bool plain; /* no parts at all */
} network;

static tsr_module *block(const run *r)
{
    tsr_device *d = r->device;
    tsr_module *m = TSR_SEQUENTIAL(tsr_linear_create(d, WIDTH, WIDTH, true), tsr_gelu_create(),
                                   tsr_dropout_create(0.25), tsr_linear_create(d, WIDTH, WIDTH, true));
    require(r, m);
    return m;
}

static void begin(const run *r, network *n)
{
    require_ok(r, tsr_seed(r->device, 7));
    n->layers = TSR_SEQUENTIAL(block(r), block(r), block(r), block(r));
    n->x = tsr_normal(r->device, TSR_F32, 2, (int64_t[]){ROWS, WIDTH}, 0, 1);
    n->shared = tsr_normal(r->device, TSR_F32, 2, (int64_t[]){WIDTH, WIDTH}, 0, 0.2);
    require(r, n->layers);
    require(r, n->shared);
    require_ok(r, tsr_set_requires_grad(n->x, true));
    require_ok(r, tsr_set_requires_grad(n->shared, true));
}

static void end(network *n)
{
    tsr_module_destroy(n->layers);
}

/* All gradients, one after the other. */
static size_t gradients(const run *r, const network *n, float *to)
{
    size_t at = 0;
    const size_t count = tsr_module_parameter_count(n->layers);
    for (size_t i = 0; i < count + 2; i++) {
        tsr_tensor *p = i < count ? tsr_module_parameter(n->layers, i, NULL, 0) : i == count ? n->x : n->shared;
        if (tsr_grad(p) == NULL)
            continue;
        const size_t size = (size_t)tsr_numel(p);
        assert_true(at + size <= MOST * 2);
        require_ok(r, tsr_read_f32(tsr_grad(p), to + at, size));
        at += size;
    }
    return at;
}

/* ---- parts ---- */

/* (a, b) → (a W + b, gelu(b W)): W in two products, b used twice. */
static tsr_status pair(void *context, tsr_tensor *const *in, int in_count, tsr_tensor **out, int out_count)
{
    assert_int_equal(in_count, 2);
    assert_int_equal(out_count, 2);
    const network *n = context;
    out[0] = tsr_add(tsr_matmul(in[0], n->shared), in[1]);
    out[1] = tsr_dropout(tsr_gelu(tsr_matmul(in[1], n->shared)), 0.5, true);
    return out[0] != NULL && out[1] != NULL ? TSR_OK : tsr_last_status();
}

/* Two of them, the second a part in this part. */
static tsr_status nested(void *context, tsr_tensor *const *in, int in_count, tsr_tensor **out, int out_count)
{
    tsr_tensor *middle[2] = {NULL};
    const tsr_status status = pair(context, in, in_count, middle, 2);
    if (status == TSR_OK && ((const network *)context)->plain)
        return pair(context, middle, 2, out, out_count);
    return status == TSR_OK ? tsr_checkpoint(pair, context, NULL, middle, 2, out, out_count) : status;
}

typedef enum way { PLAIN, IN_PARTS, IN_NESTED_PARTS } way;

static void run_part(const run *r, const network *n, way how, tsr_checkpoint_fn *fn, tsr_tensor *const *in,
                     tsr_tensor **out)
{
    require_ok(r, how == PLAIN ? fn((void *)(uintptr_t)n, in, 2, out, 2)
                               : tsr_checkpoint(fn, (void *)(uintptr_t)n, NULL, in, 2, out, 2));
}

/* A loss that goes through blocks, pairs and the shared parameter outside of any part, before and after them. */
static double train(const run *r, tsr_dtype dtype, way how, float *grads, size_t *count)
{
    static const bool some[LAYERS] = {true, false, true, true};
    network n;
    double value;
    require_ok(r, tsr_scope_begin());
    begin(r, &n);
    n.plain = how == PLAIN;
    if (how != PLAIN)
        require_ok(r, tsr_sequential_checkpoint(n.layers, how == IN_PARTS ? some : NULL, LAYERS));
    require_ok(r, tsr_autocast_begin(dtype));
    tsr_tensor *before = tsr_matmul(n.x, n.shared), *first[2], *second[2], *third[2];
    tsr_tensor *deep = tsr_forward(n.layers, before);
    run_part(r, &n, how, pair, (tsr_tensor *[]){before, deep}, first);
    run_part(r, &n, how, nested, (tsr_tensor *[]){first[0], first[1]}, second);
    run_part(r, &n, PLAIN, pair, (tsr_tensor *[]){second[1], second[0]}, third);
    tsr_tensor *sum = tsr_add(tsr_add(third[0], third[1]), tsr_add(before, first[0]));
    tsr_tensor *loss = tsr_mean(tsr_mul(sum, sum), NULL, 0, false);
    tsr_autocast_end();
    require(r, loss);
    require_ok(r, tsr_backward(tsr_cast(loss, TSR_F32)));
    require_ok(r, tsr_item(loss, &value));
    *count = gradients(r, &n, grads);
    end(&n);
    require_ok(r, tsr_scope_end());
    return value;
}

static float plain[MOST * 2], parts[MOST * 2];

static void same_bits(const run *r)
{
    static const tsr_dtype dtypes[] = {TSR_F32, TSR_F16, TSR_BF16};
    for (size_t d = 0; d < 3; d++)
        for (way how = IN_PARTS; how <= IN_NESTED_PARTS; how++) {
            size_t n, m;
            const double expected = train(r, dtypes[d], PLAIN, plain, &n);
            const double loss = train(r, dtypes[d], how, parts, &m);
            assert_true(expected == loss);
            assert_int_equal(n, m);
            assert_true(n > 0);
            for (size_t i = 0; i < n; i++)
                if (memcmp(&plain[i], &parts[i], sizeof *plain) != 0)
                    fail_msg("%s, %s: gradient %zu is %.9g without parts, %.9g with them", r->name,
                             tsr_dtype_name(dtypes[d]), i, (double)plain[i], (double)parts[i]);
        }
}

static void test_same_bits(void **state)
{
    (void)state;
    on_every_device(same_bits);
}

/* ---- what a part holds ---- */

static uint64_t allocated(const run *r)
{
    tsr_memory_statistics s;
    require_ok(r, tsr_device_sync(r->device));
    require_ok(r, tsr_memory_stats(r->device, &s));
    return s.allocated_bytes;
}

static uint64_t held_by(const run *r, bool checkpointed)
{
    network n;
    require_ok(r, tsr_scope_begin());
    begin(r, &n);
    if (checkpointed)
        require_ok(r, tsr_sequential_checkpoint(n.layers, NULL, LAYERS));
    tsr_tensor *x = tsr_normal(r->device, TSR_F32, 2, (int64_t[]){2048, WIDTH}, 0, 1);
    const uint64_t before = allocated(r);
    tsr_tensor *y = tsr_forward(n.layers, x);
    require(r, y);
    const uint64_t held = allocated(r) - before;
    require_ok(r, tsr_backward(tsr_sum(y, NULL, 0, false)));
    end(&n);
    require_ok(r, tsr_scope_end());
    return held;
}

static void memory_on(const run *r)
{
    const uint64_t layer = (uint64_t)2048 * WIDTH * sizeof(float), all = held_by(r, false), few = held_by(r, true);
    /* linear keeps its input, gelu its own, so does the second linear: 3 a block and the block's result; parts keep inputs alone. */
    assert_in_range(few, LAYERS * layer, LAYERS * layer + (1 << 20));
    assert_true(all >= 3 * LAYERS * layer);
}

static void test_memory(void **state)
{
    (void)state;
    on_every_device(memory_on);
}

/* ---- calls that go wrong, and running statistics ---- */

static tsr_status fails(void *context, tsr_tensor *const *in, int in_count, tsr_tensor **out, int out_count)
{
    (void)in_count;
    (void)out_count;
    out[0] =
        *(int *)context > 0 ? tsr_relu(in[0]) : tsr_matmul(in[0], tsr_zeros(tsr_device_of(in[0]), TSR_F32, 0, NULL));
    --*(int *)context;
    return out[0] != NULL ? TSR_OK : tsr_last_status();
}

static int released;

static void count_release(void *context)
{
    (void)context;
    released++;
}

static void errors_on(const run *r)
{
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = tsr_normal(r->device, TSR_F32, 2, (int64_t[]){3, 3}, 0, 1), *y = NULL;
    require_ok(r, tsr_set_requires_grad(x, true));
    int good = 0;
    released = 0;
    assert_int_not_equal(tsr_checkpoint(fails, &good, count_release, &x, 1, &y, 1), TSR_OK);
    assert_int_equal(released, 1);
    assert_int_equal(tsr_checkpoint(NULL, &good, count_release, &x, 1, &y, 1), TSR_INVALID_ARGUMENT);
    assert_int_equal(released, 2);
    /* The second run fails: the backward pass says so. */
    good = 1;
    require_ok(r, tsr_checkpoint(fails, &good, count_release, &x, 1, &y, 1));
    assert_int_equal(released, 2);
    assert_int_not_equal(tsr_backward(tsr_sum(y, NULL, 0, false)), TSR_OK);
    assert_non_null(strstr(tsr_last_error(), "backward of checkpoint"));
    /* Without a record nothing is held. */
    good = 1;
    tsr_no_grad_begin();
    require_ok(r, tsr_checkpoint(fails, &good, count_release, &x, 1, &y, 1));
    tsr_no_grad_end();
    assert_false(tsr_requires_grad(y));
    assert_int_equal(released, 3);
    require_ok(r, tsr_scope_end());
    assert_int_equal(released, 4);

    /* An input changed in place meanwhile is an error, not a wrong gradient. */
    require_ok(r, tsr_scope_begin());
    good = 2;
    x = tsr_normal(r->device, TSR_F32, 2, (int64_t[]){3, 3}, 0, 1);
    require_ok(r, tsr_set_requires_grad(x, true));
    tsr_tensor *z = tsr_mul(x, x);
    require_ok(r, tsr_checkpoint(fails, &good, NULL, &z, 1, &y, 1));
    tsr_no_grad_begin();
    require_ok(r, tsr_fill(z, 1));
    tsr_no_grad_end();
    assert_int_equal(tsr_backward(tsr_sum(y, NULL, 0, false)), TSR_INVALID_ARGUMENT);
    require_ok(r, tsr_scope_end());
}

static void test_errors(void **state)
{
    (void)state;
    on_every_device(errors_on);
}

static void read_statistics(const run *r, bool checkpointed, float *to)
{
    require_ok(r, tsr_scope_begin());
    require_ok(r, tsr_seed(r->device, 3));
    tsr_module *m = TSR_SEQUENTIAL(tsr_batch_norm2d_create(r->device, 3, 0, 0), tsr_relu_create());
    require(r, m);
    require_ok(r, tsr_sequential_checkpoint(m, (const bool[]){checkpointed, false}, 2));
    for (int step = 0; step < 2; step++) {
        tsr_tensor *x = tsr_normal(r->device, TSR_F32, 4, (int64_t[]){2, 3, 5, 5}, 1, 2);
        require_ok(r, tsr_backward(tsr_sum(tsr_forward(m, x), NULL, 0, false)));
    }
    for (size_t i = 0; i < 2; i++)
        require_ok(r, tsr_read_f32(tsr_module_buffer(m, i, NULL, 0), to + 3 * i, 3));
    tsr_module_destroy(m);
    require_ok(r, tsr_scope_end());
}

static void statistics_on(const run *r)
{
    float expected[6], got[6];
    read_statistics(r, false, expected);
    read_statistics(r, true, got);
    assert_memory_equal(got, expected, sizeof got);
}

static void test_statistics(void **state)
{
    (void)state;
    on_every_device(statistics_on);
}

/* ---- the plan ---- */

static void cost_of(const tsr_layer_cost *layers, size_t count, unsigned choice, double *seconds, uint64_t *peak)
{
    uint64_t kept = 0;
    *seconds = 0;
    *peak = 0;
    for (size_t i = 0; i < count; i++) {
        kept += layers[i].output_bytes;
        *peak = kept + layers[i].saved_bytes > *peak ? kept + layers[i].saved_bytes : *peak;
        if ((choice >> i & 1) != 0)
            *seconds += layers[i].seconds;
        else
            kept += layers[i].saved_bytes;
    }
}

static void test_plan(void **state)
{
    (void)state;
    enum { COUNT = 9, UNIT = 1 << 12 };
    uint32_t random = 1;
    int met = 0, refused = 0;
    for (int trial = 0; trial < 200; trial++) {
        tsr_layer_cost layers[COUNT];
        bool recompute[COUNT];
        for (int i = 0; i < COUNT; i++) {
            random = random * 1664525u + 1013904223u;
            layers[i] = (tsr_layer_cost){.seconds = random >> 28,
                                         .saved_bytes = (random >> 16 & 15) * UNIT,
                                         .output_bytes = (random >> 8 & 7) * UNIT};
        }
        /* A budget of which 1/4096 divides all costs: nothing is rounded. */
        const uint64_t budget = (uint64_t)(16 << trial % 4) * UNIT;
        double best = (double)INFINITY;
        uint64_t least = UINT64_MAX;
        for (unsigned choice = 0; choice < 1u << COUNT; choice++) {
            double seconds;
            uint64_t peak;
            cost_of(layers, COUNT, choice, &seconds, &peak);
            least = peak < least ? peak : least;
            if (peak <= budget && seconds < best)
                best = seconds;
        }
        tsr_checkpoint_cost cost;
        const tsr_status status = tsr_checkpoint_plan(layers, COUNT, budget, recompute, &cost);
        if (least > budget) {
            assert_int_equal(status, TSR_OUT_OF_DEVICE_MEMORY);
            char figure[32];
            snprintf(figure, sizeof figure, "it is %llu", (unsigned long long)least);
            assert_non_null(strstr(tsr_last_error(), figure));
            refused++;
            continue;
        }
        assert_int_equal(status, TSR_OK);
        unsigned choice = 0;
        for (int i = 0; i < COUNT; i++)
            choice |= (unsigned)recompute[i] << i;
        double seconds;
        uint64_t peak;
        cost_of(layers, COUNT, choice, &seconds, &peak);
        assert_true(seconds == cost.seconds && peak == cost.peak_bytes);
        assert_true(peak <= budget);
        assert_true(seconds == best);
        met++;
    }
    assert_true(met > 20 && refused > 20);
    bool one;
    assert_int_equal(tsr_checkpoint_plan(NULL, 1, 1, &one, NULL), TSR_INVALID_ARGUMENT);
    assert_int_equal(tsr_checkpoint_plan(&(tsr_layer_cost){.seconds = -1}, 1, 1, &one, NULL), TSR_OUT_OF_RANGE);
}

/* From measured costs to a network that keeps to the budget. */
static void planned_on(const run *r)
{
    network n;
    tsr_layer_cost costs[LAYERS];
    bool recompute[LAYERS];
    tsr_checkpoint_cost cost;
    require_ok(r, tsr_scope_begin());
    begin(r, &n);
    tsr_tensor *x = tsr_normal(r->device, TSR_F32, 2, (int64_t[]){2048, WIDTH}, 0, 1);
    require_ok(r, tsr_sequential_costs(n.layers, x, costs, LAYERS));
    uint64_t all = 0, outputs = 0;
    for (int i = 0; i < LAYERS; i++) {
        assert_true(costs[i].seconds > 0);
        assert_int_equal(costs[i].output_bytes, 2048 * WIDTH * sizeof(float));
        assert_true(costs[i].saved_bytes >= 2 * costs[i].output_bytes);
        all += costs[i].saved_bytes + costs[i].output_bytes;
        outputs += costs[i].output_bytes;
    }
    const uint64_t budget = outputs + (all - outputs) * 3 / 4;
    require_ok(r, tsr_checkpoint_plan(costs, LAYERS, budget, recompute, &cost));
    require_ok(r, tsr_sequential_checkpoint(n.layers, recompute, LAYERS));
    const uint64_t before = allocated(r);
    tsr_tensor *y = tsr_forward(n.layers, x);
    require(r, y);
    assert_in_range(allocated(r) - before, 1, budget);
    assert_true(cost.peak_bytes <= budget && cost.seconds > 0);
    end(&n);
    require_ok(r, tsr_scope_end());
}

static void test_planned(void **state)
{
    (void)state;
    on_every_device(planned_on);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plan),       cmocka_unit_test(test_same_bits), cmocka_unit_test(test_memory),
        cmocka_unit_test(test_statistics), cmocka_unit_test(test_errors),    cmocka_unit_test(test_planned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
