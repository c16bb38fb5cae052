/* Arithmetic on sizes that may come from outside: each function returns false, with *out unspecified, where the
 * result does not fit. */
#ifndef TESSERA_BASE_CHECKED_H
#define TESSERA_BASE_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool checked_add_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

static inline bool checked_mul_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

static inline bool checked_add_i64(int64_t a, int64_t b, int64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

static inline bool checked_mul_i64(int64_t a, int64_t b, int64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

/* Whether [offset, offset + length) lies within [0, size). An empty range fits up to and including offset == size. */
static inline bool range_fits(size_t offset, size_t length, size_t size)
{
    return offset <= size && length <= size - offset;
}

/* The next multiple of `alignment` (not 0; any number, not only powers of two) at or above `value`. */
static inline bool align_up_size(size_t value, size_t alignment, size_t *out)
{
    const size_t rest = value % alignment;
    if (rest == 0) {
        *out = value;
        return true;
    }
    return checked_add_size(value, alignment - rest, out);
}

/* ceil(a / b), b not 0; cannot overflow. */
static inline size_t div_up_size(size_t a, size_t b)
{
    return a / b + (a % b != 0);
}

static inline size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

static inline int64_t min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t max_i64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static inline int min_int(int a, int b)
{
    return a < b ? a : b;
}

static inline int max_int(int a, int b)
{
    return a > b ? a : b;
}

#endif
