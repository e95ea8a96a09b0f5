/* SPDX-License-Identifier: MIT
 *
 * What the tables of passes share. */
#ifndef DRAFT_VULKAN_PASSES_H
#define DRAFT_VULKAN_PASSES_H

#include "kernels.h"

#define SHADER(name)                                                                               \
    extern const uint32_t draft_spirv_##name[];                                                    \
    extern const size_t draft_spirv_##name##_size;
/* clang-format off */
#define CODE(name) {draft_spirv_##name, draft_spirv_##name##_size, 0}
/* One shader for each type, in the order of DRAFT_ABI_F16 ... */
#define BY_TYPE(stage, variant) {CODE(stage##_f16##variant), CODE(stage##_bf16##variant), \
                                 CODE(stage##_f32##variant)}
#define BY_DIM(name) {CODE(name##_64), CODE(name##_128)}
/* clang-format on */

static inline uint64_t div_up(uint64_t a, uint64_t b)
{
    return (a + b - 1) / b;
}

static inline uint64_t head_count(const struct draft_geometry *g)
{
    return (uint64_t)g->batch * g->heads;
}

static inline bool has_excess(const struct draft_geometry *g)
{
    return g->scorer == DRAFT_ABI_SCORER_EXCESS;
}

/* Of all heads. */
static inline uint64_t map_rows(const struct draft_geometry *g)
{
    return head_count(g) * g->video_blocks;
}

static inline double row_work(const struct draft_geometry *g)
{
    return 64.0 * g->video_blocks;
}

/* ---- Matrix units ---------------------------------------------------------------------------- */

/* The size that a shader demands whose subgroups must have `least` invocations: 32 where the device
 * offers it, else the largest; 0 where none of those offered fits. */
uint32_t draft_vk_coopmat_subgroup(const struct vk_caps *caps, uint32_t least);

/* For shaders of VK_KHR_cooperative_matrix with 128 invocations. shape: a VK_MATRIX_ bit. */
const char *draft_vk_coopmat_refuses(const struct vk_caps *caps, const struct draft_geometry *g,
                                     uint32_t shape, uint32_t least);

/* ---- score: score.c -------------------------------------------------------------------------- */

/* See vk_variant. Those with cpu are for software drivers, those with a shape for matrix units and
 * scorer EXCESS alone. */
uint32_t draft_vk_score_passes(const struct vk_caps *caps, const struct draft_geometry *g,
                               struct vk_pass *out);
uint32_t draft_vk_score_passes_cpu(const struct vk_caps *caps, const struct draft_geometry *g,
                                   struct vk_pass *out);
uint64_t draft_vk_score_scratch(const struct draft_geometry *g);
uint64_t draft_vk_score_scratch_cpu(const struct draft_geometry *g);

#define SCORE_COOPMAT_DECLARED(shape)                                                              \
    uint32_t draft_vk_score_passes_##shape(const struct vk_caps *caps,                             \
                                           const struct draft_geometry *g, struct vk_pass *out);   \
    const char *draft_vk_score_refuses_##shape(const struct vk_caps *caps,                         \
                                               const struct draft_geometry *g);
SCORE_COOPMAT_DECLARED(16x16x16)
SCORE_COOPMAT_DECLARED(8x16x16)
SCORE_COOPMAT_DECLARED(8x8x8)

#endif
