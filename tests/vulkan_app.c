/* SPDX-License-Identifier: MIT */
#include "vulkan_app.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

struct app_vulkan vk;

bool app_open(void)
{
    void *library = dlopen("libvulkan.so.1", RTLD_NOW | RTLD_LOCAL);
    void *symbol = library ? dlsym(library, "vkGetInstanceProcAddr") : NULL;
    if (!symbol)
        return false;
    memcpy(&vk.vkGetInstanceProcAddr, &symbol, sizeof symbol);
    vk.vkCreateInstance =
        (PFN_vkCreateInstance)vk.vkGetInstanceProcAddr(VK_NULL_HANDLE, "vkCreateInstance");
    return vk.vkCreateInstance != NULL;
}

/* ---- Instance and device ---- */

static void create_instance(struct app *app)
{
    VkApplicationInfo application = {
        .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
        .pApplicationName = "draft tests",
        .apiVersion = VK_API_VERSION_1_2,
    };
    VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
                                 .pApplicationInfo = &application};
    VK(vkCreateInstance(&info, NULL, &app->instance));
#define X(name)                                                                                    \
    vk.name = (PFN_##name)vk.vkGetInstanceProcAddr(app->instance, #name);                          \
    ck_assert_msg(vk.name != NULL, "there is no %s", #name);
    APP_INSTANCE_FUNCTIONS(X)
#undef X
}

static void find_physical(struct app *app, const struct draft_device_info *info)
{
    VkPhysicalDevice devices[16];
    uint32_t count = 16;
    ck_assert_int_ge(vk.vkEnumeratePhysicalDevices(app->instance, &count, devices), 0);
    for (uint32_t i = 0; i < count; i++) {
        VkPhysicalDeviceVulkan11Properties v11 = {
            .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES};
        VkPhysicalDeviceProperties2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                           .pNext = &v11};
        vk.vkGetPhysicalDeviceProperties2(devices[i], &all);
        if (memcmp(v11.deviceUUID, info->uuid, sizeof info->uuid) == 0 &&
            strcmp(all.properties.deviceName, info->name) == 0)
            app->physical = devices[i];
    }
    ck_assert_msg(app->physical != NULL, "%s is not there", info->name);
}

static void find_family(struct app *app)
{
    VkQueueFamilyProperties families[16];
    uint32_t count = 16;
    vk.vkGetPhysicalDeviceQueueFamilyProperties(app->physical, &count, families);
    while (app->family < count && !(families[app->family].queueFlags & VK_QUEUE_COMPUTE_BIT))
        app->family++;
    ck_assert_uint_lt(app->family, count);
}

void app_init(struct app *app, const struct draft_device_info *info)
{
    *app = (struct app){.extension_count = 16};
    create_instance(app);
    find_physical(app, info);
    find_family(app);
    app->features.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES;
    struct draft_vulkan_native native = app_native(app);
    OK(draft_vulkan_requirements(NULL, &native, &app->features, app->extensions,
                                 &app->extension_count));
    ck_assert_uint_le(app->extension_count, 16);
    float priority = 1;
    VkDeviceQueueCreateInfo queue = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
        .queueFamilyIndex = app->family,
        .queueCount = 1,
        .pQueuePriorities = &priority,
    };
    VkDeviceCreateInfo create = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
        .pNext = &app->features,
        .queueCreateInfoCount = 1,
        .pQueueCreateInfos = &queue,
        .enabledExtensionCount = app->extension_count,
        .ppEnabledExtensionNames = app->extensions,
    };
    VK(vkCreateDevice(app->physical, &create, NULL, &app->device));
    vk.vkGetDeviceQueue(app->device, app->family, 0, &app->queue);
}

void app_free(struct app *app)
{
    draft_context_destroy(&app->adopted.context);
    if (app->device) {
        struct app_memory memory;
        app_memory_init(&memory, app, 64);
        app_memory_free(&memory, app);
        VK(vkDeviceWaitIdle(app->device));
        vk.vkDestroyDevice(app->device, NULL);
    }
    vk.vkDestroyInstance(app->instance, NULL);
}

struct draft_vulkan_native app_native(const struct app *app)
{
    return (struct draft_vulkan_native){
        .get_instance_proc_addr = vk.vkGetInstanceProcAddr,
        .instance = app->instance,
        .physical_device = app->physical,
        .api_version = VK_API_VERSION_1_2,
        .device = app->device,
        .extensions = app->extensions,
        .extension_count = app->extension_count,
        .features = &app->features,
        .queue_family = app->family,
    };
}

