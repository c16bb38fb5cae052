/* Operators. Names and semantics are PyTorch's unless a comment says otherwise.
 *
 * Every function returns a new tensor in the current scope (see tensor.h), or NULL with tsr_last_error() set; a NULL
 * required operand gives NULL. Operands of one call are on one device. "floats" are f32 f16 bf16 f64; arithmetic on f16
 * and bf16 is in f32, rounded once. Operands may have any strides unless said otherwise; results are contiguous except for
 * views. Differentiable unless said otherwise. Shapes broadcast as in NumPy where "broadcast" is written. */
#ifndef TESSERA_OPS_H
#define TESSERA_OPS_H

#include "tessera/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- one operand, element by element: floats; neg, abs, sign, square, relu and clamp also i32 i64 ----------------- */

TSR_API tsr_tensor *tsr_neg(tsr_tensor *x);
TSR_API tsr_tensor *tsr_abs(tsr_tensor *x);  /* derivative 0 at 0 */
TSR_API tsr_tensor *tsr_sign(tsr_tensor *x); /* derivative 0 */
TSR_API tsr_tensor *tsr_square(tsr_tensor *x);
TSR_API tsr_tensor *tsr_reciprocal(tsr_tensor *x);
TSR_API tsr_tensor *tsr_exp(tsr_tensor *x);
TSR_API tsr_tensor *tsr_exp2(tsr_tensor *x);
TSR_API tsr_tensor *tsr_expm1(tsr_tensor *x);
TSR_API tsr_tensor *tsr_log(tsr_tensor *x);
TSR_API tsr_tensor *tsr_log2(tsr_tensor *x);
TSR_API tsr_tensor *tsr_log10(tsr_tensor *x);
TSR_API tsr_tensor *tsr_log1p(tsr_tensor *x);
TSR_API tsr_tensor *tsr_sqrt(tsr_tensor *x);
TSR_API tsr_tensor *tsr_rsqrt(tsr_tensor *x);
TSR_API tsr_tensor *tsr_sin(tsr_tensor *x);
TSR_API tsr_tensor *tsr_cos(tsr_tensor *x);
TSR_API tsr_tensor *tsr_tan(tsr_tensor *x);
TSR_API tsr_tensor *tsr_asin(tsr_tensor *x); /* NaN outside [-1, 1]; so acos */
TSR_API tsr_tensor *tsr_acos(tsr_tensor *x);
TSR_API tsr_tensor *tsr_atan(tsr_tensor *x);
TSR_API tsr_tensor *tsr_sinh(tsr_tensor *x);
TSR_API tsr_tensor *tsr_cosh(tsr_tensor *x);
TSR_API tsr_tensor *tsr_tanh(tsr_tensor *x);
TSR_API tsr_tensor *tsr_erf(tsr_tensor *x);
TSR_API tsr_tensor *tsr_erfc(tsr_tensor *x);
TSR_API tsr_tensor *tsr_floor(tsr_tensor *x); /* floor ceil round trunc: derivative 0 */
TSR_API tsr_tensor *tsr_ceil(tsr_tensor *x);
TSR_API tsr_tensor *tsr_round(tsr_tensor *x); /* half to even */
TSR_API tsr_tensor *tsr_trunc(tsr_tensor *x);
TSR_API tsr_tensor *tsr_frac(tsr_tensor *x); /* x - trunc(x) */
TSR_API tsr_tensor *tsr_sigmoid(tsr_tensor *x);
TSR_API tsr_tensor *tsr_logsigmoid(tsr_tensor *x);
TSR_API tsr_tensor *tsr_relu(tsr_tensor *x);                     /* derivative 0 at 0 */
TSR_API tsr_tensor *tsr_relu6(tsr_tensor *x);                    /* hardtanh to [0, 6] */
TSR_API tsr_tensor *tsr_leaky_relu(tsr_tensor *x, double slope); /* x > 0 ? x : slope x */
TSR_API tsr_tensor *tsr_elu(tsr_tensor *x, double alpha);        /* x > 0 ? x : alpha (exp x - 1) */
TSR_API tsr_tensor *tsr_selu(tsr_tensor *x);                     /* Klambauer et al. 2017 */
TSR_API tsr_tensor *tsr_celu(tsr_tensor *x, double alpha);       /* x > 0 ? x : alpha (exp(x / alpha) - 1) */
TSR_API tsr_tensor *tsr_gelu(tsr_tensor *x);                     /* x Φ(x), exact (Hendrycks and Gimpel 2016) */
TSR_API tsr_tensor *tsr_gelu_tanh(tsr_tensor *x);                /* their tanh approximation */
TSR_API tsr_tensor *tsr_silu(tsr_tensor *x);                     /* x sigmoid(x) */
TSR_API tsr_tensor *tsr_mish(tsr_tensor *x);                     /* x tanh(softplus(x)) */
TSR_API tsr_tensor *tsr_softplus(tsr_tensor *x);                 /* log(1 + exp x) */
TSR_API tsr_tensor *tsr_hardsigmoid(tsr_tensor *x);              /* relu6(x + 3) / 6 */
TSR_API tsr_tensor *tsr_hardswish(tsr_tensor *x);                /* x relu6(x + 3) / 6 */
TSR_API tsr_tensor *tsr_hardtanh(tsr_tensor *x, double low,
                                 double high);                         /* clamp, but with derivative 0 on the bounds */
TSR_API tsr_tensor *tsr_clamp(tsr_tensor *x, double low, double high); /* derivative 1 on the bounds */
/* NaN becomes `nan`, infinity `posinf`, minus infinity `neginf`; where one of the latter is NAN, the dtype's largest or
 * smallest number. Derivative 1 where x is finite, otherwise 0. */
