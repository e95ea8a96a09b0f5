/* SPDX-License-Identifier: MIT
 *
 * What a caller may give to the library of a Vulkan device, what it should enable on it, and what
 * is refused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vulkan_app.h"

/* ---- What to enable ---- */

START_TEST(requirements)
{
    struct app app;
    app_init(&app, &devices[0].info);
    struct draft_vulkan_native native = app_native(&app);
    VkPhysicalDeviceVulkan12Features v12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES, .drawIndirectCount = true};
    VkPhysicalDeviceFeatures2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                     .pNext = &v12};
    all.features.robustBufferAccess = true;
    uint32_t count = 0, room;
    OK(draft_vulkan_requirements(NULL, &native, &all, NULL, &count));
    ck_assert(v12.bufferDeviceAddress && v12.timelineSemaphore);
    ck_assert(v12.drawIndirectCount && all.features.robustBufferAccess);
    ck_assert(!v12.descriptorIndexing && !all.features.geometryShader);
    native.device = NULL; /* which is not there yet */
    OK(draft_vulkan_requirements(NULL, &native, NULL, NULL, &count));
    const char **extensions = test_alloc(count + 1, sizeof *extensions);
    room = count;
    OK(draft_vulkan_requirements(NULL, &native, NULL, extensions, &room));
    ck_assert_uint_eq(room, count);
    VkExtensionProperties offered[512];
    uint32_t offers = 512;
    ck_assert_int_ge(vk.vkEnumerateDeviceExtensionProperties(app.physical, NULL, &offers, offered),
                     0);
    for (uint32_t e = 0; e < count; e++) {
        uint32_t o = 0;
        while (o < offers && strcmp(extensions[e], offered[o].extensionName) != 0)
            o++;
        ck_assert_msg(o < offers, "the device has no %s", extensions[e]);
    }
    free(extensions);
    app_free(&app);
}
END_TEST

/* Structures of single features will do as well. */
START_TEST(requirements_in_parts)
{
    struct app app;
    app_init(&app, &devices[0].info);
    struct draft_vulkan_native native = app_native(&app);
    VkPhysicalDeviceTimelineSemaphoreFeatures timeline = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TIMELINE_SEMAPHORE_FEATURES};
    VkPhysicalDeviceBufferDeviceAddressFeatures address = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_BUFFER_DEVICE_ADDRESS_FEATURES};
    uint32_t count = 0;
    OK(draft_vulkan_requirements(NULL, &native, &address, NULL, &count));
    ck_assert(address.bufferDeviceAddress && !timeline.timelineSemaphore);
    address.bufferDeviceAddress = false;
    timeline.pNext = &address;
    OK(draft_vulkan_requirements(NULL, &native, &timeline, NULL, &count));
    ck_assert(address.bufferDeviceAddress && timeline.timelineSemaphore);
    native.features = &timeline;
    OK(app_adopt(&app, &native));
    app_free(&app);
}
END_TEST

/* ---- What else a caller may give ---- */

START_TEST(memory_of_the_caller)
{
    struct app app;
    struct problem problem;
    struct rig rig;
    struct app_commands commands;
    struct app_memory out, workspace;
    setup_app(&app);
    setup_rig(&rig, &app.adopted, &problem, names[0]);
    app_memory_init(&out, &app, rig.out.size);
    app_memory_init(&workspace, &app, rig.workspace.size + rig.layout.alignment);
    uint64_t alignment = rig.layout.alignment;
    rig.run.out.data = out.address;
    rig.run.workspace = (workspace.address + alignment - 1) / alignment * alignment;
    app_commands_init(&commands, &app, VK_COMMAND_BUFFER_LEVEL_PRIMARY);
    record_chunk(&rig, &commands, 0, 1);
    app_commands_end(&commands, true);
    app_submit(&app, &commands, 1);
    app_wait(&app);
    ck_assert(memcmp(out.map, expected_out(0, 0), rig.out.size) == 0);
    uint32_t number;
    ck_assert_int_eq(draft_read(app.adopted.context, &number, out.address, sizeof number),
                     DRAFT_ERROR_ARGUMENT); /* not the library's to copy */
    app_commands_free(&commands);
    app_memory_free(&out, &app);
    app_memory_free(&workspace, &app);
    free_rig(&rig, &problem);
    app_free(&app);
}
END_TEST

