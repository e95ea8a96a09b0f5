/* SPDX-License-Identifier: MIT
 *
 * Entry points of the layer: instances, what a device has, devices. (LoaderLayerInterface.md of the
 * loader.) */
#include "layer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A layer gets handles and nothing else: what it knows of them is at file scope. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct instance *instances;
static struct device *devices;

void layer_say(const char *format, ...)
{
    char text[640];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    fprintf(stderr, "matrix driver: %s\n", text);
}

/* The loader's table of functions, which a handle begins with. */
void *layer_key(const void *dispatchable)
{
    void *key;
    memcpy(&key, dispatchable, sizeof key);
    return key;
}

static struct instance *find_instance(const void *dispatchable)
{
    void *key = layer_key(dispatchable);
    pthread_mutex_lock(&mutex);
    struct instance *at = instances;
    while (at && at->key != key)
        at = at->next;
    pthread_mutex_unlock(&mutex);
    return at;
}

struct device *layer_device(const void *dispatchable)
{
    void *key = layer_key(dispatchable);
    pthread_mutex_lock(&mutex);
    struct device *at = devices;
    while (at && at->key != key)
        at = at->next;
    pthread_mutex_unlock(&mutex);
    return at;
}

/* ---- Instances ------------------------------------------------------------------------------- */

static VkLayerInstanceCreateInfo *instance_link(const VkInstanceCreateInfo *info)
{
    for (const VkBaseInStructure *at = info->pNext; at; at = at->pNext) {
        VkLayerInstanceCreateInfo *link = (VkLayerInstanceCreateInfo *)(uintptr_t)at;
        if (at->sType == VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO &&
            link->function == VK_LAYER_LINK_INFO)
            return link;
    }
    return NULL;
}

static void load_instance(struct instance *own)
{
#define LOAD(member, name) own->member = (PFN_##name)own->get(own->handle, #name)
    LOAD(destroy, vkDestroyInstance);
    LOAD(extensions, vkEnumerateDeviceExtensionProperties);
    LOAD(features, vkGetPhysicalDeviceFeatures2);
    LOAD(properties, vkGetPhysicalDeviceProperties);
    LOAD(properties2, vkGetPhysicalDeviceProperties2);
    LOAD(memory, vkGetPhysicalDeviceMemoryProperties);
#undef LOAD
}

static VKAPI_ATTR VkResult VKAPI_CALL create_instance(const VkInstanceCreateInfo *info,
                                                      const VkAllocationCallbacks *allocator,
                                                      VkInstance *out)
{
    VkLayerInstanceCreateInfo *link = instance_link(info);
    struct instance *own = calloc(1, sizeof *own);
    if (!link || !own || !model_chosen(&own->model)) {
        free(own);
        return VK_ERROR_INITIALIZATION_FAILED;
    }
    own->get = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
    link->u.pLayerInfo = link->u.pLayerInfo->pNext;
    PFN_vkCreateInstance create = (PFN_vkCreateInstance)own->get(NULL, "vkCreateInstance");
    VkResult result = create(info, allocator, out);
    if (result != VK_SUCCESS) {
        free(own);
        return result;
    }
    own->handle = *out;
    own->key = layer_key(*out);
    load_instance(own);
    pthread_mutex_lock(&mutex);
    own->next = instances;
    instances = own;
    pthread_mutex_unlock(&mutex);
    return VK_SUCCESS;
}

static VKAPI_ATTR void VKAPI_CALL destroy_instance(VkInstance handle,
                                                   const VkAllocationCallbacks *allocator)
{
    if (!handle)
        return;
    struct instance *own = find_instance(handle);
    pthread_mutex_lock(&mutex);
    struct instance **link = &instances;
    while (*link != own)
        link = &(*link)->next;
    *link = own->next;
    pthread_mutex_unlock(&mutex);
    own->destroy(handle, allocator);
    free(own);
}

/* ---- What a device has ----------------------------------------------------------------------- */

