/* What the compiler can check or do for us, spelled once. */
#ifndef TESSERA_BASE_COMPILER_H
#define TESSERA_BASE_COMPILER_H

#if defined(__GNUC__)
/* Argument `string` (counted from 1) is a printf format for the arguments from `first` on (0 for a va_list). */
#define PRINTF_LIKE(string, first) __attribute__((format(printf, string, first)))
#define LIKELY(condition)          __builtin_expect(!!(condition), 1)
#define UNLIKELY(condition)        __builtin_expect(!!(condition), 0)
#else
#define PRINTF_LIKE(string, first)
#define LIKELY(condition)   (condition)
#define UNLIKELY(condition) (condition)
#endif

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

#endif
