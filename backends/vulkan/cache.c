/* SPDX-License-Identifier: MIT
 *
 * Pipelines, and the file that spares the driver their compilation in the next process. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "device.h"

struct vk_pipeline {
    struct vk_pipeline *next;
    const uint32_t *code; /* the key, with the size of subgroups: shaders are static data */
    uint32_t subgroup;
    VkPipeline handle;
};

static const char magic[DRAFT_FILE_MAGIC] = {'d', 'r', 'a', 'f', 't', 'v', 'k', '1'};

/* ---- File ------------------------------------------------------------------------------------ */

enum { NAME_SIZE = 64 };

/* Of the file for this device and driver. */
static void file_name(const struct vk_physical *physical, char name[NAME_SIZE])
{
    char uuid[2 * VK_UUID_SIZE + 1];
    for (unsigned i = 0; i < VK_UUID_SIZE; i++)
        snprintf(uuid + 2 * i, 3, "%02x", physical->uuid[i]);
    snprintf(name, NAME_SIZE, "%s-%08" PRIx32 ".pipelines", uuid, physical->driver_version);
}

/* Does the driver's header name this device and this driver? */
static bool fits_device(const struct vk_physical *physical, const uint8_t *data, size_t size)
{
    VkPipelineCacheHeaderVersionOne header;
    if (size < sizeof header)
        return false;
    memcpy(&header, data, sizeof header);
    return header.headerSize >= sizeof header && header.headerSize <= size &&
           header.headerVersion == VK_PIPELINE_CACHE_HEADER_VERSION_ONE &&
           header.vendorID == physical->caps.vendor_id && header.deviceID == physical->device_id &&
           memcmp(header.pipelineCacheUUID, physical->cache_uuid, VK_UUID_SIZE) == 0;
}

/* *data: NULL where there is no file or it is of no use. The driver checks its own part, but not for
 * damage. */
static draft_status load_file(struct vk_device *vk, uint8_t **data, size_t *size)
{
    char name[NAME_SIZE];
    file_name(&vk->physical, name);
    draft_status status = draft_file_load(vk->log, name, magic, data, size);
    if (status || !*data || fits_device(&vk->physical, *data, *size))
        return status;
    draft_log(vk->log, DRAFT_LOG_DEBUG, "vulkan: %s is of another driver: not used", name);
    draft_release(*data);
    *data = NULL;
    *size = 0;
    return DRAFT_OK;
}

/* ---- Open and close -------------------------------------------------------------------------- */

static size_t cache_size(struct vk_device *vk, const struct vk_cache *cache)
{
    size_t size = 0;
    if (vk->api.vkGetPipelineCacheData(vk->handle, cache->handle, &size, NULL) != VK_SUCCESS)
        return 0;
    return size;
}

static void save(struct vk_device *vk, const struct vk_cache *cache)
{
    size_t size = cache_size(vk, cache);
    if (size <= cache->loaded)
        return;
    char name[NAME_SIZE];
    file_name(&vk->physical, name);
    uint8_t *data = draft_calloc(size, 1);
    if (data &&
        vk->api.vkGetPipelineCacheData(vk->handle, cache->handle, &size, data) == VK_SUCCESS)
        draft_file_save(vk->log, name, magic, data, size);
    draft_release(data);
}

static draft_status open_driver_cache(struct vk_device *vk, struct vk_cache *cache)
{
    uint8_t *data;
    size_t size;
    cache->adopted = vk->pipelines != VK_NULL_HANDLE;
    cache->handle = vk->pipelines;
    if (cache->adopted)
        return DRAFT_OK;
    draft_status status = load_file(vk, &data, &size);
    if (status)
        return status;
    VkPipelineCacheCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO,
        .initialDataSize = size,
        .pInitialData = data,
    };
    if (vk->api.vkCreatePipelineCache(vk->handle, &info, vk->allocator, &cache->handle) !=
        VK_SUCCESS)
        cache->handle = VK_NULL_HANDLE;
    draft_release(data);
    if (cache->handle) /* an empty one has a size too */
        cache->loaded = cache_size(vk, cache);
    return DRAFT_OK;
}

