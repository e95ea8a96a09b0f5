/* SPDX-License-Identifier: MIT
 *
 * What is optional in Vulkan: devices of the library's own and of callers have the same of it, by
 * what the caller lists, and nothing that is masked is asked for. Most of it on a driver that says
 * it has everything; only the kernels of real ones run. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vulkan_driver.h"

enum {
    MATRICES = VK_TIER_MATRIX | VK_TIER_MATRIX_BF16 | VK_TIER_MATRIX2 | VK_TIER_MATRIX2_EXT |
               VK_TIER_MATRIX_WORKGROUP,
    ALL_TIERS = VK_TIER_F16 | VK_TIER_SUBGROUP | MATRICES,
    NEWER = VK_TIER_MATRIX2 | VK_TIER_MATRIX_WORKGROUP, /* Vulkan 1.3 */
};

/* ---- What a caller lists ---- */

/* Everything that is optional, and the tiers that are gone without it. */
static const struct {
    const char *name, *extension;
    size_t member, older; /* older: before Vulkan 1.3, where it is another */
    uint32_t lost;
} features[] = {
#define IN(structure, member) #member, NULL, offsetof(struct vk_request, structure.member), 0
#define BY(name, structure, member)                                                                \
#member, "VK_" name, offsetof(struct vk_request, structure.member), 0
    {IN(v11, storageBuffer16BitAccess), VK_TIER_F16},
    {IN(v12, shaderFloat16), VK_TIER_F16 | MATRICES},
    {IN(v12, vulkanMemoryModel), MATRICES},
    {IN(v12, vulkanMemoryModelDeviceScope), MATRICES},
    {"subgroupSizeControl", "VK_EXT_subgroup_size_control",
     offsetof(struct vk_request, v13.subgroupSizeControl),
     offsetof(struct vk_request, subgroup.subgroupSizeControl), VK_TIER_SUBGROUP},
    {"computeFullSubgroups", "VK_EXT_subgroup_size_control",
     offsetof(struct vk_request, v13.computeFullSubgroups),
     offsetof(struct vk_request, subgroup.computeFullSubgroups), VK_TIER_SUBGROUP},
    {BY("KHR_cooperative_matrix", matrix, cooperativeMatrix), MATRICES},
    {BY("KHR_shader_bfloat16", bf16, shaderBFloat16Type), VK_TIER_MATRIX_BF16},
    {BY("KHR_shader_bfloat16", bf16, shaderBFloat16CooperativeMatrix), VK_TIER_MATRIX_BF16},
#define NV(member) BY("NV_cooperative_matrix2", matrix2, member)
    {NV(cooperativeMatrixWorkgroupScope), VK_TIER_MATRIX_WORKGROUP},
    {NV(cooperativeMatrixFlexibleDimensions), VK_TIER_MATRIX_WORKGROUP},
    {NV(cooperativeMatrixReductions), NEWER},
    {NV(cooperativeMatrixConversions), NEWER},
    {NV(cooperativeMatrixPerElementOperations), NEWER},
    {NV(cooperativeMatrixTensorAddressing), VK_TIER_MATRIX_WORKGROUP},
    {NV(cooperativeMatrixBlockLoads), VK_TIER_MATRIX_WORKGROUP},
#define EXT(member) BY("EXT_cooperative_matrix_maintenance1", maintenance, member)
    {EXT(cooperativeMatrixReductions), VK_TIER_MATRIX2_EXT},
    {EXT(cooperativeMatrixConversions), VK_TIER_MATRIX2_EXT},
    {EXT(cooperativeMatrixPerElementOperations), VK_TIER_MATRIX2_EXT},
};
enum { FEATURES = sizeof features / sizeof *features };

/* Without what has this name, feature or extension. */
static uint32_t lost_without(const char *name)
{
    uint32_t lost = 0;
    for (size_t f = 0; f < FEATURES; f++)
        if (strcmp(features[f].name, name) == 0 ||
            (features[f].extension && strcmp(features[f].extension, name) == 0))
            lost |= features[f].lost;
    return lost;
}

