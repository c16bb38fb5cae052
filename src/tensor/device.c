/* Open devices: a counted list, so that one device opened twice is one handle. */
#include "tensor/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "hal/registry.h"
#include "tensor/tensor.h"

static mutex open_lock = MUTEX_INIT; /* guards the list and the references of what is in it */
static tsr_device *open_devices;

uint32_t dtypes_of_features(uint32_t features)
{
    uint32_t dtypes = DTYPE_BIT(TSR_F32) | DTYPE_BIT(TSR_I32);
    if ((features & HAL_FEATURE_STORAGE_16) != 0)
        dtypes |= DTYPE_BIT(TSR_F16) | DTYPE_BIT(TSR_BF16);
    if ((features & HAL_FEATURE_STORAGE_8) != 0)
        dtypes |= DTYPE_BIT(TSR_U8) | DTYPE_BIT(TSR_BOOL);
    if ((features & HAL_FEATURE_INT64) != 0)
        dtypes |= DTYPE_BIT(TSR_I64);
    if ((features & HAL_FEATURE_FLOAT64) != 0)
        dtypes |= DTYPE_BIT(TSR_F64);
    return dtypes;
}

uint32_t device_dtypes(const tsr_device *device)
{
    return dtypes_of_features(device->hal->info.features);
}

static void device_destroy(tsr_device *d)
{
    if (d->kernels != NULL)
        d->kernels_free(d->kernels);
    if (d->generator != NULL)
        hal_buffer_free(d->generator);
    allocator_destroy(d->memory);
    allocator_destroy(d->pinned);
    if (d->copies != d->queue)
        hal_queue_destroy(d->copies);
    if (d->queue != NULL)
        hal_queue_destroy(d->queue);
    if (d->hal != NULL)
        hal_device_close(d->hal);
    mutex_destroy(&d->lock);
    mutex_destroy(&d->generator_lock);
    host_free(d);
}

/* Words 0 and 1 are the Philox key; the kernels read it as i32. */
static tsr_status generator_write(tsr_device *d)
{
    const uint32_t key[4] = {(uint32_t)d->seed, (uint32_t)(d->seed >> 32)};
    return hal_buffer_write(d->queue, d->generator, 0, key, sizeof key);
}

static tsr_device *device_create(device_ref ref)
{
    tsr_device *d = host_alloc_zeroed(1, sizeof *d);
    if (d == NULL)
        return NULL;
    atomic_init(&d->references, 1);
    mutex_init(&d->lock);
    mutex_init(&d->generator_lock);
    device_ref_id(ref, d->id, sizeof d->id);
    if (hal_device_open(ref.backend, ref.index, &d->hal) == TSR_OK &&
        hal_queue_create(d->hal, HAL_QUEUE_COMPUTE, &d->queue) == TSR_OK &&
        allocator_create(d->hal, HAL_MEMORY_DEVICE, &d->memory) == TSR_OK &&
        allocator_create(d->hal, HAL_MEMORY_HOST, &d->pinned) == TSR_OK &&
        hal_buffer_alloc(d->hal, HAL_MEMORY_DEVICE, 16, &d->generator) == TSR_OK && generator_write(d) == TSR_OK)
        return d;
    error_state why;
    error_save(&why);
    device_destroy(d);
    error_restore(&why);
    fail_prefix("device %s:%u", ref.backend->name, ref.index);
    return NULL;
}

tsr_device *tsr_device_open(const char *id)
{
    device_ref ref;
    char name[DEVICE_ID_SIZE];
    if (id == NULL)
        id = getenv("TESSERA_DEVICE");
    if (registry_parse(id == NULL || id[0] == '\0' ? "cpu" : id, &ref) != TSR_OK)
        return NULL;
    device_ref_id(ref, name, sizeof name);

    mutex_lock(&open_lock);
    tsr_device *d = open_devices;
    while (d != NULL && strcmp(d->id, name) != 0)
        d = d->next;
    if (d != NULL) {
        atomic_fetch_add(&d->references, 1);
    } else if ((d = device_create(ref)) != NULL) {
        d->next = open_devices;
        open_devices = d;
    }
    mutex_unlock(&open_lock);
    return d;
}

