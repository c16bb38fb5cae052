/* How long an operator takes. A turn queues so many calls that the device is busy for some milliseconds, and waits for them once; forward and backward
 * turns alternate, and the median counts. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/compiler.h"
#include "base/memory.h"
#include "base/philox.h"
#include "bench.h"
#include "operators/number.h"
#include "operators/samples.h"
#include "tessera/tessera.h"

enum { RUNS_MOST = 15, RUNS_LEAST = 3, PRODUCT_LEAST = 512, PRODUCT_MOST = 8192, BLOCK = 1 << 16 };

static const double turn_most = 0.01; /* seconds */

/* ---- turns ---------------------------------------------------------------------------------------------------------- */

typedef struct work {
    tsr_device *device;
    const load *l;
    tsr_tensor *in[INPUTS_MAX], *out[OUTPUTS_MAX], *gradient;
    int in_count;
    tsr_tensor *from, *to; /* of a copy */
} work;

typedef tsr_status turn(work *w);

static tsr_status call_forward(work *w)
{
    tsr_tensor *out[OUTPUTS_MAX] = {NULL};
    const operator_row *row = w->l->row;
    tsr_no_grad_begin();
    const tsr_status status =
        tsr_op_call(row->name, w->in, w->in_count, out, row->results, w->l->sample.attrs, sample_attrs(&w->l->sample));
    tsr_no_grad_end();
    return status;
}

static tsr_status call_backward(work *w)
{
    const tsr_status status = tsr_backward_from(w->out[0], w->gradient, true);
    for (int k = 0; k < w->in_count; k++) /* so that the next one has nothing to add to */
        tsr_clear_grad(w->in[k]);
    return status;
}

static tsr_status call_copy(work *w)
{
    return tsr_copy_into(w->to, w->from);
}

static tsr_status timed_turn(work *w, turn *call, int calls, double *seconds)
{
    const double began = clock_seconds();
    tsr_status status = TSR_OK;
    for (int i = 0; i < calls && status == TSR_OK; i++) {
        status = tsr_scope_begin();
        if (status == TSR_OK) {
            status = call(w);
            tsr_scope_end();
        }
    }
    if (status == TSR_OK)
        status = tsr_device_sync(w->device);
    *seconds = (clock_seconds() - began) / calls;
    return status;
}

/* Two warm-up calls, which compile and allocate, then how many calls make a turn. */
static tsr_status warm_up(work *w, turn *call, double turn_seconds, int *calls)
{
    double seconds = 0;
    *calls = 1;
    tsr_status status = timed_turn(w, call, 1, &seconds);
    for (int tries = 0; tries < 4 && status == TSR_OK; tries++) {
        status = timed_turn(w, call, *calls, &seconds);
        if (status != TSR_OK || seconds * *calls >= turn_seconds)
            break;
        *calls = (int)fmin(4096, ceil(turn_seconds / fmax(seconds, 1e-7)));
    }
    return status;
}

