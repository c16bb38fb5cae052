/* The IDX format (LeCun et al., The MNIST database, "The IDX file format"): two zero bytes, the element's type, the rank, the sizes
 * as big-endian 32-bit numbers, the elements row-major. Nothing in the file is believed before it is checked. */
#include "data/idx.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zlib.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"

#define REMEDY "fetch the file again"

enum {
    INPUT_BYTES = 1 << 16,
    FIRST_BYTES = 1 << 20,
    DEFLATE_RATIO = 1032 /* the most that deflate can expand, zlib's FAQ */
};

/* The file's bytes, unpacked if it is gzip. */
typedef struct reader {
    const idx_source *source;
    const char *name;
    uint8_t input[INPUT_BYTES];
    bool gzip, ended; /* ended: the source gave all it has */
    bool member_done; /* gzip: between two members */
    z_stream z;       /* its next_in and avail_in are the unread input, also where nothing is packed */
} reader;

static tsr_status refill(reader *r)
{
    if (r->z.avail_in > 0 || r->ended)
        return TSR_OK;
    const int64_t got = r->source->read(r->source->context, r->input, sizeof r->input);
    if (got < 0)
        return tsr_last_status();
    r->ended = got == 0;
    r->z.next_in = r->input;
    r->z.avail_in = (uInt)got;
    return TSR_OK;
}

/* The first two bytes tell gzip; a pipe may give them one by one. */
static tsr_status begin(reader *r)
{
    r->z.next_in = r->input;
    while (r->z.avail_in < 2 && !r->ended) {
        const int64_t got =
            r->source->read(r->source->context, r->input + r->z.avail_in, sizeof r->input - r->z.avail_in);
        if (got < 0)
            return tsr_last_status();
        r->ended = got == 0;
        r->z.avail_in += (uInt)got;
    }
    return TSR_OK;
}

static tsr_status bad_gzip(const reader *r, int code)
{
    if (code == Z_MEM_ERROR)
        return fail(TSR_OUT_OF_MEMORY, "%s: no memory to unpack it", r->name);
    return fail(TSR_CORRUPT_DATA, "%s: its gzip data are damaged (%s); " REMEDY, r->name,
                r->z.msg != NULL ? r->z.msg : "unexpected code");
}

/* What follows a gzip member is another one, or nothing. */
static tsr_status next_member(reader *r)
{
    tsr_status status = refill(r);
    if (status != TSR_OK || r->z.avail_in == 0)
        return status;
    if (r->z.next_in[0] != 0x1f)
        return fail(TSR_CORRUPT_DATA, "%s: there are bytes behind the end of its gzip data; " REMEDY, r->name);
    const int code = inflateReset(&r->z);
    if (code != Z_OK)
        return bad_gzip(r, code);
    r->member_done = false;
    return TSR_OK;
}

static tsr_status read_gzip(reader *r, uint8_t *bytes, size_t capacity, size_t *got)
{
    r->z.next_out = bytes;
    r->z.avail_out = (uInt)capacity;
    while (r->z.avail_out > 0) {
        tsr_status status = r->member_done ? next_member(r) : refill(r);
        if (status != TSR_OK)
            return status;
        if (r->z.avail_in == 0) { /* the source's end */
            if (!r->member_done)
                return fail(TSR_CORRUPT_DATA, "%s: its gzip data end too early; " REMEDY, r->name);
            break;
        }
        const int code = inflate(&r->z, Z_NO_FLUSH);
        if (code == Z_STREAM_END)
            r->member_done = true;
        else if (code != Z_OK && code != Z_BUF_ERROR)
            return bad_gzip(r, code);
    }
    *got = capacity - r->z.avail_out;
    return TSR_OK;
}

/* Up to `capacity` bytes (< 2^31); fewer only at the end. */
static tsr_status read_bytes(reader *r, uint8_t *bytes, size_t capacity, size_t *got)
{
    if (r->gzip)
        return read_gzip(r, bytes, capacity, got);
    *got = 0;
    while (*got < capacity) {
        const tsr_status status = refill(r);
        if (status != TSR_OK)
            return status;
        const size_t n = min_size(r->z.avail_in, capacity - *got);
        if (n == 0)
            break;
        memcpy(bytes + *got, r->z.next_in, n);
        r->z.next_in += n;
        r->z.avail_in -= (uInt)n;
        *got += n;
    }
    return TSR_OK;
}

