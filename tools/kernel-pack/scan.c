/* Reads a .k file: directives, helpers, PARAMS and KERNEL regions. */
#include "pack.h"

#include <stdlib.h>
#include <string.h>

typedef struct scanner {
    const char *shown; /* the path as errors name it */
    const char *text, *at;
    kernel_file *file;
    const elementwise_table *table;
} scanner;

static int line_of(const scanner *s, const char *at)
{
    int line = 1;
    for (const char *c = s->text; c < at; c++)
        line += *c == '\n';
    return line;
}

#define SCAN_ERROR(s, at, ...) die((s)->shown, line_of(s, at), __VA_ARGS__)

char *without_comments(const char *source)
{
    char *out = allocate(strlen(source) + 1), *to = out;
    for (const char *c = source; *c;) {
        if (c[0] == '/' && c[1] == '/') {
            while (*c && *c != '\n')
                c++;
        } else if (c[0] == '/' && c[1] == '*') {
            for (c += 2; *c && !(c[0] == '*' && c[1] == '/'); c++)
                if (*c == '\n')
                    *to++ = '\n';
            c += *c ? 2 : 0;
            *to++ = ' ';
        } else if (*c == '\r') {
            c++;
        } else if (*c == '\n') {
            while (to > out && (to[-1] == ' ' || to[-1] == '\t'))
                to--;
            *to++ = *c++;
        } else {
            *to++ = *c++;
        }
    }
    *to = 0;
    return out;
}

/* R(1) becomes R(1.0): targets paste a suffix to it. */
static char *with_decimal_points(const char *source)
{
    text out = {0};
    for (const char *c = source; *c; c++) {
        text_add_bytes(&out, c, 1);
        if (c[0] != 'R' || c[1] != '(' || (c > source && is_word_char(c[-1])))
            continue;
        const char *digits = c + 2 + (c[2] == '-');
        const size_t length = strspn(digits, "0123456789");
        if (length > 0 && digits[length] == ')') {
            text_add_bytes(&out, c + 1, (size_t)(digits + length - c - 1));
            text_add(&out, ".0");
            c = digits + length - 1;
        }
    }
    return out.data ? out.data : copy_of("", 0);
}

static const char *skip_space(const char *at)
{
    while (*at == ' ' || *at == '\t' || *at == '\n')
        at++;
    return at;
}

/* `at` stands on an opening bracket; the result stands behind its partner. */
static const char *skip_brackets(const scanner *s, const char *at)
{
    const char open = *at, close = open == '(' ? ')' : open == '{' ? '}' : ']';
    int depth = 0;
    for (const char *c = at; *c; c++) {
        depth += *c == open;
        depth -= *c == close;
        if (depth == 0)
            return c + 1;
    }
    SCAN_ERROR(s, at, "this '%c' is never closed", open);
}

static char *word_at(const char **at)
{
    const char *from = skip_space(*at), *to = from;
    while (is_word_char(*to))
        to++;
    *at = to;
    return copy_of(from, (size_t)(to - from));
}

static char *trimmed(const char *from, const char *to)
{
    while (from < to && (*from == ' ' || *from == '\t' || *from == '\n'))
        from++;
    while (from < to && (to[-1] == ' ' || to[-1] == '\t' || to[-1] == '\n'))
        to--;
    return copy_of(from, (size_t)(to - from));
}

/* Splits the inside of brackets at its top-level commas. */
static int split_arguments(const char *from, const char *to, char **out, int capacity)
{
    int count = 0, depth = 0;
    const char *start = from;
    for (const char *c = from; c <= to; c++) {
        if (c == to || (*c == ',' && depth == 0)) {
            if (count < capacity)
                out[count] = trimmed(start, c);
            count++;
            start = c + 1;
        } else {
            depth += *c == '(' || *c == '{' || *c == '[';
            depth -= *c == ')' || *c == '}' || *c == ']';
        }
    }
    return count;
}

static void add_name(const char ***names, size_t *count, const char *name)
{
    *names = realloc(*names, (*count + 1) * sizeof **names);
    if (!*names)
        die(NULL, 0, "out of memory");
    (*names)[(*count)++] = name;
}

