/* tessera diff: the first operator at which two recorded trainings part. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "arbiter.h"
#include "base/json.h"
#include "base/memory.h"
#include "command.h"
#include "difference.h"
#include "report.h"
#include "table.h"
#include "tessera/version.h"

typedef struct diff_settings {
    const char *files[2];
    const char *json;
} diff_settings;

#define FIELD(name) offsetof(diff_settings, name)
static const option options[] = {
    {"json", "FILE", OPTION_TEXT, FIELD(json), "the result as JSON (docs/json.md); - for standard output", 0, 0, NULL},
};

typedef struct diff_job {
    const diff_settings *settings;
    recording sides[2];
    comparison_result result;
    arbitration again[2]; /* of where they part first, computed again from each one's operands */
} diff_job;

static const char *const names[] = {"A", "B"};

/* ---- for people ----------------------------------------------------------------------------------------------------- */

static void print_sides(const diff_job *j, FILE *out)
{
    for (int i = 0; i < 2; i++) {
        const recording *r = &j->sides[i];
        fprintf(out, "%s  %s: %s, %s, %s; %zu events\n", names[i], j->settings->files[i], r->device, r->device_name,
                r->driver, r->count);
    }
    if (strcmp(j->sides[0].training, j->sides[1].training) != 0)
        fprintf(out, "They are of other trainings: %s; %s\n", j->sides[0].training, j->sides[1].training);
}

/* "step 0, event 13: backward of relu, result 0, f32 [64, 128]" */
static void print_place(const trace_event *e, const difference *d, FILE *out)
{
    const bool start = d->kind == DIFFERENCE_START;
    fprintf(out, "step %lld, event %lld: %s%s %s", (long long)e->step, (long long)e->number,
            tsr_trace_phase_name(e->phase), e->phase == TSR_TRACE_FORWARD ? "" : " of", e->op);
    if (d->kind != DIFFERENCE_VALUES && !start)
        return;
    const digest *t = start ? &e->in[d->tensor] : &e->out[d->tensor];
    fprintf(out, ", %s %d",
            start                            ? "operand"
            : e->phase == TSR_TRACE_BACKWARD ? "gradient of operand"
                                             : "result",
            d->tensor);
    if (t->name[0] != '\0')
        fprintf(out, " (%s)", t->name);
    fprintf(out, ", %s [", tsr_dtype_name(t->dtype));
    for (int i = 0; i < t->rank; i++)
        fprintf(out, "%s%lld", i > 0 ? ", " : "", (long long)t->shape[i]);
    fputs("]", out);
}

static void print_digests(const digest *a, const digest *b, FILE *out)
{
    table t = {0};
    const digest *both[] = {a, b};
    table_column(&t, "", ALIGN_LEFT, false);
    table_column(&t, "MEAN", ALIGN_RIGHT, false);
    table_column(&t, "RMS", ALIGN_RIGHT, false);
    table_column(&t, "SMALLEST", ALIGN_RIGHT, false);
    table_column(&t, "LARGEST", ALIGN_RIGHT, false);
    table_column(&t, "NAN", ALIGN_RIGHT, false);
    table_column(&t, "INF", ALIGN_RIGHT, false);
    for (int i = 0; i < 2; i++) {
        table_row(&t, STYLE_NONE);
        table_cell(&t, "%s", names[i]);
        table_cell(&t, "%.9g", both[i]->mean);
        table_cell(&t, "%.9g", both[i]->rms);
        table_cell(&t, "%.9g", both[i]->min);
        table_cell(&t, "%.9g", both[i]->max);
        table_cell(&t, "%lld", (long long)both[i]->nans);
        table_cell(&t, "%lld", (long long)both[i]->infinities);
    }
    table_print(&t, out);
    table_free(&t);
}

static void print_values(const diff_job *j, const difference *d, FILE *out)
{
    const trace_event *a = &j->sides[0].events[d->event], *b = &j->sides[1].events[d->event];
    const bool start = d->kind == DIFFERENCE_START;
    if (start)
        fprintf(out, "No operator made it, so it should be the same: other weights, other images?\n");
    else
        fprintf(out,
                "distance %.3g, allowed %.0f times %.3g (%.3g by its own rounding, %.3g by its operands' distance%s)\n",
                d->distance, DIFFERENCE_DOUBT, d->allowed.own + d->allowed.passed, d->allowed.own, d->allowed.passed,
                d->allowed.known ? "" : ": a guess, no formula is known for this operator");
    print_digests(start ? &a->in[d->tensor] : &a->out[d->tensor], start ? &b->in[d->tensor] : &b->out[d->tensor], out);
    if (d->element >= 0)
        fprintf(out, "element %lld of those sampled differs most: %.9g in A, %.9g in B\n", (long long)d->element,
                d->value_a, d->value_b);
    else if (!start)
        fprintf(out, "None of the elements that were sampled differs.\n");
}

