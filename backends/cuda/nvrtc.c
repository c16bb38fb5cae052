/* Owns NVRTC: where it is looked for, with which options it compiles, how its complaints reach the caller. */
#include "nvrtc.h"

#include "nvrtc_api.h"
#include "toolkit.h"

#include "base/cache.h"
#include "base/compiler.h"
#include "base/dynlib.h"
#include "base/error.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/sha256.h"
#include "base/text.h"
#include "base/thread.h"
#include "dispatch/preludes.h"

#include <stdio.h>
#include <string.h>

enum { ARCHS_MAX = 64 };

typedef struct nvrtc_api {
#define NVRTC_FIELD(returned, field, symbol, arguments) returned(*field) arguments;
    NVRTC_FUNCTIONS(NVRTC_FIELD)
#undef NVRTC_FIELD
} nvrtc_api;

static mutex load_lock = MUTEX_INIT;
static bool loaded; /* guarded by load_lock; what follows does not change once it is set */
static dynlib *library;
static nvrtc_api nvrtc;
static int version_major, version_minor;
static int archs[ARCHS_MAX], arch_count;

/* The arithmetic contract (docs/kernel-dialect.md); the last option makes functions without a qualifier device functions. */
static const char *const fixed_options[] = {"-fmad=false",     "-ftz=false",  "-prec-div=true",
                                            "-prec-sqrt=true", "--std=c++14", "-default-device"};

/* ---- opening the library ------------------------------------------------------------------------------------------ */

static tsr_status load_from(int driver_version)
{
    const dynlib_entry table[] = {
#define REQUIRED(returned, field, symbol, arguments) {#symbol, &nvrtc.field, true},
        NVRTC_FUNCTIONS(REQUIRED)
#undef REQUIRED
    };
    static const toolkit_file files[] = {
        {13, "libnvrtc.so.13"}, {12, "libnvrtc.so.12"}, {11, "libnvrtc.so.11.2"}, {0, NULL}};

    library = toolkit_open(files, "libnvrtc.so", driver_version);
    if (!library && tsr_last_status() == TSR_OUT_OF_MEMORY)
        return TSR_OUT_OF_MEMORY;
    if (!library)
        return fail(TSR_UNSUPPORTED,
                    "NVRTC, CUDA's run-time compiler, is missing (libnvrtc.so.13 or .12): install it from the "
                    "CUDA toolkit (package libnvrtc12 or cuda-nvrtc-13-0), or put its folder on "
                    "LD_LIBRARY_PATH");
    if (dynlib_bind(library, table, COUNT_OF(table))) {
        dynlib_close(library);
        library = NULL;
        return fail_prefix("NVRTC is too old (11.2 or newer is needed)");
    }

    int count = 0, all[ARCHS_MAX];
    const nvrtc_result result = nvrtc.version(&version_major, &version_minor);
    if (result == NVRTC_OK && nvrtc.get_num_supported_archs(&count) == NVRTC_OK && count > 0 && count <= ARCHS_MAX &&
        nvrtc.get_supported_archs(all) == NVRTC_OK) {
        memcpy(archs, all, sizeof archs);
        arch_count = count;
        log_info("cuda: NVRTC %d.%d from %s", version_major, version_minor, dynlib_name(library));
        return TSR_OK;
    }
    fail(TSR_UNSUPPORTED, "NVRTC (%s) does not tell its version and architectures (%s): reinstall it",
         dynlib_name(library), nvrtc.get_error_string(result));
    dynlib_close(library);
    library = NULL;
    return TSR_UNSUPPORTED;
}

tsr_status nvrtc_load(int driver_version)
{
    tsr_status status = TSR_OK;

    mutex_lock(&load_lock);
    if (!loaded) {
        status = load_from(driver_version);
        loaded = status == TSR_OK;
    }
    mutex_unlock(&load_lock);
    return status;
}

void nvrtc_version(int *major, int *minor)
{
    *major = version_major;
    *minor = version_minor;
}

const char *nvrtc_name(void)
{
    return library ? dynlib_name(library) : "";
}

/* ---- compiling --------------------------------------------------------------------------------------------------- */

/* What to ask NVRTC for, and the form of the answer. */
typedef struct target {
    char option[40];
    bool is_ptx;
} target;

static tsr_status choose_target(int arch, target *out)
{
    int below = 0, oldest = archs[0];

    for (int i = 0; i < arch_count; i++) {
        if (archs[i] <= arch && archs[i] > below)
            below = archs[i];
        if (archs[i] < oldest)
            oldest = archs[i];
    }
    if (!below)
        return fail(
            TSR_UNSUPPORTED,
            "NVRTC %d.%d compiles for compute capability %d.%d and newer, the device has %d.%d: install an older "
            "NVRTC (12.x serves 5.0 to 7.2)",
            version_major, version_minor, oldest / 10, oldest % 10, arch / 10, arch % 10);
    out->is_ptx = below != arch;
    snprintf(out->option, sizeof out->option, "--gpu-architecture=%s_%d", out->is_ptx ? "compute" : "sm", below);
    return TSR_OK;
}

static bool program_text(const hal_kernel_desc *desc, text *out)
{
    text_append(out, cuda_prelude);
    for (size_t i = 0; i < desc->source_count; i++)
        if (desc->source[i])
            text_append(out, desc->source[i]);
    return !out->failed;
}

