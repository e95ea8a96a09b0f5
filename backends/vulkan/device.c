/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>

#include "device.h"

/* ---- Errors ---------------------------------------------------------------------------------- */

static const char *result_name(VkResult result)
{
    switch (result) {
#define X(name)                                                                                    \
    case name:                                                                                     \
        return #name;
        X(VK_NOT_READY)
        X(VK_TIMEOUT)
        X(VK_INCOMPLETE)
        X(VK_ERROR_OUT_OF_HOST_MEMORY)
        X(VK_ERROR_OUT_OF_DEVICE_MEMORY)
        X(VK_ERROR_INITIALIZATION_FAILED)
        X(VK_ERROR_DEVICE_LOST)
        X(VK_ERROR_MEMORY_MAP_FAILED)
        X(VK_ERROR_LAYER_NOT_PRESENT)
        X(VK_ERROR_EXTENSION_NOT_PRESENT)
        X(VK_ERROR_FEATURE_NOT_PRESENT)
        X(VK_ERROR_INCOMPATIBLE_DRIVER)
        X(VK_ERROR_TOO_MANY_OBJECTS)
        X(VK_ERROR_FRAGMENTED_POOL)
        X(VK_ERROR_UNKNOWN)
        X(VK_ERROR_FRAGMENTATION)
        X(VK_ERROR_INVALID_OPAQUE_CAPTURE_ADDRESS)
#undef X
    default:
        return "an unexpected result";
    }
}

static bool out_of_memory(VkResult result)
{
    return result == VK_ERROR_OUT_OF_HOST_MEMORY || result == VK_ERROR_OUT_OF_DEVICE_MEMORY ||
           result == VK_ERROR_TOO_MANY_OBJECTS || result == VK_ERROR_MEMORY_MAP_FAILED;
}

draft_status draft_vk_check(struct vk_device *vk, VkResult result, const char *call)
{
    if (result == VK_SUCCESS)
        return DRAFT_OK;
    if (result == VK_ERROR_DEVICE_LOST)
        atomic_store(&vk->lost, true);
    draft_log(vk->log, DRAFT_LOG_ERROR, "vulkan: %s gave %s (%d)", call, result_name(result),
              (int)result);
    return out_of_memory(result) ? DRAFT_ERROR_MEMORY : DRAFT_ERROR_DEVICE;
}

draft_status draft_vk_alive(const struct vk_device *vk)
{
    if (!atomic_load(&vk->lost))
        return DRAFT_OK;
    draft_log(vk->log, DRAFT_LOG_ERROR, "vulkan: the device was lost before");
    return DRAFT_ERROR_DEVICE;
}

void *draft_vk_calloc(const struct draft_log *log, size_t count, size_t size, const char *what)
{
    void *memory = draft_calloc(count, size);
    if (!memory)
        draft_log(log, DRAFT_LOG_ERROR, "vulkan: out of host memory for %s", what);
    return memory;
}

/* ---- Physical devices ------------------------------------------------------------------------ */

/* A family with compute: one that cannot draw where there is one, so that a busy display does not
 * hold it up. */
static draft_status choose_family(const struct draft_log *log, const struct vk_api *api,
                                  uint32_t only, struct vk_physical *out)
{
    uint32_t count = 0;
    api->vkGetPhysicalDeviceQueueFamilyProperties(out->handle, &count, NULL);
    VkQueueFamilyProperties *families =
        draft_vk_calloc(log, count + 1, sizeof *families, "queue families");
    if (!families)
        return DRAFT_ERROR_MEMORY;
    api->vkGetPhysicalDeviceQueueFamilyProperties(out->handle, &count, families);
    out->family = UINT32_MAX;
    for (uint32_t i = 0; i < count; i++) {
        VkQueueFlags flags = families[i].queueFlags;
        if (!(flags & VK_QUEUE_COMPUTE_BIT) || !families[i].queueCount ||
            (only != VK_ANY_FAMILY && only != i))
            continue;
        if (out->family == UINT32_MAX || !(flags & VK_QUEUE_GRAPHICS_BIT)) {
            uint32_t bits = families[i].timestampValidBits;
            out->family = i;
            out->tick_mask = bits >= 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
            if (!(flags & VK_QUEUE_GRAPHICS_BIT))
                break;
        }
    }
    draft_release(families);
    return DRAFT_OK;
}

