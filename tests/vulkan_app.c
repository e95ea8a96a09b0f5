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
    vk.vkEnumerateInstanceVersion = (PFN_vkEnumerateInstanceVersion)vk.vkGetInstanceProcAddr(
        VK_NULL_HANDLE, "vkEnumerateInstanceVersion");
    return vk.vkCreateInstance && vk.vkEnumerateInstanceVersion;
}

/* ---- Instance and device ---- */

static void create_instance(struct app *app)
{
    uint32_t newest = 0;
    VK(vkEnumerateInstanceVersion(&newest));
    app->version = newest < VK_API_VERSION_1_3 ? VK_API_VERSION_1_2 : VK_API_VERSION_1_3;
    VkApplicationInfo application = {
        .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
        .pApplicationName = "draft tests",
        .apiVersion = app->version,
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

static void chain_to(struct app *app, void *structure, VkStructureType type)
{
    VkBaseOutStructure *base = structure;
    base->sType = type;
    base->pNext = app->features.pNext;
    app->features.pNext = structure;
}

/* Structures for what the device knows. */
static void chain_features(struct app *app)
{
    VkExtensionProperties offered[512];
    uint32_t count = 512;
    VkPhysicalDeviceProperties2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2};
    vk.vkGetPhysicalDeviceProperties2(app->physical, &all);
    if (all.properties.apiVersion < app->version)
        app->version = all.properties.apiVersion;
    app->features.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES;
    chain_to(app, &app->features_11, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES);
    bool newer = app->version >= VK_API_VERSION_1_3;
    if (newer)
        chain_to(app, &app->features_13, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES);
    ck_assert_int_ge(vk.vkEnumerateDeviceExtensionProperties(app->physical, NULL, &count, offered),
                     0);
    for (uint32_t i = 0; i < count; i++) {
        const char *name = offered[i].extensionName;
        if (!newer && strcmp(name, VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME) == 0)
            chain_to(app, &app->subgroup,
                     VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES);
        if (strcmp(name, VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME) == 0)
            chain_to(app, &app->matrix,
                     VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR);
        if (strcmp(name, VK_KHR_SHADER_BFLOAT16_EXTENSION_NAME) == 0)
            chain_to(app, &app->bf16,
                     VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_BFLOAT16_FEATURES_KHR);
        if (strcmp(name, VK_NV_COOPERATIVE_MATRIX_2_EXTENSION_NAME) == 0)
            chain_to(app, &app->matrix2,
                     VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_2_FEATURES_NV);
        if (strcmp(name, VK_EXT_COOPERATIVE_MATRIX_MAINTENANCE_1_EXTENSION_NAME) == 0)
            chain_to(
                app, &app->maintenance,
                VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_MAINTENANCE_1_FEATURES_EXT);
    }
}

void app_init(struct app *app, const struct draft_device_info *info)
{
    *app = (struct app){.extension_count = 16};
    create_instance(app);
    find_physical(app, info);
    find_family(app);
    chain_features(app);
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
        .api_version = app->version,
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

/* ---- Runs ---- */

struct test_device devices[MAX_DEVICES];
size_t device_count;

const char *const names[CASES] = {"dim 64 bf16", "tile 2x3x4", "batch valid gaps",
                                  "beyond excess gap floor bf16"};

void fill(struct rig *rig, int inputs)
{
    const struct host_tensor *q = &rig->problem->q, *k = &rig->problem->k;
    if (q->size == k->size) {
        buffer_put(&rig->q, 0, inputs ? k->bytes : q->bytes, q->size);
        buffer_put(&rig->k, 0, inputs ? q->bytes : k->bytes, q->size);
    } else if (inputs) { /* grouped heads */
        memset(buffer_image(&rig->v), 0, rig->v.size);
        buffer_put(&rig->v, 0, buffer_image(&rig->v), rig->v.size);
    } else {
        buffer_put(&rig->v, 0, rig->problem->v.bytes, rig->v.size);
    }
}

void setup_rig(struct rig *rig, struct test_device *device, struct problem *problem,
               const char *name)
{
    draft_plan *plan = NULL;
    OK(rig_plan(device, case_named(name), NULL, &plan));
    problem_init(problem, case_named(name), plan->layout.tile);
    rig_init(rig, device, problem, plan);
    rig_reset(rig);
}

void free_rig(struct rig *rig, struct problem *problem)
{
    rig_free(rig);
    problem_free(problem);
}

/* out and lse of each case for each of the inputs, by the library's own device. */
static struct {
    uint8_t *out, *lse;
} expected[CASES][INPUTS];

static uint8_t *copy_of(struct buffer *buffer)
{
    uint8_t *copy = test_alloc(buffer->size, 1);
    memcpy(copy, buffer_get(buffer), buffer->size);
    return copy;
}
void expect_all(void)
{
    for (int c = 0; c < CASES; c++) {
        struct problem problem;
        struct rig rig;
        setup_rig(&rig, &devices[0], &problem, names[c]);
        for (int i = 0; i < INPUTS; i++) {
            fill(&rig, i);
            rig_reset(&rig);
            OK(rig_run(&rig, 0));
            expected[c][i].out = copy_of(&rig.out);
            expected[c][i].lse = copy_of(&rig.lse);
        }
        ck_assert(memcmp(expected[c][0].out, expected[c][1].out, rig.out.size) != 0);
        free_rig(&rig, &problem);
    }
}

void forget_all(void)
{
    for (int c = 0; c < CASES; c++)
        for (int i = 0; i < INPUTS; i++)
            free(expected[c][i].out), free(expected[c][i].lse);
}

const uint8_t *expected_out(int c, int inputs)
{
    ck_assert_ptr_nonnull(expected[c][inputs].out);
    return expected[c][inputs].out;
}

bool is_expected(struct rig *rig, int c, int inputs)
{
    ck_assert_ptr_nonnull(expected[c][inputs].out);
    return memcmp(buffer_get(&rig->out), expected[c][inputs].out, rig->out.size) == 0 &&
           memcmp(buffer_get(&rig->lse), expected[c][inputs].lse, rig->lse.size) == 0;
}

void record_chunk(struct rig *rig, const struct app_commands *commands, uint32_t chunk,
                  uint32_t chunks)
{
    struct draft_run_params run = rig->run;
    run.stages = 0;
    run.queue = commands->buffer;
    run.chunk = chunk;
    run.chunks = chunks;
    OK(draft_run(rig->plan, &run));
}

/* The library on a device of the app, without a queue. */
void setup_app(struct app *app)
{
    app_init(app, &devices[0].info);
    struct draft_vulkan_native native = app_native(app);
    OK(app_adopt(app, &native));
}
