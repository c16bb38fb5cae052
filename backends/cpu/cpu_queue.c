/* Commands of the CPU device: they are done when the call returns. */
#include "backends/cpu/cpu.h"

#include "base/checked.h"

#include <string.h>

/* Moves and fills are cut into such pieces, one task each. Below two of them a wake costs more than it brings. */
#define PIECE ((size_t)256 << 10)

/* A launch that touches less memory than this runs on the calling thread. */
#define TINY_LAUNCH ((size_t)8 << 10)

/* Parts of a grid for each thread: enough to even out work-groups of different cost. */
enum { PARTS_PER_THREAD = 8 };

typedef struct move {
    unsigned char *to;
    const unsigned char *from;
    size_t size;
} move;

static void move_piece(void *context, size_t index, int worker)
{
    (void)worker;
    const move *m = context;
    const size_t begin = index * PIECE;
    memcpy(m->to + begin, m->from + begin, min_size(PIECE, m->size - begin));
}

static void move_bytes(cpu_device *device, void *to, const void *from, size_t size)
{
    if (size < 2 * PIECE)
        memcpy(to, from, size);
    else
        thread_pool_run(device->pool, move_piece, &(move){.to = to, .from = from, .size = size},
                        div_up_size(size, PIECE));
}

tsr_status cpu_write(hal_queue *queue, hal_buffer *buffer, size_t offset, const void *source, size_t size)
{
    cpu_device *device = cpu_device_of(queue);
    const tsr_status status = cpu_check(device);
    if (status == TSR_OK)
        move_bytes(device, ((cpu_buffer *)buffer)->data + offset, source, size);
    return status;
}

tsr_status cpu_copy(hal_queue *queue, hal_buffer *from, size_t from_offset, hal_buffer *to, size_t to_offset,
                    size_t size)
{
    cpu_device *device = cpu_device_of(queue);
    const tsr_status status = cpu_check(device);
    if (status == TSR_OK)
        move_bytes(device, ((cpu_buffer *)to)->data + to_offset, ((cpu_buffer *)from)->data + from_offset, size);
    return status;
}

typedef struct filling {
    unsigned char *to;
    size_t size;
    uint32_t pattern;
} filling;

/* The offset is a multiple of 4 and blocks are aligned, so words may be stored. */
static void fill_bytes(unsigned char *to, size_t size, uint32_t pattern)
{
    const unsigned char byte = (unsigned char)pattern;
    if (pattern == byte * UINT32_C(0x01010101)) {
        memset(to, byte, size);
        return;
    }
    uint32_t *words = (uint32_t *)(void *)to;
    for (size_t i = 0; i < size / 4; i++)
        words[i] = pattern;
}

static void fill_piece(void *context, size_t index, int worker)
{
    (void)worker;
    const filling *f = context;
    const size_t begin = index * PIECE;
    fill_bytes(f->to + begin, min_size(PIECE, f->size - begin), f->pattern);
}

tsr_status cpu_fill(hal_queue *queue, hal_buffer *buffer, size_t offset, size_t size, uint32_t pattern)
{
    cpu_device *device = cpu_device_of(queue);
    const tsr_status status = cpu_check(device);
    if (status != TSR_OK)
        return status;
    filling f = {.to = ((cpu_buffer *)buffer)->data + offset, .size = size, .pattern = pattern};
    if (size < 2 * PIECE)
        fill_bytes(f.to, size, pattern);
    else
        thread_pool_run(device->pool, fill_piece, &f, div_up_size(size, PIECE));
    return TSR_OK;
}

typedef struct grid_run {
    hal_native_fn *run;
    void *bindings[HAL_MAX_BINDINGS];
    const void *params;
    const uint32_t *grid;
    uint64_t groups, parts;
} grid_run;

/* The first of `groups` work-groups that belongs to `part`. */
static uint64_t part_begin(const grid_run *g, uint64_t part)
{
    const uint64_t each = g->groups / g->parts, rest = g->groups % g->parts;
    return part * each + (part < rest ? part : rest);
}

static void run_part(void *context, size_t index, int worker)
{
    (void)worker;
    const grid_run *g = context;
    const uint64_t first = part_begin(g, index), end = part_begin(g, index + 1);
    g->run(g->bindings, g->params, g->grid, first, end - first);
}

tsr_status cpu_launch(hal_queue *queue, const hal_launch *launch)
{
    cpu_device *device = cpu_device_of(queue);
    const tsr_status status = cpu_check(device);
    if (status != TSR_OK)
        return status;

    grid_run g = {.run = ((cpu_kernel *)launch->kernel)->run,
                  .params = launch->params,
                  .grid = launch->grid,
                  .groups = (uint64_t)launch->grid[0] * launch->grid[1] * launch->grid[2]};
    size_t touched = 0;
    for (uint32_t i = 0; i < launch->binding_count; i++) {
        g.bindings[i] = cpu_address(&launch->bindings[i]);
        touched += min_size(launch->bindings[i].length, TINY_LAUNCH);
    }

    const uint64_t most = (uint64_t)thread_pool_size(device->pool) * PARTS_PER_THREAD;
    g.parts = g.groups < most ? g.groups : most;
    if (g.parts == 1 || touched < TINY_LAUNCH)
        g.run(g.bindings, g.params, g.grid, 0, g.groups);
    else
        thread_pool_run(device->pool, run_part, &g, (size_t)g.parts);
    return TSR_OK;
}
