/* SPDX-License-Identifier: MIT */
#include "vulkan_driver.h"

#include <string.h>

struct driver driver;

const char *const driver_extensions[DRIVER_EXTENSIONS] = {
    "VK_EXT_subgroup_size_control", "VK_KHR_cooperative_matrix", "VK_KHR_shader_bfloat16",
    "VK_NV_cooperative_matrix2", "VK_EXT_cooperative_matrix_maintenance1"};

static VKAPI_ATTR VkResult VKAPI_CALL all_extensions(VkPhysicalDevice device, const char *layer,
                                                     uint32_t *count, VkExtensionProperties *out)
{
    (void)device, (void)layer;
    for (uint32_t e = 0; out && e < *count && e < DRIVER_EXTENSIONS; e++)
        strcpy(out[e].extensionName, driver_extensions[e]);
    *count = DRIVER_EXTENSIONS;
    return VK_SUCCESS;
}

static VKAPI_ATTR void VKAPI_CALL all_features(VkPhysicalDevice device,
                                               VkPhysicalDeviceFeatures2 *out)
{
    static const struct {
        VkStructureType type;
        size_t size;
    } known[] = {
#define X(type, structure, member)                                                                 \
    {VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_##type, sizeof(VkPhysicalDevice##structure)},
        DRAFT_VK_FEATURE_STRUCTURES(X)
#undef X
    };
    (void)device;
    for (VkBaseOutStructure *at = out->pNext; at; at = at->pNext) {
        ck_assert_uint_lt(driver.chain_count, DRIVER_ASKED);
        driver.chains[driver.chain_count++] = at->sType;
        for (size_t k = 0; k < sizeof known / sizeof *known; k++)
            for (size_t member = sizeof *at; at->sType == known[k].type && member < known[k].size;
                 member += sizeof(VkBool32))
                *(VkBool32 *)((char *)at + member) = VK_TRUE;
    }
}

static VKAPI_ATTR void VKAPI_CALL properties(VkPhysicalDevice device,
                                             VkPhysicalDeviceProperties *out)
{
    VkPhysicalDeviceProperties2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2};
    vk.vkGetPhysicalDeviceProperties2(device, &all);
    *out = all.properties;
    out->apiVersion = driver.version;
}

/* The real one must not see what its device may not know. */
static VKAPI_ATTR void VKAPI_CALL more_properties(VkPhysicalDevice device,
                                                  VkPhysicalDeviceProperties2 *out)
{
    VkBaseOutStructure *first = out->pNext;
    if (first &&
        first->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES) {
        VkPhysicalDeviceSubgroupSizeControlProperties *sizes = (void *)first;
        sizes->minSubgroupSize = 16;
        sizes->maxSubgroupSize = 64;
        sizes->maxComputeWorkgroupSubgroups = 8;
        sizes->requiredSubgroupSizeStages = VK_SHADER_STAGE_COMPUTE_BIT;
    } else if (first && first->sType ==
                            VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_2_PROPERTIES_NV) {
        VkPhysicalDeviceCooperativeMatrix2PropertiesNV *limits = (void *)first;
        limits->cooperativeMatrixWorkgroupScopeMaxWorkgroupSize = 256;
        limits->cooperativeMatrixFlexibleDimensionsMaxDimension = 1024;
        limits->cooperativeMatrixWorkgroupScopeReservedSharedMemory = 4096;
    } else {
        vk.vkGetPhysicalDeviceProperties2(device, out);
    }
}

#define F16  VK_COMPONENT_TYPE_FLOAT16_KHR
#define F32  VK_COMPONENT_TYPE_FLOAT32_KHR
#define BF16 VK_COMPONENT_TYPE_BFLOAT16_KHR

