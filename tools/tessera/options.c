#include "options.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "command.h"

enum { OPTIONS_MAX = 64 };

/* ---- values ------------------------------------------------------------------------------------------------------- */

static bool wrong(const command *c)
{
    fprintf(stderr, "Try: tessera %s --help\n", c->name);
    return false;
}

static bool take_choice(const command *c, const option *o, const char *value, const char **field)
{
    size_t count = 0;
    text all = {0};
    for (; o->choices[count] != NULL; count++) {
        if (strcmp(o->choices[count], value) == 0) {
            *field = o->choices[count];
            text_free(&all);
            return true;
        }
        text_appendf(&all, "%s%s", count == 0 ? "" : ", ", o->choices[count]);
    }
    const char *near = nearest_word(value, o->choices, count);
    if (near != NULL)
        complain("--%s %s: did you mean %s? (one of %s)", o->name, value, near, text_string(&all));
    else
        complain("--%s %s: it is one of %s", o->name, value, text_string(&all));
    text_free(&all);
    return wrong(c);
}

/* A bound as a person writes it; the largest ones are no bound worth naming. */
static bool out_of_range(const command *c, const option *o, const char *value)
{
    if (o->high >= 1e15)
        complain("--%s %s: it must be at least %g", o->name, value, o->low);
    else
        complain("--%s %s: it must lie between %g and %g", o->name, value, o->low, o->high);
    return wrong(c);
}

static bool take_value(const command *c, const option *o, const char *value, void *settings)
{
    void *field = (char *)settings + o->offset;
    char *end;
    errno = 0;
    switch (o->kind) {
    case OPTION_FLAG: *(bool *)field = true; return true;
    case OPTION_CHOICE: return take_choice(c, o, value, field);
    case OPTION_TEXT:
        if (value[0] == '\0') {
            complain("--%s is empty; it needs %s", o->name, o->value);
            return wrong(c);
        }
        *(const char **)field = value;
        return true;
    case OPTION_INT: {
        const long long n = strtoll(value, &end, 10);
        if (end == value || *end != '\0') {
            complain("--%s %s: it must be a whole number", o->name, value);
            return wrong(c);
        }
        if (errno == ERANGE || (double)n < o->low || (double)n > o->high)
            return out_of_range(c, o, value);
        *(int64_t *)field = n;
        return true;
    }
    case OPTION_SEED: {
        const unsigned long long n = strtoull(value, &end, 10);
        if (value[0] < '0' || value[0] > '9' || *end != '\0' || errno == ERANGE) {
            complain("--%s %s: it must be a whole number from 0 to 2^64 - 1", o->name, value);
            return wrong(c);
        }
        *(uint64_t *)field = n;
        return true;
    }
    case OPTION_REAL: {
        const double x = strtod(value, &end);
        if (end == value || *end != '\0' || !isfinite(x)) {
            complain("--%s %s: it must be a number", o->name, value);
            return wrong(c);
        }
        if (!(x >= o->low && x <= o->high))
            return out_of_range(c, o, value);
        *(double *)field = x;
        return true;
    }
    }
    return false;
}

/* ---- words -------------------------------------------------------------------------------------------------------- */

static const option *find_option(const command *c, const char *name, size_t length)
{
    for (size_t i = 0; i < c->option_count; i++)
        if (strlen(c->options[i].name) == length && memcmp(c->options[i].name, name, length) == 0)
            return &c->options[i];
    return NULL;
}

static bool unknown_option(const command *c, const char *word)
{
    const char *names[OPTIONS_MAX + 1];
    char name[64];
    size_t count = 0;
    for (; count < c->option_count && count < OPTIONS_MAX; count++)
        names[count] = c->options[count].name;
    names[count++] = "help";
    snprintf(name, sizeof name, "%.*s", (int)strcspn(word + strspn(word, "-"), "="), word + strspn(word, "-"));
    const char *near = nearest_word(name, names, count);
    if (near != NULL)
        complain("tessera %s has no option %s; did you mean --%s?", c->name, word, near);
    else
        complain("tessera %s has no option %s", c->name, word);
    return wrong(c);
}

static bool take_file(const command *c, const char *word, void *settings)
{
    const char **files = (const char **)(void *)((char *)settings + c->files);
    for (int i = 0; i < c->file_count; i++)
        if (files[i] == NULL) {
            files[i] = word;
            return true;
        }
    complain("tessera %s takes %d files; '%s' is one more", c->name, c->file_count, word);
    return wrong(c);
}

