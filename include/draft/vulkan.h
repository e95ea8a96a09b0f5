/* SPDX-License-Identifier: MIT
 *
 * libdraft on the caller's own Vulkan device, recorded into the caller's own command buffers. The
 * header needs no Vulkan headers: handles are pointers to the structures that vulkan_core.h names,
 * so that whichever version of it the caller has fits, before or after this one.
 *
 * draft_context_params.backend = "vulkan" and .native = a struct draft_vulkan_native make a context
 * that works on the caller's device; its device and device_name are then ignored.
 *
 * What to enable. draft_vulkan_requirements says it before vkCreateDevice. Only bufferDeviceAddress
 * is required (timelineSemaphore too, where a queue is given; and with vulkanMemoryModel also
 * vulkanMemoryModelDeviceScope); each other set of features makes more kernels available. What the
 * native does not list counts as off, whatever the device has: a feature in a structure of the
 * chain, and the extension that it belongs to among the names.
 *
 * Ownership. The caller owns all that it gives, keeps it until the draft_context is destroyed, and
 * the library destroys none of it. Before plan or context are destroyed, all work that was recorded
 * from them must have finished, and its command buffers must not be submitted any more.
 *
 * Recording. draft_run_params.queue is a VkCommandBuffer of the same device in the recording state,
 * outside of a render pass, primary or secondary, from a pool of a family with compute. draft_run
 * appends the stages to it: no submission, no waiting, no allocation, no lock. The command buffer
 * may be submitted any number of times, with new contents of q, k and v at the same addresses.
 * What is appended:
 *   - vkCmdPipelineBarrier, vkCmdBindPipeline (compute), vkCmdPushConstants, vkCmdDispatch, nothing
 *     else. Afterwards the binding of the compute pipeline and the push constants (compute, 128
 *     bytes) are undefined; descriptor sets, and whatever belongs to graphics, are as before.
 *   - First stage and access: COMPUTE_SHADER, SHADER_READ of q, k, v, valid and the workspace,
 *     SHADER_WRITE of out, lse and the workspace. The caller's barrier before makes q, k, v and
 *     valid visible to that, and lets earlier readers of out and lse finish. What compute shaders
 *     wrote needs none: the commands begin with a barrier from SHADER_WRITE of COMPUTE_SHADER to
 *     SHADER_READ and SHADER_WRITE of COMPUTE_SHADER. So runs may follow each other, in one command
 *     buffer or in several of one queue, and use the same workspace.
 *   - Between the passes: the same barrier.
 *   - Last stage and access: COMPUTE_SHADER, SHADER_WRITE of out, lse and the workspace, of which
 *     the last pass may still be under way. The caller's barrier after it makes them visible to
 *     whatever comes next (HOST_READ of the stage HOST for the host).
 * All memory is read and written by device address: its buffers have the usage
 * SHADER_DEVICE_ADDRESS, its memory was allocated with DEVICE_ADDRESS, and sharing between queue
 * families is the caller's (ownership is transferred, or the buffers are concurrent).
 *
 * Chunks. Systems kill a submission that takes a few seconds, and a renderer wants its queue back
 * long before. draft_run_params.chunk and .chunks record part `chunk` of `chunks`, which are about
 * equal in work: each goes into a submission of its own, or between other commands of one. All of
 * them, in order, on one queue (or ordered by semaphores) are the run; other work may come between
 * that leaves tensors and workspace alone. A chunk may be empty. draft_vulkan_estimate says how
 * much work there is.
 *
 * Queues. The library touches no queue that it was not given. Where draft_vulkan_native.queue is
 * NULL, the context has no queue of its own: draft_run needs a command buffer, and draft_wait is
 * UNSUPPORTED. draft_alloc then gives memory that the host can map; draft_write, draft_read,
 * draft_lists_write and draft_density_read copy to and from it at once and wait for nothing, so the
 * caller sees to it that the work that uses it has finished (and, before a read, that a barrier to
 * HOST_READ was part of it). That is enough for plans, and for small programs; who moves much uses
 * memory of its own. Where a queue is given, the library alone submits to it until the context is
 * destroyed, and all functions work as on a context that the library opened; these also order
 * nothing with the caller's other queues.
 *
 * Self-tests. draft_plan_create runs them on the queue that was given. Where there is none, they
 * run in an instance and a device that the library opens for that time, on the same physical device
 * (with the same UUID) by the system's loader; where that cannot be, only the last kernel of each
 * stage, scalar, is believed. What they find is kept in the user's folder for caches.
 *
 * Threads. As draft/draft.h says of each object: any number of threads may record from one plan at
 * once, each into a command buffer of its own. As always in Vulkan, no other thread may use that
 * command buffer's pool meanwhile. Runs that overlap on the device need distinct workspaces and
 * outputs.
 *
 * Failure. Recording itself cannot fail. A lost device shows in the caller's own calls; those of
 * the library then give DEVICE. */
