/* The table of operators for whoever checks them: one row says on what an operator is tried, what must come out and how far off it may be.
 * `tessera compare` and the tests loop over it. Operators are run through tsr_op_call alone, so a row knows nothing of kernels.
 *
 * To add a row: its reference (an elementwise operator: one function and its derivatives), five samples or more, and a line in the
 * list of its family. The general samples (samples.c) come on top. docs/adding-an-operator.md */
#ifndef TESSERA_OPERATORS_OPERATORS_H
#define TESSERA_OPERATORS_OPERATORS_H

#include "tessera/tessera.h"
#include "trace.h"

enum { INPUTS_MAX = 8, OUTPUTS_MAX = 4, ATTRS_MAX = 8, SAMPLES_MAX = 64 };

/* How an operand lies in its memory. */
typedef enum layout {
    LAYOUT_DENSE,
    LAYOUT_REVERSED, /* the axes in the opposite order: a transposed view */
    LAYOUT_STEPPED,  /* every second element of the last axis, and a row too much of the first */
    LAYOUT_SPREAD    /* one row for the whole first axis: stride 0 */
} layout;

typedef enum value_kind {
    VALUES_REALS,    /* of [low, high); both 0 means [-1, 1) */
    VALUES_INTEGERS, /* -3 … 3, or 0 … 3 where low is above 0; every result is exact where `exact` says so */
    VALUES_HUGE,     /* reals times the row's `huge` */
    VALUES_TINY,     /* reals times the row's `tiny` */
    VALUES_EXTREMES, /* zeros, ones, the largest, the smallest, the square roots of both, of both signs */
    VALUES_SPECIALS, /* reals with NaN and infinities among them */
    VALUES_RAMP,     /* all different, in an order that shuffles them: for maxima */
    VALUES_SIGNS,    /* 1 and -1: for products */
    VALUES_SPARSE,   /* zeros, and now and then a small integer */
    VALUES_HIDING,   /* zeros and minus infinity: masks that are added */
    VALUES_BITS      /* of integers: any that double holds, or those of [low, high) */
} value_kind;

typedef struct sample_input {
    int rank;
    int64_t shape[TSR_MAX_RANK];
    layout layout;
    value_kind values;
    double low, high;
    tsr_dtype dtype; /* where `typed`; else the dtype on trial */
    bool typed;
    bool wide;   /* f64 on f64's trial, else f32: statistics, running means */
    bool absent; /* an optional input that is not given */
} sample_input;

typedef struct op_sample {
    const char *name;
    sample_input in[INPUTS_MAX];
    tsr_attr attrs[ATTRS_MAX];
    bool exact;        /* of integers: results are the exact ones, rounded once to the dtype */
    bool only_forward; /* the derivative is not defined there, or has no bound */
    bool declared;     /* the derivative is what the operator's definition says, and no limit of differences */
} op_sample;

/* What a reference works on: the operands' numbers, row-major, and where it puts the results. */
typedef struct operand {
    tsr_dtype dtype;
    int rank;
    int64_t shape[TSR_MAX_RANK];
    int64_t count;
    const term *at; /* `count` of them; NULL for an absent input */
} operand;

typedef struct result {
    tsr_dtype dtype;
    int rank;
    int64_t shape[TSR_MAX_RANK];
    int64_t count;
    term *at; /* filled by the reference, after reference_result */
} result;

typedef struct operator_row operator_row;

typedef struct reference_call {
    trace *t;
    const operator_row *row;
    const op_sample *sample;
    tsr_dtype dtype; /* on trial */
    operand in[INPUTS_MAX];
    int in_count;
    result out[OUTPUTS_MAX];
    bool failed; /* out of memory */
} reference_call;

typedef double elementwise_value(const double *x, const double *attrs);
/* Derivative by each operand, and the size of its terms where they may cancel (as large as the derivative where they do not). */
typedef void elementwise_slope(const double *x, const double *attrs, double *d, double *m);

/* Or a definition in traced arithmetic, which gives derivatives and bounds. */
typedef term elementwise_composed(trace *t, const term *x, const double *attrs);

#define MASK(dtype) (1u << (dtype))
enum {
    FLOATS = MASK(TSR_F32) | MASK(TSR_F16) | MASK(TSR_BF16) | MASK(TSR_F64),
    INTEGERS = MASK(TSR_I32) | MASK(TSR_I64),
    BYTES = MASK(TSR_U8) | MASK(TSR_BOOL)
};

struct operator_row {
    const char *name;   /* as tsr_op_call takes it */
    const char *family; /* "pointwise" */
    uint32_t dtypes;    /* MASK bits of the dtypes on trial */
    int arity;          /* inputs at the most */
    int results;        /* outputs of the call; the first is differentiated */
    int hidden;         /* how many of the last ones are the operator's own business and not held against anything */
    bool differentiable;
    uint32_t constant;  /* bit i: input i has no derivative */
    uint32_t updated;   /* bit i: input i is changed in place */
    bool view;          /* the result may lie in an operand's memory */
    bool products;      /* sums are products' (trace.h) */
    bool discontinuous; /* the derivative jumps, or is that of a random draw: no central differences */
    double stored;      /* roundings to a 16-bit dtype on the way of a derivative; 0 means 4 */
    double huge, tiny;  /* scales at which nothing on the way overflows or vanishes; 0: no such sample */
    bool specials;      /* NaN and infinities are defined */

