/* SPDX-License-Identifier: MIT
 *
 * What any program with Vulkan of its own has, and what is not the point of these examples: the
 * functions, an instance, a device with one queue, memory, command buffers.
 *
 * The functions come from volk where its header is there; without it they are looked up here. */
#ifndef DRAFT_EXAMPLES_VULKAN_SETUP_H
#define DRAFT_EXAMPLES_VULKAN_SETUP_H

#include <stdint.h>
#include <stdio.h>

#ifdef HAVE_VOLK
#include <volk.h>
#else
#define VK_NO_PROTOTYPES
#include <vulkan/vulkan_core.h>
#endif

#include <draft/vulkan.h>

/* Ends with a message where a call of Vulkan, of CUDA or of the library fails. */
#define TRY(call)                                                                                  \
    do {                                                                                           \
        int result_ = (int)(call);                                                                 \
        if (result_) {                                                                             \
            fprintf(stderr, "%s:%d: %s: %d\n", __FILE__, __LINE__, #call, result_);                \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)

#ifndef HAVE_VOLK
#define VULKAN_FUNCTIONS(X)                                                                        \
    X(vkDestroyInstance)                                                                           \
    X(vkEnumeratePhysicalDevices)                                                                  \
    X(vkGetPhysicalDeviceProperties2)                                                              \
    X(vkGetPhysicalDeviceQueueFamilyProperties)                                                    \
    X(vkGetPhysicalDeviceMemoryProperties)                                                         \
    X(vkCreateDevice)                                                                              \
    X(vkGetDeviceProcAddr)                                                                         \
    X(vkDestroyDevice)                                                                             \
    X(vkDeviceWaitIdle)                                                                            \
    X(vkGetDeviceQueue)                                                                            \
    X(vkQueueSubmit)                                                                               \
    X(vkCreateSemaphore)                                                                           \
    X(vkDestroySemaphore)                                                                          \
    X(vkWaitSemaphores)                                                                            \
    X(vkCreateCommandPool)                                                                         \
    X(vkDestroyCommandPool)                                                                        \
    X(vkAllocateCommandBuffers)                                                                    \
    X(vkBeginCommandBuffer)                                                                        \
    X(vkEndCommandBuffer)                                                                          \
    X(vkCmdPipelineBarrier)                                                                        \
    X(vkCmdCopyBuffer)                                                                             \
    X(vkCmdFillBuffer)                                                                             \
    X(vkCreateBuffer)                                                                              \
    X(vkDestroyBuffer)                                                                             \
    X(vkGetBufferMemoryRequirements)                                                               \
    X(vkGetBufferDeviceAddress)                                                                    \
    X(vkAllocateMemory)                                                                            \
    X(vkFreeMemory)                                                                                \
    X(vkBindBufferMemory)                                                                          \
    X(vkMapMemory)
/* A driver has functions of the same names: the build hides these from it. */
#define X(name) extern PFN_##name name;
VULKAN_FUNCTIONS(X)
X(vkGetInstanceProcAddr)
X(vkCreateInstance)
#undef X
#endif

enum { MOST_DEVICES = 16, MOST_EXTENSIONS = 32, SKIPPED = 77 /* the exit status */ };

struct gpu {
    VkInstance instance;
    VkPhysicalDevice physical;
    VkDevice device;
    uint32_t family; /* that can compute */
    VkQueue queue;
    VkCommandPool pool;
    /* What the device is made with. */
    VkPhysicalDeviceVulkan12Features features; /* the first of a chain */
    const char *extensions[MOST_EXTENSIONS];
    uint32_t extension_count;
};

/* Loader and instance. NULL, or why there is nothing to run on. */
const char *gpu_open(struct gpu *gpu);
/* Of the physical device that the caller has set, with what it has put into features and
 * extensions. 0: it worked; so with all below. */
int gpu_make_device(struct gpu *gpu);
/* Whatever of it there is. */
void gpu_close(struct gpu *gpu);

/* The same to the library. */
struct draft_vulkan_native gpu_native(const struct gpu *gpu);

struct memory {
    VkBuffer buffer;
    VkDeviceMemory memory;
    uint64_t size;
    void *map; /* where it is asked to be visible to the host */
    draft_address address;
};
/* exported: 0, or as what it may leave the program. */
int gpu_allocate(const struct gpu *gpu, uint64_t size, VkMemoryPropertyFlags flags,
                 VkExternalMemoryHandleTypeFlags exported, struct memory *out);
void gpu_free(const struct gpu *gpu, struct memory *memory);

/* A command buffer that records. */
int gpu_begin(const struct gpu *gpu, VkCommandBuffer *out);

/* Warnings of the library on stderr. */
struct draft_log stderr_log(void);

#endif
