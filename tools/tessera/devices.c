/* tessera devices: what there is, what is missing and why, and what decides it. */
#include <stdlib.h>
#include <string.h>

#include "base/cache.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "command.h"
#include "table.h"
#include "tessera/device.h"
#include "tessera/tensor.h"

typedef struct devices_settings {
    bool json;
} devices_settings;

static const option options[] = {
    {"json", NULL, OPTION_FLAG, offsetof(devices_settings, json), "a JSON list on standard output (docs/json.md)", 0, 0,
     NULL},
};

/* The list to host_free; NULL with the thread's error. *count may be 0. */
static tsr_device_info *list_devices(size_t *count)
{
    if (tsr_device_list(NULL, 0, count) != TSR_OK)
        return NULL;
    const size_t capacity = *count + 4; /* a device may appear between the two calls */
    tsr_device_info *rows = host_alloc_zeroed(capacity, sizeof *rows);
    if (rows == NULL || tsr_device_list(rows, capacity, count) != TSR_OK) {
        host_free(rows);
        return NULL;
    }
    *count = *count < capacity ? *count : capacity;
    return rows;
}

/* What only an open device tells. */
typedef struct finding {
    bool usable;
    tsr_arithmetic arithmetic;
} finding;

/* Opens each device for a moment: only then all is known of it, and whether it works at all. */
static void look_closer(tsr_device_info *rows, size_t count, finding *found)
{
    for (size_t i = 0; i < count; i++) {
        tsr_device *device = tsr_device_open(rows[i].id);
        found[i].usable = device != NULL && tsr_device_describe(device, &rows[i]) == TSR_OK &&
                          tsr_device_probe(device, &found[i].arithmetic) == TSR_OK;
        if (!found[i].usable)
            snprintf(rows[i].notes, sizeof rows[i].notes, "cannot be used: %.200s", tsr_last_error());
        tsr_device_close(device);
    }
}

static const char *dtypes_text(uint32_t dtypes, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (int d = 0; d < TSR_DTYPE_COUNT; d++)
        if ((dtypes & 1u << d) != 0 && used < size)
            used +=
                (size_t)snprintf(out + used, size - used, "%s%s", used > 0 ? " " : "", tsr_dtype_name((tsr_dtype)d));
    return out;
}

/* "f32 to nearest, …": what differs from the rule of docs/determinism.md stands in capitals. */
static const char *arithmetic_text(const tsr_device_info *d, const tsr_arithmetic *a, char *out, size_t size)
{
    const bool stores_f16 = (d->dtypes & 1u << TSR_F16) != 0;
    snprintf(out, size, "%s, %s, subnormals %s, NaN %s, -0 %s%s",
             a->rounds_to_nearest ? "to nearest" : "NOT TO NEAREST", a->contracts ? "CONTRACTED" : "not contracted",
             a->flushes_subnormals ? "FLUSHED" : "kept", a->keeps_nan ? "kept" : "LOST",
             a->keeps_signed_zero ? "kept" : "LOST",
             !stores_f16     ? ""
             : a->rounds_f16 ? ", f16 to nearest"
                             : ", f16 NOT TO NEAREST");
    return out;
}

/* ---- for programs ------------------------------------------------------------------------------------------------- */

static void put_device(json *j, const tsr_device_info *d, const finding *found)
{
    json_begin_object(j);
    json_put_string(j, "id", d->id);
    json_put_string(j, "backend", d->backend);
    json_put_string(j, "name", d->name);
    json_put_string(j, "vendor", d->vendor);
    json_put_string(j, "driver", d->driver);
    json_put_string(j, "uuid", d->uuid);
    json_put_bool(j, "software", d->software);
    json_put_bool(j, "unified_memory", d->unified_memory);
    json_put_uint(j, "memory_bytes", d->memory_bytes);
    json_put_uint(j, "compute_units", d->compute_units);
    json_key(j, "dtypes");
    json_begin_array(j);
    for (int t = 0; t < TSR_DTYPE_COUNT; t++)
        if ((d->dtypes & 1u << t) != 0)
            json_string(j, tsr_dtype_name((tsr_dtype)t));
    json_end_array(j);
    json_key(j, "matrix_units"); /* none is described yet */
    json_begin_array(j);
    json_end_array(j);
    json_put_string(j, "notes", d->notes);
    json_put_bool(j, "usable", found->usable);
    json_key(j, "arithmetic");
    if (found->usable) {
        const tsr_arithmetic *a = &found->arithmetic;
        json_begin_object(j);
        json_put_bool(j, "rounds_to_nearest", a->rounds_to_nearest);
        json_put_bool(j, "contracts", a->contracts);
        json_put_bool(j, "flushes_subnormals", a->flushes_subnormals);
        json_put_bool(j, "keeps_nan", a->keeps_nan);
        json_put_bool(j, "keeps_signed_zero", a->keeps_signed_zero);
        json_put_bool(j, "rounds_f16", a->rounds_f16);
        json_end_object(j);
    } else {
        json_null(j);
    }
    json_end_object(j);
}