TSR_API tsr_tensor *tsr_nan_to_num(tsr_tensor *x, double nan, double posinf, double neginf);

/* Questions: any dtype → bool, not differentiable. */
TSR_API tsr_tensor *tsr_logical_not(tsr_tensor *x);
TSR_API tsr_tensor *tsr_isnan(tsr_tensor *x);
TSR_API tsr_tensor *tsr_isinf(tsr_tensor *x);
TSR_API tsr_tensor *tsr_isfinite(tsr_tensor *x);

/* ---- two or three operands, element by element, broadcast, one dtype ----------------------------------------------- */

TSR_API tsr_tensor *tsr_add(tsr_tensor *a,
                            tsr_tensor *b); /* add sub mul maximum minimum fmod remainder: floats i32 i64 */
TSR_API tsr_tensor *tsr_sub(tsr_tensor *a, tsr_tensor *b);
TSR_API tsr_tensor *tsr_mul(tsr_tensor *a, tsr_tensor *b);
TSR_API tsr_tensor *tsr_div(tsr_tensor *a, tsr_tensor *b); /* floats */
TSR_API tsr_tensor *tsr_pow(tsr_tensor *a, tsr_tensor *b); /* floats */
/* What division by b leaves of a, with a's sign (fmod, as in C, exact) or b's (remainder, as in Python). By 0: NaN; of an
 * integer, fmod leaves 0 and so does remainder, since devices cannot raise errors. */
TSR_API tsr_tensor *tsr_fmod(tsr_tensor *a, tsr_tensor *b);
TSR_API tsr_tensor *tsr_remainder(tsr_tensor *a, tsr_tensor *b);
TSR_API tsr_tensor *tsr_atan2(tsr_tensor *a, tsr_tensor *b);   /* floats: the angle of the point (b, a) */
TSR_API tsr_tensor *tsr_hypot(tsr_tensor *a, tsr_tensor *b);   /* floats: sqrt(a² + b²), no overflow on the way */
TSR_API tsr_tensor *tsr_maximum(tsr_tensor *a, tsr_tensor *b); /* NaN if either is; a tie shares the gradient equally */
TSR_API tsr_tensor *tsr_minimum(tsr_tensor *a, tsr_tensor *b);
TSR_API tsr_tensor *tsr_lerp(tsr_tensor *start, tsr_tensor *end,
                             tsr_tensor *weight); /* floats: start + weight (end - start) */
TSR_API tsr_tensor *tsr_addcmul(tsr_tensor *x, tsr_tensor *a, tsr_tensor *b, double value); /* floats: x + value a b */
TSR_API tsr_tensor *tsr_addcdiv(tsr_tensor *x, tsr_tensor *a, tsr_tensor *b,
                                double value); /* floats: x + value a / b */
/* condition ? a : b; condition is bool, a and b of one dtype, any. */
TSR_API tsr_tensor *tsr_where(tsr_tensor *condition, tsr_tensor *a, tsr_tensor *b);
/* mask ? value : x; mask is bool, x of any dtype. */
TSR_API tsr_tensor *tsr_masked_fill(tsr_tensor *x, tsr_tensor *mask, double value);
/* a * scale + shift for numbers: y has the dtype of a (floats). */
TSR_API tsr_tensor *tsr_affine(tsr_tensor *x, double scale, double shift);

/* Any dtype → bool, not differentiable; what is not 0 counts as true. Every comparison with a NaN but ne is false. */
TSR_API tsr_tensor *tsr_eq(tsr_tensor *a, tsr_tensor *b);
TSR_API tsr_tensor *tsr_ne(tsr_tensor *a, tsr_tensor *b);
TSR_API tsr_tensor *tsr_lt(tsr_tensor *a, tsr_tensor *b);
TSR_API tsr_tensor *tsr_le(tsr_tensor *a, tsr_tensor *b);
TSR_API tsr_tensor *tsr_gt(tsr_tensor *a, tsr_tensor *b);
TSR_API tsr_tensor *tsr_ge(tsr_tensor *a, tsr_tensor *b);
TSR_API tsr_tensor *tsr_logical_and(tsr_tensor *a, tsr_tensor *b);
TSR_API tsr_tensor *tsr_logical_or(tsr_tensor *a, tsr_tensor *b);
TSR_API tsr_tensor *tsr_logical_xor(tsr_tensor *a, tsr_tensor *b);

/* i32 i64 u8 bool (shifts not bool), not differentiable. A shift by less than 0, or by the dtype's bits or more, shifts all out:
 * 0, or -1 to the right of a negative number. */
TSR_API tsr_tensor *tsr_bitwise_not(tsr_tensor *x); /* of bool: logical_not */
TSR_API tsr_tensor *tsr_bitwise_and(tsr_tensor *a, tsr_tensor *b);
TSR_API tsr_tensor *tsr_bitwise_or(tsr_tensor *a, tsr_tensor *b);
TSR_API tsr_tensor *tsr_bitwise_xor(tsr_tensor *a, tsr_tensor *b);
TSR_API tsr_tensor *tsr_bitwise_left_shift(tsr_tensor *a, tsr_tensor *b);
TSR_API tsr_tensor *tsr_bitwise_right_shift(tsr_tensor *a, tsr_tensor *b);

/* ---- products --------------------------------------------------------------------------------------------------- */

