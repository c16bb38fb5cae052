/* Starts compilers side by side. */
#include "pack.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>

extern char **environ;

static pid_t start(char **command, const char *log)
{
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, log, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    pid_t process;
    const int problem = posix_spawnp(&process, command[0], &actions, NULL, command, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (problem)
        die(command[0], 0, "cannot be started: %s", strerror(problem));
    return process;
}

void run_all(char ***commands, const char **logs, int *statuses, size_t count, int jobs)
{
    pid_t *processes = allocate(count * sizeof *processes);
    size_t started = 0, running = 0;
    while (started < count || running > 0) {
        if (started < count && running < (size_t)jobs) {
            processes[started] = start(commands[started], logs[started]);
            started++;
            running++;
            continue;
        }
        int status;
        const pid_t ended = waitpid(-1, &status, 0);
        if (ended < 0 && errno == EINTR)
            continue;
        if (ended < 0)
            die(NULL, 0, "waiting for a compiler failed: %s", strerror(errno));
        for (size_t i = 0; i < started; i++) {
            if (processes[i] == ended) {
                statuses[i] = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
                running--;
            }
        }
    }
}