    /* Traces the results. False: out of memory. */
    bool (*reference)(reference_call *c);

    /* An elementwise operator (reference: elementwise_reference) has these, and samples are made from them. */
    elementwise_value *value;       /* with slope and ulp; or … */
    elementwise_slope *slope;       /* NULL: no derivative */
    double ulp;                     /* of f32; 0 means exact */
    elementwise_composed *composed; /* … this */
    double low, high;               /* where its reals lie */
    double b_low, b_high;           /* of further operands, if they differ */
    const char *attr_names[2];
    double attrs[2]; /* tried with */
    bool gives_bool;
    double smooth_from, smooth_to; /* derivatives are held where all |x| lie between; 0: everywhere */
    elementwise_value *ulp_f64;    /* of f64, where it is not the larger of 8 and `ulp` */
    bool no_specials;              /* NaN and infinities are not defined */
    value_kind whole;              /* of integers, where VALUES_INTEGERS are too few */

    /* Others have these. */
    const op_sample *samples;
    size_t sample_count;
};

/* Every row, in the order of the families. */
size_t operator_count(void);
const operator_row *operator_at(size_t i);
const operator_row *operator_find(const char *name);

/* ---- for references ---- */

/* Gives output k its dtype and shape, and room; NULL (the call then fails) when out of memory. */
term *reference_result(reference_call *c, int k, tsr_dtype dtype, int rank, const int64_t *shape);
const tsr_attr *reference_attr(const reference_call *c, const char *name);
int64_t reference_int(const reference_call *c, const char *name, int64_t initial);
double reference_float(const reference_call *c, const char *name, double initial);
/* Element k of a list; `initial` where it is not given or shorter. */
int64_t reference_list(const reference_call *c, const char *name, int k, int64_t initial);

bool elementwise_reference(reference_call *c);

/* What becomes of `count` numbers; and of the input's, along `axes` (all where there are none), in `dtype`. */
typedef term reduce_of(reference_call *c, const term *x, int64_t count);
bool reduction_reference(reference_call *c, tsr_dtype dtype, reduce_of *one);
term reduced_sum(reference_call *c, const term *x, int64_t count);
int64_t first_largest(const reference_call *c, const term *x, int64_t count);
/* x[best], whose derivative is shared by all that equal it. */
term shared_extreme(reference_call *c, const term *x, int64_t count, int64_t best);

/* `count` numbers x[0], x[step] … less the largest, which only shifts and has no derivative, and behind them their exponentials, whose sum is
 * *sum. To host_free; NULL, and the call fails: out of memory. */
term *shifted_exponentials(reference_call *c, const term *x, int64_t count, int64_t step, term *sum);

/* out[index] = x[place(index)], for every index of the result; the attribute `value`, or 0, where there is no such place (-1). */
typedef int64_t place_of(const reference_call *c, const int64_t *index);
bool picking_reference(reference_call *c, int rank, const int64_t *shape, place_of *place);

/* Runs over all elements of a shape: index[] and, row-major, *i. Begin with zeros; false behind the last. */
bool index_next(int rank, const int64_t *shape, int64_t *index);
int64_t shape_product(int rank, const int64_t *shape);
/* The shape that all operands broadcast to; its rank. */
int broadcast_shape(const reference_call *c, int64_t *shape);
/* Where index (of a larger rank) lies in an operand that is broadcast to it. */
int64_t broadcast_at(const operand *x, int rank, const int64_t *index);

/* The families: the rows of one are neighbours. */
/* clang-format off */
#define ROW_LISTS(X) \
    X(pointwise) X(bits) X(products) X(contractions) X(lines) X(transposed) X(convolutions) X(recurrent) X(reductions) X(statistics) X(losses) X(rows) X(norms) X(attention) \
    X(indexing) X(sorting) X(resampling) X(shapes) X(moves)
/* clang-format on */
typedef struct row_list {
    const operator_row *rows;
    size_t count;
} row_list;
#define DECLARE_ROWS(name) extern const row_list name##_rows;
ROW_LISTS(DECLARE_ROWS)

/* Writing samples down. */
#define DIMS(...) .rank = (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), .shape = {__VA_ARGS__}
#define WITH_INT(n, v)                                                                                                 \
    {                                                                                                                  \
        .name = n, .kind = TSR_ATTR_INT, .i = v                                                                        \
    }
#define WITH_BOOL(n, v)                                                                                                \
    {                                                                                                                  \
        .name = n, .kind = TSR_ATTR_BOOL, .i = v                                                                       \
    }
#define WITH_FLOAT(n, v)                                                                                               \
    {                                                                                                                  \
        .name = n, .kind = TSR_ATTR_FLOAT, .f = v                                                                      \
    }
#define WITH_DTYPE(n, v)                                                                                               \
    {                                                                                                                  \
        .name = n, .kind = TSR_ATTR_DTYPE, .i = v                                                                      \
    }
#define WITH_INTS(n, c, ...)                                                                                           \
    {                                                                                                                  \
        .name = n, .kind = TSR_ATTR_INTS, .values = (const int64_t[]){__VA_ARGS__}, .count = c                         \
    }
#define SAMPLES(list) .samples = list, .sample_count = sizeof(list) / sizeof *(list)

#endif
