/* Reads at any place of a file, and the names of its older versions. */
#include "base/checked.h"
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct file_reader {
    int descriptor;
    char *path;
};

tsr_status file_reader_open(const char *path, file_reader **reader, uint64_t *size)
{
    struct stat about;
    *reader = NULL;
    /* Not blocking: a pipe's open would wait for its writer. */
    const int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0)
        return errno == ENOENT || errno == ENOTDIR ? fail(TSR_NOT_FOUND, "there is no file %s", path)
                                                   : fail_errno("cannot open %s", path);
    if (fstat(descriptor, &about) != 0 || !S_ISREG(about.st_mode)) {
        close(descriptor);
        return fail(TSR_IO_ERROR, "cannot read %s: it is no regular file", path);
    }
    file_reader *r = host_alloc_zeroed(1, sizeof *r);
    char *copy = host_strdup(path);
    if (r == NULL || copy == NULL) {
        host_free(r);
        host_free(copy);
        close(descriptor);
        return TSR_OUT_OF_MEMORY;
    }
    *r = (file_reader){descriptor, copy};
    *size = (uint64_t)about.st_size;
    *reader = r;
    return TSR_OK;
}

tsr_status file_reader_at(const file_reader *reader, uint64_t offset, void *bytes, size_t size)
{
    uint8_t *next = bytes;
    while (size > 0) {
        const ssize_t got = pread(reader->descriptor, next, min_size(size, (size_t)1 << 30), (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail_errno("cannot read %s", reader->path);
        if (got == 0)
            return fail(TSR_CORRUPT_DATA, "%s has become shorter while it was read", reader->path);
        next += got;
        offset += (uint64_t)got;
        size -= (size_t)got;
    }
    return TSR_OK;
}

void file_reader_close(file_reader *reader)
{
    if (reader == NULL)
        return;
    close(reader->descriptor);
    host_free(reader->path);
    host_free(reader);
}

static bool version_name(char out[PATH_SIZE], const char *path, int version)
{
    const int length = snprintf(out, PATH_SIZE, version > 0 ? "%s.%d" : "%s", path, version);
    return length > 0 && length < PATH_SIZE;
}

tsr_status file_rotate(const char *path, int keep)
{
    char from[PATH_SIZE], to[PATH_SIZE];
    if (keep < 2 || !file_exists(path))
        return TSR_OK;
    for (int i = keep - 2; i >= 0; i--) {
        if (!version_name(from, path, i) || !version_name(to, path, i + 1))
            return fail(TSR_OUT_OF_RANGE, "a path of %zu bytes is too long", strlen(path));
        if (i > 0) {
            if (rename(from, to) != 0 && errno != ENOENT)
                return fail_errno("cannot rename %s to %s", from, to);
            continue;
        }
        /* A second name, so that there is a file at `path` at every moment; where a file system has none, a rename. */
        if (unlink(to) != 0 && errno != ENOENT)
            return fail_errno("cannot replace %s", to);
        if (link(from, to) != 0 && rename(from, to) != 0)
            return fail_errno("cannot keep %s as %s", from, to);
    }
    return TSR_OK;
}
