/* A tensor inside the library: a view (dtype, shape, strides, offset) of a counted storage. */
#ifndef TESSERA_TENSOR_TENSOR_H
#define TESSERA_TENSOR_TENSOR_H

#include <stdatomic.h>

#include "hal/hal.h"
#include "memory/allocator.h"
#include "tessera/tensor.h"

typedef struct tsr_tensor tensor;
struct scope;
struct tape_node;

/* Device memory that views share. Returns to the caching allocator with its last view. */
typedef struct storage {
    atomic_int references;
    atomic_uint version; /* counts changes in place: the tape compares it with what it saved */
    tsr_device *device;  /* one reference */
    memory_block *block; /* NULL for zero bytes */
    size_t bytes;
} storage;

struct tsr_tensor {
    atomic_int references;
    storage *storage;
    tsr_dtype dtype;
    int rank;
    int64_t shape[TSR_MAX_RANK];
    int64_t strides[TSR_MAX_RANK]; /* elements */
    int64_t offset;                /* elements from the storage's start */
    int64_t numel;

    struct scope *scope; /* that owns one reference, at `scope_slot`; NULL if none does */
    size_t scope_slot;

    /* autograd */
    bool requires_grad;                           /* leaf */
    tensor *grad;                                 /* of a leaf; owned */
    struct tape_node *node;                       /* that computed this tensor; one reference; NULL for leaves */
    void (*node_release)(struct tape_node *node); /* the tape's: it lies above this layer */
    int node_output;
};

/* A contiguous tensor that no scope owns: the caller holds the one reference. */
tensor *tensor_new(tsr_device *device, tsr_dtype dtype, int rank, const int64_t *shape);
/* A view of x's storage, likewise. Shape and strides were checked by the caller. */
tensor *tensor_view(const tensor *x, int rank, const int64_t *shape, const int64_t *strides, int64_t offset);
/* The whole of x once more: another tensor, outside any record. */
tensor *tensor_alias(const tensor *x);
/* Gives the caller's reference to the innermost scope, if there is one. NULL stays NULL. */
tensor *tensor_to_scope(tensor *t);

bool shape_numel(int rank, const int64_t *shape,
                 int64_t *numel); /* fails with a sentence on overflow or a negative size */
void strides_contiguous(int rank, const int64_t *shape, int64_t *strides);
bool shape_equal(const tensor *a, const tensor *b);
/* NumPy's broadcasting of two shapes into out; false (no message) if they do not fit. */
bool shape_broadcast(int rank_a, const int64_t *a, int rank_b, const int64_t *b, int *rank, int64_t *out);
/* "[64, 784]" in a buffer of the thread that lasts for eight calls: for messages. */
const char *shape_text(int rank, const int64_t *shape);
const char *tensor_text(const tensor *t); /* "f32 [64, 784] on vulkan:0" */
/* Axis in [-rank, rank) to [0, rank); fails naming `what`. */
bool axis_normalize(const char *what, int axis, int rank, int *out);

/* Its memory belongs to this owner from now on (memory/label.h). */
void tensor_label(const tensor *t, tsr_memory_kind kind, const char *name);

/* What a kernel may touch of t: from its first element to behind its last. numel > 0. */
hal_binding tensor_binding(const tensor *t);

/* Neighbouring dimensions that can be walked as one are merged, sizes of 1 dropped: the same elements in the same
 * row-major order with the fewest dimensions. All operands share `shape`; strides[i] is operand i's. Returns the rank (≥ 1). */
int dims_collapse(int rank, int64_t *shape, int operands, int64_t (*strides)[TSR_MAX_RANK]);

#define DTYPE_BIT(d) (1u << (d))
#define DTYPES_FLOAT (DTYPE_BIT(TSR_F32) | DTYPE_BIT(TSR_F16) | DTYPE_BIT(TSR_BF16) | DTYPE_BIT(TSR_F64))
#define DTYPES_INT   (DTYPE_BIT(TSR_I32) | DTYPE_BIT(TSR_I64))
#define DTYPES_ALL   0xffu
static inline bool dtype_is_float(tsr_dtype d)
{
    return (DTYPES_FLOAT & DTYPE_BIT(d)) != 0;
}

#endif
