#include "check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "base/memory.h"
#include "guarded.h"
#include "number.h"

enum { TENSORS_MAX = sizeof((device_values *)0)->of / sizeof(double *) };

void device_values_free(device_values *v)
{
    for (int k = 0; k < TENSORS_MAX; k++) {
        host_free(v->of[k]);
        v->of[k] = NULL;
    }
}

/* ---- what went wrong ---- */

static void found(check_result *r, check_status status, const char *format, const char *what)
{
    if (r->status != CHECK_OK)
        return; /* the first counts */
    r->status = status;
    snprintf(r->why, sizeof r->why, format, what);
}

/* A call that failed: a lack that the device has, a device that is gone, or a mistake. */
static void refused(check_result *r)
{
    const tsr_status s = tsr_last_status();
    const bool broken =
        s == TSR_DEVICE_LOST || s == TSR_OUT_OF_DEVICE_MEMORY || s == TSR_DRIVER_ERROR || s == TSR_OUT_OF_MEMORY;
    found(r, s == TSR_UNSUPPORTED ? CHECK_UNSUPPORTED : broken ? CHECK_BROKEN : CHECK_FAIL, "%.250s", tsr_last_error());
}

/* ---- numbers ---- */

/* Whether `got` is `expected`, and if not, by how much it errs. Beyond the largest number lies infinity. */
static double error_of(tsr_dtype dtype, double got, double expected, double bound)
{
    if (isnan(expected))
        return isnan(got) ? 0 : (double)INFINITY;
    if (got == expected)
        return 0;
    if (isinf(got) && !isnan(expected)) {
        const double edge = number_largest(dtype) + number_spacing(dtype, number_largest(dtype)) / 2;
        return (got > 0) == (expected > 0) && fabs(expected) + bound >= edge ? 0 : (double)INFINITY;
    }
    if (isinf(expected) || isnan(got))
        return (double)INFINITY;
    return fabs(got - expected);
}

static void hold_number(check_result *r, const expected_tensor *x, int tensor, int64_t i, double got)
{
    const bool real = number_is_float(x->dtype);
    const double bound = x->bound[i];
    if (isnan(bound))
        return; /* nothing is known of it */
    const double error = real ? error_of(x->dtype, got, x->value[i], bound) : fabs(got - x->value[i]);
    const double ratio = error == 0 ? 0 : bound > 0 ? error / bound : (double)INFINITY;
    r->held++;
    if (error > 0 && real)
        r->max_ulp = fmax(r->max_ulp, error / number_spacing(x->dtype, x->value[i]));
    if (r->held == 1 || ratio > r->ratio) {
        r->ratio = ratio;
        r->error = error;
        r->bound = bound;
        r->tensor = tensor;
        r->element = i;
        r->value = got;
        r->expected = x->value[i];
    }
}

static void compare_devices(check_result *r, const expected_tensor *x, const double *first, const double *got)
{
    for (int64_t i = 0; i < x->count; i++) {
        if (isnan(x->bound[i]) || first[i] == got[i] || (isnan(first[i]) && isnan(got[i])))
            continue;
        const double gap = fabs(first[i] - got[i]);
        r->gap = isnan(gap) ? (double)INFINITY : fmax(r->gap, gap);
        r->gap_ulp =
            fmax(r->gap_ulp,
                 gap / (number_is_float(x->dtype) ? number_spacing(x->dtype, fmax(fabs(first[i]), fabs(got[i]))) : 1));
    }
}

static bool same_shape(const expected_tensor *x, const tsr_tensor *t)
{
    return tsr_dtype_of(t) == x->dtype && tsr_rank(t) == x->rank &&
           (x->rank == 0 || memcmp(tsr_shape(t), x->shape, sizeof(int64_t) * (size_t)x->rank) == 0);
}

/* All numbers of a result. *raw, if asked for, gets the bytes, to host_free. */
static bool hold_tensor(check_result *r, const expected_tensor *x, int tensor, tsr_tensor *t, device_values *first,
                        void **raw)
{
    if (!same_shape(x, t)) {
        found(r, CHECK_FAIL, "the result's %s is not the definition's",
              tsr_dtype_of(t) != x->dtype ? "dtype" : "shape");
        return false;
    }
    const size_t bytes = (size_t)x->count * tsr_dtype_size(x->dtype);
    void *data = host_alloc(bytes + 1);
    double *got = host_realloc_array(NULL, (size_t)x->count + 1, sizeof *got);
    const bool ok = data != NULL && got != NULL && tsr_read(t, data, bytes) == TSR_OK;
    for (int64_t i = 0; ok && i < x->count; i++) {
        got[i] = number_load(x->dtype, data, i);
        hold_number(r, x, tensor, i, got[i]);
    }
    if (!ok)
        refused(r);
    else if (first->of[tensor] != NULL)
        compare_devices(r, x, first->of[tensor], got);
    else {
        first->of[tensor] = got;
        got = NULL;
        r->gap = r->gap_ulp = (double)NAN;
    }
    host_free(got);
    if (raw != NULL && ok)
        *raw = data;
    else
        host_free(data);
    return ok;
}

