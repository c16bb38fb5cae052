/* Where barriers go: single cases by hand, and long random sequences against a model that remembers every byte. */
#include "unit.h"

#include "backends/vulkan/vulkan_hazards.h"

#include <stdlib.h>
#include <string.h>

static hazard_access reads(uint64_t buffer, uint64_t offset, uint64_t length)
{
    return (hazard_access){.buffer = buffer, .offset = offset, .length = length, .reads = true};
}

static hazard_access writes(uint64_t buffer, uint64_t offset, uint64_t length)
{
    return (hazard_access){.buffer = buffer, .offset = offset, .length = length, .writes = true};
}

static hazard_access updates(uint64_t buffer, uint64_t offset, uint64_t length)
{
    return (hazard_access){.buffer = buffer, .offset = offset, .length = length, .reads = true, .writes = true};
}

static hazard_tracker *new_tracker(void)
{
    hazard_tracker *t = calloc(1, sizeof *t);
    assert_non_null(t);
    return t;
}

static bool note(hazard_tracker *t, hazard_access a)
{
    return hazard_note(t, &a, 1);
}

static void the_four_orders(void **state)
{
    (void)state;
    hazard_tracker *t = new_tracker();
    assert_false(note(t, reads(1, 0, 64)));
    assert_false(note(t, reads(1, 0, 64))); /* read after read */
    assert_true(note(t, writes(1, 0, 64))); /* write after read */
    assert_true(note(t, writes(1, 0, 64))); /* write after write */
    assert_true(note(t, reads(1, 0, 64)));  /* read after write */
    assert_false(note(t, reads(1, 0, 64))); /* the barrier before the last read serves this one too */
    free(t);
}

static void updates_in_place_need_one_each(void **state)
{
    (void)state;
    hazard_tracker *t = new_tracker();
    assert_false(note(t, updates(7, 128, 256)));
    for (int i = 0; i < 10; i++)
        assert_true(note(t, updates(7, 128, 256)));
    free(t);
}

static void ranges_that_touch_do_not_overlap(void **state)
{
    (void)state;
    hazard_tracker *t = new_tracker();
    assert_false(note(t, writes(1, 64, 64)));
    assert_false(note(t, writes(1, 0, 64)));
    assert_false(note(t, writes(1, 128, 64)));
    assert_int_equal(t->writes.count, 1); /* they became one range */
    assert_int_equal(t->writes.at[0].begin, 0);
    assert_int_equal(t->writes.at[0].end, 192);
    assert_false(note(t, reads(1, 192, 1)));
    assert_true(note(t, reads(1, 191, 1)));
    free(t);
}

static void buffers_are_apart(void **state)
{
    (void)state;
    hazard_tracker *t = new_tracker();
    assert_false(note(t, writes(1, 0, 100)));
    assert_false(note(t, writes(3, 0, 100)));
    assert_false(note(t, updates(2, 0, 100)));
    assert_false(note(t, updates(UINT64_MAX, 0, 100)));
    assert_true(note(t, reads(3, 99, 1)));
    free(t);
}

/* A kernel that reads and writes the same memory through two bindings does not wait for itself. */
static void one_command_does_not_conflict_with_itself(void **state)
{
    (void)state;
    hazard_tracker *t = new_tracker();
    const hazard_access in_place[] = {reads(1, 0, 64), writes(1, 0, 64), reads(2, 0, 64)};
    assert_false(hazard_note(t, in_place, 3));
    assert_true(hazard_note(t, in_place, 3));
    assert_true(note(t, writes(2, 63, 1))); /* the barrier did not make it forget the command behind it */
    free(t);
}

static void a_barrier_wipes_the_slate(void **state)
{
    (void)state;
    hazard_tracker *t = new_tracker();
    assert_false(note(t, writes(1, 0, 64)));
    assert_false(note(t, writes(2, 0, 64)));
    assert_true(note(t, reads(1, 0, 64))); /* this barrier stands behind the write of 2 as well */
    assert_false(note(t, reads(2, 0, 64)));
    free(t);
}

static void nothing_conflicts_with_nothing(void **state)
{
    (void)state;
    hazard_tracker *t = new_tracker();
    assert_false(note(t, writes(1, 0, 64)));
    assert_false(note(t, writes(1, 10, 0)));
    assert_false(hazard_note(t, NULL, 0));
    free(t);
}

