#include "report.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "command.h"
#include "table.h"
#include "task.h"
#include "tessera/version.h"

/* ---- for people --------------------------------------------------------------------------------------------------- */

/* Of what people count. */
static double rate_of(const train_run *r)
{
    return r->samples_per_second * (double)r->task->units;
}

enum { OWNERS_SHOWN = 12 };

/* Who held most when most was held. */
static void report_owners(const train_run *r, FILE *out)
{
    table t = {0};
    uint64_t all = 0, rest = 0;
    size_t further = 0;
    for (size_t i = 0; i < r->owner_count; i++) {
        const uint64_t bytes = r->owners[i].peak_bytes;
        all += bytes;
        rest += i < OWNERS_SHOWN ? 0 : bytes;
        further += i >= OWNERS_SHOWN && bytes > 0;
    }
    table_column(&t, "MEMORY AT THE PEAK", ALIGN_LEFT, false);
    table_column(&t, "", ALIGN_LEFT, false);
    table_column(&t, "", ALIGN_RIGHT, false);
    for (size_t i = 0; i < r->owner_count && i < OWNERS_SHOWN && r->owners[i].peak_bytes > 0; i++) {
        const tsr_memory_owner *o = &r->owners[i];
        table_row(&t, STYLE_NONE);
        table_cell(&t, "%s", o->name[0] == '\0' ? "the program's own" : o->name);
        table_cell(&t, "%s", o->kind >= TSR_MEMORY_FORWARD ? tsr_memory_kind_name(o->kind) : "");
        table_cell(&t, "%s", bytes_text((double)o->peak_bytes));
    }
    if (further > 0) {
        table_row(&t, STYLE_NONE);
        table_cell(&t, "%zu others", further);
        table_cell(&t, "%s", "");
        table_cell(&t, "%s", bytes_text((double)rest));
    }
    table_row(&t, STYLE_BOLD);
    table_cell(&t, "all");
    table_cell(&t, "%s", "");
    table_cell(&t, "%s", bytes_text((double)all));
    table_print(&t, out);
    table_free(&t);
}

void report_run(const train_run *r, FILE *out)
{
    fprintf(out, "%-10s", r->device.id);
    if (r->end == TRAIN_FAILED) {
        fputs(terminal_style(out, STYLE_BAD), out);
        print_wrapped(out, 10, 10, r->error);
        fputs(terminal_style(out, STYLE_NONE), out);
        return;
    }
    fprintf(out, "%lld steps in %s, %.0f %s/s", (long long)r->steps, duration_text(r->train_seconds), rate_of(r),
            r->task->unit);
    if (r->steps > 0)
        fprintf(out, ", loss %.4f", (double)r->losses[r->steps - 1]);
    if (r->test_samples > 0)
        fprintf(out, ", test %s %s%.4f%s", r->task->counts_right ? "accuracy" : "loss", terminal_style(out, STYLE_BOLD),
                r->task->counts_right ? r->test_accuracy : r->test_loss, terminal_style(out, STYLE_NONE));
    fprintf(out, "%s\n", r->end == TRAIN_INTERRUPTED ? " (interrupted)" : "");
    if (r->owner_count > 0)
        report_owners(r, out);
}

/* Fixed digits after the point, or, with digits < 0, the exponent form. */
static void cell_number(table *t, int digits, double value)
{
    if (isnan(value))
        table_cell(t, "-");
    else if (isinf(value))
        table_cell(t, "NaN");
    else if (digits < 0)
        table_cell(t, "%.1e", value);
    else /* no "-0.0000" */
        table_cell(t, "%.*f", digits, fabs(value) < 0.5 * pow(10, -digits) ? 0.0 : value);
}

static void add_row(table *t, const train_run *r)
{
    const bool partial = r->end != TRAIN_FAILED && r->steps < r->steps_planned;
    table_row(t, r->end == TRAIN_FAILED || (r->compared && !r->agrees) ? STYLE_BAD : STYLE_NONE);
    table_cell(t, "%s", r->device.id);
    if (r->end == TRAIN_PENDING) {
        table_cell(t, "not run");
        return;
    }
    if (r->end == TRAIN_FAILED) {
        table_cell(t, "failed");
        table_note(t, "%s", r->error);
        return;
    }
    if (partial)
        table_cell(t, "%lld of %lld", (long long)r->steps, (long long)r->steps_planned);
    else
        table_cell(t, "%lld", (long long)r->steps);
    cell_number(t, 4, r->test_samples == 0 ? NAN : r->task->counts_right ? r->test_accuracy : r->test_loss);
    cell_number(t, -1, r->loss_gap_first);
    cell_number(t, 4, r->loss_gap_last);
    cell_number(t, 0, rate_of(r));
    cell_number(t, 2, r->compared ? r->speed_ratio : 1);
    table_cell(t, "%s", bytes_text((double)r->peak_bytes));
    table_cell(t, "%s", !r->compared ? "reference" : r->agrees ? "agrees" : "DIFFERS");
}

