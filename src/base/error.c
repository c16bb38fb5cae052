#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local error_state current;

/* Cuts `message` after `kept` bytes and says so, without leaving half of a UTF-8 character. */
static void cut(char message[ERROR_MESSAGE_SIZE], size_t kept)
{
    while (kept > 0 && ((unsigned char)message[kept] & 0xC0) == 0x80)
        kept--;
    memcpy(message + kept, "...", sizeof "...");
}

static size_t format_message(char message[ERROR_MESSAGE_SIZE], const char *format, va_list arguments)
{
    const int length = vsnprintf(message, ERROR_MESSAGE_SIZE, format, arguments);
    if (length < 0) { /* an argument that the locale cannot encode: the format alone is better than nothing */
        snprintf(message, ERROR_MESSAGE_SIZE, "%s", format);
    } else if (length >= ERROR_MESSAGE_SIZE) {
        cut(message, ERROR_MESSAGE_SIZE - sizeof "...");
    }
    return strlen(message);
}

/* message += ": " + more */
static void append_message(char message[ERROR_MESSAGE_SIZE], size_t length, const char *more)
{
    const int added = snprintf(message + length, ERROR_MESSAGE_SIZE - length, ": %s", more);
    if (added > 0 && (size_t)added >= ERROR_MESSAGE_SIZE - length)
        cut(message, ERROR_MESSAGE_SIZE - sizeof "...");
}

tsr_status fail(tsr_status code, const char *format, ...)
{
    char message[ERROR_MESSAGE_SIZE];
    va_list arguments;

    va_start(arguments, format);
    const size_t length = format_message(message, format, arguments);
    va_end(arguments);

    memcpy(current.message, message, length + 1);
    current.status = code;
    return code;
}

tsr_status fail_errno(const char *format, ...)
{
    const int code = errno;
    char message[ERROR_MESSAGE_SIZE];
    char reason[128];
    va_list arguments;

    va_start(arguments, format);
    const size_t length = format_message(message, format, arguments);
    va_end(arguments);

    /* GNU's strerror_r, which need not use the buffer. */
    append_message(message, length, strerror_r(code, reason, sizeof reason));
    memcpy(current.message, message, strlen(message) + 1);
    current.status = code == ENOMEM ? TSR_OUT_OF_MEMORY : TSR_IO_ERROR;
    errno = code;
    return current.status;
}

tsr_status fail_prefix(const char *format, ...)
{
    char message[ERROR_MESSAGE_SIZE];
    va_list arguments;

    va_start(arguments, format);
    const size_t length = format_message(message, format, arguments);
    va_end(arguments);

    append_message(message, length, current.message);
    memcpy(current.message, message, strlen(message) + 1);
    return current.status;
}

void error_save(error_state *state)
{
    *state = current;
}

void error_restore(const error_state *state)
{
    current = *state;
}

const char *tsr_last_error(void)
{
    return current.message;
}

tsr_status tsr_last_status(void)
{
    return current.status;
}

void tsr_clear_error(void)
{
    current.status = TSR_OK;
    current.message[0] = '\0';
}

const char *tsr_status_name(tsr_status status)
{
    switch (status) {
    case TSR_OK: return "TSR_OK";
    case TSR_INVALID_ARGUMENT: return "TSR_INVALID_ARGUMENT";
    case TSR_OUT_OF_RANGE: return "TSR_OUT_OF_RANGE";
    case TSR_UNSUPPORTED: return "TSR_UNSUPPORTED";
    case TSR_NOT_FOUND: return "TSR_NOT_FOUND";
    case TSR_NO_DEVICE: return "TSR_NO_DEVICE";
    case TSR_OUT_OF_MEMORY: return "TSR_OUT_OF_MEMORY";
    case TSR_OUT_OF_DEVICE_MEMORY: return "TSR_OUT_OF_DEVICE_MEMORY";
    case TSR_DEVICE_LOST: return "TSR_DEVICE_LOST";
    case TSR_DRIVER_ERROR: return "TSR_DRIVER_ERROR";
    case TSR_IO_ERROR: return "TSR_IO_ERROR";
    case TSR_CORRUPT_DATA: return "TSR_CORRUPT_DATA";
    }
    return "TSR_UNKNOWN_STATUS";
}
