/* The convolutions as layers, plain and transposed, of one to three dimensions. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "nn/module.h"
#include "tensor/tensor.h"

/* Channels and a kernel of `dims` sizes; the options' groups, where 0 stands for 1. */
typedef struct conv_shape {
    int dims;
    int64_t in, out, groups;
    int64_t kernel[3];
    bool transposed;
} conv_shape;

/* Weight [out, in / groups, ..], transposed [in, out / groups, ..], and bias, both from U(-1/√fan, 1/√fan), fan being what follows the weight's
 * first size. */
static tsr_module *create(const char *kind, tsr_device *device, const conv_shape *s, tsr_forward_fn *forward,
                          const void *options, size_t size, bool bias)
{
    const int64_t groups = s->groups == 0 ? 1 : s->groups;
    bool valid = s->in >= 1 && s->out >= 1 && groups >= 1 && s->in % groups == 0 && s->out % groups == 0;
    for (int i = 0; i < s->dims; i++)
        valid = valid && s->kernel[i] >= 1;
    if (!valid) {
        fail(TSR_INVALID_ARGUMENT,
             "%s: %lld to %lld channels in %lld groups with a kernel of %s; sizes must be at least 1 and the groups "
             "divide "
             "the channels",
             kind, (long long)s->in, (long long)s->out, (long long)groups, shape_text(s->dims, s->kernel));
        return NULL;
    }
    int64_t shape[5] = {s->transposed ? s->in : s->out, (s->transposed ? s->out : s->in) / groups};
    memcpy(shape + 2, s->kernel, sizeof *shape * (size_t)s->dims);
    double fan = 1;
    for (int i = 1; i < s->dims + 2; i++)
        fan *= (double)shape[i];
    tsr_module *m = module_create_with(kind, forward, options, size);
    tsr_status status = module_add_uniform(m, "weight", device, s->dims + 2, shape, 1 / sqrt(fan));
    if (status == TSR_OK && bias)
        status = module_add_uniform(m, "bias", device, 1, &s->out, 1 / sqrt(fan));
    return module_finished(m, status);
}

#define FORWARD(name)                                                                                                  \
    static tsr_tensor *name##_forward(void *context, tsr_module *self, tsr_tensor *x)                                  \
    {                                                                                                                  \
        return tsr_##name(x, module_own_parameter(self, 0), module_own_parameter(self, 1), context);                   \
    }
FORWARD(conv1d)
FORWARD(conv2d)
FORWARD(conv3d)
FORWARD(conv_transpose1d)
FORWARD(conv_transpose2d)
FORWARD(conv_transpose3d)

tsr_module *tsr_conv1d_create(tsr_device *device, int64_t in, int64_t out, int64_t kernel,
                              const tsr_conv1d_options *options, bool bias)
{
    const tsr_conv1d_options o = options == NULL ? (tsr_conv1d_options){0} : *options;
    const conv_shape s = {1, in, out, o.groups, {kernel}, false};
    return create("conv1d", device, &s, conv1d_forward, &o, sizeof o, bias);
}

tsr_module *tsr_conv2d_create(tsr_device *device, int64_t in, int64_t out, int64_t kernel_height, int64_t kernel_width,
                              const tsr_conv2d_options *options, bool bias)
{
    const tsr_conv2d_options o = options == NULL ? (tsr_conv2d_options){.groups = 1} : *options;
    const conv_shape s = {2, in, out, o.groups, {kernel_height, kernel_width}, false};
    return create("conv2d", device, &s, conv2d_forward, &o, sizeof o, bias);
}

tsr_module *tsr_conv3d_create(tsr_device *device, int64_t in, int64_t out, const int64_t *kernel,
                              const tsr_conv3d_options *options, bool bias)
{
    const tsr_conv3d_options o = options == NULL ? (tsr_conv3d_options){0} : *options;
    conv_shape s = {3, in, out, o.groups, {0}, false};
    if (kernel != NULL)
        memcpy(s.kernel, kernel, sizeof s.kernel);
    return create("conv3d", device, &s, conv3d_forward, &o, sizeof o, bias);
}

tsr_module *tsr_conv_transpose1d_create(tsr_device *device, int64_t in, int64_t out, int64_t kernel,
                                        const tsr_conv_transpose1d_options *options, bool bias)
{
    const tsr_conv_transpose1d_options o = options == NULL ? (tsr_conv_transpose1d_options){0} : *options;
    const conv_shape s = {1, in, out, o.groups, {kernel}, true};
    return create("conv_transpose1d", device, &s, conv_transpose1d_forward, &o, sizeof o, bias);
}

tsr_module *tsr_conv_transpose2d_create(tsr_device *device, int64_t in, int64_t out, int64_t kernel_height,
                                        int64_t kernel_width, const tsr_conv_transpose2d_options *options, bool bias)
{
    const tsr_conv_transpose2d_options o = options == NULL ? (tsr_conv_transpose2d_options){.groups = 1} : *options;
    const conv_shape s = {2, in, out, o.groups, {kernel_height, kernel_width}, true};
    return create("conv_transpose2d", device, &s, conv_transpose2d_forward, &o, sizeof o, bias);
}

tsr_module *tsr_conv_transpose3d_create(tsr_device *device, int64_t in, int64_t out, const int64_t *kernel,
                                        const tsr_conv_transpose3d_options *options, bool bias)
{
    const tsr_conv_transpose3d_options o = options == NULL ? (tsr_conv_transpose3d_options){.groups = 1} : *options;
    conv_shape s = {3, in, out, o.groups, {0}, true};
    if (kernel != NULL)
        memcpy(s.kernel, kernel, sizeof s.kernel);
    return create("conv_transpose3d", device, &s, conv_transpose3d_forward, &o, sizeof o, bias);
}