static void judge(check_result *r)
{
    if (r->status == CHECK_OK && r->ratio > 1)
        snprintf(r->why, sizeof r->why, "element %lld of %s %d is %.9g for %.9g, error %.3g, bound %.3g",
                 (long long)r->element, "tensor", r->tensor, r->value, r->expected, r->error, r->bound);
    if (r->status == CHECK_OK && r->ratio > 1)
        r->status = CHECK_FAIL;
}

/* ---- the call ---- */

typedef struct placed {
    guarded in[INPUTS_MAX];
    tsr_tensor *view[INPUTS_MAX];
} placed;

static bool place(const expectation *e, tsr_device *device, placed *p)
{
    memset(p, 0, sizeof *p);
    for (int k = 0; k < e->in_count; k++) {
        const sample_input *in = &e->sample->in[k];
        if (in->absent)
            continue;
        /* Kernels meet operands that no vector load is aligned with. */
        if (!guarded_make(&p->in[k], device, e->in[k].dtype, in->rank, in->shape, in->layout, (int64_t)(e->number % 4),
                          e->in[k].value))
            return false;
        p->view[k] = p->in[k].view;
    }
    return true;
}

static void unplace(placed *p)
{
    for (int k = 0; k < INPUTS_MAX; k++)
        guarded_free(&p->in[k]);
}

static void check_operands(const expectation *e, const placed *p, check_result *r)
{
    for (int k = 0; k < e->in_count; k++) {
        bool intact = true;
        if (p->view[k] == NULL || (e->row->updated >> k & 1) != 0)
            continue;
        if (!guarded_intact(&p->in[k], false, &intact))
            refused(r);
        if (!intact)
            found(r, CHECK_FAIL, "memory of %s was written to", "an operand, or beside it,");
    }
}

static tsr_status call(const expectation *e, tsr_tensor *const *in, tsr_tensor **out)
{
    return tsr_op_call(e->row->name, in, e->in_count, out, e->row->results, e->sample->attrs, sample_attrs(e->sample));
}

/* Again, with the results inside guarded tensors: the same bits, and nothing beside them. */
static void check_given(const expectation *e, tsr_device *device, const placed *p, void *const *raw, check_result *r)
{
    guarded out[OUTPUTS_MAX] = {{0}};
    tsr_tensor *given[OUTPUTS_MAX] = {NULL};
    bool ok = true;
    for (int k = 0; k < e->out_count && ok; k++) {
        ok = guarded_make(&out[k], device, e->out[k].dtype, e->out[k].rank, e->out[k].shape, LAYOUT_DENSE,
                          (int64_t)(e->number % 4), NULL);
        given[k] = out[k].view;
    }
    tsr_no_grad_begin();
    ok = ok && call(e, p->view, given) == TSR_OK;
    tsr_no_grad_end();
    for (int k = 0; k < e->out_count && ok; k++) {
        const size_t bytes = (size_t)e->out[k].count * tsr_dtype_size(e->out[k].dtype);
        void *again = host_alloc(bytes + 1);
        bool intact = true;
        ok = again != NULL && tsr_read(given[k], again, bytes) == TSR_OK && guarded_intact(&out[k], true, &intact);
        if (ok && memcmp(again, raw[k], bytes) != 0)
            found(r, CHECK_FAIL, "a second call %s gave other bits", "into a given tensor");
        if (!intact)
            found(r, CHECK_FAIL, "memory beside %s was written to", "a result");
        host_free(again);
    }
    if (!ok)
        refused(r);
    for (int k = 0; k < e->out_count; k++)
        guarded_free(&out[k]);
}

