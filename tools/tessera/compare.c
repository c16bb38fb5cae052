/* tessera compare: every operator on each device against double precision, element by element. */
#include "compare.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "command.h"
#include "interrupt.h"
#include "operators/number.h"
#include "progress.h"
#include "report.h"
#include "selection.h"

#define FIELD(name) offsetof(compare_settings, name)
static const option options[] = {
    {"devices", "LIST", OPTION_TEXT, FIELD(devices),
     "one, several with commas, or all, the default; with several, the gap\nbetween each and the first is told too", 0,
     0, NULL},
    {"ops", "REGEX", OPTION_TEXT, FIELD(ops), "only operators whose name has a match (POSIX extended): '^(add|mul)$'",
     0, 0, NULL},
    {"dtype", "LIST", OPTION_TEXT, FIELD(dtypes), "only these, with commas: f32,f16,bf16,f64,i32,i64,u8,bool", 0, 0,
     NULL},
    {"sample", "N", OPTION_INT, FIELD(sample), "only this sample of each operator", 0, SAMPLES_MAX - 1, NULL},
    {"seed", "N", OPTION_SEED, FIELD(seed), "of the samples' numbers; 0 if not given", 0, 0, NULL},
    {"json", "FILE", OPTION_TEXT, FIELD(json), "results as JSON (docs/json.md); - for standard output", 0, 0, NULL},
    {"junit", "FILE", OPTION_TEXT, FIELD(junit), "results as JUnit's XML", 0, 0, NULL},
    {"html", "FILE", OPTION_TEXT, FIELD(html), "results as a page for a browser, in one file", 0, 0, NULL},
};

static void set_defaults(void *settings)
{
    compare_settings *s = settings;
    s->devices = "all";
    s->sample = -1;
}

/* ---- what is asked for -------------------------------------------------------------------------------------------- */

/* visit(context, row, dtype, sample, number) for each sample that is asked for, until it returns false. */
typedef bool visit_sample(void *context, const operator_row *row, tsr_dtype dtype, const op_sample *sample,
                          size_t number);

static bool visit_all(const compare_settings *settings, const selection *s, visit_sample *visit, void *context)
{
    static sample_list list;
    for (size_t i = 0; i < operator_count(); i++) {
        const operator_row *row = operator_at(i);
        for (tsr_dtype d = 0; d < TSR_DTYPE_COUNT; d++) {
            if (!selection_has(s, row) || (row->dtypes & s->dtypes & 1u << d) == 0)
                continue;
            samples_of(row, d, &list);
            for (size_t k = 0; k < list.count; k++)
                if ((settings->sample < 0 || settings->sample == (int64_t)k) &&
                    !visit(context, row, d, &list.samples[k], k))
                    return false;
        }
    }
    return true;
}

/* ---- the run ------------------------------------------------------------------------------------------------------ */

typedef struct compare_run {
    comparison *c;
    trace *t;
    progress bar;
    int64_t planned, done; /* samples */
    double begun;
    const operator_row *last;
} compare_run;

static bool count_sample(void *context, const operator_row *row, tsr_dtype dtype, const op_sample *sample,
                         size_t number)
{
    compare_run *r = context;
    (void)dtype;
    (void)sample;
    (void)number;
    r->planned++;
    r->c->operators += row != r->last;
    r->last = row;
    return true;
}

static check_record *add_record(comparison *c)
{
    check_record *records = host_grown(c->records, c->count, &c->capacity, sizeof *records);
    if (records == NULL)
        return NULL;
    c->records = records;
    return &c->records[c->count++];
}

/* A device that broke gives no more results; the others go on. */
static bool check_on_devices(comparison *c, const expectation *e, bool backward)
{
    device_values first = {{NULL}};
    bool ok = true;
    for (size_t d = 0; d < c->devices.count && ok; d++) {
        if (c->devices.device[d] == NULL || c->devices.status[d] != TSR_OK)
            continue;
        check_record *record = add_record(c);
        ok = record != NULL;
        if (!ok)
            break;
        *record = (check_record){e->row, e->sample->name, e->number, e->dtype, backward, d, {0}};
        (backward ? check_backward : check_forward)(e, c->devices.device[d], &first, &record->result);
        if (record->result.status == CHECK_BROKEN) {
            c->devices.status[d] = tsr_last_status();
            snprintf(c->devices.error[d], sizeof c->devices.error[d], "%s", record->result.why);
        }
    }
    device_values_free(&first);
    return ok;
}

static bool run_sample(void *context, const operator_row *row, tsr_dtype dtype, const op_sample *sample, size_t number)
{
    compare_run *r = context;
    expectation e = {0};
    tsr_clear_error();
    bool ok = !interrupted() && expectation_make(&e, r->t, row, sample, number, dtype, r->c->settings->seed) &&
              check_on_devices(r->c, &e, false) && (!e.backward || check_on_devices(r->c, &e, true));
    expectation_free(&e);
    r->done++;
    if (progress_due(&r->bar)) {
        const double spent = clock_seconds() - r->begun;
        char phase[64];
        snprintf(phase, sizeof phase, "%s, sample ", row->name);
        r->bar.phase = phase;
        progress_show(&r->bar, r->done, r->planned, -1, (double)r->c->count / spent,
                      spent / (double)r->done * (double)(r->planned - r->done));
        r->bar.phase = "";
    }
    return ok;
}

