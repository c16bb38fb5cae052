/* PyTorch as a yardstick: one of the scripts beside the benchmarks, in a process of its own, which reads a question a line and
 * answers with the seconds it took, and perhaps a second number. The first line that it prints is PyTorch's version. */
#ifndef TESSERA_BENCH_PYTORCH_H
#define TESSERA_BENCH_PYTORCH_H

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/thread.h"

typedef struct pytorch {
    pid_t process;
    FILE *to, *from;
    char version[64]; /* "PyTorch 1.13.1" */
    double second;    /* number of the latest answer, where a script gives two */
} pytorch;

/* `argument` follows the number of threads; NULL: none. False, and it says so, where python3 (or BENCH_PYTHON) has no torch. The scripts are looked for in BENCH_SOURCE_DIR, else in bench. */
static inline bool pytorch_open_with(pytorch *p, const char *name, const char *argument)
{
    int to[2], from[2];
    char threads[16];
    const char *python = getenv("BENCH_PYTHON"), *folder = getenv("BENCH_SOURCE_DIR");
    char script[4096], line[56];
    signal(SIGPIPE, SIG_IGN);
    snprintf(script, sizeof script, "%s/%s", folder != NULL ? folder : "bench", name);
    snprintf(threads, sizeof threads, "%d", cpu_count());
    if (pipe(to) != 0 || pipe(from) != 0)
        return false;
    p->process = fork();
    if (p->process == 0) {
        dup2(to[0], 0);
        dup2(from[1], 1);
        close(to[1]);
        close(from[0]);
        const char *program = python != NULL ? python : "/usr/bin/python3";
        execlp(program, program, script, threads, argument,
               (char *)NULL); /* its own path tells Python of a virtual environment */
        _exit(127);
    }
    close(to[0]);
    close(from[1]);
    p->to = fdopen(to[1], "w");
    p->from = fdopen(from[0], "r");
    if (p->process < 0 || p->to == NULL || p->from == NULL || fgets(line, sizeof line, p->from) == NULL) {
        printf("python3 has no torch (Debian, Ubuntu: apt install python3-torch): no ratio to it\n");
        return false;
    }
    line[strcspn(line, "\n")] = '\0';
    snprintf(p->version, sizeof p->version, "PyTorch %s", line);
    return true;
}

static inline bool pytorch_open(pytorch *p, const char *name)
{
    return pytorch_open_with(p, name, NULL);
}

static inline bool pytorch_ask(pytorch *p, const char *question, double *seconds)
{
    char line[128], *rest = line;
    fprintf(p->to, "%s\n", question);
    if (fflush(p->to) != 0 || fgets(line, sizeof line, p->from) == NULL)
        return false;
    *seconds = strtod(line, &rest);
    p->second = strtod(rest, NULL);
    return *seconds > 0;
}

static inline void pytorch_close(pytorch *p)
{
    if (p->to != NULL)
        fclose(p->to);
    if (p->from != NULL)
        fclose(p->from);
    if (p->process > 0) {
        kill(p->process, SIGTERM);
        waitpid(p->process, NULL, 0);
    }
}

#endif
