/* SPDX-License-Identifier: MIT
 *
 * One piece of memory, two APIs: it is allocated by Vulkan, exported as a file descriptor, imported
 * by CUDA. The CUDA backend fills it and attends to it by one address; the Vulkan backend, on the
 * program's own device, attends to the same by another. Both are the same GPU, known by its UUID.
 *
 * The two sides take turns, and the host waits between them. Vulkan's side takes the buffer over
 * from CUDA and hands it back (VK_QUEUE_FAMILY_EXTERNAL), before and after the library's commands.
 *
 * Ends with status 77 where no GPU is known to both. */
#include <cuda.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "driver.h"
#include "vulkan_setup.h"

enum { HEADS = 2, DIM = 64, TENSORS = 5 };

/* ---- CUDA's functions ------------------------------------------------------------------------ */

#define CUDA_FUNCTIONS(X)                                                                          \
    X(cuInit)                                                                                      \
    X(cuDeviceGetCount)                                                                            \
    X(cuDeviceGet)                                                                                 \
    X(cuDeviceGetUuid)                                                                             \
    X(cuDevicePrimaryCtxRetain)                                                                    \
    X(cuCtxPushCurrent)                                                                            \
    X(cuCtxPopCurrent)                                                                             \
    X(cuImportExternalMemory)                                                                      \
    X(cuExternalMemoryGetMappedBuffer)                                                             \
    X(cuDestroyExternalMemory)                                                                     \
    X(cuMemFree)

/* cuda.h renames functions to the versions that it declares. */
#define NAME(name)     NAME_OF(name)
#define NAME_OF(named) #named

static struct {
#define X(name) __typeof__(name) *name;
    CUDA_FUNCTIONS(X)
#undef X
    CUresult(CUDAAPI *release)(CUdevice);
} cuda;

static void *find(void *library, const char *name, int *missing)
{
    void *symbol = library ? driver_symbol(library, name) : NULL;
    *missing += !symbol;
    return symbol;
}

static int open_cuda(void)
{
    void *library = driver_open("libcuda.so.1", "nvcuda.dll"), *symbol;
    int missing = 0, count = 0;
#define X(name)                                                                                    \
    symbol = find(library, NAME(name), &missing);                                                  \
    memcpy(&cuda.name, &symbol, sizeof symbol);
    CUDA_FUNCTIONS(X)
#undef X
    symbol = find(library, NAME(cuDevicePrimaryCtxRelease), &missing);
    memcpy(&cuda.release, &symbol, sizeof symbol);
    return !missing && !cuda.cuInit(0) && !cuda.cuDeviceGetCount(&count) && count > 0;
}

/* ---- One GPU --------------------------------------------------------------------------------- */

struct program {
    CUdevice number;
    CUcontext primary;
    CUexternalMemory imported;
    CUdeviceptr pointer; /* CUDA's address of the memory */
    struct gpu gpu;
    struct memory memory; /* Vulkan's, as one buffer */
    draft_context *on_cuda, *on_vulkan;
    draft_plan *cuda_plan, *vulkan_plan;
    draft_address cuda_workspace, vulkan_workspace;
    size_t count, size; /* elements and bytes of one tensor: q, k, v, and an out for each side */
};

static int find_cuda(struct program *p, const uint8_t *uuid)
{
    int count = 0;
    CUuuid own;
    cuda.cuDeviceGetCount(&count);
    for (int i = 0; i < count; i++)
        if (!cuda.cuDeviceGet(&p->number, i) && !cuda.cuDeviceGetUuid(&own, p->number) &&
            memcmp(own.bytes, uuid, sizeof own.bytes) == 0)
            return 1;
    return 0;
}

/* The first GPU that both drivers know and the library takes; *index: its number for CUDA. */
static int find_gpu(struct program *p, uint32_t *index)
{
    struct draft_device_info infos[MOST_DEVICES];
    VkPhysicalDevice devices[MOST_DEVICES];
    uint32_t count = MOST_DEVICES;
    size_t listed = MOST_DEVICES;
    if (draft_devices(NULL, infos, &listed) ||
        vkEnumeratePhysicalDevices(p->gpu.instance, &count, devices) < 0)
        return 0;
    for (uint32_t d = 0; d < count; d++) {
        VkPhysicalDeviceIDProperties id = {.sType =
                                               VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES};
        VkPhysicalDeviceProperties2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                           .pNext = &id};
        vkGetPhysicalDeviceProperties2(devices[d], &all);
        for (size_t i = 0; i < listed && i < MOST_DEVICES; i++)
            if (strcmp(infos[i].backend, "cuda") == 0 &&
                memcmp(infos[i].uuid, id.deviceUUID, VK_UUID_SIZE) == 0 &&
                find_cuda(p, infos[i].uuid)) {
                p->gpu.physical = devices[d];
                *index = infos[i].index;
                return 1;
            }
    }
    return 0;
}

