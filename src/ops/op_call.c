/* tsr_op_call: any operator by name, and the list of them. */
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "ops/op.h"
#include "tessera/ops.h"

static int attr_count(const op_row *row)
{
    int n = 0;
    while (n < OP_MAX_ATTRS && row->attrs[n].name != NULL)
        n++;
    return n;
}

static const op_row *find_or_suggest(const char *name)
{
    const op_row *row = name == NULL ? NULL : op_find(name);
    if (row != NULL)
        return row;
    const char *names[256];
    size_t count = 0;
    for (; count < op_count() && count < 256; count++)
        names[count] = op_at(count)->name;
    const char *near = name == NULL ? NULL : nearest_word(name, names, count);
    if (near != NULL)
        fail(TSR_NOT_FOUND, "there is no operator '%s'; did you mean '%s'?", name, near);
    else
        fail(TSR_NOT_FOUND, "there is no operator '%s'", name == NULL ? "(null)" : name);
    return NULL;
}

static bool attr_set(const op_row *row, const tsr_attr *given, attr_value *values, bool *seen)
{
    const int count = attr_count(row);
    for (int i = 0; i < count; i++) {
        const attr_schema *schema = &row->attrs[i];
        if (given->name == NULL || strcmp(given->name, schema->name) != 0)
            continue;
        if ((int)given->kind != (int)schema->kind) {
            fail(TSR_INVALID_ARGUMENT, "%s: attribute '%s' is of another kind", row->name, schema->name);
            return false;
        }
        if (seen[i]) {
            fail(TSR_INVALID_ARGUMENT, "%s: attribute '%s' is given twice", row->name, schema->name);
            return false;
        }
        if (given->kind == TSR_ATTR_INTS &&
            (given->count < 0 || given->count > TSR_MAX_RANK || (given->count > 0 && given->values == NULL))) {
            fail(TSR_OUT_OF_RANGE, "%s: attribute '%s' has %d values; 0 to %d fit", row->name, schema->name,
                 given->count, TSR_MAX_RANK);
            return false;
        }
        seen[i] = true;
        values[i] = (attr_value){.i = given->i, .f = given->f};
        if (given->kind == TSR_ATTR_INTS) {
            values[i].count = given->count;
            for (int k = 0; k < given->count; k++)
                values[i].list[k] = given->values[k];
        }
        return true;
    }
    fail(TSR_INVALID_ARGUMENT, "%s has no attribute '%s'", row->name, given->name == NULL ? "(null)" : given->name);
    return false;
}

tsr_status tsr_op_call(const char *name, tsr_tensor *const *inputs, int input_count, tsr_tensor **outputs,
                       int output_count, const tsr_attr *attributes, int attribute_count)
{
    const op_row *row = find_or_suggest(name);
    if (row == NULL)
        return tsr_last_status();
    if (output_count != row->outputs || outputs == NULL)
        return fail(TSR_INVALID_ARGUMENT, "%s has %d outputs, not %d", row->name, row->outputs, output_count);
    for (int i = 0; i < row->inputs_min && i < input_count; i++)
        if (inputs[i] == NULL)
            return fail(TSR_INVALID_ARGUMENT, "%s: input %d is NULL", row->name, i);

    attr_value values[OP_MAX_ATTRS] = {0};
    bool seen[OP_MAX_ATTRS] = {false};
    const int schema_count = attr_count(row);
    for (int i = 0; i < schema_count; i++)
        values[i] = row->attrs[i].initial;
    for (int i = 0; i < attribute_count; i++)
        if (!attr_set(row, &attributes[i], values, seen))
            return tsr_last_status();
    for (int i = 0; i < schema_count; i++)
        if (row->attrs[i].required && !seen[i])
            return fail(TSR_INVALID_ARGUMENT, "%s needs the attribute '%s'", row->name, row->attrs[i].name);
    return op_apply(row, inputs, input_count, values, outputs) ? TSR_OK : tsr_last_status();
}

size_t tsr_op_count(void)
{
    return op_count();
}

tsr_status tsr_op_describe(size_t index, tsr_op_info *info)
{
    if (info == NULL || index >= op_count())
        return fail(TSR_OUT_OF_RANGE, "there are %zu operators, none with the number %zu", op_count(), index);
    static const char *const autocast_names[] = {
        [AUTOCAST_WIDEST] = "widest", [AUTOCAST_LOW] = "low", [AUTOCAST_F32] = "f32", [AUTOCAST_NONE] = "none"};
    const op_row *row = op_at(index);
    *info = (tsr_op_info){.name = row->name,
                          .autocast = autocast_names[row->autocast],
                          .inputs_min = row->inputs_min,
                          .inputs_max = row->inputs_max,
                          .outputs = row->outputs,
                          .attribute_count = attr_count(row)};
    for (int i = 0; i < info->attribute_count; i++) {
        info->attribute_names[i] = row->attrs[i].name;
        info->attribute_kinds[i] = (tsr_attr_kind)row->attrs[i].kind;
        info->attribute_required[i] = row->attrs[i].required;
    }
    return TSR_OK;
}
