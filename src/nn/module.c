/* Modules: making, naming, walking. */
#include "nn/module.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/philox.h"
#include "base/profile.h"
#include "tensor/device.h"
#include "tensor/tensor.h"
#include "tessera/autograd.h"

tsr_module *tsr_module_create(const char *kind, tsr_forward_fn *forward, void *context, void (*release)(void *context))
{
    tsr_module *m = forward == NULL ? NULL : host_alloc_zeroed(1, sizeof *m);
    if (forward == NULL)
        fail(TSR_INVALID_ARGUMENT, "a module needs a forward function");
    if (m == NULL) {
        if (release != NULL)
            release(context);
        return NULL;
    }
    *m = (tsr_module){.kind = kind == NULL ? "module" : kind,
                      .forward = forward,
                      .context = context,
                      .release = release,
                      .training = true};
    return m;
}

tsr_module *module_create_with(const char *kind, tsr_forward_fn *forward, const void *options, size_t size)
{
    void *context = host_alloc(size);
    if (context == NULL)
        return NULL;
    memcpy(context, options, size);
    return tsr_module_create(kind, forward, context, host_free);
}

tsr_module *module_finished(tsr_module *m, tsr_status status)
{
    if (status == TSR_OK)
        return m;
    error_state why;
    error_save(&why);
    tsr_module_destroy(m);
    error_restore(&why);
    return NULL;
}

static void tensors_free(named_tensors *list)
{
    for (size_t i = 0; i < list->count; i++) {
        host_free(list->items[i].name);
        tsr_release(list->items[i].tensor);
    }
    host_free(list->items);
}

void tsr_module_destroy(tsr_module *m)
{
    if (m == NULL)
        return;
    for (size_t i = 0; i < m->child_count; i++) {
        host_free(m->children[i].name);
        tsr_module_destroy(m->children[i].module);
    }
    host_free(m->children);
    tensors_free(&m->parameters);
    tensors_free(&m->buffers);
    if (m->release != NULL)
        m->release(m->context);
    host_free(m);
}

static bool name_is_free(const tsr_module *m, const char *name)
{
    if (name == NULL || name[0] == '\0' || strchr(name, '.') != NULL) {
        fail(TSR_INVALID_ARGUMENT, "%s: '%s' is no name: it must not be empty or hold a dot", m->kind,
             name == NULL ? "(null)" : name);
        return false;
    }
    bool taken = false;
    for (size_t i = 0; i < m->parameters.count; i++)
        taken = taken || strcmp(m->parameters.items[i].name, name) == 0;
    for (size_t i = 0; i < m->buffers.count; i++)
        taken = taken || strcmp(m->buffers.items[i].name, name) == 0;
    for (size_t i = 0; i < m->child_count; i++)
        taken = taken || strcmp(m->children[i].name, name) == 0;
    if (taken)
        fail(TSR_INVALID_ARGUMENT, "%s has a '%s' already", m->kind, name);
    return !taken;
}

/* Takes the tensor over also when it fails, so that calls can be nested. */
static tsr_status tensors_add(tsr_module *m, named_tensors *list, const char *name, tsr_tensor *t)
{
    if (m == NULL || t == NULL) {
        tsr_release(t);
        return tsr_last_status() != TSR_OK ? tsr_last_status() : TSR_INVALID_ARGUMENT;
    }
    char *copy = name_is_free(m, name) ? host_strdup(name) : NULL;
    named_tensor *grown = copy == NULL ? NULL : host_grown(list->items, list->count, &list->capacity, sizeof *grown);
    if (grown == NULL) {
        host_free(copy);
        tsr_release(t);
        return tsr_last_status();
    }
    list->items = grown;
    list->items[list->count++] = (named_tensor){copy, tsr_keep(t)};
    tensor_label(t, TSR_MEMORY_PARAMETER, list == &m->parameters ? "parameters" : "buffers");
    return TSR_OK;
}

tsr_status tsr_module_add_parameter(tsr_module *m, const char *name, tsr_tensor *parameter)
{
    if (m != NULL && parameter != NULL && tsr_set_requires_grad(parameter, true) != TSR_OK) {
        tsr_release(parameter);
        return tsr_last_status();
    }
    return tensors_add(m, m == NULL ? NULL : &m->parameters, name, parameter);
}

