/* The C target: one file for each .k and value of TX, made for every instruction set by defining ISA. */
#include "pack.h"

#include <string.h>

/* hal_native_fn: casts the bindings, lays out the locals, counts through the groups. */
static void add_wrapper(const instance *i, text *out)
{
    const kernel *k = i->kernel;
    text_add(out, "NATIVE_ENTRY(%s)\n{\n", key_of_words(i->key));
    text_add(out, "    const body_%s_params p = *(const body_%s_params *)params;\n", i->symbol, i->symbol);
    text_add(out, "    NATIVE_GROUPS(body_%s(gid, gidy, gidz, p", i->symbol);
    for (int b = 0; b < k->binding_count; b++)
        text_add(out, ", (%s%s_t *)bindings[%d]", k->bindings[b].access == 1 ? "const " : "", i->types[b]->name, b);
    text_add(out, "))\n}\n");
}

static void emit_file(const options *o, const kernel_file *file, const char *type, const instance_list *list)
{
    text out = {0};
    text_add(&out,
             "/* Made by kernel-pack from %s. */\n#include \"backends/cpu/prelude.h\"\n#include \"kernels/common.k\"\n"
             "#include \"kernels/common_math.k\"\n",
             file->path);
    for (size_t n = 0; n < list->count; n++) {
        const instance *i = &list->items[n];
        if (i->file != file || strcmp(i->variant->name, "cpu") != 0)
            continue;
        if (type && (!i->first_type || strcmp(i->first_type->name, type) != 0))
            continue;
        text_add(&out, "\n/* %s */\n", i->key);
        instance_add_renames(i, false, &out);
        instance_add_defines(i, false, &out);
        instance_add_operator(i, &out);
        instance_add_kernel(i, true, format_of("body_%s", i->symbol), &out);
        add_wrapper(i, &out);
        instance_add_undefines(i, &out);
        instance_add_unrenames(i, false, &out);
    }
    char *path =
        type ? format_of("%s/c/%s.%s.c", o->out, file->name, type) : format_of("%s/c/%s.c", o->out, file->name);
    write_file_if_changed(path, out.data, out.length);
}

void emit_c(const options *o, const kernel_file *files, size_t count, const instance_list *list)
{
    make_folder(format_of("%s/c", o->out));
    for (size_t f = 0; f < count; f++) {
        const dimension *tx = NULL;
        for (int d = 0; d < files[f].dimension_count; d++)
            if (strcmp(files[f].dimensions[d].name, "TX") == 0)
                tx = &files[f].dimensions[d];
        /* Also for a file that has no C target: CMake expects the name. */
        if (!tx)
            emit_file(o, &files[f], NULL, list);
        for (size_t v = 0; tx && v < tx->count; v++)
            emit_file(o, &files[f], tx->values[v], list);
    }
}