/* With what the library asks for, and what this program wants of it. */
static int make_device(struct gpu *gpu)
{
    struct draft_vulkan_native native = gpu_native(gpu);
    gpu->features.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES;
    gpu->extension_count = MOST_EXTENSIONS - 1;
    TRY(draft_vulkan_requirements(NULL, &native, &gpu->features, gpu->extensions,
                                  &gpu->extension_count));
    TRY(gpu->extension_count > MOST_EXTENSIONS - 1);
    gpu->extensions[gpu->extension_count++] = VK_KHR_EXTERNAL_MEMORY_FD_EXTENSION_NAME;
    TRY(gpu_make_device(gpu));
    return 0;
}

/* ---- One piece of memory --------------------------------------------------------------------- */

/* With the primary context current. The descriptor is CUDA's once the import has worked. */
static int import_memory(struct program *p, int descriptor)
{
    CUDA_EXTERNAL_MEMORY_HANDLE_DESC handle = {.type = CU_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD,
                                               .handle.fd = descriptor,
                                               .size = p->memory.size};
    CUDA_EXTERNAL_MEMORY_BUFFER_DESC range = {.size = TENSORS * p->size};
    CUresult result = cuda.cuImportExternalMemory(&p->imported, &handle);
    if (result) {
        p->imported = NULL;
        close(descriptor);
    }
    TRY(result);
    TRY(cuda.cuExternalMemoryGetMappedBuffer(&p->pointer, p->imported, &range));
    return 0;
}

static int share_memory(struct program *p)
{
    VkMemoryGetFdInfoKHR info = {.sType = VK_STRUCTURE_TYPE_MEMORY_GET_FD_INFO_KHR,
                                 .memory = p->memory.memory,
                                 .handleType = VK_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD_BIT};
    PFN_vkGetMemoryFdKHR get_descriptor =
        (PFN_vkGetMemoryFdKHR)vkGetDeviceProcAddr(p->gpu.device, "vkGetMemoryFdKHR");
    int descriptor;
    CUcontext popped;
    TRY(!get_descriptor);
    TRY(get_descriptor(p->gpu.device, &info, &descriptor));
    TRY(cuda.cuDevicePrimaryCtxRetain(&p->primary, p->number));
    TRY(cuda.cuCtxPushCurrent(p->primary));
    int failed = import_memory(p, descriptor);
    cuda.cuCtxPopCurrent(&popped);
    return failed;
}

/* ---- Two contexts of the library ------------------------------------------------------------- */

static int open_library(struct program *p, uint32_t index)
{
    struct draft_log log = stderr_log();
    struct draft_vulkan_native native = gpu_native(&p->gpu);
    struct draft_context_params first = {.backend = "cuda", .device = index, .log = log};
    struct draft_context_params second = {.backend = "vulkan", .native = &native, .log = log};
    /* Dense: where a list is cut depends on the last bit, and two backends may differ there. */
    struct draft_plan_params params = {
        .shape = {.frames = 2, .height = 16, .width = 24, .suffix = 20, .heads = HEADS, .dim = DIM},
        .type = DRAFT_BF16};
    struct draft_layout layout;
    TRY(draft_context_create(&first, &p->on_cuda));
    TRY(draft_context_create(&second, &p->on_vulkan));
    TRY(draft_plan_create(p->on_cuda, &params, &p->cuda_plan));
    TRY(draft_plan_create(p->on_vulkan, &params, &p->vulkan_plan));
    draft_plan_layout(p->cuda_plan, &layout);
    p->count = layout.tokens * HEADS * DIM;
    p->size = p->count * sizeof(uint16_t);
    TRY(draft_alloc(p->on_cuda, layout.size, &p->cuda_workspace));
    draft_plan_layout(p->vulkan_plan, &layout);
    TRY(draft_alloc(p->on_vulkan, layout.size, &p->vulkan_workspace));
    return 0;
}

/* q, k, v at `base`, and the out of this side. */
static struct draft_run_params run_of(const struct program *p, draft_address base, int out)
{
    return (struct draft_run_params){
        .q = {.data = base},
        .k = {.data = base + p->size},
        .v = {.data = base + 2 * p->size},
        .out = {.data = base + (3 + (uint64_t)out) * p->size},
    };
}

static int run_cuda(struct program *p)
{
    struct draft_run_params run = run_of(p, p->pointer, 0);
    run.workspace = p->cuda_workspace;
    TRY(draft_run(p->cuda_plan, &run));
    TRY(draft_wait(p->on_cuda));
    return 0;
}