static void read_for(scanner *s, const char *at, const char *from, const char *to)
{
    kernel_file *file = s->file;
    char *arguments[2] = {0};
    if (split_arguments(from, to, arguments, 2) != 2)
        SCAN_ERROR(s, at, "FOR wants a name and values: FOR(TX, f32 f16)");
    if (file->dimension_count == 8)
        SCAN_ERROR(s, at, "more than 8 FOR");
    dimension *d = &file->dimensions[file->dimension_count++];
    d->name = arguments[0];
    d->line = line_of(s, at);
    if (arguments[1][0] == '@') {
        d->is_operator = true;
        for (size_t i = 0; i < s->table->count; i++)
            if (elementwise_in_class(&s->table->ops[i], arguments[1] + 1))
                add_name(&d->values, &d->count, s->table->ops[i].name);
        if (d->count == 0)
            SCAN_ERROR(s, at, "no operator of elementwise.def is in the class %s", arguments[1]);
        return;
    }
    for (const char *c = arguments[1]; *c;) {
        const char *start = c;
        while (*c && *c != ' ' && *c != '\n' && *c != '\t')
            c++;
        add_name(&d->values, &d->count, copy_of(start, (size_t)(c - start)));
        c = skip_space(c);
    }
    const bool is_type = strcmp(d->name, "TX") == 0 || strcmp(d->name, "TY") == 0 || strcmp(d->name, "TZ") == 0;
    for (size_t i = 0; is_type && i < d->count; i++)
        if (!storage_type_find(d->values[i]))
            SCAN_ERROR(s, at, "%s is not a storage type: f32 f16 bf16 f64 i32 u32 i64 u8 bool", d->values[i]);
}

static void read_variant(scanner *s, const char *at, const char *from, const char *to)
{
    kernel_file *file = s->file;
    char *arguments[16] = {0};
    const int count = split_arguments(from, to, arguments, 16);
    if (count > 16)
        SCAN_ERROR(s, at, "a VARIANT of more than 15 constants");
    if (strcmp(arguments[0], "gpu") != 0 && strcmp(arguments[0], "cpu") != 0)
        SCAN_ERROR(s, at, "the variant is gpu or cpu, not %s", arguments[0]);
    if (file->variant_count == 2)
        SCAN_ERROR(s, at, "more than two VARIANT");
    variant *v = &file->variants[file->variant_count++];
    *v = (variant){.name = arguments[0]};
    for (int i = 1; i < count; i++) {
        const char *c = arguments[i];
        char *name = word_at(&c), *value = trimmed(c, c + strlen(c));
        if (!*name || !*value)
            SCAN_ERROR(s, at, "a constant of VARIANT is NAME value, not '%s'", arguments[i]);
        if (strcmp(name, "WG") == 0)
            v->group = value;
        else if (strcmp(name, "WG_SPIRV") == 0)
            v->group_spirv = value;
        else
            v->settings[v->setting_count++] = (setting){name, value};
    }
    const bool gpu = strcmp(v->name, "gpu") == 0;
    if (!v->group)
        v->group = gpu ? "64" : "1";
    if (!v->group_spirv)
        v->group_spirv = gpu ? v->group : "8";
    if (atoi(v->group) < 1 || atoi(v->group_spirv) < 1)
        SCAN_ERROR(s, at, "WG and WG_SPIRV are positive numbers");
    if (!gpu && atoi(v->group) != 1)
        SCAN_ERROR(s, at, "the cpu variant has WG 1 (WG_SPIRV is its work-group in SPIR-V), not %s", v->group);
}

static void read_targets(scanner *s, const char *at, const char *from, const char *to)
{
    s->file->targets = 0;
    for (const char *c = from; (c = skip_space(c)) < to;) {
        char *word = word_at(&c);
        if (strcmp(word, "c") == 0)
            s->file->targets |= TARGET_C;
        else if (strcmp(word, "opencl") == 0)
            s->file->targets |= TARGET_OPENCL;
        else if (strcmp(word, "cuda") == 0)
            s->file->targets |= TARGET_CUDA;
        else if (strcmp(word, "spirv") == 0)
            s->file->targets |= TARGET_SPIRV;
        else
            SCAN_ERROR(s, at, "a target is one of c opencl cuda spirv, not '%s'", word);
    }
}

static kernel *kernel_named(scanner *s, const char *name)
{
    kernel_file *file = s->file;
    for (size_t i = 0; i < file->kernel_count; i++)
        if (strcmp(file->kernels[i].name, name) == 0)
            return &file->kernels[i];
    file->kernels = realloc(file->kernels, (file->kernel_count + 1) * sizeof *file->kernels);
    if (!file->kernels)
        die(NULL, 0, "out of memory");
    kernel *k = &file->kernels[file->kernel_count++];
    memset(k, 0, sizeof *k);
    k->name = name;
    return k;
}

static region region_between(const scanner *s, const char *from, const char *to)
{
    return (region){copy_of(from, (size_t)(to - from)), line_of(s, from)};
}

