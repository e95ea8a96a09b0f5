/* SPDX-License-Identifier: MIT
 *
 * What the files of the Vulkan backend share. An instance is how devices are found, a device is
 * what work runs on. Either may be the caller's own (adopt.c): then it is not destroyed, and where
 * the caller gave no queue, there is none. */
#ifndef DRAFT_VULKAN_DEVICE_H
#define DRAFT_VULKAN_DEVICE_H

#include <pthread.h>
#include <stdatomic.h>

#include "extensions.h"
#include "kernels.h"

/* ---- Functions: loader.c --------------------------------------------------------------------- */

/* Every Vulkan function that the library calls, by what it is looked up with. */
#define DRAFT_VK_GLOBAL_FUNCTIONS(X)                                                               \
    X(vkEnumerateInstanceVersion)                                                                  \
    X(vkCreateInstance)

#define DRAFT_VK_INSTANCE_FUNCTIONS(X)                                                             \
    X(vkDestroyInstance)                                                                           \
    X(vkEnumeratePhysicalDevices)                                                                  \
    X(vkGetPhysicalDeviceProperties)                                                               \
    X(vkGetPhysicalDeviceProperties2)                                                              \
    X(vkGetPhysicalDeviceFeatures2)                                                                \
    X(vkGetPhysicalDeviceMemoryProperties)                                                         \
    X(vkGetPhysicalDeviceQueueFamilyProperties)                                                    \
    X(vkCreateDevice)                                                                              \
    X(vkGetDeviceProcAddr)

#define DRAFT_VK_DEVICE_FUNCTIONS(X)                                                               \
    X(vkDestroyDevice)                                                                             \
    X(vkDeviceWaitIdle)                                                                            \
    X(vkGetDeviceQueue)                                                                            \
    X(vkQueueSubmit)                                                                               \
    X(vkCreateBuffer)                                                                              \
    X(vkDestroyBuffer)                                                                             \
    X(vkGetBufferMemoryRequirements)                                                               \
    X(vkGetBufferDeviceAddress)                                                                    \
    X(vkAllocateMemory)                                                                            \
    X(vkFreeMemory)                                                                                \
    X(vkBindBufferMemory)                                                                          \
    X(vkMapMemory)                                                                                 \
    X(vkFlushMappedMemoryRanges)                                                                   \
    X(vkInvalidateMappedMemoryRanges)                                                              \
    X(vkCreateShaderModule)                                                                        \
    X(vkDestroyShaderModule)                                                                       \
    X(vkCreatePipelineLayout)                                                                      \
    X(vkDestroyPipelineLayout)                                                                     \
    X(vkCreateComputePipelines)                                                                    \
    X(vkDestroyPipeline)                                                                           \
    X(vkCreatePipelineCache)                                                                       \
    X(vkDestroyPipelineCache)                                                                      \
    X(vkGetPipelineCacheData)                                                                      \
    X(vkCreateQueryPool)                                                                           \
    X(vkDestroyQueryPool)                                                                          \
    X(vkGetQueryPoolResults)                                                                       \
    X(vkCreateSemaphore)                                                                           \
    X(vkDestroySemaphore)                                                                          \
    X(vkWaitSemaphores)                                                                            \
    X(vkGetSemaphoreCounterValue)                                                                  \
    X(vkCreateCommandPool)                                                                         \
    X(vkDestroyCommandPool)                                                                        \
    X(vkResetCommandPool)                                                                          \
    X(vkAllocateCommandBuffers)                                                                    \
    X(vkBeginCommandBuffer)                                                                        \
    X(vkEndCommandBuffer)                                                                          \
    X(vkCmdPipelineBarrier)                                                                        \
    X(vkCmdBindPipeline)                                                                           \
    X(vkCmdPushConstants)                                                                          \
    X(vkCmdDispatch)                                                                               \
    X(vkCmdCopyBuffer)                                                                             \
    X(vkCmdResetQueryPool)                                                                         \
    X(vkCmdWriteTimestamp)

struct vk_api {
    PFN_vkGetInstanceProcAddr vkGetInstanceProcAddr;
#define X(name) PFN_##name name;
    DRAFT_VK_GLOBAL_FUNCTIONS(X)
    DRAFT_VK_INSTANCE_FUNCTIONS(X)
    DRAFT_VK_DEVICE_FUNCTIONS(X)
#undef X
};

struct vk_instance {
    void *library; /* the loader; NULL where the caller brought the instance */
    VkInstance handle;
    bool adopted;
    uint32_t version; /* of Vulkan, that it was made for */
    struct vk_api api;
};

/* Open the loader and make an instance. NO_DEVICE, with a line at INFO, where there is no loader or
 * no driver, or one that is too old. */
