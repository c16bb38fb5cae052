/* Numbers of every dtype on the host: how they are stored, how they round, how far apart they lie. */
#ifndef TESSERA_OPERATORS_NUMBER_H
#define TESSERA_OPERATORS_NUMBER_H

#include "tessera/tensor.h"

bool number_is_float(tsr_dtype dtype);

/* Half the distance of 1 and the next number. */
double number_roundoff(tsr_dtype dtype);
/* Of what f32, f16 and bf16 are computed in, and of f64. */
double number_accumulator_roundoff(tsr_dtype dtype);
/* Largest finite, and smallest normal number: results below that may be flushed to zero, except in f16, whose all
 * numbers are normal in f32. */
double number_largest(tsr_dtype dtype);
double number_smallest(tsr_dtype dtype);
/* The distance of neighbours at |x|. */
double number_spacing(tsr_dtype dtype, double x);

/* The nearest number of the dtype, ties to even, infinity beyond the largest; integers are cut and bool is x != 0. */
double number_round(tsr_dtype dtype, double x);

/* Element i of contiguous memory in the tensor's format; what is stored is rounded first. */
double number_load(tsr_dtype dtype, const void *from, int64_t i);
void number_store(tsr_dtype dtype, void *to, int64_t i, double x);

#endif
