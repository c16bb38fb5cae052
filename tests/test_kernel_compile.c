/* Every kernel × dtype × variant through every compiler that is here: spirv-val, NVRTC, the OpenCL driver. A compiler's
 * message names the .k file and line.
 *
 * Starting a compiler costs more than a kernel does, so texts of many instances are compiled at once: each one's
 * functions get names of their own, and what it defines is undefined behind it. */
#include "unit.h"

#include "backends/cuda/nvrtc.h"
#include "backends/opencl/opencl_api.h"
#include "base/memory.h"
#include "base/text.h"
#include "base/thread.h"
#include "dispatch/catalogue.h"
#include "dispatch/preludes.h"
#include "tessera/status.h"

#include <ctype.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { BATCH = 48 };

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

/* For each name behind `mark` in `source`: "#define name name_<number>", or "#undef name". */
static void each_name(text *out, const char *source, const char *mark, bool undo, size_t number)
{
    const size_t length = strlen(mark);
    for (const char *at = source; (at = strstr(at, mark)) != NULL;) {
        at += length;
        if (mark[length - 1] == '(') /* FN(type) name */
            at = strchr(at, ')') + 1;
        while (*at == ' ')
            at++;
        const char *from = at;
        while (is_word(*at))
            at++;
        if (undo)
            text_appendf(out, "#undef %.*s\n", (int)(at - from), from);
        else
            text_appendf(out, "#define %.*s %.*s_%zu\n", (int)(at - from), from, (int)(at - from), from, number);
    }
}

static void add_to_batch(text *out, const kernel_entry *e, size_t number)
{
    text_appendf(out, "#define %s %s_%zu\n", e->entry, e->entry, number);
    for (int s = 2; s < 4; s++)
        each_name(out, e->source[s], "FN(", false, number);
    text_append(out, e->source[0]);
    text_append(out, e->source[2]);
    text_append(out, e->source[3]);
    for (int s = 2; s < 4; s++)
        each_name(out, e->source[s], "FN(", true, 0);
    each_name(out, e->source[0], "#define ", true, 0);
    each_name(out, e->source[3], "#define ", true, 0);
    text_appendf(out, "#undef %s\n", e->entry);
}

/* Calls compile(text, key of the first instance) for all sources in batches; counts the failures. */
typedef bool compile_batch(void *context, const char *source, const char *first);

/* What is not to be compiled. */
typedef struct selection {
    uint32_t features;   /* only what needs no others */
    const char *without; /* no source that has this word */
    const char *variant; /* only this one, where there is a choice; NULL: both */
} selection;

static bool is_selected(const kernel_entry *e, const selection *which)
{
    const hal_device_class device_class =
        which->variant && strcmp(which->variant, "cpu") == 0 ? HAL_CLASS_CPU : HAL_CLASS_GPU;
    return e->source[0] && (e->features & ~which->features) == 0 && !strstr(e->source[0], which->without) &&
           (!which->variant || catalogue_find(e->key, device_class) == e);
}

static size_t compile_all(compile_batch *compile, void *context, const selection *which, size_t *batches)
{
    size_t failures = 0, in_batch = 0;
    const char *first = NULL;
    text batch = {0};
    *batches = 0;
    for (size_t i = 0; i <= kernel_catalogue_count; i++) {
        if (in_batch == BATCH || (i == kernel_catalogue_count && in_batch > 0)) {
            assert_false(batch.failed);
            failures += !compile(context, text_string(&batch), first);
            (*batches)++;
            text_free(&batch);
            batch = (text){0};
            in_batch = 0;
        }
        if (i == kernel_catalogue_count)
            break;
        const kernel_entry *e = &kernel_catalogue[i];
        if (!is_selected(e, which))
            continue;
        if (in_batch == 0) {
            first = e->key;
            text_append(&batch, e->source[1]);
        }
        add_to_batch(&batch, e, in_batch);
        in_batch++;
    }
    text_free(&batch);
    return failures;
}

/* ---- the table ------------------------------------------------------------------------------------------------- */