void report_table(const train_run *runs, size_t count, FILE *out)
{
    table t = {0};
    const task *what = runs[0].task;
    char rate[32];
    int n = snprintf(rate, sizeof rate, "%s/s", what->unit);
    while (n-- > 0)
        rate[n] = (char)toupper((unsigned char)rate[n]);
    table_column(&t, "DEVICE", ALIGN_LEFT, false);
    table_column(&t, "STEPS", ALIGN_RIGHT, false);
    table_column(&t, what->counts_right ? "ACCURACY" : "TEST LOSS", ALIGN_RIGHT, false);
    table_column(&t, "GAP AT 10", ALIGN_RIGHT, false);
    table_column(&t, "GAP AT END", ALIGN_RIGHT, false);
    table_column(&t, rate, ALIGN_RIGHT, false);
    table_column(&t, "SPEED", ALIGN_RIGHT, false);
    table_column(&t, "MEMORY", ALIGN_RIGHT, false);
    table_column(&t, "", ALIGN_LEFT, false);
    for (size_t i = 0; i < count; i++)
        add_row(&t, &runs[i]);
    table_print(&t, out);
    table_free(&t);

    for (size_t i = 0; i < count; i++) {
        const train_run *r = &runs[i];
        if (r->test_samples > 0 && r->test_samples < r->test_all)
            fprintf(out, "%s was tested on %lld %s, to stay within its time.\n", r->device.id,
                    (long long)(r->test_samples * r->task->units), r->task->unit);
    }
    fprintf(out, "%s", terminal_style(out, STYLE_DIM));
    print_wrapped(
        out, 0, 0,
        "Gaps are of the loss, to the reference: the largest in the first 10 steps (bound 1e-5), and of the means over "
        "the last 50 in common. Free trainings drift apart after some 20 steps.");
    fprintf(out, "%s", terminal_style(out, STYLE_NONE));
}

/* ---- for programs ------------------------------------------------------------------------------------------------- */

static const char *end_name(const train_run *r)
{
    switch (r->end) {
    case TRAIN_PENDING: return "not run";
    case TRAIN_DONE: return r->steps < r->steps_planned ? "shortened" : "done";
    case TRAIN_INTERRUPTED: return "interrupted";
    case TRAIN_FAILED: return "failed";
    }
    return "";
}

/* null for what was not found out. */
static void put_known(json *j, const char *key, double value, bool known)
{
    if (known)
        json_put_double(j, key, value);
    else
        json_put_null(j, key);
}

static void put_count(json *j, const char *key, uint64_t value, bool known)
{
    if (known)
        json_put_uint(j, key, value);
    else
        json_put_null(j, key);
}

static void put_owners(json *j, const train_run *r)
{
    json_key(j, "memory_at_peak");
    json_begin_array(j);
    for (size_t i = 0; i < r->owner_count && r->owners[i].peak_bytes > 0; i++) {
        json_begin_object(j);
        json_put_string(j, "kind", tsr_memory_kind_name(r->owners[i].kind));
        json_put_string(j, "name", r->owners[i].name);
        json_put_uint(j, "bytes", r->owners[i].peak_bytes);
        json_end_object(j);
    }
    json_end_array(j);
}

/* A test: of how much, and what came out. */
static void put_test(json *j, const train_run *r, int64_t samples, double loss, double accuracy)
{
    char units[32];
    snprintf(units, sizeof units, "test_%s", r->task->unit);
    put_known(j, "test_accuracy", accuracy, samples > 0 && r->task->counts_right);
    put_known(j, "test_loss", loss, samples > 0);
    json_put_int(j, units, samples * r->task->units);
}

static void put_evaluations(json *j, const train_run *r)
{
    json_key(j, "evaluations");
    json_begin_array(j);
    for (size_t i = 0; i < r->evaluation_count; i++) {
        const train_evaluation *e = &r->evaluations[i];
        json_begin_object(j);
        json_put_int(j, "step", e->step);
        put_test(j, r, e->samples, e->loss, e->accuracy);
        json_end_object(j);
    }
    json_end_array(j);
}

