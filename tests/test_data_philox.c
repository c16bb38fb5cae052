/* The published known answers of Philox 4x32-10, and the streams made of it. */
#include "unit.h"

#include "base/philox.h"

#include <string.h>

/* Random123, examples/kat_vectors: philox4x32 10. */
static void gives_the_known_answers(void **state)
{
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } rows[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint32_t out[4];
        philox_block(rows[i].counter, rows[i].key, out);
        assert_memory_equal(out, rows[i].out, sizeof out);
    }
}

/* Word i of a stream is word i mod 4 of block i / 4, whatever was drawn before. */
static void streams_are_blocks_in_order(void **state)
{
    const uint64_t seed = 0x299f31d0a4093822u, stream = 0x0370734413198a2eu;
    philox_stream s = philox_begin(seed, PHILOX_WEIGHTS, stream);
    (void)state;
    for (uint32_t i = 0; i < 41; i++) {
        const uint32_t counter[4] = {i / 4, 2, 0x13198a2e, 0x03707344}, key[2] = {0xa4093822, 0x299f31d0};
        uint32_t block[4];
        philox_block(counter, key, block);
        assert_int_equal(philox_next(&s), block[i % 4]);
    }
}

static void numbers_stay_in_their_range(void **state)
{
    (void)state;
    assert_true(philox_unit_float(0) == 0.0f);
    assert_true(philox_unit_float(0xffffffffu) == 1.0f - 0x1p-24f);
    assert_true(philox_unit_double(0, 0) == 0.0);
    assert_true(philox_unit_double(0xffffffffu, 0xffffffffu) == 1.0 - 0x1p-53);

    philox_stream s = philox_begin(7, PHILOX_ORDER, 0);
    double sum = 0;
    for (int i = 0; i < 100000; i++) {
        const double x = i % 2 == 0 ? philox_double(&s) : (double)philox_float(&s);
        assert_true(x >= 0 && x < 1);
        sum += x;
    }
    /* the mean of 10^5 uniform numbers deviates by 0.0009; six times that */
    assert_true(sum / 100000 > 0.4945 && sum / 100000 < 0.5055);
}

static void below_is_even(void **state)
{
    enum { BOUND = 10, DRAWS = 100000 };
    int counts[BOUND] = {0};
    philox_stream s = philox_begin(1, PHILOX_ORDER, 3);
    (void)state;
    for (int i = 0; i < DRAWS; i++) {
        const uint32_t x = philox_below(&s, BOUND);
        assert_true(x < BOUND);
        counts[x]++;
    }
    for (int i = 0; i < BOUND; i++) /* 10000 ± six deviations of 95 */
        assert_true(counts[i] > 9430 && counts[i] < 10570);
    for (int i = 0; i < 100; i++)
        assert_int_equal(philox_below(&s, 1), 0);

    /* Without drawing again, half of all words would give a multiple of 3 here, not a third. */
    int thirds = 0;
    for (int i = 0; i < DRAWS; i++)
        thirds += philox_below(&s, 0xC0000000u) % 3 == 0;
    assert_true(thirds > DRAWS / 3 - 900 && thirds < DRAWS / 3 + 900);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_the_known_answers),
        cmocka_unit_test(streams_are_blocks_in_order),
        cmocka_unit_test(numbers_stay_in_their_range),
        cmocka_unit_test(below_is_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
