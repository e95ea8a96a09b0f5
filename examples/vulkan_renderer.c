/* SPDX-License-Identifier: MIT
 *
 * The library inside a renderer: a program that has Vulkan of its own, instance, device, memory,
 * command buffers and timeline, and runs DraftAttention between its passes. Here the pass before
 * copies a frame's q, k and v to where attention reads them, and the pass after copies its result
 * to where the host does; a renderer has shaders in their places.
 *
 * All is recorded once and submitted for each frame. Attention comes in parts, each in a submission
 * of its own, so that none holds the queue for long. Nothing waits on the host but for the end of a
 * frame.
 *
 * Ends with status 77 where there is no Vulkan device that the library can use. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vulkan_setup.h"

enum { HEADS = 2, DIM = 64, FRAMES = 2, MOST_CHUNKS = 8 };

/* ---- The program's own device ---------------------------------------------------------------- */

struct program {
    struct gpu gpu;
    VkPhysicalDeviceVulkan11Features features11; /* chained to the gpu's */
#ifdef VK_KHR_cooperative_matrix
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR matrix;
#endif
    VkSemaphore timeline; /* a value for each submission */
    uint64_t submitted;
    VkCommandBuffer before, attention[MOST_CHUNKS], after;
    uint32_t chunks;
    struct memory upload, tensors, workspace, download; /* tensors: q, k, v and out */
    draft_context *draft;
    draft_plan *plan;
    size_t count, size; /* elements and bytes of one tensor */
};

/* Places for the features that kernels use: the more there are, the faster the kernels. Only a device
 * that has an extension may be asked for its features. */
static void chain_features(struct program *p)
{
    p->gpu.features = (VkPhysicalDeviceVulkan12Features){
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
        .pNext = &p->features11,
        .timelineSemaphore = VK_TRUE, /* what the renderer wants for itself */
    };
    p->features11 = (VkPhysicalDeviceVulkan11Features){
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES};
#ifdef VK_KHR_cooperative_matrix
    p->matrix = (VkPhysicalDeviceCooperativeMatrixFeaturesKHR){
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR};
    for (uint32_t i = 0; i < p->gpu.extension_count; i++)
        if (strcmp(p->gpu.extensions[i], VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME) == 0)
            p->features11.pNext = &p->matrix;
#endif
}

/* Does the library take p->gpu.physical? Then features and extensions are what to enable on it. */
static bool takes_device(struct program *p)
{
    struct draft_vulkan_native native = gpu_native(&p->gpu);
    p->gpu.extension_count = MOST_EXTENSIONS; /* all that might be of use */
    if (draft_vulkan_requirements(NULL, &native, NULL, p->gpu.extensions,
                                  &p->gpu.extension_count) != DRAFT_OK ||
        p->gpu.extension_count > MOST_EXTENSIONS)
        return false;
    chain_features(p);
    p->gpu.extension_count = MOST_EXTENSIONS; /* those of what the chain has a place for */
    return draft_vulkan_requirements(NULL, &native, &p->gpu.features, p->gpu.extensions,
                                     &p->gpu.extension_count) == DRAFT_OK;
}

/* NULL, or why there is nothing to run on. */
static const char *find_device(struct program *p)
{
    VkPhysicalDevice devices[MOST_DEVICES];
    uint32_t count = MOST_DEVICES;
    const char *reason = gpu_open(&p->gpu);
    if (reason)
        return reason;
    if (vkEnumeratePhysicalDevices(p->gpu.instance, &count, devices) < 0)
        return "the devices cannot be listed";
    for (uint32_t i = 0; i < count; i++) { /* the first that the library takes */
        p->gpu.physical = devices[i];
        if (takes_device(p))
            return NULL;
    }
    return "no Vulkan device fits the library";
}

static int make_timeline(struct program *p)
{
    VkSemaphoreTypeCreateInfo type = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
                                      .semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE};
    VkSemaphoreCreateInfo semaphore = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO,
                                       .pNext = &type};
    TRY(vkCreateSemaphore(p->gpu.device, &semaphore, NULL, &p->timeline));
    return 0;
}

/* ---- The library's side ---------------------------------------------------------------------- */

