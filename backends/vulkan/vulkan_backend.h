/* The Vulkan backend's objects, and what its files offer each other.
 *
 * Locks, in the order in which they are taken: device->registry, queue->lock, then device->lock or lane->lock. */
#ifndef TESSERA_VULKAN_BACKEND_H
#define TESSERA_VULKAN_BACKEND_H

#include "backends/vulkan/vulkan_adapter.h"
#include "backends/vulkan/vulkan_hazards.h"
#include "base/thread.h"

#include <stdatomic.h>

enum {
    VULKAN_MAX_QUEUES = 16, /* of the HAL, on one device at a time */
    VULKAN_MAX_LANES = 5,   /* VkQueues of a device: 4 that compute, 1 that copies */
    VULKAN_BATCHES = 16,    /* command buffers of a queue that may be on their way to the driver */
    VULKAN_BATCH_COMMANDS = 100,
    VULKAN_EVENT_QUERIES = 4096 /* events of a device that can be timed, at a time */
};

/* The push-constant block: docs/kernel-dialect.md. */
enum {
    VULKAN_PUSH_BYTES = 128,
    VULKAN_PUSH_BASES = HAL_MAX_PARAMS, /* 8 bytes: where each binding begins behind its aligned start, in elements */
    VULKAN_PUSH_FIRST_GROUP = HAL_MAX_PARAMS + 8, /* uint: index of the first work-group, for grids beyond the limit */
};

typedef struct vulkan_queue vulkan_queue;

/* A VkQueue. HAL queues may share one: then `lock` makes them take turns, and their timelines stay apart. */
typedef struct vulkan_lane {
    VkQueue handle;
    uint32_t family;
    bool computes;
    uint32_t timestamp_bits; /* 0: it cannot tell the time */
    VkPipelineStageFlags stages;
    VkAccessFlags accesses;
    mutex lock;
} vulkan_lane;

/* How far a queue has come: batch n is done when the semaphore reaches n. Lives as long as the device, so that events
 * and buffers can outlive the queue; a later queue in the same place goes on counting. */
typedef struct vulkan_timeline {
    VkSemaphore semaphore; /* made with the first queue in this place */
    _Atomic uint64_t submitted;
    _Atomic uint64_t completed; /* as far as is known */
    vulkan_queue *queue;        /* guarded by device->registry */
    uint32_t index;
} vulkan_timeline;

/* For each timeline the last batch that uses an object; 0 for none. */
typedef struct vulkan_uses {
    uint64_t last[VULKAN_MAX_QUEUES];
} vulkan_uses;

/* What the driver may still be reading; destroyed when its uses are over. */
typedef struct vulkan_corpse {
    struct vulkan_corpse *next;
    vulkan_uses uses;
    VkBuffer buffer;
    VkDeviceMemory memory;
    VkPipeline pipeline;
} vulkan_corpse;

/* A query of a destroyed event that the device has yet to write. */
typedef struct vulkan_limbo {
    uint32_t query;
    uint32_t timeline;
    uint64_t value;
} vulkan_limbo;

typedef struct vulkan_device {
    hal_device base;
    const vulkan_adapter *adapter;
    vulkan_device_api vk;
    VkDevice handle;
    atomic_bool lost;

    vulkan_lane lanes[VULKAN_MAX_LANES];
    uint32_t lane_count, compute_lane_count; /* those that compute come first */
    uint32_t next_lane;
    vulkan_timeline timelines[VULKAN_MAX_QUEUES];
    mutex registry; /* guards which queue has which timeline */

    uint32_t alignment;    /* of what a descriptor points at */
    uint32_t set_bindings; /* storage buffers in the one layout that all kernels share */
    VkDescriptorSetLayout set_layout;
    VkPipelineLayout pipeline_layout;

    _Atomic uint32_t corpse_count;
    mutex lock; /* guards all that follows */
    vulkan_corpse *corpses;
    uint64_t next_buffer_id;
    VkPipelineCache pipeline_cache;
    char pipeline_cache_key[65];
    uint32_t pipelines_unsaved;
    uint64_t pipelines_saved_ns;
    VkQueryPool queries;
    uint32_t free_query_count, limbo_count;
    uint32_t free_queries[VULKAN_EVENT_QUERIES];
    vulkan_limbo limbo[VULKAN_EVENT_QUERIES];
} vulkan_device;

