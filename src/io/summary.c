/* Event files: records framed as TensorFlow does ("TFRecord": length, its checksum, the bytes, their checksum), each an Event of tensorflow/core/util/event.proto
 * in protocol buffers' encoding, of which a scalar takes four fields. */
#include "tessera/summary.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"

enum { FLUSH_SECONDS = 120, FLUSH_BYTES = 1 << 16 };

struct tsr_summary_writer {
    FILE *file;
    text pending;
    double flushed;
    char path[PATH_SIZE];
};

/* ---- protocol buffers: each field is a key, which is its number and the form of what follows ---- */

enum wire { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

static void put_varint(text *t, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        text_append_char(t, (char)(0x80 | (value & 0x7f)));
    text_append_char(t, (char)value);
}

static void put_little_endian(text *t, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        text_append_char(t, (char)(value >> (8 * i)));
}

static void put_key(text *t, unsigned field, enum wire wire)
{
    put_varint(t, field << 3 | (unsigned)wire);
}

static void put_double(text *t, unsigned field, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_key(t, field, WIRE_64);
    put_little_endian(t, bits, 8);
}

static void put_float(text *t, unsigned field, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_key(t, field, WIRE_32);
    put_little_endian(t, bits, 4);
}

static void put_bytes(text *t, unsigned field, const void *bytes, size_t size)
{
    put_key(t, field, WIRE_BYTES);
    put_varint(t, size);
    text_append_bytes(t, bytes, size);
}

static void put_message(text *t, unsigned field, const text *message)
{
    put_bytes(t, field, text_string(message), message->length);
}

/* ---- records ---- */

/* A checksum of what holds checksums is bad at its work, so they are changed a little ("masked"). */
static uint32_t masked(const void *bytes, size_t size)
{
    const uint32_t crc = crc32c(bytes, size);
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

static tsr_status write_pending(tsr_summary_writer *w)
{
    const size_t size = w->pending.length;
    w->pending.length = 0;
    w->flushed = clock_seconds();
    if (fwrite(text_string(&w->pending), 1, size, w->file) != size || fflush(w->file) != 0)
        return fail_errno("writing %s", w->path);
    return TSR_OK;
}

/* Whole records only go to the file, so that a reader that comes early finds no half of one. Takes the event's memory. */
static tsr_status put_record(tsr_summary_writer *w, text *event)
{
    const size_t before = w->pending.length;
    text head = {0};
    put_little_endian(&head, event->length, 8);
    put_little_endian(&head, masked(text_string(&head), head.length), 4);
    text_append_bytes(&w->pending, text_string(&head), head.length);
    text_append_bytes(&w->pending, text_string(event), event->length);
    put_little_endian(&w->pending, masked(text_string(event), event->length), 4);
    const bool whole = !head.failed && !event->failed && !w->pending.failed;
    text_free(&head);
    text_free(event);
    if (!whole) {
        w->pending.failed = false;
        w->pending.length = before;
        return fail(TSR_OUT_OF_MEMORY, "there is no memory for an event of %s", w->path);
    }
    const bool due = w->pending.length >= FLUSH_BYTES || clock_seconds() - w->flushed >= FLUSH_SECONDS;
    return due ? write_pending(w) : TSR_OK;
}

static tsr_status put_version(tsr_summary_writer *w)
{
    static const char version[] = "brain.Event:2";
    text event = {0};
    put_double(&event, 1, clock_unix_seconds());
    put_bytes(&event, 3, version, sizeof version - 1);
    return put_record(w, &event);
}

/* ---- the writer ---- */

static tsr_status open_file(tsr_summary_writer *w, const char *folder)
{
    static atomic_uint writers;
    char host[128] = "", name[256];
    tsr_status status = file_make_dirs(folder);
    if (status != TSR_OK)
        return status;
    if (gethostname(host, sizeof host - 1) != 0 || host[0] == '\0' || strchr(host, '/') != NULL)
        strcpy(host, "localhost");
    snprintf(name, sizeof name, "events.out.tfevents.%.0f.%s.%ld.%u", clock_unix_seconds(), host, (long)getpid(),
             atomic_fetch_add(&writers, 1));
    status = path_join(w->path, sizeof w->path, folder, name);
    if (status != TSR_OK)
        return status;
    w->file = fopen(w->path, "wbxe");
    return w->file == NULL ? fail_errno("opening %s", w->path) : TSR_OK;
}

tsr_summary_writer *tsr_summary_writer_create(const char *folder)
{
    if (folder == NULL || folder[0] == '\0') {
        fail(TSR_INVALID_ARGUMENT, "a summary writer needs a folder");
        return NULL;
    }
    tsr_summary_writer *w = host_alloc_zeroed(1, sizeof *w);
    if (w == NULL)
        return NULL;
    if (open_file(w, folder) == TSR_OK && put_version(w) == TSR_OK && write_pending(w) == TSR_OK)
        return w;
    error_state why;
    error_save(&why);
    tsr_summary_writer_destroy(w);
    error_restore(&why);
    return NULL;
}

void tsr_summary_writer_destroy(tsr_summary_writer *w)
{
    if (w == NULL)
        return;
    if (w->file != NULL) {
        write_pending(w);
        fclose(w->file);
    }
    text_free(&w->pending);
    host_free(w);
}

/* Event { wall_time = 1; step = 2; summary = 5 { value = 1 { tag = 1; simple_value = 2 } } } */
tsr_status tsr_summary_add_scalar(tsr_summary_writer *w, const char *tag, double value, int64_t step)
{
    text point = {0}, summary = {0}, event = {0};
    if (w == NULL)
        return tsr_last_status() != TSR_OK ? tsr_last_status() : TSR_INVALID_ARGUMENT;
    if (tag == NULL || tag[0] == '\0' || step < 0)
        return fail(TSR_INVALID_ARGUMENT, "tsr_summary_add_scalar: %s",
                    step < 0 ? "the step is negative" : "there is no tag");
    put_bytes(&point, 1, tag, strlen(tag));
    put_float(&point, 2, (float)value);
    put_message(&summary, 1, &point);
    put_double(&event, 1, clock_unix_seconds());
    put_key(&event, 2, WIRE_VARINT);
    put_varint(&event, (uint64_t)step);
    put_message(&event, 5, &summary);
    event.failed = event.failed || point.failed || summary.failed;
    text_free(&point);
    text_free(&summary);
    return put_record(w, &event);
}

tsr_status tsr_summary_flush(tsr_summary_writer *w)
{
    return w == NULL ? TSR_INVALID_ARGUMENT : write_pending(w);
}

const char *tsr_summary_path(const tsr_summary_writer *w)
{
    return w == NULL ? "" : w->path;
}