/* The whole buffer from CUDA to this queue family, or back. */
static void hand_over(const struct program *p, VkCommandBuffer commands, int to_vulkan)
{
    const VkPipelineStageFlags compute = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT;
    VkBufferMemoryBarrier barrier = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_MEMORY_BARRIER,
        .srcAccessMask = to_vulkan ? 0 : VK_ACCESS_SHADER_WRITE_BIT,
        .dstAccessMask = to_vulkan ? VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT : 0,
        .srcQueueFamilyIndex = to_vulkan ? VK_QUEUE_FAMILY_EXTERNAL : p->gpu.family,
        .dstQueueFamilyIndex = to_vulkan ? p->gpu.family : VK_QUEUE_FAMILY_EXTERNAL,
        .buffer = p->memory.buffer,
        .size = VK_WHOLE_SIZE,
    };
    vkCmdPipelineBarrier(commands, to_vulkan ? VK_PIPELINE_STAGE_TOP_OF_PIPE_BIT : compute,
                         to_vulkan ? compute : VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, 0, 0, NULL, 1,
                         &barrier, 0, NULL);
}

static int run_vulkan(struct program *p)
{
    VkCommandBuffer commands;
    struct draft_run_params run = run_of(p, p->memory.address, 1);
    TRY(gpu_begin(&p->gpu, &commands));
    hand_over(p, commands, 1);
    run.workspace = p->vulkan_workspace;
    run.queue = commands;
    TRY(draft_run(p->vulkan_plan, &run));
    hand_over(p, commands, 0);
    TRY(vkEndCommandBuffer(commands));
    VkSubmitInfo info = {.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
                         .commandBufferCount = 1,
                         .pCommandBuffers = &commands};
    TRY(vkQueueSubmit(p->gpu.queue, 1, &info, VK_NULL_HANDLE));
    TRY(vkDeviceWaitIdle(p->gpu.device));
    return 0;
}

/* ---- Numbers --------------------------------------------------------------------------------- */

static float to_float(uint16_t half) /* bf16 is the upper half of f32 */
{
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static int compare(struct program *p, uint16_t *tensors)
{
    double most = 0, largest = 0;
    for (size_t i = 0; i < 3 * p->count; i++) {
        float value = (float)(4.0 * rand() / RAND_MAX - 2);
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        tensors[i] = (uint16_t)(bits >> 16);
    }
    memset(tensors + 3 * p->count, 0xff, 2 * p->size);
    TRY(draft_write(p->on_cuda, p->pointer, tensors, TENSORS * p->size));
    TRY(run_cuda(p));
    TRY(run_vulkan(p));
    TRY(draft_read(p->on_cuda, tensors, p->pointer, TENSORS * p->size));
    for (size_t i = 0; i < p->count; i++) {
        double a = to_float(tensors[3 * p->count + i]), b = to_float(tensors[4 * p->count + i]);
        TRY(!isfinite(a) || !isfinite(b));
        most = fmax(most, fabs(a - b));
        largest = fmax(largest, fabs(a));
    }
    printf("largest number %g, largest difference between CUDA and Vulkan %g\n", largest, most);
    return !(largest > 0 && most <= largest / 32); /* a few roundings of 2^-8 of the largest */
}

static int work(struct program *p, uint32_t index)
{
    TRY(make_device(&p->gpu));
    TRY(open_library(p, index));
    TRY(gpu_allocate(&p->gpu, TENSORS * p->size, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT,
                     VK_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD_BIT, &p->memory));
    TRY(share_memory(p));
    uint16_t *tensors = malloc(TENSORS * p->size);
    TRY(!tensors);
    int status = compare(p, tensors);
    free(tensors);
    return status;
}

/* In reverse order: CUDA's mapping goes before Vulkan's memory. */
static void clean_up(struct program *p)
{
    CUcontext popped;
    if (p->primary && !cuda.cuCtxPushCurrent(p->primary)) {
        if (p->pointer)
            cuda.cuMemFree(p->pointer);
        if (p->imported)
            cuda.cuDestroyExternalMemory(p->imported);
        cuda.cuCtxPopCurrent(&popped);
    }
    draft_free(p->on_cuda, p->cuda_workspace);
    draft_free(p->on_vulkan, p->vulkan_workspace);
    draft_plan_destroy(&p->cuda_plan);
    draft_plan_destroy(&p->vulkan_plan);
    draft_context_destroy(&p->on_cuda);
    draft_context_destroy(&p->on_vulkan);
    if (p->primary)
        cuda.release(p->number);
    if (p->gpu.device)
        gpu_free(&p->gpu, &p->memory);
    gpu_close(&p->gpu);
}

int main(void)
{
    struct program program = {0};
    uint32_t index = 0;
    const char *reason = open_cuda() ? gpu_open(&program.gpu) : "there is no CUDA driver";
    if (!reason && !find_gpu(&program, &index))
        reason = "no GPU is known to both";
    if (reason)
        printf("skipped: %s\n", reason);
    int status = reason ? SKIPPED : work(&program, index);
    clean_up(&program);
    return status;
}
