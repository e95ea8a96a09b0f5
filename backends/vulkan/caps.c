/* SPDX-License-Identifier: MIT
 *
 * What the features of a device come with: sizes of subgroups and shapes of matrices. Nothing is
 * asked of a tier that the device was not made with. */
#include <string.h>

#include "device.h"

/* ---- Sizes of subgroups ---------------------------------------------------------------------- */

static void ask_subgroups(const struct vk_api *api, struct vk_physical *physical)
{
    VkPhysicalDeviceSubgroupSizeControlProperties sizes = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES};
    VkPhysicalDeviceProperties2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                       .pNext = &sizes};
    api->vkGetPhysicalDeviceProperties2(physical->handle, &all);
    if (!(sizes.requiredSubgroupSizeStages & VK_SHADER_STAGE_COMPUTE_BIT))
        return;
    physical->caps.min_subgroup = sizes.minSubgroupSize;
    physical->caps.max_subgroup = sizes.maxSubgroupSize;
    physical->caps.max_subgroups = sizes.maxComputeWorkgroupSubgroups;
}

/* ---- Matrices of subgroups ------------------------------------------------------------------- */

static uint32_t shape_of(const VkCooperativeMatrixPropertiesKHR *p, VkComponentTypeKHR type)
{
    if (p->AType != type || p->BType != type || p->CType != VK_COMPONENT_TYPE_FLOAT32_KHR ||
        p->ResultType != VK_COMPONENT_TYPE_FLOAT32_KHR || p->saturatingAccumulation ||
        p->scope != VK_SCOPE_SUBGROUP_KHR)
        return 0;
    if (p->MSize == 16 && p->NSize == 16 && p->KSize == 16)
        return VK_MATRIX_16X16X16;
    if (p->MSize == 8 && p->NSize == 16 && p->KSize == 16)
        return VK_MATRIX_8X16X16;
    return p->MSize == 8 && p->NSize == 8 && p->KSize == 8 ? VK_MATRIX_8X8X8 : 0;
}

static draft_status ask_shapes(const struct draft_log *log, const struct vk_instance *instance,
                               struct vk_physical *physical)
{
    PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR query =
        (PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR)instance->api.vkGetInstanceProcAddr(
            instance->handle, "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR");
    uint32_t count = 0, f16 = 0, bf16 = 0;
    if (!query || query(physical->handle, &count, NULL) < 0)
        return DRAFT_OK;
    VkCooperativeMatrixPropertiesKHR *all =
        draft_vk_calloc(log, count + 1, sizeof *all, "shapes of matrices");
    if (!all)
        return DRAFT_ERROR_MEMORY;
    for (uint32_t i = 0; i < count; i++)
        all[i].sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR;
    if (query(physical->handle, &count, all) < 0)
        count = 0;
    for (uint32_t i = 0; i < count; i++) {
        f16 |= shape_of(&all[i], VK_COMPONENT_TYPE_FLOAT16_KHR);
        bf16 |= shape_of(&all[i], VK_COMPONENT_TYPE_BFLOAT16_KHR);
    }
    draft_release(all);
    physical->caps.matrix_shapes = physical->tiers & VK_TIER_MATRIX ? f16 : 0;
    physical->caps.matrix_shapes_bf16 = physical->tiers & VK_TIER_MATRIX_BF16 ? bf16 : 0;
    return DRAFT_OK;
}

/* ---- Matrices of workgroups ------------------------------------------------------------------ */

static bool divides(uint32_t granule)
{
    return granule && VK_MATRIX_GRANULE % granule == 0;
}

/* The size of workgroups that may multiply f16 in multiples of VK_MATRIX_GRANULE, or 0. */
static uint32_t workgroup_of(const VkCooperativeMatrixFlexibleDimensionsPropertiesNV *p)
{
    uint32_t size = p->workgroupInvocations;
    bool fits = p->AType == VK_COMPONENT_TYPE_FLOAT16_KHR &&
                p->BType == VK_COMPONENT_TYPE_FLOAT16_KHR &&
                p->CType == VK_COMPONENT_TYPE_FLOAT32_KHR &&
                p->ResultType == VK_COMPONENT_TYPE_FLOAT32_KHR && !p->saturatingAccumulation &&
                p->scope == VK_SCOPE_WORKGROUP_KHR && divides(p->MGranularity) &&
                divides(p->NGranularity) && divides(p->KGranularity);
    return fits && (size & (size - 1)) == 0 ? size : 0;
}