/* The device's own, less what only a model may have, and then the model's. */
static VkResult list_extensions(const struct instance *own, VkPhysicalDevice physical,
                                uint32_t *count, VkExtensionProperties *out)
{
    uint32_t all = 0, kept = 0, room = out ? *count : 0,
             more = model_extensions(&own->model, NULL, 0);
    VkResult result = own->extensions(physical, NULL, &all, NULL);
    VkExtensionProperties *list = calloc(all + more + 1, sizeof *list);
    if (result == VK_SUCCESS && list)
        result = own->extensions(physical, NULL, &all, list);
    if (result != VK_SUCCESS || !list) {
        free(list);
        return list ? result : VK_ERROR_OUT_OF_HOST_MEMORY;
    }
    for (uint32_t i = 0; i < all; i++)
        if (!model_extension(NULL, list[i].extensionName))
            list[kept++] = list[i];
    kept += model_extensions(&own->model, list + kept, more);
    if (out)
        memcpy(out, list, (room < kept ? room : kept) * sizeof *out);
    *count = out && room < kept ? room : kept;
    free(list);
    return out && room < kept ? VK_INCOMPLETE : VK_SUCCESS;
}

static VKAPI_ATTR VkResult VKAPI_CALL extensions(VkPhysicalDevice physical, const char *layer,
                                                 uint32_t *count, VkExtensionProperties *out)
{
    const struct instance *own = find_instance(physical);
    return layer ? own->extensions(physical, layer, count, out)
                 : list_extensions(own, physical, count, out);
}

static VKAPI_ATTR void VKAPI_CALL features(VkPhysicalDevice physical,
                                           VkPhysicalDeviceFeatures2 *out)
{
    const struct instance *own = find_instance(physical);
    own->features(physical, out);
    model_features(&own->model, out->pNext);
}

/* A GPU: a library may treat processors in ways of their own. */
static void disguise(const struct model *model, VkPhysicalDeviceProperties *p)
{
    char name[VK_MAX_PHYSICAL_DEVICE_NAME_SIZE];
    p->deviceType = VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU;
    p->limits.maxComputeSharedMemorySize -= MODEL_RESERVED; /* the lowering takes a little */
    snprintf(name, sizeof name, "simulated matrices of %s on %.200s", model->name, p->deviceName);
    memcpy(p->deviceName, name, sizeof name);
}

static VKAPI_ATTR void VKAPI_CALL properties(VkPhysicalDevice physical,
                                             VkPhysicalDeviceProperties *out)
{
    const struct instance *own = find_instance(physical);
    own->properties(physical, out);
    disguise(&own->model, out);
}

static VKAPI_ATTR void VKAPI_CALL properties2(VkPhysicalDevice physical,
                                              VkPhysicalDeviceProperties2 *out)
{
    const struct instance *own = find_instance(physical);
    own->properties2(physical, out);
    disguise(&own->model, &out->properties);
    model_properties(&own->model, out->pNext);
}

static VKAPI_ATTR VkResult VKAPI_CALL shapes(VkPhysicalDevice physical, uint32_t *count,
                                             VkCooperativeMatrixPropertiesKHR *out)
{
    return model_shapes(&find_instance(physical)->model, count, out);
}

static VKAPI_ATTR VkResult VKAPI_CALL
flexible(VkPhysicalDevice physical, uint32_t *count,
         VkCooperativeMatrixFlexibleDimensionsPropertiesNV *out)
{
    return model_flexible(&find_instance(physical)->model, count, out);
}

/* ---- Devices --------------------------------------------------------------------------------- */

static VkLayerDeviceCreateInfo *device_link(const VkDeviceCreateInfo *info)
{
    for (const VkBaseInStructure *at = info->pNext; at; at = at->pNext) {
        VkLayerDeviceCreateInfo *link = (VkLayerDeviceCreateInfo *)(uintptr_t)at;
        if (at->sType == VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO &&
            link->function == VK_LAYER_LINK_INFO)
            return link;
    }
    return NULL;
}

static bool is_ours(VkStructureType type)
{
    return type == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR ||
           type == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_BFLOAT16_FEATURES_KHR ||
           type == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_2_FEATURES_NV ||
           type == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_MAINTENANCE_1_FEATURES_EXT;
}

/* Structures of ours leave the chain for the time of a call. */
enum { MOST_OURS = 8 };
struct removal {
    VkBaseOutStructure *before[MOST_OURS], *removed[MOST_OURS];
    unsigned count;
};

static void remove_ours(VkDeviceCreateInfo *info, struct removal *out)
{
    VkBaseOutStructure *before = (VkBaseOutStructure *)(void *)info;
    out->count = 0;
    while (before->pNext)
        if (is_ours(before->pNext->sType) && out->count < MOST_OURS) {
            out->before[out->count] = before;
            out->removed[out->count++] = before->pNext;
            before->pNext = before->pNext->pNext;
        } else {
            before = before->pNext;
        }
}

