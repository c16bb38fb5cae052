#include "base/json.h"

#include "base/error.h"
#include "base/file.h"
#include "base/unicode.h"

#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void misuse(json *j, const char *what)
{
    if (j->status == TSR_OK)
        j->status = fail(TSR_INVALID_ARGUMENT, "the JSON document is not well formed: %s", what);
}

static void put(json *j, const char *bytes)
{
    if (j->status == TSR_OK && !text_append(&j->out, bytes))
        j->status = TSR_OUT_OF_MEMORY;
}

static void new_line(json *j)
{
    if (j->one_line)
        return;
    put(j, "\n");
    for (int i = 0; i < j->depth; i++)
        put(j, "  ");
}

/* The comma and the indentation before a key, an array's item, or nothing before the value of a key. */
static bool before_value(json *j)
{
    if (j->status != TSR_OK)
        return false;
    if (j->depth == 0) {
        if (j->complete) {
            misuse(j, "it has a second value");
            return false;
        }
        j->complete = true;
    } else if (!j->levels[j->depth - 1].is_object) {
        put(j, j->levels[j->depth - 1].has_items ? "," : "");
        new_line(j);
        j->levels[j->depth - 1].has_items = true;
    } else if (!j->has_key) {
        misuse(j, "a value in an object has no key");
        return false;
    }
    j->has_key = false;
    return true;
}

static void begin(json *j, bool is_object)
{
    if (!before_value(j))
        return;
    if (j->depth == JSON_DEPTH_MAX) {
        misuse(j, "it is nested too deeply");
        return;
    }
    put(j, is_object ? "{" : "[");
    j->levels[j->depth].is_object = is_object;
    j->levels[j->depth].has_items = false;
    j->depth++;
}

static void end(json *j, bool is_object)
{
    if (j->status != TSR_OK)
        return;
    if (j->depth == 0 || j->levels[j->depth - 1].is_object != is_object) {
        misuse(j, is_object ? "an object ends that did not begin" : "an array ends that did not begin");
        return;
    }
    if (j->has_key) {
        misuse(j, "a key has no value");
        return;
    }
    j->depth--;
    if (j->levels[j->depth].has_items)
        new_line(j);
    put(j, is_object ? "}" : "]");
}

void json_begin_object(json *j)
{
    begin(j, true);
}

void json_end_object(json *j)
{
    end(j, true);
}

void json_begin_array(json *j)
{
    begin(j, false);
}

void json_end_array(json *j)
{
    end(j, false);
}

static void put_quoted(json *j, const char *string)
{
    const unsigned char *s = (const unsigned char *)string;

    put(j, "\"");
    while (*s != '\0') {
        uint32_t code;
        const size_t length = utf8_read(s, strnlen((const char *)s, 4), &code);
        char escape[8];
        if (length == 0) {
            put(j, "\xEF\xBF\xBD"); /* U+FFFD */
            s++;
        } else if (length > 1 || (*s >= 0x20 && *s != '"' && *s != '\\' && *s != 0x7F)) {
            if (j->status == TSR_OK && !text_append_bytes(&j->out, s, length))
                j->status = TSR_OUT_OF_MEMORY;
            s += length;
        } else {
            static const char letters[] = "\"\"\\\\\nn\tt\rr\bb\ff"; /* pairs: the byte, its escape's letter */
            char letter = '\0';
            for (size_t i = 0; i + 1 < sizeof letters; i += 2) {
                if (letters[i] == (char)*s)
                    letter = letters[i + 1];
            }
            if (letter != '\0')
                snprintf(escape, sizeof escape, "\\%c", letter);
            else
                snprintf(escape, sizeof escape, "\\u%04x", (unsigned)*s);
            put(j, escape);
            s++;
        }
    }
    put(j, "\"");
}

void json_key(json *j, const char *key)
{
    if (j->status != TSR_OK)
        return;
    if (j->depth == 0 || !j->levels[j->depth - 1].is_object) {
        misuse(j, "a key stands outside an object");
        return;
    }
    if (j->has_key) {
        misuse(j, "a key has no value");
        return;
    }
    put(j, j->levels[j->depth - 1].has_items ? "," : "");
    new_line(j);
    put_quoted(j, key);
    put(j, ": ");
    j->levels[j->depth - 1].has_items = true;
    j->has_key = true;
}