/* Number n of all names of features and extensions, or NULL. */
static const char *name_of(size_t n)
{
    return n < FEATURES                       ? features[n].name
           : n < FEATURES + DRIVER_EXTENSIONS ? driver_extensions[n - FEATURES]
                                              : NULL;
}

/* A caller of that driver. */
struct caller {
    struct app app;
    struct vk_request structures;
    const char *extensions[16];
    struct draft_vulkan_native native;
};

static void add_structure(struct caller *caller, void *structure, VkStructureType type)
{
    bool older = driver.version < VK_API_VERSION_1_3;
    if (type == (older ? VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES
                       : VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES))
        return;
    VkBaseOutStructure *base = structure;
    *base = (VkBaseOutStructure){.sType = type, .pNext = (void *)caller->native.features};
    caller->native.features = base;
}

/* Lists what draft_vulkan_requirements says; nothing where it fails. */
static draft_status caller_ask(struct caller *caller)
{
    driver.name_count = driver.chain_count = 0;
    memset(&caller->structures, 0, sizeof caller->structures);
    caller->native = app_native(&caller->app);
    caller->native.get_instance_proc_addr = driver_proc;
    caller->native.api_version = driver.version;
    caller->native.features = NULL;
#define X(type, structure, member)                                                                 \
    add_structure(caller, &caller->structures.member, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_##type);
    DRAFT_VK_FEATURE_STRUCTURES(X)
#undef X
    uint32_t count = 16;
    draft_status status = draft_vulkan_requirements(
        NULL, &caller->native, (void *)caller->native.features, caller->extensions, &count);
    caller->native.extensions = caller->extensions;
    caller->native.extension_count = status ? 0 : count;
    return status;
}

static void caller_init(struct caller *caller, uint32_t version)
{
    memset(&driver, 0, sizeof driver);
    driver.version = version;
    app_init(&caller->app, &devices[0].info);
    OK(caller_ask(caller));
}

static VkBool32 *member_of(struct caller *caller, size_t f)
{
    bool older = features[f].older && driver.version < VK_API_VERSION_1_3;
    return (VkBool32 *)((char *)&caller->structures +
                        (older ? features[f].older : features[f].member));
}

static bool lists_extension(const struct caller *caller, const char *name)
{
    for (uint32_t e = 0; e < caller->native.extension_count; e++)
        if (strcmp(caller->extensions[e], name) == 0)
            return true;
    return false;
}

/* What the library takes from what is listed. */
static struct vk_physical adopted_by(const struct caller *caller)
{
    struct vk_instance instance;
    struct vk_device device = {0};
    driver.name_count = 0;
    OK(draft_vk_adopt(NULL, &caller->native, &instance, &device));
    return device.physical;
}

/* ---- Callers ---- */

START_TEST(everything_is_asked_for)
{
    const bool older = _i == 1;
    const uint32_t expected = older ? ALL_TIERS & ~(uint32_t)NEWER : ALL_TIERS;
    struct caller caller;
    caller_init(&caller, older ? VK_API_VERSION_1_2 : VK_API_VERSION_1_3);
    for (size_t f = 0; f < FEATURES; f++)
        ck_assert_msg(*member_of(&caller, f) == ((features[f].lost & expected) != 0), "%s",
                      features[f].name);
    ck_assert(caller.structures.v12.bufferDeviceAddress);
    ck_assert(!caller.structures.v12.drawIndirectCount && !caller.structures.v11.multiview);
    ck_assert(!caller.structures.matrix.cooperativeMatrixRobustBufferAccess);
    for (int e = 0; e < DRIVER_EXTENSIONS; e++)
        ck_assert_msg(lists_extension(&caller, driver_extensions[e]) ==
                          (e == 0 ? older : (lost_without(driver_extensions[e]) & expected) != 0),
                      "%s", driver_extensions[e]);
    struct vk_physical got = adopted_by(&caller);
    ck_assert_uint_eq(got.tiers, expected);
    ck_assert(got.caps.f16 && got.caps.min_subgroup == 16 && got.caps.max_subgroup == 64);
    ck_assert_uint_eq(got.caps.max_subgroups, 8);
    ck_assert_uint_eq(got.caps.matrix_shapes, VK_MATRIX_16X16X16 | VK_MATRIX_8X16X16);
    ck_assert_uint_eq(got.caps.matrix_shapes_bf16, VK_MATRIX_16X16X16);
    ck_assert(got.caps.matrix2 == !older && got.caps.matrix2_ext);
    ck_assert(got.caps.matrix_workgroup == !older);
    ck_assert_uint_eq(got.caps.matrix_workgroups, older ? 0 : 128 | 64);
    ck_assert_uint_eq(got.caps.matrix_side, older ? 0 : 1024);
    ck_assert_uint_eq(got.caps.matrix_shared, older ? 0 : 4096);
    app_free(&caller.app);
}
END_TEST

/* Features alone do not make a tier, nor extensions alone. */
START_TEST(each_must_be_listed)
{
    struct caller caller;
    caller_init(&caller, VK_API_VERSION_1_3);
    for (size_t f = 0; f < FEATURES; f++) {
        if (strcmp(features[f].name, "vulkanMemoryModelDeviceScope") == 0)
            caller.structures.v12.vulkanMemoryModel = false; /* would be refused */
        *member_of(&caller, f) = false;
        ck_assert_msg(adopted_by(&caller).tiers == (ALL_TIERS & ~features[f].lost), "%s",
                      features[f].name);
        *member_of(&caller, f) = caller.structures.v12.vulkanMemoryModel = true;
    }
    for (uint32_t e = 0; e < caller.native.extension_count; e++) {
        const char *name = caller.extensions[e];
        caller.extensions[e] = "VK_KHR_swapchain";
        ck_assert_msg(adopted_by(&caller).tiers == (ALL_TIERS & ~lost_without(name)), "%s", name);
        caller.extensions[e] = name;
    }
    ck_assert_uint_eq(adopted_by(&caller).tiers, ALL_TIERS);
    caller.native.extension_count = 0;
    ck_assert_uint_eq(adopted_by(&caller).tiers, VK_TIER_F16 | VK_TIER_SUBGROUP);
    VkPhysicalDeviceVulkan12Features least = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
        .bufferDeviceAddress = true};
    caller.native.features = &least;
    ck_assert_uint_eq(adopted_by(&caller).tiers, 0);
    app_free(&caller.app);
}
END_TEST

