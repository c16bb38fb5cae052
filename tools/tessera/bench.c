/* tessera bench: how fast operators and products are on each device, against what the device can do. */
#include "bench.h"

#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "command.h"
#include "interrupt.h"
#include "progress.h"
#include "report.h"
#include "selection.h"
#include "table.h"

static const char *const subjects[] = {"ops", "gemm", NULL};

#define FIELD(name) offsetof(bench_settings, name)
static const option options[] = {
    {"device", "LIST", OPTION_TEXT, FIELD(devices),
     "one, several with commas, or all; TESSERA_DEVICE or cpu if not given", 0, 0, NULL},
    {"ops", "REGEX", OPTION_TEXT, FIELD(ops), "only operators whose name has a match (POSIX extended): '^(add|mul)$'",
     0, 0, NULL},
    {"dtype", "LIST", OPTION_TEXT, FIELD(dtypes), "with commas: f32,f16,bf16,f64,i32,i64; f32 if not given", 0, 0,
     NULL},
    {"size", "N", OPTION_INT, FIELD(size),
     "elements of pointwise operands; other loads grow likewise, and products\nwith larger operands are left out; "
     "16777216 if not given",
     1024, 1 << 28, NULL},
    {"seconds", "X", OPTION_REAL, FIELD(seconds), "that one measurement may take, after its warm-up; 0.5 if not given",
     0, 3600, NULL},
    {"json", "FILE", OPTION_TEXT, FIELD(json), "results as JSON (docs/json.md); - for standard output", 0, 0, NULL},
};

static void set_defaults(void *settings)
{
    bench_settings *s = settings;
    s->dtypes = "f32";
    s->size = LOAD_SIZE;
    s->seconds = 0.5;
}

typedef struct bench_run {
    bench_results *b;
    const selection *selected;
    bool products; /* bench gemm */
    FILE *out;
    int64_t planned, done; /* operators, of one device */
    double began;
    progress bar;
} bench_run;

/* ---- the run -------------------------------------------------------------------------------------------------------- */

static bench_record *add_record(bench_results *b)
{
    bench_record *records = host_grown(b->records, b->count, &b->capacity, sizeof *records);
    if (records == NULL)
        return NULL;
    b->records = records;
    return &b->records[b->count++];
}

static bool keep(bench_results *b, size_t device, const bench_record *r)
{
    bench_record *kept = add_record(b);
    if (kept == NULL)
        return false;
    *kept = *r;
    kept->device = device;
    return true;
}

static bool measure_load(bench_run *r, size_t device, const load *l, tsr_dtype dtype, const int64_t mnk[3])
{
    bench_record forward, backward;
    bool has_backward;
    const bool ok =
        bench_measure(r->b->devices.device[device], r->b->settings, l, dtype, &forward, &backward, &has_backward);
    forward.m = backward.m = mnk[0];
    forward.n = backward.n = mnk[1];
    forward.k = backward.k = mnk[2];
    bool kept = keep(r->b, device, &forward);
    if (has_backward)
        kept = keep(r->b, device, &backward) && kept;
    r->done++;
    if (progress_due(&r->bar)) {
        const double spent = clock_seconds() - r->began;
        char phase[64];
        snprintf(phase, sizeof phase, "%s, ", l->row->name);
        r->bar.phase = phase;
        progress_show(&r->bar, r->done, r->planned, -1, -1, spent / (double)r->done * (double)(r->planned - r->done));
        r->bar.phase = "";
    }
    return ok && kept;
}

/* The i-th of what is to be measured; false behind the last. */
static bool load_at(const bench_run *r, size_t i, load *l, int64_t mnk[3])
{
    if (r->products)
        return bench_product(i, l, mnk);
    if (i >= operator_count())
        return false;
    load_of(operator_at(i), r->b->settings->size, l);
    memset(mnk, 0, 3 * sizeof *mnk);
    return true;
}

/* Each in each dtype that is asked for, until one fails; or only how many they are. */
static bool each_load(bench_run *r, size_t device, bool count_only)
{
    load l;
    int64_t mnk[3];
    for (size_t i = 0; load_at(r, i, &l, mnk); i++) {
        if (r->products && (load_count(&l, 0) > r->b->settings->size || load_count(&l, 1) > r->b->settings->size))
            continue;
        for (tsr_dtype d = 0; d < TSR_DTYPE_COUNT; d++) {
            if (!selection_has(r->selected, l.row) || (l.row->dtypes & r->selected->dtypes & MASK(d)) == 0)
                continue;
            if (count_only)
                r->planned++;
            else if (interrupted() || !measure_load(r, device, &l, d, mnk))
                return false;
        }
    }
    return true;
}