static tsr_status check_type(const char *name, const uint8_t magic[4])
{
    static const char *const types[] = {[0x09] = "signed bytes",
                                        [0x0B] = "16-bit integers",
                                        [0x0C] = "32-bit integers",
                                        [0x0D] = "32-bit floats",
                                        [0x0E] = "64-bit floats"};
    const unsigned type = magic[2], rank = magic[3];
    const bool known = type == 0x08 || (type < COUNT_OF(types) && types[type] != NULL);
    if (magic[0] != 0 || magic[1] != 0 || !known)
        return fail(TSR_CORRUPT_DATA,
                    "%s is no IDX file: it begins with %02x %02x %02x %02x, not with 00 00 08 and a rank; " REMEDY,
                    name, magic[0], magic[1], type, rank);
    if (type != 0x08)
        return fail(TSR_UNSUPPORTED, "%s holds %s; only IDX files of unsigned bytes (type 08) are read", name,
                    types[type]);
    if (rank == 0)
        return fail(TSR_CORRUPT_DATA, "%s: its header says 0 dimensions; an IDX file has at least 1", name);
    if (rank > TSR_MAX_RANK)
        return fail(TSR_UNSUPPORTED, "%s has %u dimensions; at most %d are read", name, rank, TSR_MAX_RANK);
    return TSR_OK;
}

/* "60000 × 28 × 28" */
static void shape_text(const tsr_idx *idx, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (int i = 0; i < idx->rank && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, i == 0 ? "%lld" : " x %lld", (long long)idx->shape[i]);
}

static tsr_status read_header(reader *r, tsr_idx *idx, size_t *elements)
{
    uint8_t header[4 + 4 * TSR_MAX_RANK];
    size_t got;
    tsr_status status = read_bytes(r, header, 4, &got);
    if (status != TSR_OK)
        return status;
    if (got < 4)
        return fail(TSR_CORRUPT_DATA,
                    "%s ends after %zu bytes; an IDX file begins with 4 bytes of type and rank; " REMEDY, r->name, got);
    status = check_type(r->name, header);
    if (status != TSR_OK)
        return status;

    idx->rank = header[3];
    const size_t sizes = 4 * (size_t)idx->rank;
    status = read_bytes(r, header + 4, sizes, &got);
    if (status != TSR_OK)
        return status;
    if (got < sizes)
        return fail(TSR_CORRUPT_DATA, "%s ends in its header, after %zu of %zu bytes; " REMEDY, r->name, 4 + got,
                    4 + sizes);

    bool empty = false, fits = true;
    *elements = 1;
    for (int i = 0; i < idx->rank; i++) {
        const uint8_t *b = header + 4 + 4 * i;
        const uint32_t size = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
        idx->shape[i] = size;
        empty = empty || size == 0;
        fits = fits && checked_mul_size(*elements, size, elements);
    }
    if (empty)
        *elements = 0;
    else if (!fits || *elements > (size_t)INT64_MAX) {
        char shape[128];
        shape_text(idx, shape, sizeof shape);
        return fail(TSR_CORRUPT_DATA, "%s: its header says %s elements, more than any file can hold; " REMEDY, r->name,
                    shape);
    }
    return TSR_OK;
}

static tsr_status truncated(const reader *r, const tsr_idx *idx, size_t elements, size_t got)
{
    char shape[128];
    shape_text(idx, shape, sizeof shape);
    return fail(TSR_CORRUPT_DATA, "%s is too short: its header says %s = %zu bytes of data, and it holds %zu; " REMEDY,
                r->name, shape, elements, got);
}

/* The array grows with what was really read, so a header that promises terabytes costs nothing. */
static tsr_status read_elements(reader *r, tsr_idx *idx, size_t elements)
{
    size_t capacity = min_size(elements, FIRST_BYTES), got = 0;
    idx->data = host_alloc(capacity);
    while (idx->data != NULL) {
        size_t n;
        const tsr_status status = read_bytes(r, idx->data + got, min_size(capacity - got, (size_t)1 << 30), &n);
        if (status != TSR_OK)
            return status;
        got += n;
        if (got == elements)
            return TSR_OK;
        if (n == 0)
            return truncated(r, idx, elements, got);
        if (got < capacity)
            continue;
        capacity = capacity > elements / 2 ? elements : capacity * 2;
        uint8_t *larger = host_realloc_array(idx->data, capacity, 1);
        if (larger == NULL)
            break;
        idx->data = larger;
    }
    return fail_prefix("%s", r->name);
}