static void read_properties(const struct vk_api *api, struct vk_physical *out)
{
    bool newer = out->version >= VK_API_VERSION_1_3;
    VkPhysicalDeviceVulkan13Properties v13 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_PROPERTIES};
    VkPhysicalDeviceVulkan12Properties v12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_PROPERTIES,
        .pNext = newer ? &v13 : NULL};
    VkPhysicalDeviceVulkan11Properties v11 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES, .pNext = &v12};
    VkPhysicalDeviceProperties2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                       .pNext = &v11};
    api->vkGetPhysicalDeviceProperties2(out->handle, &all);
    const VkPhysicalDeviceLimits *limits = &all.properties.limits;
    out->type = all.properties.deviceType;
    out->caps = (struct vk_caps){
        .cpu = out->type == VK_PHYSICAL_DEVICE_TYPE_CPU,
        .max_shared = limits->maxComputeSharedMemorySize,
        .max_invocations = limits->maxComputeWorkGroupInvocations,
        .subgroup_size = v11.subgroupSize,
        .vendor_id = all.properties.vendorID,
    };
    /* Measured: Mesa 22.3 does, 26.2 does not. */
    out->caps.lane_loads = v12.driverID == VK_DRIVER_ID_MESA_LLVMPIPE &&
                           VK_API_VERSION_MAJOR(all.properties.driverVersion) < 25;
    out->device_id = all.properties.deviceID;
    out->driver_version = all.properties.driverVersion;
    memcpy(out->uuid, v11.deviceUUID, sizeof out->uuid);
    memcpy(out->cache_uuid, all.properties.pipelineCacheUUID, sizeof out->cache_uuid);
    snprintf(out->name, sizeof out->name, "%s", all.properties.deviceName);
    snprintf(out->driver, sizeof out->driver, "%s %s", v12.driverName, v12.driverInfo);
    out->max_groups = limits->maxComputeWorkGroupCount[0];
    out->max_allocation = v11.maxMemoryAllocationSize;
    out->max_buffer = newer ? v13.maxBufferSize : UINT64_MAX;
    out->atom = limits->nonCoherentAtomSize;
    out->tick = out->tick_mask ? limits->timestampPeriod * 1e-9 : 0;
}

static const char *check_limits(const VkPhysicalDeviceLimits *limits)
{
    enum { THREADS = 128, SHARED = 16384 }; /* what the simplest kernels take */
    if (limits->maxPushConstantsSize < sizeof(struct draft_args))
        return "it has fewer than 128 bytes of push constants";
    if (limits->maxComputeWorkGroupInvocations < THREADS ||
        limits->maxComputeWorkGroupSize[0] < THREADS)
        return "its workgroups hold fewer than 128 invocations";
    if (limits->maxComputeSharedMemorySize < SHARED)
        return "its workgroups share less than 16 KiB";
    return NULL;
}

draft_status draft_vk_inspect(const struct draft_log *log, const struct vk_instance *instance,
                              VkPhysicalDevice handle, uint32_t family, struct vk_physical *out,
                              const char **why)
{
    const struct vk_api *api = &instance->api;
    *out = (struct vk_physical){.handle = handle};
    *why = NULL;
    VkPhysicalDeviceProperties properties;
    api->vkGetPhysicalDeviceProperties(handle, &properties);
    snprintf(out->name, sizeof out->name, "%s", properties.deviceName);
    out->version =
        properties.apiVersion < instance->version ? properties.apiVersion : instance->version;
    draft_status status = DRAFT_OK;
    if (properties.apiVersion < VK_API_VERSION_1_2)
        *why = "it is older than Vulkan 1.2";
    else
        status = draft_vk_lacks(log, instance, out, why);
    if (!status && !*why)
        *why = check_limits(&properties.limits);
    if (status || *why)
        return status;
    status = choose_family(log, api, family, out);
    if (status)
        return status;
    if (out->family == UINT32_MAX)
        *why = family == VK_ANY_FAMILY ? "it has no queue for compute"
                                       : "the family of queues has no compute";
    read_properties(api, out);
    api->vkGetPhysicalDeviceMemoryProperties(handle, &out->memory);
    return DRAFT_OK;
}

static draft_status list_handles(const struct draft_log *log, const struct vk_instance *instance,
                                 VkPhysicalDevice **out, uint32_t *count)
{
    const struct vk_api *api = &instance->api;
    VkResult result = api->vkEnumeratePhysicalDevices(instance->handle, count, NULL);
    *count = result < 0 ? 0 : *count;
    if (result < 0)
        draft_log(log, DRAFT_LOG_INFO, "vulkan: vkEnumeratePhysicalDevices gave %s",
                  result_name(result));
    *out = draft_vk_calloc(log, *count + 1, sizeof **out, "devices");
    if (!*out)
        return DRAFT_ERROR_MEMORY;
    /* Fewer than before, or VK_INCOMPLETE where there are more: both will do. */
    if (*count && api->vkEnumeratePhysicalDevices(instance->handle, count, *out) < 0)
        *count = 0;
    return DRAFT_OK;
}

