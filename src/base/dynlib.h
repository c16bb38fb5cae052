/* Libraries opened at run time, so that one binary works with any driver or none. */
#ifndef TESSERA_BASE_DYNLIB_H
#define TESSERA_BASE_DYNLIB_H

#include <tessera/status.h>

#include <stdbool.h>
#include <stddef.h>

typedef struct dynlib dynlib;

/* Any function: cast it to its real type before the call. */
typedef void (*dynlib_function)(void);

/* Opens the first of `names` (a NULL-terminated list of file names or paths, the best first) that loads.
 * NULL, with TSR_NOT_FOUND and a sentence that names the library, the loader's reason and what to do. */
dynlib *dynlib_open(const char *const *names);

/* NULL is fine. What it gave must not be used any more. */
void dynlib_close(dynlib *lib);

/* The name it was found under. */
const char *dynlib_name(const dynlib *lib);

/* The function, or NULL (without an error) if the library has none of that name. */
dynlib_function dynlib_symbol(const dynlib *lib, const char *name);

/* `slot` is the address of a function pointer: { "cuInit", &cuda.cuInit, true }. */
typedef struct dynlib_entry {
    const char *name;
    void *slot;
    bool required;
} dynlib_entry;

/* Fills the slots of a table; an optional function that is missing leaves NULL. If a required one is missing all slots
 * are NULL and the status is TSR_UNSUPPORTED, the sentence naming library and function. */
tsr_status dynlib_bind(const dynlib *lib, const dynlib_entry *table, size_t count);

#endif
