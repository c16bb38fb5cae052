#include "data/shipped.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"

typedef struct wanted {
    const char *name;
    const char *const *files;
    char *out;
    size_t size;
} wanted;

/* Whether it is `folder`/name; then that is in `out`. */
static bool is_in(const wanted *w, const char *folder)
{
    char path[PATH_SIZE];
    if (path_join(w->out, w->size, folder, w->name) != TSR_OK)
        return false;
    for (size_t i = 0; w->files[i] != NULL; i++)
        if (path_join(path, sizeof path, w->out, w->files[i]) == TSR_OK && file_exists(path))
            return true;
    return false;
}

/* Looks for `folder` below the folder of the file `start`, and below up to three folders above that: bin/ and lib/ have share/ beside
 * them, lib/x86_64-linux-gnu/ has it one higher. */
static bool is_beside(const wanted *w, const char *start, const char *folder)
{
    char above[PATH_SIZE], data[PATH_SIZE];
    snprintf(above, sizeof above, "%s", start);
    for (int i = 0; i < 4 && strcmp(above, "/") != 0; i++) {
        path_parent(above);
        if (path_join(data, sizeof data, above, folder) == TSR_OK && is_in(w, data))
            return true;
    }
    return false;
}

static bool is_somewhere(const wanted *w)
{
    static const char installed[] = "share/tessera/data";
    char start[PATH_SIZE];
    if (path_of_library(start, sizeof start) == TSR_OK && is_beside(w, start, installed))
        return true;
    if (path_of_executable(start, sizeof start) == TSR_OK &&
        (is_beside(w, start, installed) || is_beside(w, start, "data")))
        return true;
#ifdef TESSERA_SOURCE_DATA_DIR
    return is_in(w, TESSERA_SOURCE_DATA_DIR);
#else
    return false;
#endif
}

tsr_status shipped_data_find(const char *label, const char *name, const char *const *files, char *out, size_t size)
{
    const wanted w = {name, files, out, size};
    /* A variable that is set is the answer, right or wrong: no other data are taken in its place. */
    const char *variable = getenv("TESSERA_DATA_DIR");
    if (variable != NULL && variable[0] != '\0')
        return path_join(out, size, variable, name);

    error_state before;
    error_save(&before);
    if (is_somewhere(&w)) {
        error_restore(&before);
        return TSR_OK;
    }
    return fail(TSR_NOT_FOUND,
                "%s is in no share/tessera/data/%s beside this program or library; set TESSERA_DATA_DIR to the folder "
                "that has it in %s/, or name the place",
                label, name, name);
}

tsr_status shipped_text_find(char *out, size_t size)
{
    static const char *const files[] = {"tinyshakespeare.txt", NULL};
    char folder[PATH_SIZE];
    const tsr_status status = shipped_data_find("the text", "text", files, folder, sizeof folder);
    return status == TSR_OK ? path_join(out, size, folder, files[0]) : status;
}