/* A queue that the library has for itself: then it works as on its own device. */
START_TEST(queue_of_the_caller)
{
    struct app app;
    struct problem problem;
    struct rig rig;
    app_init(&app, &devices[0].info);
    struct draft_vulkan_native native = app_native(&app);
    native.queue = app.queue;
    OK(app_adopt(&app, &native));
    setup_rig(&rig, &app.adopted, &problem, names[0]);
    for (int i = 0; i < INPUTS; i++) {
        fill(&rig, i);
        rig_reset(&rig);
        OK(rig_run(&rig, 0));
        ck_assert(is_expected(&rig, 0, i));
    }
    free_rig(&rig, &problem);
    app_free(&app);
}
END_TEST

/* Host memory for the driver that is counted. */
static void *count_alloc(void *user, size_t size, size_t alignment, VkSystemAllocationScope scope)
{
    (void)scope;
    void *memory = NULL;
    if (posix_memalign(&memory, alignment < sizeof memory ? sizeof memory : alignment, size))
        return NULL;
    __atomic_add_fetch((long *)user, 1, __ATOMIC_SEQ_CST);
    return memory;
}

static void count_free(void *user, void *memory)
{
    if (memory)
        __atomic_add_fetch((long *)user + 1, 1, __ATOMIC_SEQ_CST);
    free(memory);
}

static void *count_realloc(void *user, void *memory, size_t size, size_t alignment,
                           VkSystemAllocationScope scope)
{
    (void)user, (void)alignment, (void)scope;
    return realloc(memory, size);
}

START_TEST(allocation_callbacks_and_pipeline_cache)
{
    struct app app;
    struct problem problem;
    struct rig rig;
    long counts[2] = {0, 0}; /* taken, given back */
    VkPipelineCacheCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO};
    VkPipelineCache cache;
    size_t size = 0;
    app_init(&app, &devices[0].info);
    VK(vkCreatePipelineCache(app.device, &info, NULL, &cache));
    struct draft_vulkan_native native = app_native(&app);
    VkAllocationCallbacks callbacks = {.pUserData = counts,
                                       .pfnAllocation = count_alloc,
                                       .pfnReallocation = count_realloc,
                                       .pfnFree = count_free};
    native.allocation = &callbacks;
    native.queue = app.queue;
    native.pipeline_cache = cache;
    OK(app_adopt(&app, &native));
    memset(&callbacks, 0, sizeof callbacks); /* copied */
    setup_rig(&rig, &app.adopted, &problem, names[0]);
    OK(rig_run(&rig, 0));
    ck_assert(is_expected(&rig, 0, 0));
    free_rig(&rig, &problem);
    draft_context_destroy(&app.adopted.context);
    ck_assert_int_gt(counts[0], 0);
    ck_assert_int_eq(counts[0], counts[1]);
    VK(vkGetPipelineCacheData(app.device, cache, &size, NULL));
    vk.vkDestroyPipelineCache(app.device, cache, NULL);
    app_free(&app);
}
END_TEST

/* ---- Estimates ---- */