tsr_device *device_retain(tsr_device *device)
{
    atomic_fetch_add_explicit(&device->references, 1, memory_order_relaxed);
    return device;
}

/* The list's lock is taken only by who may be the last: tensors come and go without it. */
void tsr_device_close(tsr_device *device)
{
    if (device == NULL)
        return;
    int held = atomic_load(&device->references);
    while (held > 1)
        if (atomic_compare_exchange_weak(&device->references, &held, held - 1))
            return;
    mutex_lock(&open_lock);
    const bool last = atomic_fetch_sub(&device->references, 1) == 1;
    if (last)
        for (tsr_device **link = &open_devices; *link != NULL; link = &(*link)->next)
            if (*link == device) {
                *link = device->next;
                break;
            }
    mutex_unlock(&open_lock);
    if (last)
        device_destroy(device);
}

hal_queue *device_copy_queue(tsr_device *d)
{
    mutex_lock(&d->lock);
    if (d->copies == NULL) {
        const char *wish = getenv("TESSERA_COPY_QUEUE");
        const bool own = wish != NULL && wish[0] != '\0' ? strcmp(wish, "0") != 0 : d->hal->info.copies_apart;
        if (!own)
            d->copies = d->queue;
        else if (hal_queue_create(d->hal, HAL_QUEUE_COPY, &d->copies) != TSR_OK)
            d->copies = NULL;
    }
    hal_queue *queue = d->copies;
    mutex_unlock(&d->lock);
    return queue;
}

const char *tsr_device_id(const tsr_device *device)
{
    return device == NULL ? "" : device->id;
}

static void info_convert(const char *id, const hal_backend *backend, const hal_device_info *from, tsr_device_info *to)
{
    memset(to, 0, sizeof *to);
    snprintf(to->id, sizeof to->id, "%s", id);
    snprintf(to->backend, sizeof to->backend, "%s", backend->name);
    memcpy(to->name, from->name, sizeof to->name);
    memcpy(to->vendor, from->vendor, sizeof to->vendor);
    memcpy(to->driver, from->driver, sizeof to->driver);
    memcpy(to->uuid, from->uuid, sizeof to->uuid);
    memcpy(to->notes, from->notes, sizeof to->notes);
    to->software = from->software;
    to->unified_memory = from->unified_memory;
    to->memory_bytes = from->memory_bytes;
    to->compute_units = from->compute_units;
    to->dtypes = dtypes_of_features(from->features);
}

tsr_status tsr_device_describe(tsr_device *device, tsr_device_info *info)
{
    if (device == NULL || info == NULL)
        return fail(TSR_INVALID_ARGUMENT, "tsr_device_describe: an argument is NULL");
    info_convert(device->id, device->hal->backend, &device->hal->info, info);
    return TSR_OK;
}

tsr_status tsr_device_list(tsr_device_info *rows, size_t capacity, size_t *count)
{
    char why[256];
    if (count == NULL)
        return fail(TSR_INVALID_ARGUMENT, "tsr_device_list: count is NULL");
    *count = 0;
    for (const hal_backend *const *b = hal_backends; *b != NULL; b++) {
        uint32_t n = 0;
        if ((*b)->enumerate(&n, why, sizeof why) != TSR_OK)
            continue; /* tsr_device_missing tells why */
        for (uint32_t i = 0; i < n; i++, ++*count) {
            hal_device_info info = {0};
            char id[DEVICE_ID_SIZE];
            if (*count >= capacity || rows == NULL)
                continue;
            if ((*b)->info(i, &info) != TSR_OK)
                snprintf(info.notes, sizeof info.notes, "%.255s", tsr_last_error());
            device_ref_id((device_ref){*b, i}, id, sizeof id);
            info_convert(id, *b, &info, &rows[*count]);
        }
    }
    return TSR_OK;
}

