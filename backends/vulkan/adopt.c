/* SPDX-License-Identifier: MIT
 *
 * The caller's instance and device, and what the caller should enable on it: both by one table of
 * the features that the kernels use. */
#include <inttypes.h>
#include <string.h>

#include "device.h"

/* ---- Features -------------------------------------------------------------------------------- */

/* A structure of features, and the member's place in it. */
struct place {
    VkStructureType type;
    size_t offset;
};
#define PLACE(type, structure, member)                                                             \
    {                                                                                              \
        VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_##type, offsetof(VkPhysicalDevice##structure, member)    \
    }

/* A feature by its name in Vulkan. */
struct feature {
    const char *name;
    struct place places[2]; /* where it may be listed; a type of 0: not there */
    bool queue;             /* only where there is a queue of the library's   */
};

/* All required: variants that need more than these ask vk_caps. */
static const struct feature features[] = {
    {"bufferDeviceAddress",
     {PLACE(VULKAN_1_2_FEATURES, Vulkan12Features, bufferDeviceAddress),
      PLACE(BUFFER_DEVICE_ADDRESS_FEATURES, BufferDeviceAddressFeatures, bufferDeviceAddress)},
     false},
    {"timelineSemaphore",
     {PLACE(VULKAN_1_2_FEATURES, Vulkan12Features, timelineSemaphore),
      PLACE(TIMELINE_SEMAPHORE_FEATURES, TimelineSemaphoreFeatures, timelineSemaphore)},
     true},
};
enum { FEATURES = sizeof features / sizeof *features };

/* The member in the first structure of the chain that has it, or NULL. */
static VkBool32 *find_feature(const void *chain, const struct feature *feature)
{
    for (const VkBaseInStructure *at = chain; at; at = at->pNext)
        for (int p = 0; p < 2; p++)
            if (feature->places[p].type && at->sType == feature->places[p].type)
                return (VkBool32 *)((char *)at + feature->places[p].offset);
    return NULL;
}

/* ---- The device ------------------------------------------------------------------------------ */

/* What of the native says which device it is. On failure nothing is left to be closed; nothing ever
 * needs to be, as all is the caller's. */
static draft_status look_at(const struct draft_log *log, const struct draft_vulkan_native *native,
                            uint32_t family, struct vk_instance *instance,
                            struct vk_physical *physical)
{
    const char *missing = !native->get_instance_proc_addr ? "get_instance_proc_addr"
                          : !native->instance             ? "instance"
                          : !native->physical_device      ? "physical_device"
                                                          : NULL;
    if (missing) {
        draft_log(log, DRAFT_LOG_ERROR, "vulkan: native.%s is NULL", missing);
        return DRAFT_ERROR_ARGUMENT;
    }
    if (native->api_version && native->api_version < VK_API_VERSION_1_2) {
        draft_log(log, DRAFT_LOG_ERROR,
                  "vulkan: native.api_version is %" PRIu32 ".%" PRIu32 "; it must be 1.2 or later",
                  VK_API_VERSION_MAJOR(native->api_version),
                  VK_API_VERSION_MINOR(native->api_version));
        return DRAFT_ERROR_UNSUPPORTED;
    }
    draft_status status = draft_vk_instance_adopt(log, native, instance);
    if (status)
        return status;
    const char *why;
    status = draft_vk_inspect(log, instance, native->physical_device, family, physical, &why);
    if (status || !why)
        return status;
    draft_log(log, DRAFT_LOG_ERROR, "vulkan: not %s: %s", physical->name, why);
    return DRAFT_ERROR_UNSUPPORTED;
}

draft_status draft_vk_requirements(const struct draft_log *log,
                                   const struct draft_vulkan_native *native, void *chain,
                                   const char **extensions, uint32_t *count)
{
    struct vk_instance instance;
    struct vk_physical physical;
    draft_status status = look_at(log, native, VK_ANY_FAMILY, &instance, &physical);
    if (status)
        return status;
    for (size_t f = 0; chain && f < FEATURES; f++)
        if (!features[f].queue && !find_feature(chain, &features[f])) {
            draft_log(log, DRAFT_LOG_ERROR, "vulkan: no structure in features has %s",
                      features[f].name);
            return DRAFT_ERROR_ARGUMENT;
        }
    for (size_t f = 0; chain && f < FEATURES; f++) {
        VkBool32 *member = find_feature(chain, &features[f]);
        if (member)
            *member = VK_TRUE;
    }
    (void)extensions; /* everything in use is part of Vulkan 1.2 */
    *count = 0;
    return DRAFT_OK;
}

static draft_status check_features(const struct draft_log *log,
                                   const struct draft_vulkan_native *native)
{
    for (size_t f = 0; f < FEATURES; f++) {
        const VkBool32 *member = find_feature(native->features, &features[f]);
        if ((features[f].queue && !native->queue) || (member && *member))
            continue;
        draft_log(log, DRAFT_LOG_ERROR,
                  "vulkan: native.features does not list %s, which is required%s", features[f].name,
                  features[f].queue ? " where a queue is given" : "");
        return DRAFT_ERROR_UNSUPPORTED;
    }
    return DRAFT_OK;
}

draft_status draft_vk_adopt(const struct draft_log *log, const struct draft_vulkan_native *native,
                            struct vk_instance *instance, struct vk_device *device)
{
    if (!native->device) {
        draft_log(log, DRAFT_LOG_ERROR, "vulkan: native.device is NULL");
        return DRAFT_ERROR_ARGUMENT;
    }
    if (!native->extensions && native->extension_count) {
        draft_log(log, DRAFT_LOG_ERROR,
                  "vulkan: native.extensions is NULL and extension_count is %" PRIu32,
                  native->extension_count);
        return DRAFT_ERROR_ARGUMENT;
    }
    draft_status status = look_at(log, native, native->queue_family, instance, &device->physical);
    if (!status)
        status = check_features(log, native);
    if (status)
        return status;
    device->log = log;
    device->api = instance->api;
    device->handle = native->device;
    device->queue = native->queue;
    device->adopted = true;
    device->pipelines = native->pipeline_cache;
    if (native->allocation) {
        device->callbacks = *native->allocation;
        device->allocator = &device->callbacks;
    }
    atomic_init(&device->lost, false);
    return draft_vk_load_device(log, &device->api, device->handle);
}
