/* What every backend must do, run on every device of this machine (or those of TESSERA_TEST_DEVICES, a list as --device
 * takes it). Memory that a command must not touch is guarded by a pattern around it. */
#include "conformance/bench.h"
#include "conformance/device.h"
#include "conformance/kernels.h"
#include "conformance/memory.h"
#include "conformance/order.h"

/* Where a driver cannot do what is asked, and why that is borne. */
static const struct {
    const char *backend, *test, *reason;
} exceptions[] = {
    {NULL, NULL, NULL}, /* ends the table: there is none so far */
};

/* clang-format off */
#define ROW(name) {#name, name}
/* clang-format on */
static const struct {
    const char *name;
    void (*run)(bench *b);
} rows[] = {
    ROW(information),
    ROW(allocations),
    ROW(writes_and_reads),
    ROW(copies),
    ROW(host_memory_copies),
    ROW(fills),
    ROW(nothing_to_do),
    ROW(element_types),
    ROW(grids),
    ROW(parameters),
    ROW(eight_bindings),
    ROW(group_memory),
    ROW(bad_launches),
    ROW(broken_kernels),
    ROW(long_chains),
    ROW(commands_in_order),
    ROW(many_in_flight),
    ROW(destroyed_while_queued),
    ROW(events_tell_what_is_done),
    ROW(queues_wait_for_each_other),
    ROW(threads_share_a_device),
    ROW(products),
    ROW(out_of_memory_is_a_status),
    ROW(close_waits_for_its_objects),
    ROW(a_lost_device),
    ROW(every_entry_notices_a_loss),
    ROW(counters_count),
};
enum { ROWS = COUNT_OF(rows) };

static bench current;

/* cmocka gives a test no number, only a state: the row. */
static void run_row(void **state)
{
    const size_t row = (size_t)((const char *)*state - (const char *)rows) / sizeof rows[0];
    for (size_t i = 0; exceptions[i].backend != NULL; i++) {
        if (strcmp(exceptions[i].backend, current.ref.backend->name) == 0 &&
            strcmp(exceptions[i].test, rows[row].name) == 0) {
            print_message("%s: %s is left out: %s\n", current.id, rows[row].name, exceptions[i].reason);
            skip();
        }
    }
    rows[row].run(&current);
}

static int open_device(void **state)
{
    (void)state;
    if (hal_device_open(current.ref.backend, current.ref.index, &current.device) != TSR_OK ||
        hal_queue_create(current.device, HAL_QUEUE_COMPUTE, &current.queue) != TSR_OK) {
        print_error("%s: %s\n", current.id, tsr_last_error());
        return -1;
    }
    print_message("%s: %s, %s\n", current.id, current.device->info.name, current.device->info.driver);
    return 0;
}

static int close_device(void **state)
{
    (void)state;
    for (size_t i = 0; i < current.kernel_count; i++)
        hal_kernel_destroy(current.kernels[i]);
    hal_queue_destroy(current.queue);
    if (hal_device_close(current.device) == TSR_OK)
        return 0;
    print_error("%s: %s\n", current.id, tsr_last_error());
    return -1;
}

int main(void)
{
    const char *list = getenv("TESSERA_TEST_DEVICES");
    device_ref refs[DEVICE_LIST_MAX];
    size_t count;
    if (registry_parse_list(list != NULL && list[0] != '\0' ? list : "all", refs, &count) != TSR_OK) {
        fprintf(stderr, "%s\n", tsr_last_error());
        return 3;
    }
    for (const hal_backend *const *backend = hal_backends; *backend != NULL; backend++) {
        char why[512] = "";
        uint32_t devices = 0;
        if ((*backend)->enumerate(&devices, why, sizeof why) != TSR_OK || devices == 0)
            print_message("%s is not tested: %s\n", (*backend)->name, why[0] ? why : tsr_last_error());
    }

    int failures = 0;
    for (size_t d = 0; d < count; d++) {
        static char names[ROWS][96];
        struct CMUnitTest tests[ROWS];
        current = (bench){.ref = refs[d]};
        device_ref_id(refs[d], current.id, sizeof current.id);
        for (size_t i = 0; i < ROWS; i++) {
            snprintf(names[i], sizeof names[i], "%s %s", current.id, rows[i].name);
            tests[i] = (struct CMUnitTest){.name = names[i], .test_func = run_row, .initial_state = (void *)&rows[i]};
        }
        failures += abs(_cmocka_run_group_tests(current.id, tests, ROWS, open_device, close_device));
    }
    return failures > 0;
}
