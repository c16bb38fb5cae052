/* Reads elementwise.def and writes the table of it for src/ops. */
#include "pack.h"

#include <stdlib.h>
#include <string.h>

static int line_at(const char *text, const char *at)
{
    int line = 1;
    for (const char *c = text; c < at; c++)
        line += *c == '\n';
    return line;
}

static char *trim(const char *from, const char *to)
{
    while (from < to && strchr(" \t\n", *from))
        from++;
    while (from < to && strchr(" \t\n", to[-1]))
        to--;
    return copy_of(from, (size_t)(to - from));
}

/* Top-level split at commas; a `let t = e;` belongs to the expression that follows it, so ';' splits the gradients of
 * several operands only where no let is open: they are told apart by " ; ". */
static int split(const char *from, const char *to, char separator, char **out, int capacity)
{
    int count = 0, depth = 0;
    bool in_let = false;
    const char *start = from;
    for (const char *c = from; c <= to; c++) {
        if (c < to && depth == 0 && strncmp(c, "let ", 4) == 0 && (c == from || !is_word_char(c[-1])))
            in_let = true;
        if (c < to && separator == ';' && in_let && *c == ';') {
            in_let = false;
            continue;
        }
        if (c == to || (*c == separator && depth == 0)) {
            if (count < capacity)
                out[count] = trim(start, c);
            count++;
            start = c + 1;
        } else {
            depth += *c == '(';
            depth -= *c == ')';
        }
    }
    return count;
}

static const char *const operand_lists[4] = {"", "real x", "real a, real b", "real a, real b, real c"};

static void read_row(elementwise_table *table, const char *kind, int line, const char *inside, const char *close)
{
    elementwise_op op = {.line = line, .ulp = 0};
    op.compare = strcmp(kind, "COMPARE") == 0 || strcmp(kind, "TEST") == 0;
    op.bits = strcmp(kind, "BITS") == 0;
    op.loss = strcmp(kind, "LOSS") == 0;
    op.arity = strcmp(kind, "UNARY") == 0 || strcmp(kind, "TEST") == 0 ? 1 : strcmp(kind, "TERNARY") == 0 ? 3 : 2;
    char *fields[4] = {0};
    const int count = split(inside, close, ',', fields, 4);
    const int wanted = op.compare || op.bits ? 2 : 4;
    if (count != wanted)
        die(table->file, line, "%s wants %d arguments, not %d", kind, wanted, count);
    op.name = fields[0];
    for (size_t i = 0; i < table->count; i++)
        if (strcmp(table->ops[i].name, op.name) == 0)
            die(table->file, line, "the operator %s exists already in line %d", op.name, table->ops[i].line);

    expression_use use = {0};
    op.forward = format_of("FN(real) op_forward(%s, real s0, real s1) { %s }", operand_lists[op.arity],
                           expression_body(fields[1], table->file, line, op.arity, &use));
    if (use.result)
        die(table->file, line, "the forward expression of %s reads y", op.name);
    if (wanted == 4) {
        char *gradients[3] = {0}, *end;
        if (split(fields[2], fields[2] + strlen(fields[2]), ';', gradients, 3) != op.arity)
            die(table->file, line, "%s wants %d derivatives, divided by ';'", op.name, op.arity);
        for (int k = 0; k < op.arity; k++) {
            if (expression_is_zero(gradients[k]))
                continue;
            expression_use needs = {0};
            op.gradient[k] =
                format_of("FN(real) op_grad_%d(%s, real y, real s0, real s1) { %s }", k, operand_lists[op.arity],
                          expression_body(gradients[k], table->file, line, op.arity, &needs));
            memcpy(op.needs_operand[k], needs.operand, sizeof needs.operand);
            op.needs_result[k] = needs.result;
        }
        op.ulp = (int)strtol(fields[3], &end, 10);
        if (*end || end == fields[3])
            die(table->file, line, "the bound of %s is a whole number of ulp, not '%s'", op.name, fields[3]);
    }
    table->ops = realloc(table->ops, (table->count + 1) * sizeof *table->ops);
    if (!table->ops)
        die(NULL, 0, "out of memory");
    table->ops[table->count++] = op;
}

