#include "lockstep.h"

#include <math.h>
#include <string.h>

#include "base/compiler.h"
#include "base/memory.h"
#include "models.h"
#include "progress.h"
#include "reference.h"
#include "tessera/autograd.h"
#include "tessera/ops.h"

enum { LAYERS_MAX = 16, PARAMETERS_MAX = 16 };

/* One device's model. */
typedef struct lane {
    tsr_device *device;
    tsr_module *model;
    tsr_batches *batches;
    lock_run *run;
    bool out; /* failed */
} lane;

/* What one layer took and gave, on the device. */
typedef struct link {
    tsr_tensor *in, *out, *out_grad;
} link;

typedef struct proof {
    const train_settings *settings;
    const model_layer *layers;
    size_t layer_count, parameter_count;
    thread_pool *pool;
    int64_t step;
    /* host memory: f32 of one layer and its reference */
    float *in, *out, *out_grad, *got;
    reference expected;
    int64_t room; /* elements of each */
    /* of the first device: weights before the step, and gradients; of the present one: gradients operator by operator */
    float *weights[PARAMETERS_MAX], *first_grads[PARAMETERS_MAX], *grads[PARAMETERS_MAX];
} proof;

/* ---- holding values against the reference --------------------------------------------------------------------------- */

static void hold(proof *p, lock_run *run, lock_check check, const char *what, const float *got, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        const double value = (double)got[i], expected = p->expected.value[i], bound = p->expected.bound[i];
        const double error = fabs(value - expected);
        /* What is not a number is as wrong as can be. */
        const double ratio = error == 0 ? 0 : bound > 0 && !isnan(error) ? error / bound : INFINITY;
        if (ratio > run->ratio[check])
            run->ratio[check] = ratio;
        if (ratio > run->worst.ratio) {
            snprintf(run->worst.what, sizeof run->worst.what, "%s", what);
            run->worst.step = p->step;
            run->worst.element = i;
            run->worst.ratio = ratio;
            run->worst.value = value;
            run->worst.expected = expected;
            run->worst.bound = bound;
        }
    }
}

/* Reads a tensor and holds it. */
static tsr_status hold_tensor(proof *p, lock_run *run, lock_check check, const char *what, tsr_tensor *t)
{
    const tsr_status status = tsr_read_f32(t, p->got, (size_t)tsr_numel(t));
    if (status == TSR_OK)
        hold(p, run, check, what, p->got, tsr_numel(t));
    return status;
}

static void expect_exact(proof *p, int64_t i, double value)
{
    p->expected.value[i] = value;
    p->expected.bound[i] = 0;
}

/* ---- one layer's references ----------------------------------------------------------------------------------------- */

static const char *const layer_names[] = {
    [LAYER_CONV] = "convolution", [LAYER_LINEAR] = "linear",   [LAYER_RELU] = "relu",
    [LAYER_POOL] = "max pool",    [LAYER_FLATTEN] = "flatten",
};

static tsr_status held_products(proof *p, lane *l, size_t i, const link *k, size_t parameter)
{
    const model_layer *layer = &p->layers[i];
    const bool conv = layer->kind == LAYER_CONV;
    const conv_shape s = {
        tsr_size(k->in, 0),      layer->in, layer->out, conv ? tsr_size(k->in, 2) : 1, conv ? tsr_size(k->in, 3) : 1,
        conv ? layer->kernel : 1};
    const float *weight = p->weights[parameter], *bias = p->weights[parameter + 1];
    const int64_t weights = s.out * s.in * s.k * s.k;
    char what[64];

    if (!reference_conv(p->pool, s, p->in, weight, bias, p->expected))
        return tsr_last_status();
    snprintf(what, sizeof what, "%s %zu", layer_names[layer->kind], i);
    hold(p, l->run, LOCK_FORWARD, what, p->out, s.n * s.out * s.h * s.w);

    if (!reference_conv_dw(p->pool, s, p->out_grad, p->in, p->expected))
        return tsr_last_status();
    snprintf(what, sizeof what, "%s %zu, gradient of the weights", layer_names[layer->kind], i);
    hold(p, l->run, LOCK_WEIGHTS, what, p->grads[parameter], weights);

    reference_conv_db(s, p->out_grad, p->expected);
    snprintf(what, sizeof what, "%s %zu, gradient of the bias", layer_names[layer->kind], i);
    hold(p, l->run, LOCK_WEIGHTS, what, p->grads[parameter + 1], s.out);

    tsr_tensor *dx = tsr_grad(k->in);
    if (dx == NULL) /* the images */
        return TSR_OK;
    if (!reference_conv_dx(p->pool, s, p->out_grad, weight, p->expected))
        return tsr_last_status();
    snprintf(what, sizeof what, "%s %zu, gradient of its input", layer_names[layer->kind], i);
    return hold_tensor(p, l->run, LOCK_INPUTS, what, dx);
}

