/* Expressions of elementwise.def, translated to dialect text.
 *
 *   body    = { "let" name "=" choice ";" } choice
 *   choice  = or [ "?" choice ":" choice ]
 *   or      = and { "||" and }          and = equal { "&&" equal }
 *   compare = sum [ ("<"|"<="|">"|">="|"=="|"!=") sum ]
 *   sum     = product { ("+"|"-") product }
 *   product = sign { ("*"|"/") sign }
 *   sign    = ["-"|"!"] primary
 *   primary = number | name | name "(" choice { "," choice } ")" | "(" choice ")" */
#include "pack.h"

#include <stdlib.h>
#include <string.h>

typedef struct parser {
    const char *at, *file;
    int line, arity;
    expression_use *use;
    char lets[8][32];
    int let_count;
} parser;

/* Text of type real, or a truth value. */
typedef struct value {
    const char *text;
    bool truth;
} value;

static value parse_choice(parser *p);

#define PARSE_ERROR(p, ...) die((p)->file, (p)->line, __VA_ARGS__)

static void skip(parser *p)
{
    while (*p->at == ' ' || *p->at == '\t' || *p->at == '\n' || *p->at == '\\')
        p->at++;
}

static bool accept(parser *p, const char *token)
{
    skip(p);
    const size_t length = strlen(token);
    if (strncmp(p->at, token, length) != 0)
        return false;
    p->at += length;
    return true;
}

static void expect(parser *p, const char *token)
{
    if (!accept(p, token))
        PARSE_ERROR(p, "'%s' is expected before '%.20s'", token, p->at);
}

static const char *as_real(value v)
{
    return v.truth ? format_of("SELECT(%s, R(1.0), R(0.0))", v.text) : v.text;
}

static const char *as_truth(value v)
{
    return v.truth ? v.text : format_of("(%s != R(0.0))", v.text);
}

static const struct {
    const char *name, *word;
    int arity;
    bool truth;
} functions[] = {
    {"exp", "EXP", 1, false},
    {"log", "LOG", 1, false},
    {"sqrt", "SQRT", 1, false},
    {"rsqrt", "RSQRT", 1, false},
    {"tanh", "TANH", 1, false},
    {"erf", "ERF", 1, false},
    {"erfc", "ERFC", 1, false},
    {"sin", "SIN", 1, false},
    {"cos", "COS", 1, false},
    {"tan", "TAN", 1, false},
    {"expm1", "EXPM1", 1, false},
    {"log1p", "LOG1P", 1, false},
    {"exp2", "EXP2", 1, false},
    {"log2", "LOG2", 1, false},
    {"log10", "LOG10", 1, false},
    {"pow", "POW", 2, false},
    {"asin", "ASIN", 1, false},
    {"acos", "ACOS", 1, false},
    {"atan", "ATAN", 1, false},
    {"sinh", "SINH", 1, false},
    {"cosh", "COSH", 1, false},
    {"atan2", "ATAN2", 2, false},
    {"hypot", "HYPOT", 2, false},
    {"fmod", "FMOD", 2, false},
    {"bit_and", "BIT_AND", 2, false},
    {"bit_or", "BIT_OR", 2, false},
    {"bit_xor", "BIT_XOR", 2, false},
    {"shift_left", "SHIFT_LEFT", 2, false},
    {"shift_right", "SHIFT_RIGHT", 2, false},
    {"sigmoid", "SIGMOID", 1, false},
    {"softplus", "SOFTPLUS", 1, false},
    {"normal_cdf", "NORMAL_CDF", 1, false},
    {"abs", "ABS", 1, false},
    {"floor", "FLOOR", 1, false},
    {"ceil", "CEIL", 1, false},
    {"trunc", "TRUNC", 1, false},
    {"round", "ROUND", 1, false},
    {"sign", "SIGN", 1, false},
    {"min", "MIN", 2, false},
    {"max", "MAX", 2, false},
    {"gauss", "GAUSS", 1, false},
    {"normal_pdf", "NORMAL_PDF", 1, false},
    {"isnan", "ISNAN", 1, true},
    {"isinf", "ISINF", 1, true},
};

static value parse_call(parser *p, const char *name)
{
    for (size_t f = 0; f < sizeof functions / sizeof functions[0]; f++) {
        if (strcmp(functions[f].name, name) != 0)
            continue;
        text out = {0};
        text_add(&out, "%s(", functions[f].word);
        for (int k = 0; k < functions[f].arity; k++) {
            if (k)
                expect(p, ",");
            text_add(&out, "%s%s", k ? ", " : "", as_real(parse_choice(p)));
        }
        expect(p, ")");
        text_add(&out, ")");
        return (value){text_string(&out), functions[f].truth};
    }
    PARSE_ERROR(p, "the function %s() is not known; those that are stand in tools/kernel-pack/expression.c", name);
}

