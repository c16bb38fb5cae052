/* What `tessera bench` measured: a table for people, JSON for programs. */
#include <math.h>
#include <string.h>

#include "bench.h"
#include "table.h"
#include "tessera/version.h"

static const char *time_text(double seconds)
{
    static char room[4][16];
    static int next;
    char *out = room[next = (next + 1) % 4];
    if (seconds < 1e-3)
        snprintf(out, sizeof room[0], "%.1f us", seconds * 1e6);
    else
        snprintf(out, sizeof room[0], seconds < 1 ? "%.2f ms" : "%.2f s", seconds < 1 ? seconds * 1e3 : seconds);
    return out;
}

static void add_record(table *t, const bench_record *r)
{
    table_row(t, r->status != TSR_OK ? STYLE_DIM : STYLE_NONE);
    table_cell(t, "%s%s", r->row->name, r->backward ? " '" : "");
    table_cell(t, "%s", tsr_dtype_name(r->dtype));
    table_cell(t, "%s%s", r->shapes, r->own ? "" : " (small)");
    if (r->status != TSR_OK) {
        table_cell(t, "-");
        table_note(t, "%s", r->error);
        return;
    }
    table_cell(t, "%s", time_text(r->seconds));
    if (r->cost.bytes == 0) /* a view: nothing is computed */
        return;
    table_cell(t, "%.2f", r->cost.bytes / r->seconds * 1e-9);
    table_cell(t, "%.0f%%", r->copy * 100);
    table_cell(t, "%.1f", r->cost.flops / r->seconds * 1e-9);
    table_cell(t, "%.0f%%", r->product * 100);
    table_cell(t, "%.0f%%", r->roofline * 100);
}

void bench_table(const bench_results *b, size_t device, FILE *out)
{
    static const char *const titles[] = {"OPERATOR", "DTYPE",   "OPERANDS",   "TIME",   "GB/S",
                                         "OF COPY",  "GFLOP/S", "OF PRODUCT", "OF ROOF"};
    const bench_limits *l = &b->limits[device];
    table t = {0};
    fprintf(out, "%s: %s: copy %.2f GB/s", b->devices.info[device].id, b->devices.info[device].name,
            l->copy_bytes * 1e-9);
    for (int d = 0; d < TSR_DTYPE_COUNT; d++)
        if (l->product_flops[d] > 0)
            fprintf(out, ", product of %s %.1f GFLOP/s", tsr_dtype_name((tsr_dtype)d), l->product_flops[d] * 1e-9);
    fputc('\n', out);
    for (size_t i = 0; i < sizeof titles / sizeof *titles; i++)
        table_column(&t, titles[i], i < 3 ? ALIGN_LEFT : ALIGN_RIGHT, i == 2);
    for (size_t i = 0; i < b->count; i++)
        if (b->records[i].device == device)
            add_record(&t, &b->records[i]);
    table_print(&t, out);
    table_free(&t);
}

static void put_device(json *j, const bench_results *b, size_t device)
{
    const tsr_device_info *info = &b->devices.info[device];
    const bool failed = b->devices.status[device] != TSR_OK;
    json_begin_object(j);
    json_put_string(j, "id", info->id);
    json_put_string(j, "name", info->name);
    json_put_string(j, "driver", info->driver);
    json_put_string(j, "error", failed ? b->devices.error[device] : NULL);
    json_put_double(j, "copy_gbytes_per_second", b->limits[device].copy_bytes * 1e-9);
    json_key(j, "product_gflops");
    json_begin_object(j);
    for (int d = 0; d < TSR_DTYPE_COUNT; d++)
        if (b->limits[device].product_flops[d] > 0)
            json_put_double(j, tsr_dtype_name((tsr_dtype)d), b->limits[device].product_flops[d] * 1e-9);
    json_end_object(j);
    json_end_object(j);
}

static void put_size(json *j, const char *key, int64_t size)
{
    if (size > 0)
        json_put_int(j, key, size);
    else
        json_put_null(j, key);
}

static void put_record(json *j, const bench_results *b, const bench_record *r)
{
    const bool ok = r->status == TSR_OK;
    const double none = (double)NAN;
    json_begin_object(j);
    json_put_string(j, "device", b->devices.info[r->device].id);
    json_put_string(j, "what", r->row->name);
    json_put_string(j, "route", r->backward ? "backward" : "forward");
    put_size(j, "m", r->m);
    put_size(j, "n", r->n);
    put_size(j, "k", r->k);
    json_put_string(j, "dtype", tsr_dtype_name(r->dtype));
    json_put_double(j, "gflops", ok ? r->cost.flops / r->seconds * 1e-9 : none);
    json_put_double(j, "gbytes_per_second", ok ? r->cost.bytes / r->seconds * 1e-9 : none);
    json_put_string(j, "reference", "roofline");
    json_put_double(j, "ratio", ok ? r->roofline : none);
    json_put_string(j, "operands", r->shapes);
    json_put_bool(j, "own_load", r->own);
    json_put_string(j, "error", ok ? NULL : r->error);
    json_put_int(j, "runs", r->runs);
    json_put_double(j, "seconds", ok ? r->seconds : none);
    json_put_double(j, "flops", ok ? r->cost.flops : none);
    json_put_double(j, "bytes", ok ? r->cost.bytes : none);
    json_put_double(j, "of_copy", ok ? r->copy : none);
    json_put_double(j, "of_product", ok ? r->product : none);
    json_end_object(j);
}

void bench_json(const bench_results *b, json *j)
{
    json_begin_object(j);
    json_put_string(j, "version", tsr_version());
    json_put_int(j, "size", b->settings->size);
    json_key(j, "devices");
    json_begin_array(j);
    for (size_t i = 0; i < b->devices.count; i++)
        put_device(j, b, i);
    json_end_array(j);
    json_key(j, "results");
    json_begin_array(j);
    for (size_t i = 0; i < b->count; i++)
        put_record(j, b, &b->records[i]);
    json_end_array(j);
    json_end_object(j);
}