/* What a chain has no place for is not asked for in part. */
START_TEST(tiers_are_whole)
{
    struct caller caller;
    const char *names_of[16];
    uint32_t count = 16;
    caller_init(&caller, VK_API_VERSION_1_3);
    VkPhysicalDeviceVulkan11Features v11 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES};
    VkPhysicalDeviceVulkan12Features v12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES, .pNext = &v11};
    OK(draft_vulkan_requirements(NULL, &caller.native, &v12, names_of, &count));
    ck_assert_uint_eq(count, 0);
    ck_assert(v11.storageBuffer16BitAccess && v12.shaderFloat16 && !v12.vulkanMemoryModel);
    v12.pNext = NULL;
    v12.shaderFloat16 = false;
    OK(draft_vulkan_requirements(NULL, &caller.native, &v12, NULL, &count));
    ck_assert(!v12.shaderFloat16);
    app_free(&caller.app);
}
END_TEST

START_TEST(memory_model_takes_the_scope)
{
    struct caller caller;
    caller_init(&caller, VK_API_VERSION_1_3);
    struct log_memory memory = {0};
    struct draft_log log = log_to(&memory, DRAFT_LOG_ERROR);
    struct vk_instance instance;
    struct vk_device device = {0};
    caller.structures.v12.vulkanMemoryModelDeviceScope = false;
    ck_assert_int_eq(draft_vk_adopt(&log, &caller.native, &instance, &device),
                     DRAFT_ERROR_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(memory.text, "vulkanMemoryModelDeviceScope"));
    app_free(&caller.app);
}
END_TEST