static value parse_name(parser *p, const char *name)
{
    static const char *const operands[4] = {"", "x", "ab", "abc"};
    const char *at = name[0] && !name[1] ? strchr(operands[p->arity], name[0]) : NULL;
    if (at) {
        p->use->operand[at - operands[p->arity]] = true;
        return (value){name, false};
    }
    if (strcmp(name, "y") == 0) {
        p->use->result = true;
        return (value){name, false};
    }
    if (strcmp(name, "s0") == 0 || strcmp(name, "s1") == 0)
        return (value){name, false};
    for (int l = 0; l < p->let_count; l++)
        if (strcmp(p->lets[l], name) == 0)
            return (value){format_of("%s_", name), false};
    PARSE_ERROR(p, "the name %s is neither an operand, nor y, s0, s1, nor a let", name);
}

static value parse_primary(parser *p)
{
    skip(p);
    if (accept(p, "(")) {
        const value inner = parse_choice(p);
        expect(p, ")");
        return (value){format_of("(%s)", inner.text), inner.truth};
    }
    const char *from = p->at;
    if ((*from >= '0' && *from <= '9') || *from == '.') {
        char *end;
        strtod(from, &end);
        p->at = end;
        char *number = copy_of(from, (size_t)(end - from));
        return (value){format_of(strpbrk(number, ".eE") ? "R(%s)" : "R(%s.0)", number), false};
    }
    while (is_word_char(*p->at))
        p->at++;
    if (p->at == from)
        PARSE_ERROR(p, "a number, a name or '(' is expected before '%.20s'", from);
    char *name = copy_of(from, (size_t)(p->at - from));
    return accept(p, "(") ? parse_call(p, name) : parse_name(p, name);
}

static value parse_sign(parser *p)
{
    skip(p);
    if (accept(p, "-"))
        return (value){format_of("(-%s)", as_real(parse_sign(p))), false};
    if (*p->at == '!' && p->at[1] != '=' && accept(p, "!"))
        return (value){format_of("(!%s)", as_truth(parse_sign(p))), true};
    return parse_primary(p);
}

static value parse_product(parser *p)
{
    value left = parse_sign(p);
    for (;;) {
        if (accept(p, "*"))
            left = (value){format_of("(%s * %s)", as_real(left), as_real(parse_sign(p))), false};
        else if (accept(p, "/"))
            left = (value){format_of("DIV(%s, %s)", as_real(left), as_real(parse_sign(p))), false};
        else
            return left;
    }
}

static value parse_sum(parser *p)
{
    value left = parse_product(p);
    for (;;) {
        if (accept(p, "+"))
            left = (value){format_of("(%s + %s)", as_real(left), as_real(parse_product(p))), false};
        else if (accept(p, "-"))
            left = (value){format_of("(%s - %s)", as_real(left), as_real(parse_product(p))), false};
        else
            return left;
    }
}

static value parse_compare(parser *p)
{
    static const char *const signs[] = {"<=", ">=", "==", "!=", "<", ">"};
    value left = parse_sum(p);
    for (size_t s = 0; s < sizeof signs / sizeof signs[0]; s++)
        if (accept(p, signs[s]))
            return (value){format_of("(%s %s %s)", as_real(left), signs[s], as_real(parse_sum(p))), true};
    return left;
}

static value parse_and(parser *p)
{
    value left = parse_compare(p);
    while (accept(p, "&&"))
        left = (value){format_of("(%s && %s)", as_truth(left), as_truth(parse_compare(p))), true};
    return left;
}

static value parse_or(parser *p)
{
    value left = parse_and(p);
    while (accept(p, "||"))
        left = (value){format_of("(%s || %s)", as_truth(left), as_truth(parse_and(p))), true};
    return left;
}

static value parse_choice(parser *p)
{
    const value condition = parse_or(p);
    if (!accept(p, "?"))
        return condition;
    const value yes = parse_choice(p);
    expect(p, ":");
    const value no = parse_choice(p);
    return (value){format_of("SELECT(%s, %s, %s)", as_truth(condition), as_real(yes), as_real(no)), false};
}

char *expression_body(const char *source, const char *file, int line, int arity, expression_use *use)
{
    parser p = {.at = source, .file = file, .line = line, .arity = arity, .use = use};
    text out = {0};
    for (skip(&p); strncmp(p.at, "let ", 4) == 0; skip(&p)) {
        p.at += 4;
        skip(&p);
        const char *from = p.at;
        while (is_word_char(*p.at))
            p.at++;
        const size_t length = (size_t)(p.at - from);
        if (p.let_count == 8 || length == 0 || length >= sizeof p.lets[0])
            PARSE_ERROR(&p, "a let has a name of at most 31 letters, and there are at most 8");
        expect(&p, "=");
        const value v = parse_choice(&p);
        expect(&p, ";");
        text_add(&out, "const real %.*s_ = %s; ", (int)length, from, as_real(v));
        memcpy(p.lets[p.let_count], from, length);
        p.lets[p.let_count++][length] = 0;
    }
    text_add(&out, "return %s;", as_real(parse_choice(&p)));
    skip(&p);
    if (*p.at)
        PARSE_ERROR(&p, "'%.20s' is left over behind the expression", p.at);
    return copy_of(out.data, out.length);
}

bool expression_is_zero(const char *source)
{
    return strcmp(source, "0") == 0;
}