static int by_time(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Turns of up to two calls, alternating; `seconds` is what each may take. */
static tsr_status measure(work *w, turn *const *calls, int count, double limit, double *medians, int *runs)
{
    double times[2][RUNS_MOST], began;
    int each[2] = {1, 1};
    tsr_status status = TSR_OK;
    for (int k = 0; k < count && status == TSR_OK; k++)
        status = warm_up(w, calls[k], fmin(turn_most, limit / 4), &each[k]);
    began = clock_seconds();
    for (*runs = 0; *runs < RUNS_MOST && status == TSR_OK; ++*runs) {
        if (*runs >= RUNS_LEAST && clock_seconds() - began > limit * count)
            break;
        for (int k = 0; k < count && status == TSR_OK; k++)
            status = timed_turn(w, calls[k], each[k], &times[k][*runs]);
    }
    for (int k = 0; k < count && status == TSR_OK; k++) {
        qsort(times[k], (size_t)*runs, sizeof times[k][0], by_time);
        medians[k] = times[k][*runs / 2];
    }
    return status;
}

/* ---- operands ------------------------------------------------------------------------------------------------------- */

/* Whole numbers of [low, high): a block of them over and over. */
static tsr_tensor *whole_numbers(tsr_device *device, const sample_input *in, tsr_dtype dtype)
{
    const int64_t count = shape_product(in->rank, in->shape);
    const size_t size = tsr_dtype_size(dtype);
    const double low = in->high > in->low ? in->low : 1, high = in->high > in->low ? in->high : 4;
    philox_stream numbers = philox_begin(0, PHILOX_ORDER, (uint64_t)count);
    char *data = host_alloc((size_t)count * size + 1);
    tsr_tensor *t = NULL;
    if (data == NULL)
        return NULL;
    for (int64_t i = 0; i < count && i < BLOCK; i++)
        number_store(dtype, data, i, floor(low + (high - low) * philox_double(&numbers)));
    for (int64_t i = BLOCK; i < count; i += BLOCK)
        memcpy(data + (size_t)i * size, data, (size_t)(count - i < BLOCK ? count - i : BLOCK) * size);
    t = tsr_from_data(device, dtype, in->rank, in->shape, data);
    host_free(data);
    return t;
}

static tsr_tensor *operand_of(const work *w, int k, tsr_dtype dtype)
{
    const sample_input *in = &w->l->sample.in[k];
    const tsr_dtype own = load_dtype(w->l, k, dtype);
    const bool bounded = in->high > in->low;
    if (!number_is_float(own))
        return whole_numbers(w->device, in, own);
    if (in->layout == LAYOUT_REVERSED) { /* the last two axes of a product's operand */
        int64_t shape[TSR_MAX_RANK];
        memcpy(shape, in->shape, sizeof shape);
        shape[in->rank - 2] = in->shape[in->rank - 1];
        shape[in->rank - 1] = in->shape[in->rank - 2];
        tsr_tensor *t = tsr_transpose(tsr_uniform(w->device, own, in->rank, shape, -1, 1), -2, -1);
        return tsr_detach(t);
    }
    return tsr_uniform(w->device, own, in->rank, in->shape, bounded ? in->low : -1, bounded ? in->high : 1);
}

static tsr_status make_operands(work *w, tsr_dtype dtype)
{
    w->in_count = sample_inputs(w->l->row, &w->l->sample);
    for (int k = 0; k < w->in_count; k++) {
        if (w->l->sample.in[k].absent)
            continue;
        w->in[k] = operand_of(w, k, dtype);
        if (w->in[k] == NULL)
            return tsr_last_status();
    }
    return TSR_OK;
}

/* The call that is differentiated, and a gradient of its result. */
static tsr_status record_call(work *w, bool *has_backward)
{
    const operator_row *row = w->l->row;
    tsr_status status = TSR_OK;
    for (int k = 0; k < w->in_count && row->differentiable && status == TSR_OK; k++)
        if (w->in[k] != NULL && (row->constant >> k & 1) == 0 && number_is_float(tsr_dtype_of(w->in[k])))
            status = tsr_set_requires_grad(w->in[k], true);
    if (status == TSR_OK)
        status = tsr_op_call(row->name, w->in, w->in_count, w->out, row->results, w->l->sample.attrs,
                             sample_attrs(&w->l->sample));
    *has_backward = status == TSR_OK && tsr_requires_grad(w->out[0]);
    if (*has_backward) {
        w->gradient = tsr_uniform(w->device, tsr_dtype_of(w->out[0]), tsr_rank(w->out[0]), tsr_shape(w->out[0]), -1, 1);
        status = w->gradient == NULL ? tsr_last_status() : TSR_OK;
    }
    return status;
}

/* ---- records -------------------------------------------------------------------------------------------------------- */

static void describe(const load *l, char *out, size_t size)
{
    size_t n = 0;
    out[0] = '\0';
    for (int k = 0; k < l->row->arity && n < size; k++) {
        const sample_input *in = &l->sample.in[k];
        if (in->absent)
            continue;
        n += (size_t)snprintf(out + n, size - n, "%s[", n > 0 ? " " : "");
        for (int d = 0; d < in->rank && n < size; d++)
            n += (size_t)snprintf(out + n, size - n, "%s%lld", d > 0 ? ", " : "", (long long)in->shape[d]);
        if (n < size)
            n += (size_t)snprintf(out + n, size - n, "]%s", in->layout == LAYOUT_REVERSED ? "'" : "");
    }
}

static bool fill_records(work *w, const bench_settings *settings, tsr_dtype dtype, bench_record *forward,
                         bench_record *backward, bool *has_backward)
{
    turn *const turns[] = {call_forward, call_backward};
    double medians[2] = {0, 0};
    int64_t count[OUTPUTS_MAX];
    tsr_dtype dtypes[OUTPUTS_MAX];
    int runs = 0;
    tsr_status status = make_operands(w, dtype);
    if (status == TSR_OK)
        status = record_call(w, has_backward);
    if (status == TSR_OK)
        status = measure(w, turns, *has_backward ? 2 : 1, settings->seconds, medians, &runs);
    forward->status = backward->status = status;
    if (status != TSR_OK) {
        snprintf(forward->error, sizeof forward->error, "%s", tsr_last_error());
        *has_backward = false;
        return status == TSR_UNSUPPORTED || status == TSR_INVALID_ARGUMENT || status == TSR_OUT_OF_DEVICE_MEMORY ||
               status == TSR_OUT_OF_RANGE;
    }
    const int outs = w->l->row->results - w->l->row->hidden;
    for (int k = 0; k < outs; k++) {
        count[k] = tsr_numel(w->out[k]);
        dtypes[k] = tsr_dtype_of(w->out[k]);
    }
    forward->runs = backward->runs = runs;
    forward->seconds = medians[0];
    backward->seconds = medians[1];
    const bool view = w->in[0] != NULL && tsr_shares_storage(w->in[0], w->out[0]);
    forward->cost = view ? (load_cost){0, 0} : load_cost_of(w->l, dtype, count, dtypes, outs, false);
    backward->cost = load_cost_of(w->l, dtype, count, dtypes, outs, true);
    return true;
}

bool bench_measure(tsr_device *device, const bench_settings *settings, const load *l, tsr_dtype dtype,
                   bench_record *forward, bench_record *backward, bool *has_backward)
{
    work w = {.device = device, .l = l};
    *forward = (bench_record){.row = l->row, .dtype = dtype, .own = l->own};
    describe(l, forward->shapes, sizeof forward->shapes);
    *backward = *forward;
    backward->backward = true;
    *has_backward = false;
    tsr_clear_error();
    if (tsr_scope_begin() != TSR_OK)
        return false;
    const bool ok = fill_records(&w, settings, dtype, forward, backward, has_backward);
    tsr_scope_end();
    tsr_memory_trim(device); /* the next one's blocks are of other sizes */
    return ok;
}

/* Squares of the sizes at which libraries are compared, and the products of a convolution network, of GPT-2's layers and of attention. */
static const struct {
    int64_t batch, m, n, k;
    bool transposed_a, transposed_b;
} products[] = {
    {1, 256, 256, 256, false, false},   {1, 512, 512, 512, false, false},   {1, 1024, 1024, 1024, false, false},
    {1, 1024, 1024, 1024, true, false}, {1, 1024, 1024, 1024, false, true}, {1, 2048, 2048, 2048, false, false},
    {1, 64, 128, 1568, false, true},    {1, 128, 1568, 64, true, false},    {1, 1024, 768, 768, false, true},
    {1, 1024, 3072, 768, false, true},  {96, 512, 512, 64, false, true},    {96, 512, 64, 512, false, false},
};

static void product_operand(sample_input *in, int64_t batch, int64_t rows, int64_t columns, bool transposed)
{
    const int64_t shape[] = {batch, rows, columns};
    in->rank = batch > 1 ? 3 : 2;
    memcpy(in->shape, batch > 1 ? shape : shape + 1, sizeof *shape * (size_t)in->rank);
    in->layout = transposed ? LAYOUT_REVERSED : LAYOUT_DENSE;
}

bool bench_product(size_t i, load *l, int64_t mnk[3])
{
    if (i >= COUNT_OF(products))
        return false;
    *l = (load){.row = operator_find("matmul"),
                .sample = {.name = "product"},
                .own = true,
                .flops_per_result = 2 * (double)products[i].k,
                .backward_factor = 2,
                .backward_reads = 3};
    product_operand(&l->sample.in[0], products[i].batch, products[i].m, products[i].k, products[i].transposed_a);
    product_operand(&l->sample.in[1], products[i].batch, products[i].k, products[i].n, products[i].transposed_b);
    mnk[0] = products[i].m;
    mnk[1] = products[i].n;
    mnk[2] = products[i].k;
    return true;
}

void bench_rate(bench_record *r, const bench_limits *limits)
{
    const double bytes = limits->copy_bytes > 0 ? r->cost.bytes / limits->copy_bytes : 0;
    const double peak =
        limits->product_flops[r->dtype] > 0 ? limits->product_flops[r->dtype] : limits->product_flops[TSR_F32];
    const double flops = peak > 0 ? r->cost.flops / peak : 0;
    if (r->status != TSR_OK || r->seconds <= 0)
        return;
    r->copy = bytes / r->seconds;
    r->product = flops / r->seconds;
    r->roofline = fmax(bytes, flops) / r->seconds;
}

/* ---- limits --------------------------------------------------------------------------------------------------------- */

static tsr_status measure_copy(work *w, const bench_settings *settings, bench_limits *limits)
{
    turn *const turns[] = {call_copy};
    double seconds = 0;
    int runs;
    w->from = tsr_uniform(w->device, TSR_F32, 1, &settings->size, 0, 1);
    w->to = tsr_empty(w->device, TSR_F32, 1, &settings->size);
    if (w->from == NULL || w->to == NULL)
        return tsr_last_status();
    const tsr_status status = measure(w, turns, 1, 2 * settings->seconds, &seconds, &runs);
    if (status == TSR_OK)
        limits->copy_bytes = fmax(limits->copy_bytes, 2 * 4 * (double)settings->size / seconds);
    return status;
}

/* Sizes are doubled until a product takes a twentieth of a second. */
static tsr_status measure_product(work *w, tsr_dtype dtype, const bench_settings *settings, bench_limits *limits)
{
    load l = {.row = operator_find("matmul")};
    turn *const turns[] = {call_forward};
    tsr_status status = TSR_OK;
    w->l = &l;
    w->in_count = 2;
    for (int64_t n = PRODUCT_LEAST; n <= PRODUCT_MOST && status == TSR_OK; n *= 2) {
        double seconds = 0;
        int runs;
        status = tsr_scope_begin();
        for (int k = 0; k < 2; k++)
            w->in[k] = tsr_uniform(w->device, dtype, 2, (int64_t[]){n, n}, -1, 1);
        if (status == TSR_OK && (w->in[0] == NULL || w->in[1] == NULL))
            status = tsr_last_status();
        if (status == TSR_OK)
            status = measure(w, turns, 1, settings->seconds, &seconds, &runs);
        tsr_scope_end();
        if (status == TSR_OK)
            limits->product_flops[dtype] =
                fmax(limits->product_flops[dtype], 2 * (double)n * (double)n * (double)n / seconds);
        if (seconds > 0.05)
            break;
    }
    return status;
}

tsr_status bench_measure_limits(tsr_device *device, const bench_settings *settings, bench_limits *limits)
{
    static const tsr_dtype dtypes[] = {TSR_F32, TSR_F16, TSR_BF16, TSR_F64};
    tsr_device_info info;
    work w = {.device = device};
    tsr_status status = tsr_device_describe(device, &info);
    if (status == TSR_OK)
        status = tsr_scope_begin();
    if (status != TSR_OK)
        return status;
    status = measure_copy(&w, settings, limits);
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes && status == TSR_OK; i++) {
        const bool wanted =
            i == 0 || settings->dtypes == NULL || strstr(settings->dtypes, tsr_dtype_name(dtypes[i])) != NULL;
        if (wanted && (info.dtypes >> dtypes[i] & 1) != 0)
            status = measure_product(&w, dtypes[i], settings, limits);
    }
    tsr_scope_end();
    tsr_memory_trim(device);
    return status;
}
