/* One sample of an operator on one device, held against what it must give. Operands and results lie inside larger tensors whose other
 * elements must stay as they are. */
#ifndef TESSERA_OPERATORS_CHECK_H
#define TESSERA_OPERATORS_CHECK_H

#include "expectation.h"

typedef enum check_status { CHECK_OK, CHECK_FAIL, CHECK_UNSUPPORTED, CHECK_BROKEN } check_status;

typedef struct check_result {
    check_status status;
    char why[256];              /* what failed, is not supported, or broke the device (CHECK_BROKEN) */
    int64_t held;               /* numbers that were held against a bound */
    double max_ulp;             /* largest error in units of the last place */
    double error, bound, ratio; /* of the number whose error is largest for its bound; ratio may be infinite */
    int tensor;                 /* of that number: which output, or which input's gradient */
    int64_t element;
    double value, expected;
    double gap,
        gap_ulp; /* largest difference to the first device's numbers; NaN where there are none to compare with */
} check_result;

/* What a device gave, for the comparison with the next one. */
typedef struct device_values {
    double *of[INPUTS_MAX > OUTPUTS_MAX ? INPUTS_MAX : OUTPUTS_MAX];
} device_values;
void device_values_free(device_values *v);

/* `first`: what the first device gave; empty: this one is the first, and it is filled. */
void check_forward(const expectation *e, tsr_device *device, device_values *first, check_result *result);
void check_backward(const expectation *e, tsr_device *device, device_values *first, check_result *result);

/* Operands on the device without guards or a comparison, in the open scope: for central differences. */
tsr_tensor *check_operand(const expectation *e, int k, tsr_device *device, const double *values);

#endif