typedef struct vulkan_buffer {
    hal_buffer base;
    uint64_t id; /* never used again on this device */
    VkBuffer handle;
    VkDeviceMemory memory;
    void *mapped; /* HAL_MEMORY_HOST */
    bool host;
    vulkan_uses uses;
    vulkan_corpse *grave; /* dug when the buffer is made, so that freeing it cannot fail */
} vulkan_buffer;

typedef struct vulkan_kernel {
    hal_kernel base;
    VkPipeline pipeline;
    uint32_t binding_count, params_bytes;
    uint8_t access[HAL_MAX_BINDINGS], element_bytes[HAL_MAX_BINDINGS];
    vulkan_uses uses;
    vulkan_corpse *grave;
    char name[64];
} vulkan_kernel;

typedef struct vulkan_event {
    hal_event base;
    vulkan_timeline *timeline; /* of the latest record; NULL before the first */
    uint64_t value;
    uint32_t query;                  /* NO_QUERY if the pool had none left */
    bool timed;                      /* the latest record wrote the time */
    vulkan_timeline *query_timeline; /* of the latest record that did; NULL before the first */
    uint64_t query_value;
    uint32_t timestamp_bits;
} vulkan_event;

#define NO_QUERY UINT32_MAX

/* A command buffer on its way: recorded, then with the driver until the timeline reaches `value`, then recorded again. */
typedef struct vulkan_batch {
    VkCommandPool pool;
    VkCommandBuffer commands;
    VkDescriptorPool descriptors; /* without push descriptors: sets made once, written for each launch */
    VkDescriptorSet sets[VULKAN_BATCH_COMMANDS];
    uint64_t value;
    uint64_t staging_end; /* the staging ring is free up to here when the batch is done */
    uint32_t staging_generation;
} vulkan_batch;

/* A ring of host memory through which writes travel. Positions only grow; the place is position mod capacity. */
typedef struct vulkan_staging {
    vulkan_buffer *buffer;
    size_t capacity;
    uint64_t head, tail;
    uint32_t generation; /* counts the buffers it had: positions of an earlier one mean nothing */
} vulkan_staging;

struct vulkan_queue {
    hal_queue base;
    vulkan_device *device;
    vulkan_lane *lane;
    vulkan_timeline *timeline;
    mutex lock; /* guards all that follows: events reach into queues from any thread */

    vulkan_batch batches[VULKAN_BATCHES];
    uint32_t current; /* the batch that is recorded, or comes next */
    uint32_t oldest, in_flight;
    bool recording;
    uint32_t commands, launches; /* in the current batch */
    uint64_t bytes;              /* that they touch: an estimate of their work */
    bool writes_host_memory;
    VkPipeline bound_pipeline;
    uint64_t waits[VULKAN_MAX_QUEUES]; /* values of timelines that the batch waits for; 0 for none */
    uint64_t seen[VULKAN_MAX_QUEUES];  /* values that an earlier batch waited for */

    hazard_tracker hazards;
    vulkan_staging staging;
    uint64_t barriers, submits; /* since the queue was made; for tests */
};

/* ---- vulkan_device.c -------------------------------------------------------------------------------------------- */

/* The status for a driver's refusal, with a sentence: "vulkan: <what> failed: VK_…". Notes a lost device. */
tsr_status vulkan_fail(vulkan_device *device, VkResult result, const char *what);

/* TSR_OK, or TSR_DEVICE_LOST with its sentence. */
tsr_status vulkan_check_lost(vulkan_device *device);

