/* SPDX-License-Identifier: MIT
 *
 * One buffer and one piece of device memory for each allocation: callers make few and large ones.
 * Where the host can map device memory, copies are memcpy; otherwise they go through a staging
 * buffer, piece by piece. */
#include <inttypes.h>
#include <string.h>

#include "device.h"

struct vk_allocation {
    struct vk_allocation *next;
    VkBuffer buffer;
    VkDeviceMemory memory;
    uint64_t address, size; /* what the caller sees                                   */
    uint64_t offset;        /* of address in buffer and memory                        */
    uint64_t memory_size;   /* as the driver rounded it                               */
    char *map;              /* of offset 0; NULL where the host cannot see it         */
    VkMemoryPropertyFlags flags;
};

enum {
    ALIGNMENT = 256,
    STAGING_SIZE = 16 << 20, /* enough to hide the cost of a submission, little to hold on to */
};

/* ---- Types of memory ------------------------------------------------------------------------- */

/* The first type that has all of `flags`, in a heap of at least `heap` bytes; -1: none. Drivers
 * list faster types first. */
static int find_type(const VkPhysicalDeviceMemoryProperties *memory, uint32_t types,
                     VkMemoryPropertyFlags flags, uint64_t heap)
{
    for (uint32_t i = 0; i < memory->memoryTypeCount; i++) {
        const VkMemoryType *type = &memory->memoryTypes[i];
        if (types & 1u << i && (type->propertyFlags & flags) == flags &&
            memory->memoryHeaps[type->heapIndex].size >= heap)
            return (int)i;
    }
    return -1;
}

static uint64_t largest_local_heap(const VkPhysicalDeviceMemoryProperties *memory)
{
    uint64_t largest = 0;
    for (uint32_t i = 0; i < memory->memoryHeapCount; i++)
        if (memory->memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT &&
            memory->memoryHeaps[i].size > largest)
            largest = memory->memoryHeaps[i].size;
    return largest;
}

/* Where there is no queue to copy with: memory that the host can map, of the device if possible. */
static int mapped_type(const VkPhysicalDeviceMemoryProperties *memory, uint32_t types)
{
    const VkMemoryPropertyFlags visible = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT;
    int type = find_type(memory, types, visible | VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, 0);
    return type < 0 ? find_type(memory, types, visible, 0) : type;
}

/* Device memory that the host can map, unless that is only a window of the whole; else any device
 * memory; else whatever there is. */
static int device_type(const VkPhysicalDeviceMemoryProperties *memory, uint32_t types)
{
    const VkMemoryPropertyFlags local = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT;
    int type = find_type(memory, types, local | VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT,
                         largest_local_heap(memory));
    if (type < 0)
        type = find_type(memory, types, local, largest_local_heap(memory));
    if (type < 0)
        type = find_type(memory, types, local, 0);
    return type < 0 ? find_type(memory, types, 0, 0) : type;
}

/* Memory that the host reads fast. Vulkan promises a type that is visible and coherent. */
static int staging_type(const VkPhysicalDeviceMemoryProperties *memory, uint32_t types)
{
    const VkMemoryPropertyFlags coherent =
        VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    int type = find_type(memory, types, coherent | VK_MEMORY_PROPERTY_HOST_CACHED_BIT, 0);
    return type < 0 ? find_type(memory, types, coherent, 0) : type;
}

/* ---- Allocations ----------------------------------------------------------------------------- */

static void destroy(struct vk_device *vk, struct vk_allocation *allocation)
{
    vk->api.vkDestroyBuffer(vk->handle, allocation->buffer, vk->allocator);
    vk->api.vkFreeMemory(vk->handle, allocation->memory, vk->allocator); /* unmaps */
    draft_release(allocation);
}

