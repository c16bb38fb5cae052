/* The elementwise operators as rows, made at first use from the table of kernels/elementwise.def. */
#ifndef TESSERA_OPS_ELEMENTWISE_H
#define TESSERA_OPS_ELEMENTWISE_H

#include "ops/op.h"

size_t elementwise_count(void);
const op_row *elementwise_at(size_t i);

/* Those of the rows, for operators that are one of them and more. */
bool elementwise_infer(const op_call *call, op_output *out);
bool elementwise_run(const op_call *call);
bool elementwise_backward(const op_record *record, tensor *const *dy, tensor **dx);

/* Runs a kernel with the layout of kernels/unary.k, binary.k or ternary.k on `count` operands of any strides that broadcast to
 * out's shape; scalars are two numbers, or NULL for a kernel that takes none. Copies that it needs live in the current scope. */
bool elementwise_launch(tsr_device *device, kernel_key key, tensor *const *operands, int count, tensor *out,
                        const double *scalars);

#endif
