/* Products, convolutions, pools, resampling, batch normalisation. */
#include "every_kernel.h"

void every_product(const run *r)
{
    EACH_DTYPE(dtype, float_dtypes)
    {
        require_ok(r, tsr_scope_begin());
        tsr_tensor *a = operand(r, dtype, SHAPE(5, 7)), *b = operand(r, dtype, SHAPE(7, 6));
        differentiate(r, tsr_matmul(a, b));
        differentiate(r, tsr_matmul(turned(operand(r, dtype, SHAPE(7, 5))), turned(operand(r, dtype, SHAPE(6, 7)))));
        differentiate(r, tsr_matmul(operand(r, dtype, SHAPE(2, 3, 4)), operand(r, dtype, SHAPE(2, 4, 3))));
        differentiate(r, tsr_linear(a, operand(r, dtype, SHAPE(6, 7)), operand(r, dtype, SHAPE(6))));
        static const tsr_conv2d_options rows[] = {
            {.padding = {0, 0}}, {.padding = {1, 1}}, {.stride = {2, 2}, .padding = {1, 0}}, {.dilation = {2, 1}}};
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
            differentiate(r, tsr_conv2d(operand(r, dtype, SHAPE(2, 2, 6, 7)), operand(r, dtype, SHAPE(3, 2, 3, 3)),
                                        operand(r, dtype, SHAPE(3)), &rows[i]));
        differentiate(r, tsr_conv2d(operand(r, dtype, SHAPE(2, 4, 5, 5)), operand(r, dtype, SHAPE(4, 2, 3, 3)), NULL,
                                    &(tsr_conv2d_options){.groups = 2}));
        require_ok(r, tsr_scope_end());
    }
}

void every_image(const run *r)
{
    static const tsr_resampling modes[] = {TSR_NEAREST, TSR_LINEAR, TSR_LINEAR_CORNERS, TSR_MEAN};
    EACH_DTYPE(dtype, float_dtypes)
    {
        require_ok(r, tsr_scope_begin());
        tsr_tensor *x = operand(r, dtype, SHAPE(2, 3, 5, 6));
        const tsr_pool2d_options window = {.kernel = {3, 2}, .stride = {2, 1}, .padding = {1, 1}};
        differentiate(r, tsr_max_pool2d(x, &window));
        differentiate(r, tsr_avg_pool2d(x, &window));
        for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++)
            for (int axis = 2; axis < 4; axis++)
                differentiate(r, tsr_resample(x, axis, 4, modes[i]));
        const tsr_dtype sums = dtype == TSR_F64 ? TSR_F64 : TSR_F32;
        tsr_tensor *weight = operand(r, sums, SHAPE(3)), *bias = operand(r, sums, SHAPE(3));
        tsr_tensor *mean = tsr_detach(operand(r, sums, SHAPE(3))), *variance = tsr_detach(operand(r, sums, SHAPE(3)));
        for (int training = 0; training < 2; training++)
            differentiate(r, tsr_batch_norm2d(x, weight, bias, mean, variance, training != 0, 0.1, 1e-5));
        differentiate(r, tsr_batch_norm2d(x, NULL, NULL, NULL, NULL, true, 0.1, 1e-5));
        require_ok(r, tsr_scope_end());
    }
}