/* ---- Masks ---- */

/* Neither the structure nor the functions of an extension that is masked. */
static void check_untouched(const char *mask)
{
    static const struct {
        const char *mask;
        VkStructureType type;
        const char *function;
    } rows[] = {
        {"cooperativeMatrix", VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR,
         "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR"},
        {"VK_KHR_cooperative_matrix",
         VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR,
         "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR"},
        {"VK_KHR_shader_bfloat16", VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_BFLOAT16_FEATURES_KHR,
         NULL},
        {"VK_NV_cooperative_matrix2",
         VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_2_FEATURES_NV,
         "vkGetPhysicalDeviceCooperativeMatrixFlexibleDimensionsPropertiesNV"},
        {"VK_EXT_cooperative_matrix_maintenance1",
         VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_MAINTENANCE_1_FEATURES_EXT, NULL},
    };
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        bool masked = mask && strcmp(rows[r].mask, mask) == 0;
        if (mask && !masked)
            continue;
        ck_assert_msg(driver_asked(rows[r].type) == !masked, "%s", rows[r].mask);
        ck_assert_msg(!rows[r].function || driver_looked_up(rows[r].function) == !masked, "%s",
                      rows[r].function);
    }
}

START_TEST(masked_for_callers)
{
    struct caller caller, all;
    caller_init(&caller, VK_API_VERSION_1_3);
    check_untouched(NULL);
    all = caller;
    all.native.features = caller.native.features;
    for (size_t n = 0; name_of(n); n++) {
        char list[256];
        snprintf(list, sizeof list, "nothing,%s,shader", name_of(n));
        setenv("DRAFT_VULKAN_DISABLE", list, 1);
        OK(caller_ask(&caller));
        check_untouched(name_of(n));
        const uint32_t expected = ALL_TIERS & ~lost_without(name_of(n));
        ck_assert_msg(adopted_by(&caller).tiers == expected, "%s", list);
        check_untouched(name_of(n));
        ck_assert(!lists_extension(&caller, name_of(n)));
        for (size_t f = 0; f < FEATURES; f++) /* listed all the same */
            *member_of(&caller, f) = true;
        caller.native.extensions = all.extensions;
        caller.native.extension_count = all.native.extension_count;
        ck_assert_msg(adopted_by(&caller).tiers == expected, "%s", list);
        check_untouched(name_of(n));
    }
    setenv("DRAFT_VULKAN_DISABLE", "bufferDeviceAddress", 1);
    ck_assert_int_eq(caller_ask(&caller), DRAFT_ERROR_UNSUPPORTED);
    unsetenv("DRAFT_VULKAN_DISABLE");
    app_free(&caller.app);
}
END_TEST

/* The first of the library's own devices, open while it is looked at. */
static struct vk_physical own_device(void)
{
    struct vk_instance instance;
    struct vk_physical *list, first;
    uint32_t count;
    OK(draft_vk_instance_open(NULL, &instance));
    OK(draft_vk_physical_list(NULL, &instance, &list, &count));
    ck_assert_uint_ge(count, 1);
    first = list[0];
    draft_release(list);
    draft_vk_instance_close(&instance);
    return first;
}

START_TEST(masked_for_own_devices)
{
    const struct vk_physical all = own_device();
    for (size_t n = 0; name_of(n); n++) {
        setenv("DRAFT_VULKAN_DISABLE", name_of(n), 1);
        struct vk_physical rest = own_device();
        uint32_t expected = all.tiers & ~lost_without(name_of(n));
        if (!(expected & (VK_TIER_MATRIX | VK_TIER_MATRIX_BF16))) /* nothing to reduce */
            expected &= ~(uint32_t)(VK_TIER_MATRIX2 | VK_TIER_MATRIX2_EXT);
        ck_assert_msg(rest.tiers == expected, "%s: %#x of %#x", name_of(n), rest.tiers, all.tiers);
        ck_assert(rest.tiers & VK_TIER_MATRIX || rest.caps.matrix_shapes == 0);
        ck_assert(rest.tiers & VK_TIER_SUBGROUP || rest.caps.max_subgroup == 0);
        ck_assert(rest.caps.f16 == ((rest.tiers & VK_TIER_F16) != 0));
    }
    unsetenv("DRAFT_VULKAN_DISABLE");
}
END_TEST