static void read_integer(elementwise_table *table, int line, const char *inside, const char *close)
{
    for (const char *c = inside; c < close;) {
        while (c < close && !is_word_char(*c))
            c++;
        const char *from = c;
        while (c < close && is_word_char(*c))
            c++;
        if (c == from)
            break;
        bool found = false;
        for (size_t i = 0; i < table->count; i++) {
            if (strlen(table->ops[i].name) == (size_t)(c - from) &&
                memcmp(table->ops[i].name, from, (size_t)(c - from)) == 0)
                table->ops[i].integer = found = true;
        }
        if (!found)
            die(table->file, line, "INTEGER names %.*s, which is no operator above", (int)(c - from), from);
    }
}

void elementwise_read(const char *path, elementwise_table *table)
{
    *table = (elementwise_table){.file = "kernels/elementwise.def"};
    char *source = read_file(path, NULL);
    if (!source)
        die(table->file, 0, "cannot be read");
    source = without_comments(source);

    for (const char *c = source; *c;) {
        if (strchr(" \t\n", *c)) {
            c++;
            continue;
        }
        const char *from = c;
        const int line = line_at(source, c);
        while (is_word_char(*c))
            c++;
        char *kind = copy_of(from, (size_t)(c - from));
        while (*c == ' ')
            c++;
        if (*c != '(')
            die(table->file, line, "a row begins with a kind and '(', as UNARY( does, not '%.20s'", from);
        int depth = 0;
        const char *close = c;
        for (;; close++) {
            if (!*close)
                die(table->file, line, "this row is never closed");
            depth += *close == '(';
            depth -= *close == ')';
            if (depth == 0)
                break;
        }
        if (strcmp(kind, "INTEGER") == 0)
            read_integer(table, line, c + 1, close);
        else if (strcmp(kind, "UNARY") == 0 || strcmp(kind, "BINARY") == 0 || strcmp(kind, "TERNARY") == 0 ||
                 strcmp(kind, "COMPARE") == 0 || strcmp(kind, "TEST") == 0 || strcmp(kind, "BITS") == 0 ||
                 strcmp(kind, "LOSS") == 0)
            read_row(table, kind, line, c + 1, close);
        else
            die(table->file, line, "a row is UNARY, BINARY, TERNARY, COMPARE, TEST, BITS, LOSS or INTEGER, not %s",
                kind);
        c = close + 1;
    }
}

bool elementwise_in_class(const elementwise_op *op, const char *class_name)
{
    static const char *const names[4] = {"", "unary", "binary", "ternary"};
    if (op->compare)
        return strcmp(class_name, op->arity == 1 ? "test" : "compare") == 0;
    if (op->bits)
        return strcmp(class_name, "bits") == 0;
    if (strcmp(class_name, names[op->arity]) == 0)
        return true;
    return op->integer && strcmp(class_name, format_of("%s_int", names[op->arity])) == 0;
}

void elementwise_write_table(const elementwise_table *table, const char *path)
{
    text out = {0};
    text_add(&out, "/* Made by kernel-pack from kernels/elementwise.def. */\n"
                   "#include \"ops/elementwise_table.h\"\n\n"
                   "const elementwise_row elementwise_rows[] = {\n");
    for (size_t i = 0; i < table->count; i++) {
        const elementwise_op *op = &table->ops[i];
        text_add(&out, "    {\"%s\", %d, %s, %s, %s, %s, %d, {", op->name, op->arity, op->compare ? "true" : "false",
                 op->bits ? "true" : "false", op->loss ? "true" : "false",
                 op->integer || op->compare || op->bits ? "true" : "false", op->ulp);
        for (int k = 0; k < op->arity; k++) {
            text_add(&out, "%s{%s, {", k ? ", " : "", op->gradient[k] ? "true" : "false");
            for (int j = 0; j < op->arity; j++)
                text_add(&out, "%s%s", j ? ", " : "", op->needs_operand[k][j] ? "true" : "false");
            text_add(&out, "}, %s}", op->needs_result[k] ? "true" : "false");
        }
        text_add(&out, "}},\n");
    }
    text_add(&out,
             "};\n\nconst size_t elementwise_row_count = sizeof elementwise_rows / sizeof elementwise_rows[0];\n");
    write_file_if_changed(path, out.data, out.length);
}
