/* One promise of docs/determinism.md, on every device against the CPU device: pointwise operators of f32 and canonical sums give the same bits.
 *
 * Each f32 operator of one operand is run on one float in 4093, every exponent among them. With TESSERA_ALL_INPUTS=1 it is run on all 2^32 (an
 * hour or so; TESSERA_INPUTS_FROM and _TO, hexadecimal, take a part), and a table tells what was found. A NaN equals any NaN: which one a
 * processor makes is its own affair. */
#include "tests/unit.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "operators/operators.h"

enum { CHUNK = 1 << 22, STEP = 4093, DEVICES_MAX = 8, ROWS_MAX = 128 };

static struct side {
    char id[32];
    tsr_device *device;
} sides[DEVICES_MAX];
static int side_count;

static struct tally {
    const operator_row *row;
    uint64_t inputs;
    uint64_t different[DEVICES_MAX];
    uint32_t first[DEVICES_MAX]; /* the input at which a device differs first */
} tallies[ROWS_MAX];
static int tally_count;

static uint32_t *inputs, *outputs[2];

/* The CPU device first. */
static int open_devices(void **state)
{
    (void)state;
    static tsr_device_info rows[32];
    size_t count = 0;
    assert_int_equal(tsr_device_list(rows, 32, &count), TSR_OK);
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < count && i < 32 && side_count < DEVICES_MAX; i++) {
            const bool cpu = strcmp(rows[i].backend, "cpu") == 0;
            if (strcmp(rows[i].backend, "null") == 0 || cpu != (pass == 0))
                continue;
            struct side *s = &sides[side_count++];
            snprintf(s->id, sizeof s->id, "%.31s", rows[i].id);
            s->device = tsr_device_open(rows[i].id);
            if (s->device == NULL)
                fail_msg("%s: %s", s->id, tsr_last_error());
        }
    if (side_count == 1)
        print_message("only the CPU device is here: there is nothing to compare it with\n");
    inputs = host_alloc(CHUNK * sizeof *inputs);
    for (int i = 0; i < 2; i++)
        outputs[i] = host_alloc(CHUNK * sizeof *outputs[i]);
    return inputs == NULL || outputs[0] == NULL || outputs[1] == NULL;
}

static int close_devices(void **state)
{
    (void)state;
    for (int i = 0; i < side_count; i++)
        tsr_device_close(sides[i].device);
    host_free(inputs);
    host_free(outputs[0]);
    host_free(outputs[1]);
    return 0;
}

static bool is_nan(uint32_t bits)
{
    return (bits & 0x7fffffffu) > 0x7f800000u;
}

/* How many of two results differ, and where they do first. */
static uint64_t differences(const uint32_t *a, const uint32_t *b, size_t count, bool floats, size_t *first)
{
    uint64_t n = 0;
    if (memcmp(a, b, count * (floats ? sizeof *a : 1)) == 0)
        return 0;
    for (size_t i = count; i-- > 0;) {
        const bool same = floats ? a[i] == b[i] || (is_nan(a[i]) && is_nan(b[i]))
                                 : ((const uint8_t *)a)[i] == ((const uint8_t *)b)[i];
        n += !same;
        *first = same ? *first : i;
    }
    return n;
}

static void run_row(const operator_row *row, const struct side *s, tsr_tensor *x, void *to, size_t count)
{
    tsr_attr attrs[2] = {{.name = row->attr_names[0], .kind = TSR_ATTR_FLOAT, .f = row->attrs[0]},
                         {.name = row->attr_names[1], .kind = TSR_ATTR_FLOAT, .f = row->attrs[1]}};
    const int attr_count = (row->attr_names[0] != NULL) + (row->attr_names[1] != NULL);
    tsr_tensor *y = NULL;
    if (tsr_op_call(row->name, &x, 1, &y, 1, attrs, attr_count) != TSR_OK ||
        tsr_read(y, to, count * (row->gives_bool ? 1 : sizeof(float))) != TSR_OK)
        fail_msg("%s on %s: %s", row->name, s->id, tsr_last_error());
}

static void run_chunk(size_t count)
{
    const int64_t shape = (int64_t)count;
    tsr_tensor *x[DEVICES_MAX];
    tsr_scope_begin();
    for (int i = 0; i < side_count; i++)
        if ((x[i] = tsr_from_data(sides[i].device, TSR_F32, 1, &shape, inputs)) == NULL)
            fail_msg("%s: %s", sides[i].id, tsr_last_error());
    for (int k = 0; k < tally_count; k++) {
        struct tally *t = &tallies[k];
        tsr_scope_begin();
        for (int i = 0; i < side_count; i++) {
            run_row(t->row, &sides[i], x[i], outputs[i > 0], count);
            size_t first = 0;
            const uint64_t n = i == 0 ? 0 : differences(outputs[0], outputs[1], count, !t->row->gives_bool, &first);
            if (n > 0 && t->different[i] == 0)
                t->first[i] = inputs[first];
            t->different[i] += n;
        }
        tsr_scope_end();
        t->inputs += count;
    }
    tsr_scope_end();
}