/* For tests: devices opened from now on do without push descriptors. */
void vulkan_forbid_push_descriptors(bool forbid);

/* Objects that were asked of the driver since the process began: memory, buffers, pools, sets, semaphores,
 * pipelines. A program in its steady state makes none. */
uint64_t vulkan_driver_objects(void);
void vulkan_count_object(void);

/* ---- vulkan_memory.c -------------------------------------------------------------------------------------------- */

tsr_status vulkan_buffer_alloc(hal_device *device, hal_memory memory, size_t size, hal_buffer **buffer);
void vulkan_buffer_free(hal_buffer *buffer);
void *vulkan_buffer_map(hal_buffer *buffer);

/* Host memory for a queue that holds its own lock, and so cannot wait for others to free theirs. */
tsr_status vulkan_buffer_alloc_staging(vulkan_device *device, size_t size, vulkan_buffer **buffer);

/* Destroys what is no longer used; with `all`, everything: the device is idle. */
void vulkan_bury(vulkan_device *device, bool all);

/* Hands what `grave` names over for destruction after its uses. */
void vulkan_entomb(vulkan_device *device, vulkan_corpse *grave);

/* ---- vulkan_timeline.c ------------------------------------------------------------------------------------------ */

/* Whether the batch is done; asks the driver only if it is not known. A lost device's batches are never done. */
bool vulkan_timeline_reached(vulkan_device *device, vulkan_timeline *timeline, uint64_t value);

/* Waits for it. It must have been submitted. */
tsr_status vulkan_timeline_wait(vulkan_device *device, vulkan_timeline *timeline, uint64_t value);

/* Submits what a timeline's queue has recorded, if batch `value` is not yet submitted. */
tsr_status vulkan_timeline_flush(vulkan_device *device, vulkan_timeline *timeline, uint64_t value);

/* ---- vulkan_batch.c: with queue->lock held ------------------------------------------------------------------------ */

tsr_status vulkan_batches_create(vulkan_queue *queue);
void vulkan_batches_destroy(vulkan_queue *queue);

/* Makes sure that the current batch is being recorded; waits for the oldest where all are with the driver. */
tsr_status vulkan_batch_begin(vulkan_queue *queue);

/* Before a command: begins a batch if there is none, and places a barrier if the accesses need one. */
tsr_status vulkan_batch_prepare(vulkan_queue *queue, const hazard_access *accesses, size_t count);

/* After a command: notes its buffers, and submits when there is enough to do. */
tsr_status vulkan_batch_added(vulkan_queue *queue, uint64_t bytes);

/* The value that the current batch will signal. */
uint64_t vulkan_batch_value(const vulkan_queue *queue);

/* Submits what was recorded, if anything. */
tsr_status vulkan_batch_submit(vulkan_queue *queue);

/* Takes back the batches that are done. */
void vulkan_batch_reclaim(vulkan_queue *queue);

static inline void vulkan_use(const vulkan_queue *queue, vulkan_uses *uses)
{
    uses->last[queue->timeline->index] = vulkan_batch_value(queue);
}

/* ---- vulkan_staging.c: with queue->lock held ---------------------------------------------------------------------- */

/* The most that one call takes. */
enum { VULKAN_STAGING_PIECE = 16 << 20 };

/* Copies the source into the ring and gives the place; the command that reads it belongs to the current batch. */
tsr_status vulkan_staging_put(vulkan_queue *queue, const void *source, size_t size, VkBuffer *buffer, size_t *offset);

void vulkan_staging_destroy(vulkan_queue *queue);

/* ---- vulkan_pipeline_cache.c ------------------------------------------------------------------------------------- */

void vulkan_pipeline_cache_open(vulkan_device *device);
void vulkan_pipeline_cache_note(vulkan_device *device); /* after a pipeline was made; saves now and then */
void vulkan_pipeline_cache_close(vulkan_device *device);

#endif