START_TEST(estimates)
{
    struct app app;
    draft_plan *plan = NULL, *larger = NULL;
    struct draft_vulkan_work all, part, sum = {0}, more;
    setup_app(&app);
    struct draft_plan_params params = case_named(names[0])->params;
    OK(draft_plan_create(app.adopted.context, &params, &plan));
    OK(draft_vulkan_estimate(plan, 0, &all));
    for (uint32_t stage = 1; stage < ALL_STAGES; stage <<= 1) {
        OK(draft_vulkan_estimate(plan, stage, &part));
        ck_assert(part.flops > 0 && part.seconds > 0 && part.chunks >= 1);
        sum.flops += part.flops;
        sum.seconds += part.seconds;
    }
    ck_assert_double_eq_tol(sum.flops, all.flops, 1e-9 * all.flops);
    ck_assert_double_eq_tol(sum.seconds, all.seconds, 1e-6 * all.seconds);
    params.shape.frames *= 100;
    OK(draft_plan_create(app.adopted.context, &params, &larger));
    OK(draft_vulkan_estimate(larger, 0, &more));
    ck_assert(more.flops > 1000 * all.flops && more.chunks > all.chunks);
    ck_assert(more.seconds / more.chunks <= 0.1 && more.seconds / (more.chunks - 1) >= 0.1);
    ck_assert_int_eq(draft_vulkan_estimate(plan, 16, &all), DRAFT_ERROR_ARGUMENT);
    ck_assert_int_eq(draft_vulkan_estimate(plan, 0, NULL), DRAFT_ERROR_ARGUMENT);
    ck_assert_int_eq(draft_vulkan_estimate(NULL, 0, &all), DRAFT_ERROR_ARGUMENT);
    draft_plan_destroy(&larger);
    draft_plan_destroy(&plan);
    app_free(&app);
}
END_TEST

/* ---- What is refused ---- */

#define REFUSED(call, status, log, word)                                                           \
    do {                                                                                           \
        log_clear(log);                                                                            \
        draft_status got_ = (call);                                                                \
        ck_assert_msg(got_ == DRAFT_ERROR_##status && strstr((log)->text, word), "%s: \"%s\": %s", \
                      #call, draft_status_name(got_), (log)->text);                                \
    } while (0)

/* One thing changed in a native that is right otherwise. */
#define NATIVE_REFUSED(status, word, change)                                                       \
    do {                                                                                           \
        struct draft_vulkan_native n = app_native(&app);                                           \
        change;                                                                                    \
        REFUSED(app_adopt(&app, &n), status, &app.adopted.log, word);                              \
        ck_assert_ptr_null(app.adopted.context);                                                   \
    } while (0)

static PFN_vkVoidFunction lacking(VkInstance instance, const char *name)
{
    return strcmp(name, "vkGetDeviceProcAddr") ? vk.vkGetInstanceProcAddr(instance, name) : NULL;
}

START_TEST(natives_are_refused)
{
    struct app app;
    app_init(&app, &devices[0].info);
    VkPhysicalDeviceVulkan12Features without = app.features;
    NATIVE_REFUSED(ARGUMENT, "native.get_instance", n.get_instance_proc_addr = NULL);
    NATIVE_REFUSED(ARGUMENT, "native.instance", n.instance = NULL);
    NATIVE_REFUSED(ARGUMENT, "native.physical_device", n.physical_device = NULL);
    NATIVE_REFUSED(ARGUMENT, "native.device", n.device = NULL);
    NATIVE_REFUSED(ARGUMENT, "extension_count", (n.extensions = NULL, n.extension_count = 1));
    NATIVE_REFUSED(UNSUPPORTED, "api_version", n.api_version = VK_API_VERSION_1_1);
    NATIVE_REFUSED(UNSUPPORTED, "family", n.queue_family = 99);
    NATIVE_REFUSED(UNSUPPORTED, "vkGetDeviceProcAddr", n.get_instance_proc_addr = lacking);
    NATIVE_REFUSED(UNSUPPORTED, "bufferDeviceAddress", n.features = NULL);
    without.bufferDeviceAddress = false; /* on, but not listed */
    NATIVE_REFUSED(UNSUPPORTED, "bufferDeviceAddress", n.features = &without);
    without.bufferDeviceAddress = true;
    without.timelineSemaphore = false;
    NATIVE_REFUSED(UNSUPPORTED, "timelineSemaphore", (n.features = &without, n.queue = app.queue));
    struct draft_vulkan_native native = app_native(&app);
    native.features = &without; /* enough without a queue */
    OK(app_adopt(&app, &native));
    app_free(&app);
}
END_TEST

START_TEST(requirements_are_refused)
{
    struct app app;
    app_init(&app, &devices[0].info);
    struct log_memory *memory = &app.adopted.log;
    struct draft_log log = log_to(memory, DRAFT_LOG_ERROR);
    struct draft_vulkan_native native = app_native(&app);
    VkPhysicalDeviceFeatures2 bare = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2};
    uint32_t count = 0;
    REFUSED(draft_vulkan_requirements(&log, NULL, NULL, NULL, &count), ARGUMENT, memory, "native");
    REFUSED(draft_vulkan_requirements(&log, &native, NULL, NULL, NULL), ARGUMENT, memory, "count");
    count = 1;
    REFUSED(draft_vulkan_requirements(&log, &native, NULL, NULL, &count), ARGUMENT, memory,
            "extensions");
    count = 0;
    REFUSED(draft_vulkan_requirements(&log, &native, &bare, NULL, &count), ARGUMENT, memory,
            "bufferDeviceAddress");
    native.api_version = VK_API_VERSION_1_0;
    REFUSED(draft_vulkan_requirements(&log, &native, NULL, NULL, &count), UNSUPPORTED, memory,
            "1.0");
    native.instance = NULL;
    REFUSED(draft_vulkan_requirements(&log, &native, NULL, NULL, &count), ARGUMENT, memory,
            "instance");
    app_free(&app);
}
END_TEST

