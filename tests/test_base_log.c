#include "unit.h"

#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* What a child with TESSERA_LOG=level (NULL: not set) writes to standard error; the level is read once in a process. */
static void check_output(const char *level, const char *expected)
{
    char output[4096];
    size_t length = 0;
    int ends[2];

    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        if (level != NULL)
            setenv("TESSERA_LOG", level, 1);
        else
            unsetenv("TESSERA_LOG");
        log_debug("d %d", 1);
        log_info("i %d", 2);
        log_warn("w %s", "3");
        _exit(log_enabled(LOG_OFF) ? 1 : 0);
    }
    close(ends[1]);
    for (;;) {
        const ssize_t got = read(ends[0], output + length, sizeof output - 1 - length);
        if (got <= 0)
            break;
        length += (size_t)got;
    }
    close(ends[0]);
    output[length] = '\0';
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_string_equal(output, expected);
}

static void obeys_the_variable(void **state)
{
    (void)state;
    check_output(NULL, "");
    check_output("", "");
    check_output("off", "");
    check_output("warn", "tessera: warn: w 3\n");
    check_output("info", "tessera: info: i 2\ntessera: warn: w 3\n");
    check_output("debug", "tessera: debug: d 1\ntessera: info: i 2\ntessera: warn: w 3\n");
    check_output("loud", "tessera: warn: TESSERA_LOG=loud is none of debug, info, warn and off; taken as warn\n"
                         "tessera: warn: w 3\n");
}

static void level_can_be_set(void **state)
{
    (void)state;
    log_set_level(LOG_INFO);
    assert_false(log_enabled(LOG_DEBUG));
    assert_true(log_enabled(LOG_INFO));
    assert_true(log_enabled(LOG_WARN));
    log_set_level(LOG_OFF);
    assert_false(log_enabled(LOG_WARN));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(obeys_the_variable), /* first: it forks before the level is known here */
        cmocka_unit_test(level_can_be_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