static draft_status ask_workgroups(const struct draft_log *log, const struct vk_instance *instance,
                                   struct vk_physical *physical)
{
    typedef PFN_vkGetPhysicalDeviceCooperativeMatrixFlexibleDimensionsPropertiesNV query_function;
    query_function query = (query_function)instance->api.vkGetInstanceProcAddr(
        instance->handle, "vkGetPhysicalDeviceCooperativeMatrixFlexibleDimensionsPropertiesNV");
    uint32_t count = 0, sizes = 0;
    if (!query || query(physical->handle, &count, NULL) < 0)
        return DRAFT_OK;
    VkCooperativeMatrixFlexibleDimensionsPropertiesNV *all =
        draft_vk_calloc(log, count + 1, sizeof *all, "sizes of matrices");
    if (!all)
        return DRAFT_ERROR_MEMORY;
    for (uint32_t i = 0; i < count; i++)
        all[i].sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_FLEXIBLE_DIMENSIONS_PROPERTIES_NV;
    if (query(physical->handle, &count, all) < 0)
        count = 0;
    for (uint32_t i = 0; i < count; i++)
        sizes |= workgroup_of(&all[i]);
    draft_release(all);
    physical->caps.matrix_workgroups = sizes;
    return DRAFT_OK;
}

static void limit_workgroups(const struct vk_api *api, struct vk_physical *physical)
{
    VkPhysicalDeviceCooperativeMatrix2PropertiesNV limits = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_2_PROPERTIES_NV};
    VkPhysicalDeviceProperties2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                       .pNext = &limits};
    api->vkGetPhysicalDeviceProperties2(physical->handle, &all);
    struct vk_caps *caps = &physical->caps;
    for (uint32_t size = 1; size; size *= 2)
        if (size > limits.cooperativeMatrixWorkgroupScopeMaxWorkgroupSize ||
            size > caps->max_invocations)
            caps->matrix_workgroups &= ~size;
    caps->matrix_side = limits.cooperativeMatrixFlexibleDimensionsMaxDimension;
    caps->matrix_shared = limits.cooperativeMatrixWorkgroupScopeReservedSharedMemory;
}

/* ---- All ------------------------------------------------------------------------------------- */

/* What turned out to be of no use is not enabled either. */
static void drop_tiers(struct vk_physical *physical)
{
    const struct vk_caps *caps = &physical->caps;
    if (!caps->max_subgroup)
        physical->tiers &= ~(uint32_t)VK_TIER_SUBGROUP;
    if (!caps->matrix_shapes)
        physical->tiers &= ~(uint32_t)VK_TIER_MATRIX;
    if (!caps->matrix_shapes_bf16)
        physical->tiers &= ~(uint32_t)VK_TIER_MATRIX_BF16;
    if (!caps->matrix_shapes && !caps->matrix_shapes_bf16)
        physical->tiers &= ~(uint32_t)(VK_TIER_MATRIX2 | VK_TIER_MATRIX2_EXT);
    if (!caps->matrix_workgroups)
        physical->tiers &= ~(uint32_t)VK_TIER_MATRIX_WORKGROUP;
}

draft_status draft_vk_caps(const struct draft_log *log, const struct vk_instance *instance,
                           struct vk_physical *physical)
{
    struct vk_caps *caps = &physical->caps;
    draft_status status = DRAFT_OK;
    if (physical->tiers & VK_TIER_SUBGROUP)
        ask_subgroups(&instance->api, physical);
    if (physical->tiers & (VK_TIER_MATRIX | VK_TIER_MATRIX_BF16))
        status = ask_shapes(log, instance, physical);
    if (!status && physical->tiers & VK_TIER_MATRIX_WORKGROUP)
        status = ask_workgroups(log, instance, physical);
    if (!status && caps->matrix_workgroups)
        limit_workgroups(&instance->api, physical);
    drop_tiers(physical);
    caps->f16 = physical->tiers & VK_TIER_F16;
    caps->matrix2 = physical->tiers & VK_TIER_MATRIX2;
    caps->matrix2_ext = physical->tiers & VK_TIER_MATRIX2_EXT;
    caps->matrix_workgroup = physical->tiers & VK_TIER_MATRIX_WORKGROUP;
    return status;
}
