/* Recordings of a step: what their digests tell, files that are not whole, and where two of them part. */
#include "unit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/compiler.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/philox.h"
#include "difference.h"
#include "operators/number.h"
#include "operators/samples.h"
#include "recorder.h"
#include "tessera/tessera.h"

static char path[] = "/tmp/tessera-recording-XXXXXX";
static tsr_device *device;

/* ---- digests ---------------------------------------------------------------------------------------------------------- */

enum { MANY = 5000 };

static digest digest_of(const float *values, int64_t count)
{
    digest d;
    assert_int_equal(tsr_scope_begin(), TSR_OK);
    assert_int_equal(digest_make(&d, tsr_from_data(device, TSR_F32, 1, &count, values)), TSR_OK);
    tsr_scope_end();
    return d;
}

static void digests_tell_statistics(void **state)
{
    const float values[] = {3, -4, NAN, 0, INFINITY, -INFINITY, NAN};
    const digest d = digest_of(values, 7);
    (void)state;
    assert_int_equal(d.count, 7);
    assert_int_equal(d.nans, 2);
    assert_int_equal(d.infinities, 2);
    assert_float_equal(d.mean, -1.0 / 3, 1e-15);
    assert_float_equal(d.rms, sqrt(25.0 / 3), 1e-15);
    assert_float_equal(digest_norm(&d), 5, 1e-14);
    assert_float_equal(digest_largest(&d), 4, 0);
    assert_int_equal(d.sample_count, 7);
    assert_float_equal(d.samples[1], -4, 0);
    assert_true(isnan(d.samples[2]));
    const digest none = digest_of(values, 0);
    assert_int_equal(none.sample_count, 0);
    assert_float_equal(digest_norm(&none), 0, 0);
}

static void places_are_spread(void **state)
{
    int64_t a[DIGEST_SAMPLES], b[DIGEST_SAMPLES];
    (void)state;
    assert_int_equal(digest_places(10, a), 10);
    assert_int_equal(a[9], 9);
    assert_int_equal(digest_places(INT64_C(1) << 40, a), DIGEST_SAMPLES);
    assert_int_equal(digest_places(INT64_C(1) << 40, b), DIGEST_SAMPLES);
    assert_memory_equal(a, b, sizeof a);
    assert_int_equal(a[0], 0);
    assert_int_equal(a[DIGEST_SAMPLES - 1], (INT64_C(1) << 40) - 1);
    int64_t upper = 0;
    for (int i = 0; i < DIGEST_SAMPLES; i++) {
        assert_in_range(a[i], 0, (INT64_C(1) << 40) - 1);
        upper += a[i] >> 39;
    }
    assert_in_range(upper, 16, 48);
}

/* One changed element is measured exactly, however small it is beside the others; any change to within a half. */
static void distances_are_measured(void **state)
{
    static float a[MANY], b[MANY];
    philox_stream numbers = philox_begin(7, PHILOX_ORDER, 0);
    (void)state;
    for (int i = 0; i < MANY; i++)
        a[i] = philox_float(&numbers) - 0.5f;
    digest one = digest_of(a, MANY), other = digest_of(a, MANY);
    assert_float_equal(digest_distance(&one, &other), 0, 0);
    memcpy(b, a, sizeof b);
    b[1234] = b[1234] + 0x1p-20f;
    other = digest_of(b, MANY);
    assert_float_equal(digest_distance(&one, &other), (double)b[1234] - (double)a[1234], 1e-12);
    for (int trial = 0; trial < 20; trial++) {
        double squares = 0;
        for (int i = 0; i < MANY; i++) {
            b[i] = a[i] + (philox_float(&numbers) - 0.5f) * 0x1p-18f;
            squares += ((double)b[i] - (double)a[i]) * ((double)b[i] - (double)a[i]);
        }
        other = digest_of(b, MANY);
        const double measured = digest_distance(&one, &other) / sqrt(squares);
        if (measured < 0.5 || measured > 1.5)
            fail_msg("trial %d: %g of the distance", trial, measured);
    }
    b[7] = NAN;
    other = digest_of(b, MANY);
    assert_true(isinf(digest_distance(&one, &other)));
}

