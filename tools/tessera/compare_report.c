/* What `tessera compare` found: a table by family for people, JSON and JUnit for programs. */
#include <math.h>
#include <string.h>

#include "compare.h"
#include "operators/number.h"
#include "table.h"
#include "tessera/version.h"

enum { FAILURES_SHOWN = 20, REASONS_MAX = 16 };

static const char *pass_name(const check_record *r)
{
    return r->backward ? "backward" : "forward";
}

/* ---- for people --------------------------------------------------------------------------------------------------- */

typedef struct family_sum {
    size_t operators, checks, failed, unsupported;
    const check_record *worst;
    double gap_ulp;
    const operator_row *last;
} family_sum;

/* Results of 16 bits reach their bound with any operator, since a rounding may be off by half a unit: they count here only where they
 * fail. */
static bool worse(const check_record *a, const check_record *b)
{
    const bool narrow = a->dtype == TSR_F16 || a->dtype == TSR_BF16;
    return (!narrow || a->result.ratio > 1) && (b == NULL || a->result.ratio > b->result.ratio);
}

static family_sum sum_family(const comparison *c, const char *family, size_t device)
{
    family_sum s = {.gap_ulp = (double)NAN};
    for (size_t i = 0; i < c->count; i++) {
        const check_record *r = &c->records[i];
        if (r->device != device || strcmp(r->row->family, family) != 0)
            continue;
        s.operators += r->row != s.last;
        s.last = r->row;
        s.checks++;
        s.failed += r->result.status == CHECK_FAIL || r->result.status == CHECK_BROKEN;
        s.unsupported += r->result.status == CHECK_UNSUPPORTED;
        if (r->result.held > 0 && worse(r, s.worst))
            s.worst = r;
        if (r->result.held > 0 && !isnan(r->result.gap_ulp))
            s.gap_ulp = isnan(s.gap_ulp) ? r->result.gap_ulp : fmax(s.gap_ulp, r->result.gap_ulp);
    }
    return s;
}

static void family_row(table *t, const comparison *c, const char *family, size_t device)
{
    const family_sum s = sum_family(c, family, device);
    if (s.checks == 0)
        return;
    table_row(t, s.failed > 0 ? STYLE_BAD : STYLE_NONE);
    table_cell(t, "%s", device == 0 ? family : "");
    table_cell(t, "%s", c->devices.info[device].id);
    table_cell(t, "%zu", s.operators);
    table_cell(t, "%zu", s.checks);
    table_cell(t, "%zu", s.failed);
    table_cell(t, "%zu", s.unsupported);
    if (s.worst == NULL)
        table_cell(t, "-");
    else if (isinf(s.worst->result.ratio))
        table_cell(t, "inexact");
    else
        table_cell(t, "%.3f", s.worst->result.ratio);
    if (s.worst == NULL || s.worst->result.ratio == 0)
        table_cell(t, "%s", s.worst == NULL ? "" : "all exact");
    else
        table_cell(t, "%s %s, %s, %s", s.worst->row->name, tsr_dtype_name(s.worst->dtype), s.worst->sample,
                   pass_name(s.worst));
    if (c->devices.count > 1 && !isnan(s.gap_ulp))
        table_cell(t, "%.3g", s.gap_ulp);
}

static void print_failures(const comparison *c, FILE *out)
{
    size_t shown = 0;
    for (size_t i = 0; i < c->count; i++) {
        const check_record *r = &c->records[i];
        if (r->result.status != CHECK_FAIL && r->result.status != CHECK_BROKEN)
            continue;
        if (++shown > FAILURES_SHOWN)
            continue;
        fprintf(out, "%s%s %s, %s, %s, %s%s: %s\n    replay: %s\n", terminal_style(out, STYLE_BAD), r->row->name,
                tsr_dtype_name(r->dtype), r->sample, c->devices.info[r->device].id, pass_name(r),
                terminal_style(out, STYLE_NONE), r->result.why, compare_replay(c, r));
    }
    if (shown > FAILURES_SHOWN)
        fprintf(out, "… and %zu more failures (--json has all)\n", shown - FAILURES_SHOWN);
}

