#include "lockstep.h"

#include <math.h>

#include "table.h"
#include "tessera/version.h"

bool lock_agrees(const lock_run *r)
{
    return r->status == TSR_OK && r->same_bits && r->worst.ratio <= 1;
}

static void add_row(table *t, const lock_run *r, bool first)
{
    table_row(t, lock_agrees(r) ? STYLE_NONE : STYLE_BAD);
    table_cell(t, "%s", r->device.id);
    if (r->status != TSR_OK) {
        table_cell(t, "failed");
        table_note(t, "%s", r->error);
        return;
    }
    table_cell(t, "%lld", (long long)r->steps);
    for (int c = 0; c < LOCK_CHECKS; c++)
        table_cell(t, "%.3f", r->ratio[c]);
    if (first)
        table_cell(t, "-");
    else
        table_cell(t, "%.1e", r->gradient_gap);
    table_cell(t, "%s", lock_agrees(r) ? "within bounds" : "OUT OF BOUNDS");
    if (r->worst.ratio > 1)
        table_note(t, "%s: step %lld, element %lld: %.9g for %.9g, %.1f times the bound", r->worst.what,
                   (long long)r->worst.step, (long long)r->worst.element, r->worst.value, r->worst.expected,
                   r->worst.ratio);
    if (!r->same_bits)
        table_note(t, "the gradients of the whole model are not those of its operators one by one");
}

void lock_table(const lock_run *runs, size_t count, FILE *out)
{
    table t = {0};
    table_column(&t, "DEVICE", ALIGN_LEFT, false);
    table_column(&t, "STEPS", ALIGN_RIGHT, false);
    table_column(&t, "LOSS", ALIGN_RIGHT, false);
    table_column(&t, "FORWARD", ALIGN_RIGHT, false);
    table_column(&t, "BACKWARD", ALIGN_RIGHT, false);
    table_column(&t, "GRADIENTS", ALIGN_RIGHT, false);
    table_column(&t, "GAP", ALIGN_RIGHT, false);
    table_column(&t, "", ALIGN_LEFT, false);
    for (size_t i = 0; i < count; i++)
        add_row(&t, &runs[i], i == 0);
    table_print(&t, out);
    table_free(&t);
    fputs(terminal_style(out, STYLE_DIM), out);
    print_wrapped(
        out, 0, 0,
        "Every element of every operator against double precision on the same operands: the largest error over its "
        "bound "
        "(at most 1). GAP: the gradients' largest difference to the first device, over the largest gradient.");
    fputs(terminal_style(out, STYLE_NONE), out);
}

static void put_run(json *j, const lock_run *r)
{
    static const char *const keys[] = {
        [LOCK_LOSS] = "loss_ratio",
        [LOCK_FORWARD] = "forward_ratio",
        [LOCK_INPUTS] = "input_gradient_ratio",
        [LOCK_WEIGHTS] = "weight_gradient_ratio",
    };
    json_begin_object(j);
    json_put_string(j, "device", r->device.id);
    json_put_string(j, "device_name", r->device.name);
    json_put_string(j, "driver", r->device.driver);
    json_put_string(j, "backend", r->device.backend);
    json_put_string(j, "error", r->status != TSR_OK ? r->error : NULL);
    json_put_int(j, "steps", r->steps);
    for (int c = 0; c < LOCK_CHECKS; c++)
        json_put_double(j, keys[c], r->ratio[c]);
    json_key(j, "worst");
    json_begin_object(j);
    json_put_string(j, "what", r->worst.what);
    json_put_int(j, "step", r->worst.step);
    json_put_int(j, "element", r->worst.element);
    json_put_double(j, "ratio", r->worst.ratio);
    json_put_double(j, "value", r->worst.value);
    json_put_double(j, "expected", r->worst.expected);
    json_put_double(j, "bound", r->worst.bound);
    json_end_object(j);
    json_put_bool(j, "same_bits", r->same_bits);
    json_put_double(j, "gradient_gap", r->gradient_gap);
    json_put_bool(j, "agrees", lock_agrees(r));
    json_end_object(j);
}

void lock_json(json *j, const train_settings *s, const lock_run *runs, size_t count)
{
    json_begin_object(j);
    json_put_string(j, "version", tsr_version());
    json_put_string(j, "model", s->model);
    json_put_string(j, "optimizer", s->optimizer);
    json_put_double(j, "lr", train_learning_rate(s));
    json_put_int(j, "batch", s->batch);
    json_put_uint(j, "seed", s->seed);
    json_put_int(j, "steps_planned", s->lockstep);
    json_key(j, "lockstep");
    json_begin_array(j);
    for (size_t i = 0; i < count; i++)
        put_run(j, &runs[i]);
    json_end_array(j);
    json_end_object(j);
}
