/* Arithmetic in double that remembers: each number comes with a bound of what rounding may do to it in the device's arithmetic (a running
 * error analysis: Higham, Accuracy and Stability of Numerical Algorithms, 2002, 3.3), and the graph of all operations gives every
 * derivative, with its bound, by going back through it once. So a reference is written once, from the definition; the derivative
 * and the bounds follow and owe nothing to the kernels.
 *
 * Errors are counted in units of the accumulator's roundoff u, to first order. */
#ifndef TESSERA_OPERATORS_TRACE_H
#define TESSERA_OPERATORS_TRACE_H

#include "tessera/tensor.h"

typedef struct trace trace;
typedef int32_t term; /* a number of the trace */

/* NULL, with the thread's error, when out of memory. */
trace *trace_create(void);
void trace_destroy(trace *t);
/* Forgets everything. Sums are as deep as a product's (any order of up to 4096 terms), or canonical (docs/determinism.md). */
void trace_begin(trace *t, tsr_dtype dtype, bool products);
/* Memory ran out somewhere on the way. */
bool trace_failed(const trace *t);

double trace_value(const trace *t, term a);
/* In absolute terms. Infinite where something on the way leaves the range of the device's numbers. */
double trace_bound(const trace *t, term a);

/* An operand of the device's call, and a constant of the definition (rounded once). */
term trace_operand(trace *t, double value);
term trace_number(trace *t, double value);

term trace_add(trace *t, term a, term b);
term trace_sub(trace *t, term a, term b);
term trace_mul(trace *t, term a, term b);
term trace_div(trace *t, term a, term b);
term trace_scale(trace *t, term a, double by);
term trace_exp(trace *t, term a);
term trace_log(trace *t, term a);
term trace_sqrt(trace *t, term a);
/* a itself: where a definition picks one of its operands. */
term trace_pick(trace *t, term a);
/* The same from up to four equal ones that share the derivative, and the value of a cast: rounded to `dtype`. */
term trace_share(trace *t, const term *equal, int64_t count);
term trace_cast(trace *t, term a, tsr_dtype dtype);

/* Any function: its value; by operand k the derivative d[k] and the size m[k] ≥ |d[k]| of the terms that the derivative is the sum of.
 * Its value errs by `ulp` (0: exact); its derivatives by `slack` roundings of m. */
term trace_function(trace *t, double value, double ulp, int operands, const term *a, const double *d, const double *m,
                    double slack);

/* A sum, term by term; nothing else may be traced between begin and end. */
void trace_sum_begin(trace *t);
void trace_sum_add(trace *t, term a);
void trace_sum_product(trace *t, term a, term b);
term trace_sum_end(trace *t);
/* Instead, of an order that is the operator's own: a term meets up to `depth` additions, and so does its derivative on the way back. */
term trace_sum_end_deep(trace *t, double depth);

/* ---- the derivative ---- */

/* d objective / d a of a result, before trace_backward. */
void trace_seed(trace *t, term a, double gradient);
void trace_backward(trace *t);
double trace_gradient(const trace *t, term a);
/* `stored` roundings to the storage dtype on every way (16-bit tensors that are saved or handed on), besides the arithmetic. */
double trace_gradient_bound(const trace *t, term a, double stored);

#endif
