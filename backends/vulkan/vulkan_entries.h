/* The entries of the backend's table; src/hal/hal.h says what each does. */
#ifndef TESSERA_VULKAN_ENTRIES_H
#define TESSERA_VULKAN_ENTRIES_H

#include "backends/vulkan/vulkan_backend.h"

/* vulkan_device.c */
tsr_status vulkan_enumerate(uint32_t *count, char *why, size_t why_size);
tsr_status vulkan_info(uint32_t index, hal_device_info *info);
tsr_status vulkan_open(uint32_t index, hal_device **device);
void vulkan_close(hal_device *device);
tsr_status vulkan_device_status(hal_device *device);
void vulkan_lose(hal_device *device);

/* vulkan_queue.c */
tsr_status vulkan_queue_create(hal_device *device, hal_queue_kind kind, hal_queue **queue);
void vulkan_queue_destroy(hal_queue *queue);
tsr_status vulkan_write(hal_queue *queue, hal_buffer *buffer, size_t offset, const void *source, size_t size);
tsr_status vulkan_copy(hal_queue *queue, hal_buffer *from, size_t from_offset, hal_buffer *to, size_t to_offset,
                       size_t size);
tsr_status vulkan_fill(hal_queue *queue, hal_buffer *buffer, size_t offset, size_t size, uint32_t pattern);
tsr_status vulkan_queue_wait(hal_queue *queue, hal_event *event);
tsr_status vulkan_flush(hal_queue *queue);
tsr_status vulkan_sync(hal_queue *queue);

/* vulkan_kernel.c */
tsr_status vulkan_kernel_create(hal_device *device, const hal_kernel_desc *desc, hal_kernel **kernel);
void vulkan_kernel_destroy(hal_kernel *kernel);

/* vulkan_launch.c */
tsr_status vulkan_launch(hal_queue *queue, const hal_launch *launch);

/* vulkan_event.c */
tsr_status vulkan_event_create(hal_device *device, hal_event **event);
void vulkan_event_destroy(hal_event *event);
tsr_status vulkan_event_record(hal_queue *queue, hal_event *event);
tsr_status vulkan_event_query(hal_event *event, bool *done);
tsr_status vulkan_event_sync(hal_event *event);
tsr_status vulkan_event_elapsed(hal_event *from, hal_event *to, double *milliseconds);

#endif
