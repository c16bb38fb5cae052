/* catalogue.c (the table of entries, driver texts, SPIR-V) and preludes.c. Texts and modules that are equal are written
 * once. SPIR-V is a string with octal escapes: compilers read that an order of magnitude faster than an array. */
#include "pack.h"

#include <stdlib.h>
#include <string.h>

static void add_literal(text *out, const char *string)
{
    text_add(out, "    \"");
    for (const char *c = string; *c; c++) {
        if (*c == '\n')
            text_add(out, c[1] ? "\\n\"\n    \"" : "\\n");
        else if (*c == '"' || *c == '\\')
            text_add(out, "\\%c", *c);
        else
            text_add_bytes(out, c, 1);
    }
    text_add(out, "\"");
}

/* Equal contents get one number. */
typedef struct pool {
    char **hashes;
    size_t count;
} pool;

static size_t pool_find(pool *p, const char *bytes, size_t length, bool *is_new)
{
    char *hash = hash_of(bytes, length);
    for (size_t i = 0; i < p->count; i++) {
        if (strcmp(p->hashes[i], hash) == 0) {
            *is_new = false;
            return i;
        }
    }
    p->hashes = realloc(p->hashes, (p->count + 1) * sizeof *p->hashes);
    if (!p->hashes)
        die(NULL, 0, "out of memory");
    p->hashes[p->count] = hash;
    *is_new = true;
    return p->count++;
}

static size_t add_text(pool *texts, text *out, const char *string)
{
    bool is_new;
    const size_t number = pool_find(texts, string, strlen(string), &is_new);
    if (is_new) {
        text_add(out, "static const char text_%zu[] =\n", number);
        add_literal(out, string);
        text_add(out, ";\n");
    }
    return number;
}

static size_t add_spirv(pool *modules, text *out, const instance *i)
{
    bool is_new;
    const unsigned char *bytes = (const unsigned char *)i->spirv;
    const size_t length = i->spirv_words * 4;
    const size_t number = pool_find(modules, (const char *)bytes, length, &is_new);
    if (!is_new)
        return number;
    text_add(out, "static const _Alignas(4) char spirv_%zu[] =\n    \"", number);
    char *buffer = allocate(length * 4 + 1), *to = buffer;
    for (size_t b = 0; b < length; b++) {
        const unsigned char c = bytes[b];
        const bool digit_follows = b + 1 < length && bytes[b + 1] >= '0' && bytes[b + 1] <= '7';
        if (c >= 32 && c < 127 && c != '"' && c != '\\' && c != '?') {
            *to++ = (char)c;
            continue;
        }
        *to++ = '\\';
        if (c >= 64 || digit_follows)
            *to++ = (char)('0' + (c >> 6));
        if (c >= 8 || digit_follows)
            *to++ = (char)('0' + (c >> 3 & 7));
        *to++ = (char)('0' + (c & 7));
    }
    text_add_bytes(out, buffer, (size_t)(to - buffer));
    text_add(out, "\";\n");
    free(buffer);
    return number;
}

