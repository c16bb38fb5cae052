/* Convolutions: the geometry of one, and the two ways in which devices compute it.
 *
 * Direct, on processors: product_rows reads a padded copy of the image (or of the gradient) in place. By columns, on GPUs:
 * im2col, a product, col2im. Both take contiguous tensors of one dtype and write contiguous ones. */
#ifndef TESSERA_OPS_CONV2D_H
#define TESSERA_OPS_CONV2D_H

#include "tensor/tensor.h"
#include "tessera/ops.h"

typedef struct conv2d {
    tsr_dtype dtype;
    int64_t n, c, h, w; /* x */
    int64_t o, kh, kw;  /* weight [o, c / groups, kh, kw] */
    int64_t oh, ow;     /* y [n, o, oh, ow] */
    int64_t stride[2], padding[2], dilation[2], groups;
} conv2d;

static inline int64_t conv2d_taps(const conv2d *g)
{
    return g->kh * g->kw;
}
static inline int64_t conv2d_pixels(const conv2d *g)
{
    return g->oh * g->ow;
}

/* y = conv(x, w) + bias; bias may be NULL. */
bool conv2d_direct(tsr_device *device, const conv2d *g, tensor *x, tensor *w, tensor *bias, tensor *y);
bool conv2d_direct_grad_x(tsr_device *device, const conv2d *g, tensor *dy, tensor *w, tensor *dx);
bool conv2d_direct_grad_w(tsr_device *device, const conv2d *g, tensor *dy, tensor *x, tensor *dw);

bool conv2d_columns(tsr_device *device, const conv2d *g, tensor *x, tensor *w, tensor *bias, tensor *y);
bool conv2d_columns_grad_x(tsr_device *device, const conv2d *g, tensor *dy, tensor *w, tensor *dx);
/* f32 and f64: sums over images go through partial results of the dtype. */
bool conv2d_columns_grad_w(tsr_device *device, const conv2d *g, tensor *dy, tensor *x, tensor *dw);

/* The gradients as operators of their own, of operands with any strides: d x of `x_shape`, d weight of `w_shape`, in `dtype` (f32 where dy has 16
 * bits, or dy's). NULL after fail(). */
tensor *conv2d_grad_x(tensor *dy, tensor *w, const int64_t *x_shape, tsr_dtype dtype,
                      const tsr_conv2d_options *options);
tensor *conv2d_grad_w(tensor *dy, tensor *x, const int64_t *w_shape, tsr_dtype dtype,
                      const tsr_conv2d_options *options);

/* y[z, r, c] = the sum over i < parts of x[i, z, r, c], in order. */
typedef struct part_sum {
    int64_t parts, part_step, batches, rows, cols;
    int64_t x_batch, x_row, x_col, y_batch, y_row, y_col;
} part_sum;
bool part_sum_run(tsr_device *device, const part_sum *s, tensor *x, tensor *y);

#endif