static void put_back(const struct removal *removal)
{
    for (unsigned i = removal->count; i-- > 0;)
        removal->before[i]->pNext = removal->removed[i];
}

/* What is asked for must have been offered, and an extension named where its features are. */
static bool allowed(const struct model *model, const VkDeviceCreateInfo *info)
{
    for (uint32_t i = 0; i < info->enabledExtensionCount; i++)
        if (model_extension(NULL, info->ppEnabledExtensionNames[i]) &&
            !model_extension(model, info->ppEnabledExtensionNames[i])) {
            layer_say("%s was not offered", info->ppEnabledExtensionNames[i]);
            return false;
        }
    return true;
}

static void load_device(struct device *own)
{
#define LOAD(member, name) own->member = (PFN_##name)own->get(own->handle, #name)
    LOAD(destroy, vkDestroyDevice);
    LOAD(device_idle, vkDeviceWaitIdle);
    LOAD(queue_idle, vkQueueWaitIdle);
    LOAD(wait_semaphores, vkWaitSemaphores);
    LOAD(wait_fences, vkWaitForFences);
    LOAD(counter, vkGetSemaphoreCounterValue);
    LOAD(create_module, vkCreateShaderModule);
    LOAD(destroy_module, vkDestroyShaderModule);
    LOAD(create_pipelines, vkCreateComputePipelines);
#undef LOAD
}

/* Bits of bf16 are integers of 16 bits to the device. */
static VkResult create_below(const struct instance *own, VkPhysicalDevice physical,
                             const VkDeviceCreateInfo *info, const VkAllocationCallbacks *allocator,
                             PFN_vkCreateDevice create, VkDevice *out)
{
    const char **names = calloc(info->enabledExtensionCount + 1, sizeof *names);
    VkPhysicalDeviceFeatures wanted = {0};
    VkDeviceCreateInfo changed = *info;
    struct removal removal;
    if (!names || !allowed(&own->model, info)) {
        free(names);
        return VK_ERROR_EXTENSION_NOT_PRESENT;
    }
    changed.ppEnabledExtensionNames = names;
    changed.enabledExtensionCount = 0;
    for (uint32_t i = 0; i < info->enabledExtensionCount; i++)
        if (!model_extension(NULL, info->ppEnabledExtensionNames[i]))
            names[changed.enabledExtensionCount++] = info->ppEnabledExtensionNames[i];
    bool listed = false;
    for (const VkBaseInStructure *at = info->pNext; at; at = at->pNext)
        listed = listed || at->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2;
    if (!listed) {
        wanted = info->pEnabledFeatures ? *info->pEnabledFeatures : wanted;
        wanted.shaderInt16 = VK_TRUE;
        changed.pEnabledFeatures = &wanted;
    }
    remove_ours(&changed, &removal);
    VkResult result = create(physical, &changed, allocator, out);
    put_back(&removal);
    free(names);
    return result;
}

static VKAPI_ATTR VkResult VKAPI_CALL create_device(VkPhysicalDevice physical,
                                                    const VkDeviceCreateInfo *info,
                                                    const VkAllocationCallbacks *allocator,
                                                    VkDevice *out)
{
    const struct instance *instance = find_instance(physical);
    VkLayerDeviceCreateInfo *link = device_link(info);
    struct device *own = calloc(1, sizeof *own);
    if (!link || !own) {
        free(own);
        return VK_ERROR_INITIALIZATION_FAILED;
    }
    PFN_vkGetInstanceProcAddr get = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
    own->get = link->u.pLayerInfo->pfnNextGetDeviceProcAddr;
    link->u.pLayerInfo = link->u.pLayerInfo->pNext;
    PFN_vkCreateDevice create = (PFN_vkCreateDevice)get(instance->handle, "vkCreateDevice");
    VkResult result = create_below(instance, physical, info, allocator, create, out);
    if (result != VK_SUCCESS) {
        free(own);
        return result;
    }
    own->handle = *out;
    own->key = layer_key(*out);
    own->instance = instance;
    own->physical = physical;
    pthread_mutex_init(&own->mutex, NULL);
    load_device(own);
    pthread_mutex_lock(&mutex);
    own->next = devices;
    devices = own;
    pthread_mutex_unlock(&mutex);
    result = device_open(own);
    if (result != VK_SUCCESS)
        layer_say("no memory for what checks find");
    return result;
}

