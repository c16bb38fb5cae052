/* The `tessera` command: which part of it is meant. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "command.h"
#include "terminal.h"
#include "tessera/version.h"

static const command *const commands[] = {&command_devices, &command_compare, &command_diff,
                                          &command_bench,   &command_train,   &command_generate};

int complain(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("tessera: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    return EXIT_USAGE;
}

static void overview(FILE *out)
{
    fputs("tessera: trains neural networks on any GPU, through CUDA, OpenCL and Vulkan, and on the processor\n\n"
          "Usage: tessera COMMAND [options]\n\nCommands:\n",
          out);
    for (size_t i = 0; i < COUNT_OF(commands); i++)
        fprintf(out, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
    fputs("  help       the help of a command: tessera help train\n"
          "\nOptions:\n"
          "  --help     this text\n"
          "  --version  the version of the library\n"
          "\nExit status: 0 done, 1 a comparison failed, 2 wrong usage, 3 no such device, 4 a device failed,\n"
          "130 interrupted.\n",
          out);
}

static const command *find_command(const char *word)
{
    const char *names[COUNT_OF(commands) + 1];
    size_t count = 0;
    for (; count < COUNT_OF(commands); count++) {
        if (strcmp(commands[count]->name, word) == 0)
            return commands[count];
        names[count] = commands[count]->name;
    }
    names[count++] = "help";
    const char *near = nearest_word(word, names, count);
    if (near != NULL)
        complain("there is no command '%s'; did you mean '%s'?", word, near);
    else
        complain("there is no command '%s'", word);
    fputs("Try: tessera --help\n", stderr);
    return NULL;
}

static int help(int argc, char *const *argv)
{
    if (argc == 0 || argv[0][0] == '-') {
        overview(stdout);
        return EXIT_DONE;
    }
    const command *c = find_command(argv[0]);
    if (c == NULL)
        return EXIT_USAGE;
    options_help(c, stdout);
    return EXIT_DONE;
}

static int run(const command *c, int argc, char *const *argv)
{
    const char *subject;
    void *settings = host_alloc_zeroed(1, c->settings_size);
    if (settings == NULL)
        return complain("%s", tsr_last_error());
    if (c->defaults != NULL)
        c->defaults(settings);
    int status = EXIT_USAGE;
    switch (options_parse(c, argc, argv, settings, &subject)) {
    case PARSED: status = c->run(settings, subject); break;
    case PARSED_HELP:
        options_help(c, stdout);
        status = EXIT_DONE;
        break;
    case PARSED_WRONG: break;
    }
    host_free(settings);
    return status;
}

static int dispatch(int argc, char *const *argv)
{
    if (argc < 2) {
        overview(stderr);
        return EXIT_USAGE;
    }
    const char *word = argv[1];
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0)
        return help(argc - 2, argv + 2);
    if (strcmp(word, "--version") == 0) {
        printf("tessera %s\n", tsr_version());
        return EXIT_DONE;
    }
    if (word[0] == '-') {
        complain("there is no option %s before the command", word);
        fputs("Try: tessera --help\n", stderr);
        return EXIT_USAGE;
    }
    const command *c = find_command(word);
    return c == NULL ? EXIT_USAGE : run(c, argc - 2, argv + 2);
}

int main(int argc, char **argv)
{
    terminal_begin();
    const int status = dispatch(argc, argv);
    /* What does not arrive was not done: a full disk shows here. */
    if (fflush(stdout) != 0 || ferror(stdout)) {
        complain("cannot write to standard output: %s", strerror(errno));
        return status == EXIT_DONE ? EXIT_USAGE : status;
    }
    return status;
}
