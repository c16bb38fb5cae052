/* Which rows of the operators' table a command line asks for: --ops REGEX, --dtype LIST. */
#ifndef TESSERA_SELECTION_H
#define TESSERA_SELECTION_H

#include <regex.h>

#include "operators/operators.h"

typedef struct selection {
    regex_t regex;
    bool has_regex;
    uint32_t dtypes; /* MASK bits */
} selection;

/* NULL: all. False, with the complaint printed, where one of them is wrong. Zero-initialise `s`, and free it in any case. */
bool selection_take(selection *s, const char *ops, const char *dtypes);
bool selection_has(const selection *s, const operator_row *row);
void selection_free(selection *s);

#endif
