/* A JSON writer (RFC 8259), indented by two spaces, or all on one line. There is no reader: the library only reports.
 *
 *     json j = {0};
 *     json_begin_object(&j);
 *     json_put_string(&j, "backend", "cpu");
 *     json_key(&j, "losses"), json_begin_array(&j), json_double(&j, 2.3), json_end_array(&j);
 *     json_end_object(&j);
 *     status = json_write_file(&j, path);
 *     json_free(&j);
 *
 * The first failure (out of memory, a value without a key, an end without a begin) sticks; later calls do nothing and
 * json_finish or json_write_file returns it. */
#ifndef TESSERA_BASE_JSON_H
#define TESSERA_BASE_JSON_H

#include "base/text.h"

#include <tessera/status.h>

#include <stdbool.h>
#include <stdint.h>

enum { JSON_DEPTH_MAX = 32 };

typedef struct json {
    text out;
    tsr_status status;
    int depth;
    bool has_key;  /* a key waits for its value */
    bool complete; /* the one value of the document is there */
    bool one_line; /* set before the first value: no line breaks, for files of a document a line */
    struct {
        bool is_object;
        bool has_items;
    } levels[JSON_DEPTH_MAX];
} json;

void json_begin_object(json *j);
void json_end_object(json *j);
void json_begin_array(json *j);
void json_end_array(json *j);
void json_key(json *j, const char *key);

/* NULL is written as null; bytes that are not UTF-8 become U+FFFD. */
void json_string(json *j, const char *value);
void json_int(json *j, int64_t value);
void json_uint(json *j, uint64_t value);
/* The shortest decimal that reads back as the same number; NaN and infinities, which JSON lacks, are null. */
void json_double(json *j, double value);
void json_float(json *j, float value);
void json_bool(json *j, bool value);
void json_null(json *j);

/* Key and value in one. */
void json_put_string(json *j, const char *key, const char *value);
void json_put_int(json *j, const char *key, int64_t value);
void json_put_uint(json *j, const char *key, uint64_t value);
void json_put_double(json *j, const char *key, double value);
void json_put_float(json *j, const char *key, float value);
void json_put_bool(json *j, const char *key, bool value);
void json_put_null(json *j, const char *key);

/* The document, ended by a newline, valid until json_free; or the failure, and *document is "". */
tsr_status json_finish(json *j, const char **document);

/* json_finish and file_write_atomic. */
tsr_status json_write_file(json *j, const char *path);

void json_free(json *j);

#endif
