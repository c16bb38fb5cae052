#include "selection.h"

#include <stdio.h>
#include <string.h>

#include "command.h"

static bool take_dtypes(const char *list, uint32_t *mask)
{
    *mask = list == NULL ? UINT32_MAX : 0;
    while (list != NULL) {
        char name[16];
        tsr_dtype dtype;
        const size_t length = strcspn(list, ",");
        snprintf(name, sizeof name, "%.*s", (int)(length < sizeof name ? length : sizeof name - 1), list);
        if (!tsr_dtype_parse(name, &dtype)) {
            complain("--dtype: there is no dtype '%s'; they are f32 f16 bf16 f64 i32 i64 u8 bool", name);
            return false;
        }
        *mask |= 1u << dtype;
        list = list[length] == '\0' ? NULL : list + length + 1;
    }
    return true;
}

static bool take_regex(const char *pattern, selection *s)
{
    if (pattern == NULL)
        return true;
    const int code = regcomp(&s->regex, pattern, REG_EXTENDED | REG_NOSUB);
    if (code != 0) {
        char why[256];
        regerror(code, &s->regex, why, sizeof why);
        complain("--ops %s: %s", pattern, why);
        return false;
    }
    return s->has_regex = true;
}

bool selection_has(const selection *s, const operator_row *row)
{
    return (row->dtypes & s->dtypes) != 0 && (!s->has_regex || regexec(&s->regex, row->name, 0, NULL, 0) == 0);
}

bool selection_take(selection *s, const char *ops, const char *dtypes)
{
    return take_dtypes(dtypes, &s->dtypes) && take_regex(ops, s);
}

void selection_free(selection *s)
{
    if (s->has_regex)
        regfree(&s->regex);
    s->has_regex = false;
}
