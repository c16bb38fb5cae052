/* Batches from the loader into device memory, on a queue of their own where the device has one that works beside the operators'. */
#ifndef TESSERA_DATA_UPLOADER_H
#define TESSERA_DATA_UPLOADER_H

#include "data/loader.h"
#include "tensor/device.h"

typedef struct uploader uploader;

/* Takes its batches, of at most `room` samples, from `source`; they are of the data set. Both must outlive it. NULL after an error. */
uploader *uploader_create(const tsr_dataset *dataset, tsr_device *device, loader *source, int64_t room);
void uploader_destroy(uploader *u); /* NULL is fine */

/* Forgets what was uploaded and not given: before the loader begins elsewhere. */
void uploader_forget(uploader *u);

/* The next batch as tensors of the current scope; *count 0 behind the last. The host does not wait for the device, unless it is far ahead. */
tsr_status uploader_next(uploader *u, tsr_tensor **samples, tsr_tensor **targets, int64_t *count);

#endif
