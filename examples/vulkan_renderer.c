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
 * With volk.h the functions come from there; without it the program looks them up itself. Ends with
 * status 77 where there is no Vulkan device that the library can use. */
#ifdef HAVE_VOLK
#define VOLK_IMPLEMENTATION
#include <volk.h>
#else
#define VK_NO_PROTOTYPES
#include <dlfcn.h>
#include <vulkan/vulkan_core.h>
#endif
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <draft/vulkan.h>

enum { HEADS = 2, DIM = 64, FRAMES = 2, MOST_CHUNKS = 8, MOST_DEVICES = 8, SKIPPED = 77 };
enum { MOST_EXTENSIONS = 32 };

/* Ends with a message where a call of Vulkan or of the library fails. */
#define TRY(call)                                                                                  \
    do {                                                                                           \
        int result_ = (int)(call);                                                                 \
        if (result_) {                                                                             \
            fprintf(stderr, "line %d: %s: %d\n", __LINE__, #call, result_);                        \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)

/* ---- Vulkan's functions ---------------------------------------------------------------------- */

#ifdef HAVE_VOLK
static bool open_loader(void)
{
    return volkInitialize() == VK_SUCCESS;
}

static bool load_functions(VkInstance instance)
{
    volkLoadInstance(instance);
    return true;
}
#else
#define FUNCTIONS(X)                                                                               \
    X(vkDestroyInstance)                                                                           \
    X(vkEnumeratePhysicalDevices)                                                                  \
    X(vkGetPhysicalDeviceQueueFamilyProperties)                                                    \
    X(vkGetPhysicalDeviceMemoryProperties)                                                         \
    X(vkCreateDevice)                                                                              \
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
#define X(name) static PFN_##name name;
FUNCTIONS(X)
X(vkGetInstanceProcAddr)
X(vkCreateInstance)
#undef X

static bool open_loader(void)
{
    void *library = dlopen("libvulkan.so.1", RTLD_NOW | RTLD_LOCAL);
    void *symbol = library ? dlsym(library, "vkGetInstanceProcAddr") : NULL;
    if (!symbol)
        return false;
    memcpy(&vkGetInstanceProcAddr, &symbol, sizeof symbol);
    vkCreateInstance = (PFN_vkCreateInstance)vkGetInstanceProcAddr(NULL, "vkCreateInstance");
    return vkCreateInstance != NULL;
}

static bool load_functions(VkInstance instance)
{
    bool all = true;
#define X(name) all = (name = (PFN_##name)vkGetInstanceProcAddr(instance, #name)) && all;
    FUNCTIONS(X)
#undef X
    return all;
}
#endif

/* ---- The program's own things ---------------------------------------------------------------- */

struct memory {
    VkBuffer buffer;
    VkDeviceMemory memory;
    void *map; /* NULL where the host cannot see it */
    draft_address address;
};

struct program {
    VkInstance instance;
    VkPhysicalDevice physical;
    VkDevice device;
    uint32_t family;
    VkQueue queue;
    VkPhysicalDeviceVulkan12Features features; /* the first of the chain */
    VkPhysicalDeviceVulkan11Features features11;
#ifdef VK_KHR_cooperative_matrix
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR matrix;
#endif
    const char *extensions[MOST_EXTENSIONS];
    uint32_t extension_count;
    VkSemaphore timeline; /* a value for each submission */
    uint64_t submitted;
    VkCommandPool pool;
    VkCommandBuffer before, attention[MOST_CHUNKS], after;
    uint32_t chunks;
    struct memory upload, tensors, workspace, download; /* tensors: q, k, v and out */
    draft_context *draft;
    draft_plan *plan;
    size_t count, size; /* elements and bytes of one tensor */
};

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

/* Places for the features that kernels use: the more there are, the faster the kernels. Only a device
 * that has an extension may be asked for its features. */
static void chain_features(struct program *p)
{
    p->features = (VkPhysicalDeviceVulkan12Features){
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
        .pNext = &p->features11,
        .timelineSemaphore = VK_TRUE, /* what the renderer wants for itself */
    };
    p->features11 = (VkPhysicalDeviceVulkan11Features){
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES};
#ifdef VK_KHR_cooperative_matrix
    p->matrix = (VkPhysicalDeviceCooperativeMatrixFeaturesKHR){
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR};
    for (uint32_t i = 0; i < p->extension_count; i++)
        if (strcmp(p->extensions[i], VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME) == 0)
            p->features11.pNext = &p->matrix;
#endif
}

/* Does the library take p->physical? Then features and extensions are what to enable on it. */
static bool takes_device(struct program *p)
{
    struct draft_vulkan_native native = native_of(p);
    p->extension_count = MOST_EXTENSIONS; /* all that might be of use */
    if (draft_vulkan_requirements(NULL, &native, NULL, p->extensions, &p->extension_count) !=
            DRAFT_OK ||
        p->extension_count > MOST_EXTENSIONS)
        return false;
    chain_features(p);
    p->extension_count = MOST_EXTENSIONS; /* those of what the chain has a place for */
    return draft_vulkan_requirements(NULL, &native, &p->features, p->extensions,
                                     &p->extension_count) == DRAFT_OK;
}

/* NULL, or why there is nothing to run on. */
static const char *find_device(struct program *p)
{
    VkApplicationInfo application = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                                     .pApplicationName = "renderer",
                                     .apiVersion = VK_API_VERSION_1_2};
    VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
                                 .pApplicationInfo = &application};
    VkPhysicalDevice devices[MOST_DEVICES];
    uint32_t count = MOST_DEVICES;
    if (!open_loader())
        return "there is no Vulkan loader";
    if (vkCreateInstance(&info, NULL, &p->instance))
        return "there is no Vulkan driver";
    if (!load_functions(p->instance))
        return "the Vulkan loader is too old";
    if (vkEnumeratePhysicalDevices(p->instance, &count, devices) < 0)
        return "the devices cannot be listed";
    for (uint32_t i = 0; i < count; i++) { /* the first that the library takes */
        p->physical = devices[i];
        if (takes_device(p))
            return NULL;
    }
    return "no Vulkan device fits the library";
}

static int make_device(struct program *p)
{
    VkQueueFamilyProperties families[16];
    uint32_t count = 16;
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
    TRY(vkCreateDevice(p->physical, &info, NULL, &p->device));
    vkGetDeviceQueue(p->device, p->family, 0, &p->queue);
    VkSemaphoreTypeCreateInfo type = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
                                      .semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE};
    VkSemaphoreCreateInfo semaphore = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO,
                                       .pNext = &type};
    TRY(vkCreateSemaphore(p->device, &semaphore, NULL, &p->timeline));
    return 0;
}

