/* SPDX-License-Identifier: MIT
 *
 * Features: one table of those that the kernels use. It says what a device has, what the library
 * enables on a device of its own, what a caller should enable, and what a caller has enabled.
 *
 * What $DRAFT_VULKAN_DISABLE names, features or extensions with commas between them, is never asked
 * for: drivers have crashed when they were. */
#include <stdlib.h>
#include <string.h>

#include "device.h"

/* ---- The table ------------------------------------------------------------------------------- */

/* A structure of features, and the member's place in it. */
struct place {
    VkStructureType type;
    size_t offset;
};
#define PLACE(type, structure, member)                                                             \
    {                                                                                              \
        VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_##type, offsetof(VkPhysicalDevice##structure, member)    \
    }

enum need { OPTIONAL, REQUIRED, FOR_QUEUES /* required where the library has a queue */ };

struct feature {
    const char *name;      /* in Vulkan                                                       */
    struct place place[2]; /* where it may be listed; a type of 0: not there                  */
    const char *extension; /* NULL: part of Vulkan 1.2                                        */
    uint32_t core;         /* the version of Vulkan that took the extension in; 0: none       */
    enum need need;
};

enum {
    DEVICE_ADDRESS,
    TIMELINE,
    STORAGE_16,
    FLOAT_16,
    MEMORY_MODEL,
    DEVICE_SCOPE,
    SUBGROUP_SIZE,
    FULL_SUBGROUPS,
    MATRIX,
    BF16_TYPE,
    BF16_MATRIX,
    WORKGROUP_SCOPE,
    FLEXIBLE,
    REDUCTIONS,
    CONVERSIONS,
    PER_ELEMENT,
    TENSORS,
    BLOCK_LOADS,
    EXT_REDUCTIONS,
    EXT_CONVERSIONS,
    EXT_PER_ELEMENT,
    FEATURES
};