static void steps_are_lists(void **state)
{
    static const char *const wrong[] = {"", ",", "1,", "-1", "a", "3-1", "1-", "1,,2", "99999999999999999999", "1 2"};
    step_list list;
    (void)state;
    assert_int_equal(step_list_parse(&list, "0,7,10-12"), TSR_OK);
    for (int i = 0; i < 20; i++)
        assert_int_equal(step_list_has(&list, i), i == 0 || i == 7 || (i >= 10 && i <= 12));
    for (size_t i = 0; i < COUNT_OF(wrong); i++)
        assert_int_equal(step_list_parse(&list, wrong[i]), TSR_INVALID_ARGUMENT);
}

/* ---- files ------------------------------------------------------------------------------------------------------------ */

/* A step of a small network; `tensors`: beside it, whole ones. */
static void record_step(bool tensors)
{
    tsr_module *model =
        TSR_SEQUENTIAL(tsr_linear_create(device, 6, 5, true), tsr_relu_create(), tsr_linear_create(device, 5, 3, true));
    tsr_optimizer *adam = tsr_adam_for(model, &(tsr_adam_options){.lr = 1e-3});
    recorder *r = recorder_create(&(recorder_settings){path, "1", tensors, "a test"}, device, model);
    assert_non_null(r);
    for (int step = 0; step < 3; step++) {
        assert_int_equal(tsr_scope_begin(), TSR_OK);
        assert_int_equal(recorder_begin_step(r, step), TSR_OK);
        tsr_tensor *x =
            tsr_from_data(device, TSR_F32, 2, (int64_t[]){2, 6}, (float[]){1, 2, 3, 4, 5, 6, -1, 0, 1, 2, 3, 4});
        tsr_tensor *y = tsr_from_data(device, TSR_I64, 1, (int64_t[]){2}, (int64_t[]){0, 2});
        tsr_optimizer_clear_grad(adam);
        assert_int_equal(tsr_backward(tsr_cross_entropy(tsr_forward(model, x), y)), TSR_OK);
        assert_int_equal(tsr_optimizer_step(adam), TSR_OK);
        assert_int_equal(recorder_end_step(r), TSR_OK);
        tsr_scope_end();
    }
    assert_int_equal(recorder_write(r), TSR_OK);
    recorder_destroy(r);
    tsr_optimizer_destroy(adam);
    tsr_module_destroy(model);
}

static int begin(void **state)
{
    const int file = mkstemp(path);
    (void)state;
    device = tsr_device_open("cpu:0");
    if (file < 0 || device == NULL || tsr_seed(device, 3) != TSR_OK)
        return -1;
    close(file);
    record_step(false);
    return 0;
}

static int end(void **state)
{
    (void)state;
    unlink(path);
    tsr_device_close(device);
    return 0;
}

static void what_is_written_is_read(void **state)
{
    static const char *const ops[] = {"linear", "relu",   "linear", "cross_entropy", "cross_entropy", "linear",
                                      "relu",   "linear", "adam",   "adam",          "adam",          "adam"};
    recording r = {.count = 0};
    (void)state;
    assert_int_equal(recording_read(&r, path), TSR_OK);
    assert_string_equal(r.device, "cpu:0");
    assert_string_equal(r.training, "a test");
    assert_int_equal(r.count, COUNT_OF(ops));
    for (size_t i = 0; i < r.count; i++) {
        assert_string_equal(r.events[i].op, ops[i]);
        assert_int_equal(r.events[i].step, 1);
        assert_int_equal(r.events[i].phase, i < 4 ? TSR_TRACE_FORWARD : i < 8 ? TSR_TRACE_BACKWARD : TSR_TRACE_UPDATE);
    }
    assert_string_equal(r.events[0].in[1].name, "0.weight");
    assert_string_equal(r.events[2].in[2].name, "2.bias");
    assert_string_equal(r.events[11].out[0].name, "2.bias");
    assert_float_equal(r.events[0].in[0].max, 6, 0);
    assert_float_equal(event_attribute_find(&r.events[8], "lr")->f, 1e-3, 0);
    assert_int_equal(r.events[7].call, 1);
    assert_false(r.events[7].out[0].present); /* the images need no gradient */
    const comparison_result same = recordings_compare(&r, &r);
    assert_int_equal(same.first.kind, DIFFERENCE_NONE);
    assert_int_equal(same.judged + same.unjudged, 4 + 1 + 3 + 1 + 2 + 12);
    recording_free(&r);
}

