/* Lists of named tensors that a file is made of, or that it fills. */
#ifndef TESSERA_IO_MODULE_H
#define TESSERA_IO_MODULE_H

#include "io/safetensors.h"

enum { NAME_SIZE = 512 };

/* A zeroed one is empty. The names are the list's own, the tensors borrowed. */
typedef struct tensor_list {
    tsr_named_tensor *items;
    size_t count, capacity;
} tensor_list;

/* Under prefix and name, joined. */
tsr_status tensor_list_add(tensor_list *list, const char *prefix, const char *name, tsr_tensor *t);
tsr_status tensor_list_add_module(tensor_list *list, const char *prefix, const tsr_module *module);
void tensor_list_free(tensor_list *list);

/* Whether the file has each of them, in its shape. */
tsr_status tensor_list_check(const tensor_list *list, const tsr_safetensors *file);
/* Their values from the file. */
tsr_status tensor_list_fill(const tensor_list *list, tsr_safetensors *file);

#endif
