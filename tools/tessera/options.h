/* Options as rows of a table: parsing, checking and the help come from the rows. */
#ifndef TESSERA_OPTIONS_H
#define TESSERA_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/compiler.h"

typedef enum option_kind {
    OPTION_FLAG,   /* bool */
    OPTION_TEXT,   /* const char *, not empty */
    OPTION_CHOICE, /* const char *, one of `choices` */
    OPTION_INT,    /* int64_t in [low, high] */
    OPTION_SEED,   /* uint64_t */
    OPTION_REAL    /* double in [low, high], finite */
} option_kind;

/* Given as --name VALUE or --name=VALUE; the last one counts, so that a script's options can be overridden. */
typedef struct option {
    const char *name;
    const char *value; /* the word for it in the help; NULL for a flag */
    option_kind kind;
    size_t offset; /* of its field in the settings */
    const char *help;
    double low, high;
    const char *const *choices; /* ended by NULL */
} option;

struct command;

typedef enum parsed { PARSED, PARSED_HELP, PARSED_WRONG } parsed;

/* Fills `settings` from the words behind the command's name. PARSED_WRONG: the complaint was printed. */
parsed options_parse(const struct command *command, int argc, char *const *argv, void *settings, const char **subject);

void options_help(const struct command *command, FILE *out);

#endif