/* Each reason once, with how many checks it concerns. */
static void print_unsupported(const comparison *c, FILE *out)
{
    const check_record *reason[REASONS_MAX];
    size_t times[REASONS_MAX] = {0}, count = 0;
    for (size_t i = 0; i < c->count; i++) {
        const check_record *r = &c->records[i];
        size_t k = 0;
        if (r->result.status != CHECK_UNSUPPORTED)
            continue;
        while (k < count && (reason[k]->device != r->device || strcmp(reason[k]->result.why, r->result.why) != 0))
            k++;
        if (k == REASONS_MAX)
            continue;
        if (k == count)
            reason[count++] = r;
        times[k]++;
    }
    for (size_t k = 0; k < count; k++)
        fprintf(out, "%s: %zu checks unsupported: %s\n", c->devices.info[reason[k]->device].id, times[k],
                reason[k]->result.why);
}

static void print_missing(FILE *out)
{
    const char *name = compare_missing(0);
    if (name == NULL)
        return;
    text line = {0};
    text_append(&line, "Without a row, so not compared:");
    for (size_t i = 0; (name = compare_missing(i)) != NULL; i++)
        text_appendf(&line, " %s", name);
    print_wrapped(out, 0, 0, text_string(&line));
    text_free(&line);
}

void compare_table(const comparison *c, FILE *out)
{
    table t = {0};
    table_column(&t, "FAMILY", ALIGN_LEFT, false);
    table_column(&t, "DEVICE", ALIGN_LEFT, false);
    table_column(&t, "OPERATORS", ALIGN_RIGHT, false);
    table_column(&t, "CHECKS", ALIGN_RIGHT, false);
    table_column(&t, "FAILED", ALIGN_RIGHT, false);
    table_column(&t, "UNSUPPORTED", ALIGN_RIGHT, false);
    table_column(&t, "ERROR/BOUND", ALIGN_RIGHT, false);
    table_column(&t, "AT THE WORST", ALIGN_LEFT, true);
    if (c->devices.count > 1)
        table_column(&t, "GAP, ULP", ALIGN_RIGHT, false);
    const char *family = NULL;
    for (size_t i = 0; i < operator_count(); i++) {
        if (family != NULL && strcmp(family, operator_at(i)->family) == 0)
            continue;
        family = operator_at(i)->family;
        for (size_t d = 0; d < c->devices.count; d++)
            family_row(&t, c, family, d);
    }
    table_print(&t, out);
    table_free(&t);
    const check_counts n = compare_counts(c);
    print_failures(c, out);
    print_unsupported(c, out);
    print_missing(out);
    for (size_t d = 0; d < c->devices.count; d++)
        if (c->devices.status[d] != TSR_OK)
            fprintf(out, "%s failed: %s\n", c->devices.info[d].id, c->devices.error[d]);
    fprintf(out, "%s%zu checks of %zu operators in %s: %zu ok, %zu failed, %zu unsupported%s\n",
            terminal_style(out, STYLE_BOLD), c->count, c->operators, duration_text(c->seconds), n.ok, n.fail + n.broken,
            n.unsupported, terminal_style(out, STYLE_NONE));
}

/* ---- for programs ------------------------------------------------------------------------------------------------- */

static void put_device(const comparison *c, size_t d, json *j)
{
    const tsr_device_info *info = &c->devices.info[d];
    json_begin_object(j);
    json_put_string(j, "id", info->id);
    json_put_string(j, "backend", info->backend);
    json_put_string(j, "name", info->name);
    json_put_string(j, "driver", info->driver);
    json_put_bool(j, "software", info->software);
    json_put_string(j, "error", c->devices.status[d] != TSR_OK ? c->devices.error[d] : NULL);
    json_end_object(j);
}

