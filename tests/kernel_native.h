/* Calls the C kernels of the elementwise operators on contiguous arrays, without a device: for tests of their arithmetic. */
#ifndef TESSERA_TESTS_KERNEL_NATIVE_H
#define TESSERA_TESTS_KERNEL_NATIVE_H

#include "base/fastdiv.h"
#include "dispatch/catalogue.h"

#include <stdio.h>
#include <string.h>

enum { NATIVE_SPAN = 4096 };

typedef struct native_params {
    uint32_t words[28];
    uint32_t count;
} native_params;

static inline void native_put(native_params *p, uint32_t word)
{
    p->words[p->count++] = word;
}

static inline void native_put_scalars(native_params *p, const double *scalars)
{
    for (int i = 0; i < 2; i++) {
        const float high = (float)scalars[i];
        const float low = high - high == 0.0f ? (float)(scalars[i] - (double)high) : 0.0f;
        uint32_t bits;
        memcpy(&bits, &high, sizeof bits);
        native_put(p, bits);
        memcpy(&bits, &low, sizeof bits);
        native_put(p, bits);
    }
}

static inline const kernel_entry *native_entry(const char *kernel, const char *op, const char *dtype)
{
    char key[96];
    snprintf(key, sizeof key, "%s/%s/%s", kernel, op, dtype);
    return catalogue_find(key, HAL_CLASS_CPU);
}

/* The layout of unary, binary and ternary and of the last two's gradients: one row of n elements, all steps 1. */
static inline void native_run(const kernel_entry *e, kernel_isa isa, int operands, uint32_t n, const double *scalars,
                              void *const *bindings)
{
    native_params p = {.count = 0};
    const uint32_t spans = (n + NATIVE_SPAN - 1) / NATIVE_SPAN;
    const fast_div by_spans = fast_div_make(spans), by_one = fast_div_make(1);
    const int outer = operands < 3 ? 4 : 3;
    const uint32_t head[] = {n, NATIVE_SPAN, spans, by_spans.mul, by_spans.shift};
    for (int i = 0; i < 5; i++)
        native_put(&p, head[i]);
    native_put_scalars(&p, scalars);
    for (int k = 0; k < operands; k++)
        native_put(&p, 1);
    for (int d = 0; d < outer; d++) {
        if (d < outer - 1) {
            native_put(&p, 1);
            native_put(&p, by_one.mul);
            native_put(&p, by_one.shift);
        }
        for (int k = 0; k < operands; k++)
            native_put(&p, 0);
    }
    const uint32_t grid[3] = {spans, 1, 1};
    e->native[isa](bindings, p.words, grid, 0, spans);
}

/* unary_grad's layout; bindings dy, x, y, dx. */
static inline void native_run_unary_grad(const kernel_entry *e, kernel_isa isa, uint32_t n, const double *scalars,
                                         void *const *bindings)
{
    native_params p = {.count = 0};
    native_put(&p, n);
    native_put(&p, NATIVE_SPAN);
    native_put_scalars(&p, scalars);
    const uint32_t grid[3] = {(n + NATIVE_SPAN - 1) / NATIVE_SPAN, 1, 1};
    e->native[isa](bindings, p.words, grid, 0, grid[0]);
}

#endif
