/* safetensors files: what is written is read back, by the format's own description too; and a table of bad ones. */
#include "io_files.h"

#include "base/memory.h"
#include "tessera/io.h"
#include "tests/op_reference.h"

/* ---- good files --------------------------------------------------------------------------------------------------- */

static void round_trip(const run *r)
{
    static const uint8_t bytes[48] = {0, 1, 1, 0, 1, 1, 0, 0, 1, 0, 1, 1, 0, 60, 1, 0, 0, 192, 7, 8, 9, 3, 2, 1};
    static const char *const names[] = {"a.weight", "b \"quoted\" \\ name", "ä", "d", "e", "f", "g", "h"};
    tsr_named_tensor list[TSR_DTYPE_COUNT + 2];
    size_t count = 0;
    require_ok(r, tsr_scope_begin());
    for (int d = 0; d < TSR_DTYPE_COUNT; d++)
        if (run_has(r, (tsr_dtype)d)) {
            list[count].name = names[count];
            list[count].tensor = tsr_from_data(r->device, (tsr_dtype)d, 2, (int64_t[]){2, 3}, bytes);
            require(r, list[count++].tensor);
        }
    list[count++] = (tsr_named_tensor){"scalar", tsr_full(r->device, TSR_F32, 0, NULL, 2.5)};
    list[count++] = (tsr_named_tensor){"empty", tsr_zeros(r->device, TSR_F32, 3, (int64_t[]){2, 0, 5})};
    const tsr_metadata metadata[] = {{"format", "pt"}, {"note", "with \n a \"break\""}};
    const char *path = path_in_folder("round.safetensors");
    require_ok(r, tsr_safetensors_save(path, list, count, metadata, 2));

    tsr_safetensors *f = tsr_safetensors_open(path);
    require(r, f);
    assert_int_equal(tsr_safetensors_count(f), count);
    assert_string_equal(tsr_safetensors_metadata(f, "format"), "pt");
    assert_string_equal(tsr_safetensors_metadata(f, "note"), metadata[1].value);
    assert_null(tsr_safetensors_metadata(f, "nothing"));
    for (size_t i = 0; i < count; i++) {
        uint8_t was[64] = {0}, is[64] = {0};
        tsr_tensor *t = tsr_safetensors_load(f, list[i].name, r->device);
        require(r, t);
        const size_t size = (size_t)tsr_numel(t) * tsr_dtype_size(tsr_dtype_of(t));
        assert_int_equal(tsr_dtype_of(t), tsr_dtype_of(list[i].tensor));
        assert_int_equal(tsr_rank(t), tsr_rank(list[i].tensor));
        for (int k = 0; k < tsr_rank(t); k++)
            assert_int_equal(tsr_shape(t)[k], tsr_shape(list[i].tensor)[k]);
        require_ok(r, tsr_read(list[i].tensor, was, size));
        require_ok(r, tsr_read(t, is, size));
        assert_memory_equal(was, is, size);
    }
    /* Each tensor lies at a multiple of its element's size. */
    uint64_t at = 0;
    for (size_t i = 0; i < count; i++) {
        tsr_safetensors_entry e;
        require_ok(r, tsr_safetensors_describe(f, i, &e));
        assert_int_equal(at % tsr_dtype_size(e.dtype), 0);
        at += e.bytes;
    }
    assert_null(tsr_safetensors_load(f, "a.wieght", r->device));
    assert_non_null(strstr(tsr_last_error(), "did you mean 'a.weight'"));
    tsr_safetensors_close(f);
    require_ok(r, tsr_scope_end());
}

static void test_round_trip(void **state)
{
    (void)state;
    on_every_device(round_trip);
}

