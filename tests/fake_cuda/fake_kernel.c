#include "fake_kernel.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

enum { FIBER_STACK = 64 << 10, GROUP_MAX = 1024 };

typedef struct place {
    uint32_t thread[3], block[3], group[3], grid[3];
} place;

struct fake_code {
    void *handle;
    place *(*place_of_thread)(void);
    void (**barrier)(void);
    bool has_barriers;
};

bool fake_code_is_host(const unsigned char *image)
{
    return memcmp(image, "\177ELF", 4) == 0 && !(image[18] == 190 && image[19] == 0); /* 190 is EM_CUDA */
}

fake_code *fake_code_open(const void *image, size_t size)
{
    const char *folder = getenv("TMPDIR");
    char path[512];
    fake_code *code = calloc(1, sizeof *code);
    const int *has_barriers;
    int file;

    snprintf(path, sizeof path, "%s/fake_cuda_XXXXXX", folder ? folder : "/tmp");
    file = mkstemp(path);
    if (file < 0 || write(file, image, size) != (ssize_t)size) {
        free(code);
        return NULL;
    }
    close(file);
    code->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!code->handle)
        fake_cuda_violation("%s", dlerror());
    unlink(path);
    if (!code->handle) {
        free(code);
        return NULL;
    }
    *(void **)&code->place_of_thread = dlsym(code->handle, "emu_place_of_thread");
    code->barrier = dlsym(code->handle, "emu_barrier");
    has_barriers = dlsym(code->handle, "emu_has_barriers");
    code->has_barriers = has_barriers && *has_barriers;
    return code;
}

void fake_code_close(fake_code *code)
{
    dlclose(code->handle);
    free(code);
}

bool fake_code_find(fake_code *code, const char *name, fake_entry *entry)
{
    char symbol[160];

    snprintf(symbol, sizeof symbol, "emu_signature_%s", name);
    entry->signature = dlsym(code->handle, symbol);
    snprintf(symbol, sizeof symbol, "emu_call_%s", name);
    *(void **)&entry->call = dlsym(code->handle, symbol);
    return entry->signature && entry->call;
}

/* ---- fibers ------------------------------------------------------------------------------------------------------ */

typedef struct fiber {
    ucontext_t context;
    enum { RUNNING, AT_BARRIER, DONE } state;
} fiber;

/* Of one work-group; each host thread has its own. */
static _Thread_local struct {
    fiber *fibers;
    unsigned char *stacks;
    uint32_t size; /* there are */
    uint32_t current;
    ucontext_t scheduler;
    const fake_entry *entry;
    void **arguments;
} group;

static void fiber_main(void)
{
    group.entry->call(group.arguments);
    group.fibers[group.current].state = DONE;
    swapcontext(&group.fibers[group.current].context, &group.scheduler);
}

static void barrier(void)
{
    const uint32_t me = group.current;

    group.fibers[me].state = AT_BARRIER;
    swapcontext(&group.fibers[me].context, &group.scheduler);
}

static void make_room(uint32_t size)
{
    if (group.size >= size)
        return;
    free(group.fibers);
    free(group.stacks);
    group.fibers = calloc(size, sizeof *group.fibers);
    group.stacks = malloc((size_t)size * FIBER_STACK);
    group.size = size;
}

/* Lets thread i run to its next barrier, or to its end. In a function of its own: swapcontext returns twice. */
static void step(place *here, uint32_t i)
{
    group.current = i;
    here->thread[0] = i;
    group.fibers[i].state = RUNNING;
    swapcontext(&group.scheduler, &group.fibers[i].context);
}

static void begin(uint32_t i)
{
    fiber *f = &group.fibers[i];

    getcontext(&f->context);
    f->context.uc_stack.ss_sp = group.stacks + (size_t)i * FIBER_STACK;
    f->context.uc_stack.ss_size = FIBER_STACK;
    f->context.uc_link = NULL;
    makecontext(&f->context, fiber_main, 0);
}

static bool run_with_barriers(place *here, uint32_t size)
{
    uint32_t done;

    make_room(size);
    for (uint32_t i = 0; i < size; i++)
        begin(i);
    do {
        done = 0;
        for (uint32_t i = 0; i < size; i++) {
            step(here, i);
            done += group.fibers[i].state == DONE;
        }
    } while (done == 0);
    return done == size;
}

bool fake_code_run(fake_code *code, const fake_entry *entry, void **arguments, const uint32_t grid[3],
                   uint32_t group_size)
{
    place *here = code->place_of_thread();
    bool agreed = true;

    group.entry = entry;
    group.arguments = arguments;
    *code->barrier = barrier;
    *here = (place){.group = {group_size, 1, 1}, .grid = {grid[0], grid[1], grid[2]}};
    for (uint32_t z = 0; z < grid[2]; z++)
        for (uint32_t y = 0; y < grid[1]; y++)
            for (uint32_t x = 0; x < grid[0] && agreed; x++) {
                here->block[0] = x;
                here->block[1] = y;
                here->block[2] = z;
                if (code->has_barriers) {
                    agreed = run_with_barriers(here, group_size);
                    continue;
                }
                for (uint32_t i = 0; i < group_size; i++) {
                    here->thread[0] = i;
                    entry->call(arguments);
                }
            }
    free(group.fibers);
    free(group.stacks);
    group.fibers = NULL;
    group.stacks = NULL;
    group.size = 0;
    return agreed;
}
