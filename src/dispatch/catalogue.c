#include "dispatch/catalogue.h"

#include "base/error.h"
#include "base/log.h"
#include "base/thread.h"

#include <stdlib.h>
#include <string.h>

const kernel_entry *catalogue_find(const char *key, hal_device_class device_class)
{
    size_t low = 0, high = kernel_catalogue_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (strcmp(kernel_catalogue[middle].key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }

    const char *wanted = device_class == HAL_CLASS_CPU ? "cpu" : "gpu";
    const kernel_entry *found = NULL;
    for (; low < kernel_catalogue_count && strcmp(kernel_catalogue[low].key, key) == 0; low++) {
        if (strcmp(kernel_catalogue[low].variant, wanted) == 0)
            return &kernel_catalogue[low];
        found = &kernel_catalogue[low];
    }
    return found;
}

static kernel_isa processor_isa(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    /* The whole of a level is there where these are: no processor has them without its lesser members. */
    const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512vl");
    return v4 ? ISA_X86_64_V4 : v3 ? ISA_X86_64_V3 : ISA_BASELINE;
#else
    return ISA_BASELINE; /* NEON is arm64's baseline */
#endif
}

static bool build_has(kernel_isa isa)
{
    for (size_t i = 0; i < kernel_catalogue_count; i++) {
        if (kernel_catalogue[i].native[isa] != NULL)
            return true;
    }
    return false;
}

static kernel_isa chosen_isa;

static void choose_isa(void)
{
    static const char *const names[ISA_COUNT] = {"baseline", "v3", "v4"};
    int isa = processor_isa();

    const char *wish = getenv("TESSERA_ISA");
    if (wish != NULL && wish[0] != '\0') {
        int wanted = 0;
        while (wanted < ISA_COUNT && strcmp(wish, names[wanted]) != 0)
            wanted++;
        if (wanted == ISA_COUNT)
            log_warn("TESSERA_ISA=%s is none of baseline, v3 and v4; it is ignored", wish);
        else if (wanted > isa)
            log_warn("TESSERA_ISA=%s is more than this processor has; %s is used", wish, names[isa]);
        else
            isa = wanted;
    }
    while (isa > ISA_BASELINE && !build_has((kernel_isa)isa))
        isa--;
    chosen_isa = (kernel_isa)isa;
}

kernel_isa catalogue_isa(void)
{
    static once flag = ONCE_INIT;
    once_run(&flag, choose_isa);
    return chosen_isa;
}

static tsr_status check_features(const kernel_entry *entry, const hal_device_info *info)
{
    static const struct {
        uint32_t bit;
        const char *what;
    } names[] = {{HAL_FEATURE_STORAGE_16, "16-bit loads and stores"},
                 {HAL_FEATURE_STORAGE_8, "8-bit loads and stores"},
                 {HAL_FEATURE_INT64, "64-bit integers"},
                 {HAL_FEATURE_FLOAT64, "64-bit floating point"}};

    const uint32_t missing = entry->features & ~info->features;
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        if ((missing & names[i].bit) != 0)
            return fail(TSR_UNSUPPORTED, "kernel %s needs %s, which %s does not have", entry->key, names[i].what,
                        info->name);
    }
    if (missing != 0)
        return fail(TSR_UNSUPPORTED, "kernel %s needs features 0x%x, which %s does not have", entry->key,
                    (unsigned)missing, info->name);
    return TSR_OK;
}

static tsr_status not_built(const kernel_entry *entry, const hal_device_info *info, const char *form)
{
    return fail(TSR_UNSUPPORTED, "kernel %s (%s variant) was not built as %s, the form that %s takes", entry->key,
                entry->variant, form, info->name);
}

tsr_status catalogue_describe(const kernel_entry *entry, const hal_device_info *info, hal_kernel_desc *desc)
{
    const tsr_status status = check_features(entry, info);
    if (status != TSR_OK)
        return status;

    *desc = (hal_kernel_desc){.key = entry->key,
                              .entry = entry->entry,
                              .variant = entry->variant,
                              .code = info->code,
                              .group_size = entry->group_size,
                              .params_bytes = entry->params_bytes,
                              .binding_count = entry->binding_count};
    memcpy(desc->access, entry->access, sizeof desc->access);
    memcpy(desc->element_bytes, entry->element_bytes, sizeof desc->element_bytes);

    switch (info->code) {
    case HAL_CODE_NATIVE:
        for (int isa = catalogue_isa(); isa >= 0 && desc->native == NULL; isa--)
            desc->native = entry->native[isa];
        return desc->native != NULL ? TSR_OK : not_built(entry, info, "a C function");
    case HAL_CODE_SOURCE:
        desc->source = entry->source;
        while (desc->source_count < COUNT_OF(entry->source) && entry->source[desc->source_count] != NULL)
            desc->source_count++;
        return desc->source_count > 0 ? TSR_OK : not_built(entry, info, "source text");
    case HAL_CODE_SPIRV:
        desc->entry = "main";
        desc->spirv = entry->spirv;
        desc->spirv_bytes = entry->spirv_bytes;
        desc->group_size = entry->group_size_spirv;
        return desc->spirv != NULL ? TSR_OK : not_built(entry, info, "SPIR-V");
    }
    return fail(TSR_INVALID_ARGUMENT, "%s takes kernels in form %d, which does not exist", info->name, (int)info->code);
}