/* The first of equals wins a pool's window, as in PyTorch. */
static void expect_pool(proof *p, const link *k, bool gradient)
{
    const int64_t planes = tsr_size(k->in, 0) * tsr_size(k->in, 1), h = tsr_size(k->in, 2), w = tsr_size(k->in, 3);
    for (int64_t i = 0; gradient && i < planes * h * w; i++)
        expect_exact(p, i, 0);
    for (int64_t n = 0, o = 0; n < planes; n++)
        for (int64_t y = 0; y + 1 < h; y += 2)
            for (int64_t x = 0; x + 1 < w; x += 2, o++) {
                const int64_t corner = (n * h + y) * w + x, window[] = {corner, corner + 1, corner + w, corner + w + 1};
                int64_t top = corner;
                for (int j = 1; j < 4; j++)
                    top = p->in[window[j]] > p->in[top] ? window[j] : top;
                if (gradient)
                    expect_exact(p, top, (double)p->out_grad[o]);
                else
                    expect_exact(p, o, (double)p->in[top]);
            }
}

static void expect_pointwise(proof *p, layer_kind kind, int64_t count, bool gradient)
{
    for (int64_t i = 0; i < count; i++) {
        const bool passes = kind != LAYER_RELU || p->in[i] > 0;
        expect_exact(p, i, passes ? (double)(gradient ? p->out_grad : p->in)[i] : 0);
    }
}

static tsr_status held_exact(proof *p, lane *l, size_t i, const link *k)
{
    const layer_kind kind = p->layers[i].kind;
    tsr_tensor *dx = tsr_grad(k->in);
    char what[64];
    snprintf(what, sizeof what, "%s %zu", layer_names[kind], i);
    if (kind == LAYER_POOL)
        expect_pool(p, k, false);
    else
        expect_pointwise(p, kind, tsr_numel(k->in), false);
    hold(p, l->run, LOCK_FORWARD, what, p->out, tsr_numel(k->out));
    if (dx == NULL)
        return TSR_OK;
    if (kind == LAYER_POOL)
        expect_pool(p, k, true);
    else
        expect_pointwise(p, kind, tsr_numel(k->in), true);
    snprintf(what, sizeof what, "%s %zu, gradient of its input", layer_names[kind], i);
    return hold_tensor(p, l->run, LOCK_INPUTS, what, dx);
}

static tsr_status hold_layer(proof *p, lane *l, size_t i, const link *k, size_t parameter)
{
    const layer_kind kind = p->layers[i].kind;
    tsr_status status = tsr_read_f32(k->in, p->in, (size_t)tsr_numel(k->in));
    if (status == TSR_OK)
        status = tsr_read_f32(k->out, p->out, (size_t)tsr_numel(k->out));
    if (status == TSR_OK && k->out_grad != NULL)
        status = tsr_read_f32(k->out_grad, p->out_grad, (size_t)tsr_numel(k->out_grad));
    if (status != TSR_OK)
        return status;
    return kind == LAYER_CONV || kind == LAYER_LINEAR ? held_products(p, l, i, k, parameter) : held_exact(p, l, i, k);
}

/* ---- operator by operator ------------------------------------------------------------------------------------------- */

static tsr_tensor *parameter_of(const lane *l, size_t i)
{
    return tsr_module_parameter(l->model, i, NULL, 0);
}

static tsr_tensor *apply(const lane *l, const model_layer *layer, tsr_tensor *x, size_t parameter)
{
    switch (layer->kind) {
    case LAYER_CONV:
        return tsr_conv2d(x, parameter_of(l, parameter), parameter_of(l, parameter + 1),
                          &(tsr_conv2d_options){.padding = {layer->kernel / 2, layer->kernel / 2}});
    case LAYER_LINEAR: return tsr_linear(x, parameter_of(l, parameter), parameter_of(l, parameter + 1));
    case LAYER_RELU: return tsr_relu(x);
    case LAYER_POOL: return tsr_max_pool2d(x, &(tsr_pool2d_options){.kernel = {2, 2}});
    case LAYER_FLATTEN: return tsr_flatten(x, 1, -1);
    }
    return NULL;
}