/* a [.., m, k] · b [.., k, n] → [.., m, n], the leading dimensions broadcast; rank 1 operands as in torch.matmul. floats,
 * accumulated in f32 (f64 for f64). Transposed views are multiplied without a copy. */
TSR_API tsr_tensor *tsr_matmul(tsr_tensor *a, tsr_tensor *b);
/* x [.., in] · weight [out, in]ᵀ + bias [out] → [.., out]; bias may be NULL. */
TSR_API tsr_tensor *tsr_linear(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias);

/* The product of each element of a [n] with each of b [m] → [n, m]; floats i32 i64. */
TSR_API tsr_tensor *tsr_outer(tsr_tensor *a, tsr_tensor *b);
/* The sum of a [n] times b [n] → a scalar; floats, as matmul. */
TSR_API tsr_tensor *tsr_dot(tsr_tensor *a, tsr_tensor *b);

/* Einstein's summation of 1 to 16 operands: "ij,jk->ik" names their dimensions by letters; the result has those behind the arrow, and sums over
 * the others. Without an arrow: those that occur once, in the order of the alphabet (A before a). A letter twice in an operand is its diagonal;
 * "..." stands for the dimensions left, from the last on, and comes first in a result without an arrow. A size of 1 broadcasts. floats; two
 * operands are one batched matmul, more are taken from left to right. (torch.einsum.) By name: one or two operands, the labels being numbers from
 * 0 to 59 in the lists `a`, `b` and `out`.
 * Errors: a letter that stands for different sizes, a result with an unknown or repeated letter, a number of terms that is not the operands'. */
TSR_API tsr_tensor *tsr_einsum(const char *equation, tsr_tensor *const *operands, int count);

typedef struct tsr_conv1d_options {
    int64_t stride;   /* 0 means 1 */
    int64_t padding;  /* zeros on both sides */
    int64_t dilation; /* 0 means 1 */
    int64_t groups;   /* 0 means 1 */
} tsr_conv1d_options;
/* Cross-correlation. x [n, c, w], weight [o, c / groups, kw], bias [o] or NULL → [n, o, ow], as conv2d with a height of 1. */
TSR_API tsr_tensor *tsr_conv1d(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias, const tsr_conv1d_options *options);

typedef struct tsr_conv2d_options {
    int64_t stride[2];   /* height, width; 0 means 1 */
    int64_t padding[2];  /* zeros on both sides */
    int64_t dilation[2]; /* 0 means 1 */
    int64_t groups;      /* 0 means 1 */
} tsr_conv2d_options;
/* Cross-correlation. x [n, c, h, w], weight [o, c / groups, kh, kw], bias [o] or NULL → [n, o, oh, ow] with
 * oh = floor((h + 2 padding - dilation (kh - 1) - 1) / stride) + 1. floats, accumulated in f32. NULL options: all defaults. */
TSR_API tsr_tensor *tsr_conv2d(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias, const tsr_conv2d_options *options);

typedef struct tsr_conv3d_options {
    int64_t stride[3];   /* depth, height, width; 0 means 1 */
    int64_t padding[3];  /* zeros on both sides */
    int64_t dilation[3]; /* 0 means 1 */
    int64_t groups;      /* 0 means 1 */
} tsr_conv3d_options;
/* Cross-correlation. x [n, c, d, h, w], weight [o, c / groups, kd, kh, kw], bias [o] or NULL → [n, o, od, oh, ow], sizes as conv2d's. The
 * depth's taps become channels of a conv2d: kd copies of x for the time of the call. */
TSR_API tsr_tensor *tsr_conv3d(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias, const tsr_conv3d_options *options);

typedef struct tsr_conv_transpose1d_options {
    int64_t stride;         /* 0 means 1 */
    int64_t padding;        /* what is cut off at both ends */
    int64_t output_padding; /* how much longer at the end; less than stride or dilation */
    int64_t dilation;       /* 0 means 1 */
    int64_t groups;         /* 0 means 1 */
} tsr_conv_transpose1d_options;
typedef struct tsr_conv_transpose2d_options {
    int64_t stride[2], padding[2], output_padding[2], dilation[2], groups;
} tsr_conv_transpose2d_options;
typedef struct tsr_conv_transpose3d_options {
    int64_t stride[3], padding[3], output_padding[3], dilation[3], groups;
} tsr_conv_transpose3d_options;
/* The gradient of the convolution by its image, as an operator. x [n, c, ..], weight [c, o / groups, ..], bias [o] or NULL → [n, o, ..], of size
 * (s - 1) stride - 2 padding + dilation (k - 1) + output_padding + 1 along each dimension, at least 1. floats, accumulated in f32.
 * (torch.nn.functional.conv_transpose2d.) */
TSR_API tsr_tensor *tsr_conv_transpose1d(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias,
                                         const tsr_conv_transpose1d_options *options);
TSR_API tsr_tensor *tsr_conv_transpose2d(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias,
                                         const tsr_conv_transpose2d_options *options);
TSR_API tsr_tensor *tsr_conv_transpose3d(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias,
                                         const tsr_conv_transpose3d_options *options);

/* ---- recurrent cells: what follows the two products of a step, floats of one dtype ------------------------------------- */

/* x and h [.., 4 hidden] are the products of the input and of the state with their weights, biases included, as gates i, f, g, o; c [.., hidden]:
 * c_next = sigmoid(f) c + sigmoid(i) tanh(g), h_next = sigmoid(o) tanh(c_next), f being x_f + h_f and so on. Both are required. (torch.nn.LSTMCell.) */
