/* Convolutions by columns: im2col, a product, and back with col2im; what GPUs and vendors' libraries do well. */
#include "base/error.h"
#include "mxu/product.h"
#include "ops/conv2d.h"
#include "ops/op.h"
#include "tessera/ops.h"

enum {
    GRID_YZ = 65535,
    SPAN = 1024,               /* pixels of a work-group */
    WORKSPACE_MOST = 64 << 20, /* bytes of columns at a time */
    TASKS_GOOD = 256,          /* blocks of C that keep a GPU busy */
    BLOCK = 64
};

typedef struct columns_params {
    uint32_t h, w, oh, ow, kh, kw, sh, sw, ph, pw, dh, dw, span;
} columns_params;

static int64_t div_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static int64_t min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static columns_params params_of(const conv2d *g)
{
    return (columns_params){(uint32_t)g->h,
                            (uint32_t)g->w,
                            (uint32_t)g->oh,
                            (uint32_t)g->ow,
                            (uint32_t)g->kh,
                            (uint32_t)g->kw,
                            (uint32_t)g->stride[0],
                            (uint32_t)g->stride[1],
                            (uint32_t)g->padding[0],
                            (uint32_t)g->padding[1],
                            (uint32_t)g->dilation[0],
                            (uint32_t)g->dilation[1],
                            SPAN};
}

/* Whether columns are the image itself. */
static bool is_pointwise(const conv2d *g)
{
    return g->kh == 1 && g->kw == 1 && g->stride[0] == 1 && g->stride[1] == 1 && g->padding[0] == 0 &&
           g->padding[1] == 0;
}

/* Images whose columns fit into the workspace and whose planes fit into a launch. */
static int64_t chunk_of(const conv2d *g)
{
    const int64_t bytes = (int64_t)tsr_dtype_size(g->dtype) * g->c * conv2d_taps(g) * conv2d_pixels(g);
    const int64_t images = min_i64(WORKSPACE_MOST / bytes, GRID_YZ / g->c);
    return images < 1 ? 1 : min_i64(images, g->n);
}

static bool check(const conv2d *g)
{
    if (g->c > GRID_YZ || conv2d_taps(g) > GRID_YZ || g->groups > GRID_YZ || g->h * g->w > INT32_MAX ||
        conv2d_taps(g) * conv2d_pixels(g) > INT32_MAX)
        return fail(TSR_UNSUPPORTED,
                    "conv2d: %lld channels of %lld x %lld with %lld taps are more than its kernels count",
                    (long long)g->c, (long long)g->h, (long long)g->w, (long long)conv2d_taps(g)),
               false;
    return true;
}

static hal_binding from(const tensor *t, int64_t elements)
{
    hal_binding b = tensor_binding(t);
    b.offset += (size_t)elements * tsr_dtype_size(t->dtype);
    b.length -= (size_t)elements * tsr_dtype_size(t->dtype);
    return b;
}

/* Columns of `count` images from `first` on. */
static bool im2col(tsr_device *device, const conv2d *g, const tensor *x, int64_t first, int64_t count,
                   const tensor *columns)
{
    const columns_params q = params_of(g);
    const grid shape = {(uint32_t)div_up(conv2d_pixels(g), SPAN), (uint32_t)(count * g->c), (uint32_t)conv2d_taps(g)};
    return LAUNCH(device, key_of("im2col", g->dtype), shape, &q, from(x, first * g->c * g->h * g->w),
                  tensor_binding(columns));
}

static bool col2im(tsr_device *device, const conv2d *g, const tensor *columns, const tensor *x, int64_t first,
                   int64_t count)
{
    const columns_params q = params_of(g);
    const grid shape = {(uint32_t)div_up(g->h * g->w, SPAN), (uint32_t)(count * g->c), 1};
    return LAUNCH(device, key_of("col2im", g->dtype), shape, &q, tensor_binding(columns),
                  from(x, first * g->c * g->h * g->w));
}

static tensor *column_space(tsr_device *device, const conv2d *g, int64_t images)
{
    return tsr_empty(device, g->dtype, 4, (int64_t[]){images, g->c, conv2d_taps(g), conv2d_pixels(g)});
}

bool conv2d_columns(tsr_device *device, const conv2d *g, tensor *x, tensor *w, tensor *bias, tensor *y)
{
    const int64_t cg = g->c / g->groups, og = g->o / g->groups, depth = cg * conv2d_taps(g), pixels = conv2d_pixels(g);
    const int64_t chunk = chunk_of(g);
    const bool direct = is_pointwise(g);
    tensor *columns = direct ? x : column_space(device, g, chunk);
    if (columns == NULL || !check(g))
        return false;
    for (int64_t i = 0; i < g->n; i += chunk) {
        const int64_t count = min_i64(chunk, g->n - i);
        if (!direct && !im2col(device, g, x, i, count, columns))
            return false;
        const product p = {
            .dtype = g->dtype,
            .m = og,
            .n = pixels,
            .k = depth,
            .outer = count,
            .inner = g->groups,
            .a = {.at = tensor_binding(w), .row = depth, .col = 1, .inner = og * depth},
            .b = {.at = from(columns, direct ? i * g->c * pixels : 0),
                  .row = pixels,
                  .col = 1,
                  .outer = g->groups * depth * pixels,
                  .inner = depth * pixels},
            .c = {.at = from(y, i * g->o * pixels),
                  .row = pixels,
                  .col = 1,
                  .outer = g->o * pixels,
                  .inner = og * pixels},
            .bias_along = bias != NULL ? PRODUCT_BIAS_ROWS : PRODUCT_NO_BIAS,
            .bias = bias != NULL ? tensor_binding(bias) : (hal_binding){0},
        };
        if (!product_run(device, &p))
            return false;
    }
    return true;
}