static int run_all(comparison *c, const selection *s)
{
    compare_run r = {.c = c, .t = trace_create()};
    visit_all(c->settings, s, count_sample, &r);
    if (r.planned == 0) {
        trace_destroy(r.t);
        return complain("no operator, dtype and sample is left: --ops %s, --dtype %s",
                        c->settings->ops != NULL ? c->settings->ops : "(all)",
                        c->settings->dtypes != NULL ? c->settings->dtypes : "(all)");
    }
    interrupt_watch();
    progress_begin(&r.bar, "compare", "checks/s");
    r.begun = clock_seconds();
    const bool ok = r.t != NULL && visit_all(c->settings, s, run_sample, &r);
    c->seconds = clock_seconds() - r.begun;
    progress_end(&r.bar);
    trace_destroy(r.t);
    if (!ok && !interrupted())
        return complain("%s", tsr_last_error()), EXIT_DEVICE_FAILED;
    return EXIT_DONE;
}

/* ---- the results -------------------------------------------------------------------------------------------------- */

check_counts compare_counts(const comparison *c)
{
    check_counts n = {0};
    for (size_t i = 0; i < c->count; i++) {
        const check_status s = c->records[i].result.status;
        n.ok += s == CHECK_OK;
        n.fail += s == CHECK_FAIL;
        n.unsupported += s == CHECK_UNSUPPORTED;
        n.broken += s == CHECK_BROKEN;
    }
    return n;
}

const char *check_status_name(check_status s)
{
    return s == CHECK_OK ? "ok" : s == CHECK_UNSUPPORTED ? "unsupported" : "fail";
}

const char *compare_replay(const comparison *c, const check_record *r)
{
    static char line[512];
    snprintf(line, sizeof line, "tessera compare --devices %s --ops '^%s$' --dtype %s --sample %zu --seed %llu",
             c->devices.info[r->device].id, r->row->name, tsr_dtype_name(r->dtype), r->number,
             (unsigned long long)c->settings->seed);
    return line;
}

const char *compare_missing(size_t i)
{
    for (size_t k = 0; k < tsr_op_count(); k++) {
        static tsr_op_info info;
        if (tsr_op_describe(k, &info) == TSR_OK && operator_find(info.name) == NULL && i-- == 0)
            return info.name;
    }
    return NULL;
}

static bool write_results(const comparison *c)
{
    const compare_settings *s = c->settings;
    bool ok = true;
    if (s->json != NULL) {
        json j = {0};
        compare_json(c, &j);
        ok = report_write(&j, s->json);
        json_free(&j);
    }
    for (int html = 0; html < 2; html++) {
        const char *path = html ? s->html : s->junit;
        text t = {0};
        if (path == NULL)
            continue;
        (html ? compare_html : compare_junit)(c, &t);
        ok = report_write_text(&t, path) && ok;
        text_free(&t);
    }
    return ok;
}

static int finish(const comparison *c, FILE *out)
{
    bool failed = false;
    const check_counts n = compare_counts(c);
    for (size_t d = 0; d < c->devices.count; d++)
        failed = failed || c->devices.status[d] != TSR_OK;
    compare_table(c, out);
    fflush(out);
    return !write_results(c) ? EXIT_USAGE
           : interrupted()   ? EXIT_INTERRUPTED
           : failed          ? EXIT_DEVICE_FAILED
           : n.fail > 0      ? EXIT_DIFFERS
                             : EXIT_DONE;
}

static int run_selected(comparison *c, const selection *s, FILE *out)
{
    const int opened = device_list_open(&c->devices, "devices", c->settings->devices);
    if (opened != EXIT_DONE)
        return opened;
    const int status = run_all(c, s);
    return status == EXIT_DONE ? finish(c, out) : status;
}

static bool to_stdout(const char *path)
{
    return path != NULL && strcmp(path, "-") == 0;
}

static int run(const void *settings, const char *subject)
{
    const compare_settings *s = settings;
    selection selected = {.has_regex = false};
    (void)subject;
    if (to_stdout(s->json) + to_stdout(s->junit) + to_stdout(s->html) > 1)
        return complain("only one of --json, --junit and --html can go to standard output");
    if (!report_writable("json", s->json) || !report_writable("junit", s->junit) || !report_writable("html", s->html) ||
        !selection_take(&selected, s->ops, s->dtypes)) {
        selection_free(&selected);
        return EXIT_USAGE;
    }
    comparison *c = host_alloc_zeroed(1, sizeof *c);
    int status = EXIT_USAGE;
    if (c == NULL) {
        complain("%s", tsr_last_error());
    } else {
        c->settings = s;
        const bool machine = to_stdout(s->json) || to_stdout(s->junit) || to_stdout(s->html);
        status = run_selected(c, &selected, machine ? stderr : stdout);
        device_list_close(&c->devices);
        host_free(c->records);
    }
    host_free(c);
    selection_free(&selected);
    return status;
}

const command command_compare = {
    .name = "compare",
    .summary = "checks every operator on each device against double precision",
    .synopsis = "[options]",
    .about =
        "Runs every operator in every dtype on samples (strided, broadcast, empty, odd, large, extreme), forward and\n"
        "backward, and holds each number of the result against a bound that follows from the arithmetic.\n"
        "Each failure comes with the line that repeats it.",
    .options = options,
    .option_count = COUNT_OF(options),
    .settings_size = sizeof(compare_settings),
    .defaults = set_defaults,
    .run = run,
};