draft_status app_adopt(struct app *app, const struct draft_vulkan_native *native)
{
    struct draft_vulkan_native own = *native;
    struct draft_context_params params = {
        .backend = "vulkan",
        .native = &own,
        .device = 99,
        .device_name = "abacus",
        .log = log_to(&app->adopted.log, DRAFT_LOG_ERROR),
    };
    draft_status status = draft_context_create(&params, &app->adopted.context);
    memset(&own, POISON, sizeof own); /* read during the call only */
    if (!status)
        draft_context_device(app->adopted.context, &app->adopted.info);
    return status;
}

/* ---- Commands ---- */

void app_commands_init(struct app_commands *commands, const struct app *app,
                       VkCommandBufferLevel level)
{
    *commands = (struct app_commands){.app = app};
    VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                    .queueFamilyIndex = app->family};
    VK(vkCreateCommandPool(app->device, &pool, NULL, &commands->pool));
    VkCommandBufferAllocateInfo allocate = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
        .commandPool = commands->pool,
        .level = level,
        .commandBufferCount = 1,
    };
    VK(vkAllocateCommandBuffers(app->device, &allocate, &commands->buffer));
    VkCommandBufferInheritanceInfo nothing = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_INHERITANCE_INFO};
    VkCommandBufferBeginInfo begin = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
        .pInheritanceInfo = level == VK_COMMAND_BUFFER_LEVEL_SECONDARY ? &nothing : NULL,
    };
    VK(vkBeginCommandBuffer(commands->buffer, &begin));
}

void app_commands_free(struct app_commands *commands)
{
    vk.vkDestroyCommandPool(commands->app->device, commands->pool, NULL);
}

void app_commands_end(const struct app_commands *commands, bool to_host)
{
    VkMemoryBarrier barrier = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT,
        .dstAccessMask = VK_ACCESS_HOST_READ_BIT,
    };
    if (to_host)
        vk.vkCmdPipelineBarrier(commands->buffer, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
                                VK_PIPELINE_STAGE_HOST_BIT, 0, 1, &barrier, 0, NULL, 0, NULL);
    VK(vkEndCommandBuffer(commands->buffer));
}

void app_submit(const struct app *app, const struct app_commands *commands, uint32_t count)
{
    VkCommandBuffer *buffers = test_alloc(count, sizeof *buffers);
    for (uint32_t i = 0; i < count; i++)
        buffers[i] = commands[i].buffer;
    VkSubmitInfo info = {
        .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
        .commandBufferCount = count,
        .pCommandBuffers = buffers,
    };
    VK(vkQueueSubmit(app->queue, 1, &info, VK_NULL_HANDLE));
    free(buffers);
}

void app_wait(const struct app *app)
{
    VK(vkQueueWaitIdle(app->queue));
}

/* ---- Memory ---- */

static uint32_t memory_type(const struct app *app, uint32_t types)
{
    const VkMemoryPropertyFlags coherent =
        VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    VkPhysicalDeviceMemoryProperties memory;
    vk.vkGetPhysicalDeviceMemoryProperties(app->physical, &memory);
    for (uint32_t i = 0; i < memory.memoryTypeCount; i++)
        if (types & 1u << i && (memory.memoryTypes[i].propertyFlags & coherent) == coherent)
            return i;
    ck_abort_msg("no type of memory fits");
    return 0;
}

void app_memory_init(struct app_memory *memory, const struct app *app, size_t size)
{
    VkBufferCreateInfo create = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
        .size = size,
        .usage = VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT | VK_BUFFER_USAGE_STORAGE_BUFFER_BIT,
    };
    VK(vkCreateBuffer(app->device, &create, NULL, &memory->buffer));
    VkMemoryRequirements needs;
    vk.vkGetBufferMemoryRequirements(app->device, memory->buffer, &needs);
    VkMemoryAllocateFlagsInfo flags = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO,
                                       .flags = VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT};
    VkMemoryAllocateInfo allocate = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
        .pNext = &flags,
        .allocationSize = needs.size,
        .memoryTypeIndex = memory_type(app, needs.memoryTypeBits),
    };
    void *map;
    VK(vkAllocateMemory(app->device, &allocate, NULL, &memory->memory));
    VK(vkBindBufferMemory(app->device, memory->buffer, memory->memory, 0));
    VK(vkMapMemory(app->device, memory->memory, 0, VK_WHOLE_SIZE, 0, &map));
    VkBufferDeviceAddressInfo address = {.sType = VK_STRUCTURE_TYPE_BUFFER_DEVICE_ADDRESS_INFO,
                                         .buffer = memory->buffer};
    memory->map = map;
    memory->address = vk.vkGetBufferDeviceAddress(app->device, &address);
}

void app_memory_free(struct app_memory *memory, const struct app *app)
{
    vk.vkDestroyBuffer(app->device, memory->buffer, NULL);
    vk.vkFreeMemory(app->device, memory->memory, NULL);
}