static void test_format(void **state)
{
    (void)state;
    /* As Hugging Face's documentation of the format has it; other dtypes may stand beside, and are refused one by one. */
    const char *header =
        "{\"__metadata__\":{\"k\":\"v\"},\"x\":{\"dtype\":\"I32\",\"shape\":[1,2],\"data_offsets\":[4,12]},"
        "\"small\":{\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":[0,4]},\"none\":{\"dtype\":\"F64\","
        "\"shape\":[0],\"data_offsets\":[4,4]}}   ";
    const char *path = path_in_folder("format.safetensors");
    write_safetensors(path, strlen(header), header, 12);
    tsr_safetensors *f = tsr_safetensors_open(path);
    assert_non_null(f);
    assert_int_equal(tsr_safetensors_count(f), 3);
    tsr_device *cpu = tsr_device_open("cpu");
    assert_int_equal(tsr_scope_begin(), TSR_OK);
    int32_t values[2];
    assert_int_equal(tsr_read(tsr_safetensors_load(f, "x", cpu), values, sizeof values), TSR_OK);
    assert_int_equal(values[0], 0x00060504);
    assert_int_equal(values[1], 0x04030201);
    assert_null(tsr_safetensors_load(f, "small", cpu));
    assert_int_equal(tsr_last_status(), TSR_UNSUPPORTED);
    assert_non_null(strstr(tsr_last_error(), "I8"));
    assert_int_equal(tsr_scope_end(), TSR_OK);
    tsr_device_close(cpu);
    tsr_safetensors_close(f);
}

/* ---- bad files ---------------------------------------------------------------------------------------------------- */

typedef struct bad_file {
    const char *header;
    size_t data;
    const char *says;
} bad_file;

#define X(dtype, shape, offsets) "{\"x\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define XY(first, second)                                                                                              \
    "{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" first                                                   \
    "},\"y\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" second "}}"

