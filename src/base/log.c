#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const level_names[] = {"debug", "info", "warn", "off"};

static atomic_int chosen_level = -1; /* -1: TESSERA_LOG was not looked at yet */

static void write_line(log_level level, const char *format, va_list arguments)
{
    char line[2048];

    const int length = snprintf(line, sizeof line, "tessera: %s: ", level_names[level]);
    vsnprintf(line + length, sizeof line - (size_t)length - 1, format, arguments);
    /* One call a line, so that the lines of several threads do not mix. */
    fputs(strcat(line, "\n"), stderr);
}

static void write_warning(const char *format, ...) PRINTF_LIKE(1, 2);
static void write_warning(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    write_line(LOG_WARN, format, arguments);
    va_end(arguments);
}

static int level_of_environment(void)
{
    const char *value = getenv("TESSERA_LOG");
    if (value == NULL || value[0] == '\0')
        return LOG_OFF;
    for (int i = 0; i <= LOG_OFF; i++) {
        if (strcmp(value, level_names[i]) == 0)
            return i;
    }
    /* Who sets the variable asks for output, so this may be told there. */
    write_warning("TESSERA_LOG=%s is none of debug, info, warn and off; taken as warn", value);
    return LOG_WARN;
}

bool log_enabled(log_level level)
{
    int chosen = atomic_load_explicit(&chosen_level, memory_order_relaxed);
    if (chosen < 0) {
        int unknown = -1;
        chosen = level_of_environment();
        if (!atomic_compare_exchange_strong(&chosen_level, &unknown, chosen))
            chosen = unknown;
    }
    return level != LOG_OFF && (int)level >= chosen;
}

void log_set_level(log_level level)
{
    atomic_store(&chosen_level, (int)level);
}

#define WRITE_IF_ENABLED(level)                                                                                        \
    do {                                                                                                               \
        if (log_enabled(level)) {                                                                                      \
            va_list arguments;                                                                                         \
            va_start(arguments, format);                                                                               \
            write_line(level, format, arguments);                                                                      \
            va_end(arguments);                                                                                         \
        }                                                                                                              \
    } while (0)

void log_debug(const char *format, ...)
{
    WRITE_IF_ENABLED(LOG_DEBUG);
}

void log_info(const char *format, ...)
{
    WRITE_IF_ENABLED(LOG_INFO);
}

void log_warn(const char *format, ...)
{
    WRITE_IF_ENABLED(LOG_WARN);
}