static void the_catalogue_is_complete(void **state)
{
    (void)state;
    assert_true(kernel_catalogue_count > 300);
    for (size_t i = 0; i < kernel_catalogue_count; i++) {
        const kernel_entry *e = &kernel_catalogue[i];
        if (i > 0) {
            const int order = strcmp(kernel_catalogue[i - 1].key, e->key);
            assert_true(order < 0 || (order == 0 && strcmp(kernel_catalogue[i - 1].variant, e->variant) < 0));
        }
        assert_in_range(e->params_bytes, 4, HAL_MAX_PARAMS);
        assert_in_range(e->binding_count, 1, HAL_MAX_BINDINGS);
        assert_true(e->source[0] || e->spirv || e->native[ISA_BASELINE]);
        for (uint32_t b = 0; b < e->binding_count; b++)
            assert_true(e->access[b] >= HAL_READ && e->access[b] <= HAL_READ_WRITE && e->element_bytes[b] > 0);
        if (strcmp(e->variant, "cpu") == 0)
            assert_int_equal(e->group_size, 1);
    }
}

/* ---- SPIR-V ---------------------------------------------------------------------------------------------------- */

static void report_output(const char *path)
{
    char line[512];
    FILE *file = fopen(path, "r");
    for (int n = 0; file && n < 6 && fgets(line, sizeof line, file); n++)
        print_error("  %s", line);
    if (file)
        fclose(file);
}

