/* The loader's side of the layer: instance, devices, and where each function goes on. Vulkan-Loader's documentation of layers,
 * "Layer Interface Version 2", says what is expected. */
#include "order_layer.h"
#include "order_record.h"

#include <vulkan/vk_layer.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

enum { MAX_INSTANCES = 16, MAX_DEVICES = 64 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    const void *key; /* which its physical devices begin with too */
    VkInstance handle;
    PFN_vkGetInstanceProcAddr get;
} instances[MAX_INSTANCES];
static layer_device *devices[MAX_DEVICES];

static const void *key_of(const void *handle)
{
    return *(const void *const *)handle;
}

static PFN_vkGetInstanceProcAddr next_of_instance(const void *handle, VkInstance *instance)
{
    PFN_vkGetInstanceProcAddr get = NULL;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < MAX_INSTANCES; i++)
        if (instances[i].get != NULL && instances[i].key == key_of(handle)) {
            get = instances[i].get;
            *instance = instances[i].handle;
        }
    pthread_mutex_unlock(&lock);
    return get;
}

layer_device *layer_device_of(const void *handle)
{
    layer_device *found = NULL;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < MAX_DEVICES && found == NULL; i++)
        if (devices[i] != NULL && devices[i]->key == key_of(handle))
            found = devices[i];
    pthread_mutex_unlock(&lock);
    return found;
}

void layer_device_forget(layer_device *device)
{
    pthread_mutex_lock(&lock);
    for (int i = 0; i < MAX_DEVICES; i++)
        if (devices[i] == device)
            devices[i] = NULL;
    pthread_mutex_unlock(&lock);
}

static VKAPI_ATTR VkResult VKAPI_CALL create_instance(const VkInstanceCreateInfo *info,
                                                      const VkAllocationCallbacks *allocator, VkInstance *instance)
{
    VkLayerInstanceCreateInfo *link = (VkLayerInstanceCreateInfo *)(uintptr_t)info->pNext;
    while (link != NULL &&
           (link->sType != VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO || link->function != VK_LAYER_LINK_INFO))
        link = (VkLayerInstanceCreateInfo *)(uintptr_t)link->pNext;
    if (link == NULL)
        return VK_ERROR_INITIALIZATION_FAILED;
    const PFN_vkGetInstanceProcAddr get = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
    link->u.pLayerInfo = link->u.pLayerInfo->pNext; /* for the layer below */
    const PFN_vkCreateInstance create = (PFN_vkCreateInstance)get(NULL, "vkCreateInstance");
    const VkResult result = create != NULL ? create(info, allocator, instance) : VK_ERROR_INITIALIZATION_FAILED;
    if (result != VK_SUCCESS)
        return result;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < MAX_INSTANCES; i++)
        if (instances[i].get == NULL || instances[i].key == key_of(*instance)) {
            instances[i].key = key_of(*instance);
            instances[i].handle = *instance;
            instances[i].get = get;
            break;
        }
    pthread_mutex_unlock(&lock);
    return VK_SUCCESS;
}

static VKAPI_ATTR void VKAPI_CALL destroy_instance(VkInstance instance, const VkAllocationCallbacks *allocator)
{
    if (instance == NULL)
        return;
    const PFN_vkGetInstanceProcAddr get = next_of_instance(instance, &instance);
    const PFN_vkDestroyInstance destroy = (PFN_vkDestroyInstance)get(instance, "vkDestroyInstance");
    pthread_mutex_lock(&lock);
    for (int i = 0; i < MAX_INSTANCES; i++)
        if (instances[i].key == key_of(instance))
            instances[i].get = NULL;
    pthread_mutex_unlock(&lock);
    destroy(instance, allocator);
}

static bool enter(layer_device *device)
{
    bool entered = false;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < MAX_DEVICES && !entered; i++)
        if (devices[i] == NULL) {
            devices[i] = device;
            entered = true;
        }
    pthread_mutex_unlock(&lock);
    return entered;
}

