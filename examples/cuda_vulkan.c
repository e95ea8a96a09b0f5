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
#define VK_NO_PROTOTYPES
#include <cuda.h>
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <vulkan/vulkan_core.h>

#include <draft/vulkan.h>

enum { HEADS = 2, DIM = 64, TENSORS = 5, MOST_DEVICES = 16, MOST_EXTENSIONS = 32, SKIPPED = 77 };

/* Ends with a message where a call fails. */
#define TRY(call)                                                                                  \
    do {                                                                                           \
        int result_ = (int)(call);                                                                 \
        if (result_) {                                                                             \
            fprintf(stderr, "line %d: %s: %d\n", __LINE__, #call, result_);                        \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)

/* ---- The drivers' functions ------------------------------------------------------------------ */

#define VULKAN_FUNCTIONS(X)                                                                        \
    X(vkDestroyInstance)                                                                           \
    X(vkEnumeratePhysicalDevices)                                                                  \
    X(vkGetPhysicalDeviceProperties2)                                                              \
    X(vkGetPhysicalDeviceQueueFamilyProperties)                                                    \
    X(vkGetPhysicalDeviceMemoryProperties)                                                         \
    X(vkCreateDevice)                                                                              \
    X(vkDestroyDevice)                                                                             \
    X(vkDeviceWaitIdle)                                                                            \
    X(vkGetDeviceQueue)                                                                            \
    X(vkQueueSubmit)                                                                               \
    X(vkCreateCommandPool)                                                                         \
    X(vkDestroyCommandPool)                                                                        \
    X(vkAllocateCommandBuffers)                                                                    \
    X(vkBeginCommandBuffer)                                                                        \
    X(vkEndCommandBuffer)                                                                          \
    X(vkCmdPipelineBarrier)                                                                        \
    X(vkCreateBuffer)                                                                              \
    X(vkDestroyBuffer)                                                                             \
    X(vkGetBufferMemoryRequirements)                                                               \
    X(vkGetBufferDeviceAddress)                                                                    \
    X(vkAllocateMemory)                                                                            \
    X(vkFreeMemory)                                                                                \
    X(vkBindBufferMemory)                                                                          \
    X(vkGetMemoryFdKHR)
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

#define X(name) static PFN_##name name;
VULKAN_FUNCTIONS(X)
X(vkGetInstanceProcAddr)
X(vkCreateInstance)
#undef X

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
    void *symbol = library ? dlsym(library, name) : NULL;
    *missing += !symbol;
    return symbol;
}

static int open_cuda(void)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL), *symbol;
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

static int open_vulkan(VkInstance *out)
{
    VkApplicationInfo application = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                                     .apiVersion = VK_API_VERSION_1_2};
    VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
                                 .pApplicationInfo = &application};
    int missing = 0;
    void *library = dlopen("libvulkan.so.1", RTLD_NOW | RTLD_LOCAL);
    void *symbol = find(library, "vkGetInstanceProcAddr", &missing);
    if (missing)
        return 0;
    memcpy(&vkGetInstanceProcAddr, &symbol, sizeof symbol);
    vkCreateInstance = (PFN_vkCreateInstance)vkGetInstanceProcAddr(NULL, "vkCreateInstance");
    if (!vkCreateInstance || vkCreateInstance(&info, NULL, out))
        return 0;
#define X(name)                                                                                    \
    name = (PFN_##name)vkGetInstanceProcAddr(*out, #name);                                         \
    missing += !name;
    VULKAN_FUNCTIONS(X)
#undef X
    return !missing;
}

/* ---- One GPU --------------------------------------------------------------------------------- */

struct program {
    CUdevice gpu;
    CUcontext primary;
    CUexternalMemory imported;
    CUdeviceptr pointer;     /* CUDA's address of the memory, */
    VkDeviceAddress address; /* and Vulkan's */
    VkInstance instance;
    VkPhysicalDevice physical;
    VkDevice device;
    uint32_t family, extension_count;
    const char *extensions[MOST_EXTENSIONS];
    VkPhysicalDeviceVulkan12Features features;
    VkQueue queue;
    VkCommandPool pool;
    VkBuffer buffer;
    VkDeviceMemory memory;
    uint64_t memory_size;
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
        if (!cuda.cuDeviceGet(&p->gpu, i) && !cuda.cuDeviceGetUuid(&own, p->gpu) &&
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
        vkEnumeratePhysicalDevices(p->instance, &count, devices) < 0)
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
                p->physical = devices[d];
                *index = infos[i].index;
                return 1;
            }
    }
    return 0;
}

