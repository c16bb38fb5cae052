/* The fake libnvrtc.so.13: see fake_cuda.h.
 *
 * With FAKE_NVRTC_COMPILER set to a C++ compiler it compiles the text for the host, behind kernel_shim.hpp, and the "cubin" is a
 * shared object that the fake driver runs: the CUDA prelude and the kernels do what they do on a device, short of its
 * memory model, its scheduling and its arithmetic units. Without it the code is the text itself behind a word
 * that tells the form and the architecture; then only #error is looked for. That real NVRTC takes the kernels is another test. */
#include "backends/cuda/nvrtc_api.h"

#include <ctype.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXPORT                                      __attribute__((visibility("default")))
#define DECLARE(returned, field, symbol, arguments) EXPORT returned symbol arguments;
NVRTC_FUNCTIONS(DECLARE)
EXPORT int fake_nvrtc_compilations(void);

struct _nvrtcProgram {
    char *source;
    int arch;
    bool ptx;
    char *object; /* for the host; NULL: none */
    size_t object_size;
    char log[2000];
};

static const int known[] = {75, 80, 86, 89, 90, 100};
static atomic_int compilations;

EXPORT int fake_nvrtc_compilations(void)
{
    return atomic_load(&compilations);
}

/* ---- compiling for the host -------------------------------------------------------------------------------------- */

static char *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    char *bytes = NULL;
    long length;

    *size = 0;
    if (!file)
        return NULL;
    if (fseek(file, 0, SEEK_END) == 0 && (length = ftell(file)) >= 0 && fseek(file, 0, SEEK_SET) == 0) {
        bytes = malloc((size_t)length + 1);
        *size = fread(bytes, 1, (size_t)length, file);
        bytes[*size] = 0;
    }
    fclose(file);
    return bytes;
}

/* asm("cvt.f32.f16 …" : "=f"(X) : "h"(Y)) becomes X = emu_cvt_f32_f16(Y), and the other likewise. */
static void write_without_ptx(FILE *out, const char *text)
{
    const char *at;
    char to[64], from[64], operation[64];
    int length;

    while ((at = strstr(text, "asm(\"cvt.")) != NULL) {
        length = 0;
        sscanf(at, "asm(\"%63[a-z0-9.] %*[^:]: \"=%*1[fh]\"(%63[a-z0-9_]) : \"%*1[fh]\"(%63[a-z0-9_])) %n", operation,
               to, from, &length);
        if (length == 0)
            break; /* the compiler will complain */
        fwrite(text, 1, (size_t)(at - text), out);
        for (char *c = operation; *c; c++)
            if (*c == '.')
                *c = '_';
        fprintf(out, "%s = emu_%s(%s)", to, operation, from);
        text = at + length;
    }
    fputs(text, out);
}

/* EMU_ENTRY(name) for each __global__ void __launch_bounds__(…) name(…). */
static void write_entries(FILE *out, const char *text)
{
    char name[128];

    fprintf(out, "\nextern \"C\" __attribute__((visibility(\"default\"))) const int emu_has_barriers = %d;\n",
            strstr(text, "__syncthreads") != NULL);
    while ((text = strstr(text, "__global__")) != NULL) {
        text += strlen("__global__");
        const char *brace = strpbrk(text, "{;"), *at = text + strspn(text, " \n");
        if (!brace || strncmp(at, "void", 4) != 0)
            continue;
        at += 4 + strspn(at + 4, " \n");
        if (strncmp(at, "__launch_bounds__", 17) == 0) {
            at = strchr(at, ')') + 1;
            at += strspn(at, " \n");
        }
        size_t length = 0;
        while (length + 1 < sizeof name && (isalnum((unsigned char)at[length]) || at[length] == '_'))
            length++;
        snprintf(name, sizeof name, "%.*s", (int)length, at);
        fprintf(out, "EMU_ENTRY(%s)\n", name);
        text = at;
    }
}

static bool run(const char *compiler, const char *arguments, const char *folder, const char *in, const char *out)
{
    char line[2048];

    snprintf(line, sizeof line, "'%s' %s '%s/%s' -o '%s/%s' 2> '%s/log'", compiler, arguments, folder, in, folder, out,
             folder);
    return system(line) == 0;
}

static nvrtc_result compile_for_host(nvrtc_program program, const char *compiler)
{
    static const char *const files[] = {"in.cu", "in.ii", "out.cpp", "out.so", "log"};
    const char *base = getenv("TMPDIR");
    char folder[512], path[600], *text;
    size_t size;
    FILE *file;
    bool good;

    snprintf(folder, sizeof folder, "%s/fake_nvrtc_XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(folder))
        return 11; /* an internal error */
    snprintf(path, sizeof path, "%s/in.cu", folder);
    file = fopen(path, "w");
    fputs(program->source, file);
    fclose(file);
    good = run(compiler, "-E -P -nostdinc -x c++", folder, "in.cu", "in.ii");
    if (good) {
        snprintf(path, sizeof path, "%s/in.ii", folder);
        text = read_file(path, &size);
        snprintf(path, sizeof path, "%s/out.cpp", folder);
        file = fopen(path, "w");
        fprintf(file, "#include \"%s\"\n", FAKE_KERNEL_SHIM);
        write_without_ptx(file, text);
        write_entries(file, text);
        fclose(file);
        free(text);
        good = run(compiler,
                   "-shared -fPIC -std=c++14 -O2 -w -fvisibility=hidden -fno-strict-aliasing -ffp-contract=off -x c++",
                   folder, "out.cpp", "out.so");
    }
    snprintf(path, sizeof path, "%s/%s", folder, good ? "out.so" : "log");
    text = read_file(path, &size);
    if (good) {
        program->object = text;
        program->object_size = size;
    } else {
        snprintf(program->log, sizeof program->log, "%s", text ? text : "");
        free(text);
    }
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        unlink(path);
    }
    rmdir(folder);
    return good ? NVRTC_OK : NVRTC_COMPILATION_FAILED;
}