static int open_library(struct program *p)
{
    const VkMemoryPropertyFlags local = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT;
    const VkMemoryPropertyFlags visible =
        VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    struct draft_vulkan_native native = gpu_native(&p->gpu);
    struct draft_context_params adopt = {
        .backend = "vulkan", .native = &native, .log = stderr_log()};
    struct draft_plan_params params = {
        .shape = {.frames = 2, .height = 16, .width = 24, .suffix = 20, .heads = HEADS, .dim = DIM},
        .type = DRAFT_F16,
        .sparsity = 0.5,
    };
    struct draft_layout layout;
    struct draft_vulkan_work work;
    TRY(draft_context_create(&adopt, &p->draft));
    TRY(draft_plan_create(p->draft, &params, &p->plan));
    draft_plan_layout(p->plan, &layout);
    p->count = layout.tokens * HEADS * DIM;
    p->size = p->count * sizeof(uint16_t);
    TRY(gpu_allocate(&p->gpu, 3 * p->size, visible, 0, &p->upload));
    TRY(gpu_allocate(&p->gpu, p->size, visible, 0, &p->download));
    TRY(gpu_allocate(&p->gpu, 4 * p->size, local, 0, &p->tensors));
    TRY(gpu_allocate(&p->gpu, layout.size, local, 0, &p->workspace));
    TRY(p->workspace.address % layout.alignment);
    TRY(draft_vulkan_estimate(p->plan, 0, &work));
    /* So little work would do in one; at least two, to show it. */
    p->chunks = work.chunks < 2 ? 2 : work.chunks > MOST_CHUNKS ? MOST_CHUNKS : work.chunks;
    return 0;
}

/* ---- Passes ---------------------------------------------------------------------------------- */

static void barrier(VkCommandBuffer commands, VkPipelineStageFlags first, VkAccessFlags written,
                    VkPipelineStageFlags next, VkAccessFlags access)
{
    VkMemoryBarrier info = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                            .srcAccessMask = written,
                            .dstAccessMask = access};
    vkCmdPipelineBarrier(commands, first, next, 0, 1, &info, 0, NULL, 0, NULL);
}

/* Before: q, k and v of this frame take the place of the last frame's, and out is cleared. After
 * the barrier attention may read the ones and write the other. */
static int record_before(struct program *p)
{
    VkBufferCopy inputs = {0, 0, 3 * p->size};
    TRY(gpu_begin(&p->gpu, &p->before));
    /* The last frame's attention and the copy of its out were waited for on the host. */
    vkCmdCopyBuffer(p->before, p->upload.buffer, p->tensors.buffer, 1, &inputs);
    vkCmdFillBuffer(p->before, p->tensors.buffer, 3 * p->size, p->size, 0xffffffff);
    barrier(p->before, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_ACCESS_TRANSFER_WRITE_BIT,
            VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
            VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT);
    TRY(vkEndCommandBuffer(p->before));
    return 0;
}

static int record_attention(struct program *p)
{
    struct draft_run_params run = {.q = {.data = p->tensors.address},
                                   .k = {.data = p->tensors.address + p->size},
                                   .v = {.data = p->tensors.address + 2 * p->size},
                                   .out = {.data = p->tensors.address + 3 * p->size},
                                   .workspace = p->workspace.address,
                                   .chunks = p->chunks};
    for (; run.chunk < p->chunks; run.chunk++) {
        TRY(gpu_begin(&p->gpu, &p->attention[run.chunk]));
        run.queue = p->attention[run.chunk];
        TRY(draft_run(p->plan, &run));
        TRY(vkEndCommandBuffer(p->attention[run.chunk]));
    }
    return 0;
}

/* After: out goes to memory that the host reads. */
static int record_after(struct program *p)
{
    VkBufferCopy output = {3 * p->size, 0, p->size};
    TRY(gpu_begin(&p->gpu, &p->after));
    barrier(p->after, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_ACCESS_SHADER_WRITE_BIT,
            VK_PIPELINE_STAGE_TRANSFER_BIT, VK_ACCESS_TRANSFER_READ_BIT);
    vkCmdCopyBuffer(p->after, p->tensors.buffer, p->download.buffer, 1, &output);
    barrier(p->after, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_ACCESS_TRANSFER_WRITE_BIT,
            VK_PIPELINE_STAGE_HOST_BIT, VK_ACCESS_HOST_READ_BIT);
    TRY(vkEndCommandBuffer(p->after));
    return 0;
}