static void whole_tensors_are_kept(void **state)
{
    char beside[64];
    (void)state;
    record_step(true);
    recording r = {.count = 0};
    assert_int_equal(recording_read(&r, path), TSR_OK);
    assert_true(r.tensors);
    assert_true(recording_tensors_path(path, 1, beside, sizeof beside));
    tsr_safetensors *file = tsr_safetensors_open(beside);
    assert_non_null(file);
    assert_int_equal(tsr_scope_begin(), TSR_OK);
    for (size_t i = 0; i < r.count; i++)
        for (int k = 0; k < r.events[i].out_count; k++) {
            char name[48];
            digest d;
            if (!r.events[i].out[k].present)
                continue;
            snprintf(name, sizeof name, "%zu.out.%d", i, k);
            assert_int_equal(digest_make(&d, tsr_safetensors_load(file, name, device)), TSR_OK);
            assert_true(d.hash == r.events[i].out[k].hash);
        }
    tsr_scope_end();
    tsr_safetensors_close(file);
    unlink(beside);
    recording_free(&r);
}

/* Cut anywhere, or with any byte changed, a file is refused or read, and nothing else happens. */
static void damaged_files_are_refused(void **state)
{
    uint8_t *bytes;
    size_t size;
    philox_stream numbers = philox_begin(11, PHILOX_ORDER, 0);
    (void)state;
    assert_int_equal(file_read_all(path, &bytes, &size, SIZE_MAX), TSR_OK);
    for (int i = 0; i < 40; i++) {
        recording r = {.count = 0};
        const size_t cut = philox_below(&numbers, (uint32_t)size - 1);
        assert_int_equal(recording_parse(&r, "cut", (const char *)bytes, cut), TSR_CORRUPT_DATA);
        recording_free(&r);
    }
    for (int i = 0; i < 200; i++) {
        static const char likely[] = "0-9,[]{}\"ena.:\n";
        const size_t at = philox_below(&numbers, (uint32_t)size);
        const uint8_t kept = bytes[at];
        recording r = {.count = 0};
        bytes[at] = (uint8_t)likely[philox_below(&numbers, sizeof likely - 1)];
        if (recording_parse(&r, "changed", (const char *)bytes, size) == TSR_OK)
            recordings_compare(&r, &r);
        recording_free(&r);
        bytes[at] = kept;
    }
    host_free(bytes);
}

