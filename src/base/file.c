#include "base/file.h"

#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static tsr_status too_large(const char *path, size_t limit)
{
    return fail(TSR_OUT_OF_RANGE, "%s is larger than the %zu bytes that are accepted here", path, limit);
}

/* Reads to the end. The size that stat told is only a first guess: a pipe has none, and a file may still grow. */
static tsr_status read_descriptor(int descriptor, const char *path, uint8_t **bytes, size_t *size, size_t limit)
{
    struct stat about;
    size_t capacity = 4096, length = 0;

    if (fstat(descriptor, &about) == 0 && S_ISREG(about.st_mode)) {
        if ((uint64_t)about.st_size > limit)
            return too_large(path, limit);
        capacity = (size_t)about.st_size + 2; /* a byte to find the end, and one for the final 0 */
    }
    uint8_t *buffer = host_alloc(capacity);
    if (buffer == NULL)
        return fail_prefix("reading %s", path);

    for (;;) {
        const ssize_t got = read(descriptor, buffer + length, min_size(capacity - 1 - length, (size_t)1 << 30));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            const tsr_status status = fail_errno("cannot read %s", path);
            host_free(buffer);
            return status;
        }
        length += (size_t)got;
        if (length > limit) {
            host_free(buffer);
            return too_large(path, limit);
        }
        if (got == 0)
            break;
        if (length == capacity - 1) {
            uint8_t *larger = host_realloc_array(buffer, capacity, 2);
            if (larger == NULL) {
                host_free(buffer);
                return fail_prefix("reading %s", path);
            }
            buffer = larger;
            capacity *= 2;
        }
    }
    buffer[length] = 0;
    *bytes = buffer;
    *size = length;
    return TSR_OK;
}

tsr_status file_read_all(const char *path, uint8_t **bytes, size_t *size, size_t limit)
{
    *bytes = NULL;
    *size = 0;
    const int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) {
        if (errno == ENOENT || errno == ENOTDIR)
            return fail(TSR_NOT_FOUND, "there is no file %s", path);
        return fail_errno("cannot open %s", path);
    }
    const tsr_status status = read_descriptor(descriptor, path, bytes, size, limit);
    close(descriptor);
    return status;
}

static bool write_pieces(int descriptor, const file_piece *pieces, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const uint8_t *next = pieces[i].bytes;
        size_t left = pieces[i].size;
        while (left > 0) {
            const ssize_t put = write(descriptor, next, min_size(left, (size_t)1 << 30));
            if (put < 0 && errno != EINTR)
                return false;
            if (put > 0) {
                next += put;
                left -= (size_t)put;
            }
        }
    }
    return true;
}

/* A rename is on the disk when its folder is. Some file systems cannot sync a folder; the file is in place all the
 * same. */
static void sync_folder(const char *folder)
{
    const int descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor >= 0) {
        fsync(descriptor);
        close(descriptor);
    }
}

/* Opens a new file of a name of its own. Not mkstemp, whose files nobody else may read. */
static int open_temporary(char *path, size_t capacity, const char *folder)
{
    static atomic_uint counter;
    for (int attempt = 0; attempt < 100; attempt++) {
        char name[64];
        snprintf(name, sizeof name, ".tessera-%ld-%u.tmp", (long)getpid(), atomic_fetch_add(&counter, 1));
        if (path_join(path, capacity, folder, name) != TSR_OK) {
            errno = ENAMETOOLONG;
            return -1;
        }
        const int descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (descriptor >= 0 || errno != EEXIST)
            return descriptor;
    }
    return -1;
}

static tsr_status replace_file(const char *path, const file_piece *pieces, size_t count, bool durable)
{
    char folder[PATH_SIZE], temporary[PATH_SIZE];

    if (strlen(path) >= sizeof folder)
        return fail(TSR_OUT_OF_RANGE, "a path of %zu bytes is too long", strlen(path));
    strcpy(folder, path);
    path_parent(folder);

    const int descriptor = open_temporary(temporary, sizeof temporary, folder);
    if (descriptor < 0)
        return fail_errno("cannot write %s", path);

    bool done = write_pieces(descriptor, pieces, count) && (!durable || fsync(descriptor) == 0);
    int reason = errno;
    if (close(descriptor) != 0 && done) { /* where a network file system tells that the disk is full */
        reason = errno;
        done = false;
    }
    if (done && rename(temporary, path) != 0) {
        reason = errno;
        done = false;
    }
    if (!done) {
        unlink(temporary);
        errno = reason;
        return fail_errno("cannot write %s", path);
    }
    if (durable)
        sync_folder(folder);
    return TSR_OK;
}

/* A device or a pipe cannot be replaced, only written to. */
static tsr_status write_in_place(const char *path, const file_piece *pieces, size_t count)
{
    const int descriptor = open(path, O_WRONLY | O_CLOEXEC);
    if (descriptor < 0)
        return fail_errno("cannot write %s", path);
    bool done = write_pieces(descriptor, pieces, count);
    int reason = errno;
    if (close(descriptor) != 0 && done) {
        reason = errno;
        done = false;
    }
    if (done)
        return TSR_OK;
    errno = reason;
    return fail_errno("cannot write %s", path);
}

tsr_status file_write_pieces(const char *path, const file_piece *pieces, size_t count, bool durable)
{
    struct stat about;
    if (stat(path, &about) == 0) {
        if (S_ISDIR(about.st_mode))
            return fail(TSR_IO_ERROR, "cannot write %s: it is a folder", path);
        if (!S_ISREG(about.st_mode))
            return write_in_place(path, pieces, count);
    }
    /* A link stays, and what it points to is replaced; a link to nothing is replaced itself. */
    if (lstat(path, &about) == 0 && S_ISLNK(about.st_mode)) {
        char *target = realpath(path, NULL);
        if (target != NULL) {
            const tsr_status status = replace_file(target, pieces, count, durable);
            free(target);
            return status;
        }
    }
    return replace_file(path, pieces, count, durable);
}

tsr_status file_write_atomic(const char *path, const void *bytes, size_t size)
{
    return file_write_pieces(path, &(file_piece){bytes, size}, 1, true);
}

bool file_exists(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0;
}

static bool is_folder(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

tsr_status file_make_dirs(const char *path)
{
    char partial[PATH_SIZE];
    const size_t length = strlen(path);

    if (length == 0)
        return fail(TSR_INVALID_ARGUMENT, "the name of the folder to make is empty");
    if (length >= sizeof partial)
        return fail(TSR_OUT_OF_RANGE, "a path of %zu bytes is too long", length);
    memcpy(partial, path, length + 1);
    for (size_t i = 1; i <= length; i++) {
        if (partial[i] != '/' && partial[i] != '\0')
            continue;
        partial[i] = '\0';
        /* Looked at after the failure: another process may make it at this moment, and a folder above may be read-only.
         */
        if (mkdir(partial, 0777) != 0) {
            const int reason = errno;
            if (!is_folder(partial)) {
                errno = reason == EEXIST ? ENOTDIR : reason;
                return i < length ? fail_errno("cannot make the folder %s for want of %s", path, partial)
                                  : fail_errno("cannot make the folder %s", path);
            }
        }
        partial[i] = path[i];
    }
    return TSR_OK;
}
