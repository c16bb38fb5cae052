/* The record and its walk: accumulation, graphs kept and freed, changes in place, deep chains, memory. What single operators'
 * derivatives are is tested elsewhere; here they are chosen so that every number is exact. */
#include "tests/op_reference.h"

#include <pthread.h>

#include "base/memory.h"

static tsr_tensor *leaf(const run *r, int64_t n, const float *values)
{
    tsr_tensor *x = tsr_from_data(r->device, TSR_F32, 1, &n, values);
    require(r, x);
    require_ok(r, tsr_set_requires_grad(x, true));
    return x;
}

static void expect(const run *r, tsr_tensor *t, int64_t n, const float *expected, const char *what)
{
    float got[16];
    if (t == NULL)
        fail_msg("%s on %s: there is none", what, r->name);
    assert_int_equal(tsr_numel(t), n);
    require_ok(r, tsr_read_f32(t, got, (size_t)n));
    for (int64_t i = 0; i < n; i++)
        if (got[i] != expected[i])
            fail_msg("%s on %s: element %lld is %.9g for %.9g", what, r->name, (long long)i, (double)got[i],
                     (double)expected[i]);
}

static tsr_tensor *total(tsr_tensor *x)
{
    return tsr_sum(x, NULL, 0, false);
}

/* ---- accumulation ---- */

static void accumulation_on(const run *r)
{
    static const float v[] = {1, -2, 3};
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = leaf(r, 3, v);
    assert_null(tsr_grad(x));
    require_ok(r, tsr_backward(total(tsr_square(x))));
    expect(r, tsr_grad(x), 3, (float[]){2, -4, 6}, "gradient");
    tsr_tensor *gradient = tsr_grad(x);
    require_ok(r, tsr_backward(total(tsr_square(x))));
    expect(r, tsr_grad(x), 3, (float[]){4, -8, 12}, "two passes");
    assert_ptr_equal(tsr_grad(x), gradient); /* in its own memory */
    require_ok(r, tsr_zero_grad(x));
    expect(r, gradient, 3, (float[]){0, 0, 0}, "zeroed");
    require_ok(r, tsr_backward(total(x)));
    expect(r, tsr_grad(x), 3, (float[]){1, 1, 1}, "after zeroing");
    tsr_clear_grad(x);
    assert_null(tsr_grad(x));
    tsr_clear_grad(x);
    tsr_clear_grad(NULL);
    require_ok(r, tsr_zero_grad(x));

    /* One leaf in both places of an operator, and in several operators. */
    require_ok(r, tsr_backward(total(tsr_mul(x, x))));
    expect(r, tsr_grad(x), 3, (float[]){2, -4, 6}, "x · x");
    tsr_clear_grad(x);
    require_ok(r, tsr_backward(total(tsr_add(x, x))));
    expect(r, tsr_grad(x), 3, (float[]){2, 2, 2}, "x + x");
    tsr_clear_grad(x);
    require_ok(r, tsr_backward(total(tsr_sub(tsr_mul(x, tsr_square(x)), tsr_add(x, x)))));
    expect(r, tsr_grad(x), 3, (float[]){1, 10, 25}, "x^3 - 2x");
    tsr_clear_grad(x);

    /* Diamonds: h is used by two, whose results are used by two; 2^12 paths, each node visited once. */
    tsr_tensor *h = x;
    for (int i = 0; i < 12; i++)
        h = tsr_add(h, tsr_affine(h, 1, 0));
    require_ok(r, tsr_backward(total(h)));
    expect(r, tsr_grad(x), 3, (float[]){4096, 4096, 4096}, "diamonds");
    tsr_clear_grad(x);

    /* A broadcast leaf, and a leaf that only a branch without influence uses. */
    tsr_tensor *b = leaf(r, 1, (float[]){5}), *unused = leaf(r, 3, v);
    require(r, tsr_square(unused));
    require_ok(r, tsr_backward(total(tsr_mul(tsr_expand(x, 2, (int64_t[]){4, 3}), b))));
    expect(r, tsr_grad(x), 3, (float[]){20, 20, 20}, "expanded leaf");
    expect(r, tsr_grad(b), 1, (float[]){8}, "broadcast leaf");
    assert_null(tsr_grad(unused));
    tsr_clear_grad(x);
    tsr_clear_grad(b);

    /* From a leaf itself: the gradient is a copy, so that the next pass leaves the caller's tensor alone. */
    tsr_tensor *mine = tsr_from_data(r->device, TSR_F32, 1, (int64_t[]){3}, (float[]){7, 8, 9});
    require_ok(r, tsr_backward_from(x, mine, false));
    require_ok(r, tsr_backward_from(x, mine, false));
    expect(r, tsr_grad(x), 3, (float[]){14, 16, 18}, "leaf as output");
    expect(r, mine, 3, (float[]){7, 8, 9}, "the caller's gradient");
    assert_false(tsr_shares_storage(mine, tsr_grad(x)));
    tsr_clear_grad(x);
    require_ok(r, tsr_backward_from(tsr_add(x, b), mine, false)); /* and where an operator hands it on */
    assert_false(tsr_shares_storage(mine, tsr_grad(x)));
    tsr_clear_grad(x);
    tsr_clear_grad(b);
    require_ok(r, tsr_scope_end());
}