static const bad_file bad_files[] = {
    /* no JSON, or not such */
    {"", 0, "no JSON"},
    {"   ", 0, "no JSON"},
    {"{", 0, "no JSON"},
    {"{}}", 0, "no JSON"},
    {"{\"x\":}", 0, "no JSON"},
    {"{'x':1}", 0, "no JSON"},
    {"{\"x\":1,}", 0, "no JSON"},
    {"{\"a\\u0000b\":1}", 0, "no JSON"},
    {"{\"\xff\":1}", 0, "no JSON"},
    {"{\"x\":1e999}", 0, "no JSON"},
    {"{\"x\":99999999999999999999}", 0, "no JSON"},
    {"[]", 0, "no JSON object"},
    {"\"x\"", 0, "no JSON"},
    {"null", 0, "no JSON"},
    {"{\"x\":1,\"x\":2}", 0, "duplicate"},
    {"{\"x\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1, "duplicate"},
    /* metadata */
    {"{\"__metadata__\":[]}", 0, "no object"},
    {"{\"__metadata__\":{\"a\":1}}", 0, "no string"},
    {"{\"__metadata__\":{\"a\":{\"b\":\"c\"}}}", 0, "no string"},
    /* entries */
    {"{\"x\":1}", 0, "describes no tensor"},
    {"{\"x\":[]}", 0, "describes no tensor"},
    {"{\"x\":{}}", 0, "no dtype"},
    {X("8", "[]", "[0,1]"), 1, "no dtype"},
    {X("\"F33\"", "[]", "[0,4]"), 4, "not known here"},
    {X("\"f32\"", "[]", "[0,4]"), 4, "not known here"},
    {X("\"U8\"", "4", "[0,4]"), 4, "no shape"},
    {X("\"U8\"", "{}", "[0,4]"), 4, "no shape"},
    {X("\"U8\"", "[-4]", "[0,4]"), 4, "no whole number"},
    {X("\"U8\"", "[4.0]", "[0,4]"), 4, "no whole number"},
    {X("\"U8\"", "[\"4\"]", "[0,4]"), 4, "no whole number"},
    {X("\"U8\"", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1, "9 dimensions"},
    {X("\"U8\"", "[4294967296,4294967296]", "[0,0]"), 0, "multiply to more"},
    {X("\"F32\"", "[4611686018427387904]", "[0,0]"), 0, "multiply to more"},
    {X("\"F64\"", "[2305843009213693952,4]", "[0,0]"), 0, "multiply to more"},
    {X("\"F32\"", "[1152921504606846976,2]", "[0,8]"), 8, "multiply to more"},
    {X("\"U8\"", "[9223372036854775807]", "[0,4]"), 4, "needs 9223372036854775807 bytes"},
    {X("\"U8\"", "[4]", "4"), 4, "data_offsets"},
    {X("\"U8\"", "[4]", "[0]"), 4, "data_offsets"},
    {X("\"U8\"", "[4]", "[0,2,4]"), 4, "data_offsets"},
    {X("\"U8\"", "[4]", "[0,4.0]"), 4, "data_offsets"},
    {X("\"U8\"", "[4]", "[-1,3]"), 4, "data_offsets"},
    {X("\"U8\"", "[4]", "[4,0]"), 4, "lies at bytes 4 to 0"},
    {X("\"U8\"", "[4]", "[0,5]"), 4, "lies at bytes 0 to 5 of 4"},
    {X("\"U8\"", "[4]", "[0,9223372036854775807]"), 4, "lies at bytes"},
    {X("\"U8\"", "[4]", "[9223372036854775803,9223372036854775807]"), 4, "lies at bytes"},
    {X("\"U8\"", "[4]", "[0,3]"), 4, "needs 4 bytes and has 3"},
    {X("\"F32\"", "[2]", "[0,4]"), 4, "needs 8 bytes and has 4"},
    {X("\"F32\"", "[0]", "[0,4]"), 4, "needs 0 bytes and has 4"},
    {X("\"F32\"", "[]", "[0,0]"), 0, "needs 4 bytes and has 0"},
    /* places */
    {X("\"U8\"", "[4]", "[0,4]"), 5, "end at byte 4 of 5"},
    {X("\"U8\"", "[4]", "[1,5]"), 5, "belong to none"},
    {XY("[0,4]", "[3,7]"), 8, "overlaps"},
    {XY("[0,4]", "[0,4]"), 4, "overlaps"},
    {XY("[4,8]", "[2,6]"), 8, "belong to none"},
    {XY("[0,4]", "[5,9]"), 9, "belong to none"},
    {XY("[0,4]", "[4,8]"), 12, "end at byte 8 of 12"},
    {"{}", 1, "end at byte 0 of 1"},
    {"{\"__metadata__\":{}}", 3, "end at byte 0 of 3"},
};

static void refused(const char *path, const char *says)
{
    const int64_t live = host_live_allocations();
    tsr_clear_error();
    tsr_safetensors *f = tsr_safetensors_open(path);
    if (f != NULL)
        fail_msg("a file that %s was opened", says);
    assert_int_not_equal(tsr_last_status(), TSR_OK);
    if (strstr(tsr_last_error(), says) == NULL || strstr(tsr_last_error(), path) == NULL)
        fail_msg("'%s' names neither '%s' nor the file", tsr_last_error(), says);
    assert_int_equal(host_live_allocations(), live);
}

static void test_bad_headers(void **state)
{
    (void)state;
    const char *path = path_in_folder("bad.safetensors");
    for (size_t i = 0; i < sizeof bad_files / sizeof *bad_files; i++) {
        write_safetensors(path, strlen(bad_files[i].header), bad_files[i].header, bad_files[i].data);
        refused(path, bad_files[i].says);
    }
}

static void test_bad_lengths(void **state)
{
    (void)state;
    const char *path = path_in_folder("length.safetensors"), *header = "{}";
    char text[512];
    write_file(path, "", 0);
    refused(path, "0 bytes");
    write_file(path, "1234567", 7);
    refused(path, "7 bytes");
    write_safetensors(path, 3, header, 0);
    refused(path, "cut off");
    write_safetensors(path, 100000000, header, 0);
    refused(path, "cut off");
    write_safetensors(path, 100000001, header, 0);
    refused(path, "the most is");
    write_safetensors(path, UINT64_MAX, header, 0);
    refused(path, "the most is");
    write_safetensors(path, 1, header, 0);
    refused(path, "no JSON");
    write_safetensors(path, 0, header, 0);
    refused(path, "no JSON");
    /* nested deeper than any header is */
    memset(text, '[', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    write_safetensors(path, strlen(text), text, 0);
    refused(path, "no JSON");
    refused(path_in_folder("absent.safetensors"), "there is no file");
    assert_int_equal(tsr_last_status(), TSR_NOT_FOUND);
    refused(folder, "no regular file");
    assert_null(tsr_safetensors_open(NULL));
}

static void test_bad_truths(void **state)
{
    (void)state;
    const char *header = X("\"BOOL\"", "[4]", "[0,4]"), *path = path_in_folder("truth.safetensors");
    write_safetensors(path, strlen(header), header, 4); /* 0 1 2 3 */
    tsr_device *cpu = tsr_device_open("cpu");
    tsr_safetensors *f = tsr_safetensors_open(path);
    assert_non_null(f);
    assert_null(tsr_safetensors_load(f, "x", cpu));
    assert_int_equal(tsr_last_status(), TSR_CORRUPT_DATA);
    /* cut off after it was opened */
    assert_int_equal(truncate(path, (off_t)strlen(header) + 8), 0);
    assert_null(tsr_safetensors_load(f, "x", cpu));
    assert_non_null(strstr(tsr_last_error(), "shorter"));
    tsr_safetensors_close(f);
    tsr_device_close(cpu);
}

static void test_bad_lists(void **state)
{
    (void)state;
    tsr_device *cpu = tsr_device_open("cpu");
    assert_int_equal(tsr_scope_begin(), TSR_OK);
    tsr_tensor *t = tsr_full(cpu, TSR_F32, 0, NULL, 1);
    const char *path = path_in_folder("list.safetensors");
    const tsr_named_tensor twice[] = {{"a", t}, {"a", t}}, reserved[] = {{"__metadata__", t}}, none[] = {{"a", NULL}};
    assert_int_equal(tsr_safetensors_save(path, twice, 2, NULL, 0), TSR_INVALID_ARGUMENT);
    assert_int_equal(tsr_safetensors_save(path, reserved, 1, NULL, 0), TSR_INVALID_ARGUMENT);
    assert_int_equal(tsr_safetensors_save(path, none, 1, NULL, 0), TSR_INVALID_ARGUMENT);
    assert_int_equal(tsr_safetensors_save(NULL, twice, 1, NULL, 0), TSR_INVALID_ARGUMENT);
    assert_int_equal(tsr_safetensors_save("/nonexistent/a.safetensors", twice, 1, NULL, 0), TSR_IO_ERROR);
    assert_int_not_equal(access(path, F_OK), 0);

    /* Each allocation failed in turn: an error, no leak, and the file as it was. */
    assert_int_equal(tsr_safetensors_save(path, twice, 1, NULL, 0), TSR_OK);
    size_t size, now;
    uint8_t *was = read_file(path, &size);
    const int files = files_in_folder();
    for (int n = 0;; n++) {
        const int64_t live = host_live_allocations();
        host_alloc_fail_after(n);
        const tsr_status status = tsr_safetensors_save(path, twice, 1, NULL, 0);
        host_alloc_fail_after(-1);
        assert_int_equal(host_live_allocations(), live);
        if (status == TSR_OK)
            break;
        assert_int_equal(status, TSR_OUT_OF_MEMORY);
        uint8_t *is = read_file(path, &now);
        assert_int_equal(now, size);
        assert_memory_equal(is, was, size);
        free(is);
    }
    for (int n = 0;; n++) {
        const int64_t live = host_live_allocations();
        host_alloc_fail_after(n);
        tsr_safetensors *f = tsr_safetensors_open(path);
        host_alloc_fail_after(-1);
        const bool done = f != NULL;
        tsr_safetensors_close(f);
        assert_int_equal(host_live_allocations(), live);
        if (done)
            break;
        assert_int_equal(tsr_last_status(), TSR_OUT_OF_MEMORY);
    }
    free(was);
    assert_int_equal(files_in_folder(), files);
    assert_int_equal(tsr_scope_end(), TSR_OK);
    tsr_device_close(cpu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),  cmocka_unit_test(test_format),     cmocka_unit_test(test_bad_headers),
        cmocka_unit_test(test_bad_lengths), cmocka_unit_test(test_bad_truths), cmocka_unit_test(test_bad_lists),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
