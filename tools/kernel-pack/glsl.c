/* The GLSL of the Vulkan kernels: many instances of a kernel in one text, each a function, compiled by glslang in one
 * process (whose start costs more than a kernel) and cut apart again in spirv.c. What was compiled is kept by content. */
#include "pack.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK = 48 }; /* instances of one text */

static const char header[] = "#version 450\n"
                             "#extension GL_GOOGLE_cpp_style_line_directive : enable\n"
                             "#extension GL_EXT_shader_16bit_storage : require\n"
                             "#extension GL_EXT_shader_8bit_storage : require\n"
                             "#extension GL_EXT_shader_explicit_arithmetic_types_int64 : require\n"
                             "layout(local_size_x = 1) in;\n";

typedef struct chunk {
    instance *first;
    instance *members[CHUNK];
    size_t count;
    text glsl;
    char *cache, *source, *log; /* paths */
} chunk;

/* Writes word(0.5) as (0.5lf): a double's literal has a suffix that GLSL's preprocessor cannot paste. */
static char *with_double_literals(const char *source, const char *word)
{
    const size_t length = strlen(word);
    text out = {0};
    for (const char *c = source; *c;) {
        const bool here = strncmp(c, word, length) == 0 && c[length] == '(' && (c == source || !is_word_char(c[-1]));
        if (here) {
            const char *number = c + length + 1;
            const size_t digits = strspn(number, "-+.0123456789eE");
            if (digits > 0 && number[digits] == ')') {
                text_add(&out, "(%.*slf)", (int)digits, number);
                c = number + digits + 1;
                continue;
            }
        }
        text_add_bytes(&out, c++, 1);
    }
    return out.data ? out.data : copy_of("", 0);
}

static void add_instance(text *out, const instance *i, bool with_params)
{
    text own = {0};
    text_add(out, "\n");
    instance_add_renames(i, true, out);
    instance_add_defines(i, true, out);
    instance_add_operator(i, &own);
    instance_add_kernel(i, with_params, format_of("body_%s", i->symbol), &own);
    const char *body = text_string(&own);
    if (strcmp(i->real_tag, "f64") == 0)
        body = with_double_literals(body, "R");
    text_add(out, "%s", body);
    instance_add_undefines(i, out);
    instance_add_unrenames(i, true, out);
}

static void finish_chunk(const options *o, chunk *c, const char *start, const char *version)
{
    text_add(&c->glsl, "%s", start);
    for (size_t m = 0; m < c->count; m++)
        add_instance(&c->glsl, c->members[m], m == 0);
    text_add(&c->glsl, "void main()\n{\n"); /* glslang drops what main does not reach */
    for (size_t m = 0; m < c->count; m++)
        text_add(&c->glsl, "    body_%s();\n", c->members[m]->symbol);
    text_add(&c->glsl, "}\n");
    const char *hash = hash_of(text_string(&c->glsl), c->glsl.length);
    c->cache = format_of("%s/cache/%s-%.8s.spv", o->out, hash, version);
    c->source = format_of("%s/cache/%s.comp", o->out, hash);
    c->log = format_of("%s/cache/%s.log", o->out, hash);
}

/* The kernel's instances in the list, in texts of at most CHUNK. */
static chunk *make_chunks(instance_list *list, size_t *count)
{
    chunk *chunks = allocate((list->count + 1) * sizeof *chunks);
    *count = 0;
    for (size_t n = 0; n < list->count; n++) {
        instance *i = &list->items[n];
        if (!(i->file->targets & TARGET_SPIRV))
            continue;
        chunk *into = NULL;
        for (size_t c = 0; c < *count && !into; c++)
            if (chunks[c].first->kernel == i->kernel && chunks[c].count < CHUNK)
                into = &chunks[c];
        if (!into) {
            into = &chunks[(*count)++];
            into->first = i;
        }
        into->members[into->count++] = i;
    }
    return chunks;
}

/* The lines of glslang's log that name a line of ours. */
static void show_failure(const chunk *c)
{
    static const char start[] = "ERROR: ";
    fprintf(stderr, "%s:%d: error: kernel %s does not compile as GLSL (%s, %zu instances in %s):\n",
            c->first->file->path, c->first->kernel->line, c->first->kernel->name, c->first->key, c->count, c->source);
    const char *at = read_file(c->log, NULL);
    for (int lines = 0; at && *at && lines < 12;) {
        const size_t length = strcspn(at, "\n");
        const char *message = at + strlen(start);
        if (strncmp(at, start, strlen(start)) == 0 &&
            (strncmp(message, "kernels/", 8) == 0 || strncmp(message, "backends/", 9) == 0)) {
            fprintf(stderr, "  %.*s\n", (int)(length - strlen(start)), message);
            lines++;
        }
        at += length + (at[length] == '\n');
    }
}