draft_status draft_vk_instance_open(const struct draft_log *log, struct vk_instance *out);
/* The caller's own. UNSUPPORTED, with a line to the log, where a function is missing. */
draft_status draft_vk_instance_adopt(const struct draft_log *log,
                                     const struct draft_vulkan_native *native,
                                     struct vk_instance *out);
void draft_vk_instance_close(struct vk_instance *instance);

/* Fill the device's part of the table. */
draft_status draft_vk_load_device(const struct draft_log *log, struct vk_api *api, VkDevice device);

/* ---- Devices: device.c ----------------------------------------------------------------------- */

/* A device that the kernels can run on. */
struct vk_physical {
    VkPhysicalDevice handle;
    struct vk_caps caps;
    uint32_t version; /* of Vulkan, the instance's too                              */
    uint32_t tiers;   /* VK_TIER_ bits of what it is, or may be, made with          */
    VkPhysicalDeviceType type;
    uint32_t family; /* of queues, with compute */
    uint32_t device_id, driver_version;
    uint8_t uuid[VK_UUID_SIZE], cache_uuid[VK_UUID_SIZE];
    char name[VK_MAX_PHYSICAL_DEVICE_NAME_SIZE];
    char driver[VK_MAX_DRIVER_NAME_SIZE + VK_MAX_DRIVER_INFO_SIZE];
    uint32_t max_groups;     /* of one dispatch                                      */
    uint64_t max_allocation; /* advertised; drivers may give more                    */
    uint64_t max_buffer;
    uint64_t atom; /* granule of flushing mapped memory that is not coherent */
    double tick;   /* seconds of a timestamp, 0: the queue has none        */
    uint64_t tick_mask;
    VkPhysicalDeviceMemoryProperties memory;
};

/* Look at one device. family: the only family of queues that will do, or VK_ANY_FAMILY. *why gets
 * NULL where the device can be used, else static text. */
enum { VK_ANY_FAMILY = INT32_MAX }; /* no device has so many */
draft_status draft_vk_inspect(const struct draft_log *log, const struct vk_instance *instance,
                              VkPhysicalDevice handle, uint32_t family, struct vk_physical *out,
                              const char **why);

/* All usable devices, in the order of the driver: an array of draft_calloc. Logs what the others
 * lack at INFO. */
draft_status draft_vk_physical_list(const struct draft_log *log, const struct vk_instance *instance,
                                    struct vk_physical **out, uint32_t *count);

void draft_vk_describe(const struct vk_physical *physical, uint32_t index,
                       struct draft_device_info *out);

struct vk_device {
    const struct draft_log *log;
    struct vk_api api;
    struct vk_physical physical;
    VkDevice handle;
    VkQueue queue; /* NULL: the caller's device, and the caller gave no queue */
    bool adopted;
    VkAllocationCallbacks callbacks;        /* the caller's, and a pointer to them, */
    const VkAllocationCallbacks *allocator; /* or NULL                              */
    VkPipelineCache pipelines;              /* the caller's, or NULL                */
    atomic_bool lost;                       /* the driver gave up: nothing works from here on */
};

draft_status draft_vk_device_open(const struct draft_log *log, const struct vk_instance *instance,
                                  const struct vk_physical *physical, struct vk_device *out);
void draft_vk_device_close(struct vk_device *vk);

/* ---- Features: features.c, caps.c ------------------------------------------------------------ */

/* Features that are of use together only. */
enum {
    VK_TIER_F16 = 1,
    VK_TIER_SUBGROUP = 2, /* sizes that a shader may demand */
    VK_TIER_MATRIX = 4,   /* of f16                         */
    VK_TIER_MATRIX_BF16 = 8,
    VK_TIER_MATRIX2 = 16,     /* see vk_caps.matrix2 */
    VK_TIER_MATRIX2_EXT = 32, /* and matrix2_ext     */
    VK_TIER_MATRIX_WORKGROUP = 64,
};

/* *why gets NULL, or which required feature the device lacks: static text. */
draft_status draft_vk_lacks(const struct draft_log *log, const struct vk_instance *instance,
                            const struct vk_physical *physical, const char **why);
/* The tiers that the device has, and caps by them. */
draft_status draft_vk_tiers(const struct draft_log *log, const struct vk_instance *instance,
                            struct vk_physical *physical);
/* What of caps follows from physical->tiers, which loses those that turn out to be of no use. */
draft_status draft_vk_caps(const struct draft_log *log, const struct vk_instance *instance,
                           struct vk_physical *physical);

