/* Rows of 16-bit floating point to f32 and back, rounding to nearest even; a NaN stays one. */
#ifndef TESSERA_BACKENDS_CPU_HALF_H
#define TESSERA_BACKENDS_CPU_HALF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* bf16 if `brain`, else f16. */
void half_widen(float *to, const uint16_t *from, size_t count, bool brain);
void half_narrow(uint16_t *to, const float *from, size_t count, bool brain);

#endif
