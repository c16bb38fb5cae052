#include "backends/vulkan/vulkan_api.h"

#include "base/dynlib.h"
#include "base/error.h"
#include "base/log.h"
#include "base/memory.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

vulkan_instance_api vulkan_instance;

static struct {
    dynlib *library;
    PFN_vkGetInstanceProcAddr get;
} loader;

static _Atomic uint64_t validation_messages;

uint64_t vulkan_validation_messages(void)
{
    return atomic_load(&validation_messages);
}

const char *vulkan_result_name(VkResult result)
{
#define NAME(code)                                                                                                     \
    case code: return #code;
    switch ((int)result) {
        NAME(VK_SUCCESS)
        NAME(VK_NOT_READY)
        NAME(VK_TIMEOUT)
        NAME(VK_INCOMPLETE)
        NAME(VK_ERROR_OUT_OF_HOST_MEMORY)
        NAME(VK_ERROR_OUT_OF_DEVICE_MEMORY)
        NAME(VK_ERROR_INITIALIZATION_FAILED)
        NAME(VK_ERROR_DEVICE_LOST)
        NAME(VK_ERROR_MEMORY_MAP_FAILED)
        NAME(VK_ERROR_LAYER_NOT_PRESENT)
        NAME(VK_ERROR_EXTENSION_NOT_PRESENT)
        NAME(VK_ERROR_FEATURE_NOT_PRESENT)
        NAME(VK_ERROR_INCOMPATIBLE_DRIVER)
        NAME(VK_ERROR_TOO_MANY_OBJECTS)
        NAME(VK_ERROR_FRAGMENTED_POOL)
        NAME(VK_ERROR_OUT_OF_POOL_MEMORY)
        NAME(VK_ERROR_FRAGMENTATION)
        NAME(VK_ERROR_UNKNOWN)
        NAME(VK_ERROR_INVALID_SHADER_NV)
    default: return "an unknown VkResult";
    }
#undef NAME
}

static bool loader_open(char *why, size_t why_size)
{
    if (loader.library != NULL)
        return true;
    error_state before;
    error_save(&before); /* a machine without Vulkan is no failure */
    loader.library = dynlib_open((const char *const[]){"libvulkan.so.1", "libvulkan.so", NULL});
    if (loader.library == NULL) {
        error_restore(&before);
        snprintf(why, why_size,
                 "the Vulkan loader libvulkan.so.1 was not found; install it (Debian, Ubuntu: apt install libvulkan1) "
                 "and the driver of your GPU (mesa-vulkan-drivers has those of AMD, Intel and a software one)");
        return false;
    }
    loader.get = (PFN_vkGetInstanceProcAddr)dynlib_symbol(loader.library, "vkGetInstanceProcAddr");
    if (loader.get == NULL) {
        snprintf(why, why_size, "%s is no Vulkan loader: it has no vkGetInstanceProcAddr", dynlib_name(loader.library));
        dynlib_close(loader.library);
        loader.library = NULL;
    }
    return loader.library != NULL;
}

static bool offers_extension(PFN_vkEnumerateInstanceExtensionProperties enumerate, const char *name)
{
    uint32_t count = 0;
    if (enumerate == NULL || enumerate(NULL, &count, NULL) != VK_SUCCESS || count == 0)
        return false;
    VkExtensionProperties *all = host_alloc_zeroed(count, sizeof *all);
    if (all == NULL)
        return false;
    bool found = false;
    if (enumerate(NULL, &count, all) >= VK_SUCCESS)
        for (uint32_t i = 0; i < count && !found; i++)
            found = strcmp(all[i].extensionName, name) == 0;
    host_free(all);
    return found;
}

static VKAPI_ATTR VkBool32 VKAPI_CALL hear(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
                                           VkDebugUtilsMessageTypeFlagsEXT types,
                                           const VkDebugUtilsMessengerCallbackDataEXT *data, void *context)
{
    (void)severity;
    (void)context;
    if (types & VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT)
        atomic_fetch_add(&validation_messages, 1);
    log_warn("vulkan: %s", data->pMessage);
    return VK_FALSE;
}

static bool validation_wanted(void)
{
    static const char *const variables[] = {"VK_INSTANCE_LAYERS", "VK_LOADER_LAYERS_ENABLE"};
    for (size_t i = 0; i < COUNT_OF(variables); i++) {
        const char *layers = getenv(variables[i]);
        if (layers != NULL && strstr(layers, "validation") != NULL)
            return true;
    }
    return false;
}

