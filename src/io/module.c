/* A module's parameters and buffers, to a safetensors file and back. */
#include "io/module.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "tensor/tensor.h"
#include "tessera/autograd.h"
#include "tessera/ops.h"

tsr_status tensor_list_add(tensor_list *list, const char *prefix, const char *name, tsr_tensor *t)
{
    char whole[2 * NAME_SIZE];
    tsr_named_tensor *items = host_grown(list->items, list->count, &list->capacity, sizeof *items);
    if (items == NULL)
        return TSR_OUT_OF_MEMORY;
    list->items = items;
    snprintf(whole, sizeof whole, "%s%s", prefix, name);
    char *copy = host_strdup(whole);
    if (copy == NULL)
        return TSR_OUT_OF_MEMORY;
    list->items[list->count++] = (tsr_named_tensor){copy, t};
    return TSR_OK;
}

void tensor_list_free(tensor_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        host_free((void *)list->items[i].name);
    host_free(list->items);
    *list = (tensor_list){0};
}

tsr_status tensor_list_add_module(tensor_list *list, const char *prefix, const tsr_module *module)
{
    char name[NAME_SIZE];
    tsr_status status = TSR_OK;
    const size_t parameters = tsr_module_parameter_count(module), buffers = tsr_module_buffer_count(module);
    for (size_t i = 0; i < parameters + buffers && status == TSR_OK; i++) {
        tsr_tensor *t = i < parameters ? tsr_module_parameter(module, i, name, sizeof name)
                                       : tsr_module_buffer(module, i - parameters, name, sizeof name);
        status = t == NULL ? tsr_last_status() : tensor_list_add(list, prefix, name, t);
    }
    return status;
}

tsr_status tensor_list_check(const tensor_list *list, const tsr_safetensors *file)
{
    for (size_t i = 0; i < list->count; i++) {
        const tsr_named_tensor *n = &list->items[i];
        const size_t at = safetensors_find(&file->header, file->path, n->name);
        if (at == file->header.count)
            return tsr_last_status();
        const tsr_safetensors_entry *e = &file->header.entries[at].shown;
        if (e->dtype == TSR_DTYPE_COUNT)
            return fail(TSR_UNSUPPORTED, "%s: tensor '%s' is of %s, a dtype that tensors here do not have", file->path,
                        n->name, e->dtype_name);
        if (e->rank != tsr_rank(n->tensor) ||
            memcmp(e->shape, tsr_shape(n->tensor), (size_t)e->rank * sizeof *e->shape) != 0)
            return fail(TSR_INVALID_ARGUMENT, "%s: tensor '%s' has another shape, %s, than the %s that it is to fill",
                        file->path, n->name, shape_text(e->rank, e->shape), tensor_text(n->tensor));
    }
    return TSR_OK;
}

static tsr_status fill_one(const tsr_named_tensor *n, tsr_safetensors *file)
{
    tsr_status status = tsr_scope_begin();
    if (status != TSR_OK)
        return status;
    tsr_tensor *value = tsr_safetensors_load(file, n->name, tsr_device_of(n->tensor));
    status = value == NULL ? tsr_last_status() : tsr_copy_into(n->tensor, value);
    tsr_scope_end();
    return status;
}

tsr_status tensor_list_fill(const tensor_list *list, tsr_safetensors *file)
{
    tsr_status status = TSR_OK;
    tsr_no_grad_begin();
    for (size_t i = 0; i < list->count && status == TSR_OK; i++)
        status = fill_one(&list->items[i], file);
    tsr_no_grad_end();
    return status;
}

tsr_status tsr_module_save(const tsr_module *module, const char *path)
{
    tensor_list list = {0};
    if (module == NULL)
        return fail(TSR_INVALID_ARGUMENT, "tsr_module_save: the module is NULL");
    tsr_status status = tensor_list_add_module(&list, "", module);
    if (status == TSR_OK)
        status = tsr_safetensors_save(path, list.items, list.count, NULL, 0);
    tensor_list_free(&list);
    return status;
}

tsr_status tsr_module_load(tsr_module *module, const char *path)
{
    tensor_list list = {0};
    if (module == NULL)
        return fail(TSR_INVALID_ARGUMENT, "tsr_module_load: the module is NULL");
    tsr_safetensors *file = tsr_safetensors_open(path);
    tsr_status status = file == NULL ? tsr_last_status() : tensor_list_add_module(&list, "", module);
    if (status == TSR_OK)
        status = tensor_list_check(&list, file);
    if (status == TSR_OK)
        status = tensor_list_fill(&list, file);
    tensor_list_free(&list);
    tsr_safetensors_close(file);
    return status;
}
