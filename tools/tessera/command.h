/* What the commands of `tessera` share: how one is described, and what it returns. */
#ifndef TESSERA_COMMAND_H
#define TESSERA_COMMAND_H

#include "options.h"

/* Exit statuses, a contract (docs/json.md). */
enum {
    EXIT_DONE = 0,
    EXIT_DIFFERS = 1, /* a comparison failed */
    EXIT_USAGE = 2,   /* wrong arguments, or a file that they name cannot be used */
    EXIT_NO_DEVICE = 3,
    EXIT_DEVICE_FAILED = 4,
    EXIT_INTERRUPTED = 130 /* 128 + SIGINT, as shells count */
};

typedef struct command {
    const char *name;
    const char *summary;  /* one line, for the list of commands */
    const char *synopsis; /* what follows the name: "mnist [options]" */
    const char *about;    /* a paragraph for its help, lines broken; may be NULL */
    const option *options;
    size_t option_count;
    int file_count;                   /* names that it takes, all of them; 0: none … */
    size_t files;                     /* … offset in the settings of their const char *[file_count] */
    const char *const *subjects;      /* what the command acts on ("mnist"), ended by NULL; NULL if it takes nothing */
    size_t settings_size;             /* of the structure that the options fill, zeroed before */
    void (*defaults)(void *settings); /* sets what is not zero; may be NULL */
    int (*run)(const void *settings, const char *subject);
} command;

extern const command command_bench, command_compare, command_devices, command_diff, command_generate, command_train;

/* "tessera: …" on standard error. Returns EXIT_USAGE. */
int complain(const char *format, ...) PRINTF_LIKE(1, 2);

#endif