static bool has_files(const command *c, void *settings)
{
    const char **files = (const char **)(void *)((char *)settings + c->files);
    if (c->file_count == 0 || files[c->file_count - 1] != NULL)
        return true;
    complain("tessera %s needs %d files: tessera %s %s", c->name, c->file_count, c->name, c->synopsis);
    return wrong(c);
}

static bool take_subject(const command *c, const char *word, const char **subject)
{
    if (c->subjects == NULL) {
        complain("tessera %s takes no argument such as '%s'", c->name, word);
        return wrong(c);
    }
    if (*subject != NULL) {
        complain("tessera %s takes one argument; '%s' is a second", c->name, word);
        return wrong(c);
    }
    size_t count = 0;
    for (; c->subjects[count] != NULL; count++)
        if (strcmp(c->subjects[count], word) == 0) {
            *subject = c->subjects[count];
            return true;
        }
    const char *near = nearest_word(word, c->subjects, count);
    complain("tessera %s does not know '%s'; %s%s", c->name, word, near != NULL ? "did you mean " : "it knows ",
             near != NULL ? near : c->subjects[0]);
    return wrong(c);
}

parsed options_parse(const command *c, int argc, char *const *argv, void *settings, const char **subject)
{
    bool only_words = false;
    *subject = NULL;

    /* Help is asked for by who does not know the rest. */
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return PARSED_HELP;

    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        if (only_words || word[0] != '-' || word[1] == '\0') {
            if (!(c->file_count > 0 ? take_file(c, word, settings) : take_subject(c, word, subject)))
                return PARSED_WRONG;
            continue;
        }
        if (strcmp(word, "--") == 0) {
            only_words = true;
            continue;
        }
        const size_t length = strcspn(word, "=");
        const option *o = strncmp(word, "--", 2) == 0 ? find_option(c, word + 2, length - 2) : NULL;
        if (o == NULL)
            return unknown_option(c, word), PARSED_WRONG;
        const char *value = word[length] == '=' ? word + length + 1 : NULL;
        if (o->kind == OPTION_FLAG && value != NULL) {
            complain("--%s takes no value", o->name);
            return wrong(c), PARSED_WRONG;
        }
        if (o->kind != OPTION_FLAG && value == NULL) {
            if (i + 1 == argc) {
                complain("--%s needs a value: --%s %s", o->name, o->name, o->value);
                return wrong(c), PARSED_WRONG;
            }
            value = argv[++i];
        }
        if (!take_value(c, o, value, settings))
            return PARSED_WRONG;
    }
    if (c->subjects != NULL && *subject == NULL) {
        complain("tessera %s needs to know what: tessera %s %s", c->name, c->name, c->subjects[0]);
        return wrong(c), PARSED_WRONG;
    }
    return has_files(c, settings) ? PARSED : PARSED_WRONG;
}

/* ---- help --------------------------------------------------------------------------------------------------------- */

static int left_width(const option *o)
{
    return (int)(strlen(o->name) + (o->value != NULL ? 1 + strlen(o->value) : 0));
}

static void help_row(FILE *out, int width, const char *name, const char *value, const char *help)
{
    const int used = fprintf(out, "  --%s%s%s", name, value != NULL ? " " : "", value != NULL ? value : "");
    fprintf(out, "%*s", width + 6 - used, "");
    for (; *help != '\0'; help++) { /* further lines begin under the first */
        fputc(*help, out);
        if (*help == '\n')
            fprintf(out, "%*s", width + 6, "");
    }
    fputc('\n', out);
}

void options_help(const command *c, FILE *out)
{
    int width = 4;
    for (size_t i = 0; i < c->option_count; i++)
        width = left_width(&c->options[i]) > width ? left_width(&c->options[i]) : width;
    fprintf(out, "tessera %s: %s\n\nUsage: tessera %s%s%s\n", c->name, c->summary, c->name,
            c->synopsis[0] != '\0' ? " " : "", c->synopsis);
    if (c->about != NULL)
        fprintf(out, "\n%s\n", c->about);
    fprintf(out, "\nOptions:\n");
    for (size_t i = 0; i < c->option_count; i++)
        help_row(out, width, c->options[i].name, c->options[i].value, c->options[i].help);
    help_row(out, width, "help", NULL, "this text");
}