/* The same values as a leaf of its own, so that its gradient can be had. */
static tsr_tensor *cut(tsr_tensor *x)
{
    tsr_tensor *leaf = tsr_detach(x);
    return leaf != NULL && tsr_set_requires_grad(leaf, true) == TSR_OK ? leaf : NULL;
}

static bool has_parameters(const model_layer *layer)
{
    return layer->kind == LAYER_CONV || layer->kind == LAYER_LINEAR;
}

static tsr_status read_grads(proof *p, const lane *l, float *const *grads)
{
    tsr_status status = TSR_OK;
    for (size_t i = 0; i < p->parameter_count && status == TSR_OK; i++) {
        tsr_tensor *g = tsr_grad(parameter_of(l, i));
        status = g == NULL ? TSR_NOT_FOUND : tsr_read_f32(g, grads[i], (size_t)tsr_numel(g));
    }
    return status;
}

static tsr_status hold_loss(proof *p, lane *l, tsr_tensor *logits, tsr_tensor *target, tsr_tensor *loss)
{
    const int64_t rows = tsr_size(logits, 0), classes = tsr_size(logits, 1);
    int64_t *targets = host_realloc_array(NULL, (size_t)rows, sizeof *targets);
    double value, bound;
    if (targets == NULL)
        return tsr_last_status();
    tsr_status status = tsr_read(target, targets, (size_t)rows * sizeof *targets);
    if (status == TSR_OK)
        status = tsr_read_f32(logits, p->in, (size_t)(rows * classes));
    if (status == TSR_OK) {
        reference_cross_entropy(rows, classes, p->in, targets, (reference){&value, &bound}, p->expected);
        status = hold_tensor(p, l->run, LOCK_INPUTS, "cross entropy, gradient of the logits", tsr_grad(logits));
    }
    if (status == TSR_OK) {
        p->expected.value[0] = value;
        p->expected.bound[0] = bound;
        status = hold_tensor(p, l->run, LOCK_LOSS, "cross entropy", loss);
    }
    host_free(targets);
    return status;
}

/* Forward and backward with a cut between any two operators, and everything held against its reference. */
static tsr_status one_by_one(proof *p, lane *l, tsr_tensor *x, tsr_tensor *target)
{
    link links[LAYERS_MAX] = {{0}};
    size_t first_parameter[LAYERS_MAX], parameter = 0;
    for (size_t i = 0; i < p->layer_count; i++) {
        links[i].in = i == 0 ? x : cut(links[i - 1].out);
        links[i].out = apply(l, &p->layers[i], links[i].in, parameter);
        first_parameter[i] = parameter;
        parameter += has_parameters(&p->layers[i]) ? 2 : 0;
        if (links[i].out == NULL)
            return tsr_last_status();
    }
    tsr_tensor *logits = cut(links[p->layer_count - 1].out);
    tsr_tensor *loss = tsr_cross_entropy(logits, target);
    tsr_status status = loss == NULL ? tsr_last_status() : tsr_backward(loss);
    tsr_tensor *grad = status == TSR_OK ? tsr_grad(logits) : NULL;
    for (size_t i = p->layer_count; i-- > 0 && status == TSR_OK;) {
        links[i].out_grad = grad;
        if (tsr_requires_grad(links[i].out))
            status = tsr_backward_from(links[i].out, grad, false);
        grad = tsr_grad(links[i].in);
    }
    if (status == TSR_OK)
        status = read_grads(p, l, p->grads);
    if (status == TSR_OK)
        status = hold_loss(p, l, logits, target, loss);
    for (size_t i = 0; i < p->layer_count && status == TSR_OK; i++)
        status = hold_layer(p, l, i, &links[i], first_parameter[i]);
    return status;
}

/* ---- the whole model ------------------------------------------------------------------------------------------------ */

static int64_t parameter_size(const proof *p, const lane *l, size_t i)
{
    (void)p;
    return tsr_numel(parameter_of(l, i));
}