TSR_API tsr_status tsr_lstm_cell(tsr_tensor *x, tsr_tensor *h, tsr_tensor *c, tsr_tensor **h_next, tsr_tensor **c_next);
/* x and h [.., 3 hidden] likewise, as gates r, z, n; state [.., hidden]: n = tanh(x_n + sigmoid(r) h_n), and (1 - sigmoid(z)) n + sigmoid(z) state.
 * (torch.nn.GRUCell.) */
TSR_API tsr_tensor *tsr_gru_cell(tsr_tensor *x, tsr_tensor *h, tsr_tensor *state);

/* ---- pooling: x [n, c, h, w], floats ---------------------------------------------------------------------------- */

typedef struct tsr_pool2d_options {
    int64_t kernel[2];    /* required, ≥ 1 */
    int64_t stride[2];    /* 0 means the kernel's size */
    int64_t padding[2];   /* at most half the kernel */
    bool exclude_padding; /* avg_pool2d: divide by the elements inside x (PyTorch's count_include_pad = false) */
} tsr_pool2d_options;
/* A window's first maximum gets the gradient; NaN counts as largest. */
TSR_API tsr_tensor *tsr_max_pool2d(tsr_tensor *x, const tsr_pool2d_options *options);
TSR_API tsr_tensor *tsr_avg_pool2d(tsr_tensor *x, const tsr_pool2d_options *options);

typedef struct tsr_pool1d_options {
    int64_t kernel;       /* required, ≥ 1 */
    int64_t stride;       /* 0 means the kernel's size */
    int64_t padding;      /* at most half the kernel */
    bool exclude_padding; /* avg_pool1d: divide by the elements inside x */
} tsr_pool1d_options;
/* x [n, c, w], as the two-dimensional ones with a height of 1. */
TSR_API tsr_tensor *tsr_max_pool1d(tsr_tensor *x, const tsr_pool1d_options *options);
TSR_API tsr_tensor *tsr_avg_pool1d(tsr_tensor *x, const tsr_pool1d_options *options);
/* x [n, c, h, w] → [n, c, height, width]: averages of the windows floor(i h / height) … ceil((i + 1) h / height) - 1, along the width,
 * then along the height. (torch.nn.functional.adaptive_avg_pool2d.) */
TSR_API tsr_tensor *tsr_adaptive_avg_pool2d(tsr_tensor *x, int64_t height, int64_t width);

/* How element j of m comes from n elements. */
typedef enum tsr_resampling {
    TSR_NEAREST,        /* element floor(j n / m) */
    TSR_LINEAR,         /* between the two beside (j + 1/2) n / m - 1/2, clamped to the edge */
    TSR_LINEAR_CORNERS, /* beside j (n - 1) / (m - 1): the ends stay the ends */
    TSR_MEAN            /* the average of elements floor(j n / m) … ceil((j + 1) n / m) - 1 */
} tsr_resampling;
/* x [n, channels, ..] to `sizes` of its last dimensions, one for each behind the channels; nearest or linear (bilinear in two dimensions). 16-bit
 * numbers are carried in f32. (torch.nn.functional.interpolate with a size; TSR_LINEAR_CORNERS is align_corners = True.) */
TSR_API tsr_tensor *tsr_interpolate(tsr_tensor *x, int count, const int64_t *sizes, tsr_resampling mode);
/* The same along one axis of any tensor; floats, both sizes at least 1. What interpolate and adaptive_avg_pool2d are made of. */
TSR_API tsr_tensor *tsr_resample(tsr_tensor *x, int axis, int64_t size, tsr_resampling mode);

/* ---- reductions over any axes --------------------------------------------------------------------------------- */

/* `axes` holds `count` axes in [-rank, rank), each once; count 0 (axes NULL) means all. keep: the reduced axes stay with size 1.
 * floats (accumulated in f32, in the canonical order of docs/determinism.md); sum, prod and the extremes also i32 i64.
 * An empty sum is 0, an empty product 1, an empty mean NaN, an empty extreme an error. */
TSR_API tsr_tensor *tsr_sum(tsr_tensor *x, const int *axes, int count, bool keep);
TSR_API tsr_tensor *tsr_mean(tsr_tensor *x, const int *axes, int count, bool keep);
TSR_API tsr_tensor *tsr_prod(tsr_tensor *x, const int *axes, int count, bool keep);
/* max and amax are one operator by two names, as are min and amin: ties share the gradient equally, NaN wins. */
TSR_API tsr_tensor *tsr_max(tsr_tensor *x, const int *axes, int count, bool keep);
TSR_API tsr_tensor *tsr_min(tsr_tensor *x, const int *axes, int count, bool keep);
TSR_API tsr_tensor *tsr_amax(tsr_tensor *x, const int *axes, int count, bool keep);
TSR_API tsr_tensor *tsr_amin(tsr_tensor *x, const int *axes, int count, bool keep);
/* Index of the first largest (smallest) element over `axes` together (row-major among them), i64; the first NaN, if there is one.
 * Not differentiable. */
TSR_API tsr_tensor *tsr_argmax(tsr_tensor *x, const int *axes, int count, bool keep);
TSR_API tsr_tensor *tsr_argmin(tsr_tensor *x, const int *axes, int count, bool keep);
/* Whether any element, or all, are not 0, as bool; how many, as i64. x of any dtype; a NaN is not 0. Of none: false, true, 0. Not
 * differentiable. */