static void read_params(scanner *s, const char *at, const char *inside, const char *close)
{
    char *arguments[2] = {0};
    if (split_arguments(inside, close, arguments, 2) != 2 || !*arguments[1])
        SCAN_ERROR(s, at, "PARAMS wants a kernel's name and at least one field: PARAMS(softmax, uint cols;)");
    kernel *k = kernel_named(s, arguments[0]);
    if (k->params.text)
        SCAN_ERROR(s, at, "a second PARAMS of %s", k->name);
    k->params = region_between(s, at, close + 1);
    const char *c = arguments[1];
    while (*(c = skip_space(c))) {
        char *type = word_at(&c);
        if (strcmp(type, "uint") != 0 && strcmp(type, "int") != 0 && strcmp(type, "float") != 0)
            SCAN_ERROR(s, at, "a field of PARAMS is a uint, int or float, not '%s'", type);
        do {
            char *name = word_at(&c);
            if (!*name)
                SCAN_ERROR(s, at, "a field of PARAMS lacks its name");
            c = skip_space(c);
            unsigned words = 1;
            if (*c == '[') {
                char *end;
                words = (unsigned)strtoul(c + 1, &end, 0);
                if (words == 0)
                    SCAN_ERROR(s, at, "the size of the array %s in PARAMS is a plain number", name);
                c = skip_space(skip_brackets(s, c));
            }
            k->params_words += words;
        } while (*c == ',' && *++c);
        if (*c != ';')
            SCAN_ERROR(s, at, "a field of PARAMS ends with ';'");
        c++;
    }
    if (k->params_words * 4 > 112)
        SCAN_ERROR(s, at, "PARAMS of %s take %u bytes, of 112", k->name, k->params_words * 4);
}

static void read_bindings(scanner *s, kernel *k, const char *at, const char *list)
{
    for (const char *c = list; *(c = skip_space(c));) {
        char *word = word_at(&c);
        const int access = strcmp(word, "IN") == 0      ? 1
                           : strcmp(word, "OUT") == 0   ? 2
                           : strcmp(word, "INOUT") == 0 ? 3
                                                        : 0;
        if (!access || *c != '(')
            SCAN_ERROR(s, at, "a binding is IN, OUT or INOUT(slot, type, name), not '%s'", c);
        const char *end = skip_brackets(s, c);
        char *arguments[3] = {0};
        if (split_arguments(c + 1, end - 1, arguments, 3) != 3)
            SCAN_ERROR(s, at, "a binding has a slot, a type and a name");
        if (k->binding_count == 8)
            SCAN_ERROR(s, at, "more than 8 bindings");
        binding *b = &k->bindings[k->binding_count];
        *b = (binding){atoi(arguments[0]), access, arguments[1], arguments[2]};
        if (b->slot != k->binding_count)
            SCAN_ERROR(s, at, "binding %s stands in place %d but says slot %s", b->id, k->binding_count, arguments[0]);
        k->binding_count++;
        c = end;
    }
    if (k->binding_count == 0)
        SCAN_ERROR(s, at, "kernel %s has no binding", k->name);
}

static void read_locals(scanner *s, kernel *k, const char *at, const char *list)
{
    for (const char *c = list; *(c = skip_space(c));) {
        char *word = word_at(&c);
        if (strcmp(word, "NO_LOCAL") == 0)
            continue;
        if (strcmp(word, "LOCAL") != 0 || *c != '(')
            SCAN_ERROR(s, at, "the third argument of KERNEL is LOCAL(type, name, n) or NO_LOCAL, not '%s'", word);
        const char *end = skip_brackets(s, c);
        char *arguments[3] = {0};
        if (split_arguments(c + 1, end - 1, arguments, 3) != 3)
            SCAN_ERROR(s, at, "a LOCAL has a type, a name and a count");
        if (k->local_count == 8)
            SCAN_ERROR(s, at, "more than 8 LOCAL");
        k->locals[k->local_count++] = arguments[1];
        c = end;
    }
}

static const char *read_kernel(scanner *s, const char *at, const char *inside, const char *close)
{
    char *arguments[3] = {0};
    if (split_arguments(inside, close, arguments, 3) != 3)
        SCAN_ERROR(s, at, "KERNEL wants a name, bindings, and LOCAL(…) or NO_LOCAL");
    kernel *k = kernel_named(s, arguments[0]);
    if (k->body.text)
        SCAN_ERROR(s, at, "a second KERNEL of the name %s", k->name);
    k->line = line_of(s, at);
    read_bindings(s, k, at, arguments[1]);
    read_locals(s, k, at, arguments[2]);
    const char *brace = skip_space(close + 1);
    if (*brace != '{')
        SCAN_ERROR(s, at, "kernel %s has no body", k->name);
    const char *end = skip_brackets(s, brace);
    k->body = region_between(s, at, end);
    for (int i = 0; i < k->binding_count; i++)
        if (!has_word(brace, format_of("VIEW(%s", k->bindings[i].id)) &&
            !strstr(brace, format_of("VIEW(%s,", k->bindings[i].id)))
            SCAN_ERROR(s, at, "kernel %s never opens VIEW(%s, base)", k->name, k->bindings[i].id);
    return end;
}