tsr_status tsr_module_add_buffer(tsr_module *m, const char *name, tsr_tensor *buffer)
{
    return tensors_add(m, m == NULL ? NULL : &m->buffers, name, buffer);
}

tsr_status tsr_module_add_child(tsr_module *m, const char *name, tsr_module *child)
{
    if (m == NULL || child == NULL) {
        tsr_module_destroy(child);
        return tsr_last_status() != TSR_OK ? tsr_last_status() : TSR_INVALID_ARGUMENT;
    }
    char *copy = name_is_free(m, name) ? host_strdup(name) : NULL;
    named_module *grown =
        copy == NULL ? NULL : host_grown(m->children, m->child_count, &m->child_capacity, sizeof *grown);
    if (grown == NULL) {
        host_free(copy);
        tsr_module_destroy(child);
        return tsr_last_status();
    }
    m->children = grown;
    m->children[m->child_count++] = (named_module){.name = copy, .module = child};
    return TSR_OK;
}

/* A parameter of numbers that `next` draws from a stream of the device's seed. */
static tsr_status add_drawn(tsr_module *m, const char *name, tsr_device *device, int rank, const int64_t *shape,
                            double (*next)(philox_stream *stream), double scale)
{
    int64_t n;
    size_t bytes;
    if (m == NULL || device == NULL)
        return tsr_last_status() != TSR_OK ? tsr_last_status() : TSR_INVALID_ARGUMENT;
    if (!shape_numel(rank, shape, &n))
        return tsr_last_status();
    if (!checked_mul_size((size_t)n, sizeof(float), &bytes))
        return fail(TSR_OUT_OF_RANGE, "%s: parameter '%s' of shape %s is too large", m->kind, name,
                    shape_text(rank, shape));
    float *values = host_alloc(bytes);
    if (values == NULL)
        return tsr_last_status();
    uint64_t seed;
    const uint64_t draw = device_next_host_draw(device, &seed);
    philox_stream stream = philox_begin(seed, PHILOX_WEIGHTS, draw);
    for (int64_t i = 0; i < n; i++)
        values[i] = (float)(next(&stream) * scale);
    tsr_tensor *t = tsr_keep(tsr_from_data(device, TSR_F32, rank, shape, values));
    host_free(values);
    return tsr_module_add_parameter(m, name, t);
}

static double next_uniform(philox_stream *stream)
{
    return 2.0 * (double)philox_float(stream) - 1.0;
}

/* Box and Muller 1958, one of the two. */
static double next_normal(philox_stream *stream)
{
    const double radius = sqrt(-2.0 * log(1.0 - philox_double(stream)));
    return radius * cos(6.283185307179586 * philox_double(stream));
}

tsr_status module_add_uniform(tsr_module *m, const char *name, tsr_device *device, int rank, const int64_t *shape,
                              double bound)
{
    return add_drawn(m, name, device, rank, shape, next_uniform, bound);
}

tsr_status module_add_normal(tsr_module *m, const char *name, tsr_device *device, int rank, const int64_t *shape,
                             double deviation)
{
    if (deviation == 0)
        return module_add_constant(m, name, device, rank, shape, 0);
    return add_drawn(m, name, device, rank, shape, next_normal, deviation);
}

tsr_status module_add_constant(tsr_module *m, const char *name, tsr_device *device, int rank, const int64_t *shape,
                               double value)
{
    if (m == NULL || device == NULL)
        return tsr_last_status() != TSR_OK ? tsr_last_status() : TSR_INVALID_ARGUMENT;
    return tsr_module_add_parameter(m, name, tsr_keep(tsr_full(device, TSR_F32, rank, shape, value)));
}

tsr_tensor *module_own_parameter(const tsr_module *m, size_t index)
{
    return index < m->parameters.count ? m->parameters.items[index].tensor : NULL;
}

tsr_tensor *tsr_forward(tsr_module *m, tsr_tensor *x)
{
    profile_span span;
    if (m == NULL || x == NULL)
        return NULL;
    span.session = 0;
    if (profiling())
        profile_open_now(&span, PROFILE_MODULE, profile_intern(m->kind), NULL, PROFILE_NO_NUMBER);
    tsr_tensor *y = m->forward(m->context, m, x);
    profile_close(&span);
    return y;
}