TSR_API tsr_tensor *tsr_any(tsr_tensor *x, const int *axes, int count, bool keep);
TSR_API tsr_tensor *tsr_all(tsr_tensor *x, const int *axes, int count, bool keep);
TSR_API tsr_tensor *tsr_count_nonzero(tsr_tensor *x, const int *axes, int count, bool keep);
/* Σ(x - mean)² / max(0, n - correction), correction 1 being the unbiased one, and its square root, whose derivative is 0 where it
 * is 0. Two passes, so that a large mean costs no digits. floats. */
TSR_API tsr_tensor *tsr_var(tsr_tensor *x, const int *axes, int count, bool keep, double correction);
TSR_API tsr_tensor *tsr_std(tsr_tensor *x, const int *axes, int count, bool keep, double correction);
/* p = 1: Σ|x|; 2: sqrt(Σx²), the squares in f32 (f64 for f64); INFINITY: max |x|, whose gradient ties share equally. floats.
 * Derivative 0 at 0. Error: another p. (torch.linalg.vector_norm.) */
TSR_API tsr_tensor *tsr_norm(tsr_tensor *x, const int *axes, int count, bool keep, double p);
/* log Σ exp x, by the maximum, so that nothing overflows on the way. floats. */
TSR_API tsr_tensor *tsr_logsumexp(tsr_tensor *x, const int *axes, int count, bool keep);

/* Running sums and products along one axis: y_i = x_0 + … + x_i. floats (carried in f32) i32 i64. Runs of 32 neighbours are
 * folded by themselves and then one after another, so a result is within i / 32 + 32 roundings. The gradient of cumprod divides by
 * nothing: zeros are nothing special. */
TSR_API tsr_tensor *tsr_cumsum(tsr_tensor *x, int axis);
TSR_API tsr_tensor *tsr_cumprod(tsr_tensor *x, int axis);

/* ---- softmax and losses: floats ---------------------------------------------------------------------------------- */

/* exp(x_i - max) / sum_j exp(x_j - max) along axis. */
TSR_API tsr_tensor *tsr_softmax(tsr_tensor *x, int axis);
TSR_API tsr_tensor *tsr_log_softmax(tsr_tensor *x, int axis);
/* What becomes of a loss's terms. */
typedef enum tsr_reduction {
    TSR_REDUCTION_MEAN,
    TSR_REDUCTION_SUM,
    TSR_REDUCTION_NONE,
    TSR_REDUCTION_BATCH_MEAN /* of kl_div: the sum divided by input's first size */
} tsr_reduction;

/* Mean over rows of -log_softmax(logits)[target]. logits [n, classes], target [n] i64 or i32 in [0, classes) → scalar; also
 * [classes] with a scalar target, and [n, classes, …] with [n, …]. Rows whose target is -100 have no part in it. Another target
 * outside the range gives NaN as the loss: devices cannot raise errors. */
TSR_API tsr_tensor *tsr_cross_entropy(tsr_tensor *logits, tsr_tensor *target);
/* The same with a weight for each class (of the logits' dtype, [classes]; NULL: 1), of which a mean has the sum of those of the
 * targets below its line; a reduction (NONE: of target's shape); another ignored index; and targets that give label_smoothing, from 0
 * to 1, of their probability to all classes alike (Szegedy et al. 2016). Weights get no gradient. All rows ignored, or no rows: a mean is NaN.
 * (torch.nn.functional.cross_entropy with class indices.) */
TSR_API tsr_tensor *tsr_cross_entropy_with(tsr_tensor *logits, tsr_tensor *target, tsr_tensor *weight,
                                           tsr_reduction reduction, int64_t ignore_index, double label_smoothing);
/* cross_entropy of log-probabilities: -weight[target] x[target]. Shapes, weight (may be NULL), reduction and ignore_index as there. */
TSR_API tsr_tensor *tsr_nll(tsr_tensor *log_probabilities, tsr_tensor *target, tsr_tensor *weight,
                            tsr_reduction reduction, int64_t ignore_index);

/* Between two tensors that broadcast, of one dtype (floats); both get gradients. With NONE the result has the broadcast shape. A mean
 * or a sum is carried in f32 for f16 and bf16. d = input - target. (torch.nn.functional.mse_loss and so on.) */
TSR_API tsr_tensor *tsr_mse(tsr_tensor *input, tsr_tensor *target, tsr_reduction reduction); /* d² */
TSR_API tsr_tensor *tsr_l1(tsr_tensor *input, tsr_tensor *target, tsr_reduction reduction); /* |d|, derivative 0 at 0 */
/* |d| < beta: d² / (2 beta), else |d| - beta / 2. (Girshick 2015.) */
TSR_API tsr_tensor *tsr_smooth_l1(tsr_tensor *input, tsr_tensor *target, double beta, tsr_reduction reduction);
/* |d| <= delta: d² / 2, else delta (|d| - delta / 2). (Huber 1964.) */
TSR_API tsr_tensor *tsr_huber(tsr_tensor *input, tsr_tensor *target, double delta, tsr_reduction reduction);
/* -(target log sigmoid(input) + (1 - target) log sigmoid(-input)), without overflow. */
TSR_API tsr_tensor *tsr_bce_with_logits(tsr_tensor *input, tsr_tensor *target, tsr_reduction reduction);
/* The same, times weight; pos_weight multiplies the part of the target: weight ((1 - target) input + (1 - target + pos_weight target) softplus(-input)).
 * Both broadcast and may be NULL; all get gradients. (torch.nn.functional.binary_cross_entropy_with_logits.) */
TSR_API tsr_tensor *tsr_weighted_bce_with_logits(tsr_tensor *input, tsr_tensor *target, tsr_tensor *weight,
                                                 tsr_tensor *pos_weight, tsr_reduction reduction);
