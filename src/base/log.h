/* What the library would like to tell a person who asked: TESSERA_LOG=debug|info|warn|off, off by default.
 * Lines go to standard error. Nothing here is an error; errors are statuses (base/error.h). */
#ifndef TESSERA_BASE_LOG_H
#define TESSERA_BASE_LOG_H

#include "base/compiler.h"

#include <stdbool.h>

typedef enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_OFF } log_level;

void log_debug(const char *format, ...) PRINTF_LIKE(1, 2);
void log_info(const char *format, ...) PRINTF_LIKE(1, 2);
void log_warn(const char *format, ...) PRINTF_LIKE(1, 2);

/* Whether a line of this level would be written: for lines that are dear to put together. */
bool log_enabled(log_level level);

/* Sets the level in place of TESSERA_LOG. */
void log_set_level(log_level level);

#endif
