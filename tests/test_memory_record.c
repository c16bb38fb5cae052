/* Who holds memory, and recordings of it: of a training step, by kind and operator; the JSON adds up to what the allocator says, the picture is well
 * formed, and a recording that is full says so. */
#include "tests/op_reference.h"

#include "tests/io_files.h"

#include "base/memory.h"

typedef struct network {
    tsr_module *model;
    tsr_optimizer *optimizer;
    tsr_tensor *x, *y;
} network;

enum { ROWS = 64, WIDTH = 128, CLASSES = 10, FLOAT = sizeof(float) };

static void begin(const run *r, network *n)
{
    n->model = TSR_SEQUENTIAL(tsr_linear_create(r->device, WIDTH, WIDTH, false), tsr_gelu_create(),
                              tsr_linear_create(r->device, WIDTH, CLASSES, false));
    require(r, n->model);
    n->optimizer = tsr_adam_for(n->model, NULL);
    require(r, n->optimizer);
    n->x = tsr_keep(tsr_normal(r->device, TSR_F32, 2, (int64_t[]){ROWS, WIDTH}, 0, 1));
    n->y = tsr_keep(tsr_zeros(r->device, TSR_I64, 1, (int64_t[]){ROWS}));
    require(r, n->y);
}

static void end(network *n)
{
    tsr_release(n->x);
    tsr_release(n->y);
    tsr_optimizer_destroy(n->optimizer);
    tsr_module_destroy(n->model);
}

static uint64_t rounded(uint64_t bytes)
{
    return (bytes + 511) / 512 * 512;
}

static tsr_memory_owner rows[256];
static size_t row_count;

static void read_owners(const run *r)
{
    require_ok(r, tsr_memory_owners(r->device, rows, 256, &row_count));
    assert_true(row_count <= 256);
}

static tsr_memory_owner owner(tsr_memory_kind kind, const char *name)
{
    for (size_t i = 0; i < row_count; i++)
        if (rows[i].kind == kind && strcmp(rows[i].name, name) == 0)
            return rows[i];
    return (tsr_memory_owner){0};
}

static uint64_t sum_of(bool at_peak)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < row_count; i++)
        sum += at_peak ? rows[i].peak_bytes : rows[i].bytes;
    return sum;
}

static tsr_memory_statistics now(const run *r)
{
    tsr_memory_statistics s;
    require_ok(r, tsr_memory_stats(r->device, &s));
    return s;
}

/* ---- by owner ---- */

static void owners_on(const run *r)
{
    const uint64_t parameters = (uint64_t)(WIDTH * WIDTH + CLASSES * WIDTH) * FLOAT, hidden = ROWS * WIDTH * FLOAT;
    network n;
    require_ok(r, tsr_scope_begin());
    begin(r, &n);
    read_owners(r);
    assert_int_equal(owner(TSR_MEMORY_PARAMETER, "parameters").bytes, parameters);
    assert_int_equal(owner(TSR_MEMORY_PARAMETER, "parameters").blocks, 2);
    assert_int_equal(owner(TSR_MEMORY_STATE, "optimizer state").bytes,
                     2 * parameters + 3 * 512); /* and step, numbers, never */
    assert_int_equal(sum_of(false), now(r).allocated_bytes);
    assert_int_equal(sum_of(true), 0); /* nothing was recorded */

    require_ok(r, tsr_memory_record_begin(r->device, 0));
    require_ok(r, tsr_memory_reset_peaks(r->device));
    tsr_tensor *loss = tsr_cross_entropy(tsr_forward(n.model, n.x), n.y);
    require(r, loss);
    read_owners(r);
    assert_int_equal(owner(TSR_MEMORY_FORWARD, "gelu").bytes, hidden);
    assert_int_equal(owner(TSR_MEMORY_FORWARD, "cross_entropy").blocks > 0, true);
    assert_int_equal(owner(TSR_MEMORY_GRADIENT, "gradients").bytes, 0);
    require_ok(r, tsr_backward(loss));
    read_owners(r);
    assert_int_equal(owner(TSR_MEMORY_GRADIENT, "gradients").bytes, parameters);
    assert_int_equal(owner(TSR_MEMORY_BACKWARD, "gelu").bytes, 0); /* passed on, and done */
    require_ok(r, tsr_optimizer_step(n.optimizer));
    tsr_memory_record_end(r->device);
    tsr_optimizer_clear_grad(n.optimizer);
    require_ok(r, tsr_scope_end());

    read_owners(r);
    assert_int_equal(sum_of(false), now(r).allocated_bytes);
    assert_int_equal(sum_of(true), now(r).peak_allocated_bytes);
    assert_true(owner(TSR_MEMORY_PARAMETER, "parameters").peak_bytes == parameters);
    for (size_t i = 1; i < row_count; i++)
        assert_true(rows[i - 1].peak_bytes >= rows[i].peak_bytes);
    size_t all;
    tsr_memory_owner first;
    require_ok(r, tsr_memory_owners(r->device, &first, 1, &all));
    assert_int_equal(all, row_count);
    assert_int_equal(first.peak_bytes, rows[0].peak_bytes);
    end(&n);
    assert_int_equal(rounded(1), 512);
}

