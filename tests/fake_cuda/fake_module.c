/* The fake driver's modules, and launches. */
#include "fake_driver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static cu_function functions;

/* Bytes of an ELF file, found from its section headers; 0 if it is none. */
static size_t elf_size(const unsigned char *image)
{
    uint64_t offset, where, length, end;
    uint16_t entry_size, count;
    uint32_t type;

    if (memcmp(image, "\177ELF\002", 5) != 0)
        return 0;
    memcpy(&offset, image + 40, 8);
    memcpy(&entry_size, image + 58, 2);
    memcpy(&count, image + 60, 2);
    end = offset + (uint64_t)entry_size * count;
    for (uint16_t i = 0; i < count; i++) {
        const unsigned char *header = image + offset + (uint64_t)i * entry_size;
        memcpy(&type, header + 4, 4);
        memcpy(&where, header + 24, 8);
        memcpy(&length, header + 32, 8);
        if (type != 8 && where + length > end) /* 8: without bytes in the file */
            end = where + length;
    }
    return (size_t)end;
}

EXPORT cu_result cuModuleLoadDataEx(cu_module *module, const void *image, unsigned int count, unsigned int *options,
                                    void **values)
{
    const char *text = image;
    size_t size = elf_size(image);
    int built_for;
    cu_result result;

    pthread_mutex_lock(&driver.lock);
    driver.state.loads++;
    for (unsigned int i = 0; i < count; i++) {
        if (options[i] == CU_JIT_ERROR_LOG)
            ((char *)values[i])[0] = 0;
    }
    if (fake_current(&result)) {
        if (!size && sscanf(text, "FAKECUBIN %d", &built_for) == 1)
            result = built_for == driver.arch ? CU_OK : CU_NO_BINARY_FOR_GPU;
        else if (!size && sscanf(text, "FAKEPTX %d", &built_for) == 1)
            result = built_for <= driver.arch ? CU_OK : CU_INVALID_PTX;
        else if (!size && !strstr(text, ".version"))
            result = CU_INVALID_IMAGE;
        if (driver.state.refuse_loads > 0) {
            driver.state.refuse_loads--;
            result = CU_INVALID_IMAGE;
        }
    }
    if (result == CU_OK) {
        cu_module m = calloc(1, sizeof *m);
        m->size = size ? size : strlen(text) + 1;
        m->image = malloc(m->size);
        memcpy(m->image, image, m->size);
        if (size && fake_code_is_host(image)) {
            pthread_mutex_unlock(&driver.lock);
            m->code = fake_code_open(m->image, m->size);
            pthread_mutex_lock(&driver.lock);
        }
        m->text = size ? NULL : m->image;
        driver.state.modules++;
        *module = m;
    }
    pthread_mutex_unlock(&driver.lock);
    return result;
}

EXPORT cu_result cuModuleUnload(cu_module m)
{
    cu_result result;

    pthread_mutex_lock(&driver.lock);
    fake_current(&result);
    if (m->pending > 0)
        fake_violation("a module is unloaded while %d launches of it wait", m->pending);
    driver.state.modules--;
    for (cu_function *at = &functions; *at;) {
        cu_function f = *at;
        if (f->module == m) {
            *at = f->next;
            free(f);
        } else {
            at = &f->next;
        }
    }
    if (m->code)
        fake_code_close(m->code);
    free(m->image);
    free(m);
    pthread_mutex_unlock(&driver.lock);
    return result;
}

static bool word_in(const char *text, size_t size, const char *word)
{
    const size_t length = strlen(word);

    for (const char *at = text; (at = memmem(at, size - (size_t)(at - text), word, length)); at++) {
        const unsigned char before = at > text ? (unsigned char)at[-1] : 0;
        const unsigned char after = at + length < text + size ? (unsigned char)at[length] : 0;
        const bool starts =
            !(before == '_' || (before >= '0' && before <= '9') || ((before | 32) >= 'a' && (before | 32) <= 'z'));
        const bool ends =
            !(after == '_' || (after >= '0' && after <= '9') || ((after | 32) >= 'a' && (after | 32) <= 'z'));
        if (starts && ends)
            return true;
    }
    return false;
}

EXPORT cu_result cuModuleGetFunction(cu_function *function, cu_module m, const char *name)
{
    cu_result result;

    pthread_mutex_lock(&driver.lock);
    if (fake_current(&result)) {
        fake_entry entry = {NULL, NULL};
        if (m->code ? !fake_code_find(m->code, name, &entry) : !word_in(m->image, m->size, name)) {
            result = CU_NOT_FOUND;
        } else {
            cu_function f = calloc(1, sizeof *f);
            f->module = m;
            f->entry = entry;
            f->known = m->code != NULL;
            for (int i = 0; i < driver.kernel_count && !m->code; i++)
                if (strcmp(driver.kernels[i].entry, name) == 0) {
                    f->kernel = driver.kernels[i];
                    f->known = true;
                }
            f->next = functions;
            functions = f;
            *function = f;
        }
    }
    pthread_mutex_unlock(&driver.lock);
    return result;
}

