/* SPDX-License-Identifier: MIT */
#ifdef HAVE_VOLK
#define VOLK_IMPLEMENTATION
#endif
#include "vulkan_setup.h"

#include <stdbool.h>
#include <string.h>

#include "driver.h"

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
#define X(name) PFN_##name name;
VULKAN_FUNCTIONS(X)
X(vkGetInstanceProcAddr)
X(vkCreateInstance)
#undef X

static bool open_loader(void)
{
    void *library = driver_open("libvulkan.so.1", "vulkan-1.dll");
    void *symbol = library ? driver_symbol(library, "vkGetInstanceProcAddr") : NULL;
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
    VULKAN_FUNCTIONS(X)
#undef X
    return all;
}
#endif

/* ---- Instance and device --------------------------------------------------------------------- */

const char *gpu_open(struct gpu *gpu)
{
    VkApplicationInfo application = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                                     .pApplicationName = "example",
                                     .apiVersion = VK_API_VERSION_1_2};
    VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
                                 .pApplicationInfo = &application};
    if (!open_loader())
        return "there is no Vulkan loader";
    if (vkCreateInstance(&info, NULL, &gpu->instance))
        return "there is no Vulkan driver";
    if (!load_functions(gpu->instance))
        return "the Vulkan loader is too old";
    return NULL;
}

int gpu_make_device(struct gpu *gpu)
{
    VkQueueFamilyProperties families[16];
    uint32_t count = 16;
    vkGetPhysicalDeviceQueueFamilyProperties(gpu->physical, &count, families);
    while (gpu->family < count && !(families[gpu->family].queueFlags & VK_QUEUE_COMPUTE_BIT))
        gpu->family++;
    TRY(gpu->family == count);
    float priority = 1;
    VkDeviceQueueCreateInfo queue = {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                     .queueFamilyIndex = gpu->family,
                                     .queueCount = 1,
                                     .pQueuePriorities = &priority};
    VkDeviceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                               .pNext = &gpu->features,
                               .queueCreateInfoCount = 1,
                               .pQueueCreateInfos = &queue,
                               .enabledExtensionCount = gpu->extension_count,
                               .ppEnabledExtensionNames = gpu->extensions};
    VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                    .queueFamilyIndex = gpu->family};
    TRY(vkCreateDevice(gpu->physical, &info, NULL, &gpu->device));
#ifdef HAVE_VOLK
    volkLoadDevice(gpu->device);
#endif
    vkGetDeviceQueue(gpu->device, gpu->family, 0, &gpu->queue);
    TRY(vkCreateCommandPool(gpu->device, &pool, NULL, &gpu->pool));
    return 0;
}

void gpu_close(struct gpu *gpu)
{
    if (gpu->device) {
        vkDestroyCommandPool(gpu->device, gpu->pool, NULL);
        vkDestroyDevice(gpu->device, NULL);
    }
    if (gpu->instance && vkDestroyInstance)
        vkDestroyInstance(gpu->instance, NULL);
}

struct draft_vulkan_native gpu_native(const struct gpu *gpu)
{
    return (struct draft_vulkan_native){
        .get_instance_proc_addr = vkGetInstanceProcAddr,
        .instance = gpu->instance,
        .physical_device = gpu->physical,
        .api_version = VK_API_VERSION_1_2,
        .device = gpu->device,
        .extensions = gpu->extensions,
        .extension_count = gpu->extension_count,
        .features = &gpu->features,
        .queue_family = gpu->family,
    };
}

/* ---- Memory and commands --------------------------------------------------------------------- */

static int make_buffer(const struct gpu *gpu, VkExternalMemoryHandleTypeFlags exported,
                       struct memory *memory)
{
    VkExternalMemoryBufferCreateInfo external = {
        .sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO, .handleTypes = exported};
    VkBufferCreateInfo buffer = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
        .pNext = exported ? &external : NULL,
        .size = memory->size,
        .usage = VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT |
                 VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT};
    TRY(vkCreateBuffer(gpu->device, &buffer, NULL, &memory->buffer));
    return 0;
}

int gpu_allocate(const struct gpu *gpu, uint64_t size, VkMemoryPropertyFlags flags,
                 VkExternalMemoryHandleTypeFlags exported, struct memory *out)
{
    VkPhysicalDeviceMemoryProperties types;
    VkMemoryRequirements needs;
    uint32_t type = 0;
    out->size = size;
    TRY(make_buffer(gpu, exported, out));
    vkGetBufferMemoryRequirements(gpu->device, out->buffer, &needs);
    vkGetPhysicalDeviceMemoryProperties(gpu->physical, &types);
    while (type < types.memoryTypeCount &&
           !(needs.memoryTypeBits & 1u << type &&
             (types.memoryTypes[type].propertyFlags & flags) == flags))
        type++;
    TRY(type == types.memoryTypeCount);
    VkExportMemoryAllocateInfo leaves = {.sType = VK_STRUCTURE_TYPE_EXPORT_MEMORY_ALLOCATE_INFO,
                                         .handleTypes = exported};
    VkMemoryAllocateFlagsInfo with_address = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO,
                                              .pNext = exported ? &leaves : NULL,
                                              .flags = VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT};
    VkMemoryAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                 .pNext = &with_address,
                                 .allocationSize = needs.size,
                                 .memoryTypeIndex = type};
    TRY(vkAllocateMemory(gpu->device, &info, NULL, &out->memory));
    TRY(vkBindBufferMemory(gpu->device, out->buffer, out->memory, 0));
    if (flags & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT)
        TRY(vkMapMemory(gpu->device, out->memory, 0, VK_WHOLE_SIZE, 0, &out->map));
    VkBufferDeviceAddressInfo address = {.sType = VK_STRUCTURE_TYPE_BUFFER_DEVICE_ADDRESS_INFO,
                                         .buffer = out->buffer};
    out->address = vkGetBufferDeviceAddress(gpu->device, &address);
    out->size = needs.size;
    return 0;
}

void gpu_free(const struct gpu *gpu, struct memory *memory)
{
    vkDestroyBuffer(gpu->device, memory->buffer, NULL);
    vkFreeMemory(gpu->device, memory->memory, NULL);
}

int gpu_begin(const struct gpu *gpu, VkCommandBuffer *out)
{
    VkCommandBufferAllocateInfo allocate = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                            .commandPool = gpu->pool,
                                            .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                            .commandBufferCount = 1};
    VkCommandBufferBeginInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
    TRY(vkAllocateCommandBuffers(gpu->device, &allocate, out));
    TRY(vkBeginCommandBuffer(*out, &info));
    return 0;
}

/* ---- Log ------------------------------------------------------------------------------------- */

static void print_log(void *user, draft_log_level level, const char *text)
{
    (void)user;
    (void)level;
    fprintf(stderr, "draft: %s\n", text);
}

struct draft_log stderr_log(void)
{
    return (struct draft_log){.message = print_log, .level = DRAFT_LOG_WARN};
}
