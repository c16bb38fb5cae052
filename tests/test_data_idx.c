/* IDX files: good ones, plain and packed, and a table of bad ones. */
#include "unit.h"

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "data/idx.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zlib.h>

static char folder[256];

static int make_folder(void **state)
{
    const char *base = getenv("TMPDIR");
    (void)state;
    snprintf(folder, sizeof folder, "%s/tessera-idx-XXXXXX", base != NULL ? base : "/tmp");
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

static const char *path_in_folder(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_file(const char *name, const void *bytes, size_t size)
{
    FILE *f = fopen(path_in_folder(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

/* One gzip member. */
static size_t pack(const void *bytes, size_t size, uint8_t *out, size_t capacity)
{
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (Bytef *)(uintptr_t)bytes;
    z.avail_in = (uInt)size;
    z.next_out = out;
    z.avail_out = (uInt)capacity;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return capacity - z.avail_out;
}

static const uint8_t good[] = {0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 10, 11, 12, 20, 21, 255};

static void check_good(const char *name)
{
    tsr_idx idx;
    assert_int_equal(tsr_idx_read(path_in_folder(name), &idx), TSR_OK);
    assert_int_equal(idx.rank, 2);
    assert_int_equal(idx.shape[0], 2);
    assert_int_equal(idx.shape[1], 3);
    assert_memory_equal(idx.data, good + 12, 6);
    tsr_idx_free(&idx);
    assert_null(idx.data);
    tsr_idx_free(&idx);
}

static void reads_plain_and_packed_files(void **state)
{
    uint8_t packed[256];
    (void)state;

    write_file("plain", good, sizeof good);
    check_good("plain");

    const size_t size = pack(good, sizeof good, packed, sizeof packed);
    write_file("twin.gz", packed, size);
    check_good("twin"); /* only twin.gz is there */
    check_good("twin.gz");

    write_file("packed", packed, size); /* told by its bytes, not by its name */
    check_good("packed");

    /* Two members make one file (RFC 1952, 2.2). */
    const size_t first = pack(good, 7, packed, sizeof packed);
    const size_t second = pack(good + 7, sizeof good - 7, packed + first, sizeof packed - first);
    write_file("members", packed, first + second);
    check_good("members");

    /* The plain file goes first. */
    write_file("plain.gz", "junk", 4);
    check_good("plain");

    const char *const names[] = {"plain", "plain.gz", "twin.gz", "packed", "members"};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        unlink(path_in_folder(names[i]));
}

static void reads_every_rank_and_empty_arrays(void **state)
{
    (void)state;
    for (int rank = 1; rank <= TSR_MAX_RANK; rank++) {
        uint8_t bytes[4 + 4 * TSR_MAX_RANK + 256] = {0, 0, 8, (uint8_t)rank};
        for (int i = 0; i < rank; i++)
            bytes[4 + 4 * i + 3] = 2;
        for (int i = 0; i < 1 << rank; i++)
            bytes[4 + 4 * rank + i] = (uint8_t)i;
        write_file("rank", bytes, (size_t)(4 + 4 * rank + (1 << rank)));
        tsr_idx idx;
        assert_int_equal(tsr_idx_read(path_in_folder("rank"), &idx), TSR_OK);
        assert_int_equal(idx.rank, rank);
        for (int i = 0; i < 1 << rank; i++)
            assert_int_equal(idx.data[i], i);
        tsr_idx_free(&idx);
    }
    /* A size of 0 makes an array of nothing, however large the others are. */
    const uint8_t empty[] = {0, 0, 8, 3, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0};
    write_file("rank", empty, sizeof empty);
    tsr_idx idx;
    assert_int_equal(tsr_idx_read(path_in_folder("rank"), &idx), TSR_OK);
    assert_int_equal(idx.shape[0], 4294967295);
    assert_int_equal(idx.shape[2], 0);
    tsr_idx_free(&idx);
    unlink(path_in_folder("rank"));
}

/* 3 MB that pack well: the array has to grow, and the input is taken in pieces. */
static void reads_large_packed_files(void **state)
{
    enum { ELEMENTS = 3000000, SIZE = 8 + ELEMENTS };
    uint8_t *bytes = calloc(1, SIZE), *packed = malloc(SIZE);
    (void)state;
    memcpy(bytes,
           (const uint8_t[]){0, 0, 8, 1, ELEMENTS >> 24, (ELEMENTS >> 16) & 255, (ELEMENTS >> 8) & 255, ELEMENTS & 255},
           8);
    for (uint32_t i = 0, x = 1; i < ELEMENTS; i++, x = x * 1664525 + 1013904223)
        bytes[8 + i] = i < ELEMENTS / 2 ? 0 : (uint8_t)(x >> 24);
    write_file("large", packed, pack(bytes, SIZE, packed, SIZE));
    tsr_idx idx;
    assert_int_equal(tsr_idx_read(path_in_folder("large"), &idx), TSR_OK);
    assert_memory_equal(idx.data, bytes + 8, ELEMENTS);
    tsr_idx_free(&idx);
    unlink(path_in_folder("large"));
    free(bytes);
    free(packed);
}

/* ---- bad files ---------------------------------------------------------------------------------------------------- */

typedef struct bad {
    const char *what;
    enum { PLAIN, GZIP } form;
    int cut;            /* bytes taken off the end of the (packed) file */
    int flip;           /* if not 0: byte of the packed file, from the end if negative, in which a bit is changed */
    const char *behind; /* text put behind the (packed) file */
    size_t size;
    uint8_t bytes[48];
    tsr_status status;
    const char *says;
} bad;

#define B(...)  .size = sizeof((uint8_t[]){__VA_ARGS__}), .bytes = {__VA_ARGS__}
#define GOOD    B(0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 10, 11, 12, 20, 21, 255)
#define CORRUPT .status = TSR_CORRUPT_DATA, .says =
#define REFUSED .status = TSR_UNSUPPORTED, .says =

static const bad bad_files[] = {
    {"nothing", .size = 0, CORRUPT "ends after 0 bytes"},
    {"1 byte", B(0), CORRUPT "ends after 1 bytes"},
    {"2 bytes", B(0, 0), CORRUPT "ends after 2 bytes"},
    {"3 bytes", B(0, 0, 8), CORRUPT "ends after 3 bytes"},
    {"text", B('h', 'e', 'l', 'l', 'o', ' ', 'w', 'o', 'r', 'l', 'd'), CORRUPT "68 65 6c 6c"},
    {"a web page", B('<', '!', 'D', 'O', 'C', 'T', 'Y', 'P', 'E'), CORRUPT "no IDX file"},
    {"a zip archive", B('P', 'K', 3, 4, 20, 0, 0, 0), CORRUPT "50 4b 03 04"},
    {"first byte", B(1, 0, 8, 1, 0, 0, 0, 1, 5), CORRUPT "01 00 08 01"},
    {"second byte", B(0, 1, 8, 1, 0, 0, 0, 1, 5), CORRUPT "00 01 08 01"},
    {"little endian", B(1, 8, 0, 0, 1, 0, 0, 0, 5), CORRUPT "01 08 00 00"},
    {"type 0", B(0, 0, 0, 1, 0, 0, 0, 1, 5), CORRUPT "no IDX file"},
    {"type 7", B(0, 0, 7, 1, 0, 0, 0, 1, 5), CORRUPT "no IDX file"},
    {"type 10", B(0, 0, 10, 1, 0, 0, 0, 1, 5), CORRUPT "no IDX file"},
    {"type 15", B(0, 0, 15, 1, 0, 0, 0, 1, 5), CORRUPT "no IDX file"},
    {"type 255", B(0, 0, 255, 1, 0, 0, 0, 1, 5), CORRUPT "no IDX file"},
    {"signed bytes", B(0, 0, 9, 1, 0, 0, 0, 1, 5), REFUSED "signed bytes"},
    {"16-bit integers", B(0, 0, 11, 1, 0, 0, 0, 1, 5, 5), REFUSED "16-bit integers"},
    {"32-bit integers", B(0, 0, 12, 1, 0, 0, 0, 1, 5, 5, 5, 5), REFUSED "32-bit integers"},
    {"32-bit floats", B(0, 0, 13, 1, 0, 0, 0, 1, 5, 5, 5, 5), REFUSED "32-bit floats"},
    {"64-bit floats", B(0, 0, 14, 1, 0, 0, 0, 0), REFUSED "64-bit floats"},
    {"rank 0", B(0, 0, 8, 0), CORRUPT "0 dimensions"},
    {"rank 0, data", B(0, 0, 8, 0, 7), CORRUPT "0 dimensions"},
    {"rank 9", B(0, 0, 8, 9, 0, 0, 0, 1, 0, 0, 0, 1), REFUSED "9 dimensions; at most 8"},
    {"rank 255", B(0, 0, 8, 255), REFUSED "255 dimensions"},
    {"no sizes", B(0, 0, 8, 1), CORRUPT "ends in its header, after 4 of 8 bytes"},
    {"half a size", B(0, 0, 8, 1, 0, 0), CORRUPT "after 6 of 8"},
    {"one size of two", B(0, 0, 8, 2, 0, 0, 0, 1), CORRUPT "after 8 of 12"},
    {"seven sizes of eight",
     B(0, 0, 8, 8, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1),
     CORRUPT "after 32 of 36"},
    {"no data", B(0, 0, 8, 1, 0, 0, 0, 1), CORRUPT "too short: its header says 1 = 1 bytes of data, and it holds 0"},
    {"one byte short", GOOD, .cut = 1, CORRUPT "says 2 x 3 = 6 bytes of data, and it holds 5"},
    {"all data gone", GOOD, .cut = 6, CORRUPT "holds 0"},
    {"one byte more", GOOD, .behind = "x", CORRUPT "too long: bytes follow the 6 (2 x 3)"},
    {"a line more", GOOD, .behind = "\nmore of it\n", CORRUPT "too long"},
    {"data behind an empty array", B(0, 0, 8, 2, 0, 0, 0, 0, 0, 0, 0, 3, 1), CORRUPT "too long"},
    {"4 GB promised", B(0, 0, 8, 1, 255, 255, 255, 255, 1, 2, 3),
     CORRUPT "4294967295 = 4294967295 bytes of data, and it holds 3"},
    {"2 TB promised", B(0, 0, 8, 2, 0, 0, 255, 255, 1, 255, 255, 255, 1), CORRUPT "holds 1;"},
    {"2^63 promised", B(0, 0, 8, 2, 128, 0, 0, 0, 255, 255, 255, 255, 1), CORRUPT "too short"},
    {"2^64 promised", B(0, 0, 8, 3, 0, 1, 0, 0, 0, 1, 0, 0, 255, 255, 255, 255), CORRUPT "65536 x 65536 x 4294967295"},
    {"the product wraps to 0", B(0, 0, 8, 3, 128, 0, 0, 0, 128, 0, 0, 0, 0, 0, 0, 4), CORRUPT "more than any file"},
    {"the product wraps to 1",
     B(0, 0, 8, 8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
       255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255),
     CORRUPT "more than any file"},
    {"gzip: of text", GZIP, B('h', 'e', 'l', 'l', 'o'), CORRUPT "68 65 6c 6c"},
    {"gzip: of nothing", GZIP, .size = 0, CORRUPT "ends after 0 bytes"},
    {"gzip: of a gzip file", GZIP, B(0x1f, 0x8b, 8, 0, 0, 0, 0, 0), CORRUPT "1f 8b 08 00"},
    {"gzip: short data", GZIP, B(0, 0, 8, 1, 0, 0, 0, 9, 1, 2, 3), CORRUPT "says 9 = 9 bytes of data, and it holds 3"},
    {"gzip: long data", GZIP, B(0, 0, 8, 1, 0, 0, 0, 1, 1, 2, 3), CORRUPT "too long"},
    {"gzip: 4 GB promised", GZIP, B(0, 0, 8, 1, 255, 255, 255, 255, 1, 2, 3), CORRUPT "too short"},
    {"gzip: only the magic", B(0x1f, 0x8b), CORRUPT "end too early"},
    {"gzip: half a header", B(0x1f, 0x8b, 8, 0, 0), CORRUPT "end too early"},
    {"gzip: another method", B(0x1f, 0x8b, 9, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3), CORRUPT "unknown compression method"},
    {"gzip: reserved flags", B(0x1f, 0x8b, 8, 0xE0, 0, 0, 0, 0, 0, 3, 1, 2, 3), CORRUPT "unknown header flags"},
    {"gzip: no trailer", GZIP, GOOD, .cut = 8, CORRUPT "end too early"},
    {"gzip: half a trailer", GZIP, GOOD, .cut = 3, CORRUPT "end too early"},
    {"gzip: cut in its data", GZIP, GOOD, .cut = 14, CORRUPT "end too early"},
    {"gzip: wrong checksum", GZIP, GOOD, .flip = -8, CORRUPT "incorrect data check"},
    {"gzip: wrong length", GZIP, GOOD, .flip = -1, CORRUPT "incorrect length check"},
    {"gzip: a bit in its data", GZIP, GOOD, .flip = 20, CORRUPT "damaged"},
    {"gzip: an invalid block", B(0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 7, 0, 0, 0), CORRUPT "invalid block type"},
    {"gzip: text behind it", GZIP, GOOD, .behind = "trailing", CORRUPT "bytes behind the end of its gzip data"},
    {"gzip: half a member behind it", GZIP, GOOD, .behind = "\x1f\x8b\x08", CORRUPT "end too early"},
    {"gzip: no member behind it", GZIP, GOOD, .behind = "\x1fzzzzzzzzzzz", CORRUPT "incorrect header check"},
};

static size_t build(const bad *row, uint8_t out[512])
{
    size_t size = row->size;
    memcpy(out, row->bytes, size);
    if (row->form == GZIP)
        size = pack(row->bytes, row->size, out, 256);
    if (row->flip != 0)
        out[row->flip < 0 ? (size_t)((int)size + row->flip) : (size_t)row->flip] ^= 0x10;
    size -= (size_t)row->cut;
    if (row->behind != NULL) {
        memcpy(out + size, row->behind, strlen(row->behind));
        size += strlen(row->behind);
    }
    return size;
}

static void check_refused(const bad *row, tsr_status status, const tsr_idx *idx)
{
    const bool right = status == row->status && strstr(tsr_last_error(), row->says) != NULL;
    if (!right)
        print_error("%s: %s, \"%s\"; expected %s with \"%s\"\n", row->what, tsr_status_name(status), tsr_last_error(),
                    tsr_status_name(row->status), row->says);
    assert_true(right);
    assert_null(idx->data);
    assert_int_equal(idx->rank, 0);
}

static void refuses_bad_files(void **state)
{
    const int64_t before = host_live_allocations();
    (void)state;
    assert_true(COUNT_OF(bad_files) >= 40);
    for (size_t i = 0; i < COUNT_OF(bad_files); i++) {
        uint8_t bytes[512];
        const size_t size = build(&bad_files[i], bytes);
        tsr_idx idx;
        write_file("bad", bytes, size);
        tsr_clear_error();
        check_refused(&bad_files[i], tsr_idx_read(path_in_folder("bad"), &idx), &idx);
        assert_non_null(strstr(tsr_last_error(), path_in_folder("bad"))); /* which file it was */
    }
    unlink(path_in_folder("bad"));
    assert_int_equal(host_live_allocations(), before);
}

typedef struct drip {
    const uint8_t *next;
    size_t left;
} drip;

/* A source that gives one byte at a time and does not know its size, like a slow pipe. */
static int64_t read_drip(void *context, uint8_t *bytes, size_t capacity)
{
    drip *d = context;
    if (d->left == 0 || capacity == 0)
        return 0;
    *bytes = *d->next++;
    d->left--;
    return 1;
}

static void refuses_the_same_from_a_pipe(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(bad_files); i++) {
        uint8_t bytes[512];
        drip d = {bytes, build(&bad_files[i], bytes)};
        tsr_idx idx;
        tsr_clear_error();
        check_refused(&bad_files[i], idx_read_source(&(idx_source){read_drip, &d, 0}, "a pipe", &idx), &idx);
    }
}

/* A header may promise anything; memory follows the data. Nobody has 2^62 bytes, so taking them first would fail otherwise. */
static void promises_take_no_memory(void **state)
{
    const uint8_t promise[] = {0, 0, 8, 2, 64, 0, 0, 0, 255, 255, 255, 255, 1, 2, 3};
    drip d = {promise, sizeof promise};
    tsr_idx idx;
    (void)state;
    assert_int_equal(idx_read_source(&(idx_source){read_drip, &d, 0}, "a pipe", &idx), TSR_CORRUPT_DATA);
    assert_non_null(strstr(tsr_last_error(), "4611686017353646080 bytes of data, and it holds 3"));
}

static void survives_want_of_memory(void **state)
{
    enum { ELEMENTS = 3 << 20 };
    uint8_t *bytes = calloc(1, 8 + ELEMENTS), *packed = malloc(ELEMENTS);
    int failures = 0;
    (void)state;
    memcpy(bytes, (const uint8_t[]){0, 0, 8, 1, 0, 0x30, 0, 0}, 8);
    write_file("memory", packed, pack(bytes, 8 + ELEMENTS, packed, ELEMENTS));
    for (int allowed = 0;; allowed++) {
        tsr_idx idx;
        host_alloc_fail_after(allowed);
        const tsr_status status = tsr_idx_read(path_in_folder("memory"), &idx);
        host_alloc_fail_after(-1);
        if (status == TSR_OK) {
            tsr_idx_free(&idx);
            break;
        }
        assert_int_equal(status, TSR_OUT_OF_MEMORY);
        failures++;
    }
    assert_true(failures >= 3); /* the reader, the array, its growth */
    unlink(path_in_folder("memory"));
    free(bytes);
    free(packed);
}

static void says_what_is_not_there(void **state)
{
    tsr_idx idx;
    (void)state;
    assert_int_equal(tsr_idx_read("/nonexistent/train", &idx), TSR_NOT_FOUND);
    assert_non_null(strstr(tsr_last_error(), "/nonexistent/train"));
    assert_non_null(strstr(tsr_last_error(), ".gz"));
    assert_int_equal(tsr_idx_read(folder, &idx), TSR_IO_ERROR); /* a folder */
    assert_int_equal(tsr_idx_read(NULL, &idx), TSR_INVALID_ARGUMENT);
    assert_int_equal(tsr_idx_read("x", NULL), TSR_INVALID_ARGUMENT);
    tsr_idx_free(NULL);

    write_file("secret", good, sizeof good);
    assert_int_equal(chmod(path_in_folder("secret"), 0), 0);
    if (geteuid() == 0)
        print_message("a file without permission: skipped, root may read everything\n");
    else
        assert_int_equal(tsr_idx_read(path_in_folder("secret"), &idx), TSR_IO_ERROR);
    unlink(path_in_folder("secret"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_plain_and_packed_files), cmocka_unit_test(reads_every_rank_and_empty_arrays),
        cmocka_unit_test(reads_large_packed_files),     cmocka_unit_test(refuses_bad_files),
        cmocka_unit_test(refuses_the_same_from_a_pipe), cmocka_unit_test(promises_take_no_memory),
        cmocka_unit_test(survives_want_of_memory),      cmocka_unit_test(says_what_is_not_there),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
