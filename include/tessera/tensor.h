/* Tensors: typed, strided views of device memory, and the scopes that own them.
 *
 * Ownership. A function that returns a new tensor gives it to the innermost scope of the calling thread, which releases
 * it at its end. Without an open scope the caller owns it and calls tsr_release. tsr_keep takes one out of its scope; the caller
 * then releases it. A tensor may be released while the device still works on it.
 *
 * Errors. A function that returns a tensor returns NULL on failure, and for a NULL operand; tsr_last_error() tells what
 * failed first.
 *
 * Time. Functions queue work on the tensor's device and return; only those that say so wait.
 *
 * Threads. Any thread may use a device and its tensors; one tensor is changed by one thread at a time. */
#ifndef TESSERA_TENSOR_H
#define TESSERA_TENSOR_H

#include "tessera/device.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TSR_MAX_RANK 8

typedef struct tsr_tensor tsr_tensor;

typedef enum tsr_dtype {
    TSR_F32,
    TSR_F16,  /* IEEE binary16 */
    TSR_BF16, /* the upper half of a binary32 */
    TSR_F64,  /* the CPU device, and drivers that have it */
    TSR_I32,
    TSR_I64,
    TSR_U8,
    TSR_BOOL, /* one byte, 0 or 1 */
    TSR_DTYPE_COUNT
} tsr_dtype;

TSR_API const char *tsr_dtype_name(tsr_dtype dtype); /* "f32"; "?" for a value outside the enumeration */
TSR_API size_t tsr_dtype_size(tsr_dtype dtype);      /* bytes of an element; 0 likewise */
TSR_API bool tsr_dtype_parse(const char *name, tsr_dtype *dtype);

/* ---- scopes ------------------------------------------------------------------------------------------------ */

/* Scopes nest, and belong to the thread that opened them. */
TSR_API tsr_status tsr_scope_begin(void);
/* Releases what the innermost scope owns. Error: no scope is open. */
TSR_API tsr_status tsr_scope_end(void);

/* Moves a tensor out of the scope that owns it, and returns it; the caller must tsr_release it. A tensor that no scope owns
 * is returned as it is. */
TSR_API tsr_tensor *tsr_keep(tsr_tensor *tensor);
/* One more reference, owned by the caller. */
TSR_API tsr_tensor *tsr_retain(tsr_tensor *tensor);
/* Gives up a reference of the caller. NULL is allowed. */
TSR_API void tsr_release(tsr_tensor *tensor);

/* ---- making ------------------------------------------------------------------------------------------------- */

/* A contiguous (row-major) tensor. shape holds `rank` sizes ≥ 0, rank 0…8 (0: a scalar). Contents are undefined.
 * Errors: rank or a size out of range; a size in bytes that overflows; the device lacks the dtype; out of memory. */
TSR_API tsr_tensor *tsr_empty(tsr_device *device, tsr_dtype dtype, int rank, const int64_t *shape);
TSR_API tsr_tensor *tsr_zeros(tsr_device *device, tsr_dtype dtype, int rank, const int64_t *shape);
/* Every element `value`, converted as by a C cast, integers saturating. */
TSR_API tsr_tensor *tsr_full(tsr_device *device, tsr_dtype dtype, int rank, const int64_t *shape, double value);
/* start, start + step, … : `count` elements of rank 1. */
TSR_API tsr_tensor *tsr_arange(tsr_device *device, tsr_dtype dtype, int64_t count, double start, double step);
/* Independent samples from [low, high) or of the normal distribution (Box–Muller), from the device's generator. f32 f16 bf16 f64. */
TSR_API tsr_tensor *tsr_uniform(tsr_device *device, tsr_dtype dtype, int rank, const int64_t *shape, double low,
                                double high);
TSR_API tsr_tensor *tsr_normal(tsr_device *device, tsr_dtype dtype, int rank, const int64_t *shape, double mean,
                               double deviation);
/* Copies `data`, contiguous elements of `dtype` in host memory; it may be changed on return. */
TSR_API tsr_tensor *tsr_from_data(tsr_device *device, tsr_dtype dtype, int rank, const int64_t *shape,
                                  const void *data);

/* ---- looking ------------------------------------------------------------------------------------------------ */

TSR_API int tsr_rank(const tsr_tensor *tensor);
TSR_API int64_t tsr_size(const tsr_tensor *tensor, int axis); /* axis in [-rank, rank); 0 with an error outside */
TSR_API const int64_t *tsr_shape(const tsr_tensor *tensor);   /* rank sizes; lives as long as the tensor */
TSR_API const int64_t *tsr_strides(const tsr_tensor *tensor); /* in elements, ≥ 0 */
TSR_API int64_t tsr_storage_offset(const tsr_tensor *tensor); /* in elements */
TSR_API int64_t tsr_numel(const tsr_tensor *tensor);
TSR_API tsr_dtype tsr_dtype_of(const tsr_tensor *tensor);
TSR_API tsr_device *tsr_device_of(const tsr_tensor *tensor); /* borrowed */
TSR_API bool tsr_is_contiguous(const tsr_tensor *tensor);
/* Whether two tensors are views of the same memory. */
TSR_API bool tsr_shares_storage(const tsr_tensor *a, const tsr_tensor *b);

/* Copies all elements, row-major in the tensor's dtype, to host memory of `bytes` bytes (which must be exactly theirs). Waits. */
TSR_API tsr_status tsr_read(tsr_tensor *tensor, void *data, size_t bytes);
/* As f32, whatever the dtype; `count` must be tsr_numel. Waits. */
TSR_API tsr_status tsr_read_f32(tsr_tensor *tensor, float *values, size_t count);
/* The one element as a double. Error: more or fewer elements. Waits. */
TSR_API tsr_status tsr_item(tsr_tensor *tensor, double *value);
/* Replaces all elements by contiguous host data of the tensor's dtype; `data` may be changed on return. The tensor must be
 * contiguous. Does not wait. */
TSR_API tsr_status tsr_write(tsr_tensor *tensor, const void *data, size_t bytes);

/* ---- numbers that come back without a wait -------------------------------------------------------------------- */

/* A ring of scalars on the device, read back asynchronously: for the losses of a training loop. */
typedef struct tsr_meter tsr_meter;

/* Holds `capacity` values that have not been polled yet. The caller destroys it. */
TSR_API tsr_meter *tsr_meter_create(tsr_device *device, size_t capacity);
TSR_API void tsr_meter_destroy(tsr_meter *meter);
/* Appends a one-element f32 tensor's value, on the device. Error: the ring is full of values not polled. */
TSR_API tsr_status tsr_meter_add(tsr_meter *meter, tsr_tensor *value);
/* Starts the copy to the host of what was added since the last time. Does not wait. */
TSR_API tsr_status tsr_meter_flush(tsr_meter *meter);
/* Takes up to `capacity` values that have arrived, oldest first. Does not wait. Returns how many. */
TSR_API size_t tsr_meter_poll(tsr_meter *meter, float *values, size_t capacity);
/* Flushes and waits until all values added have arrived; then poll gives them. */
TSR_API tsr_status tsr_meter_drain(tsr_meter *meter);

#ifdef __cplusplus
}
#endif
#endif