static draft_status allocate_memory(struct vk_device *vk, const VkMemoryRequirements *needs,
                                    int type, struct vk_allocation *out)
{
    const VkPhysicalDeviceMemoryProperties *memory = &vk->physical.memory;
    uint64_t heap = memory->memoryHeaps[memory->memoryTypes[type].heapIndex].size;
    if (needs->size > heap) {
        draft_log(vk->log, DRAFT_LOG_ERROR,
                  "vulkan: %" PRIu64 " bytes asked for, more than all memory, %" PRIu64 " bytes",
                  needs->size, heap);
        return DRAFT_ERROR_MEMORY;
    }
    VkMemoryAllocateFlagsInfo flags = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO,
        .flags = VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT,
    };
    VkMemoryAllocateInfo info = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
        .pNext = &flags,
        .allocationSize = needs->size,
        .memoryTypeIndex = (uint32_t)type,
    };
    draft_status status =
        VK_CALL(vk, vkAllocateMemory, vk->handle, &info, vk->allocator, &out->memory);
    if (status)
        out->memory = VK_NULL_HANDLE; /* undefined after a failure */
    /* The limit is advice: many drivers give more. */
    if (status && needs->size > vk->physical.max_allocation)
        draft_log(vk->log, DRAFT_LOG_ERROR,
                  "vulkan: %" PRIu64 " bytes asked for; the driver promises %" PRIu64 " at once",
                  needs->size, vk->physical.max_allocation);
    out->memory_size = needs->size;
    out->flags = memory->memoryTypes[type].propertyFlags;
    return status;
}

static draft_status create_buffer(struct vk_device *vk, uint64_t size, VkBuffer *out)
{
    if (size > vk->physical.max_buffer || size < ALIGNMENT) { /* the sum went round */
        draft_log(vk->log, DRAFT_LOG_ERROR,
                  "vulkan: a buffer of %" PRIu64 " bytes is larger than the device allows, "
                  "%" PRIu64 " bytes",
                  size - ALIGNMENT, vk->physical.max_buffer);
        return DRAFT_ERROR_MEMORY;
    }
    VkBufferCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
        .size = size,
        .usage = VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT | VK_BUFFER_USAGE_STORAGE_BUFFER_BIT |
                 VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT,
    };
    return VK_CALL(vk, vkCreateBuffer, vk->handle, &info, vk->allocator, out);
}

static draft_status fill_allocation(struct vk_device *vk, uint64_t size, bool staging,
                                    struct vk_allocation *out)
{
    /* Drivers align buffers to 16 bytes or more; the caller is promised 256. */
    draft_status status = create_buffer(vk, size + ALIGNMENT, &out->buffer);
    if (status) {
        out->buffer = VK_NULL_HANDLE;
        return status;
    }
    VkMemoryRequirements needs;
    vk->api.vkGetBufferMemoryRequirements(vk->handle, out->buffer, &needs);
    const VkPhysicalDeviceMemoryProperties *memory = &vk->physical.memory;
    uint32_t types = needs.memoryTypeBits;
    int type = staging     ? staging_type(memory, types)
               : vk->queue ? device_type(memory, types)
                           : mapped_type(memory, types);
    if (type < 0) {
        draft_log(vk->log, DRAFT_LOG_ERROR, "vulkan: no type of memory fits");
        return DRAFT_ERROR_MEMORY;
    }
    status = allocate_memory(vk, &needs, type, out);
    if (!status)
        status = VK_CALL(vk, vkBindBufferMemory, vk->handle, out->buffer, out->memory, 0);
    if (!status && out->flags & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT) {
        void *map = NULL;
        status = VK_CALL(vk, vkMapMemory, vk->handle, out->memory, 0, VK_WHOLE_SIZE, 0, &map);
        out->map = map;
    }
    if (status)
        return status;
    VkBufferDeviceAddressInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_DEVICE_ADDRESS_INFO,
                                      .buffer = out->buffer};
    uint64_t address = vk->api.vkGetBufferDeviceAddress(vk->handle, &info);
    out->offset = -address & (ALIGNMENT - 1);
    out->address = address + out->offset;
    out->size = size;
    return DRAFT_OK;
}

