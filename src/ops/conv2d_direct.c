/* Convolutions on processors: the kernel product_rows reads padded images in place, so that nothing like im2col is written.
 *
 * With stride 1 the vectors run along the rows of an image; that is the result, and (with flipped weights, and the gradient
 * padded) the gradient of x. Otherwise, and where rows are much shorter than vectors, they run along the channels and the result
 * is transposed. The gradient of the weights always runs along the output channels. */
#include "base/error.h"
#include "mxu/rows.h"
#include "ops/conv2d.h"
#include "ops/op.h"
#include "tessera/ops.h"

enum {
    GRID_YZ = 65535,
    SEGMENT_BYTES = 256 << 10 /* of what grad_w reads over and over: a share of a processor's second cache */
};

static int64_t div_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* Images with a border, and where their rows and planes begin. */
typedef struct padded {
    tensor *t; /* with ROWS_SLACK elements behind */
    int64_t row, plane, image;
} padded;

static tensor *workspace(tsr_device *device, tsr_dtype dtype, int64_t elements)
{
    return tsr_empty(device, dtype, 1, (int64_t[]){elements + ROWS_SLACK});
}

/* planes of h x w with `top` and `left` zeros before and enough behind for hp x wp. */
static bool pad(tsr_device *device, tensor *x, int64_t n, int64_t c, int64_t h, int64_t w, int64_t top, int64_t left,
                int64_t hp, int64_t wp, padded *out)
{
    *out = (padded){.t = x, .row = wp, .plane = hp * wp, .image = c * hp * wp};
    out->t = workspace(device, x->dtype, n * out->image);
    if (out->t == NULL)
        return false;
    const struct {
        uint32_t h, w, top, left, hp, wp;
    } q = {(uint32_t)h, (uint32_t)w, (uint32_t)top, (uint32_t)left, (uint32_t)hp, (uint32_t)wp};
    if (n * c > INT32_MAX || hp * wp > UINT32_MAX)
        return fail(TSR_UNSUPPORTED, "conv2d: %lld planes of %lld x %lld are more than the kernel counts",
                    (long long)(n * c), (long long)hp, (long long)wp),
               false;
    return LAUNCH(device, key_of("image_pad", x->dtype), ((grid){(uint32_t)(n * c), 1, 1}), &q, tensor_binding(x),
                  tensor_binding(out->t));
}

static bool pad_x(tsr_device *device, const conv2d *g, tensor *x, padded *out)
{
    return pad(device, x, g->n, g->c, g->h, g->w, g->padding[0], g->padding[1], g->h + 2 * g->padding[0],
               g->w + 2 * g->padding[1], out);
}

/* y = conv(xp, w) with stride 1, vectors along the pixels of a row. */
static bool along_rows(tsr_device *device, const conv2d *g, const padded *xp, tensor *w, tensor *bias, tensor *y)
{
    const int64_t cg = g->c / g->groups, og = g->o / g->groups, taps = conv2d_taps(g), pixels = conv2d_pixels(g);
    const rows_product p = {
        .dtype = g->dtype,
        .k = {cg, g->kh, g->kw},
        .ka = {taps, g->kw, 1},
        .kb = {xp->plane, g->dilation[0] * xp->row, g->dilation[1]},
        .m = og,
        .ar = {cg * taps, 0, 0},
        .lines = g->oh,
        .width = g->ow,
        .b_line = xp->row,
        .c_line = g->ow,
        .ldc = pixels,
        .outer = g->n,
        .inner = g->groups,
        .a_inner = og * cg * taps,
        .b_outer = xp->image,
        .b_inner = cg * xp->plane,
        .c_outer = g->o * pixels,
        .c_inner = og * pixels,
        .flags = ROWS_READS_PAST | (bias != NULL ? ROWS_BIAS_ROWS : 0u),
        .a = tensor_binding(w),
        .b = tensor_binding(xp->t),
        .c = tensor_binding(y),
        .bias = bias != NULL ? tensor_binding(bias) : (hal_binding){0},
    };
    return rows_product_run(device, &p);
}

