/* The instances of a kernel, product of FOR and VARIANT, and the pieces of their texts. */
#include "pack.h"

#include <stdlib.h>
#include <string.h>

/* The value of a FOR name, or the word itself; TACC is the storage type of `real`. */
static const char *resolved(const instance *i, const char *word)
{
    if (strcmp(word, "TACC") == 0 || strcmp(word, "REAL") == 0)
        return i->real_tag;
    for (int d = 0; d < i->file->dimension_count; d++)
        if (strcmp(i->file->dimensions[d].name, word) == 0)
            return i->values[d];
    return word;
}

static const elementwise_op *operator_named(const elementwise_table *table, const char *name)
{
    for (size_t i = 0; i < table->count; i++)
        if (strcmp(table->ops[i].name, name) == 0)
            return &table->ops[i];
    return NULL;
}

/* A gradient kernel has no instance for an operator whose derivative is 0. */
static bool lacks_gradient(const instance *i)
{
    static const char *const names[3] = {"op_grad_0", "op_grad_1", "op_grad_2"};
    for (int k = 0; i->op && k < 3; k++)
        if (has_word(i->kernel->body.text, names[k]) && !i->op->gradient[k])
            return true;
    return false;
}

static void add_instance(instance_list *list, instance *i)
{
    text key = {0};
    text_add(&key, "%s", i->kernel->name);
    for (int d = 0; d < i->file->dimension_count; d++)
        text_add(&key, "/%s", i->values[d]);
    i->key = text_string(&key);
    i->symbol = format_of("%s_%s", key_of_words(i->key), i->variant->name);

    const char *tx = resolved(i, "TX");
    i->first_type = strcmp(tx, "TX") == 0 ? NULL : storage_type_find(tx);
    i->real_tag = i->first_type ? i->first_type->real_tag : "f32";
    text features = {0};
    text_add(&features, "0");
    for (int b = 0; b < i->kernel->binding_count; b++) {
        const binding *bound = &i->kernel->bindings[b];
        i->types[b] = storage_type_find(resolved(i, bound->type));
        if (!i->types[b])
            die(i->file->path, i->kernel->line, "kernel %s: binding %s has the type %s, which is no storage type",
                i->kernel->name, bound->id, bound->type);
        if (strcmp(i->types[b]->feature, "0") != 0 && !strstr(text_string(&features), i->types[b]->feature))
            text_add(&features, " | %s", i->types[b]->feature);
    }
    if (i->first_type && i->first_type->bytes == 8 && !strstr(text_string(&features), i->first_type->feature))
        text_add(&features, " | %s", i->first_type->feature);
    i->features = text_string(&features);

    if (list->count == list->capacity) {
        list->capacity = list->capacity ? list->capacity * 2 : 256;
        list->items = realloc(list->items, list->capacity * sizeof *list->items);
        if (!list->items)
            die(NULL, 0, "out of memory");
    }
    list->items[list->count++] = *i;
}

static void make_values(const kernel_file *file, const kernel *k, const elementwise_table *table, instance *i,
                        int depth, instance_list *list)
{
    if (depth < file->dimension_count) {
        const dimension *d = &file->dimensions[depth];
        for (size_t v = 0; v < d->count; v++) {
            i->values[depth] = d->values[v];
            if (d->is_operator)
                i->op = operator_named(table, d->values[v]);
            make_values(file, k, table, i, depth + 1, list);
        }
        return;
    }
    if (lacks_gradient(i))
        return;
    for (int v = 0; v < file->variant_count; v++) {
        instance made = *i;
        made.variant = &file->variants[v];
        add_instance(list, &made);
    }
}

void instances_make(const kernel_file *file, const elementwise_table *table, instance_list *list)
{
    for (size_t k = 0; k < file->kernel_count; k++) {
        instance i = {.file = file, .kernel = &file->kernels[k]};
        make_values(file, &file->kernels[k], table, &i, 0, list);
    }
}

static int compare_keys(const void *a, const void *b)
{
    const instance *x = a, *y = b;
    const int order = strcmp(x->key, y->key);
    return order ? order : strcmp(x->variant->name, y->variant->name);
}

void instances_sort(instance_list *list)
{
    qsort(list->items, list->count, sizeof *list->items, compare_keys);
    for (size_t n = 1; n < list->count; n++) {
        const instance *a = &list->items[n - 1], *b = &list->items[n];
        if (compare_keys(a, b) == 0)
            die(b->file->path, b->kernel->line, "the key %s exists twice (also in %s:%d)", b->key, a->file->path,
                a->kernel->line);
    }
}

void instance_add_defines(const instance *i, bool spirv, text *out)
{
    text_add(out, "#define REAL_TAG %s\n#define TACC %s\n", i->real_tag, i->real_tag);
    text_add(out, "#define WG %su\n", spirv ? i->variant->group_spirv : i->variant->group);
    if (i->file->no_alias)
        text_add(out, "#define DISTINCT RESTRICT\n");
    else
        text_add(out, "#define DISTINCT\n");
    for (int d = 0; d < i->file->dimension_count; d++)
        text_add(out, "#define %s %s\n", i->file->dimensions[d].name, i->values[d]);
    for (int s = 0; s < i->variant->setting_count; s++)
        text_add(out, "#define %s %s\n", i->variant->settings[s].name, i->variant->settings[s].value);
    for (int b = 0; b < i->kernel->binding_count; b++) {
        const binding *bound = &i->kernel->bindings[b];
        text_add(out, "#define BINDING_%s %s\n", bound->id, i->types[b]->name);
        text_add(out, "#define CONST_%s %s\n", bound->id, bound->access == 1 ? "const" : "");
        text_add(out, "#define SLOT_%s %d\n", bound->id, b);
    }
}