static draft_status create_allocation(struct vk_device *vk, uint64_t size, bool staging,
                                      struct vk_allocation **out)
{
    struct vk_allocation *allocation =
        draft_vk_calloc(vk->log, 1, sizeof *allocation, "an allocation");
    if (!allocation)
        return DRAFT_ERROR_MEMORY;
    draft_status status = fill_allocation(vk, size, staging, allocation);
    if (status)
        destroy(vk, allocation);
    else
        *out = allocation;
    return status;
}

draft_status draft_vk_alloc(struct vk_device *vk, struct vk_memory *memory, uint64_t size,
                            draft_address *out)
{
    struct vk_allocation *allocation;
    draft_status status = draft_vk_alive(vk);
    if (!status)
        status = create_allocation(vk, size, false, &allocation);
    if (status)
        return status;
    pthread_mutex_lock(&memory->mutex);
    allocation->next = memory->first;
    memory->first = allocation;
    pthread_mutex_unlock(&memory->mutex);
    *out = allocation->address;
    return DRAFT_OK;
}

void draft_vk_free(struct vk_device *vk, struct vk_memory *memory, draft_address address)
{
    pthread_mutex_lock(&memory->mutex);
    struct vk_allocation **at = &memory->first;
    while (*at && (*at)->address != address)
        at = &(*at)->next;
    struct vk_allocation *found = *at;
    if (found)
        *at = found->next;
    pthread_mutex_unlock(&memory->mutex);
    if (found)
        destroy(vk, found);
    else
        draft_log(vk->log, DRAFT_LOG_WARN, "vulkan: %#" PRIx64 " to be freed was not allocated",
                  address);
}

void draft_vk_memory_open(struct vk_memory *out)
{
    pthread_mutex_init(&out->mutex, NULL);
    pthread_mutex_init(&out->staged, NULL);
    out->first = out->staging = NULL;
}

void draft_vk_memory_close(struct vk_device *vk, struct vk_memory *memory)
{
    while (memory->first)
        draft_vk_free(vk, memory, memory->first->address);
    if (memory->staging)
        destroy(vk, memory->staging);
    pthread_mutex_destroy(&memory->mutex);
    pthread_mutex_destroy(&memory->staged);
}

/* ---- Copies ---------------------------------------------------------------------------------- */

/* The allocation that holds all of the range, or NULL. It stays valid: the caller of a copy must
 * not free what is being copied. */
static const struct vk_allocation *find(struct vk_memory *memory, uint64_t address, uint64_t size)
{
    pthread_mutex_lock(&memory->mutex);
    const struct vk_allocation *at = memory->first;
    while (at && !(address >= at->address && address - at->address < at->size &&
                   size <= at->size - (address - at->address)))
        at = at->next;
    pthread_mutex_unlock(&memory->mutex);
    return at;
}

static draft_status find_range(struct vk_device *vk, struct vk_memory *memory, uint64_t address,
                               uint64_t size, const struct vk_allocation **out)
{
    *out = find(memory, address, size);
    if (*out)
        return DRAFT_OK;
    draft_log(vk->log, DRAFT_LOG_ERROR,
              "vulkan: %" PRIu64 " bytes at %#" PRIx64 " do not lie within one allocation", size,
              address);
    return DRAFT_ERROR_ARGUMENT;
}

/* Make writes of one side visible to the other. offset: within the memory. */
static draft_status synchronise(struct vk_device *vk, const struct vk_allocation *allocation,
                                uint64_t offset, uint64_t size, bool flush)
{
    if (allocation->flags & VK_MEMORY_PROPERTY_HOST_COHERENT_BIT)
        return DRAFT_OK;
    uint64_t atom = vk->physical.atom ? vk->physical.atom : 1;
    uint64_t first = offset / atom * atom, end = (offset + size + atom - 1) / atom * atom;
    VkMappedMemoryRange range = {
        .sType = VK_STRUCTURE_TYPE_MAPPED_MEMORY_RANGE,
        .memory = allocation->memory,
        .offset = first,
        .size = end < allocation->memory_size ? end - first : VK_WHOLE_SIZE,
    };
    return flush ? VK_CALL(vk, vkFlushMappedMemoryRanges, vk->handle, 1, &range)
                 : VK_CALL(vk, vkInvalidateMappedMemoryRanges, vk->handle, 1, &range);
}