static bool lacks_dtype(const expectation *e, tsr_device *device, check_result *r)
{
    tsr_device_info info;
    if (tsr_device_describe(device, &info) != TSR_OK)
        return refused(r), true;
    tsr_dtype missing = TSR_DTYPE_COUNT;
    for (int k = 0; k < e->in_count; k++)
        if (!e->sample->in[k].absent && (info.dtypes >> e->in[k].dtype & 1) == 0)
            missing = e->in[k].dtype;
    for (int k = 0; k < e->out_count; k++)
        if ((info.dtypes >> e->out[k].dtype & 1) == 0)
            missing = e->out[k].dtype;
    if (missing == TSR_DTYPE_COUNT)
        return false;
    found(r, CHECK_UNSUPPORTED, "the device has no %s", tsr_dtype_name(missing));
    return true;
}

static bool begin(const expectation *e, tsr_device *device, check_result *r)
{
    memset(r, 0, sizeof *r);
    tsr_clear_error();
    if (lacks_dtype(e, device, r))
        return false;
    if (tsr_scope_begin() == TSR_OK && tsr_seed(device, 0) == TSR_OK)
        return true;
    refused(r);
    return false;
}

/* A result has memory of its own, without gaps, unless it is a view. */
static void check_owned(const expectation *e, const placed *p, tsr_tensor *const *out, check_result *r)
{
    for (int k = 0; k < e->out_count && !e->row->view; k++) {
        if (!tsr_is_contiguous(out[k]))
            found(r, CHECK_FAIL, "%s is not contiguous", "a result");
        for (int i = 0; i < e->in_count; i++)
            if (p->view[i] != NULL && tsr_shares_storage(out[k], p->view[i]))
                found(r, CHECK_FAIL, "%s lies in an operand's memory", "a result");
    }
}

void check_forward(const expectation *e, tsr_device *device, device_values *first, check_result *r)
{
    placed p;
    tsr_tensor *out[OUTPUTS_MAX] = {NULL};
    void *raw[OUTPUTS_MAX] = {NULL};
    if (!begin(e, device, r))
        return;
    bool ok = place(e, device, &p) && call(e, p.view, out) == TSR_OK;
    if (!ok)
        refused(r);
    for (int k = 0; k < e->out_count && ok; k++)
        ok = hold_tensor(r, &e->out[k], k, out[k], first, &raw[k]);
    if (ok)
        check_owned(e, &p, out, r);
    if (ok)
        check_given(e, device, &p, raw, r);
    if (ok)
        check_operands(e, &p, r);
    judge(r);
    for (int k = 0; k < OUTPUTS_MAX; k++)
        host_free(raw[k]);
    unplace(&p);
    tsr_scope_end();
}

void check_backward(const expectation *e, tsr_device *device, device_values *first, check_result *r)
{
    placed p;
    guarded dy = {0};
    tsr_tensor *out[OUTPUTS_MAX] = {NULL};
    if (!begin(e, device, r))
        return;
    bool ok = place(e, device, &p);
    for (int k = 0; k < e->in_count && ok; k++)
        if (e->in_gradient[k].value != NULL)
            ok = tsr_set_requires_grad(p.view[k], true) == TSR_OK;
    ok = ok && call(e, p.view, out) == TSR_OK &&
         guarded_make(&dy, device, e->out[0].dtype, e->out[0].rank, e->out[0].shape, LAYOUT_DENSE, 0, e->gradient) &&
         tsr_backward_from(out[0], dy.view, false) == TSR_OK;
    if (!ok)
        refused(r);
    for (int k = 0; k < e->in_count && ok; k++) {
        tsr_tensor *g = e->in_gradient[k].value == NULL ? NULL : tsr_grad(p.view[k]);
        if (g != NULL)
            ok = hold_tensor(r, &e->in_gradient[k], k, g, first, NULL);
        else if (e->in_gradient[k].value != NULL)
            found(r, CHECK_FAIL, "%s got no gradient", "an operand");
    }
    if (ok)
        check_operands(e, &p, r);
    judge(r);
    for (int k = 0; k < e->in_count; k++)
        if (p.view[k] != NULL)
            tsr_clear_grad(p.view[k]);
    guarded_free(&dy);
    unplace(&p);
    tsr_scope_end();
}

tsr_tensor *check_operand(const expectation *e, int k, tsr_device *device, const double *values)
{
    const sample_input *in = &e->sample->in[k];
    const size_t size = tsr_dtype_size(e->in[k].dtype);
    void *data = host_alloc((size_t)e->in[k].count * size + 1);
    tsr_tensor *t = NULL;
    for (int64_t i = 0; data != NULL && i < e->in[k].count; i++)
        number_store(e->in[k].dtype, data, i, values[i]);
    if (data != NULL)
        t = tsr_from_data(device, e->in[k].dtype, in->rank, in->shape, data);
    host_free(data);
    return t;
}