void json_string(json *j, const char *value)
{
    if (!before_value(j))
        return;
    if (value == NULL)
        put(j, "null");
    else
        put_quoted(j, value);
}

void json_int(json *j, int64_t value)
{
    char number[32];
    if (!before_value(j))
        return;
    snprintf(number, sizeof number, "%" PRId64, value);
    put(j, number);
}

void json_uint(json *j, uint64_t value)
{
    char number[32];
    if (!before_value(j))
        return;
    snprintf(number, sizeof number, "%" PRIu64, value);
    put(j, number);
}

/* Writes digits as the C locale does, whatever the program's locale takes for a decimal point; and 1 as 1.0, so that a
 * reader sees a number of the same kind each time, and -0.0 keeps its sign. */
static void put_number(json *j, const char *digits)
{
    char number[64];
    size_t length = 0;
    bool is_real = false;

    for (; *digits != '\0' && length < sizeof number - 3; digits++) {
        if (strchr("+-0123456789", *digits) != NULL) {
            number[length++] = *digits;
        } else if (*digits == 'e') {
            number[length++] = 'e';
            is_real = true;
        } else if (length == 0 || number[length - 1] != '.') { /* a decimal point may take several bytes */
            number[length++] = '.';
            is_real = true;
        }
    }
    memcpy(number + length, is_real ? "" : ".0", is_real ? 1 : 3);
    put(j, number);
}

void json_double(json *j, double value)
{
    char digits[64];

    if (!isfinite(value)) {
        json_null(j);
        return;
    }
    if (!before_value(j))
        return;
    /* 15 digits suffice for what had 15 or fewer; subnormal numbers need fewer than they show. */
    for (int precision = fabs(value) < DBL_MIN ? 1 : DBL_DIG; precision <= DBL_DECIMAL_DIG; precision++) {
        snprintf(digits, sizeof digits, "%.*g", precision, value);
        if (strtod(digits, NULL) == value)
            break;
    }
    put_number(j, digits);
}

void json_float(json *j, float value)
{
    char digits[64];

    if (!isfinite(value)) {
        json_null(j);
        return;
    }
    if (!before_value(j))
        return;
    for (int precision = fabsf(value) < FLT_MIN ? 1 : FLT_DIG; precision <= FLT_DECIMAL_DIG; precision++) {
        snprintf(digits, sizeof digits, "%.*g", precision, (double)value);
        if (strtof(digits, NULL) == value)
            break;
    }
    put_number(j, digits);
}

void json_bool(json *j, bool value)
{
    if (before_value(j))
        put(j, value ? "true" : "false");
}

void json_null(json *j)
{
    if (before_value(j))
        put(j, "null");
}

void json_put_string(json *j, const char *key, const char *value)
{
    json_key(j, key);
    json_string(j, value);
}

void json_put_int(json *j, const char *key, int64_t value)
{
    json_key(j, key);
    json_int(j, value);
}

void json_put_uint(json *j, const char *key, uint64_t value)
{
    json_key(j, key);
    json_uint(j, value);
}

void json_put_double(json *j, const char *key, double value)
{
    json_key(j, key);
    json_double(j, value);
}

void json_put_float(json *j, const char *key, float value)
{
    json_key(j, key);
    json_float(j, value);
}

void json_put_bool(json *j, const char *key, bool value)
{
    json_key(j, key);
    json_bool(j, value);
}

void json_put_null(json *j, const char *key)
{
    json_key(j, key);
    json_null(j);
}

tsr_status json_finish(json *j, const char **document)
{
    *document = "";
    if (j->depth != 0)
        misuse(j, "an object or array has no end");
    else if (!j->complete)
        misuse(j, "it is empty");
    if (j->status == TSR_OK && j->out.bytes[j->out.length - 1] != '\n')
        put(j, "\n");
    if (j->status == TSR_OK)
        *document = text_string(&j->out);
    return j->status;
}

tsr_status json_write_file(json *j, const char *path)
{
    const char *document;
    const tsr_status status = json_finish(j, &document);
    if (status != TSR_OK)
        return fail_prefix("cannot write %s", path);
    return file_write_atomic(path, document, j->out.length);
}

void json_free(json *j)
{
    text_free(&j->out);
    *j = (json){0};
}
