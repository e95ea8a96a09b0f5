/* SPDX-License-Identifier: MIT
 *
 * Modules with matrices, and the pipelines made of them. */
#include <stdlib.h>
#include <string.h>

#include "layer.h"

/* ---- Modules --------------------------------------------------------------------------------- */

VKAPI_ATTR VkResult VKAPI_CALL layer_create_module(VkDevice handle,
                                                   const VkShaderModuleCreateInfo *info,
                                                   const VkAllocationCallbacks *allocator,
                                                   VkShaderModule *out)
{
    struct device *device = layer_device(handle);
    size_t count = info->codeSize / sizeof(uint32_t);
    if (!lower_wanted(info->pCode, count))
        return device->create_module(handle, info, allocator, out);
    struct module *module = calloc(1, sizeof *module);
    uint32_t *code = malloc(info->codeSize);
    if (!module || !code) {
        free(module);
        free(code);
        return VK_ERROR_OUT_OF_HOST_MEMORY;
    }
    memcpy(code, info->pCode, info->codeSize);
    plant_fault(code, count);
    *module = (struct module){NULL, code, count};
    pthread_mutex_lock(&device->mutex);
    module->next = device->modules;
    device->modules = module;
    pthread_mutex_unlock(&device->mutex);
    *out = (VkShaderModule)module;
    return VK_SUCCESS;
}

static struct module *find(struct device *device, VkShaderModule handle)
{
    pthread_mutex_lock(&device->mutex);
    struct module *at = device->modules;
    while (at && (VkShaderModule)at != handle)
        at = at->next;
    pthread_mutex_unlock(&device->mutex);
    return at;
}

VKAPI_ATTR void VKAPI_CALL layer_destroy_module(VkDevice handle, VkShaderModule shader,
                                                const VkAllocationCallbacks *allocator)
{
    struct device *device = layer_device(handle);
    struct module *module = find(device, shader);
    if (!module) {
        device->destroy_module(handle, shader, allocator);
        return;
    }
    pthread_mutex_lock(&device->mutex);
    struct module **link = &device->modules;
    while (*link != module)
        link = &(*link)->next;
    *link = module->next;
    pthread_mutex_unlock(&device->mutex);
    free(module->code);
    free(module);
}

/* ---- Pipelines ------------------------------------------------------------------------------- */

/* The size that a stage requires; 0: none. False where it is not one of the device's. */
static bool required_size(const struct model *model, const VkPipelineShaderStageCreateInfo *stage,
                          uint32_t *size)
{
    *size = 0;
    for (const VkBaseInStructure *at = stage->pNext; at; at = at->pNext)
        if (at->sType == VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO)
            *size = ((const VkPipelineShaderStageRequiredSubgroupSizeCreateInfo *)at)
                        ->requiredSubgroupSize;
    if (!*size || (*size >= model->min_subgroup && *size <= model->max_subgroup &&
                   (*size & (*size - 1)) == 0))
        return true;
    layer_say("subgroups of %u are required, and the device has %u to %u", *size,
              model->min_subgroup, model->max_subgroup);
    return false;
}

static VkResult lowered_pipeline(struct device *device, const struct module *module,
                                 VkPipelineCache cache, const VkComputePipelineCreateInfo *info,
                                 const VkAllocationCallbacks *allocator, VkPipeline *out)
{
    const struct model *model = &device->instance->model;
    char error[512] = "no memory";
    uint32_t size;
    struct words words;
    if (!required_size(model, &info->stage, &size))
        return VK_ERROR_INITIALIZATION_FAILED;
    if (info->stage.pSpecializationInfo) {
        layer_say("the lowering does not know specialization constants");
        return VK_ERROR_INITIALIZATION_FAILED;
    }
    struct lower_request request = {model,           module->code,
                                    module->count,   size ? size : model->subgroup,
                                    device->address, &device->checks};
    pthread_mutex_lock(&device->mutex);
    bool lowered = lower_module(&request, &words, error, sizeof error);
    pthread_mutex_unlock(&device->mutex);
    if (!lowered) {
        layer_say("%s", error);
        return VK_ERROR_INITIALIZATION_FAILED;
    }
    VkShaderModuleCreateInfo module_info = {.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
                                            .codeSize = words.count * sizeof(uint32_t),
                                            .pCode = words.at};
    VkComputePipelineCreateInfo own = *info;
    own.stage.pNext = NULL;
    own.stage.flags = 0;
    VkResult result = device->create_module(device->handle, &module_info, NULL, &own.stage.module);
    if (result == VK_SUCCESS) {
        result = device->create_pipelines(device->handle, cache, 1, &own, allocator, out);
        device->destroy_module(device->handle, own.stage.module, NULL);
    }
    words_free(&words);
    return result;
}

VKAPI_ATTR VkResult VKAPI_CALL layer_create_pipelines(VkDevice handle, VkPipelineCache cache,
                                                      uint32_t count,
                                                      const VkComputePipelineCreateInfo *infos,
                                                      const VkAllocationCallbacks *allocator,
                                                      VkPipeline *out)
{
    struct device *device = layer_device(handle);
    VkResult first = VK_SUCCESS;
    memset(out, 0, count * sizeof *out);
    for (uint32_t i = 0; i < count; i++) {
        const struct module *module = find(device, infos[i].stage.module);
        VkResult result =
            module ? lowered_pipeline(device, module, cache, &infos[i], allocator, &out[i])
                   : device->create_pipelines(handle, cache, 1, &infos[i], allocator, &out[i]);
        first = first == VK_SUCCESS ? result : first;
    }
    return first;
}
