/* SPDX-License-Identifier: MIT
 *
 * Matrix units: which products of f16 matrices, summed up in f32, a device offers. */
#include <stdlib.h>
#include <string.h>

#include "device.h"

/* True where $DRAFT_VULKAN_DISABLE, words with commas between them, has the word. */
static bool disabled(const char *word)
{
    size_t length = strlen(word);
    for (const char *at = getenv("DRAFT_VULKAN_DISABLE"); at; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, word, length) == 0 && (at[length] == ',' || at[length] == '\0'))
            return true;
    }
    return false;
}

static bool has_extension(const struct draft_log *log, const struct vk_instance *instance,
                          VkPhysicalDevice device, const char *name)
{
    PFN_vkEnumerateDeviceExtensionProperties enumerate =
        (PFN_vkEnumerateDeviceExtensionProperties)instance->api.vkGetInstanceProcAddr(
            instance->handle, "vkEnumerateDeviceExtensionProperties");
    uint32_t count = 0;
    if (!enumerate || enumerate(device, NULL, &count, NULL) < 0)
        return false;
    VkExtensionProperties *all = draft_vk_calloc(log, count + 1, sizeof *all, "extensions");
    bool found = false;
    if (all && enumerate(device, NULL, &count, all) >= 0)
        for (uint32_t i = 0; i < count; i++)
            found = found || strcmp(all[i].extensionName, name) == 0;
    draft_release(all);
    return found;
}

static bool has_features(const struct vk_api *api, VkPhysicalDevice device)
{
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR matrix = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR};
    VkPhysicalDeviceVulkan12Features v12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES, .pNext = &matrix};
    VkPhysicalDeviceFeatures2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                     .pNext = &v12};
    api->vkGetPhysicalDeviceFeatures2(device, &all);
    return matrix.cooperativeMatrix && v12.vulkanMemoryModel && v12.vulkanMemoryModelDeviceScope &&
           v12.shaderFloat16;
}

static uint32_t shape_of(const VkCooperativeMatrixPropertiesKHR *p)
{
    if (p->AType != VK_COMPONENT_TYPE_FLOAT16_KHR || p->BType != VK_COMPONENT_TYPE_FLOAT16_KHR ||
        p->CType != VK_COMPONENT_TYPE_FLOAT32_KHR ||
        p->ResultType != VK_COMPONENT_TYPE_FLOAT32_KHR || p->saturatingAccumulation ||
        p->scope != VK_SCOPE_SUBGROUP_KHR)
        return 0;
    if (p->MSize == 16 && p->NSize == 16 && p->KSize == 16)
        return VK_MATRIX_16X16X16;
    if (p->MSize == 8 && p->NSize == 16 && p->KSize == 16)
        return VK_MATRIX_8X16X16;
    return p->MSize == 8 && p->NSize == 8 && p->KSize == 8 ? VK_MATRIX_8X8X8 : 0;
}

static uint32_t query_shapes(const struct draft_log *log, const struct vk_instance *instance,
                             VkPhysicalDevice device)
{
    PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR query =
        (PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR)instance->api.vkGetInstanceProcAddr(
            instance->handle, "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR");
    uint32_t count = 0, shapes = 0;
    if (!query || query(device, &count, NULL) < 0)
        return 0;
    VkCooperativeMatrixPropertiesKHR *all =
        draft_vk_calloc(log, count + 1, sizeof *all, "shapes of matrices");
    for (uint32_t i = 0; all && i < count; i++)
        all[i].sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR;
    if (all && query(device, &count, all) >= 0)
        for (uint32_t i = 0; i < count; i++)
            shapes |= shape_of(&all[i]);
    draft_release(all);
    return shapes;
}

uint32_t draft_vk_matrix_shapes(const struct draft_log *log, const struct vk_instance *instance,
                                VkPhysicalDevice device)
{
    if (disabled("cooperativeMatrix") || disabled("vulkanMemoryModel") || disabled("shaderFloat16"))
        return 0;
    if (!has_extension(log, instance, device, VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME) ||
        !has_features(&instance->api, device))
        return 0;
    return query_shapes(log, instance, device);
}

void draft_vk_matrix_enable(const struct vk_caps *caps, struct vk_matrix_request *request,
                            VkPhysicalDeviceVulkan12Features *features, VkDeviceCreateInfo *info)
{
    if (!caps->matrix_shapes)
        return;
    request->extension = VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME;
    request->features = (VkPhysicalDeviceCooperativeMatrixFeaturesKHR){
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR,
        .cooperativeMatrix = VK_TRUE,
    };
    features->vulkanMemoryModel = VK_TRUE;
    features->vulkanMemoryModelDeviceScope = VK_TRUE; /* for the atomics of all other kernels */
    features->shaderFloat16 = VK_TRUE;
    features->pNext = &request->features;
    info->enabledExtensionCount = 1;
    info->ppEnabledExtensionNames = &request->extension;
}