static void test_accumulation(void **state)
{
    (void)state;
    on_every_device(accumulation_on);
}

/* ---- views ---- */

static void views_on(const run *r)
{
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = leaf(r, 6, (float[]){1, 2, 3, 4, 5, 6});
    tsr_tensor *m = tsr_reshape(x, 2, (int64_t[]){2, 3});
    tsr_tensor *part = tsr_slice(tsr_transpose(m, 0, 1), 0, 1, 3, 1); /* x[1], x[4]; x[2], x[5] */
    require_ok(r, tsr_backward_from(tsr_square(part),
                                    tsr_from_data(r->device, TSR_F32, 2, (int64_t[]){2, 2}, (float[]){1, 2, 3, 4}),
                                    false));
    expect(r, tsr_grad(x), 6, (float[]){0, 4, 18, 0, 20, 48}, "through views");
    assert_true(tsr_is_contiguous(tsr_grad(x)));
    tsr_clear_grad(x);
    /* Two slices of one tensor add up where they overlap. */
    require_ok(r, tsr_backward(total(tsr_add(tsr_slice(x, 0, 0, 4, 1), tsr_slice(x, 0, 2, 6, 1)))));
    expect(r, tsr_grad(x), 6, (float[]){1, 1, 2, 2, 1, 1}, "overlapping slices");
    tsr_clear_grad(x);
    /* A permuted gradient lands in contiguous memory of the leaf's own. */
    require_ok(
        r, tsr_backward(total(tsr_mul(tsr_permute(tsr_reshape(x, 2, (int64_t[]){2, 3}), (int[]){1, 0}),
                                      tsr_reshape(tsr_arange(r->device, TSR_F32, 6, 0, 1), 2, (int64_t[]){3, 2})))));
    expect(r, tsr_grad(x), 6, (float[]){0, 2, 4, 1, 3, 5}, "permuted");
    tsr_clear_grad(x);
    require_ok(r, tsr_scope_end());
}

static void test_views(void **state)
{
    (void)state;
    on_every_device(views_on);
}

/* ---- what is recorded ---- */

static void recording_on(const run *r)
{
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = leaf(r, 2, (float[]){3, 4});
    assert_true(tsr_requires_grad(x));
    assert_true(tsr_requires_grad(tsr_square(x)));
    tsr_no_grad_begin();
    tsr_no_grad_begin();
    tsr_no_grad_end();
    tsr_tensor *outside = tsr_square(x);
    assert_false(tsr_requires_grad(outside));
    tsr_no_grad_end();
    assert_true(tsr_requires_grad(tsr_square(x)));
    tsr_no_grad_end(); /* one too many changes nothing */
    assert_true(tsr_requires_grad(tsr_square(x)));
    assert_int_equal(tsr_backward_from(outside, NULL, false), TSR_INVALID_ARGUMENT);

    tsr_tensor *cut = tsr_detach(tsr_square(x));
    assert_false(tsr_requires_grad(cut));
    assert_true(tsr_shares_storage(tsr_detach(x), x));
    require_ok(r, tsr_backward(total(tsr_mul(x, cut)))); /* cut counts as a constant */
    expect(r, tsr_grad(x), 2, (float[]){9, 16}, "beside a detached tensor");
    assert_false(tsr_requires_grad(tsr_grad(x))); /* derivatives are not recorded */
    tsr_clear_grad(x);

    /* A leaf that is frozen again, and integers. */
    require_ok(r, tsr_set_requires_grad(x, false));
    assert_false(tsr_requires_grad(tsr_square(x)));
    tsr_tensor *integers = tsr_zeros(r->device, TSR_I32, 1, (int64_t[]){3});
    assert_int_equal(tsr_set_requires_grad(integers, true), TSR_INVALID_ARGUMENT);
    assert_non_null(strstr(tsr_last_error(), "i32"));
    require_ok(r, tsr_set_requires_grad(x, true));
    tsr_tensor *y = tsr_square(x);
    assert_int_equal(tsr_set_requires_grad(y, false), TSR_INVALID_ARGUMENT);
    assert_non_null(strstr(tsr_last_error(), "square"));
    assert_int_equal(tsr_backward(y), TSR_INVALID_ARGUMENT); /* two elements */
    assert_non_null(strstr(tsr_last_error(), "[2]"));
    assert_int_equal(tsr_backward_from(y, tsr_zeros(r->device, TSR_F32, 1, (int64_t[]){3}), false),
                     TSR_INVALID_ARGUMENT);
    assert_int_not_equal(tsr_backward(NULL), TSR_OK);
    assert_null(tsr_grad(x)); /* nothing of that left a trace */
    require_ok(r, tsr_backward(total(y)));
    expect(r, tsr_grad(x), 2, (float[]){6, 8}, "after errors");
    tsr_clear_grad(x);
    require_ok(r, tsr_scope_end());
}