void instance_add_undefines(const instance *i, text *out)
{
    text_add(out, "#undef REAL_TAG\n#undef TACC\n#undef WG\n#undef DISTINCT\n");
    for (int d = 0; d < i->file->dimension_count; d++)
        text_add(out, "#undef %s\n", i->file->dimensions[d].name);
    for (int s = 0; s < i->variant->setting_count; s++)
        text_add(out, "#undef %s\n", i->variant->settings[s].name);
    for (int b = 0; b < i->kernel->binding_count; b++) {
        const char *id = i->kernel->bindings[b].id;
        text_add(out, "#undef BINDING_%s\n#undef CONST_%s\n#undef SLOT_%s\n", id, id, id);
    }
    for (size_t m = 0; m < i->file->macro_count; m++)
        text_add(out, "#undef %s\n", i->file->macros[m]);
}

static bool kernel_uses(const instance *i, const char *word)
{
    if (has_word(i->kernel->body.text, word))
        return true;
    for (size_t h = 0; h < i->file->helper_count; h++)
        if (has_word(i->file->helpers[h].text, word))
            return true;
    return false;
}

void instance_add_operator(const instance *i, text *out)
{
    if (!i->op)
        return;
    text_add(out, "#line %d \"kernels/elementwise.def\"\n", i->op->line);
    if (kernel_uses(i, "op_forward"))
        text_add(out, "%s\n", i->op->forward);
    for (int k = 0; k < 3; k++)
        if (i->op->gradient[k] && kernel_uses(i, format_of("op_grad_%d", k)))
            text_add(out, "%s\n", i->op->gradient[k]);
}

static void add_region(const instance *i, const region *r, text *out);

/* PARAMS(name, …) or KERNEL(name, …) with another name; a macro of that name would change more than these. */
static void add_named_region(const instance *i, const region *r, const char *name, text *out)
{
    const char *bracket = strchr(r->text, '('), *comma = strchr(r->text, ',');
    const region renamed = {format_of("%.*s%s%s", (int)(bracket + 1 - r->text), r->text, name, comma), r->line};
    add_region(i, &renamed, out);
}

static void add_region(const instance *i, const region *r, text *out)
{
    /* Runs of empty lines are what comments leave: a new #line is shorter. */
    text_add(out, "#line %d \"%s\"\n", r->line, i->file->path);
    int line = r->line, empty = 0;
    for (const char *c = r->text; *c;) {
        const size_t length = strcspn(c, "\n");
        if (length == 0) {
            empty++;
        } else {
            if (empty > 3)
                text_add(out, "#line %d \"%s\"\n", line, i->file->path);
            for (; empty > 0 && empty <= 3; empty--)
                text_add(out, "\n");
            empty = 0;
            text_add_bytes(out, c, length);
            text_add(out, "\n");
        }
        line++;
        c += length + (c[length] == '\n');
    }
}

void instance_add_kernel(const instance *i, bool with_params, const char *name, text *out)
{
    const kernel *k = i->kernel;
    bool params_done = !with_params;
    for (size_t h = 0; h < i->file->helper_count; h++) {
        const region *r = &i->file->helpers[h];
        if (!params_done && r->line > k->params.line) {
            add_named_region(i, &k->params, name, out);
            params_done = true;
        }
        if (r->line < k->line)
            add_region(i, r, out);
    }
    if (!params_done)
        add_named_region(i, &k->params, name, out);
    add_named_region(i, &k->body, name, out);
    text_add(out, "KERNEL_END\n");
}

static void add_rename(text *out, bool undo, const char *name, const char *suffix)
{
    if (undo)
        text_add(out, "#undef %s\n", name);
    else
        text_add(out, "#define %s %s_%s\n", name, name, suffix);
}

static void add_all_renames(const instance *i, bool spirv, bool undo, text *out)
{
    for (size_t f = 0; f < i->file->function_count; f++)
        add_rename(out, undo, i->file->functions[f], i->symbol);
    if (i->op) {
        add_rename(out, undo, "op_forward", i->symbol);
        for (int k = 0; k < 3; k++)
            add_rename(out, undo, format_of("op_grad_%d", k), i->symbol);
    }
    if (!spirv)
        return;
    for (int b = 0; b < i->kernel->binding_count; b++) {
        add_rename(out, undo, format_of("%s_data", i->kernel->bindings[b].id), i->symbol);
        add_rename(out, undo, format_of("%s_block", i->kernel->bindings[b].id), i->symbol);
    }
    for (int l = 0; l < i->kernel->local_count; l++)
        add_rename(out, undo, i->kernel->locals[l], i->symbol);
}

void instance_add_renames(const instance *i, bool spirv, text *out)
{
    add_all_renames(i, spirv, false, out);
}

void instance_add_unrenames(const instance *i, bool spirv, text *out)
{
    add_all_renames(i, spirv, true, out);
}