static VKAPI_ATTR VkResult VKAPI_CALL shapes(VkPhysicalDevice device, uint32_t *count,
                                             VkCooperativeMatrixPropertiesKHR *out)
{
    static const struct {
        uint32_t m, n, k;
        VkComponentTypeKHR in, sum, result;
        VkBool32 saturates;
        VkScopeKHR scope;
    } all[] = {
        {16, 16, 16, F16, F32, F32, false, VK_SCOPE_SUBGROUP_KHR},
        {8, 16, 16, F16, F32, F32, false, VK_SCOPE_SUBGROUP_KHR},
        {8, 8, 8, F16, F16, F16, false, VK_SCOPE_SUBGROUP_KHR}, /* from here on: of no use */
        {8, 8, 8, F16, F32, F16, false, VK_SCOPE_SUBGROUP_KHR},
        {8, 8, 8, F16, F32, F32, true, VK_SCOPE_SUBGROUP_KHR},
        {8, 8, 8, F16, F32, F32, false, VK_SCOPE_WORKGROUP_KHR},
        {16, 8, 16, F16, F32, F32, false, VK_SCOPE_SUBGROUP_KHR},
        {16, 16, 16, BF16, F32, F32, false, VK_SCOPE_SUBGROUP_KHR}, /* but for this */
    };
    enum { COUNT = sizeof all / sizeof *all };
    (void)device;
    for (uint32_t i = 0; out && i < *count && i < COUNT; i++) {
        ck_assert(out[i].sType == VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR);
        out[i].MSize = all[i].m, out[i].NSize = all[i].n, out[i].KSize = all[i].k;
        out[i].AType = out[i].BType = all[i].in;
        out[i].CType = all[i].sum, out[i].ResultType = all[i].result;
        out[i].saturatingAccumulation = all[i].saturates;
        out[i].scope = all[i].scope;
    }
    *count = COUNT;
    return VK_SUCCESS;
}

static VKAPI_ATTR VkResult VKAPI_CALL sides(VkPhysicalDevice device, uint32_t *count,
                                            VkCooperativeMatrixFlexibleDimensionsPropertiesNV *out)
{
    static const struct {
        uint32_t granule, invocations;
        VkScopeKHR scope;
    } all[] = {{16, 128, VK_SCOPE_WORKGROUP_KHR},
               {32, 64, VK_SCOPE_WORKGROUP_KHR},
               {64, 256, VK_SCOPE_WORKGROUP_KHR}, /* too coarse                    */
               {16, 32, VK_SCOPE_SUBGROUP_KHR},
               {16, 512, VK_SCOPE_WORKGROUP_KHR}}; /* more than the limit says      */
    enum { COUNT = sizeof all / sizeof *all };
    (void)device;
    for (uint32_t i = 0; out && i < *count && i < COUNT; i++) {
        ck_assert(out[i].sType ==
                  VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_FLEXIBLE_DIMENSIONS_PROPERTIES_NV);
        out[i].MGranularity = out[i].NGranularity = out[i].KGranularity = all[i].granule;
        out[i].AType = out[i].BType = F16;
        out[i].CType = out[i].ResultType = F32;
        out[i].saturatingAccumulation = false;
        out[i].scope = all[i].scope;
        out[i].workgroupInvocations = all[i].invocations;
    }
    *count = COUNT;
    return VK_SUCCESS;
}

PFN_vkVoidFunction driver_proc(VkInstance instance, const char *name)
{
    static const struct {
        const char *name;
        PFN_vkVoidFunction function;
    } own[] = {
        {"vkEnumerateDeviceExtensionProperties", (PFN_vkVoidFunction)all_extensions},
        {"vkGetPhysicalDeviceFeatures2", (PFN_vkVoidFunction)all_features},
        {"vkGetPhysicalDeviceProperties", (PFN_vkVoidFunction)properties},
        {"vkGetPhysicalDeviceProperties2", (PFN_vkVoidFunction)more_properties},
        {"vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR", (PFN_vkVoidFunction)shapes},
        {"vkGetPhysicalDeviceCooperativeMatrixFlexibleDimensionsPropertiesNV",
         (PFN_vkVoidFunction)sides},
    };
    ck_assert_uint_lt(driver.name_count, DRIVER_ASKED);
    strcpy(driver.names[driver.name_count++], name);
    if (driver.hidden && strcmp(name, driver.hidden) == 0)
        return NULL;
    for (size_t f = 0; f < sizeof own / sizeof *own; f++)
        if (strcmp(name, own[f].name) == 0)
            return own[f].function;
    return vk.vkGetInstanceProcAddr(instance, name);
}

bool driver_looked_up(const char *name)
{
    for (uint32_t n = 0; n < driver.name_count; n++)
        if (strcmp(driver.names[n], name) == 0)
            return true;
    return false;
}

bool driver_asked(VkStructureType type)
{
    for (uint32_t c = 0; c < driver.chain_count; c++)
        if (driver.chains[c] == type)
            return true;
    return false;
}
