/* kernel-pack --root DIR --out DIR [--glslang PROGRAM] [--jobs N] c|catalogue|fiber FILE.k … */
#include "pack.h"

#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    options o = {.root = ".", .out = ".", .jobs = 1};
    int at = 1;
    for (; at + 1 < argc && strncmp(argv[at], "--", 2) == 0; at += 2) {
        if (strcmp(argv[at], "--root") == 0)
            o.root = argv[at + 1];
        else if (strcmp(argv[at], "--out") == 0)
            o.out = argv[at + 1];
        else if (strcmp(argv[at], "--glslang") == 0)
            o.glslang = *argv[at + 1] ? argv[at + 1] : NULL;
        else if (strcmp(argv[at], "--jobs") == 0)
            o.jobs = atoi(argv[at + 1]) > 0 ? atoi(argv[at + 1]) : 1;
        else
            die(NULL, 0, "the option %s is not known", argv[at]);
    }
    const char *mode = at < argc ? argv[at++] : "";
    if (strcmp(mode, "c") != 0 && strcmp(mode, "catalogue") != 0 && strcmp(mode, "fiber") != 0)
        die(NULL, 0,
            "usage: kernel-pack --root DIR --out DIR [--glslang PROGRAM] [--jobs N] c|catalogue|fiber FILE.k …");

    elementwise_table table;
    elementwise_read(format_of("%s/kernels/elementwise.def", o.root), &table);
    const size_t count = (size_t)(argc - at);
    kernel_file *files = allocate(count * sizeof *files);
    instance_list list = {0};
    for (size_t f = 0; f < count; f++) {
        scan_file(format_of("%s/%s", o.root, argv[at + (int)f]), argv[at + (int)f], &table, &files[f]);
        instances_make(&files[f], &table, &list);
    }
    instances_sort(&list);

    if (strcmp(mode, "c") == 0) {
        emit_c(&o, files, count, &list);
        return 0;
    }
    if (strcmp(mode, "fiber") == 0) {
        emit_fiber(&o, &list);
        return 0;
    }
    make_folder(format_of("%s/catalogue", o.out));
    glsl_compile(&o, &list);
    emit_catalogue(&o, &list);
    emit_texts(&o);
    elementwise_write_table(&table, format_of("%s/catalogue/elementwise_table.c", o.out));
    return 0;
}