#ifndef DRAFT_VULKAN_H
#define DRAFT_VULKAN_H

#include <draft/draft.h>

#ifdef __cplusplus
extern "C" {
#endif

struct VkInstance_T;       /* VkInstance is a pointer to it, */
struct VkPhysicalDevice_T; /* and so on                      */
struct VkDevice_T;
struct VkQueue_T;
struct VkPipelineCache_T;
struct VkAllocationCallbacks;

/* For draft_context_params.native and draft_vulkan_requirements; read during the call only. */
struct draft_vulkan_native {
    /* vkGetInstanceProcAddr; what is called is looked up with it, and by vkGetDeviceProcAddr. */
    void (*(*get_instance_proc_addr)(struct VkInstance_T *instance, const char *name))(void);
    struct VkInstance_T *instance;
    struct VkPhysicalDevice_T *physical_device;
    uint32_t api_version; /* VkApplicationInfo.apiVersion of the instance; 0: Vulkan 1.2. At
                                  least 1.2, as is that of the device                           */
    struct VkDevice_T
        *device; /* from here on: not for draft_vulkan_requirements                  */
    const char *const *extensions; /* the device extensions that are enabled                    */
    uint32_t extension_count;
    const void *features;    /* the chain that VkDeviceCreateInfo.pNext was: structures of features
                              are found in it, others are passed over                           */
    uint32_t queue_family;   /* of the caller's queue that will run the work: has compute         */
    struct VkQueue_T *queue; /* NULL, or a queue of that family that is the library's alone until
                                the context is destroyed                                        */
    const struct VkAllocationCallbacks *allocation; /* NULL, or host memory for the driver; copied;
                                                       used until the context is destroyed      */
    struct VkPipelineCache_T *pipeline_cache;       /* NULL: one of the library's own, kept in the
                                   user's folder of caches. Else only this, which is not written to
                                   any file. Made without EXTERNALLY_SYNCHRONIZED               */
};

/* What to enable before vkCreateDevice, on native->physical_device.
 * features: NULL, or the chain that VkDeviceCreateInfo.pNext will be, with structures of features
 * as the caller wants them. Members that the kernels use and the device has are set, in those
 * structures that are there; nothing is ever cleared. What is of use only together is set where the
 * chain has a place for all of it, else none of it. Structures that matter, each also as the one of
 * its single features (VkPhysicalDeviceShaderFloat16Int8Features and so on):
 *   VkPhysicalDeviceVulkan12Features: bufferDeviceAddress, timelineSemaphore, which are required
 *   VkPhysicalDeviceVulkan11Features and the above: kernels with arithmetic in f16
 *   VkPhysicalDeviceVulkan13Features, where device and api_version are 1.3 or later, else
 *     VkPhysicalDeviceSubgroupSizeControlFeatures: matrices where subgroups have several sizes
 *   VkPhysicalDeviceCooperativeMatrixFeaturesKHR and Vulkan12Features: matrices of f16
 *   VkPhysicalDeviceShaderBfloat16FeaturesKHR and these two: matrices of bf16
 *   VkPhysicalDeviceCooperativeMatrix2FeaturesNV (with api_version 1.3) and these: matrices that
 *     stay in registers, and those of whole workgroups
 *   VkPhysicalDeviceCooperativeMatrixMaintenance1FeaturesEXT and these: the former only
 * As always, a structure of an extension may be in the chain only if the device has the extension.
 * extensions: NULL, or room for *count names, static storage; *count is set to how many there are:
 * those that belong to what was set, or with features NULL, all that the kernels use and the device
 * has. Extensions in the caller's list that are not among them do no harm. The list may be empty.
 * log may be NULL. Thread-safe.
 * Errors: ARGUMENT (also: no structure has a place for a required feature), UNSUPPORTED (this
 * device or build cannot run the kernels), MEMORY. */
DRAFT_EXPORT DRAFT_NODISCARD draft_status
draft_vulkan_requirements(const struct draft_log *log, const struct draft_vulkan_native *native,
                          void *features, const char **extensions, uint32_t *count);

/* What a draft_run of these stages would do. */
struct draft_vulkan_work {
    double flops;    /* about, and at most: with sparse lists attend does as much less as they keep
                        less. What chunks are cut by                                             */
    double seconds;  /* flops by the speed that the context's own queue has measured with this plan,
                        or by a careful guess for this kind of device                            */
    uint32_t chunks; /* so that none is expected to take more than 100 ms; at least 1            */
};

/* stages: bits of draft_stage; 0: all.
 * Errors: ARGUMENT, UNSUPPORTED (a plan of another backend). */
DRAFT_EXPORT DRAFT_NODISCARD draft_status draft_vulkan_estimate(const draft_plan *plan,
                                                                uint32_t stages,
                                                                struct draft_vulkan_work *out);

#ifdef __cplusplus
}
#endif

#endif