bool tsr_device_missing(size_t i, char *backend, size_t backend_size, char *why, size_t why_size)
{
    char sentence[512];
    for (const hal_backend *const *b = hal_backends; *b != NULL; b++) {
        uint32_t n = 0;
        if ((*b)->for_tests)
            continue;
        sentence[0] = '\0';
        const tsr_status status = (*b)->enumerate(&n, sentence, sizeof sentence);
        if ((status == TSR_OK && n > 0) || i-- > 0)
            continue;
        snprintf(backend, backend_size, "%s", (*b)->name);
        snprintf(why, why_size, "%s", status == TSR_OK ? sentence : tsr_last_error());
        return true;
    }
    return false;
}

tsr_status tsr_device_sync(tsr_device *device)
{
    return device == NULL ? fail(TSR_INVALID_ARGUMENT, "tsr_device_sync: the device is NULL")
                          : hal_queue_sync(device->queue);
}

tsr_status tsr_device_flush(tsr_device *device)
{
    return device == NULL ? fail(TSR_INVALID_ARGUMENT, "tsr_device_flush: the device is NULL")
                          : hal_queue_flush(device->queue);
}

tsr_status tsr_device_status(tsr_device *device)
{
    return device == NULL ? fail(TSR_INVALID_ARGUMENT, "tsr_device_status: the device is NULL")
                          : hal_device_status(device->hal);
}

tsr_device_counters tsr_device_counters_get(tsr_device *device)
{
    if (device == NULL)
        return (tsr_device_counters){0};
    const hal_counters c = hal_device_counters(device->hal);
    return (tsr_device_counters){.driver_allocations = c.allocations,
                                 .programs_built = c.kernels_created,
                                 .launches = c.launches,
                                 .host_waits = c.host_waits};
}

tsr_status tsr_random_state_set(tsr_device *device, const tsr_random_state *state)
{
    if (device == NULL || state == NULL)
        return fail(TSR_INVALID_ARGUMENT, "tsr_random_state_set: an argument is NULL");
    mutex_lock(&device->generator_lock);
    device->seed = state->seed;
    device->draws = state->draws;
    device->host_draws = state->host_draws;
    const tsr_status status = generator_write(device);
    mutex_unlock(&device->generator_lock);
    return status;
}

tsr_random_state tsr_random_state_get(tsr_device *device)
{
    tsr_random_state state = {0};
    if (device == NULL)
        return state;
    mutex_lock(&device->generator_lock);
    state = (tsr_random_state){device->seed, device->draws, device->host_draws};
    mutex_unlock(&device->generator_lock);
    return state;
}

tsr_status tsr_seed(tsr_device *device, uint64_t seed)
{
    if (device == NULL)
        return fail(TSR_INVALID_ARGUMENT, "tsr_seed: the device is NULL");
    return tsr_random_state_set(device, &(tsr_random_state){.seed = seed});
}

bool device_random_rewind(tsr_device *device, const tsr_random_state *state)
{
    mutex_lock(&device->generator_lock);
    const bool same = device->seed == state->seed;
    if (same) { /* of the rest the device knows nothing */
        device->draws = state->draws;
        device->host_draws = state->host_draws;
    }
    mutex_unlock(&device->generator_lock);
    return same || tsr_random_state_set(device, state) == TSR_OK;
}

uint64_t device_next_draw(tsr_device *device)
{
    mutex_lock(&device->generator_lock);
    const uint64_t draw = device->draws++;
    mutex_unlock(&device->generator_lock);
    return draw;
}

uint64_t device_next_host_draw(tsr_device *device, uint64_t *seed)
{
    mutex_lock(&device->generator_lock);
    const uint64_t draw = device->host_draws++;
    *seed = device->seed;
    mutex_unlock(&device->generator_lock);
    return draw;
}
