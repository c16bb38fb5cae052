#include "unit.h"

#include "fake_hal.h"

#include "hal/registry.h"

/* A second backend, with no driver, and a third with two devices that share a UUID. */
static tsr_status absent_enumerate(uint32_t *count, char *why, size_t size)
{
    *count = 0;
    snprintf(why, size, "libabsent.so.1 was not found: install the package libabsent1.");
    return TSR_OK;
}

static unsigned twins_asked;
static bool twins_fail;

static tsr_status twins_enumerate(uint32_t *count, char *why, size_t size)
{
    (void)why, (void)size;
    twins_asked++;
    if (twins_fail)
        return fail(TSR_DRIVER_ERROR, "the twins are ill");
    *count = 2;
    return TSR_OK;
}

static tsr_status twins_info(uint32_t index, hal_device_info *info)
{
    (void)index;
    *info = (hal_device_info){.uuid = "0123456789abcdef0123456789abcdef"};
    return TSR_OK;
}

static const hal_backend absent_backend = {.name = "absent", .enumerate = absent_enumerate};
static const hal_backend twins_backend = {.name = "twins", .enumerate = twins_enumerate, .info = twins_info};
static const hal_backend *const table[] = {&fake_backend, &absent_backend, &twins_backend, NULL};

static int setup(void **state)
{
    (void)state;
    fake_reset();
    fake.device_count = 3;
    fake.uuids[0] = "00112233445566778899aabbccddeeff";
    fake.uuids[1] = "ffeeddccbbaa99887766554433221100";
    twins_asked = 0;
    tsr_clear_error();
    return 0;
}

static void expect(const char *name, const hal_backend *backend, uint32_t index)
{
    device_ref ref;
    assert_int_equal(registry_parse_in(table, name, &ref), TSR_OK);
    assert_ptr_equal(ref.backend, backend);
    assert_int_equal(ref.index, index);
}

static void refuse(const char *name, const char *const *words)
{
    device_ref ref;
    tsr_clear_error();
    assert_int_equal(registry_parse_in(table, name, &ref), TSR_NO_DEVICE);
    assert_null(ref.backend);
    for (; *words != NULL; words++) {
        if (strstr(tsr_last_error(), *words) == NULL)
            print_error("\"%s\" does not say \"%s\"\n", tsr_last_error(), *words);
        assert_non_null(strstr(tsr_last_error(), *words));
    }
}
#define REFUSE(name, ...) refuse(name, (const char *[]){__VA_ARGS__, NULL})

static void names_devices(void **state)
{
    (void)state;
    expect("fake", &fake_backend, 0);
    expect("fake:0", &fake_backend, 0);
    expect("fake:2", &fake_backend, 2);
    expect("fake:00002", &fake_backend, 2);
    expect("fake://FFEEDDCC-BBAA-9988-7766-554433221100", &fake_backend, 1);
    assert_int_equal(twins_asked, 0); /* nobody asked for it */
    expect("twins:1", &twins_backend, 1);

    char id[DEVICE_ID_SIZE];
    device_ref_id((device_ref){&twins_backend, 1}, id, sizeof id);
    assert_string_equal(id, "twins:1");
}

