/* The elementwise operators as rows, made at first use from the table of kernels/elementwise.def. */
#ifndef TESSERA_OPS_ELEMENTWISE_H
#define TESSERA_OPS_ELEMENTWISE_H

#include "ops/op.h"

size_t elementwise_count(void);
const op_row *elementwise_at(size_t i);

#endif