/* y = conv(xp, w), vectors along the output channels: rows are pixels. */
static bool along_channels(tsr_device *device, const conv2d *g, const padded *xp, tensor *w, tensor *bias, tensor *y)
{
    const int64_t cg = g->c / g->groups, og = g->o / g->groups, taps = conv2d_taps(g), pixels = conv2d_pixels(g);
    const int64_t depth = cg * taps, pitch = div_up(og, ROWS_SLACK) * ROWS_SLACK;
    tensor *wt = workspace(device, g->dtype, g->groups * depth * pitch);
    tensor *yt = workspace(device, g->dtype, g->n * g->o * pixels);
    if (wt == NULL || yt == NULL)
        return false;
    const rows_pack pack_w = {.dtype = g->dtype,
                              .rows = depth,
                              .cols = og,
                              .x_row = 1,
                              .x_col = depth,
                              .pitch = pitch,
                              .y_batch = depth * pitch,
                              .outer = g->groups,
                              .x_outer = og * depth,
                              .x = tensor_binding(w),
                              .y = tensor_binding(wt)};
    const rows_product p = {
        .dtype = g->dtype,
        .k = {cg, g->kh, g->kw},
        .ka = {xp->plane, g->dilation[0] * xp->row, g->dilation[1]},
        .kb = {taps * pitch, g->kw * pitch, pitch},
        .m = pixels,
        .row1 = g->oh,
        .row2 = g->ow,
        .ar = {0, g->stride[0] * xp->row, g->stride[1]},
        .width = og,
        .ldc = og,
        .outer = g->n,
        .inner = g->groups,
        .a_outer = xp->image,
        .a_inner = cg * xp->plane,
        .b_inner = depth * pitch,
        .c_outer = g->groups * pixels * og,
        .c_inner = pixels * og,
        .flags = ROWS_READS_PAST | (bias != NULL ? ROWS_BIAS_COLS : 0u),
        .a = tensor_binding(xp->t),
        .b = tensor_binding(wt),
        .c = tensor_binding(yt),
        .bias = bias != NULL ? tensor_binding(bias) : (hal_binding){0},
    };
    const rows_pack pack_y = {.dtype = g->dtype,
                              .rows = og,
                              .cols = pixels,
                              .x_row = 1,
                              .x_col = og,
                              .pitch = pixels,
                              .y_batch = og * pixels,
                              .outer = g->n * g->groups,
                              .x_outer = pixels * og,
                              .x = tensor_binding(yt),
                              .y = tensor_binding(y)};
    return rows_pack_run(device, &pack_w) && rows_product_run(device, &p) && rows_pack_run(device, &pack_y);
}

/* How much of the vectors' work along a line of so many elements is of use. */
static double use_of(int64_t width)
{
    return (double)width / (double)(div_up(width, ROWS_SLACK) * ROWS_SLACK);
}

bool conv2d_direct(tsr_device *device, const conv2d *g, tensor *x, tensor *w, tensor *bias, tensor *y)
{
    padded xp;
    if (!pad_x(device, g, x, &xp))
        return false;
    /* Transposing costs about a quarter of a typical product. */
    const bool rows = g->stride[0] == 1 && g->stride[1] == 1 && 1.25 * use_of(g->ow) >= use_of(g->o / g->groups);
    return (rows ? along_rows : along_channels)(device, g, &xp, w, bias, y);
}

/* dx is dy's convolution with the weights flipped and their two channel dimensions exchanged. */
static bool grad_x_as_convolution(tsr_device *device, const conv2d *g, tensor *dy, tensor *w, tensor *dx)
{
    const int64_t cg = g->c / g->groups, og = g->o / g->groups;
    const int64_t top = g->dilation[0] * (g->kh - 1) - g->padding[0],
                  left = g->dilation[1] * (g->kw - 1) - g->padding[1];
    const conv2d back = {.dtype = g->dtype,
                         .n = g->n,
                         .c = g->o,
                         .h = g->oh,
                         .w = g->ow,
                         .o = g->c,
                         .kh = g->kh,
                         .kw = g->kw,
                         .oh = g->h,
                         .ow = g->w,
                         .stride = {1, 1},
                         .padding = {top, left},
                         .dilation = {g->dilation[0], g->dilation[1]},
                         .groups = g->groups};
    const struct {
        uint32_t outs, ins, taps;
    } q = {(uint32_t)og, (uint32_t)cg, (uint32_t)conv2d_taps(g)};
    tensor *flipped = workspace(device, g->dtype, w->numel);
    return flipped != NULL &&
           LAUNCH(device, key_of("kernel_flip", g->dtype), ((grid){(uint32_t)cg, (uint32_t)g->groups, 1}), &q,
                  tensor_binding(w), tensor_binding(flipped)) &&
           conv2d_direct(device, &back, dy, flipped, NULL, dx);
}