/* One copy between the staging buffer's start and device memory; done on return. */
static draft_status copy_piece(struct vk_queue *queue, const struct vk_allocation *to,
                               uint64_t to_offset, const struct vk_allocation *from,
                               uint64_t from_offset, uint64_t size)
{
    struct vk_run *run;
    draft_status status = draft_vk_run_begin(queue, &run);
    if (status)
        return status;
    draft_vk_run_copy(queue, run, to->buffer, to_offset, from->buffer, from_offset, size);
    status = draft_vk_run_end(queue, run, true);
    return status ? status : draft_vk_queue_wait(queue);
}

/* With the mutex `staged` held. in: from host to device, with `host` only read. */
static draft_status copy_pieces(struct vk_queue *queue, struct vk_memory *memory,
                                const struct vk_allocation *device, uint64_t offset, char *host,
                                uint64_t size, bool in)
{
    draft_status status = DRAFT_OK;
    if (!memory->staging)
        status = create_allocation(queue->vk, STAGING_SIZE, true, &memory->staging);
    const struct vk_allocation *staging = memory->staging;
    for (uint64_t at = 0; at < size && !status; at += STAGING_SIZE) {
        uint64_t piece = size - at < STAGING_SIZE ? size - at : STAGING_SIZE;
        if (in) {
            memcpy(staging->map, host + at, piece);
            status = copy_piece(queue, device, offset + at, staging, 0, piece);
        } else {
            status = copy_piece(queue, staging, 0, device, offset + at, piece);
            if (!status)
                memcpy(host + at, staging->map, piece);
        }
    }
    return status;
}

static draft_status copy_staged(struct vk_queue *queue, struct vk_memory *memory,
                                const struct vk_allocation *device, uint64_t offset, char *host,
                                uint64_t size, bool in)
{
    pthread_mutex_lock(&memory->staged);
    draft_status status = copy_pieces(queue, memory, device, offset, host, size, in);
    pthread_mutex_unlock(&memory->staged);
    return status;
}

draft_status draft_vk_write(struct vk_queue *queue, struct vk_memory *memory, draft_address to,
                            const void *from, uint64_t size)
{
    const struct vk_allocation *allocation;
    draft_status status = draft_vk_alive(queue->vk);
    if (!status)
        status = find_range(queue->vk, memory, to, size, &allocation);
    if (status)
        return status;
    uint64_t offset = allocation->offset + (to - allocation->address);
    if (!allocation->map)
        return copy_staged(queue, memory, allocation, offset, (char *)from, size, true);
    status = draft_vk_queue_wait(queue);
    if (status)
        return status;
    memcpy(allocation->map + offset, from, size);
    return synchronise(queue->vk, allocation, offset, size, true);
}

draft_status draft_vk_read(struct vk_queue *queue, struct vk_memory *memory, void *to,
                           draft_address from, uint64_t size)
{
    const struct vk_allocation *allocation;
    draft_status status = draft_vk_alive(queue->vk);
    if (!status)
        status = find_range(queue->vk, memory, from, size, &allocation);
    if (status)
        return status;
    uint64_t offset = allocation->offset + (from - allocation->address);
    /* Reading memory that is mapped but not cached is many times slower than a copy. */
    bool cached = allocation->flags & VK_MEMORY_PROPERTY_HOST_CACHED_BIT;
    if (!allocation->map || (!cached && queue->vk->queue))
        return copy_staged(queue, memory, allocation, offset, to, size, false);
    status = draft_vk_queue_wait(queue);
    if (!status)
        status = synchronise(queue->vk, allocation, offset, size, false);
    if (!status)
        memcpy(to, allocation->map + offset, size);
    return status;
}