static void add_helper(scanner *s, const char *from, const char *to)
{
    kernel_file *file = s->file;
    file->helpers = realloc(file->helpers, (file->helper_count + 1) * sizeof *file->helpers);
    if (!file->helpers)
        die(NULL, 0, "out of memory");
    file->helpers[file->helper_count++] = region_between(s, from, to);
}

/* A preprocessor line with its continuations. */
static const char *read_preprocessor(scanner *s, const char *at)
{
    const char *end = at;
    while (*end && !(*end == '\n' && end[-1] != '\\'))
        end++;
    const char *c = at + 1;
    char *word = word_at(&c);
    if (strcmp(word, "define") == 0)
        add_name(&s->file->macros, &s->file->macro_count, word_at(&c));
    else if (strcmp(word, "include") == 0)
        SCAN_ERROR(s, at, "a kernel file includes nothing");
    add_helper(s, at, end);
    return end;
}

static const char *read_function(scanner *s, const char *at, const char *behind_type)
{
    const char *c = behind_type;
    char *name = word_at(&c);
    c = skip_space(c);
    if (!*name || *c != '(')
        SCAN_ERROR(s, at, "FN(type) is followed by a name and its arguments");
    const char *brace = skip_space(skip_brackets(s, c));
    if (*brace != '{')
        SCAN_ERROR(s, at, "the function %s has no body", name);
    const char *end = skip_brackets(s, brace);
    add_name(&s->file->functions, &s->file->function_count, name);
    add_helper(s, at, end);
    return end;
}

static void scan_top(scanner *s)
{
    while (*(s->at = skip_space(s->at))) {
        const char *at = s->at;
        if (*at == '#') {
            s->at = read_preprocessor(s, at);
            continue;
        }
        const char *c = at;
        char *word = word_at(&c);
        c = skip_space(c);
        if (*word && *c == '(') {
            const char *end = skip_brackets(s, c);
            const char *inside = c + 1, *close = end - 1;
            s->at = end;
            if (strcmp(word, "FOR") == 0)
                read_for(s, at, inside, close);
            else if (strcmp(word, "VARIANT") == 0)
                read_variant(s, at, inside, close);
            else if (strcmp(word, "TARGETS") == 0)
                read_targets(s, at, inside, close);
            else if (strcmp(word, "NO_ALIAS") == 0)
                s->file->no_alias = true;
            else if (strcmp(word, "PARAMS") == 0)
                read_params(s, at, inside, close);
            else if (strcmp(word, "KERNEL") == 0)
                s->at = read_kernel(s, at, inside, close);
            else if (strcmp(word, "FN") == 0)
                s->at = read_function(s, at, end);
            else
                SCAN_ERROR(s, at, "'%s' is no directive; a file holds directives, PARAMS, KERNEL, FN and #define",
                           word);
        } else {
            SCAN_ERROR(s, at, "'%s' is not expected here; a file holds directives, PARAMS, KERNEL, FN and #define",
                       *word ? word : copy_of(at, 1));
        }
    }
}

void scan_file(const char *path, const char *shown, const elementwise_table *table, kernel_file *file)
{
    char *source = read_file(path, NULL);
    if (!source)
        die(shown, 0, "cannot be read");
    *file = (kernel_file){.path = shown, .targets = TARGET_C | TARGET_OPENCL | TARGET_CUDA | TARGET_SPIRV};
    const char *base = strrchr(shown, '/');
    base = base ? base + 1 : shown;
    file->name = copy_of(base, strcspn(base, "."));

    scanner s = {.shown = shown, .file = file, .table = table};
    s.text = s.at = with_decimal_points(without_comments(source));
    scan_top(&s);

    if (file->variant_count == 0) {
        file->variants[0] = (variant){.name = "gpu", .group = "64", .group_spirv = "64"};
        file->variants[1] = (variant){.name = "cpu", .group = "1", .group_spirv = "8"};
        file->variant_count = 2;
    }
    for (size_t i = 0; i < file->kernel_count; i++) {
        if (!file->kernels[i].body.text)
            die(shown, file->kernels[i].params.line, "PARAMS of %s, but no KERNEL of that name", file->kernels[i].name);
        if (!file->kernels[i].params.text)
            die(shown, file->kernels[i].line, "kernel %s has no PARAMS", file->kernels[i].name);
    }
}