static void fail_device(bench_results *b, size_t device)
{
    b->devices.status[device] = tsr_last_status() != TSR_OK ? tsr_last_status() : TSR_DRIVER_ERROR;
    snprintf(b->devices.error[device], sizeof b->devices.error[device], "%s", tsr_last_error());
}

/* The limits are measured before and after, so that a machine that was busy at one time counts less. */
static void run_device(bench_run *r, size_t device)
{
    bench_results *b = r->b;
    if (b->devices.device[device] != NULL) {
        r->done = 0;
        r->began = clock_seconds();
        progress_begin(&r->bar, b->devices.info[device].id, "measurements/s");
        tsr_clear_error();
        bool ok = bench_measure_limits(b->devices.device[device], b->settings, &b->limits[device]) == TSR_OK &&
                  (each_load(r, device, false) || interrupted());
        ok = ok && (interrupted() ||
                    bench_measure_limits(b->devices.device[device], b->settings, &b->limits[device]) == TSR_OK);
        progress_end(&r->bar);
        if (!ok)
            fail_device(b, device);
    }
    for (size_t i = 0; i < b->count; i++)
        if (b->records[i].device == device)
            bench_rate(&b->records[i], &b->limits[device]);
    bench_table(b, device, r->out);
    if (b->devices.status[device] != TSR_OK)
        fprintf(r->out, "%s failed: %s\n", b->devices.info[device].id, b->devices.error[device]);
    fflush(r->out);
    tsr_device_close(b->devices.device[device]); /* its threads and memory would slow the next one */
    b->devices.device[device] = NULL;
}

static int run_all(bench_run *r)
{
    bench_results *b = r->b;
    bool failed = false, written = true;
    each_load(r, 0, true);
    if (r->planned == 0)
        return complain("no operator and dtype is left: --ops %s, --dtype %s",
                        b->settings->ops != NULL ? b->settings->ops : "(all)", b->settings->dtypes);
    const int opened = device_list_open(&b->devices, "device", b->settings->devices);
    if (opened != EXIT_DONE)
        return opened;
    interrupt_watch();
    for (size_t i = 0; i < b->devices.count && !interrupted(); i++) {
        run_device(r, i);
        failed = failed || b->devices.status[i] != TSR_OK;
    }
    print_wrapped(r->out, 0, 0,
                  "A prime ' marks the derivative, or a transposed operand. OF COPY and OF PRODUCT: parts of this "
                  "device's plain copy and large "
                  "product. OF ROOF: the time "
                  "that the slower of the two would take, over what it took; caches can make it more than 100 %. "
                  "(small): the operator "
                  "has no load of its own here.");
    if (b->settings->json != NULL) {
        json j = {0};
        bench_json(b, &j);
        written = report_write(&j, b->settings->json);
        json_free(&j);
    }
    return !written ? EXIT_USAGE : interrupted() ? EXIT_INTERRUPTED : failed ? EXIT_DEVICE_FAILED : EXIT_DONE;
}

static int run(const void *settings, const char *subject)
{
    const bench_settings *s = settings;
    selection selected = {.has_regex = false};
    if (!report_writable("json", s->json) || !selection_take(&selected, s->ops, s->dtypes)) {
        selection_free(&selected);
        return EXIT_USAGE;
    }
    bench_results *b = host_alloc_zeroed(1, sizeof *b);
    int status = EXIT_USAGE;
    if (b == NULL) {
        complain("%s", tsr_last_error());
    } else {
        b->settings = s;
        bench_run r = {.b = b, .selected = &selected, .products = strcmp(subject, "gemm") == 0};
        r.out = s->json != NULL && strcmp(s->json, "-") == 0 ? stderr : stdout;
        status = run_all(&r);
        device_list_close(&b->devices);
        host_free(b->records);
    }
    host_free(b);
    selection_free(&selected);
    return status;
}

const command command_bench = {
    .name = "bench",
    .summary = "measures operators and products against what the device can do",
    .synopsis = "ops|gemm [options]",
    .about =
        "Time, bytes and flops a second of every operator, forward and backward, on large operands; beside them what\n"
        "part that is of the bandwidth of a plain copy and of the rate of a large product, measured in the same run.\n"
        "gemm: products of several sizes in place of operators.",
    .options = options,
    .option_count = COUNT_OF(options),
    .subjects = subjects,
    .settings_size = sizeof(bench_settings),
    .defaults = set_defaults,
    .run = run,
};