draft_status draft_vk_physical_list(const struct draft_log *log, const struct vk_instance *instance,
                                    struct vk_physical **out, uint32_t *count)
{
    uint32_t handles_count = 0;
    VkPhysicalDevice *handles = NULL;
    draft_status status = list_handles(log, instance, &handles, &handles_count);
    if (status)
        return status;
    *count = 0;
    *out = draft_vk_calloc(log, handles_count + 1, sizeof **out, "devices");
    if (!*out)
        status = DRAFT_ERROR_MEMORY;
    for (uint32_t i = 0; i < handles_count && !status; i++) {
        const char *why;
        struct vk_physical *physical = &(*out)[*count];
        status = draft_vk_inspect(log, instance, handles[i], VK_ANY_FAMILY, physical, &why);
        if (!status && !why)
            status = draft_vk_tiers(log, instance, physical);
        if (!status && why)
            draft_log(log, DRAFT_LOG_INFO, "vulkan: not %s: %s", physical->name, why);
        *count += !status && !why;
    }
    if (!status && *count == 0)
        draft_log(log, DRAFT_LOG_INFO, "vulkan: no usable device among %u", handles_count);
    draft_release(handles);
    if (status) {
        draft_release(*out);
        *out = NULL;
    }
    return status;
}

/* A video model, to ask which kernel would be taken. */
static const struct draft_geometry usual = {
    .batch = 1,
    .heads = 24,
    .kv_heads = 24,
    .dim = 128,
    .prefix = 0,
    .frames = 33,
    .height = 45,
    .width = 80,
    .suffix = 256,
    .tile_t = 3,
    .tile_h = 5,
    .tile_w = 8,
    .tiles_t = 11,
    .tiles_h = 9,
    .tiles_w = 10,
    .prefix_blocks = 0,
    .video_blocks = 990,
    .suffix_blocks = 2,
    .blocks = 992,
    .type = DRAFT_ABI_F16,
    .rule = DRAFT_ABI_HEAD,
    .force = DRAFT_FORCED_SELF,
    .scale = 0.0883883f,
    .group = 1,
    .tokens = 119056,
};

static const char *best_attend(const struct vk_caps *caps)
{
    size_t count;
    const struct vk_variant *variants = draft_vk_variants(DRAFT_ATTEND, &count);
    for (size_t i = 0; i < count; i++)
        if (!variants[i].refuses(caps, &usual))
            return variants[i].name;
    return "none";
}

void draft_vk_describe(const struct vk_physical *physical, uint32_t index,
                       struct draft_device_info *out)
{
    const VkPhysicalDeviceMemoryProperties *memory = &physical->memory;
    *out = (struct draft_device_info){
        .backend = "vulkan",
        .index = index,
        .software = physical->caps.cpu,
        .types = 1u << DRAFT_F16 | 1u << DRAFT_BF16 | 1u << DRAFT_F32,
    };
    for (uint32_t i = 0; i < memory->memoryHeapCount; i++)
        if (memory->memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT &&
            memory->memoryHeaps[i].size > out->memory)
            out->memory = memory->memoryHeaps[i].size;
    memcpy(out->uuid, physical->uuid, sizeof out->uuid);
    snprintf(out->name, sizeof out->name, "%.*s", (int)sizeof out->name - 1, physical->name);
    snprintf(out->driver, sizeof out->driver, "%.*s", (int)sizeof out->driver - 1,
             physical->driver);
    snprintf(out->attend, sizeof out->attend, "%.*s", (int)sizeof out->attend - 1,
             best_attend(&physical->caps));
}

/* ---- Device ---------------------------------------------------------------------------------- */

static draft_status create_device(const struct vk_api *api, struct vk_device *vk)
{
    float priority = 0.5f;
    VkDeviceQueueCreateInfo queue = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
        .queueFamilyIndex = vk->physical.family,
        .queueCount = 1,
        .pQueuePriorities = &priority,
    };
    VkDeviceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
        .queueCreateInfoCount = 1,
        .pQueueCreateInfos = &queue,
    };
    struct vk_request request;
    draft_vk_enable(&vk->physical, &request, &info);
    VkResult result = api->vkCreateDevice(vk->physical.handle, &info, NULL, &vk->handle);
    if (result != VK_SUCCESS)
        vk->handle = NULL;
    return draft_vk_check(vk, result, "vkCreateDevice");
}

draft_status draft_vk_device_open(const struct draft_log *log, const struct vk_instance *instance,
                                  const struct vk_physical *physical, struct vk_device *out)
{
    out->log = log;
    out->physical = *physical;
    out->api = instance->api;
    atomic_init(&out->lost, false);
    draft_status status = create_device(&instance->api, out);
    if (status)
        return status;
    status = draft_vk_load_device(log, &out->api, out->handle);
    if (status)
        draft_vk_device_close(out);
    else
        out->api.vkGetDeviceQueue(out->handle, physical->family, 0, &out->queue);
    return status;
}

void draft_vk_device_close(struct vk_device *vk)
{
    if (vk->handle && !vk->adopted && vk->api.vkDestroyDevice)
        vk->api.vkDestroyDevice(vk->handle, NULL);
    vk->handle = NULL;
}
