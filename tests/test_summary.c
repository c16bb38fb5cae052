/* Event files for TensorBoard (tessera/summary.h), read back with a reader that shares nothing with the writer: framing, checksums, protocol buffers. */
#include "unit.h"

#include "base/crc32c.h"
#include "base/memory.h"
#include "io_files.h"
#include "tessera/summary.h"

#include <math.h>
#include <stdbool.h>

enum { POINTS = 64 };

typedef struct point {
    char tag[64];
    double wall_time;
    float value;
    int64_t step;
    bool has_value;
    char version[32];
} point;

static point points[POINTS];
static int point_count;

/* Bit by bit, from the polynomial. */
static uint32_t slow_crc32c(const uint8_t *bytes, size_t size)
{
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < size; i++)
        for (int bit = 0; bit < 8; bit++) {
            const uint32_t out = (crc ^ (uint32_t)(bytes[i] >> bit)) & 1;
            crc = (crc >> 1) ^ (out != 0 ? 0x82f63b78u : 0);
        }
    return ~crc;
}

static uint64_t little_endian(const uint8_t *b, int bytes)
{
    uint64_t value = 0;
    for (int i = bytes - 1; i >= 0; i--)
        value = value << 8 | b[i];
    return value;
}

static void check_mask(const uint8_t *bytes, size_t size, const uint8_t *stored)
{
    const uint32_t crc = slow_crc32c(bytes, size);
    const uint32_t want = (uint32_t)((((uint64_t)crc >> 15 | (uint64_t)crc << 17) + 0xa282ead8u) & 0xffffffffu);
    assert_int_equal(little_endian(stored, 4), want);
}

static uint64_t varint(const uint8_t **at, const uint8_t *end)
{
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        assert_true(*at < end);
        const uint8_t byte = *(*at)++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0)
            return value;
    }
    fail_msg("a number of more than ten bytes");
    return 0;
}

/* Fields of Event (level 0), Summary (1) and Summary.Value (2). */
static void take_message(point *p, const uint8_t *at, const uint8_t *end, int level)
{
    while (at < end) {
        const uint64_t key = varint(&at, end), field = key >> 3;
        switch (key & 7) {
        case 0: {
            const uint64_t value = varint(&at, end);
            assert_true(level == 0 && field == 2);
            p->step = (int64_t)value;
            break;
        }
        case 1: {
            const uint64_t bits = little_endian(at, 8);
            assert_true(level == 0 && field == 1 && end - at >= 8);
            memcpy(&p->wall_time, &bits, 8);
            at += 8;
            break;
        }
        case 2: {
            const uint64_t size = varint(&at, end);
            assert_true(size <= (uint64_t)(end - at));
            if ((level == 0 && field == 5) || (level == 1 && field == 1)) {
                take_message(p, at, at + size, level + 1);
            } else {
                char *out = level == 2 ? p->tag : p->version;
                assert_true((level == 2 && field == 1) || (level == 0 && field == 3));
                assert_true(size < 32);
                memcpy(out, at, size);
                out[size] = '\0';
            }
            at += size;
            break;
        }
        case 5: {
            const uint32_t bits = (uint32_t)little_endian(at, 4);
            assert_true(level == 2 && field == 2 && end - at >= 4);
            memcpy(&p->value, &bits, 4);
            p->has_value = true;
            at += 4;
            break;
        }
        default: fail_msg("a field of form %d", (int)(key & 7));
        }
    }
    assert_true(at == end);
}

static void read_events(const char *path)
{
    static uint8_t bytes[1 << 20];
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    const size_t size = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    assert_true(size < sizeof bytes);
    memset(points, 0, sizeof points);
    point_count = 0;
    for (size_t at = 0; at < size;) {
        assert_true(size - at >= 16 && point_count < POINTS);
        const uint64_t length = little_endian(bytes + at, 8);
        assert_true(length <= size - at - 16);
        check_mask(bytes + at, 8, bytes + at + 8);
        check_mask(bytes + at + 12, (size_t)length, bytes + at + 12 + length);
        take_message(&points[point_count++], bytes + at + 12, bytes + at + 12 + length, 0);
        at += 16 + (size_t)length;
    }
}

static void checksums(void **state)
{
    uint8_t bytes[300];
    (void)state;
    assert_int_equal(crc32c("123456789", 9), 0xe3069283u); /* the check value of the catalogue of CRCs */
    assert_int_equal(crc32c("", 0), 0);
    memset(bytes, 0, sizeof bytes);
    assert_int_equal(crc32c(bytes, 32), 0x8a9136aau); /* RFC 3720, B.4 */
    memset(bytes, 0xff, 32);
    assert_int_equal(crc32c(bytes, 32), 0x62a8ab43u);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 37 + 11);
    for (size_t n = 0; n <= sizeof bytes; n++)
        assert_int_equal(crc32c(bytes, n), slow_crc32c(bytes, n));
}