static pid_t start_validator(const kernel_entry *e, const char *module, const char *log)
{
    FILE *file = fopen(module, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(e->spirv, 1, e->spirv_bytes, file), e->spirv_bytes);
    assert_int_equal(fclose(file), 0);
    char program[] = "spirv-val", option[] = "--target-env", environment[] = "vulkan1.2";
    char *arguments[] = {program, option, environment, (char *)(uintptr_t)module, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, log, 0x241 /* O_WRONLY | O_CREAT | O_TRUNC */, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    pid_t process = 0;
    const int problem = posix_spawnp(&process, "spirv-val", &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    return problem ? 0 : process;
}

static void every_spirv_module_is_valid(void **state)
{
    (void)state;
    char folder[] = "/tmp/tessera-spirv-XXXXXX";
    size_t modules = 0, failures = 0;
    if (system("spirv-val --version >/dev/null 2>&1") != 0) {
        print_message("skipped: spirv-val (package spirv-tools) is not installed\n");
        skip();
    }
    assert_non_null(mkdtemp(folder));
    char module[80], log[80];
    snprintf(module, sizeof module, "%s/module.spv", folder);
    snprintf(log, sizeof log, "%s/log", folder);
    for (size_t i = 0; i < kernel_catalogue_count; i++) {
        const kernel_entry *e = &kernel_catalogue[i];
        if (!e->spirv)
            continue;
        int status = 1;
        const pid_t process = start_validator(e, module, log);
        assert_true(process > 0);
        assert_int_equal(waitpid(process, &status, 0), process);
        modules++;
        if (status != 0) {
            print_error("%s (%s) is no valid SPIR-V:\n", e->key, e->variant);
            report_output(log);
            failures++;
        }
    }
    unlink(module);
    unlink(log);
    rmdir(folder);
    if (modules == 0) {
        print_message("skipped: this build has no SPIR-V, since glslang was missing when it was configured\n");
        skip();
    }
    print_message("spirv-val: %zu modules\n", modules);
    assert_int_equal(failures, 0);
}

/* ---- CUDA ------------------------------------------------------------------------------------------------------ */

typedef struct cuda_target {
    int arch;
    const char *variant;
    size_t failures, batches;
} cuda_target;

static bool compile_cuda(void *context, const char *source, const char *first)
{
    const cuda_target *target = context;
    const char *const pieces[] = {source};
    const hal_kernel_desc desc = {.key = first,
                                  .entry = "batch",
                                  .variant = "batch",
                                  .code = HAL_CODE_SOURCE,
                                  .source = pieces,
                                  .source_count = 1,
                                  .group_size = 64,
                                  .params_bytes = 4};
    uint8_t *image = NULL;
    size_t size = 0;
    const tsr_status status = cuda_compile(&desc, target->arch, &image, &size);
    if (status != TSR_OK)
        print_error("NVRTC, sm_%d, from %s on: %s\n", target->arch, first, tsr_last_error());
    host_free(image);
    return status == TSR_OK;
}

static void *compile_for_target(void *context)
{
    cuda_target *target = context;
    const selection which = {UINT32_MAX, "NOT_FOR_CUDA", target->variant};
    target->failures = compile_all(compile_cuda, target, &which, &target->batches);
    return NULL;
}

/* A CUDA device takes the gpu variants: those for all three architectures, the others for one. */
static void every_kernel_compiles_for_cuda(void **state)
{
    (void)state;
    cuda_target targets[] = {{75, "gpu", 0, 0}, {80, "gpu", 0, 0}, {90, NULL, 0, 0}};
    thread threads[3];
    if (nvrtc_load(0) != TSR_OK) {
        print_message("skipped: %s\n", tsr_last_error());
        skip();
    }
    for (int t = 0; t < 3; t++)
        assert_int_equal(thread_start(&threads[t], "nvrtc", compile_for_target, &targets[t]), TSR_OK);
    for (int t = 0; t < 3; t++) {
        thread_join(&threads[t]);
        print_message("%s: sm_%d, %zu texts\n", nvrtc_name(), targets[t].arch, targets[t].batches);
    }
    for (int t = 0; t < 3; t++)
        assert_int_equal(targets[t].failures, 0);
}

/* ---- OpenCL ---------------------------------------------------------------------------------------------------- */

typedef struct opencl_target {
    cl_context context;
    cl_device_id device;
    const char *options;
} opencl_target;

static bool compile_opencl(void *context, const char *source, const char *first)
{
    const opencl_target *target = context;
    const char *pieces[] = {opencl_prelude, source};
    cl_int error;
    cl_program program = cl.clCreateProgramWithSource(target->context, 2, pieces, NULL, &error);
    assert_int_equal(error, CL_SUCCESS);
    error = cl.clBuildProgram(program, 1, &target->device, target->options, NULL, NULL);
    if (error != CL_SUCCESS) {
        static char log[4096];
        log[0] = 0;
        cl.clGetProgramBuildInfo(program, target->device, CL_PROGRAM_BUILD_LOG, sizeof log, log, NULL);
        print_error("OpenCL, from %s on: %s\n%.4000s\n", first, opencl_error_name(error), log);
    }
    cl.clReleaseProgram(program);
    return error == CL_SUCCESS;
}

static void every_kernel_compiles_for_opencl(void **state)
{
    (void)state;
    const opencl_found *found;
    uint32_t count = 0;
    char why[256];
    assert_int_equal(opencl_devices(&found, &count, why, sizeof why), TSR_OK);
    if (count == 0) {
        print_message("skipped: %s\n", why);
        skip();
    }
    cl_int error;
    opencl_target target = {.device = found[0].device};
    target.context = cl.clCreateContext(NULL, 1, &target.device, NULL, NULL, &error);
    assert_int_equal(error, CL_SUCCESS);
    size_t failures = 0, batches = 0;
    const uint32_t features =
        UINT32_MAX &
        ~(uint32_t)(opencl_device_number(target.device, CL_DEVICE_DOUBLE_FP_CONFIG) ? 0 : HAL_FEATURE_FLOAT64);
    /* Both ways of dividing, whichever this device would take; the division of f32 is the only difference. */
    const selection all = {features, "NOT_FOR_OPENCL", NULL}, f32 = {0, "NOT_FOR_OPENCL", "gpu"};
    target.options = "-cl-std=CL1.2";
    failures += compile_all(compile_opencl, &target, &all, &batches);
    print_message("OpenCL: %zu texts\n", batches);
    target.options = "-cl-std=CL1.2 -DCORRECT_DIVISION";
    failures += compile_all(compile_opencl, &target, &f32, &batches);
    cl.clReleaseContext(target.context);
    assert_int_equal(failures, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_catalogue_is_complete),
        cmocka_unit_test(every_spirv_module_is_valid),
        cmocka_unit_test(every_kernel_compiles_for_cuda),
        cmocka_unit_test(every_kernel_compiles_for_opencl),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
