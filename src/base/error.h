/* The thread's error: how a function says that it failed. Read with tsr_last_error() of <tessera/status.h>. */
#ifndef TESSERA_BASE_ERROR_H
#define TESSERA_BASE_ERROR_H

#include "base/compiler.h"

#include <tessera/status.h>

/* cmocka has a macro of this name; a test that wants both includes cmocka.h first. */
#undef fail

enum { ERROR_MESSAGE_SIZE = 1024 };

/* Keeps `code` and the formatted sentence (no final newline; cut at ERROR_MESSAGE_SIZE - 1 bytes) as the thread's
 * error. Returns `code`, so that a function fails in one line: return fail(TSR_OUT_OF_RANGE, "axis %d of ...", axis);
 * The arguments may point into tsr_last_error() itself. Allocates nothing. */
tsr_status fail(tsr_status code, const char *format, ...) PRINTF_LIKE(2, 3);

/* As fail, from errno: appends ": " and its text. TSR_OUT_OF_MEMORY for ENOMEM, else TSR_IO_ERROR. Leaves errno
 * as it was. */
tsr_status fail_errno(const char *format, ...) PRINTF_LIKE(1, 2);

/* Puts "text: " before the thread's message and returns its status, so that a caller can say what it was about:
 * if (status) return fail_prefix("reading %s", path); */
tsr_status fail_prefix(const char *format, ...) PRINTF_LIKE(1, 2);

/* The thread's error set aside, for code that tries what may fail without that being a failure of its own. */
typedef struct error_state {
    tsr_status status;
    char message[ERROR_MESSAGE_SIZE];
} error_state;

void error_save(error_state *state);
void error_restore(const error_state *state);

#endif