/* Whether that recording's result errs by more than its rounding explains; false too where it was not computed again. */
static bool errs(const diff_job *j, int side)
{
    return j->again[side].done && j->again[side].error > j->result.first.allowed.own;
}

static void print_again(const diff_job *j, FILE *out)
{
    if (!j->sides[0].tensors && !j->sides[1].tensors)
        return;
    fprintf(out, "Computed again in double precision, each from its own operands (%.3g may be rounding):\n",
            j->result.first.allowed.own);
    for (int i = 0; i < 2; i++) {
        const arbitration *a = &j->again[i];
        fprintf(out, "  %s ", names[i]);
        if (!a->done) {
            fprintf(out, "cannot be: %s\n", a->why);
            continue;
        }
        fprintf(out, "errs by %.3g", a->error);
        if (a->element >= 0)
            fprintf(out, ", most at element %lld: %.9g for %.9g", (long long)a->element, a->value, a->expected);
        fprintf(out, "%s%s%s\n", terminal_style(out, errs(j, i) ? STYLE_BAD : STYLE_GOOD),
                errs(j, i) ? ": this one is wrong" : ": this one is right", terminal_style(out, STYLE_NONE));
    }
}

static void print_result(const diff_job *j, FILE *out)
{
    const comparison_result *r = &j->result;
    const difference *d = &r->first;
    print_sides(j, out);
    if (d->kind == DIFFERENCE_NONE) {
        fprintf(out, "%sThey agree:%s %zu results within their bounds", terminal_style(out, STYLE_GOOD),
                terminal_style(out, STYLE_NONE), r->judged);
        if (r->nearest.ratio > 0) {
            fprintf(out, "; the nearest to it, at %.2g of it: ", r->nearest.ratio);
            print_place(&j->sides[0].events[r->nearest.event], &r->nearest, out);
        }
        fputc('\n', out);
    } else {
        const recording *longer = &j->sides[d->event >= j->sides[0].count];
        fprintf(out, "%sThey part at%s ", terminal_style(out, STYLE_BAD), terminal_style(out, STYLE_NONE));
        if (d->event < longer->count)
            print_place(&longer->events[d->event], d, out);
        fputc('\n', out);
        if (d->kind == DIFFERENCE_EVENTS)
            fprintf(out, "%s\n", d->what);
        else
            print_values(j, d, out);
        if (d->kind == DIFFERENCE_VALUES)
            print_again(j, out);
    }
    if (r->unjudged > 0)
        fprintf(out, "%zu results were not judged: too little is known of what they were made of.\n", r->unjudged);
}

/* ---- for programs ----------------------------------------------------------------------------------------------------- */

static void put_digest(json *j, const char *key, const digest *t)
{
    json_key(j, key);
    json_begin_object(j);
    json_put_double(j, "mean", t->mean);
    json_put_double(j, "rms", t->rms);
    json_put_double(j, "min", t->min);
    json_put_double(j, "max", t->max);
    json_put_int(j, "nan", t->nans);
    json_put_int(j, "inf", t->infinities);
    json_end_object(j);
}

static void put_difference(json *j, const diff_job *job, const difference *d)
{
    static const char *const kinds[] = {[DIFFERENCE_NONE] = "none",
                                        [DIFFERENCE_EVENTS] = "events",
                                        [DIFFERENCE_START] = "start",
                                        [DIFFERENCE_VALUES] = "values"};
    const recording *longer = &job->sides[d->event >= job->sides[0].count];
    if (d->kind == DIFFERENCE_NONE || d->event >= longer->count) {
        json_null(j);
        return;
    }
    const trace_event *e = &longer->events[d->event], *other = &job->sides[1].events[d->event];
    const bool start = d->kind == DIFFERENCE_START;
    json_begin_object(j);
    json_put_string(j, "kind", kinds[d->kind]);
    json_put_int(j, "step", e->step);
    json_put_int(j, "event", e->number);
    json_put_string(j, "phase", tsr_trace_phase_name(e->phase));
    json_put_string(j, "op", e->op);
    json_put_string(j, "what", d->kind == DIFFERENCE_EVENTS ? d->what : NULL);
    if (d->kind == DIFFERENCE_VALUES || start) {
        json_put_int(j, "tensor", d->tensor);
        json_put_string(j, "name", (start ? e->in : e->out)[d->tensor].name);
        json_put_double(j, "distance", d->distance);
        put_digest(j, "a", start ? &e->in[d->tensor] : &e->out[d->tensor]);
        put_digest(j, "b", start ? &other->in[d->tensor] : &other->out[d->tensor]);
    }
    if (d->kind == DIFFERENCE_VALUES) {
        json_put_double(j, "own", d->allowed.own);
        json_put_double(j, "passed", d->allowed.passed);
        json_put_double(j, "ratio", d->ratio);
        json_put_bool(j, "known", d->allowed.known);
        json_put_int(j, "element", d->element);
        json_put_double(j, "value_a", d->element >= 0 ? d->value_a : (double)NAN);
        json_put_double(j, "value_b", d->element >= 0 ? d->value_b : (double)NAN);
    }
    json_end_object(j);
}