/* visible: coherent memory that the host maps; else memory of the device. */
static int make_memory(struct program *p, size_t size, bool visible, struct memory *out)
{
    VkBufferCreateInfo buffer = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                                 .size = size,
                                 .usage = VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
                                          VK_BUFFER_USAGE_TRANSFER_DST_BIT |
                                          VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT};
    VkPhysicalDeviceMemoryProperties types;
    VkMemoryRequirements needs;
    VkMemoryPropertyFlags flags =
        visible ? VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT
                : VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT;
    uint32_t type = 0;
    TRY(vkCreateBuffer(p->device, &buffer, NULL, &out->buffer));
    vkGetBufferMemoryRequirements(p->device, out->buffer, &needs);
    vkGetPhysicalDeviceMemoryProperties(p->physical, &types);
    while (type < types.memoryTypeCount &&
           !(needs.memoryTypeBits & 1u << type &&
             (types.memoryTypes[type].propertyFlags & flags) == flags))
        type++;
    TRY(type == types.memoryTypeCount);
    VkMemoryAllocateFlagsInfo with_address = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO,
                                              .flags = VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT};
    VkMemoryAllocateInfo memory = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                   .pNext = &with_address,
                                   .allocationSize = needs.size,
                                   .memoryTypeIndex = type};
    TRY(vkAllocateMemory(p->device, &memory, NULL, &out->memory));
    TRY(vkBindBufferMemory(p->device, out->buffer, out->memory, 0));
    if (visible)
        TRY(vkMapMemory(p->device, out->memory, 0, VK_WHOLE_SIZE, 0, &out->map));
    VkBufferDeviceAddressInfo address = {.sType = VK_STRUCTURE_TYPE_BUFFER_DEVICE_ADDRESS_INFO,
                                         .buffer = out->buffer};
    out->address = vkGetBufferDeviceAddress(p->device, &address);
    return 0;
}

/* ---- The library's side ---------------------------------------------------------------------- */

static void print_log(void *user, draft_log_level level, const char *text)
{
    (void)user;
    (void)level;
    fprintf(stderr, "draft: %s\n", text);
}

static int open_library(struct program *p)
{
    struct draft_vulkan_native native = native_of(p);
    struct draft_context_params adopt = {.backend = "vulkan",
                                         .native = &native,
                                         .log = {.message = print_log, .level = DRAFT_LOG_WARN}};
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
    TRY(make_memory(p, 3 * p->size, true, &p->upload));
    TRY(make_memory(p, p->size, true, &p->download));
    TRY(make_memory(p, 4 * p->size, false, &p->tensors));
    TRY(make_memory(p, layout.size, false, &p->workspace));
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

static int begin(struct program *p, VkCommandBuffer *out)
{
    VkCommandBufferAllocateInfo allocate = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                            .commandPool = p->pool,
                                            .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                            .commandBufferCount = 1};
    VkCommandBufferBeginInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
    TRY(vkAllocateCommandBuffers(p->device, &allocate, out));
    TRY(vkBeginCommandBuffer(*out, &info));
    return 0;
}

/* Before: q, k and v of this frame take the place of the last frame's, and out is cleared. After
 * the barrier attention may read the ones and write the other. */
static int record_before(struct program *p)
{
    VkBufferCopy inputs = {0, 0, 3 * p->size};
    TRY(begin(p, &p->before));
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
        TRY(begin(p, &p->attention[run.chunk]));
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
    TRY(begin(p, &p->after));
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
    TRY(vkQueueSubmit(p->queue, 1, &info, VK_NULL_HANDLE));
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
    TRY(vkWaitSemaphores(p->device, &wait, UINT64_MAX));
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
    TRY(make_device(p));
    TRY(open_library(p));
    VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                    .queueFamilyIndex = p->family};
    TRY(vkCreateCommandPool(p->device, &pool, NULL, &p->pool));
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
    if (p->device) {
        vkDeviceWaitIdle(p->device);
        vkDestroyCommandPool(p->device, p->pool, NULL);
        for (size_t i = 0; i < sizeof memories / sizeof *memories; i++) {
            vkDestroyBuffer(p->device, memories[i]->buffer, NULL);
            vkFreeMemory(p->device, memories[i]->memory, NULL);
        }
        draft_plan_destroy(&p->plan);
        draft_context_destroy(&p->draft);
        vkDestroySemaphore(p->device, p->timeline, NULL);
        vkDestroyDevice(p->device, NULL);
    }
    if (p->instance && vkDestroyInstance)
        vkDestroyInstance(p->instance, NULL);
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
