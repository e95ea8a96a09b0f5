/* SPDX-License-Identifier: MIT
 *
 * The kernels of the Vulkan backend: for each stage an ordered table of variants, best first, the
 * one called scalar fits every case. A variant is one or more passes; a pass is a shader over a one-
 * dimensional range of workgroups. All shaders take struct draft_args as push constants and no
 * descriptors. Workgroup number = gl_WorkGroupID.x + args.first, so a pass can be cut anywhere. */
#ifndef DRAFT_VULKAN_KERNELS_H
#define DRAFT_VULKAN_KERNELS_H

#include "backend.h"

enum { VK_MAX_PASSES = 8 };

/* Products of f16 matrices M x N x K summed up in f32 by a subgroup: bits. */
enum { VK_MATRIX_16X16X16 = 1, VK_MATRIX_8X16X16 = 2, VK_MATRIX_8X8X8 = 4 };

/* What the variants need to know of a device. */
struct vk_caps {
    bool cpu;                 /* VK_PHYSICAL_DEVICE_TYPE_CPU                                */
    bool lane_loads;          /* software that never loads once for all lanes: old Mesa     */
    uint32_t max_shared;      /* maxComputeSharedMemorySize                                 */
    uint32_t max_invocations; /* maxComputeWorkGroupInvocations                             */
    uint32_t subgroup_size;
    uint32_t vendor_id;
    uint32_t matrix_shapes; /* VK_MATRIX_ bits that the device was made with; 0 where adopted   */
};

struct vk_shader {
    const uint32_t *code;
    size_t size; /* bytes */
};

struct vk_pass {
    struct vk_shader shader;
    uint32_t step;                                      /* goes into args.step             */
    uint64_t (*groups)(const struct draft_geometry *g); /* workgroups in all               */
    double (*work)(const struct draft_geometry *g);     /* about how many flops one workgroup
                                                               does, at most                   */
};

struct vk_variant {
    const char *name;
    /* NULL where the variant fits, else why not: static text. */
    const char *(*refuses)(const struct vk_caps *caps, const struct draft_geometry *g);
    /* Passes in order, a full memory barrier between any two. Fills up to VK_MAX_PASSES, returns how
     * many. */
    uint32_t (*passes)(const struct draft_geometry *g, struct vk_pass *out);
    uint64_t (*scratch)(const struct draft_geometry *g); /* bytes of workspace; NULL: none  */
};

/* The table of a stage, best first; *count gets its length. */
const struct vk_variant *draft_vk_variants(draft_stage stage, size_t *count);

/* The names of that table, NULL at the end. */
const char *const *draft_vk_variant_names(draft_stage stage);

#endif
