/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"

/* Shapes and sizes of subgroups are those that drivers of such hardware list; a model stands for
 * what a shader may rely on there, not for one product. */
static const struct model models[] = {
    {"amd", 16, 16, 16, 32, 64, 64, false, false},
    {"amd_ext", 16, 16, 16, 32, 64, 64, false, true},
    {"intel", 8, 16, 16, 16, 32, 32, false, false},
    {"intel_ext", 8, 16, 16, 16, 32, 32, false, true},
    {"intel_nv", 8, 16, 16, 16, 32, 32, true, false}, /* nobody's; for the shader's sake */
    {"nvidia", 16, 16, 16, 32, 32, 32, true, false},
};

bool model_chosen(struct model *out)
{
    const char *name = getenv("DRAFT_MATRIX_DRIVER"), *size = getenv("DRAFT_MATRIX_SUBGROUP");
    for (unsigned i = 0; i < sizeof models / sizeof *models; i++)
        if (name && strcmp(models[i].name, name) == 0) {
            *out = models[i];
            uint32_t only = size ? (uint32_t)strtoul(size, NULL, 10) : 0;
            if (!size)
                return true;
            out->min_subgroup = out->max_subgroup = out->subgroup = only;
            if (only >= 8 && only <= 128 && (only & (only - 1)) == 0)
                return true;
        }
    fprintf(stderr, "matrix driver: no model in DRAFT_MATRIX_DRIVER, or a wrong size of subgroups "
                    "in DRAFT_MATRIX_SUBGROUP; models:");
    for (unsigned i = 0; i < sizeof models / sizeof *models; i++)
        fprintf(stderr, " %s", models[i].name);
    fprintf(stderr, "\n");
    return false;
}

/* ---- Extensions ------------------------------------------------------------------------------ */

enum { EXTENSIONS = 4 };
static const char *const names[EXTENSIONS] = {
    VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME,
    VK_KHR_SHADER_BFLOAT16_EXTENSION_NAME,
    VK_NV_COOPERATIVE_MATRIX_2_EXTENSION_NAME,
    VK_EXT_COOPERATIVE_MATRIX_MAINTENANCE_1_EXTENSION_NAME,
};

static bool has(const struct model *model, unsigned i)
{
    return i < 2 || (i == 2 ? model->nv : model->ext);
}

bool model_extension(const struct model *model, const char *name)
{
    for (unsigned i = 0; i < EXTENSIONS; i++)
        if (strcmp(names[i], name) == 0)
            return !model || has(model, i);
    return false;
}

uint32_t model_extensions(const struct model *model, VkExtensionProperties *out, uint32_t room)
{
    uint32_t count = 0;
    for (unsigned i = 0; i < EXTENSIONS; i++)
        if (has(model, i)) {
            if (count < room) {
                memset(&out[count], 0, sizeof out[count]);
                snprintf(out[count].extensionName, sizeof out[count].extensionName, "%s", names[i]);
                out[count].specVersion = 1;
            }
            count++;
        }
    return count;
}

/* ---- Structures ------------------------------------------------------------------------------ */

static void nv_features(const struct model *model, VkPhysicalDeviceCooperativeMatrix2FeaturesNV *f)
{
    f->cooperativeMatrixWorkgroupScope = model->nv;
    f->cooperativeMatrixFlexibleDimensions = model->nv;
    f->cooperativeMatrixReductions = model->nv;
    f->cooperativeMatrixConversions = model->nv;
    f->cooperativeMatrixPerElementOperations = model->nv;
    f->cooperativeMatrixTensorAddressing = model->nv;
    f->cooperativeMatrixBlockLoads = model->nv;
}

static void ext_features(const struct model *model,
                         VkPhysicalDeviceCooperativeMatrixMaintenance1FeaturesEXT *f)
{
    f->cooperativeMatrixProperties2 = VK_FALSE;
    f->cooperativeMatrixReductions = model->ext;
    f->cooperativeMatrixConversions = model->ext;
    f->cooperativeMatrixPerElementOperations = model->ext;
    f->cooperativeMatrixGetCoordinate = VK_FALSE;
}