static VKAPI_ATTR void VKAPI_CALL destroy_device(VkDevice handle,
                                                 const VkAllocationCallbacks *allocator)
{
    if (!handle)
        return;
    struct device *own = layer_device(handle);
    own->device_idle(handle);
    device_checked(own, VK_SUCCESS);
    pthread_mutex_lock(&mutex);
    struct device **link = &devices;
    while (*link != own)
        link = &(*link)->next;
    *link = own->next;
    pthread_mutex_unlock(&mutex);
    device_close(own);
    own->destroy(handle, allocator);
    pthread_mutex_destroy(&own->mutex);
    free(own);
}

/* ---- Entry points ---------------------------------------------------------------------------- */

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL get_device(VkDevice device, const char *name);
static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL get_instance(VkInstance instance, const char *name);

struct entry {
    const char *name;
    PFN_vkVoidFunction function;
};

static PFN_vkVoidFunction find_entry(const struct entry *entries, const char *name)
{
    while (entries->name && strcmp(entries->name, name) != 0)
        entries++;
    return entries->function;
}

static PFN_vkVoidFunction physical_function(const char *name)
{
    static const struct entry all[] = {
        {"vkEnumerateDeviceExtensionProperties", (PFN_vkVoidFunction)extensions},
        {"vkGetPhysicalDeviceFeatures2", (PFN_vkVoidFunction)features},
        {"vkGetPhysicalDeviceFeatures2KHR", (PFN_vkVoidFunction)features},
        {"vkGetPhysicalDeviceProperties", (PFN_vkVoidFunction)properties},
        {"vkGetPhysicalDeviceProperties2", (PFN_vkVoidFunction)properties2},
        {"vkGetPhysicalDeviceProperties2KHR", (PFN_vkVoidFunction)properties2},
        {"vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR", (PFN_vkVoidFunction)shapes},
        {"vkGetPhysicalDeviceCooperativeMatrixFlexibleDimensionsPropertiesNV",
         (PFN_vkVoidFunction)flexible},
        {"vkCreateDevice", (PFN_vkVoidFunction)create_device},
        {NULL, NULL},
    };
    return find_entry(all, name);
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL get_physical(VkInstance handle, const char *name)
{
    PFN_vkVoidFunction own = physical_function(name);
    if (own)
        return own;
    struct instance *instance = handle ? find_instance(handle) : NULL;
    PFN_GetPhysicalDeviceProcAddr below =
        instance ? (PFN_GetPhysicalDeviceProcAddr)instance->get(handle,
                                                                "vk_layerGetPhysicalDeviceProcAddr")
                 : NULL;
    return below ? below(handle, name) : NULL;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL get_device(VkDevice handle, const char *name)
{
    PFN_vkVoidFunction own = device_function(name);
    if (own)
        return own;
    if (strcmp(name, "vkGetDeviceProcAddr") == 0)
        return (PFN_vkVoidFunction)get_device;
    if (strcmp(name, "vkDestroyDevice") == 0)
        return (PFN_vkVoidFunction)destroy_device;
    struct device *device = handle ? layer_device(handle) : NULL;
    return device ? device->get(handle, name) : NULL;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL get_instance(VkInstance handle, const char *name)
{
    static const struct entry all[] = {
        {"vkGetInstanceProcAddr", (PFN_vkVoidFunction)get_instance},
        {"vkCreateInstance", (PFN_vkVoidFunction)create_instance},
        {"vkDestroyInstance", (PFN_vkVoidFunction)destroy_instance},
        {"vkGetDeviceProcAddr", (PFN_vkVoidFunction)get_device},
        {"vkDestroyDevice", (PFN_vkVoidFunction)destroy_device},
        {NULL, NULL},
    };
    PFN_vkVoidFunction own = find_entry(all, name);
    own = own ? own : physical_function(name);
    own = own ? own : device_function(name);
    struct instance *instance = handle && !own ? find_instance(handle) : NULL;
    return instance ? instance->get(handle, name) : own;
}

/* What the loader looks for. */
__attribute__((visibility("default"))) VKAPI_ATTR VkResult VKAPI_CALL
vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *version)
{
    if (version->loaderLayerInterfaceVersion < 2)
        return VK_ERROR_INITIALIZATION_FAILED;
    version->loaderLayerInterfaceVersion = 2;
    version->pfnGetInstanceProcAddr = get_instance;
    version->pfnGetDeviceProcAddr = get_device;
    version->pfnGetPhysicalDeviceProcAddr = get_physical;
    return VK_SUCCESS;
}