static void test_recording(void **state)
{
    (void)state;
    on_every_device(recording_on);
}

/* ---- kept and freed graphs, changes in place ---- */

static void graphs_on(const run *r)
{
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = leaf(r, 2, (float[]){3, 4});
    tsr_tensor *h = tsr_square(x), *l = total(tsr_mul(h, x));
    require_ok(r, tsr_backward_from(l, NULL, true));
    require_ok(r, tsr_backward_from(l, NULL, true));
    expect(r, tsr_grad(x), 2, (float[]){54, 96}, "kept twice");
    require_ok(r, tsr_backward(l));
    expect(r, tsr_grad(x), 2, (float[]){81, 144}, "and then freed");
    assert_int_equal(tsr_backward(l), TSR_INVALID_ARGUMENT);
    assert_non_null(strstr(tsr_last_error(), "freed"));
    assert_int_equal(tsr_backward(total(h)), TSR_INVALID_ARGUMENT); /* a new end, a freed middle */
    assert_non_null(strstr(tsr_last_error(), "square"));
    expect(r, tsr_grad(x), 2, (float[]){81, 144}, "untouched by the failure");
    tsr_clear_grad(x);

    /* What an operator saved may not change before its derivative. */
    const float one[] = {1, 1};
    for (int k = 0; k < 4; k++) {
        tsr_tensor *w = leaf(r, 2, (float[]){2, 5}), *y = tsr_exp(w), *loss = total(tsr_mul(w, y));
        tsr_optimizer *sgd = tsr_sgd_create(&w, 1, &(tsr_sgd_options){.lr = 1});
        require(r, sgd);
        if (k == 0)
            require_ok(r, tsr_fill(w, 0));
        else if (k == 1)
            require_ok(r, tsr_write(w, one, sizeof one));
        else if (k == 2)
            require_ok(r, tsr_copy_into(tsr_slice(tsr_detach(y), 0, 0, 1, 1),
                                        tsr_zeros(r->device, TSR_F32, 0, NULL))); /* a result, through a view */
        else {
            require_ok(r, tsr_backward(total(w)));
            require_ok(r, tsr_optimizer_step(sgd));
        }
        if (tsr_backward(loss) != TSR_INVALID_ARGUMENT || strstr(tsr_last_error(), "in place") == NULL)
            fail_msg("%s: change %d in place was not noticed: %s", r->name, k, tsr_last_error());
        tsr_optimizer_destroy(sgd);
        tsr_clear_grad(w);
    }
    /* An operator that saved nothing of it does not mind. */
    tsr_tensor *w = leaf(r, 2, (float[]){2, 5}), *sum = total(tsr_add(w, w));
    require_ok(r, tsr_fill(w, 0));
    require_ok(r, tsr_backward(sum));
    expect(r, tsr_grad(w), 2, (float[]){2, 2}, "a sum does not save");
    tsr_clear_grad(w);
    /* Writing a recorded result into a given tensor would lose the record. */
    tsr_tensor *given = tsr_zeros(r->device, TSR_F32, 1, (int64_t[]){2});
    assert_int_equal(tsr_op_call("square", &w, 1, &given, 1, NULL, 0), TSR_INVALID_ARGUMENT);
    assert_int_equal(tsr_copy_into(tsr_square(w), given), TSR_INVALID_ARGUMENT);
    require_ok(r, tsr_scope_end());
}

static void test_graphs(void **state)
{
    (void)state;
    on_every_device(graphs_on);
}

/* ---- depth: neither the walk nor the release may take a stack frame an operator ---- */

enum { DEPTH = 20000, SMALL_STACK = 256 * 1024 }; /* 13 bytes an operator */

