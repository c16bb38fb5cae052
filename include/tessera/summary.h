/* Curves for TensorBoard: a writer of event files (torch.utils.tensorboard.SummaryWriter).
 *
 *     tsr_summary_writer *w = tsr_summary_writer_create("runs/first");
 *     tsr_summary_add_scalar(w, "train/loss", loss, step);
 *     tsr_summary_writer_destroy(w);
 *
 * and then `tensorboard --logdir runs`. A writer is used by one thread at a time. */
#ifndef TESSERA_SUMMARY_H
#define TESSERA_SUMMARY_H

#include <stdint.h>

#include "tessera/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tsr_summary_writer tsr_summary_writer;

/* A new file in `folder`, which is made with those above it if need be: events.out.tfevents.<seconds>.<host>.<process>.<number>. A folder may hold several:
 * a training that goes on writes another, and TensorBoard puts them together. NULL after an error: TSR_IO_ERROR, TSR_OUT_OF_MEMORY. */
TSR_API tsr_summary_writer *tsr_summary_writer_create(const char *folder);

/* One point of the curve `tag` ("train/loss": what stands before the slash is a group); tags are UTF-8. The value is kept as f32, NaN and infinities too.
 * Buffered: on the disk after a flush, a destroy, or 2 minutes and the next call. Errors: TSR_IO_ERROR; TSR_INVALID_ARGUMENT: no tag, a negative step. */
TSR_API tsr_status tsr_summary_add_scalar(tsr_summary_writer *writer, const char *tag, double value, int64_t step);

TSR_API tsr_status tsr_summary_flush(tsr_summary_writer *writer);

/* The file's path, as long as the writer lives. */
TSR_API const char *tsr_summary_path(const tsr_summary_writer *writer);

/* Flushes; who wants to know whether that went well flushes before. NULL is fine. */
TSR_API void tsr_summary_writer_destroy(tsr_summary_writer *writer);

#ifdef __cplusplus
}
#endif
#endif
