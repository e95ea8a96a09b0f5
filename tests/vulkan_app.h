/* SPDX-License-Identifier: MIT
 *
 * A program with Vulkan of its own, for draft/vulkan.h: loader, instance, device, command buffers
 * and memory, made by the test itself. What fails here fails the test. */
#ifndef DRAFT_TESTS_VULKAN_APP_H
#define DRAFT_TESTS_VULKAN_APP_H

#include <draft/vulkan.h>

#include "rig.h"
#include "suite.h"
#include "vulkan/extensions.h"

#define APP_INSTANCE_FUNCTIONS(X)                                                                  \
    X(vkDestroyInstance)                                                                           \
    X(vkEnumeratePhysicalDevices)                                                                  \
    X(vkEnumerateDeviceExtensionProperties)                                                        \
    X(vkGetPhysicalDeviceProperties2)                                                              \
    X(vkGetPhysicalDeviceQueueFamilyProperties)                                                    \
    X(vkGetPhysicalDeviceMemoryProperties)                                                         \
    X(vkCreateDevice)                                                                              \
    X(vkDestroyDevice)                                                                             \
    X(vkGetDeviceQueue)                                                                            \
    X(vkDeviceWaitIdle)                                                                            \
    X(vkQueueSubmit)                                                                               \
    X(vkQueueWaitIdle)                                                                             \
    X(vkCreateCommandPool)                                                                         \
    X(vkDestroyCommandPool)                                                                        \
    X(vkAllocateCommandBuffers)                                                                    \
    X(vkBeginCommandBuffer)                                                                        \
    X(vkEndCommandBuffer)                                                                          \
    X(vkCmdPipelineBarrier)                                                                        \
    X(vkCmdExecuteCommands)                                                                        \
    X(vkCreatePipelineCache)                                                                       \
    X(vkDestroyPipelineCache)                                                                      \
    X(vkGetPipelineCacheData)                                                                      \
    X(vkCreateBuffer)                                                                              \
    X(vkDestroyBuffer)                                                                             \
    X(vkGetBufferMemoryRequirements)                                                               \
    X(vkGetBufferDeviceAddress)                                                                    \
    X(vkAllocateMemory)                                                                            \
    X(vkFreeMemory)                                                                                \
    X(vkBindBufferMemory)                                                                          \
    X(vkMapMemory)

struct app_vulkan {
    PFN_vkGetInstanceProcAddr vkGetInstanceProcAddr;
    PFN_vkCreateInstance vkCreateInstance;
    PFN_vkEnumerateInstanceVersion vkEnumerateInstanceVersion;
#define X(name) PFN_##name name;
    APP_INSTANCE_FUNCTIONS(X)
#undef X
};
extern struct app_vulkan vk;

#define VK(call) ck_assert_int_eq(vk.call, VK_SUCCESS)

/* Open the loader; false where there is none. */
bool app_open(void);

/* An instance, and a device with one queue. */
struct app {
    uint32_t version; /* of Vulkan */
    VkInstance instance;
    VkPhysicalDevice physical;
    uint32_t family;
    VkPhysicalDeviceVulkan12Features features; /* as they were enabled; a chain */
    VkPhysicalDeviceVulkan11Features features_11;
    VkPhysicalDeviceVulkan13Features features_13;
    VkPhysicalDeviceSubgroupSizeControlFeatures subgroup;
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR matrix;
    VkPhysicalDeviceShaderBfloat16FeaturesKHR bf16;
    VkPhysicalDeviceCooperativeMatrix2FeaturesNV matrix2;
    VkPhysicalDeviceCooperativeMatrixMaintenance1FeaturesEXT maintenance;
    const char *extensions[16];
    uint32_t extension_count;
    VkDevice device;
    VkQueue queue;
    struct test_device adopted; /* the library on it */
};

/* The device that the library lists like this. Enables what the library asks for. */
void app_init(struct app *app, const struct draft_device_info *info);
/* Destroys the library's context first: nothing of the caller's may have gone with it. */
void app_free(struct app *app);

/* Everything but queue, allocation and pipeline_cache. */
struct draft_vulkan_native app_native(const struct app *app);
/* A context of the library on the device; into app->adopted. */
draft_status app_adopt(struct app *app, const struct draft_vulkan_native *native);

/* Command buffers of a pool of their own, being recorded; again and again submittable. */
struct app_commands {
    const struct app *app;
    VkCommandPool pool;
    VkCommandBuffer buffer;
};
void app_commands_init(struct app_commands *commands, const struct app *app,
                       VkCommandBufferLevel level);
void app_commands_free(struct app_commands *commands);
/* No more is recorded. to_host: after a barrier that lets the host read what shaders wrote. */
void app_commands_end(const struct app_commands *commands, bool to_host);
/* All in one submission. */
void app_submit(const struct app *app, const struct app_commands *commands, uint32_t count);
void app_wait(const struct app *app);

/* Memory that the host has mapped, coherent. */
struct app_memory {
    VkBuffer buffer;
    VkDeviceMemory memory;
    uint8_t *map;
    draft_address address;
};
void app_memory_init(struct app_memory *memory, const struct app *app, size_t size);
void app_memory_free(struct app_memory *memory, const struct app *app);

/* ---- Runs ---- */

/* Devices of the library's own. */
extern struct test_device devices[MAX_DEVICES];
extern size_t device_count;

enum { ALL_STAGES = DRAFT_POOL | DRAFT_SCORE | DRAFT_SELECT | DRAFT_ATTEND };

enum { CASES = 4, INPUTS = 2 };
extern const char *const names[CASES];

void setup_rig(struct rig *rig, struct test_device *device, struct problem *problem,
               const char *name);
void free_rig(struct rig *rig, struct problem *problem);
/* Which inputs a rig holds: as the case says, or with q and k exchanged (or no v). */
void fill(struct rig *rig, int inputs);

/* Run all cases on the library's own device, and keep what comes out. */
void expect_all(void);
void forget_all(void);
/* Did case number c give the same, bit for bit? */
bool is_expected(struct rig *rig, int c, int inputs);
const uint8_t *expected_out(int c, int inputs);

/* The library on a device of the app, without a queue. */
void setup_app(struct app *app);
void record_chunk(struct rig *rig, const struct app_commands *commands, uint32_t chunk,
                  uint32_t chunks);

/* What a caller may give, and what is refused: vulkan_natives.c. */
TCase *natives_tests(void);
/* What is optional: vulkan_features.c. */
TCase *features_tests(void);

#endif