static void compile_missing(const options *o, chunk *chunks, size_t count)
{
    char ***commands = allocate((count + 1) * sizeof *commands);
    const char **logs = allocate((count + 1) * sizeof *logs);
    chunk **missing = allocate((count + 1) * sizeof *missing);
    size_t wanted = 0;
    for (size_t c = 0; c < count; c++) {
        if (access(chunks[c].cache, R_OK) == 0)
            continue;
        write_file(chunks[c].source, text_string(&chunks[c].glsl), chunks[c].glsl.length);
        char **argv = allocate(12 * sizeof *argv);
        const char *const words[] = {o->glslang,
                                     "-V",
                                     "--target-env",
                                     "vulkan1.2",
                                     "-S",
                                     "comp",
                                     "-o",
                                     format_of("%s.tmp", chunks[c].cache),
                                     chunks[c].source};
        for (size_t w = 0; w < sizeof words / sizeof words[0]; w++)
            argv[w] = copy_of(words[w], strlen(words[w]));
        commands[wanted] = argv;
        logs[wanted] = chunks[c].log;
        missing[wanted++] = &chunks[c];
    }
    int *statuses = allocate((wanted + 1) * sizeof *statuses);
    run_all(commands, logs, statuses, wanted, o->jobs);
    size_t failed = 0;
    for (size_t m = 0; m < wanted; m++) {
        if (statuses[m] == 0) {
            char *draft = format_of("%s.tmp", missing[m]->cache);
            if (rename(draft, missing[m]->cache) != 0)
                die(draft, 0, "cannot be renamed");
            remove(missing[m]->source);
        } else if (failed++ < 4) {
            show_failure(missing[m]);
        }
        remove(missing[m]->log);
    }
    if (failed > 4)
        fprintf(stderr, "… and %zu more kernels do not compile as GLSL\n", failed - 4);
    if (failed)
        exit(1);
}

static void cut_apart(chunk *c)
{
    size_t length;
    char *bytes = read_file(c->cache, &length);
    if (!bytes)
        die(c->cache, 0, "cannot be read");
    spirv_target targets[CHUNK] = {0};
    for (size_t m = 0; m < c->count; m++) {
        targets[m].function = format_of("body_%s", c->members[m]->symbol);
        targets[m].group_size = (unsigned)atoi(c->members[m]->variant->group_spirv);
    }
    const char *why;
    if (!spirv_split((const uint32_t *)(void *)bytes, length / 4, targets, c->count, &why))
        die(c->first->file->path, c->first->kernel->line, "the SPIR-V of kernel %s cannot be cut apart: %s (%s)",
            c->first->kernel->name, why, c->cache);
    for (size_t m = 0; m < c->count; m++) {
        c->members[m]->spirv = targets[m].words;
        c->members[m]->spirv_words = targets[m].count;
    }
}

/* What the program says about itself: another version may make other code. */
static char *version_of(const options *o)
{
    char *log = format_of("%s/cache/version", o->out);
    char *command[] = {copy_of(o->glslang, strlen(o->glslang)), copy_of("--version", 9), NULL};
    char **commands[] = {command};
    const char *logs[] = {log};
    int status = 0;
    run_all(commands, logs, &status, 1, 1);
    size_t length = 0;
    char *version = read_file(log, &length);
    if (status != 0 || !version)
        die(o->glslang, 0, "--version fails");
    return hash_of(version, length);
}

void glsl_compile(const options *o, instance_list *list)
{
    if (!o->glslang)
        return;
    make_folder(format_of("%s/cache", o->out));
    const char *const paths[] = {"backends/vulkan/prelude.glsl", "backends/vulkan/math_f64.glsl", "kernels/common.k",
                                 "kernels/common_math.k"};
    text start = {0};
    text_add(&start, "%s", header);
    for (int f = 0; f < 4; f++) {
        char *source = read_file(format_of("%s/%s", o->root, paths[f]), NULL);
        if (!source)
            die(paths[f], 0, "cannot be read");
        text_add(&start, "#line 1 \"%s\"\n%s\n", paths[f], without_comments(source));
    }
    const char *begin = with_double_literals(text_string(&start), "R_f64");
    const char *version = version_of(o);

    size_t count;
    chunk *chunks = make_chunks(list, &count);
    for (size_t c = 0; c < count; c++)
        finish_chunk(o, &chunks[c], begin, version);
    compile_missing(o, chunks, count);
    for (size_t c = 0; c < count; c++)
        cut_apart(&chunks[c]);
}
