/* The samples of a row: its own, and those that every operator is tried on. */
#ifndef TESSERA_OPERATORS_SAMPLES_H
#define TESSERA_OPERATORS_SAMPLES_H

#include "operators.h"

typedef struct sample_list {
    op_sample samples[SAMPLES_MAX];
    size_t count;
} sample_list;

/* For one dtype on trial. What the list points to lives as long as the row. */
void samples_of(const operator_row *row, tsr_dtype dtype, sample_list *list);

/* The operands of a sample on the host: numbers that the dtype holds, the same for the same seed. */
typedef struct host_input {
    tsr_dtype dtype;
    int64_t count;
    double *value; /* row-major; NULL if absent */
} host_input;

/* How many inputs the call has: up to the last one that is not absent. */
int sample_inputs(const operator_row *row, const op_sample *sample);
int sample_attrs(const op_sample *sample);
bool sample_fill(const operator_row *row, const op_sample *sample, size_t number, tsr_dtype dtype, uint64_t seed,
                 host_input *inputs);
void sample_free(host_input *inputs);
/* count numbers of d objective / d result, likewise. */
double *sample_gradient(const operator_row *row, const op_sample *sample, size_t number, tsr_dtype dtype, uint64_t seed,
                        int64_t count);

#endif