/* Puts the log's part from its first error on into the message; all of it goes to the log. */
static tsr_status fail_with_log(const hal_kernel_desc *desc, const target *to, nvrtc_program program,
                                nvrtc_result result)
{
    size_t size = 0;
    char *log = NULL;
    tsr_status status;

    if (nvrtc.get_log_size(program, &size) == NVRTC_OK && size > 1 && (log = host_alloc(size + 1))) {
        if (nvrtc.get_log(program, log) != NVRTC_OK)
            size = 0;
        log[size] = 0;
        log_warn("cuda: compiling kernel %s (%s): %s", desc->key, to->option, log);
    }
    if (log && *log) {
        const char *start = strstr(log, "error");
        while (start && start > log && start[-1] != '\n')
            start--;
        status = fail(TSR_DRIVER_ERROR, "compiling kernel %s (%s) with NVRTC %d.%d: %s: %s", desc->key, to->option,
                      version_major, version_minor, nvrtc.get_error_string(result), start ? start : log);
    } else {
        status = fail(TSR_DRIVER_ERROR, "compiling kernel %s (%s) with NVRTC %d.%d: %s", desc->key, to->option,
                      version_major, version_minor, nvrtc.get_error_string(result));
    }
    host_free(log);
    return status;
}

static tsr_status take_image(const hal_kernel_desc *desc, const target *to, nvrtc_program program, uint8_t **image,
                             size_t *size)
{
    nvrtc_result result = to->is_ptx ? nvrtc.get_ptx_size(program, size) : nvrtc.get_cubin_size(program, size);

    if (result == NVRTC_OK && *size == 0)
        return fail(TSR_DRIVER_ERROR, "NVRTC gave no code for kernel %s (%s)", desc->key, to->option);
    if (result == NVRTC_OK) {
        *image = host_alloc(*size);
        if (!*image)
            return tsr_last_status();
        result = to->is_ptx ? nvrtc.get_ptx(program, (char *)*image) : nvrtc.get_cubin(program, (char *)*image);
    }
    if (result == NVRTC_OK)
        return TSR_OK;
    host_free(*image);
    *image = NULL;
    return fail(TSR_DRIVER_ERROR, "taking the code of kernel %s (%s) from NVRTC: %s", desc->key, to->option,
                nvrtc.get_error_string(result));
}

static tsr_status compile_text(const hal_kernel_desc *desc, const target *to, const char *source, uint8_t **image,
                               size_t *size)
{
    const char *options[1 + COUNT_OF(fixed_options)];
    nvrtc_program program = NULL;
    nvrtc_result result;
    tsr_status status;

    options[0] = to->option;
    memcpy(options + 1, fixed_options, sizeof fixed_options);
    result = nvrtc.create_program(&program, source, desc->key, 0, NULL, NULL);
    if (result != NVRTC_OK)
        return fail(result == NVRTC_NO_MEMORY ? TSR_OUT_OF_MEMORY : TSR_DRIVER_ERROR,
                    "NVRTC does not take the text of kernel %s: %s", desc->key, nvrtc.get_error_string(result));
    result = nvrtc.compile_program(program, (int)COUNT_OF(options), options);
    if (result != NVRTC_OK)
        status = fail_with_log(desc, to, program, result);
    else
        status = take_image(desc, to, program, image, size);
    nvrtc.destroy_program(&program);
    return status;
}

static void cache_key(const char *source, const target *to, char hex[SHA256_HEX_SIZE])
{
    sha256 hash;
    char version[32];

    snprintf(version, sizeof version, "nvrtc %d.%d", version_major, version_minor);
    sha256_begin(&hash);
    sha256_update_string(&hash, version);
    sha256_update_string(&hash, to->option);
    for (size_t i = 0; i < COUNT_OF(fixed_options); i++)
        sha256_update_string(&hash, fixed_options[i]);
    sha256_update_string(&hash, source);
    sha256_end_hex(&hash, hex);
}

static tsr_status compile(const hal_kernel_desc *desc, int arch, bool use_cache, bool fresh, uint8_t **image,
                          size_t *size, bool *cached)
{
    target to;
    text source = {0};
    char key[SHA256_HEX_SIZE];
    tsr_status status;

    *image = NULL;
    *size = 0;
    *cached = false;
    if ((status = nvrtc_load(0)) || (status = choose_target(arch, &to)))
        return status;
    if (!program_text(desc, &source)) {
        status = tsr_last_status();
    } else {
        cache_key(text_string(&source), &to, key);
        *cached = use_cache && !fresh && cache_load("cuda", key, image, size);
        if (!*cached) {
            status = compile_text(desc, &to, text_string(&source), image, size);
            if (!status && use_cache)
                cache_store("cuda", key, *image, *size);
        }
    }
    text_free(&source);
    return status;
}

tsr_status cuda_compile(const hal_kernel_desc *desc, int arch, uint8_t **image, size_t *size)
{
    bool cached;
    return compile(desc, arch, false, false, image, size, &cached);
}

tsr_status cuda_compile_cached(const hal_kernel_desc *desc, int arch, bool fresh, uint8_t **image, size_t *size,
                               bool *cached)
{
    return compile(desc, arch, true, fresh, image, size, cached);
}
