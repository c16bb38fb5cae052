#include "cublaslt.h"

#include "toolkit.h"

#include "base/compiler.h"
#include "base/error.h"
#include "base/log.h"
#include "base/thread.h"

static mutex lock = MUTEX_INIT;
static bool tried; /* guarded by lock, like all of these until it is set */
static bool usable;
static dynlib *library; /* never closed once it is usable */
static cublaslt_api api;

static void load(int driver_version)
{
    static const toolkit_file files[] = {
        {13, "libcublasLt.so.13"}, {12, "libcublasLt.so.12"}, {11, "libcublasLt.so.11"}, {0, NULL}};
    const dynlib_entry table[] = {
#define REQUIRED(returned, field, symbol, arguments) {#symbol, &api.field, true},
        CUBLASLT_FUNCTIONS(REQUIRED)
#undef REQUIRED
    };
    error_state before;

    error_save(&before);
    library = toolkit_open(files, "libcublasLt.so", driver_version);
    if (!library) {
        log_info("cuda: no cuBLASLt (libcublasLt.so): products take the generic kernel");
    } else if (dynlib_bind(library, table, COUNT_OF(table))) {
        log_warn("cuda: cuBLASLt is not usable: %s", tsr_last_error());
        dynlib_close(library);
        library = NULL;
    } else {
        const size_t version = api.get_version(); /* 130002 for 13.0.2 */
        api.major = (int)(version / 10000);
        api.minor = (int)(version / 100 % 100);
        api.patch = (int)(version % 100);
        usable = true;
        log_info("cuda: cuBLASLt %d.%d.%d from %s", api.major, api.minor, api.patch, dynlib_name(library));
    }
    error_restore(&before);
}

const cublaslt_api *cublaslt_load(int driver_version)
{
    mutex_lock(&lock);
    if (!tried)
        load(driver_version);
    tried = true;
    mutex_unlock(&lock);
    return usable ? &api : NULL;
}