draft_status draft_vk_cache_open(struct vk_device *vk, struct vk_cache *out)
{
    VkPushConstantRange range = {VK_SHADER_STAGE_COMPUTE_BIT, 0, sizeof(struct draft_args)};
    VkPipelineLayoutCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
        .pushConstantRangeCount = 1,
        .pPushConstantRanges = &range,
    };
    draft_status status =
        VK_CALL(vk, vkCreatePipelineLayout, vk->handle, &info, vk->allocator, &out->layout);
    if (status)
        return status;
    status = open_driver_cache(vk, out);
    if (status)
        vk->api.vkDestroyPipelineLayout(vk->handle, out->layout, vk->allocator);
    else
        pthread_mutex_init(&out->mutex, NULL);
    return status;
}

void draft_vk_cache_close(struct vk_device *vk, struct vk_cache *cache)
{
    if (cache->handle && !cache->adopted && cache->first && !atomic_load(&vk->lost))
        save(vk, cache);
    for (struct vk_pipeline *at = cache->first; at;) {
        struct vk_pipeline *next = at->next;
        vk->api.vkDestroyPipeline(vk->handle, at->handle, vk->allocator);
        draft_release(at);
        at = next;
    }
    if (!cache->adopted)
        vk->api.vkDestroyPipelineCache(vk->handle, cache->handle, vk->allocator);
    vk->api.vkDestroyPipelineLayout(vk->handle, cache->layout, vk->allocator);
    pthread_mutex_destroy(&cache->mutex);
}

/* ---- Pipelines ------------------------------------------------------------------------------- */

static draft_status create_pipeline(struct vk_device *vk, const struct vk_cache *cache,
                                    const struct vk_shader *shader, VkPipeline *out)
{
    VkShaderModuleCreateInfo module_info = {
        .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
        .codeSize = shader->size,
        .pCode = shader->code,
    };
    VkShaderModule module;
    draft_status status =
        VK_CALL(vk, vkCreateShaderModule, vk->handle, &module_info, vk->allocator, &module);
    if (status)
        return status;
    VkPipelineShaderStageRequiredSubgroupSizeCreateInfo subgroup = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO,
        .requiredSubgroupSize = shader->subgroup,
    };
    VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                  .pNext = shader->subgroup ? &subgroup : NULL,
                  .flags = shader->subgroup
                               ? VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT
                               : 0,
                  .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                  .module = module,
                  .pName = "main"},
        .layout = cache->layout,
    };
    status = VK_CALL(vk, vkCreateComputePipelines, vk->handle, cache->handle, 1, &info,
                     vk->allocator, out);
    vk->api.vkDestroyShaderModule(vk->handle, module, vk->allocator);
    return status;
}

/* With the mutex held: two plans that want the same pipeline at once share its compilation. */
static draft_status find_or_create(struct vk_device *vk, struct vk_cache *cache,
                                   const struct vk_shader *shader, VkPipeline *out)
{
    for (struct vk_pipeline *at = cache->first; at; at = at->next)
        if (at->code == shader->code && at->subgroup == shader->subgroup) {
            *out = at->handle;
            return DRAFT_OK;
        }
    struct vk_pipeline *pipeline = draft_vk_calloc(vk->log, 1, sizeof *pipeline, "a pipeline");
    if (!pipeline)
        return DRAFT_ERROR_MEMORY;
    draft_status status = create_pipeline(vk, cache, shader, &pipeline->handle);
    if (status) {
        draft_release(pipeline);
        return status;
    }
    pipeline->code = shader->code;
    pipeline->subgroup = shader->subgroup;
    pipeline->next = cache->first;
    cache->first = pipeline;
    *out = pipeline->handle;
    return DRAFT_OK;
}

draft_status draft_vk_cache_pipeline(struct vk_device *vk, struct vk_cache *cache,
                                     const struct vk_shader *shader, VkPipeline *out)
{
    pthread_mutex_lock(&cache->mutex);
    draft_status status = find_or_create(vk, cache, shader, out);
    pthread_mutex_unlock(&cache->mutex);
    return status;
}