static void test_owners(void **state)
{
    (void)state;
    on_every_device(owners_on);
}

/* ---- the files ---- */

static char *read_all(const char *name, size_t *size)
{
    FILE *f = fopen(path_in_folder(name), "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    *size = (size_t)ftell(f);
    rewind(f);
    char *bytes = malloc(*size + 1);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, *size, f), *size);
    bytes[*size] = '\0';
    fclose(f);
    return bytes;
}

static uint64_t number_after(const char *words, const char *key)
{
    const char *at = strstr(words, key);
    assert_non_null(at);
    return strtoull(at + strlen(key), NULL, 10);
}

/* What is held behind the last event; on the way the peak must be what the file says, where it says. */
static uint64_t replay(const char *words)
{
    const char *recording = strstr(words, "\"recording\": ");
    assert_non_null(recording);
    const uint64_t peak = number_after(recording, "\"peak_bytes\": "),
                   place = number_after(recording, "\"peak_event\": ");
    uint64_t held = 0, most = 0, at_place = 0, count = 0;
    const char *at = strstr(recording, "\"events\": [");
    assert_non_null(at);
    char what[16];
    unsigned long long bytes;
    for (at += strlen("\"events\": ["); sscanf(at, "[\"%15[a-z]\",%llu", what, &bytes) == 2; count++) {
        if (strcmp(what, "held") == 0 || strcmp(what, "taken") == 0)
            held += bytes;
        else if (strcmp(what, "freed") == 0)
            held -= bytes;
        most = held > most ? held : most;
        at_place = count == place ? held : at_place;
        at = strchr(at, ']') + 1;
        at += *at == ',';
    }
    assert_true(count > 20);
    assert_int_equal(most, peak);
    assert_int_equal(at_place, peak);
    return held;
}

/* A part that runs again, mixed precision and a scaler have names of their own. */
static void test_kinds(void **state)
{
    (void)state;
    const run r = {.device = tsr_device_open("cpu"), .name = "cpu"};
    require(&r, r.device);
    network n;
    require_ok(&r, tsr_scope_begin());
    begin(&r, &n);
    require_ok(&r, tsr_sequential_checkpoint(n.model, NULL, 3));
    tsr_grad_scaler *scaler = tsr_grad_scaler_create(r.device, NULL);
    require(&r, scaler);
    require_ok(&r, tsr_memory_record_begin(r.device, 0));
    require_ok(&r, tsr_autocast_begin(TSR_F16));
    tsr_tensor *loss = tsr_cross_entropy(tsr_forward(n.model, n.x), n.y);
    tsr_autocast_end();
    require_ok(&r, tsr_backward(tsr_grad_scaler_scale(scaler, loss)));
    require_ok(&r, tsr_grad_scaler_step(scaler, n.optimizer));
    tsr_memory_record_end(r.device);
    const uint64_t at_end = now(&r).allocated_bytes;
    assert_int_equal(tsr_memory_snapshot_write(r.device, path_in_folder("kinds.json")), TSR_OK);
    size_t size;
    char *words = read_all("kinds.json", &size);
    assert_non_null(strstr(words, "[\"recompute\",\"gelu\"]"));
    assert_non_null(strstr(words, "[\"backward\",\"gelu\"]"));
    assert_non_null(strstr(words, "[\"forward\",\"cast\"]"));
    assert_non_null(strstr(words, "[\"gradients\",\"gradients\"]"));
    assert_non_null(strstr(words, "\"gradient scaler\""));
    const uint64_t held = replay(words);
    assert_int_equal(held, at_end);
    free(words);
    tsr_grad_scaler_destroy(scaler);
    require_ok(&r, tsr_scope_end());
    end(&n);
    tsr_device_close(r.device);
}

