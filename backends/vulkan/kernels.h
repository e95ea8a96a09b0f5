/* SPDX-License-Identifier: MIT
 *
 * The kernels of the Vulkan backend: for each stage an ordered table of variants, best first, the
 * one called scalar fits every case. A variant is one or more passes; a pass is a shader over a one-
 * dimensional range of workgroups. All shaders take struct draft_args as push constants and no
 * descriptors. Workgroup number = gl_WorkGroupID.x + args.first, so a pass can be cut anywhere. */
#ifndef DRAFT_VULKAN_KERNELS_H
#define DRAFT_VULKAN_KERNELS_H

#include "backend.h"

enum { VK_MAX_PASSES = 25 };

/* Products of f16 matrices M x N x K summed up in f32 by a subgroup: bits. */
enum { VK_MATRIX_16X16X16 = 1, VK_MATRIX_8X16X16 = 2, VK_MATRIX_8X8X8 = 4 };

/* What the variants need to know of a device. What is optional in Vulkan counts only where the
 * device was made with it. */
struct vk_caps {
    bool cpu;                 /* VK_PHYSICAL_DEVICE_TYPE_CPU                                */
    bool lane_loads;          /* software that never loads once for all lanes: old Mesa     */
    uint32_t max_shared;      /* maxComputeSharedMemorySize                                 */
    uint32_t max_invocations; /* maxComputeWorkGroupInvocations                             */
    uint32_t subgroup_size;
    uint32_t vendor_id;
    uint32_t min_subgroup, max_subgroup; /* sizes that a shader may demand; 0: none             */
    uint32_t max_subgroups;              /* of a workgroup that demands one                     */
    bool f16;                            /* arithmetic, and 16 bits in memory                   */
    uint32_t matrix_shapes;              /* VK_MATRIX_ bits, f16 -> f32                         */
    uint32_t matrix_shapes_bf16;         /* bf16 -> f32                                         */
    /* Reductions, conversions, operations on each element: by VK_NV_cooperative_matrix2, which is
     * SPIR-V 1.6, or by VK_EXT_cooperative_matrix_maintenance1. One source, two modules: they
     * declare another extension and another capability of conversions. */
    bool matrix2, matrix2_ext;
    bool matrix_workgroup; /* all of VK_NV_cooperative_matrix2, f16 -> f32                      */
    /* With it: sizes of workgroups as bits (128 | 256) whose matrices may have any multiples of
     * VK_MATRIX_GRANULE as their sides, up to matrix_side; shared memory that these take. */
    uint32_t matrix_workgroups, matrix_side, matrix_shared;
};
enum { VK_MATRIX_GRANULE = 32 };

struct vk_shader {
    const uint32_t *code;
    size_t size;       /* bytes                                                        */
    uint32_t subgroup; /* the size it demands, all subgroups of a group full; 0: any   */
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
    uint32_t (*passes)(const struct vk_caps *caps, const struct draft_geometry *g,
                       struct vk_pass *out);
    uint64_t (*scratch)(const struct draft_geometry *g); /* bytes of workspace; NULL: none  */
};

/* The table of a stage, best first; *count gets its length. */
const struct vk_variant *draft_vk_variants(draft_stage stage, size_t *count);

/* The names of that table, NULL at the end. */
const char *const *draft_vk_variant_names(draft_stage stage);

#endif