static uint64_t bound_of(const char *name, uint64_t initial)
{
    const char *value = getenv(name);
    return value != NULL ? strtoull(value, NULL, 16) : initial;
}

static void report(void)
{
    print_message("%-14s %12s", "operator", "inputs");
    for (int i = 1; i < side_count; i++)
        print_message("  %s differs", sides[i].id);
    print_message("\n");
    for (int k = 0; k < tally_count; k++) {
        print_message("%-14s %12llu", tallies[k].row->name, (unsigned long long)tallies[k].inputs);
        for (int i = 1; i < side_count; i++)
            print_message("  %*llu", (int)strlen(sides[i].id) + 8, (unsigned long long)tallies[k].different[i]);
        print_message("\n");
    }
}

static void test_unary(void **state)
{
    (void)state;
    const bool all = getenv("TESSERA_ALL_INPUTS") != NULL;
    for (size_t i = 0; i < operator_count() && tally_count < ROWS_MAX; i++) {
        const operator_row *row = operator_at(i);
        if (row->reference == elementwise_reference && row->arity == 1 && (row->dtypes & MASK(TSR_F32)) != 0)
            tallies[tally_count++].row = row;
    }
    assert_in_range(tally_count, 40, ROWS_MAX - 1);
    const uint64_t step = all ? 1 : STEP, end = bound_of("TESSERA_INPUTS_TO", UINT64_C(1) << 32);
    size_t count = 0;
    for (uint64_t bits = bound_of("TESSERA_INPUTS_FROM", 0); bits < end; bits += step) {
        inputs[count++] = (uint32_t)bits;
        if (count == CHUNK || bits + step >= end) {
            run_chunk(count);
            count = 0;
            if (all)
                fprintf(stderr, "\r%5.1f %%", 100 * (double)bits / (double)(UINT64_C(1) << 32));
        }
    }
    if (all)
        report();
    for (int k = 0; k < tally_count; k++)
        for (int i = 1; i < side_count; i++)
            if (tallies[k].different[i] > 0)
                fail_msg("%s: %llu of %llu results of %s differ from the CPU device's, the first at bits %08x",
                         tallies[k].row->name, (unsigned long long)tallies[k].different[i],
                         (unsigned long long)tallies[k].inputs, sides[i].id, (unsigned)tallies[k].first[i]);
}

/* Rows, columns and everything, short and longer than a block of 8192, of sizes that no lane count divides. */
static void test_sums(void **state)
{
    (void)state;
    static const struct {
        int64_t shape[2];
        int64_t axis;
    } cases[] = {{{7, 61}, 1},   {{3, 8193}, 1},  {{2, 70001}, 1}, {{61, 7}, 0},
                 {{8193, 3}, 0}, {{70001, 2}, 0}, {{259, 257}, -1}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        const int64_t count = cases[k].shape[0] * cases[k].shape[1];
        const tsr_attr axis = {.name = "axes", .kind = TSR_ATTR_INTS, .values = &cases[k].axis, .count = 1};
        for (int64_t i = 0; i < count; i++) {
            const float value = (float)((uint32_t)i * 2654435761u >> 8) * 0x1p-20f - 8;
            memcpy(&inputs[i], &value, sizeof value);
        }
        for (int i = 0; i < side_count; i++) {
            tsr_scope_begin();
            tsr_tensor *x = tsr_from_data(sides[i].device, TSR_F32, 2, cases[k].shape, inputs), *y = NULL;
            if (tsr_op_call("sum", &x, 1, &y, 1, &axis, cases[k].axis >= 0) != TSR_OK ||
                tsr_read(y, outputs[i > 0], (size_t)tsr_numel(y) * sizeof(float)) != TSR_OK)
                fail_msg("%s: %s", sides[i].id, tsr_last_error());
            size_t first = 0;
            if (i > 0 && differences(outputs[0], outputs[1], (size_t)tsr_numel(y), true, &first) > 0)
                fail_msg("sum of [%lld, %lld]: element %zu on %s has other bits", (long long)cases[k].shape[0],
                         (long long)cases[k].shape[1], first, sides[i].id);
            tsr_scope_end();
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sums), cmocka_unit_test(test_unary)};
    return cmocka_run_group_tests(tests, open_devices, close_devices);
}