static void put_run(json *j, const train_settings *s, const train_run *r)
{
    const bool warm = r->steps > 2;
    char rate_units[32];
    json_begin_object(j);
    json_put_string(j, "device", r->device.id);
    json_put_string(j, "device_name", r->device.name);
    json_put_string(j, "driver", r->device.driver);
    json_put_string(j, "backend", r->device.backend);
    json_put_string(j, "version", tsr_version());
    json_put_string(j, "task", s->task);
    json_put_string(j, "model", s->model);
    json_put_string(j, "optimizer", s->optimizer);
    json_put_double(j, "lr", train_learning_rate(s));
    json_put_int(j, "batch", s->batch);
    json_put_uint(j, "seed", s->seed);
    json_put_int(j, "accumulate", s->accumulate);
    json_put_double(j, "clip", s->clip);
    json_put_string(j, "schedule", s->schedule);
    json_put_int(j, "warmup", s->warmup);
    json_put_string(j, "amp", s->amp);
    json_put_int(j, "workers", s->workers);
    json_put_bool(j, "checkpoint_activations", s->checkpoint);
    json_put_string(j, "result", end_name(r));
    json_put_string(j, "error", r->end == TRAIN_FAILED ? r->error : NULL);
    json_put_int(j, "steps_planned", r->steps_planned);
    json_put_int(j, "steps", r->steps);
    json_put_int(j, "resumed_after", r->resumed_after);
    json_key(j, "losses");
    json_begin_array(j);
    for (int64_t i = 0; i < r->steps; i++)
        json_float(j, r->losses[i]);
    json_end_array(j);
    put_evaluations(j, r);
    put_test(j, r, r->test_samples, r->test_loss, r->test_accuracy);
    json_put_double(j, "samples_per_second", r->samples_per_second);
    if (r->task->units > 1) {
        snprintf(rate_units, sizeof rate_units, "%s_per_second", r->task->unit);
        json_put_double(j, rate_units, rate_of(r));
    }
    json_put_double(j, "train_seconds", r->train_seconds);
    json_put_double(j, "test_seconds", r->test_seconds);
    json_put_double(j, "evaluation_seconds", r->evaluation_seconds);
    json_put_uint(j, "peak_bytes", r->peak_bytes);
    json_put_uint(j, "reserved_bytes", r->reserved_bytes);
    if (s->memory != NULL)
        put_owners(j, r);
    put_count(j, "driver_allocs_after_warmup", r->driver_allocs_after_warmup, warm);
    put_count(j, "programs_built_after_warmup", r->programs_built_after_warmup, warm);
    put_known(j, "host_syncs_per_step", r->host_syncs_per_step, warm);
    put_known(j, "loader_wait_fraction", r->loader_wait_fraction, warm);
    put_known(j, "loss_scale", r->loss_scale, r->loss_scale > 0);
    put_count(j, "skipped_steps", (uint64_t)r->skipped_steps, r->loss_scale > 0);
    json_put_string(j, "initial_weights_sha256",
                    r->initial_weights_sha256[0] != '\0' ? r->initial_weights_sha256 : NULL);
    json_put_string(j, "weights_sha256", r->weights_sha256[0] != '\0' ? r->weights_sha256 : NULL);
    if (r->compared) {
        json_put_double(j, "loss_gap_first", r->loss_gap_first);
        json_put_double(j, "loss_gap_last", r->loss_gap_last);
        json_put_double(j, "accuracy_gap", r->accuracy_gap);
        json_put_double(j, "speed_ratio", r->speed_ratio);
        json_put_bool(j, "agrees", r->agrees);
    }
    json_end_object(j);
}

void report_runs(json *j, const train_settings *s, const train_run *runs, size_t count)
{
    if (count != 1) {
        json_begin_object(j);
        json_key(j, "runs");
        json_begin_array(j);
    }
    for (size_t i = 0; i < count; i++)
        put_run(j, s, &runs[i]);
    if (count != 1) {
        json_end_array(j);
        json_end_object(j);
    }
}

bool report_write(json *j, const char *path)
{
    const char *document = "";
    bool ok;
    if (strcmp(path, "-") == 0) {
        ok = json_finish(j, &document) == TSR_OK;
        fputs(document, stdout);
    } else {
        ok = json_write_file(j, path) == TSR_OK;
    }
    if (!ok)
        complain("%s", tsr_last_error());
    return ok;
}

bool report_write_text(const text *t, const char *path)
{
    if (strcmp(path, "-") == 0)
        return fputs(text_string(t), stdout) >= 0;
    if (!t->failed && file_write_atomic(path, text_string(t), t->length) == TSR_OK)
        return true;
    complain("%s", tsr_last_error());
    return false;
}

/* The file is replaced when the work is done, through another one beside it: so it is the folder that must allow that. */
bool report_writable(const char *flag, const char *path)
{
    struct stat about;
    char beside[PATH_SIZE];
    if (path == NULL || strcmp(path, "-") == 0)
        return true;
    if (stat(path, &about) == 0 && !S_ISREG(about.st_mode)) {
        if (S_ISDIR(about.st_mode))
            complain("--%s %s: it is a folder; name a file in it", flag, path);
        else if (access(path, W_OK) == 0)
            return true;
        else
            complain("--%s %s: %s", flag, path, strerror(errno));
        return false;
    }
    char *target = realpath(path, NULL); /* a link is followed; NULL where nothing is there yet */
    const int length = snprintf(beside, sizeof beside, "%s.XXXXXX", target != NULL ? target : path);
    free(target);
    const int descriptor = length > 0 && (size_t)length < sizeof beside ? mkstemp(beside) : (errno = ENAMETOOLONG, -1);
    if (descriptor < 0) {
        complain("--%s %s: it cannot be written there (%s); name a file in a folder that you may write to", flag, path,
                 strerror(errno));
        return false;
    }
    close(descriptor);
    unlink(beside);
    return true;
}