/* ---- Drivers ---- */

START_TEST(missing_entry_points)
{
    static const struct {
        const char *name;
        uint32_t lost;
    } rows[] = {
        {"vkEnumerateDeviceExtensionProperties", MATRICES},
        {"vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR", MATRICES & ~VK_TIER_MATRIX_WORKGROUP},
        {"vkGetPhysicalDeviceCooperativeMatrixFlexibleDimensionsPropertiesNV",
         VK_TIER_MATRIX_WORKGROUP},
    };
    struct caller caller;
    caller_init(&caller, VK_API_VERSION_1_3);
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        driver.hidden = rows[r].name;
        OK(caller_ask(&caller));
        ck_assert_msg(adopted_by(&caller).tiers == (ALL_TIERS & ~rows[r].lost), "%s", rows[r].name);
    }
    app_free(&caller.app);
}
END_TEST

/* ---- The driver that is there ---- */

START_TEST(adopted_has_what_own_has)
{
    const struct vk_physical own = own_device();
    struct caller caller;
    app_init(&caller.app, &devices[0].info);
    caller.native = app_native(&caller.app);
    const struct vk_physical adopted = adopted_by(&caller);
    const struct vk_caps *a = &own.caps, *b = &adopted.caps;
    ck_assert_uint_eq(own.tiers, adopted.tiers);
    ck_assert(a->f16 == b->f16 && a->matrix2 == b->matrix2 && a->matrix2_ext == b->matrix2_ext &&
              a->matrix_workgroup == b->matrix_workgroup);
    ck_assert_uint_eq(a->min_subgroup, b->min_subgroup);
    ck_assert_uint_eq(a->max_subgroup, b->max_subgroup);
    ck_assert_uint_eq(a->max_subgroups, b->max_subgroups);
    ck_assert_uint_eq(a->matrix_shapes, b->matrix_shapes);
    ck_assert_uint_eq(a->matrix_shapes_bf16, b->matrix_shapes_bf16);
    ck_assert_uint_eq(a->matrix_workgroups, b->matrix_workgroups);
    app_free(&caller.app);
}
END_TEST

/* One variant and case on the library's device and on the caller's; false where it is refused, as
 * it then is by both. */
static bool run_on_both(struct app *app, const char *variant, const char *name)
{
    draft_plan *plan[2] = {NULL, NULL};
    struct test_device *on[2] = {&devices[0], &app->adopted};
    struct problem problem;
    struct rig rig[2];
    draft_status status[2];
    for (int i = 0; i < 2; i++)
        status[i] = rig_plan(on[i], case_named(name), variant, &plan[i]);
    ck_assert_msg(status[0] == status[1], "%s, %s: %s and %s", variant, name,
                  draft_status_name(status[0]), draft_status_name(status[1]));
    if (status[0])
        return false;
    problem_init(&problem, case_named(name), plan[0]->layout.tile);
    for (int i = 0; i < 2; i++) {
        ck_assert_str_eq(plan[i]->kernels[draft_stage_index(DRAFT_ATTEND)], variant);
        rig_init(&rig[i], on[i], &problem, plan[i]);
        rig_reset(&rig[i]);
        OK(rig_run(&rig[i], 0));
    }
    ck_assert_msg(memcmp(buffer_get(&rig[0].out), buffer_get(&rig[1].out), rig[0].out.size) == 0,
                  "%s, %s", variant, name);
    rig_free(&rig[1]);
    free_rig(&rig[0], &problem);
    return true;
}

