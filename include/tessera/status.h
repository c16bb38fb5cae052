/* Status codes and the thread's error message.
 *
 * A function that can fail returns a tsr_status, or a pointer that is NULL on failure. Either way the
 * message of the failure is kept for the calling thread and read with tsr_last_error(). Nothing in the
 * library prints, aborts or exits. */
#ifndef TESSERA_STATUS_H
#define TESSERA_STATUS_H

#if defined(_WIN32)
#define TSR_API __declspec(dllexport)
#elif defined(__GNUC__)
#define TSR_API __attribute__((visibility("default")))
#else
#define TSR_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum tsr_status {
    TSR_OK = 0,
    TSR_INVALID_ARGUMENT,     /* a value that no device could accept: shapes that do not match, a bad name */
    TSR_OUT_OF_RANGE,         /* an index, axis, offset or size outside its limits */
    TSR_UNSUPPORTED,          /* valid, but this device, dtype or build cannot do it */
    TSR_NOT_FOUND,            /* no such file, operator, kernel or parameter */
    TSR_NO_DEVICE,            /* no such device, or none at all */
    TSR_OUT_OF_MEMORY,        /* host memory */
    TSR_OUT_OF_DEVICE_MEMORY, /* device memory, or the limit set for it */
    TSR_DEVICE_LOST,          /* sticky: every later call on that device returns it */
    TSR_DRIVER_ERROR,         /* the driver refused; the message holds its own code */
    TSR_IO_ERROR,             /* the operating system refused; the message holds its reason */
    TSR_CORRUPT_DATA          /* a file that is truncated, damaged or not of its format */
} tsr_status;

/* The constant's name, "TSR_OUT_OF_RANGE". Never NULL. */
TSR_API const char *tsr_status_name(tsr_status status);

/* The message of this thread's latest failure, a sentence without a final newline; "" if there was none since
 * tsr_clear_error(). A call that was handed NULL because an earlier one failed does not replace the message, so
 * after y = tsr_relu(tsr_linear(x, w, b)) it still tells what tsr_linear found. Valid until the thread's next
 * failure. */
TSR_API const char *tsr_last_error(void);

/* The status that goes with tsr_last_error(); TSR_OK if there was no failure. */
TSR_API tsr_status tsr_last_status(void);

TSR_API void tsr_clear_error(void);

#ifdef __cplusplus
}
#endif
#endif
