#include "base/error.h"
#include "base/file.h"

#include <dlfcn.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Something in this library whose address can be looked up. */
static const char library_mark;

tsr_status path_join(char *out, size_t capacity, const char *folder, const char *name)
{
    const size_t name_length = strlen(name);
    size_t folder_length = name[0] == '/' ? 0 : strlen(folder);
    const bool slash = folder_length > 0 && folder[folder_length - 1] != '/';

    if (folder_length + slash + name_length >= capacity) {
        const tsr_status status =
            fail(TSR_OUT_OF_RANGE, "the path of %.200s in %.200s is longer than %zu bytes", name, folder, capacity);
        if (capacity > 0)
            out[0] = '\0';
        return status;
    }
    memmove(out, folder, folder_length);
    if (slash)
        out[folder_length++] = '/';
    memcpy(out + folder_length, name, name_length + 1);
    return TSR_OK;
}

void path_parent(char *path)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') /* "a/b/" names the same as "a/b" */
        length--;
    while (length > 0 && path[length - 1] != '/')
        length--;
    while (length > 1 && path[length - 1] == '/')
        length--;
    if (length > 0)
        path[length] = '\0';
    else if (path[0] != '\0')
        memcpy(path, ".", sizeof ".");
}

tsr_status path_of_library(char *out, size_t capacity)
{
    Dl_info about;
    out[0] = '\0';
    if (dladdr(&library_mark, &about) == 0 || about.dli_fname == NULL)
        return fail(TSR_NOT_FOUND, "the system does not tell where the library lies");
    char *resolved = realpath(about.dli_fname, NULL);
    if (resolved == NULL) /* a program started by its bare name has no path here */
        return path_of_executable(out, capacity);
    const size_t length = strlen(resolved);
    if (length < capacity)
        memcpy(out, resolved, length + 1);
    free(resolved);
    return length < capacity ? TSR_OK : fail(TSR_OUT_OF_RANGE, "the library's path is longer than %zu bytes", capacity);
}

tsr_status path_of_executable(char *out, size_t capacity)
{
    const ssize_t length = capacity > 0 ? readlink("/proc/self/exe", out, capacity) : -1;
    if (length < 0)
        return fail_errno("cannot tell where the running program lies (/proc/self/exe)");
    if ((size_t)length >= capacity) {
        out[0] = '\0';
        return fail(TSR_OUT_OF_RANGE, "the path of the running program is longer than %zu bytes", capacity);
    }
    out[length] = '\0';
    return TSR_OK;
}

static const char *environment(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : NULL;
}

tsr_status cache_dir(char *out, size_t capacity)
{
    const char *own = environment("TESSERA_CACHE_DIR");
    if (own != NULL)
        return path_join(out, capacity, "", own);

    /* A relative path is to be ignored, says the XDG Base Directory Specification. */
    const char *caches = environment("XDG_CACHE_HOME");
    if (caches != NULL && caches[0] == '/')
        return path_join(out, capacity, caches, "tessera");

    const char *home = environment("HOME");
    struct passwd entry, *found = NULL;
    char buffer[PATH_SIZE];
    if (home == NULL && getpwuid_r(getuid(), &entry, buffer, sizeof buffer, &found) == 0 && found != NULL &&
        found->pw_dir[0] == '/')
        home = found->pw_dir;
    if (home == NULL) {
        if (capacity > 0)
            out[0] = '\0';
        return fail(TSR_NOT_FOUND, "there is no home folder to keep caches in; set TESSERA_CACHE_DIR");
    }
    return path_join(out, capacity, home, ".cache/tessera");
}