static struct draft_vulkan_native native_of(const struct program *p)
{
    return (struct draft_vulkan_native){
        .get_instance_proc_addr = vkGetInstanceProcAddr,
        .instance = p->instance,
        .physical_device = p->physical,
        .api_version = VK_API_VERSION_1_2,
        .device = p->device,
        .extensions = p->extensions,
        .extension_count = p->extension_count,
        .features = &p->features,
        .queue_family = p->family,
    };
}

static int make_device(struct program *p)
{
    VkQueueFamilyProperties families[16];
    uint32_t count = 16;
    struct draft_vulkan_native native = native_of(p);
    p->features.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES;
    p->extension_count = MOST_EXTENSIONS - 1;
    TRY(draft_vulkan_requirements(NULL, &native, &p->features, p->extensions, &p->extension_count));
    TRY(p->extension_count > MOST_EXTENSIONS - 1);
    p->extensions[p->extension_count++] = VK_KHR_EXTERNAL_MEMORY_FD_EXTENSION_NAME;
    vkGetPhysicalDeviceQueueFamilyProperties(p->physical, &count, families);
    while (p->family < count && !(families[p->family].queueFlags & VK_QUEUE_COMPUTE_BIT))
        p->family++;
    TRY(p->family == count);
    float priority = 1;
    VkDeviceQueueCreateInfo queue = {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                     .queueFamilyIndex = p->family,
                                     .queueCount = 1,
                                     .pQueuePriorities = &priority};
    VkDeviceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                               .pNext = &p->features,
                               .queueCreateInfoCount = 1,
                               .pQueueCreateInfos = &queue,
                               .enabledExtensionCount = p->extension_count,
                               .ppEnabledExtensionNames = p->extensions};
    VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                    .queueFamilyIndex = p->family};
    TRY(vkCreateDevice(p->physical, &info, NULL, &p->device));
    vkGetDeviceQueue(p->device, p->family, 0, &p->queue);
    TRY(vkCreateCommandPool(p->device, &pool, NULL, &p->pool));
    return 0;
}

/* ---- One piece of memory --------------------------------------------------------------------- */

/* Memory of the GPU that can be exported. */
static int make_memory(struct program *p, size_t size)
{
    const VkExternalMemoryHandleTypeFlags kind = VK_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD_BIT;
    VkExternalMemoryBufferCreateInfo external = {
        .sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO, .handleTypes = kind};
    VkBufferCreateInfo buffer = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                                 .pNext = &external,
                                 .size = size,
                                 .usage = VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT |
                                          VK_BUFFER_USAGE_STORAGE_BUFFER_BIT};
    VkPhysicalDeviceMemoryProperties types;
    VkMemoryRequirements needs;
    uint32_t type = 0;
    TRY(vkCreateBuffer(p->device, &buffer, NULL, &p->buffer));
    vkGetBufferMemoryRequirements(p->device, p->buffer, &needs);
    vkGetPhysicalDeviceMemoryProperties(p->physical, &types);
    while (type < types.memoryTypeCount &&
           !(needs.memoryTypeBits & 1u << type &&
             types.memoryTypes[type].propertyFlags & VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT))
        type++;
    TRY(type == types.memoryTypeCount);
    VkExportMemoryAllocateInfo exported = {.sType = VK_STRUCTURE_TYPE_EXPORT_MEMORY_ALLOCATE_INFO,
                                           .handleTypes = kind};
    VkMemoryAllocateFlagsInfo flags = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO,
                                       .pNext = &exported,
                                       .flags = VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT};
    VkMemoryAllocateInfo memory = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                   .pNext = &flags,
                                   .allocationSize = needs.size,
                                   .memoryTypeIndex = type};
    TRY(vkAllocateMemory(p->device, &memory, NULL, &p->memory));
    TRY(vkBindBufferMemory(p->device, p->buffer, p->memory, 0));
    VkBufferDeviceAddressInfo address = {.sType = VK_STRUCTURE_TYPE_BUFFER_DEVICE_ADDRESS_INFO,
                                         .buffer = p->buffer};
    p->address = vkGetBufferDeviceAddress(p->device, &address);
    p->memory_size = needs.size;
    return 0;
}