static void put_again(json *j, const diff_job *job, int side)
{
    const arbitration *a = &job->again[side];
    if (!a->done) {
        json_null(j);
        return;
    }
    json_begin_object(j);
    json_put_double(j, "error", a->error);
    json_put_bool(j, "wrong", errs(job, side));
    json_put_int(j, "element", a->element);
    json_put_double(j, "value", a->element >= 0 ? a->value : (double)NAN);
    json_put_double(j, "expected", a->element >= 0 ? a->expected : (double)NAN);
    json_end_object(j);
}

static bool write_json(const diff_job *job)
{
    json j = {0};
    if (job->settings->json == NULL)
        return true;
    json_begin_object(&j);
    json_put_string(&j, "version", tsr_version());
    json_key(&j, "recordings");
    json_begin_array(&j);
    for (int i = 0; i < 2; i++) {
        const recording *r = &job->sides[i];
        json_begin_object(&j);
        json_put_string(&j, "file", job->settings->files[i]);
        json_put_string(&j, "device", r->device);
        json_put_string(&j, "device_name", r->device_name);
        json_put_string(&j, "driver", r->driver);
        json_put_string(&j, "training", r->training);
        json_put_uint(&j, "events", r->count);
        json_end_object(&j);
    }
    json_end_array(&j);
    json_put_bool(&j, "agree", job->result.first.kind == DIFFERENCE_NONE);
    json_put_uint(&j, "judged", job->result.judged);
    json_put_uint(&j, "unjudged", job->result.unjudged);
    json_key(&j, "first");
    put_difference(&j, job, &job->result.first);
    json_key(&j, "nearest");
    put_difference(&j, job, &job->result.nearest);
    json_key(&j, "recomputed");
    json_begin_array(&j);
    for (int i = 0; i < 2; i++)
        put_again(&j, job, i);
    json_end_array(&j);
    json_end_object(&j);
    const bool ok = report_write(&j, job->settings->json);
    json_free(&j);
    return ok;
}

/* ---- the command ------------------------------------------------------------------------------------------------------ */

static int run_job(diff_job *j)
{
    for (int i = 0; i < 2; i++) {
        if (recording_read(&j->sides[i], j->settings->files[i]) != TSR_OK)
            return complain("%s", tsr_last_error());
        if (j->sides[i].count == 0)
            return complain("%s holds no step: the training ended before the first of --trace-steps",
                            j->settings->files[i]);
    }
    j->result = recordings_compare(&j->sides[0], &j->sides[1]);
    const difference *d = &j->result.first;
    for (int i = 0; i < 2 && d->kind == DIFFERENCE_VALUES; i++)
        arbiter_recompute(&j->sides[i], j->settings->files[i], d->event, d->tensor, &j->again[i]);
    const bool machine = j->settings->json != NULL && strcmp(j->settings->json, "-") == 0;
    print_result(j, machine ? stderr : stdout);
    if (!write_json(j))
        return EXIT_USAGE;
    return j->result.first.kind == DIFFERENCE_NONE ? EXIT_DONE : EXIT_DIFFERS;
}

static int run(const void *settings, const char *subject)
{
    diff_job j = {.settings = settings};
    (void)subject;
    if (!report_writable("json", j.settings->json))
        return EXIT_USAGE;
    const int status = run_job(&j);
    for (int i = 0; i < 2; i++)
        recording_free(&j.sides[i]);
    return status;
}

const command command_diff = {
    .name = "diff",
    .summary = "names the first operator at which two recorded trainings part",
    .synopsis = "A B [options]",
    .about =
        "A and B are files of tessera train --trace, from any two devices and machines. Each result, forward and\n"
        "backward, may be as far apart as its operator's rounding allows, and what comes of its operands' distance.\n"
        "Exit status 0: they agree; 1: they part.",
    .options = options,
    .option_count = COUNT_OF(options),
    .settings_size = sizeof(diff_settings),
    .file_count = 2,
    .files = offsetof(diff_settings, files),
    .run = run,
};
