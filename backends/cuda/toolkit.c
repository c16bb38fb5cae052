#include "toolkit.h"

#include "base/compiler.h"
#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>

enum { CANDIDATES_MAX = 64, CANDIDATE_SIZE = 512 };

typedef struct candidates {
    const char *names[CANDIDATES_MAX + 1]; /* ended by NULL */
    char text[CANDIDATES_MAX][CANDIDATE_SIZE];
    int count;
} candidates;

static void add(candidates *list, const char *folder, const char *file)
{
    if (list->count == CANDIDATES_MAX)
        return;
    char *out = list->text[list->count];
    const int length = snprintf(out, CANDIDATE_SIZE, "%s%s%s", folder, folder[0] ? "/" : "", file);
    if (length > 0 && length < CANDIDATE_SIZE)
        list->names[list->count++] = out;
}

static void add_folders(candidates *list, const char *file, int generation)
{
    static const char *const variables[] = {"CUDA_HOME", "CUDA_PATH"};
    char folder[CANDIDATE_SIZE];

    add(list, "", file);
    for (size_t i = 0; i < COUNT_OF(variables); i++) {
        const char *home = getenv(variables[i]);
        if (home && home[0] && snprintf(folder, sizeof folder, "%s/lib64", home) < (int)sizeof folder)
            add(list, folder, file);
    }
    add(list, "/usr/local/cuda/lib64", file);
    for (int minor = 9; minor >= 0 && generation; minor--) { /* toolkits side by side */
        snprintf(folder, sizeof folder, "/usr/local/cuda-%d.%d/lib64", generation, minor);
        add(list, folder, file);
    }
    add(list, "/opt/cuda/lib64", file);
}

dynlib *toolkit_open(const toolkit_file *files, const char *plain_name, int driver_version)
{
    const int preferred = driver_version / 1000;
    candidates *list = host_alloc_zeroed(1, sizeof *list);
    dynlib *lib;

    if (!list)
        return NULL;
    for (const toolkit_file *f = files; f->name; f++)
        if (f->generation == preferred)
            add_folders(list, f->name, f->generation);
    for (const toolkit_file *f = files; f->name; f++)
        if (f->generation != preferred)
            add_folders(list, f->name, f->generation);
    add_folders(list, plain_name, 0);
    lib = dynlib_open(list->names);
    host_free(list);
    return lib;
}