static void explains_what_is_wrong(void **state)
{
    (void)state;
    REFUSE("fkae", "no backend \"fkae\"", "fake, absent, twins", "Did you mean \"fake\"?", "fake:0, fake:1, fake:2");
    REFUSE("Fake:1", "no backend \"Fake\"", "Did you mean \"fake\"?");
    REFUSE("quantum:0", "no backend \"quantum\"", "twins:1");
    REFUSE("absent", "libabsent.so.1 was not found", "install the package libabsent1. Devices here: fake:0");
    REFUSE("absent:3", "libabsent.so.1");
    REFUSE("absent://0123", "libabsent.so.1");
    REFUSE("fake:3", "3 devices", "0 to 2");
    REFUSE("fake:4294967296", "0 to 2");
    REFUSE("fake:99999999999999999999999", "0 to 2");
    REFUSE("fake:-1", "\"-1\" is no number");
    REFUSE("fake:1x", "is no number");
    REFUSE("fake:", "is no number");
    REFUSE("fake:/1", "is no number");
    REFUSE("", "names no device", "fake:0");
    REFUSE(":0", "names no device");
    REFUSE("fake://dead", "no fake device has that UUID", "fake:0 has 00112233445566778899aabbccddeeff",
           "fake:2 has none");
    REFUSE("twins://0123456789abcdef0123456789abcdef", "names 2 devices", "twins:0, twins:1");

    char monster[5000];
    memset(monster, 'x', sizeof monster - 1);
    monster[sizeof monster - 1] = '\0';
    REFUSE(monster, "xxxx");

    fake.device_count = 1;
    REFUSE("fake:1", "1 device, number 0");
    fake.device_count = 0;
    REFUSE("fake", "the driver lists none");

    device_ref ref;
    assert_int_equal(registry_parse_in(table, NULL, &ref), TSR_INVALID_ARGUMENT);
}

static void reads_lists(void **state)
{
    (void)state;
    device_ref refs[DEVICE_LIST_MAX];
    size_t count;
    assert_int_equal(registry_parse_list_in(table, "twins:1, fake:2 ,twins:1,fake", refs, &count), TSR_OK);
    assert_int_equal(count, 3);
    assert_true(refs[0].backend == &twins_backend && refs[0].index == 1);
    assert_true(refs[1].backend == &fake_backend && refs[1].index == 2);
    assert_true(refs[2].backend == &fake_backend && refs[2].index == 0);

    assert_int_equal(registry_parse_list_in(table, "all", refs, &count), TSR_OK);
    assert_int_equal(count, 5); /* the absent one is no failure */
    assert_int_equal(registry_parse_list_in(table, "twins:1,all", refs, &count), TSR_OK);
    assert_int_equal(count, 5);
    assert_true(refs[0].backend == &twins_backend && refs[0].index == 1);

    assert_int_equal(registry_parse_list_in(table, "fake,,twins", refs, &count), TSR_NO_DEVICE);
    assert_int_equal(registry_parse_list_in(table, "fake,", refs, &count), TSR_NO_DEVICE);
    assert_int_equal(registry_parse_list_in(table, "", refs, &count), TSR_NO_DEVICE);
    assert_int_equal(registry_parse_list_in(table, "fake,absent", refs, &count), TSR_NO_DEVICE);
    assert_non_null(strstr(tsr_last_error(), "libabsent"));

    twins_fail = true; /* a driver that fails is left out of "all", but not silently when it is named */
    assert_int_equal(registry_parse_list_in(table, "all", refs, &count), TSR_OK);
    assert_int_equal(count, 3);
    assert_int_equal(registry_parse_list_in(table, "fake,twins", refs, &count), TSR_DRIVER_ERROR);
    assert_non_null(strstr(tsr_last_error(), "device \"twins\": the twins are ill"));
    twins_fail = false;

    fake.device_count = 100;
    assert_int_equal(registry_parse_list_in(table, "all", refs, &count), TSR_OUT_OF_RANGE);
    static const hal_backend *const none[] = {&absent_backend, NULL};
    assert_int_equal(registry_parse_list_in(none, "all", refs, &count), TSR_NO_DEVICE);
}

static void knows_this_build(void **state)
{
    (void)state;
    device_ref ref;
    assert_int_equal(registry_parse("cpu", &ref), TSR_OK);
    assert_string_equal(ref.backend->name, "cpu");
    assert_int_equal(registry_parse("cpu:1", &ref), TSR_NO_DEVICE);
    assert_int_equal(registry_parse("cpuu", &ref), TSR_NO_DEVICE);
    assert_non_null(strstr(tsr_last_error(), "Did you mean \"cpu\"?"));
    assert_non_null(strstr(tsr_last_error(), "cpu:0"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(names_devices, setup),
        cmocka_unit_test_setup(explains_what_is_wrong, setup),
        cmocka_unit_test_setup(reads_lists, setup),
        cmocka_unit_test_setup(knows_this_build, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
