/* Kernels: a pipeline each, made when the kernel is, never at a launch. */
#include "backends/vulkan/vulkan_entries.h"

#include "base/error.h"
#include "base/memory.h"

#include <stdio.h>
#include <string.h>

static tsr_status check(const vulkan_device *device, const hal_kernel_desc *desc)
{
    if (desc->binding_count > device->set_bindings)
        return fail(TSR_UNSUPPORTED, "vulkan: kernel %s has %u bindings; %s lets a kernel have %u", desc->key,
                    (unsigned)desc->binding_count, device->base.info.name, (unsigned)device->set_bindings);
    if (desc->group_size > device->base.info.max_group_size)
        return fail(TSR_UNSUPPORTED, "vulkan: kernel %s has work-groups of %u; %s takes %u", desc->key,
                    (unsigned)desc->group_size, device->base.info.name, (unsigned)device->base.info.max_group_size);
    if (desc->spirv_bytes < 20 || desc->spirv[0] != 0x07230203) /* SPIR-V 2.3: the magic number */
        return fail(TSR_INVALID_ARGUMENT, "vulkan: the code of kernel %s is no SPIR-V of this byte order", desc->key);
    return TSR_OK;
}

static VkResult create_pipeline(vulkan_device *device, const hal_kernel_desc *desc, VkPipeline *pipeline)
{
    const VkShaderModuleCreateInfo module_info = {
        .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
        .codeSize = desc->spirv_bytes,
        .pCode = desc->spirv,
    };
    VkShaderModule module = VK_NULL_HANDLE;
    VkResult result = device->vk.vkCreateShaderModule(device->handle, &module_info, NULL, &module);
    if (result != VK_SUCCESS)
        return result;
    const VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .stage =
            {
                .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                .module = module,
                .pName = "main",
            },
        .layout = device->pipeline_layout,
    };
    vulkan_count_object();
    result = device->vk.vkCreateComputePipelines(device->handle, device->pipeline_cache, 1, &info, NULL, pipeline);
    device->vk.vkDestroyShaderModule(device->handle, module, NULL);
    return result;
}

tsr_status vulkan_kernel_create(hal_device *base, const hal_kernel_desc *desc, hal_kernel **kernel)
{
    vulkan_device *device = (vulkan_device *)base;
    tsr_status status = vulkan_check_lost(device);
    if (status == TSR_OK)
        status = check(device, desc);
    if (status != TSR_OK)
        return status;

    vulkan_kernel *k = host_alloc_zeroed(1, sizeof *k);
    if (k != NULL)
        k->grave = host_alloc_zeroed(1, sizeof *k->grave);
    if (k == NULL || k->grave == NULL) {
        host_free(k);
        return TSR_OUT_OF_MEMORY;
    }
    const VkResult result = create_pipeline(device, desc, &k->pipeline);
    if (result != VK_SUCCESS) {
        char what[160];
        snprintf(what, sizeof what, "building kernel %s (%s)", desc->key, desc->variant != NULL ? desc->variant : "");
        host_free(k->grave);
        host_free(k);
        return vulkan_fail(device, result, what);
    }
    k->base.device = base;
    k->binding_count = desc->binding_count;
    k->params_bytes = desc->params_bytes;
    memcpy(k->access, desc->access, sizeof k->access);
    memcpy(k->element_bytes, desc->element_bytes, sizeof k->element_bytes);
    snprintf(k->name, sizeof k->name, "%s", desc->key);
    vulkan_pipeline_cache_note(device);
    *kernel = &k->base;
    return TSR_OK;
}

void vulkan_kernel_destroy(hal_kernel *kernel)
{
    vulkan_kernel *k = (vulkan_kernel *)kernel;
    vulkan_device *device = (vulkan_device *)kernel->device;
    k->grave->uses = k->uses;
    k->grave->pipeline = k->pipeline;
    vulkan_entomb(device, k->grave);
    host_free(k);
}