/* Each submission waits for the one before, and counts the timeline on. */
static int submit(struct program *p, VkCommandBuffer commands)
{
    uint64_t last = p->submitted, next = last + 1;
    VkPipelineStageFlags everything = VK_PIPELINE_STAGE_ALL_COMMANDS_BIT;
    VkTimelineSemaphoreSubmitInfo values = {
        .sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
        .waitSemaphoreValueCount = 1,
        .pWaitSemaphoreValues = &last,
        .signalSemaphoreValueCount = 1,
        .pSignalSemaphoreValues = &next,
    };
    VkSubmitInfo info = {
        .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
        .pNext = &values,
        .waitSemaphoreCount = 1,
        .pWaitSemaphores = &p->timeline,
        .pWaitDstStageMask = &everything,
        .commandBufferCount = 1,
        .pCommandBuffers = &commands,
        .signalSemaphoreCount = 1,
        .pSignalSemaphores = &p->timeline,
    };
    TRY(vkQueueSubmit(p->gpu.queue, 1, &info, VK_NULL_HANDLE));
    p->submitted = next;
    return 0;
}

/* ---- Frames ---------------------------------------------------------------------------------- */

/* Small random halves of both signs for q and k; every row of v is `level`, so that every row of
 * out is, whatever the weights are. */
static void set_inputs(struct program *p, unsigned seed, uint16_t level)
{
    uint16_t *inputs = p->upload.map;
    srand(seed + 1);
    for (size_t i = 0; i < 2 * p->count; i++)
        inputs[i] = (uint16_t)((rand() & 1) << 15 | (0x3400 + rand() % 0x800)); /* .25 to 1 */
    for (size_t i = 2 * p->count; i < 3 * p->count; i++)
        inputs[i] = level;
}

static int render(struct program *p, unsigned frame)
{
    uint16_t level = frame % 2 ? 0x4000 : 0x3c00; /* 2 and 1 */
    set_inputs(p, frame, level);
    TRY(submit(p, p->before));
    for (uint32_t c = 0; c < p->chunks; c++)
        TRY(submit(p, p->attention[c]));
    TRY(submit(p, p->after));
    VkSemaphoreWaitInfo wait = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
                                .semaphoreCount = 1,
                                .pSemaphores = &p->timeline,
                                .pValues = &p->submitted};
    TRY(vkWaitSemaphores(p->gpu.device, &wait, UINT64_MAX));
    const uint16_t *out = p->download.map;
    size_t wrong = 0;
    for (size_t i = 0; i < p->count; i++) /* rounding may move the last bit */
        wrong += out[i] < level - 1 || out[i] > level + 1;
    printf("frame %u: attention by %s in %u parts, %zu of %zu numbers are wrong\n", frame,
           draft_plan_kernel(p->plan, DRAFT_ATTEND), p->chunks, wrong, p->count);
    return wrong > 0;
}

static int work(struct program *p)
{
    TRY(gpu_make_device(&p->gpu));
    TRY(make_timeline(p));
    TRY(open_library(p));
    TRY(record_before(p));
    TRY(record_attention(p));
    TRY(record_after(p));
    for (unsigned frame = 0; frame < FRAMES; frame++)
        TRY(render(p, frame));
    return 0;
}

/* In reverse order. The device outlives what the library made on it. */
static void clean_up(struct program *p)
{
    struct memory *memories[] = {&p->upload, &p->tensors, &p->workspace, &p->download};
    if (p->gpu.device) {
        vkDeviceWaitIdle(p->gpu.device);
        for (size_t i = 0; i < sizeof memories / sizeof *memories; i++)
            gpu_free(&p->gpu, memories[i]);
        draft_plan_destroy(&p->plan);
        draft_context_destroy(&p->draft);
        vkDestroySemaphore(p->gpu.device, p->timeline, NULL);
    }
    gpu_close(&p->gpu);
}

int main(void)
{
    struct program program = {0};
    const char *reason = find_device(&program);
    if (reason)
        printf("skipped: %s\n", reason);
    int status = reason ? SKIPPED : work(&program);
    clean_up(&program);
    return status;
}