START_TEST(same_variants_on_both)
{
    struct app app;
    size_t count, ran = 0, refused = 0;
    const struct vk_variant *variants = draft_vk_variants(DRAFT_ATTEND, &count);
    app_init(&app, &devices[0].info);
    struct draft_vulkan_native native = app_native(&app);
    native.queue = app.queue;
    OK(app_adopt(&app, &native));
    for (size_t v = 0; v < count; v++)
        for (int c = 0; c < CASES; c++)
            if (run_on_both(&app, variants[v].name, names[c]))
                ran++;
            else
                refused++;
    ck_assert_uint_ge(ran, CASES); /* scalar at least */
    printf("variants of attend on both devices: %zu runs, %zu refused\n", ran, refused);
    app_free(&app);
}
END_TEST

/* ---- Sizes of subgroups ---- */

static const struct vk_variant *variant_named(draft_stage stage, const char *name)
{
    size_t count;
    const struct vk_variant *variant = draft_vk_variants(stage, &count);
    while (strcmp(variant->name, name) != 0)
        variant++;
    return variant;
}

/* What matrices of 16 and of 8 rows demand, and scores with two matrices of 16 rows; NO: the
 * variant does not take the device. */
static const struct {
    draft_stage stage;
    const char *name;
} matrix_variants[] = {{DRAFT_ATTEND, "coopmat_16x16x16"},
                       {DRAFT_ATTEND, "coopmat_8x8x8"},
                       {DRAFT_SCORE, "coopmat_parts_16x16x16"}};

START_TEST(subgroups_of_matrices)
{
    enum { NO = 1 };
    static const struct {
        uint32_t usual, min, max, most; /* most: subgroups in a workgroup */
        uint32_t demands[3];
    } rows[] = {
        {32, 32, 32, 32, {32, 32, 32}},  {64, 32, 64, 32, {32, 32, 32}},
        {16, 8, 32, 64, {32, 32, 32}},   {64, 64, 64, 16, {64, 64, 64}},
        {8, 8, 8, 32, {NO, 8, NO}},      {16, 16, 16, 8, {16, 16, NO}},
        {128, 4, 128, 64, {32, 32, 32}}, {16, 16, 16, 4, {0, 0, NO}}, /* too many for a workgroup */
        {4, 4, 4, 32, {NO, NO, NO}},     {32, 0, 0, 0, {0, 0, 0}},
        {8, 0, 0, 0, {NO, 0, NO}},       {256, 0, 0, 0, {NO, NO, NO}},
    };
    static const struct draft_geometry g = {.batch = 1,
                                            .heads = 1,
                                            .dim = 64,
                                            .type = DRAFT_ABI_F16,
                                            .video_blocks = 9,
                                            .scorer = DRAFT_ABI_SCORER_EXCESS};
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        struct vk_caps caps = {.subgroup_size = rows[r].usual,
                               .min_subgroup = rows[r].min,
                               .max_subgroup = rows[r].max,
                               .max_subgroups = rows[r].most,
                               .max_shared = 32768,
                               .max_invocations = 1024,
                               .matrix_shapes = VK_MATRIX_16X16X16 | VK_MATRIX_8X8X8};
        for (size_t v = 0; v < sizeof matrix_variants / sizeof *matrix_variants; v++) {
            const struct vk_variant *variant =
                variant_named(matrix_variants[v].stage, matrix_variants[v].name);
            struct vk_pass passes[VK_MAX_PASSES];
            bool refused = variant->refuses(&caps, &g) != NULL;
            ck_assert_uint_ge(variant->passes(&caps, &g, passes), 1);
            ck_assert_msg((refused ? NO : passes[0].shader.subgroup) == rows[r].demands[v],
                          "row %zu, %s: %u", r, variant->name, passes[0].shader.subgroup);
        }
    }
}
END_TEST