static void wrong_files_are_named(void **state)
{
    static const struct {
        const char *text;
        tsr_status status;
        const char *says;
    } rows[] = {
        {"", TSR_CORRUPT_DATA, "before its end"},
        {"x", TSR_CORRUPT_DATA, "line 1"},
        {"[]", TSR_CORRUPT_DATA, "no JSON object"},
        {"{}", TSR_CORRUPT_DATA, "no recording"},
        {"{\"tessera_trace\": 2}", TSR_UNSUPPORTED, "format 2"},
        {"{\"tessera_trace\": 1}", TSR_CORRUPT_DATA, "header"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        recording r = {.count = 0};
        assert_int_equal(recording_parse(&r, "F", rows[i].text, strlen(rows[i].text)), rows[i].status);
        assert_non_null(strstr(tsr_last_error(), rows[i].says));
        recording_free(&r);
    }
    recording r = {.count = 0};
    assert_int_equal(recording_read(&r, "/no/such/file"), TSR_NOT_FOUND);
}

/* ---- where two part ----------------------------------------------------------------------------------------------------- */

/* As if the device had given another first element. */
static void disturb(digest *d, double by)
{
    d->hash ^= 1;
    d->samples[0] += by;
    for (int k = 0; k < DIGEST_SKETCH; k++)
        d->sketch[k] += by; /* its sign is the same in none or all of them, for what is tested here */
}

static void parts_are_found(void **state)
{
    (void)state;
    /* Rounding of sums of six and five products is below 1e-5 here; relu, which is exact, passes on what it got. */
    static const struct {
        size_t event;
        int tensor;
        double by;
        bool parts;
    } rows[] = {
        {0, 0, 1e-8, false}, {0, 0, 1e-2, true}, {1, 0, 1e-7, true},  {2, 0, 1e-2, true}, {3, 0, 1e-2, true},
        {4, 0, 1e-2, true},  {5, 0, 1e-2, true}, {5, 1, 1e-2, true},  {5, 2, 1e-2, true}, {6, 0, 1e-7, true},
        {7, 1, 1e-1, true},  {7, 2, 1e-2, true}, {7, 2, 1e-8, false},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        recording a = {.count = 0}, b = {.count = 0};
        assert_int_equal(recording_read(&a, path), TSR_OK);
        assert_int_equal(recording_read(&b, path), TSR_OK);
        disturb(&b.events[rows[i].event].out[rows[i].tensor], rows[i].by);
        const comparison_result r = recordings_compare(&a, &b);
        if ((r.first.kind == DIFFERENCE_VALUES) != rows[i].parts)
            fail_msg("row %zu: ratio %g", i, rows[i].parts ? r.nearest.ratio : r.first.ratio);
        if (rows[i].parts) {
            assert_int_equal(r.first.event, rows[i].event);
            assert_int_equal(r.first.tensor, rows[i].tensor);
            assert_int_equal(r.first.element, 0);
            assert_true(fabs(r.first.value_b - r.first.value_a - rows[i].by) < 1e-12);
        }
        recording_free(&a);
        recording_free(&b);
    }
}

/* What a distance of the operands may come to is allowed; more is not. */
static void distance_is_passed_on(void **state)
{
    (void)state;
    for (int faulty = 0; faulty < 2; faulty++) {
        recording a = {.count = 0}, b = {.count = 0};
        assert_int_equal(recording_read(&a, path), TSR_OK);
        assert_int_equal(recording_read(&b, path), TSR_OK);
        disturb(&b.events[0].out[0], 1e-8);
        disturb(&b.events[1].in[0], 1e-8);
        disturb(&b.events[1].out[0], faulty ? 1e-6 : 1e-8);
        const comparison_result r = recordings_compare(&a, &b);
        assert_int_equal(r.first.kind, faulty ? DIFFERENCE_VALUES : DIFFERENCE_NONE);
        if (faulty)
            assert_int_equal(r.first.event, 1);
        recording_free(&a);
        recording_free(&b);
    }
}

/* ---- growth, tried on every operator --------------------------------------------------------------------------------- */

/* One sample, forward and backward, of operands that are `apart` times their size away from the table's. */
static bool record_sample(const operator_row *row, const op_sample *sample, double apart, tsr_module *model,
                          recording *made)
{
    host_input in[INPUTS_MAX];
    tsr_tensor *x[INPUTS_MAX] = {NULL}, *out[OUTPUTS_MAX] = {NULL};
    const int count = sample_inputs(row, sample);
    philox_stream numbers = philox_begin(5, PHILOX_ORDER, 0);
    recorder *r = recorder_create(&(recorder_settings){path, "1", false, row->name}, device, model);
    assert_non_null(r);
    assert_true(sample_fill(row, sample, 0, TSR_F32, 0, in));
    assert_int_equal(tsr_scope_begin(), TSR_OK);
    for (int k = 0; k < count; k++) {
        const sample_input *i = &sample->in[k];
        const size_t size = tsr_dtype_size(in[k].dtype);
        if (i->absent)
            continue;
        char *data = host_alloc((size_t)in[k].count * size + 1);
        for (int64_t e = 0; e < in[k].count; e++)
            number_store(in[k].dtype, data, e,
                         in[k].value[e] *
                             (number_is_float(in[k].dtype) ? 1 + apart * (philox_double(&numbers) - 0.5) : 1));
        x[k] = tsr_from_data(device, in[k].dtype, i->rank, i->shape, data);
        host_free(data);
        assert_non_null(x[k]);
        if (row->differentiable && (row->constant >> k & 1) == 0 && number_is_float(in[k].dtype))
            assert_int_equal(tsr_set_requires_grad(x[k], true), TSR_OK);
    }
    assert_int_equal(recorder_begin_step(r, 1), TSR_OK);
    bool ok = tsr_op_call(row->name, x, count, out, row->results, sample->attrs, sample_attrs(sample)) == TSR_OK;
    if (ok && tsr_requires_grad(out[0]))
        ok = tsr_backward_from(out[0], NULL, false) == TSR_OK;
    assert_int_equal(recorder_end_step(r), TSR_OK);
    size_t size;
    const char *lines = recorder_finish(r, &size);
    assert_non_null(lines);
    assert_int_equal(recording_parse(made, row->name, lines, size), TSR_OK);
    recorder_destroy(r);
    for (int k = 0; k < count; k++)
        tsr_clear_grad(x[k]);
    tsr_scope_end();
    sample_free(in);
    return ok;
}

/* What comes of a distance between the operands stays within what growth.c allows, for every operator: real
 * distances through real operators. How many times the bound it reaches is printed. */
static void growth_is_bounded(void **state)
{
    static sample_list list;
    int known = 0, guessed = 0, wrong = 0;
    (void)state;
    tsr_module *model = tsr_relu_create();
    for (size_t i = 0; i < operator_count(); i++) {
        const operator_row *row = operator_at(i);
        double most = 0;
        bool has_formula = true;
        if ((row->dtypes & MASK(TSR_F32)) == 0)
            continue;
        samples_of(row, TSR_F32, &list);
        for (size_t k = 0; k < list.count && k < 8; k++) {
            recording a = {.count = 0}, b = {.count = 0};
            const op_sample *sample = &list.samples[k];
            if (sample->only_forward || sample->in[0].values == VALUES_EXTREMES || sample->exact ||
                shape_product(sample->in[0].rank, sample->in[0].shape) > 3000 ||
                !record_sample(row, sample, 0, model, &a)) {
                recording_free(&a);
                continue;
            }
            assert_true(record_sample(row, sample, 0x1p-12, model, &b));
            const comparison_result r = recordings_compare(&a, &b);
            const difference *d = r.first.kind == DIFFERENCE_NONE ? &r.nearest : &r.first;
            has_formula = has_formula && (d->kind == DIFFERENCE_NONE || d->allowed.known);
            if (r.first.kind == DIFFERENCE_VALUES)
                wrong++,
                    print_message("WRONG %s, %s, %s: result %d is %g apart, %g times what is allowed (%g and %g)\n",
                                  row->name, sample->name, tsr_trace_phase_name(a.events[r.first.event].phase),
                                  r.first.tensor, r.first.distance, r.first.ratio, r.first.allowed.own,
                                  r.first.allowed.passed);
            most = fmax(most, d->ratio);
            recording_free(&a);
            recording_free(&b);
        }
        known += has_formula;
        guessed += !has_formula;
        if (!has_formula)
            print_message("%s: no formula; a guess reaches %.3g of its bound\n", row->name, most);
    }
    print_message("%d operators with a formula, %d without\n", known, guessed);
    assert_int_equal(wrong, 0);
    assert_true(known > 70);
    tsr_module_destroy(model);
}

static void other_events_are_found(void **state)
{
    (void)state;
    for (int what = 0; what < 6; what++) {
        recording a = {.count = 0}, b = {.count = 0};
        assert_int_equal(recording_read(&a, path), TSR_OK);
        assert_int_equal(recording_read(&b, path), TSR_OK);
        trace_event *e = &b.events[what == 3 ? 8 : 2];
        switch (what) {
        case 0: memcpy(e->op, "conv2d", 7); break;
        case 1: e->out[0].shape[1] = 4; break;
        case 2: e->in[1].dtype = TSR_F16; break;
        case 3: e->attributes[0].f = 2e-3; break;
        case 4: e->phase = TSR_TRACE_BACKWARD; break;
        default: b.count = 2; break;
        }
        const comparison_result r = recordings_compare(&a, &b);
        assert_int_equal(r.first.kind, DIFFERENCE_EVENTS);
        assert_int_equal(r.first.event, what == 3 ? 8 : 2);
        assert_true(r.first.what[0] != '\0');
        recording_free(&a);
        recording_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digests_tell_statistics),   cmocka_unit_test(places_are_spread),
        cmocka_unit_test(distances_are_measured),    cmocka_unit_test(steps_are_lists),
        cmocka_unit_test(what_is_written_is_read),   cmocka_unit_test(whole_tensors_are_kept),
        cmocka_unit_test(damaged_files_are_refused), cmocka_unit_test(wrong_files_are_named),
        cmocka_unit_test(parts_are_found),           cmocka_unit_test(distance_is_passed_on),
        cmocka_unit_test(other_events_are_found),    cmocka_unit_test(growth_is_bounded),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
