/* SPDX-License-Identifier: MIT
 *
 * The words that checks write, and the calls after which they are read. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layer.h"

/* ---- Memory ---------------------------------------------------------------------------------- */

static PFN_vkVoidFunction device_call(const struct device *device, const char *name)
{
    return device->get(device->handle, name);
}

/* Memory that the host sees, of one of these types. */
static uint32_t visible_type(const struct device *device, uint32_t allowed)
{
    VkPhysicalDeviceMemoryProperties p;
    VkMemoryPropertyFlags wanted =
        VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    device->instance->memory(device->physical, &p);
    uint32_t type = 0;
    while (type < p.memoryTypeCount &&
           (!(allowed & 1u << type) || (p.memoryTypes[type].propertyFlags & wanted) != wanted))
        type++;
    return type;
}

static VkResult allocate(struct device *device)
{
    PFN_vkGetBufferMemoryRequirements ask =
        (PFN_vkGetBufferMemoryRequirements)device_call(device, "vkGetBufferMemoryRequirements");
    PFN_vkAllocateMemory get = (PFN_vkAllocateMemory)device_call(device, "vkAllocateMemory");
    PFN_vkBindBufferMemory bind = (PFN_vkBindBufferMemory)device_call(device, "vkBindBufferMemory");
    PFN_vkMapMemory map = (PFN_vkMapMemory)device_call(device, "vkMapMemory");
    VkMemoryRequirements needs;
    ask(device->handle, device->buffer, &needs);
    VkMemoryAllocateFlagsInfo flags = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO,
                                       .flags = VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT};
    VkMemoryAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                 .pNext = &flags,
                                 .allocationSize = needs.size,
                                 .memoryTypeIndex = visible_type(device, needs.memoryTypeBits)};
    VkResult result = get(device->handle, &info, NULL, &device->memory);
    if (result == VK_SUCCESS)
        result = bind(device->handle, device->buffer, device->memory, 0);
    if (result == VK_SUCCESS)
        result = map(device->handle, device->memory, 0, VK_WHOLE_SIZE, 0, (void **)&device->faults);
    return result;
}

VkResult device_open(struct device *device)
{
    PFN_vkCreateBuffer create = (PFN_vkCreateBuffer)device_call(device, "vkCreateBuffer");
    PFN_vkGetBufferDeviceAddress address =
        (PFN_vkGetBufferDeviceAddress)device_call(device, "vkGetBufferDeviceAddress");
    size_t size = MOST_CHECKS * sizeof *device->faults;
    VkBufferCreateInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                               .size = size,
                               .usage = VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT |
                                        VK_BUFFER_USAGE_STORAGE_BUFFER_BIT};
    VkResult result = create(device->handle, &info, NULL, &device->buffer);
    if (result == VK_SUCCESS)
        result = allocate(device);
    if (result != VK_SUCCESS)
        return result;
    memset(device->faults, 0, size);
    VkBufferDeviceAddressInfo which = {.sType = VK_STRUCTURE_TYPE_BUFFER_DEVICE_ADDRESS_INFO,
                                       .buffer = device->buffer};
    device->address = address(device->handle, &which);
    return VK_SUCCESS;
}

void device_close(struct device *device)
{
    PFN_vkDestroyBuffer destroy = (PFN_vkDestroyBuffer)device_call(device, "vkDestroyBuffer");
    PFN_vkFreeMemory release = (PFN_vkFreeMemory)device_call(device, "vkFreeMemory");
    destroy(device->handle, device->buffer, NULL);
    release(device->handle, device->memory, NULL);
    for (uint32_t i = 1; i < device->checks.count; i++)
        free(device->checks.text[i]);
}

/* ---- What checks found ----------------------------------------------------------------------- */

VkResult device_checked(struct device *device, VkResult result)
{
    pthread_mutex_lock(&device->mutex);
    for (uint32_t i = 1; i < device->checks.count; i++)
        if (device->faults[i]) {
            layer_say("%s", device->checks.text[i]);
            device->faults[i] = 0;
            device->failed = true;
        }
    if (device->failed)
        result = VK_ERROR_DEVICE_LOST;
    pthread_mutex_unlock(&device->mutex);
    return result;
}

static VKAPI_ATTR VkResult VKAPI_CALL device_idle(VkDevice handle)
{
    struct device *device = layer_device(handle);
    return device_checked(device, device->device_idle(handle));
}

static VKAPI_ATTR VkResult VKAPI_CALL queue_idle(VkQueue queue)
{
    struct device *device = layer_device(queue);
    return device_checked(device, device->queue_idle(queue));
}

static VKAPI_ATTR VkResult VKAPI_CALL wait_semaphores(VkDevice handle,
                                                      const VkSemaphoreWaitInfo *info,
                                                      uint64_t timeout)
{
    struct device *device = layer_device(handle);
    return device_checked(device, device->wait_semaphores(handle, info, timeout));
}

static VKAPI_ATTR VkResult VKAPI_CALL wait_fences(VkDevice handle, uint32_t count,
                                                  const VkFence *fences, VkBool32 all,
                                                  uint64_t timeout)
{
    struct device *device = layer_device(handle);
    return device_checked(device, device->wait_fences(handle, count, fences, all, timeout));
}

static VKAPI_ATTR VkResult VKAPI_CALL counter(VkDevice handle, VkSemaphore semaphore,
                                              uint64_t *value)
{
    struct device *device = layer_device(handle);
    return device_checked(device, device->counter(handle, semaphore, value));
}

PFN_vkVoidFunction device_function(const char *name)
{
    static const struct {
        const char *name;
        PFN_vkVoidFunction function;
    } all[] = {
        {"vkDeviceWaitIdle", (PFN_vkVoidFunction)device_idle},
        {"vkQueueWaitIdle", (PFN_vkVoidFunction)queue_idle},
        {"vkWaitSemaphores", (PFN_vkVoidFunction)wait_semaphores},
        {"vkWaitSemaphoresKHR", (PFN_vkVoidFunction)wait_semaphores},
        {"vkWaitForFences", (PFN_vkVoidFunction)wait_fences},
        {"vkGetSemaphoreCounterValue", (PFN_vkVoidFunction)counter},
        {"vkGetSemaphoreCounterValueKHR", (PFN_vkVoidFunction)counter},
        {"vkCreateShaderModule", (PFN_vkVoidFunction)layer_create_module},
        {"vkDestroyShaderModule", (PFN_vkVoidFunction)layer_destroy_module},
        {"vkCreateComputePipelines", (PFN_vkVoidFunction)layer_create_pipelines},
    };
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(all[i].name, name) == 0)
            return all[i].function;
    return NULL;
}