/* target (log target - input), of an input in logarithms; log_target: exp(target) (target - input). 0 log 0 is 0. The mean is over
 * all elements, as PyTorch's "mean" is; BATCH_MEAN is its "batchmean". */
TSR_API tsr_tensor *tsr_kl_div(tsr_tensor *input, tsr_tensor *target, bool log_target, tsr_reduction reduction);

/* ---- normalisation and dropout ------------------------------------------------------------------------------------ */

/* x [n, c, h, w] or [n, c]; weight, bias, running_mean, running_variance [c] f32, each may be NULL (the running ones both or none).
 * Training: normalises with the batch's mean and biased variance and updates the running ones, in place, by
 * (1 - momentum) running + momentum batch (unbiased variance). Not training: normalises with the running ones.
 * (Ioffe and Szegedy 2015; torch.nn.functional.batch_norm.) */
TSR_API tsr_tensor *tsr_batch_norm2d(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias, tsr_tensor *running_mean,
                                     tsr_tensor *running_variance, bool training, double momentum, double epsilon);
/* (x - mean) / sqrt(variance + epsilon) weight + bias over x's last dimensions, which are normalized_shape; variance biased. weight and bias
 * have that shape, the dtype of x or f32 (f64 for f64); each may be NULL. Sums in the canonical order.
 * (Ba, Kiros and Hinton 2016; torch.nn.functional.layer_norm.) */
TSR_API tsr_tensor *tsr_layer_norm(tsr_tensor *x, int normalized_rank, const int64_t *normalized_shape,
                                   tsr_tensor *weight, tsr_tensor *bias, double epsilon);
/* x / sqrt(mean x^2 + epsilon) weight, likewise; a negative epsilon stands for the distance from 1 to the next number of x's dtype, as
 * None in PyTorch. (Zhang and Sennrich 2019; torch.nn.functional.rms_norm.) */
TSR_API tsr_tensor *tsr_rms_norm(tsr_tensor *x, int normalized_rank, const int64_t *normalized_shape,
                                 tsr_tensor *weight, double epsilon);
/* x [n, channels, ..]: normalised over the channels of each of `groups` groups and all that follows them; weight and bias [channels], as in
 * layer_norm. Error: the groups do not divide the channels. (Wu and He 2018; torch.nn.functional.group_norm.) */
TSR_API tsr_tensor *tsr_group_norm(tsr_tensor *x, int64_t groups, tsr_tensor *weight, tsr_tensor *bias, double epsilon);
/* group_norm with a group for each channel. (Ulyanov, Vedaldi and Lempitsky 2016; torch.nn.functional.instance_norm without running
 * statistics.) */
TSR_API tsr_tensor *tsr_instance_norm(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias, double epsilon);
/* The same with running statistics [channels], f32 (f64 for f64), both required. Training: moves them, in place, by (1 - momentum) running + momentum
 * times the samples' mean of the means and unbiased variances; a channel then has two elements or more. Not training: normalises with them.
 * (torch.nn.functional.instance_norm with use_input_stats = training.) */
TSR_API tsr_tensor *tsr_instance_norm_running(tsr_tensor *x, tsr_tensor *weight, tsr_tensor *bias,
                                              tsr_tensor *running_mean, tsr_tensor *running_variance, bool training,
                                              double momentum, double epsilon);
/* Zeroes each element with probability p and scales the others by 1 / (1 - p), p in [0, 1). The mask comes from the device's
 * generator and is made again in the backward pass, not stored. */
TSR_API tsr_tensor *tsr_dropout(tsr_tensor *x, double p, bool training);

/* ---- attention ------------------------------------------------------------------------------------------------------ */

/* softmax(scale q kᵀ + mask) v. q [.., heads, queries, width], k [.., key heads, keys, width], v [.., key heads, keys, values] →
 * [.., heads, queries, values]. floats, accumulated in f32. The leading sizes agree; the key heads divide the heads, and each serves
 * heads / key heads neighbours (grouped-query attention). Rank 2 has no heads.
 *   mask    NULL, bool (true: may be seen) or numbers that are added, of q's dtype; broadcasts to [.., heads, queries, keys]. A mask of
 *           numbers has a derivative.
 *   causal  query i sees keys 0…i, besides what the mask says.
 *   scale   0 means 1 / sqrt(width).
 * A query that sees no key gives 0. Memory beside the operands and the result is linear in queries and in keys, forward and backward.
 * (Vaswani et al. 2017; torch.nn.functional.scaled_dot_product_attention without dropout.) */
TSR_API tsr_tensor *tsr_scaled_dot_product_attention(tsr_tensor *q, tsr_tensor *k, tsr_tensor *v, tsr_tensor *mask,
                                                     bool causal, double scale);
/* The same, and each weight of the softmax dropped with probability p as by tsr_dropout: none where not training. Dropping takes memory for all
 * weights, heads · queries · keys, in the carried dtype; without it this is the function above. (dropout_p.) */
TSR_API tsr_tensor *tsr_scaled_dot_product_attention_dropout(tsr_tensor *q, tsr_tensor *k, tsr_tensor *v,
                                                             tsr_tensor *mask, bool causal, double scale, double p,
                                                             bool training);
/* Rotary position embedding (Su et al. 2021). x [.., positions, width]: pair i of row p is turned by the angle whose cosine and sine are
 * element [p, i] of the tables, f32 (f64 for f64) [positions, pairs]. Pairs are elements i and pairs + i (as in GPT-NeoX and LLaMA), or
 * interleaved 2 i and 2 i + 1 (as in the paper); elements behind 2 pairs stay as they are. The tables have no derivative. */