static VKAPI_ATTR VkResult VKAPI_CALL create_device(VkPhysicalDevice physical, const VkDeviceCreateInfo *info,
                                                    const VkAllocationCallbacks *allocator, VkDevice *handle)
{
    VkLayerDeviceCreateInfo *link = (VkLayerDeviceCreateInfo *)(uintptr_t)info->pNext;
    while (link != NULL &&
           (link->sType != VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO || link->function != VK_LAYER_LINK_INFO))
        link = (VkLayerDeviceCreateInfo *)(uintptr_t)link->pNext;
    if (link == NULL)
        return VK_ERROR_INITIALIZATION_FAILED;
    VkInstance instance = NULL;
    const PFN_vkGetInstanceProcAddr instance_get = next_of_instance(physical, &instance);
    const PFN_vkGetDeviceProcAddr get = link->u.pLayerInfo->pfnNextGetDeviceProcAddr;
    link->u.pLayerInfo = link->u.pLayerInfo->pNext;
    const PFN_vkCreateDevice create =
        instance_get != NULL ? (PFN_vkCreateDevice)instance_get(instance, "vkCreateDevice") : NULL;
    layer_device *device = calloc(1, sizeof *device);
    if (create == NULL || device == NULL) {
        free(device);
        return VK_ERROR_INITIALIZATION_FAILED;
    }
    const VkResult result = create(physical, info, allocator, handle);
    if (result != VK_SUCCESS) {
        free(device);
        return result;
    }
    device->key = key_of(*handle);
    device->get = get;
#define FIND(name) device->name = (PFN_##name)get(*handle, #name);
    ORDER_FUNCTIONS(FIND)
#undef FIND
    if (!record_device(device) || !enter(device)) {
        device->vkDestroyDevice(*handle, allocator);
        free(device);
        return VK_ERROR_OUT_OF_HOST_MEMORY;
    }
    return VK_SUCCESS;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL get_device(VkDevice device, const char *name)
{
    if (strcmp(name, "vkGetDeviceProcAddr") == 0)
        return (PFN_vkVoidFunction)get_device;
    const layer_device *known = layer_device_of(device);
    const PFN_vkVoidFunction next = known != NULL ? known->get(device, name) : NULL;
    const PFN_vkVoidFunction own = record_function(name);
    return own != NULL && next != NULL ? own : next; /* what the driver lacks stays lacking */
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL get_instance(VkInstance instance, const char *name)
{
    static const struct {
        const char *name;
        PFN_vkVoidFunction function;
    } own[] = {
        {"vkGetInstanceProcAddr", (PFN_vkVoidFunction)get_instance},
        {"vkGetDeviceProcAddr", (PFN_vkVoidFunction)get_device},
        {"vkCreateInstance", (PFN_vkVoidFunction)create_instance},
        {"vkDestroyInstance", (PFN_vkVoidFunction)destroy_instance},
        {"vkCreateDevice", (PFN_vkVoidFunction)create_device},
    };
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        if (strcmp(own[i].name, name) == 0)
            return own[i].function;
    const PFN_vkVoidFunction recorded = record_function(name);
    if (recorded != NULL)
        return recorded;
    const PFN_vkGetInstanceProcAddr next = instance != NULL ? next_of_instance(instance, &instance) : NULL;
    return next != NULL ? next(instance, name) : NULL;
}

EXPORT VKAPI_ATTR VkResult VKAPI_CALL vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *version);

VKAPI_ATTR VkResult VKAPI_CALL vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *version)
{
    if (version->loaderLayerInterfaceVersion < 2)
        return VK_ERROR_INITIALIZATION_FAILED;
    version->loaderLayerInterfaceVersion = 2;
    version->pfnGetInstanceProcAddr = get_instance;
    version->pfnGetDeviceProcAddr = get_device;
    version->pfnGetPhysicalDeviceProcAddr = NULL;
    return VK_SUCCESS;
}