static void test_pictures(void **state)
{
    (void)state;
    const run r = {.device = tsr_device_open("cpu"), .name = "cpu"};
    require(&r, r.device);
    assert_int_equal(tsr_memory_snapshot_write(r.device, path_in_folder("none.svg")), TSR_INVALID_ARGUMENT);
    assert_non_null(strstr(tsr_last_error(), "nothing to draw"));
    assert_int_equal(tsr_memory_snapshot_write(r.device, path_in_folder("no/such/folder.json")), TSR_IO_ERROR);

    require_ok(&r, tsr_memory_record_begin(r.device, 0));
    const int64_t large = 1 << 18, small = 1 << 16;
    tsr_tensor *x = tsr_keep(tsr_zeros(r.device, TSR_F32, 1, &large)); /* 1 MiB */
    tsr_tensor *y = tsr_keep(tsr_exp(x));
    tsr_tensor *z = tsr_keep(tsr_empty(r.device, TSR_F32, 1, &small));
    tsr_release(x);
    tsr_release(y);
    assert_int_equal(tsr_memory_snapshot_write(r.device, path_in_folder("some.svg")), TSR_OK);
    size_t size;
    char *words = read_all("some.svg", &size);
    assert_memory_equal(words, "<svg ", 5);
    assert_string_equal(words + size - 7, "</svg>\n");
    assert_non_null(strstr(words, ">peak 2.2 MiB<"));
    assert_non_null(strstr(words, ">exp<"));
    assert_non_null(strstr(words, ">the program's own<"));
    free(words);
    tsr_release(z);
    tsr_device_close(r.device);
}

/* Behind the last event that is kept there are none: no gaps. */
static void test_full(void **state)
{
    (void)state;
    const run r = {.device = tsr_device_open("cpu"), .name = "cpu"};
    require(&r, r.device);
    const int64_t n = 1024;
    require_ok(&r, tsr_memory_record_begin(r.device, 3));
    for (int i = 0; i < 4; i++)
        tsr_release(tsr_keep(tsr_empty(r.device, TSR_F32, 1, &n)));
    assert_int_equal(tsr_memory_snapshot_write(r.device, path_in_folder("full.json")), TSR_OK);
    size_t size;
    char *words = read_all("full.json", &size);
    assert_int_equal(number_after(words, "\"missed\": "), 6); /* reserved, taken, freed; then six of eight */
    free(words);

    /* Failed allocations of the recording are no failure of what is recorded. */
    require_ok(&r, tsr_memory_record_begin(r.device, 0));
    tsr_tensor *x = tsr_keep(tsr_empty(r.device, TSR_F32, 1, &n));
    require(&r, x);
    tsr_release(x);
    tsr_memory_record_end(r.device);
    tsr_memory_record_end(r.device);
    tsr_memory_record_end(NULL);
    assert_int_equal(tsr_memory_record_begin(NULL, 0), TSR_INVALID_ARGUMENT);
    assert_int_equal(tsr_memory_snapshot_write(r.device, NULL), TSR_INVALID_ARGUMENT);
    assert_int_equal(tsr_memory_owners(r.device, NULL, 0, NULL), TSR_INVALID_ARGUMENT);
    for (int64_t n_passed = 0;; n_passed++) {
        fault_set(&host_alloc_fault, n_passed, true);
        const tsr_status status = tsr_memory_snapshot_write(r.device, path_in_folder("fails.svg"));
        const int64_t struck = fault_struck(&host_alloc_fault);
        fault_set(&host_alloc_fault, -1, false);
        assert_true((status == TSR_OK) == (struck == 0));
        if (struck == 0)
            break;
        assert_int_equal(status, TSR_OUT_OF_MEMORY);
    }
    tsr_device_close(r.device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_owners),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_pictures),
        cmocka_unit_test(test_full),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