TSR_API tsr_tensor *tsr_rotary_embedding(tsr_tensor *x, tsr_tensor *cosine, tsr_tensor *sine, bool interleaved);
/* The tables for positions 0 … and an even width: the angle of pair i is position · base^(-2 i / width); the paper's base is 10000. Two new
 * tensors [positions, width / 2] of dtype f32 or f64. A slice along axis 0 begins at another position. */
TSR_API tsr_status tsr_rotary_tables(tsr_device *device, tsr_dtype dtype, int64_t positions, int64_t width, double base,
                                     tsr_tensor **cosine, tsr_tensor **sine);

/* ---- by index: i32 or i64 ----------------------------------------------------------------------------------------- */

/* Devices cannot raise errors: an index outside [0, size) takes NaN (of integers and bool 0), and adds or puts nothing. What meets in one
 * place is added in ascending order of the index's elements, so that sums are the same from run to run. */

/* Rows of weight [size, width] at indices of any shape [..] → [.., width]; floats. Row padding_idx gets no gradient; negative: there is
 * no such row. (torch.nn.functional.embedding.) */
TSR_API tsr_tensor *tsr_embedding(tsr_tensor *weight, tsr_tensor *indices, int64_t padding_idx);
/* x's slices along axis at index [n]; any dtype. */
TSR_API tsr_tensor *tsr_index_select(tsr_tensor *x, int axis, tsr_tensor *index);
/* x with the source's slices along axis added at index [n]; floats i32 i64, the source of x's dtype. */
TSR_API tsr_tensor *tsr_index_add(tsr_tensor *x, int axis, tsr_tensor *index, tsr_tensor *source);
/* The same with alpha times the source, each product rounded to the dtype; of integers a whole number. */
TSR_API tsr_tensor *tsr_index_add_scaled(tsr_tensor *x, int axis, tsr_tensor *index, tsr_tensor *source, double alpha);
/* out[i][j][k] = x[i][index[i][j][k]][k] (axis 1 of 3): the index has x's rank and is, but along axis, no larger than x; the result has
 * its shape. Any dtype. (torch.gather.) */
TSR_API tsr_tensor *tsr_gather(tsr_tensor *x, int axis, tsr_tensor *index);
/* A copy of x with out[i][index[i][j][k]][k] = source[i][j][k]; of several elements for one place the last along axis stays, and it alone
 * gets the gradient. The index is no larger than the source, and but along axis no larger than x. Any dtype. (torch.scatter.) */
TSR_API tsr_tensor *tsr_scatter(tsr_tensor *x, int axis, tsr_tensor *index, tsr_tensor *source);
/* The same with one number everywhere; converted to x's dtype. By name: scatter without a source, and the attribute `value`. */
TSR_API tsr_tensor *tsr_scatter_value(tsr_tensor *x, int axis, tsr_tensor *index, double value);
/* Likewise, added to what x has there; floats i32 i64. (torch.scatter_add.) */
TSR_API tsr_tensor *tsr_scatter_add(tsr_tensor *x, int axis, tsr_tensor *index, tsr_tensor *source);

/* gather, the sizes but along axis broadcast. (torch.take_along_dim.) */
TSR_API tsr_tensor *tsr_take_along_dim(tsr_tensor *x, tsr_tensor *index, int axis);
/* indices [..] i32 i64 → i64 [.., classes], 1 at the index; a row of 0 for one out of range. Not differentiable. */
TSR_API tsr_tensor *tsr_one_hot(tsr_tensor *indices, int64_t classes);

/* ---- shape: views of the same memory, never a copy (reshape copies where strides allow no view) -------------------- */

/* One size may be -1. */
TSR_API tsr_tensor *tsr_reshape(tsr_tensor *x, int rank, const int64_t *shape);
TSR_API tsr_tensor *tsr_permute(tsr_tensor *x, const int *axes); /* a permutation of 0…rank-1 */
TSR_API tsr_tensor *tsr_transpose(tsr_tensor *x, int a, int b);
/* Elements start, start + step, … < stop along axis; negative start and stop count from the end, and are clamped; step ≥ 1. */
TSR_API tsr_tensor *tsr_slice(tsr_tensor *x, int axis, int64_t start, int64_t stop, int64_t step);
/* To a shape that x's broadcasts to. */
TSR_API tsr_tensor *tsr_expand(tsr_tensor *x, int rank, const int64_t *shape);
/* Merges dimensions first…last (in [-rank, rank)) into one. */
TSR_API tsr_tensor *tsr_flatten(tsr_tensor *x, int first, int last);

/* Without the dimensions of size 1 among `axes`; count 0 (axes NULL): without any. */
TSR_API tsr_tensor *tsr_squeeze(tsr_tensor *x, const int *axes, int count);
/* With a dimension of size 1 before axis; axis in [-rank - 1, rank]. */
TSR_API tsr_tensor *tsr_unsqueeze(tsr_tensor *x, int axis);
/* `length` elements from start on along axis, which must be there; a negative start counts from the end. */
TSR_API tsr_tensor *tsr_narrow(tsr_tensor *x, int axis, int64_t start, int64_t length);
/* Parts of `size` elements along axis, the last of what is left; or `chunks` parts of ceil(n / chunks), fewer where they are used up
 * before. They go to parts[0…*count - 1], each a tensor of the scope. Error: there are more than `capacity`. By name, tsr_op_call gives the
 * part that the attribute `index` names. */