/* Where the source's size is known, a claim that it cannot hold is refused before any memory is taken. */
static tsr_status check_size(const reader *r, const tsr_idx *idx, size_t elements)
{
    const size_t header = 4 + 4 * (size_t)idx->rank;
    if (r->source->size == 0)
        return TSR_OK;
    if (r->gzip)
        return elements / DEFLATE_RATIO > r->source->size ? truncated(r, idx, elements, 0) : TSR_OK;
    return r->source->size < header || elements > r->source->size - header
               ? truncated(r, idx, elements, r->source->size < header ? 0 : (size_t)r->source->size - header)
               : TSR_OK;
}

static tsr_status read_all(reader *r, tsr_idx *idx)
{
    size_t elements = 0, extra = 0;
    uint8_t one;
    tsr_status status = read_header(r, idx, &elements);
    if (status == TSR_OK)
        status = check_size(r, idx, elements);
    if (status == TSR_OK)
        status = read_elements(r, idx, elements);
    if (status == TSR_OK) /* this also verifies the gzip trailer's checksum and length */
        status = read_bytes(r, &one, 1, &extra);
    if (status == TSR_OK && extra > 0) {
        char shape[128];
        shape_text(idx, shape, sizeof shape);
        status = fail(TSR_CORRUPT_DATA, "%s is too long: bytes follow the %zu (%s) that its header says; " REMEDY,
                      r->name, elements, shape);
    }
    return status;
}

tsr_status idx_read_source(const idx_source *source, const char *name, tsr_idx *idx)
{
    memset(idx, 0, sizeof *idx);
    reader *r = host_alloc_zeroed(1, sizeof *r);
    if (r == NULL)
        return tsr_last_status();
    r->source = source;
    r->name = name;
    tsr_status status = begin(r);
    if (status == TSR_OK && r->z.avail_in >= 2 && r->input[0] == 0x1f && r->input[1] == 0x8b) {
        const int code = inflateInit2(&r->z, 15 + 16); /* a gzip wrapper and nothing else */
        status = code == Z_OK ? TSR_OK : bad_gzip(r, code);
        r->gzip = code == Z_OK;
    }
    if (status == TSR_OK)
        status = read_all(r, idx);
    if (r->gzip)
        inflateEnd(&r->z);
    host_free(r);
    if (status != TSR_OK)
        tsr_idx_free(idx);
    return status;
}

/* ---- files -------------------------------------------------------------------------------------------------------- */

typedef struct open_file {
    int descriptor;
    const char *path;
} open_file;

static int64_t read_file(void *context, uint8_t *bytes, size_t capacity)
{
    const open_file *f = context;
    ssize_t got;
    do {
        got = read(f->descriptor, bytes, capacity);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        fail_errno("cannot read %s", f->path);
    return got;
}

tsr_status tsr_idx_read(const char *path, tsr_idx *idx)
{
    if (path == NULL || idx == NULL)
        return fail(TSR_INVALID_ARGUMENT, "tsr_idx_read: %s is NULL", path == NULL ? "the path" : "idx");
    memset(idx, 0, sizeof *idx);

    char packed[PATH_SIZE];
    open_file f = {open(path, O_RDONLY | O_CLOEXEC), path};
    if (f.descriptor < 0 && (errno == ENOENT || errno == ENOTDIR)) {
        const int length = snprintf(packed, sizeof packed, "%s.gz", path);
        if (length > 0 && (size_t)length < sizeof packed)
            f = (open_file){open(packed, O_RDONLY | O_CLOEXEC), packed};
    }
    if (f.descriptor < 0 && (errno == ENOENT || errno == ENOTDIR))
        return fail(TSR_NOT_FOUND, "there is no file %s, nor %s.gz", path, path);
    if (f.descriptor < 0)
        return fail_errno("cannot open %s", f.path);

    struct stat about;
    const bool regular = fstat(f.descriptor, &about) == 0 && S_ISREG(about.st_mode);
    const idx_source source = {read_file, &f, regular ? (uint64_t)about.st_size : 0};
    const tsr_status status = idx_read_source(&source, f.path, idx);
    close(f.descriptor);
    return status;
}

void tsr_idx_free(tsr_idx *idx)
{
    if (idx == NULL)
        return;
    host_free(idx->data);
    memset(idx, 0, sizeof *idx);
}
