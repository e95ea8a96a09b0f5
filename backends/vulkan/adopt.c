/* SPDX-License-Identifier: MIT
 *
 * The caller's instance and device, and what the caller should enable on it. */
#include <inttypes.h>

#include "device.h"

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
    status = draft_vk_tiers(log, &instance, &physical);
    if (status)
        return status;
    if (chain) {
        const char *without = draft_vk_without_place(&physical, chain);
        if (without) {
            draft_log(log, DRAFT_LOG_ERROR, "vulkan: no structure in features has %s", without);
            return DRAFT_ERROR_ARGUMENT;
        }
        draft_vk_ask_for(&physical, chain);
    }
    *count = draft_vk_extensions(&physical, extensions, *count);
    return DRAFT_OK;
}

static draft_status check_features(const struct draft_log *log,
                                   const struct draft_vulkan_native *native,
                                   const struct vk_physical *physical)
{
    const char *rule, *missing = draft_vk_unlisted(physical, native, &rule);
    if (!missing)
        return DRAFT_OK;
    draft_log(log, DRAFT_LOG_ERROR, "vulkan: native.features does not list %s, which is required%s",
              missing, rule);
    return DRAFT_ERROR_UNSUPPORTED;
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
        status = check_features(log, native, &device->physical);
    if (!status) {
        device->physical.tiers = draft_vk_listed_tiers(&device->physical, native);
        status = draft_vk_caps(log, instance, &device->physical);
    }
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