/* All structures of features that the library knows. */
#define DRAFT_VK_FEATURE_STRUCTURES(X)                                                             \
    X(VULKAN_1_1_FEATURES, Vulkan11Features, v11)                                                  \
    X(VULKAN_1_2_FEATURES, Vulkan12Features, v12)                                                  \
    X(VULKAN_1_3_FEATURES, Vulkan13Features, v13)                                                  \
    X(SUBGROUP_SIZE_CONTROL_FEATURES, SubgroupSizeControlFeatures, subgroup)                       \
    X(COOPERATIVE_MATRIX_FEATURES_KHR, CooperativeMatrixFeaturesKHR, matrix)                       \
    X(SHADER_BFLOAT16_FEATURES_KHR, ShaderBfloat16FeaturesKHR, bf16)                               \
    X(COOPERATIVE_MATRIX_2_FEATURES_NV, CooperativeMatrix2FeaturesNV, matrix2)                     \
    X(COOPERATIVE_MATRIX_MAINTENANCE_1_FEATURES_EXT, CooperativeMatrixMaintenance1FeaturesEXT,     \
      maintenance)
enum { VK_MOST_EXTENSIONS = 5 };

/* What a device is made with; lives until it is. */
struct vk_request {
#define X(type, structure, member) VkPhysicalDevice##structure member;
    DRAFT_VK_FEATURE_STRUCTURES(X)
#undef X
    const char *extensions[VK_MOST_EXTENSIONS];
};
/* Asks for all that is required and for the tiers. */
void draft_vk_enable(const struct vk_physical *physical, struct vk_request *request,
                     VkDeviceCreateInfo *info);

/* Callers' devices: chains of structures of features, as the caller has them. */

/* The name of a required feature that no structure has a place for, or NULL. */
const char *draft_vk_without_place(const struct vk_physical *physical, const void *chain);
/* Sets what is required and what the tiers are. The physical device loses the tiers for whose
 * features the chain has not all places. */
void draft_vk_ask_for(struct vk_physical *physical, void *chain);
/* Names of the extensions that the tiers need, at most `room`, static; returns how many. */
uint32_t draft_vk_extensions(const struct vk_physical *physical, const char **out, uint32_t room);
/* The name of a required feature that the native does not list, and when it is required;
 * NULL: none. */
const char *draft_vk_unlisted(const struct vk_physical *physical,
                              const struct draft_vulkan_native *native, const char **rule);
/* The tiers that the caller has enabled. */
uint32_t draft_vk_listed_tiers(const struct vk_physical *physical,
                               const struct draft_vulkan_native *native);

/* ---- The caller's own: adopt.c --------------------------------------------------------------- */

/* Instance and device; to be closed as if they had been opened. */
draft_status draft_vk_adopt(const struct draft_log *log, const struct draft_vulkan_native *native,
                            struct vk_instance *instance, struct vk_device *device);
/* See draft/vulkan.h. */
draft_status draft_vk_requirements(const struct draft_log *log,
                                   const struct draft_vulkan_native *native, void *features,
                                   const char **extensions, uint32_t *count);

/* ---- Errors and memory: device.c ------------------------------------------------------------- */

/* OK, or the status that fits the result, after a line to the log. */
draft_status draft_vk_check(struct vk_device *vk, VkResult result, const char *call);

/* DEVICE, with a line to the log, after the device was lost. */
draft_status draft_vk_alive(const struct vk_device *vk);

/* Call a function of the table. */
#define VK_CALL(vk, name, ...) draft_vk_check((vk), (vk)->api.name(__VA_ARGS__), #name)

/* Host memory for the backend; says in the log what for where there is none. */
void *draft_vk_calloc(const struct draft_log *log, size_t count, size_t size, const char *what);

/* ---- Pipelines: cache.c ---------------------------------------------------------------------- */

struct vk_pipeline;

/* Pipelines by shader, made once and kept until the context closes; any thread. */
struct vk_cache {
    pthread_mutex_t mutex;
    VkPipelineLayout layout; /* the push constants of struct draft_args, no descriptors */
    VkPipelineCache handle;  /* NULL: works without                                      */
    bool adopted;            /* the handle is the caller's                               */
    size_t loaded;           /* bytes that came from the file                            */
    struct vk_pipeline *first;
};

draft_status draft_vk_cache_open(struct vk_device *vk, struct vk_cache *out);
/* Writes the user's cache file where it would grow. */
void draft_vk_cache_close(struct vk_device *vk, struct vk_cache *cache);
draft_status draft_vk_cache_pipeline(struct vk_device *vk, struct vk_cache *cache,
                                     const struct vk_shader *shader, VkPipeline *out);

/* ---- Queue: queue.c -------------------------------------------------------------------------- */

/* Measured speed of one pass, in units of vk_pass.work for each second. */
struct vk_meter {
    _Atomic float rate;
    atomic_bool known; /* measured; a guess before */
};

enum { VK_SLOTS = 8 }; /* submissions under way, and runs being recorded, at most */

/* A command buffer. Taken while a run records into it, then under way until its value is
 * reached. */
