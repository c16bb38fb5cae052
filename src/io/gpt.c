/* A GPT out of a file of its weights: its sizes are those of the tensors. */
#include "tessera/gpt.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "io/module.h"
#include "nn/gpt.h"

enum { HEADS_MOST = 65536, CONFIG_MOST = 1 << 20, PUBLISHED_HEAD = 64 };

/* ---- sizes -------------------------------------------------------------------------------------------------------- */

static const tsr_safetensors_entry *find(const tsr_safetensors *f, const char *prefix, const char *name)
{
    char whole[NAME_SIZE];
    snprintf(whole, sizeof whole, "%s%s", prefix, name);
    for (size_t i = 0; i < f->header.count; i++)
        if (strcmp(f->header.entries[i].shown.name, whole) == 0)
            return &f->header.entries[i].shown;
    return NULL;
}

static const char *find_prefix(const tsr_safetensors *f)
{
    static const char *const prefixes[] = {"", "transformer.", "model."};
    for (size_t i = 0; i < COUNT_OF(prefixes); i++)
        if (find(f, prefixes[i], "wte.weight") != NULL)
            return prefixes[i];
    return NULL;
}

static tsr_status read_sizes(const tsr_safetensors *f, const char *prefix, tsr_gpt_options *o)
{
    const tsr_safetensors_entry *tokens = find(f, prefix, "wte.weight"), *places = find(f, prefix, "wpe.weight");
    char name[48];
    if (places == NULL || tokens->rank != 2 || places->rank != 2 || tokens->shape[1] != places->shape[1])
        return fail(TSR_CORRUPT_DATA, "%s: wte.weight and wpe.weight are not [vocabulary, width] and [context, width]",
                    f->path);
    o->vocabulary = tokens->shape[0];
    o->width = tokens->shape[1];
    o->context = places->shape[0];
    if (o->vocabulary < 1 || o->context < 1 || o->width < 1)
        return fail(TSR_CORRUPT_DATA, "%s: a vocabulary of %lld, a context of %lld and a width of %lld are no GPT's",
                    f->path, (long long)o->vocabulary, (long long)o->context, (long long)o->width);
    /* A network is as large as the width's square: the file must have as much before memory is taken for it. */
    for (;; o->layers++) {
        snprintf(name, sizeof name, "h.%lld.ln_1.weight", (long long)o->layers);
        if (find(f, prefix, name) == NULL)
            return TSR_OK;
        snprintf(name, sizeof name, "h.%lld.attn.c_attn.weight", (long long)o->layers);
        const tsr_safetensors_entry *e = find(f, prefix, name);
        if (e == NULL || e->rank != 2 || e->shape[0] != o->width || e->shape[1] / 3 != o->width || e->shape[1] % 3 != 0)
            return fail(TSR_CORRUPT_DATA, "%s: %s is not there, or not [%lld, 3 * %lld]", f->path, name,
                        (long long)o->width, (long long)o->width);
    }
}

/* ---- heads -------------------------------------------------------------------------------------------------------- */

/* "n_head" of config.json beside the file; 0 where there is none. */
static int64_t heads_of_config(const char *path)
{
    char config[PATH_SIZE];
    uint8_t *bytes = NULL;
    size_t size;
    json_error_t why;
    error_state before;
    snprintf(config, sizeof config, "%s", path);
    path_parent(config);
    error_save(&before);
    tsr_status status = path_join(config, sizeof config, config, "config.json");
    if (status == TSR_OK)
        status = file_read_all(config, &bytes, &size, CONFIG_MOST);
    error_restore(&before);
    if (status != TSR_OK)
        return 0;
    json_t *root = json_loadb((const char *)bytes, size, 0, &why);
    const int64_t heads = json_integer_value(json_object_get(root, "n_head"));
    json_decref(root);
    host_free(bytes);
    return heads;
}

static int64_t find_heads(const tsr_safetensors *f, const char *path, int64_t width)
{
    const char *metadata = tsr_safetensors_metadata(f, "gpt.heads");
    const int64_t told = metadata != NULL ? strtoll(metadata, NULL, 10) : heads_of_config(path);
    return told != 0 ? told : width / PUBLISHED_HEAD;
}

/* ---- the whole ---------------------------------------------------------------------------------------------------- */

static tsr_status fill(tsr_module *gpt, tsr_safetensors *f, const char *prefix)
{
    tensor_list list = {0};
    tsr_status status = tensor_list_add_module(&list, prefix, gpt);
    if (status == TSR_OK)
        status = tensor_list_check(&list, f);
    if (status == TSR_OK)
        status = tensor_list_fill(&list, f);
    tensor_list_free(&list);
    return status;
}

static tsr_module *load(tsr_device *device, tsr_safetensors *f, const char *path, int64_t heads)
{
    tsr_gpt_options o = {.heads = heads};
    const char *prefix = find_prefix(f);
    if (prefix == NULL) {
        fail(TSR_CORRUPT_DATA, "%s holds no GPT: there is no wte.weight", path);
        return NULL;
    }
    if (read_sizes(f, prefix, &o) != TSR_OK)
        return NULL;
    if (o.heads == 0)
        o.heads = find_heads(f, path, o.width);
    if (o.layers == 0 || o.heads < 1 || o.heads > HEADS_MOST || o.width % o.heads != 0) {
        fail(TSR_CORRUPT_DATA, "%s: %lld layers of width %lld with %lld heads are no GPT", path, (long long)o.layers,
             (long long)o.width, (long long)o.heads);
        return NULL;
    }
    tsr_module *gpt = gpt_create(device, &o, 0);
    if (gpt != NULL && fill(gpt, f, prefix) != TSR_OK) {
        tsr_module_destroy(gpt);
        return NULL;
    }
    return gpt;
}

tsr_module *tsr_gpt_load(tsr_device *device, const char *path, int64_t heads)
{
    if (device == NULL || path == NULL || heads < 0) {
        fail(TSR_INVALID_ARGUMENT, "tsr_gpt_load: it needs a device, a path, and heads of at least 0");
        return NULL;
    }
    tsr_safetensors *f = tsr_safetensors_open(path);
    tsr_module *gpt = f == NULL ? NULL : load(device, f, path, heads);
    tsr_safetensors_close(f);
    return gpt;
}