/* With the primary context current. The descriptor is CUDA's once the import has worked. */
static int import_memory(struct program *p, int descriptor)
{
    CUDA_EXTERNAL_MEMORY_HANDLE_DESC handle = {.type = CU_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD,
                                               .handle.fd = descriptor,
                                               .size = p->memory_size};
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
                                 .memory = p->memory,
                                 .handleType = VK_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD_BIT};
    int descriptor;
    CUcontext popped;
    TRY(vkGetMemoryFdKHR(p->device, &info, &descriptor));
    TRY(cuda.cuDevicePrimaryCtxRetain(&p->primary, p->gpu));
    TRY(cuda.cuCtxPushCurrent(p->primary));
    int failed = import_memory(p, descriptor);
    cuda.cuCtxPopCurrent(&popped);
    return failed;
}

/* ---- Two contexts of the library ------------------------------------------------------------- */

static void print_log(void *user, draft_log_level level, const char *text)
{
    (void)user;
    (void)level;
    fprintf(stderr, "draft: %s\n", text);
}

static int open_library(struct program *p, uint32_t index)
{
    struct draft_log log = {.message = print_log, .level = DRAFT_LOG_WARN};
    struct draft_vulkan_native native = native_of(p);
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
        .srcQueueFamilyIndex = to_vulkan ? VK_QUEUE_FAMILY_EXTERNAL : p->family,
        .dstQueueFamilyIndex = to_vulkan ? p->family : VK_QUEUE_FAMILY_EXTERNAL,
        .buffer = p->buffer,
        .size = VK_WHOLE_SIZE,
    };
    vkCmdPipelineBarrier(commands, to_vulkan ? VK_PIPELINE_STAGE_TOP_OF_PIPE_BIT : compute,
                         to_vulkan ? compute : VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, 0, 0, NULL, 1,
                         &barrier, 0, NULL);
}

static int run_vulkan(struct program *p)
{
    VkCommandBufferAllocateInfo allocate = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                            .commandPool = p->pool,
                                            .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                            .commandBufferCount = 1};
    VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
    VkCommandBuffer commands;
    struct draft_run_params run = run_of(p, p->address, 1);
    TRY(vkAllocateCommandBuffers(p->device, &allocate, &commands));
    TRY(vkBeginCommandBuffer(commands, &begin));
    hand_over(p, commands, 1);
    run.workspace = p->vulkan_workspace;
    run.queue = commands;
    TRY(draft_run(p->vulkan_plan, &run));
    hand_over(p, commands, 0);
    TRY(vkEndCommandBuffer(commands));
    VkSubmitInfo info = {.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
                         .commandBufferCount = 1,
                         .pCommandBuffers = &commands};
    TRY(vkQueueSubmit(p->queue, 1, &info, VK_NULL_HANDLE));
    TRY(vkDeviceWaitIdle(p->device));
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
    TRY(make_device(p));
    TRY(open_library(p, index));
    TRY(make_memory(p, TENSORS * p->size));
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
        cuda.release(p->gpu);
    if (p->device) {
        vkDestroyBuffer(p->device, p->buffer, NULL);
        vkFreeMemory(p->device, p->memory, NULL);
        vkDestroyCommandPool(p->device, p->pool, NULL);
        vkDestroyDevice(p->device, NULL);
    }
    if (p->instance && vkDestroyInstance)
        vkDestroyInstance(p->instance, NULL);
}

int main(void)
{
    struct program program = {0};
    uint32_t index = 0;
    const char *reason = !open_cuda()                      ? "there is no CUDA driver"
                         : !open_vulkan(&program.instance) ? "there is no Vulkan driver"
                         : !find_gpu(&program, &index)     ? "no GPU is known to both"
                                                           : NULL;
    if (reason)
        printf("skipped: %s\n", reason);
    int status = reason ? SKIPPED : work(&program, index);
    clean_up(&program);
    return status;
}
