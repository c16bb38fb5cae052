/* The fiber target: kernels with barriers as functions of one thread, and a table of them. tests/fiber runs a work-group
 * as fibers. One instance for each kernel and value of its FORs other than types: the first type stands for all. */
#include "pack.h"

#include <string.h>

static bool has_barrier(const instance *i)
{
    static const char *const words[] = {"BARRIER", "WG_SUM", "WG_MAX", "WG_MIN", "WG_FOLD", "BLOCK_SUM"};
    for (size_t w = 0; w < sizeof words / sizeof words[0]; w++) {
        if (has_word(i->kernel->body.text, words[w]))
            return true;
        for (size_t h = 0; h < i->file->helper_count; h++)
            if (has_word(i->file->helpers[h].text, words[w]))
                return true;
    }
    return false;
}

static bool is_wanted(const instance *i)
{
    for (int v = 0; v < i->file->variant_count; v++)
        if (strcmp(i->file->variants[v].name, "gpu") == 0 && strcmp(i->variant->name, "gpu") != 0)
            return false;
    for (int d = 0; d < i->file->dimension_count; d++) {
        const dimension *dimension = &i->file->dimensions[d];
        if (storage_type_find(dimension->values[0]) && strcmp(i->values[d], dimension->values[0]) != 0)
            return false;
    }
    return has_barrier(i);
}

static void add_caller(const instance *i, text *out)
{
    const kernel *k = i->kernel;
    text_add(out, "static void call_%s(void *const *bindings, const void *params, uint gid, uint gidy, uint gidz)\n{\n",
             i->symbol);
    text_add(out, "    body_%s(gid, gidy, gidz, *(const body_%s_params *)params", i->symbol, i->symbol);
    for (int b = 0; b < k->binding_count; b++)
        text_add(out, ", (%s%s_t *)bindings[%d]", k->bindings[b].access == 1 ? "const " : "", i->types[b]->name, b);
    text_add(out, ");\n}\n");
}

static void add_row(const instance *i, text *rows)
{
    text_add(rows, "    {\"%s\", \"%s\", \"%s\", \"%s\", %d, %s, %u, %d, {", i->key, i->kernel->name, i->variant->name,
             i->file->path, i->kernel->line, i->variant->group_spirv, i->kernel->params_words,
             i->kernel->binding_count);
    for (int b = 0; b < i->kernel->binding_count; b++)
        text_add(rows, "%s{\"%s\", \"%s\", %d, %u}", b ? ", " : "", i->kernel->bindings[b].id, i->types[b]->name,
                 i->kernel->bindings[b].access, i->types[b]->bytes);
    text_add(rows, "}, call_%s},\n", i->symbol);
}

void emit_fiber(const options *o, const instance_list *list)
{
    text out = {0}, rows = {0};
    text_add(&out, "/* Made by kernel-pack. */\n#include \"tests/fiber/prelude.h\"\n#include \"kernels/common.k\"\n"
                   "#include \"kernels/common_math.k\"\n");
    for (size_t n = 0; n < list->count; n++) {
        const instance *i = &list->items[n];
        if (!is_wanted(i))
            continue;
        text_add(&out, "\n/* %s */\n", i->key);
        instance_add_renames(i, false, &out);
        instance_add_defines(i, true, &out);
        instance_add_operator(i, &out);
        instance_add_kernel(i, true, format_of("body_%s", i->symbol), &out);
        text_add(&out, "#line 1 \"fibers.c\"\n");
        add_caller(i, &out);
        instance_add_undefines(i, &out);
        instance_add_unrenames(i, false, &out);
        add_row(i, &rows);
    }
    text_add(&out, "\nconst fiber_kernel fiber_kernels[] = {\n%s};\n", text_string(&rows));
    text_add(&out, "const size_t fiber_kernel_count = sizeof fiber_kernels / sizeof fiber_kernels[0];\n");
    make_folder(format_of("%s/fiber", o->out));
    write_file_if_changed(format_of("%s/fiber/fibers.c", o->out), out.data, out.length);
}
