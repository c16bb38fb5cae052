/* libFuzzer: the writer of JSON with any calls and any bytes as strings. What it finishes is one JSON document, as another reader sees it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
bool is_json(const char *document); /* by Jansson, whose names are the writer's: json_reader.c */

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    char *words = malloc(size + 1); /* what is left, as a string for any call */
    memcpy(words, bytes, size);
    words[size] = '\0';
    json j = {.one_line = size > 0 && (bytes[0] & 128) != 0};
    int keys = 0;
    for (size_t i = 0; i < size; i++) {
        char key[64]; /* none twice: that much is the caller's */
        double real = 0;
        int64_t whole = 0;
        memcpy(&real, words + (i + 8 < size ? i : 0), size < 8 ? 0 : 8);
        memcpy(&whole, &real, sizeof whole);
        snprintf(key, sizeof key, "%d%.40s", keys++, words + i);
        switch (bytes[i] % 12) {
        case 0: json_begin_object(&j); break;
        case 1: json_end_object(&j); break;
        case 2: json_begin_array(&j); break;
        case 3: json_end_array(&j); break;
        case 4: json_key(&j, key); break;
        case 5: json_string(&j, words + i); break;
        case 6: json_int(&j, whole); break;
        case 7: json_double(&j, real); break;
        case 8: json_float(&j, (float)real); break;
        case 9: json_put_string(&j, key, words + i); break;
        case 10: json_put_double(&j, key, real); break;
        default: json_put_null(&j, key); break;
        }
    }
    const char *document;
    const tsr_status status = json_finish(&j, &document);
    if (status == TSR_OK ? !is_json(document) : document[0] != '\0' || tsr_last_error()[0] == '\0')
        abort();
    json_free(&j);
    free(words);
    return 0;
}