static VkResult create_instance(void)
{
    const PFN_vkEnumerateInstanceExtensionProperties enumerate =
        (PFN_vkEnumerateInstanceExtensionProperties)loader.get(NULL, "vkEnumerateInstanceExtensionProperties");
    const PFN_vkCreateInstance create = (PFN_vkCreateInstance)loader.get(NULL, "vkCreateInstance");
    if (create == NULL)
        return VK_ERROR_INITIALIZATION_FAILED;

    const char *extensions[2];
    VkDebugUtilsMessengerCreateInfoEXT messenger = {
        .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
        .messageSeverity =
            VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT,
        .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_TYPE_PERFORMANCE_BIT_EXT,
        .pfnUserCallback = hear,
    };
    VkInstanceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
        .pApplicationInfo =
            &(VkApplicationInfo){
                .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                .pApplicationName = "tessera",
                .pEngineName = "tessera",
                .apiVersion = VK_API_VERSION_1_2,
            },
        .ppEnabledExtensionNames = extensions,
    };
    /* Without this the loader hides drivers that are not fully conformant (MoltenVK). */
    if (offers_extension(enumerate, VK_KHR_PORTABILITY_ENUMERATION_EXTENSION_NAME)) {
        extensions[info.enabledExtensionCount++] = VK_KHR_PORTABILITY_ENUMERATION_EXTENSION_NAME;
        info.flags |= VK_INSTANCE_CREATE_ENUMERATE_PORTABILITY_BIT_KHR;
    }
    const bool listens = validation_wanted() && offers_extension(enumerate, VK_EXT_DEBUG_UTILS_EXTENSION_NAME);
    if (listens) {
        extensions[info.enabledExtensionCount++] = VK_EXT_DEBUG_UTILS_EXTENSION_NAME;
        info.pNext = &messenger;
    }

    const VkResult result = create(&info, NULL, &vulkan_instance.handle);
    if (result == VK_SUCCESS && listens) {
        const PFN_vkCreateDebugUtilsMessengerEXT create_messenger =
            (PFN_vkCreateDebugUtilsMessengerEXT)loader.get(vulkan_instance.handle, "vkCreateDebugUtilsMessengerEXT");
        VkDebugUtilsMessengerEXT made; /* lives as long as the instance */
        if (create_messenger != NULL)
            create_messenger(vulkan_instance.handle, &messenger, NULL, &made);
    }
    return result;
}

bool vulkan_instance_open(char *why, size_t why_size)
{
    if (!loader_open(why, why_size))
        return false;

    uint32_t version = VK_API_VERSION_1_0;
    const PFN_vkEnumerateInstanceVersion enumerate_version =
        (PFN_vkEnumerateInstanceVersion)loader.get(NULL, "vkEnumerateInstanceVersion");
    if (enumerate_version != NULL)
        enumerate_version(&version);
    if (version < VK_API_VERSION_1_2) {
        snprintf(why, why_size, "the Vulkan loader is version %u.%u, and 1.2 is the least that is needed: update %s",
                 VK_API_VERSION_MAJOR(version), VK_API_VERSION_MINOR(version), dynlib_name(loader.library));
        return false;
    }

    const VkResult result = create_instance();
    if (result != VK_SUCCESS) {
        vulkan_instance = (vulkan_instance_api){0};
        snprintf(why, why_size,
                 "the Vulkan loader found no driver that starts (%s); install the driver of your GPU (Debian, Ubuntu: "
                 "apt install mesa-vulkan-drivers has those of AMD, Intel and a software one)",
                 vulkan_result_name(result));
        return false;
    }

    const char *missing = NULL;
#define LOAD(name)                                                                                                     \
    vulkan_instance.name = (PFN_##name)loader.get(vulkan_instance.handle, #name);                                      \
    if (vulkan_instance.name == NULL)                                                                                  \
        missing = #name;
    VULKAN_INSTANCE_FUNCTIONS(LOAD)
#undef LOAD
    if (missing != NULL) {
        snprintf(why, why_size, "the Vulkan loader lacks %s: update it", missing);
        vulkan_instance_close();
        return false;
    }
    return true;
}

void vulkan_instance_close(void)
{
    if (vulkan_instance.handle != NULL && vulkan_instance.vkDestroyInstance != NULL)
        vulkan_instance.vkDestroyInstance(vulkan_instance.handle, NULL);
    vulkan_instance = (vulkan_instance_api){0};
}

tsr_status vulkan_device_api_load(vulkan_device_api *api, VkDevice device)
{
#define LOAD(name)                                                                                                     \
    api->name = (PFN_##name)vulkan_instance.vkGetDeviceProcAddr(device, #name);                                        \
    if (api->name == NULL)                                                                                             \
        return fail(TSR_DRIVER_ERROR, "the Vulkan driver has no %s, which Vulkan 1.2 requires: update it", #name);
    VULKAN_DEVICE_FUNCTIONS(LOAD)
#undef LOAD
    return TSR_OK;
}
