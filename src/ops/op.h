/* An operator: one row that says what it takes, what comes out, how to run it and how to differentiate it.
 *
 * The typed functions of tessera/ops.h and tsr_op_call both come through op_apply, which checks, infers the outputs'
 * shapes, allocates them, runs, and records on the tape. */
#ifndef TESSERA_OPS_OP_H
#define TESSERA_OPS_OP_H

#include "autograd/record.h"
#include "dispatch/launch.h"

typedef enum attr_kind { ATTR_INT = 1, ATTR_FLOAT, ATTR_BOOL, ATTR_DTYPE, ATTR_INTS } attr_kind;

#define A_INT(v)   ((attr_value){.i = (v)})
#define A_FLOAT(v) ((attr_value){.f = (v)})

typedef struct attr_schema {
    const char *name;
    attr_kind kind;
    bool required;
    attr_value initial;
} attr_schema;

typedef struct op_row op_row;

typedef struct op_call {
    const op_row *row;
    tsr_device *device;
    tensor *in[OP_MAX_INPUTS]; /* absent optional inputs are NULL */
    int in_count;
    tensor *out[OP_MAX_OUTPUTS];
    int out_count;
    attr_value attr[OP_MAX_ATTRS]; /* in the order of the row's schema */
    uint64_t number;               /* for who watches (autograd/observer.h); 0: nobody does */
} op_call;

/* Bits of op_row.saves */
#define SAVE_INPUT(i)  (1u << (i))
#define SAVE_OUTPUT(i) (1u << (16 + (i)))

typedef enum autocast_class { AUTOCAST_WIDEST, AUTOCAST_LOW, AUTOCAST_F32, AUTOCAST_NONE } autocast_class;

struct op_row {
    const char *name;
    int inputs_min, inputs_max;
    int outputs;
    uint32_t dtypes;    /* DTYPE_BIT mask for every input that is not listed in `any_dtype` */
    uint32_t any_dtype; /* bit i: input i's dtype is checked by infer */
    bool same_dtype;    /* inputs not in any_dtype must agree */
    bool pointwise;     /* element i of the result depends on element i of the inputs only: may run in place */
    attr_schema attrs[OP_MAX_ATTRS];
    autocast_class autocast;
    const void *data; /* of a family: its table row */

    /* Checks the call and tells the outputs' dtypes and shapes; false after fail(). */
    bool (*infer)(const op_call *call, op_output *out);
    /* Queues the work into call->out (allocated, contiguous). Not called when every output is empty. */
    bool (*run)(const op_call *call);
    /* A view operator has this instead of run: makes out[0] from in[0]'s storage. */
    tensor *(*view)(const op_call *call, const op_output *out);
    /* An operator that is others put together has this instead of infer, run, view and backward: it calls them, and they record
     * themselves. A scope is open for what it makes. */
    bool (*compose)(const op_call *call, tensor **out);
    bool aliases; /* what compose makes may lie in an operand's memory; otherwise it is copied where it does */
    /* As in op_record; NULL for an operator without a derivative. Runs without recording, in a scope of its own, so it is
     * written with the public operators. */
    bool (*backward)(const op_record *record, tensor *const *dy, tensor **dx);
    uint32_t saves;                            /* SAVE_ bits */
    uint32_t (*saves_of)(const op_call *call); /* instead, where it depends on the call */
};

/* Runs one operator; outputs go to the current scope. NULL inputs beyond inputs_min are absent. False after fail(). */
bool op_apply(const op_row *row, tensor *const *in, int in_count, const attr_value *attrs, tensor **out);
/* For the many with one output. NULL if any required operand is NULL (keeping the first message) or on failure. */
tensor *op_apply1(const op_row *row, tensor *const *in, int in_count, const attr_value *attrs);

#define OP1(row, attrs, ...)                                                                                           \
    op_apply1(&(row), (tensor *[]){__VA_ARGS__}, (int)(sizeof((tensor *[]){__VA_ARGS__}) / sizeof(tensor *)), attrs)
#define ATTRS(...) ((attr_value[OP_MAX_ATTRS]){__VA_ARGS__})

/* Every row of the library, elementwise ones included. NULL if there is none of that name. */
const op_row *op_find(const char *name);
size_t op_count(void);
const op_row *op_at(size_t i);

/* A run function that needs temporaries: they are released behind it, and what it calls is not recorded. Backward functions
 * are called so already. */
bool op_temporaries_begin(void);
bool op_temporaries_end(bool ok);
#define OP_TEMPORARIES(expression) (op_temporaries_begin() && op_temporaries_end(expression))

/* Helpers that rows share. */
/* `count` integers as an attribute; false after fail(), naming `what`, if there are more than an attribute holds. */
bool attr_ints(const char *what, int count, const int64_t *values, attr_value *out);
bool infer_same(const op_call *call, op_output *out); /* dtype and shape of input 0 */
/* x summed down to a shape that broadcasts to x's: the gradient of a broadcast operand. x itself if equal. */
tensor *reduce_to(tensor *x, int rank, const int64_t *shape);
/* x itself, or a contiguous copy of it in the scope. (tsr_contiguous always gives a tensor of its own.) */
tensor *contiguous(tensor *x);

#endif
