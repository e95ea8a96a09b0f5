/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "device.h"

static bool load_global(struct vk_instance *instance)
{
    struct vk_api *api = &instance->api;
    void *symbol = draft_library_symbol(instance->library, "vkGetInstanceProcAddr");
    if (!symbol)
        return false;
    memcpy(&api->vkGetInstanceProcAddr, &symbol, sizeof symbol);
#define X(name) api->name = (PFN_##name)api->vkGetInstanceProcAddr(NULL, #name);
    DRAFT_VK_GLOBAL_FUNCTIONS(X)
#undef X
    return api->vkCreateInstance != NULL;
}

/* The first function that is missing, or NULL. */
static const char *load_instance(struct vk_instance *instance)
{
    struct vk_api *api = &instance->api;
    const char *missing = NULL;
#define X(name)                                                                                    \
    api->name = (PFN_##name)api->vkGetInstanceProcAddr(instance->handle, #name);                   \
    if (!api->name && !missing)                                                                    \
        missing = #name;
    DRAFT_VK_INSTANCE_FUNCTIONS(X)
#undef X
    return missing;
}

draft_status draft_vk_load_device(const struct draft_log *log, struct vk_api *api, VkDevice device)
{
    const char *missing = NULL;
#define X(name)                                                                                    \
    api->name = (PFN_##name)api->vkGetDeviceProcAddr(device, #name);                               \
    if (!api->name && !missing)                                                                    \
        missing = #name;
    DRAFT_VK_DEVICE_FUNCTIONS(X)
#undef X
    if (!missing)
        return DRAFT_OK;
    draft_log(log, DRAFT_LOG_ERROR, "vulkan: the driver has no %s", missing);
    return DRAFT_ERROR_UNSUPPORTED;
}

static draft_status create_instance(const struct draft_log *log, struct vk_instance *instance)
{
    uint32_t version = VK_API_VERSION_1_0;
    if (instance->api.vkEnumerateInstanceVersion)
        instance->api.vkEnumerateInstanceVersion(&version);
    if (version < VK_API_VERSION_1_1) { /* would refuse a newer version of the application */
        draft_log(log, DRAFT_LOG_INFO, "vulkan: the loader is version 1.0; 1.1 is needed");
        return DRAFT_ERROR_NO_DEVICE;
    }
    /* 1.3, so that limits which came with it may be asked of devices that have it. */
    VkApplicationInfo application = {
        .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
        .pEngineName = "libdraft",
        .engineVersion = draft_version(),
        .apiVersion = VK_API_VERSION_1_3,
    };
    instance->version = application.apiVersion;
    VkInstanceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
        .pApplicationInfo = &application,
    };
    VkResult result = instance->api.vkCreateInstance(&info, NULL, &instance->handle);
    if (result == VK_SUCCESS)
        return DRAFT_OK;
    instance->handle = NULL;
    bool memory = result == VK_ERROR_OUT_OF_HOST_MEMORY;
    draft_log(log, memory ? DRAFT_LOG_ERROR : DRAFT_LOG_INFO,
              "vulkan: no driver: vkCreateInstance gave %d", (int)result);
    return memory ? DRAFT_ERROR_MEMORY : DRAFT_ERROR_NO_DEVICE;
}

draft_status draft_vk_instance_open(const struct draft_log *log, struct vk_instance *out)
{
    static const struct draft_library loader = {"libvulkan.so.1", "vulkan-1.dll", false};
    char why[256];
    *out = (struct vk_instance){.library = draft_library_open(&loader, why)};
    if (!out->library) {
        draft_log(log, DRAFT_LOG_INFO, "vulkan: no loader: %s", why);
        return DRAFT_ERROR_NO_DEVICE;
    }
    draft_status status = DRAFT_ERROR_NO_DEVICE;
    if (load_global(out))
        status = create_instance(log, out);
    else
        draft_log(log, DRAFT_LOG_INFO, "vulkan: the loader has no vkCreateInstance");
    if (!status) {
        const char *missing = load_instance(out);
        if (!missing)
            return DRAFT_OK;
        draft_log(log, DRAFT_LOG_INFO, "vulkan: the loader has no %s", missing);
        status = DRAFT_ERROR_NO_DEVICE;
    }
    draft_vk_instance_close(out);
    return status;
}

draft_status draft_vk_instance_adopt(const struct draft_log *log,
                                     const struct draft_vulkan_native *native,
                                     struct vk_instance *out)
{
    *out = (struct vk_instance){
        .handle = native->instance,
        .adopted = true,
        .version = native->api_version ? native->api_version : VK_API_VERSION_1_2,
        .api = {.vkGetInstanceProcAddr = native->get_instance_proc_addr},
    };
    const char *missing = load_instance(out);
    if (!missing)
        return DRAFT_OK;
    draft_log(log, DRAFT_LOG_ERROR, "vulkan: native.get_instance_proc_addr has no %s", missing);
    return DRAFT_ERROR_UNSUPPORTED;
}

void draft_vk_instance_close(struct vk_instance *instance)
{
    if (instance->handle && !instance->adopted && instance->api.vkDestroyInstance)
        instance->api.vkDestroyInstance(instance->handle, NULL);
    if (instance->library)
        draft_library_close(instance->library);
    *instance = (struct vk_instance){0};
}
