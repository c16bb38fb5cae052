#include "base/dynlib.h"

#include "base/error.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"

#include <dlfcn.h>
#include <string.h>

struct dynlib {
    void *handle;
    char *name;
};

static dynlib *dynlib_wrap(void *handle, const char *name)
{
    dynlib *lib = host_alloc(sizeof *lib);
    char *copy = host_strdup(name);
    if (lib == NULL || copy == NULL) {
        host_free(lib);
        host_free(copy);
        dlclose(handle);
        return NULL;
    }
    *lib = (dynlib){.handle = handle, .name = copy};
    log_debug("opened %s", name);
    return lib;
}

dynlib *dynlib_open(const char *const *names)
{
    text reasons = {0};

    if (names[0] == NULL) {
        fail(TSR_INVALID_ARGUMENT, "no name of a library was given");
        return NULL;
    }
    for (size_t i = 0; names[i] != NULL; i++) {
        void *handle = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
        if (handle != NULL) {
            text_free(&reasons);
            return dynlib_wrap(handle, names[i]);
        }
        const char *reason = dlerror();
        if (i > 0)
            text_append(&reasons, "; ");
        text_append(&reasons, reason != NULL ? reason : names[i]);
    }
    if (!reasons.failed)
        fail(TSR_NOT_FOUND,
             "cannot open %s (%s); install the driver or package that provides it, or name its folder in "
             "LD_LIBRARY_PATH",
             names[0], text_string(&reasons));
    text_free(&reasons);
    return NULL;
}

void dynlib_close(dynlib *lib)
{
    if (lib == NULL)
        return;
    dlclose(lib->handle);
    host_free(lib->name);
    host_free(lib);
}

const char *dynlib_name(const dynlib *lib)
{
    return lib->name;
}

dynlib_function dynlib_symbol(const dynlib *lib, const char *name)
{
    /* POSIX gives functions as void *, which C cannot convert; the bits are the same. */
    void *symbol = dlsym(lib->handle, name);
    dynlib_function function = NULL;
    memcpy(&function, &symbol, sizeof function);
    return function;
}

tsr_status dynlib_bind(const dynlib *lib, const dynlib_entry *table, size_t count)
{
    const char *missing = NULL;

    for (size_t i = 0; i < count; i++) {
        const dynlib_function function = dynlib_symbol(lib, table[i].name);
        memcpy(table[i].slot, &function, sizeof function);
        if (function == NULL && table[i].required && missing == NULL)
            missing = table[i].name;
    }
    if (missing == NULL)
        return TSR_OK;

    for (size_t i = 0; i < count; i++)
        memset(table[i].slot, 0, sizeof(dynlib_function));
    return fail(TSR_UNSUPPORTED, "%s has no function %s: it is too old, or not the library of that name; update it",
                lib->name, missing);
}
