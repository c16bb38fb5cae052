/* The page of `tessera compare --html`: compare_page.html with the results in it, so that it needs nothing beside it. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "compare.h"
#include "compare_page.h"
#include "tessera/version.h"

static const char marker[] = "/*DATA*/null";

static void put_string(text *out, const char *s)
{
    text_append_char(out, '"');
    for (; *s != '\0'; s++) {
        const unsigned char c = (unsigned char)*s;
        if (c < 0x20 || c == '"' || c == '\\' || c == '<') /* "</script>" would end the script */
            text_appendf(out, "\\u%04x", c);
        else
            text_append_char(out, *s);
    }
    text_append_char(out, '"');
}

/* null for NaN and infinities. */
static void put_number(text *out, double v)
{
    if (isfinite(v))
        text_appendf(out, "%.4g", v);
    else
        text_append(out, "null");
}

static void put_field(text *out, const char *name, const char *value)
{
    text_appendf(out, ",\"%s\":", name);
    put_string(out, value);
}

static void put_device(const comparison *c, size_t d, text *out)
{
    const tsr_device_info *info = &c->devices.info[d];
    char dtypes[64] = "";
    size_t used = 0;
    for (int t = 0; t < TSR_DTYPE_COUNT; t++)
        if ((info->dtypes >> t & 1) != 0 && used < sizeof dtypes)
            used += (size_t)snprintf(dtypes + used, sizeof dtypes - used, "%s%s", used > 0 ? " " : "",
                                     tsr_dtype_name((tsr_dtype)t));
    text_appendf(out, "%s{\"software\":%s,\"memory\":%llu", d == 0 ? "" : ",", info->software ? "true" : "false",
                 (unsigned long long)info->memory_bytes);
    put_field(out, "id", info->id);
    put_field(out, "name", info->name);
    put_field(out, "driver", info->driver);
    put_field(out, "dtypes", dtypes);
    put_field(out, "notes", info->notes);
    put_field(out, "error", c->devices.status[d] != TSR_OK ? c->devices.error[d] : "");
    text_append_char(out, '}');
}

/* Names once, and where each is: checks name them by number. */
typedef struct names {
    const char **name;
    size_t count;
} names;

static size_t number_of(names *n, const char *name)
{
    for (size_t i = n->count; i-- > 0;)
        if (n->name[i] == name || strcmp(n->name[i], name) == 0)
            return i;
    n->name[n->count] = name;
    return n->count++;
}

static void put_check(const check_record *r, size_t op, size_t sample, text *out)
{
    static const int statuses[] = {0, 1, 2, 1};
    const check_result *x = &r->result;
    text_appendf(out, "[%zu,\"%s\",%zu,%zu,%d,%zu,%d,", op, tsr_dtype_name(r->dtype), sample, r->number,
                 (int)r->backward, r->device, statuses[x->status]);
    const double values[] = {x->max_ulp, x->error, x->bound, x->ratio, x->held > 0 ? x->gap_ulp : (double)NAN};
    for (size_t i = 0; i < COUNT_OF(values); i++) {
        put_number(out, values[i]);
        text_append_char(out, ',');
    }
    put_string(out, x->status == CHECK_OK ? "" : x->why);
    text_append_char(out, ']');
}

static void put_names(const names *n, text *out)
{
    for (size_t i = 0; i < n->count; i++) {
        text_append(out, i == 0 ? "" : ",");
        put_string(out, n->name[i]);
    }
}

static void put_data(const comparison *c, names *samples, text *out)
{
    const char *name;
    text_appendf(out, "{\"seed\":\"%llu\",\"seconds\":%.1f,\"operators\":%zu", (unsigned long long)c->settings->seed,
                 c->seconds, c->operators);
    put_field(out, "version", tsr_version());
    text_append(out, ",\n\"devices\":[");
    for (size_t d = 0; d < c->devices.count; d++)
        put_device(c, d, out);
    text_append(out, "],\n\"ops\":[");
    for (size_t i = 0; i < operator_count(); i++) {
        text_append(out, i == 0 ? "[" : ",[");
        put_string(out, operator_at(i)->name);
        text_append_char(out, ',');
        put_string(out, operator_at(i)->family);
        text_append_char(out, ']');
    }
    text_append(out, "],\n\"checks\":[");
    for (size_t i = 0, op = 0; i < c->count; i++) {
        while (operator_at(op) != c->records[i].row)
            op++;
        text_append(out, i == 0 ? "\n" : ",\n");
        put_check(&c->records[i], op, number_of(samples, c->records[i].sample), out);
    }
    text_append(out, "],\n\"samples\":[");
    put_names(samples, out);
    text_append(out, "],\n\"missing\":[");
    for (size_t i = 0; (name = compare_missing(i)) != NULL; i++) {
        text_append(out, i == 0 ? "" : ",");
        put_string(out, name);
    }
    text_append(out, "]}");
}

void compare_html(const comparison *c, text *out)
{
    const char *page = (const char *)compare_page, *at = strstr(page, marker);
    names samples = {.name = host_alloc_zeroed(c->count + 1, sizeof(char *))};
    if (samples.name == NULL || at == NULL) {
        out->failed = true;
        return;
    }
    text_append_bytes(out, page, (size_t)(at - page));
    put_data(c, &samples, out);
    text_append(out, at + sizeof marker - 1);
    host_free(samples.name);
}