struct vk_slot {
    VkCommandPool pool;
    VkCommandBuffer commands;
    uint32_t query; /* first of two timestamps */
    bool taken;
    bool pending;           /* its time stamps were not looked at yet                        */
    uint64_t value;         /* of the timeline when its last submission is done; 0: none yet */
    struct vk_meter *meter; /* of the pass that took most of it, NULL: nothing to learn      */
    double seconds, rate;   /* what was expected: time in all, and speed of that pass        */
};

/* One draft_run, or one copy. */
struct vk_run {
    struct vk_slot *slot; /* being recorded; NULL where getting one failed */
    bool taken;
    double seconds;         /* expected of the slot so far                   */
    double most, rate;      /* the largest share of that, at which speed,    */
    struct vk_meter *meter; /* and whose it is                               */
};

struct vk_queue {
    struct vk_device *vk;
    pthread_mutex_t mutex;
    pthread_cond_t freed; /* a slot or a run is not taken any more */
    VkSemaphore timeline;
    uint64_t submitted;  /* the timeline's value when all is done */
    VkQueryPool queries; /* NULL where the queue has no timestamps */
    uint64_t last_tick;  /* when the submission before ended        */
    struct vk_slot slots[VK_SLOTS];
    struct vk_run runs[VK_SLOTS];
};

/* Where the device has no queue, there is nothing to wait for, and a run cannot begin. */
draft_status draft_vk_queue_open(struct vk_device *vk, struct vk_queue *out);
/* Waits for all work. */
void draft_vk_queue_close(struct vk_queue *queue);

/* Start to record; waits while too much is under way. Any thread. */
draft_status draft_vk_run_begin(struct vk_queue *queue, struct vk_run **out);
/* Submit, or throw away what was not submitted yet. */
draft_status draft_vk_run_end(struct vk_queue *queue, struct vk_run *run, bool ok);

/* A pass of a plan, ready to be recorded. */
struct vk_step {
    VkPipeline pipeline;
    uint32_t step;
    uint32_t groups;
    double work; /* of one group */
    struct vk_meter meter;
};
/* Seconds that one submission should take. */
extern const double draft_vk_target;

/* Knows nothing yet. */
void draft_vk_meter_init(const struct vk_queue *queue, struct vk_meter *out);
/* After all that was recorded or submitted before; cut into submissions where it takes long. */
draft_status draft_vk_run_step(struct vk_queue *queue, struct vk_run *run, VkPipelineLayout layout,
                               struct vk_step *step, const struct draft_args *args);
/* Copy, after all that was recorded or submitted before. */
void draft_vk_run_copy(struct vk_queue *queue, struct vk_run *run, VkBuffer to, uint64_t to_offset,
                       VkBuffer from, uint64_t from_offset, uint64_t size);
/* Meters in [first, end) are about to go: forget them. */
void draft_vk_queue_forget(struct vk_queue *queue, const void *first, const void *end);
/* Wait for all submitted work. */
draft_status draft_vk_queue_wait(struct vk_queue *queue);

/* ---- The caller's command buffers: record.c -------------------------------------------------- */

/* Part of a run: work from `first` up to `end`, where `at` was recorded or passed over so far. */
struct vk_recording {
    VkCommandBuffer commands;
    double first, end, at; /* in units of vk_step.work */
};
/* Part chunk->index of chunk->count of a run that is `work` in all. */
struct vk_recording draft_vk_recording(VkCommandBuffer commands, double work,
                                       const struct draft_chunk *chunk);
/* What of a step lies in the part, after a barrier. Allocates, locks and waits for nothing. */
void draft_vk_record_step(const struct vk_device *vk, struct vk_recording *recording,
                          VkPipelineLayout layout, const struct vk_step *step,
                          const struct draft_args *args);

/* ---- Memory: memory.c ------------------------------------------------------------------------ */

struct vk_allocation;

struct vk_memory {
    pthread_mutex_t mutex;  /* of the list                                                      */
    pthread_mutex_t staged; /* of the staging buffer                                            */
    struct vk_allocation *first, *staging; /* staging: made when it is needed first             */
};

void draft_vk_memory_open(struct vk_memory *out);
/* Frees what was not freed. */
void draft_vk_memory_close(struct vk_device *vk, struct vk_memory *memory);
draft_status draft_vk_alloc(struct vk_device *vk, struct vk_memory *memory, uint64_t size,
                            draft_address *out);
void draft_vk_free(struct vk_device *vk, struct vk_memory *memory, draft_address address);
/* Copy between host and device after all work of the queue; done on return. */
draft_status draft_vk_write(struct vk_queue *queue, struct vk_memory *memory, draft_address to,
                            const void *from, uint64_t size);
draft_status draft_vk_read(struct vk_queue *queue, struct vk_memory *memory, void *to,
                           draft_address from, uint64_t size);

#endif
