/* What one sample of an operator must give, forward and backward: numbers and how far off each may be. The same for every device. */
#ifndef TESSERA_OPERATORS_EXPECTATION_H
#define TESSERA_OPERATORS_EXPECTATION_H

#include "samples.h"

typedef struct expected_tensor {
    tsr_dtype dtype;
    int rank;
    int64_t shape[TSR_MAX_RANK];
    int64_t count;
    double *value, *bound; /* bound: NaN where nothing is known: the way leaves the range of the device's numbers */
} expected_tensor;

typedef struct expectation {
    const operator_row *row;
    const op_sample *sample;
    size_t number; /* of the sample */
    tsr_dtype dtype;
    uint64_t seed;
    int in_count, out_count;
    host_input in[INPUTS_MAX];
    expected_tensor out[OUTPUTS_MAX];
    bool backward;                           /* there is a derivative to hold */
    double *gradient;                        /* d objective / d out[0] */
    expected_tensor in_gradient[INPUTS_MAX]; /* value NULL where there is none */
} expectation;

/* Zero-initialised `e`. False, with the thread's error, when out of memory; free it in any case.
 * For tests of the comparison itself: $TESSERA_COMPARE_FAULT names an operator whose last expected number is made wrong. */
bool expectation_make(expectation *e, trace *t, const operator_row *row, const op_sample *sample, size_t number,
                      tsr_dtype dtype, uint64_t seed);
void expectation_free(expectation *e);

#endif
