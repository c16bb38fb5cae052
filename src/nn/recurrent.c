/* LSTM and GRU: layers of cells, in one or both directions. The products of the inputs of all steps are one; a step's own are its state's. */
#include <math.h>
#include <stdio.h>

#include "base/error.h"
#include "base/memory.h"
#include "nn/module.h"
#include "tensor/tensor.h"

typedef struct recurrent {
    bool lstm;
    int64_t in, hidden;
    tsr_recurrent_options options; /* layers at least 1 */
} recurrent;

static int directions_of(const recurrent *r)
{
    return r->options.bidirectional ? 2 : 1;
}

/* ---- one layer, in one direction ---- */

/* Parameters as registered: weights of the inputs and of the state, then their biases, if there are any. */
static tsr_tensor *parameter(const tsr_module *m, const recurrent *r, int at, int which)
{
    const int each = r->options.no_bias ? 2 : 4;
    return which < each ? module_own_parameter(m, (size_t)(at * each + which)) : NULL;
}

/* The state of layer and direction `at` of [layers · directions, n, hidden], or zeros. */
static tsr_tensor *first_state(const recurrent *r, tsr_tensor *states, int at, const tsr_tensor *x)
{
    if (states == NULL)
        return tsr_zeros(tsr_device_of(x), tsr_dtype_of(x), 2, (int64_t[]){x->shape[1], r->hidden});
    return tsr_squeeze(tsr_slice(states, 0, at, at + 1, 1), (int[]){0}, 1);
}

/* x [steps, n, in] → outputs[step] [n, hidden], and the last states. */
static bool run_direction(tsr_module *m, const recurrent *r, int at, tsr_tensor *x, tsr_tensor **outputs,
                          tsr_tensor **h, tsr_tensor **c)
{
    const int64_t steps = x->shape[0];
    const bool backwards = r->options.bidirectional && at % 2 == 1;
    tsr_tensor *products = tsr_linear(x, parameter(m, r, at, 0), parameter(m, r, at, 2));
    for (int64_t i = 0; i < steps && products != NULL && *h != NULL; i++) {
        const int64_t t = backwards ? steps - 1 - i : i;
        tsr_tensor *own = tsr_squeeze(tsr_slice(products, 0, t, t + 1, 1), (int[]){0}, 1);
        tsr_tensor *of_state = tsr_linear(*h, parameter(m, r, at, 1), parameter(m, r, at, 3));
        if (r->lstm) {
            tsr_tensor *next = NULL, *cell = NULL;
            if (tsr_lstm_cell(own, of_state, *c, &next, &cell) != TSR_OK)
                return false;
            *h = next;
            *c = cell;
        } else {
            *h = tsr_gru_cell(own, of_state, *h);
        }
        outputs[t] = *h;
    }
    return products != NULL && *h != NULL;
}

/* x [steps, n, in] → [steps, n, directions · hidden]; the last states go to h and c. */
static tsr_tensor *run_layer(tsr_module *m, const recurrent *r, int layer, tsr_tensor *x, tsr_tensor **h,
                             tsr_tensor **c)
{
    const int64_t steps = x->shape[0];
    tsr_tensor *both[2] = {NULL, NULL}, **outputs = host_alloc_zeroed((size_t)steps, sizeof *outputs);
    const int directions = directions_of(r);
    bool ok = outputs != NULL;
    for (int d = 0; d < directions && ok; d++) {
        const int at = layer * directions + d;
        ok = run_direction(m, r, at, x, outputs, &h[at], &c[at]);
        both[d] = ok ? tsr_stack(outputs, (int)steps, 0) : NULL;
        ok = both[d] != NULL;
    }
    host_free(outputs);
    if (!ok)
        return NULL;
    return directions == 1 ? both[0] : tsr_cat(both, 2, 2);
}

/* ---- all layers ---- */

static bool check_input(const tsr_module *m, const recurrent *r, const tsr_tensor *x)
{
    if (x->rank == 3 && x->shape[2] == r->in && x->shape[r->options.batch_first ? 1 : 0] > 0)
        return true;
    fail(TSR_INVALID_ARGUMENT, "%s: x is %s; it should be %s, with one step or more", m->kind, tensor_text(x),
         r->options.batch_first ? "[n, steps, in]" : "[steps, n, in]");
    if (x->rank == 3 && x->shape[2] != r->in)
        fail_prefix("%lld inputs where the layer has %lld", (long long)x->shape[2], (long long)r->in);
    return false;
}

static bool check_states(const tsr_module *m, const recurrent *r, const tsr_tensor *states, int64_t n)
{
    const int64_t shape[] = {r->options.layers * directions_of(r), n, r->hidden};
    if (states == NULL ||
        (states->rank == 3 && states->shape[0] == shape[0] && states->shape[1] == n && states->shape[2] == r->hidden))
        return true;
    fail(TSR_INVALID_ARGUMENT, "%s: a state is %s; it should be %s", m->kind, tensor_text(states),
         shape_text(3, shape));
    return false;
}

static bool run_layers(tsr_module *m, const recurrent *r, tsr_tensor *x, tsr_tensor **h, tsr_tensor **c, tsr_tensor **y)
{
    if (r->options.batch_first)
        x = tsr_transpose(x, 0, 1);
    for (int layer = 0; layer < r->options.layers && x != NULL; layer++) {
        x = run_layer(m, r, layer, x, h, c);
        if (layer + 1 < r->options.layers && r->options.dropout > 0)
            x = tsr_dropout(x, r->options.dropout, m->training);
    }
    *y = r->options.batch_first ? tsr_transpose(x, 0, 1) : x;
    return *y != NULL;
}