/* Without a queue, what would need one is refused, and the context goes on. */
START_TEST(runs_are_refused)
{
    struct app app;
    struct problem problem, own_problem;
    struct rig rig, own;
    struct app_commands commands;
    setup_app(&app);
    struct log_memory *log = &app.adopted.log;
    setup_rig(&rig, &app.adopted, &problem, names[0]);
    REFUSED(draft_run(rig.plan, &rig.run), UNSUPPORTED, log, "queue");
    REFUSED(draft_wait(app.adopted.context), UNSUPPORTED, log, "queue");
    app_commands_init(&commands, &app, VK_COMMAND_BUFFER_LEVEL_PRIMARY);
    rig.run.queue = commands.buffer;
    rig.run.chunk = rig.run.chunks = 3;
    REFUSED(draft_run(rig.plan, &rig.run), ARGUMENT, log, "chunk is 3");
    record_chunk(&rig, &commands, 0, 1);
    app_commands_end(&commands, true);
    app_submit(&app, &commands, 1);
    app_wait(&app);
    ck_assert(is_expected(&rig, 0, 0));
    setup_rig(&own, &devices[0], &own_problem, names[0]); /* of another device */
    own.run.queue = commands.buffer;
    REFUSED(draft_run(own.plan, &own.run), UNSUPPORTED, &devices[0].log, "queue");
    free_rig(&own, &own_problem);
    app_commands_free(&commands);
    free_rig(&rig, &problem);
    app_free(&app);
}
END_TEST

TCase *natives_tests(void)
{
    TCase *tests = tcase_create("natives");
    tcase_set_timeout(tests, 0);
    tcase_add_test(tests, requirements);
    tcase_add_test(tests, requirements_in_parts);
    tcase_add_test(tests, memory_of_the_caller);
    tcase_add_test(tests, queue_of_the_caller);
    tcase_add_test(tests, allocation_callbacks_and_pipeline_cache);
    tcase_add_test(tests, estimates);
    tcase_add_test(tests, natives_are_refused);
    tcase_add_test(tests, requirements_are_refused);
    tcase_add_test(tests, runs_are_refused);
    return tests;
}
