/* SPDX-License-Identifier: MIT
 *
 * The layer: instances and devices that it has put itself in front of. */
#ifndef MATRIX_DRIVER_LAYER_H
#define MATRIX_DRIVER_LAYER_H

#include <pthread.h>
#include <vulkan/vk_layer.h>

#include "lower.h"

struct instance {
    struct instance *next;
    void *key; /* of the instance and its physical devices, see layer_key() */
    VkInstance handle;
    struct model model;
    PFN_vkGetInstanceProcAddr get;
    PFN_vkDestroyInstance destroy;
    PFN_vkEnumerateDeviceExtensionProperties extensions;
    PFN_vkGetPhysicalDeviceFeatures2 features;
    PFN_vkGetPhysicalDeviceProperties properties;
    PFN_vkGetPhysicalDeviceProperties2 properties2;
    PFN_vkGetPhysicalDeviceMemoryProperties memory;
};

/* A module with matrices: lowered when a pipeline says which size its subgroups have. */
struct module {
    struct module *next;
    uint32_t *code;
    size_t count;
};

struct device {
    struct device *next;
    void *key;
    VkDevice handle;
    const struct instance *instance;
    VkPhysicalDevice physical;
    PFN_vkGetDeviceProcAddr get;
    PFN_vkDestroyDevice destroy;
    PFN_vkDeviceWaitIdle device_idle;
    PFN_vkQueueWaitIdle queue_idle;
    PFN_vkWaitSemaphores wait_semaphores;
    PFN_vkWaitForFences wait_fences;
    PFN_vkGetSemaphoreCounterValue counter;
    PFN_vkCreateShaderModule create_module;
    PFN_vkDestroyShaderModule destroy_module;
    PFN_vkCreateComputePipelines create_pipelines;
    VkBuffer buffer; /* of the words that checks write */
    VkDeviceMemory memory;
    uint32_t *faults;
    uint64_t address;
    pthread_mutex_t mutex; /* modules, checks */
    struct module *modules;
    struct checks checks;
    bool failed;
};

void *layer_key(const void *dispatchable);
struct device *layer_device(const void *dispatchable);

/* A line that begins with "matrix driver: ". */
void layer_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* device.c: the table of faults; DEVICE_LOST where a check has found something, else the result. */
VkResult device_open(struct device *device);
void device_close(struct device *device);
VkResult device_checked(struct device *device, VkResult result);
PFN_vkVoidFunction device_function(const char *name);

/* plant.c */
void plant_fault(uint32_t *code, size_t count);

/* pipelines.c */
VKAPI_ATTR VkResult VKAPI_CALL layer_create_module(VkDevice device,
                                                   const VkShaderModuleCreateInfo *info,
                                                   const VkAllocationCallbacks *allocator,
                                                   VkShaderModule *out);
VKAPI_ATTR void VKAPI_CALL layer_destroy_module(VkDevice device, VkShaderModule module,
                                                const VkAllocationCallbacks *allocator);
VKAPI_ATTR VkResult VKAPI_CALL layer_create_pipelines(VkDevice device, VkPipelineCache cache,
                                                      uint32_t count,
                                                      const VkComputePipelineCreateInfo *infos,
                                                      const VkAllocationCallbacks *allocator,
                                                      VkPipeline *out);

#endif