/* Results in the order y, last h, last c; those not asked for are NULL. */
static bool apply(tsr_module *m, const recurrent *r, tsr_tensor *x, tsr_tensor *h0, tsr_tensor *c0, bool states,
                  tsr_tensor **results)
{
    const int count = r->options.layers * directions_of(r);
    tsr_tensor **h = host_alloc_zeroed((size_t)count, sizeof *h), **c = host_alloc_zeroed((size_t)count, sizeof *c);
    bool ok = h != NULL && c != NULL;
    tsr_tensor *by_steps = r->options.batch_first ? tsr_transpose(x, 0, 1) : x;
    for (int i = 0; i < count && ok && by_steps != NULL; i++) {
        h[i] = first_state(r, h0, i, by_steps);
        c[i] = r->lstm ? first_state(r, c0, i, by_steps) : NULL;
    }
    ok = ok && by_steps != NULL && run_layers(m, r, x, h, c, &results[0]);
    if (ok && states) {
        results[1] = tsr_stack(h, count, 0);
        results[2] = r->lstm ? tsr_stack(c, count, 0) : NULL;
        ok = results[1] != NULL && (!r->lstm || results[2] != NULL);
    }
    host_free(h);
    host_free(c);
    return ok;
}

static tsr_tensor *recurrent_forward(void *context, tsr_module *self, tsr_tensor *x)
{
    (void)context;
    tsr_tensor *y = NULL;
    return tsr_recurrent_forward(self, x, NULL, NULL, &y, NULL, NULL) == TSR_OK ? y : NULL;
}

tsr_status tsr_recurrent_forward(tsr_module *m, tsr_tensor *x, tsr_tensor *h0, tsr_tensor *c0, tsr_tensor **y,
                                 tsr_tensor **h, tsr_tensor **c)
{
    tsr_tensor *results[3] = {NULL, NULL, NULL}, **wanted[3] = {y, h, c};
    if (m == NULL || x == NULL || m->forward != recurrent_forward)
        return m != NULL && x == NULL && tsr_last_status() != TSR_OK
                   ? tsr_last_status()
                   : fail(TSR_INVALID_ARGUMENT, "recurrent_forward: it needs an LSTM or GRU, and x");
    const recurrent *r = m->context;
    if (!r->lstm && (c0 != NULL || c != NULL))
        return fail(TSR_INVALID_ARGUMENT, "%s has no second state", m->kind);
    if (!check_input(m, r, x) || !check_states(m, r, h0, x->shape[r->options.batch_first ? 0 : 1]) ||
        !check_states(m, r, c0, x->shape[r->options.batch_first ? 0 : 1]))
        return tsr_last_status();
    tsr_status status = tsr_scope_begin();
    if (status != TSR_OK)
        return status;
    if (!apply(m, r, x, h0, c0, h != NULL || c != NULL, results)) {
        fail_prefix("%s", m->kind);
        status = tsr_last_status();
    }
    for (int i = 0; i < 3; i++)
        results[i] = status == TSR_OK && wanted[i] != NULL ? tsr_keep(results[i]) : NULL;
    tsr_scope_end();
    for (int i = 0; i < 3; i++)
        if (wanted[i] != NULL)
            *wanted[i] = tensor_to_scope(results[i]);
    return status;
}

/* ---- making ---- */

static tsr_status add_direction(tsr_module *m, const recurrent *r, tsr_device *device, int layer, bool backwards)
{
    static const char *const names[] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh"};
    const int64_t rows = (r->lstm ? 4 : 3) * r->hidden;
    const int64_t in = layer == 0 ? r->in : directions_of(r) * r->hidden, columns[] = {in, r->hidden};
    tsr_status status = TSR_OK;
    for (int i = 0; i < (r->options.no_bias ? 2 : 4) && status == TSR_OK; i++) {
        char name[40];
        snprintf(name, sizeof name, "%s_l%d%s", names[i], layer, backwards ? "_reverse" : "");
        status = module_add_uniform(m, name, device, i < 2 ? 2 : 1, (int64_t[]){rows, columns[i % 2]},
                                    1 / sqrt((double)r->hidden));
    }
    return status;
}

static tsr_module *create(bool lstm, tsr_device *device, int64_t in, int64_t hidden,
                          const tsr_recurrent_options *options)
{
    const char *kind = lstm ? "lstm" : "gru";
    recurrent r = {.lstm = lstm, .in = in, .hidden = hidden};
    if (options != NULL)
        r.options = *options;
    r.options.layers = r.options.layers == 0 ? 1 : r.options.layers;
    if (in < 1 || hidden < 1 || hidden > INT32_MAX / 4 || r.options.layers < 1 || r.options.layers > 1000 ||
        !(r.options.dropout >= 0 && r.options.dropout < 1)) {
        fail(TSR_OUT_OF_RANGE,
             "%s: %lld inputs, %lld hidden, %d layers and dropout %g; sizes must be at least 1, layers at most 1000, "
             "dropout in [0, 1)",
             kind, (long long)in, (long long)hidden, r.options.layers, r.options.dropout);
        return NULL;
    }
    tsr_module *m = module_create_with(kind, recurrent_forward, &r, sizeof r);
    tsr_status status = m == NULL ? tsr_last_status() : TSR_OK;
    for (int i = 0; i < r.options.layers * directions_of(&r) && status == TSR_OK; i++)
        status = add_direction(m, &r, device, i / directions_of(&r), i % directions_of(&r) == 1);
    return module_finished(m, status);
}

tsr_module *tsr_lstm_create(tsr_device *device, int64_t in, int64_t hidden, const tsr_recurrent_options *options)
{
    return create(true, device, in, hidden, options);
}

tsr_module *tsr_gru_create(tsr_device *device, int64_t in, int64_t hidden, const tsr_recurrent_options *options)
{
    return create(false, device, in, hidden, options);
}