static void add_entry(const instance *i, text *rows, text *texts_out, text *spirv_out, pool *texts, pool *modules)
{
    const kernel *k = i->kernel;
    text defines = {0}, own = {0}, operator= {0};
    instance_add_defines(i, false, &defines);
    /* A source that is not for both says so, to readers and to the test that compiles them all. */
    if (!(i->file->targets & TARGET_CUDA))
        text_add(&defines, "#define NOT_FOR_CUDA\n");
    if (!(i->file->targets & TARGET_OPENCL))
        text_add(&defines, "#define NOT_FOR_OPENCL\n");
    instance_add_operator(i, &operator);
    instance_add_kernel(i, true, k->name, &own);

    text_add(rows, "    {\"%s\", \"%s\", \"%s\", %s, %s, %s, %u, %d,\n     {", i->key, k->name, i->variant->name,
             i->features, i->variant->group, i->variant->group_spirv, k->params_words * 4, k->binding_count);
    for (int b = 0; b < k->binding_count; b++)
        text_add(rows, "%s%s", b ? ", " : "",
                 k->bindings[b].access == 1   ? "HAL_READ"
                 : k->bindings[b].access == 2 ? "HAL_WRITE"
                                              : "HAL_READ_WRITE");
    text_add(rows, "}, {");
    for (int b = 0; b < k->binding_count; b++)
        text_add(rows, "%s%u", b ? ", " : "", i->types[b]->bytes);
    text_add(rows, "},\n     ");
    if (i->file->targets & (TARGET_OPENCL | TARGET_CUDA))
        text_add(rows, "{text_%zu, common_text, text_%zu, text_%zu}, ",
                 add_text(texts, texts_out, text_string(&defines)), add_text(texts, texts_out, text_string(&operator)),
                 add_text(texts, texts_out, text_string(&own)));
    else
        text_add(rows, "{NULL}, ");
    if (i->spirv)
        text_add(rows, "(const uint32_t *)(const void *)spirv_%zu, %zu,\n     ", add_spirv(modules, spirv_out, i),
                 i->spirv_words * 4);
    else
        text_add(rows, "NULL, 0,\n     ");
    if (strcmp(i->variant->name, "cpu") == 0 && (i->file->targets & TARGET_C)) {
        text_add(rows, "NATIVE(kernel_%s)},\n", key_of_words(i->key));
        text_add(texts_out, "DECLARE(kernel_%s)\n", key_of_words(i->key));
    } else {
        text_add(rows, "{NULL}},\n");
    }
    free(defines.data);
    free(own.data);
    free(operator.data);
}

static const char start[] =
    "/* Made by kernel-pack. */\n"
    "#include \"dispatch/catalogue.h\"\n\n"
    "#ifdef KERNELS_X86_64_V3\n#define V3(kernel) kernel##_v3\n#else\n#define V3(kernel) NULL\n#endif\n"
    "#ifdef KERNELS_X86_64_V4\n#define V4(kernel) kernel##_v4\n#else\n#define V4(kernel) NULL\n#endif\n"
    "#define NATIVE(kernel) {kernel##_baseline, V3(kernel), V4(kernel)}\n"
    "#define DECLARE(kernel) extern hal_native_fn kernel##_baseline, kernel##_v3, kernel##_v4;\n\n";

static char *text_of_file(const options *o, const char *path)
{
    char *source = read_file(format_of("%s/%s", o->root, path), NULL);
    if (!source)
        die(path, 0, "cannot be read");
    text out = {0};
    text_add(&out, "#line 1 \"%s\"\n%s", path, without_comments(source));
    return out.data;
}

void emit_catalogue(const options *o, const instance_list *list)
{
    text texts_out = {0}, spirv_out = {0}, rows = {0}, out = {0};
    pool texts = {0}, modules = {0};
    text_add(&texts_out, "static const char common_text[] =\n");
    add_literal(&texts_out, text_of_file(o, "kernels/common.k"));
    add_literal(&texts_out, text_of_file(o, "kernels/common_math.k"));
    text_add(&texts_out, ";\n\n");
    size_t spirv_bytes = 0;
    for (size_t n = 0; n < list->count; n++) {
        add_entry(&list->items[n], &rows, &texts_out, &spirv_out, &texts, &modules);
        spirv_bytes += list->items[n].spirv_words * 4;
    }
    text_add(&out, "%s%s\n%s\nconst kernel_entry kernel_catalogue[] = {\n%s};\n\n", start, text_string(&texts_out),
             text_string(&spirv_out), text_string(&rows));
    text_add(&out, "const size_t kernel_catalogue_count = sizeof kernel_catalogue / sizeof kernel_catalogue[0];\n");
    write_file_if_changed(format_of("%s/catalogue/catalogue.c", o->out), out.data, out.length);
    printf("kernel-pack: %zu kernels, %zu KiB of SPIR-V in %zu modules\n", list->count, spirv_bytes / 1024,
           modules.count);
}

void emit_texts(const options *o)
{
    text out = {0};
    text_add(&out, "/* Made by kernel-pack. */\n#include \"dispatch/preludes.h\"\n\nconst char opencl_prelude[] =\n");
    add_literal(&out, text_of_file(o, "backends/opencl/prelude.cl"));
    text_add(&out, ";\n\nconst char cuda_prelude[] =\n");
    add_literal(&out, text_of_file(o, "backends/cuda/prelude.cu"));
    text_add(&out, ";\n");
    write_file_if_changed(format_of("%s/catalogue/preludes.c", o->out), out.data, out.length);
}