void model_features(const struct model *model, void *chain)
{
    for (VkBaseOutStructure *at = chain; at; at = at->pNext)
        switch ((int)at->sType) {
        case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR: {
            VkPhysicalDeviceCooperativeMatrixFeaturesKHR *f = (void *)at;
            f->cooperativeMatrix = VK_TRUE;
            f->cooperativeMatrixRobustBufferAccess = VK_FALSE;
            break;
        }
        case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_BFLOAT16_FEATURES_KHR: {
            VkPhysicalDeviceShaderBfloat16FeaturesKHR *f = (void *)at;
            f->shaderBFloat16Type = f->shaderBFloat16CooperativeMatrix = VK_TRUE;
            f->shaderBFloat16DotProduct = VK_FALSE;
            break;
        }
        case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_2_FEATURES_NV:
            nv_features(model, (void *)at);
            break;
        case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_MAINTENANCE_1_FEATURES_EXT:
            ext_features(model, (void *)at);
            break;
        }
}

void model_properties(const struct model *model, void *chain)
{
    for (VkBaseOutStructure *at = chain; at; at = at->pNext)
        switch ((int)at->sType) {
        case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES:
            ((VkPhysicalDeviceSubgroupProperties *)(void *)at)->subgroupSize = model->subgroup;
            break;
        case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES:
            ((VkPhysicalDeviceVulkan11Properties *)(void *)at)->subgroupSize = model->subgroup;
            break;
        case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES: {
            VkPhysicalDeviceSubgroupSizeControlProperties *p = (void *)at;
            p->minSubgroupSize = model->min_subgroup;
            p->maxSubgroupSize = model->max_subgroup;
            p->requiredSubgroupSizeStages = VK_SHADER_STAGE_COMPUTE_BIT;
            break;
        }
        case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_PROPERTIES: {
            VkPhysicalDeviceVulkan13Properties *p = (void *)at;
            p->minSubgroupSize = model->min_subgroup;
            p->maxSubgroupSize = model->max_subgroup;
            p->requiredSubgroupSizeStages = VK_SHADER_STAGE_COMPUTE_BIT;
            break;
        }
        case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_2_PROPERTIES_NV: {
            VkPhysicalDeviceCooperativeMatrix2PropertiesNV *p = (void *)at;
            p->cooperativeMatrixWorkgroupScopeMaxWorkgroupSize = MODEL_WORKGROUP;
            p->cooperativeMatrixFlexibleDimensionsMaxDimension = MODEL_SIDE;
            p->cooperativeMatrixWorkgroupScopeReservedSharedMemory = MODEL_RESERVED;
            break;
        }
        }
}

/* ---- Lists ----------------------------------------------------------------------------------- */

/* f16, then bf16. */
enum { TYPES = 2 };
static const VkComponentTypeKHR types[TYPES] = {VK_COMPONENT_TYPE_FLOAT16_KHR,
                                                VK_COMPONENT_TYPE_BFLOAT16_KHR};

VkResult model_shapes(const struct model *model, uint32_t *count,
                      VkCooperativeMatrixPropertiesKHR *out)
{
    uint32_t room = *count;
    *count = TYPES;
    for (uint32_t i = 0; out && i < TYPES && i < room; i++) {
        out[i].MSize = model->m, out[i].NSize = model->n, out[i].KSize = model->k;
        out[i].AType = out[i].BType = types[i];
        out[i].CType = out[i].ResultType = VK_COMPONENT_TYPE_FLOAT32_KHR;
        out[i].saturatingAccumulation = VK_FALSE;
        out[i].scope = VK_SCOPE_SUBGROUP_KHR;
    }
    if (!out || room >= TYPES)
        return VK_SUCCESS;
    *count = room;
    return VK_INCOMPLETE;
}

VkResult model_flexible(const struct model *model, uint32_t *count,
                        VkCooperativeMatrixFlexibleDimensionsPropertiesNV *out)
{
    uint32_t room = *count, all = model->nv ? 2 : 0;
    *count = all;
    for (uint32_t i = 0; out && i < all && i < room; i++) {
        out[i].MGranularity = out[i].NGranularity = out[i].KGranularity = MODEL_GRANULE;
        out[i].AType = out[i].BType = VK_COMPONENT_TYPE_FLOAT16_KHR;
        out[i].CType = out[i].ResultType = VK_COMPONENT_TYPE_FLOAT32_KHR;
        out[i].saturatingAccumulation = VK_FALSE;
        out[i].scope = VK_SCOPE_WORKGROUP_KHR;
        out[i].workgroupInvocations = MODEL_WORKGROUP >> (all - 1 - i);
    }
    if (!out || room >= all)
        return VK_SUCCESS;
    *count = room;
    return VK_INCOMPLETE;
}