/* ---- the interface ----------------------------------------------------------------------------------------------- */

EXPORT nvrtc_result nvrtcVersion(int *major, int *minor)
{
    const char *text = getenv("FAKE_NVRTC_VERSION");
    /* Another number, so that a cache on disk does not mix the two kinds of code. */
    const int version = text ? atoi(text) : getenv("FAKE_NVRTC_COMPILER") ? 13090 : 13000;

    *major = version / 1000;
    *minor = version % 1000 / 10;
    return NVRTC_OK;
}

EXPORT nvrtc_result nvrtcGetNumSupportedArchs(int *count)
{
    *count = (int)(sizeof known / sizeof known[0]);
    return NVRTC_OK;
}

EXPORT nvrtc_result nvrtcGetSupportedArchs(int *archs)
{
    memcpy(archs, known, sizeof known);
    return NVRTC_OK;
}

EXPORT const char *nvrtcGetErrorString(nvrtc_result result)
{
    return result == NVRTC_COMPILATION_FAILED ? "NVRTC_ERROR_COMPILATION" : "NVRTC_OTHER";
}

EXPORT nvrtc_result nvrtcCreateProgram(nvrtc_program *program, const char *source, const char *name, int headers,
                                       const char *const *header_sources, const char *const *header_names)
{
    (void)name, (void)headers, (void)header_sources, (void)header_names;
    *program = calloc(1, sizeof **program);
    (*program)->source = strdup(source);
    return NVRTC_OK;
}

EXPORT nvrtc_result nvrtcDestroyProgram(nvrtc_program *program)
{
    free((*program)->source);
    free((*program)->object);
    free(*program);
    *program = NULL;
    return NVRTC_OK;
}

EXPORT nvrtc_result nvrtcCompileProgram(nvrtc_program program, int count, const char *const *options)
{
    bool known_arch = false;

    atomic_fetch_add(&compilations, 1);
    for (int i = 0; i < count; i++) {
        if (sscanf(options[i], "--gpu-architecture=sm_%d", &program->arch) == 1)
            program->ptx = false;
        else if (sscanf(options[i], "--gpu-architecture=compute_%d", &program->arch) == 1)
            program->ptx = true;
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        known_arch |= known[i] == program->arch;
    if (strstr(program->source, "#error")) {
        snprintf(program->log, sizeof program->log, "bad.k(1): warning: told so\nbad.k(2): error: %.60s\n",
                 strstr(program->source, "#error"));
        return NVRTC_COMPILATION_FAILED;
    }
    if (!known_arch)
        return 5; /* an invalid option */
    const char *compiler = getenv("FAKE_NVRTC_COMPILER");
    return compiler && *compiler ? compile_for_host(program, compiler) : NVRTC_OK;
}

EXPORT nvrtc_result nvrtcGetProgramLogSize(nvrtc_program program, size_t *size)
{
    *size = strlen(program->log) + 1;
    return NVRTC_OK;
}

EXPORT nvrtc_result nvrtcGetProgramLog(nvrtc_program program, char *log)
{
    strcpy(log, program->log);
    return NVRTC_OK;
}

static size_t put(const struct _nvrtcProgram *program, const char *form, char *out, size_t room)
{
    if (program->object) {
        if (out)
            memcpy(out, program->object, program->object_size);
        return program->object_size;
    }
    return (size_t)snprintf(out, room, "%s %d\n%s", form, program->arch, program->source) + 1;
}

EXPORT nvrtc_result nvrtcGetPTXSize(nvrtc_program program, size_t *size)
{
    *size = put(program, "FAKEPTX", NULL, 0);
    return NVRTC_OK;
}

EXPORT nvrtc_result nvrtcGetPTX(nvrtc_program program, char *ptx)
{
    put(program, "FAKEPTX", ptx, put(program, "FAKEPTX", NULL, 0));
    return NVRTC_OK;
}

EXPORT nvrtc_result nvrtcGetCUBINSize(nvrtc_program program, size_t *size)
{
    *size = program->ptx ? 0 : put(program, "FAKECUBIN", NULL, 0);
    return NVRTC_OK;
}

EXPORT nvrtc_result nvrtcGetCUBIN(nvrtc_program program, char *cubin)
{
    put(program, "FAKECUBIN", cubin, put(program, "FAKECUBIN", NULL, 0));
    return NVRTC_OK;
}