typedef struct chain {
    tsr_device *device;
    bool walk, ok;
    float gradient;
} chain;

/* x, x + 1, x + 2 …, each held by the record alone; walked with the graph kept, or only released. No assertions: they belong to
 * the main thread. */
static void *chain_run(void *argument)
{
    chain *c = argument;
    c->ok = tsr_scope_begin() == TSR_OK;
    tsr_tensor *x = tsr_full(c->device, TSR_F32, 1, (int64_t[]){1}, 1), *y = x;
    c->ok = c->ok && tsr_set_requires_grad(x, true) == TSR_OK;
    for (int i = 0; i < DEPTH && y != NULL; i++) {
        tsr_scope_begin();
        tsr_tensor *next =
            tsr_keep(c->walk ? tsr_affine(y, 1, 1) : tsr_square(y)); /* squares hold their operands too */
        tsr_scope_end();
        if (y != x)
            tsr_release(y);
        y = next;
    }
    if (c->walk)
        c->ok = c->ok && tsr_backward_from(y, NULL, true) == TSR_OK &&
                tsr_read(tsr_grad(x), &c->gradient, sizeof c->gradient) == TSR_OK;
    c->ok = c->ok && y != NULL;
    tsr_release(y); /* the last holder of all nodes */
    tsr_clear_grad(x);
    tsr_scope_end();
    return NULL;
}

static void test_depth(void **state)
{
    (void)state;
    tsr_device *cpu = tsr_device_open("cpu");
    assert_non_null(cpu);
    for (int k = 0; k < 2; k++) {
        chain c = {.device = cpu, .walk = k == 0};
        pthread_attr_t attributes;
        pthread_t thread;
        assert_int_equal(pthread_attr_init(&attributes), 0);
        assert_int_equal(pthread_attr_setstacksize(&attributes, SMALL_STACK), 0);
        assert_int_equal(pthread_create(&thread, &attributes, chain_run, &c), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        pthread_attr_destroy(&attributes);
        assert_true(c.ok);
        assert_true(k == 1 || c.gradient == 1);
    }
    tsr_device_close(cpu);
}

/* ---- memory ---- */

static void step(const run *r, tsr_tensor *x, bool keep)
{
    require_ok(r, tsr_scope_begin());
    tsr_tensor *h = x;
    for (int i = 0; i < 5; i++)
        h = tsr_tanh(tsr_mul(h, x));
    tsr_tensor *l = total(tsr_softmax(h, 0));
    require(r, l);
    require_ok(r, tsr_backward_from(l, NULL, keep));
    require_ok(r, tsr_scope_end());
    tsr_clear_grad(x);
}

static void memory_on(const run *r)
{
    const int64_t n = 4096;
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = tsr_full(r->device, TSR_F32, 1, &n, 0.5);
    require(r, x);
    require_ok(r, tsr_set_requires_grad(x, true));
    step(r, x, false);
    require_ok(r, tsr_device_sync(r->device));
    tsr_memory_statistics before, after;
    require_ok(r, tsr_memory_stats(r->device, &before));
    int64_t live = host_live_allocations();
    for (int i = 0; i < 4; i++)
        step(r, x, i % 2 == 1);
    /* Graphs that no pass walked, and that a failed pass left half way. */
    require_ok(r, tsr_scope_begin());
    require(r, tsr_exp(tsr_square(x)));
    tsr_tensor *y = tsr_square(x), *l = total(tsr_mul(tsr_exp(y), y));
    require_ok(r, tsr_fill(y, 1));
    assert_int_equal(tsr_backward(l), TSR_INVALID_ARGUMENT);
    require_ok(r, tsr_scope_end());
    tsr_clear_grad(x);
    require_ok(r, tsr_device_sync(r->device));
    require_ok(r, tsr_memory_stats(r->device, &after));
    if (after.allocated_bytes != before.allocated_bytes || after.blocks_in_use != before.blocks_in_use)
        fail_msg("%s: %llu bytes in %llu blocks were allocated before, %llu in %llu after", r->name,
                 (unsigned long long)before.allocated_bytes, (unsigned long long)before.blocks_in_use,
                 (unsigned long long)after.allocated_bytes, (unsigned long long)after.blocks_in_use);
    if (strcmp(r->name, "cpu") == 0) /* drivers keep records of their own */
        assert_int_equal(host_live_allocations(), live);
    require_ok(r, tsr_scope_end());
}

static void test_memory(void **state)
{
    (void)state;
    on_every_device(memory_on);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accumulation), cmocka_unit_test(test_views), cmocka_unit_test(test_recording),
        cmocka_unit_test(test_graphs),       cmocka_unit_test(test_depth), cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