bool conv2d_direct_grad_x(tsr_device *device, const conv2d *g, tensor *dy, tensor *w, tensor *dx)
{
    const bool grows = g->dilation[0] * (g->kh - 1) >= g->padding[0] && g->dilation[1] * (g->kw - 1) >= g->padding[1];
    if (g->stride[0] == 1 && g->stride[1] == 1 && grows && g->groups <= GRID_YZ)
        return grad_x_as_convolution(device, g, dy, w, dx);
    return conv2d_columns_grad_x(device, g, dy, w, dx);
}

/* dw[o, (c, ky, kx)] = sum over images and pixels of dy[n, o, pixel] xp[n, c, pixel at (ky, kx)]: rows are (c, ky, kx), vectors run
 * along o, of dy transposed to [n, pixel, o]. Segments of images that stay in a cache are summed apart, then added in order. */
bool conv2d_direct_grad_w(tsr_device *device, const conv2d *g, tensor *dy, tensor *x, tensor *dw)
{
    const int64_t cg = g->c / g->groups, og = g->o / g->groups, taps = conv2d_taps(g), pixels = conv2d_pixels(g);
    padded xp;
    if (!pad_x(device, g, x, &xp))
        return false;
    const int64_t bytes = (int64_t)tsr_dtype_size(g->dtype) * (xp.image + g->o * pixels);
    int64_t images = SEGMENT_BYTES / bytes;
    images = images < 1 ? 1 : images > g->n ? g->n : images;
    /* Not so many segments that their sums weigh more than the products. */
    const int64_t least = div_up(g->n, 64);
    images = images < least ? least : images;
    const int64_t whole = g->n / images, rest = g->n % images, segments = whole + (rest > 0);

    const int64_t rows = cg * taps, part = g->groups * rows * og;
    tensor *dyt = workspace(device, g->dtype, g->n * pixels * g->o),
           *parts = workspace(device, g->dtype, segments * part);
    if (dyt == NULL || parts == NULL)
        return false;
    const rows_pack pack = {.dtype = g->dtype,
                            .rows = pixels,
                            .cols = g->o,
                            .x_row = 1,
                            .x_col = pixels,
                            .pitch = g->o,
                            .y_batch = pixels * g->o,
                            .outer = g->n,
                            .x_outer = g->o * pixels,
                            .x = tensor_binding(dy),
                            .y = tensor_binding(dyt)};
    rows_product p = {
        .dtype = g->dtype,
        .k = {images, g->oh, g->ow},
        .ka = {xp.image, g->stride[0] * xp.row, g->stride[1]},
        .kb = {pixels * g->o, g->ow * g->o, g->o},
        .m = rows,
        .row1 = g->kh,
        .row2 = g->kw,
        .ar = {xp.plane, g->dilation[0] * xp.row, g->dilation[1]},
        .width = og,
        .ldc = og,
        .outer = whole,
        .inner = g->groups,
        .a_outer = images * xp.image,
        .a_inner = cg * xp.plane,
        .b_outer = images * pixels * g->o,
        .b_inner = og,
        .c_outer = part,
        .c_inner = rows * og,
        .flags = ROWS_READS_PAST,
        .a = tensor_binding(xp.t),
        .b = tensor_binding(dyt),
        .c = tensor_binding(parts),
    };
    if (!rows_pack_run(device, &pack) || !rows_product_run(device, &p))
        return false;
    if (rest > 0) {
        const size_t size = tsr_dtype_size(g->dtype);
        const int64_t skip[] = {whole * p.a_outer, whole * p.b_outer, whole * p.c_outer};
        hal_binding *at[] = {&p.a, &p.b, &p.c};
        for (int i = 0; i < 3; i++) {
            at[i]->offset += (size_t)skip[i] * size;
            at[i]->length -= (size_t)skip[i] * size;
        }
        p.k[0] = rest;
        p.outer = 1;
        if (!rows_product_run(device, &p))
            return false;
    }
    /* [segment, group, (c, ky, kx), o] to [group, o, (c, ky, kx)] */
    const part_sum sum = {.parts = segments,
                          .part_step = part,
                          .batches = g->groups,
                          .rows = og,
                          .cols = rows,
                          .x_batch = rows * og,
                          .x_row = 1,
                          .x_col = og,
                          .y_batch = og * rows,
                          .y_row = rows,
                          .y_col = 1};
    return part_sum_run(device, &sum, parts, dw);
}