static void scalars(void **state)
{
    (void)state;
    char path[512], runs[512];
    snprintf(runs, sizeof runs, "%s/runs/first", folder);
    tsr_summary_writer *w = tsr_summary_writer_create(runs);
    assert_non_null(w);
    snprintf(path, sizeof path, "%s", tsr_summary_path(w));
    assert_int_equal(strncmp(path, runs, strlen(runs)), 0);
    assert_non_null(strstr(path, "/events.out.tfevents."));
    read_events(path); /* the head is there at once: a training that has just begun shows */
    assert_int_equal(point_count, 1);
    assert_string_equal(points[0].version, "brain.Event:2");

    static const double values[] = {2.302585, 0, -1.5e-30, 1e30, INFINITY};
    static const int64_t steps[] = {0, 1, 127, 128, (int64_t)1 << 40};
    for (int i = 0; i < 5; i++)
        assert_int_equal(tsr_summary_add_scalar(w, "train/loss", values[i], steps[i]), TSR_OK);
    assert_int_equal(tsr_summary_add_scalar(w, "test/accuracy \xc3\xa4", NAN, 7), TSR_OK);
    assert_int_equal(tsr_summary_flush(w), TSR_OK);
    read_events(path);
    assert_int_equal(point_count, 7);
    for (int i = 0; i < 5; i++) {
        assert_string_equal(points[i + 1].tag, "train/loss");
        assert_true(points[i + 1].has_value && points[i + 1].value == (float)values[i]);
        assert_int_equal(points[i + 1].step, steps[i]);
        assert_true(points[i + 1].wall_time >= points[i].wall_time && points[i].wall_time > 1.6e9);
    }
    assert_string_equal(points[6].tag, "test/accuracy \xc3\xa4");
    assert_true(isnan(points[6].value));

    assert_int_equal(tsr_summary_add_scalar(w, "", 1, 1), TSR_INVALID_ARGUMENT);
    assert_int_equal(tsr_summary_add_scalar(w, "x", 1, -1), TSR_INVALID_ARGUMENT);
    assert_int_equal(tsr_summary_add_scalar(w, "last", 1, 1), TSR_OK);
    tsr_summary_writer_destroy(w);
    read_events(path);
    assert_int_equal(point_count, 8);

    /* Two writers never share a file. */
    tsr_summary_writer *a = tsr_summary_writer_create(runs), *b = tsr_summary_writer_create(runs);
    assert_non_null(a);
    assert_non_null(b);
    assert_string_not_equal(tsr_summary_path(a), tsr_summary_path(b));
    unlink(path);
    unlink(tsr_summary_path(a));
    unlink(tsr_summary_path(b));
    tsr_summary_writer_destroy(a);
    tsr_summary_writer_destroy(b);
    rmdir(runs);
    snprintf(runs, sizeof runs, "%s/runs", folder);
    rmdir(runs);
}

static void what_cannot_be(void **state)
{
    (void)state;
    write_file(path_in_folder("file"), "x", 1);
    assert_null(tsr_summary_writer_create(path_in_folder("file/below")));
    assert_int_equal(tsr_last_status(), TSR_IO_ERROR);
    assert_null(tsr_summary_writer_create(NULL));
    assert_int_equal(tsr_last_status(), TSR_INVALID_ARGUMENT);
    tsr_summary_writer_destroy(NULL);
    assert_int_equal(tsr_summary_flush(NULL), TSR_INVALID_ARGUMENT);
}

/* Each allocation in turn fails: an error, no half record, nothing left over. */
static void no_memory(void **state)
{
    (void)state;
    const int64_t before = host_live_allocations();
    bool done = false;
    for (int n = 0; !done; n++) {
        assert_true(n < 100);
        host_alloc_fail_after(n);
        tsr_summary_writer *w = tsr_summary_writer_create(folder);
        done = w != NULL && tsr_summary_add_scalar(w, "a tag", 1, 1) == TSR_OK;
        if (!done)
            assert_int_equal(tsr_last_status(), TSR_OUT_OF_MEMORY);
        host_alloc_fail_after(-1);
        if (w != NULL) {
            assert_int_equal(tsr_summary_flush(w), TSR_OK);
            read_events(tsr_summary_path(w));
            assert_int_equal(point_count, done ? 2 : 1);
        }
        tsr_summary_writer_destroy(w);
        assert_int_equal(host_live_allocations(), before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checksums),
        cmocka_unit_test(scalars),
        cmocka_unit_test(what_cannot_be),
        cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
