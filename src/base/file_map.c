/* Files mapped into memory. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"

struct file_mapping {
    void *address;
    size_t size;
};

static tsr_status map(int fd, const char *path, file_mapping *m)
{
    struct stat s;
    if (fstat(fd, &s) != 0)
        return fail(TSR_IO_ERROR, "%s: %s", path, strerror(errno));
    if (!S_ISREG(s.st_mode) || s.st_size == 0 || (uint64_t)s.st_size > SIZE_MAX)
        return fail(TSR_IO_ERROR, "%s is no regular file with contents", path);
    m->size = (size_t)s.st_size;
    m->address = mmap(NULL, m->size, PROT_READ, MAP_SHARED, fd, 0);
    return m->address != MAP_FAILED ? TSR_OK : fail(TSR_IO_ERROR, "%s: %s", path, strerror(errno));
}

tsr_status file_map(const char *path, file_mapping **mapping, const void **bytes, uint64_t *size)
{
    *mapping = NULL;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR ? fail(TSR_NOT_FOUND, "there is no file %s", path)
                                                   : fail(TSR_IO_ERROR, "%s: %s", path, strerror(errno));
    file_mapping *m = host_alloc_zeroed(1, sizeof *m);
    tsr_status status = m == NULL ? tsr_last_status() : map(fd, path, m);
    close(fd);
    if (status != TSR_OK) {
        host_free(m);
        return status;
    }
    *mapping = m;
    *bytes = m->address;
    *size = m->size;
    return TSR_OK;
}

void file_unmap(file_mapping *m)
{
    if (m == NULL)
        return;
    munmap(m->address, m->size);
    host_free(m);
}
