#include "backends/cpu/openblas.h"

#include "base/dynlib.h"
#include "base/error.h"
#include "base/log.h"
#include "base/thread.h"

#include <stdio.h>
#include <string.h>

static openblas library;
static bool available;

/* "OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH ... Haswell MAX_THREADS=64": the first two words. */
static void name_library(void)
{
    char version[32] = "";
    const char *config = library.get_config != NULL ? library.get_config() : "";
    const char *core = library.get_corename != NULL ? library.get_corename() : "";
    if (sscanf(config, "OpenBLAS %31s", version) != 1)
        version[0] = '\0';
    snprintf(library.name, sizeof library.name, "OpenBLAS%s%s%s%s%s", version[0] ? " " : "", version,
             core[0] ? " (" : "", core, core[0] ? ")" : "");
}

static unsigned vector_bytes_of(const char *core)
{
    static const struct {
        const char *core;
        unsigned bytes;
    } cores[] = {{"SkylakeX", 64}, {"Cooperlake", 64},  {"Sapphirerapids", 64}, {"Haswell", 32},
                 {"Zen", 32},      {"Sandybridge", 32}, {"Nehalem", 16},        {"Prescott", 16}};
    for (size_t i = 0; i < COUNT_OF(cores); i++)
        if (strcmp(core, cores[i].core) == 0)
            return cores[i].bytes;
    return 0;
}

static void load(void)
{
    static const char *const names[] = {"libopenblas.so.0", "libopenblas.so", "libopenblas.0.dylib", NULL};
    const dynlib_entry entries[] = {{"cblas_sgemm", &library.sgemm, true},
                                    {"cblas_dgemm", &library.dgemm, true},
                                    {"openblas_set_num_threads", &library.set_num_threads, true},
                                    {"openblas_get_num_threads", &library.get_num_threads, true},
                                    {"openblas_get_config", &library.get_config, false},
                                    {"openblas_get_corename", &library.get_corename, false}};

    error_state before; /* its absence is no failure */
    error_save(&before);
    library.lib = dynlib_open(names);
    if (library.lib != NULL && dynlib_bind(library.lib, entries, COUNT_OF(entries)) == TSR_OK) {
        const char *config = library.get_config != NULL ? library.get_config() : "";
        available = strstr(config, "USE64BITINT") == NULL;
        name_library();
        library.vector_bytes = library.get_corename != NULL ? vector_bytes_of(library.get_corename()) : 0;
    }
    if (!available)
        log_info("no OpenBLAS for the CPU device: %s", tsr_last_error());
    error_restore(&before);
}

const openblas *openblas_get(void)
{
    static once flag = ONCE_INIT;
    once_run(&flag, load);
    return available ? &library : NULL;
}
