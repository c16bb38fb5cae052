/* Which of the recorder's things a Vulkan handle stands for. */
#ifndef TESSERA_TESTS_ORDER_HANDLES_H
#define TESSERA_TESTS_ORDER_HANDLES_H

#include <stdbool.h>
#include <stdint.h>

typedef enum handle_kind { /* drivers may give equal handles to things of different kinds */
                           HANDLE_DEVICE,
                           HANDLE_BUFFER,
                           HANDLE_MEMORY,
                           HANDLE_SEMAPHORE,
                           HANDLE_MODULE,
                           HANDLE_PIPELINE,
                           HANDLE_SET,
                           HANDLE_COMMANDS,
} handle_kind;

typedef struct handle_slot {
    uint64_t handle;
    const void *device;
    handle_kind kind;
    bool taken, dead;
    void *thing;
} handle_slot;

typedef struct handle_map {
    handle_slot *slots;
    uint32_t capacity, used; /* with dead ones */
} handle_map;

/* Replaces what stood there; false without memory. `device` tells equal handles of two devices apart. */
bool handle_put(handle_map *map, handle_kind kind, const void *device, uint64_t handle, void *thing);
void *handle_get(const handle_map *map, handle_kind kind, const void *device, uint64_t handle);
/* What stood there, or NULL. */
void *handle_take(handle_map *map, handle_kind kind, const void *device, uint64_t handle);
/* Takes all that is left of the device. */
void handle_clear(handle_map *map, const void *device, void (*release)(handle_kind kind, void *thing));

#endif