EXPORT cu_result cuFuncGetAttribute(int *value, unsigned int attribute, cu_function f)
{
    (void)f;
    *value = attribute == CU_FUNCTION_MAX_THREADS ? 1024 : 0;
    return CU_OK;
}

/* The arguments lie one behind the other, each at a multiple of 8. */
static void run_host_code(command *c, cu_stream s)
{
    const fake_signature *signature = c->as.launch.entry.signature;
    void *arguments[FAKE_MAX_ARGUMENTS];
    unsigned char *at = c->payload;
    bool agreed;

    c->as.launch.module->pending--;
    if (s->context->lost)
        return;
    if (c->as.launch.fail) {
        fake_lose(s, c->as.launch.fail);
        return;
    }
    for (uint32_t i = 0; i < signature->count; i++) {
        arguments[i] = at;
        at += (signature->sizes[i] + 7) / 8 * 8;
        if (signature->is_pointer[i]) {
            cu_deviceptr address;
            void *host;
            memcpy(&address, arguments[i], sizeof address);
            host = fake_host_of(address, 1);
            if (!host) {
                fake_violation("argument %u of a kernel points to no live memory when it runs", i);
                fake_lose(s, CU_ILLEGAL_ADDRESS);
                return;
            }
            memcpy(arguments[i], &host, sizeof host);
        }
    }
    c->as.launch.module->pending++;
    pthread_mutex_unlock(&driver.lock);
    agreed = fake_code_run(c->as.launch.module->code, &c->as.launch.entry, arguments, c->as.launch.launch.grid,
                           c->as.launch.launch.group_size);
    pthread_mutex_lock(&driver.lock);
    c->as.launch.module->pending--;
    if (!agreed) {
        fake_violation("a barrier is reached by a part of a work-group only");
        fake_lose(s, CU_LAUNCH_FAILED);
    }
}

static void run_launch(command *c, cu_stream s)
{
    bool alive = true;

    c->as.launch.module->pending--;
    if (s->context->lost)
        return;
    if (c->as.launch.fail) {
        fake_lose(s, c->as.launch.fail);
        return;
    }
    for (uint32_t i = 0; i < c->as.launch.kernel.pointers; i++) {
        const cu_deviceptr address = c->as.launch.pointers[i];
        const memory_block *b = fake_block_of(address, 1);
        if (!b) {
            alive = false;
            continue;
        }
        c->as.launch.launch.pointers[i] = b->host + (address - b->address);
        c->as.launch.launch.room[i] = b->size - (size_t)(address - b->address);
    }
    if (!alive) {
        fake_violation("kernel %s uses memory that is not alive when it runs", c->as.launch.kernel.entry);
        fake_lose(s, CU_ILLEGAL_ADDRESS);
        return;
    }
    pthread_mutex_unlock(&driver.lock);
    c->as.launch.kernel.run(&c->as.launch.launch);
    pthread_mutex_lock(&driver.lock);
}

EXPORT cu_result cuLaunchKernel(cu_function f, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,
                                unsigned int block_x, unsigned int block_y, unsigned int block_z,
                                unsigned int shared_bytes, cu_stream s, void **parameters, void **extra)
{
    command model = {.run = run_launch};
    cu_result result = CU_OK;

    pthread_mutex_lock(&driver.lock);
    driver.state.launches++;
    if (!f->known || extra || shared_bytes || !grid_x || !grid_y || !grid_z || grid_x > 0x7fffffffu || grid_y > 65535 ||
        grid_z > 65535 || !block_x || block_x > 1024 || block_y != 1 || block_z != 1) {
        fake_violation("a launch of an unregistered kernel, or with a grid that no device takes");
        result = CU_INVALID_VALUE;
    } else {
        model.as.launch.kernel = f->kernel;
        model.as.launch.module = f->module;
        model.as.launch.launch.grid[0] = grid_x;
        model.as.launch.launch.grid[1] = grid_y;
        model.as.launch.launch.grid[2] = grid_z;
        model.as.launch.launch.group_size = block_x;
        unsigned char packed[FAKE_MAX_ARGUMENTS * FAKE_MAX_PARAMS];
        size_t packed_size = 0;
        for (uint32_t i = 0; f->entry.call && i < f->entry.signature->count; i++) {
            memcpy(packed + packed_size, parameters[i], f->entry.signature->sizes[i]);
            packed_size += (f->entry.signature->sizes[i] + 7) / 8 * 8;
        }
        if (f->entry.call) {
            model.run = run_host_code;
            model.as.launch.entry = f->entry;
        }
        for (uint32_t i = 0; i < f->kernel.pointers; i++)
            memcpy(&model.as.launch.pointers[i], parameters[i], sizeof(cu_deviceptr));
        if (f->kernel.params_bytes)
            memcpy(model.as.launch.launch.params, parameters[f->kernel.pointers], f->kernel.params_bytes);
        if (driver.state.fail_launch > 0 && --driver.state.fail_launch == 0)
            model.as.launch.fail = (cu_result)driver.state.fail_launch_result;
        result = fake_enqueue(s, &model, packed, packed_size);
        if (result == CU_OK)
            f->module->pending++;
    }
    pthread_mutex_unlock(&driver.lock);
    return result;
}