static int print_json(const tsr_device_info *rows, const finding *found, size_t count)
{
    json j = {0};
    const char *document;
    json_begin_array(&j);
    for (size_t i = 0; i < count; i++)
        put_device(&j, &rows[i], &found[i]);
    json_end_array(&j);
    const bool ok = json_finish(&j, &document) == TSR_OK;
    if (ok)
        fputs(document, stdout);
    else
        complain("%s", tsr_last_error());
    json_free(&j);
    return ok ? EXIT_DONE : EXIT_USAGE;
}

/* ---- for people --------------------------------------------------------------------------------------------------- */

static void print_devices(const tsr_device_info *rows, const finding *found, size_t count)
{
    table t = {0};
    table_column(&t, "DEVICE", ALIGN_LEFT, false);
    table_column(&t, "NAME", ALIGN_LEFT, true);
    table_column(&t, "KIND", ALIGN_LEFT, false);
    table_column(&t, "MEMORY", ALIGN_RIGHT, false);
    table_column(&t, "DTYPES", ALIGN_LEFT, false);
    for (size_t i = 0; i < count; i++) {
        const tsr_device_info *d = &rows[i];
        char dtypes[64], arithmetic[160];
        table_row(&t, found[i].usable ? STYLE_NONE : STYLE_BAD);
        table_cell(&t, "%s", d->id);
        table_cell(&t, "%s", d->name[0] != '\0' ? d->name : "?");
        table_cell(&t, "%s", d->software ? "software" : "hardware");
        table_cell(&t, "%s", d->memory_bytes > 0 ? bytes_text((double)d->memory_bytes) : "?");
        table_cell(&t, "%s", dtypes_text(d->dtypes, dtypes, sizeof dtypes));
        if (d->driver[0] != '\0')
            table_note(&t, "driver: %s", d->driver);
        if (d->vendor[0] != '\0')
            table_note(&t, "vendor: %s", d->vendor);
        if (d->notes[0] != '\0')
            table_note(&t, "note: %s", d->notes);
        if (found[i].usable)
            table_note(&t, "arithmetic: %s", arithmetic_text(d, &found[i].arithmetic, arithmetic, sizeof arithmetic));
    }
    if (count == 0)
        puts("No device at all.");
    else
        table_print(&t, stdout);
    table_free(&t);
}

static void heading(const char *string)
{
    printf("\n%s%s%s\n", terminal_style(stdout, STYLE_BOLD), string, terminal_style(stdout, STYLE_NONE));
}

static void print_missing(void)
{
    char backend[32], why[512];
    for (size_t i = 0; tsr_device_missing(i, backend, sizeof backend, why, sizeof why); i++) {
        if (i == 0)
            heading("Without a device");
        const int at = printf("  %s", backend);
        print_wrapped(stdout, at, 12, why);
    }
}

static void print_variable(const char *name, int width)
{
    const char *value = getenv(name);
    printf("  %-*s  %s%s%s\n", width, name, value != NULL ? "" : terminal_style(stdout, STYLE_DIM),
           value == NULL      ? "not set"
           : value[0] == '\0' ? "\"\""
                              : value,
           value != NULL ? "" : terminal_style(stdout, STYLE_NONE));
}

static void print_environment(void)
{
    static const char *const names[] = {
        "TESSERA_DEVICE",      "TESSERA_CACHE_DIR", "TESSERA_DATA_DIR",     "TESSERA_LOG",
        "TESSERA_NUM_THREADS", "OCL_ICD_VENDORS",   "POCL_DEVICES",         "POCL_AFFINITY",
        "VK_DRIVER_FILES",     "VK_ICD_FILENAMES",  "CUDA_VISIBLE_DEVICES",
    };
    int width = 0;
    char folder[PATH_SIZE];
    heading("Environment");
    for (size_t i = 0; i < COUNT_OF(names); i++)
        width = (int)strlen(names[i]) > width ? (int)strlen(names[i]) : width;
    for (size_t i = 0; i < COUNT_OF(names); i++)
        print_variable(names[i], width);

    heading("Cache of compiled programs");
    const char *problem = cache_problem();
    printf("  %s\n", cache_dir(folder, sizeof folder) == TSR_OK ? folder : tsr_last_error());
    if (problem != NULL)
        print_wrapped(stdout, 0, 2, problem);
}

static int run(const void *settings, const char *subject)
{
    const devices_settings *s = settings;
    size_t count = 0;
    (void)subject;
    tsr_device_info *rows = list_devices(&count);
    finding *found = rows == NULL ? NULL : host_alloc_zeroed(count, sizeof *found);
    if (found == NULL) {
        complain("%s", tsr_last_error());
        host_free(rows);
        return EXIT_DEVICE_FAILED;
    }
    look_closer(rows, count, found);
    int status = count > 0 ? EXIT_DONE : EXIT_NO_DEVICE;
    if (s->json) {
        const int printed = print_json(rows, found, count);
        status = printed != EXIT_DONE ? printed : status;
    } else {
        print_devices(rows, found, count);
        print_missing();
        print_environment();
    }
    host_free(found);
    host_free(rows);
    return status;
}

const command command_devices = {
    .name = "devices",
    .summary = "lists the devices, and why others are missing",
    .synopsis = "[--json]",
    .options = options,
    .option_count = COUNT_OF(options),
    .settings_size = sizeof(devices_settings),
    .run = run,
};