bool conv2d_columns_grad_x(tsr_device *device, const conv2d *g, tensor *dy, tensor *w, tensor *dx)
{
    const int64_t cg = g->c / g->groups, og = g->o / g->groups, depth = cg * conv2d_taps(g), pixels = conv2d_pixels(g);
    const int64_t chunk = chunk_of(g);
    const bool direct = is_pointwise(g);
    tensor *columns = direct ? dx : column_space(device, g, chunk);
    if (columns == NULL || !check(g))
        return false;
    for (int64_t i = 0; i < g->n; i += chunk) {
        const int64_t count = min_i64(chunk, g->n - i);
        const product p = {
            .dtype = g->dtype,
            .m = depth,
            .n = pixels,
            .k = og,
            .outer = count,
            .inner = g->groups,
            .a = {.at = tensor_binding(w), .row = 1, .col = depth, .inner = og * depth},
            .b = {.at = from(dy, i * g->o * pixels),
                  .row = pixels,
                  .col = 1,
                  .outer = g->o * pixels,
                  .inner = og * pixels},
            .c = {.at = from(columns, direct ? i * g->c * pixels : 0),
                  .row = pixels,
                  .col = 1,
                  .outer = g->groups * depth * pixels,
                  .inner = depth * pixels},
        };
        if (!product_run(device, &p) || (!direct && !col2im(device, g, columns, dx, i, count)))
            return false;
    }
    return true;
}

/* Each segment of images is one product summed over them; the segments' results are added in order. */
bool conv2d_columns_grad_w(tsr_device *device, const conv2d *g, tensor *dy, tensor *x, tensor *dw)
{
    const int64_t cg = g->c / g->groups, og = g->o / g->groups, depth = cg * conv2d_taps(g), pixels = conv2d_pixels(g);
    const bool direct = is_pointwise(g);
    int64_t chunk = chunk_of(g);
    const int64_t tasks = div_up(og, BLOCK) * div_up(depth, BLOCK) * g->groups;
    const int64_t wanted = min_i64(g->n, div_up(TASKS_GOOD, tasks));
    const int64_t segment = min_i64(div_up(g->n, wanted), chunk); /* images */
    chunk = chunk / segment * segment;
    const int64_t segments = div_up(g->n, segment), part = g->o * depth;
    tensor *columns = direct ? x : column_space(device, g, chunk);
    tensor *parts = tsr_empty(device, g->dtype, 2, (int64_t[]){segments, part});
    if (columns == NULL || parts == NULL || !check(g))
        return false;
    for (int64_t i = 0; i < g->n; i += chunk) {
        const int64_t count = min_i64(chunk, g->n - i);
        if (!direct && !im2col(device, g, x, i, count, columns))
            return false;
        /* Whole segments of the chunk in one go, then what is left. */
        for (int64_t done = 0; done < count;) {
            const int64_t whole = (count - done) / segment, images = whole > 0 ? segment : count - done;
            const product p = {
                .dtype = g->dtype,
                .m = og,
                .n = depth,
                .k = pixels,
                .reduce = images,
                .outer = whole > 0 ? whole : 1,
                .inner = g->groups,
                .a = {.at = from(dy, (i + done) * g->o * pixels),
                      .row = pixels,
                      .col = 1,
                      .reduce = g->o * pixels,
                      .outer = images * g->o * pixels,
                      .inner = og * pixels},
                .b = {.at = from(columns, (direct ? i + done : done) * g->groups * depth * pixels),
                      .row = 1,
                      .col = pixels,
                      .reduce = g->groups * depth * pixels,
                      .outer = images * g->groups * depth * pixels,
                      .inner = depth * pixels},
                .c = {.at = from(parts, (i + done) / segment * part),
                      .row = depth,
                      .col = 1,
                      .outer = part,
                      .inner = og * depth},
            };
            if (!product_run(device, &p))
                return false;
            done += whole > 0 ? whole * segment : images;
        }
    }
    const part_sum sum = {.parts = segments,
                          .part_step = part,
                          .batches = 1,
                          .rows = g->o,
                          .cols = depth,
                          .x_row = depth,
                          .x_col = 1,
                          .y_row = depth,
                          .y_col = 1};
    return part_sum_run(device, &sum, parts, dw);
}
