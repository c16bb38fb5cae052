/* What the tape keeps of one operator's call. The tape knows operators only through this. */
#ifndef TESSERA_AUTOGRAD_RECORD_H
#define TESSERA_AUTOGRAD_RECORD_H

#include <string.h>

#include "tensor/tensor.h"

#define OP_MAX_INPUTS  8
#define OP_MAX_OUTPUTS 4
#define OP_MAX_ATTRS   10

typedef struct attr_value {
    int64_t i; /* integers, booleans, dtypes */
    double f;
    int64_t list[TSR_MAX_RANK];
    int count;
} attr_value;

/* Dtype and shape of a tensor that need not exist. */
typedef struct op_output {
    tsr_dtype dtype;
    int rank;
    int64_t shape[TSR_MAX_RANK];
} op_output;

static inline op_output op_spec_of(const tensor *t)
{
    op_output spec = {.dtype = t->dtype, .rank = t->rank};
    memcpy(spec.shape, t->shape, sizeof spec.shape);
    return spec;
}

typedef struct op_record {
    const struct op_row *row;
    const char *name;
    /* Given d/d out (NULL for an output that got none), sets dx[i] for inputs with needs[i] to tensors of the current scope
     * (the tape keeps them); NULL where an input has no gradient. False after fail(). */
    bool (*backward)(const struct op_record *record, tensor *const *dy, tensor **dx);
    struct checkpoint *part; /* instead of backward: what is run again; owned */
    tsr_device *device;
    attr_value attr[OP_MAX_ATTRS];
    int in_count, out_count;
    tensor *in[OP_MAX_INPUTS];        /* saved ones, detached; NULL where the operator does not save it */
    tensor *out[OP_MAX_OUTPUTS];      /* likewise */
    op_output in_spec[OP_MAX_INPUTS]; /* of every input */
    op_output out_spec[OP_MAX_OUTPUTS];
    bool needs[OP_MAX_INPUTS]; /* which inputs need a gradient */
    uint64_t call;             /* its number for who watches; 0: nobody did */
} op_record;

#endif
