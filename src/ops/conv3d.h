/* Convolutions over a depth too, and transposed ones: those over planes, with the depth's taps as further channels.
 *
 * What is written below of an image and of columns holds in both directions: of conv3d the image is x and the columns are y, of
 * conv_transpose3d, which is its gradient, the image is y and the columns are x. A depth of 1 costs views only. */
#ifndef TESSERA_OPS_CONV3D_H
#define TESSERA_OPS_CONV3D_H

#include "ops/op.h"
#include "tessera/ops.h"

typedef struct conv3d {
    int64_t n, groups;
    int64_t c, size[3]; /* image [n, c, depth, height, width] */
    int64_t o, out[3];  /* columns [n, o, ..] */
    int64_t kernel[3];  /* weight [o, c / groups, ..] */
    int64_t stride[3], padding[3], dilation[3];
    int64_t extra[3]; /* columns of zeros behind the columns: where the image goes on behind what these reach */
} conv3d;

/* Attribute `a` of three values into `out`, `initial` where there are none; 0 stands for an initial 1. False after fail(). */
bool conv3d_triple(const op_row *row, const attr_value *a, const char *what, int64_t initial, int64_t *out);
/* Whether channels, groups and taps fit; weight's first size is g->o. */
bool conv3d_weight_fits(const op_row *row, const op_output *x, const op_output *w, const conv3d *g);

/* The image's planes for each column plane: [n, c, ..] → [n · out depth, c · taps, height, width]. */
tensor *conv3d_unfold(const conv3d *g, tensor *image);
/* Its transpose: every plane of the image is the sum of the planes that show it. In the dtype of t. */
tensor *conv3d_fold(const conv3d *g, tensor *t);
/* Columns [n, o, ..] → [n · depth, o, height, width] and back. */
tensor *conv3d_planes(tensor *columns);
tensor *conv3d_volume(const conv3d *g, tensor *planes);
/* [o, c / groups, ..] → [o, c / groups · taps of the depth, kernel height, kernel width]. */
tensor *conv3d_weight(const conv3d *g, tensor *w);
tsr_conv2d_options conv3d_options(const conv3d *g);

/* Of columns (the planes of them) and the image: d image, in `dtype`, and d weight. */
tensor *conv3d_grad_image(const conv3d *g, tensor *columns, tensor *w, tsr_dtype dtype);
tensor *conv3d_grad_weight(const conv3d *g, tensor *columns, tensor *unfolded, const op_output *spec);

#endif