static void put_record(const comparison *c, const check_record *r, json *j)
{
    const check_result *x = &r->result;
    json_begin_object(j);
    json_put_string(j, "op", r->row->name);
    json_put_string(j, "dtype", tsr_dtype_name(r->dtype));
    json_put_string(j, "sample", r->sample);
    json_put_uint(j, "number", r->number);
    json_put_string(j, "pass", pass_name(r));
    json_put_string(j, "device", c->devices.info[r->device].id);
    json_put_double(j, "max_ulp", x->max_ulp);
    json_put_double(j, "max_error", x->error);
    json_put_double(j, "bound", x->bound);
    json_put_double(j, "ratio", x->ratio);
    json_put_uint(j, "held", (uint64_t)x->held);
    json_put_double(j, "gap", x->held > 0 ? x->gap : (double)NAN);
    json_put_double(j, "gap_ulp", x->held > 0 ? x->gap_ulp : (double)NAN);
    json_put_string(j, "status", check_status_name(x->status));
    json_put_string(j, "reason", x->status == CHECK_OK ? NULL : x->why);
    json_end_object(j);
}

void compare_json(const comparison *c, json *j)
{
    const check_counts n = compare_counts(c);
    const char *name;
    json_begin_object(j);
    json_put_string(j, "version", tsr_version());
    json_put_uint(j, "seed", c->settings->seed);
    json_key(j, "devices");
    json_begin_array(j);
    for (size_t d = 0; d < c->devices.count; d++)
        put_device(c, d, j);
    json_end_array(j);
    json_key(j, "results");
    json_begin_array(j);
    for (size_t i = 0; i < c->count; i++)
        put_record(c, &c->records[i], j);
    json_end_array(j);
    json_key(j, "summary");
    json_begin_object(j);
    json_put_uint(j, "operators", c->operators);
    json_put_uint(j, "checks", c->count);
    json_put_uint(j, "ok", n.ok);
    json_put_uint(j, "fail", n.fail + n.broken);
    json_put_uint(j, "unsupported", n.unsupported);
    json_put_double(j, "seconds", c->seconds);
    json_key(j, "without_row");
    json_begin_array(j);
    for (size_t i = 0; (name = compare_missing(i)) != NULL; i++)
        json_string(j, name);
    json_end_array(j);
    json_end_object(j);
    json_end_object(j);
}

static void put_xml(text *out, const char *s)
{
    for (; *s != '\0'; s++) {
        const char *entity = *s == '<'   ? "&lt;"
                             : *s == '>' ? "&gt;"
                             : *s == '&' ? "&amp;"
                             : *s == '"' ? "&quot;"
                                         : NULL;
        if (entity != NULL)
            text_append(out, entity);
        else
            text_append_char(out, (unsigned char)*s < 0x20 ? ' ' : *s);
    }
}

static void put_case(const comparison *c, const check_record *r, text *out)
{
    text_appendf(out, "    <testcase classname=\"%s.%s\" name=\"%s %s %s\"", c->devices.info[r->device].id,
                 r->row->name, tsr_dtype_name(r->dtype), r->sample, pass_name(r));
    if (r->result.status == CHECK_OK) {
        text_append(out, "/>\n");
        return;
    }
    const bool skipped = r->result.status == CHECK_UNSUPPORTED;
    text_appendf(out, ">\n      <%s message=\"", skipped ? "skipped" : "failure");
    put_xml(out, r->result.why);
    text_append(out, "\"");
    if (skipped) {
        text_append(out, "/>\n");
    } else {
        text_append(out, ">");
        put_xml(out, compare_replay(c, r));
        text_append(out, "</failure>\n");
    }
    text_append(out, "    </testcase>\n");
}

void compare_junit(const comparison *c, text *out)
{
    text_append(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"tessera compare\">\n");
    for (size_t d = 0; d < c->devices.count; d++) {
        size_t tests = 0, failures = 0, skipped = 0;
        for (size_t i = 0; i < c->count; i++) {
            const check_record *r = &c->records[i];
            tests += r->device == d;
            failures += r->device == d && (r->result.status == CHECK_FAIL || r->result.status == CHECK_BROKEN);
            skipped += r->device == d && r->result.status == CHECK_UNSUPPORTED;
        }
        text_appendf(out, "  <testsuite name=\"%s\" tests=\"%zu\" failures=\"%zu\" skipped=\"%zu\">\n",
                     c->devices.info[d].id, tests, failures, skipped);
        for (size_t i = 0; i < c->count; i++)
            if (c->records[i].device == d)
                put_case(c, &c->records[i], out);
        text_append(out, "  </testsuite>\n");
    }
    text_append(out, "</testsuites>\n");
}