/* How pipelines were made last. */
static struct {
    PFN_vkGetDeviceProcAddr next_device;
    PFN_vkCreateComputePipelines next;
    uint32_t subgroup, count;
    VkPipelineShaderStageCreateFlags flags;
} made;

static VKAPI_ATTR VkResult VKAPI_CALL make_pipelines(VkDevice device, VkPipelineCache cache,
                                                     uint32_t count,
                                                     const VkComputePipelineCreateInfo *infos,
                                                     const VkAllocationCallbacks *callbacks,
                                                     VkPipeline *out)
{
    const VkPipelineShaderStageRequiredSubgroupSizeCreateInfo *size = infos->stage.pNext;
    ck_assert(!size ||
              size->sType ==
                  VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO);
    made.subgroup = size ? size->requiredSubgroupSize : 0;
    made.flags = infos->stage.flags;
    made.count++;
    return made.next(device, cache, count, infos, callbacks, out);
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL device_proc(VkDevice device, const char *name)
{
    PFN_vkVoidFunction found = made.next_device(device, name);
    if (strcmp(name, "vkCreateComputePipelines") != 0)
        return found;
    made.next = (PFN_vkCreateComputePipelines)found;
    return (PFN_vkVoidFunction)make_pipelines;
}

static PFN_vkVoidFunction instance_proc(VkInstance instance, const char *name)
{
    PFN_vkVoidFunction found = vk.vkGetInstanceProcAddr(instance, name);
    if (strcmp(name, "vkGetDeviceProcAddr") != 0)
        return found;
    made.next_device = (PFN_vkGetDeviceProcAddr)found;
    return (PFN_vkVoidFunction)device_proc;
}

START_TEST(pipelines_by_subgroup)
{
    static const struct draft_geometry g = {.dim = 64, .type = DRAFT_ABI_F16};
    struct app app;
    struct vk_instance instance;
    struct vk_device device = {0};
    struct vk_cache cache = {0};
    struct vk_pass pass;
    VkPipeline any, demanding, again;
    size_t count;
    app_init(&app, &devices[0].info);
    struct draft_vulkan_native native = app_native(&app);
    native.get_instance_proc_addr = instance_proc;
    OK(draft_vk_adopt(NULL, &native, &instance, &device));
    OK(draft_vk_cache_open(&device, &cache));
    made.count = 0;
    draft_vk_variants(DRAFT_POOL, &count)[0].passes(&device.physical.caps, &g, &pass);
    OK(draft_vk_cache_pipeline(&device, &cache, &pass.shader, &any));
    ck_assert(made.subgroup == 0 && made.flags == 0);
    uint32_t size = device.physical.caps.max_subgroup;
    if (size) { /* the driver can */
        pass.shader.subgroup = size;
        OK(draft_vk_cache_pipeline(&device, &cache, &pass.shader, &demanding));
        ck_assert_uint_eq(made.subgroup, size);
        ck_assert_uint_eq(made.flags, VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT);
        OK(draft_vk_cache_pipeline(&device, &cache, &pass.shader, &again));
        ck_assert(demanding == again && demanding != any && made.count == 2);
    }
    draft_vk_cache_close(&device, &cache);
    app_free(&app);
}
END_TEST

TCase *features_tests(void)
{
    TCase *tests = tcase_create("features");
    tcase_set_timeout(tests, 0);
    tcase_add_loop_test(tests, everything_is_asked_for, 0, 2);
    tcase_add_test(tests, each_must_be_listed);
    tcase_add_test(tests, tiers_are_whole);
    tcase_add_test(tests, memory_model_takes_the_scope);
    tcase_add_test(tests, masked_for_callers);
    tcase_add_test(tests, masked_for_own_devices);
    tcase_add_test(tests, missing_entry_points);
    tcase_add_test(tests, adopted_has_what_own_has);
    tcase_add_test(tests, same_variants_on_both);
    tcase_add_test(tests, subgroups_of_matrices);
    tcase_add_test(tests, pipelines_by_subgroup);
    return tests;
}