static void compare_with_first(proof *p, lane *l, bool first)
{
    for (size_t i = 0; i < p->parameter_count; i++) {
        const int64_t n = parameter_size(p, l, i);
        double gap = 0, top = 0;
        if (first)
            memcpy(p->first_grads[i], p->grads[i], (size_t)n * sizeof(float));
        for (int64_t k = 0; k < n; k++) {
            gap = fmax(gap, fabs((double)p->grads[i][k] - (double)p->first_grads[i][k]));
            top = fmax(top, fabs((double)p->first_grads[i][k]));
        }
        if (gap > 0)
            l->run->gradient_gap = fmax(l->run->gradient_gap, gap / top);
    }
}

/* What training does; its gradients must be those that were just held. They stay with the parameters. */
static tsr_status whole(proof *p, lane *l, tsr_tensor *x, tsr_tensor *target)
{
    tsr_module_clear_grad(l->model);
    tsr_tensor *loss = tsr_cross_entropy(tsr_forward(l->model, x), target);
    tsr_status status = loss == NULL ? tsr_last_status() : tsr_backward(loss);
    for (size_t i = 0; i < p->parameter_count && status == TSR_OK; i++) {
        const size_t n = (size_t)parameter_size(p, l, i);
        status = tsr_read_f32(tsr_grad(parameter_of(l, i)), p->got, n);
        if (status == TSR_OK && memcmp(p->got, p->grads[i], n * sizeof(float)) != 0)
            l->run->same_bits = false;
    }
    return status;
}

static tsr_status take_weights(proof *p, lane *l, bool first)
{
    tsr_status status = TSR_OK;
    for (size_t i = 0; i < p->parameter_count && status == TSR_OK; i++) {
        tsr_tensor *w = parameter_of(l, i);
        const size_t n = (size_t)tsr_numel(w);
        status = first ? tsr_read_f32(w, p->weights[i], n) : tsr_write(w, p->weights[i], n * sizeof(float));
    }
    return status;
}

static tsr_status lane_step(proof *p, lane *l, bool first)
{
    tsr_tensor *x, *target;
    int64_t count;
    tsr_module_clear_grad(l->model);
    tsr_status status = take_weights(p, l, first);
    if (status == TSR_OK)
        status = tsr_batches_next(l->batches, &x, &target, &count);
    if (status == TSR_OK && count == 0) {
        status = tsr_batches_epoch(l->batches, (uint64_t)(p->step / tsr_batches_per_epoch(l->batches)));
        if (status == TSR_OK)
            status = tsr_batches_next(l->batches, &x, &target, &count);
    }
    if (status == TSR_OK)
        status = one_by_one(p, l, x, target);
    if (status == TSR_OK)
        compare_with_first(p, l, first);
    if (status == TSR_OK)
        status = whole(p, l, x, target);
    l->run->steps += status == TSR_OK;
    return status;
}

/* ---- all devices ---------------------------------------------------------------------------------------------------- */

static void fail_lane(lane *l)
{
    l->out = true;
    l->run->status = tsr_last_status() != TSR_OK ? tsr_last_status() : TSR_NOT_FOUND;
    snprintf(l->run->error, sizeof l->run->error, "%s", tsr_last_error());
}

static tsr_status lane_open(const proof *p, lane *l, tsr_device *device, tsr_dataset *data, lock_run *run)
{
    const train_settings *s = p->settings;
    const tsr_batches_options options = {.batch = s->batch, .shuffle = true, .seed = s->seed, .drop_last = true};
    *l = (lane){.device = device, .run = run};
    run->same_bits = true;
    const tsr_status status = tsr_seed(device, s->seed);
    l->model = status == TSR_OK ? model_create(s->model, device) : NULL;
    l->batches = l->model == NULL ? NULL : tsr_batches_create(data, device, &options);
    return l->batches == NULL ? tsr_last_status() : TSR_OK;
}

static void lane_close(lane *l)
{
    tsr_batches_destroy(l->batches);
    tsr_module_destroy(l->model);
}