TSR_API tsr_status tsr_split(tsr_tensor *x, int axis, int64_t size, int capacity, tsr_tensor **parts, int *count);
TSR_API tsr_status tsr_chunk(tsr_tensor *x, int axis, int64_t chunks, int capacity, tsr_tensor **parts, int *count);

/* ---- shape: elements moved ---- any dtype; results are contiguous --------------------------------------------------- */

/* The tensors one after the other along axis (one dtype, equal sizes along the others), or along a new axis (equal shapes). Any number
 * here, up to 8 by name. */
TSR_API tsr_tensor *tsr_cat(tsr_tensor *const *tensors, int count, int axis);
TSR_API tsr_tensor *tsr_stack(tsr_tensor *const *tensors, int count, int axis);
/* x times[i] times along axis i; with more numbers than x has dimensions, x gets dimensions of size 1 in front. (torch.Tensor.repeat.) */
TSR_API tsr_tensor *tsr_repeat(tsr_tensor *x, int count, const int64_t *times);
/* What leaves an axis at its end comes in at its start; axes NULL and count 1: all elements as one axis. (torch.roll.) */
TSR_API tsr_tensor *tsr_roll(tsr_tensor *x, int count, const int64_t *shifts, const int64_t *axes);
TSR_API tsr_tensor *tsr_flip(tsr_tensor *x, int count, const int64_t *axes);

typedef enum tsr_pad_mode { TSR_PAD_CONSTANT, TSR_PAD_REFLECT, TSR_PAD_REPLICATE } tsr_pad_mode;
/* sizes: before and after the last dimension, then before and after the last but one … (at most four dimensions). Constant: with `value`;
 * negative sizes cut off. Reflect: without the edge, less than the axis. (torch.nn.functional.pad.) */
TSR_API tsr_tensor *tsr_pad(tsr_tensor *x, int count, const int64_t *sizes, tsr_pad_mode mode, double value);
/* x [.., rows, columns] with 0 where column - row > diagonal, or < diagonal. floats i32 i64. */
TSR_API tsr_tensor *tsr_tril(tsr_tensor *x, int64_t diagonal);
TSR_API tsr_tensor *tsr_triu(tsr_tensor *x, int64_t diagonal);

/* The elements along axis in ascending or descending order, and the places (i64) that they came from. Stable: of equal ones the first comes
 * first, whichever the order. NaN counts as largest. floats i32 i64; values and indices are both required. */
TSR_API tsr_status tsr_sort(tsr_tensor *x, int axis, bool descending, tsr_tensor **values, tsr_tensor **indices);
/* The k largest or smallest, in that order; of equal ones the first. */
TSR_API tsr_status tsr_topk(tsr_tensor *x, int64_t k, int axis, bool largest, tsr_tensor **values,
                            tsr_tensor **indices);

/* ---- copies ------------------------------------------------------------------------------------------------------ */

/* The same values in another dtype: truncation towards zero to integers, != 0 to bool. Gradient between floats. */
TSR_API tsr_tensor *tsr_cast(tsr_tensor *x, tsr_dtype dtype);
/* The same values, contiguous: a view of x if it is so already, otherwise a copy. */
TSR_API tsr_tensor *tsr_contiguous(tsr_tensor *x);
/* Always a copy. */
TSR_API tsr_tensor *tsr_clone(tsr_tensor *x);
/* Copies, converts and broadcasts `from` into `to`, in place; `to` has any strides (no element twice). Not recorded. */
TSR_API tsr_status tsr_copy_into(tsr_tensor *to, tsr_tensor *from);
TSR_API tsr_status tsr_fill(tsr_tensor *x, double value);
/* A copy on another device, through the host. Waits. Not differentiable. */
TSR_API tsr_tensor *tsr_to_device(tsr_tensor *x, tsr_device *device);

/* ---- the generic call ---------------------------------------------------------------------------------------------- */

typedef enum tsr_attr_kind {
    TSR_ATTR_INT = 1,
    TSR_ATTR_FLOAT,
    TSR_ATTR_BOOL,
    TSR_ATTR_DTYPE,
    TSR_ATTR_INTS
} tsr_attr_kind;

typedef struct tsr_attr {
    const char *name;
    tsr_attr_kind kind;
    int64_t i;             /* INT BOOL DTYPE */
    double f;              /* FLOAT */
    const int64_t *values; /* INTS */
    int count;
} tsr_attr;

/* Runs operator `name` ("conv2d"), as the typed functions do. inputs may hold NULL for optional ones. outputs[i] NULL asks for a new
 * tensor, in the scope; otherwise the result is written into that tensor, which must have the result's dtype and shape (any
 * strides; one of the inputs for an in-place call, where the operator is pointwise). Attributes not given have their defaults.
 * Errors: unknown operator (with the nearest name), wrong number of inputs or outputs, unknown or missing attribute. */
TSR_API tsr_status tsr_op_call(const char *name, tsr_tensor *const *inputs, int input_count, tsr_tensor **outputs,
                               int output_count, const tsr_attr *attributes, int attribute_count);

/* The operators of this build: names and attribute schemas, in a fixed order. */
typedef struct tsr_op_info {
    const char *name;
    int inputs_min, inputs_max, outputs;
    int attribute_count;
    const char *attribute_names[10];
    tsr_attr_kind attribute_kinds[10];
    bool attribute_required[10];
    const char *autocast; /* its class in tsr_autocast_begin: "low", "f32", "widest" or "none" */
} tsr_op_info;
TSR_API size_t tsr_op_count(void);
TSR_API tsr_status tsr_op_describe(size_t index, tsr_op_info *info);

#ifdef __cplusplus
}
#endif
#endif