#define NAME(member) #member
/* A feature of Vulkan 1.2, which has a structure of its own too. */
#define CORE(version, member, TYPE, structure, need)                                               \
    {                                                                                              \
        NAME(member),                                                                              \
            {PLACE(VULKAN_1_##version##_FEATURES, Vulkan1##version##Features, member),             \
             PLACE(TYPE##_FEATURES, structure##Features, member)},                                 \
            NULL, 0, need                                                                          \
    }
#define SIZE_CONTROL(member)                                                                       \
    {                                                                                              \
        NAME(member),                                                                              \
            {PLACE(VULKAN_1_3_FEATURES, Vulkan13Features, member),                                 \
             PLACE(SUBGROUP_SIZE_CONTROL_FEATURES, SubgroupSizeControlFeatures, member)},          \
            VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME, VK_API_VERSION_1_3, OPTIONAL              \
    }
#define EXTENSION(member, TYPE, structure, name)                                                   \
    {                                                                                              \
        NAME(member), {PLACE(TYPE, structure, member)}, name, 0, OPTIONAL                          \
    }
#define BFLOAT(member)                                                                             \
    EXTENSION(member, SHADER_BFLOAT16_FEATURES_KHR, ShaderBfloat16FeaturesKHR,                     \
              VK_KHR_SHADER_BFLOAT16_EXTENSION_NAME)
#define MATRIX_2(member)                                                                           \
    EXTENSION(member, COOPERATIVE_MATRIX_2_FEATURES_NV, CooperativeMatrix2FeaturesNV,              \
              VK_NV_COOPERATIVE_MATRIX_2_EXTENSION_NAME)
#define MAINTENANCE(member)                                                                        \
    EXTENSION(member, COOPERATIVE_MATRIX_MAINTENANCE_1_FEATURES_EXT,                               \
              CooperativeMatrixMaintenance1FeaturesEXT,                                            \
              VK_EXT_COOPERATIVE_MATRIX_MAINTENANCE_1_EXTENSION_NAME)

static const struct feature table[FEATURES] = {
    [DEVICE_ADDRESS] =
        CORE(2, bufferDeviceAddress, BUFFER_DEVICE_ADDRESS, BufferDeviceAddress, REQUIRED),
    [TIMELINE] = CORE(2, timelineSemaphore, TIMELINE_SEMAPHORE, TimelineSemaphore, FOR_QUEUES),
    [STORAGE_16] = CORE(1, storageBuffer16BitAccess, 16BIT_STORAGE, 16BitStorage, OPTIONAL),
    [FLOAT_16] = CORE(2, shaderFloat16, SHADER_FLOAT16_INT8, ShaderFloat16Int8, OPTIONAL),
    [MEMORY_MODEL] = CORE(2, vulkanMemoryModel, VULKAN_MEMORY_MODEL, VulkanMemoryModel, OPTIONAL),
    [DEVICE_SCOPE] =
        CORE(2, vulkanMemoryModelDeviceScope, VULKAN_MEMORY_MODEL, VulkanMemoryModel, OPTIONAL),
    [SUBGROUP_SIZE] = SIZE_CONTROL(subgroupSizeControl),
    [FULL_SUBGROUPS] = SIZE_CONTROL(computeFullSubgroups),
    [MATRIX] = EXTENSION(cooperativeMatrix, COOPERATIVE_MATRIX_FEATURES_KHR,
                         CooperativeMatrixFeaturesKHR, VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME),
    [BF16_TYPE] = BFLOAT(shaderBFloat16Type),
    [BF16_MATRIX] = BFLOAT(shaderBFloat16CooperativeMatrix),
    [WORKGROUP_SCOPE] = MATRIX_2(cooperativeMatrixWorkgroupScope),
    [FLEXIBLE] = MATRIX_2(cooperativeMatrixFlexibleDimensions),
    [REDUCTIONS] = MATRIX_2(cooperativeMatrixReductions),
    [CONVERSIONS] = MATRIX_2(cooperativeMatrixConversions),
    [PER_ELEMENT] = MATRIX_2(cooperativeMatrixPerElementOperations),
    [TENSORS] = MATRIX_2(cooperativeMatrixTensorAddressing),
    [BLOCK_LOADS] = MATRIX_2(cooperativeMatrixBlockLoads),
    [EXT_REDUCTIONS] = MAINTENANCE(cooperativeMatrixReductions),
    [EXT_CONVERSIONS] = MAINTENANCE(cooperativeMatrixConversions),
    [EXT_PER_ELEMENT] = MAINTENANCE(cooperativeMatrixPerElementOperations),
};

/* Features are of use by the tier: all of one, or none. The memory model comes with the scope that
 * the atomics of all other kernels have. */
#define BIT(feature) (1u << (feature))
#define MATRICES     (BIT(MATRIX) | BIT(MEMORY_MODEL) | BIT(DEVICE_SCOPE))
#define MATRICES_2   (MATRICES | BIT(REDUCTIONS) | BIT(CONVERSIONS) | BIT(PER_ELEMENT))
static const struct {
    uint32_t tier, features, version; /* version: of Vulkan, at least; SPIR-V 1.6 takes 1.3 */
} tiers[] = {
    {VK_TIER_F16, BIT(FLOAT_16) | BIT(STORAGE_16), 0},
    {VK_TIER_SUBGROUP, BIT(SUBGROUP_SIZE) | BIT(FULL_SUBGROUPS), 0},
    {VK_TIER_MATRIX, MATRICES | BIT(FLOAT_16), 0},
    {VK_TIER_MATRIX_BF16, MATRICES | BIT(FLOAT_16) | BIT(BF16_TYPE) | BIT(BF16_MATRIX), 0},
    {VK_TIER_MATRIX2, MATRICES_2, VK_API_VERSION_1_3},
    {VK_TIER_MATRIX2_EXT,
     MATRICES | BIT(EXT_REDUCTIONS) | BIT(EXT_CONVERSIONS) | BIT(EXT_PER_ELEMENT), 0},
    {VK_TIER_MATRIX_WORKGROUP,
     MATRICES_2 | BIT(FLOAT_16) | BIT(WORKGROUP_SCOPE) | BIT(FLEXIBLE) | BIT(TENSORS) |
         BIT(BLOCK_LOADS),
     VK_API_VERSION_1_3},
};
enum { TIERS = sizeof tiers / sizeof *tiers, EVERYTHING = (1 << FEATURES) - 1 };

static uint32_t needed_features(bool queue)
{
    uint32_t features = 0;
    for (unsigned f = 0; f < FEATURES; f++)
        if (table[f].need == REQUIRED || (queue && table[f].need == FOR_QUEUES))
            features |= BIT(f);
    return features;
}

static uint32_t tiers_of(uint32_t features, uint32_t version)
{
    uint32_t found = 0;
    for (unsigned t = 0; t < TIERS; t++)
        if ((features & tiers[t].features) == tiers[t].features && version >= tiers[t].version)
            found |= tiers[t].tier;
    return found;
}

static uint32_t features_of(uint32_t some)
{
    uint32_t features = 0;
    for (unsigned t = 0; t < TIERS; t++)
        features |= some & tiers[t].tier ? tiers[t].features : 0;
    return features;
}

/* NULL: what this version of Vulkan has without one. */
static const char *extension_of(unsigned f, uint32_t version)
{
    bool core = table[f].core && version >= table[f].core;
    return core ? NULL : table[f].extension;
}

static uint32_t add_extensions(uint32_t features, uint32_t version, const char **out, uint32_t room)
{
    const char *last = NULL; /* features of one extension stand side by side in the table */
    uint32_t count = 0;
    for (unsigned f = 0; f < FEATURES; f++) {
        const char *name = features & BIT(f) ? extension_of(f, version) : NULL;
        if (!name || (last && strcmp(name, last) == 0))
            continue;
        if (count < room)
            out[count] = name;
        count++;
        last = name;
    }
    return count;
}

/* ---- What is masked -------------------------------------------------------------------------- */

static bool disabled(const char *word)
{
    size_t length = strlen(word);
    for (const char *at = getenv("DRAFT_VULKAN_DISABLE"); at; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, word, length) == 0 && (at[length] == ',' || at[length] == '\0'))
            return true;
    }
    return false;
}

/* An extension that Vulkan took in masks what it became. */
static uint32_t not_disabled(uint32_t features)
{
    for (unsigned f = 0; f < FEATURES; f++)
        if (features & BIT(f) &&
            (disabled(table[f].name) || (table[f].extension && disabled(table[f].extension))))
            features &= ~BIT(f);
    return features;
}

/* ---- Chains of structures -------------------------------------------------------------------- */

static bool usable(const struct place *place, uint32_t version)
{
    return place->type && (place->type != VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES ||
                           version >= VK_API_VERSION_1_3);
}

/* The member in the first structure of the chain that has it, or NULL. */
static VkBool32 *find(const void *chain, unsigned f, uint32_t version)
{
    for (const VkBaseInStructure *at = chain; at; at = at->pNext)
        for (unsigned p = 0; p < 2; p++)
            if (usable(&table[f].place[p], version) && at->sType == table[f].place[p].type)
                return (VkBool32 *)((char *)at + table[f].place[p].offset);
    return NULL;
}

static uint32_t placed(const void *chain, uint32_t features, uint32_t version)
{
    for (unsigned f = 0; f < FEATURES; f++)
        if (features & BIT(f) && !find(chain, f, version))
            features &= ~BIT(f);
    return features;
}

static uint32_t listed(const void *chain, uint32_t features, uint32_t version)
{
    features = placed(chain, features, version);
    for (unsigned f = 0; f < FEATURES; f++)
        if (features & BIT(f) && !*find(chain, f, version))
            features &= ~BIT(f);
    return features;
}

static void set(void *chain, uint32_t features, uint32_t version)
{
    for (unsigned f = 0; f < FEATURES; f++) {
        VkBool32 *member = features & BIT(f) ? find(chain, f, version) : NULL;
        if (member)
            *member = VK_TRUE;
    }
}

/* Structures that have a place for these features and no others: each feature has one place. */
static void *chain_for(struct vk_request *request, uint32_t features, uint32_t version)
{
    static const struct {
        VkStructureType type;
        size_t offset;
    } all[] = {
#define X(TYPE, structure, member)                                                                 \
    {VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_##TYPE, offsetof(struct vk_request, member)},
        DRAFT_VK_FEATURE_STRUCTURES(X)
#undef X
    };
    void *first = NULL;
    *request = (struct vk_request){0};
    for (unsigned s = 0; s < sizeof all / sizeof *all; s++)
        for (unsigned f = 0; f < FEATURES; f++) {
            const struct place *place = table[f].place;
            place += !usable(place, version);
            if (!(features & BIT(f)) || place->type != all[s].type)
                continue;
            VkBaseOutStructure *structure = (void *)((char *)request + all[s].offset);
            structure->sType = all[s].type;
            structure->pNext = first;
            first = structure;
            break;
        }
    return first;
}

/* ---- What a device has ----------------------------------------------------------------------- */

static uint32_t without_extensions(uint32_t features, uint32_t version)
{
    for (unsigned f = 0; f < FEATURES; f++)
        if (extension_of(f, version))
            features &= ~BIT(f);
    return features;
}

/* Features whose extension is in the list. */
static uint32_t with_extension(const char *name, uint32_t features)
{
    for (unsigned f = 0; f < FEATURES; f++)
        if (!table[f].extension || strcmp(table[f].extension, name) != 0)
            features &= ~BIT(f);
    return features;
}

/* Of these features, those whose extensions the device has. */
static draft_status offered(const struct draft_log *log, const struct vk_instance *instance,
                            VkPhysicalDevice device, uint32_t version, uint32_t *features)
{
    PFN_vkEnumerateDeviceExtensionProperties enumerate =
        (PFN_vkEnumerateDeviceExtensionProperties)instance->api.vkGetInstanceProcAddr(
            instance->handle, "vkEnumerateDeviceExtensionProperties");
    uint32_t found = without_extensions(*features, version), count = 0;
    if (found != *features && enumerate && enumerate(device, NULL, &count, NULL) >= 0) {
        VkExtensionProperties *all = draft_vk_calloc(log, count + 1, sizeof *all, "extensions");
        if (!all)
            return DRAFT_ERROR_MEMORY;
        if (enumerate(device, NULL, &count, all) >= 0)
            for (uint32_t i = 0; i < count; i++)
                found |= with_extension(all[i].extensionName, *features);
        draft_release(all);
    }
    *features = found;
    return DRAFT_OK;
}

/* Of these features, those that the device has. */
static draft_status available(const struct draft_log *log, const struct vk_instance *instance,
                              VkPhysicalDevice device, uint32_t version, uint32_t *features)
{
    struct vk_request request;
    *features = not_disabled(*features);
    draft_status status = offered(log, instance, device, version, features);
    if (status)
        return status;
    VkPhysicalDeviceFeatures2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                     .pNext = chain_for(&request, *features, version)};
    instance->api.vkGetPhysicalDeviceFeatures2(device, &all);
    *features = listed(all.pNext, *features, version);
    return DRAFT_OK;
}

draft_status draft_vk_lacks(const struct draft_log *log, const struct vk_instance *instance,
                            const struct vk_physical *physical, const char **out)
{
    uint32_t needed = needed_features(true), found = needed;
    draft_status status = available(log, instance, physical->handle, physical->version, &found);
    *out = status || found == needed ? NULL : "it lacks bufferDeviceAddress or timelineSemaphore";
    return status;
}

draft_status draft_vk_tiers(const struct draft_log *log, const struct vk_instance *instance,
                            struct vk_physical *physical)
{
    uint32_t features = EVERYTHING & ~needed_features(true);
    draft_status status = available(log, instance, physical->handle, physical->version, &features);
    if (!status)
        physical->tiers = tiers_of(features, physical->version);
    return status ? status : draft_vk_caps(log, instance, physical);
}

/* ---- Devices of the library's own ------------------------------------------------------------ */

void draft_vk_enable(const struct vk_physical *physical, struct vk_request *request,
                     VkDeviceCreateInfo *info)
{
    uint32_t features = needed_features(true) | features_of(physical->tiers);
    void *chain = chain_for(request, features, physical->version);
    set(chain, features, physical->version);
    info->pNext = chain;
    info->enabledExtensionCount =
        add_extensions(features, physical->version, request->extensions, VK_MOST_EXTENSIONS);
    info->ppEnabledExtensionNames = request->extensions;
}

/* ---- Callers' devices ------------------------------------------------------------------------ */

const char *draft_vk_without_place(const struct vk_physical *physical, const void *chain)
{
    for (unsigned f = 0; f < FEATURES; f++)
        if (table[f].need == REQUIRED && !find(chain, f, physical->version))
            return table[f].name;
    return NULL;
}

void draft_vk_ask_for(struct vk_physical *physical, void *chain)
{
    uint32_t version = physical->version;
    physical->tiers &= tiers_of(placed(chain, EVERYTHING, version), version);
    uint32_t features = needed_features(true) | features_of(physical->tiers);
    set(chain, features, version);
}

uint32_t draft_vk_extensions(const struct vk_physical *physical, const char **out, uint32_t room)
{
    return add_extensions(features_of(physical->tiers), physical->version, out, room);
}

const char *draft_vk_unlisted(const struct vk_physical *physical,
                              const struct draft_vulkan_native *native, const char **rule)
{
    uint32_t needed = needed_features(native->queue != NULL);
    uint32_t found = listed(native->features, EVERYTHING, physical->version);
    *rule = "";
    for (unsigned f = 0; f < FEATURES; f++)
        if (needed & ~found & BIT(f)) {
            *rule = table[f].need == FOR_QUEUES ? " where a queue is given" : "";
            return table[f].name;
        }
    if (!(found & BIT(MEMORY_MODEL)) || found & BIT(DEVICE_SCOPE))
        return NULL;
    *rule = " with vulkanMemoryModel";
    return table[DEVICE_SCOPE].name;
}

uint32_t draft_vk_listed_tiers(const struct vk_physical *physical,
                               const struct draft_vulkan_native *native)
{
    uint32_t version = physical->version;
    uint32_t features = not_disabled(listed(native->features, EVERYTHING, version));
    uint32_t enabled = without_extensions(features, version);
    for (uint32_t e = 0; e < native->extension_count; e++)
        enabled |= with_extension(native->extensions[e], features);
    return tiers_of(enabled, version);
}