static void offsets_beyond_32_bits(void **state)
{
    (void)state;
    hazard_tracker *t = new_tracker();
    const uint64_t far = UINT64_C(1) << 40;
    assert_false(note(t, writes(1, far, 4096)));
    assert_false(note(t, reads(1, far & 0xffffffff, 4096)));
    assert_true(note(t, reads(1, far + 4095, 1)));
    free(t);
}

/* More ranges than there is room for: a barrier, and then the tracker is as good as new. */
static void too_many_ranges(void **state)
{
    (void)state;
    hazard_tracker *t = new_tracker();
    for (uint64_t i = 0; i < HAZARD_INTERVALS; i++)
        assert_false(note(t, writes(1, 16 * i, 8)));
    assert_true(note(t, writes(1, 16 * HAZARD_INTERVALS, 8)));
    assert_true(note(t, reads(1, 16 * HAZARD_INTERVALS, 8)));
    assert_false(note(t, reads(1, 0, 8)));
    free(t);
}

/* ---- the model ---------------------------------------------------------------------------------------------------- */

enum { BUFFERS = 3, BYTES = 96 };

typedef struct model {
    bool read[BUFFERS][BYTES], written[BUFFERS][BYTES];
} model;

static bool model_note(model *m, const hazard_access *accesses, size_t count)
{
    bool barrier = false;
    for (size_t i = 0; i < count; i++) {
        const hazard_access *a = &accesses[i];
        for (uint64_t b = a->offset; b < a->offset + a->length; b++)
            barrier |= m->written[a->buffer][b] || (a->writes && m->read[a->buffer][b]);
    }
    if (barrier)
        memset(m, 0, sizeof *m);
    for (size_t i = 0; i < count; i++) {
        const hazard_access *a = &accesses[i];
        for (uint64_t b = a->offset; b < a->offset + a->length; b++) {
            m->read[a->buffer][b] |= a->reads;
            m->written[a->buffer][b] |= a->writes;
        }
    }
    return barrier;
}

static uint32_t draw(uint64_t *seed, uint32_t below)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*seed >> 33) % below;
}

static void check_shape(const hazard_set *set)
{
    for (uint32_t i = 0; i < set->count; i++) {
        assert_true(set->at[i].begin < set->at[i].end);
        if (i > 0)
            assert_true(set->at[i - 1].buffer < set->at[i].buffer ||
                        (set->at[i - 1].buffer == set->at[i].buffer && set->at[i - 1].end < set->at[i].begin));
    }
}

static void as_a_model_says(void **state)
{
    (void)state;
    hazard_tracker *t = new_tracker();
    model *m = calloc(1, sizeof *m);
    assert_non_null(m);
    uint64_t seed = 20261121;
    int barriers = 0;
    const int steps = 200000;
    for (int step = 0; step < steps; step++) {
        hazard_access accesses[8];
        const size_t count = 1 + draw(&seed, 4);
        /* Runs of short reads grow large sets; wide or writing commands empty them. */
        const uint32_t longest = draw(&seed, 8) == 0 ? 40 : 4;
        for (size_t i = 0; i < count; i++) {
            const uint32_t kind = draw(&seed, 12);
            accesses[i] = (hazard_access){
                .buffer = draw(&seed, BUFFERS),
                .offset = draw(&seed, BYTES - longest),
                .length = draw(&seed, longest + 1),
                .reads = kind != 0,
                .writes = kind < 2,
            };
        }
        const bool expected = model_note(m, accesses, count);
        if (hazard_note(t, accesses, count) != expected)
            fail_msg("step %d: the model %s a barrier", step, expected ? "wants" : "does not want");
        check_shape(&t->reads);
        check_shape(&t->writes);
        barriers += expected;
    }
    assert_in_range(barriers, steps / 50, steps - steps / 50); /* both answers were tried */
    free(m);
    free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_four_orders),
        cmocka_unit_test(updates_in_place_need_one_each),
        cmocka_unit_test(ranges_that_touch_do_not_overlap),
        cmocka_unit_test(buffers_are_apart),
        cmocka_unit_test(one_command_does_not_conflict_with_itself),
        cmocka_unit_test(a_barrier_wipes_the_slate),
        cmocka_unit_test(nothing_conflicts_with_nothing),
        cmocka_unit_test(offsets_beyond_32_bits),
        cmocka_unit_test(too_many_ranges),
        cmocka_unit_test(as_a_model_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