/* Room for the largest activation of a layer, and for every parameter. */
static bool proof_open(proof *p, const lane *first)
{
    const int64_t pixels = 28 * 28;
    int64_t room = pixels;
    for (size_t i = 0; i < p->layer_count; i++) {
        const model_layer *layer = &p->layers[i];
        room = (int64_t)fmax((double)room, (double)(layer->kind == LAYER_CONV ? layer->out * pixels : layer->out));
    }
    room *= p->settings->batch;
    p->parameter_count = tsr_module_parameter_count(first->model);
    for (size_t i = 0; i < p->parameter_count; i++) {
        const size_t n = (size_t)parameter_size(p, first, i);
        room = (int64_t)fmax((double)room, (double)n);
        p->weights[i] = host_realloc_array(NULL, n, sizeof(float));
        p->first_grads[i] = host_realloc_array(NULL, n, sizeof(float));
        p->grads[i] = host_realloc_array(NULL, n, sizeof(float));
        if (p->weights[i] == NULL || p->first_grads[i] == NULL || p->grads[i] == NULL)
            return false;
    }
    p->in = host_realloc_array(NULL, (size_t)room, sizeof(float));
    p->out = host_realloc_array(NULL, (size_t)room, sizeof(float));
    p->out_grad = host_realloc_array(NULL, (size_t)room, sizeof(float));
    p->got = host_realloc_array(NULL, (size_t)room, sizeof(float));
    p->expected.value = host_realloc_array(NULL, (size_t)room, sizeof(double));
    p->expected.bound = host_realloc_array(NULL, (size_t)room, sizeof(double));
    p->pool = thread_pool_create(cpu_count());
    return p->in != NULL && p->out != NULL && p->out_grad != NULL && p->got != NULL && p->expected.value != NULL &&
           p->expected.bound != NULL && p->pool != NULL;
}

static void proof_close(proof *p)
{
    for (size_t i = 0; i < PARAMETERS_MAX; i++) {
        host_free(p->weights[i]);
        host_free(p->first_grads[i]);
        host_free(p->grads[i]);
    }
    host_free(p->in);
    host_free(p->out);
    host_free(p->out_grad);
    host_free(p->got);
    host_free(p->expected.value);
    host_free(p->expected.bound);
    thread_pool_destroy(p->pool);
}

/* All devices, then the first one's update; false when the first has failed. */
static bool run_step(proof *p, lane *lanes, size_t count, tsr_optimizer *optimizer)
{
    for (size_t i = 0; i < count && !interrupted(); i++) {
        if (lanes[i].out || tsr_scope_begin() != TSR_OK)
            continue;
        tsr_clear_error();
        if (lane_step(p, &lanes[i], i == 0) != TSR_OK)
            fail_lane(&lanes[i]);
        tsr_scope_end();
        if (lanes[0].out)
            return false;
    }
    if (tsr_optimizer_step(optimizer) != TSR_OK)
        fail_lane(&lanes[0]);
    return !lanes[0].out;
}

static void run_steps(proof *p, lane *lanes, size_t count)
{
    progress bar;
    tsr_optimizer *optimizer = train_optimizer(p->settings, lanes[0].model);
    if (optimizer == NULL || !proof_open(p, &lanes[0])) {
        fail_lane(&lanes[0]);
        tsr_optimizer_destroy(optimizer);
        return;
    }
    progress_begin(&bar, "lock-step", "");
    for (; p->step < p->settings->lockstep && !interrupted(); p->step++) {
        if (!run_step(p, lanes, count, optimizer))
            break;
        progress_show(&bar, p->step + 1, p->settings->lockstep, -1, -1, -1);
    }
    progress_end(&bar);
    tsr_optimizer_destroy(optimizer);
}

void lockstep(const train_settings *settings, tsr_device *const *devices, size_t count, tsr_dataset *data,
              lock_run *runs)
{
    proof p = {.settings = settings};
    p.layers = model_layers(settings->model, &p.layer_count);
    lane *lanes = host_alloc_zeroed(count, sizeof *lanes);
    if (lanes == NULL || p.layers == NULL) {
        snprintf(runs[0].error, sizeof runs[0].error, "%s", tsr_last_error());
        runs[0].status = tsr_last_status();
        host_free(lanes);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        tsr_clear_error();
        if (runs[i].status != TSR_OK)
            lanes[i] = (lane){.run = &runs[i], .out = true};
        else if (lane_open(&p, &lanes[i], devices[i], data, &runs[i]) != TSR_OK)
            fail_lane(&lanes[i]);
    }
    if (!lanes[0].out)
        run_steps(&p, lanes, count);
    for (size_t i = 0; i < count; i++)
        lane_close(&lanes[i]);
    proof_close(&p);
    host_free(lanes);
}
