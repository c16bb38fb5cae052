/* Elementwise operators, copies, random numbers and optimizers. */
#include "every_kernel.h"

#include "ops/elementwise_table.h"

static bool takes(const elementwise_row *row, tsr_dtype dtype)
{
    const bool is_integer = dtype == TSR_I32 || dtype == TSR_I64, is_byte = dtype == TSR_U8 || dtype == TSR_BOOL;
    if (row->bits)
        return is_integer || dtype == TSR_U8 || (dtype == TSR_BOOL && strstr(row->name, "shift") == NULL);
    return row->compare || (is_integer ? row->integer : !is_byte);
}

/* By name, with 0.5 for every attribute that must be given. */
static tsr_tensor *call(const run *r, const char *name, tsr_tensor *const *inputs, int count)
{
    tsr_attr attributes[10];
    tsr_op_info info = {.name = NULL};
    for (size_t i = 0; i < tsr_op_count() && (info.name == NULL || strcmp(info.name, name) != 0); i++)
        require_ok(r, tsr_op_describe(i, &info));
    int given = 0;
    for (int i = 0; i < info.attribute_count; i++)
        if (info.attribute_required[i])
            attributes[given++] =
                (tsr_attr){.name = info.attribute_names[i], .kind = info.attribute_kinds[i], .f = 0.5};
    tsr_tensor *out = NULL;
    if (tsr_op_call(name, inputs, count, &out, 1, attributes, given) != TSR_OK)
        fail_msg("%s: %s: %s", r->name, name, tsr_last_error());
    return out;
}

void every_elementwise(const run *r)
{
    EACH_DTYPE(dtype, all_dtypes)
    for (size_t i = 0; i < elementwise_row_count; i++) {
        const elementwise_row *row = &elementwise_rows[i];
        if (!takes(row, dtype))
            continue;
        require_ok(r, tsr_scope_begin());
        tsr_tensor *in[3], *spread[3];
        for (int k = 0; k < row->arity; k++) {
            in[k] = operand(r, dtype, SHAPE(2, 5));
            spread[k] = k == 0 ? turned(operand(r, dtype, SHAPE(5, 2))) : operand(r, dtype, SHAPE(2, 1));
        }
        differentiate(r, call(r, row->name, in, row->arity));
        require(r, call(r, row->name, spread, row->arity));
        require_ok(r, tsr_scope_end());
    }
    EACH_DTYPE(dtype, all_dtypes)
    {
        require_ok(r, tsr_scope_begin());
        tsr_tensor *truth = operand(r, TSR_BOOL, SHAPE(2, 5));
        differentiate(r, tsr_where(truth, operand(r, dtype, SHAPE(2, 5)), operand(r, dtype, SHAPE(5))));
        if (dtype <= TSR_F64)
            differentiate(r, tsr_nan_to_num(operand(r, dtype, SHAPE(2, 5)), 0, 1, -1));
        require_ok(r, tsr_scope_end());
    }
}

void every_copy(const run *r)
{
    EACH_DTYPE(from, all_dtypes)
    EACH_DTYPE(to, all_dtypes)
    {
        require_ok(r, tsr_scope_begin());
        require(r, tsr_cast(operand(r, from, SHAPE(3, 5)), to));
        require(r, tsr_cast(turned(operand(r, from, SHAPE(3, 5))), to));
        require_ok(r, tsr_scope_end());
    }
    EACH_DTYPE(dtype, all_dtypes)
    {
        require_ok(r, tsr_scope_begin());
        require(r, tsr_contiguous(turned(operand(r, dtype, SHAPE(3, 5)))));
        require(r, tsr_contiguous(tsr_expand(operand(r, dtype, SHAPE(512)), SHAPE(2, 512))));
        require(r, tsr_contiguous(tsr_slice(operand(r, dtype, SHAPE(3, 70)), 1, 1, 69, 1)));
        require_ok(r, tsr_scope_end());
    }
    EACH_DTYPE(dtype, float_dtypes)
    {
        require_ok(r, tsr_scope_begin());
        differentiate(r, tsr_contiguous(turned(operand(r, dtype, SHAPE(3, 5)))));
        differentiate(r, tsr_slice(operand(r, dtype, SHAPE(3, 5)), 1, 1, 5, 2));
        tsr_tensor *x = operand(r, dtype, SHAPE(3, 5));
        differentiate(r, tsr_cat((tsr_tensor *[]){x, operand(r, dtype, SHAPE(3, 2))}, 2, 1));
        differentiate(r, tsr_pad(x, 2, (int64_t[]){1, 2}, TSR_PAD_REFLECT, 0));
        differentiate(r, tsr_roll(x, 1, (int64_t[]){2}, (int64_t[]){1}));
        differentiate(r, tsr_triu(x, 0));
        require_ok(r, tsr_scope_end());
    }
}

void every_random(const run *r)
{
    EACH_DTYPE(dtype, float_dtypes)
    {
        require_ok(r, tsr_scope_begin());
        require(r, tsr_uniform(r->device, dtype, SHAPE(7), -1, 1));
        require(r, tsr_normal(r->device, dtype, SHAPE(7), 0, 1));
        differentiate(r, tsr_dropout(operand(r, dtype, SHAPE(3, 5)), 0.5, true));
        require_ok(r, tsr_scope_end());
    }
}

static void step(const run *r, tsr_optimizer *optimizer, tsr_tensor *parameter)
{
    require(r, optimizer);
    for (int i = 0; i < 2; i++) {
        differentiate(r, tsr_square(parameter));
        require_ok(r, tsr_optimizer_step(optimizer));
    }
    tsr_optimizer_destroy(optimizer);
    tsr_clear_grad(parameter);
}

static void scaled_step(const run *r, tsr_tensor *parameter)
{
    tsr_optimizer *optimizer = tsr_adam_create(&parameter, 1, NULL);
    tsr_grad_scaler *scaler = tsr_grad_scaler_create(r->device, NULL);
    require(r, optimizer);
    require(r, scaler);
    for (int i = 0; i < 2; i++) {
        require_ok(r, tsr_backward(tsr_grad_scaler_scale(scaler, tsr_sum(parameter, NULL, 0, false))));
        require_ok(r, tsr_grad_scaler_step(scaler, optimizer));
        require_ok(r, tsr_grad_scaler_update(scaler));
    }
    tsr_grad_scaler_destroy(scaler);
    tsr_optimizer_destroy(optimizer);
    tsr_clear_grad(parameter);
}

void every_optimizer(const run *r)
{
    require_ok(r, tsr_scope_begin());
    tsr_tensor *p = operand(r, TSR_F32, SHAPE(3, 5));
    step(r, tsr_sgd_create(&p, 1, &(tsr_sgd_options){.lr = 0.1}), p);
    step(r, tsr_sgd_create(&p, 1, &(tsr_sgd_options){.lr = 0.1, .momentum = 0.5}), p);
    step(r, tsr_adam_create(&p, 1, &(tsr_adam_options){.lr = 0.1}), p);
    step(r, tsr_adamw_create(&p, 1, &(tsr_adam_options){.weight_decay = 0.1}), p);
    step(r, tsr_rmsprop_create(&p, 1, &(tsr_rmsprop_options){.momentum = 0.5, .centered = true}), p);
    step(r, tsr_adagrad_create(&p, 1, NULL), p);
    step(r, tsr_lion_create(&p, 1, NULL), p);
    step(r, tsr_lamb_create(&p, 1, NULL), p);
    scaled_step(r, p);
    require_ok(r, tsr_scope_end());
}
