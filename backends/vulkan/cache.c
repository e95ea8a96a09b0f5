/* SPDX-License-Identifier: MIT
 *
 * Pipelines, and the file that spares the driver their compilation in the next process:
 * struct file_header, then what the driver gave. Whatever is wrong with the file, the library works
 * without it. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "device.h"

struct vk_pipeline {
    struct vk_pipeline *next;
    const uint32_t *code; /* the key, with the size of subgroups: shaders are static data */
    uint32_t subgroup;
    VkPipeline handle;
};

enum { PATH_SIZE = 4096, MOST_BYTES = 256 << 20 };

/* The driver checks its own part, but not for damage. */
struct file_header {
    char magic[8];
    uint64_t size, hash; /* of what follows */
};

static const char magic[8] = {'d', 'r', 'a', 'f', 't', 'v', 'k', '1'};

static uint64_t hash_bytes(const uint8_t *bytes, size_t size)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    return hash;
}

/* ---- File ------------------------------------------------------------------------------------ */

/* The user's folder for caches; false where there is none. An empty or relative setting counts as
 * none. */
static bool cache_folder(char *out)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int length = -1;
    if (cache && *cache == '/')
        length = snprintf(out, PATH_SIZE, "%s", cache);
    else if (home && *home == '/')
        length = snprintf(out, PATH_SIZE, "%s/.cache", home);
    return length > 0 && length < PATH_SIZE;
}

/* Name of the file for this device and driver; makes the folders where `make` is set. */
static bool cache_path(const struct vk_physical *physical, bool make, char *out)
{
    char folder[PATH_SIZE], uuid[2 * VK_UUID_SIZE + 1];
    if (!cache_folder(folder))
        return false;
    if (make && mkdir(folder, 0700) && errno != EEXIST)
        return false;
    size_t used = strlen(folder);
    int length = snprintf(folder + used, PATH_SIZE - used, "/draft");
    if (length < 0 || (size_t)length >= PATH_SIZE - used)
        return false;
    if (make && mkdir(folder, 0700) && errno != EEXIST)
        return false;
    for (unsigned i = 0; i < VK_UUID_SIZE; i++)
        snprintf(uuid + 2 * i, 3, "%02x", physical->uuid[i]);
    length = snprintf(out, PATH_SIZE, "%s/%s-%08" PRIx32 ".pipelines", folder, uuid,
                      physical->driver_version);
    return length > 0 && length < PATH_SIZE;
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

/* Is that the file's size? Asked before memory is taken on the word of its header. */
static bool holds(FILE *file, uint64_t size)
{
    struct stat status;
    return fstat(fileno(file), &status) == 0 && (uint64_t)status.st_size == size;
}

/* *data: NULL where there is no file or it is of no use. */
static draft_status read_file(struct vk_device *vk, FILE *file, uint8_t **data, size_t *size)
{
    struct file_header header;
    if (fread(&header, sizeof header, 1, file) != 1 || memcmp(header.magic, magic, sizeof magic) ||
        header.size == 0 || header.size > MOST_BYTES || !holds(file, sizeof header + header.size))
        return DRAFT_OK;
    *size = (size_t)header.size;
    *data = draft_vk_calloc(vk->log, *size, 1, "the pipeline cache");
    if (!*data)
        return DRAFT_ERROR_MEMORY;
    if (fread(*data, 1, *size, file) == *size && fgetc(file) == EOF &&
        hash_bytes(*data, *size) == header.hash && fits_device(&vk->physical, *data, *size))
        return DRAFT_OK;
    draft_release(*data);
    *data = NULL;
    return DRAFT_OK;
}

static draft_status load_file(struct vk_device *vk, uint8_t **data, size_t *size)
{
    char path[PATH_SIZE];
    *data = NULL;
    *size = 0;
    FILE *file = cache_path(&vk->physical, false, path) ? fopen(path, "rbe") : NULL;
    if (!file)
        return DRAFT_OK;
    draft_status status = read_file(vk, file, data, size);
    fclose(file);
    if (!status)
        draft_log(vk->log, DRAFT_LOG_DEBUG, "vulkan: pipeline cache %s %s", path,
                  *data ? "read" : "is damaged or of another driver");
    if (!*data)
        *size = 0;
    return status;
}

static bool write_file(int descriptor, const uint8_t *data, size_t size)
{
    struct file_header header = {.size = size, .hash = hash_bytes(data, size)};
    memcpy(header.magic, magic, sizeof magic);
    FILE *file = fdopen(descriptor, "wb");
    if (!file) {
        close(descriptor);
        return false;
    }
    bool ok = fwrite(&header, sizeof header, 1, file) == 1 && fwrite(data, 1, size, file) == size;
    return fclose(file) == 0 && ok;
}

/* Under another name first: other processes may read or write the same file. */
static void save_file(struct vk_device *vk, const uint8_t *data, size_t size)
{
    char path[PATH_SIZE], other[PATH_SIZE];
    if (!cache_path(&vk->physical, true, path))
        return;
    int length = snprintf(other, sizeof other, "%s.XXXXXX", path);
    if (length < 0 || length >= PATH_SIZE)
        return;
    int descriptor = mkostemp(other, O_CLOEXEC);
    bool ok = descriptor >= 0 && write_file(descriptor, data, size) && rename(other, path) == 0;
    draft_log(vk->log, DRAFT_LOG_DEBUG, "vulkan: pipeline cache %s %s", path,
              ok ? "written" : "could not be written");
    if (descriptor >= 0 && !ok)
        unlink(other);
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
    if (size <= cache->loaded || size > MOST_BYTES)
        return;
    uint8_t *data = draft_calloc(size, 1);
    if (data &&
        vk->api.vkGetPipelineCacheData(vk->handle, cache->handle, &size, data) == VK_SUCCESS)
        save_file(vk, data, size);
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