void tsr_module_train(tsr_module *m, bool training)
{
    if (m == NULL)
        return;
    m->training = training;
    for (size_t i = 0; i < m->child_count; i++)
        tsr_module_train(m->children[i].module, training);
}

bool tsr_module_is_training(const tsr_module *m)
{
    return m != NULL && m->training;
}

/* ---- walking: own tensors first, then the children's, in order of registration ---- */

typedef named_tensors *list_of(tsr_module *m);

static named_tensors *parameters_of(tsr_module *m)
{
    return &m->parameters;
}

static named_tensors *buffers_of(tsr_module *m)
{
    return &m->buffers;
}

static size_t count_all(const tsr_module *m, list_of *list)
{
    size_t n = list((tsr_module *)m)->count;
    for (size_t i = 0; i < m->child_count; i++)
        n += count_all(m->children[i].module, list);
    return n;
}

/* The index-th tensor at or below m; *index is what remains to be skipped. `name` gets the path. */
static tsr_tensor *nth(const tsr_module *m, list_of *list, size_t *index, char *name, size_t size)
{
    const named_tensors *own = list((tsr_module *)m);
    if (*index < own->count) {
        if (size > 0)
            snprintf(name, size, "%s", own->items[*index].name);
        return own->items[*index].tensor;
    }
    *index -= own->count;
    for (size_t i = 0; i < m->child_count; i++) {
        size_t used = 0;
        if (size > 0) {
            snprintf(name, size, "%s.", m->children[i].name);
            used = strlen(name);
        }
        tsr_tensor *found = nth(m->children[i].module, list, index, name + used, size - used);
        if (found != NULL)
            return found;
    }
    return NULL;
}

static tsr_tensor *at(const tsr_module *m, list_of *list, const char *what, size_t index, char *name, size_t size)
{
    size_t rest = index;
    tsr_tensor *t = m == NULL ? NULL : nth(m, list, &rest, name, name == NULL ? 0 : size);
    if (t == NULL)
        fail(TSR_OUT_OF_RANGE, "the module has no %s number %zu", what, index);
    return t;
}

size_t tsr_module_parameter_count(const tsr_module *m)
{
    return m == NULL ? 0 : count_all(m, parameters_of);
}

size_t tsr_module_buffer_count(const tsr_module *m)
{
    return m == NULL ? 0 : count_all(m, buffers_of);
}

tsr_tensor *tsr_module_parameter(const tsr_module *m, size_t index, char *name, size_t size)
{
    return at(m, parameters_of, "parameter", index, name, size);
}

tsr_tensor *tsr_module_buffer(const tsr_module *m, size_t index, char *name, size_t size)
{
    return at(m, buffers_of, "buffer", index, name, size);
}

static tsr_tensor *find_in(const tsr_module *m, list_of *list, const char *name)
{
    const named_tensors *own = list((tsr_module *)m);
    for (size_t i = 0; i < own->count; i++)
        if (strcmp(own->items[i].name, name) == 0)
            return own->items[i].tensor;
    const char *dot = strchr(name, '.');
    for (size_t i = 0; dot != NULL && i < m->child_count; i++)
        if (strlen(m->children[i].name) == (size_t)(dot - name) &&
            strncmp(m->children[i].name, name, (size_t)(dot - name)) == 0)
            return find_in(m->children[i].module, list, dot + 1);
    return NULL;
}

tsr_tensor *tsr_module_find(const tsr_module *m, const char *name)
{
    tsr_tensor *t = m == NULL || name == NULL ? NULL : find_in(m, parameters_of, name);
    if (t == NULL && m != NULL && name != NULL)
        t = find_in(m, buffers_of, name);
    if (t == NULL)
        fail(TSR_NOT_FOUND, "the module has no parameter or buffer '%s'", name == NULL ? "(null)" : name);
    return t;
}

void tsr_module_clear_grad(tsr_module *m)
{
    if (m == NULL)
        return;
    for (size_t i = 0; i < m->parameters.count; i++)
        tsr_clear_grad(m->parameters.items[i].tensor);
    for (size_t i = 0; i < m->child_count; i++)
        tsr_module_clear_grad(m->children[i].module);
}
